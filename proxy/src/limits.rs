//! What connections may take, and the count of them by address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a TLS handshake may take, and the PROXY protocol before it.
    pub handshake: Duration,
    /// How long a request's head may take to arrive, from its first byte; for the first request
    /// from the beginning of the connection.
    pub headers: Duration,
    /// The largest head of a request, in bytes; at least 8 KiB.
    pub head_bytes: usize,
    /// The slowest that a request's body may arrive, in bytes a second, after
    /// [`body_grace`](Limits::body_grace); 0 is no limit.
    pub body_rate: u64,
    /// How long a body may be slower than [`body_rate`](Limits::body_rate).
    pub body_grace: Duration,
    /// How long a client may take in nothing of an answer that waits for it.
    pub stalled_write: Duration,
    /// How long a connection may be open without a request; it may become twice that.
    pub idle: Duration,
    /// How many connections an address may have open; IPv6 addresses count by /64. Trusted
    /// proxies and Unix sockets are not counted. 0 is no limit.
    pub per_address: u32,
    /// How many requests a second an address may make over a longer time, and ten times as many at
    /// once; a connection counts as one. Trusted proxies, Unix sockets and this machine are not
    /// counted. 0 is no limit.
    pub requests: u32,
    /// How many connections may be open at once, over all ports; further ones wait.
    pub max_connections: usize,
    /// How long open requests get to finish at the end.
    pub drain: Duration,
    /// How often certificate files are looked at.
    pub certificate_check: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(10),
            head_bytes: 32 * 1024,
            body_rate: 1024,
            body_grace: Duration::from_secs(10),
            stalled_write: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            per_address: 256,
            requests: 200,
            max_connections: 4096,
            drain: Duration::from_secs(5),
            certificate_check: Duration::from_secs(60),
        }
    }
}

/// How many connections each address has open. An address without any has no row, so the table
/// is never longer than there are connections.
#[derive(Debug, Default)]
pub(crate) struct Places {
    open: Mutex<HashMap<IpAddr, u32>>,
}

impl Places {
    /// A place for one connection from `addr`, if it has fewer than `most`.
    pub(crate) fn take(self: &Arc<Self>, addr: IpAddr, most: u32) -> Option<Place> {
        let key = network_of(addr);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(key).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Place {
            places: Arc::clone(self),
            key,
        })
    }
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    key: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self
            .places
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

/// Who has one IPv6 address has a /64.
pub(crate) fn network_of(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(addr) => IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() >> 64 << 64)),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn places_are_counted_by_network_and_given_back() {
        let places = Arc::new(Places::default());
        let take = |addr: &str| places.take(addr.parse().unwrap(), 2);
        let first = take("192.0.2.1").unwrap();
        let _second = take("::ffff:192.0.2.1").unwrap();
        assert!(take("192.0.2.1").is_none());
        let _other = take("192.0.2.2").unwrap();
        drop(first);
        assert!(take("192.0.2.1").is_some());
        let six = [take("2001:db8::1").unwrap(), take("2001:db8::2:1").unwrap()];
        assert!(take("2001:db8::3").is_none());
        assert!(take("2001:db8:0:1::3").is_some());
        drop(six);
        assert!(take("2001:db8::3").is_some());
        assert_eq!(
            places.open.lock().unwrap().len(),
            2,
            "rows without a connection"
        );
    }
}
