//! Which of a member's consumers fetches which partition.
//!
//! krafka joins the fetches of a round: a consumer that fetches from several brokers is as late as the
//! slowest of them, and when one does not answer at all, none of its partitions goes on. So where two
//! brokers or more lead a member's partitions, each of them has a broker fetcher (`broker_fetcher.rs`), and
//! the consumer in the group keeps the partitions paused and does what makes the membership. Where one
//! leads them all there is no fetcher, and nothing of this costs anything.
//!
//! ```text
//! assigned -> at its start, in the consumer in the group -> leaders are looked at -> two or more?
//!     -> laid in the fetcher of its leader: there, but paused
//!     -> moved: paused where it was, sent to `held.next` where it is now, all in one step of the task
//! one leader again -> moved back in the same way, and the fetchers end
//! ```
//!
//! Until a partition is moved it is fetched where it was, so that no lookup that takes its time stops it.
//! Who leads is what the handle believes, since krafka fetches by that. It is asked for anew where
//! fetches fail, where a broker is silent, and where the process has heard otherwise.
//!
//! With `client.rack` there are no fetchers: fetches go to the nearest replicas, mostly all of one broker,
//! which answers those of one connection one after the other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use krafka::TopicInfo;
use krafka::consumer::{Consumer, ConsumerRecord};
use krafka::error::KrafkaError;
use tokio::time::timeout;

use super::broker_fetcher::{
    BrokerFetcher, BrokerFetchers, FetcherId, FetcherTurn, TopicPartitions, Via, lay,
};
use super::error_class::ErrorClass;
use super::group_consumer::GroupConsumer;
use super::{Done, End, Engine, Held};
use crate::kafka::consumer_guard::ConsumerGuard;
use crate::kafka::fault::Fault;
use crate::kafka::metadata::Topic;
use crate::record::TopicPartition;

/// The topics as the handle knows them.
pub(super) type Leaders = Vec<(Arc<str>, TopicInfo)>;

/// The consumer that fetches a partition.
pub(super) fn consumer_of(
    group_consumer: Option<&GroupConsumer>,
    fetchers: &BrokerFetchers,
    via: Via,
) -> Option<Arc<Consumer>> {
    match via {
        Via::Group => group_consumer.map(|group_consumer| Arc::clone(&group_consumer.consumer)),
        Via::Broker(id) => fetchers.get(id)?.consumer(),
    }
}

impl Engine {
    /// The member has this partition no more.
    pub(super) fn let_go(&mut self, partition: &TopicPartition) -> Option<Held> {
        let held = self.held.remove(partition)?;
        if let Via::Broker(id) = held.via
            && let Some(fetcher) = self.fetchers.get_mut(id)
        {
            fetcher.strays.push(partition.clone());
        }
        Some(held)
    }

    /// Pauses in fetchers what is the member's no more.
    pub(super) async fn pause_strays(&mut self) {
        if self
            .fetchers
            .all
            .iter()
            .all(|fetcher| fetcher.strays.is_empty())
        {
            return;
        }
        for fetcher in &mut self.fetchers.all {
            let strays = std::mem::take(&mut fetcher.strays);
            let Some(consumer) = fetcher.consumer() else {
                continue;
            };
            for stray in strays {
                consumer.pause(&stray.topic, &[stray.partition]).await;
                // krafka counts what it has read ahead against what it may hold.
                let _ = consumer.seek(&stray.topic, stray.partition, 0).await;
            }
        }
        self.end_fetchers();
    }

    // -- who leads

    /// Asks the handle who leads. It knows, most of the time.
    pub(super) fn look_at_leaders(&mut self) {
        let Some(consumer) = self.consumer() else {
            return;
        };
        if self.shared.tuning.rack.is_some() || self.held.is_empty() {
            return;
        }
        let topics: HashSet<Arc<str>> = self.held.keys().map(|p| Arc::clone(&p.topic)).collect();
        let bound = self.shared.bound;
        self.jobs.push(Box::pin(async move {
            Done::Leaders(leaders(&consumer, topics, bound).await)
        }));
    }

    pub(super) async fn led(&mut self, leaders: Leaders) {
        let known: HashMap<&str, &TopicInfo> = leaders
            .iter()
            .map(|(name, topic)| (&**name, topic))
            .collect();
        for (partition, held) in &mut self.held {
            let topic = known.get(&*partition.topic);
            held.is_asked = true;
            // While nobody leads it stays where it is.
            if let Some(leader) = topic.and_then(|topic| topic.leader(partition.partition)) {
                held.leader = Some(leader);
            }
        }
        self.arrange().await;
    }

    /// The process has looked at the topics: whether the handle is to look, too.
    pub(super) async fn compare_leaders(&mut self, topics: &[Arc<Topic>]) {
        if self.shared.tuning.rack.is_some() {
            return;
        }
        let known: HashMap<&str, &Topic> = topics
            .iter()
            .map(|topic| (&*topic.name, &**topic))
            .collect();
        let (mut moved, mut unknown) = (false, false);
        for (partition, held) in self.held.iter().filter(|(_, held)| held.next.is_some()) {
            // What the handle was asked for and does not know it will not know by itself: it may be a
            // partition that was added.
            unknown |= held.leader.is_none() && !held.is_asked;
            let topic = known.get(&*partition.topic);
            let now = topic.and_then(|topic| topic.partition(partition.partition).ok());
            moved |= now.is_some_and(|now| now.leader.is_some() && now.leader != held.leader);
        }
        if unknown {
            self.look_at_leaders();
        } else if moved {
            self.refresh();
        } else {
            // What could not be laid is tried again.
            self.arrange().await;
        }
    }

    // -- who fetches

    /// Begins to bring partitions to where they belong.
    async fn arrange(&mut self) {
        let there = self.held.values().filter(|held| held.is_there());
        let leaders: BTreeSet<i32> = there.filter_map(|held| held.leader).collect();
        if leaders.len() < 2 {
            self.come_back().await;
            return;
        }
        for leader in leaders {
            let fetcher = self.fetchers.of(leader);
            let (id, consumer) = (fetcher.id, fetcher.consumer());
            if fetcher.is_laying {
                continue;
            }
            let mut wanted: BTreeMap<Arc<str>, (Vec<i32>, Vec<i32>)> = BTreeMap::new();
            for (partition, held) in &self.held {
                let is_here = held.via == Via::Broker(id);
                let is_new = !is_here && held.is_there() && held.leader == Some(leader);
                if is_here || is_new {
                    let (all, new) = wanted.entry(Arc::clone(&partition.topic)).or_default();
                    all.push(partition.partition);
                    if is_new {
                        new.push(partition.partition);
                    }
                }
            }
            let wanted: Vec<TopicPartitions> = wanted
                .into_iter()
                .filter(|(_, (_, new))| !new.is_empty())
                .map(|(topic, (all, new))| TopicPartitions { topic, all, new })
                .collect();
            if wanted.is_empty() {
                continue;
            }
            if let Some(fetcher) = self.fetchers.get_mut(id) {
                fetcher.is_laying = true;
            }
            let laying = lay(
                consumer,
                Arc::clone(&self.permit),
                self.shared.tuning.clone(),
                self.options.isolation,
                wanted,
                self.shared.bound,
            );
            self.jobs
                .push(Box::pin(async move { Done::Laid(id, laying.await) }));
        }
        self.end_fetchers();
    }

    /// The partitions that were laid, and some that have gone elsewhere meanwhile, are in the fetcher.
    pub(super) async fn laid(
        &mut self,
        id: FetcherId,
        result: Result<Option<ConsumerGuard>, Fault>,
    ) {
        self.pause_strays().await;
        let Some(fetcher) = self.fetchers.get_mut(id) else {
            return;
        };
        fetcher.is_laying = false;
        match result {
            Ok(None) => {}
            Ok(Some(attached)) => fetcher.attach(attached),
            Err(fault) => {
                // By the next round.
                tracing::debug!(group = %self.options.group, "a fetcher is tried again: {fault}");
                self.end_fetchers();
                return;
            }
        }
        let leader = fetcher.leader;
        if let Some(to) = fetcher.consumer() {
            for (partition, held) in &mut self.held {
                if held.leader != Some(leader) || held.via == Via::Broker(id) || !held.is_there() {
                    continue;
                }
                let from = consumer_of(self.group_consumer.as_ref(), &self.fetchers, held.via);
                held.take(partition, from, &to, Via::Broker(id)).await;
            }
        }
        // Of what came meanwhile.
        self.arrange().await;
    }

    /// One broker leads everything: back to the consumer in the group.
    async fn come_back(&mut self) {
        if self.fetchers.is_empty() {
            return;
        }
        let Some(to) = self.consumer() else {
            return;
        };
        for (partition, held) in &mut self.held {
            if held.via == Via::Group {
                continue;
            }
            let from = consumer_of(None, &self.fetchers, held.via);
            held.take(partition, from, &to, Via::Group).await;
        }
        self.end_fetchers();
        self.wake.notify_one();
    }

    /// Ends the fetchers that have nothing and get nothing.
    fn end_fetchers(&mut self) {
        let used: HashSet<FetcherId> = self
            .held
            .values()
            .filter_map(|held| match held.via {
                Via::Broker(id) => Some(id),
                Via::Group => None,
            })
            .collect();
        self.fetchers
            .all
            .retain(|fetcher| fetcher.is_laying || used.contains(&fetcher.id));
    }

    // -- turns of fetchers

    /// Lets every fetcher go on that can.
    pub(super) fn run_fetchers(&mut self) {
        if !self.fetchers.all.iter().any(BrokerFetcher::is_free) {
            return;
        }
        let flowing: HashSet<FetcherId> = self
            .held
            .values()
            .filter_map(|held| match held.via {
                Via::Broker(id) if !held.stopped => Some(id),
                _ => None,
            })
            .collect();
        for fetcher in &mut self.fetchers.all {
            if fetcher.is_free() && flowing.contains(&fetcher.id) {
                fetcher.begin();
            }
        }
    }

    pub(super) async fn fetcher_turned(
        &mut self,
        id: FetcherId,
        turn: FetcherTurn,
    ) -> Result<(), End> {
        let (Some(turn), Some(fetcher)) = (turn, self.fetchers.get_mut(id)) else {
            return Ok(());
        };
        let records = match turn {
            Ok(records) => records,
            Err(error) => return self.lane_failed(id, &error).await,
        };
        fetcher.undecodable = 0;
        let nothing = records.is_empty();
        let is_early = nothing && fetcher.is_early();
        let is_failing = fetcher.fails(nothing);
        let Some(consumer) = fetcher.consumer() else {
            return Ok(());
        };
        let records = self.of_fetcher(id, records);
        self.polled(Via::Broker(id), &consumer, records).await;
        if is_early {
            self.empty(Via::Broker(id)).await;
        }
        if is_failing && self.health.borrow().is_none() {
            self.refresh();
        }
        Ok(())
    }

    /// Those of the records whose partitions are this fetcher's: all, as the task pauses a partition in the
    /// same step in which it goes away.
    fn of_fetcher(&self, id: FetcherId, mut records: Vec<ConsumerRecord>) -> Vec<ConsumerRecord> {
        let mut last: Option<(Arc<str>, i32, bool)> = None;
        records.retain(|record| {
            // Those of one partition come together.
            if let Some((topic, partition, is)) = &last
                && *partition == record.partition
                && *topic == record.topic
            {
                return *is;
            }
            let partition = TopicPartition::new(Arc::clone(&record.topic), record.partition);
            let held = self.held.get(&partition);
            let is = held.is_some_and(|held| held.via == Via::Broker(id) && held.is_there());
            if !is {
                tracing::debug!(
                    topic = &*partition.topic,
                    partition = partition.partition,
                    "a record came from a fetcher that has it no more"
                );
            }
            last = Some((partition.topic, partition.partition, is));
            is
        });
        records
    }

    async fn lane_failed(&mut self, id: FetcherId, error: &KrafkaError) -> Result<(), End> {
        let class = ErrorClass::of(error);
        let Some(fetcher) = self.fetchers.get_mut(id) else {
            return Ok(());
        };
        match class {
            ErrorClass::OutOfRange(places) => {
                // It is looked up where the log is, and nothing of it comes until then.
                self.out_of_range(Via::Broker(id), places);
            }
            ErrorClass::Undecodable(fault) => {
                fetcher.undecodable += 1;
                fetcher.wait();
                return Self::undecodable(fetcher.undecodable, fault);
            }
            ErrorClass::End(fault) => return Err(End::Fault(fault)),
            // It is in no group, whatever the others mean there.
            ErrorClass::Retry(fault)
            | ErrorClass::Anew(fault)
            | ErrorClass::Confused(fault)
            | ErrorClass::Unreleased(fault) => {
                tracing::debug!(group = %self.options.group, "a poll of a fetcher failed: {fault}");
                fetcher.wait();
                self.refresh();
            }
        }
        Ok(())
    }

    /// Whether a broker is silent: others may lead by now.
    pub(super) fn look_at_fetchers(&mut self) {
        let mut late = false;
        for fetcher in &mut self.fetchers.all {
            late |= fetcher.is_late();
        }
        if late && self.health.borrow().is_none() {
            self.refresh();
        }
    }
}

impl Held {
    /// Whether it can be fetched: its start is known, and it is not being taken away.
    pub(super) fn is_there(&self) -> bool {
        self.next.is_some() && !self.revoked
    }

    /// Brings the partition from one consumer to another that has it already, paused. What the first has
    /// read ahead comes again through the second.
    async fn take(
        &mut self,
        partition: &TopicPartition,
        from: Option<Arc<Consumer>>,
        to: &Consumer,
        via: Via,
    ) {
        let (topic, number) = (&*partition.topic, partition.partition);
        let Some(next) = self.next else {
            return;
        };
        // It fails where the partition is not, for example as it has just been taken away.
        if to.seek(topic, number, next).await.is_err() {
            return;
        }
        if let Some(from) = from {
            from.pause(topic, &[number]).await;
            // Lets go of what it has read ahead.
            let _ = from.seek(topic, number, next).await;
        }
        self.via = via;
        self.stopped = true;
        self.read_ahead = false;
    }
}

/// What the handle knows of these topics, which it asks for where that is old.
pub(super) async fn leaders(
    consumer: &Consumer,
    topics: HashSet<Arc<str>>,
    bound: Duration,
) -> Leaders {
    let mut leaders = Vec::with_capacity(topics.len());
    for name in topics {
        let asked = timeout(bound, consumer.fetch_metadata(Some(&name))).await;
        let Ok(Ok(known)) = asked else {
            continue;
        };
        if let Some(topic) = known.topics.into_iter().find(|topic| *topic.name == *name) {
            leaders.push((name, topic));
        }
    }
    leaders
}
