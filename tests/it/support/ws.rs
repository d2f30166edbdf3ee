//! A WebSocket client for tests. Every frame that it receives, and every one that it sends as JSON
//! and that is meant to be right, is checked against the AsyncAPI document.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::gateway::Gateway;

/// Longest wait for a frame that must come.
const BOUND: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A connected client.
pub struct Client {
    socket: Socket,
    /// Frames that were read while another one was waited for.
    read: Vec<Value>,
    /// The subprotocol that was agreed on.
    pub protocol: Option<String>,
}

/// What ends a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The close frame's code; `None` when the connection ended without one.
    pub code: Option<u16>,
    /// Its reason.
    pub reason: String,
    /// The `goodbye` before it.
    pub goodbye: Option<Value>,
}

static SCHEMAS: LazyLock<BTreeMap<String, jsonschema::Validator>> = LazyLock::new(|| {
    let document = tidegate::session::protocol::asyncapi::document();
    let messages = document["components"]["messages"].as_object().unwrap();
    let schema = |message: &Value| {
        let schema = json!({
            "$ref": message["payload"]["$ref"],
            "components": document["components"],
        });
        jsonschema::validator_for(&schema).unwrap()
    };
    messages
        .iter()
        .map(|(kind, message)| (kind.clone(), schema(message)))
        .collect()
});

/// Checks a frame against the document.
pub fn check(frame: &Value) {
    let kind = frame["type"].as_str().unwrap_or_default();
    let schema = SCHEMAS
        .get(kind)
        .unwrap_or_else(|| panic!("not in the document: {frame}"));
    if let Err(error) = schema.validate(frame) {
        panic!("{frame}: {error}");
    }
}

/// How a client connects.
pub struct Builder {
    url: String,
    headers: HeaderMap,
}

impl Builder {
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers
            .append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Connects; the HTTP answer when it is no upgrade.
    pub async fn try_connect(self) -> Result<Client, Response<Option<Vec<u8>>>> {
        let mut request = self.url.as_str().into_client_request().unwrap();
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(64 << 20))
            .max_frame_size(Some(64 << 20));
        let connecting = connect_async_with_config(request, Some(config), true);
        match timeout(BOUND, connecting).await.unwrap() {
            Ok((socket, response)) => {
                let protocol = response.headers().get("sec-websocket-protocol");
                Ok(Client {
                    socket,
                    read: Vec::new(),
                    protocol: protocol.map(|p| p.to_str().unwrap().to_owned()),
                })
            }
            Err(Error::Http(response)) => Err(*response),
            Err(error) => panic!("{}: {error}", self.url),
        }
    }

    pub async fn connect(self) -> Client {
        match self.try_connect().await {
            Ok(client) => client,
            Err(response) => panic!(
                "{} {}",
                response.status(),
                String::from_utf8_lossy(response.body().as_deref().unwrap_or_default())
            ),
        }
    }

    /// The status of the HTTP answer, and its body.
    pub async fn refused(self) -> (u16, Value, HeaderMap) {
        match self.try_connect().await {
            Ok(_) => panic!("it was let in"),
            Err(response) => {
                let body = response.body().as_deref().unwrap_or_default();
                let json = serde_json::from_slice(body).unwrap_or_default();
                (response.status().as_u16(), json, response.headers().clone())
            }
        }
    }
}

/// A client of this gateway at `path`, which begins with `/ws`.
pub fn at(gateway: &Gateway, path: &str) -> Builder {
    at_url(&gateway.url(path))
}

/// A client at this address, which begins with `http`.
pub fn at_url(url: &str) -> Builder {
    Builder {
        url: url.replacen("http", "ws", 1),
        headers: HeaderMap::new(),
    }
}

impl Client {
    /// A session that has been welcomed.
    pub async fn welcomed(gateway: &Gateway) -> Self {
        let mut client = at(gateway, "/ws").connect().await;
        client.until("welcome").await;
        client
    }

    pub async fn send(&mut self, frame: Value) {
        check(&frame);
        self.send_text(&frame.to_string()).await;
    }

    /// Sends what need not be a frame at all.
    pub async fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    pub async fn send_message(&mut self, message: Message) {
        timeout(BOUND, self.socket.send(message))
            .await
            .expect("the gateway reads")
            .unwrap();
    }

    /// Sends several at once, which are not looked at.
    pub async fn send_texts(&mut self, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            let feeding = self.socket.feed(Message::text(text));
            timeout(BOUND, feeding)
                .await
                .expect("the gateway reads")
                .unwrap();
        }
        timeout(BOUND, self.socket.flush())
            .await
            .expect("the gateway reads")
            .unwrap();
    }

    /// Sends what the gateway may have refused, and closed, before it has read all of it.
    pub async fn send_as_far_as_taken(&mut self, message: Message) {
        let sent = timeout(BOUND, self.socket.send(message)).await;
        let _ = sent.expect("the gateway reads or closes");
    }

    /// The next frame, whatever it is, heartbeats apart; `None` when nothing comes in `time`.
    pub async fn next_within(&mut self, time: Duration) -> Option<Value> {
        if !self.read.is_empty() {
            return Some(self.read.remove(0));
        }
        let end = Instant::now() + time;
        loop {
            let message = timeout_at(end, self.socket.next()).await.ok()?;
            match message {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    check(&frame);
                    if frame["type"] != "heartbeat" {
                        return Some(frame);
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("instead of a frame: {other:?}"),
            }
        }
    }

    pub async fn next(&mut self) -> Value {
        self.next_within(BOUND).await.expect("a frame comes")
    }

    /// The next frame that is no `state`: on a busy machine a tail is behind for a moment, or Kafka late.
    pub async fn next_but_states(&mut self) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] != "state" {
                return frame;
            }
        }
    }

    /// The next frame of this type; those before it are kept for later.
    pub async fn until(&mut self, kind: &str) -> Value {
        self.until_such(kind, |frame| frame["type"] == kind).await
    }

    /// The next frame for which `wanted` holds; those before it are kept for later.
    pub async fn until_such(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.read.iter().position(&wanted) {
            return self.read.remove(at);
        }
        let kept = std::mem::take(&mut self.read);
        let mut passed = Vec::new();
        let end = Instant::now() + BOUND;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Some(frame) = self.next_within(left).await else {
                panic!("no {what} came; instead {passed:?}");
            };
            if wanted(&frame) {
                self.read = kept;
                self.read.extend(passed);
                return frame;
            }
            passed.push(frame);
        }
    }

    /// The answer to the request with this id.
    pub async fn answer(&mut self, id: impl Into<Value>) -> Value {
        let id = id.into();
        self.until_such(&format!("answer to {id}"), |frame| frame["id"] == id)
            .await
    }

    /// Sends a frame that has an id, and waits for its answer.
    pub async fn ask(&mut self, frame: Value) -> Value {
        let id = frame["id"].clone();
        self.send(frame).await;
        self.answer(id).await
    }

    /// Sees to it that nothing but states comes for some time.
    pub async fn silent(&mut self, time: Duration) {
        while let Some(frame) = self.next_within(time).await {
            let kind = frame["type"].as_str();
            assert!(matches!(kind, Some("state" | "welcome")), "{frame}");
        }
    }

    /// Subscribes as `o` and waits for partitions: a member may be in the group before it has any.
    pub async fn subscribe(&mut self, group: &str, topic: &str, mut options: Value) -> Value {
        let frame = options.as_object_mut().unwrap();
        frame.insert("type".to_owned(), "subscribe".into());
        frame.insert("id".to_owned(), "subscribe".into());
        frame.insert("sub".to_owned(), "o".into());
        frame.insert("group".to_owned(), group.into());
        frame.entry("topics").or_insert_with(|| json!([topic]));
        let answer = self.ask(options).await;
        assert_eq!(answer["type"], "subscribed", "{answer}");
        self.until_such("assigned with partitions", |frame| {
            frame["type"] == "assigned" && frame["assignment"] != json!([])
        })
        .await
    }

    /// Records until there are this many.
    pub async fn records(&mut self, count: usize) -> Vec<Value> {
        let mut all = Vec::new();
        while all.len() < count {
            let frame = self.until("records").await;
            all.extend(frame["records"].as_array().unwrap().iter().cloned());
        }
        all
    }

    pub async fn ack(&mut self, tags: &[u64]) {
        self.send(json!({"type": "ack", "sub": "o", "tags": tags}))
            .await;
    }

    /// Reads on to the end of the connection.
    pub async fn closed(&mut self) -> Closed {
        let mut goodbye = self.read.iter().rfind(|f| f["type"] == "goodbye").cloned();
        let end = Instant::now() + BOUND;
        loop {
            let message = timeout_at(end, self.socket.next())
                .await
                .expect("the connection ends");
            match message {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    check(&frame);
                    if frame["type"] == "goodbye" {
                        goodbye = Some(frame);
                    }
                }
                Some(Ok(Message::Close(Some(close)))) => {
                    return Closed {
                        code: Some(close.code.into()),
                        reason: close.reason.to_string(),
                        goodbye,
                    };
                }
                Some(Ok(Message::Close(None)) | Err(_)) | None => {
                    return Closed {
                        code: None,
                        reason: String::new(),
                        goodbye,
                    };
                }
                Some(Ok(_)) => {}
            }
        }
    }

    /// Drops the connection without a word.
    pub fn drop_dead(self) {
        drop(self);
    }

    /// Says `bye` and listens no more.
    pub async fn bye_unheard(mut self) -> Self {
        self.send(json!({"type": "bye"})).await;
        self
    }

    /// Ends the session by `bye`, and sees that the gateway closes as it should.
    pub async fn bye(mut self) {
        self.send(json!({"type": "bye"})).await;
        assert_eq!(self.closed().await.code, Some(1000));
    }
}

/// The tags of records.
pub fn tags(records: &[Value]) -> Vec<u64> {
    records.iter().map(|r| r["tag"].as_u64().unwrap()).collect()
}

/// The offsets of records.
pub fn offsets(records: &[Value]) -> Vec<i64> {
    let offsets = records.iter().map(|r| r["offset"].as_i64().unwrap());
    offsets.collect()
}
