//! That the tools of the tests do what they say, as far as that needs no real Kafka.

use std::process::Command;
use std::time::{Duration, Instant};

use krafka::error::ErrorCode;
use krafka::testing::ApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::fault::FaultBroker;
use crate::support::http::{self, raw_request};
use crate::support::kafka_client::{KafkaClient, OutgoingRecord};
use crate::support::process::{Signal, Supervised};
use crate::support::{eventually, topic};

#[test]
fn no_two_topics_have_one_name() {
    assert_ne!(topic("orders"), topic("orders"));
}

#[tokio::test]
#[should_panic(expected = "support_selftest.rs")]
async fn eventually_panics_at_the_line_that_waited() {
    eventually(Duration::from_millis(50), async || false).await;
}

#[test]
fn a_supervised_child_takes_signals_and_is_gone_with_its_folder() {
    let mut process = Supervised::new("tidegate-selftest-");
    let folder = process.folder().to_owned();
    process.spawn(Command::new("sh").args(["-c", "echo out; echo err >&2; exec sleep 1000"]));
    let pid = process.pid().unwrap();
    until(|| process.stderr() == "err\n");
    assert!(process.wait(Duration::from_millis(100)).is_none());
    process.signal(Signal::STOP);
    until(|| state(pid).starts_with('T'));
    process.signal(Signal::CONT);
    until(|| !state(pid).starts_with('T'));
    process.signal(Signal::TERM);
    let status = process.wait(Duration::from_secs(60)).unwrap();
    assert_eq!(status.code(), None);
    assert_eq!(
        (process.stdout().as_str(), process.stderr().as_str()),
        ("out\n", "err\n")
    );
    assert!(!alive(pid));

    process.spawn(Command::new("sleep").arg("1000"));
    let pid = process.pid().unwrap();
    drop(process);
    assert!(!alive(pid));
    assert!(!folder.exists());
}

/// The case that no destructor covers: the test process itself is killed.
#[test]
fn a_supervised_child_does_not_outlive_a_killed_test_process() {
    const CHILD: &str = "TIDEGATE_SELFTEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let mut process = Supervised::new("tidegate-selftest-");
        process.spawn(Command::new("sleep").arg("1000"));
        println!(
            "child {} {}",
            process.pid().unwrap(),
            process.folder().display()
        );
        std::thread::sleep(Duration::from_secs(300));
        return;
    }
    let mut outer = Supervised::new("tidegate-selftest-");
    let name =
        "no_kafka::support_selftest::a_supervised_child_does_not_outlive_a_killed_test_process";
    let this = std::env::current_exe().unwrap();
    outer.spawn(
        Command::new(this)
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1"),
    );
    until(|| outer.stdout().contains("child ") && outer.stdout().ends_with('\n'));
    let stdout = outer.stdout();
    let line = stdout.lines().find(|line| line.contains("child ")).unwrap();
    let (_, line) = line.split_once("child ").unwrap();
    let (pid, folder) = line.split_once(' ').unwrap();
    let (pid, folder) = (pid.parse().unwrap(), std::path::PathBuf::from(folder));
    assert!(alive(pid) && folder.exists());

    outer.signal(Signal::KILL);
    until(|| !alive(pid) && !folder.exists());
}

/// `eventually` for tests without a runtime.
#[track_caller]
fn until(condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "what should become true had not");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process runs; one that has ended and waits to be collected does not.
fn alive(pid: u32) -> bool {
    let state = state(pid);
    !state.is_empty() && !state.starts_with('Z')
}

/// A process's state as `ps` writes it, empty when there is no such process.
fn state(pid: u32) -> String {
    let output = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_is_injected_as_often_as_asked() {
    let broker = FaultBroker::start().await;
    broker.create_topic("orders", 1);
    broker.fail(ApiKey::Produce, 2, ErrorCode::NotEnoughReplicas);
    let plain = KafkaClient::new(&broker.bootstrap());

    let record = OutgoingRecord {
        topic: "orders",
        value: Some(b"x"),
        ..OutgoingRecord::default()
    };
    assert_eq!(plain.produce(record).await, (0, 0));

    assert_eq!(broker.request_count(ApiKey::Produce), 3);
    assert_eq!(plain.consume_all("orders").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_means_that_the_record_may_be_there() {
    let broker = FaultBroker::start().await;
    broker.create_topic("orders", 1);
    broker.lose_answers(ApiKey::Produce, 1);
    let plain = KafkaClient::new(&broker.bootstrap());

    let record = OutgoingRecord {
        topic: "orders",
        value: Some(b"x"),
        ..OutgoingRecord::default()
    };
    plain.produce(record).await;

    // Written, not answered, and written again: this client is not idempotent.
    assert_eq!(plain.consume_all("orders").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_reply_is_read_to_the_close_or_the_silence() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n[1,2,3]";
        let mut kept = Vec::new();
        for keep in [false, true, true] {
            let (mut stream, _) = listener.accept().await.unwrap();
            if keep {
                assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
            }
            stream.write_all(reply).await.unwrap();
            if keep {
                kept.push(stream);
            }
        }
        kept
    });

    let silence = Duration::from_secs(5);
    let reply = raw_request(&address, b"", silence).await;
    assert!(reply.closed && reply.text.ends_with("[1,2,3]"), "{reply:?}");
    let reply = raw_request(&address, b"GET / HTTP/1.1\r\n\r\n", silence).await;
    assert!(
        !reply.closed && reply.text.ends_with("[1,2,3]"),
        "{reply:?}"
    );
    let reply = http::get(&format!("http://{address}/")).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.json(), serde_json::json!([1, 2, 3]));
    drop(server.await.unwrap());
}
