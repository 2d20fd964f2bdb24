//! What a browser finds: the welcome page, a web client's build, its configuration, and what the
//! `.well-known` paths say.

use std::fs;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use skerry_testkit::TestServer;
use tower::ServiceExt as _;

async fn get(server: &TestServer, path: &str, known: Option<&str>) -> (u16, HeaderMap, Vec<u8>) {
    let mut request = Request::get(path).header("host", "test.example");
    if let Some(known) = known {
        request = request.header("if-none-match", known);
    }
    let request = request.body(Full::new(Bytes::new())).unwrap();
    let response = server.router().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    (parts.status.as_u16(), parts.headers, body)
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers
        .get(name)
        .map(|value| value.to_str().unwrap().to_owned())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_client_there_is_a_welcome_page() {
    let server = TestServer::start();
    let (status, headers, body) = get(&server, "/", None).await;
    assert_eq!(status, 200);
    let page = String::from_utf8(body).unwrap();
    assert!(page.contains("@name:test.example"), "{page}");
    assert!(text(&headers, "content-security-policy").contains("default-src 'none'"));
    assert_eq!(text(&headers, "x-content-type-options"), "nosniff");
    assert_eq!(text(&headers, "x-frame-options"), "SAMEORIGIN");
    assert_eq!(text(&headers, "access-control-allow-origin"), "");
    let (status, _, _) = get(&server, "/nothing/here", None).await;
    assert_eq!(status, 404);

    // The paths of APIs stay theirs.
    for path in [
        "/_matrix/client/v3/nothing",
        "/_matrix/nothing",
        "/.well-known/nothing",
    ] {
        let (status, headers, body) = get(&server, path, None).await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (status, &answer["errcode"]),
            (404, &json!("M_UNRECOGNIZED")),
            "{path}"
        );
        assert_eq!(text(&headers, "access-control-allow-origin"), "*", "{path}");
    }
    let (status, answer) = server.req(Method::POST, "/", None, Some(json!({}))).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (405, &json!("M_UNRECOGNIZED"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_served_with_a_configuration_of_this_server() {
    let dir = tempfile::tempdir().unwrap();
    let build = dir.path().join("build");
    fs::create_dir_all(build.join("bundles/0a1b2c3d4e5f")).unwrap();
    fs::write(build.join("index.html"), "<!doctype html>client").unwrap();
    fs::write(build.join("bundles/0a1b2c3d4e5f/app.js"), "1").unwrap();
    let server = TestServer::start_with(&format!("[web]\ndir = \"{}\"\n", build.display()));

    let (status, headers, body) = get(&server, "/", None).await;
    assert_eq!((status, &body[..]), (200, &b"<!doctype html>client"[..]));
    assert_eq!(
        text(&headers, "content-security-policy"),
        "frame-ancestors 'self'"
    );
    assert_eq!(text(&headers, "cache-control"), "no-cache");
    let etag = text(&headers, "etag");
    let (status, _, body) = get(&server, "/index.html", Some(&etag)).await;
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED.as_u16(), 0));

    let (_, headers, _) = get(&server, "/bundles/0a1b2c3d4e5f/app.js", None).await;
    assert_eq!(
        text(&headers, "content-type"),
        "text/javascript; charset=utf-8"
    );
    assert!(text(&headers, "cache-control").contains("immutable"));

    for path in ["/config.json", "/config.test.example.json"] {
        let (status, headers, body) = get(&server, path, None).await;
        let config: Value = serde_json::from_slice(&body).unwrap();
        let server = &config["default_server_config"]["m.homeserver"];
        assert_eq!(
            (status, &server["server_name"]),
            (200, &json!("test.example"))
        );
        assert_eq!(text(&headers, "cache-control"), "no-store");
    }
    let (status, _, body) = get(&server, "/welcome.html", None).await;
    assert_eq!(status, 200);
    assert!(String::from_utf8(body).unwrap().contains("Open the chat"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn well_known_says_what_the_operator_says() {
    let server = TestServer::start();
    let (status, answer) = server
        .req(Method::GET, "/.well-known/matrix/support", None, None)
        .await;
    assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")));

    let server = TestServer::start_with(
        "[well_known]\nclient_extra = { \"org.example\" = { a = 1 } }\n\
         support = { contacts = [{ role = \"m.role.admin\", email_address = \"k@test.example\" }] }\n",
    );
    let (_, answer) = server
        .req(Method::GET, "/.well-known/matrix/client", None, None)
        .await;
    assert_eq!(answer["org.example"]["a"], 1);
    assert!(answer["m.homeserver"]["base_url"].is_string(), "{answer}");
    let (_, answer) = server
        .req(Method::GET, "/.well-known/matrix/support", None, None)
        .await;
    assert_eq!(answer["contacts"][0]["role"], "m.role.admin");
    let (_, _, page) = get(&server, "/", None).await;
    assert!(
        String::from_utf8(page)
            .unwrap()
            .contains("mailto:k@test.example")
    );
}
