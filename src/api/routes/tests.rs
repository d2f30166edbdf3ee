//! Walks the list of routes.

use std::collections::BTreeSet;

use super::*;

fn documented() -> Vec<(String, String, serde_json::Value)> {
    let document = serde_json::to_value(openapi::document()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push((path.clone(), method.to_uppercase(), operation.clone()));
        }
    }
    operations
}

#[test]
fn every_row_stands_in_the_document_and_nothing_else_does() {
    let rows: BTreeSet<(String, String)> = rows()
        .iter()
        .map(|row| (row.path.to_owned(), row.method.to_string()))
        .collect();
    let documented: BTreeSet<(String, String)> = documented()
        .into_iter()
        .map(|(path, method, _)| (path, method))
        .collect();
    assert_eq!(rows, documented);
}

#[test]
fn every_operation_is_described() {
    let mut ids = BTreeSet::new();
    for (path, method, operation) in documented() {
        let name = format!("{method} {path}");
        let id = operation["operationId"].as_str().unwrap_or_default();
        assert!(!id.is_empty(), "{name} has no operationId");
        assert!(ids.insert(id.to_owned()), "{name}: {id} is used twice");
        assert!(
            operation["summary"].as_str().is_some_and(|s| !s.is_empty()),
            "{name} has no summary"
        );
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses
                .keys()
                .any(|status| status.starts_with(['2', '3']) || status == "101"),
            "{name} documents no success"
        );
        let row = rows()
            .into_iter()
            .find(|row| row.path == path && row.method.as_str() == method)
            .unwrap();
        let errors: &[&str] = &["403", "421", "429"];
        for status in errors {
            assert!(
                responses.contains_key(*status),
                "{name} does not document {status}"
            );
        }
        for header in [
            "Retry-After",
            "RateLimit-Limit",
            "RateLimit-Remaining",
            "RateLimit-Reset",
        ] {
            assert!(
                operation["responses"]["429"]["headers"][header].is_object(),
                "{name} does not document {header}"
            );
        }
        if row.access != Access::Open {
            // The compatible API has Confluent REST Proxy's own statuses for what Kafka does.
            let is_v2 = ["Compatible REST v2", "Compatible REST v3"]
                .iter()
                .any(|tag| operation["tags"][0] == *tag);
            let errors: &[&str] = match row.access {
                _ if is_v2 => &["401", "403", "406", "500"],
                Access::Principal => &["400", "401", "403", "503"],
                Access::Session => &["400", "401", "403", "426", "503"],
                _ => &["400", "401", "403", "404", "503", "504"],
            };
            for status in errors {
                assert!(
                    responses.contains_key(*status),
                    "{name} does not document {status}"
                );
            }
            let description = operation["description"].as_str().unwrap_or_default();
            let says = match row.access {
                Access::Topic(action) => format!("Needs `{action}` on the topic."),
                Access::Topics(action) => format!("Needs `{action}` on each of the topics."),
                Access::TopicsInBody(action) => format!("Needs `{action}` on "),
                Access::Cluster(action) => format!("Needs `{action}` on the cluster."),
                Access::Group(action) => format!("Needs `{action}` on the group"),
                _ => "Needs no permission".to_owned(),
            };
            assert!(
                description.contains(&says),
                "{name} does not say which permission it needs: {says}"
            );
        }
    }
}

#[test]
fn open_routes_are_open_on_purpose() {
    let open: Vec<&str> = rows()
        .iter()
        .filter(|row| row.access == Access::Open)
        .map(|row| row.path)
        .collect();
    assert_eq!(
        open,
        [
            "/",
            "/",
            "/openapi.json",
            "/asyncapi.json",
            "/docs",
            "/docs/{file}",
            "/healthy",
            "/ready",
            "/_health"
        ]
    );
}

#[test]
fn only_lists_and_tickets_are_for_every_principal() {
    let lists: Vec<String> = rows()
        .iter()
        .filter(|row| row.access == Access::Principal)
        .map(|row| format!("{} {}", row.method, row.path))
        .collect();
    let v3 = "/v3/clusters";
    let cluster = "/v3/clusters/{cluster}";
    let of_v3 = [
        "",
        "/brokers",
        "/brokers/{broker}",
        "/brokers/{broker}/partition-replicas",
        "/topics",
        "/topics/-/configs",
        "/topics/-/partitions/-/reassignment",
        "/consumer-groups",
        "/share-groups",
    ];
    let mut expected = vec![
        "POST /tickets".to_owned(),
        "GET /groups".to_owned(),
        "GET /topics".to_owned(),
        "GET /brokers".to_owned(),
        format!("GET {v3}"),
    ];
    expected.extend(of_v3.map(|path| format!("GET {cluster}{path}")));
    assert_eq!(lists, expected);
}

/// Two types of one name would be one in the document, and one of them wrong.
#[test]
fn a_schema_of_the_document_is_of_one_type() {
    let mut known = std::collections::BTreeMap::new();
    for row in rows() {
        let (schemas, _, _) = row.handler;
        for (name, schema) in schemas {
            let schema = serde_json::to_value(schema).unwrap();
            let before = known.insert(name.clone(), schema.clone());
            assert!(before.is_none_or(|before| before == schema), "{name}");
        }
    }
}
