//! Invites: whose one wants, and why one is invited; knocking; where a new name is shown.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

fn escape(text: &str) -> String {
    text.replace('!', "%21")
        .replace('@', "%40")
        .replace(':', "%3A")
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

    async fn post(&self, who: &Person, path: &str, body: Value) -> (u16, Value) {
        let path = format!("/_matrix/client/v3/{path}");
        self.server
            .req(Method::POST, &path, Some(&who.token), Some(body))
            .await
    }

    async fn put(&self, who: &Person, path: &str, body: Value) -> (u16, Value) {
        let path = format!("/_matrix/client/v3/{path}");
        self.server
            .req(Method::PUT, &path, Some(&who.token), Some(body))
            .await
    }

    /// Bob's account data.
    async fn settings(&self, kind: &str, content: Value) {
        let path = format!("user/{}/account_data/{kind}", escape(&self.bob.user_id));
        assert_eq!(self.put(&self.bob, &path, content).await.0, 200);
    }

    async fn invite(&self, room: &str) -> (u16, Value) {
        let body = json!({ "user_id": self.bob.user_id });
        self.post(&self.alice, &format!("rooms/{}/invite", escape(room)), body)
            .await
    }

    async fn invited(&self, since: Option<&str>) -> Vec<String> {
        let sync = self.server.sync(&self.bob, since).await;
        let rooms = sync["rooms"]["invite"].as_object();
        rooms
            .map(|rooms| rooms.keys().cloned().collect())
            .unwrap_or_default()
    }

    async fn member(&self, room: &str, user: &Person) -> Value {
        let (room, user) = (escape(room), escape(&user.user_id));
        let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{user}");
        self.server
            .ok(Method::GET, &path, Some(&self.alice.token), None)
            .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_no_invites_gets_none() {
    let scene = Scene::new().await;
    let early = scene.server.room(&scene.alice, json!({})).await;
    assert_eq!(scene.invite(&early).await.0, 200);
    assert_eq!(scene.invited(None).await, std::slice::from_ref(&early));
    scene
        .settings(
            "m.invite_permission_config",
            json!({ "default_action": "block" }),
        )
        .await;
    assert!(
        scene.invited(None).await.is_empty(),
        "one that was there is hidden"
    );
    let room = scene.server.room(&scene.alice, json!({})).await;
    let (status, error) = scene.invite(&room).await;
    assert_eq!(
        (status, &error["errcode"]),
        (403, &json!("M_INVITE_BLOCKED"))
    );
    let path = format!(
        "rooms/{}/state/m.room.member/{}",
        escape(&room),
        escape(&scene.bob.user_id)
    );
    let (status, error) = scene
        .put(&scene.alice, &path, json!({ "membership": "invite" }))
        .await;
    assert_eq!(
        (status, &error["errcode"]),
        (403, &json!("M_INVITE_BLOCKED"))
    );
    let body = json!({ "invite": [scene.bob.user_id] });
    let (status, error) = scene.post(&scene.alice, "createRoom", body).await;
    assert_eq!(
        (status, &error["errcode"]),
        (403, &json!("M_INVITE_BLOCKED"))
    );
    scene
        .settings(
            "m.invite_permission_config",
            json!({ "default_action": "later" }),
        )
        .await;
    assert_eq!(scene.invite(&room).await.0, 200);
    assert_eq!(scene.invited(None).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invites_are_filtered_by_patterns() {
    let scene = Scene::new().await;
    let filter = "org.matrix.msc4155.invite_permission_config";
    let room = scene.server.room(&scene.alice, json!({})).await;
    for (content, status, shown) in [
        (
            json!({ "blocked_users": ["@al*:test.example"] }),
            403,
            false,
        ),
        (json!({ "blocked_servers": ["*.example"] }), 403, false),
        (json!({ "ignored_users": ["@alice:*"] }), 200, false),
        (json!({ "ignored_servers": ["test.example"] }), 200, false),
        (
            json!({ "blocked_servers": ["*"], "allowed_users": ["@alice:test.example"] }),
            200,
            true,
        ),
        (
            json!({ "blocked_users": ["@eve:*"], "blocked_servers": "*" }),
            200,
            true,
        ),
        (
            json!({ "blocked_servers": ["*"], "allowed_servers": ["test.example"] }),
            200,
            true,
        ),
        (
            json!({ "ignored_servers": ["*"], "allowed_servers": ["other.example"] }),
            200,
            false,
        ),
    ] {
        scene.settings(filter, content.clone()).await;
        let since = scene.server.sync(&scene.bob, None).await["next_batch"].clone();
        assert_eq!(scene.invite(&room).await.0, status, "{content}");
        let news = scene.invited(since.as_str()).await;
        assert_eq!(!news.is_empty(), shown, "{content}");
        let kick = format!("rooms/{}/kick", escape(&room));
        scene
            .post(&scene.alice, &kick, json!({ "user_id": scene.bob.user_id }))
            .await;
        let sync = scene.server.sync(&scene.bob, since.as_str()).await;
        let left = &sync["rooms"]["leave"];
        assert_eq!(left[&room].is_object(), shown, "{content}: {left}");
    }
    scene.settings(filter, json!({})).await;
    let ignored = json!({ "ignored_users": { scene.alice.user_id.clone(): {} } });
    scene.settings("m.ignored_user_list", ignored).await;
    assert_eq!(
        scene.invite(&room).await.0,
        200,
        "whom one ignores does not learn of it"
    );
    assert!(scene.invited(None).await.is_empty());
    // Nor do the ways that clients had before tell of it.
    let get = async |path: String| {
        let token = Some(scene.bob.token.as_str());
        let path = format!("/_matrix/client/v3/{path}");
        scene.server.ok(Method::GET, &path, token, None).await
    };
    let all = get("initialSync".to_owned()).await;
    assert_eq!(all["rooms"], json!([]));
    let since = all["end"].as_str().unwrap();
    let kick = format!("rooms/{}/kick", escape(&room));
    let body = json!({ "user_id": scene.bob.user_id });
    assert_eq!(scene.post(&scene.alice, &kick, body).await.0, 200);
    assert_eq!(scene.invite(&room).await.0, 200);
    let news = get(format!("events?from={since}&timeout=0")).await;
    assert_eq!(news["chunk"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_move_may_have_a_reason() {
    let scene = Scene::new().await;
    let body = json!({ "invite": [scene.bob.user_id], "is_direct": true,
        "uk.timedout.msc4491.invite_reason": "A room for two" });
    let room = scene.server.room(&scene.alice, body).await;
    let member = scene.member(&room, &scene.bob).await;
    assert_eq!(member["reason"], "A room for two");
    assert_eq!(member["is_direct"], true);
    let at = escape(&room);
    let bob = scene.bob.user_id.as_str();
    for (who, what, membership) in [
        (&scene.bob, "leave", "leave"),
        (&scene.alice, "invite", "invite"),
        (&scene.bob, "join", "join"),
        (&scene.alice, "kick", "leave"),
        (&scene.alice, "ban", "ban"),
        (&scene.alice, "unban", "leave"),
    ] {
        let mut body = json!({ "reason": format!("for {what}") });
        if who.user_id == scene.alice.user_id {
            body["user_id"] = json!(bob);
        }
        let (status, answer) = scene.post(who, &format!("rooms/{at}/{what}"), body).await;
        assert_eq!(status, 200, "{what}: {answer}");
        let member = scene.member(&room, &scene.bob).await;
        let expected = (json!(membership), json!(format!("for {what}")));
        assert_eq!(
            (member["membership"].clone(), member["reason"].clone()),
            expected
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn knocking_from_the_first_to_the_last_word() {
    let scene = Scene::new().await;
    let (alice, bob) = (&scene.alice, &scene.bob);
    let hall = scene
        .server
        .room(alice, json!({ "preset": "public_chat" }))
        .await;
    for (rule, version) in [("knock", "7"), ("knock", "12"), ("knock_restricted", "12")] {
        let content = json!({ "join_rule": rule,
            "allow": [{ "type": "m.room_membership", "room_id": hall }] });
        let body = json!({ "room_version": version, "name": "Behind the door",
            "initial_state": [{ "type": "m.room.join_rules", "content": content }] });
        let room = scene.server.room(alice, body).await;
        let at = escape(&room);
        let knock = format!("knock/{at}");
        let since = scene.server.sync(bob, None).await["next_batch"].clone();
        let (status, answer) = scene
            .post(bob, &knock, json!({ "reason": "let me in" }))
            .await;
        assert_eq!(
            (status, &answer["room_id"]),
            (200, &json!(room)),
            "{rule} {answer}"
        );
        let sync = scene.server.sync(bob, since.as_str()).await;
        let seen = &sync["rooms"]["knock"][&room]["knock_state"]["events"];
        let events = seen.as_array().unwrap();
        let has = |kind: &str| events.iter().any(|event| event["type"] == kind);
        assert!(
            has("m.room.name") && has("m.room.create") && has("m.room.member"),
            "{seen}"
        );
        assert_eq!(scene.member(&room, bob).await["reason"], "let me in");
        // Taken back, and tried again.
        assert_eq!(
            scene
                .post(bob, &format!("rooms/{at}/leave"), json!({}))
                .await
                .0,
            200
        );
        assert_eq!(scene.post(bob, &knock, json!({})).await.0, 200);
        // Refused.
        let kick = json!({ "user_id": bob.user_id, "reason": "no" });
        assert_eq!(
            scene.post(alice, &format!("rooms/{at}/kick"), kick).await.0,
            200
        );
        assert_eq!(scene.post(bob, &knock, json!({})).await.0, 200);
        // Let in.
        assert_eq!(scene.invite(&room).await.0, 200);
        assert_eq!(
            scene.post(bob, &knock, json!({})).await.0,
            403,
            "invited already"
        );
        assert_eq!(
            scene
                .post(bob, &format!("rooms/{at}/join"), json!({}))
                .await
                .0,
            200
        );
        assert_eq!(
            scene.post(bob, &knock, json!({})).await.0,
            403,
            "in it already"
        );
    }
    let closed = scene.server.room(alice, json!({})).await;
    let (status, error) = scene
        .post(bob, &format!("knock/{}", escape(&closed)), json!({}))
        .await;
    assert_eq!((status, &error["errcode"]), (403, &json!("M_FORBIDDEN")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_name_is_shown_where_one_says() {
    let scene = Scene::new().await;
    let (server, alice) = (&scene.server, &scene.alice);
    let plain = server.room(alice, json!({})).await;
    let own = server.room(alice, json!({})).await;
    let user = escape(&alice.user_id);
    let nick = format!("rooms/{}/state/m.room.member/{user}", escape(&own));
    let there =
        json!({ "membership": "join", "displayname": "Nick", "avatar_url": "mxc://x/nick" });
    assert_eq!(scene.put(alice, &nick, there).await.0, 200);
    let rename = async |name: &str, to: &str| {
        let path = format!("profile/{user}/displayname{to}");
        assert_eq!(
            scene
                .put(alice, &path, json!({ "displayname": name }))
                .await
                .0,
            200
        );
    };
    let names = async || {
        let mut names = Vec::new();
        for room in [&plain, &own] {
            names.push(scene.member(room, alice).await["displayname"].clone());
        }
        names
    };
    let becomes = async |expected: [&str; 2]| {
        for _ in 0..200 {
            if names().await == expected {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(names().await, expected);
    };
    let unchanged = "?computer.gingershaped.msc4466.propagate_to=unchanged";
    rename("Two", unchanged).await;
    becomes(["Two", "Nick"]).await;
    rename("Three", "?computer.gingershaped.msc4466.propagate_to=none").await;
    rename("Four", unchanged).await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    becomes(["Two", "Nick"]).await;
    rename("Five", "?org.matrix.msc4069.propagate=false").await;
    rename("Six", "?computer.gingershaped.msc4466.propagate_to=all").await;
    becomes(["Six", "Six"]).await;
    let member = scene.member(&own, alice).await;
    assert_eq!(
        member["avatar_url"], "mxc://x/nick",
        "the other field stays"
    );
    let path = format!("/_matrix/client/v3/profile/{user}/displayname{unchanged}");
    server
        .ok(Method::DELETE, &path, Some(&alice.token), None)
        .await;
    for _ in 0..200 {
        if names().await == [Value::Null, Value::Null] {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(names().await, [Value::Null, Value::Null]);
    let path = format!("/_matrix/client/v3/profile/{user}/displayname");
    assert_eq!(server.ok(Method::GET, &path, None, None).await, json!({}));
}
