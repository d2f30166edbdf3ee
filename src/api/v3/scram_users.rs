//! `/v3/clusters/{cluster}/scram-users`: who can log in at the brokers by SCRAM. Not in Confluent REST Proxy.
//!
//! No answer and no error has a password in it, nor anything else of a body that could be one by mistake.

use std::num::NonZeroU32;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::call::{Call, JsonBody, not_found, shown};
use super::error::{BodyErrors, Errors};
use super::page::{PageParams, PrefixParam};
use super::resource::{Metadata, resource};
use crate::api::json::ok;
use crate::codec::parse::string;
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::http::json_object::{Object, unacceptable};
use crate::kafka::admin::{NewScramPassword, ScramCredential, ScramMechanism};
use crate::kafka::fault::{Fault, FaultKind};

resource!(
    /// Users who can log in by SCRAM
    ScramUserList of ScramUser: ScramUserKind, ScramUserListKind, "KafkaScramUser", "KafkaScramUserList"
);

/// A user who can log in by SCRAM
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ScramUser {
    kind: ScramUserKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// The user's name, without `User:`.
    #[schema(example = "alice")]
    user_name: String,
    /// By which mechanisms.
    credentials: Vec<Credential>,
}

/// A mechanism by which a user can log in
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ScramCredential)]
pub struct Credential {
    /// `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    #[schema(example = "SCRAM-SHA-512")]
    mechanism: &'static str,
    /// How often the password is hashed.
    #[schema(example = 8192)]
    iterations: i32,
}

/// A password that a user gets
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct SetScramPassword {
    /// `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    #[schema(example = "SCRAM-SHA-512")]
    mechanism: String,
    /// The password. The gateway hashes it and keeps nothing of it.
    password: String,
    /// How often it is hashed; without it 8192.
    #[schema(minimum = 4096, maximum = 16384)]
    iterations: Option<u32>,
}

/// The user that a path names.
#[derive(Debug, Deserialize)]
pub struct UserPath {
    user: String,
}

const LEAST_ITERATIONS: u32 = 4_096;
const MOST_ITERATIONS: u32 = 16_384;
const ITERATIONS: u32 = 8_192;

fn described(call: &Call, user: &str, credentials: Vec<ScramCredential>) -> ScramUser {
    let credentials = credentials.into_iter().map(|credential| Credential {
        mechanism: credential.mechanism.name(),
        iterations: credential.iterations,
    });
    ScramUser {
        kind: ScramUserKind::It,
        metadata: call
            .links
            .metadata(&["scram-users", user], &[("scram-user", user)]),
        cluster_id: call.links.id(),
        user_name: user.to_owned(),
        credentials: credentials.collect(),
    }
}

/// A user who is not there; other faults as they are.
fn missing(call: &Call, user: &str, fault: &Fault) -> ApiError {
    match fault.kind {
        FaultKind::NotFound => not_found(&format!("SCRAM user {}", shown(user)), "user"),
        _ => call.fault(fault),
    }
}

/// List the SCRAM users
///
/// By name. Not in the reference.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/scram-users",
    operation_id = "listScramUsersV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        PageParams,
        PrefixParam,
    ),
    responses(
        (status = 200, description = "The users", body = ScramUserList),
        Errors,
    )
)]
pub async fn list(mut call: Call) -> Result<Response, ApiError> {
    let page = call.page()?;
    let users = call.cluster().scram_users().await;
    let users = users.map_err(|fault| call.fault(&fault))?;
    let users: Vec<(String, Vec<ScramCredential>)> = users.into_iter().collect();
    let page = page.of_names(call.links.url(&["scram-users"]), users, |(name, _)| name);
    let data = page.data.into_iter();
    let data = data.map(|(name, credentials)| described(&call, &name, credentials));
    ok(&ScramUserList::new(page.metadata, data.collect()))
}

/// Describe a SCRAM user
///
/// Not in the reference.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/scram-users/{user}",
    operation_id = "getScramUserV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("user" = String, Path, description = "The user's name, without `User:`", example = "alice"),
    ),
    responses(
        (status = 200, description = "The user", body = ScramUser),
        Errors,
    )
)]
pub async fn get(call: Call, Path(path): Path<UserPath>) -> Result<Response, ApiError> {
    let credentials = call.cluster().scram_user(&path.user).await;
    let credentials = credentials.map_err(|fault| missing(&call, &path.user, &fault))?;
    ok(&described(&call, &path.user, credentials))
}

/// The object that a body is. What is wrong with it is said without a word of it: it may be a password.
fn fields(body: &JsonBody) -> Result<Object<'_>, ApiError> {
    const FIELDS: &[&str] = &["mechanism", "password", "iterations"];
    body.object(FIELDS).map_err(|error| {
        let status = error.status();
        let code = error.into_body().error_code;
        let message = match code {
            42206 => "Payload error. Request body is empty. Data is required.",
            _ => "expected a JSON object of mechanism, password and, where it is wanted, iterations, each once",
        };
        ApiError::new(status, code, message)
    })
}

/// The password that a body gives a user.
fn new_password(body: &JsonBody) -> Result<NewScramPassword, ApiError> {
    let body = fields(body)?;
    let text = |field: &str, expected: &str| {
        let raw = body.needed(field, body.get(field))?;
        string(raw).ok_or_else(|| {
            let at = body.pointer(field);
            ApiError::bad_request(format!("{at}: expected {expected}")).at(at)
        })
    };
    let mechanism = text("mechanism", MECHANISMS)?;
    let mechanism = ScramMechanism::of_name(&mechanism).ok_or_else(|| {
        let what = format!("expected {MECHANISMS}");
        unacceptable(&body.pointer("mechanism"), what)
    })?;
    let password = text("password", "a string")?;
    if password.is_empty() {
        let what = "expected at least one character";
        return Err(unacceptable(&body.pointer("password"), what));
    }
    let iterations = match body.get("iterations") {
        None => Some(ITERATIONS),
        Some(raw) => raw.get().parse().ok(),
    };
    let iterations = iterations
        .filter(|iterations| (LEAST_ITERATIONS..=MOST_ITERATIONS).contains(iterations))
        .and_then(NonZeroU32::new)
        .ok_or_else(|| {
            let what =
                format!("expected a whole number from {LEAST_ITERATIONS} to {MOST_ITERATIONS}");
            unacceptable(&body.pointer("iterations"), what)
        })?;
    Ok(NewScramPassword {
        mechanism,
        password: password.into_owned().into(),
        iterations,
    })
}

const MECHANISMS: &str = "SCRAM-SHA-256 or SCRAM-SHA-512";

/// Give a SCRAM user a password
///
/// For one mechanism, in the place of the one before; the user need not be there. The gateway hashes the password
/// with a random salt, so that Kafka gets the hash only. The brokers hear of it one after the other: the user may
/// have to wait a moment. Not in the reference.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    put,
    path = "/v3/clusters/{cluster}/scram-users/{user}",
    operation_id = "putScramUserV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("user" = String, Path, description = "The user's name, without `User:`", example = "alice"),
    ),
    request_body(content = SetScramPassword),
    responses(
        (status = 204, description = "The user has it"),
        BodyErrors,
    )
)]
pub async fn put(
    call: Call,
    Path(path): Path<UserPath>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let new = new_password(&body)?;
    let set = call.cluster().set_scram_password(&path.user, new).await;
    set.map_err(|fault| call.fault(&fault))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Take a SCRAM user's password away
///
/// For one mechanism, or for all that the user has. Connections that are there stay until they have to log in
/// again. Not in the reference.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    delete,
    path = "/v3/clusters/{cluster}/scram-users/{user}",
    operation_id = "deleteScramUserV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("user" = String, Path, description = "The user's name, without `User:`", example = "alice"),
        ("mechanism" = Option<String>, Query, description = "`SCRAM-SHA-256` or `SCRAM-SHA-512`; without it both", example = "SCRAM-SHA-256"),
    ),
    responses(
        (status = 204, description = "It is taken away"),
        Errors,
    )
)]
pub async fn delete(mut call: Call, Path(path): Path<UserPath>) -> Result<Response, ApiError> {
    let mechanism = match call.query.take("mechanism")? {
        None => None,
        Some(name) => Some(
            ScramMechanism::of_name(&name)
                .ok_or_else(|| crate::http::extract::unexpected("mechanism", &name, MECHANISMS))?,
        ),
    };
    call.no_other_parameters()?;
    let cluster = call.cluster();
    let mechanisms = match mechanism {
        Some(mechanism) => vec![mechanism],
        None => {
            let known = cluster.scram_user(&path.user).await;
            let known = known.map_err(|fault| missing(&call, &path.user, &fault))?;
            known.iter().map(|one| one.mechanism).collect()
        }
    };
    for mechanism in mechanisms {
        let deleted = cluster.delete_scram_password(&path.user, mechanism).await;
        deleted.map_err(|fault| missing(&call, &path.user, &fault))?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(body: &str) -> Result<NewScramPassword, ApiError> {
        new_password(&JsonBody::of(body))
    }

    #[test]
    fn a_password_has_a_mechanism_and_iterations() {
        let new = read(r#"{"mechanism":"scram-sha-512","password":"p\u00e4ss"}"#).unwrap();
        assert_eq!(new.mechanism, ScramMechanism::Sha512);
        assert_eq!(new.password.expose_secret(), "päss");
        assert_eq!(new.iterations.get(), 8192);
        let new = read(r#"{"mechanism":"SCRAM-SHA-256","password":"p","iterations":4096}"#);
        assert_eq!(new.unwrap().iterations.get(), 4096);
    }

    #[test]
    fn what_is_wrong_is_named_without_a_word_of_the_body() {
        for (body, expected) in [
            ("", (422, 42206, "")),
            (r#""sesame""#, (400, 400, "")),
            ("sesame", (400, 400, "")),
            (r#"["sesame"]"#, (400, 400, "")),
            (r#"{"sesame":1}"#, (422, 422, "")),
            (r#"{"mechanism":"SCRAM-SHA-256"}"#, (422, 422, "/password")),
            (r#"{"password":"sesame"}"#, (422, 422, "/mechanism")),
            (
                r#"{"mechanism":"sesame","password":"SCRAM-SHA-256"}"#,
                (422, 422, "/mechanism"),
            ),
            (
                r#"{"mechanism":["sesame"],"password":"sesame"}"#,
                (400, 400, "/mechanism"),
            ),
            (
                r#"{"mechanism":"SCRAM-SHA-256","password":["sesame"]}"#,
                (400, 400, "/password"),
            ),
            (
                r#"{"mechanism":"SCRAM-SHA-256","password":12}"#,
                (400, 400, "/password"),
            ),
            (
                r#"{"mechanism":"SCRAM-SHA-256","password":""}"#,
                (422, 422, "/password"),
            ),
            (
                r#"{"mechanism":"SCRAM-SHA-256","password":"sesame","iterations":4095}"#,
                (422, 422, "/iterations"),
            ),
            (
                r#"{"mechanism":"SCRAM-SHA-256","password":"sesame","iterations":16385}"#,
                (422, 422, "/iterations"),
            ),
            (
                r#"{"mechanism":"SCRAM-SHA-256","password":"sesame","iterations":"sesame"}"#,
                (422, 422, "/iterations"),
            ),
        ] {
            let error = read(body).unwrap_err();
            let status = error.status().as_u16();
            let told = error.into_body();
            assert!(!format!("{told:?}").contains("sesame"), "{told:?}");
            let field = told.field.unwrap_or_default();
            assert_eq!((status, told.error_code, &*field), expected, "{body}");
        }
    }
}
