#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use skerry_core::fixtures::{FakeClock, SeededSource, signing_key};
use skerry_remote::federation::{Carry, Outbound, PeersOptions, Policy};
use skerry_remote::http::{ClientOptions, Guard, SystemResolver, Tls};

use super::*;
use crate::prune::tests::{World, is_here, world_of};
use crate::tests::house_with;

/// What another server says: status, content type, body.
type Said = (u16, &'static str, Vec<u8>);
type Answers = Box<dyn Fn(&str) -> Said + Send + Sync>;

/// The other servers, and what they were asked.
struct Net {
    asked: Mutex<Vec<String>>,
    answers: Answers,
}

impl Carry for Net {
    fn open<'a>(
        &'a self,
        to: &'a str,
        request: Outbound,
    ) -> BoxFuture<'a, Result<Streamed, HttpError>> {
        Box::pin(async move {
            self.asked
                .lock()
                .unwrap()
                .push(format!("{to}{}", request.path));
            // So that those who ask at the same time do.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let (status, kind, body) = (self.answers)(&request.path);
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            let status = StatusCode::from_u16(status).unwrap();
            let max = request.limits.max_response;
            Ok(Streamed::held(status, headers, Bytes::from(body), max))
        })
    }
}

const MIXED: &str = "multipart/mixed; boundary=xYz";

fn in_parts(kind: &str, file: &[u8]) -> Vec<u8> {
    let before = format!(
        "--xYz\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--xYz\r\nContent-Type: {kind}\r\n\
         Content-Disposition: attachment; filename=\"a b.txt\"\r\n\r\n"
    );
    [before.as_bytes(), file, b"\r\n--xYz--\r\n"].concat()
}

fn error(code: &str) -> Vec<u8> {
    format!("{{\"errcode\":\"{code}\",\"error\":\"no\"}}").into_bytes()
}

struct Home {
    world: World,
    net: Arc<Net>,
    remote: RemoteMedia,
}

fn home(answers: impl Fn(&str) -> Said + Send + Sync + 'static) -> Home {
    let world = world_of(house_with(|_| {}));
    let net = Arc::new(Net {
        asked: Mutex::default(),
        answers: Box::new(answers),
    });
    let carry: Arc<dyn Carry> = net.clone();
    let blobs = Arc::clone(&world.home.blobs);
    let peers = Peers::new(PeersOptions {
        own_name: "localhost".into(),
        key: Arc::new(signing_key("localhost")),
        carry,
        policy: Policy::open(),
        store: Arc::clone(&blobs.store),
        clock: Arc::new(FakeClock::default()),
        dice: Arc::new(SeededSource::new(1)),
    })
    .unwrap();
    let guard = Guard::new(false, &[]).unwrap();
    let tls = Arc::new(Tls::new(None).unwrap());
    let resolver = Arc::new(SystemResolver::new());
    let client = Client::new(ClientOptions::new(guard, resolver, tls));
    let remote = RemoteMedia::new((blobs, world.pruner.clone()), peers, client, 1000);
    Home { world, net, remote }
}

impl Home {
    async fn fetch(&self, id: &str) -> Result<(), FetchError> {
        let id = MediaId::parse(id).unwrap();
        self.remote.fetch("a.example", &id, Duration::ZERO).await
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.net.asked.lock().unwrap())
    }

    fn found(&self, id: &str) -> (String, Option<String>, u64) {
        let id = MediaId::parse(id).unwrap();
        let media = self.remote.blobs.find("a.example", &id).unwrap().media;
        (media.content_type, media.name, media.size)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_ask_at_once_make_one_fetch() {
    let home = home(|_| (200, MIXED, in_parts("text/plain", b"a file")));
    let home = Arc::new(home);
    let asking = (0..20).map(|_| {
        let home = Arc::clone(&home);
        tokio::spawn(async move { home.fetch("x").await })
    });
    for asked in asking.collect::<Vec<_>>() {
        asked.await.unwrap().unwrap();
    }
    home.fetch("x").await.unwrap();
    let path = "a.example/_matrix/federation/v1/media/download/x?timeout_ms=0";
    assert_eq!(home.asked(), [path]);
    let name = Some("a b.txt".to_owned());
    assert_eq!(home.found("x"), ("text/plain".to_owned(), name, 6));
    assert!(is_here(&home.remote.blobs, "a.example", "x"));
    home.world.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_servers_are_asked_as_they_know_it() {
    let home = home(|path| match path {
        path if path.starts_with("/_matrix/federation/") => {
            (404, "application/json", error("M_UNRECOGNIZED"))
        }
        path if path.starts_with("/_matrix/media/r0/") => (200, "text/plain", b"old".to_vec()),
        _ => (404, "text/html", b"<html>".to_vec()),
    });
    home.fetch("x").await.unwrap();
    assert_eq!(home.asked().len(), 3);
    assert_eq!(home.found("x").2, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_had_is_said_and_not_kept() {
    let home = home(|path| {
        let id = path.rsplit_once("download/").map_or("", |(_, rest)| rest);
        match id.split('?').next().unwrap() {
            "none" => (404, "application/json", error("M_NOT_FOUND")),
            "later" => (504, "application/json", error("M_NOT_YET_UPLOADED")),
            "huge" => (200, MIXED, in_parts("text/plain", &[1; 1001])),
            "cut" => (200, MIXED, in_parts("text/plain", b"cut")[..100].to_vec()),
            "odd" => (200, "text/plain", b"not in parts".to_vec()),
            _ => (500, "text/plain", Vec::new()),
        }
    });
    assert!(matches!(
        home.fetch("none").await,
        Err(FetchError::NotFound)
    ));
    assert!(matches!(home.fetch("later").await, Err(FetchError::NotYet)));
    assert!(matches!(
        home.fetch("huge").await,
        Err(FetchError::TooLarge(1000))
    ));
    for bad in ["cut", "odd", "broken"] {
        assert!(
            matches!(home.fetch(bad).await, Err(FetchError::Failed(_))),
            "{bad}"
        );
    }
    home.world.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_said_of_a_file_is_believed() {
    let dot = {
        let mut out = std::io::Cursor::new(Vec::new());
        image::DynamicImage::new_rgb8(1, 1)
            .write_to(&mut out, image::ImageFormat::Png)
            .unwrap();
        out.into_inner()
    };
    let home = home(move |path| match path.contains("picture") {
        true => (200, MIXED, in_parts("text/html", &dot)),
        false => (200, MIXED, in_parts("image/png", b"<script>")),
    });
    home.fetch("picture").await.unwrap();
    home.fetch("script").await.unwrap();
    assert_eq!(home.found("picture").0, "image/png");
    assert_eq!(home.found("script").0, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_elsewhere_is_asked_through_the_guard() {
    let home = home(|_| {
        let parts =
            "--xYz\r\n\r\n{}\r\n--xYz\r\nLocation: https://127.0.0.1:1/x\r\n\r\n\r\n--xYz--";
        (200, MIXED, parts.as_bytes().to_vec())
    });
    let Err(FetchError::Failed(why)) = home.fetch("x").await else {
        panic!("it was fetched");
    };
    assert!(why.contains("not on the public internet"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocked_media_is_not_fetched_and_blocked_bytes_are_not_kept() {
    let home = home(|_| (200, MIXED, in_parts("text/plain", b"bad")));
    let blobs = &home.remote.blobs;
    let id = MediaId::parse("x").unwrap();
    blobs.block("a.example".to_owned(), id).await.unwrap();
    assert!(matches!(home.fetch("x").await, Err(FetchError::NotFound)));
    assert_eq!(home.asked().len(), 0);
    let hash = *blake3::hash(b"bad").as_bytes();
    blobs.block_hash(hash, true).await.unwrap();
    assert!(matches!(home.fetch("y").await, Err(FetchError::NotFound)));
    assert_eq!(home.asked().len(), 1);
    home.world.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_here_is_fetched_again() {
    let home = home(|_| (200, MIXED, in_parts("text/plain", b"bytes")));
    home.fetch("x").await.unwrap();
    let path = home.world.home.place(b"bytes");
    std::fs::remove_file(path).unwrap();
    home.fetch("x").await.unwrap();
    assert_eq!(home.asked().len(), 2);
    assert!(is_here(&home.remote.blobs, "a.example", "x"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_copies_are_kept_within_their_budget() {
    let home = home(|path| {
        let id = path.split('?').next().unwrap();
        let n = id.bytes().last().unwrap();
        (200, MIXED, in_parts("text/plain", &[n; 100]))
    });
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let pruner = home.world.pruner.clone();
    let keeping = tokio::spawn(async move { pruner.keep_budget(320, stopping).await });
    for n in 2..9 {
        home.fetch(&format!("x{n}")).await.unwrap();
        home.world.pass(1000);
    }
    let left = || {
        let snap = home.remote.blobs.store.newest();
        snap.scan::<MediaTable>(skerry_store::Scan::all()).count()
    };
    for _ in 0..500 {
        if left() <= 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!((2..=3).contains(&left()), "{}", left());
    assert!(is_here(&home.remote.blobs, "a.example", "x8"));
    stop.send_replace(true);
    keeping.await.unwrap();
}
