//! The APIs: each knows its own wire shapes and nothing else.
//!
//! Every path of the product is a row in [`routes`]; router, OpenAPI document and the walk tests
//! come from it.

pub mod docs;
mod everywhere;
pub mod management;
pub mod offered;
pub mod openapi;
pub mod records;
pub mod root;
pub mod routes;
pub mod tickets;
pub mod v2;
pub mod ws;
