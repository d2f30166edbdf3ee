//! Consumer groups as an administrator sees them: which there are, their members, what they have committed, and
//! how they and their commits are deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use krafka::admin::{
    ConsumerGroupDescription, DeleteConsumerGroupOffsetsOptions, DeleteConsumerGroupsOptions,
    DescribeConsumerGroupsOptions, GroupType, ListConsumerGroupOffsetsOptions,
    ListConsumerGroupsOptions, ListOffsetsOptions, OffsetSpec,
};
use tokio::time::Instant;

use super::partitions::{from_krafka, take, to_krafka};
use super::{Admin, bounded};
use crate::kafka::fault::{Fault, FaultKind};
use crate::record::TopicPartition;

/// How many groups one call describes.
const GROUPS_AT_ONCE: usize = 500;

/// Which protocol the members of a group speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupProtocol {
    /// The one of Kafka before 4.0, whose members join and sync.
    Classic,
    /// KIP-848.
    Consumer,
    /// KIP-932: records are shared, not partitions.
    Share,
    /// KIP-1071.
    Streams,
    /// One that is newer than this gateway.
    Other,
}

impl GroupProtocol {
    fn of(kind: &GroupType) -> Self {
        match kind {
            GroupType::Classic => Self::Classic,
            GroupType::Consumer => Self::Consumer,
            GroupType::Unknown(name) => match &**name {
                "share" => Self::Share,
                "streams" => Self::Streams,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }

    /// The words of [`GroupProtocol::of_name`].
    pub(crate) const WORDS: &str = "classic, consumer, share or streams";

    /// The one of this name, in whatever case.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let mut all = [Self::Classic, Self::Consumer, Self::Share, Self::Streams].into_iter();
        all.find(|one| one.name().eq_ignore_ascii_case(name))
    }

    /// Its name as Kafka's clients have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Classic => "CLASSIC",
            Self::Consumer => "CONSUMER",
            Self::Share => "SHARE",
            Self::Streams => "STREAMS",
            Self::Other => "UNKNOWN",
        }
    }
}

/// A group that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedGroup {
    /// Its id.
    pub(crate) id: Arc<str>,
    /// The broker that coordinates it.
    pub(crate) coordinator: i32,
    /// What its members use it for: `consumer`, or another word where it is no group of consumers; empty where
    /// nobody was ever a member.
    pub(crate) protocol_type: String,
    /// Its state in Kafka's words; `None` before Kafka 2.6.
    pub(crate) state: Option<String>,
    /// Which protocol its members speak; `None` before Kafka 3.8.
    pub(crate) protocol: Option<GroupProtocol>,
}

impl ListedGroup {
    /// Whether it is a group of consumers, as Kafka's own tools see it.
    pub(crate) fn is_of_consumers(&self) -> bool {
        match self.protocol {
            Some(GroupProtocol::Consumer) => true,
            Some(GroupProtocol::Classic) | None => {
                matches!(&*self.protocol_type, "" | "consumer")
            }
            Some(GroupProtocol::Share | GroupProtocol::Streams | GroupProtocol::Other) => false,
        }
    }
}

/// A group and its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DescribedGroup {
    /// Its id.
    pub(crate) id: Arc<str>,
    /// Which protocol its members speak.
    pub(crate) protocol: GroupProtocol,
    /// What its members use it for.
    pub(crate) protocol_type: String,
    /// Its state in Kafka's words, such as `Stable`.
    pub(crate) state: String,
    /// How partitions are divided; empty where that is not decided.
    pub(crate) assignor: String,
    /// Its members, by id.
    pub(crate) members: Vec<Member>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its id.
    pub(crate) id: String,
    /// The name that it keeps over restarts (KIP-345), if it has one.
    pub(crate) instance_id: Option<String>,
    /// What its client calls itself.
    pub(crate) client_id: String,
    /// Where it connects from.
    pub(crate) host: String,
    /// Whether it speaks the older protocol in a group of the newer one.
    pub(crate) is_classic: bool,
    /// What it is to read, by topic and partition.
    pub(crate) partitions: Vec<TopicPartition>,
}

impl DescribedGroup {
    /// Whether there is such a group: of one that there is not Kafka says that it is dead.
    fn is_there(&self) -> bool {
        self.state != "Dead" || !self.members.is_empty()
    }

    /// Whether somebody may commit for it by being a member.
    pub(crate) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }
}

impl From<ConsumerGroupDescription> for DescribedGroup {
    fn from(group: ConsumerGroupDescription) -> Self {
        let mut members: Vec<Member> = group
            .members
            .into_iter()
            .map(|member| {
                let mut partitions = Vec::new();
                for topic in member.assignment.unwrap_or_default() {
                    let name: Arc<str> = Arc::from(topic.topic_name);
                    let of_topic = topic.partitions.into_iter();
                    let of_topic = of_topic.map(|id| TopicPartition::new(Arc::clone(&name), id));
                    partitions.extend(of_topic);
                }
                partitions.sort_unstable();
                Member {
                    id: member.member_id,
                    instance_id: member.instance_id,
                    client_id: member.client_id,
                    host: member.client_host.trim_start_matches('/').to_owned(),
                    is_classic: member.member_type == Some(0),
                    partitions,
                }
            })
            .collect();
        members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Self {
            id: Arc::from(group.group_id),
            protocol: GroupProtocol::of(&group.group_type),
            protocol_type: group.protocol_type.unwrap_or_else(|| "consumer".to_owned()),
            state: group.state,
            assignor: group.assignor.unwrap_or_default(),
            members,
        }
    }
}

/// How far a group is behind in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionLag {
    /// Which partition.
    pub(crate) partition: TopicPartition,
    /// The offset of the next record that the group reads.
    pub(crate) committed: i64,
    /// The offset behind the last record that it may read now.
    pub(crate) end: i64,
    /// What the group's coordinator says itself: of a share group, which may be done with later records than with
    /// earlier ones.
    pub(crate) told: Option<i64>,
}

impl PartitionLag {
    /// Records between the two; 0 where the log ends before what was committed.
    pub(crate) fn lag(&self) -> i64 {
        self.told.unwrap_or((self.end - self.committed).max(0))
    }
}

impl Admin {
    /// The groups that there are, by id: every broker is asked for those that it coordinates.
    ///
    /// # Errors
    ///
    /// What kept the first broker from answering that did not: its groups would be missing.
    pub(crate) async fn groups(&self, bound: Duration) -> Result<Vec<ListedGroup>, Fault> {
        let options = ListConsumerGroupsOptions::default().timeout(bound);
        let client = &self.link(bound).await?.client;
        let listed = bounded(bound, client.list_consumer_groups(options)).await?;
        let mut groups = Vec::new();
        for (coordinator, listed) in listed {
            groups.extend(listed?.into_iter().map(|group| ListedGroup {
                id: Arc::from(group.group_id),
                coordinator,
                protocol_type: group.protocol_type,
                state: group.state,
                protocol: group.group_type.as_ref().map(GroupProtocol::of),
            }));
        }
        groups.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        // One whose coordinator moves at this moment may be listed by two.
        groups.dedup_by(|a, b| a.id == b.id);
        Ok(groups)
    }

    /// Describes each of `groups`, at its coordinator.
    ///
    /// # Errors
    ///
    /// What kept the brokers from answering. `NotFound` for a group that there is not, and what is wrong with
    /// one, is in its place.
    pub(crate) async fn describe_groups(
        &self,
        groups: &[Arc<str>],
        bound: Duration,
    ) -> Result<Vec<(Arc<str>, Result<DescribedGroup, Fault>)>, Fault> {
        let until = Instant::now() + bound;
        let client = &self.link(bound).await?.client;
        let mut all = Vec::with_capacity(groups.len());
        for groups in groups.chunks(GROUPS_AT_ONCE) {
            let left = until.saturating_duration_since(Instant::now());
            let options = DescribeConsumerGroupsOptions::default().timeout(left);
            let call = client.describe_consumer_groups(groups, options);
            let mut described = bounded(left, call).await?;
            all.extend(groups.iter().map(|id| {
                let described = match described.remove(&**id) {
                    Some(Ok(described)) => Ok(DescribedGroup::from(described)),
                    Some(Err(error)) => Err(about_group(id, &error.into())),
                    None => Err(no_such_group(id)),
                };
                let there = described.and_then(|group| match group.is_there() {
                    true => Ok(group),
                    false => Err(no_such_group(id)),
                });
                (Arc::clone(id), there)
            }));
        }
        Ok(all)
    }

    /// How far a group that has committed these is behind: of what is committed there, as a reader of transactions
    /// sees it. Each leader is asked once. krafka looks for a partition that is not there until its time is over, so
    /// that none is to be among them.
    ///
    /// # Errors
    ///
    /// What kept a leader from answering.
    pub(crate) async fn lags(
        &self,
        committed: Vec<(TopicPartition, i64)>,
        bound: Duration,
    ) -> Result<Vec<PartitionLag>, Fault> {
        let ends = committed
            .iter()
            .map(|(partition, _)| (to_krafka(partition), OffsetSpec::Latest));
        let options = ListOffsetsOptions::default()
            .timeout(bound)
            .read_committed(true);
        let client = &self.link(bound).await?.client;
        let mut ends = bounded(bound, client.list_offsets(ends, options)).await?;
        let mut lags = Vec::with_capacity(committed.len());
        for (partition, committed) in committed {
            match take(&mut ends, &partition) {
                Ok(end) => lags.push(PartitionLag {
                    partition,
                    committed,
                    end: end.offset,
                    told: None,
                }),
                // Its topic was deleted a moment ago.
                Err(fault)
                    if matches!(
                        fault.kind,
                        FaultKind::UnknownTopic | FaultKind::UnknownPartition
                    ) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(lags)
    }

    /// All that `group` has committed. What a transaction commits is waited for until it is
    /// decided.
    ///
    /// # Errors
    ///
    /// What kept its coordinator from answering.
    pub(crate) async fn all_commits(
        &self,
        group: &str,
        bound: Duration,
    ) -> Result<BTreeMap<TopicPartition, i64>, Fault> {
        let options = ListConsumerGroupOffsetsOptions::default()
            .timeout(bound)
            .require_stable(true);
        let client = &self.link(bound).await?.client;
        let call = client.list_consumer_group_offsets(group, options);
        let found = bounded(bound, call).await?;
        let mut commits = BTreeMap::new();
        for (partition, committed) in found {
            if let Some(offset) = committed?.offset {
                commits.insert(from_krafka(&partition), offset);
            }
        }
        Ok(commits)
    }

    /// Deletes a group with all that it has committed.
    ///
    /// # Errors
    ///
    /// `NotFound`; `NON_EMPTY_GROUP` while it has members; `NotAuthorized`, and what kept its coordinator from
    /// answering.
    pub(crate) async fn delete_group(&self, group: &str, bound: Duration) -> Result<(), Fault> {
        let options = DeleteConsumerGroupsOptions::default().timeout(bound);
        let client = &self.link(bound).await?.client;
        let call = client.delete_consumer_groups([group], options);
        match bounded(bound, call).await?.remove(group) {
            Some(deleted) => deleted.map_err(|error| about_group(group, &error.into())),
            None => Err(no_such_group(group)),
        }
    }

    /// Deletes what a group has committed for `partitions`.
    ///
    /// # Errors
    ///
    /// What kept its coordinator from answering. What is wrong with one partition is in its place:
    /// `GROUP_SUBSCRIBED_TO_TOPIC` while a member reads its topic.
    pub(crate) async fn delete_commits(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        bound: Duration,
    ) -> Result<Vec<(TopicPartition, Result<(), Fault>)>, Fault> {
        let options = DeleteConsumerGroupOffsetsOptions::default().timeout(bound);
        let client = &self.link(bound).await?.client;
        let asked = partitions.iter().map(to_krafka);
        let call = client.delete_consumer_group_offsets(group, asked, options);
        let mut deleted = bounded(bound, call).await?;
        Ok(partitions
            .iter()
            .map(|partition| (partition.clone(), take(&mut deleted, partition)))
            .collect())
    }
}

pub(super) fn no_such_group(group: &str) -> Fault {
    Fault {
        kafka_error: Some("GROUP_ID_NOT_FOUND"),
        ..Fault::new(
            FaultKind::NotFound,
            format!("Group {group} does not exist: it has no members and has committed nothing."),
        )
    }
}

/// A fault about `group`, which the broker's own words leave out.
pub(super) fn about_group(group: &str, fault: &Fault) -> Fault {
    if fault.kafka_error == Some("GROUP_ID_NOT_FOUND") {
        return no_such_group(group);
    }
    Fault {
        message: format!("Group {group}: {}", fault.message),
        ..fault.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(protocol: Option<GroupProtocol>, protocol_type: &str) -> ListedGroup {
        ListedGroup {
            id: Arc::from("g"),
            coordinator: 1,
            protocol_type: protocol_type.to_owned(),
            state: None,
            protocol,
        }
    }

    #[test]
    fn groups_of_consumers_are_told_from_others() {
        use GroupProtocol::{Classic, Consumer, Share, Streams};
        for (protocol, protocol_type, expected) in [
            (Some(Consumer), "consumer", true),
            (Some(Classic), "consumer", true),
            // Offsets that were committed by hand.
            (Some(Classic), "", true),
            (None, "consumer", true),
            (Some(Classic), "connect", false),
            (Some(Share), "share", false),
            (Some(Streams), "streams", false),
        ] {
            let group = listed(protocol, protocol_type);
            assert_eq!(group.is_of_consumers(), expected, "{group:?}");
        }
    }

    #[test]
    fn a_log_that_ends_before_the_commit_has_no_lag() {
        let lag = |committed, end| {
            let partition = TopicPartition::new("t", 0);
            PartitionLag {
                partition,
                committed,
                end,
                told: None,
            }
            .lag()
        };
        assert_eq!(lag(3, 10), 7);
        assert_eq!(lag(10, 3), 0);
    }
}
