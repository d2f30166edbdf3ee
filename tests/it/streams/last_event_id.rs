//! Ids that a client comes back with.

use serde_json::json;

use super::{Stream, place, topic_of, write};
use crate::support::{kafka, shared_gateway};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_cannot_be_used_is_told_and_never_an_error() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "reset", 1).await;
    let other = topic_of(&plain, "reset-other", 1).await;
    for n in 0..5 {
        write(&plain, &name, 0, &n.to_string()).await;
    }
    write(&plain, &other, 0, "1").await;
    let gateway = shared_gateway().await;
    let url = |name: &str| gateway.url(&format!("/topics/{name}/records"));
    let foreign = Stream::open(&format!("{}?from=earliest", url(&other)), None)
        .await
        .named("ready")
        .await
        .id;
    let long = "A".repeat(7_000);
    for id in [
        "garbage!", "AAAA", "0@999", &foreign, &long, "nope:0@1", "0@-3", "é",
    ] {
        let mut stream = Stream::open(&format!("{}?from=earliest", url(&name)), Some(id)).await;
        let reset = stream.next().await.unwrap();
        assert_eq!(reset.name, "reset", "{id}");
        assert!(!reset.json()["reason"].as_str().unwrap().is_empty());
        let ready = stream.next().await.unwrap();
        assert_eq!(ready.json()["exact"], false, "{id}");
        let begins = if id == "0@999" { 5 } else { 0 };
        assert_eq!(reset.json()["from"][&name], json!({"0": begins}), "{id}");
    }
    // What retention took is a gap.
    plain.delete_records(&name, 0, 3).await;
    let mut stream = Stream::open(&format!("{}?last_event_id=0@1", url(&name)), None).await;
    let ready = stream.next().await.unwrap();
    assert_eq!(
        (ready.name.as_str(), ready.json()["exact"].as_bool()),
        ("ready", Some(false))
    );
    let gap = stream.next().await.unwrap();
    assert_eq!(gap.name, "gap");
    assert_eq!(
        gap.json(),
        json!({"topic": name, "partition": 0, "from": 1, "to": 3, "reason": "retention"})
    );
    assert_eq!(place(&stream.records(1).await[0]).2, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_in_the_query_counts_in_every_spelling() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "spelled", 1).await;
    for n in 0..4 {
        write(&plain, &name, 0, &n.to_string()).await;
    }
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{name}/records?from=earliest&until=end"));
    let first = async |query: &str, header: Option<&str>| {
        let mut stream = Stream::open(&format!("{url}{query}"), header).await;
        place(&stream.records(1).await[0]).2
    };
    for spelling in [
        "last_event_id",
        "lastEventId",
        "lastEventID",
        "Last-Event-ID",
    ] {
        assert_eq!(
            first(&format!("&{spelling}=0@3"), None).await,
            3,
            "{spelling}"
        );
    }
    // One that a client adds at the end of a URL that has one already is the newer one, and a header is newer
    // than both.
    let both = "&last_event_id=0@1&lastEventId=0@2";
    assert_eq!(first(both, None).await, 2);
    assert_eq!(first(both, Some("0@3")).await, 3);
    assert_eq!(first("&lastEventId=", None).await, 0);
}
