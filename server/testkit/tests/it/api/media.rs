//! Media: thumbnails, quotas, quarantine, previews of links.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

/// A PNG of one pixel.
const DOT: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, 0x49, 0x48, 0x44, 0x52, 0, 0, 0,
    1, 0, 0, 0, 1, 8, 6, 0, 0, 0, 0x1f, 0x15, 0xc4, 0x89, 0, 0, 0, 0x0d, 0x49, 0x44, 0x41, 0x54,
    0x78, 0x9c, 0x63, 0x10, 0x32, 0x09, 0xfb, 0x0f, 0, 0x02, 0x94, 0x01, 0x9c, 0x1d, 0x5b, 0x46,
    0x5f, 0, 0, 0, 0, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];
const ON: &str = "[url_preview]\nenabled = true\nallowed_private = [\"127.0.0.1\"]\n\
                  denied_hosts = [\"denied.example\", \"127.0.0.3\"]";
const PREVIEW: &str = "/_matrix/client/v1/media/preview_url";

/// What is found under a path: status, a header, and the body.
type Page = (u16, (&'static str, String), Vec<u8>);

#[derive(Default)]
struct Shared {
    pages: HashMap<String, Page>,
    asked: Vec<String>,
}

/// A web server on all addresses of this machine.
struct Web {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

impl Web {
    async fn start() -> Web {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let answers = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answers = Arc::clone(&answers);
                let service = service_fn(move |request| answer(Arc::clone(&answers), request));
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        Web { port, shared }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn put(&self, path: &str, kind: &str, body: impl Into<Vec<u8>>) {
        let page = (200, ("content-type", kind.to_owned()), body.into());
        self.shared
            .lock()
            .unwrap()
            .pages
            .insert(path.to_owned(), page);
    }

    fn redirect(&self, path: &str, to: &str) {
        let page = (302, ("location", to.to_owned()), Vec::new());
        self.shared
            .lock()
            .unwrap()
            .pages
            .insert(path.to_owned(), page);
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().unwrap().asked)
    }
}

async fn answer(
    shared: Arc<Mutex<Shared>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().to_string();
    // So that those who ask at the same time do.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut shared = shared.lock().unwrap();
    let page = shared.pages.get(&path).cloned();
    shared.asked.push(path);
    let (status, (name, value), body) =
        page.unwrap_or((404, ("content-type", "text/html".to_owned()), Vec::new()));
    let response = Response::builder().status(status).header(name, value);
    Ok(response.body(Full::new(body.into())).unwrap())
}

async fn preview(server: &TestServer, who: &Person, link: &str) -> (u16, Value) {
    let link = percent_encoding::utf8_percent_encode(link, percent_encoding::NON_ALPHANUMERIC);
    let path = format!("{PREVIEW}?url={link}&ts=1510610716656");
    server.req(Method::GET, &path, Some(&who.token), None).await
}

async fn download(server: &TestServer, who: &Person, mxc: &str) -> (u16, Bytes) {
    let path = format!(
        "/_matrix/client/v1/media/download/{}",
        mxc.strip_prefix("mxc://").unwrap()
    );
    let token = Some(who.token.as_str());
    let answer = server.raw(Method::GET, &path, token, Bytes::new()).await;
    (answer.status().as_u16(), answer.into_body())
}

const UPLOAD: &str = "/_matrix/media/v3/upload";

async fn upload(server: &TestServer, who: &Person, body: &[u8]) -> (u16, Value) {
    let body = Bytes::copy_from_slice(body);
    let answer = server
        .raw(Method::POST, UPLOAD, Some(&who.token), body)
        .await;
    let body = serde_json::from_slice(answer.body()).unwrap();
    (answer.status().as_u16(), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thumbnails_come_whole_in_part_or_not_again() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let mxc = uploaded(&server, &alice, DOT).await;
    let media = mxc.strip_prefix("mxc://").unwrap();
    let path = format!("/_matrix/client/v1/media/thumbnail/{media}?width=32&height=32");
    let get = async |header: &str, value: &str| {
        let request = Request::get(&path)
            .header("authorization", format!("Bearer {}", alice.token))
            .header(header, value)
            .body(Full::new(Bytes::new()))
            .unwrap();
        let answer = server.router().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        (parts, body.collect().await.unwrap().to_bytes())
    };
    let (whole, body) = get("accept", "*/*").await;
    assert_eq!((whole.status.as_u16(), &body[..]), (200, DOT));
    assert_eq!(whole.headers["vary"], "accept");
    assert_eq!(whole.headers["accept-ranges"], "bytes");
    let etag = whole.headers["etag"].to_str().unwrap().to_owned();

    let (part, body) = get("range", "bytes=1-3").await;
    assert_eq!((part.status.as_u16(), &body[..]), (206, &b"PNG"[..]));
    let said = format!("bytes 1-3/{}", DOT.len());
    assert_eq!(part.headers["content-range"], said.as_str());
    let (beyond, _) = get("range", "bytes=5000-").await;
    assert_eq!(beyond.status.as_u16(), 416);
    for known in [&etag, &format!("\"x\", W/{etag}"), "*"] {
        let (known, body) = get("if-none-match", known).await;
        assert_eq!((known.status.as_u16(), body.len()), (304, 0));
        assert_eq!(known.headers["etag"], etag.as_str());
    }
    let (other, _) = get("if-none-match", "\"x\"").await;
    assert_eq!(other.status.as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blurhash_is_made_on_request_alone() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let post = async |query: &str, body: &'static [u8]| {
        let path = format!("{UPLOAD}{query}");
        let body = Bytes::from_static(body);
        let token = Some(alice.token.as_str());
        let answer = server.raw(Method::POST, &path, token, body).await;
        assert_eq!(answer.status(), 200);
        let answer: Value = serde_json::from_slice(answer.body()).unwrap();
        assert!(answer["content_uri"].is_string());
        answer["xyz.amorgan.blurhash"].clone()
    };
    let asked = "?xyz.amorgan.generate_blurhash=true";
    let blurhash = post(asked, DOT).await;
    assert_eq!(blurhash.as_str().map(str::len), Some(28), "{blurhash}");
    assert_eq!(post("", DOT).await, Value::Null);
    assert_eq!(post(asked, b"no picture").await, Value::Null);
    let versions = server
        .req(Method::GET, "/_matrix/client/versions", None, None)
        .await
        .1;
    assert_eq!(versions["unstable_features"]["xyz.amorgan.blurhash"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_picture_has_no_thumbnail() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let half = &DOT[..DOT.len() / 2];
    for bad in [&b"no picture"[..], half, b"GIF89a<script>alert(1)</script>"] {
        let mxc = uploaded(&server, &alice, bad).await;
        let media = mxc.strip_prefix("mxc://").unwrap();
        for rest in ["width=32&height=32", "width=32&height=32&animated=true"] {
            let path = format!("/_matrix/client/v1/media/thumbnail/{media}?{rest}");
            let token = Some(alice.token.as_str());
            let (status, answer) = server.req(Method::GET, &path, token, None).await;
            assert_eq!((status, &answer["errcode"]), (400, &json!("M_UNKNOWN")));
        }
    }
    let mxc = uploaded(&server, &alice, DOT).await;
    let media = mxc.strip_prefix("mxc://").unwrap();
    let path = format!("/_matrix/client/v1/media/thumbnail/{media}?width=1&height=1&animated=2");
    let token = Some(alice.token.as_str());
    let (status, answer) = server.req(Method::GET, &path, token, None).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (400, &json!("M_INVALID_PARAM"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_end_at_the_quota_and_at_the_largest_size() {
    let config = "[media]\nuser_quota = \"10KiB\"\nmax_upload = \"8KiB\"\n\
                  [well_known.support]\nsupport_page = \"https://test.example/help\"";
    let server = TestServer::start_with(config);
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let (status, answer) = upload(&server, &alice, &[1; 9 << 10]).await;
    assert_eq!((status, &answer["errcode"]), (413, &json!("M_TOO_LARGE")));
    assert_eq!(upload(&server, &alice, &[1; 8 << 10]).await.0, 200);
    let (status, answer) = upload(&server, &alice, &[1; 8 << 10]).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (403, &json!("M_USER_LIMIT_EXCEEDED"))
    );
    assert_eq!(answer["info_uri"], "https://test.example/help");
    assert_eq!(upload(&server, &alice, &[1; 2 << 10]).await.0, 200);
    let (status, _) = upload(&server, &alice, &[1]).await;
    assert_eq!(status, 403);
    assert_eq!(upload(&server, &bob, &[1; 8 << 10]).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_the_free_disk_floor_uploads_are_refused() {
    let config = "[media]\nfree_disk_floor = \"1000000GiB\"\n[well_known.support]\n\
                  contacts = [{ role = \"m.role.admin\", email_address = \"a@test.example\" }]";
    let server = TestServer::start_with(config);
    let alice = server.person("alice").await;
    let (status, answer) = upload(&server, &alice, &[1; 100]).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (507, &json!("M_RESOURCE_LIMIT_EXCEEDED"))
    );
    assert_eq!(answer["admin_contact"], "mailto:a@test.example");
}

async fn uploaded(server: &TestServer, who: &Person, body: &[u8]) -> String {
    let (status, answer) = upload(server, who, body).await;
    assert_eq!(status, 200, "{answer}");
    answer["content_uri"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_administrator_blocks_is_gone_however_often_it_comes() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let bad = uploaded(&server, &alice, DOT).await;
    let again = uploaded(&server, &bob, DOT).await;
    let good = uploaded(&server, &alice, b"harmless").await;
    let media = bad.strip_prefix("mxc://").unwrap();
    let act = |what: &str, rest: &str| format!("/_synapse/admin/v1/media/{what}/{rest}");
    let quarantine = act("quarantine", media);
    for token in [&bob.token, &server.person("carol").await.token] {
        let (status, answer) = server
            .req(Method::POST, &quarantine, Some(token), None)
            .await;
        assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
    }
    assert_eq!(
        server.admin(Method::POST, &quarantine, None).await,
        (200, json!({}))
    );
    for gone in [&bad, &again] {
        assert_eq!(download(&server, &bob, gone).await.0, 404);
        let path = format!(
            "/_matrix/client/v1/media/thumbnail/{}?width=1&height=1",
            gone.strip_prefix("mxc://").unwrap()
        );
        assert_eq!(
            server
                .req(Method::GET, &path, Some(&bob.token), None)
                .await
                .0,
            404
        );
    }
    let (status, answer) = upload(&server, &bob, DOT).await;
    assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
    assert_eq!(download(&server, &bob, &good).await.0, 200);
    let server = server.restart().await;
    assert_eq!(download(&server, &bob, &again).await.0, 404);
    let undo = act("unquarantine", media);
    assert_eq!(server.admin(Method::POST, &undo, None).await.0, 200);
    assert_eq!(download(&server, &bob, &bad).await.0, 200);
    assert_eq!(download(&server, &bob, &again).await.0, 200);

    // By hash, before it ever comes.
    let hash = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    let path = format!("/_skerry/admin/v1/media/blocked_hashes/{hash}");
    assert_eq!(server.admin(Method::POST, &path, None).await.0, 200);
    assert_eq!(upload(&server, &bob, b"").await.0, 403);
    assert_eq!(server.admin(Method::DELETE, &path, None).await.0, 200);
    assert_eq!(upload(&server, &bob, b"").await.0, 200);

    // All of a user's but what is protected.
    let (_, id) = good.rsplit_once('/').unwrap();
    assert_eq!(
        server
            .admin(Method::POST, &act("protect", id), None)
            .await
            .0,
        200
    );
    let user = "/_synapse/admin/v1/user/%40alice%3Atest.example/media/quarantine";
    let want = (200, json!({ "num_quarantined": 1 }));
    assert_eq!(server.admin(Method::POST, user, None).await, want);
    assert_eq!(
        server.admin(Method::POST, user, None).await.1["num_quarantined"],
        0
    );
    assert_eq!(download(&server, &bob, &bad).await.0, 404);
    assert_eq!(download(&server, &bob, &good).await.0, 200);
    assert_eq!(
        server
            .admin(Method::POST, &act("unprotect", id), None)
            .await
            .0,
        200
    );
    assert_eq!(server.admin(Method::POST, user, None).await, want);
    assert_eq!(download(&server, &bob, &good).await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_are_previewed_only_where_the_operator_wants_it() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let (status, answer) = preview(&server, &alice, "http://127.0.0.1/").await;
    assert_eq!(
        (status, &answer["errcode"]),
        (404, &json!("M_UNRECOGNIZED"))
    );

    let server = TestServer::start_with(ON);
    let alice = server.person("alice").await;
    let (status, answer) = server.req(Method::GET, PREVIEW, None, None).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (401, &json!("M_MISSING_TOKEN"))
    );
    let token = Some(alice.token.as_str());
    let (status, answer) = server.req(Method::GET, PREVIEW, token, None).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (400, &json!("M_MISSING_PARAM"))
    );
    let (status, answer) = preview(&server, &alice, "ftp://127.0.0.1/").await;
    assert_eq!(
        (status, &answer["errcode"]),
        (400, &json!("M_INVALID_PARAM"))
    );
    let (status, answer) = preview(&server, &alice, "https://www.denied.example/").await;
    assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_has_what_the_page_says_and_its_picture_as_media() {
    let server = TestServer::start_with(ON);
    let alice = server.person("alice").await;
    let web = Web::start().await;
    web.put(
        "/rock",
        "text/html",
        "<title>The Rock (1996)</title><meta property='og:title' content='The Rock'>\
         <meta property='og:type' content='video.movie'>\
         <meta property='og:image' content='pics/rock.png'>\
         <meta property='og:image:width' content='9000'><p>A film.",
    );
    web.put("/pics/rock.png", "application/octet-stream", DOT);
    web.redirect("/old", "/rock");
    let (status, got) = preview(&server, &alice, &web.url("/old#part")).await;
    assert_eq!(status, 200, "{got}");
    let mxc = got["og:image"].as_str().unwrap().to_owned();
    assert_eq!(
        got,
        json!({
            "og:title": "The Rock", "og:type": "video.movie", "og:description": "A film.",
            "og:image": mxc, "og:image:type": "image/png", "og:image:width": 1,
            "og:image:height": 1, "matrix:image:size": DOT.len(),
        })
    );
    assert_eq!(
        download(&server, &alice, &mxc).await,
        (200, Bytes::from(DOT))
    );
    assert_eq!(web.asked(), ["/old", "/rock", "/pics/rock.png"]);

    // Kept for an hour, also by the old path; then fetched again, and the same picture keeps its
    // name.
    let link =
        percent_encoding::utf8_percent_encode(&web.url("/old"), percent_encoding::NON_ALPHANUMERIC)
            .to_string();
    let path = format!("/_matrix/media/v3/preview_url?url={link}");
    assert_eq!(
        server
            .ok(Method::GET, &path, Some(&alice.token), None)
            .await,
        got
    );
    assert_eq!(web.asked(), [""; 0]);
    server.clock.advance(3_601_000);
    assert_eq!(preview(&server, &alice, &web.url("/old")).await, (200, got));
    assert_eq!(web.asked().len(), 3);

    web.put("/dot.png", "image/png", DOT);
    let (_, got) = preview(&server, &alice, &web.url("/dot.png")).await;
    assert_eq!(
        (&got["og:title"], &got["og:image:width"]),
        (&json!("dot.png"), &json!(1))
    );
    web.put("/data.zip", "application/zip", "PK");
    assert_eq!(
        preview(&server, &alice, &web.url("/data.zip")).await,
        (200, json!({}))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oembed_is_found_and_a_picture_that_is_none_is_left_out() {
    let server = TestServer::start_with(ON);
    let alice = server.person("alice").await;
    let web = Web::start().await;
    web.put(
        "/clip",
        "text/html; charset=iso-8859-1",
        b"<title>caf\xe9</title><link rel=alternate type='application/json+oembed' href='/oe'>"
            .as_slice(),
    );
    let oembed = json!({ "type": "video", "title": "A clip", "provider_name": "Clips",
        "thumbnail_url": web.url("/thumb") });
    web.put("/oe", "application/json", oembed.to_string());
    web.put("/thumb", "image/png", "<html>not a picture</html>");
    let got = preview(&server, &alice, &web.url("/clip")).await;
    let want = json!({ "og:title": "A clip", "og:site_name": "Clips", "og:type": "video.other" });
    assert_eq!(got, (200, want));
    web.put("/oe", "application/json", "not json");
    server.clock.advance(3_601_000);
    let got = preview(&server, &alice, &web.url("/clip")).await;
    assert_eq!(got, (200, json!({ "og:title": "café" })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_ask_at_once_make_one_fetch_and_failures_are_remembered() {
    let server = TestServer::start_with(ON);
    let alice = server.person("alice").await;
    let web = Web::start().await;
    web.put("/page", "text/html", "<title>once</title>");
    let link = web.url("/page");
    let all = (0..20).map(|_| preview(&server, &alice, &link));
    for got in futures_util::future::join_all(all).await {
        assert_eq!(got, (200, json!({ "og:title": "once" })));
    }
    assert_eq!(web.asked(), ["/page"]);

    for _ in 0..3 {
        let (status, answer) = preview(&server, &alice, &web.url("/gone")).await;
        assert_eq!((status, &answer["errcode"]), (502, &json!("M_UNKNOWN")));
    }
    assert_eq!(web.asked(), ["/gone"]);
    web.put("/gone", "text/html", "<title>back</title>");
    server.clock.advance(61_000);
    let got = preview(&server, &alice, &web.url("/gone")).await;
    assert_eq!(got, (200, json!({ "og:title": "back" })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_lead_into_no_private_network() {
    let server = TestServer::start_with(ON);
    let alice = server.person("alice").await;
    let web = Web::start().await;
    let port = web.port;
    web.put("/", "text/html", "<title>secret</title>");
    web.put("/p.png", "image/png", DOT);
    // The web server would answer on all of these.
    for host in [
        "127.0.0.2",
        "0.0.0.0",
        "2130706434",
        "0x7f.0.0.2",
        "[::ffff:127.0.0.2]",
        "[::1]",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.1.1",
        "[fe80::1]",
        "[fd00::1]",
        "[64:ff9b::7f00:2]",
    ] {
        let (status, answer) = preview(&server, &alice, &format!("http://{host}:{port}/")).await;
        assert_eq!(status, 502, "{host}: {answer}");
        assert_eq!(answer["error"], "The link could not be fetched", "{host}");
    }
    assert_eq!(web.asked(), [""; 0]);

    // Neither does a redirect, a picture, or oEmbed; nor to a host that is denied.
    for to in ["127.0.0.2", "127.0.0.3"] {
        let to = format!("http://{to}:{port}/");
        let from = format!("/to{}", to.len());
        web.redirect(&from, &to);
        let (status, _) = preview(&server, &alice, &web.url(&from)).await;
        assert!(status >= 400, "{to}");
        web.put(
            "/page",
            "text/html",
            format!(
                "<title>t</title><meta property=og:image content='{to}p.png'>\
                 <link rel=alternate type=application/json+oembed href='{to}oe'>"
            ),
        );
        server.clock.advance(3_601_000);
        let got = preview(&server, &alice, &web.url("/page")).await;
        assert_eq!(got, (200, json!({ "og:title": "t" })));
        assert_eq!(web.asked(), [from.as_str(), "/page"]);
    }
    web.redirect("/round", "/round");
    let (status, _) = preview(&server, &alice, &web.url("/round")).await;
    assert_eq!(status, 502);
    assert_eq!(web.asked().len(), 6);
}
