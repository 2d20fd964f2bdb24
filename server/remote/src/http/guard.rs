//! Which addresses we talk to.
//!
//! Many URLs come from people we do not know. One that leads into our own network would let them
//! reach what only we can reach, so an address that is not of the public internet is refused,
//! unless the operator named it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::error::SetupError;

/// Decides which addresses a client may connect to.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allow_private: bool,
    hosts: Vec<String>,
    networks: Vec<(IpAddr, u8)>,
}

impl Guard {
    /// Allows public addresses, all others too if `allow_private`, and what is named in
    /// `exceptions`: host names (whatever they resolve to), addresses, and networks such as
    /// `192.168.1.0/24`.
    ///
    /// # Errors
    /// `Exception` for one that is none of these.
    pub fn new(allow_private: bool, exceptions: &[String]) -> Result<Guard, SetupError> {
        let mut guard = Guard {
            allow_private,
            ..Guard::default()
        };
        for text in exceptions {
            let wrong = || SetupError::Exception(text.clone());
            if let Some((address, bits)) = text.split_once('/') {
                let address: IpAddr = address.parse().map_err(|_| wrong())?;
                let bits: u8 = bits.parse().map_err(|_| wrong())?;
                if bits > if address.is_ipv4() { 32 } else { 128 } {
                    return Err(wrong());
                }
                guard.networks.push((address, bits));
            } else if let Ok(address) = unbracketed(text).parse::<IpAddr>() {
                guard
                    .networks
                    .push((address, if address.is_ipv4() { 32 } else { 128 }));
            } else if is_host_name(text) {
                guard.hosts.push(text.to_ascii_lowercase());
            } else {
                return Err(wrong());
            }
        }
        Ok(guard)
    }

    /// Allows everything.
    #[must_use]
    pub fn open() -> Guard {
        Guard {
            allow_private: true,
            ..Guard::default()
        }
    }

    /// Whether a host was named as an exception, or all are allowed; for what is asked of URLs
    /// before anything is resolved.
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        let address = unbracketed(host).parse::<IpAddr>().ok();
        self.allow_private
            || self.names_host(host)
            || address.is_some_and(|address| self.names_address(address))
    }

    fn names_host(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        self.hosts
            .iter()
            .any(|named| named.eq_ignore_ascii_case(host))
    }

    fn names_address(&self, address: IpAddr) -> bool {
        let address = plain(address);
        self.networks
            .iter()
            .any(|network| contains(*network, address))
    }

    /// Whether this address, to which this host was resolved, may be connected to.
    #[must_use]
    pub fn allows(&self, host: &str, address: IpAddr) -> bool {
        self.allow_private
            || is_public(address)
            || self.names_host(host)
            || self.names_address(address)
    }
}

/// An address without the brackets of a URL.
pub(super) fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn is_host_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// The IPv4 address within an IPv4-mapped one, else the address itself.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

fn contains((network, bits): (IpAddr, u8), address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

/// Whether an address is of the public internet (after the registries of special-purpose
/// addresses, RFC 6890 and its successors).
#[must_use]
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match (a, b, c) {
        // This network; private; loopback; multicast, reserved and broadcast.
        (0 | 10 | 127 | 224.., _, _) => true,
        // Shared by customers of a provider (carrier-grade NAT).
        (100, 64..=127, _) => true,
        // Link-local, where the metadata services of clouds are.
        (169, 254, _) => true,
        (172, 16..=31, _) | (192, 168, _) => true,
        // Assignments of protocols; relays from 6to4; AS112.
        (192, 0, 0) | (192, 88, 99) | (192, 31, 196) | (192, 52, 193) | (192, 175, 48) => true,
        // Documentation and benchmarks.
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) | (198, 18..=19, _) => true,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        // Mapped and translated addresses are as good as what they stand for.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            embedded(high, low)
        }
        // 6to4.
        [0x2002, high, low, ..] => embedded(high, low),
        // Documentation, benchmarks, Teredo and other assignments of protocols.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // All else that is global lies in 2000::/3; local, link-local, multicast, unspecified,
        // loopback, and local translation do not.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests;
