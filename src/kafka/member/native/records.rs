//! Records and positions, and what keeps them from coming that krafka does not tell: leaders that
//! moved, places that are not in the log, topics that are other ones.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use krafka::consumer::{Consumer, ConsumerRecord};
use tokio::time::{Instant, sleep, timeout};

use super::lane::{Lane, Via};
use super::lanes::{Leaders, fetcher, leaders};
use super::{Done, End, Engine, Held, REFRESH, ROUND, link};
use crate::kafka::fault::FaultKind;
use crate::kafka::member::place::Places;
use crate::kafka::member::{Event, SeekTo, State};
use crate::kafka::metadata::{Right, Topic};
use crate::kafka::reader::delivered;
use crate::record::TopicPartition;

impl Engine {
    /// What a poll of this consumer came to, also where it is no records.
    pub(super) async fn polled(
        &mut self,
        via: Via,
        consumer: &Consumer,
        records: Vec<ConsumerRecord>,
    ) {
        let nothing = records.is_empty();
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
            if let (Some(lag), Some(records)) = (&held.lag, known.lag) {
                lag.set(records);
            }
            match held.next {
                Some(before) if position > before => {
                    held.next = Some(position);
                    next.push((partition, position));
                }
                Some(before) if position < before => {
                    held.next = Some(position);
                    if cut.iter().any(|(known, ..)| *known == partition) {
                        next.push((partition, position));
                    } else {
                        cut.push((partition, before, position));
                    }
                }
                _ => {}
            }
        }
        for (partition, from, to) in cut {
            self.tell(Event::Gap {
                partition,
                from,
                to,
            });
        }
        if nothing && next.is_empty() {
            return;
        }
        next.sort_unstable();
        let records = records.into_iter().map(delivered).collect();
        self.outbox
            .put_records(via, Event::Records { records, next });
        self.flush();
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
            // Lanes that are well have nothing to try again.
            if let Via::Lane(id) = held.via
                && !self.lanes.get(id).is_some_and(Lane::is_failing)
            {
                continue;
            }
            let Some(consumer) = fetcher(self.link.as_ref(), &self.lanes, held.via) else {
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
            .map(|(topic, partition)| link::Place::new(topic, partition))
            .collect();
        let mut aims = Vec::new();
        for partition in self.own(places) {
            let held = self.held.get_mut(&partition);
            if let Some(held) = held.filter(|held| held.via == via)
                && let (Some(next), false) = (held.next, held.busy)
            {
                held.busy = true;
                aims.push((partition, SeekTo::Offset(next)));
            }
        }
        if !aims.is_empty() {
            self.recover(aims, Duration::ZERO);
        }
    }

    pub(super) fn recover(&mut self, aims: Vec<(TopicPartition, SeekTo)>, pause: Duration) {
        let turns = self.turns_of(aims.iter().map(|(partition, _)| partition));
        let asker = Arc::clone(&self.asker);
        self.jobs.push(Box::pin(async move {
            sleep(pause).await;
            Done::Recovered(turns, asker.places(&aims, false).await)
        }));
    }

    pub(super) async fn recovered(&mut self, turns: Vec<u64>, places: Places) -> Result<(), End> {
        let mut again = Vec::new();
        for ((partition, place), turn) in places.into_iter().zip(turns) {
            let Some(held) = self.held.get_mut(&partition).filter(|h| h.turn == turn) else {
                continue;
            };
            let fetcher = fetcher(self.link.as_ref(), &self.lanes, held.via);
            let Some(consumer) = fetcher else {
                continue;
            };
            match place {
                Ok(place) => {
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
                Err(fault)
                    if matches!(
                        fault.kind,
                        FaultKind::OffsetOutOfRange | FaultKind::NotAuthorized
                    ) =>
                {
                    return Err(End::Fault(fault));
                }
                Err(_) => {
                    if let Some(next) = held.next {
                        again.push((partition, SeekTo::Offset(next)));
                    }
                }
            }
        }
        if !again.is_empty() {
            self.recover(again, Duration::from_millis(500));
        }
        self.wake.notify_one();
        Ok(())
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

    pub(super) async fn compare_topics(&mut self, topics: &[Arc<Topic>]) {
        const UNKNOWN: [u8; 16] = [0; 16];
        let mut others = false;
        for topic in topics {
            let before = self.topics.insert(Arc::clone(&topic.name), topic.id);
            others |= before.is_some_and(|before| before != topic.id && before != UNKNOWN);
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
