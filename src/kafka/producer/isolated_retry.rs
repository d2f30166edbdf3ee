//! Retries a record in a batch of its own: what a broker says there, it says of that record.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::Producer as _;
use tokio::time::Instant;

use super::login::Login;
use super::resend::Refused;
use super::{Context, Live, fault_of, unplaced};

/// How long this client may ask for a topic's partitions.
const ASK: Duration = Duration::from_secs(2);

/// The client that makes batches of one record, made when it is first needed.
pub(super) struct IsolatedRetry {
    config: ClientConfig,
    login: Arc<Login>,
    live: Mutex<Option<Arc<Live>>>,
}

impl IsolatedRetry {
    /// Such a client beside one with `config`.
    pub(super) fn new(config: &ClientConfig, login: &Arc<Login>) -> Self {
        let mut config = config.clone();
        config.set("batch.num.messages", "1");
        Self {
            config,
            login: Arc::clone(login),
            live: Mutex::new(None),
        }
    }

    /// Sends the record in a batch of its own. Blocks, until `deadline` and while it asks once.
    pub(super) fn send(&self, refused: Refused, deadline: Instant) {
        let topic = refused.topic().to_owned();
        let mut has_asked = false;
        refused.hand_to(deadline, |reason| match reason {
            None | Some(Code::QueueFull) => self.live(),
            Some(Code::Fatal) => {
                *self.live.lock() = None;
                self.live()
            }
            // The client at work knew the partition, and this one looks every five minutes.
            Some(Code::UnknownPartition | Code::UnknownTopic) if !has_asked => {
                has_asked = true;
                let live = self.live()?;
                let _ = live.client().client().fetch_metadata(Some(&topic), ASK);
                Some(live)
            }
            Some(_) => None,
        });
    }

    fn live(&self) -> Option<Arc<Live>> {
        let mut live = self.live.lock();
        if live.is_none() {
            let context = Context {
                reports: Arc::default(),
                refused: None,
                unplaced: unplaced(&self.config),
            };
            match self.config.create_with_context(context) {
                Ok(client) => {
                    let client = Arc::new(Live::new(client, 0));
                    self.login.add(&client);
                    *live = Some(client);
                }
                Err(error) => tracing::error!(
                    "the client for records on their own cannot be made: {}",
                    fault_of(&error)
                ),
            }
        }
        live.clone()
    }
}
