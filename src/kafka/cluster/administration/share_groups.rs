//! Share groups, as administrators see and change them.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::kafka::Cluster;
use crate::kafka::admin::{DescribedGroup, PartitionLag, ShareGroupAt, ShareOffset};
use crate::kafka::fault::Fault;
use crate::record::TopicPartition;

impl Cluster {
    /// Whether the brokers have share groups.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::need_share_groups`].
    pub(crate) async fn need_share_groups(&self) -> Result<(), Fault> {
        self.admin.need_share_groups(self.bound()).await
    }

    /// Describes each of these share groups, with its coordinator.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::describe_share_groups`].
    pub(crate) async fn describe_share_groups(
        &self,
        groups: &[ShareGroupAt],
    ) -> Result<Vec<(i32, Result<DescribedGroup, Fault>)>, Fault> {
        self.admin.describe_share_groups(groups, self.bound()).await
    }

    /// Where a share group is in each partition.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::share_offsets`].
    pub(crate) async fn share_offsets(
        &self,
        group: &str,
    ) -> Result<BTreeMap<TopicPartition, ShareOffset>, Fault> {
        self.admin.share_offsets(group, self.bound()).await
    }

    /// How far a share group is behind in each partition in which it has a start, by topic and partition. Partitions
    /// that are not there any more are left out, and what `is_wanted` says no to: nothing is asked of those.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::share_offsets`] and [`crate::kafka::admin::Admin::lags`].
    pub(crate) async fn share_lags(
        &self,
        group: &str,
        is_wanted: impl Fn(&TopicPartition) -> bool,
    ) -> Result<Vec<PartitionLag>, Fault> {
        let until = Instant::now() + self.bound();
        let mut offsets = self.share_offsets(group).await?;
        offsets.retain(|partition, _| is_wanted(partition));
        let starts = offsets.iter();
        let starts =
            starts.filter_map(|(partition, offset)| Some((partition.clone(), offset.start?)));
        let mut lags = self.lags_behind(starts.collect(), until).await?;
        for lag in &mut lags {
            lag.told = offsets.get(&lag.partition).and_then(|offset| offset.lag);
        }
        Ok(lags)
    }

    /// Sets where a share group starts in each partition.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::alter_share_offsets`].
    pub(crate) async fn alter_share_offsets(
        &self,
        group: &str,
        offsets: &[(TopicPartition, i64)],
    ) -> Result<Vec<(TopicPartition, Result<(), Fault>)>, Fault> {
        let bound = self.bound();
        self.admin.alter_share_offsets(group, offsets, bound).await
    }

    /// Forgets where a share group starts in a topic.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::delete_share_offsets`].
    pub(crate) async fn delete_share_offsets(&self, group: &str, topic: &str) -> Result<(), Fault> {
        self.admin
            .delete_share_offsets(group, topic, self.bound())
            .await
    }
}
