//! Reading rooms through the API: each endpoint once well, and with what it refuses.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

fn escape(text: &str) -> String {
    text.replace('%', "%25")
        .replace('!', "%21")
        .replace('$', "%24")
        .replace(':', "%3A")
}

struct Scene {
    server: TestServer,
    alice: Person,
    bob: Person,
    stranger: Person,
    room: String,
    /// Ids of three messages.
    said: Vec<String>,
}

impl Scene {
    async fn new() -> Scene {
        let server = TestServer::start();
        let alice = server.person("alice").await;
        let bob = server.person("bob").await;
        let stranger = server.person("stranger").await;
        let room = server
            .room(&alice, json!({ "preset": "public_chat", "topic": "tea" }))
            .await;
        server.join(&bob, &room).await;
        let mut said = Vec::new();
        for text in ["one", "two", "three"] {
            said.push(server.say(&alice, &room, text).await);
        }
        Scene {
            server,
            alice,
            bob,
            stranger,
            room,
            said,
        }
    }

    fn path(&self, version: &str, rest: &str) -> String {
        format!(
            "/_matrix/client/{version}/rooms/{}/{rest}",
            escape(&self.room)
        )
    }

    async fn get(&self, who: &Person, rest: &str) -> (u16, Value) {
        self.server
            .req(Method::GET, &self.path("v3", rest), Some(&who.token), None)
            .await
    }

    async fn get_v1(&self, who: &Person, rest: &str) -> (u16, Value) {
        self.server
            .req(Method::GET, &self.path("v1", rest), Some(&who.token), None)
            .await
    }

    async fn post(&self, who: &Person, rest: &str, body: Value) -> (u16, Value) {
        let path = self.path("v3", rest);
        self.server
            .req(Method::POST, &path, Some(&who.token), Some(body))
            .await
    }

    async fn refused(&self, who: &Person, rest: &str, status: u16, errcode: &str) {
        let (got, body) = self.get(who, rest).await;
        assert_eq!(
            (got, body["errcode"].as_str()),
            (status, Some(errcode)),
            "{rest}: {body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_and_events() {
    let scene = Scene::new().await;
    let (status, page) = scene.get(&scene.bob, "messages?dir=b&limit=2").await;
    assert_eq!(status, 200, "{page}");
    assert_eq!(page["chunk"][0]["event_id"], scene.said[2]);
    assert_eq!(page["chunk"][1]["content"]["body"], "two");
    let end = page["end"].as_str().unwrap();
    let (_, older) = scene
        .get(&scene.bob, &format!("messages?dir=b&limit=1&from={end}"))
        .await;
    assert_eq!(older["chunk"][0]["event_id"], scene.said[0]);
    assert_eq!(older["start"], end);
    let sync = scene.server.sync(&scene.bob, None).await;
    let batch = sync["rooms"]["join"][&scene.room]["timeline"]["prev_batch"]
        .as_str()
        .unwrap();
    let (status, _) = scene
        .get(&scene.bob, &format!("messages?dir=b&from={batch}"))
        .await;
    assert_eq!(status, 200);
    let since = sync["next_batch"].as_str().unwrap();
    let (_, latest) = scene
        .get(&scene.bob, &format!("messages?dir=b&from={since}&limit=1"))
        .await;
    assert_eq!(latest["chunk"][0]["event_id"], scene.said[2]);
    for (rest, status, errcode) in [
        ("messages", 400, "M_MISSING_PARAM"),
        ("messages?dir=x", 400, "M_INVALID_PARAM"),
        ("messages?dir=b&from=nonsense", 400, "M_INVALID_PARAM"),
        ("messages?dir=b&limit=-1", 400, "M_INVALID_PARAM"),
        ("messages?dir=b&filter=nonsense", 400, "M_INVALID_PARAM"),
        ("event/%24none", 404, "M_NOT_FOUND"),
        ("context/%24none", 404, "M_NOT_FOUND"),
        ("state/m.nothing", 404, "M_NOT_FOUND"),
        ("state/m.room.topic/?format=x", 400, "M_INVALID_PARAM"),
        ("members?membership=x", 400, "M_INVALID_PARAM"),
        ("members?at=x", 400, "M_INVALID_PARAM"),
    ] {
        scene.refused(&scene.bob, rest, status, errcode).await;
    }
    let event = escape(&scene.said[0]);
    for rest in [
        "messages?dir=b",
        "state",
        "state/m.room.topic",
        "members",
        "joined_members",
    ] {
        scene
            .refused(&scene.stranger, rest, 403, "M_FORBIDDEN")
            .await;
    }
    scene
        .refused(
            &scene.stranger,
            &format!("event/{event}"),
            404,
            "M_NOT_FOUND",
        )
        .await;
    scene
        .refused(
            &scene.stranger,
            &format!("context/{event}"),
            403,
            "M_FORBIDDEN",
        )
        .await;
    let (_, one) = scene.get(&scene.bob, &format!("event/{event}")).await;
    assert_eq!(
        (&one["content"]["body"], &one["room_id"]),
        (&json!("one"), &json!(scene.room))
    );
    let (_, around) = scene
        .get(&scene.bob, &format!("context/{event}?limit=2"))
        .await;
    assert_eq!(around["event"]["event_id"], scene.said[0]);
    assert_eq!(around["events_after"][0]["event_id"], scene.said[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_and_members() {
    let scene = Scene::new().await;
    let (_, topic) = scene.get(&scene.bob, "state/m.room.topic").await;
    assert_eq!(topic["topic"], "tea");
    for rest in [
        "state/m.room.topic/?format=event",
        "state/m.room.topic?format=event",
    ] {
        let (_, topic) = scene.get(&scene.bob, rest).await;
        assert_eq!(
            (&topic["type"], &topic["state_key"]),
            (&json!("m.room.topic"), &json!(""))
        );
    }
    let (_, state) = scene.get(&scene.bob, "state").await;
    assert!(
        state
            .as_array()
            .unwrap()
            .iter()
            .any(|event| event["type"] == "m.room.create")
    );
    let (_, members) = scene.get(&scene.bob, "members?membership=join").await;
    assert_eq!(members["chunk"].as_array().unwrap().len(), 2);
    let (_, joined) = scene.get(&scene.bob, "joined_members").await;
    assert!(joined["joined"][&scene.bob.user_id].is_object());
    let path = "/_matrix/client/v3/joined_rooms";
    let rooms = scene
        .server
        .ok(Method::GET, path, Some(&scene.bob.token), None)
        .await;
    assert_eq!(rooms, json!({ "joined_rooms": [scene.room] }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relations_threads_and_time() {
    let scene = Scene::new().await;
    let content = json!({
        "msgtype": "m.text",
        "body": "reply",
        "m.relates_to": { "rel_type": "m.thread", "event_id": scene.said[0] },
    });
    let path = scene.path("v3", "send/m.room.message/thread1");
    let token = Some(scene.bob.token.as_str());
    let reply = scene
        .server
        .ok(Method::PUT, &path, token, Some(content))
        .await;
    let root = escape(&scene.said[0]);
    for rest in ["", "/m.thread", "/m.thread/m.room.message"] {
        let (status, found) = scene
            .get_v1(&scene.alice, &format!("relations/{root}{rest}"))
            .await;
        assert_eq!(
            (status, &found["chunk"][0]["event_id"]),
            (200, &reply["event_id"]),
            "{rest}"
        );
    }
    let (status, _) = scene
        .get_v1(&scene.stranger, &format!("relations/{root}"))
        .await;
    assert_eq!(status, 404);
    let (_, threads) = scene
        .get_v1(&scene.alice, "threads?include=participated")
        .await;
    let thread = &threads["chunk"][0];
    assert_eq!(thread["event_id"], scene.said[0]);
    assert_eq!(thread["unsigned"]["m.relations"]["m.thread"]["count"], 1);
    let (status, refused) = scene.get_v1(&scene.alice, "threads?include=x").await;
    assert_eq!(
        (status, &refused["errcode"]),
        (400, &json!("M_INVALID_PARAM"))
    );
    let (status, refused) = scene.get_v1(&scene.stranger, "threads").await;
    assert_eq!((status, &refused["errcode"]), (403, &json!("M_FORBIDDEN")));
    let ts = thread["origin_server_ts"].as_u64().unwrap();
    let rest = format!("timestamp_to_event?ts={ts}&dir=b");
    let (status, found) = scene.get_v1(&scene.alice, &rest).await;
    assert_eq!(
        (status, found["origin_server_ts"].as_u64()),
        (200, Some(ts))
    );
    let (status, refused) = scene
        .get_v1(&scene.alice, "timestamp_to_event?ts=1&dir=b")
        .await;
    assert_eq!((status, &refused["errcode"]), (404, &json!("M_NOT_FOUND")));
    let (status, refused) = scene.get_v1(&scene.alice, "timestamp_to_event?dir=b").await;
    assert_eq!(
        (status, &refused["errcode"]),
        (400, &json!("M_MISSING_PARAM"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_and_typing() {
    let scene = Scene::new().await;
    let since = scene.server.sync(&scene.alice, None).await["next_batch"].clone();
    let unread = scene.server.sync(&scene.bob, None).await;
    let unread = &unread["rooms"]["join"][&scene.room]["unread_notifications"];
    assert_eq!(unread["notification_count"], 3);
    let event = escape(&scene.said[1]);
    let (status, _) = scene
        .post(&scene.bob, &format!("receipt/m.read/{event}"), json!({}))
        .await;
    assert_eq!(status, 200);
    let news = scene.server.sync(&scene.alice, since.as_str()).await;
    let ephemeral = &news["rooms"]["join"][&scene.room]["ephemeral"]["events"][0];
    assert!(ephemeral["content"][&scene.said[1]]["m.read"][&scene.bob.user_id]["ts"].is_u64());
    let left = scene.server.sync(&scene.bob, None).await;
    let left = &left["rooms"]["join"][&scene.room]["unread_notifications"];
    assert_eq!(left["notification_count"], 1);
    let marks = json!({ "m.fully_read": scene.said[2], "m.read.private": scene.said[2] });
    assert_eq!(scene.post(&scene.bob, "read_markers", marks).await.0, 200);
    let left = scene.server.sync(&scene.bob, None).await;
    let left = &left["rooms"]["join"][&scene.room];
    assert_eq!(left["unread_notifications"]["notification_count"], 0);
    let marker = left["account_data"]["events"].as_array().unwrap();
    assert!(
        marker
            .iter()
            .any(|data| data["content"]["event_id"] == scene.said[2]),
        "{left}"
    );
    for (rest, body, status, errcode) in [
        (
            format!("receipt/m.odd/{event}"),
            json!({}),
            400,
            "M_INVALID_PARAM",
        ),
        (
            format!("receipt/m.read/{event}"),
            json!({ "thread_id": 1 }),
            400,
            "M_INVALID_PARAM",
        ),
        (
            format!("receipt/m.read/{event}"),
            json!({ "thread_id": "" }),
            400,
            "M_INVALID_PARAM",
        ),
        (
            format!("receipt/m.fully_read/{event}"),
            json!({ "thread_id": "main" }),
            400,
            "M_INVALID_PARAM",
        ),
        (
            "receipt/m.read/%24none".to_owned(),
            json!({}),
            404,
            "M_NOT_FOUND",
        ),
        (
            "read_markers".to_owned(),
            json!({ "m.read": 1 }),
            400,
            "M_INVALID_PARAM",
        ),
    ] {
        let (got, answer) = scene.post(&scene.bob, &rest, body).await;
        assert_eq!(
            (got, answer["errcode"].as_str()),
            (status, Some(errcode)),
            "{rest} {answer}"
        );
    }

    let typing = |who: &Person| scene.path("v3", &format!("typing/{}", escape(&who.user_id)));
    let body = Some(json!({ "typing": true, "timeout": 10_000 }));
    let token = Some(scene.bob.token.as_str());
    scene
        .server
        .ok(Method::PUT, &typing(&scene.bob), token, body.clone())
        .await;
    let now = scene.server.sync(&scene.alice, None).await;
    let ephemeral = now["rooms"]["join"][&scene.room]["ephemeral"]["events"]
        .as_array()
        .unwrap();
    let typing_now = ephemeral
        .iter()
        .find(|event| event["type"] == "m.typing")
        .unwrap();
    assert_eq!(
        typing_now["content"]["user_ids"],
        json!([scene.bob.user_id])
    );
    let (status, refused) = scene
        .server
        .req(Method::PUT, &typing(&scene.alice), token, body.clone())
        .await;
    assert_eq!((status, &refused["errcode"]), (403, &json!("M_FORBIDDEN")));
    let token = Some(scene.stranger.token.as_str());
    let (status, _) = scene
        .server
        .req(Method::PUT, &typing(&scene.stranger), token, body)
        .await;
    assert_eq!(status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_do_not_branch() {
    let scene = Scene::new().await;
    let say = async |kind: &str, about: &str, txn: &str| {
        let path = scene.path("v3", &format!("send/m.room.message/{txn}"));
        let relates = json!({ "rel_type": kind, "event_id": about });
        let body = json!({ "msgtype": "m.text", "body": "x", "m.relates_to": relates });
        let token = Some(scene.bob.token.as_str());
        scene
            .server
            .req(Method::PUT, &path, token, Some(body))
            .await
    };
    let (status, reply) = say("m.thread", &scene.said[0], "a").await;
    assert_eq!(status, 200, "{reply}");
    let reply = reply["event_id"].as_str().unwrap();
    let (status, refused) = say("m.thread", reply, "b").await;
    assert_eq!((status, &refused["errcode"]), (400, &json!("M_UNKNOWN")));
    // What is no thread may be said of it, and the thread itself goes on.
    assert_eq!(say("m.reference", reply, "c").await.0, 200);
    assert_eq!(say("m.thread", &scene.said[0], "d").await.0, 200);
}
