//! A tail with `max_rate` or `conflate`: what goes of the records that wait.
//!
//! Whatever keeps them from going (the rate, the window, credit, a frame that lingers), the tail takes in
//! what comes, and newer records take the places of older ones. Its position stays before what waits.

use std::time::Instant;

use super::{Given, Item, Tail, at, put, undecoded};
use crate::codec::frame_records::Joined;
use crate::position::Offsets;
use crate::session::effect::{Effect, TailEffect};
use crate::session::subscription::SessionContext;

impl Tail {
    /// Whether a record waits of which newer ones take the place.
    pub(super) fn is_any_latest(&self) -> bool {
        self.latest
            .as_ref()
            .is_some_and(|latest| !latest.is_empty())
    }

    /// The same as `is_worth_sending`, of records of which newer ones take the place.
    pub(super) fn is_latest_worth_sending(&self, now: Instant) -> bool {
        let Some(latest) = &self.latest else {
            return false;
        };
        self.lingered
            || self.lingers.is_none_or(|since| now >= since + self.linger)
            || !self.queue.is_empty()
            || latest.len() >= self.batch_records
            || latest.bytes() as u64 >= self.batch_bytes
    }

    /// A frame of the newest records that may leave now.
    pub(super) fn frame_of_latest(
        &mut self,
        room: usize,
        context: &mut SessionContext<'_>,
    ) -> Result<Given, String> {
        let now = tokio::time::Instant::from_std(context.now);
        // What is queued comes after all of them, and does not wait for their rate.
        let all = !self.queue.is_empty();
        let mut frame: Option<Joined> = None;
        let mut bytes = 0;
        while let Some(first) = self.latest.as_ref().and_then(|l| l.first(now, all)) {
            let (size, len) = (first.size as u64, first.made.len());
            let begun = frame.as_ref().map_or((0, 0), |f| (f.records(), f.len()));
            let full = begun.0 >= self.batch_records
                || bytes + size > self.batch_bytes
                || begun.1 + len > room;
            if !self.has_room(size) || (begun.0 > 0 && full) {
                break;
            }
            if first.made.is_empty() {
                if frame.is_some() {
                    // What came before it goes out first.
                    break;
                }
                let topic = self.parts.get(first.index).map(|part| &*part.topic);
                let topic = topic.unwrap_or_default();
                return Err(undecoded(topic, first.partition, first.offset));
            }
            let Some(first) = self.latest.as_mut().and_then(|l| l.leave(now, all)) else {
                break;
            };
            let name = &self.name;
            frame
                .get_or_insert_with(|| Joined::new(name, len))
                .add(&first.made);
            bytes += size;
            self.spend(size);
            if let Some(part) = self.parts.get_mut(first.index) {
                part.read.count(1);
                put(&mut part.sent, first.partition, first.offset + 1);
            }
        }
        if frame.is_some() {
            self.is_due = false;
            self.lingers = (self.is_any_latest() && !self.linger.is_zero()).then_some(context.now);
            self.lingered = false;
            // What was left out lies before what has gone.
            self.arrive(context);
        }
        Ok(self.given(frame))
    }

    /// The newest of all was dropped, and of what it took the place of the newest is wanted again: all
    /// partitions go back to where the client has them.
    pub(super) fn rewind(&mut self, context: &mut SessionContext<'_>) {
        for (index, part) in self.parts.iter_mut().enumerate() {
            let Some(ahead) = &mut part.ahead else {
                continue;
            };
            let mut rewound = Offsets::new();
            for (partition, offset) in &part.sent {
                if at(ahead, *partition).is_some_and(|ahead| ahead > *offset) {
                    put(ahead, *partition, *offset);
                    part.ends.retain(|end| end != partition);
                    rewound.push((*partition, *offset));
                }
            }
            if rewound.is_empty() {
                continue;
            }
            // It is come across again.
            self.queue.retain(|item| match item {
                Item::Gap(of, gap) => *of != index || at(&rewound, gap.partition).is_none(),
                Item::Record(..) | Item::Ended(..) => true,
            });
            let held = part.paused.clone();
            context.effects.push(Effect::Tail(
                self.id,
                TailEffect::Hold {
                    index,
                    held,
                    rewound,
                },
            ));
        }
    }
}
