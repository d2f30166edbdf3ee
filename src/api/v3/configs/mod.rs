//! Settings: of topics, of brokers, and those that all brokers are told.
//!
//! What the three have in common is here: how a setting is shown, and what a change of some is.

pub mod all_brokers;
pub mod brokers;
pub mod topics;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::call::{Call, JsonBody, is_deletion};
use crate::admin::configs;
use crate::http::error::ApiError;
use crate::http::json_object::Object;
use crate::kafka::admin::{ConfigChange, ConfigEntry, ConfigOwner};

/// What is told of a setting
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ConfigFields {
    /// Its name.
    #[schema(example = "retention.ms")]
    name: String,
    /// Its value; `null` when it has none or is secret.
    #[schema(required = true, example = "604800000")]
    value: Option<String>,
    /// Whether nobody set it.
    is_default: bool,
    /// Whether it cannot be changed.
    is_read_only: bool,
    /// Whether it is secret.
    is_sensitive: bool,
    /// Where it was set.
    #[schema(example = "DYNAMIC_TOPIC_CONFIG")]
    source: &'static str,
    /// Where its value comes from and those that would apply in its place, the nearest first.
    synonyms: Vec<Synonym>,
}

/// A setting that stands behind another one
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Synonym {
    /// Its name.
    #[schema(example = "log.retention.ms")]
    name: String,
    /// Its value; `null` when it has none or is secret.
    #[schema(required = true)]
    value: Option<String>,
    /// Where it was set.
    #[schema(example = "STATIC_BROKER_CONFIG")]
    source: &'static str,
}

impl From<ConfigEntry> for ConfigFields {
    fn from(entry: ConfigEntry) -> Self {
        let synonyms = entry.synonyms.into_iter().map(|synonym| Synonym {
            name: synonym.name,
            value: synonym.value,
            source: synonym.source,
        });
        Self {
            name: entry.name,
            value: entry.value,
            is_default: entry.is_default,
            is_read_only: entry.is_read_only,
            is_sensitive: entry.is_sensitive,
            source: entry.source,
            synonyms: synonyms.collect(),
        }
    }
}

/// The value that a setting is to get
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct UpdateConfig {
    /// The value. `DELETE` of the setting takes it back.
    #[schema(example = "604800000")]
    value: String,
}

/// Changes of settings
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct AlterConfigs {
    /// The changes: all of them are made, or none.
    data: Vec<AlterConfig>,
    /// `true`: Kafka only says whether it would make them. Not in every version of the reference.
    validate_only: Option<bool>,
}

/// A change of a setting
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct AlterConfig {
    /// Which setting.
    #[schema(example = "retention.ms")]
    name: String,
    /// The value that it gets.
    #[schema(example = "604800000")]
    value: Option<String>,
    /// `SET`, the default, or `DELETE`, which takes its value back.
    #[schema(example = "SET")]
    operation: Option<AlterOperation>,
}

/// What is done with a setting
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the words are read by hand; this describes them")]
pub enum AlterOperation {
    /// It gets the value.
    #[schema(rename = "SET")]
    Set,
    /// Its value is taken back.
    #[schema(rename = "DELETE")]
    Delete,
}

/// The setting that a path names, of whatever has settings.
#[derive(Debug, Deserialize)]
pub struct NamePath {
    name: String,
}

/// The setting `name` of `owner` gets the value that the body says, or its own one back where there is none.
async fn change(
    call: &Call,
    owner: ConfigOwner,
    name: String,
    body: Option<JsonBody>,
) -> Result<Response, ApiError> {
    let change = match body {
        Some(body) => ConfigChange::Set {
            value: value(&body.object(&["value"])?)?,
            name,
        },
        None => ConfigChange::Reset { name },
    };
    let changed = configs::alter(call.cluster(), owner, vec![change], false).await;
    changed.map_err(|error| call.refused(error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The settings of `owner` are changed as the body says.
async fn alter(call: &Call, owner: ConfigOwner, body: &JsonBody) -> Result<Response, ApiError> {
    let body = body.object(&["data", "validate_only"])?;
    let validate_only = body.truth("validate_only")?.unwrap_or(false);
    let changes = changes(&body, "data")?;
    if !changes.is_empty() {
        let altered = configs::alter(call.cluster(), owner, changes, validate_only).await;
        altered.map_err(|error| call.refused(error))?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// One setting of `owner`.
async fn one(call: &Call, owner: &ConfigOwner, name: &str) -> Result<ConfigEntry, ApiError> {
    let one = configs::one(call.cluster(), owner, name).await;
    one.map_err(|error| call.refused(error))
}

/// A list of changes.
fn changes(body: &Object<'_>, field: &str) -> Result<Vec<ConfigChange>, ApiError> {
    let list = body.objects(field, &["name", "value", "operation"])?;
    let list = body.needed(field, list)?;
    list.iter().map(one_change).collect()
}

fn one_change(change: &Object<'_>) -> Result<ConfigChange, ApiError> {
    let name = change.needed("name", change.text("name")?)?.into_owned();
    if is_deletion(change)? {
        return Ok(ConfigChange::Reset { name });
    }
    let value = value(change)?;
    Ok(ConfigChange::Set { name, value })
}

/// The value that is set, which Kafka wants to be there.
fn value(change: &Object<'_>) -> Result<String, ApiError> {
    if let Some(value) = change.text("value")? {
        return Ok(value.into_owned());
    }
    let at = change.pointer("value");
    let message = format!("{at}: expected a string; to take a value back, delete the setting");
    Err(ApiError::new(StatusCode::BAD_REQUEST, 40002, message).at(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<ConfigChange>, ApiError> {
        let body = JsonBody::of(body);
        changes(&body.object(&["data", "validate_only"])?, "data")
    }

    #[test]
    fn a_setting_is_set_unless_it_is_to_be_deleted() {
        let body = r#"{"data":[{"name":"a","value":"1"},{"name":"b","operation":"DELETE"},
            {"name":"c","value":2,"operation":"set"}]}"#;
        let set = |name: &str, value: &str| ConfigChange::Set {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let reset = ConfigChange::Reset {
            name: "b".to_owned(),
        };
        assert_eq!(read(body).unwrap(), [set("a", "1"), reset, set("c", "2")]);
    }

    #[test]
    fn what_is_wrong_with_a_change_is_named() {
        for (body, expected) in [
            ("", (422, 42206, "")),
            ("{}", (422, 422, "/data")),
            (r#"{"data":[{}]}"#, (422, 422, "/data/0/name")),
            (r#"{"data":[{"name":"a"}]}"#, (400, 40002, "/data/0/value")),
            (
                r#"{"data":[{"name":"a","value":null}]}"#,
                (400, 40002, "/data/0/value"),
            ),
            (
                r#"{"data":[{"name":"a","operation":"APPEND"}]}"#,
                (400, 400, "/data/0/operation"),
            ),
            (r#"{"data":[{"name":"a","x":1}]}"#, (422, 422, "/data/0/x")),
        ] {
            let error = read(body).unwrap_err();
            let status = error.status().as_u16();
            let told = error.into_body();
            let field = told.field.unwrap_or_default();
            assert_eq!((status, told.error_code, &*field), expected, "{body}");
        }
    }
}
