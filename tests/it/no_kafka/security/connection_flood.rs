//! Thousands of clients that hold what they can and give as little as they can, beside one that
//! only wants to be served.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::fault::FaultBroker;
use crate::support::gateway::Gateway;
use crate::support::http::client;
use crate::support::{eventually, metric};

const ATTACKERS: usize = 2000;
const ATTACK: Duration = Duration::from_secs(25);
/// Short, so that the test need not last longer; nothing else about the gateway is changed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Of one request of the good client: half of what it would take to wait for an attacker's end. The
/// machine may be busy with other tests.
const P99: Duration = Duration::from_secs(5);
/// Of the gateway's memory, for each connection of the attack.
const BYTES_PER_CONNECTION: usize = 96 << 10;

/// What an attacker begins with, and the bytes that it then gives one by one.
#[derive(Clone, Copy)]
struct Slow {
    begin: &'static [u8],
    then: &'static [u8],
}

/// A head that does not end, a body, a stream, and a frame of HTTP/2.
const KINDS: [Slow; 4] = [
    Slow {
        begin: b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        then: b"a",
    },
    Slow {
        begin: b"POST /topics/orders/records HTTP/1.1\r\nHost: localhost\r\n\
                 Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n",
        then: b"[",
    },
    Slow {
        begin: b"POST /topics/orders/records HTTP/1.1\r\nHost: localhost\r\n\
                 Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n",
        then: b"1\r\n \r\n",
    },
    Slow {
        begin: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\x3e\x80\x01\0\0\0\0\x01",
        then: b"\0",
    },
];

#[derive(Debug, Default)]
struct Count {
    open: AtomicUsize,
    cut: AtomicUsize,
}

/// Attacks until `over`; then says nothing more and waits to be cut off.
async fn attack(address: String, slow: Slow, mut over: watch::Receiver<bool>, count: Arc<Count>) {
    while !*over.borrow() {
        let Ok(mut stream) = TcpStream::connect(&address).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        count.open.fetch_add(1, Ordering::Relaxed);
        let mut begun = stream.write_all(slow.begin).await.is_ok();
        let mut said = [0; 1024];
        while begun && !*over.borrow() {
            tokio::select! {
                // Hears the end, and reads what else comes so that nothing waits for that.
                read = stream.read(&mut said) => begun = matches!(read, Ok(1..)),
                () = tokio::time::sleep(Duration::from_millis(fastrand::u64(500..1500))) => {
                    begun = stream.write_all(slow.then).await.is_ok();
                }
                _ = over.changed() => {}
            }
        }
        if begun {
            while let Ok(1..) = stream.read(&mut said).await {}
        } else {
            count.cut.fetch_add(1, Ordering::Relaxed);
        }
        count.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Writes and reads one record after the other; every duration of both.
async fn be_served(gateway: &Gateway, until: Instant) -> Vec<Duration> {
    let client = client();
    let url = gateway.url("/topics/orders/records");
    let mut took = Vec::new();
    while Instant::now() < until {
        let begun = Instant::now();
        let written = client.post(&url).json(&json!({"value": 1})).send();
        let written = written.await.expect("an answer to the good client");
        assert_eq!(written.status(), 200);
        written.bytes().await.unwrap();
        took.push(begun.elapsed());
        let begun = Instant::now();
        let read = client.get(format!("{url}?limit=10")).send();
        let read = read.await.expect("an answer to the good client");
        assert_eq!(read.status(), 200);
        read.bytes().await.unwrap();
        took.push(begun.elapsed());
    }
    took
}

fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() * 99 / 100]
}

fn resident_bytes(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<usize>().unwrap() << 10
}

/// The gateway inherits it, and has as many sockets as this process.
fn raise_file_limit() {
    const NEEDED: u64 = 8192;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < NEEDED) {
        assert!(
            maximum.is_none_or(|most| most >= NEEDED),
            "the system allows {maximum:?} open files"
        );
        let raised = Rlimit {
            current: Some(NEEDED),
            maximum,
        };
        setrlimit(Resource::Nofile, raised).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: 2,000 slow clients for half a minute"]
async fn slow_clients_cost_little_and_hold_nobody_up() {
    raise_file_limit();
    let broker = FaultBroker::start().await;
    broker.create_topic("orders", 1);
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("limits.connections_per_address", "5000")
        .set(
            "http.request_timeout_ms",
            &REQUEST_TIMEOUT.as_millis().to_string(),
        )
        .start()
        .await;
    // What the good client needs is not the attack's.
    let calm = p99(be_served(&gateway, Instant::now() + Duration::from_secs(2)).await);
    let before = resident_bytes(gateway.pid());

    let (end, over) = watch::channel(false);
    let count = Arc::new(Count::default());
    let mut attackers = JoinSet::new();
    for n in 0..ATTACKERS {
        let address = gateway.address().to_owned();
        let slow = KINDS[n % KINDS.len()];
        attackers.spawn(attack(address, slow, over.clone(), Arc::clone(&count)));
    }
    // The first may be cut off before a busy machine has let in the last.
    eventually(Duration::from_secs(60), async || {
        count.open.load(Ordering::Relaxed) >= ATTACKERS * 9 / 10
    })
    .await;
    let attack = Instant::now();
    let served = be_served(&gateway, attack + ATTACK);
    let watched = async {
        let mut most = (0, 0.0_f64);
        while attack.elapsed() < ATTACK {
            tokio::time::sleep(Duration::from_millis(250)).await;
            most.0 = most.0.max(resident_bytes(gateway.pid()));
            most.1 = most.1.max(metric(&gateway, "http_connections").await);
        }
        most
    };
    let (served, (resident, connections)) = tokio::join!(served, watched);
    let requests = served.len();
    let attacked = p99(served);
    let growth = resident.saturating_sub(before);
    eprintln!(
        "{connections} connections, {} cut off meanwhile: {} MiB more of {} MiB, {} KiB each; \
         good client: {requests} requests, p99 {attacked:?}, {calm:?} before",
        count.cut.load(Ordering::Relaxed),
        growth >> 20,
        before >> 20,
        (growth >> 10) / ATTACKERS,
    );
    assert!(connections >= ATTACKERS as f64 * 0.9, "{connections}");
    assert!(
        count.cut.load(Ordering::Relaxed) >= ATTACKERS / 2,
        "heads and bodies that take too long are cut off: {count:?}"
    );
    assert!(growth / ATTACKERS <= BYTES_PER_CONNECTION, "{growth}");
    assert!(attacked <= P99, "{attacked:?}");

    end.send(true).unwrap();
    // HTTP/2 is asked to end first, and has as long again for it.
    timeout(REQUEST_TIMEOUT * 12, async {
        while attackers.join_next().await.is_some() {}
    })
    .await
    .expect("connections that say nothing more are cut off");
    eventually(Duration::from_secs(60), async || {
        metric(&gateway, "http_connections").await <= 1.0
    })
    .await;
}
