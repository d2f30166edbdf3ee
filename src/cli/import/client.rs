//! Properties of Kafka's Java clients: the names that librdkafka has for them. What both call the same needs
//! no row; whether librdkafka's name may stand where it would is judged by `kafka::client`.

use super::Entry;
use super::jaas;
use super::mapping::{self, Rule, Rules, value};
use super::output::{Draft, Value};
use crate::config::address::Address;
use crate::kafka::client::table_for_all;

use Rule::{Made, Not, To};

/// Where a broker is whose port is not given, as librdkafka has it.
const BROKER_PORT: u16 = 9092;

/// Which of the clients a property is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    All,
    Producer,
    Consumer,
    Admin,
}

impl Role {
    fn table(self) -> &'static str {
        match self {
            Self::All => "kafka.properties",
            Self::Producer => "kafka.producer",
            Self::Consumer => "kafka.consumer",
            Self::Admin => "kafka.admin",
        }
    }

    /// Where a property of librdkafka's stands; `None` when there is none of that name.
    fn path(self, property: &str) -> Option<String> {
        let own = table_for_all(property)?;
        let table = match self {
            Self::All => own,
            _ => self.table(),
        };
        Some(format!("{table}.{property}"))
    }
}

const CLASS: Rule = Not("it names a Java class");
const GROUPS: Rule = Not("each member of a group says it for itself");
const JAVA_TLS: Rule = Not("the gateway's TLS libraries choose it themselves: TLS 1.2 and 1.3");
const METRICS: Rule = Not("metrics are on the management listener, at /metrics");

/// Java's names that librdkafka does not share, or means something else by.
#[rustfmt::skip]
pub(super) const RULES: Rules = &[
    ("bootstrap.servers", Made("`kafka.bootstrap_servers`, without protocols; one that is written there becomes `security.protocol`")),
    ("sasl.jaas.config", Made("`sasl.username` and `sasl.password`, or `sasl.oauthbearer.…` of a client that asks for tokens")),
    ("ssl.truststore.type", Made("PEM: the next two carry over. JKS and PKCS12 do not: the reason says how to convert them")),
    ("ssl.truststore.location", Made("`ssl.ca.location`, of PEM")),
    ("ssl.truststore.certificates", Made("`ssl.ca.pem`")),
    ("ssl.truststore.password", Made("nothing: PEM has none")),
    ("ssl.keystore.type", Made("PEM: the next ones carry over. PKCS12: for producers alone, as `ssl.keystore.…`. JKS does not")),
    ("ssl.keystore.location", Made("`ssl.certificate.location` and `ssl.key.location`, of PEM with both in it")),
    ("ssl.keystore.certificate.chain", Made("`ssl.certificate.pem`")),
    ("ssl.keystore.key", Made("`ssl.key.pem`")),
    ("ssl.keystore.password", Made("`ssl.keystore.password`, of PKCS12 for producers")),
    ("ssl.endpoint.identification.algorithm", Made("the same; empty is `none`")),
    ("security.protocol", Made("the same, in capitals")),
    ("request.timeout.ms", To("socket.timeout.ms")),
    ("receive.buffer.bytes", Made("`socket.receive.buffer.bytes`; -1 is 0")),
    ("send.buffer.bytes", Made("`socket.send.buffer.bytes`; -1 is 0")),
    ("fetch.max.wait.ms", To("fetch.wait.max.ms")),
    ("buffer.memory", Made("`queue.buffering.max.kbytes`")),
    ("max.request.size", Made("`limits.record_bytes`, and room for it in `http.max_body_bytes`")),
    ("compression.gzip.level", Made("`compression.level`, if it is the type's")),
    ("compression.lz4.level", Made("`compression.level`, if it is the type's")),
    ("compression.zstd.level", Made("`compression.level`, if it is the type's")),
    ("max.block.ms", Not("a full queue is answered at once, and an unknown topic after kafka.metadata_timeout_ms at the latest")),
    ("default.api.timeout.ms", Not("kafka.metadata_timeout_ms bounds every question to Kafka")),
    ("socket.connection.setup.timeout.max.ms", Not("the wait for a connection does not grow: see socket.connection.setup.timeout.ms")),
    ("metadata.max.idle.ms", Not("what is known of topics is kept for all clients by one rule")),
    ("partitioner.class", Not("keys are spread as by Java's own partitioner (murmur2_random); see kafka.producer.partitioner")),
    ("partitioner.*", Not("keys are spread as by Java's own partitioner (murmur2_random); see kafka.producer.partitioner")),
    ("key.serializer", CLASS),
    ("value.serializer", CLASS),
    ("key.deserializer", CLASS),
    ("value.deserializer", CLASS),
    ("interceptor.classes", CLASS),
    ("security.providers", CLASS),
    ("metric.reporters", METRICS),
    ("metrics.*", METRICS),
    ("auto.include.jmx.reporter", METRICS),
    ("confluent.*", Not("it is for plug-ins of Confluent's")),
    ("max.poll.records", Not("readers take pages by bytes; a client says how many it wants")),
    ("exclude.internal.topics", GROUPS),
    ("group.remote.assignor", GROUPS),
    ("allow.auto.create.topics", Not("see kafka.auto_create_topics")),
    ("share.*", GROUPS),
    ("ssl.protocol", JAVA_TLS),
    ("ssl.provider", JAVA_TLS),
    ("ssl.enabled.protocols", JAVA_TLS),
    ("ssl.cipher.suites", JAVA_TLS),
    ("ssl.keymanager.algorithm", JAVA_TLS),
    ("ssl.trustmanager.algorithm", JAVA_TLS),
    ("ssl.secure.random.implementation", JAVA_TLS),
    ("ssl.engine.factory.class", CLASS),
    ("sasl.client.callback.handler.class", CLASS),
    ("sasl.login.class", CLASS),
    ("sasl.login.callback.handler.class", CLASS),
    ("sasl.login.*", Not("tokens are renewed, and what failed is tried again, by the gateway's own rule")),
    ("sasl.oauthbearer.jwks.*", Not("it is for brokers")),
    ("sasl.oauthbearer.expected.*", Not("it is for brokers")),
    ("sasl.oauthbearer.header.urlencode", Not("client names and secrets are sent as RFC 6749 says")),
    ("sasl.oauthbearer.sub.claim.name", Not("brokers read the token's claims")),
    ("sasl.oauthbearer.scope.claim.name", Not("brokers read the token's claims")),
    ("sasl.oauthbearer.clock.skew.seconds", Not("it is for brokers")),
];

/// Carries over one client's properties; `entries` have their names without the product's prefix in
/// `java`, and with it for messages. `all` are those of every client, which stores' types are looked up in too.
pub(super) fn carry(draft: &mut Draft, role: Role, own: &[Property], all: &[Property]) {
    let mut made = Vec::new();
    for property in own {
        let (name, entry) = (property.java.as_str(), &property.entry);
        match mapping::find(RULES, name) {
            Some(To(theirs)) => set(draft, role, theirs, entry),
            Some(Not(reason)) => draft.leave(entry, reason),
            Some(Made(_)) => made.push(property.clone()),
            None if table_for_all(name).is_some() => set(draft, role, name, entry),
            None => draft.leave(
                entry,
                "it is not known as a property of Kafka's clients, and nothing here is like it",
            ),
        }
    }
    let lookup = Lookup {
        own: under_java_names(&made),
        all: under_java_names(all),
        compression: value(&under_java_names(own), "compression.type").map(str::to_owned),
    };
    for property in &made {
        make(draft, role, property, &lookup);
    }
}

/// A property with its name as the Java client knows it.
#[derive(Debug, Clone)]
pub(super) struct Property {
    pub(super) java: String,
    /// As it stands in the file.
    pub(super) entry: Entry,
}

impl Property {
    /// The property that an entry is after the product's prefix; `None` without that prefix.
    pub(super) fn after(prefix: &str, entry: &Entry) -> Option<Self> {
        let java = entry.name.strip_prefix(prefix)?.to_owned();
        let entry = entry.clone();
        Some(Self { java, entry })
    }
}

struct Lookup {
    own: Vec<Entry>,
    all: Vec<Entry>,
    compression: Option<String>,
}

impl Lookup {
    /// Java's default is JKS.
    fn store_type(&self, name: &str) -> String {
        let found = value(&self.own, name).or_else(|| value(&self.all, name));
        found.unwrap_or("JKS").to_ascii_uppercase()
    }
}

fn under_java_names(properties: &[Property]) -> Vec<Entry> {
    let renamed = |property: &Property| Entry {
        name: property.java.clone(),
        ..property.entry.clone()
    };
    properties.iter().map(renamed).collect()
}

fn set(draft: &mut Draft, role: Role, property: &str, entry: &Entry) {
    set_value(
        draft,
        role,
        property,
        Value::guessed(entry.value.trim()),
        entry,
    );
}

/// Sets one of librdkafka's properties.
pub(super) fn set_value(
    draft: &mut Draft,
    role: Role,
    property: &str,
    value: Value,
    entry: &Entry,
) {
    match role.path(property) {
        Some(path) => draft.set(&path, value, entry),
        None => draft.leave(entry, format!("librdkafka has no {property}")),
    }
}

fn text(draft: &mut Draft, role: Role, property: &str, value: &str, entry: &Entry) {
    set_value(draft, role, property, Value::Text(value.to_owned()), entry);
}

fn make(draft: &mut Draft, role: Role, property: &Property, lookup: &Lookup) {
    let entry = &property.entry;
    let given = entry.value.trim();
    match property.java.as_str() {
        "bootstrap.servers" => bootstrap(draft, role, entry),
        "security.protocol" => text(
            draft,
            role,
            "security.protocol",
            &given.to_ascii_uppercase(),
            entry,
        ),
        "ssl.endpoint.identification.algorithm" => {
            let algorithm = if given.is_empty() { "none" } else { given };
            text(draft, role, &property.java, algorithm, entry);
        }
        "receive.buffer.bytes" | "send.buffer.bytes" => {
            // Both mean that the system decides.
            let bytes = if given == "-1" { "0" } else { given };
            let name = format!("socket.{}", property.java);
            set_value(draft, role, &name, Value::guessed(bytes), entry);
        }
        "buffer.memory" => match given.parse::<u64>() {
            Ok(bytes) => {
                let kibibytes = Value::Number(bytes.div_ceil(1024).max(1));
                set_value(draft, role, "queue.buffering.max.kbytes", kibibytes, entry);
            }
            Err(_) => draft.leave(entry, "expected a number of bytes"),
        },
        "max.request.size" => record_bytes(draft, entry),
        "sasl.jaas.config" => jaas::carry(draft, role, entry),
        name if name.starts_with("compression.") => {
            compression_level(draft, role, property, lookup)
        }
        name if name.starts_with("ssl.truststore.") => truststore(draft, role, property, lookup),
        _ => keystore(draft, role, property, lookup),
    }
}

/// The largest record, and bodies that it fits in: its value may be in base64, beside a key and headers.
pub(super) fn record_bytes(draft: &mut Draft, entry: &Entry) {
    let Ok(bytes) = entry.value.trim().parse::<u64>() else {
        return draft.leave(entry, "expected a number of bytes");
    };
    draft.set("limits.record_bytes", Value::Number(bytes), entry);
    const DEFAULT_BODY: u64 = 8 << 20;
    const MOST_BODY: u64 = 1 << 30;
    let body = bytes.saturating_add(bytes / 2);
    if body > DEFAULT_BODY && bytes <= MOST_BODY {
        draft.set(
            "http.max_body_bytes",
            Value::Number(body.min(MOST_BODY)),
            entry,
        );
    }
}

/// `host:port` without protocols. The first line to name brokers wins: there is one list for all clients.
pub(super) fn bootstrap(draft: &mut Draft, role: Role, entry: &Entry) {
    let mut protocol = None;
    let servers: Vec<String> = mapping::list(&entry.value)
        .iter()
        .map(|server| {
            let address = match server.split_once("://") {
                Some((written, address)) => {
                    protocol.get_or_insert(written.to_ascii_uppercase());
                    address
                }
                None => server,
            };
            match Address::parse_with_default_port(address, BROKER_PORT) {
                Some(parsed) if Address::parse(address).is_none() => parsed.to_string(),
                _ => address.to_owned(),
            }
        })
        .collect();
    if servers.is_empty() {
        return draft.leave(entry, "it is empty");
    }
    draft.set(
        "kafka.bootstrap_servers",
        Value::Text(servers.join(",")),
        entry,
    );
    if let Some(protocol) = protocol
        && protocol != "PLAINTEXT"
        && draft.get("kafka.properties.security.protocol").is_none()
    {
        text(draft, role, "security.protocol", &protocol, entry);
    }
}

fn compression_level(draft: &mut Draft, role: Role, property: &Property, lookup: &Lookup) {
    let kind = property.java.split('.').nth(1).unwrap_or_default();
    match lookup.compression.as_deref() {
        Some(used) if used.eq_ignore_ascii_case(kind) => {
            set(draft, role, "compression.level", &property.entry);
        }
        _ => draft.leave(
            &property.entry,
            format!("compression.type is not {kind}, so that it had no effect"),
        ),
    }
}

fn truststore(draft: &mut Draft, role: Role, property: &Property, lookup: &Lookup) {
    let entry = &property.entry;
    let kind = lookup.store_type("ssl.truststore.type");
    let is_pem = kind == "PEM";
    match property.java.as_str() {
        "ssl.truststore.certificates" if is_pem => {
            text(draft, role, "ssl.ca.pem", &entry.value, entry);
        }
        "ssl.truststore.location" if is_pem => {
            text(draft, role, "ssl.ca.location", entry.value.trim(), entry);
        }
        "ssl.truststore.type" if is_pem => draft.leave(entry, "PEM is what the gateway reads"),
        "ssl.truststore.password" if is_pem => draft.leave(entry, "PEM certificates have none"),
        _ => draft.leave(
            entry,
            format!(
                "certificates are read as PEM, not as {kind}: `keytool -list -rfc -keystore FILE > ca.pem` prints them, and kafka.properties.\"ssl.ca.location\" names the file"
            ),
        ),
    }
}

fn keystore(draft: &mut Draft, role: Role, property: &Property, lookup: &Lookup) {
    let entry = &property.entry;
    let kind = lookup.store_type("ssl.keystore.type");
    match (kind.as_str(), property.java.as_str()) {
        ("PEM", "ssl.keystore.certificate.chain") => {
            text(draft, role, "ssl.certificate.pem", &entry.value, entry);
        }
        ("PEM", "ssl.keystore.key") => text(draft, role, "ssl.key.pem", &entry.value, entry),
        ("PEM", "ssl.keystore.location") => {
            // Java's PEM keystore has the certificate and its key in one file.
            let file = entry.value.trim();
            text(draft, role, "ssl.certificate.location", file, entry);
            text(draft, role, "ssl.key.location", file, entry);
        }
        ("PEM", "ssl.keystore.password") => {
            draft.leave(entry, "PEM has none; that of the key is ssl.key.password");
        }
        ("PKCS12", "ssl.keystore.location" | "ssl.keystore.password") if role == Role::Producer => {
            text(draft, role, &property.java, entry.value.trim(), entry);
        }
        (_, "ssl.keystore.type") if kind == "PEM" || role == Role::Producer => {
            draft.leave(entry, "the names of the properties say it here");
        }
        _ => {
            let reason = format!(
                "the key is read as PEM, not as {kind}: `openssl pkcs12 -in FILE -out client.pem` converts PKCS12, into which `keytool -importkeystore` converts JKS; kafka.properties.\"ssl.certificate.location\" and \"ssl.key.location\" name the file"
            );
            // Without its certificate the gateway is somebody else to Kafka, or nobody.
            if property.java == "ssl.keystore.location" {
                jaas::drop_login(draft, entry, &reason);
            } else {
                draft.leave(entry, reason);
            }
        }
    }
}

/// Of the properties of all clients, one by its Java name.
pub(super) fn of<'a>(properties: &'a [Property], java: &str) -> Option<&'a Entry> {
    properties
        .iter()
        .find(|property| property.java == java)
        .map(|property| &property.entry)
}
