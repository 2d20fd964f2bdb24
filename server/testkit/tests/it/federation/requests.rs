//! Who asks, and what is answered without any room.

use http::Method;
use serde_json::{Value, json};
use skerry_remote::federation::Limits;
use skerry_remote::http::Response;
use skerry_testkit::{Network, TestServer};

/// What one server asks of another, signed.
async fn ask(from: &TestServer, to: &str, path: &str) -> (u16, Value) {
    let peers = from.house.outgoing.federation.peers();
    let limits = Limits::new(std::time::Duration::from_secs(10), 1 << 20);
    match peers.call(to, Method::GET, path, None, limits).await {
        Ok(answer) => (200, json_of(&answer)),
        Err(skerry_remote::federation::PeerError::Refused {
            status, errcode, ..
        }) => (status, json!(errcode)),
        Err(error) => panic!("{error}"),
    }
}

fn json_of(answer: &Response) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_signs_is_answered() {
    let network = Network::new(1);
    let one = network.server("one.example", "");
    let two = network.server("two.example", "");
    two.person("grace").await;
    let path = "/_matrix/federation/v1/query/profile?user_id=%40grace%3Atwo.example";
    let (status, profile) = ask(&one, "two.example", path).await;
    assert_eq!((status, &profile["displayname"]), (200, &json!("grace")));
    let field = format!("{path}&field=displayname");
    let (_, profile) = ask(&one, "two.example", &field).await;
    assert_eq!(profile, json!({ "displayname": "grace" }));
    let nobody = "/_matrix/federation/v1/query/profile?user_id=%40nobody%3Atwo.example";
    let refused = ask(&one, "two.example", nobody).await;
    assert_eq!(refused, (404, json!("M_NOT_FOUND")));
    let elsewhere = "/_matrix/federation/v1/query/profile?user_id=%40ada%3Aone.example";
    let refused = ask(&one, "two.example", elsewhere).await;
    assert_eq!(refused, (400, json!("M_INVALID_PARAM")));
    // Without a signature nobody is anybody.
    let (status, answer) = two.req(Method::GET, path, None, None).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (401, &json!("M_UNAUTHORIZED"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_kept_out_is_told_so() {
    let network = Network::new(1);
    let one = network.server("one.example", "");
    let _two = network.server("two.example", "[federation]\ndeny = [\"one.example\"]");
    let path = "/_matrix/federation/v1/query/profile?user_id=%40grace%3Atwo.example";
    let refused = ask(&one, "two.example", path).await;
    assert_eq!(refused, (403, json!("M_FORBIDDEN")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_published_and_vouched_for() {
    let network = Network::new(1);
    let one = network.server("one.example", "");
    let two = network.server("two.example", "");
    let own = one
        .ok(Method::GET, "/_matrix/key/v2/server", None, None)
        .await;
    assert_eq!(own["server_name"], "one.example");
    assert!(own["signatures"]["one.example"].is_object(), "{own}");
    let named = one
        .ok(
            Method::GET,
            "/_matrix/key/v2/server/ed25519%3Ax",
            None,
            None,
        )
        .await;
    assert_eq!(named["verify_keys"], own["verify_keys"]);
    // The other one tells the same keys, and signs that it does.
    let path = "/_matrix/key/v2/query/one.example";
    let asked = two.ok(Method::GET, path, None, None).await;
    let body = json!({ "server_keys": { "one.example": {}, "nowhere.example": {} } });
    let path = "/_matrix/key/v2/query";
    let several = two.ok(Method::POST, path, None, Some(body)).await;
    for told in [asked, several] {
        let keys = told["server_keys"].as_array().unwrap();
        assert_eq!(keys.len(), 1, "{told}");
        assert_eq!(keys[0]["verify_keys"], own["verify_keys"]);
        for server in ["one.example", "two.example"] {
            assert!(keys[0]["signatures"][server].is_object(), "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_is_told_which_program_it_is() {
    let server = TestServer::start();
    let path = "/_matrix/federation/v1/version";
    let answer = server.ok(Method::GET, path, None, None).await;
    assert_eq!(answer["server"]["name"], "Skerry");
    let closed = TestServer::start_with("[federation]\nenabled = false");
    let (status, answer) = closed.req(Method::GET, path, None, None).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (404, &json!("M_UNRECOGNIZED"))
    );
}
