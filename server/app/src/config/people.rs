//! What the configuration says about mail to people, and about what they agree to.

use std::path::Path;

use serde_json::{Value, json};
use skerry_account::Terms;
use skerry_remote::mail::{MailOptions, MailTls};

use super::raw::{RawConfig, RawEmail};
use super::{ConfigError, one_of};

/// The mail server, if there is one.
pub(super) fn mail(raw: &RawConfig, base_url: &str) -> Result<Option<MailOptions>, ConfigError> {
    let RawEmail {
        host,
        port,
        tls,
        user,
        password_file,
        from,
    } = &raw.email;
    let wrong = |key: &str, what: &str| ConfigError(format!("email.{key}: {what}"));
    if host.is_empty() {
        if raw.registration.email_required {
            let what = "registration.email_required: no mail can be sent without email.host";
            return Err(ConfigError(what.into()));
        }
        return Ok(None);
    }
    let tls = match tls.as_str() {
        "starttls" => MailTls::StartTls,
        "tls" => MailTls::Tls,
        "none" => MailTls::Plain,
        other => return Err(one_of("email.tls", other, &["starttls", "tls", "none"])),
    };
    if from.is_empty() {
        return Err(wrong("from", "it has to be said whom the mails are from"));
    }
    let login = match (user.is_empty(), password_file.is_empty()) {
        (true, true) => None,
        (false, false) => Some((user.clone(), password(password_file)?)),
        _ => return Err(wrong("user", "user and password_file go together")),
    };
    Ok(Some(MailOptions {
        host: host.clone(),
        port: if *port == 0 { tls.port() } else { *port },
        tls,
        login,
        from: from.clone(),
        server_name: raw.server_name.clone(),
        base_url: base_url.to_owned(),
    }))
}

fn password(file: &str) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(Path::new(file))
        .map_err(|error| ConfigError(format!("email.password_file: {file}: {error}")))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// What people agree to when they register.
pub(super) fn terms(raw: &RawConfig) -> Result<Option<Terms>, ConfigError> {
    let policies = &raw.registration.policies;
    if policies.is_empty() {
        return Ok(None);
    }
    let mut versions = Vec::new();
    for (name, policy) in policies {
        let wrong = |what: &str| Err(ConfigError(format!("registration.policies.{name}: {what}")));
        let Some(policy) = policy.as_table() else {
            return wrong("a section with version and languages");
        };
        let Some(version) = policy.get("version").and_then(toml::Value::as_str) else {
            return wrong("version is missing");
        };
        let mut languages = policy
            .iter()
            .filter(|(key, _)| *key != "version")
            .peekable();
        if languages.peek().is_none() {
            return wrong("a language is missing, such as en = { name = .., url = .. }");
        }
        for (_, text) in languages {
            let part = |key| text.get(key).and_then(toml::Value::as_str);
            let web = |url: &str| url.starts_with("https://") || url.starts_with("http://");
            if part("name").is_none() || !part("url").is_some_and(web) {
                return wrong("each language needs name and url");
            }
        }
        versions.push(format!("{name} {version}"));
    }
    let policies: Value = serde_json::to_value(policies)
        .map_err(|error| ConfigError(format!("registration.policies: {error}")))?;
    Ok(Some(Terms {
        version: versions.join(", "),
        params: json!({ "policies": policies }),
    }))
}
