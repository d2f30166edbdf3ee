//! Which session has which static member: within a process a new one takes over from the one before
//! it, which is told so and leaves first. Across processes Kafka itself keeps them apart.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

type Key = (String, String);

/// All claims of a process.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    holders: Arc<Mutex<HashMap<Key, Holder>>>,
}

#[derive(Debug, Clone, Default)]
struct Holder {
    taken: CancellationToken,
    gone: CancellationToken,
}

/// One session's hold of a static member; given up when it is dropped.
#[derive(Debug)]
pub struct Claim {
    claims: Claims,
    key: Key,
    holder: Holder,
}

impl Claims {
    /// Takes the member `instance` of `group`. If another session has it, that one is told, and what
    /// is returned beside the claim is cancelled when it has let go.
    pub fn claim(&self, group: &str, instance: &str) -> (Claim, Option<CancellationToken>) {
        let key = (group.to_owned(), instance.to_owned());
        let holder = Holder::default();
        let before = self.holders.lock().insert(key.clone(), holder.clone());
        let gone = before.map(|before| {
            before.taken.cancel();
            before.gone
        });
        let claim = Claim {
            claims: self.clone(),
            key,
            holder,
        };
        (claim, gone)
    }
}

impl Claim {
    /// Waits until another session has taken it.
    pub async fn taken(&self) {
        self.holder.taken.cancelled().await;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.holder.gone.cancel();
        let mut holders = self.claims.holders.lock();
        // One that was taken is another session's by now.
        if !self.holder.taken.is_cancelled() {
            holders.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_one_has_it() {
        let claims = Claims::default();
        let (first, none) = claims.claim("g", "a");
        assert!(none.is_none());
        let (second, gone) = claims.claim("g", "a");
        first.taken().await;
        let gone = gone.unwrap();
        assert!(!gone.is_cancelled());
        drop(first);
        gone.cancelled().await;
        assert_eq!(claims.holders.lock().len(), 1);
        drop(second);
        assert!(claims.holders.lock().is_empty());
    }
}
