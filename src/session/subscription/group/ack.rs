//! What the client says of records that it has: `ack`, `nack`, `extend`.

use std::time::Duration;

use super::commands::not_assigned;
use super::{Group, offset};
use crate::delivery::{Refused, Stale};
use crate::record::TopicPartition;
use crate::session::protocol::Id;
use crate::session::protocol::client::{Ack, Extend, Nack};
use crate::session::protocol::server::{Acked, Error, ServerFrame};
use crate::session::subscription::SessionContext;
use crate::session::subscription::commands::field;

/// Most tags in one frame.
const MAX_TAGS: usize = 10_000;
/// Longest delay of a nack, and longest extension.
const MAX_DELAY_MS: i64 = 900_000;
const MAX_EXTENSION_MS: i64 = 600_000;
/// Longest reason of a nack, in characters.
const MAX_REASON: usize = 256;
/// Tags that an error repeats.
const MOST_TAGS_SAID: usize = 100;

impl Group {
    /// `ack`.
    ///
    /// # Errors
    ///
    /// A field that cannot be.
    pub fn ack(
        &mut self,
        ack: Ack,
        context: &mut SessionContext<'_>,
    ) -> Result<Option<Error>, Error> {
        if ack.tx == Some(true) {
            return Err(field(
                "tx",
                "this subscription is in no transaction; leave tx out",
            ));
        }
        let tags = ack.tags.unwrap_or_default();
        let upto = ack.upto.unwrap_or_default();
        if tags.is_empty() && upto.is_empty() {
            return Err(field("tags", "tags or upto is missing"));
        }
        check_count(&tags)?;
        let refused = self.ledger.ack(&tags);
        let mut error = self.refused(refused);
        for at in &upto {
            let partition = TopicPartition::new(at.topic.as_str(), at.partition);
            if !self.ledger.ack_through(&partition, at.offset) {
                error = Some(not_assigned("upto", &partition));
            }
        }
        self.counted.acks += (tags.len() + upto.len()) as u64;
        self.after_acks(ack.id, context);
        Ok(error)
    }

    /// `nack`.
    ///
    /// # Errors
    ///
    /// A field that cannot be.
    pub fn nack(
        &mut self,
        nack: Nack,
        context: &mut SessionContext<'_>,
    ) -> Result<Option<Error>, Error> {
        check_count(&nack.tags)?;
        let delay = bounded(nack.delay_ms.unwrap_or(0), MAX_DELAY_MS);
        let dead_letter = nack.dead_letter.unwrap_or(false);
        if dead_letter && !self.options.policy.dead_letters {
            return Err(field(
                "dead_letter",
                "this subscription has no dead-letter topic (dlq is false)",
            ));
        }
        let reason = nack.reason.map(|reason| shortened(&reason));
        let mut refused = Vec::new();
        for tag in &nack.tags {
            let done = self
                .ledger
                .nack(*tag, context.now, delay, dead_letter, reason.clone());
            refused.extend(done.err());
        }
        self.counted.nacks += nack.tags.len() as u64;
        let error = self.refused(refused);
        self.after_acks(nack.id, context);
        Ok(error)
    }

    /// `extend`.
    ///
    /// # Errors
    ///
    /// A field that cannot be.
    pub fn extend(
        &mut self,
        extend: Extend,
        context: &mut SessionContext<'_>,
    ) -> Result<Option<Error>, Error> {
        check_count(&extend.tags)?;
        if extend.ms <= 0 {
            return Err(field("ms", "expected more than 0 milliseconds"));
        }
        let time = bounded(extend.ms, MAX_EXTENSION_MS);
        let mut refused = Vec::new();
        for tag in &extend.tags {
            refused.extend(self.ledger.extend(*tag, context.now, time).err());
        }
        let error = self.refused(refused);
        self.after_acks(extend.id, context);
        Ok(error)
    }

    /// The answer to an acknowledgement, before that of tags that were refused, and what it makes possible.
    fn after_acks(&mut self, id: Option<Id>, context: &mut SessionContext<'_>) {
        if let Some(id) = id {
            let positions = self.ledger.places();
            context.send(&ServerFrame::Acked(Acked {
                id,
                positions: positions
                    .iter()
                    .map(|place| offset(&place.partition, place.acked))
                    .collect(),
            }));
        }
        self.dead(context);
        self.revoke_further(context);
        self.flow(context);
    }

    /// One error for all tags that were refused in the same way.
    fn refused(&self, refused: Vec<Refused>) -> Option<Error> {
        let mut unknown = Vec::new();
        let mut stale = Vec::new();
        let mut gone = None;
        for refused in refused {
            match refused {
                Refused::Unknown { tag } => unknown.push(tag),
                Refused::Stale { tag, why } => {
                    stale.push(tag);
                    gone = Some(why);
                }
            }
        }
        let say = |mut tags: Vec<u64>| {
            tags.truncate(MOST_TAGS_SAID);
            Some(tags)
        };
        if !unknown.is_empty() {
            return Some(Error {
                sub: Some(self.options.common.sub.clone()),
                message: format!("tag {} was never given in this session", unknown[0]),
                tags: say(unknown),
                ..Error::new("ack_unknown", "")
            });
        }
        let why = gone?;
        let (message, epoch, committed) = match why {
            Stale::Superseded(partition) => (
                format!(
                    "tag {} is no longer valid: its record was refused or its deadline passed, and \
                     it comes again under another tag",
                    stale[0]
                ),
                self.epoch,
                self.ledger.committed_of(&partition),
            ),
            Stale::Gone {
                partition,
                epoch,
                committed,
            } => (
                format!(
                    "tag {} is no longer valid: partition {} of topic {} was taken away or sought \
                     with epoch {epoch}",
                    stale[0], partition.partition, partition.topic
                ),
                epoch,
                committed,
            ),
        };
        Some(Error {
            sub: Some(self.options.common.sub.clone()),
            tags: say(stale),
            epoch: Some(epoch),
            committed,
            ..Error::new("ack_stale", message)
        })
    }
}

fn check_count(tags: &[u64]) -> Result<(), Error> {
    if tags.len() > MAX_TAGS {
        return Err(field("tags", format!("expected at most {MAX_TAGS}")));
    }
    Ok(())
}

fn bounded(ms: i64, most: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms.clamp(0, most)).unwrap_or(0))
}

fn shortened(reason: &str) -> String {
    reason.chars().take(MAX_REASON).collect()
}
