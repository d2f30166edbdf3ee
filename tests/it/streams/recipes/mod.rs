//! The recipes of docs/streams.md, as they stand there but for names and addresses.

mod envoy;
mod jq;
mod nginx;
mod page;
mod shell;

use tokio::time::timeout;

use super::{PROMPT, Stream, place, topic_of, write};
use crate::support::kafka;

const DOCUMENT: &str = "streams.md";

/// Writes records to a topic of the shared broker and sees that each of them comes before the next one is
/// there, by way of the proxy at `front`; signs of life too, and that a stream goes on where it was.
async fn come_as_they_are_written(front: &str) {
    let plain = kafka().await.plain();
    let topic = topic_of(&plain, "proxied", 1).await;
    let records = format!("{front}/topics/{topic}/records?from=earliest&heartbeat=5");
    let mut stream = Stream::open(&records, None).await;
    assert_eq!(stream.headers()["cache-control"], "no-store, no-transform");
    stream.named("ready").await;
    for n in 0..20 {
        write(&plain, &topic, 0, &n.to_string()).await;
        // Each of them before the next one is there.
        assert_eq!(place(&stream.records(1).await[0]).2, n);
    }
    let id = stream.parser.resume.clone().unwrap();
    let comments = stream.parser.comments;
    while stream.parser.comments == comments {
        let chunk = timeout(PROMPT, stream.response.chunk()).await.unwrap();
        stream.parser.push(&chunk.unwrap().unwrap());
    }
    drop(stream);
    write(&plain, &topic, 0, "20").await;
    let mut again = Stream::open(&records, Some(&id)).await;
    assert_eq!(place(&again.records(1).await[0]).2, 20);
}
