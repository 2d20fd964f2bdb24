//! Messages to devices.

use std::sync::Arc;

use serde_json::{Value, json};
use skerry_account::TxnKey;
use skerry_account::e2e::{
    self, MESSAGES_PER_SYNC, Messages, Owner, Sender, ToDeviceError, Waiting,
};
use skerry_core::Pos;

use super::house::House;

fn sender(owner: &Owner, txn: &str) -> Sender {
    let txn = TxnKey::new(owner.user, "A1", "PUT", "/sendToDevice/m.test", txn).unwrap();
    Sender {
        user_id: owner.user_id.clone(),
        user: owner.user,
        txn,
    }
}

fn messages(value: Value) -> Messages {
    serde_json::from_str(&json!({ "messages": value }).to_string()).unwrap()
}

async fn send(house: &House, from: &Owner, txn: &str, value: Value) {
    house
        .keys
        .send_to_device(sender(from, txn), "m.test", messages(value))
        .await
        .unwrap();
}

fn waiting(house: &House, owner: &Owner, device: &str, since: Pos) -> Waiting {
    e2e::waiting(&house.snap(), owner.user, device, since, MESSAGES_PER_SYNC).unwrap()
}

fn numbers(waiting: &Waiting) -> Vec<u64> {
    let number = |text: &String| {
        let event: Value = serde_json::from_str(text).unwrap();
        event["content"]["n"].as_u64().unwrap()
    };
    waiting.messages.iter().map(number).collect()
}

#[tokio::test]
async fn a_message_is_stored_once_however_often_it_is_sent() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    let bob = house.person("bob", &["B1", "B2"]).await;
    let message = json!({ &*bob.user_id: { "B1": { "n": 1 } } });
    send(&house, &alice, "t1", message.clone()).await;
    send(&house, &alice, "t1", message.clone()).await;
    let house = house.restart();
    send(&house, &alice, "t1", message.clone()).await;
    let got = waiting(&house, &bob, "B1", Pos::ZERO);
    let expected = json!({ "type": "m.test", "sender": &*alice.user_id, "content": { "n": 1 } });
    assert_eq!(got.messages.len(), 1);
    assert_eq!(
        serde_json::from_str::<Value>(&got.messages[0]).unwrap(),
        expected
    );
    assert_eq!((got.upto, got.more), (house.snap().head(), false));
    assert!(waiting(&house, &bob, "B2", Pos::ZERO).messages.is_empty());
    send(&house, &alice, "t2", message).await;
    assert_eq!(waiting(&house, &bob, "B1", Pos::ZERO).messages.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn equal_transactions_in_flight_join() {
    let house = Arc::new(House::new());
    let alice = house.person("alice", &["A1"]).await;
    let bob = house.person("bob", &["B1"]).await;
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (house, alice, to) = (house.clone(), alice.clone(), bob.user_id.clone());
            tokio::spawn(async move {
                send(&house, &alice, "same", json!({ &*to: { "*": { "n": 1 } } })).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(waiting(&house, &bob, "B1", Pos::ZERO).messages.len(), 1);
}

#[tokio::test]
async fn a_star_means_all_devices_and_strangers_are_passed_over() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    let bob = house.person("bob", &["B1", "B2"]).await;
    let all = json!({
        &*bob.user_id: { "*": { "n": 1 }, "NOPE": { "n": 2 } },
        "@nobody:skerry.test": { "*": { "n": 3 } },
        "@far:away.example": { "X": { "n": 4 } },
    });
    send(&house, &alice, "t", all).await;
    for device in ["B1", "B2"] {
        assert_eq!(numbers(&waiting(&house, &bob, device, Pos::ZERO)), [1]);
    }
    assert!(waiting(&house, &bob, "NOPE", Pos::ZERO).messages.is_empty());
}

#[tokio::test]
async fn messages_come_in_order_in_parts_and_go_when_acknowledged() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    let bob = house.person("bob", &["B1"]).await;
    assert_eq!(
        e2e::last_message(&house.snap(), bob.user, "B1").unwrap(),
        None
    );
    for n in 0..150 {
        let message = json!({ &*bob.user_id: { "B1": { "n": n } } });
        send(&house, &alice, &format!("t{n}"), message).await;
    }
    let first = waiting(&house, &bob, "B1", Pos::ZERO);
    assert_eq!(numbers(&first), (0..100).collect::<Vec<_>>());
    assert!(first.more && first.upto < house.snap().head());
    assert_eq!(waiting(&house, &bob, "B1", Pos::ZERO), first, "given again");
    let second = waiting(&house, &bob, "B1", first.upto);
    assert_eq!(numbers(&second), (100..150).collect::<Vec<_>>());
    assert_eq!((second.upto, second.more), (house.snap().head(), false));
    house.keys.acknowledge(bob.user, "B1", first.upto).unwrap();
    let house = house.restart();
    assert_eq!(
        waiting(&house, &bob, "B1", first.upto).messages,
        second.messages
    );
    assert_eq!(
        numbers(&waiting(&house, &bob, "B1", Pos::ZERO)),
        (100..150).collect::<Vec<_>>()
    );
    house.keys.acknowledge(bob.user, "B1", second.upto).unwrap();
    send(
        &house,
        &alice,
        "sync",
        json!({ &*alice.user_id: { "A1": { "n": 0 } } }),
    )
    .await;
    assert!(waiting(&house, &bob, "B1", Pos::ZERO).messages.is_empty());
    assert_eq!(
        e2e::last_message(&house.snap(), bob.user, "B1").unwrap(),
        None
    );
}

#[tokio::test]
async fn what_is_too_long_or_no_object_is_refused_whole() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    let long = "x".repeat(70_000);
    let bodies = [
        json!({ "A1": { "n": 1 }, "A2": { "t": long } }),
        json!({ "A1": 5 }),
    ];
    for (n, devices) in bodies.into_iter().enumerate() {
        let bad = messages(json!({ &*alice.user_id: devices }));
        let error = house
            .keys
            .send_to_device(sender(&alice, "t"), "m.test", bad)
            .await;
        match n {
            0 => assert!(matches!(error, Err(ToDeviceError::TooLarge))),
            _ => assert!(matches!(error, Err(ToDeviceError::Shape))),
        }
    }
    assert!(waiting(&house, &alice, "A1", Pos::ZERO).messages.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_to_a_device_that_comes_and_goes_never_outlive_it() {
    let house = Arc::new(House::new());
    let alice = house.person("alice", &["A1"]).await;
    let bob = house.person("bob", &["B1"]).await;
    let (inner, from, to) = (house.clone(), alice.clone(), bob.clone());
    let sending = tokio::spawn(async move {
        for n in 0..200 {
            send(
                &inner,
                &from,
                &format!("t{n}"),
                json!({ &*to.user_id: { "*": { "n": n } } }),
            )
            .await;
        }
    });
    for _ in 0..30 {
        house
            .accounts
            .delete_devices(bob.user, vec!["B1".to_owned()])
            .await
            .unwrap();
        assert!(waiting(&house, &bob, "B1", Pos::ZERO).messages.is_empty());
        house.log_in(&bob, "B1").await;
    }
    sending.await.unwrap();
    house
        .accounts
        .delete_devices(bob.user, vec!["B1".to_owned()])
        .await
        .unwrap();
    house.log_in(&bob, "B1").await;
    assert!(waiting(&house, &bob, "B1", Pos::ZERO).messages.is_empty());
}

#[tokio::test]
async fn one_request_stores_a_bounded_number_of_bytes() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    let devices: Vec<String> = (0..600).map(|n| format!("B{n}")).collect();
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    let bob = house.person("bob", &devices).await;
    let filler = "x".repeat(60_000);
    let refused = house
        .keys
        .send_to_device(
            sender(&alice, "t1"),
            "m.test",
            messages(json!({ &*bob.user_id: { "*": { "filler": filler } } })),
        )
        .await;
    assert!(matches!(refused, Err(ToDeviceError::TooLarge)));
    assert!(
        waiting(&house, &bob, "B1", Pos::ZERO).messages.is_empty(),
        "nothing is sent by halves"
    );
    let many: serde_json::Map<String, Value> =
        (0..20_001).map(|n| (format!("D{n}"), json!({}))).collect();
    let refused = house
        .keys
        .send_to_device(
            sender(&alice, "t2"),
            "m.test",
            messages(json!({ &*bob.user_id: many })),
        )
        .await;
    assert!(matches!(refused, Err(ToDeviceError::TooLarge)));
}
