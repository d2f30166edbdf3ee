//! Typed settings. They are gathered once, before anything listens: built-in defaults, then the
//! file, then the environment, then flags; each value remembers which of these set it.
//!
//! - `mod.rs`: the types that the rest of the gateway reads
//! - `schema.rs`: one table of every key; a new setting is a field here and a row there
//! - `value.rs`: text and TOML to typed values and back
//! - `address.rs`: `host:port`
//! - `item_types.rs`: networks, hosts, origins, routes, claims
//! - `permission.rs`: `action:pattern`
//! - `properties.rs`: librdkafka's properties, some of which are secrets
//! - `tables.rs`: lists of tables; `issuers.rs`: `[[auth.issuers]]`; `topics.rs`: `[[auth.topic_filters]]`
//!   and `[[streams.keyed_topics]]`; `topic_schemas.rs`: `[schema]`; `jwks_url.rs`: where keys may come from
//! - `files.rs`: files that settings name
//! - `load.rs`: the layers, merged, with the source of each value
//! - `validate.rs`: what must hold between settings before anything listens
//! - `warnings.rs`: what is allowed and seldom meant
//! - `take_over.rs`: what may change while the gateway runs
//! - `sample.rs`, `show.rs`: the sample file and `config show`

pub mod address;
mod files;
mod issuers;
mod item_types;
mod jwks_url;
mod load;
mod permission;
mod properties;
mod sample;
mod schema;
mod secrets;
mod show;
mod tables;
mod take_over;
mod topic_schemas;
mod topics;
mod validate;
mod value;
mod warnings;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonwebtoken::Algorithm;

pub use self::files::{read_file, read_secret};
pub use self::item_types::read_network;
pub use self::jwks_url::{discovery_url, jwks_url};
pub use self::load::{
    ConfigError, Inputs, Loaded, Reading, Source, load, read, read_text, settings_file,
};
pub use self::permission::{Action, PermissionError, read_permission};
pub use self::properties::Properties;
pub use self::sample::sample;
pub use self::schema::{is_setting, variable_of};
pub use self::show::{is_secret_property, show};
pub use self::topic_schemas::{SchemaMode, SchemaSettings, TopicSchemaSettings};
pub use self::value::quote;

/// Everything that can be set. One field per table of the settings file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// Addresses of the public listener.
    pub server: ServerSettings,
    /// What bounds one HTTP request.
    pub http: HttpSettings,
    /// How to reach Kafka.
    pub kafka: KafkaSettings,
    /// TLS of our own listeners.
    pub tls: TlsSettings,
    /// Schemas that records are checked by.
    pub schema: SchemaSettings,
    /// Who may connect.
    pub auth: AuthSettings,
    /// Sessions on a socket.
    pub websocket: WebSocketSettings,
    /// Streams of records from shared reads.
    pub streams: StreamSettings,
    /// The REST API that is compatible with others.
    pub rest: RestSettings,
    /// Bounds on what clients may send or ask for.
    pub limits: LimitSettings,
    /// Logs.
    pub telemetry: TelemetrySettings,
}

/// The top-level keys and `[management]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerSettings {
    /// `listen`: addresses as `host:port`; port 0 picks a free one.
    pub listen: Vec<String>,
    /// `advertised_url`: how clients reach this process, without a slash at its end.
    pub advertised_url: Option<String>,
    /// `management.listen`; `None` when it is "off".
    pub management_listen: Option<String>,
    /// `shutdown_grace_ms`: how long requests under way may go on after SIGTERM.
    pub shutdown_grace: Duration,
}

/// `[http]`.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpSettings {
    /// `max_body_bytes`: largest body that is read whole.
    pub max_body_bytes: usize,
    /// `request_timeout_ms`: longest time for a request to arrive, headers and body.
    pub request_timeout: Duration,
    /// `max_header_bytes`: largest request head.
    pub max_header_bytes: usize,
    /// `trusted_proxies`: addresses or networks (CIDR) whose `Forwarded` and `X-Forwarded-For` are
    /// believed.
    pub trusted_proxies: Vec<String>,
    /// `allowed_hosts`: names by which a gateway without authentication may be called, beside those that
    /// nobody can register.
    pub allowed_hosts: Vec<String>,
    /// `cors.origins`: origins of pages that may call us, exactly as browsers send them.
    pub cors_origins: Vec<String>,
    /// `allow`: patterns of the routes that are offered, as `METHOD /path`; none is all.
    pub allow: Vec<String>,
    /// `block`: patterns of routes that are not offered.
    pub block: Vec<String>,
    /// `health_paths`: health is told on the public listeners too.
    pub health_paths: bool,
}

/// `[kafka]`. Its `Debug` form masks secret properties, so that it may be logged.
#[derive(Debug, Clone, PartialEq)]
pub struct KafkaSettings {
    /// `bootstrap_servers`: `host:port` list separated by commas; empty means the embedded broker.
    pub bootstrap_servers: String,
    /// `embedded`: the embedded broker was asked for by name.
    pub embedded: bool,
    /// `embedded_max_bytes`: cap on what the embedded broker keeps in memory.
    pub embedded_max_bytes: u64,
    /// `auto_create_topics`; `None` means: only on the embedded broker.
    pub auto_create_topics: Option<bool>,
    /// `identity`: as whom the gateway works with Kafka.
    pub identity: KafkaIdentity,
    /// `identity_clients`: how many principals have Kafka clients of their own at once.
    pub identity_clients: usize,
    /// `identity_idle_ms`: how long those are kept that nobody uses.
    pub identity_idle: Duration,
    /// `principal_header`: the header that says who wrote a record; `None`: none does.
    pub principal_header: Option<String>,
    /// `metadata_timeout_ms`: longest wait for an answer about topics, offsets and the like.
    pub metadata_timeout: Duration,
    /// `group_engine`: how sessions are members of consumer groups.
    pub group_engine: GroupEngine,
    /// `[kafka.properties]`: librdkafka names for every client.
    pub properties: Properties,
    /// `[kafka.producer]`: the same for producers only.
    pub producer: Properties,
    /// `[kafka.consumer]`: the same for readers only.
    pub consumer: Properties,
    /// `[kafka.admin]`: the same for administration only.
    pub admin: Properties,
}

impl KafkaSettings {
    /// True when the in-process broker stands in for a cluster.
    pub fn uses_embedded(&self) -> bool {
        self.bootstrap_servers.is_empty()
    }

    /// Whether a topic that is named for the first time is created: as set, else only on the
    /// embedded broker.
    pub fn creates_topics(&self) -> bool {
        self.auto_create_topics.unwrap_or(self.uses_embedded())
    }

    /// The four property tables with the paths of their keys.
    pub fn property_tables(&self) -> [(&'static str, &Properties); 4] {
        [
            ("kafka.properties", &self.properties),
            ("kafka.producer", &self.producer),
            ("kafka.consumer", &self.consumer),
            ("kafka.admin", &self.admin),
        ]
    }
}

/// `kafka.identity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KafkaIdentity {
    /// As the gateway's own user, whoever asks.
    #[default]
    Gateway,
    /// As the principal that asks, with the token that it showed.
    Passthrough,
}

impl KafkaIdentity {
    /// Each by its name in the settings.
    pub const NAMES: [(&'static str, Self); 2] = [
        ("gateway", Self::Gateway),
        ("passthrough", Self::Passthrough),
    ];
}

/// `kafka.group_engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupEngine {
    /// Native where the broker offers it.
    #[default]
    Auto,
    /// KIP-848, by krafka.
    Native,
    /// The protocol before it, by librdkafka.
    Classic,
}

impl GroupEngine {
    /// Every engine by its name in the settings.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("auto", Self::Auto),
        ("native", Self::Native),
        ("classic", Self::Classic),
    ];
}

/// `[websocket]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketSettings {
    /// `own_connections`: how many group members have connections to Kafka of their own.
    pub own_connections: usize,
    /// `max_message_bytes`: largest frame of a client.
    pub max_message_bytes: usize,
    /// `hello_timeout_ms`.
    pub hello_timeout: Duration,
    /// `idle_timeout_ms`: of a session without a subscription.
    pub idle_timeout: Duration,
    /// `ping_interval_ms`: silence of the client before it is pinged.
    pub ping_interval: Duration,
    /// `slow_timeout_ms`: how long a client may read nothing while something waits.
    pub slow_timeout: Duration,
    /// `revoke_grace_ms`.
    pub revoke_grace: Duration,
    /// `outbound_bytes`: records on their way to one client.
    pub outbound_bytes: usize,
    /// `max_inflight_records`.
    pub max_inflight_records: usize,
    /// `max_inflight_bytes`.
    pub max_inflight_bytes: usize,
    /// `max_gap`, in offsets.
    pub max_gap: usize,
    /// `max_delayed`: records that wait to come again.
    pub max_delayed: usize,
    /// `dead_letter_topic`, with `{topic}` for the record's own.
    pub dead_letter_topic: String,
}

impl Default for WebSocketSettings {
    fn default() -> Self {
        Self {
            own_connections: 1_000,
            max_message_bytes: 2 << 20,
            hello_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(300),
            ping_interval: Duration::from_secs(20),
            slow_timeout: Duration::from_secs(30),
            revoke_grace: Duration::from_secs(1),
            outbound_bytes: 1 << 20,
            max_inflight_records: 10_000,
            max_inflight_bytes: 32 << 20,
            max_gap: 10_000,
            max_delayed: 1_000,
            dead_letter_topic: "{topic}.dlq".to_owned(),
        }
    }
}

/// `[streams]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSettings {
    /// `ring_bytes`: what is kept of one topic for its readers.
    pub ring_bytes: usize,
    /// `ring_age_ms`: how long it is kept.
    pub ring_age: Duration,
    /// `ring_total_bytes`: what is kept of all topics together.
    pub ring_total_bytes: usize,
    /// `catchup_readers`: reads of what is not kept, at once.
    pub catchup_readers: usize,
    /// `catchup_bytes`: what these have read and readers have not taken yet.
    pub catchup_bytes: usize,
    /// `heartbeat_s`: silence after which a stream shows that it is alive.
    pub heartbeat: Duration,
    /// `[[streams.keyed_topics]]`: topics in which a key has its partition.
    pub keyed_topics: Vec<KeyedTopicSettings>,
}

/// One entry of `[[streams.keyed_topics]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedTopicSettings {
    /// `topic`: a pattern of names.
    pub topic: String,
    /// `partitioner`: how a key's partition is found.
    pub partitioner: Partitioner,
}

/// How the partition of a record with a key is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Partitioner {
    /// By murmur2, as Java's clients and the gateway do.
    #[default]
    Murmur2,
    /// By CRC-32, as librdkafka's `consistent` and `consistent_random` do.
    Crc32,
}

impl Partitioner {
    /// Every partitioner by its name in the settings.
    pub const NAMES: [(&'static str, Self); 2] =
        [("murmur2", Self::Murmur2), ("crc32", Self::Crc32)];
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            ring_bytes: 64 << 20,
            ring_age: Duration::from_secs(600),
            ring_total_bytes: 512 << 20,
            catchup_readers: 32,
            catchup_bytes: 64 << 20,
            heartbeat: Duration::from_secs(15),
            keyed_topics: Vec::new(),
        }
    }
}

/// `[rest]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestSettings {
    /// `consumer_request_timeout_ms`: longest wait of one read of a consumer instance.
    pub consumer_request_timeout: Duration,
    /// `consumer_request_max_bytes`: most bytes of keys and values that one such read gives.
    pub consumer_request_max_bytes: usize,
    /// `consumer_instance_timeout_ms`: idle time after which an instance is gone.
    pub consumer_instance_timeout: Duration,
    /// `instance_id`: stands in the names that this process gives to instances.
    pub instance_id: Option<String>,
    /// `record_headers`: how the headers of records are written that an instance reads.
    pub record_headers: HeaderForm,
}

/// `rest.record_headers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeaderForm {
    /// `["name", "text"]`, of each record.
    #[default]
    Pairs,
    /// `{"name": …, "value": base64}`, of records that have some: as Karapace.
    NameValue,
    /// `{"key": …, "value": base64}`, of records that have some: as Strimzi's bridge.
    KeyValue,
}

impl HeaderForm {
    /// Every form by its name in the settings.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("pairs", Self::Pairs),
        ("name_value", Self::NameValue),
        ("key_value", Self::KeyValue),
    ];
}

impl Default for RestSettings {
    fn default() -> Self {
        Self {
            consumer_request_timeout: Duration::from_secs(1),
            consumer_request_max_bytes: 64 << 20,
            consumer_instance_timeout: Duration::from_secs(300),
            instance_id: None,
            record_headers: HeaderForm::Pairs,
        }
    }
}

/// `[auth]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// `mode`.
    pub mode: AuthMode,
    /// `[[auth.issuers]]`: whose tokens are accepted.
    pub issuers: Vec<IssuerSettings>,
    /// `leeway_s`: how far clocks may differ.
    pub leeway: Duration,
    /// `jwks_max_age_s`: how long the keys of an issuer go on that cannot be asked any more.
    pub jwks_max_age: Duration,
    /// `permissions_claim`: a claim (a path with dots) with a list of permissions.
    pub permissions_claim: Option<String>,
    /// `certificate_realm`: makes the subjects of client certificates those of a realm.
    pub certificate_realm: Option<String>,
    /// `roles_claim`: a claim (a path with dots) with a list of role names.
    pub roles_claim: Option<String>,
    /// `[auth.roles]`: the permissions of each role.
    pub roles: BTreeMap<String, Vec<String>>,
    /// `allow_query_token`: whether `?access_token=` is accepted.
    pub allow_query_token: bool,
    /// `users_file`: names with passwords, and API keys.
    pub users_file: Option<PathBuf>,
    /// `ticket_key_file`: what tickets are signed with; `None` is a random key for this process.
    pub ticket_key_file: Option<PathBuf>,
    /// `sse_ticket_ttl_s`: how long a ticket for event streams lasts.
    pub sse_ticket_ttl: Duration,
    /// `[[auth.topic_filters]]`: which records are shown to whom.
    pub topic_filters: Vec<TopicFilterSettings>,
}

impl AuthSettings {
    /// The files that it names, whose contents may be read again while the gateway runs.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let of_issuers = self.issuers.iter().filter_map(|issuer| match &issuer.keys {
            KeySource::SecretFile(path) | KeySource::KeyFile(path) => Some(path),
            KeySource::JwksUrl(_) | KeySource::Discovered(_) => None,
        });
        of_issuers
            .chain(&self.ticket_key_file)
            .chain(&self.users_file)
            .map(PathBuf::as_path)
    }
}

/// One entry of `[[auth.topic_filters]]`. In all of it but `topic`, `{claim}` stands for a claim of the
/// token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicFilterSettings {
    /// `topic`: a pattern of names.
    pub topic: String,
    /// `key`: the whole key.
    pub key: Option<String>,
    /// `key_prefix`: how the key begins.
    pub key_prefix: Option<String>,
    /// `header.NAME`: one of the name has this value.
    pub headers: BTreeMap<String, String>,
    /// `where`: comparisons on the value.
    pub condition: Option<String>,
}

/// One entry of `[[auth.issuers]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// `issuer`: the `iss` of its tokens; `None` accepts any and none.
    pub issuer: Option<String>,
    /// `realm`: makes its subjects those of a realm, the same as everything else of it has.
    pub realm: Option<String>,
    /// `audience`: of which a token's `aud` must have one; empty accepts any and none.
    pub audience: Vec<String>,
    /// `permissions_allowed`: what its tokens may do at the most; `None` is whatever they say.
    pub permissions_allowed: Option<Vec<String>>,
    /// `scope`: whether the words of its tokens' `scope` count as permissions.
    pub scope: bool,
    /// `principal_claim`: the claim (a path with dots) that names the principal.
    pub principal_claim: String,
    /// `typ`: what the header of its tokens says of their type; `None` is whatever it says.
    pub typ: Option<String>,
    /// `algorithms`: which its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// One of `secret_file`, `key_file` and `jwks_url`, or none where `issuer` tells of its keys.
    pub keys: KeySource,
}

impl IssuerSettings {
    /// The claim that names the principal where nothing else is said.
    pub const SUBJECT: &str = "sub";
}

/// Where an issuer's keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// `secret_file`: a shared secret (HS256, HS384, HS512).
    SecretFile(PathBuf),
    /// `key_file`: a public key in PEM.
    KeyFile(PathBuf),
    /// `jwks_url`: a JWK set.
    JwksUrl(String),
    /// None of these: a JWK set, where the discovery document of this `issuer` says.
    Discovered(String),
}

/// `[tls]`: for both listeners.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// `cert`: the certificate chain in PEM; with `key`, the listeners speak TLS.
    pub cert: Option<PathBuf>,
    /// `key`: its private key in PEM.
    pub key: Option<PathBuf>,
    /// `client_ca`: authorities of client certificates; one that a client shows makes its principal.
    pub client_ca: Option<PathBuf>,
}

impl TlsSettings {
    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.cert, &self.key, &self.client_ca]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }
}

/// `auth.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthMode {
    /// Everyone is anonymous and may do everything.
    #[default]
    None,
    /// JSON Web Tokens, and what `users_file` has.
    Jwt,
    /// What `users_file` has, and no tokens.
    Users,
}

impl AuthMode {
    /// Every mode by its name in the settings.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("none", Self::None),
        ("jwt", Self::Jwt),
        ("users", Self::Users),
    ];
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitSettings {
    /// `record_bytes`: largest key + value + headers of one record.
    pub record_bytes: usize,
    /// `records_per_request`.
    pub records_per_request: usize,
    /// `connections`: open connections on the public listener.
    pub connections: usize,
    /// `connections_per_address`: of these, from one address.
    pub connections_per_address: usize,
    /// `group_sessions`: WebSocket sessions at once.
    pub group_sessions: usize,
    /// `sessions_per_principal`: of these, of one principal.
    pub sessions_per_principal: usize,
    /// `instances`: consumer instances of the REST API at once.
    pub instances: usize,
    /// `instances_per_principal`: of these, of one principal.
    pub instances_per_principal: usize,
    /// `tails`: streams of records at once.
    pub tails: usize,
    /// `tails_per_principal`: of these, of one principal.
    pub tails_per_principal: usize,
    /// `unknown_sessions`: WebSocket connections at once of which nobody knows yet whose they are.
    pub unknown_sessions: usize,
    /// `body_total_bytes`: bytes of request bodies that wait in memory.
    pub body_total_bytes: u64,
    /// `buffer_total_bytes`: bytes of records that all sessions and all consumer instances keep together.
    pub buffer_total_bytes: u64,
    /// `requests_per_second`: per principal, or per address where there is none; 0 is no limit.
    pub requests_per_second: u32,
    /// `bytes_per_second`: bytes of request bodies, counted in the same way; 0 is no limit.
    pub bytes_per_second: u64,
    /// `refused_per_second`: requests of one address that are refused; 0 is no limit.
    pub refused_per_second: u32,
}

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetrySettings {
    /// `log_level`: a `tracing` filter such as `info` or `tidegate=debug,info`.
    pub log_level: String,
    /// `log_format`.
    pub log_format: LogFormat,
    /// `access_log`: one line per request.
    pub access_log: bool,
    /// `audit`: one line per decision about who may do what.
    pub audit: AuditTo,
    /// `audit_required`: nothing is allowed that the audit log cannot tell.
    pub audit_required: bool,
    /// `audit_authentication`: a line for each request whose credential is valid, too.
    pub audit_authentication: bool,
}

/// `telemetry.audit`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AuditTo {
    /// "off": there is none.
    #[default]
    Off,
    /// "stderr": between the log's lines.
    Stderr,
    /// A file that is appended to.
    File(PathBuf),
}

/// `telemetry.log_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Every format by its name in the settings.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("auto", Self::Auto),
        ("text", Self::Text),
        ("json", Self::Json),
    ];
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1:8082".into()],
            advertised_url: None,
            management_listen: Some("127.0.0.1:9082".into()),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            max_body_bytes: 8 << 20,
            request_timeout: Duration::from_secs(30),
            max_header_bytes: 16 << 10,
            trusted_proxies: Vec::new(),
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            allow: Vec::new(),
            block: Vec::new(),
            health_paths: false,
        }
    }
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            bootstrap_servers: String::new(),
            embedded: false,
            embedded_max_bytes: 64 << 20,
            auto_create_topics: None,
            identity: KafkaIdentity::Gateway,
            identity_clients: 100,
            identity_idle: Duration::from_secs(300),
            principal_header: None,
            metadata_timeout: Duration::from_secs(5),
            group_engine: GroupEngine::Auto,
            properties: Properties::new(),
            producer: Properties::new(),
            consumer: Properties::new(),
            admin: Properties::new(),
        }
    }
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            mode: AuthMode::None,
            issuers: Vec::new(),
            leeway: Duration::from_secs(30),
            jwks_max_age: Duration::from_secs(3600),
            permissions_claim: None,
            certificate_realm: None,
            roles_claim: None,
            roles: BTreeMap::new(),
            allow_query_token: false,
            users_file: None,
            ticket_key_file: None,
            sse_ticket_ttl: Duration::from_secs(3600),
            topic_filters: Vec::new(),
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            record_bytes: 1 << 20,
            records_per_request: 10_000,
            connections: 10_000,
            connections_per_address: 1_000,
            group_sessions: 10_000,
            sessions_per_principal: 100,
            instances: 1_000,
            instances_per_principal: 50,
            tails: 20_000,
            tails_per_principal: 1_000,
            unknown_sessions: 500,
            body_total_bytes: 256 << 20,
            buffer_total_bytes: 1 << 30,
            requests_per_second: 0,
            bytes_per_second: 0,
            refused_per_second: 100,
        }
    }
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            log_level: "info,krafka=error,krafka::network=off".into(),
            log_format: LogFormat::Auto,
            access_log: false,
            audit: AuditTo::Off,
            audit_required: false,
            audit_authentication: false,
        }
    }
}
