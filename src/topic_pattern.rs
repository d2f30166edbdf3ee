//! Regular expressions over topic names, of sessions and consumer instances.

use regex::{Regex, RegexBuilder};

/// Longest pattern, in bytes, and largest it may become when it is compiled.
const MAX_PATTERN: usize = 1 << 10;
const MAX_COMPILED: usize = 256 << 10;

/// A pattern of topic names.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
}

impl Pattern {
    /// Reads a regular expression.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATTERN {
            return Err(format!("a pattern has at most {MAX_PATTERN} bytes"));
        }
        RegexBuilder::new(&format!("^(?:{text})$"))
            .size_limit(MAX_COMPILED)
            .build()
            .map(|regex| Self { regex })
            .map_err(|error| error.to_string().replace('\n', " "))
    }

    /// Whether the whole name matches.
    pub fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }
}
