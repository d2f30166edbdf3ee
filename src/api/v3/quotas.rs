//! `/v3/clusters/{cluster}/quotas`: how much a user, a client id or an address may take of the brokers. Not in
//! Confluent REST Proxy.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::call::{Call, JsonBody, is_deletion, shown};
use super::error::{BodyErrors, Errors};
use super::page::PageParams;
use super::resource::resource;
use crate::api::json::{json, ok};
use crate::codec::parse::string;
use crate::http::error::ApiError;
use crate::http::extract::Query;
use crate::http::json_object::{Object, unacceptable, wrong};
use crate::http::own_url::Segment;
use crate::kafka::admin::{QuotaChanges, QuotaEntity, QuotaEntityType, Quotas};

resource!(
    /// Client quotas
    ClientQuotaList of ClientQuota: ClientQuotaKind, ClientQuotaListKind, "KafkaClientQuota", "KafkaClientQuotaList"
);

/// Where quotas are
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ClientQuotaMetadata {
    /// The URL of the search that finds them.
    #[serde(rename = "self")]
    url: String,
}

/// Whom quotas apply to: those who are all of this
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ClientQuotaEntity {
    /// Who has logged in as this user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "alice")]
    user: Option<String>,
    /// Who gives this `client.id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "billing")]
    client_id: Option<String>,
    /// Who connects from this address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "10.0.0.7")]
    ip: Option<String>,
    /// Of these, everyone who has no quotas of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    default: Vec<EntityType>,
}

/// By what clients are told apart
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntityType {
    /// The user.
    User,
    /// The `client.id`.
    ClientId,
    /// The address.
    Ip,
}

/// A quota
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct QuotaValue {
    /// Its name.
    #[schema(example = "producer_byte_rate")]
    name: String,
    /// Its value.
    #[schema(example = 1048576.0)]
    value: f64,
}

/// The quotas of a user, client id or address
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ClientQuota {
    kind: ClientQuotaKind,
    metadata: ClientQuotaMetadata,
    /// The cluster's id.
    cluster_id: String,
    entity: ClientQuotaEntity,
    /// The quotas, by name.
    quotas: Vec<QuotaValue>,
}

/// Changes of quotas
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct AlterQuotas {
    /// Whose quotas are changed, each once.
    data: Vec<AlterQuotasOf>,
    /// `true`: Kafka only says whether it would make the changes.
    validate_only: Option<bool>,
}

/// Changes of the quotas of a user, client id or address
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct AlterQuotasOf {
    /// Whose quotas they are.
    entity: AlterQuotaEntity,
    /// The changes: all of them are made, or none.
    quotas: Vec<AlterQuota>,
}

/// Whom quotas apply to: those who are all of this
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct AlterQuotaEntity {
    /// Who has logged in as this user.
    #[schema(example = "alice")]
    user: Option<String>,
    /// Who gives this `client.id`.
    #[schema(example = "billing")]
    client_id: Option<String>,
    /// Who connects from this address. Stands alone.
    ip: Option<String>,
    /// Of these, everyone who has no quotas of their own.
    default: Option<Vec<EntityType>>,
}

/// A change of a quota
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct AlterQuota {
    /// `producer_byte_rate`, `consumer_byte_rate`, `request_percentage`, `controller_mutation_rate` or, of an
    /// address, `connection_creation_rate`.
    #[schema(example = "producer_byte_rate")]
    name: String,
    /// The value that it gets.
    #[schema(example = 1048576.0)]
    value: Option<f64>,
    /// `SET`, the default, or `DELETE`, which takes it away.
    #[schema(example = "SET")]
    operation: Option<String>,
}

/// The quotas that were not changed
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AlterQuotasFailures {
    /// Those whose changes Kafka refused, in the order of the request. All others are made.
    failures: Vec<AlterQuotasFailure>,
}

/// Quotas that were not changed
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AlterQuotasFailure {
    entity: ClientQuotaEntity,
    /// As in an error.
    #[schema(example = 40002)]
    error_code: u32,
    /// What is wrong.
    message: String,
}

/// The quotas that Kafka has.
const NAMES: [&str; 5] = [
    "producer_byte_rate",
    "consumer_byte_rate",
    "request_percentage",
    "controller_mutation_rate",
    "connection_creation_rate",
];

/// What a list of types is in an error.
const TYPES: &str = "user, client_id or ip";

/// By what clients are told apart, as it is called here.
fn name_of(kind: QuotaEntityType) -> &'static str {
    match kind {
        QuotaEntityType::User => "user",
        QuotaEntityType::ClientId => "client_id",
        QuotaEntityType::Ip => "ip",
    }
}

fn of_name(name: &str) -> Option<QuotaEntityType> {
    let mut all = QuotaEntityType::ALL.into_iter();
    all.find(|kind| name_of(*kind) == name)
}

impl From<&QuotaEntity> for ClientQuotaEntity {
    fn from(entity: &QuotaEntity) -> Self {
        let name = |kind| entity.get(&kind).cloned().flatten();
        let defaults = entity.iter().filter(|(_, name)| name.is_none());
        Self {
            user: name(QuotaEntityType::User),
            client_id: name(QuotaEntityType::ClientId),
            ip: name(QuotaEntityType::Ip),
            default: defaults
                .map(|(kind, _)| match kind {
                    QuotaEntityType::User => EntityType::User,
                    QuotaEntityType::ClientId => EntityType::ClientId,
                    QuotaEntityType::Ip => EntityType::Ip,
                })
                .collect(),
        }
    }
}

/// The URL of the search for those who have these parts.
fn search_url(call: &Call, parts: &QuotaEntity, is_strict: bool) -> String {
    let mut query = Vec::new();
    for (kind, name) in parts {
        if let Some(name) = name {
            query.push(format!("{}={}", name_of(*kind), Segment(name)));
        }
    }
    let defaults = parts.iter().filter(|(_, name)| name.is_none());
    let defaults: Vec<&str> = defaults.map(|(kind, _)| name_of(*kind)).collect();
    if !defaults.is_empty() {
        query.push(format!("default={}", defaults.join(",")));
    }
    if is_strict {
        query.push("strict=true".to_owned());
    }
    let url = call.links.url(&["quotas"]);
    match query.is_empty() {
        true => url,
        false => format!("{url}?{}", query.join("&")),
    }
}

fn described(call: &Call, entity: &QuotaEntity, quotas: Quotas) -> ClientQuota {
    let quotas = quotas.into_iter();
    ClientQuota {
        kind: ClientQuotaKind::It,
        metadata: ClientQuotaMetadata {
            url: search_url(call, entity, true),
        },
        cluster_id: call.links.id(),
        entity: entity.into(),
        quotas: quotas
            .map(|(name, value)| QuotaValue { name, value })
            .collect(),
    }
}

/// The parts that are asked for.
fn parts(query: &mut Query) -> Result<QuotaEntity, ApiError> {
    let mut parts = QuotaEntity::new();
    for kind in QuotaEntityType::ALL {
        if let Some(name) = query.take(name_of(kind))? {
            parts.insert(kind, Some(name));
        }
    }
    let defaults = query.take("default")?.unwrap_or_default();
    for name in defaults.split(',').filter(|name| !name.is_empty()) {
        let Some(kind) = of_name(name.trim()) else {
            return Err(crate::http::extract::unexpected("default", name, TYPES));
        };
        if let Some(Some(_)) = parts.insert(kind, None) {
            let name = name_of(kind);
            let message = format!("default: expected what has no name of its own, and {name} has");
            return Err(ApiError::bad_request(message).at("default"));
        }
    }
    Ok(parts)
}

/// List client quotas
///
/// Of those who have all the parts that the parameters name, by user, client id and address. Not in the reference.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/quotas",
    operation_id = "listClientQuotasV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("user" = Option<String>, Query, description = "Only of this user", example = "alice"),
        ("client_id" = Option<String>, Query, description = "Only of this `client.id`", example = "billing"),
        ("ip" = Option<String>, Query, description = "Only of this address", example = "10.0.0.7"),
        ("default" = Option<String>, Query, description = "Only of everyone who has no quotas of their own: `user`, `client_id` or `ip`, or several of them with commas", example = "client_id"),
        ("strict" = Option<bool>, Query, description = "`true`: not of those who have other parts as well"),
        PageParams,
    ),
    responses(
        (status = 200, description = "The quotas", body = ClientQuotaList),
        Errors,
    )
)]
pub async fn list(mut call: Call) -> Result<Response, ApiError> {
    let page = call.page()?;
    let parts = parts(&mut call.query)?;
    let is_strict = call.flag("strict")?;
    let found = call.cluster().quotas(&parts, is_strict).await;
    let found = found.map_err(|fault| call.fault(&fault))?;
    let url = search_url(&call, &parts, is_strict);
    let found = found.into_iter().collect();
    let page = page.of_keys(url, found, |(entity, _)| key(entity))?;
    let data = page.data.into_iter();
    let data = data.map(|(entity, quotas)| described(&call, &entity, quotas));
    ok(&ClientQuotaList::new(page.metadata, data.collect()))
}

/// A text for whom quotas apply to, in their order. No name has a NUL.
fn key(entity: &QuotaEntity) -> String {
    let mut key = String::new();
    for (kind, name) in entity {
        let named = u8::from(name.is_some());
        let name = name.as_deref().unwrap_or_default();
        key.push_str(&format!("{}{named}{name}\0", *kind as u8));
    }
    key
}

/// The part of a body that says whose quotas they are.
fn entity(change: &Object<'_>) -> Result<QuotaEntity, ApiError> {
    let entity = change.object("entity", &["user", "client_id", "ip", "default"])?;
    let entity = change.needed("entity", entity)?;
    let mut parts = QuotaEntity::new();
    for kind in QuotaEntityType::ALL {
        let field = name_of(kind);
        match entity.text(field)? {
            // Kafka has no such client, and a variable that was not set is more likely.
            Some(name) if name.is_empty() => {
                return Err(unacceptable(
                    &entity.pointer(field),
                    "expected a name, not an empty text; default is for those without a name",
                ));
            }
            Some(name) => {
                parts.insert(kind, Some(name.into_owned()));
            }
            None => {}
        }
    }
    for (index, raw) in entity
        .list("default")?
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let at = format!("{}/{index}", entity.pointer("default"));
        let kind = string(raw).and_then(|name| of_name(&name));
        let kind = kind.ok_or_else(|| wrong(&at, TYPES, raw))?;
        if parts.insert(kind, None).is_some() {
            return Err(unacceptable(&at, "is given twice"));
        }
    }
    if parts.is_empty() {
        let what = "expected user, client_id, ip or default";
        return Err(unacceptable(&change.pointer("entity"), what));
    }
    Ok(parts)
}

/// The changes of one entity's quotas.
fn changes(change: &Object<'_>) -> Result<QuotaChanges, ApiError> {
    let list = change.objects("quotas", &["name", "value", "operation"])?;
    let mut changes = BTreeMap::new();
    for quota in change.needed("quotas", list)? {
        let name = quota.needed("name", quota.text("name")?)?.into_owned();
        let at = quota.pointer("name");
        if !NAMES.contains(&&*name) {
            let (names, name) = (NAMES.join(", "), shown(&name));
            let what = format!("expected one of {names}, not {name:?}");
            return Err(unacceptable(&at, what));
        }
        let value = match is_deletion(&quota)? {
            true => None,
            false => Some(value(&quota)?),
        };
        if changes.insert(name, value).is_some() {
            return Err(unacceptable(&at, "is given twice"));
        }
    }
    if changes.is_empty() {
        let what = "expected at least one quota";
        return Err(unacceptable(&change.pointer("quotas"), what));
    }
    Ok(changes)
}

/// The value that a quota gets.
fn value(quota: &Object<'_>) -> Result<f64, ApiError> {
    const EXPECTED: &str = "a number above 0; to take a quota away, DELETE it";
    let raw = quota.needed("value", quota.get("value"))?;
    let text = string(raw);
    let number = text.as_deref().unwrap_or(raw.get()).trim().parse::<f64>();
    let number = number.map_err(|_| wrong(&quota.pointer("value"), EXPECTED, raw))?;
    if number.is_finite() && number > 0.0 {
        return Ok(number);
    }
    let what = format!("expected {EXPECTED}");
    Err(unacceptable(&quota.pointer("value"), what))
}

/// Change client quotas
///
/// All of the changes of an entity are made, or none of that entity's. Nothing is changed where something cannot be
/// read. Not in the reference.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    post,
    path = "/v3/clusters/{cluster}/quotas:alter",
    operation_id = "alterClientQuotasV3",
    tag = "Compatible REST v3",
    params(("cluster" = String, Path, description = "The cluster's id")),
    request_body(
        content = AlterQuotas,
        example = json!({"data": [
            {"entity": {"user": "alice"}, "quotas": [{"name": "producer_byte_rate", "value": 1048576}, {"name": "request_percentage", "operation": "DELETE"}]},
            {"entity": {"default": ["client_id"]}, "quotas": [{"name": "consumer_byte_rate", "value": 524288}]},
        ]}),
    ),
    responses(
        (status = 204, description = "They are made"),
        (status = 207, description = "Kafka refused those of some entities", body = AlterQuotasFailures),
        BodyErrors,
    )
)]
pub async fn alter(call: Call, body: JsonBody) -> Result<Response, ApiError> {
    let (changes, validate_only) = asked(&body)?;
    if changes.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let altered = call.cluster().alter_quotas(&changes, validate_only).await;
    let altered = altered.map_err(|fault| call.fault(&fault))?;
    let first = altered.first().and_then(|answer| answer.as_ref().err());
    if let Some(first) = first
        && altered
            .iter()
            .all(|answer| answer.as_ref().err() == Some(first))
    {
        // There is no other one, or it is about none of them.
        return Err(call.fault(first));
    }
    let failures = changes.iter().zip(altered);
    let failures = failures.filter_map(|((entity, _), answer)| {
        let error = call.fault(&answer.err()?).into_body();
        Some(AlterQuotasFailure {
            entity: entity.into(),
            error_code: error.error_code,
            message: error.message,
        })
    });
    let failures: Vec<AlterQuotasFailure> = failures.collect();
    if failures.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    json(StatusCode::MULTI_STATUS, &AlterQuotasFailures { failures })
}

/// What a body asks for, and whether it is only to be looked at.
fn asked(body: &JsonBody) -> Result<(Vec<(QuotaEntity, QuotaChanges)>, bool), ApiError> {
    let body = body.object(&["data", "validate_only"])?;
    let validate_only = body.truth("validate_only")?.unwrap_or(false);
    let list = body.objects("data", &["entity", "quotas"])?;
    let mut all = BTreeMap::new();
    let mut order = Vec::new();
    for change in body.needed("data", list)? {
        let whose = entity(&change)?;
        if all.insert(whose.clone(), changes(&change)?).is_some() {
            return Err(unacceptable(&change.pointer("entity"), "is given twice"));
        }
        order.push(whose);
    }
    let changes = order.into_iter();
    let changes = changes.filter_map(|whose| all.remove_entry(&whose));
    Ok((changes.collect(), validate_only))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<(QuotaEntity, QuotaChanges)>, ApiError> {
        asked(&JsonBody::of(body)).map(|(changes, _)| changes)
    }

    #[test]
    fn changes_are_read_in_their_order() {
        let body = r#"{"data":[
            {"entity":{"user":"b","default":["client_id"]},
             "quotas":[{"name":"producer_byte_rate","value":1024},{"name":"request_percentage","value":"12.5"}]},
            {"entity":{"ip":"10.0.0.7"},"quotas":[{"name":"connection_creation_rate","operation":"delete"}]}]}"#;
        let changes = read(body).unwrap();
        let whose: Vec<&QuotaEntity> = changes.iter().map(|(whose, _)| whose).collect();
        let user = (QuotaEntityType::User, Some("b".to_owned()));
        let expected = [
            QuotaEntity::from([user, (QuotaEntityType::ClientId, None)]),
            QuotaEntity::from([(QuotaEntityType::Ip, Some("10.0.0.7".to_owned()))]),
        ];
        assert_eq!(whose, expected.iter().collect::<Vec<_>>());
        let first = &changes.first().unwrap().1;
        assert_eq!(first.get("producer_byte_rate"), Some(&Some(1024.0)));
        assert_eq!(first.get("request_percentage"), Some(&Some(12.5)));
        let second = &changes.get(1).unwrap().1;
        assert_eq!(second.get("connection_creation_rate"), Some(&None));
    }

    #[test]
    fn what_is_wrong_with_a_change_is_named() {
        let of = |entity: &str, quotas: &str| {
            format!(r#"{{"data":[{{"entity":{entity},"quotas":{quotas}}}]}}"#)
        };
        let one = r#"[{"name":"producer_byte_rate","value":1}]"#;
        let alice = r#"{"user":"alice"}"#;
        for (body, expected) in [
            (String::new(), (422, "")),
            ("{}".to_owned(), (422, "/data")),
            (r#"{"data":[{}]}"#.to_owned(), (422, "/data/0/entity")),
            (of("{}", one), (422, "/data/0/entity")),
            (of(r#"{"user":""}"#, one), (422, "/data/0/entity/user")),
            (of(r#"{"user":null}"#, one), (422, "/data/0/entity")),
            (of(r#"{"users":"a"}"#, one), (422, "/data/0/entity/users")),
            (
                of(r#"{"default":["planet"]}"#, one),
                (400, "/data/0/entity/default/0"),
            ),
            (
                of(r#"{"user":"a","default":["user"]}"#, one),
                (422, "/data/0/entity/default/0"),
            ),
            (of(alice, "[]"), (422, "/data/0/quotas")),
            (
                of(alice, r#"[{"name":"speed","value":1}]"#),
                (422, "/data/0/quotas/0/name"),
            ),
            (
                of(alice, r#"[{"name":"producer_byte_rate"}]"#),
                (422, "/data/0/quotas/0/value"),
            ),
            (
                of(alice, r#"[{"name":"producer_byte_rate","value":"much"}]"#),
                (400, "/data/0/quotas/0/value"),
            ),
            (
                of(alice, r#"[{"name":"producer_byte_rate","value":0}]"#),
                (422, "/data/0/quotas/0/value"),
            ),
            (
                of(alice, r#"[{"name":"producer_byte_rate","value":1e999}]"#),
                (422, "/data/0/quotas/0/value"),
            ),
            (
                of(
                    alice,
                    r#"[{"name":"producer_byte_rate","operation":"ADD"}]"#,
                ),
                (400, "/data/0/quotas/0/operation"),
            ),
            (
                of(
                    alice,
                    &one.replace(']', r#",{"name":"producer_byte_rate","value":2}]"#),
                ),
                (422, "/data/0/quotas/1/name"),
            ),
        ] {
            let error = read(&body).unwrap_err();
            let status = error.status().as_u16();
            let field = error.into_body().field.unwrap_or_default();
            assert_eq!((status, &*field), expected, "{body}");
        }
        let twice = format!(
            r#"{{"data":[{{"entity":{alice},"quotas":{one}}},{{"entity":{alice},"quotas":{one}}}]}}"#
        );
        let error = read(&twice).unwrap_err().into_body();
        assert_eq!(error.field.as_deref(), Some("/data/1/entity"));
    }

    #[test]
    fn a_search_names_parts_or_those_without_a_name() {
        let read = |query: &str| parts(&mut Query::parse(query).unwrap());
        let found = read("user=alice&default=client_id,ip").unwrap();
        assert_eq!(found.get(&QuotaEntityType::ClientId), Some(&None));
        assert_eq!(found.len(), 3);
        assert!(read("").unwrap().is_empty());
        for query in ["default=planet", "user=alice&default=user"] {
            let error = read(query).unwrap_err().into_body();
            assert_eq!(error.field.as_deref(), Some("default"), "{query}");
        }
    }
}
