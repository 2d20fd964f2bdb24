//! Rendezvous for signing in by QR code, in both forms (MSC4108, MSC4388).

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use skerry_testkit::TestServer;
use tower::ServiceExt;

const TEXT: &str = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";
const JSON: &str = "/_matrix/client/unstable/io.element.msc4388/rendezvous";

async fn ask(
    server: &TestServer,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response<Bytes> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    let (parts, body) = server.router().oneshot(request).await.unwrap().into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

fn etag(response: &Response<Bytes>) -> String {
    response.headers()["etag"].to_str().unwrap().to_owned()
}

fn body(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

const PLAIN: (&str, &str) = ("content-type", "text/plain");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_text_with_entity_tags() {
    let server = TestServer::start();
    let made = ask(&server, Method::POST, TEXT, &[PLAIN], "hello").await;
    assert_eq!(made.status(), 201);
    let (first, url) = (etag(&made), body(&made)["url"].as_str().unwrap().to_owned());
    let path = &url[url.find("/_matrix").unwrap()..];
    for name in ["expires", "last-modified", "pragma"] {
        assert!(made.headers().contains_key(name), "{name}");
    }
    let exposed = made.headers()["access-control-expose-headers"]
        .to_str()
        .unwrap();
    assert!(exposed.contains("ETag"), "{exposed}");
    let allowed = made.headers()["access-control-allow-headers"]
        .to_str()
        .unwrap();
    assert!(allowed.contains("If-Match") && allowed.contains("If-None-Match"));
    let got = ask(&server, Method::GET, path, &[], "").await;
    assert_eq!((got.status().as_u16(), etag(&got)), (200, first.clone()));
    assert_eq!(got.body().as_ref(), b"hello");
    assert_eq!(got.headers()["content-type"], "text/plain");
    assert_eq!(got.headers()["x-content-type-options"], "nosniff");
    let same = ask(&server, Method::GET, path, &[("if-none-match", &first)], "").await;
    assert_eq!(same.status(), 304);
    let put = async |tag: &str, text: &str| {
        ask(
            &server,
            Method::PUT,
            path,
            &[PLAIN, ("if-match", tag)],
            text,
        )
        .await
    };
    let second = put(&first, "world").await;
    assert_eq!(second.status(), 202);
    assert_ne!(etag(&second), first);
    let stale = put(&first, "too late").await;
    assert_eq!(
        (stale.status().as_u16(), etag(&stale)),
        (412, etag(&second))
    );
    assert_eq!(
        body(&stale)["org.matrix.msc4108.errcode"],
        "M_CONCURRENT_WRITE"
    );
    let got = ask(&server, Method::GET, path, &[("if-none-match", &first)], "").await;
    assert_eq!(got.body().as_ref(), b"world");
    for (headers, text, status) in [
        (vec![PLAIN], "x".to_owned(), 400),
        (vec![("if-match", "x")], "x".to_owned(), 400),
        (vec![PLAIN, ("if-match", &*first)], "x".repeat(5_000), 413),
    ] {
        let refused = ask(&server, Method::PUT, path, &headers, &text).await;
        assert_eq!(refused.status(), status);
    }
    let json = [("content-type", "application/json")];
    assert_eq!(
        ask(&server, Method::POST, TEXT, &json, "{}").await.status(),
        400
    );
    let gone = ask(&server, Method::DELETE, path, &[], "").await;
    assert_eq!(gone.status(), 204);
    assert_eq!(ask(&server, Method::GET, path, &[], "").await.status(), 404);
    assert_eq!(
        ask(&server, Method::DELETE, path, &[], "").await.status(),
        404
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_with_sequence_tokens() {
    let server = TestServer::start();
    let found = ask(&server, Method::GET, JSON, &[], "").await;
    assert_eq!(body(&found), json!({ "create_available": true }));
    let made = ask(&server, Method::POST, JSON, &[], r#"{"data":"one"}"#).await;
    let made = body(&made);
    let path = format!("{JSON}/{}", made["id"].as_str().unwrap());
    assert!(made["expires_in_ms"].as_u64().unwrap() > 60_000);
    let got = body(&ask(&server, Method::GET, &path, &[], "").await);
    assert_eq!(got["data"], "one");
    assert_eq!(got["sequence_token"], made["sequence_token"]);
    let put = async |token: &Value, data: &str| {
        let text = json!({ "sequence_token": token, "data": data }).to_string();
        let answer = ask(&server, Method::PUT, &path, &[], &text).await;
        (answer.status().as_u16(), body(&answer))
    };
    let (status, next) = put(&made["sequence_token"], "two").await;
    assert_eq!(status, 200);
    // Repeated, as after a lost answer, it is no conflict.
    assert_eq!(
        put(&made["sequence_token"], "two").await,
        (200, next.clone())
    );
    let (status, answer) = put(&made["sequence_token"], "three").await;
    assert_eq!(status, 409);
    assert_eq!(answer["errcode"], "IO_ELEMENT_MSC4388_CONCURRENT_WRITE");
    assert_eq!(
        put(&next["sequence_token"], &"x".repeat(5_000)).await.0,
        413
    );
    for (name, value) in [
        ("sec-fetch-dest", "document"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-user", "?1"),
        ("sec-fetch-site", "none"),
    ] {
        let shown = ask(&server, Method::GET, &path, &[(name, value)], "").await;
        assert_eq!(shown.status(), 403, "{name}");
    }
    // The other form does not know it.
    let other = path.replace("io.element.msc4388", "org.matrix.msc4108");
    assert_eq!(
        ask(&server, Method::GET, &other, &[], "").await.status(),
        404
    );
    assert_eq!(
        ask(&server, Method::DELETE, &path, &[], "").await.status(),
        200
    );
    assert_eq!(
        ask(&server, Method::GET, &path, &[], "").await.status(),
        404
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_end_and_are_few() {
    let server = TestServer::start();
    let create = async || ask(&server, Method::POST, TEXT, &[PLAIN], "x").await;
    let first = create().await;
    let url = body(&first)["url"].as_str().unwrap().to_owned();
    let path = &url[url.find("/_matrix").unwrap()..];
    for _ in 1..20 {
        assert_eq!(create().await.status(), 201);
    }
    assert_eq!(create().await.status(), 429);
    server.clock.advance(400_000);
    assert_eq!(ask(&server, Method::GET, path, &[], "").await.status(), 404);
    assert_eq!(create().await.status(), 201);
}
