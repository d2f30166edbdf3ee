//! Request ids: taken from `X-Request-Id` when it is sane, else made.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header, in requests and answers.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken from a client.
const MAX_LEN: usize = 128;

/// The id of a request, cheap to clone.
#[derive(Debug, Clone)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's own id, when it is short and made of letters, digits and `-_.:/+=@` (it goes
    /// into logs and back into a header), else a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        match headers.get(X_REQUEST_ID) {
            Some(value) if is_sane(value.as_bytes()) => Self(value.clone()),
            _ => Self::make(),
        }
    }

    fn make() -> Self {
        /// Random for each process, so that the ids of several gateways do not meet in one log.
        static PROCESS: LazyLock<u64> = LazyLock::new(|| fastrand::u64(..));
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = format!(
            "{:016x}-{:x}",
            *PROCESS,
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Self(HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("none")))
    }

    /// As a header value.
    pub fn value(&self) -> HeaderValue {
        self.0.clone()
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

fn is_sane(id: &[u8]) -> bool {
    !id.is_empty()
        && id.len() <= MAX_LEN
        && id
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(id: &str) -> RequestId {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_str(id).unwrap());
        RequestId::of(&headers)
    }

    #[test]
    fn a_sane_id_is_kept() {
        assert_eq!(of("abc-1:2").as_str(), "abc-1:2");
    }

    #[test]
    fn an_insane_id_is_replaced() {
        for id in ["", "a b", "<script>", &"x".repeat(129)] {
            assert_ne!(of(id).as_str(), id);
        }
        assert_ne!(
            RequestId::of(&HeaderMap::new()).as_str(),
            RequestId::of(&HeaderMap::new()).as_str()
        );
    }
}
