//! The configuration that a web client starts with: made from the server's own at each request,
//! so that it can be neither missing nor stale, and overlaid with the administrator's file.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Settings;
use crate::site::CLIENTS_WELCOME;

/// The largest override file that is read, in bytes.
const OVERRIDE_MAX: u64 = 1024 * 1024;

/// The configuration as JSON. An override that cannot be used is left out and logged.
pub(crate) fn render(settings: &Settings, override_file: &Path) -> Vec<u8> {
    let mut config = own(settings);
    match read(override_file) {
        Ok(Some(over)) => overlay(&mut config, over),
        Ok(None) => {}
        Err(reason) => {
            let file = override_file.display();
            tracing::warn!(%file, reason, "the web client's override file is not used");
        }
    }
    config.to_string().into_bytes()
}

fn own(settings: &Settings) -> Value {
    json!({
        "default_server_config": {
            "m.homeserver": {
                "base_url": settings.base_url,
                "server_name": settings.server_name,
            },
        },
        "brand": "Element",
        "disable_guests": true,
        "room_directory": { "servers": [settings.server_name] },
        "embedded_pages": { "welcome_url": CLIENTS_WELCOME.trim_start_matches('/') },
        "setting_defaults": {
            "UIFeature.registration": settings.registration != crate::Registration::Closed,
        },
    })
}

fn read(file: &Path) -> Result<Option<Map<String, Value>>, String> {
    let facts = match fs::metadata(file) {
        Ok(facts) => facts,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if facts.len() > OVERRIDE_MAX {
        return Err(format!("it is larger than {OVERRIDE_MAX} bytes"));
    }
    let text = fs::read(file).map_err(|e| e.to_string())?;
    match serde_json::from_slice(&text) {
        Ok(Value::Object(over)) => Ok(Some(over)),
        Ok(_) => Err("it is not a JSON object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Objects are merged, everything else is replaced; `null` takes a key away.
fn overlay(config: &mut Value, over: Map<String, Value>) {
    let Value::Object(config) = config else {
        return;
    };
    for (key, value) in over {
        match (config.get_mut(&key), value) {
            (_, Value::Null) => {
                config.remove(&key);
            }
            (Some(old @ Value::Object(_)), Value::Object(over)) => overlay(old, over),
            (_, value) => {
                config.insert(key, value);
            }
        }
    }
}
