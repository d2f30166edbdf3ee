//! The parameters of paths, queries and headers.

use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{RefOr, Schema, Type};

use super::bodies::{MECHANISMS, acl_word};
use super::{INT32, INT64, Takes, bound_by_format, has_type};

/// Comma-separated names of topics.
const TOPIC_LIST: &str = "^[a-zA-Z0-9._-]+(,[a-zA-Z0-9._-]+)*$";

/// What the parameters of this operation take.
pub(super) fn constrain(operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else {
            continue;
        };
        let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema else {
            continue;
        };
        // A parameter is there or not; none is `null`.
        if let SchemaType::Array(types) = &mut schema.schema_type {
            types.retain(|one| *one != Type::Null);
            if let [only] = &types[..] {
                schema.schema_type = SchemaType::Type(only.clone());
            }
        }
        let takes = match parameter.parameter_in {
            ParameterIn::Path => of_path(&id, &parameter.name),
            ParameterIn::Query => of_query(&id, &parameter.name),
            ParameterIn::Header => of_header(&parameter.name),
            ParameterIn::Cookie | ParameterIn::QueryString => None,
        };
        match takes {
            // What is a number in one operation may be a list of them in another.
            Some(Takes::Whole(..)) if !has_type(schema, &Type::Integer) => {}
            Some(takes) => takes.constrain(schema),
            None if parameter.parameter_in == ParameterIn::Path => Takes::Text.constrain(schema),
            None => {}
        }
        bound_by_format(schema);
    }
}

fn of_header(name: &str) -> Option<Takes> {
    Some(match name {
        "Idempotency-Key" => Takes::Pattern("^[!-~]([ -~]{0,253}[!-~])?$"),
        "Tidegate-Delivery" => Takes::Pattern("^[!-~]([ -~]{0,62}[!-~])?$"),
        _ => return None,
    })
}

fn of_path(operation: &str, name: &str) -> Option<Takes> {
    Some(match (operation, name) {
        // What a topic would have that is not there yet; its name is not looked at.
        ("listDefaultTopicConfigsV3", "topic") => Takes::Text,
        (_, "topic") => Takes::TopicName,
        (_, "partition" | "broker") => INT32,
        (_, "offset") => INT64,
        _ => return None,
    })
}

fn of_query(operation: &str, name: &str) -> Option<Takes> {
    Some(match (operation, name) {
        (_, "topic") => Takes::TopicName,
        (_, "topics") => Takes::Pattern(TOPIC_LIST),
        (_, "partition") => INT32,
        (_, "offset") => INT64,
        (_, "key_format" | "value_format") => Takes::words(&["auto", "json", "string", "binary"]),
        (_, "isolation") => Takes::words(&["read_committed", "read_uncommitted"]),
        (_, "results") => Takes::words(&["all", "errors", "summary"]),
        (_, "meta") => Takes::words(&["full", "none"]),
        (_, "conflate") => Takes::words(&["key"]),
        (_, "on_lag") => Takes::words(&["catchup", "skip", "close"]),
        (_, "ids") => Takes::Pattern("^(every|time)(,(every|time))*$"),
        (_, "ack") => Takes::words(&["auto", "cumulative", "individual"]),
        (_, "offset_reset") => Takes::words(&["latest", "earliest", "error"]),
        (_, "offset_type") => Takes::words(&["earliest_and_latest"]),
        (_, "default") => Takes::Pattern("^((user|client_id|ip)(,(user|client_id|ip))*)?$"),
        // Texts with a grammar of their own.
        (
            _,
            "before" | "fields" | "from" | "last_event_id" | "partitions" | "timestamp" | "until"
            | "where",
        ) => Takes::Text,
        (_, "mechanism") => Takes::words(MECHANISMS),
        ("listAclsV3" | "deleteAclsV3", name) => return acl_word(name, &["UNKNOWN"]),
        _ => return None,
    })
}
