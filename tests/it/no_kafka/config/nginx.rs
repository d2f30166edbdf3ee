//! The recipe of docs/security.md for nginx, with a real one. `./test` skips these where there is
//! none.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::broker::free_port;
use crate::support::certs::Authority;
use crate::support::doc_snippets::{block, put};
use crate::support::eventually;
use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{Reply, send};
use crate::support::nginx;
use crate::support::process::Supervised;
use crate::support::tokens::token;

const BOUND: Duration = Duration::from_secs(60);
const HEADING: &str = "### Behind nginx";
/// Where clients come from: nginx calls the gateway from 127.0.0.1.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// nginx before a gateway, and a client that believes its certificate.
struct Fronted {
    authority: Authority,
    gateway: Gateway,
    nginx: Supervised,
    client: Client,
    port: u16,
}

impl Fronted {
    async fn start(gateway: Builder) -> Self {
        let toml = block("security.md", HEADING, "toml");
        let gateway = gateway.file("tidegate.toml", &toml).start().await;
        let authority = Authority::new();
        let own = authority.server_of("gw.example");
        let port = free_port();
        let recipe = block("security.md", HEADING, "nginx");
        let recipe = put(
            &recipe,
            "listen 443 ssl;",
            &format!("listen 127.0.0.1:{port} ssl;"),
        );
        let recipe = put(&recipe, "http://127.0.0.1:8082", &gateway.url(""));
        let files = [("gw.example.pem", &own.cert), ("gw.example.key", &own.key)];
        let nginx = nginx::start(&recipe, &files);
        let client = authority
            .http()
            .local_address(CLIENT)
            .resolve("gw.example", SocketAddr::from(([127, 0, 0, 1], port)))
            .build()
            .unwrap();
        let fronted = Self {
            authority,
            gateway,
            nginx,
            client,
            port,
        };
        eventually(BOUND, async || {
            let answer = fronted.client.get(fronted.url("/")).send().await;
            answer.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        fronted
    }

    fn url(&self, path: &str) -> String {
        format!("https://gw.example:{}{path}", self.port)
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let request = self.client.get(self.url(path));
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        send(request).await
    }

    /// A WebSocket of a page of this origin; the status where it is no upgrade.
    async fn websocket(
        &self,
        path: &str,
        origin: &str,
    ) -> Result<WebSocketStream<TlsStream<TcpStream>>, u16> {
        let mut request = self
            .url(path)
            .replacen("https", "wss", 1)
            .into_client_request()
            .unwrap();
        let headers = request.headers_mut();
        headers.insert("origin", origin.parse().unwrap());
        headers.insert("sec-websocket-protocol", "tidegate.v1".parse().unwrap());
        let tls = self.authority.tls().host("gw.example");
        let stream = tls.connect(&format!("127.0.0.1:{}", self.port)).await;
        match client_async(request, stream.unwrap()).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    fn audited(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.gateway.folder().join("audit.log"));
        let text = text.unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_own_pages_are_let_in_and_others_are_not() {
    let fronted = Fronted::start(Gateway::embedded()).await;
    let own = fronted.url("");
    let cases = [
        (own.as_str(), 200),
        (&own.replace("https", "http"), 403),
        ("https://gw.example", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ];
    for (origin, status) in cases {
        let reply = fronted.get("/topics", &[("origin", origin)]).await;
        assert_eq!(reply.status.as_u16(), status, "{origin}: {}", reply.text());
    }
    // What a client writes itself is not believed.
    for forged in [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "http"),
        ("forwarded", "for=127.0.0.1;host=evil.example;proto=https"),
    ] {
        let own = [forged, ("origin", own.as_str())];
        assert_eq!(fronted.get("/topics", &own).await.status, 200, "{forged:?}");
        let evil = [forged, ("origin", "https://evil.example")];
        assert_eq!(
            fronted.get("/topics", &evil).await.status,
            403,
            "{forged:?}"
        );
    }
    // Without the proxy, the name is not one of this machine's.
    let around = Client::new().get(fronted.gateway.url("/topics"));
    let around = send(around.header("host", "evil.example")).await;
    assert_eq!(around.status, 421);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_and_the_audit_log_see_the_client() {
    let gateway = Gateway::embedded()
        .with_tokens()
        .set("telemetry.audit", "audit.log")
        .set("limits.refused_per_second", "1");
    let fronted = Fronted::start(gateway).await;
    for forged in [
        ("x-forwarded-for", "203.0.113.7"),
        ("forwarded", "for=203.0.113.7"),
    ] {
        let id = forged.0;
        let reply = fronted
            .get("/topics", &[forged, ("x-request-id", id)])
            .await;
        assert!([401, 429].contains(&reply.status.as_u16()), "{reply:?}");
    }
    eventually(BOUND, async || !fronted.audited().is_empty()).await;
    for entry in fronted.audited() {
        assert_eq!(entry["address"], CLIENT.to_string(), "{entry}");
    }
    // The client has used its refusals up, whatever it says that it is.
    eventually(BOUND, async || {
        fronted.get("/topics", &[]).await.status == 429
    })
    .await;
    // Somebody else has not.
    let elsewhere = Client::new().get(fronted.gateway.url("/topics"));
    assert_eq!(send(elsewhere).await.status, 401);

    // Tickets stand in no log of nginx.
    let ann = format!("Bearer {}", token("ann", "consume:* produce:*"));
    let ticket = async || {
        let wish = fronted.client.post(fronted.url("/tickets"));
        let wish = wish
            .header("authorization", &ann)
            .json(&json!({"kind": "sse"}));
        send(wish).await
    };
    eventually(BOUND, async || ticket().await.status == 201).await;
    let ticket = ticket().await.json()["ticket"].as_str().unwrap().to_owned();
    fronted
        .get(&format!("/topics/orders/records?ticket={ticket}"), &[])
        .await;
    let log = fronted.nginx.folder().join("access.log");
    eventually(BOUND, async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        assert!(!text.contains(&ticket) && !fronted.nginx.stderr().contains(&ticket));
        text.contains("GET /topics/orders/records")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_large_bodies_go_through() {
    let fronted = Fronted::start(Gateway::embedded()).await;
    let records = fronted.url("/topics/orders/records");
    // More than nginx takes unasked, and more than the gateway does.
    let large = format!("{{\"value\":\"{}\"}}", "x".repeat(1_000_000));
    let post = |kind: &str, body: reqwest::Body| {
        let request = fronted.client.post(&records).header("content-type", kind);
        request.body(body)
    };
    let reply = send(post("application/json", large.into())).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let too_large = format!("{{\"value\":\"{}\"}}", "x".repeat(9_000_000));
    let reply = send(post("application/json", too_large.into())).await;
    assert_eq!(reply.status, 413);
    assert_eq!(reply.json()["error_code"], 413, "the gateway's own words");

    // A line is answered while the next one has not been sent.
    let (lines, body) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(1);
    let body = futures::stream::unfold(body, |mut body| async {
        body.recv().await.map(|line| (line, body))
    });
    let stream = post("application/x-ndjson", reqwest::Body::wrap_stream(body)).send();
    lines.send(Ok("{\"value\":1}\n".to_owned())).await.unwrap();
    let answered = tokio::time::timeout(BOUND, async {
        let mut answer = stream.await.unwrap();
        answer.chunk().await.unwrap().unwrap()
    });
    let first = answered.await.expect("an answer before the end");
    assert!(
        String::from_utf8_lossy(&first).contains("\"offset\":1"),
        "{first:?}"
    );
    drop(lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_go_through() {
    let gateway = Gateway::embedded().set("websocket.ping_interval_ms", "1000");
    let fronted = Fronted::start(gateway).await;
    let path = "/ws?topics=orders&group=web&from=earliest";
    let evil = fronted.websocket(path, "https://evil.example").await;
    assert_eq!(evil.err(), Some(403));

    let own = fronted.url("");
    let mut socket = fronted.websocket(path, &own).await.unwrap();
    let produce = json!({"type": "produce", "id": 1, "topic": "orders", "records": [{"value": 7}]});
    socket
        .send(Message::text(produce.to_string()))
        .await
        .unwrap();
    let mut pinged = false;
    let read = tokio::time::timeout(BOUND, async {
        let (mut produced, mut delivered) = (false, false);
        while !(produced && delivered && pinged) {
            match socket.next().await.unwrap().unwrap() {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    produced |= frame["results"][0]["offset"] == 0;
                    delivered |= frame["records"][0]["value"] == 7;
                }
                Message::Ping(_) => pinged = true,
                other => panic!("{other:?}"),
            }
        }
    });
    read.await.expect("the record comes, and a ping");
    let bye = json!({"type": "bye"}).to_string();
    socket.send(Message::text(bye)).await.unwrap();
    let closed = tokio::time::timeout(BOUND, async {
        loop {
            if let Message::Close(close) = socket.next().await.unwrap().unwrap() {
                return close.unwrap();
            }
        }
    });
    let closed = closed.await.expect("an end");
    assert_eq!(u16::from(closed.code), 1000);
    assert_eq!(closed.reason.as_str(), "bye");
}
