//! Work that goes through many rooms does not stop at one whose data is damaged.

use serde_json::json;
use skerry_account::profile::Propagate;
use skerry_core::Membership;
use skerry_room::DelayedDraft;
use skerry_store::schema::room as t;

use crate::house::House;

/// Loses the newest version of a room's state.
fn damage(house: &House, room: &str) {
    let head = house
        .snap()
        .get::<t::Head>(&house.nid(room))
        .unwrap()
        .unwrap();
    let mut w = house.store.write();
    w.delete::<t::State>(&head.state);
    let applied = house.store.commit(w).unwrap();
    house.store.wait_durable(&applied).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_carried_into_the_other_rooms() {
    let house = House::new();
    let user = house
        .accounts
        .create_user("bob", "correct horse".into(), None);
    let user = user.await.unwrap();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let rooms = [
        house.public_room(&ada).await,
        house.public_room(&ada).await,
        house.public_room(&ada).await,
    ];
    for room in &rooms {
        house.join(&bob, room).await.unwrap();
    }
    house.rooms.run_jobs().await.unwrap();
    damage(&house, &rooms[1]);
    let house = house.restart();
    let named = json!("Robert");
    let named = house
        .accounts
        .set_profile_field(user, "displayname", named, Propagate::All);
    named.await.unwrap();
    assert!(!house.rooms.run_jobs().await.unwrap());
    for room in [&rooms[0], &rooms[2]] {
        let shown = house.content(room, "m.room.member", &bob.user_id);
        assert_eq!(shown["displayname"], "Robert");
    }
    // What is left is still known.
    let left = skerry_account::job::pending(&house.snap(), 10).unwrap();
    assert_eq!(left.len(), 1);
    assert!(!house.rooms.run_jobs().await.unwrap());
    assert_eq!(house.membership(&rooms[1], &bob), Some(Membership::Join));
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_events_of_other_rooms_are_sent() {
    let house = House::new();
    let user = house
        .accounts
        .create_user("ada", "correct horse".into(), None);
    user.await.unwrap();
    let ada = house.person("ada");
    let rooms = [house.public_room(&ada).await, house.public_room(&ada).await];
    for room in &rooms {
        let draft = DelayedDraft {
            kind: "x.y".into(),
            state_key: None,
            content: b"{}".to_vec(),
            sticky_ms: None,
            ts: None,
            delay_ms: 1_000,
            txn: None,
        };
        house.rooms.delay(ada.clone(), room, draft).await.unwrap();
    }
    damage(&house, &rooms[0]);
    let house = house.restart();
    let before = house.timeline(&rooms[1]).len();
    house.clock.advance(5_000);
    let task = tokio::spawn(house.rooms.clone().run_delayed());
    for _ in 0..200 {
        if house.timeline(&rooms[1]).len() > before {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(house.timeline(&rooms[1]).len(), before + 1);
    task.abort();
}
