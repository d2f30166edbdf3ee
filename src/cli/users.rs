//! `tidegate user` and `tidegate key`: lines for `auth.users_file`.

use std::io::BufRead;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;

use crate::auth::users::{KEY_PREFIX, check_line, line_of_key};

/// What `htpasswd -C 12` takes: a quarter of a second on a machine of today.
const COST: u32 = 12;
/// Far above any password.
const MOST_INPUT_BYTES: u64 = 4096;

/// A user with a password.
#[derive(Debug, Args)]
pub(super) struct UserArgs {
    #[command(flatten)]
    who: WhoArgs,
}

/// An API key.
#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    #[command(flatten)]
    who: WhoArgs,
}

#[derive(Debug, Args)]
struct WhoArgs {
    /// The name, which is the principal's
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Roles of auth.roles and permissions, as in "clerk,consume:reports"
    #[arg(long, value_name = "LIST", default_value = "")]
    roles: String,
}

/// A new API key.
pub(super) struct MadeKey {
    pub(super) key: String,
    pub(super) line: String,
}

impl UserArgs {
    /// The line of the user with the password that is the first line of `input`.
    pub(super) fn line(&self, input: impl BufRead) -> Result<String, String> {
        self.who.check()?;
        let mut password = String::new();
        input
            .take(MOST_INPUT_BYTES)
            .read_line(&mut password)
            .map_err(|error| format!("standard input cannot be read: {error}"))?;
        let password = password.trim_end_matches(['\n', '\r']);
        if password.is_empty() {
            return Err("expected a password on standard input".to_owned());
        }
        if password.contains('\0') {
            return Err("expected a password without a zero byte".to_owned());
        }
        let hash = bcrypt::non_truncating_hash(password, COST)
            .map_err(|_| "expected a password of at most 71 bytes".to_owned())?;
        let line = format!("{}:{hash}:{}", self.who.name, self.who.roles);
        check_line(&line)?;
        Ok(line)
    }
}

impl KeyArgs {
    /// A random key and its line.
    pub(super) fn make(&self) -> Result<MadeKey, String> {
        self.who.check()?;
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| format!("the system has no random numbers: {error}"))?;
        let key = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        let line = line_of_key(&self.who.name, &key, &self.who.roles);
        check_line(&line)?;
        Ok(MadeKey { key, line })
    }
}

impl WhoArgs {
    /// Whether a line could be made of it.
    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if name.contains([':', '\n', '\r']) || name.trim() != name || name.starts_with('#') {
            return Err(
                "--name: expected one without colons, line ends, blanks around it and # before it"
                    .to_owned(),
            );
        }
        match self.roles.contains(['\n', '\r']) {
            true => Err("--roles: expected one line".to_owned()),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str, roles: &str) -> WhoArgs {
        WhoArgs {
            name: name.to_owned(),
            roles: roles.to_owned(),
        }
    }

    #[test]
    fn lines_are_those_that_the_file_takes() {
        let user = |name, roles, input: &str| {
            let args = UserArgs {
                who: who(name, roles),
            };
            args.line(input.as_bytes())
        };
        let line = user("ann", "clerk,consume:a", "secret\n").unwrap();
        assert!(line.starts_with("ann:$2b$12$"), "{line}");
        assert!(line.ends_with(":clerk,consume:a"), "{line}");
        for (name, roles, input) in [
            ("ann", "", ""),
            ("ann", "", "\n"),
            ("a:b", "", "secret"),
            ("#ann", "", "secret"),
            ("ann", "fly:a", "secret"),
            ("ann", "a\nroot", "secret"),
        ] {
            user(name, roles, input).expect_err(name);
        }
        user("ann", "", &"x".repeat(80)).expect_err("a long one");
        let args = KeyArgs {
            who: who("svc", "clerk"),
        };
        let (one, two) = (args.make().unwrap(), args.make().unwrap());
        assert!(
            one.key.starts_with(KEY_PREFIX) && one.key.len() == 47,
            "{}",
            one.key
        );
        assert_ne!(one.key, two.key);
        assert!(!one.line.contains(&one.key));
        assert!(one.line.starts_with("svc:$sha256$") && one.line.ends_with(":clerk"));
    }
}
