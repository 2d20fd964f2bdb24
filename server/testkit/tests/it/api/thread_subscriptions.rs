//! Subscriptions to threads (MSC4306, MSC4308): what they are, what they change, how they are listed.

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
    root: String,
}

impl Scene {
    async fn new() -> Scene {
        let server = TestServer::start();
        let alice = server.person("alice").await;
        let bob = server.person("bob").await;
        let room = server
            .room(&alice, json!({ "preset": "public_chat" }))
            .await;
        server.join(&bob, &room).await;
        let root = server.say(&alice, &room, "root").await;
        Scene {
            server,
            alice,
            bob,
            room,
            root,
        }
    }

    /// A message of alice in a thread.
    async fn reply(&self, root: &str, txn: &str) -> String {
        let room = escape(&self.room);
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}");
        let body = json!({
            "msgtype": "m.text",
            "body": txn,
            "m.relates_to": { "rel_type": "m.thread", "event_id": root },
        });
        let token = Some(self.alice.token.as_str());
        let answer = self.server.ok(Method::PUT, &path, token, Some(body)).await;
        answer["event_id"].as_str().unwrap().to_owned()
    }

    async fn ask(&self, method: Method, root: &str, body: Option<Value>) -> (u16, Value) {
        let path = format!(
            "/_matrix/client/unstable/io.element.msc4306/rooms/{}/thread/{}/subscription",
            escape(&self.room),
            escape(root)
        );
        let token = Some(self.bob.token.as_str());
        self.server.req(method, &path, token, body).await
    }

    async fn subscribe(&self, root: &str, body: Value) {
        let (status, answer) = self.ask(Method::PUT, root, Some(body)).await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn refused(
        &self,
        method: Method,
        root: &str,
        body: Option<Value>,
        expected: (u16, &str),
    ) {
        let (status, answer) = self.ask(method, root, body).await;
        let got = (status, answer["errcode"].as_str().unwrap_or_default());
        assert_eq!(got, expected, "{root}: {answer}");
    }

    async fn list(&self, query: &str) -> Value {
        let path =
            format!("/_matrix/client/unstable/io.element.msc4308/thread_subscriptions?{query}");
        let token = Some(self.bob.token.as_str());
        self.server.ok(Method::GET, &path, token, None).await
    }

    /// What bob has not read: the room's count.
    async fn unread(&self) -> u64 {
        let sync = self.server.sync(&self.bob, None).await;
        let counts = &sync["rooms"]["join"][&self.room]["unread_notifications"];
        counts["notification_count"].as_u64().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_hand_and_by_themselves() {
    let scene = Scene::new().await;
    let root = &scene.root;
    scene
        .refused(Method::GET, root, None, (404, "M_NOT_FOUND"))
        .await;
    let first = scene.reply(root, "first").await;

    scene.subscribe(root, json!({ "automatic": first })).await;
    let (_, got) = scene.ask(Method::GET, root, None).await;
    assert_eq!(got, json!({ "automatic": true }));
    scene.subscribe(root, json!({})).await;
    scene.subscribe(root, json!({ "automatic": first })).await;
    let (_, got) = scene.ask(Method::GET, root, None).await;
    assert_eq!(got, json!({ "automatic": false }), "one's own word stays");

    let (status, _) = scene.ask(Method::DELETE, root, None).await;
    assert_eq!(status, 200);
    let (status, _) = scene.ask(Method::DELETE, root, None).await;
    assert_eq!(status, 200, "twice is once");
    scene
        .refused(Method::GET, root, None, (404, "M_NOT_FOUND"))
        .await;

    let stale = Some(json!({ "automatic": first }));
    let code = "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION";
    scene.refused(Method::PUT, root, stale, (409, code)).await;
    let second = scene.reply(root, "second").await;
    scene.subscribe(root, json!({ "automatic": second })).await;
    let (_, got) = scene.ask(Method::GET, root, None).await;
    assert_eq!(got, json!({ "automatic": true }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused() {
    let scene = Scene::new().await;
    let root = scene.root.as_str();
    let other = scene.server.say(&scene.alice, &scene.room, "aside").await;
    let not_in_thread = Some(json!({ "automatic": other }));
    let code = "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD";
    scene
        .refused(Method::PUT, root, not_in_thread, (400, code))
        .await;
    let unknown = Some(json!({ "automatic": "$nothing" }));
    scene
        .refused(Method::PUT, root, unknown, (404, "M_NOT_FOUND"))
        .await;
    let wrong = Some(json!({ "automatic": 3 }));
    scene
        .refused(Method::PUT, root, wrong, (400, "M_BAD_JSON"))
        .await;
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let body = (method == Method::PUT).then(|| json!({}));
        scene
            .refused(
                method.clone(),
                "$nothing",
                body.clone(),
                (404, "M_NOT_FOUND"),
            )
            .await;
        scene
            .refused(method, "nothing", body, (400, "M_INVALID_PARAM"))
            .await;
    }
    let stranger = scene.server.person("stranger").await;
    let closed = scene
        .server
        .room(&scene.alice, json!({ "preset": "private_chat" }))
        .await;
    let hidden = scene.server.say(&scene.alice, &closed, "secret").await;
    let path = format!(
        "/_matrix/client/unstable/io.element.msc4306/rooms/{}/thread/{}/subscription",
        escape(&closed),
        escape(&hidden)
    );
    let token = Some(stranger.token.as_str());
    let answer = scene.server.req(Method::PUT, &path, token, Some(json!({})));
    assert_eq!(answer.await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_go_back_in_pages() {
    let scene = Scene::new().await;
    let mut roots = vec![scene.root.clone()];
    for n in 0..4 {
        let text = n.to_string();
        roots.push(scene.server.say(&scene.alice, &scene.room, &text).await);
    }
    for root in &roots {
        scene.subscribe(root, json!({})).await;
    }
    scene.ask(Method::DELETE, &roots[1], None).await;
    let all = scene.list("dir=b").await;
    let subscribed = &all["subscribed"][&scene.room];
    assert_eq!(subscribed.as_object().unwrap().len(), 4, "{all}");
    let gone = &all["unsubscribed"][&scene.room][&roots[1]]["bump_stamp"];
    let kept = &subscribed[&roots[4]];
    assert_eq!(kept["automatic"], false);
    assert!(gone.as_u64() > kept["bump_stamp"].as_u64(), "{all}");
    assert!(all.get("end").is_none(), "{all}");

    let (mut from, mut seen) = (String::new(), Vec::new());
    loop {
        let page = scene.list(&format!("dir=b&limit=2{from}")).await;
        for list in ["subscribed", "unsubscribed"] {
            let roots = page[list][&scene.room].as_object();
            seen.extend(roots.into_iter().flat_map(|map| map.keys().cloned()));
        }
        let Some(end) = page["end"].as_str() else {
            break;
        };
        from = format!("&from={end}");
    }
    seen.sort();
    roots.sort();
    assert_eq!(seen, roots, "each once");

    let since = scene.server.sync(&scene.bob, None).await["next_batch"]
        .as_str()
        .unwrap()
        .to_owned();
    let none = scene.list(&format!("dir=b&to={since}")).await;
    assert_eq!(none, json!({}));
    for wrong in [
        "dir=f",
        "limit=1",
        "dir=b&limit=0",
        "dir=b&from=x",
        "dir=b&limit=-1",
    ] {
        let path =
            format!("/_matrix/client/unstable/io.element.msc4308/thread_subscriptions?{wrong}");
        let token = Some(scene.bob.token.as_str());
        let (status, answer) = scene.server.req(Method::GET, &path, token, None).await;
        assert_eq!(status, 400, "{wrong}: {answer}");
    }
}

/// Who follows threads hears of those alone; who never did hears of all, as ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_notify_those_who_follow_them() {
    let scene = Scene::new().await;
    let other = scene.server.say(&scene.alice, &scene.room, "other").await;
    scene.reply(&scene.root, "a").await;
    assert_eq!(scene.unread().await, 3);
    scene.subscribe(&scene.root, json!({})).await;
    scene.reply(&scene.root, "b").await;
    scene.reply(&other, "c").await;
    assert_eq!(
        scene.unread().await,
        4,
        "only what was said in the thread followed"
    );
    scene.ask(Method::DELETE, &scene.root, None).await;
    scene.reply(&scene.root, "d").await;
    assert_eq!(scene.unread().await, 4);

    let rules = "/_matrix/client/v3/pushrules/global/";
    let token = Some(scene.bob.token.as_str());
    let all = scene.server.ok(Method::GET, rules, token, None).await;
    let ids: Vec<&str> = all["postcontent"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|rule| rule["rule_id"].as_str())
        .collect();
    let unsubscribed = ".io.element.msc4306.rule.unsubscribed_thread";
    let subscribed = ".io.element.msc4306.rule.subscribed_thread";
    assert_eq!(ids, [unsubscribed, subscribed]);
    let off = format!("{rules}postcontent/{unsubscribed}/enabled");
    let body = Some(json!({ "enabled": false }));
    scene.server.ok(Method::PUT, &off, token, body).await;
    scene.reply(&scene.root, "e").await;
    assert_eq!(scene.unread().await, 5, "the rule is off");
    let mine = format!("{rules}postcontent/mine");
    let body = Some(json!({ "conditions": [], "actions": ["notify"] }));
    let (status, _) = scene.server.req(Method::PUT, &mine, token, body).await;
    assert_eq!(status, 400, "only the server makes such rules");
}
