//! The real program on a disk that is full, fails, or is the last thing it saw: `faults.c` is
//! preloaded into it. `SKERRY_FAULT_ROUNDS` says how many points are tried (default 16).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Child, Client};

use crate::crash::{API, Storm, escape, register};

/// Compiles `faults.c` into a directory.
fn preload(dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults.c");
    let library = dir.join("faults.so");
    let built = Command::new("clang")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()
        .expect("clang, which also links the program");
    assert!(built.success());
    library
}

fn program() -> PathBuf {
    Child::program().expect("cargo build -p skerry-app, or SKERRY_BIN")
}

/// Someone in a room, who talks.
struct Talker {
    client: Client,
    token: String,
    room: String,
    next: u64,
    acknowledged: Vec<String>,
}

impl Talker {
    async fn start(child: &Child) -> Talker {
        let mut client = Client::connect(child.addr).await.unwrap();
        let person = register(&mut client, "talker").await;
        let token = person.token;
        let path = format!("{API}/createRoom");
        let (status, answer) = client
            .req(Method::POST, &path, Some(&token), Some(&json!({})))
            .await
            .unwrap();
        assert_eq!(status, 200, "{answer}");
        let room = answer["room_id"].as_str().unwrap().to_owned();
        Talker {
            client,
            token,
            room,
            next: 0,
            acknowledged: Vec::new(),
        }
    }

    /// Sends one message: the status, if there was an answer.
    async fn say(&mut self) -> Option<(u16, Value)> {
        self.next += 1;
        let text = format!("number {}", self.next);
        let path = format!(
            "{API}/rooms/{}/send/m.room.message/t{}",
            escape(&self.room),
            self.next
        );
        let body = json!({ "msgtype": "m.text", "body": text });
        let answer = self
            .client
            .req(Method::PUT, &path, Some(&self.token), Some(&body))
            .await?;
        if answer.0 == 200 {
            self.acknowledged.push(text);
        }
        Some(answer)
    }

    /// All texts in the room.
    async fn texts(&mut self) -> Vec<String> {
        let path = format!(
            "{API}/rooms/{}/messages?dir=f&limit=1000",
            escape(&self.room)
        );
        let (status, page) = self
            .client
            .req(Method::GET, &path, Some(&self.token), None)
            .await
            .unwrap();
        assert_eq!(status, 200, "{page}");
        let events = page["chunk"].as_array().unwrap().iter();
        events
            .filter_map(|e| Some(e["content"]["body"].as_str()?.to_owned()))
            .collect()
    }

    /// Everything acknowledged is there once and in order; what failed may be there, once.
    async fn check(&mut self) {
        let texts = self.texts().await;
        let mut unique = texts.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(
            unique.len(),
            texts.len(),
            "something is there twice: {texts:?}"
        );
        let found: Vec<&String> = texts
            .iter()
            .filter(|text| self.acknowledged.contains(text))
            .collect();
        let expected: Vec<&String> = self.acknowledged.iter().collect();
        assert_eq!(found, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_answers_reads_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let (library, flag) = (preload(dir.path()), dir.path().join("full"));
    let environment = [
        ("LD_PRELOAD", library.as_path()),
        ("FAULT_FULL", flag.as_path()),
    ];
    let data = dir.path().join("data");
    let child = Child::launch(&program(), &data, "", &environment)
        .await
        .unwrap();
    let mut talker = Talker::start(&child).await;
    for _ in 0..50 {
        assert_eq!(talker.say().await.unwrap().0, 200);
    }
    for round in 0..3 {
        std::fs::write(&flag, "").unwrap();
        let (status, answer) = talker.say().await.unwrap();
        assert_eq!(
            (status, &answer["errcode"]),
            (507, &json!("M_UNKNOWN")),
            "{round}: {answer}"
        );
        assert!(!answer["error"].as_str().unwrap().is_empty());
        for _ in 0..5 {
            assert_eq!(talker.say().await.unwrap().0, 507);
        }
        talker.check().await;
        std::fs::remove_file(&flag).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while talker.say().await.unwrap().0 != 200 {
            assert!(Instant::now() < deadline, "it does not recover");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for _ in 0..20 {
            assert_eq!(talker.say().await.unwrap().0, 200);
        }
        talker.check().await;
    }
    child.kill();
    let child = Child::start(&program(), &data, "").await;
    talker.client = Client::connect(child.addr).await.unwrap();
    talker.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_stops_the_program_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (library, flag) = (preload(dir.path()), dir.path().join("eio"));
    let environment = [
        ("LD_PRELOAD", library.as_path()),
        ("FAULT_EIO", flag.as_path()),
    ];
    let data = dir.path().join("data");
    let mut child = Child::launch(&program(), &data, "", &environment)
        .await
        .unwrap();
    let mut talker = Talker::start(&child).await;
    for _ in 0..20 {
        assert_eq!(talker.say().await.unwrap().0, 200);
    }
    std::fs::write(&flag, "").unwrap();
    if let Some((status, answer)) = talker.say().await {
        assert!(status >= 500, "{status} {answer}");
    }
    let ended = child
        .ended(Duration::from_secs(20))
        .await
        .expect("it has to end by itself");
    assert!(!ended.success());
    let child = Child::start(&program(), &data, "").await;
    talker.client = Client::connect(child.addr).await.unwrap();
    talker.check().await;
    assert_eq!(talker.say().await.unwrap().0, 200);
}

/// Dies in the middle of the n-th operation on the disk, for many n, also while it starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_at_any_point() {
    let dir = tempfile::tempdir().unwrap();
    let library = preload(dir.path());
    let data = dir.path().join("data");
    let mut storm = Storm::begin(&program(), &data).await;
    let rounds = std::env::var("SKERRY_FAULT_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok());
    for round in 0..rounds.unwrap_or(16_u64) {
        // 1, 2, 4, 7 ...: most of what is special happens at the start and at the first write.
        let n = 1 + round * (round + 1) / 2;
        storm.round_with_death_at(&library, n).await;
    }
}
