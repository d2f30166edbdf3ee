//! What is known about each librdkafka property: who honours it, and in which table it may stand.
//!
//! A property that is not here is refused as unknown. To accept a new one, add it with the scope
//! that says what krafka makes of it; `Shared` needs code in `connection`, `security` or `oauth` as well.

use std::collections::BTreeMap;

use super::Role;
use crate::config::{KafkaSettings, Properties, is_secret_property};

/// Who honours a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Both libraries; fits every table.
    Shared,
    /// librdkafka only, and nothing is lost when krafka ignores it.
    Tuning,
    /// librdkafka only; krafka cannot do what it asks, for this reason.
    OnlyLibrdkafka(&'static str),
    /// Producers, which are librdkafka's.
    Producer,
    /// Readers, which are krafka's.
    Consumer,
    /// Nobody may set it, for this reason.
    Refused(&'static str),
    /// Nobody may set it to anything but this value, for this reason.
    Fixed(&'static str, &'static str),
}

use Scope::{Consumer, Fixed, OnlyLibrdkafka, Producer, Refused, Shared, Tuning};

const BOOTSTRAP: Scope = Refused("set kafka.bootstrap_servers instead");
const CALLBACK: Scope = Refused("it takes a function or a pointer, not text");
const GROUP: Scope = Refused("the gateway sets it itself for each group member");
const READS: Scope = Refused("readers do not use librdkafka, and krafka has nothing like it");
const UNSIGNED: Scope = Refused(
    "the gateway makes no tokens that nobody signed; set sasl.oauthbearer.token.endpoint.url to a token endpoint or a file",
);
const ASSERTION: Scope = Refused(
    "a token endpoint is asked with client.id and client.secret, not with an assertion; where another program gets the tokens, name their file in sasl.oauthbearer.token.endpoint.url (file:///…)",
);
const KERBEROS: Scope = Refused(
    "SASL GSSAPI (Kerberos) is not supported: krafka does not speak it; use PLAIN, SCRAM or OAUTHBEARER, or TLS client certificates",
);
const LOGGING: Scope =
    Refused("set telemetry.log_level instead, for example \"info,librdkafka=debug\"");
const CIPHERS: Scope =
    OnlyLibrdkafka("krafka's TLS library chooses its own ciphers, curves and signatures");
const PEM_ONLY: Scope = OnlyLibrdkafka(
    "krafka reads certificates and keys only as PEM; use ssl.ca.location, ssl.certificate.location and ssl.key.location",
);

#[rustfmt::skip]
pub(super) const TABLE: &[(&str, Scope)] = &[
    ("acks", Producer),
    ("allow.auto.create.topics", Fixed("false", "topics are created by the gateway or not at all; see kafka.auto_create_topics")),
    ("api.version.fallback.ms", OnlyLibrdkafka("krafka always asks the broker for its versions")),
    ("api.version.request", Fixed("true", "krafka always asks the broker for its versions")),
    ("api.version.request.timeout.ms", Tuning),
    ("auto.commit.enable", GROUP),
    ("auto.commit.interval.ms", GROUP),
    ("auto.offset.reset", Refused("each request says where it starts to read")),
    ("background_event_cb", CALLBACK),
    ("batch.num.messages", Producer),
    ("batch.size", Producer),
    ("bootstrap.servers", BOOTSTRAP),
    ("broker.address.family", Tuning),
    ("broker.address.ttl", Tuning),
    ("broker.version.fallback", OnlyLibrdkafka("krafka always asks the broker for its versions")),
    ("builtin.features", Refused("it cannot be set")),
    ("check.crcs", Fixed("true", "readers always check")),
    ("client.dns.lookup", Fixed("use_all_dns_ips", "krafka always tries all addresses of a name")),
    ("client.id", Shared),
    ("client.rack", Shared),
    ("closesocket_cb", CALLBACK),
    ("compression.codec", Producer),
    ("compression.level", Producer),
    ("compression.type", Producer),
    ("connect_cb", CALLBACK),
    ("connections.max.idle.ms", Shared),
    ("consume.callback.max.messages", READS),
    ("consume_cb", CALLBACK),
    ("coordinator.query.interval.ms", READS),
    ("debug", Tuning),
    ("default_topic_conf", CALLBACK),
    ("delivery.report.only.error", Fixed("false", "every record's outcome is answered")),
    ("delivery.timeout.ms", Producer),
    ("dr_cb", CALLBACK),
    ("dr_msg_cb", CALLBACK),
    ("enable.auto.commit", GROUP),
    ("enable.auto.offset.store", GROUP),
    ("enable.gapless.guarantee", Refused("one record that cannot be written would stop the producer for everyone")),
    ("enable.idempotence", Producer),
    ("enable.metrics.push", Tuning),
    ("enable.partition.eof", READS),
    ("enable.random.seed", Tuning),
    ("enable.sasl.oauthbearer.unsecure.jwt", UNSIGNED),
    ("enable.ssl.certificate.verification", Shared),
    ("enabled_events", CALLBACK),
    ("error_cb", CALLBACK),
    ("fetch.error.backoff.ms", READS),
    ("fetch.max.bytes", Consumer),
    ("fetch.message.max.bytes", Consumer),
    ("fetch.min.bytes", Consumer),
    ("fetch.queue.backoff.ms", READS),
    ("fetch.wait.max.ms", Consumer),
    ("group.id", GROUP),
    ("group.instance.id", GROUP),
    ("group.protocol", GROUP),
    ("group.protocol.type", GROUP),
    ("group.remote.assignor", GROUP),
    ("heartbeat.interval.ms", GROUP),
    ("https.ca.location", Shared),
    ("https.ca.pem", Shared),
    ("interceptors", CALLBACK),
    ("internal.termination.signal", Refused("the gateway handles signals itself")),
    ("isolation.level", Consumer),
    ("linger.ms", Producer),
    ("log.connection.close", Tuning),
    ("log.queue", CALLBACK),
    ("log.thread.name", Tuning),
    ("log_cb", CALLBACK),
    ("log_level", LOGGING),
    ("max.in.flight", Producer),
    ("max.in.flight.requests.per.connection", Producer),
    ("max.partition.fetch.bytes", Consumer),
    ("max.poll.interval.ms", GROUP),
    ("message.copy.max.bytes", Producer),
    ("message.max.bytes", Producer),
    ("message.send.max.retries", Producer),
    ("message.timeout.ms", Producer),
    ("metadata.broker.list", BOOTSTRAP),
    ("metadata.max.age.ms", Shared),
    ("metadata.recovery.rebootstrap.trigger.ms", Shared),
    ("metadata.recovery.strategy", Shared),
    ("msg_order_cmp", CALLBACK),
    ("oauthbearer_token_refresh_cb", CALLBACK),
    ("offset.store.method", GROUP),
    ("offset.store.path", GROUP),
    ("offset.store.sync.interval.ms", GROUP),
    ("offset_commit_cb", CALLBACK),
    ("opaque", CALLBACK),
    ("open_cb", CALLBACK),
    ("partition.assignment.strategy", GROUP),
    ("partitioner", Producer),
    ("partitioner_cb", CALLBACK),
    ("plugin.library.paths", Refused("the gateway loads no foreign code")),
    ("produce.offset.report", Refused("librdkafka always reports offsets")),
    ("queue.buffering.backpressure.threshold", Producer),
    ("queue.buffering.max.kbytes", Producer),
    ("queue.buffering.max.messages", Producer),
    ("queue.buffering.max.ms", Producer),
    ("queued.max.messages.kbytes", READS),
    ("queued.min.messages", READS),
    ("queuing.strategy", Fixed("fifo", "records of a partition keep their order")),
    ("rebalance_cb", CALLBACK),
    ("receive.message.max.bytes", Shared),
    ("reconnect.backoff.jitter.ms", Tuning),
    ("reconnect.backoff.max.ms", Tuning),
    ("reconnect.backoff.ms", Tuning),
    ("request.required.acks", Producer),
    ("request.timeout.ms", Shared),
    ("resolve_cb", CALLBACK),
    ("retries", Producer),
    ("retry.backoff.max.ms", Tuning),
    ("retry.backoff.ms", Tuning),
    ("sasl.kerberos.keytab", KERBEROS),
    ("sasl.kerberos.kinit.cmd", KERBEROS),
    ("sasl.kerberos.min.time.before.relogin", KERBEROS),
    ("sasl.kerberos.principal", KERBEROS),
    ("sasl.kerberos.service.name", KERBEROS),
    ("sasl.mechanism", Shared),
    ("sasl.mechanisms", Shared),
    ("sasl.oauthbearer.assertion.algorithm", ASSERTION),
    ("sasl.oauthbearer.assertion.claim.aud", ASSERTION),
    ("sasl.oauthbearer.assertion.claim.exp.seconds", ASSERTION),
    ("sasl.oauthbearer.assertion.claim.iss", ASSERTION),
    ("sasl.oauthbearer.assertion.claim.jti.include", ASSERTION),
    ("sasl.oauthbearer.assertion.claim.nbf.seconds", ASSERTION),
    ("sasl.oauthbearer.assertion.claim.sub", ASSERTION),
    ("sasl.oauthbearer.assertion.file", ASSERTION),
    ("sasl.oauthbearer.assertion.jwt.template.file", ASSERTION),
    ("sasl.oauthbearer.assertion.private.key.file", ASSERTION),
    ("sasl.oauthbearer.assertion.private.key.passphrase", ASSERTION),
    ("sasl.oauthbearer.assertion.private.key.pem", ASSERTION),
    ("sasl.oauthbearer.client.credentials.client.id", Shared),
    ("sasl.oauthbearer.client.credentials.client.secret", Shared),
    ("sasl.oauthbearer.client.id", Shared),
    ("sasl.oauthbearer.client.secret", Shared),
    ("sasl.oauthbearer.config", UNSIGNED),
    ("sasl.oauthbearer.extensions", Shared),
    ("sasl.oauthbearer.grant.type", Fixed("client_credentials", "other grants are not supported")),
    ("sasl.oauthbearer.metadata.authentication.type", Fixed("none", "tokens of a cloud's metadata service are not supported; have another program write them to a file")),
    ("sasl.oauthbearer.method", Shared),
    ("sasl.oauthbearer.scope", Shared),
    ("sasl.oauthbearer.token.endpoint.url", Shared),
    ("sasl.password", Shared),
    ("sasl.username", Shared),
    ("security.protocol", Shared),
    ("session.timeout.ms", GROUP),
    ("socket.blocking.max.ms", Tuning),
    ("socket.connection.setup.timeout.ms", Shared),
    ("socket.keepalive.enable", Shared),
    ("socket.max.fails", Tuning),
    ("socket.nagle.disable", Shared),
    ("socket.receive.buffer.bytes", Shared),
    ("socket.send.buffer.bytes", Shared),
    ("socket.timeout.ms", Shared),
    ("socket_cb", CALLBACK),
    ("ssl.ca.certificate.stores", OnlyLibrdkafka("it names certificate stores of Windows")),
    ("ssl.ca.location", Shared),
    ("ssl.ca.pem", Shared),
    ("ssl.certificate.location", Shared),
    ("ssl.certificate.pem", Shared),
    ("ssl.certificate.verify_cb", CALLBACK),
    ("ssl.cipher.suites", CIPHERS),
    ("ssl.crl.location", OnlyLibrdkafka("krafka does not check revocation lists")),
    ("ssl.curves.list", CIPHERS),
    ("ssl.endpoint.identification.algorithm", Shared),
    ("ssl.engine.id", OnlyLibrdkafka("krafka has no OpenSSL engines")),
    ("ssl.engine.location", Refused("the gateway loads no foreign code")),
    ("ssl.key.location", Shared),
    ("ssl.key.password", Shared),
    ("ssl.key.pem", Shared),
    ("ssl.keystore.location", PEM_ONLY),
    ("ssl.keystore.password", PEM_ONLY),
    ("ssl.providers", Refused("the gateway loads no foreign code")),
    ("ssl.sigalgs.list", CIPHERS),
    ("ssl_ca", CALLBACK),
    ("ssl_certificate", CALLBACK),
    ("ssl_engine_callback_data", CALLBACK),
    ("ssl_key", CALLBACK),
    ("statistics.interval.ms", Producer),
    ("stats_cb", CALLBACK),
    ("sticky.partitioning.linger.ms", Producer),
    ("test.mock.num.brokers", Refused("it replaces the cluster by a mock; for a trial use kafka.embedded")),
    ("throttle_cb", CALLBACK),
    ("topic.blacklist", OnlyLibrdkafka("krafka cannot hide topics")),
    ("topic.metadata.propagation.max.ms", Tuning),
    ("topic.metadata.refresh.fast.cnt", Tuning),
    ("topic.metadata.refresh.fast.interval.ms", Tuning),
    ("topic.metadata.refresh.interval.ms", Tuning),
    ("topic.metadata.refresh.sparse", Tuning),
    ("transaction.timeout.ms", Producer),
    ("transactional.id", Refused("the gateway names its transactions itself")),
];

/// Names that librdkafka takes for the same property, each with the one it keeps.
const ALIASES: &[(&str, &str)] = &[
    ("acks", "request.required.acks"),
    ("compression.type", "compression.codec"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("retries", "message.send.max.retries"),
    ("sasl.mechanism", "sasl.mechanisms"),
    (
        "sasl.oauthbearer.client.credentials.client.id",
        "sasl.oauthbearer.client.id",
    ),
    (
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.client.secret",
    ),
];

/// The scope of `name`; `None` when no library knows it.
pub(super) fn scope(name: &str) -> Option<Scope> {
    TABLE
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, scope)| *scope)
}

/// The known property that is spelled most like `name`, if one is near enough to be meant.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    TABLE
        .iter()
        .filter(|(_, scope)| !matches!(scope, Refused(_)))
        .map(|(known, _)| (strsim::jaro_winkler(name, known), *known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.88)
        .map(|(_, known)| known)
}

/// The one name that stands for all aliases of `name`. Two aliases set at once would be applied in
/// no order at all (rdkafka keeps properties in a hash map), so layers are merged by this name.
pub(super) fn canonical(name: &str) -> &str {
    ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map_or(name, |(_, kept)| kept)
}

/// Whether no message may show the value: a secret, or PEM, which would fill the screen.
pub(super) fn is_unshown(name: &str) -> bool {
    is_secret_property(name) || name.ends_with(".pem")
}

/// The table of the settings file that holds what is only for `role`.
pub(super) fn role_table(settings: &KafkaSettings, role: Role) -> (&'static str, &Properties) {
    match role {
        Role::Producer => ("kafka.producer", &settings.producer),
        Role::Reader | Role::Group => ("kafka.consumer", &settings.consumer),
        Role::Admin => ("kafka.admin", &settings.admin),
    }
}

/// What the user set for `role`, under canonical names: `[kafka.properties]`, and above it the
/// role's own table.
pub(super) fn merged(settings: &KafkaSettings, role: Role) -> BTreeMap<String, String> {
    settings
        .properties
        .iter()
        .chain(role_table(settings, role).1)
        .map(|(name, value)| (canonical(name).to_owned(), value.trim().to_owned()))
        .collect()
}

/// The table and the name under which the user set the property that is merged as `name`.
pub(super) fn origin(settings: &KafkaSettings, role: Role, name: &str) -> (&'static str, String) {
    let (table, own) = role_table(settings, role);
    let written = |properties: &Properties| {
        properties
            .keys()
            .find(|key| canonical(key) == canonical(name))
            .cloned()
    };
    if let Some(key) = written(own) {
        return (table, key);
    }
    let key = written(&settings.properties).unwrap_or_else(|| name.to_owned());
    ("kafka.properties", key)
}
