use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use skerry_core::fixtures::FakeClock;
use skerry_core::{Clock, RoomNid};
use skerry_federation::{Begun, Inbox, Open, Outcome, Patience, Pending, Receive};
use skerry_store::{Store, StoreOptions};
use tempfile::TempDir;
use tokio::sync::watch;

/// So that no test waits long for what is slow.
const SOON: Patience = Patience {
    budget: Duration::from_millis(200),
    retry_after: Duration::from_millis(10),
};

struct House {
    dir: TempDir,
    store: Arc<Store>,
    clock: Arc<FakeClock>,
    inbox: Inbox,
}

fn open(dir: TempDir) -> House {
    let store = Store::open(dir.path(), StoreOptions::for_tests()).unwrap();
    let clock = Arc::new(FakeClock::new());
    let inbox = Inbox::open(store.clone(), clock.clone() as Arc<dyn Clock>).unwrap();
    House {
        dir,
        store,
        clock,
        inbox,
    }
}

impl House {
    fn new() -> House {
        open(tempfile::tempdir().unwrap())
    }

    fn restart(self) -> House {
        drop(self.inbox);
        self.store.close();
        drop(self.store);
        open(self.dir)
    }

    fn room(&self, name: &str) -> RoomNid {
        self.store.intern_room(name).unwrap()
    }

    async fn begin(&self, server: &str, txn: &str) -> Open {
        match self.inbox.begin(server, txn).await.unwrap() {
            Begun::New(open) => open,
            _ => panic!("not new"),
        }
    }

    /// A transaction with these PDUs of these rooms.
    async fn take(&self, server: &str, txn: &str, pdus: &[(&str, &str)]) {
        let open = self.begin(server, txn).await;
        let pdus = pdus
            .iter()
            .map(|(room, pdu)| (self.room(room), pdu.as_bytes().to_vec()));
        let pdus = pdus.collect();
        self.inbox
            .take(open, pdus, txn.as_bytes().to_vec())
            .await
            .unwrap();
    }

    /// Works until nothing waits any more.
    async fn work(&self, judge: Arc<Judge>) {
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(self.inbox.clone().run(judge, SOON, stopped));
        while self.inbox.waiting() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.send_replace(true);
        running.await.unwrap();
    }

    fn reasons(&self) -> Vec<String> {
        let aside = self.inbox.aside(&self.store.newest()).unwrap();
        aside.into_iter().map(|(_, row)| row.reason).collect()
    }
}

/// Writes down what it judges.
#[derive(Default)]
struct Judge {
    seen: Mutex<Vec<(String, String)>>,
    /// How often the store is still to fail.
    failures: Mutex<u32>,
    /// Never comes to an end with PDUs of this room.
    stuck: Option<&'static str>,
}

impl Judge {
    fn texts(&self, room: &str) -> Vec<String> {
        let seen = self.seen.lock();
        let of_room = seen.iter().filter(|(id, _)| id == room);
        of_room.map(|(_, text)| text.clone()).collect()
    }
}

impl Receive for Judge {
    fn receive<'a>(
        &'a self,
        room_id: &'a str,
        pdus: Vec<Pending>,
    ) -> BoxFuture<'a, Result<Vec<Outcome>, String>> {
        Box::pin(async move {
            if self.stuck == Some(room_id) {
                std::future::pending::<()>().await;
            }
            let mut outcomes = Vec::new();
            for one in pdus {
                let text = String::from_utf8(one.pdu).unwrap();
                assert!(!text.starts_with("crash"), "as the test wants it");
                let mut failures = self.failures.lock();
                if text == "damaged" {
                    return Err("a row is damaged".to_owned());
                }
                if *failures > 0 {
                    *failures -= 1;
                    outcomes.push(Outcome::Again);
                    continue;
                }
                outcomes.push(match text.strip_prefix("aside ") {
                    Some(why) => Outcome::Aside(why.to_owned()),
                    None => Outcome::Judged,
                });
                self.seen.lock().push((room_id.to_owned(), text));
            }
            Ok(outcomes)
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_is_judged_in_order_also_after_a_restart() {
    let house = House::new();
    house
        .take("a", "1", &[("!x", "1"), ("!y", "2"), ("!x", "3")])
        .await;
    house.take("b", "1", &[("!x", "4")]).await;
    let house = house.restart();
    assert_eq!(house.inbox.waiting(), 4);
    house.take("a", "2", &[("!x", "5")]).await;
    let judge = Arc::new(Judge::default());
    house.work(judge.clone()).await;
    assert_eq!(judge.texts("!x"), ["1", "3", "4", "5"]);
    assert_eq!(judge.texts("!y"), ["2"]);
    let house = house.restart();
    assert_eq!(house.inbox.waiting(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_equal_transaction_gets_the_same_answer() {
    let house = House::new();
    let open = house.begin("a", "t").await;
    // The second one comes while the first is still being looked at.
    let inbox = house.inbox.clone();
    let second = tokio::spawn(async move { inbox.begin("a", "t").await.unwrap() });
    // Another server's transaction of that id is another one.
    drop(house.begin("b", "t").await);
    house
        .inbox
        .take(open, Vec::new(), b"answer".to_vec())
        .await
        .unwrap();
    let answer = |begun| match begun {
        Begun::Answered(answer) => answer,
        _ => panic!("not answered before"),
    };
    assert_eq!(answer(second.await.unwrap()), b"answer");
    let house = house.restart();
    assert_eq!(
        answer(house.inbox.begin("a", "t").await.unwrap()),
        b"answer"
    );
    // For days, not for ever.
    house.clock.advance(2 * 24 * 3_600_000);
    house.inbox.sweep().await.unwrap();
    assert_eq!(
        answer(house.inbox.begin("a", "t").await.unwrap()),
        b"answer"
    );
    house.clock.advance(2 * 24 * 3_600_000);
    house.inbox.sweep().await.unwrap();
    let barrier = house.store.barrier();
    house.store.durable(&barrier).await.unwrap();
    drop(house.begin("a", "t").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_was_given_up_leaves_nothing() {
    let house = House::new();
    drop(house.begin("a", "t").await);
    drop(house.begin("a", "t").await);
    assert_eq!(house.inbox.waiting(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_crashes_is_set_aside_and_blocks_nothing() {
    let house = House::new();
    let pdus = [
        ("!x", "1"),
        ("!x", "crash"),
        ("!x", "aside for a reason"),
        ("!x", "damaged"),
        ("!x", "2"),
    ];
    house.take("a", "1", &pdus).await;
    let judge = Arc::new(Judge::default());
    house.work(judge.clone()).await;
    // What was judged before the crash is judged again: it is known then.
    let seen = judge.texts("!x");
    assert!(
        seen.ends_with(&["aside for a reason".into(), "2".into()]),
        "{seen:?}"
    );
    assert_eq!(
        house.reasons(),
        ["judging it crashed", "for a reason", "a row is damaged"]
    );
    let aside = house.inbox.aside(&house.store.newest()).unwrap();
    assert_eq!((&*aside[0].0, &*aside[0].1.pdu), ("a", &b"crash"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_room_holds_up_no_other() {
    let house = House::new();
    house.take("a", "1", &[("!stuck", "1"), ("!x", "2")]).await;
    let judge = Arc::new(Judge {
        stuck: Some("!stuck"),
        ..Judge::default()
    });
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(house.inbox.clone().run(
        judge.clone(),
        Patience::default(),
        stopped,
    ));
    house.take("a", "2", &[("!stuck", "3"), ("!x", "4")]).await;
    while judge.texts("!x") != ["2", "4"] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send_replace(true);
    running.await.unwrap();
    let house = house.restart();
    assert_eq!(
        house.inbox.waiting(),
        2,
        "what was not judged is still there"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_long_is_set_aside() {
    let house = House::new();
    house
        .take("a", "1", &[("!stuck", "1"), ("!stuck", "2")])
        .await;
    house
        .work(Arc::new(Judge {
            stuck: Some("!stuck"),
            ..Judge::default()
        }))
        .await;
    let reason = "judging it took more than 200ms";
    assert_eq!(house.reasons(), [reason, reason]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_did_not_take_is_tried_again() {
    let house = House::new();
    house.take("a", "1", &[("!x", "1"), ("!x", "2")]).await;
    let judge = Arc::new(Judge {
        failures: Mutex::new(3),
        ..Judge::default()
    });
    house.work(judge.clone()).await;
    assert_eq!(judge.texts("!x").last().unwrap(), "2");
    assert!(judge.texts("!x").contains(&"1".to_owned()));
    assert_eq!(house.reasons(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_fills_the_inbox_for_nobody_else() {
    let house = House::new();
    let many: Vec<(&str, &str)> = vec![("!x", "{}"); 5_000];
    house.take("a", "1", &many).await;
    let begun = house.inbox.begin("a", "2").await.unwrap();
    assert!(matches!(begun, Begun::Busy));
    drop(house.begin("b", "1").await);
    house.work(Arc::new(Judge::default())).await;
    drop(house.begin("a", "2").await);
}
