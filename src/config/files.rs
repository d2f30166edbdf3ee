//! Files that settings name: whether they can be read, which is judged at start, and shared secrets.
//! A relative path begins in the process's own directory.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use secrecy::SecretSlice;

/// RFC 7518, section 3.2: the key of an HMAC is at least as long as its hash.
const SECRET_BYTES: usize = 32;

/// Far above any real secret: what is longer was named by mistake.
const MOST_SECRET_BYTES: u64 = 64 << 10;

fn open(path: &Path) -> Result<File, String> {
    let refuse = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    // To open a pipe could wait for ever, and these files are read more than once.
    if !std::fs::metadata(path).map_err(refuse)?.is_file() {
        return Err(format!("{} is not a regular file", path.display()));
    }
    File::open(path).map_err(refuse)
}

/// Reads a file whole.
///
/// # Errors
/// It cannot be read, is no regular file, or has more than `most` bytes. The message has the path
/// and nothing of the contents.
pub fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    open(path)?
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    if bytes.len() as u64 > most {
        return Err(format!("{} has more than {most} bytes", path.display()));
    }
    Ok(bytes)
}

/// Checks that the file is there, holds something and may be read.
///
/// # Errors
/// Why it cannot be read, with its path.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let about = open(path)?.metadata();
    match about.is_ok_and(|about| about.len() == 0) {
        true => Err(format!("{} is empty", path.display())),
        false => Ok(()),
    }
}

/// Checks that a file that is to be written to could be there, without making it.
///
/// # Errors
/// It is something else than a file, or has no folder to be in.
pub(super) fn check_appendable(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(about) if about.is_file() => Ok(()),
        Ok(_) => Err(format!("{} is not a regular file", path.display())),
        Err(_) => {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            match folder.is_none_or(Path::is_dir) {
                true => Ok(()),
                false => Err(format!("there is no folder for {}", path.display())),
            }
        }
    }
}

/// Reads a shared secret: the file's bytes without the line ends that editors add.
///
/// # Errors
/// The file cannot be read, or what it holds is too short or too long for a secret. The message has
/// the path and nothing of the contents.
pub fn read_secret(path: &Path) -> Result<SecretSlice<u8>, String> {
    check(path)?;
    // After the check only its size is left to be wrong.
    let mut secret = read_file(path, MOST_SECRET_BYTES)
        .map_err(|problem| format!("{problem}: expected a secret"))?;
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
    Ok(secret.into())
}
