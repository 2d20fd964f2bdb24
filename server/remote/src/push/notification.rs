//! One notification, put together when it is sent.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use skerry_account::pusher::{PushItem, Pusher, PusherKey, PusherKind};
use skerry_core::{EventNid, RoomNid, UserNid};
use skerry_room::{Placed, Rooms, Viewer};
use skerry_store::{Snapshot, StoreError};

use super::WORTH_MS;
use super::lookup::{data, shows_badge, viewer};

/// What is known of an event that notifies.
pub(super) struct Notification {
    /// The fields of `notification` in the push gateway API, but `devices` and `counts`.
    pub(super) fields: Map<String, Value>,
    /// How it is to be shown, from the push rules.
    pub(super) tweaks: Map<String, Value>,
    /// How much is unread; none where the pusher does not want to know.
    pub(super) unread: Option<u64>,
}

impl Notification {
    /// Whether it is worth waking a device for.
    pub(super) fn is_urgent(&self) -> bool {
        self.fields.get("prio").and_then(Value::as_str) == Some("high")
    }
}

/// Puts notifications together.
#[derive(Clone)]
pub(super) struct Composer {
    rooms: Rooms,
}

impl Composer {
    pub(super) fn new(rooms: Rooms) -> Composer {
        Composer { rooms }
    }

    /// What is to be sent for an item; `None` if it is not worth it any more: read, redacted,
    /// too old, or its user has left.
    pub(super) fn compose(
        &self,
        snap: &Snapshot,
        item: &PushItem,
        pusher: &Pusher,
        now_ms: u64,
    ) -> Result<Option<Notification>, StoreError> {
        let viewer = viewer(self.rooms.store(), item.user())?;
        let unread = if shows_badge(pusher) {
            Some(self.rooms.unread_total(snap, &viewer)?)
        } else {
            None
        };
        let PushItem::Event {
            room,
            event,
            actions,
            at_ms,
            ..
        } = item
        else {
            return Ok(unread.map(|unread| Notification {
                fields: Map::new(),
                tweaks: Map::new(),
                unread: Some(unread),
            }));
        };
        if at_ms.saturating_add(WORTH_MS) < now_ms {
            return Ok(None);
        }
        let (room, event) = (RoomNid(*room), EventNid(*event));
        let Some(event) = self.rooms.placed(snap, room, event)? else {
            return Ok(None);
        };
        let mut view = self.rooms.view(snap, &viewer, room)?;
        // Also of who is invited to a room that this server does not take part in.
        let of = self.rooms.member_of(snap, viewer.user, room)?;
        let membership = of.map(|of| of.membership);
        if event.redacted_by.is_some() || view.has_read(&event)? || !concerns(membership) {
            return Ok(None);
        }
        // Whoever is invited sees the invite, and nothing else yet.
        let own = event.event.is("m.room.member", &viewer.user_id);
        if !own && view.admit(&event)?.is_none() {
            return Ok(None);
        }
        let tweaks = tweaks(actions);
        let mut fields = Map::new();
        self.fill(snap, &mut fields, (&viewer, &event), pusher)?;
        let urgent = event.event.event_type() == "m.room.encrypted"
            || tweaks.contains_key("sound")
            || tweaks.get("highlight") == Some(&Value::Bool(true));
        fields.insert("prio".into(), if urgent { "high" } else { "low" }.into());
        Ok(Some(Notification {
            fields,
            tweaks,
            unread,
        }))
    }

    /// What the pusher's format lets it know of the event.
    fn fill(
        &self,
        snap: &Snapshot,
        fields: &mut Map<String, Value>,
        (viewer, event): (&Viewer, &Arc<Placed>),
        pusher: &Pusher,
    ) -> Result<(), StoreError> {
        let stored = &event.event;
        fields.insert("event_id".into(), stored.event_id().into());
        fields.insert("room_id".into(), stored.room_id().into());
        if data(pusher).get("format").and_then(Value::as_str) == Some("event_id_only") {
            return Ok(());
        }
        if pusher.kind == PusherKind::Http {
            // Its name before the API had a version; gateways still look for it.
            fields.insert("id".into(), stored.event_id().into());
        }
        fields.insert("type".into(), stored.event_type().into());
        fields.insert("sender".into(), stored.sender().into());
        if let Ok(content) = stored.content_as::<Value>() {
            fields.insert("content".into(), content);
        }
        if stored.event_type() == "m.room.member"
            && let Some(target) = stored.state_key()
        {
            let membership = stored.membership().map(skerry_core::Membership::as_str);
            fields.insert("membership".into(), json!(membership));
            let is_target = target == &*viewer.user_id;
            fields.insert("user_is_target".into(), is_target.into());
        }
        let room = event.meta.room;
        let shown = match self.rooms.stripped(snap, viewer.user, room)? {
            Some(shown) => serde_json::from_slice(&shown).unwrap_or_default(),
            None => Vec::new(),
        };
        let text = |kind: &str, key: &str, field: &str| {
            let held = self.text(snap, room, (kind, key), field)?;
            Ok::<_, StoreError>(held.or_else(|| shown_text(&shown, (kind, key), field)))
        };
        let sender = text("m.room.member", stored.sender(), "displayname")?;
        let name = text("m.room.name", "", "name")?;
        let alias = text("m.room.canonical_alias", "", "alias")?;
        for (field, value) in [
            ("sender_display_name", sender),
            ("room_name", name.or_else(|| alias.clone())),
            ("room_alias", alias),
        ] {
            if let Some(value) = value {
                fields.insert(field.into(), value.into());
            }
        }
        Ok(())
    }

    /// A non-empty text in a current state event.
    fn text(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        (kind, key): (&str, &str),
        field: &str,
    ) -> Result<Option<String>, StoreError> {
        let held = self.rooms.current_event(snap, room, kind, key)?;
        let content = held.and_then(|held| held.event.content_object().ok());
        let text = content.and_then(|content| content.str(field).map(str::to_owned));
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// How much the user has not read.
    pub(super) fn unread(&self, snap: &Snapshot, user: UserNid) -> Result<u64, StoreError> {
        let viewer = viewer(self.rooms.store(), user)?;
        self.rooms.unread_total(snap, &viewer)
    }
}

/// A non-empty text in what a room that is not here shows of itself.
fn shown_text(shown: &[Value], (kind, key): (&str, &str), field: &str) -> Option<String> {
    let is = |event: &&Value, name: &str, value: &str| {
        event.get(name).and_then(Value::as_str) == Some(value)
    };
    let event = shown
        .iter()
        .find(|event| is(event, "type", kind) && is(event, "state_key", key))?;
    let text = event.get("content")?.get(field)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// Whoever left is not told any more.
fn concerns(membership: Option<skerry_core::Membership>) -> bool {
    use skerry_core::Membership::{Invite, Join};
    matches!(membership, Some(Invite | Join))
}

/// The tweaks among a rule's actions, by name; without a value, a tweak is true.
fn tweaks(actions: &str) -> Map<String, Value> {
    let actions: Vec<Value> = serde_json::from_str(actions).unwrap_or_default();
    let tweaks = actions.into_iter().filter_map(|action| {
        let name = action.get("set_tweak")?.as_str()?.to_owned();
        let value = action.get("value").cloned();
        Some((name, value.unwrap_or(Value::Bool(true))))
    });
    tweaks.collect()
}

/// A pusher as its gateway is told: without where the gateway is.
pub(super) fn device(key: &PusherKey, pusher: &Pusher, tweaks: Map<String, Value>) -> Value {
    let mut data = data(pusher);
    data.remove("url");
    json!({
        "app_id": key.app_id,
        "pushkey": key.pushkey,
        "pushkey_ts": pusher.set_ms / 1_000,
        "data": data,
        "tweaks": tweaks,
    })
}
