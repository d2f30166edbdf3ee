//! `kafka-rest.properties` of Confluent REST Proxy.

use super::Entry;
use super::client::{self, Property, Role};
use super::listeners;
use super::mapping::{self, Rule, Rules, entry, is_on, value};
use super::output::{Draft, Value};

use Rule::{Made, Not, To};

const POOL: Rule = Not("requests wait for no thread: there is no pool of them");
const HEADERS: Rule = Not("answers have the headers that they need, and no others");
const JMX: Rule = Not("metrics are on the management listener, at /metrics");
const REGISTRY: Rule =
    Not("it says how a schema registry is asked, which this version does not do");
const JAVA_TLS: Rule = Not(
    "TLS 1.2 and 1.3 with the library's own choice of ciphers; certificates are read again when their files change",
);
const RATES: Rule =
    Not("it counts another way: see limits.requests_per_second and limits.bytes_per_second");
const ALWAYS: Rule = Not("it is always so here, or never, and cannot be chosen");

#[rustfmt::skip]
pub(super) const RULES: Rules = &[
    ("bootstrap.servers", Made("`kafka.bootstrap_servers`, without protocols; one that is written there becomes `security.protocol`")),
    ("listeners", Made("`listen`; with `https://` see `ssl.keystore.…`")),
    ("port", Made("`listen`, where there are no `listeners`")),
    ("advertised.listeners", Made("`advertised_url`, the first")),
    ("host.name", Made("`advertised_url`, where there are no `advertised.listeners`")),
    ("id", To("rest.instance_id")),
    ("consumer.request.timeout.ms", To("rest.consumer_request_timeout_ms")),
    ("consumer.request.max.bytes", To("rest.consumer_request_max_bytes")),
    ("consumer.instance.timeout.ms", To("rest.consumer_instance_timeout_ms")),
    ("schema.registry.url", To("schema.registry_url")),
    ("shutdown.graceful.ms", To("shutdown_grace_ms")),
    ("max.request.header.size", To("http.max_header_bytes")),
    ("server.connection.limit", To("limits.connections")),
    ("access.control.allow.origin", Made("`http.cors.origins`; not `*`")),
    ("authentication.method", Made("`NONE`: `auth.mode = \"none\"`. Others: only this machine is listened to until `auth` is set up (`BASIC`: `auth.users_file`)")),
    ("ssl.keystore.location", Made("`tls.cert` and `tls.key`, of PEM with both in it")),
    ("ssl.keystore.type", Made("PEM carries over; JKS and PKCS12 have to be converted")),
    ("ssl.truststore.location", Made("`tls.client_ca`, of PEM, where clients are asked for certificates")),
    ("ssl.truststore.type", Made("PEM carries over; JKS and PKCS12 have to be converted")),
    ("ssl.client.authentication", Made("`REQUESTED`: `tls.client_ca`. `REQUIRED`: only this machine is listened to until `auth` is set up")),
    ("ssl.client.auth", Made("`true` is `REQUIRED`")),
    ("api.v2.enable", Made("`false`: `http.block` with the routes of v2")),
    ("api.v3.enable", Made("`false`: `http.block` with the routes of v3, and the plain ones that do the same")),
    ("api.endpoints.allowlist", Made("`http.allow`, by whole resources")),
    ("api.endpoints.blocklist", Made("`http.block`, by whole resources; consumers, produce, topics and groups with every other way to do the same")),
    ("dos.filter.enabled", Made("see `dos.filter.max.requests.per.sec`")),
    ("dos.filter.max.requests.per.sec", Made("`limits.requests_per_second`, where the filter is on")),
    ("kafka.rest.resource.extension.class", Made("nothing: it may have asked for credentials, so only this machine is listened to until `auth` is set up")),
    ("rest.servlet.initializor.classes", Made("nothing, in the same way")),
    ("client.*", Made("`kafka.properties`, by the table of client properties")),
    ("producer.threads", POOL),
    ("producer.enable.idempotence", Not("it is switched off there whatever it says; here writes are idempotent unless acks or retries forbid it")),
    ("producer.*", Made("`kafka.producer`, by the table of client properties")),
    ("consumer.threads", POOL),
    ("consumer.iterator.timeout.ms", ALWAYS),
    ("consumer.iterator.backoff.ms", ALWAYS),
    ("consumer.*", Made("`kafka.consumer`, by the table of client properties")),
    ("admin.*", Made("`kafka.admin`, by the table of client properties")),
    ("zookeeper.connect", Not("brokers are asked, and not ZooKeeper: set bootstrap.servers")),
    ("schema.registry.*", REGISTRY),
    ("authentication.*", Not("users come from tokens: see docs/security.md")),
    ("access.control.*", Not("pages of http.cors.origins may use the methods and headers that the routes take")),
    ("ssl.*", JAVA_TLS),
    ("simpleconsumer.*", POOL),
    ("thread.pool.*", POOL),
    ("request.queue.capacity*", POOL),
    ("api.v3.produce.rate.limit.*", RATES),
    ("api.v3.produce.request.size.limit.max.bytes", Not("limits.record_bytes bounds a record")),
    ("api.v3.produce.batch.maximum.entries", Not("limits.records_per_request bounds a batch")),
    ("api.v3.*", Not("it is for threads of its own, of which there are none")),
    ("rate.limit.*", RATES),
    ("dos.filter.*", RATES),
    ("fetch.min.bytes", Not("a read answers as soon as it has records")),
    ("streaming.*", Not("streams last until they end or the process does, within shutdown_grace_ms")),
    ("request.timeout.ms", Not("http.request_timeout_ms bounds how long a request may arrive, and every wait for Kafka has a bound of its own")),
    ("idle.timeout.ms", Not("connections are ended by the gateway's own rule when they are idle")),
    ("null.request.body.always.publishes.empty.record", Not("null is a tombstone")),
    ("confluent.*", Not("it is for plug-ins of Confluent's")),
    ("use.custom.request.logging", Not("see telemetry.access_log")),
    ("request.logger.name", Not("see telemetry.access_log")),
    ("response.mediatype.*", ALWAYS),
    ("response.http.headers.config", HEADERS),
    ("nosniff.*", HEADERS),
    ("hsts.*", HEADERS),
    ("csrf.*", Not("pages of other sites are refused unless http.cors.origins has them")),
    ("compression.enable", ALWAYS),
    ("http2.*", ALWAYS),
    ("sni.*", ALWAYS),
    ("debug", Not("see telemetry.log_level; what went wrong inside is never in an answer")),
    ("proxy.protocol.enabled", Not("proxies say whom they speak for in Forwarded headers: see http.trusted_proxies")),
    ("suppress.stack.trace.response", ALWAYS),
    ("resource.extension.classes", Made("nothing, as with `kafka.rest.resource.extension.class`")),
    ("websocket.*", ALWAYS),
    ("metric.reporters", JMX),
    ("metrics.*", JMX),
];

/// Names of the endpoint lists, and the routes that they are here.
#[rustfmt::skip]
const ENDPOINTS: &[(&str, &[&str])] = &[
    ("api.v2.brokers.", &["GET /brokers"]),
    ("api.v2.topics.", &["GET /topics", "GET /topics/{topic}"]),
    ("api.v2.partitions.", &["GET /topics/{topic}/partitions", "GET /topics/{topic}/partitions/{partition}", "GET /topics/{topic}/partitions/{partition}/offsets"]),
    ("api.v2.produce-to-topic.", &["POST /topics/{topic}", "POST /topics/{topic}/records"]),
    ("api.v2.produce-to-partition.", &["POST /topics/{topic}/partitions/{partition}"]),
    ("api.v2.consumers.", &["/consumers/*"]),
    ("api.v2.root.", &["/"]),
    ("api.v3.clusters.", &["GET /v3/clusters", "GET /v3/clusters/{cluster}"]),
    ("api.v3.brokers.", &["GET /v3/clusters/{cluster}/brokers", "GET /v3/clusters/{cluster}/brokers/{broker}"]),
    ("api.v3.broker-configs.", &["/v3/clusters/{cluster}/brokers/*/configs*"]),
    ("api.v3.cluster-configs.", &["/v3/clusters/{cluster}/broker-configs*"]),
    ("api.v3.topics.", &["/v3/clusters/{cluster}/topics", "/v3/clusters/{cluster}/topics/{topic}"]),
    ("api.v3.topic-configs.", &["/v3/clusters/{cluster}/topics/*/configs*"]),
    ("api.v3.default-topic-configs.", &["/v3/clusters/{cluster}/topics/*/default-configs"]),
    ("api.v3.partitions.", &["GET /v3/clusters/{cluster}/topics/{topic}/partitions", "GET /v3/clusters/{cluster}/topics/{topic}/partitions/{partition}"]),
    ("api.v3.partition-offsets.", &["GET /v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/offset"]),
    ("api.v3.replicas.", &["GET /v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/replicas*", "GET /v3/clusters/{cluster}/brokers/{broker}/partition-replicas"]),
    ("api.v3.produce.", &["POST /v3/clusters/{cluster}/topics/{topic}/records"]),
    ("api.v3.batch-produce.", &["POST /v3/clusters/{cluster}/topics/{topic}/records:batch"]),
    ("api.v3.consumer-groups.", &["/v3/clusters/{cluster}/consumer-groups", "/v3/clusters/{cluster}/consumer-groups/{group}"]),
    ("api.v3.consumers.", &["GET /v3/clusters/{cluster}/consumer-groups/{group}/consumers*"]),
    ("api.v3.consumer-assignments.", &["GET /v3/clusters/{cluster}/consumer-groups/{group}/consumers/{consumer}/assignments*"]),
    ("api.v3.consumer-lags.", &["GET /v3/clusters/{cluster}/consumer-groups/{group}/lags*"]),
    ("api.v3.consumer-group-lag-summaries.", &["GET /v3/clusters/{cluster}/consumer-groups/{group}/lag-summary"]),
];

/// What changes topics and groups beside REST v3.
const ADMINISTRATION: [&str; 6] = [
    "PUT /topics/*",
    "DELETE /topics/*",
    "GET /topics/{topic}/size",
    "/groups",
    "/groups/*",
    "POST /admin/topics",
];

/// The port where none is given.
const PORT: &str = "8082";

/// Carries a whole file over.
pub(super) fn carry(draft: &mut Draft, entries: &[Entry]) {
    let made = mapping::follow(draft, RULES, entries, "Confluent REST Proxy");
    listeners(draft, &made);
    certificates(draft, &made);
    credentials(draft, &made);
    routes(draft, &made);
    if let Some(entry) = entry(&made, "access.control.allow.origin") {
        listeners::origins(draft, entry);
    }
    flood(draft, &made);
    advertised(draft, &made);
    clients(draft, &made);
}

fn clients(draft: &mut Draft, made: &[Entry]) {
    if let Some(entry) = entry(made, "bootstrap.servers") {
        client::bootstrap(draft, Role::All, entry);
    }
    let after = |prefix: &str| -> Vec<Property> {
        let found = made
            .iter()
            .filter_map(|entry| Property::after(prefix, entry));
        found.collect()
    };
    let all = after("client.");
    client::carry(draft, Role::All, &all, &[]);
    for (prefix, role) in [
        ("producer.", Role::Producer),
        ("consumer.", Role::Consumer),
        ("admin.", Role::Admin),
    ] {
        client::carry(draft, role, &after(prefix), &all);
    }
}

/// An address with the scheme before it.
fn parse_listener(text: &str) -> Option<(bool, String)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_https = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':')?;
    Some((is_https, listeners::address(host, port)))
}

fn listeners(draft: &mut Draft, made: &[Entry]) {
    const DEFAULT: &str = "Confluent REST Proxy listens there unless it is told otherwise";
    let Some(entry) = entry(made, "listeners").filter(|entry| !entry.value.trim().is_empty())
    else {
        let given = entry(made, "port");
        let address = listeners::address("", value(made, "port").unwrap_or(PORT));
        match given {
            Some(port) => listeners::listen(draft, vec![address], &[port]),
            None => draft.set_default("listen", Value::Text(address), DEFAULT),
        }
        return;
    };
    let listed = mapping::list(&entry.value);
    let parsed: Vec<_> = listed.iter().map(|text| parse_listener(text)).collect();
    if parsed.iter().any(Option::is_none) {
        draft.leave(
            entry,
            "expected http://HOST:PORT or https://HOST:PORT, separated by commas",
        );
    }
    let parsed: Vec<_> = parsed.into_iter().flatten().collect();
    draft.had_tls = parsed.iter().any(|(is_https, _)| *is_https);
    let kept: Vec<String> = parsed
        .iter()
        .filter(|(is_https, _)| *is_https == draft.had_tls)
        .map(|(_, address)| address.clone())
        .collect();
    if kept.len() < parsed.len() {
        draft.remark("TLS is for all listeners or none, so that those with http:// are left out.");
    }
    match kept.is_empty() {
        true => draft.close("none of the addresses in listeners could be read"),
        false => listeners::listen(draft, kept, &[entry]),
    }
    if let Some(port) = mapping::entry(made, "port") {
        draft.leave(port, "listeners win over it");
    }
}

fn advertised(draft: &mut Draft, made: &[Entry]) {
    if let Some(entry) = entry(made, "advertised.listeners")
        && let Some(first) = mapping::list(&entry.value).first()
    {
        draft.set(
            "advertised_url",
            Value::Text(first.trim_end_matches('/').to_owned()),
            entry,
        );
    }
    if let Some(entry) = entry(made, "host.name").filter(|entry| !entry.value.trim().is_empty()) {
        let scheme = if draft.had_tls { "https" } else { "http" };
        let port = draft
            .text("listen")
            .and_then(|address| address.rsplit(':').next());
        let address = listeners::address(&entry.value, port.unwrap_or(PORT));
        draft.set(
            "advertised_url",
            Value::Text(format!("{scheme}://{address}")),
            entry,
        );
    }
}

/// The listeners' own certificate, and those of clients.
fn certificates(draft: &mut Draft, made: &[Entry]) {
    const CONVERT: &str = "certificates and keys are read as PEM: convert the keystore (`keytool -importkeystore` to PKCS12, `openssl pkcs12 -nodes` to PEM) and name the file in tls.cert and tls.key";
    let kind = |name: &str| value(made, name).unwrap_or("JKS").to_ascii_uppercase();
    let key_is_pem = kind("ssl.keystore.type") == "PEM";
    if let Some(entry) = entry(made, "ssl.keystore.location") {
        if key_is_pem {
            let file = Value::Text(entry.value.trim().to_owned());
            draft.set("tls.cert", file.clone(), entry);
            draft.set("tls.key", file, entry);
        } else {
            draft.leave(entry, CONVERT);
        }
    }
    for (name, location) in [
        ("ssl.keystore.type", "ssl.keystore.location"),
        ("ssl.truststore.type", "ssl.truststore.location"),
    ] {
        if let Some(entry) = entry(made, name) {
            draft.leave(entry, format!("only PEM is read: see {location}"));
        }
    }
    let asked = value(made, "ssl.client.authentication").map(str::to_ascii_uppercase);
    let asked = match (asked, is_on(made, "ssl.client.auth")) {
        (None, Some(true)) => "REQUIRED".to_owned(),
        (asked, _) => asked.unwrap_or_else(|| "NONE".to_owned()),
    };
    let trust = entry(made, "ssl.truststore.location");
    match (asked.as_str(), trust) {
        ("NONE", Some(entry)) => draft.leave(entry, "clients are not asked for certificates"),
        (_, Some(entry)) if kind("ssl.truststore.type") == "PEM" => {
            draft.set("tls.client_ca", Value::Text(entry.value.trim().to_owned()), entry);
        }
        (_, Some(entry)) => draft.leave(
            entry,
            "authorities are read as PEM: `keytool -list -rfc -keystore FILE > clients.pem` prints them, and tls.client_ca names the file",
        ),
        (_, None) => {}
    }
    if asked != "NONE" {
        const REQUIRED: &str = "clients had to show certificates: here auth.mode = \"jwt\" with tls.client_ca asks for a token or a certificate, and auth.roles says what each may do";
        for name in ["ssl.client.authentication", "ssl.client.auth"] {
            if let Some(entry) = entry(made, name) {
                draft.leave(entry, REQUIRED);
            }
        }
        if asked != "REQUESTED" {
            draft.close(REQUIRED);
        }
    } else {
        for name in ["ssl.client.authentication", "ssl.client.auth"] {
            if let Some(entry) = entry(made, name) {
                draft.leave(entry, "without tls.client_ca no client is asked for one");
            }
        }
    }
}

/// Who may connect. What cannot be asked for here leaves the listener closed.
fn credentials(draft: &mut Draft, made: &[Entry]) {
    if let Some(entry) = entry(made, "authentication.method") {
        match entry.value.trim().to_ascii_uppercase().as_str() {
            "NONE" | "" => draft.set("auth.mode", Value::Text("none".to_owned()), entry),
            _ => {
                const REASON: &str = "users had to log in: here they show tokens, which auth.mode = \"jwt\" and auth.issuers ask for (docs/security.md)";
                draft.leave(entry, REASON);
                draft.close(REASON);
            }
        }
    }
    for name in [
        "kafka.rest.resource.extension.class",
        "resource.extension.classes",
        "rest.servlet.initializor.classes",
    ] {
        if let Some(entry) = entry(made, name).filter(|entry| !entry.value.trim().is_empty()) {
            const REASON: &str =
                "it names Java classes, which may have decided who could do what: see auth";
            draft.leave(entry, REASON);
            draft.close(REASON);
        }
    }
}

fn routes(draft: &mut Draft, made: &[Entry]) {
    if let Some(entry) = entry(made, "api.v2.enable") {
        let all: Vec<&str> = ENDPOINTS
            .iter()
            .filter(|(name, _)| name.starts_with("api.v2.") && *name != "api.v2.root.")
            .flat_map(|(_, routes)| routes.iter().copied())
            .filter(|route| !route.ends_with("/records"))
            .collect();
        match is_on(made, "api.v2.enable") {
            Some(false) => listeners::block(draft, &all, &[entry]),
            _ => draft.leave(entry, "v2 is always there unless http.block has its routes"),
        }
    }
    if let Some(entry) = entry(made, "api.v3.enable") {
        match is_on(made, "api.v3.enable") {
            Some(false) => {
                let all: Vec<&str> = [&["/v3/*"], &ADMINISTRATION[..]].concat();
                listeners::block(draft, &all, &[entry]);
            }
            _ => draft.leave(entry, "v3 is always there unless http.block has its routes"),
        }
    }
    for (name, path) in [
        ("api.endpoints.allowlist", "http.allow"),
        ("api.endpoints.blocklist", "http.block"),
    ] {
        if let Some(entry) = entry(made, name) {
            endpoints(draft, path, entry);
        }
    }
}

fn endpoints(draft: &mut Draft, path: &str, entry: &Entry) {
    let mut routes: Vec<&str> = Vec::new();
    let mut unknown = Vec::new();
    let listed = mapping::list(&entry.value);
    for name in &listed {
        // `api.v2.topics.list` and `api.v2.topics.*` are both of the topics; what is blocked is the whole
        // resource, what is allowed too.
        let found: Vec<&str> = ENDPOINTS
            .iter()
            .filter(|(begin, _)| {
                name.starts_with(begin)
                    || name.strip_suffix('*').is_some_and(|n| begin.starts_with(n))
            })
            .flat_map(|(begin, routes)| routes.iter().chain(also_blocked(path, begin)).copied())
            .collect();
        if found.is_empty() {
            unknown.push(name.as_str());
        }
        routes.extend(found);
    }
    if !unknown.is_empty() {
        draft.leave(
            entry,
            format!("no routes here are like {}", unknown.join(", ")),
        );
    }
    if !routes.is_empty() {
        listeners::routes_to(draft, path, &routes, &[entry]);
        draft.annotate(
            path,
            "whole resources, not single methods of them: look whether each fits",
        );
    }
    let came_to_nothing = draft.get(path).is_none();
    if path == "http.allow" && came_to_nothing && !listed.is_empty() {
        draft.close("api.endpoints.allowlist allowed little, and none of it is offered here");
    }
}

/// Whoever blocked reading or writing did not mean this gateway's own ways to do so to be open.
fn also_blocked(path: &str, endpoint: &str) -> &'static [&'static str] {
    match endpoint {
        "api.v2.consumers." if path == "http.block" => &listeners::READING,
        "api.v2.produce-to-topic."
        | "api.v2.produce-to-partition."
        | "api.v3.produce."
        | "api.v3.batch-produce."
            if path == "http.block" =>
        {
            &listeners::WRITING
        }
        "api.v3.topics." | "api.v3.consumer-groups." | "api.v3.consumer-lags."
            if path == "http.block" =>
        {
            &ADMINISTRATION
        }
        _ => &[],
    }
}

fn flood(draft: &mut Draft, made: &[Entry]) {
    let is_on = is_on(made, "dos.filter.enabled") == Some(true);
    if let Some(entry) = entry(made, "dos.filter.max.requests.per.sec") {
        match is_on {
            true => draft.set(
                "limits.requests_per_second",
                Value::guessed(entry.value.trim()),
                entry,
            ),
            false => draft.leave(entry, "dos.filter.enabled is not true"),
        }
    }
    if let Some(entry) = entry(made, "dos.filter.enabled") {
        draft.leave(entry, "limits.requests_per_second above 0 is the filter");
    }
}
