//! What the gateway sends.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::client::{
    AckMode, Batch, Conflate, FilterSpec, Flow, Format, From, Mode, OnDecodeError,
};
use super::{Id, Partition};
use crate::delivery::Order;
use crate::kafka::fault::Fault;
use crate::reader_options::{Isolation, OffsetReset, OnLag};

/// A frame for a client.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// `welcome`
    Welcome(Welcome),
    /// `subscribed`
    Subscribed(Box<Subscribed>),
    /// `unsubscribed`
    Unsubscribed(Unsubscribed),
    /// `assigned`
    Assigned(Assigned),
    /// `revoking`
    Revoking(Revoking),
    /// `revoked`
    Revoked(Revoked),
    /// `acked`
    Acked(Acked),
    /// `committed`
    Committed(Committed),
    /// `seeked`
    Seeked(Seeked),
    /// `positions`
    Positions(Positions),
    /// `ok`
    Ok(Done),
    /// `produced`
    Produced(Produced),
    /// `gap`
    Gap(Gap),
    /// `eof`
    Eof(Eof),
    /// `state`
    State(State),
    /// `auth_expiring`
    AuthExpiring(AuthExpiring),
    /// `error`
    Error(Error),
    /// `pong`
    Pong(Pong),
    /// `heartbeat`
    Heartbeat(Heartbeat),
    /// `drain`
    Drain(Drain),
    /// `goodbye`
    Goodbye(Goodbye),
}

impl ServerFrame {
    /// The frame's text.
    pub fn text(&self) -> String {
        // Strings, numbers and lists of them always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The session begins
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Welcome {
    /// The `hello`'s, if one was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The session's name in the gateway's logs.
    pub session: String,
    /// What a later connection goes on with; null where that is not offered.
    #[schema(required)]
    pub resume: Option<String>,
    /// The protocol's minor version.
    pub minor: u32,
    /// What this gateway offers beyond the protocol's core.
    pub features: Vec<&'static str>,
    /// Whose session it is; null where nobody is asked.
    #[schema(required)]
    pub principal: Option<String>,
    /// What the session is held to.
    pub limits: Limits,
    /// At most so many milliseconds pass without a frame.
    pub heartbeat_ms: u64,
    /// Milliseconds since 1970.
    pub server_time: i64,
    /// Whether an earlier session goes on.
    pub resumed: bool,
}

/// What a session is held to
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Limits {
    /// Largest frame from the client, in bytes.
    pub max_frame: usize,
    /// Most that may be produced and not answered.
    pub produce_window: ProduceWindow,
    /// Most records and bytes with the client.
    pub max_inflight: Inflight,
    /// Most subscriptions.
    pub subs: Subs,
}

/// Most that may be produced and not answered
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct ProduceWindow {
    /// `produce` frames.
    pub requests: u64,
    /// Their records.
    pub records: u64,
    /// Bytes of these records.
    pub bytes: u64,
}

/// Most records and bytes with the client
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Inflight {
    /// Records.
    pub records: u64,
    /// Bytes of their keys, values and headers.
    pub bytes: u64,
}

/// Most subscriptions of a session
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Subs {
    /// Of a group.
    pub group: u32,
    /// Of topics without a group.
    pub tail: u32,
}

/// A subscription is taken, with every option as it will be; what only groups have is left out of a tail's
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Subscribed {
    /// The `subscribe`'s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// What it is.
    pub mode: Mode,
    /// The topics that it has now.
    pub topics: Vec<String>,
    /// The pattern that they come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The consumer group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Of a static member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// As asked for, or the default.
    pub from: From,
    /// As asked for, or the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset_reset: Option<OffsetReset>,
    /// As asked for, or the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack: Option<AckMode>,
    /// As it will be.
    pub flow: Flow,
    /// As it will be.
    pub batch: Batch,
    /// As asked for, or the default.
    pub key_format: Format,
    /// As asked for, or the default.
    pub value_format: Format,
    /// As asked for, or the default.
    pub on_decode_error: OnDecodeError,
    /// As asked for, or the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Milliseconds; 0 is for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_timeout_ms: Option<i64>,
    /// As it will be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_deliveries: Option<i64>,
    /// The dead-letter topic, with `{topic}` for the record's own; false where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<super::client::Dlq>)]
    pub dlq: Option<super::client::Dlq>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoke_grace_ms: Option<i64>,
    /// As asked for, or the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// As asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<FilterSpec>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_interval_ms: Option<i64>,
    /// Bytes.
    pub max_record_bytes: i64,
    /// Of a tail: as asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<String>,
    /// Of a tail: as asked for, or the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_lag: Option<OnLag>,
    /// Of a tail: most records a second, as it will be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<f64>,
    /// Of a tail: as asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflate: Option<Conflate>,
    /// Of a tail: the next offset of each of its partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<Vec<Offset>>,
    /// Of a tail: the same, as `from` takes it, on any gateway of the same cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// Of a tail: how many offsets there are from there to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog: Option<i64>,
}

/// A subscription has ended
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Unsubscribed {
    /// The `unsubscribe`'s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
}

/// Partitions were added
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Assigned {
    /// The subscription.
    pub sub: String,
    /// The session's count of assignment changes.
    pub epoch: u64,
    /// Those that are new.
    pub partitions: Vec<AssignedPartition>,
    /// All that the session has now.
    pub assignment: Vec<Partition>,
    /// Whether only what moves was touched.
    pub cooperative: bool,
}

/// A partition that was added
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AssignedPartition {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The next offset that will be delivered.
    pub start: i64,
    /// What the group has committed; null is nothing.
    #[schema(required)]
    pub committed: Option<i64>,
    /// The high watermark, or with `read_committed` the last stable offset.
    pub end: i64,
}

/// Partitions are about to be taken away: the last chance to acknowledge
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Revoking {
    /// The subscription.
    pub sub: String,
    /// The session's count of assignment changes.
    pub epoch: u64,
    /// Which.
    pub partitions: Vec<Partition>,
    /// How long they wait, in milliseconds.
    pub deadline_ms: u64,
    /// Their records that are not acknowledged.
    pub outstanding: u64,
}

/// Partitions were taken away
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Revoked {
    /// The subscription.
    pub sub: String,
    /// The session's count of assignment changes.
    pub epoch: u64,
    /// Which, and where they were left.
    pub partitions: Vec<RevokedPartition>,
    /// Why.
    pub reason: RevokedReason,
}

/// A partition that was taken away
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RevokedPartition {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// What the group has committed; null is nothing.
    #[schema(required)]
    pub committed: Option<i64>,
    /// Records that were delivered and not acknowledged: they come again to whoever has it next.
    pub unacked: u64,
}

/// Why partitions were taken away
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevokedReason {
    /// Another member of the group gets them.
    Rebalance,
    /// The group gave the session up.
    Lost,
    /// A seek made what was out stale; the partition stays.
    Seek,
    /// The subscription ended.
    Unsubscribe,
    /// Kafka ended the membership.
    Kafka,
}

/// An acknowledgement was taken
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Acked {
    /// The request's.
    pub id: Id,
    /// The first offset that is not acknowledged, of each assigned partition.
    pub positions: Vec<Offset>,
}

/// An offset of a partition
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Offset {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// What became of a commit
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Committed {
    /// The request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The next offset to read of each partition.
    pub positions: Vec<CommittedOffset>,
}

/// What became of a partition's commit
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CommittedOffset {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Kafka's name of what went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A seek arrived
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Seeked {
    /// The request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// The next offset of each partition, or what went wrong.
    pub positions: Vec<CommittedOffset>,
}

/// Where the subscription stands
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Positions {
    /// The request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// Each partition.
    pub positions: Vec<PartitionPosition>,
    /// Of a tail: what is next of all of them, as `from` takes it, on any gateway of the same cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
}

/// Where a partition stands; each is the next offset
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PartitionPosition {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// To be delivered.
    pub delivered: i64,
    /// The first that is not acknowledged; a tail has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acked: Option<i64>,
    /// What the group has committed; null is nothing.
    #[schema(required)]
    pub committed: Option<i64>,
    /// The high watermark, or with `read_committed` the last stable offset; null when Kafka did not
    /// say.
    #[schema(required)]
    pub end: Option<i64>,
    /// From what is committed, or where the session started, to the end; of a tail, from what is to be
    /// delivered.
    #[schema(required)]
    pub lag: Option<i64>,
}

/// It is done
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Done {
    /// The request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// After `pause` and `resume`: all that is paused now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Vec<Partition>>,
}

/// What became of the records of a `produce`
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Produced {
    /// The request's.
    pub id: Id,
    /// In the order of the request.
    pub results: Vec<ProduceResult>,
    /// The request had been answered before, with this.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

/// What became of one record
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ProduceResult {
    /// Where it was written.
    Written {
        /// The partition.
        partition: i32,
        /// The offset; null where `offset_unknown` says why it is not known.
        #[schema(required)]
        offset: Option<i64>,
        /// Only when the offset is not known: `retried` (the answer to the first try was lost; the record
        /// is in the topic once) or `acks_0` (the producer asks for no answer).
        #[serde(skip_serializing_if = "Option::is_none")]
        offset_unknown: Option<&'static str>,
        /// Milliseconds since 1970.
        timestamp: i64,
    },
    /// Why it was not.
    Failed {
        /// What went wrong.
        error: ProduceError,
    },
}

/// Why a record was not written
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProduceError {
    /// What went wrong, for programs.
    pub code: &'static str,
    /// The same for people.
    pub message: String,
    /// Whether the same may work later.
    pub retriable: bool,
    /// The field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Kafka's name of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka_error: Option<&'static str>,
    /// It may have been written all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub maybe_written: bool,
}

/// Records that can no longer be had
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Gap {
    /// The subscription.
    pub sub: String,
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The first offset that is missing.
    pub from: i64,
    /// The first one that is not.
    pub to: i64,
    /// Why.
    pub reason: GapReason,
}

/// Why records can no longer be had
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// Kafka deleted them.
    Retention,
    /// The log ends before the position: it was truncated, or the topic created again.
    Reset,
    /// The tail could not keep up, and was not to catch up.
    Overrun,
}

/// All that the gateway has read of a partition has been sent; only with feature `eof`, and of tails
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Eof {
    /// The subscription.
    pub sub: String,
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The next offset.
    pub offset: i64,
}

/// How a subscription stands, each time that it changes
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct State {
    /// The subscription.
    pub sub: String,
    /// How it stands.
    pub state: StateName,
    /// Since when, in milliseconds since 1970.
    pub since: i64,
    /// More about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The partitions that it is about; all where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Vec<Partition>>,
}

/// How a subscription stands
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// It asks to be let into the group.
    Joining,
    /// It is in the group.
    Active,
    /// Partitions are being taken away.
    Rebalancing,
    /// No broker answers.
    KafkaUnavailable,
    /// Nothing is delivered of some partitions.
    Paused,
    /// A tail reads from Kafka what it has missed.
    Behind,
}

/// The token is about to expire: send `auth`
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct AuthExpiring {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// In how many seconds.
    #[serde(rename = "in")]
    pub seconds: i64,
    /// In how many milliseconds.
    pub in_ms: i64,
}

/// Something was refused; the session goes on
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Error {
    /// The request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// What went wrong, for programs.
    pub code: &'static str,
    /// The same for people.
    pub message: String,
    /// Whether the same may work later.
    pub retriable: bool,
    /// Always false: an end comes with `goodbye`.
    pub fatal: bool,
    /// When it may, in milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Kafka's name of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka_error: Option<&'static str>,
    /// The tags that it is about, at most 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<u64>>,
    /// Of `ack_stale`: the count of assignment changes with which the partition went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Of `ack_stale`: what had been committed by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed: Option<i64>,
}

impl Error {
    /// An error that is the client's to mend.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            ..Self::default()
        }
    }

    /// What Kafka, or the way there, said.
    pub fn from_fault(code: &'static str, fault: &Fault) -> Self {
        Self {
            retriable: fault.retriable,
            kafka_error: fault.kafka_error,
            ..Self::new(code, fault.message.clone())
        }
    }
}

/// The answer to `ping`
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Pong {
    /// The `ping`'s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The `ping`'s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub t: Option<Box<RawValue>>,
}

/// Nothing else was sent for a while
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Heartbeat {
    /// Milliseconds since 1970.
    pub t: i64,
}

/// The gateway is about to stop: acknowledge, say `bye`, connect again
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Drain {
    /// How long it waits, in milliseconds.
    pub deadline_ms: u64,
    /// What a later connection goes on with; null where that is not offered.
    #[schema(required)]
    pub resume: Option<String>,
    /// When to connect again, in milliseconds: another time for each session.
    pub reconnect_after_ms: u64,
    /// Where each tail stands: nothing more comes of it here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tails: Vec<TailPosition>,
}

/// Where a tail stands
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TailPosition {
    /// The subscription.
    pub sub: String,
    /// What is next, as `from` takes it, on any gateway of the same cluster.
    pub position: String,
}

/// The last frame before the gateway closes the connection
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Goodbye {
    /// The close code.
    pub code: u16,
    /// Its name.
    pub name: &'static str,
    /// What happened.
    pub message: String,
    /// When to connect again, in milliseconds; left out where that is of no use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What a later connection goes on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
    /// What was committed at the end.
    pub committed: Vec<Offset>,
}
