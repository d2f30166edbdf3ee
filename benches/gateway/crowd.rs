//! Many readers of one topic, each with a connection: they take what comes without parsing more than they
//! must.

use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::sleep;

use super::load::Pace;
use super::rows::Bench;
use super::sessions::{UPGRADE, masked};

/// Longest time for what must come.
pub const STALLED: Duration = Duration::from_secs(60);
/// Readers of the rows about filters, and so many keys records have.
pub const FILTERED: usize = 1_000;
/// Those that connect at once.
const AT_ONCE: usize = 100;
/// Of so many readers one tells when each record came.
const TIMED: usize = 10;

/// How they read.
#[derive(Clone, Copy)]
pub enum Transport {
    /// Server-sent events.
    Sse,
    /// A tail of a WebSocket session.
    Ws,
}

impl Transport {
    /// What begins it: for a path, or for the frame that subscribes.
    fn request(self, ask: &str) -> Vec<u8> {
        match self {
            Self::Sse => get(ask, "text/event-stream"),
            Self::Ws => [UPGRADE, &masked(ask.as_bytes())].concat(),
        }
    }

    /// What says that it has begun.
    fn ready(self) -> &'static [u8] {
        match self {
            Self::Sse => b"event: ready",
            Self::Ws => b"{\"type\":\"subscribed\"",
        }
    }

    /// What stands behind every record that is whole.
    fn end(self) -> u8 {
        match self {
            Self::Sse => b'\n',
            Self::Ws => b'}',
        }
    }
}

/// A request for what is at `path`.
pub fn get(path: &str, accept: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: {accept}\r\n\r\n").into_bytes()
}

/// Connects and asks; `room` is what the system may take for it unread.
pub async fn open(address: SocketAddr, request: &[u8], room: Option<u32>) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(room) = room {
        socket.set_recv_buffer_size(room)?;
    }
    let mut stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(request).await?;
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
pub struct Crowd {
    transport: Transport,
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
    /// Nobody yet.
    pub fn new(transport: Transport) -> Self {
        Self {
            transport,
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

    /// `count` more readers, of what `ask` says for each (see [`Transport`]); all of them have been told where they begin.
    pub async fn join(
        &mut self,
        address: SocketAddr,
        count: usize,
        ask: impl Fn(usize) -> String,
    ) -> io::Result<()> {
        for index in 0..count {
            let begun = Instant::now();
            while self.tasks.len() - self.seen.ready.get() >= AT_ONCE {
                if begun.elapsed() > STALLED {
                    return Err(io::Error::other("readers are not let in"));
                }
                sleep(Duration::from_millis(1)).await;
            }
            let stream = open(address, &self.transport.request(&ask(index)), None).await?;
            let seen = Rc::clone(&self.seen);
            let timed = index.is_multiple_of(TIMED);
            let transport = self.transport;
            let task = spawn_local(async move {
                let _ = seen.follow(&stream, transport, timed).await;
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
    pub async fn stop(&mut self, address: SocketAddr, count: usize, path: &str) -> io::Result<()> {
        for _ in 0..count {
            let stream = open(address, &self.transport.request(path), Some(4 << 10)).await?;
            self.stopped.push(stream);
        }
        Ok(())
    }

    /// Writes records at `rate` for `time`, waits until `deliveries(written)` have come, and tells how
    /// many came and how long it took.
    pub async fn write(
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

    /// How long each record took that the timed ones saw since the last write began, in ns.
    pub fn latencies(&self) -> RefMut<'_, Vec<u64>> {
        self.seen.latencies.borrow_mut()
    }
}

impl Seen {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Reads to the end, which is an error. All readers share one buffer; what is left of a
    /// record is kept.
    async fn follow(
        &self,
        stream: &TcpStream,
        transport: Transport,
        timed: bool,
    ) -> io::Result<()> {
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
            let whole = memchr::memrchr(transport.end(), bytes).map_or(0, |at| at + 1);
            let (whole, left) = bytes.split_at(whole);
            rest.extend_from_slice(left);
            if !ready && memchr::memmem::find(whole, transport.ready()).is_some() {
                ready = true;
                self.ready.set(self.ready.get() + 1);
            }
            let now = self.now();
            let mut count = 0;
            for at in time.find_iter(whole) {
                count += 1;
                if timed {
                    let digits = whole[at + 5..].iter().take_while(|b| b.is_ascii_digit());
                    let then = digits.fold(0_u64, |n, digit| n * 10 + u64::from(digit - b'0'));
                    self.latencies.borrow_mut().push(now.saturating_sub(then));
                }
            }
            self.records.set(self.records.get() + count);
        }
    }
}
