//! The first minutes with Tidegate: no Kafka anywhere, and yet something to write to and read from.

use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::http;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_settings_the_gateway_starts_with_the_embedded_broker() {
    let gateway = Gateway::unconfigured().start().await;
    let url = gateway.url("/topics/orders/records");

    let body = r#"{"key":"c-17","value":{"id":1,"total":12345678901234567890},"headers":{"source":"curl"}}"#;
    let reply = http::post_text(&url, body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let at = reply.json();
    assert_eq!(
        (&at["topic"], &at["partition"], &at["offset"]),
        (&json!("orders"), &json!(0), &json!(0))
    );

    let reply = http::get(&format!("{url}?from=earliest")).await;
    assert_eq!(reply.status, 200);
    let expected = format!(
        r#"{{"records":[{{"topic":"orders","partition":0,"offset":0,"timestamp":{},"key":"c-17","value":{{"id":1,"total":12345678901234567890}},"headers":[["source","curl"]]}}],"next":"#,
        at["timestamp"]
    );
    assert!(reply.text().starts_with(&expected), "{}", reply.text());
    let next = reply.json()["next"].as_str().unwrap().to_owned();
    let waiting = format!("{url}?from={next}&wait=20000");
    let (page, _) = tokio::join!(http::get(&waiting), http::post_text(&url, r#"{"value":2}"#));
    assert_eq!(page.json()["records"][0]["value"], 2);

    // A topic comes into being when it is written to, not when it is read.
    let reply = http::get(&gateway.url("/topics/none/records")).await;
    assert_eq!(reply.status, 404);
    let one = http::get(&gateway.url("/topics/orders/partitions/0/records/0")).await;
    assert_eq!(one.json()["key"], "c-17");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_readiness_and_every_answer_say_that_the_broker_is_embedded() {
    let gateway = Gateway::unconfigured().start().await;
    let stderr = gateway.stderr();
    assert!(
        stderr.contains("embedded broker, in memory, gone at exit"),
        "{stderr}"
    );
    assert!(stderr.contains("--bootstrap-servers"), "{stderr}");
    let ready: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with("tidegate ready "))
        .collect();
    assert_eq!(ready.len(), 1, "{stderr}");
    assert_eq!(gateway.stdout(), "");

    let readyz = http::get(&gateway.management_url("/readyz")).await;
    assert_eq!(readyz.status, 200);
    assert_eq!(readyz.json(), json!({"ready": true, "broker": "embedded"}));
    for (url, status) in [
        (gateway.url("/"), 200),
        (gateway.url("/openapi.json"), 200),
        (gateway.url("/docs/index.html"), 200),
        (gateway.url("/topics/none/records"), 404),
        (gateway.url("/nowhere"), 404),
        (gateway.management_url("/readyz"), 200),
        (gateway.management_url("/metrics"), 200),
    ] {
        let reply = http::get(&url).await;
        assert_eq!(reply.status, status, "{url}");
        assert_eq!(reply.header("tidegate-broker"), "embedded", "{url}");
    }
    let reply = http::send(http::client().delete(gateway.url("/"))).await;
    assert_eq!(reply.status, 405);
    assert_eq!(reply.header("tidegate-broker"), "embedded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_embedded_broker_refuses_writes_and_still_gives_records() {
    let gateway = Gateway::unconfigured()
        .set("kafka.embedded_max_bytes", "1 MiB")
        .start()
        .await;
    let url = gateway.url("/topics/orders/records");
    let body = json!({"value": "x".repeat(100_000)});

    let mut written = 0;
    let refused = loop {
        let reply = http::post_json(&url, &body).await;
        if reply.status != 200 {
            break reply;
        }
        written += 1;
        assert!(written < 20, "nothing is ever full");
    };
    assert!(written >= 5, "{written}");
    assert_eq!(refused.status, 507, "{}", refused.text());
    let error = refused.json();
    assert_eq!(error["error_code"], 507);
    assert_eq!(error["retriable"], false);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("kafka.embedded_max_bytes"), "{message}");
    let reply = http::get(&format!("{url}?from=earliest")).await;
    assert_eq!(reply.json()["records"].as_array().unwrap().len(), written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_broker_does_not_start_unasked_on_a_public_address() {
    let world = |builder: crate::support::gateway::Builder| {
        builder
            .arg("--listen")
            .arg("0.0.0.0:0")
            .set("auth.mode", "none")
    };
    let Err(ended) = world(Gateway::unconfigured()).try_start().await else {
        panic!("it started");
    };
    assert_eq!(ended.status.code(), Some(2));
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("kafka.bootstrap_servers"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("0.0.0.0:0"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--embedded"), "{}", ended.stderr);

    let asked_for = world(Gateway::embedded()).start().await;
    let readyz = http::get(&asked_for.management_url("/readyz")).await;
    assert_eq!(readyz.json()["broker"], "embedded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_broker_does_not_start_unasked_where_tokens_are_set_up() {
    let Err(ended) = Gateway::unconfigured().with_tokens().try_start().await else {
        panic!("it started");
    };
    assert_eq!(ended.status.code(), Some(2));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    for words in ["kafka.bootstrap_servers", "auth.mode", "--embedded"] {
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }

    let asked_for = Gateway::embedded().with_tokens().start().await;
    let readyz = http::get(&asked_for.management_url("/readyz")).await;
    assert_eq!(readyz.json()["broker"], "embedded");
}
