//! Commits, by the client or by time, and what is committed.

use std::sync::Arc;

use super::{Has, Instance, InstanceError, Offset, Source};
use crate::kafka::admin::Committed;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::Command;
use crate::record::TopicPartition;

impl Instance {
    /// Commits these offsets, or what was delivered to the client: neither more nor less. What was
    /// delivered of partitions that have moved on is not this instance's to commit, and the client hears
    /// of it.
    pub(super) async fn commit(
        &mut self,
        offsets: Option<Vec<Offset>>,
        has: Option<Has>,
    ) -> Result<(), InstanceError> {
        let mut failed = Vec::new();
        let offsets: Vec<Offset> = match offsets {
            Some(offsets) => {
                if let Some(has) = &has {
                    self.acknowledge(has)?;
                }
                for (partition, ..) in &offsets {
                    self.buffer.is_told(partition);
                }
                offsets
            }
            None => {
                match &has {
                    Some(has) => {
                        self.acknowledge(has)?;
                    }
                    None => {
                        self.must_name()?;
                        self.settle_unnamed().await?;
                        self.buffer.came_back();
                    }
                }
                let moved = self.buffer.moved_on().into_iter();
                failed.extend(moved.map(|partition| (partition, moved_on())));
                let delivered = self.buffer.delivered().into_iter();
                delivered
                    .map(|(partition, offset)| (partition, offset, None))
                    .collect()
            }
        };
        if !offsets.is_empty() {
            self.commit_these(offsets, &mut failed).await?;
        }
        if failed.is_empty() {
            return Ok(());
        }
        failed.sort_by(|(a, _), (b, _)| a.cmp(b));
        Err(InstanceError::NotCommitted(failed))
    }

    async fn commit_these(
        &mut self,
        offsets: Vec<Offset>,
        failed: &mut Vec<(TopicPartition, Fault)>,
    ) -> Result<(), InstanceError> {
        let results = match &self.source {
            Source::Subscribed(_) => {
                self.joined().await;
                self.asked("committing", |token| Command::Commit { token, offsets })
                    .await?
            }
            Source::Nowhere | Source::Assigned => {
                let cluster = Arc::clone(&self.cluster);
                let options = Arc::clone(&self.options);
                let done = cluster.commit_for_group(&options.group, &offsets).await;
                done.map_err(|fault| self.not_committed(fault))?
            }
        };
        for (partition, result) in results {
            match result {
                Ok(offset) => self.buffer.committed(&partition, offset),
                Err(fault) if self.is_of_members(&fault) => return Err(self.not_committed(fault)),
                Err(fault) => failed.push((partition, fault)),
            }
        }
        Ok(())
    }

    /// Whether it is the group's members that keep an instance with partitions chosen by hand from
    /// committing.
    fn is_of_members(&self, fault: &Fault) -> bool {
        let is_alone = !matches!(self.source, Source::Subscribed(_));
        is_alone && fault.kafka_error == Some("UNKNOWN_MEMBER_ID")
    }

    fn not_committed(&self, fault: Fault) -> InstanceError {
        if self.is_of_members(&fault) {
            return InstanceError::IllegalState(format!(
                "group {} has members, so that nobody else may commit for it; subscribe to the \
                 topics, or use another group",
                self.options.group
            ));
        }
        fault.into()
    }

    /// Commits what the client has handled, if the instance commits by itself.
    pub(super) async fn commit_handled(&mut self) {
        if !self.options.auto_commit {
            return;
        }
        let offsets = self.buffer.handled();
        match &self.source {
            Source::Nowhere => {}
            Source::Subscribed(_) => self.commit_unwatched(offsets),
            Source::Assigned => self.commit_alone(offsets).await,
        }
    }

    /// Commits for partitions that were assigned by hand, as far as that is possible.
    pub(super) async fn commit_alone(&mut self, mut offsets: Vec<(TopicPartition, i64)>) {
        offsets.retain(|(_, offset)| *offset >= 0);
        let offsets: Vec<Offset> = offsets.into_iter().map(|(p, o)| (p, o, None)).collect();
        if offsets.is_empty() {
            return;
        }
        let done = self
            .cluster
            .commit_for_group(&self.options.group, &offsets)
            .await;
        let results = done.unwrap_or_else(|fault| {
            let failed = offsets.into_iter();
            failed.map(|(p, ..)| (p, Err(fault.clone()))).collect()
        });
        for (partition, result) in results {
            match result {
                Ok(offset) => self.buffer.committed(&partition, offset),
                Err(fault) => {
                    tracing::debug!(group = self.options.group, "a commit failed: {fault}");
                }
            }
        }
    }

    /// Commits where partitions begin that were assigned by hand, if the instance commits by itself. Where
    /// that cannot be, as the group has members, they begin all the same.
    ///
    /// # Errors
    ///
    /// What another try may do better.
    pub(super) async fn commit_starts(
        &mut self,
        starts: &[(TopicPartition, i64)],
    ) -> Result<(), InstanceError> {
        if !self.options.auto_commit || starts.is_empty() {
            return Ok(());
        }
        let offsets: Vec<Offset> = starts.iter().map(|(p, o)| (p.clone(), *o, None)).collect();
        let cluster = Arc::clone(&self.cluster);
        let done = cluster
            .commit_for_group(&self.options.group, &offsets)
            .await;
        let results = match done {
            Ok(results) => results.into_iter().map(|(_, result)| result).collect(),
            Err(fault) => vec![Err(fault)],
        };
        for result in results {
            match result {
                Ok(_) => {}
                Err(fault) if fault.retriable => return Err(fault.into()),
                Err(fault) => {
                    tracing::debug!(group = self.options.group, "a commit failed: {fault}");
                }
            }
        }
        Ok(())
    }

    /// What the group has committed for these.
    pub(super) async fn committed(
        &mut self,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, Committed)>, InstanceError> {
        let cluster = Arc::clone(&self.cluster);
        let options = Arc::clone(&self.options);
        let asked = cluster.group_commits(&options.group, &partitions);
        let mut found = self.beside(asked).await?;
        let mut committed = Vec::with_capacity(partitions.len());
        for partition in partitions {
            if let Some(known) = found.remove(&partition)
                && let Some(known) = known?
            {
                committed.push((partition, known));
            }
        }
        Ok(committed)
    }
}

/// Why what was delivered of a partition is not committed.
fn moved_on() -> Fault {
    Fault::new(
        FaultKind::NotFound,
        "the partition has moved on since its records were delivered: they come again to the member \
         that has it now",
    )
}
