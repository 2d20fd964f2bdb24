use serde_json::{Value, json};
use skerry_account::AccountError;
use skerry_core::UserNid;

use super::home::Home;

async fn ids(home: &Home, user: UserNid, kind: &str) -> Vec<String> {
    let rules = home.accounts.push_rules_of(user, kind).await.unwrap();
    let id = |rule: &Value| rule["rule_id"].as_str().unwrap().to_owned();
    rules.as_array().unwrap().iter().map(id).collect()
}

#[tokio::test]
async fn the_defaults_are_there_and_name_their_user() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let all = home.accounts.push_rules(alice).await.unwrap();
    for kind in ["override", "content", "room", "sender", "underride"] {
        assert!(all["global"][kind].is_array(), "{kind}");
    }
    let ids = ids(&home, alice, "override").await;
    assert_eq!(ids[0], ".m.rule.master");
    let invite = home
        .accounts
        .push_rule(alice, "override", ".m.rule.invite_for_me")
        .await;
    assert!(
        json!(invite.unwrap())
            .to_string()
            .contains("@alice:skerry.test")
    );
    let shown = home
        .accounts
        .global_account_data(&home.snap(), alice)
        .unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!(serde_json::from_str::<Value>(&shown[0].json).unwrap(), all);
    let stored = home
        .accounts
        .account_data(alice, None, "m.push_rules")
        .await
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(&stored).unwrap(), all);
}

#[tokio::test]
async fn rules_are_made_placed_switched_and_deleted() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let accounts = &home.accounts;
    let put = async |id: &str, before: Option<&str>, after: Option<&str>| {
        let body = json!({ "actions": ["notify"], "pattern": id });
        let (before, after) = (before.map(str::to_owned), after.map(str::to_owned));
        accounts
            .set_push_rule(alice, ("content", id), body, before, after)
            .await
    };
    put("a", None, None).await.unwrap();
    put("b", None, None).await.unwrap();
    assert_eq!(ids(&home, alice, "content").await[..2], ["b", "a"]);
    put("c", Some("a"), None).await.unwrap();
    put("d", None, Some("a")).await.unwrap();
    assert_eq!(
        ids(&home, alice, "content").await[..4],
        ["b", "c", "a", "d"]
    );
    put("a", None, None).await.unwrap();
    // With the server's own, which comes last.
    let all = ids(&home, alice, "content").await;
    assert_eq!(all[4..], [".m.rule.contains_user_name"]);
    let since = home.snap().head();
    accounts
        .enable_push_rule(alice, "content", "a", false)
        .await
        .unwrap();
    let actions = json!([{ "set_tweak": "sound", "value": "ding" }]);
    accounts
        .set_push_rule_actions(alice, "content", "a", actions.clone())
        .await
        .unwrap();
    let changed = skerry_account::data::changed(&home.snap(), alice, since).unwrap();
    assert_eq!(changed[0].kind, "m.push_rules");
    let home = home.restart();
    let rule = home
        .accounts
        .push_rule(alice, "content", "a")
        .await
        .unwrap();
    assert_eq!(
        (&rule["enabled"], &rule["actions"]),
        (&json!(false), &actions)
    );
    assert_eq!(rule["default"], json!(false));
    home.accounts
        .remove_push_rule(alice, "content", "a")
        .await
        .unwrap();
    let gone = home.accounts.remove_push_rule(alice, "content", "a").await;
    assert!(matches!(gone, Err(AccountError::NotFound(_))));
}

#[tokio::test]
async fn the_servers_rules_can_be_changed_but_not_made_or_deleted() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let accounts = &home.accounts;
    let own = ("underride", ".m.rule.message");
    accounts
        .enable_push_rule(alice, own.0, own.1, false)
        .await
        .unwrap();
    let deleted = accounts.remove_push_rule(alice, own.0, own.1).await;
    assert!(matches!(deleted, Err(AccountError::Invalid(_))));
    let body = json!({ "actions": [], "conditions": [] });
    let made = accounts
        .set_push_rule(alice, own, body.clone(), None, None)
        .await;
    assert!(matches!(made, Err(AccountError::Invalid(_))));
    let before = Some(".m.rule.call".to_owned());
    let placed = accounts
        .set_push_rule(alice, ("underride", "x"), body, before, None)
        .await;
    assert!(matches!(placed, Err(AccountError::Invalid(_))));
    let rule = accounts.push_rule(alice, own.0, own.1).await.unwrap();
    assert_eq!(
        (&rule["enabled"], &rule["default"]),
        (&json!(false), &json!(true))
    );
    let snap = home.snap();
    assert!(!accounts.ruleset(&snap, alice).unwrap().underride.is_empty());
}

#[tokio::test]
async fn wrong_rules_are_refused() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let put = async |kind: &str, id: &str, body: Value, before: Option<&str>| {
        let before = before.map(str::to_owned);
        home.accounts
            .set_push_rule(alice, (kind, id), body, before, None)
            .await
    };
    let plain = json!({ "actions": ["notify"] });
    let is = |result: &Result<(), AccountError>| match result {
        Err(AccountError::Invalid(_)) => "invalid",
        Err(AccountError::BadJson(_)) => "bad json",
        Err(AccountError::NotFound(_)) => "not found",
        other => panic!("{other:?}"),
    };
    assert_eq!(
        is(&put("nothing", "a", plain.clone(), None).await),
        "invalid"
    );
    assert_eq!(
        is(&put("sender", "a", plain.clone(), None).await),
        "invalid"
    );
    assert_eq!(
        is(&put("override", "a/b", plain.clone(), None).await),
        "invalid"
    );
    assert_eq!(
        is(&put("override", "", plain.clone(), None).await),
        "invalid"
    );
    assert_eq!(
        is(&put("content", "a", plain.clone(), None).await),
        "bad json"
    );
    assert_eq!(
        is(&put("override", "a", json!({ "actions": 1 }), None).await),
        "bad json"
    );
    assert_eq!(is(&put("override", "a", json!([]), None).await), "bad json");
    assert_eq!(
        is(&put("override", "a", plain, Some("never")).await),
        "not found"
    );
    for action in [json!("stop_the_world"), json!(1), json!({ "set": "sound" })] {
        let body = json!({ "actions": [action] });
        let made = put("override", "a", body.clone(), None).await;
        assert_eq!(is(&made), "invalid", "{body}");
        let actions = body["actions"].clone();
        let set = home
            .accounts
            .set_push_rule_actions(alice, "override", ".m.rule.master", actions)
            .await;
        assert_eq!(is(&set), "invalid", "{body}");
    }
    for result in [
        home.accounts
            .enable_push_rule(alice, "override", "x", true)
            .await,
        home.accounts
            .set_push_rule_actions(alice, "override", ".x", json!([]))
            .await,
        home.accounts
            .push_rule(alice, "override", "x")
            .await
            .map(|_| ()),
    ] {
        assert_eq!(is(&result), "not found");
    }
}

#[tokio::test]
async fn a_rule_that_exists_can_be_moved_anywhere() {
    let home = Home::new();
    let alice = home.person("alice").await;
    for kind in ["content", "room", "underride"] {
        let put = async |id: &str, before: Option<&str>, after: Option<&str>| {
            let body = json!({ "actions": ["notify"], "pattern": "x", "conditions": [] });
            let (before, after) = (before.map(str::to_owned), after.map(str::to_owned));
            home.accounts
                .set_push_rule(alice, (kind, id), body, before, after)
                .await
        };
        let first = async || ids(&home, alice, kind).await[..3].join(" ");
        for id in ["#c:x", "#b:x", "#a:x"] {
            put(id, None, None).await.unwrap();
        }
        home.accounts
            .enable_push_rule(alice, kind, "#a:x", false)
            .await
            .unwrap();
        put("#b:x", None, None).await.unwrap();
        assert_eq!(first().await, "#a:x #b:x #c:x", "{kind}");
        put("#a:x", None, Some("#c:x")).await.unwrap();
        assert_eq!(first().await, "#b:x #c:x #a:x", "{kind}");
        put("#c:x", Some("#b:x"), None).await.unwrap();
        assert_eq!(first().await, "#c:x #b:x #a:x", "{kind}");
        put("#c:x", Some("#a:x"), Some("#b:x")).await.unwrap();
        assert_eq!(first().await, "#b:x #c:x #a:x", "{kind}");
        let moved = home.accounts.push_rule(alice, kind, "#a:x").await.unwrap();
        assert_eq!(moved["enabled"], json!(false), "{kind}");
        for (before, after) in [
            (None, Some("#b:x")),
            (Some("#b:x"), None),
            (Some("#c:x"), Some("#a:x")),
        ] {
            let refused = put("#b:x", before, after).await;
            assert!(matches!(refused, Err(AccountError::Invalid(_))), "{kind}");
        }
        let unknown = put("#b:x", Some("#z:x"), None).await;
        assert!(matches!(unknown, Err(AccountError::NotFound(_))), "{kind}");
    }
}

#[tokio::test]
async fn rules_for_rooms_are_evaluated_where_they_name_one() {
    const ROOM: &str = "!room:skerry.test";
    let home = Home::new();
    let alice = home.person("alice").await;
    for id in [ROOM, "#alias:skerry.test"] {
        let body = json!({ "actions": [] });
        home.accounts
            .set_push_rule(alice, ("room", id), body, None, None)
            .await
            .unwrap();
    }
    let home = home.restart();
    assert_eq!(
        ids(&home, alice, "room").await,
        ["#alias:skerry.test", ROOM]
    );
    let set = home.accounts.ruleset(&home.snap(), alice).unwrap();
    let evaluated: Vec<_> = set.room.iter().map(|rule| rule.rule_id.as_str()).collect();
    assert_eq!(evaluated, [ROOM]);
    home.accounts
        .remove_push_rule(alice, "room", ROOM)
        .await
        .unwrap();
    let set = home.accounts.ruleset(&home.snap(), alice).unwrap();
    assert!(set.room.is_empty());
}
