//! One member of a consumer group: commands in, records and rebalances out.
//!
//! ```text
//! Members::join(options) -> Member          one task that polls as long as the member lives
//!    Member::command(Command)  ---------->  answered by an Event that carries the command's token
//!    Member::event()           <----------  State, Assigned, Records, Gap, Revoking, Lost, ...
//! ```
//!
//! What holds for every engine behind this seam:
//!
//! - It never stops polling. When its events are not taken it holds back records, pauses, and goes
//!   on serving heartbeats, rebalances and commands.
//! - [`Event::Revoking`] waits for [`Release`]: until it is dropped the partitions are still this
//!   member's, and commits for them are taken. After [`Event::Lost`] a commit would be refused.
//! - Events come in the order in which things happened. After [`Event::Seeked`] no record of such a
//!   partition comes from before the new position, after `Revoking` or `Lost` none of theirs at all.
//! - Commands are served while a revoke waits.
//! - Where the group has committed nothing for a partition, or what is not in the log, the place where the
//!   member begins is committed before the first record of it comes ([`Options::commit_starts`]), so that
//!   whoever has it next begins there and not later.
//! - A dropped [`Member`] leaves the group without committing.
//!
//! `kip848` is the engine over krafka, which fetches from each broker by itself where several
//! lead the member's partitions. `connections` gives members theirs, `start` decides where a
//! partition starts and `kafka::offset_resolver` finds that in its log, `health` knows whether any broker
//! answers, `lag` how far groups are behind.

mod connections;
mod health;
mod kip848;
mod lag;
mod start;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use self::connections::Connections;
use self::health::Health;
use self::lag::Lags;
use super::append_time::AppendTimes;
use super::client::{Clients, ReaderTuning};
use super::metadata::Metadata;
use crate::auth::identity::Identity;
use crate::kafka::admin::{Admin, Isolation};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::offset_resolver::OffsetResolver;
pub use crate::kafka::offset_resolver::SeekTo;
pub use crate::reader_options::OffsetReset;
use crate::record::{ConsumerRecord, TopicPartition};

/// Most events that wait to be taken, a batch of records being one. The engine holds one more.
const EVENTS: usize = 2;
/// Most commands that wait to be served.
const COMMANDS: usize = 64;

/// How a member joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The group's id.
    pub group: String,
    /// On whose behalf it joins, for the metrics.
    pub owner: Option<Arc<Identity>>,
    /// Makes the member a static one (KIP-345).
    pub instance_id: Option<String>,
    /// What it subscribes to; at least one.
    pub topics: Vec<Arc<str>>,
    /// Whether records of open and aborted transactions are delivered.
    pub isolation: Isolation,
    /// Where a partition starts for which the group has committed nothing. One that is new to the group
    /// starts at its beginning, whatever this says of the others: in a topic that was not there when the
    /// member subscribed, or had fewer partitions, or in which the group has committed others.
    pub from: GroupStart,
    /// The same where `from` does not say it. With [`OffsetReset::Error`] there must be a committed offset
    /// of what was there when the member subscribed, and it must be in the log.
    pub reset: OffsetReset,
    /// Whether a start that is not what the group has committed is committed before its first record.
    pub commit_starts: bool,
    /// Those of `topics` that were not there yet when the client subscribed.
    pub appeared: Vec<Arc<str>>,
}

impl Options {
    /// A member of `group` that reads `topics` from what is committed, as the defaults say.
    pub fn new<T: Into<Arc<str>>>(
        group: impl Into<String>,
        topics: impl IntoIterator<Item = T>,
    ) -> Self {
        Self {
            group: group.into(),
            owner: None,
            instance_id: None,
            topics: topics.into_iter().map(Into::into).collect(),
            isolation: Isolation::Committed,
            from: GroupStart::default(),
            reset: OffsetReset::default(),
            commit_starts: true,
            appeared: Vec::new(),
        }
    }
}

/// Where a partition starts for which the group has committed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GroupStart {
    /// As [`OffsetReset`] says.
    #[default]
    Committed,
    /// At the first record that is still there.
    Earliest,
    /// After the last record.
    Latest,
    /// At the first record at or after this time, in milliseconds since the epoch.
    Time(i64),
    /// At these offsets; partitions that are not named as [`OffsetReset`] says.
    Positions(Vec<(TopicPartition, i64)>),
}

/// Tells the answer to one command from that to another.
pub type Token = u64;

/// What a member can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Commit these offsets, each the next to read; answered by [`Event::Committed`]. Commits reach
    /// the broker in the order in which they are given.
    Commit {
        /// Comes back with the answer.
        token: Token,
        /// The offsets, and the text that is kept with each.
        offsets: Vec<(TopicPartition, i64, Option<String>)>,
    },
    /// Deliver nothing of these partitions until they are resumed. What is not assigned is passed
    /// over; a partition that is assigned again later is not paused.
    Pause(Vec<TopicPartition>),
    /// The opposite.
    Resume(Vec<TopicPartition>),
    /// Go on elsewhere; answered by [`Event::Seeked`].
    Seek {
        /// Comes back with the answer.
        token: Token,
        /// Where to, for each partition.
        positions: Vec<(TopicPartition, SeekTo)>,
    },
    /// Ask where the assigned partitions end; answered by [`Event::Ends`].
    Ends {
        /// Comes back with the answer.
        token: Token,
    },
    /// Subscribe to these topics instead.
    Subscribe {
        /// Which.
        topics: Vec<Arc<str>>,
        /// Those that the member does not have yet were not there when the client subscribed.
        appeared: bool,
    },
    /// Leave the group; the last event is [`Event::Ended`] without a fault. Partitions are not
    /// revoked first: what is to be committed has been.
    Leave {
        /// Of a static member: keep its place until its session times out.
        stay: bool,
    },
}

/// What a member tells.
#[derive(Debug)]
pub enum Event {
    /// How things stand, each time that it changes.
    State(State),
    /// Partitions were added, none if `added` is empty: the group may have more members than
    /// partitions.
    Assigned {
        /// Those that are new.
        added: Vec<Assigned>,
        /// All that the member has now.
        all: Vec<TopicPartition>,
    },
    /// Records of partitions that are assigned, in order within each.
    Records {
        /// The records; possibly none, when only positions moved.
        records: Vec<ConsumerRecord>,
        /// The next offset of each partition that moved, records that are never delivered
        /// (control records, aborted transactions) passed over.
        next: Vec<(TopicPartition, i64)>,
    },
    /// What lay between these offsets is not in the log any more, and delivery goes on at `to`: the first
    /// record that is there, or the end of a log that ends before the position.
    Gap {
        /// The partition.
        partition: TopicPartition,
        /// The first offset that is missing.
        from: i64,
        /// The first one that is not; below `from` when the log ends before it.
        to: i64,
    },
    /// These partitions are about to be taken away.
    Revoking {
        /// Which.
        partitions: Vec<TopicPartition>,
        /// They are when this is dropped.
        release: Release,
    },
    /// These partitions were taken away without asking.
    Lost(Vec<TopicPartition>),
    /// The answer to [`Command::Commit`].
    Committed {
        /// The command's.
        token: Token,
        /// What became of each partition's offset.
        results: Vec<(TopicPartition, Result<i64, Fault>)>,
    },
    /// The answer to [`Command::Seek`].
    Seeked {
        /// The command's.
        token: Token,
        /// The offset of the next record of each partition.
        results: Vec<(TopicPartition, Result<i64, Fault>)>,
    },
    /// The answer to [`Command::Ends`].
    Ends {
        /// The command's.
        token: Token,
        /// The high watermark of each assigned partition, or its last stable offset under
        /// [`Isolation::Committed`].
        results: Vec<(TopicPartition, Result<i64, Fault>)>,
    },
    /// The member is one no more, for the reason given or because it was told to leave.
    Ended(Option<Fault>),
}

/// A partition that was just assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset of the next record that comes.
    pub start: i64,
    /// What the group has committed, the start included if that had to be; `None` is nothing.
    pub committed: Option<i64>,
    /// As [`Event::Ends`] counts it.
    pub end: i64,
}

/// Where a group would go on in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// The offset of the next record.
    pub at: i64,
    /// What the group has committed, if [`SeekTo::Committed`] was among the aims; `None` is nothing.
    pub committed: Option<i64>,
}

/// How things stand with a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It asks to be let in; a fault says what has kept it waiting.
    Joining(Option<Fault>),
    /// It is in the group.
    Active,
    /// No broker has answered for some time; it goes on trying.
    Unavailable(Fault),
}

/// Lets go of revoked partitions when it is dropped.
#[derive(Debug)]
pub struct Release(#[expect(dead_code, reason = "it is there to be dropped")] oneshot::Sender<()>);

impl Release {
    /// One, and what ends when it is dropped.
    pub fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }
}

/// The bounds of what a member waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Longest time for a revoke, in the broker's eyes too: `max.poll.interval.ms`. More than
    /// `release` and `commit` together.
    pub poll_interval: Duration,
    /// Longest time that a [`Release`] may be held; the partitions are [`Event::Lost`] then.
    pub release: Duration,
    /// Longest time that a commit is tried.
    pub commit: Duration,
    /// Longest time that a static member waits for its instance id to be given up by another one:
    /// somewhat more than the session timeout of the brokers.
    pub unreleased: Duration,
    /// Longest time to leave the group.
    pub leave: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(300),
            release: Duration::from_secs(15),
            commit: Duration::from_secs(10),
            unreleased: Duration::from_secs(60),
            leave: Duration::from_secs(5),
        }
    }
}

/// Makes members. Clones share what members share.
#[derive(Debug, Clone)]
pub struct Members {
    shared: Arc<Shared>,
    timing: Timing,
}

/// What the members of a process share.
#[derive(Debug)]
struct Shared {
    connections: Arc<Connections>,
    tuning: ReaderTuning,
    admin: Admin,
    metadata: Metadata,
    health: Health,
    times: AppendTimes,
    lags: Lags,
    /// The bound of one question about offsets.
    bound: Duration,
}

impl Members {
    /// Members that connect as `clients` says, the first `own_connections` of them each with a
    /// handle of its own. Nothing is connected yet.
    pub(super) fn new(
        clients: Clients,
        tuning: ReaderTuning,
        admin: Admin,
        metadata: Metadata,
        times: AppendTimes,
        own_connections: usize,
    ) -> Self {
        let bound = clients.settings().metadata_timeout;
        Self {
            shared: Arc::new(Shared {
                connections: Arc::new(Connections::new(clients, own_connections)),
                tuning,
                lags: Lags::new(admin.clone(), bound),
                admin,
                health: Health::new(metadata.clone()),
                metadata,
                times,
                bound,
            }),
            timing: Timing::default(),
        }
    }

    /// The same with other bounds for the members made from now on.
    pub fn with_timing(&self, timing: Timing) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            timing,
        }
    }

    /// A new member, which starts to join at once; how that goes is told by its events.
    ///
    /// # Errors
    ///
    /// `Invalid` for options that no group could have.
    pub fn join(&self, options: Options) -> Result<Member, Fault> {
        let wrong = if options.group.is_empty() {
            "the group has no name"
        } else if options.topics.is_empty() {
            "there is no topic to subscribe to"
        } else if options.instance_id.as_deref() == Some("") {
            "the instance id is empty"
        } else {
            let (commands, commands_in) = mpsc::channel(COMMANDS);
            let (events_out, events) = mpsc::channel(EVENTS);
            let shared = Arc::clone(&self.shared);
            kip848::start(shared, self.timing, options, commands_in, events_out);
            return Ok(Member { commands, events });
        };
        Err(Fault::new(
            FaultKind::Invalid,
            format!("This cannot join a group: {wrong}."),
        ))
    }

    /// Where `group` would go on in each partition, without a member, found as a member finds it.
    pub async fn places(
        &self,
        group: &str,
        isolation: Isolation,
        reset: OffsetReset,
        aims: &[(TopicPartition, SeekTo)],
    ) -> Vec<(TopicPartition, Result<Spot, Fault>)> {
        let resolver = OffsetResolver {
            admin: self.shared.admin.clone(),
            group: Arc::from(group),
            isolation,
            reset,
            bound: self.shared.bound,
        };
        let places = resolver.resolve(aims, false).await.into_iter();
        places
            .map(|(partition, place)| {
                let spot = place.map(|place| Spot {
                    at: place.at,
                    committed: place.committed,
                });
                (partition, spot)
            })
            .collect()
    }

    /// How many members have a handle of their own, and how many share one.
    pub fn seats(&self) -> (usize, usize) {
        self.shared.connections.in_use()
    }
}

/// One member. Dropping it leaves the group in the background, without a commit.
#[derive(Debug)]
pub struct Member {
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<Event>,
}

impl Member {
    /// Tells the member something; what comes of it is an event.
    ///
    /// # Errors
    ///
    /// `QueueFull` when too many commands wait, `NotFound` after the member's end.
    pub fn command(&self, command: Command) -> Result<(), Fault> {
        self.commands
            .try_send(command)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Fault::new(
                    FaultKind::QueueFull,
                    "The group member was told more than it can do at once. Try again in a moment.",
                ),
                mpsc::error::TrySendError::Closed(_) => {
                    Fault::new(FaultKind::NotFound, "The member is in the group no more.")
                }
            })
    }

    /// The next event, as soon as there is one; `None` after [`Event::Ended`]. Nothing is lost when
    /// the future is dropped.
    pub async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}
