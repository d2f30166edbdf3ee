//! Records and positions, and what keeps them from coming that krafka does not tell: leaders that
//! moved, places that are not in the log, topics that are other ones.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use krafka::consumer::{Consumer, ConsumerRecord, TimestampType};
use tokio::time::{Instant, sleep, timeout};

use super::broker_fetcher::{BrokerFetcher, Via};
use super::broker_fetchers::{Leaders, consumer_of, leaders};
use super::commits::{Commit, Landing, Purpose};
use super::{Done, End, Engine, Held, RECOVERY_PAUSE, REFRESH, ROUND, group_consumer};
use crate::kafka::copied::copied;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::fetcher::delivered;
use crate::kafka::member::{Event, SeekTo, State};
use crate::kafka::metadata::{Right, Topic};
use crate::kafka::offset_resolver::{ResolvedOffset, ResolvedOffsets};
use crate::record::TopicPartition;

/// How long all brokers have to hear of a topic that was made anew, before a position above the end of
/// its log is believed to be one of the same topic. That is rare enough to wait for.
const SETTLE: Duration = Duration::from_secs(2);

/// Where a partition is to go on whose position was not in the log.
#[derive(Debug)]
pub(super) struct Aim {
    pub(super) partition: TopicPartition,
    pub(super) to: i64,
    /// The position, where it is known that it was not.
    pub(super) missed: Option<i64>,
}

impl Engine {
    /// What a poll of this consumer came to, also where it is no records.
    pub(super) async fn polled(
        &mut self,
        via: Via,
        consumer: &Consumer,
        records: Vec<ConsumerRecord>,
    ) {
        let mut records = self.timed(consumer, records).await;
        let mut next = Vec::new();
        let mut cut = self.behind(&records);
        for (place, known) in consumer.lag().await {
            let Some(position) = known.position else {
                continue;
            };
            let partition = TopicPartition {
                topic: self.topic(&place.topic),
                partition: place.partition,
            };
            let held = self.held.get_mut(&partition);
            let is_known = |held: &&mut Held| held.via == via && !held.busy && !held.revoked;
            let Some(held) = held.filter(is_known) else {
                continue;
            };
            match held.next {
                Some(before) if position > before => {
                    held.next = Some(position);
                    next.push((partition, position));
                }
                Some(before)
                    if position < before && !cut.iter().any(|(known, ..)| *known == partition) =>
                {
                    cut.push((partition, before, position));
                }
                _ => {}
            }
        }
        if !cut.is_empty() {
            // They come again once it is committed that the group goes on there.
            let is_cut = |topic: &str, number: i32| {
                let mut cut = cut.iter();
                cut.any(|(p, ..)| p.partition == number && *p.topic == *topic)
            };
            records.retain(|record| !is_cut(&record.topic, record.partition));
            next.retain(|(p, _): &(TopicPartition, i64)| !is_cut(&p.topic, p.partition));
            for (partition, from, _) in &cut {
                if let Some(held) = self.held.get_mut(partition) {
                    held.busy = true;
                    held.next = Some(*from);
                }
            }
            let aims = cut.into_iter().map(|(partition, from, to)| Aim {
                partition,
                to,
                missed: Some(from),
            });
            self.recover(aims.collect(), Duration::ZERO);
        }
        if records.is_empty() && next.is_empty() {
            return;
        }
        next.sort_unstable();
        // They may be kept until a client acknowledges them.
        let records = copied(records.into_iter().map(delivered).collect());
        self.outbox
            .put_records(via, Event::Records { records, next });
        self.flush();
    }

    /// The records with the broker's time where that is the one that counts. Those whose time cannot be
    /// had are fetched again: they are left out, and `consumer` goes back to where they begin.
    async fn timed(
        &mut self,
        consumer: &Consumer,
        mut records: Vec<ConsumerRecord>,
    ) -> Vec<ConsumerRecord> {
        let times = self.shared.times.clone();
        let Err(fault) = times.put(&mut records, &mut self.begun).await else {
            return records;
        };
        tracing::debug!(group = %self.options.group, "records are read again after: {fault}");
        let mut back: HashMap<(Arc<str>, i32), i64> = HashMap::new();
        records.retain(|record| {
            let by_broker = record.timestamp_type == TimestampType::LogAppendTime;
            if by_broker {
                let place = (Arc::clone(&record.topic), record.partition);
                let first = back.entry(place).or_insert(record.offset);
                *first = record.offset.min(*first);
            }
            !by_broker
        });
        // A partition may have batches of both kinds: nothing may come out of its order.
        records.retain(|record| {
            let place = (Arc::clone(&record.topic), record.partition);
            back.get(&place).is_none_or(|first| record.offset < *first)
        });
        for ((topic, partition), first) in back {
            // What is not this consumer's any more is somebody else's to read.
            let _ = consumer.seek(&topic, partition, first).await;
        }
        records
    }

    /// Partitions whose records come from before the place that is known: their log was cut off behind
    /// a leader that failed, and krafka went back with it. From where, and to where.
    pub(super) fn behind(&self, records: &[ConsumerRecord]) -> Vec<(TopicPartition, i64, i64)> {
        let mut behind = Vec::new();
        let mut last: Option<&ConsumerRecord> = None;
        for record in records {
            // Those of one partition come together.
            let starts = last.is_none_or(|last| {
                last.partition != record.partition || last.topic != record.topic
            });
            last = Some(record);
            if !starts {
                continue;
            }
            let partition = TopicPartition::new(Arc::clone(&record.topic), record.partition);
            let held = self.held.get(&partition).filter(|held| !held.busy);
            if let Some(next) = held.and_then(|held| held.next)
                && record.offset < next
            {
                behind.push((partition, next, record.offset));
            }
        }
        behind
    }

    /// krafka keeps failed fetches to itself, and does not ask whether the leader has moved.
    pub(super) fn look_at_fetches(&mut self, consumer: &Consumer) {
        if self.looked_at.elapsed() < REFRESH {
            return;
        }
        self.looked_at = Instant::now();
        let errors = consumer.metrics().consumer.errors;
        if errors > self.fetch_errors && self.health.borrow().is_none() {
            self.refresh();
        }
        self.fetch_errors = errors;
    }

    /// Has krafka ask for the leaders of the topics, and try again at once where it was pausing.
    pub(super) fn refresh(&mut self) {
        let Some(consumer) = self.consumer() else {
            return;
        };
        if self.refreshing || self.held.is_empty() {
            return;
        }
        self.refreshing = true;
        let topics: HashSet<Arc<str>> = self.held.keys().map(|p| Arc::clone(&p.topic)).collect();
        let bound = self.shared.bound;
        self.jobs.push(Box::pin(async move {
            // Not all members of the process at the same moment.
            sleep(Duration::from_millis(fastrand::u64(0..500))).await;
            for topic in &topics {
                // Of a partition that cannot exist krafka knows no leader, and so it asks for the
                // topic: the one way to make it, short of asking for all topics of the cluster.
                let asked = consumer.fetch_watermarks(topic, i32::MAX);
                let _ = timeout(bound, asked).await;
            }
            Done::Refreshed(leaders(&consumer, topics, bound).await)
        }));
    }

    pub(super) async fn refreshed(&mut self, leaders: Leaders) {
        self.refreshing = false;
        for (partition, held) in &mut self.held {
            let (Some(next), false) = (held.next, held.busy) else {
                continue;
            };
            // Fetchers that are well have nothing to try again.
            if let Via::Broker(id) = held.via
                && !self.fetchers.get(id).is_some_and(BrokerFetcher::is_failing)
            {
                continue;
            }
            let Some(consumer) =
                consumer_of(self.group_consumer.as_ref(), &self.fetchers, held.via)
            else {
                continue;
            };
            let (topic, number) = (&*partition.topic, partition.partition);
            // Only what krafka has nothing of: a seek throws away what it has read ahead.
            if consumer.fetch_position(topic, number).await == Some(next) {
                let _ = consumer.seek(topic, number, next).await;
            }
        }
        if self.shared.tuning.rack.is_none() {
            self.led(leaders).await;
        }
    }

    pub(super) fn out_of_range(&mut self, via: Via, places: Vec<(String, i32)>) {
        let places = places
            .into_iter()
            .map(|(topic, partition)| group_consumer::KrafkaPartition::new(topic, partition))
            .collect();
        let mut aims: Vec<Aim> = Vec::new();
        for partition in self.own(places) {
            let held = self.held.get_mut(&partition);
            if let Some(held) = held.filter(|held| held.via == via)
                && let (Some(next), false) = (held.next, held.busy)
            {
                held.busy = true;
                aims.push(Aim {
                    partition,
                    to: next,
                    missed: None,
                });
            }
        }
        if !aims.is_empty() {
            self.recover(aims, Duration::ZERO);
        }
    }

    /// Has it looked up where partitions go on.
    pub(super) fn recover(&mut self, aims: Vec<Aim>, pause: Duration) {
        let turns = self.turns_of(aims.iter().map(|aim| &aim.partition));
        let resolver = Arc::clone(&self.resolver);
        let metadata = self.shared.metadata.clone();
        self.jobs.push(Box::pin(async move {
            sleep(pause).await;
            let places = aims.iter().map(|aim| {
                let to = SeekTo::Offset(aim.to);
                (aim.partition.clone(), to)
            });
            let mut places = resolver.resolve(&places.collect::<Vec<_>>(), false).await;
            // A log that ends before the position, or was cut off there, may be that of another topic of
            // this name.
            let mut topics: HashMap<Arc<str>, Result<Arc<Topic>, Fault>> = HashMap::new();
            for ((partition, place), aim) in places.iter_mut().zip(&aims) {
                let goes_back = |place: &ResolvedOffset| {
                    let from = aim.missed.max(place.missed);
                    from.is_some_and(|from| from > place.at)
                };
                if !place.as_ref().is_ok_and(goes_back) {
                    continue;
                }
                let name = &partition.topic;
                if !topics.contains_key(name) {
                    if topics.is_empty() {
                        // The broker that says so may not be the one that leads the partition.
                        sleep(SETTLE).await;
                    }
                    metadata.invalidate(name).await;
                    let topic = metadata.topic(name).await;
                    topics.insert(Arc::clone(name), topic);
                }
                if let Some(Err(fault)) = topics.get(name) {
                    *place = Err(fault.clone());
                }
            }
            let topics = topics.into_values().filter_map(Result::ok).collect();
            Done::Recovered(turns, aims, places, topics)
        }));
    }

    /// Where partitions go on is known; it is committed before they do.
    pub(super) async fn recovered(
        &mut self,
        turns: Vec<u64>,
        aims: Vec<Aim>,
        places: ResolvedOffsets,
        topics: Vec<Arc<Topic>>,
    ) -> Result<(), End> {
        if self.leaving.is_some() {
            return Ok(());
        }
        if topics.iter().any(|topic| self.is_another(topic)) {
            self.compare_topics(&topics).await;
            return Ok(());
        }
        let mut landings = Vec::new();
        let mut again = Vec::new();
        for ((aim, (_, place)), turn) in aims.into_iter().zip(places).zip(turns) {
            if self.held.get(&aim.partition).is_none_or(|h| h.turn != turn) {
                continue;
            }
            match place {
                Ok(mut place) => {
                    place.missed = aim.missed.or(place.missed);
                    landings.push(Landing {
                        partition: aim.partition,
                        turn,
                        is_to_commit: self.options.commit_starts && place.missed.is_some(),
                        place,
                    });
                }
                Err(fault) => {
                    self.again_or_end(fault)?;
                    again.push(aim);
                }
            }
        }
        if !again.is_empty() {
            self.recover(again, RECOVERY_PAUSE);
        }
        if landings.iter().any(|landing| landing.is_to_commit) {
            let commit = Commit::of_places(Purpose::Recovery, landings);
            self.commits.waiting.push_back(commit);
            self.next_commit();
        } else {
            self.go_on(landings).await;
        }
        Ok(())
    }

    /// Partitions go on that stood outside of the log.
    pub(super) async fn go_on(&mut self, landings: Vec<Landing>) {
        for Landing {
            partition,
            turn,
            place,
            ..
        } in landings
        {
            let Some(held) = self.held.get_mut(&partition).filter(|h| h.turn == turn) else {
                continue;
            };
            let consumer = consumer_of(self.group_consumer.as_ref(), &self.fetchers, held.via);
            let Some(consumer) = consumer else {
                continue;
            };
            let sought = consumer.seek(&partition.topic, partition.partition, place.at);
            if sought.await.is_err() {
                continue;
            }
            held.busy = false;
            held.next = Some(place.at);
            if let Some(from) = place.missed {
                let to = place.at;
                self.tell(Event::Gap {
                    partition,
                    from,
                    to,
                });
            }
        }
        self.wake.notify_one();
    }

    /// What is to be done every few seconds.
    pub(super) fn round(&mut self) {
        if self.round_at.elapsed() < ROUND {
            return;
        }
        self.round_at = Instant::now();
        self.look_at_topics();
    }

    /// Asks which ids the topics have, and whether they may still be read: one that was created again
    /// under the same name is another topic, and krafka may not notice.
    pub(super) fn look_at_topics(&mut self) {
        if self.held.is_empty() || self.health.borrow().is_some() {
            return;
        }
        let names: HashSet<Arc<str>> = self.held.keys().map(|p| Arc::clone(&p.topic)).collect();
        let metadata = self.shared.metadata.clone();
        self.jobs.push(Box::pin(async move {
            let mut topics = Vec::with_capacity(names.len());
            for name in names {
                let Ok(topic) = metadata.topic(&name).await else {
                    continue;
                };
                topics.push(Arc::clone(&topic));
                // krafka tries a refused fetch again and again and says nothing.
                match metadata.granted(topic, Right::Read).await {
                    Err(fault) if fault.kind == FaultKind::NotAuthorized => {
                        return Done::Topics(Err(fault));
                    }
                    _ => {}
                }
            }
            Done::Topics(Ok(topics))
        }));
    }

    /// Whether this is not the topic of its name whose partitions the member was given.
    fn is_another(&self, topic: &Topic) -> bool {
        const UNKNOWN: [u8; 16] = [0; 16];
        let before = self.topics.get(&topic.name);
        before.is_some_and(|before| *before != topic.id && *before != UNKNOWN)
    }

    pub(super) async fn compare_topics(&mut self, topics: &[Arc<Topic>]) {
        let mut others = false;
        for topic in topics {
            others |= self.is_another(topic);
            self.topics.insert(Arc::clone(&topic.name), topic.id);
        }
        if others {
            tracing::info!(
                group = %self.options.group,
                "a topic was created again: the member begins anew"
            );
            self.topics.clear();
            self.anew();
            self.refresh();
            self.set_state(State::Joining(None));
            self.wake.notify_one();
        } else {
            self.compare_leaders(topics).await;
        }
    }
}
