//! `[media]`: where files lie, what is deleted, and when.

use std::time::Duration;

use skerry_media::prune::Schedule;
use skerry_media::{Bounds, S3Settings};

use super::raw::RawConfig;
use super::{ConfigError, one_of, units, wrong};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The least memory that any picture can be decoded in, in bytes.
const PICTURE_MEMORY_MIN: u64 = 32 << 20;

/// What decoding a picture may take.
pub(super) fn pictures(raw: &RawConfig) -> Result<Bounds, ConfigError> {
    let name = "media.picture_memory";
    let memory = units::bytes(&raw.media.picture_memory).map_err(|e| wrong(name, &e))?;
    if memory < PICTURE_MEMORY_MIN {
        return Err(wrong(name, &"no picture can be decoded in less than 32MiB"));
    }
    Ok(Bounds {
        pixels: raw.media.picture_pixels,
        memory,
    })
}

/// The object store that files lie in; none: the data directory.
pub(super) fn store(raw: &RawConfig) -> Result<Option<S3Settings>, ConfigError> {
    match raw.media.backend.as_str() {
        "local" => return Ok(None),
        "s3" => {}
        other => return Err(one_of("media.backend", other, &["local", "s3"])),
    }
    let s3 = &raw.media.s3;
    let url = s3.endpoint.parse::<http::Uri>();
    let good = url.is_ok_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https")) && url.query().is_none()
    });
    if !good {
        let what = "an http or https URL is needed";
        return Err(wrong("media.s3.endpoint", &what));
    }
    for (name, value) in [("bucket", &s3.bucket), ("region", &s3.region)] {
        if value.is_empty() {
            return Err(wrong(&format!("media.s3.{name}"), &"it is needed"));
        }
    }
    let key = |name: &str, file: &str| {
        let name = format!("media.s3.{name}");
        let read = std::fs::read_to_string(file);
        let text = read.map_err(|error| wrong(&name, &format!("{file:?}: {error}")))?;
        Ok(text.trim().to_owned())
    };
    Ok(Some(S3Settings {
        endpoint: s3.endpoint.clone(),
        bucket: s3.bucket.clone(),
        prefix: s3.prefix.clone(),
        region: s3.region.clone(),
        access_key: key("access_key_file", &s3.access_key_file)?,
        secret_key: key("secret_key_file", &s3.secret_key_file)?,
    }))
}

/// How long deleted media can be brought back.
pub(super) fn trash(raw: &RawConfig) -> Duration {
    DAY.saturating_mul(raw.media.trash_days)
}

/// How much of other servers' media is kept, in bytes; none: as much as there is.
pub(super) fn remote_cache(raw: &RawConfig) -> Result<Option<u64>, ConfigError> {
    let budget = units::bytes(&raw.media.remote_cache);
    let budget = budget.map_err(|e| wrong("media.remote_cache", &e))?;
    Ok((budget > 0).then_some(budget))
}

/// What is deleted each day.
pub(super) fn schedule(raw: &RawConfig) -> Result<Option<Schedule>, ConfigError> {
    let prune = &raw.media.prune;
    let age = |name: &str, text: &str| {
        let time = units::duration(text).map_err(|e| wrong(&format!("media.prune.{name}"), &e))?;
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Ok((ms > 0).then_some(ms))
    };
    let schedule = Schedule {
        at_minute: 0,
        remote_older_than_ms: age("remote_older_than", &prune.remote_older_than)?,
        local_older_than_ms: age("local_older_than", &prune.local_older_than)?,
        thumbnails_older_than_ms: age("thumbnails_older_than", &prune.thumbnails_older_than)?,
        remote_bytes: remote_cache(raw)?,
    };
    if prune.at.is_empty() {
        return Ok(None);
    }
    let at_minute = minute(&prune.at)
        .ok_or_else(|| wrong("media.prune.at", &"write it like \"03:30\", in UTC"))?;
    Ok(Some(Schedule {
        at_minute,
        ..schedule
    }))
}

/// Minutes after midnight.
fn minute(text: &str) -> Option<u64> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

#[cfg(test)]
mod tests {
    use super::minute;

    #[test]
    fn times_of_day() {
        assert_eq!(minute("03:30"), Some(210));
        assert_eq!(minute("0:0"), Some(0));
        assert_eq!(minute("24:00"), None);
        assert_eq!(minute("12:60"), None);
        assert_eq!(minute("noon"), None);
    }
}
