//! An issuer's public keys, from its JWKS URL: cached, refreshed in the background, asked for at once
//! when a token names an unknown key (but not more often than every 30 s), and kept while the issuer
//! cannot be reached.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::Jwk;
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::keys::Key;
use crate::fetch::{body, causes};

/// How often the keys are asked for without need.
const REFRESH: Duration = Duration::from_secs(600);
/// How often an unknown key may make us ask, and how soon a failed attempt is repeated.
const AT_MOST_EVERY: Duration = Duration::from_secs(30);
/// Longest time for an answer, to its last byte.
const TIME: Duration = Duration::from_secs(5);
/// Largest answer.
const BYTES: usize = 1 << 20;
/// Most keys that are kept.
const KEYS: usize = 100;

/// The keys of one issuer. Clones share them.
#[derive(Debug, Clone)]
pub struct Jwks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    url: String,
    client: reqwest::Client,
    keys: RwLock<Option<Arc<[Key]>>>,
    /// When the issuer was last asked; held while it is being asked.
    asked: Mutex<Option<Instant>>,
}

/// The keys have never been had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoKeys;

/// A set whose keys are read one by one, so that a broken one does not spoil the others.
#[derive(Deserialize)]
struct Set<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

impl Jwks {
    /// The keys at `url`. [`Jwks::keep_fresh`] gets them.
    ///
    /// # Errors
    ///
    /// The HTTP client cannot be made, or the URL is none.
    pub fn new(url: &str) -> Result<Self, String> {
        let parsed = reqwest::Url::parse(url).map_err(|error| error.to_string())?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err("expected an http or https URL".to_owned());
        }
        let client = reqwest::Client::builder()
            .timeout(TIME)
            .redirect(reqwest::redirect::Policy::limited(3))
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            inner: Arc::new(Inner {
                url: url.to_owned(),
                client,
                keys: RwLock::default(),
                asked: Mutex::default(),
            }),
        })
    }

    /// Asks for the keys now and again, until every clone is gone.
    pub fn keep_fresh(&self) {
        let weak = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            while let Some(inner) = weak.upgrade() {
                let worked = inner.ask().await;
                drop(inner);
                sleep(if worked { REFRESH } else { AT_MOST_EVERY }).await;
            }
        });
    }

    /// The keys that may have signed a token of this header. Asks the issuer for a key that it is
    /// not known to have, unless that was done just before.
    pub(super) async fn fitting(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<Key>, NoKeys> {
        let known = self.inner.known();
        let is_known = match (&known, id) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(keys), Some(id)) => keys.iter().any(|key| key.is(id)),
        };
        let keys = if is_known {
            known
        } else {
            self.inner.ask().await;
            self.inner.known()
        };
        let keys = keys.ok_or(NoKeys)?;
        Ok(keys
            .iter()
            .filter(|key| key.fits(id, algorithm))
            .cloned()
            .collect())
    }
}

impl Inner {
    fn known(&self) -> Option<Arc<[Key]>> {
        self.keys.read().clone()
    }

    /// Asks the issuer, unless that was done within [`AT_MOST_EVERY`]. True when its keys are known
    /// afterwards. Those who come while it is being asked wait for the answer.
    async fn ask(&self) -> bool {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < AT_MOST_EVERY) {
            return self.keys.read().is_some();
        }
        let answer = match timeout(TIME, self.fetch()).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", TIME.as_secs())),
        };
        *asked = Some(Instant::now());
        match answer.and_then(|body| self.read(&body)) {
            Ok(keys) => {
                *self.keys.write() = Some(keys);
                true
            }
            Err(error) => {
                tracing::warn!(url = self.url, error, "an issuer's keys could not be had");
                false
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<u8>, String> {
        let request = self.client.get(&self.url).send();
        let response = request.await.map_err(causes)?;
        if !response.status().is_success() {
            return Err(format!("the answer is {}", response.status()));
        }
        body(response, BYTES)
            .await?
            .ok_or_else(|| format!("the answer is larger than {BYTES} bytes"))
    }

    fn read(&self, body: &[u8]) -> Result<Arc<[Key]>, String> {
        let set: Set<'_> =
            serde_json::from_slice(body).map_err(|error| format!("not a JWK set: {error}"))?;
        let mut keys = Vec::new();
        for raw in set.keys {
            let key = serde_json::from_str::<Jwk>(raw.get())
                .map_err(|error| error.to_string())
                .and_then(|jwk| Key::jwk(&jwk));
            match key {
                Ok(_) if keys.len() >= KEYS => {
                    return Err(format!("more than {KEYS} keys"));
                }
                Ok(key) => keys.push(key),
                Err(error) => {
                    tracing::debug!(url = self.url, error, "a key of the set is left out");
                }
            }
        }
        if keys.is_empty() {
            return Err("no key in the set can be used".to_owned());
        }
        Ok(keys.into())
    }
}
