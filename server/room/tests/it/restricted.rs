//! Rooms that are open to the members of others.

use serde_json::json;
use skerry_core::{Membership, RoomVersion};
use skerry_room::{CreateRoom, Move};

use crate::house::{House, def, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_named_room_come_in() {
    let house = House::new();
    let (ada, bob, eve) = (
        house.person("ada"),
        house.person("bob"),
        house.person("eve"),
    );
    let space = house.public_room(&ada).await;
    house.join(&bob, &space).await.unwrap();
    for version in RoomVersion::all().filter(|version| version.has_restricted()) {
        let request = CreateRoom {
            version: Some(version.to_string()),
            ..def()
        };
        let room = house.rooms.create(ada.clone(), request).await.unwrap();
        let allow = json!([
            { "type": "org.example.other", "room_id": room },
            { "type": "m.room_membership", "room_id": "!none:elsewhere.test" },
            { "type": "m.room_membership", "room_id": space },
        ]);
        let rule = json!({ "join_rule": "restricted", "allow": allow });
        house
            .set(&ada, &room, "m.room.join_rules", "", rule)
            .await
            .unwrap();
        assert_eq!(refusal(house.join(&eve, &room).await), "Forbidden");
        house.join(&bob, &room).await.unwrap();
        let content = house.content(&room, "m.room.member", &bob.user_id);
        assert_eq!(
            content["join_authorised_via_users_server"], *ada.user_id,
            "{version}"
        );
        house.leave(&bob, &room).await.unwrap();
        house.invite(&ada, &room, &eve).await.unwrap();
        house.join(&eve, &room).await.unwrap();
        let content = house.content(&room, "m.room.member", &eve.user_id);
        assert!(content.get("join_authorised_via_users_server").is_none());

        // Nobody is left who could vouch.
        let mut levels = house.content(&room, "m.room.power_levels", "");
        levels["invite"] = 60.into();
        house
            .set(&ada, &room, "m.room.power_levels", "", levels)
            .await
            .unwrap();
        house.leave(&ada, &room).await.unwrap();
        assert_eq!(
            refusal(house.join(&bob, &room).await),
            "UnableToAuthoriseJoin"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn knock_restricted_opens_both_doors() {
    let house = House::new();
    let (ada, bob, eve) = (
        house.person("ada"),
        house.person("bob"),
        house.person("eve"),
    );
    let space = house.public_room(&ada).await;
    house.join(&bob, &space).await.unwrap();
    let room = house.rooms.create(ada.clone(), def()).await.unwrap();
    let allow = json!([{ "type": "m.room_membership", "room_id": space }]);
    let rule = json!({ "join_rule": "knock_restricted", "allow": allow });
    house
        .set(&ada, &room, "m.room.join_rules", "", rule)
        .await
        .unwrap();
    house.join(&bob, &room).await.unwrap();
    assert_eq!(refusal(house.join(&eve, &room).await), "Forbidden");
    house
        .rooms
        .knock(eve.clone(), &room, Move::default())
        .await
        .unwrap();
    house.invite(&ada, &room, &eve).await.unwrap();
    house.join(&eve, &room).await.unwrap();
    assert_eq!(house.membership(&room, &eve), Some(Membership::Join));
}
