//! The rooms of a space, and what an upgrade does to their links.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

fn escape(text: &str) -> String {
    text.replace('!', "%21").replace(':', "%3A")
}

struct Scene {
    server: TestServer,
    alice: Person,
    bob: Person,
}

impl Scene {
    async fn new() -> Scene {
        let server = TestServer::start();
        let alice = server.person("alice").await;
        let bob = server.person("bob").await;
        Scene { server, alice, bob }
    }

    async fn room(&self, name: &str) -> String {
        let body = json!({ "preset": "public_chat", "name": name });
        self.server.room(&self.alice, body).await
    }

    async fn space(&self, name: &str) -> String {
        let body = json!({ "preset": "public_chat", "name": name,
            "creation_content": { "type": "m.space" } });
        self.server.room(&self.alice, body).await
    }

    async fn state(&self, room: &str, kind: &str, key: &str, content: Value) {
        let (room, key) = (escape(room), escape(key));
        let path = format!("/_matrix/client/v3/rooms/{room}/state/{kind}/{key}");
        let token = Some(self.alice.token.as_str());
        self.server
            .ok(Method::PUT, &path, token, Some(content))
            .await;
    }

    async fn child(&self, space: &str, room: &str, more: Value) {
        let mut content = json!({ "via": ["test.example"] });
        for (name, value) in more.as_object().unwrap() {
            content[name] = value.clone();
        }
        self.state(space, "m.space.child", room, content).await;
    }

    async fn walk(&self, who: &Person, space: &str, query: &str) -> (u16, Value) {
        let path = format!(
            "/_matrix/client/v1/rooms/{}/hierarchy{query}",
            escape(space)
        );
        self.server
            .req(Method::GET, &path, Some(&who.token), None)
            .await
    }

    async fn names(&self, who: &Person, space: &str, query: &str) -> Vec<String> {
        let (status, page) = self.walk(who, space, query).await;
        assert_eq!(status, 200, "{page}");
        names(&page)
    }
}

fn names(page: &Value) -> Vec<String> {
    let rooms = page["rooms"].as_array().unwrap().iter();
    rooms
        .map(|room| room["name"].as_str().unwrap_or("-").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_space_is_walked_in_order_and_cycles_end() {
    let scene = Scene::new().await;
    let top = scene.space("top").await;
    let inner = scene.space("inner").await;
    let (a, b, c) = (
        scene.room("a").await,
        scene.room("b").await,
        scene.room("c").await,
    );
    let deep = scene.room("deep").await;
    scene.child(&top, &a, json!({})).await;
    scene.child(&top, &b, json!({ "order": "2" })).await;
    scene
        .child(&top, &inner, json!({ "order": "1", "suggested": true }))
        .await;
    scene
        .child(&inner, &deep, json!({ "suggested": true }))
        .await;
    scene.child(&inner, &top, json!({})).await;
    scene.child(&inner, &inner, json!({})).await;
    scene.child(&top, &c, json!({})).await;
    scene.state(&top, "m.space.child", &c, json!({})).await;
    scene
        .child(&top, "!nowhere:elsewhere.example", json!({}))
        .await;
    let all = scene.names(&scene.alice, &top, "").await;
    assert_eq!(all, ["top", "inner", "deep", "b", "a"]);
    let suggested = scene
        .names(&scene.alice, &top, "?suggested_only=true")
        .await;
    assert_eq!(suggested, ["top", "inner", "deep"]);
    for (depth, found) in [("0", 1), ("1", 4), ("2", 5)] {
        let found_there = scene
            .names(&scene.alice, &top, &format!("?max_depth={depth}"))
            .await;
        assert_eq!(found_there.len(), found, "{depth}");
    }
    let (_, page) = scene.walk(&scene.alice, &top, "?max_depth=0").await;
    let room = &page["rooms"][0];
    assert_eq!(
        (&room["room_type"], &room["room_version"]),
        (&json!("m.space"), &json!("12"))
    );
    let children = room["children_state"].as_array().unwrap();
    let keys: Vec<&Value> = children.iter().map(|child| &child["state_key"]).collect();
    assert_eq!(keys, [&inner, &b, &a, "!nowhere:elsewhere.example"]);
    for child in children {
        let mut fields: Vec<&String> = child.as_object().unwrap().keys().collect();
        fields.sort();
        assert_eq!(
            fields,
            ["content", "origin_server_ts", "sender", "state_key", "type"]
        );
        assert!(child["origin_server_ts"].is_u64(), "{child}");
    }
    let (_, page) = scene.walk(&scene.alice, &a, "").await;
    assert_eq!(page["rooms"][0]["children_state"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_goes_on_where_the_page_ended() {
    let scene = Scene::new().await;
    let top = scene.space("top").await;
    for n in 0..9 {
        let room = scene.room(&format!("room {n}")).await;
        scene
            .child(&top, &room, json!({ "order": n.to_string() }))
            .await;
    }
    let (mut met, mut query) = (Vec::new(), "?limit=4".to_owned());
    let mut tokens = Vec::new();
    loop {
        let (status, page) = scene.walk(&scene.alice, &top, &query).await;
        assert_eq!(status, 200, "{page}");
        met.extend(names(&page));
        let Some(next) = page["next_batch"].as_str() else {
            break;
        };
        tokens.push(next.to_owned());
        query = format!("?limit=4&from={next}");
    }
    let expected: Vec<String> = ["top".to_owned()]
        .into_iter()
        .chain((0..9).map(|n| format!("room {n}")))
        .collect();
    assert_eq!(met, expected);
    // A page that got lost is asked for again.
    let again = format!("?limit=4&from={}", tokens[0]);
    let first = scene.names(&scene.alice, &top, &again).await;
    assert_eq!(first, ["room 3", "room 4", "room 5", "room 6"]);
    for (who, query) in [
        (&scene.bob, again.clone()),
        (&scene.alice, format!("{again}&max_depth=1")),
        (&scene.alice, format!("{again}&suggested_only=true")),
        (&scene.alice, "?from=unknown".to_owned()),
        (&scene.alice, "?limit=0".to_owned()),
        (&scene.alice, "?max_depth=-1".to_owned()),
    ] {
        let (status, error) = scene.walk(who, &top, &query).await;
        let errcode = &error["errcode"];
        assert_eq!(
            (status, errcode),
            (400, &json!("M_INVALID_PARAM")),
            "{query}"
        );
    }
    scene.server.clock.advance(11 * 60 * 1000);
    assert_eq!(scene.walk(&scene.alice, &top, &again).await.0, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_shows_what_one_may_know() {
    let scene = Scene::new().await;
    let (server, alice, bob) = (&scene.server, &scene.alice, &scene.bob);
    let top = scene.space("top").await;
    let with = |name: &str, kind: &str, content: Value| {
        json!({ "preset": "private_chat", "name": name,
            "initial_state": [{ "type": kind, "content": content }] })
    };
    let allow = json!([{ "type": "m.room_membership", "room_id": top }]);
    let rules = "m.room.join_rules";
    for (n, body) in [
        json!({ "preset": "private_chat", "name": "closed" }),
        with("knock", rules, json!({ "join_rule": "knock" })),
        with(
            "limited",
            rules,
            json!({ "join_rule": "restricted", "allow": allow }),
        ),
        with(
            "readable",
            "m.room.history_visibility",
            json!({ "history_visibility": "world_readable" }),
        ),
        json!({ "preset": "private_chat", "name": "invited", "invite": [bob.user_id] }),
    ]
    .into_iter()
    .enumerate()
    {
        let room = server.room(alice, body).await;
        scene
            .child(&top, &room, json!({ "order": n.to_string() }))
            .await;
    }
    let outside = scene.names(bob, &top, "").await;
    assert_eq!(outside, ["top", "knock", "readable", "invited"]);
    server.join(bob, &top).await;
    let inside = scene.names(bob, &top, "").await;
    assert_eq!(inside, ["top", "knock", "limited", "readable", "invited"]);
    let secret = server
        .room(
            alice,
            json!({ "preset": "private_chat", "creation_content": { "type": "m.space" } }),
        )
        .await;
    for room in [secret.as_str(), "!nowhere:test.example"] {
        let (status, error) = scene.walk(bob, room, "").await;
        assert_eq!(
            (status, &error["errcode"]),
            (403, &json!("M_FORBIDDEN")),
            "{room}"
        );
    }
    let path = format!("/_matrix/client/v3/rooms/{}/ban", escape(&top));
    let body = json!({ "user_id": bob.user_id });
    server
        .ok(Method::POST, &path, Some(&alice.token), Some(body))
        .await;
    assert_eq!(scene.walk(bob, &top, "").await.0, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_space_is_walked_quickly() {
    let scene = Scene::new().await;
    let top = scene.space("top").await;
    let room = scene.room("one").await;
    scene.child(&top, &room, json!({ "order": "0" })).await;
    let mut state = Vec::new();
    for n in 0..990 {
        let key = format!("!gone{n}:elsewhere.example");
        state.push(json!({ "type": "m.space.child", "state_key": key,
            "content": { "via": ["elsewhere.example"] } }));
    }
    let body = json!({ "preset": "public_chat", "name": "large", "initial_state": state,
        "creation_content": { "type": "m.space" } });
    let large = scene.server.room(&scene.alice, body).await;
    scene.child(&top, &large, json!({ "order": "1" })).await;
    assert_eq!(
        scene.names(&scene.alice, &top, "").await,
        ["top", "one", "large"]
    );
    // the quickest of some: a busy machine makes single ones slow, not all of them
    let mut quickest = std::time::Duration::MAX;
    for _ in 0..20 {
        let before = std::time::Instant::now();
        scene.walk(&scene.alice, &top, "").await;
        quickest = quickest.min(before.elapsed());
    }
    assert!(
        quickest < std::time::Duration::from_millis(100),
        "{quickest:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_takes_the_links_along() {
    let scene = Scene::new().await;
    let (space, other) = (scene.space("space").await, scene.space("other").await);
    let room = scene.room("room").await;
    scene
        .child(&space, &room, json!({ "order": "a", "suggested": true }))
        .await;
    let parent = json!({ "via": ["far.example"], "canonical": true });
    scene.state(&room, "m.space.parent", &space, parent).await;
    let upgrade = async |room: &str| {
        let path = format!("/_matrix/client/v3/rooms/{}/upgrade", escape(room));
        let body = json!({ "new_version": "11" });
        let token = Some(scene.alice.token.as_str());
        let answer = scene
            .server
            .ok(Method::POST, &path, token, Some(body))
            .await;
        answer["replacement_room"].as_str().unwrap().to_owned()
    };
    let state = async |room: &str, kind: &str, key: &str| {
        let (room, key) = (escape(room), escape(key));
        let path = format!("/_matrix/client/v3/rooms/{room}/state/{kind}/{key}");
        let token = Some(scene.alice.token.as_str());
        scene.server.req(Method::GET, &path, token, None).await
    };
    let new = upgrade(&room).await;
    let via = json!(["test.example"]);
    let (_, link) = state(&new, "m.space.parent", &space).await;
    assert_eq!(link, json!({ "via": via, "canonical": true }));
    let (_, link) = state(&space, "m.space.child", &new).await;
    assert_eq!(link, json!({ "via": via, "order": "a", "suggested": true }));
    assert_eq!(
        state(&space, "m.space.child", &room).await,
        (200, json!({}))
    );
    assert_eq!(state(&other, "m.space.child", &new).await.0, 404);
    assert_eq!(
        scene.names(&scene.alice, &space, "").await,
        ["space", "room"]
    );

    // And the other way round: the room learns of its new space.
    let larger = upgrade(&space).await;
    let (_, link) = state(&larger, "m.space.child", &new).await;
    assert_eq!(link["via"], via);
    let (_, link) = state(&new, "m.space.parent", &larger).await;
    assert_eq!(link, json!({ "via": via, "canonical": true }));
    assert_eq!(
        state(&new, "m.space.parent", &space).await,
        (200, json!({}))
    );
}
