//! `/v3/clusters/{cluster}/acls`: whom the brokers let do what. These are Kafka's own rules for its users; what the
//! gateway lets its clients do is another matter.

#[cfg(test)]
mod tests;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::call::{Call, JsonBody, shown};
use super::error::{BodyErrors, Errors};
use super::page::PageParams;
use super::resource::resource;
use crate::api::json::{json, ok};
use crate::http::error::ApiError;
use crate::http::extract::Query;
use crate::http::json_object::Object;
use crate::http::own_url::Segment;
use crate::kafka::admin::{
    Acl, AclFilter, AclOperation, AclPermission, KafkaWord, PatternType, ResourceType,
};
use crate::kafka::fault::Fault;

resource!(
    /// ACLs
    AclList of AclData: AclKind, AclListKind, "KafkaAcl", "KafkaAclList"
);

/// Where an ACL is
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AclMetadata {
    /// The URL of the search that finds it.
    #[serde(rename = "self")]
    url: String,
}

/// What an ACL says
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AclFields {
    /// What it is about: `TOPIC`, `GROUP`, `CLUSTER`, `TRANSACTIONAL_ID`, `DELEGATION_TOKEN`, `USER`; `UNKNOWN` is
    /// what came to Kafka later.
    #[schema(example = "TOPIC")]
    resource_type: &'static str,
    /// The resource's name, or what its name begins with.
    #[schema(example = "orders-")]
    resource_name: String,
    /// `LITERAL`: the resource of this name, `*` being all; `PREFIXED`: those whose names begin so.
    #[schema(example = "PREFIXED")]
    pattern_type: &'static str,
    /// Whom it is about.
    #[schema(example = "User:alice")]
    principal: String,
    /// From where; `*` is from everywhere.
    #[schema(example = "*")]
    host: String,
    /// What they do, such as `READ`, `WRITE` or `ALL`.
    #[schema(example = "READ")]
    operation: &'static str,
    /// `ALLOW` or `DENY`.
    #[schema(example = "ALLOW")]
    permission: &'static str,
}

/// An ACL
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AclData {
    kind: AclKind,
    metadata: AclMetadata,
    /// The cluster's id.
    cluster_id: String,
    #[serde(flatten)]
    fields: AclFields,
}

/// An ACL that is to be made
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct CreateAcl {
    /// `TOPIC`, `GROUP`, `CLUSTER`, `TRANSACTIONAL_ID`, `DELEGATION_TOKEN` or `USER`, in any case, as all such words.
    #[schema(example = "TOPIC")]
    resource_type: String,
    /// The resource's name, or what its name begins with; of `CLUSTER` it is `kafka-cluster`.
    #[schema(example = "orders-")]
    resource_name: String,
    /// `LITERAL` or `PREFIXED`.
    #[schema(example = "PREFIXED")]
    pattern_type: String,
    /// Whom it is about.
    #[schema(example = "User:alice")]
    principal: String,
    /// From where; `*` is from everywhere.
    #[schema(example = "*")]
    host: String,
    /// `ALL`, `READ`, `WRITE`, `CREATE`, `DELETE`, `ALTER`, `DESCRIBE`, `CLUSTER_ACTION`, `DESCRIBE_CONFIGS`,
    /// `ALTER_CONFIGS`, `IDEMPOTENT_WRITE`, `CREATE_TOKENS`, `DESCRIBE_TOKENS` or `TWO_PHASE_COMMIT`.
    #[schema(example = "READ")]
    operation: String,
    /// `ALLOW` or `DENY`.
    #[schema(example = "ALLOW")]
    permission: String,
}

/// ACLs that are to be made
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct CreateAcls {
    /// The ACLs, at most 10000.
    data: Vec<CreateAcl>,
}

/// The ACLs that were not made
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct CreateAclsFailures {
    /// The ACLs that Kafka refused, in the order of the request. All others are made.
    failures: Vec<AclFailure>,
}

/// An ACL that was not made or deleted
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AclFailure {
    #[serde(flatten)]
    fields: AclFields,
    /// As in an error.
    #[schema(example = 40002)]
    error_code: u32,
    /// What is wrong.
    message: String,
}

/// The ACLs that were deleted
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeletedAclList {
    /// Those that are deleted.
    data: Vec<AclData>,
}

/// The ACLs that were deleted and those that were not
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PartlyDeletedAcls {
    /// Those that are deleted.
    data: Vec<AclData>,
    /// Those that fit, and that Kafka did not delete.
    failures: Vec<AclFailure>,
}

impl From<Acl> for AclFields {
    fn from(acl: Acl) -> Self {
        Self {
            resource_type: acl.resource_type.word(),
            resource_name: acl.resource_name,
            pattern_type: acl.pattern_type.word(),
            principal: acl.principal,
            host: acl.host,
            operation: acl.operation.word(),
            permission: acl.permission.word(),
        }
    }
}

/// The URL of a search.
fn search_url(
    call: &Call,
    (resource_type, resource_name, pattern_type): (ResourceType, &str, PatternType),
    principal: &str,
    host: &str,
    operation: AclOperation,
    permission: AclPermission,
) -> String {
    format!(
        "{}?resource_type={}&resource_name={}&pattern_type={}&principal={}&host={}&operation={}&permission={}",
        call.links.url(&["acls"]),
        resource_type.word(),
        Segment(resource_name),
        pattern_type.word(),
        Segment(principal),
        Segment(host),
        operation.word(),
        permission.word()
    )
}

/// The URL of the search that finds just this ACL.
fn url_of(call: &Call, acl: &Acl) -> String {
    search_url(
        call,
        (acl.resource_type, &acl.resource_name, acl.pattern_type),
        &acl.principal,
        &acl.host,
        acl.operation,
        acl.permission,
    )
}

fn described(call: &Call, acl: Acl) -> AclData {
    AclData {
        kind: AclKind::It,
        metadata: AclMetadata {
            url: url_of(call, &acl),
        },
        cluster_id: call.links.id(),
        fields: acl.into(),
    }
}

fn failed(call: &Call, acl: Acl, fault: &Fault) -> AclFailure {
    let error = call.fault(fault).into_body();
    AclFailure {
        fields: acl.into(),
        error_code: error.error_code,
        message: error.message,
    }
}

/// The word for what the gateway does not know, which nobody can ask for.
const UNKNOWN: &str = "UNKNOWN";
/// The words that are for filters.
const OF_FILTERS: [&str; 3] = [UNKNOWN, "ANY", "MATCH"];

/// These words but those, for an error.
fn words<T: KafkaWord>(without: &[&str]) -> String {
    let words = T::ALL.iter().map(|one| one.word());
    let words: Vec<&str> = words.filter(|word| !without.contains(word)).collect();
    words.join(", ")
}

/// One of Kafka's words in a parameter; `None` where it is not given.
fn word<T: KafkaWord>(query: &mut Query, name: &'static str) -> Result<Option<T>, ApiError> {
    let Some(given) = query.take(name)? else {
        return Ok(None);
    };
    let status = match T::of_word(&given) {
        Some(one) if one.word() != UNKNOWN => return Ok(Some(one)),
        Some(_) => StatusCode::BAD_REQUEST,
        None => StatusCode::NOT_FOUND,
    };
    let (expected, given) = (words::<T>(&[UNKNOWN]), shown(&given));
    let message = format!("{name}: expected one of {expected}, not {given:?}");
    Err(ApiError::plain(status, message).at(name))
}

/// A text in a parameter; one that is empty fits all, as one that is not given.
fn text(query: &mut Query, name: &'static str) -> Result<Option<String>, ApiError> {
    Ok(query.take(name)?.filter(|text| !text.is_empty()))
}

/// The ACLs that the parameters ask for, where those that are not given fit all.
fn search(query: &mut Query) -> Result<AclFilter, ApiError> {
    Ok(AclFilter {
        resource_type: word(query, "resource_type")?.unwrap_or(ResourceType::Any),
        resource_name: text(query, "resource_name")?,
        pattern_type: word(query, "pattern_type")?.unwrap_or(PatternType::Any),
        principal: text(query, "principal")?,
        host: text(query, "host")?,
        operation: word(query, "operation")?.unwrap_or(AclOperation::Any),
        permission: word(query, "permission")?.unwrap_or(AclPermission::Any),
    })
}

/// The ACLs that are to be deleted: Kafka's words must be there.
fn deletion(query: &mut Query) -> Result<AclFilter, ApiError> {
    fn needed<T: KafkaWord>(query: &mut Query, name: &'static str) -> Result<T, ApiError> {
        word(query, name)?.ok_or_else(|| {
            let expected = words::<T>(&[UNKNOWN]);
            ApiError::bad_request(format!("{name}: is missing; expected one of {expected}"))
                .at(name)
        })
    }
    /// A script with a variable that is not set would delete far more than was meant.
    fn named(query: &mut Query, name: &'static str) -> Result<Option<String>, ApiError> {
        match query.take(name)? {
            Some(text) if text.is_empty() => {
                let message = format!("{name}: is empty; leave it out where all are meant");
                Err(ApiError::bad_request(message).at(name))
            }
            text => Ok(text),
        }
    }
    Ok(AclFilter {
        resource_type: needed(query, "resource_type")?,
        resource_name: named(query, "resource_name")?,
        pattern_type: needed(query, "pattern_type")?,
        principal: named(query, "principal")?,
        host: named(query, "host")?,
        operation: needed(query, "operation")?,
        permission: needed(query, "permission")?,
    })
}

/// A text for an ACL, in their order. No field has a NUL.
fn key(acl: &Acl) -> String {
    fn place<T: KafkaWord>(word: T) -> String {
        let place = T::ALL.iter().position(|one| one.word() == word.word());
        format!("{:02}", place.unwrap_or(T::ALL.len()))
    }
    [
        &*place(acl.resource_type),
        &acl.resource_name,
        &place(acl.pattern_type),
        &acl.principal,
        &acl.host,
        &place(acl.operation),
        &place(acl.permission),
    ]
    .join("\0")
}

/// List the ACLs
///
/// Those that fit all parameters, by resource. Kafka's words may be in any case. What was made a moment ago may
/// not be there yet: the brokers hear of it one after the other.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/acls",
    operation_id = "listAclsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("resource_type" = Option<String>, Query, description = "`TOPIC`, `GROUP`, `CLUSTER`, `TRANSACTIONAL_ID`, `DELEGATION_TOKEN`, `USER` or, the default, `ANY`", example = "TOPIC"),
        ("resource_name" = Option<String>, Query, description = "The resource's name; without it all", example = "orders"),
        ("pattern_type" = Option<String>, Query, description = "`LITERAL`, `PREFIXED`, `MATCH` (all that apply to the resource of this name) or, the default, `ANY`", example = "MATCH"),
        ("principal" = Option<String>, Query, description = "Whom they are about; without it everyone", example = "User:alice"),
        ("host" = Option<String>, Query, description = "From where; without it everywhere", example = "*"),
        ("operation" = Option<String>, Query, description = "`READ`, `WRITE` and so on or, the default, `ANY`", example = "READ"),
        ("permission" = Option<String>, Query, description = "`ALLOW`, `DENY` or, the default, `ANY`", example = "ALLOW"),
        PageParams,
    ),
    responses(
        (status = 200, description = "The ACLs", body = AclList),
        Errors,
    )
)]
pub async fn list(mut call: Call) -> Result<Response, ApiError> {
    let page = call.page()?;
    let filter = search(&mut call.query)?;
    let acls = call.cluster().acls(&filter).await;
    let acls = acls.map_err(|fault| call.fault(&fault))?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let url = search_url(
        &call,
        (
            filter.resource_type,
            &text(&filter.resource_name),
            filter.pattern_type,
        ),
        &text(&filter.principal),
        &text(&filter.host),
        filter.operation,
        filter.permission,
    );
    let page = page.of_keys(url, acls, key)?;
    let data = page.data.into_iter();
    let data = data.map(|acl| described(&call, acl));
    ok(&AclList::new(page.metadata, data.collect()))
}

const FIELDS: &[&str] = &[
    "resource_type",
    "resource_name",
    "pattern_type",
    "principal",
    "host",
    "operation",
    "permission",
];

/// A field of an ACL, which must be there.
fn field(acl: &Object<'_>, name: &str) -> Result<String, ApiError> {
    let text = acl.text(name)?.filter(|text| !text.is_empty());
    text.map(std::borrow::Cow::into_owned).ok_or_else(|| {
        let at = acl.pointer(name);
        ApiError::bad_request(format!("{at}: is missing")).at(at)
    })
}

/// One of Kafka's words in such a field, which must name one thing.
fn one_word<T: KafkaWord>(acl: &Object<'_>, name: &str) -> Result<T, ApiError> {
    let given = field(acl, name)?;
    match T::of_word(&given) {
        Some(one) if !OF_FILTERS.contains(&one.word()) => Ok(one),
        _ => {
            let at = acl.pointer(name);
            let (expected, given) = (words::<T>(&OF_FILTERS), shown(&given));
            let message = format!("{at}: expected one of {expected}, not {given:?}");
            Err(ApiError::bad_request(message).at(at))
        }
    }
}

fn new_acl(acl: &Object<'_>) -> Result<Acl, ApiError> {
    Ok(Acl {
        resource_type: one_word(acl, "resource_type")?,
        resource_name: field(acl, "resource_name")?,
        pattern_type: one_word(acl, "pattern_type")?,
        principal: field(acl, "principal")?,
        host: field(acl, "host")?,
        operation: one_word(acl, "operation")?,
        permission: one_word(acl, "permission")?,
    })
}

/// Make an ACL
///
/// One that is there already is no error.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    post,
    path = "/v3/clusters/{cluster}/acls",
    operation_id = "createAclV3",
    tag = "Compatible REST v3",
    params(("cluster" = String, Path, description = "The cluster's id")),
    request_body(content = CreateAcl),
    responses(
        (status = 201, description = "It is made", headers(("Location" = String, description = "The URL of the search that finds it"))),
        BodyErrors,
    )
)]
pub async fn create(call: Call, body: JsonBody) -> Result<Response, ApiError> {
    let acls = [new_acl(&body.object(FIELDS)?)?];
    let made = call.cluster().create_acls(&acls).await;
    for answer in made.map_err(|fault| call.fault(&fault))? {
        answer.map_err(|fault| call.fault(&fault))?;
    }
    let mut response = StatusCode::CREATED.into_response();
    let [acl] = &acls;
    if let Ok(at) = HeaderValue::from_str(&url_of(&call, acl)) {
        response.headers_mut().insert(header::LOCATION, at);
    }
    Ok(response)
}

/// Make several ACLs
///
/// Nothing is made where one of them cannot be read. Kafka makes each by itself; those that it refuses are in the
/// answer.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    post,
    path = "/v3/clusters/{cluster}/acls:batch",
    operation_id = "createAclsV3",
    tag = "Compatible REST v3",
    params(("cluster" = String, Path, description = "The cluster's id")),
    request_body(content = CreateAcls),
    responses(
        (status = 204, description = "They are made"),
        (status = 207, description = "Kafka refused some of them", body = CreateAclsFailures),
        BodyErrors,
    )
)]
pub async fn create_several(call: Call, body: JsonBody) -> Result<Response, ApiError> {
    let body = body.object(&["data"])?;
    let Some(list) = body.objects("data", FIELDS)? else {
        let message = "/data: is missing; expected an array of ACLs";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, 42206, message).at("/data"));
    };
    let acls: Vec<Acl> = list.iter().map(new_acl).collect::<Result<_, _>>()?;
    if acls.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let made = call.cluster().create_acls(&acls).await;
    let made = made.map_err(|fault| call.fault(&fault))?;
    if let Some(fault) = common_fault(&made) {
        return Err(call.fault(fault));
    }
    let failures = acls.into_iter().zip(made);
    let failures = failures.filter_map(|(acl, answer)| Some(failed(&call, acl, &answer.err()?)));
    let failures: Vec<AclFailure> = failures.collect();
    if failures.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    json(StatusCode::MULTI_STATUS, &CreateAclsFailures { failures })
}

/// What keeps Kafka from making any ACL, whatever it says: it has none, or the gateway's Kafka user may not.
fn common_fault(made: &[Result<(), Fault>]) -> Option<&Fault> {
    const OF_ALL: [Option<&str>; 2] = [
        Some("SECURITY_DISABLED"),
        Some("CLUSTER_AUTHORIZATION_FAILED"),
    ];
    let first = made.first()?.as_ref().err()?;
    let same = |one: &Result<(), Fault>| matches!(one, Err(fault) if fault.kafka_error == first.kafka_error);
    (OF_ALL.contains(&first.kafka_error) && made.iter().all(same)).then_some(first)
}

/// Delete ACLs
///
/// Those that fit all parameters. A parameter that is not known or is empty is refused: one that is misspelt, or
/// whose variable is not set in a script, would fit all.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    delete,
    path = "/v3/clusters/{cluster}/acls",
    operation_id = "deleteAclsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("resource_type" = String, Query, description = "`TOPIC`, `GROUP`, `CLUSTER`, `TRANSACTIONAL_ID`, `DELEGATION_TOKEN`, `USER` or `ANY`", example = "TOPIC"),
        ("resource_name" = Option<String>, Query, description = "The resource's name; without it all", example = "orders"),
        ("pattern_type" = String, Query, description = "`LITERAL`, `PREFIXED`, `MATCH` (all that apply to the resource of this name) or `ANY`", example = "LITERAL"),
        ("principal" = Option<String>, Query, description = "Whom they are about; without it everyone", example = "User:alice"),
        ("host" = Option<String>, Query, description = "From where; without it everywhere", example = "*"),
        ("operation" = String, Query, description = "`READ`, `WRITE` and so on or `ANY`", example = "READ"),
        ("permission" = String, Query, description = "`ALLOW`, `DENY` or `ANY`", example = "ALLOW"),
    ),
    responses(
        (status = 200, description = "Those that are deleted", body = DeletedAclList),
        (status = 207, description = "Kafka did not delete some of those that fit", body = PartlyDeletedAcls),
        Errors,
    )
)]
pub async fn delete(mut call: Call) -> Result<Response, ApiError> {
    let filter = deletion(&mut call.query)?;
    call.no_other_parameters()?;
    let deleted = call.cluster().delete_acls(&filter).await;
    let deleted = deleted.map_err(|fault| call.fault(&fault))?;
    let data = deleted.deleted.into_iter();
    let data: Vec<AclData> = data.map(|acl| described(&call, acl)).collect();
    if deleted.failed.is_empty() {
        return ok(&DeletedAclList { data });
    }
    let failures = deleted.failed.into_iter();
    let failures = failures.map(|(acl, fault)| failed(&call, acl, &fault));
    let failures = failures.collect();
    json(
        StatusCode::MULTI_STATUS,
        &PartlyDeletedAcls { data, failures },
    )
}
