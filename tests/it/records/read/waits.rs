//! Reads that wait for a record.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{PROMPT, TestTopic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_with_the_first_record_or_with_its_time() {
    let topic = TestTopic::open("wait", 3, &[]).await;
    topic.fill(&[1, 1, 1]).await;

    let started = Instant::now();
    let page = topic.page("wait=700").await;
    assert!(page.records.is_empty());
    assert!(started.elapsed() >= Duration::from_millis(700));
    assert!(started.elapsed() < PROMPT);

    // `next` and not `latest`: it does not matter which of the two comes first.
    let started = Instant::now();
    let query = format!("from={}&wait=25000", page.next);
    let (page, _) = tokio::join!(topic.page(&query), async {
        // Most likely it waits by then.
        tokio::time::sleep(Duration::from_millis(300)).await;
        topic.write(&json!({"partition": 1, "value": "new"})).await
    });
    assert_eq!(page.places(), [(1, 1)]);
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());

    // What is there already is not waited for, and neither is `until=end`.
    let started = Instant::now();
    assert_eq!(
        topic.page("from=earliest&wait=25000").await.records.len(),
        4
    );
    let page = topic
        .page(&format!("from={}&wait=25000&until=end", page.next))
        .await;
    assert!(page.records.is_empty());
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_ends_the_wait_of_everyone() {
    const CLIENTS: usize = 40;
    let topic = TestTopic::open("wait-many", 2, &[]).await;
    let next = topic.page("").await.next;
    let started = Instant::now();
    let waits: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (topic, query) = (topic.clone(), format!("from={next}&wait=25000"));
            tokio::spawn(async move { topic.page(&query).await })
        })
        .collect();

    // Most likely all wait by then; those that come later find the record.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    topic.write(&json!({"partition": 1, "value": "news"})).await;

    for wait in waits {
        let page = wait.await.unwrap();
        assert_eq!(page.places(), [(1, 0)]);
        assert_eq!(page.values(), ["news"]);
    }
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
}
