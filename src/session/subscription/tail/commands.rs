//! What a client wants of a tail: credit, pause, seek, where it stands.

use std::sync::Arc;

use super::{Flow, Item, Tail, at, open_tail, put};
use crate::kafka::Watermarks;
use crate::kafka::fault::Fault;
use crate::kafka::member::SeekTo;
use crate::position::Offsets;
use crate::session::effect::{Effect, TailEffect};
use crate::session::protocol::client::{Credit, Seek};
use crate::session::protocol::server::{
    CommittedOffset, Error, PartitionPosition, Positions, Seeked, ServerFrame,
};
use crate::session::protocol::{Id, Partition};
use crate::session::subscription::SessionContext;
use crate::session::subscription::commands::{admit, amounts, field, not_assigned, seek_to};

impl Tail {
    /// `credit`.
    ///
    /// # Errors
    ///
    /// A field that cannot be.
    pub fn credit(&mut self, credit: &Credit) -> Result<(), Error> {
        let Flow::Credit { records, bytes } = &mut self.flow else {
            return Err(field(
                "sub",
                "this subscription has flow.mode window: what the connection takes makes room there",
            ));
        };
        let (more, more_bytes) = amounts(credit)?;
        *records = records.saturating_add(more);
        if let Some(more) = more_bytes {
            *bytes = Some(bytes.unwrap_or(0).saturating_add(more));
        }
        Ok(())
    }

    /// `pause` and `resume`: all that are paused now.
    ///
    /// # Errors
    ///
    /// A partition that is not followed.
    pub fn pause(
        &mut self,
        partitions: Option<Vec<Partition>>,
        paused: bool,
        context: &mut SessionContext<'_>,
    ) -> Result<Vec<Partition>, Error> {
        let mut lost = false;
        let mut named: Vec<Vec<i32>> = vec![Vec::new(); self.parts.len()];
        match partitions {
            None => {
                for (part, named) in self.parts.iter().zip(&mut named) {
                    named.extend(part.sent.iter().map(|(partition, _)| *partition));
                }
            }
            Some(partitions) => {
                for (nth, wanted) in partitions.iter().enumerate() {
                    let place = format!("partitions[{nth}]");
                    let index = self.find(&wanted.topic, wanted.partition, &place)?;
                    if let Some(named) = named.get_mut(index) {
                        named.push(wanted.partition);
                    }
                }
            }
        }
        for (index, mut named) in named.into_iter().enumerate() {
            if named.is_empty() {
                continue;
            }
            named.sort_unstable();
            named.dedup();
            // What waits of them is read again when it is wanted again.
            let rewound = if paused {
                self.drop_queued(index, &named, &mut lost)
            } else {
                Offsets::new()
            };
            let Some(part) = self.parts.get_mut(index) else {
                continue;
            };
            part.paused.retain(|partition| !named.contains(partition));
            if paused {
                part.paused.extend(named);
                part.paused.sort_unstable();
                part.paused.dedup();
            }
            context.effects.push(Effect::Tail(
                self.id,
                TailEffect::Hold {
                    index,
                    held: part.paused.clone(),
                    rewound,
                },
            ));
        }
        if lost {
            self.rewind(context);
        }
        self.arrive(context);
        let all = self.parts.iter().flat_map(|part| {
            part.paused.iter().map(|partition| Partition {
                topic: part.topic.to_string(),
                partition: *partition,
            })
        });
        Ok(all.collect())
    }

    /// Drops what waits of these partitions; where each of them that had something goes on. `lost` is
    /// set when with it what it took the place of in others is lost.
    pub(super) fn drop_queued(
        &mut self,
        index: usize,
        partitions: &[i32],
        lost: &mut bool,
    ) -> Offsets {
        let mut dropped: Vec<i32> = Vec::new();
        if let Some(latest) = &mut self.latest {
            dropped = latest.drop_of(index, partitions);
            self.is_due = false;
            *lost |= !dropped.is_empty() && latest.is_of_all();
        }
        let (mut records, mut bytes) = (0, 0);
        self.queue.retain(|item| {
            let (of, partition) = match item {
                Item::Record(of, entry) => (*of, entry.record().partition),
                Item::Gap(of, gap) => (*of, gap.partition),
                Item::Ended(..) => return true,
            };
            if of != index || !partitions.contains(&partition) {
                return true;
            }
            if let Item::Record(_, entry) = item {
                records += 1;
                bytes += entry.record().size() as u64;
            }
            if !dropped.contains(&partition) {
                dropped.push(partition);
            }
            false
        });
        self.queued_records -= records;
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        if self.queued_records == 0 && !self.is_any_latest() {
            self.lingers = None;
            self.lingered = false;
        }
        let Some(part) = self.parts.get_mut(index) else {
            return Offsets::new();
        };
        let mut rewound = Offsets::with_capacity(dropped.len());
        for partition in dropped {
            if let Some(offset) = at(&part.sent, partition) {
                if let Some(ahead) = &mut part.ahead {
                    put(ahead, partition, offset);
                }
                part.ends.retain(|end| *end != partition);
                rewound.push((partition, offset));
            }
        }
        rewound
    }

    pub(super) fn find(&self, topic: &str, partition: i32, place: &str) -> Result<usize, Error> {
        let found = self.parts.iter().position(|part| *part.topic == *topic);
        found
            .filter(|index| {
                let part = self.parts.get(*index);
                part.is_some_and(|part| at(&part.sent, partition).is_some())
            })
            .ok_or_else(|| not_assigned(place, topic, partition, "followed by this subscription"))
    }

    /// `seek`.
    ///
    /// # Errors
    ///
    /// A field that cannot be, or a partition that is not followed.
    pub fn seek(&mut self, seek: Seek, context: &mut SessionContext<'_>) -> Result<(), Error> {
        self.admit()?;
        let mut wanted: Vec<open_tail::Seek> = Vec::with_capacity(seek.positions.len());
        for (nth, position) in seek.positions.iter().enumerate() {
            let place = |name: &str| format!("positions[{nth}]{name}");
            let index = self.find(&position.topic, position.partition, &place(""))?;
            if position.offset.is_some() == position.timestamp.is_some() {
                return Err(field(&place(""), "expected either offset or timestamp"));
            }
            let to = seek_to(position, place)?;
            if to == SeekTo::Committed {
                let field = place(".offset");
                let message = format!("{field}: a tail has no group that could have committed");
                return Err(Error {
                    field: Some(field),
                    ..Error::new("invalid_for_tail", message)
                });
            }
            let twice = wanted
                .iter()
                .any(|other| other.index == index && other.partition == position.partition);
            if twice {
                return Err(field(&place(""), "this partition is named twice"));
            }
            wanted.push(open_tail::Seek {
                index,
                topic: Arc::from(position.topic.as_str()),
                partition: position.partition,
                to,
            });
        }
        self.waiting += 1;
        context
            .effects
            .push(Effect::Tail(self.id, TailEffect::Seek(seek.id, wanted)));
        Ok(())
    }

    /// Where a seek has gone: its followers are there already.
    pub fn sought(
        &mut self,
        id: Option<Id>,
        results: &[(open_tail::Seek, Result<i64, Fault>)],
        context: &mut SessionContext<'_>,
    ) {
        self.waiting = self.waiting.saturating_sub(1);
        let mut lost = false;
        let mut positions = Vec::with_capacity(results.len());
        for (seek, result) in results {
            if let Ok(offset) = result {
                self.drop_queued(seek.index, &[seek.partition], &mut lost);
                if let Some(part) = self.parts.get_mut(seek.index) {
                    put(&mut part.sent, seek.partition, *offset);
                    if let Some(ahead) = &mut part.ahead {
                        put(ahead, seek.partition, *offset);
                    }
                    part.ends.retain(|end| *end != seek.partition);
                    part.told.retain(|(of, _)| *of != seek.partition);
                }
            }
            positions.push(CommittedOffset {
                topic: seek.topic.to_string(),
                partition: seek.partition,
                offset: result.as_ref().map_or(-1, |offset| *offset),
                error: result.as_ref().err().map(|fault| fault.name().to_owned()),
            });
        }
        if lost {
            self.rewind(context);
        }
        self.arrive(context);
        context.send(&ServerFrame::Seeked(Seeked {
            id,
            sub: self.name.to_string(),
            positions,
        }));
    }

    /// `position`.
    ///
    /// # Errors
    ///
    /// Too many requests wait for Kafka.
    pub fn ask_position(
        &mut self,
        id: Option<Id>,
        context: &mut SessionContext<'_>,
    ) -> Result<(), Error> {
        self.admit()?;
        self.waiting += 1;
        let partitions = self.parts.iter().map(|part| {
            let all = part.sent.iter().map(|(partition, _)| *partition);
            (Arc::clone(&part.topic), all.collect())
        });
        let ask = TailEffect::Ends(id, partitions.collect());
        context.effects.push(Effect::Tail(self.id, ask));
        Ok(())
    }

    /// Where the log of each partition ends, as far as Kafka has said.
    pub fn ends(
        &mut self,
        id: Option<Id>,
        found: &[(Arc<str>, Vec<Watermarks>)],
        context: &mut SessionContext<'_>,
    ) {
        self.waiting = self.waiting.saturating_sub(1);
        let end_of = |topic: &str, partition: i32| {
            let (_, bounds) = found.iter().find(|(of, _)| **of == *topic)?;
            let bound = bounds.iter().find(|bound| bound.partition == partition)?;
            Some(bound.end)
        };
        let mut positions = Vec::new();
        for part in &self.parts {
            for (partition, delivered) in &part.sent {
                let end = end_of(&part.topic, *partition);
                positions.push(PartitionPosition {
                    topic: part.topic.to_string(),
                    partition: *partition,
                    delivered: *delivered,
                    acked: None,
                    committed: None,
                    end,
                    lag: end.map(|end| (end - delivered).max(0)),
                });
            }
        }
        context.send(&ServerFrame::Positions(Positions {
            id,
            sub: self.name.to_string(),
            positions,
            position: Some(self.position()),
        }));
    }

    pub(super) fn admit(&self) -> Result<(), Error> {
        admit(self.waiting)
    }
}
