//! Records as they are kept: copied out of what Kafka answered.
//!
//! Keys and values as krafka gives them are slices of the answer to a fetch, or of a batch of it that was
//! unpacked, and each of them keeps all of that in memory: of a record of 100 bytes that was fetched alone
//! that is kilobytes, and of one that is left of a large fetch it is megabytes. So what is kept for longer
//! than it takes to send it is copied, once for each record: small ones together, in pieces that hold
//! nothing else and are gone soon after each other.

use bytes::Bytes;

use crate::record::ConsumerRecord;

/// Most bytes of several records that stand together. One of them that is kept for long keeps so many.
const PIECE: usize = 4 << 10;

/// The same records, with nothing of the answers that they came in.
pub(super) fn copied(mut records: Vec<ConsumerRecord>) -> Vec<ConsumerRecord> {
    let mut rest = records.as_mut_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let mut count = 0;
        for record in &*rest {
            let size = parts(record).map(Bytes::len).sum::<usize>();
            if count > 0 && bytes + size > PIECE {
                break;
            }
            bytes += size;
            count += 1;
        }
        let (together, others) = rest.split_at_mut(count);
        copy(together, bytes);
        rest = others;
    }
    records
}

/// Copies these into a piece of their own.
fn copy(records: &mut [ConsumerRecord], bytes: usize) {
    let mut piece = Vec::with_capacity(bytes);
    for part in records.iter().flat_map(parts) {
        piece.extend_from_slice(part);
    }
    let mut piece = Bytes::from(piece);
    for part in records.iter_mut().flat_map(parts_mut) {
        *part = piece.split_to(part.len());
    }
    for record in records {
        record.headers.shrink_to_fit();
    }
}

fn parts(record: &ConsumerRecord) -> impl Iterator<Item = &Bytes> {
    let headers = record.headers.iter().filter_map(|h| h.value.as_ref());
    record.key.iter().chain(&record.value).chain(headers)
}

fn parts_mut(record: &mut ConsumerRecord) -> impl Iterator<Item = &mut Bytes> {
    let headers = record.headers.iter_mut().filter_map(|h| h.value.as_mut());
    record
        .key
        .iter_mut()
        .chain(&mut record.value)
        .chain(headers)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::record::{Header, TimestampType};

    /// The answer to a fetch, which tells by its count whether anything still keeps it.
    struct Answer(Vec<u8>, #[expect(dead_code, reason = "counted")] Arc<()>);

    impl AsRef<[u8]> for Answer {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    /// An answer of 64 KiB, and what says whether it is still there.
    fn answer() -> (Bytes, Arc<()>) {
        let kept = Arc::new(());
        let text = (0..64 << 10).map(|at: u32| at.to_le_bytes()[0]).collect();
        (Bytes::from_owner(Answer(text, Arc::clone(&kept))), kept)
    }

    fn record(offset: i64, key: Option<Bytes>, value: Option<Bytes>) -> ConsumerRecord {
        ConsumerRecord {
            topic: Arc::from("t"),
            partition: 0,
            offset,
            timestamp: 0,
            timestamp_type: TimestampType::Create,
            key,
            value,
            headers: Vec::new(),
        }
    }

    #[test]
    fn records_that_are_kept_keep_nothing_of_the_answer_and_are_the_same() {
        let (answer, kept) = answer();
        let mut records: Vec<ConsumerRecord> = (0..200_usize)
            .map(|at| {
                let from = at * 100;
                let key = answer.slice(from..from + 8);
                let value = answer.slice(from + 8..from + 100);
                record(i64::try_from(at).unwrap(), Some(key), Some(value))
            })
            .collect();
        records.push(record(200, None, Some(answer.slice(9..9))));
        records.push(record(201, Some(answer.slice(0..3)), None));
        records.push(record(202, None, Some(answer.slice(0..40_000))));
        records.push(ConsumerRecord {
            headers: vec![
                Header {
                    name: "none".to_owned(),
                    value: None,
                },
                Header {
                    name: "some".to_owned(),
                    value: Some(answer.slice(7..70)),
                },
            ],
            ..record(203, None, None)
        });
        let before: Vec<ConsumerRecord> = records.clone();
        let after = copied(records);
        assert_eq!(after, before);
        drop((answer, before));
        assert_eq!(Arc::strong_count(&kept), 1, "the answer is gone");
        assert_eq!(after.len(), 204);
    }

    #[test]
    fn small_records_stand_together_and_one_that_stays_keeps_few_of_them() {
        let (answer, _kept) = answer();
        let records = (0..1_000_usize).map(|at| {
            let value = answer.slice(at..at + 100);
            record(i64::try_from(at).unwrap(), None, Some(value))
        });
        let records = copied(records.collect());
        // One piece ends where the next record does not stand right behind it.
        let mut pieces: Vec<usize> = Vec::new();
        let mut end = std::ptr::null();
        for record in &records {
            let value = record.value.as_ref().unwrap();
            if value.as_ptr() == end {
                *pieces.last_mut().unwrap() += value.len();
            } else {
                pieces.push(value.len());
            }
            end = value.as_ptr().wrapping_add(value.len());
        }
        assert_eq!(pieces.iter().sum::<usize>(), 100_000);
        assert!(
            pieces.len() <= 1_000_usize.div_ceil(PIECE / 100),
            "{pieces:?}"
        );
        // Two that happen to stand behind each other look as one here.
        let of_one = pieces.iter().filter(|bytes| **bytes <= PIECE).count();
        assert!(of_one > 0, "{pieces:?}");
    }
}
