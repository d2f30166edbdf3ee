//! What a stream tells beside records: ids, events, signs of life, and its end.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use super::super::error::{ErrorEvent, StreamError};
use super::super::event_format::{self, Transport};
use super::{OVER, RETRY_BUSY, RecordStream};
use crate::kafka::tail::{Ended, Follower, Gap};

impl RecordStream {
    pub(super) fn put_id(&mut self) {
        let id = self.id();
        event_format::id(self.own(), &id);
        self.moved = false;
    }

    pub(super) fn id(&self) -> String {
        let offsets = self.sent.iter().map(Vec::as_slice);
        match &self.times {
            None => self.resume_tokens.encode(offsets),
            Some(times) => self
                .resume_tokens
                .encode_with_times(offsets, |index, partition| {
                    times.get(index)?.get(&partition).copied()
                }),
        }
    }

    /// Of several gaps only the last one has an id: whoever is cut off between them comes back to
    /// where it was, and is told of all of them.
    pub(super) fn gap(&mut self, index: usize, gap: &Gap, last: bool) {
        let Some(part) = self.parts.get(index) else {
            return;
        };
        let data = json!({
            "topic": &*part.topic.name,
            "partition": gap.partition,
            "from": gap.from,
            "to": gap.to,
            "reason": gap.reason.name(),
        });
        metrics::counter!("stream_gaps_total", "reason" => gap.reason.name()).increment(1);
        self.event_at("gap", last, &data);
    }

    pub(super) fn ended(&mut self, index: usize, ended: &Ended) {
        self.write_latest(true);
        if self.over {
            return;
        }
        self.catch_up_with(index);
        let topic = self
            .parts
            .get(index)
            .map(|part| part.topic.name.to_string());
        match ended {
            Ended::Until => {
                if self.followers.iter().all(Follower::is_over) {
                    self.end("until", None);
                }
            }
            Ended::Deleted => self.end("topic deleted", topic),
            // Not for good: whoever comes back is told by `reset` where it begins.
            Ended::Recreated => {
                self.failed(StreamError::Recreated(topic.unwrap_or_default()));
            }
            Ended::Overrun => self.close(),
            Ended::Busy => {
                self.retry = RETRY_BUSY;
                self.failed(StreamError::Busy);
            }
            Ended::Failed(fault) => self.failed(fault.clone().into()),
        }
    }

    /// It is over for good.
    pub(super) fn end(&mut self, reason: &str, topic: Option<String>) {
        let id = format!("{}{OVER}", self.id());
        let data = match topic {
            Some(topic) => json!({"reason": reason, "topic": topic}),
            None => json!({"reason": reason}),
        };
        self.event_with("end", Some(&id), &data);
        self.over = true;
    }

    /// It is over, and goes on when the client connects again.
    pub(super) fn close(&mut self) {
        if self.encoder.transport() == Transport::Sse {
            let retry = self.retry;
            event_format::retry(self.own(), retry);
        }
        self.over = true;
    }

    pub(super) fn failed(&mut self, error: StreamError) {
        let id = self.id_of_event();
        self.error_event(id.as_deref(), error);
        self.close();
    }

    pub(super) fn error_event(&mut self, id: Option<&str>, error: StreamError) {
        let tell_error = Arc::clone(&self.tell_error);
        let transport = self.encoder.transport();
        let event = self.has_events().then(|| ErrorEvent {
            out: self.own(),
            transport,
            id,
        });
        tell_error(error, event);
    }

    /// Where lines are values, there is no place for anything else.
    fn has_events(&self) -> bool {
        self.encoder.transport() != Transport::Ndjson || !self.encoder.is_bare()
    }

    /// A sign of life after silence: with the position where it has moved over what the client did not
    /// want to see, so that it comes back to here and not to where it last saw something.
    pub(super) fn heartbeat(&mut self) {
        let lag: i64 = self.followers.iter().filter_map(Follower::lag).sum();
        if lag > 0 {
            return self.event("lag", &json!({"records": lag, "ms": self.lag_ms()}));
        }
        match self.encoder.transport() {
            Transport::Ndjson if self.moved && !self.encoder.is_bare() => {
                self.event("position", &json!({"from": self.places()}));
            }
            Transport::Sse if self.moved => {
                self.put_id();
                self.out.push(b'\n');
            }
            Transport::Sse => self.give(&Bytes::from_static(b": hb\n\n")),
            Transport::Ndjson | Transport::Ws(_) => self.give(&Bytes::from_static(b"\n")),
        }
    }

    /// How much older the last record is than the newest one that the gateway has read, at most; `None`
    /// where either is not known.
    pub(super) fn lag_ms(&self) -> Option<i64> {
        let parts = self.followers.iter().zip(&self.last);
        let lags = parts.filter_map(|(follower, last)| {
            follower.lag()?;
            Some((follower.newest()? - (*last)?).max(0))
        });
        lags.max()
    }

    /// An event, with an id unless more is to be told before the place that we have come to counts.
    pub(super) fn event_at<T: Serialize>(&mut self, name: &str, counts: bool, data: &T) {
        if counts {
            self.event(name, data);
        } else {
            self.event_with(name, None, data);
        }
    }

    pub(super) fn event<T: Serialize>(&mut self, name: &str, data: &T) {
        let id = self.id_of_event();
        self.event_with(name, id.as_deref(), data);
    }

    /// The id of an event that is told now.
    fn id_of_event(&mut self) -> Option<String> {
        self.moved = false;
        // Before there is a position there is no id: the client keeps the one it has.
        (!self.sent.is_empty()).then(|| self.id())
    }

    pub(super) fn event_with<T: Serialize>(&mut self, name: &str, id: Option<&str>, data: &T) {
        if self.has_events() {
            let transport = self.encoder.transport();
            event_format::event(self.own(), transport, name, id, data);
        }
    }
}
