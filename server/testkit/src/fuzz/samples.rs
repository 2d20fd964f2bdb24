//! Good inputs, of which bad ones are made.

use serde_json::json;
use skerry_core::RoomVersion;
use skerry_core::canonical::{Mode, Object};
use skerry_core::fixtures::{RoomFixture, signing_key};
use skerry_core::hash::base64;
use skerry_remote::federation::Signed;

use crate::TestClock;
use skerry_core::Clock;

const ROOM: &str = r#"
    alice create
    alice join
    alice power {"users":{CREATOR"@bob:example.org":50},"events":{"m.room.name":50}}
    alice rules public
    bob join {"displayname":"Bob"}
    alice visibility joined
    bob state m.room.name "" {"name":"ä room"}
    hi: bob message Hello there
    bob send m.reaction {"m.relates_to":{"rel_type":"m.annotation","event_id":"$x","key":"👍"}}
    bob redact hi
    alice invite carol:other.org
    alice ban eve:evil.org
    alice state m.room.server_acl "" {"allow":["*"],"deny":["evil.*"]}"#;

fn room(version: RoomVersion) -> RoomFixture {
    // Who made a room of version 12 may not stand among its levels, and has to in all others.
    let creator = match version.creators_are_privileged() {
        true => "",
        false => "\"@alice:example.org\":100,",
    };
    RoomFixture::new(version, &ROOM.replace("CREATOR", creator))
}

/// Good inputs for a target.
///
/// # Panics
/// For a target that does not exist.
#[must_use]
pub fn samples(target: &str) -> Vec<Vec<u8>> {
    match target {
        "pdu" => RoomVersion::all().flat_map(pdus).collect(),
        "transaction" => [RoomVersion::V1, RoomVersion::V6, RoomVersion::V12]
            .map(transaction)
            .to_vec(),
        "send_join" => [RoomVersion::V2, RoomVersion::V11, RoomVersion::V12]
            .map(answer)
            .to_vec(),
        "x_matrix" => headers(),
        "well_known" => [
            r#"{"m.server":"matrix.example.org:443"}"#,
            r#"{"m.server":"[2001:db8::1]:8448"}"#,
            r#"{"m.server":"1.2.3.4"}"#,
        ]
        .map(|text| text.as_bytes().to_vec())
        .to_vec(),
        "key_answer" => vec![
            keys(),
            format!("{{\"server_keys\":[{}]}}", text(keys())).into(),
        ],
        other => panic!("there is no target {other}"),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn pdus(version: RoomVersion) -> Vec<Vec<u8>> {
    let events = room(version).events;
    let texts = events.iter().map(|event| event.json().as_bytes().to_vec());
    texts.collect()
}

fn list(version: RoomVersion) -> String {
    let texts: Vec<String> = pdus(version).into_iter().map(text).collect();
    texts.join(",")
}

fn transaction(version: RoomVersion) -> Vec<u8> {
    let edus = json!([
        { "edu_type": "m.typing",
          "content": { "room_id": "!x:y", "user_id": "@bob:example.org", "typing": true } },
        { "edu_type": "m.receipt",
          "content": { "!x:y": { "m.read": { "@bob:example.org":
              { "data": { "ts": 1 }, "event_ids": ["$x"] } } } } },
        { "edu_type": "m.presence",
          "content": { "push": [{ "user_id": "@bob:example.org", "presence": "online" }] } },
        { "edu_type": "m.direct_to_device",
          "content": { "sender": "@bob:example.org", "type": "x", "message_id": "1",
                       "messages": { "@alice:one.example": { "*": {} } } } },
        { "edu_type": "m.device_list_update",
          "content": { "user_id": "@bob:example.org", "device_id": "D", "stream_id": 1,
                       "prev_id": [], "deleted": false } },
    ]);
    let pdus = list(version);
    let text = format!(
        "{{\"edus\":{edus},\"origin\":\"example.org\",\"origin_server_ts\":1,\"pdus\":[{pdus}]}}"
    );
    text.into_bytes()
}

fn answer(version: RoomVersion) -> Vec<u8> {
    let all = list(version);
    let event = text(pdus(version).pop().unwrap_or_default());
    let text = format!(
        "{{\"auth_chain\":[{all}],\"event\":{event},\"members_omitted\":false,\
         \"origin\":\"example.org\",\"servers_in_room\":[\"example.org\"],\"state\":[{all}]}}"
    );
    text.into_bytes()
}

fn headers() -> Vec<Vec<u8>> {
    let signed = Signed {
        method: "PUT",
        uri: "/_matrix/federation/v1/send/1",
        origin: "example.org",
        destination: "one.example",
        content: Some("{}"),
    };
    let header = signed.authorization(&signing_key("example.org"));
    let loose =
        "x-matrix  ORIGIN = example.org , key=\"ed25519:\\1\" ,sig=abc, destination=\"[::1]:1\"";
    vec![header.into_bytes(), loose.as_bytes().to_vec()]
}

fn keys() -> Vec<u8> {
    let key = signing_key("example.org");
    let answer = json!({
        "server_name": "example.org",
        "valid_until_ts": TestClock::new().now_ms() + 3_600_000,
        "verify_keys": { key.id(): { "key": base64(&key.public_key()) } },
        "old_verify_keys": { "ed25519:old": { "key": base64(&[7; 32]), "expired_ts": 1 } },
    });
    let mut answer = Object::from_json(&answer, Mode::Strict).unwrap();
    key.sign_object("example.org", &mut answer);
    answer.to_string().into_bytes()
}
