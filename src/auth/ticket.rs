//! Tickets: what a browser page shows where it cannot set a header. `new WebSocket()` and
//! `EventSource` take only a URL, and a URL ends up in logs, so what stands in it is worth little: a
//! ticket is short-lived or bound to reading, and for a WebSocket it is good for one use.
//!
//! A ticket is signed with a key that processes can share, so that any of them can check it; that a
//! WebSocket's is used once is known only to the process that saw it.

use std::collections::BTreeMap;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::asker::Decision;
use super::jwt::{Refused, now};
use super::permission::Permission;
use super::{Inner, Principal};

/// Tells tickets from tokens that are signed with the same secret.
const AUDIENCE: &str = "tidegate:ticket";
/// How long a ticket for a WebSocket may wait to be used.
const WEBSOCKET_TTL: u64 = 30;
/// How long used tickets are remembered: longer than they live.
const REMEMBERED: Duration = Duration::from_secs(120);
/// Most used tickets that are remembered; about 100 bytes each.
const MOST_REMEMBERED: u64 = 1_000_000;

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
    /// It could not be signed.
    #[error("the ticket could not be signed: {0}")]
    Unsigned(String),
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
struct Claims {
    aud: String,
    jti: String,
    sub: String,
    exp: u64,
    #[serde(rename = "use")]
    purpose: Purpose,
    /// `None`: all that the principal may.
    #[serde(skip_serializing_if = "Option::is_none")]
    topics: Option<Vec<String>>,
    /// `None`: everything is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<Vec<Permission>>,
    /// When the token behind it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    /// The origin of the page that asked for it, the only one that may show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    /// The claims that policies name. One that is not here is one that the principal does not have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    claims: BTreeMap<String, Value>,
}

/// Mints and checks tickets.
pub struct Tickets {
    signing: EncodingKey,
    checking: DecodingKey,
    sse_ttl: Duration,
    used: Cache<String, ()>,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets")
            .field("sse_ttl", &self.sse_ttl)
            .finish_non_exhaustive()
    }
}

impl Tickets {
    /// Tickets signed with `key`, of at least 32 bytes.
    pub fn new(key: &[u8], sse_ttl: Duration) -> Self {
        Self {
            signing: EncodingKey::from_secret(key),
            checking: DecodingKey::from_secret(key),
            sse_ttl,
            used: Cache::builder()
                .time_to_live(REMEMBERED)
                .max_capacity(MOST_REMEMBERED)
                .build(),
        }
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
            false => self.sign(principal, purpose, topics, origin),
        };
        principal.asker.tell(|| Decision {
            principal: Some(principal.name()),
            action: "mint",
            kind: "ticket",
            resource: what,
            verdict: match &minted {
                Ok(_) => Ok("a ticket may do no more than its principal".to_owned()),
                Err(error) => Err(error.to_string()),
            },
        });
        minted
    }

    fn sign(
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
        let claims = Claims {
            aud: AUDIENCE.to_owned(),
            jti: format!("{:032x}", fastrand::u128(..)),
            sub: principal.name().to_owned(),
            exp: expires,
            purpose,
            topics,
            permissions: principal.inner.permissions.clone(),
            until,
            origin,
            claims: principal.inner.claims.clone(),
        };
        let ticket = encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .map_err(|error| NotMinted::Unsigned(error.to_string()))?;
        Ok(Minted {
            ticket,
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
        origin: Option<&str>,
    ) -> Result<Principal, Refused> {
        let invalid = |text: &str| Refused::Invalid(text.to_owned());
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        // Our own clock made it.
        validation.leeway = 0;
        let claims = decode::<Claims>(ticket, &self.checking, &validation)
            .map_err(|_| invalid("the ticket is not valid, or has expired"))?
            .claims;
        if claims.purpose != purpose {
            return Err(invalid("the ticket is for another kind of connection"));
        }
        if purpose == Purpose::WebSocket {
            if claims.origin.is_some() && claims.origin.as_deref() != origin {
                return Err(invalid("the ticket was given to a page of another origin"));
            }
            let entry = self.used.entry(claims.jti).or_insert(());
            if !entry.is_fresh() {
                return Err(invalid("the ticket has been used"));
            }
        }
        Ok(Principal::from_inner(Inner {
            name: claims.sub,
            permissions: claims.permissions,
            topics: claims.topics,
            expires: claims.until,
            by_ticket: true,
            ticket_expires: Some(claims.exp),
            claims: claims.claims,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::permission::{Action, Resource, decide};
    use super::*;

    fn tickets(key: u8) -> Tickets {
        Tickets::new(&[key; 32], Duration::from_secs(60))
    }

    fn reader() -> Principal {
        let permission = Permission::parse("consume:orders.*", "ann").unwrap();
        Principal::with_permissions("ann", vec![permission])
    }

    fn may(principal: &Principal, topic: &str) -> bool {
        decide(principal, Action::Consume, Resource::Topic(topic)).is_ok()
    }

    #[test]
    fn a_ticket_stands_for_its_principal() {
        let minted = tickets(1)
            .mint(&reader(), Purpose::Sse, None, None)
            .unwrap();
        // Another process with the same key; as often as it is shown.
        for _ in 0..3 {
            let principal = tickets(1)
                .check(&minted.ticket, Purpose::Sse, None)
                .unwrap();
            assert_eq!(principal.name(), "ann");
            assert!(may(&principal, "orders.eu") && !may(&principal, "payments"));
            assert!(principal.is_by_ticket());
        }
        assert!(
            tickets(2)
                .check(&minted.ticket, Purpose::Sse, None)
                .is_err()
        );
        assert!(
            tickets(1)
                .check(&minted.ticket, Purpose::WebSocket, None)
                .is_err()
        );
        assert!(tickets(1).check("nonsense", Purpose::Sse, None).is_err());
    }

    #[test]
    fn a_ticket_may_be_for_some_topics_only() {
        let topics = Some(vec!["orders.eu".to_owned(), "payments".to_owned()]);
        let minted = tickets(1)
            .mint(&reader(), Purpose::Sse, topics, None)
            .unwrap();
        let principal = tickets(1)
            .check(&minted.ticket, Purpose::Sse, None)
            .unwrap();
        assert!(may(&principal, "orders.eu"));
        assert!(!may(&principal, "orders.us"), "not asked for");
        assert!(
            !may(&principal, "payments"),
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
            .check(&minted.ticket, Purpose::WebSocket, None)
            .unwrap();
        let again = tickets.check(&minted.ticket, Purpose::WebSocket, None);
        assert_eq!(
            again,
            Err(Refused::Invalid("the ticket has been used".to_owned()))
        );
    }

    #[test]
    fn a_websocket_ticket_is_for_the_page_that_asked() {
        let tickets = tickets(1);
        let origin = Some("https://app.example".to_owned());
        let mint = || tickets.mint(&reader(), Purpose::WebSocket, None, origin.clone());
        let check = |origin| {
            let minted = mint().unwrap();
            tickets.check(&minted.ticket, Purpose::WebSocket, origin)
        };
        assert!(check(Some("https://app.example")).is_ok());
        assert!(check(Some("https://evil.example")).is_err());
        assert!(check(None).is_err());
    }

    #[test]
    fn a_ticket_does_not_outlive_its_token() {
        let soon = now() + 5;
        let principal = Principal::from_inner(Inner {
            name: "ann".to_owned(),
            permissions: Some(vec![]),
            topics: None,
            expires: Some(soon),
            by_ticket: false,
            ticket_expires: None,
            claims: BTreeMap::new(),
        });
        let minted = tickets(1)
            .mint(&principal, Purpose::Sse, None, None)
            .unwrap();
        assert_eq!(minted.expires, soon);
        let expired = Principal::from_inner(Inner {
            name: "ann".to_owned(),
            permissions: Some(vec![]),
            topics: None,
            expires: Some(now() - 5),
            by_ticket: false,
            ticket_expires: None,
            claims: BTreeMap::new(),
        });
        let minted = tickets(1).mint(&expired, Purpose::Sse, None, None).unwrap();
        assert!(
            tickets(1)
                .check(&minted.ticket, Purpose::Sse, None)
                .is_err()
        );
    }
}
