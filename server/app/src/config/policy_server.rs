//! `[policy_server]`: which rooms this server is the policy server of, and what it does not sign.

use std::path::Path;

use skerry_core::policy::{RuleLists, Rules};
use skerry_remote::federation::DeskOptions;

use super::raw::RawConfig;
use super::{ConfigError, wrong};

/// The largest list that is read, in bytes.
const LIST_MAX: u64 = 64 << 20;

/// What the configuration says; none where no room is named.
pub(super) fn check(raw: &RawConfig) -> Result<Option<DeskOptions>, ConfigError> {
    let raw = &raw.policy_server;
    if raw.rooms.is_empty() {
        return Ok(None);
    }
    if let Some(room) = raw
        .rooms
        .iter()
        .find(|id| !(*id == "*" || id.starts_with('!')))
    {
        let text = format!("\"{room}\" is no room id; they begin with \"!\"");
        return Err(wrong("policy_server.rooms", &text));
    }
    let mut words = raw.deny_words.clone();
    words.extend(lines(
        "policy_server.deny_words_file",
        &raw.deny_words_file,
    )?);
    let key = "policy_server.deny_media_file";
    let media = lines(key, &raw.deny_media_file)?.into_iter().map(|line| {
        let text = format!("\"{line}\" is no hash: 64 hexadecimal digits");
        skerry_media::parse_hash(&line).ok_or_else(|| wrong(key, &text))
    });
    let lists = RuleLists {
        senders: raw.deny_senders.clone(),
        servers: raw.deny_servers.clone(),
        types: raw.deny_types.clone(),
        words,
        media: media.collect::<Result<_, _>>()?,
    };
    Ok(Some(DeskOptions {
        rooms: raw.rooms.clone(),
        rules: Rules::new(lists),
    }))
}

/// The entries of a file, one in each line; lines that begin with `#` are remarks.
fn lines(key: &str, path: &str) -> Result<Vec<String>, ConfigError> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let path = Path::new(path);
    let failed = |error: std::io::Error| wrong(key, &format!("{}: {error}", path.display()));
    if std::fs::metadata(path).map_err(failed)?.len() > LIST_MAX {
        let text = format!("{} is larger than 64 MiB", path.display());
        return Err(wrong(key, &text));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let entries = text.lines().map(str::trim);
    let entries = entries.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(entries.map(str::to_owned).collect())
}
