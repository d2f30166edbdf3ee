//! The frames of WebSocket clients.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use tidegate::session::protocol::Id;
use tidegate::session::protocol::client::{ClientFrame, FrameError};

/// The frame as a client would write it anew; `None` for `produce`, which is read only.
fn written(frame: &ClientFrame) -> Option<Bytes> {
    fn text(kind: &str, fields: &impl Serialize) -> Option<Bytes> {
        let fields = serde_json::to_string(fields).expect("our own types");
        let rest = fields.strip_prefix('{').expect("an object");
        let comma = if rest == "}" { "" } else { "," };
        Some(Bytes::from(format!("{{\"type\":\"{kind}\"{comma}{rest}")))
    }
    match frame {
        ClientFrame::Hello(fields) => text("hello", fields),
        ClientFrame::Auth(fields) => text("auth", fields),
        ClientFrame::Subscribe(fields) => text("subscribe", fields),
        ClientFrame::Unsubscribe(fields) => text("unsubscribe", fields),
        ClientFrame::Ack(fields) => text("ack", fields),
        ClientFrame::Nack(fields) => text("nack", fields),
        ClientFrame::Extend(fields) => text("extend", fields),
        ClientFrame::Commit(fields) => text("commit", fields),
        ClientFrame::Credit(fields) => text("credit", fields),
        ClientFrame::Pause(fields) => text("pause", fields),
        ClientFrame::Resume(fields) => text("resume", fields),
        ClientFrame::Seek(fields) => text("seek", fields),
        ClientFrame::Position(fields) => text("position", fields),
        ClientFrame::Ping(fields) => text("ping", fields),
        ClientFrame::Bye(fields) => text("bye", fields),
        ClientFrame::Produce(_) => None,
    }
}

fn check_id(id: Option<&Id>) {
    if let Some(Id::Text(id)) = id {
        assert!(id.chars().count() <= 64);
    }
}

fuzz_target!(|text: &str| {
    let text = Bytes::copy_from_slice(text.as_bytes());
    match ClientFrame::parse(&text) {
        Ok(ClientFrame::Produce(produced)) => {
            check_id(Some(&produced.id));
            for record in produced.records.iter().flatten() {
                assert!(record.partition.is_none_or(|partition| partition >= 0));
                assert!(record.size() <= text.len());
            }
        }
        Ok(frame) => {
            let again = written(&frame).expect("all but produce are written");
            assert_eq!(ClientFrame::parse(&again).as_ref(), Ok(&frame));
        }
        Err(FrameError::Fatal(message)) => assert!(!message.is_empty()),
        Err(FrameError::UnknownType { id, kind }) => {
            check_id(id.as_ref());
            assert!(
                kind.chars().count() <= 65,
                "an error does not repeat all of it"
            );
        }
        Err(FrameError::Invalid {
            id, sub, message, ..
        }) => {
            check_id(id.as_ref());
            assert!(sub.is_none_or(|sub| sub.chars().count() <= 65));
            assert!(!message.is_empty());
        }
    }
});
