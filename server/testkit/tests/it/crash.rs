//! The real program, killed at any moment, again and again: whatever it acknowledged is there
//! afterwards, once and in order, and what is sent again makes no second copy.
//!
//! `SKERRY_CRASH_ROUNDS` says how often (default 12), `SKERRY_CRASH_SEED` repeats a run's moments.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Child, Client};
use tokio::task::JoinHandle;

const SENDERS: usize = 8;
/// Of so many messages, one is followed by a delayed event; and of more, one by a report.
const DELAYED_EVERY: u64 = 4;
/// See [`DELAYED_EVERY`].
const REPORTED_EVERY: u64 = 32;
pub(crate) const API: &str = "/_matrix/client/v3";

/// Someone who uses the server.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) user_id: String,
    pub(crate) token: String,
}

/// What one sender did in one round, as far as it was answered.
#[derive(Default)]
struct Done {
    /// Acknowledged messages: number and event id, in order.
    messages: Vec<(u64, String)>,
    /// Acknowledged messages to the listener's device.
    to_device: Vec<u64>,
    /// The event of the last acknowledged receipt, and of one that was under way at the end.
    receipt: (Option<String>, Option<String>),
    /// The last acknowledged value of account data, and one that was under way at the end.
    account_data: (Option<u64>, Option<u64>),
    /// Acknowledged delayed events.
    delayed: Vec<u64>,
    /// Acknowledged reports, and whether one was under way at the end.
    reports: (u64, bool),
    /// The transaction that was under way at the end: what and its number.
    open: Option<(&'static str, u64)>,
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        // Numerical Recipes' constants; chance enough to pick a moment.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

pub(crate) fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

async fn ok(
    client: &mut Client,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> Value {
    let (status, answer) = client
        .req(method, path, token, body)
        .await
        .expect("an answer");
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

pub(crate) async fn register(client: &mut Client, name: &str) -> Person {
    let body = json!({ "username": name, "password": "p", "auth": { "type": "m.login.dummy" } });
    let answer = ok(
        client,
        Method::POST,
        &format!("{API}/register"),
        None,
        Some(&body),
    )
    .await;
    Person {
        user_id: answer["user_id"].as_str().unwrap().into(),
        token: answer["access_token"].as_str().unwrap().into(),
    }
}

/// A room that everybody is in.
async fn make_room(client: &mut Client, people: &[Person], listener: &Person) -> String {
    let body = json!({ "preset": "public_chat" });
    let path = format!("{API}/createRoom");
    let answer = ok(
        client,
        Method::POST,
        &path,
        Some(&listener.token),
        Some(&body),
    )
    .await;
    let room = answer["room_id"].as_str().unwrap().to_owned();
    for person in people {
        let path = format!("{API}/join/{}", escape(&room));
        ok(
            client,
            Method::POST,
            &path,
            Some(&person.token),
            Some(&json!({})),
        )
        .await;
    }
    room
}

fn message_path(room: &str, who: usize, round: u64, n: u64) -> String {
    format!(
        "{API}/rooms/{}/send/m.room.message/r{round}s{who}n{n}",
        escape(room)
    )
}

fn message(who: usize, n: u64) -> Value {
    json!({ "msgtype": "m.text", "body": format!("{who} {n}") })
}

fn to_device_path(who: usize, round: u64, n: u64) -> String {
    format!("{API}/sendToDevice/test.storm/r{round}s{who}d{n}")
}

fn to_device(listener: &Person, who: usize, n: u64) -> Value {
    json!({ "messages": { &listener.user_id: { "*": { "who": who, "n": n } } } })
}

/// Some come before the server is killed, some while it is not there.
fn delayed_path(room: &str, who: usize, round: u64, n: u64) -> String {
    let delay = 1 + n * 37 % 300;
    format!(
        "{API}/rooms/{}/send/test.delayed/r{round}s{who}l{n}?org.matrix.msc4140.delay={delay}",
        escape(room)
    )
}

/// Sends as fast as it is answered, until the connection breaks.
async fn storm(
    addr: SocketAddr,
    who: usize,
    me: Arc<(Person, Person)>,
    room: String,
    round: u64,
) -> Done {
    let (person, listener) = &*me;
    let token = Some(person.token.as_str());
    let mut done = Done::default();
    let Some(mut client) = Client::connect(addr).await else {
        return done;
    };
    for n in 0.. {
        done.open = Some(("message", n));
        let path = message_path(&room, who, round, n);
        let Some((200, sent)) = client
            .req(Method::PUT, &path, token, Some(&message(who, n)))
            .await
        else {
            return done;
        };
        let event = sent["event_id"].as_str().unwrap().to_owned();
        done.messages.push((n, event.clone()));

        done.open = Some(("to_device", n));
        let body = to_device(listener, who, n);
        let path = to_device_path(who, round, n);
        let Some((200, _)) = client.req(Method::PUT, &path, token, Some(&body)).await else {
            return done;
        };
        done.to_device.push(n);
        done.open = None;

        done.receipt.1 = Some(event.clone());
        let path = format!(
            "{API}/rooms/{}/receipt/m.read/{}",
            escape(&room),
            escape(&event)
        );
        let Some((200, _)) = client
            .req(Method::POST, &path, token, Some(&json!({})))
            .await
        else {
            return done;
        };
        done.receipt = (done.receipt.1.take(), None);

        let value = round * 1_000_000 + n;
        done.account_data.1 = Some(value);
        let path = format!(
            "{API}/user/{}/account_data/test.storm",
            escape(&person.user_id)
        );
        let body = json!({ "value": value });
        let Some((200, _)) = client.req(Method::PUT, &path, token, Some(&body)).await else {
            return done;
        };
        done.account_data = (Some(value), None);

        if n % DELAYED_EVERY == 0 {
            done.open = Some(("delayed", n));
            let path = delayed_path(&room, who, round, n);
            let body = message(who, n);
            let Some((200, _)) = client.req(Method::PUT, &path, token, Some(&body)).await else {
                return done;
            };
            done.delayed.push(n);
            done.open = None;
        }
        if n % REPORTED_EVERY == 0 {
            done.reports.1 = true;
            let path = format!("{API}/users/{}/report", escape(&listener.user_id));
            let body = json!({ "reason": "noise" });
            let Some((200, _)) = client.req(Method::POST, &path, token, Some(&body)).await else {
                return done;
            };
            done.reports = (done.reports.0 + 1, false);
        }
    }
    done
}

/// All texts of a room with their event ids, oldest first.
async fn timeline(client: &mut Client, room: &str, token: &str) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    let mut from = String::new();
    loop {
        let path = format!(
            "{API}/rooms/{}/messages?dir=f&limit=500{from}",
            escape(room)
        );
        let page = ok(client, Method::GET, &path, Some(token), None).await;
        let chunk = page["chunk"].as_array().unwrap();
        for event in chunk
            .iter()
            .filter(|event| event["type"] == "m.room.message")
        {
            let text = event["content"]["body"].as_str().unwrap().to_owned();
            texts.push((text, event["event_id"].as_str().unwrap().to_owned()));
        }
        match page["end"].as_str() {
            Some(end) if !chunk.is_empty() => from = format!("&from={}", escape(end)),
            _ => return texts,
        }
    }
}

/// Sends again what nobody knows the outcome of; afterwards it counts as acknowledged.
async fn send_again(
    client: &mut Client,
    done: &mut Done,
    who: usize,
    me: &(Person, Person),
    room: &str,
    round: u64,
) {
    let token = Some(me.0.token.as_str());
    match done.open.take() {
        Some(("message", n)) => {
            let (path, body) = (message_path(room, who, round, n), message(who, n));
            let sent = ok(client, Method::PUT, &path, token, Some(&body)).await;
            done.messages
                .push((n, sent["event_id"].as_str().unwrap().into()));
        }
        Some(("delayed", n)) => {
            let path = delayed_path(room, who, round, n);
            ok(client, Method::PUT, &path, token, Some(&message(who, n))).await;
            done.delayed.push(n);
        }
        Some((_, n)) => {
            let (path, body) = (to_device_path(who, round, n), to_device(&me.1, who, n));
            ok(client, Method::PUT, &path, token, Some(&body)).await;
            done.to_device.push(n);
        }
        None => {}
    }
    // And once more something that was acknowledged: the answer has to be the same event.
    if let Some((n, event)) = done.messages.last() {
        let (path, body) = (message_path(room, who, round, *n), message(who, *n));
        let again = ok(client, Method::PUT, &path, token, Some(&body)).await;
        assert_eq!(
            again["event_id"].as_str(),
            Some(event.as_str()),
            "another event for {path}"
        );
    }
}

/// Everything acknowledged is in the timeline, once, in each sender's order, and nothing else.
fn check_timeline(found: &[(String, String)], all: &[Done]) {
    for (who, done) in all.iter().enumerate() {
        let prefix = format!("{who} ");
        let of_sender: Vec<&(String, String)> = found
            .iter()
            .filter(|(text, _)| text.starts_with(&prefix))
            .collect();
        let expected: Vec<(String, String)> = done
            .messages
            .iter()
            .map(|(n, event)| (format!("{who} {n}"), event.clone()))
            .collect();
        let found: Vec<(String, String)> = of_sender.into_iter().cloned().collect();
        assert_eq!(found, expected, "sender {who}");
    }
}

/// Every delayed event that was acknowledged is sent, also if its time came while the server was
/// not there, and once.
async fn check_delayed(client: &mut Client, room: &str, listener: &Person, all: &[Done]) {
    let mut expected: Vec<String> = Vec::new();
    for (who, done) in all.iter().enumerate() {
        expected.extend(done.delayed.iter().map(|n| format!("{who} {n}")));
    }
    expected.sort();
    let filter = escape(&json!({ "types": ["test.delayed"] }).to_string());
    let path = format!(
        "{API}/rooms/{}/messages?dir=b&limit=1000&filter={filter}",
        escape(room)
    );
    let mut found: Vec<String> = Vec::new();
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        let complete = found.len() >= expected.len();
        let page = ok(client, Method::GET, &path, Some(&listener.token), None).await;
        let chunk = page["chunk"].as_array().unwrap().iter();
        let texts = chunk.map(|event| event["content"]["body"].as_str().unwrap().to_owned());
        found = texts.collect();
        if complete {
            break;
        }
        // And a moment more once they are all there: none may come a second time.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    found.sort();
    assert_eq!(found, expected, "delayed events");
}

async fn check_to_device(client: &mut Client, listener: &Person, all: &[Done], since: &mut String) {
    let mut found: HashMap<u64, Vec<u64>> = HashMap::new();
    loop {
        let path = match since.as_str() {
            "" => format!("{API}/sync?timeout=0"),
            since => format!("{API}/sync?timeout=0&since={}", escape(since)),
        };
        let answer = ok(client, Method::GET, &path, Some(&listener.token), None).await;
        *since = answer["next_batch"].as_str().unwrap().into();
        let events = answer["to_device"]["events"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if events.is_empty() {
            break;
        }
        for event in events {
            let who = event["content"]["who"].as_u64().unwrap();
            found
                .entry(who)
                .or_default()
                .push(event["content"]["n"].as_u64().unwrap());
        }
    }
    for (who, done) in all.iter().enumerate() {
        let found = found.remove(&(who as u64)).unwrap_or_default();
        assert_eq!(found, done.to_device, "messages to the device from {who}");
    }
}

async fn check_rest(client: &mut Client, me: &(Person, Person), room: &str, done: &Done) {
    let token = Some(me.0.token.as_str());
    let path = format!(
        "{API}/user/{}/account_data/test.storm",
        escape(&me.0.user_id)
    );
    if let Some(acked) = done.account_data.0 {
        let answer = ok(client, Method::GET, &path, token, None).await;
        let value = answer["value"].as_u64();
        let good = value == Some(acked) || value == done.account_data.1;
        assert!(
            good && value.is_some(),
            "account data {value:?}, not {:?}",
            done.account_data
        );
    }
    if let Some(acked) = &done.receipt.0 {
        let filter = escape(&json!({ "room": { "rooms": [room] } }).to_string());
        let path = format!("{API}/sync?timeout=0&filter={filter}");
        let answer = ok(client, Method::GET, &path, token, None).await;
        let events = answer["rooms"]["join"][room]["ephemeral"]["events"]
            .as_array()
            .unwrap();
        let receipts = events
            .iter()
            .find(|event| event["type"] == "m.receipt")
            .unwrap();
        let at: Vec<&String> = receipts["content"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, kinds)| kinds["m.read"].get(&me.0.user_id).is_some())
            .map(|(event, _)| event)
            .collect();
        let good = at.len() == 1 && (at[0] == acked || Some(at[0]) == done.receipt.1.as_ref());
        assert!(good, "receipts at {at:?}, not {:?}", done.receipt);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_program_is_killed() {
    let Some(program) = Child::program() else {
        panic!("the program is not built: cargo build -p skerry-app, or set SKERRY_BIN");
    };
    let seed = from_env("SKERRY_CRASH_SEED").unwrap_or_else(|| {
        u64::from(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .subsec_nanos(),
        )
    });
    println!("SKERRY_CRASH_SEED={seed}");
    let mut dice = Dice(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut storm = Storm::begin(&program, &dir.path().join("data")).await;
    for _ in 0..from_env("SKERRY_CRASH_ROUNDS").unwrap_or(12) {
        storm
            .round_killed_after(Duration::from_millis(20 + dice.below(400)))
            .await;
    }
}

/// A server's data, and people who send as fast as they can, round after round.
pub(crate) struct Storm {
    program: PathBuf,
    data: PathBuf,
    /// Each sender, with the one who listens to all.
    people: Vec<Arc<(Person, Person)>>,
    /// Where the listener's sync stands.
    since: String,
    /// Reports that each sender has made.
    reports: Vec<u64>,
    round: u64,
}

impl Storm {
    /// Starts with nothing; also ends the server once in good order.
    pub(crate) async fn begin(program: &Path, data: &Path) -> Storm {
        let child = Child::start(program, data, "").await;
        let mut client = Client::connect(child.addr).await.unwrap();
        let listener = register(&mut client, "listener").await;
        let mut people = Vec::new();
        for who in 0..SENDERS {
            let person = register(&mut client, &format!("sender{who}")).await;
            people.push(Arc::new((person, listener.clone())));
        }
        drop(client);
        assert!(
            child.stop().success(),
            "SIGTERM has to end it with status 0"
        );
        let (program, data) = (program.to_owned(), data.to_owned());
        Storm {
            program,
            data,
            people,
            since: String::new(),
            reports: vec![0; SENDERS],
            round: 0,
        }
    }

    /// A storm, and SIGKILL after some time.
    pub(crate) async fn round_killed_after(&mut self, after: Duration) {
        let child = Child::start(&self.program, &self.data, "").await;
        let room = self.make_room(&child).await;
        let storms = self.storms(child.addr, &room);
        tokio::time::sleep(after).await;
        child.kill();
        self.check(storms, &room, &format!("killed after {after:?}"))
            .await;
    }

    /// A storm with `faults.c` preloaded, and death at the n-th operation on the disk since the
    /// start, if it comes within some seconds.
    pub(crate) async fn round_with_death_at(&mut self, library: &Path, n: u64) {
        let child = Child::start(&self.program, &self.data, "").await;
        let room = self.make_room(&child).await;
        child.kill();
        let point = n.to_string();
        let environment = [
            ("LD_PRELOAD", library),
            ("FAULT_KILL_AT", Path::new(&point)),
        ];
        let mut storms = Vec::new();
        let mut what = format!("died at operation {n}");
        match Child::launch(&self.program, &self.data, "", &environment).await {
            Err(status) => {
                assert_eq!(
                    status.code(),
                    None,
                    "it ended by itself at operation {n}: {status}"
                );
                what.push_str(", starting");
            }
            Ok(mut child) => {
                storms = self.storms(child.addr, &room);
                if child.ended(Duration::from_secs(3)).await.is_none() {
                    what = format!("operation {n} did not come");
                    child.kill();
                }
            }
        }
        self.check(storms, &room, &what).await;
    }

    async fn make_room(&self, child: &Child) -> String {
        let mut client = Client::connect(child.addr).await.unwrap();
        let senders: Vec<Person> = self.people.iter().map(|pair| pair.0.clone()).collect();
        make_room(&mut client, &senders, &self.people[0].1).await
    }

    fn storms(&self, addr: SocketAddr, room: &str) -> Vec<JoinHandle<Done>> {
        let start = |(who, pair): (usize, &Arc<(Person, Person)>)| {
            tokio::spawn(storm(
                addr,
                who,
                Arc::clone(pair),
                room.to_owned(),
                self.round,
            ))
        };
        self.people.iter().enumerate().map(start).collect()
    }

    /// Starts the server again and looks at everything that was acknowledged.
    async fn check(&mut self, storms: Vec<JoinHandle<Done>>, room: &str, what: &str) {
        let mut all = Vec::new();
        for storm in storms {
            all.push(storm.await.unwrap());
        }
        let acked: usize = all.iter().map(|done| done.messages.len()).sum();
        println!(
            "round {}: {what}, {acked} messages acknowledged",
            self.round
        );
        let child = Child::start(&self.program, &self.data, "").await;
        let mut client = Client::connect(child.addr).await.unwrap();
        for (who, done) in all.iter_mut().enumerate() {
            send_again(&mut client, done, who, &self.people[who], room, self.round).await;
        }
        let listener = &self.people[0].1;
        let found = timeline(&mut client, room, &listener.token).await;
        check_timeline(&found, &all);
        check_to_device(&mut client, listener, &all, &mut self.since).await;
        check_delayed(&mut client, room, listener, &all).await;
        for (pair, done) in self.people.iter().zip(&all) {
            check_rest(&mut client, pair, room, done).await;
        }
        self.check_reports(&mut client, &all).await;
        self.round += 1;
        // The next kill may also hit a server that does nothing.
        child.kill();
    }

    /// Every report that was acknowledged is in the queue; one under way may be.
    async fn check_reports(&mut self, client: &mut Client, all: &[Done]) {
        for (who, done) in all.iter().enumerate() {
            let (person, listener) = &*self.people[who];
            // Whoever came first is the administrator.
            let path = format!(
                "/_synapse/admin/v1/user_reports?limit=1&user_id={}",
                escape(&person.user_id)
            );
            let answer = ok(client, Method::GET, &path, Some(&listener.token), None).await;
            let total = answer["total"].as_u64().unwrap();
            let least = self.reports[who] + done.reports.0;
            let most = least + u64::from(done.reports.1);
            assert!((least..=most).contains(&total), "{total} reports by {who}");
            self.reports[who] = total;
        }
    }
}
