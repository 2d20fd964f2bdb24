//! Messages that end (MSC1763), as clients see it.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

const HOUR_MS: u64 = 3_600_000;

fn escape(text: &str) -> String {
    text.replace('!', "%21")
        .replace('$', "%24")
        .replace(':', "%3A")
}

async fn get(server: &TestServer, who: &Person, room: &str, rest: &str) -> (u16, Value) {
    let path = format!("/_matrix/client/v3/rooms/{}/{rest}", escape(room));
    server.req(Method::GET, &path, Some(&who.token), None).await
}

async fn keep(server: &TestServer, who: &Person, room: &str, content: Value) -> (u16, Value) {
    let room = escape(room);
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.retention");
    server
        .req(Method::PUT, &path, Some(&who.token), Some(content))
        .await
}

/// Every endpoint that gives events gives expired ones no more, before they are deleted and after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_messages_are_nowhere() {
    let server = TestServer::start_with("[retention]\nenabled = true");
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = server
        .room(&alice, json!({ "preset": "public_chat", "name": "Tea" }))
        .await;
    server.join(&bob, &room).await;
    let (status, _) = keep(&server, &alice, &room, json!({ "max_lifetime": HOUR_MS })).await;
    assert_eq!(status, 200);
    let old = server.say(&alice, &room, "needle old").await;
    server.clock.advance(2 * HOUR_MS);
    let young = server.say(&alice, &room, "needle young").await;

    for purged in [false, true] {
        let (status, _) = get(&server, &bob, &room, &format!("event/{}", escape(&old))).await;
        assert_eq!(status, 404);
        let (status, _) = get(&server, &bob, &room, &format!("context/{}", escape(&old))).await;
        assert_eq!(status, 404);
        let (_, page) = get(&server, &bob, &room, "messages?dir=b&limit=100").await;
        let text = page.to_string();
        assert!(text.contains("needle young") && !text.contains("needle old"));
        assert!(text.contains("m.room.name"), "state stays: {text}");
        let context = format!("context/{}?limit=50", escape(&young));
        let (_, around) = get(&server, &bob, &room, &context).await;
        assert!(!around.to_string().contains("needle old"));
        let sync = server.sync(&bob, None).await;
        let joined = &sync["rooms"]["join"][&room];
        let text = joined["timeline"].to_string();
        assert!(text.contains("needle young") && !text.contains("needle old"));
        assert_eq!(joined["unread_notifications"]["notification_count"], 1);
        let body = json!({
            "search_categories": { "room_events": { "search_term": "needle" } },
        });
        let path = "/_matrix/client/v3/search";
        let token = Some(bob.token.as_str());
        let found = server.ok(Method::POST, path, token, Some(body)).await;
        assert_eq!(found["search_categories"]["room_events"]["count"], 1);
        if !purged {
            let mut purge = Default::default();
            let gone = server.house.rooms.purge_expired(&mut purge).await;
            assert_eq!(gone.unwrap(), 1);
        }
    }
    let server = server.restart().await;
    let (status, _) = get(&server, &bob, &room, &format!("event/{}", escape(&young))).await;
    assert_eq!(status, 200);
}

/// Without the operator's leave nothing ends, whatever a room says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn off_by_default() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    let (status, _) = keep(&server, &alice, &room, json!({ "max_lifetime": 1 })).await;
    assert_eq!(status, 200);
    let old = server.say(&alice, &room, "old").await;
    server.clock.advance(HOUR_MS);
    let (status, _) = get(&server, &alice, &room, &format!("event/{}", escape(&old))).await;
    assert_eq!(status, 200);
    for wrong in [
        json!({ "max_lifetime": "x" }),
        json!({ "min_lifetime": 2, "max_lifetime": 1 }),
    ] {
        let (status, answer) = keep(&server, &alice, &room, wrong).await;
        assert_eq!((status, &answer["errcode"]), (400, &json!("M_BAD_JSON")));
    }
}
