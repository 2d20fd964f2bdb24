//! Where a server is reached (server-server API, "Resolving server names").
//!
//! A name is an address, or a host with a port, or a host whose `.well-known` or SRV record says
//! where its server is. What was found is remembered for as long as it says, within bounds.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{CACHE_CONTROL, EXPIRES};
use parking_lot::Mutex;
use serde::Deserialize;
use skerry_core::{Clock, names};

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
        let now = self.clock.now_ms();
        if let Some(known) = self.known.lock().get(host)
            && known.until_ms > now
        {
            return known.delegated.clone();
        }
        let url = format!("https://{host}/.well-known/matrix/server");
        let request = Request::get(&url)
            .follow(REDIRECTS)
            .max_response(WELL_KNOWN_MAX)
            .timeout(WELL_KNOWN_TIME);
        let found = match self.transport.send(request).await {
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

/// Reads a `.well-known`; nothing where it does not name a server.
fn read(answer: &Response, now: u64) -> Option<Known> {
    #[derive(Deserialize)]
    struct WellKnown {
        #[serde(rename = "m.server")]
        server: String,
    }
    if !answer.status.is_success() {
        return None;
    }
    // Whatever type it claims to have: it is JSON or it is nothing.
    let WellKnown { server } = serde_json::from_slice(&answer.body).ok()?;
    Name::parse(&server)?;
    let believed = lifetime(answer).unwrap_or(USUAL_MS);
    Some(Known {
        delegated: Some(server),
        until_ms: now + believed.clamp(SHORTEST_MS, LONGEST_MS),
    })
}

/// For how long an answer says that it is good, in ms. A date is not looked at beyond whether it
/// is there: without one's own clock in it, it says little.
fn lifetime(answer: &Response) -> Option<u64> {
    let control = answer.headers.get(CACHE_CONTROL)?.to_str().ok();
    let Some(control) = control else {
        return answer.headers.contains_key(EXPIRES).then_some(SHORTEST_MS);
    };
    for part in control.split(',').map(str::trim) {
        if part.eq_ignore_ascii_case("no-store") || part.eq_ignore_ascii_case("no-cache") {
            return Some(0);
        }
        if let Some(seconds) = part.to_ascii_lowercase().strip_prefix("max-age=") {
            return seconds.parse::<u64>().ok().map(|s| s.saturating_mul(1_000));
        }
    }
    None
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
