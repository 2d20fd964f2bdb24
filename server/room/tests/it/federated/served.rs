//! What other servers read.

use serde_json::json;
use skerry_room::MissingAsk;

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
