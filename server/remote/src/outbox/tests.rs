#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use skerry_core::Dice;
use skerry_store::StoreOptions;
use tempfile::TempDir;

use super::*;

struct FixedClock(AtomicU64);

impl Clock for FixedClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct NoDice;

impl Dice for NoDice {
    fn fill(&mut self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

impl DiceSource for NoDice {
    fn dice(&self) -> Box<dyn Dice> {
        Box::new(NoDice)
    }
}

/// Notes what it was given; fails where it is told to.
#[derive(Default)]
struct Notes {
    got: Mutex<Vec<(Dest, String)>>,
    failing: Mutex<bool>,
    running: Mutex<(usize, usize)>,
}

struct Noting(Arc<Notes>);

impl Deliver for Noting {
    fn serves(&self, dest: &Dest) -> bool {
        matches!(dest, Dest::Push(_))
    }

    fn batch_rows(&self) -> usize {
        3
    }

    fn max_rows(&self) -> usize {
        10
    }

    fn deliver<'a>(&'a self, dest: &'a Dest, rows: &'a [Row]) -> BoxFuture<'a, Report> {
        Box::pin(async move {
            {
                let mut running = self.0.running.lock();
                running.0 += 1;
                running.1 = running.1.max(running.0);
            }
            tokio::task::yield_now().await;
            self.0.running.lock().0 -= 1;
            if *self.0.failing.lock() {
                return Report::failed("told to");
            }
            let mut report = Report::done(&[]);
            for row in rows {
                let text = String::from_utf8(row.item.clone()).unwrap();
                if text == "gone" {
                    return Report::give_up("told to");
                }
                if text == "bad" {
                    report.bad.push(row.pos);
                    continue;
                }
                self.0.got.lock().push((dest.clone(), text));
                report.done.push(row.pos);
            }
            report
        })
    }
}

struct Scene {
    store: Arc<Store>,
    clock: Arc<FixedClock>,
    notes: Arc<Notes>,
    outbox: Outbox,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
    dir: TempDir,
}

impl Scene {
    fn open(dir: TempDir, notes: Arc<Notes>) -> Scene {
        let store = Store::open(dir.path(), StoreOptions::for_tests()).unwrap();
        let clock = Arc::new(FixedClock(AtomicU64::new(1_000_000_000)));
        let outbox = Outbox::new(
            Arc::clone(&store),
            clock.clone(),
            Arc::new(NoDice),
            vec![Arc::new(Noting(Arc::clone(&notes)))],
        );
        let (stop, stopping) = watch::channel(false);
        let running = tokio::spawn(outbox.clone().run(stopping));
        Scene {
            store,
            clock,
            notes,
            outbox,
            stop,
            running,
            dir,
        }
    }

    fn new() -> Scene {
        Scene::open(tempfile::tempdir().unwrap(), Arc::default())
    }

    async fn restart(self) -> Scene {
        self.stop.send_replace(true);
        self.running.await.unwrap();
        drop(self.outbox);
        self.store.close();
        drop(self.store);
        Scene::open(self.dir, self.notes)
    }

    fn queue(&self, dest: &str, texts: &[&str]) {
        let mut w = self.store.write();
        for text in texts {
            outbox::queue(&mut w, &Dest::Push(dest.to_owned()), text.as_bytes());
        }
        let applied = self.store.commit(w).unwrap();
        self.store.wait_durable(&applied).unwrap();
    }

    fn advance(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
        self.outbox.look_again();
    }

    fn left(&self, dest: &str) -> usize {
        let snap = self.store.snapshot();
        outbox::positions(&snap, &Dest::Push(dest.to_owned()))
            .unwrap()
            .len()
    }

    fn got(&self, dest: &str) -> Vec<String> {
        let dest = Dest::Push(dest.to_owned());
        let got = self.notes.got.lock();
        let mine = got.iter().filter(|(to, _)| *to == dest);
        mine.map(|(_, text)| text.clone()).collect()
    }

    async fn until(&self, what: impl Fn(&Scene) -> bool) {
        for _ in 0..2_000 {
            if what(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("it did not come to this: {:?}", self.notes.got.lock());
    }

    fn failures(&self, dest: &str) -> u32 {
        let snap = self.store.snapshot();
        let standing = outbox::standing(&snap, &Dest::Push(dest.to_owned())).unwrap();
        standing.map_or(0, |standing| standing.failures)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_arrive_in_order_and_bad_ones_are_set_aside() {
    let scene = Scene::new();
    scene.queue("a", &["1", "2", "bad", "3", "4", "5", "6"]);
    scene.queue("b", &["x"]);
    scene.until(|s| s.left("a") == 0 && s.left("b") == 0).await;
    assert_eq!(scene.got("a"), ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(scene.got("b"), ["x"]);
    assert_eq!(scene.failures("a"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_fails_waits_longer_each_time_also_over_a_restart() {
    let scene = Scene::new();
    *scene.notes.failing.lock() = true;
    scene.queue("a", &["1", "2"]);
    scene.until(|s| s.failures("a") == 1).await;
    scene.queue("a", &["3"]);
    scene.advance(1_000);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(scene.failures("a"), 1, "it is left alone");
    scene.advance(1_001);
    scene.until(|s| s.failures("a") == 2).await;
    let scene = scene.restart().await;
    *scene.notes.failing.lock() = false;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(scene.left("a"), 3, "the clock stands before the next try");
    scene.advance(10_000);
    scene.until(|s| s.left("a") == 0).await;
    assert_eq!(scene.got("a"), ["1", "2", "3"]);
    assert_eq!(scene.failures("a"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_heard_of_is_tried_at_once() {
    let scene = Scene::new();
    *scene.notes.failing.lock() = true;
    scene.queue("a", &["1"]);
    scene.until(|s| s.failures("a") == 1).await;
    *scene.notes.failing.lock() = false;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(scene.left("a"), 1);
    scene.outbox.try_now(Dest::Push("a".to_owned()));
    scene.until(|s| s.left("a") == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_is_gone_leaves_nothing() {
    let scene = Scene::new();
    *scene.notes.failing.lock() = true;
    scene.queue("a", &["gone", "1", "2", "3", "4"]);
    scene.until(|s| s.failures("a") == 1).await;
    *scene.notes.failing.lock() = false;
    scene.advance(10_000);
    scene.until(|s| s.left("a") == 0).await;
    assert!(scene.got("a").is_empty());
    let snap = scene.store.snapshot();
    assert!(outbox::standings(&snap).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_cannot_be_sent_does_not_grow_without_end() {
    let scene = Scene::new();
    *scene.notes.failing.lock() = true;
    let texts: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    scene.queue("a", &texts);
    scene.until(|s| s.failures("a") == 1).await;
    *scene.notes.failing.lock() = false;
    scene.advance(10_000);
    scene.until(|s| s.left("a") == 0).await;
    assert_eq!(scene.got("a"), texts[20..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_destinations_share_the_places() {
    let scene = Scene::new();
    for n in 0..200 {
        scene.queue(&n.to_string(), &["1", "2"]);
    }
    scene.until(|s| s.notes.got.lock().len() == 400).await;
    assert!(scene.notes.running.lock().1 <= MAX_RUNNING);
    let scene = scene.restart().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(scene.notes.got.lock().len(), 400, "nothing is sent again");
}
