use super::*;
use crate::record::Unplaced;

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn fields_stand_in_the_order_of_confluent_rest_proxy() {
    let at = RecordMetadata {
        partition: 3,
        offset: Ok(42),
        timestamp: 1_700_000_000_000,
    };
    let parts = Parts {
        key: Some(Part::new(
            DataType::Binary,
            Some(&Bytes::from_static(b"abc")),
        )),
        value: Some(Part::new(DataType::Json, None)),
    };
    assert_eq!(
        text(|out| written(out, "c-1", "orders", parts, &at)),
        "\"cluster_id\":\"c-1\",\"topic_name\":\"orders\",\"partition_id\":3,\"offset\":42,\
         \"timestamp\":\"2023-11-14T22:13:20.000Z\",\"key\":{\"type\":\"BINARY\",\"size\":3},\
         \"value\":{\"type\":\"JSON\",\"size\":-1}"
    );
}

#[test]
fn what_is_not_known_is_left_out() {
    let at = RecordMetadata {
        partition: 0,
        offset: Err(Unplaced::Retried),
        timestamp: i64::MAX,
    };
    assert_eq!(
        text(|out| written(out, "c", "t", Parts::default(), &at)),
        "\"cluster_id\":\"c\",\"topic_name\":\"t\",\"partition_id\":0,\"offset\":null,\
         \"offset_unknown\":\"retried\""
    );
}

#[test]
fn an_error_says_what_may_have_happened() {
    let fault = Fault {
        maybe_written: true,
        kafka_error: Some("REQUEST_TIMED_OUT"),
        ..Fault::new(FaultKind::TimedOut, "no \"answer\"")
    };
    assert_eq!(
        text(|out| failed(out, refused(&fault))),
        "\"error_code\":50003,\"message\":\"no \\\"answer\\\"\",\
         \"kafka_error\":\"REQUEST_TIMED_OUT\",\"maybe_written\":true"
    );
}

#[test]
fn records_have_the_error_codes_of_confluent_rest_proxy() {
    let code = |fault: &Fault| refused(fault).into_body().error_code;
    // MESSAGE_TOO_LARGE, INVALID_TOPIC_EXCEPTION, NOT_ENOUGH_REPLICAS, TOPIC_AUTHORIZATION_FAILED,
    // SASL_AUTHENTICATION_FAILED, POLICY_VIOLATION, INVALID_RECORD, THROTTLING_QUOTA_EXCEEDED
    for (protocol, expected) in [
        (10, 413),
        (17, 40002),
        (19, 50003),
        (29, 40301),
        (58, 40101),
        (44, 50002),
        (87, 50002),
        (89, 42901),
    ] {
        let fault = Fault::from_protocol_code(protocol, None);
        assert_eq!(code(&fault), expected, "{protocol}");
    }
    assert_eq!(code(&Fault::unknown_topic("t")), 40401);
    assert_eq!(code(&Fault::unknown_partition("t", 7, 3)), 40401);
    assert_eq!(code(&Fault::kept_by_kafka("__consumer_offsets")), 40301);
    for (kind, expected) in [
        (FaultKind::QueueFull, 50003),
        (FaultKind::Unavailable, 50003),
        (FaultKind::TimedOut, 50003),
        (FaultKind::StorageFull, 507),
        (FaultKind::ReservedHeader, 50002),
        (FaultKind::Other, 50002),
    ] {
        assert_eq!(code(&Fault::new(kind, "no")), expected, "{kind:?}");
    }
    let rejected = rejected(WriteError::Kafka(Fault::unknown_topic("t")));
    assert_eq!(rejected.into_body().error_code, 40401);
}
