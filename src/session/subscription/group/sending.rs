//! Which records go out next, and when a frame of them is worth sending.

use std::time::Instant;

use super::Group;
use super::options::Options;
use crate::codec::format::Format;
use crate::codec::frame_records::Writer;
use crate::delivery::{AckMode, Reason, Take, Verdict};
use crate::record::ConsumerRecord;
use crate::session::frame_queue::LEAST_ROOM;
use crate::session::protocol::client::OnDecodeError;
use crate::session::subscription::SessionContext;

impl Group {
    /// The next frame of records, if there are some that may go, in about so many bytes.
    /// `Err` when a record cannot be decoded and the session is to end for it.
    pub fn next_frame(
        &mut self,
        room: usize,
        context: &mut SessionContext<'_>,
    ) -> Result<Option<Vec<u8>>, String> {
        if room < LEAST_ROOM || self.leaving.is_some() {
            return Ok(None);
        }
        let options = &self.options;
        if !options.common.linger.is_zero() && !self.is_worth_sending(context.now) {
            return Ok(None);
        }
        let options = &self.options;
        let bytes = options.common.batch_bytes.min(room as u64);
        let most = Take {
            records: options.common.batch_records,
            bytes,
        };
        let mut writer: Option<Writer> = None;
        let mut undecodable = None;
        let strict = options.common.strict;
        let took = self.ledger.take(context.now, most, |delivery| {
            let writer = writer.get_or_insert_with(|| {
                Writer::new(
                    &options.common.sub,
                    options.common.formats,
                    options.common.max_record,
                    (delivery.record.size() + 192).max(512),
                )
            });
            if !writer.is_empty() && writer.len() >= room {
                return Verdict::Full;
            }
            if writer.add(delivery.tag, delivery.deliveries, delivery.record, strict) {
                return Verdict::Taken;
            }
            let why = undecoded(delivery.record, options);
            match options.common.on_decode_error {
                OnDecodeError::Skip => Verdict::Skip,
                OnDecodeError::Dlq => Verdict::DeadLetter(Reason::Decode(why)),
                OnDecodeError::Close | OnDecodeError::Deliver => {
                    undecodable = Some(why);
                    Verdict::Full
                }
            }
        });
        self.counted.delivered += took.records as u64;
        self.counted.redelivered += took.redelivered as u64;
        if took.records > 0 {
            self.lingers = None;
            self.lingered = false;
        }
        self.dead(context);
        self.flow(context);
        let frame = writer
            .filter(|writer| !writer.is_empty())
            .map(Writer::finish);
        match (frame, undecodable) {
            // What came before it goes out first.
            (None, Some(why)) => Err(why),
            (frame, _) => Ok(frame),
        }
    }

    /// Whether a frame is full enough, or has waited long enough.
    fn is_worth_sending(&mut self, now: Instant) -> bool {
        let queued = self.ledger.queued();
        if queued == 0 {
            // What comes again does not wait.
            return true;
        }
        if self.lingered {
            return true;
        }
        if queued >= self.options.common.batch_records as u64 {
            return true;
        }
        let since = *self.lingers.get_or_insert(now);
        now >= since + self.options.common.linger
    }

    /// All that was given by `next_frame` has been taken by the socket.
    pub fn flushed(&mut self, context: &mut SessionContext<'_>) {
        if self.options.policy.ack == AckMode::Auto {
            self.ledger.flushed(self.ledger.next_tag());
            self.revoke_further(context);
            self.flow(context);
        }
    }
}

fn undecoded(record: &ConsumerRecord, options: &Options) -> String {
    let name = |format: Format| format.name();
    format!(
        "the record at offset {} of partition {} of topic {} is not what was asked for (key {}, \
         value {})",
        record.offset,
        record.partition,
        record.topic,
        name(options.common.formats.key),
        name(options.common.formats.value)
    )
}
