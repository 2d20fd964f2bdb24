//! Sending: transactions, redactions, limits, many writers.

use serde_json::json;
use skerry_core::{Membership, RoomVersion};
use skerry_room::{CreateRoom, Redaction};
use skerry_store::Scan;
use skerry_store::schema::room as t;
use skerry_store::schema::room::RelKind;

use crate::house::{House, def, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_makes_one_event_also_across_restarts() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let first = house.say(&ada, &room, "hello", Some("t1")).await.unwrap();
    assert_eq!(
        house.say(&ada, &room, "hello", Some("t1")).await.unwrap(),
        first
    );
    let (a, b) = tokio::join!(
        house.say(&ada, &room, "at once", Some("t2")),
        house.say(&ada, &room, "at once", Some("t2")),
    );
    assert_eq!(a.unwrap(), b.unwrap());
    let mut phone = ada.clone();
    phone.device = "PHONE".into();
    let other = house.say(&phone, &room, "hello", Some("t1")).await.unwrap();
    assert_ne!(other, first);
    assert_eq!(house.event(&first).sent.unwrap().txn.as_deref(), Some("t1"));
    let before = house.timeline(&room).len();

    let house = house.restart();
    assert_eq!(
        house.say(&ada, &room, "hello", Some("t1")).await.unwrap(),
        first
    );
    assert_eq!(house.timeline(&room).len(), before);
    let next = house
        .say(&ada, &room, "still here", Some("t3"))
        .await
        .unwrap();
    assert_eq!(house.event(&next).event.prev_events(), [other]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_say_what() {
    let house = House::new();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let room = house.public_room(&ada).await;
    assert_eq!(
        refusal(house.say(&bob, &room, "let me in", None).await),
        "Forbidden"
    );
    assert_eq!(
        refusal(house.say(&bob, "!none:skerry.test", "hm", None).await),
        "Forbidden"
    );
    house.join(&bob, &room).await.unwrap();
    house.say(&bob, &room, "thanks", None).await.unwrap();
    let name = json!({ "name": "Bob's" });
    assert_eq!(
        refusal(house.set(&bob, &room, "m.room.name", "", name).await),
        "Forbidden"
    );
    let levels = house.content(&room, "m.room.power_levels", "");
    let mut quiet = levels.clone();
    quiet["events_default"] = 50.into();
    house
        .set(&ada, &room, "m.room.power_levels", "", quiet)
        .await
        .unwrap();
    assert_eq!(
        refusal(house.say(&bob, &room, "and now?", None).await),
        "Forbidden"
    );
    let other = json!({});
    let of_ada = house
        .set(&bob, &room, "org.example", &ada.user_id, other)
        .await;
    assert_eq!(refusal(of_ada), "Forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_events() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let long = "x".repeat(66_000);
    assert_eq!(
        refusal(house.say(&ada, &room, &long, None).await),
        "TooLarge"
    );
    house
        .say(&ada, &room, &"x".repeat(64_000), None)
        .await
        .unwrap();
    let kind = "k".repeat(256);
    assert_eq!(
        refusal(house.send(&ada, &room, &kind, json!({}), None).await),
        "TooLarge"
    );
    let float = json!({ "body": 1.5 });
    assert_eq!(
        refusal(house.send(&ada, &room, "m.x", float.clone(), None).await),
        "BadJson"
    );
    let old = CreateRoom {
        version: Some("5".into()),
        ..def()
    };
    let old = house.rooms.create(ada.clone(), old).await.unwrap();
    house.send(&ada, &old, "m.x", float, None).await.unwrap();
    let itself = json!({ "replacement_room": room, "body": "" });
    let closed = house.set(&ada, &room, "m.room.tombstone", "", itself).await;
    assert_eq!(refusal(closed), "InvalidParam");
}

#[tokio::test(flavor = "multi_thread")]
async fn redaction_takes_content_away_in_every_version() {
    let house = House::new();
    let (ada, bob, eve) = (
        house.person("ada"),
        house.person("bob"),
        house.person("eve"),
    );
    for version in RoomVersion::all() {
        let request = CreateRoom {
            version: Some(version.to_string()),
            preset: Some(skerry_room::Preset::PublicChat),
            ..def()
        };
        let room = house.rooms.create(ada.clone(), request).await.unwrap();
        house.join(&bob, &room).await.unwrap();
        house.join(&eve, &room).await.unwrap();
        let said = house.say(&bob, &room, "regret", None).await.unwrap();
        let redact = |who: &skerry_room::Who, target: &str| {
            let content = json!({ "reason": "regret" }).to_string().into_bytes();
            let redaction = Redaction {
                target: target.into(),
                content,
                with_rel_types: Vec::new(),
                txn: None,
            };
            house.rooms.redact(who.clone(), &room, redaction)
        };
        assert_eq!(refusal(redact(&eve, &said).await), "Forbidden", "{version}");
        assert_eq!(refusal(redact(&eve, "$nothing").await), "NotFound");
        let redaction = redact(&bob, &said).await.unwrap();
        let held = house.event(&said);
        assert_eq!(held.event.content(), "{}", "{version}");
        assert_eq!(held.event.event_id(), said);
        let by = house.event(&redaction);
        assert_eq!(held.redacted_by, Some(by.nid));
        assert_eq!(by.event.redacts(), Some(&*said));
        let again = house.say(&eve, &room, "spam", None).await.unwrap();
        let content = json!({ "redacts": again });
        house
            .send(&ada, &room, "m.room.redaction", content, None)
            .await
            .unwrap();
        assert_eq!(house.event(&again).event.content(), "{}");
        house
            .say(&bob, &room, "and on it goes", None)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redaction_stays_in_its_room() {
    let house = House::new();
    let ada = house.person("ada");
    let (here, there) = (house.public_room(&ada).await, house.public_room(&ada).await);
    let said = house.say(&ada, &here, "here", None).await.unwrap();
    let redaction = Redaction {
        with_rel_types: Vec::new(),
        target: said.clone(),
        content: b"{}".to_vec(),
        txn: None,
    };
    let refused = house.rooms.redact(ada.clone(), &there, redaction).await;
    assert_eq!(refusal(refused), "InvalidParam");
    assert!(house.event(&said).redacted_by.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn relations_are_found_from_their_parent() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let parent = house.say(&ada, &room, "question", None).await.unwrap();
    let relates = |kind: &str| {
        json!({ "body": "x", "m.relates_to": {
            "rel_type": kind, "event_id": parent, "key": "👍"
        } })
    };
    let mut children = Vec::new();
    for kind in [
        "m.annotation",
        "m.thread",
        "m.replace",
        "m.reference",
        "org.example",
    ] {
        let id = house
            .send(&ada, &room, "m.x", relates(kind), None)
            .await
            .unwrap();
        children.push(house.event(&id).nid);
    }
    let again = house
        .send(&ada, &room, "m.x", relates("m.annotation"), None)
        .await;
    assert_eq!(refusal(again), "DuplicateAnnotation");
    let parent = house.event(&parent).nid;
    let found = |kind: RelKind| -> Vec<_> {
        let snap = house.snap();
        let rows = snap.scan::<t::Relations>(Scan::prefix(&(parent, kind)));
        rows.map(|row| row.unwrap().1.child).collect()
    };
    let kinds = [
        RelKind::Annotation,
        RelKind::Thread,
        RelKind::Replace,
        RelKind::Reference,
        RelKind::Other,
    ];
    for (kind, child) in kinds.into_iter().zip(&children) {
        assert_eq!(found(kind), [*child]);
    }
    let snap = house.snap();
    let reaction = house.rooms.event(&snap, children[0]).unwrap().unwrap();
    let target = reaction.event.event_id().to_owned();
    let redaction = Redaction {
        with_rel_types: Vec::new(),
        target,
        content: b"{}".to_vec(),
        txn: None,
    };
    house
        .rooms
        .redact(ada.clone(), &room, redaction)
        .await
        .unwrap();
    assert_eq!(found(RelKind::Annotation), []);
    house
        .send(&ada, &room, "m.x", relates("m.annotation"), None)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_make_one_line() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let begun = house.timeline(&room).len();
    let people: Vec<_> = (0..8).map(|n| house.person(&format!("p{n}"))).collect();
    let all = people.iter().map(|who| async {
        house.join(who, &room).await.unwrap();
        for n in 0..10 {
            house
                .say(who, &room, "x", Some(&format!("{n}")))
                .await
                .unwrap();
        }
        house.leave(who, &room).await.unwrap();
    });
    futures_all(all).await;
    let (snap, nid) = (house.snap(), house.nid(&room));
    let rows: Vec<_> = snap
        .scan::<t::Timeline>(Scan::prefix(&nid))
        .map(Result::unwrap)
        .collect();
    let mut before: Option<(String, u64)> = None;
    for ((_, order), event) in &rows {
        let held = house.rooms.event(&snap, *event).unwrap().unwrap();
        let meta = house.rooms.meta(&snap, *event).unwrap().unwrap();
        assert_eq!(meta.order, *order);
        if let Some((id, depth)) = before {
            assert_eq!(held.event.prev_events(), [id]);
            assert_eq!(held.event.depth(), depth + 1);
        }
        before = Some((held.event.event_id().to_owned(), held.event.depth()));
    }
    assert_eq!(rows.len(), begun + 8 * 12);
    let head = house.rooms.head(&snap, nid).unwrap().unwrap();
    assert_eq!(head.joined, 1);
    assert_eq!(head.last, house.rooms.last_pos(nid));
    assert_eq!(house.membership(&room, &people[0]), Some(Membership::Leave));
}

async fn futures_all<F: Future<Output = ()>>(all: impl Iterator<Item = F>) {
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn one_user_reacts_to_one_event_so_often() {
    let house = House::new();
    let ada = house.person("ada");
    let room = house.public_room(&ada).await;
    let parent = house.say(&ada, &room, "look", None).await.unwrap();
    let react = |n: usize| {
        let relates =
            json!({ "rel_type": "m.annotation", "event_id": parent, "key": n.to_string() });
        let content = json!({ "m.relates_to": relates });
        house.send(&ada, &room, "m.reaction", content, None)
    };
    let mut last = String::new();
    for n in 0..200 {
        last = react(n).await.unwrap();
    }
    assert_eq!(refusal(react(200).await), "DuplicateAnnotation");
    let redaction = skerry_room::Redaction {
        with_rel_types: Vec::new(),
        target: last,
        content: b"{}".to_vec(),
        txn: None,
    };
    house
        .rooms
        .redact(ada.clone(), &room, redaction)
        .await
        .unwrap();
    react(200).await.unwrap();
}
