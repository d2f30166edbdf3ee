//! The APIs: each knows its own wire shapes and nothing else.
//!
//! Every path of the product is a row in [`routes`]; router, OpenAPI document and the walk tests
//! come from it.

pub mod docs;
pub mod management;
pub mod openapi;
pub mod records;
pub mod root;
pub mod route_filter;
pub mod routes;
pub mod tickets;
pub mod v2;
pub mod ws;
