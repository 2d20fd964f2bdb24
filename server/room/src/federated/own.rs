//! Our users' own member events in rooms of other servers.
//!
//! Another server says in a template where in the room's graph the event goes. Nothing else of
//! the template ends in what is signed: the event is made here (CVE-2026-24471: servers signed
//! whatever they were given, in the name of any of their users).

use std::sync::Arc;

use skerry_core::build::{self, EventRef, Place};
use skerry_core::canonical::{Object, Value};
use skerry_core::event::{MAX_AUTH_EVENTS, MAX_PREV_EVENTS};
use skerry_core::hash::decode_base64;
use skerry_core::{Membership, RoomVersion, StoredEvent, names};

use crate::draft::parse;
use crate::membership::merge;
use crate::{Move, RoomError, Rooms, Who};

/// The field of a join's content that says who vouches for it.
const VOUCHER: &str = "join_authorised_via_users_server";

/// What is taken over of the template of another server.
#[derive(Clone, Debug)]
pub struct ForeignTemplate {
    room_id: String,
    version: RoomVersion,
    user_id: String,
    to: Membership,
    prev: Vec<EventRef>,
    auth: Vec<EventRef>,
    voucher: Option<String>,
}

/// For which event a template was asked.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The room.
    pub room_id: &'a str,
    /// The user who moves.
    pub user_id: &'a str,
    /// What they are to be.
    pub to: Membership,
}

impl ForeignTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// `BadJson` if it is one of another event than was asked for, or names no events that make
    /// sense (server-server API, `make_join`: what has to be verified).
    pub fn read(
        wanted: Wanted<'_>,
        version: RoomVersion,
        template: &Object,
    ) -> Result<ForeignTemplate, RoomError> {
        let content = template.object("content");
        let membership = content.and_then(|content| content.str("membership"));
        let fits = template.str("room_id") == Some(wanted.room_id)
            && template.str("type") == Some("m.room.member")
            && template.str("sender") == Some(wanted.user_id)
            && template.str("state_key") == Some(wanted.user_id)
            && membership == Some(wanted.to.as_str());
        if !fits {
            return Err(malformed("is one of another event"));
        }
        let voucher = match wanted.to {
            Membership::Join if version.has_restricted() => {
                content.and_then(|content| content.str(VOUCHER))
            }
            _ => None,
        };
        if voucher.is_some_and(|user_id| !names::is_user_id(user_id)) {
            return Err(malformed("names nobody who vouches"));
        }
        let depth = template.int("depth").unwrap_or(0);
        // An event is one deeper than those before it.
        let before = u64::try_from(depth.saturating_sub(1)).unwrap_or(0);
        let prev = references(template, "prev_events", version, MAX_PREV_EVENTS)?;
        let at = |(event_id, hash)| EventRef {
            event_id,
            depth: before,
            hash,
        };
        let prev: Vec<EventRef> = prev.into_iter().map(at).collect();
        if prev.is_empty() {
            return Err(malformed("names no event before it"));
        }
        let auth = references(template, "auth_events", version, MAX_AUTH_EVENTS)?;
        Ok(ForeignTemplate {
            room_id: wanted.room_id.to_owned(),
            version,
            user_id: wanted.user_id.to_owned(),
            to: wanted.to,
            prev,
            auth: auth.into_iter().map(at).collect(),
            voucher: voucher.map(str::to_owned),
        })
    }
}

impl Rooms {
    /// The event that a template is of, made and signed here: the user's profile for a join or a
    /// knock, and what their client gave.
    ///
    /// # Errors
    /// `GuestForbidden`; `Forbidden` where the template is another user's; `BadJson` and
    /// `TooLarge` for what the client gave; or the store's.
    pub async fn own_member(
        &self,
        who: Who,
        template: ForeignTemplate,
        how: Move,
    ) -> Result<Arc<StoredEvent>, RoomError> {
        if template.to != Membership::Leave {
            who.not_a_guest()?;
        }
        if template.user_id != *who.user_id {
            let text = "The template is one of another user";
            return Err(RoomError::Forbidden(text.into()));
        }
        self.query(move |this, snap| {
            let mut content = match template.to {
                Membership::Leave => Object::new(),
                _ => this.profile(snap, &who.user_id)?,
            };
            if let Some(text) = how.content {
                merge(&mut content, parse(&text, template.version.json_mode())?);
            }
            if let Some(reason) = how.reason {
                content.insert("reason", reason);
            }
            content.remove(VOUCHER);
            if let Some(voucher) = template.voucher {
                content.insert(VOUCHER, voucher);
            }
            content.insert("membership", template.to.as_str());
            let draft = build::Draft {
                room_id: Some(template.room_id),
                sender: who.user_id.to_string(),
                event_type: "m.room.member".to_owned(),
                state_key: Some(who.user_id.to_string()),
                content,
                redacts: None,
                sticky_ms: None,
            };
            let place = Place {
                version: template.version,
                prev: &template.prev,
                auth: &template.auth,
                origin_server_ts: this.inner.clock.now_ms(),
            };
            Ok(Arc::new(this.sign(draft, place)?))
        })
        .await
    }
}

/// The events that a template names, with their hashes where the room version has them.
#[allow(clippy::type_complexity)]
fn references(
    template: &Object,
    field: &'static str,
    version: RoomVersion,
    most: usize,
) -> Result<Vec<(String, Option<[u8; 32]>)>, RoomError> {
    let items = template.get(field).and_then(Value::as_array);
    let items = items.ok_or_else(|| malformed("names no events"))?;
    if items.len() > most {
        return Err(malformed("names too many events"));
    }
    let read = |item: &Value| match item {
        Value::Str(id) if !version.references_have_hashes() => Some((id.clone(), None)),
        Value::Array(pair) if version.references_have_hashes() => {
            let id = pair.first()?.as_str()?;
            // Synapse leaves out the hashes of events that it has just made.
            let hash = match pair.get(1)?.as_object()?.get("sha256") {
                Some(hash) => Some(decode_base64(hash.as_str()?)?.try_into().ok()?),
                None => None,
            };
            Some((id.to_owned(), hash))
        }
        _ => None,
    };
    let read = |item| read(item).filter(|(id, _)| names::is_event_id(id));
    let all: Option<Vec<_>> = items.iter().map(read).collect();
    all.ok_or_else(|| malformed("names what are no events"))
}

fn malformed(what: &str) -> RoomError {
    RoomError::BadJson(format!("The other server's template {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use skerry_core::canonical::{Mode, Object};
    use skerry_core::{Membership, RoomVersion};

    use super::{ForeignTemplate, Wanted};

    const GOOD: &str = r#"{"type":"m.room.member","room_id":"!r:x","sender":"@a:b",
        "state_key":"@a:b","content":{"membership":"join"},"depth":7,
        "prev_events":["$p:x"],"auth_events":["$c:x","$j:x"]}"#;

    fn read(text: &str, version: RoomVersion) -> Option<ForeignTemplate> {
        let wanted = Wanted {
            room_id: "!r:x",
            user_id: "@a:b",
            to: Membership::Join,
        };
        let template = Object::parse(text.as_bytes(), Mode::Lenient).unwrap();
        ForeignTemplate::read(wanted, version, &template).ok()
    }

    /// CVE-2026-24471.
    #[test]
    fn cve_2026_24471_a_template_of_anything_else_is_refused() {
        assert!(read(GOOD, RoomVersion::V10).is_some());
        for (part, other) in [
            ("m.room.member", "m.room.power_levels"),
            ("!r:x", "!s:x"),
            (r#""sender":"@a:b""#, r#""sender":"@c:b""#),
            (r#""state_key":"@a:b""#, r#""state_key":"@c:b""#),
            ("join", "leave"),
            (r#"["$p:x"]"#, "[]"),
            (r#"["$p:x"]"#, "[7]"),
            (r#"["$p:x"]"#, r#"["p"]"#),
            (r#"["$c:x","$j:x"]"#, "{}"),
        ] {
            let text = GOOD.replacen(part, other, 1);
            assert!(read(&text, RoomVersion::V10).is_none(), "{other}");
        }
        let many = format!("[{}]", ["\"$p:x\""; 21].join(","));
        assert!(read(&GOOD.replacen(r#"["$p:x"]"#, &many, 1), RoomVersion::V10).is_none());
    }

    #[test]
    fn only_a_restricted_join_is_vouched_for() {
        let vouched = GOOD.replacen(
            r#""membership":"join""#,
            r#""membership":"join","join_authorised_via_users_server":"@v:x""#,
            1,
        );
        let voucher = |version| read(&vouched, version).unwrap().voucher;
        assert_eq!(voucher(RoomVersion::V10).as_deref(), Some("@v:x"));
        assert_eq!(voucher(RoomVersion::V6), None);
        assert!(read(&vouched.replacen("@v:x", "v", 1), RoomVersion::V10).is_none());
    }

    #[test]
    fn old_rooms_name_events_with_hashes() {
        assert!(read(GOOD, RoomVersion::V2).is_none());
        let hash = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        let pair = |id: &str| format!(r#"["{id}",{{"sha256":"{hash}"}}]"#);
        let text = GOOD.replacen(r#""$p:x""#, &pair("$p:x"), 1).replacen(
            r#""$c:x","$j:x""#,
            &pair("$c:x"),
            1,
        );
        let template = read(&text, RoomVersion::V2).unwrap();
        assert_eq!(template.prev[0].depth, 6);
        assert!(template.prev[0].hash.is_some() && template.auth.len() == 1);
        let bare = text.replace(&pair("$c:x"), r#"["$c:x",{}]"#);
        assert_eq!(read(&bare, RoomVersion::V1).unwrap().auth[0].hash, None);
        let other = text.replace(hash, "c2hvcnQ");
        assert!(read(&other, RoomVersion::V1).is_none());
        assert!(read(&text, RoomVersion::V3).is_none());
    }
}
