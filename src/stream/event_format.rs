//! The wire shapes of events beside records: blocks of `text/event-stream` (the HTML standard, 9.2), or
//! lines of NDJSON that a record could not be, because they have the field `event`.

use serde::Serialize;

use crate::codec::encode;

pub(crate) const NDJSON: &str = "application/x-ndjson";
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// How records get to a client, and so which of these shapes a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    Ndjson,
    Sse,
    /// A WebSocket session, which has frames of its own.
    Ws(Shape),
}

/// What records of a WebSocket session are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Most bytes of one.
    pub(crate) max_record: usize,
    pub(crate) undecodable: Undecodable,
}

/// What becomes of a record whose key or value is not in the format asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Undecodable {
    /// It comes in another one.
    Deliver,
    /// It is left out.
    Skip,
    /// Nothing is made of it, but it is not left out either.
    Mark,
}

impl Transport {
    pub(crate) fn of(content_type: &str) -> Self {
        if content_type == EVENT_STREAM {
            Self::Sse
        } else {
            Self::Ndjson
        }
    }

    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Ndjson => NDJSON,
            Self::Sse => EVENT_STREAM,
            Self::Ws(_) => "application/json",
        }
    }

    /// Its name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Sse => "sse",
            Self::Ws(_) => "ws",
        }
    }
}

/// Writes an event.
pub(crate) fn event<T: Serialize>(
    out: &mut Vec<u8>,
    transport: Transport,
    name: &str,
    id: Option<&str>,
    data: &T,
) {
    match transport {
        Transport::Sse => {
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(name.as_bytes());
            out.push(b'\n');
            if let Some(id) = id {
                self::id(out, id);
            }
            out.extend_from_slice(b"data: ");
            encode::json(out, data);
            out.extend_from_slice(b"\n\n");
        }
        Transport::Ndjson => {
            #[derive(Serialize)]
            struct Line<'a, T> {
                event: &'a str,
                #[serde(skip_serializing_if = "Option::is_none")]
                id: Option<&'a str>,
                data: &'a T,
            }
            let event = name;
            encode::json(out, &Line { event, id, data });
            out.push(b'\n');
        }
        // Not its frames.
        Transport::Ws(_) => {}
    }
}

/// Writes the line with the id of the event that follows.
pub(super) fn id(out: &mut Vec<u8>, id: &str) {
    out.extend_from_slice(b"id: ");
    out.extend_from_slice(id.as_bytes());
    out.push(b'\n');
}

/// Writes how long a client is to wait before it connects again.
pub(crate) fn retry(out: &mut Vec<u8>, ms: u64) {
    out.extend_from_slice(format!("retry: {ms}\n\n").as_bytes());
}
