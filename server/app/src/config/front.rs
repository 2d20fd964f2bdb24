//! `[[listen]]`, `[proxy]` and `[limits]`: the front door.

use std::net::SocketAddr;
use std::path::PathBuf;

use skerry_http::{Allowance, RateLimits};
use skerry_proxy::{
    Addr, CertFiles, ClientHeader, Hsts, Limits, ListenerSpec, Settings, Tls, Trusted,
};

use super::raw::{RawAllowance, RawConfig, RawListen, RawTls, RawTlsFiles};
use super::{ConfigError, acme, base_url, one_of, units, wrong};

pub(super) fn listeners(raw: &RawConfig) -> Result<Vec<ListenerSpec>, ConfigError> {
    if raw.listen.is_empty() {
        return Err(ConfigError(
            "listen: there has to be at least one [[listen]]".into(),
        ));
    }
    let given = raw.listen.iter().map(|listen| listener(raw, listen));
    let mut listeners = given.collect::<Result<Vec<_>, _>>()?;
    acme::listeners(raw, &mut listeners)?;
    Ok(listeners)
}

fn listener(raw: &RawConfig, listen: &RawListen) -> Result<ListenerSpec, ConfigError> {
    let addr = addr(&listen.addr)?;
    let tls = listen.tls.as_ref().map(|word| tls(raw, word)).transpose()?;
    if tls.is_some() && matches!(addr, Addr::Unix(_)) {
        return Err(ConfigError("listen: a Unix socket takes no tls".into()));
    }
    if listen.proxy_protocol && raw.proxy.trusted.is_empty() {
        return Err(ConfigError(
            "listen.proxy_protocol: proxy.trusted has to say which proxies are believed".into(),
        ));
    }
    let redirect = match listen.redirect {
        true => Some(origin(raw)?),
        false => None,
    };
    Ok(ListenerSpec {
        addr,
        tls,
        // Whoever may enter the directory may connect: a reverse proxy runs as another user.
        unix_mode: 0o666,
        proxy_protocol: listen.proxy_protocol,
        redirect,
    })
}

fn addr(given: &str) -> Result<Addr, ConfigError> {
    if let Some(path) = given.strip_prefix("unix:") {
        return Ok(Addr::Unix(PathBuf::from(path)));
    }
    if let Some(name) = given.strip_prefix("fd:") {
        return Ok(Addr::Inherited(name.to_owned()));
    }
    given.parse::<SocketAddr>().map(Addr::Tcp).map_err(|_| {
        ConfigError(format!(
            "listen.addr: \"{given}\" is not an address with a port, such as \
             \"127.0.0.1:8008\" or \"[::]:8448\", nor \"unix:/path\" or \"fd:name\""
        ))
    })
}

fn tls(raw: &RawConfig, given: &RawTls) -> Result<Tls, ConfigError> {
    let files = |files: &RawTlsFiles| CertFiles {
        cert: files.cert.clone().into(),
        key: files.key.clone().into(),
    };
    match given {
        RawTls::Files(one) => Ok(Tls::Files(vec![files(one)])),
        RawTls::Several(several) if several.is_empty() => Err(ConfigError(
            "listen.tls: the list of certificates is empty".into(),
        )),
        RawTls::Several(several) => Ok(Tls::Files(several.iter().map(files).collect())),
        RawTls::Word(word) if word == "self-signed" => {
            let host = raw
                .server_name
                .rsplit_once(':')
                .map_or(&*raw.server_name, |(h, _)| h);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Ok(Tls::SelfSigned {
                names: vec![host.to_owned(), "localhost".to_owned()],
            })
        }
        RawTls::Word(word) if word == "acme" => Ok(Tls::Acme),
        RawTls::Word(word) => Err(one_of("listen.tls", word, &["acme", "self-signed"])),
    }
}

/// Where a redirect leads: scheme and host of the public address.
pub(super) fn origin(raw: &RawConfig) -> Result<String, ConfigError> {
    let url = base_url(raw)?;
    let host = url.strip_prefix("https://").and_then(|rest| {
        let host = rest.split(['/', '?', '#']).next()?;
        host.parse::<http::uri::Authority>().ok()
    });
    match host {
        Some(host) => Ok(format!("https://{host}")),
        None => Err(ConfigError(format!(
            "listen.redirect: public.base_url has to begin with https:// and a host; it is {url}"
        ))),
    }
}

/// What holds at all listeners.
pub(super) fn settings(raw: &RawConfig) -> Result<Settings, ConfigError> {
    let headers = ["x-forwarded-for", "forwarded", "cf-connecting-ip"];
    let given = &raw.proxy.client_address;
    let hsts = Hsts {
        subdomains: raw.public.hsts_subdomains,
        preload: raw.public.hsts_preload,
    };
    if hsts.preload && !hsts.subdomains {
        return Err(ConfigError(
            "public.hsts_preload: browsers take only names with public.hsts_subdomains".into(),
        ));
    }
    Ok(Settings {
        limits: limits(raw)?,
        trusted: Trusted::parse(&raw.proxy.trusted).map_err(|e| wrong("proxy.trusted", &e))?,
        client_header: ClientHeader::named(given)
            .ok_or_else(|| one_of("proxy.client_address", given, &headers))?,
        hsts,
        acme: None,
        ..Settings::default()
    })
}

fn limits(raw: &RawConfig) -> Result<Limits, ConfigError> {
    let given = &raw.limits;
    let time = |key: &str, text: &str| match units::duration(text) {
        Ok(time) if time.is_zero() => Err(wrong(key, &"it has to be longer than nothing")),
        Ok(time) => Ok(time),
        Err(e) => Err(wrong(key, &e)),
    };
    let size = |key: &str, text: &str| units::bytes(text).map_err(|e| wrong(key, &e));
    let head_bytes = size("limits.header_size", &given.header_size)?;
    if !(8 << 10..=1 << 20).contains(&head_bytes) {
        return Err(wrong("limits.header_size", &"from 8KiB to 1MiB"));
    }
    if given.connections == 0 {
        return Err(wrong("limits.connections", &"at least 1 is needed"));
    }
    Ok(Limits {
        handshake: time("limits.tls_handshake", &given.tls_handshake)?,
        headers: time("limits.headers", &given.headers)?,
        head_bytes: usize::try_from(head_bytes).unwrap_or(usize::MAX),
        body_rate: size("limits.body_per_second", &given.body_per_second)?,
        body_grace: time("limits.body_grace", &given.body_grace)?,
        stalled_write: time("limits.stalled_write", &given.stalled_write)?,
        per_address: given.connections_per_address,
        max_connections: given.connections,
        requests: match raw.rate_limit.enabled {
            true => given.requests_per_address,
            false => 0,
        },
        ..Limits::default()
    })
}

/// `[rate_limit]`
pub(super) fn rates(raw: &RawConfig) -> Result<RateLimits, ConfigError> {
    let given = &raw.rate_limit;
    let allowance = |key: &str, given: RawAllowance| {
        let key = format!("rate_limit.{key}");
        if !(given.per_second > 0.0 && given.per_second.is_finite()) {
            return Err(wrong(&key, &"per_second has to be more than 0"));
        }
        if given.at_once == 0 {
            return Err(wrong(&key, &"at_once has to be at least 1"));
        }
        Ok(Allowance {
            per_second: given.per_second,
            at_once: f64::from(given.at_once),
        })
    };
    Ok(RateLimits {
        enabled: given.enabled,
        send: allowance("send", given.send)?,
        join: allowance("join", given.join)?,
        login: allowance("login", given.login)?,
        register: allowance("register", given.register)?,
        media: allowance("media", given.media)?,
        upload: allowance("upload", given.upload)?,
        heavy: allowance("heavy", given.heavy)?,
        federation: allowance("federation", given.federation)?,
    })
}
