//! What the server adds to events under `unsigned`, wherever they are served, and the filters
//! that look at relations.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

fn escape(text: &str) -> String {
    text.replace('%', "%25")
        .replace('!', "%21")
        .replace('$', "%24")
        .replace(':', "%3A")
        .replace('"', "%22")
        .replace('{', "%7B")
        .replace('}', "%7D")
        .replace('[', "%5B")
        .replace(']', "%5D")
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
        Scene {
            server,
            alice,
            bob,
            room,
        }
    }

    async fn get(&self, who: &Person, version: &str, rest: &str) -> Value {
        let room = escape(&self.room);
        let path = format!("/_matrix/client/{version}/rooms/{room}/{rest}");
        self.server
            .ok(Method::GET, &path, Some(&who.token), None)
            .await
    }

    async fn put(&self, who: &Person, rest: &str, body: Value) -> String {
        let path = format!("/_matrix/client/v3/rooms/{}/{rest}", escape(&self.room));
        let answer = self
            .server
            .ok(Method::PUT, &path, Some(&who.token), Some(body))
            .await;
        answer["event_id"].as_str().unwrap().to_owned()
    }

    async fn relate(&self, who: &Person, kind: &str, txn: &str, relates: Value) -> String {
        let content = json!({
            "msgtype": "m.text",
            "body": txn,
            "m.new_content": { "msgtype": "m.text", "body": format!("new {txn}") },
            "m.relates_to": relates,
        });
        self.put(who, &format!("send/{kind}/{txn}"), content).await
    }

    /// The event as each endpoint gives it.
    async fn everywhere(&self, who: &Person, id: &str) -> Vec<(&'static str, Value)> {
        let event = escape(id);
        let find = |list: &Value| {
            let mut list = list.as_array().unwrap().iter();
            list.find(|event| event["event_id"] == id).cloned()
        };
        let page = self.get(who, "v3", "messages?dir=b&limit=100").await;
        let forward = self.get(who, "v3", "messages?dir=f&limit=100").await;
        let around = self.get(who, "v3", &format!("context/{event}")).await;
        let sync = self.server.sync(who, None).await;
        let sync = &sync["rooms"]["join"][&self.room]["timeline"]["events"];
        let glance = self.get(who, "v3", "initialSync?limit=100").await;
        let mut found = vec![
            (
                "event",
                self.get(who, "v3", &format!("event/{event}")).await,
            ),
            ("messages", find(&page["chunk"]).unwrap()),
            ("messages f", find(&forward["chunk"]).unwrap()),
            ("context", around["event"].clone()),
            ("initialSync", find(&glance["messages"]["chunk"]).unwrap()),
        ];
        found.extend(find(sync).map(|event| ("sync", event)));
        found
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn membership_age_and_transaction_are_the_readers_own() {
    let scene = Scene::new().await;
    let content = json!({ "msgtype": "m.text", "body": "early" });
    let early = scene
        .put(&scene.alice, "send/m.room.message/txn1", content.clone())
        .await;
    scene.server.join(&scene.bob, &scene.room).await;
    let late = scene
        .put(&scene.alice, "send/m.room.message/txn2", content)
        .await;
    scene.server.clock.advance(5_000);
    for (place, event) in scene.everywhere(&scene.bob, &early).await {
        assert_eq!(event["unsigned"]["membership"], "leave", "{place}");
        assert!(event["unsigned"].get("transaction_id").is_none(), "{place}");
        assert!(
            event["unsigned"]["age"].as_u64().unwrap() >= 5_000,
            "{place}"
        );
    }
    for (place, event) in scene.everywhere(&scene.bob, &late).await {
        assert_eq!(event["unsigned"]["membership"], "join", "{place}");
    }
    for (place, event) in scene.everywhere(&scene.alice, &late).await {
        assert_eq!(event["unsigned"]["transaction_id"], "txn2", "{place}");
    }
    let other_device = scene.server.log_in("alice").await;
    for (place, event) in scene.everywhere(&other_device, &late).await {
        assert!(event["unsigned"].get("transaction_id").is_none(), "{place}");
    }
    let rest = format!("redact/{}/txn3", escape(&late));
    let redaction = scene.put(&scene.alice, &rest, json!({})).await;
    for (place, event) in scene.everywhere(&scene.alice, &redaction).await {
        assert_eq!(event["unsigned"]["transaction_id"], "txn3", "{place}");
    }
    for (place, event) in scene.everywhere(&scene.bob, &late).await {
        let because = &event["unsigned"]["redacted_because"];
        assert_eq!(because["event_id"], redaction, "{place}");
        assert_eq!(because["unsigned"]["membership"], "join", "{place}");
        assert!(because["unsigned"]["age"].is_u64(), "{place}");
    }
    // The member event itself: as it is after it.
    let state = format!(
        "state/m.room.member/{}?format=event",
        escape(&scene.bob.user_id)
    );
    let own = scene.get(&scene.bob, "v3", &state).await;
    assert_eq!(own["unsigned"]["membership"], "join");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_says_what_it_replaced() {
    let scene = Scene::new().await;
    scene.server.join(&scene.bob, &scene.room).await;
    let first = scene
        .put(&scene.alice, "state/m.room.topic", json!({ "topic": "a" }))
        .await;
    let second = scene
        .put(&scene.alice, "state/m.room.topic", json!({ "topic": "b" }))
        .await;
    let mut found = scene.everywhere(&scene.bob, &second).await;
    let state = scene.get(&scene.bob, "v3", "state").await;
    let topic = |list: &Value| {
        let mut list = list.as_array().unwrap().iter();
        let found = list.find(|event| event["type"] == "m.room.topic");
        found.cloned().unwrap()
    };
    found.push(("state", topic(&state)));
    let one = scene
        .get(&scene.bob, "v3", "state/m.room.topic?format=event")
        .await;
    found.push(("one state", one));
    let around = scene
        .get(&scene.bob, "v3", &format!("context/{}", escape(&second)))
        .await;
    found.push(("context state", topic(&around["state"])));
    let filter = escape(r#"{"room":{"timeline":{"limit":0}}}"#);
    let path = format!("/_matrix/client/v3/sync?filter={filter}");
    let sync = scene
        .server
        .ok(Method::GET, &path, Some(&scene.bob.token), None)
        .await;
    let sync = &sync["rooms"]["join"][&scene.room]["state"]["events"];
    found.push(("sync state", topic(sync)));
    for (place, event) in found {
        assert_eq!(event["unsigned"]["prev_content"]["topic"], "a", "{place}");
        assert_eq!(event["unsigned"]["replaces_state"], first, "{place}");
    }
    // Whoever could not see what was there before is only told its id.
    let body = json!({ "history_visibility": "joined" });
    scene
        .put(&scene.alice, "state/m.room.history_visibility", body)
        .await;
    let third = scene
        .put(&scene.alice, "state/m.room.topic", json!({ "topic": "c" }))
        .await;
    let carol = scene.server.person("carol").await;
    scene.server.join(&carol, &scene.room).await;
    let fourth = scene
        .put(&scene.alice, "state/m.room.topic", json!({ "topic": "d" }))
        .await;
    let event = scene
        .get(&carol, "v3", &format!("event/{}", escape(&fourth)))
        .await;
    assert_eq!(event["unsigned"]["replaces_state"], third);
    assert!(event["unsigned"].get("prev_content").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relations_are_bundled_wherever_the_event_is() {
    let scene = Scene::new().await;
    scene.server.join(&scene.bob, &scene.room).await;
    let root = scene.server.say(&scene.alice, &scene.room, "root").await;
    let to = |rel_type: &str| json!({ "rel_type": rel_type, "event_id": root });
    let answer = scene
        .relate(&scene.bob, "m.room.message", "answer", to("m.thread"))
        .await;
    let mut key = to("m.annotation");
    key["key"] = json!("+1");
    scene.relate(&scene.bob, "m.reaction", "like", key).await;
    let vote = scene
        .relate(&scene.bob, "m.poll.response", "vote", to("m.reference"))
        .await;
    scene
        .relate(&scene.bob, "m.room.message", "foreign", to("m.replace"))
        .await;
    let edit = scene
        .relate(&scene.alice, "m.room.message", "edit", to("m.replace"))
        .await;
    for (place, event) in scene.everywhere(&scene.bob, &root).await {
        // A sync that is not limited shows the children themselves.
        if place == "sync" {
            continue;
        }
        let relations = &event["unsigned"]["m.relations"];
        assert_eq!(relations["m.thread"]["count"], 1, "{place}");
        assert_eq!(
            relations["m.thread"]["latest_event"]["event_id"], answer,
            "{place}"
        );
        assert_eq!(
            relations["m.thread"]["current_user_participated"], true,
            "{place}"
        );
        assert_eq!(relations["m.replace"]["event_id"], edit, "{place}");
        assert_eq!(
            relations["m.replace"]["content"]["m.new_content"]["body"],
            "new edit"
        );
        assert_eq!(
            relations["m.reference"]["chunk"],
            json!([{ "event_id": vote }]),
            "{place}"
        );
        assert!(relations.get("m.annotation").is_none(), "{place}");
        assert_eq!(event["content"]["body"], "root", "{place}");
    }
    for n in 0..12 {
        scene
            .server
            .say(&scene.alice, &scene.room, &format!("{n}"))
            .await;
    }
    // A limited sync bundles.
    let again = scene
        .relate(&scene.alice, "m.room.message", "again", json!({}))
        .await;
    let of_again = json!({ "rel_type": "m.replace", "event_id": again });
    scene
        .relate(&scene.alice, "m.room.message", "edit2", of_again)
        .await;
    let sync = scene.server.sync(&scene.bob, None).await;
    let timeline = &sync["rooms"]["join"][&scene.room]["timeline"];
    assert_eq!(timeline["limited"], true);
    let event = timeline["events"].as_array().unwrap().iter();
    let event = event
        .clone()
        .find(|event| event["event_id"] == again)
        .unwrap();
    let edited = &event["unsigned"]["m.relations"]["m.replace"]["content"]["m.new_content"];
    assert_eq!(edited["body"], "new edit2");
    let threads = scene.get(&scene.bob, "v1", "threads").await;
    let thread = &threads["chunk"][0]["unsigned"]["m.relations"];
    assert_eq!(thread["m.replace"]["event_id"], edit);
    assert_eq!(thread["m.thread"]["count"], 1);
    // An edit in a thread: the thread's latest event carries it.
    let of_answer = json!({ "rel_type": "m.replace", "event_id": answer });
    let last = scene
        .relate(&scene.bob, "m.room.message", "edit3", of_answer)
        .await;
    let found = scene
        .get(
            &scene.alice,
            "v1",
            &format!("relations/{}/m.thread", escape(&root)),
        )
        .await;
    let child = &found["chunk"][0]["unsigned"]["m.relations"]["m.replace"];
    assert_eq!(child["event_id"], last);
    let threads = scene.get(&scene.alice, "v1", "threads").await;
    let latest = &threads["chunk"][0]["unsigned"]["m.relations"]["m.thread"]["latest_event"];
    assert_eq!(
        latest["unsigned"]["m.relations"]["m.replace"]["event_id"],
        last
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_filtered_by_how_events_relate() {
    let scene = Scene::new().await;
    let root = scene.server.say(&scene.alice, &scene.room, "root").await;
    let to = |rel_type: &str| json!({ "rel_type": rel_type, "event_id": root });
    scene
        .relate(&scene.alice, "m.room.message", "threaded", to("m.thread"))
        .await;
    scene
        .relate(&scene.alice, "m.room.message", "edit", to("m.replace"))
        .await;
    for (filter, expected) in [
        (
            r#""org.matrix.msc3874.rel_types":["m.thread"]"#,
            vec!["threaded"],
        ),
        (
            r#""org.matrix.msc3874.not_rel_types":["m.thread"]"#,
            vec!["root", "edit"],
        ),
        (
            r#""org.matrix.msc3874.rel_types":["m.thread","m.replace"],"org.matrix.msc3874.not_rel_types":["m.thread"]"#,
            vec!["edit"],
        ),
        (r#""related_by_rel_types":["m.thread"]"#, vec!["root"]),
    ] {
        let filter = escape(&format!("{{\"types\":[\"m.room.message\"],{filter}}}"));
        let page = scene
            .get(
                &scene.alice,
                "v3",
                &format!("messages?dir=f&limit=50&filter={filter}"),
            )
            .await;
        let texts: Vec<&str> = page["chunk"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["content"]["body"].as_str().unwrap())
            .collect();
        assert_eq!(texts, expected, "{filter}");
        let path = format!(
            "/_matrix/client/v3/sync?filter={}",
            escape("{\"room\":{\"timeline\":") + &filter + &escape("}}")
        );
        let sync = scene
            .server
            .ok(Method::GET, &path, Some(&scene.alice.token), None)
            .await;
        let events = &sync["rooms"]["join"][&scene.room]["timeline"]["events"];
        assert_eq!(events.as_array().unwrap().len(), expected.len(), "{filter}");
    }
    let versions = scene
        .server
        .ok(Method::GET, "/_matrix/client/versions", None, None)
        .await;
    assert_eq!(versions["unstable_features"]["org.matrix.msc3874"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_large_events_ends_early_and_goes_on() {
    let scene = Scene::new().await;
    let large = "x".repeat(60_000);
    for _ in 0..160 {
        scene.server.say(&scene.alice, &scene.room, &large).await;
    }
    let (mut from, mut seen, mut pages) = (String::new(), 0, 0);
    loop {
        let page = scene
            .get(
                &scene.alice,
                "v3",
                &format!("messages?dir=b&limit=1000{from}"),
            )
            .await;
        let chunk = page["chunk"].as_array().unwrap();
        assert!(chunk.len() < 150);
        let large = chunk
            .iter()
            .filter(|event| event["type"] == "m.room.message");
        seen += large.count();
        pages += 1;
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None => break,
        }
    }
    assert_eq!(seen, 160);
    assert!(pages > 1);
}
