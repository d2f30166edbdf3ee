//! How many of something each principal has, and may have: sessions, streams, consumer instances.
//! Without authentication all callers are one, and nothing is counted.

use std::sync::Arc;

use crate::auth::identity::Identity;
use crate::config::{AuthMode, Settings};
use crate::limits::places::{Place, Places};

/// What the principals have of one thing.
#[derive(Debug)]
pub struct Shares {
    counts: bool,
    of: Arc<Places<Arc<Identity>>>,
}

/// One of a principal's; given back when it is dropped. `None` where nothing is counted.
#[derive(Debug)]
pub struct Share(Option<Place<Arc<Identity>>>);

/// The principal has as many as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded;

impl Shares {
    /// At most `most` for each principal.
    pub fn new(settings: &Settings, most: usize) -> Self {
        Self {
            counts: settings.auth.mode != AuthMode::None,
            of: Places::new(most),
        }
    }

    /// One more for `principal`.
    ///
    /// # Errors
    ///
    /// [`Exceeded`].
    pub fn take(&self, principal: &Arc<Identity>) -> Result<Share, Exceeded> {
        if !self.counts {
            return Ok(Share(None));
        }
        let place = self.of.take(Arc::clone(principal)).ok_or(Exceeded)?;
        Ok(Share(Some(place)))
    }

    /// Whether nobody has any.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }
}

impl Share {
    /// Whether it is counted as this principal's.
    pub fn is_of(&self, principal: &Arc<Identity>) -> bool {
        self.0.as_ref().is_some_and(|place| place.of() == principal)
    }
}
