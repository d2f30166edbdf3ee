//! Guards a consumer without a group: when the guard is dropped the consumer is closed in the background, and
//! nobody waits for that.

use std::sync::Arc;
use std::time::Duration;

use krafka::consumer::Consumer;

/// Longest time for a consumer to take its leave.
const CLOSE: Duration = Duration::from_secs(2);

/// The consumer, which is closed when this is dropped, whoever else still has it.
pub(super) struct ConsumerGuard(Arc<Consumer>);

impl ConsumerGuard {
    pub(super) fn new(consumer: Consumer) -> Self {
        Self(Arc::new(consumer))
    }

    pub(super) fn consumer(&self) -> &Arc<Consumer> {
        &self.0
    }
}

impl Drop for ConsumerGuard {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let consumer = Arc::clone(&self.0);
        runtime.spawn(async move {
            let options = krafka::CloseOptions::new().timeout(CLOSE);
            let _ = consumer.close_with(options).await;
        });
    }
}
