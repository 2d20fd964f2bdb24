//! Pushers, push gateways, web push, badges, and the list of notifications.

use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::hmac;
use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Gateway, Person, TestServer};

/// The path of every push gateway.
const NOTIFY: &str = "/_matrix/push/v1/notify";
const SET: &str = "/_matrix/client/v3/pushers/set";
const PUSHERS: &str = "/_matrix/client/v3/pushers";
const PRIVATE: &str = "[http_client]\nallowed_private = [\"localhost\"]";

/// Alice, who is pushed to, Bob, and a room with both.
struct Scene {
    server: TestServer,
    gateway: Gateway,
    alice: Person,
    bob: Person,
    room: String,
}

impl Scene {
    async fn new() -> Scene {
        let server = TestServer::start_with(PRIVATE);
        let alice = server.person("alice").await;
        let bob = server.person("bob").await;
        let body = json!({ "preset": "private_chat", "name": "Harbour" });
        let room = server.room(&bob, body).await;
        server.invite(&bob, &room, &alice).await;
        server.join(&alice, &room).await;
        let gateway = Gateway::start().await;
        Scene {
            server,
            gateway,
            alice,
            bob,
            room,
        }
    }

    fn pusher(&self, key: &str) -> Value {
        pusher(&self.gateway, key)
    }

    async fn set(&self, body: Value) {
        let token = Some(self.alice.token.as_str());
        self.server.ok(Method::POST, SET, token, Some(body)).await;
    }

    async fn pushers(&self) -> Vec<Value> {
        pushers(&self.server, &self.alice).await
    }

    async fn read(&self, event: &str) {
        let (room, event) = (escape(&self.room), escape(event));
        let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{event}");
        let token = Some(self.alice.token.as_str());
        self.server
            .ok(Method::POST, &path, token, Some(json!({})))
            .await;
    }

    /// Alice's client comes to the foreground and stays there.
    async fn settle(&self) {
        self.server.sync(&self.alice, None).await;
        self.server.clock.advance(11_000);
        self.server.sync(&self.alice, None).await;
    }

    /// Lets time go by.
    fn advance(&self, ms: u64) {
        self.server.clock.advance(ms);
        self.server.house.outgoing.outbox.look_again();
    }
}

fn escape(text: &str) -> String {
    text.replace('!', "%21")
        .replace('$', "%24")
        .replace(':', "%3A")
        .replace('@', "%40")
}

fn pusher(gateway: &Gateway, key: &str) -> Value {
    json!({
        "kind": "http",
        "app_id": "org.example.app",
        "pushkey": key,
        "app_display_name": "App",
        "device_display_name": "Phone",
        "profile_tag": "tag",
        "lang": "en",
        "data": { "url": gateway.url(NOTIFY), "custom": [1] },
    })
}

async fn pushers(server: &TestServer, who: &Person) -> Vec<Value> {
    let answer = server
        .ok(Method::GET, PUSHERS, Some(&who.token), None)
        .await;
    answer["pushers"].as_array().unwrap().clone()
}

/// Long enough for what shall not come to have come.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_pushed_and_reading_it_clears_the_badge() {
    let scene = Scene::new().await;
    scene.set(scene.pusher("key")).await;
    let event = scene.server.say(&scene.bob, &scene.room, "ahoy").await;
    let told = scene.gateway.wait(1).await[0].clone();
    assert_eq!(told.path, NOTIFY);
    assert_eq!(told.headers["content-type"], "application/json");
    let notification = &told.json()["notification"];
    let set_at = notification["devices"][0]["pushkey_ts"].clone();
    assert!(set_at.as_u64().unwrap() > 1_700_000_000, "{set_at}");
    let expected = json!({
        "event_id": event,
        "id": event,
        "room_id": scene.room,
        "type": "m.room.message",
        "sender": scene.bob.user_id,
        "sender_display_name": "bob",
        "room_name": "Harbour",
        "content": { "msgtype": "m.text", "body": "ahoy" },
        // Two people: a direct chat makes a sound.
        "prio": "high",
        "counts": { "unread": 1 },
        "devices": [{
            "app_id": "org.example.app",
            "pushkey": "key",
            "pushkey_ts": set_at,
            "data": { "custom": [1] },
            "tweaks": { "sound": "default" },
        }],
    });
    assert_eq!(*notification, expected);
    let event = scene.server.say(&scene.bob, &scene.room, "again").await;
    let told = scene.gateway.wait(2).await;
    assert_eq!(told[1].json()["notification"]["counts"]["unread"], 2);
    scene.read(&event).await;
    let told = scene.gateway.wait(3).await;
    let badge = &told[2].json()["notification"];
    assert_eq!(badge["counts"], json!({ "unread": 0 }));
    assert!(badge.get("event_id").is_none(), "{badge}");
    assert_eq!(badge["devices"][0]["pushkey"], "key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pusher_is_told_only_what_it_wants_to_know() {
    let scene = Scene::new().await;
    let mut pusher = scene.pusher("key");
    pusher["data"]["format"] = json!("event_id_only");
    pusher["data"]["org.matrix.msc4076.disable_badge_count"] = json!(true);
    scene.set(pusher).await;
    let event = scene.server.say(&scene.bob, &scene.room, "secret").await;
    let told = scene.gateway.wait(1).await[0].json();
    let notification = &told["notification"];
    assert_eq!(notification["event_id"], *event);
    assert_eq!(notification["room_id"], *scene.room);
    assert_eq!(notification["counts"], json!({}));
    for field in [
        "content",
        "sender",
        "type",
        "room_name",
        "sender_display_name",
    ] {
        assert!(notification.get(field).is_none(), "{notification}");
    }
    scene.read(&event).await;
    a_moment().await;
    assert_eq!(
        scene.gateway.told().len(),
        1,
        "no badge where none is wanted"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invites_and_mentions_are_pushed_and_notices_are_not() {
    let scene = Scene::new().await;
    scene.set(scene.pusher("key")).await;
    let body = json!({ "preset": "public_chat", "room_alias_name": "quay" });
    let quay = scene.server.room(&scene.bob, body).await;
    scene.server.invite(&scene.bob, &quay, &scene.alice).await;
    let invite = scene.gateway.wait(1).await[0].json();
    let invite = &invite["notification"];
    assert_eq!(invite["type"], "m.room.member");
    assert_eq!(invite["membership"], "invite");
    assert_eq!(invite["user_is_target"], true);
    assert_eq!(invite["room_alias"], "#quay:test.example");
    assert_eq!(invite["room_name"], "#quay:test.example");
    assert_eq!(invite["counts"]["unread"], 1);
    let send = async |n: u32, content: Value| {
        let room = escape(&scene.room);
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/x{n}");
        let token = Some(scene.bob.token.as_str());
        scene
            .server
            .ok(Method::PUT, &path, token, Some(content))
            .await;
    };
    send(1, json!({ "msgtype": "m.notice", "body": "beep" })).await;
    let mentions = json!({ "user_ids": [scene.alice.user_id] });
    send(
        2,
        json!({ "msgtype": "m.text", "body": "you", "m.mentions": mentions }),
    )
    .await;
    let told = scene.gateway.wait(2).await[1].json();
    let notification = &told["notification"];
    assert_eq!(notification["content"]["body"], "you");
    let tweaks = &notification["devices"][0]["tweaks"];
    assert_eq!(*tweaks, json!({ "highlight": true, "sound": "default" }));
    assert_eq!(notification["prio"], "high");
    // Where nothing is said of mentions, the text is looked at.
    let mute = json!({ "actions": [] });
    let room = escape(&scene.room);
    let path = format!("/_matrix/client/v3/pushrules/global/room/{room}");
    let token = Some(scene.alice.token.as_str());
    scene.server.ok(Method::PUT, &path, token, Some(mute)).await;
    send(3, json!({ "msgtype": "m.text", "body": "to nobody" })).await;
    send(
        4,
        json!({ "msgtype": "m.text", "body": "alice, look", "m.mentions": {} }),
    )
    .await;
    send(5, json!({ "msgtype": "m.text", "body": "Alice, look" })).await;
    let told = scene.gateway.wait(3).await[2].json();
    assert_eq!(told["notification"]["content"]["body"], "Alice, look");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_fails_is_left_alone_for_a_while_and_nothing_is_lost() {
    let mut scene = Scene::new().await;
    scene.set(scene.pusher("key")).await;
    scene.gateway.answer_all(502, json!({}));
    scene.server.say(&scene.bob, &scene.room, "one").await;
    scene.gateway.wait(1).await;
    a_moment().await;
    scene.server.say(&scene.bob, &scene.room, "two").await;
    scene.server.house.outgoing.outbox.look_again();
    a_moment().await;
    assert_eq!(scene.gateway.told().len(), 1, "it is left alone");
    scene.advance(2_100);
    scene.gateway.wait(2).await;
    a_moment().await;
    scene.advance(2_100);
    a_moment().await;
    assert_eq!(scene.gateway.told().len(), 2, "longer each time");
    // The time at which it is tried again is known also after a restart.
    scene.server = scene.server.restart().await;
    a_moment().await;
    assert_eq!(scene.gateway.told().len(), 2, "a restart does not hurry");
    scene.gateway.answer_all(200, json!({}));
    scene.advance(60_000);
    let told = scene.gateway.wait(4).await;
    let bodies: Vec<Value> = told[2..]
        .iter()
        .map(|told| told.json()["notification"]["content"]["body"].clone())
        .collect();
    assert_eq!(bodies, ["one", "two"]);
    // A transaction that was not there before the restart.
    let room = escape(&scene.room);
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/after");
    let three = json!({ "msgtype": "m.text", "body": "three" });
    let bob = Some(scene.bob.token.as_str());
    scene.server.ok(Method::PUT, &path, bob, Some(three)).await;
    scene.gateway.wait(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_says_how_long_it_wants_to_be_left_alone_and_which_keys_are_gone() {
    let scene = Scene::new().await;
    scene.set(scene.pusher("good")).await;
    scene.set(scene.pusher("gone")).await;
    scene
        .gateway
        .answer_all(200, json!({ "rejected": ["gone", "stranger"] }));
    scene.server.say(&scene.bob, &scene.room, "one").await;
    scene.gateway.wait(2).await;
    for _ in 0..200 {
        if scene.pushers().await.len() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let left = scene.pushers().await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["pushkey"], "good");
    scene.server.say(&scene.bob, &scene.room, "two").await;
    let told = scene.gateway.wait(3).await;
    a_moment().await;
    assert_eq!(scene.gateway.told().len(), 3);
    assert_eq!(
        told[2].json()["notification"]["devices"][0]["pushkey"],
        "good"
    );
    // What the gateway refuses is not repeated.
    scene.gateway.answer(400, json!({}));
    scene.server.say(&scene.bob, &scene.room, "bad").await;
    scene.server.say(&scene.bob, &scene.room, "next").await;
    let told = scene.gateway.wait(5).await;
    let body = |n: usize| told[n].json()["notification"]["content"]["body"].clone();
    assert_eq!((body(3), body(4)), (json!("bad"), json!("next")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushers_are_listed_replaced_and_removed() {
    let scene = Scene::new().await;
    scene.set(scene.pusher("key")).await;
    let mut second = scene.pusher("key");
    second["lang"] = json!("de");
    scene.set(second).await;
    let all = scene.pushers().await;
    assert_eq!(all.len(), 1, "{all:?}");
    let mut expected = scene.pusher("key");
    expected["lang"] = json!("de");
    expected["org.matrix.msc3881.enabled"] = json!(true);
    expected["org.matrix.msc3881.device_id"] = json!(scene.alice.device);
    assert_eq!(all[0], expected);
    // Another user takes the device over, or shares it.
    let token = Some(scene.bob.token.as_str());
    let mut shared = scene.pusher("key");
    shared["append"] = json!(true);
    scene
        .server
        .ok(Method::POST, SET, token, Some(shared))
        .await;
    assert_eq!(scene.pushers().await.len(), 1);
    let taken = scene.pusher("key");
    scene.server.ok(Method::POST, SET, token, Some(taken)).await;
    assert_eq!(scene.pushers().await.len(), 0);
    let gone = json!({ "kind": null, "app_id": "org.example.app", "pushkey": "key" });
    scene.server.ok(Method::POST, SET, token, Some(gone)).await;
    assert!(pushers(&scene.server, &scene.bob).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_pusher_is_refused() {
    let scene = Scene::new().await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = scene.pusher("key");
        change(&mut body);
        body
    };
    let url = |url: &'static str| with(&move |body| body["data"]["url"] = json!(url));
    let without = |field: &'static str| {
        with(&move |body| {
            body.as_object_mut().unwrap().remove(field);
        })
    };
    for (body, code) in [
        (
            url("http://push.example.com/_matrix/push/v1/notify"),
            "M_INVALID_PARAM",
        ),
        (url("https://push.example.com/other"), "M_INVALID_PARAM"),
        (
            url("ftp://push.example.com/_matrix/push/v1/notify"),
            "M_INVALID_PARAM",
        ),
        (
            url("https://a@push.example.com/_matrix/push/v1/notify"),
            "M_INVALID_PARAM",
        ),
        (url("nonsense"), "M_INVALID_PARAM"),
        (
            with(&|body| body["kind"] = json!("email")),
            "M_INVALID_PARAM",
        ),
        (
            with(&|body| body["kind"] = json!("pigeon")),
            "M_INVALID_PARAM",
        ),
        (
            with(&|body| body["app_id"] = json!("x".repeat(65))),
            "M_INVALID_PARAM",
        ),
        (
            with(&|body| body["pushkey"] = json!("x".repeat(513))),
            "M_INVALID_PARAM",
        ),
        (with(&|body| body["data"] = json!({})), "M_MISSING_PARAM"),
        (without("data"), "M_MISSING_PARAM"),
        (without("lang"), "M_MISSING_PARAM"),
        (without("kind"), "M_MISSING_PARAM"),
        (without("app_id"), "M_MISSING_PARAM"),
    ] {
        let token = Some(scene.alice.token.as_str());
        let (status, answer) = scene
            .server
            .req(Method::POST, SET, token, Some(body.clone()))
            .await;
        assert_eq!(
            (status, &answer["errcode"]),
            (400, &json!(code)),
            "{body}: {answer}"
        );
    }
    assert!(scene.pushers().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pusher_goes_with_its_device() {
    let scene = Scene::new().await;
    let other = scene.server.log_in("alice").await;
    scene.set(scene.pusher("mine")).await;
    let theirs = scene.pusher("theirs");
    let token = Some(other.token.as_str());
    scene
        .server
        .ok(Method::POST, SET, token, Some(theirs))
        .await;
    assert_eq!(scene.pushers().await.len(), 2);
    let body = json!({
        "new_password": "another password",
        "auth": {
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": "alice" },
            "password": "correct horse",
        },
    });
    let path = "/_matrix/client/v3/account/password";
    let mine = Some(scene.alice.token.as_str());
    scene.server.ok(Method::POST, path, mine, Some(body)).await;
    let left = scene.pushers().await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["pushkey"], "mine");
    let path = "/_matrix/client/v3/logout";
    scene
        .server
        .ok(Method::POST, path, mine, Some(json!({})))
        .await;
    scene.server.say(&scene.bob, &scene.room, "anybody?").await;
    a_moment().await;
    assert!(scene.gateway.told().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pusher_is_switched_off_from_another_device() {
    let scene = Scene::new().await;
    scene.set(scene.pusher("key")).await;
    let other = scene.server.log_in("alice").await;
    let token = Some(other.token.as_str());
    let switch = async |on: bool| {
        let mut body = scene.pusher("key");
        body["org.matrix.msc3881.enabled"] = json!(on);
        scene.server.ok(Method::POST, SET, token, Some(body)).await;
    };
    switch(false).await;
    let all = scene.pushers().await;
    assert_eq!(all[0]["org.matrix.msc3881.enabled"], false);
    assert_eq!(
        all[0]["org.matrix.msc3881.device_id"],
        json!(scene.alice.device)
    );
    scene.server.say(&scene.bob, &scene.room, "quiet").await;
    a_moment().await;
    assert!(scene.gateway.told().is_empty());
    switch(true).await;
    scene.server.say(&scene.bob, &scene.room, "loud").await;
    let told = scene.gateway.wait(1).await;
    assert_eq!(told[0].json()["notification"]["content"]["body"], "loud");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_there_gets_a_moment_to_read() {
    let scene = Scene::new().await;
    scene.set(scene.pusher("key")).await;
    scene.settle().await;
    let read = scene.server.say(&scene.bob, &scene.room, "read").await;
    a_moment().await;
    assert!(scene.gateway.told().is_empty());
    scene.read(&read).await;
    scene.server.say(&scene.bob, &scene.room, "unread").await;
    a_moment().await;
    // The receipt tells of the badge; nothing is said of what was read.
    scene.advance(6_000);
    let told = scene.gateway.wait(2).await;
    let about: Vec<Value> = told
        .iter()
        .map(|told| told.json()["notification"]["content"]["body"].clone())
        .filter(|body| !body.is_null())
        .collect();
    assert_eq!(about, ["unread"]);
    // Who did nothing for a while is told at once.
    scene.advance(120_000);
    scene.server.say(&scene.bob, &scene.room, "away").await;
    let told = scene.gateway.wait(3).await;
    assert_eq!(told[2].json()["notification"]["content"]["body"], "away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_back_survives_a_restart() {
    let mut scene = Scene::new().await;
    scene.set(scene.pusher("key")).await;
    scene.settle().await;
    scene.server.say(&scene.bob, &scene.room, "held").await;
    a_moment().await;
    assert!(scene.gateway.told().is_empty());
    // The clock begins anew.
    scene.server = scene.server.restart().await;
    scene.advance(30_000);
    let told = scene.gateway.wait(1).await;
    assert_eq!(told[0].json()["notification"]["content"]["body"], "held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn palpo_e9940279_a_private_gateway_is_not_reached_unless_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    let gateway = Gateway::start_tls(&ca_file).await;
    for (named, told) in [("", 0), ("allowed_private = [\"localhost\"]", 1)] {
        let config = format!("[http_client]\nca_file = {ca_file:?}\n{named}");
        let server = TestServer::start_with(&config);
        let alice = server.person("alice").await;
        let bob = server.person("bob").await;
        let room = server.room(&bob, json!({})).await;
        server.invite(&bob, &room, &alice).await;
        server.join(&alice, &room).await;
        let body = pusher(&gateway, "key");
        server
            .ok(Method::POST, SET, Some(&alice.token), Some(body))
            .await;
        server.say(&bob, &room, "ahoy").await;
        if told > 0 {
            gateway.wait(told).await;
        }
        a_moment().await;
        assert_eq!(gateway.told().len(), told);
    }
}

/// What a browser makes when it subscribes.
struct Subscription {
    key: PrivateKey,
    auth: [u8; 16],
}

impl Subscription {
    fn new() -> Subscription {
        Subscription {
            key: PrivateKey::generate(&ECDH_P256).unwrap(),
            auth: *b"sixteen bytes ..",
        }
    }

    fn public(&self) -> Vec<u8> {
        self.key.compute_public_key().unwrap().as_ref().to_vec()
    }

    fn pusher(&self, gateway: &Gateway) -> Value {
        json!({
            "kind": "org.matrix.msc4174.webpush",
            "app_id": "org.example.web",
            "pushkey": base64url(&self.public()),
            "app_display_name": "Web",
            "device_display_name": "Browser",
            "lang": "en",
            "data": {
                "url": gateway.url("/subscription/1"),
                "auth": base64url(&self.auth),
                "default_payload": { "account": 7 },
            },
        })
    }

    fn open(&self, body: &[u8]) -> Value {
        serde_json::from_slice(&self.decrypt(body)).unwrap()
    }

    /// RFC 8291, from the receiving side.
    fn decrypt(&self, body: &[u8]) -> Vec<u8> {
        let hkdf = |salt: &[u8], secret: &[u8], info: &[u8], length: usize| {
            let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), secret);
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
            hmac::sign(&key, &[info, &[1]].concat()).as_ref()[..length].to_vec()
        };
        let (salt, rest) = body.split_at(16);
        let (sender, sealed) = rest[5..].split_at(usize::from(rest[4]));
        let info = [b"WebPush: info\0", &self.public()[..], sender].concat();
        let theirs = UnparsedPublicKey::new(&ECDH_P256, sender);
        let input = agree(&self.key, theirs, (), |secret| {
            Ok(hkdf(&self.auth, secret, &info, 32))
        });
        let input = input.unwrap();
        let key = hkdf(salt, &input, b"Content-Encoding: aes128gcm\0", 16);
        let nonce = hkdf(salt, &input, b"Content-Encoding: nonce\0", 12);
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).unwrap());
        let nonce = Nonce::try_assume_unique_for_key(&nonce).unwrap();
        let mut sealed = sealed.to_vec();
        let text = key.open_in_place(nonce, Aad::empty(), &mut sealed).unwrap();
        assert_eq!(text.last(), Some(&2), "the last record");
        text[..text.len() - 1].to_vec()
    }
}

fn base64url(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn from_base64url(text: &str) -> Vec<u8> {
    use base64::Engine;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    engine.decode(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_is_pushed_to_without_a_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    let service = Gateway::start_tls(&ca_file).await;
    service.answer_all(201, json!({}));
    let config = format!("{PRIVATE}\nca_file = {ca_file:?}");
    let server = TestServer::start_with(&config);
    let alice = server.person("alice").await;
    let bob = server.person("bob").await;
    let room = server.room(&bob, json!({})).await;
    server.invite(&bob, &room, &alice).await;
    server.join(&alice, &room).await;
    let token = Some(alice.token.as_str());
    let path = "/_matrix/client/v3/capabilities";
    let capabilities = server.ok(Method::GET, path, token, None).await;
    let capability = capabilities["capabilities"]["org.matrix.msc4174.webpush"].clone();
    assert_eq!(capability["enabled"], true);

    let browser = Subscription::new();
    let set = async || {
        let body = browser.pusher(&service);
        server.req(Method::POST, SET, token, Some(body)).await.0
    };
    assert_eq!(set().await, 201, "it has to be activated");
    let told = service.wait(1).await[0].clone();
    assert_eq!(told.path, "/subscription/1");
    assert_eq!(told.headers["content-encoding"], "aes128gcm");
    assert!(
        told.headers["ttl"]
            .to_str()
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 0
    );
    let proof = told.headers["authorization"].to_str().unwrap();
    check_vapid(proof, &capability, &service);
    let ask = browser.open(&told.body);
    assert_eq!(ask["app_id"], "org.example.web");
    // Until then nothing else is sent.
    server.say(&bob, &room, "too early").await;
    a_moment().await;
    assert_eq!(service.told().len(), 1);
    assert_eq!(pushers(&server, &alice).await[0]["activated"], false);

    let ack = async |token_sent: &Value| {
        let path = "/_matrix/client/unstable/org.matrix.msc4174/pushers/ack";
        let body = json!({ "app_id": "org.example.web", "ack_token": token_sent });
        let (status, answer) = server.req(Method::POST, path, token, Some(body)).await;
        (status, answer["errcode"].clone())
    };
    let unknown = (400, json!("M_UNKNOWN_ACTIVATION_TOKEN"));
    assert_eq!(ack(&json!("wrong")).await, unknown);
    server.clock.advance(6 * 60_000);
    let expired = (410, json!("M_EXPIRED_ACTIVATION_TOKEN"));
    assert_eq!(ack(&ask["ack_token"]).await, expired);
    assert_eq!(set().await, 201);
    let ask = browser.open(&service.wait(2).await[1].body);
    assert_eq!(ack(&ask["ack_token"]).await, (200, Value::Null));
    assert_eq!(pushers(&server, &alice).await[0]["activated"], true);
    assert_eq!(set().await, 200, "the same subscription is known");

    let event = server.say(&bob, &room, "ahoy").await;
    let told = service.wait(3).await[2].clone();
    assert_eq!(told.headers["urgency"], "high");
    let notification = browser.open(&told.body);
    assert_eq!(notification["event_id"], *event);
    assert_eq!(notification["content"]["body"], "ahoy");
    assert_eq!(notification["unread"], 2);
    assert_eq!(notification["account"], 7);
    // What is too long for push services is told by its id.
    let long = server.say(&bob, &room, &"x".repeat(9_000)).await;
    let notification = browser.open(&service.wait(4).await[3].body);
    assert_eq!(notification["event_id"], *long);
    assert!(notification.get("content").is_none());
    // The browser took its subscription back.
    service.answer(410, json!({}));
    server.say(&bob, &room, "gone").await;
    service.wait(5).await;
    a_moment().await;
    assert!(pushers(&server, &alice).await.is_empty());
    let not_found = (404, json!("M_NOT_FOUND"));
    assert_eq!(ack(&json!("any")).await, not_found);
}

/// RFC 8292: who sends, for which push service, until when.
fn check_vapid(header: &str, capability: &Value, service: &Gateway) {
    let (token, key) = header
        .strip_prefix("vapid t=")
        .and_then(|rest| rest.split_once(", k="))
        .unwrap();
    assert_eq!(json!(key), capability["vapid"]);
    assert_eq!(from_base64url(key).len(), 65);
    let claims: Vec<&str> = token.split('.').collect();
    let claims: Value = serde_json::from_slice(&from_base64url(claims[1])).unwrap();
    assert_eq!(claims["aud"], service.url(""));
    assert!(
        claims["sub"].as_str().unwrap().starts_with("http"),
        "{claims}"
    );
    // The test's clock stands in November 2026.
    let until = claims["exp"].as_u64().unwrap();
    assert!(
        (1_795_219_200..1_795_219_200 + 86_400).contains(&until),
        "{until}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_notified_is_listed_newest_first() {
    let scene = Scene::new().await;
    let (server, alice, bob) = (&scene.server, &scene.alice, &scene.bob);
    let other = server.room(bob, json!({ "preset": "private_chat" })).await;
    server.invite(bob, &other, alice).await;
    server.join(alice, &other).await;
    let mut said = Vec::new();
    for n in 0..5 {
        let room = if n % 2 == 0 { &scene.room } else { &other };
        said.push(server.say(bob, room, &format!("{n}")).await);
        server.say(alice, room, "mine").await;
    }
    let list = async |query: &str| {
        let path = format!("/_matrix/client/v3/notifications{query}");
        server
            .ok(Method::GET, &path, Some(&alice.token), None)
            .await
    };
    scene.read(&said[2]).await;
    let all = list("").await;
    assert!(all.get("next_token").is_none(), "{all}");
    let found = all["notifications"].as_array().unwrap();
    let ids: Vec<&str> = found
        .iter()
        .map(|one| one["event"]["event_id"].as_str().unwrap())
        .collect();
    let newest_first: Vec<&str> = said.iter().rev().map(String::as_str).collect();
    assert_eq!(ids, newest_first);
    let read: Vec<bool> = found
        .iter()
        .map(|one| one["read"].as_bool().unwrap())
        .collect();
    // Sending in a room reads nothing; the receipt was at the third message, of the first room.
    assert_eq!(read, [false, false, true, false, true]);
    let newest = &found[0];
    assert_eq!(newest["room_id"], *scene.room);
    assert!(
        newest["actions"]
            .as_array()
            .unwrap()
            .contains(&json!("notify"))
    );
    assert!(newest["ts"].as_u64().unwrap() > 1_700_000_000_000);
    assert!(newest.as_object().unwrap().contains_key("profile_tag"));

    let mut paged = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = list(&query).await;
        for one in page["notifications"].as_array().unwrap() {
            paged.push(one["event"]["event_id"].as_str().unwrap().to_owned());
        }
        match page["next_token"].as_str() {
            Some(token) => query = format!("?limit=2&from={token}"),
            None => break,
        }
    }
    assert_eq!(paged, newest_first);

    let highlights = list("?only=highlight").await;
    assert_eq!(highlights["notifications"], json!([]));
    server.say(bob, &scene.room, "alice: over here").await;
    let path = format!(
        "/_matrix/client/v3/rooms/{}/send/m.room.message/mention",
        escape(&scene.room)
    );
    let content = json!({
        "msgtype": "m.text",
        "body": "you",
        "m.mentions": { "user_ids": [alice.user_id] },
    });
    let sent = server
        .ok(Method::PUT, &path, Some(&bob.token), Some(content))
        .await;
    let highlights = list("?only=highlight").await;
    let found = &highlights["notifications"];
    assert!(
        found
            .as_array()
            .unwrap()
            .iter()
            .any(|one| { one["event"]["event_id"] == sent["event_id"] })
    );
    let (status, _) = server
        .req(
            Method::GET,
            "/_matrix/client/v3/notifications?from=nonsense",
            Some(&alice.token),
            None,
        )
        .await;
    assert_eq!(status, 400);
}
