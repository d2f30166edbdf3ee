//! Commits of one member: in the order in which they were given, one at a time, each tried until the
//! broker has answered or its time is over.

use std::collections::VecDeque;
use std::time::Duration;

use krafka::consumer::{Consumer, OffsetAndMetadata};
use krafka::error::{ErrorCode, KrafkaError};
use tokio::time::{Instant, timeout_at};

use super::link::Place;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::Token;
use crate::record::TopicPartition;

/// First and longest pause before another try.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// An offset, and the text that is kept with it.
pub(super) type Offset = (TopicPartition, i64, Option<String>);
/// What became of each.
pub(super) type Results = Vec<(TopicPartition, Result<i64, Fault>)>;

/// A commit that waits or is under way.
pub(super) struct Commit {
    pub(super) token: Token,
    /// What is not answered yet.
    pub(super) offsets: Vec<Offset>,
    pub(super) results: Results,
    /// When it was given.
    pub(super) given: Instant,
    /// When its time is over. It begins with the first try.
    pub(super) deadline: Option<Instant>,
    pub(super) pause: Duration,
}

impl Commit {
    pub(super) fn new(token: Token, offsets: Vec<Offset>) -> Self {
        Self {
            token,
            offsets,
            results: Vec::new(),
            given: Instant::now(),
            deadline: None,
            pause: PAUSE,
        }
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
        let place = Place::new(&*partition.topic, partition.partition);
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
