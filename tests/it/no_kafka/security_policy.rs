//! SECURITY.md: each test that it names is one, each risk has its right name and its tests, and whoever reads
//! the other pages finds it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// By their names in the list of 2023.
const RISKS: [&str; 10] = [
    "API1:2023 Broken Object Level Authorization",
    "API2:2023 Broken Authentication",
    "API3:2023 Broken Object Property Level Authorization",
    "API4:2023 Unrestricted Resource Consumption",
    "API5:2023 Broken Function Level Authorization",
    "API6:2023 Unrestricted Access to Sensitive Business Flows",
    "API7:2023 Server Side Request Forgery",
    "API8:2023 Security Misconfiguration",
    "API9:2023 Improper Inventory Management",
    "API10:2023 Unsafe Consumption of APIs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of each row of the page's tables whose last column has names of tests.
fn rows() -> Vec<Vec<String>> {
    let text = read(&root().join("SECURITY.md"));
    let rows = text.lines().filter_map(|line| {
        let cells = line.strip_prefix('|')?.strip_suffix('|')?.split('|');
        Some(cells.map(|cell| cell.trim().to_owned()).collect())
    });
    rows.filter(|cells: &Vec<String>| {
        let last = cells.last().unwrap();
        last != "Tests" && !last.starts_with("---")
    })
    .collect()
}

fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The names of all functions in `folder` that are tests.
fn tests_in(folder: PathBuf, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_in(path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let mut is_test = false;
            for line in read(&path).lines().map(str::trim_start) {
                if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                    is_test = true;
                } else if let Some((before, rest)) = line.split_once("fn ")
                    && ["", "async "].contains(&before)
                    && std::mem::take(&mut is_test)
                {
                    let (name, _) = rest.split_once('(').unwrap();
                    found.insert(name.to_owned());
                }
            }
        }
    }
}

#[test]
fn every_test_that_the_page_names_is_one() {
    let mut tests = BTreeSet::new();
    for folder in ["src", "tests"] {
        tests_in(root().join(folder), &mut tests);
    }
    assert!(tests.contains("every_test_that_the_page_names_is_one"));
    for row in rows() {
        let last = row.last().unwrap();
        let named: Vec<&str> = names(last).collect();
        assert!(!named.is_empty(), "{row:?} names no test");
        for name in named {
            assert!(tests.contains(name), "{name} of {:?} is no test", row[0]);
        }
    }
}

#[test]
fn each_risk_of_the_list_has_its_row() {
    let rows = rows();
    let risks: Vec<&str> = rows
        .iter()
        .map(|row| row[0].as_str())
        .filter(|first| first.starts_with("API"))
        .collect();
    assert_eq!(risks, RISKS);
}

#[test]
fn the_other_pages_lead_to_it() {
    for (page, link) in [
        ("README.md", "(SECURITY.md)"),
        ("docs/security.md", "(../SECURITY.md)"),
    ] {
        assert!(read(&root().join(page)).contains(link), "{page}");
    }
}
