//! How a frame is read, and what is said where it cannot be.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ClientFrame;
use super::produce::produce;
use crate::codec::json::deeper_than;
use crate::codec::parse;
use crate::session::protocol::Id;

/// Deepest nesting of a frame.
const MAX_DEPTH: usize = 64;
/// Longest `id`, in characters.
const MAX_ID: usize = 64;
/// Longest part of a name that an error repeats.
const SHOWN: usize = 64;

/// Why a frame was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameError {
    /// It is not one of this protocol at all: the session ends.
    Fatal(String),
    /// Its type is not known.
    UnknownType {
        /// The frame's id.
        id: Option<Id>,
        /// The type, or the beginning of it.
        kind: String,
    },
    /// A field is missing or not as expected.
    Invalid {
        /// The frame's id.
        id: Option<Id>,
        /// The subscription that it names.
        sub: Option<String>,
        /// The field, with dots between levels.
        field: Option<String>,
        /// What was expected.
        message: String,
    },
}

/// What every frame has, read first.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    sub: Option<&'a RawValue>,
}

impl ClientFrame {
    /// Reads a frame.
    ///
    /// # Errors
    ///
    /// [`FrameError`].
    pub fn parse(text: &Bytes) -> Result<Self, FrameError> {
        if deeper_than(text, MAX_DEPTH) {
            return Err(FrameError::Fatal(format!(
                "nested deeper than {MAX_DEPTH} levels"
            )));
        }
        let head: Head<'_> = match serde_json::from_slice(text) {
            Ok(head) => head,
            Err(error) => return Err(FrameError::Fatal(not_a_frame(&error))),
        };
        let Some(kind) = head.kind.and_then(parse::string) else {
            let message = "expected a JSON object with a type, which is a string";
            return Err(FrameError::Fatal(message.to_owned()));
        };
        let id = match head.id.map(read_id) {
            None => None,
            Some(Some(id)) => Some(id),
            Some(None) => {
                return Err(FrameError::Invalid {
                    id: None,
                    sub: None,
                    field: Some("id".to_owned()),
                    message: format!(
                        "id: expected an integer, or a string of at most {MAX_ID} characters"
                    ),
                });
            }
        };
        let sub = || head.sub.and_then(parse::string).map(|sub| shown(&sub));
        read(&kind, text).map_err(|error| match error {
            Wrong::Type => FrameError::UnknownType {
                id: id.clone(),
                kind: shown(&kind),
            },
            Wrong::Field(field, message) => FrameError::Invalid {
                id: id.clone(),
                sub: sub(),
                field,
                message,
            },
        })
    }
}

pub(super) enum Wrong {
    Type,
    Field(Option<String>, String),
}

fn read(kind: &str, text: &Bytes) -> Result<ClientFrame, Wrong> {
    Ok(match kind {
        "ack" => ClientFrame::Ack(fields(text)?),
        "nack" => ClientFrame::Nack(fields(text)?),
        "credit" => ClientFrame::Credit(fields(text)?),
        "extend" => ClientFrame::Extend(fields(text)?),
        "ping" => ClientFrame::Ping(fields(text)?),
        "produce" => ClientFrame::Produce(Box::new(produce(text)?)),
        "commit" => ClientFrame::Commit(fields(text)?),
        "position" => ClientFrame::Position(fields(text)?),
        "pause" => ClientFrame::Pause(fields(text)?),
        "resume" => ClientFrame::Resume(fields(text)?),
        "seek" => ClientFrame::Seek(fields(text)?),
        "subscribe" => ClientFrame::Subscribe(Box::new(fields(text)?)),
        "unsubscribe" => ClientFrame::Unsubscribe(fields(text)?),
        "hello" => ClientFrame::Hello(fields(text)?),
        "auth" => ClientFrame::Auth(fields(text)?),
        "bye" => ClientFrame::Bye(fields(text)?),
        _ => return Err(Wrong::Type),
    })
}

pub(super) fn fields<'a, T: Deserialize<'a>>(text: &'a Bytes) -> Result<T, Wrong> {
    let mut json = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let cause = bare(error.inner());
        // A missing field is said of the object that it is missing in.
        let missing = cause
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split('`').next());
        let field = match (path.as_str(), missing) {
            (".", Some(name)) => Some(name.to_owned()),
            (path, Some(name)) => Some(format!("{path}.{name}")),
            (".", None) => None,
            (path, None) => Some(path.to_owned()),
        };
        let message = match &field {
            Some(field) => format!("{field}: {cause}"),
            None => cause,
        };
        Wrong::Field(field, message)
    })
}

fn read_id(raw: &RawValue) -> Option<Id> {
    serde_json::from_str(raw.get())
        .ok()
        .filter(|id| !matches!(id, Id::Text(text) if text.chars().count() > MAX_ID))
}

fn not_a_frame(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => {
            "expected a JSON object with a type, which is a string".to_owned()
        }
        _ => format!("not JSON: {error}"),
    }
}

/// What serde says, without the place: a frame is one line.
fn bare(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text.get(..at).unwrap_or(&text).to_owned(),
        None => text,
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
