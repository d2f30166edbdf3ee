//! Partitions come and go: the callbacks' notices, starts, revokes and losses.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::time::{Instant, sleep, sleep_until};

use super::lane::Via;
use super::link::{self, Notice};
use super::{Done, End, Engine, Held, LONGEST_PAUSE, PAUSE, Revoking};
use crate::kafka::fault::FaultKind;
use crate::kafka::member::lag::Lag;
use crate::kafka::member::place::Places;
use crate::kafka::member::{Assigned, Event, From, Release, SeekTo, State};
use crate::observe::metrics::group_label;
use crate::record::TopicPartition;

impl Engine {
    pub(super) fn noticed(&mut self, notice: Notice) {
        match notice {
            Notice::Assigned(places) => self.assigned(places),
            Notice::Revoked(places, done) => {
                let partitions = self.own(places);
                let (told, untold): (Vec<_>, Vec<_>) =
                    partitions.into_iter().partition(|partition| {
                        let held = self.held.get(partition);
                        held.is_some_and(|held| held.next.is_some())
                    });
                for partition in &untold {
                    self.let_go(partition);
                }
                if told.is_empty() {
                    // Dropping `done` lets krafka go on.
                    return;
                }
                let (release, released) = Release::new();
                for partition in &told {
                    if let Some(held) = self.held.get_mut(partition) {
                        held.revoked = true;
                    }
                }
                self.revoking = Some(Revoking {
                    partitions: told.clone(),
                    released,
                    done,
                    deadline: Instant::now() + self.timing.release,
                    is_released: false,
                });
                self.tell(Event::Revoking {
                    partitions: told,
                    release,
                });
            }
            Notice::Lost(places) => {
                let partitions = self.own(places);
                self.joined = false;
                self.lose(partitions);
                self.set_state(State::Joining(None));
            }
        }
    }

    pub(super) fn assigned(&mut self, places: Vec<link::Place>) {
        counter!("kafka_group_rebalances_total", "group" => group_label(&self.options.group))
            .increment(1);
        self.joined = true;
        self.was_member = true;
        self.unreleased_since = None;
        let state = match &*self.health.borrow() {
            Some(fault) => State::Unavailable((**fault).clone()),
            None => State::Active,
        };
        self.set_state(state);
        let added = self.own(places);
        if added.is_empty() {
            let all = self.told();
            self.tell(Event::Assigned {
                added: Vec::new(),
                all,
            });
            return;
        }
        for partition in &added {
            // Of a topic that comes back under this name, the id before does not matter.
            if !self.held.keys().any(|held| held.topic == partition.topic) {
                self.topics.remove(&partition.topic);
            }
            self.turns += 1;
            let held = Held {
                turn: self.turns,
                next: None,
                busy: true,
                paused: false,
                revoked: false,
                via: Via::Group,
                // By the listener.
                stopped: true,
                read_ahead: false,
                leader: None,
                lag: None,
            };
            // A lane may still have what is assigned again.
            self.let_go(partition);
            self.held.insert(partition.clone(), held);
        }
        self.look_up_starts(added, Duration::ZERO);
    }

    /// Has the start of partitions looked up that were assigned.
    pub(super) fn look_up_starts(&mut self, partitions: Vec<TopicPartition>, pause: Duration) {
        let aims: Vec<(TopicPartition, SeekTo)> = partitions
            .into_iter()
            .map(|partition| {
                let aim = self.start_of(&partition);
                (partition, aim)
            })
            .collect();
        let turns = self.turns_of(aims.iter().map(|(partition, _)| partition));
        let asker = Arc::clone(&self.asker);
        let metadata = self.shared.metadata.clone();
        self.jobs.push(Box::pin(async move {
            if !pause.is_zero() {
                sleep(pause).await;
                // A topic that was created again has other leaders, and krafka's admin client may
                // not have heard.
                for (partition, _) in &aims {
                    let _ = metadata.topic(&partition.topic).await;
                }
            }
            Done::Started(turns, asker.places(&aims, true).await, pause)
        }));
    }

    /// Where a partition starts that is assigned now.
    pub(super) fn start_of(&self, partition: &TopicPartition) -> SeekTo {
        if self.seen.contains(partition) {
            return SeekTo::Committed;
        }
        match &self.options.from {
            From::Committed => SeekTo::Committed,
            From::Earliest => SeekTo::Beginning,
            From::Latest => SeekTo::End,
            From::Time(time) => SeekTo::Time(*time),
            From::Positions(positions) => positions
                .iter()
                .find(|(named, _)| named == partition)
                .map_or(SeekTo::Committed, |(_, offset)| SeekTo::Offset(*offset)),
        }
    }

    pub(super) async fn started(
        &mut self,
        turns: Vec<u64>,
        places: Places,
        pause: Duration,
    ) -> Result<(), End> {
        let Some(consumer) = self.consumer() else {
            return Ok(());
        };
        let mut added = Vec::new();
        let mut gaps = Vec::new();
        let mut again = Vec::new();
        for ((partition, place), turn) in places.into_iter().zip(turns) {
            let Some(held) = self.held.get_mut(&partition).filter(|h| h.turn == turn) else {
                continue;
            };
            let place = match place {
                Ok(place) => place,
                Err(fault) if fault.kind == FaultKind::OffsetOutOfRange => {
                    return Err(End::Fault(fault));
                }
                Err(fault) if fault.kind == FaultKind::NotAuthorized => {
                    return Err(End::Fault(fault));
                }
                Err(fault) => {
                    tracing::debug!(group = %self.options.group, "a start is looked up again: {fault}");
                    again.push(partition);
                    continue;
                }
            };
            let sought = consumer.seek(&partition.topic, partition.partition, place.at);
            if sought.await.is_err() {
                // Taken away again; the notice is on its way.
                continue;
            }
            held.next = Some(place.at);
            held.busy = false;
            held.lag = Lag::of(&self.options.group, &partition);
            self.seen.insert(partition.clone());
            if let Some(missed) = place.missed {
                gaps.push(Event::Gap {
                    partition: partition.clone(),
                    from: missed,
                    to: place.at,
                });
            }
            added.push(Assigned {
                partition,
                start: place.at,
                committed: place.committed,
                end: place.end,
            });
        }
        if !again.is_empty() {
            self.look_up_starts(again, (pause * 2).clamp(PAUSE, LONGEST_PAUSE));
        }
        if !added.is_empty() {
            self.look_at_topics();
            self.look_at_leaders();
            let all = self.told();
            self.tell(Event::Assigned { added, all });
            for gap in gaps {
                self.tell(gap);
            }
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Goes on after a revoke once what was ordered before its release is done.
    pub(super) fn released(&mut self) {
        let Some(revoking) = &mut self.revoking else {
            return;
        };
        let is_late = Instant::now() >= revoking.deadline;
        if !revoking.is_released && !is_late {
            revoking.is_released = true;
            revoking.deadline = Instant::now() + self.timing.commit;
            while let Ok(command) = self.commands.try_recv() {
                self.commanded(command);
            }
        }
        self.end_revoke();
    }

    pub(super) fn end_revoke(&mut self) {
        let Some(revoking) = &self.revoking else {
            return;
        };
        let is_late = Instant::now() >= revoking.deadline;
        let is_done = revoking.is_released && self.commits.is_empty();
        if !is_late && !is_done {
            return;
        }
        let Some(revoking) = self.revoking.take() else {
            return;
        };
        for partition in &revoking.partitions {
            self.let_go(partition);
        }
        if !revoking.is_released {
            tracing::warn!(
                group = %self.options.group,
                "revoked partitions were not let go in time and are taken"
            );
            self.tell(Event::Lost(revoking.partitions));
        }
        // An error is that krafka's poll is gone.
        let _ = revoking.done.send(());
    }

    pub(super) fn lose(&mut self, mut partitions: Vec<TopicPartition>) {
        partitions.retain(|partition| {
            let held = self.let_go(partition);
            held.is_some_and(|held| held.next.is_some())
        });
        if !partitions.is_empty() {
            partitions.sort_unstable();
            self.tell(Event::Lost(partitions));
        }
    }
}

/// Ends when the revoke that waits may go on, or may wait no longer.
pub(super) async fn released(revoking: &mut Option<Revoking>) {
    match revoking {
        None => std::future::pending().await,
        Some(revoking) if revoking.is_released => sleep_until(revoking.deadline).await,
        Some(revoking) => {
            tokio::select! {
                _ = &mut revoking.released => {}
                () = sleep_until(revoking.deadline) => {}
            }
        }
    }
}
