//! What all doors share: the error shape, content negotiation, bodies and parameters within limits,
//! request ids, which pages and how many requests are let in. Nothing here knows a single route.

pub mod body;
pub mod client;
pub mod cors;
pub mod credentials;
pub mod cross_site;
pub mod cut;
pub mod encoding;
pub mod error;
pub mod extract;
pub mod finish;
pub mod held_back;
pub mod idempotency;
pub mod negotiate;
pub mod rate;
pub mod request_id;
pub mod wire;
