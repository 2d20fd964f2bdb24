//! What application services are asked: whether somebody exists, what they know of other
//! networks, whether they are there.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::TestServer;

use super::fake::{Asked, Fake, register};
use super::{ask, escape, ok, refused};

/// Requests for a path.
fn to(fake: &Fake, path: &str) -> usize {
    fake.asked().iter().filter(|one| one.path == path).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_made_when_they_are_asked_for() {
    let server = std::sync::Arc::new(TestServer::start());
    let fake = Fake::start().await;
    register(&server, fake.registration("irc")).await;
    let maker = std::sync::Arc::downgrade(&server);
    fake.answer(move |asked: Asked| {
        let maker = maker.clone();
        async move {
            let name = asked.path.strip_prefix("/_matrix/app/v1/users/@");
            let Some(name) = name.and_then(|id| id.split(':').next()) else {
                return (200, json!({}));
            };
            if name.contains("none") {
                return (404, json!({ "errcode": "M_NOT_FOUND" }));
            }
            let server = maker.upgrade().unwrap();
            super::fake::ghost(&server, "as-irc", name).await;
            (200, json!({}))
        }
    });
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    let invite = format!("v3/rooms/{}/invite", escape(&room));
    let body = json!({ "user_id": "@_irc_a:test.example" });
    ok(&server, &alice.token, Method::POST, &invite, body).await;
    let asked = fake.asked();
    assert_eq!(asked[0].path, "/_matrix/app/v1/users/@_irc_a:test.example");
    assert_eq!(asked[0].token, "Bearer hs-irc");
    let profile = |name: &str| format!("v3/profile/{}", escape(&format!("@{name}:test.example")));
    ok(
        &server,
        &alice.token,
        Method::GET,
        &profile("_irc_a"),
        json!({}),
    )
    .await;
    ok(
        &server,
        &alice.token,
        Method::GET,
        &profile("_irc_b"),
        json!({}),
    )
    .await;
    let made = json!({ "invite": ["@_irc_c:test.example", "@_irc_none2:test.example"] });
    ok(&server, &alice.token, Method::POST, "v3/createRoom", made).await;
    ok(
        &server,
        &alice.token,
        Method::GET,
        &profile("_irc_c"),
        json!({}),
    )
    .await;
    for user in ["_irc_a", "_irc_b", "_irc_c"] {
        let path = format!("/_matrix/app/v1/users/@{user}:test.example");
        assert_eq!(to(&fake, &path), 1, "{user}");
    }
    // What does not exist is not asked for again at once.
    for _ in 0..3 {
        let path = profile("_irc_none");
        let got = refused(&server, &alice.token, Method::GET, &path, json!({})).await;
        assert_eq!(got, (404, "M_NOT_FOUND".into()));
    }
    assert_eq!(
        to(&fake, "/_matrix/app/v1/users/@_irc_none:test.example"),
        1
    );
    server.clock.advance(10_000);
    let path = profile("_irc_none");
    refused(&server, &alice.token, Method::GET, &path, json!({})).await;
    assert_eq!(
        to(&fake, "/_matrix/app/v1/users/@_irc_none:test.example"),
        2
    );
    let path = profile("somebody");
    refused(&server, &alice.token, Method::GET, &path, json!({})).await;
    assert_eq!(to(&fake, "/_matrix/app/v1/users/@somebody:test.example"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aliases_are_made_when_they_are_asked_for() {
    let server = std::sync::Arc::new(TestServer::start());
    let fake = Fake::start().await;
    register(&server, fake.registration("irc")).await;
    let alice = server.person("alice").await;
    let room = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let (maker, made) = (std::sync::Arc::downgrade(&server), room.clone());
    fake.answer(move |asked: Asked| {
        let (maker, room) = (maker.clone(), made.clone());
        async move {
            let Some(alias) = asked.path.strip_prefix("/_matrix/app/v1/rooms/") else {
                return (200, json!({}));
            };
            if alias.contains("none") {
                return (404, json!({ "errcode": "M_NOT_FOUND" }));
            }
            let path = format!("v3/directory/room/{}", escape(alias));
            let body = json!({ "room_id": room });
            ok(
                &maker.upgrade().unwrap(),
                "as-irc",
                Method::PUT,
                &path,
                body,
            )
            .await;
            (200, json!({}))
        }
    });
    let bob = server.person("bob").await;
    let alias = |name: &str| escape(&format!("#{name}:test.example"));
    let join = format!("v3/join/{}", alias("_irc_a"));
    let joined = ok(&server, &bob.token, Method::POST, &join, json!({})).await;
    assert_eq!(joined["room_id"], room.as_str());
    let resolve = |name: &str| format!("v3/directory/room/{}", alias(name));
    let found = ok(
        &server,
        &bob.token,
        Method::GET,
        &resolve("_irc_b"),
        json!({}),
    )
    .await;
    assert_eq!(found["room_id"], room.as_str());
    let got = refused(
        &server,
        &bob.token,
        Method::GET,
        &resolve("_irc_none"),
        json!({}),
    )
    .await;
    assert_eq!(got, (404, "M_NOT_FOUND".into()));
    refused(
        &server,
        &bob.token,
        Method::GET,
        &resolve("other"),
        json!({}),
    )
    .await;
    assert_eq!(to(&fake, "/_matrix/app/v1/rooms/#other:test.example"), 0);
    // One that fails again and again is given up.
    fake.answer_all(500, json!({}));
    let got = refused(
        &server,
        &bob.token,
        Method::GET,
        &resolve("_irc_late"),
        json!({}),
    )
    .await;
    assert_eq!(got.0, 408);
    assert_eq!(
        to(&fake, "/_matrix/app/v1/rooms/#_irc_late:test.example"),
        3
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_say_what_is_wrong() {
    let server = TestServer::start();
    let fake = Fake::start().await;
    register(&server, fake.registration("irc")).await;
    let alice = server.person("alice").await;
    let path = "v1/appservice/irc/ping";
    let body = json!({ "transaction_id": "meow" });
    let answer = ok(&server, "as-irc", Method::POST, path, body.clone()).await;
    assert!(answer["duration_ms"].is_u64());
    let asked = fake.asked();
    assert_eq!(asked[0].path, "/_matrix/app/v1/ping");
    assert_eq!(
        (&asked[0].body, asked[0].token.as_str()),
        (&body, "Bearer hs-irc")
    );
    let got = refused(&server, &alice.token, Method::POST, path, body.clone()).await;
    assert_eq!(got, (403, "M_FORBIDDEN".into()));
    let other = "v1/appservice/xmpp/ping";
    let got = refused(&server, "as-irc", Method::POST, other, body.clone()).await;
    assert_eq!(got, (403, "M_FORBIDDEN".into()));
    fake.answer_all(401, json!({ "errcode": "M_UNKNOWN_TOKEN" }));
    let (status, errcode, answer) = ask(&server, "as-irc", Method::POST, path, body.clone()).await;
    assert_eq!((status, errcode.as_str()), (502, "M_BAD_STATUS"));
    assert_eq!(answer["status"], 401);
    assert_eq!(answer["body"], r#"{"errcode":"M_UNKNOWN_TOKEN"}"#);

    let mut nowhere = fake.registration("nowhere");
    nowhere["url"] = Value::Null;
    register(&server, nowhere).await;
    let path = "v1/appservice/nowhere/ping";
    let got = refused(&server, "as-nowhere", Method::POST, path, body.clone()).await;
    assert_eq!(got, (400, "M_URL_NOT_SET".into()));
    let mut closed = fake.registration("closed");
    closed["url"] = json!("http://127.0.0.1:1");
    register(&server, closed).await;
    let path = "v1/appservice/closed/ping";
    let got = refused(&server, "as-closed", Method::POST, path, body).await;
    assert_eq!(got, (502, "M_CONNECTION_FAILED".into()));
}

/// What waits is sent as soon as a ping shows that the application service is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_ends_the_pause() {
    let server = TestServer::start();
    let fake = Fake::start().await;
    register(&server, fake.registration("irc")).await;
    fake.answer_all(500, json!({}));
    let room = ok(&server, "as-irc", Method::POST, "v3/createRoom", json!({})).await;
    let room = room["room_id"].as_str().unwrap();
    fake.wait(|asked| (!asked.is_empty()).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    fake.answer_all(200, json!({}));
    let before = fake.asked().len();
    let path = "v1/appservice/irc/ping";
    ok(&server, "as-irc", Method::POST, path, json!({})).await;
    fake.wait(|asked| {
        let later = asked.iter().skip(before);
        let mut sent = later.filter(|one| one.number().is_some());
        sent.find(|one| one.body.to_string().contains(room))
            .map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_networks_are_asked_through_their_bridges() {
    let server = TestServer::start();
    let (one, two) = (Fake::start().await, Fake::start().await);
    for (fake, id) in [(&one, "one"), (&two, "two")] {
        let mut registration = fake.registration(id);
        registration["protocols"] = json!(["irc"]);
        register(&server, registration).await;
    }
    let alice = server.person("alice").await;
    one.answer_all(
        200,
        json!({
            "user_fields": ["nick"], "location_fields": ["channel"], "field_types": {},
            "icon": "mxc://a/b", "instances": [{ "desc": "a", "network_id": "n" }],
        }),
    );
    two.answer_all(
        200,
        json!({ "user_fields": [], "instances": [{ "desc": "b" }] }),
    );
    let protocols = "v3/thirdparty/protocols";
    let found = ok(&server, &alice.token, Method::GET, protocols, json!({})).await;
    let instances = json!([
        { "desc": "a", "network_id": "n", "instance_id": "one|n" },
        { "desc": "b" },
    ]);
    assert_eq!(found["irc"]["instances"], instances);
    assert_eq!(found["irc"]["icon"], "mxc://a/b");
    // From memory, whatever they say now.
    one.answer_all(200, json!([]));
    let path = "v3/thirdparty/protocol/irc";
    let again = ok(&server, &alice.token, Method::GET, path, json!({})).await;
    assert_eq!(again, found["irc"]);
    let path = "v3/thirdparty/protocol/xmpp";
    let got = refused(&server, &alice.token, Method::GET, path, json!({})).await;
    assert_eq!(got, (404, "M_NOT_FOUND".into()));

    let user = json!({ "userid": "@a:b", "protocol": "irc", "fields": { "nick": "x" } });
    one.answer_all(200, json!([user, { "userid": 1 }]));
    two.answer_all(500, json!({}));
    let path = "v3/thirdparty/user/irc?nick=x%20y&access_token=ignored";
    let found = ok(&server, &alice.token, Method::GET, path, json!({})).await;
    assert_eq!(found, json!([user]));
    let asked = one.asked().pop().unwrap();
    assert_eq!(asked.path, "/_matrix/app/v1/thirdparty/user/irc");
    assert_eq!(
        (asked.query.as_str(), asked.token.as_str()),
        ("nick=x%20y", "Bearer hs-one")
    );
    let place = json!({ "alias": "#a:b", "protocol": "irc", "fields": {} });
    two.answer_all(200, json!([place]));
    let path = "v3/thirdparty/location?alias=%23a%3Ab";
    let found = ok(&server, &alice.token, Method::GET, path, json!({})).await;
    assert_eq!(found, json!([place]));
    assert_eq!(two.asked().pop().unwrap().query, "alias=%23a%3Ab");
    let path = "v3/thirdparty/location";
    let got = refused(&server, &alice.token, Method::GET, path, json!({})).await;
    assert_eq!(got, (400, "M_MISSING_PARAM".into()));
}
