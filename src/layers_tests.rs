//! Who may depend on whom: a module takes from its own layer and those below it. ARCHITECTURE.md says why.
//! The test reads the `crate::` paths of every file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// From the top to the bottom.
const LAYERS: [&[&str]; 9] = [
    &["cli", "healthcheck", "main", "server"],
    &["api"],
    &["gateway"],
    &["http"],
    &["admin", "consumer", "session", "stream"],
    &["passthrough", "read", "write"],
    &["codec", "delivery", "kafka", "position", "schema"],
    &["auth", "filter", "limits", "observe", "transport"],
    &[
        "config",
        "fetch",
        "glob",
        "reader_options",
        "record",
        "reserved",
        "topic_pattern",
    ],
];

/// Where a module stands, from the top.
fn layer(module: &str, file: &str) -> usize {
    LAYERS
        .iter()
        .position(|layer| layer.contains(&module))
        .unwrap_or_else(|| panic!("src/{file}: `{module}` has no place in LAYERS"))
}

/// Every `.rs` file under `directory`, from `src/` on.
fn files(directory: &Path, from: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{from}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), &format!("{name}/"), found);
        } else if name.ends_with(".rs") {
            found.push(name);
        }
    }
}

/// The code without comments of whole lines, and those behind it.
fn without_comments(text: &str) -> String {
    let code = text.lines().map(|line| match line.find("//") {
        // That of a URL is none.
        Some(at) if !line[..at].ends_with(':') => &line[..at],
        _ => line,
    });
    code.collect::<Vec<_>>().join("\n")
}

/// The paths of the crate that `code` names, without `crate::`; of a group each.
fn paths(code: &str) -> Vec<String> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let path = |text: &str| text.split(|c| !is_path(c)).next().unwrap().to_owned();
    let mut paths = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        if code[..at].ends_with(is_word) {
            continue;
        }
        let rest = &code[at + found.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            paths.push(path(rest));
            continue;
        };
        let (mut depth, mut begins) = (1, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => break,
                '}' => depth -= 1,
                ',' if depth == 1 => begins = true,
                c if begins && !c.is_whitespace() => {
                    paths.push(path(&group[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    paths
}

/// The file that holds what `path` names.
fn file_of(src: &Path, path: &str) -> String {
    let mut module = String::new();
    let mut file = "lib.rs".to_owned();
    for segment in path.split("::") {
        module = match &*module {
            "" => segment.to_owned(),
            outer => format!("{outer}/{segment}"),
        };
        let names = [format!("{module}.rs"), format!("{module}/mod.rs")];
        match names.into_iter().find(|name| src.join(name).exists()) {
            Some(name) => file = name,
            None => break,
        }
    }
    file
}

#[test]
fn no_module_takes_from_a_layer_above_its_own() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut names = Vec::new();
    files(&src, "", &mut names);
    let mut wrong = BTreeSet::new();
    for name in &names {
        let module = name.split('/').next().unwrap().trim_end_matches(".rs");
        if ["lib", "layers_tests"].contains(&module) {
            continue;
        }
        let own = layer(module, name);
        let code = without_comments(&fs::read_to_string(src.join(name)).unwrap());
        for path in paths(&code) {
            let to = path.split("::").next().unwrap();
            if to == module || layer(to, name) >= own {
                continue;
            }
            let other = file_of(&src, &path);
            wrong.insert(format!("src/{name} takes `{path}` from src/{other}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "these run from a layer to one above it: {wrong:#?}"
    );
}

/// The machine holds subscriptions; what both need stands beside them.
#[test]
fn a_sessions_subscription_takes_nothing_from_its_machine() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut names = Vec::new();
    files(
        &src.join("session/subscription"),
        "session/subscription/",
        &mut names,
    );
    assert!(!names.is_empty());
    for name in names {
        let code = without_comments(&fs::read_to_string(src.join(&name)).unwrap());
        let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        assert!(
            words.all(|word| word != "machine"),
            "src/{name} takes from src/session/machine"
        );
    }
}

#[test]
fn paths_are_found_in_uses_and_in_code() {
    let code = without_comments(
        "use crate::{auth, http::{body, error::ApiError}, kafka}; // crate::no\n\
         /// [`crate::no`]\n\
         use crate::api::ws;\n\
         let url = \"https://crate.io\"; mycrate::no(crate::write::Writer::new());",
    );
    assert_eq!(
        paths(&code),
        ["auth", "http::", "kafka", "api::ws", "write::Writer::new"]
    );
}
