//! OpenID tokens.

use http::Method;
use serde_json::json;
use skerry_testkit::TestServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_tells_who_one_is_for_an_hour_and_opens_nothing() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let bob = server.person("bob").await;
    let ask = |user: &str| format!("/_matrix/client/v3/user/{user}/openid/request_token");
    let made = server
        .ok(
            Method::POST,
            &ask(&alice.user_id),
            Some(&alice.token),
            Some(json!({})),
        )
        .await;
    assert_eq!(made["matrix_server_name"], "test.example");
    assert_eq!(made["token_type"], "Bearer");
    assert_eq!(made["expires_in"], 3_600);
    let token = made["access_token"].as_str().unwrap().to_owned();
    let foreign = server
        .req(
            Method::POST,
            &ask(&alice.user_id),
            Some(&bob.token),
            Some(json!({})),
        )
        .await;
    assert_eq!(foreign.0, 403);

    let userinfo =
        |token: &str| format!("/_matrix/federation/v1/openid/userinfo?access_token={token}");
    let told = server.ok(Method::GET, &userinfo(&token), None, None).await;
    assert_eq!(told, json!({ "sub": alice.user_id }));
    let whoami = "/_matrix/client/v3/account/whoami";
    assert_eq!(
        server.req(Method::GET, whoami, Some(&token), None).await.0,
        401
    );
    let mut forged = token.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    for wrong in [
        "an/invalid/token",
        "",
        &forged,
        alice.token.as_str(),
        "sko_AAAA",
    ] {
        let (status, answer) = server.req(Method::GET, &userinfo(wrong), None, None).await;
        assert_eq!(
            (status, &answer["errcode"]),
            (401, &json!("M_UNKNOWN_TOKEN")),
            "{wrong}"
        );
    }
    let bare = "/_matrix/federation/v1/openid/userinfo";
    let (status, answer) = server.req(Method::GET, bare, None, None).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (401, &json!("M_MISSING_TOKEN"))
    );

    let server = server.restart().await;
    server.ok(Method::GET, &userinfo(&token), None, None).await;
    server.clock.advance(3_700_000);
    assert_eq!(
        server
            .req(Method::GET, &userinfo(&token), None, None)
            .await
            .0,
        401
    );
}
