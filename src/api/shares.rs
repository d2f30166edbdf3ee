//! How many of something each principal has, and may have: sessions, streams, consumer instances.
//! Without authentication all callers are one, and nothing is counted.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::auth::identity::Identity;
use crate::config::{AuthMode, Settings};

/// What the principals have of one thing.
#[derive(Debug)]
pub struct Shares {
    most: usize,
    counts: bool,
    of: Mutex<HashMap<Arc<Identity>, usize>>,
}

/// One of a principal's; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    /// `None` where nothing is counted.
    principal: Option<Arc<Identity>>,
}

/// The principal has as many as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded;

impl Shares {
    /// At most `most` for each principal.
    pub fn new(settings: &Settings, most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            counts: settings.auth.mode != AuthMode::None,
            of: Mutex::default(),
        })
    }

    /// One more for `principal`.
    ///
    /// # Errors
    ///
    /// [`Exceeded`].
    pub fn take(self: &Arc<Self>, principal: &Arc<Identity>) -> Result<Share, Exceeded> {
        let share = |principal| Share {
            shares: Arc::clone(self),
            principal,
        };
        if !self.counts {
            return Ok(share(None));
        }
        let mut of = self.of.lock();
        let count = of.entry(Arc::clone(principal)).or_default();
        if *count >= self.most {
            return Err(Exceeded);
        }
        *count += 1;
        drop(of);
        Ok(share(Some(Arc::clone(principal))))
    }

    /// Whether nobody has any.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.of.lock().is_empty()
    }
}

impl Share {
    /// Whether it is counted as this principal's.
    pub fn is_of(&self, principal: &Arc<Identity>) -> bool {
        self.principal.as_ref() == Some(principal)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some(principal) = self.principal.take() else {
            return;
        };
        let mut of = self.shares.of.lock();
        if let Some(count) = of.get_mut(&principal) {
            *count -= 1;
            if *count == 0 {
                of.remove(&principal);
            }
        }
    }
}
