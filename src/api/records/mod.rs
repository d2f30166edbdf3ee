//! The records door: `/topics/{topic}/records`, the plain way to write and read a topic.

mod encode;
mod format;
mod json;
mod parse;
pub mod read;
pub mod write;

use axum::http::header;
use axum::response::{IntoResponse, Response};

fn json_answer(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
