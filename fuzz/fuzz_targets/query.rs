//! Query strings, with the parameters of the records API.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::codec::format::Format;
use tidegate::http::error::ApiError;
use tidegate::http::extract::Query;

fn read(text: &str) -> Result<(), ApiError> {
    let mut query = Query::parse(text)?;
    query.take("from")?;
    if let Some(limit) = query.take_number("limit", 1..=10_000)? {
        assert!((1..=10_000).contains(&limit));
    }
    query.take_number("wait", 0..=25_000)?;
    query.take_as::<Format>("value_format", Format::EXPECTED)?;
    query.finish()
}

fuzz_target!(|text: &str| {
    if let Err(error) = read(text) {
        assert_eq!(error.status().as_u16(), 400);
        assert!(error.into_body().field.is_some());
    }
});
