//! Key backups.

use serde_json::{Value, json};
use skerry_account::e2e::{BackupError, BackupKeys, NewBackup, SessionBackup, Which};
use skerry_core::UserNid;

use super::house::House;

fn new_backup(auth: &str) -> NewBackup {
    let body = json!({
        "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2",
        "auth_data": { "public_key": auth },
    });
    serde_json::from_str(&body.to_string()).unwrap()
}

fn key(index: u64, forwarded: u64, verified: bool) -> SessionBackup {
    let body = json!({
        "first_message_index": index,
        "forwarded_count": forwarded,
        "is_verified": verified,
        "session_data": { "index": index },
    });
    serde_json::from_str(&body.to_string()).unwrap()
}

fn all(rooms: Value) -> BackupKeys {
    serde_json::from_str(&json!({ "rooms": rooms }).to_string()).unwrap()
}

async fn stored(house: &House, user: UserNid, version: &str, which: Which) -> Value {
    json!(house.keys.backup_keys(user, version, which).await.unwrap())["rooms"].clone()
}

fn session() -> Which {
    Which::Session("!r".to_owned(), "s".to_owned())
}

#[tokio::test]
async fn versions_come_and_go_and_their_names_are_never_given_again() {
    let house = House::new();
    let user = house.person("alice", &[]).await.user;
    let keys = &house.keys;
    assert!(matches!(
        keys.backup_info(user, None).await,
        Err(BackupError::NoVersion)
    ));
    let first = keys.create_backup(user, new_backup("a")).await.unwrap();
    let second = keys.create_backup(user, new_backup("b")).await.unwrap();
    assert_ne!(first, second);
    let info = json!(keys.backup_info(user, None).await.unwrap());
    let expected = json!({
        "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2",
        "auth_data": { "public_key": "b" },
        "count": 0, "etag": "0", "version": second,
    });
    assert_eq!(info, expected);
    keys.delete_backup(user, &second).await.unwrap();
    keys.delete_backup(user, &second).await.unwrap();
    assert_eq!(keys.backup_info(user, None).await.unwrap().version, first);
    let gone = keys.backup_info(user, Some(&second)).await;
    assert!(matches!(gone, Err(BackupError::NoVersion)));
    let third = keys.create_backup(user, new_backup("c")).await.unwrap();
    assert_ne!(third, second);
    for bogus in ["bogus", "01", "99", "-1", ""] {
        let error = keys.delete_backup(user, bogus).await;
        assert!(matches!(error, Err(BackupError::NoVersion)), "{bogus}");
        let error = keys.backup_keys(user, bogus, Which::All).await;
        assert!(matches!(error, Err(BackupError::NoVersion)), "{bogus}");
    }
}

#[tokio::test]
async fn only_auth_data_can_be_updated() {
    let house = House::new();
    let user = house.person("alice", &[]).await.user;
    let version = house
        .keys
        .create_backup(user, new_backup("a"))
        .await
        .unwrap();
    let update = async |backup: NewBackup| house.keys.update_backup(user, &version, backup).await;
    update(new_backup("b")).await.unwrap();
    update(NewBackup {
        version: Some(version.clone()),
        ..new_backup("b")
    })
    .await
    .unwrap();
    let info = json!(house.keys.backup_info(user, Some(&version)).await.unwrap());
    assert_eq!(info["auth_data"], json!({ "public_key": "b" }));
    let other = NewBackup {
        algorithm: "other".to_owned(),
        ..new_backup("b")
    };
    assert!(matches!(update(other).await, Err(BackupError::Invalid(_))));
    let other = NewBackup {
        version: Some("9".to_owned()),
        ..new_backup("b")
    };
    assert!(matches!(update(other).await, Err(BackupError::Invalid(_))));
    let missing = house.keys.update_backup(user, "9", new_backup("b")).await;
    assert!(matches!(missing, Err(BackupError::NoVersion)));
}

#[tokio::test]
async fn the_better_key_stays() {
    let house = House::new();
    let user = house.person("alice", &[]).await.user;
    let version = house
        .keys
        .create_backup(user, new_backup("a"))
        .await
        .unwrap();
    let put = async |key: SessionBackup| {
        let keys = BackupKeys::one("!r", "s", key);
        house
            .keys
            .put_backup_keys(user, &version, keys)
            .await
            .unwrap()
    };
    let kept = async || {
        let found = stored(&house, user, &version, session()).await;
        let key = &found["!r"]["sessions"]["s"];
        let number = |name: &str| key[name].as_u64().unwrap();
        (
            number("first_message_index"),
            number("forwarded_count"),
            key["is_verified"].as_bool().unwrap(),
        )
    };
    let steps = [
        ((5, 5, false), true),
        ((6, 0, false), false),
        ((5, 6, false), false),
        ((5, 5, false), false),
        ((5, 4, false), true),
        ((4, 9, false), true),
        ((7, 7, true), true),
        ((0, 0, false), false),
        ((6, 9, true), true),
    ];
    let mut etag = String::new();
    let mut expected = (0, 0, false);
    for ((index, forwarded, verified), taken) in steps {
        let changed = put(key(index, forwarded, verified)).await;
        assert_eq!(changed.count, 1);
        assert_eq!(
            changed.etag != etag,
            taken,
            "the etag tells of each change, and of no other"
        );
        etag = changed.etag;
        if taken {
            expected = (index, forwarded, verified);
        }
        assert_eq!(kept().await, expected);
    }
}

#[tokio::test]
async fn keys_are_counted_read_and_deleted_by_room_and_session() {
    let house = House::new();
    let user = house.person("alice", &[]).await.user;
    let version = house
        .keys
        .create_backup(user, new_backup("a"))
        .await
        .unwrap();
    let rooms = json!({
        "!a": { "sessions": { "1": key(0, 0, true), "2": key(0, 0, true) } },
        "!b": { "sessions": { "1": key(0, 0, true) } },
    });
    let put = house
        .keys
        .put_backup_keys(user, &version, all(rooms.clone()))
        .await
        .unwrap();
    assert_eq!(put.count, 3);
    let house = house.restart();
    let keys = &house.keys;
    assert_eq!(stored(&house, user, &version, Which::All).await, rooms);
    let room = stored(&house, user, &version, Which::Room("!a".to_owned())).await;
    assert_eq!(room, json!({ "!a": rooms["!a"] }));
    let none = stored(&house, user, &version, Which::Room("!none".to_owned())).await;
    assert_eq!(none, json!({}));
    let error = keys.backup_keys(user, &version, session()).await;
    assert!(matches!(error, Err(BackupError::NoKey)));
    let one = Which::Session("!a".to_owned(), "1".to_owned());
    let left = keys
        .delete_backup_keys(user, &version, one.clone())
        .await
        .unwrap();
    assert_eq!(left.count, 2);
    assert_ne!(left.etag, put.etag);
    assert_eq!(
        keys.delete_backup_keys(user, &version, one).await.unwrap(),
        left
    );
    let room = Which::Room("!a".to_owned());
    assert_eq!(
        keys.delete_backup_keys(user, &version, room)
            .await
            .unwrap()
            .count,
        1
    );
    assert_eq!(
        keys.delete_backup_keys(user, &version, Which::All)
            .await
            .unwrap()
            .count,
        0
    );
    assert_eq!(stored(&house, user, &version, Which::All).await, json!({}));
}

#[tokio::test]
async fn only_the_current_version_takes_keys() {
    let house = House::new();
    let user = house.person("alice", &[]).await.user;
    let keys = &house.keys;
    let old = keys.create_backup(user, new_backup("a")).await.unwrap();
    keys.put_backup_keys(user, &old, BackupKeys::one("!r", "s", key(0, 0, true)))
        .await
        .unwrap();
    let new = keys.create_backup(user, new_backup("b")).await.unwrap();
    let error = keys
        .put_backup_keys(user, &old, BackupKeys::one("!r", "t", key(0, 0, true)))
        .await;
    assert!(matches!(error, Err(BackupError::WrongVersion { current }) if current == new));
    assert_eq!(stored(&house, user, &new, Which::All).await, json!({}));
    assert!(
        stored(&house, user, &old, session()).await["!r"].is_object(),
        "still readable"
    );
    keys.delete_backup(user, &old).await.unwrap();
    let error = keys.backup_keys(user, &old, Which::All).await;
    assert!(matches!(error, Err(BackupError::NoVersion)));
    let error = keys
        .put_backup_keys(user, "77", BackupKeys::default())
        .await;
    assert!(matches!(error, Err(BackupError::NoVersion)));
    let long = BackupKeys::one(&"r".repeat(300), "s", key(0, 0, true));
    let error = keys.put_backup_keys(user, &new, long).await;
    assert!(matches!(error, Err(BackupError::TooLarge(_))));
}

#[tokio::test]
async fn backups_are_bounded_in_number() {
    let house = House::new();
    let alice = house.person("alice", &["A1"]).await;
    for _ in 0..100 {
        house
            .keys
            .create_backup(alice.user, new_backup("a"))
            .await
            .unwrap();
    }
    let refused = house.keys.create_backup(alice.user, new_backup("a")).await;
    assert!(matches!(refused, Err(BackupError::TooLarge(_))));
    house.keys.delete_backup(alice.user, "7").await.unwrap();
    let version = house
        .keys
        .create_backup(alice.user, new_backup("a"))
        .await
        .unwrap();
    assert_eq!(version, "101");
}
