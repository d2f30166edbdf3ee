//! Getting one token: from a file, or by the client credentials grant of OAuth 2 (RFC 6749, 4.4).

use std::path::Path;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Certificate, StatusCode, redirect};
use secrecy::ExposeSecret;
use serde::Deserialize;
use tokio::io::AsyncReadExt;

use super::token::Token;
use super::{Authority, Endpoint, LEAST_LIFE, Settings, Source};
use crate::fetch::{body, causes, words};

/// Longest time for one request, connecting and the whole answer included.
const ENDPOINT_BOUND: Duration = Duration::from_secs(10);

/// The same for a file, which may lie on a network that is down.
const FILE_BOUND: Duration = Duration::from_secs(5);

/// Longest answer, and longest file.
const MOST_BYTES: usize = 256 << 10;

/// A token that can be used, or why there is none. The message never shows a secret.
pub(super) async fn fetch(settings: &Settings) -> Result<Token, String> {
    let token = match &settings.source {
        Source::File(path) => {
            let text = match tokio::time::timeout(FILE_BOUND, read(path)).await {
                Ok(text) => text?,
                Err(_) => return Err("reading it takes too long".to_owned()),
            };
            Token::new(&text, None, &settings.extensions)?
        }
        Source::Endpoint(endpoint) => {
            let answer = ask(endpoint).await?;
            // A life of 0 is from those that do not know it.
            let lives = answer
                .expires_in
                .as_ref()
                .and_then(seconds)
                .filter(|s| *s > 0)
                .map(Duration::from_secs);
            Token::new(&answer.access_token, lives, &settings.extensions)?
        }
    };
    match token.left() {
        Some(left) if left <= LEAST_LIFE => Err(format!(
            "the token has {} s left to live, too little to log in with; if this is its whole \
             life, have tokens made that live for minutes, and if not, look at the clocks",
            left.as_secs()
        )),
        _ => Ok(token),
    }
}

async fn read(path: &Path) -> Result<String, String> {
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|error| error.to_string())?;
    let mut text = String::new();
    // One more than allowed, to notice that there is more.
    let most = MOST_BYTES as u64 + 1;
    file.take(most)
        .read_to_string(&mut text)
        .await
        .map_err(|error| error.to_string())?;
    if text.len() > MOST_BYTES {
        return Err(format!("it is longer than {MOST_BYTES} bytes"));
    }
    Ok(text)
}

/// What a token endpoint answers; it may say more.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    /// Seconds; some write them as a string.
    expires_in: Option<serde_json::Value>,
}

/// How it refuses.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

fn seconds(value: &serde_json::Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

async fn ask(endpoint: &Endpoint) -> Result<Answer, String> {
    let mut form = "grant_type=client_credentials".to_owned();
    if let Some(scope) = &endpoint.scope {
        form.push_str("&scope=");
        form.extend(utf8_percent_encode(scope, NON_ALPHANUMERIC));
    }
    let response = client(endpoint)
        .await?
        .post(endpoint.url.clone())
        // As they are, not percent-encoded: so do librdkafka and Kafka's own client.
        .basic_auth(
            &endpoint.client_id,
            Some(endpoint.client_secret.expose_secret()),
        )
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .body(form)
        .send()
        .await
        .map_err(causes)?;
    let status = response.status();
    let body = body(response, MOST_BYTES)
        .await?
        .ok_or_else(|| format!("its answer is longer than {MOST_BYTES} bytes"))?;
    if status != StatusCode::OK {
        return Err(match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => {
                let more = refusal
                    .error_description
                    .map(|d| format!(" ({})", words(&d)));
                format!(
                    "it answered {} with {}{}",
                    status.as_u16(),
                    words(&refusal.error),
                    more.unwrap_or_default()
                )
            }
            Err(_) => format!("it answered {}", status.as_u16()),
        });
    }
    // serde's message could show a part of the token.
    serde_json::from_slice(&body)
        .map_err(|_| "its answer is not JSON with an access_token in it".to_owned())
}

/// Made anew each time, which is once in the life of a token, so that a changed certificate of the
/// authority is noticed.
async fn client(endpoint: &Endpoint) -> Result<reqwest::Client, String> {
    let pem = match &endpoint.ca {
        Authority::System => None,
        Authority::Pem(pem) => Some(pem.clone()),
        Authority::File(path) => {
            let read = tokio::time::timeout(FILE_BOUND, read(path)).await;
            let pem = read.unwrap_or_else(|_| Err("reading it takes too long".to_owned()));
            Some(pem.map_err(|why| format!("https.ca.location, {}: {why}", path.display()))?)
        }
    };
    let mut builder = reqwest::Client::builder()
        .timeout(ENDPOINT_BOUND)
        // The credentials are for this URL and no other.
        .redirect(redirect::Policy::none());
    if let Some(pem) = pem {
        let authorities = Certificate::from_pem_bundle(pem.as_bytes())
            .ok()
            .filter(|authorities| !authorities.is_empty())
            .ok_or("https.ca.location or https.ca.pem has no certificate in PEM")?;
        builder = builder.tls_certs_only(authorities);
    }
    builder.build().map_err(causes)
}
