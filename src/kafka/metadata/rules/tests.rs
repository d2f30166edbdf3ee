//! What configuration values ask of a record.

use super::*;

/// Some time in 2023.
const NOW: i64 = 1_700_000_000_000;

fn rules(values: &[(&str, &str)]) -> Rules {
    let configs: Vec<_> = values
        .iter()
        .map(|(name, value)| ConfigEntry {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
            is_default: false,
            is_read_only: false,
            is_sensitive: false,
            source: "DYNAMIC_TOPIC_CONFIG",
            synonyms: Vec::new(),
        })
        .collect();
    Rules::of(&configs)
}

fn keyed(value: usize) -> ProducerRecord {
    ProducerRecord {
        key: Some("k".into()),
        value: Some(vec![b'x'; value].into()),
        ..ProducerRecord::default()
    }
}

fn refused(rules: &Rules, record: &ProducerRecord) -> Option<&'static str> {
    let fault = rules.fault_in(record, NOW, false)?;
    assert!(!fault.retriable && !fault.maybe_written, "{fault:?}");
    fault.kafka_error
}

#[test]
fn a_compacted_topic_asks_for_keys() {
    let keyless = ProducerRecord {
        key: None,
        ..keyed(1)
    };
    let empty = ProducerRecord {
        key: Some("".into()),
        ..keyed(1)
    };
    for policy in ["compact", "compact,delete", "delete, compact"] {
        let rules = rules(&[("cleanup.policy", policy)]);
        assert_eq!(refused(&rules, &keyless), Some("INVALID_RECORD"));
        assert_eq!(refused(&rules, &empty), None, "an empty key is a key");
    }
    assert_eq!(
        refused(&rules(&[("cleanup.policy", "delete")]), &keyless),
        None
    );
    assert_eq!(refused(&rules(&[]), &keyless), None);
}

#[test]
fn a_size_is_judged_only_where_nothing_is_compressed() {
    let rules = rules(&[("max.message.bytes", "1000")]);
    assert_eq!(refused(&rules, &keyed(900)), None);
    // Between the two the broker decides: it counts some bytes of each record more.
    assert_eq!(refused(&rules, &keyed(939)), Some("MESSAGE_TOO_LARGE"));
    assert_eq!(rules.fault_in(&keyed(5000), NOW, true), None);
}

#[test]
fn timestamps_are_judged_with_room_for_wrong_clocks() {
    let at = |shift: i64| ProducerRecord {
        timestamp: Some(NOW + shift),
        ..keyed(1)
    };
    let newer = rules(&[
        ("message.timestamp.before.max.ms", "1000"),
        ("message.timestamp.after.max.ms", "5000"),
    ]);
    assert_eq!(refused(&newer, &at(-61_001)), Some("INVALID_TIMESTAMP"));
    assert_eq!(refused(&newer, &at(-61_000)), None);
    assert_eq!(refused(&newer, &at(65_000)), None);
    assert_eq!(refused(&newer, &at(65_001)), Some("INVALID_TIMESTAMP"));
    assert_eq!(
        refused(&newer, &at(i64::MAX - NOW)),
        Some("INVALID_TIMESTAMP")
    );
    assert_eq!(refused(&newer, &keyed(1)), None, "no time is now");

    let older = rules(&[("message.timestamp.difference.max.ms", "1000")]);
    assert_eq!(refused(&older, &at(-61_001)), Some("INVALID_TIMESTAMP"));
    assert_eq!(refused(&older, &at(61_001)), Some("INVALID_TIMESTAMP"));

    let none = i64::MAX.to_string();
    let both = rules(&[
        ("message.timestamp.before.max.ms", &none),
        ("message.timestamp.after.max.ms", "5000"),
        ("message.timestamp.difference.max.ms", "100000"),
    ]);
    assert_eq!(refused(&both, &at(-160_001)), Some("INVALID_TIMESTAMP"));
    assert_eq!(refused(&both, &at(-160_000)), None);
    assert_eq!(refused(&both, &at(65_001)), Some("INVALID_TIMESTAMP"));

    let broker = rules(&[
        ("message.timestamp.before.max.ms", "1000"),
        ("message.timestamp.type", "LogAppendTime"),
    ]);
    assert_eq!(refused(&broker, &at(-1_000_000)), None);
}
