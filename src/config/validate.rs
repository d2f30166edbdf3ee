//! Validates what must hold before anything listens, between settings and of the files that they name: no
//! listener open to the world by accident, no trial broker by accident, no two settings that deny each other.
//! librdkafka's properties are judged by `kafka::client`.

use std::path::PathBuf;

use secrecy::ExposeSecret;

use super::address::Address;
use super::files::{self, read_secret};
use super::load::{ConfigError, Loaded, Source, Unread};
use super::topic_schemas;
use super::value::{name_of, size_to_text};
use super::{
    AuditTo, AuthMode, AuthSettings, GroupEngine, KafkaIdentity, KafkaSettings, KeySource,
};
use crate::reserved::is_of_dead_letters;

/// Every objection. `has_embedded` tells whether this build has the embedded broker. A rule whose
/// keys could not be read says nothing.
pub(super) fn objections(loaded: &Loaded, unread: &Unread, has_embedded: bool) -> Vec<ConfigError> {
    let knows = |paths: &[&str]| paths.iter().all(|path| unread.knows(path));
    let mut errors = Vec::new();
    if knows(&["listen", "management.listen"]) {
        errors.extend(listeners(loaded));
    }
    if knows(&["tls.cert", "tls.key"]) {
        errors.extend(tls(loaded, knows(&["tls.client_ca"])));
    }
    if knows(&["auth.mode", "auth.issuers", "auth.users_file"]) {
        errors.extend(auth(loaded, knows(&["listen"])));
    }
    if knows(&["telemetry.audit", "telemetry.audit_required"]) {
        errors.extend(audit(loaded));
    }
    if knows(&["listen", "kafka.bootstrap_servers", "kafka.embedded"]) {
        errors.extend(broker(loaded, has_embedded, knows(&["auth.mode"])));
    }
    if knows(&["kafka.group_engine"]) && loaded.settings.kafka.group_engine == GroupEngine::Classic
    {
        errors.push(loaded.error(
            "kafka.group_engine",
            "\"classic\" is not available yet: expected \"auto\" or \"native\", which need a broker with KIP-848 (Kafka 4.0 or newer)",
        ));
    }
    if knows(&["limits.record_bytes", "http.max_body_bytes"]) {
        errors.extend(sizes(loaded));
    }
    if knows(&["limits.body_total_bytes", "http.max_body_bytes"]) {
        errors.extend(total_of_bodies(loaded));
    }
    if knows(&[
        "kafka.identity",
        "kafka.bootstrap_servers",
        "kafka.embedded",
        "auth.mode",
        "auth.users_file",
    ]) {
        errors.extend(identity(loaded));
    }
    if knows(&["kafka.principal_header"]) {
        errors.extend(principal_header(loaded));
    }
    if knows(&[
        "schema.folder",
        "schema.default_key",
        "schema.default_value",
        "schema.topics",
    ]) {
        errors.extend(topic_schemas::objections(loaded));
    }
    errors.extend(named_files(loaded));
    errors
}

/// Whoever asks has to have a token. Whether Kafka would take one is told by the properties.
fn identity(loaded: &Loaded) -> Vec<ConfigError> {
    let settings = &loaded.settings;
    if settings.kafka.identity != KafkaIdentity::Passthrough {
        return Vec::new();
    }
    let error = |problem: String| loaded.error("kafka.identity", problem);
    let mut errors = Vec::new();
    if settings.auth.mode != AuthMode::Jwt {
        errors.push(error(
            "\"passthrough\" hands tokens on to Kafka: expected auth.mode = \"jwt\", which asks for them".to_owned(),
        ));
    }
    if settings.auth.users_file.is_some() {
        errors.push(error(
            "\"passthrough\" hands tokens on to Kafka, and those of auth.users_file have none: leave one of the two out".to_owned(),
        ));
    }
    if settings.kafka.uses_embedded() {
        errors.push(error(
            "\"passthrough\" is for a cluster that takes tokens, and the embedded broker takes none: expected a cluster in kafka.bootstrap_servers".to_owned(),
        ));
    }
    errors
}

/// A dead letter has headers of the gateway's own, which say something else.
fn principal_header(loaded: &Loaded) -> Option<ConfigError> {
    let name = loaded.settings.kafka.principal_header.as_deref()?;
    is_of_dead_letters(name).then(|| {
        let problem = format!(
            "{name} is a header that dead letters have for something else: expected another name, such as \"written-by\""
        );
        loaded.error("kafka.principal_header", problem)
    })
}

/// Two listeners on one address could not both start.
fn listeners(loaded: &Loaded) -> Vec<ConfigError> {
    let server = &loaded.settings.server;
    let fixed = |address: &&String| Address::parse(address).is_some_and(|parsed| parsed.port != 0);
    let mut errors = Vec::new();
    for (index, address) in server.listen.iter().enumerate().filter(|(_, a)| fixed(a)) {
        if server.listen[..index].contains(address) {
            errors.push(loaded.error("listen", format!("{address} is listed twice")));
        }
    }
    if let Some(management) = server.management_listen.as_ref().filter(fixed)
        && server.listen.contains(management)
    {
        errors.push(loaded.error(
            "management.listen",
            format!(
                "{management} is also a public address in listen ({}): give it an address of its own, or \"off\"",
                loaded.source("listen")
            ),
        ));
    }
    errors
}

/// The first public address that others than this machine can reach.
pub(super) fn reachable(loaded: &Loaded) -> Option<&String> {
    let outside =
        |address: &&String| Address::parse(address).is_none_or(|parsed| !parsed.is_loopback());
    loaded.settings.server.listen.iter().find(outside)
}

/// A certificate and its key come together, and without them no client is asked for its own.
fn tls(loaded: &Loaded, knows_client_ca: bool) -> Option<ConfigError> {
    let tls = &loaded.settings.tls;
    match (&tls.cert, &tls.key) {
        (Some(_), None) => {
            let problem = "set without tls.key: expected both, or neither for plain HTTP";
            Some(loaded.error("tls.cert", problem))
        }
        (None, Some(_)) => {
            let problem = "set without tls.cert: expected both, or neither for plain HTTP";
            Some(loaded.error("tls.key", problem))
        }
        (None, None) if tls.client_ca.is_some() && knows_client_ca => {
            let problem = "set without tls.cert and tls.key: certificates are shown over TLS only";
            Some(loaded.error("tls.client_ca", problem))
        }
        _ => None,
    }
}

/// What is said of the audit log is of none where there is no log.
fn audit(loaded: &Loaded) -> Option<ConfigError> {
    let telemetry = &loaded.settings.telemetry;
    let problem = "true, but telemetry.audit is \"off\": expected \"stderr\" or a file there";
    (telemetry.audit == AuditTo::Off && telemetry.audit_required)
        .then(|| loaded.error("telemetry.audit_required", problem))
}

fn auth(loaded: &Loaded, knows_listen: bool) -> Option<ConfigError> {
    let auth = &loaded.settings.auth;
    if auth.mode == AuthMode::Jwt {
        let problem =
            "\"jwt\", but there are no auth.issuers, so that no token could be accepted: add one";
        return auth
            .issuers
            .is_empty()
            .then(|| loaded.error("auth.mode", problem));
    }
    if auth.mode == AuthMode::Users {
        let problem = if auth.users_file.is_none() {
            "\"users\", but there is no auth.users_file, so that nobody could connect: name one"
        } else if !auth.issuers.is_empty() {
            "\"users\", but there are auth.issuers, whose tokens would not be accepted: set auth.mode = \"jwt\", which takes both"
        } else {
            return None;
        };
        return Some(loaded.error("auth.mode", problem));
    }
    if *loaded.source("auth.mode") != Source::Default {
        return None;
    }
    // Whoever set these up meant them, and would find the API open to all.
    let meant = [
        ("auth.issuers", !auth.issuers.is_empty()),
        ("auth.topic_filters", !auth.topic_filters.is_empty()),
        ("auth.roles", !auth.roles.is_empty()),
        ("auth.users_file", auth.users_file.is_some()),
    ];
    if let Some((key, _)) = meant.iter().find(|(_, is_set)| *is_set) {
        return Some(loaded.error(
            "auth.mode",
            format!(
                "\"none\", but {key} is set and would do nothing: set auth.mode = \"jwt\" or \"users\", or \"none\" by name"
            ),
        ));
    }
    let address = reachable(loaded).filter(|_| knows_listen)?;
    Some(loaded.error(
        "auth.mode",
        format!(
            "listen ({}) has {address}, which is not loopback, so whoever can connect could do everything: listen on loopback, ask for credentials with auth.mode = \"jwt\" or \"users\", or set auth.mode = \"none\" by name",
            loaded.source("listen")
        ),
    ))
}

/// Files that cannot be used would be found out by the first client otherwise.
fn named_files(loaded: &Loaded) -> Vec<ConfigError> {
    let settings = &loaded.settings;
    let mut errors = Vec::new();
    let mut judge = |path: &str, verdict: Result<(), String>| {
        errors.extend(verdict.err().map(|problem| loaded.error(path, problem)));
    };
    let tls = [
        ("tls.cert", &settings.tls.cert),
        ("tls.key", &settings.tls.key),
        ("tls.client_ca", &settings.tls.client_ca),
    ];
    for (path, file) in tls {
        if let Some(file) = file {
            judge(path, files::check(file));
        }
    }
    let secret = |file: &PathBuf| read_secret(file).map(drop);
    if let Some(file) = &settings.auth.ticket_key_file {
        judge("auth.ticket_key_file", secret(file));
    }
    if let Some(problem) = ticket_key_of_an_issuer(&settings.auth) {
        judge("auth.ticket_key_file", Err(problem));
    }
    if let AuditTo::File(file) = &settings.telemetry.audit {
        judge("telemetry.audit", files::check_appendable(file));
    }
    for (index, issuer) in settings.auth.issuers.iter().enumerate() {
        match &issuer.keys {
            KeySource::SecretFile(file) => {
                judge(&format!("auth.issuers[{index}].secret_file"), secret(file));
            }
            KeySource::KeyFile(file) => {
                judge(
                    &format!("auth.issuers[{index}].key_file"),
                    files::check(file),
                );
            }
            KeySource::JwksUrl(_) | KeySource::Discovered(_) => {}
        }
    }
    errors
}

/// Whoever can sign tokens of one issuer could make tickets of anybody's with the same secret.
fn ticket_key_of_an_issuer(auth: &AuthSettings) -> Option<String> {
    let key = read_secret(auth.ticket_key_file.as_ref()?).ok()?;
    let is_the_key = |file: &PathBuf| {
        read_secret(file).is_ok_and(|secret| secret.expose_secret() == key.expose_secret())
    };
    let index = auth.issuers.iter().position(|issuer| match &issuer.keys {
        KeySource::SecretFile(file) => is_the_key(file),
        KeySource::KeyFile(_) | KeySource::JwksUrl(_) | KeySource::Discovered(_) => false,
    })?;
    Some(format!(
        "the same secret as that of auth.issuers[{index}], so that this issuer could make tickets for everybody: expected a secret of the gateway's own, such as `openssl rand -hex 32` prints"
    ))
}

/// A cluster, or the embedded broker where that is meant. Unasked it starts only for a trial: where nobody
/// but this machine can connect, and no tokens are asked for.
fn broker(loaded: &Loaded, has_embedded: bool, knows_mode: bool) -> Vec<ConfigError> {
    let kafka = &loaded.settings.kafka;
    if !kafka.uses_embedded() {
        let contradiction = kafka.embedded.then(|| {
            loaded.error(
                "kafka.embedded",
                format!(
                    "true, but kafka.bootstrap_servers ({}) names a cluster: leave one of them out",
                    loaded.source("kafka.bootstrap_servers")
                ),
            )
        });
        return contradiction.into_iter().collect();
    }
    if !has_embedded {
        let key = match kafka.embedded {
            true => "kafka.embedded",
            false => "kafka.bootstrap_servers",
        };
        let problem = "this build has no embedded broker (cargo feature `embedded`): expected a cluster's host:port in kafka.bootstrap_servers";
        return vec![loaded.error(key, problem)];
    }
    let mut errors = Vec::new();
    if !kafka.embedded
        && let Some(address) = reachable(loaded)
    {
        errors.push(loaded.error(
            "kafka.bootstrap_servers",
            format!(
                "no bootstrap servers, and the embedded broker starts unasked only on loopback while listen ({}) has {address}: expected a cluster's host:port, or --embedded for a trial in memory",
                loaded.source("listen")
            ),
        ));
    }
    if !kafka.embedded
        && errors.is_empty()
        && knows_mode
        && loaded.settings.auth.mode != AuthMode::None
    {
        errors.push(loaded.error(
            "kafka.bootstrap_servers",
            format!(
                "no bootstrap servers, and the embedded broker, which forgets all records when it stops, does not start unasked while auth.mode ({}) is \"{}\": expected a cluster's host:port, or --embedded for a trial in memory",
                loaded.source("auth.mode"),
                name_of(loaded.settings.auth.mode, &AuthMode::NAMES).unwrap_or_default()
            ),
        ));
    }
    errors.extend(security_without_cluster(loaded, kafka));
    errors
}

/// Whoever set up TLS or SASL meant a cluster, not a trial broker that knows neither.
fn security_without_cluster(loaded: &Loaded, kafka: &KafkaSettings) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for (table, properties) in kafka.property_tables() {
        if let Some(protocol) = properties.get("security.protocol")
            && !protocol.eq_ignore_ascii_case("plaintext")
        {
            errors.push(loaded.error(
                &format!("{table}.security.protocol"),
                "the embedded broker speaks neither TLS nor SASL: expected a cluster in kafka.bootstrap_servers, or no security.protocol",
            ));
        }
    }
    errors
}

fn sizes(loaded: &Loaded) -> Option<ConfigError> {
    let record = loaded.settings.limits.record_bytes;
    let body = loaded.settings.http.max_body_bytes;
    (record > body).then(|| {
        loaded.error(
            "limits.record_bytes",
            format!(
                "{} is above http.max_body_bytes ({}), {}, so that no request could carry such a record: lower the one or raise the other",
                size_to_text(record as u64),
                loaded.source("http.max_body_bytes"),
                size_to_text(body as u64)
            ),
        )
    })
}

fn total_of_bodies(loaded: &Loaded) -> Option<ConfigError> {
    let total = loaded.settings.limits.body_total_bytes;
    let body = loaded.settings.http.max_body_bytes as u64;
    (total < body).then(|| {
        loaded.error(
            "limits.body_total_bytes",
            format!(
                "{} is below http.max_body_bytes ({}), {}, so that the largest body would never find room: raise the one or lower the other",
                size_to_text(total),
                loaded.source("http.max_body_bytes"),
                size_to_text(body)
            ),
        )
    })
}
