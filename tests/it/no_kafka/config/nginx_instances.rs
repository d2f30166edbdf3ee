//! The recipe of docs/compatibility.md for nginx before several processes, with a real one.

use std::time::Duration;

use reqwest::Client;

use crate::support::broker::free_port;
use crate::support::doc_snippets::{block, put};
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::http::send;
use crate::support::nginx;

const BOUND: Duration = Duration::from_secs(60);
const HEADING: &str = "### Behind nginx";

/// A process with this `instance_id`.
pub(super) async fn gateway(id: &str) -> Gateway {
    let toml = block("compatibility.md", HEADING, "toml");
    let toml = put(
        &toml,
        "instance_id = \"gw-1\"",
        &format!("instance_id = \"{id}\""),
    );
    Gateway::embedded()
        .file("tidegate.toml", &toml)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_find_the_process_that_has_the_instance() {
    let (one, two) = (gateway("gw-1").await, gateway("gw-2").await);
    let port = free_port();
    let recipe = block("compatibility.md", HEADING, "nginx");
    let recipe = put(
        &recipe,
        "listen 8080;",
        &format!("listen 127.0.0.1:{port};"),
    );
    let recipe = put(&recipe, "127.0.0.1:8082", one.address());
    let recipe = put(&recipe, "127.0.0.1:8083", two.address());
    let _nginx = nginx::start(&format!("access_log off;\n{recipe}"), &[]);
    let front = format!("http://127.0.0.1:{port}");
    eventually(BOUND, async || {
        let answer = Client::new().get(&front).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    find_their_process(&front, &one, &two).await;
}

/// Makes instances by way of `front`, and sees that requests of each find the process that has it.
pub(super) async fn find_their_process(front: &str, one: &Gateway, two: &Gateway) {
    let client = Client::new();
    let mut made = [0, 0];
    for _ in 0..10 {
        let reply = send(client.post(format!("{front}/consumers/web"))).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let body = reply.json();
        // What it says is the way through the proxy.
        let base = body["base_uri"].as_str().unwrap().to_owned();
        assert!(base.starts_with(front), "{base}");
        let process = usize::from(base.contains("/rest-consumer-gw-2-"));
        made[process] += 1;
        for _ in 0..4 {
            let shown = send(client.get(format!("{base}/subscription"))).await;
            assert_eq!(shown.status, 200, "{}", shown.text());
        }
        // Past the proxy, the other process says that it is not the one.
        let other = [two, one][process];
        let lost = other.url(base.strip_prefix(front).unwrap());
        let lost = send(client.get(format!("{lost}/subscription"))).await;
        assert_eq!(lost.json()["error_code"], 40403);
        assert!(lost.text().contains("another process"));
        assert_eq!(send(client.delete(&base)).await.status, 204);
    }
    assert!(made[0] > 0 && made[1] > 0, "both take their part: {made:?}");
}
