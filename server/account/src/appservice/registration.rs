//! What an application service is registered with: read, checked, and turned into types.

use serde::Deserialize;
use serde_json::Value;

use super::namespace::{Namespace, Pattern};

/// Longest id, token or URL, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;
/// Most protocols of one application service.
const PROTOCOLS_MAX: usize = 100;
/// Largest registration, in bytes of JSON.
const REGISTRATION_BYTES_MAX: usize = 1 << 20;

/// A registration (application service API, "Registration"), checked.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The id that the application service has chosen.
    pub id: String,
    /// Where it listens, without a slash at the end; none: nothing is sent to it.
    pub url: Option<String>,
    /// What it shows us.
    pub as_token: String,
    /// What we show it.
    pub hs_token: String,
    /// The localpart of its own user.
    pub sender_localpart: String,
    /// Users; only those of this server count.
    pub users: Namespace,
    /// Room aliases.
    pub aliases: Namespace,
    /// Room ids.
    pub rooms: Namespace,
    /// Whether the users it acts as are rate limited; its own user never is.
    pub rate_limited: bool,
    /// The networks that it speaks for.
    pub protocols: Vec<String>,
    /// It wants typing, receipts, presence and messages to devices.
    pub ephemeral: bool,
    /// It asked for that under the name from before it was in the specification (MSC2409).
    pub early_names: bool,
    /// It wants what encryption needs: changed devices and counts of keys (MSC3202).
    pub crypto: bool,
    /// It makes devices without logging in, and may not log in (MSC4190).
    pub devices: bool,
    /// The registration as it was given, as JSON.
    pub source: Value,
}

/// What is wrong with a registration, in words for whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegistrationError(pub String);

/// The shape; other fields are for the application service itself and for other servers.
#[derive(Deserialize)]
struct Raw {
    id: Value,
    #[serde(default = "missing")]
    url: Value,
    as_token: Value,
    hs_token: Value,
    sender_localpart: Value,
    namespaces: RawNamespaces,
    #[serde(default)]
    rate_limited: Option<bool>,
    #[serde(default)]
    protocols: Option<Vec<Value>>,
    #[serde(default)]
    receive_ephemeral: Option<bool>,
    #[serde(default, rename = "de.sorunome.msc2409.push_ephemeral")]
    push_ephemeral: Option<bool>,
    #[serde(default, rename = "org.matrix.msc3202")]
    msc3202: Option<bool>,
    #[serde(default, rename = "io.element.msc4190")]
    msc4190: Option<bool>,
}

#[derive(Deserialize)]
struct RawNamespaces {
    #[serde(default)]
    users: Option<Vec<RawPattern>>,
    #[serde(default)]
    aliases: Option<Vec<RawPattern>>,
    #[serde(default)]
    rooms: Option<Vec<RawPattern>>,
}

#[derive(Deserialize)]
struct RawPattern {
    regex: String,
    #[serde(default)]
    exclusive: bool,
}

/// Stands for a `url` that is not there: leaving it out must not turn the sending off unseen.
fn missing() -> Value {
    Value::Bool(false)
}

impl Registration {
    /// Reads a registration.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read(source: Value) -> Result<Registration, RegistrationError> {
        read(source).map_err(RegistrationError)
    }
}

fn read(source: Value) -> Result<Registration, String> {
    if !source.is_object() {
        return Err("it has to be a list of keys and values, such as `id: my-bridge`".into());
    }
    if source.to_string().len() > REGISTRATION_BYTES_MAX {
        return Err("it is larger than 1 MiB".into());
    }
    let raw: Raw = serde_json::from_value(source.clone()).map_err(|error| error.to_string())?;
    let as_token = token("as_token", &raw.as_token)?;
    let hs_token = token("hs_token", &raw.hs_token)?;
    if as_token == hs_token {
        return Err("as_token and hs_token are the same; each side needs one of its own".into());
    }
    let sender_localpart = text("sender_localpart", &raw.sender_localpart)?;
    if !super::users::is_localpart(&sender_localpart) {
        return Err(format!(
            "sender_localpart: {sender_localpart:?} cannot be the first part of a user id"
        ));
    }
    let protocols = raw.protocols.unwrap_or_default();
    if protocols.len() > PROTOCOLS_MAX {
        return Err(format!("protocols: at most {PROTOCOLS_MAX}"));
    }
    let protocols = protocols.iter().map(|protocol| text("protocols", protocol));
    let namespace = |list: &str, patterns| Namespace::new(&format!("namespaces.{list}"), patterns);
    Ok(Registration {
        id: text("id", &raw.id)?,
        url: url(&raw.url)?,
        as_token,
        hs_token,
        sender_localpart,
        users: namespace("users", &patterns(raw.namespaces.users))?,
        aliases: namespace("aliases", &patterns(raw.namespaces.aliases))?,
        rooms: namespace("rooms", &patterns(raw.namespaces.rooms))?,
        rate_limited: raw.rate_limited.unwrap_or(true),
        protocols: protocols.collect::<Result<_, _>>()?,
        ephemeral: raw
            .receive_ephemeral
            .or(raw.push_ephemeral)
            .unwrap_or(false),
        early_names: raw.push_ephemeral.unwrap_or(false),
        crypto: raw.msc3202.unwrap_or(false),
        devices: raw.msc4190.unwrap_or(false),
        source,
    })
}

fn patterns(list: Option<Vec<RawPattern>>) -> Vec<Pattern> {
    let list = list.unwrap_or_default().into_iter();
    list.map(|raw| Pattern {
        regex: raw.regex,
        exclusive: raw.exclusive,
    })
    .collect()
}

fn text(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) if text.is_empty() => Err(format!("{key}: must not be empty")),
        Value::String(text) if text.len() > TEXT_BYTES_MAX => {
            Err(format!("{key}: longer than {TEXT_BYTES_MAX} bytes"))
        }
        Value::String(text) if text.chars().any(char::is_control) => {
            Err(format!("{key}: holds a control character"))
        }
        Value::String(text) => Ok(text.clone()),
        _ => Err(format!("{key}: has to be text; put it in quotes")),
    }
}

/// A token goes into a header.
fn token(key: &str, value: &Value) -> Result<String, String> {
    let token = text(key, value)?;
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{key}: only ASCII letters, digits and signs"));
    }
    Ok(token)
}

fn url(value: &Value) -> Result<Option<String>, String> {
    let url = match value {
        Value::Null => return Ok(None),
        Value::Bool(false) => {
            return Err("url: is missing; write `url: null` if nothing is to be sent".into());
        }
        Value::String(url) if url.is_empty() => return Ok(None),
        other => text("url", other)?,
    };
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
        .unwrap_or_default();
    let host = rest.split('/').next().unwrap_or_default();
    let strange = |c: char| c.is_whitespace() || !c.is_ascii() || "?#@".contains(c);
    if host.is_empty() || url.contains(strange) {
        return Err(format!(
            "url: {url:?} is not of the form http://host:port or https://host/path"
        ));
    }
    Ok(Some(url.trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({
            "id": "irc",
            "url": "http://127.0.0.1:9999/",
            "as_token": "as",
            "hs_token": "hs",
            "sender_localpart": "_irc",
            "namespaces": { "users": [{ "regex": "@irc_.*", "exclusive": true }] },
            "something_else": true,
        })
    }

    fn wrong(key: &str, value: Value) -> String {
        let mut changed = good();
        changed[key] = value;
        Registration::read(changed).unwrap_err().0
    }

    #[test]
    fn reads_what_bridges_write() {
        let read = Registration::read(good()).unwrap();
        assert_eq!(read.url.as_deref(), Some("http://127.0.0.1:9999"));
        assert!(read.rate_limited && !read.ephemeral && !read.crypto && !read.devices);
        let mut more = good();
        more["url"] = Value::Null;
        more["rate_limited"] = json!(false);
        more["de.sorunome.msc2409.push_ephemeral"] = json!(true);
        more["org.matrix.msc3202"] = json!(true);
        more["io.element.msc4190"] = json!(true);
        more["protocols"] = json!(["irc"]);
        let read = Registration::read(more).unwrap();
        assert_eq!(read.url, None);
        assert!(!read.rate_limited && read.ephemeral && read.crypto && read.devices);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            wrong("as_token", json!(123)),
            "as_token: has to be text; put it in quotes"
        );
        assert!(wrong("hs_token", json!("as")).contains("the same"));
        assert!(wrong("url", json!("localhost:1")).contains("http://host:port"));
        assert!(wrong("url", json!("http://a?b")).contains("http://host:port"));
        assert!(wrong("id", json!("")).contains("empty"));
        assert!(wrong("sender_localpart", json!("a:b")).contains("user id"));
        assert!(wrong("namespaces", json!({ "users": [{}] })).contains("regex"));
        let unclosed = json!({ "rooms": [{ "regex": "[" }] });
        assert!(wrong("namespaces", unclosed).starts_with("namespaces.rooms[0].regex"));
        let mut without = good();
        without.as_object_mut().unwrap().remove("url");
        let said = Registration::read(without).unwrap_err().0;
        assert!(said.contains("url: null"), "{said}");
        assert!(Registration::read(json!([])).is_err());
    }
}
