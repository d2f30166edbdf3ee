//! An issuer's public keys, from its JWKS URL or from where its discovery document says: cached,
//! refreshed in the background, and asked for at once when a token names an unknown key.
//!
//! What the issuer says holds: a set that it answers with replaces the one before, also where nothing in
//! it can be used, since that is how an issuer withdraws its keys. Only while it cannot be asked, or its
//! answer is no set, do the keys that it gave last go on, and that for a time with an end
//! (`auth.jwks_max_age_s`).

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::Jwk;
use parking_lot::RwLock;
use reqwest::Url;
use reqwest::redirect::{Attempt, Policy};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::keys::Key;
use crate::config::{discovery_url, jwks_url};
use crate::fetch::{body, causes, words};

/// How often the keys are asked for without need. The docs promise that a key is gone five minutes after
/// the issuer has withdrawn it, so this leaves time for a slow answer.
const REFRESH: Duration = Duration::from_secs(240);
/// How soon a failed attempt is repeated.
const RETRY: Duration = Duration::from_secs(30);
/// How often tokens with unknown keys may make us ask: seldom enough for the issuer, and so often that
/// a stranger who makes such tokens up does not keep out those who have a new key.
const AT_MOST_EVERY: Duration = Duration::from_secs(5);
/// How often an issuer may send us on to another place of its own.
const REDIRECTS: usize = 3;
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
    /// Of the key set, or of the discovery document that names its place.
    url: Url,
    /// Whose discovery document it is, if it is one.
    issuer: Option<String>,
    client: reqwest::Client,
    /// For plain http, which does not leave the machine, not by a proxy either.
    loopback: reqwest::Client,
    /// How long the keys go on while the issuer cannot be asked.
    max_age: Duration,
    known: RwLock<Option<Known>>,
    /// The last attempt; held while the issuer is being asked.
    asked: Mutex<Option<Asked>>,
}

/// A set of keys.
#[derive(Debug, Clone)]
struct Known {
    keys: Arc<[Key]>,
    /// Another one for each set that is not as the one before.
    edition: u64,
    /// The issuer's words, to find out whether the next ones are others.
    body: Arc<[u8]>,
    /// When the issuer was asked for it, at the last time that it gave it.
    at: Instant,
}

/// An attempt to get the keys.
#[derive(Debug, Clone, Copy)]
struct Asked {
    ended: Instant,
    worked: bool,
}

/// There are no keys, or none that are new enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoKeys;

/// Keys that may have signed a token.
#[derive(Debug)]
pub(super) struct Fitting {
    pub(super) keys: Vec<Key>,
    /// Of which edition of the issuer's keys; see [`Jwks::edition`].
    pub(super) edition: u64,
}

/// What is needed of a discovery document (OpenID Connect Discovery 1.0, section 3).
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

/// Where the keys are by the words of a discovery document, which has to be this issuer's: whoever serves
/// several could have mixed them up.
fn keys_by(document: &[u8], issuer: &str) -> Result<Url, String> {
    let document: Document = serde_json::from_slice(document)
        .map_err(|error| words(&format!("not a discovery document: {error}")))?;
    if document.issuer != issuer {
        let other = words(&document.issuer);
        return Err(format!(
            "the discovery document is another issuer's: {other}"
        ));
    }
    jwks_url(&document.jwks_uri).map_err(|error| format!("jwks_uri: {error}"))
}

/// A set whose keys are read one by one, so that a broken one does not spoil the others.
#[derive(Deserialize)]
struct Set<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// Follows an issuer to other places of its own server. Elsewhere the keys would be somebody else's word.
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let stays = attempt
        .previous()
        .first()
        .is_some_and(|first| first.origin() == attempt.url().origin());
    if !stays {
        attempt.error("it redirects to another server, whose keys are not taken")
    } else if attempt.previous().len() > REDIRECTS {
        attempt.error("it redirects too often")
    } else {
        attempt.follow()
    }
}

impl Jwks {
    /// The keys at `url`, which go on for `max_age` when the issuer cannot be asked any more.
    /// [`Jwks::keep_fresh`] gets them.
    ///
    /// # Errors
    ///
    /// The HTTP client cannot be made, or the URL is none that keys are taken from.
    pub fn new(url: &str, max_age: Duration) -> Result<Self, String> {
        Self::of(jwks_url(url)?, None, max_age)
    }

    /// The same with the keys at the place that the discovery document of `issuer` names, each time that
    /// they are asked for.
    ///
    /// # Errors
    ///
    /// The HTTP client cannot be made, or the issuer is no URL that keys are taken from.
    pub fn discovered(issuer: &str, max_age: Duration) -> Result<Self, String> {
        Self::of(discovery_url(issuer)?, Some(issuer.to_owned()), max_age)
    }

    fn of(url: Url, issuer: Option<String>, max_age: Duration) -> Result<Self, String> {
        let client = || {
            reqwest::Client::builder()
                .timeout(TIME)
                .redirect(Policy::custom(redirect))
                .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        };
        let made = |client: reqwest::ClientBuilder| {
            let made = client.build();
            made.map_err(|error| error.to_string())
        };
        Ok(Self {
            inner: Arc::new(Inner {
                url,
                issuer,
                client: made(client())?,
                loopback: made(client().no_proxy())?,
                max_age,
                known: RwLock::default(),
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
                let pause = inner.pause(if worked { REFRESH } else { RETRY });
                drop(inner);
                sleep(pause).await;
            }
        });
    }

    /// The keys that may have signed a token of this header. Asks the issuer for a key that it is
    /// not known to have, unless that was done just before.
    pub(super) async fn fitting(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Fitting, NoKeys> {
        let known = self.inner.known();
        let is_known = match (&known, id) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(known), Some(id)) => known.keys.iter().any(|key| key.is(id)),
        };
        let known = if is_known {
            known
        } else {
            self.inner.ask().await;
            self.inner.known()
        };
        let known = known.ok_or(NoKeys)?;
        let fitting = known.keys.iter().filter(|key| key.fits(id, algorithm));
        Ok(Fitting {
            keys: fitting.cloned().collect(),
            edition: known.edition,
        })
    }

    /// Of which edition the issuer's keys are. A token that was verified by another one is to be
    /// verified again, as its key may be gone.
    pub(super) fn edition(&self) -> Option<u64> {
        let known = self.inner.known.read();
        let known = known.as_ref().filter(|known| self.inner.is_fresh(known))?;
        Some(known.edition)
    }
}

impl Inner {
    /// The keys, unless they are too old.
    fn known(&self) -> Option<Known> {
        let known = self.known.read();
        known.as_ref().filter(|known| self.is_fresh(known)).cloned()
    }

    fn is_fresh(&self, known: &Known) -> bool {
        known.at.elapsed() < self.max_age
    }

    /// So long, but short enough that keys are had anew before they are too old.
    fn pause(&self, usual: Duration) -> Duration {
        usual.min(self.max_age / 2)
    }

    /// Asks the issuer, unless that was done within [`AT_MOST_EVERY`]. True when the last attempt
    /// worked. Those who come while it is being asked wait for the answer.
    async fn ask(&self) -> bool {
        let mut asked = self.asked.lock().await;
        let every = self.pause(AT_MOST_EVERY);
        if let Some(last) = *asked
            && last.ended.elapsed() < every
        {
            return last.worked;
        }
        let began = Instant::now();
        let answer = match timeout(TIME, self.fetch()).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", TIME.as_secs())),
        };
        let worked = self.take(answer, began);
        *asked = Some(Asked {
            ended: Instant::now(),
            worked,
        });
        worked
    }

    /// Takes the answer to a question that was put at `began`. True when it is a key set.
    fn take(&self, answer: Result<Vec<u8>, String>, began: Instant) -> bool {
        let read = answer.and_then(|body| Ok((self.read(&body)?, body)));
        let (keys, body) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(
                    url = self.url.as_str(),
                    error,
                    "an issuer's keys could not be had"
                );
                return false;
            }
        };
        if keys.is_empty() {
            tracing::warn!(
                url = self.url.as_str(),
                "an issuer has no key that can be used: all of its tokens are refused"
            );
        }
        let mut known = self.known.write();
        let (keys, edition) = match &*known {
            Some(before) if *before.body == *body => (Arc::clone(&before.keys), before.edition),
            Some(before) => (keys, before.edition.wrapping_add(1)),
            None => (keys, 0),
        };
        *known = Some(Known {
            keys,
            edition,
            body: body.into(),
            at: began,
        });
        true
    }

    async fn fetch(&self) -> Result<Vec<u8>, String> {
        let Some(issuer) = &self.issuer else {
            return self.get(&self.url).await;
        };
        let document = self.get(&self.url).await?;
        let url = keys_by(&document, issuer)?;
        self.get(&url)
            .await
            .map_err(|error| format!("{error} ({})", words(url.as_str())))
    }

    async fn get(&self, url: &Url) -> Result<Vec<u8>, String> {
        let client = match url.scheme() {
            "http" => &self.loopback,
            _ => &self.client,
        };
        let request = client.get(url.clone()).send();
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
                    tracing::warn!(
                        url = self.url.as_str(),
                        "an issuer has more than {KEYS} keys: those after them are left out"
                    );
                    break;
                }
                Ok(key) => keys.push(key),
                Err(error) => {
                    tracing::debug!(
                        url = self.url.as_str(),
                        error,
                        "a key of the set is left out"
                    );
                }
            }
        }
        Ok(keys.into())
    }
}

#[cfg(test)]
mod tests;
