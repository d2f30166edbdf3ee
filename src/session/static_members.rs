//! Which session has which static member. Within a process a new session of the same principal takes
//! over from the one before it, which is told so and leaves first; another principal's session is
//! refused, and the one that has the member does not notice. Across processes Kafka itself keeps them
//! apart.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::auth::identity::Identity;

type Key = (String, String);

/// All claims of a process.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    holders: Arc<Mutex<HashMap<Key, Holder>>>,
}

#[derive(Debug, Clone)]
struct Holder {
    owner: Arc<Identity>,
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

/// The member belongs to another principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "instance_id: another principal has the static member of this name in the group; choose another \
     name"
)]
pub struct Foreign;

impl Claims {
    /// Takes the member `instance` of `group` for `owner`. If another session of this principal has it,
    /// that one is told, and what is returned beside the claim is cancelled when it has let go.
    ///
    /// # Errors
    ///
    /// [`Foreign`].
    pub fn claim(
        &self,
        group: &str,
        instance: &str,
        owner: &Arc<Identity>,
    ) -> Result<(Claim, Option<CancellationToken>), Foreign> {
        let key = (group.to_owned(), instance.to_owned());
        let holder = Holder {
            owner: Arc::clone(owner),
            taken: CancellationToken::new(),
            gone: CancellationToken::new(),
        };
        let mut holders = self.holders.lock();
        if holders
            .get(&key)
            .is_some_and(|before| before.owner != *owner)
        {
            return Err(Foreign);
        }
        let before = holders.insert(key.clone(), holder.clone());
        drop(holders);
        let gone = before.map(|before| {
            before.taken.cancel();
            before.gone
        });
        let claim = Claim {
            claims: self.clone(),
            key,
            holder,
        };
        Ok((claim, gone))
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

    fn named(name: &str) -> Arc<Identity> {
        Arc::new(Identity::of_token("issuer", name.to_owned()))
    }

    #[tokio::test]
    async fn the_last_session_of_a_principal_has_the_member() {
        let claims = Claims::default();
        let (first, none) = claims.claim("g", "a", &named("ann")).unwrap();
        assert!(none.is_none());
        let (second, gone) = claims.claim("g", "a", &named("ann")).unwrap();
        first.taken().await;
        let gone = gone.unwrap();
        assert!(!gone.is_cancelled());
        drop(first);
        gone.cancelled().await;
        assert_eq!(claims.holders.lock().len(), 1);
        drop(second);
        assert!(claims.holders.lock().is_empty());
    }

    #[test]
    fn a_member_of_another_principal_is_refused_until_it_is_given_up() {
        let claims = Claims::default();
        let (anns, _) = claims.claim("g", "a", &named("ann")).unwrap();
        assert_eq!(claims.claim("g", "a", &named("bob")).unwrap_err(), Foreign);
        assert!(!anns.holder.taken.is_cancelled());
        // Another group's member of this name is another one.
        claims.claim("h", "a", &named("bob")).unwrap();
        drop(anns);
        let (_bobs, before) = claims.claim("g", "a", &named("bob")).unwrap();
        assert!(before.is_none());
    }
}
