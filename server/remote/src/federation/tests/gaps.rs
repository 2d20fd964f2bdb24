//! Events whose past is not here.

use std::sync::Arc;

use serde_json::json;
use skerry_core::{RoomVersion, StoredEvent};
use skerry_room::{Move, Verdict};

use super::far::{FAR, Far, Fault};
use super::us::Us;
use crate::federation::FederationError;
use crate::federation::budget::Work;

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

async fn receive(
    us: &Us,
    far: &Far,
    events: Vec<Arc<StoredEvent>>,
) -> Vec<Result<Verdict, FederationError>> {
    us.federation
        .receive(FAR, &far.room_id(), events)
        .await
        .unwrap()
}

fn accepted(verdicts: &[Result<Verdict, FederationError>]) -> bool {
    verdicts
        .iter()
        .all(|verdict| matches!(verdict, Ok(Verdict::Accepted)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_between_is_fetched_and_shown_in_order() {
    for version in [RoomVersion::V2, RoomVersion::V11] {
        let far = Far::open(version);
        let us = joined(&far).await;
        let last = far.chat(0, 45);
        let verdicts = receive(&us, &far, vec![last]).await;
        assert!(accepted(&verdicts), "{verdicts:?}");
        let expected: Vec<String> = (0..45).map(|n| format!("m{n}")).collect();
        assert_eq!(us.bodies(&far.room_id()), expected);
        assert!(far.count("get_missing_events") <= 4);
        // Our join is on another branch than all that.
        assert!(far.count("state_ids") <= 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_events_at_once_each_have_their_outcome() {
    let far = Far::open(RoomVersion::V11);
    let us = joined(&far).await;
    far.chat(0, 5);
    let one = far.chat(5, 6);
    let two = far.chat(6, 7);
    let known = two.clone();
    let verdicts = receive(&us, &far, vec![one, two, known]).await;
    assert!(accepted(&verdicts[..2]), "{verdicts:?}");
    assert!(matches!(verdicts[2], Ok(Verdict::Known)), "{verdicts:?}");
    assert_eq!(us.bodies(&far.room_id()).len(), 7);
    assert_eq!(far.count("get_missing_events"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_between_is_given_the_state_is_fetched() {
    let far = Far::open(RoomVersion::V11);
    let us = joined(&far).await;
    far.chat(0, 5);
    far.add("cat:far.example join");
    far.add("ann:far.example state m.room.topic \"\" {\"topic\":\"tea\"}");
    let last = far.chat(5, 7);
    far.fault("get_missing_events", Fault::Refusal(404, "M_UNRECOGNIZED"));
    let verdicts = receive(&us, &far, vec![last]).await;
    assert!(accepted(&verdicts), "{verdicts:?}");
    assert_eq!(us.bodies(&far.room_id()), ["m6"]);
    let topic = us.state_id(&far.room_id(), "m.room.topic", "");
    assert!(topic.is_some(), "the state at the gap counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_show_what_comes_before_an_event_has_not_sent_one() {
    let far = Far::open(RoomVersion::V11);
    let us = joined(&far).await;
    far.chat(0, 1);
    let last = far.chat(1, 2);
    far.fault(
        "get_missing_events",
        Fault::Instead(json!({ "events": [] })),
    );
    let verdicts = receive(&us, &far, vec![last.clone()]).await;
    assert!(
        matches!(verdicts[0], Err(FederationError::Incomplete { .. })),
        "{verdicts:?}"
    );
    assert_eq!(far.count("get_missing_events"), 1);
    assert_eq!(far.count("state_ids"), 0, "its word is not taken for it");
    far.heal();
    assert!(accepted(&receive(&us, &far, vec![last]).await));
    assert_eq!(us.bodies(&far.room_id()), ["m0", "m1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_missing_ancestors_cost_a_few_requests() {
    let far = Far::open(RoomVersion::V11);
    let us = joined(&far).await;
    let last = far.chat(0, 10_000);
    let verdicts = receive(&us, &far, vec![last]).await;
    assert!(accepted(&verdicts), "{verdicts:?}");
    let asked = far.asked.lock().len();
    assert!(asked <= 20, "{asked} requests");
    assert!(us.bodies(&far.room_id()).len() <= 250);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_gives_is_said_and_other_events_go_on() {
    let far = Far::open(RoomVersion::V11);
    let us = joined(&far).await;
    let known = far.add("known: ann:far.example message known");
    assert!(accepted(&receive(&us, &far, vec![known]).await));
    far.chat(1, 3);
    let last = far.chat(3, 4);
    let first = far.add("ann:far.example message other after known");
    for endpoint in ["get_missing_events", "state_ids", "state", "event"] {
        far.fault(endpoint, Fault::Refusal(403, "M_FORBIDDEN"));
    }
    let verdicts = receive(&us, &far, vec![last.clone(), first]).await;
    assert!(verdicts[0].is_err(), "{verdicts:?}");
    assert!(matches!(verdicts[1], Ok(Verdict::Accepted)), "{verdicts:?}");
    far.heal();
    assert!(accepted(&receive(&us, &far, vec![last]).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_and_foreign_events_are_not_taken_as_the_missing_ones() {
    let far = Far::open(RoomVersion::V11);
    let us = joined(&far).await;
    far.chat(0, 3);
    let last = far.chat(3, 4);
    for endpoint in ["get_missing_events", "event", "state"] {
        far.fault(endpoint, Fault::Forged);
    }
    assert!(receive(&us, &far, vec![last.clone()]).await[0].is_err());
    let other = Far::open(RoomVersion::V10);
    let stranger = other.chat(0, 1);
    let stranger: serde_json::Value = serde_json::from_str(stranger.json()).unwrap();
    for endpoint in ["get_missing_events", "event", "state"] {
        let key = if endpoint == "get_missing_events" {
            "events"
        } else {
            "pdus"
        };
        far.fault(endpoint, Fault::Instead(json!({ key: [stranger] })));
    }
    assert!(receive(&us, &far, vec![last]).await[0].is_err());
    assert!(us.bodies(&far.room_id()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_large_or_nonsense_is_none() {
    let far = Far::open(RoomVersion::V11);
    let us = joined(&far).await;
    far.chat(0, 3);
    let last = far.chat(3, 4);
    let nonsense = json!({ "events": [7, "x", {}, { "type": "m.room.message" }] });
    for fault in [Fault::Huge(40 << 20), Fault::Instead(nonsense)] {
        far.fault("get_missing_events", fault);
        far.fault(
            "state_ids",
            Fault::Instead(json!({ "pdu_ids": {}, "auth_chain_ids": 1 })),
        );
        assert!(receive(&us, &far, vec![last.clone()]).await[0].is_err());
    }
}

/// In old rooms ids are chosen, and events can name each other in a circle.
#[tokio::test(flavor = "multi_thread")]
async fn circles_end() {
    let far = Far::open(RoomVersion::V1);
    let us = joined(&far).await;
    let one = far.chat(0, 1);
    let two = far.chat(1, 2);
    let last = far.chat(2, 3);
    let mut turned = one.object().unwrap();
    let prev = two.object().unwrap();
    turned.insert(
        "prev_events",
        vec![skerry_core::canonical::Value::Array(vec![
            two.event_id().into(),
            skerry_core::canonical::Value::Object(prev.object("hashes").unwrap().clone()),
        ])],
    );
    let turned = super::us::signed_again(turned, RoomVersion::V1);
    let answer = json!({ "events": [turned, prev.to_json()] });
    far.fault("get_missing_events", Fault::Instead(answer));
    far.fault("event", Fault::Refusal(404, "M_NOT_FOUND"));
    let verdicts = receive(&us, &far, vec![last]).await;
    assert!(verdicts[0].is_err(), "{verdicts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2024_31208_who_makes_us_fetch_too_much_waits() {
    let far = Far::open(RoomVersion::V11);
    let us = joined(&far).await;
    let much = Work {
        events: 1e9,
        ..Work::default()
    };
    us.federation.asked.budgets.spend(FAR, much);
    far.chat(0, 3);
    let last = far.chat(3, 4);
    let verdicts = receive(&us, &far, vec![last.clone()]).await;
    assert!(
        matches!(verdicts[0], Err(FederationError::Budget { .. })),
        "{verdicts:?}"
    );
    assert!(far.asked.lock().is_empty());
    us.clock.advance(1_000 * 24 * 3_600_000);
    assert!(accepted(&receive(&us, &far, vec![last]).await));
}
