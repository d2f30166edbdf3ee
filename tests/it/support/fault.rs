//! A broker that errs on command, for what a real one cannot be made to do.
//!
//! It is krafka's fake broker, in the test's own process and over real sockets. Through `Deref`
//! all of its own calls are there: leader moves, throttles, limits of API versions, recorded
//! requests. It never stands in for a test on a real Kafka: it knows only what its authors thought
//! of.

use std::ops::Deref;
use std::time::Duration;

use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control, FakeBroker};

/// A fake cluster. Its nodes count from 0, and stop when it is dropped.
pub struct FaultBroker(FakeBroker);

impl FaultBroker {
    pub async fn start() -> Self {
        Self::cluster(1).await
    }

    pub async fn cluster(nodes: usize) -> Self {
        Self(FakeBroker::start_cluster(nodes).await.unwrap())
    }

    pub fn bootstrap(&self) -> String {
        self.0.bootstrap_servers()
    }

    /// Answers the next requests of this kind with an error, that many times.
    pub fn fail(&self, api: ApiKey, times: u32, error: ErrorCode) {
        self.0.on_times(api, times, move |_| Control::Error(error));
    }

    /// Answers every request of this kind with an error, until `clear_hooks`.
    pub fn fail_always(&self, api: ApiKey, error: ErrorCode) {
        self.0.on(api, move |_| Control::Error(error));
    }

    /// Does what the next requests ask and then closes the connection instead of answering: the
    /// client cannot know whether they were carried out.
    pub fn lose_answers(&self, api: ApiKey, times: u32) {
        let lost = || Control::ApplyThen(Box::new(Control::Disconnect));
        self.0.on_times(api, times, move |_| lost());
    }

    /// Closes the connection on the next requests, that many times, without doing them.
    pub fn disconnect(&self, api: ApiKey, times: u32) {
        self.0.on_times(api, times, |_| Control::Disconnect);
    }

    /// Answers every request of this kind late, until `clear_hooks`.
    pub fn delay(&self, api: ApiKey, by: Duration) {
        self.0.on(api, move |_| Control::Delay(by));
    }

    /// Never answers requests of this kind, nor any behind them on the same connection, until
    /// `clear_hooks`.
    pub fn silence(&self, api: ApiKey) {
        self.0.on(api, |_| Control::Silence);
    }
}

impl Deref for FaultBroker {
    type Target = FakeBroker;

    fn deref(&self) -> &FakeBroker {
        &self.0
    }
}
