//! HTTP in a line, and raw bytes for what no client library would send.

use std::sync::LazyLock;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any answer may take by the default settings, so that what fails is an assertion
/// about the answer.
const BOUND: Duration = Duration::from_secs(60);

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body that is text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// A header's value, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("a header that is text"))
    }
}

/// One for all requests that need nothing special. To make a client costs milliseconds, and a test that
/// makes a hundred while the first ones are connecting is late with their requests on a busy machine. It
/// keeps no connection, since those belong to the runtime of the test that made them.
fn shared() -> &'static Client {
    static CLIENT: LazyLock<Client> = LazyLock::new(|| {
        let client = Client::builder().pool_max_idle_per_host(0);
        client.timeout(BOUND).build().unwrap()
    });
    &CLIENT
}

/// A client for requests that need more than `get` and `post_json`.
pub fn client() -> Client {
    Client::builder().timeout(BOUND).build().unwrap()
}

/// Sends a request and reads the whole answer.
pub async fn send(request: RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    Reply {
        status: response.status(),
        headers: response.headers().clone(),
        body: response.bytes().await.unwrap().to_vec(),
    }
}

pub async fn get(url: &str) -> Reply {
    send(shared().get(url)).await
}

pub async fn post_json(url: &str, body: &Value) -> Reply {
    send(shared().post(url).json(body)).await
}

/// Sends text as it stands under `application/json`: numbers keep their digits, mistakes stay.
pub async fn post_text(url: &str, body: &str) -> Reply {
    let request = shared()
        .post(url)
        .header("content-type", "application/json")
        .body(body.to_owned());
    send(request).await
}

/// What came back on a socket.
#[derive(Debug)]
pub struct RawReply {
    pub text: String,
    /// Whether the other side closed the connection, rather than falling silent.
    pub closed: bool,
}

/// Writes bytes to an address and reads until the other side closes or is silent for `silence`.
pub async fn raw_request(address: &str, bytes: &[u8], silence: Duration) -> RawReply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // An error here is an answer too: the other side may refuse before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut reply = Vec::new();
    let mut chunk = [0; 8192];
    let closed = loop {
        match timeout(silence, stream.read(&mut chunk)).await {
            Ok(Ok(0) | Err(_)) => break true,
            Ok(Ok(n)) => reply.extend_from_slice(&chunk[..n]),
            Err(_) => break false,
        }
    };
    RawReply {
        text: String::from_utf8_lossy(&reply).into_owned(),
        closed,
    }
}

/// Makes a request one for a WebSocket.
pub fn handshake(request: RequestBuilder) -> RequestBuilder {
    request
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}
