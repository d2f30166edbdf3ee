//! What the client sends: whether a frame may come, and where it goes.

use std::time::Instant;

use bytes::Bytes;

use super::{Phase, Session};
use crate::session::protocol::client::{ClientFrame, FrameError, Hello};
use crate::session::protocol::close::Close;
use crate::session::protocol::server::{Error, Pong, ServerFrame};
use crate::session::subscription::Subscription;

/// What waits for a socket that takes nothing, beyond which it is cut.
const MOST_WAITING_BYTES: usize = 4 << 20;

impl Session {
    /// A frame of the client.
    pub fn text(&mut self, text: &Bytes, now: Instant) {
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return;
        }
        self.came(text, now);
        if self.out.bytes() > MOST_WAITING_BYTES {
            self.close(
                Close::SlowConsumer,
                "answers wait and the client does not read them",
                now,
            );
        }
    }

    fn came(&mut self, text: &Bytes, now: Instant) {
        self.last_frame = now;
        let first = std::mem::replace(&mut self.fresh, false);
        let frame = match ClientFrame::parse(text) {
            Ok(frame) => frame,
            Err(FrameError::Fatal(message)) => {
                return self.close(Close::ProtocolError, message, now);
            }
            Err(_) if !self.is_known() => return self.not_yet(now),
            Err(FrameError::UnknownType { id, kind }) => {
                let message = format!("there is no frame of type {kind}");
                let error = Error {
                    id,
                    field: Some("type".to_owned()),
                    ..Error::new("unknown_type", message)
                };
                return self.error(error, now);
            }
            Err(FrameError::Invalid {
                id,
                sub,
                field,
                message,
            }) => {
                let error = Error {
                    id,
                    sub,
                    field,
                    ..Error::new("invalid_frame", message)
                };
                return self.error(error, now);
            }
        };
        if !self.is_known() {
            return match frame {
                ClientFrame::Hello(hello) if matches!(self.phase, Phase::Opened(_)) => {
                    self.hello(hello, now);
                }
                _ => self.not_yet(now),
            };
        }
        if !frame.is_unlimited() && !self.rate.admits(now) {
            let error = Error {
                id: frame.id().cloned(),
                retriable: true,
                retry_after_ms: Some(1_000),
                ..Error::new("rate_limited", "more than 2000 frames in a second")
            };
            return self.error(error, now);
        }
        if let ClientFrame::Hello(hello) = frame {
            return self.hello_again(hello, first, now);
        }
        if let Some(frame) = self.put_behind(frame, text.len(), now) {
            self.handle(frame, now);
        }
    }

    fn hello_again(&mut self, hello: Hello, first: bool, now: Instant) {
        if first {
            return self.ready_again(hello, now);
        }
        let error = Error {
            id: hello.id,
            ..Error::new("unexpected_hello", "hello is the first frame or none")
        };
        self.error(error, now);
    }

    fn is_known(&self) -> bool {
        !matches!(self.phase, Phase::Opened(_) | Phase::Checking)
    }

    fn not_yet(&mut self, now: Instant) {
        self.close(
            Close::ProtocolError,
            "nothing but hello, with a token, may come before welcome",
            now,
        );
    }

    /// Handles a frame that waits for no other.
    pub(super) fn handle(&mut self, frame: ClientFrame, now: Instant) {
        match frame {
            ClientFrame::Hello(hello) => self.hello_again(hello, false, now),
            ClientFrame::Auth(auth) => self.auth(auth.id, auth.token, now),
            ClientFrame::Subscribe(subscribe) => self.subscribe(*subscribe, now),
            ClientFrame::Unsubscribe(_)
            | ClientFrame::Ack(_)
            | ClientFrame::Nack(_)
            | ClientFrame::Extend(_)
            | ClientFrame::Commit(_)
            | ClientFrame::Credit(_)
            | ClientFrame::Pause(_)
            | ClientFrame::Resume(_)
            | ClientFrame::Seek(_)
            | ClientFrame::Position(_) => self.command(frame, now),
            ClientFrame::Produce(produced) => self.produce(*produced, now),
            ClientFrame::Ping(ping) => self.send(&ServerFrame::Pong(Pong {
                id: ping.id,
                t: ping.t,
            })),
            ClientFrame::Bye(bye) => self.bye(bye, now),
        }
    }

    /// Hands a frame to the subscription that it names.
    fn command(&mut self, frame: ClientFrame, now: Instant) {
        let id = frame.id().cloned();
        let sub = frame.sub().unwrap_or_default().to_owned();
        let is_group = self
            .group
            .as_ref()
            .is_some_and(|group| group.name() == sub && !group.is_leaving());
        let done = match (frame, self.tail_named(&sub)) {
            (ClientFrame::Unsubscribe(unsubscribe), Some(tail)) => {
                self.drop_tail(tail, unsubscribe.id, true);
                Some(Ok(None))
            }
            (frame, Some(tail)) => self.with_tail(tail, now, |tail, context| {
                Subscription::Tail(tail).command(frame, context)
            }),
            (frame, None) if is_group => self.with_group(now, |group, context| {
                Subscription::Group(group).command(frame, context)
            }),
            (_, None) => None,
        };
        // Not the client's fault: what it had begun when the subscription ended comes in late.
        let is_late = done.is_none()
            && (self.ended.as_deref() == Some(sub.as_str())
                || self.group.as_ref().is_some_and(|group| group.name() == sub));
        let error = match done {
            Some(Ok(None)) => None,
            Some(Ok(Some(error)) | Err(error)) => Some(error),
            None => {
                let sub: String = sub.chars().take(64).collect();
                Some(Error {
                    field: Some("sub".to_owned()),
                    ..Error::new(
                        "unknown_sub",
                        format!("sub: there is no subscription {sub}"),
                    )
                })
            }
        };
        if let Some(error) = error {
            let error = Error {
                id,
                sub: Some(sub.chars().take(64).collect()),
                ..error
            };
            if is_late {
                self.send(&ServerFrame::Error(error));
            } else {
                self.error(error, now);
            }
        }
        self.settle(now);
    }
}
