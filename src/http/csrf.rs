//! Keeps web pages of other sites out (cross-site request forgery). Stands once around the whole router, so
//! that no endpoint can forget it.
//!
//! A page may send simple requests (a GET, a POST of `text/plain`) anywhere without asking, to
//! `localhost` or a company's inner hosts too, and it may have its own name resolve to an address
//! that is not its own (DNS rebinding). What browsers add to requests tells such pages apart:
//!
//! - `Origin` must be the gateway's own or in `http.cors.origins`;
//! - without it, `Sec-Fetch-Site` must not tell of another site;
//! - without authentication, where the network is all that protects, `Host` must be an address or a
//!   name that no stranger can have resolve to anything, or be named in the settings: a page's own GET
//!   over plain HTTP has neither of the first two, so nothing but `Host` tells it.
//!
//! Clients other than browsers send none of the first two and are not concerned.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::future::RouteFuture;
use futures::future::Either;
use tower::Service;

use super::error::ApiError;
use crate::config::address::Address;
use crate::config::{AuthMode, Settings};
use crate::transport::client_address::TrustedProxies;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Where a link on another site may lead: `/` and all pages under these. Nothing there changes or
/// reveals what is in Kafka.
const PAGES: [&str; 1] = ["/docs"];

/// Longest part of a header that an error repeats.
const SHOWN: usize = 200;

/// Which pages may call.
#[derive(Debug)]
pub struct CsrfRules {
    origins: Vec<String>,
    hosts: Vec<String>,
    /// The host of `advertised_url`.
    advertised: Option<String>,
    /// Whether the listeners ask for no credentials.
    open: bool,
    /// Whether the listeners speak TLS.
    tls: bool,
    proxies: TrustedProxies,
}

impl CsrfRules {
    /// The rules of the public listeners.
    pub fn new(settings: &Settings) -> Self {
        Self {
            origins: settings.http.cors_origins.clone(),
            hosts: settings.http.allowed_hosts.clone(),
            advertised: settings.server.advertised_url.as_deref().and_then(host_in),
            open: settings.auth.mode == AuthMode::None,
            tls: settings.tls.cert.is_some(),
            proxies: TrustedProxies::new(&settings.http.trusted_proxies),
        }
    }

    /// The rules of the management listener: it never asks for credentials, and no page of another
    /// site has any business there.
    pub fn management(settings: &Settings) -> Self {
        Self {
            origins: Vec::new(),
            open: true,
            ..Self::new(settings)
        }
    }

    /// `router` with these rules around all of it, what answers 404 and 405 included.
    pub fn guard(self: Arc<Self>, router: Router) -> Router {
        Router::new().fallback_service(CsrfGuard {
            rules: self,
            router,
        })
    }

    /// The origin that the gateway's own pages have when they send this request, as browsers write it.
    pub fn own_origin(&self, request: &Request) -> Option<String> {
        let (scheme, host, own_port) =
            self.reached_by(request, host_of(request.uri(), request.headers()).ok()?);
        let port = default_port(scheme);
        let address = Address::parse_with_default_port(&host?, own_port.unwrap_or(port))?;
        let host = address.host.to_ascii_lowercase();
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host,
        };
        Some(match address.port == port {
            true => format!("{scheme}://{host}"),
            false => format!("{scheme}://{host}:{}", address.port),
        })
    }

    /// The scheme and host by which the client has reached the gateway, or a proxy before it, and the port
    /// where the host has none and it is not the scheme's.
    fn reached_by(
        &self,
        request: &Request,
        host: Option<&str>,
    ) -> (&'static str, Option<String>, Option<u16>) {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let told = peer.and_then(|ConnectInfo(peer)| {
            self.proxies
                .forwarded(peer.ip().to_canonical(), request.headers())
        });
        let own = if self.tls { "https" } else { "http" };
        let Some(told) = told else {
            return (own, host.map(str::to_owned), None);
        };
        (
            told.scheme.unwrap_or(own),
            told.host.or_else(|| host.map(str::to_owned)),
            told.port,
        )
    }

    fn examine(&self, request: &Request) -> Result<(), ApiError> {
        let host = host_of(request.uri(), request.headers())?;
        self.examine_host(host)?;
        let headers = request.headers();
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return examine_fetch(request);
        };
        if origins.next().is_some() {
            return Err(ApiError::bad_request("more than one Origin").at("Origin"));
        }
        let listed = self
            .origins
            .iter()
            .any(|listed| listed.as_bytes() == origin.as_bytes());
        // A sandboxed frame, a file, or what a redirect made of an origin: anyone can have this one.
        let null = origin == "null";
        if !null && (listed || self.is_own(request, host, origin)) {
            return Ok(());
        }
        let message = if null {
            "a page whose Origin is null (a sandboxed frame, a file) is not let in; serve it from an \
             origin that is in http.cors.origins"
                .to_owned()
        } else {
            format!(
                "Origin {} is neither the gateway's own nor in http.cors.origins, so its pages are \
                 not let in (behind a proxy, http.trusted_proxies makes its X-Forwarded-Proto and \
                 X-Forwarded-Host, or Forwarded, tell what the own one is)",
                shown(origin)
            )
        };
        Err(ApiError::plain(StatusCode::FORBIDDEN, message).at("Origin"))
    }

    /// Whether a page that the gateway itself served has this origin.
    fn is_own(&self, request: &Request, host: Option<&str>, origin: &HeaderValue) -> bool {
        let (scheme, host, own_port) = self.reached_by(request, host);
        let of_origin = origin.to_str().ok().and_then(|o| o.split_once("://"));
        let (Some((origin_scheme, origin_host)), Some(host)) = (of_origin, host) else {
            return false;
        };
        if !origin_scheme.eq_ignore_ascii_case(scheme) {
            return false;
        }
        let port = default_port(scheme);
        let parse = Address::parse_with_default_port;
        match (
            parse(origin_host, port),
            parse(&host, own_port.unwrap_or(port)),
        ) {
            (Some(origin), Some(own)) => {
                origin.port == own.port && origin.host.eq_ignore_ascii_case(&own.host)
            }
            _ => false,
        }
    }

    /// Against DNS rebinding. What a proxy says does not count here: a page that got this far can
    /// write such headers too.
    fn examine_host(&self, host: Option<&str>) -> Result<(), ApiError> {
        let (true, Some(host)) = (self.open, host) else {
            return Ok(());
        };
        if Address::parse_with_default_port(host, 80).is_some_and(|a| self.allows(&a)) {
            return Ok(());
        }
        Err(ApiError::plain(
            StatusCode::MISDIRECTED_REQUEST,
            format!(
                "Host {} is not one that is served here: without authentication that is an address, \
                 localhost, a name without dots or under .internal, .local, .svc, .cluster.local or \
                 .test, the host of advertised_url, or one of http.allowed_hosts, as a web page can \
                 make any other name lead to this address. Add it to http.allowed_hosts, or set \
                 advertised_url",
                host.chars().take(SHOWN).collect::<String>()
            ),
        )
        .at("Host"))
    }

    fn allows(&self, address: &Address) -> bool {
        let name = address.host.to_ascii_lowercase();
        let mut named = self.advertised.iter().chain(&self.hosts);
        name.parse::<IpAddr>().is_ok()
            || is_nobodys(&name)
            || named.any(|host| address.has_host(host))
    }
}

/// Whether nobody can register the name, so that no stranger's page can have it: one without dots, as
/// containers and services have, or one under a suffix that is set aside for such use (RFC 6761, RFC
/// 6762, and .internal by ICANN's resolution; .svc and .cluster.local are Kubernetes' own).
fn is_nobodys(name: &str) -> bool {
    const SUFFIXES: [&str; 5] = [".localhost", ".internal", ".local", ".svc", ".test"];
    // The parser of browsers takes such a name for an address, and may reach what it likes.
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let has_suffix = SUFFIXES.iter().any(|suffix| {
        name.strip_suffix(suffix)
            .is_some_and(|rest| !rest.is_empty())
    });
    !name.is_empty()
        && !is_number
        && name.bytes().all(is_plain)
        && (!name.contains('.') || has_suffix)
}

/// The host of a URL.
fn host_in(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    Address::parse_with_default_port(authority, default_port(scheme)).map(|address| address.host)
}

/// A service written out, as [`with_response_layer`](super::response_layer::with_response_layer) is and for
/// the same reason.
#[derive(Clone)]
struct CsrfGuard {
    rules: Arc<CsrfRules>,
    router: Router,
}

impl Service<Request> for CsrfGuard {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response, Infallible>>, RouteFuture<Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.rules.examine(&request) {
            Ok(()) => Either::Right(self.router.call(request)),
            Err(error) => Either::Left(ready(Ok(error.into_response()))),
        }
    }
}

/// The host that the request names: HTTP/2 has it in the URI.
///
/// # Errors
///
/// 400 for several hosts, or one that is not ASCII.
pub fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Option<&'a str>, ApiError> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let first = hosts.next();
    if hosts.next().is_some() {
        return Err(ApiError::bad_request("more than one Host").at("Host"));
    }
    if let Some(authority) = uri.authority() {
        return Ok(Some(authority.as_str()));
    }
    let text = first.map(|host| host.to_str());
    text.transpose()
        .map_err(|_| ApiError::bad_request("expected a host name in ASCII").at("Host"))
}

/// Requests without `Origin`: what a page may load from anywhere with a GET, such as a picture, and
/// links. `same-site` is another site too: another port of this host, or another name of the domain.
fn examine_fetch(request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    let site = match headers.get(SEC_FETCH_SITE) {
        None => return Ok(()),
        Some(site) if site == "same-origin" || site == "none" => return Ok(()),
        Some(site) => site,
    };
    if is_link(request.method(), request.uri().path(), headers) {
        return Ok(());
    }
    Err(ApiError::plain(
        StatusCode::FORBIDDEN,
        format!(
            "Sec-Fetch-Site {} and no Origin: a page of another site may call only with fetch, \
             in its cors mode, from an origin that is in http.cors.origins",
            shown(site)
        ),
    )
    .at("Sec-Fetch-Site"))
}

/// Whether the browser follows a link to a page, in a tab of its own and not in a frame.
fn is_link(method: &Method, path: &str, headers: &HeaderMap) -> bool {
    let is = |name: HeaderName, value: &str| headers.get(name).is_some_and(|v| v == value);
    let to_page = path == "/"
        || PAGES.iter().any(|page| {
            path.strip_prefix(page)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
    to_page
        && method == Method::GET
        && is(SEC_FETCH_MODE, "navigate")
        && is(SEC_FETCH_DEST, "document")
}

fn default_port(scheme: &str) -> u16 {
    if scheme.eq_ignore_ascii_case("https") {
        443
    } else {
        80
    }
}

fn shown(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes())
        .chars()
        .take(SHOWN)
        .collect()
}

#[cfg(test)]
mod tests;
