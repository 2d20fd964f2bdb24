//! Rooms read without being in them, and the deprecated ways to follow and to survey rooms.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

fn escape(text: &str) -> String {
    text.replace('%', "%25")
        .replace('!', "%21")
        .replace('$', "%24")
        .replace(':', "%3A")
}

async fn get(server: &TestServer, who: &Person, path: &str) -> (u16, Value) {
    let path = format!("/_matrix/client/v3/{path}");
    server.req(Method::GET, &path, Some(&who.token), None).await
}

async fn ok(server: &TestServer, who: &Person, path: &str) -> Value {
    let (status, answer) = get(server, who, path).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

async fn put(server: &TestServer, who: &Person, path: &str, body: Value) -> Value {
    let path = format!("/_matrix/client/v3/{path}");
    server
        .ok(Method::PUT, &path, Some(&who.token), Some(body))
        .await
}

async fn visibility(server: &TestServer, who: &Person, room: &str, value: &str) {
    let path = format!("rooms/{}/state/m.room.history_visibility", escape(room));
    put(server, who, &path, json!({ "history_visibility": value })).await;
}

fn bodies(events: &Value) -> Vec<String> {
    let events = events.as_array().unwrap().iter();
    events
        .filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned()))
        .collect()
}

async fn guest(server: &TestServer) -> Person {
    let path = "/_matrix/client/v3/register?kind=guest";
    let answer = server.ok(Method::POST, path, None, Some(json!({}))).await;
    Person {
        user_id: answer["user_id"].as_str().unwrap().to_owned(),
        token: answer["access_token"].as_str().unwrap().to_owned(),
        device: answer["device_id"].as_str().unwrap().to_owned(),
    }
}

/// A room in which something was said before it was opened to everybody, and after.
async fn opened(server: &TestServer, alice: &Person) -> (String, String, String) {
    let room = server.room(alice, json!({ "preset": "public_chat" })).await;
    let closed = server.say(alice, &room, "among us").await;
    visibility(server, alice, &room, "world_readable").await;
    let open = server.say(alice, &room, "to all").await;
    (room, closed, open)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_room_is_read_without_joining_by_people_and_guests() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let (room, closed, open) = opened(&server, &alice).await;
    let at = format!("rooms/{}", escape(&room));
    for reader in [server.person("bob").await, guest(&server).await] {
        let page = ok(&server, &reader, &format!("{at}/messages?dir=b&limit=50")).await;
        assert_eq!(bodies(&page["chunk"]), ["to all"]);
        let state = ok(&server, &reader, &format!("{at}/state")).await;
        assert!(state.as_array().unwrap().len() > 4);
        let one = ok(&server, &reader, &format!("{at}/state/m.room.create")).await;
        assert_eq!(one["room_version"], "12");
        let members = ok(&server, &reader, &format!("{at}/members")).await;
        assert_eq!(members["chunk"][0]["state_key"], alice.user_id);
        let (open, closed) = (escape(&open), escape(&closed));
        let around = ok(&server, &reader, &format!("{at}/context/{open}?limit=20")).await;
        assert_eq!(bodies(&around["events_before"]), Vec::<String>::new());
        ok(&server, &reader, &format!("{at}/event/{open}")).await;
        for path in [
            format!("{at}/event/{closed}"),
            format!("{at}/context/{closed}"),
        ] {
            let (status, _) = get(&server, &reader, &path).await;
            assert_eq!(status, 404, "{path}");
        }
        let glance = ok(&server, &reader, &format!("{at}/initialSync?limit=20")).await;
        let chunk = &glance["messages"]["chunk"];
        assert_eq!(chunk[0]["type"], "m.room.history_visibility");
        assert_eq!(bodies(chunk), ["to all"]);
        assert_eq!(chunk.as_array().unwrap().len(), 2);
        assert!(glance.get("membership").is_none());
        assert_eq!(glance["visibility"], "private");
        assert_eq!(glance["presence"][0]["content"]["user_id"], alice.user_id);
    }
    visibility(&server, &alice, &room, "shared").await;
    server.say(&alice, &room, "closed again").await;
    let bob = server.log_in("bob").await;
    for rest in ["messages?dir=b", "state", "members", "initialSync"] {
        let (status, refused) = get(&server, &bob, &format!("{at}/{rest}")).await;
        let refused = (status, refused["errcode"].as_str());
        assert_eq!(refused, (403, Some("M_FORBIDDEN")), "{rest}");
    }
    let (status, _) = get(&server, &bob, &format!("events?room_id={}", escape(&room))).await;
    assert_eq!(status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_hears_an_open_room_and_nothing_else() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let listener = guest(&server).await;
    let (room, ..) = opened(&server, &alice).await;
    let (status, _) = get(&server, &listener, "events?timeout=0").await;
    assert_eq!(status, 403, "guests have to name a room");
    let at = format!("events?room_id={}", escape(&room));
    let glance = ok(
        &server,
        &listener,
        &format!("rooms/{}/initialSync", escape(&room)),
    )
    .await;
    let from = glance["messages"]["end"].as_str().unwrap();
    let nothing = ok(&server, &listener, &format!("{at}&timeout=0&from={from}")).await;
    assert_eq!(nothing["chunk"], json!([]));
    assert_eq!(nothing["start"], from);

    let private = server.room(&alice, json!({})).await;
    let path = format!(
        "{at}&timeout=20000&from={}",
        nothing["end"].as_str().unwrap()
    );
    let heard = async {
        let mut path = path.clone();
        loop {
            let heard = ok(&server, &listener, &path).await;
            let end = heard["end"].as_str().unwrap();
            path = format!("{at}&timeout=20000&from={end}");
            let chunk = heard["chunk"].as_array().unwrap();
            if chunk.iter().any(|event| event["type"] != "m.presence") {
                return heard;
            }
        }
    };
    let said = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        server.say(&alice, &private, "not for you").await;
        server.say(&alice, &room, "hear").await
    };
    let (heard, event) = tokio::join!(heard, said);
    assert_eq!(bodies(&heard["chunk"]), ["hear"]);
    let end = heard["end"].as_str().unwrap();

    let receipt = format!("rooms/{}/receipt/m.read/{}", escape(&room), escape(&event));
    let path = format!("/_matrix/client/v3/{receipt}");
    let token = Some(alice.token.as_str());
    server.ok(Method::POST, &path, token, Some(json!({}))).await;
    let typing = format!("rooms/{}/typing/{}", escape(&room), escape(&alice.user_id));
    put(
        &server,
        &alice,
        &typing,
        json!({ "typing": true, "timeout": 5000 }),
    )
    .await;
    let heard = ok(&server, &listener, &format!("{at}&timeout=0&from={end}")).await;
    let of_kind = |kind: &str| {
        let chunk = heard["chunk"].as_array().unwrap().clone();
        chunk.into_iter().find(|event| event["type"] == kind)
    };
    let receipt = of_kind("m.receipt").unwrap();
    assert!(receipt["content"][&event]["m.read"][&alice.user_id].is_object());
    assert_eq!(receipt["room_id"], room);
    let typing = of_kind("m.typing").unwrap();
    assert_eq!(typing["content"]["user_ids"], json!([alice.user_id]));
    assert_eq!(typing["room_id"], room);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_stream_tells_everything_in_order_and_without_gaps() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let rooms = [
        server
            .room(&alice, json!({ "preset": "public_chat" }))
            .await,
        server
            .room(&alice, json!({ "preset": "public_chat" }))
            .await,
    ];
    for room in &rooms {
        server.join(&bob, room).await;
    }
    let start = ok(&server, &bob, "events?timeout=0").await;
    let mut from = start["end"].as_str().unwrap().to_owned();
    let mut said = Vec::new();
    for n in 0..12 {
        let text = format!("number {n}");
        server.say(&alice, &rooms[n % 2], &text).await;
        said.push(text);
    }
    let path = format!("user/{}/account_data/my.data", escape(&bob.user_id));
    put(&server, &bob, &path, json!({ "a": 1 })).await;
    let third = server.room(&alice, json!({})).await;
    server.invite(&alice, &third, &bob).await;
    let (mut heard, mut others) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let part = ok(
            &server,
            &bob,
            &format!("events?timeout=0&limit=5&from={from}"),
        )
        .await;
        from = part["end"].as_str().unwrap().to_owned();
        heard.extend(bodies(&part["chunk"]));
        others.extend(part["chunk"].as_array().unwrap().clone());
    }
    assert_eq!(heard, said);
    let data: Vec<_> = others
        .iter()
        .filter(|event| event["type"] == "my.data")
        .collect();
    assert_eq!(data[0]["content"], json!({ "a": 1 }));
    let invite = others
        .iter()
        .find(|event| event["room_id"] == third)
        .unwrap();
    assert_eq!(invite["content"]["membership"], "invite");
    assert_eq!(invite["user_id"], alice.user_id);
    let (status, _) = get(&server, &bob, "events?from=nonsense").await;
    assert_eq!(status, 400);
    for wrong in [
        "events?limit=-2",
        "events?limit=x",
        "events?timeout=x",
        "initialSync?limit=x",
    ] {
        assert_eq!(get(&server, &bob, wrong).await.0, 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_initial_sync_shows_rooms_as_they_are_or_were() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let joined = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let left = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let invited = server.room(&alice, json!({ "name": "come in" })).await;
    for room in [&joined, &left] {
        server.join(&bob, room).await;
    }
    server.say(&alice, &left, "before").await;
    let leave = format!("/_matrix/client/v3/rooms/{}/leave", escape(&left));
    server
        .ok(Method::POST, &leave, Some(&bob.token), Some(json!({})))
        .await;
    server.say(&alice, &left, "after").await;
    let topic = format!("rooms/{}/state/m.room.topic", escape(&left));
    put(&server, &alice, &topic, json!({ "topic": "after" })).await;
    server.invite(&alice, &invited, &bob).await;
    let tag = format!(
        "user/{}/rooms/{}/tags/u.x",
        escape(&bob.user_id),
        escape(&joined)
    );
    put(&server, &bob, &tag, json!({ "order": 0.5 })).await;

    let all = ok(&server, &bob, "initialSync?limit=2&archived=true").await;
    let room = |id: &str| {
        let rooms = all["rooms"].as_array().unwrap().clone();
        rooms
            .into_iter()
            .find(|room| room["room_id"] == id)
            .unwrap()
    };
    let here = room(&joined);
    assert_eq!(here["membership"], "join");
    assert_eq!(here["messages"]["chunk"].as_array().unwrap().len(), 2);
    assert_eq!(here["account_data"][0]["type"], "m.tag");
    let mine = here["state"].as_array().unwrap().iter();
    let mine = mine
        .filter(|event| event["state_key"] == bob.user_id)
        .count();
    assert_eq!(mine, 1);
    let gone = room(&left);
    assert_eq!(gone["membership"], "leave");
    assert_eq!(bodies(&gone["messages"]["chunk"]), ["before"]);
    let topics = gone["state"].as_array().unwrap().iter();
    assert_eq!(
        topics
            .filter(|event| event["type"] == "m.room.topic")
            .count(),
        0
    );
    let come = room(&invited);
    assert_eq!(come["membership"], "invite");
    assert_eq!(come["inviter"], alice.user_id);
    assert_eq!(come["invite"]["content"]["membership"], "invite");
    assert!(come.get("state").is_none());
    let people = all["presence"].as_array().unwrap().iter();
    let mut people = people.map(|event| event["content"]["user_id"].as_str().unwrap());
    assert!(people.any(|id| id == bob.user_id), "{}", all["presence"]);

    let all = ok(&server, &bob, "initialSync?limit=0").await;
    let ids: Vec<&str> = all["rooms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|room| room["room_id"].as_str().unwrap())
        .collect();
    assert!(!ids.contains(&&*left));
    assert!(all["rooms"].as_array().unwrap().iter().all(|room| {
        room["messages"]["chunk"]
            .as_array()
            .is_none_or(Vec::is_empty)
    }));
    let from = all["end"].as_str().unwrap();
    server.say(&alice, &joined, "news").await;
    let news = ok(&server, &bob, &format!("events?timeout=0&from={from}")).await;
    assert_eq!(bodies(&news["chunk"]), ["news"]);
    let one = ok(
        &server,
        &bob,
        &format!("rooms/{}/initialSync", escape(&left)),
    )
    .await;
    assert_eq!(
        (&one["membership"], &one["presence"]),
        (&json!("leave"), &json!([]))
    );
    let event = news["chunk"][0]["event_id"].as_str().unwrap();
    let event = ok(&server, &bob, &format!("events/{}", escape(event))).await;
    assert_eq!(event["content"]["body"], "news");
    let stranger = server.person("stranger").await;
    let path = format!("events/{}", escape(event["event_id"].as_str().unwrap()));
    assert_eq!(get(&server, &stranger, &path).await.0, 404);
}
