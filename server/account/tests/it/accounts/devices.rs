use serde_json::json;
use skerry_account::AccountError;

use super::home::{Home, PASSWORD, challenge, scope};

#[tokio::test]
async fn devices_are_listed_renamed_and_seen() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let grant = home.log_in("alice", "A").await;
    assert_eq!(
        home.accounts.device(alice, "A").await.unwrap().last_seen_ms,
        None
    );
    home.authenticate(&grant.access_token).await.unwrap();
    home.accounts
        .rename_device(alice, "A", Some("phone".into()))
        .await
        .unwrap();
    home.accounts.rename_device(alice, "A", None).await.unwrap();
    let device = home.accounts.device(alice, "A").await.unwrap();
    assert_eq!(device.display_name.as_deref(), Some("phone"));
    assert_eq!(device.last_seen_ip.as_deref(), Some("127.0.0.1"));
    let seen = device.last_seen_ms;
    assert!(seen.is_some());
    home.accounts.write_last_seen().await.unwrap();
    let home = home.restart();
    assert_eq!(
        home.accounts.device(alice, "A").await.unwrap().last_seen_ms,
        seen
    );
    for missing in [
        home.accounts.device(alice, "B").await.map(|_| ()),
        home.accounts
            .rename_device(alice, "B", Some("x".into()))
            .await,
    ] {
        assert!(matches!(missing, Err(AccountError::NotFound(_))));
    }
    let long = home
        .accounts
        .rename_device(alice, "A", Some("x".repeat(1_000)))
        .await;
    assert!(matches!(long, Err(AccountError::TooLarge(_))));
}

#[tokio::test]
async fn devices_are_deleted_with_the_password_only_and_only_ones_own() {
    let home = Home::new();
    let (alice, _) = (home.person("alice").await, home.person("bob").await);
    let grants = [
        home.log_in("alice", "A").await,
        home.log_in("alice", "B").await,
    ];
    let bobs = home.log_in("bob", "A").await;
    let delete = |auth| {
        let accounts = home.accounts.clone();
        async move {
            let scope = scope(Some(alice), "POST", "/delete_devices");
            let devices = ["A", "B", "nothing"].map(str::to_owned).to_vec();
            accounts.delete_own_devices(scope, auth, devices).await
        }
    };
    challenge(delete(None).await);
    assert_eq!(home.accounts.devices(alice).await.unwrap().len(), 2);
    let auth = json!({ "type": "m.login.password", "password": PASSWORD });
    delete(Some(&auth)).await.unwrap();
    for grant in grants {
        assert!(home.authenticate(&grant.access_token).await.is_err());
    }
    home.authenticate(&bobs.access_token).await.unwrap();
}

#[tokio::test]
async fn what_was_proved_is_good_for_the_devices_named() {
    let home = Home::new();
    let alice = home.person("alice").await;
    home.log_in("alice", "A").await;
    let delete = async |device: &str, auth: Option<&serde_json::Value>| {
        let scope = scope(Some(alice), "POST", "/delete_devices");
        home.accounts
            .delete_own_devices(scope, auth, vec![device.to_owned()])
            .await
    };
    let session = challenge(delete("B", None).await)["session"].clone();
    let auth = json!({ "type": "m.login.password", "password": PASSWORD, "session": session });
    let other = delete("A", Some(&auth)).await;
    assert!(matches!(other, Err(AccountError::Forbidden(_))));
    delete("B", Some(&auth)).await.unwrap();
    home.accounts.device(alice, "A").await.unwrap();
}

#[tokio::test]
async fn beyond_a_thousand_devices_the_oldest_goes() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let oldest = home.log_in("alice", "OLDEST").await;
    home.clock.advance(1);
    for n in 0..999 {
        home.log_in("alice", &format!("D{n}")).await;
    }
    home.authenticate(&oldest.access_token).await.unwrap();
    let newest = home.log_in("alice", "NEWEST").await;
    assert_eq!(home.accounts.devices(alice).await.unwrap().len(), 1_000);
    assert!(home.authenticate(&oldest.access_token).await.is_err());
    home.authenticate(&newest.access_token).await.unwrap();
}
