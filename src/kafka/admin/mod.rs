//! What the gateway asks of and changes in a cluster, over krafka's admin client.
//!
//! Every call takes its bound and answers within it. `topics` makes and changes topics, `configs` is about
//! settings of topics and brokers, `offsets` about positions in partitions, `consumer_groups` lists,
//! describes and deletes groups, `groups` is about what they have committed, `offset_commit` about commits
//! that keep metadata, `storage` about what is on the brokers' disks, `acls` about whom the brokers let do what,
//! `quotas` about how much of it, `scram` about users and their passwords at the brokers, `replicas` about which
//! brokers have and lead a partition, `transactions` about transactions and producers, `share_groups` about share
//! groups; `partitions` reads what an answer says of each partition, `request` makes requests that krafka has no
//! call for.

mod acls;
mod configs;
mod consumer_groups;
mod groups;
mod offset_commit;
mod offsets;
mod partitions;
mod quotas;
mod replicas;
mod request;
mod scram;
mod share_groups;
mod storage;
#[cfg(all(test, feature = "embedded"))]
mod tests;
mod topics;
mod transactions;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use krafka::admin::{
    AdminClient, ClusterDescription, DescribeClusterOptions, DescribeFeaturesOptions,
    DescribeTopicsOptions, ListTopicsOptions, TopicDescription,
};
use krafka::consumer::Consumer;
use krafka::{BrokerInfo, Kafka, TopicInfo};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, timeout};

pub use crate::reader_options::Isolation;
pub(crate) use acls::{
    Acl, AclFilter, AclOperation, AclPermission, DeletedAcls, KafkaWord, PatternType, ResourceType,
};
pub(crate) use configs::{ConfigChange, ConfigOwner};
pub use configs::{ConfigEntry, ConfigSynonym};
pub(crate) use consumer_groups::{
    DescribedGroup, GroupProtocol, ListedGroup, Member, PartitionLag,
};
pub use groups::Committed;
pub use offset_commit::OffsetAndMetadata;
pub use offsets::{OffsetQuery, OffsetSpec};
pub(crate) use quotas::{QuotaChanges, QuotaEntity, QuotaEntityType, Quotas};
pub(crate) use replicas::{Election, OfPartitions, Reassignment, Target};
pub(crate) use scram::{NewScramPassword, ScramCredential, ScramMechanism};
pub(crate) use share_groups::{ShareGroupAt, ShareOffset};
pub(crate) use storage::LogDir;
pub use topics::NewTopic;
pub(crate) use transactions::{
    ActiveProducer, DescribedTransaction, ListedTransaction, TRANSACTION_STATES, TransactionFilter,
};

use super::Role;
use super::client::{self, Clients};
use super::fault::{Fault, FaultKind};

/// What is added to a bound before a call is cut off from outside: krafka keeps the bound itself
/// and then says more about what went wrong.
const SLACK: Duration = Duration::from_millis(250);

/// How long one broker is waited for before another one is asked as well, and by how many at most: krafka
/// asks one at random and waits for it alone, and one that is silent answers nothing for as long as one
/// likes to wait.
const PATIENCE: Duration = Duration::from_millis(250);
const MOST_ASKED: usize = 4;

/// A client for administration. Clones share it.
#[derive(Debug, Clone)]
pub struct Admin {
    inner: Arc<Inner>,
}

struct Inner {
    /// How to reach the cluster; `None` where a connection was given.
    clients: Option<Clients>,
    /// Made at first use, so that the gateway starts while its cluster is still down.
    link: OnceCell<Link>,
    /// Bounds how many commits that keep a text are under way.
    noting: Arc<Semaphore>,
}

/// What works on one krafka handle.
struct Link {
    client: AdminClient,
    kafka: Kafka,
    /// Consumers that never consume: krafka looks offsets up by time, and shows what it knows of
    /// brokers and topics, only through one. One for each isolation level, made at first use.
    committed: OnceCell<Consumer>,
    uncommitted: OnceCell<Consumer>,
    /// How many brokers there are; 0 until one has said.
    brokers: AtomicUsize,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Link {
    fn new(kafka: Kafka) -> Self {
        Self {
            // No telemetry: krafka pushes none for admin clients unless told to.
            client: kafka.admin(),
            kafka,
            committed: OnceCell::new(),
            uncommitted: OnceCell::new(),
            brokers: AtomicUsize::new(0),
        }
    }

    fn has_several(&self) -> bool {
        self.brokers.load(Ordering::Relaxed) > 1
    }

    /// What any broker says: the first one that answers of those that are asked one after the other.
    async fn any_broker<T, E, F>(
        &self,
        bound: Duration,
        ask: impl Fn(Duration) -> F,
    ) -> Result<T, Fault>
    where
        Fault: From<E>,
        F: Future<Output = Result<T, E>>,
    {
        let others = match self.has_several() {
            true => MOST_ASKED - 1,
            false => 0,
        };
        first_of(others, PATIENCE, bound, |left| bounded(left, ask(left))).await
    }
}

/// The first answer to a question that is asked again, up to so many times, while there is none.
async fn first_of<T, F>(
    mut again: usize,
    mut patience: Duration,
    bound: Duration,
    ask: impl Fn(Duration) -> F,
) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let until = Instant::now() + bound;
    let mut asked = FuturesUnordered::new();
    asked.push(ask(bound));
    loop {
        let answer = if again == 0 {
            asked.next().await
        } else {
            match timeout(patience, asked.next()).await {
                Ok(answer) => answer,
                Err(_) => {
                    again -= 1;
                    // A cluster that is only slow is not asked more and more.
                    patience *= 2;
                    asked.push(ask(until.saturating_duration_since(Instant::now())));
                    continue;
                }
            }
        };
        if let Some(answer) = answer {
            return answer;
        }
    }
}

impl Admin {
    /// A client on the connections of `kafka`; nothing is asked yet.
    pub fn new(kafka: Kafka) -> Self {
        Self {
            inner: Arc::new(Inner {
                clients: None,
                link: OnceCell::new_with(Some(Link::new(kafka))),
                noting: Arc::new(Semaphore::new(offset_commit::AT_ONCE)),
            }),
        }
    }

    /// A client that connects as `clients` says at its first call, and at each later one until
    /// it has succeeded.
    pub fn connecting(clients: Clients) -> Self {
        Self {
            inner: Arc::new(Inner {
                clients: Some(clients),
                link: OnceCell::new(),
                noting: Arc::new(Semaphore::new(offset_commit::AT_ONCE)),
            }),
        }
    }

    /// Whether there are several brokers, as far as is known.
    pub(super) fn has_several_brokers(&self) -> bool {
        self.inner.link.get().is_some_and(Link::has_several)
    }

    fn clients(&self) -> Result<&Clients, Fault> {
        self.inner.clients.as_ref().ok_or_else(|| {
            Fault::new(
                FaultKind::Other,
                "The client has no settings to connect by.",
            )
        })
    }

    /// The connection, made within `bound` if it has to be.
    async fn link(&self, bound: Duration) -> Result<&Link, Fault> {
        if let Some(link) = self.inner.link.get() {
            return Ok(link);
        }
        let connecting = self.inner.link.get_or_try_init(|| async {
            let clients = self.clients()?;
            client::krafka(clients, Role::Admin).await.map(Link::new)
        });
        match timeout(bound, connecting).await {
            Ok(link) => link,
            Err(_) => Err(Fault::new(
                FaultKind::TimedOut,
                format!("No broker answered within {} ms.", bound.as_millis()),
            )),
        }
    }

    /// The configuration of topic `name`.
    ///
    /// # Errors
    ///
    /// `UnknownTopic`, `NotAuthorized`, `Unsupported` (the embedded broker), and whatever kept the
    /// brokers from answering.
    pub async fn topic_configs(
        &self,
        name: &str,
        bound: Duration,
    ) -> Result<Vec<ConfigEntry>, Fault> {
        let owner = [ConfigOwner::Topic(name.to_owned())];
        match self.configs(&owner, None, bound).await?.pop() {
            Some((_, entries)) => entries,
            None => Err(no_answer(name)),
        }
    }

    /// Lets go of what the client holds. Calls after this fail.
    pub async fn close(&self) {
        let Some(link) = self.inner.link.get() else {
            return;
        };
        for lookup in [&link.committed, &link.uncommitted] {
            if let Some(consumer) = lookup.get()
                && let Err(error) = consumer.close().await
            {
                tracing::debug!("closing an offset lookup: {error}");
            }
        }
    }

    /// krafka's description of one topic.
    pub(super) async fn describe_topic(
        &self,
        name: &str,
        bound: Duration,
    ) -> Result<TopicDescription, Fault> {
        let link = self.link(bound).await?;
        let ask = |bound| {
            let options = DescribeTopicsOptions::default().timeout(bound);
            link.client.describe_topics([name], options)
        };
        match link.any_broker(bound, ask).await?.remove(name) {
            Some(described) => described.map_err(|error| about_topic(name, &error.into())),
            None => Err(no_answer(name)),
        }
    }

    /// krafka's description of every topic, in no order.
    pub(super) async fn all_topics(&self, bound: Duration) -> Result<Vec<TopicInfo>, Fault> {
        self.refresh_all(bound).await?;
        let known = self.lookup(Isolation::Committed, bound).await?;
        Ok(bounded(bound, known.fetch_metadata(None)).await?.topics)
    }

    /// krafka's description of every broker, by way of the topics' metadata.
    pub(super) async fn brokers(&self, bound: Duration) -> Result<Vec<BrokerInfo>, Fault> {
        self.refresh_all(bound).await?;
        let known = self.lookup(Isolation::Committed, bound).await?;
        Ok(bounded(bound, known.fetch_metadata(None)).await?.brokers)
    }

    pub(super) async fn describe_cluster(
        &self,
        bound: Duration,
    ) -> Result<ClusterDescription, Fault> {
        let link = self.link(bound).await?;
        let ask = |bound| {
            let options = DescribeClusterOptions::default().timeout(bound);
            link.client.describe_cluster(options)
        };
        let described = link.any_broker(bound, ask).await?;
        link.brokers
            .store(described.brokers.len(), Ordering::Relaxed);
        Ok(described)
    }

    /// Whether this broker answers.
    ///
    /// # Errors
    ///
    /// Why it does not, within `bound`.
    pub(super) async fn ping(&self, broker: i32, bound: Duration) -> Result<(), Fault> {
        let options = DescribeFeaturesOptions::default()
            .timeout(bound)
            .node_id(broker);
        let client = &self.link(bound).await?.client;
        match bounded(bound, client.describe_features(options)).await {
            Ok(_) => Ok(()),
            // A refusal is an answer.
            Err(fault) if !fault.retriable => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Has krafka fetch the metadata of the whole cluster into its own cache.
    async fn refresh_all(&self, bound: Duration) -> Result<(), Fault> {
        let options = ListTopicsOptions::default()
            .timeout(bound)
            .include_internal(true);
        let client = &self.link(bound).await?.client;
        bounded(bound, client.list_topics(options)).await?;
        Ok(())
    }

    /// The consumer that looks things up under `isolation`.
    async fn lookup(&self, isolation: Isolation, bound: Duration) -> Result<&Consumer, Fault> {
        let link = self.link(bound).await?;
        let cell = match isolation {
            Isolation::Committed => &link.committed,
            Isolation::Uncommitted => &link.uncommitted,
        };
        let consumer = cell
            .get_or_try_init(|| {
                link.kafka
                    .consumer_without_group()
                    .isolation_level(isolation.into())
                    .enable_auto_commit(false)
                    .metrics_push(false)
                    .build()
            })
            .await?;
        Ok(consumer)
    }
}

/// A fault about `name`, which the broker's own words leave out.
fn about_topic(name: &str, fault: &Fault) -> Fault {
    if fault.kind == FaultKind::UnknownTopic {
        return Fault::unknown_topic(name);
    }
    Fault {
        message: format!("Topic {name}: {}", fault.message),
        ..fault.clone()
    }
}

fn no_answer(name: &str) -> Fault {
    Fault::new(
        FaultKind::Unavailable,
        format!("The broker's answer does not mention topic {name}."),
    )
}

/// Waits for `call` a little longer than `bound`, which krafka keeps itself wherever it can.
async fn bounded<T, E>(
    bound: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Fault>
where
    Fault: From<E>,
{
    match timeout(bound + SLACK, call).await {
        Ok(result) => result.map_err(Fault::from),
        Err(_) => Err(Fault::new(
            FaultKind::TimedOut,
            format!("Kafka did not answer within {} ms.", bound.as_millis()),
        )),
    }
}
