//! What the brokers keep on their disks: how large it is, and how the oldest records are deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use krafka::admin::{DeleteRecordsOptions, DescribeLogDirsOptions};

use super::partitions::{from_krafka, take, to_krafka};
use super::{Admin, bounded};
use crate::kafka::fault::Fault;
use crate::record::TopicPartition;

/// A directory in which a broker keeps partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogDir {
    /// Where it is on the broker.
    pub(crate) path: String,
    /// The size of its volume in bytes; `None` where the broker does not tell (before Kafka 3.3).
    pub(crate) total_bytes: Option<i64>,
    /// What is free of it.
    pub(crate) usable_bytes: Option<i64>,
    /// What is in it, by topic and partition.
    pub(crate) replicas: Vec<LogReplica>,
    /// Why it cannot be used, if it cannot.
    pub(crate) fault: Option<Fault>,
}

/// A replica in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogReplica {
    /// Which partition.
    pub(crate) partition: TopicPartition,
    /// Its size in bytes.
    pub(crate) bytes: i64,
    /// How many records it is behind the high watermark.
    pub(crate) behind: i64,
    /// It is being moved here from another directory of the broker.
    pub(crate) is_future: bool,
}

impl Admin {
    /// The directories of each of `brokers`, by path; what is in them of `partitions`, or of all.
    ///
    /// # Errors
    ///
    /// What kept all brokers from being asked. What kept one from answering is in its place.
    pub(crate) async fn log_dirs(
        &self,
        brokers: &[i32],
        partitions: Option<&[TopicPartition]>,
        bound: Duration,
    ) -> Result<BTreeMap<i32, Result<Vec<LogDir>, Fault>>, Fault> {
        let mut options = DescribeLogDirsOptions::default().timeout(bound);
        if let Some(partitions) = partitions {
            options = options.partitions(partitions.iter().map(to_krafka).collect());
        }
        let client = &self.link(bound).await?.client;
        let call = client.describe_log_dirs(brokers.iter().copied(), options);
        let found = bounded(bound, call).await?;
        Ok(found
            .into_iter()
            .map(|(broker, dirs)| {
                let dirs = dirs.map(|dirs| {
                    let mut dirs: Vec<LogDir> = dirs.into_iter().map(log_dir).collect();
                    dirs.sort_unstable_by(|a, b| a.path.cmp(&b.path));
                    dirs
                });
                (broker, dirs.map_err(Fault::from))
            })
            .collect())
    }

    /// Deletes the records of each partition that lie before an offset, and tells where it starts then.
    ///
    /// # Errors
    ///
    /// What kept the leaders from being asked. What is wrong with one partition is in its place:
    /// `OffsetOutOfRange`, `NotAuthorized`, `Invalid` for a topic that is compacted alone.
    pub(crate) async fn delete_records(
        &self,
        before: &[(TopicPartition, i64)],
        bound: Duration,
    ) -> Result<Vec<(TopicPartition, Result<i64, Fault>)>, Fault> {
        let options = DeleteRecordsOptions::default().timeout(bound);
        let client = &self.link(bound).await?.client;
        let asked = before.iter().map(|(at, offset)| (to_krafka(at), *offset));
        let mut deleted = bounded(bound, client.delete_records(asked, options)).await?;
        Ok(before
            .iter()
            .map(|(partition, _)| (partition.clone(), take(&mut deleted, partition)))
            .collect())
    }
}

fn log_dir((path, dir): (String, krafka::Result<krafka::admin::LogDirDescription>)) -> LogDir {
    match dir {
        Ok(dir) => {
            let replicas = dir.replicas.into_iter();
            let mut replicas: Vec<LogReplica> = replicas
                .map(|(partition, replica)| LogReplica {
                    partition: from_krafka(&partition),
                    bytes: replica.size,
                    behind: replica.offset_lag,
                    is_future: replica.is_future,
                })
                .collect();
            replicas.sort_unstable_by(|a, b| a.partition.cmp(&b.partition));
            LogDir {
                path,
                total_bytes: dir.total_bytes,
                usable_bytes: dir.usable_bytes,
                replicas,
                fault: None,
            }
        }
        Err(error) => LogDir {
            path,
            total_bytes: None,
            usable_bytes: None,
            replicas: Vec::new(),
            fault: Some(error.into()),
        },
    }
}
