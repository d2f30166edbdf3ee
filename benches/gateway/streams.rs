//! The rows about streams of records: one reader next to a direct consumer, and crowds of readers of one
//! topic. The client takes what comes without parsing more than it must, so that it takes little of the
//! cores that are shared; of a crowd it is still the larger part of what there is to do.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};

use super::crowd::{Crowd, FILTERED, STALLED, Transport, get, open};
use super::load::{Ran, on_this_thread, percentile};
use super::process::Server;
use super::records;
use super::report::{Compare, Row, Side, Target};
use super::rows::{self, Bench, per_request};
use super::sessions::group_name;

/// Readers of the rows about many.
const READERS: usize = 10_000;
/// Records a second that are more than 10,000 readers can be given, and a rate that is not.
const MUCH: u32 = 100;
const MODERATE: u32 = 5;
/// Records that a reader who reads nothing stops in.
const BACKLOG: u64 = 100_000;

/// One NDJSON stream from the topic's beginning, of records of 100 bytes.
pub fn ndjson(bench: &Bench, name: &str) -> Vec<Row> {
    reading(bench, name, &bench.fixtures.read, 1_000_000)
}

/// The same of 1,000 bytes.
pub fn ndjson_1k(bench: &Bench, name: &str) -> Vec<Row> {
    reading(bench, name, &bench.fixtures.read_large, 250_000)
}

fn reading(bench: &Bench, name: &str, topic: &str, most: u64) -> Vec<Row> {
    vec![bench.rounds(
        name,
        "rec/s",
        Target::AtLeast(0.5),
        &|server, time| {
            let before = server.cpu();
            let ran = on_this_thread(read(server.address, topic, most, time));
            let ran = ran.expect("the stream is served");
            let cpu = server.cpu().saturating_sub(before);
            Side {
                figure: ran.per_second(),
                cpu: Some(per_request(cpu, ran.requests)),
                ..Side::default()
            }
        },
        &|time| rows::direct(|| bench.direct.consume(topic, time)),
    )]
}

/// Reads a topic from its start for `time` or to its end; the clock starts with the first record.
async fn read(address: SocketAddr, topic: &str, most: u64, time: Duration) -> io::Result<Ran> {
    let path = format!("{}?from=earliest", records::path(topic));
    let mut stream = open(address, &get(&path, "application/x-ndjson"), None).await?;
    let record = memchr::memmem::Finder::new(b"{\"topic\"");
    let (mut count, mut started) = (0, None);
    let mut buffer = vec![0; 256 << 10];
    let mut kept = 0;
    loop {
        let read = timeout(STALLED, stream.read(&mut buffer[kept..])).await??;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let filled = kept + read;
        let mut last = 0;
        for at in record.find_iter(&buffer[..filled]) {
            count += 1;
            last = at + 8;
        }
        // One that has come in part is looked at again.
        let from = last.max(filled.saturating_sub(7));
        buffer.copy_within(from..filled, 0);
        kept = filled - from;
        if count == 0 {
            continue;
        }
        let started = *started.get_or_insert_with(Instant::now);
        if count >= most || started.elapsed() >= time {
            return Ok(Ran {
                requests: count,
                elapsed: started.elapsed(),
                latencies: Vec::new(),
            });
        }
    }
}

/// A figure of a row.
type Figure = (String, &'static str, Target, Side);

/// Rows of what `measure` finds, once a round, of each binary.
fn rows_of(bench: &Bench, measure: &dyn Fn(&Path) -> Vec<Figure>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..bench.rounds {
        for (binary, other) in [
            (Some(&bench.binary), false),
            (bench.other_binary.as_ref(), true),
        ] {
            for (name, unit, target, side) in binary.map(|path| measure(path)).unwrap_or_default() {
                let at = rows.iter().position(|row| row.name == name);
                let at = at.unwrap_or_else(|| {
                    rows.push(Row {
                        name,
                        unit,
                        ours: Vec::new(),
                        limit: Vec::new(),
                        other: Vec::new(),
                        compare: Compare::Alone,
                        target,
                        skipped: None,
                    });
                    rows.len() - 1
                });
                let row = &mut rows[at];
                if other { &mut row.other } else { &mut row.ours }.push(side);
            }
        }
    }
    rows
}

fn figure(figure: f64) -> Side {
    Side {
        figure,
        ..Side::default()
    }
}

fn gateway(bench: &Bench, binary: &Path) -> Server {
    Server::gateway_with(
        binary,
        &bench.bootstrap,
        &[
            "limits.connections=50000",
            "limits.connections_per_address=50000",
            "limits.tails=50000",
            // Readers answer no pings.
            "websocket.ping_interval_ms=600000",
        ],
    )
}

async fn topic(bench: &Bench) -> String {
    let topic = group_name();
    bench
        .direct
        .create_topics(std::slice::from_ref(&topic), 1)
        .await;
    topic
}

/// Both ends of a stream are files.
fn readers_that_fit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = limit
        .maximum
        .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    READERS.min(files.saturating_sub(2_000))
}

/// Many streams that nothing comes on: what each takes.
pub fn idle(bench: &Bench, name: &str) -> Vec<Row> {
    let readers = readers_that_fit();
    rows_of(bench, &|binary| {
        let server = gateway(bench, binary);
        let found = on_this_thread(async {
            let topic = topic(bench).await;
            let path = records::path(&topic);
            let mut crowd = Crowd::new(Transport::Sse);
            // What the first ones cost is the process's.
            crowd.join(server.address, 10, |_| path.clone()).await?;
            sleep(Duration::from_secs(1)).await;
            let before = server.rss_mib();
            let started = Instant::now();
            crowd
                .join(server.address, readers, |_| path.clone())
                .await?;
            let joined = started.elapsed();
            sleep(Duration::from_secs(3)).await;
            let each = (server.rss_mib() - before) * 1024.0 / readers as f64;
            let idle = server.cpu();
            sleep(Duration::from_secs(16)).await;
            let idle = (server.cpu() - idle).as_secs_f64() / 16.0;
            io::Result::Ok((each, joined, idle))
        });
        let (each, joined, idle) = found.expect("every stream is served");
        vec![
            (
                format!("{name}-{readers}"),
                "KiB each",
                Target::AtMost(20.0),
                figure(each),
            ),
            (
                format!("{name}-{readers}-join"),
                "s",
                Target::None,
                figure(joined.as_secs_f64()),
            ),
            (
                format!("{name}-{readers}-cpu"),
                "% of a core",
                Target::None,
                figure(idle * 100.0),
            ),
        ]
    })
}

/// One topic to many readers: as much as goes, then a moderate rate, then that beside readers who have
/// stopped reading.
pub fn fanout(bench: &Bench, name: &str) -> Vec<Row> {
    let readers = readers_that_fit();
    rows_of(bench, &|binary| {
        let server = gateway(bench, binary);
        let found = on_this_thread(async {
            let topic = topic(bench).await;
            bench.direct.fill(&topic, &bench.fixtures.small, BACKLOG);
            let path = records::path(&topic);
            let mut crowd = Crowd::new(Transport::Sse);
            crowd
                .join(server.address, readers, |_| path.clone())
                .await?;
            let all = |written| written * readers as u64;
            let warm = Duration::from_millis(300);
            crowd.write(bench, &topic, MUCH, warm, all).await?;
            let before = server.cpu();
            let (_, much, took) = crowd.write(bench, &topic, MUCH, bench.time, all).await?;
            let busy = per_request(server.cpu() - before, much);
            let before = server.cpu();
            let time = bench.time * 2;
            let (_, some, _) = crowd.write(bench, &topic, MODERATE, time, all).await?;
            let calm = per_request(server.cpu() - before, some);
            let fast = side(&crowd, calm);
            let stopped = format!("{path}?from=earliest");
            crowd.stop(server.address, readers / 100, &stopped).await?;
            sleep(Duration::from_secs(2)).await;
            let before = server.cpu();
            let (_, some, _) = crowd.write(bench, &topic, MODERATE, time, all).await?;
            let slowed = side(&crowd, per_request(server.cpu() - before, some));
            let rate = much as f64 / took.as_secs_f64();
            io::Result::Ok((rate, busy, fast, slowed))
        });
        let (rate, busy, fast, slowed) = found.expect("every stream is served");
        vec![
            (
                format!("{name}-{readers}"),
                "deliveries/s",
                Target::None,
                Side {
                    cpu: Some(busy),
                    ..figure(rate)
                },
            ),
            (
                format!("{name}-{readers}-cpu"),
                "us each",
                Target::AtMost(1.5),
                figure(busy),
            ),
            (
                format!("{name}-{readers}-calm"),
                "p99 ms",
                Target::None,
                fast,
            ),
            (
                format!("{name}-{readers}-slow"),
                "p99 ms",
                Target::None,
                slowed,
            ),
        ]
    })
}

fn side(crowd: &Crowd, cpu: f64) -> Side {
    let mut latencies = crowd.latencies();
    Side {
        figure: percentile(&mut latencies, 0.99),
        p50: Some(percentile(&mut latencies, 0.5)),
        p99: Some(percentile(&mut latencies, 0.99)),
        cpu: Some(cpu),
    }
}

/// Readers that all see alike, next to a hundred ways to see and next to a key for each reader.
pub fn filters(bench: &Bench, name: &str) -> Vec<Row> {
    let path = |topic: &str, query: &str| format!("{}?{query}", records::path(topic));
    let asks = Asks {
        one: &|topic, _| path(topic, "where=/id%3E=0"),
        hundred: &|topic, index| path(topic, &format!("where=/id!=-{}", 1 + index % 100)),
        key: &|topic, index| path(topic, &format!("key=key-{index:05}")),
    };
    filtered(bench, name, Transport::Sse, &asks)
}

/// The same with a WebSocket tail for each reader.
pub fn tail_filters(bench: &Bench, name: &str) -> Vec<Row> {
    let frame = |topic: &str, filter: &str| {
        format!(r#"{{"type":"subscribe","sub":"s","topics":["{topic}"],"filter":{{{filter}}}}}"#)
    };
    let asks = Asks {
        one: &|topic, _| frame(topic, r#""where":"/id>=0""#),
        hundred: &|topic, index| frame(topic, &format!(r#""where":"/id!=-{}""#, 1 + index % 100)),
        key: &|topic, index| frame(topic, &format!(r#""key":"key-{index:05}""#)),
    };
    filtered(bench, name, Transport::Ws, &asks)
}

type Ask<'a> = &'a dyn Fn(&str, usize) -> String;

/// What a reader asks of a topic: what all do, what one of a hundred does, what nobody else does.
struct Asks<'a> {
    one: Ask<'a>,
    hundred: Ask<'a>,
    key: Ask<'a>,
}

fn filtered(bench: &Bench, name: &str, transport: Transport, asks: &Asks<'_>) -> Vec<Row> {
    let cost = |binary: &Path, ask: Ask<'_>, each: bool| {
        let server = gateway(bench, binary);
        let found = on_this_thread(async {
            let topic = topic(bench).await;
            let mut crowd = Crowd::new(transport);
            crowd
                .join(server.address, FILTERED, |index| ask(&topic, index))
                .await?;
            let all = |written| written * if each { 1 } else { FILTERED as u64 };
            let warm = Duration::from_millis(300);
            crowd.write(bench, &topic, MUCH, warm, all).await?;
            let before = server.cpu();
            let (written, _, _) = crowd.write(bench, &topic, MUCH, bench.time, all).await?;
            let cpu = per_request(server.cpu() - before, written);
            io::Result::Ok(side(&crowd, cpu))
        });
        let found = found.expect("every reader is served");
        Side {
            figure: found.cpu.unwrap_or(f64::NAN),
            ..found
        }
    };
    rows_of(bench, &|binary| {
        let row = |what: &str, target, side| (format!("{name}-{what}"), "us/rec", target, side);
        vec![
            row("1-lane", Target::None, cost(binary, asks.one, false)),
            row("100-lanes", Target::None, cost(binary, asks.hundred, false)),
            row("1000-keys", Target::None, cost(binary, asks.key, true)),
        ]
    })
}
