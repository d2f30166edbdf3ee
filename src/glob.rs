//! Globs, in which `*` is any run of characters and nothing else is special.

use serde::{Deserialize, Serialize};

/// Literal pieces with any run of characters between them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Glob(Vec<String>);

impl Glob {
    /// Cuts `text` at its stars.
    pub fn new(text: &str) -> Self {
        Self(text.split('*').map(str::to_owned).collect())
    }

    /// The same with `value`, taken literally, in the place of `name`.
    pub fn with(text: &str, name: &str, value: &str) -> Self {
        // Cut at the stars first: one in the value is a character like any other.
        let pieces = text.split('*').map(|piece| piece.replace(name, value));
        Self(pieces.collect())
    }

    /// Whether the whole of `name` is of this form.
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_first() else {
            return false;
        };
        let Some(mut left) = name.strip_prefix(first.as_str()) else {
            return false;
        };
        let Some((last, middle)) = rest.split_last() else {
            return left.is_empty();
        };
        for piece in middle {
            // The earliest place is as good as any later one.
            match left.find(piece.as_str()) {
                Some(at) => left = left.get(at + piece.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        left.ends_with(last.as_str())
    }
}

impl std::fmt::Display for Glob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("*"))
    }
}

#[cfg(test)]
mod tests;
