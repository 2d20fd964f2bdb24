//! Redactions that are too many for one write.

use serde_json::json;
use skerry_room::{Move, Redaction};
use skerry_store::Scan;
use skerry_store::schema::room_redact::{Original, OriginalAt, RedactJobs};

use crate::house::House;

fn gone(house: &House, id: &str) -> bool {
    house.event(id).redacted_by.is_some()
}

fn jobs(house: &House) -> usize {
    house.snap().scan::<RedactJobs>(Scan::all()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_is_done_after_a_restart() {
    let house = House::new();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let room = house.public_room(&ada).await;
    house.join(&bob, &room).await.unwrap();
    let root = house.say(&bob, &room, "root", None).await.unwrap();
    let mut children = Vec::new();
    for n in 0..130 {
        let relates = json!({ "rel_type": "m.annotation", "event_id": root, "key": n.to_string() });
        let content = json!({ "m.relates_to": relates });
        let child = house.send(&bob, &room, "m.reaction", content, None);
        children.push(child.await.unwrap());
    }
    let redaction = Redaction {
        target: root.clone(),
        content: json!({ "reason": "all of it" }).to_string().into_bytes(),
        with_rel_types: vec!["m.annotation".into()],
        txn: None,
    };
    house
        .rooms
        .redact(ada.clone(), &room, redaction)
        .await
        .unwrap();
    assert!(gone(&house, &root) && gone(&house, &children[0]));
    assert!(!gone(&house, &children[129]));
    assert_eq!(jobs(&house), 1);

    let house = house.restart();
    house.rooms.run_redactions().await.unwrap();
    assert_eq!(jobs(&house), 0);
    for child in &children {
        let by = house.event(child).redacted_by.unwrap();
        let by = house.rooms.event(&house.snap(), by).unwrap().unwrap();
        assert_eq!(by.event.sender(), &*ada.user_id);
        let content = by.event.content_object().unwrap();
        assert_eq!(content.str("reason"), Some("all of it"));
        assert_eq!(by.event.redacts(), Some(child.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_users_events_go_bit_by_bit() {
    let house = House::new();
    let (ada, bob) = (house.person("ada"), house.person("bob"));
    let room = house.public_room(&ada).await;
    house.join(&bob, &room).await.unwrap();
    let mut said = Vec::new();
    for n in 0..600 {
        let text = format!("spam {n}");
        said.push(house.say(&bob, &room, &text, None).await.unwrap());
    }
    let content = json!({ "org.matrix.msc4293.redact_events": true });
    let how = Move {
        reason: None,
        content: Some(content.to_string().into_bytes()),
    };
    house
        .rooms
        .ban(ada.clone(), &room, &bob.user_id, how)
        .await
        .unwrap();
    // The newest at once, since those are what people see.
    assert!(gone(&house, &said[599]) && !gone(&house, &said[0]));
    assert_eq!(jobs(&house), 1);
    let house = house.restart();
    house.rooms.run_redactions().await.unwrap();
    assert!(said.iter().all(|id| gone(&house, id)));
    assert_eq!(jobs(&house), 0);
    // The room goes on, on top of redacted events.
    house.say(&ada, &room, "quiet now", None).await.unwrap();
    let house = house.restart();
    house.say(&ada, &room, "and still", None).await.unwrap();

    let kept = |house: &House| {
        let snap = house.snap();
        let rows = snap.scan::<Original>(Scan::all()).count();
        assert_eq!(rows, snap.scan::<OriginalAt>(Scan::all()).count());
        rows
    };
    // Bob's join, too.
    assert_eq!(kept(&house), 601);
    house.rooms.sweep_originals().await.unwrap();
    assert_eq!(kept(&house), 601);
    house.clock.advance(7 * 24 * 3_600_000 + 1);
    house.rooms.sweep_originals().await.unwrap();
    assert_eq!(kept(&house), 0);
}
