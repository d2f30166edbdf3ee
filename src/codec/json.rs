//! What may stand inside our own JSON: checks on raw JSON text.

use serde::de::IgnoredAny;

/// Deepest nesting of a JSON value. Parsers of those who read the topic have limits too (that of
/// Confluent REST Proxy is 1,000), and a value that breaks them is not a service to anyone.
pub const MAX_DEPTH: usize = 1_000;

/// The text, if the bytes are one JSON value that may stand inside ours.
pub fn value(bytes: &[u8]) -> Option<&str> {
    // serde_json passes over strings without looking at their UTF-8, so that is checked first.
    let text = std::str::from_utf8(bytes).ok()?;
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    (!deeper_than(bytes, MAX_DEPTH)).then_some(text)
}

/// Whether arrays and objects stand in each other more than `limit` deep in this JSON.
pub fn deeper_than(json: &[u8], limit: usize) -> bool {
    if json.len() <= limit {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}
