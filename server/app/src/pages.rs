//! What the web pages are told, from the configuration.

use std::path::PathBuf;

use serde_json::{Map, Value};
use skerry_web::{Registration, Settings};

use crate::config::Config;

/// Where installed web clients are kept.
pub(crate) fn shelf(config: &Config) -> PathBuf {
    config.data_dir.join("web")
}

/// What the pages say and serve.
pub(crate) fn settings(config: &Config) -> Settings {
    let registration = &config.registration;
    Settings {
        server_name: config.server_name.to_string(),
        base_url: config.base_url.clone(),
        registration: match (registration.enabled, registration.open) {
            (false, _) => Registration::Closed,
            (true, true) => Registration::Open,
            (true, false) => Registration::Token,
        },
        shelf: shelf(config),
        host: config.web.host.clone(),
        dir: config.web.dir.clone(),
        override_file: config.web.override_file.clone(),
        contacts: contacts(&config.well_known.support),
        policies: policies(registration.terms.as_ref().map(|terms| &terms.params)),
    }
}

/// What people agree to when they register, in English where that is one of the languages.
fn policies(terms: Option<&Value>) -> Vec<(String, String)> {
    let policies = terms.and_then(|params| params["policies"].as_object());
    let shown = |policy: &Value| {
        let languages = policy.as_object()?;
        let text = languages
            .get("en")
            .or_else(|| languages.values().find(|text| text.is_object()))?;
        let part = |key: &str| text[key].as_str().map(str::to_owned);
        Some((part("name")?, part("url")?))
    };
    policies
        .into_iter()
        .flatten()
        .filter_map(|(_, policy)| shown(policy))
        .collect()
}

/// The contacts of `/.well-known/matrix/support` as text and link.
fn contacts(support: &Map<String, Value>) -> Vec<(String, String)> {
    let text = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
    let mut found = Vec::new();
    for contact in support
        .get("contacts")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if let Some(mail) = text(contact, "email_address") {
            found.push((mail.clone(), format!("mailto:{mail}")));
        }
        if let Some(user) = text(contact, "matrix_id") {
            found.push((user.clone(), format!("https://matrix.to/#/{user}")));
        }
    }
    if let Some(page) = support.get("support_page").and_then(Value::as_str) {
        found.push((page.to_owned(), page.to_owned()));
    }
    found.retain(|(_, link)| {
        link.starts_with("https://") || link.starts_with("http://") || link.starts_with("mailto:")
    });
    found
}
