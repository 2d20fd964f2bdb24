//! An event as ruma's rules want to see it.

use std::sync::Arc;

use ruma_common::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, UserId};
use ruma_events::TimelineEventType;
use serde_json::value::RawValue;

use super::StoredEvent;
use crate::power::tame_power_levels;

/// A [`StoredEvent`] with the parts that ruma's `Event` trait lends out. Cheap to clone; make it
/// once per event where an event is looked at often.
#[derive(Clone, Debug)]
pub struct RuledEvent(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    event: Arc<StoredEvent>,
    id: OwnedEventId,
    kind: TimelineEventType,
    content: Box<RawValue>,
    auth: Vec<OwnedEventId>,
    prev: Vec<OwnedEventId>,
    redacts: Option<OwnedEventId>,
    rejected: bool,
}

impl RuledEvent {
    /// Wraps an event. `rejected` is what the store knows beside the event.
    #[must_use]
    pub fn new(event: Arc<StoredEvent>, rejected: bool) -> Self {
        let parse = |ids: Vec<String>| {
            ids.iter()
                .filter_map(|id| EventId::parse(id).ok())
                .collect()
        };
        let content = event.content_raw();
        let content = match event.event_type() {
            "m.room.power_levels" => tame_power_levels(&event),
            _ => None,
        }
        .unwrap_or_else(|| content.to_owned());
        RuledEvent(Arc::new(Inner {
            // Checked when the event was made.
            id: EventId::parse(event.event_id()).unwrap_or_else(|_| unknown_event()),
            kind: TimelineEventType::from(event.event_type()),
            content,
            auth: parse(event.auth_events()),
            prev: parse(event.prev_events()),
            redacts: event.redacts().and_then(|id| EventId::parse(id).ok()),
            rejected,
            event,
        }))
    }

    /// The event itself.
    #[must_use]
    pub fn event(&self) -> &Arc<StoredEvent> {
        &self.0.event
    }
}

/// Stands for an id that is none: no event has it.
fn unknown_event() -> OwnedEventId {
    EventId::new_v1(ruma_common::server_name!("invalid"))
}

impl ruma_state_res::Event for RuledEvent {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.0.id
    }

    fn room_id(&self) -> Option<&RoomId> {
        let event = &self.0.event;
        event
            .has_room_id_field()
            .then(|| <&RoomId>::try_from(event.room_id()).ok())
            .flatten()
    }

    fn sender(&self) -> &UserId {
        // Checked when the event was made.
        <&UserId>::try_from(self.0.event.sender())
            .unwrap_or(ruma_common::user_id!("@invalid:invalid"))
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        let largest = crate::canonical::MAX_INT.unsigned_abs();
        let ts = self.0.event.origin_server_ts().min(largest);
        MilliSecondsSinceUnixEpoch(ts.try_into().unwrap_or_default())
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.0.kind
    }

    fn content(&self) -> &RawValue {
        &self.0.content
    }

    fn state_key(&self) -> Option<&str> {
        self.0.event.state_key()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.0.prev.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.0.auth.iter())
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        self.0.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.0.rejected
    }
}
