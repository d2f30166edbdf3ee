//! The connection under a request: engines that write or end it need no more of HTTP than this.
//!
//! - `connection.rs`: what is known of a connection, and how it is ended
//! - `h2_reset.rs`: the end of one request of several on it
//! - `client_address.rs`: whose it is, seen through proxies
//! - `held_back.rs`: refusals where nothing else is answered come a little later

pub mod client_address;
pub mod connection;
pub mod h2_reset;
pub mod held_back;
