//! The context of a decision: whose request it is for, so that the audit log can tell, and so that a client
//! that is refused too often is not listened to.
//!
//! Every API has to name an [`AuditContext`] to find out who calls ([`super::Authenticator::authenticate`]),
//! and the principal that it is given carries it on to wherever something is decided. So no API
//! counts or writes to the audit log itself, and none can forget to.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Principal;
use super::failure_limiter::{FailureLimiter, TooMany};
use super::identity::Identity;
use super::permission::{Action, Denied, Granted, Resource};
use crate::observe::audit::{Audit, Entry, Origin, Who};

/// Decisions of one request that are remembered, so as to be told once: the route's guard decides what
/// the write pipeline decides again, and that for each batch of a stream.
const REMEMBERED: usize = 8;

/// Where a request comes from, as far as anyone wants to know. Cheap to clone.
#[derive(Clone)]
pub struct AuditContext {
    told: Option<Arc<Told>>,
    counted: Option<(Arc<FailureLimiter>, u128)>,
}

struct Told {
    audit: Audit,
    origin: Arc<Origin>,
    allowed: Mutex<Vec<(Action, &'static str, String)>>,
}

impl fmt::Debug for AuditContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.told.as_ref().map(|told| &told.origin);
        f.debug_tuple("AuditContext").field(&origin).finish()
    }
}

impl AuditContext {
    /// For principals that nothing is decided for.
    pub(super) const fn nobody() -> Self {
        Self {
            told: None,
            counted: None,
        }
    }

    /// With where to tell of decisions, and where to count refusals and as whom.
    pub(super) fn new(
        told: Option<(&Audit, Origin)>,
        counted: Option<(Arc<FailureLimiter>, u128)>,
    ) -> Self {
        let told = told.map(|(audit, origin)| {
            Arc::new(Told {
                audit: audit.clone(),
                origin: Arc::new(origin),
                allowed: Mutex::default(),
            })
        });
        Self { told, counted }
    }

    /// As whom refusals are counted, where they are.
    pub(super) fn counted_as(&self) -> Option<u128> {
        self.counted.as_ref().map(|(_, who)| *who)
    }

    /// Whether there is room for another refusal.
    ///
    /// # Errors
    ///
    /// [`TooMany`] when there is none.
    pub(super) fn check(&self) -> Result<(), TooMany> {
        let counted = self.counted.as_ref();
        counted.map_or(Ok(()), |(failure_limiter, who)| failure_limiter.check(*who))
    }

    /// Counts a request that is refused.
    ///
    /// # Errors
    ///
    /// [`TooMany`], which is what to answer then.
    pub fn count(&self) -> Result<(), TooMany> {
        let counted = self.counted.as_ref();
        counted.map_or(Ok(()), |(failure_limiter, who)| failure_limiter.count(*who))
    }

    /// Whether anything may be allowed now: the audit log can tell of it, or need not.
    pub(super) fn can_be_told(&self) -> bool {
        let told = self.told.as_ref();
        told.is_none_or(|told| told.audit.is_ready())
    }

    /// Nobody could be made out.
    pub fn is_unknown(&self, reason: &impl fmt::Display) {
        self.tell(|| Decision {
            principal: None,
            action: "authenticate",
            kind: "gateway",
            resource: String::new(),
            verdict: Err(reason.to_string()),
        });
    }

    /// A permission was asked for. What is allowed is told once, what is denied each time. Tells whether
    /// what is allowed may be done, which it may not where it has to be told and cannot be.
    pub(super) fn is_decided(
        &self,
        principal: &Principal,
        action: Action,
        resource: Resource<'_>,
        verdict: &Result<Granted<'_>, Denied>,
    ) -> bool {
        let Some(told) = &self.told else { return true };
        if verdict.is_ok() && !told.is_new(action, resource) {
            return true;
        }
        let may_be_done = self.tell(|| Decision {
            principal: Some(principal.identity()),
            action: action.name(),
            kind: resource.kind(),
            resource: resource.to_string(),
            verdict: match verdict {
                Ok(granted) => Ok(granted.to_string()),
                Err(denied) => Err(denied.to_string()),
            },
        });
        if !may_be_done {
            told.forget(action, resource);
        }
        may_be_done
    }

    /// Something else than a permission was decided on. Tells what [`AuditContext::is_decided`] does.
    pub(super) fn tell<'a>(&self, decision: impl FnOnce() -> Decision<'a>) -> bool {
        let Some(told) = &self.told else { return true };
        let decision = decision();
        let allowed = decision.verdict.is_ok();
        let (Ok(reason) | Err(reason)) = decision.verdict;
        told.audit.record(Entry {
            time: jiff::Timestamp::now(),
            origin: Arc::clone(&told.origin),
            principal: decision.principal.map(|identity| Who {
                known_by: identity.kind().name(),
                issuer: identity.issuer().to_owned(),
                name: identity.subject().to_owned(),
            }),
            action: decision.action,
            kind: decision.kind,
            resource: decision.resource,
            allowed,
            reason,
        })
    }
}

/// What [`AuditContext::tell`] tells.
pub(super) struct Decision<'a> {
    pub(super) principal: Option<&'a Arc<Identity>>,
    pub(super) action: &'static str,
    pub(super) kind: &'static str,
    pub(super) resource: String,
    /// Why it is allowed, or why not.
    pub(super) verdict: Result<String, String>,
}

impl Told {
    fn is_new(&self, action: Action, resource: Resource<'_>) -> bool {
        let (kind, name) = (resource.kind(), resource.name());
        let mut allowed = self.allowed.lock();
        let same =
            |told: &(Action, &str, String)| told.0 == action && told.1 == kind && told.2 == name;
        if allowed.iter().any(same) {
            return false;
        }
        if allowed.len() >= REMEMBERED {
            allowed.remove(0);
        }
        allowed.push((action, kind, name.to_owned()));
        true
    }

    /// It was not told after all.
    fn forget(&self, action: Action, resource: Resource<'_>) {
        let (kind, name) = (resource.kind(), resource.name());
        self.allowed
            .lock()
            .retain(|told| (told.0, told.1, told.2.as_str()) != (action, kind, name));
    }
}
