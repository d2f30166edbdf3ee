//! Who is asking, and what they may do.
//!
//! [`Authenticator`] turns what a request carries into a [`Principal`]; [`permission::authorize`] says
//! what a principal may do. Both are asked in one place for all routes (`api::routes`), and the
//! write pipeline asks again for what it does. [`policy::visibility`] says which records of a topic it is
//! shown. What they decide stands in the audit log; see
//! [`audit_context`].

pub mod audit_context;
mod authenticator;
pub mod certificate;
pub mod failure_limiter;
pub mod identity;
mod jwks;
pub mod jwt;
mod keys;
mod passwords;
pub mod permission;
pub mod policy;
mod principal;
mod roles;
pub mod standing;
pub mod ticket;
pub mod users;

pub use authenticator::{Authenticator, Credential, Page};
use principal::{Grants, Inner, ShownBy};
pub use principal::{Principal, notice};
