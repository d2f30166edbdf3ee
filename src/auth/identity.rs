//! Who a principal is: by what it is known, whose word that is, and the name it has there.
//!
//! Two issuers may give the same subject to different people, and a certificate may carry a name that a
//! token has, too. So whatever belongs to a principal (consumer instances, kept answers, rates, places,
//! a session) belongs to an [`Identity`], all three parts of it. Issuers and certificates are of the
//! same people only where the settings say so by a name: their realm.

use std::fmt;

use serde::{Deserialize, Serialize};

/// By what a principal is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// By nothing: `auth.mode` is `none`, or the route is open.
    Anonymous,
    /// By a token.
    Token,
    /// By a client certificate.
    Certificate,
    /// By a password of `auth.users_file`.
    User,
    /// By an API key of `auth.users_file`.
    Key,
    /// By any of what has this realm in the settings.
    Realm,
}

impl Kind {
    /// The kind as the audit log has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::User => "user",
            Self::Key => "key",
            Self::Realm => "realm",
        }
    }
}

/// Who a principal is. Two are the same exactly when all of it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    kind: Kind,
    issuer: String,
    subject: String,
}

impl Identity {
    /// Everyone.
    pub fn anonymous() -> Self {
        Self {
            kind: Kind::Anonymous,
            issuer: String::new(),
            subject: "anonymous".to_owned(),
        }
    }

    /// The subject of a token of this issuer.
    pub fn of_token(issuer: &str, subject: String) -> Self {
        Self {
            kind: Kind::Token,
            issuer: issuer.to_owned(),
            subject,
        }
    }

    /// The subject of a certificate of this authority.
    pub fn of_certificate(issuer: &str, subject: &str) -> Self {
        Self {
            kind: Kind::Certificate,
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
        }
    }

    /// A name with a password.
    pub fn of_user(name: &str) -> Self {
        Self {
            kind: Kind::User,
            issuer: "users".to_owned(),
            subject: name.to_owned(),
        }
    }

    /// The name of an API key.
    pub fn of_key(name: &str) -> Self {
        Self {
            kind: Kind::Key,
            issuer: "keys".to_owned(),
            subject: name.to_owned(),
        }
    }

    /// The same subject in a realm, where the settings name one.
    #[must_use]
    pub fn in_realm(self, realm: Option<&str>) -> Self {
        match realm {
            None => self,
            Some(realm) => Self {
                kind: Kind::Realm,
                issuer: realm.to_owned(),
                subject: self.subject,
            },
        }
    }

    /// By what it is known.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whose word it is: the issuer of the token or of the certificate, the realm, or `users` and `keys` of
    /// the file. Empty for everyone.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The name that it has there.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_subject_elsewhere_is_somebody_else() {
        let ann = |issuer| Identity::of_token(issuer, "ann".to_owned());
        assert_eq!(ann("a"), ann("a"));
        assert_ne!(ann("a"), ann("b"));
        assert_ne!(ann("a"), Identity::of_certificate("a", "ann"));
        assert_ne!(ann("users"), Identity::of_user("ann"));
        assert_ne!(Identity::of_key("ann"), Identity::of_user("ann"));
        assert_ne!(
            Identity::of_token("", "anonymous".to_owned()),
            Identity::anonymous()
        );
    }

    #[test]
    fn the_same_name_in_one_realm_is_one_identity_whoever_issued_it() {
        let token = |realm| Identity::of_token("a", "ann".to_owned()).in_realm(realm);
        let certificate = |realm| Identity::of_certificate("b", "ann").in_realm(realm);
        assert_eq!(token(Some("staff")), certificate(Some("staff")));
        assert_ne!(token(Some("staff")), certificate(Some("guests")));
        assert_ne!(token(Some("staff")), token(None));
        // A realm's name may be an issuer's, too.
        assert_ne!(token(Some("a")), token(None));
    }
}
