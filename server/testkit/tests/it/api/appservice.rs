//! Application services: what they are sent, what they may do, what they are asked.

mod asked;
mod fake;
mod sent;
mod users;

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::TestServer;

use fake::{Fake, register};

fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// One request: status, errcode (or nothing), answer. `path` is behind `/_matrix/client/`.
async fn ask(
    server: &TestServer,
    token: &str,
    method: Method,
    path: &str,
    body: Value,
) -> (u16, String, Value) {
    let path = format!("/_matrix/client/{path}");
    let body = (method != Method::GET).then_some(body);
    let (status, answer) = server.req(method, &path, Some(token), body).await;
    let errcode = answer["errcode"].as_str().unwrap_or_default().to_owned();
    (status, errcode, answer)
}

/// A request that has to succeed.
async fn ok(server: &TestServer, token: &str, method: Method, path: &str, body: Value) -> Value {
    let (status, _, answer) = ask(server, token, method.clone(), path, body).await;
    assert!((200..300).contains(&status), "{method} {path}: {answer}");
    answer
}

/// Status and errcode of a request that has to be refused.
async fn refused(
    server: &TestServer,
    token: &str,
    method: Method,
    path: &str,
    body: Value,
) -> (u16, String) {
    let (status, errcode, answer) = ask(server, token, method.clone(), path, body).await;
    assert!(status >= 400, "{method} {path}: {answer}");
    (status, errcode)
}

async fn admin(
    server: &TestServer,
    method: Method,
    rest: &str,
    body: Option<Value>,
) -> (u16, Value) {
    let path = format!("/_skerry/admin/v1/appservices{rest}");
    server.admin(method, &path, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_come_and_go_while_the_server_runs() {
    let server = TestServer::start();
    let fake = Fake::start().await;
    let whoami = "v3/account/whoami";
    let got = refused(&server, "as-irc", Method::GET, whoami, json!({})).await;
    assert_eq!(got, (401, "M_UNKNOWN_TOKEN".into()));
    register(&server, fake.registration("irc")).await;
    let who = ok(&server, "as-irc", Method::GET, whoami, json!({})).await;
    assert_eq!(
        who,
        json!({ "user_id": "@irc-bot:test.example", "is_guest": false })
    );

    let mut other = fake.registration("other");
    other["as_token"] = json!("as-irc");
    let (status, answer) = admin(&server, Method::POST, "", Some(other)).await;
    assert_eq!(status, 400);
    let said = answer["error"].as_str().unwrap();
    assert!(said.contains("\"irc\" has the same one"), "{said}");
    let mut wrong = fake.registration("wrong");
    wrong["namespaces"]["users"][0]["regex"] = json!("@(");
    let (status, answer) = admin(&server, Method::POST, "", Some(wrong)).await;
    assert_eq!(status, 400);
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .starts_with("namespaces.users[0].regex")
    );

    let server = server.restart().await;
    let mut newer = fake.registration("irc");
    newer["as_token"] = json!("new");
    ok(&server, "as-irc", Method::GET, whoami, json!({})).await;
    register(&server, newer).await;
    ok(&server, "new", Method::GET, whoami, json!({})).await;
    let got = refused(&server, "as-irc", Method::GET, whoami, json!({})).await;
    assert_eq!(got.0, 401, "the old token is worth nothing");

    let (_, list) = admin(&server, Method::GET, "", None).await;
    assert_eq!(list["appservices"][0]["id"], "irc");
    assert_eq!(list["appservices"][0]["waiting"], 0);
    let (_, shown) = admin(&server, Method::GET, "/irc", None).await;
    assert_eq!(shown["registration"]["sender_localpart"], "irc-bot");
    assert_eq!(shown["registration"]["as_token"], Value::Null);
    assert_eq!(admin(&server, Method::GET, "/nobody", None).await.0, 404);
    assert_eq!(admin(&server, Method::DELETE, "/nobody", None).await.0, 404);
    assert_eq!(admin(&server, Method::DELETE, "/irc", None).await.0, 200);
    let got = refused(&server, "new", Method::GET, whoami, json!({})).await;
    assert_eq!(got.0, 401);
    let server = server.restart().await;
    let got = refused(&server, "new", Method::GET, whoami, json!({})).await;
    assert_eq!(got.0, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_is_not_the_first_person() {
    let server = TestServer::start();
    let fake = Fake::start().await;
    register(&server, fake.registration("irc")).await;
    fake::ghost(&server, "as-irc", "_irc_a").await;
    let alice = server.person("alice").await;
    let (_, users) = server
        .admin(Method::GET, "/_synapse/admin/v2/users", None)
        .await;
    let users = users["users"].as_array().unwrap();
    let admins = users.iter().filter(|user| user["admin"] == true);
    let admins: Vec<&Value> = admins.map(|user| &user["name"]).collect();
    assert_eq!(admins, [&json!(alice.user_id)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_of_a_network_are_listed_by_its_bridge() {
    let server = TestServer::start();
    let fake = Fake::start().await;
    register(&server, fake.registration("irc")).await;
    let alice = server.person("alice").await;
    let room = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let path = format!("v3/directory/list/appservice/freenode/{}", escape(&room));
    let listed = json!({ "visibility": "public" });
    let got = refused(&server, &alice.token, Method::PUT, &path, listed.clone()).await;
    assert_eq!(got, (403, "M_FORBIDDEN".into()));
    ok(&server, "as-irc", Method::PUT, &path, listed).await;
    let count = async |body: Value| {
        let rooms = ok(&server, &alice.token, Method::POST, "v3/publicRooms", body).await;
        rooms["chunk"].as_array().unwrap().len()
    };
    assert_eq!(count(json!({})).await, 0);
    assert_eq!(
        count(json!({ "third_party_instance_id": "irc|freenode" })).await,
        1
    );
    assert_eq!(
        count(json!({ "third_party_instance_id": "irc|other" })).await,
        0
    );
    assert_eq!(count(json!({ "include_all_networks": true })).await, 1);
    // Its list goes with it.
    assert_eq!(admin(&server, Method::DELETE, "/irc", None).await.0, 200);
    assert_eq!(count(json!({ "include_all_networks": true })).await, 0);
    register(&server, fake.registration("irc")).await;
    assert_eq!(count(json!({ "include_all_networks": true })).await, 1);
    ok(
        &server,
        "as-irc",
        Method::PUT,
        &path,
        json!({ "visibility": "private" }),
    )
    .await;
    assert_eq!(count(json!({ "include_all_networks": true })).await, 0);
}
