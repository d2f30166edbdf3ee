//! A gateway from its first line to its last, and what it says about itself in between.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::http::{self, Reply};
use crate::support::{eventually, kafka, shared_gateway, topic};

const BOUND: Duration = Duration::from_secs(60);

async fn readyz(gateway: &Gateway) -> Reply {
    http::get(&gateway.management_url("/readyz")).await
}

/// What `tidegate healthcheck` says of the gateway: its exit status and its complaint.
async fn healthcheck(gateway: &Gateway) -> (Option<i32>, String) {
    let url = gateway.management_url("/readyz");
    let check = tokio::task::spawn_blocking(move || {
        Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["healthcheck", "--url", &url])
            .output()
            .unwrap()
    });
    let output = check.await.unwrap();
    assert!(output.stdout.is_empty());
    let complaint = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), complaint)
}

async fn turns(gateway: &Gateway, ready: bool) {
    eventually(BOUND, async || {
        let reply = readyz(gateway).await;
        if reply.status.is_success() != ready {
            return false;
        }
        assert_eq!(reply.json()["ready"], ready, "{}", reply.text());
        assert_eq!(reply.json()["broker"], "kafka");
        if !ready {
            assert_eq!(reply.status, 503);
            let reason = reply.json()["reason"].as_str().unwrap().to_owned();
            assert!(reason.starts_with("Kafka: "), "{reason}");
        }
        // On a busy machine a Kafka that is there may be slow to say so once more.
        let (status, complaint) = healthcheck(gateway).await;
        assert_eq!(complaint.is_empty(), status == Some(0), "{complaint}");
        status == Some(i32::from(!ready))
    })
    .await;
    // The process is well all the time.
    let healthz = http::get(&gateway.management_url("/healthz")).await;
    assert_eq!((healthz.status.as_u16(), healthz.text()), (200, "ok\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_ready_when_its_kafka_is() {
    let broker = Broker::start().await;
    broker.plain().create_topic("orders", 1, &[]).await;
    broker.kill();
    // Nobody is there: it serves, says that it is not ready, and waits.
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("kafka.metadata_timeout_ms", "2000")
        .start()
        .await;
    turns(&gateway, false).await;
    let url = gateway.url("/topics/orders/records");
    let started = Instant::now();
    let reply = http::post_text(&url, r#"{"value":1}"#).await;
    assert!(
        matches!(reply.status.as_u16(), 503 | 504),
        "{}",
        reply.text()
    );
    assert_eq!(reply.json()["retriable"], true);
    assert_ne!(reply.header("retry-after"), "");
    assert!(started.elapsed() < BOUND);

    broker.restart().await;
    turns(&gateway, true).await;
    eventually(BOUND, async || {
        http::post_text(&url, r#"{"value":1}"#).await.status == 200
    })
    .await;

    broker.pause();
    turns(&gateway, false).await;
    broker.resume();
    turns(&gateway, true).await;
    broker.kill();
    turns(&gateway, false).await;
    broker.restart().await;
    turns(&gateway, true).await;
    eventually(BOUND, async || {
        http::get(&format!("{url}?from=earliest")).await.status == 200
    })
    .await;
    let stderr = gateway.stderr();
    assert!(!stderr.contains("panic"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_line_says_where_it_listens() {
    let bootstrap = kafka().await.bootstrap();
    let gateway = Gateway::builder(&bootstrap)
        .arg("--listen")
        .arg("127.0.0.1:0")
        .start()
        .await;
    let stderr = gateway.stderr();
    let lines: Vec<&str> = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("tidegate ready "))
        .collect();
    let [line] = lines[..] else {
        panic!("{stderr}");
    };
    let fields: Vec<(&str, &str)> = line.split(' ').filter_map(|f| f.split_once('=')).collect();
    let [
        ("listen", public),
        ("management", management),
        ("broker", broker),
    ] = fields[..]
    else {
        panic!("{line}");
    };
    assert_eq!(broker, bootstrap);
    let public: Vec<&str> = public.split(',').collect();
    assert_eq!(public.len(), 2);
    for url in &public {
        assert!(
            url.starts_with("http://127.0.0.1:") && !url.ends_with(":0"),
            "{line}"
        );
        assert_eq!(http::get(&format!("{url}/")).await.text(), "{}");
    }
    assert_eq!(
        http::get(&format!("{management}/healthz")).await.status,
        200
    );
    assert_eq!(gateway.stdout(), "");
    // What is said of the embedded broker is not said here.
    let reply = http::get(&format!("{}/", public[0])).await;
    assert!(reply.headers.get("tidegate-broker").is_none());
    // The public listener has none of the management's paths.
    assert_eq!(
        http::get(&format!("{}/metrics", public[0])).await.status,
        404
    );

    let taken = public[0].trim_start_matches("http://");
    let second = Gateway::builder(&bootstrap).arg("--listen").arg(taken);
    let Err(ended) = second.try_start().await else {
        panic!("two listen on {taken}");
    };
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains(taken), "{}", ended.stderr);
}

/// A POST whose head has been read and whose body is waited for: it is certainly under way.
async fn under_way(gateway: &Gateway, topic: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    let head = format!(
        "POST /topics/{topic}/records HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100 Continue"));
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_under_way_are_finished_when_the_gateway_ends() {
    let kafka = kafka().await;
    // Longer than all that is looked at meanwhile may take.
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("shutdown_grace_ms", "300000")
        .start()
        .await;
    let topic = topic("drain");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let body = r#"{"value":"last words"}"#;
    let mut stream = under_way(&gateway, &topic, body).await;
    // One that is used and idle.
    let mut idle = TcpStream::connect(gateway.address()).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");

    gateway.ask_to_end();
    // Red at once, and nobody new is let in.
    eventually(BOUND, async || readyz(&gateway).await.status == 503).await;
    assert_eq!(
        readyz(&gateway).await.json()["reason"],
        "the gateway is stopping"
    );
    eventually(BOUND, async || {
        TcpStream::connect(gateway.address()).await.is_err()
    })
    .await;
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(BOUND, idle.read_to_end(&mut rest)).await;
    closed.expect("an idle connection is closed").unwrap();

    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(BOUND, stream.read_to_string(&mut answer)).await;
    read.expect("the connection is closed behind the answer")
        .unwrap();
    assert!(
        answer.trim_start().starts_with("HTTP/1.1 200 OK"),
        "{answer}"
    );
    let ended = gateway.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    let records = kafka.plain().consume_all(&topic).await;
    assert_eq!(records[0].text(), Some(r#""last words""#));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_grace_period_and_a_second_signal_end_what_does_not_end() {
    let kafka = kafka().await;
    let topic = topic("cut");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("shutdown_grace_ms", "300")
        .start()
        .await;
    let stream = under_way(&gateway, &topic, "{}").await;
    let ended = gateway.terminate().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("cut after the grace period"),
        "{}",
        ended.stderr
    );
    drop(stream);

    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("shutdown_grace_ms", "600000")
        .start()
        .await;
    let stream = under_way(&gateway, &topic, "{}").await;
    gateway.ask_to_end();
    eventually(BOUND, async || readyz(&gateway).await.status == 503).await;
    let ended = gateway.terminate().await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("by a second signal"),
        "{}",
        ended.stderr
    );
    drop(stream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_has_a_request_id() {
    let gateway = shared_gateway().await;
    let with = async |id: &str| {
        let request = http::client()
            .get(gateway.url("/nowhere"))
            .header("x-request-id", id);
        let reply = http::send(request).await;
        assert_eq!(reply.json()["request_id"], reply.header("x-request-id"));
        reply.header("x-request-id").to_owned()
    };
    assert_eq!(with("abc-1:2/3.4_5+6=@").await, "abc-1:2/3.4_5+6=@");
    let longest = "x".repeat(128);
    assert_eq!(with(&longest).await, longest);
    let too_long = "x".repeat(129);
    let mut made = Vec::new();
    for bad in ["", "a b", "<script>", "a\"b", &too_long] {
        let id = with(bad).await;
        assert!(!id.is_empty() && id != bad, "{bad}");
        made.push(id);
    }
    for path in ["/", "/openapi.json", "/docs"] {
        made.push(
            http::get(&gateway.url(path))
                .await
                .header("x-request-id")
                .to_owned(),
        );
    }
    made.push(readyz(gateway).await.header("x-request-id").to_owned());
    let count = made.len();
    made.sort_unstable();
    made.dedup();
    assert_eq!(made.len(), count);
    assert!(made.iter().all(|id| !id.is_empty()), "{made:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_what_happened() {
    let kafka = kafka().await;
    let gateway = Gateway::start(&kafka.bootstrap()).await;
    let topic = topic("counted");
    let configs = [("max.message.bytes", "2000")];
    kafka.plain().create_topic(&topic, 1, &configs).await;
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let body = json!([{"key": "k", "value": 1}, {"value": 22}]);
    assert_eq!(http::post_json(&url, &body).await.status, 200);
    let large = json!({"value": "x".repeat(5000)});
    assert_eq!(http::post_json(&url, &large).await.status, 413);
    assert_eq!(http::get(&format!("{url}?from=earliest")).await.status, 200);
    assert_eq!(http::get(&gateway.url("/nowhere/1")).await.status, 404);
    assert_eq!(http::get(&gateway.url("/nowhere/2")).await.status, 404);
    let brew = "BREW".parse().unwrap();
    let reply = http::send(http::client().request(brew, &url)).await;
    assert_eq!(reply.status, 405);

    let reply = http::get(&gateway.management_url("/metrics")).await;
    assert_eq!(reply.status, 200);
    assert!(
        reply
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let metrics = reply.text();
    let route = "route=\"/topics/{topic}/records\"";
    for line in [
        format!("http_requests_total{{method=\"POST\",{route},status=\"200\"}} 1"),
        format!("http_requests_total{{method=\"POST\",{route},status=\"413\"}} 1"),
        format!("http_requests_total{{method=\"GET\",{route},status=\"200\"}} 1"),
        "http_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 2".to_owned(),
        "http_requests_total{method=\"other\",route=\"none\",status=\"405\"} 1".to_owned(),
        format!("http_request_duration_seconds_count{{method=\"GET\",{route}}} 1"),
        format!("http_request_duration_seconds_bucket{{method=\"GET\",{route},le=\"+Inf\"}} 1"),
        format!("kafka_messages_produced_total{{topic=\"{topic}\"}} 2"),
        format!("kafka_bytes_produced_total{{topic=\"{topic}\"}} 4"),
        format!("kafka_produce_errors_total{{topic=\"{topic}\",error=\"MESSAGE_TOO_LARGE\"}} 1"),
        format!("kafka_messages_read_total{{topic=\"{topic}\"}} 2"),
    ] {
        assert!(
            metrics.lines().any(|l| l == line),
            "no {line} in\n{metrics}"
        );
    }
    for (name, kind) in [
        ("http_requests_total", "counter"),
        ("http_request_duration_seconds", "histogram"),
        ("http_connections", "gauge"),
        ("kafka_messages_produced_total", "counter"),
    ] {
        assert!(
            metrics.contains(&format!("# TYPE {name} {kind}\n")),
            "{name}\n{metrics}"
        );
        assert!(
            metrics.contains(&format!("# HELP {name} ")),
            "{name}\n{metrics}"
        );
    }
}
