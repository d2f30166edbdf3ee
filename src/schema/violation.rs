//! What is wrong with a key or value, in words of bounded length: where, what was expected, what was found.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;

use super::Part;

/// Most things that are told of one key or value.
const MOST_TOLD: usize = 3;
/// Most characters of the JSON Pointer of one of them.
const MAX_POINTER: usize = 200;
/// Most characters of what was expected, and of a name in it.
const MAX_EXPECTED: usize = 120;
/// Most characters of a text that was found.
const MAX_FOUND: usize = 40;

/// What is wrong with a record's key or value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The JSON Pointer from the record on: `/value/price`.
    pub(crate) field: String,
    pub(crate) message: String,
}

/// One thing that is wrong, and the JSON Pointer to it.
pub(super) type Found = (String, String);

impl Violation {
    pub(super) fn new(part: Part, pointer: String, message: String) -> Self {
        Self {
            field: format!("/{}{pointer}", part.name()),
            message,
        }
    }

    /// The `part` of a record cannot be looked at as JSON.
    pub(super) fn not_json(schema: &str, part: Part, error: &serde_json::Error) -> Self {
        let name = part.name();
        let hint = match part {
            Part::Key => " A key that is a text must be a JSON string, in quotes.",
            Part::Value => "",
        };
        let error = bounded(&error.to_string(), MAX_EXPECTED);
        let message = format!(
            "The {name} is to be checked by {schema} and is not JSON that can be: {error}.{hint}"
        );
        Self::new(part, String::new(), message)
    }

    /// The `part` of a record is not valid by the schema.
    pub(super) fn of(schema: &str, part: Part, found: Vec<Found>) -> Self {
        let name = part.name();
        let mut message = format!("The {name} is not valid by {schema}: ");
        let count = found.len();
        let pointer = found.first().map_or_else(String::new, |(at, _)| at.clone());
        for (nth, (at, problem)) in found.into_iter().take(MOST_TOLD).enumerate() {
            if nth > 0 {
                message.push_str("; ");
            }
            if !at.is_empty() {
                message.push_str(&format!("at {at} "));
            }
            message.push_str(&problem);
        }
        match count.saturating_sub(MOST_TOLD) {
            0 => message.push('.'),
            more => message.push_str(&format!("; and {more} more.")),
        }
        Self::new(part, pointer, message)
    }
}

/// The JSON Pointer and what is wrong there.
pub(super) fn describe(error: &ValidationError<'_>) -> Found {
    let instance = error.instance();
    let expected = bounded(&expected(error), MAX_EXPECTED);
    let found = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => names(unexpected),
        _ => found(instance),
    };
    let problem = format!("expected {expected}, found {found}");
    (pointer(error.instance_path().as_str()), problem)
}

/// The pointer, or that of what is around it where it is too long.
fn pointer(whole: &str) -> String {
    if whole.len() <= MAX_POINTER {
        return whole.to_owned();
    }
    let cut = whole
        .char_indices()
        .take_while(|(at, _)| *at <= MAX_POINTER)
        .filter(|(_, c)| *c == '/')
        .last();
    cut.map_or_else(String::new, |(at, _)| whole[..at].to_owned())
}

fn expected(error: &ValidationError<'_>) -> String {
    use ValidationErrorKind as Kind;
    match error.kind() {
        Kind::Type { kind } => match kind {
            TypeKind::Single(one) => one.to_string(),
            TypeKind::Multiple(several) => {
                let several: Vec<_> = several.iter().map(|one| one.to_string()).collect();
                several.join(" or ")
            }
        },
        Kind::Required { property } => format!("the field {property}"),
        Kind::AdditionalProperties { .. } | Kind::UnevaluatedProperties { .. } => {
            "no fields but those of the schema".to_owned()
        }
        Kind::AdditionalItems { limit } => format!("at most {limit} items"),
        Kind::UnevaluatedItems { .. } => "no items but those of the schema".to_owned(),
        Kind::Constant { expected_value } => expected_value.to_string(),
        Kind::Enum { options } => format!("one of {options}"),
        Kind::Minimum { limit } => format!("at least {limit}"),
        Kind::Maximum { limit } => format!("at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("at least {limit} characters"),
        Kind::MaxLength { limit } => format!("at most {limit} characters"),
        Kind::MinItems { limit } => format!("at least {limit} items"),
        Kind::MaxItems { limit } => format!("at most {limit} items"),
        Kind::MinProperties { limit } => format!("at least {limit} fields"),
        Kind::MaxProperties { limit } => format!("at most {limit} fields"),
        Kind::Pattern { pattern } => format!("a text of the pattern {pattern}"),
        Kind::Format { format } => format!("a text of the format {format}"),
        Kind::UniqueItems => "items of which no two are the same".to_owned(),
        Kind::Contains => "the items that contains asks for".to_owned(),
        Kind::FalseSchema => "nothing here".to_owned(),
        Kind::Not { .. } => "none of what is under not".to_owned(),
        Kind::AnyOf { .. } => "one of the kinds that are under anyOf".to_owned(),
        Kind::OneOfNotValid { .. } => "one of the kinds that are under oneOf".to_owned(),
        Kind::OneOfMultipleValid { .. } => {
            "only one of the kinds that are under oneOf, and it is of several".to_owned()
        }
        Kind::PropertyNames { error } => {
            let name = error.instance();
            format!(
                "other names of fields than {}: {}",
                found(name),
                expected(error)
            )
        }
        // Each of them says what is wrong, but not what was expected.
        other => format!("what {} asks for", other.keyword()),
    }
}

fn found(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => bounded(&value.to_string(), MAX_FOUND),
        Value::String(text) => format!("{:?}", bounded(text, MAX_FOUND)),
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(fields) if fields.is_empty() => "an empty object".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn names(names: &[String]) -> String {
    let shown = names.iter().take(MOST_TOLD);
    let shown: Vec<_> = shown
        .map(|name| format!("{:?}", bounded(name, MAX_FOUND)))
        .collect();
    let more = match names.len().saturating_sub(MOST_TOLD) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}

/// The text, or its beginning where it is longer.
pub(super) fn bounded(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
