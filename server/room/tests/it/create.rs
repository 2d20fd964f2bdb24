//! Making rooms: presets and parameters in every version.

use serde_json::{Value, json};
use skerry_core::power::Level;
use skerry_core::{Membership, RoomVersion};
use skerry_room::{CreateRoom, InitialState, Preset};

use crate::house::{House, SERVER, def, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn every_preset_in_every_version() {
    let house = House::new();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    for version in RoomVersion::all() {
        for preset in [
            Preset::PrivateChat,
            Preset::TrustedPrivateChat,
            Preset::PublicChat,
        ] {
            let request = CreateRoom {
                version: Some(version.to_string()),
                preset: Some(preset),
                invite: vec![bob.user_id.to_string()],
                ..def()
            };
            let room = house.rooms.create(ada.clone(), request).await.unwrap();
            let rule = if preset == Preset::PublicChat {
                "public"
            } else {
                "invite"
            };
            let content = |kind: &str| house.content(&room, kind, "");
            assert_eq!(content("m.room.join_rules")["join_rule"], rule, "{version}");
            assert_eq!(
                content("m.room.history_visibility")["history_visibility"],
                "shared"
            );
            let create = content("m.room.create");
            assert_eq!(create["room_version"], version.as_str());
            assert_eq!(
                create.get("creator").is_some(),
                version.creator_in_content()
            );
            let in_v12 = version.number() == 12;
            assert_eq!(room.contains(':'), !in_v12, "{room}");
            if in_v12 {
                let event = house.state(&room, "m.room.create", "").unwrap();
                assert_eq!(event.event.event_id()[1..], room[1..]);
            }
            let levels = content("m.room.power_levels");
            let trusted = preset == Preset::TrustedPrivateChat;
            if in_v12 {
                assert_eq!(levels["users"], json!({}));
                assert_eq!(levels["events"]["m.room.tombstone"], 150);
                assert_eq!(create.get("additional_creators").is_some(), trusted);
            } else {
                assert_eq!(levels["users"][&*ada.user_id], 100);
                assert_eq!(levels["users"].get(&*bob.user_id).is_some(), trusted);
            }
            assert_eq!(house.membership(&room, &ada), Some(Membership::Join));
            assert_eq!(house.membership(&room, &bob), Some(Membership::Invite));
            let head = house
                .rooms
                .head(&house.snap(), house.nid(&room))
                .unwrap()
                .unwrap();
            assert_eq!((head.joined, head.invited, head.remote), (1, 1, 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_the_order_of_the_specification() {
    let house = House::new();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let request = CreateRoom {
        alias: Some("harbour".into()),
        name: Some("Harbour".into()),
        topic: Some("Boats".into()),
        invite: vec![bob.user_id.to_string()],
        is_direct: true,
        initial_state: vec![
            initial(
                "m.room.guest_access",
                "",
                json!({ "guest_access": "forbidden" }),
            ),
            initial("org.example.flag", "x", json!({ "set": true })),
        ],
        ..def()
    };
    let room = house.rooms.create(ada.clone(), request).await.unwrap();
    let expected = [
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.canonical_alias",
        "m.room.join_rules",
        "m.room.history_visibility",
        "m.room.guest_access",
        "org.example.flag",
        "m.room.name",
        "m.room.topic",
        "m.room.member",
    ];
    assert_eq!(house.timeline(&room), expected);
    assert_eq!(
        house.content(&room, "m.room.guest_access", "")["guest_access"],
        "forbidden"
    );
    let topic = house.content(&room, "m.room.topic", "");
    assert_eq!(topic["topic"], "Boats");
    assert_eq!(topic["m.topic"]["m.text"][0]["body"], "Boats");
    assert_eq!(
        house.content(&room, "m.room.member", &bob.user_id)["is_direct"],
        true
    );
    let alias = format!("#harbour:{SERVER}");
    assert_eq!(
        house.content(&room, "m.room.canonical_alias", "")["alias"],
        alias
    );
    assert_eq!(house.rooms.resolve(&alias).await.unwrap(), room);

    let (snap, nid) = (house.snap(), house.nid(&room));
    let stripped = house.rooms.stripped(&snap, bob.user, nid).unwrap().unwrap();
    let stripped: Vec<Value> = serde_json::from_slice(&stripped).unwrap();
    let kinds: Vec<_> = stripped
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    for kind in [
        "m.room.create",
        "m.room.name",
        "m.room.join_rules",
        "m.room.canonical_alias",
    ] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == "m.room.member")
            .count(),
        2
    );
    assert_eq!(stripped.last().unwrap()["state_key"], *bob.user_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_cannot_be() {
    let house = House::new();
    let ada = house.person("ada");
    let make = |request: CreateRoom| house.rooms.create(ada.clone(), request);
    let version = |id: &str| CreateRoom {
        version: Some(id.into()),
        ..def()
    };
    assert_eq!(refusal(make(version("13")).await), "UnsupportedVersion");
    assert_eq!(refusal(make(version("")).await), "UnsupportedVersion");

    let alias = |name: &str| CreateRoom {
        alias: Some(name.into()),
        ..def()
    };
    make(alias("taken")).await.unwrap();
    assert_eq!(refusal(make(alias("taken")).await), "AliasInUse");
    assert_eq!(refusal(make(alias("")).await), "InvalidParam");
    assert_eq!(refusal(make(alias("a:b")).await), "InvalidParam");
    assert_eq!(refusal(make(alias(&"x".repeat(300))).await), "InvalidParam");

    let invite = |user: &str| CreateRoom {
        invite: vec![user.into()],
        ..def()
    };
    assert_eq!(refusal(make(invite("nobody")).await), "InvalidParam");
    let made = make(invite("@far:elsewhere.test")).await;
    assert!(made.is_ok(), "their server is asked later, by others");

    let state = |kind: &str, content: Value| CreateRoom {
        initial_state: vec![initial(kind, "", content)],
        ..def()
    };
    assert_eq!(
        refusal(make(state("m.room.create", json!({}))).await),
        "InvalidState"
    );
    assert_eq!(
        refusal(make(state("org.example", json!({ "x": 1.5 }))).await),
        "BadJson"
    );
    let powerless = json!({ "users": {}, "state_default": 50 });
    let request = CreateRoom {
        version: Some("11".into()),
        power_levels: Some(powerless.to_string()),
        name: Some("Nobody may name it".into()),
        ..def()
    };
    assert_eq!(refusal(make(request).await), "InvalidState");
    let own = json!({ "users": { (&*ada.user_id): 100 } }).to_string();
    let request = CreateRoom {
        power_levels: Some(own),
        ..def()
    };
    assert_eq!(refusal(make(request).await), "InvalidState");

    let mut guest = ada.clone();
    guest.guest = true;
    assert_eq!(
        refusal(house.rooms.create(guest, def()).await),
        "GuestForbidden"
    );
    let request = CreateRoom {
        name: Some("x".repeat(70_000)),
        ..def()
    };
    assert_eq!(refusal(make(request).await), "TooLarge");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_creator_says_of_the_room() {
    let house = House::new();
    let ada = house.person("ada");
    let creation = json!({
        "m.federate": false,
        "type": "m.space",
        "creator": "@mallory:elsewhere.test",
        "room_version": "1",
        "additional_creators": ["@bob:skerry.test"],
    });
    let request = CreateRoom {
        creation_content: Some(creation.to_string()),
        power_levels: Some(json!({ "events_default": 30 }).to_string()),
        ..def()
    };
    let room = house.rooms.create(ada.clone(), request).await.unwrap();
    let create = house.content(&room, "m.room.create", "");
    assert_eq!(create["m.federate"], false);
    assert_eq!(create["room_version"], "12");
    assert!(create.get("creator").is_none());
    let row = house
        .rooms
        .room_row(&house.snap(), house.nid(&room))
        .unwrap()
        .unwrap();
    assert_eq!(row.room_type.as_deref(), Some("m.space"));
    assert_eq!(row.creator, ada.user);
    assert_eq!(
        house.content(&room, "m.room.power_levels", "")["events_default"],
        30
    );
    let event = house.state(&room, "m.room.create", "").unwrap().event;
    let facts = skerry_core::power::CreateFacts::of(&event).unwrap();
    let power = skerry_core::power::PowerLevels::new(&facts, None).unwrap();
    assert_eq!(power.user("@bob:skerry.test"), Level::Infinite);
}

/// In version 12 the id of a room follows from its create event; equal ones still get rooms of
/// their own.
#[tokio::test(flavor = "multi_thread")]
async fn equal_rooms_at_the_same_moment() {
    let house = House::new();
    let ada = house.person("ada");
    let made = tokio::join!(
        house.rooms.create(ada.clone(), def()),
        house.rooms.create(ada.clone(), def()),
        house.rooms.create(ada.clone(), def()),
    );
    let rooms = [made.0.unwrap(), made.1.unwrap(), made.2.unwrap()];
    let different: std::collections::BTreeSet<_> = rooms.iter().collect();
    assert_eq!(different.len(), 3);
}

fn initial(kind: &str, key: &str, content: Value) -> InitialState {
    InitialState {
        kind: kind.into(),
        state_key: key.into(),
        content: content.to_string(),
    }
}

#[tokio::test]
async fn a_room_begins_with_a_bounded_number_of_events() {
    let house = House::new();
    let ada = house.person("ada");
    let invites = CreateRoom {
        invite: (0..1_001)
            .map(|n| format!("@user{n}:skerry.test"))
            .collect(),
        ..def()
    };
    let keys = 0..1_001;
    let state = CreateRoom {
        initial_state: keys
            .map(|n| initial("m.x", &n.to_string(), json!({})))
            .collect(),
        ..def()
    };
    for request in [invites, state] {
        let made = house.rooms.create(ada.clone(), request).await;
        assert_eq!(refusal(made), "InvalidParam");
    }
}
