//! What a client wants of a subscription that is there: which frames its kind has, and what such a frame
//! says, read once for all kinds.

use super::group::{Ending, Group};
use super::{SessionContext, Subscription};
use crate::kafka::member::SeekTo;
use crate::session::protocol::client::{ClientFrame, Credit, Pause, SeekAt, SeekName, SeekOffset};
use crate::session::protocol::server::{Done, Error, ServerFrame};

/// Requests of the client that wait for Kafka at once, in one subscription.
const MAX_WAITING: usize = 8;

impl Subscription<'_> {
    /// Does what a frame wants that names this subscription. The error of one that is done but for a part
    /// of it comes beside that.
    ///
    /// # Errors
    ///
    /// A field that cannot be, or a frame that this kind does not have.
    pub fn command(
        &mut self,
        frame: ClientFrame,
        context: &mut SessionContext<'_>,
    ) -> Result<Option<Error>, Error> {
        match frame {
            ClientFrame::Ack(ack) => return self.group()?.ack(ack, context),
            ClientFrame::Nack(nack) => return self.group()?.nack(nack, context),
            ClientFrame::Extend(extend) => return self.group()?.extend(extend, context),
            ClientFrame::Commit(commit) => self.group()?.commit(commit, context)?,
            ClientFrame::Credit(credit) => match self {
                Self::Group(group) => group.credit(&credit)?,
                Self::Tail(tail) => tail.credit(&credit)?,
            },
            ClientFrame::Pause(pause) => self.pause(pause, true, context)?,
            ClientFrame::Resume(pause) => self.pause(pause, false, context)?,
            ClientFrame::Seek(seek) => {
                if seek.positions.is_empty() {
                    return Err(field("positions", "expected at least one"));
                }
                match self {
                    Self::Group(group) => group.seek(seek, context)?,
                    Self::Tail(tail) => tail.seek(seek, context)?,
                }
            }
            ClientFrame::Position(position) => match self {
                Self::Group(group) => group.position(position.id, context)?,
                Self::Tail(tail) => tail.ask_position(position.id, context)?,
            },
            ClientFrame::Unsubscribe(unsubscribe) => {
                let commit = unsubscribe.commit.unwrap_or(true);
                let ending = Ending::Unsubscribe(unsubscribe.id);
                // A tail has nothing to end: its session drops it.
                self.group()?.end(ending, commit, false, context);
            }
            // These are about no subscription that is there.
            ClientFrame::Hello(_)
            | ClientFrame::Auth(_)
            | ClientFrame::Subscribe(_)
            | ClientFrame::Produce(_)
            | ClientFrame::Ping(_)
            | ClientFrame::Bye(_) => {}
        }
        Ok(None)
    }

    /// The group, for what only a group has.
    fn group(&mut self) -> Result<&mut Group, Error> {
        match self {
            Self::Group(group) => Ok(group),
            Self::Tail(tail) => Err(Error {
                field: Some("sub".to_owned()),
                ..Error::new(
                    "invalid_for_tail",
                    format!(
                        "sub: {} is a tail, which has no group: its records are neither acknowledged \
                         nor committed",
                        tail.name()
                    ),
                )
            }),
        }
    }

    fn pause(
        &mut self,
        pause: Pause,
        paused: bool,
        context: &mut SessionContext<'_>,
    ) -> Result<(), Error> {
        let (name, all) = match self {
            Self::Group(group) => (
                group.name().to_owned(),
                group.pause(pause.partitions, paused)?,
            ),
            Self::Tail(tail) => {
                let all = tail.pause(pause.partitions, paused, context)?;
                (tail.name().to_owned(), all)
            }
        };
        context.send(&ServerFrame::Ok(Done {
            id: pause.id,
            sub: Some(name),
            paused: Some(all),
        }));
        Ok(())
    }
}

/// How many more records, and bytes, a `credit` gives.
pub(crate) fn amounts(credit: &Credit) -> Result<(u64, Option<u64>), Error> {
    let number = |number: i64, name: &str| {
        u64::try_from(number).map_err(|_| field(name, "expected a number from 0"))
    };
    let bytes = credit.bytes.map(|bytes| number(bytes, "bytes"));
    Ok((number(credit.records, "records")?, bytes.transpose()?))
}

/// Where a position of a `seek` goes, which stands at `place`.
pub(crate) fn seek_to(at: &SeekAt, place: impl Fn(&str) -> String) -> Result<SeekTo, Error> {
    match (&at.offset, &at.timestamp) {
        (Some(_), Some(_)) => Err(field(&place(".timestamp"), "offset or timestamp, not both")),
        (None, None) => Err(field(&place(".offset"), "offset or timestamp is missing")),
        (Some(SeekOffset::Offset(offset)), None) if *offset < 0 => {
            Err(field(&place(".offset"), "an offset is 0 or more"))
        }
        (Some(SeekOffset::Offset(offset)), None) => Ok(SeekTo::Offset(*offset)),
        (Some(SeekOffset::Name(SeekName::Beginning)), None) => Ok(SeekTo::Beginning),
        (Some(SeekOffset::Name(SeekName::End)), None) => Ok(SeekTo::End),
        (Some(SeekOffset::Name(SeekName::Committed)), None) => Ok(SeekTo::Committed),
        (None, Some(time)) => match time.ms() {
            Ok(ms) => Ok(SeekTo::Time(ms)),
            Err(expected) => Err(field(&place(".timestamp"), expected)),
        },
    }
}

pub(crate) fn field(name: &str, message: impl std::fmt::Display) -> Error {
    Error {
        field: Some(name.to_owned()),
        ..Error::new("invalid_frame", format!("{name}: {message}"))
    }
}

/// A partition that the subscription does not have: `what` says how it would.
pub(crate) fn not_assigned(name: &str, topic: &str, partition: i32, what: &str) -> Error {
    Error {
        field: Some(name.to_owned()),
        ..Error::new(
            "not_assigned",
            format!("{name}: partition {partition} of topic {topic} is not {what}"),
        )
    }
}

/// Whether one more request of the client may wait for Kafka beside these.
pub(crate) fn admit(waiting: usize) -> Result<(), Error> {
    if waiting < MAX_WAITING {
        return Ok(());
    }
    Err(Error {
        retriable: true,
        retry_after_ms: Some(100),
        ..Error::new(
            "limit_exceeded",
            format!("{MAX_WAITING} requests wait for Kafka; wait for their answers"),
        )
    })
}
