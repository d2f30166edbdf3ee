//! The grammar of permissions, `action:pattern`, which settings and tokens share. What a permission
//! allows is for `auth::permission` to say.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What can be allowed on a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Write to a topic, over any API.
    Produce,
    /// Read a topic, over any API.
    Consume,
    /// Join, commit and reset as a consumer group.
    Group,
    /// See that a topic or group exists, its configuration, offsets and lag.
    Describe,
    /// Create a topic.
    Create,
    /// Change a topic's configuration or partitions.
    Alter,
    /// Delete a topic or its records.
    Delete,
    /// Run transactions under a transactional id.
    Transact,
    /// Everything.
    Admin,
}

impl Action {
    const ALL: [Self; 9] = [
        Self::Produce,
        Self::Consume,
        Self::Group,
        Self::Describe,
        Self::Create,
        Self::Alter,
        Self::Delete,
        Self::Transact,
        Self::Admin,
    ];

    /// The action's name as permissions spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::Group => "group",
            Self::Describe => "describe",
            Self::Create => "create",
            Self::Alter => "alter",
            Self::Delete => "delete",
            Self::Transact => "transact",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text is no permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PermissionError {
    /// There is no colon, or nothing behind it.
    #[error("expected action:pattern, such as consume:orders.*")]
    Shape,
    /// The action is none of ours.
    #[error("expected one of {} before the colon", Action::ALL.map(Action::name).join(", "))]
    Action,
    /// `admin` is everything or nothing.
    #[error("admin takes no pattern but *")]
    Admin,
}

/// Reads a permission: its action, and the pattern as it was written.
///
/// # Errors
/// [`PermissionError`]: what was expected of it.
pub fn read_permission(text: &str) -> Result<(Action, &str), PermissionError> {
    let (action, pattern) = text
        .split_once(':')
        .filter(|(_, pattern)| !pattern.is_empty())
        .ok_or(PermissionError::Shape)?;
    let action = Action::ALL
        .into_iter()
        .find(|known| known.name() == action)
        .ok_or(PermissionError::Action)?;
    if action == Action::Admin && pattern != "*" {
        return Err(PermissionError::Admin);
    }
    Ok((action, pattern))
}
