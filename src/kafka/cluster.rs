//! One Kafka cluster as the gateway uses it: its producer, reader, metadata and administration, and
//! the embedded broker where there is no other.
//!
//! `administration.rs` is what it changes and tells of the cluster for administrators.

mod administration;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::admin::{
    Admin, Committed, ConfigEntry, Isolation, OffsetAndMetadata, OffsetQuery, OffsetSpec,
};
use super::apart;
use super::append_time::AppendTimes;
use super::client::{self, Clients, Role, Tokens};
#[cfg(feature = "embedded")]
use super::embedded::Embedded;
use super::fault::{Fault, FaultKind};
use super::last::{Last, LookBack};
use super::member::Members;
use super::metadata::{Metadata, MetadataOptions, Right, Topic};
use super::offset_resolver::{OffsetResolver, ResolvedOffset, SeekTo};
use super::producer::Producer;
use super::pulse::Pulse;
use super::reader::Reader;
use super::tail::{Kafka, Tails};
use super::watermarks::{self, Watermarks, unknown_watermarks};
use crate::config::{KafkaSettings, LimitSettings, StreamSettings, WebSocketSettings};
use crate::reader_options::OffsetReset;
use crate::record::TopicPartition;
use crate::reserved::{Keeper, keeper};

/// Longest time for the administration client to take its leave.
const CLOSE_ADMIN: Duration = Duration::from_secs(2);

/// The clients of one cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Writes. Only [`crate::write::Writer`] calls it.
    pub producer: Arc<Producer>,
    /// Reads without a group.
    pub reader: Arc<Reader>,
    /// Follows topics: one reader for all who follow one.
    pub tails: Tails,
    /// Topics, partitions, brokers.
    pub metadata: Metadata,
    /// Makes members of consumer groups.
    pub members: Members,
    last: LookBack,
    admin: Admin,
    /// Whether brokers answer is asked once for the process: `None` where other clients ask.
    pulse: Option<Pulse>,
    settings: KafkaSettings,
    #[cfg(feature = "embedded")]
    embedded: Option<Embedded>,
}

impl Cluster {
    /// Makes the clients. No broker needs to be up: each client connects when it is first used.
    ///
    /// # Errors
    ///
    /// A client refuses its properties, or the embedded broker cannot start.
    pub async fn start(
        settings: &KafkaSettings,
        limits: &LimitSettings,
        websocket: &WebSocketSettings,
    ) -> Result<Self, Fault> {
        // Asked before the embedded broker's address stands in the settings.
        let auto_create = settings.creates_topics();
        #[cfg(feature = "embedded")]
        let embedded = if settings.uses_embedded() {
            Some(Embedded::start(settings.embedded_max_bytes).await?)
        } else {
            None
        };
        #[cfg(feature = "embedded")]
        let settings = &match &embedded {
            Some(embedded) => embedded.settings(settings),
            None => settings.clone(),
        };
        let options = MetadataOptions {
            timeout: settings.metadata_timeout,
            auto_create,
            #[cfg(feature = "embedded")]
            cluster_id: embedded.as_ref().map(|e| Arc::clone(e.cluster_id())),
            ..MetadataOptions::default()
        };
        let clients = Clients::new(settings.clone());
        let admin = Admin::connecting(clients.clone());
        let metadata = Metadata::new(admin.clone(), options);
        let pulse = Pulse::start(metadata.clone(), admin.clone());
        Ok(Self {
            pulse: Some(pulse),
            #[cfg(feature = "embedded")]
            embedded,
            ..Self::with(clients, admin, metadata, limits, websocket, None)?
        })
    }

    /// Clients of the same cluster that log in with `tokens`, as somebody else. They share the bounds on
    /// memory with these, and nothing that these have read.
    ///
    /// # Errors
    ///
    /// The brokers do not let it in, or do not answer; a client refuses its properties.
    pub async fn beside(
        &self,
        tokens: Tokens,
        limits: &LimitSettings,
        websocket: &WebSocketSettings,
    ) -> Result<Self, Fault> {
        let options = MetadataOptions {
            timeout: self.settings.metadata_timeout,
            auto_create: self.settings.creates_topics(),
            ..MetadataOptions::default()
        };
        let clients = Clients::of_principal(self.settings.clone(), tokens);
        let admin = Admin::connecting(clients.clone());
        let metadata = Metadata::new(admin.clone(), options);
        // A producer has threads of its own: there is none for whom Kafka does not let in.
        metadata.cluster().await?;
        Self::with(clients, admin, metadata, limits, websocket, Some(self))
    }

    /// All that logs in as `clients` do, within the bounds of what is `beside` it. It has no pulse and no
    /// embedded broker of its own.
    fn with(
        clients: Clients,
        admin: Admin,
        metadata: Metadata,
        limits: &LimitSettings,
        websocket: &WebSocketSettings,
        beside: Option<&Self>,
    ) -> Result<Self, Fault> {
        let settings = clients.settings().clone();
        let producer = Producer::start(
            client::librdkafka(&settings, limits, Role::Producer),
            clients.tokens(Role::Producer).cloned(),
            beside
                .map(|other| other.producer.held())
                .unwrap_or_default(),
        )?;
        let tuning = client::reader_tuning(&settings)?;
        let times = AppendTimes::new(clients.clone());
        let members = Members::new(
            clients.clone(),
            tuning.clone(),
            admin.clone(),
            metadata.clone(),
            times.clone(),
            websocket.own_connections,
        );
        let reader = Reader::new(
            clients.clone(),
            tuning.clone(),
            metadata.clone(),
            times.clone(),
        );
        let reader = Arc::new(reader);
        let tail_kafka = Kafka {
            clients,
            tuning,
            reader: Arc::clone(&reader),
            times,
            metadata: metadata.clone(),
            admin: admin.clone(),
            timeout: settings.metadata_timeout,
        };
        Ok(Self {
            pulse: None,
            members,
            producer,
            last: LookBack::new(Arc::clone(&reader)),
            reader,
            tails: match beside {
                Some(other) => other.tails.beside(tail_kafka),
                None => Tails::new(tail_kafka, StreamSettings::default()),
            },
            metadata,
            admin,
            settings,
            #[cfg(feature = "embedded")]
            embedded: None,
        })
    }

    /// The same cluster, followed as `streams` says. Nobody follows yet.
    #[must_use]
    pub fn streaming(mut self, streams: &StreamSettings) -> Self {
        self.tails = self.tails.by(streams.clone());
        self
    }

    /// Whether this is the embedded trial broker.
    pub fn is_embedded(&self) -> bool {
        #[cfg(feature = "embedded")]
        let embedded = self.embedded.is_some();
        #[cfg(not(feature = "embedded"))]
        let embedded = false;
        embedded
    }

    /// The cluster's first addresses.
    pub fn bootstrap_servers(&self) -> &str {
        &self.settings.bootstrap_servers
    }

    /// The cluster's id. A broker too old to tell has an empty one.
    ///
    /// # Errors
    ///
    /// Whatever kept a broker from answering.
    pub async fn id(&self) -> Result<Arc<str>, Fault> {
        // It is the same for as long as the cluster lives.
        let cluster = match self.pulse.as_ref().and_then(Pulse::cluster) {
            Some(known) => known,
            None => self.metadata.cluster().await?,
        };
        Ok(cluster.id.clone().unwrap_or_else(|| Arc::from("")))
    }

    /// Whether any broker has answered lately, and the producer is not locked out. The two may log in
    /// by different properties. Told from what is known: no broker is waited for.
    ///
    /// # Errors
    ///
    /// Whatever kept all of them from answering, or the producer from logging in.
    pub async fn probe(&self) -> Result<(), Fault> {
        if let Some(pulse) = &self.pulse {
            pulse.beats().await?;
        }
        self.producer.probe()
    }

    /// The topic `name`, to write to: created first if it does not exist, that is wanted, and whoever
    /// writes `may_create` it.
    ///
    /// # Errors
    ///
    /// As [`Metadata::topic_to_use`]; `NotAuthorized` when the gateway's own Kafka user may not
    /// write to it, or nobody may because it is one of Kafka's own.
    pub async fn writable(&self, name: &str, may_create: bool) -> Result<Arc<Topic>, Fault> {
        if keeper(name) == Keeper::Kafka {
            return Err(Fault::kept_by_kafka(name));
        }
        let topic = self.metadata.topic_to_use(name, may_create).await?;
        if topic.internal {
            return Err(Fault::kept_by_kafka(name));
        }
        self.metadata.granted(topic, Right::Write).await
    }

    /// Room for `bytes` about to be written; always there on a real cluster.
    ///
    /// # Errors
    ///
    /// [`FaultKind::StorageFull`] on the embedded broker.
    pub fn admit(&self, bytes: u64) -> Result<(), Fault> {
        #[cfg(feature = "embedded")]
        if let Some(embedded) = &self.embedded {
            return embedded.admit(bytes);
        }
        let _ = bytes;
        Ok(())
    }

    /// Where each of `partitions` starts and where its committed records end.
    ///
    /// # Errors
    ///
    /// The first partition's that could not be asked.
    pub async fn watermarks(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> Result<Vec<Watermarks>, Fault> {
        self.watermarks_under(Isolation::Committed, topic, partitions)
            .await
    }

    /// Where a partition starts and where its log ends, open and aborted transactions included: the
    /// end is the offset that the next record gets.
    ///
    /// # Errors
    ///
    /// Whatever kept the partition's leader from answering.
    pub async fn log_watermarks(&self, topic: &str, partition: i32) -> Result<Watermarks, Fault> {
        self.watermarks_under(Isolation::Uncommitted, topic, &[partition])
            .await?
            .pop()
            .ok_or_else(|| unknown_watermarks(topic))
    }

    /// The configuration of `topic`, by name; `None` where the broker tells nobody (the embedded
    /// one).
    ///
    /// # Errors
    ///
    /// `NotAuthorized`, `UnknownTopic`, and whatever kept the brokers from answering.
    pub async fn topic_configs(&self, topic: &str) -> Result<Option<Vec<ConfigEntry>>, Fault> {
        let asked = self
            .admin
            .topic_configs(topic, self.settings.metadata_timeout)
            .await;
        match asked {
            Ok(configs) => Ok(Some(configs)),
            Err(fault) if fault.kind == FaultKind::Unsupported => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Where each of `partitions` starts and where what may be read under `isolation` ends.
    ///
    /// # Errors
    ///
    /// As [`Cluster::watermarks`].
    pub async fn watermarks_under(
        &self,
        isolation: Isolation,
        topic: &str,
        partitions: &[i32],
    ) -> Result<Vec<Watermarks>, Fault> {
        let bound = self.settings.metadata_timeout;
        watermarks::watermarks(&self.admin, bound, isolation, topic, partitions).await
    }

    /// The same of each partition by itself: a broker that does not answer is not waited for longer than
    /// a moment where others have answered.
    pub async fn watermarks_of_each(
        &self,
        isolation: Isolation,
        topic: &Topic,
        partitions: &[i32],
    ) -> Vec<Result<Watermarks, Fault>> {
        let bound = self.settings.metadata_timeout;
        apart::of_each(topic, partitions, async |ids: Vec<i32>| {
            watermarks::each(&self.admin, bound, isolation, &topic.name, &ids).await
        })
        .await
    }

    /// Where each of `aims` leads in the log of its partition, under `isolation`. Nothing is committed
    /// here: [`SeekTo::Committed`] is for groups.
    ///
    /// # Errors
    ///
    /// The first partition's that could not be asked.
    pub async fn resolve(
        &self,
        isolation: Isolation,
        topic: &str,
        aims: &[(i32, SeekTo)],
    ) -> Result<Vec<ResolvedOffset>, Fault> {
        let found = self.look_up(isolation, topic, aims).await;
        found.into_iter().collect()
    }

    /// The same of each partition by itself, as [`Cluster::watermarks_of_each`]. No partition comes twice.
    pub async fn resolve_each(
        &self,
        isolation: Isolation,
        topic: &Topic,
        aims: &[(i32, SeekTo)],
    ) -> Vec<Result<ResolvedOffset, Fault>> {
        let partitions: Vec<i32> = aims.iter().map(|(id, _)| *id).collect();
        apart::of_each(topic, &partitions, async |ids: Vec<i32>| {
            let aims = aims.iter().copied().filter(|(id, _)| ids.contains(id));
            let aims: Vec<_> = aims.collect();
            self.look_up(isolation, &topic.name, &aims).await
        })
        .await
    }

    async fn look_up(
        &self,
        isolation: Isolation,
        topic: &str,
        aims: &[(i32, SeekTo)],
    ) -> Vec<Result<ResolvedOffset, Fault>> {
        let resolver = OffsetResolver {
            admin: self.admin.clone(),
            group: Arc::from(""),
            isolation,
            reset: OffsetReset::Latest,
            bound: self.settings.metadata_timeout,
        };
        let name: Arc<str> = Arc::from(topic);
        let aims: Vec<(TopicPartition, SeekTo)> = aims
            .iter()
            .map(|(id, aim)| (TopicPartition::new(Arc::clone(&name), *id), *aim))
            .collect();
        let found = resolver.resolve_with(&aims, &HashMap::new()).await;
        found.into_iter().map(|(_, found)| found).collect()
    }

    /// The offset of the first record at or after `time` (ms since the epoch) in each partition, as
    /// far as it may be read under `isolation`; `None` where there is none.
    ///
    /// # Errors
    ///
    /// The first partition's that could not be asked.
    pub async fn offsets_at(
        &self,
        isolation: Isolation,
        topic: &str,
        partitions: &[i32],
        time: i64,
    ) -> Result<Vec<Option<i64>>, Fault> {
        let wanted: Vec<OffsetQuery> = partitions
            .iter()
            .map(|partition| OffsetQuery::new(topic, *partition, OffsetSpec::At(time)))
            .collect();
        let bound = self.settings.metadata_timeout;
        let found = self.admin.list_offsets(&wanted, isolation, bound).await;
        found.into_iter().collect()
    }

    /// Where the last records of partitions begin that can be read and are to be shown, in the order of
    /// the bounds. From where it looks no further, and where Kafka does not answer, it counts offsets.
    pub async fn last(&self, last: Last<'_>) -> Arc<[i64]> {
        self.last.starts(last).await
    }

    /// What `group` has committed for each of `partitions`; `None` is nothing.
    ///
    /// # Errors
    ///
    /// As [`Admin::group_commits`].
    pub async fn group_commits(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, Result<Option<Committed>, Fault>>, Fault> {
        let bound = self.settings.metadata_timeout;
        self.admin.group_commits(group, partitions, bound).await
    }

    /// Commits for `group`, which must have no members.
    ///
    /// # Errors
    ///
    /// As [`Admin::commit_for_group`].
    pub async fn commit_for_group(
        &self,
        group: &str,
        offsets: &[OffsetAndMetadata],
    ) -> Result<Vec<(TopicPartition, Result<i64, Fault>)>, Fault> {
        let bound = self.settings.metadata_timeout;
        self.admin.commit_for_group(group, offsets, bound).await
    }

    /// Why records may not get into `partitions`, as far as the brokers know a reason: no leader, or
    /// fewer replicas in sync than the topic asks for.
    pub async fn why_unwritable(&self, topic: &str, partitions: &[i32]) -> Vec<(i32, Fault)> {
        self.metadata.invalidate(topic).await;
        let described = match self.metadata.topic(topic).await {
            Ok(described) => described,
            // The cluster as a whole does not answer, or has no such topic any more.
            Err(fault) => return partitions.iter().map(|p| (*p, fault.clone())).collect(),
        };
        let mut asked = None;
        let mut reasons = Vec::new();
        for id in partitions {
            let Ok(partition) = described.partition(*id) else {
                continue;
            };
            if partition.leader.is_none() {
                reasons.push((*id, without_leader(topic, *id)));
            } else if partition.isr.len() < partition.replicas.len() {
                let least = match asked {
                    Some(least) => least,
                    None => *asked.insert(self.least_in_sync(topic).await),
                };
                let in_sync = partition.isr.len();
                if let Some(least) = least.filter(|least| in_sync < *least) {
                    reasons.push((*id, too_few_replicas(topic, *id, in_sync, least)));
                }
            }
        }
        reasons
    }

    /// The topic's `min.insync.replicas`.
    async fn least_in_sync(&self, topic: &str) -> Option<usize> {
        let configs = self.topic_configs(topic).await.ok()??;
        let found = configs.iter().find(|c| c.name == "min.insync.replicas")?;
        found.value.as_deref()?.parse().ok()
    }

    /// Puts what is true at this moment into the metrics.
    pub fn observe(&self) {
        self.producer.observe();
        self.tails.observe();
    }

    /// Waits until what was handed to the producer has its answers, at most `bound`, and lets go of
    /// the clients; returns how many records are left without an answer.
    pub async fn close(&self, bound: Duration) -> usize {
        let left = self.producer.flush(bound).await;
        let _ = tokio::time::timeout(CLOSE_ADMIN, self.admin.close()).await;
        left
    }
}

fn too_few_replicas(topic: &str, partition: i32, in_sync: usize, least: usize) -> Fault {
    Fault {
        kafka_error: Some("NOT_ENOUGH_REPLICAS"),
        ..Fault::new(
            FaultKind::Unavailable,
            format!(
                "Partition {partition} of topic {topic} has {in_sync} replicas in sync, and the \
                 topic asks for {least} (min.insync.replicas). Try again when more are back."
            ),
        )
    }
}

fn without_leader(topic: &str, partition: i32) -> Fault {
    Fault {
        kafka_error: Some("LEADER_NOT_AVAILABLE"),
        ..Fault::new(
            FaultKind::Unavailable,
            format!(
                "Partition {partition} of topic {topic} has no leader: the brokers that hold it \
                 are down. Try again when they are back."
            ),
        )
    }
}
