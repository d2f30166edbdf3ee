//! What the gateway takes, as exactly as a schema can say it. It is added to the assembled document here, by the names
//! of parameters and fields, so that no handler repeats it: which characters a name may have, from where to where a
//! number goes, which words a parameter takes, and that a field which is not named is refused.
//!
//! - `parameters.rs`: the parameters of paths, queries and headers
//! - `bodies.rs`: the bodies of requests
//! - `errors.rs`: the types of errors of REST v2

mod bodies;
mod errors;
mod parameters;

use serde_json::Value;
use utoipa::Number;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{
    KnownFormat, Object, OpenApi, RefOr, Schema, SchemaFormat, Type, schema::ArrayItems,
};

/// Adds it all.
pub(super) fn apply(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            parameters::constrain(operation);
            errors::complete(operation);
        }
    }
    bodies::constrain(document);
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let all = [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ];
    all.into_iter().flatten()
}

/// What a parameter or a field takes beside its type.
#[derive(Debug)]
enum Takes {
    /// The name of a topic.
    TopicName,
    /// Text that fits.
    Pattern(&'static str),
    /// Text that is not empty.
    Text,
    /// One of these.
    Words(Vec<&'static str>),
    /// A whole number from the first to the second.
    Whole(isize, isize),
}

/// The names that topics can have (`kafka::metadata::check_topic_name`): neither `.` nor `..`.
const TOPIC_NAME: &str = "^(\\.{0,2}[a-zA-Z0-9_-]|\\.{3})[a-zA-Z0-9._-]*$";
/// Longest of them.
const LONGEST_TOPIC_NAME: usize = 249;
/// Partitions, and ids of brokers.
const INT32: Takes = Takes::Whole(0, i32::MAX as isize);
/// Offsets.
const INT64: Takes = Takes::Whole(0, i64::MAX as isize);

impl Takes {
    fn words(words: &[&'static str]) -> Self {
        Self::Words(words.to_vec())
    }

    /// Adds it to the schema of one value, where that does not say more already.
    fn constrain(self, schema: &mut Object) {
        match self {
            Self::TopicName => {
                schema.pattern = Some(TOPIC_NAME.to_owned());
                schema.min_length = Some(1);
                schema.max_length = Some(LONGEST_TOPIC_NAME);
            }
            Self::Pattern(pattern) => schema.pattern = Some(pattern.to_owned()),
            Self::Text => schema.min_length = Some(1),
            Self::Words(words) => {
                let words = words.into_iter().map(Value::from);
                let null = is_nullable(schema).then_some(Value::Null);
                schema.enum_values = Some(words.chain(null).collect());
            }
            Self::Whole(first, last) => {
                schema.minimum.get_or_insert(Number::Int(first));
                schema.maximum.get_or_insert(Number::Int(last));
            }
        }
    }
}

fn has_type(schema: &Object, wanted: &Type) -> bool {
    match &schema.schema_type {
        SchemaType::Type(one) => one == wanted,
        SchemaType::Array(several) => several.contains(wanted),
        SchemaType::AnyValue => false,
    }
}

fn is_nullable(schema: &Object) -> bool {
    has_type(schema, &Type::Null)
}

/// A whole number without bounds has those of its format.
fn bound_by_format(schema: &mut Object) {
    if !has_type(schema, &Type::Integer) {
        return;
    }
    let (first, last) = match &schema.format {
        Some(SchemaFormat::KnownFormat(KnownFormat::Int32)) => {
            (i32::MIN as isize, i32::MAX as isize)
        }
        Some(SchemaFormat::KnownFormat(KnownFormat::Int64)) => (isize::MIN, isize::MAX),
        _ => return,
    };
    Takes::Whole(first, last).constrain(schema);
}

/// The schemas that stand in this one, which is not looked up where it is a reference.
fn visit(schema: &mut RefOr<Schema>, look: &mut impl FnMut(&mut Object)) {
    let RefOr::T(schema) = schema else {
        return;
    };
    match schema {
        Schema::Object(object) => {
            look(object);
            object
                .properties
                .values_mut()
                .for_each(|property| visit(property, look));
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                visit(items, look);
            }
        }
        Schema::OneOf(of) => of.items.iter_mut().for_each(|one| visit(one, look)),
        Schema::AnyOf(of) => of.items.iter_mut().for_each(|one| visit(one, look)),
        Schema::AllOf(of) => of.items.iter_mut().for_each(|one| visit(one, look)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
