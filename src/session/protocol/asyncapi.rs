//! The AsyncAPI 3.0 document of the WebSocket API, made from the types of the frames.

use std::collections::BTreeMap;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::close::Close;
use super::{MINOR, SUBPROTOCOL, client, server};
use crate::codec::frame_records;

/// One message of the document.
struct Message {
    kind: &'static str,
    schema: String,
    summary: String,
}

/// The messages of one direction, and the schemas that they need.
#[derive(Default)]
struct Messages {
    list: Vec<Message>,
    schemas: BTreeMap<String, Value>,
}

impl Messages {
    /// The frame `kind`, which is a `T` with `type` in it.
    fn add<T: ToSchema + PartialSchema>(&mut self, kind: &'static str) {
        let mut named = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut named);
        let mut summary = String::new();
        for (index, (name, schema)) in named.into_iter().enumerate() {
            let mut schema = to_json(&schema);
            if index == 0 {
                summary = text_of(&schema, "description");
                with_type(&mut schema, kind);
            }
            let name = if index == 0 { frame_name(kind) } else { name };
            self.schemas.insert(name, schema);
        }
        self.list.push(Message {
            kind,
            schema: frame_name(kind),
            summary,
        });
    }
}

/// `resume` and `pause` share a type, and some types of both directions share a name, so a frame's
/// schema is called by its type.
fn frame_name(kind: &str) -> String {
    let words = kind.split('_').map(|word| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
            .unwrap_or_default()
    });
    words.collect::<String>() + "Frame"
}

fn to_json(schema: &RefOr<Schema>) -> Value {
    serde_json::to_value(schema).unwrap_or_default()
}

fn text_of(schema: &Value, name: &str) -> String {
    let text = schema.get(name).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

/// Adds the `type` that every frame has.
fn with_type(schema: &mut Value, kind: &str) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    let properties = object
        .entry("properties")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Some(properties) = properties.as_object_mut() {
        properties.insert("type".to_owned(), json!({"type": "string", "const": kind}));
    }
    let required = object.entry("required").or_insert_with(|| json!([]));
    if let Some(required) = required.as_array_mut() {
        required.insert(0, json!("type"));
    }
    object.insert("type".to_owned(), json!("object"));
}

fn from_client() -> Messages {
    let mut messages = Messages::default();
    messages.add::<client::Hello>("hello");
    messages.add::<client::Auth>("auth");
    messages.add::<client::Subscribe>("subscribe");
    messages.add::<client::Unsubscribe>("unsubscribe");
    messages.add::<client::Ack>("ack");
    messages.add::<client::Nack>("nack");
    messages.add::<client::Extend>("extend");
    messages.add::<client::Commit>("commit");
    messages.add::<client::Credit>("credit");
    messages.add::<client::Pause>("pause");
    messages.add::<client::Pause>("resume");
    messages.add::<client::Seek>("seek");
    messages.add::<client::ProduceSchema>("produce");
    messages.add::<client::Position>("position");
    messages.add::<client::Ping>("ping");
    messages.add::<client::Bye>("bye");
    messages
}

fn from_server() -> Messages {
    let mut messages = Messages::default();
    messages.add::<server::Welcome>("welcome");
    messages.add::<server::Subscribed>("subscribed");
    messages.add::<server::Unsubscribed>("unsubscribed");
    messages.add::<server::Assigned>("assigned");
    messages.add::<server::Revoking>("revoking");
    messages.add::<server::Revoked>("revoked");
    messages.add::<frame_records::Records>("records");
    messages.add::<server::Acked>("acked");
    messages.add::<server::Committed>("committed");
    messages.add::<server::Seeked>("seeked");
    messages.add::<server::Positions>("positions");
    messages.add::<server::Done>("ok");
    messages.add::<server::Produced>("produced");
    messages.add::<server::Gap>("gap");
    messages.add::<server::Eof>("eof");
    messages.add::<server::State>("state");
    messages.add::<server::AuthExpiring>("auth_expiring");
    messages.add::<server::Error>("error");
    messages.add::<server::Pong>("pong");
    messages.add::<server::Heartbeat>("heartbeat");
    messages.add::<server::Drain>("drain");
    messages.add::<server::Goodbye>("goodbye");
    messages
}

/// The document.
pub fn document() -> Value {
    let sent = from_client();
    let received = from_server();
    let mut messages = Map::new();
    let mut of_channel = Map::new();
    for message in sent.list.iter().chain(&received.list) {
        let body = json!({
            "name": message.kind,
            "summary": message.summary,
            "contentType": "application/json",
            "payload": {"$ref": format!("#/components/schemas/{}", message.schema)},
        });
        messages.insert(message.kind.to_owned(), body);
        let link = json!({"$ref": format!("#/components/messages/{}", message.kind)});
        of_channel.insert(message.kind.to_owned(), link);
    }
    let links = |messages: &Messages| -> Vec<Value> {
        let kinds = messages.list.iter().map(|message| message.kind);
        kinds
            .map(|kind| json!({"$ref": format!("#/channels/session/messages/{kind}")}))
            .collect()
    };
    let (to, from) = (links(&sent), links(&received));
    let mut schemas = sent.schemas;
    schemas.extend(received.schemas);
    let codes: Vec<String> = Close::ALL
        .iter()
        .map(|close| format!("- {} `{}`", close.code(), close.name()))
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tidegate WebSocket sessions",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "One socket is one session; a group subscription makes it a member of a Kafka \
                 consumer group, and tails follow topics without one. Subprotocol `{SUBPROTOCOL}`, minor version {MINOR}. Every frame is \
                 a JSON object with a `type`; unknown fields are passed over on both sides.\n\n\
                 The gateway closes with these codes; on 4000 to 4499 reconnect after a pause, on \
                 4500 and above do not:\n\n{}",
                codes.join("\n")
            ),
        },
        "defaultContentType": "application/json",
        "channels": {
            "session": {
                "address": "/ws",
                "title": "A session",
                "messages": of_channel,
                "bindings": {"ws": {"method": "GET"}},
            },
        },
        "operations": {
            "send": {
                "action": "send",
                "summary": "What a client sends",
                "channel": {"$ref": "#/channels/session"},
                "messages": to,
            },
            "receive": {
                "action": "receive",
                "summary": "What a client receives",
                "channel": {"$ref": "#/channels/session"},
                "messages": from,
            },
        },
        "components": {"messages": messages, "schemas": schemas},
    })
}

/// The document as it is served, printed by `tidegate asyncapi` and committed.
pub fn document_json() -> String {
    let mut json = serde_json::to_string_pretty(&document()).unwrap_or_default();
    json.push('\n');
    json
}

/// The WebSocket protocol as AsyncAPI
///
/// Every frame of `/ws`, with its fields.
#[utoipa::path(
    get,
    path = "/asyncapi.json",
    operation_id = "getAsyncApi",
    tag = "Gateway",
    responses((status = 200, description = "AsyncAPI 3.0", body = Object, content_type = "application/json"))
)]
pub async fn get() -> Response {
    static JSON: std::sync::LazyLock<String> = std::sync::LazyLock::new(document_json);
    ([(header::CONTENT_TYPE, "application/json")], JSON.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let mut references = 0;
        for piece in text.split("\"$ref\":\"#").skip(1) {
            let path = piece.split('"').next().unwrap();
            assert!(document.pointer(path).is_some(), "{path}");
            references += 1;
        }
        assert!(references > 100);
    }

    #[test]
    fn every_frame_has_its_type_and_what_it_is_for() {
        let document = document();
        for (name, message) in document["components"]["messages"].as_object().unwrap() {
            let path = message["payload"]["$ref"].as_str().unwrap();
            let schema = document.pointer(path.strip_prefix('#').unwrap()).unwrap();
            assert_eq!(schema["properties"]["type"]["const"], **name);
            assert!(!message["summary"].as_str().unwrap().is_empty(), "{name}");
        }
    }

    #[test]
    fn the_committed_document_is_what_is_served() {
        let committed = include_str!("../../../openapi/asyncapi.json");
        assert!(
            committed == document_json(),
            "openapi/asyncapi.json is out of date: `cargo run -- asyncapi > openapi/asyncapi.json`"
        );
    }
}
