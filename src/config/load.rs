//! The layers: defaults, then the file, then the environment, then flags. Each later one wins, each
//! value keeps its source, and everything that is wrong is gathered, so that one run shows it all.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::Settings;
use super::issuers;
use super::schema::{self, Accessor, KEYS, Key, VARIABLE_PREFIX, ValueKind};
use super::tables::Read;
use super::topic_schemas;
use super::topics;
use super::validate;
use super::value::{Raw, quote};

/// The variable that names the settings file; it is no setting itself.
const FILE_VARIABLE: &str = "TIDEGATE_CONFIG";

/// The file that is read when none is named.
const FILE_NAME: &str = "tidegate.toml";

/// Everything outside the program that settings can come from. Tests fill it in; the command line
/// takes it from the process. Its `Debug` form leaves out variables and `--set`, which may be secrets.
#[derive(Clone, Default)]
pub struct Inputs {
    /// Where a relative path to the settings file begins; empty means the process's own directory.
    pub cwd: PathBuf,
    /// Environment variables.
    pub env: Vec<(OsString, OsString)>,
    /// `--config`.
    pub config_file: Option<PathBuf>,
    /// `--listen`, once for each address.
    pub listen: Vec<String>,
    /// `--management-listen`.
    pub management_listen: Option<String>,
    /// `--bootstrap-servers`.
    pub bootstrap_servers: Option<String>,
    /// `--embedded`.
    pub embedded: bool,
    /// `--set KEY=VALUE`, in order.
    pub set: Vec<String>,
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs")
            .field("cwd", &self.cwd)
            .field("config_file", &self.config_file)
            .field("listen", &self.listen)
            .field("management_listen", &self.management_listen)
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("embedded", &self.embedded)
            .finish_non_exhaustive()
    }
}

/// What set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nothing did: the built-in default holds.
    Default,
    /// A line of the settings file.
    File {
        /// The path as it was named.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A variable, by its name.
    Environment(String),
    /// A flag, with its dashes.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "file {} line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One thing that is wrong with the settings. Its `Display` form is one line and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    subject: String,
    /// Of the setting, if it is about one.
    path: Option<String>,
    problem: String,
}

impl ConfigError {
    /// Names what the error is about and what was expected of it.
    pub fn new(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            path: None,
            problem: problem.into(),
        }
    }

    fn about(path: &str, source: &Source, problem: impl Into<String>) -> Self {
        Self {
            path: Some(path.to_owned()),
            ..Self::new(format!("{path} ({source})"), problem)
        }
    }

    /// The setting that it is about, as in `kafka.properties.ssl.ca.location`; `None` when it is about
    /// something else, such as a whole file.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// What is wrong, without the setting's name.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = format!("{}: {}", self.subject, self.problem);
        // Paths, variables and keys are anyone's; the promise is one line.
        for c in line.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_debug())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Settings with the source of each value.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The merged settings.
    pub settings: Settings,
    sources: BTreeMap<String, Source>,
}

impl Loaded {
    /// What set the key; a property is named by its table and name, as in
    /// `kafka.properties.ssl.ca.location`.
    pub fn source(&self, path: &str) -> &Source {
        self.sources.get(path).unwrap_or(&Source::Default)
    }

    /// What is allowed and seldom meant, a line each.
    pub fn warnings(&self) -> Vec<String> {
        super::warnings::warnings(self)
    }

    /// An error about the key that names the key's source.
    pub fn error(&self, path: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::about(path, self.source(path), problem)
    }
}

/// Settings that were read but not yet judged: whoever knows more rules can add to the errors
/// before [`Reading::finish`].
#[derive(Debug, Default)]
pub struct Reading {
    /// What could be read; a key that could not keeps the value of the layer below.
    pub loaded: Loaded,
    /// What is wrong so far.
    pub errors: Vec<ConfigError>,
    unread: Unread,
}

/// Keys whose value is not known, because what set them could not be read. Rules that need one of
/// them stay silent: a message drawn from a default that the user meant to change would mislead.
#[derive(Debug, Default)]
pub(super) struct Unread {
    keys: BTreeSet<&'static str>,
    file: bool,
}

impl Unread {
    /// True when the key's value is as the user meant it.
    pub(super) fn knows(&self, path: &str) -> bool {
        !self.file && !self.keys.contains(path)
    }
}

/// Reads every layer without applying the rules between settings.
pub fn read(inputs: &Inputs) -> Reading {
    let mut reading = Reading::default();
    reading.read_file(inputs);
    reading.read_environment(inputs);
    reading.read_flags(inputs);
    reading
}

/// Reads the text of a settings file and no other layer. `path` is what messages call it.
pub fn read_text(path: &Path, text: &str) -> Reading {
    let mut reading = Reading::default();
    reading.read_toml(path, text.as_bytes());
    reading
}

/// Reads every layer and applies the rules between settings.
///
/// # Errors
/// Everything that is wrong, in the order of the layers, then of the rules.
pub fn load(inputs: &Inputs) -> Result<Loaded, Vec<ConfigError>> {
    let mut reading = read(inputs);
    reading.apply_rules();
    reading.finish()
}

/// The file that these inputs read settings from, which need not be there.
pub fn settings_file(inputs: &Inputs) -> PathBuf {
    inputs.cwd.join(file_to_read(inputs).0)
}

/// The settings file, and whether someone named it (then it must exist).
fn file_to_read(inputs: &Inputs) -> (PathBuf, bool) {
    if let Some(path) = &inputs.config_file {
        return (path.clone(), true);
    }
    let variable = inputs.env.iter().find(|(name, _)| *name == *FILE_VARIABLE);
    match variable {
        // Empty is how compose files and shells spell "not set".
        Some((_, path)) if !path.is_empty() => (PathBuf::from(path), true),
        _ => (PathBuf::from(FILE_NAME), false),
    }
}

impl Reading {
    /// Adds what the start-up rules object to.
    pub fn apply_rules(&mut self) {
        self.apply_rules_of_build(cfg!(feature = "embedded"));
    }

    pub(super) fn apply_rules_of_build(&mut self, has_embedded: bool) {
        let objections = validate::objections(&self.loaded, &self.unread, has_embedded);
        self.errors.extend(objections);
    }

    /// The settings, if nothing is wrong with them.
    ///
    /// # Errors
    /// Everything that is.
    pub fn finish(self) -> Result<Loaded, Vec<ConfigError>> {
        if self.errors.is_empty() {
            Ok(self.loaded)
        } else {
            Err(self.errors)
        }
    }

    fn read_file(&mut self, inputs: &Inputs) {
        let (path, named) = file_to_read(inputs);
        match std::fs::read(inputs.cwd.join(&path)) {
            Ok(bytes) => self.read_toml(&path, &bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => {}
            Err(error) => {
                self.unread.file = true;
                let subject = format!("file {}", path.display());
                let problem = format!("cannot be read: {error}");
                self.errors.push(ConfigError::new(subject, problem));
            }
        }
    }

    fn read_toml(&mut self, path: &Path, bytes: &[u8]) {
        let subject = format!("file {}", path.display());
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                self.unread.file = true;
                let line = line_and_column_of(bytes, error.valid_up_to()).0;
                let subject = format!("{subject} line {line}");
                self.errors
                    .push(ConfigError::new(subject, "expected UTF-8 text"));
                return;
            }
        };
        match DeTable::parse(text) {
            Ok(table) => {
                let origin = Origin::File { path, text };
                self.accept("", &Raw::from_table(table.get_ref()), &origin, 0);
            }
            Err(error) => {
                self.unread.file = true;
                let at = error.span().map_or(0, |span| span.start);
                let (line, column) = line_and_column_of(bytes, at);
                // The library's long form quotes the line, which may hold a password.
                self.errors.push(ConfigError::new(
                    format!("{subject} line {line} column {column}"),
                    format!("not valid TOML: {}", error.message()),
                ));
            }
        }
    }

    fn read_environment(&mut self, inputs: &Inputs) {
        let mut variables: Vec<_> = inputs.env.iter().collect();
        // The process's order is arbitrary; messages should not be.
        variables.sort();
        for (name, value) in variables {
            let shown = name.to_string_lossy();
            if !shown.starts_with(VARIABLE_PREFIX) || *name == *FILE_VARIABLE {
                continue;
            }
            let subject = format!("environment {shown}");
            let Some(value) = value.to_str() else {
                self.errors
                    .push(ConfigError::new(subject, "expected UTF-8 text"));
                continue;
            };
            if is_service_link(&shown, value) {
                continue;
            }
            match path_of_variable(&shown) {
                Some(path) => {
                    let origin = Origin::Environment(&shown);
                    self.accept(&path, &Raw::Word(value.to_owned()), &origin, 0);
                }
                None => self.refuse_variable(&shown),
            }
        }
    }

    fn refuse_variable(&mut self, name: &str) {
        let path = name[VARIABLE_PREFIX.len()..]
            .replace("__", ".")
            .to_ascii_lowercase();
        let mut problem = "unknown variable".to_owned();
        if let Some(known) = schema::nearest(&path).and_then(schema::find) {
            self.unread.keys.insert(known.path);
            let variable = known.variable();
            problem += &match known.kind {
                ValueKind::Properties(_) => {
                    format!("; a property of {} is {variable}__NAME", known.path)
                }
                _ => format!("; did you mean {variable}?"),
            };
        }
        self.errors
            .push(ConfigError::new(format!("environment {name}"), problem));
    }

    fn read_flags(&mut self, inputs: &Inputs) {
        let word = |text: &String| Raw::Word(text.clone());
        if !inputs.listen.is_empty() {
            let list = Raw::List(inputs.listen.iter().map(word).collect());
            self.accept("listen", &list, &Origin::Flag("--listen"), 0);
        }
        if let Some(address) = &inputs.management_listen {
            let origin = Origin::Flag("--management-listen");
            self.accept("management.listen", &word(address), &origin, 0);
        }
        if let Some(servers) = &inputs.bootstrap_servers {
            let origin = Origin::Flag("--bootstrap-servers");
            self.accept("kafka.bootstrap_servers", &word(servers), &origin, 0);
        }
        if inputs.embedded {
            let origin = Origin::Flag("--embedded");
            self.accept("kafka.embedded", &Raw::Bool(true), &origin, 0);
        }
        for (number, set) in (1..).zip(&inputs.set) {
            match set.split_once('=') {
                Some((path, value)) if !path.trim().is_empty() => {
                    let path = path.trim();
                    let raw = Raw::from_flag(value);
                    self.accept(&unquoted_entry(path), &raw, &Origin::Flag(SET), 0);
                }
                // What was typed may be a secret on the wrong side, so it is not repeated.
                _ => self.errors.push(ConfigError::new(
                    format!("flag {SET} (number {number})"),
                    "expected KEY=VALUE",
                )),
            }
        }
    }

    /// Takes the value at the path, going into tables; `at` is its offset in a file.
    fn accept(&mut self, path: &str, raw: &Raw, origin: &Origin<'_>, at: usize) {
        if let Some(key) = schema::find(path) {
            match &key.kind {
                ValueKind::Issuers(place) => {
                    let read = issuers::read(key.path, raw, at);
                    self.accept_tables(key, *place, read, origin, at);
                }
                ValueKind::TopicFilters(place) => {
                    let read = topics::read_filters(key.path, raw, at);
                    self.accept_tables(key, *place, read, origin, at);
                }
                ValueKind::KeyedTopics(place) => {
                    let read = topics::read_keyed(key.path, raw, at);
                    self.accept_tables(key, *place, read, origin, at);
                }
                ValueKind::TopicSchemas(place) => {
                    let read = topic_schemas::read(key.path, raw, at);
                    self.accept_tables(key, *place, read, origin, at);
                }
                // A variable can hold the whole table.
                _ if key.is_open() => self.accept_entries(key, "", &raw.opened(), origin, at),
                _ => self.accept_value(key, raw, origin, at),
            }
        } else if let Some((key, name)) = schema::find_entry(path) {
            self.accept_entries(key, name, raw, origin, at);
        } else if schema::is_table(path) {
            let Raw::Table(entries) = raw else {
                let problem = format!("expected a table of settings, got {}", raw.quoted());
                return self.refuse(path, origin, at, problem);
            };
            for entry in entries {
                let inner = join(path, &entry.name);
                self.accept(&inner, &entry.value, origin, entry.at);
            }
        } else {
            self.refuse_unknown(path, origin, at);
        }
    }

    fn accept_value(&mut self, key: &'static Key, raw: &Raw, origin: &Origin<'_>, at: usize) {
        let source = origin.source(at);
        // Named flags and --set are one layer: neither can win over the other.
        if let (Source::Flag(before), Source::Flag(now)) = (self.loaded.source(key.path), &source)
            && before != now
        {
            let problem = format!("also set by {before}: leave one of them out");
            return self.refuse(key.path, origin, at, problem);
        }
        match key.kind.assign(&mut self.loaded.settings, raw) {
            Ok(()) => {
                self.loaded.sources.insert(key.path.into(), source);
            }
            Err(problem) => {
                self.unread.keys.insert(key.path);
                self.refuse(key.path, origin, at, problem);
            }
        }
    }

    /// A later layer's list replaces the whole of an earlier one, so that no issuer stays trusted
    /// unseen.
    fn accept_tables<T>(
        &mut self,
        key: &'static Key,
        place: Accessor<Vec<T>>,
        read: Read<T>,
        origin: &Origin<'_>,
        at: usize,
    ) {
        if !read.problems.is_empty() {
            self.unread.keys.insert(key.path);
            for problem in read.problems {
                self.refuse(&problem.path, origin, problem.at, problem.text);
            }
            return;
        }
        let inside = format!("{}[", key.path);
        let sources = &mut self.loaded.sources;
        sources.retain(|path, _| !path.starts_with(&inside));
        sources.insert(key.path.into(), origin.source(at));
        for (path, at) in read.places {
            sources.insert(path, origin.source(at));
        }
        *place(&mut self.loaded.settings) = read.items;
    }

    /// Merges properties or roles into their table. Names may be quoted whole or written dotted, which TOML
    /// reads as tables within tables; `name` is the part of it that is known so far.
    fn accept_entries(
        &mut self,
        key: &'static Key,
        name: &str,
        raw: &Raw,
        origin: &Origin<'_>,
        at: usize,
    ) {
        if let Raw::Table(entries) = raw {
            for entry in entries {
                let inner = match name {
                    "" => entry.name.clone(),
                    _ => format!("{name}.{}", entry.name),
                };
                self.accept_entries(key, &inner, &entry.value, origin, entry.at);
            }
            return;
        }
        if name.is_empty() {
            let problem = format!("expected {}, got {}", key.kind.expects(), raw.kind());
            return self.refuse(key.path, origin, at, problem);
        }
        let path = format!("{}.{name}", key.path);
        let source = origin.source(at);
        if let (Source::File { line, .. }, Source::File { .. }) =
            (self.loaded.source(&path), &source)
        {
            let problem = format!("also set in line {line}: leave one of them out");
            return self.refuse(&path, origin, at, problem);
        }
        match key.kind.insert(&mut self.loaded.settings, name, raw) {
            Ok(()) => {
                self.loaded.sources.insert(path, source);
            }
            Err(problem) => self.refuse(&path, origin, at, problem),
        }
    }

    fn refuse_unknown(&mut self, path: &str, origin: &Origin<'_>, at: usize) {
        let problem = match schema::nearest(path) {
            Some(known) => {
                self.forget(known);
                format!("unknown setting; did you mean {known}?")
            }
            None => "unknown setting; `tidegate config sample` lists them all".into(),
        };
        self.refuse(path, origin, at, problem);
    }

    /// What was probably meant here was not read.
    fn forget(&mut self, known: &str) {
        let inside = |key: &&Key| key.path == known || key.table_and_name().0 == known;
        self.unread
            .keys
            .extend(KEYS.iter().filter(inside).map(|key| key.path));
    }

    fn refuse(&mut self, path: &str, origin: &Origin<'_>, at: usize, problem: impl Into<String>) {
        let source = origin.source(at);
        self.errors.push(ConfigError::about(path, &source, problem));
    }
}

const SET: &str = "--set";

/// Where a layer's values come from.
enum Origin<'a> {
    File { path: &'a Path, text: &'a str },
    Environment(&'a str),
    Flag(&'static str),
}

impl Origin<'_> {
    fn source(&self, at: usize) -> Source {
        match self {
            Self::File { path, text } => Source::File {
                path: path.to_path_buf(),
                line: line_and_column_of(text.as_bytes(), at).0,
            },
            Self::Environment(name) => Source::Environment((*name).to_owned()),
            Self::Flag(name) => Source::Flag(name),
        }
    }
}

/// The path of an entry in a table. A name that needs quotes keeps them, so that `"kafka.embedded"`,
/// quoted whole, is not taken for a key of the table `kafka`.
fn join(table: &str, name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name = match !name.is_empty() && name.chars().all(is_bare) {
        true => name.to_owned(),
        false => quote(name),
    };
    match table {
        "" => name,
        _ => format!("{table}.{name}"),
    }
}

/// `kafka.properties."ssl.ca.location"` without its quotes, for those who write `--set` as the file.
fn unquoted_entry(path: &str) -> String {
    match schema::find_entry(path) {
        Some((key, name)) => format!("{}.{}", key.path, name.trim_matches(['"', '\''])),
        None => path.to_owned(),
    }
}

/// The path that a variable sets; `None` when there is no such key.
fn path_of_variable(name: &str) -> Option<String> {
    KEYS.iter().find_map(|key| {
        let variable = key.variable();
        if !matches!(key.kind, ValueKind::Properties(_)) && name == variable {
            return Some(key.path.to_owned());
        }
        if !key.is_open() {
            return None;
        }
        let property = name.strip_prefix(&variable)?.strip_prefix("__")?;
        let sane = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        let sane = !property.is_empty()
            && property.bytes().all(sane)
            && !property.split('_').any(str::is_empty);
        let property = match key.kind {
            ValueKind::Properties(_) => property.to_ascii_lowercase().replace('_', "."),
            _ => property.to_ascii_lowercase(),
        };
        sane.then(|| format!("{}.{property}", key.path))
    })
}

/// Kubernetes and Docker describe a service called "tidegate" to its neighbours in variables that
/// begin as ours do (`TIDEGATE_PORT=tcp://…`, `TIDEGATE_SERVICE_HOST`). Nobody wrote them, so they
/// are no mistake to report. None of our keys could be named like this.
fn is_service_link(name: &str, value: &str) -> bool {
    let rest = &name[VARIABLE_PREFIX.len()..];
    if rest.contains("__") {
        return false;
    }
    let parts: Vec<&str> = rest.split('_').collect();
    let is_url = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    let numeric = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let protocol = |part: &str| matches!(part, "TCP" | "UDP" | "SCTP");
    let has_service = parts
        .windows(2)
        .any(|pair| pair == ["SERVICE", "HOST"] || (pair == ["SERVICE", "PORT"] && numeric(value)));
    let has_port = parts
        .windows(3)
        .any(|three| three[0] == "PORT" && numeric(three[1]) && protocol(three[2]));
    has_service || has_port || (is_url && parts.last() == Some(&"PORT"))
}

/// Both counted from 1; the column in characters.
fn line_and_column_of(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n');
    let column = &before[start.map_or(0, |newline| newline + 1)..];
    (line, String::from_utf8_lossy(column).chars().count() + 1)
}
