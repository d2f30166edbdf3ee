//! A session with its member and its socket: what the state machine wants done is done here, and
//! what came of it is told to it. One task for each socket; nothing here decides anything.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::Services;
use super::effect::{Effect, TailEffect};
use super::followers::{self, Followed};
use super::machine::Session;
use super::subscription::options::Topics;
use super::subscription::tail::open_tail::{self, Opened, Seek};
use crate::auth::audit_context::AuditContext;
use crate::auth::permission::may_create;
use crate::auth::standing::Changes;
use crate::auth::{Credential, Principal};
use crate::delivery::DeadLetterId;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::{self, Command, Event, Member};
use crate::kafka::metadata::Right;
use crate::kafka::producer::Outcome;
use crate::kafka::tail::Follower;
use crate::kafka::{Cluster, Watermarks};
use crate::passthrough::{KafkaClients, NoClients};
use crate::reader_options::Isolation;
use crate::record::ProducerRecord;
use crate::session::protocol::Id;
use crate::session::protocol::close::Close;
use crate::session::protocol::server::Error;
use crate::session::registry::Permit;
use crate::session::socket::{self, Driver, End, Limits};
use crate::session::static_members::Claim;
use crate::transport::connection::Connection;
use crate::write::{OnInvalid, PendingBatch, WriteError};

/// Longest wait for a session that had the same static member.
const TAKEOVER: Duration = Duration::from_secs(12);
/// Longest time after its socket for a session to commit, to leave, and to hand over its records.
const LAST_STEPS: Duration = Duration::from_secs(12);

/// How often, and with which pause, it is looked whether a topic is gone: the brokers do not all learn
/// of it at once.
const LOOKS: u32 = 3;
const LOOK_PAUSE: Duration = Duration::from_secs(2);

/// What came of something that was begun.
enum Done {
    Authenticated(Result<(Principal, Arc<KafkaClients>), Unserved>),
    Resolved(u64, Result<Vec<Arc<str>>, Fault>),
    Looked(Looked),
    Join(Box<member::Options>),
    Produced(u64, Result<Vec<Outcome>, WriteError>),
    DeadLettered(DeadLetterId, Option<Fault>),
    Opened(u64, Result<Box<Opened>, Box<Error>>),
    Sought(u64, Option<Id>, Vec<(Seek, Result<i64, Fault>)>),
    Ends(u64, Option<Id>, Vec<(Arc<str>, Vec<Watermarks>)>),
}

/// Why nobody is served who has shown something.
enum Unserved {
    Refused(String),
    /// It is known who it is, but there are no Kafka clients for it.
    Clients(NoClients),
}

/// How a session ends for which there are no Kafka clients.
const fn without_clients(why: &NoClients) -> Close {
    match why {
        NoClients::NoToken => Close::Forbidden,
        NoClients::Expiring | NoClients::Unusable(_) | NoClients::Refused => Close::Unauthenticated,
        NoClients::Full => Close::Overloaded,
        NoClients::Kafka(_) => Close::KafkaUnavailable,
    }
}

/// Which topics are gone that a group gave up.
struct Looked {
    missing: Vec<Arc<str>>,
    /// The others, as far as is known.
    there: Vec<Arc<str>>,
    /// How often it was looked.
    looks: u32,
}

/// Records that wait for those before them to be handed over.
struct Queued {
    ticket: u64,
    principal: Principal,
    topic: String,
    records: Vec<ProducerRecord>,
}

type Beginning = BoxFuture<'static, (u64, Result<PendingBatch, WriteError>)>;

/// A session at work.
pub struct SessionDriver {
    session: Session,
    services: Arc<Services>,
    /// Those of whoever's session it is; the gateway's own until that is known, and nothing is done then.
    clients: Arc<KafkaClients>,
    /// Whose request the upgrade was.
    audit_context: AuditContext,
    /// Tells when the session is to be judged again.
    changes: Changes,
    permit: Permit,
    peer: Option<SocketAddr>,
    began: Instant,
    /// The pressure that the session was told of.
    pressure: u32,
    draining: watch::Receiver<Option<Duration>>,
    drained: bool,
    claim: Option<Claim>,
    /// Another session has claimed it, and this one has been told.
    taken: bool,
    member: Option<Member>,
    tails: Vec<Followed>,
    /// Which of their followers is looked at first.
    turn: usize,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    queue: VecDeque<Queued>,
    beginning: Option<Beginning>,
    in_flight: u64,
    subscribed: bool,
    /// Tails that have been counted.
    tailing: usize,
    delivered: u64,
    produced: u64,
}

impl std::fmt::Debug for SessionDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionDriver")
            .field("session", &self.session.id())
            .finish_non_exhaustive()
    }
}

impl SessionDriver {
    /// `session` with `services` and the `clients` of its principal, in its `permit`, with a client at `peer`.
    pub fn new(
        session: Session,
        services: Arc<Services>,
        clients: Arc<KafkaClients>,
        audit_context: AuditContext,
        permit: Permit,
        peer: Option<SocketAddr>,
    ) -> Self {
        let draining = services.sessions.draining();
        let mut run = Self {
            changes: services.auth.changes(),
            session,
            services,
            clients,
            audit_context,
            permit,
            peer,
            began: Instant::now(),
            pressure: 0,
            draining,
            drained: false,
            claim: None,
            taken: false,
            member: None,
            tails: Vec::new(),
            turn: 0,
            work: FuturesUnordered::new(),
            queue: VecDeque::new(),
            beginning: None,
            in_flight: 0,
            subscribed: false,
            tailing: 0,
            delivered: 0,
            produced: 0,
        };
        run.apply();
        run
    }

    /// Serves the session over its socket to the end of both. In a box: as a value it would stand twice in
    /// the task of each connection, as what the future is given and as what it works with.
    pub async fn serve<T>(mut self: Box<Self>, stream: T, wire: &Connection, limits: Limits)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        tracing::info!(
            session = self.session.id(),
            peer = self.peer.map(tracing::field::display),
            principal = self.session.principal().map(Principal::name),
            "a WebSocket session begins"
        );
        let cut = self.services.sessions.is_cut();
        let end = tokio::select! {
            end = socket::run(stream, wire, &mut *self, limits) => end,
            () = cut.cancelled() => {
                wire.abort();
                End::Lost
            }
        };
        self.say_end(end);
        // Boxed, so that a session has no room in it for its end all along.
        cut.run_until_cancelled(Box::pin(self.finish())).await;
    }

    fn say_end(&self, end: End) {
        let (code, reason) = match end {
            End::Driver(close) | End::Socket(close) => (close.code, close.name),
            End::Peer(code) => (code.unwrap_or(1005), "the client closed"),
            End::Lost => (1006, "the connection was lost"),
        };
        let detail = self.session.end().map(|closing| closing.message.as_str());
        metrics::counter!("websocket_closes_total", "code" => counted_code(code)).increment(1);
        tracing::info!(
            session = self.session.id(),
            principal = self.session.principal().map(Principal::name),
            code,
            reason,
            detail,
            seconds = self.began.elapsed().as_secs(),
            delivered = self.delivered,
            produced = self.produced,
            "a WebSocket session ends"
        );
    }

    /// Changes the session and does what follows from it.
    fn with<T>(&mut self, act: impl FnOnce(&mut Session, std::time::Instant) -> T) -> T {
        let result = act(&mut self.session, Instant::now().into_std());
        self.apply();
        result
    }

    /// Waits until something has happened elsewhere and takes it in. Nothing is lost when it is
    /// dropped.
    async fn happened(&mut self) {
        tokio::select! {
            event = next_event(&mut self.member) => self.member_event(event),
            came = followers::next(&mut self.tails, &self.session, &mut self.turn),
                if !self.tails.is_empty() =>
            {
                let now = Instant::now().into_std();
                followers::take_in(&self.tails, &mut self.session, came, now);
            }
            Some(done) = self.work.next(), if !self.work.is_empty() => self.done(done),
            (ticket, begun) = begun(&mut self.beginning) => {
                self.beginning = None;
                match begun {
                    Ok(begun) => self.work.push(Box::pin(async move {
                        Done::Produced(ticket, Ok(begun.outcomes().await))
                    })),
                    Err(rejected) => self.done(Done::Produced(ticket, Err(rejected))),
                }
            }
            () = self.changes.wait() => self.judge(),
            grace = told_to_drain(&mut self.draining, self.drained) => {
                self.drained = true;
                // Another moment for each, so that they do not come to the next process at once.
                let most = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                let after = Duration::from_millis(fastrand::u64(0..=most));
                // Where the tails stand is told.
                self.look(None);
                self.with(|session, now| session.drain(grace, after, now));
            }
            // Once: it stays taken, and a loop that hears of it each time would never sleep.
            () = taken(self.claim.as_ref()), if !self.taken => {
                self.taken = true;
                self.with(|session, now| {
                    session.close(
                        Close::TakenOver,
                        "another session has the same instance id now",
                        now,
                    );
                });
            }
        }
        self.apply();
    }

    /// Has the session judged again, where something has changed.
    fn judge(&mut self) {
        if self.changes.came() {
            self.with(Session::rights_changed);
        }
    }

    fn member_event(&mut self, event: Option<Event>) {
        let event = event.unwrap_or_else(|| {
            Event::Ended(Some(Fault::new(
                FaultKind::Unavailable,
                "The membership in the group ended.",
            )))
        });
        let ended = matches!(event, Event::Ended(_));
        self.session.member(event, Instant::now().into_std());
        if ended {
            self.member = None;
            self.claim = None;
        }
    }

    fn done(&mut self, done: Done) {
        let now = Instant::now().into_std();
        match done {
            Done::Authenticated(found) => {
                let found = match found {
                    Ok((principal, clients)) => {
                        if let Err(full) = self.permit.belongs_to(principal.identity()) {
                            let close = Close::LimitExceeded;
                            return self.session.close(close, full.to_string(), now);
                        }
                        // Another subject's is refused, and the session goes on as whose it was.
                        let known = self.session.principal().map(Principal::identity);
                        if known.is_none_or(|known| known == principal.identity()) {
                            self.clients = clients;
                        }
                        Ok(principal)
                    }
                    Err(Unserved::Refused(message)) => Err(message),
                    Err(Unserved::Clients(why)) => {
                        let close = without_clients(&why);
                        return self.session.close(close, why.to_string(), now);
                    }
                };
                self.session.authenticated(found, now);
            }
            Done::Resolved(ticket, found) => self.session.resolved(ticket, found, now),
            Done::Looked(looked) => {
                self.session.missing(&looked.missing, now);
                if !looked.there.is_empty() && looked.looks < LOOKS {
                    self.look_for(looked.there, looked.looks);
                }
            }
            Done::Join(options) => self.join(*options),
            Done::Produced(ticket, outcome) => self.session.produced(ticket, outcome, now),
            Done::DeadLettered(id, fault) => {
                self.session.dead_lettered(id, fault.as_ref(), now);
            }
            Done::Opened(id, found) => {
                let (found, followed) = match found {
                    Ok(opened) => {
                        let (begun, followed) = Followed::new(id, *opened);
                        (Ok(begun), Some(followed))
                    }
                    Err(error) => (Err(*error), None),
                };
                if self.session.tail_opened(id, found, now) {
                    self.tails.reserve_exact(1);
                    self.tails.extend(followed);
                }
            }
            Done::Sought(id, request, results) => {
                // First they go there, then the client hears that they are there.
                for (seek, result) in &results {
                    if let Ok(offset) = result
                        && let Some(follower) = self.follower(id, seek.index)
                    {
                        follower.seek(&[(seek.partition, *offset)]);
                    }
                }
                self.session.tail_sought(id, request, &results, now);
            }
            Done::Ends(id, request, found) => {
                self.look(Some(id));
                self.session.tail_ends(id, request, &found, now);
            }
        }
    }

    /// Does what the session wants done.
    fn apply(&mut self) {
        loop {
            let effects = self.session.effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.begin(effect);
            }
        }
        if self.tails.len() > self.session.tails() {
            let session = &self.session;
            self.tails.retain(|tail| session.tail(tail.id()).is_some());
        }
        if self.beginning.is_none()
            && let Some(next) = self.queue.pop_front()
        {
            let clients = Arc::clone(&self.clients);
            self.beginning = Some(Box::pin(async move {
                let Queued {
                    ticket,
                    principal,
                    topic,
                    records,
                } = next;
                let begun = clients
                    .writer
                    .begin(&principal, &topic, records, OnInvalid::RejectRecord)
                    .await;
                (ticket, begun)
            }));
        }
        self.count();
    }

    fn begin(&mut self, effect: Effect) {
        let (services, clients) = (Arc::clone(&self.services), Arc::clone(&self.clients));
        match effect {
            Effect::Authenticate(token) => {
                let audit_context = self.audit_context.clone();
                self.work.push(Box::pin(async move {
                    let credential = Credential::Token(&token);
                    let found = services.auth.authenticate(credential, &audit_context).await;
                    let found = match found {
                        Ok(principal) => match services.kafka.of(&principal).await {
                            Ok(clients) => Ok((principal, clients)),
                            Err(why) => Err(Unserved::Clients(why)),
                        },
                        Err(refused) => Err(Unserved::Refused(refused.to_string())),
                    };
                    Done::Authenticated(found)
                }));
            }
            Effect::Resolve(ticket, topics) => {
                let principal = self.session.principal().cloned();
                self.work.push(Box::pin(async move {
                    let found = resolve(&clients.cluster, principal.as_ref(), &topics).await;
                    Done::Resolved(ticket, found)
                }));
            }
            Effect::LookFor(topics) => self.look_for(topics, 0),
            Effect::Join(options) => self.claim_and_join(options),
            Effect::Command(command) => self.tell(command),
            Effect::Produce {
                ticket,
                topic,
                records,
            } => {
                if let Some(principal) = self.session.principal() {
                    self.queue.push_back(Queued {
                        ticket,
                        principal: principal.clone(),
                        topic,
                        records,
                    });
                }
            }
            Effect::DeadLetter {
                id,
                topic,
                own,
                record,
            } => {
                let principal = self.session.principal().cloned();
                self.work.push(Box::pin(async move {
                    let fault =
                        dead_letter(&services, &clients, principal, &topic, own, record).await;
                    Done::DeadLettered(id, fault)
                }));
            }
            Effect::Tail(id, effect) => self.begin_for_tail(id, effect),
        }
    }

    /// Looks whether topics are still there, after so many looks before.
    fn look_for(&mut self, topics: Vec<Arc<str>>, before: u32) {
        let metadata = self.clients.cluster.metadata.clone();
        self.work.push(Box::pin(async move {
            if before > 0 {
                sleep(LOOK_PAUSE).await;
            }
            // It comes by name. Without an answer it is not known that one is gone.
            let all = metadata.topics().await.ok();
            let is_missing = |name: &Arc<str>| {
                let all = all.as_ref();
                all.is_some_and(|all| all.binary_search_by(|topic| topic.name.cmp(name)).is_err())
            };
            let (missing, there) = topics.into_iter().partition(is_missing);
            Done::Looked(Looked {
                missing,
                there,
                looks: before + 1,
            })
        }));
    }

    fn begin_for_tail(&mut self, id: u64, effect: TailEffect) {
        let (services, clients) = (Arc::clone(&self.services), Arc::clone(&self.clients));
        match effect {
            TailEffect::Open(ask) => self.work.push(Box::pin(async move {
                let found = open_tail::open(&clients.cluster, &services.streams, *ask).await;
                Done::Opened(id, found.map(Box::new).map_err(Box::new))
            })),
            TailEffect::Hold {
                index,
                held,
                rewound,
            } => {
                if let Some(follower) = self.follower(id, index) {
                    follower.seek(&rewound);
                    follower.hold(held);
                }
            }
            TailEffect::Look => self.look(Some(id)),
            TailEffect::Seek(request, seeks) => {
                let Some(isolation) = self.isolation(id) else {
                    return;
                };
                self.work.push(Box::pin(async move {
                    let results = open_tail::seek(&clients.cluster, isolation, seeks).await;
                    Done::Sought(id, request, results)
                }));
            }
            TailEffect::Ends(request, topics) => {
                let Some(isolation) = self.isolation(id) else {
                    return;
                };
                self.work.push(Box::pin(async move {
                    let found = open_tail::ends(&clients.cluster, isolation, topics).await;
                    Done::Ends(id, request, found)
                }));
            }
        }
    }

    /// Sees how far the followers of all tails have come, or those of one.
    fn look(&mut self, of: Option<u64>) {
        let now = Instant::now().into_std();
        followers::look(&mut self.tails, &mut self.session, of, now);
    }

    /// The follower of a tail's topic.
    fn follower(&mut self, id: u64, index: usize) -> Option<&mut Follower> {
        let followed = self.tails.iter_mut().find(|tail| tail.id() == id)?;
        followed.follower(index)
    }

    /// What a tail that is still there sees of transactions.
    fn isolation(&self, id: u64) -> Option<Isolation> {
        let followed = self.tails.iter().find(|tail| tail.id() == id)?;
        followed.isolation()
    }

    fn claim_and_join(&mut self, options: Box<member::Options>) {
        let Some(instance) = &options.instance_id else {
            return self.join(*options);
        };
        let claims = self.services.sessions.claims();
        let Some(principal) = self.session.principal() else {
            let nobody = Fault::new(FaultKind::NotAuthorized, "nobody is known");
            let now = Instant::now().into_std();
            return self.session.not_joined(nobody, now);
        };
        let claimed = claims.claim(&options.group, instance, principal.identity());
        let (claim, before) = match claimed {
            Ok(claimed) => claimed,
            Err(foreign) => {
                let now = Instant::now().into_std();
                return self.session.instance_refused(&foreign, now);
            }
        };
        self.claim = Some(claim);
        self.taken = false;
        match before {
            None => self.join(*options),
            Some(gone) => self.work.push(Box::pin(async move {
                // Kafka refuses the second one for as long as the first is there; if that lasts,
                // Kafka's own words say so.
                let _ = timeout(TAKEOVER, gone.cancelled()).await;
                Done::Join(options)
            })),
        }
    }

    fn join(&mut self, mut options: member::Options) {
        let principal = self.session.principal();
        options.owner = principal.map(|principal| Arc::clone(principal.identity()));
        if self.session.is_closed() || self.session.group().is_none_or(|g| g.is_leaving()) {
            let ended = Event::Ended(None);
            return self.session.member(ended, Instant::now().into_std());
        }
        match self.clients.cluster.members.join(options) {
            Ok(member) => self.member = Some(member),
            Err(fault) => self.session.not_joined(fault, Instant::now().into_std()),
        }
    }

    fn tell(&mut self, command: Command) {
        let leaves = matches!(command, Command::Leave { .. });
        let Some(member) = &self.member else {
            if leaves {
                // It never joined.
                let ended = Event::Ended(None);
                self.session.member(ended, Instant::now().into_std());
            }
            return;
        };
        if let Err(fault) = member.command(command)
            && fault.kind == FaultKind::QueueFull
        {
            // It takes what one session may ask for; something is wrong with it.
            self.session
                .close(Close::Internal, fault.message, Instant::now().into_std());
        }
    }

    /// Hands what was counted to the metrics.
    fn count(&mut self) {
        let in_flight = self.session.group().map_or(0, |group| group.in_flight());
        if in_flight != self.in_flight {
            let gauge = metrics::gauge!("websocket_records_in_flight");
            // Far below what a float holds exactly.
            #[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
            let difference = in_flight as f64 - self.in_flight as f64;
            gauge.increment(difference);
            self.in_flight = in_flight;
        }
        let subscribed = self.session.group().is_some();
        if subscribed != self.subscribed {
            self.subscribed = subscribed;
            let gauge = metrics::gauge!("websocket_subscriptions", "mode" => "group");
            gauge.increment(if subscribed { 1.0 } else { -1.0 });
        }
        let tailing = self.session.tails();
        if tailing != self.tailing {
            #[expect(clippy::cast_precision_loss, reason = "16 at most")]
            let difference = tailing as f64 - self.tailing as f64;
            metrics::gauge!("websocket_subscriptions", "mode" => "tail").increment(difference);
            self.tailing = tailing;
        }
        let pressure = self.permit.holds(self.session.held_bytes());
        if pressure != self.pressure {
            self.pressure = pressure;
            self.session.set_pressure(pressure);
        }
        let (counted, produced) = self.session.counted();
        self.delivered += counted.delivered;
        self.produced += produced;
        let all = [
            ("websocket_records_delivered_total", counted.delivered),
            ("websocket_records_redelivered_total", counted.redelivered),
            ("websocket_acks_total", counted.acks),
            ("websocket_nacks_total", counted.nacks),
            ("websocket_ack_timeouts_total", counted.expired),
            ("websocket_dead_letters_total", counted.dead_letters),
            ("websocket_records_produced_total", produced),
        ];
        for (name, count) in all {
            if count > 0 {
                metrics::counter!(name).increment(count);
            }
        }
    }

    /// The socket is gone: commits what is acknowledged, leaves the group, hands over what was to be
    /// written; all within a bound.
    async fn finish(mut self) {
        let end = Instant::now() + LAST_STEPS;
        self.with(|session, now| session.lost(now));
        while !(self.session.is_over() && self.queue.is_empty() && self.beginning.is_none()) {
            let tick = self.session.next_tick().map(Instant::from_std);
            let wake = tick.unwrap_or(end).min(end);
            tokio::select! {
                () = self.happened() => {}
                () = sleep_until(wake) => {}
            }
            if Instant::now() >= end {
                tracing::warn!(
                    session = self.session.id(),
                    "a session's last steps were not finished in time"
                );
                break;
            }
            self.with(|session, now| session.tick(now));
        }
    }
}

impl Driver for SessionDriver {
    fn is_known(&self) -> bool {
        self.session.principal().is_some()
    }

    fn text(&mut self, text: Utf8Bytes, _: Instant) {
        let text = Bytes::from(text);
        self.with(|session, now| session.text(&text, now));
    }

    fn next_frame(&mut self, room: usize, now: Instant) -> Option<Bytes> {
        // Before the next record is shown.
        self.judge();
        let frame = self.session.next_frame(room, now.into_std());
        self.apply();
        frame
    }

    fn flushed(&mut self, _: Instant) {
        self.with(Session::flushed);
    }

    fn wake_at(&self) -> Option<Instant> {
        self.session.next_tick().map(Instant::from_std)
    }

    fn tick(&mut self, _: Instant) {
        self.with(Session::tick);
    }

    fn heartbeat_after(&self) -> Option<Duration> {
        self.session.heartbeat_after()
    }

    fn heartbeat(&mut self, now: Instant) -> Bytes {
        self.session.heartbeat(now.into_std())
    }

    fn closing(&self) -> Option<socket::Close> {
        let closing = self.session.end().filter(|_| self.session.is_closed())?;
        let (code, name) = closing.close.code_and_name();
        Some(socket::Close::new(code, name))
    }

    async fn event(&mut self) {
        self.happened().await;
    }
}

impl Drop for SessionDriver {
    fn drop(&mut self) {
        if self.subscribed {
            metrics::gauge!("websocket_subscriptions", "mode" => "group").decrement(1.0);
        }
        if self.tailing > 0 {
            #[expect(clippy::cast_precision_loss, reason = "16 at most")]
            let tailing = self.tailing as f64;
            metrics::gauge!("websocket_subscriptions", "mode" => "tail").decrement(tailing);
        }
        if self.in_flight > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
            let in_flight = self.in_flight as f64;
            metrics::gauge!("websocket_records_in_flight").decrement(in_flight);
        }
    }
}

async fn next_event(member: &mut Option<Member>) -> Option<Event> {
    match member {
        Some(member) => member.event().await,
        None => std::future::pending().await,
    }
}

async fn begun(beginning: &mut Option<Beginning>) -> (u64, Result<PendingBatch, WriteError>) {
    match beginning {
        Some(beginning) => beginning.await,
        None => std::future::pending().await,
    }
}

/// The time that there is, once the gateway is about to stop.
async fn told_to_drain(
    draining: &mut watch::Receiver<Option<Duration>>,
    drained: bool,
) -> Duration {
    if drained {
        return std::future::pending().await;
    }
    let told = draining.wait_for(Option::is_some).await;
    match told.map(|grace| *grace) {
        Ok(Some(grace)) => grace,
        _ => std::future::pending().await,
    }
}

/// Codes that clients choose are theirs to choose, so only ours become labels.
fn counted_code(code: u16) -> &'static str {
    const KNOWN: [(u16, &str); 8] = [
        (1001, "1001"),
        (1002, "1002"),
        (1003, "1003"),
        (1005, "1005"),
        (1006, "1006"),
        (1007, "1007"),
        (1009, "1009"),
        (4003, "4003"),
    ];
    static OURS: std::sync::LazyLock<Vec<(u16, String)>> = std::sync::LazyLock::new(|| {
        let codes = Close::ALL.iter().map(|close| close.code());
        codes.map(|code| (code, code.to_string())).collect()
    });
    let known = KNOWN.iter().find(|(known, _)| *known == code);
    let ours = OURS.iter().find(|(known, _)| *known == code);
    match (known, ours) {
        (Some((_, name)), _) => name,
        (None, Some((_, name))) => name,
        (None, None) => "other",
    }
}

async fn taken(claim: Option<&Claim>) {
    match claim {
        Some(claim) => claim.taken().await,
        None => std::future::pending().await,
    }
}

/// The topics of a list, created where that is wanted and the principal may, or all that a pattern may
/// match.
async fn resolve(
    cluster: &Cluster,
    principal: Option<&Principal>,
    topics: &Topics,
) -> Result<Vec<Arc<str>>, Fault> {
    let metadata = &cluster.metadata;
    match topics {
        Topics::Names(names) => {
            let mut found = Vec::with_capacity(names.len());
            for name in names {
                let may_create = principal.is_some_and(|principal| may_create(principal, name));
                let topic = metadata.topic_to_use(name, may_create).await?;
                let topic = metadata.granted(topic, Right::Read).await?;
                found.push(Arc::clone(&topic.name));
            }
            Ok(found)
        }
        Topics::Pattern(_) => {
            let all = metadata.topics().await?;
            let names = all.iter().filter(|topic| !topic.internal);
            Ok(names.map(|topic| Arc::clone(&topic.name)).collect())
        }
    }
}

/// Writes a dead letter; what went wrong, if something did. `own`: the topic is the gateway's choice.
async fn dead_letter(
    services: &Services,
    clients: &KafkaClients,
    principal: Option<Principal>,
    topic: &str,
    own: bool,
    record: ProducerRecord,
) -> Option<Fault> {
    let Some(principal) = principal else {
        return Some(Fault::new(FaultKind::NotAuthorized, "nobody is known"));
    };
    let submitted = match own {
        true => {
            let writer = &services.kafka.own().writer;
            writer.write_as_gateway(&principal, topic, record).await
        }
        false => {
            let writer = &clients.writer;
            writer.submit_dead_letter(&principal, topic, record).await
        }
    };
    match submitted {
        Ok(outcomes) => outcomes
            .into_iter()
            .find_map(Result::err)
            .map(|fault| *fault),
        Err(WriteError::Kafka(fault) | WriteError::Record { fault, .. }) => Some(fault),
        Err(rejected) => Some(Fault::new(FaultKind::Other, rejected.to_string())),
    }
}
