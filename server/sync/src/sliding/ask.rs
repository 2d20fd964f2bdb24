//! What a client asks of sliding sync (MSC4186): the body of its request, checked once.
//!
//! Wrong types are refused; unknown keys are ignored, as extensions come and go.

use std::collections::BTreeMap;

use serde::Deserialize;
use skerry_core::Pos;

/// Most lists in one request.
const LISTS_MAX: usize = 100;
/// Longest name of a list, in bytes.
const LIST_NAME_BYTES_MAX: usize = 64;
/// Most ranges of all lists together; a list without any counts as one. Each may name all rooms.
const RANGES_MAX: usize = 100;
/// Most rooms subscribed to.
const SUBSCRIPTIONS_MAX: usize = 2_000;
/// Most entries of state required of one room, of names in one filter, of rooms or lists named by
/// one extension.
const ENTRIES_MAX: usize = 1_000;
/// Longest type or key of state that is required, in bytes: no event has longer ones, and what was
/// asked for is remembered with each room.
const STATE_NAME_BYTES_MAX: usize = 255;
/// Longest name of a connection, in bytes.
const CONN_ID_BYTES_MAX: usize = 255;
/// Most timeline events per room that may be asked for.
const LIMIT_ASKED_MAX: u64 = 1_000;
/// Most timeline events per room and answer, whatever is asked for.
pub(super) const LIMIT_MAX: u64 = 100;
/// Most messages to the device, changes of subscriptions or sticky events in one answer.
pub(super) const EXTENSION_LIMIT_MAX: u64 = 100;

/// Why a request is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadAsk {
    /// Something is longer than allowed.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// Something is not what it has to be.
    #[error("{0}")]
    Wrong(&'static str),
}

/// The body of a request.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SlidingAsk {
    /// Tells the connections of one device apart.
    #[serde(default)]
    pub conn_id: Option<String>,
    /// To be repeated in the answer.
    #[serde(default)]
    pub txn_id: Option<String>,
    /// Windows onto the rooms, by name.
    #[serde(default)]
    pub(super) lists: Option<BTreeMap<String, ListAsk>>,
    /// Rooms that are wanted wherever they stand, by id.
    #[serde(default)]
    pub(super) room_subscriptions: Option<BTreeMap<String, DetailAsk>>,
    /// What is wanted beside rooms.
    #[serde(default)]
    pub(super) extensions: Option<ExtensionsAsk>,
}

/// What is wanted of a room.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct DetailAsk {
    /// Types and keys of state events.
    #[serde(default)]
    pub required_state: Vec<(String, String)>,
    /// Newest events at most.
    pub timeline_limit: u64,
}

/// A window onto the rooms.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct ListAsk {
    /// Places in the sorted list, the last one included. Without it, all.
    #[serde(default)]
    pub ranges: Option<Vec<(u64, u64)>>,
    /// All rooms are wanted, whatever the ranges say.
    #[serde(default)]
    pub slow_get_all_rooms: Option<bool>,
    /// What is wanted of each room.
    #[serde(flatten)]
    pub detail: DetailAsk,
    /// Which rooms are in the list.
    #[serde(default)]
    pub filters: Option<Filters>,
}

/// Which rooms are in a list: those that pass all that is set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filters {
    /// Named in `m.direct`.
    pub is_dm: Option<bool>,
    /// Children of one of these spaces, by id, where the user is joined to the space.
    pub spaces: Option<Vec<String>>,
    /// Encrypted.
    pub is_encrypted: Option<bool>,
    /// Invited to.
    pub is_invite: Option<bool>,
    /// Of one of these types; null stands for rooms without one.
    pub room_types: Option<Vec<Option<String>>>,
    /// Of none of these types.
    pub not_room_types: Option<Vec<Option<String>>>,
    /// With this in the name, in whatever case.
    pub room_name_like: Option<String>,
    /// With one of these tags.
    pub tags: Option<Vec<String>>,
    /// With none of these tags.
    pub not_tags: Option<Vec<String>>,
}

/// What is wanted beside rooms.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ExtensionsAsk {
    pub to_device: Option<PagedAsk>,
    pub e2ee: Option<SwitchAsk>,
    pub account_data: Option<ScopedAsk>,
    pub receipts: Option<ScopedAsk>,
    pub typing: Option<ScopedAsk>,
    #[serde(rename = "io.element.msc4308.thread_subscriptions")]
    pub threads: Option<PagedAsk>,
    #[serde(rename = "org.matrix.msc4354.sticky_events")]
    pub sticky: Option<PagedAsk>,
}

/// An extension that is on or off.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SwitchAsk {
    pub enabled: Option<bool>,
}

/// An extension that comes in pages.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PagedAsk {
    pub enabled: Option<bool>,
    /// Most things in one answer.
    pub limit: Option<u64>,
    /// `next_batch` of the answer before.
    pub since: Option<String>,
}

/// An extension about rooms.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(super) struct ScopedAsk {
    pub enabled: Option<bool>,
    /// Of which lists; `*` stands for all.
    pub lists: Option<Vec<String>>,
    /// Which rooms; `*` stands for all that the answer is about.
    pub rooms: Option<Vec<String>>,
}

impl Default for ScopedAsk {
    fn default() -> ScopedAsk {
        ScopedAsk {
            enabled: None,
            lists: Some(vec!["*".to_owned()]),
            rooms: Some(vec!["*".to_owned()]),
        }
    }
}

impl SlidingAsk {
    /// Refuses what is longer than is gone through for one answer.
    ///
    /// # Errors
    /// [`BadAsk`].
    pub fn check(&self) -> Result<(), BadAsk> {
        let conn_id = self.conn_id.as_deref().unwrap_or_default();
        fits("conn_id", conn_id.len(), CONN_ID_BYTES_MAX)?;
        fits("txn_id", self.txn_id.as_deref().map_or(0, str::len), 255)?;
        if let Some(lists) = &self.lists {
            fits("lists", lists.len(), LISTS_MAX)?;
            let ranges = lists
                .values()
                .map(|list| list.ranges().map_or(1, <[_]>::len));
            fits("ranges", ranges.sum(), RANGES_MAX)?;
            for (name, list) in lists {
                fits("The name of a list", name.len(), LIST_NAME_BYTES_MAX)?;
                list.check()?;
            }
        }
        if let Some(rooms) = &self.room_subscriptions {
            fits("room_subscriptions", rooms.len(), SUBSCRIPTIONS_MAX)?;
            rooms.values().try_for_each(DetailAsk::check)?;
        }
        self.extensions
            .as_ref()
            .map_or(Ok(()), ExtensionsAsk::check)
    }

    pub(super) fn conn_id(&self) -> &str {
        self.conn_id.as_deref().unwrap_or_default()
    }

    pub(super) fn lists(&self) -> impl Iterator<Item = (&String, &ListAsk)> {
        self.lists.iter().flatten()
    }

    pub(super) fn subscriptions(&self) -> impl Iterator<Item = (&String, &DetailAsk)> {
        self.room_subscriptions.iter().flatten()
    }

    /// Up to where the client says to have messages to the device.
    pub(super) fn to_device_since(&self) -> Option<Pos> {
        let ask = self.extensions.as_ref()?.to_device.as_ref()?;
        ask.is_enabled().then(|| ask.since())?
    }
}

impl ListAsk {
    fn check(&self) -> Result<(), BadAsk> {
        self.detail.check()?;
        let Some(filters) = &self.filters else {
            return Ok(());
        };
        let texts = [&filters.spaces, &filters.tags, &filters.not_tags];
        let types = [&filters.room_types, &filters.not_room_types];
        let longest = texts.iter().map(|list| list.as_ref().map_or(0, Vec::len));
        let longest = longest.chain(types.iter().map(|list| list.as_ref().map_or(0, Vec::len)));
        fits("filters", longest.max().unwrap_or(0), ENTRIES_MAX)
    }

    /// The places of the list that are wanted; `None`: all.
    pub(super) fn ranges(&self) -> Option<&[(u64, u64)]> {
        if self.slow_get_all_rooms.unwrap_or(false) {
            return None;
        }
        self.ranges.as_deref()
    }
}

impl DetailAsk {
    fn check(&self) -> Result<(), BadAsk> {
        fits("required_state", self.required_state.len(), ENTRIES_MAX)?;
        let names = self
            .required_state
            .iter()
            .map(|(kind, key)| kind.len().max(key.len()));
        let longest = names.max().unwrap_or(0);
        fits("A name in required_state", longest, STATE_NAME_BYTES_MAX)?;
        if self.timeline_limit > LIMIT_ASKED_MAX {
            return Err(BadAsk::Wrong("timeline_limit must be at most 1000"));
        }
        Ok(())
    }

    /// Timeline events at most.
    pub(super) fn limit(&self) -> u32 {
        u32::try_from(self.timeline_limit.min(LIMIT_MAX)).unwrap_or(0)
    }
}

impl ExtensionsAsk {
    fn check(&self) -> Result<(), BadAsk> {
        for scoped in [&self.account_data, &self.receipts, &self.typing] {
            let Some(scoped) = scoped else { continue };
            let names = [&scoped.lists, &scoped.rooms];
            for names in names.into_iter().flatten() {
                fits("An extension's list", names.len(), ENTRIES_MAX)?;
            }
        }
        for paged in [&self.to_device, &self.sticky].into_iter().flatten() {
            if paged.since.is_some() && paged.since().is_none() {
                return Err(BadAsk::Wrong("since is not a token of this server"));
            }
        }
        Ok(())
    }
}

impl SwitchAsk {
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(false)
    }
}

impl ScopedAsk {
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(false)
    }
}

impl PagedAsk {
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(false)
    }

    pub(super) fn limit(&self) -> usize {
        let limit = self.limit.unwrap_or(EXTENSION_LIMIT_MAX);
        usize::try_from(limit.min(EXTENSION_LIMIT_MAX)).unwrap_or(0)
    }

    /// The position that `since` stands for, if it does.
    pub(super) fn since(&self) -> Option<Pos> {
        let text = self.since.as_deref()?;
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let pos = Pos(text.parse().ok().filter(|_| digits)?);
        (!pos.is_stamp()).then_some(pos)
    }
}

fn fits(what: &'static str, length: usize, most: usize) -> Result<(), BadAsk> {
    if length > most {
        return Err(BadAsk::TooLong(what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn check(body: serde_json::Value) -> Result<(), BadAsk> {
        serde_json::from_value::<SlidingAsk>(body).unwrap().check()
    }

    #[test]
    fn what_is_too_long_is_refused() {
        assert_eq!(check(json!({})), Ok(()));
        let many: BTreeMap<String, _> = (0..101)
            .map(|n| {
                (
                    n.to_string(),
                    json!({"ranges": [[0, 1]], "timeline_limit": 1}),
                )
            })
            .collect();
        for body in [
            json!({"lists": many}),
            json!({"lists": {"x".repeat(65): {"timeline_limit": 1}}}),
            json!({"lists": {"x": {"timeline_limit": 1_001}}}),
            json!({"conn_id": "x".repeat(256)}),
            json!({"lists": {"x": {"timeline_limit": 1, "ranges": vec![(0, 1); 101]}}}),
            json!({"lists": {"x": {"timeline_limit": 1, "ranges": vec![(0, 1); 60]},
                "y": {"timeline_limit": 1, "ranges": vec![(0, 1); 60]}}}),
            json!({"lists": {"x": {"timeline_limit": 1, "filters": {"tags": vec!["t"; 1_001]}}}}),
            json!({"room_subscriptions": {"!x:y": {"timeline_limit": 1,
                "required_state": vec![("a", "b"); 1_001]}}}),
            json!({"lists": {"x": {"timeline_limit": 1,
                "required_state": [["m.room.name", "k".repeat(256)]]}}}),
            json!({"room_subscriptions": {"!x:y": {"timeline_limit": 1,
                "required_state": [["t".repeat(256), ""]]}}}),
            json!({"extensions": {"to_device": {"since": "soon"}}}),
            json!({"extensions": {"typing": {"rooms": vec!["!x:y"; 1_001]}}}),
        ] {
            assert!(check(body.clone()).is_err(), "{body}");
        }
    }

    #[test]
    fn null_stands_for_nothing() {
        let body = json!({"conn_id": null, "lists": {"a": {"timeline_limit": 1, "ranges": null,
            "filters": {"is_dm": null, "room_types": [null]}}}, "extensions": {"e2ee": null}});
        let ask: SlidingAsk = serde_json::from_value(body).unwrap();
        let list = ask.lists().next().unwrap().1;
        assert_eq!(list.ranges(), None);
        assert_eq!(list.filters.as_ref().unwrap().room_types, Some(vec![None]));
        let scoped: ScopedAsk = serde_json::from_value(json!({"enabled": true})).unwrap();
        assert_eq!(scoped.lists, Some(vec!["*".to_owned()]));
    }
}
