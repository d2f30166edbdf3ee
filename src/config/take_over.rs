//! What of settings that were read again holds at once, and what only a restart brings.

use super::schema::{KEYS, ValueKind};
use super::{AuthSettings, IssuerSettings, KeySource, Properties, Settings};

impl Settings {
    /// Takes over from `new` what may change while the gateway runs: roles, users, the key of tickets, and keys
    /// and `permissions_allowed` of issuers. Returns the paths of the settings that differ besides, which
    /// stay as they were.
    pub fn take_over(&mut self, new: &Self) -> Vec<String> {
        take_over_auth(&mut self.auth, &new.auth);
        differing(self, new)
    }
}

fn take_over_auth(own: &mut AuthSettings, new: &AuthSettings) {
    own.roles.clone_from(&new.roles);
    // A random key has no file to be read from, so it neither comes nor goes.
    if own.ticket_key_file.is_some() && new.ticket_key_file.is_some() {
        own.ticket_key_file.clone_from(&new.ticket_key_file);
    }
    // What is offered to clients is said once.
    if own.users_file.is_some() && new.users_file.is_some() {
        own.users_file.clone_from(&new.users_file);
    }
    let same_issuers = own.issuers.len() == new.issuers.len()
        && own.issuers.iter().zip(&new.issuers).all(may_become);
    if same_issuers {
        own.issuers.clone_from(&new.issuers);
    }
}

/// Whether an issuer is the same but for what may change.
fn may_become((own, new): (&IssuerSettings, &IssuerSettings)) -> bool {
    let keys = match (&own.keys, &new.keys) {
        (
            KeySource::SecretFile(_) | KeySource::KeyFile(_),
            KeySource::SecretFile(_) | KeySource::KeyFile(_),
        ) => true,
        (own, new) => own == new,
    };
    let changed = IssuerSettings {
        keys: new.keys.clone(),
        permissions_allowed: new.permissions_allowed.clone(),
        ..own.clone()
    };
    keys && changed == *new
}

/// The paths of the settings that are not the same in both. Values may be secrets and are not told.
fn differing(own: &Settings, new: &Settings) -> Vec<String> {
    let (mut own, mut new) = (own.clone(), new.clone());
    let mut paths = Vec::new();
    for key in KEYS {
        match &key.kind {
            ValueKind::Properties(place) => {
                let (own, new) = (place(&mut own), place(&mut new));
                paths.extend(
                    names_of_differing(own, new).map(|name| format!("{}.{name}", key.path)),
                );
            }
            ValueKind::Roles(place) => {
                if place(&mut own) != place(&mut new) {
                    paths.push(key.path.to_owned());
                }
            }
            kind => {
                if kind.to_toml(&mut own) != kind.to_toml(&mut new) {
                    paths.push(key.path.to_owned());
                }
            }
        }
    }
    paths
}

fn names_of_differing<'a>(
    own: &'a Properties,
    new: &'a Properties,
) -> impl Iterator<Item = &'a str> {
    let changed = own
        .iter()
        .filter(|(name, value)| new.get(*name) != Some(*value));
    let added = new.iter().filter(|(name, _)| own.get(*name).is_none());
    changed.chain(added).map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::read_text;
    use super::*;

    fn settings(text: &str) -> Settings {
        let reading = read_text(Path::new("tidegate.toml"), text);
        assert!(reading.errors.is_empty(), "{:?}", reading.errors);
        reading.loaded.settings
    }

    const BEFORE: &str = r#"
[auth]
mode = "jwt"
ticket_key_file = "ticket"
users_file = "users"
[[auth.issuers]]
issuer = "https://a"
secret_file = "a"
[[auth.issuers]]
issuer = "https://b"
jwks_url = "https://b/keys"
[auth.roles]
reader = ["consume:*"]
[kafka]
bootstrap_servers = "a:1"
[kafka.properties]
"sasl.password" = "old"
"#;

    fn after(changes: &[(&str, &str)]) -> (Settings, Settings, Vec<String>) {
        let mut own = settings(BEFORE);
        let text = changes
            .iter()
            .fold(BEFORE.to_owned(), |text, (from, to)| text.replace(from, to));
        let new = settings(&text);
        let restart = own.take_over(&new);
        (own, new, restart)
    }

    #[test]
    fn roles_keys_and_ceilings_are_taken_over() {
        for change in [
            ("consume:*", "produce:*"),
            ("reader = ", "writer = "),
            ("secret_file = \"a\"", "secret_file = \"c\""),
            ("\"ticket\"", "\"other\""),
            ("\"users\"", "\"people\""),
            (
                "jwks_url",
                "permissions_allowed = [\"consume:a\"]\njwks_url",
            ),
        ] {
            let (own, new, restart) = after(&[change]);
            assert_eq!(restart, [""; 0], "{change:?}");
            assert_eq!(own, new, "{change:?}");
            assert_ne!(own, settings(BEFORE), "{change:?}");
        }
    }

    #[test]
    fn a_setting_that_needs_a_restart_is_named_and_keeps_its_value() {
        for (change, path) in [
            ("https://b/keys", "auth.issuers"),
            ("https://a", "auth.issuers"),
            ("a:1", "kafka.bootstrap_servers"),
            ("\"old\"", "kafka.properties.sasl.password"),
            ("mode = \"jwt\"", "auth.mode"),
            ("ticket_key_file = \"ticket\"", "auth.ticket_key_file"),
        ] {
            let to = match change {
                "https://b/keys" | "https://a" => "https://c",
                "a:1" => "b:1",
                "\"old\"" => "\"new\"",
                _ => "",
            };
            let (own, _, restart) = after(&[(change, to), ("consume:*", "consume:a")]);
            assert_eq!(restart, [path], "{change}");
            assert_eq!(own.auth.roles["reader"], ["consume:a"], "{change}");
            let before = settings(BEFORE);
            assert_eq!(own.kafka, before.kafka);
            assert_eq!(own.auth.issuers, before.auth.issuers);
        }
    }
}
