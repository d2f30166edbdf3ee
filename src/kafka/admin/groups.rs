//! What consumer groups have committed.

use std::collections::HashMap;
use std::time::Duration;

use krafka::admin::{AlterConsumerGroupOffsetsOptions, ListConsumerGroupOffsetsOptions};

use super::offset_commit::{self, OffsetAndMetadata};
use super::partitions::{take, to_krafka};
use super::{Admin, bounded};
use crate::kafka::fault::{Fault, FaultKind};
use crate::record::TopicPartition;

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The text that was kept with it.
    pub metadata: String,
}

impl Admin {
    /// What `group` has committed for each of `partitions`; `None` is nothing.
    ///
    /// Offsets that a transaction has committed count once it is decided, and are waited for: asked
    /// for otherwise, the broker would answer what was there before, just after the commit too.
    /// krafka's consumer answers the same question, but takes a partition whose offset could not be
    /// read for one without.
    ///
    /// # Errors
    ///
    /// `NotAuthorized`, and whatever kept the group's coordinator from answering.
    pub async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        bound: Duration,
    ) -> Result<HashMap<TopicPartition, Result<Option<i64>, Fault>>, Fault> {
        let found = self.group_commits(group, partitions, bound).await?;
        let offset = |answer: Result<Option<Committed>, Fault>| {
            answer.map(|committed| committed.map(|committed| committed.offset))
        };
        Ok(found
            .into_iter()
            .map(|(partition, answer)| (partition, offset(answer)))
            .collect())
    }

    /// The same with the text that was kept with each.
    ///
    /// # Errors
    ///
    /// As [`Admin::group_offsets`].
    pub async fn group_commits(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        bound: Duration,
    ) -> Result<HashMap<TopicPartition, Result<Option<Committed>, Fault>>, Fault> {
        let options = ListConsumerGroupOffsetsOptions::default()
            .timeout(bound)
            .require_stable(true)
            .partitions(partitions.iter().map(to_krafka).collect());
        let client = &self.link(bound).await?.client;
        let call = client.list_consumer_group_offsets(group, options);
        let mut found = bounded(bound, call).await?;
        Ok(partitions
            .iter()
            .map(|partition| {
                let answer = take(&mut found, partition).map(|known| {
                    Some(Committed {
                        offset: known.offset?,
                        metadata: known.metadata.unwrap_or_default(),
                    })
                });
                (partition.clone(), answer)
            })
            .collect())
    }

    /// Commits for `group`, which must have no members: each offset is that of the next record to
    /// read. Those without a text cost one request; if any has one, `offset_commit` says what all of them
    /// cost.
    ///
    /// # Errors
    ///
    /// Whatever kept the group's coordinator from answering. A partition's own error is
    /// `UNKNOWN_MEMBER_ID` when the group has members.
    pub async fn commit_for_group(
        &self,
        group: &str,
        offsets: &[OffsetAndMetadata],
        bound: Duration,
    ) -> Result<Vec<(TopicPartition, Result<i64, Fault>)>, Fault> {
        let has_text = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if offsets.iter().any(|(.., text)| has_text(text)) {
            return self.commit_noted(group, offsets, bound).await;
        }
        let wanted: Vec<_> = offsets
            .iter()
            .map(|(partition, offset, _)| (to_krafka(partition), *offset))
            .collect();
        let options = AlterConsumerGroupOffsetsOptions::default().timeout(bound);
        let client = &self.link(bound).await?.client;
        let call = client.alter_consumer_group_offsets(group, wanted, options);
        let mut found = bounded(bound, call).await?;
        Ok(offsets
            .iter()
            .map(|(partition, offset, _)| {
                let answer = take(&mut found, partition).map(|()| *offset);
                (partition.clone(), answer)
            })
            .collect())
    }

    async fn commit_noted(
        &self,
        group: &str,
        offsets: &[OffsetAndMetadata],
        bound: Duration,
    ) -> Result<Vec<(TopicPartition, Result<i64, Fault>)>, Fault> {
        let room = &self.inner.noting;
        match offset_commit::commit(self.clients()?, room, group, offsets, bound).await {
            Ok(done) => {
                let done = done.into_iter();
                Ok(done
                    .map(|(partition, offset)| (partition, Ok(offset)))
                    .collect())
            }
            // librdkafka does not tell why it finds no coordinator; krafka is told the same and does.
            Err(fault) if fault.kind == FaultKind::Unavailable => {
                let partitions: Vec<_> = offsets.iter().map(|(p, ..)| p.clone()).collect();
                self.group_commits(group, &partitions, bound).await?;
                Err(fault)
            }
            Err(fault) => Err(fault),
        }
    }
}
