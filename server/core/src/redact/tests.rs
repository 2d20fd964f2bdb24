#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::canonical::Mode;
use crate::fixtures::RoomFixture;
use crate::hash::event_id_of;

fn object(text: &str) -> Object {
    Object::parse(text.as_bytes(), Mode::Strict).unwrap()
}

/// Content with every key that some version keeps, and one that none keeps.
const CONTENTS: [(&str, &str); 8] = [
    (
        "m.room.member",
        r#"{"displayname":"A","join_authorised_via_users_server":"@b:b","membership":"join",
        "third_party_invite":{"display_name":"x","signed":{"token":"t"}},"x":1}"#,
    ),
    (
        "m.room.create",
        r#"{"creator":"@a:a","m.federate":false,"room_version":"5","x":1}"#,
    ),
    (
        "m.room.join_rules",
        r#"{"allow":[],"join_rule":"public","x":1}"#,
    ),
    (
        "m.room.power_levels",
        r#"{"ban":1,"events":{"a":1},"events_default":1,"invite":1,"kick":1,"notifications":{},
        "redact":1,"state_default":1,"users":{},"users_default":1,"x":1}"#,
    ),
    ("m.room.aliases", r##"{"aliases":["#a:a"],"x":1}"##),
    (
        "m.room.history_visibility",
        r#"{"history_visibility":"joined","x":1}"#,
    ),
    ("m.room.redaction", r#"{"reason":"x","redacts":"$x"}"#),
    ("m.room.message", r#"{"body":"x","msgtype":"m.text"}"#),
];

#[test]
fn what_each_version_keeps() {
    for version in RoomVersion::all() {
        let n = version.number();
        let kept = |kind: &str| {
            let (_, content) = CONTENTS.iter().find(|(k, _)| *k == kind).unwrap();
            redact_content(kind, &object(content), version).to_string()
        };
        let member = match n {
            1..=8 => r#"{"membership":"join"}"#,
            9 | 10 => r#"{"join_authorised_via_users_server":"@b:b","membership":"join"}"#,
            _ => concat!(
                r#"{"join_authorised_via_users_server":"@b:b","membership":"join","#,
                r#""third_party_invite":{"signed":{"token":"t"}}}"#
            ),
        };
        assert_eq!(kept("m.room.member"), member);
        let create = match n {
            1..=10 => r#"{"creator":"@a:a"}"#,
            _ => r#"{"creator":"@a:a","m.federate":false,"room_version":"5","x":1}"#,
        };
        assert_eq!(kept("m.room.create"), create);
        let rules = match n {
            1..=7 => r#"{"join_rule":"public"}"#,
            _ => r#"{"allow":[],"join_rule":"public"}"#,
        };
        assert_eq!(kept("m.room.join_rules"), rules);
        assert_eq!(kept("m.room.power_levels").contains("invite"), n >= 11);
        assert!(!kept("m.room.power_levels").contains("notifications"));
        assert_eq!(kept("m.room.aliases") != "{}", n <= 5);
        assert_eq!(
            kept("m.room.history_visibility"),
            r#"{"history_visibility":"joined"}"#
        );
        assert_eq!(kept("m.room.redaction") != "{}", n >= 11);
        assert_eq!(kept("m.room.message"), "{}");
    }
}

/// The same as ruma makes of it.
#[test]
fn agrees_with_ruma() {
    for version in RoomVersion::all() {
        for (kind, content) in CONTENTS {
            let text = format!(
                r#"{{"auth_events":[],"content":{content},"depth":1,"event_id":"$x:a","hashes":{{}},
                "membership":"join","origin":"a","origin_server_ts":1,"prev_events":[],
                "prev_state":[],"redacts":"$y","room_id":"!r:a","sender":"@a:a","signatures":{{}},
                "state_key":"","type":"{kind}","unsigned":{{}},"y":1}}"#
            );
            let ours = redact(&object(&text), version).to_string();
            let ruma = serde_json::from_str::<ruma_common::CanonicalJsonObject>(&text).unwrap();
            let theirs =
                ruma_common::canonical_json::redact(ruma, &version.rules().redaction, None)
                    .unwrap();
            assert_eq!(
                ours,
                serde_json::to_string(&theirs).unwrap(),
                "{kind} in version {version}"
            );
        }
    }
}

#[test]
fn a_redacted_event_keeps_its_id() {
    for version in RoomVersion::all() {
        let room = RoomFixture::new(version, "alice create\nalice join\nhi: alice message Hello");
        for event in &room.events {
            let redacted = event.redacted().unwrap();
            assert_eq!(redacted.event_id(), event.event_id());
            assert_eq!(
                event_id_of(&redacted.object().unwrap(), version).unwrap(),
                event.event_id()
            );
            assert_eq!(redacted.redacted().unwrap(), redacted);
        }
        assert_eq!(room.event("hi").redacted().unwrap().content(), "{}");
    }
}
