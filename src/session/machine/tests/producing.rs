//! Records that a client writes.

use std::time::Duration;

use serde_json::json;

use super::Play;
use crate::kafka::fault::{Fault, FaultKind};
use crate::record::{RecordMetadata, Unplaced};
use crate::session::effect::Effect;
use crate::write::WriteError;

#[test]
fn records_are_written_and_each_request_is_answered_once() {
    let mut play = Play::open();
    play.send(json!({"type": "produce", "id": "p", "topic": "t",
        "records": [{"value": 1}, {"key": "no value"}, {"value": 2}]}));
    let Some(Effect::Produce {
        ticket, records, ..
    }) = play.effects.pop()
    else {
        panic!("nothing to write");
    };
    assert_eq!(records.len(), 2);
    play.send(json!({"type": "produce", "id": "p", "topic": "t", "records": [{"value": 1}]}));
    assert_eq!(play.frame()["code"], "duplicate_id");
    let written = |offset| {
        Ok(RecordMetadata {
            partition: 0,
            offset,
            timestamp: 1,
        })
    };
    let too_large = Err(Box::new(Fault::new(FaultKind::TooLarge, "too large")));
    play.session
        .produced(ticket, Ok(vec![written(Ok(4)), too_large]), play.now);
    let produced = play.frame();
    assert_eq!(produced["results"][0]["offset"], 4);
    assert_eq!(produced["results"][1]["error"]["code"], "invalid_record");
    assert_eq!(produced["results"][1]["error"]["field"], "/records/1/value");
    assert_eq!(produced["results"][2]["error"]["code"], "message_too_large");
    play.send(json!({"type": "produce", "id": "p", "topic": "t", "records": [{"value": 1}]}));
    let again = play.frame();
    assert_eq!(again["duplicate"], true);
    assert_eq!(again["results"], produced["results"]);

    // It is in the topic, but the broker does not say where.
    play.send(json!({"type": "produce", "id": "q", "topic": "t", "records": [{"value": 3}]}));
    let Some(Effect::Produce { ticket, .. }) = play.effects.pop() else {
        panic!("nothing to write");
    };
    let retried = vec![written(Err(Unplaced::Retried))];
    play.session.produced(ticket, Ok(retried), play.now);
    let produced = play.frame();
    let expected =
        json!({"partition": 0, "offset": null, "offset_unknown": "retried", "timestamp": 1});
    assert_eq!(produced["results"], json!([expected]));
}

#[test]
fn an_impossible_topic_name_is_an_invalid_frame_with_its_field() {
    let mut play = Play::open();
    play.send(json!({"type": "produce", "id": 1, "topic": "t/", "records": [{"value": 1}]}));
    let Some(Effect::Produce { ticket, .. }) = play.effects.pop() else {
        panic!("nothing to write");
    };
    let fault = crate::kafka::metadata::check_topic_name("t/").unwrap_err();
    let rejected = Err(WriteError::Kafka(fault));
    play.session.produced(ticket, rejected, play.now);
    let error = play.frame();
    assert_eq!(
        (&error["code"], &error["field"]),
        (&json!("invalid_frame"), &json!("topic"))
    );
}

#[test]
fn a_request_beyond_the_window_is_not_written() {
    let mut play = Play::open();
    for id in 0..=100 {
        play.send(json!({"type": "produce", "id": id, "topic": "t", "records": [{"value": 1}]}));
    }
    assert_eq!(play.effects.len(), 100);
    let error = play.frame();
    assert_eq!(error["code"], "produce_overrun");
    assert_eq!(error["id"], 100);
    play.pass(Duration::from_secs(31));
    play.send(json!({"type": "produce", "id": 200, "topic": "t", "records": [{"value": 1}]}));
    assert_eq!(play.goodbye(), 4008);
}
