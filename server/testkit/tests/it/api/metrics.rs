//! Figures for the operator's monitoring, and what administrators are told of certificates.

use std::path::Path;

use bytes::Bytes;
use http::Method;
use serde_json::json;
use skerry_testkit::TestServer;

/// The folder in which what happened at the CA `https://ca.example/dir` is kept: its host, and the
/// beginning of the URL's SHA-256.
const CA_DIR: &str = "acme/ca.example-1242d0bc";

/// A server that gets a certificate for its name, and could not so far.
fn failing(data: &Path) -> TestServer {
    let token = data.join("metrics_token");
    std::fs::write(&token, "see-it-all\n").unwrap();
    let history = data.join(CA_DIR);
    std::fs::create_dir_all(&history).unwrap();
    let words = json!({
        "failures": 4,
        "challenge": "http-01",
        "words": "urn:ietf:params:acme:error:dns: no \"A\" record",
    });
    std::fs::write(history.join("test.example.json"), words.to_string()).unwrap();
    TestServer::start_as(&format!(
        "server_name = \"test.example\"\ndata_dir = \"{}\"\n\
         [registration]\nopen = true\n[password]\ncost = \"minimal\"\n\
         [acme]\nemail = \"keeper@test.example\"\ndirectory = \"https://ca.example/dir\"\n\
         [server_notices]\nlocalpart = \"server\"\nauto_join = true\n\
         [metrics]\ntoken_file = \"{}\"\n",
        data.display(),
        token.display()
    ))
}

async fn metrics(server: &TestServer, token: Option<&str>) -> (u16, String) {
    let answer = server
        .raw(Method::GET, "/metrics", token, Bytes::new())
        .await;
    let text = String::from_utf8(answer.body().to_vec()).unwrap();
    (answer.status().as_u16(), text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_the_token_sees_the_figures() {
    let data = tempfile::tempdir().unwrap();
    let server = failing(data.path());
    let alice = server.person("alice").await;
    server.sync(&alice, None).await;
    for token in [None, Some("see-it-al"), Some(alice.token.as_str())] {
        let (status, text) = metrics(&server, token).await;
        assert_eq!(status, 401, "{text}");
    }
    let (status, text) = metrics(&server, Some("see-it-all")).await;
    assert_eq!(status, 200);
    for line in [
        "skerry_http_requests_total{class=\"register\",status=\"200\"} 1",
        "skerry_http_requests_total{class=\"sync\",status=\"200\"} 1",
        "skerry_http_requests_total{class=\"house\",status=\"401\"} 3",
        "skerry_certificate_until_seconds{name=\"test.example\",from=\"acme\"} 0",
        "skerry_certificate_failures{name=\"test.example\",challenge=\"http-01\",\
         words=\"urn:ietf:params:acme:error:dns: no \\\"A\\\" record\"} 4",
        "skerry_store_writable 1",
        "skerry_inbox_pdus 0",
        "skerry_outbox_destinations 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
    }
    // Each line is one of the format's: a comment, or a name with labels and a number.
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(
            name.starts_with("skerry_") || name.starts_with("process_"),
            "{line}"
        );
    }
    assert!(!text.contains("alice"), "figures name nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_they_are_on_the_admin_socket_alone() {
    let server = TestServer::start();
    assert_eq!(metrics(&server, None).await.0, 404);
    assert_eq!(server.admin(Method::GET, "/metrics", None).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_are_told_of_a_certificate_that_cannot_be_had() {
    let data = tempfile::tempdir().unwrap();
    let server = failing(data.path());
    let admin = server.person("admin").await;
    let other = server.person("other").await;
    // It looks when it starts, and says it once a day, however often it is started.
    let mut server = server.restart().await;
    for _ in 0..2 {
        let told = loop {
            let sync = server.sync(&admin, None).await;
            let rooms = sync["rooms"]["join"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            let events = rooms.values().flat_map(|room| {
                room["timeline"]["events"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default()
            });
            let texts: Vec<String> = events
                .filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned()))
                .collect();
            if !texts.is_empty() {
                break texts;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("no \"A\" record"), "{told:?}");
        let sync = server.sync(&other, None).await;
        assert!(
            sync["rooms"]["join"].is_null() || sync["rooms"]["join"] == json!({}),
            "{sync}"
        );
        server = server.restart().await;
    }
}
