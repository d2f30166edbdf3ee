//! The rows about streams of records: one reader next to a direct consumer, and crowds of readers of one
//! topic. The client takes what comes without parsing more than it must, so that it takes little of the
//! cores that are shared; of a crowd it is still the larger part of what there is to do.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{sleep, timeout};

use super::load::{Pace, Ran, on_this_thread, percentile};
use super::process::Server;
use super::records;
use super::report::{Compare, Row, Side, Target};
use super::rows::{self, Bench, per_request};
use super::sessions::group_name;

/// Longest time for what must come.
const STALLED: Duration = Duration::from_secs(60);
/// Readers of the rows about many.
const READERS: usize = 10_000;
/// Readers of the rows about filters.
const FILTERED: usize = 1_000;
/// Those that connect at once.
const AT_ONCE: usize = 100;
/// Records a second that are more than 10,000 readers can be given, and a rate that is not.
const MUCH: u32 = 100;
const MODERATE: u32 = 5;
/// Of so many readers one tells when each record came.
const TIMED: usize = 10;
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
    let mut stream = open(address, &path, "application/x-ndjson", None).await?;
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

/// Asks for a stream; `room` is what the system may take for it unread.
async fn open(
    address: SocketAddr,
    path: &str,
    accept: &str,
    room: Option<u32>,
) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(room) = room {
        socket.set_recv_buffer_size(room)?;
    }
    let mut stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// What the readers of a crowd have seen.
struct Seen {
    epoch: Instant,
    ready: Cell<usize>,
    records: Cell<u64>,
    ended: Cell<usize>,
    latencies: RefCell<Vec<u64>>,
    buffer: RefCell<Vec<u8>>,
}

/// Many readers, each with a task.
struct Crowd {
    seen: Rc<Seen>,
    tasks: Vec<AbortHandle>,
    /// Those who read nothing.
    stopped: Vec<TcpStream>,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Crowd {
    fn new() -> Self {
        Self {
            seen: Rc::new(Seen {
                epoch: Instant::now(),
                ready: Cell::new(0),
                records: Cell::new(0),
                ended: Cell::new(0),
                latencies: RefCell::default(),
                buffer: RefCell::new(vec![0; 256 << 10]),
            }),
            tasks: Vec::new(),
            stopped: Vec::new(),
        }
    }

    /// `count` more readers, of what `path` says for each; all of them have been told where they begin.
    async fn join(
        &mut self,
        address: SocketAddr,
        count: usize,
        path: impl Fn(usize) -> String,
    ) -> io::Result<()> {
        for index in 0..count {
            let begun = Instant::now();
            while self.tasks.len() - self.seen.ready.get() >= AT_ONCE {
                if begun.elapsed() > STALLED {
                    return Err(io::Error::other("readers are not let in"));
                }
                sleep(Duration::from_millis(1)).await;
            }
            let stream = open(address, &path(index), "text/event-stream", None).await?;
            let seen = Rc::clone(&self.seen);
            let timed = index.is_multiple_of(TIMED);
            let task = spawn_local(async move {
                let _ = seen.follow(&stream, timed).await;
                seen.ended.set(seen.ended.get() + 1);
            });
            self.tasks.push(task.abort_handle());
        }
        let begun = Instant::now();
        while self.seen.ready.get() < self.tasks.len() {
            if begun.elapsed() > STALLED {
                return Err(io::Error::other("readers are not let in"));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// `count` more that ask for `path` and read none of it.
    async fn stop(&mut self, address: SocketAddr, count: usize, path: &str) -> io::Result<()> {
        for _ in 0..count {
            let stream = open(address, path, "text/event-stream", Some(4 << 10)).await?;
            self.stopped.push(stream);
        }
        Ok(())
    }

    /// Writes records at `rate` for `time`, waits until `deliveries(written)` have come, and tells how
    /// many came and how long it took.
    async fn write(
        &self,
        bench: &Bench,
        topic: &str,
        rate: u32,
        time: Duration,
        deliveries: impl Fn(u64) -> u64,
    ) -> io::Result<(u64, u64, Duration)> {
        let seen = &self.seen;
        let producer = bench.direct.plain_producer();
        let before = seen.records.get();
        seen.latencies.borrow_mut().clear();
        let pad = "x".repeat(60);
        let started = Instant::now();
        let mut pace = Pace::new(rate);
        let mut written = 0_u64;
        while started.elapsed() < time {
            for _ in 0..pace.wait().await {
                let now = seen.now();
                let key = format!("key-{:05}", written % FILTERED as u64);
                let value = format!(r#"{{"t":{now},"id":{written},"note":"{pad}"}}"#);
                producer.send_keyed(topic, key.as_bytes(), value.as_bytes());
                written += 1;
            }
        }
        let wanted = deliveries(written);
        while seen.records.get() - before < wanted {
            if started.elapsed() > time + STALLED || seen.ended.get() > 0 {
                return Err(io::Error::other(format!(
                    "{} of {wanted} records came, {} readers ended",
                    seen.records.get() - before,
                    seen.ended.get()
                )));
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok((written, wanted, started.elapsed()))
    }
}

impl Seen {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Reads to the end, which is an error. All readers share one buffer; what is left of a line is kept.
    async fn follow(&self, stream: &TcpStream, timed: bool) -> io::Result<()> {
        let time = memchr::memmem::Finder::new(b"{\"t\":");
        let mut rest: Vec<u8> = Vec::new();
        let mut ready = false;
        loop {
            stream.readable().await?;
            let mut buffer = self.buffer.borrow_mut();
            let kept = rest.len();
            buffer[..kept].copy_from_slice(&rest);
            rest.clear();
            let read = match stream.try_read(&mut buffer[kept..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            let bytes = &buffer[..kept + read];
            let lines = memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1);
            let (lines, left) = bytes.split_at(lines);
            rest.extend_from_slice(left);
            if !ready && memchr::memmem::find(lines, b"event: ready").is_some() {
                ready = true;
                self.ready.set(self.ready.get() + 1);
            }
            let now = self.now();
            let mut count = 0;
            for at in time.find_iter(lines) {
                count += 1;
                if timed {
                    let digits = lines[at + 5..].iter().take_while(|b| b.is_ascii_digit());
                    let then = digits.fold(0_u64, |n, digit| n * 10 + u64::from(digit - b'0'));
                    self.latencies.borrow_mut().push(now.saturating_sub(then));
                }
            }
            self.records.set(self.records.get() + count);
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
            let mut crowd = Crowd::new();
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
            let mut crowd = Crowd::new();
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
    let mut latencies = crowd.seen.latencies.borrow_mut();
    Side {
        figure: percentile(&mut latencies, 0.99),
        p50: Some(percentile(&mut latencies, 0.5)),
        p99: Some(percentile(&mut latencies, 0.99)),
        cpu: Some(cpu),
    }
}

/// Readers that all see alike, next to a hundred ways to see and next to a key for each reader.
pub fn filters(bench: &Bench, name: &str) -> Vec<Row> {
    let one = |path: &str, _: usize| format!("{path}?where=/id%3E=0");
    let hundred = |path: &str, index: usize| format!("{path}?where=/id!=-{}", 1 + index % 100);
    let keys = |path: &str, index: usize| format!("{path}?key=key-{index:05}");
    let cost = |binary: &Path, lane: &dyn Fn(&str, usize) -> String, each: bool| {
        let server = gateway(bench, binary);
        let found = on_this_thread(async {
            let topic = topic(bench).await;
            let path = records::path(&topic);
            let mut crowd = Crowd::new();
            crowd
                .join(server.address, FILTERED, |index| lane(&path, index))
                .await?;
            let all = |written| written * if each { 1 } else { FILTERED as u64 };
            let warm = Duration::from_millis(300);
            crowd.write(bench, &topic, MUCH, warm, all).await?;
            let before = server.cpu();
            let (written, _, _) = crowd.write(bench, &topic, MUCH, bench.time, all).await?;
            let cpu = per_request(server.cpu() - before, written);
            io::Result::Ok(side(&crowd, cpu))
        });
        let found = found.expect("every stream is served");
        Side {
            figure: found.cpu.unwrap_or(f64::NAN),
            ..found
        }
    };
    rows_of(bench, &|binary| {
        let row = |what: &str, target, side| (format!("{name}-{what}"), "us/rec", target, side);
        vec![
            row("1-lane", Target::None, cost(binary, &one, false)),
            row("100-lanes", Target::None, cost(binary, &hundred, false)),
            row("1000-keys", Target::None, cost(binary, &keys, true)),
        ]
    })
}
