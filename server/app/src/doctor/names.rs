//! What DNS says of our names.

use std::net::IpAddr;

use skerry_remote::http::Guard;

use super::{Finding, Origin, Tools, host_of, is_here};
use crate::config::Config;

const CHECK: &str = "dns";
/// How resolvers say that they were answered, and that there is nothing.
const NO_ADDRESS: [&str; 2] = ["no records found", "has no address"];

/// Whether an address is of the public internet.
pub(crate) fn is_public(address: IpAddr) -> bool {
    Guard::default().allows("", address)
}

/// The addresses of a host, which may be an address itself.
pub(crate) async fn addresses(tools: &Tools, host: &str) -> Result<Vec<IpAddr>, String> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(vec![address]),
        Err(_) => tools.resolver.addresses(host).await,
    }
}

/// Looks up the server name and the host that clients use.
pub(crate) async fn look(config: &Config, tools: &Tools, tell: &mut dyn FnMut(Finding)) {
    let mut hosts = vec![host_of(&config.server_name)];
    hosts.extend(Origin::of(&config.base_url).map(|origin| origin.host));
    hosts.dedup();
    for host in hosts {
        let finding = if is_here(&host) {
            let what = format!("{host} is this machine; nobody else reaches the server");
            Finding::ok(CHECK, what)
        } else {
            judge(&host, &addresses(tools, &host).await)
        };
        tell(finding);
    }
}

/// Judges the answer for a host.
pub(crate) fn judge(host: &str, answer: &Result<Vec<IpAddr>, String>) -> Finding {
    let found = match answer {
        Ok(found) => found,
        Err(error) if NO_ADDRESS.iter().any(|words| error.contains(words)) => {
            let what = format!("DNS knows no address of {host}");
            let advice = "give the name an A record (and AAAA with IPv6) with your public \
                          address; if other names fail too, look at this machine's resolver";
            return Finding::wrong(CHECK, what, advice);
        }
        Err(error) => {
            let what = format!("{host} could not be looked up: {error}");
            let advice = "is this machine online? Look at its resolver (/etc/resolv.conf)";
            return Finding::unknown(CHECK, what, advice);
        }
    };
    let shown = listed(found);
    let private: Vec<IpAddr> = found
        .iter()
        .copied()
        .filter(|address| !is_public(*address))
        .collect();
    if private.is_empty() {
        return Finding::ok(CHECK, format!("{host} has {shown}"));
    }
    if private.len() == found.len() {
        let what = format!("{host} has {shown}, which is not on the public internet");
        let advice = "good for a network of your own; for everybody else the name needs your \
                      public address";
        return Finding::warn(CHECK, what, advice);
    }
    let what = format!(
        "{host} has {shown}, of which {} is not on the public internet",
        listed(&private)
    );
    Finding::wrong(CHECK, what, "take that record out, some clients try it")
}

fn listed(addresses: &[IpAddr]) -> String {
    let words: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    words.join(", ")
}
