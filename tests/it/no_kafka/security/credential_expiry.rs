//! What a token or a certificate has opened ends with it.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::{Body, Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::certs::Authority;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, send};
use crate::support::tokens::{SECRET, claims, seconds_from_now, sign, token};
use crate::support::ws::at;

const BOUND: Duration = Duration::from_secs(90);
/// How long what expires in a test is good for: long enough to be used before on a busy machine.
const LASTS: i64 = 20;

fn expiring(scope: &str) -> String {
    let mut claims = claims("ann", scope);
    claims["exp"] = seconds_from_now(LASTS).into();
    sign(&claims, SECRET.as_bytes())
}

/// An upload of one record that does not come to its end by itself: its results, read to theirs.
async fn unfinished_upload(request: RequestBuilder) -> Vec<Value> {
    let (feed, mut fed) = mpsc::channel::<&'static str>(1);
    let body = stream::poll_fn(move |context| fed.poll_recv(context))
        .map(|text| Ok::<_, std::io::Error>(Bytes::from_static(text.as_bytes())));
    let request = request
        .header("content-type", "application/x-ndjson")
        .body(Body::wrap_stream(body));
    let reply = tokio::spawn(request.send());
    feed.send("{\"value\":1}\n{\"val").await.unwrap();
    let reply = timeout(BOUND, reply).await.unwrap().unwrap().unwrap();
    assert_eq!(reply.status(), 200);
    let text = timeout(BOUND, reply.text())
        .await
        .expect("it ends")
        .unwrap();
    drop(feed);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn assert_expired(results: &[Value]) {
    assert_eq!(results.len(), 2, "{results:?}");
    assert!(results[0]["offset"].is_i64(), "{results:?}");
    assert_eq!(results[1]["error_code"], 40101, "{results:?}");
    assert_eq!(results[1]["summary"]["written"], 1, "{results:?}");
    let message = results[1]["message"].as_str().unwrap();
    assert!(message.contains("expired"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_ends_with_its_token() {
    let gateway = Gateway::embedded().with_tokens().start().await;
    let request = client()
        .post(gateway.url("/topics/orders/records"))
        .bearer_auth(expiring("produce:*"));
    assert_expired(&unfinished_upload(request).await);
}

async fn call(method: Method, url: &str, token: &str, body: &Value) -> Reply {
    let mut request = Client::new()
        .request(method, url)
        .bearer_auth(token)
        .timeout(BOUND);
    if !body.is_null() {
        request = request
            .header("content-type", "application/vnd.kafka.v2+json")
            .body(body.to_string());
    }
    send(request).await
}

/// A gateway with an instance of Ann's that may wait for long.
async fn with_instance() -> (Gateway, String, String) {
    let gateway = Gateway::embedded()
        .with_tokens()
        .set("rest.consumer_request_timeout_ms", "600000")
        .start()
        .await;
    let all = token("ann", "group:* consume:* produce:*");
    let one = json!({"value": 1});
    let url = gateway.url("/topics/orders/records");
    let written = send(client().post(&url).bearer_auth(&all).json(&one)).await;
    assert_eq!(written.status, 200, "{}", written.text());
    let made = call(
        Method::POST,
        &gateway.url("/consumers/web"),
        &all,
        &json!({"auto.offset.reset": "latest", "auto.commit.enable": "false"}),
    )
    .await;
    assert_eq!(made.status, 200, "{}", made.text());
    let base = made.json()["base_uri"].as_str().unwrap().to_owned();
    (gateway, base, all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_read_of_an_instance_returns_when_its_token_expires() {
    let (_gateway, base, all) = with_instance().await;
    let partitions = json!({"partitions": [{"topic": "orders", "partition": 0}]});
    let assignments = format!("{base}/assignments");
    let assigned = call(Method::POST, &assignments, &all, &partitions).await;
    assert_eq!(assigned.status, 204, "{}", assigned.text());
    let short = expiring("group:* consume:*");
    // Without that it would wait for longer than the client does.
    let url = format!("{base}/records?timeout=600000");
    let read = call(Method::GET, &url, &short, &Value::Null).await;
    assert_eq!((read.status.as_u16(), read.text()), (200, "[]"));
    // While the clocks may differ its token is taken, and waits for nothing.
    let read = call(Method::GET, &url, &short, &Value::Null).await;
    assert!([200, 401].contains(&read.status.as_u16()), "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_does_nothing_for_a_principal_that_may_not_consume_any_more() {
    let (_gateway, base, all) = with_instance().await;
    let less = token("ann", "group:*");
    let partitions = json!({"partitions": [{"topic": "orders", "partition": 0}]});
    let none = json!({"partitions": []});
    let at = |path: &str| format!("{base}/{path}");
    let calls = [
        (Method::GET, at("assignments"), Value::Null),
        (Method::POST, at("offsets"), Value::Null),
        (Method::POST, at("offsets?async=true"), Value::Null),
        (Method::POST, at("offsets"), json!({"offsets": []})),
        (Method::GET, at("offsets"), none.clone()),
        (Method::POST, at("positions"), json!({"offsets": []})),
        (Method::POST, at("positions/beginning"), none.clone()),
        (Method::POST, at("positions/end"), none),
        (Method::GET, at("records?timeout=1"), Value::Null),
    ];
    let assigned = call(Method::POST, &at("assignments"), &all, &partitions).await;
    assert_eq!(assigned.status, 204, "{}", assigned.text());
    for (method, url, body) in &calls {
        let refused = call(method.clone(), url, &less, body).await;
        assert_eq!(refused.status, 403, "{url}: {}", refused.text());
        let message = refused.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("consume:orders"), "{url}: {message}");
        let done = call(method.clone(), url, &all, body).await;
        assert!(done.status.is_success(), "{url}: {}", done.text());
    }
    // It can still let go.
    let ended = call(Method::DELETE, &at("subscription"), &less, &Value::Null).await;
    assert_eq!(ended.status, 204, "{}", ended.text());
    // What has no topics concerns none.
    let shown = call(Method::GET, &at("assignments"), &less, &Value::Null).await;
    assert_eq!(shown.status, 200, "{}", shown.text());

    let topics = json!({"topics": ["orders"]});
    let subscribed = call(Method::POST, &at("subscription"), &all, &topics).await;
    assert_eq!(subscribed.status, 204, "{}", subscribed.text());
    for (method, url, body) in [
        (Method::GET, at("subscription"), Value::Null),
        (Method::GET, at("assignments"), Value::Null),
        (Method::POST, at("offsets"), Value::Null),
    ] {
        let refused = call(method, &url, &less, &body).await;
        assert_eq!(refused.status, 403, "{url}: {}", refused.text());
    }
    assert_eq!(
        call(Method::DELETE, &base, &less, &Value::Null)
            .await
            .status,
        204
    );
}

/// Reads with a token that expires while nothing comes, beside one that begins later and waits for as long
/// as a read may: the first is over when its token is, and before the other.
async fn waits_for_its_token_only(gateway: &Gateway, url: &str) -> Reply {
    // Shorter than the longest wait, 25 s.
    const LEFT: i64 = 10;
    let mut claims = claims("ann", "consume:*");
    let expires = seconds_from_now(LEFT);
    claims["exp"] = expires.into();
    let short = sign(&claims, SECRET.as_bytes());
    let long = token("ann", "consume:*");
    let read = |token: &str| send(client().get(gateway.url(url)).bearer_auth(token));
    let read_short = read(&short);
    let read_long = read(&long);
    let reply = tokio::select! {
        biased;
        reply = read_short => reply,
        reply = read_long => panic!("it waits for longer than its token is good: {reply:?}"),
    };
    assert_eq!(reply.status, 200, "{}", reply.text());
    let now = seconds_from_now(0);
    assert!(now >= expires - 1, "it ended {} s before", expires - now);
    reply
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_waits_returns_when_its_token_expires() {
    let (gateway, _, _) = with_instance().await;
    let url = "/topics/orders/records?from=latest&wait=25000";
    let page = waits_for_its_token_only(&gateway, url).await.json();
    assert_eq!(page["records"], json!([]), "{page}");
    assert!(page["next"].is_string(), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_of_a_partition_returns_when_its_token_expires() {
    let (gateway, _, all) = with_instance().await;
    let one = json!({"value": 1, "partition": 0});
    let written = client().post(gateway.url("/topics/waits/records"));
    let written = send(written.bearer_auth(&all).json(&one)).await;
    assert_eq!(written.status, 200, "{}", written.text());
    let url = "/topics/waits/partitions/0/records?offset=1&timeout=25000&max_bytes=1000";
    let read = waits_for_its_token_only(&gateway, url).await;
    assert_eq!(read.text(), "[]");
}

/// `exp` is a number that the client's issuer chooses. No clock counts to the largest of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_may_expire_after_the_end_of_time() {
    let (gateway, base, _) = with_instance().await;
    for expires in [u64::MAX, u64::MAX / 1000, u64::MAX >> 1] {
        let mut claims = claims("ann", "group:* consume:* produce:*");
        claims["exp"] = expires.into();
        let token = sign(&claims, SECRET.as_bytes());
        let records = gateway.url("/topics/orders/records");
        for (kind, body) in [
            ("application/json", "{\"value\":1,\"partition\":0}"),
            ("application/x-ndjson", "{\"value\":1,\"partition\":0}\n"),
        ] {
            let request = client().post(&records).bearer_auth(&token);
            let written = send(request.header("content-type", kind).body(body)).await;
            assert_eq!(written.status, 200, "{}", written.text());
            assert!(written.json()["offset"].is_i64(), "{}", written.text());
        }
        for (path, accept) in [
            (
                "/topics/orders/records?from=latest&wait=1",
                "application/json",
            ),
            (
                "/topics/orders/records?from=earliest&until=end",
                "text/event-stream",
            ),
            (
                "/topics/orders/partitions/0/records?offset=0&timeout=1",
                "*/*",
            ),
        ] {
            let request = client().get(gateway.url(path)).header("accept", accept);
            let read = send(request.bearer_auth(&token)).await;
            assert_eq!(read.status, 200, "{path}: {}", read.text());
        }
        let partitions = json!({"partitions": [{"topic": "orders", "partition": 0}]});
        let assignments = format!("{base}/assignments");
        let assigned = call(Method::POST, &assignments, &token, &partitions).await;
        assert_eq!(assigned.status, 204, "{}", assigned.text());
        let read = format!("{base}/records?timeout=1");
        let read = call(Method::GET, &read, &token, &Value::Null).await;
        assert_eq!(read.status, 200, "{}", read.text());
        let ticket = client().post(gateway.url("/tickets")).bearer_auth(&token);
        let ticket = send(ticket.json(&json!({"kind": "sse"}))).await;
        assert_eq!(ticket.status, 201, "{}", ticket.text());
        let mut session = at(&gateway, "/ws").token(&token).connect().await;
        session.until("welcome").await;
        let pong = session.ask(json!({"type": "ping", "id": 1})).await;
        assert_eq!(pong["type"], "pong", "{pong}");
        session.bye().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_certificate_has_opened_ends_with_it() {
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
[http]
request_timeout_ms = 80000
[auth]
mode = "jwt"
issuers = [{ issuer = "https://issuer.test", audience = "tidegate", secret_file = "secret" }]
[auth.roles]
"CN=short" = ["produce:*", "consume:*", "group:*"]
"#,
        )
        .start()
        .await;
    let ends = seconds_from_now(LASTS);
    let short = clients.client_until("short", ends);
    let one_connection = || {
        let client = authority.http().identity(short.identity());
        client
            .timeout(BOUND)
            .http2_prior_knowledge()
            .build()
            .unwrap()
    };
    let client = one_connection();
    let url = gateway.url("/topics/orders/records");
    let one = client.post(&url).json(&json!({"value": 1})).send();
    assert_eq!(one.await.unwrap().status(), 200);

    // Its tickets end with it.
    let asked = client
        .post(gateway.url("/tickets"))
        .json(&json!({"kind": "sse"}));
    let ticket = send(asked).await;
    assert_eq!(ticket.status, 201, "{}", ticket.text());
    assert_eq!(ticket.json()["expires_at"], ends * 1000);

    // A session, a stream and an upload.
    let tls = authority.tls().identity(&short);
    let tls = tls.connect(gateway.address()).await.unwrap();
    let mut request = "ws://localhost/ws".into_client_request().unwrap();
    request
        .headers_mut()
        .insert("sec-websocket-protocol", "tidegate.v1".parse().unwrap());
    let (mut session, _) = tokio_tungstenite::client_async(request, tls).await.unwrap();
    let closed = async {
        loop {
            match session.next().await {
                Some(Ok(Message::Close(Some(close)))) => return u16::from(close.code),
                Some(Ok(_)) => {}
                end => panic!("no close frame came: {end:?}"),
            }
        }
    };
    let stream = client.get(&url).header("accept", "text/event-stream");
    let streamed = async {
        let stream = stream.send().await.unwrap();
        assert_eq!(stream.status(), 200);
        stream.text().await.unwrap()
    };
    let (closed, streamed, uploaded) = tokio::join!(
        timeout(BOUND, closed),
        timeout(BOUND, streamed),
        unfinished_upload(client.post(&url)),
    );
    assert_eq!(closed.expect("the session ends"), 4001);
    let streamed = streamed.expect("the stream ends");
    assert!(streamed.contains("40101"), "{streamed}");
    assert_expired(&uploaded);

    // The connection that was kept is no way in any more.
    eventually(BOUND, async || seconds_from_now(0) > ends).await;
    let late = send(client.get(&url)).await;
    assert_eq!(late.status, 401, "{}", late.text());
    assert!(
        late.text().contains("certificate has expired"),
        "{}",
        late.text()
    );
}
