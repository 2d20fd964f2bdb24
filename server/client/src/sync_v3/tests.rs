#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use skerry_core::{Pos, RoomNid};
use skerry_sync::{
    AccountEvent, Count, Delta, DeviceLists, EventList, KeyCounts, Presence, Summary, Timeline,
    Token,
};

use super::*;

fn token() -> Token {
    Token {
        pos: Pos(9),
        to_device: Pos(9),
        sticky: Pos(9),
        boot: 2,
        typing: 3,
        presence: 4,
    }
}

fn counts() -> KeyCounts {
    KeyCounts {
        one_time: [("signed_curve25519".to_owned(), 5)].into(),
        unused_fallback: vec!["signed_curve25519".to_owned()],
        pos: Pos(1),
    }
}

fn shown(delta: &Delta) -> Value {
    serde_json::from_slice(&render(delta, "state_after")).unwrap()
}

fn list(json: &str, count: usize) -> EventList {
    EventList {
        json: json.as_bytes().to_vec(),
        count,
    }
}

fn room() -> RoomDelta {
    RoomDelta {
        room: RoomNid(1),
        room_id: "!r:x".into(),
        timeline: Timeline {
            events: list(r#"[{"a":1},{"b":2}]"#, 2),
            limited: true,
            prev_batch: "t1_0".to_owned(),
        },
        state: StateSection::Start(list(r#"[{"c":3}]"#, 1)),
        account_data: vec![AccountEvent {
            kind: "m.\"tag".to_owned(),
            content: "{\"x\":1}".to_owned(),
        }],
        ephemeral: vec![
            br#"{"type":"m.typing"}"#.to_vec(),
            br#"{"type":"m.receipt"}"#.to_vec(),
        ],
        sticky: list("[]", 0),
        unread: Some(Unread {
            main: Count {
                notify: 2,
                highlight: 1,
            },
            threads: vec![(
                "$t".into(),
                Count {
                    notify: 3,
                    highlight: 0,
                },
            )],
        }),
        summary: Summary {
            heroes: Some(vec!["@h:x".into()]),
            joined: Some(2),
            invited: Some(0),
        },
    }
}

#[test]
fn nothing_new() {
    let delta = Delta::new(token(), counts());
    assert_eq!(
        shown(&delta),
        json!({
            "next_batch": "s9_2_3_4",
            "device_one_time_keys_count": {"signed_curve25519": 5},
            "device_unused_fallback_key_types": ["signed_curve25519"],
        })
    );
}

#[test]
fn everything_new() {
    let mut delta = Delta::new(token(), counts());
    delta.joined = vec![room()];
    let mut left = room();
    left.state = StateSection::End(list("[]", 0));
    delta.left = vec![left];
    let stripped = |id: &str| StrippedRoom {
        room_id: id.into(),
        state: b"[{}]".to_vec(),
    };
    delta.invited = vec![stripped("!i:x"), stripped("!j:x")];
    delta.knocked = vec![stripped("!k:x")];
    delta.presence = vec![Presence {
        user_id: "@p:x".into(),
        content: r#"{"presence":"online"}"#.to_owned(),
    }];
    delta.account_data = vec![AccountEvent {
        kind: "m.direct".to_owned(),
        content: "{}".to_owned(),
    }];
    delta.to_device = vec![
        r#"{"type":"m.a"}"#.to_owned(),
        r#"{"type":"m.b"}"#.to_owned(),
    ];
    delta.device_lists = DeviceLists {
        changed: vec!["@c:x".into()],
        left: vec!["@d:x".into(), "@e:x".into()],
    };
    let value = shown(&delta);
    assert_eq!(
        value["device_lists"],
        json!({"changed": ["@c:x"], "left": ["@d:x", "@e:x"]})
    );
    delta.device_lists.changed.clear();
    assert_eq!(
        shown(&delta)["device_lists"],
        json!({"left": ["@d:x", "@e:x"]}),
        "what is empty is not said"
    );
    assert_eq!(
        value["to_device"],
        json!({"events": [{"type": "m.a"}, {"type": "m.b"}]})
    );
    assert_eq!(
        value["account_data"],
        json!({"events": [{"type": "m.direct", "content": {}}]})
    );
    assert_eq!(
        value["presence"],
        json!({"events": [
            {"type": "m.presence", "sender": "@p:x", "content": {"presence": "online"}}
        ]})
    );
    let rooms = &value["rooms"];
    assert_eq!(
        rooms["invite"]["!j:x"],
        json!({"invite_state": {"events": [{}]}})
    );
    assert_eq!(
        rooms["knock"]["!k:x"],
        json!({"knock_state": {"events": [{}]}})
    );
    let timeline = json!({"events": [{"a": 1}, {"b": 2}], "limited": true, "prev_batch": "t1_0"});
    let account_data = json!({"events": [{"type": "m.\"tag", "content": {"x": 1}}]});
    assert_eq!(
        rooms["join"]["!r:x"],
        json!({
            "timeline": timeline,
            "state": {"events": [{"c": 3}]},
            "account_data": account_data,
            "ephemeral": {"events": [{"type": "m.typing"}, {"type": "m.receipt"}]},
            "summary": {
                "m.heroes": ["@h:x"], "m.joined_member_count": 2, "m.invited_member_count": 0,
            },
            "unread_notifications": {"highlight_count": 1, "notification_count": 2},
            "unread_thread_notifications": {
                "$t": {"highlight_count": 0, "notification_count": 3}
            },
        })
    );
    assert_eq!(
        rooms["leave"]["!r:x"],
        json!({
            "timeline": timeline, "state_after": {"events": []}, "account_data": account_data,
        })
    );
}
