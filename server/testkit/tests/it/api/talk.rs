//! Two people talk.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::TestServer;

fn texts(sync: &Value, room: &str) -> Vec<String> {
    let events = sync["rooms"]["join"][room]["timeline"]["events"]
        .as_array()
        .cloned();
    events
        .unwrap_or_default()
        .iter()
        .filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_talk_and_a_restart_changes_nothing() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let bob = server.person("bob").await;
    let room = server
        .room(&alice, json!({ "preset": "private_chat", "name": "Tea" }))
        .await;
    server.invite(&alice, &room, &bob).await;
    let invited = server.sync(&bob, None).await;
    assert!(invited["rooms"]["invite"][&room].is_object(), "{invited}");
    server.join(&bob, &room).await;
    let since = server.sync(&bob, None).await["next_batch"]
        .as_str()
        .unwrap()
        .to_owned();
    server.say(&alice, &room, "hello").await;
    server.say(&alice, &room, "are you there?").await;
    let news = server.sync(&bob, Some(&since)).await;
    assert_eq!(texts(&news, &room), ["hello", "are you there?"]);

    let server = server.restart().await;
    let again = server.sync(&bob, Some(&since)).await;
    assert_eq!(texts(&again, &room), ["hello", "are you there?"]);
    let since = again["next_batch"].as_str().unwrap().to_owned();
    server.say(&bob, &room, "yes").await;
    let news = server.sync(&alice, Some(&since)).await;
    assert_eq!(texts(&news, &room), ["yes"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_transaction_is_the_same_event_also_after_a_restart() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    let path = format!(
        "/_matrix/client/v3/rooms/{}/send/m.room.message/t",
        room.replace('!', "%21").replace(':', "%3A")
    );
    let body = json!({ "msgtype": "m.text", "body": "once" });
    let token = Some(alice.token.as_str());
    let first = server
        .ok(Method::PUT, &path, token, Some(body.clone()))
        .await;
    assert_eq!(
        server
            .ok(Method::PUT, &path, token, Some(body.clone()))
            .await,
        first
    );
    let server = server.restart().await;
    assert_eq!(
        server.ok(Method::PUT, &path, token, Some(body)).await,
        first
    );
    let sync = server.sync(&alice, None).await;
    assert_eq!(texts(&sync, &room), ["once"]);
}

/// A transaction belongs to the device, whatever token it comes with, and to the whole path.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_of_the_device_and_the_path() {
    let server = TestServer::start();
    let first = server.person("alice").await;
    let rooms = [
        server.room(&first, json!({})).await,
        server.room(&first, json!({})).await,
    ];
    let log_in = async |device: Option<&str>| {
        let body = json!({ "type": "m.login.password", "refresh_token": true,
            "identifier": { "type": "m.id.user", "user": "alice" },
            "password": "correct horse", "device_id": device });
        let path = "/_matrix/client/v3/login";
        server.ok(Method::POST, path, None, Some(body)).await
    };
    let send = async |token: &Value, room: &str, kind: &str| {
        let room = room.replace('!', "%21").replace(':', "%3A");
        let path = format!("/_matrix/client/v3/rooms/{room}/send/{kind}/t");
        let body = json!({ "msgtype": "m.text", "body": "once" });
        let answer = server.ok(Method::PUT, &path, token.as_str(), Some(body));
        answer.await["event_id"].as_str().unwrap().to_owned()
    };
    let knows = async |token: &Value, room: &str, id: &str| {
        let (room, id) = (
            room.replace('!', "%21").replace(':', "%3A"),
            id.replace('$', "%24"),
        );
        let path = format!("/_matrix/client/v3/rooms/{room}/event/{id}");
        let event = server.ok(Method::GET, &path, token.as_str(), None).await;
        event["unsigned"]["transaction_id"] == "t"
    };
    let login = log_in(Some("PHONE")).await;
    let token = &login["access_token"];
    let id = send(token, &rooms[0], "m.room.message").await;
    assert_eq!(send(token, &rooms[0], "m.room.message").await, id);
    // Another room and another type are other paths.
    let elsewhere = send(token, &rooms[1], "m.room.message").await;
    let sticker = send(token, &rooms[0], "m.sticker").await;
    assert!(id != elsewhere && id != sticker && elsewhere != sticker);
    // The token may be a new one of the same device.
    let refresh = json!({ "refresh_token": login["refresh_token"] });
    let path = "/_matrix/client/v3/refresh";
    let fresh = server.ok(Method::POST, path, None, Some(refresh)).await;
    assert_eq!(
        send(&fresh["access_token"], &rooms[0], "m.room.message").await,
        id
    );
    assert!(knows(&fresh["access_token"], &rooms[0], &id).await);
    let again = log_in(Some("PHONE")).await;
    assert!(knows(&again["access_token"], &rooms[0], &id).await);
    assert_eq!(
        send(&again["access_token"], &rooms[0], "m.room.message").await,
        id
    );
    let other = log_in(None).await;
    assert!(!knows(&other["access_token"], &rooms[0], &id).await);
    assert_ne!(
        send(&other["access_token"], &rooms[0], "m.room.message").await,
        id
    );
}

/// A poll that waits is answered at once when there is something to tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_sync_wakes() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    let since = server.sync(&alice, None).await["next_batch"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/_matrix/client/v3/sync?timeout=30000&since={since}");
    let waiting = server.ok(Method::GET, &path, Some(&alice.token), None);
    let saying = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        server.say(&alice, &room, "now").await;
        std::time::Instant::now()
    };
    let (news, said) = tokio::join!(waiting, saying);
    assert_eq!(texts(&news, &room), ["now"]);
    assert!(said.elapsed() < std::time::Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_sync_does_not_hold_the_end() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let since = server.sync(&alice, None).await["next_batch"]
        .as_str()
        .unwrap()
        .to_owned();
    let router = server.router();
    let path = format!("/_matrix/client/v3/sync?timeout=30000&since={since}");
    let request = http::Request::get(path)
        .header("authorization", format!("Bearer {}", alice.token))
        .body(String::new())
        .unwrap();
    let waiting = tokio::spawn(tower::ServiceExt::oneshot(router, request));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let begun = std::time::Instant::now();
    let server = server.restart().await;
    let answer = waiting.await.unwrap().unwrap();
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        [200, 503].contains(&answer.status().as_u16()),
        "{}",
        answer.status()
    );
    server.sync(&alice, Some(&since)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_find_the_way() {
    let server = TestServer::start();
    let known = server
        .ok(Method::GET, "/.well-known/matrix/client", None, None)
        .await;
    assert_eq!(known["m.homeserver"]["base_url"], "https://test.example");
    let versions = server
        .ok(Method::GET, "/_matrix/client/versions", None, None)
        .await;
    assert!(
        versions["versions"]
            .as_array()
            .unwrap()
            .contains(&json!("v1.1"))
    );
}
