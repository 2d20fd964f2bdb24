//! `[acme]`: certificates that are got from a CA.

use std::path::{Path, PathBuf};

use skerry_proxy::{
    AcmeSettings, Addr, Challenge, ChallengeKind, Eab, ListenerSpec, Tls, Trusted,
    can_have_certificate,
};

use super::raw::RawConfig;
use super::{ConfigError, base_url, front, one_of, wrong};

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
/// More names than this are a mistake.
const NAMES_MAX: usize = 50;

/// Certificates that are got from a CA.
#[derive(Clone, Debug)]
pub struct Acme {
    /// Which, and of whom.
    pub settings: AcmeSettings,
    /// A file of further root certificates to trust when talking to the CA.
    pub ca_file: Option<PathBuf>,
}

pub(super) fn check(raw: &RawConfig, data_dir: &Path) -> Result<Option<Acme>, ConfigError> {
    let given = &raw.acme;
    let challenge = challenge(raw)?;
    let directory = match given.directory.as_str() {
        "letsencrypt" => LETS_ENCRYPT.to_owned(),
        "letsencrypt-staging" => LETS_ENCRYPT_STAGING.to_owned(),
        url if url.starts_with("https://") => url.to_owned(),
        other => {
            let words = ["letsencrypt", "letsencrypt-staging", "https://..."];
            return Err(one_of("acme.directory", other, &words));
        }
    };
    let eab = eab(raw)?;
    if given.email.is_empty() {
        return Ok(None);
    }
    if !given.email.contains('@') || given.email.contains(|c: char| c.is_whitespace()) {
        return Err(wrong("acme.email", &"it is no e-mail address"));
    }
    let mut elsewhere = raw.proxy.trusted.clone();
    elsewhere.push("cloudflare".to_owned());
    let file = |name: &str| Some(PathBuf::from(name)).filter(|name| !name.as_os_str().is_empty());
    Ok(Some(Acme {
        settings: AcmeSettings {
            directory,
            email: given.email.clone(),
            names: names(raw)?,
            challenge,
            dns_hook: file(&given.dns_hook),
            eab,
            dir: data_dir.join("acme"),
            elsewhere: Trusted::parse(&elsewhere).map_err(|e| wrong("proxy.trusted", &e))?,
            first_wait: AcmeSettings::FIRST_WAIT,
        },
        ca_file: file(&given.ca_file),
    }))
}

/// The listeners that certificates need and nobody wrote down: 443, and 80 for those who come
/// without TLS and for the CA.
pub(super) fn listeners(raw: &RawConfig, given: &mut Vec<ListenerSpec>) -> Result<(), ConfigError> {
    let has_acme = given.iter().any(|spec| spec.tls == Some(Tls::Acme));
    if raw.acme.email.is_empty() {
        return match has_acme {
            true => Err(ConfigError(
                "listen.tls: \"acme\" needs acme.email to be set".into(),
            )),
            false => Ok(()),
        };
    }
    let everywhere = |port: u16| Addr::Tcp(([0_u16; 8], port).into());
    if !has_acme {
        let mut spec = ListenerSpec::plain(everywhere(443));
        spec.tls = Some(Tls::Acme);
        given.push(spec);
    }
    if !given.iter().any(|spec| spec.redirect.is_some()) {
        let mut spec = ListenerSpec::plain(everywhere(80));
        spec.redirect = Some(front::origin(raw)?);
        given.push(spec);
    }
    Ok(())
}

/// The names that certificates are for; the first is the most important one.
fn names(raw: &RawConfig) -> Result<Vec<String>, ConfigError> {
    let base = base_url(raw)?;
    let base = base.split('/').nth(2).unwrap_or("");
    let mut names: Vec<String> = [base, &raw.server_name, &raw.web.host]
        .into_iter()
        .map(without_port)
        .filter(|name| can_have_certificate(name))
        .collect();
    for name in &raw.acme.domains {
        let name = name.to_ascii_lowercase();
        if !can_have_certificate(&name) {
            return Err(wrong(
                "acme.domains",
                &format!("\"{name}\" is no host name"),
            ));
        }
        names.push(name);
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    match names.len() {
        0 => Err(ConfigError(format!(
            "acme.email: no CA gives a certificate for \"{}\"; set server_name, or acme.domains",
            raw.server_name
        ))),
        1..=NAMES_MAX => Ok(names),
        _ => Err(wrong("acme.domains", &"too many")),
    }
}

fn without_port(host: &str) -> String {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.to_ascii_lowercase()
}

fn challenge(raw: &RawConfig) -> Result<Challenge, ConfigError> {
    let given = raw.acme.challenge.as_str();
    let challenge = match given {
        "auto" => Challenge::Auto,
        "tls-alpn-01" => Challenge::Only(ChallengeKind::TlsAlpn01),
        "http-01" => Challenge::Only(ChallengeKind::Http01),
        "dns-01" => Challenge::Only(ChallengeKind::Dns01),
        other => {
            let words = ["auto", "tls-alpn-01", "http-01", "dns-01"];
            return Err(one_of("acme.challenge", other, &words));
        }
    };
    if challenge == Challenge::Only(ChallengeKind::Dns01) && raw.acme.dns_hook.is_empty() {
        return Err(wrong("acme.challenge", &"\"dns-01\" needs acme.dns_hook"));
    }
    Ok(challenge)
}

fn eab(raw: &RawConfig) -> Result<Option<Eab>, ConfigError> {
    let given = &raw.acme.eab;
    match (given.key_id.is_empty(), given.hmac_key_file.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(Eab {
            key_id: given.key_id.clone(),
            hmac_key_file: PathBuf::from(&given.hmac_key_file),
        })),
        _ => Err(wrong(
            "acme.eab",
            &"key_id and hmac_key_file belong together",
        )),
    }
}
