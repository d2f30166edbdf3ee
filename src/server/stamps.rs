//! What tells one state of files from another without reading them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The state of some files. The time of the last change of the inode is among it, because tools that
/// install files may keep the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

type Stamp = (u64, u64, u64, [i64; 4]);

impl Stamps {
    /// How the files are now. One that is not there is a state, too.
    pub(crate) fn now<'a>(files: impl IntoIterator<Item = &'a Path>) -> Self {
        let stamp = |path: &Path| {
            let about = fs::metadata(path).ok()?;
            let times = [
                about.mtime(),
                about.mtime_nsec(),
                about.ctime(),
                about.ctime_nsec(),
            ];
            Some((about.dev(), about.ino(), about.len(), times))
        };
        let files = files.into_iter();
        Self(files.map(|path| (path.to_owned(), stamp(path))).collect())
    }

    /// The same with other files beside them.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}
