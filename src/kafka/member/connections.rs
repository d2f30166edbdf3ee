//! The connections of members: a krafka connection each for the first of them, one for four after that.
//!
//! A broker answers the requests of one connection one after the other, so members on one connection wait
//! for each other's fetches; an idle member does not mind. KIP-848 parks no other call, so that members
//! of one group may share.

use std::sync::Arc;

use krafka::Kafka;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::kafka::Role;
use crate::kafka::client::{self, Clients};
use crate::kafka::fault::Fault;

/// How many members share a connection, where they do.
const SHARING: usize = 4;

/// Every connection that is in use.
pub(super) struct Connections {
    clients: Clients,
    /// How many members may have a connection of their own.
    own: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    own: usize,
    shared: Vec<Shared>,
}

struct Shared {
    connection: Arc<Connection>,
    members: usize,
}

/// Connected by the first member that needs it.
#[derive(Default)]
struct Connection {
    kafka: OnceCell<Kafka>,
}

/// A member's place on a connection; given back when it is dropped.
pub(super) struct Permit {
    connection: Arc<Connection>,
    connections: Arc<Connections>,
    own: bool,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (own, sharing) = self.in_use();
        f.debug_struct("Connections")
            .field("own", &own)
            .field("sharing", &sharing)
            .finish_non_exhaustive()
    }
}

impl Connections {
    pub(super) fn new(clients: Clients, own: usize) -> Self {
        Self {
            clients,
            own,
            taken: Mutex::default(),
        }
    }

    /// How many members have a connection of their own, and how many share one.
    pub(super) fn in_use(&self) -> (usize, usize) {
        let taken = self.taken.lock();
        let sharing = taken.shared.iter().map(|shared| shared.members).sum();
        (taken.own, sharing)
    }

    /// A place for one more member.
    pub(super) fn permit(self: &Arc<Self>) -> Permit {
        let mut taken = self.taken.lock();
        let own = taken.own < self.own;
        let connection = if own {
            taken.own += 1;
            Arc::default()
        } else {
            // The last ones are the likeliest to have room.
            let free = taken
                .shared
                .iter_mut()
                .rev()
                .find(|shared| shared.members < SHARING);
            match free {
                Some(shared) => {
                    shared.members += 1;
                    Arc::clone(&shared.connection)
                }
                None => {
                    let connection = Arc::<Connection>::default();
                    taken.shared.push(Shared {
                        connection: Arc::clone(&connection),
                        members: 1,
                    });
                    connection
                }
            }
        };
        Permit {
            connection,
            connections: Arc::clone(self),
            own,
        }
    }
}

impl Permit {
    /// The connection, connected.
    pub(super) async fn kafka(&self) -> Result<Kafka, Fault> {
        let connecting = || client::krafka(&self.connections.clients, Role::Group);
        let kafka = self.connection.kafka.get_or_try_init(connecting).await?;
        Ok(kafka.clone())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.connections.taken.lock();
        if self.own {
            taken.own = taken.own.saturating_sub(1);
            return;
        }
        let found = taken
            .shared
            .iter()
            .rposition(|shared| Arc::ptr_eq(&shared.connection, &self.connection));
        let Some(index) = found else { return };
        if let Some(shared) = taken.shared.get_mut(index) {
            shared.members -= 1;
            if shared.members == 0 {
                taken.shared.swap_remove(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KafkaSettings;

    #[tokio::test]
    async fn the_first_members_have_a_connection_each_and_four_of_the_rest_share_one() {
        let clients = Clients::new(KafkaSettings::default());
        let connections = Arc::new(Connections::new(clients, 2));
        let mut permits: Vec<Permit> = (0..11).map(|_| connections.permit()).collect();
        assert_eq!(connections.in_use(), (2, 9));
        let different = |permits: &[Permit]| {
            let mut known: Vec<*const Connection> = permits
                .iter()
                .map(|permit| Arc::as_ptr(&permit.connection))
                .collect();
            known.sort_unstable();
            known.dedup();
            known.len()
        };
        assert_eq!(different(&permits), 2 + 3);

        // A free permit is taken before another connection is made.
        drop(permits.remove(3));
        permits.push(connections.permit());
        assert_eq!(different(&permits), 2 + 3);
        // An own one that is free goes to the next.
        drop(permits.remove(0));
        assert_eq!(connections.in_use(), (1, 9));
        permits.push(connections.permit());
        assert_eq!(connections.in_use(), (2, 9));

        permits.clear();
        assert_eq!(connections.in_use(), (0, 0));
        assert!(
            connections.taken.lock().shared.is_empty(),
            "a connection goes with its last"
        );
    }
}
