//! Pauses in krafka, which follow from which partitions flow.

use super::broker_fetcher::Via;
use super::broker_fetchers::consumer_of;
use super::{Engine, Held};

impl Engine {
    /// Whether there is room for what this consumer has.
    pub(super) fn has_room(&self, via: Via) -> bool {
        self.outbox.has_room(via) && self.leaving.is_none()
    }

    /// Tells krafka at once: the poll that is under way may be about to deliver what shall not come any
    /// more, or may fetch what now may.
    pub(super) async fn hold(&mut self) {
        self.pause_strays().await;
        let stays = self.leaving.is_none();
        for (partition, held) in &mut self.held {
            let stop = !held.flows(stays && self.outbox.has_room(held.via));
            if stop == held.stopped {
                continue;
            }
            let consumer = consumer_of(self.group_consumer.as_ref(), &self.fetchers, held.via);
            let Some(consumer) = consumer else {
                continue;
            };
            held.stopped = stop;
            let numbers = [partition.partition];
            if stop {
                consumer.pause(&partition.topic, &numbers).await;
            } else {
                held.read_ahead = true;
                consumer.resume(&partition.topic, &numbers).await;
            }
        }
    }

    /// After a poll that has brought nothing although it could have waited: krafka holds as much as it may
    /// of partitions that stand still, and fetches nothing of the others. That is let go.
    pub(super) async fn empty(&mut self, via: Via) {
        for (partition, held) in &mut self.held {
            if held.via != via || !held.stopped || !held.read_ahead {
                continue;
            }
            let consumer = consumer_of(self.group_consumer.as_ref(), &self.fetchers, via);
            let (Some(consumer), Some(next)) = (consumer, held.next) else {
                continue;
            };
            held.read_ahead = false;
            let sought = consumer.seek(&partition.topic, partition.partition, next);
            // It fails where the partition has just been taken away.
            let _ = sought.await;
        }
    }
}

impl Held {
    /// Whether records of it may come, where there is room for them.
    pub(super) fn flows(&self, room: bool) -> bool {
        room && self.is_there() && !self.busy && !self.paused
    }
}
