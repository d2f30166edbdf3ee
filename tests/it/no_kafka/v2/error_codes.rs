//! The table of error codes in docs/compatibility.md: it has every code that the source can answer with,
//! and the tests that it names look at the codes that it names them for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Status (`None`: never) and tests of each code.
type Table = BTreeMap<u32, (Option<u32>, Vec<String>)>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn table() -> Table {
    let text = read(&root().join("docs/compatibility.md"));
    let (_, below) = text.split_once("\n## v2: error codes\n").unwrap();
    let (section, _) = below.split_once("\n## ").unwrap();
    section
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let code: u32 = cells[0].parse().ok()?;
            let [_, status, meaning, tests] = cells[..] else {
                panic!("{line} has four cells");
            };
            assert!(!meaning.is_empty(), "{line}");
            let tests = tests.split('`').filter(|name| name.ends_with(".rs"));
            let tests = tests.map(str::to_owned).collect();
            Some((code, (status.parse().ok(), tests)))
        })
        .collect()
}

/// The numbers of five digits that begin with 4 or 5.
fn codes(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.len() == 5 && word.starts_with(['4', '5']))
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// The source files of a folder and those below.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_tests_of_each_code_look_at_it() {
    let table = table();
    assert!(table.len() >= 28, "{} codes", table.len());
    for (code, (status, tests)) in table {
        assert!(
            status.is_none() || !tests.is_empty(),
            "{code} is answered and has a test"
        );
        if let Some(status) = status {
            // The reference has one code whose status is another.
            let of_code = if code == 40001 { 422 } else { code / 100 };
            assert_eq!(of_code, status, "{code}");
        }
        for name in tests {
            let text = read(&root().join("tests/it").join(&name));
            assert!(codes(&text).contains(&code), "{name} looks at {code}");
        }
    }
}

#[test]
fn every_code_of_the_source_is_in_the_table_and_no_other_is_answered() {
    let table = table();
    let mut files = vec![
        root().join("src/http/error.rs"),
        root().join("src/api/rest_proxy_codes.rs"),
    ];
    for version in ["src/api/v2", "src/api/v3"] {
        sources(&root().join(version), &mut files);
    }
    let mut answered = Vec::new();
    for file in files {
        for code in codes(&read(&file)) {
            let row = table.get(&code);
            let status = row.and_then(|(status, _)| *status);
            assert!(status.is_some(), "{code} of {}", file.display());
            answered.push(code);
        }
    }
    for (code, (status, _)) in table {
        assert!(
            status.is_none() || answered.contains(&code),
            "{code} is answered"
        );
    }
}
