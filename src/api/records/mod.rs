//! The records API: `/topics/{topic}/records`, the plain way to write and read a topic,
//! a page at a time or as it comes.

pub(super) mod page;
mod params;
pub mod read;
pub mod stream;
pub mod write;

use crate::api::json::JSON;
use crate::stream::event_format::{EVENT_STREAM, NDJSON};
