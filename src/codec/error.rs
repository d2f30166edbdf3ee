//! Why a body could not be taken. Each API makes its own answer of it.

use std::fmt;

/// What is wrong with a body, or with a record in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// It is not JSON, or nothing at all. The text says where.
    Unreadable(String),
    /// It was read, and something in it is not acceptable.
    Unacceptable {
        /// The JSON Pointer of what is at fault.
        pointer: String,
        /// What is wrong, with the pointer in it.
        message: String,
    },
}

impl DecodeError {
    /// The body is not JSON; `error` has line and column.
    pub(super) fn not_json(error: &serde_json::Error) -> Self {
        Self::Unreadable(format!("the body is not valid JSON: {error}"))
    }

    pub(super) fn unacceptable(pointer: impl Into<String>, message: String) -> Self {
        let pointer = pointer.into();
        Self::Unacceptable { pointer, message }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(message) | Self::Unacceptable { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for DecodeError {}
