//! Going into rooms of another server, and staying out.

use serde_json::{Value, json};
use skerry_core::{Membership, RoomVersion};
use skerry_room::{Move, RoomError};

use super::far::{FAR, Far, Fault};
use super::us::Us;
use crate::federation::FederationError;

async fn join(us: &Us, room: &str) -> Result<String, FederationError> {
    let via = vec![FAR.to_owned()];
    us.federation
        .join(us.bob(), room, via, Move::default())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_joined_with_all_its_state_in_every_format() {
    for version in [
        RoomVersion::V1,
        RoomVersion::V3,
        RoomVersion::V10,
        RoomVersion::V12,
    ] {
        let far = Far::open(version);
        far.add("cat:far.example join");
        far.chat(0, 3);
        let us = Us::with(&far);
        let room = far.room_id();
        assert_eq!(join(&us, &room).await.unwrap(), room, "version {version}");
        assert_eq!(
            us.membership(&room, &us.bob().user_id),
            Some(Membership::Join)
        );
        for who in ["@ann:far.example", "@cat:far.example"] {
            assert_eq!(us.membership(&room, who), Some(Membership::Join), "{who}");
        }
        let given = far.given.lock().clone();
        assert_eq!(given.len(), 1);
        assert_eq!(given[0]["content"]["membership"], "join");
        // The second join asks nobody.
        join(&us, &room).await.unwrap();
        assert_eq!(far.count("send_join"), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_join_at_once_ask_once() {
    let far = Far::open(RoomVersion::V11);
    let us = Us::with(&far);
    let room = far.room_id();
    let via = || vec![FAR.to_owned()];
    let carl = us.person("carl");
    let (one, two) = tokio::join!(
        us.federation.join(us.bob(), &room, via(), Move::default()),
        us.federation
            .join(carl.clone(), &room, via(), Move::default()),
    );
    one.unwrap();
    two.unwrap();
    assert_eq!(far.count("send_join"), 1, "the second finds the room here");
    assert_eq!(us.membership(&room, &carl.user_id), Some(Membership::Join));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_help_is_passed_over_and_the_best_reason_is_told() {
    let far = Far::open(RoomVersion::V11);
    let us = Us::with(&far);
    let room = far.room_id();
    let via = vec!["gone.example".to_owned(), FAR.to_owned()];
    let joined = us.federation.join(us.bob(), &room, via, Move::default());
    joined.await.unwrap();

    let far = Far::open(RoomVersion::V11);
    far.fault("make_join", Fault::Refusal(403, "M_FORBIDDEN"));
    let us = Us::with(&far);
    let (via, room) = (
        vec!["gone.example".to_owned(), FAR.to_owned()],
        far.room_id(),
    );
    let joined = us.federation.join(us.bob(), &room, via, Move::default());
    let refused = joined.await;
    assert!(
        matches!(refused, Err(FederationError::Refused { status: 403, .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_of_nobody_we_know_is_unknown() {
    let far = Far::open(RoomVersion::V12);
    let (us, room) = (Us::with(&far), far.room_id());
    let joined = us
        .federation
        .join(us.bob(), &room, Vec::new(), Move::default());
    assert!(matches!(joined.await, Err(FederationError::Nobody(_))));
    assert!(far.asked.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_state_of_the_room_joins_nothing() {
    let answers: Vec<(&str, Value)> = vec![
        ("nothing", json!({})),
        ("no lists", json!({ "state": {}, "auth_chain": [] })),
        ("no room", json!({ "state": [], "auth_chain": [] })),
        (
            "nonsense",
            json!({ "state": [1, "x", {}], "auth_chain": [[]] }),
        ),
        ("no object", json!([200, { "state": [], "auth_chain": [] }])),
    ];
    for (name, answer) in answers {
        let far = Far::open(RoomVersion::V11);
        far.fault("send_join", Fault::Instead(answer));
        let us = Us::with(&far);
        let joined = join(&us, &far.room_id()).await;
        assert!(joined.is_err(), "{name}: {joined:?}");
        assert_eq!(
            us.membership(&far.room_id(), &us.bob().user_id),
            None,
            "{name}"
        );
        far.heal();
        join(&us, &far.room_id()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_nobody_signed_joins_nothing() {
    let far = Far::open(RoomVersion::V11);
    far.fault("send_join", Fault::Forged);
    let us = Us::with(&far);
    assert!(join(&us, &far.room_id()).await.is_err());
    assert_eq!(us.membership(&far.room_id(), &us.bob().user_id), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_we_do_not_have_is_said_so() {
    let far = Far::open(RoomVersion::V11);
    let answer = json!({ "room_version": "org.example.new", "event": {} });
    far.fault("make_join", Fault::Instead(answer));
    let us = Us::with(&far);
    let joined = join(&us, &far.room_id()).await;
    assert!(
        matches!(
            joined,
            Err(FederationError::Room(RoomError::UnsupportedVersion(_)))
        ),
        "{joined:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_and_huge_templates_go_nowhere() {
    let far = Far::open(RoomVersion::V11);
    let us = Us::with(&far);
    let mut guest = us.person("guest");
    guest.guest = true;
    let (via, room) = (vec![FAR.to_owned()], far.room_id());
    let joined = us.federation.join(guest, &room, via, Move::default());
    assert!(matches!(
        joined.await,
        Err(FederationError::Room(RoomError::GuestForbidden(_)))
    ));
    far.fault("make_join", Fault::Huge(4 << 20));
    assert!(join(&us, &far.room_id()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_knock_is_made_and_taken_back() {
    let far = Far::open(RoomVersion::V11);
    far.add("ann:far.example rules knock");
    let us = Us::with(&far);
    let room = far.room_id();
    let via = vec![FAR.to_owned()];
    let knocked = us.federation.knock(us.bob(), &room, via, Move::default());
    assert_eq!(knocked.await.unwrap(), room);
    assert_eq!(us.standing(&room), Some(Membership::Knock));
    us.federation
        .leave(us.bob(), &room, Move::default())
        .await
        .unwrap();
    assert_eq!(us.standing(&room), Some(Membership::Leave));
    let given = far.given.lock().clone();
    let memberships: Vec<&Value> = given.iter().map(|e| &e["content"]["membership"]).collect();
    assert_eq!(memberships, ["knock", "leave"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_can_go_although_the_other_server_is_gone() {
    let far = Far::open(RoomVersion::V11);
    far.add("ann:far.example rules knock");
    let us = Us::with(&far);
    let room = far.room_id();
    let via = vec![FAR.to_owned()];
    let knocked = us.federation.knock(us.bob(), &room, via, Move::default());
    knocked.await.unwrap();
    far.fault("make_leave", Fault::Refusal(500, "M_UNKNOWN"));
    us.federation
        .leave(us.bob(), &room, Move::default())
        .await
        .unwrap();
    assert_eq!(us.standing(&room), Some(Membership::Leave));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_counts_when_the_other_server_has_signed_it() {
    let far = Far::open(RoomVersion::V11);
    let us = Us::with(&far);
    let room = us.own_room().await;
    let zoe = "@zoe:far.example";
    far.fault("invite", Fault::Refusal(403, "M_INVITE_BLOCKED"));
    let invite = || us.federation.invite(us.bob(), &room, zoe, Move::default());
    let refused = invite().await;
    assert!(
        matches!(&refused, Err(FederationError::Refused { errcode, .. })
            if errcode == "M_INVITE_BLOCKED"),
        "{refused:?}"
    );
    assert_eq!(us.membership(&room, zoe), None);
    for nonsense in [json!({}), json!({ "event": { "type": "m.room.member" } })] {
        far.fault("invite", Fault::Instead(nonsense));
        assert!(invite().await.is_err());
        assert_eq!(us.membership(&room, zoe), None);
    }
    far.heal();
    invite().await.unwrap();
    assert_eq!(us.membership(&room, zoe), Some(Membership::Invite));
    let id = us.state_id(&room, "m.room.member", zoe).unwrap();
    let event = us.event(&id).unwrap();
    assert!(
        event.json().contains("\"far.example\":{\"ed25519:"),
        "{event:?}"
    );
}
