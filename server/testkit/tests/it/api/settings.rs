//! Account data, push rules and presence, as clients see them.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::TestServer;

use super::accounts::{ask, escape, get, refused};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn account_data_tags_and_filters() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = server.room(&alice, json!({})).await;
    let home = format!("v3/user/{}", escape(&alice.user_id));
    let in_room = format!("{home}/rooms/{}", escape(&room));
    let since = server.sync(&alice, None).await["next_batch"]
        .as_str()
        .unwrap()
        .to_owned();
    let put = async |path: String, body: Value| {
        let (status, _, answer) = ask(&server, Some(&alice), Method::PUT, &path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
    };
    put(format!("{home}/account_data/org.a"), json!({ "n": 1.5 })).await;
    put(format!("{in_room}/account_data/org.b"), json!({ "n": 2 })).await;
    put(format!("{in_room}/tags/u.work"), json!({ "order": 0.5 })).await;
    let read = get(&server, &alice, &format!("{home}/account_data/org.a")).await;
    assert_eq!(read, json!({ "n": 1.5 }));
    let tags = json!({ "tags": { "u.work": { "order": 0.5 } } });
    assert_eq!(get(&server, &alice, &format!("{in_room}/tags")).await, tags);
    let news = server.sync(&alice, Some(&since)).await;
    let global = json!([{ "type": "org.a", "content": { "n": 1.5 } }]);
    assert_eq!(news["account_data"]["events"], global);
    let here = news["rooms"]["join"][&room]["account_data"]["events"].to_string();
    assert!(here.contains("org.b") && here.contains("u.work"), "{here}");
    let filter = json!({ "room": { "timeline": { "limit": 7 } }, "org.custom": true });
    let (_, _, made) = ask(
        &server,
        Some(&alice),
        Method::POST,
        &format!("{home}/filter"),
        filter.clone(),
    )
    .await;
    let id = made["filter_id"].as_str().unwrap();
    assert_eq!(
        get(&server, &alice, &format!("{home}/filter/{id}")).await,
        filter
    );
    let bad = json!({ "room": { "timeline": { "limit": "many" } } });
    refused(
        &server,
        &alice,
        &[
            (
                Method::GET,
                &format!("{home}/account_data/org.c"),
                json!({}),
                404,
                "M_NOT_FOUND",
            ),
            (
                Method::PUT,
                &format!("{home}/account_data/m.push_rules"),
                json!({}),
                405,
                "M_BAD_JSON",
            ),
            (
                Method::PUT,
                &format!("{in_room}/account_data/m.fully_read"),
                json!({}),
                405,
                "M_BAD_JSON",
            ),
            (
                Method::PUT,
                &format!("{in_room}/tags/u.x"),
                json!({ "order": "x" }),
                400,
                "M_BAD_JSON",
            ),
            (
                Method::POST,
                &format!("{home}/filter"),
                bad,
                400,
                "M_BAD_JSON",
            ),
            (
                Method::GET,
                &format!("{home}/filter/999"),
                json!({}),
                404,
                "M_NOT_FOUND",
            ),
        ],
    )
    .await;
    for (method, path) in [
        (Method::GET, format!("{home}/account_data/org.a")),
        (Method::PUT, format!("{home}/account_data/org.a")),
        (Method::GET, format!("{in_room}/tags")),
        (Method::GET, format!("{home}/filter/{id}")),
    ] {
        refused(
            &server,
            &bob,
            &[(method, &path, json!({}), 403, "M_FORBIDDEN")],
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn push_rules_in_full() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let rule = "v3/pushrules/global/content/tea";
    let body = json!({ "pattern": "tea", "actions": ["notify"] });
    assert_eq!(
        ask(&server, Some(&alice), Method::PUT, rule, body).await.0,
        200
    );
    let made = json!({ "rule_id": "tea", "pattern": "tea", "actions": ["notify"],
        "enabled": true, "default": false });
    assert_eq!(get(&server, &alice, rule).await, made);
    let of_kind = get(&server, &alice, "v3/pushrules/global/content/").await;
    assert_eq!(of_kind[0], made);
    let global = get(&server, &alice, "v3/pushrules/global/").await;
    assert_eq!(
        get(&server, &alice, "v3/pushrules/").await["global"],
        global
    );
    let off = json!({ "enabled": false });
    let path = format!("{rule}/enabled");
    ask(&server, Some(&alice), Method::PUT, &path, off.clone()).await;
    assert_eq!(get(&server, &alice, &path).await, off);
    let silent = json!({ "actions": [] });
    let path = format!("{rule}/actions");
    ask(&server, Some(&alice), Method::PUT, &path, silent.clone()).await;
    assert_eq!(get(&server, &alice, &path).await, silent);
    let events = server.sync(&alice, None).await["account_data"]["events"].to_string();
    assert!(
        events.contains("m.push_rules") && events.contains(r#""tea""#),
        "{events}"
    );
    ask(&server, Some(&alice), Method::DELETE, rule, json!({})).await;
    let own = "v3/pushrules/global/override/.m.rule.master";
    refused(
        &server,
        &alice,
        &[
            (Method::GET, rule, json!({}), 404, "M_NOT_FOUND"),
            (Method::DELETE, rule, json!({}), 404, "M_NOT_FOUND"),
            (Method::DELETE, own, json!({}), 400, "M_INVALID_PARAM"),
            (
                Method::PUT,
                rule,
                json!({ "actions": ["notify"] }),
                400,
                "M_BAD_JSON",
            ),
            (
                Method::PUT,
                "v3/pushrules/global/odd/x",
                json!({ "actions": [] }),
                400,
                "M_INVALID_PARAM",
            ),
            (
                Method::PUT,
                &format!("{own}/enabled"),
                json!({}),
                400,
                "M_MISSING_PARAM",
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_is_for_those_who_share_a_room() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let path = format!("v3/presence/{}/status", escape(&alice.user_id));
    let body = json!({ "presence": "unavailable", "status_msg": "at tea" });
    assert_eq!(
        ask(&server, Some(&alice), Method::PUT, &path, body).await.0,
        200
    );
    assert_eq!(get(&server, &alice, &path).await["status_msg"], "at tea");
    refused(
        &server,
        &bob,
        &[
            (Method::GET, &path, json!({}), 403, "M_FORBIDDEN"),
            (
                Method::PUT,
                &path,
                json!({ "presence": "online" }),
                403,
                "M_FORBIDDEN",
            ),
        ],
    )
    .await;
    let room = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    server.join(&bob, &room).await;
    assert_eq!(get(&server, &bob, &path).await["presence"], "unavailable");
    let odd = json!({ "presence": "odd" });
    refused(
        &server,
        &alice,
        &[(Method::PUT, &path, odd, 400, "M_INVALID_PARAM")],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn account_data_is_deleted_and_every_device_is_told() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    let user = escape(&alice.user_id);
    let stable = format!("v3/user/{user}");
    let unstable = format!("unstable/org.matrix.msc3391/user/{user}");
    for place in [
        "account_data".to_owned(),
        format!("rooms/{room}/account_data"),
    ] {
        let of = |answer: &Value| {
            let events = match place.starts_with("rooms") {
                true => &answer["rooms"]["join"][&room]["account_data"]["events"],
                false => &answer["account_data"]["events"],
            };
            let events = events.as_array().cloned().unwrap_or_default();
            let found = events.iter().find(|event| event["type"] == "org.example.a");
            found.map(|event| event["content"].clone())
        };
        let path = format!("{stable}/{place}/org.example.a");
        let at = |answer: &Value| answer["next_batch"].as_str().unwrap().to_owned();
        for how in ["DELETE", "PUT"] {
            ask(&server, Some(&alice), Method::PUT, &path, json!({ "a": 1 })).await;
            let before = server.sync(&alice, None).await;
            assert_eq!(of(&before), Some(json!({ "a": 1 })));
            let deleted = match how {
                "PUT" => ask(&server, Some(&alice), Method::PUT, &path, json!({})).await,
                _ => {
                    let path = format!("{unstable}/{place}/org.example.a");
                    ask(&server, Some(&alice), Method::DELETE, &path, json!({})).await
                }
            };
            assert_eq!(deleted.0, 200, "{how}");
            let gone = ask(&server, Some(&alice), Method::GET, &path, json!({})).await;
            assert_eq!((gone.0, gone.1.as_str()), (404, "M_NOT_FOUND"), "{how}");
            let after = server.sync(&alice, Some(&at(&before))).await;
            assert_eq!(of(&after), Some(json!({})), "{how}");
            assert_eq!(of(&server.sync(&alice, None).await), None, "{how}");
            // Deleted already: nothing to tell.
            ask(&server, Some(&alice), Method::PUT, &path, json!({})).await;
            assert_eq!(of(&server.sync(&alice, Some(&at(&after))).await), None);
        }
    }
    for kind in ["m.push_rules", "m.fully_read"] {
        for (method, base) in [(Method::DELETE, &unstable), (Method::PUT, &stable)] {
            let path = format!("{base}/rooms/{room}/account_data/{kind}");
            let got = ask(&server, Some(&alice), method, &path, json!({})).await;
            assert_eq!((got.0, got.1.as_str()), (405, "M_BAD_JSON"), "{kind}");
        }
    }
}
