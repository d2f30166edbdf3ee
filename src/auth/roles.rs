//! The roles of the settings, which may be read again while the gateway runs, and what a principal has
//! by them.
//!
//! A principal keeps the names of its roles and looks up what they give whenever something is decided.
//! So what a role loses is lost to sessions that are open, too.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use super::identity::Identity;
use super::permission::Permission;

/// Most permissions of one principal.
pub(super) const MAX_PERMISSIONS: usize = 1_000;

/// The permissions of each role, as they were read last.
pub(super) type Table = BTreeMap<String, Vec<String>>;

/// The roles as they are now.
#[derive(Debug, Default)]
pub(super) struct Book {
    current: RwLock<Arc<Table>>,
}

impl Book {
    pub(super) fn new(roles: Table) -> Self {
        Self {
            current: RwLock::new(Arc::new(roles)),
        }
    }

    /// Puts other roles in the place of those that were there.
    pub(super) fn replace(&self, roles: Table) {
        let mut current = self.current.write();
        if **current != roles {
            *current = Arc::new(roles);
        }
    }

    fn current(&self) -> Arc<Table> {
        Arc::clone(&self.current.read())
    }
}

/// The roles of one principal.
pub(super) struct Roles {
    book: Arc<Book>,
    names: Vec<String>,
    identity: Arc<Identity>,
    /// What they gave at the last look, and by which table.
    found: RwLock<Found>,
}

#[derive(Clone)]
struct Found {
    by: Arc<Table>,
    permissions: Arc<[Permission]>,
}

impl Roles {
    /// The roles of these names, of which the settings need not have each.
    pub(super) fn new(book: &Arc<Book>, names: Vec<String>, identity: &Arc<Identity>) -> Self {
        let found = find(book.current(), &names, identity);
        Self {
            book: Arc::clone(book),
            names,
            identity: Arc::clone(identity),
            found: RwLock::new(found),
        }
    }

    /// What they give now, at most one more than [`MAX_PERMISSIONS`].
    pub(super) fn permissions(&self) -> Arc<[Permission]> {
        let current = self.book.current();
        {
            let found = self.found.read();
            if Arc::ptr_eq(&found.by, &current) {
                return Arc::clone(&found.permissions);
            }
        }
        let found = find(current, &self.names, &self.identity);
        let permissions = Arc::clone(&found.permissions);
        *self.found.write() = found;
        permissions
    }
}

fn find(table: Arc<Table>, names: &[String], identity: &Identity) -> Found {
    let texts = names.iter().filter_map(|name| table.get(name)).flatten();
    // The settings' checks let through none that cannot be read.
    let permissions = texts
        .filter_map(|text| Permission::parse(text, identity).ok())
        .take(MAX_PERMISSIONS + 1)
        .collect();
    Found {
        by: table,
        permissions,
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Roles").field(&self.names).finish()
    }
}

/// What they give is the settings' word, and the same for all.
impl PartialEq for Roles {
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names && self.identity == other.identity
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
        list.iter()
            .map(|(name, list)| ((*name).to_owned(), texts(list)))
            .collect()
    }

    #[test]
    fn roles_give_what_the_table_of_the_moment_says() {
        let book = Arc::new(Book::new(table(&[("reader", &["consume:{sub}.*"])])));
        let ann = Arc::new(Identity::of_token("issuer", "ann".to_owned()));
        let names = vec!["reader".to_owned(), "writer".to_owned()];
        let roles = Roles::new(&book, names, &ann);
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
        book.replace(Table::new());
        assert_eq!(said(), [""; 0]);
    }
}
