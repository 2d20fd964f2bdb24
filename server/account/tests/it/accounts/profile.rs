use serde_json::json;
use skerry_account::job::{self, RoomJob};
use skerry_account::profile::Propagate;
use skerry_account::{AccountError, profile};

use super::home::Home;

#[tokio::test]
async fn fields_are_set_read_and_removed() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let set = async |field: &str, value| {
        home.accounts
            .set_profile_field(alice, field, value, Propagate::All)
            .await
    };
    set("displayname", json!("Alice")).await.unwrap();
    set("avatar_url", json!("mxc://skerry.test/abc"))
        .await
        .unwrap();
    set("m.tz", json!("Europe/London")).await.unwrap();
    set("org.example.job", json!({ "title": [1, null, 2.5] }))
        .await
        .unwrap();
    let all = home.accounts.profile("@alice:skerry.test").await.unwrap();
    assert_eq!(
        serde_json::Value::Object(all),
        json!({ "displayname": "Alice", "avatar_url": "mxc://skerry.test/abc",
            "m.tz": "Europe/London", "org.example.job": { "title": [1, null, 2.5] } })
    );
    let face = profile::face(&home.snap(), alice).unwrap();
    assert_eq!(face.display_name.as_deref(), Some("Alice"));
    home.accounts
        .remove_profile_field(alice, "m.tz", Propagate::All)
        .await
        .unwrap();
    home.accounts
        .remove_profile_field(alice, "m.tz", Propagate::All)
        .await
        .unwrap();
    set("displayname", json!("")).await.unwrap();
    for field in ["m.tz", "org.example.never"] {
        let missing = home
            .accounts
            .profile_field("@alice:skerry.test", field)
            .await;
        assert!(matches!(missing, Err(AccountError::NotFound(_))), "{field}");
    }
    let name = home
        .accounts
        .profile_field("@alice:skerry.test", "displayname")
        .await;
    assert_eq!(name.unwrap(), None);
    let nobody = home.accounts.profile("@bob:skerry.test").await;
    assert!(matches!(nobody, Err(AccountError::NotFound(_))));
}

#[tokio::test]
async fn wrong_fields_and_values_are_refused() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let set = async |field: &str, value| {
        home.accounts
            .set_profile_field(alice, field, value, Propagate::All)
            .await
    };
    for field in [
        "",
        "nickname",
        "Org.example",
        "org..example",
        "org.ex ample",
        ".a.b",
    ] {
        let refused = set(field, json!(1)).await;
        assert!(
            matches!(refused, Err(AccountError::Invalid(_))),
            "{field:?}"
        );
    }
    let long = format!("org.{}", "x".repeat(252));
    assert!(matches!(
        set(&long, json!(1)).await,
        Err(AccountError::KeyTooLarge)
    ));
    assert!(matches!(
        set("displayname", json!(1)).await,
        Err(AccountError::BadJson(_))
    ));
    assert!(matches!(
        set("avatar_url", json!("x".repeat(1_025))).await,
        Err(AccountError::Invalid(_))
    ));
    let half = json!("x".repeat(40_000));
    set("org.example.one", half.clone()).await.unwrap();
    let over = set("org.example.two", half.clone()).await;
    assert!(matches!(over, Err(AccountError::ProfileTooLarge)));
    set("org.example.one", half).await.unwrap();
}

#[tokio::test]
async fn a_change_leaves_a_job_until_the_newest_is_done() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let mut bell = home.accounts.jobs_bell();
    home.accounts
        .set_profile_field(alice, "m.tz", json!("UTC"), Propagate::All)
        .await
        .unwrap();
    assert!(job::pending(&home.snap(), 10).unwrap().is_empty());
    home.accounts
        .set_profile_field(alice, "displayname", json!("A"), Propagate::All)
        .await
        .unwrap();
    bell.changed().await.unwrap();
    let old = job::pending(&home.snap(), 10).unwrap()[0];
    assert_eq!((old.user, old.kind), (alice, RoomJob::Profile));
    home.accounts
        .set_profile_field(alice, "displayname", json!("B"), Propagate::All)
        .await
        .unwrap();
    let home = home.restart();
    let mut w = home.store.write();
    job::done(&mut w, old);
    assert!(matches!(
        home.store.commit(w),
        Err(skerry_store::StoreError::Conflict { .. })
    ));
    let new = job::pending(&home.snap(), 10).unwrap()[0];
    assert!(new.pos > old.pos);
    let mut w = home.store.write();
    job::done(&mut w, new);
    let applied = home.store.commit(w).unwrap();
    home.store.wait_durable(&applied).unwrap();
    assert!(job::pending(&home.snap(), 10).unwrap().is_empty());
}
