//! One-time keys are handed out once and in order; fallback keys fill in.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;
use skerry_account::e2e::{self, Owner};

use super::house::{House, one_time};

fn unused(house: &House, owner: &Owner) -> Vec<String> {
    e2e::key_counts(&house.snap(), owner.user, "A1")
        .unwrap()
        .unused_fallback
}

#[tokio::test]
async fn keys_come_in_the_order_of_upload() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    for id in ["z", "m", "a"] {
        house
            .upload(
                &alice,
                "A1",
                json!({ "one_time_keys": one_time([id.to_owned()]) }),
            )
            .await;
    }
    for id in ["z", "m", "a"] {
        assert_eq!(
            house.claim(&alice, "A1").await,
            Some(format!("signed_curve25519:{id}"))
        );
    }
    assert_eq!(house.claim(&alice, "A1").await, None);
    assert_eq!(house.claim(&alice, "A2").await, None);
}

#[tokio::test]
async fn an_upload_repeated_after_a_claim_offers_nothing_twice() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    let keys = json!({ "one_time_keys": one_time(["a".to_owned(), "b".to_owned()]) });
    house.upload(&alice, "A1", keys.clone()).await;
    let first = house.claim(&alice, "A1").await.unwrap();
    assert_eq!(
        house.upload(&alice, "A1", keys).await,
        json!({ "signed_curve25519": 1 })
    );
    let second = house.claim(&alice, "A1").await.unwrap();
    assert_ne!(first, second);
    assert_eq!(house.claim(&alice, "A1").await, None);
    let anew = json!({ "one_time_keys": { "signed_curve25519:a": { "key": "another" } } });
    assert_eq!(
        house.upload(&alice, "A1", anew).await,
        json!({ "signed_curve25519": 1 })
    );
}

#[tokio::test]
async fn the_fallback_key_fills_in_and_is_marked_as_used() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    let fallback = json!({ "fallback_keys": {
        "signed_curve25519:f": { "key": "f", "fallback": true },
    }});
    house.upload(&alice, "A1", fallback.clone()).await;
    house
        .upload(
            &alice,
            "A1",
            json!({ "one_time_keys": one_time(["a".to_owned()]) }),
        )
        .await;
    assert_eq!(unused(&house, &alice), ["signed_curve25519"]);
    assert_eq!(
        house.claim(&alice, "A1").await.unwrap(),
        "signed_curve25519:a"
    );
    assert_eq!(unused(&house, &alice), ["signed_curve25519"]);
    for _ in 0..2 {
        assert_eq!(
            house.claim(&alice, "A1").await.unwrap(),
            "signed_curve25519:f"
        );
        assert!(unused(&house, &alice).is_empty());
    }
    house.upload(&alice, "A1", fallback).await;
    assert!(
        unused(&house, &alice).is_empty(),
        "the same key is as used as before"
    );
    let next = json!({ "fallback_keys": { "signed_curve25519:g": { "key": "g" } } });
    house.upload(&alice, "A1", next).await;
    assert_eq!(unused(&house, &alice), ["signed_curve25519"]);
    assert_eq!(
        house.claim(&alice, "A1").await.unwrap(),
        "signed_curve25519:g"
    );
    let two = json!({ "fallback_keys": { "x:1": "a", "x:2": "b" } });
    let two = serde_json::from_str(&two.to_string()).unwrap();
    assert!(house.keys.upload(&alice, "A1", two).await.is_err());
}

/// `claimers` tasks claim until nothing is left or they had `each`; gives what all of them got.
async fn storm(house: &Arc<House>, owner: &Owner, claimers: usize, each: usize) -> Vec<String> {
    let mut tasks = Vec::new();
    for _ in 0..claimers {
        let (house, owner) = (house.clone(), owner.clone());
        tasks.push(tokio::spawn(async move {
            let mut got = Vec::new();
            while got.len() < each {
                let Some(id) = house.claim(&owner, "A1").await else {
                    break;
                };
                got.push(id);
            }
            assert!(got.is_sorted(), "each claimer sees the order of upload");
            got
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_key_is_handed_out_twice_by_four_claimers_and_a_restart() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    for batch in 0..20 {
        let ids = (0..100).map(|n| format!("{:05}", batch * 100 + n));
        house
            .upload(&alice, "A1", json!({ "one_time_keys": one_time(ids) }))
            .await;
    }
    let house = Arc::new(house);
    let mut got = storm(&house, &alice, 4, 250).await;
    assert_eq!(got.len(), 1_000);
    let house = Arc::into_inner(house).unwrap().restart();
    let counts = e2e::key_counts(&house.snap(), alice.user, "A1").unwrap();
    assert_eq!(counts.one_time["signed_curve25519"], 1_000);
    let house = Arc::new(house);
    got.extend(storm(&house, &alice, 4, usize::MAX).await);
    assert_eq!(got.len(), 2_000);
    let distinct: HashSet<_> = got.iter().collect();
    assert_eq!(distinct.len(), 2_000, "a key was handed out twice");
    let counts = e2e::key_counts(&house.snap(), alice.user, "A1").unwrap();
    assert_eq!(counts.one_time["signed_curve25519"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn uploads_and_claims_at_once_lose_nothing() {
    let house = Arc::new(House::new());
    let alice = house.person("alice", &["A1"]).await;
    let uploads: Vec<_> = (0..4)
        .map(|part| {
            let (house, alice) = (house.clone(), alice.clone());
            tokio::spawn(async move {
                for batch in 0..10 {
                    let ids = (0..10).map(|n| format!("{batch:02}-{part}-{n}"));
                    house
                        .upload(&alice, "A1", json!({ "one_time_keys": one_time(ids) }))
                        .await;
                }
            })
        })
        .collect();
    let claims: Vec<_> = (0..4)
        .map(|_| {
            let (house, alice) = (house.clone(), alice.clone());
            tokio::spawn(async move {
                let mut got = Vec::new();
                for _ in 0..60 {
                    got.extend(house.claim(&alice, "A1").await);
                }
                got
            })
        })
        .collect();
    for upload in uploads {
        upload.await.unwrap();
    }
    let mut got = Vec::new();
    for claim in claims {
        got.extend(claim.await.unwrap());
    }
    while let Some(id) = house.claim(&alice, "A1").await {
        got.push(id);
    }
    assert_eq!(got.len(), 400);
    assert_eq!(got.iter().collect::<HashSet<_>>().len(), 400);
}
