//! What the command line does, over the admin API.

use http::Method;
use serde_json::json;
use skerry_testkit::TestServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_made_listed_changed_and_closed() {
    let server = TestServer::start();
    let made = json!({ "name": "first", "password": "correct horse" });
    let (status, answer) = server
        .admin(Method::POST, "/_skerry/admin/v1/users", Some(made.clone()))
        .await;
    assert_eq!(
        (status, &answer["user_id"]),
        (201, &json!("@first:test.example"))
    );
    let (status, answer) = server
        .admin(Method::POST, "/_skerry/admin/v1/users", Some(made))
        .await;
    assert_eq!((status, &answer["errcode"]), (400, &json!("M_USER_IN_USE")));
    server.person("second").await;

    let (_, list) = server
        .admin(Method::GET, "/_synapse/admin/v2/users", None)
        .await;
    let shown: Vec<_> = list["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| {
            (
                user["name"].as_str().unwrap(),
                user["admin"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("@first:test.example", true),
            ("@second:test.example", false)
        ]
    );
    let (_, page) = server
        .admin(Method::GET, "/_synapse/admin/v2/users?limit=1", None)
        .await;
    let next = page["next_token"].as_str().unwrap();
    let path = format!("/_synapse/admin/v2/users?limit=1&from={next}");
    let (_, page) = server.admin(Method::GET, &path, None).await;
    assert_eq!(page["users"][0]["name"], "@second:test.example");

    let path = "/_synapse/admin/v1/users/second/admin";
    assert_eq!(
        server
            .admin(Method::PUT, path, Some(json!({ "admin": true })))
            .await
            .0,
        200
    );
    let second = server.log_in("second").await;
    let path = "/_synapse/admin/v1/reset_password/%40second%3Atest.example";
    let body = json!({ "new_password": "battery staple" });
    assert_eq!(server.admin(Method::POST, path, Some(body)).await.0, 200);
    let whoami = "/_matrix/client/v3/account/whoami";
    assert_eq!(
        server
            .req(Method::GET, whoami, Some(&second.token), None)
            .await
            .0,
        401
    );
    let path = "/_synapse/admin/v1/deactivate/second";
    assert_eq!(
        server.admin(Method::POST, path, Some(json!({}))).await.0,
        200
    );
    let path = "/_synapse/admin/v1/deactivate/nobody";
    assert_eq!(
        server.admin(Method::POST, path, Some(json!({}))).await.0,
        404
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registration_tokens() {
    let server = TestServer::start();
    let new = "/_synapse/admin/v1/registration_tokens/new";
    let body = json!({ "token": "friends", "uses_allowed": 2 });
    let (status, made) = server.admin(Method::POST, new, Some(body)).await;
    assert_eq!((status, &made["token"]), (200, &json!("friends")));
    let (_, random) = server.admin(Method::POST, new, Some(json!({}))).await;
    assert!(random["token"].as_str().unwrap().len() >= 16);
    let list = "/_synapse/admin/v1/registration_tokens";
    let (_, all) = server.admin(Method::GET, list, None).await;
    assert_eq!(all["registration_tokens"].as_array().unwrap().len(), 2);
    let path = format!("{list}/friends");
    assert_eq!(server.admin(Method::DELETE, &path, None).await.0, 200);
    assert_eq!(server.admin(Method::DELETE, &path, None).await.0, 404);
}

/// The admin API is on its socket alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_router_has_no_admin_api() {
    let server = TestServer::start();
    for path in ["/_synapse/admin/v2/users", "/_skerry/admin/v1/users"] {
        assert_eq!(
            server.req(Method::GET, path, None, None).await.0,
            404,
            "{path}"
        );
    }
    assert_eq!(server.req(Method::GET, "/health", None, None).await.0, 200);
}
