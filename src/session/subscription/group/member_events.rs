//! What the member tells: partitions that come, records, and Kafka's answers.

use std::collections::HashMap;

use super::{Group, Over, Waiting, wires};
use crate::kafka::fault::Fault;
use crate::kafka::member::{self, Command, Event, Token};
use crate::record::{ConsumerRecord, TopicPartition};
use crate::session::protocol::server::{
    Assigned, AssignedPartition, Committed, CommittedOffset, Error, Gap, GapReason,
    PartitionPosition, Positions, Revoked, RevokedPartition, RevokedReason, Seeked, ServerFrame,
    State, StateName,
};
use crate::session::subscription::SessionContext;

impl Group {
    /// Something happened in the group. `Some` when the subscription is over.
    pub fn event(&mut self, event: Event, context: &mut SessionContext<'_>) -> Option<Over> {
        match event {
            Event::State(state) => self.changed(state, context),
            Event::Assigned { added, all } => self.assigned(added, &all, context),
            Event::Records { records, next } => self.records(records, &next, context),
            Event::Gap {
                partition,
                from,
                to,
            } => self.gap(&partition, from, to, context),
            Event::Revoking {
                partitions,
                release,
            } => self.revoking(partitions, release, context),
            Event::Lost(partitions) => {
                self.going = None;
                self.epoch += 1;
                self.taken_away = true;
                self.counted.rebalances += 1;
                self.gone(&partitions, RevokedReason::Lost, context);
            }
            Event::Committed { token, results } => return self.committed(token, results, context),
            Event::Seeked { token, results } => self.seeked(token, results, context),
            Event::Ends { token, results } => self.ends(token, &results, context),
            Event::Ended(fault) => return Some(self.ended(fault, context)),
        }
        None
    }

    fn changed(&mut self, state: member::State, context: &mut SessionContext<'_>) {
        let (name, detail) = match state {
            member::State::Joining(fault) => (StateName::Joining, fault),
            member::State::Active => (StateName::Active, None),
            member::State::Unavailable(fault) => (StateName::KafkaUnavailable, Some(fault)),
        };
        self.state(name, detail.map(|fault| fault.message), context);
    }

    fn assigned(
        &mut self,
        added: Vec<member::Assigned>,
        all: &[TopicPartition],
        context: &mut SessionContext<'_>,
    ) {
        if !std::mem::take(&mut self.taken_away) {
            self.epoch += 1;
        }
        self.counted.rebalances += 1;
        let mut partitions = Vec::with_capacity(added.len());
        for new in added {
            partitions.push(AssignedPartition {
                topic: new.partition.topic.to_string(),
                partition: new.partition.partition,
                start: new.start,
                committed: new.committed,
                end: new.end,
            });
            self.starts.insert(new.partition.clone(), new.start);
            self.ledger.assign(new.partition, new.start, new.committed);
        }
        if self.leaving.is_some() {
            return;
        }
        context.send(&ServerFrame::Assigned(Assigned {
            sub: self.options.common.sub.clone(),
            epoch: self.epoch,
            partitions,
            assignment: wires(all),
            cooperative: true,
        }));
        self.state(StateName::Active, None, context);
    }

    fn records(
        &mut self,
        mut records: Vec<ConsumerRecord>,
        next: &[(TopicPartition, i64)],
        context: &mut SessionContext<'_>,
    ) {
        // As with the client's own filter, what is left out counts as acknowledged.
        records.retain(|record| self.visibility.shows(record));
        if let Some(filter) = &self.options.common.filter {
            records.retain(|record| filter.wants(record));
        }
        self.ledger.offer(records, next);
        self.flow(context);
    }

    /// Tells the member which partitions to hold back.
    pub(super) fn flow(&mut self, context: &mut SessionContext<'_>) {
        let flow = self.ledger.flow();
        if !flow.hold.is_empty() {
            context.tell(Command::Pause(flow.hold));
        }
        if !flow.go_on.is_empty() {
            context.tell(Command::Resume(flow.go_on));
        }
        let gaps = self.ledger.new_gaps();
        if !gaps.is_empty() {
            context.send(&ServerFrame::State(State {
                sub: self.options.common.sub.clone(),
                state: StateName::Paused,
                since: context.clock.wall(context.now),
                detail: Some("gap".to_owned()),
                partitions: Some(wires(&gaps)),
            }));
            self.gapped = true;
            self.detailed = true;
        }
        self.settle_state(context);
    }

    fn gap(
        &mut self,
        partition: &TopicPartition,
        from: i64,
        to: i64,
        context: &mut SessionContext<'_>,
    ) {
        let reason = if to < from {
            // The log is another one: what is out cannot be acknowledged in it.
            self.ledger.sought(partition, to, self.epoch);
            GapReason::Reset
        } else {
            self.ledger.offer(Vec::new(), &[(partition.clone(), to)]);
            GapReason::Retention
        };
        context.send(&ServerFrame::Gap(Gap {
            sub: self.options.common.sub.clone(),
            topic: partition.topic.to_string(),
            partition: partition.partition,
            from,
            to,
            reason,
        }));
    }

    fn committed(
        &mut self,
        token: Token,
        results: Vec<(TopicPartition, Result<i64, Fault>)>,
        context: &mut SessionContext<'_>,
    ) -> Option<Over> {
        let waiting = self.waiting.remove(&token)?;
        let mut said = Vec::with_capacity(results.len());
        let mut failed: Option<Fault> = None;
        for (partition, result) in results {
            let went = self.handed_on.get(&partition);
            if !self.ledger.has(&partition) || went.is_some_and(|last| token <= *last) {
                // Whoever has it now says what is committed of it.
                said.push(CommittedOffset {
                    topic: partition.topic.to_string(),
                    partition: partition.partition,
                    offset: -1,
                    error: Some("not_assigned".to_owned()),
                });
                continue;
            }
            match result {
                Ok(at) => {
                    self.ledger.committed(&partition, at, true);
                    said.push(CommittedOffset {
                        topic: partition.topic.to_string(),
                        partition: partition.partition,
                        offset: at,
                        error: None,
                    });
                }
                Err(fault) => {
                    let at = self.ledger.requested_of(&partition).unwrap_or(-1);
                    self.ledger.committed(&partition, at, false);
                    said.push(CommittedOffset {
                        topic: partition.topic.to_string(),
                        partition: partition.partition,
                        offset: at,
                        error: Some(fault.name().to_owned()),
                    });
                    failed = Some(fault);
                }
            }
        }
        let behind = self.behind.extract_if(.., |(last, ..)| *last == token);
        for (_, id, others) in behind.collect::<Vec<_>>() {
            context.send(&ServerFrame::Committed(Committed {
                id,
                sub: Some(self.options.common.sub.clone()),
                positions: self.have_committed(&others),
            }));
        }
        match waiting {
            Waiting::Commit(id, others) => {
                // Commits before this one have been answered.
                said.extend(self.have_committed(&others));
                context.send(&ServerFrame::Committed(Committed {
                    id,
                    sub: Some(self.options.common.sub.clone()),
                    positions: said,
                }));
            }
            Waiting::Interval => {
                if let Some(fault) = failed {
                    context.send(&ServerFrame::Error(Error {
                        sub: Some(self.options.common.sub.clone()),
                        ..Error::from_fault(
                            "kafka_error",
                            &Fault {
                                message: format!(
                                    "A commit failed and will be tried again: {}",
                                    fault.message
                                ),
                                retriable: true,
                                ..fault
                            },
                        )
                    }));
                }
            }
            Waiting::Revoke | Waiting::Last | Waiting::Seek(..) | Waiting::Position(_) => {}
        }
        // The answers come in the order of the commits, so none is left when the last has come.
        if !self.is_committing() {
            self.handed_on = HashMap::new();
            if self.going.as_ref().is_some_and(|going| going.committing) {
                self.let_go(context);
            }
            self.leave_now(context);
        }
        None
    }

    fn seeked(
        &mut self,
        token: Token,
        results: Vec<(TopicPartition, Result<i64, Fault>)>,
        context: &mut SessionContext<'_>,
    ) {
        let Some(Waiting::Seek(id, partitions)) = self.waiting.remove(&token) else {
            return;
        };
        for partition in &partitions {
            self.ledger.seeking(partition, false);
        }
        let mut stale = Vec::new();
        let mut positions = Vec::with_capacity(results.len());
        for (partition, result) in results {
            let (at, error) = match result {
                Ok(at) => (at, None),
                Err(fault) => (-1, Some(fault.name().to_owned())),
            };
            if error.is_none()
                && let Some(left) = self.ledger.sought(&partition, at, self.epoch)
                && left.unacked > 0
            {
                stale.push(RevokedPartition {
                    topic: partition.topic.to_string(),
                    partition: partition.partition,
                    committed: left.committed,
                    unacked: left.unacked,
                });
            }
            positions.push(CommittedOffset {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                offset: at,
                error,
            });
        }
        if !stale.is_empty() {
            context.send(&ServerFrame::Revoked(Revoked {
                sub: self.options.common.sub.clone(),
                epoch: self.epoch,
                partitions: stale,
                reason: RevokedReason::Seek,
            }));
        }
        context.send(&ServerFrame::Seeked(Seeked {
            id,
            sub: self.options.common.sub.clone(),
            positions,
        }));
        self.flow(context);
    }

    fn ends(
        &mut self,
        token: Token,
        results: &[(TopicPartition, Result<i64, Fault>)],
        context: &mut SessionContext<'_>,
    ) {
        let Some(Waiting::Position(id)) = self.waiting.remove(&token) else {
            return;
        };
        let end_of = |partition: &TopicPartition| {
            let found = results.iter().find(|(of, _)| of == partition);
            found.and_then(|(_, end)| end.as_ref().ok().copied())
        };
        let positions = self.ledger.places().into_iter().map(|place| {
            let end = end_of(&place.partition);
            let from = place
                .committed
                .or_else(|| self.starts.get(&place.partition).copied());
            PartitionPosition {
                topic: place.partition.topic.to_string(),
                partition: place.partition.partition,
                delivered: place.delivered,
                acked: Some(place.acked),
                committed: place.committed,
                end,
                lag: end.zip(from).map(|(end, from)| (end - from).max(0)),
            }
        });
        context.send(&ServerFrame::Positions(Positions {
            id,
            sub: self.options.common.sub.clone(),
            positions: positions.collect(),
            position: None,
        }));
    }
}
