//! How it looks from outside: the addresses that DNS names, and what answers there.
//!
//! From inside, a router often does not lead back what goes to its own public address
//! ("hairpin"). So nobody answering at a public address proves nothing.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, StatusCode};
use serde_json::Value;
use skerry_proxy::{Addr, ListenerSpec};
use skerry_remote::http::{HttpError, Request, Response, Route};

use super::certificate::{self, Eyes};
use super::clock::{self, Told};
use skerry_remote::inspect::{self as probe, Condition};

use super::{Finding, Origin, PATIENCE, Tools, host_of, is_here, names, process};
use crate::config::Config;

const REACH: &str = "base_url";
const WELL_KNOWN: &str = "well-known";
const VERSIONS: &str = "/_matrix/client/versions";
/// How many addresses of a name are tried.
const ADDRESSES_MAX: usize = 4;
/// How many redirects browsers would follow, at least.
const REDIRECTS: usize = 5;
/// The largest body that Cloudflare passes on for those who do not pay, in bytes.
const CLOUDFLARE_BODY: u64 = 100_000_000;
const OUTSIDE: &str = "try from outside, such as a phone without Wi-Fi; if it fails there too, \
                       look at the router's port forwarding and the firewall";

/// Connects to where clients go and asks for the versions.
pub(super) async fn base_url(
    config: &Config,
    tools: &Tools,
    dates: &mut Vec<Told>,
    tell: &mut dyn FnMut(Finding),
) {
    let Some(origin) = Origin::of(&config.base_url) else {
        let what = format!("{} is not a URL", config.base_url);
        return tell(Finding::wrong(REACH, what, "mend public.base_url"));
    };
    if !origin.tls && !origin.is_here() {
        let what = format!("{} is without TLS", config.base_url);
        let advice = "browsers allow it on this machine only, and all can be read on the way; \
                      use https://";
        tell(Finding::warn(REACH, what, advice));
    }
    // The check of DNS says what is wrong when there is none.
    let Ok(found) = names::addresses(tools, &origin.host).await else {
        let what = format!("{}: without an address, nobody reaches it", config.base_url);
        return tell(Finding::unknown(REACH, what, "mend DNS first"));
    };
    let ours = own_versions(config, tools).await;
    let name = origin.tls.then_some(origin.host.as_str());
    let mut looked = Vec::new();
    for address in found.into_iter().take(ADDRESSES_MAX) {
        let seen = probe::look(SocketAddr::new(address, origin.port), name).await;
        looked.push((address, seen));
    }
    let answered = looked.iter().any(|(_, seen)| seen.is_ok());
    for (address, seen) in looked {
        let place = format!("{} at {address}", config.base_url);
        match seen {
            Ok(seen) => {
                let door = Door {
                    place,
                    origin: &origin,
                    address,
                    seen,
                };
                door.ask(config, tools, ours.as_ref(), dates, tell).await;
            }
            // Everything tries the other address of this machine by itself.
            Err(probe::Unseen::NoConnection(_)) if answered && origin.is_here() => {}
            Err(error) => tell(not_seen(&place, &error, names::is_public(address))),
        }
    }
}

/// An address at which somebody answers.
struct Door<'a> {
    place: String,
    origin: &'a Origin,
    address: IpAddr,
    seen: probe::Seen,
}

impl Door<'_> {
    /// Judges the certificate and asks for the versions.
    async fn ask(
        self,
        config: &Config,
        tools: &Tools,
        ours: Option<&Value>,
        dates: &mut Vec<Told>,
        tell: &mut dyn FnMut(Finding),
    ) {
        let Door { place, origin, .. } = self;
        if origin.tls {
            let names = [origin.host.as_str()];
            let chain = &self.seen.chain;
            let found = probe::judge(chain, &names, &tools.roots, tools.now_ms);
            tell(certificate::finding(&found, &place, &names, Eyes::Clients));
            if !matches!(found, Condition::Good(_) | Condition::Soon(_)) {
                return;
            }
        }
        let route = Route {
            host: self.address.to_string(),
            port: origin.port,
            tls_name: origin.host.clone(),
        };
        let url = format!("{}{VERSIONS}", config.base_url);
        let asked = Request::get(&url).via(route).timeout(PATIENCE);
        let answer = tools.client.send(asked).await;
        if let Ok(answer) = &answer {
            dates.extend(clock::told(&origin.host, &answer.headers, self.seen.here));
            if through_cloudflare(&answer.headers) && config.max_upload > CLOUDFLARE_BODY {
                let what = format!("{place}: Cloudflare is in front and refuses uploads of 100 MB");
                let advice = "set media.max_upload to 100MB or less, so that clients know";
                tell(Finding::warn(REACH, what, advice));
            }
        }
        tell(versions(&place, answer.as_ref(), ours));
    }
}

/// Judges a connection that did not come about.
pub(crate) fn not_seen(place: &str, error: &probe::Unseen, public: bool) -> Finding {
    let what = format!("{place}: {error}");
    match error {
        probe::Unseen::NoConnection(_) if public => {
            let advice = format!(
                "that may only be so from here (a router that does not lead back); {OUTSIDE}"
            );
            Finding::unknown(REACH, what, &advice)
        }
        probe::Unseen::NoConnection(_) => {
            let advice = "does a [[listen]] or a proxy listen on that address and port?";
            Finding::wrong(REACH, what, advice)
        }
        probe::Unseen::NoTls(_) => {
            let advice = "what listens there speaks no TLS: give the [[listen]] tls, or mend the \
                          proxy";
            Finding::wrong(REACH, what, advice)
        }
    }
}

/// Judges the answer at `/_matrix/client/versions` by the one that our own listener gives.
pub(crate) fn versions(
    place: &str,
    answer: Result<&Response, &HttpError>,
    ours: Option<&Value>,
) -> Finding {
    let proxy = "look at the proxy in front: it has to pass on /_matrix as it is";
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Finding::wrong(REACH, format!("{place}: {error}"), proxy),
    };
    if answer.status != StatusCode::OK {
        let what = format!("{place}: {VERSIONS} answers {}", answer.status);
        return Finding::wrong(REACH, what, proxy);
    }
    let theirs = answer.json::<Value>().unwrap_or_default();
    if !theirs["versions"].is_array() {
        let what = format!("{place}: what answers at {VERSIONS} is no Matrix server");
        return Finding::wrong(REACH, what, proxy);
    }
    match ours {
        Some(ours) if *ours == theirs => {
            Finding::ok(REACH, format!("{place} answers as this server"))
        }
        Some(_) => {
            let what = format!("{place}: another Matrix server answers there");
            Finding::wrong(REACH, what, "look where DNS, router and proxy lead to")
        }
        None => {
            let what = format!("{place}: a Matrix server answers, perhaps not this one");
            Finding::unknown(REACH, what, "ask again while skerry runs")
        }
    }
}

/// What our own listeners answer: the first that does, without leaving the machine.
async fn own_versions(config: &Config, tools: &Tools) -> Option<Value> {
    let host = Origin::of(&config.base_url)?.host;
    for spec in config.listen.iter().filter(|spec| spec.redirect.is_none()) {
        if let Some(found) = local(spec, tools, &host).await {
            return Some(found);
        }
    }
    None
}

async fn local(spec: &ListenerSpec, tools: &Tools, host: &str) -> Option<Value> {
    let Addr::Tcp(address) = &spec.addr else {
        return None;
    };
    let address = process::reachable(*address)?;
    let scheme = if spec.tls.is_some() { "https" } else { "http" };
    let route = Route {
        host: address.ip().to_string(),
        port: address.port(),
        tls_name: host.to_owned(),
    };
    let url = format!("{scheme}://{address}{VERSIONS}");
    let asked = Request::get(&url).via(route).timeout(PATIENCE);
    let answer = tools.client.send(asked).await.ok()?;
    let answer: Value = answer.json().ok()?;
    answer["versions"].is_array().then_some(answer)
}

fn through_cloudflare(headers: &HeaderMap) -> bool {
    headers.contains_key("cf-ray")
}

/// Asks the server name's host where clients shall go.
pub(super) async fn well_known(
    config: &Config,
    tools: &Tools,
    dates: &mut Vec<Told>,
    tell: &mut dyn FnMut(Finding),
) {
    let host = host_of(&config.server_name);
    if is_here(&host) {
        let what = format!(
            "{host} is this machine; clients are given {}",
            config.base_url
        );
        return tell(Finding::ok(WELL_KNOWN, what));
    }
    // An IPv6 address goes back into its brackets.
    let authority = match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.clone(),
    };
    let url = format!("https://{authority}/.well-known/matrix/client");
    let found = names::addresses(tools, &host).await.unwrap_or_default();
    let public = found.iter().any(|address| names::is_public(*address));
    let asked = Request::get(&url).follow(REDIRECTS).trusted();
    let answer = tools.client.send(asked.timeout(PATIENCE)).await;
    if let Ok(answer) = &answer {
        let here = match found.first() {
            Some(address) => {
                let seen = probe::look(SocketAddr::new(*address, 443), None).await;
                seen.is_ok_and(|seen| seen.here)
            }
            None => false,
        };
        dates.extend(clock::told(&host, &answer.headers, here));
    }
    tell(judge_well_known(&url, answer.as_ref(), config, public));
}

/// Judges what a server name's host says to clients.
pub(crate) fn judge_well_known(
    url: &str,
    answer: Result<&Response, &HttpError>,
    config: &Config,
    public: bool,
) -> Finding {
    let base_url = &config.base_url;
    let wanted = format!(
        "{url} should answer {{\"m.homeserver\":{{\"base_url\":\"{base_url}\"}}}}; let that host \
         serve it, or pass it on to skerry, which does"
    );
    let answer = match answer {
        Ok(answer) => answer,
        Err(error @ HttpError::Dns { .. }) => {
            return Finding::unknown(WELL_KNOWN, error.to_string(), "mend DNS first");
        }
        Err(error @ (HttpError::Connect { .. } | HttpError::Timeout(_))) if public => {
            return Finding::unknown(WELL_KNOWN, format!("{url}: {error}"), OUTSIDE);
        }
        Err(error) => {
            return Finding::wrong(WELL_KNOWN, format!("{url}: {error}"), &wanted);
        }
    };
    if answer.status == StatusCode::NOT_FOUND {
        let what = format!("{url} is not there");
        // Then clients try the name itself.
        if *base_url == format!("https://{}", config.server_name) {
            return Finding::warn(WELL_KNOWN, what, &wanted);
        }
        return Finding::wrong(WELL_KNOWN, what, &wanted);
    }
    if answer.status != StatusCode::OK {
        let what = format!("{url} answers {}", answer.status);
        return Finding::wrong(WELL_KNOWN, what, &wanted);
    }
    let said = answer.json::<Value>().unwrap_or_default();
    let Some(said) = said["m.homeserver"]["base_url"].as_str() else {
        let what = format!("{url} does not name a base_url");
        return Finding::wrong(WELL_KNOWN, what, &wanted);
    };
    if said.trim_end_matches('/') != base_url {
        let what = format!("{url} sends clients to {said}, but public.base_url is {base_url}");
        let advice = format!("make them the same: {wanted}");
        return Finding::wrong(WELL_KNOWN, what, &advice);
    }
    if !answer.headers.contains_key("access-control-allow-origin") {
        let what = format!("{url} is right, but clients in browsers may not read it");
        let advice = "add the header Access-Control-Allow-Origin: *";
        return Finding::warn(WELL_KNOWN, what, advice);
    }
    Finding::ok(WELL_KNOWN, format!("{url} says {said}"))
}
