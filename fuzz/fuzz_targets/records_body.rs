//! The JSON body of `POST /topics/{topic}/records`.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidegate::codec::encode;
use tidegate::codec::format::Format;
use tidegate::codec::parse::{self, Formats, Parsed};
use tidegate::record::{ConsumerRecord, TimestampType};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    key: u8,
    value: u8,
    body: &'a [u8],
}

fn format(number: u8) -> Format {
    match number % 4 {
        0 => Format::Auto,
        1 => Format::Json,
        2 => Format::String,
        _ => Format::Binary,
    }
}

fuzz_target!(|input: Input<'_>| {
    let formats = Formats {
        key: format(input.key),
        value: format(input.value),
    };
    let body = Bytes::copy_from_slice(input.body);
    let records = match parse::body(&body, formats) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
        Ok(Parsed::One(record)) => vec![record],
        Ok(Parsed::Many(records)) => records,
    };
    for (offset, record) in records.into_iter().enumerate() {
        assert!(record.timestamp.is_none_or(|ms| ms > 0));
        assert!(record.partition.is_none_or(|partition| partition >= 0));
        let is_json = matches!(formats.value, Format::Auto | Format::Json);
        let value = record.value.clone();
        let delivered = ConsumerRecord {
            topic: "t".into(),
            partition: 0,
            offset: offset as i64,
            timestamp: 1,
            timestamp_type: TimestampType::Create,
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        let mut out = Vec::new();
        encode::record(&mut out, &delivered, formats);
        serde_json::from_slice::<&serde_json::value::RawValue>(&out).expect("our own JSON");
        if let (true, Some(value)) = (is_json, value) {
            assert!(out.windows(value.len().max(1)).any(|w| w == &value[..]));
        }
    }
});
