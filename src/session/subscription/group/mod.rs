//! A group subscription: what its member of the group tells, what the client acknowledges, and the
//! commits between the two. A state machine without I/O: it says what is to be sent and what the
//! member is to be told, and is told what came of it.
//!
//! - `mod.rs`: what a subscription is made of
//! - `member_events.rs`: what the member tells
//! - `revocation.rs`: partitions that go, and the end
//! - `ack.rs`: `ack`, `nack`, `extend`
//! - `commands.rs`: what else the client wants
//! - `sending.rs`: records that go out
//! - `dead_letters.rs`: dead letters on their way
//! - `options.rs`: its options
//! - `time.rs`: what time brings about

mod ack;
mod commands;
mod dead_letters;
mod member_events;
pub mod options;
mod revocation;
mod sending;
mod time;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use self::options::Options;
use self::revocation::{Going, Leaving};

use crate::auth::policy::RecordVisibility;
use crate::delivery::{DeadLetterId, Ledger};
use crate::kafka::fault::Fault;
use crate::kafka::member::{self, Command, Token};
use crate::record::TopicPartition;
use crate::session::effect::Effect;
use crate::session::protocol::server::{Error, Offset, ServerFrame, State, StateName};
use crate::session::protocol::{Id, Partition};
use crate::session::static_members::Foreign;
use crate::session::subscription::SessionContext;
use crate::session::subscription::options::Topics;

/// Why a subscription ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The client asked for it, with this id.
    Unsubscribe(Option<Id>),
    /// It lost a right.
    Forbidden,
    /// The session ends.
    Session,
}

/// What became of a subscription that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// It ended as it was to.
    Ended(Ending),
    /// Kafka ended it.
    Failed(Fault),
    /// It was to be a static member that is another principal's.
    Refused(Foreign),
}

/// What an answer from Kafka is for.
#[derive(Debug)]
enum Waiting {
    /// A commit that time brought about.
    Interval,
    /// A `commit` frame, with the partitions that it is about and nothing new was to be committed of.
    Commit(Option<Id>, Vec<TopicPartition>),
    /// The commit before partitions go.
    Revoke,
    /// The commit before the subscription ends.
    Last,
    Seek(Option<Id>, Vec<TopicPartition>),
    Position(Option<Id>),
}

/// The subscription.
#[derive(Debug)]
pub struct Group {
    options: Options,
    topics: Vec<Arc<str>>,
    /// Which records of them the principal is shown.
    visibility: RecordVisibility,
    ledger: Ledger,
    epoch: u64,
    /// The last change took partitions away: those that come with it have the same number.
    taken_away: bool,
    state: Option<StateName>,
    /// The last `state` had a detail.
    detailed: bool,
    /// The client was told that partitions stand still for their gap.
    gapped: bool,
    /// The member was ordered; a pattern that matches nothing yet waits.
    joined: bool,
    starts: HashMap<TopicPartition, i64>,
    going: Option<Going>,
    leaving: Option<(Leaving, Ending)>,
    waiting: HashMap<Token, Waiting>,
    /// `commit` frames that found all of theirs under way, and the last commit that is.
    behind: Vec<(Token, Option<Id>, Vec<TopicPartition>)>,
    /// Partitions that went while commits were under way, and the last of these: what comes of them is
    /// not theirs any more.
    handed_on: HashMap<TopicPartition, Token>,
    next_token: Token,
    next_commit: Instant,
    dead_letters: HashSet<DeadLetterId>,
    /// Those that could not be written and are tried again.
    failing: HashSet<DeadLetterId>,
    /// Since when a frame waits for more records.
    lingers: Option<Instant>,
    /// It has waited long enough, and goes as soon as it can.
    lingered: bool,
    counted: Counted,
}

/// What is counted for the metrics, until it is taken.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Records delivered.
    pub delivered: u64,
    /// Of them, again.
    pub redelivered: u64,
    /// Records acknowledged by the client, one by one or in ranges, counted by frame.
    pub acks: u64,
    /// Records that could not be handled.
    pub nacks: u64,
    /// Records that were not acknowledged in time.
    pub expired: u64,
    /// Dead letters written.
    pub dead_letters: u64,
    /// Changes of the assignment.
    pub rebalances: u64,
}

impl SessionContext<'_> {
    fn tell(&mut self, command: Command) {
        self.effects.push(Effect::Command(command));
    }
}

fn wire(partition: &TopicPartition) -> Partition {
    Partition {
        topic: partition.topic.to_string(),
        partition: partition.partition,
    }
}

fn wires(partitions: &[TopicPartition]) -> Vec<Partition> {
    partitions.iter().map(wire).collect()
}

fn offset(partition: &TopicPartition, offset: i64) -> Offset {
    Offset {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        offset,
    }
}

impl Group {
    /// A subscription to `topics`, whose member is being made; tags begin with `first_tag`.
    pub fn new(
        options: Options,
        topics: Vec<Arc<str>>,
        visibility: RecordVisibility,
        first_tag: u64,
        now: Instant,
    ) -> Self {
        Self {
            ledger: Ledger::new(options.policy.clone(), first_tag),
            topics,
            visibility,
            epoch: 0,
            taken_away: false,
            state: None,
            detailed: false,
            gapped: false,
            joined: false,
            starts: HashMap::new(),
            going: None,
            leaving: None,
            waiting: HashMap::new(),
            behind: Vec::new(),
            handed_on: HashMap::new(),
            next_token: 1,
            next_commit: now + options.commit_interval,
            dead_letters: HashSet::new(),
            failing: HashSet::new(),
            lingers: None,
            lingered: false,
            counted: Counted::default(),
            options,
        }
    }

    /// What the client calls it by.
    pub fn name(&self) -> &str {
        &self.options.common.sub
    }

    /// The group.
    pub fn group(&self) -> &str {
        &self.options.group
    }

    /// Of a static member.
    pub fn instance_id(&self) -> Option<&str> {
        self.options.instance_id.as_deref()
    }

    /// Its topics now.
    pub fn topics(&self) -> &[Arc<str>] {
        &self.topics
    }

    /// Which records of them are shown.
    pub fn sees(&self) -> &RecordVisibility {
        &self.visibility
    }

    /// Which topics were asked for.
    pub fn asked(&self) -> &Topics {
        &self.options.topics
    }

    /// The first tag that a later subscription may give.
    pub fn next_tag(&self) -> u64 {
        self.ledger.next_tag()
    }

    /// Bytes of records that are kept.
    pub fn held_bytes(&self) -> u64 {
        self.ledger.held_bytes()
    }

    /// Records with the client.
    pub fn in_flight(&self) -> u64 {
        self.ledger.in_flight().0
    }

    /// What is committed of each partition, as far as is known.
    pub fn last_committed(&self) -> Vec<Offset> {
        let places = self.ledger.places().into_iter();
        places
            .filter_map(|place| Some(offset(&place.partition, place.committed?)))
            .collect()
    }

    /// Whether it is about to end.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// What was counted since this was last asked.
    pub fn counted(&mut self) -> Counted {
        std::mem::take(&mut self.counted)
    }

    /// Divides what may be in flight by two to this power, while memory is short.
    pub fn set_pressure(&mut self, pressure: u32) {
        self.ledger.set_pressure(pressure);
    }

    /// Whether all that the client has is acknowledged and nothing waits for Kafka.
    pub fn is_quiet(&self) -> bool {
        self.ledger.in_flight().0 == 0 && self.dead_letters.is_empty() && self.going.is_none()
    }

    fn token(&mut self, waiting: Waiting) -> Token {
        let token = self.next_token;
        self.next_token += 1;
        self.waiting.insert(token, waiting);
        token
    }

    fn state(
        &mut self,
        state: StateName,
        detail: Option<String>,
        context: &mut SessionContext<'_>,
    ) {
        let clears = self.detailed && !self.gapped && self.failing.is_empty();
        if self.state == Some(state) && detail.is_none() && !clears {
            return;
        }
        self.state = Some(state);
        self.detailed = detail.is_some();
        context.send(&ServerFrame::State(State {
            sub: self.options.common.sub.clone(),
            state,
            since: context.clock.wall(context.now),
            detail,
            partitions: None,
        }));
    }

    /// What a `state` told in its detail may be over.
    pub(super) fn settle_state(&mut self, context: &mut SessionContext<'_>) {
        let told = self.gapped || !self.failing.is_empty();
        self.gapped &= self.ledger.has_told_gaps();
        self.failing.retain(|id| self.ledger.is_dead_lettering(*id));
        if told && !self.gapped && self.failing.is_empty() && self.leaving.is_none() {
            self.state(self.state.unwrap_or(StateName::Active), None, context);
        }
    }

    /// Becomes a member, unless there is no topic yet to be one for. Those that `appeared` were not there
    /// when the client subscribed.
    pub fn join(&mut self, appeared: bool, context: &mut SessionContext<'_>) {
        if self.topics.is_empty() {
            let detail = "no topic matches the pattern yet that you may consume; it is looked up again \
                          every 5 s";
            return self.state(StateName::Joining, Some(detail.to_owned()), context);
        }
        self.joined = true;
        context.effects.push(Effect::Join(Box::new(member::Options {
            group: self.options.group.clone(),
            // The session's driver knows.
            owner: None,
            instance_id: self.options.instance_id.clone(),
            topics: self.topics.clone(),
            isolation: self.options.isolation,
            from: self.options.from.clone(),
            reset: self.options.reset,
            commit_starts: true,
            appeared: if appeared {
                self.topics.clone()
            } else {
                Vec::new()
            },
        })));
    }

    /// The topics that the pattern matches have changed.
    pub fn retopic(
        &mut self,
        topics: Vec<Arc<str>>,
        visibility: RecordVisibility,
        context: &mut SessionContext<'_>,
    ) {
        if self.leaving.is_none() && topics != self.topics && !topics.is_empty() {
            self.visibility = visibility;
            self.topics.clone_from(&topics);
            if self.joined {
                // Whatever the pattern finds now was not there before, or not to be seen.
                context.tell(Command::Subscribe {
                    topics,
                    appeared: true,
                });
            } else {
                self.join(true, context);
            }
        }
    }

    /// Of topics that the group gave up, these are not there any more.
    pub fn missing(&mut self, topics: &[Arc<str>], context: &mut SessionContext<'_>) {
        if self.leaving.is_some() {
            return;
        }
        for topic in topics {
            if self.ledger.partitions().any(|held| held.topic == *topic) {
                continue;
            }
            context.send(&ServerFrame::Error(Error {
                sub: Some(self.options.common.sub.clone()),
                ..Error::new(
                    "topic_not_found",
                    format!(
                        "topic {topic} was deleted; the subscription goes on with its others, and \
                         with this one once it is there again"
                    ),
                )
            }));
        }
    }
}
