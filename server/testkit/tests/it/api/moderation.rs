//! Locks, suspensions and who was seen from where.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

fn path(rest: &str) -> String {
    format!("/_matrix/client/{rest}")
}

async fn asked(
    server: &TestServer,
    who: &Person,
    method: Method,
    rest: &str,
    body: Value,
) -> (u16, String, Value) {
    let body = (method != Method::GET).then_some(body);
    let (status, answer) = server
        .req(method, &path(rest), Some(&who.token), body)
        .await;
    let errcode = answer["errcode"].as_str().unwrap_or_default().to_owned();
    (status, errcode, answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_locked_keeps_the_session_and_can_only_log_out() {
    let server = TestServer::start();
    let admin = server.person("admin").await;
    let bob = server.person("bob").await;
    for lock in [
        "v1/admin/lock/@bob:test.example",
        "unstable/uk.timedout.msc4323/admin/lock/@bob:test.example",
    ] {
        let (status, _, answer) = asked(
            &server,
            &admin,
            Method::PUT,
            lock,
            json!({ "locked": true }),
        )
        .await;
        assert_eq!((status, answer), (200, json!({ "locked": true })));
        let (_, _, answer) = asked(&server, &admin, Method::GET, lock, json!({})).await;
        assert_eq!(answer, json!({ "locked": true }));
        for rest in ["v3/sync?timeout=0", "v3/account/whoami", "v3/joined_rooms"] {
            let (status, errcode, answer) =
                asked(&server, &bob, Method::GET, rest, json!({})).await;
            assert_eq!((status, errcode.as_str()), (401, "M_USER_LOCKED"), "{rest}");
            assert_eq!(answer["soft_logout"], true);
        }
        let login = json!({ "type": "m.login.password", "user": "bob",
            "password": "correct horse" });
        let (status, answer) = server
            .req(Method::POST, &path("v3/login"), None, Some(login))
            .await;
        assert_eq!((status, &answer["errcode"]), (401, &json!("M_USER_LOCKED")));
        asked(
            &server,
            &admin,
            Method::PUT,
            lock,
            json!({ "locked": false }),
        )
        .await;
        server.sync(&bob, None).await;
    }
    let lock = "v1/admin/lock/@bob:test.example";
    asked(
        &server,
        &admin,
        Method::PUT,
        lock,
        json!({ "locked": true }),
    )
    .await;
    let server = server.restart().await;
    let sync = asked(&server, &bob, Method::GET, "v3/sync?timeout=0", json!({})).await;
    assert_eq!(sync.0, 401);
    let (status, _, _) = asked(&server, &bob, Method::POST, "v3/logout", json!({})).await;
    assert_eq!(status, 200);
    asked(
        &server,
        &admin,
        Method::PUT,
        lock,
        json!({ "locked": false }),
    )
    .await;
    let (_, errcode, answer) = asked(&server, &bob, Method::GET, "v3/devices", json!({})).await;
    assert_eq!(errcode, "M_UNKNOWN_TOKEN");
    assert!(answer.get("soft_logout").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_administrators_hold_accounts_and_not_each_others() {
    let server = TestServer::start();
    let admin = server.person("admin").await;
    let bob = server.person("bob").await;
    let gone = server.person("gone").await;
    let auth = json!({ "type": "m.login.password", "user": "gone", "password": "correct horse" });
    let closed = asked(
        &server,
        &gone,
        Method::POST,
        "v3/account/deactivate",
        json!({ "auth": auth }),
    );
    assert_eq!(closed.await.0, 200);
    for kind in ["lock", "suspend"] {
        for (who, target, status, errcode) in [
            (&bob, "@admin:test.example", 403, "M_FORBIDDEN"),
            (&bob, "@nobody:test.example", 403, "M_FORBIDDEN"),
            (&bob, "@bob:test.example", 403, "M_FORBIDDEN"),
            (&admin, "@admin:test.example", 403, "M_FORBIDDEN"),
            (&admin, "@nobody:test.example", 404, "M_NOT_FOUND"),
            (&admin, "@gone:test.example", 404, "M_NOT_FOUND"),
            (&admin, "@bob:elsewhere.example", 400, "M_INVALID_PARAM"),
            (&admin, "bob", 400, "M_INVALID_PARAM"),
        ] {
            let rest = format!("v1/admin/{kind}/{target}");
            let body = json!({ "locked": true, "suspended": true });
            for method in [Method::GET, Method::PUT] {
                let got = asked(&server, who, method, &rest, body.clone()).await;
                assert_eq!((got.0, got.1.as_str()), (status, errcode), "{rest}");
            }
        }
    }
    let own = asked(&server, &admin, Method::GET, "v3/capabilities", json!({})).await;
    let may = &own.2["capabilities"]["m.account_moderation"];
    assert_eq!(may, &json!({ "lock": true, "suspend": true }));
    let others = asked(&server, &bob, Method::GET, "v3/capabilities", json!({})).await;
    assert!(
        others.2["capabilities"]
            .get("m.account_moderation")
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_suspended_reads_and_tidies_up() {
    let server = TestServer::start();
    let admin = server.person("admin").await;
    let bob = server.person("bob").await;
    let room = server
        .room(
            &bob,
            json!({ "preset": "public_chat", "invite": ["@admin:test.example"] }),
        )
        .await;
    server.join(&admin, &room).await;
    let other = server
        .room(&admin, json!({ "preset": "public_chat" }))
        .await;
    let own = server.say(&bob, &room, "hello").await;
    let foreign = server.say(&admin, &room, "hello").await;
    let put = "v1/admin/suspend/@bob:test.example";
    let (status, _, answer) = asked(
        &server,
        &admin,
        Method::PUT,
        put,
        json!({ "suspended": true }),
    )
    .await;
    assert_eq!((status, answer), (200, json!({ "suspended": true })));

    let user = "v3/profile/@bob:test.example";
    for (method, rest, body) in [
        (Method::POST, format!("v3/join/{other}"), json!({})),
        (Method::POST, format!("v3/rooms/{other}/join"), json!({})),
        (Method::POST, format!("v3/knock/{other}"), json!({})),
        (
            Method::POST,
            format!("v3/rooms/{room}/invite"),
            json!({ "user_id": "@x:test.example" }),
        ),
        (Method::POST, "v3/createRoom".to_owned(), json!({})),
        (
            Method::PUT,
            format!("v3/rooms/{room}/send/m.room.message/1"),
            json!({ "msgtype": "m.text", "body": "x" }),
        ),
        (
            Method::PUT,
            format!("v3/rooms/{room}/state/m.room.topic"),
            json!({ "topic": "x" }),
        ),
        (
            Method::PUT,
            format!("v3/rooms/{room}/redact/{foreign}/1"),
            json!({}),
        ),
        (
            Method::PUT,
            format!("v3/rooms/{room}/redact/{own}/1"),
            json!({ "with_rel_types": ["*"] }),
        ),
        (
            Method::PUT,
            format!("{user}/displayname"),
            json!({ "displayname": "x" }),
        ),
    ] {
        let got = asked(&server, &bob, method, &rest, body).await;
        assert_eq!((got.0, got.1.as_str()), (403, "M_USER_SUSPENDED"), "{rest}");
    }
    let seen = server.sync(&bob, None).await;
    assert!(seen["rooms"]["join"][&room].is_object());
    for (method, rest, body) in [
        (
            Method::PUT,
            format!("v3/rooms/{room}/redact/{own}/2"),
            json!({}),
        ),
        (
            Method::GET,
            format!("v3/rooms/{room}/messages?dir=b"),
            json!({}),
        ),
        (Method::POST, format!("v3/rooms/{room}/leave"), json!({})),
    ] {
        let got = asked(&server, &bob, method, &rest, body).await;
        assert_eq!(got.0, 200, "{rest}: {}", got.2);
    }
    let again = server.log_in("bob").await;
    let refused = asked(&server, &again, Method::POST, "v3/createRoom", json!({})).await;
    assert_eq!(refused.1, "M_USER_SUSPENDED");
    asked(
        &server,
        &admin,
        Method::PUT,
        put,
        json!({ "suspended": false }),
    )
    .await;
    server.room(&again, json!({})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whois_tells_devices_to_their_owner_and_to_administrators() {
    let server = TestServer::start();
    let admin = server.person("admin").await;
    let bob = server.person("bob").await;
    server.sync(&bob, None).await;
    let rest = "v3/admin/whois/@bob:test.example";
    for who in [&bob, &admin] {
        let (status, _, answer) = asked(&server, who, Method::GET, rest, json!({})).await;
        assert_eq!((status, &answer["user_id"]), (200, &json!(bob.user_id)));
        let seen = &answer["devices"][&bob.device]["sessions"][0]["connections"][0];
        assert!(
            seen["last_seen"].is_u64() && seen["ip"].is_string(),
            "{answer}"
        );
        assert!(seen["user_agent"].is_string());
    }
    let about = "v3/admin/whois/@admin:test.example";
    let refused = asked(&server, &bob, Method::GET, about, json!({})).await;
    assert_eq!((refused.0, refused.1.as_str()), (403, "M_FORBIDDEN"));
    let unknown = "v3/admin/whois/@nobody:test.example";
    let refused = asked(&server, &admin, Method::GET, unknown, json!({})).await;
    assert_eq!((refused.0, refused.1.as_str()), (404, "M_NOT_FOUND"));
}
