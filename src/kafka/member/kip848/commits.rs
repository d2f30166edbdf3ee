//! Commits of one member: in the order in which they were given, one at a time, each tried until the
//! broker has answered or its time is over. Those that were ordered, and those of places where partitions
//! begin, which flow only afterwards.

use std::collections::VecDeque;
use std::time::Duration;

use krafka::consumer::{Consumer, OffsetAndMetadata};
use krafka::error::{ErrorCode, KrafkaError};
use tokio::time::{Instant, timeout_at};

use super::group_consumer::KrafkaPartition;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::Token;
use crate::kafka::offset_resolver::ResolvedOffset;
use crate::record::TopicPartition;

/// First and longest pause before another try.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// An offset, and the text that is kept with it.
pub(super) type Offset = (TopicPartition, i64, Option<String>);
/// What became of each.
pub(super) type Results = Vec<(TopicPartition, Result<i64, Fault>)>;

/// A partition that begins where Kafka says, once that is committed if it has to be.
#[derive(Debug)]
pub(super) struct Landing {
    pub(super) partition: TopicPartition,
    /// Of the assignment or the place that this is about.
    pub(super) turn: u64,
    pub(super) place: ResolvedOffset,
    pub(super) is_to_commit: bool,
}

/// What a commit is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Somebody ordered it, and is answered.
    Ordered(Token),
    /// These partitions start afterwards; the pause was that before their places were looked up.
    Start(Vec<Landing>, Duration),
    /// These, whose places were not in the log any more, go on afterwards.
    Recovery(Vec<Landing>),
}

/// A commit that waits or is under way.
pub(super) struct Commit {
    pub(super) purpose: Purpose,
    /// What is not answered yet.
    pub(super) offsets: Vec<Offset>,
    pub(super) results: Results,
    /// When it was given.
    pub(super) given: Instant,
    /// When its time is over. It begins with the first try.
    pub(super) deadline: Option<Instant>,
    pub(super) pause: Duration,
    /// It is to be made for each partition by itself: it was refused as a whole.
    pub(super) is_refused: bool,
}

impl Commit {
    pub(super) fn new(token: Token, offsets: Vec<Offset>) -> Self {
        Self::of(Purpose::Ordered(token), offsets)
    }

    /// One of places, which are committed as far as they have to be.
    pub(super) fn of_places(
        purpose: impl FnOnce(Vec<Landing>) -> Purpose,
        places: Vec<Landing>,
    ) -> Self {
        let to_commit = places.iter().filter(|landing| landing.is_to_commit);
        let offsets = to_commit
            .map(|landing| (landing.partition.clone(), landing.place.at, None))
            .collect();
        Self::of(purpose(places), offsets)
    }

    fn of(purpose: Purpose, offsets: Vec<Offset>) -> Self {
        Self {
            purpose,
            offsets,
            results: Vec::new(),
            given: Instant::now(),
            deadline: None,
            pause: PAUSE,
            is_refused: false,
        }
    }

    /// Those of places that are still to be committed, each partition by itself, and first what is left.
    pub(super) fn split(self) -> Vec<Self> {
        let Self {
            purpose,
            offsets,
            results,
            ..
        } = self;
        let is_left = |landing: &Landing| offsets.iter().any(|(p, ..)| *p == landing.partition);
        let (places, pause) = match purpose {
            Purpose::Ordered(_) => return Vec::new(),
            Purpose::Start(places, pause) => (places, Some(pause)),
            Purpose::Recovery(places) => (places, None),
        };
        let of = |places| match pause {
            Some(pause) => Purpose::Start(places, pause),
            None => Purpose::Recovery(places),
        };
        let (left, done): (Vec<_>, Vec<_>) = places.into_iter().partition(is_left);
        let mut all = Vec::with_capacity(left.len() + 1);
        if !done.is_empty() {
            all.push(Self {
                results,
                ..Self::of(of(done), Vec::new())
            });
        }
        let alone = left
            .into_iter()
            .map(|landing| Self::of_places(of, vec![landing]));
        all.extend(alone);
        all
    }

    /// Answers those that `keep` does not want: their partitions have gone to somebody else, and the
    /// broker would let the offset of a member that is up to date overwrite that one's.
    pub(super) fn keep(&mut self, keep: impl Fn(&TopicPartition) -> bool) {
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.offsets)
            .into_iter()
            .partition(|(partition, ..)| keep(partition));
        self.offsets = kept;
        for (partition, ..) in gone {
            let fault = not_assigned(&partition);
            self.results.push((partition, Err(fault)));
        }
    }

    /// Answers all that are left.
    pub(super) fn fail(&mut self, fault: &Fault) {
        for (partition, ..) in std::mem::take(&mut self.offsets) {
            self.results.push((partition, Err(fault.clone())));
        }
    }

    pub(super) fn is_ordered(&self) -> bool {
        matches!(self.purpose, Purpose::Ordered(_))
    }

    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// One try. What is still in `offsets` afterwards may be tried again; the fault says why.
    pub(super) async fn attempt(mut self, consumer: &Consumer) -> (Self, Option<Fault>) {
        let deadline = self.deadline.unwrap_or_else(Instant::now);
        match send(consumer, &self.offsets, deadline).await {
            Ok(()) => {
                for (partition, offset, _) in std::mem::take(&mut self.offsets) {
                    self.results.push((partition, Ok(offset)));
                }
                (self, None)
            }
            Err((fault, true)) => (self, Some(fault)),
            // Each is looked at again before it is sent: meanwhile it may be somebody else's.
            Err((fault, false)) if self.offsets.len() > 1 && !self.is_ordered() => {
                self.is_refused = true;
                (self, Some(fault))
            }
            // krafka tells the first error of several: which partition it was is found out by
            // sending each alone.
            Err((_, false)) if self.offsets.len() > 1 => {
                let mut fault = None;
                for offset in std::mem::take(&mut self.offsets) {
                    match send(consumer, std::slice::from_ref(&offset), deadline).await {
                        Ok(()) => self.results.push((offset.0, Ok(offset.1))),
                        Err((why, false)) => self.results.push((offset.0, Err(why))),
                        Err((why, true)) => {
                            self.offsets.push(offset);
                            fault = Some(why);
                        }
                    }
                }
                (self, fault)
            }
            Err((fault, false)) => {
                self.fail(&fault);
                (self, None)
            }
        }
    }
}

/// The fault, and whether another try may do better.
async fn send(
    consumer: &Consumer,
    offsets: &[Offset],
    deadline: Instant,
) -> Result<(), (Fault, bool)> {
    let wanted = offsets.iter().map(|(partition, offset, text)| {
        let place = KrafkaPartition::new(&*partition.topic, partition.partition);
        let offset = match text {
            Some(text) => OffsetAndMetadata::with_metadata(*offset, text.clone()),
            None => OffsetAndMetadata::new(*offset),
        };
        (place, offset)
    });
    match timeout_at(deadline, consumer.commit_offsets(wanted)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let again = is_worth_another_try(&error);
            Err((error.into(), again))
        }
        Err(_) => Err((
            Fault::new(
                FaultKind::TimedOut,
                "Kafka did not answer the commit in time: it may have been made or not.",
            ),
            true,
        )),
    }
}

fn is_worth_another_try(error: &KrafkaError) -> bool {
    match error {
        // A topic that is gone does not come back for a commit.
        KrafkaError::Broker {
            code: ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId,
            ..
        } => false,
        // Between two memberships: the next poll joins again, or says why not.
        KrafkaError::IllegalState { .. } => true,
        error => error.is_retriable(),
    }
}

pub(super) fn not_assigned(partition: &TopicPartition) -> Fault {
    Fault::new(
        FaultKind::NotFound,
        format!(
            "Partition {} of topic {} is not assigned to this member any more.",
            partition.partition, partition.topic
        ),
    )
}

/// The commits of one member.
#[derive(Default)]
pub(super) struct Commits {
    pub(super) waiting: VecDeque<Commit>,
    pub(super) under_way: bool,
}

impl Commits {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && !self.under_way
    }
}
