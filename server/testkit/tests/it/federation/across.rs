//! What clients see of people on other servers beside their messages: invites by push, the user
//! directory, presence, whose devices changed, bans, guests, upgrades, invites by address.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Gateway, Network, Person, TestServer};

use super::{escape, until};
use crate::api::identity::IdentityServer;

const V3: &str = "/_matrix/client/v3";
const ONE: &str = "one.example";
const TWO: &str = "two.example";

async fn ask(
    server: &TestServer,
    who: &Person,
    method: Method,
    path: &str,
    body: Value,
) -> (u16, Value) {
    let body = (method != Method::GET).then_some(body);
    let path = format!("{V3}/{path}");
    server.req(method, &path, Some(&who.token), body).await
}

async fn ok(server: &TestServer, who: &Person, method: Method, path: &str, body: Value) -> Value {
    let (status, answer) = ask(server, who, method, path, body).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

async fn join(server: &TestServer, who: &Person, room: &str, via: &str) {
    let path = format!("join/{}?via={via}", escape(room));
    ok(server, who, Method::POST, &path, json!({})).await;
}

async fn leave(server: &TestServer, who: &Person, room: &str) {
    let path = format!("rooms/{}/leave", escape(room));
    ok(server, who, Method::POST, &path, json!({})).await;
}

async fn set(server: &TestServer, who: &Person, room: &str, kind: &str, content: Value) {
    let path = format!("rooms/{}/state/{kind}/", escape(room));
    ok(server, who, Method::PUT, &path, content).await;
}

async fn membership(server: &TestServer, who: &Person, room: &str, of: &str) -> Value {
    let (room, of) = (escape(room), escape(of));
    let path = format!("rooms/{room}/state/m.room.member/{of}");
    let (_, answer) = ask(server, who, Method::GET, &path, json!({})).await;
    answer["membership"].clone()
}

/// Whose devices are named as changed since a token, and the next token.
async fn changed(server: &TestServer, who: &Person, since: &str) -> (Vec<String>, String) {
    let answer = server.sync(who, Some(since)).await;
    let named = answer["device_lists"]["changed"].as_array();
    let named = named.into_iter().flatten();
    let named = named.map(|id| id.as_str().unwrap().to_owned()).collect();
    (named, next(&answer))
}

fn next(answer: &Value) -> String {
    answer["next_batch"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_from_another_server_is_pushed_and_holds_nothing_up() {
    let network = Network::new(1);
    let private = "[http_client]\nallowed_private = [\"localhost\"]";
    let (one, two) = (network.server(ONE, private), network.server(TWO, ""));
    let (alice, bob) = (one.person("alice").await, two.person("bob").await);
    let gateway = Gateway::start().await;
    let pusher = json!({
        "kind": "http", "app_id": "org.example.app", "pushkey": "key", "lang": "en",
        "app_display_name": "App", "device_display_name": "Phone",
        "data": { "url": gateway.url("/_matrix/push/v1/notify") },
    });
    ok(&one, &alice, Method::POST, "pushers/set", pusher).await;
    let room = two.room(&bob, json!({ "name": "Harbour" })).await;
    two.invite(&bob, &room, &alice).await;
    let told = gateway.wait(1).await.pop().unwrap().json();
    let told = &told["notification"];
    assert_eq!(told["membership"], "invite", "{told}");
    assert_eq!(told["user_is_target"], true);
    assert_eq!(told["room_name"], "Harbour");
    assert_eq!(told["sender_display_name"], "bob");
    assert_eq!(told["room_id"], room.as_str());
    // What comes after it comes too.
    join(&one, &alice, &room, TWO).await;
    two.say(&bob, &room, "hello").await;
    let told = gateway.wait(2).await.pop().unwrap().json();
    assert_eq!(told["notification"]["content"]["body"], "hello", "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_of_other_servers_are_found_while_a_room_is_shared() {
    let network = Network::new(1);
    let (one, two) = (network.server(ONE, ""), network.server(TWO, ""));
    let (alice, bob) = (one.person("alice").await, two.person("bob").await);
    let dora = two.person("dora").await;
    let name = format!("profile/{}/displayname", escape(&alice.user_id));
    let shown = json!({ "displayname": "Mermaid" });
    ok(&one, &alice, Method::PUT, &name, shown).await;
    let room = one.room(&alice, json!({ "preset": "public_chat" })).await;
    join(&two, &bob, &room, ONE).await;
    let found = async |who: &Person, term: &str| {
        let body = json!({ "search_term": term });
        let path = "user_directory/search";
        let answer = ok(&two, who, Method::POST, path, body).await;
        answer["results"].clone()
    };
    let expected = json!([{ "user_id": alice.user_id, "display_name": "Mermaid" }]);
    assert_eq!(found(&bob, "mermaid").await, expected);
    // Everybody may look into the room, so everybody may know of her.
    assert_eq!(found(&dora, "merm").await, expected);
    let shown = json!({ "displayname": "Siren" });
    ok(&one, &alice, Method::PUT, &name, shown).await;
    until("she is found under her new name", async || {
        found(&bob, "siren").await != json!([])
    })
    .await;
    assert_eq!(found(&bob, "mermaid").await, json!([]));
    leave(&two, &bob, &room).await;
    assert_eq!(found(&bob, "siren").await, json!([]));
    assert_eq!(found(&dora, "siren").await, json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_is_told_both_ways_whoever_made_the_room() {
    let network = Network::new(1);
    let (one, two) = (network.server(ONE, ""), network.server(TWO, ""));
    let (alice, bob) = (one.person("alice").await, two.person("bob").await);
    let mut here = next(&one.sync(&alice, None).await);
    let mut there = next(&two.sync(&bob, None).await);
    let room = one.room(&alice, json!({ "preset": "public_chat" })).await;
    join(&two, &bob, &room, ONE).await;
    let say = async |server: &TestServer, who: &Person, state: &str| {
        let path = format!("presence/{}/status", escape(&who.user_id));
        ok(
            server,
            who,
            Method::PUT,
            &path,
            json!({ "presence": state }),
        )
        .await;
    };
    for state in ["unavailable", "online"] {
        say(&one, &alice, state).await;
        say(&two, &bob, state).await;
        for (server, who, other, since) in [
            (&two, &bob, &alice, &mut there),
            (&one, &alice, &bob, &mut here),
        ] {
            let mut seen = Vec::new();
            for _ in 0..600 {
                // Looking is not to change what there is to see.
                let path = format!("sync?timeout=0&set_presence=offline&since={since}");
                let answer = ok(server, who, Method::GET, &path, json!({})).await;
                *since = next(&answer);
                let events = answer["presence"]["events"].as_array();
                let events = events.into_iter().flatten();
                let of_other = events.filter(|event| event["sender"] == other.user_id.as_str());
                seen.extend(of_other.map(|event| event["content"]["presence"].clone()));
                if seen.last() == Some(&json!(state)) {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            assert_eq!(seen.last(), Some(&json!(state)), "{} sees", who.user_id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_named_anew_to_who_may_have_missed_something() {
    let network = Network::new(1);
    let (one, two) = (network.server(ONE, ""), network.server(TWO, ""));
    let (alice, bob) = (one.person("alice").await, two.person("bob").await);
    let room = one.room(&alice, json!({ "preset": "public_chat" })).await;
    let start = next(&one.sync(&alice, None).await);
    one.invite(&alice, &room, &bob).await;
    let (named, since) = changed(&one, &alice, &start).await;
    assert!(
        named.contains(&bob.user_id),
        "{named:?}: what is said may be for him"
    );
    join(&two, &bob, &room, ONE).await;
    let (named, since) = changed(&one, &alice, &since).await;
    assert!(named.contains(&bob.user_id), "{named:?}: he has come");
    // He goes and comes back between two looks.
    leave(&two, &bob, &room).await;
    until("he has gone", async || {
        membership(&one, &alice, &room, &bob.user_id).await == "leave"
    })
    .await;
    join(&two, &bob, &room, ONE).await;
    let (named, since) = changed(&one, &alice, &since).await;
    assert!(named.contains(&bob.user_id), "{named:?}: he was away");
    // She does.
    leave(&one, &alice, &room).await;
    join(&one, &alice, &room, TWO).await;
    let (named, _) = changed(&one, &alice, &since).await;
    assert!(named.contains(&bob.user_id), "{named:?}: she was away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_banned_reads_the_room_no_more() {
    let network = Network::new(1);
    let (one, two) = (network.server(ONE, ""), network.server(TWO, ""));
    let (alice, bob) = (one.person("alice").await, two.person("bob").await);
    let room = one.room(&alice, json!({ "preset": "public_chat" })).await;
    join(&two, &bob, &room, ONE).await;
    let read = async || {
        let path = format!("rooms/{}/state", escape(&room));
        ask(&two, &bob, Method::GET, &path, json!({})).await.0
    };
    assert_eq!(read().await, 200);
    let path = format!("rooms/{}/ban", escape(&room));
    let body = json!({ "user_id": bob.user_id });
    ok(&one, &alice, Method::POST, &path, body.clone()).await;
    until("the ban has come", async || read().await == 403).await;
    // Sync tells of it.
    let left = two.sync(&bob, None).await;
    assert!(left["rooms"]["join"][&room].is_null(), "{left}");
    let path = format!("rooms/{}/unban", escape(&room));
    ok(&one, &alice, Method::POST, &path, body).await;
    join(&two, &bob, &room, ONE).await;
    assert_eq!(read().await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_leave_a_room_that_another_server_closes_to_them() {
    let network = Network::new(1);
    let (one, two) = (network.server(ONE, ""), network.server(TWO, ""));
    let (alice, bob) = (one.person("alice").await, two.person("bob").await);
    let body = json!({
        "preset": "public_chat",
        "initial_state": [
            { "type": "m.room.guest_access", "content": { "guest_access": "can_join" } },
        ],
        "power_level_content_override": { "users": { &alice.user_id: 100, &bob.user_id: 50 } },
        "room_version": "11",
    });
    let room = one.room(&alice, body).await;
    join(&two, &bob, &room, ONE).await;
    let path = format!("{V3}/register?kind=guest");
    let made = one.ok(Method::POST, &path, None, Some(json!({}))).await;
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    let guest = Person {
        user_id: text("user_id"),
        token: text("access_token"),
        device: text("device_id"),
    };
    one.join(&guest, &room).await;
    let closed = json!({ "guest_access": "forbidden" });
    set(&two, &bob, &room, "m.room.guest_access", closed).await;
    for (server, who) in [(&one, &alice), (&two, &bob)] {
        until("the guest has left", async || {
            membership(server, who, &room, &guest.user_id).await == "leave"
        })
        .await;
    }
    assert_eq!(membership(&one, &alice, &room, &bob.user_id).await, "join");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aliases_and_listing_follow_a_room_that_another_server_replaced() {
    let network = Network::new(1);
    let (one, two) = (network.server(ONE, ""), network.server(TWO, ""));
    let (alice, bob) = (one.person("alice").await, two.person("bob").await);
    let body = json!({ "preset": "public_chat", "room_version": "10" });
    let old = one.room(&alice, body).await;
    join(&two, &bob, &old, ONE).await;
    let alias = escape("#pier:two.example");
    let alias = format!("directory/room/{alias}");
    ok(&two, &bob, Method::PUT, &alias, json!({ "room_id": old })).await;
    let listing = format!("directory/list/room/{}", escape(&old));
    let power = json!({ "users": { &alice.user_id: 100, &bob.user_id: 100 } });
    set(&one, &alice, &old, "m.room.power_levels", power).await;
    until("bob may list the room", async || {
        let listed = json!({ "visibility": "public" });
        ask(&two, &bob, Method::PUT, &listing, listed).await.0 == 200
    })
    .await;
    let path = format!("rooms/{}/upgrade", escape(&old));
    let body = json!({ "new_version": "11" });
    let new = ok(&one, &alice, Method::POST, &path, body).await;
    let new = new["replacement_room"].as_str().unwrap().to_owned();
    until("the tombstone has come", async || {
        let path = format!("rooms/{}/state/m.room.tombstone/", escape(&old));
        ask(&two, &bob, Method::GET, &path, json!({})).await.0 == 200
    })
    .await;
    join(&two, &bob, &new, ONE).await;
    let (_, named) = ask(&two, &bob, Method::GET, &alias, json!({})).await;
    assert_eq!(named["room_id"], new.as_str());
    let listed = ok(&two, &bob, Method::GET, "publicRooms", json!({})).await;
    let listed = listed["chunk"].as_array().unwrap().iter();
    let listed: Vec<_> = listed.map(|room| room["room_id"].clone()).collect();
    assert_eq!(listed, [json!(new)]);
    let (_, access) = ask(
        &two,
        &bob,
        Method::GET,
        &format!("rooms/{}/state/m.room.guest_access/", escape(&new)),
        json!({}),
    )
    .await;
    assert_eq!(
        access["guest_access"], "forbidden",
        "as silence had it before"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_by_address_reaches_who_owns_it_on_another_server() {
    let identity = IdentityServer::start().await;
    let network = Network::new(1);
    let one = network.server(ONE, &identity.config);
    let two = network.server(TWO, &identity.config);
    let (alice, bob) = (one.person("alice").await, two.person("bob").await);
    let room = one.room(&alice, json!({ "preset": "private_chat" })).await;
    identity.knows("bob@example.org", None);
    identity.keeps("7");
    let path = format!("rooms/{}/invite", escape(&room));
    let invite = identity.invite("bob@example.org");
    ok(&one, &alice, Method::POST, &path, invite).await;
    // His server is told; the room is on another.
    let signed = identity.signed(&bob.user_id, "7");
    let told = json!({ "mxid": bob.user_id, "address": "bob@example.org", "medium": "email",
        "invites": [{ "mxid": bob.user_id, "address": "bob@example.org", "medium": "email",
            "room_id": room, "sender": alice.user_id, "signed": signed }] });
    let on_bind = "/_matrix/federation/v1/3pid/onbind";
    let (status, answer) = two.req(Method::PUT, on_bind, None, Some(told)).await;
    assert_eq!(status, 200, "{answer}");
    until("he is invited", async || {
        membership(&one, &alice, &room, &bob.user_id).await == "invite"
    })
    .await;
    until("he knows", async || {
        let answer = two.sync(&bob, None).await;
        !answer["rooms"]["invite"][&room].is_null()
    })
    .await;
    join(&two, &bob, &room, ONE).await;
    assert_eq!(membership(&one, &alice, &room, &bob.user_id).await, "join");
}

/// A LiveKit server that says yes to everything, and the configuration for it.
async fn livekit() -> (Gateway, String, tempfile::TempDir) {
    let livekit = Gateway::start().await;
    livekit.answer_all(200, json!({}));
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "lksecret\n").unwrap();
    let url = livekit
        .url("")
        .trim_end_matches('/')
        .replacen("http", "ws", 1);
    let config = format!(
        "[livekit]\nurl = \"{url}\"\nkey = \"lkkey\"\nsecret_file = {:?}",
        secret.display().to_string()
    );
    (livekit, config, dir)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_of_other_servers_join_calls_over_our_livekit_server() {
    let (livekit, config, _dir) = livekit().await;
    let network = Network::new(1);
    let (one, two) = (network.server(ONE, &config), network.server(TWO, ""));
    let (alice, bob) = (one.person("alice").await, two.person("bob").await);
    let carol = two.person("carol").await;
    let room = one.room(&alice, json!({ "preset": "public_chat" })).await;
    let get = async |server: &TestServer, who: &Person| {
        let path = format!("user/{}/openid/request_token", escape(&who.user_id));
        let token = ok(server, who, Method::POST, &path, json!({})).await;
        let body = json!({ "room": room, "openid_token": token, "device_id": who.device });
        let path = "/livekit/jwt/sfu/get";
        one.req(Method::POST, path, None, Some(body)).await
    };
    let asked = network.count(ONE, TWO);
    assert_eq!(get(&two, &bob).await.0, 401);
    assert_eq!(
        network.count(ONE, TWO),
        asked,
        "his server is not in the room"
    );
    join(&two, &bob, &room, ONE).await;
    let (status, answer) = get(&two, &bob).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["jwt"].is_string() && answer["url"].is_string());
    assert!(livekit.told().is_empty(), "calls are begun by ours");
    assert_eq!(get(&two, &carol).await.0, 401, "she is not in the room");
    assert_eq!(get(&one, &alice).await.0, 200);
    assert_eq!(livekit.told().len(), 1);
}
