//! What the server itself says to its users.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

const PATH: &str = "/_synapse/admin/v1/send_server_notice";

fn escape(text: &str) -> String {
    text.replace('!', "%21")
        .replace('@', "%40")
        .replace(':', "%3A")
}

fn notice(to: &Person, text: &str) -> Value {
    json!({ "user_id": to.user_id, "content": { "msgtype": "m.text", "body": text } })
}

fn texts(sync: &Value, room: &str) -> Vec<String> {
    let events = sync["rooms"]["join"][room]["timeline"]["events"].as_array();
    let events = events.into_iter().flatten();
    let bodies = events.filter_map(|event| event["content"]["body"].as_str());
    bodies.map(str::to_owned).collect()
}

fn only_invite(sync: &Value) -> String {
    let invites = sync["rooms"]["invite"].as_object().unwrap();
    assert_eq!(invites.len(), 1, "{invites:?}");
    invites.keys().next().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_speaks_in_a_room_for_each_user() {
    let server = TestServer::start_with("[server_notices]\nlocalpart = \"server\"");
    let admin = server.person("admin").await;
    let alice = server.person("alice").await;
    let post = async |who: &Person, body: Value| {
        server
            .req(Method::POST, PATH, Some(&who.token), Some(body))
            .await
    };
    assert_eq!(post(&alice, notice(&alice, "no")).await.0, 403);
    let (status, sent) = post(&admin, notice(&alice, "first")).await;
    assert_eq!(status, 200, "{sent}");
    assert!(sent["event_id"].is_string());
    let room = only_invite(&server.sync(&alice, None).await);
    let at = escape(&room);

    // It cannot be declined; blocking invites does not stop it.
    let leave = format!("/_matrix/client/v3/rooms/{at}/leave");
    let declined = server
        .req(Method::POST, &leave, Some(&alice.token), Some(json!({})))
        .await;
    let code = json!("M_CANNOT_LEAVE_SERVER_NOTICE_ROOM");
    assert_eq!((declined.0, &declined.1["errcode"]), (403, &code));
    let user = escape(&alice.user_id);
    let state = format!("/_matrix/client/v3/rooms/{at}/state/m.room.member/{user}");
    let gone = Some(json!({ "membership": "leave" }));
    let declined = server
        .req(Method::PUT, &state, Some(&alice.token), gone)
        .await;
    assert_eq!((declined.0, &declined.1["errcode"]), (403, &code));
    let path = format!("/_matrix/client/v3/user/{user}/account_data/m.invite_permission_config");
    let block = Some(json!({ "default_action": "block" }));
    server
        .ok(Method::PUT, &path, Some(&alice.token), block)
        .await;
    assert_eq!(only_invite(&server.sync(&alice, None).await), room);

    assert_eq!(post(&admin, notice(&alice, "second")).await.0, 200);
    server.join(&alice, &room).await;
    let sync = server.sync(&alice, None).await;
    assert_eq!(texts(&sync, &room), ["first", "second"]);
    let data = sync["rooms"]["join"][&room]["account_data"]["events"]
        .as_array()
        .unwrap();
    let tags = data.iter().find(|event| event["type"] == "m.tag").unwrap();
    assert_eq!(tags["content"]["tags"], json!({ "m.server_notice": {} }));
    let say = format!("/_matrix/client/v3/rooms/{at}/send/m.room.message/t");
    let body = Some(json!({ "msgtype": "m.text", "body": "why?" }));
    assert_eq!(
        server
            .req(Method::PUT, &say, Some(&alice.token), body)
            .await
            .0,
        403
    );

    // Once in it one may leave, and the next notice has a room of its own.
    server
        .ok(Method::POST, &leave, Some(&alice.token), Some(json!({})))
        .await;
    assert_eq!(post(&admin, notice(&alice, "third")).await.0, 200);
    let next = only_invite(&server.sync(&alice, None).await);
    assert_ne!(next, room);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_is_sent_once_and_to_people_of_this_server() {
    let server = TestServer::start_with("[server_notices]\nlocalpart = \"server\"");
    let admin = server.person("admin").await;
    let alice = server.person("alice").await;
    let once = format!("{PATH}/t1");
    let body = notice(&alice, "once");
    let first = server
        .req(Method::PUT, &once, Some(&admin.token), Some(body.clone()))
        .await;
    assert_eq!(first.0, 200, "{}", first.1);
    let second = server
        .req(Method::PUT, &once, Some(&admin.token), Some(body.clone()))
        .await;
    assert_eq!(first, second);
    // By the socket too, where a transaction is another one.
    let by_socket = server.admin(Method::PUT, &once, Some(body.clone())).await;
    assert_eq!(by_socket.0, 200);
    assert_eq!(
        server.admin(Method::PUT, &once, Some(body)).await,
        by_socket
    );
    let state = json!({ "user_id": alice.user_id, "type": "m.room.topic", "state_key": "",
        "content": { "topic": "News" } });
    assert_eq!(server.admin(Method::POST, PATH, Some(state)).await.0, 200);
    let room = only_invite(&server.sync(&alice, None).await);
    server.join(&alice, &room).await;
    let sync = server.sync(&alice, None).await;
    assert_eq!(texts(&sync, &room), ["once", "once"]);

    for (user, status) in [
        ("@nobody:test.example", 404),
        ("@alice:elsewhere.example", 400),
        ("alice", 400),
    ] {
        let body = json!({ "user_id": user, "content": {} });
        let refused = server.admin(Method::POST, PATH, Some(body)).await;
        assert_eq!(refused.0, status, "{user}: {}", refused.1);
    }
    // Nobody gets the name of the server's own account, and nobody finds it.
    let body = json!({ "username": "server", "password": "correct horse",
        "auth": { "type": "m.login.dummy" } });
    let path = "/_matrix/client/v3/register";
    let (status, error) = server.req(Method::POST, path, None, Some(body)).await;
    assert_eq!((status, &error["errcode"]), (400, &json!("M_USER_IN_USE")));
    let path = "/_matrix/client/v3/user_directory/search";
    let body = Some(json!({ "search_term": "server" }));
    let found = server
        .ok(Method::POST, path, Some(&alice.token), body)
        .await;
    assert_eq!(found["results"], json!([]));
}
