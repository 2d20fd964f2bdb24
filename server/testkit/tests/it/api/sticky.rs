//! Sticky events (MSC4354), as clients see them.

use http::Method;
use serde_json::{Value, json};
use skerry_store::Scan;
use skerry_store::schema::room_timed as t;
use skerry_testkit::{Person, TestServer};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

/// Sends a message that is sticky for so many ms: its id.
async fn stick(server: &TestServer, who: &Person, room: &str, txn: &str, ms: u64) -> String {
    let path = format!(
        "/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}\
         ?org.matrix.msc4354.sticky_duration_ms={ms}"
    );
    let body = json!({ "msgtype": "m.text", "body": txn });
    let sent = server.ok(Method::PUT, &path, Some(&who.token), Some(body));
    sent.await["event_id"].as_str().unwrap().to_owned()
}

async fn event(server: &TestServer, who: &Person, room: &str, id: &str) -> Value {
    let path = format!("/_matrix/client/v3/rooms/{room}/event/{id}");
    server.ok(Method::GET, &path, Some(&who.token), None).await
}

/// Ids of the events in one section of a joined room.
fn ids(answer: &Value, room: &str, section: &str) -> Vec<String> {
    let events = answer["rooms"]["join"][room][section]["events"].as_array();
    let id = |event: &Value| event["event_id"].as_str().unwrap().to_owned();
    events.map_or_else(Vec::new, |events| events.iter().map(id).collect())
}

/// A sync with a filter whose timelines show no messages.
async fn without_messages(server: &TestServer, who: &Person, since: Option<&str>) -> Value {
    let filter = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22not_types%22%3A%5B\
                  %22m.room.message%22%5D%7D%7D%7D";
    let since = since.map_or(String::new(), |since| format!("&since={since}"));
    let path = format!("/_matrix/client/v3/sync?timeout=0&filter={filter}{since}");
    server.ok(Method::GET, &path, Some(&who.token), None).await
}

const TTL: &str = "msc4354_sticky_duration_ttl_ms";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_says_how_long_it_is_sticky_still() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    let id = stick(&server, &alice, &room, "a", MINUTE).await;
    let shown = event(&server, &alice, &room, &id).await;
    assert_eq!(shown["msc4354_sticky"], json!({ "duration_ms": MINUTE }));
    let left = shown["unsigned"][TTL].as_u64().unwrap();
    assert!((MINUTE - SECOND..=MINUTE).contains(&left), "{left}");
    server.clock.advance(59 * SECOND);
    let left = event(&server, &alice, &room, &id).await;
    assert!(left["unsigned"][TTL].as_u64().unwrap() <= SECOND);
    server.clock.advance(SECOND);
    let over = event(&server, &alice, &room, &id).await;
    assert_eq!(over["unsigned"][TTL], Value::Null);
    assert_eq!(over["msc4354_sticky"]["duration_ms"], MINUTE);
    // Not longer than an hour, whatever is asked.
    let id = stick(&server, &alice, &room, "b", 100 * 60 * MINUTE).await;
    let shown = event(&server, &alice, &room, &id).await;
    assert_eq!(shown["msc4354_sticky"]["duration_ms"], 60 * MINUTE);
    let path = format!(
        "/_matrix/client/v3/rooms/{room}/send/m.room.message/c\
         ?org.matrix.msc4354.sticky_duration_ms=-1"
    );
    let refused = server.req(Method::PUT, &path, Some(&alice.token), Some(json!({})));
    let (status, answer) = refused.await;
    assert_eq!(
        (status, &answer["errcode"]),
        (400, &json!("M_INVALID_PARAM"))
    );
    // State may be sticky, and says the same again to stay it.
    let path = format!(
        "/_matrix/client/v3/rooms/{room}/state/org.example.call/k\
         ?org.matrix.msc4354.sticky_duration_ms=5000"
    );
    let set = async || {
        let body = Some(json!({ "on": true }));
        let set = server
            .ok(Method::PUT, &path, Some(&alice.token), body)
            .await;
        set["event_id"].as_str().unwrap().to_owned()
    };
    let (first, second) = (set().await, set().await);
    assert_ne!(first, second);
    let shown = event(&server, &alice, &room, &second).await;
    assert_eq!(shown["msc4354_sticky"]["duration_ms"], 5000);
    // Redacted, it is an event as any other.
    let path = format!("/_matrix/client/v3/rooms/{room}/redact/{id}/r");
    server
        .ok(Method::PUT, &path, Some(&alice.token), Some(json!({})))
        .await;
    let redacted = event(&server, &alice, &room, &id).await;
    assert_eq!(redacted["msc4354_sticky"], Value::Null);
    assert_eq!(redacted["unsigned"][TTL], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sync_tells_those_that_the_timeline_does_not_show() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let first = stick(&server, &alice, &room, "a", MINUTE).await;
    let start = server.sync(&alice, None).await;
    assert!(ids(&start, &room, "timeline").contains(&first));
    assert_eq!(start["rooms"]["join"][&room]["msc4354_sticky"], Value::Null);
    for n in 0..30 {
        server.say(&alice, &room, &n.to_string()).await;
    }
    let second = stick(&server, &alice, &room, "b", MINUTE).await;
    let all = server.sync(&alice, None).await;
    assert_eq!(
        ids(&all, &room, "msc4354_sticky"),
        std::slice::from_ref(&first)
    );
    assert!(ids(&all, &room, "timeline").contains(&second));
    let sticky = &all["rooms"]["join"][&room]["msc4354_sticky"]["events"][0];
    assert!(sticky["unsigned"][TTL].as_u64().unwrap() > 0, "{sticky}");
    // Each is told once, the filter of the timeline does not hide it, an ended one is not told.
    let since = start["next_batch"].as_str().unwrap();
    let next = without_messages(&server, &alice, Some(since)).await;
    assert_eq!(
        ids(&next, &room, "msc4354_sticky"),
        std::slice::from_ref(&second)
    );
    let later = next["next_batch"].as_str().unwrap();
    let next = without_messages(&server, &alice, Some(later)).await;
    assert_eq!(next["rooms"], Value::Null, "{next}");
    server.clock.advance(2 * MINUTE);
    let next = without_messages(&server, &alice, Some(since)).await;
    assert_eq!(ids(&next, &room, "msc4354_sticky"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_is_told_whatever_the_history_visibility() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let state = json!([{ "type": "m.room.history_visibility", "state_key": "",
        "content": { "history_visibility": "joined" } }]);
    let body = json!({ "preset": "public_chat", "initial_state": state });
    let room = server.room(&alice, body).await;
    let since = server.sync(&bob, None).await;
    let since = since["next_batch"].as_str().unwrap();
    let id = stick(&server, &alice, &room, "a", MINUTE).await;
    let plain = server.say(&alice, &room, "not for bob").await;
    assert_eq!(server.sync(&bob, Some(since)).await["rooms"], Value::Null);
    server.join(&bob, &room).await;
    for since in [None, Some(since)] {
        let answer = server.sync(&bob, since).await;
        assert_eq!(
            ids(&answer, &room, "msc4354_sticky"),
            std::slice::from_ref(&id)
        );
        assert!(!ids(&answer, &room, "timeline").contains(&plain));
    }
    // Nothing of somebody who is ignored, and nothing redacted.
    let path = format!(
        "/_matrix/client/v3/user/{}/account_data/m.ignored_user_list",
        bob.user_id
    );
    let ignore = |users: Value| {
        let body = json!({ "ignored_users": users });
        server.ok(Method::PUT, &path, Some(&bob.token), Some(body))
    };
    ignore(json!({ "@alice:test.example": {} })).await;
    let answer = server.sync(&bob, None).await;
    assert_eq!(ids(&answer, &room, "msc4354_sticky"), [""; 0]);
    ignore(json!({})).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/redact/{id}/r");
    server
        .ok(Method::PUT, &path, Some(&alice.token), Some(json!({})))
        .await;
    let answer = server.sync(&bob, None).await;
    assert_eq!(ids(&answer, &room, "msc4354_sticky"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_come_in_pages() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let rooms = [
        server.room(&alice, json!({})).await,
        server.room(&alice, json!({})).await,
    ];
    let mut sent = Vec::new();
    for n in 0..230 {
        sent.push(stick(&server, &alice, &rooms[n % 2], &n.to_string(), 60 * MINUTE).await);
    }
    let mut told = Vec::new();
    let mut since: Option<String> = None;
    for (page, many) in [100, 100, 30, 0].into_iter().enumerate() {
        let answer = without_messages(&server, &alice, since.as_deref()).await;
        let mut events = ids(&answer, &rooms[0], "msc4354_sticky");
        events.extend(ids(&answer, &rooms[1], "msc4354_sticky"));
        assert_eq!(events.len(), many, "page {page}");
        told.extend(events);
        since = Some(answer["next_batch"].as_str().unwrap().to_owned());
    }
    sent.sort();
    told.sort();
    assert_eq!(told, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_outlive_a_restart_and_are_swept() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    let short = stick(&server, &alice, &room, "short", MINUTE).await;
    let long = stick(&server, &alice, &room, "long", 60 * MINUTE).await;
    let server = server.restart().await;
    let told = without_messages(&server, &alice, None).await;
    assert_eq!(ids(&told, &room, "msc4354_sticky"), [short, long.clone()]);
    server.clock.advance(2 * MINUTE);
    server.house.rooms.sweep_sticky().await.unwrap();
    let told = without_messages(&server, &alice, None).await;
    assert_eq!(ids(&told, &room, "msc4354_sticky"), [long]);
    server.clock.advance(60 * MINUTE);
    server.house.rooms.sweep_sticky().await.unwrap();
    let snap = server.house.store.snapshot();
    assert!(snap.scan::<t::Sticky>(Scan::all()).next().is_none());
    assert!(snap.scan::<t::StickyEnds>(Scan::all()).next().is_none());
}
