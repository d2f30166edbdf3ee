//! Resets the HTTP/2 stream of one request, whatever that request waits for.
//!
//! hyper asks a body for more only when the peer has made room, so a body whose reader has stopped is
//! not asked again and cannot end itself. But each request is a task of its own, which hyper hands to
//! the executor that it was given. The one here drops that task when it is told to: the body goes with
//! it, and h2 resets the stream (RST_STREAM, CANCEL) and forgets what it still held for it. The others
//! of the connection go on.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures::task::AtomicWaker;
use tokio::task_local;

task_local! {
    static CURRENT: Arc<H2Reset>;
}

/// Ends a request that runs in an [`Executor`].
#[derive(Debug, Default)]
pub struct H2Reset {
    is_reset: AtomicBool,
    waker: AtomicWaker,
}

impl H2Reset {
    /// That of the request that is being served; `None` where it is not one of HTTP/2.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Ends the request. What it is doing is dropped in the middle.
    pub fn reset(&self) {
        self.is_reset.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether [`reset`](Self::reset) was called.
    pub fn is_reset(&self) -> bool {
        self.is_reset.load(Ordering::Acquire)
    }

    async fn requested(&self) {
        poll_fn(|context| {
            self.waker.register(context.waker());
            if self.is_reset() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

/// Runs the tasks of an HTTP/2 connection on tokio, each with a [`H2Reset`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Executor;

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        let reset = Arc::new(H2Reset::default());
        tokio::spawn(CURRENT.scope(Arc::clone(&reset), async move {
            tokio::select! {
                biased;
                () = reset.requested() => {}
                _ = future => {}
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_task_is_dropped_when_it_is_cut() {
        assert!(H2Reset::current().is_none());
        let (tell, told) = oneshot::channel();
        let (held, dropped) = oneshot::channel::<()>();
        Executor.execute(async move {
            let _held = held;
            let _ = tell.send(H2Reset::current().unwrap());
            std::future::pending::<()>().await;
        });
        let reset = told.await.unwrap();
        assert!(!reset.is_reset());
        reset.reset();
        assert!(dropped.await.is_err());
    }
}
