//! `Idempotency-Key`: the same key and principal within five minutes gets the first answer again.
//!
//! The first request under a key runs on a task of its own, so that it goes on to its answer even
//! when its client goes away; that client's retry then waits for the same answer. What is kept is
//! bounded in number and bytes and lives in this process only: behind a balancer, retries must
//! reach the same process.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use moka::sync::Cache;
use tokio::sync::watch;

use super::error::ApiError;
use super::response_layer::unwound;
use crate::auth::Principal;
use crate::auth::identity::Identity;

/// The header of the request.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Set on an answer that is given again.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(300);
/// Most bytes of kept answers, with [`OVERHEAD`] for each.
const CAPACITY: u64 = 64 << 20;
/// What an entry costs beside its answer's body.
const OVERHEAD: usize = 512;
/// Longest key.
const MAX_KEY: usize = 255;

/// An answer as it can be given again.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}

/// What the first request under a key came to.
type Ended = Result<Answer, ApiError>;

/// A key of one principal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Id {
    principal: Arc<Identity>,
    key: String,
}

/// A request under a key: under way, or answered.
#[derive(Debug, Clone)]
struct Slot {
    fingerprint: u128,
    ended: watch::Receiver<Option<Ended>>,
}

/// The kept answers.
#[derive(Debug, Clone)]
pub struct Answers {
    slots: Cache<Id, Arc<Slot>>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            slots: Cache::builder()
                .time_to_live(KEPT)
                .max_capacity(CAPACITY)
                .weigher(|id: &Id, slot: &Arc<Slot>| {
                    let body = match &*slot.ended.borrow() {
                        Some(Ok(answer)) => answer.body.len(),
                        _ => 0,
                    };
                    u32::try_from(OVERHEAD + id.key.len() + body).unwrap_or(u32::MAX)
                })
                .build(),
        }
    }
}

/// The request's key, if it has one.
///
/// # Errors
///
/// 400 for one that is empty, longer than 255 bytes, or not printable ASCII.
pub fn key_of(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= MAX_KEY => Ok(Some(key.to_owned())),
        _ => Err(ApiError::bad_request(format!(
            "expected 1 to {MAX_KEY} printable ASCII characters"
        ))
        .at("Idempotency-Key")),
    }
}

impl Answers {
    /// Answers a request under `key`: by `work` if it is the first one, else as the first one was
    /// answered. `fingerprint` is a hash of all that makes the request what it is.
    ///
    /// # Errors
    ///
    /// 422 when the key was used for another request; else whatever the first one failed with.
    pub async fn once<F>(
        &self,
        principal: &Principal,
        key: String,
        fingerprint: u128,
        work: F,
    ) -> Result<Response, ApiError>
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let id = Id {
            principal: Arc::clone(principal.identity()),
            key,
        };
        let (publish, ended) = watch::channel(None);
        let entry = self
            .slots
            .entry_by_ref(&id)
            .or_insert_with(|| Arc::new(Slot { fingerprint, ended }));
        let first = entry.is_fresh();
        let slot = entry.into_value();
        if slot.fingerprint != fingerprint {
            return Err(ApiError::unprocessable(
                "this key was used for a request with another body or other parameters",
            )
            .at("Idempotency-Key"));
        }
        if first {
            let slots = self.slots.clone();
            let slot = Arc::clone(&slot);
            tokio::spawn(async move {
                // Here, where it is known what a panic said, so that the log says it under the request's id.
                let ended = unwound(work).await.and_then(|ended| ended);
                let keep = is_kept(&ended);
                let _ = publish.send(Some(ended));
                if keep {
                    // Again, so that it is weighed with its answer.
                    slots.insert(id, slot);
                } else {
                    slots.invalidate(&id);
                }
            });
        }
        let mut ended = slot.ended.clone();
        let ended = ended.wait_for(Option::is_some).await;
        let ended = ended.ok().and_then(|ended| ended.clone());
        let ended = ended.unwrap_or_else(|| {
            Err(ApiError::internal(
                "the task that carries out a request with an Idempotency-Key ended without an answer",
            ))
        });
        let mut response = ended?.into_response();
        if !first {
            response
                .headers_mut()
                .insert(REPLAYED, HeaderValue::from_static("true"));
        }
        Ok(response)
    }
}

/// An answer is kept unless it says that nothing was written and that trying again may help: a
/// retry under the same key is then just what the client should do.
fn is_kept(ended: &Ended) -> bool {
    match ended {
        Ok(_) => true,
        Err(error) => !error.is_worth_retrying(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::kafka::fault::{Fault, FaultKind};

    async fn ask(
        answers: &Answers,
        key: &str,
        fingerprint: u128,
        ended: Ended,
        runs: &Arc<AtomicU32>,
    ) -> Result<Response, ApiError> {
        let runs = Arc::clone(runs);
        answers
            .once(
                &Principal::anonymous(),
                key.to_owned(),
                fingerprint,
                async move {
                    tokio::task::yield_now().await;
                    runs.fetch_add(1, Ordering::SeqCst);
                    ended
                },
            )
            .await
    }

    fn answer(body: &'static str) -> Ended {
        Ok(Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        })
    }

    #[tokio::test]
    async fn the_first_answer_is_given_again() {
        let (answers, runs) = (Answers::default(), Arc::default());
        let (a, b) = tokio::join!(
            ask(&answers, "k", 1, answer("a"), &runs),
            ask(&answers, "k", 1, answer("b"), &runs)
        );
        let replayed = [a.unwrap(), b.unwrap()]
            .iter()
            .filter(|response| response.headers().contains_key(REPLAYED))
            .count();
        assert_eq!((runs.load(Ordering::SeqCst), replayed), (1, 1));
        ask(&answers, "other", 1, answer("a"), &runs).await.unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_panic_is_answered_with_its_cause_also_when_it_is_given_again() {
        let answers = Answers::default();
        for _ in 0..2 {
            let panics = async { panic!("a test") };
            let key = "k".to_owned();
            let answered = answers.once(&Principal::anonymous(), key, 1, panics).await;
            let mut error = answered.unwrap_err();
            assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let cause = error.take_cause();
            assert_eq!(cause.as_deref(), Some("a handler panicked: a test"));
        }
    }

    #[tokio::test]
    async fn another_request_under_the_key_is_refused() {
        let (answers, runs) = (Answers::default(), Arc::default());
        ask(&answers, "k", 1, answer("a"), &runs).await.unwrap();
        let error = ask(&answers, "k", 2, answer("b"), &runs).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn only_what_is_certain_is_kept() {
        let (answers, runs) = (Answers::default(), Arc::default());
        let full = || Err(ApiError::from(Fault::new(FaultKind::QueueFull, "full")));
        ask(&answers, "k", 1, full(), &runs).await.unwrap_err();
        ask(&answers, "k", 1, answer("a"), &runs).await.unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 2, "tried again");
        let unsure = || {
            let mut fault = Fault::new(FaultKind::TimedOut, "unsure");
            fault.maybe_written = true;
            Err(ApiError::from(fault))
        };
        ask(&answers, "u", 1, unsure(), &runs).await.unwrap_err();
        ask(&answers, "u", 1, answer("a"), &runs).await.unwrap_err();
        assert_eq!(runs.load(Ordering::SeqCst), 3, "not tried again");
    }

    #[tokio::test]
    async fn the_work_goes_on_when_its_client_leaves() {
        let (answers, runs) = (Answers::default(), Arc::<AtomicU32>::default());
        let gone = tokio::time::timeout(
            Duration::from_millis(0),
            ask(&answers, "k", 1, answer("a"), &runs),
        );
        let _ = gone.await;
        ask(&answers, "k", 1, answer("b"), &runs).await.unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn keys_are_checked() {
        let key = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(text).unwrap());
            key_of(&headers)
        };
        assert_eq!(key("a-1").unwrap().as_deref(), Some("a-1"));
        assert_eq!(key_of(&HeaderMap::new()).unwrap(), None);
        assert!(key("").is_err());
        assert!(key(&"k".repeat(256)).is_err());
        assert!(key("é").is_err());
    }
}
