//! Content negotiation: which of the types that a route offers the client asked for (RFC 9110,
//! sections 8.3 and 12.5.1).

use axum::http::{HeaderMap, StatusCode, header};

use super::error::ApiError;

/// The type and subtype of a `Content-Type`, in lower case and without parameters; `None` when the
/// header is missing or empty.
pub fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next()?.trim();
    (!essence.is_empty()).then(|| essence.to_ascii_lowercase())
}

/// Whether a body of this type is a stream of records, one on each line.
pub fn is_ndjson(headers: &HeaderMap) -> bool {
    matches!(
        content_type(headers).as_deref(),
        Some(
            "application/x-ndjson"
                | "application/ndjson"
                | "application/jsonl"
                | "application/json-lines"
        )
    )
}

/// The one of `offers` (in our order of preference) that `Accept` ranks highest; the first one when
/// there is no `Accept`.
///
/// # Errors
///
/// 406, naming the offers.
pub fn accept(headers: &HeaderMap, offers: &[&'static str]) -> Result<&'static str, ApiError> {
    let mut best: Option<(u16, &'static str)> = None;
    let mut asked = false;
    for value in headers.get_all(header::ACCEPT) {
        let Ok(value) = value.to_str() else {
            return Err(ApiError::bad_request("the Accept header is not ASCII").at("Accept"));
        };
        if !value.trim().is_empty() {
            asked = true;
        }
    }
    if !asked {
        return offers
            .first()
            .copied()
            .ok_or_else(|| ApiError::internal("no media type is offered for an answer"));
    }
    for offer in offers {
        let quality = quality(headers, offer);
        if quality > 0 && best.is_none_or(|(q, _)| quality > q) {
            best = Some((quality, offer));
        }
    }
    best.map(|(_, offer)| offer).ok_or_else(|| {
        ApiError::plain(
            StatusCode::NOT_ACCEPTABLE,
            format!("this path answers with {}", offers.join(", ")),
        )
        .at("Accept")
    })
}

/// How much the client wants `offer`, in thousandths: the most specific range that matches decides.
fn quality(headers: &HeaderMap, offer: &str) -> u16 {
    let (offer_type, _) = offer.split_once('/').unwrap_or((offer, ""));
    let mut found: Option<(u8, u16)> = None;
    for value in headers.get_all(header::ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let specific = if name == offer {
                3
            } else if name.strip_suffix("/*") == Some(offer_type) {
                2
            } else if name == "*/*" || name == "*" {
                1
            } else {
                continue;
            };
            let q = parts
                .find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")))
                .map_or(1000, thousandths);
            if found.is_none_or(|(s, old)| specific > s || (specific == s && q > old)) {
                found = Some((specific, q));
            }
        }
    }
    found.map_or(0, |(_, q)| q)
}

fn thousandths(q: &str) -> u16 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped first"
    )]
    let q = q
        .parse::<f32>()
        .map_or(1000, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16);
    q
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const OFFERS: &[&str] = &["application/json", "text/event-stream"];

    fn pick(accept_header: &str) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_str(accept_header).unwrap(),
        );
        accept(&headers, OFFERS).ok()
    }

    #[test]
    fn the_first_offer_is_the_default() {
        assert_eq!(
            accept(&HeaderMap::new(), OFFERS).ok(),
            Some("application/json")
        );
        assert_eq!(pick("*/*"), Some("application/json"));
        assert_eq!(pick(""), Some("application/json"));
        assert_eq!(pick("application/*"), Some("application/json"));
    }

    #[test]
    fn quality_and_specificity_decide() {
        assert_eq!(pick("text/event-stream"), Some("text/event-stream"));
        assert_eq!(
            pick("application/json;q=0.1, text/*"),
            Some("text/event-stream")
        );
        assert_eq!(
            pick("*/*;q=0.9, application/json;q=0"),
            Some("text/event-stream")
        );
        assert_eq!(pick("text/html, application/xhtml+xml"), None);
        assert_eq!(pick("application/json;q=0"), None);
    }

    #[test]
    fn a_refusal_names_the_offers() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("image/png"));
        let error = accept(&headers, OFFERS).unwrap_err();
        assert_eq!(error.status(), StatusCode::NOT_ACCEPTABLE);
        assert!(error.into_body().message.contains("text/event-stream"));
    }

    #[test]
    fn parameters_of_a_content_type_are_ignored() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("Application/JSON; charset=utf-8"),
        );
        assert_eq!(content_type(&headers).as_deref(), Some("application/json"));
    }
}
