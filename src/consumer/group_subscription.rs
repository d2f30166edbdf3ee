//! An instance that subscribes to topics: its member of the group, what that tells, and topics that
//! come and go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{ANSWER, AUTO_COMMIT, Happened, Instance, LAST_SETTLING, LEAVING, no_answer};
use super::{InstanceError, Source, TopicSelection};
use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, authorize, is_allowed, may_create};
use crate::auth::policy::{self, RecordVisibility};
use crate::kafka::Cluster;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::{self, Command, Event, Member, State, Token};
use crate::kafka::metadata::Right;
use crate::record::TopicPartition;

/// How soon topics are looked for again that are not there yet.
const MISSING: Duration = Duration::from_secs(1);
/// How soon it is looked again what a pattern finds.
const PATTERN: Duration = Duration::from_secs(30);
/// Longest wait of a command for the group to let the instance in.
const JOINING: Duration = Duration::from_secs(10);
/// How long the group may take to let the instance in before reads say what keeps it out.
const KEPT_OUT: Duration = Duration::from_secs(10);
/// Answers to commits that nobody waits for.
const NOBODYS: Token = 0;

/// What became of each offset of a commit, or of each seek.
pub(super) type Results = Vec<(TopicPartition, Result<i64, Fault>)>;

/// See the module.
pub(super) struct Subscribed {
    wanted: TopicSelection,
    /// Those of them that are there and may be read.
    topics: Vec<Arc<str>>,
    /// Those of these that were not there when the client subscribed.
    appeared: Vec<Arc<str>>,
    /// The client has subscribed, and what there is of that was not found yet.
    is_new: bool,
    looks_at: Option<Instant>,
    member: Option<Member>,
    /// The group has said which partitions are its own, and where they begin is known.
    joined: bool,
    /// Since when it has asked to be let in.
    joining_since: Instant,
    /// The group has given it a partition since.
    had_some: bool,
    /// What has kept it from being let in.
    kept_out: Option<Fault>,
    /// No broker answers.
    unreachable: Option<Fault>,
    /// Why there is no member any more, until somebody was told.
    failed: Option<Fault>,
    /// The member was told to hold back.
    paused: bool,
    last_token: Token,
    /// Answers that somebody waits for.
    answers: HashMap<Token, Option<Results>>,
}

/// What was found of the topics that are wanted.
struct Found {
    topics: Vec<Arc<str>>,
    /// Some may still come.
    is_complete: bool,
}

impl Subscribed {
    fn new(wanted: TopicSelection) -> Self {
        Self {
            wanted,
            topics: Vec::new(),
            appeared: Vec::new(),
            is_new: true,
            looks_at: None,
            member: None,
            joined: false,
            joining_since: Instant::now(),
            had_some: false,
            kept_out: None,
            unreachable: None,
            failed: None,
            paused: false,
            last_token: NOBODYS,
            answers: HashMap::new(),
        }
    }

    /// When the topics are to be looked at again.
    pub(super) fn looks_at(&self) -> Option<Instant> {
        self.looks_at
    }

    /// Whether records of the topic are still wanted.
    pub(super) fn wants(&self, topic: &str) -> bool {
        self.topics.iter().any(|wanted| **wanted == *topic)
    }

    /// Why nothing comes, where no broker answers.
    pub(super) fn unreachable(&self) -> Option<&Fault> {
        self.unreachable.as_ref()
    }

    /// Why nothing comes, where the group has not let the instance in for some time.
    pub(super) fn kept_out(&self) -> Option<Fault> {
        let waits = self.joining_since.elapsed();
        if self.joined || self.member.is_none() || waits < KEPT_OUT {
            return None;
        }
        let reason = match &self.kept_out {
            Some(fault) => fault.message.as_str(),
            None => "its coordinator has not answered",
        };
        Some(Fault {
            retriable: true,
            kafka_error: self.kept_out.as_ref().and_then(|fault| fault.kafka_error),
            ..Fault::new(
                FaultKind::Unavailable,
                format!(
                    "The group has not let the instance in for {} s: {reason}",
                    waits.as_secs()
                ),
            )
        })
    }

    /// Whether the group may soon let the instance in, or give it its first partitions: those may come a
    /// while after it is in.
    fn is_joining(&self) -> bool {
        let may_soon = self.unreachable.is_none() && self.joining_since.elapsed() < KEPT_OUT;
        self.member.is_some() && !self.had_some && may_soon
    }

    /// It has to ask to be let in.
    fn joins(&mut self) {
        self.joined = false;
        self.joining_since = Instant::now();
        self.had_some = false;
        self.kept_out = None;
    }

    /// Why the member ended; told once.
    pub(super) fn failure(&mut self) -> Option<Fault> {
        self.failed.take()
    }

    pub(super) fn has_member(&self) -> bool {
        self.member.is_some()
    }

    pub(super) async fn event(&mut self) -> Option<Event> {
        match &mut self.member {
            Some(member) => member.event().await,
            None => std::future::pending().await,
        }
    }

    fn tell(&self, command: Command) -> Result<(), Fault> {
        match &self.member {
            Some(member) => member.command(command),
            None => Err(Fault::new(
                FaultKind::NotFound,
                "The instance is not in the group.",
            )),
        }
    }
}

impl Instance {
    fn subscribed(&mut self) -> Option<&mut Subscribed> {
        match &mut self.source {
            Source::Subscribed(subscribed) => Some(subscribed),
            Source::Nowhere | Source::Assigned => None,
        }
    }

    // -- what the member tells

    /// Takes in what the member tells.
    pub(super) fn event(&mut self, event: Option<Event>) {
        let Source::Subscribed(subscribed) = &mut self.source else {
            return;
        };
        match event {
            Some(Event::State(state)) => match state {
                State::Active => subscribed.unreachable = None,
                State::Joining(fault) => {
                    if subscribed.joined {
                        subscribed.joins();
                    }
                    // What Kafka itself says may pass in a moment.
                    let (said, unreachable) = match fault {
                        Some(fault) if fault.kafka_error.is_some() => (Some(fault), None),
                        fault => (None, fault),
                    };
                    subscribed.unreachable = unreachable;
                    subscribed.kept_out = said;
                }
                State::Unavailable(fault) => subscribed.unreachable = Some(fault),
            },
            Some(Event::Assigned { added, .. }) => {
                subscribed.joined = true;
                subscribed.had_some |= !added.is_empty();
                subscribed.kept_out = None;
                let mut partitions = Vec::with_capacity(added.len());
                for one in added {
                    partitions.push(one.partition.clone());
                    self.buffer.place(one.partition, one.start, one.committed);
                }
                if subscribed.paused && !partitions.is_empty() {
                    // Told again with the next records if there is no room for it now.
                    subscribed.paused = subscribed.tell(Command::Pause(partitions)).is_ok();
                }
            }
            Some(Event::Records { records, next }) => {
                self.buffer.put(records, &next);
                self.keep_count();
                self.flow();
            }
            Some(Event::Gap { partition, to, .. }) => self.buffer.gap(&partition, to),
            Some(Event::Revoking {
                partitions,
                release,
            }) => {
                self.settle_now();
                self.revoked(&partitions);
                // What the client commanded before this is done before the partitions go.
                drop(release);
            }
            Some(Event::Lost(partitions)) => {
                for partition in &partitions {
                    self.buffer.remove(partition, None);
                }
                self.keep_count();
            }
            Some(Event::Committed { token, results }) => {
                for (partition, result) in &results {
                    match result {
                        Ok(offset) => self.buffer.committed(partition, *offset),
                        Err(fault) => {
                            tracing::debug!(group = self.options.group, "a commit failed: {fault}");
                        }
                    }
                }
                if let Some(answer) = subscribed.answers.get_mut(&token) {
                    *answer = Some(results);
                }
            }
            Some(Event::Seeked { token, results }) => {
                for (partition, result) in &results {
                    if let Ok(at) = result {
                        self.buffer.seek(partition, *at);
                    }
                }
                if let Some(answer) = subscribed.answers.get_mut(&token) {
                    *answer = Some(results);
                }
                self.keep_count();
            }
            Some(Event::Ends { .. }) => {}
            Some(Event::Ended(fault)) => self.ended(fault),
            None => self.ended(Some(Fault::new(
                FaultKind::Unavailable,
                "The membership in the group ended. Try again.",
            ))),
        }
    }

    fn ended(&mut self, fault: Option<Fault>) {
        let partitions = self.buffer.partitions();
        if let Some(subscribed) = self.subscribed() {
            subscribed.member = None;
            subscribed.joined = false;
            subscribed.paused = false;
            subscribed.unreachable = None;
            subscribed.failed = subscribed.failed.take().or(fault);
        }
        for partition in &partitions {
            self.buffer.remove(partition, None);
        }
        self.keep_count();
    }

    /// Partitions go: what was handled of them is committed first.
    fn revoked(&mut self, partitions: &[TopicPartition]) {
        let mut offsets = Vec::new();
        if self.options.auto_commit {
            offsets = self.buffer.handled();
            offsets.retain(|(partition, _)| partitions.contains(partition));
            self.commit_unwatched(offsets.clone());
        }
        let offsets: HashMap<TopicPartition, i64> = offsets.into_iter().collect();
        for partition in partitions {
            self.buffer
                .remove(partition, offsets.get(partition).copied());
        }
        self.keep_count();
    }

    /// Commits, and waits for nothing.
    pub(super) fn commit_unwatched(&mut self, offsets: Vec<(TopicPartition, i64)>) {
        if offsets.is_empty() {
            return;
        }
        let offsets = offsets
            .into_iter()
            .map(|(partition, offset)| (partition, offset, None))
            .collect();
        let command = Command::Commit {
            token: NOBODYS,
            offsets,
        };
        if let Some(subscribed) = self.subscribed()
            && let Err(fault) = subscribed.tell(command)
        {
            tracing::debug!("a commit was not taken: {fault}");
        }
    }

    /// How much may wait. The member goes on at half of it, which must still be all that a read waits
    /// for.
    fn most_waiting(&self) -> usize {
        self.ahead.max(self.wanted.saturating_mul(2))
    }

    /// Whether no more is to be read ahead.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.waiting_bytes() >= self.most_waiting()
    }

    /// Has the member hold back while enough waits, and go on when it does not.
    pub(super) fn flow(&mut self) {
        let most = self.most_waiting();
        let waiting = self.buffer.waiting_bytes();
        let Source::Subscribed(subscribed) = &mut self.source else {
            return;
        };
        let holds = if subscribed.paused {
            waiting >= most.div_ceil(2)
        } else {
            waiting >= most
        };
        if holds == subscribed.paused || subscribed.member.is_none() {
            return;
        }
        let partitions = self.buffer.partitions();
        let command = if holds {
            Command::Pause(partitions)
        } else {
            Command::Resume(partitions)
        };
        // What the member has no room for is told with the next chance.
        if subscribed.tell(command).is_ok() {
            subscribed.paused = holds;
        }
    }

    // -- topics

    /// Subscribes to topics in the place of those before.
    pub(super) async fn subscribe(&mut self, wanted: TopicSelection) -> Result<(), InstanceError> {
        if matches!(&wanted, TopicSelection::Names(names) if names.is_empty()) {
            return self.unsubscribe().await;
        }
        match &mut self.source {
            Source::Assigned => {
                return Err(InstanceError::IllegalState(
                    "partitions are assigned to this instance by hand; DELETE its subscription \
                     first to subscribe to topics"
                        .to_owned(),
                ));
            }
            Source::Subscribed(subscribed) => match (&subscribed.wanted, &wanted) {
                (TopicSelection::Names(_), TopicSelection::Names(_))
                | (TopicSelection::Pattern(_), TopicSelection::Pattern(_)) => {
                    subscribed.wanted = wanted;
                    subscribed.is_new = true;
                    subscribed.failed = None;
                }
                _ => {
                    return Err(InstanceError::IllegalState(
                        "this instance subscribes to a list of topics or to a pattern, and cannot \
                         change from one to the other; DELETE its subscription first"
                            .to_owned(),
                    ));
                }
            },
            Source::Nowhere => {
                self.source = Source::Subscribed(Box::new(Subscribed::new(wanted)));
                self.commit_at = self
                    .options
                    .auto_commit
                    .then(|| Instant::now() + AUTO_COMMIT);
            }
        }
        let looked = self.look().await;
        if looked.is_err()
            && let Some(subscribed) = self.subscribed()
            && subscribed.member.is_none()
            && subscribed.topics.is_empty()
        {
            // It was never in force.
            self.source = Source::Nowhere;
            self.commit_at = None;
        }
        looked
    }

    /// The topics that were asked for, or that the pattern finds.
    pub(super) fn subscription(&self) -> Vec<Arc<str>> {
        match &self.source {
            Source::Subscribed(subscribed) => match &subscribed.wanted {
                TopicSelection::Names(names) => names.clone(),
                TopicSelection::Pattern(_) => subscribed.topics.clone(),
            },
            Source::Nowhere | Source::Assigned => Vec::new(),
        }
    }

    /// Lets go of everything.
    pub(super) async fn unsubscribe(&mut self) -> Result<(), InstanceError> {
        let _ = self.settle(LAST_SETTLING).await;
        let offsets = self.buffer.delivered();
        self.leave(offsets).await;
        self.source = Source::Nowhere;
        self.buffer.clear();
        self.keep_count();
        self.commit_at = None;
        Ok(())
    }

    /// Which records of what the instance reads its principal is shown, if it may consume that: the one place
    /// in which every read is asked this.
    pub(super) async fn admitted(&mut self) -> Result<RecordVisibility, InstanceError> {
        if self.finds_by_pattern() {
            if !may_consume_all(&self.principal, &self.topics()) {
                self.look_now();
            }
            self.look_if_due().await;
        }
        let visibility = consumes(&self.principal, &self.topics())?;
        self.look_if_due().await;
        Ok(visibility)
    }

    /// Whether `principal` may consume all that the instance subscribes to, and all that the group has given
    /// to it and not taken back yet.
    pub(super) async fn permits(&mut self, principal: Principal) -> Result<(), InstanceError> {
        if self.finds_by_pattern() && !may_consume_all(&principal, &self.topics()) {
            self.principal = principal.clone();
            self.look_now();
            self.look_if_due().await;
        }
        let mut topics = self.topics();
        let given = self.buffer.partitions().into_iter();
        topics.extend(given.map(|partition| partition.topic));
        topics.sort();
        topics.dedup();
        consumes(&principal, &topics).map(drop)
    }

    fn finds_by_pattern(&self) -> bool {
        match &self.source {
            Source::Subscribed(subscribed) => {
                matches!(subscribed.wanted, TopicSelection::Pattern(_))
            }
            Source::Nowhere | Source::Assigned => false,
        }
    }

    /// What a pattern has found is not all the principal's to read any more: it is to be looked for anew.
    fn look_now(&mut self) {
        if let Some(subscribed) = self.subscribed() {
            subscribed.looks_at = Some(Instant::now());
        }
    }

    /// The topics that the instance reads, each once.
    pub(super) fn topics(&self) -> Vec<Arc<str>> {
        let mut topics: Vec<Arc<str>> = match &self.source {
            Source::Subscribed(_) => self.subscription(),
            Source::Assigned | Source::Nowhere => {
                let partitions = self.buffer.partitions().into_iter();
                partitions.map(|partition| partition.topic).collect()
            }
        };
        topics.dedup();
        topics
    }

    /// Looks for topics if it is time for it.
    pub(super) async fn look_if_due(&mut self) {
        let due = self.subscribed().and_then(|subscribed| subscribed.looks_at);
        if due.is_some_and(|at| at <= Instant::now())
            && let Err(refused) = self.look().await
        {
            tracing::debug!(
                group = self.options.group,
                "topics are looked for again: {refused}"
            );
        }
    }

    /// Finds the topics that are wanted, and lets the member know, or makes one.
    pub(super) async fn look(&mut self) -> Result<(), InstanceError> {
        let Some(subscribed) = self.subscribed() else {
            return Ok(());
        };
        let wanted = subscribed.wanted.clone();
        let cluster = Arc::clone(&self.cluster);
        let principal = self.principal.clone();
        let found = self.beside(find(&cluster, &wanted, &principal)).await;
        let now = Instant::now();
        let Some(subscribed) = self.subscribed() else {
            return Ok(());
        };
        let found = match found {
            Ok(found) => found,
            Err(refused) => {
                subscribed.looks_at = Some(now + MISSING);
                return Err(refused);
            }
        };
        subscribed.looks_at = match &subscribed.wanted {
            _ if !found.is_complete || found.topics.is_empty() => Some(now + MISSING),
            TopicSelection::Pattern(_) => Some(now + PATTERN),
            TopicSelection::Names(_) => None,
        };
        let is_changed = subscribed.topics != found.topics;
        let appeared = !std::mem::take(&mut subscribed.is_new);
        let before = std::mem::replace(&mut subscribed.topics, found.topics);
        let topics = &subscribed.topics;
        subscribed.appeared.retain(|topic| topics.contains(topic));
        if appeared {
            let new = topics.iter().filter(|topic| !before.contains(topic));
            subscribed.appeared.extend(new.cloned());
        }
        if subscribed.topics.is_empty() {
            if subscribed.member.is_some() {
                let offsets = self.buffer.handled();
                self.leave(offsets).await;
            }
            return Ok(());
        }
        if subscribed.member.is_some() {
            if is_changed {
                let topics = subscribed.topics.clone();
                subscribed.tell(Command::Subscribe { topics, appeared })?;
            }
            return Ok(());
        }
        self.join()
    }

    fn join(&mut self) -> Result<(), InstanceError> {
        let options = Arc::clone(&self.options);
        let cluster = Arc::clone(&self.cluster);
        let owner = Arc::clone(self.principal.identity());
        if let Some(subscribed) = self.subscribed() {
            let member = cluster.members.join(member::Options {
                owner: Some(owner),
                isolation: options.isolation,
                reset: options.reset,
                // Else nothing is committed but what the client commits itself.
                commit_starts: options.auto_commit,
                appeared: subscribed.appeared.clone(),
                ..member::Options::new(&*options.group, subscribed.topics.iter().cloned())
            })?;
            subscribed.member = Some(member);
            subscribed.joins();
            subscribed.paused = false;
        }
        Ok(())
    }

    /// Whether the group is still to let the instance in.
    pub(super) fn is_joining(&self) -> bool {
        match &self.source {
            Source::Subscribed(subscribed) => subscribed.is_joining(),
            Source::Nowhere | Source::Assigned => false,
        }
    }

    // -- answers of the member

    /// Waits until the group has let the instance in and given it partitions, or none, for a while.
    pub(super) async fn joined(&mut self) {
        let until = Instant::now() + JOINING;
        while self
            .subscribed()
            .is_some_and(|subscribed| subscribed.member.is_some() && !subscribed.joined)
        {
            if self.happened(until).await != Happened::Something {
                return;
            }
        }
    }

    /// Tells the member something, and waits for its answer. `what` is for the error.
    pub(super) async fn asked(
        &mut self,
        what: &str,
        command: impl FnOnce(Token) -> Command,
    ) -> Result<Results, InstanceError> {
        let Some(subscribed) = self.subscribed() else {
            return Ok(Vec::new());
        };
        subscribed.last_token += 1;
        let token = subscribed.last_token;
        subscribed.tell(command(token))?;
        subscribed.answers.insert(token, None);
        let until = Instant::now() + ANSWER;
        loop {
            let Some(subscribed) = self.subscribed() else {
                return Err(no_answer(what));
            };
            match subscribed.answers.get_mut(&token) {
                Some(answer @ Some(_)) => {
                    let results = answer.take().unwrap_or_default();
                    subscribed.answers.remove(&token);
                    return Ok(results);
                }
                _ if subscribed.member.is_none() => {
                    subscribed.answers.remove(&token);
                    let fault = subscribed.failed.clone();
                    return Err(fault.map_or_else(|| no_answer(what), InstanceError::from));
                }
                _ => {}
            }
            let event = super::next_event(&mut self.source);
            match timeout_at(until, event).await {
                Ok(event) => self.event(event),
                Err(_) => {
                    if let Some(subscribed) = self.subscribed() {
                        subscribed.answers.remove(&token);
                    }
                    return Err(no_answer(what));
                }
            }
        }
    }

    // -- the end

    /// Commits these offsets if the instance commits by itself, and leaves the group.
    pub(super) async fn leave(&mut self, offsets: Vec<(TopicPartition, i64)>) {
        let offsets = if self.options.auto_commit {
            offsets
        } else {
            Vec::new()
        };
        match &self.source {
            Source::Nowhere => {}
            Source::Assigned => self.commit_alone(offsets).await,
            Source::Subscribed(subscribed) if subscribed.member.is_none() => {}
            Source::Subscribed(_) => {
                self.commit_unwatched(offsets);
                let until = Instant::now() + LEAVING;
                let mut is_told = false;
                while let Some(subscribed) = self.subscribed()
                    && subscribed.member.is_some()
                {
                    is_told = is_told || subscribed.tell(Command::Leave { stay: false }).is_ok();
                    let event = super::next_event(&mut self.source);
                    match timeout_at(until, event).await {
                        Ok(event) => self.event(event),
                        Err(_) => break,
                    }
                }
                if let Some(subscribed) = self.subscribed() {
                    // One that did not leave in time does so in the background.
                    subscribed.member = None;
                    subscribed.failed = None;
                }
            }
        }
    }
}

/// Which records of these topics the principal is shown, if it may consume them.
fn consumes(principal: &Principal, topics: &[Arc<str>]) -> Result<RecordVisibility, InstanceError> {
    for topic in topics {
        authorize(principal, Action::Consume, Resource::Topic(topic))?;
    }
    Ok(policy::visibility(principal, topics)?)
}

fn may_consume_all(principal: &Principal, topics: &[Arc<str>]) -> bool {
    topics.iter().all(|topic| may_consume(principal, topic))
}

fn may_consume(principal: &Principal, topic: &str) -> bool {
    is_allowed(principal, Action::Consume, Resource::Topic(topic))
        && policy::may_see(principal, topic)
}

/// Which of the topics that are wanted there are.
async fn find(
    cluster: &Cluster,
    wanted: &TopicSelection,
    principal: &Principal,
) -> Result<Found, InstanceError> {
    let metadata = &cluster.metadata;
    let names = match wanted {
        TopicSelection::Names(names) => names,
        TopicSelection::Pattern(pattern) => {
            let all = metadata.topics().await?;
            let topics = all
                .iter()
                .filter(|topic| !topic.internal && pattern.matches(&topic.name))
                .map(|topic| Arc::clone(&topic.name))
                .filter(|name| may_consume(principal, name))
                .collect();
            return Ok(Found {
                topics,
                is_complete: true,
            });
        }
    };
    let mut found = Found {
        topics: Vec::with_capacity(names.len()),
        is_complete: true,
    };
    for (index, name) in names.iter().enumerate() {
        let known = async {
            let may_create = may_create(principal, name);
            let topic = metadata.topic_to_use(name, may_create).await?;
            metadata.granted(topic, Right::Read).await
        };
        match known.await {
            Ok(topic) => found.topics.push(Arc::clone(&topic.name)),
            // It may come: Confluent REST Proxy takes it, too.
            Err(fault) if fault.kind == FaultKind::UnknownTopic => found.is_complete = false,
            Err(fault) => {
                return Err(InstanceError::Kafka(
                    fault,
                    Some(format!("/topics/{index}")),
                ));
            }
        }
    }
    Ok(found)
}
