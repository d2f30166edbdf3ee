//! Packed bodies are bounded by what comes out of them.

use std::time::{Duration, Instant};

use async_compression::tokio::write::GzipEncoder;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, send};

const RECORDS: &str = "/topics/orders/records";
const NDJSON: &str = "application/x-ndjson";

async fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(bytes).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

async fn post(gateway: &Gateway, kind: &str, body: Vec<u8>) -> Reply {
    let request = client()
        .post(gateway.url(RECORDS))
        .header("content-type", kind)
        .header("content-encoding", "gzip")
        .body(body);
    send(request).await
}

fn lines(reply: &Reply) -> Vec<Value> {
    let lines = reply.text().lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_far_more_than_the_client_sends_is_ended() {
    let gateway = Gateway::embedded().start().await;
    let mut bomb = b"{\"value\":1}\n".to_vec();
    bomb.resize(32 << 20, b'\n');
    let bomb = packed(&bomb).await;
    for kind in [NDJSON, "application/jsonl"] {
        let reply = post(&gateway, kind, bomb.clone()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let results = lines(&reply);
        assert_eq!(results.len(), 2, "{results:?}");
        // What was written before is answered as ever.
        assert!(results[0]["offset"].is_i64(), "{results:?}");
        assert_eq!(results[1]["error_code"], 413, "{results:?}");
        assert_eq!(results[1]["summary"]["written"], 1, "{results:?}");
        let message = results[1]["message"].as_str().unwrap();
        assert!(message.contains("100 times"), "{message}");
    }

    // A short one may be as dense as it likes, and a long one that is not dense goes on.
    let mut short = b"{\"value\":1}\n".to_vec();
    short.resize(1 << 20, b'\n');
    let results = lines(&post(&gateway, NDJSON, packed(&short).await).await);
    assert_eq!(results.len(), 1, "{results:?}");
    let long: String = (0..60_000)
        .map(|n| format!("{{\"value\":\"{}\"}}\n", n * 7919))
        .collect();
    assert!(long.len() > 1 << 20);
    let results = lines(&post(&gateway, NDJSON, packed(long.as_bytes()).await).await);
    assert_eq!(results.len(), 60_000);
    assert!(results.iter().all(|result| result["offset"].is_i64()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_cannot_be_unpacked_says_so() {
    let gateway = Gateway::embedded().start().await;
    let mut cut = packed(b"{\"value\":1}\n").await;
    cut.truncate(cut.len() - 4);
    let reply = post(&gateway, NDJSON, cut).await;
    let last = lines(&reply).pop().unwrap();
    assert_eq!(last["error_code"], 400, "{last}");
    assert!(last["message"].as_str().unwrap().contains("gzip"), "{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rate_of_bytes_counts_what_comes_out() {
    const RATE: usize = 400_000;
    const LENGTH: usize = 1 << 20;
    for kind in [NDJSON, "application/json"] {
        let gateway = Gateway::embedded()
            .set("limits.bytes_per_second", &RATE.to_string())
            .start()
            .await;
        // Blank lines around one record: some kilobytes, packed.
        let mut body = b"{\"value\":1}".to_vec();
        body.resize(LENGTH, b'\n');
        let body = packed(&body).await;
        assert!(body.len() < RATE / 50, "{}", body.len());
        let begun = Instant::now();
        let reply = post(&gateway, kind, body).await;
        let took = begun.elapsed();
        assert_eq!(reply.status, 200, "{kind}: {reply:?}");
        assert!(
            lines(&reply)
                .first()
                .is_some_and(|one| one["offset"] == json!(0)),
            "{kind}: {reply:?}"
        );
        // One second's worth at once, and the rest at the rate.
        let least = Duration::from_secs(1) * u32::try_from(LENGTH - RATE).unwrap()
            / u32::try_from(RATE).unwrap();
        assert!(took >= least.mul_f64(0.95), "{kind}: {took:?}");
    }
}
