//! Finding people.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

fn escape(text: &str) -> String {
    text.replace('!', "%21")
        .replace('@', "%40")
        .replace(':', "%3A")
}

async fn rename(server: &TestServer, who: &Person, name: &str) {
    let user = escape(&who.user_id);
    let path = format!("/_matrix/client/v3/profile/{user}/displayname");
    let body = json!({ "displayname": name });
    server
        .ok(Method::PUT, &path, Some(&who.token), Some(body))
        .await;
}

async fn search(server: &TestServer, who: &Person, body: Value) -> Value {
    let path = "/_matrix/client/v3/user_directory/search";
    server
        .ok(Method::POST, path, Some(&who.token), Some(body))
        .await
}

async fn found(server: &TestServer, who: &Person, term: &str) -> Vec<String> {
    let answer = search(server, who, json!({ "search_term": term })).await;
    let results = answer["results"].as_array().unwrap().iter();
    results
        .map(|user| {
            let id = user["user_id"].as_str().unwrap();
            id.trim_start_matches('@')
                .split(':')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_found_as_they_are_typed() {
    let server = TestServer::start();
    let asker = server.person("asker").await;
    let lobby = server
        .room(&asker, json!({ "preset": "public_chat" }))
        .await;
    for (name, shown) in [
        ("joerg", "Jörg Müller"),
        ("mueller", "Anna"),
        ("tanaka", "田中太郎"),
        ("jo", "Someone else"),
        ("strasse", "Straße"),
    ] {
        let person = server.person(name).await;
        rename(&server, &person, shown).await;
        server.join(&person, &lobby).await;
    }
    for (term, who) in [
        ("jorg", vec!["joerg"]),
        ("JÖRG mull", vec!["joerg"]),
        ("muller jorg", vec!["joerg"]),
        ("jo", vec!["jo", "joerg"]),
        ("@jo", vec!["jo", "joerg"]),
        ("@joerg:test.example", vec!["joerg"]),
        ("@joerg:test", vec!["joerg"]),
        ("mue", vec!["mueller"]),
        ("田中", vec!["tanaka"]),
        ("太郎", vec!["tanaka"]),
        ("STRASSE", vec!["strasse"]),
        ("jorg anna", vec![]),
        ("org", vec![]),
        ("", vec![]),
        ("%", vec![]),
    ] {
        assert_eq!(found(&server, &asker, term).await, who, "{term}");
    }
    let answer = search(&server, &asker, json!({ "search_term": "jorg" })).await;
    let expected = json!({ "limited": false, "results": [
        { "user_id": "@joerg:test.example", "display_name": "Jörg Müller" }] });
    assert_eq!(answer, expected);
    let one = search(&server, &asker, json!({ "search_term": "jo", "limit": 1 })).await;
    assert_eq!(
        (&one["limited"], one["results"].as_array().unwrap().len()),
        (&json!(true), 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_whom_one_may_know_of() {
    let server = TestServer::start();
    let asker = server.person("asker").await;
    let other = server.person("other").await;
    rename(&server, &other, "Findme").await;
    let hidden = server
        .room(&other, json!({ "preset": "private_chat" }))
        .await;
    let finds = async |yes: bool, why: &str| {
        let found = found(&server, &asker, "findme").await;
        assert_eq!(found.len(), usize::from(yes), "{why}");
    };
    finds(false, "shares no room").await;
    server.invite(&other, &hidden, &asker).await;
    finds(false, "invited only").await;
    server.join(&asker, &hidden).await;
    finds(true, "shares a private room").await;
    let path = format!("/_matrix/client/v3/rooms/{}/leave", escape(&hidden));
    server
        .ok(Method::POST, &path, Some(&asker.token), Some(json!({})))
        .await;
    finds(false, "shares it no more").await;
    for (kind, open, closed) in [
        (
            "m.room.join_rules",
            json!({ "join_rule": "public" }),
            json!({ "join_rule": "invite" }),
        ),
        (
            "m.room.history_visibility",
            json!({ "history_visibility": "world_readable" }),
            json!({ "history_visibility": "shared" }),
        ),
    ] {
        let path = format!("/_matrix/client/v3/rooms/{}/state/{kind}/", escape(&hidden));
        let token = Some(other.token.as_str());
        server.ok(Method::PUT, &path, token, Some(open)).await;
        finds(true, kind).await;
        server.ok(Method::PUT, &path, token, Some(closed)).await;
        finds(false, kind).await;
    }
    assert_eq!(
        found(&server, &other, "findme").await,
        Vec::<String>::new(),
        "oneself in private"
    );

    let lobby = server
        .room(&other, json!({ "preset": "public_chat" }))
        .await;
    finds(true, "in a public room").await;
    assert_eq!(
        found(&server, &other, "findme").await,
        ["other"],
        "oneself in public"
    );
    rename(&server, &other, "Newname").await;
    finds(false, "another name").await;
    assert_eq!(found(&server, &asker, "newname").await, ["other"]);

    let server = server.restart().await;
    assert_eq!(
        found(&server, &asker, "newname").await,
        ["other"],
        "after a restart"
    );
    let path = "/_synapse/admin/v1/deactivate/%40other%3Atest.example";
    assert_eq!(
        server.admin(Method::POST, path, Some(json!({}))).await.0,
        200
    );
    server.join(&asker, &lobby).await;
    assert_eq!(
        found(&server, &asker, "newname").await,
        Vec::<String>::new(),
        "deactivated"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_are_not_found() {
    let server = TestServer::start();
    let asker = server.person("asker").await;
    let room = json!({ "preset": "public_chat", "initial_state": [
        { "type": "m.room.guest_access", "content": { "guest_access": "can_join" } }] });
    let lobby = server.room(&asker, room).await;
    let path = "/_matrix/client/v3/register?kind=guest";
    let guest = server.ok(Method::POST, path, None, Some(json!({}))).await;
    let token = guest["access_token"].as_str();
    let join = format!("/_matrix/client/v3/rooms/{}/join", escape(&lobby));
    server.ok(Method::POST, &join, token, Some(json!({}))).await;
    let id = guest["user_id"].as_str().unwrap();
    assert_eq!(found(&server, &asker, id).await, Vec::<String>::new());
}
