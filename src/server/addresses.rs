//! How many connections each address has open: `limits.connections_per_address`.
//!
//! Only addresses with a connection have an entry, so the map is never larger than the number of
//! connections. A trusted proxy is not counted: its connections are many people's.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::Settings;
use crate::http::client::{Proxies, counted_as};

type Counts = Arc<Mutex<HashMap<u128, usize>>>;

/// The counts, and the limit.
#[derive(Debug)]
pub(super) struct Addresses {
    limit: usize,
    proxies: Proxies,
    counts: Counts,
}

/// One connection of an address that is counted; the count falls when this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    address: u128,
    counts: Counts,
}

impl Addresses {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            limit: settings.limits.connections_per_address,
            proxies: Proxies::new(&settings.http.trusted_proxies),
            counts: Counts::default(),
        }
    }

    /// Counts one more connection; `Err` when the address has as many as it may have.
    pub(super) fn count(&self, address: IpAddr) -> Result<Option<Counted>, ()> {
        if self.limit == 0 || self.proxies.trust(address) {
            return Ok(None);
        }
        let address = counted_as(address);
        let mut counts = self.counts.lock();
        let count = counts.entry(address).or_default();
        if *count >= self.limit {
            return Err(());
        }
        *count += 1;
        Ok(Some(Counted {
            address,
            counts: Arc::clone(&self.counts),
        }))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.counts.lock().entry(self.address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        let mut settings = Settings::default();
        settings.limits.connections_per_address = 2;
        settings.http.trusted_proxies = vec!["10.0.0.1".into()];
        Addresses::new(&settings)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_share_and_no_more() {
        let addresses = addresses();
        let one = addresses.count(ip("192.0.2.1")).unwrap();
        let two = addresses.count(ip("::ffff:192.0.2.1")).unwrap();
        assert!(addresses.count(ip("192.0.2.1")).is_err());
        let other = addresses.count(ip("192.0.2.2")).unwrap();
        drop(one);
        let again = addresses.count(ip("192.0.2.1")).unwrap();
        drop((two, other, again));
        assert!(addresses.counts.lock().is_empty());
    }

    #[test]
    fn a_customer_of_ipv6_is_one_address() {
        let addresses = addresses();
        let held: Vec<_> = ["2001:db8::1", "2001:db8::2"]
            .map(|text| addresses.count(ip(text)).unwrap())
            .into();
        assert!(addresses.count(ip("2001:db8::3")).is_err());
        assert!(addresses.count(ip("2001:db8:0:1::3")).is_ok());
        drop(held);
    }

    #[test]
    fn a_trusted_proxy_is_not_counted() {
        let addresses = addresses();
        let held: Vec<_> = (0..5).map(|_| addresses.count(ip("10.0.0.1"))).collect();
        assert!(held.iter().all(|place| matches!(place, Ok(None))));
    }
}
