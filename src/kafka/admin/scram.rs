//! Users who log in at the brokers by SCRAM: by which mechanisms, and new passwords for them. Kafka gets a hash of a
//! password, made here, and tells nobody even that.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use aws_lc_rs::pbkdf2;
use krafka::admin::{
    AlterUserScramCredentialsOptions, DescribeUserScramCredentialsOptions, ScramCredentialDeletion,
    ScramCredentialInfo, ScramCredentialUpsertion,
};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::{Admin, bounded};
use crate::kafka::fault::{Fault, FaultKind};

/// Bytes of the random salt.
const SALT: usize = 32;

/// How a password is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ScramMechanism {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl ScramMechanism {
    /// All that Kafka has.
    pub(crate) const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// Its name in SASL.
    pub(crate) fn name(self) -> &'static str {
        self.to_krafka().mechanism_name()
    }

    /// The one of this name, in whatever case.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|one| one.name().eq_ignore_ascii_case(name))
    }

    fn to_krafka(self) -> krafka::auth::ScramMechanism {
        match self {
            Self::Sha256 => krafka::auth::ScramMechanism::Sha256,
            Self::Sha512 => krafka::auth::ScramMechanism::Sha512,
        }
    }

    fn salted(self, password: &str, salt: &[u8], iterations: NonZeroU32) -> Zeroizing<Vec<u8>> {
        let (algorithm, length) = match self {
            Self::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, 32),
            Self::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, 64),
        };
        let mut salted = Zeroizing::new(vec![0; length]);
        pbkdf2::derive(
            algorithm,
            iterations,
            salt,
            password.as_bytes(),
            &mut salted,
        );
        salted
    }
}

/// A mechanism by which a user can log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ScramCredential {
    pub(crate) mechanism: ScramMechanism,
    /// How often the password is hashed.
    pub(crate) iterations: i32,
}

/// A password that a user gets. Its `Debug` does not show it.
#[derive(Debug, Clone)]
pub(crate) struct NewScramPassword {
    pub(crate) mechanism: ScramMechanism,
    pub(crate) password: SecretString,
    pub(crate) iterations: NonZeroU32,
}

fn from_krafka(infos: Vec<ScramCredentialInfo>) -> Vec<ScramCredential> {
    let credential = |info: ScramCredentialInfo| {
        let mut all = ScramMechanism::ALL.into_iter();
        let mechanism = all.find(|one| one.to_krafka() == info.mechanism)?;
        Some(ScramCredential {
            mechanism,
            iterations: info.iterations,
        })
    };
    let mut all: Vec<ScramCredential> = infos.into_iter().filter_map(credential).collect();
    all.sort_unstable();
    all
}

impl Admin {
    /// The users who can log in by SCRAM, and how.
    ///
    /// # Errors
    ///
    /// `NotAuthorized`, `Unsupported` (the embedded broker), and whatever kept the brokers from answering.
    pub(crate) async fn scram_users(
        &self,
        bound: Duration,
    ) -> Result<BTreeMap<String, Vec<ScramCredential>>, Fault> {
        self.some_scram_users(None, bound).await
    }

    /// How one user can log in by SCRAM.
    ///
    /// # Errors
    ///
    /// The same, and `NotFound`.
    pub(crate) async fn scram_user(
        &self,
        user: &str,
        bound: Duration,
    ) -> Result<Vec<ScramCredential>, Fault> {
        let mut found = self.some_scram_users(Some(user), bound).await?;
        found
            .remove(user)
            .filter(|credentials| !credentials.is_empty())
            .ok_or_else(|| no_such_user(user))
    }

    async fn some_scram_users(
        &self,
        user: Option<&str>,
        bound: Duration,
    ) -> Result<BTreeMap<String, Vec<ScramCredential>>, Fault> {
        let link = self.link(bound).await?;
        let ask = |left| {
            let options = DescribeUserScramCredentialsOptions::default().timeout(left);
            let users = user.map(|user| vec![user.to_owned()]);
            link.client.describe_user_scram_credentials(users, options)
        };
        let mut all = BTreeMap::new();
        for (name, infos) in link.any_broker(bound, ask).await? {
            match infos.map_err(Fault::from) {
                Ok(infos) => {
                    all.insert(name, from_krafka(infos));
                }
                // It was deleted a moment ago, or is not there.
                Err(fault) if fault.kind == FaultKind::NotFound => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(all)
    }

    /// Gives a user a password for one mechanism, in the place of one that there is.
    ///
    /// # Errors
    ///
    /// `Invalid` (such a name or number of iterations), `NotAuthorized`, `Unsupported` (the embedded broker), and
    /// whatever kept the controller from answering.
    pub(crate) async fn set_scram_password(
        &self,
        user: &str,
        new: NewScramPassword,
        bound: Duration,
    ) -> Result<(), Fault> {
        let (mechanism, iterations) = (new.mechanism.to_krafka(), new.iterations);
        let mut salt = Zeroizing::new(vec![0; SALT]);
        getrandom::fill(&mut salt).map_err(|error| {
            let message = format!("The system has no random numbers: {error}");
            Fault::new(FaultKind::Other, message)
        })?;
        // Hashing takes some milliseconds by design.
        let hashed = tokio::task::spawn_blocking(move || {
            let password = new.password.expose_secret();
            let salted = new.mechanism.salted(password, &salt, new.iterations);
            (salt, salted)
        });
        let (salt, salted_password) = hashed.await.map_err(|_| {
            let message = "The password could not be hashed: the gateway is stopping.";
            Fault::new(FaultKind::Unavailable, message)
        })?;
        let upsertion = ScramCredentialUpsertion {
            name: user.to_owned(),
            mechanism,
            iterations: i32::try_from(iterations.get()).unwrap_or(i32::MAX),
            salt,
            salted_password,
        };
        self.alter_scram_user(user, Vec::new(), vec![upsertion], bound)
            .await
    }

    /// Takes away a user's password for one mechanism.
    ///
    /// # Errors
    ///
    /// `NotFound`, and the same otherwise.
    pub(crate) async fn delete_scram_password(
        &self,
        user: &str,
        mechanism: ScramMechanism,
        bound: Duration,
    ) -> Result<(), Fault> {
        let deletion = ScramCredentialDeletion {
            name: user.to_owned(),
            mechanism: mechanism.to_krafka(),
        };
        self.alter_scram_user(user, vec![deletion], Vec::new(), bound)
            .await
    }

    async fn alter_scram_user(
        &self,
        user: &str,
        deletions: Vec<ScramCredentialDeletion>,
        upsertions: Vec<ScramCredentialUpsertion>,
        bound: Duration,
    ) -> Result<(), Fault> {
        let options = AlterUserScramCredentialsOptions::default().timeout(bound);
        let client = &self.link(bound).await?.client;
        let call = client.alter_user_scram_credentials(deletions, upsertions, options);
        match bounded(bound, call).await?.remove(user) {
            Some(answer) => answer.map_err(Fault::from),
            None => Err(Fault::new(
                FaultKind::Unavailable,
                "The broker's answer does not mention the user.",
            )),
        }
    }
}

fn no_such_user(user: &str) -> Fault {
    Fault {
        kafka_error: Some("RESOURCE_NOT_FOUND"),
        ..Fault::new(
            FaultKind::NotFound,
            format!("User {user} has no password for SCRAM."),
        )
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn passwords_are_salted_as_scram_has_it() {
        // The exchange of RFC 7677, section 3: its proof follows from this salted password.
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let iterations = NonZeroU32::new(4096).unwrap();
        let salted = ScramMechanism::Sha256.salted("pencil", &salt, iterations);
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &salted);
        let client_key = aws_lc_rs::hmac::sign(&key, b"Client Key");
        let stored = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, client_key.as_ref());
        let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
             r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
             c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, stored.as_ref());
        let signature = aws_lc_rs::hmac::sign(&key, message.as_bytes());
        let pairs = client_key.as_ref().iter().zip(signature.as_ref());
        let proof: Vec<u8> = pairs.map(|(a, b)| a ^ b).collect();
        let expected = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(STANDARD.encode(proof), expected);
        let long = ScramMechanism::Sha512.salted("pencil", &salt, iterations);
        assert_eq!(hex(&long).len(), 128);
    }

    #[test]
    fn a_password_is_not_shown() {
        let new = NewScramPassword {
            mechanism: ScramMechanism::Sha512,
            password: "sesame".into(),
            iterations: NonZeroU32::MIN,
        };
        assert!(!format!("{new:?}").contains("sesame"));
    }

    #[test]
    fn mechanisms_have_the_names_of_sasl() {
        assert_eq!(ScramMechanism::Sha512.name(), "SCRAM-SHA-512");
        let found = ScramMechanism::of_name("scram-sha-256");
        assert_eq!(found, Some(ScramMechanism::Sha256));
        assert_eq!(ScramMechanism::of_name("PLAIN"), None);
    }
}
