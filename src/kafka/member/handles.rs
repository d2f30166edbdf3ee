//! The connections of members: a krafka handle each for the first of them, one for four after that.
//!
//! A broker answers the requests of one connection one after the other, so members on one handle wait
//! for each other's fetches; an idle member does not mind. KIP-848 parks no other call, so that members
//! of one group may share.

use std::sync::Arc;

use krafka::Kafka;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::kafka::Role;
use crate::kafka::client::{self, Clients};
use crate::kafka::fault::Fault;

/// How many members share a handle, where they do.
const SHARING: usize = 4;

/// Every handle that is in use.
pub(super) struct Handles {
    clients: Clients,
    /// How many members may have a handle of their own.
    own: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    own: usize,
    shared: Vec<Shared>,
}

struct Shared {
    handle: Arc<Handle>,
    members: usize,
}

/// Connected by the first member that needs it.
#[derive(Default)]
struct Handle {
    kafka: OnceCell<Kafka>,
}

/// A member's place on a handle; given back when it is dropped.
pub(super) struct Seat {
    handle: Arc<Handle>,
    handles: Arc<Handles>,
    own: bool,
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (own, sharing) = self.seats();
        f.debug_struct("Handles")
            .field("own", &own)
            .field("sharing", &sharing)
            .finish_non_exhaustive()
    }
}

impl Handles {
    pub(super) fn new(clients: Clients, own: usize) -> Self {
        Self {
            clients,
            own,
            taken: Mutex::default(),
        }
    }

    /// How many members have a handle of their own, and how many share one.
    pub(super) fn seats(&self) -> (usize, usize) {
        let taken = self.taken.lock();
        let sharing = taken.shared.iter().map(|shared| shared.members).sum();
        (taken.own, sharing)
    }

    /// A place for one more member.
    pub(super) fn seat(self: &Arc<Self>) -> Seat {
        let mut taken = self.taken.lock();
        let own = taken.own < self.own;
        let handle = if own {
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
                    Arc::clone(&shared.handle)
                }
                None => {
                    let handle = Arc::<Handle>::default();
                    taken.shared.push(Shared {
                        handle: Arc::clone(&handle),
                        members: 1,
                    });
                    handle
                }
            }
        };
        Seat {
            handle,
            handles: Arc::clone(self),
            own,
        }
    }
}

impl Seat {
    /// The handle, connected.
    pub(super) async fn kafka(&self) -> Result<Kafka, Fault> {
        let connecting = || client::krafka(&self.handles.clients, Role::Group);
        let kafka = self.handle.kafka.get_or_try_init(connecting).await?;
        Ok(kafka.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.handles.taken.lock();
        if self.own {
            taken.own = taken.own.saturating_sub(1);
            return;
        }
        let found = taken
            .shared
            .iter()
            .rposition(|shared| Arc::ptr_eq(&shared.handle, &self.handle));
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
    async fn the_first_have_their_own_and_the_rest_share_by_four() {
        let clients = Clients::new(KafkaSettings::default());
        let handles = Arc::new(Handles::new(clients, 2));
        let mut seats: Vec<Seat> = (0..11).map(|_| handles.seat()).collect();
        assert_eq!(handles.seats(), (2, 9));
        let different = |seats: &[Seat]| {
            let mut known: Vec<*const Handle> =
                seats.iter().map(|seat| Arc::as_ptr(&seat.handle)).collect();
            known.sort_unstable();
            known.dedup();
            known.len()
        };
        assert_eq!(different(&seats), 2 + 3);

        // A free seat is taken before another handle is made.
        drop(seats.remove(3));
        seats.push(handles.seat());
        assert_eq!(different(&seats), 2 + 3);
        // An own one that is free goes to the next.
        drop(seats.remove(0));
        assert_eq!(handles.seats(), (1, 9));
        seats.push(handles.seat());
        assert_eq!(handles.seats(), (2, 9));

        seats.clear();
        assert_eq!(handles.seats(), (0, 0));
        assert!(
            handles.taken.lock().shared.is_empty(),
            "a handle goes with its last"
        );
    }
}
