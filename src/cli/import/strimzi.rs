//! `application.properties` of Strimzi's Kafka Bridge.

use super::Entry;
use super::client::{self, Property, Role};
use super::listeners;
use super::mapping::{self, Rule, Rules, entry, is_on, value};
use super::output::{Draft, Value};

use Rule::{Made, Not, To};

const AMQP: Rule = Not("AMQP is not offered");
const FRAMEWORK: Rule = Not("it is for the framework that the bridge is built on");

#[rustfmt::skip]
pub(super) const RULES: Rules = &[
    ("http.host", Made("`listen`, with the port")),
    ("http.port", Made("`listen`, with the host")),
    ("http.management.port", Made("`management.listen`, with the host")),
    ("http.timeoutSeconds", Made("`rest.consumer_instance_timeout_ms`; -1, never, does not carry over")),
    ("http.cors.enabled", Made("see the next")),
    ("http.cors.allowedOrigins", Made("`http.cors.origins`, where CORS is on; not `*`")),
    ("http.cors.allowedMethods", Not("pages of http.cors.origins may use the methods that the routes take")),
    ("http.consumer.enabled", Made("`false`: `http.block` with the routes that read")),
    ("http.producer.enabled", Made("`false`: `http.block` with the routes that write")),
    ("http.ssl.enable", Made("see the next two")),
    ("http.ssl.certificate.location", Made("`tls.cert`")),
    ("http.ssl.key.location", Made("`tls.key`")),
    ("http.ssl.certificate", Made("nothing: the reason says which file to write")),
    ("http.ssl.key", Made("nothing: the reason says which file to write")),
    ("http.ssl.*", Not("TLS 1.2 and 1.3 with the library's own choice of ciphers")),
    ("http.enabled", Not("HTTP is always on")),
    ("bridge.id", To("rest.instance_id")),
    ("bridge.tracing", Not("traces are not sent in this version")),
    ("bridge.metrics*", Not("metrics are on the management listener, at /metrics")),
    ("kafka.bootstrap.servers", Made("`kafka.bootstrap_servers`, without protocols")),
    ("kafka.producer.*", Made("`kafka.producer`, by the table of client properties")),
    ("kafka.consumer.*", Made("`kafka.consumer`, by the table of client properties")),
    ("kafka.admin.*", Made("`kafka.admin`, by the table of client properties")),
    ("kafka.config.providers*", Not("files and variables are not put into other values: see the environment in docs/configuration.md")),
    ("config.providers*", Not("files and variables are not put into other values: see the environment in docs/configuration.md")),
    ("kafka.*", Made("`kafka.properties`, by the table of client properties")),
    ("amqp.*", AMQP),
    ("quarkus.*", FRAMEWORK),
    ("mp.*", FRAMEWORK),
    ("smallrye.*", FRAMEWORK),
];

/// Carries a whole file over.
pub(super) fn carry(draft: &mut Draft, entries: &[Entry]) {
    let made = mapping::follow(draft, RULES, entries, "Strimzi's bridge");
    addresses(draft, &made);
    certificates(draft, &made);
    cors(draft, &made);
    routes(draft, &made);
    idle(draft, &made);
    clients(draft, &made);
    let form = Value::Text("key_value".to_owned());
    draft.set_default("rest.record_headers", form, "as the bridge writes headers");
}

fn clients(draft: &mut Draft, made: &[Entry]) {
    let prefixes = [
        ("kafka.producer.", Role::Producer),
        ("kafka.consumer.", Role::Consumer),
        ("kafka.admin.", Role::Admin),
    ];
    let after = |prefix: &str, entries: &[&Entry]| -> Vec<Property> {
        let found = entries
            .iter()
            .filter_map(|entry| Property::after(prefix, entry));
        found.collect()
    };
    let of_role = |entry: &&Entry| prefixes.iter().any(|(p, _)| entry.name.starts_with(p));
    let (own, all): (Vec<&Entry>, Vec<&Entry>) = made.iter().partition(of_role);
    let all = after("kafka.", &all);
    client::carry(draft, Role::All, &all, &[]);
    for (prefix, role) in prefixes {
        client::carry(draft, role, &after(prefix, &own), &all);
    }
    if client::of(&all, "bootstrap.servers").is_none() {
        let server = Value::Text("localhost:9092".to_owned());
        draft.set_default(
            "kafka.bootstrap_servers",
            server,
            "the bridge's own default",
        );
    }
}

fn addresses(draft: &mut Draft, made: &[Entry]) {
    let host = value(made, "http.host").unwrap_or("0.0.0.0");
    let address = listeners::address(host, value(made, "http.port").unwrap_or("8080"));
    let given: Vec<_> = ["http.host", "http.port"]
        .iter()
        .filter_map(|name| entry(made, name))
        .collect();
    match given.is_empty() {
        true => draft.set_default("listen", Value::Text(address), "the bridge's own default"),
        false => listeners::listen(draft, vec![address], &given),
    }
    if let Some(port) = entry(made, "http.management.port") {
        let address = listeners::address(host, port.value.trim());
        draft.set("management.listen", Value::Text(address), port);
    }
}

fn certificates(draft: &mut Draft, made: &[Entry]) {
    let is_on = is_on(made, "http.ssl.enable") == Some(true);
    draft.had_tls = is_on;
    if let Some(entry) = entry(made, "http.ssl.enable") {
        draft.leave(entry, "tls.cert and tls.key together switch TLS on");
    }
    for (name, path) in [
        ("http.ssl.certificate.location", "tls.cert"),
        ("http.ssl.key.location", "tls.key"),
    ] {
        if let Some(entry) = entry(made, name) {
            match is_on {
                true => draft.set(path, Value::Text(entry.value.trim().to_owned()), entry),
                false => draft.leave(entry, "http.ssl.enable is not true"),
            }
        }
    }
    for (name, path) in [
        ("http.ssl.certificate", "tls.cert"),
        ("http.ssl.key", "tls.key"),
    ] {
        if let Some(entry) = entry(made, name) {
            draft.leave(
                entry,
                format!(
                    "write it to a file that only the gateway can read, and name that in {path}"
                ),
            );
        }
    }
}

fn cors(draft: &mut Draft, made: &[Entry]) {
    let is_on = is_on(made, "http.cors.enabled") == Some(true);
    if let Some(entry) = entry(made, "http.cors.allowedOrigins") {
        match is_on {
            true => listeners::origins(draft, entry),
            false => draft.leave(entry, "http.cors.enabled is not true"),
        }
    }
    if let Some(entry) = entry(made, "http.cors.enabled") {
        draft.leave(entry, "the origins in http.cors.origins switch CORS on");
    }
}

fn routes(draft: &mut Draft, made: &[Entry]) {
    for (name, routes) in [
        ("http.consumer.enabled", &listeners::READING[..]),
        ("http.producer.enabled", &listeners::WRITING[..]),
    ] {
        if let Some(entry) = entry(made, name) {
            match is_on(made, name) {
                Some(true) | None => draft.leave(entry, "it is so without being set"),
                Some(false) => listeners::block(draft, routes, &[entry]),
            }
        }
    }
}

fn idle(draft: &mut Draft, made: &[Entry]) {
    let Some(entry) = entry(made, "http.timeoutSeconds") else {
        return;
    };
    match entry.value.trim().parse::<u64>() {
        Ok(seconds) if seconds > 0 => {
            let milliseconds = Value::Number(seconds.saturating_mul(1000).min(i64::MAX as u64));
            draft.set("rest.consumer_instance_timeout_ms", milliseconds, entry);
        }
        _ => draft.leave(
            entry,
            "an instance that nobody asks always ends at some time",
        ),
    }
}
