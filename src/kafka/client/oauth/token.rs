//! One access token: what it is, and how long it lives.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use krafka::auth::OAuthBearerToken;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// More than any broker takes.
const MOST_BYTES: usize = 64 << 10;

/// A token, and what goes with it to the broker.
#[derive(Clone)]
pub struct Token {
    value: SecretString,
    /// Whom it is about, for the libraries' own messages; the broker reads it from the token.
    principal: String,
    /// Milliseconds since the epoch; `None` when nobody says.
    expires: Option<i64>,
    extensions: Vec<(String, String)>,
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.value() == other.value()
            && self.expires == other.expires
            && self.extensions == other.extensions
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("principal", &self.principal)
            .field("left", &self.left())
            .finish_non_exhaustive()
    }
}

impl Token {
    /// A token as it came; `lives` is what its giver says of its life. Where nobody says, a JWT
    /// says it itself.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without showing it.
    pub(super) fn new(
        value: &str,
        lives: Option<Duration>,
        extensions: &[(String, String)],
    ) -> Result<Self, String> {
        let value = value.trim();
        if value.is_empty() {
            return Err("the token is empty".to_owned());
        }
        if value.len() > MOST_BYTES {
            return Err(format!(
                "the token is longer than {MOST_BYTES} bytes, which no broker takes"
            ));
        }
        if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the token has characters that no token may have".to_owned());
        }
        let claims = claims(value);
        let expires = match lives {
            Some(lives) => Some(now().saturating_add(millis(lives))),
            // To the second, and possibly with a fraction.
            None => claims
                .get("exp")
                .and_then(Value::as_f64)
                .map(|seconds| (seconds * 1000.0) as i64),
        };
        let principal = claims
            .get("sub")
            .and_then(Value::as_str)
            .filter(|subject| !subject.contains('\0'))
            .unwrap_or("tidegate")
            .to_owned();
        Ok(Self {
            value: value.into(),
            principal,
            expires,
            extensions: extensions.to_vec(),
        })
    }

    /// The token itself. Never for a message.
    pub(in crate::kafka) fn value(&self) -> &str {
        self.value.expose_secret()
    }

    /// Whom it is about.
    pub(in crate::kafka) fn principal(&self) -> &str {
        &self.principal
    }

    /// When it runs out, in milliseconds since the epoch.
    pub(in crate::kafka) fn expires(&self) -> Option<i64> {
        self.expires
    }

    /// The SASL extensions to send along.
    pub(in crate::kafka) fn extensions(&self) -> &[(String, String)] {
        &self.extensions
    }

    /// How long it still lives; `None` when nobody says.
    pub(super) fn left(&self) -> Option<Duration> {
        let left = self.expires?.saturating_sub(now());
        Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    }

    pub(super) fn for_krafka(&self) -> OAuthBearerToken {
        let mut token = OAuthBearerToken::new(self.value());
        if let Some(expires) = self.expires {
            token = token.with_lifetime_ms(expires);
        }
        for (name, value) in &self.extensions {
            token = token.with_extension(name, value);
        }
        token
    }
}

/// The claims of a JWT, unverified: that is for the broker to do. Nothing for any other token.
fn claims(token: &str) -> Value {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Value::Null;
    };
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('='));
    claims
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, millis)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
