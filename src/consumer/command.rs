//! The commands that an instance takes, its answers, and the handle that both go through.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{ConnectionRef, Has, Options, RecordDelivery, Stop, Unfit};
use crate::auth::Principal;
use crate::auth::permission::Denied;
use crate::auth::policy::NotVisible;
use crate::codec::embedded::Embedded;
use crate::kafka::admin::Committed;
use crate::kafka::fault::Fault;
use crate::kafka::member::SeekTo;
use crate::record::TopicPartition;
use crate::topic_pattern::Pattern;

/// Longest wait to be let into the queue of an instance that has many requests already.
const QUEUE: Duration = Duration::from_secs(30);

/// Which topics an instance subscribes to.
#[derive(Debug, Clone)]
pub enum TopicSelection {
    /// These, also where they are still to be created.
    Names(Vec<Arc<str>>),
    /// All that match, those of Kafka's own left out.
    Pattern(Pattern),
}

/// An offset to be committed, that of the next record to read, and the text to keep with it.
pub type Offset = (TopicPartition, i64, Option<String>);

/// Where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeekTargets {
    /// In each of these.
    Each(Vec<(TopicPartition, SeekTo)>),
    /// In all that the instance has.
    All(SeekTo),
}

/// Why a command was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InstanceError {
    /// The instance is in no state for it.
    #[error("{0}")]
    IllegalState(String),
    /// The principal lacks a permission.
    #[error("{0}")]
    Denied(Denied),
    /// It is shown nothing of a topic.
    #[error("{0}")]
    NotVisible(NotVisible),
    /// Its token or certificate expired while the command waited for those before it.
    #[error("the token or certificate expired while the request waited for others")]
    Expired,
    /// Kafka refused or did not answer; about the field of the request that is named, if one is.
    #[error("{0}")]
    Kafka(Fault, Option<String>),
    /// A commit failed for these partitions; for the others it did not.
    #[error("{}", .0.iter().map(|(_, fault)| fault.message.as_str()).collect::<Vec<_>>().join(" "))]
    NotCommitted(Vec<(TopicPartition, Fault)>),
    /// The group has not let the instance in for some time.
    #[error("{0}")]
    NotLetIn(Fault),
    /// A record cannot be shown in the instance's format.
    #[error(
        "the {} of {}:{}@{} does not fit the instance's format",
        .0.what, .0.partition.topic, .0.partition.partition, .0.offset
    )]
    Unfit(Unfit, Embedded),
    /// The instance has too much to do.
    #[error("{0}")]
    Busy(&'static str),
    /// The instance has come to its end.
    #[error("the instance has come to its end")]
    Gone,
}

impl From<Fault> for InstanceError {
    fn from(fault: Fault) -> Self {
        Self::Kafka(fault, None)
    }
}

impl From<Denied> for InstanceError {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<NotVisible> for InstanceError {
    fn from(not_visible: NotVisible) -> Self {
        Self::NotVisible(not_visible)
    }
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, InstanceError>>;

/// A read.
#[derive(Debug)]
pub(super) struct Read {
    /// Longest wait for records.
    pub(super) timeout: Duration,
    /// When the principal's credential expires, and the read returns.
    pub(super) ends: Option<Instant>,
    /// Most bytes of keys and values.
    pub(super) max_bytes: u64,
    /// The connection that the answer goes over.
    pub(super) connection_ref: Option<ConnectionRef>,
    /// What the client says that it has.
    pub(super) has: Option<Has>,
}

/// A command, and where its answer goes.
#[derive(Debug)]
pub(super) enum Command {
    Subscribe(TopicSelection, Principal, Reply<()>),
    Subscription(Reply<Vec<Arc<str>>>),
    Unsubscribe(Reply<()>),
    Assign(Vec<TopicPartition>, Reply<()>),
    Assignments(Reply<Vec<TopicPartition>>),
    Read(Read, Principal, Reply<RecordDelivery>),
    /// Whether the principal may consume all that the instance has.
    Permit(Principal, Reply<()>),
    /// `None` is what was delivered.
    Commit(Option<Vec<Offset>>, Option<Has>, Reply<()>),
    /// The client has this delivery.
    Acknowledge(Has, Reply<()>),
    Committed(Vec<TopicPartition>, Reply<Vec<(TopicPartition, Committed)>>),
    Seek(SeekTargets, Reply<()>),
}

/// Sends commands to an instance. Clones lead to the same one.
#[derive(Debug, Clone)]
pub struct Handle {
    options: Arc<Options>,
    commands: mpsc::Sender<Command>,
    stop: Arc<watch::Sender<Option<Stop>>>,
    gone: CancellationToken,
}

impl Handle {
    pub(super) fn new(
        options: Arc<Options>,
        commands: mpsc::Sender<Command>,
        stop: watch::Sender<Option<Stop>>,
        gone: CancellationToken,
    ) -> Self {
        Self {
            options,
            commands,
            stop: Arc::new(stop),
            gone,
        }
    }

    /// How the instance was made.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Cancelled when the instance has left its group.
    pub fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// Tells the instance to come to its end.
    pub fn stop(&self, why: Stop) {
        self.stop.send_if_modified(|stop| {
            let is_first = stop.is_none();
            stop.get_or_insert(why);
            is_first
        });
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, InstanceError> {
        let (reply, answer) = oneshot::channel();
        match timeout(QUEUE, self.commands.send(command(reply))).await {
            Ok(Ok(())) => answer.await.unwrap_or(Err(InstanceError::Gone)),
            Ok(Err(_)) => Err(InstanceError::Gone),
            Err(_) => Err(InstanceError::Busy(
                "Too many requests wait for this instance: it serves them one after the other.",
            )),
        }
    }

    /// Subscribes to topics in the place of those before. What a pattern finds is what `principal`
    /// may consume.
    ///
    /// # Errors
    ///
    /// `IllegalState` while partitions are assigned by hand.
    pub async fn subscribe(
        &self,
        wanted: TopicSelection,
        principal: Principal,
    ) -> Result<(), InstanceError> {
        self.ask(|reply| Command::Subscribe(wanted, principal, reply))
            .await
    }

    /// The topics that it subscribes to.
    ///
    /// # Errors
    ///
    /// The instance is gone.
    pub async fn subscription(&self) -> Result<Vec<Arc<str>>, InstanceError> {
        self.ask(Command::Subscription).await
    }

    /// Lets go of topics and partitions, and leaves the group.
    ///
    /// # Errors
    ///
    /// The instance is gone.
    pub async fn unsubscribe(&self) -> Result<(), InstanceError> {
        self.ask(Command::Unsubscribe).await
    }

    /// Reads these partitions, without the group's other members knowing.
    ///
    /// # Errors
    ///
    /// `IllegalState` while it subscribes to topics; Kafka's, where it has to be asked where to begin.
    pub async fn assign(&self, partitions: Vec<TopicPartition>) -> Result<(), InstanceError> {
        self.ask(|reply| Command::Assign(partitions, reply)).await
    }

    /// The partitions that it has, of either kind.
    ///
    /// # Errors
    ///
    /// The instance is gone.
    pub async fn assignments(&self) -> Result<Vec<TopicPartition>, InstanceError> {
        self.ask(Command::Assignments).await
    }

    /// Whether `principal` may consume now what the instance subscribes to and has: for a command that names
    /// no topic, and so is about these.
    ///
    /// # Errors
    ///
    /// `Denied`, `NotVisible`.
    pub async fn permit(&self, principal: Principal) -> Result<(), InstanceError> {
        self.ask(|reply| Command::Permit(principal, reply)).await
    }

    /// Records, as soon as there are some; none if none come within `timeout`, or before the principal's
    /// credential expires.
    ///
    /// # Errors
    ///
    /// `IllegalState` of an instance that has neither topics nor partitions; `Unfit`; Kafka's.
    pub async fn read(
        &self,
        timeout: Duration,
        max_bytes: u64,
        connection_ref: Option<ConnectionRef>,
        has: Option<Has>,
        principal: Principal,
    ) -> Result<RecordDelivery, InstanceError> {
        let (timeout, ends) = match principal.time_left() {
            None => (timeout, None),
            // It is taken for as long as clocks may differ, and does not wait.
            Some(Duration::ZERO) => (Duration::ZERO, None),
            Some(left) => (timeout, Some(Instant::now() + left)),
        };
        let read = Read {
            timeout,
            ends,
            max_bytes,
            connection_ref,
            has,
        };
        self.ask(|reply| Command::Read(read, principal, reply))
            .await
    }

    /// Commits these offsets, or what was delivered to the client, up to what it says that it `has`.
    ///
    /// # Errors
    ///
    /// Kafka's; `NotCommitted`; `IllegalState` of partitions that were assigned by hand while the group has
    /// members, and of a delivery that is not the last.
    pub async fn commit(
        &self,
        offsets: Option<Vec<Offset>>,
        has: Option<Has>,
    ) -> Result<(), InstanceError> {
        self.ask(|reply| Command::Commit(offsets, has, reply)).await
    }

    /// Takes note that the client has this delivery.
    ///
    /// # Errors
    ///
    /// `IllegalState` of one that is not the last.
    pub async fn acknowledge(&self, has: Has) -> Result<(), InstanceError> {
        self.ask(|reply| Command::Acknowledge(has, reply)).await
    }

    /// What the group has committed; what it has not is left out.
    ///
    /// # Errors
    ///
    /// Kafka's.
    pub async fn committed(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, Committed)>, InstanceError> {
        self.ask(|reply| Command::Committed(partitions, reply))
            .await
    }

    /// Goes on elsewhere.
    ///
    /// # Errors
    ///
    /// `IllegalState` of partitions that it does not have.
    pub async fn seek(&self, aims: SeekTargets) -> Result<(), InstanceError> {
        self.ask(|reply| Command::Seek(aims, reply)).await
    }
}
