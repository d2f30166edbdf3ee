//! The records that every row writes and reads, as Kafka's bytes and as request bodies.

use std::rc::Rc;

use super::load;
use super::support::tokens;

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

/// A record as the gateway's APIs take it.
pub fn json(record: &Record) -> String {
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

/// The same requests with a token.
pub fn with_token(requests: &[Vec<u8>], token: &str) -> Rc<Vec<Vec<u8>>> {
    let line = format!("authorization: Bearer {token}\r\n");
    let signed = |request: &Vec<u8>| {
        let head = memchr::memchr(b'\n', request).expect("a request line") + 1;
        [&request[..head], line.as_bytes(), &request[head..]].concat()
    };
    Rc::new(requests.iter().map(signed).collect())
}

/// A token of a kilobyte, as issuers write them for people.
pub fn token() -> String {
    let mut claims = tokens::claims("ann", "openid profile email produce:* consume:*");
    claims["exp"] = tokens::seconds_from_now(86_400).into();
    let roles: Vec<String> = (0..20).map(|n| format!("role-number-{n:02}")).collect();
    claims["realm_access"] = serde_json::json!({ "roles": roles });
    claims["name"] = "Ann Example".into();
    claims["email"] = "ann@example.org".into();
    claims["jti"] = "0d4f7f6e-5c1c-4a8e-9a43-6d2f4bb0f6f1".into();
    tokens::sign(&claims, tokens::SECRET.as_bytes())
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
