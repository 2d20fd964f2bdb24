#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use axum::Router;
use axum::routing::get;
use skerry_remote::http::Request;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::super::{outside, services};
use super::*;

/// Serves these fixed answers on this machine.
async fn serve(answers: &'static [(&'static str, &'static str)]) -> SocketAddr {
    let mut router = Router::new();
    for (path, answer) in answers {
        let headers = [("access-control-allow-origin", "*")];
        router = router.route(path, get(move || async move { (headers, *answer) }));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

const VERSIONS: &str = "/_matrix/client/versions";

#[tokio::test]
async fn base_url_leads_to_this_server_or_to_another() {
    let ours = serve(&[(VERSIONS, r#"{"versions":["v1.1"]}"#)]).await;
    let other = serve(&[(VERSIONS, r#"{"versions":["r0.0.1"]}"#)]).await;
    let nothing = serve(&[]).await;
    let no_matrix = serve(&[(VERSIONS, "<html>")]).await;
    let ask = async |base: SocketAddr| {
        let config = config(&format!(
            "server_name = \"localhost\"\n[[listen]]\naddr = \"{ours}\"\n\
             [public]\nbase_url = \"http://home.localhost:{}\"\n",
            base.port()
        ));
        let mut found = Vec::new();
        let tools = tools(&[("home.localhost", "127.0.0.1 ::1")]);
        let mut dates = Vec::new();
        outside::base_url(&config, &tools, &mut dates, &mut |f| found.push(f)).await;
        assert!(dates.iter().all(|told| told.here));
        found
    };
    let found = ask(ours).await;
    // Nobody listens at the other address of this machine, which is no fault.
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        the(&found, "base_url", "as this server").verdict,
        Verdict::Ok
    );
    let found = ask(other).await;
    assert_eq!(
        the(&found, "base_url", "another Matrix server").verdict,
        Verdict::Wrong
    );
    let found = ask(nothing).await;
    assert_eq!(the(&found, "base_url", "404").verdict, Verdict::Wrong);
    let found = ask(no_matrix).await;
    assert_eq!(
        the(&found, "base_url", "no Matrix server").verdict,
        Verdict::Wrong
    );
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let found = ask(address).await;
    assert_eq!(the(&found, "base_url", "listen").verdict, Verdict::Wrong);
}

#[tokio::test]
async fn well_knowns() {
    let address = serve(&[
        (
            "/good",
            r#"{"m.homeserver":{"base_url":"https://matrix.example.org/"}}"#,
        ),
        (
            "/wrong",
            r#"{"m.homeserver":{"base_url":"https://old.example.org"}}"#,
        ),
        ("/empty", "{}"),
    ])
    .await;
    let delegated = config(
        "server_name = \"example.org\"\n[public]\nbase_url = \"https://matrix.example.org\"\n",
    );
    let tools = tools(&[]);
    let ask = async |path: &str, config: &Config| {
        let url = format!("http://{address}{path}");
        let answer = tools.client.send(Request::get(&url)).await;
        outside::judge_well_known(&url, answer.as_ref(), config, true)
    };
    assert_eq!(ask("/good", &delegated).await.verdict, Verdict::Ok);
    let wrong = ask("/wrong", &delegated).await;
    assert_eq!(wrong.verdict, Verdict::Wrong);
    assert!(
        wrong.what.contains("https://old.example.org"),
        "{}",
        wrong.line()
    );
    assert!(
        wrong.advice.contains("https://matrix.example.org"),
        "{}",
        wrong.line()
    );
    assert_eq!(ask("/empty", &delegated).await.verdict, Verdict::Wrong);
    assert_eq!(ask("/gone", &delegated).await.verdict, Verdict::Wrong);
    let plain = config("server_name = \"example.org\"");
    assert_eq!(ask("/gone", &plain).await.verdict, Verdict::Warn);
    // Nobody answers at a public address, as behind a router that does not lead back.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", closed.local_addr().unwrap());
    drop(closed);
    let answer = tools.client.send(Request::get(&url)).await;
    let judge =
        |public| outside::judge_well_known(&url, answer.as_ref(), &delegated, public).verdict;
    assert_eq!(judge(true), Verdict::Unknown);
    assert_eq!(judge(false), Verdict::Wrong);
}

#[tokio::test]
async fn a_data_directory_that_went_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let text = |floor: &str| {
        format!(
            "data_dir = \"{}\"\n[media]\nfree_disk_floor = \"{floor}\"\n",
            data.display()
        )
    };
    let gone = findings(&config(&text("0")), &tools(&[])).await;
    assert_eq!(the(&gone, "data", "is not there").verdict, Verdict::Warn);
    assert_eq!(the(&gone, "server", "does not run").verdict, Verdict::Wrong);
    std::fs::create_dir_all(data.join("db")).unwrap();
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&data, 0o700);
    for name in ["signing.key", "vapid.key"] {
        std::fs::write(data.join(name), "x").unwrap();
        mode(&data.join(name), 0o600);
    }
    // Nobody, not even root, reads a directory as a file.
    std::fs::create_dir(data.join("registration_token")).unwrap();
    mode(&data.join("vapid.key"), 0o644);
    let found = findings(&config(&text("100000GiB")), &tools(&[])).await;
    let missing = the(&found, "data", "pepper cannot be used");
    assert!(missing.advice.contains("backup"));
    let open = the(&found, "data", "can read");
    assert!(open.advice.starts_with("chmod 600") && open.advice.ends_with("vapid.key"));
    let unreadable = the(&found, "data", "registration_token cannot be read");
    assert_eq!(unreadable.verdict, Verdict::Wrong);
    let full = the(&found, "disk", "not more than the floor");
    assert_eq!(full.verdict, Verdict::Wrong);
    std::fs::remove_dir(data.join("registration_token")).unwrap();
    std::fs::write(data.join("pepper"), "x").unwrap();
    for name in ["pepper", "vapid.key"] {
        mode(&data.join(name), 0o600);
    }
    let found = findings(&config(&text("0")), &tools(&[])).await;
    assert_eq!(the(&found, "data", "its owner alone").verdict, Verdict::Ok);
    assert_eq!(the(&found, "disk", "are free").verdict, Verdict::Ok);
}

/// A server that says one thing to everybody.
async fn greets(word: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(word.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn mail_calls_and_bridges() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("short"), "short\n").unwrap();
    std::fs::write(
        path("irc.yaml"),
        "id: irc\nurl: null\nas_token: a\nhs_token: b\nsender_localpart: bot\nnamespaces: {}\n",
    )
    .unwrap();
    let ask = async |mail: SocketAddr, from: &str| {
        let text = format!(
            "server_name = \"example.org\"\nappservice_registrations = [\"{}\"]\n\
             [email]\nhost = \"localhost.example\"\nport = {}\nfrom = \"{from}\"\n\
             [turn]\nuris = [\"turn:relay.example\", \"turn:gone.example\", \"turn:a:b\"]\n\
             shared_secret_file = \"{}\"\n\
             [livekit]\nurl = \"ws://relay.example\"\nkey = \"k\"\nsecret_file = \"{}\"\n",
            path("irc.yaml"),
            mail.port(),
            path("none"),
            path("short"),
        );
        let names = [
            ("localhost.example", "127.0.0.1"),
            ("relay.example", "192.168.1.2"),
        ];
        let mut found = Vec::new();
        services::look(&config(&text), &tools(&names), &mut |f| found.push(f)).await;
        found
    };
    let mail = greets("220 mail.example ESMTP\r\n").await;
    let found = ask(mail, "Skerry <no-reply@example.org>").await;
    assert_eq!(
        the(&found, "email", "takes connections").verdict,
        Verdict::Ok
    );
    assert_eq!(
        the(&found, "turn", "none: No such file").verdict,
        Verdict::Wrong
    );
    assert_eq!(
        the(&found, "turn", "private address").verdict,
        Verdict::Warn
    );
    assert_eq!(the(&found, "turn", "no such name").verdict, Verdict::Wrong);
    assert_eq!(
        the(&found, "turn", "port is not a number").verdict,
        Verdict::Wrong
    );
    assert_eq!(
        the(&found, "livekit", "shorter than 32").verdict,
        Verdict::Warn
    );
    assert_eq!(
        the(&found, "livekit", "without TLS").verdict,
        Verdict::Wrong
    );
    assert_eq!(the(&found, "appservices", "irc").verdict, Verdict::Ok);
    assert!(
        !found
            .iter()
            .any(|finding| finding.line().contains("short\n"))
    );
    let found = ask(mail, "nobody").await;
    assert_eq!(the(&found, "email", "nobody").verdict, Verdict::Wrong);
    let found = ask(greets("HTTP/1.1 400\r\n").await, "a@example.org").await;
    assert_eq!(
        the(&found, "email", "no mail server").verdict,
        Verdict::Wrong
    );
}
