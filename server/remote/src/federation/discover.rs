//! Where a server is reached (server-server API, "Resolving server names").
//!
//! A name is an address, or a host with a port, or a host whose `.well-known` or SRV record says
//! where its server is. What was found is remembered for as long as it says, within bounds.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ::http::StatusCode;
use ::http::header::{CACHE_CONTROL, EXPIRES, HeaderMap};
use parking_lot::Mutex;
use serde::Deserialize;
use skerry_core::{Clock, names};
use skerry_store::Lanes;

use crate::http::{Request, Resolve, Response, Route, Service, Transport};

/// The port of servers that name no other.
const DEFAULT_PORT: u16 = 8448;
/// How long a `.well-known` is believed that does not say for how long, in ms.
const USUAL_MS: u64 = 24 * 3_600_000;
/// The longest time that one is believed, in ms, whatever it says.
const LONGEST_MS: u64 = 48 * 3_600_000;
/// The shortest, so that nobody makes us ask each time.
const SHORTEST_MS: u64 = 5 * 60_000;
/// How long it is remembered that there is none, in ms.
const NONE_MS: u64 = 3_600_000;
/// How many names are remembered.
const REMEMBERED: usize = 4_096;
/// The largest `.well-known` that is read, in bytes.
const WELL_KNOWN_MAX: usize = 50 * 1024;
/// How many redirects lead to it at most.
const REDIRECTS: usize = 10;
/// How long asking for it may take.
const WELL_KNOWN_TIME: Duration = Duration::from_secs(20);

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What stands in the `Host` of requests to it.
    pub host: String,
    /// Where to connect to, the best first. Never empty.
    pub routes: Vec<Route>,
}

/// A server name in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    /// Without brackets.
    host: String,
    port: Option<u16>,
    address: bool,
}

impl Name {
    fn parse(name: &str) -> Option<Name> {
        if !names::is_server_name(name) {
            return None;
        }
        let (host, port) = match name.rsplit_once(':') {
            // The colons of an address in brackets are its own.
            Some((host, port)) if !port.contains(']') => (host, Some(port.parse().ok()?)),
            _ => (name, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Name {
            host: host.to_owned(),
            port,
            address: host.parse::<IpAddr>().is_ok(),
        })
    }

    /// The one place of a name that says where it is by itself.
    fn plain(&self, host: &str, port: u16) -> Place {
        Place {
            host: host.to_owned(),
            routes: vec![Route {
                host: self.host.clone(),
                port,
                tls_name: self.host.clone(),
            }],
        }
    }
}

/// What a `.well-known` said.
#[derive(Clone, Debug)]
struct Known {
    /// The name it delegates to; none: there is no usable one.
    delegated: Option<String>,
    until_ms: u64,
}

/// Finds servers.
pub struct Discovery {
    transport: Arc<dyn Transport>,
    resolver: Arc<dyn Resolve>,
    clock: Arc<dyn Clock>,
    known: Mutex<HashMap<String, Known>>,
    /// So that of many who want to know the same, one asks.
    asking: Lanes<String>,
}

impl Discovery {
    /// Asks through this transport and this resolver.
    #[must_use]
    pub fn new(
        transport: Arc<dyn Transport>,
        resolver: Arc<dyn Resolve>,
        clock: Arc<dyn Clock>,
    ) -> Discovery {
        Discovery {
            transport,
            resolver,
            clock,
            known: Mutex::default(),
            asking: Lanes::new(),
        }
    }

    /// Where the server of this name is reached; nothing for what is no server name.
    pub async fn find(&self, server: &str) -> Option<Place> {
        let name = Name::parse(server)?;
        if name.address || name.port.is_some() {
            return Some(name.plain(server, name.port.unwrap_or(DEFAULT_PORT)));
        }
        let delegated = self.delegated(server).await;
        let Some((text, name)) = delegated.and_then(|text| {
            let name = Name::parse(&text)?;
            Some((text, name))
        }) else {
            return Some(self.by_service(&name, server).await);
        };
        if name.address || name.port.is_some() {
            return Some(name.plain(&text, name.port.unwrap_or(DEFAULT_PORT)));
        }
        Some(self.by_service(&name, &text).await)
    }

    /// Forgets what is remembered of a name: connecting to where it led has failed.
    pub fn forget(&self, server: &str) {
        self.known.lock().remove(server);
    }

    /// By SRV records, the new kind before the old; without any, the host itself.
    async fn by_service(&self, name: &Name, host: &str) -> Place {
        for kind in ["_matrix-fed._tcp", "_matrix._tcp"] {
            let asked = format!("{kind}.{}.", name.host.trim_end_matches('.'));
            let services = self.resolver.services(&asked).await.unwrap_or_default();
            let routes: Vec<Route> = in_order(services)
                .map(|service| Route {
                    host: service.target.trim_end_matches('.').to_owned(),
                    port: service.port,
                    tls_name: name.host.clone(),
                })
                .collect();
            if !routes.is_empty() {
                return Place {
                    host: host.to_owned(),
                    routes,
                };
            }
        }
        name.plain(host, DEFAULT_PORT)
    }

    /// What the `.well-known` of a host delegates to.
    async fn delegated(&self, host: &str) -> Option<String> {
        if let Some(known) = self.remembered(host) {
            return known.delegated;
        }
        let _asking = self.asking.lock(host.to_owned()).await;
        if let Some(known) = self.remembered(host) {
            return known.delegated;
        }
        let url = format!("https://{host}/.well-known/matrix/server");
        let request = Request::get(&url)
            .follow(REDIRECTS)
            .secure()
            .max_response(WELL_KNOWN_MAX)
            .timeout(WELL_KNOWN_TIME);
        let answer = self.transport.send(request).await;
        let now = self.clock.now_ms();
        let found = match answer {
            Ok(answer) => read(&answer, now),
            Err(error) => {
                tracing::debug!(host, %error, "no .well-known");
                None
            }
        };
        let known = found.unwrap_or(Known {
            delegated: None,
            until_ms: now + NONE_MS,
        });
        let delegated = known.delegated.clone();
        self.remember(host, known, now);
        delegated
    }

    /// What is remembered of a host and still believed.
    fn remembered(&self, host: &str) -> Option<Known> {
        let now = self.clock.now_ms();
        let known = self.known.lock();
        known
            .get(host)
            .filter(|known| known.until_ms > now)
            .cloned()
    }

    fn remember(&self, host: &str, new: Known, now: u64) {
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED {
            known.retain(|_, old| old.until_ms > now);
        }
        if known.len() >= REMEMBERED {
            // Names come from whoever speaks to us: what they fill up is begun anew.
            known.clear();
        }
        known.insert(host.to_owned(), new);
    }
}

/// The server that a `.well-known` delegates to.
#[cfg(feature = "fixtures")]
pub(super) fn delegated_to(answer: &Response, now: u64) -> Option<String> {
    read(answer, now)?.delegated
}

/// Reads a `.well-known`; nothing where it does not name a server.
fn read(answer: &Response, now: u64) -> Option<Known> {
    #[derive(Deserialize)]
    struct WellKnown {
        #[serde(rename = "m.server")]
        server: String,
    }
    if answer.status != StatusCode::OK {
        return None;
    }
    // Whatever type it claims to have: it is JSON or it is nothing.
    let WellKnown { server } = serde_json::from_slice(&answer.body).ok()?;
    Name::parse(&server)?;
    let believed = lifetime(&answer.headers, now).unwrap_or(USUAL_MS);
    Some(Known {
        delegated: Some(server),
        until_ms: now + believed.clamp(SHORTEST_MS, LONGEST_MS),
    })
}

/// For how long an answer says that it is good, in ms: by `Cache-Control`, else by `Expires`.
fn lifetime(headers: &HeaderMap, now: u64) -> Option<u64> {
    let control = headers.get(CACHE_CONTROL).and_then(|c| c.to_str().ok());
    for part in control.unwrap_or_default().split(',').map(str::trim) {
        if part.eq_ignore_ascii_case("no-store") || part.eq_ignore_ascii_case("no-cache") {
            return Some(0);
        }
        if let Some(seconds) = part.to_ascii_lowercase().strip_prefix("max-age=") {
            let seconds = seconds.parse::<u64>().ok();
            return seconds.map(|s| s.saturating_mul(1_000));
        }
    }
    let expires = headers.get(EXPIRES)?.to_str().ok()?;
    // A date that is none means that it has expired (RFC 9111, section 5.3).
    let at = httpdate::parse_http_date(expires).ok();
    let at = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let at_ms = at.map_or(0, |at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
    Some(at_ms.saturating_sub(now))
}

/// Services by priority; within one, the heavier first.
fn in_order(mut services: Vec<Service>) -> impl Iterator<Item = Service> {
    // A target of "." says that there is no such service (RFC 2782).
    services.retain(|service| !matches!(service.target.as_str(), "" | "."));
    services.sort_by_key(|service| (service.priority, u16::MAX - service.weight));
    services.into_iter()
}

#[cfg(test)]
mod tests;
