//! Values between text and type: what TOML, a variable or a flag gave, read as the kind that a key
//! takes, and written back as TOML. Messages quote the value that was given, except for properties,
//! which may be secrets.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use tracing_subscriber::EnvFilter;

use super::address::Address;
use super::item_types::{self, Item};
use super::permission::read_permission;
use super::schema::{Range, ValueKind};
use super::{
    AuditTo, AuthMode, GroupEngine, HeaderForm, KafkaIdentity, LogFormat, SchemaMode, Settings,
    issuers, tables, topic_schemas, topics,
};

/// A value before its kind is known. It may be a secret, so that its `Debug` form says only of what
/// kind it is.
#[derive(Clone, PartialEq)]
pub(super) enum Raw {
    /// A quoted string.
    Text(String),
    /// Unquoted text of a variable or flag: its key decides whether it is a number or a string.
    Word(String),
    /// An integer; `None` when it does not fit.
    Integer(Option<i64>),
    /// True or false.
    Bool(bool),
    /// An array.
    List(Vec<Raw>),
    /// A table, its entries in the order in which they were written.
    Table(Vec<Entry>),
    /// A number with a fraction, or a date: no key takes these.
    Other(&'static str),
}

/// One entry of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The key as it reads without quotes.
    pub(super) name: String,
    /// Where it begins: the byte offset in the document.
    pub(super) at: usize,
    /// What it was given.
    pub(super) value: Raw,
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl Raw {
    /// A parsed document's table.
    pub(super) fn from_table(table: &DeTable<'_>) -> Self {
        let entry = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let text: &Cow<'_, str> = name.get_ref();
            Entry {
                name: text.to_string(),
                at: name.span().start,
                value: Self::from_toml(value.get_ref()),
            }
        };
        Self::Table(table.iter().map(entry).collect())
    }

    fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(number) => {
                Self::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok())
            }
            DeValue::Float(_) => Self::Other("a number with a fraction"),
            DeValue::Boolean(value) => Self::Bool(*value),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Array(list) => Self::List(
                list.iter()
                    .map(|item| Self::from_toml(item.get_ref()))
                    .collect(),
            ),
            DeValue::Table(table) => Self::from_table(table),
        }
    }

    /// The value of `--set KEY=VALUE`. Only quotes and brackets make it more than a word: a
    /// password of `007` or `1_000` must reach the broker as it was typed.
    pub(super) fn from_flag(text: &str) -> Self {
        match DeValue::parse(text) {
            Ok(value) => match Self::from_toml(value.get_ref()) {
                raw @ (Self::Text(_) | Self::List(_) | Self::Table(_)) => raw,
                _ => Self::Word(text.to_owned()),
            },
            Err(_) => Self::Word(text.to_owned()),
        }
    }

    /// The list or table that a variable's text spells in TOML, else the value itself.
    pub(super) fn opened(&self) -> Cow<'_, Self> {
        if let Self::Word(text) = self
            && let opened @ (Self::List(_) | Self::Table(_)) = Self::from_flag(text)
        {
            return Cow::Owned(opened);
        }
        Cow::Borrowed(self)
    }

    /// As a string.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Word(text) => Some(text),
            _ => None,
        }
    }

    /// As a whole number that is not negative.
    fn number(&self) -> Option<u64> {
        let number = match self {
            Self::Integer(number) => *number,
            Self::Word(text) => match DeValue::parse(text.trim()).ok()?.get_ref() {
                DeValue::Integer(number) => {
                    i64::from_str_radix(number.as_str(), number.radix()).ok()
                }
                _ => None,
            },
            _ => None,
        };
        u64::try_from(number?).ok()
    }

    /// As true or false.
    pub(super) fn switch(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Word(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// As the value of a librdkafka property.
    pub(super) fn property(&self) -> Result<String, String> {
        match self {
            Self::Text(text) | Self::Word(text) => Ok(text.clone()),
            Self::Integer(Some(number)) => Ok(number.to_string()),
            Self::Bool(value) => Ok(value.to_string()),
            Self::Integer(None) => Err("expected a string: the number is too large".into()),
            Self::List(_) | Self::Table(_) | Self::Other(_) => Err(format!(
                "expected a string, a whole number, true or false, got {}",
                self.kind()
            )),
        }
    }

    /// The value as an error message quotes it.
    pub(super) fn quoted(&self) -> String {
        match self {
            Self::Text(text) | Self::Word(text) => {
                const SHOWN: usize = 80;
                match text.char_indices().nth(SHOWN) {
                    Some((end, _)) => format!("{:?} and more", &text[..end]),
                    None => format!("{text:?}"),
                }
            }
            Self::Integer(Some(number)) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            _ => self.kind().into(),
        }
    }

    /// What the value is, without saying it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Word(_) => "a string",
            Self::Integer(Some(_)) => "a whole number",
            Self::Integer(None) => "a number too large to read",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

impl ValueKind {
    /// Puts the value in its place, or says in one sentence what was expected.
    pub(super) fn assign(&self, settings: &mut Settings, raw: &Raw) -> Result<(), String> {
        let refuse = || Err(format!("expected {}, got {}", self.expects(), raw.quoted()));
        match self {
            Self::Addresses(place) => match addresses(raw) {
                Some(list) => *place(settings) = list,
                None => return refuse(),
            },
            Self::AddressOrOff(place) => match raw.text().map(str::trim) {
                Some("off") => *place(settings) = None,
                Some(text) if Address::parse(text).is_some() => {
                    *place(settings) = Some(text.into());
                }
                _ => return refuse(),
            },
            Self::Servers(place) => *place(settings) = servers(raw)?,
            Self::Millis(place, range) => match within(raw.number(), *range) {
                Some(ms) => *place(settings) = Duration::from_millis(ms),
                None => return refuse(),
            },
            Self::Seconds(place, range) => match within(raw.number(), *range) {
                Some(seconds) => *place(settings) = Duration::from_secs(seconds),
                None => return refuse(),
            },
            Self::Size(place, range) => match within(size(raw), *range).map(usize::try_from) {
                Some(Ok(bytes)) => *place(settings) = bytes,
                _ => return refuse(),
            },
            Self::Total(place, range) => match within(size(raw), *range) {
                Some(bytes) => *place(settings) = bytes,
                None => return refuse(),
            },
            Self::Count(place, range) => match within(raw.number(), *range).map(usize::try_from) {
                Some(Ok(count)) => *place(settings) = count,
                _ => return refuse(),
            },
            Self::Rate(place, range) => match within(raw.number(), *range).map(u32::try_from) {
                Some(Ok(rate)) => *place(settings) = rate,
                _ => return refuse(),
            },
            Self::Switch(place) => match raw.switch() {
                Some(value) => *place(settings) = value,
                None => return refuse(),
            },
            Self::Maybe(place) => match raw.switch() {
                Some(value) => *place(settings) = Some(value),
                None => return refuse(),
            },
            Self::Filter(place) => match raw.text() {
                Some(text) => *place(settings) = filter(text)?,
                None => return refuse(),
            },
            Self::Auth(place) => match named(raw, &AuthMode::NAMES) {
                Some(mode) => *place(settings) = mode,
                None => return refuse(),
            },
            Self::Identity(place) => match named(raw, &KafkaIdentity::NAMES) {
                Some(identity) => *place(settings) = identity,
                None => return refuse(),
            },
            Self::Engine(place) => match named(raw, &GroupEngine::NAMES) {
                Some(engine) => *place(settings) = engine,
                None => return refuse(),
            },
            Self::Format(place) => match named(raw, &LogFormat::NAMES) {
                Some(format) => *place(settings) = format,
                None => return refuse(),
            },
            Self::Headers(place) => match named(raw, &HeaderForm::NAMES) {
                Some(form) => *place(settings) = form,
                None => return refuse(),
            },
            Self::Schema(place) => *place(settings) = SchemaMode::read(raw)?,
            Self::Audit(place) => match raw.text().map(str::trim) {
                Some("off") => *place(settings) = AuditTo::Off,
                Some("stderr") => *place(settings) = AuditTo::Stderr,
                Some(path) if !path.is_empty() => *place(settings) = AuditTo::File(path.into()),
                _ => return refuse(),
            },
            Self::Path(place) => match raw.text() {
                Some(path) if !path.is_empty() => *place(settings) = Some(PathBuf::from(path)),
                _ => return refuse(),
            },
            Self::Template(place) => match raw.text().and_then(item_types::topic_template) {
                Some(text) => *place(settings) = text,
                None => return refuse(),
            },
            Self::Url(place) => match raw.text().and_then(item_types::url) {
                Some(url) => *place(settings) = Some(url),
                None => return refuse(),
            },
            Self::Name(place) => match raw.text().and_then(item_types::name) {
                Some(name) => *place(settings) = Some(name),
                None => return refuse(),
            },
            Self::Claim(place) => match raw.text().and_then(item_types::claim) {
                Some(claim) => *place(settings) = Some(claim),
                None => return refuse(),
            },
            Self::Strings(place, item) => *place(settings) = strings(raw, item)?,
            // These are not assigned as a whole: their entries merge one by one.
            Self::Properties(_) | Self::Roles(_) => return refuse(),
            // Read field by field, as each has a place and an error of its own.
            Self::Issuers(_)
            | Self::TopicFilters(_)
            | Self::KeyedTopics(_)
            | Self::TopicSchemas(_) => return refuse(),
        }
        Ok(())
    }

    /// Puts one entry into a table that takes any name, or says in one sentence what was expected.
    pub(super) fn insert(
        &self,
        settings: &mut Settings,
        name: &str,
        raw: &Raw,
    ) -> Result<(), String> {
        match self {
            Self::Properties(place) => {
                let value = raw.property()?;
                place(settings).insert(name.to_owned(), value);
                Ok(())
            }
            Self::Roles(place) => {
                let permissions = permissions(raw)?;
                place(settings).insert(name.to_owned(), permissions);
                Ok(())
            }
            _ => Err(format!("expected {}, got a table", self.expects())),
        }
    }

    /// The value as TOML; `None` when it is unset or a table that takes any name.
    pub(super) fn to_toml(&self, settings: &mut Settings) -> Option<String> {
        Some(match self {
            Self::Addresses(place) => match place(settings).as_slice() {
                [one] => quote(one),
                several => list_to_toml(several),
            },
            Self::AddressOrOff(place) => quote(place(settings).as_deref().unwrap_or("off")),
            Self::Servers(place) | Self::Filter(place) => quote(place(settings)),
            Self::Millis(place, _) => place(settings).as_millis().to_string(),
            Self::Seconds(place, _) => place(settings).as_secs().to_string(),
            Self::Size(place, _) => size_to_toml(*place(settings) as u64),
            Self::Total(place, _) => size_to_toml(*place(settings)),
            Self::Count(place, _) => place(settings).to_string(),
            Self::Rate(place, _) => place(settings).to_string(),
            Self::Switch(place) => place(settings).to_string(),
            Self::Maybe(place) => place(settings).as_ref()?.to_string(),
            Self::Auth(place) => quote(name_of(*place(settings), &AuthMode::NAMES)?),
            Self::Identity(place) => quote(name_of(*place(settings), &KafkaIdentity::NAMES)?),
            Self::Engine(place) => quote(name_of(*place(settings), &GroupEngine::NAMES)?),
            Self::Format(place) => quote(name_of(*place(settings), &LogFormat::NAMES)?),
            Self::Headers(place) => quote(name_of(*place(settings), &HeaderForm::NAMES)?),
            Self::Schema(place) => quote(name_of(*place(settings), &SchemaMode::NAMES)?),
            Self::Audit(place) => match place(settings) {
                AuditTo::Off => quote("off"),
                AuditTo::Stderr => quote("stderr"),
                AuditTo::File(path) => quote(&path.to_string_lossy()),
            },
            Self::Path(place) => quote(&place(settings).as_ref()?.to_string_lossy()),
            Self::Template(place) => quote(place(settings)),
            Self::Claim(place) | Self::Url(place) | Self::Name(place) => {
                quote(place(settings).as_ref()?)
            }
            Self::Strings(place, _) => list_to_toml(place(settings)),
            Self::Issuers(place) => match place(settings).as_slice() {
                [] => return None,
                list => issuers::to_toml(list),
            },
            Self::TopicFilters(place) => match place(settings).as_slice() {
                [] => return None,
                list => topics::filters_to_toml(list),
            },
            Self::KeyedTopics(place) => match place(settings).as_slice() {
                [] => return None,
                list => topics::keyed_to_toml(list),
            },
            Self::TopicSchemas(place) => match place(settings).as_slice() {
                [] => return None,
                list => topic_schemas::to_toml(list),
            },
            Self::Properties(_) | Self::Roles(_) => return None,
        })
    }

    /// What the key takes, for messages and the reference.
    pub(super) fn expects(&self) -> String {
        match self {
            Self::Addresses(_) => "host:port or a list of them".into(),
            Self::AddressOrOff(_) => "host:port or \"off\"".into(),
            Self::Servers(_) => "host:port,host:port".into(),
            Self::Millis(_, (low, high)) => format!("whole milliseconds from {low} to {high}"),
            Self::Seconds(_, (low, high)) => format!("whole seconds from {low} to {high}"),
            Self::Size(_, (low, high)) | Self::Total(_, (low, high)) => format!(
                "a size such as 8388608 or \"8 MiB\", from {} to {}",
                size_to_text(*low),
                size_to_text(*high)
            ),
            Self::Count(_, (low, high)) | Self::Rate(_, (low, high)) => {
                format!("a whole number from {low} to {high}")
            }
            Self::Switch(_) | Self::Maybe(_) => "true or false".into(),
            Self::Filter(_) => "a log level or filter".into(),
            Self::Auth(_) => names(&AuthMode::NAMES),
            Self::Identity(_) => names(&KafkaIdentity::NAMES),
            Self::Engine(_) => names(&GroupEngine::NAMES),
            Self::Format(_) => names(&LogFormat::NAMES),
            Self::Headers(_) => names(&HeaderForm::NAMES),
            Self::Schema(_) => SchemaMode::EXPECTS.into(),
            Self::Properties(_) => "a table of librdkafka properties".into(),
            Self::Audit(_) => "\"off\", \"stderr\" or a path".into(),
            Self::Path(_) => "a path".into(),
            Self::Template(_) => "the name of a topic, which may hold {topic}".into(),
            Self::Url(_) => {
                "http:// or https:// and a host, with a port or a path where needed".into()
            }
            Self::Name(_) => "letters, digits, '.', '_' and '-', at most 64 of them".into(),
            Self::Claim(_) => "a claim, or a path of them with dots".into(),
            Self::Strings(_, item) => item.expects.into(),
            Self::Roles(_) => "a table of lists of permissions".into(),
            Self::Issuers(_)
            | Self::TopicFilters(_)
            | Self::KeyedTopics(_)
            | Self::TopicSchemas(_) => tables::EXPECTS.into(),
        }
    }
}

fn within(number: Option<u64>, (low, high): Range) -> Option<u64> {
    number.filter(|number| (low..=high).contains(number))
}

fn addresses(raw: &Raw) -> Option<Vec<String>> {
    let parts: Vec<&str> = match raw {
        Raw::Text(text) => vec![text],
        // A variable has no other way to give several.
        Raw::Word(text) => text.split(',').collect(),
        Raw::List(list) => list.iter().map(Raw::text).collect::<Option<_>>()?,
        _ => return None,
    };
    let parts: Vec<String> = parts.iter().map(|part| part.trim().to_owned()).collect();
    let sound = !parts.is_empty() && parts.iter().all(|part| Address::parse(part).is_some());
    sound.then_some(parts)
}

/// One string or several, each held to what the item says; everything that is wrong with any of them.
fn strings(raw: &Raw, item: &Item) -> Result<Vec<String>, String> {
    let opened = raw.opened();
    let parts: Vec<&str> = match &*opened {
        Raw::Word(text) if text.trim().is_empty() => Vec::new(),
        // A variable has a short way to give several.
        Raw::Word(text) => text.split(',').collect(),
        other => match texts(other) {
            Some(parts) => parts,
            None => return Err(format!("expected {}, got {}", item.expects, raw.quoted())),
        },
    };
    let mut kept = Vec::new();
    let mut problems = Vec::new();
    for part in parts.into_iter().map(str::trim) {
        match (item.read)(part) {
            Ok(text) => kept.push(text),
            Err(problem) => {
                let part = Raw::Text(part.to_owned()).quoted();
                problems.push(format!("{part} ({problem})"));
            }
        }
    }
    match problems.is_empty() {
        true => Ok(kept),
        false => {
            let problems = problems.join(", ");
            Err(format!("expected {}, got {problems}", item.expects))
        }
    }
}

/// The strings of a list; one string is a list of one.
fn texts(raw: &Raw) -> Option<Vec<&str>> {
    match raw {
        Raw::List(list) => list.iter().map(Raw::text).collect(),
        other => Some(vec![other.text()?]),
    }
}

/// Permissions of a role or an issuer: a list, or a string with spaces between them, as in a token's scope.
pub(super) fn permissions(raw: &Raw) -> Result<Vec<String>, String> {
    let opened = raw.opened();
    let parts: Vec<&str> = match &*opened {
        Raw::Text(text) | Raw::Word(text) => text.split_whitespace().collect(),
        other => texts(other)
            .ok_or_else(|| format!("expected a list of permissions, got {}", other.kind()))?,
    };
    let problem = |part: &&str| {
        let problem = match read_permission(part) {
            Ok((_, pattern)) => unknown_place(pattern)?,
            Err(error) => error.to_string(),
        };
        let part = Raw::Text((*part).to_owned()).quoted();
        Some(format!("{problem}, got {part}"))
    };
    let problems: Vec<_> = parts.iter().filter_map(problem).collect();
    match problems.is_empty() {
        true => Ok(parts.into_iter().map(str::to_owned).collect()),
        false => Err(problems.join("; ")),
    }
}

/// What is wrong with a place in braces that nothing fills in: it would be taken to the letter, and
/// match nothing that anyone means.
fn unknown_place(pattern: &str) -> Option<String> {
    const EXPECTED: &str = "expected no braces but those of {sub} and {iss}";
    let rest = pattern.replace("{sub}", "").replace("{iss}", "");
    rest.contains(['{', '}']).then(|| EXPECTED.to_owned())
}

fn servers(raw: &Raw) -> Result<String, String> {
    const EXPECTED: &str = "expected host:port, several separated by commas";
    let parts: Vec<&str> = match raw {
        Raw::Text(text) | Raw::Word(text) => text.split(',').collect(),
        Raw::List(list) => match list.iter().map(Raw::text).collect::<Option<_>>() {
            Some(parts) => parts,
            None => return Err(format!("{EXPECTED}, got {}", raw.quoted())),
        },
        _ => return Err(format!("{EXPECTED}, got {}", raw.quoted())),
    };
    let parts: Vec<&str> = parts.into_iter().map(str::trim).collect();
    // Wholly empty is a meaning of its own; an empty part among others is a slip.
    if parts.is_empty() || parts == [""] {
        return Ok(String::new());
    }
    for part in &parts {
        if part.contains("://") {
            return Err(format!(
                "{EXPECTED}, got {part:?}: leave the protocol out and set kafka.properties.security.protocol"
            ));
        }
        if Address::parse(part).is_none_or(|address| address.port == 0) {
            return Err(format!("{EXPECTED}, got {part:?}"));
        }
    }
    Ok(parts.join(","))
}

/// Checks a log filter as strictly as `tracing` itself, and more: a bare word that is no level would
/// be taken as a module's name and hide everything else.
fn filter(text: &str) -> Result<String, String> {
    const EXPECTED: &str = "expected error, warn, info, debug, trace or off, or a filter such as \"tidegate=debug,info\"";
    let levels = ["error", "warn", "info", "debug", "trace", "off"];
    let text = text.trim();
    let is_level = |word: &str| levels.iter().any(|level| word.eq_ignore_ascii_case(level));
    let is_stray = |word: &&str| !word.contains(['=', '[']) && !is_level(word);
    if let Some(word) = text.split(',').map(str::trim).find(is_stray) {
        return Err(format!("{EXPECTED}, got {word:?}"));
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{EXPECTED}, got {text:?}: {error}")),
    }
}

fn named<T: Copy>(raw: &Raw, names: &[(&str, T)]) -> Option<T> {
    let text = raw.text()?.trim();
    let found = names.iter().find(|(name, _)| *name == text)?;
    Some(found.1)
}

pub(super) fn name_of<T: Copy + PartialEq>(
    value: T,
    names: &[(&'static str, T)],
) -> Option<&'static str> {
    let found = names.iter().find(|(_, named)| *named == value)?;
    Some(found.0)
}

fn names<T>(names: &[(&str, T)]) -> String {
    let quoted: Vec<_> = names.iter().map(|(name, _)| quote(name)).collect();
    quoted.join(" or ")
}

const UNITS: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];
const DECIMAL_UNITS: [(&str, u64); 5] = [
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

fn size(raw: &Raw) -> Option<u64> {
    if let Some(bytes) = raw.number() {
        return Some(bytes);
    }
    let text = raw.text()?.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = match unit.trim_start() {
        "" => "B",
        unit => unit,
    };
    let (_, factor) = UNITS
        .iter()
        .chain(&DECIMAL_UNITS)
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn exact_unit(bytes: u64) -> Option<String> {
    let (name, factor) = UNITS
        .iter()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))?;
    Some(format!("{} {name}", bytes / factor))
}

/// "8 MiB", or "1000 B" where no larger unit divides it.
pub(super) fn size_to_text(bytes: u64) -> String {
    exact_unit(bytes).unwrap_or_else(|| format!("{bytes} B"))
}

fn size_to_toml(bytes: u64) -> String {
    exact_unit(bytes).map_or_else(|| bytes.to_string(), |text| quote(&text))
}

/// A list of strings as TOML writes it.
pub(super) fn list_to_toml(list: &[impl AsRef<str>]) -> String {
    let quoted: Vec<_> = list.iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

/// A string as TOML writes it.
pub fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}
