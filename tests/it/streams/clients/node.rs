//! npm's `eventsource` on Node.js.

use serde_json::json;

use super::{sees_all_once_whatever_is_cut, stops_when_it_is_told_that_it_is_over};
use crate::support::node::Node;
use crate::support::subprocess::Subprocess;

fn start(node: &Node, url: &str) -> Subprocess {
    let names = ["ready", "drain", "end", "gap", "reset", "stream-error"];
    let order = json!({"modules": node.modules, "url": url, "names": names});
    node.start("events.mjs", &order)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_sees_each_record_once_however_often_it_is_cut() {
    if let Some(node) = Node::find().await {
        sees_all_once_whatever_is_cut(|url| start(&node, url)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_stops_when_the_stream_says_that_it_is_over() {
    if let Some(node) = Node::find().await {
        stops_when_it_is_told_that_it_is_over(|url| start(&node, url)).await;
    }
}
