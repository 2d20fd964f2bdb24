//! Ways to log in, interactive authentication, and the pages for both.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

const LOGIN: &str = "/_matrix/client/v3/login";
const REGISTER: &str = "/_matrix/client/v3/register";
const TOKEN: &str = "/_matrix/client/v1/login/get_token";

async fn post(
    server: &TestServer,
    path: &str,
    token: Option<&str>,
    body: Value,
) -> (u16, String, Value) {
    let (status, answer) = server.req(Method::POST, path, token, Some(body)).await;
    let errcode = answer["errcode"].as_str().unwrap_or_default().to_owned();
    (status, errcode, answer)
}

/// A page: status and text.
async fn page(server: &TestServer, method: Method, path: &str, body: &str) -> (u16, String) {
    let body = Bytes::from(body.to_owned());
    let answer = server.raw(method, path, None, body).await;
    let header = |name: &str| {
        let value = answer.headers().get(name);
        value.map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    if header("content-type").starts_with("text/html") {
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("referrer-policy"), "no-referrer");
    }
    let text = String::from_utf8(answer.body().to_vec()).unwrap();
    (answer.status().as_u16(), text)
}

/// A log-in token of a person.
async fn login_token(server: &TestServer, who: &Person) -> String {
    let (status, _, asks) = post(server, TOKEN, Some(&who.token), json!({})).await;
    assert_eq!(status, 401);
    let auth = json!({ "type": "m.login.password", "session": asks["session"],
        "identifier": { "type": "m.id.user", "user": who.user_id },
        "password": "correct horse" });
    let (status, _, made) = post(server, TOKEN, Some(&who.token), json!({ "auth": auth })).await;
    assert_eq!(
        (status, &made["expires_in_ms"]),
        (200, &json!(120_000)),
        "{made}"
    );
    // What was proved is used up.
    let again = json!({ "auth": { "session": asks["session"] } });
    assert_eq!(post(server, TOKEN, Some(&who.token), again).await.0, 401);
    made["login_token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_lets_another_in_once() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let flows = server.ok(Method::GET, LOGIN, None, None).await;
    let by_token = json!({ "type": "m.login.token", "get_login_token": true });
    assert!(
        flows["flows"].as_array().unwrap().contains(&by_token),
        "{flows}"
    );
    let token = login_token(&server, &alice).await;
    let body = json!({ "type": "m.login.token", "token": token, "device_id": "PHONE",
        "initial_device_display_name": "mine" });
    let (status, _, made) = post(&server, LOGIN, None, body.clone()).await;
    assert_eq!(
        (status, &made["device_id"]),
        (200, &json!("PHONE")),
        "{made}"
    );
    assert_eq!(made["user_id"], alice.user_id);
    let (status, errcode, _) = post(&server, LOGIN, None, body).await;
    assert_eq!((status, errcode.as_str()), (403, "M_FORBIDDEN"));
    let late = login_token(&server, &alice).await;
    server.clock.advance(120_000);
    let body = json!({ "type": "m.login.token", "token": late });
    assert_eq!(post(&server, LOGIN, None, body).await.0, 403);
    let missing = post(&server, LOGIN, None, json!({ "type": "m.login.token" })).await;
    assert_eq!(missing.1, "M_MISSING_PARAM");
    // A new password ends what the old one allowed.
    let token = login_token(&server, &alice).await;
    let auth = json!({ "type": "m.login.password", "user": "alice", "password": "correct horse" });
    let change = json!({ "auth": auth, "new_password": "better horse" });
    let path = "/_matrix/client/v3/account/password";
    assert_eq!(post(&server, path, Some(&alice.token), change).await.0, 200);
    let body = json!({ "type": "m.login.token", "token": token });
    assert_eq!(post(&server, LOGIN, None, body).await.0, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identifiers_are_users_and_addresses_but_no_phones() {
    let server = TestServer::start();
    server.person("alice").await;
    let by = |identifier: Value| {
        json!({ "type": "m.login.password", "identifier": identifier,
            "password": "correct horse" })
    };
    for (identifier, status, errcode) in [
        (json!({ "type": "m.id.user", "user": "alice" }), 200, ""),
        (
            json!({ "type": "m.id.user", "user": "@alice:test.example" }),
            200,
            "",
        ),
        (
            json!({ "type": "m.id.user", "user": "@alice:other.example" }),
            403,
            "M_FORBIDDEN",
        ),
        (
            json!({ "type": "m.id.thirdparty", "medium": "email", "address": "a@b.example" }),
            403,
            "M_FORBIDDEN",
        ),
        (
            json!({ "type": "m.id.thirdparty", "medium": "msisdn", "address": "49123" }),
            400,
            "M_THREEPID_MEDIUM_NOT_SUPPORTED",
        ),
        (
            json!({ "type": "m.id.phone", "country": "DE", "phone": "123" }),
            400,
            "M_THREEPID_MEDIUM_NOT_SUPPORTED",
        ),
        (json!({ "type": "m.id.thirdparty" }), 400, "M_MISSING_PARAM"),
        (json!({ "type": "m.id.badge" }), 400, "M_UNKNOWN"),
    ] {
        let got = post(&server, LOGIN, None, by(identifier.clone())).await;
        assert_eq!((got.0, got.1.as_str()), (status, errcode), "{identifier}");
    }
}

const BY_INVITATION: &str = r#"
    server_name = "test.example"
    [password]
    cost = "minimal"
    [registration.policies.privacy]
    version = "1.2"
    en = { name = "Privacy <policy>", url = "https://example.org/privacy" }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stages_are_passed_on_pages_by_clients_that_do_not_know_them() {
    let server = TestServer::start_as(BY_INVITATION);
    let made =
        server
            .house
            .accounts
            .create_registration_token(Some("letmein".into()), Some(1), None);
    made.await.unwrap();
    let wanted = json!({ "username": "alice", "password": "correct horse" });
    let (status, _, asks) = post(&server, REGISTER, None, wanted).await;
    assert_eq!(status, 401);
    let stages = json!([{ "stages": ["m.login.registration_token", "m.login.terms"] }]);
    assert_eq!(asks["flows"], stages);
    let policies = &asks["params"]["m.login.terms"]["policies"]["privacy"];
    assert_eq!(policies["version"], "1.2");
    assert_eq!(policies["en"]["url"], "https://example.org/privacy");
    let session = asks["session"].as_str().unwrap();
    let path = |stage: &str, session: &str| {
        format!("/_matrix/client/v3/auth/{stage}/fallback/web?session={session}")
    };

    let terms = path("m.login.terms", session);
    let (status, text) = page(&server, Method::GET, &terms, "").await;
    assert_eq!(status, 200);
    assert!(text.contains("Privacy &lt;policy&gt;"), "{text}");
    assert!(text.contains("href=\"https://example.org/privacy\""));
    assert!(!text.contains("onAuthDone"));
    let form = format!("session={session}");
    let (status, text) = page(&server, Method::POST, &terms, &form).await;
    assert_eq!(status, 200);
    assert!(text.contains("window.onAuthDone()"), "{text}");
    assert!(text.contains("postMessage(\"authDone\", \"*\")"));
    let (_, text) = page(&server, Method::GET, &terms, "").await;
    assert!(text.contains("onAuthDone"), "passed already");

    let token = path("m.login.registration_token", session);
    let wrong = format!("session={session}&token=wrong");
    let (status, text) = page(&server, Method::POST, &token, &wrong).await;
    assert_eq!(status, 401);
    assert!(text.contains("role=\"alert\"") && !text.contains("onAuthDone"));
    let auth = json!({ "session": session });
    let (status, _, asks) = post(&server, REGISTER, None, json!({ "auth": auth })).await;
    assert_eq!(
        (status, &asks["completed"]),
        (401, &json!(["m.login.terms"]))
    );
    let right = format!("session={session}&token=letmein");
    let (status, text) = page(&server, Method::POST, &token, &right).await;
    assert!(status == 200 && text.contains("onAuthDone"));
    let (status, _, made) = post(&server, REGISTER, None, json!({ "auth": auth })).await;
    assert_eq!(
        (status, &made["user_id"]),
        (200, &json!("@alice:test.example")),
        "{made}"
    );

    let lost = path("m.login.terms", "nonsense");
    for method in [Method::GET, Method::POST] {
        assert_eq!(page(&server, method, &lost, "").await.0, 400);
    }
    for stage in ["m.login.sso", "m.login.password", "m.login.dummy"] {
        let (status, text) = page(&server, Method::GET, &path(stage, session), "").await;
        assert!(
            status == 404 && text.contains("M_UNRECOGNIZED"),
            "{stage}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_a_page_to_log_in_on() {
    let server = TestServer::start();
    let path = "/_matrix/static/client/login/?device_id=GHTYAJCE";
    let (status, text) = page(&server, Method::GET, path, "").await;
    assert_eq!(status, 200);
    for part in [
        "<html lang=\"en\">",
        "window.matrixLogin",
        "onLogin(json)",
        "m.login.password",
        "loginToken",
        "<label for=\"password\">",
    ] {
        assert!(text.contains(part), "{part}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_in_the_query_string_are_one_switch() {
    let path = |who: &Person| {
        format!(
            "/_matrix/client/v3/account/whoami?access_token={}",
            who.token
        )
    };
    let server = TestServer::start();
    let alice = server.person("alice").await;
    server.ok(Method::GET, &path(&alice), None, None).await;
    let server = TestServer::start_with("[access_tokens]\nin_query = false");
    let alice = server.person("alice").await;
    let (status, answer) = server.req(Method::GET, &path(&alice), None, None).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (401, &json!("M_MISSING_TOKEN"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_can_do_is_told_truly() {
    let server = TestServer::start();
    server.person("admin").await;
    let bob = server.person("bob").await;
    let path = "/_matrix/client/v3/capabilities";
    let told = server.ok(Method::GET, path, Some(&bob.token), None).await;
    let told = &told["capabilities"];
    for (name, enabled) in [
        ("m.change_password", true),
        ("m.set_displayname", true),
        ("m.set_avatar_url", true),
        ("m.profile_fields", true),
        ("m.get_login_token", true),
        ("m.3pid_changes", false),
        ("m.forget_forced_upon_leave", false),
    ] {
        assert_eq!(told[name], json!({ "enabled": enabled }), "{name}");
    }
    assert!(told["m.room_versions"]["available"]["12"] == "stable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_accounts_are_called_by_their_names() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let path = format!("/_matrix/client/v3/profile/{}", alice.user_id);
    let profile = server.ok(Method::GET, &path, None, None).await;
    assert_eq!(profile, json!({ "displayname": "alice" }));
    let room = server.room(&alice, json!({})).await;
    let member = format!(
        "/_matrix/client/v3/rooms/{room}/state/m.room.member/{}",
        alice.user_id
    );
    let member = server
        .ok(Method::GET, &member, Some(&alice.token), None)
        .await;
    assert_eq!(member["displayname"], "alice");
}
