//! Paging back past what is here.

use std::sync::Arc;

use serde_json::Value;
use skerry_core::RoomVersion;
use skerry_room::{EventFilter, MessagesAsk, Move};

use super::far::{FAR, Far, Fault};
use super::us::Us;

async fn joined(far: &Arc<Far>) -> Us {
    let us = Us::with(far);
    let via = vec![FAR.to_owned()];
    us.federation
        .join(us.bob(), &far.room_id(), via, Move::default())
        .await
        .unwrap();
    far.asked.lock().clear();
    us
}

async fn page(us: &Us, far: &Far, from: Option<&str>, limit: usize) -> Value {
    let ask = MessagesAsk {
        from: from.and_then(skerry_room::Cut::parse),
        to: None,
        back: true,
        limit,
        filter: EventFilter::default(),
    };
    let page = us.federation.messages(us.viewer(), far.room_id(), ask);
    serde_json::from_slice(&page.await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_was_before_the_join_is_read_to_the_beginning() {
    for version in [RoomVersion::V1, RoomVersion::V6, RoomVersion::V11] {
        let far = Far::open(version);
        far.chat(0, 250);
        let us = joined(&far).await;
        let (mut bodies, mut types, mut from) = (Vec::new(), Vec::new(), None::<String>);
        for _ in 0..100 {
            let page = page(&us, &far, from.as_deref(), 40).await;
            for event in page["chunk"].as_array().unwrap() {
                types.push(event["type"].as_str().unwrap().to_owned());
                bodies.extend(event["content"]["body"].as_str().map(str::to_owned));
            }
            from = page["end"].as_str().map(str::to_owned);
            if from.is_none() {
                break;
            }
        }
        let expected: Vec<String> = (0..250).rev().map(|n| format!("m{n}")).collect();
        assert_eq!(bodies, expected, "version {version}");
        assert_eq!(types.last().map(String::as_str), Some("m.room.create"));
        assert!(from.is_none(), "and there it ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_a_hole_cuts_short_is_filled_at_once() {
    let far = Far::open(RoomVersion::V11);
    far.chat(0, 5);
    let us = joined(&far).await;
    // One that holds as much as it may asks nobody.
    page(&us, &far, None, 1).await;
    assert_eq!(far.count("backfill"), 0);
    let first = page(&us, &far, None, 4).await;
    let events = first["chunk"].as_array().unwrap().iter();
    let bodies = events.filter_map(|event| event["content"]["body"].as_str());
    assert_eq!(bodies.collect::<Vec<_>>(), ["m4", "m3", "m2"], "{first}");
    assert_eq!(far.count("backfill"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_gives_history_there_is_more_all_the_same() {
    let far = Far::open(RoomVersion::V11);
    far.chat(0, 5);
    let us = joined(&far).await;
    far.fault("backfill", Fault::Refusal(500, "M_UNKNOWN"));
    let first = page(&us, &far, None, 10).await;
    assert!(first["end"].is_string(), "{first}");
    let again = page(&us, &far, first["end"].as_str(), 10).await;
    assert!(again["end"].is_string() && again["chunk"] == serde_json::json!([]));
    assert_eq!(far.count("backfill"), 1, "it is left alone for a while");
    far.heal();
    us.clock.advance(10 * 60_000);
    let then = page(&us, &far, first["end"].as_str(), 10).await;
    assert_eq!(then["chunk"][0]["content"]["body"], "m4", "{then}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_in_the_middle_is_filled_in_its_place() {
    let far = Far::open(RoomVersion::V11);
    let us = joined(&far).await;
    far.chat(0, 30);
    let last = far.chat(30, 31);
    far.fault("get_missing_events", Fault::Refusal(404, "M_NOT_FOUND"));
    us.federation
        .receive(FAR, &far.room_id(), vec![last])
        .await
        .unwrap();
    assert_eq!(us.bodies(&far.room_id()), ["m30"]);
    far.heal();
    let first = page(&us, &far, None, 50).await;
    page(&us, &far, first["end"].as_str(), 50).await;
    let expected: Vec<String> = (0..31).map(|n| format!("m{n}")).collect();
    assert_eq!(us.bodies(&far.room_id()), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_page_after_a_join_is_full() {
    let far = Far::open(RoomVersion::V11);
    far.chat(0, 30);
    let us = joined(&far).await;
    let first = page(&us, &far, None, 6).await;
    let chunk = first["chunk"].as_array().unwrap();
    let bodies: Vec<_> = chunk
        .iter()
        .map(|event| &event["content"]["body"])
        .collect();
    assert_eq!(chunk.len(), 6, "{first}");
    assert_eq!(chunk[0]["type"], "m.room.member");
    assert_eq!(bodies[1..], ["m29", "m28", "m27", "m26", "m25"]);
    assert_eq!(far.count("backfill"), 1);
}
