use serde_json::{Value, json};
use skerry_account::{AccountError, Replaced, data};
use skerry_core::Pos;

use super::home::Home;

const ROOM: &str = "!room:skerry.test";

#[tokio::test]
async fn account_data_is_kept_globally_and_by_room() {
    let home = Home::new();
    let (alice, bob) = (home.person("alice").await, home.person("bob").await);
    let accounts = &home.accounts;
    accounts
        .set_account_data(alice, None, "org.a", json!({ "n": 1 }))
        .await
        .unwrap();
    accounts
        .set_account_data(alice, Some(ROOM), "org.a", json!({ "n": 2 }))
        .await
        .unwrap();
    let read = async |user, room| accounts.account_data(user, room, "org.a").await;
    assert_eq!(read(alice, None).await.unwrap(), r#"{"n":1}"#);
    assert_eq!(read(alice, Some(ROOM)).await.unwrap(), r#"{"n":2}"#);
    for missing in [
        read(bob, None).await,
        read(alice, Some("!other:skerry.test")).await,
    ] {
        assert!(matches!(missing, Err(AccountError::NotFound(_))));
    }
}

#[tokio::test]
async fn what_is_no_account_data_is_refused() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let set = async |room, kind: &str, content: Value| {
        home.accounts
            .set_account_data(alice, room, kind, content)
            .await
    };
    for kind in ["m.fully_read", "m.push_rules"] {
        for room in [None, Some(ROOM)] {
            assert!(matches!(
                set(room, kind, json!({})).await,
                Err(AccountError::ServerManaged)
            ));
        }
    }
    assert!(matches!(
        set(None, "org.a", json!([])).await,
        Err(AccountError::BadJson(_))
    ));
    assert!(matches!(
        set(None, "", json!({})).await,
        Err(AccountError::Invalid(_))
    ));
    assert!(matches!(
        set(Some("room"), "org.a", json!({})).await,
        Err(AccountError::Invalid(_))
    ));
    let huge = json!({ "x": "x".repeat(300_000) });
    assert!(matches!(
        set(None, "org.a", huge).await,
        Err(AccountError::TooLarge(_))
    ));
}

#[tokio::test]
async fn changes_since_a_position_are_the_newest_of_each_in_order() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let set = async |room, kind: &str, n: u32| {
        let content = json!({ "n": n });
        home.accounts
            .set_account_data(alice, room, kind, content)
            .await
            .unwrap();
    };
    set(None, "org.a", 1).await;
    set(Some(ROOM), "org.b", 2).await;
    let since = home.snap().head();
    let changed = |since| {
        let found = data::changed(&home.snap(), alice, since).unwrap();
        found
            .into_iter()
            .map(|d| (d.room.is_some(), d.kind, d.json))
            .collect::<Vec<_>>()
    };
    let row = |room: bool, kind: &str, n: u32| (room, kind.to_owned(), format!(r#"{{"n":{n}}}"#));
    assert_eq!(
        changed(Pos::ZERO),
        [row(false, "org.a", 1), row(true, "org.b", 2)]
    );
    assert!(changed(since).is_empty());
    set(None, "org.c", 3).await;
    set(None, "org.a", 4).await;
    set(None, "org.c", 5).await;
    assert_eq!(
        changed(since),
        [row(false, "org.a", 4), row(false, "org.c", 5)]
    );
    assert_eq!(changed(Pos::ZERO).len(), 3);
    assert_eq!(data::all(&home.snap(), alice, None).unwrap().len(), 2);
}

#[tokio::test]
async fn tags_are_account_data_of_the_room() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let accounts = &home.accounts;
    assert!(accounts.tags(alice, ROOM).await.unwrap().is_empty());
    accounts
        .set_tag(alice, ROOM, "m.favourite", json!({ "order": 0.25 }))
        .await
        .unwrap();
    accounts
        .set_tag(alice, ROOM, "u.work", json!({}))
        .await
        .unwrap();
    accounts.remove_tag(alice, ROOM, "nothing").await.unwrap();
    let tags = json!({ "m.favourite": { "order": 0.25 }, "u.work": {} });
    assert_eq!(
        Value::Object(accounts.tags(alice, ROOM).await.unwrap()),
        tags
    );
    let datum = accounts
        .account_data(alice, Some(ROOM), "m.tag")
        .await
        .unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&datum).unwrap(),
        json!({ "tags": tags })
    );
    accounts
        .remove_tag(alice, ROOM, "m.favourite")
        .await
        .unwrap();
    assert_eq!(accounts.tags(alice, ROOM).await.unwrap().len(), 1);
    let order = accounts
        .set_tag(alice, ROOM, "u.a", json!({ "order": 2 }))
        .await;
    assert!(matches!(order, Err(AccountError::Invalid(_))));
    let order = accounts
        .set_tag(alice, ROOM, "u.a", json!({ "order": "0.2" }))
        .await;
    assert!(matches!(order, Err(AccountError::BadJson(_))));
}

#[tokio::test]
async fn ignored_users_follow_the_account_data() {
    let home = Home::new();
    let (alice, bob) = (home.person("alice").await, home.person("bob").await);
    let ignored = || home.accounts.ignored(&home.snap(), alice).unwrap();
    assert!(ignored().is_empty());
    let list = |ids: &[&str]| {
        let users: serde_json::Map<String, Value> =
            ids.iter().map(|id| ((*id).to_owned(), json!({}))).collect();
        json!({ "ignored_users": users })
    };
    let set = async |content| {
        home.accounts
            .set_account_data(alice, None, "m.ignored_user_list", content)
            .await
            .unwrap();
    };
    let before = home.snap();
    set(list(&[
        "@bob:skerry.test",
        "@carol:skerry.test",
        "@alice:skerry.test",
    ]))
    .await;
    assert_eq!(*ignored(), [bob].into());
    let carol = home.person("carol").await;
    assert_eq!(*ignored(), [bob, carol].into());
    set(list(&["@carol:skerry.test"])).await;
    assert_eq!(*ignored(), [carol].into());
    set(json!({ "ignored_users": 3 })).await;
    assert!(ignored().is_empty());
    assert!(home.accounts.ignored(&before, alice).unwrap().is_empty());
}

#[tokio::test]
async fn filters_have_ids_made_from_their_content() {
    let home = Home::new();
    let (alice, bob) = (home.person("alice").await, home.person("bob").await);
    let filter = json!({ "room": { "timeline": { "limit": 10 } } });
    let id = home.accounts.create_filter(alice, &filter).await.unwrap();
    assert_eq!(
        home.accounts.create_filter(alice, &filter).await.unwrap(),
        id
    );
    let other = home
        .accounts
        .create_filter(alice, &json!({}))
        .await
        .unwrap();
    assert_ne!(other, id);
    let home = home.restart();
    assert_eq!(
        home.accounts.filter(alice, &id).await.unwrap(),
        filter.to_string()
    );
    for (user, id) in [(bob, id.as_str()), (alice, "0"), (alice, "x"), (alice, "")] {
        let missing = home.accounts.filter(user, id).await;
        assert!(matches!(missing, Err(AccountError::NotFound(_))), "{id}");
    }
}

#[tokio::test]
async fn what_belongs_to_a_room_is_carried_over_to_the_next() {
    const NEXT: &str = "!next:skerry.test";
    let home = Home::new();
    let alice = home.person("alice").await;
    let accounts = &home.accounts;
    accounts
        .set_tag(alice, ROOM, "u.work", json!({ "order": 0.5 }))
        .await
        .unwrap();
    let direct = json!({ "@bob:skerry.test": [ROOM], "@carol:skerry.test": ["!x:y"] });
    accounts
        .set_account_data(alice, None, "m.direct", direct)
        .await
        .unwrap();
    let room_rule = json!({ "actions": [] });
    accounts
        .set_push_rule(alice, ("room", ROOM), room_rule, None, None)
        .await
        .unwrap();
    accounts
        .enable_push_rule(alice, "room", ROOM, false)
        .await
        .unwrap();
    let condition = json!({ "kind": "event_match", "key": "room_id", "pattern": ROOM });
    let mute = json!({ "actions": [], "conditions": [condition] });
    accounts
        .set_push_rule(alice, ("override", ROOM), mute, None, None)
        .await
        .unwrap();
    let rooms = Replaced {
        from: home.store.intern_room(ROOM).unwrap(),
        to: home.store.intern_room(NEXT).unwrap(),
    };
    let plan = || {
        let mut w = home.store.write();
        accounts
            .carry_over(&home.store.newest(), &mut w, alice, rooms)
            .unwrap();
        w
    };
    let stale = plan();
    let direct = json!({ "@bob:skerry.test": [ROOM] });
    accounts
        .set_account_data(alice, None, "m.direct", direct)
        .await
        .unwrap();
    assert!(matches!(
        home.store.commit(stale),
        Err(skerry_store::StoreError::Conflict { .. })
    ));
    let applied = home.store.commit(plan()).unwrap();
    home.store.wait_durable(&applied).unwrap();
    assert!(plan().is_empty());
    assert_eq!(
        Value::Object(accounts.tags(alice, NEXT).await.unwrap()),
        json!({ "u.work": { "order": 0.5 } })
    );
    let direct = accounts.account_data(alice, None, "m.direct").await;
    let both = json!({ "@bob:skerry.test": [ROOM, NEXT] });
    assert_eq!(
        serde_json::from_str::<Value>(&direct.unwrap()).unwrap(),
        both
    );
    let rule = accounts.push_rule(alice, "room", NEXT).await.unwrap();
    assert_eq!(rule["enabled"], json!(false));
    let rule = accounts.push_rule(alice, "override", NEXT).await.unwrap();
    assert_eq!(rule["conditions"][0]["pattern"], json!(NEXT));
}

#[tokio::test]
async fn what_one_user_keeps_is_bounded() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let large = json!({ "filler": "x".repeat(250_000) });
    let mut kept = 0;
    let refused = loop {
        // Each in another room, none of which exists.
        let room = format!("!room{kept}:skerry.test");
        let accounts = &home.accounts;
        let set = accounts.set_account_data(alice, Some(&room), "org.a", large.clone());
        match set.await {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 100, "there is a bound");
    };
    assert!(matches!(refused, AccountError::TooLarge(_)));
    let first = "!room0:skerry.test";
    let smaller = json!({ "filler": "x".repeat(1_000) });
    for content in [large.clone(), smaller] {
        home.accounts
            .set_account_data(alice, Some(first), "org.a", content)
            .await
            .unwrap();
    }
    home.accounts
        .set_account_data(alice, None, "org.b", json!({}))
        .await
        .unwrap();
}
