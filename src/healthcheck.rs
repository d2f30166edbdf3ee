//! `tidegate healthcheck`: one GET over HTTP/1.1, with TLS or without, for containers that have no
//! curl. Blocking and without a runtime, because the process does nothing else.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::address::Address;

mod trust;

/// Bound on the whole check: resolving, connecting, asking and the first line of the answer.
pub const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Most bytes to read in search of the status line's end.
const LINE_LIMIT: usize = 8 << 10;

/// Which certificates are believed, where the URL asks for TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// `tls.cert`: its certificates are authorities, beside those of the system.
    pub cert: Option<PathBuf>,
    /// The URL is that of the gateway whose settings these are, and nobody has named it otherwise.
    /// On a loopback address its certificate is then not looked at: it is made out to the name that
    /// clients use, which is not this address; nobody but this machine can answer there; and nothing
    /// secret is sent.
    pub own: bool,
}

/// A URL, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    tls: bool,
    address: Address,
    /// Path and query.
    path: String,
}

/// The URL of the readiness check of a gateway whose management listener is at `listen`, and speaks
/// TLS or does not.
///
/// # Errors
/// Says why there is no such URL: the listener is off, or its port is not known beforehand.
pub fn readiness_url(listen: Option<&str>, tls: bool) -> Result<String, String> {
    let Some(listen) = listen else {
        return Err("management.listen is \"off\": name what to ask with --url".into());
    };
    match Address::parse(listen) {
        Some(address) if address.port != 0 => {
            let scheme = if tls { "https" } else { "http" };
            Ok(format!("{scheme}://{}/readyz", address.to_dial()))
        }
        _ => Err(format!(
            "management.listen is {listen:?}, which has no fixed port: name what to ask with --url"
        )),
    }
}

/// Asks the URL; well means status 200 within [`TIME_LIMIT`].
///
/// # Errors
/// One line that says what went wrong.
pub fn check(url: &str, trust: Trust) -> Result<(), String> {
    check_within(url, trust, TIME_LIMIT)
}

fn check_within(url: &str, trust: Trust, limit: Duration) -> Result<(), String> {
    let target = Target::parse(url).ok_or_else(|| {
        format!("{url:?} is no URL for this: expected http[s]://host[:port][/path], without a user")
    })?;
    let deadline = Instant::now() + limit;
    let (answer, answered) = mpsc::channel();
    // Resolving a name takes no timeout, hence the thread. It is left behind when time is up; the
    // process ends then.
    thread::spawn(move || {
        let _ = answer.send(ask(&target, &trust, deadline));
    });
    match answered.recv_timeout(limit) {
        Ok(Ok(200)) => Ok(()),
        Ok(Ok(status)) => Err(format!("{url} answered {status}, expected 200")),
        Ok(Err(error)) if !is_timeout(&error) => Err(format!("{url}: {error}")),
        _ => Err(format!("{url}: no answer within {} ms", limit.as_millis())),
    }
}

impl Target {
    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let default_port = if tls { 443 } else { 80 };
        // Blanks and control characters would end up inside the request's own lines.
        if rest.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return None;
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        Some(Self {
            tls,
            address: Address::parse_with_default_port(authority, default_port)?.to_dial(),
            path,
        })
    }
}

/// The answer's status code.
fn ask(target: &Target, trust: &Trust, deadline: Instant) -> io::Result<u16> {
    let stream = connect(&target.address, deadline)?;
    if !target.tls {
        return talk(target, Bounded { stream, deadline });
    }
    let session = trust::session(&target.address.host, trust, stream.peer_addr()?.ip())?;
    talk(
        target,
        rustls::StreamOwned::new(session, Bounded { stream, deadline }),
    )
}

/// Asks on an open connection and reads no more than the status line.
fn talk(target: &Target, mut stream: impl Read + Write) -> io::Result<u16> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\nUser-Agent: tidegate-healthcheck\r\nConnection: close\r\n\r\n",
        target.path, target.address
    );
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut line = Vec::new();
    let mut piece = [0; 512];
    while !line.contains(&b'\n') && line.len() < LINE_LIMIT {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => line.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    status_of(&line).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

/// A socket of which no call waits beyond the deadline.
struct Bounded {
    stream: TcpStream,
    deadline: Instant,
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(into)
    }
}

impl Write for Bounded {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Tries every address of the name, as `localhost` may be first the one that nobody listens on.
fn connect(address: &Address, deadline: Instant) -> io::Result<TcpStream> {
    let resolved = (address.host.as_str(), address.port).to_socket_addrs()?;
    let mut failure = io::Error::other("the name has no address");
    for candidate in resolved {
        match TcpStream::connect_timeout(&candidate, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

/// A socket's timeout is one or the other of these, by platform.
fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let mut words = line.split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    let code = words.next().filter(|code| code.len() == 3)?;
    code.parse().ok()
}

#[cfg(test)]
mod tests;
