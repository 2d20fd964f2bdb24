//! Deleted devices are forgotten in the end, and nobody goes on believing in them.

use serde_json::Value;
use skerry_account::e2e::{Owner, Taken};
use skerry_store::Scan;
use skerry_store::schema::e2e_remote::DeviceChangeTable;

use super::abroad::{THERE, fetch, known, sent, tell, update, upload};
use super::house::House;

/// A server that always keeps up.
const NEAR: &str = "near.test";
/// One that was told in the beginning, and never again.
const AWAY: &str = "away.test";

fn changes(house: &House, owner: &Owner) -> usize {
    let snap = house.store.newest();
    let rows = snap.scan::<DeviceChangeTable>(Scan::prefix(&owner.user));
    rows.count()
}

async fn come_and_go(house: &House, owner: &Owner, devices: &[String]) {
    for device in devices {
        house.log_in(owner, device).await;
    }
    house
        .accounts
        .delete_devices(owner.user, devices.to_vec())
        .await
        .unwrap();
}

/// What becomes of updates at the other server.
async fn take(there: &House, told: &[(String, Value)]) -> Vec<Taken> {
    let mut taken = Vec::new();
    for (_, content) in told {
        let result = there.keys.take_list_update(update(content), true).await;
        taken.push(result.unwrap());
    }
    taken
}

#[tokio::test]
async fn changes_of_deleted_devices_are_trimmed_and_missed_by_nobody() {
    let here = House::new();
    let there = House::of(THERE);
    let alice = here.person("alice", &["A0", "A1"]).await;
    let bob = there.person("bob", &[]).await;
    upload(&here, &alice, "A0", 1).await;
    upload(&here, &alice, "A1", 2).await;
    let user = there.store.intern_user(&alice.user_id).unwrap();
    // Both servers know the list as it is in the beginning.
    for server in [THERE, NEAR, AWAY] {
        assert_eq!(tell(&here, &alice, server).len(), 1);
    }
    let missed = there.keys.begin_fetch(user).await.unwrap();
    assert!(fetch(&here, &there, &alice, missed).await);
    assert_eq!(known(&there, &bob, &alice).await.unwrap(), ["A0", "A1"]);
    // A device goes while the other server is away, and many others come and go.
    let mut gone = vec!["A1".to_owned()];
    gone.extend((0..70).map(|n| format!("B{n}")));
    for some in gone.chunks(5) {
        come_and_go(&here, &alice, some).await;
        let told = tell(&here, &alice, NEAR);
        assert!(
            told.iter()
                .all(|(_, edu)| edu["prev_id"].as_array().unwrap().len() == 1)
        );
    }
    let left = changes(&here, &alice);
    assert!((20..=48).contains(&left), "{left} rows");
    // It is told of what is still known; the first says that there was more.
    let told = tell(&here, &alice, THERE);
    let taken = take(&there, &told).await;
    assert_eq!(taken.first(), Some(&Taken::Gap), "it has to fetch the list");
    let missed = there.keys.begin_fetch(user).await.unwrap();
    assert!(fetch(&here, &there, &alice, missed).await);
    assert_eq!(known(&there, &bob, &alice).await.unwrap(), ["A0"]);
    // From then on it keeps up by itself.
    upload(&here, &alice, "A0", 9).await;
    let told = tell(&here, &alice, THERE);
    assert_eq!(told[0].1["prev_id"].as_array().unwrap().len(), 1);
    assert_eq!(take(&there, &told).await, [Taken::Applied]);
    // Who shares nothing any more was sent nothing.
    assert!(sent(&here, AWAY).is_empty());
}
