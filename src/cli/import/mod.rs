//! `tidegate config import`: the settings of another gateway, as ours. Every line of the input becomes a setting or
//! a comment that says why not, and the result always loads.
//!
//! - `properties.rs`, `json.rs`: the two syntaxes, into names and values with their lines
//! - `mapping.rs`: what becomes of a name; its tables are the ones that docs/compatibility.md shows
//! - `confluent.rs`, `strimzi.rs`, `karapace.rs`: a table for each product, and what takes code
//! - `client.rs`, `jaas.rs`: the properties of Kafka's Java clients, which two of them pass on
//! - `listeners.rs`: addresses, routes and origins
//! - `output.rs`: the result while it is put together, and its text
//! - `validate.rs`: takes back what start-up objects to

mod client;
mod confluent;
mod jaas;
mod json;
mod karapace;
mod listeners;
mod mapping;
mod output;
mod properties;
mod strimzi;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use self::output::Draft;
use crate::config::read_file;

/// Far above any real file: what is larger was named by mistake.
const MOST_BYTES: u64 = 4 << 20;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// kafka-rest.properties (Confluent), application.properties (Strimzi) or Karapace's JSON
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whose settings they are [default: as the file looks]
    #[arg(long, value_name = "PRODUCT")]
    from: Option<Product>,
    /// Write to this file, which only its owner can read, and which must not be there yet
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Let --output replace a file
    #[arg(long, requires = "output")]
    force: bool,
}

/// Whose settings are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Product {
    /// Confluent REST Proxy
    Confluent,
    /// Strimzi's Kafka Bridge
    Strimzi,
    /// Karapace's REST proxy
    Karapace,
}

impl Product {
    fn name(self) -> &'static str {
        match self {
            Self::Confluent => "Confluent REST Proxy",
            Self::Strimzi => "Strimzi's bridge",
            Self::Karapace => "Karapace",
        }
    }
}

/// One name and its value, as a file has them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    value: String,
    /// Counted from 1.
    line: usize,
}

/// Why a file could not be read as settings. Never repeats a value.
#[derive(Debug, PartialEq, Eq)]
struct Unreadable {
    line: Option<usize>,
    problem: String,
}

impl Unreadable {
    fn at(line: usize, problem: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            problem: problem.into(),
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

/// What the command came to.
pub(super) enum Outcome {
    /// For standard output, and a line for standard error.
    Text(String, String),
    /// The file is written; a line for standard error.
    Written(String),
    /// The input cannot be used.
    Refused(String),
    /// The output could not be written.
    Failed(String),
}

/// Reads the file and writes the settings.
pub(super) fn import(args: &ImportArgs) -> Outcome {
    let shown = args.file.display();
    let text = match read_file(&args.file, MOST_BYTES) {
        Ok(bytes) => decode(bytes),
        Err(problem) => return Outcome::Refused(problem),
    };
    let (product, draft) = match convert(&args.file, &text, args.from) {
        Ok(converted) => converted,
        Err(problem) => return Outcome::Refused(format!("{shown}: {problem}")),
    };
    let (over, left) = draft.counts();
    let head = format!(
        "Settings of Tidegate, from {shown} of {}. Lines carried over: {over}; not, or not whole: {left}.",
        product.name()
    );
    let report = format!(
        "{shown} ({}): {over} lines carried over; {left} not, or not whole: the comments at the end say why",
        product.name()
    );
    match &args.output {
        // Who types at a terminal may be looked over the shoulder, and its lines are kept.
        None => Outcome::Text(draft.toml(&head, io::stdout().is_terminal()), report),
        Some(path) => match write(path, &draft.toml(&head, false), args.force) {
            Ok(()) => Outcome::Written(report),
            Err(problem) => Outcome::Failed(format!("{}: {problem}", path.display())),
        },
    }
}

/// Java reads properties as Latin-1 or UTF-8, by how it is asked; what is no UTF-8 is the former.
fn decode(bytes: Vec<u8>) -> String {
    let text = String::from_utf8(bytes).unwrap_or_else(|error| {
        error
            .as_bytes()
            .iter()
            .map(|byte| char::from(*byte))
            .collect()
    });
    text.strip_prefix('\u{feff}')
        .map(str::to_owned)
        .unwrap_or(text)
}

/// From text to settings that load.
fn convert(file: &Path, text: &str, from: Option<Product>) -> Result<(Product, Draft), Unreadable> {
    let is_json = match from {
        Some(product) => product == Product::Karapace,
        None => {
            let named = file
                .extension()
                .is_some_and(|end| end.eq_ignore_ascii_case("json"));
            named || text.trim_start().starts_with('{')
        }
    };
    let entries = match is_json {
        true => json::read(text)?,
        false => properties::read(text)?,
    };
    let product = match from {
        Some(product) => product,
        None => recognise(&entries, is_json)?,
    };
    let mut draft = Draft::default();
    let entries = last_ones(&mut draft, entries);
    match product {
        Product::Confluent => confluent::carry(&mut draft, &entries),
        Product::Strimzi => strimzi::carry(&mut draft, &entries),
        Product::Karapace => karapace::carry(&mut draft, &entries),
    }
    validate::validate(&mut draft, product.name());
    Ok((product, draft))
}

/// Whose names there are more of.
fn recognise(entries: &[Entry], is_json: bool) -> Result<Product, Unreadable> {
    const EXPECTED: &str = "expected kafka-rest.properties (bootstrap.servers, listeners, client.…), Strimzi's application.properties (kafka.bootstrap.servers, http.port, …) or Karapace's JSON (bootstrap_uri, …); --from says which it is";
    let count = |rules| {
        let known = entries
            .iter()
            .filter(|entry| mapping::find(rules, &entry.name).is_some());
        known.count()
    };
    let unknown = || Unreadable {
        line: None,
        problem: EXPECTED.to_owned(),
    };
    if is_json {
        return match count(karapace::RULES) {
            0 => Err(unknown()),
            _ => Ok(Product::Karapace),
        };
    }
    let (confluent, strimzi) = (count(confluent::RULES), count(strimzi::RULES));
    match confluent.cmp(&strimzi) {
        std::cmp::Ordering::Greater => Ok(Product::Confluent),
        std::cmp::Ordering::Less => Ok(Product::Strimzi),
        std::cmp::Ordering::Equal => Err(unknown()),
    }
}

/// Of names that stand there more than once, the last: so do Java and Python read them.
fn last_ones(draft: &mut Draft, entries: Vec<Entry>) -> Vec<Entry> {
    let last: BTreeMap<String, usize> = entries
        .iter()
        .enumerate()
        .map(|(index, entry)| (entry.name.clone(), index))
        .collect();
    let mut kept = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        match last.get(&entry.name) {
            Some(winner) if *winner != index => {
                let line = entries[*winner].line;
                draft.leave(
                    entry,
                    format!("line {line} has it again, and the last one wins"),
                );
            }
            _ => kept.push(entry.clone()),
        }
    }
    kept
}

/// Writes a file that only its owner can read, whole or not at all.
fn write(path: &Path, text: &str, force: bool) -> Result<(), String> {
    if !force && fs::symlink_metadata(path).is_ok() {
        return Err(
            "there is such a file already: choose another, or replace it with --force".into(),
        );
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| {
            let whole = file
                .write_all(text.as_bytes())
                .and_then(|()| file.sync_all());
            let placed = whole.and_then(|()| fs::rename(&beside, path));
            if placed.is_err() {
                let _ = fs::remove_file(&beside);
            }
            placed
        });
    written.map_err(|error| format!("cannot be written ({}): {error}", beside.display()))
}
