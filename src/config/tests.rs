//! Tests of the settings, by what they are about, and the shorthands they share. None of them touches
//! the process's own environment or directory.

mod browsers;
mod layers;
mod reference;
mod rules;
mod schemas;
mod show;
mod tokens;
mod values;

use std::path::Path;

use super::{ConfigError, Inputs, Loaded, read};

/// Inputs whose relative paths lead nowhere.
fn nothing() -> Inputs {
    Inputs {
        cwd: "no-such-folder".into(),
        ..Inputs::default()
    }
}

fn with_set(set: &[&str]) -> Inputs {
    Inputs {
        set: set.iter().map(|text| (*text).to_owned()).collect(),
        ..nothing()
    }
}

fn with_env(env: &[(&str, &str)]) -> Inputs {
    let pair = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
    Inputs {
        env: env.iter().map(pair).collect(),
        ..nothing()
    }
}

/// A folder whose `tidegate.toml` has this text.
fn folder_with(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("tidegate.toml"), text).expect("the file is written");
    folder
}

fn in_folder(cwd: &Path) -> Inputs {
    Inputs {
        cwd: cwd.to_owned(),
        ..Inputs::default()
    }
}

fn load_text(text: &str) -> Result<Loaded, Vec<String>> {
    let folder = folder_with(text);
    load_lines(&in_folder(folder.path()))
}

/// Loads as a build with the embedded broker does, whatever this build has.
fn load_lines(inputs: &Inputs) -> Result<Loaded, Vec<String>> {
    let mut reading = read(inputs);
    reading.apply_rules_of_build(true);
    let lines = |errors: Vec<ConfigError>| errors.iter().map(ToString::to_string).collect();
    reading.finish().map_err(lines)
}

/// The lines of a load that fails.
fn complaints(inputs: &Inputs) -> Vec<String> {
    load_lines(inputs).expect_err("these settings are wrong")
}

/// The one line of a load that fails for one reason.
fn complaint(inputs: &Inputs) -> String {
    let mut lines = complaints(inputs);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.remove(0)
}

fn complaint_about_text(text: &str) -> String {
    let folder = folder_with(text);
    complaint(&in_folder(folder.path()))
}
