//! Replacing rooms.

use serde_json::json;
use skerry_core::{Membership, RoomVersion};
use skerry_room::{CreateRoom, Move, Preset};

use crate::house::{House, SERVER, def, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn between_any_two_versions() {
    let house = House::new();
    let (ada, bob, troll) = (
        house.person("ada"),
        house.person("bob"),
        house.person("troll"),
    );
    for (from, to) in [
        ("1", "2"),
        ("5", "11"),
        ("9", "12"),
        ("12", "12"),
        ("12", "10"),
    ] {
        let request = CreateRoom {
            version: Some(from.into()),
            preset: Some(Preset::PublicChat),
            name: Some("Quay".into()),
            topic: Some("Ropes".into()),
            alias: Some(format!("quay-{from}-{to}")),
            public: true,
            creation_content: Some(json!({ "m.federate": false, "type": "x.type" }).to_string()),
            ..def()
        };
        let old = house.rooms.create(ada.clone(), request).await.unwrap();
        house.join(&bob, &old).await.unwrap();
        let ban = house
            .rooms
            .ban(ada.clone(), &old, &troll.user_id, Move::default());
        ban.await.unwrap();
        let mut levels = house.content(&old, "m.room.power_levels", "");
        levels["users"][&*bob.user_id] = 40.into();
        house
            .set(&ada, &old, "m.room.power_levels", "", levels)
            .await
            .unwrap();
        let refused = house.rooms.upgrade(bob.clone(), &old, to, vec![]).await;
        assert_eq!(refusal(refused), "Forbidden");
        let new = house
            .rooms
            .upgrade(ada.clone(), &old, to, vec![])
            .await
            .unwrap();

        let version = RoomVersion::parse(to).unwrap();
        let create = house.content(&new, "m.room.create", "");
        assert_eq!(create["room_version"], to);
        assert_eq!(create["m.federate"], false);
        assert_eq!(create["type"], "x.type");
        assert_eq!(create["predecessor"]["room_id"], old);
        let tombstone = house.state(&old, "m.room.tombstone", "").unwrap().event;
        assert_eq!(
            create["predecessor"]
                .get("event_id")
                .and_then(|id| id.as_str()),
            (!version.room_id_is_create_event_id()).then_some(tombstone.event_id()),
        );
        let content = house.content(&old, "m.room.tombstone", "");
        assert_eq!(content["replacement_room"], new);
        assert_eq!(house.content(&new, "m.room.name", "")["name"], "Quay");
        assert_eq!(house.content(&new, "m.room.topic", "")["topic"], "Ropes");
        assert_eq!(
            house.content(&new, "m.room.join_rules", "")["join_rule"],
            "public"
        );
        assert_eq!(house.membership(&new, &ada), Some(Membership::Join));
        assert_eq!(house.membership(&new, &bob), None);
        assert_eq!(
            house.membership(&new, &troll),
            Some(Membership::Ban),
            "{from} {to}"
        );

        let levels = house.content(&new, "m.room.power_levels", "");
        assert_eq!(levels["users"][&*bob.user_id], 40);
        let own = levels["users"].get(&*ada.user_id);
        assert_eq!(own.is_none(), version.creators_are_privileged());
        let quiet = house.content(&old, "m.room.power_levels", "");
        assert_eq!(
            (&quiet["events_default"], &quiet["invite"]),
            (&json!(50), &json!(50))
        );
        assert_eq!(
            refusal(house.say(&bob, &old, "hello?", None).await),
            "Forbidden"
        );

        let alias = format!("#quay-{from}-{to}:{SERVER}");
        assert_eq!(house.rooms.resolve(&alias).await.unwrap(), new);
        assert_eq!(house.content(&old, "m.room.canonical_alias", ""), json!({}));
        assert_eq!(
            house.content(&new, "m.room.canonical_alias", "")["alias"],
            alias
        );
        assert!(house.rooms.is_listed(&new).await.unwrap());
        assert!(!house.rooms.is_listed(&old).await.unwrap());
        house.join(&bob, &new).await.unwrap();
        house.say(&bob, &new, "here we are", None).await.unwrap();
        house.say(&ada, &old, "over there", None).await.unwrap();
    }
}

/// Whoever upgrades may have less power than what is carried over takes: they get it for that
/// long only.
#[tokio::test(flavor = "multi_thread")]
async fn a_moderator_upgrades() {
    let house = House::new();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let request = CreateRoom {
        version: Some("10".into()),
        preset: Some(Preset::PublicChat),
        name: Some("Pier".into()),
        ..def()
    };
    let old = house.rooms.create(ada.clone(), request).await.unwrap();
    house.join(&bob, &old).await.unwrap();
    let mut levels = house.content(&old, "m.room.power_levels", "");
    levels["users"][&*bob.user_id] = 50.into();
    levels["events"]["m.room.tombstone"] = 50.into();
    house
        .set(&ada, &old, "m.room.power_levels", "", levels.clone())
        .await
        .unwrap();
    let new = house
        .rooms
        .upgrade(bob.clone(), &old, "11", vec![])
        .await
        .unwrap();
    assert_eq!(house.content(&new, "m.room.power_levels", ""), levels);
    assert_eq!(house.content(&old, "m.room.power_levels", ""), levels);
    assert_eq!(house.content(&new, "m.room.name", "")["name"], "Pier");
}

#[tokio::test(flavor = "multi_thread")]
async fn creators_are_named_anew() {
    let house = House::new();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let old = house.public_room(&ada).await;
    let creators = vec![bob.user_id.to_string(), ada.user_id.to_string()];
    let new = house
        .rooms
        .upgrade(ada.clone(), &old, "12", creators)
        .await
        .unwrap();
    let create = house.content(&new, "m.room.create", "");
    assert_eq!(create["additional_creators"], json!([&*bob.user_id]));
    let again = house
        .rooms
        .upgrade(ada.clone(), &new, "12", vec![])
        .await
        .unwrap();
    assert!(
        house
            .content(&again, "m.room.create", "")
            .get("additional_creators")
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_upgraded() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let upgrade = |room: &str, version: &str, creators: Vec<String>| {
        let (room, version) = (room.to_owned(), version.to_owned());
        let (house, ada) = (&house, ada.clone());
        async move { house.rooms.upgrade(ada, &room, &version, creators).await }
    };
    assert_eq!(
        refusal(upgrade(&room, "nine", vec![]).await),
        "UnsupportedVersion"
    );
    assert_eq!(
        refusal(upgrade("!none:skerry.test", "11", vec![]).await),
        "NotFound"
    );
    assert_eq!(
        refusal(upgrade(&room, "12", vec!["bob".into()]).await),
        "InvalidParam"
    );
    assert!(house.state(&room, "m.room.tombstone", "").is_none());
}

/// What people keep about the old room holds for the new one, from the moment they are in it.
#[tokio::test(flavor = "multi_thread")]
async fn settings_come_along() {
    let house = House::new();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let old = house.public_room(&ada).await;
    house.join(&bob, &old).await.unwrap();
    let accounts = &house.accounts;
    for who in [&ada, &bob] {
        accounts
            .set_tag(who.user, &old, "m.favourite", json!({ "order": 0.5 }))
            .await
            .unwrap();
        let direct = json!({ "@x:skerry.test": [old] });
        accounts
            .set_account_data(who.user, None, "m.direct", direct)
            .await
            .unwrap();
        let rule = json!({ "actions": ["notify"] });
        let named = ("room", &*old);
        accounts
            .set_push_rule(who.user, named, rule, None, None)
            .await
            .unwrap();
    }
    let new = house
        .rooms
        .upgrade(ada.clone(), &old, "12", vec![])
        .await
        .unwrap();
    assert!(accounts.tags(bob.user, &new).await.unwrap().is_empty());
    house.join(&bob, &new).await.unwrap();
    for who in [&ada, &bob] {
        assert!(
            accounts
                .tags(who.user, &new)
                .await
                .unwrap()
                .contains_key("m.favourite")
        );
        let direct = accounts
            .account_data(who.user, None, "m.direct")
            .await
            .unwrap();
        let direct: serde_json::Value = serde_json::from_str(&direct).unwrap();
        assert_eq!(direct, json!({ "@x:skerry.test": [old, new] }));
        accounts.push_rule(who.user, "room", &new).await.unwrap();
    }
}

/// Anybody can say that their room comes after another: that alone takes nothing along.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_only_claims_to_come_after_another_gets_nothing() {
    let house = House::new();
    let (ada, eve) = (house.person("ada"), house.person("eve"));
    let old = house.public_room(&ada).await;
    let accounts = &house.accounts;
    accounts
        .set_tag(ada.user, &old, "m.favourite", json!({ "order": 0.5 }))
        .await
        .unwrap();
    let claim = json!({ "predecessor": { "room_id": old, "event_id": "$x" } });
    let request = CreateRoom {
        preset: Some(Preset::PublicChat),
        creation_content: Some(claim.to_string()),
        ..def()
    };
    let trap = house.rooms.create(eve, request).await.unwrap();
    house.join(&ada, &trap).await.unwrap();
    assert!(accounts.tags(ada.user, &trap).await.unwrap().is_empty());
}

#[tokio::test]
async fn links_that_a_stop_left_behind_are_moved_later() {
    use skerry_store::schema::directory::{SpaceLinks, SpaceLinksTodo};
    let house = House::new();
    let ada = house.person("ada");
    let (space, old) = (house.public_room(&ada).await, house.public_room(&ada).await);
    let upgraded = house.rooms.upgrade(ada.clone(), &old, "11", vec![]);
    let new = upgraded.await.unwrap();
    // As if the server had stopped before the space was looked at.
    let link = json!({ "via": ["far.example"], "order": "a" });
    house
        .set(&ada, &space, "m.space.child", &old, link)
        .await
        .unwrap();
    let mut w = house.store.write();
    let links = SpaceLinks {
        to: house.nid(&new),
        by: ada.user,
    };
    w.put::<SpaceLinksTodo>(&house.nid(&old), &links);
    let applied = house.store.commit(w).unwrap();
    house.store.wait_durable(&applied).unwrap();
    let house = house.restart();
    house.rooms.run_jobs().await.unwrap();
    let expected = json!({ "via": [SERVER], "order": "a" });
    assert_eq!(house.content(&space, "m.space.child", &new), expected);
    assert_eq!(house.content(&space, "m.space.child", &old), json!({}));
    assert!(
        !house
            .snap()
            .has::<SpaceLinksTodo>(&house.nid(&old))
            .unwrap()
    );
}
