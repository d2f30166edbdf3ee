//! Karapace's configuration in JSON, as far as it is about its REST proxy.

use super::Entry;
use super::client::{self, Role};
use super::listeners;
use super::mapping::{self, Rule, Rules, entry, is_on, value};
use super::output::{Draft, Value};

use Rule::{Made, Not, To};

const REGISTRY: Rule = Not("it is for the schema registry");
const REGISTRY_CLIENT: Rule =
    Not("it says how a schema registry is asked, which this version does not do");
const LOGS: Rule = Not("see telemetry.log_format; logs go to standard error");
const TELEMETRY: Rule = Not("metrics are on the management listener, at /metrics");
const BY_TOKEN: Rule =
    Not("tokens are checked by auth.mode = \"jwt\" and auth.issuers: see docs/security.md");

#[rustfmt::skip]
pub(super) const RULES: Rules = &[
    ("bootstrap_uri", Made("`kafka.bootstrap_servers`, without protocols")),
    ("host", Made("`listen`, with the port")),
    ("port", Made("`listen`, with the host")),
    ("server_tls_certfile", To("tls.cert")),
    ("server_tls_keyfile", To("tls.key")),
    ("server_tls_cafile", Made("`tls.client_ca`, where clients are asked for certificates")),
    ("server_tls_client_auth", Made("`optional`: `tls.client_ca`. `required`: only this machine is listened to until `auth` is set up")),
    ("rest_authorization", Made("`true`: only this machine is listened to until `auth` is set up")),
    ("sasl_bootstrap_uri", Not("every user logs in to Kafka as themselves: kafka.identity = \"passthrough\" does that, with tokens alone")),
    ("rest_base_uri", To("advertised_url")),
    ("advertised_hostname", Made("`advertised_url`, where there is no `rest_base_uri`")),
    ("advertised_port", Made("`advertised_url`, with the host name")),
    ("advertised_protocol", Made("`advertised_url`, with the host name")),
    ("client_id", To("kafka.properties.client.id")),
    ("security_protocol", To("kafka.properties.security.protocol")),
    ("sasl_mechanism", To("kafka.properties.sasl.mechanism")),
    ("sasl_plain_username", Made("`sasl.username`")),
    ("sasl_plain_password", Made("`sasl.password`")),
    ("sasl_oauth_token", Not("tokens come from a token endpoint or a file: write it to one, and name that in sasl.oauthbearer.token.endpoint.url (file:///…)")),
    ("ssl_cafile", To("kafka.properties.ssl.ca.location")),
    ("ssl_certfile", To("kafka.properties.ssl.certificate.location")),
    ("ssl_keyfile", To("kafka.properties.ssl.key.location")),
    ("ssl_password", Made("`ssl.key.password`")),
    ("ssl_check_hostname", Made("`false`: `ssl.endpoint.identification.algorithm = \"none\"`")),
    ("ssl_crlfile", To("kafka.properties.ssl.crl.location")),
    ("ssl_ciphers", To("kafka.properties.ssl.cipher.suites")),
    ("connections_max_idle_ms", To("kafka.properties.connections.max.idle.ms")),
    ("metadata_max_age_ms", To("kafka.properties.metadata.max.age.ms")),
    ("fetch_min_bytes", To("kafka.consumer.fetch.min.bytes")),
    ("producer_acks", To("kafka.producer.acks")),
    ("producer_compression_type", To("kafka.producer.compression.type")),
    ("producer_linger_ms", To("kafka.producer.linger.ms")),
    ("producer_max_request_size", Made("`limits.record_bytes`, and room for it in `http.max_body_bytes`")),
    ("http_request_max_size", To("http.max_body_bytes")),
    ("consumer_request_timeout_ms", To("rest.consumer_request_timeout_ms")),
    ("consumer_request_max_bytes", To("rest.consumer_request_max_bytes")),
    ("consumer_idle_disconnect_timeout", Made("`rest.consumer_instance_timeout_ms`; 0, never, does not carry over")),
    ("registry_host", Made("`schema.registry_url`, with scheme and port")),
    ("registry_port", Made("`schema.registry_url`, with scheme and host")),
    ("registry_scheme", Made("`schema.registry_url`, with host and port")),
    ("log_level", Made("`telemetry.log_level`")),
    ("karapace_rest", Not("it is what the gateway is")),
    ("karapace_registry", Not("the gateway is no schema registry: it stays where it is")),
    ("session_timeout_ms", Not("each member of a group says it for itself")),
    ("consumer_enable_auto_commit", Not("each consumer says it for itself")),
    ("admin_metadata_max_age", Not("what is known of topics is kept for all clients by one rule")),
    ("producer_count", Not("one producer writes for all")),
    ("replication_factor", REGISTRY),
    ("topic_name", REGISTRY),
    ("group_id", REGISTRY),
    ("compatibility", REGISTRY),
    ("master_*", REGISTRY),
    ("waiting_time_before_acting_as_master_ms", REGISTRY),
    ("name_strategy*", REGISTRY),
    ("force_key_correction", REGISTRY),
    ("kafka_schema_reader_strict_mode", REGISTRY),
    ("kafka_retriable_errors_silenced", REGISTRY),
    ("protobuf_runtime_directory", REGISTRY),
    ("use_protobuf_formatter", REGISTRY),
    ("rest_avro_extended_json_parser", REGISTRY_CLIENT),
    ("registry_*", REGISTRY_CLIENT),
    ("sasl_oauthbearer_*", BY_TOKEN),
    ("sasl_oauth_token_provider_class", Not("it names a Python class")),
    ("access_log_class", Not("it names a Python class")),
    ("access_logs_debug", Not("see telemetry.access_log")),
    ("log_handler", LOGS),
    ("log_format", LOGS),
    ("statsd_*", TELEMETRY),
    ("stats_service", TELEMETRY),
    ("sentry*", TELEMETRY),
    ("telemetry", TELEMETRY),
    ("tags", TELEMETRY),
];

/// Carries a whole file over.
pub(super) fn carry(draft: &mut Draft, entries: &[Entry]) {
    draft.had_tls = value(entries, "server_tls_certfile").is_some();
    // Set to nothing is not set.
    let set: Vec<Entry> = entries
        .iter()
        .filter(|e| !e.value.is_empty())
        .cloned()
        .collect();
    let made = mapping::follow(draft, RULES, &set, "Karapace");
    addresses(draft, &made);
    credentials(draft, &made);
    kafka(draft, &made);
    several(draft, &made);
    let form = Value::Text("name_value".to_owned());
    draft.set_default("rest.record_headers", form, "as Karapace writes headers");
}

fn given<'a>(made: &'a [Entry], names: &[&str]) -> Vec<&'a Entry> {
    names.iter().filter_map(|name| entry(made, name)).collect()
}

fn addresses(draft: &mut Draft, made: &[Entry]) {
    let host = value(made, "host").unwrap_or("127.0.0.1");
    let port = value(made, "port").unwrap_or("8081");
    let address = listeners::address(host, port);
    let lines = given(made, &["host", "port"]);
    match lines.is_empty() {
        true => draft.set_default("listen", Value::Text(address), "Karapace's own default"),
        false => listeners::listen(draft, vec![address], &lines),
    }
    let lines = given(
        made,
        &[
            "advertised_hostname",
            "advertised_port",
            "advertised_protocol",
        ],
    );
    if value(made, "advertised_hostname").is_none() || draft.get("advertised_url").is_some() {
        for line in lines {
            draft.leave(line, "rest_base_uri, or no advertised_hostname, decides");
        }
        return;
    }
    let protocol = value(made, "advertised_protocol").unwrap_or("http");
    let host = value(made, "advertised_hostname").unwrap_or(host);
    let address = listeners::address(host, value(made, "advertised_port").unwrap_or(port));
    let url = Value::Text(format!("{protocol}://{address}"));
    draft.set_by("advertised_url", url, &lines);
}

fn credentials(draft: &mut Draft, made: &[Entry]) {
    if let Some(entry) = entry(made, "rest_authorization") {
        if is_on(made, "rest_authorization") == Some(true) {
            const REASON: &str = "users had to log in, and Kafka decided what each may do: here they show tokens, which auth.mode = \"jwt\" and auth.issuers ask for (docs/security.md)";
            draft.leave(entry, REASON);
            draft.close(REASON);
        } else {
            draft.set("auth.mode", Value::Text("none".to_owned()), entry);
        }
    }
    let asked = value(made, "server_tls_client_auth")
        .unwrap_or("none")
        .to_ascii_lowercase();
    if let Some(entry) = entry(made, "server_tls_cafile") {
        match asked.as_str() {
            "none" => draft.leave(entry, "clients are not asked for certificates"),
            _ => draft.set("tls.client_ca", Value::Text(entry.value.clone()), entry),
        }
    }
    if let Some(entry) = entry(made, "server_tls_client_auth") {
        const REQUIRED: &str = "clients had to show certificates: here auth.mode = \"jwt\" with tls.client_ca asks for a token or a certificate, and auth.roles says what each may do";
        match asked.as_str() {
            "none" => draft.leave(entry, "without tls.client_ca no client is asked for one"),
            "optional" => draft.leave(entry, "tls.client_ca lets a client show one"),
            _ => {
                draft.leave(entry, REQUIRED);
                draft.close(REQUIRED);
            }
        }
    }
}

fn kafka(draft: &mut Draft, made: &[Entry]) {
    match entry(made, "bootstrap_uri") {
        Some(entry) => client::bootstrap(draft, Role::All, entry),
        None => {
            let server = Value::Text("127.0.0.1:9092".to_owned());
            draft.set_default(
                "kafka.bootstrap_servers",
                server,
                "Karapace's default for long",
            );
        }
    }
    for (name, property) in [
        ("sasl_plain_username", "sasl.username"),
        ("sasl_plain_password", "sasl.password"),
        ("ssl_password", "ssl.key.password"),
    ] {
        if let Some(entry) = entry(made, name) {
            let text = Value::Text(entry.value.clone());
            client::set_value(draft, Role::All, property, text, entry);
        }
    }
    if let Some(entry) = entry(made, "ssl_check_hostname") {
        match is_on(made, "ssl_check_hostname") {
            Some(false) => {
                let none = Value::Text("none".to_owned());
                let property = "ssl.endpoint.identification.algorithm";
                client::set_value(draft, Role::All, property, none, entry);
            }
            _ => draft.leave(entry, "it is so without being set"),
        }
    }
    if let Some(entry) = entry(made, "producer_max_request_size") {
        client::record_bytes(draft, entry);
    }
}

fn several(draft: &mut Draft, made: &[Entry]) {
    if let Some(entry) = entry(made, "consumer_idle_disconnect_timeout") {
        match entry.value.parse::<u64>() {
            Ok(ms) if ms > 0 && ms <= i64::MAX as u64 => {
                draft.set(
                    "rest.consumer_instance_timeout_ms",
                    Value::Number(ms),
                    entry,
                );
            }
            _ => draft.leave(
                entry,
                "an instance that nobody asks always ends at some time",
            ),
        }
    }
    let registry = given(made, &["registry_scheme", "registry_host", "registry_port"]);
    if let Some(host) = value(made, "registry_host") {
        let scheme = value(made, "registry_scheme").unwrap_or("http");
        let address = listeners::address(host, value(made, "registry_port").unwrap_or("8081"));
        let url = Value::Text(format!("{scheme}://{address}"));
        draft.set_by("schema.registry_url", url, &registry);
    } else {
        for entry in registry {
            draft.leave(entry, "there is no registry_host with it");
        }
    }
    if let Some(entry) = entry(made, "log_level") {
        let level = match entry.value.to_ascii_uppercase().as_str() {
            "DEBUG" | "NOTSET" => "debug",
            "INFO" => "info",
            "WARNING" | "WARN" => "warn",
            "ERROR" | "CRITICAL" | "FATAL" => "error",
            _ => return draft.leave(entry, "expected DEBUG, INFO, WARNING, ERROR or CRITICAL"),
        };
        draft.set("telemetry.log_level", Value::Text(level.to_owned()), entry);
    }
}
