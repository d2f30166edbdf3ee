//! Clients that log in by token, and the newest token for each of them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::producer::Producer as _;

use super::Live;
use crate::kafka::client::Tokens;
use crate::kafka::ffi::set_token;

/// How often it is looked whether there is a token, when nothing new is heard of it.
const LOOK: Duration = Duration::from_secs(20);

/// Where tokens come from, and who gets them. Does nothing where the login is by something else.
#[derive(Debug, Default)]
pub(super) struct Login {
    tokens: Option<Tokens>,
    clients: Mutex<Vec<Weak<Live>>>,
}

impl Login {
    pub(super) fn new(tokens: Option<Tokens>) -> Self {
        Self {
            tokens,
            clients: Mutex::default(),
        }
    }

    /// Gives `client` the newest token, now and from now on.
    pub(super) fn add(&self, client: &Arc<Live>) {
        let Some(tokens) = &self.tokens else {
            return;
        };
        let mut clients = self.clients.lock();
        clients.retain(|known| known.strong_count() > 0);
        clients.push(Arc::downgrade(client));
        drop(clients);
        // Afterwards, so that a token which comes just now is not missed.
        if let Some(token) = tokens.current()
            && let Err(why) = set_token(client.client().client(), &token)
        {
            tracing::warn!("{}", refusal(&why));
        }
    }

    /// Gives every client each new token, and tells `complain` why there is none, as long as
    /// `wanted` says so.
    pub(super) async fn renew(&self, wanted: impl Fn() -> bool, complain: impl Fn(&str)) {
        let Some(mut tokens) = self.tokens.clone() else {
            return;
        };
        while wanted() {
            if let Some(token) = tokens.current() {
                let clients: Vec<Arc<Live>> = self
                    .clients
                    .lock()
                    .iter()
                    .filter_map(Weak::upgrade)
                    .collect();
                for client in clients {
                    if let Err(why) = set_token(client.client().client(), &token) {
                        complain(&refusal(&why));
                    }
                }
            } else if let Some(failure) = tokens.failure() {
                complain(&failure);
            }
            tokens.news(LOOK).await;
        }
    }
}

fn refusal(why: &str) -> String {
    format!("librdkafka does not take the OAUTHBEARER token: {why}")
}
