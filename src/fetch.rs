//! What other servers answer the gateway, such as an issuer with its keys or a token endpoint: read
//! within a limit, and failures in words that can be logged.

use std::error::Error;

/// Longest part of somebody else's words in a message of ours.
const MOST_WORDS: usize = 200;

/// The whole body; `None` when it has more than `most` bytes, of which the rest is not read.
///
/// # Errors
///
/// The answer broke off or took too long, in words.
pub async fn body(mut response: reqwest::Response, most: usize) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(causes)? {
        if body.len() + piece.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Some(body))
}

/// The error with its causes, which reqwest's own text leaves out, and without the URL, which may
/// hold credentials.
pub fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause
        && text.len() < MOST_WORDS
    {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    words(&text)
}

/// Somebody else's words: one line, and not too many.
pub fn words(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MOST_WORDS)
        .collect()
}
