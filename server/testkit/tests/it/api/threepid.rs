//! E-mail addresses of accounts: validated by mail, for registration, for log-in, for a new
//! password.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{MailSink, Person, TestServer};

const REGISTER: &str = "/_matrix/client/v3/register";
const LOGIN: &str = "/_matrix/client/v3/login";
pub(super) const ADDRESSES: &str = "/_matrix/client/v3/account/3pid";
const PASSWORD: &str = "/_matrix/client/v3/account/password";
const SECRET: &str = "monkeys_are_GREAT.=-";

pub(super) async fn post(
    server: &TestServer,
    path: &str,
    token: Option<&str>,
    body: Value,
) -> (u16, String, Value) {
    let (status, answer) = server.req(Method::POST, path, token, Some(body)).await;
    let errcode = answer["errcode"].as_str().unwrap_or_default().to_owned();
    (status, errcode, answer)
}

/// Asks for a mail; gives the session.
async fn request(server: &TestServer, base: &str, email: &str, attempt: u64) -> String {
    let body = json!({ "client_secret": SECRET, "email": email, "send_attempt": attempt });
    let path = format!("{base}/email/requestToken");
    let (status, _, answer) = post(server, &path, None, body).await;
    assert_eq!(status, 200, "{answer}");
    answer["sid"].as_str().unwrap().to_owned()
}

/// Opens a link: status and page.
async fn open(server: &TestServer, method: Method, link: &str) -> (u16, String) {
    let answer = server.raw(method, link, None, Bytes::new()).await;
    let text = String::from_utf8(answer.body().to_vec()).unwrap();
    (answer.status().as_u16(), text)
}

fn creds(sid: &str) -> Value {
    json!({ "sid": sid, "client_secret": SECRET })
}

fn by_email(sid: &str) -> Value {
    json!({ "type": "m.login.email.identity", "threepid_creds": creds(sid) })
}

pub(super) fn owner(password: &str) -> Value {
    json!({ "type": "m.login.password", "password": password })
}

async fn addresses(server: &TestServer, who: &Person) -> Vec<String> {
    let told = server
        .ok(Method::GET, ADDRESSES, Some(&who.token), None)
        .await;
    let told = told["threepids"].as_array().unwrap().clone();
    told.iter()
        .map(|one| {
            assert_eq!(one["medium"], "email");
            assert!(one["validated_at"].is_u64() && one["added_at"].is_u64());
            one["address"].as_str().unwrap().to_owned()
        })
        .collect()
}

/// Gives a person an address.
async fn add(server: &TestServer, sink: &MailSink, who: &Person, email: &str) {
    let before = sink.mails().len();
    let sid = request(server, ADDRESSES, email, 1).await;
    let mail = sink.wait(before + 1).await;
    assert_eq!(open(server, Method::GET, &mail.link()).await.0, 200);
    let mut body = creds(&sid);
    body["auth"] = owner("correct horse");
    let added = post(server, &format!("{ADDRESSES}/add"), Some(&who.token), body).await;
    assert_eq!(added.0, 200, "{}", added.2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_validated_added_used_to_log_in_and_removed() {
    let sink = MailSink::start().await;
    let server = TestServer::start_with(&sink.config());
    let alice = server.person("alice").await;
    let told = server
        .ok(
            Method::GET,
            "/_matrix/client/v3/capabilities",
            Some(&alice.token),
            None,
        )
        .await;
    assert_eq!(
        told["capabilities"]["m.3pid_changes"],
        json!({ "enabled": true })
    );

    let sid = request(&server, ADDRESSES, "Alice@Example.org", 1).await;
    let mail = sink.wait(1).await;
    assert_eq!(mail.to, "alice@example.org");
    assert!(
        mail.headers.contains("Auto-Submitted: auto-generated"),
        "{}",
        mail.headers
    );
    let mut body = creds(&sid);
    let path = format!("{ADDRESSES}/add");
    let asks = post(&server, &path, Some(&alice.token), body.clone()).await;
    assert_eq!(asks.0, 401, "the password is asked for");
    body["auth"] = owner("correct horse");
    let early = post(&server, &path, Some(&alice.token), body.clone()).await;
    assert_eq!((early.0, early.1.as_str()), (401, "M_THREEPID_AUTH_FAILED"));
    // Another program that knows the session, but not the secret.
    let wrong = json!({ "sid": sid, "client_secret": "else", "auth": owner("correct horse") });
    assert_eq!(open(&server, Method::GET, &mail.link()).await.0, 200);
    let wrong = post(&server, &path, Some(&alice.token), wrong).await;
    assert_eq!(wrong.1, "M_THREEPID_AUTH_FAILED");
    let added = post(&server, &path, Some(&alice.token), body.clone()).await;
    assert_eq!(added.0, 200, "{}", added.2);
    assert_eq!(addresses(&server, &alice).await, ["alice@example.org"]);
    let again = post(&server, &path, Some(&alice.token), body).await;
    assert_eq!(again.1, "M_THREEPID_AUTH_FAILED", "a proof is good once");

    let server = server.restart().await;
    for login in [
        json!({ "type": "m.login.password", "password": "correct horse", "identifier":
            { "type": "m.id.thirdparty", "medium": "email", "address": "ALICE@example.org" } }),
        json!({ "type": "m.login.password", "password": "correct horse",
            "medium": "email", "address": "alice@example.org" }),
    ] {
        let (status, _, made) = post(&server, LOGIN, None, login).await;
        assert_eq!(
            (status, &made["user_id"]),
            (200, &json!(alice.user_id)),
            "{made}"
        );
    }
    let known = json!({ "medium": "email", "address": "alice@example.org" });
    let path = format!("{ADDRESSES}/delete");
    let (status, _, gone) = post(&server, &path, Some(&alice.token), known).await;
    assert_eq!(status, 200);
    assert_eq!(gone, json!({ "id_server_unbind_result": "no-support" }));
    assert!(addresses(&server, &alice).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_password_is_replaced_by_a_link() {
    let sink = MailSink::start().await;
    let server = TestServer::start_with(&sink.config());
    let alice = server.person("alice").await;
    add(&server, &sink, &alice, "alice@example.org").await;

    // Who has no account is answered the same, and gets no mail.
    let nobody = request(&server, PASSWORD, "nobody@example.org", 1).await;
    let sid = request(&server, PASSWORD, "alice@example.org", 1).await;
    let mail = sink.wait(2).await;
    assert_eq!(
        (nobody.len(), mail.to.as_str()),
        (sid.len(), "alice@example.org")
    );
    let (status, page) = open(&server, Method::GET, &mail.link()).await;
    assert!(
        status == 200 && page.contains("<form method=\"post\">"),
        "{page}"
    );
    let new = json!({ "new_password": "better horse", "auth": by_email(&sid) });
    let (status, errcode, asks) = post(&server, PASSWORD, None, new.clone()).await;
    assert_eq!((status, errcode.as_str()), (401, "M_THREEPID_AUTH_FAILED"));
    assert_eq!(
        asks["flows"],
        json!([{ "stages": ["m.login.email.identity"] }])
    );
    // Looking at the link is not enough: programs that look at mail do that.
    assert_eq!(open(&server, Method::POST, &mail.link()).await.0, 200);
    let for_nobody = json!({ "new_password": "x", "auth": by_email(&nobody) });
    assert_eq!(post(&server, PASSWORD, None, for_nobody).await.0, 401);
    // Good for a password, and for nothing else.
    let mut register = json!({ "username": "eve", "password": "x" });
    register["auth"] = by_email(&sid);
    assert_eq!(
        post(&server, REGISTER, None, register).await.1,
        "M_THREEPID_AUTH_FAILED"
    );
    let (status, _, answer) = post(&server, PASSWORD, None, new.clone()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(post(&server, PASSWORD, None, new).await.0, 401, "once");
    let whoami = "/_matrix/client/v3/account/whoami";
    assert_eq!(
        server
            .req(Method::GET, whoami, Some(&alice.token), None)
            .await
            .0,
        401
    );
    let login = |password: &str| json!({ "type": "m.login.password", "user": "alice", "password": password });
    assert_eq!(
        post(&server, LOGIN, None, login("correct horse")).await.0,
        403
    );
    assert_eq!(
        post(&server, LOGIN, None, login("better horse")).await.0,
        200
    );
    assert_eq!(sink.mails().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registration_offers_and_may_demand_an_address() {
    let sink = MailSink::start().await;
    let server = TestServer::start_with(&sink.config());
    let wanted = json!({ "username": "alice", "password": "correct horse" });
    let (_, _, asks) = post(&server, REGISTER, None, wanted.clone()).await;
    let flows = json!([{ "stages": ["m.login.dummy"] }, { "stages": ["m.login.email.identity"] }]);
    assert_eq!(asks["flows"], flows);
    let sid = request(&server, REGISTER, "alice@example.org", 1).await;
    assert_eq!(
        open(&server, Method::GET, &sink.wait(1).await.link())
            .await
            .0,
        200
    );
    let mut auth = by_email(&sid);
    auth["session"] = asks["session"].clone();
    let mut body = wanted;
    body["auth"] = auth;
    let (status, _, made) = post(&server, REGISTER, None, body).await;
    assert_eq!(status, 200, "{made}");
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let alice = Person {
        user_id: text("user_id"),
        token: text("access_token"),
        device: text("device_id"),
    };
    assert_eq!(addresses(&server, &alice).await, ["alice@example.org"]);

    // Somebody else with that address: the answer is the same, only the mail says more.
    let sid = request(&server, REGISTER, "alice@example.org", 2).await;
    let mail = sink.wait(2).await;
    assert!(mail.text.contains("@alice:test.example") && !mail.text.contains("://"));
    let body = json!({ "username": "eve", "password": "x", "auth": by_email(&sid) });
    assert_eq!(
        post(&server, REGISTER, None, body).await.1,
        "M_THREEPID_AUTH_FAILED"
    );

    let strict = format!(
        "server_name = \"test.example\"\n[registration]\nopen = true\nemail_required = true\n{}",
        sink.config()
    );
    let server = TestServer::start_as(&strict);
    let (_, _, asks) = post(&server, REGISTER, None, json!({ "username": "bob" })).await;
    assert_eq!(
        asks["flows"],
        json!([{ "stages": ["m.login.email.identity"] }])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_are_counted_repeated_and_wait_for_the_mail_server() {
    let sink = MailSink::start().await;
    let server = TestServer::start_with(&sink.config());
    let first = request(&server, REGISTER, "a@example.org", 1).await;
    sink.wait(1).await;
    // The same attempt again: the same session, no other mail.
    assert_eq!(request(&server, REGISTER, "a@example.org", 1).await, first);
    assert_eq!(request(&server, REGISTER, "a@example.org", 2).await, first);
    let link = sink.wait(2).await.link();
    assert_eq!(link, sink.mails()[0].link(), "the older mail is still good");
    for attempt in 3..6 {
        request(&server, REGISTER, "a@example.org", attempt).await;
    }
    let body = json!({ "client_secret": SECRET, "email": "a@example.org", "send_attempt": 6 });
    let path = format!("{REGISTER}/email/requestToken");
    let (status, errcode, answer) = post(&server, &path, None, body).await;
    assert_eq!((status, errcode.as_str()), (429, "M_LIMIT_EXCEEDED"));
    assert!(answer["retry_after_ms"].is_u64());
    sink.wait(5).await;

    sink.busy(1);
    request(&server, REGISTER, "b@example.org", 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(sink.mails().len(), 5);
    // Comes after the pause.
    server.clock.advance(60_000);
    server.house.outgoing.outbox.look_again();
    assert_eq!(sink.wait(6).await.to, "b@example.org");
    // What the mail server does not take yet goes to the end of the queue.
    sink.busy(1);
    request(&server, REGISTER, "c@example.org", 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    request(&server, REGISTER, "d@example.org", 1).await;
    sink.busy(1);
    server.clock.advance(60_000);
    server.house.outgoing.outbox.look_again();
    assert_eq!(sink.wait(7).await.to, "d@example.org");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    server.clock.advance(60_000);
    server.house.outgoing.outbox.look_again();
    assert_eq!(sink.wait(8).await.to, "c@example.org");

    assert_eq!(
        open(&server, Method::GET, &link.replace("token=", "token=0"))
            .await
            .0,
        400
    );
    server.clock.advance(24 * 3_600_000);
    assert_eq!(open(&server, Method::GET, &link).await.0, 400, "too old");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_leads_nowhere_unseen() {
    let sink = MailSink::start().await;
    let server = TestServer::start_with(&sink.config());
    let path = format!("{REGISTER}/email/requestToken");
    let ask = |next: &str| {
        json!({ "client_secret": SECRET, "email": "a@example.org", "send_attempt": 1,
            "next_link": next })
    };
    for wrong in [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "ftp://x",
        "//x",
    ] {
        let got = post(&server, &path, None, ask(wrong)).await;
        assert_eq!((got.0, got.1.as_str()), (400, "M_INVALID_PARAM"), "{wrong}");
    }
    let next = "https://app.example.org/?a=1&b=\"<script>";
    assert_eq!(post(&server, &path, None, ask(next)).await.0, 200);
    let (status, page) = open(&server, Method::GET, &sink.wait(1).await.link()).await;
    assert_eq!(status, 200);
    assert!(
        page.contains("https://app.example.org/?a=1&amp;b=&quot;&lt;script&gt;"),
        "{page}"
    );
    assert!(!page.contains("<script>"), "{page}");
    for wrong in [
        json!({ "client_secret": "", "email": "a@b.example", "send_attempt": 1 }),
        json!({ "client_secret": "a b", "email": "a@b.example", "send_attempt": 1 }),
        json!({ "client_secret": SECRET, "email": "no address", "send_attempt": 1 }),
    ] {
        let got = post(&server, &path, None, wrong.clone()).await;
        assert_eq!((got.0, got.1.as_str()), (400, "M_INVALID_PARAM"), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_mail_server_it_is_said_so() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let email = json!({ "client_secret": SECRET, "email": "a@example.org", "send_attempt": 1 });
    let phone = json!({ "client_secret": SECRET, "country": "GB", "phone_number": "07700900001",
        "send_attempt": 1 });
    for (base, status, errcode) in [
        (REGISTER, 403, "M_THREEPID_DENIED"),
        (PASSWORD, 403, "M_THREEPID_DENIED"),
        (ADDRESSES, 400, "M_THREEPID_MEDIUM_NOT_SUPPORTED"),
    ] {
        let got = post(
            &server,
            &format!("{base}/email/requestToken"),
            None,
            email.clone(),
        )
        .await;
        assert_eq!((got.0, got.1.as_str()), (status, errcode), "{base}");
        let got = post(
            &server,
            &format!("{base}/msisdn/requestToken"),
            None,
            phone.clone(),
        )
        .await;
        assert_eq!(
            (got.0, got.1.as_str()),
            (400, "M_THREEPID_MEDIUM_NOT_SUPPORTED"),
            "{base}"
        );
    }
    let new = json!({ "new_password": "x", "auth": by_email("x") });
    assert_eq!(
        post(&server, PASSWORD, None, new).await.1,
        "M_THREEPID_DENIED"
    );
    let got = post(
        &server,
        &format!("{ADDRESSES}/add"),
        Some(&alice.token),
        creds("x"),
    )
    .await;
    assert_eq!(got.1, "M_THREEPID_MEDIUM_NOT_SUPPORTED");
    assert!(addresses(&server, &alice).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_belongs_to_one_account_at_a_time() {
    let sink = MailSink::start().await;
    let server = TestServer::start_with(&sink.config());
    let alice = server.person("alice").await;
    let bob = server.person("bob").await;
    let mut sids = Vec::new();
    for (n, secret) in ["one", "two"].into_iter().enumerate() {
        let body = json!({ "client_secret": secret, "email": "us@example.org",
            "send_attempt": 1 });
        let path = format!("{ADDRESSES}/email/requestToken");
        let (_, _, answer) = post(&server, &path, None, body).await;
        let link = sink.wait(n + 1).await.link();
        assert_eq!(open(&server, Method::GET, &link).await.0, 200);
        sids.push(answer["sid"].as_str().unwrap().to_owned());
    }
    // The deprecated call asks for no password.
    let add = async |who: &Person, n: usize| {
        let secret = ["one", "two"][n];
        let creds = json!({ "sid": sids[n], "client_secret": secret });
        let body = json!({ "three_pid_creds": creds });
        let (status, errcode, _) = post(&server, ADDRESSES, Some(&who.token), body).await;
        (status, errcode)
    };
    assert_eq!(add(&alice, 0).await.0, 200);
    assert_eq!(add(&bob, 1).await, (400, "M_THREEPID_IN_USE".to_owned()));
    let close = json!({ "auth": owner("correct horse") });
    let path = "/_matrix/client/v3/account/deactivate";
    assert_eq!(post(&server, path, Some(&alice.token), close).await.0, 200);
    let login = json!({ "type": "m.login.password", "password": "correct horse",
        "medium": "email", "address": "us@example.org" });
    assert_eq!(post(&server, LOGIN, None, login).await.0, 403);
    assert_eq!(add(&bob, 1).await.0, 200);
    assert_eq!(addresses(&server, &bob).await, ["us@example.org"]);
}
