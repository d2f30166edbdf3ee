//! The media types of this API: one for what is said about Kafka, and one for each format that
//! keys and values are embedded in.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};

pub use crate::codec::embedded::Embedded;
use crate::http::error::ApiError;
use crate::http::negotiate;

/// What every answer but records has, and every request but those with records.
pub const V2: &str = "application/vnd.kafka.v2+json";
/// Records whose keys and values are base64.
pub const BINARY: &str = "application/vnd.kafka.binary.v2+json";
/// Records whose keys and values are JSON.
pub const JSON: &str = "application/vnd.kafka.json.v2+json";
/// Records whose keys and values are text in UTF-8, as JSON strings. Strimzi's bridge has it, Confluent REST Proxy
/// has not.
pub const TEXT: &str = "application/vnd.kafka.text.v2+json";
/// Names of the two from before v2, whose bodies of records are the same: Karapace takes them, and older clients
/// send them.
const OLD_BINARY: [&str; 2] = [
    "application/vnd.kafka.binary.v1+json",
    "application/vnd.kafka.binary+json",
];
const OLD_JSON: [&str; 2] = [
    "application/vnd.kafka.json.v1+json",
    "application/vnd.kafka.json+json",
];
/// Plain JSON, for callers that cannot set another type.
pub const PLAIN: &str = "application/json";

/// Records with a schema.
pub const AVRO: &str = "application/vnd.kafka.avro.v2+json";
/// The same.
pub const JSON_SCHEMA: &str = "application/vnd.kafka.jsonschema.v2+json";
/// The same.
pub const PROTOBUF: &str = "application/vnd.kafka.protobuf.v2+json";

/// The type of the answer: this API's own unless plain JSON was asked for.
///
/// # Errors
///
/// 406, naming the two.
pub fn of_answer(headers: &HeaderMap) -> Result<&'static str, ApiError> {
    negotiate::accept(headers, &[V2, PLAIN])
}

/// The format that the `Content-Type` of a body of records names.
///
/// # Errors
///
/// 415 also when there is none, since bytes that are taken for what they are not are lost: naming the types
/// that are read and, for plain JSON, the API that reads it.
pub fn of_records(headers: &HeaderMap) -> Result<Embedded, ApiError> {
    match type_of(headers)?.as_deref() {
        None => Err(unsupported(
            headers,
            format!(
                "there is no Content-Type, and it says how keys and values are written; send {JSON}, \
                 {BINARY} or {TEXT}"
            ),
        )),
        Some(BINARY) => Ok(Embedded::Binary),
        Some(JSON) => Ok(Embedded::Json),
        Some(known) if OLD_BINARY.contains(&known) => Ok(Embedded::Binary),
        Some(known) if OLD_JSON.contains(&known) => Ok(Embedded::Json),
        Some(TEXT) => Ok(Embedded::Text),
        Some(AVRO) => Ok(Embedded::Schema("Avro")),
        Some(JSON_SCHEMA) => Ok(Embedded::Schema("JSON Schema")),
        Some(PROTOBUF) => Ok(Embedded::Schema("Protobuf")),
        Some(PLAIN) => Err(unsupported(
            headers,
            format!(
                "{PLAIN} does not say how keys and values are written; send {JSON} or {BINARY}, or \
                 post plain JSON to /topics/{{topic}}/records"
            ),
        )),
        Some(V2) => Err(unsupported(
            headers,
            format!("{V2} does not say how keys and values are written; send {JSON} or {BINARY}"),
        )),
        // What curl sends with -d or -F when it is not told otherwise.
        Some(form @ ("application/x-www-form-urlencoded" | "multipart/form-data")) => {
            Err(unsupported(
                headers,
                format!("the body came as {form}; with curl, add -H 'content-type: {JSON}'"),
            ))
        }
        Some(other) => Err(unsupported(
            headers,
            format!("{other} is not read here; {JSON}, {BINARY} and {TEXT} are"),
        )),
    }
}

/// Whether the `Content-Type` is one that a request without records may have.
///
/// # Errors
///
/// 415, naming them.
pub fn of_request(headers: &HeaderMap) -> Result<(), ApiError> {
    match type_of(headers)?.as_deref() {
        None | Some(V2 | PLAIN) => Ok(()),
        Some(other) => Err(unsupported(
            headers,
            format!("{other} is not read here; {V2} is"),
        )),
    }
}

/// The type of an answer about a consumer instance that has no records in it.
///
/// # Errors
///
/// 406, naming those that are offered.
pub fn of_consumer_answer(headers: &HeaderMap) -> Result<&'static str, ApiError> {
    negotiate::accept(
        headers,
        &[V2, PLAIN, BINARY, AVRO, JSON, TEXT, JSON_SCHEMA, PROTOBUF],
    )
}

/// Whether the `Content-Type` is one that a request about a consumer instance may have: as in
/// Confluent REST Proxy, that of any format of records too.
///
/// # Errors
///
/// 415, naming the one to use.
pub fn of_consumer_request(headers: &HeaderMap) -> Result<(), ApiError> {
    match type_of(headers)?.as_deref() {
        Some(BINARY | JSON | TEXT | AVRO | JSON_SCHEMA | PROTOBUF) => Ok(()),
        _ => of_request(headers),
    }
}

/// The type of an answer with the records of an instance whose format is `format`: the format's own
/// unless a type was asked for that does not say how keys and values stand in it.
///
/// # Errors
///
/// 406 with 40601 when another format was asked for; 406 when nothing that is offered was.
pub fn of_instance(headers: &HeaderMap, format: Embedded) -> Result<&'static str, ApiError> {
    let (own, name) = match format {
        Embedded::Binary => (BINARY, "binary"),
        Embedded::Json => (JSON, "json"),
        Embedded::Text => (TEXT, "text"),
        Embedded::Schema(name) => (V2, name),
    };
    negotiate::accept(headers, &[own, V2, PLAIN]).map_err(|refused| {
        let others = [BINARY, JSON, TEXT, AVRO, JSON_SCHEMA, PROTOBUF];
        match negotiate::accept(headers, &others) {
            Ok(other) => ApiError::new(
                StatusCode::NOT_ACCEPTABLE,
                40601,
                format!(
                    "the instance was made with the format {name}, which is {own}, not {other}"
                ),
            )
            .at("Accept"),
            Err(_) => refused,
        }
    })
}

/// The type of an answer with the records of a partition, and the format that it names; binary unless another
/// was asked for.
///
/// # Errors
///
/// 406, naming those that are offered.
pub fn of_partition(headers: &HeaderMap) -> Result<(&'static str, Embedded), ApiError> {
    let kind = negotiate::accept(headers, &[BINARY, JSON, TEXT])?;
    let format = match kind {
        JSON => Embedded::Json,
        TEXT => Embedded::Text,
        _ => Embedded::Binary,
    };
    Ok((kind, format))
}

fn type_of(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let kind = negotiate::content_type(headers);
    let is_given = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| !value.as_bytes().trim_ascii().is_empty());
    if kind.is_none() && is_given {
        let message = "the Content-Type is not a media type";
        return Err(unsupported(headers, message.to_owned()));
    }
    Ok(kind)
}

fn unsupported(headers: &HeaderMap, message: String) -> ApiError {
    const TAKEN: HeaderValue = HeaderValue::from_static(
        "application/vnd.kafka.json.v2+json, application/vnd.kafka.binary.v2+json, \
         application/vnd.kafka.text.v2+json",
    );
    ApiError::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
        .at("Content-Type")
        .header(header::ACCEPT, TAKEN)
        .typed(of_refusal(headers))
}

/// The type of a 415, which comes before `Accept` is weighed: the first of the two that `Accept`
/// names as such, else plain JSON.
fn of_refusal(headers: &HeaderMap) -> &'static str {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .find_map(|range| {
            [V2, PLAIN]
                .into_iter()
                .find(|kind| range.trim().eq_ignore_ascii_case(kind))
        })
        .unwrap_or(PLAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn sent_as(kind: &str) -> Result<Embedded, ApiError> {
        of_records(&headers(&[(header::CONTENT_TYPE, kind)]))
    }

    #[test]
    fn the_content_type_names_the_format() {
        assert_eq!(sent_as(BINARY).unwrap(), Embedded::Binary);
        assert_eq!(sent_as(JSON).unwrap(), Embedded::Json);
        assert_eq!(
            sent_as("Application/VND.kafka.json.v2+json ; charset=utf-8").unwrap(),
            Embedded::Json
        );
        assert_eq!(
            sent_as("application/vnd.kafka.json.v1+json").unwrap(),
            Embedded::Json
        );
        assert_eq!(
            sent_as("application/vnd.kafka.binary+json").unwrap(),
            Embedded::Binary
        );
        assert_eq!(sent_as(TEXT).unwrap(), Embedded::Text);
        assert_eq!(sent_as(AVRO).unwrap(), Embedded::Schema("Avro"));
    }

    #[test]
    fn other_types_are_refused_with_the_ones_that_are_read() {
        for kind in [
            V2,
            PLAIN,
            "application/octet-stream",
            "application/vnd.kafka+json",
            "application/vnd.kafka.json.v3+json",
            "text/plain",
            ";",
            "",
        ] {
            let error = sent_as(kind).unwrap_err();
            assert_eq!(error.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
        }
        let error = of_records(&HeaderMap::new()).unwrap_err().into_body();
        for kind in [JSON, BINARY, TEXT] {
            assert!(error.message.contains(kind), "{error:?}");
        }
        let error = sent_as(PLAIN).unwrap_err().into_body();
        assert!(
            error.message.contains("/topics/{topic}/records"),
            "{error:?}"
        );
    }

    #[test]
    fn a_refusal_takes_the_first_type_that_accept_names() {
        for (accept, kind) in [
            ("", PLAIN),
            ("*/*", PLAIN),
            (V2, V2),
            (
                "text/html, application/vnd.kafka.v2+json;q=0.1, application/json",
                V2,
            ),
            ("application/json, application/vnd.kafka.v2+json", PLAIN),
        ] {
            assert_eq!(of_refusal(&headers(&[(header::ACCEPT, accept)])), kind);
        }
    }
}
