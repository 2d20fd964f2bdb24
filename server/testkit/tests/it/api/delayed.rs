//! Delayed events (MSC4140), as clients see them.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

const BASE: &str = "/_matrix/client/unstable/org.matrix.msc4140";
const DAY: u64 = 24 * 3_600_000;

/// Schedules by the query of `/state`: the id.
async fn delay_state(server: &TestServer, who: &Person, room: &str, key: &str, ms: u64) -> String {
    let path = format!(
        "/_matrix/client/v3/rooms/{room}/state/org.example.member/{key}\
         ?org.matrix.msc4140.delay={ms}"
    );
    let body = Some(json!({ "by": who.user_id }));
    let answer = server.ok(Method::PUT, &path, Some(&who.token), body).await;
    answer["delay_id"].as_str().unwrap().to_owned()
}

/// Schedules by the endpoint of its own: the whole answer.
async fn schedule(
    server: &TestServer,
    who: &Person,
    room: &str,
    kind: &str,
    txn: &str,
    body: Value,
) -> (u16, Value) {
    let path = format!("{BASE}/rooms/{room}/delayed_event/{kind}/{txn}");
    server
        .req(Method::PUT, &path, Some(&who.token), Some(body))
        .await
}

async fn act(server: &TestServer, id: &str, action: &str) -> (u16, Value) {
    let path = format!("{BASE}/delayed_events/{id}/{action}");
    server.req(Method::POST, &path, None, Some(json!({}))).await
}

async fn list(server: &TestServer, who: &Person, query: &str) -> Vec<Value> {
    let path = format!("{BASE}/delayed_events?{query}");
    let answer = server.ok(Method::GET, &path, Some(&who.token), None).await;
    answer["delayed_events"].as_array().unwrap().clone()
}

async fn state(server: &TestServer, who: &Person, room: &str, key: &str) -> (u16, Value) {
    let path = format!("/_matrix/client/v3/rooms/{room}/state/org.example.member/{key}");
    server.req(Method::GET, &path, Some(&who.token), None).await
}

/// Waits until a delayed event is over.
async fn over(server: &TestServer, who: &Person, id: &str) -> Value {
    let path = format!("{BASE}/delayed_events/{id}");
    for _ in 0..100 {
        let event = server.ok(Method::GET, &path, Some(&who.token), None).await;
        if event["finalised_ts"].is_u64() {
            return event;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{id} is not sent");
}

/// The events of a room's timeline that are not of its beginning.
async fn said(server: &TestServer, who: &Person, room: &str) -> Vec<Value> {
    let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=100");
    let answer = server.ok(Method::GET, &path, Some(&who.token), None).await;
    let events = answer["chunk"].as_array().unwrap().iter();
    let own = |event: &&Value| event["type"].as_str().unwrap().starts_with("org.example");
    events.filter(own).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_sent_when_its_time_has_come_and_once() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    server.join(&bob, &room).await;
    let id = delay_state(&server, &alice, &room, "k", 10_000).await;
    assert_eq!(state(&server, &alice, &room, "k").await.0, 404);
    let pending = list(&server, &alice, "").await;
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0]["delay_id"], *id);
    assert_eq!(pending[0]["room_id"], *room);
    assert_eq!(pending[0]["type"], "org.example.member");
    assert_eq!(pending[0]["state_key"], "k");
    assert_eq!(pending[0]["delay"], 10_000);
    assert_eq!(pending[0]["content"], json!({ "by": alice.user_id }));
    assert!(pending[0]["running_since"].is_u64());
    assert_eq!(list(&server, &bob, "").await, [] as [Value; 0]);
    let path = format!("{BASE}/delayed_events/{id}");
    let (status, _) = server.req(Method::GET, &path, Some(&bob.token), None).await;
    assert_eq!(status, 404);

    server.clock.advance(9_000);
    assert_eq!(act(&server, &id, "restart").await.0, 200);
    server.clock.advance(5_000);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(state(&server, &alice, &room, "k").await.0, 404);
    server.clock.advance(6_000);
    let event = over(&server, &alice, &id).await;
    assert_eq!(state(&server, &bob, &room, "k").await.0, 200);
    // Its sender is told which one it was, and nobody else.
    let event_id = event["event_id"].as_str().unwrap();
    let path = format!("/_matrix/client/v3/rooms/{room}/event/{event_id}");
    let unsigned = async |who: &Person| {
        let event = server.ok(Method::GET, &path, Some(&who.token), None).await;
        event["unsigned"]["org.matrix.msc4140.delay_id"].clone()
    };
    assert_eq!(unsigned(&alice).await, *id);
    assert_eq!(unsigned(&bob).await, Value::Null);
    // Done is done.
    assert_eq!(act(&server, &id, "send").await.0, 200);
    assert_eq!(act(&server, &id, "cancel").await.0, 409);
    assert_eq!(act(&server, &id, "restart").await.0, 409);
    assert_eq!(act(&server, "nothing", "send").await.0, 404);
    assert_eq!(said(&server, &alice, &room).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_outlives_a_restart_of_the_server() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    let body = json!({ "delay": 5_000, "content": { "n": 1 } });
    let (status, answer) = schedule(&server, &alice, &room, "org.example.x", "t", body).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["delay_id"].as_str().unwrap().to_owned();
    let server = server.restart().await;
    assert_eq!(said(&server, &alice, &room).await.len(), 0);
    server.clock.advance(3_600_000);
    over(&server, &alice, &id).await;
    let server = server.restart().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let events = said(&server, &alice, &room).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["content"], json!({ "n": 1 }));
    assert_eq!(events[0]["unsigned"]["transaction_id"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_sent_or_taken_back_by_hand_in_both_forms() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    let path = format!(
        "/_matrix/client/v3/rooms/{room}/send/org.example.x/same\
         ?org.matrix.msc4140.delay=100000"
    );
    let plain = path.split_once('?').unwrap().0.to_owned();
    let put = async |path: &str| {
        let body = Some(json!({ "a": 1 }));
        server.ok(Method::PUT, path, Some(&alice.token), body).await
    };
    // The same transaction schedules once, and is not that of sending at once.
    let first = put(&path).await["delay_id"].as_str().unwrap().to_owned();
    assert_eq!(put(&path).await["delay_id"], *first);
    assert!(put(&plain).await["event_id"].is_string());
    assert_eq!(said(&server, &alice, &room).await.len(), 1);
    let by_body = async |action: &str| {
        let path = format!("{BASE}/delayed_events/{first}");
        let body = Some(json!({ "action": action }));
        server.req(Method::POST, &path, None, body).await.0
    };
    assert_eq!(by_body("explode").await, 400);
    assert_eq!(by_body("restart").await, 200);
    assert_eq!(by_body("send").await, 200);
    assert_eq!(by_body("send").await, 200);
    assert_eq!(said(&server, &alice, &room).await.len(), 2);
    let body = json!({ "delay": 5_000, "state_key": "", "content": {} });
    let (_, answer) = schedule(&server, &alice, &room, "org.example.y", "t", body).await;
    let second = answer["delay_id"].as_str().unwrap().to_owned();
    for status in [200, 200] {
        assert_eq!(act(&server, &second, "cancel").await.0, status);
    }
    assert_eq!(act(&server, &second, "send").await.0, 409);
    server.clock.advance(60_000);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(said(&server, &alice, &room).await.len(), 2);
    // What became of them is listed.
    let all = list(&server, &alice, "status=finalised").await;
    assert_eq!(all.len(), 2);
    let of = |query: &'static str| list(&server, &alice, query);
    assert_eq!(of("status=scheduled").await.len(), 0);
    assert_eq!(
        of("outcome=send&reason=action").await[0]["delay_id"],
        *first
    );
    assert_eq!(of("outcome=cancel").await[0]["delay_id"], *second);
    assert_eq!(of("outcome=error").await.len(), 0);
    assert_eq!(of("type=org.example.y").await.len(), 1);
    assert_eq!(of("dir=b&order_by=running_since").await.len(), 2);
    for wrong in [
        "status=x",
        "dir=x",
        "order_by=x",
        "outcome=x",
        "reason=x",
        "from=x",
    ] {
        let path = format!("{BASE}/delayed_events?{wrong}");
        let (status, answer) = server
            .req(Method::GET, &path, Some(&alice.token), None)
            .await;
        assert_eq!(
            (status, &answer["errcode"]),
            (400, &json!("M_INVALID_PARAM")),
            "{wrong}"
        );
    }
    // A week later nobody knows of them.
    server.clock.advance(8 * DAY);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(list(&server, &alice, "").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_delayed_is_refused() {
    let server = TestServer::start_with("[delayed_events]\nmax_delay = \"1h\"");
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    let by_query = async |ms: &str| {
        let path = format!(
            "/_matrix/client/v3/rooms/{room}/send/org.example.x/t{ms}\
             ?org.matrix.msc4140.delay={ms}"
        );
        let body = Some(json!({}));
        server
            .req(Method::PUT, &path, Some(&alice.token), body)
            .await
    };
    let (status, answer) = by_query("3600001").await;
    assert_eq!(status, 400);
    assert_eq!(answer["errcode"], "M_UNKNOWN");
    assert_eq!(answer["org.matrix.msc4140.errcode"], "M_MAX_DELAY_EXCEEDED");
    assert_eq!(answer["org.matrix.msc4140.max_delay"], 3_600_000);
    for wrong in ["0", "-1", "x"] {
        let (status, answer) = by_query(wrong).await;
        assert_eq!(
            (status, &answer["errcode"]),
            (400, &json!("M_INVALID_PARAM")),
            "{wrong}"
        );
    }
    let body = json!({ "delay": 3_600_001, "content": {} });
    let (status, answer) = schedule(&server, &alice, &room, "a", "t", body).await;
    assert_eq!(status, 400);
    assert_eq!(answer["errcode"], "ORG.MATRIX.MSC4140_MAX_DELAY_EXCEEDED");
    assert_eq!(answer["org.matrix.msc4140.max_delay"], 3_600_000);
    let (status, _) = schedule(&server, &alice, &room, "a", "t", json!({ "delay": 5 })).await;
    assert_eq!(status, 400);
    // Only so many at once.
    for n in 0..100 {
        assert_eq!(by_query(&format!("{}", 100_000 + n)).await.0, 200);
    }
    let (status, answer) = by_query("200000").await;
    assert_eq!(
        (status, &answer["errcode"]),
        (429, &json!("M_LIMIT_EXCEEDED"))
    );
    let wait = answer["retry_after_ms"].as_u64().unwrap();
    assert!((1..=100_000).contains(&wait), "{wait}");
    let page = list(&server, &alice, "").await;
    assert_eq!(page.len(), 20);
    let path = "/_matrix/client/v3/capabilities";
    let can = server.ok(Method::GET, path, Some(&alice.token), None).await;
    let can = &can["capabilities"]["org.matrix.msc4140.delayed_events"];
    assert_eq!(
        can,
        &json!({ "max_delay_ms": 3_600_000, "max_scheduled": 100 })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_piles_up_what_others_have_to_cancel() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let mallory = server.person("mallory").await;
    let room = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    server.join(&bob, &room).await;
    let delay = async |who: &Person, kind: &str, txn: usize, key: &str, content: Value| {
        let body = json!({ "delay": 5_000, "state_key": key, "content": content });
        let txn = txn.to_string();
        schedule(&server, who, &room, kind, &txn, body).await
    };
    let topic = "m.room.topic";
    let (status, answer) = delay(&mallory, topic, 0, "", json!({})).await;
    assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
    let long = json!({ "topic": "x".repeat(70_000) });
    assert_eq!(delay(&alice, topic, 0, "", long).await.0, 413);
    let (status, answer) = delay(&bob, "org.example.a", 0, &alice.user_id, json!({})).await;
    assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
    let own = delay(&bob, "org.example.a", 1, &bob.user_id, json!({})).await;
    assert_eq!(own.0, 200);
    let content = json!({ "membership": "leave" });
    let kick = delay(&alice, "m.room.member", 1, &bob.user_id, content).await;
    assert_eq!(kick.0, 200);
    for n in 2..52 {
        assert_eq!(delay(&alice, topic, n, "", json!({})).await.0, 200);
        assert_eq!(delay(&bob, topic, n, "", json!({})).await.0, 200);
    }
    let (status, answer) = delay(&bob, topic, 60, "", json!({})).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (429, &json!("M_LIMIT_EXCEEDED"))
    );
    // All of Bob's go in one write, and what is kept of them is still bounded.
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.topic");
    let body = Some(json!({ "topic": "calm" }));
    server
        .ok(Method::PUT, &path, Some(&alice.token), body)
        .await;
    let left = list(&server, &bob, "status=scheduled").await;
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_send_any_more_is_told_afterwards() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let body = json!({ "preset": "public_chat", "power_level_content_override": {
        "events": { "org.example.member": 0 } } });
    let room = server.room(&alice, body).await;
    server.join(&bob, &room).await;
    let id = delay_state(&server, &bob, &room, "mine", 5_000).await;
    // Somebody else sets the state that is to be set: what was scheduled for it is off.
    let taken = delay_state(&server, &bob, &room, "taken", 5_000).await;
    let kept = delay_state(&server, &bob, &room, "kept", 5_000).await;
    let set = async |who: &Person, key: &str| {
        let path = format!("/_matrix/client/v3/rooms/{room}/state/org.example.member/{key}");
        let body = Some(json!({ "set": 1 }));
        server.ok(Method::PUT, &path, Some(&who.token), body).await;
    };
    set(&alice, "taken").await;
    set(&bob, "kept").await;
    let event = over(&server, &bob, &taken).await;
    assert_eq!(event["error"]["errcode"], "M_UNKNOWN");
    let code = &event["error"]["org.matrix.msc4140.errcode"];
    assert_eq!(code, "M_CANCELLED_BY_STATE_UPDATE");
    let path = format!("/_matrix/client/v3/rooms/{room}/leave");
    assert_eq!(act(&server, &kept, "send").await.0, 200);
    server
        .ok(Method::POST, &path, Some(&bob.token), Some(json!({})))
        .await;
    // By hand the refusal is the answer, and it stays scheduled.
    let (status, answer) = act(&server, &id, "send").await;
    assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
    assert_eq!(list(&server, &bob, "status=scheduled").await.len(), 1);
    server.clock.advance(6_000);
    let event = over(&server, &bob, &id).await;
    assert_eq!(event["error"]["errcode"], "M_FORBIDDEN");
    assert_eq!(event["event_id"], Value::Null);
    assert_eq!(act(&server, &id, "cancel").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redactions_and_sticky_events_can_be_delayed() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    let gone = server.say(&alice, &room, "gone soon").await;
    let body = json!({ "delay": 5_000, "content": { "redacts": gone } });
    let (_, answer) = schedule(&server, &alice, &room, "m.room.redaction", "r", body).await;
    let redaction = answer["delay_id"].as_str().unwrap().to_owned();
    let kind = "org.example.x";
    let path = format!(
        "{BASE}/rooms/{room}/delayed_event/{kind}/s?org.matrix.msc4354.sticky_duration_ms=60000"
    );
    let body = Some(json!({ "delay": 5_000, "content": {} }));
    let answer = server
        .ok(Method::PUT, &path, Some(&alice.token), body)
        .await;
    let sticky = answer["delay_id"].as_str().unwrap().to_owned();
    server.clock.advance(6_000);
    over(&server, &alice, &redaction).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/event/{gone}");
    let event = server
        .ok(Method::GET, &path, Some(&alice.token), None)
        .await;
    assert_eq!(event["content"], json!({}));
    let id = over(&server, &alice, &sticky).await["event_id"].clone();
    let path = format!(
        "/_matrix/client/v3/rooms/{room}/event/{}",
        id.as_str().unwrap()
    );
    let event = server
        .ok(Method::GET, &path, Some(&alice.token), None)
        .await;
    assert_eq!(event["msc4354_sticky"]["duration_ms"], 60_000);
}
