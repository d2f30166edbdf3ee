//! The types of the single strings that settings are made of, each with what it may be: networks, hosts,
//! origins, routes and claims. What is compared with requests later is held to the one spelling in which
//! requests have it, since a near miss would refuse people without a word.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::address::Address;

/// One kind of string.
pub(super) struct Item {
    /// What a setting with a list of these takes, for messages and the reference.
    pub(super) expects: &'static str,
    /// Gives the string as it is kept, or says what is wrong with it.
    pub(super) read: fn(&str) -> Result<String, String>,
}

/// An address, or a network in CIDR form.
pub(super) const NETWORK: Item = Item {
    expects: "an IP address or network (10.0.0.0/8), or a list of them",
    read: network,
};

/// A host by which the gateway is called.
pub(super) const HOST: Item = Item {
    expects: "a host without a port, or a list of them",
    read: host,
};

/// An origin as the header `Origin` has it.
pub(super) const ORIGIN: Item = Item {
    expects: "an origin (https://app.example), or a list of them",
    read: origin,
};

/// A pattern of routes.
pub(super) const ROUTE: Item = Item {
    expects: "a route (POST /topics/*, /brokers), or a list of them",
    read: route,
};

/// A method or `*`, a space, and a path.
fn route(text: &str) -> Result<String, String> {
    let mut words = text.split_ascii_whitespace();
    let (method, path) = match (words.next(), words.next(), words.next()) {
        (Some(path), None, None) => ("*", path),
        (Some(method), Some(path), None) => (method, path),
        _ => return Err("not a method and a path".into()),
    };
    if !method
        .bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte == b'*')
    {
        return Err("write the method in capitals".into());
    }
    match path.starts_with(['/', '*']) {
        true => Ok(format!("{method} {path}")),
        false => Err("the path begins with a slash".into()),
    }
}

fn network(text: &str) -> Result<String, String> {
    read_network(text).map(|_| text.to_owned())
}

/// An address, or a network in CIDR form.
///
/// # Errors
/// What is wrong with it.
pub fn read_network(text: &str) -> Result<IpNet, String> {
    let Some((address, _)) = text.split_once('/') else {
        let address = text.parse::<IpAddr>().map_err(|_| "not an IP address")?;
        return Ok(IpNet::from(address.to_canonical()));
    };
    let address: IpAddr = address.parse().map_err(|_| "not an IP address")?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    text.parse()
        .map_err(|_| format!("expected 0 to {most} after the slash"))
}

/// Lower case, as names are compared without case.
fn host(text: &str) -> Result<String, String> {
    let Some(address) = Address::parse_with_default_port(text, 0) else {
        return Err("not a host".into());
    };
    let name = bracketed(&address.host);
    if name.len() != text.len() {
        return Err("leave the port out: any will do".into());
    }
    Ok(name.to_ascii_lowercase())
}

/// The host with the brackets that an IPv6 address has before a port.
fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

fn origin(text: &str) -> Result<String, String> {
    if text.eq_ignore_ascii_case("null") {
        return Err("local files and sandboxed pages of anyone send it".into());
    }
    if text.contains('*') {
        return Err("no wildcards: list each origin".into());
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("no scheme, as in https://".into());
    };
    if rest.contains(['/', '?', '#']) {
        return Err("leave out what follows the host and port, a slash too".into());
    }
    if rest.contains('@') {
        return Err("leave out the user".into());
    }
    if !rest.is_ascii() {
        return Err("write the host as browsers send it, in Punycode (xn--…)".into());
    }
    let scheme_is_sound = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !scheme_is_sound {
        return Err("not a scheme".into());
    }
    let Some(address) = Address::parse_with_default_port(rest, 0) else {
        return Err("not a host with or without a port".into());
    };
    let sent = as_sent(scheme, &address);
    match sent == text {
        true => Ok(sent),
        false => Err(format!("browsers send {sent}")),
    }
}

/// The origin as browsers write it: in lower case, without the scheme's own port.
fn as_sent(scheme: &str, address: &Address) -> String {
    let scheme = scheme.to_ascii_lowercase();
    let host = match address.host.parse::<Ipv6Addr>() {
        // Browsers write what was an IPv4 address in hexadecimal, the standard library with dots.
        Ok(ip) if ip.to_ipv4_mapped().is_none() => format!("[{ip}]"),
        _ => bracketed(&address.host).to_ascii_lowercase(),
    };
    let own = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => 0,
    };
    match address.port {
        0 => format!("{scheme}://{host}"),
        port if port == own => format!("{scheme}://{host}"),
        port => format!("{scheme}://{host}:{port}"),
    }
}

/// A URL that others can be told to call, without a slash at its end.
pub(super) fn url(text: &str) -> Option<String> {
    let text = text.trim().trim_end_matches('/');
    let (scheme, rest) = text.split_once("://")?;
    let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
    let sound = matches!(scheme, "http" | "https")
        && Address::parse_with_default_port(authority, 0).is_some()
        && !authority.contains('@')
        && text.bytes().all(|b| {
            b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'"' | b'<' | b'>' | b'\\')
        });
    sound.then(|| text.to_owned())
}

/// A name that can stand in a path as it is.
pub(super) fn name(text: &str) -> Option<String> {
    let text = text.trim();
    let sound = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    sound.then(|| text.to_owned())
}

/// The name of a topic, with `{topic}` for another one's.
pub(super) fn topic_template(text: &str) -> Option<String> {
    let text = text.trim();
    // As it would be for the shortest of names.
    let example = text.replace("{topic}", "t");
    let sound = !example.is_empty()
        && example.len() < 200
        && !matches!(example.as_str(), "." | "..")
        && example
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    sound.then(|| text.to_owned())
}

/// A claim by its name, or by a path of names with dots between them.
pub(super) fn claim(text: &str) -> Option<String> {
    let text = text.trim();
    let sound = text.split('.').all(|name| !name.trim().is_empty());
    sound.then(|| text.to_owned())
}
