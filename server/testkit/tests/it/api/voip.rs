//! Calls: relays, transports, tokens for a LiveKit server.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Gateway, Person, TestServer};

const TURN: &str = "/_matrix/client/v3/voip/turnServer";
const TRANSPORTS: &str = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports";
const MSC4195: &str = "/_matrix/client/unstable/io.element.msc4195/rtc/livekit";

/// A file with a secret, and its name as TOML.
fn secret(dir: &tempfile::TempDir, text: &str) -> String {
    let path = dir.path().join("secret");
    std::fs::write(&path, format!("{text}\n")).unwrap();
    format!("{:?}", path.display().to_string())
}

async fn guest(server: &TestServer) -> String {
    let path = "/_matrix/client/v3/register?kind=guest";
    let answer = server.ok(Method::POST, path, None, Some(json!({}))).await;
    answer["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_relays_there_are_none() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let turn = server.ok(Method::GET, TURN, Some(&alice.token), None).await;
    assert_eq!(turn, json!({}));
    assert_eq!(server.req(Method::GET, TURN, None, None).await.0, 401);
    let found = server
        .ok(Method::GET, TRANSPORTS, Some(&alice.token), None)
        .await;
    assert_eq!(found, json!({ "rtc_transports": [] }));
    let path = format!("{MSC4195}/get_token");
    let body = json!({ "url": "wss://x", "room_id": "!r:x", "slot_id": "s", "member_id": "m" });
    let (status, answer) = server
        .req(Method::POST, &path, Some(&alice.token), Some(body))
        .await;
    assert_eq!(
        (status, &answer["errcode"]),
        (404, &json!("M_UNRECOGNIZED"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_know_their_users_by_a_shared_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = secret(&dir, "north");
    let server = TestServer::start_with(&format!(
        "[turn]\nuris = [\"turn:relay.example\"]\nshared_secret_file = {file}\nttl = \"1h\""
    ));
    let alice = server.person("alice").await;
    let turn = server.ok(Method::GET, TURN, Some(&alice.token), None).await;
    assert_eq!(turn["uris"], json!(["turn:relay.example"]));
    assert_eq!(turn["ttl"], 3_600);
    let name = turn["username"].as_str().unwrap();
    let (until, user) = name.split_once(':').unwrap();
    assert_eq!(user, alice.user_id);
    let until: u64 = until.parse().unwrap();
    assert!((1_795_222_800..1_795_222_900).contains(&until), "{until}");
    // The MAC of the name, 20 bytes, as the relay makes it.
    let password = turn["password"].as_str().unwrap();
    let mac = base64::engine::general_purpose::STANDARD.decode(password);
    assert_eq!(mac.unwrap().len(), 20);
    let token = guest(&server).await;
    let (status, answer) = server.req(Method::GET, TURN, Some(&token), None).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (403, &json!("M_GUEST_ACCESS_FORBIDDEN"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_may_have_one_password_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let file = secret(&dir, "word");
    let server = TestServer::start_with(&format!(
        "[turn]\nuris = [\"turn:a\", \"turns:b\"]\nusername = \"all\"\npassword_file = {file}\n\
         guests = true"
    ));
    let token = guest(&server).await;
    let turn = server.ok(Method::GET, TURN, Some(&token), None).await;
    assert_eq!(turn["username"], "all");
    assert_eq!(turn["password"], "word");
    assert_eq!(turn["ttl"], 86_400);
}

/// A server with a LiveKit server that says yes to everything.
async fn with_livekit() -> (TestServer, Gateway, String, tempfile::TempDir) {
    let livekit = Gateway::start().await;
    livekit.answer_all(200, json!({}));
    let dir = tempfile::tempdir().unwrap();
    let file = secret(&dir, "lksecret");
    let url = livekit
        .url("")
        .trim_end_matches('/')
        .replacen("http", "ws", 1);
    let server = TestServer::start_with(&format!(
        "[livekit]\nurl = \"{url}\"\nkey = \"lkkey\"\nsecret_file = {file}"
    ));
    (server, livekit, url, dir)
}

/// What a token says.
fn claims(jwt: &Value) -> Value {
    let part = jwt.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn openid(server: &TestServer, who: &Person) -> Value {
    let path = format!(
        "/_matrix/client/v3/user/{}/openid/request_token",
        who.user_id
    );
    server
        .ok(Method::POST, &path, Some(&who.token), Some(json!({})))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_for_livekit_are_given_to_those_in_the_room() {
    let (server, livekit, url, _dir) = with_livekit().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = server.room(&alice, json!({})).await;
    let found = server
        .ok(Method::GET, TRANSPORTS, Some(&alice.token), None)
        .await;
    let transport = &found["rtc_transports"][0];
    assert_eq!(transport["type"], "livekit");
    assert_eq!(transport["url"], *url);
    let service = transport["livekit_service_url"].as_str().unwrap();
    assert!(service.ends_with("/livekit/jwt"), "{service}");
    let known = server
        .ok(Method::GET, "/.well-known/matrix/client", None, None)
        .await;
    let foci = &known["org.matrix.msc4143.rtc_foci"];
    assert_eq!(
        foci,
        &json!([{ "type": "livekit", "livekit_service_url": service }])
    );

    let path = format!("{MSC4195}/get_token");
    let body = json!({ "url": url, "room_id": room, "slot_id": "m.call#ROOM", "member_id": "m" });
    let ask = async |who: &Person, body: &Value| {
        let body = Some(body.clone());
        server
            .req(Method::POST, &path, Some(&who.token), body)
            .await
    };
    let (status, answer) = ask(&alice, &body).await;
    assert_eq!(status, 200, "{answer}");
    let said = claims(&answer["jwt"]);
    assert_eq!(said["iss"], "lkkey");
    assert_eq!(said["video"]["roomJoin"], true);
    assert_eq!(said["video"]["roomCreate"], false);
    assert_eq!(said["sub"].as_str().unwrap().len(), 43);
    let told = livekit.wait(1).await;
    assert_eq!(told[0].path, "/twirp/livekit.RoomService/CreateRoom");
    assert_eq!(told[0].json()["name"], said["video"]["room"]);
    let (status, answer) = ask(&bob, &body).await;
    assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
    for (name, value) in [("url", "wss://other"), ("server_name", "other.example")] {
        let mut body = body.clone();
        body[name] = value.into();
        let (status, answer) = ask(&alice, &body).await;
        assert_eq!(
            (status, &answer["errcode"]),
            (400, &json!("M_INVALID_PARAM"))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_of_its_own_speaks_as_clients_know_it() {
    let (server, _livekit, url, _dir) = with_livekit().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = server.room(&alice, json!({})).await;
    let token = openid(&server, &alice).await;
    let old = json!({ "room": room, "openid_token": token, "device_id": "D" });
    let post = async |path: &str, body: &Value| {
        server
            .req(Method::POST, path, None, Some(body.clone()))
            .await
    };
    let (status, answer) = post("/livekit/jwt/sfu/get", &old).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["url"], *url);
    let said = claims(&answer["jwt"]);
    assert_eq!(said["sub"], format!("{}:D", alice.user_id));
    let member = json!({ "id": "m", "claimed_user_id": alice.user_id, "claimed_device_id": "D" });
    let new = json!({ "room_id": room, "slot_id": "m.call#ROOM", "openid_token": token,
        "member": member });
    let (status, answer) = post("/livekit/jwt/get_token", &new).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        claims(&answer["jwt"])["video"]["room"],
        said["video"]["room"]
    );
    // Nobody else's token, no other name, no room they are not in.
    let mut bad = Vec::new();
    let mut body = new.clone();
    body["member"]["claimed_user_id"] = bob.user_id.clone().into();
    bad.push(body);
    for (field, value) in [
        ("access_token", "guess"),
        ("matrix_server_name", "other.example"),
    ] {
        let mut body = new.clone();
        body["openid_token"][field] = value.into();
        bad.push(body);
    }
    let mut body = new.clone();
    body["openid_token"] = openid(&server, &bob).await;
    body["member"]["claimed_user_id"] = bob.user_id.clone().into();
    bad.push(body);
    for body in bad {
        let (status, answer) = post("/livekit/jwt/get_token", &body).await;
        assert_eq!(
            (status, &answer["errcode"]),
            (401, &json!("M_UNAUTHORIZED"))
        );
    }
    let (status, _) = post("/livekit/jwt/get_token", &json!({})).await;
    assert_eq!(status, 400);
    // Without LiveKit's signature nobody is believed.
    let left = json!({ "event": "participant_left" });
    assert_eq!(post("/livekit/jwt/sfu_webhook", &left).await.0, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leave_that_was_handed_over_is_looked_after() {
    let (server, livekit, url, _dir) = with_livekit().await;
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    let schedule = async |txn: &str, ms: u64| {
        let path = format!(
            "/_matrix/client/unstable/org.matrix.msc4140/rooms/{room}/delayed_event/\
             org.example.left/{txn}"
        );
        let body = Some(json!({ "delay": ms, "content": {} }));
        let answer = server
            .ok(Method::PUT, &path, Some(&alice.token), body)
            .await;
        answer["delay_id"].as_str().unwrap().to_owned()
    };
    let hand_over = async |id: &str| {
        let path = format!("{MSC4195}/delegate_delayed_leave");
        let body = json!({ "url": url, "room_id": room, "slot_id": "s", "member_id": "m",
            "delay_id": id });
        server
            .req(Method::POST, &path, Some(&alice.token), Some(body))
            .await
    };
    let short = schedule("a", 5_000).await;
    assert_eq!(hand_over(&short).await.0, 400);
    assert_eq!(hand_over("nothing").await.1["errcode"], "M_INVALID_PARAM");
    let id = schedule("b", 3_600_000).await;
    assert_eq!(hand_over(&id).await, (200, json!({})));
    let calls = &server.house.calls;
    let mut leaves = skerry_remote::livekit::Leaves::new(
        calls.livekit.clone().unwrap(),
        server.house.rooms.clone(),
        server.house.clock.clone(),
    );
    let event = async || {
        let path = format!("/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{id}");
        server
            .ok(Method::GET, &path, Some(&alice.token), None)
            .await
    };
    // Connected: it is restarted before its time comes.
    let since = event().await["running_since"].as_u64().unwrap();
    leaves.look().await.unwrap();
    assert_eq!(event().await["running_since"], since);
    server.clock.advance(2_000_000);
    leaves.look().await.unwrap();
    assert!(event().await["running_since"].as_u64().unwrap() > since);
    // Away for a moment is not gone; away for longer is.
    livekit.answer_all(404, json!({ "code": "not_found" }));
    leaves.look().await.unwrap();
    assert_eq!(event().await["finalised_ts"], Value::Null);
    server.clock.advance(30_000);
    leaves.look().await.unwrap();
    assert!(event().await["event_id"].is_string());
    assert_eq!(server.house.rooms.delegated().await.unwrap(), []);
}
