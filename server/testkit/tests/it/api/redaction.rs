//! Redactions: by `/redact` and by `/send`, of what relates to an event, on a removal, and what
//! moderators may read afterwards.

use std::time::Duration;

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
    room: String,
}

impl Scene {
    async fn of_version(version: &str) -> Scene {
        let server = TestServer::start();
        let (alice, bob) = (server.person("alice").await, server.person("bob").await);
        let body = json!({ "preset": "public_chat", "room_version": version });
        let room = server.room(&alice, body).await;
        server.join(&bob, &room).await;
        Scene {
            server,
            alice,
            bob,
            room,
        }
    }

    async fn new() -> Scene {
        Scene::of_version("12").await
    }

    async fn call(
        &self,
        who: &Person,
        method: Method,
        rest: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let path = format!("/_matrix/client/v3/rooms/{}/{rest}", escape(&self.room));
        self.server.req(method, &path, Some(&who.token), body).await
    }

    async fn put(&self, who: &Person, rest: &str, body: Value) -> Value {
        let (status, answer) = self.call(who, Method::PUT, rest, Some(body)).await;
        assert_eq!(status, 200, "{rest}: {answer}");
        answer
    }

    async fn event(&self, who: &Person, id: &str) -> Value {
        let rest = format!("event/{}", escape(id));
        let (status, answer) = self.call(who, Method::GET, &rest, None).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn original(&self, who: &Person, id: &str) -> (u16, Value) {
        let rest = format!(
            "event/{}?fi.mau.msc2815.include_unredacted_content=true",
            escape(id)
        );
        self.call(who, Method::GET, &rest, None).await
    }

    async fn relate(&self, who: &Person, kind: &str, rel_type: &str, to: &str, n: usize) -> String {
        let content = json!({
            "msgtype": "m.text",
            "body": "child",
            "m.new_content": { "msgtype": "m.text", "body": "new" },
            "m.relates_to": { "rel_type": rel_type, "event_id": to, "key": format!("k{n}") },
        });
        let answer = self.put(who, &format!("send/{kind}/r{n}"), content).await;
        answer["event_id"].as_str().unwrap().to_owned()
    }

    async fn unread(&self, who: &Person) -> u64 {
        let sync = self.server.sync(who, None).await;
        let room = &sync["rooms"]["join"][&self.room];
        room["unread_notifications"]["notification_count"]
            .as_u64()
            .unwrap()
    }

    async fn is_redacted(&self, id: &str) -> bool {
        let event = self.event(&self.alice, id).await;
        event["content"] == json!({}) && event["unsigned"]["redacted_because"].is_object()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_clients_redact_without_a_transaction() {
    let scene = Scene::new().await;
    let said = scene.server.say(&scene.bob, &scene.room, "oops").await;
    let rest = format!("redact/{}", escape(&said));
    let body = Some(json!({ "reason": "typo" }));
    let (status, sent) = scene.call(&scene.bob, Method::POST, &rest, body).await;
    assert_eq!(status, 200, "{sent}");
    let event = scene.event(&scene.alice, &said).await;
    assert_eq!(event["content"], json!({}));
    assert_eq!(event["unsigned"]["redacted_by"], sent["event_id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redaction_may_be_sent_as_any_other_event() {
    for version in ["10", "11", "12"] {
        let scene = Scene::of_version(version).await;
        let said = scene.server.say(&scene.bob, &scene.room, "oops").await;
        let body = json!({ "redacts": said, "reason": "typo" });
        let sent = scene.put(&scene.bob, "send/m.room.redaction/x", body).await;
        let event = scene.event(&scene.alice, &said).await;
        let because = &event["unsigned"]["redacted_because"];
        assert_eq!(event["content"], json!({}), "{version}");
        assert_eq!(because["event_id"], sent["event_id"], "{version}");
        assert_eq!(because["content"]["reason"], "typo", "{version}");
        assert_eq!(because["content"]["redacts"], said, "{version}");
        assert_eq!(because["unsigned"]["membership"], "join", "{version}");
        let (status, answer) = scene
            .call(
                &scene.bob,
                Method::PUT,
                "send/m.room.redaction/y",
                Some(json!({})),
            )
            .await;
        assert_eq!((status, &answer["errcode"]), (400, &json!("M_BAD_JSON")));
        let other = scene.server.say(&scene.alice, &scene.room, "mine").await;
        let body = Some(json!({ "redacts": other }));
        let (status, _) = scene
            .call(&scene.bob, Method::PUT, "send/m.room.redaction/z", body)
            .await;
        assert_eq!(status, 403);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_relates_to_an_event_goes_with_it() {
    let scene = Scene::new().await;
    let root = scene.server.say(&scene.bob, &scene.room, "root").await;
    let own = scene
        .relate(&scene.bob, "m.room.message", "m.thread", &root, 1)
        .await;
    let others = scene
        .relate(&scene.alice, "m.room.message", "m.thread", &root, 2)
        .await;
    let like = scene
        .relate(&scene.bob, "m.reaction", "m.annotation", &root, 3)
        .await;
    let odd = scene
        .relate(&scene.bob, "m.room.message", "org.odd", &root, 4)
        .await;
    let body =
        json!({ "reason": "gone", "org.matrix.msc3912.with_relations": ["m.thread", "org.odd"] });
    let rest = format!("redact/{}/a", escape(&root));
    let first = scene.put(&scene.bob, &rest, body.clone()).await;
    assert_eq!(scene.put(&scene.bob, &rest, body).await, first);
    let because = &scene.event(&scene.alice, &root).await["unsigned"]["redacted_because"];
    assert_eq!(
        because["content"],
        json!({ "reason": "gone", "redacts": root })
    );
    assert!(scene.is_redacted(&own).await && scene.is_redacted(&odd).await);
    // Not of the kinds named, and nothing that Bob may redact.
    assert!(!scene.is_redacted(&like).await && !scene.is_redacted(&others).await);
    let because = &scene.event(&scene.alice, &own).await["unsigned"]["redacted_because"];
    assert_eq!(because["content"]["reason"], "gone");

    let root = scene.server.say(&scene.bob, &scene.room, "many").await;
    let mut children = Vec::new();
    for n in 0..120 {
        children.push(
            scene
                .relate(&scene.bob, "m.reaction", "m.annotation", &root, 10 + n)
                .await,
        );
    }
    let rest = format!("redact/{}/b", escape(&root));
    scene
        .put(&scene.alice, &rest, json!({ "with_rel_types": ["*"] }))
        .await;
    for child in [&children[0], &children[60], &children[119]] {
        for _ in 0..100 {
            if scene.is_redacted(child).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(scene.is_redacted(child).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_may_take_with_it_what_the_user_said() {
    let scene = Scene::new().await;
    let mut said = Vec::new();
    for n in 0..300 {
        said.push(
            scene
                .server
                .say(&scene.bob, &scene.room, &format!("spam {n}"))
                .await,
        );
    }
    let mine = scene.server.say(&scene.alice, &scene.room, "stays").await;
    let since = scene.server.sync(&scene.alice, None).await["next_batch"].clone();
    let body = json!({
        "user_id": scene.bob.user_id,
        "reason": "spam",
        "org.matrix.msc4293.redact_events": true,
    });
    let (status, answer) = scene
        .call(&scene.alice, Method::POST, "ban", Some(body))
        .await;
    assert_eq!(status, 200, "{answer}");
    for event in [&said[299], &said[150], &said[0]] {
        for _ in 0..100 {
            if scene.is_redacted(event).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let event = scene.event(&scene.alice, event).await;
        let because = &event["unsigned"]["redacted_because"];
        assert_eq!(event["content"], json!({}));
        assert_eq!(because["type"], "m.room.member");
        assert_eq!(because["content"]["reason"], "spam");
    }
    assert!(!scene.is_redacted(&mine).await);
    let news = scene.server.sync(&scene.alice, since.as_str()).await;
    let news = &news["rooms"]["join"][&scene.room]["timeline"]["events"];
    assert_eq!(news.as_array().unwrap().len(), 1);
    assert_eq!(news[0]["content"]["org.matrix.msc4293.redact_events"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_redacts_nothing_where_its_sender_may_not() {
    let scene = Scene::new().await;
    let carol = scene.server.person("carol").await;
    scene.server.join(&carol, &scene.room).await;
    let levels = json!({ "users": { (&carol.user_id): 50 }, "kick": 50, "ban": 50, "redact": 60 });
    scene
        .put(&scene.alice, "state/m.room.power_levels", levels)
        .await;
    let said = scene.server.say(&scene.bob, &scene.room, "hello").await;
    let body = json!({ "user_id": scene.bob.user_id, "org.matrix.msc4293.redact_events": true });
    let (status, _) = scene
        .call(&carol, Method::POST, "kick", Some(body.clone()))
        .await;
    assert_eq!(status, 200);
    assert!(!scene.is_redacted(&said).await);
    // Nor when a user leaves by themselves.
    scene.server.join(&scene.bob, &scene.room).await;
    let rest = format!("state/m.room.member/{}", escape(&scene.bob.user_id));
    let own = json!({ "membership": "leave", "org.matrix.msc4293.redact_events": true });
    scene.put(&scene.bob, &rest, own).await;
    assert!(!scene.is_redacted(&said).await);
    scene.server.join(&scene.bob, &scene.room).await;
    assert_eq!(scene.unread(&scene.alice).await, 1);
    let (status, _) = scene
        .call(&scene.alice, Method::POST, "kick", Some(body))
        .await;
    assert_eq!(status, 200);
    assert!(scene.is_redacted(&said).await);
    assert_eq!(scene.unread(&scene.alice).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moderators_read_what_was_redacted_for_a_time() {
    let scene = Scene::new().await;
    let said = scene.server.say(&scene.bob, &scene.room, "insult").await;
    assert_eq!(
        scene.original(&scene.alice, &said).await.1["content"]["body"],
        "insult"
    );
    let rest = format!("redact/{}/a", escape(&said));
    scene.put(&scene.bob, &rest, json!({})).await;
    let (status, event) = scene.original(&scene.alice, &said).await;
    assert_eq!((status, &event["content"]["body"]), (200, &json!("insult")));
    assert!(event["unsigned"]["redacted_because"].is_object());
    assert!(scene.is_redacted(&said).await);
    let (status, refused) = scene.original(&scene.bob, &said).await;
    assert_eq!((status, &refused["errcode"]), (403, &json!("M_FORBIDDEN")));

    scene.server.clock.advance(8 * 24 * 3_600_000);
    scene.server.house.rooms.sweep_originals().await.unwrap();
    let (status, gone) = scene.original(&scene.alice, &said).await;
    assert_eq!(status, 404);
    assert_eq!(gone["errcode"], "FI.MAU.MSC2815_UNREDACTED_CONTENT_DELETED");
    assert_eq!(
        gone["fi.mau.msc2815.content_keep_ms"],
        7 * 24 * 3_600_000_u64
    );
    let versions = scene
        .server
        .ok(Method::GET, "/_matrix/client/versions", None, None)
        .await;
    for flag in ["fi.mau.msc2815", "org.matrix.msc3912", "com.beeper.msc4169"] {
        assert_eq!(versions["unstable_features"][flag], true, "{flag}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_who_asked_to_be_forgotten_nothing_is_kept() {
    let scene = Scene::new().await;
    let said = scene.server.say(&scene.bob, &scene.room, "insult").await;
    let rest = format!("redact/{}/a", escape(&said));
    scene.put(&scene.bob, &rest, json!({})).await;
    let body = json!({
        "erase": true,
        "auth": { "type": "m.login.password", "password": "correct horse",
            "identifier": { "type": "m.id.user", "user": "bob" } },
    });
    let path = "/_matrix/client/v3/account/deactivate";
    let token = Some(scene.bob.token.as_str());
    scene.server.ok(Method::POST, path, token, Some(body)).await;
    let (status, gone) = scene.original(&scene.alice, &said).await;
    assert_eq!(status, 404, "{gone}");
    assert_eq!(gone["errcode"], "FI.MAU.MSC2815_UNREDACTED_CONTENT_DELETED");
}
