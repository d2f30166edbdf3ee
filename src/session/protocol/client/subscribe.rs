//! `subscribe`, and what may be said in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::codec::format;
use crate::delivery::Order;
use crate::reader_options::{Isolation, OffsetReset, OnLag};
use crate::session::protocol::Id;

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
    /// At what the group has committed, else as `offset_reset` says.
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
    /// As the records API knows it; `None` for what is not offered yet.
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
    /// Of a group, where a partition starts of which nothing is committed: as `offset_reset` says unless
    /// said otherwise. Where a tail starts: `latest` unless said otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<From>,
    /// Short for `from`, from which it must not differ: where a partition starts of which nothing is
    /// committed.
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
