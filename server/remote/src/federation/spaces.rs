//! Rooms that other servers show: the rooms of a space wherever they live, and summaries of rooms
//! we are not in. What was shown is kept for some minutes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use skerry_core::{Membership, names};
use skerry_room::{HIERARCHY_MAX, HierarchyAsk, HierarchyPage, PublicRoom, RoomError, Step, Who};

use super::Federation;
use super::ask::ShownRoom;
use super::candidates::Candidates;
use super::fault::FederationError;

/// How long a page of a space waits for other servers; then it ends with what it has.
const PAGE_TIME: Duration = Duration::from_secs(20);
/// Servers that are asked for one room.
const MOST_SERVERS: usize = 3;
/// For how long what a server shows is believed, in ms.
const KEPT_MS: u64 = 5 * 60_000;
/// For how long it is remembered that nobody shows a room, in ms.
const NOTHING_MS: u64 = 60_000;
/// How many rooms are kept.
pub(super) const SHOWN: usize = 1_000;
/// The longest text of a room that is shown, in bytes.
const MAX_TEXT: usize = 4_096;
/// The most rooms of a join rule that are looked at.
const MAX_ALLOWED: usize = 500;

/// What is known of a room that lives elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Known {
    room: PublicRoom,
    /// Its children's events; none: they are not known.
    children: Option<Arc<[Box<RawValue>]>>,
}

impl Federation {
    /// A part of a space, as far as the user may see it, wherever its rooms live. Where other
    /// servers take too long it ends early, with a token for the rest.
    ///
    /// # Errors
    /// `Forbidden` for a room that they may not see or that there is not; `InvalidParam` for a
    /// token that is not known (any more) or was given for another question; the store's.
    pub async fn hierarchy(
        &self,
        who: Who,
        room_id: &str,
        ask: HierarchyAsk,
    ) -> Result<HierarchyPage, FederationError> {
        let until = Instant::now() + PAGE_TIME;
        let walk = self.rooms.walk(&who, room_id, &ask)?;
        let limit = ask.limit.clamp(1, HIERARCHY_MAX);
        let on = |walk, rooms| self.rooms.walk_on(who.clone(), walk, rooms, ask.clone());
        let mut stopped = on(walk, Vec::new()).await?;
        while let Some(step) = stopped.elsewhere.clone() {
            let known = self.known_of(&step, ask.suggested_only, until).await;
            let Known { room, children } = match known {
                Some(known) => known,
                None if step.depth == 0 => {
                    return Err(RoomError::Forbidden("You may not see this room".into()).into());
                }
                None => {
                    stopped = on(stopped.walk, stopped.rooms).await?;
                    continue;
                }
            };
            let before = stopped.rooms.len();
            let children = children.unwrap_or_default();
            stopped = self
                .rooms
                .met_elsewhere(&who, stopped, room, &children)
                .await?;
            if step.depth == 0 && stopped.rooms.len() == before {
                return Err(RoomError::Forbidden("You may not see this room".into()).into());
            }
            if stopped.rooms.len() >= limit || Instant::now() >= until {
                break;
            }
            stopped = on(stopped.walk, stopped.rooms).await?;
        }
        Ok(HierarchyPage {
            rooms: stopped.rooms,
            next: self.rooms.keep_walk(stopped.walk),
        })
    }

    /// A room's summary, asked of other servers where this one does not take part in it: for
    /// users of this server alone.
    ///
    /// # Errors
    /// `NotFound` for a room that there is not or that they may not know of; the store's.
    pub async fn summary(
        &self,
        who: Option<&Who>,
        room_id: &str,
        via: Vec<String>,
    ) -> Result<(PublicRoom, Option<Membership>), FederationError> {
        let user = who.map(|who| who.user);
        let here = self.rooms.is_here_id(room_id).await?;
        let (true, Some(who)) = (!here, who) else {
            return Ok(self.rooms.summary(user, room_id).await?);
        };
        let candidates = self.candidates(who, room_id, via).await?;
        let step = Step {
            room_id: room_id.into(),
            depth: 0,
            via: candidates.list().into(),
        };
        let until = Instant::now() + PAGE_TIME;
        let Some(known) = self.known_of(&step, false, until).await else {
            return Ok(self.rooms.summary(user, room_id).await?);
        };
        Ok(self.rooms.summary_elsewhere(who.user, known.room).await?)
    }

    /// What other servers show of a room; nothing where none shows anything in time.
    async fn known_of(&self, step: &Step, suggested: bool, until: Instant) -> Option<Known> {
        let key = key(&step.room_id, suggested);
        let now_ms = self.clock.now_ms();
        if let Some(known) = self.asked.shown.get(&key, now_ms)
            && known.as_ref().is_none_or(|known| known.children.is_some())
        {
            return known;
        }
        let candidates = Candidates::new(self.rooms.server_name())
            .and(step.via.iter())
            .and_of(&step.room_id);
        for server in candidates.list().iter().take(MOST_SERVERS) {
            let left = until.saturating_duration_since(Instant::now());
            let shown = self.shown_by(server, &step.room_id, suggested);
            match tokio::time::timeout(left, shown).await {
                Ok(Ok(shown)) if *shown.room.room_id == *step.room_id => {
                    let known = Known::of(shown.room, true);
                    self.keep_children(shown.children, suggested, now_ms);
                    self.keep_shown(&key, Some(known.clone()), now_ms);
                    return Some(known);
                }
                Ok(Ok(_)) => tracing::debug!(server, "another room than asked for is shown"),
                Ok(Err(error)) => tracing::debug!(%error, room = &*step.room_id, "not shown"),
                Err(_) => return None,
            }
        }
        self.keep_shown(&key, None, now_ms);
        None
    }

    fn keep_shown(&self, key: &str, known: Option<Known>, now_ms: u64) {
        let kept = if known.is_some() { KEPT_MS } else { NOTHING_MS };
        self.asked.shown.put(key, known, now_ms + kept, now_ms);
    }

    /// Rooms that are no spaces have no children that would have to be asked for.
    fn keep_children(&self, children: Vec<ShownRoom>, suggested: bool, now_ms: u64) {
        for child in children.into_iter().take(SHOWN / 2) {
            let known = Known::of(child, false);
            if names::is_room_id(&known.room.room_id) {
                let key = key(&known.room.room_id, suggested);
                self.keep_shown(&key, Some(known), now_ms);
            }
        }
    }
}

/// Under which name it is kept what is shown of a room.
fn key(room_id: &str, suggested: bool) -> String {
    format!("{suggested} {room_id}")
}

impl Known {
    /// `whole`: its children's events are all there.
    fn of(shown: ShownRoom, whole: bool) -> Known {
        let room = public_room(shown.room_id, &shown.rest);
        let leaf = room.room_type.as_deref() != Some("m.space");
        let children: Arc<[Box<RawValue>]> = match leaf {
            true => Arc::default(),
            false => shown.children_state.into(),
        };
        Known {
            room,
            children: (whole || leaf).then_some(children),
        }
    }
}

/// A room as another server shows it. What is not of the form it should have is left out.
fn public_room(room_id: String, shown: &Map<String, Value>) -> PublicRoom {
    let text = |name: &str| {
        let text = shown.get(name).and_then(Value::as_str);
        let text = text.map(|text| text.get(..text.floor_char_boundary(MAX_TEXT)));
        text.flatten()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let is = |name: &str| shown.get(name).and_then(Value::as_bool).unwrap_or(false);
    let joined = shown.get("num_joined_members").and_then(Value::as_u64);
    let allowed = shown.get("allowed_room_ids").and_then(Value::as_array);
    let allowed = allowed.map(Vec::as_slice).unwrap_or_default();
    let either = |name: &str, unstable: &str| text(name).or_else(|| text(unstable));
    PublicRoom {
        room_id,
        name: text("name"),
        topic: text("topic"),
        avatar_url: text("avatar_url"),
        canonical_alias: text("canonical_alias").filter(|alias| names::is_room_alias(alias)),
        joined: u32::try_from(joined.unwrap_or_default()).unwrap_or(u32::MAX),
        world_readable: is("world_readable"),
        guest_can_join: is("guest_can_join"),
        join_rule: text("join_rule").unwrap_or_else(|| "public".into()),
        room_type: text("room_type"),
        version: either("room_version", "im.nheko.summary.room_version").unwrap_or_default(),
        encryption: either("encryption", "im.nheko.summary.encryption"),
        allowed_rooms: allowed
            .iter()
            .filter_map(Value::as_str)
            .filter(|id| names::is_room_id(id))
            .take(MAX_ALLOWED)
            .map(str::to_owned)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn shown(value: Value) -> ShownRoom {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_shown_is_taken_as_far_as_it_makes_sense() {
        let known = Known::of(
            shown(json!({
                "room_id": "!a:b", "name": "é".repeat(4_000), "topic": 7, "world_readable": "yes",
                "num_joined_members": 10_000_000_000_u64, "canonical_alias": "no alias",
                "allowed_room_ids": ["!c:d", 5, "x"], "children_state": [{}],
            })),
            false,
        );
        assert_eq!(known.room.name.unwrap().len(), MAX_TEXT);
        assert_eq!(known.room.topic, None);
        assert!(!known.room.world_readable);
        assert_eq!(known.room.joined, u32::MAX);
        assert_eq!(known.room.canonical_alias, None);
        assert_eq!(known.room.allowed_rooms, ["!c:d"]);
        assert!(known.children.unwrap().is_empty(), "no space, no children");
        let space = json!({ "room_id": "!a:b", "room_type": "m.space", "children_state": [{}] });
        assert!(Known::of(shown(space.clone()), false).children.is_none());
        assert_eq!(Known::of(shown(space), true).children.unwrap().len(), 1);
    }
}
