//! Who sent a request, and what it is allowed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::SecretString;
use serde_json::Value;
use tokio::time::Instant;

use super::audit_context::{AuditContext, Decision};
use super::identity::{Identity, Kind};
use super::permission::{Action, Ceiling, Denied, Permission, Resource};
use super::policy::{Policies, View};
use super::roles::{Held, Roles};
use super::standing::{Changes, Standing};
use super::ticket::Purpose;

/// Whoever sent a request. Every handler is given one. Cheap to clone.
#[derive(Clone)]
pub struct Principal {
    pub(super) inner: Arc<Inner>,
    pub(super) audit_context: AuditContext,
    /// Which records it is shown. An API that lets it in says so.
    pub(super) view: View,
    /// What it showed, where that is to be handed on to Kafka.
    pub(super) token: Option<Arc<SecretString>>,
}

/// Whoever asks from elsewhere is the same principal.
impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Principal {}

#[derive(PartialEq, Eq)]
pub(super) struct Inner {
    pub(super) identity: Arc<Identity>,
    pub(super) grants: Grants,
    /// What it is by what was read last; `None` where nothing that is read again is about it.
    pub(super) standing: Option<Standing>,
    /// What a ticket was given, where its grants are those of the moment: it allows what both do.
    pub(super) at_most: Option<Vec<Permission>>,
    /// The settings' word on its issuer, above which no permission counts.
    pub(super) ceiling: Ceiling,
    /// `None`: any topic; else these only, within the permissions.
    pub(super) topics: Option<Vec<String>>,
    /// Seconds since 1970 from which the principal is not one any more: the end of its token, or of its
    /// certificate.
    pub(super) expires: Option<u64>,
    pub(super) shown_by: ShownBy,
    /// When the ticket that was shown can be shown no more.
    pub(super) ticket_expires: Option<u64>,
    /// The claims that policies name, by the names that they have there.
    pub(super) claims: BTreeMap<String, Value>,
}

/// What a principal is allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Grants {
    /// All there is: `auth.mode` is `none`.
    Everything,
    /// What one of these says.
    These(Vec<Permission>),
    /// What one of these says, or one that the settings give to a role of it now.
    WithRoles(Vec<Permission>, Roles),
}

impl Grants {
    /// The permissions of this moment; `None`: whatever there is.
    pub(super) fn held(&self) -> Option<Held<'_>> {
        match self {
            Self::Everything => None,
            Self::These(own) => Some(Held {
                own,
                by_roles: Arc::default(),
            }),
            Self::WithRoles(own, roles) => Some(Held {
                own,
                by_roles: roles.permissions(),
            }),
        }
    }
}

/// What showed who the principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShownBy {
    /// A token, a certificate, or nothing where nothing is asked for.
    Itself,
    /// A ticket, which does no more than it is for.
    Ticket(Purpose),
}

impl Inner {
    /// One about whom there is nothing more to say. What is made of a token or a ticket says all of it.
    pub(super) fn of(identity: impl Into<Arc<Identity>>, grants: Grants) -> Self {
        Self {
            identity: identity.into(),
            grants,
            standing: None,
            at_most: None,
            ceiling: Ceiling::None,
            topics: None,
            expires: None,
            shown_by: ShownBy::Itself,
            ticket_expires: None,
            claims: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Principal")
            .field(&self.inner.identity)
            .finish()
    }
}

impl Principal {
    /// The principal of everyone where `auth.mode` is `none`.
    pub fn anonymous() -> Self {
        Self::new(Identity::anonymous(), Grants::Everything, None).under(&Arc::default())
    }

    /// A principal that may do just this.
    #[cfg(test)]
    pub(crate) fn with_permissions(name: &str, permissions: Vec<Permission>) -> Self {
        let identity = Identity::of_token("issuer", name.to_owned());
        Self::new(identity, Grants::These(permissions), None).under(&Arc::default())
    }

    /// One that may do just this, but nothing above a ceiling.
    #[cfg(test)]
    pub(crate) fn below(name: &str, permissions: Vec<Permission>, most: Vec<Permission>) -> Self {
        let identity = Identity::of_token("issuer", name.to_owned());
        Self::from_inner(Inner {
            ceiling: Ceiling::At(most),
            ..Inner::of(identity, Grants::These(permissions))
        })
        .under(&Arc::default())
    }

    /// One that has the permissions of a role alone, and what takes others in their place; `None`: it is no
    /// principal any more.
    #[cfg(test)]
    pub(crate) fn with_role(name: &str, texts: &[&str]) -> (Self, impl Fn(Option<&[&str]>)) {
        use super::roles::{Book, Of, Table};
        use super::standing::{By, IssuerNow};

        let table = |texts: Option<&[&str]>| Table {
            roles: texts
                .map(|texts| texts.iter().map(|text| (*text).to_owned()).collect())
                .map(|texts| BTreeMap::from([("role".to_owned(), texts)]))
                .unwrap_or_default(),
            issuers: texts
                .map(|_| IssuerNow {
                    identity: "issuer".to_owned(),
                    key: None,
                    permissions_allowed: None,
                })
                .into_iter()
                .collect(),
            ..Table::default()
        };
        let book = Arc::new(Book::new(table(Some(texts))));
        let identity = Arc::new(Identity::of_token("issuer", name.to_owned()));
        let by = By::Token {
            at: 0,
            issuer: "issuer".to_owned(),
            key: None,
        };
        let roles = Roles::new(&book, Of::Roles(vec!["role".to_owned()]), &identity);
        let principal = Self::from_inner(Inner {
            standing: Some(Standing::new(&book, by, &identity)),
            ..Inner::of(identity, Grants::WithRoles(Vec::new(), roles))
        })
        .under(&Arc::default());
        (principal, move |texts: Option<&[&str]>| {
            book.replace(table(texts));
        })
    }

    /// One whose token expires, in seconds since 1970.
    #[cfg(test)]
    pub(crate) fn expiring(name: &str, permissions: Vec<Permission>, expires: u64) -> Self {
        let identity = Identity::of_token("issuer", name.to_owned());
        Self::new(identity, Grants::These(permissions), Some(expires)).under(&Arc::default())
    }

    pub(super) fn new(identity: Identity, grants: Grants, expires: Option<u64>) -> Self {
        Self::from_inner(Inner {
            expires,
            ..Inner::of(identity, grants)
        })
    }

    pub(super) fn from_inner(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
            audit_context: AuditContext::nobody(),
            view: View::Unsaid,
            token: None,
        }
    }

    /// The same principal, shown what `policies` say.
    pub(super) fn under(self, policies: &Arc<Policies>) -> Self {
        Self {
            view: View::By(Arc::clone(policies)),
            ..self
        }
    }

    /// What its token says under a name that a policy has.
    pub(super) fn claim(&self, name: &str) -> Option<&Value> {
        self.inner.claims.get(name)
    }

    /// The same principal, with the token that it showed.
    pub(crate) fn with_token(self, token: Option<Arc<SecretString>>) -> Self {
        Self { token, ..self }
    }

    /// The token that it showed, where it is kept to be handed on to Kafka (`kafka.identity`).
    pub(crate) fn token(&self) -> Option<&Arc<SecretString>> {
        self.token.as_ref()
    }

    /// Whose request it is.
    pub fn audit_context(&self) -> &AuditContext {
        &self.audit_context
    }

    /// The same principal, in this request.
    pub fn with_audit_context(self, audit_context: &AuditContext) -> Self {
        Self {
            audit_context: audit_context.clone(),
            ..self
        }
    }

    /// Tells the audit log that a route that is for any principal let this one in.
    ///
    /// # Errors
    ///
    /// [`Denied::Untold`].
    pub fn is_let_in(&self, route: impl FnOnce() -> String) -> Result<(), Denied> {
        self.is_told("call", "route", route(), "it is for any principal")
    }

    /// Tells the audit log that a session is this one's from here on, by a frame of this kind.
    ///
    /// # Errors
    ///
    /// [`Denied::Untold`].
    pub fn begins_session(&self, frame: &str) -> Result<(), Denied> {
        let reason = "the credential of the frame is valid";
        self.is_told("session", "websocket", frame.to_owned(), reason)
    }

    pub(super) fn is_told(
        &self,
        action: &'static str,
        kind: &'static str,
        resource: String,
        reason: &str,
    ) -> Result<(), Denied> {
        let may_be_done = self.audit_context.tell(|| Decision {
            principal: Some(self.identity()),
            action,
            kind,
            resource,
            verdict: Ok(reason.to_owned()),
        });
        if may_be_done {
            Ok(())
        } else {
            Err(Denied::Untold)
        }
    }

    /// Tells the audit log that a route did not let this one in, whatever its permissions.
    pub fn is_kept_out(&self, route: impl FnOnce() -> String, reason: &str) {
        self.audit_context.tell(|| Decision {
            principal: Some(self.identity()),
            action: "call",
            kind: "route",
            resource: route(),
            verdict: Err(reason.to_owned()),
        });
    }

    /// The subject, which is a name for people: another issuer may give it to somebody else.
    pub fn name(&self) -> &str {
        self.inner.identity.subject()
    }

    /// Who it is. What belongs to a principal belongs to this.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.inner.identity
    }

    /// Whether this is everyone: no credentials were asked for.
    pub fn is_anonymous(&self) -> bool {
        self.inner.identity.kind() == Kind::Anonymous
    }

    /// When the principal's token or certificate expires, in seconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        self.inner.expires
    }

    /// How long that is from now; nothing where it has expired, as a token may have that is taken because
    /// clocks differ (`auth.leeway_s`). No longer than what a clock can be asked to wait for, whatever the
    /// token says.
    pub fn time_left(&self) -> Option<Duration> {
        self.inner.expires.map(time_until)
    }

    /// The same from when it is so many milliseconds after 1970.
    pub fn time_left_from(&self, wall_ms: i64) -> Option<Duration> {
        let from = Duration::from_millis(u64::try_from(wall_ms).unwrap_or_default());
        self.inner
            .expires
            .map(|expires| time_between(from, expires))
    }

    /// The same as a time to wait for.
    pub fn expires_at(&self) -> Option<Instant> {
        Some(Instant::now() + self.time_left()?)
    }

    /// How long the ticket that was shown is good, like [`Principal::time_left`].
    pub fn ticket_time_left(&self) -> Option<Duration> {
        self.inner.ticket_expires.map(time_until)
    }

    /// When the ticket that was shown expires, in seconds since 1970. What was begun with it goes on.
    pub fn ticket_expires(&self) -> Option<u64> {
        self.inner.ticket_expires
    }

    /// Whether a ticket was shown, which must not beget another one.
    pub fn is_by_ticket(&self) -> bool {
        matches!(self.inner.shown_by, ShownBy::Ticket(_))
    }

    /// Whether it was shown by a ticket that is for reading record streams only.
    pub fn may_only_read_streams(&self) -> bool {
        match self.inner.shown_by {
            ShownBy::Itself | ShownBy::Ticket(Purpose::WebSocket) => false,
            ShownBy::Ticket(Purpose::Sse) => true,
        }
    }

    /// Whether it is a principal now. One that was let in may not be any more.
    pub fn is_known(&self) -> bool {
        let standing = self.standing();
        standing.is_none_or(|standing| standing.now().is_some())
    }

    /// Tells what it has opened when to judge that again.
    pub fn changes(&self) -> Changes {
        self.standing().map_or(Changes::none(), Standing::changes)
    }

    pub(super) fn standing(&self) -> Option<&Standing> {
        self.inner.standing.as_ref()
    }

    /// Whether what it was given at first has one of these, where that counts.
    pub(super) fn was_granted(&self, is_one: impl Fn(&Permission) -> bool) -> bool {
        let at_most = self.inner.at_most.as_ref();
        at_most.is_none_or(|list| list.iter().any(is_one))
    }

    pub(super) fn grants(&self) -> &Grants {
        &self.inner.grants
    }

    pub(super) fn ceiling(&self) -> &Ceiling {
        &self.inner.ceiling
    }

    /// Whether nothing is hidden from it, whatever a ticket confines it to.
    pub(super) fn may_do_everything(&self) -> bool {
        let held = self.inner.grants.held();
        let is_admin = |one: &Permission| one.action() == Action::Admin;
        let may = held.is_none_or(|held| held.iter().any(is_admin)) && self.was_granted(is_admin);
        let may_now = self.standing().is_none_or(|standing| {
            let most = standing.now();
            most.is_some_and(|most| most.allows_everything())
        });
        may && may_now && self.inner.ceiling.allows_everything()
    }

    /// Whether a ticket confines the principal to other topics, or to another action.
    pub(super) fn is_kept_from(&self, action: Action, resource: Resource<'_>) -> bool {
        let to_consume = match resource {
            Resource::Topic(_) => action == Action::Consume,
            Resource::Group(_) | Resource::Transaction(_) | Resource::Cluster => false,
        };
        if self.may_only_read_streams() && !to_consume {
            return true;
        }
        match (&self.inner.topics, resource) {
            (Some(topics), Resource::Topic(name)) => !topics.iter().any(|own| own == name),
            (Some(_) | None, _) => false,
        }
    }
}

/// The longest time that the gateway waits for the end of a credential: thirty years. A token may name a
/// time that no clock of the system can count to.
pub(super) const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// How long it is until then, in seconds since 1970.
fn time_until(seconds: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    time_between(now.unwrap_or_default(), seconds)
}

/// How long it is from a time after 1970 until so many seconds after 1970.
fn time_between(from: Duration, seconds: u64) -> Duration {
    Duration::from_secs(seconds)
        .saturating_sub(from)
        .min(LONGEST)
}

/// How long before its end a credential's bearer is told of it, when it is shown with so much time left:
/// late enough for one that is short-lived, or for one that is shown again as it was.
pub fn notice(left: Duration) -> Duration {
    const NOTICE: Duration = Duration::from_secs(60);
    NOTICE.min(left / 3)
}
