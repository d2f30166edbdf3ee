//! `produce` frames: what is handed on of them, and what each is answered.

use std::time::Instant;

use super::credentials::EXPIRY_LEEWAY;
use super::produce_window::Admission;
use super::{Phase, Session, draining};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::producer::Outcome;
use crate::record::{ProducerRecord, Unplaced};
use crate::session::effect::Effect;
use crate::session::frame_queue::Weight;
use crate::session::protocol::Id;
use crate::session::protocol::client::Produced;
use crate::session::protocol::close::Close;
use crate::session::protocol::server::{Error, ProduceError, ProduceResult};
use crate::session::protocol::topic_error::topic_error;
use crate::write::WriteError;

/// After `produce_overrun`.
const OVERRUN_RETRY_MS: u64 = 100;

/// A `produce` request that waits for its answer.
#[derive(Debug)]
pub(super) struct Request {
    ticket: u64,
    id: Id,
    weight: Weight,
    /// What is wrong with records that were not handed on, by their place.
    unfit: Vec<(usize, ProduceError)>,
}

impl Session {
    pub(super) fn produce(&mut self, frame: Produced, now: Instant) {
        let id = frame.id.clone();
        if let Err(error) = self.try_produce(frame, now) {
            let error = Error {
                id: Some(id),
                ..error
            };
            self.error(error, now);
        }
    }

    fn try_produce(&mut self, frame: Produced, now: Instant) -> Result<(), Error> {
        if matches!(self.phase, Phase::Draining(_)) {
            return Err(draining());
        }
        if frame.tx {
            return Err(Error {
                field: Some("tx".to_owned()),
                ..Error::new("tx_state", "tx: this gateway offers no transactions")
            });
        }
        if self.expires().is_some_and(|at| now > at + EXPIRY_LEEWAY) {
            return Err(Error::new(
                "forbidden",
                "the token or certificate has expired",
            ));
        }
        if frame.records.is_empty() {
            return Err(Error {
                field: Some("records".to_owned()),
                ..Error::new("invalid_frame", "records: expected at least one")
            });
        }
        let bytes: usize = frame
            .records
            .iter()
            .flatten()
            .map(ProducerRecord::size)
            .sum();
        let weight = Weight {
            records: frame.records.len() as u64,
            bytes: bytes as u64,
        };
        let producing = self.producing.get_or_insert_default();
        match producing.admit(&frame.id, weight, now) {
            Admission::Admitted => {}
            Admission::Open => {
                return Err(Error {
                    field: Some("id".to_owned()),
                    ..Error::new("duplicate_id", "id: a request with it waits for its answer")
                });
            }
            Admission::Answered(results) => {
                let id = serde_json::to_string(&frame.id).unwrap_or_default();
                let text = format!(
                    "{{\"type\":\"produced\",\"id\":{id},\"results\":{results},\"duplicate\":true}}"
                );
                self.out.push_text(text, None);
                return Ok(());
            }
            Admission::Overrun(for_long) => {
                if for_long {
                    self.close(
                        Close::RateLimited,
                        "for 30 s every produce was beyond the window",
                        now,
                    );
                }
                return Err(Error {
                    retriable: true,
                    retry_after_ms: Some(OVERRUN_RETRY_MS),
                    ..Error::new(
                        "produce_overrun",
                        "more than welcome.limits.produce_window waits for an answer; nothing of \
                         this request was written",
                    )
                });
            }
        }
        let mut records = Vec::with_capacity(frame.records.len());
        let mut unfit = Vec::new();
        for (index, record) in frame.records.into_iter().enumerate() {
            match record {
                Ok(record) => records.push(record),
                Err(wrong) => unfit.push((
                    index,
                    ProduceError {
                        code: "invalid_record",
                        field: wrong.field.map(|field| format!("/records/{index}{field}")),
                        message: wrong.message,
                        retriable: false,
                        kafka_error: None,
                        maybe_written: false,
                    },
                )),
            }
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.requests.push(Request {
            ticket,
            id: frame.id,
            weight,
            unfit,
        });
        // Also when no record is left: the topic and the right to it are looked at all the same.
        self.effects.push(Effect::Produce {
            ticket,
            topic: frame.topic,
            records,
        });
        Ok(())
    }

    /// What became of a request.
    pub fn produced(
        &mut self,
        ticket: u64,
        outcome: Result<Vec<Outcome>, WriteError>,
        now: Instant,
    ) {
        let Some(index) = self.requests.iter().position(|r| r.ticket == ticket) else {
            return;
        };
        let request = self.requests.swap_remove(index);
        match outcome {
            Err(rejected) => {
                if let Some(producing) = &mut self.producing {
                    producing.answered(&request.id, None, now);
                    producing.gone(request.weight);
                }
                let error = Error {
                    id: Some(request.id),
                    ..rejection(&rejected)
                };
                self.error(error, now);
            }
            Ok(outcomes) => {
                self.produced += outcomes.iter().filter(|o| o.is_ok()).count() as u64;
                let results = results(outcomes, request.unfit);
                let results = serde_json::to_string(&results).unwrap_or_default();
                if let Some(producing) = &mut self.producing {
                    producing.answered(&request.id, Some(&results), now);
                }
                let id = serde_json::to_string(&request.id).unwrap_or_default();
                let text = format!("{{\"type\":\"produced\",\"id\":{id},\"results\":{results}}}");
                if !self.lost && self.phase != Phase::Closed {
                    self.out.push_text(text, Some(request.weight));
                }
            }
        }
        self.settle(now);
    }
}

fn rejection(rejected: &WriteError) -> Error {
    match rejected {
        WriteError::Denied(denied) => Error::new("forbidden", denied.to_string()),
        WriteError::TooMany { .. } => Error {
            field: Some("records".to_owned()),
            ..Error::new("limit_exceeded", rejected.to_string())
        },
        WriteError::Kafka(fault) if fault.kind == FaultKind::Invalid => Error {
            field: Some("topic".to_owned()),
            ..Error::from_fault("invalid_frame", fault)
        },
        // Only of a request that is refused as a whole, which a frame is not for a record's sake.
        WriteError::Invalid(_) => Error::new("invalid_frame", rejected.to_string()),
        WriteError::Kafka(fault) | WriteError::Record { fault, .. } => Error {
            field: (fault.kind == FaultKind::UnknownTopic).then(|| "topic".to_owned()),
            ..topic_error(fault)
        },
    }
}

/// What became of each record of a request, in its order.
fn results(outcomes: Vec<Outcome>, unfit: Vec<(usize, ProduceError)>) -> Vec<ProduceResult> {
    let mut outcomes = outcomes.into_iter().map(|outcome| match outcome {
        Ok(written) => ProduceResult::Written {
            partition: written.partition,
            offset: written.offset.ok(),
            offset_unknown: written.offset.err().map(Unplaced::name),
            timestamp: written.timestamp,
        },
        Err(fault) => ProduceResult::Failed {
            error: produce_error(&fault),
        },
    });
    let mut all = Vec::with_capacity(outcomes.len() + unfit.len());
    for (index, error) in unfit {
        all.extend(outcomes.by_ref().take(index - all.len()));
        all.push(ProduceResult::Failed { error });
    }
    all.extend(outcomes);
    for (index, result) in all.iter_mut().enumerate() {
        if let ProduceResult::Failed { error } = result
            && let Some(field) = &error.field
            && !field.starts_with("/records/")
        {
            error.field = Some(format!("/records/{index}{field}"));
        }
    }
    all
}

fn produce_error(fault: &Fault) -> ProduceError {
    let code = match fault.kind {
        FaultKind::TooLarge => "message_too_large",
        FaultKind::UnknownPartition
        | FaultKind::Invalid
        | FaultKind::ReservedHeader
        | FaultKind::InvalidBySchema => "invalid_record",
        FaultKind::UnknownTopic => "topic_not_found",
        FaultKind::NotAuthorized => "forbidden",
        FaultKind::Unavailable | FaultKind::QueueFull => "kafka_unavailable",
        FaultKind::TimedOut => "timeout",
        _ => "kafka_error",
    };
    ProduceError {
        code,
        message: fault.message.clone(),
        retriable: fault.retriable,
        field: fault.field.as_deref().map(str::to_owned),
        kafka_error: fault.kafka_error,
        maybe_written: fault.maybe_written,
    }
}
