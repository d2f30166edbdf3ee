//! The schema of the settings, a table of every one: its path, where it lives in [`Settings`], what it
//! means. Loading, `config show`, the sample file and the reference all walk this one list.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::item_types::{self, Item};
use super::{
    AuditTo, AuthMode, GroupEngine, HeaderForm, IssuerSettings, KafkaIdentity, KeyedTopicSettings,
    LogFormat, Properties, SchemaMode, Settings, TopicFilterSettings, TopicSchemaSettings,
};

/// Gives access to a setting in the typed settings.
pub(super) type Accessor<T> = fn(&mut Settings) -> &mut T;

/// Lowest and highest allowed value.
pub(super) type Range = (u64, u64);

/// What kind of value a key takes, and where it is kept.
pub(super) enum ValueKind {
    /// One `host:port` or a list of them; at least one.
    Addresses(Accessor<Vec<String>>),
    /// `host:port`, or "off".
    AddressOrOff(Accessor<Option<String>>),
    /// Kafka's `host:port` list, possibly empty.
    Servers(Accessor<String>),
    /// Whole milliseconds.
    Millis(Accessor<Duration>, Range),
    /// Whole seconds.
    Seconds(Accessor<Duration>, Range),
    /// Bytes, also as "8 MiB".
    Size(Accessor<usize>, Range),
    /// Bytes that need not fit a `usize`.
    Total(Accessor<u64>, Range),
    /// A whole number.
    Count(Accessor<usize>, Range),
    /// A whole number that fits a `u32`.
    Rate(Accessor<u32>, Range),
    /// True or false.
    Switch(Accessor<bool>),
    /// True, false or unset.
    Maybe(Accessor<Option<bool>>),
    /// A `tracing` filter.
    Filter(Accessor<String>),
    /// A name of [`AuthMode`].
    Auth(Accessor<AuthMode>),
    /// A name of [`KafkaIdentity`].
    Identity(Accessor<KafkaIdentity>),
    /// A name of [`GroupEngine`].
    Engine(Accessor<GroupEngine>),
    /// A name of [`LogFormat`].
    Format(Accessor<LogFormat>),
    /// A name of [`HeaderForm`].
    Headers(Accessor<HeaderForm>),
    /// "off", "stderr" or the path of a file.
    Audit(Accessor<AuditTo>),
    /// A table of librdkafka property names.
    Properties(Accessor<Properties>),
    /// The name of a topic, with `{topic}` for another one's.
    Template(Accessor<String>),
    /// The path of a file.
    Path(Accessor<Option<PathBuf>>),
    /// `http://` or `https://`, a host and perhaps a path.
    Url(Accessor<Option<String>>),
    /// A name of letters, digits, dots, dashes and underscores.
    Name(Accessor<Option<String>>),
    /// The name of a token's claim.
    Claim(Accessor<Option<String>>),
    /// One string or a list of them, possibly empty.
    Strings(Accessor<Vec<String>>, Item),
    /// A table of role names, each with its permissions.
    Roles(Accessor<BTreeMap<String, Vec<String>>>),
    /// A list of tables, one for each issuer of tokens.
    Issuers(Accessor<Vec<IssuerSettings>>),
    /// A list of tables, one for each filter of topics.
    TopicFilters(Accessor<Vec<TopicFilterSettings>>),
    /// A list of tables, one for each pattern of topics whose keys have their partition.
    KeyedTopics(Accessor<Vec<KeyedTopicSettings>>),
    /// A name of [`SchemaMode`].
    Schema(Accessor<SchemaMode>),
    /// A list of tables, one for each pattern of topics whose records are checked.
    TopicSchemas(Accessor<Vec<TopicSchemaSettings>>),
}

/// One setting.
pub(super) struct Key {
    /// Dotted path in the settings file.
    pub(super) path: &'static str,
    /// What kind of value it takes, and the access to it.
    pub(super) kind: ValueKind,
    /// What it does, with the unit, in one sentence or two.
    pub(super) doc: &'static str,
    /// Never shown in the clear. (Properties are judged one by one, by their names.)
    pub(super) secret: bool,
    /// Set where the default is not one plain value: says what holds while the key is unset. The
    /// sample file then has the key commented out.
    pub(super) when_unset: Option<&'static str>,
    /// What the sample file shows commented out, where there is no default to show.
    pub(super) example: &'static str,
}

const fn key(path: &'static str, kind: ValueKind, doc: &'static str) -> Key {
    Key {
        path,
        kind,
        doc,
        secret: false,
        when_unset: None,
        example: "",
    }
}

impl Key {
    const fn when_unset(mut self, meaning: &'static str, example: &'static str) -> Self {
        self.when_unset = Some(meaning);
        self.example = example;
        self
    }

    const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    /// The variable that sets this key.
    pub(super) fn variable(&self) -> String {
        let path = self.path.to_ascii_uppercase().replace('.', "__");
        format!("{VARIABLE_PREFIX}{path}")
    }

    /// The table the key is in (empty at the top) and its name there.
    pub(super) fn table_and_name(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }

    /// True for a table that takes any name: librdkafka properties, roles. Each entry is set by itself
    /// and has a source of its own.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.kind, ValueKind::Properties(_) | ValueKind::Roles(_))
    }

    /// True for a list of tables, which is set as a whole.
    pub(super) fn is_list_of_tables(&self) -> bool {
        matches!(
            self.kind,
            ValueKind::Issuers(_)
                | ValueKind::TopicFilters(_)
                | ValueKind::KeyedTopics(_)
                | ValueKind::TopicSchemas(_)
        )
    }
}

/// What every variable of ours begins with.
pub(super) const VARIABLE_PREFIX: &str = "TIDEGATE_";

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const WEEK_S: u64 = 604_800;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// The tables of the settings file, in the file's order.
pub(super) static TABLES: &[(&str, &str)] = &[
    ("", ""),
    (
        "management",
        "Health and metrics, on a listener of their own.",
    ),
    (
        "tls",
        "TLS of both listeners. The files are read again when they change.",
    ),
    (
        "http",
        "What bounds one HTTP request, and who may call from where.",
    ),
    ("http.cors", "Pages of other sites in a browser (CORS)."),
    ("kafka", "How to reach Kafka."),
    (
        "websocket",
        "Sessions on a socket, and their group members.",
    ),
    (
        "streams",
        "Streams of records (NDJSON, SSE). However many read a topic, it is read from Kafka once, and what was read lately is kept in a ring.",
    ),
    ("rest", "The compatible REST API: consumer instances."),
    (
        "schema",
        "Schemas that keys and values are checked by before they are written, whatever API they come by.",
    ),
    ("auth", "Who may connect."),
    ("limits", "Bounds on what clients may send or ask for."),
    ("telemetry", "Logs, always on standard error."),
];

/// Every setting, in the order of the sample file.
pub(super) static KEYS: &[Key] = &[
    key(
        "listen",
        ValueKind::Addresses(|s| &mut s.server.listen),
        "Public listeners as host:port, one or a list. Port 0 picks a free one.",
    ),
    key(
        "advertised_url",
        ValueKind::Url(|s| &mut s.server.advertised_url),
        "How clients reach this very process, for the addresses in answers (base_uri of consumer instances): scheme, host and, unless it is the scheme's own, port; a path may follow.",
    )
    .when_unset(
        "what trusted proxies say in Forwarded or X-Forwarded-Host, -Proto, -Port and -Prefix or -Path, else Host",
        "\"https://gw-1.example\"",
    ),
    key(
        "shutdown_grace_ms",
        ValueKind::Millis(|s| &mut s.server.shutdown_grace, (0, HOUR_MS)),
        "How long requests under way may go on after SIGTERM, in milliseconds.",
    ),
    key(
        "management.listen",
        ValueKind::AddressOrOff(|s| &mut s.server.management_listen),
        "The listener for health and metrics as host:port, or \"off\". It asks for no credentials: keep it away from the public.",
    ),
    key(
        "tls.cert",
        ValueKind::Path(|s| &mut s.tls.cert),
        "The certificate chain in PEM, the listeners' own certificate first. Needs tls.key.",
    )
    .when_unset("plain HTTP", "\"cert.pem\""),
    key(
        "tls.key",
        ValueKind::Path(|s| &mut s.tls.key),
        "The certificate's private key in PEM. Needs tls.cert.",
    )
    .when_unset("plain HTTP", "\"key.pem\""),
    key(
        "tls.client_ca",
        ValueKind::Path(|s| &mut s.tls.client_ca),
        "Authorities of client certificates in PEM. A client may then show one, whose subject is its principal; what that may do is the role in auth.roles with the subject's name.",
    )
    .when_unset("no client certificates", "\"clients.pem\""),
    key(
        "http.max_body_bytes",
        // A body is held in memory whole, decoded beside its raw form.
        ValueKind::Size(|s| &mut s.http.max_body_bytes, (1, GIB)),
        "Largest request body that is read whole, in bytes; above it 413.",
    ),
    key(
        "http.request_timeout_ms",
        ValueKind::Millis(|s| &mut s.http.request_timeout, (1, HOUR_MS)),
        "Longest time for a request to arrive, headers and body, in milliseconds.",
    ),
    key(
        "http.max_header_bytes",
        // hyper's read buffer cannot be smaller than 8 KiB.
        ValueKind::Size(|s| &mut s.http.max_header_bytes, (8 * KIB, MIB)),
        "Largest request head (request line and headers), in bytes.",
    ),
    key(
        "http.trusted_proxies",
        ValueKind::Strings(|s| &mut s.http.trusted_proxies, item_types::NETWORK),
        "Addresses or networks of proxies whose Forwarded and X-Forwarded-* headers are believed. From anyone else they are passed over, as anyone can write them.",
    ),
    key(
        "http.allowed_hosts",
        ValueKind::Strings(|s| &mut s.http.allowed_hosts, item_types::HOST),
        "Hosts by which a gateway without authentication may be called, beside addresses, localhost, names without dots or under .internal, .local, .svc, .cluster.local or .test, and the host of advertised_url. Others are refused, since a page could have its own name resolve to the gateway.",
    ),
    key(
        "http.allow",
        ValueKind::Strings(|s| &mut s.http.allow, item_types::ROUTE),
        "Routes that are offered, by method and path as in the OpenAPI document; * is any run of characters, and no method is any method. None is all of them.",
    ),
    key(
        "http.block",
        ValueKind::Strings(|s| &mut s.http.block, item_types::ROUTE),
        "Routes that are not offered, written in the same way, even where http.allow has them: GET is answered with 404, other methods with 405.",
    ),
    key(
        "http.health_paths",
        ValueKind::Switch(|s| &mut s.http.health_paths),
        "Whether /healthy, /ready (as Strimzi's bridge) and /_health (as Karapace) are answered on the public listeners, to anyone, beside /healthz and /readyz on the management listener.",
    ),
    key(
        "http.cors.origins",
        ValueKind::Strings(|s| &mut s.http.cors_origins, item_types::ORIGIN),
        "Origins of pages that may call the gateway, each as browsers send it: scheme, host and, unless it is the scheme's own, port. No wildcards.",
    ),
    key(
        "kafka.bootstrap_servers",
        ValueKind::Servers(|s| &mut s.kafka.bootstrap_servers),
        "The cluster's first addresses as host:port, separated by commas. Empty: an embedded broker in memory, for trials, which starts by itself only when every public listener is on loopback and auth.mode is none.",
    ),
    key(
        "kafka.embedded",
        ValueKind::Switch(|s| &mut s.kafka.embedded),
        "Asks for the embedded broker by name, so that it starts on any listener and with tokens.",
    ),
    key(
        "kafka.embedded_max_bytes",
        ValueKind::Total(|s| &mut s.kafka.embedded_max_bytes, (MIB, TIB)),
        "The most the embedded broker keeps in memory, in bytes; above it writes are refused.",
    ),
    key(
        "kafka.auto_create_topics",
        ValueKind::Maybe(|s| &mut s.kafka.auto_create_topics),
        "Whether a topic is created when it is first written to or subscribed to by someone who may produce \
         to it or create it: consume alone creates nothing. Never one whose name begins with __: these \
         belong to Kafka and its tools.",
    )
    .when_unset("only on the embedded broker", "false"),
    key(
        "kafka.identity",
        ValueKind::Identity(|s| &mut s.kafka.identity),
        "As whom the gateway works with Kafka. \"gateway\": as one user, its own, whoever asks. \"passthrough\": as whoever asks, with the token that was shown, so that Kafka's ACLs, quotas and logs see the person; needs auth.mode = \"jwt\" and OAUTHBEARER in kafka.properties.",
    ),
    key(
        "kafka.identity_clients",
        ValueKind::Count(|s| &mut s.kafka.identity_clients, (1, 100_000)),
        "With identity = \"passthrough\", how many principals have Kafka clients at once. Beyond it those that are not in use are closed, and where all are, one more principal gets a 503.",
    ),
    key(
        "kafka.identity_idle_ms",
        ValueKind::Millis(|s| &mut s.kafka.identity_idle, (1_000, 86_400_000)),
        "With identity = \"passthrough\", how long the Kafka clients of a principal are kept that nobody uses, in milliseconds.",
    ),
    key(
        "kafka.principal_header",
        ValueKind::Name(|s| &mut s.kafka.principal_header),
        "The name of a header that the gateway puts on every record that it writes, with who wrote it: {\"known_by\":…,\"issuer\":…,\"principal\":…}, as in the audit log. Records of clients that have a header of this name, or of this name behind original-, in whatever case, are refused.",
    )
    .when_unset("no header is added", "\"written-by\""),
    key(
        "kafka.metadata_timeout_ms",
        ValueKind::Millis(|s| &mut s.kafka.metadata_timeout, (1, 300_000)),
        "Longest wait for Kafka's answer about topics, offsets and the like, in milliseconds.",
    ),
    key(
        "kafka.group_engine",
        ValueKind::Engine(|s| &mut s.kafka.group_engine),
        "How sessions are members of consumer groups. \"native\": by the protocol of KIP-848, which Kafka has since 4.0. \"classic\": by the one before it, not available yet. \"auto\": native where the broker offers it; elsewhere joining a group is refused.",
    ),
    key(
        "kafka.properties",
        ValueKind::Properties(|s| &mut s.kafka.properties),
        "librdkafka properties for every client: TLS, SASL and tuning.",
    )
    .example("\"security.protocol\" = \"SASL_SSL\""),
    key(
        "kafka.producer",
        ValueKind::Properties(|s| &mut s.kafka.producer),
        "librdkafka properties for producers only; they win over kafka.properties.",
    )
    .example("\"linger.ms\" = 5"),
    key(
        "kafka.consumer",
        ValueKind::Properties(|s| &mut s.kafka.consumer),
        "librdkafka properties for readers only; they win over kafka.properties.",
    )
    .example("\"fetch.min.bytes\" = 1"),
    key(
        "kafka.admin",
        ValueKind::Properties(|s| &mut s.kafka.admin),
        "librdkafka properties for administration only; they win over kafka.properties.",
    )
    .example("\"client.id\" = \"tidegate-admin\""),
    key(
        "websocket.own_connections",
        ValueKind::Count(|s| &mut s.websocket.own_connections, (0, 1_000_000)),
        "How many group members have connections to Kafka of their own, about 105 KiB each. Those beyond share them by four, about 45 KiB each, and wait for each other's fetches: a record may come later by up to three times fetch.wait.max.ms, which counts as 500 ms at most.",
    ),
    key(
        "websocket.max_message_bytes",
        ValueKind::Size(|s| &mut s.websocket.max_message_bytes, (1 << 10, 512 * MIB)),
        "Largest frame that a client may send, in bytes; a larger one ends its session with code 1009. One frame may write several records.",
    ),
    key(
        "websocket.hello_timeout_ms",
        ValueKind::Millis(|s| &mut s.websocket.hello_timeout, (100, 600_000)),
        "How long a client that showed no credentials when it connected may take to send them in its hello, in milliseconds.",
    ),
    key(
        "websocket.idle_timeout_ms",
        ValueKind::Millis(|s| &mut s.websocket.idle_timeout, (1_000, 86_400_000)),
        "How long a session without a subscription may send nothing, in milliseconds.",
    ),
    key(
        "websocket.ping_interval_ms",
        ValueKind::Millis(|s| &mut s.websocket.ping_interval, (1_000, 600_000)),
        "How long a client may be silent before it is pinged, in milliseconds; after twice this it is given up. Proxies close what is silent for longer than they like, often 60 s.",
    ),
    key(
        "websocket.slow_timeout_ms",
        ValueKind::Millis(|s| &mut s.websocket.slow_timeout, (1_000, 600_000)),
        "How long a client may read nothing while something waits for it, in milliseconds; then its connection is reset.",
    ),
    key(
        "websocket.revoke_grace_ms",
        ValueKind::Millis(|s| &mut s.websocket.revoke_grace, (0, 10_000)),
        "How long a partition that is taken away waits for acknowledgements, in milliseconds, unless the client says otherwise. The group waits with it.",
    ),
    key(
        "websocket.outbound_bytes",
        ValueKind::Size(|s| &mut s.websocket.outbound_bytes, (64 << 10, 64 * MIB)),
        "Most bytes of records on their way to one client before it has taken them.",
    ),
    key(
        "websocket.max_inflight_records",
        ValueKind::Count(|s| &mut s.websocket.max_inflight_records, (1, 1_000_000)),
        "Most records of one session that are delivered and not acknowledged, whatever its flow asks for.",
    ),
    key(
        "websocket.max_inflight_bytes",
        ValueKind::Size(|s| &mut s.websocket.max_inflight_bytes, (1 << 10, 1024 * MIB)),
        "The same in bytes of keys, values and headers.",
    ),
    key(
        "websocket.max_gap",
        ValueKind::Count(|s| &mut s.websocket.max_gap, (1, 10_000_000)),
        "Most offsets from the first record of a partition that is not acknowledged to the last one delivered; beyond it the partition waits.",
    ),
    key(
        "websocket.max_delayed",
        ValueKind::Count(|s| &mut s.websocket.max_delayed, (1, 1_000_000)),
        "Most records of one session that wait to come again before nothing new is delivered to it.",
    ),
    key(
        "websocket.dead_letter_topic",
        ValueKind::Template(|s| &mut s.websocket.dead_letter_topic),
        "Where records go that were delivered too often, unless the client says otherwise; {topic} is the record's own topic.",
    ),
    key(
        "streams.ring_bytes",
        ValueKind::Size(|s| &mut s.streams.ring_bytes, (64 << 10, 64 * 1024 * MIB)),
        "Most bytes of one topic's records that are kept for its readers. A reader that falls further behind reads from Kafka by itself until it has caught up.",
    ),
    key(
        "streams.ring_age_ms",
        ValueKind::Millis(|s| &mut s.streams.ring_age, (1_000, 86_400_000)),
        "How long they are kept, in milliseconds.",
    ),
    key(
        "streams.ring_total_bytes",
        ValueKind::Size(|s| &mut s.streams.ring_total_bytes, (64 << 10, 1024 * 1024 * MIB)),
        "Most bytes of all topics' records that are kept together. Above it, topics without readers are dropped first.",
    ),
    key(
        "streams.catchup_readers",
        ValueKind::Count(|s| &mut s.streams.catchup_readers, (1, 256)),
        "Most reads at once for readers that are not in the ring: those that begin at the beginning, and those that fell behind.",
    ),
    key(
        "streams.catchup_bytes",
        ValueKind::Size(|s| &mut s.streams.catchup_bytes, (2 << 20, 64 * 1024 * MIB)),
        "Most bytes of what was read for them and has not been sent yet. Above it, what was not asked for the longest time is dropped, and read again when it is needed.",
    ),
    key(
        "streams.heartbeat_s",
        ValueKind::Seconds(|s| &mut s.streams.heartbeat, (5, 60)),
        "Silence after which a stream sends a sign of life, in seconds, unless the client says otherwise.",
    ),
    key(
        "streams.keyed_topics",
        ValueKind::KeyedTopics(|s| &mut s.streams.keyed_topics),
        "Topics in which every record with a key lies in the partition that a hash of the key says, a table for each pattern: of these, who reads one key reads one partition. partitioner: \"murmur2\" (Java's clients, and the gateway) or \"crc32\" (librdkafka's consistent). Leave out topics to which partitions were added, or whose writers choose partitions themselves: older records of a key would not be found.",
    )
    .when_unset(
        "all partitions are read",
        "topic = \"orders\"\npartitioner = \"murmur2\"",
    ),
    key(
        "rest.consumer_request_timeout_ms",
        ValueKind::Millis(|s| &mut s.rest.consumer_request_timeout, (1, 600_000)),
        "Longest wait of one read for records to come, in milliseconds, unless the instance was made with consumer.request.timeout.ms. A read returns as soon as it has some.",
    ),
    key(
        "rest.consumer_request_max_bytes",
        ValueKind::Size(|s| &mut s.rest.consumer_request_max_bytes, (1, GIB)),
        "Most bytes of keys and values that one read gives; one record always comes, whatever its size.",
    ),
    key(
        "rest.consumer_instance_timeout_ms",
        ValueKind::Millis(|s| &mut s.rest.consumer_instance_timeout, (100, DAY_MS)),
        "How long an instance may go without a request, in milliseconds, before it leaves its group and is gone.",
    ),
    key(
        "rest.instance_id",
        ValueKind::Name(|s| &mut s.rest.instance_id),
        "Stands in the names that this process gives to instances (rest-consumer-ID-…), so that a proxy can tell from a name which process has it. Each process needs its own.",
    )
    .when_unset("names have no such part", "\"gw-1\""),
    key(
        "rest.record_headers",
        ValueKind::Headers(|s| &mut s.rest.record_headers),
        "How a read writes the headers of records: \"pairs\" ([\"name\", \"text\"]), or objects with base64 for clients written for another gateway: \"name_value\" (Karapace) or \"key_value\" (Strimzi's bridge), where records without headers have no such field. Records that are written may have their headers in any of these forms.",
    ),
    key(
        "schema.folder",
        ValueKind::Path(|s| &mut s.schema.folder),
        "A folder with JSON Schemas: TOPIC-value.json and TOPIC-key.json are those of a topic's values and keys, and other .json files what these refer to. They are read again when they change.",
    )
    .when_unset("no schemas", "\"schemas\""),
    key(
        "schema.default_key",
        ValueKind::Schema(|s| &mut s.schema.default_key),
        "What becomes of keys, in topics of which schema.topics says nothing. \"off\": they are not looked at. \"check\": they must be JSON that is valid by the topic's schema, and a topic without a schema takes no key. \"check_if_present\": the same where the topic has a schema; elsewhere they are not looked at.",
    ),
    key(
        "schema.default_value",
        ValueKind::Schema(|s| &mut s.schema.default_value),
        "The same of values.",
    ),
    key(
        "schema.topics",
        ValueKind::TopicSchemas(|s| &mut s.schema.topics),
        "What becomes of the keys and values of topics, a table for each pattern of topics; the first that matches a topic holds. key and value: as schema.default_key and schema.default_value, which hold where one is left out.",
    )
    .when_unset(
        "all topics are treated as the defaults say",
        "topic = \"orders\"\nvalue = \"check\"",
    ),
    key(
        "auth.mode",
        ValueKind::Auth(|s| &mut s.auth.mode),
        "\"none\": whoever can connect may do everything. It holds unasked only while every public listener is on loopback; on any other address it must be written here. \"jwt\": whoever connects needs a token of one of auth.issuers, a client certificate or, with auth.users_file, a password or an API key. \"users\": the same without tokens.",
    )
    .when_unset("\"none\" on loopback only", "\"jwt\""),
    key(
        "auth.leeway_s",
        ValueKind::Seconds(|s| &mut s.auth.leeway, (0, 3600)),
        "How far the clocks of issuers and the gateway may differ, in seconds.",
    ),
    key(
        "auth.jwks_max_age_s",
        ValueKind::Seconds(|s| &mut s.auth.jwks_max_age, (1, WEEK_S)),
        "How long the last keys that were fetched from an issuer are good, in seconds, while the issuer cannot be reached or does not answer with a key set. After that its tokens are answered with 503 until it does.",
    ),
    key(
        "auth.permissions_claim",
        ValueKind::Claim(|s| &mut s.auth.permissions_claim),
        "A claim of tokens, or a path of claims with dots, that lists permissions. They count beside those of the claim scope.",
    )
    .example("\"permissions\""),
    key(
        "auth.certificate_realm",
        ValueKind::Name(|s| &mut s.auth.certificate_realm),
        "Makes the subjects of client certificates the same principals as those of issuers with this realm. Without it nobody known by a certificate is one known by a token, whatever the names.",
    )
    .example("\"staff\""),
    key(
        "auth.roles_claim",
        ValueKind::Claim(|s| &mut s.auth.roles_claim),
        "A claim of tokens, or a path of claims with dots, that lists names of auth.roles.",
    )
    .example("\"realm_access.roles\""),
    key(
        "auth.allow_query_token",
        ValueKind::Switch(|s| &mut s.auth.allow_query_token),
        "Whether a token in the query (?access_token=) is accepted. Such URLs end up in histories and logs: a ticket of POST /tickets serves browsers better.",
    ),
    key(
        "auth.users_file",
        ValueKind::Path(|s| &mut s.auth.users_file),
        "A file with a line for each user and each API key: name:hash:roles, the hash as htpasswd -B or tidegate user prints it, or as tidegate key does; the roles those of auth.roles, or permissions, between commas. It is read again when it changes.",
    )
    .when_unset("no passwords and no API keys", "\"users\""),
    key(
        "auth.ticket_key_file",
        ValueKind::Path(|s| &mut s.auth.ticket_key_file),
        "A file with the secret that signs tickets, at least 32 bytes: the same for all processes behind one address.",
    )
    .when_unset("a random one for each process", "\"ticket.key\""),
    key(
        "auth.sse_ticket_ttl_s",
        ValueKind::Seconds(|s| &mut s.auth.sse_ticket_ttl, (1, WEEK_S)),
        "How long a ticket for event streams lasts, in seconds.",
    ),
    key(
        "auth.issuers",
        ValueKind::Issuers(|s| &mut s.auth.issuers),
        "Whose tokens are accepted, a table for each. issuer: their iss. realm: issuers with the same one give a subject to the same principal; without it only one issuer's subjects are. audience: one or several, of which their aud must have one. permissions_allowed: a list of permissions; its tokens may do no more than these also allow, whatever they say. scope: whether the words of their scope count as permissions (true). principal_claim: the claim, or path of claims, that names the principal (sub). typ: the type that the header of its tokens must name, such as at+jwt. algorithms: what they may be signed with. And one of secret_file (a shared secret of at least 32 bytes), key_file (a public key in PEM) and jwks_url (a JWK set); with none of them the keys are found by OpenID Connect Discovery, for which issuer is an https URL.",
    )
    .when_unset(
        "no token is accepted",
        "issuer = \"https://id.example\"\naudience = \"tidegate\"\njwks_url = \"https://id.example/jwks.json\"",
    ),
    key(
        "auth.topic_filters",
        ValueKind::TopicFilters(|s| &mut s.auth.topic_filters),
        "Which records of topics are shown to whom, a table for each pattern of topics, over every door that reads, beside what clients ask for. One or several of key, key_prefix, header.NAME and where, in which {claim} is a claim of the token: all must hold, and so must all tables that match a topic. Who lacks a claim sees nothing; admin sees everything.",
    )
    .when_unset(
        "all records of a topic that may be read",
        "topic = \"orders\"\nkey = \"{sub}\"",
    ),
    key(
        "auth.roles",
        ValueKind::Roles(|s| &mut s.auth.roles),
        "Roles and what each may do: names, each with a list of permissions (action:pattern).",
    )
    .example("reader = [\"consume:*\", \"group:{sub}-*\"]"),
    key(
        "limits.record_bytes",
        // Kafka's own sizes are 32 bits wide, and a request may carry several records.
        ValueKind::Size(|s| &mut s.limits.record_bytes, (1, 512 * MIB)),
        "Largest record (key, value and headers together), in bytes; not above http.max_body_bytes.",
    ),
    key(
        "limits.records_per_request",
        ValueKind::Count(|s| &mut s.limits.records_per_request, (1, 1_000_000)),
        "Most records that one request may write.",
    ),
    key(
        "limits.connections",
        ValueKind::Count(|s| &mut s.limits.connections, (1, 1_000_000)),
        "Most open connections on the public listeners.",
    ),
    key(
        "limits.connections_per_address",
        ValueKind::Count(|s| &mut s.limits.connections_per_address, (1, 1_000_000)),
        "Most of these from one address.",
    ),
    key(
        "limits.group_sessions",
        ValueKind::Count(|s| &mut s.limits.group_sessions, (1, 1_000_000)),
        "Most WebSocket sessions at once. Each needs an open file, and a group member 36 to 84 KiB.",
    ),
    key(
        "limits.sessions_per_principal",
        ValueKind::Count(|s| &mut s.limits.sessions_per_principal, (1, 1_000_000)),
        "Most of these of one principal; without authentication there is no such limit.",
    ),
    key(
        "limits.unknown_sessions",
        ValueKind::Count(|s| &mut s.limits.unknown_sessions, (1, 1_000_000)),
        "Most WebSocket connections at once whose client has not said yet who it is, and may until websocket.hello_timeout_ms. They take no place of limits.group_sessions, and their frames are at most 16 KiB. One address has a quarter of these places at the most, or 8 if that is more.",
    ),
    key(
        "limits.instances",
        ValueKind::Count(|s| &mut s.limits.instances, (1, 1_000_000)),
        "Most consumer instances of the REST API at once. One that has subscribed is a group member, as sessions are.",
    ),
    key(
        "limits.instances_per_principal",
        ValueKind::Count(|s| &mut s.limits.instances_per_principal, (1, 1_000_000)),
        "Most of these of one principal; without authentication there is no such limit.",
    ),
    key(
        "limits.tails",
        ValueKind::Count(|s| &mut s.limits.tails, (1, 1_000_000)),
        "Most streams of records at once: NDJSON, SSE, and tails of WebSocket sessions.",
    ),
    key(
        "limits.tails_per_principal",
        ValueKind::Count(|s| &mut s.limits.tails_per_principal, (1, 1_000_000)),
        "Most of these of one principal; without authentication there is no such limit.",
    ),
    key(
        "limits.body_total_bytes",
        ValueKind::Total(|s| &mut s.limits.body_total_bytes, (1 << 20, TIB)),
        "Most bytes of request bodies that wait in memory, of all requests together; above it 503. At least http.max_body_bytes. One principal has half of it at the most, or http.max_body_bytes if that is more; above it 429.",
    ),
    key(
        "limits.buffer_total_bytes",
        ValueKind::Total(|s| &mut s.limits.buffer_total_bytes, (1 << 20, TIB)),
        "Most bytes of records that all sessions, and all consumer instances of the REST API, keep together. Near it the windows of sessions shrink and instances read less ahead; above it no session begins.",
    ),
    key(
        "limits.requests_per_second",
        ValueKind::Rate(|s| &mut s.limits.requests_per_second, (0, 1_000_000)),
        "Most requests a second of one principal, or of one address where there is none; above it 429. 0 is no limit.",
    ),
    key(
        "limits.bytes_per_second",
        ValueKind::Total(|s| &mut s.limits.bytes_per_second, (0, TIB)),
        "Most bytes a second of request bodies, as they are unpacked, counted in the same way. 0 is no limit.",
    ),
    key(
        "limits.refused_per_second",
        ValueKind::Rate(|s| &mut s.limits.refused_per_second, (0, 1_000_000)),
        "Most requests a second of one address that are refused for their token (401), their rights (403) or a path that does not exist (404); above it 429, without a look at tokens that were not verified before. 0 is no limit.",
    ),
    key(
        "telemetry.log_level",
        ValueKind::Filter(|s| &mut s.telemetry.log_level),
        "error, warn, info, debug, trace or off; or by module, as in \"tidegate=debug,info\".",
    ),
    key(
        "telemetry.log_format",
        ValueKind::Format(|s| &mut s.telemetry.log_format),
        "\"text\", \"json\", or \"auto\": text on a terminal, JSON otherwise.",
    ),
    key(
        "telemetry.access_log",
        ValueKind::Switch(|s| &mut s.telemetry.access_log),
        "Whether every request is logged, one line each.",
    ),
    key(
        "telemetry.audit",
        ValueKind::Audit(|s| &mut s.telemetry.audit),
        "Where to write who was let do what, one JSON object a line: \"stderr\", or a file, which is appended to and opened anew when it was moved away.",
    ),
    key(
        "telemetry.audit_required",
        ValueKind::Switch(|s| &mut s.telemetry.audit_required),
        "Whether nothing is allowed (503) while the audit log cannot be written, rather than its lines lost.",
    ),
    key(
        "telemetry.audit_authentication",
        ValueKind::Switch(|s| &mut s.telemetry.audit_authentication),
        "Whether each request whose token, ticket or certificate is valid has a line of its own in the audit log.",
    ),
];

/// Whether there is such a setting. Not true of what stands in a table that takes any name.
pub fn is_setting(path: &str) -> bool {
    find(path).is_some()
}

/// The variable that sets what is at this path: a setting, or a librdkafka property by its table and
/// name. `None` when no variable does.
pub fn variable_of(path: &str) -> Option<String> {
    if let Some(key) = find(path) {
        return Some(key.variable());
    }
    let (key, name) = find_entry(path)?;
    // Underscores would be read as dots, capitals as small letters.
    let sane = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.';
    let can = matches!(key.kind, ValueKind::Properties(_)) && name.chars().all(sane);
    let name = name.to_ascii_uppercase().replace('.', "_");
    can.then(|| format!("{}__{name}", key.variable()))
}

/// The key at exactly this path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The open table that the path reaches into, and the entry's name.
pub(super) fn find_entry(path: &str) -> Option<(&'static Key, &str)> {
    KEYS.iter().filter(|key| key.is_open()).find_map(|key| {
        let name = path.strip_prefix(key.path)?.strip_prefix('.')?;
        Some((key, name))
    })
}

/// True for a table that holds keys (not for an open one, which is a key itself).
pub(super) fn is_table(path: &str) -> bool {
    TABLES.iter().any(|(table, _)| *table == path)
}

/// The known path that a mistyped one most likely meant.
pub(super) fn nearest(path: &str) -> Option<&'static str> {
    // A list is set as a whole, whatever of it was meant.
    let into_list = |key: &&Key| {
        let rest = path.strip_prefix(key.path);
        key.is_list_of_tables() && rest.is_some_and(|rest| rest.starts_with(['.', '[']))
    };
    if let Some(key) = KEYS.iter().find(into_list) {
        return Some(key.path);
    }
    let tables = TABLES.iter().map(|(table, _)| *table);
    let keys = KEYS.iter().map(|key| key.path);
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    tables
        .filter(|table| !table.is_empty())
        .chain(keys)
        .map(|known| {
            let mut distance = strsim::damerau_levenshtein(path, known);
            // The right name in the wrong table is a likelier slip than any misspelling.
            if last(path) == last(known) {
                distance = distance.min(1);
            }
            (distance, known)
        })
        .min_by_key(|(distance, _)| *distance)
        // Past a third of its letters a guess would only mislead.
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3).min(5))
        .map(|(_, known)| known)
}
