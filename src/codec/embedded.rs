//! The embedded formats of the v2 API.

/// How keys and values stand in a body of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embedded {
    /// As base64.
    Binary,
    /// As they are.
    Json,
    /// As JSON strings of the same text.
    Text,
    /// By a schema, in the format of this name.
    Schema(&'static str),
}
