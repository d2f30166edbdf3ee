//! Request ids: taken from `X-Request-Id` when it is sane, else made.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

/// The header, in requests and answers.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken from a client.
const MAX_LEN: usize = 128;

/// The id of a request, cheap to clone.
#[derive(Debug, Clone)]
pub struct RequestId {
    shown: HeaderValue,
    /// Where `shown` is the client's.
    own: Option<HeaderValue>,
}

impl RequestId {
    /// The client's own id, when it is short and made of letters, digits and `-_.:/+=@` (it goes
    /// into logs and back into a header), else a new one. With `tracked`, one of the gateway's own is
    /// made beside the client's.
    pub fn of(headers: &HeaderMap, tracked: bool) -> Self {
        match headers.get(X_REQUEST_ID) {
            Some(value) if is_sane(value.as_bytes()) => Self {
                shown: value.clone(),
                own: tracked.then(Self::make),
            },
            _ => Self {
                shown: Self::make(),
                own: None,
            },
        }
    }

    /// Every request passes here, so the digits are written by hand and checked by nobody twice.
    fn make() -> HeaderValue {
        /// Random for each process, so that the ids of several gateways do not meet in one log.
        static PROCESS: LazyLock<[u8; 16]> = LazyLock::new(|| hex(fastrand::u64(..)));
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let digits = hex(number);
        let zeros = (number | 1).leading_zeros() as usize / 4;
        let mut id = Vec::with_capacity(33);
        id.extend_from_slice(&*PROCESS);
        id.push(b'-');
        id.extend(digits.iter().skip(zeros));
        let value = HeaderValue::from_maybe_shared(Bytes::from(id));
        value.unwrap_or_else(|_| HeaderValue::from_static("none"))
    }

    /// As a header value.
    pub fn into_value(self) -> HeaderValue {
        self.shown
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        self.shown.to_str().unwrap_or_default()
    }

    /// The gateway's own id, as text: the same, unless the client sent one.
    pub fn own(&self) -> &str {
        let own = self.own.as_ref().unwrap_or(&self.shown);
        own.to_str().unwrap_or_default()
    }
}

fn hex(number: u64) -> [u8; 16] {
    std::array::from_fn(|at| {
        let digit = (number >> (60 - 4 * at)) & 0xf;
        b"0123456789abcdef"[digit as usize]
    })
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

    #[test]
    fn a_made_id_is_two_numbers_in_hexadecimal() {
        assert_eq!(&hex(0x0123_4567_89ab_cdef), b"0123456789abcdef");
        let id = RequestId::of(&HeaderMap::new(), false);
        let (process, number) = id.as_str().split_once('-').unwrap();
        assert_eq!(process.len(), 16);
        assert!(u64::from_str_radix(process, 16).is_ok());
        assert!(!number.is_empty() && !number.starts_with('0'), "{number}");
        assert!(u64::from_str_radix(number, 16).is_ok());
    }

    fn of(id: &str) -> RequestId {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_str(id).unwrap());
        RequestId::of(&headers, true)
    }

    #[test]
    fn a_sane_id_is_kept() {
        let id = of("abc-1:2");
        assert_eq!(id.as_str(), "abc-1:2");
        // Two requests with one id of their client are two in the gateway's own count.
        assert_ne!(id.own(), "abc-1:2");
        assert_ne!(id.own(), of("abc-1:2").own());
        let made = RequestId::of(&HeaderMap::new(), true);
        assert_eq!(made.own(), made.as_str());
    }

    #[test]
    fn an_insane_id_is_replaced() {
        for id in ["", "a b", "<script>", &"x".repeat(129)] {
            assert_ne!(of(id).as_str(), id);
        }
        assert_ne!(
            RequestId::of(&HeaderMap::new(), false).as_str(),
            RequestId::of(&HeaderMap::new(), false).as_str()
        );
    }
}
