//! Followers over a log that is made up: going from Kafka to the ring and back, nothing is lost and
//! nothing comes twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::time::Instant;

use super::catch_up::{Loaded, Source};
use super::*;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::reader::Span;
use crate::record::{ConsumerRecord, TimestampType};

pub(super) fn record(partition: i32, offset: i64) -> ConsumerRecord {
    ConsumerRecord {
        topic: Arc::from("t"),
        partition,
        offset,
        timestamp: offset,
        timestamp_type: TimestampType::Create,
        key: Some(key(offset)),
        value: Some(Bytes::from_static(b"0123456789")),
        headers: Vec::new(),
    }
}

/// The key of the record at this offset.
fn key(offset: i64) -> Bytes {
    Bytes::from_static(&[b"0", b"1", b"2", b"3"][usize::try_from(offset % 4).unwrap()][..])
}

fn topic(partitions: i32) -> Arc<Topic> {
    Arc::new(Topic::led("t", 1, partitions))
}

/// A log: for each partition where it begins, and which offsets are records. Others are transaction
/// markers, or were aborted or compacted away.
#[derive(Debug, Default)]
struct Log {
    partitions: Mutex<BTreeMap<i32, (i64, Vec<bool>)>>,
    page_records: usize,
    pages: AtomicUsize,
    /// How many pages are yet to fail.
    failures: AtomicUsize,
}

impl Log {
    fn append(&self, partition: i32, is_record: bool) -> i64 {
        let mut partitions = self.partitions.lock();
        let (_, log) = partitions.entry(partition).or_default();
        log.push(is_record);
        i64::try_from(log.len() - 1).unwrap()
    }

    fn is_record(&self, partition: i32, offset: i64) -> bool {
        let partitions = self.partitions.lock();
        partitions[&partition].1[usize::try_from(offset).unwrap()]
    }

    fn end(&self, partition: i32) -> i64 {
        let partitions = self.partitions.lock();
        partitions
            .get(&partition)
            .map_or(0, |(_, log)| i64::try_from(log.len()).unwrap())
    }

    fn all(&self) -> Vec<(i32, i64)> {
        let partitions = self.partitions.lock().keys().copied().collect::<Vec<_>>();
        let records = partitions
            .into_iter()
            .flat_map(|partition| (0..self.end(partition)).map(move |offset| (partition, offset)));
        records.filter(|(p, o)| self.is_record(*p, *o)).collect()
    }

    fn read(&self, request: &PageRequest) -> Result<Page, Fault> {
        self.pages.fetch_add(1, Ordering::Relaxed);
        let left = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if left.is_ok() {
            return Err(Fault::new(FaultKind::Unavailable, "down"));
        }
        let mut page = Page {
            unanswered: Vec::new(),
            records: Vec::new(),
            next: Vec::new(),
        };
        for span in &request.spans {
            assert!(span.from < span.end, "nothing to read: {span:?}");
            if span.from < self.partitions.lock()[&span.partition].0 {
                return Err(Fault::new(FaultKind::OffsetOutOfRange, "gone"));
            }
            let mut next = span.from;
            while next < span.end && page.records.len() < self.page_records {
                if self.is_record(span.partition, next) {
                    page.records.push(record(span.partition, next));
                }
                next += 1;
            }
            page.next.push((span.partition, next));
        }
        Ok(page)
    }
}

impl Source for Log {
    fn page(&self, request: PageRequest) -> BoxFuture<'_, Result<Page, Fault>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.read(&request)
        })
    }

    fn watermarks<'a>(
        &'a self,
        _: Isolation,
        _: &'a str,
        partitions: &'a [i32],
    ) -> BoxFuture<'a, Result<Vec<Watermarks>, Fault>> {
        let bound = |partition: &i32| {
            // Not in the struct: the lock would be held until its end.
            let low = self.partitions.lock()[partition].0;
            Watermarks {
                partition: *partition,
                low,
                end: self.end(*partition),
            }
        };
        Box::pin(async move { Ok(partitions.iter().map(bound).collect()) })
    }
}

/// The topic reader's part, by hand: everything but the reads from Kafka.
struct World {
    log: Arc<Log>,
    feeds: Arc<Feeds>,
    catch_up: Arc<CatchUpPool>,
    topic: Arc<Topic>,
}

impl World {
    fn new(partitions: i32, ring_bytes: usize, page_records: usize) -> Self {
        let settings = StreamSettings {
            ring_bytes,
            ..StreamSettings::default()
        };
        Self::with(partitions, &settings, page_records)
    }

    fn with(partitions: i32, settings: &StreamSettings, page_records: usize) -> Self {
        let log = Arc::new(Log {
            page_records,
            ..Log::default()
        });
        for partition in 0..partitions {
            log.partitions.lock().insert(partition, (0, Vec::new()));
        }
        Self {
            feeds: Feeds::new(settings),
            catch_up: catch_up_pool(Arc::clone(&log) as _, settings),
            log,
            topic: topic(partitions),
        }
    }

    fn follow(&self, start: &[(i32, i64)], on_lag: OnLag) -> Follower {
        self.follow_until(start, None, on_lag)
    }

    fn follow_until(
        &self,
        start: &[(i32, i64)],
        until: Option<Vec<(i32, i64)>>,
        on_lag: OnLag,
    ) -> Follower {
        self.follow_key(start, until, on_lag, None)
    }

    fn follow_key(
        &self,
        start: &[(i32, i64)],
        until: Option<Vec<(i32, i64)>>,
        on_lag: OnLag,
        key: Option<Bytes>,
    ) -> Follower {
        let (feed, _) = self
            .feeds
            .join(Login::default(), &self.topic, Isolation::Committed);
        let follow = Follow {
            topic: Arc::clone(&self.topic),
            start: start.to_vec(),
            all: true,
            until,
            on_lag,
            isolation: Isolation::Committed,
        };
        let catch_up = Arc::clone(&self.catch_up);
        Follower::new(Arc::clone(&self.feeds), feed, catch_up, follow, key)
    }

    fn feed(&self) -> Arc<Feed> {
        Arc::clone(&self.feeds.of.lock()[&(Login::default(), Arc::from("t"), Isolation::Committed)])
    }

    fn begin_at_end(&self) {
        let feed = self.feed();
        let partitions: Vec<i32> = self.log.partitions.lock().keys().copied().collect();
        for partition in partitions {
            let at = feed.ring.read().next(partition);
            feed.ring
                .write()
                .begin(partition, at.unwrap_or(self.log.end(partition)));
        }
        feed.wake();
    }

    /// The reader reads up to `count` offsets of a partition on.
    fn pump(&self, partition: i32, count: i64) {
        let feed = self.feed();
        let mut ring = feed.ring.write();
        let Some(next) = ring.next(partition) else {
            return;
        };
        for offset in next..(next + count).min(self.log.end(partition)) {
            if self.log.is_record(partition, offset) {
                ring.push(record(partition, offset), Instant::now());
            } else {
                ring.reached(partition, offset + 1);
            }
        }
        let keys = ring.join();
        drop(ring);
        feed.wake_for(&keys);
    }

    fn pump_all(&self) {
        let partitions: Vec<i32> = self.log.partitions.lock().keys().copied().collect();
        for partition in partitions {
            self.pump(partition, i64::MAX / 2);
        }
    }
}

/// Takes all that comes without waiting for anything but pages.
async fn drain(follower: &mut Follower, most: usize, got: &mut Vec<(i32, i64)>) -> Option<Next> {
    loop {
        // Pages are made in a few polls; what still waits then waits for the ring.
        let mut next = None;
        for _ in 0..20 {
            next = follower.next(most).now_or_never();
            if next.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        match next {
            None => return None,
            Some(Next::Records(entries)) => got.extend(
                entries
                    .iter()
                    .map(|entry| (entry.record().partition, entry.record().offset)),
            ),
            Some(Next::Moved) => {}
            Some(other) => return Some(other),
        }
    }
}

fn sorted(mut places: Vec<(i32, i64)>) -> Vec<(i32, i64)> {
    places.sort_unstable();
    places
}

fn in_order(places: &[(i32, i64)]) -> bool {
    let mut last = BTreeMap::new();
    places
        .iter()
        .all(|(partition, offset)| last.insert(*partition, *offset).is_none_or(|l| l < *offset))
}

#[tokio::test]
async fn the_beginning_is_read_from_kafka_and_the_rest_from_the_ring() {
    let world = World::new(2, 1 << 20, 7);
    for n in 0..40 {
        world.log.append(n % 2, n % 5 != 0);
    }
    let mut follower = world.follow(&[(0, 0), (1, 0)], OnLag::Catchup);
    let mut got = Vec::new();
    assert!(drain(&mut follower, 100, &mut got).await.is_none());
    assert!(got.is_empty(), "the topic reader has not begun");
    world.begin_at_end();
    drain(&mut follower, 100, &mut got).await;
    assert_eq!(sorted(got.clone()), world.log.all());
    assert_eq!(follower.cursor(), [(0, 20), (1, 20)]);
    assert_eq!(follower.lag(), None);
    let pages = world.log.pages.load(Ordering::Relaxed);
    for n in 0..40 {
        world.log.append(n % 2, true);
    }
    world.pump_all();
    drain(&mut follower, 100, &mut got).await;
    assert_eq!(sorted(got.clone()), world.log.all());
    assert_eq!(
        world.log.pages.load(Ordering::Relaxed),
        pages,
        "no page more"
    );
    assert!(in_order(&got));
}

#[tokio::test]
async fn a_crowd_at_the_beginning_shares_its_pages() {
    let world = World::new(1, 1 << 20, 100);
    for _ in 0..1_000 {
        world.log.append(0, true);
    }
    let mut crowd: Vec<Follower> = (0..200)
        .map(|_| world.follow(&[(0, 0)], OnLag::Catchup))
        .collect();
    world.begin_at_end();
    let counts = futures::future::join_all(crowd.iter_mut().map(|follower| async move {
        let mut count = 0;
        while count < 1_000 {
            if let Next::Records(entries) = follower.next(1 << 10).await {
                count += entries.len();
            }
        }
        count
    }));
    assert!(counts.await.iter().all(|count| *count == 1_000));
    let pages = world.log.pages.load(Ordering::Relaxed);
    assert!(pages < 40, "{pages} pages for ten");
}

/// One that was given something and asks for no more holds up nobody, however many there are, and its
/// page is read again when it goes on.
#[tokio::test]
async fn a_follower_that_has_stopped_holds_neither_a_catch_up_read_nor_its_page() {
    let settings = StreamSettings {
        catchup_readers: 2,
        catchup_bytes: 50_000,
        ..StreamSettings::default()
    };
    let world = World::with(1, &settings, 100);
    for _ in 0..1_000 {
        world.log.append(0, true);
    }
    let mut stopped: Vec<Follower> = (0..40)
        .map(|n| world.follow(&[(0, n)], OnLag::Catchup))
        .collect();
    world.begin_at_end();
    for follower in &mut stopped {
        assert!(matches!(follower.next(30).await, Next::Records(_)));
        assert!(world.catch_up.held() <= 50_000, "{}", world.catch_up.held());
    }
    // In the middle of a read.
    let mut halfway = world.follow(&[(0, 500)], OnLag::Catchup);
    assert!(halfway.next(30).now_or_never().is_none());
    let mut fast = world.follow(&[(0, 0)], OnLag::Catchup);
    let mut got = Vec::new();
    assert!(drain(&mut fast, 1_000, &mut got).await.is_none());
    assert_eq!(got, world.log.all());
    for (n, follower) in (0..).zip(&mut stopped) {
        let mut rest = Vec::new();
        let first = follower.cursor()[0].1;
        assert!(first > n && first < n + 100);
        assert!(drain(follower, 1_000, &mut rest).await.is_none());
        assert_eq!(rest, (first..1_000).map(|o| (0, o)).collect::<Vec<_>>());
    }
    assert!(world.catch_up.held() <= 50_000);
    drop(stopped);
    drop((halfway, fast));
    tokio::task::yield_now().await;
    assert_eq!(world.catch_up.held(), 0);
}

/// Who follows a key is woken by its records alone, and misses nothing by not looking, however much the
/// ring lets go of.
#[tokio::test]
async fn a_follower_of_a_key_sees_only_the_records_of_the_key() {
    let world = World::new(1, 3_000, 100);
    for _ in 0..10 {
        world.log.append(0, true);
    }
    let follow = |on_lag| world.follow_key(&[(0, 0)], None, on_lag, Some(key(3)));
    let mut skips = follow(OnLag::Skip);
    world.begin_at_end();
    let mut got = Vec::new();
    assert!(drain(&mut skips, 100, &mut got).await.is_none());
    assert_eq!(got, [(0, 3), (0, 7)]);
    let pages = world.log.pages.load(Ordering::Relaxed);
    // Many of other keys: the ring lets go of most.
    for n in 10..500 {
        world.log.append(0, n % 4 != 3);
    }
    let mut waits = Box::pin(skips.next(100));
    let woken = Arc::new(AtomicUsize::new(0));
    let waker = futures::task::waker(Arc::new(Count(Arc::clone(&woken))));
    let mut context = std::task::Context::from_waker(&waker);
    assert!(waits.as_mut().poll(&mut context).is_pending());
    for _ in 0..49 {
        world.pump(0, 10);
    }
    assert!(world.feed().ring.read().low(0) > Some(400));
    assert_eq!(woken.load(Ordering::Relaxed), 0);
    world
        .log
        .partitions
        .lock()
        .get_mut(&0)
        .unwrap()
        .1
        .truncate(500);
    for _ in 0..4 {
        world.log.append(0, true);
    }
    world.pump(0, 4);
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    let next = waits.await;
    assert!(
        matches!(&next, Next::Records(entries) if entries[0].record().offset == 503),
        "{next:?}"
    );
    assert_eq!(skips.cursor(), [(0, 504)]);
    assert_eq!(world.log.pages.load(Ordering::Relaxed), pages);
    // One that misses some of its own is told so.
    for _ in 0..400 {
        world.log.append(0, true);
    }
    world.pump_all();
    let said = drain(&mut skips, 100, &mut got).await;
    assert!(
        matches!(said, Some(Next::Gap(gap)) if gap.reason == GapReason::Overrun && gap.from == 504),
        "{said:?}"
    );
    drop(skips);
    let feed = world.feed();
    assert!(feed.ring.read().all_keys().is_empty());
}

/// What nothing wakes it for it sees when it is asked to, up to the first record that is to come.
#[tokio::test]
async fn the_position_of_a_follower_of_a_key_moves_with_the_records_of_other_keys() {
    let world = World::new(3, 3_000, 100);
    let mut follower =
        world.follow_key(&[(0, 0), (1, 0), (2, 0)], None, OnLag::Close, Some(key(3)));
    let mut plain = world.follow(&[(0, 0), (1, 0), (2, 0)], OnLag::Catchup);
    assert!(!follower.advance(), "nothing is read yet");
    world.begin_at_end();
    let mut got = Vec::new();
    assert!(drain(&mut follower, 100, &mut got).await.is_none());
    assert!(drain(&mut plain, 100, &mut got).await.is_none());
    for _ in 0..3 {
        world.log.append(0, true);
        world.log.append(1, true);
    }
    world.pump_all();
    assert_eq!(follower.cursor(), [(0, 0), (1, 0), (2, 0)]);
    assert!(!plain.advance() && plain.cursor()[0] == (0, 0));
    assert!(follower.advance() && !follower.advance());
    assert_eq!(follower.cursor(), [(0, 3), (1, 3), (2, 0)]);
    assert_eq!(follower.ends(), [0, 1, 2]);
    // Its own stay to come, and so does what it wants nothing of for now.
    follower.hold(vec![2]);
    assert!(drain(&mut follower, 100, &mut got).await.is_none());
    for _ in 0..4 {
        world.log.append(0, true);
        world.log.append(2, true);
    }
    world.log.append(1, false);
    world.pump_all();
    assert!(follower.advance());
    assert_eq!(follower.cursor(), [(0, 3), (1, 4), (2, 0)]);
    assert_eq!(follower.ends(), [1]);
    assert!(got.is_empty());
    assert!(drain(&mut follower, 100, &mut got).await.is_none());
    assert_eq!(got, [(0, 3)]);
    assert_eq!(follower.cursor(), [(0, 7), (1, 4), (2, 0)]);
    // Whoever goes elsewhere in one partition reads nothing of the others again, however much the ring
    // has let go of: that is known not to be its own.
    follower.hold(vec![]);
    assert!(drain(&mut follower, 100, &mut got).await.is_none());
    assert_eq!(got, [(0, 3), (2, 3)]);
    for n in 7..400 {
        world.log.append(0, n % 4 != 3);
    }
    world.pump_all();
    assert!(world.feed().ring.read().low(0) > Some(200));
    let pages = world.log.pages.load(Ordering::Relaxed);
    follower.seek(&[(1, 2)]);
    assert!(drain(&mut follower, 100, &mut got).await.is_none());
    assert_eq!(follower.cursor(), [(0, 400), (1, 4), (2, 4)]);
    let read = world.log.pages.load(Ordering::Relaxed) - pages;
    assert!(read <= 1, "{read} pages for two records");
    assert_eq!(got.len(), 2);
}

#[tokio::test]
async fn a_follower_of_a_key_is_told_of_outages_gaps_and_ends_as_all_are() {
    let world = World::new(1, 1 << 20, 100);
    let mut follower = world.follow_key(&[(0, 0)], None, OnLag::Catchup, Some(key(3)));
    world.begin_at_end();
    assert!(drain(&mut follower, 100, &mut Vec::new()).await.is_none());
    let feed = world.feed();
    for down in [true, false] {
        let tell = async { feed.is_down(down) };
        let (next, ()) = tokio::join!(follower.next(100), tell);
        assert!(matches!(next, Next::Health), "{next:?}");
        assert_eq!(follower.down_since().is_some(), down);
    }
    let tell = async { feed.end(Ended::Deleted) };
    let (next, ()) = tokio::join!(follower.next(100), tell);
    assert!(matches!(next, Next::Ended(Ended::Deleted)), "{next:?}");
}

/// Counts wakes.
struct Count(Arc<AtomicUsize>);

impl futures::task::ArcWake for Count {
    fn wake_by_ref(this: &Arc<Self>) {
        this.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_follower_that_falls_behind_catches_up_skips_or_ends_by_its_on_lag() {
    for on_lag in [OnLag::Catchup, OnLag::Skip, OnLag::Close] {
        let world = World::new(1, 3_000, 100);
        let mut follower = world.follow(&[(0, 0)], on_lag);
        world.begin_at_end();
        let mut got = Vec::new();
        world.log.append(0, true);
        world.pump_all();
        assert!(drain(&mut follower, 100, &mut got).await.is_none());
        for _ in 0..200 {
            world.log.append(0, true);
        }
        world.pump_all();
        let said = drain(&mut follower, 100, &mut got).await;
        let gap = Gap {
            partition: 0,
            from: 1,
            to: 201,
            reason: GapReason::Overrun,
        };
        match on_lag {
            OnLag::Catchup => {
                assert!(said.is_none());
                assert_eq!(got, world.log.all());
            }
            OnLag::Skip => {
                assert!(
                    matches!(said, Some(Next::Gap(told)) if told == gap),
                    "{said:?}"
                );
                world.log.append(0, true);
                world.pump_all();
                assert!(drain(&mut follower, 100, &mut got).await.is_none());
                assert_eq!(got, [(0, 0), (0, 201)]);
            }
            OnLag::Close => {
                assert!(
                    matches!(said, Some(Next::Gap(told)) if told == gap),
                    "{said:?}"
                );
                assert!(!follower.is_over(), "it has not said so");
                let end = drain(&mut follower, 100, &mut got).await;
                assert!(matches!(end, Some(Next::Ended(Ended::Overrun))), "{end:?}");
                assert!(follower.is_over());
            }
        }
    }
}

#[tokio::test]
async fn what_retention_took_is_a_gap() {
    let world = World::new(1, 1 << 20, 100);
    for _ in 0..50 {
        world.log.append(0, true);
    }
    world.log.partitions.lock().get_mut(&0).unwrap().0 = 30;
    let mut follower = world.follow(&[(0, 10)], OnLag::Catchup);
    world.begin_at_end();
    let mut got = Vec::new();
    let said = drain(&mut follower, 100, &mut got).await;
    let gap = Gap {
        partition: 0,
        from: 10,
        to: 30,
        reason: GapReason::Retention,
    };
    assert!(
        matches!(said, Some(Next::Gap(told)) if told == gap),
        "{said:?}"
    );
    drain(&mut follower, 100, &mut got).await;
    assert_eq!(got.first(), Some(&(0, 30)));
    assert_eq!(got.len(), 20);
}

#[tokio::test]
async fn a_log_that_lost_its_end_is_a_gap() {
    let world = World::new(1, 1 << 20, 100);
    for _ in 0..50 {
        world.log.append(0, true);
    }
    let mut follower = world.follow(&[(0, 50)], OnLag::Catchup);
    world.begin_at_end();
    let mut got = Vec::new();
    drain(&mut follower, 100, &mut got).await;
    world.feed().ring.write().begin(0, 40);
    world.feed().wake();
    let said = drain(&mut follower, 100, &mut got).await;
    assert!(
        matches!(said, Some(Next::Gap(gap)) if gap.reason == GapReason::Truncated && gap.to == 40),
        "{said:?}"
    );
    world.pump(0, 3);
    drain(&mut follower, 100, &mut got).await;
    assert_eq!(got, [(0, 40), (0, 41), (0, 42)]);
}

#[tokio::test]
async fn a_read_to_known_offsets_ends_there() {
    let world = World::new(2, 1 << 20, 10);
    for n in 0..60 {
        world.log.append(n % 2, n % 7 != 0);
    }
    let until = Some(vec![(0, 30), (1, 12)]);
    let mut follower = world.follow_until(&[(0, 3), (1, 0)], until, OnLag::Catchup);
    let mut got = Vec::new();
    let end = drain(&mut follower, 50, &mut got).await;
    assert!(matches!(end, Some(Next::Ended(Ended::Until))), "{end:?}");
    assert_eq!(follower.cursor(), [(0, 30), (1, 12)]);
    let mut all = world.log.all();
    all.retain(|(partition, offset)| match partition {
        0 => *offset >= 3,
        _ => *offset < 12,
    });
    assert_eq!(sorted(got), all);
}

#[tokio::test]
async fn a_partition_whose_broker_is_silent_from_the_start_holds_up_no_other() {
    let world = World::new(2, 1 << 20, 7);
    for n in 0..20 {
        world.log.append(n % 2, true);
    }
    let mut follower = world.follow(&[(0, 5), (1, 5)], OnLag::Skip);
    let feed = world.feed();
    feed.ring.write().begin(0, 10);
    feed.wake();
    let mut got = Vec::new();
    assert!(drain(&mut follower, 100, &mut got).await.is_none());
    world.log.append(0, true);
    world.pump_all();
    assert!(drain(&mut follower, 100, &mut got).await.is_none());
    assert_eq!(got, (5..11).map(|offset| (0, offset)).collect::<Vec<_>>());
    assert_eq!(follower.ends(), [0]);

    // It answers later, when more has been written: nothing is left out, and nothing comes again.
    world.log.append(1, true);
    feed.ring.write().begin(1, 11);
    feed.wake();
    assert!(drain(&mut follower, 100, &mut got).await.is_none());
    world.log.append(1, true);
    world.log.append(0, true);
    world.pump_all();
    assert!(drain(&mut follower, 100, &mut got).await.is_none());
    assert_eq!(got.len(), 14);
    assert!(in_order(&got));
    assert_eq!(follower.cursor(), [(0, 12), (1, 12)]);
}

#[tokio::test]
async fn a_new_partition_is_followed_from_its_beginning() {
    let world = World::new(1, 1 << 20, 100);
    let mut follower = world.follow(&[(0, 0)], OnLag::Catchup);
    world.begin_at_end();
    let mut got = Vec::new();
    drain(&mut follower, 100, &mut got).await;
    for _ in 0..3 {
        world.log.append(1, true);
    }
    world.begin_at_end();
    for _ in 0..2 {
        world.log.append(1, true);
    }
    world.pump_all();
    drain(&mut follower, 100, &mut got).await;
    assert_eq!(got, [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4)]);
}

/// What is held stays where it is, in the ring and beyond it, and comes once it is wanted; what is sought
/// comes from there.
#[tokio::test]
async fn a_held_partition_stays_where_it_is_and_a_sought_one_goes_there() {
    for ring in [1 << 20, 2_000] {
        let world = World::new(2, ring, 7);
        let mut follower = world.follow(&[(0, 0), (1, 0)], OnLag::Skip);
        world.begin_at_end();
        let mut got = Vec::new();
        assert!(drain(&mut follower, 100, &mut got).await.is_none());
        follower.hold(vec![0]);
        for n in 0..200 {
            world.log.append(n % 2, true);
            world.pump_all();
            assert!(drain(&mut follower, 100, &mut got).await.is_none());
        }
        assert_eq!(got.len(), 100);
        assert!(got.iter().all(|(partition, _)| *partition == 1));
        assert_eq!(follower.cursor(), [(0, 0), (1, 100)]);
        assert_eq!(follower.lag(), None);
        assert_eq!(follower.ends(), [1]);
        follower.hold(Vec::new());
        assert!(drain(&mut follower, 100, &mut got).await.is_none());
        assert_eq!(sorted(got.clone()), world.log.all(), "a ring of {ring}");
        assert!(in_order(&got));
        assert_eq!(follower.ends(), [0, 1]);
        got.clear();
        follower.seek(&[(1, 40), (9, 7)]);
        assert!(drain(&mut follower, 100, &mut got).await.is_none());
        let wanted: Vec<(i32, i64)> = (40..100).map(|offset| (1, offset)).collect();
        assert_eq!(got, wanted, "a ring of {ring}");
        // In the midst of a page.
        follower.seek(&[(0, 0)]);
        for _ in 0..20 {
            if let Some(Next::Records(_)) = follower.next(1).now_or_never() {
                break;
            }
            tokio::task::yield_now().await;
        }
        got.clear();
        follower.seek(&[(0, 99)]);
        assert!(drain(&mut follower, 100, &mut got).await.is_none());
        assert_eq!(got, [(0, 99)], "a ring of {ring}");
    }
}

#[tokio::test]
async fn followers_are_told_when_kafka_is_away() {
    let world = World::new(1, 1 << 20, 7);
    let mut follower = world.follow(&[(0, 0)], OnLag::Catchup);
    world.begin_at_end();
    let joined = follower.next(1).now_or_never();
    assert!(matches!(joined, Some(Next::Moved)));
    assert!(follower.next(1).now_or_never().is_none());
    world.feed().is_down(true);
    world.feed().is_down(true);
    let told = follower.next(1).now_or_never();
    assert!(matches!(told, Some(Next::Health)) && follower.down_since().is_some());
    assert!(follower.next(1).now_or_never().is_none(), "once");
    assert!(follower.ends().is_empty());
    world.feed().is_down(false);
    let told = follower.next(1).now_or_never();
    assert!(matches!(told, Some(Next::Health)) && follower.down_since().is_none());
}

#[tokio::test]
async fn the_reader_stops_when_nobody_has_followed_for_a_while() {
    let world = World::new(1, 1 << 20, 100);
    let follower = world.follow(&[(0, 0)], OnLag::Catchup);
    let feed = world.feed();
    assert!(!world.feeds.is_over(&feed, Duration::ZERO));
    drop(follower);
    assert!(!world.feeds.is_over(&feed, Duration::from_secs(60)));
    assert!(world.feeds.is_over(&feed, Duration::ZERO));
    assert!(world.feeds.of.lock().is_empty());
    let (_, new) = world
        .feeds
        .join(Login::default(), &world.topic, Isolation::Committed);
    assert!(new, "the next one starts a reader");
}

#[tokio::test]
async fn each_isolation_level_has_a_reader_and_pages_of_its_own() {
    let world = World::new(1, 1 << 20, 100);
    let (committed, first) = world
        .feeds
        .join(Login::default(), &world.topic, Isolation::Committed);
    let (all, other) = world
        .feeds
        .join(Login::default(), &world.topic, Isolation::Uncommitted);
    assert!(first && other);
    let (again, new) = world
        .feeds
        .join(Login::default(), &world.topic, Isolation::Uncommitted);
    assert!(!new && Arc::ptr_eq(&all, &again));
    world.log.append(0, true);
    let span = Span {
        partition: 0,
        from: 0,
        end: 1,
    };
    let load = async |feed: &Arc<Feed>| {
        let loading = world
            .catch_up
            .load(feed, vec![span], 1 << 20, Duration::ZERO);
        match loading.await {
            Loaded::Page(slot) => slot,
            other => panic!("{other:?}"),
        }
    };
    let (one, two) = (load(&committed).await, load(&all).await);
    assert!(!Arc::ptr_eq(&one, &two));
    assert!(Arc::ptr_eq(&one, &load(&committed).await));
    world.feeds.forget(&all);
    assert!(
        !world
            .feeds
            .join(Login::default(), &world.topic, Isolation::Committed)
            .1
    );
    assert!(
        world
            .feeds
            .join(Login::default(), &world.topic, Isolation::Uncommitted)
            .1
    );
}

#[tokio::test]
async fn a_topic_that_ends_is_read_to_its_end() {
    let world = World::new(1, 1 << 20, 100);
    let mut follower = world.follow(&[(0, 0)], OnLag::Catchup);
    world.begin_at_end();
    world.log.append(0, true);
    world.pump_all();
    world.feed().end(Ended::Deleted);
    let mut got = Vec::new();
    let end = drain(&mut follower, 100, &mut got).await;
    assert_eq!(got, [(0, 0)]);
    assert!(matches!(end, Some(Next::Ended(Ended::Deleted))), "{end:?}");
}

#[tokio::test]
async fn idle_rings_are_emptied_first() {
    let feeds = Feeds::new(&StreamSettings {
        ring_total_bytes: 10_000,
        ..StreamSettings::default()
    });
    let named = |name: &str| {
        let topic = Topic {
            name: Arc::from(name),
            ..(*topic(1)).clone()
        };
        feeds
            .join(Login::default(), &Arc::new(topic), Isolation::Committed)
            .0
    };
    let (idle, busy) = (named("idle"), named("busy"));
    for feed in [&idle, &busy] {
        let mut ring = feed.ring.write();
        ring.begin(0, 0);
        for offset in 0..20 {
            ring.push(record(0, offset), Instant::now());
        }
    }
    feeds.left(&idle);
    feeds.relieve();
    assert!(idle.ring.read().is_empty());
    assert_eq!(busy.ring.read().low(0), Some(0), "there was enough");
    for offset in 20..100 {
        busy.ring.write().push(record(0, offset), Instant::now());
    }
    feeds.relieve();
    assert!(busy.ring.read().low(0) > Some(50) && feeds.held() <= 10_000);
}

/// What happens between two looks of the follower.
#[derive(Debug, Clone)]
enum Deed {
    Append(i32, bool),
    Pump(i32, i64),
    Drain(usize),
    Advance,
    Fail,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => (0..3, prop::bool::weighted(0.8)).prop_map(|(p, is)| Deed::Append(p, is)),
        3 => (0..3, 1_i64..30).prop_map(|(p, count)| Deed::Pump(p, count)),
        2 => (1_usize..200).prop_map(Deed::Drain),
        1 => Just(Deed::Advance),
        1 => Just(Deed::Fail),
    ];
    prop::collection::vec(deed, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the ring keeps, and however reading, writing and failing come together: from where
    /// the follower began, it gets every record once and in order.
    #[test]
    fn a_follower_gets_each_record_once_whatever_the_ring_and_its_pages_do(
        before in 0_i64..40,
        starts in prop::collection::vec(0_i64..45, 3),
        ring_bytes in 500_usize..8_000,
        catchup_bytes in 500_usize..20_000,
        page in 1_usize..20,
        keyed in prop::bool::ANY,
        deeds in deeds(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let settings = StreamSettings { ring_bytes, catchup_bytes, ..StreamSettings::default() };
            let world = World::with(3, &settings, page);
            for n in 0..before * 3 {
                world.log.append(i32::try_from(n % 3).unwrap(), n % 4 != 1);
            }
            // After the end too: an administrator may know more than the reader.
            let start: Vec<(i32, i64)> = (0..).zip(starts.iter().copied()).collect();
            let only = keyed.then(|| key(1));
            let mut follower = world.follow_key(&start, None, OnLag::Catchup, only.clone());
            world.begin_at_end();
            let mut got = Vec::new();
            for deed in deeds {
                match deed {
                    Deed::Append(partition, is) => { world.log.append(partition, is); }
                    Deed::Pump(partition, count) => world.pump(partition, count),
                    Deed::Drain(most) => {
                        // Half of a pull too, dropped in the middle.
                        let _ = follower.next(most).now_or_never().map(|next| {
                            if let Next::Records(entries) = next {
                                got.extend(entries.iter().map(|e| (e.record().partition, e.record().offset)));
                            }
                        });
                    }
                    Deed::Advance => { follower.advance(); }
                    Deed::Fail => { world.log.failures.fetch_add(1, Ordering::Relaxed); }
                }
            }
            world.log.failures.store(0, Ordering::Relaxed);
            world.pump_all();
            let ends = |p: i32, start: i64| start.max(world.log.end(p));
            for _ in 0..10_000 {
                let said = drain(&mut follower, 300, &mut got).await;
                assert!(said.is_none(), "{said:?}");
                if follower.cursor().iter().zip(&start).all(|((p, o), (_, s))| *o >= ends(*p, *s)) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let mut all = world.log.all();
            all.retain(|(p, o)| {
                let begun = *o >= starts[usize::try_from(*p).unwrap()];
                begun && only.as_ref().is_none_or(|only| *only == key(*o))
            });
            assert!(in_order(&got));
            assert_eq!(sorted(got), all);
        });
    }
}

/// What one login has read is not shown to another, and both count against one bound.
#[tokio::test]
async fn another_login_has_a_ring_of_its_own_within_the_same_bound() {
    let feeds = Feeds::new(&StreamSettings {
        ring_total_bytes: 10_000,
        ..StreamSettings::default()
    });
    let topic = topic(1);
    let join = |login| feeds.join(Login(login), &topic, Isolation::Committed);
    let ((gateway, first), (ann, second)) = (join(0), join(1));
    assert!(first && second && !Arc::ptr_eq(&gateway, &ann));
    assert!(!join(0).1 && !join(1).1);
    for feed in [&gateway, &ann] {
        let mut ring = feed.ring.write();
        ring.begin(0, 0);
        for offset in 0..20 {
            ring.push(record(0, offset), Instant::now());
        }
    }
    assert!(feeds.held() > 10_000);
    feeds.relieve();
    assert!(feeds.held() <= 10_000, "{}", feeds.held());
    let log = Arc::new(Log::default());
    let own = catch_up_pool(Arc::clone(&log) as _, &StreamSettings::default());
    let beside = own.beside(Login(1), log as _);
    assert!(own.shares_bounds_with(&beside));
}
