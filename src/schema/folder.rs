//! The folder of schemas: `orders-value.json` is the schema of the values of the topic `orders`,
//! `orders-key.json` that of its keys, and what other `.json` files hold is there to be referred to. A
//! reference is the name of a file, or its `$id`; nothing outside of the folder is ever looked at.
//!
//! At start every file must be a valid schema. When it is read again, a file that is none keeps its last
//! valid version, and the others go on without it; what never was valid lets nothing through.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::json::{Documents, JsonSchema, without_fragment};
use super::{Form, Part, Schema, checked_json};
use crate::config::read_file;

/// Most files.
const MOST_FILES: usize = 10_000;
/// Most bytes of one.
const MOST_BYTES: u64 = 1 << 20;
/// What stands in the address of a file as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The file with the schema of the `part` of the records of `topic`.
pub(super) fn file_of(topic: &str, part: Part) -> String {
    format!("{topic}-{}.json", part.name())
}

/// The files of schemas in the folder, in order: those that end in `.json` and are not hidden.
///
/// # Errors
///
/// The folder cannot be read, or has too many.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let refuse = |error: std::io::Error| format!("{} cannot be read: {error}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(refuse)? {
        let name = entry.map_err(refuse)?.file_name();
        let is_one = |name: &str| name.ends_with(".json") && !name.starts_with('.');
        if name.to_str().is_some_and(is_one) {
            files.push(folder.join(name));
        }
        if files.len() > MOST_FILES {
            let folder = folder.display();
            return Err(format!("{folder} has more than {MOST_FILES} .json files"));
        }
    }
    files.sort();
    Ok(files)
}

/// What a file holds.
type Read = Result<Arc<Value>, String>;

/// What files hold, by their names.
type Sources = BTreeMap<String, Arc<Value>>;

/// Reads every file, by its name.
fn read_all(folder: &Path) -> Result<BTreeMap<String, Read>, String> {
    let read = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        let bytes = match read_file(path, MOST_BYTES) {
            Ok(bytes) => bytes,
            Err(problem) => return Some((name, Err(problem))),
        };
        let document = checked_json::parse(&bytes)
            .map(Arc::new)
            .map_err(|error| format!("{}: not valid JSON: {error}", path.display()));
        Some((name, document))
    };
    Ok(list(folder)?.iter().filter_map(read).collect())
}

/// What is known of one file.
#[derive(Debug, Clone)]
struct File {
    /// What its last valid version says.
    document: Option<Arc<Value>>,
    /// The same as a schema, or why there is none.
    schema: Result<Arc<Schema>, String>,
}

/// The files as they were read last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Folder {
    files: BTreeMap<String, File>,
}

/// What has become of the files since they were read before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The files that are new, or say something else.
    pub(crate) taken: Vec<String>,
    /// The files that are not there any more.
    pub(crate) gone: Vec<String>,
    /// What is wrong with the files that cannot be used as they are.
    pub(crate) problems: Vec<String>,
}

impl Folder {
    /// Reads the folder at start.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with any file, each with its path.
    pub(super) fn read(path: &Path) -> Result<Self, Vec<String>> {
        let (folder, changes) = Self::default().read_again(path);
        match changes.problems.is_empty() {
            true => Ok(folder),
            false => Err(changes.problems),
        }
    }

    /// The topics that have a schema.
    pub(super) fn topics(&self) -> BTreeSet<&str> {
        let topic = |file: &'_ String| {
            let suffixes = Part::BOTH.map(|part| file_of("", part));
            let suffix = suffixes.iter().find(|suffix| file.ends_with(*suffix))?;
            Some(file.len() - suffix.len()).filter(|length| *length > 0)
        };
        let files = self.files.keys();
        files.filter_map(|file| file.get(..topic(file)?)).collect()
    }

    /// The schema of the `part` of the records of `topic`, or why it cannot be used; `None` when there is
    /// no file.
    pub(super) fn schema(&self, topic: &str, part: Part) -> Option<Result<&Arc<Schema>, &str>> {
        let file = self.files.get(&file_of(topic, part))?;
        Some(file.schema.as_ref().map_err(String::as_str))
    }

    /// The files as they are now; those that cannot be used are as they are here.
    pub(super) fn read_again(&self, path: &Path) -> (Self, Changes) {
        let read = match read_all(path) {
            Ok(read) => read,
            Err(problem) => {
                let changes = Changes {
                    problems: vec![problem],
                    ..Changes::default()
                };
                return (self.clone(), changes);
            }
        };
        let names: Vec<String> = read.keys().cloned().collect();
        let mut problems = BTreeMap::new();
        let mut documents = Sources::new();
        for (name, read) in read {
            match read {
                Ok(document) => drop(documents.insert(name, document)),
                Err(problem) => {
                    self.put_back(&mut documents, &name);
                    problems.insert(name, problem);
                }
            }
        }
        let in_folder = |(name, problem): (String, String)| {
            let problem = format!("{}: {problem}", path.join(&name).display());
            (name, problem)
        };
        let put_back = self.put_back_invalid(&mut documents);
        problems.extend(put_back.into_iter().map(in_folder));

        let compiler = Compiler::new(&documents);
        let mut changes = Changes::default();
        let mut files = BTreeMap::new();
        for name in names {
            let document = documents.get(&name).cloned();
            let file = match document.is_some().then(|| compiler.schema(&name)) {
                Some(Ok(schema)) => {
                    if document.as_ref() != self.document(&name) {
                        changes.taken.push(name.clone());
                    }
                    let schema = Ok(Arc::new(schema));
                    File { document, schema }
                }
                failed => {
                    // It is what it was, and not valid any more, as something else has changed.
                    if let Some(Err(problem)) = failed {
                        let (name, problem) = in_folder((name.clone(), problem));
                        problems.entry(name).or_insert(problem);
                    }
                    self.files.get(&name).cloned().unwrap_or_else(|| File {
                        document: None,
                        schema: Err(problems.get(&name).cloned().unwrap_or_default()),
                    })
                }
            };
            files.insert(name, file);
        }
        let is_gone = |name: &&String| !files.contains_key(*name);
        changes.gone = self.files.keys().filter(is_gone).cloned().collect();
        changes.problems = problems.into_values().collect();
        (Self { files }, changes)
    }

    /// What the last valid version of the file says.
    fn document(&self, name: &str) -> Option<&Arc<Value>> {
        self.files.get(name)?.document.as_ref()
    }

    /// Has the file say what it did when it was valid, or nothing.
    fn put_back(&self, documents: &mut Sources, name: &str) {
        match self.document(name) {
            Some(document) => drop(documents.insert(name.to_owned(), Arc::clone(document))),
            None => drop(documents.remove(name)),
        }
    }

    /// Puts back the documents that are new and no valid schemas, and says of each what is wrong with it.
    /// One that is invalid only because it refers to such a one is looked at again with what that was.
    fn put_back_invalid(&self, documents: &mut Sources) -> Vec<(String, String)> {
        let mut put_back = Vec::new();
        loop {
            let compiler = Compiler::new(documents);
            let is_new = |name: &&String| documents.get(*name) != self.document(name);
            let problem = |name: &String| Some((name.clone(), compiler.schema(name).err()?));
            let failing: Vec<_> = documents
                .keys()
                .filter(is_new)
                .filter_map(problem)
                .collect();
            if failing.is_empty() {
                return put_back;
            }
            let mut without = documents.clone();
            for (name, _) in &failing {
                self.put_back(&mut without, name);
            }
            let is_at_fault = |(name, _): &&(String, String)| {
                let mut alone = without.clone();
                alone.extend(
                    documents
                        .get(name)
                        .map(|own| (name.clone(), Arc::clone(own))),
                );
                Compiler::new(&alone).schema(name).is_err()
            };
            let mut at_fault: Vec<_> = failing.iter().filter(is_at_fault).cloned().collect();
            // Each by itself would do, and together they do not.
            if at_fault.is_empty() {
                at_fault = failing;
            }
            for (name, _) in &at_fault {
                self.put_back(documents, name);
            }
            put_back.append(&mut at_fault);
        }
    }
}

/// The address of the file of this name.
fn address_of(name: &str) -> String {
    format!("folder:///{}", utf8_percent_encode(name, PLAIN))
}

/// The absolute address that a document gives itself.
fn own_address(document: &Value) -> Option<&str> {
    let id = document
        .get("$id")
        .or_else(|| document.get("id"))?
        .as_str()?;
    let id = without_fragment(id);
    id.contains(':').then_some(id)
}

/// Makes schemas of documents, each of which may refer to the others.
struct Compiler<'a> {
    documents: &'a Sources,
    by_address: Documents,
    /// Documents with the address of another one.
    taken_twice: HashMap<&'a str, String>,
}

impl<'a> Compiler<'a> {
    fn new(documents: &'a Sources) -> Self {
        let mut by_address = HashMap::new();
        let mut named: HashMap<&str, &str> = HashMap::new();
        let mut taken_twice = HashMap::new();
        for (name, document) in documents {
            by_address.insert(address_of(name), Arc::clone(document));
            let Some(own) = own_address(document) else {
                continue;
            };
            if let Some(other) = named.insert(own, name) {
                let problem = format!("$id: {own} is that of {other}, too");
                taken_twice.insert(name.as_str(), problem);
            }
            by_address.insert(own.to_owned(), Arc::clone(document));
        }
        Self {
            documents,
            by_address: Documents::new(by_address),
            taken_twice,
        }
    }

    /// The schema that the document of this name is.
    ///
    /// # Errors
    ///
    /// Why it is none.
    fn schema(&self, name: &str) -> Result<Schema, String> {
        if let Some(problem) = self.taken_twice.get(name) {
            return Err(problem.clone());
        }
        let document = self.documents.get(name).ok_or("it is not there")?;
        let schema = JsonSchema::compile(document, &address_of(name), &self.by_address)?;
        Ok(Schema {
            name: name.to_owned(),
            form: Form::Json(schema),
        })
    }
}

#[cfg(test)]
mod tests;
