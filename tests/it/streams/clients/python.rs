//! PyPI's `httpx-sse`, which reads events and leaves it to the program to come back.

use serde_json::Value;

use super::{Seen, sees_all_once_whatever_is_cut, stops_when_it_is_told_that_it_is_over};
use crate::streams::{ndjson, topic_of, write};
use crate::support::python::Python;
use crate::support::tcp_proxy::TcpProxy;
use crate::support::{kafka, shared_gateway};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_sees_each_record_once_however_often_it_is_cut() {
    if let Some(python) = Python::find().await {
        sees_all_once_whatever_is_cut(|url| python.start("events.py", &[url])).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_stops_when_the_stream_says_that_it_is_over() {
    if let Some(python) = Python::find().await {
        stops_when_it_is_told_that_it_is_over(|url| python.start("events.py", &[url])).await;
    }
}

/// A filter lets nothing through, and the position goes on all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_comes_alone_is_what_it_comes_back_with() {
    let Some(python) = Python::find().await else {
        return;
    };
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "alone", 1).await;
    for n in 0..50 {
        write(&plain, &name, 0, &n.to_string()).await;
    }
    let gateway = shared_gateway().await;
    let front = TcpProxy::of(gateway).await;
    let query = "from=earliest&key=none&heartbeat=5&retry=100";
    let url = front.url(&format!("/topics/{name}/records?{query}"));
    let mut script = python.start("events.py", &[&url]);
    let mut seen = Seen::default();
    let alone = |seen: &Seen| seen.names.contains(&"an id alone".to_owned());
    seen.until(&mut script, alone).await;
    front.cut();
    seen.until(&mut script, |seen| seen.connects.len() == 2)
        .await;
    let id = seen.id.clone();
    assert_eq!(seen.connects[1], id);
    let ready = loop {
        let line = script.line().await.unwrap();
        if line["event"] == "ready" {
            break line;
        }
    };
    // That is the end, as a rule: a busy machine may still be on its way there when it tells where it is.
    let path = format!("/topics/{name}/records?timeout=10&last_event_id=");
    let told = ndjson(&gateway.url(&format!("{path}{}", id.as_str().unwrap()))).await;
    let passed = &told[0]["data"]["from"][&name]["0"];
    assert!(passed.as_i64() > Some(0), "{passed}");
    assert_eq!(ready["data"]["from"][&name]["0"], *passed, "{ready}");
    assert_eq!(seen.offsets, [] as [i64; 0]);
    assert_ne!(id, Value::Null);
}
