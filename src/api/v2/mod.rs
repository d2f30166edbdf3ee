//! The compatible REST API, version 2: what clients written for Confluent REST Proxy, Karapace,
//! Strimzi's bridge or Redpanda's proxy call. docs/compatibility.md has a line for everything in
//! which it differs from the reference on purpose.
//!
//! - `media`: its media types, and which one a request gets
//! - `error`: its error codes
//! - `topics`, `partitions`, `brokers`, `produce`: one resource each
//! - `reading`, `admin`, `health`: what only Redpanda's proxy, Strimzi's bridge or Karapace have
//! - `consumers`: consumer instances

pub mod admin;
pub mod brokers;
pub mod consumers;
pub mod error;
pub mod health;
pub mod media;
pub mod partitions;
pub mod produce;
pub mod reading;
pub mod topics;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::http::error::ApiError;

/// An answer that cannot be written as JSON.
fn unwritten(error: serde_json::Error) -> ApiError {
    ApiError::internal(format_args!("an answer could not be written: {error}"))
}

/// The answer to a request whose answer is to have the type `kind`, errors included.
fn answer<T: Serialize>(
    kind: &'static str,
    result: Result<T, ApiError>,
) -> Result<Response, ApiError> {
    let json = result
        .and_then(|value| serde_json::to_vec(&value).map_err(unwritten))
        .map_err(|error| error.typed(kind))?;
    Ok(([(header::CONTENT_TYPE, kind)], json).into_response())
}
