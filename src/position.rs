//! Positions in topics: where a read starts, and the opaque resume token that says where it may go on.
//!
//! A resume token holds the next offset of every partition of a read. It needs no state in the gateway:
//! any process that serves the same cluster can go on from it. On the wire it is base64url of
//!
//! ```text
//! 1 byte   version (1)
//! 4 bytes  hash of the cluster id and of each topic's name and id, little endian
//! then for each topic, in the order of the request:
//!   varint   number of partitions
//!   (varint partition - previous partition, varint offset) for each, by partition
//! ```
//!
//! One with times (`ids=time` of streams) can also be used in another cluster that mirrors the topics,
//! where offsets are others:
//!
//! ```text
//! 1 byte   version (2)
//! 4 bytes  hash of each topic's name, little endian
//! 4 bytes  hash as above
//! varint   the newest time (ms since 1970)
//! then for each topic, in the order of the request:
//!   varint   number of partitions
//!   (varint partition - previous partition, varint offset, varint age) for each, by partition
//! ```
//!
//! The age is 0 where the time is not known, else the newest time less the partition's, plus 1. The time
//! is that of the last record before the offset: of the records that were not read none lies before the
//! first record of that time or a later one.
//!
//! One of a page for which some brokers did not answer may have partitions whose place is not known yet,
//! with the time from which on their records count:
//!
//! ```text
//! 1 byte   version (3)
//! then as version 1, and after that for each topic, in the order of the request:
//!   varint   number of partitions without a place
//!   (varint partition - previous partition, varint time in ms since 1970) for each, by partition
//! ```
//!
//! The topic's id is in the hash, so that a resume token does not outlive a topic that was deleted and
//! created again: its offsets would point at other records. Varints are LEB128.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::civil::date;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use xxhash_rust::xxh3::Xxh3;

use crate::kafka::metadata::Topic;

const VERSION: u8 = 1;
const VERSION_WITH_TIMES: u8 = 2;
const VERSION_WITHOUT_PLACES: u8 = 3;

/// Most partitions a resume token may have, so that it fits in the header of an event-stream resume.
pub const MAX_PARTITIONS: usize = 512;

/// Longest text that is looked at; a resume token of [`MAX_PARTITIONS`] is far shorter.
const MAX_TEXT: usize = 16 << 10;

/// The time now, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The next offset by partition, for one topic, sorted by partition.
pub type Offsets = Vec<(i32, i64)>;

/// The time of the last record that was read (ms since the epoch), by partition, for one topic;
/// `None` where it is not known.
pub type Times = Vec<(i32, Option<i64>)>;

/// Partitions whose place is not known yet, for one topic, sorted by partition: they begin at the first
/// record of this time (ms since the epoch) or later.
pub type Since = Vec<(i32, i64)>;

/// What a resume token says, one list for each topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The next offsets; `None` in a resume token of another cluster.
    pub offsets: Option<Vec<Offsets>>,
    /// Times, where it has them.
    pub times: Option<Vec<Times>>,
    /// Partitions without a place, where there are such.
    pub since: Option<Vec<Since>>,
}

/// Where a read starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartPosition {
    /// After the last record.
    Latest,
    /// At the first record that is still there.
    Earliest,
    /// The last N records of each partition.
    Last(i64),
    /// The first record whose timestamp (ms since the epoch) is at or after this one.
    Time(i64),
    /// A resume token, opaque or written out.
    ResumeToken(String),
}

/// Why a position cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// It reads as none of the forms.
    #[error(
        "expected latest, earliest, -N (the last N of each partition), a time (ISO 8601 or \
         milliseconds), the `next` of an earlier page, or topic:partition@offset,…"
    )]
    Unreadable,
    /// A resume token of another cluster, of other topics, or of a topic that has been created again.
    #[error(
        "this position belongs to another cluster or to other topics, or the topic was deleted and \
         created again since"
    )]
    Foreign,
    /// A resume token written out that names what the request does not read.
    #[error("{0}")]
    Mismatch(String),
    /// A number that is milliseconds of January to April 1970, and seconds of these years.
    #[error(
        "{number} looks like seconds since 1970; numbers are milliseconds: {number}000, or write the \
         time as {iso}",
        number = .0,
        iso = iso_of_seconds(.0)
    )]
    Seconds(i64),
}

impl StartPosition {
    /// Reads the text of a `from` parameter. Resume tokens are only recognised here; see [`decode`].
    ///
    /// # Errors
    ///
    /// [`PositionError::Unreadable`].
    pub fn parse(text: &str) -> Result<Self, PositionError> {
        let text = text.trim();
        match text {
            "latest" => return Ok(Self::Latest),
            "earliest" => return Ok(Self::Earliest),
            _ => {}
        }
        if let Some(count) = text.strip_prefix('-') {
            let count: i64 = count.parse().map_err(|_| PositionError::Unreadable)?;
            return if count < 0 {
                Err(PositionError::Unreadable)
            } else {
                Ok(Self::Last(count))
            };
        }
        if text.contains('@') {
            return Ok(Self::ResumeToken(text.to_owned()));
        }
        if let Some(time) = time_ms(text) {
            if text.bytes().all(|b| b.is_ascii_digit()) {
                return number_ms(time).map(Self::Time);
            }
            // Kafka has no records from before 1970, and gives times below 0 another meaning.
            return Ok(Self::Time(time.max(0)));
        }
        if text.len() > MAX_TEXT || URL_SAFE_NO_PAD.decode(text).is_err() || text.is_empty() {
            return Err(PositionError::Unreadable);
        }
        Ok(Self::ResumeToken(text.to_owned()))
    }
}

/// Milliseconds since the epoch of an ISO 8601 time (UTC when it has no offset) or of a plain
/// number of milliseconds; below 0 for a time before 1970. `None` when the text is neither.
pub fn time_ms(text: &str) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok();
    }
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    // A `+` in a query string arrives as a space unless it was percent-encoded; people forget.
    let text = text.replace(' ', "+");
    // Not jiff's `Timestamp`: it ends a day before the last year does.
    let pieces = Pieces::parse(&text).ok()?;
    if pieces.time_zone_annotation().is_some() && pieces.offset().is_none() {
        return None;
    }
    let civil = pieces.date().to_datetime(pieces.time().unwrap_or_default());
    let offset = pieces.to_numeric_offset().unwrap_or(Offset::UTC);
    let since = civil.duration_since(date(1970, 1, 1).at(0, 0, 0, 0));
    let ms = since.as_millis() - i128::from(offset.seconds()) * 1_000;
    i64::try_from(ms).ok()
}

/// Milliseconds that were given as a number, unless they are meant as seconds: with ten digits it is a
/// time of 2001 to 2286 in those, and one of the first weeks of 1970 in milliseconds.
///
/// # Errors
///
/// [`PositionError::Seconds`].
pub fn number_ms(number: i64) -> Result<i64, PositionError> {
    match number {
        1_000_000_000..=9_999_999_999 => Err(PositionError::Seconds(number)),
        ms => Ok(ms),
    }
}

fn iso_of_seconds(seconds: &i64) -> String {
    jiff::Timestamp::from_second(*seconds)
        .map_or_else(|_| "ISO 8601".to_owned(), |at| at.to_string())
}

/// Writes the resume token of `offsets`, one list for each of `topics`.
pub fn encode(cluster_id: &str, topics: &[&Topic], offsets: &[Offsets]) -> String {
    ResumeTokens::new(cluster_id, topics).encode(offsets.iter().map(Vec::as_slice))
}

/// Writes resume tokens of the same topics again and again.
#[derive(Debug, Clone, Copy)]
pub struct ResumeTokens {
    hash: u32,
    hash_of_names: u32,
}

impl ResumeTokens {
    /// Resume tokens of `topics`.
    pub fn new(cluster_id: &str, topics: &[&Topic]) -> Self {
        Self {
            hash: hash(cluster_id, topics),
            hash_of_names: hash_of_names(topics),
        }
    }

    /// The same with times: `time` of a topic's index and a partition.
    pub fn encode_with_times<'a>(
        &self,
        offsets: impl Iterator<Item = &'a [(i32, i64)]> + Clone,
        time: impl Fn(usize, i32) -> Option<i64>,
    ) -> String {
        // A record without a time has one below 0.
        let time = |index, partition| time(index, partition).and_then(|ms| u64::try_from(ms).ok());
        let all = offsets.clone().enumerate();
        let all = all.flat_map(|(index, of)| of.iter().map(move |(id, _)| (index, *id)));
        let newest = all.filter_map(|(index, id)| time(index, id)).max();
        let newest = newest.unwrap_or(0);
        let mut bytes = Vec::with_capacity(64);
        bytes.push(VERSION_WITH_TIMES);
        bytes.extend_from_slice(&self.hash_of_names.to_le_bytes());
        bytes.extend_from_slice(&self.hash.to_le_bytes());
        put_varint(&mut bytes, newest);
        for (index, offsets) in offsets.enumerate() {
            put_varint(&mut bytes, offsets.len() as u64);
            let mut previous = 0;
            for (partition, offset) in offsets {
                put_varint(&mut bytes, u64::try_from(partition - previous).unwrap_or(0));
                put_varint(&mut bytes, u64::try_from(*offset).unwrap_or(0));
                let age = time(index, *partition).map_or(0, |time| newest - time + 1);
                put_varint(&mut bytes, age);
                previous = *partition;
            }
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The resume token of `offsets`, one list for each of the topics.
    pub fn encode<'a>(&self, offsets: impl Iterator<Item = &'a [(i32, i64)]>) -> String {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.hash.to_le_bytes());
        put_entries(&mut bytes, offsets);
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// Writes the resume token of `offsets` and of the partitions that have no place yet, one list of each for
/// each of `topics`.
pub fn encode_since(
    cluster_id: &str,
    topics: &[&Topic],
    offsets: &[Offsets],
    since: &[Since],
) -> String {
    if since.iter().all(Vec::is_empty) {
        return encode(cluster_id, topics, offsets);
    }
    let mut bytes = Vec::with_capacity(64);
    bytes.push(VERSION_WITHOUT_PLACES);
    bytes.extend_from_slice(&hash(cluster_id, topics).to_le_bytes());
    put_entries(&mut bytes, offsets.iter().map(Vec::as_slice));
    put_entries(&mut bytes, since.iter().map(Vec::as_slice));
    URL_SAFE_NO_PAD.encode(bytes)
}

fn put_entries<'a>(bytes: &mut Vec<u8>, all: impl Iterator<Item = &'a [(i32, i64)]>) {
    for entries in all {
        put_varint(bytes, entries.len() as u64);
        let mut previous = 0;
        for (partition, number) in entries {
            put_varint(bytes, u64::try_from(partition - previous).unwrap_or(0));
            put_varint(bytes, u64::try_from(*number).unwrap_or(0));
            previous = *partition;
        }
    }
}

/// Reads a resume token, opaque or written out, for a read of `topics`. Partitions that it does not name
/// are not in the answer: they came into being after it was written, or were not asked for.
///
/// # Errors
///
/// [`PositionError`].
pub fn decode(
    text: &str,
    cluster_id: &str,
    topics: &[&Topic],
) -> Result<Vec<Offsets>, PositionError> {
    read(text, cluster_id, topics)?
        .offsets
        .ok_or(PositionError::Foreign)
}

/// The same, of another cluster too where it has times.
///
/// # Errors
///
/// [`PositionError`].
pub fn read(text: &str, cluster_id: &str, topics: &[&Topic]) -> Result<Position, PositionError> {
    let position = if text.contains('@') {
        Position {
            offsets: Some(decode_written_out(text, topics)?),
            times: None,
            since: None,
        }
    } else {
        decode_opaque(text, cluster_id, topics)?
    };
    let offsets: usize = position.offsets.iter().flatten().map(Vec::len).sum();
    let times = position.times.iter().flatten().map(Vec::len).sum();
    let since: usize = position.since.iter().flatten().map(Vec::len).sum();
    if usize::max(offsets + since, times) > MAX_PARTITIONS {
        return Err(PositionError::Mismatch(format!(
            "a position may name {MAX_PARTITIONS} partitions"
        )));
    }
    Ok(position)
}

fn decode_opaque(
    text: &str,
    cluster_id: &str,
    topics: &[&Topic],
) -> Result<Position, PositionError> {
    if text.len() > MAX_TEXT {
        return Err(PositionError::Unreadable);
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| PositionError::Unreadable)?;
    let own = hash(cluster_id, topics);
    match bytes.as_slice() {
        [VERSION, a, b, c, d, rest @ ..] => {
            if u32::from_le_bytes([*a, *b, *c, *d]) != own {
                return Err(PositionError::Foreign);
            }
            let mut rest = rest;
            finished(entries(&mut rest, topics, None, true)?, rest)
        }
        [VERSION_WITHOUT_PLACES, a, b, c, d, rest @ ..] => {
            if u32::from_le_bytes([*a, *b, *c, *d]) != own {
                return Err(PositionError::Foreign);
            }
            let mut rest = rest;
            let places = entries(&mut rest, topics, None, true)?;
            let since = entries(&mut rest, topics, None, true)?.offsets;
            finished(Position { since, ..places }, rest)
        }
        [VERSION_WITH_TIMES, a, b, c, d, e, f, g, h, rest @ ..] => {
            if u32::from_le_bytes([*a, *b, *c, *d]) != hash_of_names(topics) {
                return Err(PositionError::Foreign);
            }
            let mut rest = rest;
            let newest = take_varint(&mut rest).ok_or(PositionError::Unreadable)?;
            let at_home = u32::from_le_bytes([*e, *f, *g, *h]) == own;
            finished(entries(&mut rest, topics, Some(newest), at_home)?, rest)
        }
        _ => Err(PositionError::Unreadable),
    }
}

/// The position, when nothing stands behind it.
fn finished(position: Position, rest: &[u8]) -> Result<Position, PositionError> {
    if rest.is_empty() {
        Ok(position)
    } else {
        Err(PositionError::Unreadable)
    }
}

/// The entries of a resume token, with times where there is a newest one. Of another cluster's the offsets
/// say nothing, and the partitions may be others.
fn entries(
    rest: &mut &[u8],
    topics: &[&Topic],
    newest: Option<u64>,
    at_home: bool,
) -> Result<Position, PositionError> {
    let take = |rest: &mut &[u8]| take_varint(rest).ok_or(PositionError::Unreadable);
    let mut all = Vec::with_capacity(topics.len());
    let mut all_times = Vec::with_capacity(topics.len());
    for topic in topics {
        let count = take(rest)?;
        let (mut offsets, mut times) = (Offsets::new(), Times::new());
        let mut partition = 0_i32;
        for index in 0..count {
            let delta = i32::try_from(take(rest)?)
                .ok()
                .filter(|delta| index == 0 || *delta > 0)
                .ok_or(PositionError::Unreadable)?;
            let offset = i64::try_from(take(rest)?).map_err(|_| PositionError::Unreadable)?;
            partition = partition
                .checked_add(delta)
                .filter(|partition| !at_home || topic.partition(*partition).is_ok())
                .ok_or(PositionError::Unreadable)?;
            offsets.push((partition, offset));
            if let Some(newest) = newest {
                let time = match take(rest)?.checked_sub(1) {
                    None => None,
                    Some(age) => Some(
                        newest
                            .checked_sub(age)
                            .and_then(|time| i64::try_from(time).ok())
                            .ok_or(PositionError::Unreadable)?,
                    ),
                };
                times.push((partition, time));
            }
        }
        all.push(offsets);
        all_times.push(times);
    }
    Ok(Position {
        offsets: at_home.then_some(all),
        times: newest.map(|_| all_times),
        since: None,
    })
}

fn decode_written_out(text: &str, topics: &[&Topic]) -> Result<Vec<Offsets>, PositionError> {
    let mut all = vec![Offsets::new(); topics.len()];
    let mut current = (topics.len() == 1).then_some(0);
    for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        let (place, offset) = entry.split_once('@').ok_or(PositionError::Unreadable)?;
        let partition = match place.rsplit_once(':') {
            Some((name, partition)) => {
                current = topics.iter().position(|topic| *topic.name == *name);
                if current.is_none() {
                    return Err(PositionError::Mismatch(format!(
                        "{entry}: this request does not read topic {name}"
                    )));
                }
                partition
            }
            None => place,
        };
        let at = current.ok_or_else(|| {
            PositionError::Mismatch(format!("{entry}: expected topic:partition@offset"))
        })?;
        let (Some(topic), Some(offsets)) = (topics.get(at), all.get_mut(at)) else {
            return Err(PositionError::Unreadable);
        };
        let partition: i32 = partition.parse().map_err(|_| PositionError::Unreadable)?;
        let offset: i64 = offset.parse().map_err(|_| PositionError::Unreadable)?;
        if offset < 0 {
            return Err(PositionError::Mismatch(format!(
                "{entry}: an offset is 0 or more"
            )));
        }
        if topic.partition(partition).is_err() {
            return Err(PositionError::Mismatch(format!(
                "{entry}: topic {} has no partition {partition}",
                topic.name
            )));
        }
        if offsets.iter().any(|(p, _)| *p == partition) {
            return Err(PositionError::Mismatch(format!(
                "{entry}: partition {partition} is named twice"
            )));
        }
        offsets.push((partition, offset));
    }
    for offsets in &mut all {
        offsets.sort_unstable();
    }
    Ok(all)
}

fn hash(cluster_id: &str, topics: &[&Topic]) -> u32 {
    let mut hasher = Xxh3::new();
    hasher.update(cluster_id.as_bytes());
    for topic in topics {
        hasher.update(&[0]);
        hasher.update(topic.name.as_bytes());
        hasher.update(&[0]);
        hasher.update(&topic.id);
    }
    let [a, b, c, d, ..] = hasher.digest().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Of topics wherever they are.
fn hash_of_names(topics: &[&Topic]) -> u32 {
    let mut hasher = Xxh3::new();
    for topic in topics {
        hasher.update(topic.name.as_bytes());
        hasher.update(&[0]);
    }
    let [a, b, c, d, ..] = hasher.digest().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            bytes.push(low & 0x7f);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests;
