//! What the client sends: whether a frame may come, and where it goes.

use std::time::Instant;

use bytes::Bytes;

use super::group::{Ending, SessionContext, Subscription};
use super::{Phase, Session};
use crate::session::protocol::Id;
use crate::session::protocol::client::{ClientFrame, FrameError, Hello};
use crate::session::protocol::close::Close;
use crate::session::protocol::server::{Error, Pong, ServerFrame};

/// What waits for a socket that takes nothing, beyond which it is cut.
const MOST_WAITING_BYTES: usize = 4 << 20;

impl Session {
    /// A frame of the client.
    pub fn text(&mut self, text: &Bytes, now: Instant) {
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return;
        }
        self.came(text, now);
        if self.out.bytes > MOST_WAITING_BYTES {
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
        let frame = if frame.sub().is_some() && !self.tails.is_empty() {
            match self.for_tail(frame, now) {
                Some(frame) => frame,
                None => return,
            }
        } else {
            frame
        };
        match frame {
            ClientFrame::Hello(hello) => self.hello_again(hello, false, now),
            ClientFrame::Auth(auth) => self.auth(auth.id, auth.token, now),
            ClientFrame::Subscribe(subscribe) => self.subscribe(*subscribe, now),
            ClientFrame::Unsubscribe(unsubscribe) => {
                let ending = Ending::Unsubscribe(unsubscribe.id.clone());
                let commit = unsubscribe.commit.unwrap_or(true);
                self.on_group(&unsubscribe.sub, unsubscribe.id, now, |group, context| {
                    group.end(ending, commit, false, context);
                    Ok(None)
                });
            }
            ClientFrame::Ack(ack) => {
                let id = ack.id.clone();
                let sub = ack.sub.clone();
                self.on_group(&sub, id, now, |group, context| group.ack(ack, context));
            }
            ClientFrame::Nack(nack) => {
                let id = nack.id.clone();
                let sub = nack.sub.clone();
                self.on_group(&sub, id, now, |group, context| group.nack(nack, context));
            }
            ClientFrame::Extend(extend) => {
                let id = extend.id.clone();
                let sub = extend.sub.clone();
                self.on_group(&sub, id, now, |group, context| {
                    group.extend(extend, context)
                });
            }
            ClientFrame::Commit(commit) => {
                let id = commit.id.clone();
                let sub = commit.sub.clone();
                self.on_group(&sub, id, now, |group, context| {
                    group.commit(commit, context).map(|()| None)
                });
            }
            ClientFrame::Credit(credit) => {
                self.on_group(&credit.sub, credit.id, now, |group, _| {
                    group.credit(credit.records, credit.bytes).map(|()| None)
                });
            }
            ClientFrame::Pause(pause) => {
                let (id, sub) = (pause.id.clone(), pause.sub.clone());
                self.on_group(&sub, id, now, |group, context| {
                    group.pause(pause, true, context).map(|()| None)
                });
            }
            ClientFrame::Resume(pause) => {
                let (id, sub) = (pause.id.clone(), pause.sub.clone());
                self.on_group(&sub, id, now, |group, context| {
                    group.pause(pause, false, context).map(|()| None)
                });
            }
            ClientFrame::Seek(seek) => {
                let (id, sub) = (seek.id.clone(), seek.sub.clone());
                self.on_group(&sub, id, now, |group, context| {
                    group.seek(seek, context).map(|()| None)
                });
            }
            ClientFrame::Position(position) => {
                let id = position.id.clone();
                self.on_group(&position.sub, position.id, now, |group, context| {
                    group.position(id, context).map(|()| None)
                });
            }
            ClientFrame::Produce(produced) => self.produce(*produced, now),
            ClientFrame::Ping(ping) => self.send(&ServerFrame::Pong(Pong {
                id: ping.id,
                t: ping.t,
            })),
            ClientFrame::Bye(bye) => self.bye(bye, now),
        }
    }

    /// Hands a frame to the subscription that it names.
    fn on_group(
        &mut self,
        sub: &str,
        id: Option<Id>,
        now: Instant,
        act: impl FnOnce(&mut Subscription, &mut SessionContext<'_>) -> Result<Option<Error>, Error>,
    ) {
        let known = self
            .group
            .as_ref()
            .is_some_and(|group| group.name() == sub && !group.is_leaving());
        let done = if known {
            self.with_group(now, act)
        } else {
            None
        };
        // Not the client's fault: what it had begun when the subscription ended comes in late.
        let is_late = done.is_none()
            && (self.ended.as_deref() == Some(sub)
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
