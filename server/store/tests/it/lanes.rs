use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use skerry_store::{Lanes, StoreError, blocking};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_at_a_time_per_key_and_nothing_left_behind() {
    let lanes = Lanes::<u64>::new();
    let inside = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    let mut tasks = Vec::new();
    for n in 0..200u64 {
        let (lanes, inside) = (lanes.clone(), inside.clone());
        tasks.push(tokio::spawn(async move {
            let key = n % 2;
            let guard = lanes.lock(key).await;
            assert_eq!(inside[key as usize].fetch_add(1, Ordering::SeqCst), 0);
            tokio::task::yield_now().await;
            inside[key as usize].fetch_sub(1, Ordering::SeqCst);
            drop(guard);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(lanes.is_empty());
}

#[tokio::test]
async fn a_waiter_who_leaves_leaves_nothing() {
    let lanes = Lanes::<&str>::new();
    let held = lanes.lock("a").await;
    assert!(
        tokio::time::timeout(Duration::from_millis(5), lanes.lock("a"))
            .await
            .is_err()
    );
    assert_eq!(lanes.len(), 1);
    drop(held);
    assert!(lanes.is_empty());
    assert_eq!(lanes.lock_many(vec!["b", "a", "b"]).await.len(), 2);
    assert!(lanes.is_empty());
}

#[tokio::test]
async fn a_panic_is_an_error() {
    assert_eq!(blocking(|| 1).await.unwrap(), 1);
    let outcome = blocking(|| panic!("on purpose")).await;
    assert!(matches!(outcome, Err(StoreError::Panicked)));
}

/// CVE-2026-45078: whoever waits costs nothing while waiting. Each of many is looked at when it
/// comes and when its turn has come, however many wait with it.
#[tokio::test]
async fn cve_2026_45078_a_thousand_who_wait_are_each_woken_once() {
    let lanes = Lanes::<u64>::new();
    let polls = Arc::new(AtomicU32::new(0));
    let held = lanes.lock(1).await;
    let mut tasks = Vec::new();
    for _ in 0..1_000 {
        let (lanes, polls) = (lanes.clone(), polls.clone());
        tasks.push(tokio::spawn(async move {
            let mut waiting = Box::pin(lanes.lock(1));
            let guard = std::future::poll_fn(|cx| {
                polls.fetch_add(1, Ordering::SeqCst);
                waiting.as_mut().poll(cx)
            });
            drop(guard.await);
        }));
    }
    tokio::task::yield_now().await;
    drop(held);
    for task in tasks {
        task.await.unwrap();
    }
    let polls = polls.load(Ordering::SeqCst);
    assert!(polls <= 2_000, "{polls}");
    assert!(lanes.is_empty());
}
