//! Tickets: what a browser page shows where it cannot set a header. `new WebSocket()` and
//! `EventSource` take only a URL, and a URL ends up in logs, so what stands in it is worth little: a
//! ticket is short-lived or bound to reading, and for a WebSocket it is good for one use.
//!
//! A ticket is sealed with a key that processes can share, so that any of them can open it, and nobody
//! else can read in it who may do what; that a WebSocket's is used once is known only to the process
//! that saw it. What a ticket does not have in it, it does not allow. Nor does it allow what its principal
//! may not do any more: it names the roles, the line of `auth.users_file` or the issuer's key that its
//! principal had, which are looked up when it is shown and whenever something is decided.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moka::sync::Cache;
use parking_lot::RwLock;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::audit_context::Decision;
use super::identity::Identity;
use super::jwt::{Refused, now};
use super::permission::{Action, Ceiling, Denied, Permission};
use super::roles::{Book, Of, Roles};
use super::standing::{By, Standing};
use super::{Grants, Inner, Page, Principal, ShownBy};

/// What the key is for, so that whatever else is made of the same secret is of no use here.
const LABEL: &[u8] = b"tidegate ticket";
/// What a ticket begins with: the form that it has.
const FORM: u8 = 2;
/// Longest ticket that is looked at.
const MAX_TICKET: usize = 64 << 10;
/// How long a ticket for a WebSocket may wait to be used.
const WEBSOCKET_TTL: u64 = 30;
/// How long used tickets are remembered: longer than they live.
const REMEMBERED: Duration = Duration::from_secs(120);
/// Most used tickets that are remembered; about 100 bytes each.
const MOST_REMEMBERED: u64 = 1_000_000;

/// Most keys that are remembered after they were replaced.
const KEYS_BEFORE: usize = 4;

/// What a ticket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Opening a WebSocket, once, within 30 s.
    #[serde(rename = "ws")]
    WebSocket,
    /// Reading event streams until it expires: `EventSource` repeats its URL when it reconnects.
    Sse,
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "ws",
            Self::Sse => "sse",
        }
    }
}

/// Why there is no new ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotMinted {
    /// Tickets would otherwise outlive any bound.
    #[error("a ticket cannot be used to get another one; show the token")]
    ByTicket,
    /// The audit log has to tell of it, and cannot.
    #[error(transparent)]
    Untold(#[from] Denied),
    /// It could not be sealed.
    #[error("the ticket could not be sealed: {0}")]
    Unsealed(String),
}

/// A new ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minted {
    /// The ticket.
    pub ticket: String,
    /// When it expires, in seconds since 1970.
    pub expires: u64,
    /// In how many seconds.
    pub lasts: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    id: String,
    of: Identity,
    expires: u64,
    purpose: Purpose,
    /// `None`: of whatever topic the permissions are.
    #[serde(skip_serializing_if = "Option::is_none")]
    topics: Option<Vec<String>>,
    /// Those of the principal itself, then those that its roles gave.
    permissions: Vec<Permission>,
    /// How many of them are of the principal itself.
    own: usize,
    /// What gave the others, and is to give them still.
    roles: Of,
    /// What let the principal in, and is to let it in still.
    by: By,
    /// Never left out: a ticket that does not say that there is no ceiling is not taken.
    ceiling: Ceiling,
    /// When the token behind it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    /// The origin of the page that asked for it, the only one that may show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    /// The claims that policies name. One that is not here is one that the principal does not have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    claims: BTreeMap<String, Value>,
    /// The token that its principal showed, where that is handed on to Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// What tickets are sealed with.
pub struct SealKey {
    key: LessSafeKey,
    /// Tells it from others.
    digest: digest::Digest,
}

impl SealKey {
    /// What is made of `secret`, of at least 32 bytes.
    ///
    /// # Errors
    ///
    /// No key can be made of it.
    pub fn new(secret: &[u8]) -> Result<Self, String> {
        let made = Salt::new(HKDF_SHA256, &[]).extract(secret);
        let made = made.expand(&[LABEL], &AES_256_GCM_SIV);
        let key = made
            .map(|okm| LessSafeKey::new(UnboundKey::from(okm)))
            .map_err(|_| "no key can be made for tickets".to_owned())?;
        Ok(Self {
            key,
            digest: digest::digest(&digest::SHA256, secret),
        })
    }
}

/// The key that seals, and those before it, which still open what they have sealed.
struct SealKeys {
    current: SealKey,
    /// The newest first, each with the second since 1970 from which it opens nothing.
    before: Vec<(SealKey, u64)>,
}

/// Mints and checks tickets.
pub struct Tickets {
    keys: RwLock<SealKeys>,
    sse_ttl: Duration,
    used: Cache<String, ()>,
    /// By which principals are judged when a ticket is shown.
    book: Arc<Book>,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets")
            .field("sse_ttl", &self.sse_ttl)
            .finish_non_exhaustive()
    }
}

impl Tickets {
    /// Tickets sealed with what is made of `secret`, of at least 32 bytes, of principals that `book` tells of.
    ///
    /// # Errors
    ///
    /// No key can be made of it.
    pub(super) fn new(secret: &[u8], sse_ttl: Duration, book: &Arc<Book>) -> Result<Self, String> {
        let keys = SealKeys {
            current: SealKey::new(secret)?,
            before: Vec::new(),
        };
        Ok(Self {
            keys: RwLock::new(keys),
            sse_ttl,
            used: Cache::builder()
                .time_to_live(REMEMBERED)
                .max_capacity(MOST_REMEMBERED)
                .build(),
            book: Arc::clone(book),
        })
    }

    /// Seals with another key from now on. Tickets of the one before are taken as long as one may live
    /// that was sealed just now; tells how long that is, or nothing where the key is the same.
    pub fn replace_key(&self, key: SealKey) -> Option<Duration> {
        let mut keys = self.keys.write();
        if keys.current.digest.as_ref() == key.digest.as_ref() {
            return None;
        }
        let time = self.sse_ttl.max(Duration::from_secs(WEBSOCKET_TTL));
        let now = now();
        // One that comes back seals again, and needs no second place.
        keys.before.retain(|(before, until)| {
            *until > now && before.digest.as_ref() != key.digest.as_ref()
        });
        let before = std::mem::replace(&mut keys.current, key);
        let until = now.saturating_add(time.as_secs());
        keys.before.insert(0, (before, until));
        keys.before.truncate(KEYS_BEFORE);
        Some(time)
    }

    /// A ticket for `principal`; with `topics`, for these only; for a page of `origin`, if one asks.
    ///
    /// # Errors
    ///
    /// [`NotMinted`].
    pub fn mint(
        &self,
        principal: &Principal,
        purpose: Purpose,
        topics: Option<Vec<String>>,
        origin: Option<String>,
    ) -> Result<Minted, NotMinted> {
        let what = match &topics {
            None => format!("{} for all topics", purpose.name()),
            Some(topics) => format!("{} for {}", purpose.name(), topics.join(", ")),
        };
        let minted = match principal.is_by_ticket() {
            true => Err(NotMinted::ByTicket),
            false => self.make(principal, purpose, topics, origin),
        };
        let may_be_done = principal.audit_context.tell(|| Decision {
            principal: Some(principal.identity()),
            action: "mint",
            kind: "ticket",
            resource: what,
            verdict: match &minted {
                Ok(_) => Ok("a ticket may do no more than its principal".to_owned()),
                Err(error) => Err(error.to_string()),
            },
        });
        if minted.is_ok() && !may_be_done {
            return Err(Denied::Untold.into());
        }
        minted
    }

    fn make(
        &self,
        principal: &Principal,
        purpose: Purpose,
        topics: Option<Vec<String>>,
        origin: Option<String>,
    ) -> Result<Minted, NotMinted> {
        let now = now();
        let ttl = match purpose {
            Purpose::WebSocket => WEBSOCKET_TTL,
            Purpose::Sse => self.sse_ttl.as_secs(),
        };
        let until = principal.expires();
        let expires = (now + ttl).min(until.unwrap_or(u64::MAX));
        let is_needed = |permission: &&Permission| purpose.needs(permission.action());
        let (permissions, own) = match principal.grants().held() {
            // Where nobody is asked who they are, nobody looks at a ticket; elsewhere it is worth nothing.
            None => (Vec::new(), 0),
            Some(held) => (
                held.iter().filter(is_needed).cloned().collect(),
                held.own.iter().filter(is_needed).count(),
            ),
        };
        let roles = match principal.grants() {
            Grants::WithRoles(_, roles) => roles.of().clone(),
            Grants::Everything | Grants::These(_) => Of::Roles(Vec::new()),
        };
        let by = principal
            .standing()
            .map_or(By::Itself, |standing| standing.by().clone());
        let ceiling = match principal.ceiling() {
            Ceiling::None => Ceiling::None,
            Ceiling::At(list) => Ceiling::At(list.iter().filter(is_needed).cloned().collect()),
        };
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| NotMinted::Unsealed(error.to_string()))?;
        let claims = Claims {
            id: format!("{:032x}", u128::from_be_bytes(id)),
            of: Identity::clone(principal.identity()),
            expires,
            purpose,
            topics,
            permissions,
            own,
            roles,
            by,
            ceiling,
            until,
            origin,
            claims: principal.inner.claims.clone(),
            token: principal
                .token()
                .map(|token| token.expose_secret().to_owned()),
        };
        Ok(Minted {
            ticket: self.seal(&claims)?,
            expires,
            lasts: expires.saturating_sub(now),
        })
    }

    /// Whose ticket this is. A WebSocket's is used up by this.
    ///
    /// # Errors
    ///
    /// [`Refused::Invalid`].
    pub fn check(
        &self,
        ticket: &str,
        purpose: Purpose,
        page: Page<'_>,
    ) -> Result<Principal, Refused> {
        let invalid = |text: &str| Refused::Invalid(text.to_owned());
        let claims = self
            .open(ticket)
            // Our own clock made it: there is no leeway.
            .filter(|claims| now() < claims.expires)
            .ok_or_else(|| invalid("the ticket is not valid, or has expired"))?;
        if claims.purpose != purpose {
            return Err(invalid("the ticket is for another kind of connection"));
        }
        if let Some(origin) = &claims.origin
            && !purpose.may_be_shown_by(page, origin)
        {
            return Err(invalid("the ticket was given to a page of another origin"));
        }
        let identity = Arc::new(claims.of);
        let standing = Standing::new(&self.book, claims.by, &identity);
        if standing.now().is_none() {
            return Err(invalid(
                "the user, the API key or the token that the ticket was got with is not valid any more",
            ));
        }
        if purpose == Purpose::WebSocket {
            let entry = self.used.entry(claims.id).or_insert(());
            if !entry.is_fresh() {
                return Err(invalid("the ticket has been used"));
            }
        }
        let roles = Roles::new(&self.book, claims.roles, &identity);
        let own = claims
            .permissions
            .iter()
            .take(claims.own)
            .cloned()
            .collect();
        Ok(Principal::from_inner(Inner {
            identity,
            // What roles give by now and did not give then is not in the ticket.
            grants: Grants::WithRoles(own, roles),
            standing: Some(standing),
            at_most: Some(claims.permissions),
            ceiling: claims.ceiling,
            topics: claims.topics,
            expires: claims.until,
            shown_by: ShownBy::Ticket(purpose),
            ticket_expires: Some(claims.expires),
            claims: claims.claims,
        })
        .with_token(claims.token.map(|token| Arc::new(token.into()))))
    }

    fn seal(&self, claims: &Claims) -> Result<String, NotMinted> {
        let unsealed = |error: &dyn std::fmt::Display| NotMinted::Unsealed(error.to_string());
        let mut sealed = serde_json::to_vec(claims).map_err(|error| unsealed(&error))?;
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|error| unsealed(&error))?;
        let unique = Nonce::assume_unique_for_key(nonce);
        let keys = self.keys.read();
        let sealing = &keys.current.key;
        sealing
            .seal_in_place_append_tag(unique, Aad::from([FORM]), &mut sealed)
            .map_err(|error| unsealed(&error))?;
        drop(keys);
        let mut ticket = vec![FORM];
        ticket.extend(nonce);
        ticket.append(&mut sealed);
        Ok(URL_SAFE_NO_PAD.encode(ticket))
    }

    fn open(&self, ticket: &str) -> Option<Claims> {
        if ticket.len() > MAX_TICKET {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(ticket).ok()?;
        let (form, rest) = bytes.split_first().filter(|(form, _)| **form == FORM)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let open = |key: &SealKey| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut sealed = sealed.to_vec();
            let aad = Aad::from([*form]);
            let opened = key.key.open_in_place(nonce, aad, &mut sealed).ok()?;
            serde_json::from_slice::<Claims>(opened).ok()
        };
        let keys = self.keys.read();
        open(&keys.current).or_else(|| {
            let now = now();
            let before = keys.before.iter().filter(|(_, until)| now < *until);
            before.into_iter().find_map(|(key, until)| {
                // Whoever has the old key could make tickets that last for ever.
                open(key).filter(|claims| claims.expires <= *until)
            })
        })
    }
}

impl Purpose {
    /// Whether permissions of this action go into a ticket. `admin` reads what nobody else may.
    fn needs(self, action: Action) -> bool {
        match self {
            Self::WebSocket => true,
            Self::Sse => matches!(action, Action::Consume | Action::Admin),
        }
    }

    /// Whether such a ticket that was given to a page of `origin` is good in the hands of `page`.
    fn may_be_shown_by(self, page: Page<'_>, origin: &str) -> bool {
        match (self, page) {
            // Browsers always name it at the upgrade.
            (Self::WebSocket, Page::Unnamed(_)) => false,
            (Self::WebSocket | Self::Sse, _) => page.may_be_of(origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::permission::{Resource, authorize};
    use super::super::roles::Table;
    use super::*;

    const HERE: Page<'_> = Page::Unnamed(None);

    fn book() -> Arc<Book> {
        Arc::new(Book::new(Table::default()))
    }

    fn tickets(key: u8) -> Tickets {
        Tickets::new(&[key; 32], Duration::from_secs(60), &book()).unwrap()
    }

    fn permissions(list: &[&str]) -> Vec<Permission> {
        let ann = Identity::of_token("issuer", "ann".to_owned());
        list.iter()
            .map(|text| Permission::parse(text, &ann).unwrap())
            .collect()
    }

    #[test]
    fn a_token_that_is_handed_on_to_kafka_goes_with_the_ticket_and_nobody_reads_it_there() {
        let token = |principal: &Principal| {
            let token = principal.token();
            token.map(|token| token.expose_secret().to_owned())
        };
        let mint = |principal: &Principal| {
            let minted = tickets(1)
                .mint(principal, Purpose::Sse, None, None)
                .unwrap();
            let bytes = URL_SAFE_NO_PAD.decode(&minted.ticket).unwrap();
            assert!(!bytes.windows(6).any(|at| at == b"shown!"));
            tickets(1)
                .check(&minted.ticket, Purpose::Sse, HERE)
                .unwrap()
        };
        let shown = reader().with_token(Some(Arc::new("shown!".into())));
        assert_eq!(token(&mint(&shown)).as_deref(), Some("shown!"));
        assert_eq!(token(&mint(&reader())), None);
        assert!(!format!("{shown:?}").contains("shown!"));
    }

    fn reader() -> Principal {
        Principal::with_permissions("ann", permissions(&["consume:orders.*"]))
    }

    fn is_allowed(principal: &Principal, topic: &str) -> bool {
        authorize(principal, Action::Consume, Resource::Topic(topic)).is_ok()
    }

    #[test]
    fn a_ticket_stands_for_its_principal() {
        let minted = tickets(1)
            .mint(&reader(), Purpose::Sse, None, None)
            .unwrap();
        // Another process with the same key; as often as it is shown.
        for _ in 0..3 {
            let principal = tickets(1)
                .check(&minted.ticket, Purpose::Sse, HERE)
                .unwrap();
            assert_eq!(principal.identity(), reader().identity());
            assert!(is_allowed(&principal, "orders.eu") && !is_allowed(&principal, "payments"));
            assert!(principal.is_by_ticket());
        }
        let refused = |key, purpose| {
            let checked = tickets(key).check(&minted.ticket, purpose, HERE);
            assert!(checked.is_err(), "{key} {purpose:?}");
        };
        refused(2, Purpose::Sse);
        refused(1, Purpose::WebSocket);
        for nonsense in ["nonsense", "", "AQ", &"A".repeat(100_000)] {
            assert!(tickets(1).check(nonsense, Purpose::Sse, HERE).is_err());
        }
        for at in [0, 5, 30, minted.ticket.len() - 1] {
            let mut forged = minted.ticket.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert!(tickets(1).check(&forged, Purpose::Sse, HERE).is_err());
        }
    }

    #[test]
    fn a_replaced_key_opens_its_tickets_as_long_as_they_live() {
        let shared = tickets(1);
        let mint = |tickets: &Tickets| tickets.mint(&reader(), Purpose::Sse, None, None).unwrap();
        let takes = |tickets: &Tickets, minted: &Minted| {
            tickets.check(&minted.ticket, Purpose::Sse, HERE).is_ok()
        };
        let old = mint(&shared);
        assert_eq!(shared.replace_key(SealKey::new(&[1; 32]).unwrap()), None);
        let time = shared.replace_key(SealKey::new(&[2; 32]).unwrap());
        assert_eq!(time, Some(Duration::from_secs(60)));
        let new = mint(&shared);
        assert!(takes(&shared, &old) && takes(&shared, &new));
        assert!(takes(&tickets(2), &new) && !takes(&tickets(1), &new));
        // A ticket that the old key was made to seal for longer than the gateway lets any live.
        let long = Tickets::new(&[1; 32], Duration::from_secs(3600), &book()).unwrap();
        assert!(!takes(&shared, &mint(&long)));
        for byte in 3..3 + u8::try_from(KEYS_BEFORE).unwrap() {
            shared.replace_key(SealKey::new(&[byte; 32]).unwrap());
        }
        assert!(!takes(&shared, &old), "too many keys ago");
        assert!(takes(&shared, &new));
    }

    #[test]
    fn the_bytes_of_a_ticket_show_no_name_and_no_permission() {
        let minted = tickets(1)
            .mint(&reader(), Purpose::Sse, None, None)
            .unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&minted.ticket).unwrap();
        for word in ["ann", "orders", "consume", "issuer"] {
            let found = bytes.windows(word.len()).any(|at| at == word.as_bytes());
            assert!(!found, "{word}");
        }
    }

    #[test]
    fn a_stream_ticket_consumes_and_does_nothing_else() {
        let all = [
            "produce:*",
            "consume:orders.*",
            "group:*",
            "describe:*",
            "create:*",
            "delete:*",
        ];
        for list in [&all[..], &["admin:*"]] {
            let ann = Principal::with_permissions("ann", permissions(list));
            let minted = tickets(1).mint(&ann, Purpose::Sse, None, None).unwrap();
            let ticket = tickets(1)
                .check(&minted.ticket, Purpose::Sse, HERE)
                .unwrap();
            assert!(is_allowed(&ticket, "orders.eu") && ticket.may_only_read_streams());
            for (action, resource) in [
                (Action::Produce, Resource::Topic("orders.eu")),
                (Action::Describe, Resource::Topic("orders.eu")),
                (Action::Create, Resource::Topic("orders.eu")),
                (Action::Delete, Resource::Topic("orders.eu")),
                (Action::Group, Resource::Group("web")),
                (Action::Describe, Resource::Group("web")),
                (Action::Admin, Resource::Cluster),
            ] {
                assert!(
                    authorize(&ticket, action, resource).is_err(),
                    "{action} {resource}"
                );
            }
        }
    }

    #[test]
    fn a_ticket_of_someone_who_may_do_nothing_does_nothing() {
        for principal in [
            Principal::anonymous(),
            Principal::with_permissions("ann", Vec::new()),
        ] {
            let minted = tickets(1)
                .mint(&principal, Purpose::WebSocket, None, None)
                .unwrap();
            let ticket = tickets(1).check(&minted.ticket, Purpose::WebSocket, HERE);
            let ticket = ticket.unwrap();
            assert!(!is_allowed(&ticket, "orders.eu"));
            assert!(authorize(&ticket, Action::Admin, Resource::Cluster).is_err());
        }
        // What is left out is nothing, and not everything.
        let claims = Claims {
            id: "1".to_owned(),
            of: Identity::anonymous(),
            expires: now() + 60,
            purpose: Purpose::Sse,
            topics: None,
            permissions: Vec::new(),
            own: 0,
            roles: Of::Roles(Vec::new()),
            by: By::Itself,
            ceiling: Ceiling::None,
            until: None,
            origin: None,
            claims: BTreeMap::new(),
            token: None,
        };
        let claims = serde_json::to_value(claims).unwrap();
        assert!(serde_json::from_value::<Claims>(claims.clone()).is_ok());
        for field in ["permissions", "own", "roles", "by", "ceiling"] {
            let mut without = claims.clone();
            without.as_object_mut().unwrap().remove(field);
            assert!(
                serde_json::from_value::<Claims>(without).is_err(),
                "{field}"
            );
        }
    }

    /// A table in which the role `reader` gives these.
    fn reader_table(texts: &[&str]) -> Table {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        Table {
            roles: BTreeMap::from([("reader".to_owned(), texts)]),
            ..Table::default()
        }
    }

    #[test]
    fn a_ticket_loses_what_the_roles_of_its_principal_lose_and_gains_nothing() {
        let book = Arc::new(Book::new(reader_table(&["consume:orders", "produce:x"])));
        let tickets = Tickets::new(&[1; 32], Duration::from_secs(60), &book).unwrap();
        let ann = Arc::new(Identity::of_token("issuer", "ann".to_owned()));
        let names = Of::Roles(vec!["reader".to_owned()]);
        let roles = Roles::new(&book, names, &ann);
        let grants = Grants::WithRoles(permissions(&["consume:own"]), roles);
        let principal = Principal::from_inner(Inner {
            standing: Some(Standing::new(&book, By::Itself, &ann)),
            ..Inner::of(Arc::clone(&ann), grants)
        });
        for purpose in [Purpose::Sse, Purpose::WebSocket] {
            book.replace(reader_table(&["consume:orders", "produce:x"]));
            let minted = tickets.mint(&principal, purpose, None, None).unwrap();
            let ticket = tickets.check(&minted.ticket, purpose, HERE).unwrap();
            assert!(is_allowed(&ticket, "own") && is_allowed(&ticket, "orders"));
            assert!(!is_allowed(&ticket, "bills"));
            // Also of a ticket that was shown before.
            book.replace(reader_table(&["consume:bills", "admin:*"]));
            assert!(is_allowed(&ticket, "own"), "{purpose:?}");
            assert!(!is_allowed(&ticket, "bills") && is_allowed(&principal, "bills"));
            assert!(!ticket.may_do_everything() && principal.may_do_everything());
            book.replace(reader_table(&["consume:bills"]));
            assert!(!is_allowed(&ticket, "orders") && is_allowed(&ticket, "own"));
        }
    }

    #[test]
    fn a_ticket_carries_the_ceiling_of_its_principal() {
        for purpose in [Purpose::Sse, Purpose::WebSocket] {
            for list in [&["consume:*", "produce:*"][..], &["admin:*"]] {
                let most = permissions(&["consume:orders.*", "describe:*"]);
                let ann = Principal::below("ann", permissions(list), most);
                let minted = tickets(1).mint(&ann, purpose, None, None).unwrap();
                let page = Page::Unnamed(None);
                let ticket = tickets(1).check(&minted.ticket, purpose, page).unwrap();
                assert!(is_allowed(&ticket, "orders.eu") && !is_allowed(&ticket, "payments"));
                let writes = authorize(&ticket, Action::Produce, Resource::Topic("orders.eu"));
                assert!(writes.is_err(), "{purpose:?} {list:?}");
                assert!(!ticket.may_do_everything(), "{purpose:?} {list:?}");
            }
        }
    }

    #[test]
    fn a_ticket_may_be_for_some_topics_only() {
        let topics = Some(vec!["orders.eu".to_owned(), "payments".to_owned()]);
        let minted = tickets(1)
            .mint(&reader(), Purpose::Sse, topics, None)
            .unwrap();
        let principal = tickets(1)
            .check(&minted.ticket, Purpose::Sse, HERE)
            .unwrap();
        assert!(is_allowed(&principal, "orders.eu"));
        assert!(!is_allowed(&principal, "orders.us"), "not asked for");
        assert!(
            !is_allowed(&principal, "payments"),
            "asked for, but not the principal's"
        );
    }

    #[test]
    fn a_websocket_ticket_is_good_for_one_use() {
        let tickets = tickets(1);
        let minted = tickets
            .mint(&reader(), Purpose::WebSocket, None, None)
            .unwrap();
        assert!(minted.expires <= now() + WEBSOCKET_TTL);
        tickets
            .check(&minted.ticket, Purpose::WebSocket, HERE)
            .unwrap();
        let again = tickets.check(&minted.ticket, Purpose::WebSocket, HERE);
        assert_eq!(
            again,
            Err(Refused::Invalid("the ticket has been used".to_owned()))
        );
    }

    #[test]
    fn a_ticket_is_for_the_page_that_asked() {
        const PAGE: &str = "https://app.example";
        let tickets = tickets(1);
        let check = |purpose, page| {
            let minted = tickets.mint(&reader(), purpose, None, Some(PAGE.to_owned()));
            tickets
                .check(&minted.unwrap().ticket, purpose, page)
                .is_ok()
        };
        for purpose in [Purpose::WebSocket, Purpose::Sse] {
            assert!(check(purpose, Page::Of(PAGE)));
            assert!(!check(purpose, Page::Of("https://evil.example")));
            assert!(!check(purpose, Page::Unnamed(None)));
            assert!(!check(purpose, Page::Unnamed(Some("https://gw.example"))));
        }
        // A browser names no origin when a page reads from where it came from.
        assert!(check(Purpose::Sse, Page::Unnamed(Some(PAGE))));
        assert!(!check(Purpose::WebSocket, Page::Unnamed(Some(PAGE))));
    }

    #[test]
    fn a_ticket_does_not_outlive_its_token() {
        let until = |expires| {
            let ann = Principal::expiring("ann", Vec::new(), expires);
            tickets(1).mint(&ann, Purpose::Sse, None, None).unwrap()
        };
        let soon = now() + 5;
        assert_eq!(until(soon).expires, soon);
        let minted = until(now() - 5);
        assert!(
            tickets(1)
                .check(&minted.ticket, Purpose::Sse, HERE)
                .is_err()
        );
    }
}
