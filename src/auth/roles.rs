//! What may be read again while the gateway runs: the roles of the settings, what `auth.users_file` gives,
//! and what holds for issuers; and what a principal has by roles and that file.
//!
//! A principal keeps the names of its roles, or its own in that file, and looks up what they give whenever something is decided.
//! So what a role loses is lost to sessions that are open, too.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::identity::Identity;
use super::permission::Permission;
use super::standing::{Changes, IssuerNow};
use super::users::{Given, Sort, Users};

/// Most permissions of one principal.
pub(super) const MAX_PERMISSIONS: usize = 1_000;

/// What was read last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// The permissions of each role.
    pub(super) roles: BTreeMap<String, Vec<String>>,
    /// Names with passwords, and API keys.
    pub(super) users: Users,
    /// In the order of the settings.
    pub(super) issuers: Vec<IssuerNow>,
}

/// By what somebody has permissions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Of {
    /// The roles of these names, of which the settings need not have each.
    Roles(Vec<String>),
    /// What the file says of this one.
    User(Sort, String),
}

/// All of it as it is now.
#[derive(Debug)]
pub(super) struct Book {
    current: RwLock<Arc<Table>>,
    /// Tells what is open that it is another one.
    changed: watch::Sender<()>,
}

impl Book {
    pub(super) fn new(table: Table) -> Self {
        Self {
            current: RwLock::new(Arc::new(table)),
            changed: watch::channel(()).0,
        }
    }

    /// Puts another table in the place of the one that was there.
    pub(super) fn replace(&self, table: Table) {
        let mut current = self.current.write();
        if **current == table {
            return;
        }
        *current = Arc::new(table);
        // Whoever is woken looks at the new one.
        drop(current);
        self.changed.send_replace(());
    }

    /// These are the issuers, before anybody is let in.
    pub(super) fn knows_issuers(&self, issuers: Vec<IssuerNow>) {
        let mut current = self.current.write();
        let table = Table {
            roles: current.roles.clone(),
            users: current.users.clone(),
            issuers,
        };
        *current = Arc::new(table);
    }

    pub(super) fn changes(&self) -> Changes {
        Changes::of(self.changed.subscribe())
    }

    pub(super) fn current(&self) -> Arc<Table> {
        Arc::clone(&self.current.read())
    }
}

/// What follows from the table of the moment, kept until there is another table.
pub(super) struct Following<T> {
    book: Arc<Book>,
    found: RwLock<(Arc<Table>, T)>,
}

impl<T: Clone> Following<T> {
    pub(super) fn new(book: &Arc<Book>, find: impl FnOnce(&Table) -> T) -> Self {
        let table = book.current();
        let found = find(&table);
        Self {
            book: Arc::clone(book),
            found: RwLock::new((table, found)),
        }
    }

    /// What follows now. `find` is asked where that may have changed.
    pub(super) fn now(&self, find: impl FnOnce(&Table) -> T) -> T {
        let current = self.book.current();
        {
            let (table, found) = &*self.found.read();
            if Arc::ptr_eq(table, &current) {
                return found.clone();
            }
        }
        let found = find(&current);
        *self.found.write() = (current, found.clone());
        found
    }

    pub(super) fn changes(&self) -> Changes {
        self.book.changes()
    }
}

/// The roles of one principal.
pub(super) struct Roles {
    of: Of,
    identity: Arc<Identity>,
    permissions: Following<Arc<[Permission]>>,
}

impl Roles {
    /// What `of` gives to this identity.
    pub(super) fn new(book: &Arc<Book>, of: Of, identity: &Arc<Identity>) -> Self {
        Self {
            permissions: Following::new(book, |table| find(table, &of, identity)),
            of,
            identity: Arc::clone(identity),
        }
    }

    pub(super) fn of(&self) -> &Of {
        &self.of
    }

    /// What they give now, at most one more than [`MAX_PERMISSIONS`].
    pub(super) fn permissions(&self) -> Arc<[Permission]> {
        let find = |table: &Table| find(table, &self.of, &self.identity);
        self.permissions.now(find)
    }
}

fn find(table: &Table, of: &Of, identity: &Identity) -> Arc<[Permission]> {
    // Whoever is not in the file any more has nothing.
    let nothing = Given::default();
    let (names, own) = match of {
        Of::Roles(names) => (names, &nothing.permissions),
        Of::User(sort, name) => {
            let given = table.users.given(*sort, name).unwrap_or(&nothing);
            (&given.roles, &given.permissions)
        }
    };
    let of_roles = names.iter().filter_map(|name| table.roles.get(name));
    let texts = own.iter().chain(of_roles.flatten());
    // The settings' checks let through none that cannot be read.
    texts
        .filter_map(|text| Permission::parse(text, identity).ok())
        .take(MAX_PERMISSIONS + 1)
        .collect()
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Roles").field(&self.of).finish()
    }
}

/// What they give is the settings' word, and the same for all.
impl PartialEq for Roles {
    fn eq(&self, other: &Self) -> bool {
        self.of == other.of && self.identity == other.identity
    }
}

impl Eq for Roles {}

/// What a principal has been granted, at one moment.
pub(super) struct Held<'a> {
    pub(super) own: &'a [Permission],
    pub(super) by_roles: Arc<[Permission]>,
}

impl Held<'_> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Permission> {
        self.own.iter().chain(self.by_roles.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(list: &[(&str, &[&str])]) -> Table {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Table {
            roles: list
                .iter()
                .map(|(name, list)| ((*name).to_owned(), texts(list)))
                .collect(),
            ..Table::default()
        }
    }

    #[test]
    fn roles_give_what_the_table_of_the_moment_says() {
        let book = Arc::new(Book::new(table(&[("reader", &["consume:{sub}.*"])])));
        let ann = Arc::new(Identity::of_token("issuer", "ann".to_owned()));
        let names = vec!["reader".to_owned(), "writer".to_owned()];
        let roles = Roles::new(&book, Of::Roles(names), &ann);
        let said = || -> Vec<String> {
            roles
                .permissions()
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(said(), ["consume:ann.*"]);
        book.replace(table(&[("writer", &["produce:a", "describe:b"])]));
        assert_eq!(said(), ["produce:a", "describe:b"]);
        book.replace(Table::default());
        assert_eq!(said(), [""; 0]);
    }
}
