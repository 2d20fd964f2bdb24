//! What is to be said in a room, before it is an event.

use skerry_core::Membership;
use skerry_core::canonical::{Mode, Object, Value};

use crate::RoomError;

/// Type, key and content of an event to be made.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) kind: String,
    pub(crate) state_key: Option<String>,
    pub(crate) content: Object,
    /// Of a redaction: the event id of its target.
    pub(crate) redacts: Option<String>,
    /// For how many ms it is sticky (MSC4354).
    pub(crate) sticky_ms: Option<u32>,
}

impl Draft {
    /// A state event.
    pub(crate) fn state(kind: &str, key: &str, content: Object) -> Draft {
        Draft {
            kind: kind.to_owned(),
            state_key: Some(key.to_owned()),
            content,
            redacts: None,
            sticky_ms: None,
        }
    }

    /// A state event with the empty key whose content is one field.
    pub(crate) fn setting(kind: &str, field: &str, value: impl Into<Value>) -> Draft {
        Draft::state(kind, "", object([(field, value.into())]))
    }

    /// An event that is no state.
    pub(crate) fn message(kind: &str, content: Object) -> Draft {
        Draft {
            kind: kind.to_owned(),
            state_key: None,
            content,
            redacts: None,
            sticky_ms: None,
        }
    }

    /// An event that moves a user.
    pub(crate) fn member(user: &str, membership: Membership, mut content: Object) -> Draft {
        content.insert("membership", membership.as_str());
        Draft::state("m.room.member", user, content)
    }

    /// Whether it is state of this type.
    pub(crate) fn is_state(&self, kind: &str) -> bool {
        self.state_key.is_some() && self.kind == kind
    }
}

/// An object of a few fields.
pub(crate) fn object<const N: usize>(fields: [(&str, Value); N]) -> Object {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Content from a client, as the room version reads numbers.
pub(crate) fn parse(text: &[u8], mode: Mode) -> Result<Object, RoomError> {
    Object::parse(text, mode).map_err(|error| RoomError::BadJson(error.to_string()))
}

/// `m.room.topic`, in the plain and in the rich form (client-server API, "m.room.topic").
pub(crate) fn topic(text: &str) -> Draft {
    let plain = object([("body", text.into()), ("mimetype", "text/plain".into())]);
    let rich = object([("m.text", Value::Array(vec![plain.into()]))]);
    Draft::state(
        "m.room.topic",
        "",
        object([("topic", text.into()), ("m.topic", rich.into())]),
    )
}
