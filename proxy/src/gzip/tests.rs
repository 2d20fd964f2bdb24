#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;
use std::time::Instant;

use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

#[test]
fn who_takes_gzip() {
    for (value, is) in [
        ("gzip", true),
        ("br, gzip;q=0.5", true),
        ("gzip;q=0", false),
        ("gzip; q=0.0, *", false),
        ("*", true),
        ("identity", false),
        ("", false),
        ("gzip;q=x", false),
        ("notgzip", false),
    ] {
        assert_eq!(
            takes_gzip(&headers(&[("accept-encoding", value)])),
            is,
            "{value}"
        );
    }
    assert!(!takes_gzip(&HeaderMap::new()));
}

fn packed(kind: &'static str, more: &[(&'static str, &'static str)], size: usize) -> HeaderMap {
    let mut response = Response::new(Body::from(vec![b'x'; size]));
    *response.headers_mut() = headers(more);
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    let asked = headers(&[("accept-encoding", "gzip")]);
    pack(Asker::of(&Method::GET, &asked), response)
        .headers()
        .clone()
}

#[test]
fn what_is_packed() {
    let is = |headers: &HeaderMap| headers.contains_key(CONTENT_ENCODING);
    assert!(is(&packed("application/json", &[], 1025)));
    assert!(!is(&packed("application/json", &[], 1024)));
    assert!(is(&packed("text/html; charset=utf-8", &[], 5000)));
    assert!(is(&packed("image/svg+xml", &[], 5000)));
    for kind in [
        "image/png",
        "video/mp4",
        "application/zip",
        "application/octet-stream",
    ] {
        assert!(!is(&packed(kind, &[], 5000)), "{kind}");
    }
    let file = [("content-disposition", "inline")];
    assert!(!is(&packed("text/plain", &file, 5000)));
    let already = packed("text/css", &[("content-encoding", "br")], 5000);
    assert_eq!(already["content-encoding"], "br");
    let tagged = [
        ("etag", "\"a\""),
        ("vary", "Accept-Encoding"),
        ("content-length", "5000"),
    ];
    let tagged = packed("text/css", &tagged, 5000);
    assert_eq!(tagged["etag"], "W/\"a\"");
    assert_eq!(tagged.get_all(VARY).iter().count(), 1);
    assert!(!tagged.contains_key(CONTENT_LENGTH));
    assert_eq!(packed("text/css", &[], 5000)["vary"], "accept-encoding");
}

/// Text as an answer to `/sync` has it.
fn json(events: usize) -> Vec<u8> {
    let mut seed = 7_u64;
    let mut word = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        format!("{:011x}", seed >> 20)
    };
    let event = |id: String, body: String, user: usize| {
        format!(
            "{{\"type\":\"m.room.message\",\"sender\":\"@user{user}:example.org\",\"event_id\":\
             \"${id}{body}{id}\",\"origin_server_ts\":17{user:011},\"content\":{{\"msgtype\":\
             \"m.text\",\"body\":\"the {body} said something about {user}\"}},\"unsigned\":{{}}}}"
        )
    };
    let list: Vec<String> = (0..events).map(|n| event(word(), word(), n % 40)).collect();
    format!("{{\"events\":[{}]}}", list.join(",")).into_bytes()
}

async fn all(mut body: Body) -> Vec<u8> {
    let mut found = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        found.extend_from_slice(frame.unwrap().data_ref().unwrap());
    }
    found
}

#[tokio::test]
async fn it_is_the_same_when_unpacked_and_what_it_costs() {
    for events in [0, 5, 100, 4000] {
        let plain = json(events);
        let begun = Instant::now();
        let bytes = all(Body::new(Packed::new(Body::from(plain.clone())))).await;
        println!(
            "{} bytes: {} packed, in {:?}",
            plain.len(),
            bytes.len(),
            begun.elapsed()
        );
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(bytes.as_slice())
            .read_to_end(&mut unpacked)
            .unwrap();
        assert!(unpacked == plain);
        assert!(events < 100 || bytes.len() * 2 < plain.len());
    }
}
