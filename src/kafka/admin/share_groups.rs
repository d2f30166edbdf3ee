//! Share groups (KIP-932): their members, and where they start in each partition.
//!
//! krafka has calls for the offsets and none that describes a share group: that request is made here, by its messages.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use krafka::__private::protocol::{
    ApiKey, FindCoordinatorRequest, FindCoordinatorResponse, ShareGroupDescribeRequest,
    ShareGroupDescribeResponse, ShareGroupDescription,
};
use krafka::admin::{
    AlterShareGroupOffsetsOptions, DeleteShareGroupOffsetsOptions, DescribeShareGroupOffsetsOptions,
};
use tokio::time::{Instant, sleep};

use super::consumer_groups::{DescribedGroup, GroupProtocol, Member, about_group, no_such_group};
use super::partitions::{from_krafka, take, to_krafka};
use super::request::{self, Question};
use super::{Admin, Link, bounded};
use crate::kafka::fault::{Fault, FaultKind};
use crate::record::TopicPartition;

/// How many groups one request describes.
const GROUPS_AT_ONCE: usize = 500;
/// Before a coordinator that is just coming is asked again.
const PAUSE: Duration = Duration::from_millis(100);
/// What older brokers lack.
const MISSING: &str = "share groups (KIP-932): they came with Kafka 4.1, where share.version switches them on, and are \
                       on from 4.2 on";

/// Where a share group is in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShareOffset {
    /// The first record that the group may still deliver; `None` until a member has acknowledged something: Kafka keeps
    /// none before.
    pub(crate) start: Option<i64>,
    /// How many records it has yet to deliver; `None` where the broker does not tell (before Kafka 4.3).
    pub(crate) lag: Option<i64>,
}

/// A share group that is to be described.
#[derive(Debug, Clone)]
pub(crate) struct ShareGroupAt {
    pub(crate) id: Arc<str>,
    /// The broker that coordinates it, where that is known.
    pub(crate) coordinator: Option<i32>,
}

/// What a coordinator says of each group.
type Described = Vec<(Arc<str>, Result<DescribedGroup, Fault>)>;

impl From<ShareGroupDescription> for DescribedGroup {
    fn from(group: ShareGroupDescription) -> Self {
        let members = group.members.into_iter().map(|member| {
            let mut partitions = Vec::new();
            for topic in member.assignment {
                let name: Arc<str> = Arc::from(topic.topic_name);
                let ids = topic.partitions.into_iter();
                partitions.extend(ids.map(|id| TopicPartition::new(Arc::clone(&name), id)));
            }
            partitions.sort_unstable();
            Member {
                id: member.member_id,
                instance_id: None,
                client_id: member.client_id,
                host: member.client_host.trim_start_matches('/').to_owned(),
                is_classic: false,
                partitions,
            }
        });
        let mut members: Vec<Member> = members.collect();
        members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Self {
            id: Arc::from(group.group_id),
            protocol: GroupProtocol::Share,
            protocol_type: "share".to_owned(),
            state: group.group_state,
            assignor: group.assignor_name,
            members,
        }
    }
}

impl Admin {
    /// Whether the brokers have share groups: a list of groups does not tell.
    ///
    /// # Errors
    ///
    /// `Unsupported` where they have none, and what kept a broker from answering.
    pub(crate) async fn need_share_groups(&self, bound: Duration) -> Result<(), Fault> {
        let link = self.link(bound).await?;
        let asking = async {
            let broker = request::brokers(link).await?.first().copied();
            let broker = broker.ok_or_else(request::no_brokers)?;
            let connection = request::connection(link, broker).await?;
            let version = connection.negotiate_api_version(ApiKey::ShareGroupDescribe, 1, 1);
            version
                .map(|_| ())
                .ok_or_else(|| request::unsupported(MISSING))
        };
        bounded(bound, asking).await
    }

    /// Describes each of `groups`, at its coordinator, with the broker that this is.
    ///
    /// # Errors
    ///
    /// What kept the brokers from answering; `Unsupported`. `NotFound` for a group that there is not, or that is no
    /// share group, and what is wrong with one, is in its place.
    pub(crate) async fn describe_share_groups(
        &self,
        groups: &[ShareGroupAt],
        bound: Duration,
    ) -> Result<Vec<(i32, Result<DescribedGroup, Fault>)>, Fault> {
        let link = self.link(bound).await?;
        let until = Instant::now() + bound;
        let describing = async {
            let mut at: HashMap<Arc<str>, i32> = HashMap::new();
            let mut found: HashMap<Arc<str>, Result<DescribedGroup, Fault>> = HashMap::new();
            for group in groups {
                if let Some(coordinator) = group.coordinator {
                    at.insert(Arc::clone(&group.id), coordinator);
                }
            }
            let mut asked: Vec<Arc<str>> =
                groups.iter().map(|group| Arc::clone(&group.id)).collect();
            asked.sort_unstable();
            asked.dedup();
            loop {
                let mut by_broker: BTreeMap<i32, Vec<Arc<str>>> = BTreeMap::new();
                for id in &asked {
                    let coordinator = match at.get(id) {
                        Some(coordinator) => *coordinator,
                        None => coordinator_of(link, id, until).await?,
                    };
                    at.insert(Arc::clone(id), coordinator);
                    by_broker
                        .entry(coordinator)
                        .or_default()
                        .push(Arc::clone(id));
                }
                let answers = by_broker
                    .iter()
                    .map(|(broker, ids)| describe_at(link, *broker, ids));
                asked.clear();
                for answer in join_all(answers).await {
                    for (id, answer) in answer? {
                        // Its coordinator is another one, or is just coming.
                        if matches!(&answer, Err(fault) if fault.retriable)
                            && Instant::now() + PAUSE < until
                        {
                            at.remove(&id);
                            asked.push(id);
                        } else {
                            found.insert(id, answer);
                        }
                    }
                }
                if asked.is_empty() {
                    break;
                }
                sleep(PAUSE).await;
            }
            Ok::<_, Fault>(
                groups
                    .iter()
                    .map(|group| {
                        let coordinator = at.get(&group.id).copied().unwrap_or(-1);
                        let answer = found.get(&group.id).cloned();
                        (
                            coordinator,
                            answer.unwrap_or_else(|| Err(no_such_group(&group.id))),
                        )
                    })
                    .collect(),
            )
        };
        bounded(bound, describing).await
    }

    /// Where a share group is in each partition that it reads or has read.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Unsupported`, and what kept its coordinator from answering, of one partition too.
    pub(crate) async fn share_offsets(
        &self,
        group: &str,
        bound: Duration,
    ) -> Result<BTreeMap<TopicPartition, ShareOffset>, Fault> {
        let options = DescribeShareGroupOffsetsOptions::default().timeout(bound);
        let client = &self.link(bound).await?.client;
        let call = client.describe_share_group_offsets(group, options);
        let found = bounded(bound, call).await;
        let found = found.map_err(|fault| about_share_group(group, fault))?;
        let mut offsets = BTreeMap::new();
        for (partition, found) in found {
            match found.map_err(Fault::from) {
                Ok(found) => {
                    let offset = ShareOffset {
                        start: (found.start_offset >= 0).then_some(found.start_offset),
                        lag: found.lag,
                    };
                    offsets.insert(from_krafka(&partition), offset);
                }
                // Its topic was deleted.
                Err(fault)
                    if matches!(
                        fault.kind,
                        FaultKind::UnknownTopic | FaultKind::UnknownPartition
                    ) => {}
                Err(fault) => return Err(about_share_group(group, fault)),
            }
        }
        Ok(offsets)
    }

    /// Sets where a share group without members starts in each partition.
    ///
    /// # Errors
    ///
    /// What kept its coordinator from answering; `Unsupported`. What is wrong with one partition is in its place:
    /// `NON_EMPTY_GROUP` in all of them while the group has members.
    pub(crate) async fn alter_share_offsets(
        &self,
        group: &str,
        offsets: &[(TopicPartition, i64)],
        bound: Duration,
    ) -> Result<Vec<(TopicPartition, Result<(), Fault>)>, Fault> {
        let wanted = offsets.iter();
        let wanted = wanted.map(|(partition, offset)| (to_krafka(partition), *offset));
        let options = AlterShareGroupOffsetsOptions::default().timeout(bound);
        let client = &self.link(bound).await?.client;
        let call = client.alter_share_group_offsets(group, wanted, options);
        let mut done = bounded(bound, call).await?;
        let answer = |(partition, _): &(TopicPartition, i64)| {
            let answer = take(&mut done, partition);
            let answer = answer.map_err(|fault| about_share_group(group, fault));
            (partition.clone(), answer)
        };
        Ok(offsets.iter().map(answer).collect())
    }

    /// Forgets where a share group without members starts, in all partitions of a topic.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NON_EMPTY_GROUP`, `Unsupported`, and what kept its coordinator from answering.
    pub(crate) async fn delete_share_offsets(
        &self,
        group: &str,
        topic: &str,
        bound: Duration,
    ) -> Result<(), Fault> {
        let options = DeleteShareGroupOffsetsOptions::default().timeout(bound);
        let client = &self.link(bound).await?.client;
        let call = client.delete_share_group_offsets(group, [topic], options);
        match bounded(bound, call).await?.remove(topic) {
            Some(deleted) => deleted.map_err(|error| about_share_group(group, Fault::from(error))),
            None => Err(super::no_answer(topic)),
        }
    }
}

/// What one coordinator says of its groups.
async fn describe_at(link: &Link, broker: i32, ids: &[Arc<str>]) -> Result<Described, Fault> {
    let connection = request::connection(link, broker).await?;
    let mut all = Vec::with_capacity(ids.len());
    for ids in ids.chunks(GROUPS_AT_ONCE) {
        let question = Question {
            key: ApiKey::ShareGroupDescribe,
            versions: 1..=1,
            request: ShareGroupDescribeRequest {
                group_ids: ids.iter().map(ToString::to_string).collect(),
                include_authorized_operations: false,
            },
            missing: MISSING,
        };
        let answer: ShareGroupDescribeResponse = request::ask(&connection, &question).await?;
        connection.notify_throttle(answer.throttle_time_ms);
        for group in answer.groups {
            let id: Arc<str> = Arc::from(&*group.group_id);
            let described = match request::wrong(group.error_code, group.error_message.as_deref()) {
                Some(fault) => Err(about_share_group(&id, fault)),
                None if group.group_state == "Dead" && group.members.is_empty() => {
                    Err(no_such_group(&id))
                }
                None => Ok(DescribedGroup::from(group)),
            };
            // Where the brokers have none, one group is as good as all.
            if let Err(fault) = &described
                && fault.kind == FaultKind::Unsupported
            {
                return Err(fault.clone());
            }
            all.push((id, described));
        }
    }
    Ok(all)
}

/// The broker that coordinates a group: any broker says it.
async fn coordinator_of(link: &Link, group: &str, until: Instant) -> Result<i32, Fault> {
    let question = Question {
        key: ApiKey::FindCoordinator,
        versions: 1..=6,
        request: FindCoordinatorRequest::for_group(group),
        missing: "a search for the coordinator of a group",
    };
    let mut last = request::no_brokers();
    loop {
        for broker in request::brokers(link).await? {
            let answer = async {
                let connection = request::connection(link, broker).await?;
                request::ask::<_, FindCoordinatorResponse>(&connection, &question).await
            };
            match answer.await {
                Ok(answer) => {
                    match request::wrong(answer.error_code, answer.error_message.as_deref()) {
                        None => return Ok(answer.node_id),
                        Some(fault) => last = about_group(group, &fault),
                    }
                }
                Err(fault) => last = fault,
            }
            if !last.retriable {
                return Err(last);
            }
        }
        if Instant::now() + PAUSE >= until {
            return Err(last);
        }
        sleep(PAUSE).await;
    }
}

/// A fault about a share group, which the broker's own words leave out.
fn about_share_group(group: &str, fault: Fault) -> Fault {
    about_group(group, &request::naming(MISSING, fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_older_brokers_lack_is_named() {
        let fault = about_share_group("g", Fault::from_protocol_code(35, None));
        assert_eq!(fault.kind, FaultKind::Unsupported);
        assert!(fault.message.contains("share groups (KIP-932)"), "{fault}");
        let gone = about_share_group("g", Fault::from_protocol_code(69, None));
        assert_eq!(gone.kind, FaultKind::NotFound);
    }
}
