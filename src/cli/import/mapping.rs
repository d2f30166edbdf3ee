//! The mapping of names, what becomes of each: the rows of the products' tables. docs/compatibility.md
//! prints them.

use super::Entry;
use super::output::{Draft, Value};

/// What becomes of one name, or of all that begin alike (then it ends in `*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// The value as it is, under this key.
    To(&'static str),
    /// Read by code; what it comes to, for people.
    Made(&'static str),
    /// Not carried over, for this reason.
    Not(&'static str),
}

/// The rows of one product.
pub(super) type Rules = &'static [(&'static str, Rule)];

/// The rule for a name; the exact one before the one by its beginning.
pub(super) fn find(rules: Rules, name: &str) -> Option<Rule> {
    let exact = rules.iter().find(|(known, _)| *known == name);
    let begins = |known: &str| known.strip_suffix('*').is_some_and(|b| name.starts_with(b));
    let found = exact.or_else(|| rules.iter().find(|(known, _)| begins(known)));
    found.map(|(_, rule)| *rule)
}

/// Follows the rules that need no code. Returns what code has to read.
pub(super) fn follow(
    draft: &mut Draft,
    rules: Rules,
    entries: &[Entry],
    product: &str,
) -> Vec<Entry> {
    let mut made = Vec::new();
    for entry in entries {
        match find(rules, &entry.name) {
            Some(Rule::To(path)) => draft.set(path, Value::guessed(entry.value.trim()), entry),
            Some(Rule::Not(reason)) => draft.leave(entry, reason),
            Some(Rule::Made(_)) => made.push(entry.clone()),
            None => draft.leave(
                entry,
                format!("it is not known as a setting of {product}, and nothing here is like it"),
            ),
        }
    }
    made
}

/// The entry of this name.
pub(super) fn entry<'a>(entries: &'a [Entry], name: &str) -> Option<&'a Entry> {
    entries.iter().find(|entry| entry.name == name)
}

/// Its value, if it is there and not empty.
pub(super) fn value<'a>(entries: &'a [Entry], name: &str) -> Option<&'a str> {
    let value = entry(entries, name)?.value.trim();
    (!value.is_empty()).then_some(value)
}

/// Whether a switch is on, as Java and Python read one.
pub(super) fn is_on(entries: &[Entry], name: &str) -> Option<bool> {
    let value = value(entries, name)?;
    Some(value.eq_ignore_ascii_case("true"))
}

/// A list with commas.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}
