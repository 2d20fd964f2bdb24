//! `[federation]`: how other servers are talked with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ruma_common::ServerName;
use skerry_remote::federation::{OldKey, Policy, Revoked};

use super::raw::RawConfig;
use super::{ConfigError, wrong};

/// How other servers are talked with.
#[derive(Clone, Debug)]
pub struct Federation {
    /// A file of further root certificates to trust.
    pub ca_file: Option<PathBuf>,
    /// Whether servers may be at private addresses.
    pub allow_private: bool,
    /// Servers that are believed about the keys of others.
    pub trusted_key_servers: Vec<Arc<str>>,
    /// With whom.
    pub policy: Policy,
    /// Keys that nobody may use.
    pub revoked: Revoked,
    /// The operator's file of such keys.
    pub revoked_file: Option<PathBuf>,
    /// Keys that this server used before.
    pub old_keys: Vec<OldKey>,
    /// Whether presence is told and taken.
    pub presence: bool,
    /// Whether the names of devices are told.
    pub device_names: bool,
}

pub(super) fn check(raw: &RawConfig) -> Result<Federation, ConfigError> {
    let raw = &raw.federation;
    let path = |text: &String| Some(PathBuf::from(text)).filter(|p| !p.as_os_str().is_empty());
    let trusted = raw.trusted_key_servers.iter().map(|name| {
        let parsed = ServerName::parse(name.as_str());
        let wrong = |e| {
            wrong(
                "federation.trusted_key_servers",
                &format!("\"{name}\": {e}"),
            )
        };
        parsed.map(|name| name.as_str().into()).map_err(wrong)
    });
    let revoked_file = path(&raw.revoked_keys_file);
    let revoked = Revoked::load(revoked_file.as_deref()).map_err(|e| {
        let file = revoked_file.as_deref().map_or(Path::new(""), |file| file);
        wrong(
            "federation.revoked_keys_file",
            &format!("{}: {e}", file.display()),
        )
    })?;
    let old_keys = raw.old_signing_keys.iter().map(|text| {
        let what = format!("\"{text}\" is not \"ed25519:VERSION PUBLIC_KEY EXPIRED_TS\"");
        OldKey::parse(text).ok_or_else(|| wrong("federation.old_signing_keys", &what))
    });
    Ok(Federation {
        ca_file: path(&raw.ca_file),
        allow_private: raw.allow_private_addresses,
        trusted_key_servers: trusted.collect::<Result<_, _>>()?,
        policy: Policy::new(raw.enabled, &raw.allow, &raw.deny),
        revoked,
        revoked_file,
        old_keys: old_keys.collect::<Result<_, _>>()?,
        presence: raw.presence,
        device_names: raw.device_names,
    })
}
