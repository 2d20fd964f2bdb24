//! What application services may do: act as their users, make them, keep names to themselves.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::TestServer;

use super::fake::{Fake, ghost, register};
use super::{ask, escape, ok, refused};

const KIND: &str = "m.login.application_service";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acts_as_its_users_and_nobody_else() {
    let server = TestServer::start();
    let fake = Fake::start().await;
    register(&server, fake.registration("irc")).await;
    let alice = server.person("alice").await;
    let ghost = ghost(&server, "as-irc", "_irc_a").await;
    let whoami = |query: &str| format!("v3/account/whoami?{query}");
    let me = whoami(&format!("user_id={}", escape(&ghost)));
    let who = ok(&server, "as-irc", Method::GET, &me, json!({})).await;
    assert_eq!(who, json!({ "user_id": ghost, "is_guest": false }));
    // The token may stand in the query as well.
    let path = format!("/_matrix/client/{me}&access_token=as-irc");
    let (status, who) = server.req(Method::GET, &path, None, None).await;
    assert_eq!((status, &who["user_id"]), (200, &json!(ghost)));
    for other in [
        alice.user_id.as_str(),
        "@_irc_none:test.example",
        "@_irc_a:elsewhere",
    ] {
        let path = whoami(&format!("user_id={}", escape(other)));
        let got = refused(&server, "as-irc", Method::GET, &path, json!({})).await;
        assert_eq!(got, (403, "M_FORBIDDEN".into()), "{other}");
    }
    // For others the parameter means nothing.
    let got = ok(&server, &alice.token, Method::GET, &me, json!({})).await;
    assert_eq!(got["user_id"], alice.user_id.as_str());

    for name in ["device_id", "org.matrix.msc3202.device_id"] {
        let path = whoami(&format!("user_id={}&{name}=D", escape(&ghost)));
        let got = refused(&server, "as-irc", Method::GET, &path, json!({})).await;
        assert_eq!(got, (400, "M_UNKNOWN_DEVICE".into()));
    }
    let device = format!("v3/devices/D?user_id={}", escape(&ghost));
    ok(&server, "as-irc", Method::PUT, &device, json!({})).await;
    let path = whoami(&format!("user_id={}&device_id=D", escape(&ghost)));
    let who = ok(&server, "as-irc", Method::GET, &path, json!({})).await;
    assert_eq!(who["device_id"], "D");
    // Nor does it leave behind what lets somebody else act as the user.
    let creds = json!({ "sid": "s", "client_secret": "c" });
    for (path, body) in [
        ("v1/login/get_token", json!({})),
        ("v3/account/3pid", json!({ "three_pid_creds": creds })),
        ("v3/account/3pid/add", creds.clone()),
        ("v3/account/password", json!({ "new_password": "p" })),
    ] {
        let path = format!("{path}?user_id={}", escape(&ghost));
        let got = refused(&server, "as-irc", Method::POST, &path, body).await;
        assert_eq!(got, (403, "M_FORBIDDEN".into()), "{path}");
    }
    let upload = format!("v3/keys/upload?user_id={}", escape(&ghost));
    let got = refused(&server, "as-irc", Method::POST, &upload, json!({})).await;
    assert_eq!(got.0, 400, "keys belong to a device");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn makes_users_without_a_password_and_logs_them_in() {
    let server = TestServer::start();
    let fake = Fake::start().await;
    register(&server, fake.registration("irc")).await;
    let alice = server.person("alice").await;
    let register_path = "/_matrix/client/v3/register";
    let body = json!({ "type": KIND, "username": "_irc_A=1", "device_id": "D" });
    let made = server
        .ok(
            Method::POST,
            register_path,
            Some("as-irc"),
            Some(body.clone()),
        )
        .await;
    assert_eq!(made["user_id"], "@_irc_A=1:test.example");
    assert_eq!(made["device_id"], "D");
    let token = made["access_token"].as_str().unwrap();
    ok(&server, token, Method::GET, "v3/account/whoami", json!({})).await;
    let post = async |token: Option<&str>, path: &str, body: Value| {
        let (status, answer) = server.req(Method::POST, path, token, Some(body)).await;
        let errcode = answer["errcode"].as_str().unwrap_or_default().to_owned();
        (status, errcode)
    };
    let cases = [
        (Some("as-irc"), body.clone(), 400, "M_USER_IN_USE"),
        (None, body.clone(), 401, "M_MISSING_TOKEN"),
        (Some("no"), body.clone(), 401, "M_UNKNOWN_TOKEN"),
        (Some(alice.token.as_str()), body, 401, "M_UNKNOWN_TOKEN"),
        (
            Some("as-irc"),
            json!({ "type": KIND }),
            400,
            "M_MISSING_PARAM",
        ),
        (
            Some("as-irc"),
            json!({ "type": KIND, "username": "x" }),
            400,
            "M_EXCLUSIVE",
        ),
        (
            Some("as-irc"),
            json!({ "type": KIND, "username": "_irc_a:b" }),
            400,
            "M_INVALID_USERNAME",
        ),
    ];
    for (token, body, status, errcode) in cases {
        let got = post(token, register_path, body.clone()).await;
        assert_eq!(got, (status, errcode.to_owned()), "{body}");
    }

    let login_path = "/_matrix/client/v3/login";
    let login =
        |user: &str| json!({ "type": KIND, "identifier": { "type": "m.id.user", "user": user } });
    let session = server
        .ok(
            Method::POST,
            login_path,
            Some("as-irc"),
            Some(login("_irc_A=1")),
        )
        .await;
    assert_eq!(session["user_id"], "@_irc_A=1:test.example");
    let cases = [
        (Some("as-irc"), "alice", 400, "M_EXCLUSIVE"),
        (Some("as-irc"), "_irc_none", 403, "M_FORBIDDEN"),
        (None, "_irc_A=1", 401, "M_MISSING_TOKEN"),
        (Some("no"), "_irc_A=1", 401, "M_UNKNOWN_TOKEN"),
    ];
    for (token, user, status, errcode) in cases {
        let got = post(token, login_path, login(user)).await;
        assert_eq!(got, (status, errcode.to_owned()), "{user}");
    }
    let (_, flows) = server.req(Method::GET, login_path, None, None).await;
    assert!(
        flows["flows"]
            .as_array()
            .unwrap()
            .contains(&json!({ "type": KIND }))
    );
    // Nobody else gets in.
    let password = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": "_irc_A=1" },
        "password": "",
    });
    assert_eq!(post(None, login_path, password).await.0, 403);
    let body = json!({ "new_password": "secret" });
    let path = format!(
        "v3/account/password?user_id={}",
        escape("@_irc_A=1:test.example")
    );
    let got = refused(&server, "as-irc", Method::POST, &path, body).await;
    assert_eq!(got, (403, "M_FORBIDDEN".into()));
    // A stale token does not keep people from registering and logging in.
    let bob = json!({
        "username": "bob", "password": "p", "auth": { "type": "m.login.dummy" },
    });
    assert_eq!(post(Some("stale"), register_path, bob).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_manages_devices_does_not_log_in() {
    let server = TestServer::start();
    let fake = Fake::start().await;
    let mut registration = fake.registration("irc");
    registration["io.element.msc4190"] = json!(true);
    register(&server, registration).await;
    let body = json!({ "type": KIND, "username": "_irc_a" });
    let got = refused(&server, "as-irc", Method::POST, "v3/register", body).await;
    assert_eq!(got, (400, "M_APPSERVICE_LOGIN_UNSUPPORTED".into()));
    let user = ghost(&server, "as-irc", "_irc_a").await;
    let login = json!({ "type": KIND, "identifier": { "type": "m.id.user", "user": user } });
    let got = refused(&server, "as-irc", Method::POST, "v3/login", login).await;
    assert_eq!(got, (400, "M_APPSERVICE_LOGIN_UNSUPPORTED".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn needs_to_prove_nothing() {
    let server = TestServer::start();
    let fake = Fake::start().await;
    register(&server, fake.registration("irc")).await;
    let user = ghost(&server, "as-irc", "_irc_a").await;
    let acting = format!("user_id={}", escape(&user));
    for device in ["A", "B", "C"] {
        let path = format!("v3/devices/{device}?{acting}");
        ok(&server, "as-irc", Method::PUT, &path, json!({})).await;
    }
    let one = format!("v3/devices/A?{acting}");
    ok(&server, "as-irc", Method::DELETE, &one, json!({})).await;
    let many = format!("v3/delete_devices?{acting}");
    ok(
        &server,
        "as-irc",
        Method::POST,
        &many,
        json!({ "devices": ["B"] }),
    )
    .await;
    let list = format!("v3/devices?{acting}");
    let left = ok(&server, "as-irc", Method::GET, &list, json!({})).await;
    assert_eq!(left["devices"].as_array().unwrap().len(), 1);
    let master = |key: &str| {
        let name = format!("ed25519:{key}");
        json!({ "master_key": { "user_id": user, "usage": ["master"], "keys": { name: key } } })
    };
    let path = format!("v3/keys/device_signing/upload?{acting}");
    for key in [
        "xqrjVtVQlTUR0rCYRgPQxhPFGUzBzEwkbzSSZHHMCpw",
        "yqrjVtVQlTUR0rCYRgPQxhPFGUzBzEwkbzSSZHHMCpw",
    ] {
        ok(&server, "as-irc", Method::POST, &path, master(key)).await;
    }
    let path = format!("v3/account/deactivate?{acting}");
    ok(&server, "as-irc", Method::POST, &path, json!({})).await;
    let path = format!("v3/account/whoami?{acting}");
    let got = refused(&server, "as-irc", Method::GET, &path, json!({})).await;
    assert!(got.0 == 401 || got.0 == 403, "{got:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_kept_for_it() {
    let server = TestServer::start();
    let fake = Fake::start().await;
    register(&server, fake.registration("irc")).await;
    let mut other = fake.registration("xmpp");
    other["namespaces"] = json!({
        "users": [{ "regex": "@_.*", "exclusive": false }],
        "aliases": [{ "regex": "#_.*", "exclusive": false }],
    });
    register(&server, other).await;
    let mut names = fake.registration("names");
    names["namespaces"] = json!({ "users": [{ "regex": "@kept.*", "exclusive": true }] });
    register(&server, names).await;
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;

    let exclusive = (400, "M_EXCLUSIVE".to_owned());
    let register_path = "/_matrix/client/v3/register";
    for name in ["kept-one", "irc-bot"] {
        let body = json!({
            "username": name, "password": "p", "auth": { "type": "m.login.dummy" },
        });
        let (status, answer) = server
            .req(Method::POST, register_path, None, Some(body))
            .await;
        assert_eq!(
            (status, &answer["errcode"]),
            (400, &json!("M_EXCLUSIVE")),
            "{name}"
        );
        let path = format!("{register_path}/available?username={name}");
        let (status, answer) = server.req(Method::GET, &path, None, None).await;
        assert_eq!(
            (status, &answer["errcode"]),
            (400, &json!("M_EXCLUSIVE")),
            "{name}"
        );
    }
    let body = json!({ "type": KIND, "username": "_irc_a" });
    let got = refused(
        &server,
        "as-xmpp",
        Method::POST,
        "v3/register",
        body.clone(),
    )
    .await;
    assert_eq!(got, exclusive, "another one's");
    ghost(&server, "as-xmpp", "_anything").await;

    let alias = |name: &str| {
        format!(
            "v3/directory/room/{}",
            escape(&format!("#{name}:test.example"))
        )
    };
    let body = json!({ "room_id": room });
    for (token, name) in [
        (alice.token.as_str(), "_irc_x"),
        ("as-xmpp", "_irc_x"),
        ("as-irc", "other"),
    ] {
        let got = refused(&server, token, Method::PUT, &alias(name), body.clone()).await;
        assert_eq!(got, exclusive, "{token} {name}");
    }
    // Its own alias, for a room that it is not in.
    ok(
        &server,
        "as-irc",
        Method::PUT,
        &alias("_irc_x"),
        body.clone(),
    )
    .await;
    let got = refused(
        &server,
        &alice.token,
        Method::DELETE,
        &alias("_irc_x"),
        json!({}),
    )
    .await;
    assert_eq!(got, exclusive);
    ok(
        &server,
        "as-irc",
        Method::DELETE,
        &alias("_irc_x"),
        json!({}),
    )
    .await;
    ok(&server, &alice.token, Method::PUT, &alias("_shared"), body).await;
    let create = json!({ "room_alias_name": "_irc_y" });
    let got = refused(
        &server,
        &alice.token,
        Method::POST,
        "v3/createRoom",
        create.clone(),
    )
    .await;
    assert_eq!(got, exclusive);
    ok(&server, "as-irc", Method::POST, "v3/createRoom", create).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_may_bear_another_time() {
    let server = TestServer::start();
    let fake = Fake::start().await;
    register(&server, fake.registration("irc")).await;
    let alice = server.person("alice").await;
    let room = ok(&server, "as-irc", Method::POST, "v3/createRoom", json!({})).await;
    let room = room["room_id"].as_str().unwrap();
    let send = |txn: &str, ts: &str| {
        format!(
            "v3/rooms/{}/send/m.room.message/{txn}?ts={ts}",
            escape(room)
        )
    };
    let text = json!({ "msgtype": "m.text", "body": "long ago" });
    let ts_of = async |event: &Value| {
        let id = escape(event["event_id"].as_str().unwrap());
        let path = format!("v3/rooms/{}/event/{id}", escape(room));
        let event = ok(&server, "as-irc", Method::GET, &path, json!({})).await;
        event["origin_server_ts"].clone()
    };
    let sent = ok(
        &server,
        "as-irc",
        Method::PUT,
        &send("a", "1234"),
        text.clone(),
    )
    .await;
    assert_eq!(ts_of(&sent).await, 1234);
    let again = ok(
        &server,
        "as-irc",
        Method::PUT,
        &send("a", "1234"),
        text.clone(),
    )
    .await;
    assert_eq!(again, sent, "the same transaction");
    let state = format!("v3/rooms/{}/state/m.room.topic?ts=99", escape(room));
    let topic = json!({ "topic": "old" });
    let set = ok(&server, "as-irc", Method::PUT, &state, topic).await;
    assert_eq!(ts_of(&set).await, 99);
    for wrong in ["x", "-1", "9007199254740992"] {
        let got = refused(
            &server,
            "as-irc",
            Method::PUT,
            &send("b", wrong),
            text.clone(),
        )
        .await;
        assert_eq!(got, (400, "M_INVALID_PARAM".into()), "{wrong}");
    }
    // For people it means nothing.
    let room = server.room(&alice, json!({})).await;
    let path = format!("v3/rooms/{}/send/m.room.message/a?ts=1", escape(&room));
    let sent = ok(&server, &alice.token, Method::PUT, &path, text).await;
    let path = format!(
        "v3/rooms/{}/event/{}",
        escape(&room),
        escape(sent["event_id"].as_str().unwrap())
    );
    let event = ok(&server, &alice.token, Method::GET, &path, json!({})).await;
    assert!(event["origin_server_ts"].as_u64().unwrap() > 1_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_act_as_one_user_do_not_share_transactions() {
    let server = TestServer::start();
    let fake = Fake::start().await;
    for id in ["one", "two"] {
        let mut registration = fake.registration(id);
        registration["namespaces"] = json!({
            "users": [{ "regex": "@alice:.*", "exclusive": false }],
        });
        register(&server, registration).await;
    }
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    let path = format!(
        "v3/rooms/{}/send/m.room.message/t?user_id={}",
        escape(&room),
        escape(&alice.user_id)
    );
    let text = json!({ "msgtype": "m.text", "body": "x" });
    let one = ok(&server, "as-one", Method::PUT, &path, text.clone()).await;
    let two = ok(&server, "as-two", Method::PUT, &path, text.clone()).await;
    assert_ne!(one, two);
    let (_, _, again) = ask(&server, "as-one", Method::PUT, &path, text).await;
    assert_eq!(again, one);
}

/// Its own user never waits; the others do not where the registration says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_users_may_be_free_of_limits() {
    let server =
        TestServer::start_as("server_name = \"test.example\"\n[rate_limit]\nenabled = true\n");
    let fake = Fake::start().await;
    register(&server, fake.registration("irc")).await;
    let ghost = ghost(&server, "as-irc", "_irc_a").await;
    let refused = async |user: &str| {
        let path = format!("v3/search?user_id={}", escape(user));
        let body = json!({ "search_categories": {} });
        let mut refused = 0;
        for _ in 0..400 {
            let got = ask(&server, "as-irc", Method::POST, &path, body.clone()).await;
            assert!(got.0 == 200 || got.1 == "M_LIMIT_EXCEEDED", "{}", got.2);
            refused += usize::from(got.0 == 429);
        }
        refused
    };
    assert_eq!(refused("@irc-bot:test.example").await, 0);
    assert!(refused(&ghost).await > 0);
    let mut free = fake.registration("irc");
    free["rate_limited"] = json!(false);
    register(&server, free).await;
    assert_eq!(refused(&ghost).await, 0);
}
