//! What a node of Kafka is run with: the jars, the class path, and the archive of its loaded classes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::Broker;

/// The folder with Kafka's jars: the one that `./test` names, else the cache, filled if it must be.
fn libs() -> &'static Path {
    static LIBS: OnceLock<PathBuf> = OnceLock::new();
    LIBS.get_or_init(|| {
        if let Some(libs) = std::env::var_os("TIDEGATE_KAFKA_LIBS") {
            return libs.into();
        }
        let fetch = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/kafka/fetch");
        let output = Command::new(fetch).output().expect("bash runs");
        assert!(
            output.status.success(),
            "no Kafka to test against: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim_end().into()
    })
}

/// The jars one by one and sorted: the class archive is used only with the class path it was
/// made with, and a `*` takes the order of the folder.
pub(super) fn class_path() -> &'static str {
    static CLASS_PATH: OnceLock<String> = OnceLock::new();
    CLASS_PATH.get_or_init(|| {
        let entries = std::fs::read_dir(libs()).expect("the folder with Kafka's jars");
        let mut jars: Vec<String> = entries
            .map(|entry| entry.unwrap().path().display().to_string())
            .filter(|path| path.ends_with(".jar"))
            .collect();
        jars.sort();
        jars.join(":")
    })
}

/// The archive of Kafka's loaded classes, which halves the time to start; made by the first start
/// on a machine, kept beside the jars, and belonging to one Java version. `None` if this Java
/// makes none: everything works without it.
pub(super) fn class_archive() -> Option<&'static Path> {
    static ARCHIVE: OnceLock<Option<PathBuf>> = OnceLock::new();
    ARCHIVE
        .get_or_init(|| {
            let folder = libs().parent()?;
            let archive = folder.join(format!("classes-{}.jsa", java_version()));
            if archive.exists() {
                return Some(archive);
            }
            // Several test processes may each make one; every one of them is whole when it gets
            // the name, and any of them will do.
            let part = folder.join(format!("classes-{}.part", std::process::id()));
            let flag = format!("-XX:ArchiveClassesAtExit={}", part.display());
            let broker = Broker::builder().start_blocking(&[flag]);
            broker.nodes.iter().for_each(|node| node.stop_blocking());
            std::fs::rename(&part, &archive).ok().map(|()| archive)
        })
        .as_deref()
}

fn java_version() -> String {
    let output = Command::new("java")
        .arg("-version")
        .output()
        .expect("Java is needed to run Kafka");
    // openjdk version "17.0.15" 2025-04-15
    let text = String::from_utf8_lossy(&output.stderr);
    text.split('"').nth(1).unwrap_or("unknown").to_owned()
}
