//! Dead letters on their way to their topic.

use super::Group;
use super::options::DeadLetters;
use crate::delivery::{self, DeadLetterId};
use crate::kafka::fault::Fault;
use crate::record::ProducerRecord;
use crate::session::effect::Effect;
use crate::session::protocol::server::StateName;
use crate::session::subscription::SessionContext;

/// Dead letters on their way at once.
const MAX_DEAD_LETTERS: usize = 16;

impl Group {
    /// Sends the dead letters that there are on their way.
    pub(super) fn dead(&mut self, context: &mut SessionContext<'_>) {
        while self.dead_letters.len() < MAX_DEAD_LETTERS
            && let Some(letter) = self.ledger.next_dead_letter()
        {
            let Some(topic) = self.options.dead_letters.topic(&letter.record.topic) else {
                continue;
            };
            let failed_at = context.clock.iso(context.now);
            let record: ProducerRecord = delivery::dead_letter(
                &letter.record,
                letter.deliveries,
                &letter.reason,
                &failed_at,
            );
            self.dead_letters.insert(letter.id);
            context.effects.push(Effect::DeadLetter {
                id: letter.id,
                topic,
                own: matches!(self.options.dead_letters, DeadLetters::Default(_)),
                record,
            });
        }
    }

    /// What became of a dead letter.
    pub fn dead_lettered(
        &mut self,
        id: DeadLetterId,
        failed: Option<&Fault>,
        context: &mut SessionContext<'_>,
    ) {
        self.dead_letters.remove(&id);
        let counted = self.ledger.dead_lettered(id, failed.is_none(), context.now);
        match failed {
            None if counted => self.counted.dead_letters += 1,
            Some(fault) if counted && self.leaving.is_none() => {
                self.failing.insert(id);
                let detail = format!(
                    "a dead letter could not be written and is tried again: {}",
                    fault.message
                );
                self.state(
                    self.state.unwrap_or(StateName::Active),
                    Some(detail),
                    context,
                );
            }
            _ => {}
        }
        self.dead(context);
        self.revoke_further(context);
        self.flow(context);
    }
}
