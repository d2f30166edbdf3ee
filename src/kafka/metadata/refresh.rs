//! Asking a broker about a topic, once for all who wait, and creating it where that is wanted.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Entry, Inner, Partition, Topic};
use crate::kafka::admin::NewTopic;
use crate::kafka::fault::{Fault, FaultKind};
use crate::observe;

/// How long callers wait for a new answer while an old one is at hand.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How long an old answer is served without asking, after the brokers did not answer.
const OUTAGE_PAUSE: Duration = Duration::from_secs(2);

/// How often a new topic is asked for its leaders; grows to ten times this.
const POLL: Duration = Duration::from_millis(20);

impl Inner {
    /// What a broker says about `name` now, or what one said at most a moment ago.
    pub(super) async fn refreshed(&self, name: Arc<str>) -> Result<Arc<Topic>, Fault> {
        let old = self.topics.get(&name).await;
        let entry = self
            .topics
            .entry(Arc::clone(&name))
            .or_insert_with_if(self.asked(name, old), |entry| Instant::now() >= entry.check)
            .await;
        entry.into_value().answer
    }

    /// Asks a broker about `name`; `old` is what one said before.
    async fn asked(&self, name: Arc<str>, old: Option<Entry>) -> Entry {
        let started = Instant::now();
        let old = old.filter(|old| {
            old.answer.is_ok() && started.duration_since(old.fetched) < self.options.stale
        });
        let patience = match old {
            Some(_) => self.options.timeout.min(PATIENCE),
            None => self.options.timeout,
        };
        let answer = self.described(&name, patience).await;
        let now = Instant::now();
        let fresh_for = match &answer {
            Ok(_) => self.options.fresh,
            Err(fault) if fault.kind == FaultKind::UnknownTopic => {
                observe::topics::gone(&name);
                self.options.unknown
            }
            Err(fault) if is_outage(fault) => {
                if let Some(old) = old {
                    tracing::warn!(
                        topic = &*name,
                        "serving what was known about a topic, because no broker answers: {fault}"
                    );
                    return Entry {
                        check: now + OUTAGE_PAUSE,
                        ..old
                    };
                }
                Duration::ZERO
            }
            Err(_) => Duration::ZERO,
        };
        Entry {
            answer,
            fetched: now,
            check: now + fresh_for,
        }
    }

    async fn described(&self, name: &Arc<str>, bound: Duration) -> Result<Arc<Topic>, Fault> {
        let described = self.admin.describe_topic(name, bound).await?;
        Ok(Arc::new(Topic {
            name: Arc::clone(name),
            id: described.topic_id,
            internal: described.is_internal,
            rights: described.authorized_operations,
            // krafka sorts them.
            partitions: described
                .partitions
                .into_iter()
                .map(|partition| Partition {
                    id: partition.partition,
                    leader: partition.leader,
                    replicas: partition.replicas,
                    isr: partition.isr,
                    offline: partition.offline_replicas,
                })
                .collect(),
        }))
    }

    /// Creates `name` unless that is being done already, and waits until it can be written to.
    pub(super) async fn created(&self, name: Arc<str>) -> Result<Arc<Topic>, Fault> {
        self.creating
            .try_get_with(Arc::clone(&name), self.create(name))
            .await
            .map_err(|fault| (*fault).clone())
    }

    async fn create(&self, name: Arc<str>) -> Result<Arc<Topic>, Fault> {
        let deadline = Instant::now() + self.options.timeout;
        match self
            .admin
            .create_topic(
                &NewTopic::with_broker_defaults(&name),
                false,
                self.options.timeout,
            )
            .await
        {
            Ok(()) => tracing::info!(topic = &*name, "created a topic on its first use"),
            // Another process was faster.
            Err(fault) if fault.kind == FaultKind::Exists => {}
            Err(fault) => return Err(fault),
        }
        let mut pause = POLL;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fault::new(
                    FaultKind::TimedOut,
                    format!(
                        "Topic {name} was created, but its partitions have no leaders yet. Try \
                         again in a moment."
                    ),
                ));
            }
            match self.described(&name, left).await {
                Ok(topic) if is_usable(&topic) => {
                    let now = Instant::now();
                    let entry = Entry {
                        answer: Ok(Arc::clone(&topic)),
                        fetched: now,
                        check: now + self.options.fresh,
                    };
                    self.topics.insert(Arc::clone(&name), entry).await;
                    self.all.invalidate(&()).await;
                    return Ok(topic);
                }
                // The broker that was asked has not heard of it yet.
                Ok(_) => {}
                Err(fault) if fault.kind == FaultKind::UnknownTopic || is_outage(&fault) => {}
                Err(fault) => return Err(fault),
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(POLL * 10);
        }
    }
}

fn is_usable(topic: &Topic) -> bool {
    !topic.partitions.is_empty() && topic.partitions.iter().all(|p| p.leader.is_some())
}

/// The brokers did not answer, which says nothing about the topic.
fn is_outage(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::Unavailable | FaultKind::TimedOut)
}
