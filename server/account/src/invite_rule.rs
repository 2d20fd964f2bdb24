//! Whose invites a user wants: invite permission (client-server API, "Invite permission") and the
//! finer filter of MSC4155.

use serde::Deserialize;
use serde_json::Value;
use skerry_core::{UserNid, names};
use skerry_store::{Snapshot, StoreError};

use crate::data;

/// The account data that blocks all invites, with the name it had as MSC4380.
const PERMISSION: [&str; 2] = [
    "m.invite_permission_config",
    "org.matrix.msc4380.invite_permission_config",
];
/// The account data with patterns of users and servers (MSC4155).
const FILTER: &str = "org.matrix.msc4155.invite_permission_config";
/// Longest pattern that is looked at, in bytes: no id is longer.
const MAX_PATTERN_BYTES: usize = 255;
/// Most patterns of a list that are looked at.
const MAX_PATTERNS: usize = 1_000;

/// What becomes of an invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteRule {
    /// The user gets it.
    Allow,
    /// It is accepted, and the user never sees it.
    Ignore,
    /// It is refused.
    Block,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Filter {
    #[serde(deserialize_with = "patterns")]
    allowed_users: Vec<String>,
    #[serde(deserialize_with = "patterns")]
    ignored_users: Vec<String>,
    #[serde(deserialize_with = "patterns")]
    blocked_users: Vec<String>,
    #[serde(deserialize_with = "patterns")]
    allowed_servers: Vec<String>,
    #[serde(deserialize_with = "patterns")]
    ignored_servers: Vec<String>,
    #[serde(deserialize_with = "patterns")]
    blocked_servers: Vec<String>,
}

/// What is no list of strings is an empty one: clients write this without our looking.
fn patterns<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let Value::Array(items) = Value::deserialize(from)? else {
        return Ok(Vec::new());
    };
    let texts = items.into_iter().filter_map(|item| match item {
        Value::String(text) => Some(text),
        _ => None,
    });
    let usable = texts.filter(|text| !text.is_empty() && text.len() <= MAX_PATTERN_BYTES);
    Ok(usable.take(MAX_PATTERNS).collect())
}

impl Filter {
    /// Users are asked before servers, and what is allowed before what is not.
    fn rule(&self, inviter: &str) -> InviteRule {
        let server = names::server_of(inviter).unwrap_or_default();
        let host = without_port(server);
        let groups = [
            (&self.allowed_users, InviteRule::Allow, inviter),
            (&self.ignored_users, InviteRule::Ignore, inviter),
            (&self.blocked_users, InviteRule::Block, inviter),
            (&self.allowed_servers, InviteRule::Allow, host),
            (&self.ignored_servers, InviteRule::Ignore, host),
            (&self.blocked_servers, InviteRule::Block, host),
        ];
        let fits = |patterns: &[String], text: &str| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| skerry_core::push::glob_matches(pattern, text))
        };
        let found = groups
            .into_iter()
            .find(|(patterns, _, text)| fits(patterns, text));
        found.map_or(InviteRule::Allow, |(_, rule, _)| rule)
    }
}

fn without_port(server: &str) -> &str {
    match server.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
        _ => server,
    }
}

/// What becomes of an invite to a local user by somebody. Whom the user ignores is another
/// matter (see [`crate::ignored`]).
///
/// # Errors
/// Those of the store.
pub fn invite_rule(
    snap: &Snapshot,
    user: UserNid,
    inviter: &str,
) -> Result<InviteRule, StoreError> {
    for kind in PERMISSION {
        if let Some(datum) = data::one(snap, user, None, kind)?
            && let Ok(config) = serde_json::from_str::<Value>(&datum.json)
            && config.get("default_action").and_then(Value::as_str) == Some("block")
        {
            return Ok(InviteRule::Block);
        }
    }
    let Some(datum) = data::one(snap, user, None, FILTER)? else {
        return Ok(InviteRule::Allow);
    };
    let filter: Filter = serde_json::from_str(&datum.json).unwrap_or_default();
    Ok(filter.rule(inviter))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::{Filter, InviteRule};

    #[test]
    fn users_come_before_servers_and_allowing_before_the_rest() {
        let filter: Filter = serde_json::from_value(json!({
            "allowed_users": ["@friend:*", 7, ""],
            "ignored_users": ["@noisy?:bad.example"],
            "blocked_users": ["@friend:bad.example", "@spam*"],
            "ignored_servers": ["*.quiet.example", "quiet.example"],
            "blocked_servers": ["bad.example"],
            "allowed_servers": "no list",
        }))
        .unwrap();
        for (inviter, rule) in [
            ("@friend:bad.example", InviteRule::Allow),
            ("@noisy1:bad.example", InviteRule::Ignore),
            ("@noisy:bad.example", InviteRule::Block),
            ("@spammer:good.example", InviteRule::Block),
            ("@other:bad.example", InviteRule::Block),
            ("@other:bad.example:8448", InviteRule::Block),
            ("@other:a.quiet.example", InviteRule::Ignore),
            ("@other:good.example", InviteRule::Allow),
        ] {
            assert_eq!(filter.rule(inviter), rule, "{inviter}");
        }
    }
}
