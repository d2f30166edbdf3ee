//! `/docs`: the API page, from the binary itself; nothing is loaded from elsewhere.

use std::sync::{Arc, LazyLock};

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use utoipa_swagger_ui::Config;

use crate::http::error::ApiError;
use crate::http::extract::Path;

/// The page needs its own scripts and inline styles, and pictures inside its style sheet.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

/// To the API page
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "docs",
    tag = "Gateway",
    responses((status = 303, description = "The page is at `/docs/index.html`"))
)]
pub async fn index() -> Redirect {
    Redirect::to("/docs/index.html")
}

/// The API page and its parts
#[utoipa::path(
    get,
    path = "/docs/{file}",
    operation_id = "docsFile",
    tag = "Gateway",
    params(("file" = String, Path, description = "A file of the page", example = "index.html")),
    responses(
        (status = 200, description = "The file", content_type = "text/html"),
        (status = 404, description = "No such file", body = crate::http::error::ErrorBody),
    )
)]
pub async fn file(Path(file): Path<String>) -> Result<Response, ApiError> {
    static CONFIG: LazyLock<Arc<Config<'static>>> =
        LazyLock::new(|| Arc::new(Config::from("/openapi.json")));
    let found = utoipa_swagger_ui::serve(&file, Arc::clone(&CONFIG)).map_err(|error| {
        ApiError::internal(format_args!("the file {file} of the API page: {error}"))
    })?;
    let Some(found) = found else {
        return Err(ApiError::plain(
            StatusCode::NOT_FOUND,
            format!("the API page has no file {file}"),
        ));
    };
    let kind = HeaderValue::from_str(&found.content_type).map_err(|error| {
        ApiError::internal(format_args!("the type of {file} of the API page: {error}"))
    })?;
    Ok((
        [
            (header::CONTENT_TYPE, kind),
            (
                header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_static(CONTENT_SECURITY_POLICY),
            ),
            (
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            ),
        ],
        found.bytes.into_owned(),
    )
        .into_response())
}
