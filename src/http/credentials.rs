//! Where a request carries its credentials, in the order in which they are looked for: the
//! `Authorization` header (RFC 6750, section 2.1), `?ticket=`, `?access_token=` where that is switched
//! on, a verified client certificate. A WebSocket may also carry a token as a subprotocol.

use axum::http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

use super::error::ApiError;
use crate::auth::certificate::ClientCertificate;
use crate::auth::{Credential, Page};

/// Query parameters that carry credentials: no handler gets to see them, nor does a log.
pub const QUERY_CREDENTIALS: [&str; 2] = ["ticket", "access_token"];

/// Whether a query carries credentials, whatever they are worth.
pub fn are_in(query: Option<&str>) -> bool {
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    let mut names = pairs.filter_map(|pair| pair.split('=').next());
    names.any(|name| {
        let name = percent_decode_str(name).decode_utf8_lossy();
        QUERY_CREDENTIALS.contains(&&*name)
    })
}

/// What a subprotocol that carries a token begins with.
const SUBPROTOCOL: &str = "tidegate.bearer.";

/// Credentials as text of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A token.
    Token(String),
    /// A ticket.
    Ticket(String),
    /// An `Authorization` header that is no bearer token.
    Other,
    /// Neither.
    Nothing,
}

impl Found {
    /// As the authenticator takes it at a WebSocket's upgrade by this page.
    pub fn of_websocket<'a>(
        &'a self,
        certificate: Option<&'a ClientCertificate>,
        page: Page<'a>,
    ) -> Credential<'a> {
        match self {
            Self::Ticket(ticket) => Credential::WebSocketTicket(ticket, page),
            Self::Token(_) | Self::Other | Self::Nothing => self.credential(certificate, page),
        }
    }

    /// As the authenticator takes it; `certificate` is what the connection has shown.
    pub fn credential<'a>(
        &'a self,
        certificate: Option<&'a ClientCertificate>,
        page: Page<'a>,
    ) -> Credential<'a> {
        match (self, certificate) {
            (Self::Token(token), _) => Credential::Token(token),
            (Self::Ticket(ticket), _) => Credential::StreamTicket(ticket, page),
            (Self::Other, _) => Credential::Other,
            (Self::Nothing, Some(certificate)) => Credential::Certificate(certificate),
            (Self::Nothing, None) => Credential::None,
        }
    }
}

/// Looks for credentials in a request's headers and query.
///
/// # Errors
///
/// 401 for a token in the query where that is not switched on.
pub fn find(
    headers: &HeaderMap,
    query: Option<&str>,
    allows_query_token: bool,
) -> Result<Found, ApiError> {
    if let Some(found) = bearer_or_ticket(headers, query) {
        return Ok(found);
    }
    if let Some(token) = parameter(query, "access_token") {
        if !allows_query_token {
            return Err(ApiError::unauthenticated(
                Some("invalid_request"),
                "tokens in the query are not accepted (auth.allow_query_token): they end up in \
                 logs. Use a header, or a ticket from POST /tickets",
            ));
        }
        return Ok(Found::Token(token));
    }
    Ok(Found::Nothing)
}

/// The same at a WebSocket's upgrade, where a subprotocol may be a token, and a token in the query is
/// passed over where that is not switched on: the first frame may still carry one.
pub fn find_at_upgrade(
    headers: &HeaderMap,
    query: Option<&str>,
    allows_query_token: bool,
) -> Found {
    if let Some(found) = bearer_or_ticket(headers, query) {
        return found;
    }
    if let Some(token) = subprotocol_token(headers) {
        return Found::Token(token.to_owned());
    }
    let token = parameter(query, "access_token").filter(|_| allows_query_token);
    token.map_or(Found::Nothing, Found::Token)
}

/// What comes first everywhere: a bearer token, and then a ticket.
fn bearer_or_ticket(headers: &HeaderMap, query: Option<&str>) -> Option<Found> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return parameter(query, "ticket").map(Found::Ticket);
    };
    let token = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    Some(match token {
        Some(token) if !token.is_empty() => Found::Token(token.to_owned()),
        _ => Found::Other,
    })
}

/// The token among the subprotocols that a WebSocket client offers, which stands beside
/// `tidegate.v1`.
fn subprotocol_token(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(SUBPROTOCOL))
        .filter(|token| !token.is_empty())
}

fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let value = query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then_some(value)
    })?;
    let value = percent_decode_str(value).decode_utf8().ok()?;
    (!value.is_empty()).then(|| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderValue, StatusCode};

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    fn bearer(value: &str) -> Result<Found, StatusCode> {
        find(&headers(header::AUTHORIZATION, value), None, false).map_err(|e| e.status())
    }

    #[test]
    fn the_header_comes_first() {
        assert_eq!(bearer("Bearer abc"), Ok(Found::Token("abc".into())));
        assert_eq!(bearer("bearer  abc "), Ok(Found::Token("abc".into())));
        for bad in ["Basic abc", "Bearer", "Bearer ", "abc", ""] {
            assert_eq!(bearer(bad), Ok(Found::Other), "{bad}");
        }
        let both = find(
            &headers(header::AUTHORIZATION, "Bearer a"),
            Some("ticket=b"),
            true,
        );
        assert_eq!(both.ok(), Some(Found::Token("a".into())));
    }

    #[test]
    fn credentials_in_a_query_are_noticed_however_they_are_written() {
        for query in [
            "access_token=a",
            "from=1&ticket=b",
            "ticket",
            "access_token=&x=1",
            "%61ccess_token=a",
        ] {
            assert!(are_in(Some(query)), "{query}");
        }
        for query in [
            None,
            Some(""),
            Some("from=1"),
            Some("x=ticket"),
            Some("tickets=1"),
        ] {
            assert!(!are_in(query), "{query:?}");
        }
    }

    #[test]
    fn the_query_may_have_a_ticket_and_where_allowed_a_token() {
        let none = HeaderMap::new();
        let found = |query, allowed| find(&none, Some(query), allowed).map_err(|e| e.status());
        assert_eq!(
            found("from=1&ticket=a%2Bb&x=", false),
            Ok(Found::Ticket("a+b".into()))
        );
        assert_eq!(found("access_token=a", true), Ok(Found::Token("a".into())));
        assert_eq!(
            found("access_token=a", false),
            Err(StatusCode::UNAUTHORIZED)
        );
        assert_eq!(found("tickets=a&ticket=", false), Ok(Found::Nothing));
    }

    #[test]
    fn a_websocket_offers_its_token_as_a_subprotocol() {
        let offered = headers(
            header::SEC_WEBSOCKET_PROTOCOL,
            "tidegate.v1, tidegate.bearer.a.b.c",
        );
        assert_eq!(subprotocol_token(&offered), Some("a.b.c"));
        let bare = headers(
            header::SEC_WEBSOCKET_PROTOCOL,
            "tidegate.v1, tidegate.bearer.",
        );
        assert_eq!(subprotocol_token(&bare), None);
        let found = |headers, query| find_at_upgrade(headers, query, false);
        assert_eq!(found(&offered, None), Found::Token("a.b.c".into()));
        assert_eq!(found(&offered, Some("ticket=t")), Found::Ticket("t".into()));
        assert_eq!(found(&bare, Some("access_token=a")), Found::Nothing);
    }
}
