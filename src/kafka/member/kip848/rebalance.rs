//! Partitions come and go: the callbacks' notices, starts, revokes and losses.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::broker_fetcher::Via;
use super::commits::{Commit, Landing, Purpose, Results};
use super::group_consumer::{self, Notice};
use super::records::Aim;
use super::{Done, End, Engine, Held, LONGEST_PAUSE, PAUSE, RECOVERY_PAUSE, Revoking};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::start::Starter;
use crate::kafka::member::{Assigned, Event, Release, State};
use crate::kafka::metadata::Topic;
use crate::kafka::offset_resolver::ResolvedOffsets;
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
                // Where they start is being found and committed: that is done before anybody else has
                // them. It would not begin later then, nor be sent back by a commit that comes late.
                let (landing, untold): (Vec<_>, Vec<_>) = untold
                    .into_iter()
                    .partition(|partition| self.held.get(partition).is_some_and(|h| h.lands));
                for partition in &untold {
                    self.let_go(partition);
                }
                if told.is_empty() && landing.is_empty() {
                    // Dropping `done` lets krafka go on.
                    return;
                }
                let (release, released) = Release::new();
                let partitions: Vec<_> = told.iter().chain(&landing).cloned().collect();
                for partition in &partitions {
                    if let Some(held) = self.held.get_mut(partition) {
                        held.revoked = true;
                    }
                }
                let is_released = told.is_empty();
                let longest = if is_released {
                    self.timing.commit
                } else {
                    self.timing.release
                };
                self.revoking = Some(Revoking {
                    partitions,
                    released,
                    done,
                    deadline: Instant::now() + longest,
                    is_released,
                });
                if is_released {
                    self.end_revoke();
                    return;
                }
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

    pub(super) fn assigned(&mut self, places: Vec<group_consumer::KrafkaPartition>) {
        self.metrics.rebalanced();
        self.joined = true;
        self.was_member = true;
        self.was_in = true;
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
                lands: self.options.commit_starts,
                paused: false,
                revoked: false,
                via: Via::Group,
                // By the listener.
                stopped: true,
                read_ahead: false,
                leader: None,
                is_asked: false,
                lag: None,
            };
            // A fetcher may still have what is assigned again.
            self.let_go(partition);
            self.held.insert(partition.clone(), held);
        }
        self.look_up_starts(added, Duration::ZERO);
    }

    /// Has the start of partitions looked up that were assigned.
    pub(super) fn look_up_starts(&mut self, partitions: Vec<TopicPartition>, pause: Duration) {
        let turns = self.turns_of(partitions.iter());
        let unknown: HashSet<Arc<str>> = partitions
            .iter()
            .filter(|partition| !self.topics.contains_key(&partition.topic))
            .map(|partition| Arc::clone(&partition.topic))
            .collect();
        let partitions: Vec<(TopicPartition, Option<i64>)> = partitions
            .into_iter()
            .map(|partition| {
                let former = self.starts.get(&partition).copied();
                (partition, former)
            })
            .collect();
        let starter = Starter {
            resolver: Arc::clone(&self.resolver),
            metadata: self.shared.metadata.clone(),
            options: Arc::clone(&self.options),
            before: Arc::clone(&self.before),
        };
        self.jobs.push(Box::pin(async move {
            if !pause.is_zero() {
                sleep(pause).await;
                // A topic that was created again has other leaders, and krafka's admin client may
                // not have heard.
                for (partition, _) in &partitions {
                    let _ = starter.metadata.topic(&partition.topic).await;
                }
            }
            // Which topics these are, before the first record: were one deleted and created again a moment
            // later, nothing else would tell that it is another.
            let topics = async {
                let mut topics = Vec::with_capacity(unknown.len());
                for name in &unknown {
                    topics.extend(starter.metadata.confirmed(name).await.ok());
                }
                topics
            };
            let (places, topics) = tokio::join!(starter.starts(&partitions), topics);
            Done::Started(turns, places, topics, pause)
        }));
    }

    /// Where partitions start is known. What the group has not committed of it is committed first: a client
    /// that has records and does not acknowledge them is to leave them to whoever comes next.
    pub(super) async fn started(
        &mut self,
        turns: Vec<u64>,
        places: ResolvedOffsets,
        topics: Vec<Arc<Topic>>,
        pause: Duration,
    ) -> Result<(), End> {
        if self.leaving.is_some() {
            return Ok(());
        }
        for topic in topics {
            self.topics
                .entry(Arc::clone(&topic.name))
                .or_insert(topic.id);
        }
        let mut landings = Vec::new();
        let mut again = Vec::new();
        for ((partition, place), turn) in places.into_iter().zip(turns) {
            let Some(held) = self.held.get_mut(&partition).filter(|h| h.turn == turn) else {
                continue;
            };
            let place = match place {
                Ok(place) => place,
                Err(fault) => {
                    // Nobody waits for another try.
                    held.lands = false;
                    self.again_or_end(fault)?;
                    again.push(partition);
                    continue;
                }
            };
            let is_committed = place.committed.is_some() && place.missed.is_none();
            landings.push(Landing {
                partition,
                turn,
                place,
                is_to_commit: self.options.commit_starts && !is_committed,
            });
        }
        if !again.is_empty() {
            self.look_up_starts(again, (pause * 2).clamp(PAUSE, LONGEST_PAUSE));
        }
        if landings.iter().any(|landing| landing.is_to_commit) {
            let start = |places| Purpose::Start(places, pause);
            let commit = Commit::of_places(start, landings);
            self.commits.waiting.push_back(commit);
            self.next_commit();
        } else {
            self.begin(landings).await;
        }
        self.end_revoke();
        Ok(())
    }

    /// What became of the commit of places.
    pub(super) async fn landed(&mut self, purpose: Purpose, results: Results) -> Result<(), End> {
        let (places, pause) = match purpose {
            Purpose::Start(places, pause) => (places, Some(pause)),
            Purpose::Recovery(places) => (places, None),
            Purpose::Ordered(_) => return Ok(()),
        };
        let mut results: HashMap<TopicPartition, Result<i64, Fault>> =
            results.into_iter().collect();
        let mut landings = Vec::with_capacity(places.len());
        let mut again = Vec::new();
        let mut refresh = false;
        for mut landing in places {
            let held = self.held.get_mut(&landing.partition);
            let Some(held) = held.filter(|held| held.turn == landing.turn) else {
                continue;
            };
            held.lands = false;
            match results.remove(&landing.partition) {
                Some(Ok(at)) => landing.place.committed = Some(at),
                Some(Err(fault)) => {
                    // The handle may know a topic of this name that is gone.
                    refresh |= fault.kind == FaultKind::UnknownTopic;
                    self.again_or_end(fault)?;
                    again.push(Aim {
                        partition: landing.partition,
                        to: landing.place.at,
                        missed: landing.place.missed,
                    });
                    continue;
                }
                None => {}
            }
            landings.push(landing);
        }
        if refresh {
            self.refresh();
        }
        match pause {
            Some(pause) => {
                if !again.is_empty() {
                    let again = again.into_iter().map(|aim| aim.partition).collect();
                    self.look_up_starts(again, (pause * 2).clamp(PAUSE, LONGEST_PAUSE));
                }
                self.begin(landings).await;
            }
            None => {
                if !again.is_empty() {
                    self.recover(again, RECOVERY_PAUSE);
                }
                self.go_on(landings).await;
            }
        }
        self.end_revoke();
        Ok(())
    }

    /// Whether looking for a place, or committing it, may do better another time.
    pub(super) fn again_or_end(&self, fault: Fault) -> Result<(), End> {
        if matches!(
            fault.kind,
            FaultKind::OffsetOutOfRange | FaultKind::NotAuthorized
        ) {
            return Err(End::Fault(fault));
        }
        tracing::debug!(group = %self.options.group, "a place is looked up again: {fault}");
        Ok(())
    }

    /// Partitions start.
    async fn begin(&mut self, landings: Vec<Landing>) {
        let Some(consumer) = self.consumer() else {
            return;
        };
        let mut added = Vec::new();
        let mut gaps = Vec::new();
        for Landing {
            partition,
            turn,
            place,
            ..
        } in landings
        {
            let Some(held) = self.held.get_mut(&partition).filter(|h| h.turn == turn) else {
                continue;
            };
            held.lands = false;
            if held.revoked {
                // It is being taken away, and was never told of.
                continue;
            }
            let sought = consumer.seek(&partition.topic, partition.partition, place.at);
            if sought.await.is_err() {
                // Taken away again; the notice is on its way.
                continue;
            }
            held.next = Some(place.at);
            held.busy = false;
            held.lag = Some(self.shared.lags.of(
                &self.options.group,
                self.options.owner.as_ref(),
                &partition,
                self.options.isolation,
                place.committed.unwrap_or(place.at),
                place.end,
            ));
            if place.committed.is_none() {
                self.starts.entry(partition.clone()).or_insert(place.at);
            } else {
                self.starts.remove(&partition);
            }
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
        let lands = |partition| self.held.get(partition).is_some_and(|held| held.lands);
        let is_landing = revoking.partitions.iter().any(lands);
        let is_done = revoking.is_released && self.commits.is_empty() && !is_landing;
        if !is_late && !is_done {
            return;
        }
        let Some(revoking) = self.revoking.take() else {
            return;
        };
        let mut partitions = revoking.partitions;
        partitions.retain(|partition| {
            let held = self.let_go(partition);
            held.is_some_and(|held| held.next.is_some())
        });
        if !revoking.is_released {
            tracing::warn!(
                group = %self.options.group,
                "revoked partitions were not let go in time and are taken"
            );
            self.tell(Event::Lost(partitions));
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
