//! A broker fetcher: the krafka consumer that fetches those of a member's partitions that one broker leads.
//!
//! It is a consumer without a group on the member's own handle. Partitions are only ever added to
//! it (`lay`), paused and at some place, so that it does nothing about them until the task sends them to
//! theirs; one that goes away stays in it, paused, until others are added.
//!
//! Its poll is driven by the member's task, as that of the consumer in the group is: krafka takes records
//! out and moves positions at the moment at which it hands them over, so what is paused or sought between
//! two looks at a poll that is under way holds for what it comes to.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use krafka::consumer::{Consumer, ConsumerRecord};
use krafka::error::KrafkaError;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::connections::Permit;
use super::group_consumer::{FETCH_WAIT, KrafkaPartition, Sizes, tuned};
use super::{PAUSE, REFRESH};
use crate::kafka::client::ReaderTuning;
use crate::kafka::consumer_guard::ConsumerGuard;
use crate::kafka::fault::{Fault, FaultKind};
use crate::reader_options::Isolation;
use crate::record::TopicPartition;

/// Half of what one consumer of all would take: there are as many fetchers as brokers that lead.
const SIZES: Sizes = Sizes {
    fetch: 512 << 10,
    partition: 256 << 10,
    records: 250,
};
/// After this a broker that has not answered counts as silent: much longer than one that finds nothing
/// takes to say so.
const LATE: Duration = Duration::from_secs(2);
/// Longest pause of a fetcher whose fetches fail.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Tells a fetcher from others, also from those that there were.
pub(super) type FetcherId = u32;

/// Through which of a member's consumers a partition is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// The one that is in the group.
    Group,
    /// One without a group.
    Broker(FetcherId),
}

/// What a turn of a fetcher came to; `None` is a rest.
pub(super) type FetcherTurn = Option<Result<Vec<ConsumerRecord>, KrafkaError>>;

/// The partitions of a topic that a fetcher is to have: all of them, and those that are new among them.
pub(super) struct TopicPartitions {
    pub(super) topic: Arc<str>,
    pub(super) all: Vec<i32>,
    pub(super) new: Vec<i32>,
}

/// Fetches from one broker.
pub(super) struct BrokerFetcher {
    pub(super) id: FetcherId,
    /// The broker.
    pub(super) leader: i32,
    /// `None` until the first partitions are laid.
    attached: Option<ConsumerGuard>,
    /// Partitions are being laid.
    pub(super) is_laying: bool,
    /// What it is doing: a poll, or a rest after an error.
    turn: Option<BoxFuture<'static, FetcherTurn>>,
    is_resting: bool,
    /// When that began.
    begun: Instant,
    /// Not before this moment does it poll again.
    retry_at: Option<Instant>,
    pause: Duration,
    /// Its fetches fail, or its broker is silent.
    is_failing: bool,
    fetches: u64,
    errors: u64,
    looked_at: Instant,
    /// How often in a row records could not be decoded.
    pub(super) undecodable: u32,
    /// Partitions that are the member's no more, and not paused yet.
    pub(super) strays: Vec<TopicPartition>,
}

impl BrokerFetcher {
    fn new(id: FetcherId, leader: i32) -> Self {
        Self {
            id,
            leader,
            attached: None,
            is_laying: false,
            turn: None,
            is_resting: false,
            begun: Instant::now(),
            retry_at: None,
            pause: PAUSE,
            is_failing: false,
            fetches: 0,
            errors: 0,
            looked_at: Instant::now(),
            undecodable: 0,
            strays: Vec::new(),
        }
    }

    pub(super) fn consumer(&self) -> Option<Arc<Consumer>> {
        let attached = self.attached.as_ref();
        attached.map(|attached| Arc::clone(attached.consumer()))
    }

    pub(super) fn attach(&mut self, attached: ConsumerGuard) {
        self.attached = Some(attached);
    }

    pub(super) fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// Whether it does nothing and could.
    pub(super) fn is_free(&self) -> bool {
        self.turn.is_none() && self.attached.is_some()
    }

    /// Begins its next turn. Only one that is free has partitions to give.
    pub(super) fn begin(&mut self) {
        let Some(consumer) = self.consumer() else {
            return;
        };
        let now = Instant::now();
        self.begun = now;
        let retry_at = self.retry_at.take().filter(|at| *at > now);
        self.is_resting = retry_at.is_some();
        self.turn = Some(match retry_at {
            Some(until) => Box::pin(async move {
                sleep_until(until).await;
                None
            }),
            None => {
                // One that fails is not waited in, but asked again after its pause: krafka would only
                // look every few milliseconds whether its own pause is over.
                let wait = if self.is_failing {
                    Duration::ZERO
                } else {
                    FETCH_WAIT
                };
                Box::pin(async move { Some(consumer.poll(wait).await) })
            }
        });
    }

    /// Ends a rest.
    pub(super) fn rouse(&mut self) {
        self.retry_at = None;
        self.pause = PAUSE;
        if self.is_resting {
            self.turn = None;
            self.is_resting = false;
        }
    }

    /// Polls again only after a pause.
    pub(super) fn wait(&mut self) {
        // Fetchers that fail together must not come back together.
        let pause = self.pause.mul_f64(0.75 + fastrand::f64() / 2.0);
        self.retry_at = Some(Instant::now() + pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Whether it was just found that its broker is silent, or still is.
    pub(super) fn is_late(&mut self) -> bool {
        let is_polling = self.turn.is_some() && !self.is_resting;
        let late = is_polling && self.begun.elapsed() >= LATE && self.looked_at.elapsed() >= LATE;
        if late {
            self.is_failing = true;
            self.looked_at = Instant::now();
        }
        late
    }

    /// Whether the poll that is over has not waited for records although it could have.
    pub(super) fn is_early(&self) -> bool {
        !self.is_failing && self.begun.elapsed() < FETCH_WAIT / 2
    }

    /// After a poll, which may have come to `nothing`: whether its fetches fail, which krafka keeps to
    /// itself, or it makes none, as it knows of no leader. Looked at now and then, and each time while it
    /// is so.
    pub(super) fn fails(&mut self, nothing: bool) -> bool {
        if !self.is_failing && self.looked_at.elapsed() < REFRESH {
            return false;
        }
        let Some(attached) = &self.attached else {
            return false;
        };
        self.looked_at = Instant::now();
        let of = attached.consumer().metrics().consumer;
        let (fetched, failed) = (of.fetches > self.fetches, of.errors > self.errors);
        (self.fetches, self.errors) = (of.fetches, of.errors);
        if failed || (nothing && !fetched) {
            self.is_failing = true;
        } else if self.is_failing {
            self.is_failing = false;
            self.pause = PAUSE;
        }
        if self.is_failing {
            self.wait();
        }
        self.is_failing
    }
}

/// The fetchers of a member; none while one broker leads all of its partitions.
#[derive(Default)]
pub(super) struct BrokerFetchers {
    pub(super) all: Vec<BrokerFetcher>,
    made: FetcherId,
    /// Which is looked at first, so that each has its turn.
    first: usize,
}

impl BrokerFetchers {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn get(&self, id: FetcherId) -> Option<&BrokerFetcher> {
        self.all.iter().find(|fetcher| fetcher.id == id)
    }

    pub(super) fn get_mut(&mut self, id: FetcherId) -> Option<&mut BrokerFetcher> {
        self.all.iter_mut().find(|fetcher| fetcher.id == id)
    }

    /// The fetcher of a broker, made if there is none.
    pub(super) fn of(&mut self, leader: i32) -> &mut BrokerFetcher {
        let known = self.all.iter().position(|fetcher| fetcher.leader == leader);
        let index = known.unwrap_or_else(|| {
            self.made = self.made.wrapping_add(1);
            self.all.push(BrokerFetcher::new(self.made, leader));
            self.all.len() - 1
        });
        &mut self.all[index]
    }

    /// The next turn of a fetcher that is over. Nothing is lost when the future is dropped.
    pub(super) fn next(&mut self) -> Next<'_> {
        Next { fetchers: self }
    }
}

/// See [`BrokerFetchers::next`].
pub(super) struct Next<'a> {
    fetchers: &'a mut BrokerFetchers,
}

impl Future for Next<'_> {
    type Output = (FetcherId, FetcherTurn);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let fetchers = &mut *self.fetchers;
        let count = fetchers.all.len();
        let (before, after) = fetchers.all.split_at_mut(fetchers.first.min(count));
        for (number, fetcher) in after.iter_mut().chain(before).enumerate() {
            let Some(turn) = &mut fetcher.turn else {
                continue;
            };
            if let Poll::Ready(turn) = turn.as_mut().poll(context) {
                fetcher.turn = None;
                fetcher.is_resting = false;
                let id = fetcher.id;
                fetchers.first = (fetchers.first + number + 1) % count;
                return Poll::Ready((id, turn));
            }
        }
        Poll::Pending
    }
}

/// Adds partitions to the consumer of a fetcher, or to a new one, which is given back. They are paused and at
/// some place: krafka leaves such a one alone.
pub(super) async fn lay(
    consumer: Option<Arc<Consumer>>,
    permit: Arc<Permit>,
    tuning: ReaderTuning,
    isolation: Isolation,
    wanted: Vec<TopicPartitions>,
    bound: Duration,
) -> Result<Option<ConsumerGuard>, Fault> {
    let laying = async {
        let made = match consumer {
            Some(_) => None,
            None => {
                let builder = permit.kafka().await?.consumer_without_group();
                let builder = tuned(builder, &tuning, isolation, &SIZES);
                Some(ConsumerGuard::new(builder.build().await?))
            }
        };
        let Some(consumer) = consumer
            .as_ref()
            .or(made.as_ref().map(ConsumerGuard::consumer))
        else {
            return Ok(None);
        };
        for TopicPartitions { topic, all, new } in wanted {
            consumer.assign(&topic, all).await?;
            // The fetcher's poll, which may be under way in this task, sees none of them before that is
            // done: nothing of it waits.
            consumer.pause(&topic, &new).await;
            let places = new
                .into_iter()
                .map(|id| (KrafkaPartition::new(&*topic, id), 0_i64));
            consumer.seek_many(places).await?;
        }
        Ok(made)
    };
    timeout(bound, laying).await.unwrap_or_else(|_| {
        Err(Fault::new(
            FaultKind::TimedOut,
            "Kafka did not answer in time when partitions were to be read by themselves.",
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fetcher that is done with a rest as soon as it is looked at.
    fn arm(fetchers: &mut BrokerFetchers, leader: i32) -> FetcherId {
        let fetcher = fetchers.of(leader);
        fetcher.turn = Some(Box::pin(std::future::ready(None)));
        fetcher.id
    }

    #[tokio::test]
    async fn each_broker_fetcher_has_its_turn_although_one_is_always_ready() {
        let mut fetchers = BrokerFetchers::default();
        let ids = [3, 1, 2].map(|leader| arm(&mut fetchers, leader));
        for round in 0..4 {
            for id in ids {
                let (turned, turn) = fetchers.next().await;
                assert!(turn.is_none());
                assert_eq!(turned, id, "round {round}");
                let leader = fetchers.get(id).unwrap().leader;
                arm(&mut fetchers, leader);
            }
        }
    }

    #[test]
    fn a_broker_has_one_fetcher_and_the_id_of_an_ended_one_is_not_used_again() {
        let mut fetchers = BrokerFetchers::default();
        assert!(fetchers.is_empty());
        let (first, second) = (fetchers.of(1).id, fetchers.of(2).id);
        assert_eq!(fetchers.of(1).id, first);
        fetchers.all.retain(|fetcher| fetcher.id != first);
        assert!(fetchers.get(first).is_none() && fetchers.get(second).is_some());
        let third = fetchers.of(1).id;
        assert!(third != first && third != second);
    }

    #[test]
    fn pauses_of_a_fetcher_grow_up_to_the_longest_and_start_over_when_it_is_roused() {
        let mut fetcher = BrokerFetcher::new(1, 1);
        for _ in 0..10 {
            fetcher.wait();
        }
        assert_eq!(fetcher.pause, LONGEST_PAUSE);
        assert!(fetcher.retry_at.unwrap() > Instant::now());
        fetcher.rouse();
        assert_eq!((fetcher.pause, fetcher.retry_at), (PAUSE, None));
    }
}
