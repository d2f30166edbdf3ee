//! Streams whose ticket or token ends.

use serde_json::json;

use super::{PROMPT, Stream, topic_of, write};
use crate::support::gateway::Gateway;
use crate::support::tokens::{claims, seconds_from_now, sign};
use crate::support::{eventually, http, kafka};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_tells_of_the_end_of_its_ticket_and_outlives_it() {
    const SECRET: &str = "a secret that is long enough for HS256";
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "ticketed", 1).await;
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .file("secret", SECRET)
        .file(
            "tidegate.toml",
            "[auth]\nmode = \"jwt\"\nsse_ticket_ttl_s = 8\n\
             [[auth.issuers]]\nsecret_file = \"secret\"\nalgorithms = [\"HS256\"]\n",
        )
        .start()
        .await;
    let token = sign(&claims("ann", "consume:*"), SECRET.as_bytes());
    let wish = json!({"kind": "sse", "topics": [name]});
    let request = http::client().post(gateway.url("/tickets")).json(&wish);
    let reply = http::send(request.bearer_auth(token)).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let ticket = reply.json();
    let expires = ticket["expires_at"].as_u64().unwrap() / 1_000;
    let path = format!(
        "/topics/{name}/records?from=earliest&ticket={}",
        ticket["ticket"].as_str().unwrap()
    );
    let url = gateway.url(&path);
    let mut stream = Stream::open(&url, None).await;
    let told = stream.named("auth-expiring").await.json();
    assert_eq!(
        (&told["what"], told["expires"].as_u64()),
        (&json!("ticket"), Some(expires)),
        "{told}"
    );
    assert!(told["in"].as_u64() <= Some(2), "{told}");
    // With it nobody is let in any more; who is in stays.
    eventually(PROMPT, async || http::get(&url).await.status == 401).await;
    write(&plain, &name, 0, "7").await;
    assert_eq!(stream.records(1).await[0].json()["value"], 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_token_and_shows_only_what_that_allows() {
    const SECRET: &str = "a secret that is long enough for HS256";
    let plain = kafka().await.plain();
    let (mine, other) = (
        topic_of(&plain, "mine", 1).await,
        topic_of(&plain, "other", 1).await,
    );
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .file("secret", SECRET)
        .file(
            "tidegate.toml",
            "[auth]\nmode = \"jwt\"\nleeway_s = 0\n[limits]\ntails_per_principal = 1\n\
             [[auth.issuers]]\nsecret_file = \"secret\"\nalgorithms = [\"HS256\"]\n",
        )
        .start()
        .await;
    let scope = format!("consume:{mine}");
    let long = sign(&claims("ann", &scope), SECRET.as_bytes());
    let open = async |path: &str, token: &str| {
        let request = reqwest::Client::new().get(gateway.url(path));
        let request = request.header("accept", "text/event-stream");
        request.bearer_auth(token).send().await.unwrap()
    };
    let both = open(&format!("/records?topics={mine},{other}"), &long).await;
    assert_eq!(both.status(), 403);
    // What is asked from here on to the end of the stream must come while it lasts.
    let mut short = claims("ann", &scope);
    short["exp"] = seconds_from_now(15).into();
    let short = sign(&short, SECRET.as_bytes());
    let response = open(&format!("/records?topics={mine}"), &short).await;
    assert_eq!(response.status(), 200);
    // One more is one too many for this principal.
    let more = open(&format!("/topics/{mine}/records"), &long).await;
    assert_eq!(more.status(), 429);
    let mut stream = Stream::from(response);
    let told = stream.named("auth-expiring").await.json();
    assert_eq!(told["what"], "token");
    assert!(
        told["in"].as_u64() <= Some(5) && told["in_ms"].as_u64() <= Some(5_000),
        "{told}"
    );
    let error = stream.named("stream-error").await;
    assert_eq!(error.json()["error_code"], 40101);
    assert_eq!(stream.next().await, None);
    let again = open(&format!("/topics/{mine}/records"), &short).await;
    assert_eq!(again.status(), 401);
}
