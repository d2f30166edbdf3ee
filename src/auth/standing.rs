//! Whether a principal is still one, and what it may do at the most, by what was read last.
//!
//! What is open outlives the request that opened it. So a principal remembers what let it in: the line of
//! the file, or the issuer and the key of its token. Whenever something is decided, that is looked up
//! again, and [`Changes`] tells what is open when to ask.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::identity::Identity;
use super::permission::{Ceiling, Permission};
use super::roles::{Book, Following, Table};
use super::users::Sort;

/// Tells one secret from another. Tickets carry it, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint(String);

impl Fingerprint {
    pub(super) fn of(secret: &[u8]) -> Self {
        Self(STANDARD_NO_PAD.encode(digest(&SHA256, secret)))
    }
}

/// What let a principal in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum By {
    /// A token of the issuer at this place in the settings.
    Token {
        at: usize,
        issuer: String,
        /// The key that verified it; `None` for those of a URL, which the issuer replaces by rules of
        /// its own.
        key: Option<Fingerprint>,
    },
    /// A line of `auth.users_file`.
    Line {
        sort: Sort,
        name: String,
        secret: Fingerprint,
    },
    /// Nothing that is read again: a certificate.
    Itself,
}

/// What holds for the tokens of an issuer now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IssuerNow {
    pub(super) identity: String,
    /// As in [`By::Token`].
    pub(super) key: Option<Fingerprint>,
    pub(super) permissions_allowed: Option<Vec<String>>,
}

/// The standing of one principal.
pub(super) struct Standing {
    by: By,
    identity: Arc<Identity>,
    /// `None`: it is gone.
    most: Following<Option<Arc<Ceiling>>>,
}

impl Standing {
    pub(super) fn new(book: &Arc<Book>, by: By, identity: &Arc<Identity>) -> Self {
        Self {
            most: Following::new(book, |table| find(table, &by, identity)),
            by,
            identity: Arc::clone(identity),
        }
    }

    pub(super) fn by(&self) -> &By {
        &self.by
    }

    /// What it may do at the most now; `None` where it is no principal any more.
    pub(super) fn now(&self) -> Option<Arc<Ceiling>> {
        let find = |table: &Table| find(table, &self.by, &self.identity);
        self.most.now(find)
    }

    pub(super) fn changes(&self) -> Changes {
        self.most.changes()
    }
}

fn find(table: &Table, by: &By, identity: &Identity) -> Option<Arc<Ceiling>> {
    let most = match by {
        By::Itself => Some(Ceiling::None),
        By::Line { sort, name, secret } => {
            let is_there = table.users.fingerprint(*sort, name).as_ref() == Some(secret);
            is_there.then_some(Ceiling::None)
        }
        By::Token { at, issuer, key } => {
            let found = table.issuers.get(*at);
            let found = found.filter(|now| now.identity == *issuer && now.key == *key);
            found.map(|now| ceiling(now.permissions_allowed.as_deref(), identity))
        }
    };
    most.map(Arc::new)
}

/// What an issuer's tokens may do at the most.
pub(super) fn ceiling(permissions_allowed: Option<&[String]>, identity: &Identity) -> Ceiling {
    match permissions_allowed {
        None => Ceiling::None,
        // One that could not be read would allow nothing. The settings' checks let none through.
        Some(texts) => Ceiling::At(
            texts
                .iter()
                .filter_map(|text| Permission::parse(text, identity).ok())
                .collect(),
        ),
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Standing").field(&self.by).finish()
    }
}

/// What it comes to is the word of what was read, and the same for all.
impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        self.by == other.by && self.identity == other.identity
    }
}

impl Eq for Standing {}

/// Tells what is open when it is to be judged again: at first, as something may have changed since its
/// principal was let in, and each time that something was read again and is different.
#[derive(Debug)]
pub struct Changes(Option<watch::Receiver<()>>);

impl Changes {
    /// Nothing ever changes.
    pub(super) const fn none() -> Self {
        Self(None)
    }

    pub(super) fn of(mut receiver: watch::Receiver<()>) -> Self {
        receiver.mark_changed();
        Self(Some(receiver))
    }

    /// Whether something has changed since this was last asked. Costs next to nothing, so that it can be
    /// asked before each piece of what is shown.
    pub fn came(&mut self) -> bool {
        let Some(receiver) = &mut self.0 else {
            return false;
        };
        let came = receiver.has_changed().unwrap_or(true);
        if came {
            receiver.mark_unchanged();
        }
        came
    }

    /// Waits until [`Changes::came`] is true, and leaves it so.
    pub async fn wait(&mut self) {
        if let Some(receiver) = &mut self.0
            && receiver.changed().await.is_ok()
        {
            receiver.mark_changed();
            return;
        }
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn issuer(key: &str, allowed: Option<&[&str]>) -> Table {
        Table {
            issuers: vec![IssuerNow {
                identity: "https://issuer".to_owned(),
                key: Some(Fingerprint::of(key.as_bytes())),
                permissions_allowed: allowed
                    .map(|texts| texts.iter().map(|text| (*text).to_owned()).collect()),
            }],
            ..Table::default()
        }
    }

    fn by_token(at: usize, issuer: &str, key: Option<&str>) -> By {
        By::Token {
            at,
            issuer: issuer.to_owned(),
            key: key.map(|key| Fingerprint::of(key.as_bytes())),
        }
    }

    #[test]
    fn a_token_stands_while_its_issuer_has_the_key_and_below_the_ceiling_of_the_moment() {
        let book = Arc::new(Book::new(issuer("old", None)));
        let ann = Arc::new(Identity::of_token("https://issuer", "ann".to_owned()));
        let standing = |by| Standing::new(&book, by, &ann);
        let token = standing(by_token(0, "https://issuer", Some("old")));
        assert_eq!(token.now().as_deref(), Some(&Ceiling::None));
        for other in [
            by_token(1, "https://issuer", Some("old")),
            by_token(0, "https://other", Some("old")),
            by_token(0, "https://issuer", Some("new")),
            by_token(0, "https://issuer", None),
        ] {
            assert!(standing(other.clone()).now().is_none(), "{other:?}");
        }
        book.replace(issuer("old", Some(&["consume:{sub}.*"])));
        let most = vec![Permission::parse("consume:ann.*", &ann).unwrap()];
        assert_eq!(token.now().as_deref(), Some(&Ceiling::At(most)));
        book.replace(issuer("new", None));
        assert!(token.now().is_none());
        book.replace(Table::default());
        assert!(token.now().is_none());
        assert!(standing(By::Itself).now().is_some());
    }

    #[test]
    fn a_change_of_issuers_is_told_once_and_the_same_issuers_are_no_change() {
        let book = Book::new(issuer("old", None));
        let mut changes = book.changes();
        assert!(changes.came(), "at first");
        assert!(!changes.came());
        book.replace(issuer("old", None));
        assert!(!changes.came());
        assert!(changes.wait().now_or_never().is_none());
        book.replace(issuer("new", None));
        assert!(changes.wait().now_or_never().is_some());
        assert!(changes.wait().now_or_never().is_some(), "nobody has asked");
        assert!(changes.came());
        assert!(!changes.came());
        assert!(!Changes::none().came());
        assert!(Changes::none().wait().now_or_never().is_none());
    }
}
