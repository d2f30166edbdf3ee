//! Listeners: what the products share on their public side, which is addresses, routes and origins.

use super::Entry;
use super::mapping;
use super::output::{Draft, Value};
use crate::api::route_filter::names_a_route;

/// Every way to read records, sessions included, which both read and write.
pub(super) const READING: [&str; 6] = [
    "/consumers/*",
    "GET /topics/{topic}/records",
    "GET /topics/{topic}/partitions/{partition}/records/{offset}",
    "GET /records",
    "/tickets",
    "/ws",
];

/// Every way to write records.
pub(super) const WRITING: [&str; 4] = [
    "POST /topics/*",
    "POST /v3/clusters/{cluster}/topics/{topic}/records*",
    "/tickets",
    "/ws",
];

/// Sets the addresses that are listened on; one is written as text, as most files have it.
pub(super) fn listen(draft: &mut Draft, addresses: Vec<String>, entries: &[&Entry]) {
    let value = one_or_list(addresses);
    draft.set_by("listen", value, entries);
}

/// A text, or a list of several.
pub(super) fn one_or_list(mut items: Vec<String>) -> Value {
    match items.len() {
        1 => Value::Text(items.remove(0)),
        _ => Value::List(items),
    }
}

/// `host:port`, with the brackets that an IPv6 address has before a port. No host is every address.
pub(super) fn address(host: &str, port: &str) -> String {
    let host = host.trim();
    match host {
        "" | "*" => format!("0.0.0.0:{port}"),
        _ if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

/// Pages of which origins may call.
pub(super) fn origins(draft: &mut Draft, entry: &Entry) {
    let origins = mapping::list(&entry.value);
    if origins.iter().any(|origin| origin.contains('*')) {
        return draft.leave(
            entry,
            "pages of anyone could call it: list each origin in http.cors.origins",
        );
    }
    if !origins.is_empty() {
        draft.set("http.cors.origins", Value::List(origins), entry);
    }
}

/// Blocks routes, those that there are.
pub(super) fn block(draft: &mut Draft, routes: &[&str], entries: &[&Entry]) {
    routes_to(draft, "http.block", routes, entries);
}

/// Sets a list of routes. Those that this version does not offer need not be blocked, and cannot be
/// allowed.
pub(super) fn routes_to(draft: &mut Draft, path: &str, routes: &[&str], entries: &[&Entry]) {
    let mut there: Vec<String> = match draft.get(path).map(|setting| &setting.value) {
        Some(Value::List(before)) => before.clone(),
        _ => Vec::new(),
    };
    let known = routes.iter().filter(|route| names_a_route(route));
    for route in known {
        if !there.iter().any(|before| before == route) {
            there.push((*route).to_owned());
        }
    }
    if there.is_empty() {
        for entry in entries {
            draft.leave(entry, "this version offers none of these routes");
        }
        return;
    }
    if draft.get(path).is_some() {
        draft.change(path, Value::List(there), "of several lines");
    } else {
        draft.set_by(path, Value::List(there), entries);
    }
}
