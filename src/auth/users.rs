//! `auth.users_file`: names with passwords, and API keys, a line for each:
//!
//! ```text
//! # name:hash:roles and permissions
//! ann:$2y$12$…:clerk,consume:reports
//! billing:$sha256$9f86…:produce:orders
//! ```
//!
//! A password's hash is bcrypt's, as `htpasswd -B` prints it. An API key is long and random, so that one
//! round of SHA-256 is enough for it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::roles::MAX_PERMISSIONS;
use super::standing::Fingerprint;
use crate::config::{AuthSettings, read_file, read_permission};

/// What each API key begins with, which tells it from a token.
pub const KEY_PREFIX: &str = "tgk_";
/// Fewer characters than this are no key: with 32 random bytes it has more.
const KEY_LENGTHS: std::ops::RangeInclusive<usize> = 36..=256;
/// Far above any real file.
const MOST_BYTES: u64 = 4 << 20;
/// Longest name. It becomes a key of maps and stands in log lines.
const MOST_NAME_BYTES: usize = 128;
/// What a hash of a key begins with.
const KEY_HASH: &str = "$sha256$";
/// Costs that are taken: above them one check would take seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=14;
/// Below it a stolen hash is guessed soon; what `htpasswd -B` takes unless told otherwise.
const LOW_COST: u32 = 10;

/// What somebody has been given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) roles: Vec<String>,
    /// As `action:pattern`.
    pub(super) permissions: Vec<String>,
}

/// Which of the two kinds of lines is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sort {
    User,
    Key,
}

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Users {
    users: BTreeMap<String, (Arc<str>, Given)>,
    /// With the hash of each.
    keys: BTreeMap<String, (Vec<u8>, Given)>,
    /// Hashes of keys, found by how they begin, and whose they are.
    hashes: HashMap<[u8; 8], Vec<(Vec<u8>, String)>>,
}

impl Users {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// A line for each that is wrong, with its number and nothing of a hash.
    pub(super) fn read(path: &Path) -> Result<Self, Vec<String>> {
        let bytes = read_file(path, MOST_BYTES).map_err(|problem| vec![problem])?;
        let text = String::from_utf8(bytes)
            .map_err(|_| vec![format!("{} is not UTF-8 text", path.display())])?;
        Self::parse(&text).map_err(|problems| {
            let about = |(line, problem)| format!("{} line {line}: {problem}", path.display());
            problems.into_iter().map(about).collect()
        })
    }

    fn parse(text: &str) -> Result<Self, Vec<(usize, String)>> {
        let mut all = Self::default();
        let mut problems = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Err(problem) = all.add(line) {
                problems.push((number, problem));
            }
        }
        match problems.is_empty() {
            true => Ok(all),
            false => Err(problems),
        }
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let mut parts = line.splitn(3, ':');
        let (Some(name), Some(hash)) = (parts.next(), parts.next()) else {
            return Err("expected name:hash:roles".to_owned());
        };
        let (name, hash) = (name.trim(), hash.trim());
        if name.is_empty() || name.len() > MOST_NAME_BYTES || name.contains(char::is_control) {
            return Err(format!(
                "expected a name of 1 to {MOST_NAME_BYTES} bytes before the first colon"
            ));
        }
        let given = Given::parse(parts.next().unwrap_or_default())?;
        if let Some(hex) = hash.strip_prefix(KEY_HASH) {
            let hash = of_hex(hex).ok_or_else(|| {
                format!("expected 64 hexadecimal digits after {KEY_HASH}, the SHA-256 of a key")
            })?;
            let places = self.hashes.entry(beginning(&hash)).or_default();
            if places.iter().any(|(other, _)| *other == hash) {
                return Err("this key stands in the file twice".to_owned());
            }
            if self.keys.contains_key(name) {
                return Err("a key of this name stands in the file already".to_owned());
            }
            places.push((hash.clone(), name.to_owned()));
            self.keys.insert(name.to_owned(), (hash, given));
            return Ok(());
        }
        let cost = cost_of(hash).ok_or_else(|| {
            format!(
                "expected a hash that begins with $2y$ (htpasswd -B, or tidegate user) or with {KEY_HASH} (tidegate key)"
            )
        })?;
        if !COSTS.contains(&cost) {
            return Err(format!(
                "expected a cost of {} to {}, got {cost}",
                COSTS.start(),
                COSTS.end()
            ));
        }
        let before = self.users.insert(name.to_owned(), (hash.into(), given));
        match before {
            None => Ok(()),
            Some(_) => Err("a user of this name stands in the file already".to_owned()),
        }
    }

    /// The hash of a user's password.
    pub(super) fn hash(&self, name: &str) -> Option<&Arc<str>> {
        self.users.get(name).map(|(hash, _)| hash)
    }

    /// A hash to spend the same time on for a name that there is not; always the same one for a `number`.
    pub(super) fn decoy(&self, number: u64) -> Option<&Arc<str>> {
        let count = u64::try_from(self.users.len()).ok()?;
        let at = usize::try_from(number.checked_rem(count)?).ok()?;
        self.users.values().nth(at).map(|(hash, _)| hash)
    }

    /// Whose key this is.
    pub(super) fn of_key(&self, key: &str) -> Option<&str> {
        if !key.starts_with(KEY_PREFIX) || !KEY_LENGTHS.contains(&key.len()) {
            return None;
        }
        let hash = digest(&SHA256, key.as_bytes());
        let hash = hash.as_ref();
        let places = self.hashes.get(&beginning(hash))?;
        let is_it = |(own, _): &&(Vec<u8>, String)| verify_slices_are_equal(own, hash).is_ok();
        places.iter().find(is_it).map(|(_, name)| name.as_str())
    }

    /// What the user, or the key, of a name has been given; `None`: there is none any more.
    pub(super) fn given(&self, sort: Sort, name: &str) -> Option<&Given> {
        match sort {
            Sort::User => self.users.get(name).map(|(_, given)| given),
            Sort::Key => self.keys.get(name).map(|(_, given)| given),
        }
    }

    /// Tells the password, or the key, of a name from the one that it had before; `None`: there is none any
    /// more.
    pub(super) fn fingerprint(&self, sort: Sort, name: &str) -> Option<Fingerprint> {
        match sort {
            Sort::User => self.hash(name).map(|hash| Fingerprint::of(hash.as_bytes())),
            Sort::Key => self.keys.get(name).map(|(hash, _)| Fingerprint::of(hash)),
        }
    }
}

impl Given {
    /// Roles and permissions, between commas or blanks. What has a colon is a permission.
    fn parse(text: &str) -> Result<Self, String> {
        let mut given = Self::default();
        let words = text.split([',', ' ', '\t']);
        for word in words.filter(|word| !word.is_empty()) {
            if word.contains(':') {
                read_permission(word).map_err(|problem| format!("{word:?}: {problem}"))?;
                given.permissions.push(word.to_owned());
            } else {
                given.roles.push(word.to_owned());
            }
        }
        match given.permissions.len() + given.roles.len() {
            count if count > MAX_PERMISSIONS => Err(format!(
                "expected at most {MAX_PERMISSIONS} roles and permissions"
            )),
            _ => Ok(given),
        }
    }
}

fn beginning(hash: &[u8]) -> [u8; 8] {
    hash.first_chunk().copied().unwrap_or_default()
}

fn cost_of(hash: &str) -> Option<u32> {
    // The one with the fault of an old PHP is not a hash to go on with.
    let parts = (!hash.starts_with("$2x$")).then(|| hash.parse::<bcrypt::HashParts>());
    parts?.ok().map(|parts| parts.get_cost())
}

fn of_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text
        .chars()
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[high, low]| u8::try_from(high * 16 + low).ok())
        .collect()
}

/// The line that the file has of a key.
pub fn line_of_key(name: &str, key: &str, given: &str) -> String {
    let hash = digest(&SHA256, key.as_bytes());
    let hex: String = hash
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{name}:{KEY_HASH}{hex}:{given}")
}

/// Whether a line could stand in the file.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_line(line: &str) -> Result<(), String> {
    Users::default().add(line)
}

/// What is wrong with the file of the settings.
pub fn problems(settings: &AuthSettings) -> Vec<String> {
    let file = settings.users_file.as_deref();
    file.and_then(|file| Users::read(file).err())
        .unwrap_or_default()
}

/// What is allowed in the file and seldom meant.
pub fn warnings(settings: &AuthSettings) -> Vec<String> {
    // One that cannot be read is an error, and not said here.
    let Some(users) = settings
        .users_file
        .as_deref()
        .and_then(|file| Users::read(file).ok())
    else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    let is_low = |hash: &str| cost_of(hash).is_some_and(|cost| cost < LOW_COST);
    if let Some((name, _)) = users.users.iter().find(|(_, (hash, _))| is_low(hash)) {
        warnings.push(format!(
            "auth.users_file: the password of {name:?} is hashed at a cost below {LOW_COST}, which is guessed soon where the file is stolen: take htpasswd -B -C 12, or tidegate user"
        ));
    }
    let of_users = users.users.iter().map(|(name, (_, given))| (name, given));
    let of_keys = users.keys.iter().map(|(name, (_, given))| (name, given));
    for (name, given) in of_users.chain(of_keys) {
        let unknown = |role: &&String| !settings.roles.contains_key(*role);
        if let Some(role) = given.roles.iter().find(unknown) {
            warnings.push(format!(
                "auth.users_file: {name:?} has the role {role:?}, which is not in auth.roles and gives nothing"
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$04$K2MZJBbXcGZ1dGlPUHBMLuYfPXQaSTJ7eVHr9cLXhLJBBLhEVNpyC";

    fn hash(password: &str) -> String {
        bcrypt::hash(password, 4).unwrap()
    }

    #[test]
    fn a_file_has_users_and_keys() {
        let key = format!("{KEY_PREFIX}{}", "k".repeat(43));
        let text = format!(
            "# people\n\nann:{}:clerk, consume:a:b produce:x\nbob:{}\n{}\n",
            hash("secret"),
            hash("other"),
            line_of_key("ann", &key, "clerk")
        );
        let users = Users::parse(&text).unwrap();
        let ann = users.given(Sort::User, "ann").unwrap();
        assert_eq!(ann.roles, ["clerk"]);
        assert_eq!(ann.permissions, ["consume:a:b", "produce:x"]);
        assert_eq!(users.given(Sort::User, "bob"), Some(&Given::default()));
        assert_eq!(users.given(Sort::User, "eve"), None);
        assert_eq!(users.of_key(&key), Some("ann"));
        assert!(users.of_key(&format!("{key}k")).is_none());
        assert!(users.of_key("tgk_").is_none());
        assert_eq!(users.given(Sort::Key, "ann").unwrap().roles, ["clerk"]);
        assert!(users.given(Sort::Key, "bob").is_none());
        for number in 0..5 {
            assert!(users.decoy(number).is_some());
        }
        assert!(Users::default().decoy(7).is_none());
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line_without_the_hash() {
        let good = hash("secret");
        let key = line_of_key("svc", "tgk_x", "");
        for (line, what) in [
            ("ann".to_owned(), "name:hash:roles"),
            (format!(":{good}"), "expected a name"),
            (format!("{}:{good}", "a".repeat(129)), "expected a name"),
            ("ann:secret".to_owned(), "$2y$"),
            ("ann:$apr1$x$y".to_owned(), "$2y$"),
            ("ann:$sha256$abc".to_owned(), "64 hexadecimal"),
            (format!("ann:{good}:fly:orders"), "fly:orders"),
            (format!("ann:{}", good.replacen("$04$", "$20$", 1)), "cost"),
            (format!("ann:{good}\nann:{good}"), "already"),
            (format!("{key}\n{key}"), "twice"),
        ] {
            let problems = Users::parse(&line).unwrap_err();
            assert_eq!(problems.len(), 1, "{line}");
            let (number, problem) = &problems[0];
            assert_eq!(*number, line.lines().count(), "{line}");
            assert!(problem.contains(what), "{line}: {problem}");
            assert!(!problem.contains(&good[10..]), "{problem}");
        }
        assert!(cost_of(&HASH.replacen("$2y$", "$2x$", 1)).is_none());
    }
}
