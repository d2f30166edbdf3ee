//! TLS on both listeners: versions, certificates that are replaced, client certificates, and clients
//! that do not speak it.

use std::io;
use std::time::{Duration, Instant};

use reqwest::Version;
use rustls::pki_types::CertificateDer;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::support::certs::{Authority, Issued};
use crate::support::eventually;
use crate::support::gateway::{Builder, Gateway};
use crate::support::http;
use crate::support::tokens::{SECRET, token};

/// The gateway looks at its files every two seconds; a busy machine takes its time.
const NOTICED: Duration = Duration::from_secs(60);
/// Any wait for an answer.
const BOUND: Duration = Duration::from_secs(60);

fn with_tls(issued: &Issued) -> Builder {
    Gateway::embedded()
        .file("cert.pem", &issued.cert)
        .file("key.pem", &issued.key)
        .set("tls.cert", "cert.pem")
        .set("tls.key", "key.pem")
}

/// Host and port of the management listener.
fn management(gateway: &Gateway) -> String {
    gateway.management_url("").replace("https://", "")
}

/// One request over HTTP/1.1 on an open connection; the answer's head and the start of its body.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<String> {
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let asked = async {
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => answer.extend_from_slice(&piece[..count]),
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(BOUND, asked).await?
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// The certificate that a new connection is shown.
async fn shown_now(authority: &Authority, address: &str) -> CertificateDer<'static> {
    shown(&authority.tls().connect(address).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_listeners_speak_tls_in_both_versions_of_http() {
    let authority = Authority::new();
    let gateway = with_tls(&authority.server("one")).start().await;
    let root = gateway.url("/");
    let health = gateway.management_url("/healthz");
    assert!(root.starts_with("https://"), "{root}");
    assert!(health.starts_with("https://"), "{health}");

    let one = authority.http().http1_only().build().unwrap();
    let two = authority.http().build().unwrap();
    for url in [&root, &health] {
        let answer = one.get(url).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.version()),
            (200, Version::HTTP_11)
        );
        let answer = two.get(url).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.version()),
            (200, Version::HTTP_2)
        );
    }

    let records = gateway.url("/topics/orders/records");
    for client in [&one, &two] {
        let post = client.post(&records).json(&json!({"value": {"id": 7}}));
        assert_eq!(http::send(post).await.status, 200);
    }
    let page = http::send(two.get(format!("{records}?from=earliest"))).await;
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(page.text().matches(r#"{"id":7}"#).count(), 2, "{page:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alpn_decides_the_version_of_http() {
    let authority = Authority::new();
    let gateway = with_tls(&authority.server("one")).start().await;
    let address = gateway.address();

    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["spdy/3", "http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let client = authority.tls().protocols(offered);
        let mut stream = client.connect(address).await.unwrap();
        let got = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(got.as_deref(), chosen.map(str::as_bytes), "{offered:?}");
        if chosen != Some("h2") {
            let answer = ask(&mut stream).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        } else {
            // HTTP/1.1 where HTTP/2 was agreed on is not answered.
            assert!(ask(&mut stream).await.is_err());
        }
    }
    let client = authority.tls().protocols(&["spdy/3"]);
    assert!(client.connect(address).await.is_err());
}

/// A preface in two pieces is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_may_begin_in_pieces() {
    let authority = Authority::new();
    let gateway = with_tls(&authority.server("one")).start().await;
    let client = authority.tls().protocols(&["h2"]);
    let mut stream = client.connect(gateway.address()).await.unwrap();

    stream.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    stream.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The rest, and an empty SETTINGS frame.
    stream
        .write_all(b"\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut head = [0; 9];
    timeout(BOUND, stream.read_exact(&mut head))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(head[3], 4, "SETTINGS come back: {head:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_1_2_and_1_3_are_spoken() {
    let authority = Authority::new();
    let gateway = with_tls(&authority.server("one")).start().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = authority.tls().only(version);
        let mut stream = client.connect(gateway.address()).await.unwrap();
        assert!(ask(&mut stream).await.unwrap().starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_tls_is_closed_and_plain_http_is_told_why() {
    let authority = Authority::new();
    let gateway = with_tls(&authority.server("one")).start().await;
    let silence = BOUND;
    for address in [gateway.address(), &management(&gateway)] {
        for plain in [
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            let reply = http::raw_request(address, plain.as_bytes(), silence).await;
            assert!(reply.text.starts_with("HTTP/1.1 400 "), "{reply:?}");
            assert!(reply.text.contains("use https"), "{reply:?}");
            assert!(reply.closed);
        }
        let junk = [0x80; 100];
        assert!(http::raw_request(address, &junk, silence).await.closed);
        // A TLS record that is no handshake.
        let record = b"\x17\x03\x03\x00\x03abc";
        assert!(http::raw_request(address, record, silence).await.closed);
    }
    let mut stream = authority.tls().connect(gateway.address()).await.unwrap();
    assert!(ask(&mut stream).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let authority = Authority::new();
    let (before, after) = (authority.server("before"), authority.server("after"));
    let gateway = with_tls(&before).start().await;
    let mut kept = authority.tls().connect(gateway.address()).await.unwrap();
    ask(&mut kept).await.unwrap();
    assert_eq!(shown(&kept), before.der());

    gateway.replace_file("key.pem", &after.key);
    gateway.replace_file("cert.pem", &after.cert);
    for address in [gateway.address(), &management(&gateway)] {
        eventually(NOTICED, async || {
            shown_now(&authority, address).await == after.der()
        })
        .await;
    }

    assert!(ask(&mut kept).await.unwrap().starts_with("HTTP/1.1 200 "));
    assert!(gateway.stderr().contains("certificates were read again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_replacement_leaves_the_old_certificate_and_is_logged_once() {
    let authority = Authority::new();
    let before = authority.server("before");
    let gateway = with_tls(&before).start().await;
    let complaints = || gateway.stderr().matches("the old ones stay").count();

    // A certificate without its key: what half a replacement looks like.
    gateway.replace_file("cert.pem", &authority.server("half").cert);
    eventually(NOTICED, async || complaints() == 1).await;
    assert_eq!(shown_now(&authority, gateway.address()).await, before.der());
    gateway.replace_file("cert.pem", "nothing");
    eventually(NOTICED, async || complaints() == 2).await;
    assert_eq!(shown_now(&authority, gateway.address()).await, before.der());

    let after = authority.server("after");
    gateway.replace_file("cert.pem", &after.cert);
    gateway.replace_file("key.pem", &after.key);
    let address = gateway.address();
    eventually(NOTICED, async || {
        shown_now(&authority, address).await == after.der()
    })
    .await;
    // Some looks went by between the changes, and said nothing again.
    assert_eq!(complaints(), 2, "{}", gateway.stderr());
    assert!(
        gateway
            .stderr()
            .contains("is not the key of the certificate")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_may_be_shown_but_not_a_foreign_one() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let gateway = with_tls(&authority.server("one"))
        .file("clients.pem", &clients.pem())
        .set("tls.client_ca", "clients.pem")
        .start()
        .await;
    let known = clients.client("orders");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for client in [authority.tls(), authority.tls().identity(&known)] {
            let client = client.only(version);
            let mut stream = client.connect(gateway.address()).await.unwrap();
            assert!(ask(&mut stream).await.unwrap().starts_with("HTTP/1.1 200 "));
        }
        // One by a stranger, and one that is not for clients.
        for refused in [Authority::new().client("orders"), clients.server("orders")] {
            let client = authority.tls().only(version).identity(&refused);
            let refused = match client.connect(gateway.address()).await {
                // With TLS 1.3 a client hears of it only when it reads.
                Ok(mut stream) => ask(&mut stream).await.is_err(),
                Err(_) => true,
            };
            assert!(refused);
        }
    }
    let client = authority.http().identity(known.identity()).build().unwrap();
    let answer = client.get(gateway.url("/")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_subject_of_a_certificate_is_a_principal_with_the_role_of_its_name() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let own = authority.server("one");
    let gateway = Gateway::embedded()
        .file("cert.pem", &own.cert)
        .file("key.pem", &own.key)
        .file("clients.pem", &clients.pem())
        .file("secret", SECRET)
        .file(
            "tidegate.toml",
            r#"
[tls]
cert = "cert.pem"
key = "key.pem"
client_ca = "clients.pem"
[auth]
mode = "jwt"
issuers = [{ issuer = "https://issuer.test", audience = "tidegate", secret_file = "secret" }]
[auth.roles]
"CN=orders" = ["produce:orders"]
[telemetry]
audit = "audit.log"
"#,
        )
        .start()
        .await;
    let url = gateway.url("/topics/orders/records");
    let with = |name: &str| {
        let identity = clients.client(name).identity();
        authority.http().identity(identity).build().unwrap()
    };
    let post = async |client: &reqwest::Client| {
        let one = client.post(&url).json(&json!({"value": 1}));
        one.send().await.unwrap().status().as_u16()
    };
    let get = async |client: &reqwest::Client, token: &str| {
        let mut request = client.get(&url);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.send().await.unwrap().status().as_u16()
    };
    let orders = with("orders");
    assert_eq!(post(&orders).await, 200);
    assert_eq!(get(&orders, "").await, 403, "its role does not say so");
    assert_eq!(post(&with("others")).await, 403, "there is no such role");
    assert_eq!(post(&authority.http().build().unwrap()).await, 401);
    // A token that is shown as well is what counts.
    assert_eq!(get(&orders, &token("ann", "consume:*")).await, 200);
    assert_eq!(get(&orders, "nonsense").await, 401);
    let log = gateway.folder().join("audit.log");
    eventually(BOUND, async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().any(|line| {
            line.contains(r#""principal":"CN=orders","known_by":"certificate","issuer":"CN="#)
                && line.contains(r#""action":"produce""#)
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_cannot_be_used_are_one_line_at_the_start() {
    let authority = Authority::new();
    let (one, other) = (authority.server("one"), authority.server("other"));
    let mixed = Issued {
        cert: one.cert.clone(),
        key: other.key,
    };
    let empty = Issued {
        cert: "nothing\n".into(),
        key: one.key,
    };
    for (issued, setting, problem) in [
        (mixed, "tls.key", "is not the key of the certificate"),
        (empty, "tls.cert", "has no certificate"),
    ] {
        let Err(ended) = with_tls(&issued).try_start().await else {
            panic!("it started with a pair that is broken: {problem}");
        };
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(
            ended.stderr.starts_with(&format!("error: {setting} ")),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains(problem), "{}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_check_reaches_its_own_gateway_whatever_its_certificate_says() {
    let authority = Authority::new();
    let gateway = with_tls(&authority.server("one")).start().await;
    let own = format!("management.listen={}", management(&gateway));
    let settings = ["--set", "tls.cert=cert.pem", "--set", "tls.key=key.pem"];

    let check = ["healthcheck", "--set", &own];
    let checked = gateway.run(&[&check[..], &settings].concat()).await;
    assert_eq!(checked.status.code(), Some(0), "{}", checked.stderr);
    // Without TLS in its settings it meets the plain answer of a TLS port.
    let checked = gateway.run(&check).await;
    assert_eq!(checked.status.code(), Some(1));
    assert!(
        checked.stderr.contains("answered 400"),
        "{}",
        checked.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_given_to_the_health_check_must_prove_itself() {
    let authority = Authority::new();
    let gateway = with_tls(&authority.server("one"))
        .file("authority.pem", &authority.pem())
        .start()
        .await;
    let url = gateway.management_url("/readyz");
    let check = ["healthcheck", "--url", &url];

    let checked = gateway.run(&check).await;
    assert_eq!(checked.status.code(), Some(1));
    assert!(checked.stderr.contains("certificate"), "{}", checked.stderr);
    let trusting = [&check[..], &["--set", "tls.cert=authority.pem"]].concat();
    let checked = gateway.run(&trusting).await;
    assert_eq!(checked.status.code(), Some(0), "{}", checked.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_connections_are_closed_in_order_at_the_end() {
    let authority = Authority::new();
    let gateway = with_tls(&authority.server("one"))
        .set("shutdown_grace_ms", "300000")
        .start()
        .await;
    let mut idle = authority.tls().connect(gateway.address()).await.unwrap();
    ask(&mut idle).await.unwrap();
    let began = Instant::now();

    let ended = gateway.terminate().await;

    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(began.elapsed() < BOUND, "idle ones hold nothing up");
    // An end without close_notify would be an error here.
    let mut rest = Vec::new();
    timeout(BOUND, idle.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: it waits for the limit on a handshake"]
async fn a_client_that_stalls_in_its_handshake_is_closed() {
    let authority = Authority::new();
    let gateway = with_tls(&authority.server("one")).start().await;
    let began = Instant::now();
    let silent = TcpStream::connect(gateway.address()).await.unwrap();
    let mut half = TcpStream::connect(gateway.address()).await.unwrap();
    // The heads of a record and of a ClientHello of 256 bytes, of which 32 come.
    half.write_all(b"\x16\x03\x01\x01\x04\x01\x00\x01\x00")
        .await
        .unwrap();
    half.write_all(&[3; 32]).await.unwrap();
    // Over TLS, HTTP/2 was agreed on and does not begin.
    let client = authority.tls().protocols(&["h2"]);
    let unbegun = client.connect(gateway.address()).await.unwrap();

    async fn closes(mut stream: impl AsyncRead + Unpin) {
        let mut rest = Vec::new();
        let _ = timeout(BOUND, stream.read_to_end(&mut rest))
            .await
            .expect("it is closed");
    }
    tokio::join!(closes(silent), closes(half), closes(unbegun));
    let took = began.elapsed();
    assert!(
        (Duration::from_secs(9)..Duration::from_secs(28)).contains(&took),
        "{took:?}"
    );
}
