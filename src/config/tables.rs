//! Settings that are lists of tables, such as `[[auth.issuers]]`: what they have in common, whatever
//! one of them is made of. Everything that is wrong with any of them is told at once, each with the
//! path and place of its own field.

use super::value::Raw;

/// What such a key takes, for messages and the reference.
pub(super) const EXPECTS: &str = "a list of tables";

/// What reading the list gave.
pub(super) struct Read<T> {
    /// One for each table; to be used only when there is no problem.
    pub(super) items: Vec<T>,
    /// The path of every table and field, and where it begins.
    pub(super) places: Vec<(String, usize)>,
    /// Everything that is wrong.
    pub(super) problems: Vec<Problem>,
}

/// One thing that is wrong.
pub(super) struct Problem {
    /// The table's or field's path.
    pub(super) path: String,
    /// Where it begins.
    pub(super) at: usize,
    /// What was expected.
    pub(super) text: String,
}

impl<T> Read<T> {
    /// Takes note of a problem.
    pub(super) fn refuse(&mut self, path: &str, at: usize, text: impl Into<String>) {
        self.problems.push(Problem {
            path: path.to_owned(),
            at,
            text: text.into(),
        });
    }

    /// The table's entries and where it begins; takes note of what is none.
    pub(super) fn entries<'a>(
        &mut self,
        path: &str,
        raw: &'a Raw,
        at: usize,
    ) -> Option<(&'a [super::value::Entry], usize)> {
        let Raw::Table(entries) = raw else {
            self.refuse(path, at, format!("expected a table, got {}", raw.kind()));
            return None;
        };
        let at = entries.first().map_or(at, |entry| entry.at);
        self.places.push((path.to_owned(), at));
        Some((entries, at))
    }
}

/// Reads the list at `path`, which begins at `at`, each table by `one`. What is quoted in messages is
/// never what could be a secret in the wrong place.
pub(super) fn read<T>(
    path: &str,
    raw: &Raw,
    at: usize,
    example: &str,
    one: impl Fn(&mut Read<T>, &str, &Raw, usize),
) -> Read<T> {
    let mut read = Read {
        items: Vec::new(),
        places: Vec::new(),
        problems: Vec::new(),
    };
    match &*raw.opened() {
        Raw::List(list) => {
            for (index, item) in list.iter().enumerate() {
                one(&mut read, &format!("{path}[{index}]"), item, at);
            }
        }
        Raw::Table(_) => {
            let text = format!("expected {EXPECTS}, each under [[{path}]] with double brackets");
            read.refuse(path, at, text);
        }
        other => {
            let text = format!(
                "expected {EXPECTS}, such as [{{ {example} }}] in TOML, got {}",
                other.kind()
            );
            read.refuse(path, at, text);
        }
    }
    read
}

/// A string that is not empty.
pub(super) fn one_text(raw: &Raw) -> Result<String, String> {
    match raw.text() {
        Some(text) if !text.trim().is_empty() => Ok(text.to_owned()),
        Some(_) => Err("expected a string, got an empty one".into()),
        None => Err(format!("expected a string, got {}", raw.kind())),
    }
}

/// A pattern of topics: a name in which `*` is any run of characters. What no topic could be called
/// by would match nothing, without a word.
pub(super) fn topic_pattern(raw: &Raw) -> Result<String, String> {
    let text = one_text(raw)?;
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"._-*".contains(&byte);
    match text.bytes().all(sound) {
        true => Ok(text),
        false => Err(format!(
            "expected a topic, in which * is any run of characters, got {}",
            raw.quoted()
        )),
    }
}

/// What is said of a field that there is not; `what` has these.
pub(super) fn unknown_field(name: &str, fields: &[&str], what: &str) -> String {
    let likely = |known: &&&str| name.len() >= 3 && known.starts_with(name);
    let distance = |known: &&&str| strsim::damerau_levenshtein(name, known);
    let near = |known: &&&str| distance(known) <= known.len().div_ceil(3);
    let nearest = fields
        .iter()
        .find(likely)
        .or_else(|| fields.iter().filter(near).min_by_key(distance));
    match nearest {
        Some(known) => format!("unknown field; did you mean {known}?"),
        None => format!("unknown field; {what} has {}", fields.join(", ")),
    }
}
