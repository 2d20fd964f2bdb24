//! Whose address counts: which peers are proxies of ours, and what their headers say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use http::{HeaderMap, HeaderName};

/// Cloudflare's networks, with the day they were written down.
const CLOUDFLARE: &str = include_str!("cloudflare.txt");

/// A network: the addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    start: IpAddr,
    bits: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Network> {
        let (addr, bits) = match text.split_once('/') {
            Some((addr, bits)) => (addr, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let start = addr.parse::<IpAddr>().ok()?;
        let most = if start.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Network { start, bits })
    }

    fn contains(&self, addr: IpAddr) -> bool {
        match (self.start, addr) {
            (IpAddr::V4(start), IpAddr::V4(addr)) => {
                let differing = start.to_bits() ^ addr.to_bits();
                differing.leading_zeros() >= self.bits
            }
            (IpAddr::V6(start), IpAddr::V6(addr)) => {
                let differing = start.to_bits() ^ addr.to_bits();
                differing.leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

/// The proxies that are believed.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    networks: Vec<Network>,
}

impl Trusted {
    /// Reads entries: an address, a network (`10.0.0.0/8`), `loopback`, `cloudflare`, or
    /// `file:PATH` for a file with a network in each line (`#` begins a comment).
    ///
    /// # Errors
    /// The first entry that is none of these, in words for the operator.
    pub fn parse(entries: &[String]) -> Result<Trusted, String> {
        let mut networks = Vec::new();
        for entry in entries {
            match (entry.as_str(), entry.strip_prefix("file:")) {
                ("loopback", _) => {
                    networks.extend(Network::parse("127.0.0.0/8"));
                    networks.extend(Network::parse("::1"));
                }
                ("cloudflare", _) => read_list(CLOUDFLARE, "cloudflare", &mut networks)?,
                (_, Some(path)) => {
                    let text = std::fs::read_to_string(Path::new(path))
                        .map_err(|e| format!("\"{entry}\": {e}"))?;
                    read_list(&text, entry, &mut networks)?;
                }
                (text, None) => networks.push(Network::parse(text).ok_or_else(|| {
                    format!(
                        "\"{text}\" is not an address, a network like \"10.0.0.0/8\", \
                         \"loopback\", \"cloudflare\" or \"file:PATH\""
                    )
                })?),
            }
        }
        Ok(Trusted { networks })
    }

    /// Whether this is the address of a proxy that is believed.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.networks.iter().any(|network| network.contains(addr))
    }
}

fn read_list(text: &str, name: &str, networks: &mut Vec<Network>) -> Result<(), String> {
    for line in text.lines() {
        let entry = line.split('#').next().unwrap_or("").trim();
        if !entry.is_empty() {
            let network = Network::parse(entry);
            networks.push(network.ok_or_else(|| format!("{name}: \"{entry}\" is no network"))?);
        }
    }
    Ok(())
}

/// In which header trusted proxies name the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientHeader {
    /// `X-Forwarded-For`: each proxy appends whom it was asked by.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `CF-Connecting-IP`: one address, set by Cloudflare.
    CfConnectingIp,
}

impl ClientHeader {
    /// By the header's name in small letters.
    #[must_use]
    pub fn named(name: &str) -> Option<ClientHeader> {
        match name {
            "x-forwarded-for" => Some(ClientHeader::XForwardedFor),
            "forwarded" => Some(ClientHeader::Forwarded),
            "cf-connecting-ip" => Some(ClientHeader::CfConnectingIp),
            _ => None,
        }
    }
}

/// The client's address for a request that came from `peer`: the peer itself, unless that is a
/// proxy that is believed. Then the header is read from its end, where the nearest proxy wrote,
/// up to the first address that is not a proxy's: what stands before that, anybody may have
/// written. Something that is no address ends the reading as well.
pub(crate) fn client_of(
    peer: SocketAddr,
    headers: &HeaderMap,
    trusted: &Trusted,
    header: ClientHeader,
) -> SocketAddr {
    if !trusted.contains(peer.ip()) {
        return peer;
    }
    let name = HeaderName::from_static(match header {
        ClientHeader::XForwardedFor => "x-forwarded-for",
        ClientHeader::Forwarded => "forwarded",
        ClientHeader::CfConnectingIp => "cf-connecting-ip",
    });
    let mut values = headers.get_all(name).iter();
    let mut client = peer;
    if header == ClientHeader::CfConnectingIp {
        let value = values.next().and_then(|value| value.to_str().ok());
        // Two of them are of two minds.
        return match value.and_then(|text| text.trim().parse::<IpAddr>().ok()) {
            Some(addr) if values.next().is_none() => SocketAddr::new(addr.to_canonical(), 0),
            _ => peer,
        };
    }
    for value in values.rev() {
        let Ok(text) = value.to_str() else {
            return client;
        };
        for element in split(text, ',').into_iter().rev() {
            let found = match header {
                ClientHeader::Forwarded => forwarded_for(element),
                _ => node(element.trim()),
            };
            let Some(addr) = found else {
                return client;
            };
            client = addr;
            if !trusted.contains(addr.ip()) {
                return client;
            }
        }
    }
    client
}

/// Cuts at a separator that does not stand between quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        let cut = c == separator && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        cut
    })
    .collect()
}

/// The `for` of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<SocketAddr> {
    split(element, ';').into_iter().find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        let value = value.trim();
        let bare = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .unwrap_or(value);
        name.trim()
            .eq_ignore_ascii_case("for")
            .then(|| node(bare))?
    })
}

/// An address with or without a port; IPv6 also in brackets.
fn node(text: &str) -> Option<SocketAddr> {
    if let Ok(addr) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(addr.to_canonical(), 0));
    }
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Some(SocketAddr::new(addr.ip().to_canonical(), addr.port()));
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let addr = inner.parse::<Ipv6Addr>().ok()?;
    Some(SocketAddr::new(IpAddr::V6(addr).to_canonical(), 0))
}

/// This machine, for a peer that has no address: who connects by a Unix socket.
pub(crate) fn here() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

#[cfg(test)]
mod tests;
