//! Versions of a room's state.

use std::collections::BTreeMap;

use serde_json::json;
use skerry_core::{EventNid, StateKeyNid};
use skerry_store::Scan;
use skerry_store::schema::room as t;

use crate::house::House;

/// Each version of the state, read with a cold cache, is what the events before it made; the
/// current one is what the rows of the current state say; and no version is read from many rows.
#[tokio::test(flavor = "multi_thread")]
async fn every_version_reads_back() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    for n in 0..150_u32 {
        let key = format!("{}", n % 40);
        house
            .set(&ada, &room, "org.example", &key, json!({ "n": n }))
            .await
            .unwrap();
        if n % 10 == 0 {
            house.say(&ada, &room, "between", None).await.unwrap();
        }
    }
    let house = house.restart();
    let (snap, nid) = (house.snap(), house.nid(&room));
    let mut model: BTreeMap<StateKeyNid, EventNid> = BTreeMap::new();
    for row in snap.scan::<t::Timeline>(Scan::prefix(&nid)) {
        let (_, event) = row.unwrap();
        let meta = house.rooms.meta(&snap, event).unwrap().unwrap();
        if !model.is_empty() {
            let before = house.rooms.state_map(&snap, meta.before).unwrap();
            assert!(
                before
                    .iter()
                    .eq(model.iter().map(|(key, event)| (*key, *event)))
            );
        }
        if let Some(key) = meta.state_key {
            assert_eq!(meta.replaces, model.insert(key, event));
            assert!(meta.after != meta.before || model.len() == 1);
        }
        let after = house.rooms.state_map(&snap, meta.after).unwrap();
        assert!(
            after
                .iter()
                .eq(model.iter().map(|(key, event)| (*key, *event)))
        );
        let (mut rows, mut next) = (0, Some(meta.after));
        while let Some(id) = next {
            next = snap.get::<t::State>(&id).unwrap().unwrap().parent;
            rows += 1;
        }
        assert!(rows <= 8, "{rows} rows");
    }
    let now = house.rooms.state_now(&snap, nid).unwrap();
    assert_eq!(now, model.into_iter().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_the_same_twice_makes_one_event() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let name = || json!({ "name": "Same" });
    let first = house
        .set(&ada, &room, "m.room.name", "", name())
        .await
        .unwrap();
    assert_eq!(
        house
            .set(&ada, &room, "m.room.name", "", name())
            .await
            .unwrap(),
        first
    );
    let other = json!({ "name": "Other" });
    let second = house
        .set(&ada, &room, "m.room.name", "", other)
        .await
        .unwrap();
    assert_ne!(first, second);
    let held = house.event(&second);
    let meta = house.rooms.meta(&house.snap(), held.nid).unwrap().unwrap();
    assert_eq!(meta.replaces, Some(house.event(&first).nid));
}
