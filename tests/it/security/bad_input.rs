//! What clients must not send: each gets an error that says what is wrong with it, nothing of it is
//! written, and the gateway serves the next request as if nothing had been.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{self, Reply, raw_request};
use crate::support::kafka_client::Plain;
use crate::support::{eventually, kafka, topic};

const RECORD_BYTES: usize = 50_000;
const BODY_BYTES: usize = 100_000;
const REQUEST_TIMEOUT: Duration = Duration::from_millis(1500);
/// For the end of a connection that is refused after the timeout above, or after the ten seconds
/// that its first bytes may take.
const CLOSED_BOUND: Duration = Duration::from_secs(60);
/// For the end of one whose client has left: less than the pages last that wait for records.
const LEFT_BOUND: Duration = Duration::from_secs(23);

/// A gateway with low limits, and a topic of two partitions in which nothing may change.
struct Victim {
    gateway: Gateway,
    topic: String,
    plain: Plain,
    connections: String,
}

/// What an answer must be.
struct Refusal<'a> {
    status: u16,
    code: u32,
    /// The field at fault; empty when it is the body as a whole.
    field: &'a str,
    says: &'a [&'a str],
}

fn refusal<'a>(status: u16, field: &'a str, says: &'a [&'a str]) -> Refusal<'a> {
    Refusal {
        status,
        code: u32::from(status),
        field,
        says,
    }
}

impl Victim {
    async fn start() -> Self {
        Self::with(|gateway| gateway).await
    }

    /// One that waits for requests only as long as `REQUEST_TIMEOUT`, which a good one may miss on a
    /// busy machine.
    async fn hasty() -> Self {
        let time = REQUEST_TIMEOUT.as_millis().to_string();
        Self::with(|gateway| gateway.set("http.request_timeout_ms", &time)).await
    }

    async fn with(more: impl FnOnce(Builder) -> Builder) -> Self {
        let kafka = kafka().await;
        let gateway = Gateway::builder(&kafka.bootstrap())
            .set("limits.record_bytes", &RECORD_BYTES.to_string())
            .set("limits.records_per_request", "50")
            .set("limits.connections", "40")
            .set("http.max_body_bytes", &BODY_BYTES.to_string());
        let gateway = more(gateway).start().await;
        let topic = topic("victim");
        let plain = kafka.plain();
        plain.create_topic(&topic, 2, &[]).await;
        let mut victim = Self {
            gateway,
            topic,
            plain,
            connections: String::new(),
        };
        // The gauge comes into being with the first connection.
        victim.serves().await;
        eventually(CLOSED_BOUND, async || victim.gauge().await == "0").await;
        victim.connections = victim.gauge().await;
        victim
    }

    fn records(&self) -> String {
        self.gateway.url(&format!("/topics/{}/records", self.topic))
    }

    async fn gauge(&self) -> String {
        let metrics = http::get(&self.gateway.management_url("/metrics")).await;
        let line = metrics
            .text()
            .lines()
            .find_map(|line| line.strip_prefix("http_connections "));
        line.unwrap_or("none").to_owned()
    }

    /// A normal request is served.
    async fn serves(&self) {
        let reply = http::get(&format!("{}?from=latest", self.records())).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    async fn written(&self) -> i64 {
        let (_, first) = self.plain.watermarks(&self.topic, 0).await;
        let (_, second) = self.plain.watermarks(&self.topic, 1).await;
        first + second
    }

    /// That nothing was written, nothing panicked, no connection is left, and requests are served.
    async fn unharmed(&self) {
        assert_eq!(self.written().await, 0);
        self.serves().await;
        eventually(LEFT_BOUND, async || self.gauge().await == self.connections).await;
        let stderr = self.gateway.stderr();
        assert!(!stderr.contains("panic"), "{stderr}");
    }

    async fn post(&self, query: &str, body: impl Into<reqwest::Body>) -> Reply {
        let request = http::client()
            .post(format!("{}{query}", self.records()))
            .header("content-type", "application/json")
            .body(body);
        http::send(request).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.gateway.address()).await.unwrap()
    }

    fn head(&self, rest: &str) -> String {
        format!(
            "POST /topics/{}/records HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{rest}",
            self.topic
        )
    }
}

#[track_caller]
fn assert_refused(reply: &Reply, expected: &Refusal<'_>, what: &str) {
    let what: String = what.chars().take(200).collect();
    assert_eq!(reply.status, expected.status, "{what}: {}", reply.text());
    assert_eq!(reply.header("content-type"), "application/json", "{what}");
    let error = reply.json();
    assert_eq!(error["error_code"], expected.code, "{what}: {error}");
    let field = match expected.field {
        "" => Value::Null,
        field => json!(field),
    };
    assert_eq!(error["field"], field, "{what}: {error}");
    let message = error["message"].as_str().unwrap();
    for part in expected.says {
        assert!(message.contains(part), "{what}: no {part:?} in {message:?}");
    }
    assert_ne!(reply.header("x-request-id"), "", "{what}");
    assert_eq!(error["request_id"], reply.header("x-request-id"), "{what}");
}

/// Reads until the other side closes, and says how long that took.
async fn until_closed(stream: &mut TcpStream) -> (String, Duration) {
    let started = Instant::now();
    let mut text = Vec::new();
    let read = tokio::time::timeout(CLOSED_BOUND, stream.read_to_end(&mut text));
    // A reset is a close too.
    let _ = read.await.expect("the connection is closed in time");
    (
        String::from_utf8_lossy(&text).into_owned(),
        started.elapsed(),
    )
}

/// Writes bytes one at a time until the other side closes, and says how long that was after `started`.
async fn trickle(
    stream: &mut TcpStream,
    bytes: impl Iterator<Item = u8>,
    started: Instant,
) -> (String, Duration) {
    let mut reply = Vec::new();
    let mut chunk = [0; 4096];
    for byte in bytes {
        assert!(started.elapsed() < CLOSED_BOUND, "nobody ends it");
        let written = stream.write_all(&[byte]).await;
        match tokio::time::timeout(Duration::from_millis(50), stream.read(&mut chunk)).await {
            Ok(Ok(0) | Err(_)) => {
                return (String::from_utf8_lossy(&reply).into(), started.elapsed());
            }
            Ok(Ok(n)) => reply.extend_from_slice(&chunk[..n]),
            Err(_) if written.is_err() => {
                return (String::from_utf8_lossy(&reply).into(), started.elapsed());
            }
            Err(_) => {}
        }
    }
    panic!("all was taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_cannot_be_read_are_refused() {
    let victim = Victim::start().await;
    let deep = "[".repeat(100_000);
    let deep_value = format!("{{\"value\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let deep_objects = format!(
        "[{{\"value\":1}},{{\"value\":{}1{}}}]",
        "{\"a\":".repeat(9_000),
        "}".repeat(9_000)
    );
    let cases: Vec<(&str, &[u8], Refusal<'_>)> = vec![
        // Not JSON.
        ("", b"", refusal(400, "", &["body is empty"])),
        ("", b" \n ", refusal(400, "", &["body is empty"])),
        (
            "",
            b"{\"value\":1,\n \"key\":}",
            refusal(400, "", &["not valid JSON", "line 2 column 8"]),
        ),
        (
            "",
            b"{\"value\":01}",
            refusal(400, "", &["line 1 column 11"]),
        ),
        (
            "",
            b"{\"value\":1}}",
            refusal(400, "", &["line 1 column 12"]),
        ),
        ("", b"{\"value\":1", refusal(400, "", &["line 1 column 10"])),
        (
            "",
            b"[{\"value\":1},\n{\"value\":}]",
            refusal(400, "", &["line 2 column 10"]),
        ),
        (
            "",
            b"[{\"value\":1},]",
            refusal(400, "", &["line 1 column 14"]),
        ),
        (
            "",
            b"{\"value\":1}{\"value\":2}",
            refusal(400, "", &["line 1 column 12"]),
        ),
        (
            "",
            b"{\"value\":NaN}",
            refusal(400, "", &["not valid JSON", "line 1"]),
        ),
        (
            "",
            b"{'value':1}",
            refusal(400, "", &["not valid JSON", "line 1"]),
        ),
        (
            "",
            b"{\"value\":\"\xff\"}",
            refusal(400, "", &["not valid JSON"]),
        ),
        ("", deep.as_bytes(), refusal(400, "", &["not valid JSON"])),
        (
            "",
            deep_value.as_bytes(),
            refusal(422, "/value", &["deeper than 1000"]),
        ),
        (
            "",
            deep_objects.as_bytes(),
            refusal(422, "/1/value", &["deeper than 1000"]),
        ),
        // JSON, and no record.
        ("", b"7", refusal(422, "/", &["a record: an object"])),
        ("", b"\"x\"", refusal(422, "/", &["a record: an object"])),
        ("", b"null", refusal(422, "/", &["a record: an object"])),
        ("", b"[1]", refusal(422, "/0", &["a record: an object"])),
        (
            "",
            b"[{\"value\":1},[]]",
            refusal(422, "/1", &["a record: an object"]),
        ),
        (
            "",
            b"{}",
            refusal(422, "/value", &["needs a value", "tombstone"]),
        ),
        (
            "",
            b"{\"key\":\"a\"}",
            refusal(422, "/value", &["needs a value"]),
        ),
        (
            "",
            b"[{\"value\":1},{\"key\":1}]",
            refusal(422, "/1/value", &["needs a value"]),
        ),
        (
            "",
            b"{\"value\":1,\"vaule\":2}",
            refusal(422, "/vaule", &["unknown field `vaule`", "`value`"]),
        ),
        (
            "",
            b"[{\"value\":1},{\"value\":1,\"a/b\":2}]",
            refusal(422, "/1/a~1b", &["unknown field"]),
        ),
        (
            "",
            b"{\"value\":1,\"value\":2}",
            refusal(422, "/value", &["twice"]),
        ),
        (
            "",
            b"{\"value\":1,\"partition\":\"0\"}",
            refusal(422, "/partition", &["whole number from 0"]),
        ),
        (
            "",
            b"{\"value\":1,\"partition\":0.5}",
            refusal(422, "/partition", &["whole number", "0.5"]),
        ),
        (
            "",
            b"{\"value\":1,\"partition\":-1}",
            refusal(422, "/partition", &["whole number", "-1"]),
        ),
        (
            "",
            b"{\"value\":1,\"partition\":9999999999}",
            refusal(422, "/partition", &["whole number"]),
        ),
        (
            "",
            b"{\"value\":1,\"timestamp\":-5}",
            refusal(422, "/timestamp", &["milliseconds since 1970", "-5"]),
        ),
        (
            "",
            b"{\"value\":1,\"timestamp\":0}",
            refusal(422, "/timestamp", &["more than 0"]),
        ),
        (
            "",
            b"{\"value\":1,\"timestamp\":true}",
            refusal(422, "/timestamp", &["ISO 8601"]),
        ),
        (
            "",
            b"{\"value\":1,\"timestamp\":\"soon\"}",
            refusal(422, "/timestamp", &["ISO 8601", "soon"]),
        ),
        (
            "",
            b"{\"value\":1,\"headers\":7}",
            refusal(422, "/headers", &["array of [name, value] pairs"]),
        ),
        (
            "",
            b"{\"value\":1,\"headers\":{\"a\":1}}",
            refusal(422, "/headers", &["string, null or"]),
        ),
        (
            "",
            b"{\"value\":1,\"headers\":[[\"a\"]]}",
            refusal(422, "/headers", &["invalid length 1"]),
        ),
        (
            "",
            b"{\"value\":1,\"headers\":{\"a\":{\"b64\":\"!\"}}}",
            refusal(422, "/headers", &["a: the value is not valid base64"]),
        ),
        (
            "",
            b"{\"value\":1,\"headers\":[{\"name\":\"a\",\"value\":1}]}",
            refusal(422, "/headers", &["expected a string"]),
        ),
        (
            "",
            b"{\"value\":1,\"headers\":[{\"name\":\"a\",\"val\":\"\"}]}",
            refusal(422, "/headers", &["unknown field `val`"]),
        ),
        (
            "",
            b"{\"value\":1,\"headers\":{\"a\":{\"b65\":\"AA==\"}}}",
            refusal(422, "/headers", &["unknown field `b65`"]),
        ),
        (
            "?value_format=binary",
            b"{\"value\":\"&\"}",
            refusal(422, "/value", &["not valid base64"]),
        ),
        (
            "?value_format=binary",
            b"[{\"value\":\"AA==\"},{\"value\":\"AA\"}]",
            refusal(422, "/1/value", &["not valid base64"]),
        ),
        (
            "?value_format=binary",
            b"{\"value\":7}",
            refusal(422, "/value", &["expected a base64 string"]),
        ),
        (
            "?key_format=binary",
            b"{\"key\":\"x\",\"value\":7}",
            refusal(422, "/key", &["not valid base64"]),
        ),
        (
            "?key_format=string",
            b"{\"key\":1,\"value\":7}",
            refusal(422, "/key", &["expected a JSON string"]),
        ),
        (
            "?value_format=string",
            b"{\"value\":{}}",
            refusal(422, "/value", &["expected a JSON string"]),
        ),
        (
            "",
            b"{\"key\":\"\\ud800\",\"value\":7}",
            refusal(422, "/key", &["expected a JSON string"]),
        ),
    ];
    for (query, body, expected) in &cases {
        let reply = victim.post(query, body.to_vec()).await;
        let what = format!("{query} {}", String::from_utf8_lossy(body));
        assert_refused(&reply, expected, &what);
    }
    victim.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_a_limit_is_refused() {
    let victim = Victim::start().await;
    let large = json!({"value": "x".repeat(RECORD_BYTES)});
    let many = vec![json!({"value": 1}); 51];
    let huge = json!({"value": "x".repeat(BODY_BYTES)}).to_string();

    let reply = victim.post("", large.to_string()).await;
    let limit = RECORD_BYTES.to_string();
    assert_refused(
        &reply,
        &refusal(413, "", &["bytes", &limit]),
        "one large record",
    );
    let body = json!([{"value": 1}, large]).to_string();
    let reply = victim.post("", body).await;
    assert_refused(
        &reply,
        &refusal(413, "/1", &[&limit]),
        "a large record of two",
    );
    let reply = victim.post("", Value::from(many).to_string()).await;
    assert_refused(&reply, &refusal(413, "", &["51", "50"]), "many records");

    let limit = BODY_BYTES.to_string();
    let says = [limit.as_str(), "http.max_body_bytes"];
    let expected = refusal(413, "", &says);
    let reply = victim.post("", huge.clone()).await;
    assert_refused(&reply, &expected, "a body with its length");
    assert_eq!(reply.header("connection"), "close");
    let chunks: Vec<Result<Vec<u8>, std::io::Error>> = huge
        .as_bytes()
        .chunks(1000)
        .map(|chunk| Ok(chunk.to_vec()))
        .collect();
    let stream = futures::stream::iter(chunks);
    let reply = victim.post("", reqwest::Body::wrap_stream(stream)).await;
    assert_refused(&reply, &expected, "a body without its length");

    // A client that asks first is told before it sends anything.
    let mut stream = victim.connect().await;
    let head = victim.head("content-length: 200000\r\nexpect: 100-continue\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (text, _) = until_closed(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");

    let missing = json!([{"value": 1}, {"value": 2, "partition": 2}]).to_string();
    let expected = Refusal {
        code: 40402,
        ..refusal(404, "/1/partition", &["no partition 2", "0 to 1"])
    };
    assert_refused(
        &victim.post("", missing).await,
        &expected,
        "a partition that is not there",
    );
    let missing = json!({"value": 2, "partition": 2_147_483_647}).to_string();
    let expected = Refusal {
        code: 40402,
        ..refusal(404, "/partition", &["no partition"])
    };
    assert_refused(
        &victim.post("", missing).await,
        &expected,
        "the last partition of all",
    );
    victim.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_that_are_not_spoken_are_refused() {
    let victim = Victim::start().await;
    let body = r#"{"value":1}"#;
    let form = "application/x-www-form-urlencoded";
    let cases = [
        (form, vec![form, "-H 'content-type: application/json'"]),
        (
            "multipart/form-data; boundary=x",
            vec!["multipart/form-data", "-H 'content-type: application/json'"],
        ),
    ];
    for (kind, says) in cases {
        let request = http::client()
            .post(victim.records())
            .header("content-type", kind)
            .body(body);
        let reply = http::send(request).await;
        let expected = refusal(415, "Content-Type", &says);
        assert_refused(&reply, &expected, kind);
        assert!(reply.header("accept").contains("application/json"));
    }

    let request = http::client()
        .post(victim.records())
        .header("content-type", "application/json")
        .header("accept", "text/html")
        .body(body);
    let reply = http::send(request).await;
    assert_refused(
        &reply,
        &refusal(406, "Accept", &["application/json"]),
        "accept",
    );
    victim.unharmed().await;

    let request = http::client()
        .post(victim.records())
        .header("content-type", "Application/JSON; charset=UTF-8")
        .body(body);
    assert_eq!(http::send(request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_lead_nowhere_are_refused() {
    let victim = Victim::start().await;
    let records = format!("/topics/{}/records", victim.topic);
    let long = "x".repeat(250);
    let other = Gateway::embedded().start().await;
    let url = other.url(&records);
    assert_eq!(http::post_text(&url, r#"{"value":1}"#).await.status, 200);
    let foreign = http::get(&url).await.json()["next"]
        .as_str()
        .unwrap()
        .to_owned();

    let invalid = |path: &str| (format!("/topics/{path}/records"), invalid_name());
    let cases = vec![
        (
            format!("{records}?from=yesterday"),
            refusal(400, "from", &["latest, earliest"]),
        ),
        (
            format!("{records}?from={foreign}"),
            refusal(400, "from", &["another cluster"]),
        ),
        (
            format!("{records}?form=earliest"),
            refusal(400, "form", &["unknown query parameter form", "from"]),
        ),
        (
            format!("{records}?from=earliest&from=latest"),
            refusal(400, "from", &["more than once"]),
        ),
        (
            format!("{records}?limit=0"),
            refusal(400, "limit", &["from 1 to 50"]),
        ),
        (
            format!("{records}?limit=51"),
            refusal(400, "limit", &["from 1 to 50"]),
        ),
        (
            format!("{records}?limit=x"),
            refusal(400, "limit", &["whole number"]),
        ),
        (
            format!("{records}?wait=25001"),
            refusal(400, "wait", &["from 0 to 25000"]),
        ),
        (
            format!("{records}?wait=-1"),
            refusal(400, "wait", &["whole number"]),
        ),
        (
            format!("{records}?until=noon"),
            refusal(400, "until", &["end"]),
        ),
        (
            format!("{records}?key_format=avro"),
            refusal(400, "key_format", &["auto, json, string or binary"]),
        ),
        (
            format!("{records}?from=%zz"),
            refusal(400, "from", &["percent-encoded"]),
        ),
        (
            format!("{records}?from=%ff"),
            refusal(400, "from", &["percent-encoded UTF-8"]),
        ),
        (
            format!("{records}?%e=1"),
            refusal(400, "query", &["percent-encoded"]),
        ),
        (
            "/topics/%ff/records".to_owned(),
            refusal(400, "path", &["UTF-8", "topic"]),
        ),
        invalid("%zz"),
        invalid("a%20b"),
        invalid("a%2Fb"),
        invalid("%00"),
        invalid(".."),
        invalid("t%C3%A9"),
        invalid(&long),
        (
            "/topics/none-such/records".to_owned(),
            Refusal {
                code: 40401,
                ..refusal(404, "topic", &["none-such does not exist"])
            },
        ),
        (
            "/".to_owned() + &long,
            refusal(404, "", &["there is no /xxx", "openapi.json"]),
        ),
        (
            "/topic".to_owned(),
            refusal(404, "", &["there is no /topic"]),
        ),
        (
            format!("{records}//"),
            refusal(404, "", &["there is no /topics/"]),
        ),
        (
            "/topics/a/b/records".to_owned(),
            refusal(404, "", &["there is no"]),
        ),
        ("//".to_owned(), refusal(404, "", &["there is no"])),
    ];
    for (path, expected) in &cases {
        // By hand: a client library would mend some of these.
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let reply = raw(&victim, request.as_bytes()).await;
        assert_refused(&reply, expected, path);
    }

    for (path, expected) in [
        (
            "?form=1",
            refusal(400, "form", &["unknown query parameter form"]),
        ),
        (
            "?value_format=x",
            refusal(400, "value_format", &["auto, json, string or binary"]),
        ),
    ] {
        assert_refused(&victim.post(path, r#"{"value":1}"#).await, &expected, path);
    }
    let url = victim.gateway.url("/topics/a%20b/records");
    let reply = http::post_text(&url, r#"{"value":1}"#).await;
    assert_refused(&reply, &invalid_name(), "a name with a space");
    victim.unharmed().await;
}

fn invalid_name() -> Refusal<'static> {
    Refusal {
        code: 40002,
        ..refusal(400, "topic", &["not a name that a topic can have"])
    }
}

/// Sends bytes as they are, and takes the answer apart.
async fn raw(victim: &Victim, bytes: &[u8]) -> Reply {
    let reply = raw_request(victim.gateway.address(), bytes, CLOSED_BOUND).await;
    let (head, body) = reply.text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let mut headers = reqwest::header::HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        let name: reqwest::header::HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    Reply {
        status: status.parse().unwrap(),
        headers,
        body: body.as_bytes().to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_that_a_path_does_not_take_are_refused() {
    let victim = Victim::start().await;
    let records = victim.records();
    let one = victim
        .gateway
        .url(&format!("/topics/{}/partitions/0/records/0", victim.topic));
    for (method, url, allowed) in [
        ("DELETE", &records, vec!["GET", "HEAD", "POST"]),
        ("PUT", &records, vec!["GET", "HEAD", "POST"]),
        ("BREW", &records, vec!["GET", "HEAD", "POST"]),
        ("POST", &one, vec!["GET", "HEAD"]),
        (
            "PATCH",
            &victim.gateway.url("/"),
            vec!["GET", "HEAD", "POST"],
        ),
        (
            "DELETE",
            &victim.gateway.url("/brokers"),
            vec!["GET", "HEAD"],
        ),
    ] {
        let method: reqwest::Method = method.parse().unwrap();
        let request = http::client()
            .request(method.clone(), url)
            .header("content-type", "application/json")
            .body(r#"{"value":1}"#);
        let reply = http::send(request).await;
        let what = format!("{method} {url}");
        assert_refused(&reply, &refusal(405, "", &["it takes", "GET"]), &what);
        let mut allow: Vec<&str> = reply.header("allow").split(',').map(str::trim).collect();
        allow.sort_unstable();
        assert_eq!(allow, allowed, "{what}");
    }
    victim.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_trickles_is_refused_in_time() {
    let victim = Victim::hasty().await;
    let bodies = [
        victim.head("content-length: 1000\r\n\r\n{\"value\":\""),
        victim.head("transfer-encoding: chunked\r\n\r\n3e8\r\n{\"value\":\""),
        victim.head("content-length: 1000\r\n\r\n"),
    ];
    for head in bodies {
        let started = Instant::now();
        let mut stream = victim.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let bytes = std::iter::repeat_n(b'x', 900);
        let (text, took) = trickle(&mut stream, bytes, started).await;
        assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("x-request-id: "), "{head}");
        let error: Value = serde_json::from_str(body).unwrap();
        assert_eq!(error["error_code"], 408);
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("1500 ms (http.request_timeout_ms)"),
            "{message}"
        );
        assert!(took >= Duration::from_secs(1), "{took:?}");
    }

    // And over HTTP/2, where the connection goes on.
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .timeout(CLOSED_BOUND)
        .build()
        .unwrap();
    let slow = futures::stream::unfold(0, |n| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Some((Ok::<_, std::io::Error>(vec![b' ']), n + 1))
    });
    let request = client
        .post(victim.records())
        .header("content-type", "application/json")
        .body(reqwest::Body::wrap_stream(slow));
    let reply = http::send(request).await;
    assert_refused(&reply, &refusal(408, "", &["1500 ms"]), "h2");
    let reply = http::send(client.get(victim.records())).await;
    assert_eq!(reply.status, 200);
    drop(client);
    victim.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_says_nothing_useful_is_closed_in_time() {
    let victim = Victim::hasty().await;
    // Silence, half a request line, half a head, half a preface of HTTP/2, and a whole one with
    // nothing behind it are all waited for at the same time.
    let half_head = victim.head("content-le");
    let starts: [&[u8]; 6] = [
        b"",
        b"G",
        b"GET /top",
        half_head.as_bytes(),
        b"PRI * HT",
        b"PRI * HTTP/2.0\r\n\r\nSM",
    ];
    let mut waits = Vec::new();
    for start in starts {
        let mut stream = victim.connect().await;
        stream.write_all(start).await.unwrap();
        waits.push(tokio::spawn(
            async move { until_closed(&mut stream).await.1 },
        ));
    }
    // A head that comes a byte at a time.
    let mut stream = victim.connect().await;
    let head = victim.head("content-length: 10\r\nx-slow: ");
    let endless = head.into_bytes().into_iter().chain(std::iter::repeat(b'x'));
    let (_, took) = trickle(&mut stream, endless, Instant::now()).await;
    assert!(took < CLOSED_BOUND, "{took:?}");
    for wait in waits {
        wait.await.unwrap();
    }
    // A connection that was used and then says nothing more.
    let mut stream = victim.connect().await;
    let request = format!(
        "GET /topics/{}/records HTTP/1.1\r\nhost: localhost\r\n\r\n",
        victim.topic
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let (text, _) = until_closed(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    victim.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_half_way_leaves_nothing_behind() {
    let victim = Victim::start().await;
    let halves = [
        victim.head("content-length: 100\r\n\r\n{\"value\":1"),
        victim.head("transfer-encoding: chunked\r\n\r\nb\r\n{\"value\":1}\r\n"),
        victim.head("content-le"),
        // A page that waits: its reader leaves with it.
        format!(
            "GET /topics/{}/records?wait=25000 HTTP/1.1\r\nhost: localhost\r\n\r\n",
            victim.topic
        ),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0".to_owned(),
    ];
    for half in &halves {
        for _ in 0..3 {
            let mut stream = victim.connect().await;
            stream.write_all(half.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            drop(stream);
        }
    }
    victim.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_are_too_large_or_no_http_are_refused() {
    let victim = Victim::start().await;
    let large = victim.head(&format!("x-large: {}\r\n\r\n", "x".repeat(1 << 20)));
    let many = victim.head(&format!("{}\r\n", "x-many: y\r\n".repeat(50_000)));
    let long = format!(
        "GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "x".repeat(1 << 20)
    );
    for head in [large, many, long] {
        let reply = raw_request(victim.gateway.address(), head.as_bytes(), CLOSED_BOUND).await;
        assert!(reply.closed);
        // The answer may be lost to a reset, as not all was read.
        assert!(
            reply.text.is_empty()
                || reply.text.starts_with("HTTP/1.1 431 ")
                || reply.text.starts_with("HTTP/1.1 414 "),
            "{}",
            reply.text
        );
    }
    let good = format!(
        "GET /topics/{}/records HTTP/1.1\r\nhost: localhost\r\n\r\n",
        victim.topic
    );
    let garbage: [(Vec<u8>, &str); 6] = [
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 tls".to_vec(),
            "HTTP/1.1 400 ",
        ),
        (b"\0\0\0\0\r\n\r\n".to_vec(), "HTTP/1.1 400 "),
        (b"hello there\r\n\r\n".to_vec(), "HTTP/1.1 400 "),
        // Behind a request that is good.
        (
            [good.as_bytes(), b"\x01\x02garbage\r\n\r\n"].concat(),
            "HTTP/1.1 200 ",
        ),
        (
            victim
                .head("content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
                .into_bytes(),
            "HTTP/1.1 400 ",
        ),
        (
            victim.head("content-length: -1\r\n\r\n").into_bytes(),
            "HTTP/1.1 400 ",
        ),
    ];
    for (bytes, expected) in garbage {
        let reply = raw_request(victim.gateway.address(), &bytes, CLOSED_BOUND).await;
        let sent = String::from_utf8_lossy(&bytes).into_owned();
        assert!(reply.closed, "{sent:?}: {}", reply.text);
        assert!(reply.text.starts_with(expected), "{sent:?}: {}", reply.text);
    }
    victim.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_over_the_limit_are_closed_and_the_others_served() {
    let victim = Victim::start().await;
    // Held open by pages that wait, which the request timeout does not end.
    let wait = format!(
        "GET /topics/{}/records?wait=25000 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        victim.topic
    );
    let mut held = Vec::new();
    for _ in 0..40 {
        let mut stream = victim.connect().await;
        stream.write_all(wait.as_bytes()).await.unwrap();
        held.push(stream);
    }
    eventually(CLOSED_BOUND, async || victim.gauge().await == "40").await;
    for _ in 0..5 {
        let mut stream = victim.connect().await;
        let (text, _) = until_closed(&mut stream).await;
        assert_eq!(text, "");
    }
    let metrics = http::get(&victim.gateway.management_url("/metrics")).await;
    assert!(
        metrics
            .text()
            .contains("\nhttp_connections_refused_total{reason=\"connections\"} 5\n"),
        "{}",
        metrics.text()
    );
    drop(held);
    eventually(LEFT_BOUND, async || {
        victim.gauge().await == victim.connections
    })
    .await;
    victim.unharmed().await;
}
