//! Whether a connection of HTTP/2 has a request under way, so that one without can be ended: hyper
//! does this for HTTP/1 only, and a peer that answers pings could keep its place for ever.
//!
//! A request is under way from its head until the last byte of its answer.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::sync::watch;
use tokio::time::timeout;

/// The requests of one connection.
#[derive(Debug, Clone, Copy, Default)]
struct Requests {
    under_way: usize,
    begun: u64,
}

/// Counts the requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    requests: watch::Sender<Requests>,
}

impl Activity {
    /// The service, counted.
    pub(super) fn of<S>(&self, service: S) -> Watched<S> {
        Watched {
            service,
            requests: self.requests.clone(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.requests.borrow().under_way == 0
    }

    /// Waits until no request has been under way for this long.
    pub(super) async fn idle_for(&self, time: Duration) {
        let mut requests = self.requests.subscribe();
        loop {
            // The sender is `self`'s, so this ends only when the condition holds.
            let begun = match requests.wait_for(|now| now.under_way == 0).await {
                Ok(now) => now.begun,
                Err(_) => return,
            };
            let next = requests.wait_for(|now| now.begun != begun);
            if timeout(time, next).await.is_err() {
                return;
            }
        }
    }
}

/// A request that is under way until this is dropped.
struct UnderWay {
    requests: watch::Sender<Requests>,
}

impl UnderWay {
    fn begin(requests: &watch::Sender<Requests>) -> Self {
        requests.send_modify(|now| {
            now.under_way += 1;
            now.begun += 1;
        });
        Self {
            requests: requests.clone(),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.requests.send_modify(|now| now.under_way -= 1);
    }
}

/// A service whose requests are counted.
#[derive(Clone)]
pub(super) struct Watched<S> {
    service: S,
    requests: watch::Sender<Requests>,
}

impl<S> Service<Request<Incoming>> for Watched<S>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let under_way = UnderWay::begin(&self.requests);
        let answer = self.service.call(request);
        Box::pin(async move {
            let response = answer.await?;
            Ok(response.map(|inner| {
                Body::new(Answer {
                    inner,
                    _under_way: under_way,
                })
            }))
        })
    }
}

/// An answer's body, with the request that it belongs to.
struct Answer {
    inner: Body,
    _under_way: UnderWay,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    async fn is_idle_within(activity: &Activity, bound: Duration) -> bool {
        timeout(bound, activity.idle_for(SHORT)).await.is_ok()
    }

    #[tokio::test]
    async fn a_connection_is_idle_without_requests() {
        let activity = Activity::default();
        assert!(is_idle_within(&activity, Duration::from_secs(10)).await);
        let one = UnderWay::begin(&activity.requests);
        let two = UnderWay::begin(&activity.requests);
        drop(one);
        assert!(!activity.is_idle());
        assert!(!is_idle_within(&activity, SHORT * 4).await);
        drop(two);
        assert!(activity.is_idle());
        assert!(is_idle_within(&activity, Duration::from_secs(10)).await);
    }

    #[tokio::test]
    async fn a_request_that_came_and_went_counts() {
        // A machine that stands still for longer than `SHORT` makes any connection an idle one.
        for _ in 0..20 {
            let activity = Activity::default();
            let mut idle = std::pin::pin!(activity.idle_for(SHORT));
            let busy = async {
                for _ in 0..10 {
                    tokio::time::sleep(SHORT / 5).await;
                    drop(UnderWay::begin(&activity.requests));
                }
            };
            tokio::select! {
                () = &mut idle => continue,
                () = busy => {}
            }
            idle.await;
            return;
        }
        panic!("idle with requests that came and went");
    }
}
