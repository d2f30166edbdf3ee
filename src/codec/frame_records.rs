//! The `records` frame. It is written by hand, straight from the bytes that Kafka gave: a value that
//! is JSON goes out byte for byte. [`Records`] is the same as a type, for the document and its tests.

use serde::Serialize;
use utoipa::ToSchema;

use crate::codec::encode;
use crate::codec::parse::Formats;
use crate::record::ConsumerRecord;

/// Records, always as a list
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Records {
    /// The subscription.
    pub sub: String,
    /// The records, in order within each partition.
    pub records: Vec<Record>,
}

/// A record
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Record {
    /// What the client acknowledges it by; rising in the session, another one each time. A tail's
    /// records are not acknowledged and have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<u64>,
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// `append` where the broker's clock made the timestamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_type: Option<String>,
    /// The key, as `key_format` says; null where there is none.
    #[schema(required)]
    pub key: Option<serde_json::Value>,
    /// The value, as `value_format` says.
    #[schema(required)]
    pub value: Option<serde_json::Value>,
    /// The key's format, where it is not the one asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kf: Option<String>,
    /// The value's format, where it is not the one asked for; `null` for a tombstone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vf: Option<String>,
    /// Pairs of a name and a string, null or `{"b64": "…"}`.
    pub headers: Vec<(String, serde_json::Value)>,
    /// How often it has been delivered, with this time; a tail does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<u32>,
    /// It was delivered before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redelivered: Option<bool>,
    /// The record was too large for the frame: its key, value and headers are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<Truncated>,
}

/// Where a record that is too large for a frame can be had
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Truncated {
    /// Bytes of its key, value and headers.
    pub bytes: u64,
    /// Its own path on this gateway.
    pub href: String,
}

/// A `records` frame that is being written.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    records: usize,
    formats: Formats,
    max_record: usize,
}

impl Writer {
    /// A frame of the subscription `sub`, in which no record takes more than `max_record` bytes.
    pub fn new(sub: &str, formats: Formats, max_record: usize, room: usize) -> Self {
        Self {
            out: begin(sub, room),
            records: 0,
            formats,
            max_record,
        }
    }

    /// Adds a record; false, and nothing is added, when its key or value is not in the format asked
    /// for and `exact` asks for no other.
    pub fn add(&mut self, tag: u64, deliveries: u32, record: &ConsumerRecord, exact: bool) -> bool {
        let before = self.out.len();
        if self.records > 0 {
            self.out.push(b',');
        }
        let style = Style {
            formats: self.formats,
            max_record: self.max_record,
            exact,
        };
        if !write(&mut self.out, Some((tag, deliveries)), record, style) {
            self.out.truncate(before);
            return false;
        }
        self.records += 1;
        true
    }

    /// How many records it has.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether it has no record yet.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The frame's text.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(b"]}");
        self.out
    }
}

/// A `records` frame that is put together from records which many sessions share.
#[derive(Debug)]
pub struct Joined {
    out: Vec<u8>,
    records: usize,
}

impl Joined {
    /// A frame of the subscription `sub`, with room for so many bytes of records at first.
    pub fn new(sub: &str, room: usize) -> Self {
        Self {
            out: begin(sub, sub.len() + 48 + room),
            records: 0,
        }
    }

    /// Adds a record as [`untagged`] has made it.
    pub fn add(&mut self, record: &[u8]) {
        if self.records > 0 {
            self.out.push(b',');
        }
        self.out.extend_from_slice(record);
        self.records += 1;
    }

    /// How many records it has.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether it has no record yet.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The frame's text.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(b"]}");
        self.out
    }
}

/// How a record is written.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// The formats of keys and values.
    pub formats: Formats,
    /// Most bytes; a larger one is left without its key, value and headers, and linked to.
    pub max_record: usize,
    /// No other format than those will do.
    pub exact: bool,
}

/// Writes a record without a tag, which is the same for all who get it; `false`, and nothing of use is
/// written, when it is not in the formats and no other will do.
pub fn untagged(out: &mut Vec<u8>, record: &ConsumerRecord, style: Style) -> bool {
    out.reserve(160 + record.size());
    write(out, None, record, style)
}

fn begin(sub: &str, room: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(room);
    out.extend_from_slice(b"{\"type\":\"records\",\"sub\":");
    encode::string(&mut out, sub);
    out.extend_from_slice(b",\"records\":[");
    out
}

/// Its tag and how often it has been delivered, where there are such.
type Delivery = Option<(u64, u32)>;

/// Writes a record; false, and nothing of use is written, when another format would be needed.
fn write(out: &mut Vec<u8>, delivery: Delivery, record: &ConsumerRecord, style: Style) -> bool {
    let start = out.len();
    head(out, delivery);
    let fell_back = encode::fields(out, record, style.formats, true);
    if style.exact && fell_back {
        return false;
    }
    tail(out, delivery);
    if out.len() - start > style.max_record {
        out.truncate(start);
        truncated(out, delivery, record, style.formats);
    }
    true
}

fn head(out: &mut Vec<u8>, delivery: Delivery) {
    out.push(b'{');
    if let Some((tag, _)) = delivery {
        out.extend_from_slice(b"\"tag\":");
        out.extend_from_slice(itoa::Buffer::new().format(tag).as_bytes());
        out.push(b',');
    }
}

fn tail(out: &mut Vec<u8>, delivery: Delivery) {
    if let Some((_, deliveries)) = delivery {
        out.extend_from_slice(b",\"deliveries\":");
        encode::number(out, i64::from(deliveries));
        if deliveries > 1 {
            out.extend_from_slice(b",\"redelivered\":true");
        }
    }
    out.push(b'}');
}

fn truncated(out: &mut Vec<u8>, delivery: Delivery, record: &ConsumerRecord, formats: Formats) {
    let bytes = record.size();
    let bare = ConsumerRecord {
        key: None,
        value: None,
        headers: Vec::new(),
        ..record.clone()
    };
    head(out, delivery);
    encode::fields(out, &bare, formats, false);
    let href = format!(
        "/topics/{}/partitions/{}/records/{}",
        record.topic, record.partition, record.offset
    );
    out.extend_from_slice(b",\"truncated\":{\"bytes\":");
    out.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
    out.extend_from_slice(b",\"href\":");
    encode::string(out, &href);
    out.push(b'}');
    tail(out, delivery);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::record::{Header, TimestampType};

    fn record(value: Option<&'static [u8]>) -> ConsumerRecord {
        ConsumerRecord {
            topic: Arc::from("t"),
            partition: 1,
            offset: 7,
            timestamp: 9,
            timestamp_type: TimestampType::Create,
            key: Some(Bytes::from_static(b"k")),
            value: value.map(Bytes::from_static),
            headers: vec![Header {
                name: "h".to_owned(),
                value: None,
            }],
        }
    }

    fn frame(records: &[ConsumerRecord], max_record: usize) -> String {
        let mut writer = Writer::new("s", Formats::default(), max_record, 256);
        for (index, record) in records.iter().enumerate() {
            let deliveries = u32::try_from(index).unwrap() + 1;
            assert!(writer.add(5 + index as u64, deliveries, record, false));
        }
        String::from_utf8(writer.finish()).unwrap()
    }

    #[test]
    fn records_go_out_as_they_came() {
        let records = [
            record(Some(b"{\"a\":1.50}")),
            record(None),
            record(Some(b"null")),
            record(Some(b"text")),
            record(Some(b"\xff")),
        ];
        let text = frame(&records, 1 << 20);
        assert!(text.starts_with(
            r#"{"type":"records","sub":"s","records":[{"tag":5,"topic":"t","partition":1,"offset":7,"timestamp":9,"key":"k","value":{"a":1.50},"headers":[["h",null]],"deliveries":1},{"tag":6,"#
        ));
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let vf: Vec<_> = (0..5).map(|n| &json["records"][n]["vf"]).collect();
        assert_eq!(
            vf,
            [
                &json["none"],
                &"null".into(),
                &json["none"],
                &"string".into(),
                &"binary".into()
            ]
        );
        assert_eq!(json["records"][1]["redelivered"], true);
    }

    #[test]
    fn a_record_too_large_for_the_frame_comes_with_a_link() {
        let text = frame(&[record(Some(&[b'"'; 300]))], 500);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let record = &json["records"][0];
        assert_eq!(record["value"], serde_json::Value::Null);
        assert_eq!(record["vf"], serde_json::Value::Null);
        assert_eq!(record["truncated"]["bytes"], 302);
        assert_eq!(
            record["truncated"]["href"],
            "/topics/t/partitions/1/records/7"
        );
    }

    #[test]
    fn a_record_without_a_tag_is_the_same_for_all() {
        let style = |exact| Style {
            formats: Formats::default(),
            max_record: 500,
            exact,
        };
        let written = |record: &ConsumerRecord, exact| {
            let mut out = Vec::new();
            untagged(&mut out, record, style(exact)).then_some(out)
        };
        let made = written(&record(Some(b"1")), true).unwrap();
        let large = written(&record(Some(&[b'"'; 300])), false).unwrap();
        assert_eq!(written(&record(Some(b"text")), true), None);
        let mut joined = Joined::new("s", made.len());
        joined.add(&made);
        joined.add(&large);
        assert_eq!(joined.records(), 2);
        let text = String::from_utf8(joined.finish()).unwrap();
        assert!(text.starts_with(
            r#"{"type":"records","sub":"s","records":[{"topic":"t","partition":1,"offset":7,"timestamp":9,"key":"k","value":1,"headers":[["h",null]]},{"topic""#
        ), "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["records"][1]["truncated"]["bytes"], 302);
    }

    #[test]
    fn without_a_format_to_fall_back_on_a_record_of_another_is_left_out() {
        let mut writer = Writer::new("s", Formats::default(), 1000, 0);
        assert!(!writer.add(1, 1, &record(Some(b"text")), true));
        assert!(writer.add(1, 1, &record(Some(b"1")), true));
        assert_eq!(writer.records(), 1);
        serde_json::from_slice::<serde_json::Value>(&writer.finish()).unwrap();
    }
}
