//! What every endpoint takes out of a request before it does its own: who calls, of which cluster, how clients
//! reach it, and the body.

use std::fmt;

use axum::Extension;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::Bytes;

use super::error;
use super::page::PageQuery;
use super::resource::Links;
use crate::admin::AdminError;
use crate::api::json::{self, JSON};
use crate::auth::Principal;
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::extract::Query;
use crate::http::json_object::Object;
use crate::http::negotiate;
use crate::kafka::Cluster;
use crate::kafka::fault::{Fault, FaultKind};

/// The id of a cluster whose brokers do not tell it (before Kafka 2.8).
const UNTOLD: &str = "unknown";

/// A principal's request to something of the cluster that its path names.
#[derive(Debug)]
pub struct Call {
    pub(super) gateway: Gateway,
    pub(super) principal: Principal,
    pub(super) links: Links,
    pub(super) query: Query,
}

impl FromRequestParts<Gateway> for Call {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Gateway) -> Result<Self, ApiError> {
        negotiate::accept(&parts.headers, &[JSON])?;
        let gateway = Gateway::from_request_parts(parts, state).await?;
        let Extension(principal) = Extension::from_request_parts(parts, state)
            .await
            .map_err(|missing| ApiError::internal(format_args!("the principal: {missing}")))?;
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|why| ApiError::internal(format_args!("the parameters of the path: {why}")))?;
        let asked = params.iter().find(|(name, _)| *name == "cluster");
        let id = cluster_id(&gateway, asked.map(|(_, id)| id)).await?;
        let base = gateway.own_url().of(parts, "/v3/clusters")?;
        Ok(Self {
            gateway,
            principal,
            links: Links::new(base, &id),
            query: Query::from_request_parts(parts, state).await?,
        })
    }
}

/// The id of the gateway's cluster, which must be the one that the path names, if it names one.
///
/// # Errors
///
/// 404 for another one; what kept the brokers from telling.
pub(super) async fn cluster_id(gateway: &Gateway, asked: Option<&str>) -> Result<String, ApiError> {
    let id = gateway.cluster().id().await;
    let id = id.map_err(|fault| error::of_fault(&fault))?;
    let id = if id.is_empty() { UNTOLD } else { &*id };
    match asked {
        Some(asked) if asked != id => Err(ApiError::plain(
            StatusCode::NOT_FOUND,
            format!(
                "Cluster {} cannot be found; GET /v3/clusters tells the id of this one",
                shown(asked)
            ),
        )
        .at("cluster")),
        Some(_) | None => Ok(id.to_string()),
    }
}

/// As much of a name as an error repeats.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

/// Whether a change takes something back, where its `operation` is DELETE, or sets it: SET, or none.
///
/// # Errors
///
/// 400 for anything else.
pub(super) fn is_deletion(change: &Object<'_>) -> Result<bool, ApiError> {
    let operation = change.text("operation")?;
    match operation.as_deref() {
        None => Ok(false),
        Some(set) if set.eq_ignore_ascii_case("SET") => Ok(false),
        Some(delete) if delete.eq_ignore_ascii_case("DELETE") => Ok(true),
        Some(other) => {
            let at = change.pointer("operation");
            let message = format!("{at}: expected SET or DELETE, not {:?}", shown(other));
            Err(ApiError::bad_request(message).at(at))
        }
    }
}

/// A resource that is not there.
pub(super) fn not_found(what: &str, field: &'static str) -> ApiError {
    ApiError::plain(StatusCode::NOT_FOUND, format!("{what} cannot be found.")).at(field)
}

impl Call {
    /// Kafka.
    pub(super) fn cluster(&self) -> &Cluster {
        self.gateway.cluster()
    }

    /// Which part of a list is wanted.
    pub(super) fn page(&mut self) -> Result<PageQuery, ApiError> {
        PageQuery::take(&mut self.query)
    }

    /// A parameter that is true or false, in any of its spellings; false where it is not given.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, ApiError> {
        match self.query.take_spelled(name).as_deref() {
            None | Some("") => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) => Err(crate::http::extract::unexpected(
                name,
                text,
                "true or false",
            )),
        }
    }

    /// Refuses parameters that nobody has taken, where one that is misspelt would do harm.
    pub(super) fn no_other_parameters(&mut self) -> Result<(), ApiError> {
        std::mem::take(&mut self.query).finish()
    }

    /// What Kafka said, as an error of this API.
    pub(super) fn fault(&self, fault: &Fault) -> ApiError {
        let error = error::of_fault(fault);
        if fault.kind == FaultKind::Unsupported && self.cluster().is_embedded() {
            return error.saying("not supported by the embedded broker".to_owned());
        }
        error
    }

    /// Why something of the cluster was not shown or changed, as an error of this API.
    pub(super) fn refused(&self, error: AdminError) -> ApiError {
        match error {
            AdminError::Kafka(fault) => self.fault(&fault),
            other => error::of_admin(other),
        }
    }
}

/// The body of a request, which is JSON.
pub struct JsonBody(Bytes);

/// Without what is in it, which may be a password.
impl fmt::Debug for JsonBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonBody({} bytes)", self.0.len())
    }
}

impl FromRequest<Gateway> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self, ApiError> {
        json::body(request, gateway, "").await.map(Self)
    }
}

impl JsonBody {
    #[cfg(test)]
    pub(super) fn of(body: &str) -> Self {
        Self(Bytes::copy_from_slice(body.as_bytes()))
    }

    /// The object that it is, which may have these fields.
    ///
    /// # Errors
    ///
    /// 422 with 42206 where there is none; 400 and 422 as [`Object::body`].
    pub(super) fn object(&self, known: &[&str]) -> Result<Object<'_>, ApiError> {
        self.optional_object(known)?.ok_or_else(|| {
            let message = "Payload error. Request body is empty. Data is required.";
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, 42206, message)
        })
    }

    /// The same where the body may be left out.
    ///
    /// # Errors
    ///
    /// 400 and 422 as [`Object::body`].
    pub(super) fn optional_object(&self, known: &[&str]) -> Result<Option<Object<'_>>, ApiError> {
        Object::body(&self.0, known)
    }
}
