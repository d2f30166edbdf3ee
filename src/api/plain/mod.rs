//! Administration the plain way, for people with curl: topics and groups under short names, JSON without vendor
//! types. The services are those of `admin/`, which REST v3 has too.
//!
//! - `topics.rs`: `PUT` and `DELETE /topics/{topic}`; `storage.rs`: how large a topic is, and how its oldest records
//!   are deleted
//! - `groups.rs`: `/groups`: groups, their members and lag; `offsets.rs`: what a group has committed is moved or
//!   deleted
//! - `error.rs`: what goes wrong

mod error;
pub mod groups;
pub mod offsets;
pub mod storage;
pub mod topics;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;

use crate::api::json::{self, JSON};
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::json_object::Object;
use crate::http::negotiate;

/// The body of a request, which is JSON.
#[derive(Debug)]
pub struct PlainBody(Bytes);

impl FromRequest<Gateway> for PlainBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self, ApiError> {
        negotiate::accept(request.headers(), &[JSON])?;
        let body = json::body(request, gateway, "; with curl: --json instead of -d");
        body.await.map(Self)
    }
}

impl PlainBody {
    /// The object that it is, which may have these fields; `None` where there is no body.
    ///
    /// # Errors
    ///
    /// 400 and 422 as [`Object::body`].
    fn object(&self, known: &[&str]) -> Result<Option<Object<'_>>, ApiError> {
        Object::body(&self.0, known)
    }

    #[cfg(test)]
    fn of(body: &str) -> Self {
        Self(Bytes::copy_from_slice(body.as_bytes()))
    }
}
