use skerry_account::txn::{lookup, record};
use skerry_account::{AccountError, TxnAnswer, TxnKey};
use skerry_core::UserNid;

use super::home::Home;

fn key(user: UserNid, device: &str, path: &str, id: &str) -> TxnKey {
    TxnKey::new(user, device, "PUT", path, id).unwrap()
}

fn answer(text: &str) -> TxnAnswer {
    TxnAnswer {
        status: 200,
        answer: text.to_owned(),
    }
}

fn note(home: &Home, key: &TxnKey, text: &str, now_ms: u64) {
    let mut w = home.store.write();
    record(&mut w, key, &answer(text), now_ms);
    let applied = home.store.commit(w).unwrap();
    home.store.wait_durable(&applied).unwrap();
}

#[tokio::test]
async fn an_answer_belongs_to_user_device_path_and_id_and_outlives_a_restart() {
    let home = Home::new();
    let alice = home.person("alice").await;
    home.log_in("alice", "A").await;
    let mine = key(alice, "A", "/send", "1");
    note(&home, &mine, "first", 5);
    let home = home.restart();
    let snap = home.snap();
    assert_eq!(lookup(&snap, &mine).unwrap(), Some(answer("first")));
    for other in [
        key(UserNid(999), "A", "/send", "1"),
        key(alice, "B", "/send", "1"),
        key(alice, "A", "/redact", "1"),
        key(alice, "A", "/send", "2"),
    ] {
        assert_eq!(lookup(&snap, &other).unwrap(), None);
    }
    home.accounts.log_out(alice, "A").await.unwrap();
    assert_eq!(lookup(&home.snap(), &mine).unwrap(), None);
    for bad in [String::new(), "x".repeat(256)] {
        let refused = TxnKey::new(alice, "A", "PUT", "/send", &bad);
        assert!(matches!(refused, Err(AccountError::Invalid(_))));
    }
}

#[tokio::test]
async fn old_answers_are_swept() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let (old, new) = (key(alice, "A", "/send", "1"), key(alice, "A", "/send", "2"));
    note(&home, &old, "old", 5);
    note(&home, &new, "new", 10);
    assert_eq!(home.accounts.sweep_txns(10).await.unwrap(), 1);
    assert_eq!(lookup(&home.snap(), &old).unwrap(), None);
    assert_eq!(lookup(&home.snap(), &new).unwrap(), Some(answer("new")));
}

#[tokio::test]
async fn equal_transactions_in_flight_join() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let mine = key(alice, "A", "/send", "1");
    let held = home.accounts.txn_lane(&mine).await;
    let (accounts, store, again) = (home.accounts.clone(), home.store.clone(), mine.clone());
    let second = tokio::spawn(async move {
        let _lane = accounts.txn_lane(&again).await;
        lookup(&store.newest(), &again).unwrap()
    });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    note(&home, &mine, "first", 5);
    drop(held);
    assert_eq!(second.await.unwrap(), Some(answer("first")));
}
