//! How many connections each address has open: `limits.connections_per_address`.
//!
//! A trusted proxy is not counted: its connections are many people's.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::Settings;
use crate::limits::places::{Place, Places};
use crate::transport::client_address::{TrustedProxies, counted_as};

/// The counts, and the limit; 0 is none.
#[derive(Debug)]
pub(super) struct Addresses {
    proxies: TrustedProxies,
    places: Arc<Places<u128>>,
}

/// One connection of an address that is counted; the count falls when this is dropped.
pub(super) type Counted = Place<u128>;

impl Addresses {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            proxies: TrustedProxies::new(&settings.http.trusted_proxies),
            places: Places::new(settings.limits.connections_per_address),
        }
    }

    /// Counts one more connection; `Err` when the address has as many as it may have.
    pub(super) fn count(&self, address: IpAddr) -> Result<Option<Counted>, ()> {
        if self.places.most() == 0 || self.proxies.trust(address) {
            return Ok(None);
        }
        self.places.take(counted_as(address)).map(Some).ok_or(())
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
        assert!(addresses.places.is_empty());
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
