//! What clients send. Unknown fields are passed over, so that a client may be newer than the
//! gateway; an unknown type, a missing field or one of the wrong kind is said with its name.
//!
//! - `mod.rs`: which frames there are, and those that are about the session
//! - `subscribe.rs`: `subscribe`
//! - `subscribed.rs`: frames that are about a subscription
//! - `produce.rs`: `produce`
//! - `parse.rs`: how all of them are read

mod parse;
mod produce;
mod subscribe;
mod subscribed;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

pub use self::parse::FrameError;
pub use self::produce::{ProduceRecord, ProduceSchema, Produced, Unfit};
pub use self::subscribe::{
    AckMode, At, Batch, Conflate, Dlq, FilterSpec, Flow, FlowMode, Format, From, FromName,
    FromText, Mode, OnDecodeError, Subscribe,
};
pub use self::subscribed::{
    Ack, Commit, CommitAt, Credit, Extend, Nack, Pause, Position, Seek, SeekAt, SeekName,
    SeekOffset, SeekTime, Unsubscribe,
};
use super::Id;

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

impl ClientFrame {
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
