//! Accounts, devices and profiles, as clients see them.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

const PASSWORD: &str = "correct horse";

pub(super) fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// One request of a person: status, errcode (or nothing), answer.
pub(super) async fn ask(
    server: &TestServer,
    who: Option<&Person>,
    method: Method,
    path: &str,
    body: Value,
) -> (u16, String, Value) {
    let path = format!("/_matrix/client/{path}");
    let body = (method != Method::GET).then_some(body);
    let token = who.map(|who| who.token.as_str());
    let (status, answer) = server.req(method, &path, token, body).await;
    let errcode = answer["errcode"].as_str().unwrap_or_default().to_owned();
    (status, errcode, answer)
}

pub(super) async fn get(server: &TestServer, who: &Person, path: &str) -> Value {
    let (status, _, answer) = ask(server, Some(who), Method::GET, path, json!({})).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// Requests that have to be refused, each with the status and errcode.
pub(super) async fn refused(
    server: &TestServer,
    who: &Person,
    cases: &[(Method, &str, Value, u16, &str)],
) {
    for (method, path, body, status, errcode) in cases {
        let got = ask(server, Some(who), method.clone(), path, body.clone()).await;
        assert_eq!(
            (got.0, got.1.as_str()),
            (*status, *errcode),
            "{method} {path} {body}"
        );
    }
}

fn password(session: &Value) -> Value {
    json!({ "type": "m.login.password", "session": session, "password": PASSWORD,
        "identifier": { "type": "m.id.user", "user": "alice" } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registration_goes_through_a_session() {
    let server = TestServer::start();
    let wanted = json!({ "username": "alice", "password": PASSWORD });
    let register = async |body: Value| ask(&server, None, Method::POST, "v3/register", body).await;
    let (status, errcode, asked) = register(wanted).await;
    assert_eq!((status, errcode.as_str()), (401, ""));
    assert_eq!(asked["flows"], json!([{ "stages": ["m.login.dummy"] }]));
    let auth = json!({ "type": "m.login.dummy", "session": asked["session"] });
    let (status, _, made) = register(json!({ "auth": auth })).await;
    assert_eq!(
        (status, &made["user_id"]),
        (200, &json!("@alice:test.example"))
    );
    for (name, errcode) in [("alice", "M_USER_IN_USE"), ("a b", "M_INVALID_USERNAME")] {
        let (status, got, _) = register(json!({ "username": name })).await;
        assert_eq!((status, got.as_str()), (400, errcode));
        let path = format!("v3/register/available?username={}", escape(name));
        let (status, got, _) = ask(&server, None, Method::GET, &path, json!({})).await;
        assert_eq!((status, got.as_str()), (400, errcode));
    }
    let path = "v3/register/available?username=bob";
    let (status, _, free) = ask(&server, None, Method::GET, path, json!({})).await;
    assert_eq!((status, free), (200, json!({ "available": true })));
    let (status, _, guest) = ask(
        &server,
        None,
        Method::POST,
        "v3/register?kind=guest",
        json!({}),
    )
    .await;
    assert_eq!(status, 200, "{guest}");
    let bad = json!({ "username": 3, "auth": { "type": "m.login.dummy" } });
    assert_eq!(register(bad).await.1, "M_BAD_JSON");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logging_in_and_out() {
    let server = TestServer::start();
    server.person("alice").await;
    let login = async |body: Value| ask(&server, None, Method::POST, "v3/login", body).await;
    for (body, status, errcode) in [
        (
            json!({ "type": "m.login.password", "user": "alice", "password": "x" }),
            403,
            "M_FORBIDDEN",
        ),
        (
            json!({ "type": "m.login.password", "user": "bob", "password": "x" }),
            403,
            "M_FORBIDDEN",
        ),
        (
            json!({ "type": "m.login.token", "token": "x" }),
            403,
            "M_FORBIDDEN",
        ),
        (
            json!({ "type": "m.login.password", "user": "alice" }),
            400,
            "M_MISSING_PARAM",
        ),
        (
            json!({ "type": "m.login.password", "password": PASSWORD }),
            400,
            "M_MISSING_PARAM",
        ),
        (json!({ "password": PASSWORD }), 400, "M_MISSING_PARAM"),
    ] {
        let got = login(body.clone()).await;
        assert_eq!((got.0, got.1.as_str()), (status, errcode), "{body}");
    }
    let body = json!({ "type": "m.login.password", "user": "@alice:test.example",
        "password": PASSWORD, "device_id": "D", "refresh_token": true });
    let (status, _, grant) = login(body).await;
    assert_eq!((status, &grant["device_id"]), (200, &json!("D")));
    assert!(grant["expires_in_ms"].is_u64(), "{grant}");
    let body = json!({ "refresh_token": grant["refresh_token"] });
    let (status, _, next) = ask(&server, None, Method::POST, "v3/refresh", body).await;
    assert_eq!(status, 200, "{next}");
    let alice = Person {
        user_id: "@alice:test.example".into(),
        token: next["access_token"].as_str().unwrap().into(),
        device: "D".into(),
    };
    let me = get(&server, &alice, "v3/account/whoami").await;
    let expected = json!({ "user_id": "@alice:test.example", "device_id": "D", "is_guest": false });
    assert_eq!(me, expected);
    ask(&server, Some(&alice), Method::POST, "v3/logout", json!({})).await;
    refused(
        &server,
        &alice,
        &[(
            Method::GET,
            "v3/account/whoami",
            json!({}),
            401,
            "M_UNKNOWN_TOKEN",
        )],
    )
    .await;
    let (status, errcode, _) =
        ask(&server, None, Method::GET, "v3/account/whoami", json!({})).await;
    assert_eq!((status, errcode.as_str()), (401, "M_MISSING_TOKEN"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghsa_v2x6_m99h_vqxx_devices_go_with_the_password_only() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let bob = server.person("bob").await;
    let other = server.log_in("alice").await;
    let path = format!("v3/devices/{}", other.device);
    let name = json!({ "display_name": "old phone" });
    ask(&server, Some(&alice), Method::PUT, &path, name).await;
    assert_eq!(
        get(&server, &alice, &path).await["display_name"],
        "old phone"
    );
    let (status, _, asked) = ask(&server, Some(&alice), Method::DELETE, &path, json!({})).await;
    assert_eq!(status, 401);
    let mut wrong = password(&asked["session"]);
    wrong["password"] = json!("wrong");
    let (status, errcode, _) = ask(
        &server,
        Some(&alice),
        Method::DELETE,
        &path,
        json!({ "auth": wrong }),
    )
    .await;
    assert_eq!((status, errcode.as_str()), (401, "M_FORBIDDEN"));
    let mut bobs = password(&asked["session"]);
    bobs["identifier"]["user"] = json!(bob.user_id);
    let (status, errcode, _) = ask(
        &server,
        Some(&alice),
        Method::DELETE,
        &path,
        json!({ "auth": bobs }),
    )
    .await;
    assert_eq!((status, errcode.as_str()), (403, "M_FORBIDDEN"));
    let auth = json!({ "auth": password(&asked["session"]) });
    let (status, _, _) = ask(&server, Some(&alice), Method::DELETE, &path, auth).await;
    assert_eq!(status, 200);
    refused(
        &server,
        &alice,
        &[
            (Method::GET, &path, json!({}), 404, "M_NOT_FOUND"),
            (Method::PUT, &path, json!({}), 404, "M_NOT_FOUND"),
            (
                Method::POST,
                "v3/delete_devices",
                json!({}),
                400,
                "M_MISSING_PARAM",
            ),
        ],
    )
    .await;
    refused(
        &server,
        &other,
        &[(Method::GET, "v3/devices", json!({}), 401, "M_UNKNOWN_TOKEN")],
    )
    .await;
    assert_eq!(
        get(&server, &alice, "v3/devices").await["devices"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_name_reaches_the_rooms() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    server.join(&bob, &room).await;
    let mut since = server.sync(&bob, None).await["next_batch"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("v3/profile/{}/displayname", escape(&alice.user_id));
    let body = json!({ "displayname": "Alice" });
    assert_eq!(
        ask(&server, Some(&alice), Method::PUT, &path, body).await.0,
        200
    );
    assert_eq!(
        get(&server, &bob, &path).await,
        json!({ "displayname": "Alice" })
    );
    let mut seen = false;
    for _ in 0..20 {
        let path = format!("/_matrix/client/v3/sync?timeout=1000&since={since}");
        let news = server.ok(Method::GET, &path, Some(&bob.token), None).await;
        since = news["next_batch"].as_str().unwrap().to_owned();
        let events = &news["rooms"]["join"][&room]["timeline"]["events"];
        seen = events.as_array().into_iter().flatten().any(|event| {
            event["state_key"] == json!(alice.user_id)
                && event["content"]["displayname"] == json!("Alice")
        });
        if seen {
            break;
        }
    }
    assert!(seen);
    let own = format!("v3/profile/{}", escape(&bob.user_id));
    refused(
        &server,
        &bob,
        &[
            (
                Method::PUT,
                &path,
                json!({ "displayname": "x" }),
                403,
                "M_FORBIDDEN",
            ),
            (Method::DELETE, &path, json!({}), 403, "M_FORBIDDEN"),
            (
                Method::GET,
                &format!("{own}/m.tz"),
                json!({}),
                404,
                "M_NOT_FOUND",
            ),
            (
                Method::PUT,
                &format!("{own}/displayname"),
                json!({}),
                400,
                "M_MISSING_PARAM",
            ),
            (
                Method::PUT,
                &format!("{own}/displayname"),
                json!({ "displayname": 1 }),
                400,
                "M_BAD_JSON",
            ),
            (
                Method::PUT,
                &format!("{own}/Name"),
                json!({ "Name": 1 }),
                400,
                "M_INVALID_PARAM",
            ),
            (
                Method::GET,
                "v3/profile/%40carol%3Atest.example",
                json!({}),
                404,
                "M_NOT_FOUND",
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deactivation_leaves_the_rooms() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = server.room(&bob, json!({ "preset": "public_chat" })).await;
    server.join(&alice, &room).await;
    let path = "v3/account/deactivate";
    let (status, _, asked) = ask(&server, Some(&alice), Method::POST, path, json!({})).await;
    assert_eq!(status, 401);
    let body = json!({ "auth": password(&asked["session"]), "erase": true });
    let (status, _, done) = ask(&server, Some(&alice), Method::POST, path, body).await;
    assert_eq!(
        (status, done),
        (200, json!({ "id_server_unbind_result": "success" }))
    );
    let login = json!({ "type": "m.login.password", "user": "alice", "password": PASSWORD });
    let (status, errcode, _) = ask(&server, None, Method::POST, "v3/login", login).await;
    assert_eq!((status, errcode.as_str()), (403, "M_USER_DEACTIVATED"));
    let members = format!("v3/rooms/{}/joined_members", escape(&room));
    for _ in 0..100 {
        let joined = get(&server, &bob, &members).await;
        if joined["joined"].get(&alice.user_id).is_none() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("alice is still joined");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_says_of_itself() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let can = get(&server, &alice, "v3/capabilities").await["capabilities"].clone();
    assert_eq!(can["m.room_versions"]["default"], "12");
    let offered = can["m.room_versions"]["available"].as_object().unwrap();
    for version in 1..=12 {
        assert_eq!(offered[&version.to_string()], "stable", "version {version}");
    }
    assert_eq!(can["m.3pid_changes"], json!({ "enabled": false }));
    let (status, _, versions) = ask(&server, None, Method::GET, "versions", json!({})).await;
    assert_eq!(status, 200);
    assert!(
        versions["versions"]
            .as_array()
            .unwrap()
            .contains(&json!("v1.11"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_have_a_name_and_no_more() {
    let server = TestServer::start();
    let path = "/_matrix/client/v3/register?kind=guest";
    let made = server.ok(Method::POST, path, None, Some(json!({}))).await;
    let user_id = made["user_id"].as_str().unwrap();
    let guest = Person {
        user_id: user_id.to_owned(),
        token: made["access_token"].as_str().unwrap().to_owned(),
        device: String::new(),
    };
    let profile = format!("v3/profile/{}", escape(user_id));
    let (status, _, _) = ask(
        &server,
        Some(&guest),
        Method::PUT,
        &format!("{profile}/displayname"),
        json!({ "displayname": "visitor" }),
    )
    .await;
    assert_eq!(status, 200);
    let field = |name: &str| format!("{profile}/{name}");
    let (avatar, zone) = (field("avatar_url"), field("m.tz"));
    let errcode = "M_GUEST_ACCESS_FORBIDDEN";
    let (put, delete) = (Method::PUT, Method::DELETE);
    refused(
        &server,
        &guest,
        &[
            (
                put.clone(),
                &avatar,
                json!({ "avatar_url": "mxc://a/b" }),
                403,
                errcode,
            ),
            (put, &zone, json!({ "m.tz": "Europe/Paris" }), 403, errcode),
            (delete, &zone, json!({}), 403, errcode),
        ],
    )
    .await;
    let upload = "/_matrix/media/v3/upload";
    let body = Some(json!({}));
    let (status, answer) = server
        .req(Method::POST, upload, Some(&guest.token), body)
        .await;
    assert_eq!((status, &answer["errcode"]), (403, &json!(errcode)));
}
