//! Who is asking, and what they may do.
//!
//! [`Authenticator`] turns what a request carries into a [`Principal`]; [`permission::decide`] says
//! what a principal may do. Both are asked in one place for all routes (`api::routes`), and the
//! write pipeline asks again for what it does. [`policy::sight`] says which records of a topic it is
//! shown. What they decide stands in the audit log; see
//! [`asker`].

pub mod asker;
pub mod certificate;
mod jwks;
pub mod jwt;
mod keys;
pub mod permission;
pub mod policy;
pub mod refusals;
pub mod ticket;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretSlice};
use serde_json::Value;

use crate::config::{AuthMode, AuthSettings, read_secret};
use crate::observe::audit::{Audit, Origin};
use asker::{Asker, Decision};
use jwt::{Refused, Verifier};
use permission::Permission;
use policy::Policies;
use refusals::Refusals;
use ticket::{Purpose, Tickets};

/// Whoever sent a request. Every handler is given one. Cheap to clone.
#[derive(Clone)]
pub struct Principal {
    inner: Arc<Inner>,
    asker: Asker,
    /// Which records it is shown; `None` only where no door has let it in.
    policies: Option<Arc<Policies>>,
}

/// Whoever asks from elsewhere is the same principal.
impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Principal {}

#[derive(PartialEq, Eq)]
struct Inner {
    name: String,
    /// `None`: everything is allowed.
    permissions: Option<Vec<Permission>>,
    /// `None`: any topic; else these only, within the permissions.
    topics: Option<Vec<String>>,
    /// Seconds since 1970 from which the principal is not one any more.
    expires: Option<u64>,
    by_ticket: bool,
    /// When the ticket that was shown can be shown no more.
    ticket_expires: Option<u64>,
    /// The claims that policies name, by the names that they have there.
    claims: BTreeMap<String, Value>,
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Principal").field(&self.inner.name).finish()
    }
}

impl Principal {
    /// The principal of everyone where `auth.mode` is `none`.
    pub fn anonymous() -> Self {
        Self::new("anonymous".to_owned(), None, None)
    }

    /// A principal that may do just this.
    pub fn with_permissions(name: &str, permissions: Vec<Permission>) -> Self {
        Self::new(name.to_owned(), Some(permissions), None)
    }

    /// One whose token expires, in seconds since 1970.
    #[cfg(test)]
    pub(crate) fn expiring(name: &str, permissions: Vec<Permission>, expires: u64) -> Self {
        Self::new(name.to_owned(), Some(permissions), Some(expires))
    }

    fn new(name: String, permissions: Option<Vec<Permission>>, expires: Option<u64>) -> Self {
        Self::from_inner(Inner {
            name,
            permissions,
            topics: None,
            expires,
            by_ticket: false,
            ticket_expires: None,
            claims: BTreeMap::new(),
        })
    }

    fn from_inner(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
            asker: Asker::nobody(),
            policies: None,
        }
    }

    /// The same principal, shown what `policies` say.
    fn under(self, policies: &Arc<Policies>) -> Self {
        Self {
            policies: Some(Arc::clone(policies)),
            ..self
        }
    }

    /// What its token says under a name that a policy has.
    fn claim(&self, name: &str) -> Option<&Value> {
        self.inner.claims.get(name)
    }

    /// Whose request it is.
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// The same principal, in this request.
    pub fn asking(self, asker: &Asker) -> Self {
        Self {
            asker: asker.clone(),
            ..self
        }
    }

    /// Tells the audit log that a route that is for any principal let this one in.
    pub fn is_let_in(&self, route: impl FnOnce() -> String) {
        self.asker.tell(|| Decision {
            principal: Some(self.name()),
            action: "call",
            kind: "route",
            resource: route(),
            verdict: Ok("it is for any principal".to_owned()),
        });
    }

    /// The token's subject: for logs, for `{sub}`, and for limits that are counted per principal.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Whether this is everyone: no credentials were asked for.
    pub fn is_anonymous(&self) -> bool {
        self.inner.permissions.is_none() && self.inner.name == "anonymous"
    }

    /// When the principal's token expires, in seconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        self.inner.expires
    }

    /// When the ticket that was shown expires, in seconds since 1970. What was begun with it goes on.
    pub fn ticket_expires(&self) -> Option<u64> {
        self.inner.ticket_expires
    }

    /// Whether a ticket was shown, which must not beget another one.
    pub fn is_by_ticket(&self) -> bool {
        self.inner.by_ticket
    }

    fn permissions(&self) -> Option<&[Permission]> {
        self.inner.permissions.as_deref()
    }

    /// Whether a ticket confines the principal to other topics.
    fn is_kept_from(&self, topic: &str) -> bool {
        self.inner
            .topics
            .as_ref()
            .is_some_and(|topics| !topics.iter().any(|own| own == topic))
    }
}

/// What a request shows of itself. The doors find it; see `http::credentials`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// A token, from a header or wherever the door takes one.
    Token(&'a str),
    /// A ticket for reading event streams.
    StreamTicket(&'a str),
    /// A ticket for a WebSocket, and the origin of the page that shows it.
    WebSocketTicket(&'a str, Option<&'a str>),
    /// A client certificate that the listener has verified, by its subject.
    Certificate(&'a str),
    /// Nothing.
    None,
}

/// Turns credentials into principals.
#[derive(Debug)]
pub struct Authenticator {
    /// `None`: `auth.mode` is `none`.
    verifier: Option<Verifier>,
    tickets: Tickets,
    roles: BTreeMap<String, Vec<Permission>>,
    policies: Arc<Policies>,
    allow_query_token: bool,
    audit: Option<Audit>,
    refusals: Option<Arc<Refusals>>,
}

impl Authenticator {
    /// By `settings`; reads the key files. What is decided goes to `audit`, and one address is refused
    /// at most so often a second (0: as often as it likes). Call it on the runtime.
    ///
    /// # Errors
    ///
    /// Every key that cannot be read, a line each.
    pub fn new(
        settings: &AuthSettings,
        audit: Option<Audit>,
        refused_per_second: u32,
    ) -> Result<Self, Vec<String>> {
        let key = match &settings.ticket_key_file {
            Some(path) => {
                read_secret(path).map_err(|error| vec![format!("auth.ticket_key_file: {error}")])?
            }
            None => random_key().map_err(|error| vec![error])?,
        };
        let policies = Policies::new(settings)?;
        let verifier = match settings.mode {
            AuthMode::None => None,
            AuthMode::Jwt => Some(Verifier::new(settings, policies.claims())?),
        };
        if verifier.is_some() && settings.ticket_key_file.is_none() {
            tracing::info!(
                "auth.ticket_key_file is not set: tickets are good for this process only"
            );
        }
        // A certificate has no claims; a role of its subject's name says what it may do.
        let roles = settings
            .roles
            .iter()
            .map(|(name, permissions)| {
                let permissions = permissions
                    .iter()
                    .filter_map(|text| Permission::parse(text, name).ok())
                    .collect();
                (name.clone(), permissions)
            })
            .collect();
        Ok(Self {
            verifier,
            tickets: Tickets::new(key.expose_secret(), settings.sse_ticket_ttl),
            roles,
            policies: Arc::new(policies),
            allow_query_token: settings.allow_query_token,
            audit,
            refusals: Refusals::new(refused_per_second).map(Arc::new),
        })
    }

    /// Whether there is an audit log.
    pub fn is_audited(&self) -> bool {
        self.audit.is_some()
    }

    /// Whose request it is, for [`Authenticator::authenticate`]: where it comes from, for the audit
    /// log, and as whom its refusals are counted. What nobody wants to know is not asked.
    pub fn asker(
        &self,
        origin: impl FnOnce() -> Origin,
        counted_as: impl FnOnce() -> Option<u128>,
    ) -> Asker {
        let told = self.audit.as_ref().map(|audit| (audit, origin()));
        let counted = self.refusals.as_ref().and_then(|refusals| {
            let who = counted_as()?;
            Some((Arc::clone(refusals), who))
        });
        Asker::new(told, counted)
    }

    /// Who shows this, in the request of `asker`.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub async fn authenticate(
        &self,
        credential: Credential<'_>,
        asker: &Asker,
    ) -> Result<Principal, Refused> {
        if let Err(too_many) = asker.check()
            && self.costs_a_check(credential)
        {
            return Err(too_many.into());
        }
        let refused = match self.identify(credential).await {
            Ok(principal) => return Ok(principal.under(&self.policies).asking(asker)),
            Err(refused) => refused,
        };
        // It is not their fault when they cannot be checked.
        if refused != Refused::KeysUnavailable {
            asker.count()?;
        }
        asker.is_unknown(&refused);
        Err(refused)
    }

    /// Whether a signature is looked at to find out who shows this.
    fn costs_a_check(&self, credential: Credential<'_>) -> bool {
        match (&self.verifier, credential) {
            (Some(verifier), Credential::Token(token)) => !verifier.remembers(token),
            (Some(_), Credential::StreamTicket(_) | Credential::WebSocketTicket(..)) => true,
            (_, Credential::Certificate(_) | Credential::None) | (None, _) => false,
        }
    }

    async fn identify(&self, credential: Credential<'_>) -> Result<Principal, Refused> {
        let Some(verifier) = &self.verifier else {
            // Nothing is asked for, so nothing can be wrong with it.
            return Ok(match credential {
                Credential::Certificate(subject) => Principal::new(subject.to_owned(), None, None),
                _ => Principal::anonymous(),
            });
        };
        match credential {
            Credential::Token(token) => verifier.verify(token).await,
            Credential::StreamTicket(ticket) => self.tickets.check(ticket, Purpose::Sse, None),
            Credential::WebSocketTicket(ticket, origin) => {
                self.tickets.check(ticket, Purpose::WebSocket, origin)
            }
            Credential::Certificate(subject) => {
                let permissions = self.roles.get(subject).cloned().unwrap_or_default();
                Ok(Principal::with_permissions(subject, permissions))
            }
            Credential::None => Err(Refused::Missing),
        }
    }

    /// Whether credentials are asked for.
    pub fn asks(&self) -> bool {
        self.verifier.is_some()
    }

    /// Mints tickets.
    pub fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    /// Whether `?access_token=` is accepted (`auth.allow_query_token`).
    pub fn allows_query_token(&self) -> bool {
        self.allow_query_token
    }
}

/// A key that nobody can guess, from the system.
fn random_key() -> Result<SecretSlice<u8>, String> {
    let mut key = vec![0; 32];
    getrandom::fill(&mut key)
        .map_err(|error| format!("the system has no random numbers: {error}"))?;
    Ok(key.into())
}
