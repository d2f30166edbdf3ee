//! The load generator: HTTP/1.1 over keep-alive connections, on the caller's thread alone.
//!
//! Requests are bytes that were made before the clock starts, and an answer is parsed for its
//! status and its length only. Everything runs on one current-thread runtime, so that driving the
//! load takes little of the cores that the gateway, or the echo in its place, is measured on.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::LocalSet;

/// Longest time for one answer, or for a streamed one to go on; beyond it something hangs.
const STALLED: Duration = Duration::from_secs(60);

/// What a run of requests came to.
#[derive(Debug, Clone, Default)]
pub struct Ran {
    /// Requests answered with success.
    pub requests: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Of each request, in nanoseconds.
    pub latencies: Vec<u64>,
}

impl Ran {
    /// Requests in a second.
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that this share of the requests stayed within, in milliseconds.
    pub fn percentile(&mut self, share: f64) -> f64 {
        percentile(&mut self.latencies, share)
    }
}

/// The value below which this share of `values` (nanoseconds) lies, in milliseconds.
pub fn percentile(values: &mut [u64], share: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_unstable();
    let at = ((values.len() as f64 * share) as usize).min(values.len() - 1);
    values[at] as f64 / 1e6
}

/// The head and body of a POST.
pub fn post(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {content_type}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A GET.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").into_bytes()
}

/// Runs `work` on a runtime of this thread alone.
pub fn on_this_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(LocalSet::new().run_until(work))
}

/// One connection, with one request under way at a time.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        Self::open_from(address, Ipv4Addr::LOCALHOST).await
    }

    async fn open_from(address: SocketAddr, own: Ipv4Addr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((own, 0).into())?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(16 << 10),
        })
    }

    /// Sends a request and returns the status and the body of its answer.
    pub async fn call(&mut self, request: &[u8]) -> io::Result<(u16, &[u8])> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let (status, start, length) = loop {
            let room = self.buffer.len();
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // The end of a head can lie across two reads.
            let from = room.saturating_sub(3);
            if let Some(at) = find(&self.buffer[from..], b"\r\n\r\n") {
                let head = &self.buffer[..from + at];
                break (status(head)?, from + at + 4, content_length(head)?);
            }
        };
        self.buffer
            .reserve((start + length).saturating_sub(self.buffer.len()));
        while self.buffer.len() < start + length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok((status, &self.buffer[start..start + length]))
    }

    /// As [`Connection::call`], and every status but 200 and 207 is an error that shows the body.
    pub async fn ok(&mut self, request: &[u8]) -> io::Result<&[u8]> {
        let called = tokio::time::timeout(STALLED, self.call(request)).await;
        match called.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            (200 | 207, body) => Ok(body),
            (status, body) => Err(io::Error::other(format!(
                "{status}: {}",
                String::from_utf8_lossy(body)
            ))),
        }
    }

    /// As [`Connection::ok`] without its timer, for the measured loops: a timer for each request
    /// would cost the generator a tenth of its time.
    async fn quick(&mut self, request: &[u8]) -> io::Result<()> {
        match self.call(request).await? {
            (200 | 207, _) => Ok(()),
            (status, body) => Err(io::Error::other(format!(
                "{status}: {}",
                String::from_utf8_lossy(body)
            ))),
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

fn status(head: &[u8]) -> io::Result<u16> {
    head.get(9..12)
        .and_then(|code| std::str::from_utf8(code).ok())
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| io::Error::other("not an HTTP answer"))
}

fn content_length(head: &[u8]) -> io::Result<usize> {
    let name = b"\r\ncontent-length: ";
    let at = find(head, name).ok_or_else(|| io::Error::other("an answer without a length"))?;
    let digits = head[at + name.len()..]
        .iter()
        .take_while(|b| b.is_ascii_digit());
    Ok(digits.fold(0, |n, b| n * 10 + usize::from(b - b'0')))
}

/// Opens so many connections, from more than one address of this machine: the gateway limits those
/// of one.
pub async fn open(address: SocketAddr, connections: usize) -> io::Result<Vec<Connection>> {
    let mut open = Vec::with_capacity(connections);
    for index in 0..connections {
        let own = Ipv4Addr::new(127, 0, 0, 1 + u8::try_from(index / 500).unwrap_or(254));
        open.push(Connection::open_from(address, own).await?);
    }
    Ok(open)
}

/// Sends requests as fast as they are answered: `connections` at once, one under way on each, for
/// `time`. Each connection goes round `requests`, starting at a place of its own.
pub async fn closed(
    address: SocketAddr,
    requests: &Rc<Vec<Vec<u8>>>,
    connections: usize,
    time: Duration,
) -> io::Result<Ran> {
    let open = open(address, connections).await?;
    let started = Instant::now();
    let end = started + time;
    let tasks: Vec<_> = open
        .into_iter()
        .enumerate()
        .map(|(index, mut connection)| {
            let requests = Rc::clone(requests);
            let start = index * requests.len() / connections;
            tokio::task::spawn_local(async move {
                let mut latencies = Vec::with_capacity(1 << 14);
                for request in requests.iter().cycle().skip(start) {
                    let sent = Instant::now();
                    if sent >= end {
                        break;
                    }
                    connection.quick(request).await?;
                    latencies.push(nanos(sent.elapsed()));
                }
                io::Result::Ok(latencies)
            })
        })
        .collect();
    let mut ran = Ran::default();
    for task in tasks {
        let task = tokio::time::timeout(time + STALLED, task);
        let ended = task
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        ran.latencies.extend(ended.map_err(io::Error::other)??);
    }
    ran.elapsed = started.elapsed();
    ran.requests = ran.latencies.len() as u64;
    Ok(ran)
}

/// Sends requests that must be refused with 400 as fast as they are answered, `connections` at once,
/// until it is dropped.
pub async fn refused(address: SocketAddr, request: Vec<u8>, connections: usize) -> io::Error {
    let open = match open(address, connections).await {
        Ok(open) => open,
        Err(error) => return error,
    };
    let loops = open.into_iter().map(|mut connection| {
        let request = &request;
        Box::pin(async move {
            loop {
                match connection.call(request).await {
                    Ok((400, _)) => {}
                    Ok((status, body)) => {
                        let body = String::from_utf8_lossy(body);
                        break io::Error::other(format!("{status}: {body}"));
                    }
                    Err(error) => break error,
                }
            }
        })
    });
    futures::future::select_all(loops).await.0
}

/// Sends `rate` requests a second for `time`, whatever the answers do, on one of the `connections`
/// after the other. A request that finds all of them busy waits, and its wait counts.
pub async fn paced(
    connections: Vec<Connection>,
    requests: &Rc<Vec<Vec<u8>>>,
    rate: u32,
    time: Duration,
) -> io::Result<Ran> {
    let idle = Rc::new(RefCell::new(VecDeque::from(connections)));
    let freed = Rc::new(tokio::sync::Notify::new());
    let latencies = Rc::new(RefCell::new(Vec::with_capacity(1 << 14)));
    let failure: Rc<RefCell<Option<io::Error>>> = Rc::default();
    let under_way = Rc::new(Cell::new(0_usize));
    let started = Instant::now();
    let mut pace = Pace::new(rate);
    let mut next = requests.iter().cycle();
    while started.elapsed() < time && failure.borrow().is_none() {
        for _ in 0..pace.wait().await {
            let due = Instant::now();
            let connection = loop {
                let free = idle.borrow_mut().pop_front();
                match free {
                    Some(connection) => break Some(connection),
                    None if failure.borrow().is_some() => break None,
                    None => freed.notified().await,
                }
            };
            let (Some(mut connection), Some(request)) = (connection, next.next().cloned()) else {
                break;
            };
            let (idle, freed) = (Rc::clone(&idle), Rc::clone(&freed));
            let (latencies, failure) = (Rc::clone(&latencies), Rc::clone(&failure));
            let under_way = Rc::clone(&under_way);
            under_way.set(under_way.get() + 1);
            tokio::task::spawn_local(async move {
                match connection.quick(&request).await {
                    Ok(()) => {
                        latencies.borrow_mut().push(nanos(due.elapsed()));
                        idle.borrow_mut().push_back(connection);
                    }
                    Err(error) => *failure.borrow_mut() = Some(error),
                }
                under_way.set(under_way.get() - 1);
                freed.notify_one();
            });
        }
    }
    let elapsed = started.elapsed();
    while under_way.get() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if let Some(error) = failure.borrow_mut().take() {
        return Err(error);
    }
    let latencies = latencies.take();
    Ok(Ran {
        requests: latencies.len() as u64,
        elapsed,
        latencies,
    })
}

/// Says how many of so many a second are due, in steps of a millisecond, as timers go.
pub struct Pace {
    rate: f64,
    started: Instant,
    given: u64,
    ticks: tokio::time::Interval,
}

impl Pace {
    /// Starts now.
    pub fn new(rate: u32) -> Self {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        Self {
            rate: f64::from(rate),
            started: Instant::now(),
            given: 0,
            ticks,
        }
    }

    /// Waits for the next step and returns how many are due.
    pub async fn wait(&mut self) -> u64 {
        self.ticks.tick().await;
        let due = (self.started.elapsed().as_secs_f64() * self.rate) as u64;
        let now = due.saturating_sub(self.given);
        self.given = due;
        now
    }
}

/// Sends `lines` of the type `kind` again and again as one chunked body for `time`, reading result lines
/// at the same time; `None` when the gateway answers 415. Counts result lines as requests.
pub async fn stream_lines(
    address: SocketAddr,
    path: &str,
    kind: &str,
    lines: Vec<u8>,
    time: Duration,
) -> io::Result<Option<Ran>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    let started = Instant::now();
    let writing = tokio::task::spawn_local(write_chunks(write, head, lines, started + time));
    let reading = tokio::time::timeout(time + STALLED, read_lines(read)).await;
    writing.abort();
    let read = reading.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(read.map(|count| Ran {
        requests: count,
        elapsed: started.elapsed(),
        latencies: Vec::new(),
    }))
}

async fn write_chunks(
    mut write: OwnedWriteHalf,
    head: String,
    lines: Vec<u8>,
    end: Instant,
) -> io::Result<OwnedWriteHalf> {
    write.write_all(head.as_bytes()).await?;
    let mut chunk = format!("{:x}\r\n", lines.len()).into_bytes();
    chunk.extend_from_slice(&lines);
    chunk.extend_from_slice(b"\r\n");
    while Instant::now() < end {
        write.write_all(&chunk).await?;
    }
    write.write_all(b"0\r\n\r\n").await?;
    // Dropped, it would close its direction, and the server takes that for a client that is gone.
    Ok(write)
}

/// The number of lines in a streamed answer, up to its end; `None` for a 415.
async fn read_lines(mut read: OwnedReadHalf) -> io::Result<Option<u64>> {
    let mut buffer = vec![0_u8; 256 << 10];
    let mut head = Vec::new();
    let rest = loop {
        let count = read.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&buffer[..count]);
        if let Some(at) = find(&head, b"\r\n\r\n") {
            break head.split_off(at + 4);
        }
    };
    match status(&head)? {
        200 => {}
        415 => return Ok(None),
        other => {
            return Err(io::Error::other(format!(
                "{other}: {}",
                String::from_utf8_lossy(&rest)
            )));
        }
    }
    let mut chunks = Chunks::default();
    let mut lines = chunks.count_lines(&rest)?;
    while !chunks.ended {
        let count = read.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        lines += chunks.count_lines(&buffer[..count])?;
    }
    Ok(Some(lines))
}

/// Where a chunked body stands between two reads.
#[derive(Default)]
struct Chunks {
    /// Bytes of the current chunk that are still to come.
    left: usize,
    /// The size line of the next chunk, as far as it has come.
    size: Vec<u8>,
    ended: bool,
}

impl Chunks {
    fn count_lines(&mut self, mut bytes: &[u8]) -> io::Result<u64> {
        let mut lines = 0;
        while !bytes.is_empty() && !self.ended {
            if self.left > 0 {
                let (data, after) = bytes.split_at(self.left.min(bytes.len()));
                // A result line may hold an error, which must not pass for a record written.
                if find(data, b"\"message\":").is_some() {
                    return Err(io::Error::other(String::from_utf8_lossy(data).into_owned()));
                }
                lines += memchr::memchr_iter(b'\n', data).count() as u64;
                self.left -= data.len();
                bytes = after;
                continue;
            }
            let (byte, after) = (bytes[0], &bytes[1..]);
            bytes = after;
            if byte != b'\n' {
                self.size.push(byte);
                continue;
            }
            let digits = String::from_utf8_lossy(&self.size).trim().to_owned();
            self.size.clear();
            // The empty line is the one behind the data of the chunk before.
            if !digits.is_empty() {
                self.left = usize::from_str_radix(&digits, 16)
                    .map_err(|_| io::Error::other(format!("not a chunk size: {digits}")))?;
                self.ended = self.left == 0;
            }
        }
        Ok(lines)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
