//! `[url_preview]`: which links are previewed.

use skerry_media::Hosts;
use skerry_remote::http::Guard;

use super::ConfigError;
use super::raw::RawConfig;

/// Which links are previewed.
#[derive(Clone, Debug)]
pub struct UrlPreview {
    /// By name.
    pub hosts: Hosts,
    /// By address.
    pub guard: Guard,
}

/// What the configuration says; none: links are not previewed.
pub(super) fn check(raw: &RawConfig) -> Result<Option<UrlPreview>, ConfigError> {
    let raw_preview = &raw.url_preview;
    for (key, hosts) in [
        ("allowed_hosts", &raw_preview.allowed_hosts),
        ("denied_hosts", &raw_preview.denied_hosts),
    ] {
        if let Some(host) = hosts.iter().find(|host| !is_host(host)) {
            let wrong = format!("url_preview.{key}: \"{host}\" is no host name and no address");
            return Err(ConfigError(wrong));
        }
    }
    let guard = Guard::new(
        raw.http_client.allow_private_addresses,
        &raw_preview.allowed_private,
    );
    let guard =
        guard.map_err(|error| ConfigError(format!("url_preview.allowed_private: {error}")))?;
    let hosts = Hosts {
        allowed: raw_preview.allowed_hosts.clone(),
        denied: raw_preview.denied_hosts.clone(),
    };
    Ok(raw_preview.enabled.then_some(UrlPreview { hosts, guard }))
}

/// A name or an address, as it stands in links; names of other scripts as punycode.
fn is_host(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    !text.is_empty() && text.bytes().all(plain)
}
