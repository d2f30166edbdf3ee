//! Commands, commits among them, and their answers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use krafka::GroupMembershipOperation;
use metrics::histogram;
use tokio::time::{Instant, sleep};

use super::broker_fetchers::consumer_of;
use super::commits::{Commit, Landing, Purpose, not_assigned};
use super::{Done, End, Engine, Options, group_consumer, out_of_group};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::start::Before;
use crate::kafka::member::{Command, Event, SeekTo, Token};
use crate::kafka::offset_resolver::ResolvedOffsets;
use crate::record::TopicPartition;

/// Pause before another try to subscribe to other topics.
const SUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

impl Engine {
    pub(super) fn commanded(&mut self, command: Command) {
        match command {
            Command::Commit { token, offsets } => {
                self.commits.waiting.push_back(Commit::new(token, offsets));
                self.next_commit();
            }
            Command::Pause(partitions) => self.set_paused(&partitions, true),
            Command::Resume(partitions) => self.set_paused(&partitions, false),
            Command::Seek { token, positions } => self.seek(token, positions),
            Command::Ends { token } => {
                let resolver = Arc::clone(&self.resolver);
                let partitions = self.told();
                self.jobs.push(Box::pin(async move {
                    Done::Ends(token, resolver.ends(&partitions).await)
                }));
            }
            Command::Subscribe { topics, appeared } => self.subscribe_to(topics, appeared),
            Command::Leave { stay } => {
                // What has not begun does not begin any more.
                self.commits.waiting.retain(Commit::is_ordered);
                self.leaving = Some(if stay {
                    // Of a static member: epoch -2, which keeps its place and gives up the
                    // instance id, so that the next one may have it at once.
                    GroupMembershipOperation::Default
                } else {
                    GroupMembershipOperation::LeaveGroup
                });
            }
        }
    }

    pub(super) fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) {
        for partition in partitions {
            if let Some(held) = self.held.get_mut(partition) {
                held.paused = paused;
            }
        }
        self.wake.notify_one();
    }

    pub(super) fn seek(&mut self, token: Token, positions: Vec<(TopicPartition, SeekTo)>) {
        let mut refused = Vec::new();
        let mut aims = Vec::with_capacity(positions.len());
        for (partition, aim) in positions {
            self.turns += 1;
            let revoked = self.revoking.as_ref();
            let revoked = revoked.is_some_and(|r| r.partitions.contains(&partition));
            match self.held.get_mut(&partition) {
                Some(held) if held.next.is_some() && !revoked => {
                    // An earlier seek that is still under way does not count any more.
                    held.turn = self.turns;
                    held.busy = true;
                    aims.push((partition, aim));
                }
                _ => {
                    let fault = not_assigned(&partition);
                    refused.push((partition, fault));
                }
            }
        }
        let turns = self.turns_of(aims.iter().map(|(partition, _)| partition));
        let resolver = Arc::clone(&self.resolver);
        self.jobs.push(Box::pin(async move {
            let places = resolver.resolve(&aims, false).await;
            Done::Sought(token, turns, places, refused)
        }));
    }

    pub(super) async fn sought(
        &mut self,
        token: Token,
        turns: Vec<u64>,
        places: ResolvedOffsets,
        refused: Vec<(TopicPartition, Fault)>,
    ) {
        let mut results: Vec<_> = refused
            .into_iter()
            .map(|(partition, fault)| (partition, Err(fault)))
            .collect();
        for ((partition, place), turn) in places.into_iter().zip(turns) {
            let held = self.held.get_mut(&partition);
            let consumer = held.as_ref().and_then(|held| {
                consumer_of(self.group_consumer.as_ref(), &self.fetchers, held.via)
            });
            let result = match (held, consumer) {
                (Some(held), Some(consumer)) if held.turn == turn => {
                    held.busy = false;
                    match place {
                        Ok(place) => {
                            let seek =
                                consumer.seek(&partition.topic, partition.partition, place.at);
                            match seek.await {
                                Ok(()) => {
                                    held.next = Some(place.at);
                                    Ok(place.at)
                                }
                                Err(_) => Err(not_assigned(&partition)),
                            }
                        }
                        Err(fault) => Err(fault),
                    }
                }
                (Some(_), Some(_)) => Err(Fault::new(
                    FaultKind::Other,
                    format!(
                        "Partition {} of topic {} was sent elsewhere meanwhile.",
                        partition.partition, partition.topic
                    ),
                )),
                _ => Err(not_assigned(&partition)),
            };
            results.push((partition, result));
        }
        self.tell(Event::Seeked { token, results });
        self.wake.notify_one();
    }

    /// As it was ordered.
    fn subscribe_to(&mut self, topics: Vec<Arc<str>>, appeared: bool) {
        let had = Arc::clone(&self.options);
        let mut late: Vec<Arc<str>> = had.appeared.clone();
        late.retain(|topic| topics.contains(topic));
        if appeared {
            let new = topics.iter().filter(|topic| !had.topics.contains(topic));
            late.extend(new.cloned());
        }
        self.subscribe(topics, late);
    }

    /// Subscribes; `appeared` are those that were not there when the client did.
    pub(super) fn subscribe(&mut self, topics: Vec<Arc<str>>, appeared: Vec<Arc<str>>) {
        if self.group_consumer.is_none() {
            // Not in the group yet: it joins with these. A turn that is just ending has the others,
            // and what it finds out about them would not hold.
            self.set_topics(topics, appeared);
            return;
        }
        let looking = self.look_before(&topics, &appeared);
        let shared = Arc::clone(&self.shared);
        let was_in = self.was_in;
        self.jobs.push(Box::pin(async move {
            let names = topics.iter().map(|topic| &**topic);
            let result = async {
                let before = looking.await?;
                group_consumer::check_topics(&shared, names, was_in).await?;
                Ok(before)
            };
            let result = result.await;
            Done::Checked(topics, appeared, result)
        }));
    }

    pub(super) fn set_topics(&mut self, topics: Vec<Arc<str>>, appeared: Vec<Arc<str>>) {
        self.options = Arc::new(Options {
            topics,
            appeared,
            ..(*self.options).clone()
        });
    }

    /// Looks at those of these topics of which it is not known yet how the member has found them.
    pub(super) fn look_before(
        &self,
        topics: &[Arc<str>],
        appeared: &[Arc<str>],
    ) -> impl Future<Output = Result<Before, Fault>> + Send + use<> {
        let is_new = |topic: &&Arc<str>| !appeared.contains(topic) && !self.before.has(topic);
        let wanted: Vec<Arc<str>> = if Before::matters(&self.options) {
            topics.iter().filter(is_new).cloned().collect()
        } else {
            Vec::new()
        };
        let resolver = Arc::clone(&self.resolver);
        let metadata = self.shared.metadata.clone();
        async move {
            if wanted.is_empty() {
                return Ok(Before::default());
            }
            Before::look(&resolver, &metadata, wanted).await
        }
    }

    /// Keeps what was found of topics.
    pub(super) fn keep_before(&mut self, found: Before) {
        let mut before = (*self.before).clone();
        before.update(found, &self.options.topics);
        self.before = Arc::new(before);
        let topics = &self.options.topics;
        self.starts
            .retain(|partition, _| topics.contains(&partition.topic));
    }

    /// What was found of topics that are to be subscribed to. The next poll does that; a consumer that
    /// is just being made is told afterwards.
    pub(super) fn checked(
        &mut self,
        topics: Vec<Arc<str>>,
        appeared: Vec<Arc<str>>,
        result: Result<Before, Fault>,
    ) -> Result<(), End> {
        match result {
            Ok(before) => {
                self.set_topics(topics, appeared);
                self.keep_before(before);
                self.subscribes = true;
                self.polled_at = None;
                self.wake.notify_one();
                Ok(())
            }
            Err(fault) if fault.retriable => {
                tracing::debug!(group = %self.options.group, "subscribing is tried again: {fault}");
                self.jobs.push(Box::pin(async move {
                    sleep(SUBSCRIBE_PAUSE).await;
                    Done::SubscribeAgain(topics, appeared)
                }));
                Ok(())
            }
            Err(fault) => Err(End::Fault(fault)),
        }
    }

    /// Sends the next commit, if none is under way.
    pub(super) fn next_commit(&mut self) {
        while !self.commits.under_way {
            let Some(mut commit) = self.commits.waiting.pop_front() else {
                break;
            };
            match &commit.purpose {
                Purpose::Ordered(_) => commit.keep(|partition| {
                    let held = self.held.get(partition);
                    held.is_some_and(|held| held.next.is_some())
                }),
                Purpose::Start(places, _) | Purpose::Recovery(places) => {
                    let is_current = |landing: &&Landing| {
                        let held = self.held.get(&landing.partition);
                        held.is_some_and(|held| held.turn == landing.turn)
                    };
                    let current: HashSet<TopicPartition> = places
                        .iter()
                        .filter(is_current)
                        .map(|landing| landing.partition.clone())
                        .collect();
                    commit.keep(|partition| current.contains(partition));
                }
            }
            let now = Instant::now();
            let deadline = *commit.deadline.get_or_insert(now + self.timing.commit);
            let Some(consumer) = self.consumer() else {
                commit.fail(&out_of_group());
                self.answer(commit);
                continue;
            };
            if commit.offsets.is_empty() {
                self.answer(commit);
                continue;
            }
            if now >= deadline {
                commit.fail(&too_late());
                self.answer(commit);
                continue;
            }
            self.commits.under_way = true;
            self.jobs.push(Box::pin(async move {
                let (commit, fault) = commit.attempt(&consumer).await;
                Done::Committed(commit, fault)
            }));
        }
    }

    pub(super) fn committed(
        &mut self,
        mut commit: Commit,
        fault: Option<Fault>,
    ) -> Result<(), End> {
        if commit.is_refused {
            if self.leaving.is_none() {
                for alone in commit.split().into_iter().rev() {
                    self.commits.waiting.push_front(alone);
                }
            }
            self.commits.under_way = false;
            self.next_commit();
            self.end_revoke();
            return Ok(());
        }
        if let Some(fault) = fault {
            let pause = commit.next_pause();
            let is_over = commit
                .deadline
                .is_none_or(|deadline| Instant::now() + pause >= deadline);
            if !is_over {
                self.jobs.push(Box::pin(async move {
                    sleep(pause).await;
                    Done::CommitAgain(commit)
                }));
                return Ok(());
            }
            commit.fail(&fault);
        }
        // Another member has the instance id, and krafka does not take the heartbeat's word for it.
        let fenced = commit.results.iter().find_map(|(_, result)| match result {
            Err(fault) if fault.kafka_error == Some("FENCED_INSTANCE_ID") => Some(fault.clone()),
            _ => None,
        });
        self.answer(commit);
        self.commits.under_way = false;
        if let Some(fault) = fenced {
            return self.unreleased(fault);
        }
        self.next_commit();
        self.end_revoke();
        Ok(())
    }

    pub(super) fn answer(&mut self, commit: Commit) {
        let Commit {
            purpose,
            results,
            given,
            ..
        } = commit;
        for (partition, result) in &results {
            let held = self.held.get(partition);
            if let (Ok(at), Some(lag)) = (result, held.and_then(|held| held.lag.as_ref())) {
                lag.committed(*at);
            }
        }
        let token = match purpose {
            Purpose::Ordered(token) => token,
            purpose => {
                let landed = Done::Landed(purpose, results);
                self.jobs.push(Box::pin(std::future::ready(landed)));
                return;
            }
        };
        if results.iter().any(|(_, result)| result.is_ok()) {
            histogram!("kafka_commit_duration_seconds").record(given.elapsed());
        }
        self.tell(Event::Committed { token, results });
    }
}

fn too_late() -> Fault {
    Fault::new(
        FaultKind::TimedOut,
        "The commit waited too long behind others.",
    )
}
