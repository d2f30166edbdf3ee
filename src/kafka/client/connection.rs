//! The properties that krafka understands, read into types: how to connect, and how readers fetch.

use std::collections::BTreeMap;
use std::time::Duration;

use krafka::auth::AuthConfig;
use krafka::{KafkaBuilder, MetadataRecoveryStrategy};

use super::oauth::Tokens;
use super::{Role, security};
use crate::config::KafkaSettings;

/// How long a TCP connection may take: long enough for two lost SYNs, short enough to try the
/// next broker within one request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// What is added to the long poll of a fetch before the broker is taken for dead. krafka's own
/// default of 30 s would leave a reader silent that long after a broker froze.
const FETCH_GRACE: Duration = Duration::from_secs(5);

/// Requests that may be under way on one connection, and the largest answer: krafka's defaults.
/// Their product is what one connection can hold in memory at worst.
const IN_FLIGHT: usize = 10;
const MAX_RESPONSE: usize = 100 << 20;

/// A property whose value cannot be used. Its message never shows a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The canonical name.
    pub property: String,
    /// Why, and what to do.
    pub message: String,
}

impl Problem {
    pub(super) fn new(property: &str, message: impl Into<String>) -> Self {
        Self {
            property: property.to_owned(),
            message: message.into(),
        }
    }
}

/// Merged properties with typed access; what cannot be read is collected in `problems`.
pub(super) struct Reader<'a> {
    properties: &'a BTreeMap<String, String>,
    /// Everything that could not be read so far.
    pub problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(properties: &'a BTreeMap<String, String>) -> Self {
        Self {
            properties,
            problems: Vec::new(),
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.properties
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub(super) fn problem(&mut self, name: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(name, message));
    }

    /// A whole number between `low` and `high`, the limits of librdkafka.
    fn number(&mut self, name: &str, low: i64, high: i64) -> Option<i64> {
        let text = self.text(name)?;
        match text.parse::<i64>() {
            Ok(number) if (low..=high).contains(&number) => Some(number),
            _ => {
                self.problem(
                    name,
                    format!("must be a whole number from {low} to {high}, not {text:?}"),
                );
                None
            }
        }
    }

    /// As `number`, in bytes.
    fn bytes(&mut self, name: &str, low: i64, high: i64) -> Option<usize> {
        self.number(name, low, high)
            .and_then(|number| usize::try_from(number).ok())
    }

    /// As `number`, in milliseconds.
    fn millis(&mut self, name: &str, low: i64, high: i64) -> Option<Duration> {
        self.number(name, low, high)
            .and_then(|number| u64::try_from(number).ok())
            .map(Duration::from_millis)
    }

    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        let text = self.text(name)?;
        match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Some(true),
            "false" | "f" | "0" => Some(false),
            _ => {
                self.problem(name, format!("must be true or false, not {text:?}"));
                None
            }
        }
    }
}

/// How readers fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderTuning {
    /// `fetch.wait.max.ms`: how long the broker holds a fetch that has nothing to return.
    pub fetch_max_wait: Duration,
    /// `fetch.min.bytes`: how much a fetch waits for.
    pub fetch_min_bytes: i32,
    /// `fetch.max.bytes`: most bytes of one fetch over all its partitions.
    pub fetch_max_bytes: i32,
    /// `max.partition.fetch.bytes`: most bytes of one fetch from one partition; a larger record
    /// still arrives.
    pub max_partition_fetch_bytes: i32,
    /// `isolation.level` is `read_committed`: records of open and aborted transactions stay out.
    pub read_committed: bool,
    /// `client.rack`: fetch from a replica of this rack where the broker allows it.
    pub rack: Option<String>,
}

impl Default for ReaderTuning {
    fn default() -> Self {
        Self {
            fetch_max_wait: Duration::from_millis(500),
            fetch_min_bytes: 1,
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
            // As librdkafka and every Kafka consumer that means it: an aborted record never
            // happened.
            read_committed: true,
            rack: None,
        }
    }
}

impl ReaderTuning {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let default = Self::default();
        let small = |number: Option<i64>, default: i32| {
            number
                .and_then(|n| i32::try_from(n).ok())
                .unwrap_or(default)
        };
        let read_committed = match reader
            .text("isolation.level")
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            None | Some("read_committed") => true,
            Some("read_uncommitted") => false,
            Some(other) => {
                reader.problem(
                    "isolation.level",
                    format!("must be read_committed or read_uncommitted, not {other:?}"),
                );
                true
            }
        };
        let tuning = Self {
            fetch_max_wait: reader
                .millis("fetch.wait.max.ms", 0, 300_000)
                .unwrap_or(default.fetch_max_wait),
            fetch_min_bytes: small(
                reader.number("fetch.min.bytes", 1, 100_000_000),
                default.fetch_min_bytes,
            ),
            fetch_max_bytes: small(
                reader.number("fetch.max.bytes", 1, 2_147_483_135),
                default.fetch_max_bytes,
            ),
            max_partition_fetch_bytes: small(
                reader.number("fetch.message.max.bytes", 1, 1_000_000_000),
                default.max_partition_fetch_bytes,
            ),
            read_committed,
            rack: reader.text("client.rack").map(str::to_owned),
        };
        if tuning.fetch_min_bytes > tuning.fetch_max_bytes {
            reader.problem("fetch.min.bytes", "must not be more than fetch.max.bytes");
        }
        tuning
    }
}

/// How a krafka handle connects.
#[derive(Debug)]
pub(super) struct Connection {
    client_id: String,
    security: Option<AuthConfig>,
    pub request_timeout: Duration,
    pub connect_timeout: Duration,
    metadata_max_age: Option<Duration>,
    recovery: Option<MetadataRecoveryStrategy>,
    rebootstrap_trigger: Option<Duration>,
    keepalive: bool,
    nodelay: bool,
    max_response: usize,
    send_buffer: Option<usize>,
    receive_buffer: Option<usize>,
    /// `Some(None)` keeps idle connections for ever.
    max_idle: Option<Option<Duration>>,
}

impl Connection {
    /// Reads what `role` needs from `properties`. `tokens` is what OAUTHBEARER logs in with;
    /// without it the result is only good to be checked.
    pub(super) fn read(
        settings: &KafkaSettings,
        role: Role,
        properties: &BTreeMap<String, String>,
        tokens: Option<&Tokens>,
    ) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::new(properties);
        let security = security::read(&mut reader, tokens);
        let fetch_wait = match role {
            Role::Reader | Role::Group => ReaderTuning::read(&mut reader).fetch_max_wait,
            Role::Producer | Role::Admin => Duration::ZERO,
        };
        let request_timeout = request_timeout(&mut reader, settings, role, fetch_wait);
        let connect_timeout = reader
            .millis(
                "socket.connection.setup.timeout.ms",
                1_000,
                i64::from(i32::MAX),
            )
            .unwrap_or(CONNECT_TIMEOUT)
            // krafka refuses a handle whose requests could time out before they are connected.
            .min(request_timeout);
        let recovery = match reader.text("metadata.recovery.strategy") {
            None => None,
            Some("none") => Some(MetadataRecoveryStrategy::None),
            Some("rebootstrap") => Some(MetadataRecoveryStrategy::Rebootstrap),
            Some(other) => {
                let message = format!("must be none or rebootstrap, not {other:?}");
                reader.problem("metadata.recovery.strategy", message);
                None
            }
        };
        // 0 is librdkafka's word for "leave it to the system" and for "never".
        let buffer = |bytes: Option<usize>| bytes.filter(|bytes| *bytes > 0);
        let connection = Self {
            client_id: reader
                .text("client.id")
                .unwrap_or(super::CLIENT_ID)
                .to_owned(),
            security,
            request_timeout,
            connect_timeout,
            metadata_max_age: reader.millis("metadata.max.age.ms", 1, 86_400_000),
            recovery,
            rebootstrap_trigger: reader.millis(
                "metadata.recovery.rebootstrap.trigger.ms",
                0,
                i64::from(i32::MAX),
            ),
            keepalive: reader.flag("socket.keepalive.enable").unwrap_or(true),
            nodelay: reader.flag("socket.nagle.disable").unwrap_or(true),
            max_response: reader
                .bytes("receive.message.max.bytes", 1_000, i64::from(i32::MAX))
                .map_or_else(|| max_response(settings), |bytes| bytes.max(1_024)),
            send_buffer: buffer(reader.bytes("socket.send.buffer.bytes", 0, 100_000_000)),
            receive_buffer: buffer(reader.bytes("socket.receive.buffer.bytes", 0, 100_000_000)),
            max_idle: reader
                .millis("connections.max.idle.ms", 0, i64::from(i32::MAX))
                .map(|idle| Some(idle).filter(|idle| !idle.is_zero())),
        };
        if reader.problems.is_empty() {
            Ok(connection)
        } else {
            Err(reader.problems)
        }
    }

    /// Puts everything into krafka's builder.
    pub(super) fn apply(self, builder: KafkaBuilder) -> KafkaBuilder {
        // What one connection may hold at worst stays what krafka's defaults allow.
        let in_flight = (IN_FLIGHT * MAX_RESPONSE / self.max_response).clamp(1, IN_FLIGHT);
        let mut builder = builder
            .client_id(self.client_id)
            .request_timeout(self.request_timeout)
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(self.nodelay)
            .tcp_keepalive(self.keepalive.then_some(Duration::from_secs(60)))
            .max_response_size(self.max_response)
            .max_in_flight_requests(in_flight)
            .socket_send_buffer(self.send_buffer)
            .socket_receive_buffer(self.receive_buffer);
        if let Some(security) = self.security {
            builder = builder.security(security);
        }
        if let Some(age) = self.metadata_max_age {
            builder = builder.metadata_max_age(age);
        }
        if let Some(recovery) = self.recovery {
            builder = builder.metadata_recovery_strategy(recovery);
        }
        if let Some(trigger) = self.rebootstrap_trigger {
            builder = builder.metadata_recovery_rebootstrap_trigger(trigger);
        }
        if let Some(idle) = self.max_idle {
            builder = builder.connections_max_idle(idle);
        }
        builder
    }
}

/// The longest wait for one answer: what the user set, but never less than a fetch is held.
fn request_timeout(
    reader: &mut Reader<'_>,
    settings: &KafkaSettings,
    role: Role,
    fetch_wait: Duration,
) -> Duration {
    let socket = reader.millis("socket.timeout.ms", 10, 300_000);
    let request = reader.millis("request.timeout.ms", 1, 900_000);
    match role {
        Role::Reader | Role::Group => socket
            .or(request)
            .unwrap_or(fetch_wait + FETCH_GRACE)
            .max(fetch_wait + Duration::from_secs(1)),
        Role::Producer | Role::Admin => socket.or(request).unwrap_or(settings.metadata_timeout),
    }
    // Below this no connection could be made either.
    .max(Duration::from_millis(100))
}

/// The embedded broker answers a fetch with everything from the offset on, whatever the limits of
/// the fetch say: a partition that is larger than the largest answer could never be read.
fn max_response(settings: &KafkaSettings) -> usize {
    if settings.embedded {
        let held = usize::try_from(settings.embedded_max_bytes).unwrap_or(usize::MAX);
        held.saturating_add(held / 4)
            .saturating_add(16 << 20)
            .clamp(MAX_RESPONSE, i32::MAX as usize)
    } else {
        MAX_RESPONSE
    }
}
