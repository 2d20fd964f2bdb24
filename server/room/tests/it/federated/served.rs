//! What other servers read.

use serde_json::json;
use skerry_core::canonical::Object;
use skerry_room::MissingAsk;

use super::pair::{carry, join, state};
use crate::house::{House, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn who_has_nobody_in_the_room_reads_nothing() {
    let a = House::of("a.test");
    let ada = a.person("ada");
    let room = a.public_room(&ada).await;
    let said = a.say(&ada, &room, "hello", None).await.unwrap();
    let rooms = &a.rooms;
    let ids = [said.clone()];
    assert_eq!(
        refusal(rooms.served_event("b.test", &said).await),
        "Forbidden"
    );
    assert_eq!(
        refusal(rooms.served_state("b.test", &room, &said).await),
        "Forbidden"
    );
    assert_eq!(
        refusal(rooms.served_auth_chain("b.test", &room, &said).await),
        "Forbidden"
    );
    assert_eq!(
        refusal(rooms.served_backfill("b.test", &room, &ids, 10).await),
        "Forbidden"
    );
    let ask = MissingAsk {
        latest: ids.to_vec(),
        limit: 10,
        ..MissingAsk::default()
    };
    assert_eq!(
        refusal(rooms.served_missing_events("b.test", &room, ask).await),
        "Forbidden"
    );
    assert_eq!(
        refusal(rooms.served_timestamp("b.test", &room, 0, false).await),
        "Forbidden"
    );
    assert_eq!(
        refusal(rooms.served_event("b.test", "$none").await),
        "NotFound"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_show_what_the_asking_server_could_look_into() {
    let a = House::of("a.test");
    let ada = a.person("ada");
    let request = skerry_room::CreateRoom {
        preset: Some(skerry_room::Preset::PublicChat),
        creation_content: Some(r#"{"type":"m.space"}"#.into()),
        ..skerry_room::CreateRoom::default()
    };
    let space = a.rooms.create(ada.clone(), request).await.unwrap();
    let open = a.public_room(&ada).await;
    let closed = a
        .rooms
        .create(ada.clone(), skerry_room::CreateRoom::default())
        .await
        .unwrap();
    let local = skerry_room::CreateRoom {
        preset: Some(skerry_room::Preset::PublicChat),
        creation_content: Some(r#"{"m.federate":false}"#.into()),
        ..skerry_room::CreateRoom::default()
    };
    let local = a.rooms.create(ada.clone(), local).await.unwrap();
    for (child, suggested) in [(&open, true), (&closed, false), (&local, false)] {
        let content = json!({ "via": ["a.test"], "suggested": suggested });
        a.set(&ada, &space, "m.space.child", child, content)
            .await
            .unwrap();
    }
    let content = json!({ "via": ["c.test"] });
    a.set(&ada, &space, "m.space.child", "!far:c.test", content)
        .await
        .unwrap();
    let seen = a
        .rooms
        .served_hierarchy("b.test", &space, false)
        .await
        .unwrap();
    assert_eq!(seen.room.room.room_id, space);
    let children: Vec<serde_json::Value> = serde_json::from_slice(&seen.room.children).unwrap();
    assert_eq!(children.len(), 4);
    let ids: Vec<&str> = seen.children.iter().map(|room| &*room.room_id).collect();
    assert_eq!(ids, [&open]);
    let mut inaccessible = seen.inaccessible;
    inaccessible.sort();
    let mut expected = [closed.clone(), local];
    expected.sort();
    assert_eq!(inaccessible, expected);
    let seen = a
        .rooms
        .served_hierarchy("b.test", &space, true)
        .await
        .unwrap();
    assert_eq!((seen.children.len(), seen.inaccessible.len()), (1, 0));
    let unseen = a.rooms.served_hierarchy("b.test", &closed, false).await;
    assert_eq!(refusal(unseen), "NotFound");
}

/// Events that were leaked to servers that could not see them (Continuwuity SEC26): what a server
/// may not see it gets redacted, wherever it reads.
#[tokio::test(flavor = "multi_thread")]
async fn continuwuity_sec26_history_visibility_holds_for_servers_too() {
    let (a, b) = (House::of("a.test"), House::of("b.test"));
    let (ada, bob) = (a.person("ada"), b.person("bob"));
    let room = a.public_room(&ada).await;
    let first = a.say(&ada, &room, "shared", None).await.unwrap();
    let closed = json!({ "history_visibility": "joined" });
    a.set(&ada, &room, "m.room.history_visibility", "", closed)
        .await
        .unwrap();
    let secret = a.say(&ada, &room, "secret", None).await.unwrap();
    join(&b, &a, &bob, &room).await.unwrap();
    let open = a.say(&ada, &room, "hello", None).await.unwrap();
    let body = |pdu: &str| {
        let pdu: serde_json::Value = serde_json::from_str(pdu).unwrap();
        pdu["content"]["body"].as_str().map(str::to_owned)
    };
    for (id, expected) in [
        (&first, Some("shared")),
        (&secret, None),
        (&open, Some("hello")),
    ] {
        let pdu = a.rooms.served_event("b.test", id).await.unwrap();
        assert_eq!(body(&pdu).as_deref(), expected, "{id}");
    }
    let from = [open.clone()];
    let all = a.rooms.served_backfill("b.test", &room, &from, 100);
    let all = all.await.unwrap();
    assert_eq!(all.len(), a.timeline(&room).len());
    assert!(all.iter().all(|pdu| !pdu.contains("secret")));
    let ask = MissingAsk {
        earliest: vec![first.clone()],
        latest: vec![open.clone()],
        limit: 10,
        min_depth: 0,
    };
    let between = a
        .rooms
        .served_missing_events("b.test", &room, ask)
        .await
        .unwrap();
    // Visibility, secret, join; the oldest first, and nothing of the ends.
    assert_eq!(between.len(), 3);
    assert!(between[0].contains("m.room.history_visibility"));
    assert!(between[2].contains(&*bob.user_id));
    assert!(between.iter().all(|pdu| !pdu.contains("secret")));
    // By time only what it may see is found.
    let at = a.event(&secret).event.origin_server_ts();
    let (found, _) = a
        .rooms
        .served_timestamp("b.test", &room, at, false)
        .await
        .unwrap();
    assert_ne!(found, secret);
    let state = a.rooms.served_state("b.test", &room, &open).await.unwrap();
    let now: std::collections::BTreeSet<_> = a
        .rooms
        .event_ids(&state.state)
        .unwrap()
        .iter()
        .map(|id| id.to_string())
        .collect();
    assert_eq!(now, self::state(&a, &room).into_iter().collect());
    let pdus = a.rooms.pdus(state.state.clone()).await.unwrap();
    let pdus: Vec<serde_json::Value> = serde_json::from_slice(&pdus).unwrap();
    assert_eq!(pdus.len(), state.state.len());
    let chain = a
        .rooms
        .served_auth_chain("b.test", &room, &open)
        .await
        .unwrap();
    assert!(
        chain
            .iter()
            .all(|nid| a.event(&a.store.event_id(*nid).unwrap()).event.is_state())
    );
    // A server whose last user has left reads no more.
    // Of two events of the same time, their ids say which one holds.
    b.clock.advance(1_000);
    b.leave(&bob, &room).await.unwrap();
    let (_, told) = carry(&b, &a, skerry_core::Pos::ZERO).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].1, skerry_room::Verdict::Accepted);
    let member = a.content(&room, "m.room.member", &bob.user_id);
    assert_eq!(member["membership"], "leave");
    assert_eq!(
        refusal(a.rooms.served_event("b.test", &open).await),
        "Forbidden"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_more_of_a_room_than_an_answer_holds() {
    let (a, b) = (House::of("a.test"), House::of("b.test"));
    let (ada, bob) = (a.person("ada"), b.person("bob"));
    let room = a.public_room(&ada).await;
    let mut last = String::new();
    for n in 0..130 {
        last = a.say(&ada, &room, &n.to_string(), None).await.unwrap();
    }
    join(&b, &a, &bob, &room).await.unwrap();
    let from = vec![last.clone(); 500];
    let all = a
        .rooms
        .served_backfill("b.test", &room, &from, usize::MAX)
        .await
        .unwrap();
    assert_eq!(all.len(), 100);
    assert!(all[0].contains("\"129\""), "the newest come first");
    let ask = MissingAsk {
        latest: vec![last],
        limit: usize::MAX,
        ..MissingAsk::default()
    };
    let all = a
        .rooms
        .served_missing_events("b.test", &room, ask)
        .await
        .unwrap();
    assert_eq!(all.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_party_invite_becomes_an_invite_through_the_server_of_who_invited() {
    let a = House::of("a.test");
    let ada = a.person("ada");
    let room = a
        .rooms
        .create(ada.clone(), skerry_room::CreateRoom::default())
        .await
        .unwrap();
    let identity = skerry_core::fixtures::signing_key("identity.test");
    let public = skerry_core::hash::base64(&identity.public_key());
    let content = json!({
        "display_name": "b...@example.org", "public_key": public,
        "key_validity_url": "https://identity.test/v",
        "public_keys": [{ "public_key": public }],
    });
    a.set(&ada, &room, "m.room.third_party_invite", "token", content)
        .await
        .unwrap();
    let mut signed = Object::new();
    signed.insert("mxid", "@bob:b.test");
    signed.insert("token", "token");
    identity.sign_object("identity.test", &mut signed);
    let asked = |signed: &Object| {
        let mut third = Object::new();
        third.insert("display_name", "anything");
        third.insert("signed", signed.clone());
        let mut content = Object::new();
        content.insert("membership", "invite");
        content.insert("third_party_invite", third);
        let mut event = Object::new();
        event.insert("type", "m.room.member");
        event.insert("room_id", &*room);
        event.insert("sender", &*ada.user_id);
        event.insert("state_key", "@bob:b.test");
        event.insert("content", content);
        event
    };
    let draft = a
        .rooms
        .draft_exchanged("b.test", &room, &asked(&signed))
        .await
        .unwrap();
    assert_eq!(draft.event.sender(), &*ada.user_id);
    assert_eq!(draft.event.state_key(), Some("@bob:b.test"));
    let content = draft.event.content_object().unwrap();
    let third = content.object("third_party_invite").unwrap();
    // What it is called says who invited, not who asks.
    assert_eq!(third.str("display_name"), Some("b...@example.org"));
    let other = a
        .rooms
        .draft_exchanged("c.test", &room, &asked(&signed))
        .await;
    assert_eq!(refusal(other), "InvalidParam");
    let mut forged = signed.clone();
    forged.insert("token", "other");
    let unknown = a
        .rooms
        .draft_exchanged("b.test", &room, &asked(&forged))
        .await;
    assert_eq!(refusal(unknown), "NotFound");
    let mut forged = signed.clone();
    forged.remove("signatures");
    let unsigned = a
        .rooms
        .draft_exchanged("b.test", &room, &asked(&forged))
        .await;
    assert_eq!(refusal(unsigned), "Forbidden");
}
