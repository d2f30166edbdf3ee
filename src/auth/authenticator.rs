//! Turns what a request shows of itself into a principal.

use std::sync::Arc;

use parking_lot::RwLock;
use secrecy::{ExposeSecret, SecretSlice};

use super::Principal;
use super::audit_context::AuditContext;
use super::certificate::{ClientCertificate, Unusable};
use super::failure_limiter::FailureLimiter;
use super::identity::Identity;
use super::jwt::{Offered, Refused, Verifier, now};
use super::passwords::{Failed, Passwords};
use super::permission::Denied;
use super::policy::Policies;
use super::principal::{Grants, Inner};
use super::roles::{Book, Of, Roles, Table};
use super::standing::{By, Changes, IssuerNow, Standing};
use super::ticket::{Purpose, SealKey, Tickets};
use super::users::{KEY_PREFIX, Sort, Users};
use crate::config::{AuthMode, AuthSettings, read_secret};
use crate::observe::audit::{Audit, Origin};

/// What a request shows of itself. The APIs find it; see `http::credentials`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// A token, or an API key in its place, from a header or wherever the API takes one.
    Token(&'a str),
    /// What stands where only an API key may.
    Key(&'a str),
    /// A name and its password.
    Password(&'a str, &'a str),
    /// A ticket for reading event streams, and the page that shows it.
    StreamTicket(&'a str, Page<'a>),
    /// A ticket for a WebSocket, and the page that shows it.
    WebSocketTicket(&'a str, Page<'a>),
    /// A client certificate that the listener has verified.
    Certificate(&'a ClientCertificate),
    /// Something that is none of these.
    Other,
    /// Nothing.
    None,
}

impl Credential<'_> {
    /// What it is, for the audit log.
    fn name(self) -> &'static str {
        match self {
            Self::Token(token) if token.starts_with(KEY_PREFIX) => "an API key is valid",
            Self::Token(_) => "a token is valid",
            Self::Key(_) => "an API key is valid",
            Self::Password(..) => "a password is right",
            Self::StreamTicket(..) => "a ticket for streams is valid",
            Self::WebSocketTicket(..) => "a ticket for WebSockets is valid",
            Self::Certificate(_) => "a client certificate is valid",
            Self::Other | Self::None => "no credentials are asked for",
        }
    }
}

/// The page that a request is of, as far as the request tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page<'a> {
    /// It names its origin.
    Of(&'a str),
    /// It names none. A browser leaves it out of a GET by a page of the gateway's own, whose origin this
    /// would be; others that are no pages name none either.
    Unnamed(Option<&'a str>),
}

impl Page<'_> {
    /// Whether it may be a page of this origin.
    pub(super) fn may_be_of(self, origin: &str) -> bool {
        match self {
            Self::Of(own) | Self::Unnamed(Some(own)) => own == origin,
            Self::Unnamed(None) => false,
        }
    }
}

/// Turns credentials into principals.
#[derive(Debug)]
pub struct Authenticator {
    /// `None`: `auth.mode` is `none`. Another one after each [`Authenticator::reload`].
    verifier: Option<RwLock<Arc<Verifier>>>,
    tickets: Tickets,
    /// What tokens name, and what makes a certificate's subject a principal.
    roles: Arc<Book>,
    certificate_realm: Option<String>,
    /// Whether there is `auth.users_file`, so that passwords and API keys are taken.
    knows_users: bool,
    passwords: Passwords,
    /// What to show, for who shows nothing of use.
    offered: Offered,
    anonymous: Principal,
    policies: Arc<Policies>,
    allow_query_token: bool,
    audit: Option<Audit>,
    failure_limiter: Option<Arc<FailureLimiter>>,
    /// Whether principals keep the tokens that they showed.
    keeps_tokens: bool,
}

impl Authenticator {
    /// By `settings`; reads the key files. With `certificates`, clients may show some. What is decided
    /// goes to `audit`, and one address is refused at most so often a second (0: as often as it likes).
    /// Call it on the runtime.
    ///
    /// # Errors
    ///
    /// Every key that cannot be read, a line each.
    pub fn new(
        settings: &AuthSettings,
        certificates: bool,
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
        // Whose verifier adds its issuers.
        let roles = Arc::new(Book::new(table(settings, Vec::new())?));
        let verifier = match settings.mode {
            AuthMode::None => None,
            // The settings' checks let no issuers stand beside users alone.
            AuthMode::Jwt | AuthMode::Users => {
                let verifier = Verifier::new(settings, policies.claims(), Arc::clone(&roles))?;
                Some(RwLock::new(Arc::new(verifier)))
            }
        };
        if verifier.is_some() && settings.ticket_key_file.is_none() {
            tracing::info!(
                "auth.ticket_key_file is not set: tickets are good for this process only"
            );
        }
        let policies = Arc::new(policies);
        let tickets = Tickets::new(key.expose_secret(), settings.sse_ticket_ttl, &roles)
            .map_err(|error| vec![error])?;
        Ok(Self {
            verifier,
            tickets,
            roles,
            certificate_realm: settings.certificate_realm.clone(),
            knows_users: settings.users_file.is_some(),
            passwords: Passwords::new().map_err(|error| vec![error])?,
            offered: offered(settings, certificates),
            anonymous: Principal::anonymous(),
            policies,
            allow_query_token: settings.allow_query_token,
            audit,
            failure_limiter: FailureLimiter::new(refused_per_second).map(Arc::new),
            keeps_tokens: false,
        })
    }

    /// The same, whose principals keep the tokens that they showed, where `keep` says so: what is to be
    /// handed on to Kafka.
    #[must_use]
    pub fn keeping_tokens(self, keep: bool) -> Self {
        Self {
            keeps_tokens: keep,
            ..self
        }
    }

    /// Takes over what can change while the gateway runs: roles, users and API keys, keys of issuers that
    /// are in files, `permissions_allowed`, and the key of tickets. All of it, or nothing where a file cannot be used.
    /// The issuers must be those that it was made with, in their order. Blocking, since files are.
    ///
    /// # Errors
    ///
    /// Every key that cannot be read, a line each.
    pub fn reload(&self, settings: &AuthSettings) -> Result<(), Vec<String>> {
        let key = settings
            .ticket_key_file
            .as_deref()
            .map(read_secret)
            .transpose()
            .map_err(|error| vec![format!("auth.ticket_key_file: {error}")])?;
        let key = key
            .map(|key| SealKey::new(key.expose_secret()))
            .transpose()
            .map_err(|error| vec![format!("auth.ticket_key_file: {error}")])?;
        let verifier = match self.verifier() {
            Some(verifier) => Some(Arc::new(verifier.reloaded(settings)?)),
            None => None,
        };
        let issuers = verifier.as_ref().map(|verifier| verifier.issuers_now());
        let table = table(settings, issuers.unwrap_or_default())?;
        // The table comes first: a token that the new verifier looks at is to have the new roles, and one
        // that the old verifier let in is judged by the new keys. What is open is told by this.
        self.roles.replace(table);
        if let (Some(current), Some(verifier)) = (&self.verifier, verifier) {
            *current.write() = verifier;
        }
        if let Some(key) = key
            && let Some(time) = self.tickets.replace_key(key)
        {
            tracing::warn!(
                seconds = time.as_secs(),
                "the ticket key was replaced: tickets of the one before are taken until they expire; a restart ends them at once"
            );
        }
        Ok(())
    }

    fn verifier(&self) -> Option<Arc<Verifier>> {
        let verifier = self.verifier.as_ref()?;
        Some(Arc::clone(&verifier.read()))
    }

    /// Tells what is open when to judge again whose it is and what that one may do.
    pub fn changes(&self) -> Changes {
        match &self.verifier {
            Some(_) => self.roles.changes(),
            None => Changes::none(),
        }
    }

    /// Whether there is an audit log.
    pub fn is_audited(&self) -> bool {
        self.audit.is_some()
    }

    /// Whose request it is, for [`Authenticator::authenticate`]: where it comes from, for the audit
    /// log, and as whom its refusals are counted. What nobody wants to know is not asked.
    pub fn audit_context(
        &self,
        origin: impl FnOnce() -> Origin,
        counted_as: impl FnOnce() -> Option<u128>,
    ) -> AuditContext {
        let told = self.audit.as_ref().map(|audit| (audit, origin()));
        let counted = self.failure_limiter.as_ref().and_then(|failure_limiter| {
            let who = counted_as()?;
            Some((Arc::clone(failure_limiter), who))
        });
        AuditContext::new(told, counted)
    }

    /// Who shows this, in the request of `audit_context`.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub async fn authenticate(
        &self,
        credential: Credential<'_>,
        audit_context: &AuditContext,
    ) -> Result<Principal, Refused> {
        if !audit_context.can_be_told() {
            return Err(Denied::Untold.into());
        }
        if let Err(too_many) = audit_context.check()
            && self.costs_a_check(credential)
        {
            return Err(too_many.into());
        }
        let refused = match self.identify(credential, audit_context).await {
            Ok(principal) => {
                let mut principal = principal
                    .under(&self.policies)
                    .with_audit_context(audit_context);
                if self.keeps_tokens
                    && let Credential::Token(token) = credential
                {
                    principal = principal.with_token(Some(Arc::new(token.into())));
                }
                if self
                    .audit
                    .as_ref()
                    .is_some_and(Audit::tells_authentications)
                {
                    let shown = credential.name();
                    principal.is_told("authenticate", "gateway", String::new(), shown)?;
                }
                return Ok(principal);
            }
            Err(refused) => refused,
        };
        // Also where the issuer's keys cannot be had: such a token costs a wait for the issuer, and anyone
        // can make one up. Who was let in before is still looked at, see `costs_a_check`.
        audit_context.count()?;
        audit_context.is_unknown(&refused);
        Err(refused)
    }

    /// Whether a signature or a password is looked at to find out who shows this.
    fn costs_a_check(&self, credential: Credential<'_>) -> bool {
        match (self.verifier(), credential) {
            (Some(_), Credential::Token(token)) if self.is_key(token) => false,
            (Some(verifier), Credential::Token(token)) => !verifier.remembers(token),
            (Some(_), Credential::Password(name, password)) => {
                self.knows_users && !self.passwords.remembers(name, password)
            }
            (Some(_), Credential::StreamTicket(..) | Credential::WebSocketTicket(..)) => true,
            // Nobody guesses a key, and to look one up costs next to nothing.
            (
                _,
                Credential::Key(_)
                | Credential::Certificate(_)
                | Credential::Other
                | Credential::None,
            )
            | (None, _) => false,
        }
    }

    /// Whether what stands in the place of a token is an API key.
    fn is_key(&self, token: &str) -> bool {
        self.knows_users && token.starts_with(KEY_PREFIX)
    }

    fn of_key(&self, key: &str) -> Result<Principal, Refused> {
        let table = self.roles.current();
        let name = table.users.of_key(key);
        name.and_then(|name| self.of_users_file(&table, Sort::Key, name))
            .ok_or_else(|| Refused::Invalid("the API key is not valid".to_owned()))
    }

    async fn of_password(
        &self,
        name: &str,
        password: &str,
        audit_context: &AuditContext,
    ) -> Result<Principal, Refused> {
        if !self.knows_users {
            return Err(Refused::Other(self.offered.clone()));
        }
        let table = self.roles.current();
        let address = audit_context.counted_as();
        match self
            .passwords
            .check(&table.users, name, password, address)
            .await
        {
            Ok(()) => self
                .of_users_file(&table, Sort::User, name)
                .ok_or(Refused::Password),
            Err(Failed::Wrong) => Err(Refused::Password),
            Err(Failed::Busy) => Err(Refused::Busy),
        }
    }

    /// Somebody of the file, as `table` has it, who has what it gives at each moment.
    fn of_users_file(&self, table: &Table, sort: Sort, name: &str) -> Option<Principal> {
        let by = By::Line {
            sort,
            name: name.to_owned(),
            secret: table.users.fingerprint(sort, name)?,
        };
        let identity = Arc::new(match sort {
            Sort::User => Identity::of_user(name),
            Sort::Key => Identity::of_key(name),
        });
        let roles = Roles::new(&self.roles, Of::User(sort, name.to_owned()), &identity);
        Some(Principal::from_inner(Inner {
            standing: Some(Standing::new(&self.roles, by, &identity)),
            ..Inner::of(identity, Grants::WithRoles(Vec::new(), roles))
        }))
    }

    async fn identify(
        &self,
        credential: Credential<'_>,
        audit_context: &AuditContext,
    ) -> Result<Principal, Refused> {
        // A connection may be kept for longer than the certificate is good that was shown at its beginning.
        if let Credential::Certificate(certificate) = credential
            && certificate.expires <= now()
        {
            return Err(Refused::Invalid(Unusable::Expired.to_string()));
        }
        let Some(verifier) = self.verifier() else {
            // Nothing else is asked for, so nothing else can be wrong with it.
            return Ok(match credential {
                Credential::Certificate(certificate) => Principal::new(
                    self.of_certificate(certificate),
                    Grants::Everything,
                    Some(certificate.expires),
                ),
                Credential::Token(_)
                | Credential::Key(_)
                | Credential::Password(..)
                | Credential::StreamTicket(..)
                | Credential::WebSocketTicket(..)
                | Credential::Other
                | Credential::None => self.anonymous.clone(),
            });
        };
        match credential {
            Credential::Token(token) if self.is_key(token) => self.of_key(token),
            Credential::Token(token) => verifier.verify(token).await,
            Credential::Key(key) => self.of_key(key),
            Credential::Password(name, password) => {
                self.of_password(name, password, audit_context).await
            }
            Credential::StreamTicket(ticket, page) => {
                self.tickets.check(ticket, Purpose::Sse, page)
            }
            Credential::WebSocketTicket(ticket, page) => {
                self.tickets.check(ticket, Purpose::WebSocket, page)
            }
            // A certificate has no claims; a role of its subject's name says what it may do.
            Credential::Certificate(certificate) => {
                let identity = Arc::new(self.of_certificate(certificate));
                let role = vec![certificate.subject.clone()];
                let roles = Roles::new(&self.roles, Of::Roles(role), &identity);
                Ok(Principal::from_inner(Inner {
                    standing: Some(Standing::new(&self.roles, By::Itself, &identity)),
                    expires: Some(certificate.expires),
                    ..Inner::of(identity, Grants::WithRoles(Vec::new(), roles))
                }))
            }
            Credential::Other => Err(Refused::Other(self.offered.clone())),
            Credential::None => Err(Refused::Missing(self.offered.clone())),
        }
    }

    fn of_certificate(&self, certificate: &ClientCertificate) -> Identity {
        Identity::of_certificate(&certificate.issuer, &certificate.subject)
            .in_realm(self.certificate_realm.as_deref())
    }

    /// Whether credentials are asked for.
    pub fn asks(&self) -> bool {
        self.verifier.is_some()
    }

    /// Whether `X-API-Key` is looked at: without `auth.users_file` it is somebody else's.
    pub fn takes_keys(&self) -> bool {
        self.knows_users
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

/// Roles and users, by the settings and the file that they name, and issuers.
fn table(settings: &AuthSettings, issuers: Vec<IssuerNow>) -> Result<Table, Vec<String>> {
    let file = settings.users_file.as_deref();
    let users = file.map(Users::read).transpose().map_err(|problems| {
        let about = |problem| format!("auth.users_file: {problem}");
        problems.into_iter().map(about).collect::<Vec<_>>()
    })?;
    Ok(Table {
        roles: settings.roles.clone(),
        users: users.unwrap_or_default(),
        issuers,
    })
}

/// What the settings offer to whoever shows nothing.
fn offered(settings: &AuthSettings, certificates: bool) -> Offered {
    let passwords = settings.users_file.is_some();
    let mut ways = Vec::new();
    if settings.mode != AuthMode::Users {
        ways.push("a token (Authorization: Bearer …)");
    }
    if passwords {
        ways.push("a name and a password (Authorization: Basic …)");
        ways.push("an API key (Authorization: Bearer tgk_…, or X-API-Key)");
    }
    if certificates {
        ways.push("a client certificate");
    }
    let text = match ways.split_last() {
        Some((last, before)) if !before.is_empty() => {
            format!("{} or {last}", before.join(", "))
        }
        _ => "a token: Authorization: Bearer …".to_owned(),
    };
    Offered {
        text: text.into(),
        passwords,
    }
}

/// A key that nobody can guess, from the system.
fn random_key() -> Result<SecretSlice<u8>, String> {
    let mut key = vec![0; 32];
    getrandom::fill(&mut key)
        .map_err(|error| format!("the system has no random numbers: {error}"))?;
    Ok(key.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::super::permission::{self, Action, Resource};
    use super::super::principal::LONGEST;
    use super::super::users;
    use super::*;

    #[test]
    fn the_expiry_of_a_credential_is_an_instant_however_far_away_it_is() {
        for expires in [u64::MAX, u64::MAX / 1000, i64::MAX as u64, 1 << 50] {
            let principal = Principal::expiring("ann", Vec::new(), expires);
            assert_eq!(principal.time_left(), Some(LONGEST), "{expires}");
            assert_eq!(principal.time_left_from(i64::MIN), Some(LONGEST));
            assert!(principal.expires_at().unwrap() > Instant::now());
            assert!(std::time::Instant::now().checked_add(LONGEST).is_some());
        }
        let principal = Principal::expiring("ann", Vec::new(), 1_000);
        assert_eq!(principal.time_left(), Some(Duration::ZERO));
        let left = principal.time_left_from(998_500);
        assert_eq!(left, Some(Duration::from_millis(1_500)));
        assert_eq!(Principal::anonymous().time_left(), None);
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn may_read(principal: &Principal) -> Result<(), Denied> {
        permission::authorize(principal, Action::Consume, Resource::Topic("orders"))
    }

    #[tokio::test]
    async fn whoever_is_gone_from_the_file_may_do_nothing_and_its_tickets_open_nothing() {
        let hash = |password| bcrypt::hash(password, 4).unwrap();
        let key = format!("{KEY_PREFIX}{}", "k".repeat(43));
        let ann = format!("ann:{}:consume:orders\n", hash("secret"));
        let line = format!("{}\n", users::line_of_key("svc", &key, "consume:orders"));
        let users = file(&format!("{ann}{line}"));
        let settings = AuthSettings {
            mode: AuthMode::Users,
            users_file: Some(users.path().to_owned()),
            ..AuthSettings::default()
        };
        let auth = Authenticator::new(&settings, false, None, 0).unwrap();
        let audit_context = AuditContext::nobody();
        let password = Credential::Password("ann", "secret");
        let user = auth.authenticate(password, &audit_context).await.unwrap();
        let service = auth
            .authenticate(Credential::Key(&key), &audit_context)
            .await;
        let service = service.unwrap();
        let ticket = |of: &Principal| {
            let minted = auth.tickets().mint(of, Purpose::Sse, None, None);
            minted.unwrap().ticket
        };
        let of_user = ticket(&user);
        let shown = Credential::StreamTicket(&of_user, Page::Unnamed(None));
        let by_ticket = auth.authenticate(shown, &audit_context).await.unwrap();
        let mut changes = by_ticket.changes();
        assert!(changes.came(), "at first");
        auth.reload(&settings).unwrap();
        assert!(!changes.came(), "nothing has changed");
        for principal in [&user, &service, &by_ticket] {
            assert!(principal.is_known());
            assert_eq!(may_read(principal), Ok(()));
        }

        // Another password, by which the same name is let in anew.
        let again = format!("ann:{}:consume:orders\n", hash("other"));
        std::fs::write(users.path(), format!("{again}{line}")).unwrap();
        auth.reload(&settings).unwrap();
        assert!(changes.came());
        for principal in [&user, &by_ticket] {
            assert!(!principal.is_known());
            assert_eq!(may_read(principal), Err(Denied::Gone));
            assert!(!principal.may_do_everything());
        }
        assert_eq!(may_read(&service), Ok(()));
        let refused = auth.authenticate(shown, &audit_context).await;
        assert!(matches!(refused, Err(Refused::Invalid(_))), "{refused:?}");
        let password = Credential::Password("ann", "other");
        let user = auth.authenticate(password, &audit_context).await.unwrap();
        assert_eq!(may_read(&user), Ok(()));

        // A key that is another one under the same name, and a user that is gone.
        let other = format!("{KEY_PREFIX}{}", "o".repeat(43));
        let line = users::line_of_key("svc", &other, "consume:orders");
        std::fs::write(users.path(), line).unwrap();
        auth.reload(&settings).unwrap();
        assert!(changes.came());
        assert_eq!(may_read(&service), Err(Denied::Gone));
        assert_eq!(may_read(&user), Err(Denied::Gone));
        assert!(!Principal::anonymous().changes().came());
    }

    #[tokio::test]
    async fn a_token_that_was_let_in_ends_with_its_key_and_is_held_below_a_lower_ceiling() {
        use jsonwebtoken::{EncodingKey, Header, encode};
        const SECRET: &str = "a secret that is long enough for HS256 to take it";
        let secret = file(SECRET);
        let mut settings = AuthSettings {
            mode: AuthMode::Jwt,
            issuers: vec![crate::config::IssuerSettings {
                realm: None,
                issuer: Some("https://issuer".to_owned()),
                audience: Vec::new(),
                permissions_allowed: None,
                scope: true,
                principal_claim: crate::config::IssuerSettings::SUBJECT.to_owned(),
                typ: None,
                algorithms: vec![jsonwebtoken::Algorithm::HS256],
                keys: crate::config::KeySource::SecretFile(secret.path().to_owned()),
            }],
            ..AuthSettings::default()
        };
        let auth = Authenticator::new(&settings, false, None, 0).unwrap();
        let claims = serde_json::json!({
            "iss": "https://issuer", "sub": "ann", "exp": now() + 600, "scope": "consume:orders",
        });
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = encode(&Header::default(), &claims, &key).unwrap();
        let audit_context = AuditContext::nobody();
        let ann = auth
            .authenticate(Credential::Token(&token), &audit_context)
            .await;
        let ann = ann.unwrap();
        let minted = auth.tickets().mint(&ann, Purpose::Sse, None, None).unwrap();
        let shown = Credential::StreamTicket(&minted.ticket, Page::Unnamed(None));
        assert_eq!(may_read(&ann), Ok(()));

        let issuer = |settings: &mut AuthSettings, allowed: Option<Vec<String>>| {
            settings.issuers[0].permissions_allowed = allowed;
        };
        issuer(&mut settings, Some(vec!["consume:other".to_owned()]));
        auth.reload(&settings).unwrap();
        let above =
            |principal: &Principal| matches!(may_read(principal), Err(Denied::AboveCeiling { .. }));
        assert!(ann.is_known() && above(&ann));
        let by_ticket = auth.authenticate(shown, &audit_context).await.unwrap();
        assert!(above(&by_ticket));
        issuer(&mut settings, None);
        auth.reload(&settings).unwrap();
        assert_eq!(may_read(&ann), Ok(()));
        assert_eq!(may_read(&by_ticket), Ok(()));

        std::fs::write(
            secret.path(),
            "another secret that is long enough for HS256",
        )
        .unwrap();
        auth.reload(&settings).unwrap();
        assert!(!ann.is_known());
        assert_eq!(may_read(&ann), Err(Denied::Gone));
        assert_eq!(may_read(&by_ticket), Err(Denied::Gone));
        assert!(auth.authenticate(shown, &audit_context).await.is_err());
    }
}
