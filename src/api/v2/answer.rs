//! The media type of an answer, which its errors have too.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::media;
use crate::api::json;
use crate::http::error::ApiError;

/// The type that an answer and its errors have. As an argument of a handler: this API's own unless `Accept`
/// asks for plain JSON, and 406 where it rules out both.
#[derive(Debug, Clone, Copy)]
pub struct AnswerType(pub(super) &'static str);

impl<S: Sync> FromRequestParts<S> for AnswerType {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        media::of_answer(&parts.headers).map(Self)
    }
}

impl AnswerType {
    /// 200 with a value as JSON, or the error.
    pub(super) fn json<T: Serialize>(
        self,
        result: Result<T, ApiError>,
    ) -> Result<Response, ApiError> {
        let json = result
            .and_then(|value| json::written(&value))
            .map_err(|error| self.error(error))?;
        Ok(([(header::CONTENT_TYPE, self.0)], json).into_response())
    }

    /// 204, or the error.
    pub(super) fn no_content(self, result: Result<(), ApiError>) -> Result<Response, ApiError> {
        result.map_err(|error| self.error(error))?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// The error, in this type.
    pub(super) fn error(self, error: ApiError) -> ApiError {
        error.typed(self.0)
    }
}
