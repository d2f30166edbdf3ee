//! Who has how many of the places that there are for series. Clients make up the names of topics and
//! groups, so a metric with such names in its labels has so many places, and no principal has all of them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::auth::identity::{Identity, Kind};

/// Whose a place is; `None` where it is the gateway's own.
pub(super) type Owner = Option<Arc<Identity>>;

/// The places of one metric, or of metrics that have their labels in common.
#[derive(Debug)]
pub(super) struct Shares {
    most: usize,
    most_of_one: usize,
    taken: usize,
    /// How many of them are of each principal.
    of: HashMap<Owner, usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The principal has all that it may have.
    Own,
    /// All places are taken.
    All,
}

impl Shares {
    /// So many places, and so many of them for one principal. Where no credentials are asked for all
    /// clients are one principal, and only the bound of all holds.
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        Self {
            most,
            most_of_one,
            taken: 0,
            of: HashMap::new(),
        }
    }

    /// Whether a place is left for this principal.
    ///
    /// # Errors
    ///
    /// What is full.
    pub(super) fn room(&self, owner: &Owner) -> Result<(), Full> {
        let is_everyone = owner
            .as_ref()
            .is_none_or(|owner| owner.kind() == Kind::Anonymous);
        let of_one = self.of.get(owner).copied().unwrap_or(0);
        if !is_everyone && of_one >= self.most_of_one {
            Err(Full::Own)
        } else if self.taken >= self.most {
            Err(Full::All)
        } else {
            Ok(())
        }
    }

    /// The principal has one place more.
    pub(super) fn take(&mut self, owner: &Owner) {
        self.taken += 1;
        *self.of.entry(owner.clone()).or_default() += 1;
    }

    /// The principal has one place less.
    pub(super) fn give_back(&mut self, owner: &Owner) {
        self.taken = self.taken.saturating_sub(1);
        if let Some(count) = self.of.get_mut(owner) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_has_its_share_and_everyone_has_all_places() {
        let ann = Some(Arc::new(Identity::of_token("issuer", "ann".to_owned())));
        let everyone = Some(Arc::new(Identity::anonymous()));
        let mut shares = Shares::new(5, 2);
        shares.take(&ann);
        assert_eq!(shares.room(&ann), Ok(()));
        shares.take(&ann);
        assert_eq!(shares.room(&ann), Err(Full::Own));
        for _ in 0..3 {
            assert_eq!(shares.room(&everyone), Ok(()));
            shares.take(&everyone);
        }
        assert_eq!(shares.room(&everyone), Err(Full::All));
        assert_eq!(shares.room(&None), Err(Full::All));
        shares.give_back(&ann);
        assert_eq!(shares.room(&ann), Ok(()));
        assert_eq!(shares.room(&None), Ok(()));
    }
}
