//! The check against small servers of its own: statuses, silence, and the URLs it takes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use super::{Target, Trust, readiness_url, status_of};

fn check_within(url: &str, limit: Duration) -> Result<(), String> {
    super::check_within(url, Trust::default(), limit)
}

/// Serves one connection: reads the request's head, writes the answer, hands the head back.
fn server(answer: &'static [u8]) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("a request") == 1 {
            head.push(byte[0]);
        }
        stream.write_all(answer).expect("the answer is taken");
        String::from_utf8(head).expect("an ASCII head")
    });
    (format!("http://{address}"), served)
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn status_200_is_well_and_the_request_is_plain_http() {
    let (url, served) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    assert_eq!(check_within(&format!("{url}/readyz?a=b"), LONG), Ok(()));
    let head = served.join().expect("the server ends");
    assert!(head.starts_with("GET /readyz?a=b HTTP/1.1\r\n"), "{head}");
    let host = format!("Host: {}\r\n", &url["http://".len()..]);
    assert!(head.contains(&host), "{head}");
}

#[test]
fn another_status_is_not_well() {
    let (url, _served) = server(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
    let error = check_within(&url, LONG).expect_err("503 is not well");
    assert!(error.ends_with("answered 503, expected 200"), "{error}");
}

#[test]
fn an_answer_that_is_not_http_is_not_well() {
    let (url, _served) = server(b"SSH-2.0-OpenSSH\r\n");
    let error = check_within(&url, LONG).expect_err("not HTTP");
    assert!(error.ends_with("the answer is not HTTP"), "{error}");
}

#[test]
fn a_server_that_does_not_answer_is_unhealthy_after_the_time_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let began = Instant::now();
    let error = check_within(&url, Duration::from_millis(200)).expect_err("no answer");
    assert!(error.ends_with("no answer within 200 ms"), "{error}");
    assert!(began.elapsed() < LONG);
}

#[test]
fn a_port_without_a_listener_is_not_well() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    assert!(check_within(&format!("http://{address}/"), LONG).is_err());
}

#[test]
fn urls_are_taken_apart() {
    let target = |url: &str| {
        let target = Target::parse(url)?;
        Some((target.address.to_string(), target.path))
    };
    let some = |address: &str, path: &str| Some((address.to_owned(), path.to_owned()));
    assert_eq!(target("http://a:1/b?c=d#e"), some("a:1", "/b?c=d"));
    assert_eq!(target("HTTP://a"), some("a:80", "/"));
    assert_eq!(target("http://a?b"), some("a:80", "/?b"));
    assert_eq!(target("HTTPS://a/b"), some("a:443", "/b"));
    assert_eq!(target("http://[::1]:9/x"), some("[::1]:9", "/x"));
    assert_eq!(
        target("http://[2001:db8::1]"),
        some("[2001:db8::1]:80", "/")
    );
    assert_eq!(target("http://0.0.0.0:9/"), some("127.0.0.1:9", "/"));
    assert_eq!(target("http://[::]:9/"), some("[::1]:9", "/"));
    for refused in [
        "ftp://a/",
        "https:///",
        "a:1",
        "",
        "http://",
        "http://user:pw@a/",
        "http://a:99999/",
        "http://a:+1/",
        "http://a/ b",
        "http://a/\r\nX: y",
        "http://[::1/",
        "http://é/",
    ] {
        assert_eq!(target(refused), None, "{refused:?}");
    }
}

#[test]
fn the_readiness_url_follows_the_management_listener() {
    let url = |listen| readiness_url(listen, false);
    assert_eq!(
        url(Some("0.0.0.0:9082")),
        Ok("http://127.0.0.1:9082/readyz".into())
    );
    assert_eq!(url(Some("[::]:1")), Ok("http://[::1]:1/readyz".into()));
    assert_eq!(url(Some("gateway:1")), Ok("http://gateway:1/readyz".into()));
    assert_eq!(
        readiness_url(Some("0.0.0.0:9082"), true),
        Ok("https://127.0.0.1:9082/readyz".into())
    );
    assert!(url(Some("127.0.0.1:0")).is_err());
    assert!(url(None).is_err());
}

#[test]
fn only_a_status_line_has_a_status() {
    assert_eq!(status_of(b"HTTP/1.0 204 No Content\r\nx"), Some(204));
    assert_eq!(status_of(b"HTTP/1.1 200\n"), Some(200));
    for refused in [
        &b""[..],
        b"HTTP/2 200",
        b"HTTP/1.1 20",
        b"HTTP/1.1",
        b"\xff",
    ] {
        assert_eq!(status_of(refused), None, "{refused:?}");
    }
}
