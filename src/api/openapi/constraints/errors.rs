//! The types of errors of REST v2: that of the answer that was asked for, or plain JSON where it is refused before that
//! is known. All of them have a body.

use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::OneOf;
use utoipa::openapi::{Content, Ref, RefOr, Schema};

use crate::api::v2::media::{BINARY, JSON, PLAIN, TEXT, V2};

/// The operations that answer with records, whose types name the format of these.
const OF_RECORDS: &[&str] = &["readConsumerRecordsV2", "readPartitionV2"];
/// The operations that write records: with some statuses the answer has an entry for each record.
const OF_ENTRIES: &[&str] = &["producePartitionV2", "produceV2"];

/// Adds them.
pub(super) fn complete(operation: &mut Operation) {
    let tags = operation.tags.iter().flatten();
    if !tags.into_iter().any(|tag| tag == "Compatible REST v2") {
        return;
    }
    let id = operation.operation_id.as_deref().unwrap_or_default();
    let (has_records, has_entries) = (OF_RECORDS.contains(&id), OF_ENTRIES.contains(&id));
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else {
            continue;
        };
        if !status.starts_with(['4', '5']) {
            continue;
        }
        let types: &[&str] = match has_records {
            true => &[BINARY, JSON, TEXT, V2, PLAIN],
            false => &[V2, PLAIN],
        };
        let error = RefOr::Ref(Ref::from_schema_name("Error"));
        let schema = match (has_entries, status.as_str()) {
            (true, "401" | "403") => {
                let entries = RefOr::Ref(Ref::from_schema_name("ProduceResponse"));
                let mut either = OneOf::new();
                either.items = vec![error, entries];
                RefOr::T(Schema::OneOf(either))
            }
            _ => error,
        };
        for kind in types {
            let content = Content::new(Some(schema.clone()));
            response
                .content
                .insert((*kind).to_owned(), RefOr::T(content));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::api::openapi::document_json;

    #[test]
    fn each_error_of_v2_has_a_body() {
        let document: serde_json::Value = serde_json::from_str(&document_json()).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if operation["tags"][0] != "Compatible REST v2" {
                    continue;
                }
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let is_error = status.starts_with(['4', '5']);
                    let content = &response["content"]["application/json"];
                    assert!(!is_error || content.is_object(), "{method} {path} {status}");
                }
            }
        }
    }
}
