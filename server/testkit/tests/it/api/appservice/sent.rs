//! What application services are sent: events in order, once each by number, whatever fails; and
//! all that is not an event.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::TestServer;

use super::fake::{Fake, ghost, register};
use super::{ask, escape, ok};

/// A server, an application service with these further fields, and a ghost in a room of alice's.
struct Scene {
    server: TestServer,
    fake: Fake,
    alice: skerry_testkit::Person,
    room: String,
    ghost: String,
}

async fn scene(more: Value) -> Scene {
    let server = TestServer::start();
    let fake = Fake::start().await;
    let mut registration = fake.registration("irc");
    for (key, value) in more.as_object().unwrap() {
        registration[key] = value.clone();
    }
    register(&server, registration).await;
    let alice = server.person("alice").await;
    let room = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let ghost = ghost(&server, "as-irc", "_irc_a").await;
    join(&server, &ghost, &room).await;
    Scene {
        server,
        fake,
        alice,
        room,
        ghost,
    }
}

async fn join(server: &TestServer, user_id: &str, room: &str) {
    let path = format!("v3/rooms/{}/join?user_id={}", escape(room), escape(user_id));
    ok(server, "as-irc", Method::POST, &path, json!({})).await;
}

fn said(fake: &Fake) -> Vec<String> {
    let events = fake.items("events");
    let said = events
        .iter()
        .filter(|event| event["type"] == "m.room.message");
    said.map(|event| event["content"]["body"].as_str().unwrap().to_owned())
        .collect()
}

/// Lets time pass until what waits has been sent.
async fn until_sent(server: &TestServer) {
    let sent = async {
        loop {
            let (_, list) = super::admin(server, Method::GET, "", None).await;
            if list["appservices"][0]["waiting"] == 0 {
                return;
            }
            server.clock.advance(400_000);
            server.house.outgoing.outbox.look_again();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), sent)
        .await
        .unwrap();
}

async fn hears(fake: &Fake, text: &str) -> Value {
    fake.item("events", |event| event["content"]["body"] == text)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_arrive_in_order_and_only_those_of_interest() {
    let Scene {
        server,
        fake,
        alice,
        room,
        ghost,
    } = scene(json!({})).await;
    let elsewhere = server.room(&alice, json!({})).await;
    server.say(&alice, &elsewhere, "not for bridges").await;
    let texts: Vec<String> = (0..40).map(|n| format!("line {n}")).collect();
    for text in &texts {
        server.say(&alice, &room, text).await;
    }
    let last = hears(&fake, "line 39").await;
    assert_eq!(said(&fake), texts);
    assert_eq!(last["room_id"], room.as_str());
    assert_eq!(last["sender"], alice.user_id.as_str());
    assert!(last["unsigned"]["age"].is_i64() && last["event_id"].is_string());
    let asked = fake.asked();
    assert!(asked.iter().all(|one| one.method == Method::PUT));
    assert!(asked.iter().all(|one| one.token == "Bearer hs-irc"));
    let numbers: Vec<u64> = asked.iter().map(|one| one.number().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let events = fake.items("events");
    let joined = |event: &&Value| event["state_key"] == ghost.as_str();
    assert_eq!(events.iter().filter(joined).count(), 1);
    assert!(events.iter().all(|event| event["room_id"] == room.as_str()));

    // An invite tells of the room; a leave is the last that is heard of it.
    server
        .ok(
            Method::POST,
            &format!("/_matrix/client/v3/rooms/{}/kick", escape(&room)),
            Some(&alice.token),
            Some(json!({ "user_id": ghost })),
        )
        .await;
    let kicked = |event: &Value| event["content"]["membership"] == "leave";
    let kick = fake.item("events", kicked).await;
    assert_eq!(kick["unsigned"]["prev_content"]["membership"], "join");
    server.say(&alice, &room, "he is gone").await;
    let body = json!({ "user_id": ghost });
    let path = format!("v3/rooms/{}/invite", escape(&elsewhere));
    ok(&server, &alice.token, Method::POST, &path, body).await;
    let invited = |event: &Value| event["content"]["membership"] == "invite";
    let invite = fake.item("events", invited).await;
    let state = invite["unsigned"]["invite_room_state"].as_array().unwrap();
    assert!(state.iter().any(|event| event["type"] == "m.room.create"));
    assert!(!said(&fake).contains(&"he is gone".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_concern_by_alias_by_id_and_by_the_sender_user() {
    let server = TestServer::start();
    let fake = Fake::start().await;
    register(&server, fake.registration("irc")).await;
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    server.say(&alice, &room, "before").await;

    // A second one that wants every room, by id, and one that gets nothing.
    let watcher = Fake::start().await;
    let mut all = watcher.registration("watch");
    all["namespaces"] = json!({ "rooms": [{ "regex": "!.*", "exclusive": false }] });
    register(&server, all).await;
    let silent = Fake::start().await;
    let mut none = silent.registration("silent");
    none["url"] = Value::Null;
    none["namespaces"] = json!({ "rooms": [{ "regex": ".*", "exclusive": false }] });
    register(&server, none).await;

    server.say(&alice, &room, "watched").await;
    hears(&watcher, "watched").await;
    assert_eq!(said(&watcher), ["watched"], "only what came after");
    let alias = format!("v3/directory/room/{}", escape("#_irc_x:test.example"));
    let body = json!({ "room_id": room });
    ok(&server, "as-irc", Method::PUT, &alias, body).await;
    server.say(&alice, &room, "by alias").await;
    hears(&fake, "by alias").await;
    assert_eq!(said(&fake), ["by alias"]);
    ok(&server, "as-irc", Method::DELETE, &alias, json!({})).await;
    server.say(&alice, &room, "no more").await;
    let invite = format!("v3/rooms/{}/invite", escape(&room));
    let bot = json!({ "user_id": "@irc-bot:test.example" });
    ok(&server, &alice.token, Method::POST, &invite, bot).await;
    join(&server, "@irc-bot:test.example", &room).await;
    server.say(&alice, &room, "by the bot").await;
    hears(&fake, "by the bot").await;
    assert_eq!(said(&fake), ["by alias", "by the bot"]);
    assert!(silent.asked().is_empty());
    hears(&watcher, "by the bot").await;
    assert_eq!(said(&watcher).len(), 4);

    // A room that is made with such an alias concerns from its first event on.
    let made = json!({ "room_alias_name": "_irc_new" });
    let made = ok(&server, "as-irc", Method::POST, "v3/createRoom", made).await;
    let created =
        |event: &Value| event["type"] == "m.room.create" && event["room_id"] == made["room_id"];
    fake.item("events", created).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_sent_again_with_the_same_number_and_body_also_after_a_restart() {
    let Scene {
        server,
        fake,
        alice,
        room,
        ..
    } = scene(json!({})).await;
    server.say(&alice, &room, "good").await;
    hears(&fake, "good").await;
    fake.answer_all(503, json!({}));
    server.say(&alice, &room, "one").await;
    hears(&fake, "one").await;
    server.say(&alice, &room, "two").await;
    let (_, list) = super::admin(&server, Method::GET, "", None).await;
    assert!(list["appservices"][0]["waiting"].as_u64().unwrap() >= 2);
    assert!(list["appservices"][0]["failing_since_ts"].is_u64());
    let tries = fake.asked().len();
    // Nothing happens until its pause is over.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(fake.asked().len(), tries);
    server.clock.advance(10_000);
    server.house.outgoing.outbox.look_again();
    fake.wait(|asked| (asked.len() > tries).then_some(())).await;

    let server = server.restart().await;
    fake.answer_all(200, json!({}));
    until_sent(&server).await;
    hears(&fake, "two").await;
    let asked = fake.asked();
    let with = |text: &str| {
        let holds = |one: &&super::fake::Asked| {
            let events = one.body["events"].as_array().unwrap();
            events.iter().any(|event| event["content"]["body"] == text)
        };
        asked.iter().filter(holds).collect::<Vec<_>>()
    };
    let one = with("one");
    assert!(one.len() >= 3, "{}", one.len());
    assert!(one.iter().all(|other| other.path == one[0].path));
    assert!(one.iter().all(|other| other.body == one[0].body));
    let two = with("two");
    assert_eq!(two.len(), 1);
    assert!(two[0].number() > one[0].number());
    assert_eq!(said(&fake), ["good", "one", "two"]);
    // On another device, since the first one's transactions are known.
    let alice = server.log_in("alice").await;
    server.say(&alice, &room, "three").await;
    hears(&fake, "three").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_one_is_sent_to_by_the_old_path() {
    let Scene {
        server,
        fake,
        alice,
        room,
        ..
    } = scene(json!({})).await;
    fake.answer(|asked| async move {
        if asked.path.starts_with("/_matrix") {
            (404, Value::Null)
        } else {
            (200, json!({}))
        }
    });
    server.say(&alice, &room, "old").await;
    let old = |asked: &[super::fake::Asked]| {
        let old = asked.iter().find(|one| {
            one.path.starts_with("/transactions/") && one.body.to_string().contains("old")
        });
        old.cloned()
    };
    let sent = fake.wait(old).await;
    assert_eq!(sent.query, "access_token=hs%2Dirc");
    let (_, list) = super::admin(&server, Method::GET, "", None).await;
    assert_eq!(list["appservices"][0]["failing_since_ts"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_receipts_and_presence_come_to_those_who_want_them() {
    let Scene {
        server,
        fake,
        alice,
        room,
        ghost,
    } = scene(json!({ "receive_ephemeral": true })).await;
    let event = server.say(&alice, &room, "hello").await;
    let (room_path, alice_id) = (escape(&room), escape(&alice.user_id));
    let typing = format!("v3/rooms/{room_path}/typing/{alice_id}");
    let body = json!({ "typing": true, "timeout": 30_000 });
    ok(&server, &alice.token, Method::PUT, &typing, body).await;
    let kind = |kind: &'static str| move |event: &Value| event["type"] == kind;
    let typing = fake.item("ephemeral", kind("m.typing")).await;
    assert_eq!(typing["room_id"], room.as_str());
    assert_eq!(typing["content"]["user_ids"], json!([alice.user_id]));

    let receipt = |kind: &str| format!("v3/rooms/{room_path}/receipt/{kind}/{}", escape(&event));
    for kind in ["m.read.private", "m.read"] {
        ok(
            &server,
            &alice.token,
            Method::POST,
            &receipt(kind),
            json!({}),
        )
        .await;
    }
    let read = fake.item("ephemeral", kind("m.receipt")).await;
    assert_eq!(read["room_id"], room.as_str());
    assert!(read["content"][&event]["m.read"][&alice.user_id]["ts"].is_u64());
    let own = format!("{}?user_id={}", receipt("m.read.private"), escape(&ghost));
    ok(&server, "as-irc", Method::POST, &own, json!({})).await;
    let private = |event_id: String| {
        move |event: &Value| event["content"][&event_id]["m.read.private"].is_object()
    };
    let read = fake.item("ephemeral", private(event.clone())).await;
    assert!(read["content"][&event]["m.read.private"][&ghost].is_object());
    let others = |event: &Value| event.to_string().contains("m.read.private");
    let shown = fake.items("ephemeral");
    assert_eq!(
        shown.iter().filter(|event| others(event)).count(),
        1,
        "{shown:?}"
    );

    let status = format!("v3/presence/{alice_id}/status");
    let body = json!({ "presence": "online", "status_msg": "here" });
    ok(&server, &alice.token, Method::PUT, &status, body).await;
    let here = |event: &Value| event["content"]["status_msg"] == "here";
    let presence = fake.item("ephemeral", here).await;
    assert_eq!(presence["type"], "m.presence");
    assert_eq!(presence["sender"], alice.user_id.as_str());

    // Receipts are kept for later.
    let event = server.say(&alice, &room, "again").await;
    hears(&fake, "again").await;
    fake.answer_all(500, json!({}));
    let read = format!("v3/rooms/{room_path}/receipt/m.read/{}", escape(&event));
    ok(&server, &alice.token, Method::POST, &read, json!({})).await;
    fake.item("ephemeral", |item| item["content"][&event].is_object())
        .await;
    let server = server.restart().await;
    let tries = fake.asked().len();
    fake.answer_all(200, json!({}));
    until_sent(&server).await;
    let arrived = |asked: &[super::fake::Asked]| {
        let last = asked.get(tries..)?.last()?;
        last.body["ephemeral"]
            .to_string()
            .contains(&event)
            .then_some(())
    };
    fake.wait(arrived).await;
    // On another device, since the first one's transactions are known.
    let alice = server.log_in("alice").await;
    server.say(&alice, &room, "last").await;
    hears(&fake, "last").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_did_not_ask_for_ephemeral_things_gets_none() {
    let Scene {
        server,
        fake,
        alice,
        room,
        ..
    } = scene(json!({})).await;
    let typing = format!(
        "v3/rooms/{}/typing/{}",
        escape(&room),
        escape(&alice.user_id)
    );
    let body = json!({ "typing": true, "timeout": 30_000 });
    ok(&server, &alice.token, Method::PUT, &typing, body).await;
    let event = server.say(&alice, &room, "hello").await;
    let read = format!(
        "v3/rooms/{}/receipt/m.read/{}",
        escape(&room),
        escape(&event)
    );
    ok(&server, &alice.token, Method::POST, &read, json!({})).await;
    server.say(&alice, &room, "end").await;
    hears(&fake, "end").await;
    assert!(fake.items("ephemeral").is_empty());
}

fn device_keys(user_id: &str, device: &str) -> Value {
    json!({
        "user_id": user_id,
        "device_id": device,
        "algorithms": ["m.megolm.v1.aes-sha2"],
        "keys": { format!("ed25519:{device}"): "xqrjVtVQlTUR0rCYRgPQxhPFGUzBzEwkbzSSZHHMCpw" },
        "signatures": {},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encryption_needs_no_sync() {
    let Scene {
        server,
        fake,
        alice,
        room,
        ghost,
    } = scene(json!({
        "de.sorunome.msc2409.push_ephemeral": true,
        "org.matrix.msc3202": true,
        "io.element.msc4190": true,
    }))
    .await;
    // A device without a log-in, with keys.
    let acting = format!("user_id={}&device_id=BRIDGE", escape(&ghost));
    let device = format!("v3/devices/BRIDGE?user_id={}", escape(&ghost));
    let name = json!({ "display_name": "the bridge" });
    let (status, _, _) = ask(&server, "as-irc", Method::PUT, &device, name).await;
    assert_eq!(status, 201);
    let name = json!({ "display_name": "a bridge" });
    let (status, _, _) = ask(&server, "as-irc", Method::PUT, &device, name).await;
    assert_eq!(status, 200);
    let keys = json!({
        "device_keys": device_keys(&ghost, "BRIDGE"),
        "one_time_keys": { "curve25519:A": "a", "curve25519:B": "b" },
    });
    let upload = format!("v3/keys/upload?{acting}");
    ok(&server, "as-irc", Method::POST, &upload, keys).await;
    let counts = "org.matrix.msc3202.device_one_time_keys_count";
    let left = |user: &str, n: u64| {
        let user = user.to_owned();
        move |counts: &Value| counts[&user]["BRIDGE"]["curve25519"] == n
    };
    fake.item(counts, left(&ghost, 2)).await;

    // Somebody encrypts for it.
    let claim = json!({ "one_time_keys": { &ghost: { "BRIDGE": "curve25519" } } });
    ok(&server, &alice.token, Method::POST, "v3/keys/claim", claim).await;
    fake.item(counts, left(&ghost, 1)).await;
    let message = json!({ "messages": { &ghost: { "BRIDGE": { "secret": 1 } } } });
    let path = "v3/sendToDevice/m.test/t1";
    ok(&server, &alice.token, Method::PUT, path, message).await;
    let told = fake.item("de.sorunome.msc2409.to_device", |_| true).await;
    let expected = json!({
        "type": "m.test",
        "sender": alice.user_id,
        "content": { "secret": 1 },
        "to_user_id": ghost,
        "to_device_id": "BRIDGE",
    });
    assert_eq!(told, expected);

    // What has arrived is not there for a sync any more.
    let sync = format!("v3/sync?{acting}&timeout=0");
    let gone = async {
        loop {
            let synced = ok(&server, "as-irc", Method::GET, &sync, json!({})).await;
            if synced["to_device"]["events"]
                .as_array()
                .is_none_or(Vec::is_empty)
            {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .unwrap();

    // Whose devices have to be looked at anew.
    let lists = "org.matrix.msc3202.device_lists";
    let names = |which: &'static str, who: &str| {
        let who = json!(who);
        move |lists: &Value| lists[which].as_array().unwrap().contains(&who)
    };
    let keys = json!({ "device_keys": device_keys(&alice.user_id, &alice.device) });
    ok(&server, &alice.token, Method::POST, "v3/keys/upload", keys).await;
    fake.item(lists, names("changed", &alice.user_id)).await;
    let bob = server.person("bob").await;
    server.join(&bob, &room).await;
    fake.item(lists, names("changed", &bob.user_id)).await;
    let leave = format!("v3/rooms/{}/leave", escape(&room));
    ok(&server, &bob.token, Method::POST, &leave, json!({})).await;
    fake.item(lists, names("left", &bob.user_id)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_syncs_keeps_its_messages() {
    let Scene {
        server,
        fake,
        alice,
        ghost,
        ..
    } = scene(json!({ "receive_ephemeral": true })).await;
    let login = json!({
        "type": "m.login.application_service",
        "identifier": { "type": "m.id.user", "user": ghost },
        "device_id": "OWN",
    });
    let session = ok(&server, "as-irc", Method::POST, "v3/login", login).await;
    let message = json!({ "messages": { &ghost: { "*": { "secret": 2 } } } });
    let path = "v3/sendToDevice/m.test/t1";
    ok(&server, &alice.token, Method::PUT, path, message).await;
    fake.item("de.sorunome.msc2409.to_device", |_| true).await;
    let token = session["access_token"].as_str().unwrap();
    let synced = ok(&server, token, Method::GET, "v3/sync?timeout=0", json!({})).await;
    assert_eq!(synced["to_device"]["events"][0]["content"]["secret"], 2);
}
