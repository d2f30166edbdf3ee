//! The rows of the table: for each, what is measured on our side and what on the limit's.
//!
//! Every row first runs each side once, unmeasured, and then goes round: ours, the other gateway if
//! there is one, the limit, ours again. What else the machine does meanwhile meets all sides alike.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::consumers;
use super::direct::Direct;
use super::groups;
use super::load::{self, Connection, Ran, on_this_thread};
use super::memory;
use super::process::{self, Server};
use super::records::{self, Record};
use super::report::{Compare, Row, Side, Target};
use super::sessions;
use super::streams;
use super::v3;

/// Connections of the rows that are about throughput.
const CONNECTIONS: usize = 64;
/// Requests a second of the rows that hold the rate and look at latency or cost.
const RATE: u32 = 1000;
/// Records of the topic that is read.
const READ_RECORDS: u64 = 1_000_000;
/// Topics of the row about cost by topics.
const MANY_TOPICS: usize = 1000;
/// Connections of the row about cost by connections.
const MANY_CONNECTIONS: usize = 2000;
/// Records on a page of the rows about single pages.
const PAGE: u64 = 100;

/// What every row works with.
pub struct Bench {
    /// Ours.
    pub gateway: Server,
    /// The one of `--against`.
    pub other: Option<Server>,
    /// HTTP and parsing alone.
    pub echo: Server,
    /// The binary behind `gateway`.
    pub binary: PathBuf,
    /// The binary behind `other`.
    pub other_binary: Option<PathBuf>,
    /// Kafka's addresses.
    pub bootstrap: String,
    /// Kafka without a gateway.
    pub direct: Direct,
    /// The topics.
    pub fixtures: Fixtures,
    /// How often each side is measured.
    pub rounds: u32,
    /// How long each time.
    pub time: Duration,
}

/// The topics that rows share.
pub struct Fixtures {
    /// Written to; keeps little.
    pub write: String,
    /// A million small records.
    pub read: String,
    /// A quarter of a million large ones.
    pub read_large: String,
    many: Vec<String>,
    /// Of 100 bytes.
    pub small: Vec<Record>,
    large: Vec<Record>,
}

impl Fixtures {
    /// Creates them, and fills the one that is read.
    pub fn make(direct: &Direct) -> Self {
        let many: Vec<String> = (0..MANY_TOPICS)
            .map(|number| format!("many-{number:04}"))
            .collect();
        let (write, read) = ("write".to_owned(), "read".to_owned());
        let read_large = "read-1k".to_owned();
        on_this_thread(async {
            direct.create_topics(&many, 1).await;
            let read = [read.clone(), read_large.clone()];
            direct.create_topics(&read, 1).await;
            direct.create_written(&write, 6).await;
        });
        let small = records::records(100);
        let large = records::records(1000);
        direct.fill(&read, &small, READ_RECORDS);
        direct.fill(&read_large, &large, READ_RECORDS / 4);
        direct.fill(&write, &small, READ_RECORDS);
        direct.produce(&write, &small, Duration::from_secs(3));
        Self {
            write,
            read,
            read_large,
            many,
            small,
            large,
        }
    }
}

/// A row: its name, and what makes its lines of the table.
pub type Measure = fn(&Bench, &str) -> Vec<Row>;

/// All of them, in the order of the table.
pub const ROWS: &[(&str, Measure)] = &[
    ("post-one", post_one),
    ("post-one-jwt", post_one_jwt),
    ("post-one-latency", post_one_latency),
    ("post-100", post_100),
    ("post-100-futures", post_100_futures),
    ("post-100-1k", post_100_1k),
    ("post-beside-bad", post_beside_bad),
    ("ndjson", ndjson),
    ("pages-1000", pages_1000),
    ("pages-5000", pages_5000),
    ("page-random", page_random),
    ("page-random-64", page_random_64),
    ("start", start),
    ("start-produce", start_produce),
    ("rss-idle", rss_idle),
    ("binary", binary),
    ("flat-topics", flat_topics),
    ("flat-connections", flat_connections),
    ("ws-group", sessions::group),
    ("ws-group-auto", sessions::group_auto),
    ("ws-group-1k", sessions::group_1k),
    ("ws-latency", sessions::latency),
    ("ws-produce", sessions::produce),
    ("ws-sessions", sessions::many),
    ("ws-tails", sessions::tails),
    ("ws-filters", streams::tail_filters),
    ("stream-ndjson", streams::ndjson),
    ("stream-ndjson-1k", streams::ndjson_1k),
    ("sse-idle", streams::idle),
    ("sse-fanout", streams::fanout),
    ("sse-filters", streams::filters),
    ("ring-memory", memory::ring),
    ("v2-post-one", consumers::produce_one),
    ("v2-post-100", consumers::produce_100),
    ("v2-consume", consumers::consume_binary),
    ("v2-consume-json", consumers::consume_json),
    ("v2-instances", consumers::many),
    ("v3-stream", v3::stream),
    ("v3-batch-100", v3::batch_100),
    ("lag-1000", groups::lag),
];

type Limit<'a> = &'a dyn Fn(Duration) -> Side;

impl Bench {
    /// Runs the rounds of one row.
    pub fn rounds(
        &self,
        name: &str,
        unit: &'static str,
        target: Target,
        ours: &dyn Fn(&Server, Duration) -> Side,
        limit: Limit<'_>,
    ) -> Row {
        let mut row = Row {
            name: name.to_owned(),
            unit,
            ours: Vec::new(),
            limit: Vec::new(),
            other: Vec::new(),
            compare: Compare::Ratio,
            target,
            skipped: None,
        };
        for round in 0..=self.rounds {
            let warming = round == 0;
            let time = if warming { self.time / 2 } else { self.time };
            let one = ours(&self.gateway, time);
            let other = self.other.as_ref().map(|server| ours(server, time));
            let bound = limit(time);
            if !warming {
                row.ours.push(one);
                row.other.extend(other);
                row.limit.push(bound);
            }
        }
        row
    }

    /// A row without a limit beside it: `ours` is called once a round, with the binary.
    pub fn alone(
        &self,
        name: &str,
        unit: &'static str,
        target: Target,
        ours: &dyn Fn(&Path) -> f64,
    ) -> Row {
        let side = |binary: &PathBuf| Side {
            figure: ours(binary),
            ..Side::default()
        };
        let rounds = 0..self.rounds;
        let both: Vec<(Side, Option<Side>)> = rounds
            .map(|_| (side(&self.binary), self.other_binary.as_ref().map(side)))
            .collect();
        Row {
            name: name.to_owned(),
            unit,
            ours: both.iter().map(|(ours, _)| *ours).collect(),
            limit: Vec::new(),
            other: both.iter().filter_map(|(_, other)| *other).collect(),
            compare: Compare::Alone,
            target,
            skipped: None,
        }
    }
}

/// Drives a server and says what came of it, its processor time included.
pub fn driven(
    server: &Server,
    records_per_request: u64,
    drive: impl AsyncFnOnce(SocketAddr) -> io::Result<Ran>,
) -> Side {
    let before = server.cpu();
    let mut ran = on_this_thread(drive(server.address)).expect("every request is answered");
    let cpu = server.cpu().saturating_sub(before);
    Side {
        figure: ran.per_second() * records_per_request as f64,
        p50: Some(ran.percentile(0.5)),
        p99: Some(ran.percentile(0.99)),
        cpu: Some(per_request(cpu, ran.requests * records_per_request)),
    }
}

/// The side of a client that is called directly, in this process.
pub fn direct(run: impl FnOnce() -> Ran) -> Side {
    let before = process::own_cpu();
    let mut ran = run();
    let cpu = process::own_cpu().saturating_sub(before);
    let timed = !ran.latencies.is_empty();
    Side {
        figure: ran.per_second(),
        p50: timed.then(|| ran.percentile(0.5)),
        p99: timed.then(|| ran.percentile(0.99)),
        cpu: Some(per_request(cpu, ran.requests)),
    }
}

/// Microseconds of processor time.
pub fn per_request(cpu: Duration, requests: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / requests.max(1) as f64
}

/// Requests of `records` records each, on many connections.
pub fn posts(server: &Server, requests: &Rc<Vec<Vec<u8>>>, records: u64, time: Duration) -> Side {
    driven(server, records, async |address| {
        load::closed(address, requests, CONNECTIONS, time).await
    })
}

fn post_one(bench: &Bench, name: &str) -> Vec<Row> {
    let fixtures = &bench.fixtures;
    let requests = records::posts_of_one(&fixtures.write, &fixtures.small);
    vec![bench.rounds(
        name,
        "req/s",
        Target::AtLeast(0.6),
        &|server, time| posts(server, &requests, 1, time),
        &|time| posts(&bench.echo, &requests, 1, time),
    )]
}

/// With a token that is checked, next to the same gateway that asks for none.
fn post_one_jwt(bench: &Bench, name: &str) -> Vec<Row> {
    let fixtures = &bench.fixtures;
    let requests = records::posts_of_one(&fixtures.write, &fixtures.small);
    let signed = records::with_token(&requests, &records::token());
    let jwt = |binary| Server::jwt_gateway(binary, &bench.bootstrap);
    let ours = jwt(&bench.binary);
    let other = bench.other_binary.as_deref().map(jwt);
    vec![bench.rounds(
        name,
        "req/s",
        Target::AtLeast(0.95),
        &|server, time| {
            let is_other = bench
                .other
                .as_ref()
                .is_some_and(|o| std::ptr::eq(o, server));
            let server = other.as_ref().filter(|_| is_other).unwrap_or(&ours);
            posts(server, &signed, 1, time)
        },
        &|time| posts(&bench.gateway, &requests, 1, time),
    )]
}

fn post_one_latency(bench: &Bench, name: &str) -> Vec<Row> {
    let fixtures = &bench.fixtures;
    let requests = records::posts_of_one(&fixtures.write, &fixtures.small);
    let p99 = |side: Side| Side {
        figure: side.p99.unwrap_or(f64::NAN),
        ..side
    };
    let mut row = bench.rounds(
        name,
        "p99 ms",
        Target::AtMost(2.0),
        &|server, time| {
            p99(driven(server, 1, async |address| {
                let open = load::open(address, CONNECTIONS).await?;
                load::paced(open, &requests, RATE, time).await
            }))
        },
        &|time| {
            let (topic, records) = (&fixtures.write, &fixtures.small);
            p99(direct(|| {
                on_this_thread(bench.direct.produce_paced(topic, records, RATE, time))
            }))
        },
    );
    row.compare = Compare::Added;
    vec![row]
}

fn post_100(bench: &Bench, name: &str) -> Vec<Row> {
    batches(bench, name, Target::AtLeast(0.6), &bench.fixtures.small)
}

fn post_100_1k(bench: &Bench, name: &str) -> Vec<Row> {
    batches(bench, name, Target::AtLeast(0.6), &bench.fixtures.large)
}

fn batches(bench: &Bench, name: &str, target: Target, records: &[Record]) -> Vec<Row> {
    let topic = &bench.fixtures.write;
    let requests = records::posts_of_many(topic, records, 100);
    vec![bench.rounds(
        name,
        "rec/s",
        target,
        &|server, time| posts(server, &requests, 100, time),
        &|time| direct(|| bench.direct.produce(topic, records, time)),
    )]
}

/// Good writers beside loops that post what the topic does not take, next to the same without these. A
/// good request that is refused fails the row.
fn post_beside_bad(bench: &Bench, name: &str) -> Vec<Row> {
    const BAD: usize = 3;
    let topic = "compacted";
    on_this_thread(bench.direct.create_compacted(topic, 1));
    let requests = records::posts_of_one(topic, &bench.fixtures.small);
    let bad = load::post(&records::path(topic), "application/json", br#"{"value":1}"#);
    vec![bench.rounds(
        name,
        "req/s",
        Target::AtLeast(0.9),
        &|server, time| {
            driven(server, 1, async |address| {
                tokio::select! {
                    ran = load::closed(address, &requests, CONNECTIONS, time) => ran,
                    error = load::refused(address, bad.clone(), BAD) => Err(error),
                }
            })
        },
        &|time| posts(&bench.gateway, &requests, 1, time),
    )]
}

fn post_100_futures(bench: &Bench, name: &str) -> Vec<Row> {
    let fixtures = &bench.fixtures;
    let requests = records::posts_of_many(&fixtures.write, &fixtures.small, 100);
    vec![bench.rounds(
        name,
        "rec/s",
        Target::None,
        &|server, time| posts(server, &requests, 100, time),
        &|time| futures(bench, time),
    )]
}

/// A direct `FutureProducer`.
pub fn futures(bench: &Bench, time: Duration) -> Side {
    let fixtures = &bench.fixtures;
    let client = &bench.direct;
    direct(|| on_this_thread(client.produce_futures(&fixtures.write, &fixtures.small, time)))
}

fn ndjson(bench: &Bench, name: &str) -> Vec<Row> {
    let fixtures = &bench.fixtures;
    const NDJSON: &str = "application/x-ndjson";
    let path = records::path(&fixtures.write);
    let lines = records::lines(&fixtures.small);
    let stream = |server: &Server, time| {
        let stream = load::stream_lines(server.address, &path, NDJSON, lines.clone(), time);
        on_this_thread(stream).expect("the stream is answered")
    };
    if stream(&bench.gateway, Duration::from_millis(100)).is_none() {
        return vec![Row::skipped(
            name,
            "this gateway answers 415 to application/x-ndjson",
        )];
    }
    vec![bench.rounds(
        name,
        "rec/s",
        Target::AtLeast(0.5),
        &|server, time| {
            let before = server.cpu();
            let ran = stream(server, time).unwrap_or_default();
            let cpu = server.cpu().saturating_sub(before);
            Side {
                figure: ran.per_second(),
                cpu: Some(per_request(cpu, ran.requests)),
                ..Side::default()
            }
        },
        &|time| futures(bench, time),
    )]
}

fn pages_1000(bench: &Bench, name: &str) -> Vec<Row> {
    pages(bench, name, 1000)
}

fn pages_5000(bench: &Bench, name: &str) -> Vec<Row> {
    pages(bench, name, 5000)
}

/// The topic page by page from its start, as one client that follows `next`.
fn pages(bench: &Bench, name: &str, limit: u64) -> Vec<Row> {
    let topic = &bench.fixtures.read;
    vec![bench.rounds(
        name,
        "rec/s",
        Target::AtLeast(0.5),
        &|server, time| {
            // Every page is a full one: what is in the topic can be divided by the limit.
            driven(server, limit, async |address| {
                follow(address, topic, limit, time).await
            })
        },
        &|time| direct(|| bench.direct.consume(topic, time)),
    )]
}

async fn follow(address: SocketAddr, topic: &str, limit: u64, time: Duration) -> io::Result<Ran> {
    let mut connection = Connection::open(address).await?;
    let mut from = "earliest".to_owned();
    let mut ran = Ran::default();
    let started = Instant::now();
    while started.elapsed() < time && ran.requests * limit < READ_RECORDS {
        let asked = Instant::now();
        let path = format!("{}?limit={limit}&from={from}", records::path(topic));
        let body = connection.ok(&load::get(&path)).await?;
        let lost = || io::Error::other("a page without next");
        let at = memchr::memmem::rfind(body, b"\"next\":\"").ok_or_else(lost)? + 8;
        let next = body[at..].split(|b| *b == b'"').next().ok_or_else(lost)?;
        from = String::from_utf8(next.to_vec()).map_err(io::Error::other)?;
        let nanos = asked.elapsed().as_nanos();
        ran.latencies.push(u64::try_from(nanos).unwrap_or(u64::MAX));
        ran.requests += 1;
    }
    ran.elapsed = started.elapsed();
    Ok(ran)
}

fn page_random(bench: &Bench, name: &str) -> Vec<Row> {
    random_pages(bench, name, 1)
}

fn page_random_64(bench: &Bench, name: &str) -> Vec<Row> {
    random_pages(bench, name, 64)
}

fn random_pages(bench: &Bench, name: &str, clients: usize) -> Vec<Row> {
    let topic = &bench.fixtures.read;
    let path = records::path(topic);
    let requests: Vec<Vec<u8>> = (0..10_000)
        .map(|_| {
            let offset = fastrand::u64(..READ_RECORDS - PAGE);
            load::get(&format!("{path}?limit={PAGE}&from={topic}:0@{offset}"))
        })
        .collect();
    let requests = Rc::new(requests);
    vec![bench.rounds(
        name,
        "pages/s",
        Target::None,
        &|server, time| {
            driven(server, 1, async |address| {
                load::closed(address, &requests, clients, time).await
            })
        },
        &|time| {
            let client = &bench.direct;
            direct(|| client.pages(topic, READ_RECORDS, PAGE, clients, time))
        },
    )]
}

/// To the first answer of any kind.
fn start(bench: &Bench, name: &str) -> Vec<Row> {
    first_answer(bench, name, Target::AtMost(100.0), &load::get("/"))
}

/// To the first record that is in Kafka.
fn start_produce(bench: &Bench, name: &str) -> Vec<Row> {
    let fixtures = &bench.fixtures;
    let requests = records::posts_of_one(&fixtures.write, &fixtures.small);
    first_answer(bench, name, Target::None, &requests[0])
}

fn first_answer(bench: &Bench, name: &str, target: Target, request: &[u8]) -> Vec<Row> {
    vec![bench.alone(name, "ms", target, &|binary| {
        process::time_to_answer(binary, &bench.bootstrap, request).as_secs_f64() * 1e3
    })]
}

/// Of a gateway that has answered a few requests of each kind and then nothing for a second.
fn rss_idle(bench: &Bench, name: &str) -> Vec<Row> {
    let fixtures = &bench.fixtures;
    let post = records::posts_of_one(&fixtures.write, &fixtures.small);
    let path = records::path(&fixtures.read);
    let get = load::get(&format!("{path}?from=earliest&limit=10"));
    vec![bench.alone(name, "MiB", Target::AtMost(40.0), &|binary| {
        let server = Server::gateway(binary, &bench.bootstrap);
        let asked = on_this_thread(async {
            let mut connection = Connection::open(server.address).await?;
            for _ in 0..10 {
                connection.ok(&post[0]).await?;
                connection.ok(&get).await?;
            }
            io::Result::Ok(())
        });
        asked.expect("every request is answered");
        std::thread::sleep(Duration::from_secs(1));
        server.rss_mib()
    })]
}

fn binary(bench: &Bench, name: &str) -> Vec<Row> {
    let mut row = bench.alone(name, "MiB", Target::AtMost(40.0), &|binary| {
        std::fs::metadata(binary).map_or(f64::NAN, |file| file.len() as f64 / f64::from(1 << 20))
    });
    // It is the same size each time.
    row.ours.truncate(1);
    row.other.truncate(1);
    vec![row]
}

/// Processor time of a record, at a rate held constant so that batches are the same: written to
/// many topics, next to one.
fn flat_topics(bench: &Bench, name: &str) -> Vec<Row> {
    let fixtures = &bench.fixtures;
    let body = |(index, topic): (usize, &String)| {
        let one = &fixtures.small[index..=index];
        records::posts_of_one(topic, one)[0].clone()
    };
    let one: Vec<Vec<u8>> = (0..MANY_TOPICS)
        .map(|index| body((index, &fixtures.many[0])))
        .collect();
    let many: Vec<Vec<u8>> = fixtures.many.iter().enumerate().map(body).collect();
    flat(
        bench,
        name,
        (&Rc::new(one), CONNECTIONS),
        (&Rc::new(many), CONNECTIONS),
    )
}

/// The same with many connections open and in use, next to one.
fn flat_connections(bench: &Bench, name: &str) -> Vec<Row> {
    let fixtures = &bench.fixtures;
    let requests = records::posts_of_one(&fixtures.write, &fixtures.small);
    flat(bench, name, (&requests, 1), (&requests, MANY_CONNECTIONS))
}

fn flat(
    bench: &Bench,
    name: &str,
    (one, one_connections): (&Rc<Vec<Vec<u8>>>, usize),
    (many, many_connections): (&Rc<Vec<Vec<u8>>>, usize),
) -> Vec<Row> {
    let cost = |server: &Server, requests: &Rc<Vec<Vec<u8>>>, connections: usize, time| {
        let cost = on_this_thread(async {
            let open = load::open(server.address, connections).await?;
            // What it costs to take a connection is not what a record costs.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let before = server.cpu();
            let mut ran = load::paced(open, requests, RATE, time).await?;
            let cpu = server.cpu().saturating_sub(before);
            io::Result::Ok(Side {
                figure: per_request(cpu, ran.requests),
                p50: Some(ran.percentile(0.5)),
                p99: Some(ran.percentile(0.99)),
                cpu: None,
            })
        });
        cost.expect("every request is answered")
    };
    vec![bench.rounds(
        name,
        "us/rec",
        Target::AtMost(1.2),
        &|server, time| cost(server, many, many_connections, time),
        &|time| cost(&bench.gateway, one, one_connections, time),
    )]
}
