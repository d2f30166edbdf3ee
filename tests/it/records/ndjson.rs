//! NDJSON on `POST /topics/{topic}/records`: a stream in, a stream of results out.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use reqwest::Body;
use serde_json::Value;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::http::{client, send};
use crate::support::{eventually, kafka, metric, topic};

const BOUND: Duration = Duration::from_secs(60);

async fn gateway_with_topic(partitions: i32) -> (Gateway, String) {
    let kafka = kafka().await;
    let topic = topic("ndjson");
    kafka.plain().create_topic(&topic, partitions, &[]).await;
    (Gateway::start(&kafka.bootstrap()).await, topic)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn post(gateway: &Gateway, path: &str, body: impl Into<Body>) -> (u16, Vec<Value>) {
    let request = client()
        .post(gateway.url(path))
        .header("content-type", "application/x-ndjson")
        .body(body);
    let reply = send(request).await;
    (reply.status.as_u16(), lines(reply.text()))
}

/// What stands in the topic, as the plain client sees it, by partition and offset.
async fn stored(topic: &str) -> Vec<String> {
    let mut records = kafka().await.plain().consume_all(topic).await;
    records.sort_by_key(|record| (record.partition, record.offset));
    records
        .iter()
        .map(|record| record.text().unwrap_or("null").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_line_is_a_record_and_has_a_result_in_order() {
    let (gateway, topic) = gateway_with_topic(1).await;
    let path = format!("/topics/{topic}/records");
    let body = "{\"key\":\"a\",\"value\":12345678901234567890}\r\n\n{\"value\":null}\n{\"value\":{\"n\": 1.50}}";
    let (status, results) = post(&gateway, &path, body).await;
    assert_eq!(status, 200);
    let offsets: Vec<_> = results.iter().map(|r| r["offset"].as_i64()).collect();
    assert_eq!(offsets, [Some(0), Some(1), Some(2)]);
    assert!(
        results
            .iter()
            .all(|r| r["topic"] == topic.as_str() && r["timestamp"].is_i64())
    );
    assert_eq!(
        stored(&topic).await,
        ["12345678901234567890", "null", "{\"n\": 1.50}"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_gets_its_number_and_the_others_go_on() {
    let kafka = kafka().await;
    let topic = topic("ndjson");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("limits.record_bytes", "5000")
        .start()
        .await;
    let long = "x".repeat(80_000);
    let body = [
        "{\"value\":1}",
        "not json",
        "{\"valeu\":2}",
        "{\"value\":2,\"partition\":7}",
        &format!("{{\"value\":\"{}\"}}", "x".repeat(6000)),
        &long,
        "{\"value\":3}",
    ]
    .join("\n");
    let path = format!("/topics/{topic}/records");
    let (status, results) = post(&gateway, &path, body.clone()).await;
    assert_eq!(status, 200);
    let seen: Vec<(Option<u64>, Option<u64>)> = results
        .iter()
        .map(|r| (r["line"].as_u64(), r["error_code"].as_u64()))
        .collect();
    assert_eq!(
        seen,
        [
            (None, None),
            (Some(2), Some(400)),
            (Some(3), Some(422)),
            (Some(4), Some(40402)),
            (Some(5), Some(413)),
            (Some(6), Some(413)),
            (None, None),
        ]
    );
    assert_eq!(results[2]["field"], "/valeu");
    assert_eq!(stored(&topic).await, ["1", "3"]);

    let (_, errors) = post(&gateway, &format!("{path}?results=errors"), body.clone()).await;
    assert_eq!(errors.len(), 6);
    assert_eq!(errors[0]["line"], 2);
    let summary = serde_json::json!({"summary": {"lines": 7, "written": 2, "failed": 5}});
    assert_eq!(errors[5], summary);
    let (_, only) = post(&gateway, &format!("{path}?results=summary"), body).await;
    assert_eq!(only, [summary]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_come_while_the_body_is_still_being_sent() {
    let (gateway, topic) = gateway_with_topic(1).await;
    let (feed, mut fed) = mpsc::channel::<&'static str>(1);
    let body = stream::poll_fn(move |context| fed.poll_recv(context))
        .map(|text| Ok::<_, std::io::Error>(Bytes::from_static(text.as_bytes())));
    let request = client()
        .post(gateway.url(&format!("/topics/{topic}/records")))
        .header("content-type", "application/x-ndjson")
        .body(Body::wrap_stream(body));
    let reply = tokio::spawn(request.send());
    feed.send("{\"value\":1}\n{\"val").await.unwrap();
    let mut reply = timeout(BOUND, reply).await.unwrap().unwrap().unwrap();
    let first = timeout(BOUND, reply.chunk())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(lines(std::str::from_utf8(&first).unwrap())[0]["offset"], 0);
    feed.send("ue\":2}\n").await.unwrap();
    let second = timeout(BOUND, reply.chunk())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(lines(std::str::from_utf8(&second).unwrap())[0]["offset"], 1);
    drop(feed);
    assert_eq!(timeout(BOUND, reply.chunk()).await.unwrap().unwrap(), None);
    assert_eq!(stored(&topic).await, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_of_lines_is_the_order_in_the_topic() {
    let (gateway, topic) = gateway_with_topic(1).await;
    let body: String = (0..20_000)
        .map(|n| format!("{{\"value\":{n}}}\n"))
        .collect();
    let (_, results) = post(&gateway, &format!("/topics/{topic}/records"), body).await;
    assert_eq!(results.len(), 20_000);
    assert!(
        results
            .iter()
            .enumerate()
            .all(|(n, result)| result["offset"].as_u64() == Some(n as u64))
    );
    let expected: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    assert_eq!(stored(&topic).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_lines_are_never_held_in_memory() {
    let (gateway, topic) = gateway_with_topic(1).await;
    let idle = rss_kib(&gateway);
    let value = "v".repeat(100);
    let piece: Bytes = (0..1000)
        .map(|n| format!("{{\"key\":\"{n}\",\"value\":\"{value}\"}}\n"))
        .collect::<String>()
        .into();
    let body = stream::iter((0..1000).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
    // As long as a busy machine takes for them.
    let client = reqwest::Client::builder().timeout(20 * BOUND);
    let request = client
        .build()
        .unwrap()
        .post(gateway.url(&format!("/topics/{topic}/records?results=summary")))
        .header("content-type", "application/x-ndjson")
        .body(Body::wrap_stream(body));
    let mut posting = std::pin::pin!(send(request));
    let mut peak = idle;
    let reply = loop {
        tokio::select! {
            reply = &mut posting => break reply,
            () = tokio::time::sleep(Duration::from_millis(20)) => peak = peak.max(rss_kib(&gateway)),
        }
    };
    assert_eq!(reply.status, 200);
    assert_eq!(
        lines(reply.text()),
        [serde_json::json!({"summary": {"lines": 1_000_000, "written": 1_000_000, "failed": 0}})]
    );
    let (low, high) = kafka().await.plain().watermarks(&topic, 0).await;
    assert_eq!((low, high), (0, 1_000_000));
    // The body is 120 MB. What grows is librdkafka's queue, which `room` keeps short.
    assert!(peak < idle + 80 * 1024, "idle {idle} KiB, peak {peak} KiB");
}

fn rss_kib(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse().ok())
        .unwrap()
}

/// Opens a connection and sends the head of a stream.
async fn open(gateway: &Gateway, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.address()).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_slowed_down_and_then_told_what_was_written() {
    let kafka = kafka().await;
    let topic = topic("ndjson");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let gateway = Gateway::builder(&kafka.bootstrap())
        // Longer than it takes this client to find out that its writes do not go through.
        .set("http.request_timeout_ms", "5000")
        .start()
        .await;
    let mut socket = open(&gateway, &format!("/topics/{topic}/records")).await;
    let text = "{\"value\":1}\n".repeat(1000);
    let chunk = format!("{:x}\r\n{text}\r\n", text.len());
    // Never reads, so that in the end the writes stop going through.
    let started = Instant::now();
    let mut sent = 0_u64;
    while timeout(Duration::from_secs(1), socket.write_all(chunk.as_bytes()))
        .await
        .is_ok_and(|written| written.is_ok())
    {
        sent += 1000;
        assert!(
            started.elapsed() < BOUND,
            "{sent} lines and no back-pressure"
        );
    }
    let rss = rss_kib(&gateway);
    assert!(rss < 200 * 1024, "{rss} KiB");
    let mut answer = String::new();
    let mut bytes = vec![0; 1 << 16];
    while let Ok(Ok(count)) = timeout(BOUND, socket.read(&mut bytes)).await {
        if count == 0 {
            break;
        }
        answer.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    let last = answer
        .lines()
        .rfind(|line| line.contains("\"summary\""))
        .unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["error_code"], 408, "{last}");
    let written = last["summary"]["written"].as_i64().unwrap();
    assert!(
        last["message"]
            .as_str()
            .unwrap()
            .contains(&format!("{written} records")),
        "{last}"
    );
    let (_, high) = kafka.plain().watermarks(&topic, 0).await;
    assert_eq!(high, written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_progress_ends_and_a_broken_one_keeps_what_came() {
    let kafka = kafka().await;
    let topic = topic("ndjson");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("http.request_timeout_ms", "4000")
        .start()
        .await;
    let path = format!("/topics/{topic}/records");
    let mut socket = open(&gateway, &path).await;
    socket.write_all(b"c\r\n{\"value\":1}\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(BOUND, socket.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.contains("\"offset\":0"), "{answer}");
    assert!(answer.contains("\"error_code\":408"), "{answer}");

    let mut socket = open(&gateway, &path).await;
    socket
        .write_all(b"10\r\n{\"value\":2}\n{\"va\r\n")
        .await
        .unwrap();
    // No more than an end: a reset might overtake what was written.
    socket.shutdown().await.unwrap();
    let plain = kafka.plain();
    eventually(BOUND, async || plain.watermarks(&topic, 0).await.1 == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_hands_over_nothing_more() {
    const LINE: &[u8] = b"c\r\n{\"value\":2}\n\r\n";
    let broker = Broker::start().await;
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("kafka.producer.message.timeout.ms", "300000")
        .set("http.request_timeout_ms", "300000")
        .start()
        .await;
    let plain = broker.plain();
    plain.create_topic("cut", 1, &[]).await;
    let path = "/topics/cut/records";
    let mut socket = open(&gateway, path).await;
    socket.write_all(b"c\r\n{\"value\":1}\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("\"offset\":0") {
        let read = timeout(BOUND, socket.read_buf(&mut answer)).await.unwrap();
        assert!(read.unwrap() > 0);
    }
    // Lines come until as many are under way as may be.
    broker.pause();
    let held = async || metric(&gateway, "kafka_producer_queue_records").await;
    let mut before = -1.0;
    let full = async {
        loop {
            for _ in 0..50 {
                socket.write_all(LINE).await.unwrap();
            }
            let now = held().await;
            if now > 0.0 && now == before {
                return;
            }
            before = now;
        }
    };
    timeout(BOUND, full).await.unwrap();
    // As much more as goes, and then it is cut.
    let more = LINE.repeat(1_000);
    let mut sent = 0;
    socket.writable().await.unwrap();
    while let Ok(written) = socket.try_write(&more) {
        sent += written / LINE.len();
    }
    assert!(sent > 4_000, "{sent}");
    SockRef::from(&socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(socket);
    broker.resume();
    eventually(BOUND, async || {
        metric(&gateway, "http_connections").await == 0.0
    })
    .await;
    // What was handed over is written, with the little that had been read, and nothing behind it.
    eventually(BOUND, async || held().await == 0.0).await;
    let (status, next) = post(&gateway, path, "{\"value\":3}").await;
    assert_eq!(status, 200);
    let before = i64::from(before as u16);
    let offset = next[0]["offset"].as_i64().unwrap();
    assert!(
        (1 + before..=1 + before + 2_000).contains(&offset),
        "{before}, {offset}"
    );
    assert_eq!(plain.watermarks("cut", 0).await.1, offset + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_stream_ends_when_the_gateway_stops() {
    let (gateway, topic) = gateway_with_topic(1).await;
    let mut socket = open(&gateway, &format!("/topics/{topic}/records")).await;
    socket.write_all(b"c\r\n{\"value\":1}\n\r\n").await.unwrap();
    let mut first = Vec::new();
    while !String::from_utf8_lossy(&first).contains("\"offset\":0") {
        let count = timeout(BOUND, socket.read_buf(&mut first))
            .await
            .unwrap()
            .unwrap();
        assert!(count > 0);
    }
    gateway.ask_to_end();
    let mut rest = String::new();
    timeout(BOUND, socket.read_to_string(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(rest.contains("\"error_code\":503"), "{rest}");
    assert!(rest.contains("\"written\":1"), "{rest}");
    let ended = gateway.ended().await;
    assert!(ended.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_whole_ndjson_request_has_its_own_status() {
    let (gateway, topic) = gateway_with_topic(1).await;
    let (status, error) = post(&gateway, "/topics/nope-ndjson/records", "{\"value\":1}").await;
    assert_eq!(
        (status, &error[0]["error_code"]),
        (404, &Value::from(40401))
    );
    let path = format!("/topics/{topic}/records");
    for (query, field) in [
        ("?results=none", "results"),
        ("?key=a", "key"),
        ("?value_format=avro", "value_format"),
    ] {
        let (status, error) = post(&gateway, &format!("{path}{query}"), "{\"value\":1}").await;
        assert_eq!((status, &error[0]["field"]), (400, &Value::from(field)));
    }
    let request = client()
        .post(gateway.url(&path))
        .header("content-type", "application/x-ndjson")
        .header("idempotency-key", "a")
        .body("{\"value\":1}");
    let reply = send(request).await;
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["field"], "Idempotency-Key");
    let (status, results) = post(&gateway, &path, "").await;
    assert_eq!((status, results.len()), (200, 0));
    assert!(stored(&topic).await.is_empty());
}
