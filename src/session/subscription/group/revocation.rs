//! How partitions go, and how the subscription ends: both wait for what is acknowledged to be committed.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Ending, Group, Over, Waiting, wires};
use crate::delivery::Left;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::{Command, Release, Token};
use crate::record::TopicPartition;
use crate::session::effect::Effect;
use crate::session::protocol::server::{
    Revoked, RevokedPartition, RevokedReason, Revoking, ServerFrame, StateName,
};
use crate::session::subscription::SessionContext;

/// Longest wait for a commit when partitions go or the session ends.
const LAST_COMMIT: Duration = Duration::from_secs(5);
/// Longest wait for a member that was told to leave.
const LEAVING: Duration = Duration::from_secs(10);

/// Partitions that are about to go.
#[derive(Debug)]
pub(super) struct Going {
    pub(super) partitions: Vec<TopicPartition>,
    /// When the client's time is over, or with `committing` the commit's.
    pub(super) until: Instant,
    pub(super) committing: bool,
    _release: Release,
}

#[derive(Debug)]
pub(super) enum Leaving {
    /// What is acknowledged is being committed.
    Committing { until: Instant, stay: bool },
    /// The member has been told to leave.
    Told { until: Instant },
}

impl Group {
    fn unacked(&self, partitions: &[TopicPartition]) -> u64 {
        partitions.iter().map(|p| self.ledger.unacked(p)).sum()
    }

    pub(super) fn revoking(
        &mut self,
        partitions: Vec<TopicPartition>,
        release: Release,
        context: &mut SessionContext<'_>,
    ) {
        if self.leaving.is_some() {
            // What is to be committed is on its way already.
            for partition in &partitions {
                self.ledger.revoke(partition, self.epoch);
            }
            return;
        }
        self.epoch += 1;
        self.taken_away = true;
        self.counted.rebalances += 1;
        for partition in &partitions {
            self.ledger.seeking(partition, true);
        }
        let outstanding = self.unacked(&partitions);
        let grace = self.options.revoke_grace;
        if outstanding > 0 {
            self.state(StateName::Rebalancing, None, context);
            context.send(&ServerFrame::Revoking(Revoking {
                sub: self.options.common.sub.clone(),
                epoch: self.epoch,
                partitions: wires(&partitions),
                deadline_ms: u64::try_from(grace.as_millis()).unwrap_or(0),
                outstanding,
            }));
        }
        self.going = Some(Going {
            partitions,
            until: context.now + grace,
            committing: false,
            _release: release,
        });
        self.revoke_further(context);
    }

    /// Takes the next step towards letting revoked partitions go.
    pub(super) fn revoke_further(&mut self, context: &mut SessionContext<'_>) {
        let Some(going) = &self.going else {
            return;
        };
        if going.committing {
            if context.now >= going.until {
                self.let_go(context);
            }
            return;
        }
        if context.now < going.until && self.unacked(&going.partitions) > 0 {
            return;
        }
        let partitions = going.partitions.clone();
        let offsets = self.commits_of(&partitions);
        // One that is under way may be of these partitions, and `revoked` says what came of it.
        if offsets.is_empty() && !self.is_committing() {
            return self.let_go(context);
        }
        if let Some(going) = &mut self.going {
            going.committing = true;
            going.until = context.now + LAST_COMMIT;
        }
        if offsets.is_empty() {
            return;
        }
        let token = self.token(Waiting::Revoke);
        context.tell(Command::Commit { token, offsets });
    }

    pub(super) fn is_going(&self, partition: &TopicPartition) -> bool {
        self.going
            .as_ref()
            .is_some_and(|going| going.partitions.contains(partition))
    }

    /// Whether a seek waits for its answer.
    pub fn is_seeking(&self) -> bool {
        let mut waiting = self.waiting.values();
        waiting.any(|waiting| matches!(waiting, Waiting::Seek(..)))
    }

    /// Whether a commit waits for its answer.
    pub(super) fn is_committing(&self) -> bool {
        self.last_commit().is_some()
    }

    /// The last commit that waits for its answer, which comes after those of all before it.
    pub(super) fn last_commit(&self) -> Option<Token> {
        let commits = self
            .waiting
            .iter()
            .filter(|(_, waiting)| !matches!(waiting, Waiting::Seek(..) | Waiting::Position(_)));
        commits.map(|(token, _)| *token).max()
    }

    /// What is to be committed of these partitions although they are not delivered any more.
    fn commits_of(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Vec<(TopicPartition, i64, Option<String>)> {
        for partition in partitions {
            self.ledger.seeking(partition, false);
        }
        let commits = self.ledger.commits();
        for partition in partitions {
            self.ledger.seeking(partition, true);
        }
        commits
            .into_iter()
            .map(|(partition, offset)| (partition, offset, None))
            .collect()
    }

    pub(super) fn let_go(&mut self, context: &mut SessionContext<'_>) {
        if let Some(going) = self.going.take() {
            self.gone(&going.partitions, RevokedReason::Rebalance, context);
            self.state(StateName::Active, None, context);
        }
    }

    /// Partitions are not this session's any more.
    pub(super) fn gone(
        &mut self,
        partitions: &[TopicPartition],
        reason: RevokedReason,
        context: &mut SessionContext<'_>,
    ) {
        let mut left = Vec::with_capacity(partitions.len());
        let under_way = self.last_commit();
        for partition in partitions {
            if let Some(last) = under_way {
                self.handed_on.insert(partition.clone(), last);
            }
            let Some(Left {
                committed, unacked, ..
            }) = self.ledger.revoke(partition, self.epoch)
            else {
                continue;
            };
            self.starts.remove(partition);
            left.push(RevokedPartition {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                committed,
                unacked,
            });
        }
        if left.is_empty() {
            return;
        }
        context.send(&ServerFrame::Revoked(Revoked {
            sub: self.options.common.sub.clone(),
            epoch: self.epoch,
            partitions: left,
            reason,
        }));
        if matches!(reason, RevokedReason::Rebalance | RevokedReason::Lost) {
            self.look_for_topics_of(partitions, context);
        }
        self.settle_state(context);
    }

    /// Kafka says of a deleted topic only that its partitions are taken away: all of them at once.
    fn look_for_topics_of(&self, partitions: &[TopicPartition], context: &mut SessionContext<'_>) {
        let gone: BTreeSet<&Arc<str>> = partitions.iter().map(|p| &p.topic).collect();
        let kept: HashSet<&Arc<str>> = self.ledger.partitions().map(|p| &p.topic).collect();
        let topics = gone.into_iter().filter(|topic| !kept.contains(topic));
        let topics: Vec<Arc<str>> = topics.cloned().collect();
        if !topics.is_empty() && self.leaving.is_none() {
            context.effects.push(Effect::LookFor(topics));
        }
    }

    /// Begins to end: commits what is acknowledged, if `commit`, and leaves the group. A static
    /// member keeps its place if `stay`.
    pub fn end(
        &mut self,
        ending: Ending,
        commit: bool,
        stay: bool,
        context: &mut SessionContext<'_>,
    ) {
        if let Some((_, why)) = &mut self.leaving {
            // The session's end overtakes that of the subscription.
            *why = ending;
            return;
        }
        let offsets: Vec<_> = if commit {
            let all: Vec<_> = self.ledger.partitions().cloned().collect();
            self.commits_of(&all)
        } else {
            Vec::new()
        };
        let until = context.now + LAST_COMMIT;
        self.leaving = Some((Leaving::Committing { until, stay }, ending));
        if !offsets.is_empty() {
            let token = self.token(Waiting::Last);
            context.tell(Command::Commit { token, offsets });
        } else if !self.is_committing() {
            self.leave_now(context);
        }
    }

    pub(super) fn leave_now(&mut self, context: &mut SessionContext<'_>) {
        if let Some((leaving, _)) = &mut self.leaving
            && let Leaving::Committing { stay, .. } = *leaving
        {
            *leaving = Leaving::Told {
                until: context.now + LEAVING,
            };
            // Only now: what was to be committed of it has been.
            self.going = None;
            context.tell(Command::Leave { stay });
        }
    }

    /// Whether the last commit has been answered, or there was none: all that is left is to leave.
    pub fn has_committed(&self) -> bool {
        matches!(self.leaving, Some((Leaving::Told { .. }, _)))
    }

    pub(super) fn ended(&mut self, fault: Option<Fault>, context: &mut SessionContext<'_>) -> Over {
        self.going = None;
        let reason = match (&self.leaving, &fault) {
            (Some((_, Ending::Session)), _) => None,
            (Some(_), _) => Some(RevokedReason::Unsubscribe),
            (None, _) => Some(RevokedReason::Kafka),
        };
        if let Some(reason) = reason {
            let all: Vec<_> = self.ledger.partitions().cloned().collect();
            self.gone(&all, reason, context);
        }
        match (self.leaving.take(), fault) {
            (Some((_, ending)), _) => Over::Ended(ending),
            (None, Some(fault)) => Over::Failed(fault),
            (None, None) => Over::Failed(Fault::new(
                FaultKind::Unavailable,
                "The membership in the group ended.",
            )),
        }
    }
}
