//! The bodies of requests: the gateway refuses fields that it does not know, so their schemas are closed, and some
//! requests need no body.

use std::collections::BTreeSet;

use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems};
use utoipa::openapi::{Components, Object, OpenApi, RefOr, Required, Schema, Type};

use super::{INT32, INT64, Takes, bound_by_format, has_type, operations, visit};
use crate::kafka::admin::{AclOperation, AclPermission, KafkaWord, PatternType, ResourceType};

/// The operations whose body may be left out.
pub(super) const OPTIONAL: &[&str] = &[
    "commitConsumerOffsetsV2",
    "createConsumerV2",
    "createTicket",
    "electLeaderV3",
    "electLeadersV3",
    "getConsumerOffsetsV2",
    "putTopic",
    "rootPost",
    "seekConsumerToBeginningV2",
    "seekConsumerToEndV2",
];

/// The last second of the year 9999.
const LAST_SECOND: isize = 253_402_300_799;

/// How passwords of Kafka's users are kept.
pub(super) const MECHANISMS: &[&str] = &["SCRAM-SHA-256", "SCRAM-SHA-512"];

/// What the bodies of all requests take.
pub(super) fn constrain(document: &mut OpenApi) {
    let mut names = BTreeSet::new();
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            of_operation(operation, &mut names);
        }
    }
    let Some(components) = &mut document.components else {
        return;
    };
    for name in with_all_below(components, names) {
        if let Some(schema) = components.schemas.get_mut(&name) {
            visit(schema, &mut |object| of_object(&name, object));
        }
    }
}

/// Says whether the body must be there, and adds the names of its schemas.
fn of_operation(operation: &mut Operation, names: &mut BTreeSet<String>) {
    let Some(RefOr::T(body)) = &mut operation.request_body else {
        return;
    };
    let id = operation.operation_id.as_deref().unwrap_or_default();
    let is_optional = OPTIONAL.contains(&id);
    body.required = Some(match is_optional {
        true => Required::False,
        false => Required::True,
    });
    for content in body.content.values() {
        if let RefOr::T(content) = content
            && let Some(schema) = &content.schema
        {
            references(schema, names);
        }
    }
}

/// The names of schemas that this one refers to.
fn references(schema: &RefOr<Schema>, names: &mut BTreeSet<String>) {
    let schema = match schema {
        RefOr::Ref(to) => {
            names.extend(to.ref_location.rsplit('/').next().map(str::to_owned));
            return;
        }
        RefOr::T(schema) => schema,
    };
    match schema {
        Schema::Object(object) => {
            for property in object.properties.values() {
                references(property, names);
            }
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &array.items {
                references(items, names);
            }
        }
        Schema::OneOf(of) => of.items.iter().for_each(|one| references(one, names)),
        Schema::AnyOf(of) => of.items.iter().for_each(|one| references(one, names)),
        Schema::AllOf(of) => of.items.iter().for_each(|one| references(one, names)),
        _ => {}
    }
}

/// These, and those to which they refer.
fn with_all_below(components: &Components, mut names: BTreeSet<String>) -> BTreeSet<String> {
    let mut waiting: Vec<String> = names.iter().cloned().collect();
    while let Some(name) = waiting.pop() {
        let mut found = BTreeSet::new();
        if let Some(schema) = components.schemas.get(&name) {
            references(schema, &mut found);
        }
        waiting.extend(found.difference(&names).cloned());
        names.extend(found);
    }
    names
}

/// Closes an object of the schema of this name, and says what its fields take.
fn of_object(schema: &str, object: &mut Object) {
    if has_type(object, &Type::Object) && object.additional_properties.is_none() {
        object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    }
    // One of the choices of a schema that is a text or a number.
    let is_number = has_type(object, &Type::Integer) || has_type(object, &Type::Number);
    match schema {
        "Moment" if is_number => Takes::Whole(1, isize::MAX).constrain(object),
        "PlaceOrTime" if is_number => Takes::Whole(0, isize::MAX).constrain(object),
        "SecondsOrText" if is_number => Takes::Whole(0, LAST_SECOND).constrain(object),
        _ => {}
    }
    for (name, property) in &mut object.properties {
        let RefOr::T(property) = property else {
            continue;
        };
        match property {
            Schema::Object(value) => {
                if let Some(takes) = of_field(schema, name) {
                    takes.constrain(value);
                }
                bound_by_format(value);
            }
            Schema::Array(array) => {
                if let ArrayItems::RefOrSchema(items) = &mut array.items
                    && let RefOr::T(Schema::Object(item)) = &mut **items
                    && name == "topics"
                    // A ticket may be for topics that nobody has.
                    && schema != "TicketRequest"
                {
                    Takes::TopicName.constrain(item);
                }
            }
            _ => {}
        }
    }
}

fn of_field(schema: &str, field: &str) -> Option<Takes> {
    Some(match (schema, field) {
        (_, "topic" | "topic_name") => Takes::TopicName,
        (_, "partition" | "partition_id") => INT32,
        (_, "offset") => INT64,
        (_, "replication" | "replication_factor") => Takes::Whole(1, i16::MAX as isize),
        ("CreateAcl", "resource_name" | "principal" | "host")
        | ("ConsumerRequest", "id" | "name")
        | ("SetScramPassword", "password") => Takes::Text,
        ("CreateAcl", field) => return acl_word(field, &["UNKNOWN", "ANY", "MATCH"]),
        ("ConsumerRequest", "format") => Takes::words(&["binary", "json", "text"]),
        ("ConsumerRequest", "auto.offset.reset") => Takes::words(&["latest", "earliest", "none"]),
        ("ConsumerRequest", "isolation.level") => {
            Takes::words(&["read_committed", "read_uncommitted"])
        }
        ("SetScramPassword", "mechanism") => Takes::words(MECHANISMS),
        ("ElectLeader" | "ElectLeaders", "election_type") => {
            Takes::words(&["PREFERRED", "UNCLEAN"])
        }
        ("AlterQuota" | "AlterReassignment", "operation") => Takes::words(&["SET", "DELETE"]),
        ("TicketRequest", "kind") => Takes::words(&["ws", "sse"]),
        ("ProduceDataV3", "type") => Takes::words(&["BINARY", "STRING", "JSON"]),
        _ => return None,
    })
}

/// Kafka's words in the fields of ACLs, but those.
pub(super) fn acl_word(field: &str, without: &[&str]) -> Option<Takes> {
    fn words<T: KafkaWord>(without: &[&str]) -> Takes {
        let words = T::ALL.iter().map(|one| one.word());
        Takes::Words(words.filter(|word| !without.contains(word)).collect())
    }
    Some(match field {
        "resource_type" => words::<ResourceType>(without),
        "pattern_type" => words::<PatternType>(without),
        "operation" => words::<AclOperation>(without),
        "permission" => words::<AclPermission>(without),
        _ => return None,
    })
}
