//! One WebSocket: frames in and out, the timers of the connection, and how it ends. It knows no
//! session: a [`Driver`] is told what came, and is asked what is to go.
//!
//! All of it is one task. Each turn reads what is there, tells the driver, writes what the driver has
//! as far as the socket takes it, and then waits for whatever comes first: the socket, an event of
//! the driver, a timer. Reading never waits for writing, as acknowledgements and pongs come on a
//! socket whose other direction may be stuck.
//!
//! What is encoded and not taken by the socket yet is one frame and some small ones: the driver is
//! asked for the next one only when the one before has been taken.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::outbox::Outbox;
use super::steps::Steps;
use crate::config::Settings;
use crate::transport::connection::Connection;

/// What a frame is read in, for each socket.
const READ_BUFFER: usize = 4 << 10;
/// Largest message, and largest frame of one, of a client that nobody knows yet.
const STRANGERS_MESSAGE: usize = 16 << 10;
/// Most that is read of such a client's frame at once.
const STEP: usize = 1 << 10;
/// A message beyond this makes the buffer that it is read into too large to be kept.
const KEPT_BUFFER: usize = 16 << 10;
/// Bytes of pongs that wait for the socket; further ones are left out.
const WAITING_PONGS: usize = 1 << 10;
/// Messages that are read before it is the other direction's turn.
const READS_PER_TURN: usize = 64;
/// What is read and thrown away at once when a connection ends.
const THROWN_AWAY: usize = 8 << 10;
/// A peer that has been told the end, and whose frames make no sense any more, has heard it when it
/// sends nothing for so long.
const QUIET: Duration = Duration::from_millis(250);
/// How long a peer that has not answered pings may take to hear the end.
const GONE: Duration = Duration::from_millis(200);
/// A driver that wants to be woken in the past is woken this much later.
const SOON: Duration = Duration::from_millis(1);

/// What a session is to its socket. Times are tokio's, which tests can pause.
pub trait Driver: Send {
    /// Whether it is known whose the session is. Until then little is read of its client. It stays so
    /// once it is.
    fn is_known(&self) -> bool;

    /// A text frame came.
    fn text(&mut self, text: Utf8Bytes, now: Instant);

    /// The next text to send, complete and in UTF-8. `room` is how many bytes of records may go
    /// before the next flush; 0 asks only for what must not wait for records (answers, errors,
    /// notices). Asked only when the socket takes more, so what a driver holds back it holds itself.
    fn next_frame(&mut self, room: usize, now: Instant) -> Option<Bytes>;

    /// The socket has taken all that was given by `next_frame` up to now.
    fn flushed(&mut self, now: Instant);

    /// When to be woken by [`tick`](Self::tick), which must move it.
    fn wake_at(&self) -> Option<Instant>;

    /// The time has come.
    fn tick(&mut self, now: Instant);

    /// After how long without anything sent a heartbeat is due; `None` before there may be any.
    fn heartbeat_after(&self) -> Option<Duration>;

    /// The text of a heartbeat.
    fn heartbeat(&mut self, now: Instant) -> Bytes;

    /// Whether, and how, to end: what `next_frame` still has goes first. It stays so once it is.
    fn closing(&self) -> Option<Close>;

    /// Waits until something happened elsewhere (in Kafka, in the process) and takes it in. It is
    /// dropped and called again at will, so it must lose nothing by that; where nothing can happen
    /// it waits for ever.
    fn event(&mut self) -> impl Future<Output = ()> + Send;
}

/// A close code and its name, which is all that the close frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// The code.
    pub code: u16,
    /// Its name, well below the 123 bytes that fit.
    pub name: &'static str,
}

impl Close {
    /// A binary frame came.
    pub const BINARY: Self = Self::new(1003, "binary_not_supported");
    /// A message is not UTF-8.
    pub const NOT_UTF8: Self = Self::new(1007, "invalid_utf8");
    /// A message is over `websocket.max_message_bytes`.
    pub const TOO_LARGE: Self = Self::new(1009, "message_too_large");
    /// What came is no WebSocket frame.
    pub const NO_FRAME: Self = Self::new(1002, "invalid_websocket_frame");
    /// The peer has fallen silent.
    pub const NO_PONG: Self = Self::new(4003, "no_pong");
    /// The peer has stopped reading.
    pub const SLOW: Self = Self::new(4004, "slow_consumer");

    /// A code with its name.
    pub const fn new(code: u16, name: &'static str) -> Self {
        Self { code, name }
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The driver closed it.
    Driver(Close),
    /// The socket's own rules did; the driver has not been asked.
    Socket(Close),
    /// The peer closed it, with this code if it gave one.
    Peer(Option<u16>),
    /// It broke, or the peer left without a close frame.
    Lost,
}

/// The times and sizes of a socket.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest message, and largest frame of one, that is read.
    pub message: usize,
    /// How much is sent before a flush.
    pub flight: usize,
    /// Silence of the peer after which it is pinged; it is pinged again after one and a half of
    /// these, and given up after two.
    pub ping: Duration,
    /// How long the peer may read nothing while something waits for it.
    pub slow: Duration,
    /// Longest time for the end: the last frames, the peer's answer, the close of TCP.
    pub close: Duration,
}

impl Limits {
    /// As the settings have it.
    pub fn new(settings: &Settings) -> Self {
        let of = &settings.websocket;
        Self {
            message: of.max_message_bytes,
            flight: of.outbound_bytes,
            ping: of.ping_interval,
            slow: of.slow_timeout,
            close: Duration::from_secs(2),
        }
    }
}

/// Serves one socket to its end: when this returns, the connection is closed.
pub async fn run<T, D>(stream: T, connection: &Connection, driver: &mut D, limits: Limits) -> End
where
    T: AsyncRead + AsyncWrite + Unpin,
    D: Driver,
{
    let mut socket = Socket::new(stream, connection, limits, driver.is_known()).await;
    let end = socket.serve(driver).await;
    socket.close(end).await;
    end
}

/// What a turn came to.
enum Turn {
    /// There is more to do already.
    Again,
    /// The socket has no more for now.
    Wait,
    /// It is over.
    End(End),
}

struct Socket<'a, T> {
    frames: WebSocketStream<Split<T>>,
    /// Bytes of the messages that came out of it.
    consumed: u64,
    /// What it reads into has grown.
    grown: bool,
    outbox: Outbox,
    connection: &'a Connection,
    limits: Limits,
    /// Bytes given to the outbox since the last flush.
    flight: usize,
    /// Whether there is something that has not been flushed.
    unflushed: bool,
    /// When the peer was last known to be there.
    heard: Instant,
    /// Pings since then.
    pings: u32,
    /// When something was last sent.
    spoke: Instant,
    /// While writing waits for the peer: since when nothing has moved, and what had gone out by then.
    stuck: Option<(Instant, u64)>,
    /// Until when the driver's last frames may take.
    closing: Option<Instant>,
}

impl<'a, T: AsyncRead + AsyncWrite + Unpin> Socket<'a, T> {
    async fn new(stream: T, connection: &'a Connection, limits: Limits, known: bool) -> Self {
        let split = Split::new(Some(stream), known);
        let now = Instant::now();
        Self {
            frames: framed(split, limits).await,
            consumed: 0,
            grown: false,
            outbox: Outbox::default(),
            connection,
            limits,
            flight: 0,
            unflushed: false,
            heard: now,
            pings: 0,
            spoke: now,
            stuck: None,
            closing: None,
        }
    }

    async fn serve(&mut self, driver: &mut impl Driver) -> End {
        let mut timer = pin!(sleep_until(Instant::now()));
        loop {
            let now = Instant::now();
            if self.is_awaiting_login() && driver.is_known() {
                // The client is known now: what holds for all holds for it, too. Boxed, as below.
                Box::pin(self.begin_anew(None)).await;
            }
            if driver.wake_at().is_some_and(|at| at <= now) {
                driver.tick(now);
            }
            let turn = poll_fn(|context| Poll::Ready(self.turn(context, driver, now))).await;
            let again = match turn {
                Turn::End(end) => return end,
                Turn::Again => true,
                // Boxed: what is seldom done must not make every session's future large.
                Turn::Wait => self.has_grown() && Box::pin(self.shrink()).await,
            };
            set(timer.as_mut(), self.wake_at(driver, now));
            let mut event = pin!(driver.event());
            let mut woken = false;
            // The turn has told the socket whom to wake, so what it has to say comes as a wake of
            // this task: the second time that this is looked at. Not by `select!`, which may put its
            // first look off when the turn has used up what a task may do at a time, and would take
            // the socket's wake for it.
            poll_fn(|context| {
                let happened = event.as_mut().poll(context).is_ready()
                    || timer.as_mut().poll(context).is_ready();
                if again || happened || std::mem::replace(&mut woken, true) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
    }

    fn turn(&mut self, context: &mut Context<'_>, driver: &mut impl Driver, now: Instant) -> Turn {
        match self.read(context, driver, now) {
            Turn::End(end) => Turn::End(end),
            read => match self.write(context, driver, now) {
                Turn::Wait => read,
                written => written,
            },
        }
    }

    /// Reads the messages that are there.
    fn read(&mut self, context: &mut Context<'_>, driver: &mut impl Driver, now: Instant) -> Turn {
        for _ in 0..READS_PER_TURN {
            if self.is_awaiting_login() && driver.is_known() {
                // What comes next is read within the limits that hold then.
                return Turn::Again;
            }
            let polled = self.frames.poll_next_unpin(context);
            // A part of a message counts: a large one on a slow line takes longer than a ping.
            if std::mem::take(&mut self.frames.get_mut().has_read) {
                self.hear(now);
            }
            let message = match polled {
                Poll::Pending => return Turn::Wait,
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(Some(Err(error))) => return Turn::End(end_of(&error)),
                Poll::Ready(None) => return Turn::End(End::Lost),
            };
            self.consumed += frame_bytes(message.len());
            self.grown |= message.len() > KEPT_BUFFER;
            match message {
                Message::Text(text) => driver.text(text, now),
                Message::Binary(_) => return Turn::End(End::Socket(Close::BINARY)),
                Message::Close(close) => {
                    return Turn::End(End::Peer(close.map(|close| close.code.into())));
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        Turn::Again
    }

    fn has_grown(&self) -> bool {
        self.grown && self.frames.get_ref().read == self.consumed
    }

    /// The library's buffer never gets smaller. After a large message it is begun anew as soon as
    /// nothing is left in it, that is, when all that was read has come out. (With fragments that
    /// cannot be known: then it stays.) True when that was done, and the stream is to be looked at
    /// again.
    async fn shrink(&mut self) -> bool {
        if !self.has_grown() {
            return false;
        }
        self.begin_anew(self.frames.get_ref().steps).await;
        true
    }

    /// Nobody knew its client when it last looked, and nothing of a message has been read.
    fn is_awaiting_login(&self) -> bool {
        let steps = self.frames.get_ref().steps;
        steps.is_some_and(|steps| steps.is_between_messages())
    }

    /// Puts a new reader of frames in the place of one that has nothing left in it.
    async fn begin_anew(&mut self, steps: Option<Steps>) {
        let old = self.frames.get_mut();
        let mut split = Split::new(old.stream.take(), true);
        split.steps = steps;
        split.pongs = std::mem::take(&mut old.pongs);
        split.has_read = old.has_read;
        self.frames = framed(split, self.limits).await;
        self.consumed = 0;
        self.grown = false;
    }

    fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.pings = 0;
    }

    /// Writes what there is, as far as the socket takes it.
    fn write(&mut self, context: &mut Context<'_>, driver: &mut impl Driver, now: Instant) -> Turn {
        // Even a driver that never runs dry lets the other direction have its turn.
        let mut flushes = 0;
        loop {
            let dry = self.fill(driver, now);
            if !self.unflushed {
                return match self.check(driver, now) {
                    Some(end) => Turn::End(end),
                    None if self.outbox.is_empty() => Turn::Wait,
                    None => Turn::Again,
                };
            }
            match self.poll_out(context, dry) {
                Poll::Pending => return self.blocked(driver, now),
                Poll::Ready(Err(_)) => return Turn::End(End::Lost),
                Poll::Ready(Ok(false)) => {}
                Poll::Ready(Ok(true)) => {
                    self.unflushed = false;
                    self.flight = 0;
                    if self.stuck.take().is_some() {
                        self.hear(now);
                    }
                    driver.flushed(now);
                    flushes += 1;
                    if flushes == 2 {
                        return Turn::Again;
                    }
                }
            }
        }
    }

    /// Takes frames from the driver until the outbox is full, or the driver has none for now: true.
    fn fill(&mut self, driver: &mut impl Driver, now: Instant) -> bool {
        let pongs = &mut self.frames.get_mut().pongs;
        if !pongs.is_empty() && !self.outbox.is_full() {
            self.outbox.frames(pongs);
            pongs.clear();
            self.unflushed = true;
        }
        while !self.outbox.is_full() {
            let room = self.limits.flight.saturating_sub(self.flight);
            let Some(text) = driver.next_frame(room, now) else {
                return true;
            };
            self.send(text, now);
            if self.flight >= self.limits.flight.saturating_mul(2) {
                // Even what must not wait is flushed at times.
                return true;
            }
        }
        false
    }

    fn send(&mut self, text: Bytes, now: Instant) {
        self.flight = self.flight.saturating_add(text.len());
        self.unflushed = true;
        self.spoke = now;
        self.outbox.text(text);
    }

    /// Writes the outbox and, if nothing follows, flushes; true when all is flushed.
    fn poll_out(&mut self, context: &mut Context<'_>, flush: bool) -> Poll<io::Result<bool>> {
        let mut stream = Pin::new(self.frames.get_mut().stream());
        ready!(self.outbox.poll_write(stream.as_mut(), context))?;
        if flush {
            ready!(stream.poll_flush(context))?;
        }
        Poll::Ready(Ok(flush))
    }

    /// The socket takes no more: whether that has been so for too long.
    fn blocked(&mut self, driver: &mut impl Driver, now: Instant) -> Turn {
        let written = self.connection.written();
        match self.stuck {
            Some((since, before)) if before == written => {
                if now >= since + self.limits.slow {
                    return Turn::End(End::Socket(Close::SLOW));
                }
            }
            before => {
                // The system makes room only as the peer's own confirms what it got.
                if before.is_some() {
                    self.hear(now);
                }
                self.stuck = Some((now, written));
            }
        }
        match self.check(driver, now) {
            Some(end) => Turn::End(end),
            None => Turn::Wait,
        }
    }

    /// Pings and heartbeats that are due, and the ends that come with time.
    fn check(&mut self, driver: &mut impl Driver, now: Instant) -> Option<End> {
        if let Some(close) = driver.closing() {
            let until = *self.closing.get_or_insert(now + self.limits.close);
            if !self.unflushed || now >= until {
                return Some(End::Driver(close));
            }
            return None;
        }
        if self.stuck.is_some() {
            // Neither would get through, and another time says how long this may last.
            return None;
        }
        if self.heartbeat_at(driver).is_some_and(|at| now >= at) && !self.outbox.is_full() {
            let heartbeat = driver.heartbeat(now);
            self.send(heartbeat, now);
        }
        if now >= self.silent_until() {
            if self.pings == 2 {
                return Some(End::Socket(Close::NO_PONG));
            }
            self.pings += 1;
            if !self.outbox.is_full() {
                self.outbox.ping();
                self.unflushed = true;
            }
        }
        None
    }

    /// When a heartbeat is due, if nothing else is sent until then.
    fn heartbeat_at(&self, driver: &impl Driver) -> Option<Instant> {
        driver.heartbeat_after().map(|after| self.spoke + after)
    }

    /// When the next ping is due, or the peer is given up.
    fn silent_until(&self) -> Instant {
        self.heard + self.limits.ping + self.limits.ping * self.pings / 2
    }

    /// When to look again, whatever happens.
    fn wake_at(&self, driver: &impl Driver, now: Instant) -> Instant {
        let asked = driver.wake_at().map(|at| at.max(now + SOON));
        let then = match self.stuck {
            Some((since, _)) => since + self.limits.slow,
            None => self
                .heartbeat_at(driver)
                .map_or(self.silent_until(), |at| at.min(self.silent_until())),
        };
        [asked, self.closing]
            .into_iter()
            .flatten()
            .fold(then, Instant::min)
    }
}

async fn framed<T>(split: Split<T>, limits: Limits) -> WebSocketStream<Split<T>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let message = match split.steps {
        None => limits.message,
        Some(_) => limits.message.min(STRANGERS_MESSAGE),
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        // Nothing is written through it but pongs.
        .write_buffer_size(0)
        .max_write_buffer_size(WAITING_PONGS)
        .max_message_size(Some(message))
        .max_frame_size(Some(message));
    WebSocketStream::from_raw_socket(split, Role::Server, Some(config)).await
}

fn set(mut timer: Pin<&mut Sleep>, at: Instant) {
    if timer.deadline() != at || timer.is_elapsed() {
        timer.as_mut().reset(at);
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Socket<'_, T> {
    /// Ends the connection, in the time that there is for it.
    async fn close(mut self, end: End) {
        const NO_PONG: u16 = Close::NO_PONG.code;
        const SLOW: u16 = Close::SLOW.code;
        let (code, name, answer) = match end {
            End::Lost => return,
            // It would not be read.
            End::Socket(Close::SLOW) => return self.connection.abort(),
            // No frame is found any more in what still comes.
            End::Socket(close @ (Close::TOO_LARGE | Close::NOT_UTF8 | Close::NO_FRAME)) => {
                (Some(close.code), close.name, Answer::Noise)
            }
            End::Socket(close) | End::Driver(close) => {
                (Some(close.code), close.name, Answer::Close)
            }
            End::Peer(code) => (code, "", Answer::None),
        };
        let now = Instant::now();
        let until = match end {
            // Most likely nobody is there; whoever is gets a moment to read why.
            End::Socket(Close::NO_PONG) => now + GONE.min(self.limits.close),
            _ => self.closing.unwrap_or(now + self.limits.close),
        };
        // What it has not taken by then it never will.
        match timeout_at(until, self.say_goodbye(code, name)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return self.connection.abort(),
        }
        let answered = timeout_at(until, self.await_answer(answer)).await;
        if answered.is_err() && matches!(code, Some(NO_PONG | SLOW)) {
            // The system would go on for minutes to send to nobody.
            self.connection.abort();
        }
        let _ = timeout_at(until, self.frames.get_mut().stream().shutdown()).await;
    }

    /// Writes what is left, and a close frame.
    async fn say_goodbye(&mut self, code: Option<u16>, name: &str) -> io::Result<()> {
        self.write_out().await?;
        self.outbox.close(code.map(sendable), name);
        self.write_out().await
    }

    async fn write_out(&mut self) -> io::Result<()> {
        let Self { frames, outbox, .. } = self;
        let stream = frames.get_mut().stream();
        poll_fn(|context| outbox.poll_write(Pin::new(&mut *stream), context)).await?;
        stream.flush().await
    }

    /// Reads on until the peer has heard the end. To close while something still comes in would be a
    /// reset, and the peer might never see the frame that says why.
    async fn await_answer(&mut self, answer: Answer) {
        match answer {
            Answer::None => return,
            Answer::Close => loop {
                match self.frames.next().await {
                    Some(Ok(Message::Close(_)) | Err(Error::Io(_))) | None => return,
                    Some(Ok(_)) => {}
                    // Only noise from here on.
                    Some(Err(_)) => break,
                }
            },
            Answer::Noise => {}
        }
        let stream = self.frames.get_mut().stream();
        // A peer that is still busy sending learns from the end of TCP, too, that it is over.
        let _ = stream.shutdown().await;
        let mut thrown_away = vec![0; THROWN_AWAY];
        while let Ok(Ok(1..)) = timeout(QUIET, stream.read(&mut thrown_away)).await {}
    }
}

/// What is to come from a peer that has been told the end.
enum Answer {
    /// Nothing: it was the first to close.
    None,
    /// Its own close frame.
    Close,
    /// Something in which no frame is to be found.
    Noise,
}

/// Codes that may not stand in a frame (RFC 6455, section 7.4.1) are answered with an ordinary end.
fn sendable(code: u16) -> u16 {
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => code,
        _ => 1000,
    }
}

/// What an error of the frames means for the connection.
fn end_of(error: &Error) -> End {
    match error {
        Error::Capacity(_) => End::Socket(Close::TOO_LARGE),
        Error::Utf8(_) => End::Socket(Close::NOT_UTF8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Lost,
        Error::Protocol(_) => End::Socket(Close::NO_FRAME),
        _ => End::Lost,
    }
}

/// The stream as the library that reads frames sees it. What it writes, pongs and answers to close
/// frames, is taken from here by the socket, which alone decides what goes out when.
#[derive(Debug)]
struct Split<T> {
    /// Only `None` once another one has it.
    stream: Option<T>,
    pongs: Vec<u8>,
    /// Whether something has come since this was last looked at.
    has_read: bool,
    /// Bytes that have come.
    read: u64,
    /// Where a client is that nobody knows yet.
    steps: Option<Steps>,
}

impl<T> Split<T> {
    fn new(stream: Option<T>, known: bool) -> Self {
        Self {
            stream,
            pongs: Vec::new(),
            has_read: false,
            read: 0,
            steps: (!known).then(Steps::default),
        }
    }

    fn stream(&mut self) -> &mut T {
        self.stream
            .as_mut()
            .expect("whoever takes it drops the rest")
    }
}

/// Bytes of a client's frame with so many of payload (RFC 6455, section 5.2).
fn frame_bytes(payload: usize) -> u64 {
    let extended = match payload {
        0..=125 => 0,
        126..=65_535 => 2,
        _ => 8,
    };
    2 + extended + 4 + payload as u64
}

impl<T: AsyncRead + Unpin> AsyncRead for Split<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match self.steps {
            None => Pin::new(self.stream()).poll_read(context, buffer),
            Some(mut steps) => {
                let mut step = [0; STEP];
                let most = steps.room().min(STEP).min(buffer.remaining());
                let mut step = ReadBuf::new(&mut step[..most]);
                let read = Pin::new(self.stream()).poll_read(context, &mut step);
                steps.took(step.filled());
                buffer.put_slice(step.filled());
                self.steps = Some(steps);
                read
            }
        };
        let bytes = buffer.filled().len() - before;
        self.has_read |= bytes > 0;
        self.read += bytes as u64;
        read
    }
}

impl<T: Unpin> AsyncWrite for Split<T> {
    /// Whole frames come in one piece. Beyond what may wait they are left out: a peer that sends
    /// pings and reads nothing does not miss them.
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.pongs.len() + bytes.len() <= WAITING_PONGS {
            self.pongs.extend_from_slice(bytes);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
