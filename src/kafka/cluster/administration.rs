//! What administrators see and change of a cluster. Each call is bounded by `kafka.metadata_timeout_ms`, and
//! what is known of a topic is forgotten as soon as it was changed. `administration/transactions.rs` has what is about
//! transactions, `administration/share_groups.rs` what is about share groups.

mod share_groups;
mod transactions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Cluster;
use crate::kafka::admin::{
    Acl, AclFilter, ConfigChange, ConfigEntry, ConfigOwner, DeletedAcls, DescribedGroup, Election,
    ListedGroup, LogDir, NewScramPassword, NewTopic, OfPartitions, PartitionLag, QuotaChanges,
    QuotaEntity, Quotas, Reassignment, ScramCredential, ScramMechanism, Target,
};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::metadata::Topic;
use crate::record::TopicPartition;

/// How often a topic that was changed is looked at; grows to ten times this.
const POLL: Duration = Duration::from_millis(20);
/// How long the brokers may take to tell of a change that the controller has made.
const SETTLING: Duration = Duration::from_secs(5);

impl Cluster {
    fn bound(&self) -> Duration {
        self.settings.metadata_timeout
    }

    /// Makes a topic, or with `validate_only` asks the controller whether it would. Whoever asks for the topic
    /// next finds it, where the brokers have heard of it.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::create_topic`].
    pub(crate) async fn create_topic(
        &self,
        topic: &NewTopic,
        validate_only: bool,
    ) -> Result<(), Fault> {
        let made = self.admin.create_topic(topic, validate_only, self.bound());
        made.await?;
        self.metadata.invalidate(&topic.name).await;
        Ok(())
    }

    /// Deletes a topic. Answers when the broker that is asked first has heard of it, or after some seconds.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::delete_topic`].
    pub(crate) async fn delete_topic(&self, name: &str) -> Result<(), Fault> {
        let deleted = self.admin.delete_topic(name, self.bound()).await;
        self.metadata.invalidate(name).await;
        deleted?;
        let is_gone = |answer: &Result<Arc<Topic>, Fault>| matches!(answer, Err(fault) if fault.kind == FaultKind::UnknownTopic);
        // What the brokers have not heard of yet is no failure: the topic is deleted.
        let _ = self.settled(name, is_gone).await;
        Ok(())
    }

    /// Gives a topic more partitions, `total` of them.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::add_partitions`].
    pub(crate) async fn add_partitions(&self, name: &str, total: i32) -> Result<(), Fault> {
        let added = self.admin.add_partitions(name, total, self.bound()).await;
        self.metadata.invalidate(name).await;
        added
    }

    /// The topic `name` once a broker says that it has as many partitions as `least`, each with a leader: just
    /// after it was made or got more.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::metadata::Metadata::topic`]; what the brokers say after some seconds is taken as it
    /// is.
    pub(crate) async fn settled_topic(
        &self,
        name: &str,
        least: usize,
    ) -> Result<Arc<Topic>, Fault> {
        let is_there = |answer: &Result<Arc<Topic>, Fault>| match answer {
            Ok(topic) => {
                topic.partitions.len() >= least
                    && topic.partitions.iter().all(|p| p.leader.is_some())
            }
            Err(fault) => !matches!(fault.kind, FaultKind::UnknownTopic | FaultKind::Unavailable),
        };
        self.settled(name, is_there).await
    }

    /// What the brokers say of topic `name` as soon as it is as wanted, or after some seconds.
    async fn settled(
        &self,
        name: &str,
        is_wanted: impl Fn(&Result<Arc<Topic>, Fault>) -> bool,
    ) -> Result<Arc<Topic>, Fault> {
        let until = Instant::now() + SETTLING.min(self.bound());
        let mut pause = POLL;
        loop {
            let answer = self.metadata.topic(name).await;
            let left = until.saturating_duration_since(Instant::now());
            if is_wanted(&answer) || left.is_zero() {
                return answer;
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(POLL * 10);
            self.metadata.invalidate(name).await;
        }
    }

    /// The settings of each of `owners`; of all names, or of these.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::configs`].
    pub(crate) async fn configs(
        &self,
        owners: &[ConfigOwner],
        names: Option<&[String]>,
    ) -> Result<Vec<(ConfigOwner, Result<Vec<ConfigEntry>, Fault>)>, Fault> {
        self.admin.configs(owners, names, self.bound()).await
    }

    /// Changes settings: all of an owner's or none.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::alter_configs`].
    pub(crate) async fn alter_configs(
        &self,
        changes: &[(ConfigOwner, Vec<ConfigChange>)],
        validate_only: bool,
    ) -> Result<Vec<(ConfigOwner, Result<(), Fault>)>, Fault> {
        let altered = self
            .admin
            .alter_configs(changes, validate_only, self.bound());
        let altered = altered.await;
        for (owner, _) in changes {
            if let ConfigOwner::Topic(name) = owner {
                self.metadata.invalidate(name).await;
            }
        }
        altered
    }

    /// The partitions that are being moved to other brokers: of `partitions`, or of all.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::reassignments`].
    pub(crate) async fn reassignments(
        &self,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Vec<Reassignment>, Fault> {
        self.admin.reassignments(partitions, self.bound()).await
    }

    /// Has partitions moved to other brokers, or ends their moves.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::reassign`].
    pub(crate) async fn reassign(&self, targets: &[Target]) -> Result<OfPartitions, Fault> {
        let answer = self.admin.reassign(targets, self.bound()).await;
        let topics = targets.iter().map(|(partition, _)| &*partition.topic);
        self.forget(topics).await;
        answer
    }

    /// Has leaders elected of `partitions`, or of all.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::elect_leaders`].
    pub(crate) async fn elect_leaders(
        &self,
        election: Election,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<OfPartitions, Fault> {
        let elected = self.admin.elect_leaders(election, partitions, self.bound());
        let elected = elected.await?;
        let topics = elected.iter().map(|(partition, _)| &*partition.topic);
        self.forget(topics).await;
        Ok(elected)
    }

    /// Forgets what is known of topics whose partitions have changed.
    async fn forget(&self, topics: impl Iterator<Item = &str>) {
        let topics: BTreeSet<&str> = topics.collect();
        for topic in topics {
            self.metadata.invalidate(topic).await;
        }
    }

    /// What the gateway's own Kafka user may do with each of `topics`: one bit for each of the protocol's
    /// operations.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::rights`].
    pub(crate) async fn topic_rights(
        &self,
        topics: &[&str],
    ) -> Result<BTreeMap<String, i32>, Fault> {
        self.admin.rights(topics, self.bound()).await
    }

    /// The groups that there are, by id.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::groups`].
    pub(crate) async fn groups(&self) -> Result<Vec<ListedGroup>, Fault> {
        self.admin.groups(self.bound()).await
    }

    /// Describes each of `groups`.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::describe_groups`].
    pub(crate) async fn describe_groups(
        &self,
        groups: &[Arc<str>],
    ) -> Result<Vec<(Arc<str>, Result<DescribedGroup, Fault>)>, Fault> {
        self.admin.describe_groups(groups, self.bound()).await
    }

    /// How far `group` is behind in each partition for which it has committed, by topic and partition. What it has
    /// committed for partitions that are not there any more is left out, and what `is_wanted` says no to: nothing is
    /// asked of those, so that no error tells of them.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::all_commits`] and [`crate::kafka::admin::Admin::lags`].
    pub(crate) async fn group_lags(
        &self,
        group: &str,
        is_wanted: impl Fn(&TopicPartition) -> bool,
    ) -> Result<Vec<PartitionLag>, Fault> {
        let until = Instant::now() + self.bound();
        let mut committed = self.all_commits(group).await?;
        committed.retain(|partition, _| is_wanted(partition));
        self.lags_behind(committed, until).await
    }

    /// How far a group that goes on from these offsets is behind.
    async fn lags_behind(
        &self,
        committed: BTreeMap<TopicPartition, i64>,
        until: Instant,
    ) -> Result<Vec<PartitionLag>, Fault> {
        let topics = self.metadata.topics().await?;
        let mut there = Vec::with_capacity(committed.len());
        for (partition, offset) in committed {
            let found = topics.binary_search_by(|topic| topic.name.cmp(&partition.topic));
            let topic = found.ok().and_then(|at| topics.get(at));
            let is_listed = topic.is_some_and(|topic| topic.partition(partition.partition).is_ok());
            if Instant::now() >= until {
                let message = "Kafka did not tell of all partitions in time.";
                return Err(Fault::new(FaultKind::TimedOut, message));
            }
            // The list may be a second old.
            if is_listed || self.has_now(&partition).await? {
                there.push((partition, offset));
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        self.admin.lags(there, left).await
    }

    /// Whether there is such a partition, as a broker says now.
    async fn has_now(&self, partition: &TopicPartition) -> Result<bool, Fault> {
        match self.metadata.confirmed(&partition.topic).await {
            Ok(topic) => Ok(topic.partition(partition.partition).is_ok()),
            Err(fault) if fault.kind == FaultKind::UnknownTopic => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// All that `group` has committed.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::all_commits`].
    pub(crate) async fn all_commits(
        &self,
        group: &str,
    ) -> Result<BTreeMap<TopicPartition, i64>, Fault> {
        self.admin.all_commits(group, self.bound()).await
    }

    /// Deletes a group with all that it has committed.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::delete_group`].
    pub(crate) async fn delete_group(&self, group: &str) -> Result<(), Fault> {
        self.admin.delete_group(group, self.bound()).await
    }

    /// Deletes what a group has committed for `partitions`.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::delete_commits`].
    pub(crate) async fn delete_commits(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Result<(), Fault>)>, Fault> {
        self.admin
            .delete_commits(group, partitions, self.bound())
            .await
    }

    /// The directories in which `brokers` keep partitions, by broker; what is in them of `partitions`, or of all.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::log_dirs`].
    pub(crate) async fn log_dirs(
        &self,
        brokers: &[i32],
        partitions: Option<&[TopicPartition]>,
    ) -> Result<BTreeMap<i32, Result<Vec<LogDir>, Fault>>, Fault> {
        self.admin.log_dirs(brokers, partitions, self.bound()).await
    }

    /// Deletes the records of each partition that lie before an offset, and tells where it starts then.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::delete_records`].
    pub(crate) async fn delete_records(
        &self,
        before: &[(TopicPartition, i64)],
    ) -> Result<Vec<(TopicPartition, Result<i64, Fault>)>, Fault> {
        self.admin.delete_records(before, self.bound()).await
    }

    /// The ACLs that fit `filter`, in order.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::acls`].
    pub(crate) async fn acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, Fault> {
        self.admin.acls(filter, self.bound()).await
    }

    /// Makes ACLs, and says of each in its place whether it is made.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::create_acls`].
    pub(crate) async fn create_acls(&self, acls: &[Acl]) -> Result<Vec<Result<(), Fault>>, Fault> {
        self.admin.create_acls(acls, self.bound()).await
    }

    /// Deletes the ACLs that fit `filter`.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::delete_acls`].
    pub(crate) async fn delete_acls(&self, filter: &AclFilter) -> Result<DeletedAcls, Fault> {
        self.admin.delete_acls(filter, self.bound()).await
    }

    /// The quotas of those who have these parts.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::quotas`].
    pub(crate) async fn quotas(
        &self,
        parts: &QuotaEntity,
        is_strict: bool,
    ) -> Result<BTreeMap<QuotaEntity, Quotas>, Fault> {
        self.admin.quotas(parts, is_strict, self.bound()).await
    }

    /// Changes quotas: all of an entity's or none.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::alter_quotas`].
    pub(crate) async fn alter_quotas(
        &self,
        changes: &[(QuotaEntity, QuotaChanges)],
        validate_only: bool,
    ) -> Result<Vec<Result<(), Fault>>, Fault> {
        self.admin
            .alter_quotas(changes, validate_only, self.bound())
            .await
    }

    /// The users who can log in by SCRAM, and how.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::scram_users`].
    pub(crate) async fn scram_users(
        &self,
    ) -> Result<BTreeMap<String, Vec<ScramCredential>>, Fault> {
        self.admin.scram_users(self.bound()).await
    }

    /// How one user can log in by SCRAM.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::scram_user`].
    pub(crate) async fn scram_user(&self, user: &str) -> Result<Vec<ScramCredential>, Fault> {
        self.admin.scram_user(user, self.bound()).await
    }

    /// Gives a user a password for one mechanism.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::set_scram_password`].
    pub(crate) async fn set_scram_password(
        &self,
        user: &str,
        new: NewScramPassword,
    ) -> Result<(), Fault> {
        self.admin.set_scram_password(user, new, self.bound()).await
    }

    /// Takes away a user's password for one mechanism.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::delete_scram_password`].
    pub(crate) async fn delete_scram_password(
        &self,
        user: &str,
        mechanism: ScramMechanism,
    ) -> Result<(), Fault> {
        let bound = self.bound();
        self.admin
            .delete_scram_password(user, mechanism, bound)
            .await
    }
}
