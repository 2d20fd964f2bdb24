//! The way of a request, end to end, with a made-up endpoint or two.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use futures_util::StreamExt;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use skerry_core::{Clock, UserNid};
use skerry_http::{
    Answer, ApiError, Authenticator, BoxFuture, Call, Credentials, Options, RateLimits, Requester,
    Route, Shell, SignedRequest, route,
};
use tower::ServiceExt;

struct Noon;

impl Clock for Noon {
    fn now_ms(&self) -> u64 {
        43_200_000
    }
}

struct Guards;

impl Authenticator for Guards {
    fn authenticate<'a>(
        &'a self,
        credentials: Credentials<'a>,
    ) -> BoxFuture<'a, Result<Requester, ApiError>> {
        let bridge = credentials.token == "bridge";
        let answer = match credentials.token {
            "good" | "bridge" => Ok(Requester {
                user_id: credentials.acts_as.unwrap_or("@a:b").into(),
                user: UserNid(1),
                device: "D".into(),
                token_hash: [0; 32],
                is_guest: false,
                locked: false,
                suspended: false,
                admin: false,
                appservice: bridge.then(|| "bridge".into()),
                unlimited: bridge,
            }),
            "old" => Err(ApiError::unknown_token("old").soft_logout()),
            _ => Err(ApiError::unknown_token("unknown")),
        };
        Box::pin(async move { answer })
    }

    fn authenticate_server<'a>(
        &'a self,
        request: SignedRequest<'a>,
    ) -> BoxFuture<'a, Result<Arc<str>, ApiError>> {
        let signed = format!(
            "X-Matrix {} {} {}",
            request.method,
            request.uri,
            String::from_utf8_lossy(request.body)
        );
        let good = request.proofs.iter().any(|proof| *proof == signed);
        let refused = || ApiError::unauthorized("The signature is not good");
        let answer = good.then(|| Arc::from("there.example")).ok_or_else(refused);
        Box::pin(async move { answer })
    }
}

#[derive(Deserialize)]
struct Wanted {
    number: u64,
}

async fn echo(_: Arc<()>, call: Call) -> Result<Answer, ApiError> {
    let user = call.requester_opt().map(|r| r.user_id.to_string());
    Answer::json(&json!({ "name": call.param("name"), "q": call.query("q"), "user": user }))
}

async fn number(_: Arc<()>, call: Call) -> Result<Answer, ApiError> {
    let wanted: Wanted = call.json()?;
    Answer::json(&json!({ "number": wanted.number }))
}

async fn count(_: Arc<()>, mut call: Call) -> Result<Answer, ApiError> {
    let mut stream = call.take_stream()?;
    let mut bytes = 0;
    while let Some(piece) = stream.next().await? {
        bytes += piece.len();
    }
    Answer::json(&json!({ "bytes": bytes, "announced": stream.length }))
}

async fn origin(_: Arc<()>, call: Call) -> Result<Answer, ApiError> {
    let origin: &str = call.origin()?;
    let body = String::from_utf8_lossy(&call.body);
    Answer::json(&json!({ "origin": origin, "body": body }))
}

async fn fall(_: Arc<()>, _: Call) -> Result<Answer, ApiError> {
    panic!("ouch");
}

const ROUTES: &[Route<()>] = &[
    route!(GET "/open/{name}", None, Free, echo),
    route!(GET "/closed/{name}", Token, Free, echo),
    route!(GET "/either/{name}", TokenOptional, Free, echo),
    route!(POST "/number", None, Free, number),
    route!(PUT "/number", Token, Free, number),
    route!(POST "/small", None, Free, number).max_body(20),
    route!(POST "/login", Bridge, Login, number),
    route!(GET "/bridge/{name}", Bridge, Free, echo),
    route!(POST "/count", None, Free, count).stream(),
    route!(GET "/fall", None, Free, fall),
    route!(PUT "/servers/{name}", Server, Login, origin),
];

fn router_with(options: Options) -> Router {
    Shell::builder(options, Arc::new(Guards), Arc::new(Noon))
        .routes(&Arc::new(()), ROUTES)
        .router()
}

async fn send(router: &Router, request: Request<Body>) -> (u16, Value, Response<()>) {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    (
        parts.status.as_u16(),
        value,
        Response::from_parts(parts, ()),
    )
}

async fn ask(method: Method, uri: &str, body: &str) -> (u16, Value, Response<()>) {
    let router = router_with(Options::default());
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .body(Body::from(body.to_owned()))
        .unwrap();
    send(&router, request).await
}

async fn ask_as(token: &str, uri: &str) -> (u16, Value) {
    let request = Request::builder()
        .uri(uri)
        .header("authorization", format!("Bearer {token}"))
        .body(Body::empty())
        .unwrap();
    let (status, body, _) = send(&router_with(Options::default()), request).await;
    (status, body)
}

#[tokio::test]
async fn unknown_paths_and_methods() {
    let (status, body, _) = ask(Method::GET, "/nowhere", "").await;
    assert_eq!((status, &body["errcode"]), (404, &json!("M_UNRECOGNIZED")));
    let (status, body, _) = ask(Method::DELETE, "/number", "").await;
    assert_eq!((status, &body["errcode"]), (405, &json!("M_UNRECOGNIZED")));
    let (status, body, _) = ask(Method::PATCH, "/number", "").await;
    assert_eq!((status, &body["errcode"]), (405, &json!("M_UNRECOGNIZED")));
}

#[tokio::test]
async fn any_answer_carries_cors_headers() {
    for (method, uri) in [
        (Method::OPTIONS, "/number"),
        (Method::OPTIONS, "/nowhere"),
        (Method::GET, "/open/x"),
        (Method::GET, "/nowhere"),
        (Method::GET, "/closed/x"),
        (Method::GET, "/fall"),
    ] {
        let (_, _, response) = ask(method.clone(), uri, "").await;
        let headers = response.headers();
        assert_eq!(
            headers["access-control-allow-origin"], "*",
            "{method} {uri}"
        );
        assert_eq!(
            headers["access-control-allow-headers"],
            "X-Requested-With, Content-Type, Authorization, If-Match, If-None-Match"
        );
    }
    assert_eq!(ask(Method::OPTIONS, "/closed/x", "").await.0, 204);
}

#[tokio::test]
async fn path_and_query_are_decoded() {
    let (status, body, _) = ask(Method::GET, "/open/a%2Fb%20%E2%82%AC?q=1%2B1+x", "").await;
    assert_eq!(status, 200);
    assert_eq!(body, json!({ "name": "a/b €", "q": "1+1 x", "user": null }));
    let (status, body, _) = ask(Method::GET, "/open/%FF", "").await;
    assert_eq!((status, &body["errcode"]), (400, &json!("M_INVALID_PARAM")));
}

#[tokio::test]
async fn tokens() {
    let (status, body, _) = ask(Method::GET, "/closed/x", "").await;
    assert_eq!((status, &body["errcode"]), (401, &json!("M_MISSING_TOKEN")));
    let (status, body) = ask_as("bad", "/closed/x").await;
    assert_eq!((status, &body["errcode"]), (401, &json!("M_UNKNOWN_TOKEN")));
    assert_eq!(body.get("soft_logout"), None);
    let (status, body) = ask_as("old", "/closed/x").await;
    assert_eq!((status, &body["soft_logout"]), (401, &json!(true)));
    assert_eq!(ask_as("good", "/closed/x").await.1["user"], "@a:b");
    assert_eq!(
        ask(Method::GET, "/closed/x?access_token=good", "").await.0,
        200
    );
    assert_eq!(
        ask(Method::GET, "/either/x", "").await.1["user"],
        Value::Null
    );
    assert_eq!(ask_as("good", "/either/x").await.1["user"], "@a:b");
    assert_eq!(ask_as("bad", "/either/x").await.0, 401);
    assert_eq!(ask_as("bad", "/open/x").await.0, 200);
    let strict = router_with(Options {
        query_tokens: false,
        ..Options::default()
    });
    let request = Request::builder()
        .uri("/closed/x?access_token=good")
        .body(Body::empty())
        .unwrap();
    assert_eq!(send(&strict, request).await.0, 401);
}

#[tokio::test]
async fn bodies() {
    let code = |body: &Value| body["errcode"].as_str().unwrap_or_default().to_owned();
    for (body, status, errcode) in [
        ("{\"number\": 7}", 200, ""),
        ("", 400, "M_MISSING_PARAM"),
        ("{}", 400, "M_MISSING_PARAM"),
        ("{\"number\": \"7\"}", 400, "M_BAD_JSON"),
        ("{\"number\": 7", 400, "M_NOT_JSON"),
        ("hello", 400, "M_NOT_JSON"),
        ("{} {}", 400, "M_NOT_JSON"),
        ("[7]", 400, "M_BAD_JSON"),
        ("\"7\"", 400, "M_BAD_JSON"),
    ] {
        let (got, answer, _) = ask(Method::POST, "/number", body).await;
        assert_eq!((got, code(&answer).as_str()), (status, errcode), "{body}");
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let (status, answer, _) = ask(Method::POST, "/number", &deep).await;
    assert_eq!((status, code(&answer).as_str()), (400, "M_BAD_JSON"));
    let brackets = format!("{{\"number\":1,\"a\":\"\\\"{}\"}}", "[".repeat(5000));
    assert_eq!(ask(Method::POST, "/number", &brackets).await.0, 200);
    let large = "x".repeat(1024 * 1024 + 1);
    let (status, answer, _) = ask(Method::POST, "/number", &large).await;
    assert_eq!((status, code(&answer).as_str()), (413, "M_TOO_LARGE"));
    let (status, ..) = ask(Method::POST, "/small", "{\"number\":          1}").await;
    assert_eq!(status, 413);
    let request = Request::post("/number")
        .body(Body::from(vec![b'"', 0xFF, b'"']))
        .unwrap();
    let (status, answer, _) = send(&router_with(Options::default()), request).await;
    assert_eq!((status, code(&answer).as_str()), (400, "M_NOT_JSON"));
}

/// CVE-2024-52805: a body is bounded before anybody looks at what it claims to be.
#[tokio::test]
async fn cve_2024_52805_bodies_of_any_type_are_bounded() {
    for kind in [
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "text/nonsense; charset=\"",
        "",
    ] {
        for (len, status) in [(1024 * 1024 + 1, 413), (1_000, 400)] {
            let body = format!("--x\r\n{}", "a".repeat(len));
            let request = Request::post("/number").header("content-type", kind);
            let request = request.body(Body::from(body)).unwrap();
            let (got, ..) = send(&router_with(Options::default()), request).await;
            assert_eq!(got, status, "{kind}");
        }
    }
}

#[tokio::test]
async fn a_body_refused_for_its_size_is_still_taken() {
    let read = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&read);
    let pieces = futures_util::stream::iter(0..48).map(move |_| {
        seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok::<_, std::io::Error>(vec![b'x'; 64 * 1024])
    });
    let request = Request::post("/number")
        .header("content-length", 48 * 64 * 1024)
        .body(Body::from_stream(pieces))
        .unwrap();
    let (status, ..) = send(&router_with(Options::default()), request).await;
    assert_eq!(status, 413);
    assert_eq!(read.load(std::sync::atomic::Ordering::Relaxed), 48);
}

#[tokio::test]
async fn a_stream_is_not_read_ahead() {
    let large = "x".repeat(3 * 1024 * 1024);
    let request = Request::post("/count")
        .header("content-length", large.len())
        .body(Body::from(large.clone()))
        .unwrap();
    let (status, body, _) = send(&router_with(Options::default()), request).await;
    assert_eq!(status, 200);
    assert_eq!(
        body,
        json!({ "bytes": large.len(), "announced": large.len() })
    );
}

#[tokio::test]
async fn a_panic_is_a_500_with_an_id() {
    let (status, body, _) = ask(Method::GET, "/fall", "").await;
    assert_eq!((status, &body["errcode"]), (500, &json!("M_UNKNOWN")));
    let text = body["error"].as_str().unwrap();
    assert!(
        text.contains("request ") && !text.contains("ouch"),
        "{text}"
    );
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    assert_eq!(ask(Method::HEAD, "/open/x", "").await.0, 200);
}

#[tokio::test]
async fn limits_answer_429_with_the_time_to_wait() {
    let limited = router_with(Options::default());
    let free = router_with(Options {
        rates: RateLimits {
            enabled: false,
            ..RateLimits::default()
        },
        ..Options::default()
    });
    let request = || {
        Request::post("/login")
            .body(Body::from("{\"number\":1}"))
            .unwrap()
    };
    for _ in 0..30 {
        assert_eq!(send(&limited, request()).await.0, 200);
        assert_eq!(send(&free, request()).await.0, 200);
    }
    let (status, body, response) = send(&limited, request()).await;
    assert_eq!(
        (status, &body["errcode"]),
        (429, &json!("M_LIMIT_EXCEEDED"))
    );
    assert_eq!(body["retry_after_ms"], 2000);
    assert_eq!(response.headers()["retry-after"], "2");
    assert_eq!(send(&free, request()).await.0, 200);
}

#[tokio::test]
async fn where_bridges_are_known_other_tokens_are_not_looked_at() {
    for token in ["good", "old", "unknown"] {
        let (status, body) = ask_as(token, "/bridge/x").await;
        assert_eq!((status, &body["user"]), (200, &Value::Null), "{token}");
    }
    let (_, body) = ask_as("bridge", "/bridge/x?user_id=@other:b").await;
    assert_eq!(body["user"], "@a:b", "it is itself there");
    let (_, body) = ask_as("bridge", "/closed/x?user_id=%40other%3Ab").await;
    assert_eq!(body["user"], "@other:b");
}

#[tokio::test]
async fn some_are_not_limited() {
    let limited = router_with(Options::default());
    for _ in 0..100 {
        let request = Request::post("/login")
            .header("authorization", "Bearer bridge")
            .body(Body::from("{\"number\":1}"))
            .unwrap();
        assert_eq!(send(&limited, request).await.0, 200);
    }
}

/// A request of another server: the way it is signed, and what it says.
async fn signed(router: &Router, proofs: &[&str], body: &'static str) -> (u16, Value) {
    let mut request = Request::put("/servers/x?y=1");
    for proof in proofs {
        request = request.header("authorization", *proof);
    }
    let request = request.body(Body::from(body)).unwrap();
    let (status, value, _) = send(router, request).await;
    (status, value)
}

#[tokio::test]
async fn a_server_signs_method_uri_and_body() {
    let router = router_with(Options::default());
    let proof = "X-Matrix PUT /servers/x?y=1 {\"a\":1}";
    let (status, value) = signed(&router, &[proof], "{\"a\":1}").await;
    assert_eq!(status, 200, "{value}");
    assert_eq!(value["origin"], "there.example");
    assert_eq!(value["body"], "{\"a\":1}");
    // One good signature of several is enough; more than a few are not looked at.
    let several = ["Bearer good", "x-matrix other", proof];
    assert_eq!(signed(&router, &several, "{\"a\":1}").await.0, 200);
    let mut many = vec!["X-Matrix a"; 8];
    many.push(proof);
    assert_eq!(signed(&router, &many, "{\"a\":1}").await.0, 401);
}

#[tokio::test]
async fn a_request_that_is_not_signed_is_not_a_servers() {
    let router = router_with(Options::default());
    for proofs in [
        &[][..],
        &["Bearer good"],
        &["X-Matrix nonsense"],
        &["X-Matrix PUT /servers/x?y=1 {}"],
    ] {
        let (status, value) = signed(&router, proofs, "{\"a\":1}").await;
        assert_eq!((status, &value["errcode"]), (401, &json!("M_UNAUTHORIZED")));
    }
}

#[tokio::test]
async fn each_server_has_a_rate_of_its_own() {
    let router = router_with(Options::default());
    let proof = "X-Matrix PUT /servers/x?y=1 {}";
    for _ in 0..30 {
        assert_eq!(signed(&router, &[proof], "{}").await.0, 200);
    }
    let (status, value) = signed(&router, &[proof], "{}").await;
    assert_eq!(
        (status, &value["errcode"]),
        (429, &json!("M_LIMIT_EXCEEDED"))
    );
}
