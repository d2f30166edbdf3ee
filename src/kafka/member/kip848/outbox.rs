//! Events that are not in a member's channel yet, in order.

use std::collections::VecDeque;

use super::broker_fetcher::Via;
use crate::kafka::member::Event;

/// Most events that wait before no further command is taken, and no record.
const MOST: usize = 64;

/// The events, and whose records are among them.
#[derive(Default)]
pub(super) struct Outbox {
    events: VecDeque<Event>,
    /// Of each [`Event::Records`], in order: which consumer it is from.
    records_of: VecDeque<Via>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.events.len() >= MOST
    }

    /// Whether there is room for what this consumer has. Each has its own, so that none keeps the others
    /// from theirs, and its room is taken only when its poll is over.
    pub(super) fn has_room(&self, via: Via) -> bool {
        !self.is_full() && !self.records_of.contains(&via)
    }

    /// Puts an event there that is no records.
    pub(super) fn put(&mut self, event: Event) {
        debug_assert!(
            !matches!(event, Event::Records { .. }),
            "they are of somebody"
        );
        self.events.push_back(event);
    }

    /// Puts records there that came through this consumer.
    pub(super) fn put_records(&mut self, via: Via, event: Event) {
        debug_assert!(matches!(event, Event::Records { .. }), "it is records");
        self.events.push_back(event);
        self.records_of.push_back(via);
    }

    /// The first one.
    pub(super) fn take(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if matches!(event, Event::Records { .. }) {
            self.records_of.pop_front();
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Event {
        Event::Records {
            records: Vec::new(),
            next: Vec::new(),
        }
    }

    #[test]
    fn the_outbox_has_room_for_one_batch_of_each_consumer() {
        let mut outbox = Outbox::default();
        let (group, fetcher) = (Via::Group, Via::Broker(1));
        outbox.put_records(fetcher, records());
        outbox.put(Event::Lost(Vec::new()));
        assert!(outbox.has_room(group) && !outbox.has_room(fetcher));
        outbox.put_records(group, records());
        assert!(!outbox.has_room(group));

        assert!(matches!(outbox.take(), Some(Event::Records { .. })));
        assert!(outbox.has_room(fetcher) && !outbox.has_room(group));
        assert!(matches!(outbox.take(), Some(Event::Lost(_))));
        assert!(!outbox.has_room(group));
        assert!(matches!(outbox.take(), Some(Event::Records { .. })));
        assert!(outbox.has_room(group) && outbox.take().is_none());
    }

    #[test]
    fn a_full_outbox_has_no_room_for_any_consumer() {
        let mut outbox = Outbox::default();
        for _ in 0..MOST {
            assert!(outbox.has_room(Via::Group));
            outbox.put(Event::Lost(Vec::new()));
        }
        assert!(outbox.is_full() && !outbox.has_room(Via::Group));
    }
}
