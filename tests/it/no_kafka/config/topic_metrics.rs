//! The names of topics in metrics: whoever may create topics makes their names up, so that each principal
//! has so many and nobody takes the room of others.

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::http::{client, get, send};
use crate::support::tokens::token;

/// How many topics of one principal have labels of their own.
const OF_ONE: usize = 100;

async fn write(gateway: &Gateway, token: &str, topic: &str, record: Value) -> u16 {
    let request = client()
        .post(gateway.url(&format!("/topics/{topic}/records")))
        .bearer_auth(token);
    send(request.json(&record)).await.status.as_u16()
}

async fn read(gateway: &Gateway, token: &str, topic: &str) {
    let url = gateway.url(&format!("/topics/{topic}/partitions/0/records/0"));
    let reply = send(client().get(url).bearer_auth(token)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// The value of this series, if there is one.
async fn series(gateway: &Gateway, metric: &str, topic: &str) -> Option<u64> {
    let reply = get(&gateway.management_url("/metrics")).await;
    let start = format!("{metric}{{topic=\"{topic}\"}} ");
    let text = reply.text();
    let value = text.lines().find_map(|line| line.strip_prefix(&start))?;
    Some(value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_principal_takes_no_topic_label_of_others() {
    const PRODUCED: &str = "kafka_messages_produced_total";
    const BYTES: &str = "kafka_bytes_produced_total";
    const READ: &str = "kafka_messages_read_total";
    let gateway = Gateway::embedded()
        .with_tokens()
        .set("kafka.metadata_timeout_ms", "30000")
        .start()
        .await;
    let both = "produce:* consume:*";
    let (ann, bob) = (token("ann", both), token("bob", both));
    let record = || json!({"value": "four", "partition": 0});
    // The first write creates the topic.
    for n in 0..=OF_ONE {
        let topic = format!("ann-{n}");
        assert_eq!(
            write(&gateway, &ann, &topic, record()).await,
            200,
            "{topic}"
        );
    }
    assert_eq!(write(&gateway, &bob, "bob", record()).await, 200);
    assert_eq!(series(&gateway, PRODUCED, "ann-0").await, Some(1));
    let last = format!("ann-{OF_ONE}");
    assert_eq!(series(&gateway, PRODUCED, &last).await, None);
    assert_eq!(series(&gateway, PRODUCED, "(other)").await, Some(1));
    let bytes = Some("\"four\"".len() as u64);
    assert_eq!(series(&gateway, BYTES, "bob").await, bytes);
    assert_eq!(series(&gateway, BYTES, "(other)").await, bytes);
    assert_eq!(series(&gateway, PRODUCED, "bob").await, Some(1));

    // Whoever has a place left gives it to a topic that has none; a known one is counted where it was.
    read(&gateway, &ann, "bob").await;
    read(&gateway, &bob, &last).await;
    assert_eq!(write(&gateway, &ann, &last, record()).await, 200);
    assert_eq!(series(&gateway, READ, "bob").await, Some(1));
    assert_eq!(series(&gateway, READ, &last).await, Some(1));
    assert_eq!(series(&gateway, PRODUCED, &last).await, Some(1));
    assert_eq!(series(&gateway, PRODUCED, "(other)").await, Some(1));
}
