use super::*;
use crate::kafka::fault::{Fault, FaultKind};
use crate::record::RecordMetadata;

fn read_text(json: &str) -> Result<Batch, ApiError> {
    read(&Bytes::copy_from_slice(json.as_bytes()), 3)
}

fn refusal(json: &str) -> (u16, u32) {
    let error = read_text(json).unwrap_err();
    (error.status().as_u16(), error.into_body().error_code)
}

fn with_id(id: &str) -> String {
    format!("{{\"entries\":[{{\"id\":{id}}}]}}")
}

#[test]
fn a_batch_needs_entries_with_ids_of_their_own() {
    for json in [
        "",
        " \n",
        "{}",
        "{\"entries\":null}",
        "{\"entries\":[]}",
        "{\"entries\":[{}]}",
        r#"{"entries":[{"id":"1"},{"id":"2"},{"id":"3"},{"id":"4"}]}"#,
        r#"{"entries":[{"id":"1"},{"id":"1"}]}"#,
    ] {
        assert_eq!(refusal(json), (422, 42208), "{json}");
    }
    let long = format!("\"{}\"", "x".repeat(81));
    for id in [
        "null", "1", "\"\"", "\"a b\"", "\"é\"", "\"a.b\"", "[]", &long,
    ] {
        assert_eq!(refusal(&with_id(id)), (422, 42208), "{id}");
    }
    let longest = format!("\"{}\"", "x".repeat(80));
    for id in ["\"1\"", "\"a-B_9\"", "\"\\u0061\"", &longest] {
        let batch = read_text(&with_id(id)).unwrap();
        assert_eq!((batch.entries.len(), batch.records.len()), (1, 1), "{id}");
    }
}

#[test]
fn what_is_no_batch_is_refused_as_a_whole() {
    for (json, expected) in [
        ("{", (400, 400)),
        ("{\"entries\":[}", (400, 400)),
        ("[]", (400, 400)),
        ("[[{\"id\":\"1\"}]]", (400, 400)),
        ("{\"entries\":{}}", (400, 400)),
        ("{\"entries\":[1]}", (400, 400)),
        ("{\"entries\":[{\"id\":\"1\"}],\"x\":1}", (422, 422)),
        ("{\"entries\":[],\"entries\":[]}", (422, 422)),
    ] {
        assert_eq!(refusal(json), expected, "{json}");
    }
}

#[test]
fn an_entry_that_is_unfit_leaves_the_others() {
    let batch = read_text(
        r#"{"entries":[
            {"id":"a","value":{"type":"BINARY","data":"!"}},
            {"id":"b","value":{"type":"STRING","data":"x"}},
            {"id":"c","valeu":1}
        ]}"#,
    )
    .unwrap();
    let codes: Vec<_> = batch
        .entries
        .into_iter()
        .map(|entry| {
            (
                entry.id,
                entry.record.err().map(|e| e.into_body().error_code),
            )
        })
        .collect();
    assert_eq!(
        codes,
        [
            ("a".to_owned(), Some(400)),
            ("b".to_owned(), None),
            ("c".to_owned(), Some(400))
        ]
    );
    let values: Vec<_> = batch.records.into_iter().map(|r| r.value).collect();
    assert_eq!(values, [Some(Bytes::from_static(b"x"))]);
}

async fn answered(
    entries: Vec<Entry>,
    outcomes: Result<Vec<Outcome>, ApiError>,
) -> (Response<()>, String) {
    let (parts, body) = answer("c-1", "orders", entries, outcomes).into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    (Response::from_parts(parts, ()), text)
}

fn entry(id: &str, record: Result<Parts, ApiError>) -> Entry {
    Entry {
        id: id.to_owned(),
        record,
    }
}

fn at(offset: i64) -> Outcome {
    Ok(RecordMetadata {
        partition: 0,
        offset: Ok(offset),
        timestamp: 1_700_000_000_123,
    })
}

#[tokio::test]
async fn successes_and_failures_stand_apart_in_the_order_of_the_request() {
    let none = Parts::default();
    let fault = Fault::new(FaultKind::TooLarge, "too large");
    let entries = vec![
        entry("a", Ok(none)),
        entry("b", Err(ApiError::bad_request("no"))),
        entry("c", Ok(none)),
        entry("d", Ok(none)),
    ];
    let outcomes = vec![at(1), Err(Box::new(fault)), at(2)];
    let (response, text) = answered(entries, Ok(outcomes)).await;
    assert_eq!(response.status(), StatusCode::MULTI_STATUS);
    assert_eq!(response.headers()[FAILED_RECORDS], "2");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    let place = "\"cluster_id\":\"c-1\",\"topic_name\":\"orders\",\"partition_id\":0";
    let time = "\"timestamp\":\"2023-11-14T22:13:20.123Z\"";
    assert_eq!(
        text,
        format!(
            "{{\"successes\":[{{\"id\":\"a\",{place},\"offset\":1,{time}}},\
             {{\"id\":\"d\",{place},\"offset\":2,{time}}}],\
             \"failures\":[{{\"id\":\"b\",\"error_code\":400,\"message\":\"no\"}},\
             {{\"id\":\"c\",\"error_code\":413,\"message\":\"too large\"}}]}}"
        )
    );
}

#[tokio::test]
async fn what_holds_for_the_topic_is_said_of_each_entry() {
    let entries = vec![
        entry("a", Ok(Parts::default())),
        entry("b", Ok(Parts::default())),
    ];
    let unknown = answer::refused(&Fault::unknown_topic("orders"));
    let (_, text) = answered(entries, Err(unknown)).await;
    let body: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["successes"], serde_json::json!([]));
    let codes: Vec<_> = body["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["error_code"])
        .collect();
    assert_eq!(codes, [40401, 40401]);
}

#[tokio::test]
async fn an_answer_without_failures_has_both_lists() {
    let (response, text) = answered(vec![entry("a", Ok(Parts::default()))], Ok(vec![at(1)])).await;
    assert!(!response.headers().contains_key(FAILED_RECORDS));
    assert!(text.ends_with("}],\"failures\":[]}"), "{text}");
}
