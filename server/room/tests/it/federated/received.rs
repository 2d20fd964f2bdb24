//! Events of other servers.

use serde_json::json;
use skerry_core::fixtures::RoomFixture;
use skerry_core::{Membership, Pos};
use skerry_room::{Cut, EventMeta, Gap, Missing, Verdict, Viewer, Who};

use crate::abroad::{Abroad, text};
use crate::house::House;

const BOB: &str = "@bob:other.org";
const EVE: &str = "@eve:evil.org";

fn viewer(who: &Who) -> Viewer {
    Viewer {
        user: who.user,
        user_id: who.user_id.clone(),
        device: who.device.clone(),
    }
}

fn shown(house: &House, who: &Who, room: &str, event_id: &str) -> bool {
    let (snap, viewer) = (house.snap(), viewer(who));
    house
        .rooms
        .event_json(&snap, &viewer, room, event_id)
        .is_ok()
}

fn flags(house: &House, event_id: &str) -> u8 {
    let snap = house.snap();
    let nid = house.store.event_nid(&snap, event_id).unwrap().unwrap();
    house.rooms.meta(&snap, nid).unwrap().unwrap().flags
}

fn is(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted => "accepted",
        Verdict::SoftFailed(_) => "soft-failed",
        Verdict::Rejected(_) => "rejected",
        Verdict::Known => "known",
        Verdict::Missing(_) => "missing",
        Verdict::NotHere => "not here",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_of_another_server_comes_and_speaks() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let abroad = Abroad::new(&house, &room);
    assert_eq!(
        house.rooms.outgoing(&house.snap(), Pos::ZERO, 9).unwrap(),
        []
    );
    abroad.join(BOB).await;
    let (hello, verdict) = abroad.say(BOB, text("hello")).await;
    assert_eq!(verdict, Verdict::Accepted);
    let event = abroad.event(&hello);
    assert_eq!(abroad.give(&event).await, Verdict::Known);
    let nid = house.nid(&room);
    let head = house.rooms.head(&house.snap(), nid).unwrap().unwrap();
    assert_eq!((head.joined, head.remote), (2, 1));
    let servers = house.rooms.servers_in(&house.snap(), nid).unwrap();
    assert_eq!(
        servers.iter().map(|s| &**s).collect::<Vec<_>>(),
        ["other.org"]
    );
    assert!(shown(&house, &ada, &room, &hello));
    // What is said here goes out; what came from there does not.
    let said = house.say(&ada, &room, "welcome", None).await.unwrap();
    let out = house.rooms.outgoing(&house.snap(), Pos::ZERO, 9).unwrap();
    let sent: Vec<_> = out
        .iter()
        .map(|(_, pdu)| house.store.event_id(pdu.event).unwrap())
        .collect();
    assert_eq!(
        sent.iter().map(|s| &**s).collect::<Vec<_>>(),
        [said.as_str()]
    );
    let json = house.rooms.pdu_json(&house.snap(), out[0].1.event).unwrap();
    assert_eq!(json.as_deref(), Some(house.event(&said).event.json()));
    // Who comes later was not there when it was said, and who was there is still.
    let said_at = out[0].0;
    let later = || {
        let later = house.rooms.servers_after(&house.snap(), nid, said_at);
        let mut later: Vec<_> = later.unwrap().into_keys().collect();
        later.sort_unstable();
        later
    };
    assert_eq!(later(), []);
    abroad.join("@carl:other.org").await;
    abroad.join(EVE).await;
    let evil = house.store.intern_server("evil.org").unwrap();
    assert_eq!(later(), [evil]);
    for user in ["@carl:other.org", EVE] {
        let leave = ("m.room.member", Some(user), json!({"membership": "leave"}));
        let (_, verdict) = abroad.say(user, leave).await;
        assert_eq!(verdict, Verdict::Accepted);
    }
    assert_eq!(later(), []);
    house.rooms.trim_outgoing(out[0].0).unwrap();
    let newest = house.store.newest();
    assert_eq!(house.rooms.outgoing(&newest, Pos::ZERO, 9).unwrap(), []);
    // A kick is told to the server it concerns, although nobody of it is left.
    let kick = json!({"membership": "leave"});
    house
        .set(&ada, &room, "m.room.member", BOB, kick)
        .await
        .unwrap();
    let out = house.rooms.outgoing(&house.snap(), Pos::ZERO, 9).unwrap();
    let also = out[0].1.also.clone();
    assert_eq!(also, [house.store.intern_server("other.org").unwrap()]);
    let head = house.rooms.head(&house.snap(), nid).unwrap().unwrap();
    assert_eq!((head.joined, head.remote), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redaction_is_shown_once_it_has_taken_effect() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let other = house.public_room(&ada).await;
    let abroad = Abroad::new(&house, &room);
    abroad.join(BOB).await;
    let of_ada = house.say(&ada, &room, "mine", None).await.unwrap();
    let elsewhere = house.say(&ada, &other, "elsewhere", None).await.unwrap();
    let (of_bob, _) = abroad.say(BOB, text("his")).await;
    for target in [&*of_ada, &*elsewhere, "$unknown"] {
        let redaction = ("m.room.redaction", None, json!({ "redacts": target }));
        let (redaction, verdict) = abroad.say(BOB, redaction).await;
        assert_eq!(verdict, Verdict::Accepted, "{target}");
        assert!(!shown(&house, &ada, &room, &redaction), "{target}");
    }
    let redaction = ("m.room.redaction", None, json!({ "redacts": of_bob }));
    let (redaction, _) = abroad.say(BOB, redaction).await;
    assert!(shown(&house, &ada, &room, &redaction));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let abroad = Abroad::new(&house, &room);
    let join = ("m.room.member", Some(BOB), json!({"membership": "join"}));
    let join = abroad.make(BOB, join, &abroad.ends());
    let hello = abroad.make(BOB, text("hello"), &[join.event_id().to_owned()]);
    let missing = Missing {
        prev: vec![join.event_id().to_owned()],
        auth: vec![join.event_id().to_owned()],
    };
    assert_eq!(abroad.give(&hello).await, Verdict::Missing(missing));
    assert_eq!(
        house
            .rooms
            .lacks(&house.snap(), &[join.event_id().to_owned()])
            .unwrap(),
        [join.event_id()]
    );
    // An auth event that is only kept is enough for what it allows, not for what comes after it.
    assert_eq!(abroad.keep(vec![join.clone()]).await, [""; 0]);
    let missing = Missing {
        prev: vec![join.event_id().to_owned()],
        auth: vec![],
    };
    assert_eq!(abroad.give(&hello).await, Verdict::Missing(missing));
    assert!(!shown(&house, &ada, &room, join.event_id()));
    let last = house.timeline(&room);
    assert_eq!(last.last().unwrap(), "m.room.history_visibility");
    // It comes by the timeline after all, keeps its number, and is shown.
    let nid = house
        .store
        .event_nid(&house.snap(), join.event_id())
        .unwrap();
    assert_eq!(abroad.give(&join).await, Verdict::Accepted);
    assert_eq!(
        house
            .store
            .event_nid(&house.snap(), join.event_id())
            .unwrap(),
        nid
    );
    assert_eq!(abroad.give(&hello).await, Verdict::Accepted);
    assert!(shown(&house, &ada, &room, join.event_id()));
    assert!(shown(&house, &ada, &room, hello.event_id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn continuwuity_26_7_2_rooms_without_local_members_are_left_alone() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let abroad = Abroad::new(&house, &room);
    abroad.join(BOB).await;
    house.leave(&ada, &room).await.unwrap();
    let (_, verdict) = abroad.say(BOB, text("anybody?")).await;
    assert_eq!(verdict, Verdict::NotHere);
    let event = abroad.make(BOB, text("hm"), &abroad.ends());
    let elsewhere = house
        .rooms
        .receive("!nowhere:other.org", event, Default::default());
    assert_eq!(elsewhere.await.unwrap(), Verdict::NotHere);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_rules_refuse_is_kept_and_never_shown() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let abroad = Abroad::new(&house, &room);
    abroad.join(BOB).await;
    let before = abroad.ends();
    let (alien, verdict) = abroad.say(EVE, text("let me in")).await;
    assert_eq!(is(&verdict), "rejected");
    assert_eq!(flags(&house, &alien), EventMeta::REJECTED);
    assert!(!shown(&house, &ada, &room, &alien));
    assert_eq!(abroad.ends(), before);
    // Bob may not set power levels; what he sets changes nothing, also for who comes after it.
    let levels = (
        "m.room.power_levels",
        Some(""),
        json!({"users": {BOB: 100}}),
    );
    let (coup, verdict) = abroad.say(BOB, levels).await;
    assert_eq!(is(&verdict), "rejected");
    let after = abroad.make_by(
        BOB,
        ("m.room.topic", Some(""), json!({"topic": "mine"})),
        std::slice::from_ref(&coup),
        &Default::default(),
    );
    assert_eq!(is(&abroad.give(&after).await), "rejected");
    let hello = abroad.make(BOB, text("hello"), &before);
    assert_eq!(abroad.give(&hello).await, Verdict::Accepted);
    let house = house.restart();
    assert!(!shown(&house, &ada, &room, &coup));
    assert_eq!(house.content(&room, "m.room.topic", ""), json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_banned_says_nothing_more_from_before_it() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let abroad = Abroad::new(&house, &room);
    abroad.join(EVE).await;
    let before = abroad.ends();
    let ban = json!({"membership": "ban"});
    house
        .set(&ada, &room, "m.room.member", EVE, ban)
        .await
        .unwrap();
    let banned = abroad.ends();
    let late = abroad.make(EVE, text("from before"), &before);
    assert_eq!(is(&abroad.give(&late).await), "soft-failed");
    assert_eq!(flags(&house, late.event_id()), EventMeta::SOFT_FAILED);
    assert!(!shown(&house, &ada, &room, late.event_id()));
    assert_eq!(abroad.ends(), banned);
    // Somebody else builds on it: what they say is shown, and it is not.
    abroad.join(BOB).await;
    let ends = [abroad.ends(), vec![late.event_id().to_owned()]].concat();
    let over = abroad.make(BOB, text("over it"), &ends);
    assert_eq!(abroad.give(&over).await, Verdict::Accepted);
    assert_eq!(abroad.ends(), [over.event_id()]);
    assert!(shown(&house, &ada, &room, over.event_id()));
    assert!(!shown(&house, &ada, &room, late.event_id()));
    let eve = house.store.intern_user(EVE).unwrap();
    let member = house
        .rooms
        .member(&house.snap(), house.nid(&room), eve)
        .unwrap();
    assert_eq!(member.unwrap().membership, Membership::Ban);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_goes_on_from_all_its_ends() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let abroad = Abroad::new(&house, &room);
    abroad.join(BOB).await;
    let base = abroad.ends();
    let events: Vec<_> = (0..3)
        .map(|n| abroad.make(BOB, text(&format!("{n}")), &base))
        .collect();
    for event in &events {
        assert_eq!(abroad.give(event).await, Verdict::Accepted);
    }
    let mut ends = abroad.ends();
    ends.sort();
    let mut given: Vec<_> = events.iter().map(|e| e.event_id().to_owned()).collect();
    given.sort();
    assert_eq!(ends, given);
    let house = house.restart();
    let said = house.say(&ada, &room, "together", None).await.unwrap();
    let mut prev = house.event(&said).event.prev_events();
    prev.sort();
    assert_eq!(prev, given);
    let abroad = Abroad::new(&house, &room);
    assert_eq!(abroad.ends(), [said]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_ends_are_brought_together() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let abroad = Abroad::new(&house, &room);
    abroad.join(BOB).await;
    let base = abroad.ends();
    for n in 0..10 {
        let event = abroad.make(BOB, text(&format!("{n}")), &base);
        assert_eq!(abroad.give(&event).await, Verdict::Accepted);
    }
    let ends = abroad.ends();
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_eq!(
        house.timeline(&room).last().unwrap(),
        "org.matrix.dummy_event"
    );
    assert!(!shown(&house, &ada, &room, &ends[0]));
}

/// Two sides change the same state, and one a membership: what they make together is the state,
/// in all its rows, and every version of it reads back.
#[tokio::test(flavor = "multi_thread")]
async fn states_of_several_ends_are_resolved() {
    let house = House::new();
    let (ada, cleo) = (house.person("ada"), house.person("cleo"));
    let room = house.public_room(&ada).await;
    let abroad = Abroad::new(&house, &room);
    abroad.join(BOB).await;
    house.join(&cleo, &room).await.unwrap();
    let users = json!({"users": {BOB: 50}});
    house
        .set(&ada, &room, "m.room.power_levels", "", users)
        .await
        .unwrap();
    let base = abroad.ends();
    house
        .set(&ada, &room, "m.room.topic", "", json!({"topic": "here"}))
        .await
        .unwrap();
    let said = house.say(&cleo, &room, "I am here", None).await.unwrap();
    // There: another topic, and cleo is kicked.
    let topic = ("m.room.topic", Some(""), json!({"topic": "there"}));
    let topic = abroad.make(BOB, topic, &base);
    let kick = (
        "m.room.member",
        Some(&*cleo.user_id),
        json!({"membership": "leave"}),
    );
    let kick = abroad.make(BOB, kick, &[topic.event_id().to_owned()]);
    let seen = house.snap().head();
    assert_eq!(abroad.give(&topic).await, Verdict::Accepted);
    assert_eq!(abroad.give(&kick).await, Verdict::Accepted);
    assert_eq!(abroad.ends().len(), 2);
    assert_eq!(house.membership(&room, &cleo), Some(Membership::Leave));
    let nid = house.nid(&room);
    let head = house.rooms.head(&house.snap(), nid).unwrap().unwrap();
    assert_eq!((head.joined, head.remote), (2, 1));
    // She saw what she said before she was out.
    assert!(shown(&house, &cleo, &room, &said));
    let house = house.restart();
    let snap = house.snap();
    let state = house.rooms.state_of(&snap, nid).unwrap().unwrap();
    let now = house.rooms.state_now(&snap, nid).unwrap();
    assert!(state.1.iter().eq(now));
    assert_eq!(
        house.rooms.state_id_at(&snap, nid, snap.head()).unwrap(),
        Some(state.0)
    );
    let then = house.rooms.state_id_at(&snap, nid, seen).unwrap().unwrap();
    let then = house.rooms.state_map(&snap, then).unwrap();
    assert!(!then.diff(&state.1).is_empty());
    // What comes next goes on from it.
    house.say(&ada, &room, "together", None).await.unwrap();
    let after = house.snap();
    let now = house.rooms.state_of(&after, nid).unwrap().unwrap();
    assert_eq!(now.1, state.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_is_noted_and_filled() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let abroad = Abroad::new(&house, &room);
    abroad.join(BOB).await;
    let mut chain = vec![abroad.make(BOB, text("0"), &abroad.ends())];
    for n in 1..6 {
        let last = chain.last().unwrap().event_id().to_owned();
        chain.push(abroad.make(BOB, text(&format!("{n}")), &[last]));
    }
    let (last, before) = (&chain[5], &chain[4]);
    assert_eq!(is(&abroad.give(last).await), "missing");
    assert_eq!(abroad.keep(vec![before.clone()]).await, [""; 0]);
    let gap = Gap {
        prev_event: before.event_id().to_owned(),
        state: abroad.state_before(before),
    };
    let verdict = abroad.give_with(last, vec![gap]).await;
    assert_eq!(verdict, Verdict::Accepted);
    let (rooms, nid) = (&house.rooms, house.nid(&room));
    let holes = rooms.holes(&house.snap(), nid, Cut::END, 9).unwrap();
    assert_eq!(holes.len(), 1);
    assert_eq!(holes[0].event_id, last.event_id());
    assert_eq!(holes[0].missing, [before.event_id()]);
    let at = rooms.hole_at(&house.snap(), nid, holes[0].at).unwrap();
    assert_eq!(at.as_ref(), holes.first());
    // Who reads back ends at it.
    let mut view = rooms.view(&house.snap(), &viewer(&ada), nid).unwrap();
    let back = |from| skerry_room::PageAsk {
        from,
        to: None,
        back: true,
        limit: 100,
        filter: None,
    };
    let page = view.page(back(Cut::END)).unwrap();
    assert_eq!(page.events[0].event.event_id(), last.event_id());
    assert_eq!((page.events.len(), page.end), (1, Some(holes[0].at)));
    // A part, newest first, with the state before it; then the rest.
    let gap = Gap {
        prev_event: chain[2].event_id().to_owned(),
        state: abroad.state_before(&chain[2]),
    };
    abroad.keep(vec![chain[2].clone()]).await;
    let some = vec![chain[4].clone(), chain[3].clone()];
    let filled = rooms.backfill(&room, last.event_id(), some, vec![gap]);
    assert_eq!(filled.await.unwrap().added, 2);
    let holes = rooms.holes(&house.snap(), nid, Cut::END, 9).unwrap();
    assert_eq!(holes.len(), 1);
    assert_eq!(holes[0].event_id, chain[3].event_id());
    let rest = chain[..3].iter().rev().cloned().collect();
    let filled = rooms.backfill(&room, chain[3].event_id(), rest, vec![]);
    assert_eq!(filled.await.unwrap().added, 3);
    assert_eq!(rooms.holes(&house.snap(), nid, Cut::END, 9).unwrap(), []);
    let mut view = rooms.view(&house.snap(), &viewer(&ada), nid).unwrap();
    let page = view.page(back(Cut::END)).unwrap();
    let ids: Vec<_> = page.events.iter().map(|e| e.event.event_id()).collect();
    let want: Vec<_> = chain.iter().rev().map(|e| e.event_id()).collect();
    assert_eq!(ids[..6], want);
}

#[tokio::test(flavor = "multi_thread")]
async fn outliers_are_judged_when_what_allows_them_is_here() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let abroad = Abroad::new(&house, &room);
    let join = ("m.room.member", Some(BOB), json!({"membership": "join"}));
    let join = abroad.make(BOB, join, &abroad.ends());
    let id = join.event_id().to_owned();
    let name = (
        "m.room.member",
        Some(BOB),
        json!({"membership": "join", "displayname": "Bob"}),
    );
    let name = abroad.make(BOB, name, std::slice::from_ref(&id));
    assert_eq!(
        abroad.keep(vec![name.clone()]).await,
        std::slice::from_ref(&id)
    );
    let unjudged = EventMeta::OUTLIER | EventMeta::UNJUDGED;
    assert_eq!(flags(&house, name.event_id()), unjudged);
    // Nothing can rest on it, and it is said why.
    let hello = abroad.make(BOB, text("hello"), &[name.event_id().to_owned()]);
    let Verdict::Missing(missing) = abroad.give(&hello).await else {
        panic!("nothing is missing")
    };
    assert_eq!(missing.auth, [id]);
    assert_eq!(abroad.keep(vec![join.clone()]).await, [""; 0]);
    assert_eq!(flags(&house, name.event_id()), EventMeta::OUTLIER);
    // Eve's is refused by what allows it, and so is what rests on it.
    let levels = (
        "m.room.power_levels",
        Some(""),
        json!({"users": {EVE: 100}}),
    );
    let levels = abroad.make(EVE, levels, &abroad.ends());
    abroad.keep(vec![levels.clone()]).await;
    let refused = EventMeta::OUTLIER | EventMeta::REJECTED;
    assert_eq!(flags(&house, levels.event_id()), refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_too_early_is_done_when_its_target_comes() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let abroad = Abroad::new(&house, &room);
    abroad.join(BOB).await;
    let base = abroad.ends();
    let target = abroad.make(BOB, text("regret"), &base);
    let id = target.event_id().to_owned();
    let redaction = ("m.room.redaction", None, json!({"redacts": id}));
    let redaction = abroad.make(BOB, redaction, &base);
    let edit = json!({"body": "x", "m.relates_to": {"rel_type": "m.thread", "event_id": id}});
    let reply = abroad.make(BOB, ("m.room.message", None, edit), &base);
    assert_eq!(abroad.give(&redaction).await, Verdict::Accepted);
    assert_eq!(abroad.give(&reply).await, Verdict::Accepted);
    assert_eq!(abroad.give(&target).await, Verdict::Accepted);
    let held = house.event(&id);
    assert!(held.redacted_by.is_some());
    assert_eq!(held.event.content(), "{}");
    let snap = house.snap();
    let ask = skerry_room::RelationsAsk {
        rel_type: Some("m.thread".into()),
        ..relations(&id)
    };
    let json = house
        .rooms
        .relations_json(&snap, &viewer(&ada), &room, &ask)
        .unwrap();
    assert!(String::from_utf8(json).unwrap().contains(reply.event_id()));
}

fn relations(parent: &str) -> skerry_room::RelationsAsk {
    skerry_room::RelationsAsk {
        event_id: parent.to_owned(),
        rel_type: None,
        event_type: None,
        from: None,
        to: None,
        back: true,
        limit: 10,
        recurse: false,
    }
}

/// A batch in one commit comes to the same as one by one.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_as_good_as_one_by_one() {
    let mut ends = Vec::new();
    for batched in [false, true] {
        let house = House::new();
        let ada = house.person("ada");
        let room = house.public_room(&ada).await;
        let abroad = Abroad::new(&house, &room);
        let join = ("m.room.member", Some(BOB), json!({"membership": "join"}));
        let mut all = vec![abroad.make(BOB, join, &abroad.ends())];
        for n in 0..20 {
            let last = vec![all.last().unwrap().event_id().to_owned()];
            all.push(match n % 5 {
                0 => {
                    let name = json!({"membership": "join", "displayname": format!("{n}")});
                    abroad.make(BOB, ("m.room.member", Some(BOB), name), &last)
                }
                1 => abroad.make(EVE, text("no"), &last),
                _ => abroad.make(BOB, text(&format!("{n}")), &last),
            });
        }
        let arrivals: Vec<_> = all
            .iter()
            .map(|e| (e.clone(), Default::default()))
            .collect();
        let rooms = &house.rooms;
        let verdicts = if batched {
            rooms.receive_all(&room, arrivals).await.unwrap()
        } else {
            let mut verdicts = Vec::new();
            for (event, how) in arrivals {
                verdicts.push(rooms.receive(&room, event, how).await.unwrap());
            }
            verdicts
        };
        let verdicts: Vec<_> = verdicts.iter().map(is).collect();
        assert_eq!(verdicts.iter().filter(|v| **v == "rejected").count(), 4);
        let head = rooms
            .head(&house.snap(), house.nid(&room))
            .unwrap()
            .unwrap();
        let nids = house.timeline(&room);
        ends.push((verdicts, head.joined, head.remote, nids));
    }
    assert_eq!(ends[0], ends[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_join_left_is_swept() {
    let house = House::new();
    let there = RoomFixture::public();
    let ids: Vec<String> = there
        .events
        .iter()
        .map(|event| event.event_id().to_owned())
        .collect();
    let (room, version) = (there.room_id(), there.version);
    let keep = |house: &House| {
        let rooms = house.rooms.clone();
        let (room, events) = (room.to_owned(), there.events.clone());
        async move { rooms.keep_outliers(&room, version, events).await.unwrap() }
    };
    assert_eq!(keep(&house).await, [""; 0]);
    assert_eq!(house.rooms.lacks(&house.snap(), &ids).unwrap(), [""; 0]);
    let house = house.restart();
    assert_eq!(house.rooms.lacks(&house.store.newest(), &ids).unwrap(), ids);
    assert_eq!(keep(&house).await, [""; 0]);
    assert_eq!(house.rooms.lacks(&house.snap(), &ids).unwrap(), [""; 0]);
}
