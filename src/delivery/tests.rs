//! The ledger against a model that is too simple to be wrong: every record of every partition, with
//! whether the client is done with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::record::{ConsumerRecord, TimestampType, TopicPartition};

fn policy(ack: AckMode, order: Order) -> Policy {
    Policy {
        ack,
        order,
        ack_timeout: Some(Duration::from_secs(1)),
        max_deliveries: 3,
        dead_letters: true,
        window: WindowMode::Outstanding {
            records: 8,
            bytes: 1 << 20,
        },
        max_records: 100,
        max_bytes: 1 << 20,
        max_gap: 12,
        max_waiting: 5,
    }
}

fn place(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn record(partition: i32, offset: i64) -> ConsumerRecord {
    ConsumerRecord {
        topic: Arc::from("t"),
        partition,
        offset,
        timestamp: 0,
        timestamp_type: TimestampType::Create,
        key: None,
        value: Some(Bytes::from_static(b"0123456789")),
        headers: Vec::new(),
    }
}

const ALL: Take = Take {
    records: 1000,
    bytes: 1 << 20,
};

/// Takes what may go out, as `(partition, offset, tag, deliveries)`.
fn take(ledger: &mut Ledger, now: Instant, most: Take) -> Vec<(i32, i64, u64, u32)> {
    let mut taken = Vec::new();
    ledger.take(now, most, |d| {
        taken.push((d.record.partition, d.record.offset, d.tag, d.deliveries));
        Verdict::Taken
    });
    taken
}

fn offered(ack: AckMode, order: Order, offsets: std::ops::Range<i64>) -> Ledger {
    let mut ledger = Ledger::new(policy(ack, order), 1);
    ledger.assign(place(0), offsets.start, None);
    let next = [(place(0), offsets.end)];
    ledger.offer(offsets.map(|o| record(0, o)).collect(), &next);
    ledger
}

#[test]
fn a_hole_holds_the_commit_back() {
    let now = Instant::now();
    let mut ledger = offered(AckMode::Individual, Order::Partition, 0..5);
    let tags: Vec<u64> = take(&mut ledger, now, ALL).iter().map(|t| t.2).collect();
    assert_eq!(tags, [1, 2, 3, 4, 5]);
    assert_eq!(ledger.ack(&[1, 2, 4, 5]), []);
    assert_eq!(ledger.commits(), [(place(0), 2)]);
    assert_eq!(ledger.commits(), [], "said once");
    assert_eq!(ledger.ack(&[3]), []);
    assert_eq!(ledger.commits(), [(place(0), 5)]);
    assert_eq!(ledger.in_flight(), (0, 0));
    assert_eq!(ledger.held_bytes(), 0);
}

#[test]
fn what_is_never_delivered_does_not_hold_the_commit_back() {
    let mut ledger = Ledger::new(policy(AckMode::Individual, Order::Partition), 1);
    ledger.assign(place(0), 3, Some(3));
    ledger.offer(Vec::new(), &[(place(0), 9)]);
    assert_eq!(ledger.commits(), [(place(0), 9)]);
}

#[test]
fn one_acknowledgement_stands_for_all_before_it_in_its_partition_only() {
    let now = Instant::now();
    let mut ledger = offered(AckMode::Cumulative, Order::Partition, 0..3);
    ledger.assign(place(1), 0, None);
    ledger.offer((0..3).map(|o| record(1, o)).collect(), &[]);
    let taken = take(&mut ledger, now, ALL);
    let tag = taken.iter().find(|t| (t.0, t.1) == (1, 1)).unwrap().2;
    assert_eq!(ledger.ack(&[tag]), []);
    assert_eq!(ledger.commits(), [(place(1), 2)]);
    assert!(ledger.ack_through(&place(0), 1));
    assert_eq!(ledger.commits(), [(place(0), 2)]);
    assert!(!ledger.ack_through(&place(7), 1));
}

#[test]
fn tags_are_unknown_stale_or_done_with() {
    let now = Instant::now();
    let mut ledger = offered(AckMode::Individual, Order::Partition, 0..3);
    take(&mut ledger, now, ALL);
    assert_eq!(ledger.ack(&[9]), [Refused::Unknown { tag: 9 }]);
    assert_eq!(ledger.ack(&[0]), [Refused::Unknown { tag: 0 }]);
    assert_eq!(ledger.ack(&[1]), []);
    assert_eq!(ledger.ack(&[1]), [], "twice is once");
    ledger
        .nack(2, now, Duration::from_secs(60), false, None)
        .unwrap();
    let superseded = Refused::Stale {
        tag: 2,
        why: Stale::Superseded(place(0)),
    };
    assert_eq!(ledger.ack(&[2]), [superseded]);
    ledger.committed(&place(0), 1, true);
    let left = ledger.revoke(&place(0), 7).unwrap();
    assert_eq!((left.low, left.committed, left.unacked), (1, Some(1), 2));
    let gone = Refused::Stale {
        tag: 3,
        why: Stale::Gone {
            partition: place(0),
            epoch: 7,
            committed: Some(1),
        },
    };
    assert_eq!(ledger.ack(&[3]), [gone]);
    assert_eq!(ledger.in_flight(), (0, 0));
    assert_eq!(ledger.held_bytes(), 0);
}

#[test]
fn a_record_to_be_redelivered_blocks_its_partition_where_order_is_kept_and_only_there() {
    for order in [Order::Partition, Order::Relaxed] {
        let now = Instant::now();
        let mut ledger = offered(AckMode::Individual, order, 0..4);
        let two = Take {
            records: 2,
            bytes: 1 << 20,
        };
        take(&mut ledger, now, two);
        ledger
            .nack(1, now, Duration::from_millis(200), false, None)
            .unwrap();
        let offsets: Vec<i64> = take(&mut ledger, now, ALL).iter().map(|t| t.1).collect();
        let expected: &[i64] = match order {
            Order::Partition => &[],
            Order::Relaxed => &[2, 3],
        };
        assert_eq!(offsets, expected);
        let later = now + Duration::from_millis(200);
        assert_eq!(ledger.next_tick(), Some(later));
        ledger.tick(later);
        let taken = take(&mut ledger, later, ALL);
        let (_, offset, tag, deliveries) = taken[0];
        assert_eq!((offset, deliveries), (0, 2));
        assert_eq!(taken.len(), 1, "{order:?}");
        ledger.ack(&[tag]);
        if order == Order::Partition {
            assert_eq!(take(&mut ledger, later, ALL).len(), 2);
        }
    }
}

#[test]
fn a_record_that_is_not_acknowledged_in_time_comes_again_and_gives_its_place_back() {
    let now = Instant::now();
    let mut ledger = offered(AckMode::Individual, Order::Relaxed, 0..20);
    assert_eq!(take(&mut ledger, now, ALL).len(), 8, "the window");
    assert_eq!(take(&mut ledger, now, ALL).len(), 0);
    ledger.extend(3, now, Duration::from_secs(10)).unwrap();
    let due = ledger.next_tick().unwrap();
    assert!(due >= now + Duration::from_secs(1) && due < now + Duration::from_millis(1_100));
    assert_eq!(ledger.tick(due), 7);
    assert_eq!(ledger.in_flight().0, 1);
    let again = take(&mut ledger, due, ALL);
    assert_eq!(again.len(), 7);
    assert!(again.iter().all(|t| t.3 == 2 && t.1 != 2));
}

#[test]
fn delivered_too_often_a_record_becomes_a_dead_letter_once_that_is_written() {
    let mut now = Instant::now();
    let mut ledger = offered(AckMode::Individual, Order::Partition, 0..2);
    let one = Take {
        records: 1,
        bytes: 1,
    };
    for delivery in 1..=3 {
        let taken = take(&mut ledger, now, one);
        assert_eq!(taken[0].3, delivery);
        let words = Some("no good".to_owned());
        ledger
            .nack(taken[0].2, now, Duration::ZERO, false, words)
            .unwrap();
    }
    let letter = ledger.next_dead_letter().unwrap();
    assert_eq!((letter.record.offset, letter.deliveries), (0, 3));
    assert_eq!(letter.reason, Reason::Exhausted(Some("no good".to_owned())));
    assert!(ledger.next_dead_letter().is_none());
    assert_eq!(ledger.low(&place(0)), Some(0), "not before it is written");
    assert!(ledger.dead_lettered(letter.id, false, now));
    assert!(ledger.next_dead_letter().is_none(), "after a pause");
    now = ledger.next_tick().unwrap();
    ledger.tick(now);
    let again = ledger.next_dead_letter().unwrap();
    assert_eq!(again.id, letter.id);
    assert!(ledger.dead_lettered(again.id, true, now));
    assert_eq!(ledger.low(&place(0)), Some(1));
    assert!(!ledger.dead_lettered(again.id, true, now), "known already");
}

#[test]
fn a_record_larger_than_the_window_goes_alone() {
    let now = Instant::now();
    let mut policy = policy(AckMode::Individual, Order::Partition);
    policy.window = WindowMode::Outstanding {
        records: 100,
        bytes: 5,
    };
    let mut ledger = Ledger::new(policy, 1);
    ledger.assign(place(0), 0, None);
    ledger.offer((0..3).map(|o| record(0, o)).collect(), &[]);
    assert_eq!(take(&mut ledger, now, ALL).len(), 1);
    assert_eq!(take(&mut ledger, now, ALL).len(), 0);
    ledger.ack(&[1]);
    assert_eq!(take(&mut ledger, now, ALL).len(), 1);
}

#[test]
fn credit_is_only_what_the_client_gives() {
    let now = Instant::now();
    let mut policy = policy(AckMode::Individual, Order::Partition);
    policy.window = WindowMode::Credit;
    let mut ledger = Ledger::new(policy, 1);
    ledger.assign(place(0), 0, None);
    ledger.offer((0..5).map(|o| record(0, o)).collect(), &[]);
    assert_eq!(take(&mut ledger, now, ALL).len(), 0);
    ledger.credit(2, None);
    assert_eq!(take(&mut ledger, now, ALL).len(), 2);
    ledger.ack(&[1, 2]);
    assert_eq!(take(&mut ledger, now, ALL).len(), 0, "acks give none");
    ledger.credit(10, Some(11));
    assert_eq!(
        take(&mut ledger, now, ALL).len(),
        2,
        "the bytes may be overdrawn by one record"
    );
}

#[test]
fn a_delivery_that_expires_gives_its_credit_back() {
    let now = Instant::now();
    let mut policy = policy(AckMode::Individual, Order::Partition);
    policy.window = WindowMode::Credit;
    policy.ack_timeout = Some(Duration::from_secs(1));
    let mut ledger = Ledger::new(policy, 1);
    ledger.assign(place(0), 0, None);
    ledger.offer((0..5).map(|o| record(0, o)).collect(), &[]);
    ledger.credit(2, Some(1));
    assert_eq!(take(&mut ledger, now, ALL).len(), 1);
    let later = now + Duration::from_secs(2);
    assert_eq!(ledger.tick(later), 1);
    assert_eq!(
        take(&mut ledger, later, ALL).len(),
        1,
        "the client cannot know that it has to ask again"
    );
    assert_eq!(take(&mut ledger, later, ALL).len(), 0);
    // What the client itself gives back, it can ask for again.
    ledger.nack(2, later, Duration::ZERO, false, None).unwrap();
    assert_eq!(take(&mut ledger, later, ALL).len(), 0);
}

#[test]
fn a_record_is_acknowledged_when_it_was_flushed_in_auto_mode() {
    let now = Instant::now();
    let mut ledger = offered(AckMode::Auto, Order::Partition, 0..10);
    assert_eq!(take(&mut ledger, now, ALL).len(), 8);
    assert_eq!(ledger.held_bytes(), 20, "what is not kept is not counted");
    ledger.flushed(4);
    assert_eq!(ledger.commits(), [(place(0), 3)]);
    assert_eq!(ledger.in_flight().0, 5);
    ledger.flushed(9);
    assert_eq!(ledger.commits(), [(place(0), 8)]);
    assert_eq!(ledger.next_tick(), None, "nothing comes again");
}

#[test]
fn an_acknowledgement_before_the_flush_changes_nothing_in_auto_mode() {
    let now = Instant::now();
    let mut ledger = offered(AckMode::Auto, Order::Partition, 0..6);
    assert_eq!(take(&mut ledger, now, ALL).len(), 6);
    // Tags can be guessed, and the socket may be stuck for long.
    assert_eq!(ledger.ack(&[6, 3]), []);
    ledger.nack(1, now, Duration::ZERO, true, None).unwrap();
    ledger.nack(2, now, Duration::ZERO, false, None).unwrap();
    assert_eq!(ledger.low(&place(0)), Some(0));
    assert!(ledger.next_dead_letter().is_none());
    ledger.flushed(5);
    assert_eq!(ledger.low(&place(0)), Some(4));
    ledger.flushed(7);
    assert_eq!(ledger.low(&place(0)), Some(6));
    assert_eq!(ledger.in_flight(), (0, 0));
    assert!(take(&mut ledger, now, ALL).is_empty());
}

#[test]
fn a_gap_that_is_too_wide_stops_its_partition() {
    let now = Instant::now();
    let mut ledger = offered(AckMode::Individual, Order::Relaxed, 0..40);
    let mut all = BTreeSet::new();
    // All but the first are acknowledged.
    loop {
        let taken = take(&mut ledger, now, ALL);
        if taken.is_empty() {
            break;
        }
        all.extend(taken.iter().map(|t| t.1));
        let tags: Vec<u64> = taken.iter().filter(|t| t.1 > 0).map(|t| t.2).collect();
        ledger.ack(&tags);
    }
    assert_eq!(all.last(), Some(&11), "max_gap is 12");
    assert_eq!(ledger.new_gaps(), [place(0)]);
    assert_eq!(ledger.new_gaps(), [], "said once");
    ledger.ack(&[1]);
    assert_eq!(take(&mut ledger, now, ALL).len(), 8);
    assert_eq!(ledger.new_gaps(), []);
}

#[test]
fn a_full_queue_holds_its_partition_back_until_half_of_it_is_gone() {
    let now = Instant::now();
    let mut policy = policy(AckMode::Auto, Order::Partition);
    policy.window = WindowMode::Outstanding {
        records: 10_000,
        bytes: 1 << 30,
    };
    policy.max_records = 10_000;
    policy.max_gap = 10_000;
    let mut ledger = Ledger::new(policy, 1);
    ledger.assign(place(0), 0, None);
    ledger.offer((0..999).map(|o| record(0, o)).collect(), &[]);
    assert_eq!(ledger.flow(), Flow::default());
    ledger.offer((999..1500).map(|o| record(0, o)).collect(), &[]);
    assert_eq!(ledger.flow().hold, [place(0)]);
    assert_eq!(ledger.flow(), Flow::default());
    let most = Take {
        records: 999,
        bytes: 1 << 20,
    };
    take(&mut ledger, now, most);
    assert_eq!(ledger.flow(), Flow::default(), "501 are left");
    take(&mut ledger, now, Take { records: 1, ..most });
    assert_eq!(ledger.flow().go_on, [place(0)]);
}

#[test]
fn a_seek_makes_all_that_is_out_stale() {
    let now = Instant::now();
    let mut ledger = offered(AckMode::Individual, Order::Partition, 0..6);
    take(&mut ledger, now, ALL);
    ledger.ack(&[1, 2]);
    ledger.seeking(&place(0), true);
    assert_eq!(ledger.commits(), [], "nothing while it is under way");
    let left = ledger.sought(&place(0), 1, 2).unwrap();
    assert_eq!((left.low, left.unacked), (2, 4));
    assert!(matches!(ledger.ack(&[3])[..], [Refused::Stale { .. }]));
    assert_eq!(ledger.commits(), [], "a seek commits nothing");
    ledger.offer((1..3).map(|o| record(0, o)).collect(), &[]);
    let taken = take(&mut ledger, now, ALL);
    assert_eq!((taken[0].1, taken[0].2), (1, 7), "tags go on rising");
    ledger.ack(&[7]);
    assert_eq!(ledger.commits(), [(place(0), 2)]);
}

#[test]
fn a_failed_commit_is_asked_for_again() {
    let now = Instant::now();
    let mut ledger = offered(AckMode::Individual, Order::Partition, 0..2);
    take(&mut ledger, now, ALL);
    ledger.ack(&[1]);
    assert_eq!(ledger.commits(), [(place(0), 1)]);
    ledger.committed(&place(0), 1, false);
    assert_eq!(ledger.commits(), [(place(0), 1)]);
    ledger.committed(&place(0), 1, true);
    assert_eq!(ledger.commits(), []);
}

#[test]
fn old_tags_leave_nothing_behind() {
    let now = Instant::now();
    let mut ledger = offered(AckMode::Individual, Order::Relaxed, 0..1);
    // One record stays out for good while a million others come and go.
    take(&mut ledger, now, ALL);
    ledger.assign(place(1), 0, None);
    for round in 0..10_000 {
        let from = round * 4;
        ledger.offer((from..from + 4).map(|o| record(1, o)).collect(), &[]);
        let tags: Vec<u64> = take(&mut ledger, now, ALL).iter().map(|t| t.2).collect();
        assert_eq!(ledger.ack(&tags), []);
    }
    assert!(format!("{ledger:?}").len() < 4_000);
}

/// One record in the model.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    done: bool,
    deliveries: u32,
    /// The tag under which it is with the client.
    out: Option<u64>,
    /// It has come back at least once.
    back: bool,
    dead: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Offer(i32, u8, u8),
    Take(usize),
    Ack(usize),
    AckThrough(i32, usize),
    Nack(usize, u64, bool),
    Extend(usize),
    Tick(u64),
    Letter(bool),
    Commit,
    Rebalance(i32),
    Seek(i32, usize),
    Pause(i32, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3, 1..6_u8, 0..3_u8).prop_map(|(p, n, gap)| Step::Offer(p, n, gap)),
        6 => (1..10_usize).prop_map(Step::Take),
        6 => any::<usize>().prop_map(Step::Ack),
        1 => (0..3, any::<usize>()).prop_map(|(p, n)| Step::AckThrough(p, n)),
        3 => (any::<usize>(), 0..800_u64, prop::bool::weighted(0.2))
            .prop_map(|(n, delay, dead)| Step::Nack(n, delay, dead)),
        1 => any::<usize>().prop_map(Step::Extend),
        2 => (0..1_500_u64).prop_map(Step::Tick),
        2 => any::<bool>().prop_map(Step::Letter),
        2 => Just(Step::Commit),
        1 => (0..3).prop_map(Step::Rebalance),
        1 => (0..3, any::<usize>()).prop_map(|(p, n)| Step::Seek(p, n)),
        1 => (0..3, any::<bool>()).prop_map(|(p, on)| Step::Pause(p, on)),
    ]
}

/// The model, beside the ledger that it watches.
struct Watched {
    ledger: Ledger,
    mode: AckMode,
    order: Order,
    now: Instant,
    records: BTreeMap<(i32, i64), Known>,
    next: BTreeMap<i32, i64>,
    paused: BTreeSet<i32>,
    letters: Vec<DeadLetter>,
    epoch: u64,
}

impl Watched {
    fn new(mode: AckMode, order: Order) -> Self {
        let mut ledger = Ledger::new(policy(mode, order), 1);
        for partition in 0..3 {
            ledger.assign(place(partition), 0, None);
        }
        Self {
            ledger,
            mode,
            order,
            now: Instant::now(),
            records: BTreeMap::new(),
            next: (0..3).map(|p| (p, 0)).collect(),
            paused: BTreeSet::new(),
            letters: Vec::new(),
            epoch: 1,
        }
    }

    fn out(&self) -> Vec<((i32, i64), u64)> {
        let out = self.records.iter();
        out.filter_map(|(at, known)| Some((*at, known.out?)))
            .collect()
    }

    fn low(&self, partition: i32) -> i64 {
        let of = self.records.range((partition, 0)..(partition + 1, 0));
        of.filter(|(_, known)| !known.done)
            .map(|((_, offset), _)| *offset)
            .next()
            .unwrap_or(self.next[&partition])
    }

    fn done(&mut self, at: (i32, i64)) {
        let known = self.records.get_mut(&at).unwrap();
        known.done = true;
        known.out = None;
    }

    fn back(&mut self, at: (i32, i64), dead: bool) {
        let known = self.records.get_mut(&at).unwrap();
        known.out = None;
        known.back = true;
        known.dead = dead || known.deliveries >= 3;
    }

    fn restart(&mut self, partition: i32, start: i64) {
        self.records.retain(|(of, _), _| *of != partition);
        self.next.insert(partition, start);
        self.letters
            .retain(|letter| letter.record.partition != partition);
    }

    fn take(&mut self, records: usize) -> usize {
        let most = Take {
            records,
            bytes: 1 << 20,
        };
        let taken = take(&mut self.ledger, self.now, most);
        for (partition, offset, tag, deliveries) in &taken {
            assert!(!self.paused.contains(partition), "paused");
            let earlier: Vec<_> = self
                .records
                .range((*partition, 0)..(*partition, *offset))
                .map(|(at, known)| (*at, *known))
                .collect();
            let known = self.records.get_mut(&(*partition, *offset)).unwrap();
            assert!(!known.done, "acknowledged and delivered again");
            assert!(known.out.is_none(), "delivered twice at once");
            assert!(!known.dead, "a dead letter was delivered");
            known.deliveries += 1;
            assert_eq!(known.deliveries, *deliveries);
            let again = known.back;
            known.out = Some(*tag);
            for (at, known) in earlier {
                assert!(
                    known.done || known.deliveries > 0 || known.dead,
                    "{at:?} was passed over by {offset}"
                );
                if self.order == Order::Partition {
                    assert!(
                        known.done || !known.back,
                        "{at:?} has come back and {offset} goes out (again: {again})"
                    );
                }
            }
        }
        taken.len()
    }

    fn letter(&mut self, written: bool) {
        while let Some(letter) = self.ledger.next_dead_letter() {
            assert!(
                !self.letters.iter().any(|other| other.id == letter.id),
                "twice at once"
            );
            self.letters.push(letter);
        }
        if let Some(letter) = self.letters.pop() {
            assert!(self.ledger.dead_lettered(letter.id, written, self.now));
            if written {
                self.done((letter.record.partition, letter.record.offset));
            }
        }
    }

    fn tick(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        let expired = self.ledger.tick(self.now);
        // Which ones is the ledger's to say.
        let mut seen = 0;
        for (at, tag) in self.out() {
            if !self.ledger.is_out(tag) {
                seen += 1;
                self.back(at, false);
            }
        }
        assert_eq!(seen, expired);
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Offer(partition, count, gap) => {
                let next = self.next[&partition];
                let records: Vec<_> = (0..i64::from(count))
                    .map(|n| record(partition, next + n * (1 + i64::from(gap % 2))))
                    .collect();
                let end = records.last().unwrap().offset + 1 + i64::from(gap);
                for record in &records {
                    let at = (partition, record.offset);
                    self.records.insert(at, Known::default());
                }
                self.next.insert(partition, end);
                self.ledger.offer(records, &[(place(partition), end)]);
            }
            Step::Take(records) => {
                self.take(records);
            }
            Step::Ack(n) => {
                let out = self.out();
                if out.is_empty() {
                    return;
                }
                let (at, tag) = out[n % out.len()];
                assert_eq!(self.ledger.ack(&[tag]), []);
                if self.mode == AckMode::Cumulative {
                    self.done_through(at.0, at.1);
                } else {
                    self.done(at);
                }
                assert_eq!(self.ledger.ack(&[tag]), [], "twice is once");
            }
            Step::AckThrough(partition, n) => {
                let next = self.next[&partition];
                let offset = i64::try_from(n % 50).unwrap().min(next);
                assert!(self.ledger.ack_through(&place(partition), offset));
                let fresh = self
                    .records
                    .range((partition, 0)..(partition + 1, 0))
                    .find(|(_, known)| !known.done && known.deliveries == 0 && !known.dead)
                    .map_or(i64::MAX, |((_, offset), _)| *offset);
                self.done_through(partition, offset.min(fresh - 1));
            }
            Step::Nack(n, delay, dead) => {
                let out = self.out();
                if out.is_empty() {
                    return;
                }
                let (at, tag) = out[n % out.len()];
                let delay = Duration::from_millis(delay);
                self.ledger.nack(tag, self.now, delay, dead, None).unwrap();
                self.back(at, dead);
                assert!(!self.ledger.is_out(tag), "its tag is dead");
            }
            Step::Extend(n) => {
                let out = self.out();
                if !out.is_empty() {
                    let tag = out[n % out.len()].1;
                    let time = Duration::from_secs(3);
                    self.ledger.extend(tag, self.now, time).unwrap();
                }
            }
            Step::Tick(ms) => self.tick(ms),
            Step::Letter(written) => self.letter(written),
            Step::Commit => {
                for (partition, offset) in self.ledger.commits() {
                    assert_eq!(offset, self.low(partition.partition));
                    self.ledger.committed(&partition, offset, offset % 3 != 0);
                }
            }
            Step::Rebalance(partition) => {
                self.epoch += 1;
                let tags: Vec<u64> = self.out_of(partition);
                let low = self.low(partition);
                let left = self.ledger.revoke(&place(partition), self.epoch).unwrap();
                assert_eq!(left.low, low);
                for tag in tags {
                    assert!(matches!(
                        self.ledger.ack(&[tag])[..],
                        [Refused::Stale { .. }]
                    ));
                }
                // Whoever has it next starts there, and so do we.
                self.ledger.assign(place(partition), low, left.committed);
                self.paused.remove(&partition);
                self.restart(partition, low);
            }
            Step::Seek(partition, n) => {
                self.epoch += 1;
                let start = i64::try_from(n % 50).unwrap();
                let tags: Vec<u64> = self.out_of(partition);
                self.ledger.seeking(&place(partition), true);
                self.ledger.sought(&place(partition), start, self.epoch);
                for tag in tags {
                    assert!(matches!(
                        self.ledger.ack(&[tag])[..],
                        [Refused::Stale { .. }]
                    ));
                }
                self.restart(partition, start);
            }
            Step::Pause(partition, on) => {
                assert!(self.ledger.pause(&place(partition), on));
                if on {
                    self.paused.insert(partition);
                } else {
                    self.paused.remove(&partition);
                }
            }
        }
    }

    fn out_of(&self, partition: i32) -> Vec<u64> {
        let out = self.out();
        out.iter()
            .filter(|((of, _), _)| *of == partition)
            .map(|(_, tag)| *tag)
            .collect()
    }

    /// All that was delivered up to this offset and is not on its way to the dead letters.
    fn done_through(&mut self, partition: i32, offset: i64) {
        let of: Vec<_> = self
            .records
            .range((partition, 0)..(partition, (offset + 1).max(0)))
            .filter(|(_, known)| !known.dead && known.deliveries > 0)
            .map(|(at, _)| *at)
            .collect();
        for at in of {
            self.done(at);
        }
    }

    fn check(&mut self) {
        let (records, bytes) = self.ledger.in_flight();
        assert_eq!(records, self.out().len() as u64, "the window counts once");
        assert_eq!(bytes, records * 10);
        assert!(records <= 8);
        let kept = self.records.values().filter(|known| !known.done).count() as u64;
        assert_eq!(self.ledger.held_bytes(), kept * 10);
        for place in self.ledger.places() {
            let partition = place.partition.partition;
            assert_eq!(place.acked, self.low(partition));
            assert!(place.acked <= place.delivered);
        }
    }

    /// Everything that is left gets through, given time.
    fn finish(&mut self) {
        for partition in 0..3 {
            self.apply(Step::Pause(partition, false));
        }
        for _ in 0..10_000 {
            if (0..3).all(|p| self.low(p) == self.next[&p]) {
                return;
            }
            self.take(5);
            for (at, tag) in self.out() {
                assert_eq!(self.ledger.ack(&[tag]), []);
                if self.mode == AckMode::Cumulative {
                    self.done_through(at.0, at.1);
                } else {
                    self.done(at);
                }
            }
            for _ in 0..5 {
                self.letter(true);
            }
            self.check();
            self.tick(700);
        }
        panic!("records were left behind: {:#?}", self.records);
    }
}

fn mode() -> impl Strategy<Value = AckMode> {
    prop_oneof![Just(AckMode::Individual), Just(AckMode::Cumulative)]
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Partition), Just(Order::Relaxed)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn the_ledger_does_as_the_model(
        mode in mode(),
        order in order(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut watched = Watched::new(mode, order);
        for step in steps {
            watched.apply(step);
            watched.check();
        }
        watched.finish();
    }
}
