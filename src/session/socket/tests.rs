use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::SinkExt;
use tokio::io::{DuplexStream, duplex, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::*;
use crate::transport::connection::ConnectionStream;

/// Far beyond all that is waited for here, on a busy machine too.
const BOUND: Duration = Duration::from_secs(30);
const BYE: Close = Close::new(1000, "bye");

const LIMITS: Limits = Limits {
    message: 64 << 10,
    flight: 1 << 20,
    ping: BOUND,
    slow: BOUND,
    close: BOUND,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A driver that does as it is told: `echo TEXT`, `flood COUNT SIZE`, `end COUNT` for so many frames
/// and the end.
#[derive(Default)]
struct Toy {
    queue: VecDeque<Bytes>,
    closing: Option<Close>,
    heartbeat: Option<Duration>,
    texts: Arc<AtomicUsize>,
    beats: usize,
    given: usize,
    flushed: usize,
    /// Until a text says `hello`.
    stranger: bool,
}

impl Driver for Toy {
    fn is_known(&self) -> bool {
        !self.stranger
    }

    fn text(&mut self, text: Utf8Bytes, _: Instant) {
        self.texts.fetch_add(1, Ordering::Relaxed);
        let number = |text: Option<&str>| text.unwrap().parse().unwrap();
        let mut words = text.split(' ');
        match words.next() {
            Some("hello") => self.stranger = false,
            Some("echo") => {
                let text = text.strip_prefix("echo ").unwrap();
                self.queue.push_back(Bytes::from(text.to_owned()));
            }
            Some("flood") => {
                let (count, size) = (number(words.next()), number(words.next()));
                let text = Bytes::from("x".repeat(size));
                self.queue.extend((0..count).map(|_| text.clone()));
            }
            Some("end") => {
                let frames =
                    (0..number(words.next())).map(|n| format!("{n} {}", "x".repeat(3_000)));
                self.queue.extend(frames.map(Bytes::from));
                self.closing = Some(BYE);
            }
            _ => {}
        }
    }

    fn next_frame(&mut self, room: usize, _: Instant) -> Option<Bytes> {
        if room == 0 {
            return None;
        }
        let frame = self.queue.pop_front()?;
        self.given += 1;
        Some(frame)
    }

    fn flushed(&mut self, _: Instant) {
        self.flushed = self.given;
    }

    fn wake_at(&self) -> Option<Instant> {
        None
    }

    fn tick(&mut self, _: Instant) {}

    fn heartbeat_after(&self) -> Option<Duration> {
        self.heartbeat
    }

    fn heartbeat(&mut self, _: Instant) -> Bytes {
        self.beats += 1;
        Bytes::from_static(b"beat")
    }

    fn closing(&self) -> Option<Close> {
        self.closing
    }

    async fn event(&mut self) {
        std::future::pending().await
    }
}

type Served = JoinHandle<(End, Toy)>;

fn serve<T>(stream: T, connection: Arc<Connection>, mut toy: Toy, limits: Limits) -> Served
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        let end = run(stream, &connection, &mut toy, limits).await;
        (end, toy)
    })
}

/// A socket over a pipe that holds `room` bytes each way.
fn piped(room: usize, toy: Toy, limits: Limits) -> (DuplexStream, Served) {
    let (ours, peer) = duplex(room);
    let ours = ConnectionStream::new(ours, ());
    let connection = Arc::clone(ours.connection());
    (peer, serve(ours, connection, toy, limits))
}

/// As the system makes them, which takes megabytes before anything waits.
async fn wide_pair() -> (ConnectionStream<TcpStream>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap());
    let (taken, peer) = tokio::join!(listener.accept(), peer);
    (ConnectionStream::new(taken.unwrap().0, ()), peer.unwrap())
}

async fn pair() -> (ConnectionStream<TcpStream>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap());
    let (taken, peer) = tokio::join!(listener.accept(), peer);
    let (taken, peer) = (taken.unwrap().0, peer.unwrap());
    for socket in [&taken, &peer] {
        let socket = socket2::SockRef::from(socket);
        socket.set_send_buffer_size(64 << 10).unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
    }
    (ConnectionStream::new(taken, ()), peer)
}

async fn over_tcp(toy: Toy, limits: Limits) -> (TcpStream, Arc<Connection>, Served) {
    let (ours, peer) = pair().await;
    let connection = Arc::clone(ours.connection());
    (
        peer,
        Arc::clone(&connection),
        serve(ours, connection, toy, limits),
    )
}

async fn client<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(BOUND, what).await.expect("it comes to an end")
}

async fn ended(served: Served) -> (End, Toy) {
    within(served).await.unwrap()
}

/// A frame as a client sends it, its mask all zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length @ ..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

async fn text(peer: &mut WebSocketStream<impl AsyncRead + AsyncWrite + Unpin>) -> String {
    loop {
        match within(peer.next()).await {
            Some(Ok(Message::Text(text))) => return text.to_string(),
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("instead of a text: {other:?}"),
        }
    }
}

/// The code of the close frame that comes next, other frames passed over; it is answered, and TCP ends.
async fn closed(peer: &mut WebSocketStream<impl AsyncRead + AsyncWrite + Unpin>) -> Option<u16> {
    loop {
        match within(peer.next()).await {
            Some(Ok(Message::Close(close))) => {
                assert!(within(peer.next()).await.is_none());
                return close.map(|close| close.code.into());
            }
            Some(Ok(_)) => {}
            other => panic!("instead of a close frame: {other:?}"),
        }
    }
}

#[tokio::test]
async fn reading_goes_on_while_writing_waits() {
    let toy = Toy::default();
    let texts = Arc::clone(&toy.texts);
    let (peer, served) = piped(256, toy, LIMITS);
    let mut peer = client(peer).await;
    peer.send("flood 100 10000".into()).await.unwrap();
    for _ in 0..500 {
        within(peer.send("x".into())).await.unwrap();
    }
    within(async {
        while texts.load(Ordering::Relaxed) < 501 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..100 {
        assert_eq!(text(&mut peer).await.len(), 10_000);
    }
    peer.send("end 0".into()).await.unwrap();
    assert_eq!(closed(&mut peer).await, Some(1000));
    let (end, toy) = ended(served).await;
    assert_eq!(end, End::Driver(BYE));
    assert_eq!((toy.given, toy.flushed), (100, 100));
}

/// What comes until the connection ends, and how it ends.
async fn raw_end(peer: &mut (impl AsyncRead + Unpin)) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    let ended = within(peer.read_to_end(&mut all)).await;
    (all, ended.map(|_| ()))
}

fn assert_reset(ended: io::Result<()>) {
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

fn stranger() -> Toy {
    Toy {
        stranger: true,
        ..Toy::default()
    }
}

#[tokio::test]
async fn a_stranger_sends_large_messages_only_when_it_is_known() {
    let (peer, served) = piped(64 << 10, stranger(), LIMITS);
    let (mut read, mut write) = split(peer);
    let large = "x".repeat(40_000);
    let mut all = frame(0x81, b"echo 1");
    // A message in parts, with a ping between, and nothing is lost at the change.
    all.extend(frame(0x01, b"hel"));
    all.extend(frame(0x89, b"ping"));
    all.extend(frame(0x80, b"lo"));
    all.extend(frame(0x81, format!("echo {large}").as_bytes()));
    all.extend(frame(0x81, b"end 0"));
    let sent = tokio::spawn(async move {
        write.write_all(&all).await.unwrap();
        write
    });
    let has = |came: &[u8], part: &[u8]| came.windows(part.len()).any(|at| at == part);
    let mut came = Vec::new();
    // A close of the peer ends the connection at once, so it comes behind the answers.
    within(async {
        while !has(&came, large.as_bytes()) {
            assert_ne!(read.read_buf(&mut came).await.unwrap(), 0);
        }
    })
    .await;
    let mut write = sent.await.unwrap();
    let close = frame(0x88, &1000_u16.to_be_bytes());
    write.write_all(&close).await.unwrap();
    within(read.read_to_end(&mut came)).await.unwrap();
    let (_, toy) = ended(served).await;
    assert_eq!((toy.texts.load(Ordering::Relaxed), toy.given), (4, 2));
    assert!(has(&came, b"ping"));
}

#[tokio::test]
async fn the_bytes_that_a_stranger_may_send_are_limited() {
    for parts in [1, 40] {
        let (peer, served) = piped(64 << 10, stranger(), LIMITS);
        let mut peer = peer;
        let payload = vec![b'x'; 20_000 / parts];
        let mut all = Vec::new();
        for part in 0..parts {
            let first = u8::from(part == 0) | if part == parts - 1 { 0x80 } else { 0 };
            all.extend(frame(first, &payload));
        }
        peer.write_all(&all).await.unwrap();
        let mut peer = client(peer).await;
        assert_eq!(closed(&mut peer).await, Some(Close::TOO_LARGE.code));
        assert_eq!(ended(served).await.0, End::Socket(Close::TOO_LARGE));
    }
}

#[tokio::test]
async fn a_peer_that_stops_reading_is_reset() {
    let limits = Limits {
        slow: ms(300),
        ..LIMITS
    };
    let (mut peer, connection, served) = over_tcp(Toy::default(), limits).await;
    let begin = Instant::now();
    peer.write_all(&frame(0x81, b"flood 10000 10000"))
        .await
        .unwrap();
    let (end, toy) = ended(served).await;
    assert!(begin.elapsed() >= limits.slow);
    assert_eq!(end, End::Socket(Close::SLOW));
    assert!(toy.given < 10_000 && connection.written() < 90 << 20);
    assert!(connection.is_aborted());
    let (came, ended) = raw_end(&mut peer).await;
    assert_reset(ended);
    assert!(came.len() as u64 <= connection.written());
}

#[tokio::test]
async fn a_peer_that_reads_slowly_is_not_reset() {
    let limits = Limits {
        slow: ms(2_500),
        ping: ms(1_500),
        ..LIMITS
    };
    let (peer, served) = piped(1_000, Toy::default(), limits);
    let (mut read, mut write) = split(peer);
    write
        .write_all(&frame(0x81, b"flood 40 1000"))
        .await
        .unwrap();
    // It answers no ping, and needs not: what it reads shows that it is there.
    let mut left = 40 * 1_004;
    while left > 0 {
        tokio::time::sleep(ms(100)).await;
        let mut piece = vec![0; 1_000.min(left)];
        left -= read.read(&mut piece).await.unwrap();
    }
    write.write_all(&frame(0x81, b"end 0")).await.unwrap();
    write
        .write_all(&frame(0x88, &1000_u16.to_be_bytes()))
        .await
        .unwrap();
    assert!(matches!(
        ended(served).await.0,
        End::Driver(BYE) | End::Peer(_)
    ));
}

fn tls() -> (tokio_rustls::TlsAcceptor, tokio_rustls::TlsConnector) {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = issued.cert.der().clone();
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server).into(), Arc::new(client).into())
}

#[tokio::test]
async fn a_peer_that_stops_reading_under_tls_is_reset_by_tcp() {
    let limits = Limits {
        slow: ms(300),
        ..LIMITS
    };
    let (ours, peer) = pair().await;
    let connection = Arc::clone(ours.connection());
    let (acceptor, connector) = tls();
    let name = "localhost".try_into().unwrap();
    let (ours, peer) = tokio::join!(acceptor.accept(ours), connector.connect(name, peer));
    let mut peer = peer.unwrap();
    let served = serve(
        ours.unwrap(),
        Arc::clone(&connection),
        Toy::default(),
        limits,
    );
    peer.write_all(&frame(0x81, b"flood 10000 10000"))
        .await
        .unwrap();
    peer.flush().await.unwrap();
    let (end, _) = ended(served).await;
    assert_eq!(end, End::Socket(Close::SLOW));
    let (mut peer, _) = peer.into_inner();
    assert_reset(raw_end(&mut peer).await.1);
}

#[tokio::test]
async fn a_silent_peer_is_pinged_twice_and_given_up() {
    let limits = Limits {
        ping: ms(400),
        ..LIMITS
    };
    let begin = Instant::now();
    let (mut peer, served) = piped(4_096, Toy::default(), limits);
    for due in [400, 600] {
        let mut ping = [0; 2];
        within(peer.read_exact(&mut ping)).await.unwrap();
        assert_eq!(ping, [0x89, 0]);
        assert!(begin.elapsed() >= ms(due), "{:?}", begin.elapsed());
    }
    let (close, ended_well) = raw_end(&mut peer).await;
    assert!(begin.elapsed() >= ms(800), "{:?}", begin.elapsed());
    ended_well.unwrap();
    assert_eq!(close[0], 0x88);
    assert_eq!(close[2..4], 4003_u16.to_be_bytes());
    assert_eq!(ended(served).await.0, End::Socket(Close::NO_PONG));
}

#[tokio::test]
async fn pongs_and_parts_of_a_message_show_that_a_peer_is_there() {
    let limits = Limits {
        ping: ms(800),
        ..LIMITS
    };
    let (peer, served) = piped(4_096, Toy::default(), limits);
    let mut peer = client(peer).await;
    // Answers what it reads.
    let quiet = timeout(ms(3_000), peer.next());
    assert!(!matches!(
        quiet.await,
        Ok(Some(Ok(Message::Close(_))) | None)
    ));
    peer.send("end 0".into()).await.unwrap();
    assert_eq!(closed(&mut peer).await, Some(1000));
    assert_eq!(ended(served).await.0, End::Driver(BYE));

    let (mut peer, served) = piped(4_096, Toy::default(), limits);
    let message = frame(0x81, format!("echo {}", "x".repeat(24)).as_bytes());
    for byte in message {
        peer.write_all(&[byte]).await.unwrap();
        tokio::time::sleep(ms(80)).await;
    }
    let mut first = [0; 26];
    within(peer.read_exact(&mut first)).await.unwrap();
    assert_eq!(first[..2], [0x81, 24]);
    drop(peer);
    assert_eq!(ended(served).await.0, End::Lost);
}

#[tokio::test]
async fn pings_of_a_peer_that_reads_nothing_take_bounded_room() {
    const ROOM: usize = 4_096;
    let (peer, served) = piped(ROOM, Toy::default(), LIMITS);
    let (mut read, mut write) = split(peer);
    let ping = frame(0x89, &[b'p'; 125]);
    for _ in 0..20_000 {
        within(write.write_all(&ping)).await.unwrap();
    }
    within(write.write_all(&frame(0x81, b"end 0")))
        .await
        .unwrap();
    within(write.write_all(&frame(0x88, b""))).await.unwrap();
    let mut pongs = Vec::new();
    within(read.read_to_end(&mut pongs)).await.unwrap();
    assert!(pongs.len() < ROOM + (40 << 10), "{}", pongs.len());
    assert_eq!(pongs[0], 0x8a);
    ended(served).await;
}

#[tokio::test]
async fn frames_may_come_in_pieces_of_any_size() {
    let (mut peer, connection, served) = over_tcp(Toy::default(), LIMITS).await;
    peer.set_nodelay(true).unwrap();
    let mut bytes = frame(0x01, b"echo on");
    bytes.extend(frame(0x89, b"in between"));
    bytes.extend(frame(0x00, b"e, tw"));
    bytes.extend(frame(0x80, "o, drei: \u{fc}".as_bytes()));
    for byte in bytes {
        peer.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut peer = client(peer).await;
    assert!(matches!(
        within(peer.next()).await,
        Some(Ok(Message::Pong(_)))
    ));
    assert_eq!(text(&mut peer).await, "one, two, drei: \u{fc}");
    assert!(connection.written() > 0);
    drop(peer);
    assert_eq!(ended(served).await.0, End::Lost);
}

/// The runtime lets a task do only so much at a time, and to read a large message that is all there
/// is more than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_message_is_read_to_its_end() {
    let limits = Limits {
        message: 2 << 20,
        ..LIMITS
    };
    let (ours, peer) = wide_pair().await;
    let served = serve(ours, Arc::default(), Toy::default(), limits);
    let mut peer = client(peer).await;
    let large = format!("echo {}", "x".repeat(1 << 20));
    for _ in 0..100 {
        within(peer.send(large.as_str().into())).await.unwrap();
        assert_eq!(text(&mut peer).await.len(), 1 << 20);
    }
    drop(peer);
    assert_eq!(ended(served).await.0, End::Lost);
}

#[tokio::test]
async fn a_message_that_is_no_text_ends_the_connection_with_its_code() {
    let cases: [(Vec<u8>, Close); 7] = [
        (frame(0x82, b"bytes"), Close::BINARY),
        (frame(0x81, b"\xff"), Close::NOT_UTF8),
        (frame(0x01, b"\xe2\x28"), Close::NOT_UTF8),
        (frame(0x83, b""), Close::NO_FRAME),
        (frame(0xc1, b"compressed"), Close::NO_FRAME),
        // Not masked.
        (vec![0x81, 1, b'x'], Close::NO_FRAME),
        (
            frame(0x81, &vec![b'x'; LIMITS.message + 1]),
            Close::TOO_LARGE,
        ),
    ];
    for (bytes, close) in cases {
        let (peer, _, served) = over_tcp(Toy::default(), LIMITS).await;
        let (read, mut write) = peer.into_split();
        let written = tokio::spawn(async move {
            write.write_all(&bytes).await.unwrap();
            // It sends its own close frame and waits for the end of TCP.
            write
                .write_all(&frame(0x88, &1000_u16.to_be_bytes()))
                .await
                .unwrap();
            write
        });
        let (came, ended_well) = raw_end(&mut { read }).await;
        ended_well.unwrap();
        assert_eq!(came[0], 0x88, "{close:?}");
        assert_eq!(came[2..4], close.code.to_be_bytes(), "{close:?}");
        assert_eq!(came[4..], *close.name.as_bytes());
        written.await.unwrap();
        assert_eq!(ended(served).await.0, End::Socket(close));
    }
}

#[tokio::test]
async fn a_peer_that_is_still_sending_reads_why_it_is_closed() {
    // One frame of 10 MB, and one message of as much in frames of 16 KiB.
    let whole = frame(0x81, &vec![b'x'; 10 << 20]);
    let mut parts = frame(0x01, b"x");
    for _ in 0..640 {
        parts.extend(frame(0x00, &[b'x'; 16 << 10]));
    }
    for bytes in [whole, parts] {
        let (peer, _, served) = over_tcp(Toy::default(), LIMITS).await;
        let (mut read, mut write) = peer.into_split();
        // As a client does that sends all of a message before it looks at what came.
        for piece in bytes.chunks(100_000) {
            within(write.write_all(piece)).await.unwrap();
            tokio::time::sleep(ms(2)).await;
        }
        let (came, ended_well) = raw_end(&mut read).await;
        ended_well.unwrap();
        assert_eq!(came[2..4], 1009_u16.to_be_bytes());
        assert_eq!(ended(served).await.0, End::Socket(Close::TOO_LARGE));
    }
}

#[tokio::test]
async fn a_close_from_the_peer_is_answered() {
    for (code, answer) in [
        (Some(1000), Some(1000)),
        (Some(4999), Some(4999)),
        (None, None),
    ] {
        let (peer, served) = piped(4_096, Toy::default(), LIMITS);
        let mut peer = client(peer).await;
        let close = code.map(
            |code: u16| tokio_tungstenite::tungstenite::protocol::CloseFrame {
                code: CloseCode::from(code),
                reason: "why not".into(),
            },
        );
        peer.send(Message::Close(close)).await.unwrap();
        assert_eq!(closed(&mut peer).await, answer);
        assert_eq!(ended(served).await.0, End::Peer(code));
    }
}

#[tokio::test]
async fn all_frames_come_before_the_close() {
    let (peer, served) = piped(100, Toy::default(), LIMITS);
    let mut peer = client(peer).await;
    peer.send("end 500".into()).await.unwrap();
    for n in 0..500 {
        assert!(text(&mut peer).await.starts_with(&format!("{n} ")));
    }
    assert_eq!(closed(&mut peer).await, Some(1000));
    let (end, toy) = ended(served).await;
    assert_eq!(end, End::Driver(BYE));
    assert_eq!((toy.given, toy.flushed), (500, 500));
}

#[tokio::test]
async fn a_peer_that_never_reads_ends_in_time() {
    let limits = Limits {
        close: ms(300),
        ..LIMITS
    };
    let (mut peer, connection, served) = over_tcp(Toy::default(), limits).await;
    peer.write_all(&frame(0x81, b"end 10000")).await.unwrap();
    let begin = Instant::now();
    let (end, _) = ended(served).await;
    assert_eq!(end, End::Driver(BYE));
    assert!(begin.elapsed() < BOUND, "{:?}", begin.elapsed());
    assert!(connection.is_aborted());
    assert_reset(raw_end(&mut peer).await.1);
}

#[tokio::test]
async fn a_peer_that_reads_and_does_not_answer_loses_nothing() {
    let limits = Limits {
        close: ms(300),
        ..LIMITS
    };
    let (mut peer, connection, served) = over_tcp(Toy::default(), limits).await;
    peer.write_all(&frame(0x81, b"end 10")).await.unwrap();
    let (end, _) = ended(served).await;
    assert_eq!(end, End::Driver(BYE));
    assert!(!connection.is_aborted());
    let (came, ended_well) = raw_end(&mut peer).await;
    ended_well.unwrap();
    assert!(came.ends_with(b"\x03\xe8bye"));
}

#[tokio::test]
async fn a_heartbeat_comes_when_nothing_else_does() {
    let toy = Toy {
        heartbeat: Some(ms(200)),
        ..Toy::default()
    };
    let begin = Instant::now();
    let (peer, served) = piped(4_096, toy, LIMITS);
    let mut peer = client(peer).await;
    for beat in 1..=3 {
        assert_eq!(text(&mut peer).await, "beat");
        assert!(begin.elapsed() >= ms(190 * beat), "{:?}", begin.elapsed());
    }
    peer.send("end 0".into()).await.unwrap();
    assert_eq!(closed(&mut peer).await, Some(1000));
    ended(served).await;

    let toy = Toy {
        heartbeat: Some(BOUND),
        ..Toy::default()
    };
    let (peer, served) = piped(4_096, toy, LIMITS);
    let mut peer = client(peer).await;
    for _ in 0..10 {
        peer.send("echo x".into()).await.unwrap();
        assert_eq!(text(&mut peer).await, "x");
    }
    drop(peer);
    assert_eq!(ended(served).await.1.beats, 0);
}

#[tokio::test]
async fn no_heartbeat_waits_for_a_peer_that_does_not_read() {
    let toy = Toy {
        heartbeat: Some(ms(500)),
        ..Toy::default()
    };
    let (peer, served) = piped(100, toy, LIMITS);
    let mut peer = client(peer).await;
    peer.send("flood 1 10000".into()).await.unwrap();
    tokio::time::sleep(ms(2_000)).await;
    drop(peer);
    assert!(ended(served).await.1.beats <= 1);
}

/// Ten thousand sessions share a process, in 64 KiB each, all that the system has of them included.
#[test]
fn a_session_is_small() {
    use super::super::driver::SessionDriver;
    fn size<A, F>(_: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }
    let connection = &*Box::leak(Box::<Connection>::default());
    let alone = size(|(stream, mut toy): (DuplexStream, Toy)| async move {
        run(stream, connection, &mut toy, LIMITS).await
    });
    let all = size(
        |(stream, session): (DuplexStream, Box<SessionDriver>)| async move {
            session.serve(stream, connection, LIMITS).await;
        },
    );
    assert!(alone <= 4 << 10, "{alone}");
    assert!(all <= 3 << 10, "{all}");
    assert!(
        size_of::<SessionDriver>() <= 3 << 9,
        "{}",
        size_of::<SessionDriver>()
    );
}

#[tokio::test]
async fn the_buffer_of_a_large_message_is_given_back() {
    let (ours, peer) = duplex(256 << 10);
    let ours = ConnectionStream::new(ours, ());
    let connection = Arc::clone(ours.connection());
    let mut toy = Toy::default();
    let mut socket = Socket::new(ours, &connection, LIMITS, true).await;
    let mut peer = WebSocketStream::from_raw_socket(peer, Role::Client, None).await;
    let mut turn = async |socket: &mut Socket<'_, _>| {
        let now = Instant::now();
        poll_fn(|context| Poll::Ready(socket.turn(context, &mut toy, now))).await
    };
    let lengths = [1, 125, 126, 40_000, 65_535, 5];
    for length in lengths {
        peer.send(Message::text("x".repeat(length))).await.unwrap();
        peer.send(Message::Ping(Bytes::from_static(b"p")))
            .await
            .unwrap();
    }
    assert!(matches!(turn(&mut socket).await, Turn::Wait));
    assert!(
        socket.grown && socket.shrink().await,
        "all of it has come out"
    );
    assert!(!socket.shrink().await, "once");
    // It goes on in the middle of nothing, and not before the end of a message.
    peer.send(Message::text("echo again")).await.unwrap();
    assert!(matches!(turn(&mut socket).await, Turn::Wait));
    let pongs = lengths.len();
    let mut texts = 0;
    for _ in 0..=pongs {
        match peer.next().await.unwrap().unwrap() {
            Message::Text(text) => {
                assert_eq!(text.as_str(), "again");
                texts += 1;
            }
            Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
        turn(&mut socket).await;
        if texts == 1 {
            break;
        }
    }
    assert_eq!(texts, 1);
    socket.grown = true;
    let mut stream = peer.into_inner();
    // The beginning of a frame: one byte of its head.
    stream.write_all(&[0x81]).await.unwrap();
    turn(&mut socket).await;
    assert!(!socket.shrink().await, "something is left in it");
}
