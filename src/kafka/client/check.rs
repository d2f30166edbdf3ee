//! Everything that is wrong with the Kafka properties, found before anything listens.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, DefaultProducerContext};

use super::connection::{Connection, Reader};
use super::properties::{self, Scope};
use super::{Role, effective, oauth, security};
use crate::config::{KafkaIdentity, KafkaSettings, LimitSettings, Properties};

/// A property that cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PropertyError {
    /// The table it stands in, such as `kafka.producer`.
    pub table: &'static str,
    /// Its name as the user wrote it; empty when the trouble is with several together.
    pub property: String,
    /// Why, and what to do. Never shows a secret.
    pub message: String,
}

impl fmt::Display for PropertyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.table)?;
        if !self.property.is_empty() {
            write!(f, ".{:?}", self.property)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Checks every property of `settings`; an empty list means that the clients can be made. Blocks
/// for some milliseconds, because librdkafka has the last word on its own properties and says it
/// only to a client that is being made (it connects to nothing).
pub fn validate(settings: &KafkaSettings, limits: &LimitSettings) -> Vec<PropertyError> {
    let mut errors = Vec::new();
    for (table, properties) in settings.property_tables() {
        check_names(table, properties, &mut errors);
    }
    check_bootstrap(settings, &mut errors);
    check_identity(settings, &mut errors);
    if errors.is_empty() {
        check_values(settings, &mut errors);
    }
    if errors.is_empty() {
        check_producer(settings, limits, &mut errors);
    }
    // A property of the common table is read once for each role.
    errors.sort();
    errors.dedup();
    errors
}

/// Is each property known, and may it stand in its table?
fn check_names(table: &'static str, properties: &Properties, errors: &mut Vec<PropertyError>) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in properties {
        let error = |message: String| PropertyError {
            table,
            property: name.clone(),
            message,
        };
        if let Some(message) = refusal(table, name, value.trim()) {
            errors.push(error(message));
        }
        if let Some(other) = seen.insert(properties::canonical(name), name) {
            errors.push(error(format!(
                "is the same property as {other}: set one of them"
            )));
        }
    }
}

/// Why `name` may not stand in `table` with `value`; `None` if it may.
fn refusal(table: &str, name: &str, value: &str) -> Option<String> {
    let Some(scope) = properties::scope(name) else {
        return Some(match properties::nearest(name) {
            Some(nearest) => format!("is not a known property; did you mean {nearest}?"),
            None => "is not a known property".to_owned(),
        });
    };
    match (scope, table) {
        (Scope::Shared, _) => None,
        (Scope::Refused(reason), _) => Some(format!("cannot be set: {reason}")),
        (Scope::Fixed(fixed, reason), _) => (!value.eq_ignore_ascii_case(fixed))
            .then(|| format!("cannot be anything but {fixed}: {reason}")),
        (Scope::Producer | Scope::Tuning | Scope::OnlyLibrdkafka(_), "kafka.producer")
        | (Scope::Tuning, "kafka.properties")
        | (Scope::Consumer, "kafka.consumer") => None,
        (Scope::OnlyLibrdkafka(reason), "kafka.properties") => Some(format!(
            "cannot be honoured by the client that reads and administrates (krafka): {reason}"
        )),
        (Scope::OnlyLibrdkafka(reason), _) => Some(format!("has no effect here: {reason}")),
        (Scope::Producer, _) => Some("is for producers: move it to [kafka.producer]".to_owned()),
        (Scope::Consumer, _) => Some("is for readers: move it to [kafka.consumer]".to_owned()),
        (Scope::Tuning, _) => {
            Some("has no effect here: this client is krafka, which has nothing like it".to_owned())
        }
    }
}

fn check_bootstrap(settings: &KafkaSettings, errors: &mut Vec<PropertyError>) {
    let mut error = |property: &str, message: String| {
        errors.push(PropertyError {
            table: "kafka",
            property: property.to_owned(),
            message,
        });
    };
    for server in super::bootstrap(settings).split(',') {
        if server.is_empty() {
            continue;
        }
        let port = server
            .rsplit_once(':')
            .map(|(host, port)| (host, port.parse::<u16>()));
        let bare_v6 = server.matches(':').count() > 1 && !server.starts_with('[');
        match port {
            Some((host, Ok(port))) if !host.is_empty() && port > 0 && !bare_v6 => {}
            _ => error(
                "bootstrap_servers",
                format!(
                    "{server:?} is not host:port (an IPv6 address stands in brackets; \
                     security.protocol says which protocol)"
                ),
            ),
        }
    }
    let encrypted = settings
        .property_tables()
        .iter()
        .filter_map(|(_, properties)| properties.get("security.protocol"))
        .any(|protocol| !protocol.trim().eq_ignore_ascii_case("plaintext"));
    if (settings.embedded || settings.bootstrap_servers.trim().is_empty()) && encrypted {
        error(
            "bootstrap_servers",
            "security.protocol is set, but the embedded broker speaks plaintext only: name the \
             brokers, or leave security.protocol out"
                .to_owned(),
        );
    }
}

/// Does every client log in by token, where these are to be a principal's?
fn check_identity(settings: &KafkaSettings, errors: &mut Vec<PropertyError>) {
    if settings.identity != KafkaIdentity::Passthrough || settings.uses_embedded() {
        return;
    }
    let lacking = Role::WITH_A_LOGIN.into_iter();
    let lacking = lacking.filter(|role| super::token_source(settings, *role).is_none());
    let without: Vec<&str> = lacking
        .map(|role| properties::role_table(settings, role).0)
        .collect();
    if without.is_empty() {
        return;
    }
    errors.push(PropertyError {
        table: "kafka",
        property: "identity".to_owned(),
        message: format!(
            "\"passthrough\" hands tokens on to Kafka by SASL OAUTHBEARER, and the clients of {} do not log in by it: expected in kafka.properties security.protocol = \"SASL_SSL\" (or \"SASL_PLAINTEXT\"), sasl.mechanism = \"OAUTHBEARER\", and sasl.oauthbearer.token.endpoint.url for the gateway's own token",
            without.join(", ")
        ),
    });
}

/// Can each value be read, by every client that will read it?
fn check_values(settings: &KafkaSettings, errors: &mut Vec<PropertyError>) {
    for role in Role::WITH_A_LOGIN {
        let merged = properties::merged(settings, role);
        let problems = if role == Role::Producer {
            let mut reader = Reader::new(&merged);
            security::check_librdkafka(&mut reader);
            reader.problems
        } else {
            Connection::read(settings, role, &merged, None)
                .err()
                .unwrap_or_default()
        };
        for problem in problems {
            let (table, property) = properties::origin(settings, role, &problem.property);
            errors.push(PropertyError {
                table,
                property,
                message: problem.message,
            });
        }
    }
}

/// What does librdkafka say to the producer's properties, one by one and then together?
fn check_producer(
    settings: &KafkaSettings,
    limits: &LimitSettings,
    errors: &mut Vec<PropertyError>,
) {
    let role = Role::Producer;
    let attribute = |name: &str, message: String| {
        let (table, property) = properties::origin(settings, role, name);
        PropertyError {
            table,
            property,
            message,
        }
    };
    for (name, value) in properties::merged(settings, role) {
        if oauth::is_ours(&name) {
            continue;
        }
        let mut one = ClientConfig::new();
        one.set(name.clone(), value.clone());
        if let Err(error) = one.create_native_config() {
            let message = if properties::is_unshown(&name) {
                "is not valid".to_owned()
            } else {
                format!("{value:?} is not valid: {}", reason(&error))
            };
            errors.push(attribute(&name, message));
        }
    }
    if !errors.is_empty() {
        return;
    }
    let mut all = effective(settings, limits, role);
    // Without brokers it connects to nothing and fails at nothing but its properties.
    all.remove("bootstrap.servers");
    all.remove("debug");
    let mut config: ClientConfig = all.into_iter().collect();
    config.set_log_level(RDKafkaLogLevel::Emerg);
    let made: Result<BaseProducer<DefaultProducerContext>, _> = config.create();
    if let Err(error) = made {
        let reason = reason(&error);
        // librdkafka names the properties that it complains about. The longest name wins, as one
        // may be part of another.
        let merged = properties::merged(settings, role);
        let name = merged
            .keys()
            .chain(settings.properties.keys())
            .chain(settings.producer.keys())
            .filter(|name| reason.contains(name.as_str()))
            .max_by_key(|name| name.len())
            .cloned();
        errors.push(match name {
            Some(name) => attribute(&name, reason),
            None => PropertyError {
                table: "kafka.producer",
                property: String::new(),
                message: format!("librdkafka refuses these properties: {reason}"),
            },
        });
    }
}

fn reason(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, description, ..) => description.clone(),
        KafkaError::ClientCreation(description) => description.clone(),
        other => other.to_string(),
    }
}
