//! The API's own description: the committed document, the printed one and the served one are the
//! same, and the page that shows it needs nothing but the gateway.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::gateway::Gateway;
use crate::support::http;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");

/// The document needs none.
const NO_KAFKA: &str = "127.0.0.1:1";

fn printed() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("openapi")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(output.stderr.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_committed_document_is_the_printed_one() {
    let printed = printed();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        std::fs::write(COMMITTED, &printed).unwrap();
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    let differs = committed
        .lines()
        .zip(printed.lines())
        .position(|(committed, printed)| committed != printed);
    assert!(
        committed == printed,
        "openapi/openapi.json is not what `tidegate openapi` prints, first in line {}: run the tests \
         with UPDATE_SNAPSHOTS=1 to write it anew",
        differs.map_or_else(
            || "beyond the end".to_owned(),
            |line| (line + 1).to_string()
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_served_document_is_the_printed_one() {
    let gateway = Gateway::start(NO_KAFKA).await;
    let reply = http::get(&gateway.url("/openapi.json")).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.text(), printed());
    let document = reply.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(document["paths"]["/topics/{topic}/records"]["post"].is_object());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_and_its_parts_come_from_the_binary() {
    let gateway = Gateway::start(NO_KAFKA).await;
    // Where a browser is sent.
    let browser = http::client()
        .get(gateway.url("/"))
        .header("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let page = http::send(browser).await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    let html = page.text();
    assert!(!html.contains("//"), "{html}");
    // Whatever a script would like to load, the browser loads nothing from elsewhere.
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'self'"), "{policy}");
    assert!(!policy.contains("http"), "{policy}");

    let mut parts = BTreeSet::new();
    for attribute in ["src=\"", "href=\""] {
        for rest in html.split(attribute).skip(1) {
            parts.insert(rest.split('"').next().unwrap().trim_start_matches("./"));
        }
    }
    assert!(parts.contains("swagger-ui-bundle.js"), "{parts:?}");
    for part in parts {
        let reply = http::get(&gateway.url(&format!("/docs/{part}"))).await;
        assert_eq!(reply.status, 200, "{part}");
        assert!(!reply.body.is_empty(), "{part}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        let kind = reply.header("content-type");
        if part.ends_with(".js") {
            assert!(kind.contains("javascript"), "{part}: {kind}");
        }
        // The part that says what to show.
        if part == "swagger-initializer.js" {
            assert!(reply.text().contains("/openapi.json"));
            assert!(!reply.text().contains("://"), "{}", reply.text());
        }
    }
    let reply = http::get(&gateway.url("/docs/none.js")).await;
    assert_eq!(reply.status, 404);
    assert_eq!(reply.json()["error_code"], 404);
}
