//! Where a request carries its credentials, in the order in which they are looked for: the
//! `Authorization` header (RFC 6750, section 2.1; RFC 7617), `X-API-Key`, `?ticket=`, `?access_token=` where that is switched
//! on, a verified client certificate. A WebSocket may also carry a token as a subprotocol.

use axum::http::{HeaderMap, HeaderName, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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

/// The header of an API key, beside `Authorization: Bearer`.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a subprotocol that carries a token begins with.
const SUBPROTOCOL: &str = "tidegate.bearer.";

/// Credentials as text of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A token.
    Token(String),
    /// An API key that `X-API-Key` has.
    Key(String),
    /// A name and a password.
    Password(String, String),
    /// A ticket.
    Ticket(String),
    /// An `Authorization` header that is none of these.
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
            Self::Token(_) | Self::Key(_) | Self::Password(..) | Self::Other | Self::Nothing => {
                self.credential(certificate, page)
            }
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
            (Self::Key(key), _) => Credential::Key(key),
            (Self::Password(name, password), _) => Credential::Password(name, password),
            (Self::Ticket(ticket), _) => Credential::StreamTicket(ticket, page),
            (Self::Other, _) => Credential::Other,
            (Self::Nothing, Some(certificate)) => Credential::Certificate(certificate),
            (Self::Nothing, None) => Credential::None,
        }
    }
}

/// Which credentials are looked for beside those that are everywhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// `?access_token=`.
    pub query_token: bool,
    /// `X-API-Key`, which may be somebody else's where there are no keys.
    pub keys: bool,
}

/// Looks for credentials in a request's headers and query.
///
/// # Errors
///
/// 401 for a token in the query where that is not switched on.
pub fn find(headers: &HeaderMap, query: Option<&str>, looked: Looked) -> Result<Found, ApiError> {
    if let Some(found) = header_or_ticket(headers, query, looked) {
        return Ok(found);
    }
    if let Some(token) = parameter(query, "access_token") {
        if !looked.query_token {
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
pub fn find_at_upgrade(headers: &HeaderMap, query: Option<&str>, looked: Looked) -> Found {
    if let Some(found) = header_or_ticket(headers, query, looked) {
        return found;
    }
    if let Some(token) = subprotocol_token(headers) {
        return Found::Token(token.to_owned());
    }
    let token = parameter(query, "access_token").filter(|_| looked.query_token);
    token.map_or(Found::Nothing, Found::Token)
}

/// What comes first everywhere: `Authorization`, `X-API-Key`, and then a ticket.
fn header_or_ticket(headers: &HeaderMap, query: Option<&str>, looked: Looked) -> Option<Found> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let found = value.to_str().ok().and_then(authorization);
        return Some(found.unwrap_or(Found::Other));
    }
    if looked.keys
        && let Some(value) = headers.get(API_KEY)
    {
        // One that cannot be read is not a key, and nothing else is looked for.
        let key = value.to_str().unwrap_or_default().trim();
        return Some(Found::Key(key.to_owned()));
    }
    parameter(query, "ticket").map(Found::Ticket)
}

/// What an `Authorization` header has.
fn authorization(value: &str) -> Option<Found> {
    let (scheme, rest) = value.trim().split_once(' ')?;
    let rest = rest.trim();
    if rest.is_empty() {
        None
    } else if scheme.eq_ignore_ascii_case("bearer") {
        Some(Found::Token(rest.to_owned()))
    } else if scheme.eq_ignore_ascii_case("basic") {
        let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        let (name, password) = text.split_once(':')?;
        Some(Found::Password(name.to_owned(), password.to_owned()))
    } else {
        None
    }
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

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    fn in_query(query_token: bool) -> Looked {
        Looked {
            query_token,
            ..Looked::default()
        }
    }

    #[test]
    fn a_name_and_a_password_or_a_key_may_be_shown() {
        let ann = || Found::Password("ann".into(), "a:b".into());
        assert_eq!(bearer("Basic YW5uOmE6Yg=="), Ok(ann()));
        assert_eq!(bearer("basic  YW5uOmE6Yg== "), Ok(ann()));
        // No colon, no base64, no UTF-8.
        for bad in ["Basic YW5u", "Basic YW5uOmE6Yg", "Basic /zo=", "Basic"] {
            assert_eq!(bearer(bad), Ok(Found::Other), "{bad}");
        }
        let keyed = headers(API_KEY, "tgk_x");
        let found = |keys| {
            let looked = Looked {
                keys,
                ..Looked::default()
            };
            find(&keyed, Some("ticket=t"), looked).map_err(|e| e.status())
        };
        assert_eq!(found(true), Ok(Found::Key("tgk_x".into())));
        assert_eq!(found(false), Ok(Found::Ticket("t".into())));
    }

    fn bearer(value: &str) -> Result<Found, StatusCode> {
        find(
            &headers(header::AUTHORIZATION, value),
            None,
            Looked::default(),
        )
        .map_err(|e| e.status())
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
            in_query(true),
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
        let found =
            |query, allowed| find(&none, Some(query), in_query(allowed)).map_err(|e| e.status());
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
        let found = |headers, query| find_at_upgrade(headers, query, Looked::default());
        assert_eq!(found(&offered, None), Found::Token("a.b.c".into()));
        assert_eq!(found(&offered, Some("ticket=t")), Found::Ticket("t".into()));
        assert_eq!(found(&bare, Some("access_token=a")), Found::Nothing);
    }
}
