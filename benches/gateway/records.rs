//! The records that every row writes and reads, as Kafka's bytes and as request bodies.

use std::rc::Rc;

use super::load;

/// A key and a value, as both ends of the comparison send them.
pub struct Record {
    /// Eight bytes and a bit; a thousand different ones.
    pub key: String,
    /// JSON of the size asked for.
    pub value: String,
}

/// A thousand records with values of `size` bytes.
pub fn records(size: usize) -> Vec<Record> {
    (0..1000)
        .map(|number| {
            let start = format!(r#"{{"id":{number},"total":99.5,"note":""#);
            let pad = size.saturating_sub(start.len() + 2);
            Record {
                key: format!("key-{number:05}"),
                value: format!("{start}{}\"}}", "a".repeat(pad)),
            }
        })
        .collect()
}

fn json(record: &Record) -> String {
    format!(r#"{{"key":"{}","value":{}}}"#, record.key, record.value)
}

/// The path of a topic's records.
pub fn path(topic: &str) -> String {
    format!("/topics/{topic}/records")
}

/// POSTs of one record each.
pub fn posts_of_one(topic: &str, records: &[Record]) -> Rc<Vec<Vec<u8>>> {
    let post = |record| load::post(&path(topic), "application/json", json(record).as_bytes());
    Rc::new(records.iter().map(post).collect())
}

/// POSTs of `count` records each, as JSON arrays.
pub fn posts_of_many(topic: &str, records: &[Record], count: usize) -> Rc<Vec<Vec<u8>>> {
    let post = |chunk: &[Record]| {
        let items: Vec<String> = chunk.iter().map(json).collect();
        let body = format!("[{}]", items.join(","));
        load::post(&path(topic), "application/json", body.as_bytes())
    };
    Rc::new(records.chunks_exact(count).map(post).collect())
}

/// The records as lines of NDJSON.
pub fn lines(records: &[Record]) -> Vec<u8> {
    records
        .iter()
        .flat_map(|record| (json(record) + "\n").into_bytes())
        .collect()
}
