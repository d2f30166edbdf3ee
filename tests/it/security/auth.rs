//! Tokens, permissions and tickets: every route of the API is tried with every kind of bad token.

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{Reply, client, get, handshake, send};
use crate::support::tokens::{
    Issuer, RSA_PUBLIC_KEY, SECRET, claims, seconds_from_now, sign, signed_by_issuer, token,
    unsigned,
};
use crate::support::{eventually, kafka, topic};

/// Routes that anyone may call, on purpose.
const OPEN: [(&str, &str); 9] = [
    ("GET", "/"),
    ("POST", "/"),
    ("GET", "/openapi.json"),
    ("GET", "/asyncapi.json"),
    ("GET", "/docs"),
    ("GET", "/docs/{file}"),
    // They say nothing unless a setting opens them.
    ("GET", "/healthy"),
    ("GET", "/ready"),
    ("GET", "/_health"),
];

/// A gateway that takes tokens of a shared secret and of a public key.
fn gateway(bootstrap: &str, more: &str) -> Builder {
    Gateway::builder(bootstrap)
        .file("secret", SECRET)
        .file("rsa.pem", RSA_PUBLIC_KEY)
        .file(
            "tidegate.toml",
            &format!(
                r#"
[auth]
mode = "jwt"
roles_claim = "roles"
{more}

[[auth.issuers]]
issuer = "https://issuer.test"
audience = "tidegate"
secret_file = "secret"

[[auth.issuers]]
issuer = "https://rsa.test"
audience = "tidegate"
key_file = "rsa.pem"

[auth.roles]
reader = ["consume:*"]
"#
            ),
        )
}

fn with(request: RequestBuilder, token: &str) -> RequestBuilder {
    request.header("authorization", format!("Bearer {token}"))
}

async fn get_with(url: &str, token: &str) -> Reply {
    send(with(client().get(url), token)).await
}

/// Every method and path of the API, with the topic in its place.
async fn routes(gateway: &Gateway, topic: &str) -> Vec<(Method, String)> {
    let document = get(&gateway.url("/openapi.json")).await.json();
    let mut routes = Vec::new();
    let mut open = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase();
            if operation.get("security").is_none() {
                open.push((method, path.clone()));
                continue;
            }
            let path = path
                .replace("{topic}", topic)
                .replace("{group}", topic)
                .replace("{instance}", "one")
                .replace("{partition}", "0")
                .replace("{offset}", "0")
                .replace("{cluster}", "any")
                .replace("{broker}", "1")
                .replace("{name}", "retention.ms")
                .replace("{consumer}", "one")
                .replace("{user}", "one")
                .replace("{transactional_id}", "one");
            assert!(
                !path.contains('{'),
                "{path}: a parameter the test does not know"
            );
            let path = match path.as_str() {
                "/records" => format!("/records?topics={topic}"),
                _ => path,
            };
            routes.push((method.parse().unwrap(), path));
        }
    }
    let expected: Vec<(String, String)> = OPEN
        .iter()
        .map(|(method, path)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    open.sort();
    let mut sorted = expected;
    sorted.sort();
    assert_eq!(open, sorted, "open routes are open on purpose");
    assert!(routes.len() > 3, "{routes:?}");
    routes
}

fn request(gateway: &Gateway, method: &Method, path: &str) -> RequestBuilder {
    let request = client().request(method.clone(), gateway.url(path));
    if path == "/ws" {
        return handshake(request);
    }
    if *method == Method::GET {
        return request;
    }
    let (kind, body) = if path.ends_with("/records") {
        ("application/json", r#"{"value":1}"#)
    } else if path == "/tickets" {
        ("application/json", "{}")
    } else {
        (
            "application/vnd.kafka.json.v2+json",
            r#"{"records":[{"value":1}]}"#,
        )
    };
    request.header("content-type", kind).body(body)
}

/// Whether a route is about the cluster as a whole, which needs a permission on it.
fn is_of_cluster(method: &Method, path: &str) -> bool {
    let of_v3 = [
        "/acls",
        "/quotas",
        "/scram-users",
        "/broker-configs",
        "/log-dirs",
        "/transactions",
        "/hanging-transactions",
    ];
    path == "/admin/topics"
        || of_v3.iter().any(|part| path.contains(part))
        || (path.contains("/brokers/") && path.contains("/configs"))
        || (path.contains("/reassignment") && *method != Method::GET)
        || path.ends_with("/leader:elect")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_refuses_every_bad_token() {
    let kafka = kafka().await;
    let topic = topic("walk");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let gateway = gateway(&kafka.bootstrap(), "")
        .set("limits.refused_per_second", "0")
        .start()
        .await;
    let scope = "admin:*";
    let change = |name: &str, value: Value| {
        let mut claims = claims("mallory", scope);
        claims[name] = value;
        sign(&claims, SECRET.as_bytes())
    };
    let mut rsa = claims("mallory", scope);
    rsa["iss"] = json!("https://rsa.test");
    let bad = [
        ("expired", change("exp", json!(seconds_from_now(-600)))),
        ("of the future", change("nbf", json!(seconds_from_now(600)))),
        ("of another audience", change("aud", json!("other"))),
        ("of another issuer", change("iss", json!("https://other"))),
        (
            "of the other issuer",
            change("iss", json!("https://rsa.test")),
        ),
        (
            "signed with another secret",
            sign(
                &claims("mallory", scope),
                b"another secret, of much the same length",
            ),
        ),
        (
            "signed with the public key as secret",
            sign(&rsa, RSA_PUBLIC_KEY.as_bytes()),
        ),
        ("unsigned", unsigned(&claims("mallory", scope))),
        ("no token at all", "nonsense".to_owned()),
    ];
    for (method, path) in routes(&gateway, &topic).await {
        // What shows nothing there may still do so in its first frame (`no_kafka::ws::upgrade`).
        if path != "/ws" {
            let reply = send(request(&gateway, &method, &path)).await;
            let challenge = reply.header("www-authenticate").to_owned();
            assert_eq!(reply.status, 401, "{method} {path} without a token");
            assert_eq!(reply.json()["error_code"], 40101, "{method} {path}");
            assert_eq!(challenge, "Bearer realm=\"tidegate\"");
        }
        for (kind, token) in &bad {
            let reply = send(with(request(&gateway, &method, &path), token)).await;
            let challenge = reply.header("www-authenticate").to_owned();
            assert_eq!(reply.status, 401, "{method} {path} with a token {kind}");
            assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
            let error = reply.json();
            assert_eq!(error["error_code"], 40101);
            assert!(
                !reply.text().contains(token.as_str()),
                "the token is in {error}"
            );
        }
        if path == "/ws" {
            continue;
        }
        let none = token("ann", "openid email");
        let reply = send(with(request(&gateway, &method, &path), &none)).await;
        let names_topic = path.contains(&topic);
        if is_of_cluster(&method, &path) {
            assert_eq!(reply.status, 403, "{method} {path} without permissions");
            let message = reply.json()["message"].as_str().unwrap().to_owned();
            let needed = ["admin:*", "describe:*"];
            assert!(needed.iter().any(|one| message.contains(one)), "{message}");
        } else if names_topic {
            assert_eq!(reply.status, 403, "{method} {path} without permissions");
            assert_eq!(reply.json()["error_code"], 40301);
            let message = reply.json()["message"].as_str().unwrap().to_owned();
            assert!(message.contains(&format!(":{topic}")), "{message}");
        } else if path == "/topics" {
            assert_eq!(reply.json(), json!([]), "nothing is shown");
        }
    }
    let (low, high) = kafka.plain().watermarks(&topic, 0).await;
    assert_eq!((low, high), (0, 0), "nothing was written");
    assert!(!gateway.stderr().contains("eyJ"), "a token is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissions_say_what_may_be_done() {
    let kafka = kafka().await;
    let (mine, other) = (topic("mine"), topic("other"));
    for name in [&mine, &other] {
        kafka.plain().create_topic(name, 1, &[]).await;
    }
    let gateway = gateway(&kafka.bootstrap(), "").start().await;
    let records = |name: &str| gateway.url(&format!("/topics/{name}/records"));
    let write = |name: &str, token: &str| {
        let request = client()
            .post(records(name))
            .header("content-type", "application/json")
            .body(r#"{"value":1}"#);
        send(with(request, token))
    };
    let writer = token("ann", &format!("produce:{mine} openid"));
    assert_eq!(write(&mine, &writer).await.status, 200);
    assert_eq!(write(&other, &writer).await.status, 403);
    assert_eq!(get_with(&records(&mine), &writer).await.status, 403);
    let shown = get_with(&gateway.url("/topics"), &writer).await.json();
    assert_eq!(shown, json!([mine]), "only what the caller may describe");

    let mut role = claims("bob", "");
    role["roles"] = json!(["reader", "unknown"]);
    let reader = sign(&role, SECRET.as_bytes());
    let page = get_with(&format!("{}?from=earliest", records(&mine)), &reader).await;
    assert_eq!(page.json()["records"].as_array().unwrap().len(), 1);
    assert_eq!(write(&mine, &reader).await.status, 403);
    let internal = get_with(&records("__consumer_offsets"), &reader).await;
    assert_eq!(internal.status, 403, "internal topics are for admin");

    let own = token("mine", &format!("produce:{{sub}}* consume:*{}", &mine[4..]));
    assert_eq!(
        write(&mine, &own).await.status,
        200,
        "{{sub}} is the subject"
    );
    let admin = token("root", "admin:*");
    assert_eq!(write(&other, &admin).await.status, 200);
    // A scheme other than Bearer is told apart from a bad token.
    let basic = client()
        .get(records(&mine))
        .header("authorization", "Basic YTpi");
    let reply = send(basic).await;
    assert_eq!(reply.status, 401);
    assert!(reply.header("www-authenticate").contains("invalid_request"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_stands_in_for_a_token_in_a_url() {
    let kafka = kafka().await;
    let (mine, other) = (topic("mine"), topic("other"));
    for name in [&mine, &other] {
        kafka.plain().create_topic(name, 1, &[]).await;
    }
    let gateway = gateway(&kafka.bootstrap(), "").start().await;
    let records = |name: &str, query: &str| gateway.url(&format!("/topics/{name}/records?{query}"));
    let reader = token("ann", &format!("consume:{mine} consume:{other}"));
    let ask = |body: Value, token: &str| {
        let request = client().post(gateway.url("/tickets")).json(&body);
        send(with(request, token))
    };
    let reply = ask(json!({"kind": "sse", "topics": [mine]}), &reader).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.header("cache-control"), "no-store");
    let ticket = reply.json()["ticket"].as_str().unwrap().to_owned();
    let expires = reply.json()["expires_at"].as_i64().unwrap() / 1000;
    assert!(
        expires <= seconds_from_now(600),
        "not longer than the token"
    );
    for _ in 0..2 {
        let page = get(&records(&mine, &format!("from=earliest&ticket={ticket}"))).await;
        assert_eq!(page.status, 200, "{}", page.text());
    }
    let page = get(&records(&other, &format!("ticket={ticket}"))).await;
    assert_eq!(page.status, 403, "a topic that the ticket is not for");
    let forged = get(&records(&mine, &format!("ticket={ticket}x"))).await;
    assert_eq!(forged.status, 401);
    let websocket = ask(json!({"kind": "ws"}), &reader).await.json();
    let websocket = websocket["ticket"].as_str().unwrap().to_owned();
    let page = get(&records(&mine, &format!("ticket={websocket}"))).await;
    assert_eq!(page.status, 401, "a ticket for another kind of connection");
    let again = send(client().post(gateway.url(&format!("/tickets?ticket={ticket}")))).await;
    assert_eq!(again.status, 403, "a ticket begets no ticket");

    for (body, status) in [
        (json!({"kind": "sse", "topics": []}), 422),
        (json!({"kind": "sse", "topics": ["nope"]}), 403),
        (json!({"kind": "tea"}), 422),
        (json!({"form": "sse"}), 422),
        (json!("sse"), 422),
    ] {
        let reply = ask(body.clone(), &reader).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {}", reply.text());
    }
    let in_query = get(&records(&mine, &format!("access_token={reader}"))).await;
    assert_eq!(in_query.status, 401);
    assert!(
        in_query.json()["message"]
            .as_str()
            .unwrap()
            .contains("allow_query_token")
    );
    let log = gateway.stderr();
    assert!(!log.contains(&ticket) && !log.contains(&reader));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_the_query_is_taken_where_that_is_switched_on() {
    let kafka = kafka().await;
    let topic = topic("query");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let gateway = gateway(&kafka.bootstrap(), "allow_query_token = true")
        .start()
        .await;
    let reader = token("ann", "consume:*");
    let url = gateway.url(&format!("/topics/{topic}/records?access_token={reader}"));
    let page = get(&url).await;
    assert_eq!(page.status, 200, "{}", page.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuers_keys_are_fetched_kept_and_followed() {
    let kafka = kafka().await;
    let topic = topic("jwks");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let issuer = Issuer::start(&["one"]).await;
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("auth.mode", "jwt")
        .set(
            "auth.issuers",
            &format!(
                "[{{ issuer = \"https://issuer.test\", jwks_url = \"{}\" }}]",
                issuer.url()
            ),
        )
        .start()
        .await;
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let by = |key_id: &str| signed_by_issuer(&claims("ann", "consume:*"), key_id);
    let one = by("one");
    eventually(Duration::from_secs(60), async || {
        get_with(&url, &one).await.status == 200
    })
    .await;
    // A secret, even the public key itself, is no key of a public set.
    let forged = sign(&claims("ann", "consume:*"), SECRET.as_bytes());
    assert_eq!(get_with(&url, &forged).await.status, 401);

    // Unknown keys make it ask again, but not for every token.
    let (before, began) = (issuer.asked(), Instant::now());
    for n in 0..50 {
        assert_eq!(
            get_with(&url, &by(&format!("unknown-{n}"))).await.status,
            401
        );
    }
    // Once, and once more for each five seconds that this took.
    let most = 1 + usize::try_from(began.elapsed().as_secs() / 5).unwrap();
    assert!(
        issuer.asked() <= before + most,
        "{} questions",
        issuer.asked() - before
    );

    // The last good keys hold while the issuer has none to give.
    issuer.serve("{\"keys\": \"none\"}".to_owned());
    let fresh = signed_by_issuer(&claims("bob", "consume:*"), "one");
    assert_eq!(get_with(&url, &fresh).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_never_answers_well_costs_little() {
    let kafka = kafka().await;
    let topic = topic("jwks");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let issuer = Issuer::start(&[]).await;
    issuer.serve("x".repeat(100 << 20));
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("auth.mode", "jwt")
        .set(
            "auth.issuers",
            &format!("[{{ jwks_url = \"{}\" }}]", issuer.url()),
        )
        .start()
        .await;
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let token = signed_by_issuer(&claims("ann", "consume:*"), "one");
    let reply = get_with(&url, &token).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(reply.json()["retriable"], true);
    eventually(Duration::from_secs(60), async || {
        gateway.stderr().contains("larger than")
    })
    .await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let rss = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = rss.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 150 * 1024, "{kib} KiB");
    // The keys come when the issuer is well.
    issuer.rotate(&["one"]);
    eventually(Duration::from_secs(120), async || {
        get_with(&url, &token).await.status == 200
    })
    .await;
}
