//! Sliding sync through the API: lists and what is told of rooms. Filters and extensions have
//! files of their own.

mod extensions;
mod filters;
mod rooms;

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

const PATH: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";

/// A connection of a client that gets every answer.
struct Conn<'a> {
    server: &'a TestServer,
    who: &'a Person,
    pos: Option<String>,
}

impl<'a> Conn<'a> {
    fn new(server: &'a TestServer, who: &'a Person) -> Conn<'a> {
        Conn {
            server,
            who,
            pos: None,
        }
    }

    /// Asks, waiting this long; the answer is not taken.
    async fn peek(&self, body: &Value, timeout_ms: u64) -> (u16, Value) {
        let mut path = format!("{PATH}?set_presence=offline&timeout={timeout_ms}");
        if let Some(pos) = &self.pos {
            path.push_str(&format!("&pos={pos}"));
        }
        let token = Some(&*self.who.token);
        self.server
            .req(Method::POST, &path, token, Some(body.clone()))
            .await
    }

    /// Asks at once.
    async fn ask(&mut self, body: &Value) -> Value {
        self.wait(body, 0).await
    }

    async fn wait(&mut self, body: &Value, timeout_ms: u64) -> Value {
        let (status, answer) = self.peek(body, timeout_ms).await;
        assert_eq!(status, 200, "{answer}");
        self.pos = Some(answer["pos"].as_str().unwrap().to_owned());
        answer
    }
}

/// One list named `all`.
fn list(ranges: Value, more: Value) -> Value {
    let mut list = json!({"ranges": ranges, "timeline_limit": 5, "required_state": []});
    for (key, value) in more.as_object().unwrap() {
        list[key] = value.clone();
    }
    json!({"lists": {"all": list}})
}

/// The rooms at the first range of a list, by name.
fn listed(answer: &Value) -> Vec<String> {
    let rooms = answer["lists"]["all"]["ops"][0]["room_ids"].as_array();
    let rooms = rooms.unwrap_or_else(|| panic!("{answer}")).iter();
    rooms
        .map(|room| room.as_str().unwrap().to_owned())
        .collect()
}

/// The rooms of which something is told, sorted.
fn told(answer: &Value) -> Vec<String> {
    let mut rooms: Vec<String> = answer["rooms"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    rooms.sort();
    rooms
}

/// Texts of messages, and types of other events.
fn words(events: &Value) -> Vec<String> {
    let events = events.as_array().cloned().unwrap_or_default();
    let word = |event: &Value| {
        let text = event["content"]["body"].as_str();
        text.or(event["type"].as_str()).unwrap().to_owned()
    };
    events.iter().map(word).collect()
}

/// Types and keys of state events, sorted.
fn keys(events: &Value) -> Vec<(String, String)> {
    let events = events.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut keys: Vec<_> = events
        .iter()
        .map(|event| (text(&event["type"]), text(&event["state_key"])))
        .collect();
    keys.sort();
    keys
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    of.iter().map(pair).collect()
}

async fn put(server: &TestServer, who: &Person, path: &str, content: Value) -> Value {
    let path = format!("/_matrix/client/v3/{path}");
    let token = Some(&*who.token);
    let (status, answer) = server.req(Method::PUT, &path, token, Some(content)).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

async fn post(server: &TestServer, who: &Person, path: &str, content: Value) -> Value {
    let path = format!("/_matrix/client/v3/{path}");
    let token = Some(&*who.token);
    let (status, answer) = server.req(Method::POST, &path, token, Some(content)).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// A public room with this name.
async fn named(server: &TestServer, who: &Person, name: &str) -> String {
    server
        .room(who, json!({"preset": "public_chat", "name": name}))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_onto_rooms_sorted_by_talk() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let mut rooms = Vec::new();
    for name in ["one", "two", "three", "four"] {
        rooms.push(named(&server, &alice, name).await);
    }
    let mut conn = Conn::new(&server, &alice);
    let body = list(json!([[0, 1]]), json!({}));
    let answer = conn.ask(&body).await;
    assert_eq!(answer["lists"]["all"]["count"], 4);
    assert_eq!(answer["lists"]["all"]["ops"][0]["op"], "SYNC");
    assert_eq!(answer["lists"]["all"]["ops"][0]["range"], json!([0, 1]));
    assert_eq!(listed(&answer), [&*rooms[3], &*rooms[2]]);
    let mut both = vec![rooms[2].clone(), rooms[3].clone()];
    both.sort();
    assert_eq!(told(&answer), both);
    let top = &answer["rooms"][&rooms[3]];
    assert_eq!(
        (&top["initial"], &top["name"]),
        (&json!(true), &json!("four"))
    );
    assert_eq!(
        (&top["lists"], &top["membership"]),
        (&json!(["all"]), &json!("join"))
    );
    assert!(top["bump_stamp"].as_u64() > answer["rooms"][&rooms[2]]["bump_stamp"].as_u64());
    // What is no talk moves nothing; talk moves a room to the top.
    put(
        &server,
        &alice,
        &format!("rooms/{}/state/m.room.topic/", rooms[0]),
        json!({"topic": "x"}),
    )
    .await;
    let answer = conn.ask(&body).await;
    assert_eq!(
        (listed(&answer), told(&answer)),
        (vec![rooms[3].clone(), rooms[2].clone()], vec![])
    );
    server.say(&alice, &rooms[0], "hello").await;
    let answer = conn.ask(&body).await;
    assert_eq!(listed(&answer), [&*rooms[0], &*rooms[3]]);
    assert_eq!(told(&answer), [&*rooms[0]]);
    let room = &answer["rooms"][&rooms[0]];
    assert_eq!(
        (&room["initial"], &room["num_live"]),
        (&json!(true), &json!(1))
    );
    // The whole list by several ranges, and without any.
    let answer = conn.ask(&list(json!([[0, 0], [2, 90]]), json!({}))).await;
    assert_eq!(
        answer["lists"]["all"]["ops"][1]["room_ids"],
        json!([rooms[2], rooms[1]])
    );
    for more in [json!({"ranges": null}), json!({"slow_get_all_rooms": true})] {
        let answer = Conn::new(&server, &alice)
            .ask(&list(json!([[0, 0]]), more))
            .await;
        assert_eq!(told(&answer).len(), 4);
    }
    let nothing = Conn::new(&server, &alice)
        .ask(&list(json!([]), json!({})))
        .await;
    assert_eq!(
        (told(&nothing), &nothing["lists"]["all"]["count"]),
        (vec![], &json!(4))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_was_out_of_sight_is_caught_up_with() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let (one, two) = (
        named(&server, &alice, "one").await,
        named(&server, &alice, "two").await,
    );
    let mut conn = Conn::new(&server, &alice);
    let narrow = list(
        json!([[0, 0]]),
        json!({"required_state": [["m.room.topic", ""]]}),
    );
    assert_eq!(told(&conn.ask(&narrow).await), [&*two]);
    server.say(&alice, &one, "a").await;
    assert_eq!(told(&conn.ask(&narrow).await), [&*one]);
    put(
        &server,
        &alice,
        &format!("rooms/{two}/state/m.room.topic/"),
        json!({"topic": "x"}),
    )
    .await;
    assert_eq!(told(&conn.ask(&narrow).await), [""; 0]);
    server.say(&alice, &one, "b").await;
    conn.ask(&narrow).await;
    server.say(&alice, &two, "c").await;
    let answer = conn.ask(&narrow).await;
    let room = &answer["rooms"][&two];
    assert!(room.get("initial").is_none(), "{room}");
    assert_eq!(words(&room["timeline"]), ["m.room.topic", "c"]);
    assert_eq!(
        (&room["num_live"], &room["limited"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(
        keys(&room["required_state"]),
        pairs(&[("m.room.topic", "")])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_given_again() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = named(&server, &alice, "one").await;
    let mut conn = Conn::new(&server, &alice);
    let body = list(json!([[0, 9]]), json!({}));
    conn.ask(&body).await;
    server.say(&alice, &room, "a").await;
    let (_, lost) = conn.peek(&body, 0).await;
    assert_eq!(words(&lost["rooms"][&room]["timeline"]), ["a"]);
    server.say(&alice, &room, "b").await;
    let (_, lost) = conn.peek(&body, 0).await;
    assert_eq!(words(&lost["rooms"][&room]["timeline"]), ["a", "b"]);
    // A room that the client first hears of in a lost answer is new to it in the next too.
    let other = named(&server, &alice, "two").await;
    let (_, lost) = conn.peek(&body, 0).await;
    assert_eq!(lost["rooms"][&other]["initial"], true);
    let answer = conn.ask(&body).await;
    assert_eq!(answer["rooms"][&other]["initial"], true);
    assert_eq!(words(&answer["rooms"][&room]["timeline"]), ["a", "b"]);
    assert_eq!(told(&conn.ask(&body).await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_not_known_is_refused() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    named(&server, &alice, "one").await;
    named(&server, &bob, "two").await;
    let mut conn = Conn::new(&server, &alice);
    let body = list(json!([[0, 9]]), json!({}));
    conn.ask(&body).await;
    let first = conn.pos.clone();
    conn.ask(&body).await;
    conn.ask(&body).await;
    let good = conn.pos.clone();
    // Long acknowledged; another's; another connection's; nonsense; of a time to come.
    let other = Conn {
        server: &server,
        who: &bob,
        pos: good.clone(),
    };
    let (status, answer) = other.peek(&body, 0).await;
    assert_eq!((status, &answer["errcode"]), (400, &json!("M_UNKNOWN_POS")));
    let mut named = body.clone();
    named["conn_id"] = json!("other");
    let future = Some("s99999999_1_0_0~0".to_owned());
    let nonsense = Some("5/s58_224_0_13".to_owned());
    for (pos, body) in [
        (first, &body),
        (good.clone(), &named),
        (nonsense, &body),
        (future, &body),
    ] {
        conn.pos = pos;
        let (status, answer) = conn.peek(body, 0).await;
        assert_eq!(
            (status, &answer["errcode"]),
            (400, &json!("M_UNKNOWN_POS")),
            "{:?}",
            conn.pos
        );
    }
    conn.pos = good.clone();
    assert_eq!(conn.peek(&body, 0).await.0, 200);
    // Two connections of one device do not disturb each other.
    conn.pos = None;
    assert_eq!(told(&conn.ask(&named).await).len(), 1);
    assert_eq!(told(&conn.ask(&named).await).len(), 0);
    conn.pos = good.clone();
    assert_eq!(told(&conn.ask(&body).await).len(), 0);
    // What is remembered of connections does not outlive the server.
    let good = conn.pos.clone();
    let server = server.restart().await;
    let conn = Conn {
        server: &server,
        who: &alice,
        pos: good,
    };
    let (status, answer) = conn.peek(&body, 0).await;
    assert_eq!((status, &answer["errcode"]), (400, &json!("M_UNKNOWN_POS")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_is_answered_when_there_is_news() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = named(&server, &alice, "one").await;
    server.join(&bob, &room).await;
    let mut conn = Conn::new(&server, &bob);
    let mut body = list(json!([[0, 9]]), json!({}));
    body["txn_id"] = json!("t1");
    let answer = conn.ask(&body).await;
    assert_eq!(answer["txn_id"], "t1");
    let (answer, _) = tokio::join!(conn.wait(&body, 20_000), async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        server.say(&alice, &room, "hello").await
    });
    let shown = &answer["rooms"][&room];
    assert_eq!(words(&shown["timeline"]), ["hello"]);
    assert_eq!(
        (&shown["notification_count"], &shown["num_live"]),
        (&json!(1), &json!(1))
    );
    // Nothing new: empty, when the time is over.
    let begun = std::time::Instant::now();
    let answer = conn.wait(&body, 200).await;
    assert!(begun.elapsed().as_millis() >= 200 && told(&answer).is_empty());
    // A change of what is asked is answered at once.
    body["room_subscriptions"] = json!({room.clone(): {"timeline_limit": 1,
        "required_state": [["m.room.name", ""]]}});
    let answer = conn.wait(&body, 20_000).await;
    assert_eq!(
        keys(&answer["rooms"][&room]["required_state"]),
        pairs(&[("m.room.name", "")])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let conn = Conn::new(&server, &alice);
    let wrong = |list: Value| json!({"lists": {"all": list}});
    for (body, code) in [
        (json!({"lists": []}), "M_BAD_JSON"),
        (
            wrong(json!({"ranges": [[0]], "timeline_limit": 1})),
            "M_BAD_JSON",
        ),
        (
            wrong(json!({"ranges": [[-1, 2]], "timeline_limit": 1})),
            "M_BAD_JSON",
        ),
        (
            wrong(json!({"ranges": [[0, 2]], "timeline_limit": "1"})),
            "M_BAD_JSON",
        ),
        (
            wrong(json!({"timeline_limit": 1, "filters": {"is_dm": "yes"}})),
            "M_BAD_JSON",
        ),
        (
            wrong(json!({"timeline_limit": 1, "required_state": [["m.room.name"]]})),
            "M_BAD_JSON",
        ),
        (wrong(json!({"timeline_limit": 1_001})), "M_INVALID_PARAM"),
        (json!({"conn_id": "x".repeat(300)}), "M_INVALID_PARAM"),
        (
            json!({"extensions": {"to_device": {"enabled": true, "since": "soon"}}}),
            "M_INVALID_PARAM",
        ),
    ] {
        let (status, answer) = conn.peek(&body, 0).await;
        assert_eq!((status, &answer["errcode"]), (400, &json!(code)), "{body}");
    }
    let (status, _) = server.req(Method::POST, PATH, None, Some(json!({}))).await;
    assert_eq!(status, 401);
}
