//! Where a request goes: the parts of its URL, and the machine to connect to.

use ::http::Uri;

use super::error::HttpError;
use super::guard::unbracketed;

/// Where to connect to, apart from the URL: other Matrix servers say under another name where
/// they are reached. The URL's host is what is written into the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The host to look up and connect to.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The name that the other side has to prove with its certificate.
    pub tls_name: String,
}

/// One end of connections: requests with equal ones may share them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The name in the certificate; none without TLS.
    pub(super) tls_name: Option<String>,
    /// Any address is good: the operator wrote the URL.
    pub(super) trusted: bool,
}

impl Target {
    pub(super) fn of(uri: &Uri, route: Option<&Route>, trusted: bool) -> Result<Target, HttpError> {
        let wrong = || HttpError::url(&uri.to_string());
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let host = unbracketed(
            uri.host()
                .filter(|host| !host.is_empty())
                .ok_or_else(wrong)?,
        );
        if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(wrong());
        }
        let target = match route {
            Some(route) => Target {
                host: unbracketed(&route.host).to_owned(),
                port: route.port,
                tls_name: tls.then(|| unbracketed(&route.tls_name).to_owned()),
                trusted,
            },
            None => Target {
                host: host.to_owned(),
                port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
                tls_name: tls.then(|| host.to_owned()),
                trusted,
            },
        };
        Ok(target)
    }
}

/// The URL that a `Location` names, seen from the URL that was asked.
pub(super) fn joined(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    if location.starts_with("http://") || location.starts_with("https://") {
        return location.parse().ok();
    }
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    if let Some(rest) = location.strip_prefix("//") {
        return format!("{scheme}://{rest}").parse().ok();
    }
    // Any other scheme is not followed.
    if location
        .split(['/', '?'])
        .next()
        .is_some_and(|first| first.contains(':'))
    {
        return None;
    }
    let path = match location.as_bytes().first() {
        Some(b'/') => location.to_owned(),
        Some(b'?') => format!("{}{location}", base.path()),
        _ => {
            let folder = base
                .path()
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            format!("{folder}/{location}")
        }
    };
    format!("{scheme}://{authority}{path}").parse().ok()
}

#[cfg(test)]
mod tests;
