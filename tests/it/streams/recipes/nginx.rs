//! The one for nginx, with a real one. `./test` skips it where there is none.

use tokio::time::timeout;

use super::DOCUMENT;
use crate::streams::{PROMPT, Stream, place, topic_of, write};
use crate::support::nginx;
use crate::support::recipe::{block, put};
use crate::support::{eventually, http, kafka, shared_gateway};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_go_through_as_they_come() {
    let plain = kafka().await.plain();
    let gateway = shared_gateway().await;
    let recipe = block(DOCUMENT, "## Behind a proxy", "");
    let recipe = put(&recipe, "http://127.0.0.1:8082", &gateway.url(""));
    // And without that line: the header of the answer says it too.
    let headers_alone = put(&recipe, "proxy_buffering off;", "");
    for recipe in [recipe, headers_alone] {
        let port = nginx::port();
        let server = format!("server {{\nlisten 127.0.0.1:{port};\n{recipe}}}\n");
        let nginx = nginx::start(&server, &[]);
        let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
        eventually(PROMPT, async || {
            let answer = http::client().get(url("/")).send().await;
            answer.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        let topic = topic_of(&plain, "nginx", 1).await;
        let records = url(&format!(
            "/topics/{topic}/records?from=earliest&heartbeat=5"
        ));
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
        drop(nginx);
    }
}
