//! The rooms that a space holds, in their order.

use std::cmp::Ordering;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use skerry_core::{Pos, RoomNid};
use skerry_store::schema::room_read::RedactedAt;
use skerry_store::{Snapshot, StoreError};

use crate::Rooms;

/// The most children of one space that are looked at.
const MAX_CHILDREN: usize = 10_000;
/// Longest `order`, in characters.
const MAX_ORDER: usize = 50;
/// Servers of one child that are remembered.
const MAX_VIA: usize = 10;
/// The largest content of a child's event of another server, in bytes.
const MAX_CONTENT: usize = 16 << 10;
/// The type of the events that make children.
const CHILD: &str = "m.space.child";

/// A room of a space.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    /// The room's id.
    pub(crate) room_id: Arc<str>,
    /// The space suggests it.
    pub(crate) suggested: bool,
    /// Servers that know it.
    pub(crate) via: Arc<[String]>,
    /// Its event, stripped, with its time: JSON.
    stripped: Arc<[u8]>,
    place: Place,
}

/// Where a child stands among the others (client-server API, "Ordering of children within a
/// space").
#[derive(Clone, Debug)]
struct Place {
    order: Option<String>,
    ts: u64,
}

impl Child {
    fn compare(&self, other: &Child) -> Ordering {
        let by_place = self.place.compare(&other.place);
        by_place.then_with(|| self.room_id.cmp(&other.room_id))
    }
}

impl Place {
    fn compare(&self, other: &Place) -> Ordering {
        let by_order = match (&self.order, &other.order) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        by_order.then(self.ts.cmp(&other.ts))
    }
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    via: Value,
    #[serde(default)]
    order: Value,
    #[serde(default)]
    suggested: Value,
}

impl Content {
    /// Without servers to join through it is no child (any more).
    fn is_child(&self) -> bool {
        let via = self.via.as_array();
        via.is_some_and(|via| !via.is_empty() && via.iter().all(Value::is_string))
    }

    fn via(&self) -> Arc<[String]> {
        let via = self.via.as_array().map(Vec::as_slice).unwrap_or_default();
        let named = via.iter().filter_map(Value::as_str);
        named.take(MAX_VIA).map(str::to_owned).collect()
    }

    /// A child with this content.
    fn child(&self, room_id: Arc<str>, ts: u64, stripped: Vec<u8>) -> Option<Child> {
        self.is_child().then(|| Child {
            room_id,
            suggested: self.suggested == Value::Bool(true),
            via: self.via(),
            stripped: stripped.into(),
            place: Place {
                order: self.order(),
                ts,
            },
        })
    }

    fn order(&self) -> Option<String> {
        let order = self.order.as_str()?;
        let legal = order.len() <= MAX_ORDER && order.bytes().all(|b| (0x20..=0x7e).contains(&b));
        (legal && !order.is_empty()).then(|| order.to_owned())
    }
}

impl Rooms {
    /// The children of a space.
    pub(super) fn children(
        &self,
        snap: &Snapshot,
        space: RoomNid,
    ) -> Result<Arc<[Child]>, StoreError> {
        let Some(head) = self.head(snap, space)? else {
            return Ok(Arc::from(Vec::new()));
        };
        let redacted = snap.get::<RedactedAt>(&space)?.unwrap_or(Pos::ZERO);
        let held = &self.inner.lookups.children;
        if let Some(children) = held.get((head.state, redacted)) {
            return Ok(children);
        }
        let mut events = Vec::new();
        for (key, event) in self.state_map(snap, head.state)?.iter() {
            let (kind, room_id) = self.store().state_key(key)?;
            if &*kind == CHILD && skerry_core::names::is_room_id(&room_id) {
                events.push((room_id, event));
            }
        }
        events.truncate(MAX_CHILDREN);
        let nids: Vec<_> = events.iter().map(|(_, nid)| *nid).collect();
        let mut children = Vec::new();
        for ((room_id, _), held) in events.into_iter().zip(self.events(snap, &nids)?) {
            let Some(event) = held.map(|held| held.event) else {
                continue;
            };
            let Ok(content) = event.content_as::<Content>() else {
                continue;
            };
            children.extend(content.child(
                room_id,
                event.origin_server_ts(),
                stripped_event(&event),
            ));
        }
        children.sort_by(Child::compare);
        let children: Arc<[Child]> = children.into();
        let bytes = children.iter().map(|child| 200 + child.stripped.len());
        held.put((head.state, redacted), children.clone(), bytes.sum());
        Ok(children)
    }
}

/// The event in stripped form, with its time.
fn stripped_event(event: &skerry_core::StoredEvent) -> Vec<u8> {
    let mut out = Vec::new();
    event.write_stripped(&mut out);
    out.pop();
    out.extend_from_slice(b",\"origin_server_ts\":");
    out.extend_from_slice(event.origin_server_ts().to_string().as_bytes());
    out.push(b'}');
    out
}

/// Children as another server shows them: stripped events with their times, in order. What is no
/// such event is left out.
pub(super) fn read(events: &[Box<RawValue>]) -> Vec<Child> {
    #[derive(Deserialize)]
    struct Shown<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        state_key: String,
        sender: String,
        origin_server_ts: u64,
        #[serde(borrow)]
        content: &'a RawValue,
    }
    let read = |event: &RawValue| {
        let event: Shown<'_> = serde_json::from_str(event.get()).ok()?;
        let named = skerry_core::names::is_room_id(&event.state_key)
            && skerry_core::names::is_user_id(&event.sender);
        if event.kind != CHILD || !named || event.content.get().len() > MAX_CONTENT {
            return None;
        }
        let content: Content = serde_json::from_str(event.content.get()).ok()?;
        let stripped = serde_json::json!({
            "content": event.content,
            "origin_server_ts": event.origin_server_ts,
            "sender": event.sender,
            "state_key": event.state_key,
            "type": CHILD,
        });
        content.child(
            event.state_key.into(),
            event.origin_server_ts,
            stripped.to_string().into_bytes(),
        )
    };
    let events = events.iter().take(MAX_CHILDREN);
    let mut children: Vec<Child> = events.filter_map(|event| read(event)).collect();
    children.sort_by(Child::compare);
    children.dedup_by(|later, first| later.room_id == first.room_id);
    children
}

/// The events of children as a JSON array.
pub(crate) fn stripped(children: &[Child]) -> Vec<u8> {
    let mut out = vec![b'['];
    for child in children {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(&child.stripped);
    }
    out.push(b']');
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::Arc;

    use super::{Child, Content, Place};

    fn child(order: Option<&str>, ts: u64, room_id: &str) -> Child {
        Child {
            room_id: room_id.into(),
            suggested: false,
            via: Arc::default(),
            stripped: Arc::from(Vec::new()),
            place: Place {
                order: order.map(str::to_owned),
                ts,
            },
        }
    }

    #[test]
    fn what_others_show_is_taken_as_far_as_it_is_children() {
        let raw = |json: &str| serde_json::value::RawValue::from_string(json.to_owned()).unwrap();
        let event = |key: &str, order: &str| {
            raw(&format!(
                r#"{{"type":"m.space.child","state_key":"{key}","sender":"@a:b","unsigned":{{}},
                "origin_server_ts":5,"content":{{"via":["b","c"],"order":"{order}"}}}}"#
            ))
        };
        let events = [
            event("!two:b", "b"),
            event("!one:b", "a"),
            event("no room", "c"),
            raw(r#"{"type":"m.space.child"}"#),
            raw(r#"[1]"#),
            event("!one:b", "a"),
        ];
        let children = super::read(&events);
        let ids: Vec<&str> = children.iter().map(|child| &*child.room_id).collect();
        assert_eq!(ids, ["!one:b", "!two:b"]);
        assert_eq!(&*children[0].via, ["b".to_owned(), "c".to_owned()]);
        let shown = String::from_utf8(super::stripped(&children)).unwrap();
        assert!(!shown.contains("unsigned"), "{shown}");
    }

    #[test]
    fn the_order_of_the_specification() {
        let mut children = [
            child(None, 640_000, "!b:example.org"),
            child(Some("first"), 640_000, "!c:example.org"),
            child(None, 640_000, "!a:example.org"),
            child(Some(" "), 640_000, "!e:example.org"),
            child(Some("aaaa"), 640_001, "!d:example.org"),
            child(Some("aaaa"), 640_000, "!f:example.org"),
            child(None, 1, "!z:example.org"),
        ];
        children.sort_by(Child::compare);
        let ids: Vec<&str> = children.iter().map(|child| &child.room_id[1..2]).collect();
        assert_eq!(ids, ["e", "f", "d", "c", "z", "a", "b"]);
    }

    #[test]
    fn what_makes_a_child() {
        let content = |text: &str| serde_json::from_str::<Content>(text).unwrap();
        assert!(content(r#"{"via":["a"]}"#).is_child());
        for not in ["{}", r#"{"via":[]}"#, r#"{"via":"a"}"#, r#"{"via":[1]}"#] {
            assert!(!content(not).is_child(), "{not}");
        }
        assert_eq!(content(r#"{"order":"a"}"#).order().as_deref(), Some("a"));
        let long = format!(r#"{{"order":"{}"}}"#, "a".repeat(51));
        for not in [
            r#"{"order":7}"#,
            r#"{"order":"ü"}"#,
            r#"{"order":""}"#,
            &long,
        ] {
            assert_eq!(content(not).order(), None, "{not}");
        }
    }
}
