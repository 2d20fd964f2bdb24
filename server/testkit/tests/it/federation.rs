//! Several servers that talk with each other.

mod across;
mod histories;
mod inbound;
mod media;
mod pair;
mod people;
mod policy;
mod requests;
mod speed;

use std::time::Duration;

use http::Method;
use skerry_testkit::{Person, TestServer};

/// A name as one segment of a path.
fn escape(text: &str) -> String {
    let escaped = text.bytes().map(|b| match b {
        b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    });
    escaped.collect()
}

/// Waits until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    for _ in 0..600 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came to this: {what}");
}

/// The texts in a room, newest first, as far as it can be paged back.
pub(crate) async fn texts(server: &TestServer, who: &Person, room: &str) -> Vec<String> {
    let room = escape(room);
    let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=50");
    let (mut found, mut from) = (Vec::new(), String::new());
    for _ in 0..20 {
        let path = format!("{path}{from}");
        let page = server.ok(Method::GET, &path, Some(&who.token), None).await;
        let chunk = page["chunk"].as_array().unwrap().iter();
        let bodies = chunk.filter_map(|event| event["content"]["body"].as_str());
        found.extend(bodies.map(str::to_owned));
        match page["end"].as_str() {
            Some(end) => from = format!("&from={}", escape(end)),
            None => break,
        }
    }
    found
}
