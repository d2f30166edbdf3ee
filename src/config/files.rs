//! Files that settings name: whether they can be read, which is judged at start, and shared secrets.
//! A relative path begins in the process's own directory.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// RFC 7518, section 3.2: the key of an HMAC is at least as long as its hash.
const SECRET_BYTES: usize = 32;

/// Far above any real secret: what is longer was named by mistake.
const MOST_SECRET_BYTES: u64 = 64 << 10;

/// Opens a file that holds something.
fn open(path: &Path) -> Result<File, String> {
    let refuse = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let about = std::fs::metadata(path).map_err(refuse)?;
    // To open a pipe could wait for ever, and these files are read more than once.
    if !about.is_file() {
        return Err(format!("{} is not a regular file", path.display()));
    }
    if about.len() == 0 {
        return Err(format!("{} is empty", path.display()));
    }
    File::open(path).map_err(refuse)
}

/// Checks that the file is there, holds something and may be read.
///
/// # Errors
/// Why it cannot be read, with its path.
pub(super) fn check(path: &Path) -> Result<(), String> {
    open(path).map(drop)
}

/// Reads a shared secret: the file's bytes without the line ends that editors add.
///
/// # Errors
/// The file cannot be read, or what it holds is too short or too long for a secret. The message has
/// the path and nothing of the contents.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, String> {
    let mut secret = Vec::new();
    open(path)?
        .take(MOST_SECRET_BYTES + 1)
        .read_to_end(&mut secret)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    if secret.len() as u64 > MOST_SECRET_BYTES {
        return Err(format!(
            "{} has more than {MOST_SECRET_BYTES} bytes: expected a secret",
            path.display()
        ));
    }
    while let Some(b'\n' | b'\r') = secret.last() {
        secret.pop();
    }
    if secret.len() < SECRET_BYTES {
        return Err(format!(
            "{} has {} bytes: expected a secret of at least {SECRET_BYTES}, such as `openssl rand -hex 32` prints",
            path.display(),
            secret.len()
        ));
    }
    Ok(secret)
}
