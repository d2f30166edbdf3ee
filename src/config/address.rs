//! `host:port` as it is written in settings and URLs: read, told apart from the outside world, and
//! written back.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host and a port. The host is a name or an IP literal, without the brackets of IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or IP literal.
    pub host: String,
    /// TCP port; 0 means any free one where a listener is meant.
    pub port: u16,
}

impl Address {
    /// Reads `name:port`, `1.2.3.4:port` or `[::1]:port`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = split_host(text)?;
        Self::new(host, port.strip_prefix(':')?)
    }

    /// As [`Address::parse`], but the port may be left out.
    pub fn parse_with_default_port(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = split_host(text)?;
        if port.is_empty() {
            return Some(Self {
                host: host.to_owned(),
                port: default_port,
            });
        }
        Self::new(host, port.strip_prefix(':')?)
    }

    fn new(host: &str, port: &str) -> Option<Self> {
        // `u16::from_str` would take "+80".
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Self {
            host: host.to_owned(),
            port: port.parse().ok()?,
        })
    }

    /// True for `localhost`, 127.0.0.0/8 and `::1`: only this machine can connect. Other names are
    /// not resolved, because what they resolve to can change.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// Whether this is the host, in whatever case and with or without the brackets of IPv6.
    pub fn has_host(&self, host: &str) -> bool {
        self.host.eq_ignore_ascii_case(without_brackets(host))
    }

    /// The address to dial in order to reach a listener bound here: "every interface" becomes
    /// loopback, all else stays.
    pub fn to_dial(&self) -> Self {
        let host = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            Ok(IpAddr::V6(ip)) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
            _ => self.host.clone(),
        };
        Self {
            host,
            port: self.port,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// [`Address::is_loopback`] of a host alone, which may have the brackets of IPv6.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = without_brackets(host);
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn without_brackets(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The host without brackets, and what follows it (empty or `:…`).
fn split_host(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return Some((host, port));
    }
    let end = text.find(':').unwrap_or(text.len());
    let (host, port) = text.split_at(end);
    is_host_name(host).then_some((host, port))
}

fn is_host_name(host: &str) -> bool {
    if host.is_empty() || host.len() > 253 {
        return false;
    }
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !host.bytes().all(sane) {
        return false;
    }
    // "127.1" or "256.0.0.1": resolvers disagree about numbers that are no full IPv4 literal.
    let last = host.rsplit('.').next().unwrap_or(host);
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit());
    !numeric || host.parse::<Ipv4Addr>().is_ok()
}
