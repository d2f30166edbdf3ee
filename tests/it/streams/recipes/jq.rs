//! The one with jq. `./test` skips it where there is none.

use super::shell::{commands, gateway, run};
use crate::streams::{topic_of, write};
use crate::support::doc_snippets::put;
use crate::support::kafka;
use crate::support::node::program;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_jq_recipe_prints_the_values_one_a_line() {
    if let Err(missing) = program("jq") {
        eprintln!("SKIPPED: {missing}");
        return;
    }
    let plain = kafka().await.plain();
    let topic = topic_of(&plain, "jq", 1).await;
    for n in 0..5 {
        write(&plain, &topic, 0, &format!("{{\"n\":{n}}}")).await;
    }
    let command = put(&commands("## In a shell")[0], "orders", &topic);
    let printed = run(gateway().await, &command, 5).await;
    let values: Vec<serde_json::Value> = serde_json::Deserializer::from_str(&printed)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let wanted: Vec<_> = (0..5).map(|n| serde_json::json!({"n": n})).collect();
    assert_eq!(values, wanted);
}
