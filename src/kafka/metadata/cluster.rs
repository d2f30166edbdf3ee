//! The cluster, its brokers, and the list of all topics.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Broker, Cluster, Inner, Partition, Topic};
use crate::kafka::fault::{Fault, FaultKind};

impl Inner {
    /// All topics, asked for once for all who wait.
    pub(super) async fn all_topics(&self) -> Result<Arc<[Arc<Topic>]>, Fault> {
        self.all
            .try_get_with((), self.listed())
            .await
            .map_err(|fault| (*fault).clone())
    }

    async fn listed(&self) -> Result<Arc<[Arc<Topic>]>, Fault> {
        let mut topics: Vec<_> = self
            .admin
            .all_topics(self.options.timeout)
            .await?
            .into_iter()
            .map(|info| {
                let mut partitions: Vec<_> = info
                    .partitions_iter()
                    .map(|partition| Partition {
                        id: partition.partition,
                        leader: Some(partition.leader).filter(|leader| *leader >= 0),
                        replicas: partition.replicas.clone(),
                        isr: partition.isr.clone(),
                        offline: partition.offline_replicas.clone(),
                    })
                    .collect();
                partitions.sort_unstable_by_key(|partition| partition.id);
                Arc::new(Topic {
                    name: Arc::from(info.name),
                    id: info.topic_id,
                    internal: info.is_internal,
                    partitions,
                    rights: None,
                })
            })
            .collect();
        topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let topics: Arc<[Arc<Topic>]> = topics.into();
        *self.last.lock() = Some((Instant::now(), Arc::clone(&topics)));
        Ok(topics)
    }

    /// The last list of all topics, if it is not too old to be served while one broker of several is waited
    /// for.
    pub(super) fn last_list(&self) -> Option<Arc<[Arc<Topic>]>> {
        if !self.admin.has_several_brokers() {
            return None;
        }
        let last = self.last.lock();
        let (at, list) = last.as_ref()?;
        (at.elapsed() < self.options.stale).then(|| Arc::clone(list))
    }

    /// The cluster, asked for once for all who wait.
    pub(super) async fn described_cluster(&self) -> Result<Arc<Cluster>, Fault> {
        self.cluster
            .try_get_with((), self.asked_cluster())
            .await
            .map_err(|fault| (*fault).clone())
    }

    async fn asked_cluster(&self) -> Result<Arc<Cluster>, Fault> {
        let mut cluster = match self.admin.describe_cluster(self.options.timeout).await {
            Ok(described) => Cluster {
                id: Some(Arc::from(described.cluster_id)),
                controller: Some(described.controller_id).filter(|id| *id >= 0),
                brokers: described
                    .brokers
                    .into_iter()
                    .map(|broker| Broker {
                        id: broker.id,
                        host: broker.host,
                        port: broker.port,
                        rack: broker.rack,
                    })
                    .collect(),
            },
            // Brokers before 2.8, and the embedded one, tell their brokers only with the topics.
            Err(fault) if fault.kind == FaultKind::Unsupported => {
                let brokers = self.admin.brokers(self.options.timeout).await?;
                Cluster {
                    id: None,
                    // krafka knows the controller but tells nobody. The lowest id is as good as
                    // any: brokers pass on what is meant for the controller.
                    controller: brokers.iter().map(|broker| broker.id()).min(),
                    brokers: brokers
                        .iter()
                        .map(|broker| Broker {
                            id: broker.id(),
                            host: broker.host().to_owned(),
                            port: broker.port(),
                            rack: broker.rack().map(str::to_owned),
                        })
                        .collect(),
                }
            }
            Err(fault) => return Err(fault),
        };
        if cluster.id.is_none() {
            cluster.id.clone_from(&self.options.cluster_id);
        }
        cluster.brokers.sort_unstable_by_key(|broker| broker.id);
        Ok(Arc::new(cluster))
    }
}
