//! The APIs: each knows its own wire shapes and nothing else.
//!
//! Every path of the product is a row in [`routes`]; router, OpenAPI document and the walk tests
//! come from it.

pub mod docs;
mod fields;
pub(crate) mod ingest;
mod json;
pub mod management;
mod offset_reset;
pub mod openapi;
pub(crate) mod plain;
pub mod records;
pub(crate) mod rest_proxy_codes;
pub mod root;
pub mod route_filter;
pub mod routes;
pub mod tickets;
pub mod v2;
pub(crate) mod v3;
pub mod ws;
