//! Media between servers: fetched once, made smaller, not yet there, too large, blocked.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Network, Person, TestServer};

const MEDIA: &str = "/_matrix/client/v1/media";

async fn upload(server: &TestServer, who: &Person, bytes: &[u8]) -> String {
    let body = Bytes::copy_from_slice(bytes);
    let path = "/_matrix/media/v3/upload?filename=a%20file.txt";
    let answer = server.raw(Method::POST, path, Some(&who.token), body).await;
    let answer: Value = serde_json::from_slice(answer.body()).unwrap();
    let uri = answer["content_uri"].as_str().unwrap();
    uri.strip_prefix("mxc://").unwrap().to_owned()
}

async fn get(server: &TestServer, who: &Person, path: &str) -> http::Response<Bytes> {
    let token = Some(who.token.as_str());
    server.raw(Method::GET, path, token, Bytes::new()).await
}

fn errcode(answer: &http::Response<Bytes>) -> String {
    let body: Value = serde_json::from_slice(answer.body()).unwrap();
    body["errcode"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_another_server_is_fetched_once_and_can_go_again() {
    let net = Network::new(1);
    let (one, two) = (
        net.server("one.example", ""),
        net.server("two.example", "[media]\nmax_remote = \"1000\""),
    );
    let (ada, bob) = (one.person("ada").await, two.person("bob").await);
    let file: Vec<u8> = (0..900_u32).map(|n| (n % 251) as u8).collect();
    let media = upload(&one, &ada, &file).await;
    let path = format!("{MEDIA}/download/{media}");
    let asked = net.count("two.example", "one.example");
    for _ in 0..2 {
        let answer = get(&two, &bob, &path).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.body()[..], file[..]);
        let disposition = answer.headers()["content-disposition"].to_str().unwrap();
        assert!(disposition.contains("a file.txt"), "{disposition}");
    }
    let fetches = net.count("two.example", "one.example") - asked;
    assert!((1..=2).contains(&fetches), "{fetches}");

    // It is a copy: it goes at once, and is fetched again when somebody asks.
    let plans = "/_skerry/admin/v1/media/prune/plans";
    let (_, plan) = two
        .admin(Method::POST, plans, Some(json!({ "remote": true })))
        .await;
    assert_eq!(plan["changes"], 1, "{plan}");
    let body = json!({ "plan": plan["plan"] });
    let runs = "/_skerry/admin/v1/media/prune/runs";
    let (_, run) = two.admin(Method::POST, runs, Some(body)).await;
    let run = format!("{runs}/{}", run["run"]);
    loop {
        let (_, state) = two.admin(Method::GET, &run, None).await;
        if state["outcome"] == "done" {
            assert_eq!(state["progress"]["removed"], 1);
            break;
        }
        assert_eq!(state["outcome"], "running");
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&two, &bob, &path).await.body()[..], file[..]);

    // Too large, unknown, of a server that is not there.
    let large = upload(&one, &ada, &[1; 1001]).await;
    let answer = get(&two, &bob, &format!("{MEDIA}/download/{large}")).await;
    assert_eq!(
        (answer.status().as_u16(), &*errcode(&answer)),
        (502, "M_TOO_LARGE")
    );
    let answer = get(&two, &bob, &format!("{MEDIA}/download/one.example/nothing")).await;
    assert_eq!(
        (answer.status().as_u16(), &*errcode(&answer)),
        (404, "M_NOT_FOUND")
    );
    let answer = get(&two, &bob, &format!("{MEDIA}/download/none.example/x")).await;
    assert!(answer.status().as_u16() >= 500, "{}", answer.status());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_uploaded_yet_is_waited_for_across_servers() {
    let net = Network::new(2);
    let (one, two) = (net.server("one.example", ""), net.server("two.example", ""));
    let (ada, bob) = (one.person("ada").await, two.person("bob").await);
    let token = Some(ada.token.as_str());
    let made = one
        .ok(Method::POST, "/_matrix/media/v1/create", token, None)
        .await;
    let uri = made["content_uri"].as_str().unwrap().to_owned();
    let media = uri.strip_prefix("mxc://").unwrap();
    let path = format!("{MEDIA}/download/{media}?timeout_ms=0");
    let answer = get(&two, &bob, &path).await;
    assert_eq!(
        (answer.status().as_u16(), &*errcode(&answer)),
        (504, "M_NOT_YET_UPLOADED")
    );
    let put = format!("/_matrix/media/v3/upload/{media}");
    let filled = one
        .raw(Method::PUT, &put, token, Bytes::from_static(b"late"))
        .await;
    assert_eq!(filled.status(), 200);
    assert_eq!(get(&two, &bob, &path).await.body()[..], *b"late");
}
