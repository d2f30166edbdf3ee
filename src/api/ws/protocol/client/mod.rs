//! What clients send. Unknown fields are passed over, so that a client may be newer than the
//! gateway; an unknown type, a missing field or one of the wrong kind is said with its name.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Id, Partition};
use crate::api::records::format;
use crate::api::records::json::deeper_than;
use crate::api::records::parse::{self, Formats};
use crate::http::error::ApiError;
use crate::record::Outgoing;

/// Deepest nesting of a frame.
const MAX_DEPTH: usize = 64;
/// Longest `id`, in characters.
const MAX_ID: usize = 64;
/// Longest part of a name that an error repeats.
const SHOWN: usize = 64;

/// A frame from a client.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientFrame {
    /// `hello`
    Hello(Hello),
    /// `auth`
    Auth(Auth),
    /// `subscribe`
    Subscribe(Box<Subscribe>),
    /// `unsubscribe`
    Unsubscribe(Unsubscribe),
    /// `ack`
    Ack(Ack),
    /// `nack`
    Nack(Nack),
    /// `extend`
    Extend(Extend),
    /// `commit`
    Commit(Commit),
    /// `credit`
    Credit(Credit),
    /// `pause`
    Pause(Pause),
    /// `resume`
    Resume(Pause),
    /// `seek`
    Seek(Seek),
    /// `produce`
    Produce(Box<Produced>),
    /// `position`
    Position(Position),
    /// `ping`
    Ping(Ping),
    /// `bye`
    Bye(Bye),
}

/// Starts a session; the first frame, if it comes at all
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Hello {
    /// Comes back in `welcome`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// A JSON Web Token, where the upgrade had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What the client is, for the gateway's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "web/1")]
    pub client: Option<String>,
    /// How long the gateway may send nothing, in milliseconds, 5000 to 60000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 20_000)]
    pub heartbeat_ms: Option<i64>,
    /// Features that the client asks for, of those in `welcome`: `eof`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,
}

/// Renews the session's token
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Auth {
    /// Comes back in `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// A token of the same subject.
    pub token: String,
}

/// What a subscription is
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The session is a member of a consumer group.
    Group,
    /// The session follows topics by itself.
    Tail,
}

/// Where a subscription starts
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(
    untagged,
    expecting = "committed, earliest, latest, {\"timestamp\": ms}, a list of {topic, partition, offset}, or, of a tail, -N or a position"
)]
pub enum From {
    /// By name.
    Name(FromName),
    /// At the first record at or after a time, in milliseconds since 1970.
    Time {
        /// The time.
        timestamp: i64,
    },
    /// At these offsets.
    Positions(Vec<At>),
    /// `-N`: at the last N records of each partition. Only of a tail.
    Last(i64),
    /// As text. Only of a tail.
    Text(FromText),
}

/// A position that the gateway gave (`subscribed`, `positions`, `drain`), `-N`, an ISO 8601 time, or
/// `topic:partition@offset,…`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[schema(pattern = "^(?!(committed|earliest|latest)$)")]
pub struct FromText(pub String);

/// Where a subscription starts, by name
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FromName {
    /// At what the group has committed.
    Committed,
    /// At the first record that is still there.
    Earliest,
    /// After the last record.
    Latest,
}

/// An offset of a partition
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct At {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// Where a partition without a committed offset starts
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OffsetReset {
    /// After the last record.
    #[default]
    Latest,
    /// At the first record that is still there.
    Earliest,
    /// Nowhere: the subscription ends with an error.
    Error,
}

/// How records are acknowledged
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AckMode {
    /// What was written to the connection is acknowledged.
    Auto,
    /// One stands for all before it in its partition.
    Cumulative,
    /// One by one.
    Individual,
    /// Only by a transaction.
    Tx,
}

/// How much may be with the client
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Flow {
    /// Whether acknowledgements make room, or only `credit` does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<FlowMode>,
    /// Most records that are not acknowledged; of a tail, that the connection has not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 500)]
    pub records: Option<i64>,
    /// Most bytes of their keys, values and headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 4_194_304)]
    pub bytes: Option<i64>,
}

/// What makes room
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlowMode {
    /// Acknowledgements; of a tail, that the connection has taken what was sent.
    #[default]
    Window,
    /// `credit` frames.
    Credit,
}

/// How many records one frame has
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Batch {
    /// Most records.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 100)]
    pub records: Option<i64>,
    /// Most bytes of their keys, values and headers; a larger record goes alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 262_144)]
    pub bytes: Option<i64>,
    /// How long a frame waits for more records, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 0)]
    pub linger_ms: Option<i64>,
}

/// How a key or value stands in a frame
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Keys as `string`, values as `json`, and never an error.
    Auto,
    /// The JSON itself.
    Json,
    /// UTF-8 text.
    String,
    /// Base64.
    Binary,
    /// Decoded by its schema.
    Schema,
}

impl Format {
    /// As the records door knows it; `None` for what is not offered yet.
    pub fn known(self) -> Option<format::Format> {
        match self {
            Self::Auto => Some(format::Format::Auto),
            Self::Json => Some(format::Format::Json),
            Self::String => Some(format::Format::String),
            Self::Binary => Some(format::Format::Binary),
            Self::Schema => None,
        }
    }
}

/// What happens to a record that cannot be decoded as asked for
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDecodeError {
    /// It is delivered in the next format that fits; `kf` and `vf` say which.
    #[default]
    Deliver,
    /// It is passed over.
    Skip,
    /// It becomes a dead letter.
    Dlq,
    /// The session is closed.
    Close,
}

/// Which records of transactions are delivered
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Those that were committed.
    #[default]
    ReadCommitted,
    /// All.
    ReadUncommitted,
}

/// What a record that comes again means to those after it
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Those of its partition wait.
    #[default]
    Partition,
    /// They go on.
    Relaxed,
}

/// What becomes of a tail that cannot keep up with its topics
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLag {
    /// It is read from Kafka what it missed.
    #[default]
    Catchup,
    /// It goes on with what is new, after a `gap`.
    Skip,
    /// It ends, after a `gap`.
    Close,
}

/// Of the records of a tail that wait, which are left out for newer ones
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conflate {
    /// All but the newest of each key of a partition; those without a key stay.
    Key,
}

/// Where dead letters go
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(untagged, expecting = "the name of a topic, or false")]
pub enum Dlq {
    /// Nowhere: `false`.
    Off(bool),
    /// To this topic.
    Topic(String),
}

/// Which records are delivered
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct FilterSpec {
    /// Comparisons on the value's JSON, joined by `;`.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    #[schema(example = "/price>=10;/type==\"x\"")]
    pub condition: Option<String>,
    /// The whole key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The beginning of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_prefix: Option<String>,
    /// Headers, each with its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
}

/// Subscribes to topics
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct Subscribe {
    /// Comes back in `subscribed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// What the client calls the subscription by.
    #[schema(max_length = 64, example = "orders")]
    pub sub: String,
    /// `group` where a group is given, else `tail`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The topics, at most 64; or `pattern`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topics: Option<Vec<String>>,
    /// A regular expression that a topic's whole name must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The consumer group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Makes the session a static member of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Where each partition starts when this session is first given it: `committed` unless said
    /// otherwise, and of a tail `latest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<From>,
    /// Where a partition without a committed offset starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset_reset: Option<OffsetReset>,
    /// How records are acknowledged; `individual` unless said otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack: Option<AckMode>,
    /// How much may be with the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// How many records one frame has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// How keys are written; `string` unless said otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_format: Option<Format>,
    /// How values are written; `json` unless said otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_format: Option<Format>,
    /// What happens to a record that cannot be decoded as asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_decode_error: Option<OnDecodeError>,
    /// Which records of transactions are delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// How long a record may be with the client before it comes again, in milliseconds, 1000 to
    /// 600000; 0 is for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 60_000)]
    pub ack_timeout_ms: Option<i64>,
    /// How often a record is delivered before it becomes a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 5)]
    pub max_deliveries: Option<i64>,
    /// Where dead letters go; `{topic}.dlq` unless said otherwise, `false` is nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dlq: Option<Dlq>,
    /// How long a partition that is taken away waits for acknowledgements, in milliseconds, at most
    /// 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 1000)]
    pub revoke_grace_ms: Option<i64>,
    /// What a record that comes again means to those after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Which records are delivered; the others count as acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<FilterSpec>,
    /// Of a tail: only these parts of values, as JSON Pointers with commas between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/id,/customer/name")]
    pub fields: Option<String>,
    /// Of a tail: what becomes of it when it cannot keep up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_lag: Option<OnLag>,
    /// Of a tail: most records a second, 0.1 to 1000; of those that come in between the newest is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 5.0)]
    pub max_rate: Option<f64>,
    /// Of a tail: of the records that wait for the socket, for credit or because of `max_rate`, only
    /// the newest of each key is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflate: Option<Conflate>,
    /// How often what is acknowledged is committed, in milliseconds, 100 to 60000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 1000)]
    pub commit_interval_ms: Option<i64>,
    /// Largest record as it stands in a frame, in bytes; a larger one comes without its value, with
    /// a link to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 1_048_576)]
    pub max_record_bytes: Option<i64>,
}

/// Ends a subscription
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Unsubscribe {
    /// Comes back in `unsubscribed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// Whether what is acknowledged is committed first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = true)]
    pub commit: Option<bool>,
}

/// Says that records are done with
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Ack {
    /// With it comes `acked`; without it nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// Tags of records, at most 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<u64>>,
    /// All that was delivered of these partitions, up to these offsets and with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upto: Option<Vec<At>>,
    /// The acknowledgement belongs to the open transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx: Option<bool>,
}

/// Says that records could not be handled
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Nack {
    /// With it comes `acked`; without it nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// Tags of records, at most 10000.
    pub tags: Vec<u64>,
    /// How long until they come again, in milliseconds, at most 900000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 0)]
    pub delay_ms: Option<i64>,
    /// They become dead letters at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = false)]
    pub dead_letter: Option<bool>,
    /// Why, for the dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub reason: Option<String>,
}

/// Asks for more time
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Extend {
    /// With it comes `acked`; without it nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// Tags of records, at most 10000.
    pub tags: Vec<u64>,
    /// From now, in milliseconds, at most 600000.
    pub ms: i64,
}

/// An offset to commit
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct CommitAt {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Kept beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
}

/// Commits, and says when the broker has it
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Commit {
    /// Comes back in `committed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// These; all that may be committed where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<Vec<CommitAt>>,
}

/// Asks for more records, where `flow.mode` is `credit`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Credit {
    /// Comes back in an `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// How many more.
    #[schema(minimum = 0)]
    pub records: i64,
    /// How many more bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub bytes: Option<i64>,
}

/// Stops deliveries, or lets them go on
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Pause {
    /// Comes back in `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// These; all where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Vec<Partition>>,
}

/// Where a seek goes
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(untagged, expecting = "an offset, beginning, end or committed")]
pub enum SeekOffset {
    /// To an offset.
    Offset(i64),
    /// By name.
    Name(SeekName),
}

/// Where a seek goes, by name
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeekName {
    /// To the first record that is still there.
    Beginning,
    /// After the last record.
    End,
    /// To what the group has committed.
    Committed,
}

/// A position to seek to
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct SeekAt {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Where to; or `timestamp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<SeekOffset>,
    /// To the first record at or after this time, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
}

/// Goes on elsewhere
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Seek {
    /// Comes back in `seeked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// Where to.
    pub positions: Vec<SeekAt>,
}

/// Writes records
#[derive(Debug, Deserialize)]
struct ProduceWire<'a> {
    id: Id,
    topic: String,
    #[serde(borrow)]
    records: Vec<&'a RawValue>,
    key_format: Option<Format>,
    value_format: Option<Format>,
    tx: Option<bool>,
}

/// Writes records
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Produce)]
pub struct ProduceSchema {
    /// Comes back in `produced`.
    pub id: Id,
    /// The topic.
    pub topic: String,
    /// The records.
    #[schema(min_items = 1)]
    pub records: Vec<ProduceRecord>,
    /// How keys are written: `auto` unless said otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_format: Option<Format>,
    /// How values are written: `auto`, which is `json`, unless said otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_format: Option<Format>,
    /// They belong to the open transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx: Option<bool>,
}

/// A record to write
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ProduceRecord {
    /// The key; null where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<serde_json::Value>,
    /// The value; null is a tombstone.
    #[schema(required)]
    pub value: Option<serde_json::Value>,
    /// Pairs of a name and a string, null or `{"b64": "…"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<(String, serde_json::Value)>>,
    /// The partition; without it the key decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// Milliseconds since 1970, or an ISO 8601 time; without it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<serde_json::Value>,
}

/// A `produce` frame, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Produced {
    /// Comes back with the answer.
    pub id: Id,
    /// The topic.
    pub topic: String,
    /// Each record, or what is wrong with it.
    pub records: Vec<Result<Outgoing, Unfit>>,
    /// They belong to the open transaction.
    pub tx: bool,
}

/// A record that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The field at fault.
    pub field: Option<String>,
    /// What is wrong with it.
    pub message: String,
}

/// Asks where the subscription stands
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Position {
    /// Comes back in `positions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
}

/// Asks for a `pong`
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Ping {
    /// Comes back in `pong`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// Comes back in `pong`, whatever it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub t: Option<Box<RawValue>>,
}

impl PartialEq for Ping {
    fn eq(&self, other: &Self) -> bool {
        let text = |ping: &Self| ping.t.as_ref().map(|t| t.get().to_owned());
        self.id == other.id && text(self) == text(other)
    }
}

/// Ends the session
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Bye {
    /// Comes back in `committed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// Whether what is acknowledged is committed first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = true)]
    pub commit: Option<bool>,
    /// Whether a static member leaves its group; others always do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = false)]
    pub leave: Option<bool>,
}

/// Why a frame was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameError {
    /// It is not one of this protocol at all: the session ends.
    Fatal(String),
    /// Its type is not known.
    UnknownType {
        /// The frame's id.
        id: Option<Id>,
        /// The type, or the beginning of it.
        kind: String,
    },
    /// A field is missing or not as expected.
    Invalid {
        /// The frame's id.
        id: Option<Id>,
        /// The subscription that it names.
        sub: Option<String>,
        /// The field, with dots between levels.
        field: Option<String>,
        /// What was expected.
        message: String,
    },
}

/// What every frame has, read first.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    sub: Option<&'a RawValue>,
}

impl ClientFrame {
    /// Reads a frame.
    ///
    /// # Errors
    ///
    /// [`FrameError`].
    pub fn parse(text: &Bytes) -> Result<Self, FrameError> {
        if deeper_than(text, MAX_DEPTH) {
            return Err(FrameError::Fatal(format!(
                "nested deeper than {MAX_DEPTH} levels"
            )));
        }
        let head: Head<'_> = match serde_json::from_slice(text) {
            Ok(head) => head,
            Err(error) => return Err(FrameError::Fatal(not_a_frame(&error))),
        };
        let Some(kind) = head.kind.and_then(parse::string) else {
            let message = "expected a JSON object with a type, which is a string";
            return Err(FrameError::Fatal(message.to_owned()));
        };
        let id = match head.id.map(read_id) {
            None => None,
            Some(Some(id)) => Some(id),
            Some(None) => {
                return Err(FrameError::Invalid {
                    id: None,
                    sub: None,
                    field: Some("id".to_owned()),
                    message: format!(
                        "id: expected an integer, or a string of at most {MAX_ID} characters"
                    ),
                });
            }
        };
        let sub = || head.sub.and_then(parse::string).map(|sub| shown(&sub));
        read(&kind, text).map_err(|error| match error {
            Wrong::Type => FrameError::UnknownType {
                id: id.clone(),
                kind: shown(&kind),
            },
            Wrong::Field(field, message) => FrameError::Invalid {
                id: id.clone(),
                sub: sub(),
                field,
                message,
            },
        })
    }

    /// The subscription that it is about, which is there already.
    pub fn sub(&self) -> Option<&str> {
        match self {
            Self::Unsubscribe(frame) => Some(&frame.sub),
            Self::Ack(frame) => Some(&frame.sub),
            Self::Nack(frame) => Some(&frame.sub),
            Self::Extend(frame) => Some(&frame.sub),
            Self::Commit(frame) => Some(&frame.sub),
            Self::Credit(frame) => Some(&frame.sub),
            Self::Pause(frame) | Self::Resume(frame) => Some(&frame.sub),
            Self::Seek(frame) => Some(&frame.sub),
            Self::Position(frame) => Some(&frame.sub),
            Self::Hello(_)
            | Self::Auth(_)
            | Self::Subscribe(_)
            | Self::Produce(_)
            | Self::Ping(_)
            | Self::Bye(_) => None,
        }
    }

    /// What its answer repeats.
    pub fn id(&self) -> Option<&Id> {
        match self {
            Self::Hello(frame) => frame.id.as_ref(),
            Self::Auth(frame) => frame.id.as_ref(),
            Self::Subscribe(frame) => frame.id.as_ref(),
            Self::Unsubscribe(frame) => frame.id.as_ref(),
            Self::Ack(frame) => frame.id.as_ref(),
            Self::Nack(frame) => frame.id.as_ref(),
            Self::Extend(frame) => frame.id.as_ref(),
            Self::Commit(frame) => frame.id.as_ref(),
            Self::Credit(frame) => frame.id.as_ref(),
            Self::Pause(frame) | Self::Resume(frame) => frame.id.as_ref(),
            Self::Seek(frame) => frame.id.as_ref(),
            Self::Produce(frame) => Some(&frame.id),
            Self::Position(frame) => frame.id.as_ref(),
            Self::Ping(frame) => frame.id.as_ref(),
            Self::Bye(frame) => frame.id.as_ref(),
        }
    }

    /// Frames that may come as often as they like: they are part of every delivery, or the last one.
    pub fn is_unlimited(&self) -> bool {
        matches!(
            self,
            Self::Ack(_)
                | Self::Nack(_)
                | Self::Extend(_)
                | Self::Credit(_)
                | Self::Ping(_)
                | Self::Bye(_)
        )
    }
}

enum Wrong {
    Type,
    Field(Option<String>, String),
}

fn read(kind: &str, text: &Bytes) -> Result<ClientFrame, Wrong> {
    Ok(match kind {
        "ack" => ClientFrame::Ack(fields(text)?),
        "nack" => ClientFrame::Nack(fields(text)?),
        "credit" => ClientFrame::Credit(fields(text)?),
        "extend" => ClientFrame::Extend(fields(text)?),
        "ping" => ClientFrame::Ping(fields(text)?),
        "produce" => ClientFrame::Produce(Box::new(produce(text)?)),
        "commit" => ClientFrame::Commit(fields(text)?),
        "position" => ClientFrame::Position(fields(text)?),
        "pause" => ClientFrame::Pause(fields(text)?),
        "resume" => ClientFrame::Resume(fields(text)?),
        "seek" => ClientFrame::Seek(fields(text)?),
        "subscribe" => ClientFrame::Subscribe(Box::new(fields(text)?)),
        "unsubscribe" => ClientFrame::Unsubscribe(fields(text)?),
        "hello" => ClientFrame::Hello(fields(text)?),
        "auth" => ClientFrame::Auth(fields(text)?),
        "bye" => ClientFrame::Bye(fields(text)?),
        _ => return Err(Wrong::Type),
    })
}

fn fields<'a, T: Deserialize<'a>>(text: &'a Bytes) -> Result<T, Wrong> {
    let mut json = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let cause = bare(error.inner());
        // A missing field is said of the object that it is missing in.
        let missing = cause
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split('`').next());
        let field = match (path.as_str(), missing) {
            (".", Some(name)) => Some(name.to_owned()),
            (path, Some(name)) => Some(format!("{path}.{name}")),
            (".", None) => None,
            (path, None) => Some(path.to_owned()),
        };
        let message = match &field {
            Some(field) => format!("{field}: {cause}"),
            None => cause,
        };
        Wrong::Field(field, message)
    })
}

fn produce(text: &Bytes) -> Result<Produced, Wrong> {
    let wire: ProduceWire<'_> = fields(text)?;
    let format = |format: Option<Format>, field: &str| {
        format.unwrap_or(Format::Auto).known().ok_or_else(|| {
            let message = format!("{field}: schema is not offered by this gateway");
            Wrong::Field(Some(field.to_owned()), message)
        })
    };
    let formats = Formats {
        key: format(wire.key_format, "key_format")?,
        value: format(wire.value_format, "value_format")?,
    };
    let records = wire
        .records
        .into_iter()
        .map(|raw| {
            let body = text.slice_ref(raw.get().as_bytes());
            parse::one(&body, formats).map_err(Unfit::from)
        })
        .collect();
    Ok(Produced {
        id: wire.id,
        topic: wire.topic,
        records,
        tx: wire.tx.unwrap_or(false),
    })
}

impl std::convert::From<ApiError> for Unfit {
    fn from(error: ApiError) -> Self {
        let body = error.into_body();
        Self {
            field: body.field.map(Cow::into_owned),
            message: body.message,
        }
    }
}

fn read_id(raw: &RawValue) -> Option<Id> {
    serde_json::from_str(raw.get())
        .ok()
        .filter(|id| !matches!(id, Id::Text(text) if text.chars().count() > MAX_ID))
}

fn not_a_frame(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => {
            "expected a JSON object with a type, which is a string".to_owned()
        }
        _ => format!("not JSON: {error}"),
    }
}

/// What serde says, without the place: a frame is one line.
fn bare(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text.get(..at).unwrap_or(&text).to_owned(),
        None => text,
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ClientFrame, FrameError> {
        ClientFrame::parse(&Bytes::copy_from_slice(text.as_bytes()))
    }

    fn invalid(text: &str) -> (String, String) {
        match parse(text) {
            Err(FrameError::Invalid { field, message, .. }) => (field.unwrap_or_default(), message),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn frames_are_read_and_unknown_fields_passed_over() {
        let frame = parse(r#"{"tags":[1,3],"type":"ack","sub":"o","more":{"a":1}}"#).unwrap();
        let ClientFrame::Ack(ack) = frame else {
            panic!("{frame:?}");
        };
        assert_eq!((ack.tags, ack.sub), (Some(vec![1, 3]), "o".to_owned()));
        let frame = parse(
            r#"{"type":"subscribe","id":1,"sub":"o","group":"g","topics":["orders"],
                "from":{"timestamp":5},"dlq":false,"flow":{"mode":"credit"}}"#,
        );
        let Ok(ClientFrame::Subscribe(subscribe)) = frame else {
            panic!("{frame:?}");
        };
        assert_eq!(subscribe.from, Some(From::Time { timestamp: 5 }));
        assert_eq!(subscribe.dlq, Some(Dlq::Off(false)));
        assert_eq!(subscribe.id, Some(Id::Number(1)));
    }

    #[test]
    fn what_is_no_frame_ends_the_session() {
        for text in [
            "",
            "{",
            "[]",
            "1",
            "null",
            "\"ack\"",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":null}"#,
            r#"{"type":"ping","t":}"#,
            "{\"type\":\"ping\"}{}",
        ] {
            assert!(matches!(parse(text), Err(FrameError::Fatal(_))), "{text}");
        }
        let deep = format!(
            "{{\"type\":\"ping\",\"t\":{}1{}}}",
            "[".repeat(64),
            "]".repeat(64)
        );
        assert!(matches!(parse(&deep), Err(FrameError::Fatal(_))));
        let not_so = format!(
            "{{\"type\":\"ping\",\"t\":{}1{}}}",
            "[".repeat(63),
            "]".repeat(63)
        );
        assert!(parse(&not_so).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_field() {
        let unknown = parse(r#"{"type":"dance","id":"a"}"#);
        assert_eq!(
            unknown,
            Err(FrameError::UnknownType {
                id: Some(Id::Text("a".into())),
                kind: "dance".into()
            })
        );
        for (text, field) in [
            (r#"{"type":"ack"}"#, "sub"),
            (r#"{"type":"ack","sub":1}"#, "sub"),
            (r#"{"type":"ack","sub":"o","tags":[1,-1]}"#, "tags[1]"),
            (r#"{"type":"ack","sub":"o","tags":"1"}"#, "tags"),
            (r#"{"type":"nack","sub":"o"}"#, "tags"),
            (r#"{"type":"extend","sub":"o","tags":[]}"#, "ms"),
            (r#"{"type":"subscribe","sub":"o","ack":"never"}"#, "ack"),
            (r#"{"type":"subscribe","sub":"o","from":true}"#, "from"),
            (
                r#"{"type":"subscribe","sub":"o","flow":{"records":"x"}}"#,
                "flow.records",
            ),
            (
                r#"{"type":"seek","sub":"o","positions":[{"topic":"t"}]}"#,
                "positions[0].partition",
            ),
            (r#"{"type":"produce","topic":"t","records":[]}"#, "id"),
            (
                r#"{"type":"produce","id":1,"topic":"t","records":{}}"#,
                "records",
            ),
            (
                r#"{"type":"produce","id":1,"topic":"t","records":[],"value_format":"schema"}"#,
                "value_format",
            ),
            (r#"{"type":"ping","id":[]}"#, "id"),
            (r#"{"type":"ping","id":1.5}"#, "id"),
        ] {
            let (found, message) = invalid(text);
            assert_eq!(found, field, "{text}: {message}");
            assert!(message.starts_with(field), "{message}");
            assert!(!message.contains("at line"), "{message}");
        }
        let long = format!(r#"{{"type":"ping","id":"{}"}}"#, "a".repeat(65));
        assert_eq!(invalid(&long).0, "id");
    }

    #[test]
    fn records_to_write_are_read_one_by_one() {
        let frame = parse(
            r#"{"type":"produce","id":"p","topic":"t","records":[{"key":"k","value":12345678901234567890},{"key":"k"},{"value":null}]}"#,
        );
        let Ok(ClientFrame::Produce(produced)) = frame else {
            panic!("{frame:?}");
        };
        let values: Vec<_> = produced
            .records
            .iter()
            .map(|record| record.as_ref().map(|r| r.value.clone()))
            .collect();
        assert_eq!(
            values[0],
            Ok(Some(Bytes::from_static(b"12345678901234567890")))
        );
        assert_eq!(
            values[1].as_ref().unwrap_err().field.as_deref(),
            Some("/value")
        );
        assert_eq!(values[2], Ok(None));
    }
}
