//! Guests: what they may call, where they may go, and how they become full accounts.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

const REGISTER: &str = "/_matrix/client/v3/register";

async fn guest(server: &TestServer) -> Person {
    let path = format!("{REGISTER}?kind=guest");
    let made = server.ok(Method::POST, &path, None, Some(json!({}))).await;
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    Person {
        user_id: text("user_id"),
        token: text("access_token"),
        device: text("device_id"),
    }
}

async fn asked(
    server: &TestServer,
    who: &Person,
    method: Method,
    rest: &str,
    body: Value,
) -> (u16, Value) {
    let body = (method != Method::GET).then_some(body);
    let path = format!("/_matrix/client/v3/{rest}");
    server.req(method, &path, Some(&who.token), body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_have_a_part_of_the_api() {
    let server = TestServer::start();
    let ada = server.person("ada").await;
    let guest = guest(&server).await;
    let whoami = asked(&server, &guest, Method::GET, "account/whoami", json!({})).await;
    assert_eq!(whoami.1["is_guest"], true);
    let own = format!("profile/{}", guest.user_id);
    for (method, rest, body) in [
        (Method::GET, "sync?timeout=0".to_owned(), json!({})),
        (Method::GET, "devices".to_owned(), json!({})),
        (Method::GET, "capabilities".to_owned(), json!({})),
        (
            Method::PUT,
            format!("{own}/displayname"),
            json!({ "displayname": "Passer-by" }),
        ),
        (Method::GET, format!("{own}/displayname"), json!({})),
        (
            Method::POST,
            "keys/query".to_owned(),
            json!({ "device_keys": {} }),
        ),
    ] {
        let (status, answer) = asked(&server, &guest, method, &rest, body).await;
        assert_eq!(status, 200, "{rest}: {answer}");
    }
    let avatar = json!({ "avatar_url": "mxc://test.example/x" });
    for (method, rest, body) in [
        (Method::POST, "createRoom".to_owned(), json!({})),
        (Method::GET, "pushrules/".to_owned(), json!({})),
        (Method::PUT, format!("{own}/avatar_url"), avatar),
        (Method::POST, "account/3pid/add".to_owned(), json!({})),
        (Method::POST, "account/deactivate".to_owned(), json!({})),
        (
            Method::DELETE,
            format!("devices/{}", guest.device),
            json!({}),
        ),
        (
            Method::GET,
            format!("user/{}/account_data/x", guest.user_id),
            json!({}),
        ),
    ] {
        let (status, answer) = asked(&server, &guest, method, &rest, body).await;
        let got = (status, answer["errcode"].as_str().unwrap_or_default());
        assert_eq!(got, (403, "M_GUEST_ACCESS_FORBIDDEN"), "{rest}");
    }
    let token = "/_matrix/client/v1/login/get_token";
    let refused = server
        .req(Method::POST, token, Some(&guest.token), Some(json!({})))
        .await;
    assert_eq!(refused.1["errcode"], "M_GUEST_ACCESS_FORBIDDEN");
    drop(ada);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_go_where_they_are_let_in_and_leave_when_it_is_closed() {
    let server = TestServer::start();
    let ada = server.person("ada").await;
    let guest = guest(&server).await;
    let open =
        json!([{ "type": "m.room.guest_access", "content": { "guest_access": "can_join" } }]);
    let closed = server.room(&ada, json!({ "preset": "public_chat" })).await;
    let room = server
        .room(
            &ada,
            json!({ "preset": "public_chat", "initial_state": open }),
        )
        .await;
    let (status, answer) = asked(
        &server,
        &guest,
        Method::POST,
        &format!("rooms/{closed}/join"),
        json!({}),
    )
    .await;
    assert_eq!(
        (status, &answer["errcode"]),
        (403, &json!("M_GUEST_ACCESS_FORBIDDEN"))
    );
    server.join(&guest, &room).await;
    server.say(&guest, &room, "hello").await;
    let access = format!("rooms/{room}/state/m.room.guest_access");
    let set = asked(
        &server,
        &ada,
        Method::PUT,
        &access,
        json!({ "guest_access": "forbidden" }),
    );
    assert_eq!(set.await.0, 200);
    let member = format!("rooms/{room}/state/m.room.member/{}", guest.user_id);
    let (_, member) = asked(&server, &ada, Method::GET, &member, json!({})).await;
    assert_eq!(member["membership"], "leave");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_becomes_a_full_account_and_keeps_the_rooms() {
    let server = TestServer::start();
    let ada = server.person("ada").await;
    let first = guest(&server).await;
    let other = guest(&server).await;
    let open =
        json!([{ "type": "m.room.guest_access", "content": { "guest_access": "can_join" } }]);
    let room = server
        .room(
            &ada,
            json!({ "preset": "public_chat", "initial_state": open }),
        )
        .await;
    server.join(&first, &room).await;
    let name = first
        .user_id
        .trim_start_matches('@')
        .split(':')
        .next()
        .unwrap();
    let register = async |token: &str, auth: Value| {
        let body = json!({ "username": name, "password": "a new one",
            "guest_access_token": token, "auth": auth });
        server.req(Method::POST, REGISTER, None, Some(body)).await
    };
    let dummy = json!({ "type": "m.login.dummy" });
    for wrong in [&other.token, &ada.token, &"nonsense".to_owned()] {
        let (status, answer) = register(wrong, dummy.clone()).await;
        assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
    }
    let plain = json!({ "username": name, "password": "x", "auth": dummy });
    let taken = server.req(Method::POST, REGISTER, None, Some(plain)).await;
    assert_eq!(taken.1["errcode"], "M_USER_IN_USE");
    let (status, asks) = register(&first.token, Value::Null).await;
    assert_eq!(status, 401);
    let auth = json!({ "type": "m.login.dummy", "session": asks["session"] });
    let (status, made) = register(&first.token, auth).await;
    assert_eq!(
        (status, &made["user_id"]),
        (200, &json!(first.user_id)),
        "{made}"
    );
    let token = made["access_token"].as_str().unwrap();
    let whoami = "/_matrix/client/v3/account/whoami";
    let now = server.ok(Method::GET, whoami, Some(token), None).await;
    assert_eq!(now["is_guest"], false);
    assert_eq!(
        server
            .req(Method::GET, whoami, Some(&first.token), None)
            .await
            .0,
        401
    );
    let rooms = "/_matrix/client/v3/joined_rooms";
    let joined = server.ok(Method::GET, rooms, Some(token), None).await;
    assert_eq!(joined["joined_rooms"], json!([room]));
    let login = json!({ "type": "m.login.password", "user": name, "password": "a new one" });
    let path = "/_matrix/client/v3/login";
    server.ok(Method::POST, path, None, Some(login)).await;
    let create = "/_matrix/client/v3/createRoom";
    server
        .ok(Method::POST, create, Some(token), Some(json!({})))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_are_let_in_only_where_the_operator_says_so() {
    let server = TestServer::start_as("server_name = \"test.example\"");
    let path = format!("{REGISTER}?kind=guest");
    let (status, answer) = server.req(Method::POST, &path, None, Some(json!({}))).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (403, &json!("M_GUEST_ACCESS_FORBIDDEN"))
    );
}
