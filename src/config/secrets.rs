//! Which secrets are not as secret as they should be: files that others on the machine can read, and
//! secrets that can be guessed.

use std::path::Path;

use secrecy::ExposeSecret;

use super::AuthMode;
use super::KeySource;
use super::files::read_secret;
use super::load::{Loaded, Source};
use super::show::is_secret_property;

/// A secret of fewer bits than this is said to be one that can be guessed. Sixteen random bytes in hex
/// are estimated as some 110.
const BITS: f64 = 90.0;

/// A line for each file that others can read, and for each secret that can be guessed.
pub(super) fn warnings(loaded: &Loaded) -> Vec<String> {
    let settings = &loaded.settings;
    let auth = &settings.auth;
    let mut files: Vec<(String, &Path)> = Vec::new();
    let mut secrets: Vec<(String, &Path)> = Vec::new();
    if let Some(path) = &settings.tls.key {
        files.push(("tls.key".to_owned(), path));
    }
    if let Some(path) = &auth.users_file {
        files.push(("auth.users_file".to_owned(), path));
    }
    if let Some(path) = &auth.ticket_key_file {
        secrets.push(("auth.ticket_key_file".to_owned(), path));
    }
    if auth.mode == AuthMode::Jwt {
        for (index, issuer) in auth.issuers.iter().enumerate() {
            if let KeySource::SecretFile(path) = &issuer.keys {
                secrets.push((format!("auth.issuers[{index}].secret_file"), path));
            }
        }
    }
    for (table, properties) in settings.kafka.property_tables() {
        for (name, value) in properties.iter() {
            if name == "ssl.key.location" {
                files.push((format!("{table}.{name}"), Path::new(value)));
            }
            // The settings file has a secret in it.
            let path = format!("{table}.{name}");
            if is_secret_property(name)
                && let Source::File { path: file, .. } = loaded.source(&path)
                && !files.iter().any(|(_, known)| known == file)
            {
                files.push((path, file));
            }
        }
    }
    files.extend(secrets.iter().map(|(key, path)| (key.clone(), *path)));
    let readable = files.iter().filter(|(_, path)| is_readable_by_others(path));
    let mut warnings: Vec<String> = readable
        .map(|(key, path)| {
            format!(
                "{key}: every user of the machine can read {}: take that right away (chmod o-r)",
                path.display()
            )
        })
        .collect();
    // One that cannot be read is an error, and not said here.
    let guessed = secrets.iter().filter(|(_, path)| {
        read_secret(path).is_ok_and(|secret| bits(secret.expose_secret()) < BITS)
    });
    warnings.extend(guessed.map(|(key, path)| {
        format!(
            "{key}: the secret in {} can be guessed, as it repeats itself or has few different characters: take a random one, such as `openssl rand -hex 32` prints",
            path.display()
        )
    }));
    warnings
}

#[cfg(unix)]
fn is_readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    const OTHERS_READ: u32 = 0o004;
    std::fs::metadata(path).is_ok_and(|about| about.permissions().mode() & OTHERS_READ != 0)
}

#[cfg(not(unix))]
fn is_readable_by_others(_path: &Path) -> bool {
    false
}

/// About how many bits of chance there are in a secret, from above: no random one is estimated as less
/// than it has by much, and one that repeats itself, or counts up, as what it has in one turn.
fn bits(secret: &[u8]) -> f64 {
    let steps: Vec<u8> = secret
        .iter()
        .zip(secret.iter().skip(1))
        .map(|(one, next)| next.wrapping_sub(*one))
        .collect();
    entropy(one_turn(secret)).min(entropy(one_turn(&steps)))
}

/// The shortest beginning of which the whole is a repetition.
fn one_turn(bytes: &[u8]) -> &[u8] {
    let repeats = |length: &usize| {
        let (first, later) = (bytes.iter(), bytes.iter().skip(*length));
        first.zip(later).all(|(one, other)| one == other)
    };
    let length = (1..bytes.len()).find(repeats).unwrap_or(bytes.len());
    &bytes[..length]
}

/// Shannon's entropy of the bytes, all of them together.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    // A secret has 64 KiB at most.
    let all = f64::from(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    let of = |count: u32| f64::from(count) * (all / f64::from(count)).log2();
    counts.into_iter().filter(|count| *count > 0).map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_without_chance_is_told_from_a_random_one() {
        for poor in [
            "00000000000000000000000000000000".to_owned(),
            "changeme".repeat(5),
            "0123456789abcdef".repeat(4),
            "abcdefghijklmnopqrstuvwxyz012345".to_owned(),
            format!("{}!", "secret".repeat(6)),
        ] {
            assert!(
                bits(poor.as_bytes()) < BITS,
                "{poor}: {}",
                bits(poor.as_bytes())
            );
        }
        for good in [
            // openssl rand -hex 16, -hex 32 and -base64 32
            "9f86d081884c7d659a2feaa0c55ad015",
            "3c6e0b8a9c15224a8228b9a98ca1531d1e47c6d29c7b5a04e1f2ab8a6e3d9b70",
            "q8Zr0u1X9m3VYtPzv6JwKcB5nA2sLhD4eFgTiRoUxWk=",
        ] {
            assert!(
                bits(good.as_bytes()) > BITS,
                "{good}: {}",
                bits(good.as_bytes())
            );
        }
    }
}
