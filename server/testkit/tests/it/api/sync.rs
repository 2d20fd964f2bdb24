//! `GET /sync` through the API: its parameters, and what it refuses.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

async fn ask(server: &TestServer, who: &Person, query: &str) -> (u16, Value) {
    let path = format!("/_matrix/client/v3/sync?{query}");
    server.req(Method::GET, &path, Some(&who.token), None).await
}

async fn good(server: &TestServer, who: &Person, query: &str) -> Value {
    let (status, answer) = ask(server, who, query).await;
    assert_eq!(status, 200, "{query}: {answer}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    for (query, code) in [
        ("since=nonsense", "M_INVALID_PARAM"),
        ("since=s1_2_3", "M_INVALID_PARAM"),
        ("since=s99999999999_0_0_0", "M_UNKNOWN_POS"),
        ("filter=123", "M_INVALID_PARAM"),
        ("filter=%7B", "M_NOT_JSON"),
        ("filter=%7B%22room%22%3A1%7D", "M_BAD_JSON"),
        ("filter=none", "M_INVALID_PARAM"),
        ("timeout=soon", "M_INVALID_PARAM"),
        ("timeout=-1", "M_INVALID_PARAM"),
        ("full_state=maybe", "M_INVALID_PARAM"),
        ("use_state_after=1", "M_INVALID_PARAM"),
        ("set_presence=asleep", "M_INVALID_PARAM"),
    ] {
        let (status, answer) = ask(&server, &alice, query).await;
        assert_eq!(
            (status, answer["errcode"].as_str()),
            (400, Some(code)),
            "{query}: {answer}"
        );
    }
    let (status, _) = server
        .req(Method::GET, "/_matrix/client/v3/sync", None, None)
        .await;
    assert_eq!(status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_sync_cannot_use_is_not_kept() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let path = format!("/_matrix/client/v3/user/{}/filter", alice.user_id);
    let many: Vec<String> = (0..1_001).map(|n| format!("m.{n}")).collect();
    for filter in [
        json!({"room": {"state": {"lazy_load_members": "true"}}}),
        json!({"room": {"timeline": {"limit": "many"}}}),
        json!({"event_format": "xml"}),
        json!({"presence": {"types": many}}),
    ] {
        let (status, answer) = server
            .req(Method::POST, &path, Some(&alice.token), Some(filter))
            .await;
        assert_eq!(
            (status, &answer["errcode"]),
            (400, &json!("M_BAD_JSON")),
            "{answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_by_id_and_by_themselves() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    server.say(&alice, &room, "one").await;
    let filter = json!({"room": {"timeline": {"limit": 1, "types": ["m.room.message"]}}});
    let path = format!("/_matrix/client/v3/user/{}/filter", alice.user_id);
    let (status, made) = server
        .req(Method::POST, &path, Some(&alice.token), Some(filter))
        .await;
    assert_eq!(status, 200, "{made}");
    let inline = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A1%2C\
                  %22types%22%3A%5B%22m.room.message%22%5D%7D%7D%7D";
    for text in [made["filter_id"].as_str().unwrap(), inline] {
        let answer = good(&server, &alice, &format!("filter={text}")).await;
        let shown = &answer["rooms"]["join"][&room];
        assert_eq!(shown["timeline"]["events"][0]["content"]["body"], "one");
        assert_eq!(shown["timeline"]["events"].as_array().unwrap().len(), 1);
        assert_eq!(shown["timeline"]["limited"], false);
        assert!(shown["state"]["events"].as_array().unwrap().len() > 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_is_answered_when_there_is_news() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = server.room(&alice, json!({"preset": "public_chat"})).await;
    server.join(&bob, &room).await;
    let quiet = "set_presence=offline";
    let since = good(&server, &bob, quiet).await["next_batch"].clone();
    let query = format!("{quiet}&timeout=20000&since={}", since.as_str().unwrap());
    let (answer, _) = tokio::join!(good(&server, &bob, &query), async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        server.say(&alice, &room, "hello").await
    });
    let shown = &answer["rooms"]["join"][&room];
    assert_eq!(shown["timeline"]["events"][0]["content"]["body"], "hello");
    assert_eq!(shown["unread_notifications"]["notification_count"], 1);
    assert_ne!(answer["next_batch"], since);
    // Nothing new: the same again, but empty, and at once.
    let since = answer["next_batch"].as_str().unwrap();
    let empty = good(&server, &bob, &format!("{quiet}&since={since}")).await;
    assert!(empty.get("rooms").is_none(), "{empty}");
    // Where a sync begins, paging goes on.
    let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&from={since}&limit=1");
    let (status, page) = server.req(Method::GET, &path, Some(&bob.token), None).await;
    assert_eq!(
        (status, &page["chunk"][0]["content"]["body"]),
        (200, &json!("hello"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn state_after_takes_the_place_of_state() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    for (query, name, other) in [
        ("", "state", "state_after"),
        ("use_state_after=false", "state", "state_after"),
        ("use_state_after=true", "state_after", "state"),
    ] {
        let answer = good(&server, &alice, query).await;
        let shown = &answer["rooms"]["join"][&room];
        assert!(
            shown.get(name).is_some() && shown.get(other).is_none(),
            "{query}: {shown}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_sync_says_that_nobody_types_any_more() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    let quiet = server.room(&alice, json!({})).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/typing/{}", alice.user_id);
    for typing in [true, false] {
        let body = Some(json!({ "typing": typing, "timeout": 30_000 }));
        server
            .ok(Method::PUT, &path, Some(&alice.token), body)
            .await;
    }
    let told = server.sync(&alice, None).await;
    let events = |room: &str| told["rooms"]["join"][room]["ephemeral"]["events"].clone();
    let nobody = json!([{ "type": "m.typing", "content": { "user_ids": [] } }]);
    assert_eq!(events(&room), nobody);
    assert_eq!(events(&quiet), json!([]));
}
