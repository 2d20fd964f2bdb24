//! The list of threads, and what is unread in each.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

fn escape(text: &str) -> String {
    text.replace('!', "%21")
        .replace('$', "%24")
        .replace(':', "%3A")
}

struct Scene {
    server: TestServer,
    alice: Person,
    bob: Person,
    room: String,
}

impl Scene {
    async fn new() -> Scene {
        let server = TestServer::start();
        let (alice, bob) = (server.person("alice").await, server.person("bob").await);
        let room = server
            .room(&alice, json!({ "preset": "public_chat" }))
            .await;
        server.join(&bob, &room).await;
        Scene {
            server,
            alice,
            bob,
            room,
        }
    }

    fn path(&self, version: &str, rest: &str) -> String {
        let room = escape(&self.room);
        format!("/_matrix/client/{version}/rooms/{room}/{rest}")
    }

    /// A message in a thread: its id.
    async fn reply(&self, who: &Person, root: &str, text: &str) -> String {
        let body = json!({
            "msgtype": "m.text",
            "body": text,
            "m.relates_to": { "rel_type": "m.thread", "event_id": root },
        });
        let path = self.path("v3", &format!("send/m.room.message/{}", escape(text)));
        let token = Some(who.token.as_str());
        let answer = self.server.ok(Method::PUT, &path, token, Some(body)).await;
        answer["event_id"].as_str().unwrap().to_owned()
    }

    async fn threads(&self, who: &Person, query: &str) -> Value {
        let path = self.path("v1", &format!("threads?{query}"));
        self.server
            .ok(Method::GET, &path, Some(&who.token), None)
            .await
    }

    async fn read(&self, who: &Person, event: &str, thread: Option<&str>) {
        let path = self.path("v3", &format!("receipt/m.read/{}", escape(event)));
        let body = thread.map_or(json!({}), |thread| json!({ "thread_id": thread }));
        let token = Some(who.token.as_str());
        self.server.ok(Method::POST, &path, token, Some(body)).await;
    }

    /// The room in a sync that tells threads apart, and the place after it.
    async fn sync(&self, who: &Person, since: Option<&str>) -> (Value, String) {
        let filter =
            "%7B%22room%22:%7B%22timeline%22:%7B%22unread_thread_notifications%22:true%7D%7D%7D";
        let since = since.map_or_else(String::new, |since| format!("&since={since}"));
        let path = format!("/_matrix/client/v3/sync?timeout=0&filter={filter}{since}");
        let answer = self
            .server
            .ok(Method::GET, &path, Some(&who.token), None)
            .await;
        let next = answer["next_batch"].as_str().unwrap().to_owned();
        (answer["rooms"]["join"][&self.room].clone(), next)
    }
}

fn roots(list: &Value) -> Vec<&str> {
    let chunk = list["chunk"].as_array().unwrap().iter();
    chunk
        .map(|event| event["event_id"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_thread_spoken_in_last_comes_first() {
    let scene = Scene::new().await;
    let (alice, bob) = (&scene.alice, &scene.bob);
    let mut begun = Vec::new();
    for n in 0..5 {
        let root = scene
            .server
            .say(alice, &scene.room, &format!("root {n}"))
            .await;
        scene.reply(alice, &root, &format!("first{n}")).await;
        begun.push(root);
    }
    let by_bob = scene.server.say(bob, &scene.room, "root of bob").await;
    scene.reply(alice, &by_bob, "to-bob").await;
    let last = scene.reply(bob, &begun[1], "of-bob").await;
    let expected = [
        &begun[1], &by_bob, &begun[4], &begun[3], &begun[2], &begun[0],
    ];

    let all = scene.threads(bob, "").await;
    assert_eq!(roots(&all), expected);
    let summary = &all["chunk"][0]["unsigned"]["m.relations"]["m.thread"];
    assert_eq!(summary["count"], 2);
    assert_eq!(summary["current_user_participated"], true);
    assert_eq!(summary["latest_event"]["event_id"], last);
    assert!(all.get("next_batch").is_none());
    let mine = scene.threads(bob, "include=participated").await;
    assert_eq!(
        roots(&mine),
        [&begun[1], &by_bob],
        "begun by them or spoken in"
    );

    let (mut seen, mut from) = (Vec::new(), String::new());
    loop {
        let page = scene.threads(bob, &format!("limit=2{from}")).await;
        seen.extend(roots(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next_batch"].as_str() else {
            break;
        };
        from = format!("&from={next}");
    }
    assert_eq!(seen.iter().collect::<Vec<_>>(), expected);

    let path = scene.path("v3", &format!("redact/{}/r1", escape(&last)));
    let token = Some(bob.token.as_str());
    scene
        .server
        .ok(Method::PUT, &path, token, Some(json!({})))
        .await;
    let mine = scene.threads(bob, "include=participated").await;
    assert_eq!(roots(&mine), [&by_bob], "what was redacted is no part");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_are_read_one_by_one() {
    let scene = Scene::new().await;
    let (alice, bob) = (&scene.alice, &scene.bob);
    let one = scene.server.say(alice, &scene.room, "one").await;
    let two = scene.server.say(alice, &scene.room, "two").await;
    let in_one = scene.reply(alice, &one, "a").await;
    scene.reply(alice, &one, "b-bob").await;
    let in_two = scene.reply(alice, &two, "c").await;
    let (room, since) = scene.sync(bob, None).await;
    let of = |room: &Value, root: &str| {
        room["unread_thread_notifications"][root]["notification_count"].as_u64()
    };
    assert_eq!(room["unread_notifications"]["notification_count"], 2);
    assert_eq!((of(&room, &one), of(&room, &two)), (Some(2), Some(1)));

    scene.read(bob, &in_one, Some(&one)).await;
    let (room, since) = scene.sync(bob, Some(&since)).await;
    assert_eq!(
        (of(&room, &one), of(&room, &two)),
        (Some(1), Some(1)),
        "{room}"
    );
    scene.read(bob, &two, Some("main")).await;
    let (room, since) = scene.sync(bob, Some(&since)).await;
    assert_eq!(room["unread_notifications"]["notification_count"], 0);
    assert_eq!((of(&room, &one), of(&room, &two)), (Some(1), Some(1)));
    scene.read(bob, &in_two, None).await;
    let (room, since) = scene.sync(bob, Some(&since)).await;
    assert!(room.get("unread_thread_notifications").is_none(), "{room}");

    let body = json!({
        "msgtype": "m.text", "body": "you", "m.mentions": { "user_ids": [bob.user_id] },
        "m.relates_to": { "rel_type": "m.thread", "event_id": two },
    });
    let path = scene.path("v3", "send/m.room.message/mention");
    let token = Some(alice.token.as_str());
    scene.server.ok(Method::PUT, &path, token, Some(body)).await;
    let (room, _) = scene.sync(bob, Some(&since)).await;
    let counts = &room["unread_thread_notifications"][&two];
    assert_eq!(
        counts,
        &json!({ "highlight_count": 1, "notification_count": 1 })
    );
    assert_eq!(room["unread_notifications"]["notification_count"], 0);
    let plain = scene.server.sync(bob, None).await;
    let room = &plain["rooms"]["join"][&scene.room];
    assert_eq!(
        room["unread_notifications"]["notification_count"], 1,
        "all together"
    );
    assert!(room.get("unread_thread_notifications").is_none());
}
