//! Finds out whether a password is right. That is slow by design, so it is done off the threads that
//! serve, a few at once, for a bounded number of requests; and a password that was right is remembered for
//! a while, so that each request does not cost it again.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use moka::future::Cache;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::users::Users;
use crate::limits::places::{Place, Places};

/// How long a password that nobody shows any more is taken as right, if the user's hash stays the same. One
/// that is shown again and again stays, so that those who guess hold up nobody who is known.
const KEPT: Duration = Duration::from_secs(3_600);
/// Most passwords that are remembered, as a keyed hash.
const MOST_REMEMBERED: u64 = 10_000;
/// Longest wait for others' passwords to be checked.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Most different passwords that wait or are checked at once, of all clients and of one address.
const MOST_WAITING: usize = 1_000;
const MOST_OF_ADDRESS: usize = 32;
/// bcrypt looks at no more.
const MOST_PASSWORD_BYTES: usize = 72;

/// Why nobody is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// There is no such user, or the password is another.
    Wrong,
    /// Too many passwords are being checked.
    Busy,
}

pub(super) struct Passwords {
    /// Of this process alone: what is remembered is of no use to anybody else.
    key: hmac::Key,
    /// The hash that each was right for.
    right: Cache<[u8; 32], Arc<str>>,
    at_once: Arc<Semaphore>,
    waiting: Waiting,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

impl Passwords {
    /// Remembers nothing yet.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub(super) fn new() -> Result<Self, String> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)
            .map_err(|error| format!("the system has no random numbers: {error}"))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            right: Cache::builder()
                .time_to_idle(KEPT)
                .max_capacity(MOST_REMEMBERED)
                .build(),
            // The rest of the machine is for those who are known.
            at_once: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: Waiting::new(),
        })
    }

    /// Whether the password was right not long ago.
    pub(super) fn remembers(&self, name: &str, password: &str) -> bool {
        self.right.contains_key(&self.digest(name, password))
    }

    /// Whether the user of this name has this password. `address` is whose request it is.
    pub(super) async fn check(
        &self,
        users: &Users,
        name: &str,
        password: &str,
        address: Option<u128>,
    ) -> Result<(), Failed> {
        let digest = self.digest(name, password);
        let own = users.hash(name);
        let before = self.right.get(&digest).await;
        match (&before, own) {
            (Some(right), Some(own)) if right == own => return Ok(()),
            // It is another one by now, or the user is gone.
            (Some(_), _) => self.right.invalidate(&digest).await,
            (None, _) => {}
        }
        let hash = match own {
            Some(own) => Arc::clone(own),
            // An unknown name takes as long as a wrong password, so that nobody finds out names.
            None => match users.decoy(self.number(name)) {
                Some(decoy) => Arc::clone(decoy),
                None => return Err(Failed::Wrong),
            },
        };
        let is_known = own.is_some();
        // Requests that show the same at once share one check.
        let right = self
            .right
            .try_get_with(digest, self.verify(hash, is_known, password, address))
            .await
            .map_err(|failed| *failed)?;
        match own {
            Some(own) if *own == right => Ok(()),
            _ => Err(Failed::Wrong),
        }
    }

    async fn verify(
        &self,
        hash: Arc<str>,
        is_known: bool,
        password: &str,
        address: Option<u128>,
    ) -> Result<Arc<str>, Failed> {
        let _waits = self.waiting.take(address).ok_or(Failed::Busy)?;
        let at_once = Arc::clone(&self.at_once).acquire_owned();
        let permit = match timeout(LONGEST_WAIT, at_once).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => return Err(Failed::Busy),
        };
        // bcrypt takes such a password for another one: for its beginning.
        let is_whole = password.len() <= MOST_PASSWORD_BYTES && !password.contains('\0');
        let password = SecretString::from(password);
        let judged = tokio::task::spawn_blocking(move || {
            // It goes on where the client has gone, and keeps its place.
            let _permit = permit;
            let right = bcrypt::verify(password.expose_secret(), &hash);
            (right.unwrap_or(false), hash)
        });
        match judged.await {
            Ok((true, hash)) if is_known && is_whole => Ok(hash),
            Ok(_) => Err(Failed::Wrong),
            // It panicked, which the panic's own message says, or the runtime ends.
            Err(_) => Err(Failed::Busy),
        }
    }

    fn digest(&self, name: &str, password: &str) -> [u8; 32] {
        // A name has no colon in it.
        let tag = hmac::sign(&self.key, format!("password:{name}:{password}").as_bytes());
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }

    /// A number that is always the same for a name, and that nobody can foresee.
    fn number(&self, name: &str) -> u64 {
        let tag = hmac::sign(&self.key, format!("name:{name}").as_bytes());
        tag.as_ref()
            .first_chunk()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

/// The places of those that wait.
struct Waiting {
    all: Arc<Semaphore>,
    of_address: Arc<Places<u128>>,
}

/// One of those that wait, until it is dropped.
struct Waits {
    _of_all: OwnedSemaphorePermit,
    _of_address: Option<Place<u128>>,
}

impl Waiting {
    fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MOST_WAITING)),
            of_address: Places::new(MOST_OF_ADDRESS),
        }
    }

    fn take(&self, address: Option<u128>) -> Option<Waits> {
        Some(Waits {
            _of_all: Arc::clone(&self.all).try_acquire_owned().ok()?,
            _of_address: match address {
                Some(address) => Some(self.of_address.take(address)?),
                None => None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(password: &str) -> Users {
        let file = tempfile::NamedTempFile::new().unwrap();
        let hash = bcrypt::hash(password, 4).unwrap();
        std::fs::write(file.path(), format!("ann:{hash}:clerk\n")).unwrap();
        Users::read(file.path()).unwrap()
    }

    #[tokio::test]
    async fn a_password_is_right_for_its_user_and_as_long_as_the_hash_is_the_same() {
        let passwords = Passwords::new().unwrap();
        let before = users("secret");
        for _ in 0..2 {
            assert_eq!(
                passwords.check(&before, "ann", "secret", None).await,
                Ok(())
            );
        }
        assert!(passwords.remembers("ann", "secret"));
        for (name, password) in [("ann", "Secret"), ("ann", ""), ("eve", "secret")] {
            let wrong = passwords.check(&before, name, password, Some(1)).await;
            assert_eq!(wrong, Err(Failed::Wrong), "{name} {password}");
            assert!(!passwords.remembers(name, password));
        }
        let after = users("other");
        let old = passwords.check(&after, "ann", "secret", None).await;
        assert_eq!(old, Err(Failed::Wrong));
        assert_eq!(passwords.check(&after, "ann", "other", None).await, Ok(()));
        let gone = Users::default();
        let wrong = passwords.check(&gone, "ann", "other", None).await;
        assert_eq!(wrong, Err(Failed::Wrong));
        assert!(passwords.waiting.of_address.is_empty());
    }

    #[tokio::test]
    async fn what_bcrypt_would_cut_off_is_wrong() {
        let passwords = Passwords::new().unwrap();
        let long = "x".repeat(MOST_PASSWORD_BYTES);
        let users = users(&long);
        assert_eq!(passwords.check(&users, "ann", &long, None).await, Ok(()));
        for other in [format!("{long}y"), "a\0a".to_owned()] {
            let wrong = passwords.check(&users, "ann", &other, None).await;
            assert_eq!(wrong, Err(Failed::Wrong));
        }
    }

    #[test]
    fn passwords_from_one_address_wait_in_no_more_than_its_places() {
        let waiting = Waiting::new();
        let mut places: Vec<_> = (0..MOST_OF_ADDRESS)
            .map(|_| waiting.take(Some(1)).unwrap())
            .collect();
        assert!(waiting.take(Some(1)).is_none());
        assert!(waiting.take(Some(2)).is_some());
        places.pop();
        assert!(waiting.take(Some(1)).is_some());
        drop(places);
        assert_eq!(waiting.all.available_permits(), MOST_WAITING);
    }
}
