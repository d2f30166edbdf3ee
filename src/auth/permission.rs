//! What a principal may do: actions, patterns, and the one function that decides.
//!
//! A permission is `action:pattern`, the pattern a glob over the resource's name in which `*` is any
//! run of characters, `{sub}` the principal's subject and `{iss}` its issuer, taken literally.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Principal;
use super::identity::Identity;
use super::roles::Held;
use crate::config::read_permission;
use crate::glob::Glob;
use crate::reserved::{Keeper, keeper};

pub use crate::config::{Action, PermissionError};

/// What an action is to be done on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A topic, by name.
    Topic(&'a str),
    /// A consumer group, by id.
    Group(&'a str),
    /// A transactional id.
    Transaction(&'a str),
    /// The cluster as a whole.
    Cluster,
}

impl<'a> Resource<'a> {
    /// What sort of thing it is, in a word.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Topic(_) => "topic",
            Self::Group(_) => "group",
            Self::Transaction(_) => "transaction",
            Self::Cluster => "cluster",
        }
    }

    /// What patterns are matched against.
    pub(super) fn name(self) -> &'a str {
        match self {
            Self::Topic(name) | Self::Group(name) | Self::Transaction(name) => name,
            Self::Cluster => "*",
        }
    }
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One permission of a principal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    action: Action,
    pattern: Glob,
}

impl Permission {
    /// Reads `action:pattern`, with what `identity` has in the places of `{sub}` and `{iss}`.
    ///
    /// # Errors
    ///
    /// [`PermissionError`]. In a token's scopes, which other systems share, it only means that
    /// the scope is not for us.
    pub fn parse(text: &str, identity: &Identity) -> Result<Self, PermissionError> {
        let (action, pattern) = read_permission(text)?;
        Ok(Self {
            action,
            pattern: Glob::with(
                pattern,
                &[("{sub}", identity.subject()), ("{iss}", identity.issuer())],
            ),
        })
    }

    /// What it lets be done.
    pub(super) fn action(&self) -> Action {
        self.action
    }

    /// Whether the permission lets `action` be done on `resource`.
    fn allows(&self, action: Action, resource: Resource<'_>) -> bool {
        if self.action == Action::Admin {
            return true;
        }
        let implied = match (action, resource) {
            (Action::Describe, Resource::Topic(_)) => {
                matches!(self.action, Action::Produce | Action::Consume)
            }
            (Action::Describe, Resource::Group(_)) => self.action == Action::Group,
            _ => false,
        };
        (self.action == action || implied) && self.pattern.matches(resource.name())
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.action, self.pattern)
    }
}

/// What a principal may do at the most, whatever its permissions say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Ceiling {
    /// As much as its permissions say.
    None,
    /// No more than these also allow.
    At(Vec<Permission>),
}

impl Ceiling {
    /// Whether `action` on `resource` is within it.
    fn allows(&self, action: Action, resource: Resource<'_>) -> bool {
        match self {
            Self::None => true,
            Self::At(list) => list.iter().any(|one| one.allows(action, resource)),
        }
    }

    /// Whether nothing is above it.
    pub(super) fn allows_everything(&self) -> bool {
        match self {
            Self::None => true,
            Self::At(list) => list.iter().any(|one| one.action == Action::Admin),
        }
    }
}

/// Why something may not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The permission that would have been needed.
    #[error("the permission {action}:{resource} is missing")]
    Missing {
        /// What was asked for.
        action: Action,
        /// The topic, group or other name it was asked for.
        resource: String,
    },
    /// The principal has a permission for it, but its issuer's tokens may not do so much.
    #[error(
        "the permission {action}:{resource} is above what tokens of this issuer may do \
         (permissions_allowed of its auth.issuers)"
    )]
    AboveCeiling {
        /// What was asked for.
        action: Action,
        /// The topic, group or other name it was asked for.
        resource: String,
    },
    /// It is no principal any more: its line of `auth.users_file` is gone or has another secret, or its token
    /// is of a key that the issuer has no more.
    #[error(
        "the user, the API key or the token that was shown is not valid any more; show a new one"
    )]
    Gone,
    /// It may be done, but the audit log has to tell of it and cannot.
    #[error(
        "the audit log cannot be written at the moment, and without it nothing is allowed \
         (telemetry.audit_required)"
    )]
    Untold,
}

/// Why something is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Granted<'a> {
    /// `auth.mode = "none"`.
    ToAll,
    /// A permission says so.
    By(&'a Permission),
    /// The gateway itself does it, where nobody's permission is asked for.
    ToGateway,
}

impl fmt::Display for Granted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToAll => f.write_str("auth.mode is none"),
            Self::By(permission) => write!(f, "the permission {permission}"),
            Self::ToGateway => {
                f.write_str("the gateway itself writes it (websocket.dead_letter_topic)")
            }
        }
    }
}

/// Decides whether `principal` may do `action` on `resource`, and tells the audit log. Topics of
/// Kafka and of its tools ([`keeper`]) are for `admin` only.
///
/// # Errors
///
/// [`Denied`], which names the permission that is missing, or says that the audit log cannot be told.
pub fn authorize(
    principal: &Principal,
    action: Action,
    resource: Resource<'_>,
) -> Result<(), Denied> {
    let held = principal.grants().held();
    let verdict = judge(principal, held.as_ref(), action, resource);
    let may_be_done = principal
        .audit_context
        .is_decided(principal, action, resource, &verdict);
    verdict?;
    if may_be_done {
        Ok(())
    } else {
        Err(Denied::Untold)
    }
}

/// Tells the audit log that the gateway itself writes to `topic` for a session of `principal`, whose
/// permissions are not asked for.
///
/// # Errors
///
/// [`Denied::Untold`].
pub fn is_written_by_gateway(principal: &Principal, topic: &str) -> Result<(), Denied> {
    let (topic, by_gateway) = (Resource::Topic(topic), Ok(Granted::ToGateway));
    let audit_context = &principal.audit_context;
    match audit_context.is_decided(principal, Action::Produce, topic, &by_gateway) {
        true => Ok(()),
        false => Err(Denied::Untold),
    }
}

/// Whether what was allowed before still is, for what is open. The audit log was told of that already, so it
/// is told only where it is not any more: however much is open, a change is no flood of lines.
///
/// # Errors
///
/// As [`authorize`].
pub fn reauthorize(
    principal: &Principal,
    action: Action,
    resource: Resource<'_>,
) -> Result<(), Denied> {
    if is_allowed(principal, action, resource) {
        return Ok(());
    }
    authorize(principal, action, resource)
}

/// [`authorize`] or [`reauthorize`].
pub type Authorize = fn(&Principal, Action, Resource<'_>) -> Result<(), Denied>;

/// Like [`authorize`], for what is only looked at, such as which lines of a list to show: nothing is
/// decided, so the audit log is told of nothing.
pub fn is_allowed(principal: &Principal, action: Action, resource: Resource<'_>) -> bool {
    let held = principal.grants().held();
    judge(principal, held.as_ref(), action, resource).is_ok()
}

/// Whether a first use by `principal` may create the topic, where `kafka.auto_create_topics` is on:
/// whoever may create it, or write to it. To read it is not enough.
pub fn may_create(principal: &Principal, topic: &str) -> bool {
    let topic = Resource::Topic(topic);
    is_allowed(principal, Action::Create, topic) || is_allowed(principal, Action::Produce, topic)
}

fn judge<'a>(
    principal: &Principal,
    held: Option<&'a Held<'_>>,
    action: Action,
    resource: Resource<'_>,
) -> Result<Granted<'a>, Denied> {
    // What holds now, for what was opened before; nothing where that cannot change.
    let most_now = match principal.standing() {
        None => None,
        Some(standing) => Some(standing.now().ok_or(Denied::Gone)?),
    };
    // Topics of Kafka and of its tools are for whoever may do everything.
    let needed = match resource {
        Resource::Topic(name) if keeper(name) != Keeper::Users => Action::Admin,
        _ => action,
    };
    let granted = match held {
        _ if principal.is_kept_from(action, resource) => None,
        None => Some(Granted::ToAll),
        Some(held) => held
            .iter()
            .find(|permission| permission.allows(needed, resource))
            .map(Granted::By),
    };
    let granted = granted.filter(|_| principal.was_granted(|own| own.allows(needed, resource)));
    let granted = granted.ok_or_else(|| Denied::Missing {
        action,
        resource: resource.to_string(),
    })?;
    let is_within_now = most_now.is_none_or(|most| most.allows(needed, resource));
    if !is_within_now || !principal.ceiling().allows(needed, resource) {
        return Err(Denied::AboveCeiling {
            action,
            resource: resource.to_string(),
        });
    }
    Ok(granted)
}

#[cfg(test)]
mod tests;
