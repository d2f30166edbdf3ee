//! The one for nginx, with a real one. `./test` skips it where there is none.

use super::{DOCUMENT, come_as_they_are_written};
use crate::streams::PROMPT;
use crate::support::broker::free_port;
use crate::support::doc_snippets::{block, put};
use crate::support::nginx;
use crate::support::{eventually, http, shared_gateway};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_go_through_as_they_come() {
    let gateway = shared_gateway().await;
    let recipe = block(DOCUMENT, "## Behind a proxy", "");
    let recipe = put(&recipe, "http://127.0.0.1:8082", &gateway.url(""));
    // And without that line: the header of the answer says it too.
    let headers_alone = put(&recipe, "proxy_buffering off;", "");
    for recipe in [recipe, headers_alone] {
        let port = free_port();
        let server = format!("server {{\nlisten 127.0.0.1:{port};\n{recipe}}}\n");
        let nginx = nginx::start(&server, &[]);
        let url = format!("http://127.0.0.1:{port}");
        eventually(PROMPT, async || {
            let answer = http::client().get(&url).send().await;
            answer.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        come_as_they_are_written(&url).await;
        drop(nginx);
    }
}
