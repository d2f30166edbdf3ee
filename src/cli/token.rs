//! `tidegate token`: a token for development, signed with a shared secret, as an issuer with
//! `secret_file` accepts it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use secrecy::ExposeSecret;
use serde::Serialize;

use crate::config::{read_permission, read_secret};

/// Longest life of a token. Nothing can take one back but a new secret.
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

/// What the token is to say.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// The file with the secret, as in auth.issuers
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// Whose token it is
    #[arg(long, value_name = "SUBJECT", value_parser = NonEmptyStringValueParser::new())]
    sub: String,
    /// Permissions, as in "consume:* produce:orders"
    #[arg(long, value_name = "PERMISSIONS")]
    scope: String,
    /// How long it lasts: 30s, 15m, 1h, 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = read_ttl)]
    ttl: Duration,
    /// Its issuer, where auth.issuers names one
    #[arg(long, value_name = "ISSUER", value_parser = NonEmptyStringValueParser::new())]
    issuer: Option<String>,
    /// Its audience, where auth.issuers names one
    #[arg(long, value_name = "AUDIENCE", value_parser = NonEmptyStringValueParser::new())]
    audience: Option<String>,
}

#[derive(Serialize)]
struct Claims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    scope: &'a str,
    iat: u64,
    exp: u64,
}

impl TokenArgs {
    /// What in the scope the gateway will pass over, a line each. Others may share the token, so
    /// that it is no error.
    pub(super) fn warnings(&self) -> Vec<String> {
        let problem = |entry: &str| {
            let problem = read_permission(entry).err()?;
            Some(format!("scope {entry:?} is no permission: {problem}"))
        };
        self.scope.split_whitespace().filter_map(problem).collect()
    }

    /// The signed token.
    pub(super) fn mint(&self) -> Result<String, String> {
        let secret = read_secret(&self.secret_file)
            .map_err(|problem| format!("--secret-file: {problem}"))?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(|_| "the clock is before 1970: set it")?
            .as_secs();
        let claims = Claims {
            iss: self.issuer.as_deref(),
            sub: &self.sub,
            aud: self.audience.as_deref(),
            scope: &self.scope,
            iat: now,
            exp: now.saturating_add(self.ttl.as_secs()),
        };
        let header = Header::new(Algorithm::HS256);
        encode(
            &header,
            &claims,
            &EncodingKey::from_secret(secret.expose_secret()),
        )
        .map_err(|error| format!("cannot sign the token: {error}"))
    }
}

/// Reads `30s`, `15m`, `1h` or `7d`.
fn read_ttl(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a whole number and a unit, as in 30s, 15m, 1h or 7d";
    let end = text.find(|c: char| !c.is_ascii_digit()).ok_or(EXPECTED)?;
    let (number, unit) = text.split_at(end);
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(EXPECTED.into()),
    };
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    match number.checked_mul(factor).map(Duration::from_secs) {
        Some(ttl) if !ttl.is_zero() && ttl <= LONGEST => Ok(ttl),
        _ => Err("expected 1s to 3650d".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_has_a_unit() {
        for (text, seconds) in [
            ("30s", 30),
            ("15m", 900),
            ("1h", 3600),
            ("7d", 604_800),
            ("3650d", 315_360_000),
        ] {
            assert_eq!(read_ttl(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "1",
            "h",
            "1w",
            "-1h",
            "+1h",
            "1.5h",
            "1 h",
            "1H",
            "0s",
            "3651d",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            read_ttl(text).expect_err(text);
        }
    }
}
