//! What time brings about in the subscription of a group, and when.

use std::time::Instant;

use super::revocation::Leaving;
use super::{Group, Over, Waiting};
use crate::kafka::member::Command;
use crate::session::subscription::SessionContext;

impl Group {
    /// When [`Group::tick`] will have something to do.
    pub fn next_tick(&self) -> Option<Instant> {
        let leaving = self.leaving.as_ref().map(|(leaving, _)| match leaving {
            Leaving::Committing { until, .. } | Leaving::Told { until } => *until,
        });
        if leaving.is_some() {
            return leaving;
        }
        let going = self.going.as_ref().map(|going| going.until);
        let lingers = self.lingers.map(|since| since + self.options.common.linger);
        [going, lingers, self.ledger.next_tick(), self.commit_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// A session with nothing to commit is not woken for it.
    fn commit_at(&self) -> Option<Instant> {
        self.ledger.has_commits().then_some(self.next_commit)
    }

    /// Does what time has brought about. `Some` when the subscription is over.
    pub fn tick(&mut self, context: &mut SessionContext<'_>) -> Option<Over> {
        if let Some((leaving, ending)) = &self.leaving {
            match leaving {
                Leaving::Committing { until, .. } if context.now >= *until => {
                    self.leave_now(context)
                }
                Leaving::Told { until } if context.now >= *until => {
                    return Some(Over::Ended(ending.clone()));
                }
                _ => {}
            }
            return None;
        }
        self.counted.expired += self.ledger.tick(context.now) as u64;
        if let Some(since) = self.lingers
            && context.now >= since + self.options.common.linger
        {
            // The frame may still have to wait for room, and this must not be asked until then.
            self.lingers = None;
            self.lingered = true;
        }
        self.dead(context);
        self.revoke_further(context);
        if context.now >= self.next_commit && self.ledger.has_commits() {
            self.next_commit = context.now + self.options.commit_interval;
            let busy = self
                .waiting
                .values()
                .any(|w| matches!(w, Waiting::Interval));
            // While Kafka is away one commit waits, and the next says all that came meanwhile.
            if !busy {
                let offsets: Vec<_> = self
                    .ledger
                    .commits()
                    .into_iter()
                    .map(|(partition, offset)| (partition, offset, None))
                    .collect();
                if !offsets.is_empty() {
                    let token = self.token(Waiting::Interval);
                    context.tell(Command::Commit { token, offsets });
                }
            }
        }
        self.flow(context);
        None
    }
}
