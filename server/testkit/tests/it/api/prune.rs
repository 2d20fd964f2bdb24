//! Pruning on a whole server: what rooms and people need stays, wherever they name it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use skerry_media::prune::{Emptying, Order, Outcome, Step};
use skerry_testkit::{Person, TestServer};

const CLIENT: &str = "/_matrix/client/v3";
const ADMIN: &str = "/_skerry/admin/v1/media";

async fn upload(server: &TestServer, who: &Person, bytes: &str) -> String {
    let body = Bytes::copy_from_slice(bytes.as_bytes());
    let path = "/_matrix/media/v3/upload";
    let answer = server.raw(Method::POST, path, Some(&who.token), body).await;
    let answer: Value = serde_json::from_slice(answer.body()).unwrap();
    answer["content_uri"].as_str().unwrap().to_owned()
}

async fn is_there(server: &TestServer, who: &Person, mxc: &str) -> bool {
    let media = mxc.strip_prefix("mxc://").unwrap();
    let path = format!("/_matrix/client/v1/media/download/{media}");
    let token = Some(who.token.as_str());
    let answer = server.raw(Method::GET, &path, token, Bytes::new()).await;
    answer.status() == 200
}

fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

async fn set_state(server: &TestServer, who: &Person, (room, kind): (&str, &str), body: Value) {
    let path = format!("{CLIENT}/rooms/{}/state/{kind}", escape(room));
    let token = Some(who.token.as_str());
    server.ok(Method::PUT, &path, token, Some(body)).await;
}

async fn set_avatar(server: &TestServer, who: &Person, mxc: &str) {
    let path = format!("{CLIENT}/profile/{}/avatar_url", escape(&who.user_id));
    let body = json!({ "avatar_url": mxc });
    let token = Some(who.token.as_str());
    server.ok(Method::PUT, &path, token, Some(body)).await;
}

/// Everything that may go goes, also out of the trash.
fn everything() -> Order {
    Order {
        remote: true,
        local: true,
        thumbnails: true,
        ..Order::default()
    }
}

async fn prune(server: &TestServer, order: Order) {
    let pruner = &server.house.pruner;
    let (number, _) = pruner.plan(order).await.unwrap();
    let (_, outcome) = pruner.start(number).unwrap().ended().await;
    assert_eq!(outcome, Outcome::Done);
}

async fn prune_for_good(server: &TestServer) {
    prune(server, everything()).await;
    let trash = Order {
        trash: Emptying::All,
        ..Order::default()
    };
    prune(server, trash).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_named_anywhere_that_counts_stays() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let file = async |name: &str| upload(&server, &alice, name).await;
    let token = Some(alice.token.as_str());
    let room = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let mut kept = Vec::new();

    let avatar = file("an avatar").await;
    set_avatar(&server, &alice, &avatar).await;
    kept.push(avatar);
    let of_room = file("a room's avatar").await;
    set_state(
        &server,
        &alice,
        (&room, "m.room.avatar"),
        json!({ "url": of_room }),
    )
    .await;
    kept.push(of_room);
    // An image pack: a type that no list knows, deep inside, in a key and in the middle of text.
    let (pack, key, text) = (file("pack").await, file("key").await, file("text").await);
    let images = json!({
        "images": { "x": { "url": pack }, key.clone(): 1 },
        "html": format!("<img src=\"{text}\">"),
    });
    set_state(&server, &alice, (&room, "im.example.emotes"), images).await;
    kept.extend([pack, key, text]);
    // Account data, global and of a room.
    let (global, of_a_room) = (file("global").await, file("of a room").await);
    let user = escape(&alice.user_id);
    let path = format!("{CLIENT}/user/{user}/account_data/org.example.x");
    server
        .ok(Method::PUT, &path, token, Some(json!({ "a": [global] })))
        .await;
    let place = escape(&room);
    let path = format!("{CLIENT}/user/{user}/rooms/{place}/account_data/org.example.x");
    server
        .ok(Method::PUT, &path, token, Some(json!({ "b": of_a_room })))
        .await;
    kept.extend([global, of_a_room]);
    // A message that is pinned, and one that is not.
    let (pinned, unpinned) = (file("pinned").await, file("unpinned").await);
    let mut ids = Vec::new();
    for (n, url) in [&pinned, &unpinned].into_iter().enumerate() {
        let path = format!("{CLIENT}/rooms/{place}/send/m.room.message/p{n}");
        let body = json!({ "msgtype": "m.file", "body": "f", "url": url });
        let sent = server.ok(Method::PUT, &path, token, Some(body)).await;
        ids.push(sent["event_id"].clone());
    }
    let pins = json!({ "pinned": [ids[0]] });
    set_state(&server, &alice, (&room, "m.room.pinned_events"), pins).await;
    kept.push(pinned.clone());
    // An invite shows a room's avatar, also after that has changed.
    let invited = server.room(&alice, json!({})).await;
    let old = file("the avatar at the invite").await;
    set_state(
        &server,
        &alice,
        (&invited, "m.room.avatar"),
        json!({ "url": old }),
    )
    .await;
    server.invite(&alice, &invited, &bob).await;
    let new = file("the avatar afterwards").await;
    set_state(
        &server,
        &alice,
        (&invited, "m.room.avatar"),
        json!({ "url": new }),
    )
    .await;
    kept.extend([old, new]);
    // What nobody names, and an avatar that was replaced.
    let loose = file("loose").await;
    let before = file("the avatar before").await;
    set_avatar(&server, &bob, &before).await;
    let now = file("the avatar now").await;
    set_avatar(&server, &bob, &now).await;
    kept.push(now);
    // Bob's rooms show his new face before the prune looks.
    server.sync(&bob, None).await;

    let (status, said) = server
        .admin(
            Method::POST,
            &format!("{ADMIN}/prune/explain"),
            Some(json!({ "order": everything(), "mxc": pinned })),
        )
        .await;
    assert_eq!(status, 200, "{said}");
    assert!(
        said["verdict"].as_str().unwrap().contains("stays"),
        "{said}"
    );
    assert!(
        said["places"][0].as_str().unwrap().contains("pinned"),
        "{said}"
    );

    prune_for_good(&server).await;
    for mxc in &kept {
        assert!(is_there(&server, &alice, mxc).await, "{mxc}");
    }
    for mxc in [&loose, &unpinned, &before] {
        assert!(!is_there(&server, &alice, mxc).await, "{mxc}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_avatar_set_at_any_point_of_a_prune_survives_it() {
    let steps = [
        Step::Planned,
        Step::Checked,
        Step::Committed,
        Step::BeforeUnlink,
    ];
    let server = Arc::new(TestServer::start());
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    for (n, step) in steps.into_iter().enumerate() {
        for (m, way) in ["profile", "room", "trashed"].into_iter().enumerate() {
            let mxc = upload(&server, &alice, &format!("picture {n} {m}")).await;
            if way == "trashed" {
                prune(&server, everything()).await;
            }
            let done = Mutex::new(false);
            let (handle, house) = (tokio::runtime::Handle::current(), Arc::clone(&server));
            let (who, place, picture) = (alice.clone(), room.clone(), mxc.clone());
            let told = Arc::new(move |now: Step| {
                if now != step || std::mem::replace(&mut *done.lock().unwrap(), true) {
                    return;
                }
                let (house, who) = (Arc::clone(&house), who.clone());
                let (place, picture) = (place.clone(), picture.clone());
                let work = handle.spawn(async move {
                    if way == "room" {
                        let body = json!({ "url": picture });
                        set_state(&house, &who, (&place, "m.room.avatar"), body).await;
                    } else {
                        set_avatar(&house, &who, &picture).await;
                    }
                });
                let (sender, receiver) = std::sync::mpsc::channel();
                handle.spawn(async move { sender.send(work.await) });
                receiver.recv().unwrap().unwrap();
            });
            let pruner = server.house.pruner.clone().told(told);
            let order = Order {
                trash: if way == "trashed" {
                    Emptying::All
                } else {
                    Emptying::No
                },
                ..everything()
            };
            let (number, _) = pruner.plan(order).await.unwrap();
            pruner.start(number).unwrap().ended().await;
            // What went to the trash in the same moment comes back by itself.
            pruner.revive(None).await.unwrap();
            assert!(is_there(&server, &alice, &mxc).await, "{step:?} {way}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_cannot_be_read_is_said_and_can_be_kept() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    server.join(&bob, &room).await;
    let hidden = upload(&server, &bob, "encrypted").await;
    let plain = upload(&server, &alice, "plain").await;
    let place = escape(&room);
    let path = format!("{CLIENT}/rooms/{place}/send/m.room.encrypted/1");
    let body = json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x" });
    let token = Some(bob.token.as_str());
    server.ok(Method::PUT, &path, token, Some(body)).await;
    let path = format!("{CLIENT}/rooms/{place}/send/m.room.message/1");
    let body = json!({ "msgtype": "m.file", "body": "f", "url": plain });
    let token = Some(alice.token.as_str());
    server.ok(Method::PUT, &path, token, Some(body)).await;
    let path = format!("{CLIENT}/rooms/{place}/leave");
    let token = Some(bob.token.as_str());
    server.ok(Method::POST, &path, token, Some(json!({}))).await;

    let of_room = json!({ "local": true, "room": room });
    let plans = format!("{ADMIN}/prune/plans");
    let (status, plan) = server.admin(Method::POST, &plans, Some(of_room)).await;
    assert_eq!(status, 200, "{plan}");
    assert_eq!(plan["changes"], 1);
    assert_eq!(plan["report"]["room_events"][1], 1);
    let items = format!("{plans}/{}/items", plan["plan"]);
    let (_, page) = server.admin(Method::GET, &items, None).await;
    assert_eq!(page["items"][0]["mxc"], json!(plain));
    assert_eq!(page["items"][0]["what"], "trash");

    // Quarantine by room covers the same, and says so.
    let path = format!("/_synapse/admin/v1/room/{place}/media/quarantine");
    let (_, said) = server.admin(Method::POST, &path, None).await;
    assert_eq!(
        (&said["num_quarantined"], &said["num_unreadable"]),
        (&json!(1), &json!(1))
    );
    assert!(!is_there(&server, &bob, &plain).await);
    let media = plain.strip_prefix("mxc://").unwrap();
    let path = format!("/_synapse/admin/v1/media/unquarantine/{media}");
    server.admin(Method::POST, &path, None).await;

    // Kept: all that was uploaded by whoever is or was there.
    let keep = Order {
        keep_rooms: vec![room],
        ..everything()
    };
    prune(&server, keep).await;
    assert!(is_there(&server, &bob, &hidden).await);
    assert!(is_there(&server, &bob, &plain).await);
    prune(&server, everything()).await;
    assert!(!is_there(&server, &bob, &hidden).await);
    let (_, trash) = server
        .admin(Method::GET, &format!("{ADMIN}/trash"), None)
        .await;
    assert_eq!(trash["trash"].as_array().unwrap().len(), 2);
    let back = format!("{ADMIN}/trash/restore");
    let (_, back) = server
        .admin(Method::POST, &back, Some(json!({ "mxc": [hidden] })))
        .await;
    assert_eq!(back["restored"], 1);
    assert!(is_there(&server, &bob, &hidden).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_administrators_prune() {
    let server = TestServer::start();
    let (admin, other) = (server.person("admin").await, server.person("other").await);
    let promote = format!("/_synapse/admin/v1/users/{}/admin", escape(&admin.user_id));
    let (status, _) = server
        .admin(Method::PUT, &promote, Some(json!({ "admin": true })))
        .await;
    assert_eq!(status, 200);
    let plans = format!("{ADMIN}/prune/plans");
    let order = Some(json!({ "remote": true }));
    let refused = server.req(Method::POST, &plans, Some(&other.token), order.clone());
    assert_eq!(refused.await.0, 403);
    let (status, plan) = server
        .req(Method::POST, &plans, Some(&admin.token), order)
        .await;
    assert_eq!((status, &plan["changes"]), (200, &json!(0)));
    for (order, want) in [
        (json!({}), "nothing is selected"),
        (
            json!({ "local": true, "uploader": "@nobody:x" }),
            "no user @nobody:x here",
        ),
        (json!({ "local": true, "room": "!x" }), "no room !x here"),
    ] {
        let (status, answer) = server.admin(Method::POST, &plans, Some(order)).await;
        assert_eq!((status, &answer["error"]), (400, &json!(want)));
    }
}
