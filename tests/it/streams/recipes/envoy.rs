//! The one for Envoy, which stands in docs/operations.md, with a real one. `./test` skips it where there is
//! none.

use super::come_as_they_are_written;
use crate::support::envoy::{Envoy, recipe};
use crate::support::shared_gateway;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_go_through_as_they_come() {
    let Some(envoy) = Envoy::find().await else {
        return;
    };
    let gateway = shared_gateway().await;
    let running = envoy.start(&recipe(gateway.address())).await;
    come_as_they_are_written(&running.url).await;
    running.is_content();
}
