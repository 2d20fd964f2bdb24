//! Who may move whom, from which membership to which.

use serde_json::json;
use skerry_account::NewDevice;
use skerry_account::profile::Propagate;
use skerry_core::Membership;
use skerry_room::{CreateRoom, Move, Preset, RoomError, Who};

use crate::house::{House, def, refusal};

fn why(reason: &str) -> Move {
    Move {
        reason: Some(reason.into()),
        content: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_in_the_room_types_no_more() {
    let house = House::new();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let room = house.rooms.create(ada.clone(), def()).await.unwrap();
    let nid = house.nid(&room);
    let typing = || house.rooms.typing().since(nid, 0).unwrap_or_default();
    for kicked in [false, true] {
        house.invite(&ada, &room, &bob).await.unwrap();
        house.join(&bob, &room).await.unwrap();
        let snap = house.snap();
        house
            .rooms
            .set_typing(&snap, bob.user, &room, Some(30_000))
            .unwrap();
        assert_eq!(typing(), [bob.user]);
        if kicked {
            let how = Move::default();
            let kick = house.rooms.kick(ada.clone(), &room, &bob.user_id, how);
            kick.await.unwrap();
        } else {
            house.leave(&bob, &room).await.unwrap();
        }
        assert_eq!(typing(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invite_join_leave() {
    let house = House::new();
    let (ada, bob, eve) = (
        house.person("ada"),
        house.person("bob"),
        house.person("eve"),
    );
    let room = house.rooms.create(ada.clone(), def()).await.unwrap();
    assert_eq!(refusal(house.join(&bob, &room).await), "Forbidden");
    assert_eq!(refusal(house.invite(&eve, &room, &bob).await), "Forbidden");
    house
        .rooms
        .invite(ada.clone(), &room, &bob.user_id, why("come"))
        .await
        .unwrap();
    assert_eq!(
        house.content(&room, "m.room.member", &bob.user_id)["reason"],
        "come"
    );
    let rooms = house.rooms.rooms_of(&house.snap(), bob.user).unwrap();
    assert_eq!(rooms.len(), 1);
    assert_eq!(rooms[0].1.membership, Membership::Invite);
    house.join(&bob, &room).await.unwrap();
    let snap = house.snap();
    assert!(
        house
            .rooms
            .stripped(&snap, bob.user, house.nid(&room))
            .unwrap()
            .is_none()
    );
    let events = house.timeline(&room).len();
    assert_eq!(house.join(&bob, &room).await.unwrap(), room);
    assert_eq!(house.timeline(&room).len(), events);
    assert_eq!(refusal(house.invite(&ada, &room, &bob).await), "Forbidden");
    assert_eq!(refusal(house.invite(&ada, &room, &ada).await), "Forbidden");
    house.leave(&bob, &room).await.unwrap();
    house.leave(&bob, &room).await.unwrap();
    assert_eq!(house.timeline(&room).len(), events + 1);
    assert_eq!(refusal(house.leave(&eve, &room).await), "Forbidden");
    house.invite(&ada, &room, &bob).await.unwrap();
    house.leave(&bob, &room).await.unwrap();
    assert_eq!(house.membership(&room, &bob), Some(Membership::Leave));
    assert_eq!(
        refusal(house.join(&bob, "!none:skerry.test").await),
        "NotFound"
    );
    let head = house
        .rooms
        .head(&house.snap(), house.nid(&room))
        .unwrap()
        .unwrap();
    assert_eq!((head.joined, head.invited), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn kick_ban_unban() {
    let house = House::new();
    let (ada, bob, eve) = (
        house.person("ada"),
        house.person("bob"),
        house.person("eve"),
    );
    let room = house.public_room(&ada).await;
    let rooms = &house.rooms;
    let room_id = &*room;
    let kick = async |who: &Who, whom: &Who| {
        rooms
            .kick(who.clone(), room_id, &whom.user_id, why("k"))
            .await
    };
    let ban = async |who: &Who, whom: &Who| {
        rooms
            .ban(who.clone(), room_id, &whom.user_id, why("b"))
            .await
    };
    let unban = async |who: &Who, whom: &Who| {
        rooms
            .unban(who.clone(), room_id, &whom.user_id, why("u"))
            .await
    };
    assert_eq!(refusal(kick(&ada, &bob).await), "Forbidden");
    house.join(&bob, &room).await.unwrap();
    house.join(&eve, &room).await.unwrap();
    assert_eq!(refusal(kick(&bob, &eve).await), "Forbidden");
    assert_eq!(refusal(ban(&bob, &ada).await), "Forbidden");
    kick(&ada, &bob).await.unwrap();
    assert_eq!(house.membership(&room, &bob), Some(Membership::Leave));
    assert_eq!(refusal(kick(&ada, &bob).await), "Forbidden");
    house.join(&bob, &room).await.unwrap();
    ban(&ada, &bob).await.unwrap();
    assert_eq!(
        house.content(&room, "m.room.member", &bob.user_id)["reason"],
        "b"
    );
    assert_eq!(refusal(house.join(&bob, &room).await), "Forbidden");
    assert_eq!(refusal(house.invite(&ada, &room, &bob).await), "Forbidden");
    assert_eq!(refusal(house.leave(&bob, &room).await), "Forbidden");
    assert_eq!(refusal(unban(&eve, &bob).await), "Forbidden");
    assert_eq!(refusal(unban(&ada, &eve).await), "BadState");
    unban(&ada, &bob).await.unwrap();
    house.join(&bob, &room).await.unwrap();
    let stranger = house.person("stranger");
    ban(&ada, &stranger).await.unwrap();
    assert_eq!(refusal(house.join(&stranger, &room).await), "Forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn knocking() {
    let house = House::new();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let room = house.rooms.create(ada.clone(), def()).await.unwrap();
    let knock = || house.rooms.knock(bob.clone(), &room, why("please"));
    assert_eq!(refusal(knock().await), "Forbidden");
    let rule = json!({ "join_rule": "knock" });
    house
        .set(&ada, &room, "m.room.join_rules", "", rule)
        .await
        .unwrap();
    knock().await.unwrap();
    let row = house
        .rooms
        .member_of(&house.snap(), bob.user, house.nid(&room))
        .unwrap()
        .unwrap();
    assert_eq!(row.membership, Membership::Knock);
    assert!(
        house
            .rooms
            .stripped(&house.snap(), bob.user, house.nid(&room))
            .unwrap()
            .is_some()
    );
    house.leave(&bob, &room).await.unwrap();
    knock().await.unwrap();
    house.invite(&ada, &room, &bob).await.unwrap();
    house.join(&bob, &room).await.unwrap();
    assert_eq!(refusal(knock().await), "Forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_rooms_vanish() {
    let house = House::new();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let room = house.public_room(&ada).await;
    house.join(&bob, &room).await.unwrap();
    let forget = || house.rooms.forget(bob.clone(), &room);
    assert_eq!(refusal(forget().await), "BadState");
    house.leave(&bob, &room).await.unwrap();
    assert_eq!(
        house.rooms.rooms_of(&house.snap(), bob.user).unwrap().len(),
        1
    );
    forget().await.unwrap();
    forget().await.unwrap();
    assert!(
        house
            .rooms
            .rooms_of(&house.snap(), bob.user)
            .unwrap()
            .is_empty()
    );
    let row = house
        .rooms
        .member(&house.snap(), house.nid(&room), bob.user)
        .unwrap()
        .unwrap();
    assert!(row.forgotten);
    house.join(&bob, &room).await.unwrap();
    assert_eq!(
        house.rooms.rooms_of(&house.snap(), bob.user).unwrap().len(),
        1
    );
    let eve = house.person("eve");
    assert_eq!(refusal(house.rooms.forget(eve, &room).await), "NotFound");
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_only_where_they_are_let_in() {
    let house = House::new();
    let ada = house.person("ada");
    let device = NewDevice::default();
    let registered = house.accounts.register_guest(device).await.unwrap();
    let user_id = registered.user_id;
    let user = house.store.user_nid(&user_id).unwrap().unwrap();
    let guest = Who {
        user_id,
        user,
        device: "G".into(),
        guest: true,
        suspended: false,
        admin: false,
        appservice: None,
    };
    let room = house.public_room(&ada).await;
    assert_eq!(refusal(house.join(&guest, &room).await), "GuestForbidden");
    let open = json!({ "guest_access": "can_join" });
    house
        .set(&ada, &room, "m.room.guest_access", "", open)
        .await
        .unwrap();
    house.join(&guest, &room).await.unwrap();
    house.say(&guest, &room, "hello", None).await.unwrap();
    let closed = json!({ "guest_access": "forbidden" });
    house
        .set(&ada, &room, "m.room.guest_access", "", closed)
        .await
        .unwrap();
    assert_eq!(house.membership(&room, &guest), Some(Membership::Leave));
    assert_eq!(house.membership(&room, &ada), Some(Membership::Join));
}

/// Profiles come into member events: on joining, and later by the job that a change leaves.
#[tokio::test(flavor = "multi_thread")]
async fn profiles_show_in_rooms() {
    let house = House::new();
    let user = house
        .accounts
        .create_user("bob", "correct horse".into(), None)
        .await
        .unwrap();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    assert_eq!(bob.user, user);
    let rooms = [house.public_room(&ada).await, house.public_room(&ada).await];
    let name = |name: &str| {
        house
            .accounts
            .set_profile_field(user, "displayname", json!(name), Propagate::All)
    };
    name("Bob").await.unwrap();
    house.rooms.run_jobs().await.unwrap();
    for room in &rooms {
        house.join(&bob, room).await.unwrap();
        assert_eq!(
            house.content(room, "m.room.member", &bob.user_id)["displayname"],
            "Bob"
        );
    }
    house.leave(&bob, &rooms[1]).await.unwrap();
    name("Robert").await.unwrap();
    let house2 = &house;
    house2.rooms.run_jobs().await.unwrap();
    let shown = |room: &str| house2.content(room, "m.room.member", &bob.user_id);
    assert_eq!(shown(&rooms[0])["displayname"], "Robert");
    assert_eq!(shown(&rooms[1])["membership"], "leave");
    let snap = house.snap();
    assert!(skerry_account::job::pending(&snap, 10).unwrap().is_empty());
    let events = house.timeline(&rooms[0]).len();
    house.rooms.run_jobs().await.unwrap();
    assert_eq!(house.timeline(&rooms[0]).len(), events);
    let own = json!({ "membership": "join", "displayname": "Bobby" });
    house
        .set(&bob, &rooms[0], "m.room.member", &bob.user_id, own)
        .await
        .unwrap();
    assert_eq!(shown(&rooms[0])["displayname"], "Bobby");
}

#[tokio::test(flavor = "multi_thread")]
async fn member_events_that_clients_write_themselves() {
    let house = House::new();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let room = house.rooms.create(ada.clone(), def()).await.unwrap();
    let set = |who: &Who, whom: &str, membership: &str| {
        let (who, whom) = (who.clone(), whom.to_owned());
        let content = json!({ "membership": membership });
        let (house, room) = (&house, room.clone());
        async move {
            house
                .set(&who, &room, "m.room.member", &whom, content)
                .await
        }
    };
    set(&ada, &bob.user_id, "invite").await.unwrap();
    let row = house
        .rooms
        .member_of(&house.snap(), bob.user, house.nid(&room))
        .unwrap()
        .unwrap();
    assert_eq!(row.membership, Membership::Invite);
    set(&bob, &bob.user_id, "join").await.unwrap();
    assert_eq!(refusal(set(&bob, &ada.user_id, "leave").await), "Forbidden");
    set(&ada, &bob.user_id, "ban").await.unwrap();
    assert_eq!(refusal(set(&ada, &bob.user_id, "dance").await), "BadJson");
    assert_eq!(refusal(set(&ada, "bob", "invite").await), "InvalidParam");
    assert_eq!(
        refusal(set(&ada, "@far:elsewhere.test", "invite").await),
        "NotFound"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_account_leaves_its_rooms() {
    let house = House::new();
    let user = house
        .accounts
        .create_user("bob", "correct horse".into(), None)
        .await
        .unwrap();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let (joined, invited) = (house.public_room(&ada).await, house.public_room(&ada).await);
    house.join(&bob, &joined).await.unwrap();
    house.invite(&ada, &invited, &bob).await.unwrap();
    house.accounts.deactivate(user, false).await.unwrap();
    house.rooms.run_jobs().await.unwrap();
    assert_eq!(house.membership(&joined, &bob), Some(Membership::Leave));
    assert_eq!(house.membership(&invited, &bob), Some(Membership::Leave));
}

/// The rules of each version are ruma's; this checks that they are asked.
#[tokio::test(flavor = "multi_thread")]
async fn two_join_while_one_bans() {
    let house = House::new();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let request = CreateRoom {
        preset: Some(Preset::PublicChat),
        ..def()
    };
    let room = house.rooms.create(ada.clone(), request).await.unwrap();
    for _ in 0..10 {
        let (banned, joined) = tokio::join!(
            house
                .rooms
                .ban(ada.clone(), &room, &bob.user_id, Move::default()),
            house.join(&bob, &room),
        );
        banned.unwrap();
        if let Err(error) = joined {
            assert!(matches!(error, RoomError::Forbidden(_)), "{error:?}");
        }
        assert_eq!(house.membership(&room, &bob), Some(Membership::Ban));
        house
            .rooms
            .unban(ada.clone(), &room, &bob.user_id, Move::default())
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_no_invites_gets_none() {
    let house = House::new();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let room = house.rooms.create(ada.clone(), def()).await.unwrap();
    let config = |content| {
        let kind = "m.invite_permission_config";
        house
            .accounts
            .set_account_data(bob.user, None, kind, content)
    };
    config(json!({ "default_action": "block" })).await.unwrap();
    assert_eq!(
        refusal(house.invite(&ada, &room, &bob).await),
        "InviteBlocked"
    );
    let member = json!({ "membership": "invite" });
    let set = house
        .set(&ada, &room, "m.room.member", &bob.user_id, member)
        .await;
    assert_eq!(refusal(set), "InviteBlocked");
    config(json!({})).await.unwrap();
    house.invite(&ada, &room, &bob).await.unwrap();
}

#[tokio::test]
async fn a_stranger_does_not_learn_who_is_in_a_room() {
    let house = House::new();
    let [ada, bob, eve] = ["ada", "bob", "eve"].map(|name| house.person(name));
    let room = house.rooms.create(ada.clone(), def()).await.unwrap();
    let mut told = Vec::new();
    for whom in [&ada, &bob] {
        let how = Move::default();
        let kicked = house.rooms.kick(eve.clone(), &room, &whom.user_id, how);
        told.push(kicked.await.unwrap_err().to_string());
    }
    assert_eq!(told[0], told[1]);
}

#[tokio::test]
async fn guests_do_not_knock() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.rooms.create(ada.clone(), def()).await.unwrap();
    let rule = json!({ "join_rule": "knock" });
    house
        .set(&ada, &room, "m.room.join_rules", "", rule)
        .await
        .unwrap();
    let mut guest = house.person("guest");
    guest.guest = true;
    let how = Move::default();
    let knocked = house.rooms.knock(guest.clone(), &room, how.clone()).await;
    assert_eq!(refusal(knocked), "GuestForbidden");
    guest.guest = false;
    house.rooms.knock(guest, &room, how).await.unwrap();
}
