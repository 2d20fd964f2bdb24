//! Everything that other servers may send, changed by chance: some thousand times here, and as
//! often as one likes with cargo-fuzz (`server/testkit/fuzz`).

use serde_json::json;
use skerry_testkit::fuzz::{Mutator, TARGETS, samples};
use skerry_testkit::{Network, Stranger};

/// Inputs for each target; `SKERRY_FUZZ_ROUNDS` says another number.
const ROUNDS: u64 = 300;
/// The same where everything is tested.
const MANY_ROUNDS: u64 = 4_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn rounds() -> u64 {
    let everything = std::env::var_os("SKERRY_TEST_EVERYTHING").is_some();
    let usual = if everything { MANY_ROUNDS } else { ROUNDS };
    number("SKERRY_FUZZ_ROUNDS").unwrap_or(usual)
}

/// Says which input it was, if it was one too many.
struct Replay<'a>(&'a str, u64, &'a [u8]);

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Replay(target, seed, input) = self;
            let shown = String::from_utf8_lossy(input.get(..2_000).unwrap_or(input));
            eprintln!("{target}, again with SKERRY_SEED={seed}: {shown}");
        }
    }
}

fn drive(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(n, _)| *n == name).unwrap();
    let samples = samples(name);
    // What is good is good.
    samples.iter().for_each(|sample| target(sample));
    let seeds = match number("SKERRY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..rounds(),
    };
    for seed in seeds {
        let input = Mutator::new(seed, samples.clone()).next_input();
        let _replay = Replay(name, seed, &input);
        target(&input);
    }
}

#[test]
fn pdus() {
    drive("pdu");
}

#[test]
fn transactions() {
    drive("transaction");
}

#[test]
fn answers_to_joins() {
    drive("send_join");
}

#[test]
fn authorization_headers() {
    drive("x_matrix");
}

#[test]
fn well_knowns() {
    drive("well_known");
}

#[test]
fn answers_about_keys() {
    drive("key_answer");
}

/// Transactions of a server in a room, changed by chance and signed as they are: each is answered,
/// none with a fault of ours, and what is said in between is heard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_sends_nonsense_is_answered_and_keeps_nobody_waiting() {
    const ONE: &str = "one.example";
    let network = Network::new(1);
    let one = network.server(ONE, "");
    let alice = one.person("alice").await;
    let room = one.room(&alice, json!({ "preset": "public_chat" })).await;
    let other = Stranger::new(&network, "other.example");
    let eve = other.user("eve");
    let mut entered = other.join(ONE, &room, &eve).await;
    let said: Vec<String> = (0..3)
        .map(|n| other.message(&mut entered, &eve, &format!("{n}")))
        .map(|event| event.json().to_owned())
        .collect();
    let mut of_room = samples("transaction");
    of_room.push(format!("{{\"edus\":[],\"pdus\":[{}]}}", said.join(",")).into_bytes());
    let rounds = rounds() / 4;
    for seed in 0..rounds {
        let input = Mutator::new(seed, of_room.clone()).next_input();
        let _replay = Replay("a transaction", seed, &input);
        let Ok(text) = std::str::from_utf8(&input) else {
            continue;
        };
        let path = format!("/_matrix/federation/v1/send/{seed}");
        let asked = other.ask(ONE, http::Method::PUT, &path, Some(text));
        let (status, answer) = asked.await;
        let fine = matches!(status, 200 | 400 | 401 | 413 | 429);
        assert!(fine, "{status}: {answer}");
    }
    let last = other.message(&mut entered, &eve, "still here");
    let all: Vec<&str> = said.iter().map(String::as_str).collect();
    other.send(ONE, "before", &all, &[]).await;
    other.send(ONE, "last", &[last.json()], &[]).await;
    super::federation::until("eve is heard", async || {
        let heard = super::federation::texts(&one, &alice, &room).await;
        heard.contains(&"still here".to_owned())
    })
    .await;
}
