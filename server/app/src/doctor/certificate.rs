//! Certificates: whether who connects would believe them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls_pki_types::CertificateDer;
use skerry_proxy::{Addr, ListenerSpec, Tls};

use skerry_remote::inspect::{self, Condition, judge};

use super::{Finding, Origin, Tools, host_of, process};
use crate::cli::show;
use crate::config::Config;

const CHECK: &str = "certificate";
/// Who looks at a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eyes {
    /// A proxy may stand between; it may be content with less.
    Listener,
    /// Clients themselves.
    Clients,
}

/// The finding about the certificate at a place.
pub(crate) fn finding(condition: &Condition, place: &str, names: &[&str], eyes: Eyes) -> Finding {
    let weak = |what: String, advice: &str| match eyes {
        Eyes::Listener => Finding::warn(CHECK, what, advice),
        Eyes::Clients => Finding::wrong(CHECK, what, advice),
    };
    let wanted = names.join(" or ");
    let renew = "renew it (certbot renew, or where it comes from)";
    match condition {
        Condition::Good(until) => {
            Finding::ok(CHECK, format!("{place}: good until {}", show::day(*until)))
        }
        Condition::Soon(until) => {
            let what = format!("{place}: it ends soon, on {}", show::day(*until));
            Finding::warn(CHECK, what, renew)
        }
        Condition::Expired(since) => {
            let what = format!("{place}: it ended on {}", show::day(*since));
            Finding::wrong(CHECK, what, renew)
        }
        Condition::NotYet(from) => {
            let what = format!("{place}: it begins only on {}", show::day(*from));
            Finding::wrong(CHECK, what, "set this machine's clock, or get another one")
        }
        Condition::SelfSigned(_) => weak(
            format!("{place}: it is self-signed, so clients refuse it"),
            "get one from a CA, unless a proxy in front has a good one",
        ),
        Condition::UnknownIssuer(_) => weak(
            format!("{place}: nobody known here signed it, or its chain is not complete"),
            "put the whole chain into the file (fullchain.pem); with a CA of your own, name it in \
             http_client.ca_file",
        ),
        Condition::WrongName(shown) => Finding::wrong(
            CHECK,
            format!("{place}: it is for {}, not for {wanted}", shown.join(", ")),
            &format!("get one for {wanted}"),
        ),
        Condition::Broken(why) => Finding::wrong(
            CHECK,
            format!("{place}: it cannot be used: {why}"),
            "get another one",
        ),
    }
}

/// Looks at a listener's certificate: at the one it shows if it answers, else at its file.
pub(crate) async fn listener(
    config: &Config,
    tools: &Tools,
    spec: &ListenerSpec,
    tls: &Tls,
) -> Vec<Finding> {
    let place = spec.addr.to_string();
    let mut found = Vec::new();
    if let Tls::Files(files) = tls {
        if let Err(error) = spec.check() {
            let advice = "name a certificate and the key that belongs to it, readable for skerry";
            return vec![Finding::wrong(CHECK, format!("{place}: {error}"), advice)];
        }
        found.extend(files.iter().filter_map(|pair| key_file(&pair.key)));
    }
    let origin = Origin::of(&config.base_url);
    let base = origin.map_or_else(|| host_of(&config.server_name), |origin| origin.host);
    let server = host_of(&config.server_name);
    let names = [base.as_str(), server.as_str()];
    let names = if base == server { &names[..1] } else { &names };
    let Some(chain) = chain(spec, tls, &base).await else {
        let what = format!("{place}: it cannot be seen while nothing listens there");
        found.push(Finding::unknown(CHECK, what, "start skerry and ask again"));
        return found;
    };
    let condition = judge(&chain, names, &tools.roots, tools.now_ms);
    found.push(finding(&condition, &place, names, Eyes::Listener));
    found
}

async fn chain(spec: &ListenerSpec, tls: &Tls, name: &str) -> Option<Vec<CertificateDer<'static>>> {
    if let Addr::Tcp(address) = &spec.addr
        && let Some(address) = process::reachable(*address)
        && let Ok(seen) = inspect::look(address, Some(name)).await
    {
        return Some(seen.chain);
    }
    match tls {
        Tls::Files(files) => inspect::read(&files.first()?.cert).ok(),
        Tls::SelfSigned { .. } | Tls::Acme => None,
    }
}

/// A private key that everybody can read is none.
fn key_file(file: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    (mode & 0o007 != 0).then(|| {
        let what = format!("everybody on this machine can read {}", file.display());
        Finding::wrong(CHECK, what, &format!("chmod o= {}", file.display()))
    })
}
