//! Instances are made and deleted, expire, belong to somebody, and are only so many.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{BOUND, Consumer, V2, created, from_earliest, make, refusal};
use crate::support::gateway::Gateway;
use crate::support::groups::{broker, fill, gateway};
use crate::support::http::{client, raw_request, send};
use crate::support::tokens::token;
use crate::support::{eventually, metric, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_has_a_name_and_an_address() {
    let gateway = gateway().await;
    let group = topic("v2-made");

    let reply = make(gateway, &group, &json!({"name": "one"})).await;

    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), V2);
    let base = gateway.url(&format!("/consumers/{group}/instances/one"));
    assert_eq!(
        reply.text(),
        format!("{{\"instance_id\":\"one\",\"base_uri\":\"{base}\"}}")
    );
    // Without a body and a name, one is made up.
    let bare = client().post(gateway.url(&format!("/consumers/{group}")));
    let bare = send(bare).await.json();
    let name = bare["instance_id"].as_str().unwrap();
    assert!(name.starts_with("rest-consumer-"), "{name}");
    // What older clients say, and a name that needs quoting.
    let old = make(gateway, &group, &json!({"id": "a b/ü", "name": "x"})).await;
    assert_eq!(old.json()["instance_id"], "a b/ü");
    let base = old.json()["base_uri"].as_str().unwrap().to_owned();
    assert!(base.ends_with("/instances/a%20b%2F%C3%BC"), "{base}");
    assert_eq!(send(client().delete(base)).await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_is_the_one_that_clients_use() {
    let group = topic("v2-address");
    let kafka = broker().await.bootstrap();
    let base = async |gateway: &Gateway, headers: &[(&str, &str)]| {
        let mut request = client().post(gateway.url(&format!("/consumers/{group}")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = send(request).await;
        let body = reply.json();
        let base = body["base_uri"].as_str().unwrap().to_owned();
        base.split_once("/consumers/").unwrap().0.to_owned()
    };
    let forwarded = (
        "forwarded",
        "for=203.0.113.7;proto=https;host=gw.example:8443",
    );
    let plain = gateway().await;
    // What anybody may write is not believed.
    assert_eq!(base(plain, &[forwarded]).await, plain.url(""));
    let host = [("host", "localhost:4711")];
    assert_eq!(base(plain, &host).await, "http://localhost:4711");
    let behind = Gateway::builder(&kafka)
        .set("http.trusted_proxies", "[\"127.0.0.1\"]")
        .set("http.allowed_hosts", "[\"gw.example\"]")
        .start()
        .await;
    assert_eq!(base(&behind, &[forwarded]).await, "https://gw.example:8443");
    let host = ("x-forwarded-host", "gw.example");
    let https = ("x-forwarded-proto", "HTTPS");
    let path = format!("/bridge/consumers/{group}");
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[host, https], "https://gw.example"),
        (
            &[host, https, ("x-forwarded-port", "8443")],
            "https://gw.example:8443",
        ),
        (
            &[host, ("x-forwarded-prefix", "/kafka/")],
            "http://gw.example/kafka",
        ),
        (
            &[host, ("x-forwarded-path", &*path)],
            "http://gw.example/bridge",
        ),
    ];
    for (headers, expected) in cases {
        assert_eq!(base(&behind, headers).await, expected, "{headers:?}");
        assert_eq!(
            base(plain, headers).await,
            plain.url(""),
            "anybody may write it"
        );
    }
    // As the oldest clients do, without a Host.
    let head = format!("POST /consumers/{group} HTTP/1.0\r\n\r\n");
    let reply = raw_request(plain.address(), head.as_bytes(), BOUND).await;
    let (_, port) = plain.address().rsplit_once(':').unwrap();
    let expected = format!("http://localhost:{port}/consumers/{group}/instances/");
    assert!(reply.text.contains(&expected), "{}", reply.text);
    let told = Gateway::builder(&kafka)
        .set("advertised_url", "https://gw-1.example/kafka/")
        .start()
        .await;
    assert_eq!(base(&told, &[]).await, "https://gw-1.example/kafka");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_instance_is_gone_and_its_name_is_free() {
    let gateway = gateway().await;
    let name = created("v2-delete", 1).await;
    let group = topic("v2-delete-group");
    let body = json!({"name": "one", "auto.offset.reset": "earliest"});
    let consumer = Consumer::make(gateway, &group, &body).await;
    consumer.subscribe(&[&name]).await;
    consumer.has(1).await;
    assert_eq!(
        refusal(&make(gateway, &group, &body).await),
        (409, 40902, "/name".into())
    );

    consumer.delete().await;

    let again = consumer.call(Method::DELETE, "", None).await;
    assert_eq!(refusal(&again), (404, 40403, "instance".into()));
    let message = again.json()["message"].to_string();
    assert!(message.contains("another process"), "{message}");
    // Another one has the partition at once: the first has left.
    let next = Consumer::make(gateway, &group, &body).await;
    next.subscribe(&[&name]).await;
    next.has(1).await;
    next.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: instances are idle for longer than a busy machine keeps one that is in use waiting"]
async fn an_idle_instance_leaves_and_one_in_use_stays() {
    let kafka = broker().await;
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("rest.consumer_instance_timeout_ms", "6000")
        .start()
        .await;
    let name = topic("v2-expire");
    kafka.plain().create_topic(&name, 2, &[]).await;
    let group = topic("v2-expire-group");
    let idle = Consumer::make(&gateway, &group, &from_earliest()).await;
    idle.subscribe(&[&name]).await;
    idle.has(2).await;
    let used = Consumer::make(&gateway, &group, &from_earliest()).await;
    used.subscribe(&[&name]).await;
    assert!((metric(&gateway, "rest_consumer_instances").await - 2.0).abs() < 0.1);

    // A read that waits is a use, too, and the idle one's partition comes here.
    eventually(BOUND, async || {
        used.read("timeout=100").await;
        used.assignments().await.len() == 2
    })
    .await;

    let reply = idle.get("/subscription").await;
    assert_eq!(refusal(&reply), (404, 40403, "instance".into()));
    assert!(used.read("timeout=8000").await.is_empty());
    assert_eq!(used.get("/subscription").await.status, 200);
    assert!((metric(&gateway, "rest_consumer_instances").await - 1.0).abs() < 0.1);
    eventually(BOUND, async || {
        metric(&gateway, "rest_consumer_instances").await < 0.1
    })
    .await;
    let ended = metric(&gateway, "rest_consumer_instances_ended_total").await;
    assert!((ended - 2.0).abs() < 0.1, "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_limited_in_all_and_by_principal_and_refused_to_other_principals() {
    let kafka = broker().await;
    let gateway = Gateway::builder(&kafka.bootstrap())
        .with_tokens()
        .set("limits.instances", "3")
        .set("limits.instances_per_principal", "2")
        .start()
        .await;
    let (mine, theirs) = (topic("v2-mine"), topic("v2-theirs"));
    for name in [&mine, &theirs] {
        kafka.plain().create_topic(name, 1, &[]).await;
    }
    let group = topic("v2-owned");
    let ann = token("ann", &format!("group:{group} consume:{mine}"));
    let bob = token("bob", "group:* consume:*");
    let call = async |token: &str, method: Method, path: &str, body: Option<Value>| {
        let request = client()
            .request(method, gateway.url(path))
            .bearer_auth(token);
        send(match body {
            Some(body) => request.header("content-type", V2).body(body.to_string()),
            None => request,
        })
        .await
    };
    let consumers = format!("/consumers/{group}");
    let made = async |token: &str, name: &str| {
        call(token, Method::POST, &consumers, Some(json!({"name": name}))).await
    };
    assert_eq!(made(&ann, "a1").await.status, 200);
    assert_eq!(made(&ann, "a2").await.status, 200);
    let third = made(&ann, "a3").await;
    assert_eq!(third.status, 429);
    assert!(!third.header("retry-after").is_empty());
    assert_eq!(made(&bob, "b1").await.status, 200);
    let fourth = made(&bob, "b2").await;
    assert_eq!(refusal(&fourth).0, 503);
    assert!(!fourth.header("retry-after").is_empty());

    // Another's is not to be touched, whatever one may do otherwise.
    let one = format!("{consumers}/instances/a1");
    for (method, path) in [
        (Method::DELETE, ""),
        (Method::GET, "/records"),
        (Method::GET, "/subscription"),
    ] {
        let reply = call(&bob, method, &format!("{one}{path}"), None).await;
        assert_eq!(refusal(&reply), (403, 40301, "instance".into()), "{path}");
    }
    // Neither another group nor topics that one may not consume.
    let other = call(&ann, Method::POST, "/consumers/other", None).await;
    assert_eq!(refusal(&other).1, 40301);
    let subscription = format!("{one}/subscription");
    let subscribe = json!({"topics": [mine, theirs]});
    let refused = call(&ann, Method::POST, &subscription, Some(subscribe)).await;
    assert_eq!(refusal(&refused).1, 40301);
    let assign = json!({"partitions": [{"topic": theirs, "partition": 0}]});
    let assignments = format!("{one}/assignments");
    let refused = call(&ann, Method::POST, &assignments, Some(assign)).await;
    assert_eq!(refusal(&refused).1, 40301);
    let subscribe = json!({"topics": [mine]});
    let taken = call(&ann, Method::POST, &subscription, Some(subscribe)).await;
    assert_eq!(taken.status, 204);
    // A right that a later token lacks is gone at once.
    let less = token("ann", &format!("group:{group}"));
    let records = format!("{one}/records?timeout=100");
    let refused = call(&less, Method::GET, &records, None).await;
    assert_eq!(refusal(&refused).1, 40301);
    // A pattern finds what may be consumed, and nothing else.
    let two = format!("{consumers}/instances/a2/subscription");
    let pattern = json!({"topic_pattern": format!("({mine}|{theirs})")});
    assert_eq!(
        call(&ann, Method::POST, &two, Some(pattern)).await.status,
        204
    );
    let found = call(&ann, Method::GET, &two, None).await;
    assert_eq!(found.json(), json!({"topics": [mine]}));
    // And lets go of what later may not be consumed any more.
    let records = format!("{consumers}/instances/a2/records?timeout=100");
    assert_eq!(call(&less, Method::GET, &records, None).await.text(), "[]");
    let found = call(&ann, Method::GET, &two, None).await;
    assert_eq!(found.json(), json!({"topics": []}));
    // A place that is given up is free.
    assert_eq!(call(&ann, Method::DELETE, &one, None).await.status, 204);
    assert_eq!(made(&ann, "a3").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_gateway_ends_reads_commits_and_leaves_its_groups() {
    let kafka = broker().await;
    let first = Gateway::builder(&kafka.bootstrap())
        .set("shutdown_grace_ms", "40000")
        .start()
        .await;
    let name = topic("v2-terminate");
    kafka.plain().create_topic(&name, 1, &[]).await;
    fill(&first, &name, 0, 0..10).await;
    let group = topic("v2-terminate-group");
    let committing = json!({
        "format": "json", "auto.offset.reset": "earliest",
        "consumer.request.timeout.ms": 120_000,
    });
    let consumer = Arc::new(Consumer::make(&first, &group, &committing).await);
    consumer.subscribe(&[&name]).await;
    assert_eq!(consumer.read_all(10).await.len(), 10);
    // By this the client says that it is done with the ten.
    let reader = Arc::clone(&consumer);
    let waiting = tokio::spawn(async move { reader.read("").await });
    // Requests wait for each other: when another has no answer, this one is being served.
    while timeout(Duration::from_secs(1), consumer.assignments())
        .await
        .is_ok()
    {}
    let begun = std::time::Instant::now();

    let ended = first.terminate().await;

    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "no grace was used up"
    );
    assert_eq!(waiting.await.unwrap().len(), 0, "the read had an answer");
    assert_eq!(kafka.plain().committed(&group, &name, 0).await, Some(10));
    // The partition is free at once.
    let second = gateway().await;
    fill(second, &name, 0, 10..11).await;
    let next = Consumer::make(second, &group, &from_earliest()).await;
    next.subscribe(&[&name]).await;
    assert_eq!(super::numbers(&next.read_all(1).await), [10]);
    next.delete().await;
}
