//! The rows about WebSocket sessions. The client is as little as can be: frames are counted and
//! acknowledged without being parsed, so that it takes little of the cores that are shared.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::direct::Direct;
use super::load::{Pace, Ran, on_this_thread, percentile};
use super::process::Server;
use super::records::{self, Record};
use super::report::{Compare, Row, Side, Target};
use super::rows::{self, Bench, per_request};
use super::support::broker::Broker;

/// Longest time for a frame that must come.
const STALLED: Duration = Duration::from_secs(60);
/// Records a second of the row about latency.
const RATE: u32 = 1000;
/// Sessions of the row about many.
const SESSIONS: usize = 10_000;
/// Those that connect at once.
const AT_ONCE: usize = 200;
/// Records of a `produce` frame, and frames that wait for their answers: within the window, and within
/// the number of frames a second, that a session may have.
const PRODUCED: usize = 1000;
const UNDER_WAY: usize = 9;

/// What begins a session.
pub const UPGRADE: &[u8] =
    b"GET /ws HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
      sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A socket with a session.
struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
}

impl Socket {
    /// Connects, with `room` for what comes.
    async fn open(address: SocketAddr, room: usize) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(UPGRADE).await?;
        let mut this = Self {
            stream,
            buffer: Vec::with_capacity(room),
            start: 0,
        };
        loop {
            if let Some(end) = memchr::memmem::find(&this.buffer, b"\r\n\r\n") {
                if !this.buffer.starts_with(b"HTTP/1.1 101") {
                    return Err(io::Error::other("no upgrade"));
                }
                this.start = end + 4;
                return Ok(this);
            }
            this.more().await?;
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > 0 && self.buffer.len() == self.buffer.capacity() {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let read = timeout(STALLED, self.stream.read_buf(&mut self.buffer)).await?;
        match read? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next text frame; pings are passed over, as the gateway gives up only after two.
    async fn next(&mut self) -> io::Result<&[u8]> {
        loop {
            let bytes = &self.buffer[self.start..];
            let head = match bytes {
                [_, 126, high, low, ..] => {
                    Some((4, usize::from(u16::from_be_bytes([*high, *low]))))
                }
                [_, 127, length @ ..] if length.len() >= 8 => {
                    let length: [u8; 8] = length[..8].try_into().map_err(io::Error::other)?;
                    Some((10, u64::from_be_bytes(length) as usize))
                }
                [_, length @ ..=125, ..] => Some((2, usize::from(*length))),
                _ => None,
            };
            if let Some((head, length)) = head
                && bytes.len() >= head + length
            {
                let (kind, from) = (bytes[0], self.start + head);
                self.start += head + length;
                match kind {
                    0x81 => return Ok(&self.buffer[from..from + length]),
                    0x88 => {
                        let reason = String::from_utf8_lossy(&self.buffer[from..from + length]);
                        return Err(io::Error::other(format!("closed: {reason}")));
                    }
                    _ => continue,
                }
            }
            self.more().await?;
        }
    }

    /// Waits for a frame of this type.
    async fn until(&mut self, kind: &str) -> io::Result<()> {
        let wanted = format!("{{\"type\":\"{kind}\"");
        loop {
            let frame = self.next().await?;
            if frame.starts_with(wanted.as_bytes()) {
                return Ok(());
            }
            if frame.starts_with(b"{\"type\":\"error\"") {
                return Err(io::Error::other(
                    String::from_utf8_lossy(frame).into_owned(),
                ));
            }
        }
    }

    async fn send(&mut self, text: &[u8]) -> io::Result<()> {
        let frame = masked(text);
        self.stream.write_all(&frame).await
    }
}

/// A client's frame. Its mask is zero, which every server takes.
pub fn masked(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match (u8::try_from(text.len()), u16::try_from(text.len())) {
        (Ok(length @ ..126), _) => frame.push(0x80 | length),
        (_, Ok(length)) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(text.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text);
    frame
}

/// A name that no other group or topic has.
pub fn group_name() -> String {
    format!("bench-{:016x}", fastrand::u64(..))
}

fn subscribe(topic: &str, group: &str, ack: &str) -> String {
    format!(
        r#"{{"type":"subscribe","sub":"s","group":"{group}","topics":["{topic}"],"from":"earliest","ack":"{ack}","flow":{{"records":10000,"bytes":8388608}},"batch":{{"records":1000,"bytes":262144}}}}"#
    )
}

/// Reads a topic from its start as the only member of a group, for `time` or to its end; the clock
/// starts with the first record.
async fn read(
    address: SocketAddr,
    topic: &str,
    ack: &str,
    most: u64,
    time: Duration,
) -> io::Result<Ran> {
    let mut socket = Socket::open(address, 1 << 20).await?;
    socket.until("welcome").await?;
    socket
        .send(subscribe(topic, &group_name(), ack).as_bytes())
        .await?;
    socket.until("assigned").await?;
    let acks = ack != "auto";
    let tag = memchr::memmem::Finder::new(b"{\"tag\":");
    let (mut count, mut started) = (0, None);
    loop {
        let frame = socket.next().await?;
        if !frame.starts_with(b"{\"type\":\"records\"") {
            continue;
        }
        let started = *started.get_or_insert_with(Instant::now);
        let mut last = 0;
        for at in tag.find_iter(frame) {
            count += 1;
            last = at + 7;
        }
        if acks {
            let digits = frame[last..]
                .split(|b| *b == b',')
                .next()
                .unwrap_or_default();
            let digits = String::from_utf8_lossy(digits);
            let ack = format!(r#"{{"type":"ack","sub":"s","tags":[{digits}]}}"#);
            socket.send(ack.as_bytes()).await?;
        }
        if count >= most || started.elapsed() >= time {
            return Ok(Ran {
                requests: count,
                elapsed: started.elapsed(),
                latencies: Vec::new(),
            });
        }
    }
}

/// One session that acknowledges each frame.
pub fn group(bench: &Bench, name: &str) -> Vec<Row> {
    reading(bench, name, &bench.fixtures.read, "cumulative", 1_000_000)
}

/// One session that acknowledges nothing.
pub fn group_auto(bench: &Bench, name: &str) -> Vec<Row> {
    reading(bench, name, &bench.fixtures.read, "auto", 1_000_000)
}

/// As [`group`], with larger records.
pub fn group_1k(bench: &Bench, name: &str) -> Vec<Row> {
    reading(
        bench,
        name,
        &bench.fixtures.read_large,
        "cumulative",
        250_000,
    )
}

fn reading(bench: &Bench, name: &str, topic: &str, ack: &str, most: u64) -> Vec<Row> {
    vec![bench.rounds(
        name,
        "rec/s",
        Target::AtLeast(0.4),
        &|server, time| {
            let before = server.cpu();
            let ran = on_this_thread(read(server.address, topic, ack, most, time));
            let ran = ran.expect("the session is served");
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

/// From the produce of a record, by a plain client, to its frame at the session's client.
pub fn latency(bench: &Bench, name: &str) -> Vec<Row> {
    let mut rows = bench.rounds(
        name,
        "p99 ms",
        Target::AtMost(10.0),
        &|server, time| {
            let before = server.cpu();
            let mut latencies =
                on_this_thread(follow(bench, server.address, time)).expect("the session is served");
            let count = latencies.len() as u64;
            Side {
                figure: percentile(&mut latencies, 0.99),
                p50: Some(percentile(&mut latencies, 0.5)),
                p99: Some(percentile(&mut latencies, 0.99)),
                cpu: Some(per_request(server.cpu().saturating_sub(before), count)),
            }
        },
        // What a direct produce takes at the same rate; the way back is not in it.
        &|time| {
            let (topic, records) = (&bench.fixtures.write, &bench.fixtures.small);
            let mut ran = on_this_thread(bench.direct.produce_paced(topic, records, RATE, time));
            Side {
                figure: ran.percentile(0.99),
                p50: Some(ran.percentile(0.5)),
                ..Side::default()
            }
        },
    );
    rows.compare = Compare::Alone;
    let median = Row {
        name: format!("{name}-p50"),
        unit: "p50 ms",
        ours: rows
            .ours
            .iter()
            .map(|side| Side {
                figure: side.p50.unwrap_or(f64::NAN),
                ..Side::default()
            })
            .collect(),
        limit: Vec::new(),
        other: Vec::new(),
        compare: Compare::Alone,
        target: Target::AtMost(2.0),
        skipped: None,
    };
    vec![rows, median]
}

async fn follow(bench: &Bench, address: SocketAddr, time: Duration) -> io::Result<Vec<u64>> {
    let topic = group_name();
    bench
        .direct
        .create_topics(std::slice::from_ref(&topic), 1)
        .await;
    let mut socket = Socket::open(address, 64 << 10).await?;
    socket.until("welcome").await?;
    socket
        .send(subscribe(&topic, &topic, "auto").as_bytes())
        .await?;
    socket.until("assigned").await?;
    let producer = bench.direct.plain_producer();
    // The first record pays for the producer's connection; the clock starts after it.
    producer.send(&topic, b"0");
    socket.until("records").await?;
    let epoch = Instant::now();
    let clock = move || u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let sent = {
        let topic = topic.clone();
        async move {
            let mut pace = Pace::new(RATE);
            let mut sent = 0;
            while epoch.elapsed() < time {
                for _ in 0..pace.wait().await {
                    producer.send(&topic, clock().to_string().as_bytes());
                    sent += 1;
                }
            }
            sent
        }
    };
    let received = async {
        let mut latencies: Vec<u64> = Vec::new();
        let value = memchr::memmem::Finder::new(b"\"value\":");
        let end = time + Duration::from_secs(2);
        while epoch.elapsed() < end {
            let left = end.saturating_sub(epoch.elapsed());
            let Ok(frame) = timeout(left, socket.next()).await else {
                break;
            };
            let frame = frame?;
            let now = clock();
            for at in value.find_iter(frame) {
                let digits = frame[at + 8..].iter().take_while(|b| b.is_ascii_digit());
                let then = digits.fold(0_u64, |n, digit| n * 10 + u64::from(digit - b'0'));
                latencies.push(now.saturating_sub(then));
            }
        }
        io::Result::Ok(latencies)
    };
    let (sent, received) = tokio::join!(sent, received);
    let received = received?;
    assert_eq!(received.len(), sent, "every record comes once");
    Ok(received)
}

/// One socket that writes, with many requests under way.
pub fn produce(bench: &Bench, name: &str) -> Vec<Row> {
    let topic = &bench.fixtures.write;
    let records = &bench.fixtures.small;
    let frames = Rc::new(produce_frames(topic, records));
    vec![bench.rounds(
        name,
        "rec/s",
        Target::None,
        &|server, time| {
            let before = server.cpu();
            let ran = on_this_thread(write(server.address, &frames, time));
            let ran = ran.expect("every request is answered");
            let cpu = server.cpu().saturating_sub(before);
            Side {
                figure: ran.per_second(),
                cpu: Some(per_request(cpu, ran.requests)),
                ..Side::default()
            }
        },
        &|time| rows::direct(|| bench.direct.produce(topic, records, time)),
    )]
}

/// Frames as they go out, each with its own id.
fn produce_frames(topic: &str, records: &[Record]) -> Vec<Vec<u8>> {
    let count = records.len() / PRODUCED;
    (0..count.max(1))
        .map(|index| {
            let mut text =
                format!(r#"{{"type":"produce","topic":"{topic}","records":["#).into_bytes();
            for (place, record) in records
                .iter()
                .cycle()
                .skip(index * PRODUCED)
                .take(PRODUCED)
                .enumerate()
            {
                if place > 0 {
                    text.push(b',');
                }
                text.extend_from_slice(records::json(record).as_bytes());
            }
            // The id comes last, in the place of these digits.
            text.extend_from_slice(br#"],"id":1000000000}"#);
            masked(&text)
        })
        .collect()
}

async fn write(address: SocketAddr, frames: &[Vec<u8>], time: Duration) -> io::Result<Ran> {
    let mut socket = Socket::open(address, 1 << 20).await?;
    socket.until("welcome").await?;
    let started = Instant::now();
    let (mut sent, mut answered, mut id) = (0_usize, 0_usize, 1_000_000_000_u64);
    let mut frames = frames.iter().cycle();
    loop {
        let over = started.elapsed() >= time;
        while !over && sent - answered < UNDER_WAY {
            let mut frame = frames.next().cloned().unwrap_or_default();
            let digits = id.to_string();
            let at = frame.len() - 1 - digits.len();
            frame[at..at + digits.len()].copy_from_slice(digits.as_bytes());
            id += 1;
            socket.stream.write_all(&frame).await?;
            sent += 1;
        }
        if over && sent == answered {
            return Ok(Ran {
                requests: (answered * PRODUCED) as u64,
                elapsed: started.elapsed(),
                latencies: Vec::new(),
            });
        }
        let answer = socket.next().await?;
        if answer.starts_with(b"{\"type\":\"produced\"") {
            answered += 1;
        } else {
            return Err(io::Error::other(
                String::from_utf8_lossy(answer).into_owned(),
            ));
        }
    }
}

/// What each of many sessions is.
#[derive(Clone, Copy)]
enum Kind {
    /// The member of a group of its own.
    Member,
    /// A tail.
    Tail,
}

/// Many idle sessions, each the member of a group of its own.
pub fn many(bench: &Bench, name: &str) -> Vec<Row> {
    crowd(bench, name, Kind::Member, Target::AtMost(64.0))
}

/// Many idle sessions, each with a tail of one topic.
pub fn tails(bench: &Bench, name: &str) -> Vec<Row> {
    crowd(bench, name, Kind::Tail, Target::AtMost(20.0))
}

/// Many idle sessions: how long until all have subscribed, what each takes, and that a record reaches
/// all of them.
fn crowd(bench: &Bench, name: &str, kind: Kind, most_memory: Target) -> Vec<Row> {
    let sessions = sessions_that_fit();
    // Each connection to Kafka knows of every topic there is, a kilobyte of each: that is the cluster's
    // doing and not a session's, so these have one with few topics.
    let broker = on_this_thread(Broker::builder().for_load().start());
    let direct = Direct::new(&broker.bootstrap());
    let server = Server::gateway_with(
        &bench.binary,
        &broker.bootstrap(),
        &[
            "limits.connections=50000",
            "limits.connections_per_address=50000",
            "limits.group_sessions=50000",
            "limits.tails=50000",
            // The client reads nothing of those that have joined, so it answers no pings.
            "websocket.ping_interval_ms=600000",
        ],
    );
    let topic = group_name();
    let found = on_this_thread(async {
        direct.create_topics(std::slice::from_ref(&topic), 1).await;
        // What the first session costs is the process's, not a session's.
        let _first = join(server.address, &topic, kind).await?;
        let before = server.rss_mib();
        let started = Instant::now();
        let mut all = Vec::with_capacity(sessions);
        let mut joining = JoinSet::new();
        for _ in 0..sessions {
            if joining.len() >= AT_ONCE {
                all.push(
                    joining
                        .join_next()
                        .await
                        .expect("one is there")
                        .expect("no panic")?,
                );
            }
            let topic = topic.clone();
            let address = server.address;
            joining.spawn_local(async move { join(address, &topic, kind).await });
        }
        while let Some(joined) = joining.join_next().await {
            all.push(joined.expect("no panic")?);
        }
        let joined = started.elapsed();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let each = (server.rss_mib() - before) * 1024.0 / sessions as f64;
        let idle = server.cpu();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let idle = (server.cpu() - idle).as_secs_f64() / 5.0;
        let producer = direct.plain_producer();
        let produced = Instant::now();
        producer.send(&topic, b"1");
        let mut latencies = Vec::with_capacity(sessions);
        let mut reading = JoinSet::new();
        for mut socket in all {
            reading.spawn_local(async move {
                socket.until("records").await?;
                io::Result::Ok(u64::try_from(produced.elapsed().as_nanos()).unwrap_or(u64::MAX))
            });
        }
        while let Some(read) = reading.join_next().await {
            latencies.push(read.expect("no panic")?);
        }
        io::Result::Ok((joined, each, idle, latencies))
    });
    let (joined, each, idle, mut latencies) = found.expect("every session is served");
    eprintln!(
        "{sessions} sessions: idle they take {:.2} of a core; the record reached {} of them, p50 {:.0} ms, p99 {:.0} ms",
        idle,
        latencies.len(),
        percentile(&mut latencies, 0.5),
        percentile(&mut latencies, 0.99),
    );
    let row = |name: String, unit, figure, target| Row {
        name,
        unit,
        ours: vec![Side {
            figure,
            ..Side::default()
        }],
        limit: Vec::new(),
        other: Vec::new(),
        compare: Compare::Alone,
        target,
        skipped: None,
    };
    vec![
        row(
            format!("{name}-{sessions}-join"),
            "s",
            joined.as_secs_f64(),
            Target::AtMost(30.0),
        ),
        row(
            format!("{name}-{sessions}-rss"),
            "KiB each",
            each,
            most_memory,
        ),
        row(
            format!("{name}-{sessions}-reached"),
            "p99 ms",
            percentile(&mut latencies, 0.99),
            Target::None,
        ),
    ]
}

/// Both ends of a socket are files, and those of the gateway have connections to Kafka beside them.
fn sessions_that_fit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = limit
        .maximum
        .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    SESSIONS.min(files.saturating_sub(6_000))
}

async fn join(address: SocketAddr, topic: &str, kind: Kind) -> io::Result<Socket> {
    let mut socket = Socket::open(address, 1 << 10).await?;
    socket.until("welcome").await?;
    let (of_group, joined) = match kind {
        Kind::Member => (
            format!(r#","group":"{}","ack":"auto""#, group_name()),
            "assigned",
        ),
        Kind::Tail => (String::new(), "subscribed"),
    };
    let subscribe = format!(r#"{{"type":"subscribe","sub":"s","topics":["{topic}"]{of_group}}}"#);
    socket.send(subscribe.as_bytes()).await?;
    socket.until(joined).await?;
    Ok(socket)
}
