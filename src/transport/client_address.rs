//! The address of a client, and the name that it called the gateway by: the connection's peer, or what
//! trusted proxies say of it.
//!
//! `Forwarded` and `X-Forwarded-*` can be written by anyone, so they count only when the peer is in
//! `http.trusted_proxies`, and only as far back as the hops are trusted: the caller is the
//! right-most hop that is not.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::uri::Authority;
use axum::http::{Extensions, HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::config::read_network;

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PATH: HeaderName = HeaderName::from_static("x-forwarded-path");

/// The address of the listener that took the connection, in each request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct ListenerAddress(pub SocketAddr);

/// The networks of `http.trusted_proxies`.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
}

/// What trusted proxies say of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The right-most address that is no trusted proxy's.
    pub address: IpAddr,
    /// `http` or `https`, as the client connected.
    pub scheme: Option<&'static str>,
    /// The host and port that the client asked for.
    pub host: Option<String>,
    /// The port that it asked, for a host that has none.
    pub port: Option<u16>,
    /// What stands in its paths before ours, without a slash at the end.
    pub prefix: Option<String>,
    /// The whole path that it asked for, without a slash at the end.
    pub path: Option<String>,
}

impl Forwarded {
    /// The URL by which the client asked for `path`, as far as proxies say, and else as this process knows
    /// itself: by `scheme`, and by `host` with its port if it has one.
    pub fn url(told: Option<&Self>, scheme: &str, host: &str, path: &str) -> String {
        let scheme = told.and_then(|told| told.scheme).unwrap_or(scheme);
        let host = told.and_then(|told| told.host.as_deref()).unwrap_or(host);
        let usual = match scheme {
            "https" => 443,
            _ => 80,
        };
        let port = told.and_then(|told| told.port);
        let port = match port.filter(|port| *port != usual && !has_port(host)) {
            Some(port) => format!(":{port}"),
            None => String::new(),
        };
        let asked = told.and_then(|told| told.path.as_deref());
        let prefix = told.and_then(|told| told.prefix.as_deref()).unwrap_or("");
        match asked {
            Some(asked) => format!("{scheme}://{host}{port}{asked}"),
            None => format!("{scheme}://{host}{port}{prefix}{path}"),
        }
    }
}

impl TrustedProxies {
    /// From the setting's entries. One that is neither an address nor a network trusts nobody.
    pub fn new(entries: &[String]) -> Self {
        let networks = entries.iter().filter_map(|entry| {
            let network = read_network(entry);
            if let Err(problem) = &network {
                tracing::warn!(entry, problem, "http.trusted_proxies");
            }
            network.ok()
        });
        Self {
            networks: networks.collect(),
        }
    }

    /// Whether this is a trusted proxy's address.
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks
            .iter()
            .any(|network| network.contains(&address))
    }

    /// The address that the request came from.
    pub fn address_of(&self, extensions: &Extensions, headers: &HeaderMap) -> Option<IpAddr> {
        let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
        let peer = peer.ip().to_canonical();
        Some(
            self.forwarded(peer, headers)
                .map_or(peer, |told| told.address),
        )
    }

    /// What the proxies say; `None` when the peer is not one of them or says nothing.
    pub fn forwarded(&self, peer: IpAddr, headers: &HeaderMap) -> Option<Forwarded> {
        if !self.trust(peer) {
            return None;
        }
        let elements = list(headers, &FORWARDED);
        let addresses = list(headers, &X_FORWARDED_FOR);
        let by_standard = self.caller(
            peer,
            elements.iter().map(|element| parameter(element, "for")),
        );
        let by_custom = self.caller(
            peer,
            addresses
                .iter()
                .map(|address| Some(Cow::Borrowed(*address))),
        );
        let (address, hop) = match (by_standard, by_custom) {
            // A proxy that knows one of the two headers passes the other on as the client wrote it.
            // Which is which cannot be told, so neither is believed where they differ.
            (Some((standard, _)), Some((custom, _))) if standard != custom => return None,
            (Some(caller), _) | (None, Some(caller)) => caller,
            (None, None) => (peer, 0),
        };
        let of_standard = |name: &str| {
            let element = elements.iter().rev().nth(hop)?;
            parameter(element, name).map(Cow::into_owned)
        };
        let of_custom = |name: &HeaderName| {
            let values = list(headers, name);
            // One value for several hops was written by the first of them.
            let value = values.iter().rev().nth(hop).or(values.first())?;
            Some((*value).to_owned())
        };
        Some(Forwarded {
            address,
            scheme: of_standard("proto")
                .or_else(|| of_custom(&X_FORWARDED_PROTO))
                .and_then(|scheme| known_scheme(&scheme)),
            host: of_standard("host")
                .or_else(|| of_custom(&X_FORWARDED_HOST))
                .filter(|host| is_host(host)),
            port: of_custom(&X_FORWARDED_PORT).and_then(|port| port.parse().ok()),
            prefix: of_custom(&X_FORWARDED_PREFIX).and_then(|prefix| path_of(&prefix)),
            path: of_custom(&X_FORWARDED_PATH).and_then(|path| path_of(&path)),
        })
    }

    /// Walks the hops from the nearest one: the caller's address, and how many hops lie before it.
    /// A hop without a readable address ends the walk at the proxy that reported it.
    fn caller<'a>(
        &self,
        peer: IpAddr,
        hops: impl DoubleEndedIterator<Item = Option<Cow<'a, str>>> + ExactSizeIterator,
    ) -> Option<(IpAddr, usize)> {
        let last = hops.len().checked_sub(1)?;
        let mut address = peer;
        for (hop, reported) in hops.rev().enumerate() {
            match reported.and_then(|text| node(&text)) {
                None => return Some((address, hop)),
                Some(reported) => address = reported,
            }
            if !self.trust(address) {
                return Some((address, hop));
            }
        }
        Some((address, last))
    }
}

/// What limits per address count by: an IPv4 address, or the 64 bits of an IPv6 one that a
/// customer is given as a whole and can change the rest of at will.
pub fn counted_as(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

/// The entries of a list header, over all its lines, in order; commas in quotes are text.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let lines = headers.get_all(name).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| unquoted_split(line, ','))
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .collect()
}

fn unquoted_split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        if escaped {
            escaped = false;
            return false;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == separator && !quoted,
        }
        false
    })
}

/// A parameter of one element of `Forwarded`.
fn parameter<'a>(element: &'a str, name: &str) -> Option<Cow<'a, str>> {
    unquoted_split(element, ';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        if !key.trim().eq_ignore_ascii_case(name) {
            return None;
        }
        let value = value.trim();
        match value
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
        {
            Some(quoted) if quoted.contains('\\') => Some(Cow::Owned(quoted.replace('\\', ""))),
            Some(quoted) => Some(Cow::Borrowed(quoted)),
            None => Some(Cow::Borrowed(value)),
        }
    })
}

fn known_scheme(text: &str) -> Option<&'static str> {
    ["https", "http"]
        .into_iter()
        .find(|known| text.eq_ignore_ascii_case(known))
}

/// Whether a URL may have this as its host and port.
fn is_host(text: &str) -> bool {
    let is_authority = text.parse::<Authority>().is_ok();
    is_authority && !text.contains('@')
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A path as it may stand in a URL, without a slash at its end and what follows a path; `None` for what would
/// lead elsewhere.
fn path_of(text: &str) -> Option<String> {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let path = path.trim_end_matches('/');
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&byte);
    let mut parts = path.split('/');
    let is_path = parts.next() == Some("")
        && path.bytes().all(is_safe)
        && parts.all(|part| !part.is_empty() && part != "." && part != "..");
    (path.is_empty() || is_path).then(|| path.to_owned())
}

/// An address as proxies write it: with or without a port, IPv6 with or without brackets.
fn node(text: &str) -> Option<IpAddr> {
    let address = match text.strip_prefix('[') {
        Some(rest) => IpAddr::V6(rest.split_once(']')?.0.parse::<Ipv6Addr>().ok()?),
        None => match text.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => IpAddr::V4(text.split_once(':')?.0.parse::<Ipv4Addr>().ok()?),
        },
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(peer: &str, headers: &[(&'static str, &str)]) -> Option<Forwarded> {
        let proxies =
            TrustedProxies::new(&["10.0.0.0/8".into(), "fd00::1".into(), "nonsense".into()]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_static(name),
                axum::http::HeaderValue::from_str(value).unwrap(),
            );
        }
        proxies.forwarded(peer.parse().unwrap(), &map)
    }

    fn address(peer: &str, headers: &[(&'static str, &str)]) -> String {
        told(peer, headers).map_or_else(|| "untold".to_owned(), |t| t.address.to_string())
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let header = [("x-forwarded-for", "203.0.113.7")];
        assert_eq!(address("10.1.2.3", &header), "203.0.113.7");
        assert_eq!(address("fd00::1", &header), "203.0.113.7");
        assert_eq!(address("::ffff:10.1.2.3", &header), "203.0.113.7");
        assert_eq!(address("192.0.2.1", &header), "untold");
        assert_eq!(address("fd00::2", &header), "untold");
    }

    #[test]
    fn the_right_most_hop_that_is_not_trusted_is_the_caller() {
        for (header, expected) in [
            ("1.1.1.1, 203.0.113.7", "203.0.113.7"),
            ("1.1.1.1, 203.0.113.7, 10.0.0.9", "203.0.113.7"),
            ("203.0.113.7:4711, 10.0.0.9:80", "203.0.113.7"),
            ("2001:db8::1, 10.0.0.9", "2001:db8::1"),
            ("10.0.0.8, 10.0.0.9", "10.0.0.8"),
            ("1.1.1.1, unknown, 10.0.0.9", "10.0.0.9"),
            ("1.1.1.1, garbage", "10.0.0.1"),
            (" , ", "10.0.0.1"),
        ] {
            let headers = [("x-forwarded-for", header)];
            assert_eq!(address("10.0.0.1", &headers), expected, "{header}");
        }
        let lines = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "203.0.113.7"),
        ];
        assert_eq!(address("10.0.0.1", &lines), "203.0.113.7");
    }

    #[test]
    fn the_standard_header_tells_the_scheme_and_host_too() {
        let header = r#"for=1.1.1.1;host=evil, for="[2001:db8::7]:4711";proto=https;host="gw.example:8443", for=10.0.0.9;proto=http;host=inner"#;
        let expected = Forwarded {
            address: "2001:db8::7".parse().unwrap(),
            scheme: Some("https"),
            host: Some("gw.example:8443".into()),
            port: None,
            prefix: None,
            path: None,
        };
        assert_eq!(told("10.0.0.1", &[("forwarded", header)]), Some(expected));
        let quoted = r#"for="1.1.1.1, 2.2.2.2";host="a\"b,c;d""#;
        let odd = told("10.0.0.1", &[("forwarded", quoted)]).unwrap();
        assert_eq!(odd.address.to_string(), "10.0.0.1");
        assert_eq!(odd.host, None, "no URL may have it");
        let quoted = r#"for=1.1.1.1;host="a\.b""#;
        let escaped = told("10.0.0.1", &[("forwarded", quoted)]).unwrap();
        assert_eq!(escaped.host.as_deref(), Some("a.b"));
    }

    #[test]
    fn scheme_and_host_come_from_the_hop_of_the_caller() {
        let headers = [
            ("x-forwarded-for", "203.0.113.7, 10.0.0.9"),
            ("x-forwarded-proto", "https, http"),
            ("x-forwarded-host", "gw.example"),
        ];
        let told = told("10.0.0.1", &headers).unwrap();
        assert_eq!(told.scheme, Some("https"));
        assert_eq!(told.host.as_deref(), Some("gw.example"));
    }

    #[test]
    fn the_url_is_the_one_that_the_client_asked_for() {
        let url = |headers: &[(&'static str, &str)]| {
            let told = told("10.0.0.1", headers);
            Forwarded::url(told.as_ref(), "http", "inner:8082", "/consumers/g")
        };
        assert_eq!(url(&[]), "http://inner:8082/consumers/g");
        let host = ("x-forwarded-host", "gw.example");
        let cases: [(&[(&'static str, &str)], &str); 8] = [
            (&[host], "http://gw.example/consumers/g"),
            (
                &[host, ("x-forwarded-proto", "HTTPS")],
                "https://gw.example/consumers/g",
            ),
            (
                &[
                    host,
                    ("x-forwarded-proto", "https"),
                    ("x-forwarded-port", "8443"),
                ],
                "https://gw.example:8443/consumers/g",
            ),
            (
                &[
                    host,
                    ("x-forwarded-proto", "https"),
                    ("x-forwarded-port", "443"),
                ],
                "https://gw.example/consumers/g",
            ),
            (
                &[
                    ("x-forwarded-host", "gw.example:1"),
                    ("x-forwarded-port", "2"),
                ],
                "http://gw.example:1/consumers/g",
            ),
            (
                &[host, ("x-forwarded-prefix", "/kafka/eu/")],
                "http://gw.example/kafka/eu/consumers/g",
            ),
            (
                &[host, ("x-forwarded-path", "/kafka/consumers/g/")],
                "http://gw.example/kafka/consumers/g",
            ),
            (
                &[
                    ("forwarded", "for=1.1.1.1;proto=HTTPS;host=\"[::1]\""),
                    ("x-forwarded-port", "81"),
                ],
                "https://[::1]:81/consumers/g",
            ),
        ];
        for (headers, expected) in cases {
            assert_eq!(url(headers), expected, "{headers:?}");
        }
        for wrong in ["kafka", "//evil.example", "/a/../b", "/a b", "/\"", "/a//b"] {
            let headers = [("x-forwarded-prefix", wrong), ("x-forwarded-path", wrong)];
            assert_eq!(url(&headers), "http://inner:8082/consumers/g", "{wrong}");
        }
        for wrong in ["a@b", "a b", "a/b", "\"", "a:b:c"] {
            let headers = [("x-forwarded-host", wrong)];
            assert_eq!(url(&headers), "http://inner:8082/consumers/g", "{wrong}");
        }
    }

    #[test]
    fn headers_that_contradict_each_other_are_not_believed() {
        let forged = [
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-for", "203.0.113.7"),
        ];
        assert_eq!(address("10.0.0.1", &forged), "untold");
        let same = [
            ("forwarded", "for=203.0.113.7"),
            ("x-forwarded-for", "203.0.113.7"),
        ];
        assert_eq!(address("10.0.0.1", &same), "203.0.113.7");
    }

    #[test]
    fn an_ipv6_customer_counts_as_one() {
        let key = |text: &str| counted_as(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
    }
}
