//! Schemas of topics, and whether the keys and values that are to be written are valid by them.
//!
//! - `policy.rs`: what the settings say of a topic's keys and values
//! - `folder.rs`: the files of schemas, read again when they change
//! - `json.rs`: JSON Schema; `checked_json.rs` reads what is checked by one, `violation.rs` says what is wrong
//!   with it
//!
//! ```text
//! Schemas::of("orders") --> what is asked of its keys and values, as it is now, for a whole batch
//!                                |
//!        record ------------> fault_in --> nothing, or what is wrong with it
//! ```
//!
//! To check asks nobody and waits for nothing.

mod checked_json;
pub(crate) mod folder;
mod json;
mod policy;
mod violation;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use metrics::{Counter, counter};
use parking_lot::RwLock;

use crate::config::SchemaSettings;
use crate::record::ProducerRecord;
use folder::{Changes, Folder};
use json::JsonSchema;
use policy::{Asked, Policy};
pub(crate) use violation::Violation;

/// The parts of a record that have schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Key,
    Value,
}

impl Part {
    pub(crate) const BOTH: [Self; 2] = [Self::Key, Self::Value];

    /// Its name in files, messages and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Value => "value",
        }
    }
}

/// A schema that is ready to check by.
#[derive(Debug)]
pub(crate) struct Schema {
    /// What people know it by: the name of its file.
    name: String,
    form: Form,
}

/// The kinds of schemas.
#[derive(Debug)]
enum Form {
    Json(JsonSchema),
}

impl Schema {
    /// Whether `bytes` are valid.
    fn accepts(&self, bytes: &[u8]) -> bool {
        match &self.form {
            Form::Json(schema) => schema.accepts(bytes),
        }
    }

    /// What is wrong with `bytes`, which are the `part` of a record.
    fn violation_in(&self, part: Part, bytes: &[u8]) -> Option<Violation> {
        match &self.form {
            Form::Json(schema) => schema.violation_in(&self.name, part, bytes),
        }
    }
}

/// What is asked of a topic's keys or of its values.
#[derive(Debug, Clone)]
enum Demand {
    /// They are valid by this schema.
    ValidBy(Arc<Schema>),
    /// There are none, as the schema that they must be valid by is missing.
    NoSchema,
    /// There are none, as the file of the schema cannot be used, and never could since it is there.
    Unusable,
}

/// What is asked of a topic's keys and values.
#[derive(Debug)]
pub(crate) struct TopicSchemas<'a> {
    topic: &'a str,
    key: Option<Demand>,
    value: Option<Demand>,
}

impl TopicSchemas<'_> {
    fn demands<'a>(
        &'a self,
        record: &'a ProducerRecord,
    ) -> impl Iterator<Item = (Part, &'a Demand, &'a [u8])> {
        // Null is no key, or a deletion: there is nothing to be valid.
        let key = self.key.as_ref().zip(record.key.as_deref());
        let value = self.value.as_ref().zip(record.value.as_deref());
        let key = key.map(|(demand, bytes)| (Part::Key, demand, bytes));
        key.into_iter()
            .chain(value.map(|(demand, bytes)| (Part::Value, demand, bytes)))
    }

    /// Whether nothing is wrong with the record.
    pub(crate) fn accepts(&self, record: &ProducerRecord, tally: &mut Tally) -> bool {
        let mut accepted = true;
        for (part, demand, bytes) in self.demands(record) {
            let result = match demand {
                Demand::ValidBy(schema) if schema.accepts(bytes) => CheckResult::Valid,
                Demand::ValidBy(_) => CheckResult::Invalid,
                Demand::NoSchema | Demand::Unusable => CheckResult::NoSchema,
            };
            tally.add(part, result);
            accepted &= result == CheckResult::Valid;
        }
        accepted
    }

    /// What is wrong with a record that is not accepted.
    pub(crate) fn violation_in(&self, record: &ProducerRecord) -> Option<Violation> {
        self.demands(record).find_map(|(part, demand, bytes)| {
            let (topic, name) = (self.topic, part.name());
            let file = folder::file_of(topic, part);
            let no_schema = |message| Some(Violation::new(part, String::new(), message));
            match demand {
                Demand::ValidBy(schema) => schema.violation_in(part, bytes),
                Demand::NoSchema => no_schema(format!(
                    "The {name}s of topic {topic} are to be checked, and there is no \
                     schema for them: {file} is missing in schema.folder."
                )),
                Demand::Unusable => no_schema(format!(
                    "The {name}s of topic {topic} are to be checked, and {file} in \
                     schema.folder is no valid schema; the gateway's log says why."
                )),
            }
        })
    }
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CheckResult {
    Valid,
    Invalid,
    NoSchema,
}

impl CheckResult {
    const NAMES: [&'static str; 3] = ["valid", "invalid", "no_schema"];
}

/// How many checks of a batch came to what: by part, then by result.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally([[u64; 3]; 2]);

impl Tally {
    fn add(&mut self, part: Part, result: CheckResult) {
        self.0[part as usize][result as usize] += 1;
    }
}

/// The schemas of all topics.
#[derive(Debug)]
pub(crate) struct Schemas {
    policy: Policy,
    path: PathBuf,
    folder: RwLock<Arc<Folder>>,
    /// `schema_checks_total`, as a [`Tally`] has it.
    checks: [[Counter; 3]; 2],
}

/// Everything that is wrong with the folder that `settings` name, as at start.
pub(crate) fn problems(settings: &SchemaSettings) -> Vec<String> {
    let folder = settings.folder.as_deref();
    folder.map_or_else(Vec::new, |path| {
        Folder::read(path).err().unwrap_or_default()
    })
}

impl Schemas {
    /// Reads the folder; `None` when the settings name none. Blocking, since files are.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with its files.
    pub(crate) fn load(settings: &SchemaSettings) -> Result<Option<Self>, Vec<String>> {
        let Some(path) = &settings.folder else {
            return Ok(None);
        };
        let folder = Folder::read(path)?;
        tracing::info!(
            folder = %path.display(),
            topics = folder.topics().len(),
            "the schemas were read"
        );
        let count = |part: Part| {
            CheckResult::NAMES.map(
                |result| counter!("schema_checks_total", "part" => part.name(), "result" => result),
            )
        };
        Ok(Some(Self {
            policy: Policy::new(settings),
            path: path.clone(),
            folder: RwLock::new(Arc::new(folder)),
            checks: Part::BOTH.map(count),
        }))
    }

    /// What is asked of the keys and values of `topic`; `None` when nothing is.
    pub(crate) fn of<'a>(&self, topic: &'a str) -> Option<TopicSchemas<'a>> {
        let asked = self.policy.of(topic);
        if asked == (Asked::Nothing, Asked::Nothing) {
            return None;
        }
        let folder = Arc::clone(&self.folder.read());
        let (key, value) = asked;
        let demand = |part, asked| {
            let found = match asked {
                Asked::Nothing => return None,
                Asked::ValidIfPresent | Asked::Valid => folder.schema(topic, part),
            };
            match (found, asked) {
                (Some(Ok(schema)), _) => Some(Demand::ValidBy(Arc::clone(schema))),
                (Some(Err(_)), _) => Some(Demand::Unusable),
                (None, Asked::Valid) => Some(Demand::NoSchema),
                (None, _) => None,
            }
        };
        let schemas = TopicSchemas {
            topic,
            key: demand(Part::Key, key),
            value: demand(Part::Value, value),
        };
        (schemas.key.is_some() || schemas.value.is_some()).then_some(schemas)
    }

    /// Takes the checks of a batch into the metrics.
    pub(crate) fn count(&self, tally: Tally) {
        let counted = self.checks.iter().flatten().zip(tally.0.iter().flatten());
        for (counter, count) in counted.filter(|(_, count)| **count > 0) {
            counter.increment(*count);
        }
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the folder again. Files that cannot be used keep what they were. Blocking, since files are.
    pub(crate) fn reload(&self) -> Changes {
        let before = Arc::clone(&self.folder.read());
        let (folder, changes) = before.read_again(&self.path);
        *self.folder.write() = Arc::new(folder);
        changes
    }
}

#[cfg(test)]
mod tests;
