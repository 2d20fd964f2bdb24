//! What the configuration says about rooms: their version, how long what is in them is kept, and
//! the rooms in which the server itself speaks.

use skerry_core::RoomVersion;
use skerry_room::{NoticeSettings, Retention};

use super::raw::{self, RawConfig};
use super::{ConfigError, units, wrong};

/// How long what was redacted is kept for moderators, in ms.
pub(super) fn redacted_keep_ms(text: &str) -> Result<u64, ConfigError> {
    let keep = units::duration(text).map_err(|e| wrong("rooms.keep_redacted", &e))?;
    Ok(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX))
}

/// How long messages are kept, if that is limited.
pub(super) fn retention(raw: &raw::RawRetention) -> Result<Option<Retention>, ConfigError> {
    let ms = |name: &str, text: &str| {
        let time = units::duration(text).map_err(|e| wrong(&format!("retention.{name}"), &e))?;
        Ok(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    };
    let some = |ms: u64| Some(ms).filter(|ms| *ms > 0);
    let default_ms = some(ms("default_lifetime", &raw.default_lifetime)?);
    let shortest_ms = ms("shortest_lifetime", &raw.shortest_lifetime)?;
    let longest_ms = some(ms("longest_lifetime", &raw.longest_lifetime)?).unwrap_or(u64::MAX);
    if shortest_ms > longest_ms {
        let text = "retention.shortest_lifetime is longer than retention.longest_lifetime";
        return Err(ConfigError(text.into()));
    }
    Ok(raw.enabled.then_some(Retention {
        default_ms,
        shortest_ms,
        longest_ms,
    }))
}

/// The version of new rooms.
pub(super) fn room_version(text: &str) -> Result<RoomVersion, ConfigError> {
    RoomVersion::parse(text)
        .ok_or_else(|| ConfigError(format!("rooms.default_version: \"{text}\" is not known")))
}

/// How the server speaks to its users, if it does.
pub(super) fn notices(raw: &RawConfig) -> Result<Option<NoticeSettings>, ConfigError> {
    let raw_notices = &raw.server_notices;
    if raw_notices.localpart.is_empty() {
        return Ok(None);
    }
    let localpart = &raw_notices.localpart;
    skerry_core::names::new_user_id(localpart, &raw.server_name)
        .map_err(|e| ConfigError(format!("server_notices.localpart: \"{localpart}\": {e}")))?;
    for (key, url) in [
        ("avatar_url", &raw_notices.avatar_url),
        ("room_avatar_url", &raw_notices.room_avatar_url),
    ] {
        if !url.is_empty() && !url.starts_with("mxc://") {
            return Err(ConfigError(format!(
                "server_notices.{key}: \"{url}\" is not an mxc: URI"
            )));
        }
    }
    let set = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Ok(Some(NoticeSettings {
        localpart: localpart.clone(),
        display_name: set(&raw_notices.display_name),
        avatar_url: set(&raw_notices.avatar_url),
        room_name: raw_notices.room_name.clone(),
        room_topic: set(&raw_notices.room_topic),
        room_avatar_url: set(&raw_notices.room_avatar_url),
        auto_join: raw_notices.auto_join,
    }))
}
