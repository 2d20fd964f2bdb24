//! Coming into rooms of another server, talking there, leaving, and coming back.

use serde_json::json;
use skerry_core::{Membership, Pos, RoomVersion};
use skerry_room::{Arrival, CreateRoom, Cut, Preset, Verdict, Who};

use super::pair::{ask_in, bring, carry, join, prepare, state, wire};
use crate::house::{House, def, refusal};

struct Scene {
    a: House,
    b: House,
    ada: Who,
    bob: Who,
    room: String,
}

impl Scene {
    async fn of(version: RoomVersion) -> Scene {
        let (a, b) = (House::of("a.test"), House::of("b.test"));
        let (ada, bob) = (a.person("ada"), b.resident("bob"));
        let request = CreateRoom {
            version: Some(version.to_string()),
            preset: Some(Preset::PublicChat),
            name: Some("Attic".into()),
            ..def()
        };
        let room = a.rooms.create(ada.clone(), request).await.unwrap();
        a.say(&ada, &room, "before", None).await.unwrap();
        Scene {
            a,
            b,
            ada,
            bob,
            room,
        }
    }

    async fn new() -> Scene {
        Scene::of(RoomVersion::DEFAULT).await
    }

    /// Both servers see the same room.
    fn agree(&self) {
        assert_eq!(state(&self.a, &self.room), state(&self.b, &self.room));
        let head = |house: &House| {
            let head = house.rooms.head(&house.snap(), house.nid(&self.room));
            let head = head.unwrap().unwrap();
            (head.joined, head.invited)
        };
        assert_eq!(head(&self.a), head(&self.b));
        let ends = |house: &House| {
            let ends = house
                .rooms
                .extremities(&house.snap(), house.nid(&self.room));
            ends.unwrap().ids
        };
        assert_eq!(ends(&self.a), ends(&self.b));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_joined_and_both_talk() {
    for version in RoomVersion::all() {
        let scene = Scene::of(version).await;
        let (a, b, room) = (&scene.a, &scene.b, &*scene.room);
        let old = a.snap().head();
        assert!(join(b, a, &scene.bob, room).await.unwrap(), "{version}");
        scene.agree();
        assert_eq!(b.membership(room, &scene.bob), Some(Membership::Join));
        let ada = b.store.user_nid(&scene.ada.user_id).unwrap().unwrap();
        assert!(b.rooms.is_joined(&b.snap(), b.nid(room), ada).unwrap());
        let head = b.rooms.head(&b.snap(), b.nid(room)).unwrap().unwrap();
        assert_eq!((head.joined, head.remote), (2, 1));
        let servers = b.rooms.servers_in(&b.snap(), b.nid(room)).unwrap();
        assert_eq!(servers.len(), 1);
        // The server that took the join tells the others; this one does not once more.
        assert!(
            b.rooms
                .outgoing(&b.snap(), Pos::ZERO, 10)
                .unwrap()
                .is_empty()
        );
        assert_eq!(a.rooms.outgoing(&a.snap(), old, 10).unwrap().len(), 1);
        let hole = b.rooms.holes(&b.snap(), b.nid(room), Cut::END, 10).unwrap();
        assert_eq!(hole.len(), 1, "{version}");

        let there = a.snap().head();
        b.say(&scene.bob, room, "hello", None).await.unwrap();
        let (_, told) = carry(b, a, Pos::ZERO).await;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].1, Verdict::Accepted, "{version}");
        a.say(&scene.ada, room, "hello yourself", None)
            .await
            .unwrap();
        a.set(
            &scene.ada,
            room,
            "m.room.topic",
            "",
            json!({ "topic": "x" }),
        )
        .await
        .unwrap();
        let (_, told) = carry(a, b, there).await;
        assert!(
            told.iter()
                .all(|(_, verdict)| *verdict == Verdict::Accepted),
            "{told:?}"
        );
        assert_eq!(told.len(), 2);
        scene.agree();
        assert_eq!(b.timeline(room).len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joined_room_is_there_after_a_restart_and_orphans_are_not() {
    let scene = Scene::new().await;
    join(&scene.b, &scene.a, &scene.bob, &scene.room)
        .await
        .unwrap();
    let other = scene.a.public_room(&scene.ada).await;
    let entry = prepare(&scene.b, &scene.a, &scene.bob, &other)
        .await
        .unwrap();
    let b = scene.b.restart();
    assert_eq!(state(&scene.a, &scene.room), state(&b, &scene.room));
    for id in &entry.state {
        assert!(b.rooms.event_by_id(&b.snap(), id).unwrap().is_none());
    }
    // What was swept is not there to rest on.
    let late = b.rooms.enter(scene.bob.clone(), entry).await;
    assert_eq!(refusal(late), "InvalidParam");
    assert!(
        b.rooms
            .room_row(&b.snap(), b.nid(&other))
            .unwrap()
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_make_a_room_is_refused() {
    let scene = Scene::new().await;
    let (a, b) = (&scene.a, &scene.b);
    let entry = prepare(b, a, &scene.bob, &scene.room).await.unwrap();
    let eve = b.person("eve");
    let try_it = async |who: &Who, change: &dyn Fn(&mut skerry_room::Entry)| {
        let mut entry = entry.clone();
        change(&mut entry);
        refusal(b.rooms.enter(who.clone(), entry).await)
    };
    let bob = &scene.bob;
    assert_eq!(try_it(&eve, &|_| {}).await, "InvalidParam");
    assert_eq!(
        try_it(bob, &|entry| entry.state.push("$no".into())).await,
        "InvalidParam"
    );
    assert_eq!(
        try_it(bob, &|entry| entry.state.clear()).await,
        "InvalidParam"
    );
    let twice = |entry: &mut skerry_room::Entry| entry.state.push(entry.state[0].clone());
    assert_eq!(try_it(bob, &twice).await, "InvalidParam");
    let version = |entry: &mut skerry_room::Entry| entry.version = RoomVersion::V11;
    assert_eq!(try_it(bob, &version).await, "InvalidParam");
    // Without the rules that open it, the room is closed.
    let rules = a.state(&scene.room, "m.room.join_rules", "").unwrap();
    let closed = |entry: &mut skerry_room::Entry| {
        entry.state.retain(|id| id != rules.event.event_id());
    };
    assert_eq!(try_it(bob, &closed).await, "Forbidden");
    assert!(
        b.rooms
            .room_row(&b.snap(), b.nid(&scene.room))
            .unwrap()
            .is_none()
    );
    assert!(b.rooms.enter(bob.clone(), entry.clone()).await.unwrap());
    // A second user comes in by the room that is here now.
    assert!(!b.rooms.enter(bob.clone(), entry).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_a_handshake_is_not_taken() {
    let scene = Scene::new().await;
    let (a, b) = (&scene.a, &scene.b);
    let entered = ask_in(b, a, &scene.bob, &scene.room, Membership::Join)
        .await
        .unwrap();
    let event = wire(&entered.event);
    // The same again has the same answer.
    let take = |origin: &'static str, to| {
        a.rooms
            .take_member(origin, &scene.room, event.clone(), to, false)
    };
    let again = take("b.test", Membership::Join).await.unwrap();
    assert_eq!(again.state, entered.state);
    assert_eq!(
        refusal(take("c.test", Membership::Join).await),
        "InvalidParam"
    );
    assert_eq!(
        refusal(take("b.test", Membership::Leave).await),
        "InvalidParam"
    );
    let other = a.public_room(&scene.ada).await;
    let wrong = a
        .rooms
        .take_member("b.test", &other, event.clone(), Membership::Join, false);
    assert_eq!(refusal(wrong.await), "InvalidParam");
    let acl = json!({ "allow": ["*"], "deny": ["b.test"] });
    a.set(&scene.ada, &scene.room, "m.room.server_acl", "", acl)
        .await
        .unwrap();
    assert_eq!(refusal(take("b.test", Membership::Join).await), "Forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_left_hears_no_more_and_may_come_back() {
    let scene = Scene::new().await;
    let (a, b, room) = (&scene.a, &scene.b, &*scene.room);
    join(b, a, &scene.bob, room).await.unwrap();
    b.say(&scene.bob, room, "bye", None).await.unwrap();
    b.leave(&scene.bob, room).await.unwrap();
    let (_, told) = carry(b, a, Pos::ZERO).await;
    assert_eq!(told.len(), 2);
    scene.agree();
    let there = a.snap().head();
    a.say(&scene.ada, room, "gone", None).await.unwrap();
    a.set(
        &scene.ada,
        room,
        "m.room.name",
        "",
        json!({ "name": "Cellar" }),
    )
    .await
    .unwrap();
    let held = a.rooms.extremities(&a.snap(), a.nid(room)).unwrap().ids;
    let last = wire(&a.event(&held[0]).event);
    let late = b
        .rooms
        .receive(room, last, Arrival::default())
        .await
        .unwrap();
    assert_eq!(late, Verdict::NotHere);
    // The room goes on elsewhere: nothing is added to what is here of it.
    assert_eq!(refusal(b.join(&scene.bob, room).await), "NotFound");
    assert!(join(b, a, &scene.bob, room).await.unwrap());
    scene.agree();
    assert_eq!(b.content(room, "m.room.name", "")["name"], "Cellar");
    let holes = b.rooms.holes(&b.snap(), b.nid(room), Cut::END, 10).unwrap();
    assert_eq!(holes.len(), 2);
    let (_, told) = carry(a, b, there).await;
    // What was missed belongs into the hole; it is not at the end of the room.
    assert!(!told.is_empty());
    b.say(&scene.bob, room, "back", None).await.unwrap();
    let after = b.snap();
    let ends = b.rooms.extremities(&after, b.nid(room)).unwrap();
    assert_eq!(ends.ids.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_join_bears_the_signature_of_who_vouches() {
    let (a, b) = (House::of("a.test"), House::of("b.test"));
    let (ada, bob, eve) = (a.person("ada"), b.person("bob"), b.person("eve"));
    let space = a.public_room(&ada).await;
    join(&b, &a, &bob, &space).await.unwrap();
    for version in RoomVersion::all().filter(|version| version.has_restricted()) {
        let request = CreateRoom {
            version: Some(version.to_string()),
            ..def()
        };
        let room = a.rooms.create(ada.clone(), request).await.unwrap();
        let allow = json!([{ "type": "m.room_membership", "room_id": space }]);
        let rule = json!({ "join_rule": "restricted", "allow": allow });
        a.set(&ada, &room, "m.room.join_rules", "", rule)
            .await
            .unwrap();
        let refused = ask_in(&b, &a, &eve, &room, Membership::Join).await;
        assert_eq!(refusal(refused), "Forbidden");
        let entry = prepare(&b, &a, &bob, &room).await.unwrap();
        let object = entry.event.object().unwrap();
        let signatures = object.object("signatures").unwrap();
        assert!(signatures.get("a.test").is_some() && signatures.get("b.test").is_some());
        assert!(
            b.rooms.enter(bob.clone(), entry).await.unwrap(),
            "{version}"
        );
        assert_eq!(state(&a, &room), state(&b, &room));
        // Once in, bob does not have to meet the condition again; eve still does.
        let refused = ask_in(&b, &a, &eve, &room, Membership::Join).await;
        assert_eq!(refusal(refused), "Forbidden");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_knock_an_invite_and_a_join_go_through() {
    let (a, b) = (House::of("a.test"), House::of("b.test"));
    let (ada, bob) = (a.person("ada"), b.resident("bob"));
    let room = a.rooms.create(ada.clone(), def()).await.unwrap();
    let rule = json!({ "join_rule": "knock" });
    a.set(&ada, &room, "m.room.join_rules", "", rule)
        .await
        .unwrap();
    let entered = ask_in(&b, &a, &bob, &room, Membership::Knock)
        .await
        .unwrap();
    let shown = |pdus: &[String]| -> Vec<_> {
        let read = |pdu: &String| {
            let mode = skerry_core::canonical::Mode::Lenient;
            skerry_core::canonical::Object::parse(pdu.as_bytes(), mode).unwrap()
        };
        pdus.iter().map(read).collect()
    };
    let (event, told) = (wire(&entered.event), shown(&entered.stripped));
    b.rooms
        .knocked(bob.clone(), &room, event, told)
        .await
        .unwrap();
    let is = || {
        let rooms = b.rooms.rooms_of(&b.snap(), bob.user).unwrap();
        rooms.first().map(|(_, of)| of.membership)
    };
    assert_eq!(is(), Some(Membership::Knock));
    let there = a.person("bob");
    let there = skerry_room::Who {
        user: a.store.user_nid(&bob.user_id).unwrap().unwrap(),
        ..there
    };
    assert_eq!(a.membership(&room, &there), Some(Membership::Knock));

    let how = skerry_room::Move::default();
    let draft = a
        .rooms
        .draft_invite(ada.clone(), &room, &bob.user_id, how)
        .await
        .unwrap();
    let invite = wire(&draft.event);
    let signed = b
        .rooms
        .take_invite("a.test", invite, shown(&draft.stripped))
        .await
        .unwrap();
    assert_eq!(is(), Some(Membership::Invite));
    let arrival = Arrival {
        send_on: true,
        ..Arrival::default()
    };
    let placed = a
        .rooms
        .receive(&room, wire(&signed), arrival)
        .await
        .unwrap();
    assert_eq!(placed, Verdict::Accepted);
    assert_eq!(a.membership(&room, &there), Some(Membership::Invite));
    assert!(join(&b, &a, &bob, &room).await.unwrap());
    assert_eq!(is(), Some(Membership::Join));
    assert_eq!(state(&a, &room), state(&b, &room));
    let nid = b.nid(&room);
    assert!(
        b.rooms
            .stripped(&b.snap(), bob.user, nid)
            .unwrap()
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_is_declined_through_the_other_server() {
    let (a, b) = (House::of("a.test"), House::of("b.test"));
    let (ada, bob) = (a.person("ada"), b.resident("bob"));
    let room = a.rooms.create(ada.clone(), def()).await.unwrap();
    let how = skerry_room::Move::default();
    let draft = a
        .rooms
        .draft_invite(ada.clone(), &room, &bob.user_id, how)
        .await
        .unwrap();
    let shown = draft.stripped.iter().map(|pdu| {
        let mode = skerry_core::canonical::Mode::Lenient;
        skerry_core::canonical::Object::parse(pdu.as_bytes(), mode).unwrap()
    });
    let taken = b
        .rooms
        .take_invite("a.test", wire(&draft.event), shown.collect());
    let signed = taken.await.unwrap();
    let arrival = Arrival {
        send_on: true,
        ..Arrival::default()
    };
    a.rooms
        .receive(&room, wire(&signed), arrival)
        .await
        .unwrap();
    let entered = ask_in(&b, &a, &bob, &room, Membership::Leave)
        .await
        .unwrap();
    assert!(entered.state.is_empty());
    let left = b
        .rooms
        .left_elsewhere(bob.clone(), &room, Some(wire(&entered.event)), None);
    left.await.unwrap();
    let rooms = b.rooms.rooms_of(&b.snap(), bob.user).unwrap();
    assert_eq!(rooms[0].1.membership, Membership::Leave);
    let head = a.rooms.head(&a.snap(), a.nid(&room)).unwrap().unwrap();
    assert_eq!((head.joined, head.invited), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unnamed_room_without_members_still_shows_who_is_there() {
    let (a, b) = (House::of("a.test"), House::of("b.test"));
    let (ada, bob) = (a.person("ada"), b.person("bob"));
    let room = a.public_room(&ada).await;
    for n in 0..20 {
        a.join(&a.person(&format!("p{n}")), &room).await.unwrap();
    }
    let entered = ask_in(&b, &a, &bob, &room, Membership::Join).await.unwrap();
    let take = a.rooms.take_member(
        "b.test",
        &room,
        entered.event.clone(),
        Membership::Join,
        true,
    );
    let omitted = take.await.unwrap();
    assert!(omitted.members_omitted && !entered.members_omitted);
    assert_eq!(entered.servers.len(), 1);
    assert!(omitted.state.len() < entered.state.len());
    let told: std::collections::HashSet<_> = omitted.state.iter().collect();
    assert!(omitted.auth_chain.iter().all(|nid| !told.contains(nid)));
    let members = a.rooms.events(&a.snap(), &omitted.state).unwrap();
    let members = members.iter().flatten();
    let members = members.filter(|held| held.event.event_type() == "m.room.member");
    assert!((5..=6).contains(&members.count()));
    // All that is given can be judged by what is given.
    let all: Vec<_> = omitted
        .auth_chain
        .iter()
        .chain(&omitted.state)
        .copied()
        .collect();
    bring(&a, &b, &room, &all).await;
}
