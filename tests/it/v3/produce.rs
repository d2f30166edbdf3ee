//! Writing through the v3 API, as a stream and in batches, seen in the topic by a plain client.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::Body;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, post_text, send};
use crate::support::kafka_client::{OutgoingRecord, StoredRecord};
use crate::support::{kafka, shared_gateway, topic};

const BOUND: Duration = Duration::from_secs(60);

/// The path of a topic.
async fn path_of(topic: &str) -> String {
    let id = kafka().await.plain().cluster_id().await;
    format!("/v3/clusters/{id}/topics/{topic}")
}

/// A new topic, and the path of it.
async fn new_topic(prefix: &str, partitions: i32) -> (String, String) {
    let name = topic(prefix);
    let plain = kafka().await.plain();
    plain.create_topic(&name, partitions, &[]).await;
    let path = path_of(&name).await;
    (name, path)
}

async fn post(path: &str, body: &str) -> Reply {
    post_text(&shared_gateway().await.url(path), body).await
}

async fn read(topic: &str) -> Vec<StoredRecord> {
    kafka().await.plain().consume_all(topic).await
}

/// The results of a stream, each of which has its line end.
fn results(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with("\r\n"), "{text:?}");
    text.split_terminator("\r\n")
        .map(|result| serde_json::from_str(result).unwrap())
        .collect()
}

/// Streams `body` to `path`.
async fn streamed(path: &str, body: &str) -> Vec<Value> {
    let reply = post(&format!("{path}/records"), body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/json");
    results(reply.text())
}

fn codes(results: &[Value]) -> Vec<i64> {
    results
        .iter()
        .map(|result| result["error_code"].as_i64().unwrap())
        .collect()
}

fn refusal(reply: &Reply) -> (u16, i64) {
    let code = reply.json()["error_code"].as_i64().unwrap();
    (reply.status.as_u16(), code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_is_written_and_answered_in_order() {
    let (name, path) = new_topic("v3-types", 1).await;
    let body = r#"{"key":{"type":"BINARY","data":"/wD+"},"value":{"type":"JSON","data":{"n": 12345678901234567890.10}},
        "timestamp":"2023-11-14T22:13:20.123Z"}{"value":{"type":"STRING","data":"k\u00e9y"},"timestamp":1700000000124}
        {"key":{"type":"JSON","data":{ "id" : 1 }},"value":{"type":"JSON","data":null},"timestamp":1700000000125}"#;

    let reply = post(&format!("{path}/records"), body).await;

    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "application/json");
    let cluster = kafka().await.plain().cluster_id().await;
    let place = format!(r#""cluster_id":"{cluster}","topic_name":"{name}","partition_id":0"#);
    let expected = [
        r#""offset":0,"timestamp":"2023-11-14T22:13:20.123Z","key":{"type":"BINARY","size":3},"value":{"type":"JSON","size":30}"#,
        r#""offset":1,"timestamp":"2023-11-14T22:13:20.124Z","value":{"type":"STRING","size":4}"#,
        r#""offset":2,"timestamp":"2023-11-14T22:13:20.125Z","key":{"type":"JSON","size":8},"value":{"type":"JSON","size":-1}"#,
    ]
    .map(|rest| format!("{{\"error_code\":200,{place},{rest}}}\r\n"));
    assert_eq!(reply.text(), expected.concat());
    let records = read(&name).await;
    let texts: Vec<Option<&str>> = records.iter().map(StoredRecord::text).collect();
    let json = r#"{"n": 12345678901234567890.10}"#;
    assert_eq!(texts, [Some(json), Some("kéy"), None]);
    let keys: Vec<_> = records.iter().map(|record| record.key.as_deref()).collect();
    assert_eq!(
        keys,
        [Some(&b"\xff\x00\xfe"[..]), None, Some(b"{\"id\":1}")]
    );
    let times: Vec<_> = records.iter().map(|r| r.timestamp.unwrap()).collect();
    assert_eq!(
        times,
        [1_700_000_000_123, 1_700_000_000_124, 1_700_000_000_125]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_and_partitions_are_written() {
    let (name, path) = new_topic("v3-headers", 3).await;
    let body = r#"{"partition_id":2,"headers":[{"name":"a","value":"MQ=="},{"name":"b","value":null},{"name":"a"}]}
        {"partition_id":1,"value":{"type":"STRING","data":""}}"#;

    let results = streamed(&path, body).await;

    assert_eq!(codes(&results), [200, 200]);
    let partitions: Vec<_> = results.iter().map(|r| r["partition_id"].clone()).collect();
    assert_eq!(partitions, [json!(2), json!(1)]);
    let records = read(&name).await;
    assert_eq!(records[0].value.as_deref(), Some(&b""[..]));
    let headers = [
        ("a".to_owned(), Some(b"1".to_vec())),
        ("b".to_owned(), None),
        ("a".to_owned(), None),
    ];
    assert_eq!(records[1].headers, headers);
    assert_eq!((records[1].partition, &records[1].value), (2, &None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_goes_where_other_clients_put_it() {
    let (name, path) = new_topic("v3-key", 5).await;
    for n in 0..8 {
        let key = format!("key {n}");
        let plain = kafka().await.plain();
        plain
            .produce(OutgoingRecord {
                topic: &name,
                key: Some(key.as_bytes()),
                value: Some(b"plain"),
                ..OutgoingRecord::default()
            })
            .await;
        let body = json!({"key": {"type": "STRING", "data": key}});
        assert_eq!(codes(&streamed(&path, &body.to_string()).await), [200]);
    }
    let mut places = std::collections::HashMap::<_, Vec<i32>>::new();
    for record in read(&name).await {
        places.entry(record.key).or_default().push(record.partition);
    }
    assert_eq!(places.len(), 8);
    for (key, partitions) in places {
        assert!(matches!(partitions[..], [a, b] if a == b), "{key:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_comes_while_the_body_is_still_being_sent() {
    let (name, path) = new_topic("v3-duplex", 1).await;
    let (feed, mut fed) = mpsc::channel::<&'static str>(1);
    let body = stream::poll_fn(move |context| fed.poll_recv(context))
        .map(|text| Ok::<_, std::io::Error>(Bytes::from_static(text.as_bytes())));
    let request = client()
        .post(shared_gateway().await.url(&format!("{path}/records")))
        .header("content-type", "application/json")
        .body(Body::wrap_stream(body));
    let reply = tokio::spawn(request.send());
    feed.send(r#"{"value":{"type":"STRING","data":"1"}}{"val"#)
        .await
        .unwrap();
    let mut reply = timeout(BOUND, reply).await.unwrap().unwrap().unwrap();
    assert_eq!(reply.status(), 200);
    let mut next = async || {
        let piece = timeout(BOUND, reply.chunk()).await.unwrap().unwrap();
        piece.map(|piece| results(std::str::from_utf8(&piece).unwrap()))
    };
    assert_eq!(next().await.unwrap()[0]["offset"], 0);
    // What is wrong with one is known at once, too.
    feed.send(r#"ue":{"type":"STRING","data":2}}"#)
        .await
        .unwrap();
    assert_eq!(codes(&next().await.unwrap()), [400]);
    feed.send(r#"{"value":{"type":"STRING","data":"3"}}"#)
        .await
        .unwrap();
    assert_eq!(next().await.unwrap()[0]["offset"], 1);
    drop(feed);
    assert_eq!(next().await, None);
    let texts: Vec<_> = read(&name)
        .await
        .iter()
        .map(|r| r.text().map(str::to_owned))
        .collect();
    assert_eq!(texts, [Some("1".to_owned()), Some("3".to_owned())]);
}

/// Opens a connection and sends the head of a stream.
async fn open(gateway: &Gateway, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.address()).await.unwrap();
    let head = format!(
        "POST {path}/records HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

/// Sends a piece of the body, whatever it ends in.
async fn send_piece(socket: &mut TcpStream, text: &str) {
    let chunk = format!("{:x}\r\n{text}\r\n", text.len());
    socket.write_all(chunk.as_bytes()).await.unwrap();
}

/// Reads until `text` has come; all that has come.
async fn read_until(socket: &mut TcpStream, text: &str) -> String {
    let mut came = Vec::new();
    while !String::from_utf8_lossy(&came).contains(text) {
        let count = timeout(BOUND, socket.read_buf(&mut came)).await.unwrap();
        assert!(count.unwrap() > 0, "{}", String::from_utf8_lossy(&came));
    }
    String::from_utf8(came).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_may_come_byte_by_byte_over_one_connection() {
    let (name, path) = new_topic("v3-bytes", 1).await;
    let mut socket = open(shared_gateway().await, &path).await;
    let object = r#"{"value":{"type":"STRING","data":"a}\"{"}}"#;
    for offset in 0..3 {
        for byte in object.chars() {
            send_piece(&mut socket, &byte.to_string()).await;
        }
        let came = read_until(&mut socket, &format!("\"offset\":{offset}")).await;
        assert_eq!(came.starts_with("HTTP/1.1 200"), offset == 0, "{came}");
    }
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut socket, "0\r\n\r\n").await;
    let texts: Vec<_> = read(&name)
        .await
        .iter()
        .map(|r| r.text().map(str::to_owned))
        .collect();
    assert_eq!(texts, vec![Some("a}\"{".to_owned()); 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_unfit_has_its_error_and_the_others_go_on() {
    let (name, path) = new_topic("v3-unfit", 2).await;
    let good = r#"{"value":{"type":"STRING","data":"x"}}"#;
    let bad = [
        (r#"{"valeu":{}}"#, 400),
        (r#"{"value":{"type":"BINARY","data":"!"}}"#, 400),
        (r#"{"value":{"type":"STRING","data":1}}"#, 400),
        (r#"{"headers":[{"name":"a","value":"!"}]}"#, 400),
        (r#"{"partition_id":-1}"#, 40402),
        (r#"{"partition_id":7}"#, 40401),
        (r#"{"timestamp":"yesterday"}"#, 400),
        (r#"{"value":{"data":1}}"#, 422),
        (
            r#"{"value":{"type":"AVRO","schema":"\"int\"","data":1}}"#,
            422,
        ),
        (r#"{"value":{"type":"AVRO","schema_id":1,"data":1}}"#, 400),
        (r#"{"value":{"type":"JSON","schema_id":1,"data":1}}"#, 400),
        ("[]", 400),
        ("7", 400),
        ("\"text\"", 400),
    ];
    let body: String = bad
        .iter()
        .map(|(object, _)| format!("{good}{object} "))
        .collect();

    let results = streamed(&path, &body).await;

    let expected: Vec<i64> = bad.iter().flat_map(|(_, code)| [200, *code]).collect();
    assert_eq!(codes(&results), expected);
    let message = |at: usize| results[2 * at + 1]["message"].as_str().unwrap().to_owned();
    assert!(
        message(0).starts_with("Bad Request: /valeu"),
        "{}",
        message(0)
    );
    assert!(message(7).starts_with("Error: 42207 : "), "{}", message(7));
    assert!(message(8).starts_with("Error: 42206 : "), "{}", message(8));
    assert_eq!(read(&name).await.len(), bad.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_json_ends_the_stream_and_leaves_what_was_before() {
    let (name, path) = new_topic("v3-broken", 1).await;
    let good = r#"{"value":{"type":"STRING","data":"x"}}"#;
    for broken in ["{\"value\":}", "}", "nonsense", "{\"value\""] {
        let more = if broken == "{\"value\"" { "" } else { good };
        let results = streamed(&path, &format!("{good}{broken} {more}")).await;
        assert_eq!(codes(&results), [200, 400], "{broken}");
        let message = results[1]["message"].as_str().unwrap();
        assert!(
            message.starts_with("Bad Request: Error processing JSON"),
            "{message}"
        );
    }
    assert_eq!(read(&name).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_record_that_is_too_large_leaves_the_others_written() {
    let (name, path) = new_topic("v3-large", 1).await;
    let object = |length: usize| {
        json!({"value": {"type": "STRING", "data": "x".repeat(length)}}).to_string()
    };
    // The second is more than a record may have, the third more than is held of an object.
    let body = [
        object(10),
        object((1 << 20) + 1),
        object(4 << 20),
        object(10),
    ]
    .concat();

    let results = streamed(&path, &body).await;

    assert_eq!(codes(&results), [200, 413, 413, 200]);
    assert_eq!(read(&name).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_topic_is_said_of_each_record() {
    let path = path_of(&topic("v3-unknown")).await;
    let object = r#"{"value":{"type":"STRING","data":"x"}}"#;

    let results = streamed(&path, &object.repeat(2)).await;

    assert_eq!(codes(&results), [40401, 40401]);
    assert_eq!(results[0]["kafka_error"], "UNKNOWN_TOPIC_OR_PARTITION");
    let batch = json!({"entries": [{"id": "1"}, {"id": "2", "partition_id": -1}]});
    let reply = post(&format!("{path}/records:batch"), &batch.to_string()).await;
    assert_eq!(reply.status, 207);
    let body = reply.json();
    assert_eq!(body["successes"], json!([]));
    assert_eq!(codes(body["failures"].as_array().unwrap()), [40401, 40402]);
    let illegal = streamed(&path_of("a%20b").await, object).await;
    assert_eq!(codes(&illegal), [40002]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_none_is_refused_as_a_whole() {
    let (name, path) = new_topic("v3-refused", 1).await;
    let url = |path: &str, end: &str| format!("{path}/records{end}");
    for body in ["", " \r\n"] {
        assert_eq!(refusal(&post(&url(&path, ""), body).await), (422, 42206));
        assert_eq!(
            refusal(&post(&url(&path, ":batch"), body).await),
            (422, 42208)
        );
    }
    let gateway = shared_gateway().await;
    let object = r#"{"value":{"type":"STRING","data":"x"}}"#;
    for end in ["", ":batch"] {
        let other = format!("/v3/clusters/other/topics/{name}");
        assert_eq!(refusal(&post(&url(&other, end), object).await), (404, 404));
        for (kind, status) in [
            ("text/plain", 415),
            ("application/vnd.kafka.json.v2+json", 415),
            ("application/json; charset=utf-16", 400),
        ] {
            let request = client().post(gateway.url(&url(&path, end))).body(object);
            let reply = send(request.header("content-type", kind)).await;
            assert_eq!(reply.status, status, "{kind}");
        }
        let request = client().post(gateway.url(&url(&path, end))).body(object);
        let request = request.header("content-type", "application/json");
        let reply = send(request.header("accept", "image/png")).await;
        assert_eq!(reply.status, 406);
    }
    assert_eq!(read(&name).await, []);
    for kind in [
        "application/json; charset=ISO-8859-1",
        "application/json;charset=\"UTF-8\"",
    ] {
        let request = client().post(gateway.url(&url(&path, ""))).body(object);
        let reply = send(request.header("content-type", kind)).await;
        assert_eq!(codes(&results(reply.text())), [200], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_of_objects_is_the_order_in_the_topic() {
    let (name, path) = new_topic("v3-order", 1).await;
    let body: String = (0..20_000)
        .map(|n| format!("{{\"value\":{{\"type\":\"JSON\",\"data\":{n}}}}}"))
        .collect();

    let results = streamed(&path, &body).await;

    assert_eq!(results.len(), 20_000);
    let offsets = results
        .iter()
        .map(|result| result["offset"].as_u64().unwrap());
    assert!(offsets.eq(0..20_000));
    let seen = read(&name).await;
    assert!((0..20_000).all(|n| seen[n].text() == Some(&n.to_string())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_progress_and_one_of_a_gateway_that_stops_are_told() {
    let (_, path) = new_topic("v3-ends", 1).await;
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .set("http.request_timeout_ms", "4000")
        .start()
        .await;
    let object = r#"{"value":{"type":"STRING","data":"x"}}"#;
    let mut socket = open(&gateway, &path).await;
    send_piece(&mut socket, object).await;
    let came = read_until(&mut socket, "\"error_code\":408").await;
    assert!(came.contains("\"offset\":0"), "{came}");
    // Of a body that never begins there is no stream.
    let mut silent = open(&gateway, &path).await;
    let came = read_until(&mut silent, "\"error_code\":408").await;
    assert!(came.starts_with("HTTP/1.1 408"), "{came}");

    let mut socket = open(&gateway, &path).await;
    send_piece(&mut socket, object).await;
    read_until(&mut socket, "\"offset\":1").await;
    gateway.ask_to_end();
    read_until(&mut socket, "\"error_code\":503").await;
    let ended = gateway.ended().await;
    assert!(ended.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_has_successes_and_failures() {
    let (name, path) = new_topic("v3-batch", 1).await;
    let body = r#"{"entries":[
        {"id":"a","value":{"type":"STRING","data":"1"},"timestamp":1700000000123},
        {"id":"b","value":{"type":"BINARY","data":"!"}},
        {"id":"c","key":{"type":"STRING","data":"k"},"value":{"type":"JSON","data":null},"timestamp":1700000000124},
        {"id":"d","partition_id":7},
        {"id":"e","value":{"type":"PROTOBUF","schema":"x","data":{}}},
        {"id":"f","vlaue":1}
    ]}"#;

    let reply = post(&format!("{path}/records:batch"), body).await;

    assert_eq!(reply.status, 207);
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("tidegate-failed-records"), "4");
    let cluster = kafka().await.plain().cluster_id().await;
    let place = format!(r#""cluster_id":"{cluster}","topic_name":"{name}","partition_id":0"#);
    let successes = format!(
        "{{\"successes\":[\
         {{\"id\":\"a\",{place},\"offset\":0,\"timestamp\":\"2023-11-14T22:13:20.123Z\",\
         \"value\":{{\"type\":\"STRING\",\"size\":1}}}},\
         {{\"id\":\"c\",{place},\"offset\":1,\"timestamp\":\"2023-11-14T22:13:20.124Z\",\
         \"key\":{{\"type\":\"STRING\",\"size\":1}},\"value\":{{\"type\":\"JSON\",\"size\":-1}}}}\
         ],\"failures\":["
    );
    assert!(reply.text().starts_with(&successes), "{}", reply.text());
    let failures = reply.json()["failures"].as_array().unwrap().clone();
    let ids: Vec<_> = failures
        .iter()
        .map(|failure| failure["id"].clone())
        .collect();
    assert_eq!(ids, ["b", "d", "e", "f"]);
    assert_eq!(codes(&failures), [400, 40401, 422, 400]);
    let records = read(&name).await;
    let texts: Vec<Option<&str>> = records.iter().map(StoredRecord::text).collect();
    assert_eq!(texts, [Some("1"), None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_not_acceptable_writes_nothing() {
    let (name, path) = new_topic("v3-batches", 1).await;
    let path = format!("{path}/records:batch");
    for (body, expected) in [
        (r#"{"entries":[]}"#, (422, 42208)),
        (r#"{"entries":[{"id":"1"},{"id":"1"}]}"#, (422, 42208)),
        (r#"{"entries":[{"id":"1"},{}]}"#, (422, 42208)),
        (r#"{"entries":[{"id":"1"},{"id":2}]}"#, (422, 42208)),
        (r#"{"entries":[{"id":"1"}],"x":1}"#, (422, 422)),
        (r#"{"entries":[{"id":"1"}"#, (400, 400)),
        (r#"[{"id":"1"}]"#, (400, 400)),
    ] {
        assert_eq!(refusal(&post(&path, body).await), expected, "{body}");
    }
    let entries: Vec<Value> = (0..10_001).map(|n| json!({"id": n.to_string()})).collect();
    let body = json!({"entries": entries}).to_string();
    assert_eq!(refusal(&post(&path, &body).await), (422, 42208));
    assert_eq!(read(&name).await, []);
}
