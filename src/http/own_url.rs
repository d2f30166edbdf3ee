//! The URL by which clients reach this very process, for the addresses in answers: `advertised_url` where it is
//! set, else what trusted proxies say, else what the client called.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::csrf::host_of;
use super::error::ApiError;
use crate::config::Settings;
use crate::config::address::Address;
use crate::transport::client_address::{Forwarded, ListenerAddress, TrustedProxies};

/// Longest part of a Host that is logged.
const SHOWN: usize = 200;
/// What stands in a path as it is (RFC 3986, section 2.3).
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A name as a segment of a path, percent-encoded.
pub(crate) struct Segment<'a>(pub(crate) &'a str);

impl fmt::Display for Segment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        utf8_percent_encode(self.0, IN_PATH).fmt(f)
    }
}

/// How clients reach this process.
#[derive(Debug)]
pub(crate) struct OwnUrl {
    advertised: Option<String>,
    proxies: TrustedProxies,
    allowed_hosts: Vec<String>,
    scheme: &'static str,
    /// A client has named a Host that nothing but its own word makes ours: said once.
    has_unknown_host: AtomicBool,
}

impl OwnUrl {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            advertised: settings.server.advertised_url.clone(),
            proxies: TrustedProxies::new(&settings.http.trusted_proxies),
            allowed_hosts: settings.http.allowed_hosts.clone(),
            scheme: match settings.tls.cert {
                Some(_) => "https",
                None => "http",
            },
            has_unknown_host: AtomicBool::new(false),
        }
    }

    /// The URL of `path` (from its slash on) for whoever sent this request: scheme and authority, and the path
    /// before ours if there is one.
    ///
    /// # Errors
    ///
    /// 400 for a `Host` that cannot be read.
    pub(crate) fn of(&self, request: &Parts, path: &str) -> Result<String, ApiError> {
        if let Some(url) = &self.advertised {
            return Ok(format!("{url}{path}"));
        }
        let peer = request
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|ConnectInfo(peer)| peer.ip());
        let forwarded = peer.and_then(|peer| self.proxies.forwarded(peer, &request.headers));
        let host = match host_of(&request.uri, &request.headers)?.filter(|host| !host.is_empty()) {
            Some(host) => {
                let own = request.extensions.get::<ListenerAddress>();
                let is_the_clients =
                    forwarded.is_none() && !is_own(host, own.map(|own| own.0), &self.allowed_hosts);
                if is_the_clients && !self.has_unknown_host.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        host = host.chars().take(SHOWN).collect::<String>(),
                        "base_uri of consumer instances and the links of REST v3 are made of the Host that \
                         the client sent, which may be anything: set advertised_url"
                    );
                }
                host.to_owned()
            }
            None => own_host(request),
        };
        Ok(Forwarded::url(forwarded.as_ref(), self.scheme, &host, path))
    }
}

/// Whether a Host is known to be the gateway's without a client's word for it: one of `http.allowed_hosts`,
/// the address of the listener, or this machine.
fn is_own(host: &str, own: Option<SocketAddr>, allowed: &[String]) -> bool {
    let Some(address) = Address::parse_with_default_port(host, 0) else {
        return false;
    };
    let is_listener = own.is_some_and(|own| address.host.parse() == Ok(own.ip().to_canonical()));
    address.is_loopback() || is_listener || allowed.iter().any(|host| address.has_host(host))
}

/// What a client that names no host has most likely called.
fn own_host(request: &Parts) -> String {
    match request.extensions.get::<ListenerAddress>() {
        Some(ListenerAddress(at)) if at.ip().is_loopback() || at.ip().is_unspecified() => {
            format!("localhost:{}", at.port())
        }
        Some(ListenerAddress(at)) => at.to_string(),
        None => "localhost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_the_gateways_own_where_that_is_known() {
        let allowed = ["gw.example".to_owned(), "[2001:db8::1]".to_owned()];
        let own = "10.0.0.7:8082".parse().unwrap();
        for host in [
            "localhost:8082",
            "127.0.0.1",
            "[::1]:8082",
            "10.0.0.7:8082",
            "GW.example:443",
            "[2001:db8::1]",
        ] {
            assert!(is_own(host, Some(own), &allowed), "{host}");
        }
        for host in ["gateway", "10.0.0.8", "evil.example:8082", "", "a b"] {
            assert!(!is_own(host, Some(own), &allowed), "{host}");
        }
    }
}
