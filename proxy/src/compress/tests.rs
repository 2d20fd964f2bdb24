#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
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
fn who_is_given_which() {
    use Coding::{Brotli, Gzip, Zstd};
    for (value, is) in [
        ("gzip", Some(Gzip)),
        ("x-gzip", Some(Gzip)),
        ("gzip, deflate, br, zstd", Some(Zstd)),
        ("gzip, deflate, br", Some(Brotli)),
        ("GZIP, BR;q=0", Some(Gzip)),
        ("br;q=0.5, gzip", Some(Gzip)),
        ("zstd;q=0.2, br;q=0.5, gzip;q=0.5", Some(Brotli)),
        ("gzip;q=0", None),
        ("gzip; q=0.0, *", Some(Zstd)),
        ("*, zstd;q=0, br;q=0", Some(Gzip)),
        ("*", Some(Zstd)),
        ("*;q=0, br", Some(Brotli)),
        ("identity", None),
        ("", None),
        ("gzip;q=x", None),
        ("gzip;q=NaN, br;q=7", None),
        ("notgzip", None),
    ] {
        let asked = headers(&[("accept-encoding", value)]);
        assert_eq!(Coding::chosen(&asked), is, "{value}");
    }
    assert_eq!(Coding::chosen(&HeaderMap::new()), None);
    let several = headers(&[("accept-encoding", "gzip"), ("accept-encoding", "br")]);
    assert_eq!(Coding::chosen(&several), Some(Brotli));
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
    assert!(is(&packed("text/css; charset=utf-8", &[], 5000)));
    assert!(is(&packed("image/svg+xml", &[], 5000)));
    for kind in [
        "text/html; charset=utf-8",
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

fn unpacked(coding: Coding, packed: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    match coding {
        Coding::Gzip => {
            let mut reader = flate2::read::GzDecoder::new(packed);
            reader.read_to_end(&mut found).unwrap();
        }
        Coding::Brotli => {
            let mut reader = brotli::Decompressor::new(packed, 4096);
            reader.read_to_end(&mut found).unwrap();
        }
        Coding::Zstd => {
            let mut context = zstd_safe::DCtx::create();
            let mut input = zstd_safe::InBuffer::around(packed);
            let mut room = vec![0; 1 << 16];
            loop {
                let mut output = zstd_safe::OutBuffer::around(&mut room[..]);
                let left = context.decompress_stream(&mut output, &mut input).unwrap();
                found.extend_from_slice(output.as_slice());
                if left == 0 {
                    break;
                }
            }
            assert_eq!(input.pos(), packed.len(), "something follows the end");
        }
    }
    found
}

const ALL: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

/// Run with `--release --nocapture` it says what each costs.
#[tokio::test]
async fn it_is_the_same_when_unpacked_and_what_it_costs() {
    for events in [0, 5, 100, 4000] {
        let plain = json(events);
        for coding in ALL {
            let begun = Instant::now();
            let encoder = Encoder::new(coding, Some(plain.len() as u64)).unwrap();
            let bytes = all(Body::new(Packed::new(Body::from(plain.clone()), encoder))).await;
            println!(
                "{coding:?}: {} bytes: {} packed, in {:?}",
                plain.len(),
                bytes.len(),
                begun.elapsed()
            );
            assert!(unpacked(coding, &bytes) == plain, "{coding:?}, {events}");
            assert!(events < 100 || bytes.len() * 2 < plain.len());
        }
    }
}

/// A body that says a piece each time it is asked again, and in between nothing.
struct Slow {
    left: usize,
    asked: AtomicUsize,
}

impl HttpBody for Slow {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(
            b"a piece of text ",
        )))))
    }
}

#[tokio::test]
async fn what_was_said_does_not_wait_for_what_comes_next() {
    for coding in ALL {
        let slow = Slow {
            left: 5,
            asked: AtomicUsize::new(0),
        };
        let encoder = Encoder::new(coding, None).unwrap();
        let mut body = Body::new(Packed::new(Body::new(slow), encoder));
        let (mut frames, mut found) = (0, Vec::new());
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        {
            frames += 1;
            found.extend_from_slice(frame.unwrap().data_ref().unwrap());
        }
        assert!(frames >= 5, "{coding:?}: {frames} frames");
        let text = unpacked(coding, &found);
        assert_eq!(text, b"a piece of text ".repeat(5), "{coding:?}");
    }
}
