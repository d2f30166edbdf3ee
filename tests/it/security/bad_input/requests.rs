//! Bodies that cannot be read, what is over a limit, and types, addresses and methods that there are not.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{
    BODY_BYTES, RECORD_BYTES, Refusal, Victim, assert_refused, raw, refusal, until_closed,
};
use crate::support::gateway::Gateway;
use crate::support::http;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_cannot_be_read_are_refused() {
    let victim = Victim::start().await;
    let deep = "[".repeat(100_000);
    let deep_value = format!("{{\"value\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let deep_objects = format!(
        "[{{\"value\":1}},{{\"value\":{}1{}}}]",
        "{\"a\":".repeat(9_000),
        "}".repeat(9_000)
    );
    let cases: Vec<(&str, &[u8], Refusal<'_>)> = vec![
        // Not JSON.
        ("", b"", refusal(400, "", &["body is empty"])),
        ("", b" \n ", refusal(400, "", &["body is empty"])),
        (
            "",
            b"{\"value\":1,\n \"key\":}",
            refusal(400, "", &["not valid JSON", "line 2 column 8"]),
        ),
        (
            "",
            b"{\"value\":01}",
            refusal(400, "", &["line 1 column 11"]),
        ),
        (
            "",
            b"{\"value\":1}}",
            refusal(400, "", &["line 1 column 12"]),
        ),
        ("", b"{\"value\":1", refusal(400, "", &["line 1 column 10"])),
        (
            "",
            b"[{\"value\":1},\n{\"value\":}]",
            refusal(400, "", &["line 2 column 10"]),
        ),
        (
            "",
            b"[{\"value\":1},]",
            refusal(400, "", &["line 1 column 14"]),
        ),
        (
            "",
            b"{\"value\":1}{\"value\":2}",
            refusal(400, "", &["line 1 column 12"]),
        ),
        (
            "",
            b"{\"value\":NaN}",
            refusal(400, "", &["not valid JSON", "line 1"]),
        ),
        (
            "",
            b"{'value':1}",
            refusal(400, "", &["not valid JSON", "line 1"]),
        ),
        (
            "",
            b"{\"value\":\"\xff\"}",
            refusal(400, "", &["not valid JSON"]),
        ),
        ("", deep.as_bytes(), refusal(400, "", &["not valid JSON"])),
        (
            "",
            deep_value.as_bytes(),
            refusal(422, "/value", &["deeper than 1000"]),
        ),
        (
            "",
            deep_objects.as_bytes(),
            refusal(422, "/1/value", &["deeper than 1000"]),
        ),
        // JSON, and no record.
        ("", b"7", refusal(422, "/", &["a record: an object"])),
        ("", b"\"x\"", refusal(422, "/", &["a record: an object"])),
        ("", b"null", refusal(422, "/", &["a record: an object"])),
        ("", b"[1]", refusal(422, "/0", &["a record: an object"])),
        (
            "",
            b"[{\"value\":1},[]]",
            refusal(422, "/1", &["a record: an object"]),
        ),
        (
            "",
            b"{}",
            refusal(422, "/value", &["needs a value", "tombstone"]),
        ),
        (
            "",
            b"{\"key\":\"a\"}",
            refusal(422, "/value", &["needs a value"]),
        ),
        (
            "",
            b"[{\"value\":1},{\"key\":1}]",
            refusal(422, "/1/value", &["needs a value"]),
        ),
        (
            "",
            b"{\"value\":1,\"vaule\":2}",
            refusal(422, "/vaule", &["unknown field `vaule`", "`value`"]),
        ),
        (
            "",
            b"[{\"value\":1},{\"value\":1,\"a/b\":2}]",
            refusal(422, "/1/a~1b", &["unknown field"]),
        ),
        (
            "",
            b"{\"value\":1,\"value\":2}",
            refusal(422, "/value", &["twice"]),
        ),
        (
            "",
            b"{\"value\":1,\"partition\":\"0\"}",
            refusal(422, "/partition", &["whole number from 0"]),
        ),
        (
            "",
            b"{\"value\":1,\"partition\":0.5}",
            refusal(422, "/partition", &["whole number", "0.5"]),
        ),
        (
            "",
            b"{\"value\":1,\"partition\":-1}",
            refusal(422, "/partition", &["whole number", "-1"]),
        ),
        (
            "",
            b"{\"value\":1,\"partition\":9999999999}",
            refusal(422, "/partition", &["whole number"]),
        ),
        (
            "",
            b"{\"value\":1,\"timestamp\":-5}",
            refusal(422, "/timestamp", &["milliseconds since 1970", "-5"]),
        ),
        (
            "",
            b"{\"value\":1,\"timestamp\":0}",
            refusal(422, "/timestamp", &["more than 0"]),
        ),
        (
            "",
            b"{\"value\":1,\"timestamp\":true}",
            refusal(422, "/timestamp", &["ISO 8601"]),
        ),
        (
            "",
            b"{\"value\":1,\"timestamp\":\"soon\"}",
            refusal(422, "/timestamp", &["ISO 8601", "soon"]),
        ),
        (
            "",
            b"{\"value\":1,\"headers\":7}",
            refusal(422, "/headers", &["array of [name, value] pairs"]),
        ),
        (
            "",
            b"{\"value\":1,\"headers\":{\"a\":1}}",
            refusal(422, "/headers", &["string, null or"]),
        ),
        (
            "",
            b"{\"value\":1,\"headers\":[[\"a\"]]}",
            refusal(422, "/headers", &["invalid length 1"]),
        ),
        (
            "",
            b"{\"value\":1,\"headers\":{\"a\":{\"b64\":\"!\"}}}",
            refusal(422, "/headers", &["a: the value is not valid base64"]),
        ),
        (
            "",
            b"{\"value\":1,\"headers\":[{\"name\":\"a\",\"value\":1}]}",
            refusal(422, "/headers", &["expected a string"]),
        ),
        (
            "",
            b"{\"value\":1,\"headers\":[{\"name\":\"a\",\"val\":\"\"}]}",
            refusal(422, "/headers", &["unknown field `val`"]),
        ),
        (
            "",
            b"{\"value\":1,\"headers\":{\"a\":{\"b65\":\"AA==\"}}}",
            refusal(422, "/headers", &["unknown field `b65`"]),
        ),
        (
            "?value_format=binary",
            b"{\"value\":\"&\"}",
            refusal(422, "/value", &["not valid base64"]),
        ),
        (
            "?value_format=binary",
            b"[{\"value\":\"AA==\"},{\"value\":\"AA\"}]",
            refusal(422, "/1/value", &["not valid base64"]),
        ),
        (
            "?value_format=binary",
            b"{\"value\":7}",
            refusal(422, "/value", &["expected a base64 string"]),
        ),
        (
            "?key_format=binary",
            b"{\"key\":\"x\",\"value\":7}",
            refusal(422, "/key", &["not valid base64"]),
        ),
        (
            "?key_format=string",
            b"{\"key\":1,\"value\":7}",
            refusal(422, "/key", &["expected a JSON string"]),
        ),
        (
            "?value_format=string",
            b"{\"value\":{}}",
            refusal(422, "/value", &["expected a JSON string"]),
        ),
        (
            "",
            b"{\"key\":\"\\ud800\",\"value\":7}",
            refusal(422, "/key", &["expected a JSON string"]),
        ),
    ];
    for (query, body, expected) in &cases {
        let reply = victim.post(query, body.to_vec()).await;
        let what = format!("{query} {}", String::from_utf8_lossy(body));
        assert_refused(&reply, expected, &what);
    }
    victim.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_a_limit_is_refused() {
    let victim = Victim::start().await;
    let large = json!({"value": "x".repeat(RECORD_BYTES)});
    let many = vec![json!({"value": 1}); 51];
    let huge = json!({"value": "x".repeat(BODY_BYTES)}).to_string();

    let reply = victim.post("", large.to_string()).await;
    let limit = RECORD_BYTES.to_string();
    assert_refused(
        &reply,
        &refusal(413, "", &["bytes", &limit]),
        "one large record",
    );
    let body = json!([{"value": 1}, large]).to_string();
    let reply = victim.post("", body).await;
    assert_refused(
        &reply,
        &refusal(413, "/1", &[&limit]),
        "a large record of two",
    );
    let reply = victim.post("", Value::from(many).to_string()).await;
    assert_refused(&reply, &refusal(413, "", &["51", "50"]), "many records");

    let limit = BODY_BYTES.to_string();
    let says = [limit.as_str(), "http.max_body_bytes"];
    let expected = refusal(413, "", &says);
    let reply = victim.post("", huge.clone()).await;
    assert_refused(&reply, &expected, "a body with its length");
    assert_eq!(reply.header("connection"), "close");
    let chunks: Vec<Result<Vec<u8>, std::io::Error>> = huge
        .as_bytes()
        .chunks(1000)
        .map(|chunk| Ok(chunk.to_vec()))
        .collect();
    let stream = futures::stream::iter(chunks);
    let reply = victim.post("", reqwest::Body::wrap_stream(stream)).await;
    assert_refused(&reply, &expected, "a body without its length");

    // A client that asks first is told before it sends anything.
    let mut stream = victim.connect().await;
    let head = victim.head("content-length: 200000\r\nexpect: 100-continue\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (text, _) = until_closed(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");

    let missing = json!([{"value": 1}, {"value": 2, "partition": 2}]).to_string();
    let expected = Refusal {
        code: 40402,
        ..refusal(404, "/1/partition", &["no partition 2", "0 to 1"])
    };
    assert_refused(
        &victim.post("", missing).await,
        &expected,
        "a partition that is not there",
    );
    let missing = json!({"value": 2, "partition": 2_147_483_647}).to_string();
    let expected = Refusal {
        code: 40402,
        ..refusal(404, "/partition", &["no partition"])
    };
    assert_refused(
        &victim.post("", missing).await,
        &expected,
        "the last partition of all",
    );
    victim.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_that_are_not_spoken_are_refused() {
    let victim = Victim::start().await;
    let body = r#"{"value":1}"#;
    let form = "application/x-www-form-urlencoded";
    let cases = [
        (form, vec![form, "-H 'content-type: application/json'"]),
        (
            "multipart/form-data; boundary=x",
            vec!["multipart/form-data", "-H 'content-type: application/json'"],
        ),
    ];
    for (kind, says) in cases {
        let request = http::client()
            .post(victim.records())
            .header("content-type", kind)
            .body(body);
        let reply = http::send(request).await;
        let expected = refusal(415, "Content-Type", &says);
        assert_refused(&reply, &expected, kind);
        assert!(reply.header("accept").contains("application/json"));
    }

    let request = http::client()
        .post(victim.records())
        .header("content-type", "application/json")
        .header("accept", "text/html")
        .body(body);
    let reply = http::send(request).await;
    assert_refused(
        &reply,
        &refusal(406, "Accept", &["application/json"]),
        "accept",
    );
    victim.unharmed().await;

    let request = http::client()
        .post(victim.records())
        .header("content-type", "Application/JSON; charset=UTF-8")
        .body(body);
    assert_eq!(http::send(request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_lead_nowhere_are_refused() {
    let victim = Victim::start().await;
    let records = format!("/topics/{}/records", victim.topic);
    let long = "x".repeat(250);
    let other = Gateway::embedded().start().await;
    let url = other.url(&records);
    assert_eq!(http::post_text(&url, r#"{"value":1}"#).await.status, 200);
    let foreign = http::get(&url).await.json()["next"]
        .as_str()
        .unwrap()
        .to_owned();

    let invalid = |path: &str| (format!("/topics/{path}/records"), invalid_name());
    let cases = vec![
        (
            format!("{records}?from=yesterday"),
            refusal(400, "from", &["latest, earliest"]),
        ),
        (
            format!("{records}?from={foreign}"),
            refusal(400, "from", &["another cluster"]),
        ),
        (
            format!("{records}?form=earliest"),
            refusal(400, "form", &["unknown query parameter form", "from"]),
        ),
        (
            format!("{records}?from=earliest&from=latest"),
            refusal(400, "from", &["more than once"]),
        ),
        (
            format!("{records}?limit=0"),
            refusal(400, "limit", &["from 1 to 50"]),
        ),
        (
            format!("{records}?limit=51"),
            refusal(400, "limit", &["from 1 to 50"]),
        ),
        (
            format!("{records}?limit=x"),
            refusal(400, "limit", &["whole number"]),
        ),
        (
            format!("{records}?wait=25001"),
            refusal(400, "wait", &["from 0 to 25000"]),
        ),
        (
            format!("{records}?wait=-1"),
            refusal(400, "wait", &["whole number"]),
        ),
        (
            format!("{records}?until=noon"),
            refusal(400, "until", &["end"]),
        ),
        (
            format!("{records}?key_format=avro"),
            refusal(400, "key_format", &["auto, json, string or binary"]),
        ),
        (
            format!("{records}?from=%zz"),
            refusal(400, "from", &["percent-encoded"]),
        ),
        (
            format!("{records}?from=%ff"),
            refusal(400, "from", &["percent-encoded UTF-8"]),
        ),
        (
            format!("{records}?%e=1"),
            refusal(400, "query", &["percent-encoded"]),
        ),
        (
            "/topics/%ff/records".to_owned(),
            refusal(400, "path", &["UTF-8", "topic"]),
        ),
        invalid("%zz"),
        invalid("a%20b"),
        invalid("a%2Fb"),
        invalid("%00"),
        invalid(".."),
        invalid("t%C3%A9"),
        invalid(&long),
        (
            "/topics/none-such/records".to_owned(),
            Refusal {
                code: 40401,
                ..refusal(404, "topic", &["none-such does not exist"])
            },
        ),
        (
            "/".to_owned() + &long,
            refusal(404, "", &["there is no /xxx", "openapi.json"]),
        ),
        (
            "/topic".to_owned(),
            refusal(404, "", &["there is no /topic"]),
        ),
        (
            format!("{records}//"),
            refusal(404, "", &["there is no /topics/"]),
        ),
        (
            "/topics/a/b/records".to_owned(),
            refusal(404, "", &["there is no"]),
        ),
        ("//".to_owned(), refusal(404, "", &["there is no"])),
    ];
    for (path, expected) in &cases {
        // By hand: a client library would mend some of these.
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let reply = raw(&victim, request.as_bytes()).await;
        assert_refused(&reply, expected, path);
    }

    for (path, expected) in [
        (
            "?form=1",
            refusal(400, "form", &["unknown query parameter form"]),
        ),
        (
            "?value_format=x",
            refusal(400, "value_format", &["auto, json, string or binary"]),
        ),
    ] {
        assert_refused(&victim.post(path, r#"{"value":1}"#).await, &expected, path);
    }
    let url = victim.gateway.url("/topics/a%20b/records");
    let reply = http::post_text(&url, r#"{"value":1}"#).await;
    assert_refused(&reply, &invalid_name(), "a name with a space");
    victim.unharmed().await;
}

fn invalid_name() -> Refusal<'static> {
    Refusal {
        code: 40002,
        ..refusal(400, "topic", &["not a name that a topic can have"])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_that_a_path_does_not_take_are_refused() {
    let victim = Victim::start().await;
    let records = victim.records();
    let one = victim
        .gateway
        .url(&format!("/topics/{}/partitions/0/records/0", victim.topic));
    for (method, url, allowed) in [
        ("PATCH", &records, vec!["DELETE", "GET", "HEAD", "POST"]),
        ("PUT", &records, vec!["DELETE", "GET", "HEAD", "POST"]),
        ("BREW", &records, vec!["DELETE", "GET", "HEAD", "POST"]),
        ("POST", &one, vec!["GET", "HEAD"]),
        (
            "PATCH",
            &victim.gateway.url("/"),
            vec!["GET", "HEAD", "POST"],
        ),
        (
            "DELETE",
            &victim.gateway.url("/brokers"),
            vec!["GET", "HEAD"],
        ),
    ] {
        let method: reqwest::Method = method.parse().unwrap();
        let request = http::client()
            .request(method.clone(), url)
            .header("content-type", "application/json")
            .body(r#"{"value":1}"#);
        let reply = http::send(request).await;
        let what = format!("{method} {url}");
        assert_refused(&reply, &refusal(405, "", &["it takes", "GET"]), &what);
        let mut allow: Vec<&str> = reply.header("allow").split(',').map(str::trim).collect();
        allow.sort_unstable();
        assert_eq!(allow, allowed, "{what}");
    }
    victim.unharmed().await;
}
