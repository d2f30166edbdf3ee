//! One cached view of topics, partitions and brokers, asked before every produce and read.
//!
//! ```text
//! topic("orders") --hit, fresh--------------------------------> Arc<Topic>
//!        |
//!        +--missing or older than 5 s--> one request for all who ask --> kept, answered
//!                                            |
//!                                            +--brokers do not answer--> the old entry, for 60 s
//! ```
//!
//! Unknown topics are kept too, for a second, so that a flood for one costs one request. An entry
//! outlives its freshness so that a broker's restart does not stop writes to topics that are known:
//! those who write find out by themselves when a leader is gone.

mod cluster;
mod refresh;
mod rules;
#[cfg(all(test, feature = "embedded"))]
mod tests;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use self::refresh::PATIENCE;
use rules::RuleBook;
pub use rules::Rules;

use super::admin::Admin;
use super::fault::{Fault, FaultKind};
use crate::reserved::{Keeper, keeper};

/// How old an answer may be, and how long to wait for a new one.
#[derive(Debug, Clone)]
pub struct MetadataOptions {
    /// `kafka.metadata_timeout_ms`: the bound of every call.
    pub timeout: Duration,
    /// How long a topic's description is taken without asking again.
    pub fresh: Duration,
    /// How long "does not exist" is taken without asking again.
    pub unknown: Duration,
    /// How long an old description serves while no broker answers.
    pub stale: Duration,
    /// Topics that do not exist are created when they are first written to or subscribed to.
    pub auto_create: bool,
    /// The cluster's id where the broker cannot tell it (the embedded one).
    pub cluster_id: Option<Arc<str>>,
}

impl Default for MetadataOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            fresh: Duration::from_secs(5),
            unknown: Duration::from_secs(1),
            stale: Duration::from_secs(60),
            auto_create: false,
            cluster_id: None,
        }
    }
}

/// How long the list of all topics and the cluster's description are taken without asking again.
/// Shorter than a topic's: a list is asked for by people, who have just changed something.
const FRESH_LIST: Duration = Duration::from_secs(1);

/// Bound on what is kept, counted in topics plus partitions; about 200 bytes each.
const CAPACITY: u64 = 200_000;

/// The protocol's number for a right on a topic that is missing.
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;

/// A topic as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; another one after it was deleted and created again. All zeros when the broker is
    /// too old to say.
    pub id: [u8; 16],
    /// One of Kafka's own, such as `__consumer_offsets`.
    pub internal: bool,
    /// By partition number, without a gap as long as the cluster is well.
    pub partitions: Vec<Partition>,
    /// What the gateway's own Kafka user may do with it, one bit for each of the protocol's ACL
    /// operations; `None` where the broker does not say (before Kafka 3.7).
    pub rights: Option<i32>,
}

/// A right that an ACL gives on a topic. The numbers are the protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// To read its records.
    Read = 3,
    /// To write records to it.
    Write = 4,
}

impl Right {
    /// Whoever is told of a topic has this one, so an answer without it says nothing.
    const DESCRIBE: u8 = 8;

    /// Its name in an ACL.
    fn name(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
        }
    }
}

impl Topic {
    /// One for tests, whose partitions have all that they need.
    #[cfg(test)]
    pub fn led(name: &str, id: u8, partitions: i32) -> Self {
        let partitions = (0..partitions).map(|id| Partition {
            id,
            leader: Some(1),
            replicas: vec![1],
            isr: vec![1],
            offline: vec![],
        });
        Self {
            name: Arc::from(name),
            id: [id; 16],
            internal: false,
            rights: None,
            partitions: partitions.collect(),
        }
    }

    /// Whether the gateway's own Kafka user has `right`, as far as the broker says. It has the last
    /// word when the right is used, but a reader is not told of it there: krafka keeps a refused
    /// fetch to itself.
    ///
    /// # Errors
    ///
    /// `NotAuthorized`.
    fn grants(&self, right: Right) -> Result<(), Fault> {
        let bit = |number: u8| 1_i32 << number;
        match self.rights {
            Some(rights)
                if rights & bit(Right::DESCRIBE) != 0 && rights & bit(right as u8) == 0 =>
            {
                let detail = format!("it lacks {} on topic {}", right.name(), self.name);
                Err(Fault::from_protocol_code(
                    TOPIC_AUTHORIZATION_FAILED,
                    Some(&detail),
                ))
            }
            _ => Ok(()),
        }
    }

    /// The partition numbered `id`.
    ///
    /// # Errors
    ///
    /// `UnknownPartition`, with the numbers that there are.
    pub fn partition(&self, id: i32) -> Result<&Partition, Fault> {
        self.partitions
            .binary_search_by_key(&id, |partition| partition.id)
            .ok()
            .and_then(|index| self.partitions.get(index))
            .ok_or_else(|| Fault::unknown_partition(&self.name, id, self.partitions.len()))
    }
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub id: i32,
    /// The broker that leads it; `None` during an election.
    pub leader: Option<i32>,
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those of them that are in sync.
    pub isr: Vec<i32>,
    /// Those of them that are down.
    pub offline: Vec<i32>,
}

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its id; `None` when the broker is too old to say.
    pub id: Option<Arc<str>>,
    /// A broker to ask for what only a controller does; `None` during an election.
    pub controller: Option<i32>,
    /// By id.
    pub brokers: Vec<Broker>,
}

/// A broker of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// Where clients reach it.
    pub host: String,
    /// Where clients reach it.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

/// What is known about a topic, and until when it may be believed.
#[derive(Debug, Clone)]
struct Entry {
    answer: Result<Arc<Topic>, Fault>,
    /// When a broker said so.
    fetched: Instant,
    /// From when on a broker is asked again.
    check: Instant,
}

/// The cached view. Clones share it.
#[derive(Debug, Clone)]
pub struct Metadata {
    inner: Arc<Inner>,
}

/// All topics, by name.
type List = Arc<[Arc<Topic>]>;

#[derive(Debug)]
struct Inner {
    admin: Admin,
    options: MetadataOptions,
    topics: Cache<Arc<str>, Entry>,
    /// Topics being created, so that it is done once; entries live no longer than that.
    creating: Cache<Arc<str>, Arc<Topic>>,
    all: Cache<(), Arc<[Arc<Topic>]>>,
    /// The last list of all topics, and when it was made.
    last: Mutex<Option<(Instant, List)>>,
    cluster: Cache<(), Arc<Cluster>>,
    rules: Arc<RuleBook>,
}

impl Metadata {
    /// A view through `admin`; nothing is asked yet.
    pub fn new(admin: Admin, options: MetadataOptions) -> Self {
        let topics = Cache::builder()
            .max_capacity(CAPACITY)
            .weigher(|_: &Arc<str>, entry: &Entry| {
                let partitions = entry.answer.as_ref().map_or(0, |t| t.partitions.len());
                u32::try_from(partitions)
                    .unwrap_or(u32::MAX)
                    .saturating_add(1)
            })
            // Nothing older is ever served.
            .time_to_live(options.stale + options.fresh)
            .build();
        Self {
            inner: Arc::new(Inner {
                rules: Arc::new(RuleBook::new(admin.clone(), options.timeout)),
                admin,
                topics,
                creating: short_lived(10_000),
                all: short_lived(1),
                last: Mutex::default(),
                cluster: short_lived(1),
                options,
            }),
        }
    }

    /// The topic `name`.
    ///
    /// # Errors
    ///
    /// `Invalid` for a name that no topic can have, `UnknownTopic`, and whatever kept a broker
    /// from answering.
    pub async fn topic(&self, name: &str) -> Result<Arc<Topic>, Fault> {
        if let Some(entry) = self.inner.topics.get(name).await
            && Instant::now() < entry.check
        {
            return entry.answer;
        }
        check_topic_name(name)?;
        // On a task of its own: a caller that goes away must not take the answer from the others
        // who wait for the same one.
        let inner = Arc::clone(&self.inner);
        let name = Arc::from(name);
        spawned(async move { inner.refreshed(name).await }).await
    }

    /// The topic `name`, created first if it does not exist and `auto_create` is on: with the
    /// broker's default partitions and replication, once however many ask at the same time. A topic of
    /// Kafka or of its tools ([`keeper`]) is never created.
    ///
    /// # Errors
    ///
    /// As [`Metadata::topic`]; `TimedOut` when the new topic got no leaders in time.
    pub async fn ensure_topic(&self, name: &str) -> Result<Arc<Topic>, Fault> {
        let known = self.topic(name).await;
        match &known {
            Err(fault)
                if fault.kind == FaultKind::UnknownTopic && self.inner.options.auto_create =>
            {
                if keeper(name) != Keeper::Users {
                    return Err(Fault {
                        message: format!(
                            "Topic {name} does not exist, and topics whose names begin with __ are \
                             not created by a first use: they belong to Kafka and its tools. Create \
                             it with Kafka's own tools, or check its name."
                        ),
                        ..fault.clone()
                    });
                }
                let inner = Arc::clone(&self.inner);
                let name = Arc::from(name);
                spawned(async move { inner.created(name).await }).await
            }
            _ => known,
        }
    }

    /// The topic `name`, for one who is about to use it. Only for one who `may_create` it is it created
    /// first, as by [`Metadata::ensure_topic`]: to read it is not enough.
    ///
    /// # Errors
    ///
    /// As [`Metadata::ensure_topic`].
    pub async fn topic_to_use(&self, name: &str, may_create: bool) -> Result<Arc<Topic>, Fault> {
        if may_create {
            self.ensure_topic(name).await
        } else {
            self.topic(name).await
        }
    }

    /// Gives `topic` back if the gateway's own Kafka user has `right` on it. One that lacks it is
    /// asked for again first: an ACL that was just added holds at once.
    ///
    /// # Errors
    ///
    /// `NotAuthorized`, and as [`Metadata::topic`].
    pub async fn granted(&self, topic: Arc<Topic>, right: Right) -> Result<Arc<Topic>, Fault> {
        if topic.grants(right).is_ok() {
            return Ok(topic);
        }
        self.inner.topics.invalidate(&topic.name).await;
        let topic = self.topic(&topic.name).await?;
        topic.grants(right)?;
        Ok(topic)
    }

    /// All topics, by name, Kafka's own included; no older than a second, but while one broker of several
    /// does not answer.
    ///
    /// # Errors
    ///
    /// Whatever kept a broker from answering.
    pub async fn topics(&self) -> Result<Arc<[Arc<Topic>]>, Fault> {
        if let Some(all) = self.inner.all.get(&()).await {
            return Ok(all);
        }
        let inner = Arc::clone(&self.inner);
        let mut asked = pin!(spawned(async move { inner.all_topics().await }));
        // krafka asks one broker for the list, which may be silent where others are not.
        match timeout(PATIENCE, asked.as_mut()).await {
            Ok(answer) => answer,
            Err(_) => match self.inner.last_list() {
                Some(old) => Ok(old),
                None => asked.await,
            },
        }
    }

    /// The cluster and its brokers; no older than a second.
    ///
    /// # Errors
    ///
    /// Whatever kept a broker from answering.
    pub async fn cluster(&self) -> Result<Arc<Cluster>, Fault> {
        if let Some(cluster) = self.inner.cluster.get(&()).await {
            return Ok(cluster);
        }
        let inner = Arc::clone(&self.inner);
        spawned(async move { inner.described_cluster().await }).await
    }

    /// The cluster's brokers, by id.
    ///
    /// # Errors
    ///
    /// As [`Metadata::cluster`].
    pub async fn brokers(&self) -> Result<Vec<Broker>, Fault> {
        Ok(self.cluster().await?.brokers.clone())
    }

    /// What `topic` asks of records, as it was last heard; `None` while nobody said. Never waits for a
    /// broker.
    pub async fn rules(&self, topic: &Topic) -> Option<Arc<Rules>> {
        self.inner.rules.known(&topic.name).await
    }

    /// The same as a broker says now, or said at most a second ago. Waits two seconds at most.
    pub async fn confirmed_rules(&self, topic: &Topic) -> Option<Arc<Rules>> {
        self.inner.rules.confirmed(&topic.name).await
    }

    /// Has the rules of `topic` asked for anew: a broker refused a record that they let through.
    pub async fn doubt_rules(&self, topic: &Topic) {
        self.inner.rules.doubt(&topic.name).await;
    }

    /// The topic `name` as a broker says now, or said at most a second ago: for those who were asked
    /// for a partition that it did not have.
    ///
    /// # Errors
    ///
    /// As [`Metadata::topic`].
    pub async fn confirmed(&self, name: &str) -> Result<Arc<Topic>, Fault> {
        if let Some(entry) = self.inner.topics.get(name).await
            && entry.fetched.elapsed() >= FRESH_LIST
        {
            // It stays at hand, for when no broker answers.
            let check = Instant::now();
            let entry = Entry { check, ..entry };
            self.inner.topics.insert(Arc::from(name), entry).await;
        }
        self.topic(name).await
    }

    /// Forgets what is known about `name`: something was learnt that contradicts it, or it was
    /// just created, changed or deleted.
    pub async fn invalidate(&self, name: &str) {
        self.inner.topics.invalidate(name).await;
        self.inner.creating.invalidate(name).await;
        self.inner.rules.forget(name).await;
        self.inner.all.invalidate(&()).await;
        *self.inner.last.lock() = None;
    }
}

fn short_lived<K, V>(capacity: u64) -> Cache<K, V>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder()
        .max_capacity(capacity)
        .time_to_live(FRESH_LIST)
        .build()
}

/// Runs `work` to its end even when the caller goes away.
///
/// The work is on its task before this returns. An `async fn` would hold all of it, which is
/// kilobytes, and so would every request's future, only to find the answer in the cache.
fn spawned<T: Send + 'static>(
    work: impl Future<Output = Result<T, Fault>> + Send + 'static,
) -> impl Future<Output = Result<T, Fault>> + Send {
    let task = tokio::spawn(work);
    async {
        task.await.unwrap_or_else(|error| {
            // The runtime is shutting down, or a bug: either way there is no answer.
            Err(Fault::new(
                FaultKind::Unavailable,
                format!("The question to Kafka was given up: {error}"),
            ))
        })
    }
}

/// Whether a topic can have this name: letters, digits, `.`, `_` and `-`, at most 249 of them, and
/// neither `.` nor `..`.
///
/// # Errors
///
/// `Invalid`, with what is wrong.
pub fn check_topic_name(name: &str) -> Result<(), Fault> {
    let wrong = if name.is_empty() {
        "it is empty"
    } else if name.len() > 249 {
        "it is longer than 249 characters"
    } else if matches!(name, "." | "..") {
        "it is . or .."
    } else if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    {
        "only ASCII letters, digits, '.', '_' and '-' are allowed"
    } else {
        return Ok(());
    };
    Err(Fault {
        kafka_error: Some("INVALID_TOPIC_EXCEPTION"),
        ..Fault::new(
            FaultKind::Invalid,
            format!("This is not a name that a topic can have: {wrong}."),
        )
    })
}
