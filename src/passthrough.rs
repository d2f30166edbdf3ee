//! Which Kafka clients serve whom: the gateway's own, or some that log in as whoever asks
//! (`kafka.identity = "passthrough"`).
//!
//! ```text
//! token of a request --> Principal --> PrincipalClients --> a Cluster that logs in with this token
//!                                           '-- one for each principal, shared by all that it does here
//! ```
//!
//! Kafka then sees the person: its ACLs, quotas and logs are about whoever asks, beside the permissions
//! that the gateway goes by. A principal's clients are made at its first request, when Kafka is asked
//! whether it takes the token. They are closed when nothing has used them for a while, and their number
//! has a bound. A newer token that the principal shows is handed to them, so that what is open outlives
//! the token that it was opened with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::auth::Principal;
use crate::auth::identity::Identity;
use crate::config::{KafkaIdentity, Settings};
use crate::kafka::Cluster;
use crate::kafka::client::{TokenFeed, token_feed};
use crate::kafka::fault::{Fault, FaultKind};
use crate::schema::Schemas;
use crate::write::Writer;

/// How long a principal that Kafka did not let in is told so without asking again, unless it shows another
/// token.
const REFUSED: Duration = Duration::from_secs(1);
/// Longest wait for the answers of records when the clients of a principal are closed.
const LAST_ANSWERS: Duration = Duration::from_secs(30);
/// Least and longest time between two looks for clients that nobody uses.
const LOOKS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// The Kafka clients that a request works with: the gateway's own, or its principal's.
#[derive(Debug)]
pub struct KafkaClients {
    /// Metadata, reading, administration.
    pub cluster: Arc<Cluster>,
    /// The one way to write.
    pub writer: Writer,
}

impl KafkaClients {
    /// All that works on `cluster`.
    fn new(cluster: Arc<Cluster>, settings: &Settings, schemas: Option<Arc<Schemas>>) -> Self {
        Self {
            writer: Writer::new(Arc::clone(&cluster), settings, schemas),
            cluster,
        }
    }
}

/// Why a principal has no Kafka clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoClients {
    /// It showed no token.
    #[error(
        "Kafka is to see who asks (kafka.identity), so a token is needed that can be handed on to it; \
         a client certificate cannot: show a token"
    )]
    NoToken,
    /// No login can begin with its token.
    #[error(
        "the token expires too soon to log in to Kafka with it, which needs more than 30 s: show a \
         newer one"
    )]
    Expiring,
    /// The token has a form that no broker takes.
    #[error("the token cannot be handed on to Kafka: {0}")]
    Unusable(String),
    /// Kafka does not let it in.
    #[error("Kafka does not accept the token: the brokers' log says why")]
    Refused,
    /// `kafka.identity_clients`.
    #[error(
        "as many principals as may have Kafka clients at once have some (kafka.identity_clients); \
         try again"
    )]
    Full,
    /// Kafka could not be asked, or the clients not be made.
    #[error(transparent)]
    Kafka(#[from] Fault),
}

/// The clients of the gateway and of each principal. Clones share them.
#[derive(Debug, Clone)]
pub struct PrincipalClients {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    schemas: Option<Arc<Schemas>>,
    own: Arc<KafkaClients>,
    /// Empty where Kafka sees the gateway alone.
    known: Mutex<HashMap<Arc<Identity>, Arc<Slot>>>,
}

/// What one principal has.
#[derive(Debug)]
struct Slot {
    feed: TokenFeed,
    used: Mutex<Instant>,
    /// Held while they are made, so that all of a principal's requests have the same.
    clients: tokio::sync::Mutex<Option<Arc<KafkaClients>>>,
    /// Why they were not made, and when.
    failed: Mutex<Option<(Instant, NoClients)>>,
}

impl Slot {
    /// Whether something works with them, or they are being made.
    fn is_in_use(self: &Arc<Self>) -> bool {
        // Whoever wants them has taken the slot out of the table under its lock, as whoever asks here has.
        if Arc::strong_count(self) > 1 {
            return true;
        }
        match self.clients.try_lock() {
            Ok(clients) => clients
                .as_ref()
                .is_some_and(|clients| Arc::strong_count(clients) > 1),
            Err(_) => true,
        }
    }

    fn was_used_before(&self, moment: Instant) -> bool {
        *self.used.lock() < moment
    }
}

impl PrincipalClients {
    /// The gateway's own, which work on `cluster`, and none of a principal yet. Those that nobody uses are
    /// closed until `stopping`. Call it on the runtime.
    pub(crate) fn new(
        settings: &Settings,
        cluster: Arc<Cluster>,
        schemas: Option<Arc<Schemas>>,
        stopping: &CancellationToken,
    ) -> Self {
        let clients = Self {
            inner: Arc::new(Inner {
                own: Arc::new(KafkaClients::new(cluster, settings, schemas.clone())),
                schemas,
                settings: settings.clone(),
                known: Mutex::default(),
            }),
        };
        if clients.are_of_principals() {
            let (least, longest) = LOOKS;
            let pause = (settings.kafka.identity_idle / 4).clamp(least, longest);
            tokio::spawn(close_idle(clients.clone(), pause, stopping.clone()));
        }
        clients
    }

    fn are_of_principals(&self) -> bool {
        match self.inner.settings.kafka.identity {
            KafkaIdentity::Gateway => false,
            KafkaIdentity::Passthrough => true,
        }
    }

    /// The gateway's own.
    pub fn own(&self) -> &Arc<KafkaClients> {
        &self.inner.own
    }

    /// Those that serve `principal`: where Kafka is to see who asks they log in with the token that it showed.
    ///
    /// # Errors
    ///
    /// [`NoClients`]. It comes within `kafka.metadata_timeout_ms`, or twice that where another request of the
    /// principal has begun to ask Kafka.
    pub async fn of(&self, principal: &Principal) -> Result<Arc<KafkaClients>, NoClients> {
        if !self.are_of_principals() {
            return Ok(Arc::clone(self.own()));
        }
        let slot = self.slot(principal)?;
        let mut clients = slot.clients.lock().await;
        if let Some(clients) = &*clients {
            return Ok(Arc::clone(clients));
        }
        if let Some((at, failure)) = &*slot.failed.lock()
            && at.elapsed() < REFUSED
        {
            return Err(failure.clone());
        }
        match self.make(&slot).await {
            Ok(made) => {
                *slot.failed.lock() = None;
                metrics::gauge!("kafka_principal_clients").increment(1.0);
                Ok(Arc::clone(clients.insert(made)))
            }
            Err(failure) => {
                *slot.failed.lock() = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    /// The principal's place, with the token that it showed.
    fn slot(&self, principal: &Principal) -> Result<Arc<Slot>, NoClients> {
        let token = principal.token().ok_or(NoClients::NoToken)?;
        let inner = &self.inner;
        let mut known = inner.known.lock();
        let slot = match known.get(principal.identity()) {
            Some(slot) => Arc::clone(slot),
            None => {
                let most = inner.settings.kafka.identity_clients;
                if known.len() >= most && !give_up_one(&mut known) {
                    return Err(NoClients::Full);
                }
                let slot = Arc::new(Slot {
                    feed: token_feed(&inner.settings.kafka),
                    used: Mutex::new(Instant::now()),
                    clients: tokio::sync::Mutex::default(),
                    failed: Mutex::default(),
                });
                known.insert(Arc::clone(principal.identity()), Arc::clone(&slot));
                slot
            }
        };
        drop(known);
        *slot.used.lock() = Instant::now();
        // One that Kafka has not let in gives way to any other.
        let anyway = slot.failed.lock().is_some();
        let offered = slot.feed.offer(token.expose_secret(), anyway);
        if offered.map_err(NoClients::Unusable)? {
            *slot.failed.lock() = None;
        }
        if slot.feed.is_usable() {
            Ok(slot)
        } else {
            Err(NoClients::Expiring)
        }
    }

    async fn make(&self, slot: &Slot) -> Result<Arc<KafkaClients>, NoClients> {
        let Inner {
            settings,
            schemas,
            own,
            ..
        } = &*self.inner;
        let tokens = slot.feed.tokens();
        let cluster = own
            .cluster
            .beside(tokens, &settings.limits, &settings.websocket);
        match cluster.await {
            Ok(cluster) => {
                let cluster = Arc::new(cluster);
                Ok(Arc::new(KafkaClients::new(
                    cluster,
                    settings,
                    schemas.clone(),
                )))
            }
            Err(fault) if fault.kind == FaultKind::Unauthenticated => {
                // To its bearer the words of the gateway's own login would be of no use.
                tracing::info!("Kafka does not accept a principal's token: {fault}");
                Err(NoClients::Refused)
            }
            Err(fault) => Err(fault.into()),
        }
    }

    /// Closes those that nobody has used since `moment`.
    fn close_unused_since(&self, moment: Instant) {
        self.inner.known.lock().retain(|_, slot| {
            let keep = slot.is_in_use() || !slot.was_used_before(moment);
            if !keep {
                close(slot);
            }
            keep
        });
    }

    /// Waits until what was handed to their producers has its answers, at most `bound`; returns how many
    /// records are left without one.
    pub async fn close(&self, bound: Duration) -> usize {
        let all: Vec<Arc<Slot>> = self
            .inner
            .known
            .lock()
            .drain()
            .map(|(_, slot)| slot)
            .collect();
        let closing = all.iter().map(async |slot| {
            let Some(clients) = slot.clients.lock().await.take() else {
                return 0;
            };
            clients.cluster.close(bound).await
        });
        let (own, all) = tokio::join!(self.own().cluster.close(bound), join_all(closing));
        own + all.into_iter().sum::<usize>()
    }
}

/// Makes room by closing the clients that were used longest ago of those that nobody uses now.
fn give_up_one(known: &mut HashMap<Arc<Identity>, Arc<Slot>>) -> bool {
    let idle = known.iter().filter(|(_, slot)| !slot.is_in_use());
    let oldest = idle.min_by_key(|(_, slot)| *slot.used.lock());
    let Some(identity) = oldest.map(|(identity, _)| Arc::clone(identity)) else {
        return false;
    };
    if let Some(slot) = known.remove(&identity) {
        close(&slot);
    }
    true
}

/// Closes clients that nobody uses.
fn close(slot: &Slot) {
    let Ok(mut clients) = slot.clients.try_lock() else {
        return;
    };
    if let Some(clients) = clients.take() {
        metrics::gauge!("kafka_principal_clients").decrement(1.0);
        tokio::spawn(async move { clients.cluster.close(LAST_ANSWERS).await });
    }
}

async fn close_idle(clients: PrincipalClients, pause: Duration, stopping: CancellationToken) {
    let idle = clients.inner.settings.kafka.identity_idle;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopping.cancelled() => return,
        }
        if let Some(moment) = Instant::now().checked_sub(idle) {
            clients.close_unused_since(moment);
        }
    }
}
