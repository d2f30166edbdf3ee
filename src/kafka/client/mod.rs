//! Settings in, configured clients out: one set of librdkafka property names for two libraries.
//!
//! `properties` says who honours which property, `connection` and `security` read them for
//! krafka, `oauth` gets the tokens that both log in with, `check` finds everything that is wrong
//! with the properties before anything listens.

mod check;
mod connection;
mod oauth;
mod properties;
mod security;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::krafka::Kafka;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

pub use check::{PropertyError, validate};
pub use connection::ReaderTuning;
pub use oauth::{Token, TokenFeed, Tokens};

use super::fault::{Fault, FaultKind};
use crate::config::{KafkaSettings, LimitSettings};
use connection::{Connection, Problem, Reader};

/// The name that brokers see in their logs and quotas unless the user gives another.
const CLIENT_ID: &str = "tidegate";

/// Room for what Kafka adds to a record's key, value and headers: lengths, offsets, the batch.
const RECORD_OVERHEAD: usize = 64 << 10;

/// Highest `max.in.flight` under which an idempotent producer keeps its promise.
const IDEMPOTENT_IN_FLIGHT: u32 = 5;

/// What a client is for; decides which tables of the settings apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Writes records.
    Producer,
    /// Reads partitions from an offset, without a group.
    Reader,
    /// Asks about and changes topics, configurations, groups.
    Admin,
    /// Is a member of a consumer group.
    Group,
}

impl Role {
    /// Those whose properties say how clients log in. Members of groups log in as readers do.
    const WITH_A_LOGIN: [Self; 3] = [Self::Producer, Self::Reader, Self::Admin];
}

/// How clients of one cluster are made: the settings, and the sources of the tokens that those who
/// log in by OAUTHBEARER share.
#[derive(Clone)]
pub struct Clients {
    settings: KafkaSettings,
    tokens: Arc<[(oauth::Settings, Tokens)]>,
    /// What all of them log in with, where they are a principal's.
    shown: Option<Tokens>,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients")
            .field("settings", &self.settings)
            .field("token_sources", &self.tokens.len())
            .finish()
    }
}

impl Clients {
    /// Clients by `settings`. Starts to fetch tokens where they are needed, on the current runtime;
    /// apart from that nothing is connected yet.
    pub fn new(settings: KafkaSettings) -> Self {
        let mut tokens: Vec<(oauth::Settings, Tokens)> = Vec::new();
        for role in Role::WITH_A_LOGIN {
            if let Some(source) = token_source(&settings, role)
                && !tokens.iter().any(|(known, _)| *known == source)
            {
                tokens.push((source.clone(), Tokens::start(source)));
            }
        }
        Self {
            settings,
            tokens: tokens.into(),
            shown: None,
        }
    }

    /// Clients by `settings`, all of which log in with the tokens that a principal shows.
    pub fn of_principal(settings: KafkaSettings, shown: Tokens) -> Self {
        Self {
            settings,
            tokens: Arc::default(),
            shown: Some(shown),
        }
    }

    /// The settings that they are made by.
    pub fn settings(&self) -> &KafkaSettings {
        &self.settings
    }

    /// What clients for `role` log in with; `None` when it is not by token.
    pub fn tokens(&self, role: Role) -> Option<&Tokens> {
        if self.shown.is_some() {
            return self.shown.as_ref();
        }
        let source = token_source(&self.settings, role)?;
        let found = self.tokens.iter().find(|(known, _)| *known == source);
        found.map(|(_, tokens)| tokens)
    }
}

/// The table of the settings file in which a property that is meant for every client belongs: its
/// role's own if it is for one role only, else `kafka.properties`. `None` when no library knows it.
pub fn table_for_all(property: &str) -> Option<&'static str> {
    use properties::Scope;
    Some(match properties::scope(property)? {
        Scope::Producer => "kafka.producer",
        Scope::Consumer => "kafka.consumer",
        _ => "kafka.properties",
    })
}

/// Takes the tokens that a principal shows to clients of its own.
pub fn token_feed(settings: &KafkaSettings) -> TokenFeed {
    TokenFeed::new(token_source(settings, Role::Producer))
}

fn token_source(settings: &KafkaSettings, role: Role) -> Option<oauth::Settings> {
    let merged = properties::merged(settings, role);
    security::token_source(&mut Reader::new(&merged))
}

/// The librdkafka configuration of a client for `role`. Most specific wins: our defaults, then
/// `[kafka.properties]`, then the role's own table. Run [`validate`] first: what it refuses is
/// passed on here as it is.
pub fn librdkafka(settings: &KafkaSettings, limits: &LimitSettings, role: Role) -> ClientConfig {
    if role == Role::Producer
        && let Some(reason) = idempotence_given_up(&properties::merged(settings, role))
    {
        tracing::info!("the producer is not idempotent, because of {reason}");
    }
    let mut config: ClientConfig = effective(settings, limits, role).into_iter().collect();
    config.set_log_level(log_level());
    config
}

/// Every property that a librdkafka client for `role` is given.
fn effective(
    settings: &KafkaSettings,
    limits: &LimitSettings,
    role: Role,
) -> BTreeMap<String, String> {
    let user = properties::merged(settings, role);
    let mut all = shared_defaults();
    if role == Role::Producer {
        all.extend(producer_defaults(limits));
        if idempotence_given_up(&user).is_some() {
            all.insert("enable.idempotence".to_owned(), "false".to_owned());
        }
    }
    all.extend(user);
    all.retain(|name, _| !oauth::is_ours(name));
    all.insert("bootstrap.servers".to_owned(), bootstrap(settings));
    all
}

/// A connected krafka handle for `role`. Everything made from one handle shares one connection to
/// each broker.
///
/// # Errors
///
/// `Invalid` for properties that [`validate`] would have refused, otherwise what kept it from
/// reaching a broker; bounded by the connect and request timeouts.
pub async fn krafka(clients: &Clients, role: Role) -> Result<Kafka, Fault> {
    let settings = &clients.settings;
    let user = properties::merged(settings, role);
    let tokens = clients.tokens(role);
    let connection = Connection::read(settings, role, &user, tokens).map_err(invalid)?;
    // krafka tries the bootstrap servers one after the other, each within its own timeouts.
    let bound = (connection.connect_timeout + connection.request_timeout)
        .max(settings.metadata_timeout)
        .max(Duration::from_secs(1));
    let builder = connection.apply(Kafka::builder(bootstrap(settings)));
    match tokio::time::timeout(bound, builder.connect()).await {
        Ok(connected) => connected.map_err(Fault::from),
        Err(_) => {
            let bound = bound.as_millis();
            // Clients are not told where the brokers are.
            let bootstrap = bootstrap(settings);
            tracing::warn!("no broker of {bootstrap} answered within {bound} ms");
            Err(Fault::new(
                FaultKind::TimedOut,
                format!(
                    "No broker answered within {bound} ms. Check bootstrap_servers and the brokers."
                ),
            ))
        }
    }
}

/// How readers fetch, by `[kafka.properties]` and `[kafka.consumer]`.
///
/// # Errors
///
/// `Invalid` for values that [`validate`] would have refused.
pub fn reader_tuning(settings: &KafkaSettings) -> Result<ReaderTuning, Fault> {
    let user = properties::merged(settings, Role::Reader);
    let mut reader = Reader::new(&user);
    let tuning = ReaderTuning::read(&mut reader);
    if reader.problems.is_empty() {
        Ok(tuning)
    } else {
        Err(invalid(reader.problems))
    }
}

/// The bootstrap servers in the form that both libraries take: `host:port` separated by commas.
/// krafka insists on the port that librdkafka adds by itself.
fn bootstrap(settings: &KafkaSettings) -> String {
    settings
        .bootstrap_servers
        .split(',')
        .map(str::trim)
        .filter(|server| !server.is_empty())
        .map(|server| {
            let has_port = match server.rfind(']') {
                Some(end) => server[end..].contains(':'),
                None => server.contains(':'),
            };
            if has_port {
                server.to_owned()
            } else {
                format!("{server}:9092")
            }
        })
        .collect::<Vec<_>>()
        .join(",")
}

/// What every librdkafka client of ours differs in from the library's defaults.
fn shared_defaults() -> BTreeMap<String, String> {
    owned([
        ("client.id", CLIENT_ID),
        // One more request for each client, for nothing we use.
        ("enable.metrics.push", "false"),
        // Firewalls forget idle connections without a word.
        ("socket.keepalive.enable", "true"),
        // A broker that comes back is found again in a second, not in ten.
        ("reconnect.backoff.max.ms", "1000"),
        ("statistics.interval.ms", "0"),
    ])
}

/// The producer's defaults; the numbers were found by measuring.
fn producer_defaults(limits: &LimitSettings) -> BTreeMap<String, String> {
    let message_bytes = limits.record_bytes.saturating_add(RECORD_OVERHEAD);
    let mut defaults = owned([
        ("enable.idempotence", "true"),
        // No waiting for a batch to fill: with two requests in flight the next batch fills while
        // the broker works on these. With the library's limit of a million, each record would go
        // out alone, many times slower.
        ("queue.buffering.max.ms", "0"),
        ("max.in.flight.requests.per.connection", "2"),
        // Java's partitioner, so that a key meets its records from other clients.
        ("partitioner", "murmur2_random"),
        // A topic comes into being by CreateTopics or not at all.
        ("allow.auto.create.topics", "false"),
        // A request that waits for its record must get an answer while its client still listens.
        ("message.timeout.ms", "20000"),
        ("queue.buffering.max.messages", "100000"),
        ("queue.buffering.max.kbytes", "262144"),
        // Metadata is asked before every produce, so this is only for a broker that has not
        // heard yet of a topic just created.
        ("topic.metadata.propagation.max.ms", "5000"),
    ]);
    defaults.insert(
        "message.max.bytes".to_owned(),
        message_bytes.min(1_000_000_000).to_string(),
    );
    defaults
}

fn owned<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The property by which the user gave up idempotence without naming it. Idempotence is our
/// default and not the library's: someone who sets `acks=1` and nothing else must get just that,
/// not an error about a property that he never set.
fn idempotence_given_up(user: &BTreeMap<String, String>) -> Option<&'static str> {
    let number = |name: &str| user.get(name).and_then(|value| value.parse::<u32>().ok());
    if user.contains_key("enable.idempotence") {
        return None;
    }
    if let Some(acks) = user.get("request.required.acks")
        && !matches!(acks.to_ascii_lowercase().as_str(), "all" | "-1")
    {
        return Some("acks");
    }
    if number("max.in.flight.requests.per.connection").is_some_and(|n| n > IDEMPOTENT_IN_FLIGHT) {
        return Some("max.in.flight");
    }
    if number("message.send.max.retries") == Some(0) {
        return Some("retries");
    }
    if number("queue.buffering.backpressure.threshold").is_some_and(|n| n > 1) {
        return Some("queue.buffering.backpressure.threshold");
    }
    None
}

/// librdkafka's log level, by what the process logs under the target `librdkafka`.
fn log_level() -> RDKafkaLogLevel {
    const TARGET: &str = "librdkafka";
    if tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
        RDKafkaLogLevel::Debug
    } else if tracing::enabled!(target: TARGET, tracing::Level::INFO) {
        RDKafkaLogLevel::Info
    } else if tracing::enabled!(target: TARGET, tracing::Level::WARN) {
        RDKafkaLogLevel::Warning
    } else {
        RDKafkaLogLevel::Error
    }
}

fn invalid(problems: Vec<Problem>) -> Fault {
    let lines: Vec<_> = problems
        .iter()
        .map(|problem| format!("{} {}", problem.property, problem.message))
        .collect();
    Fault::new(FaultKind::Invalid, lines.join("; "))
}
