//! Aliases and the directory.

use serde_json::json;
use skerry_room::{CreateRoom, DirectoryAsk};

use crate::house::{House, SERVER, def, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn aliases_come_and_go() {
    let house = House::new();
    let (ada, bob, eve) = (
        house.person("ada"),
        house.person("bob"),
        house.person("eve"),
    );
    let room = house.public_room(&ada).await;
    house.join(&bob, &room).await.unwrap();
    let (one, two) = (format!("#one:{SERVER}"), format!("#zwei-😀:{SERVER}"));
    let add = |who: &skerry_room::Who, alias: &str| {
        let (who, alias) = (who.clone(), alias.to_owned());
        let (house, room) = (&house, room.clone());
        async move { house.rooms.add_alias(who, &alias, &room).await }
    };
    let remove = |who: &skerry_room::Who, alias: &str| {
        let (who, alias) = (who.clone(), alias.to_owned());
        let house = &house;
        async move { house.rooms.remove_alias(who, &alias).await }
    };
    assert_eq!(refusal(add(&eve, &one).await), "Forbidden");
    add(&bob, &one).await.unwrap();
    assert_eq!(refusal(add(&ada, &one).await), "AliasInUse");
    assert_eq!(
        refusal(add(&ada, "#far:elsewhere.test").await),
        "InvalidParam"
    );
    assert_eq!(refusal(add(&ada, "one").await), "InvalidParam");
    add(&ada, &two).await.unwrap();
    let listed = house.rooms.aliases(bob.clone(), &room).await.unwrap();
    assert_eq!(listed, [one.clone(), two.clone()]);
    assert_eq!(
        refusal(house.rooms.aliases(eve.clone(), &room).await),
        "Forbidden"
    );

    let canonical = json!({ "alias": one, "alt_aliases": [two] });
    house
        .set(&ada, &room, "m.room.canonical_alias", "", canonical)
        .await
        .unwrap();
    assert_eq!(refusal(remove(&eve, &one).await), "Forbidden");
    assert_eq!(refusal(remove(&bob, &two).await), "Forbidden");
    remove(&bob, &one).await.unwrap();
    assert_eq!(refusal(remove(&ada, &one).await), "NotFound");
    assert_eq!(refusal(house.rooms.resolve(&one).await), "NotFound");
    remove(&ada, &two).await.unwrap();
    let content = house.content(&room, "m.room.canonical_alias", "");
    assert_eq!(content, json!({ "alias": one }));
}

#[tokio::test(flavor = "multi_thread")]
async fn canonical_aliases_have_to_point_here() {
    let house = House::new();
    let ada = house.person("ada");
    let named = |name: &str| CreateRoom {
        alias: Some(name.into()),
        ..def()
    };
    let here = house
        .rooms
        .create(ada.clone(), named("here"))
        .await
        .unwrap();
    house
        .rooms
        .create(ada.clone(), named("there"))
        .await
        .unwrap();
    let (mine, other) = (format!("#here:{SERVER}"), format!("#there:{SERVER}"));
    let set = |content| house.set(&ada, &here, "m.room.canonical_alias", "", content);
    assert_eq!(refusal(set(json!({ "alias": other })).await), "BadAlias");
    assert_eq!(
        refusal(set(json!({ "alias": "#none:skerry.test" })).await),
        "BadAlias"
    );
    assert_eq!(
        refusal(set(json!({ "alias": "%no" })).await),
        "InvalidParam"
    );
    assert_eq!(
        refusal(set(json!({ "alias": mine, "alt_aliases": [other] })).await),
        "BadAlias"
    );
    assert_eq!(refusal(set(json!({ "alt_aliases": "x" })).await), "BadJson");
    set(json!({ "alias": mine, "alt_aliases": [mine] }))
        .await
        .unwrap();
    set(json!({})).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_gets_an_alias() {
    let house = House::new();
    let people: Vec<_> = (0..6).map(|n| house.person(&format!("p{n}"))).collect();
    let made = people.iter().map(|who| {
        let request = CreateRoom {
            alias: Some("wanted".into()),
            ..def()
        };
        house.rooms.create(who.clone(), request)
    });
    let made = futures_util::future::join_all(made).await;
    assert_eq!(made.iter().filter(|room| room.is_ok()).count(), 1);
    for lost in made.into_iter().filter(Result::is_err) {
        assert_eq!(refusal(lost), "AliasInUse");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory() {
    let house = House::new();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let open = |name: &str| CreateRoom {
        public: true,
        name: Some(name.into()),
        ..def()
    };
    let small = house
        .rooms
        .create(ada.clone(), open("Small boats"))
        .await
        .unwrap();
    let large = house
        .rooms
        .create(ada.clone(), open("Large BOATS"))
        .await
        .unwrap();
    let hidden = house.public_room(&ada).await;
    house.join(&bob, &large).await.unwrap();
    let ask = DirectoryAsk {
        limit: 10,
        ..DirectoryAsk::default()
    };
    let page = house.rooms.public_rooms(ask.clone()).await.unwrap();
    let ids: Vec<_> = page.rooms.iter().map(|room| room.room_id.clone()).collect();
    assert_eq!(ids, [large.clone(), small.clone()]);
    assert_eq!(page.rooms[0].joined, 2);
    assert_eq!(page.rooms[0].join_rule, "public");
    let first = DirectoryAsk {
        limit: 1,
        term: Some("boats".into()),
        ..ask.clone()
    };
    let page = house.rooms.public_rooms(first.clone()).await.unwrap();
    assert_eq!((page.rooms.len(), page.total, page.prev), (1, 2, None));
    let from = page.next;
    let second = DirectoryAsk { from, ..first };
    let page = house.rooms.public_rooms(second).await.unwrap();
    assert_eq!((page.rooms.len(), page.total, page.next), (1, 2, None));
    assert_eq!(page.rooms[0].room_id, small);
    assert!(page.prev.is_some_and(|place| place.backwards));
    let spaces = DirectoryAsk {
        room_types: Some(vec![Some("m.space".into())]),
        ..ask
    };
    assert_eq!(house.rooms.public_rooms(spaces).await.unwrap().total, 0);

    assert!(house.rooms.is_listed(&small).await.unwrap());
    assert!(!house.rooms.is_listed(&hidden).await.unwrap());
    assert_eq!(
        refusal(house.rooms.is_listed("!none:skerry.test").await),
        "NotFound"
    );
    assert_eq!(
        refusal(house.rooms.list(bob.clone(), &large, false).await),
        "Forbidden"
    );
    house.rooms.list(ada.clone(), &large, false).await.unwrap();
    assert!(!house.rooms.is_listed(&large).await.unwrap());
}
