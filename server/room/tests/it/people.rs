//! The directory of people, with many of them.

use std::time::{Duration, Instant};

use skerry_core::{EventNid, Membership, RoomNid, UserNid};
use skerry_room::{FoundPeople, Who};
use skerry_store::Write;
use skerry_store::schema::{account, directory, room};

use super::house::House;

const MANY: usize = 10_000;

/// Somebody with an account and a name, in a room: rows as the accounts and the room write them.
fn settle(house: &House, w: &mut Write, name: &str, shown: &str, room: RoomNid) -> UserNid {
    let user = house.person(name).user;
    let row = account::Account {
        password: None,
        admin: false,
        guest: false,
        deactivated: false,
        erased: false,
        created_ms: 0,
        terms: None,
        pos: w.stamp(),
    };
    w.put::<account::Accounts>(&user, &row);
    let field = account::ProfileField {
        json: format!("\"{shown}\""),
        pos: w.stamp(),
    };
    w.put::<account::Profiles>(&(user, "displayname".into()), &field);
    let pos = w.stamp();
    let member = room::MemberOf {
        membership: Membership::Join,
        event: EventNid(1),
        pos,
        since: pos,
    };
    w.put::<room::MemberOfTable>(&(user, room), &member);
    user
}

fn commit(house: &House, w: Write) {
    let applied = house.store.commit(w).unwrap();
    house.store.wait_durable(&applied).unwrap();
}

async fn search(house: &House, who: &Who, term: &str) -> FoundPeople {
    let found = house.rooms.search_people(who.clone(), term, 10).await;
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_people_are_searched_quickly() {
    let house = House::new();
    let ada = house.person("ada");
    let open = house.nid(&house.public_room(&ada).await);
    let mut w = house.store.write();
    for n in 0..MANY {
        settle(&house, &mut w, &format!("u{n:05}"), "Some Body", open);
    }
    // Nobody may know of these: each is looked at and passed over.
    let hidden = house.store.intern_room("!hidden:skerry.test").unwrap();
    for n in 0..MANY {
        settle(&house, &mut w, &format!("h{n:05}"), "Hidden Body", hidden);
    }
    settle(&house, &mut w, "zoe", "Zoé", open);
    commit(&house, w);
    // The first search makes the index.
    assert_eq!(
        search(&house, &ada, "zoe").await.people[0].user_id,
        "@zoe:skerry.test"
    );
    for (term, count) in [
        ("u00017", 1),
        ("u", 10),
        ("some", 10),
        ("hidden", 0),
        ("body", 10),
    ] {
        let before = Instant::now();
        let found = search(&house, &ada, term).await;
        let took = before.elapsed();
        assert_eq!(found.people.len(), count, "{term}");
        assert_eq!(found.limited, count != 1, "{term}");
        assert!(took < Duration::from_millis(900), "{term}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_is_made_anew_where_it_is_lost() {
    let house = House::new();
    let ada = house.person("ada");
    let open = house.nid(&house.public_room(&ada).await);
    let mut w = house.store.write();
    let zoe = settle(&house, &mut w, "zoe", "Zoé", open);
    commit(&house, w);
    assert_eq!(search(&house, &ada, "zoe").await.people.len(), 1);
    let mut w = house.store.write();
    w.delete::<directory::People>(&zoe);
    w.delete::<directory::PersonWords>(&("zoe".into(), zoe));
    skerry_store::follow::forget(&mut w, "directory");
    commit(&house, w);
    let house = house.restart();
    assert_eq!(search(&house, &ada, "zoe").await.people.len(), 1);
}
