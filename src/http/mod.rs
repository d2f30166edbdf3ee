//! What all APIs share: the error shape, content negotiation, bodies and parameters within limits,
//! request ids, which pages and how many requests are let in. Nothing here knows a single route.

pub mod body;
pub mod cors;
pub mod credentials;
pub mod csrf;
pub mod encoding;
pub mod error;
pub mod extract;
pub mod idempotency;
pub(crate) mod json_object;
pub mod negotiate;
pub(crate) mod own_url;
pub mod rate_limit;
pub mod request_id;
pub mod response_layer;
