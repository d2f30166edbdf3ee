//! What else the client wants: credit, pause, seek, commit, where it stands.

use super::{Group, Waiting, wire};
use crate::kafka::member::Command;
use crate::record::TopicPartition;
use crate::session::protocol::client::{Commit, Credit, Seek};
use crate::session::protocol::server::{Committed, CommittedOffset, Error, ServerFrame};
use crate::session::protocol::{Id, Partition};
use crate::session::subscription::SessionContext;
use crate::session::subscription::commands::{self, admit, amounts, field, seek_to};

impl Group {
    /// `credit`.
    ///
    /// # Errors
    ///
    /// A field that cannot be.
    pub fn credit(&mut self, credit: &Credit) -> Result<(), Error> {
        if !self.options.common.credit {
            return Err(Error {
                field: Some("sub".to_owned()),
                ..Error::new(
                    "invalid_frame",
                    format!(
                        "credit: subscription {} has flow.mode window: acknowledgements make room there",
                        self.name()
                    ),
                )
            });
        }
        let (records, bytes) = amounts(credit)?;
        self.ledger.credit(records, bytes);
        Ok(())
    }

    /// `pause` and `resume`: all that are paused now.
    ///
    /// # Errors
    ///
    /// A partition that is not assigned.
    pub fn pause(
        &mut self,
        partitions: Option<Vec<Partition>>,
        paused: bool,
    ) -> Result<Vec<Partition>, Error> {
        let partitions: Vec<TopicPartition> = match partitions {
            None => self.ledger.partitions().cloned().collect(),
            Some(named) => named
                .into_iter()
                .map(|p| TopicPartition::new(p.topic, p.partition))
                .collect(),
        };
        if let Some(index) = partitions.iter().position(|p| !self.ledger.has(p)) {
            return Err(not_assigned(
                &format!("partitions[{index}]"),
                &partitions[index],
            ));
        }
        for partition in &partitions {
            self.ledger.pause(partition, paused);
        }
        let all = self.ledger.partitions();
        Ok(all.filter(|p| self.ledger.is_paused(p)).map(wire).collect())
    }

    /// `seek`.
    ///
    /// # Errors
    ///
    /// A field that cannot be.
    pub fn seek(&mut self, seek: Seek, context: &mut SessionContext<'_>) -> Result<(), Error> {
        self.admit_waiting()?;
        let mut positions = Vec::with_capacity(seek.positions.len());
        for (index, at) in seek.positions.into_iter().enumerate() {
            let place = |name: &str| format!("positions[{index}]{name}");
            let to = seek_to(&at, place)?;
            let partition = TopicPartition::new(at.topic, at.partition);
            if !self.ledger.has(&partition) || self.is_going(&partition) {
                return Err(not_assigned(&place(""), &partition));
            }
            if positions.iter().any(|(other, _)| *other == partition) {
                return Err(field(&place(""), "this partition is there twice"));
            }
            positions.push((partition, to));
        }
        let partitions: Vec<_> = positions.iter().map(|(p, _)| p.clone()).collect();
        let under_way = self.waiting.values().any(|waiting| match waiting {
            Waiting::Seek(_, others) => others.iter().any(|other| partitions.contains(other)),
            _ => false,
        });
        if under_way {
            return Err(Error {
                retriable: true,
                ..Error::new(
                    "limit_exceeded",
                    "a seek of one of these partitions is under way; wait for seeked",
                )
            });
        }
        for partition in &partitions {
            self.ledger.seeking(partition, true);
        }
        let token = self.token(Waiting::Seek(seek.id, partitions));
        context.tell(Command::Seek { token, positions });
        Ok(())
    }

    /// `commit`. No seek is under way.
    ///
    /// # Errors
    ///
    /// A field that cannot be.
    pub fn commit(
        &mut self,
        commit: Commit,
        context: &mut SessionContext<'_>,
    ) -> Result<(), Error> {
        self.admit_waiting()?;
        let mut others = Vec::new();
        let offsets = match commit.positions {
            None => {
                let commits = self.ledger.commits_of_all();
                let is_among = |p: &TopicPartition| commits.iter().any(|(of, _)| of == p);
                let all = self.ledger.partitions().filter(|p| !self.is_going(p));
                others.extend(all.filter(|p| !is_among(p)).cloned());
                commits.into_iter().map(|(p, o)| (p, o, None)).collect()
            }
            Some(positions) => {
                let mut offsets = Vec::with_capacity(positions.len());
                for (index, at) in positions.into_iter().enumerate() {
                    let place = |name: &str| format!("positions[{index}]{name}");
                    let partition = TopicPartition::new(at.topic, at.partition);
                    let Some(delivered) = self.ledger.delivered_of(&partition) else {
                        return Err(not_assigned(&place(""), &partition));
                    };
                    if at.offset < 0 || at.offset > delivered {
                        return Err(field(
                            &place(".offset"),
                            format!(
                                "expected the next offset to read, 0 to {delivered} (what has been \
                                 delivered)"
                            ),
                        ));
                    }
                    offsets.push((partition, at.offset, at.metadata));
                }
                // Whoever commits an offset is done with what is before it.
                for (partition, offset, _) in &offsets {
                    self.ledger.ack_through(partition, offset - 1);
                    self.ledger.requested(partition, *offset);
                }
                offsets
            }
        };
        if offsets.is_empty() {
            match self.last_commit() {
                // Kafka does not have it before this is answered.
                Some(last) => self.behind.push((last, commit.id, others)),
                None => context.send(&ServerFrame::Committed(Committed {
                    id: commit.id,
                    sub: Some(self.options.common.sub.clone()),
                    positions: self.have_committed(&others),
                })),
            }
            return Ok(());
        }
        let token = self.token(Waiting::Commit(commit.id, others));
        context.tell(Command::Commit { token, offsets });
        Ok(())
    }

    /// What Kafka has of those of these partitions that are still there.
    pub(super) fn have_committed(&self, partitions: &[TopicPartition]) -> Vec<CommittedOffset> {
        let found = partitions.iter().filter_map(|partition| {
            Some(CommittedOffset {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                offset: self.ledger.committed_of(partition)?,
                error: None,
            })
        });
        found.collect()
    }

    /// `position`.
    ///
    /// # Errors
    ///
    /// Too many requests wait for Kafka.
    pub fn position(
        &mut self,
        id: Option<Id>,
        context: &mut SessionContext<'_>,
    ) -> Result<(), Error> {
        self.admit_waiting()?;
        let token = self.token(Waiting::Position(id));
        context.tell(Command::Ends { token });
        Ok(())
    }

    fn admit_waiting(&self) -> Result<(), Error> {
        let of_client = self
            .waiting
            .values()
            .filter(|w| !matches!(w, Waiting::Interval | Waiting::Revoke | Waiting::Last));
        admit(of_client.count() + self.behind.len())
    }
}

pub(super) fn not_assigned(name: &str, partition: &TopicPartition) -> Error {
    commands::not_assigned(
        name,
        &partition.topic,
        partition.partition,
        "assigned to this session",
    )
}
