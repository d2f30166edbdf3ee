//! Clients that others wrote follow a stream, are cut off, and come back by themselves by the rules of
//! the HTML standard: the `EventSource` of Chromium, that of npm's `eventsource`, and PyPI's `httpx-sse`,
//! which have nothing in common with ours.

mod browser;
mod node;
mod python;

use serde_json::Value;

use super::{topic_of, write};
use crate::support::gateway::Gateway;
use crate::support::kafka;
use crate::support::kafka_client::KafkaClient;
use crate::support::subprocess::Subprocess;
use crate::support::tcp_proxy::TcpProxy;

/// Longer than what clients wait by themselves, so that it shows which of the two they do.
const RETRY: i64 = 3_300;

/// What a client has seen.
#[derive(Default)]
struct Seen {
    offsets: Vec<i64>,
    /// Of the last event.
    id: Value,
    /// What it connected with, each time.
    connects: Vec<Value>,
    /// Of each time, how long it had waited since it was cut off, in milliseconds.
    waits: Vec<i64>,
    cut_at: Option<i64>,
    /// Names of events beside records.
    names: Vec<String>,
    /// What `drain` said.
    drained: Option<i64>,
}

impl Seen {
    /// Reads lines until `done` holds.
    async fn until(&mut self, script: &mut Subprocess, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let line = script.line().await.expect("the client goes on");
            self.take(&line);
        }
    }

    fn take(&mut self, line: &Value) {
        let at = line["at"].as_i64().unwrap();
        if let Some(id) = line.get("connects") {
            self.connects.push(id.clone());
            if let Some(cut_at) = self.cut_at.take() {
                self.waits.push(at - cut_at);
            }
        } else if let Some(name) = line["event"].as_str() {
            self.id = line["id"].clone();
            match name {
                "message" => self.offsets.push(line["data"]["offset"].as_i64().unwrap()),
                // A busy machine may be on its way yet when a sign of life is due.
                "lag" => {}
                name => self.names.push(name.to_owned()),
            }
            if name == "drain" {
                self.drained = line["data"]["retry"].as_i64();
            }
        } else if let Some(error) = line.get("error") {
            assert_eq!(line["closed"], error == 204, "{line}");
            self.cut_at = Some(at);
        } else {
            self.names.push("an id alone".to_owned());
            self.id = line["alone"].clone();
        }
    }
}

async fn write_numbers(plain: &KafkaClient, topic: &str, numbers: std::ops::Range<i64>) {
    for n in numbers {
        // Lines in a value are not lines of the stream.
        assert_eq!(
            write(plain, topic, 0, &format!("{{\"n\":\n{n}\r}}")).await,
            n
        );
    }
}

/// It is cut off by the network, and by a gateway that another one takes the place of.
async fn sees_all_once_whatever_is_cut(start: impl FnOnce(&str) -> Subprocess) {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "client", 1).await;
    write_numbers(&plain, &name, 0..20).await;
    let first = Gateway::start(&kafka().await.bootstrap()).await;
    let front = TcpProxy::of(&first).await;
    let query = format!("from=earliest&retry={RETRY}");
    let mut script = start(&front.url(&format!("/topics/{name}/records?{query}")));
    let mut seen = Seen::default();
    seen.until(&mut script, |seen| seen.offsets.len() >= 20)
        .await;
    assert_eq!(seen.connects, [Value::Null]);

    let id = seen.id.clone();
    front.cut();
    write_numbers(&plain, &name, 20..40).await;
    seen.until(&mut script, |seen| seen.offsets.len() >= 40)
        .await;
    assert_eq!(seen.connects[1..], [id], "it goes on after the last event");
    assert!(seen.waits[0] >= RETRY - 20, "{:?}", seen.waits);

    // It is told when to come back.
    let second = Gateway::start(&kafka().await.bootstrap()).await;
    front.lead_to(&second);
    assert!(first.terminate().await.status.success());
    write_numbers(&plain, &name, 40..60).await;
    seen.until(&mut script, |seen| seen.offsets.len() >= 60)
        .await;
    assert_eq!(seen.offsets, (0..60).collect::<Vec<_>>());
    assert_eq!(seen.names, ["ready", "ready", "drain", "ready"]);
    assert!(
        seen.waits[1] >= seen.drained.unwrap() - 20,
        "{:?}",
        seen.waits
    );
}

/// Who comes back after the end is told so by 204, and stays away.
async fn stops_when_it_is_told_that_it_is_over(start: impl FnOnce(&str) -> Subprocess) {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "over", 1).await;
    write_numbers(&plain, &name, 0..5).await;
    let gateway = crate::support::shared_gateway().await;
    let query = "from=earliest&until=end&retry=50";
    let mut script = start(&gateway.url(&format!("/topics/{name}/records?{query}")));
    let mut seen = Seen::default();
    let mut last = Value::Null;
    while let Some(line) = script.line().await {
        seen.take(&line);
        last = line;
    }
    assert_eq!(
        (&last["error"], &last["closed"]),
        (&204.into(), &true.into())
    );
    assert_eq!(seen.offsets, [0, 1, 2, 3, 4]);
    assert_eq!(seen.names, ["ready", "end"]);
    assert_eq!(seen.connects.len(), 2);
    assert_eq!(seen.connects[1], seen.id);
    script.ended().await;
}
