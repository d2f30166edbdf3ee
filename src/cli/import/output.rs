//! The output, a settings file, while it is being put together: what is set, by which line, and which lines
//! were not carried over, each with the reason.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::Entry;
use crate::config::{is_secret_property, is_setting, quote, variable_of};

/// What a secret is shown as where anyone may look on.
const MASK: &str = "********";

/// A value as TOML has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
    Switch(bool),
    List(Vec<String>),
}

impl Value {
    /// A number or a switch if it reads as one, else text.
    pub(super) fn guessed(text: &str) -> Self {
        match (text.parse::<u64>(), text.parse::<bool>()) {
            // Only what is written back as it was: a password may be 007.
            (Ok(number), _) if number <= i64::MAX as u64 && number.to_string() == text => {
                Self::Number(number)
            }
            (_, Ok(switch)) => Self::Switch(switch),
            _ => Self::Text(text.to_owned()),
        }
    }

    fn toml(&self) -> String {
        match self {
            Self::Text(text) => quote(text),
            Self::Number(number) => number.to_string(),
            Self::Switch(switch) => switch.to_string(),
            Self::List(list) => {
                let quoted: Vec<_> = list.iter().map(|text| quote(text)).collect();
                format!("[{}]", quoted.join(", "))
            }
        }
    }

    fn has_placeholder(&self) -> bool {
        let has = |text: &String| {
            text.split_once("${")
                .is_some_and(|(_, rest)| rest.contains('}'))
        };
        match self {
            Self::Text(text) => has(text),
            Self::List(list) => list.iter().any(has),
            Self::Number(_) | Self::Switch(_) => false,
        }
    }
}

/// One line of the result.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// The table, empty at the top: `kafka.properties`.
    table: &'static str,
    /// The key in it: `ssl.ca.location`.
    name: String,
    pub(super) value: Value,
    /// The lines that it comes from, with their names; none where it is the product's default.
    from: Vec<(usize, String)>,
    /// What else there is to say.
    note: Option<String>,
}

impl Setting {
    pub(super) fn path(&self) -> String {
        match self.table {
            "" => self.name.clone(),
            table => format!("{table}.{}", self.name),
        }
    }

    fn is_secret(&self) -> bool {
        is_open(self.table) && is_secret_property(&self.name)
    }

    /// As one could write it anywhere in the file.
    fn shown(&self) -> Option<String> {
        let value = self.value.toml();
        let key = match is_open(self.table) {
            true => format!("{}.{}", self.table, quote(&self.name)),
            false => self.path(),
        };
        (!self.is_secret() && !value.contains('\n')).then(|| format!("{key} = {value}"))
    }
}

/// The tables of librdkafka properties, in which a name has dots of its own.
const OPEN: [&str; 4] = [
    "kafka.properties",
    "kafka.producer",
    "kafka.consumer",
    "kafka.admin",
];

fn is_open(table: &str) -> bool {
    OPEN.contains(&table)
}

/// The tables in the order of the result.
const TABLES: [&str; 15] = [
    "",
    "management",
    "tls",
    "http",
    "http.cors",
    "kafka",
    "kafka.properties",
    "kafka.producer",
    "kafka.consumer",
    "kafka.admin",
    "rest",
    "schema",
    "auth",
    "limits",
    "telemetry",
];

/// The table of a path and the name in it.
fn split(path: &str) -> (&'static str, &str) {
    let found = TABLES.iter().rev().find_map(|table| {
        let name = path.strip_prefix(table)?;
        let name = match *table {
            "" => name,
            _ => name.strip_prefix('.')?,
        };
        (is_open(table) || !name.contains('.')).then_some((*table, name))
    });
    found.unwrap_or(("", path))
}

/// A line that was not carried over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Left {
    line: usize,
    name: String,
    reason: String,
}

/// See the file's first lines.
#[derive(Debug, Default)]
pub(super) struct Draft {
    settings: Vec<Setting>,
    left: BTreeSet<Left>,
    /// Remarks that belong to no one line.
    remarks: Vec<String>,
    /// Why only this machine may connect, if the reason was found before the addresses.
    closed: Option<String>,
    /// The listeners had TLS.
    pub(super) had_tls: bool,
}

impl Draft {
    /// Sets the key at `path` to what `entry` says. The first to set it wins; a placeholder is no value.
    pub(super) fn set(&mut self, path: &str, value: Value, entry: &Entry) {
        self.set_by(path, value, &[entry]);
    }

    /// The same where several lines make one setting.
    pub(super) fn set_by(&mut self, path: &str, value: Value, entries: &[&Entry]) {
        let reason = self.reason_against(path, &value);
        if let Some(reason) = reason {
            for entry in entries {
                self.leave(entry, reason.clone());
            }
            return;
        }
        let from = entries.iter().map(|e| (e.line, e.name.clone())).collect();
        self.push(path, value, from);
    }

    fn reason_against(&self, path: &str, value: &Value) -> Option<String> {
        let (table, _) = split(path);
        if !is_open(table) && !is_setting(path) {
            return Some(format!("this version has no {path}, which would take it"));
        }
        if value.has_placeholder() {
            let instead = match variable_of(path) {
                Some(variable) => format!("set the variable {variable} instead"),
                None => format!("set {path} to what it stands for"),
            };
            return Some(format!(
                "it has a placeholder (${{…}}), which the gateway does not fill in: {instead}"
            ));
        }
        let before = self.get(path)?;
        let place = match before.from.first() {
            Some((line, name)) => format!("line {line} ({})", shown_name(name)),
            None => "the default".to_owned(),
        };
        (before.value != *value).then(|| format!("{path} is what {place} says"))
    }

    fn push(&mut self, path: &str, value: Value, from: Vec<(usize, String)>) {
        if let Some(same) = self.settings.iter_mut().find(|s| s.path() == path) {
            same.from.extend(from);
            return;
        }
        let (table, name) = split(path);
        self.settings.push(Setting {
            table,
            name: name.to_owned(),
            value,
            from,
            note: None,
        });
    }

    /// Sets what no line says, but the product does where no line says otherwise.
    pub(super) fn set_default(&mut self, path: &str, value: Value, note: &str) {
        if self.get(path).is_none() && is_setting_or_property(path) {
            self.push(path, value, Vec::new());
            self.annotate(path, note);
        }
    }

    pub(super) fn get(&self, path: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.path() == path)
    }

    /// The text of a key; `None` when it is not set or no text.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        match &self.get(path)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Every key with a text: its path, table-wise name and value.
    pub(super) fn texts(&self) -> impl Iterator<Item = (String, &str, &str)> {
        self.settings
            .iter()
            .filter_map(|setting| match &setting.value {
                Value::Text(text) => Some((setting.path(), setting.name.as_str(), text.as_str())),
                _ => None,
            })
    }

    /// Changes a value and says why.
    pub(super) fn change(&mut self, path: &str, value: Value, note: &str) {
        if let Some(setting) = self.settings.iter_mut().find(|s| s.path() == path) {
            setting.value = value;
        }
        self.annotate(path, note);
    }

    /// Adds a comment to a key.
    pub(super) fn annotate(&mut self, path: &str, note: &str) {
        let Some(setting) = self.settings.iter_mut().find(|s| s.path() == path) else {
            return;
        };
        setting.note = Some(match setting.note.take() {
            Some(before) if before.contains(note) => before,
            Some(before) => format!("{before}; {note}"),
            None => note.to_owned(),
        });
    }

    /// Says of a line that it was not carried over, and why.
    pub(super) fn leave(&mut self, entry: &Entry, reason: impl Into<String>) {
        self.left.insert(Left {
            line: entry.line,
            name: entry.name.clone(),
            reason: reason.into(),
        });
    }

    /// Says something about the whole.
    pub(super) fn remark(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.remarks.contains(&text) {
            self.remarks.push(text);
        }
    }

    /// Takes back every key that `is_meant` picks. False when there is none.
    pub(super) fn take_back(&mut self, reason: &str, is_meant: impl Fn(&Setting) -> bool) -> bool {
        let (out, kept): (Vec<_>, Vec<_>) = self.settings.drain(..).partition(is_meant);
        self.settings = kept;
        for setting in &out {
            let reason = match setting.shown() {
                Some(shown) => format!("it would be `{shown}`, but: {reason}"),
                None => format!("it would be {}, but: {reason}", setting.path()),
            };
            for (line, name) in &setting.from {
                self.left.insert(Left {
                    line: *line,
                    name: name.clone(),
                    reason: reason.clone(),
                });
            }
            if setting.from.is_empty() {
                self.remark(format!("{} was left out: {reason}", setting.path()));
            }
        }
        !out.is_empty()
    }

    /// Lets only this machine connect: who could was decided by something that could not be carried
    /// over, and an open listener is worse than a closed one.
    pub(super) fn close(&mut self, reason: &str) {
        if self.closed.is_none() {
            self.closed = Some(reason.to_owned());
        }
    }

    pub(super) fn closed(&self) -> Option<&str> {
        self.closed.as_deref()
    }

    /// Lines carried over, and lines that were not.
    pub(super) fn counts(&self) -> (usize, usize) {
        let left: BTreeSet<usize> = self.left.iter().map(|left| left.line).collect();
        let set: BTreeSet<usize> = self
            .settings
            .iter()
            .flat_map(|setting| setting.from.iter().map(|(line, _)| *line))
            .filter(|line| !left.contains(line))
            .collect();
        (set.len(), left.len())
    }

    /// The settings file. `masked` shows no secret.
    pub(super) fn toml(&self, head: &str, masked: bool) -> String {
        let mut out = String::new();
        comment(&mut out, head);
        for remark in &self.remarks {
            comment(&mut out, remark);
        }
        for table in TABLES {
            let inside: Vec<_> = self.settings.iter().filter(|s| s.table == table).collect();
            if inside.is_empty() {
                continue;
            }
            out.push('\n');
            if !table.is_empty() {
                let _ = writeln!(out, "[{table}]");
            }
            for setting in inside {
                write_setting(&mut out, setting, masked);
            }
        }
        if !self.left.is_empty() {
            out.push('\n');
            comment(&mut out, "Not carried over:");
        }
        for left in &self.left {
            let name = shown_name(&left.name);
            comment(
                &mut out,
                &format!("line {}: {name}: {}", left.line, left.reason),
            );
        }
        out
    }
}

fn is_setting_or_property(path: &str) -> bool {
    is_open(split(path).0) || is_setting(path)
}

fn write_setting(out: &mut String, setting: &Setting, masked: bool) {
    let from: Vec<_> = setting
        .from
        .iter()
        .map(|(line, name)| format!("line {line}: {}", shown_name(name)))
        .collect();
    let mut said = from.join(", ");
    if let Some(note) = &setting.note {
        let between = if said.is_empty() { "" } else { "; " };
        let _ = write!(said, "{between}{note}");
    }
    let hides = masked && setting.is_secret();
    if hides {
        said.push_str("; hidden on a terminal: --output FILE has it");
    }
    if !said.is_empty() {
        comment(out, &said);
    }
    let name = match is_open(setting.table) {
        true => quote(&setting.name),
        false => setting.name.clone(),
    };
    let value = match hides {
        true => quote(MASK),
        false => setting.value.toml(),
    };
    let _ = writeln!(out, "{name} = {value}");
}

/// A name is anyone's: it must not be endless.
fn shown_name(name: &str) -> String {
    const SHOWN: usize = 100;
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// A comment must end where its line ends, whatever it has in it.
fn comment(out: &mut String, text: &str) {
    out.push_str("# ");
    for c in text.chars() {
        match c.is_control() {
            true => out.extend(c.escape_debug()),
            false => out.push(c),
        }
    }
    out.push('\n');
}
