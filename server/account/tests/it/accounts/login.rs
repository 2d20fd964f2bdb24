use serde_json::json;
use skerry_account::profile::Propagate;
use skerry_account::{AccountError, Grant, NewDevice, user};

use super::home::{Home, PASSWORD, challenge, scope};

fn is_unknown<T>(result: Result<T, AccountError>) -> bool {
    matches!(
        result,
        Err(AccountError::UnknownToken { soft_logout: false })
    )
}

async fn refreshable(home: &Home) -> Grant {
    let device = NewDevice {
        refresh: true,
        ..NewDevice::default()
    };
    home.log_in_with("alice", PASSWORD, device).await.unwrap()
}

#[tokio::test]
async fn a_password_logs_in_by_localpart_and_by_full_id() {
    let home = Home::new();
    home.person("alice").await;
    for name in ["alice", "@alice:skerry.test", "Alice", "@alice"] {
        home.try_log_in(name, PASSWORD).await.unwrap();
    }
    for (name, password) in [
        ("alice", "wrong"),
        ("bob", PASSWORD),
        ("@alice:elsewhere.test", PASSWORD),
        ("", PASSWORD),
        ("alice", ""),
    ] {
        let refused = home.try_log_in(name, password).await;
        assert!(
            matches!(refused, Err(AccountError::Forbidden(_))),
            "{name:?} {password:?}"
        );
    }
}

#[tokio::test]
async fn a_device_taken_up_again_has_new_tokens_only() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let first = home.log_in("alice", "A").await;
    home.authenticate(&first.access_token).await.unwrap();
    let second = home.log_in("alice", "A").await;
    assert!(is_unknown(home.authenticate(&first.access_token).await));
    let session = home.authenticate(&second.access_token).await.unwrap();
    assert_eq!((session.user, &*session.device), (alice, "A"));
    assert_eq!(home.accounts.devices(alice).await.unwrap().len(), 1);
}

#[tokio::test]
async fn logging_out_takes_the_token_warm_or_cold() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let (a, b, c) = (
        home.log_in("alice", "A").await,
        home.log_in("alice", "B").await,
        home.log_in("alice", "C").await,
    );
    home.authenticate(&a.access_token).await.unwrap();
    home.accounts.log_out(alice, "A").await.unwrap();
    assert!(is_unknown(home.authenticate(&a.access_token).await));
    home.authenticate(&b.access_token).await.unwrap();
    home.accounts.log_out_all(alice).await.unwrap();
    for grant in [b, c] {
        assert!(is_unknown(home.authenticate(&grant.access_token).await));
    }
    assert!(home.accounts.devices(alice).await.unwrap().is_empty());
    for nonsense in ["", "x", &"x".repeat(10_000)] {
        assert!(is_unknown(home.authenticate(nonsense).await));
    }
}

#[tokio::test]
async fn a_token_that_expires_is_only_softly_logged_out_and_can_be_refreshed() {
    let home = Home::with(|settings| settings.access_token_ms = 1_000);
    home.person("alice").await;
    let first = refreshable(&home).await;
    assert_eq!(first.expires_in_ms, Some(1_000));
    home.authenticate(&first.access_token).await.unwrap();
    home.clock.advance(1_000);
    let soft = home.authenticate(&first.access_token).await;
    assert!(matches!(
        soft,
        Err(AccountError::UnknownToken { soft_logout: true })
    ));
    let second = home
        .accounts
        .refresh(&first.refresh_token.unwrap())
        .await
        .unwrap();
    assert_eq!(second.device, first.device);
    home.authenticate(&second.access_token).await.unwrap();
}

#[tokio::test]
async fn a_refresh_token_stays_good_until_the_new_tokens_are_used() {
    let home = Home::new();
    home.person("alice").await;
    let first = refreshable(&home).await;
    let old = first.refresh_token.unwrap();
    let lost = home.accounts.refresh(&old).await.unwrap();
    let second = home.accounts.refresh(&old).await.unwrap();
    assert!(is_unknown(home.authenticate(&lost.access_token).await));
    home.authenticate(&first.access_token).await.unwrap();
    home.authenticate(&second.access_token).await.unwrap();
    assert!(is_unknown(home.accounts.refresh(&old).await));
    assert!(is_unknown(home.authenticate(&first.access_token).await));
    let third = home
        .accounts
        .refresh(&second.refresh_token.clone().unwrap())
        .await
        .unwrap();
    let fourth = home
        .accounts
        .refresh(&third.refresh_token.unwrap())
        .await
        .unwrap();
    assert!(is_unknown(
        home.accounts.refresh(&second.refresh_token.unwrap()).await
    ));
    home.authenticate(&fourth.access_token).await.unwrap();
    assert!(is_unknown(
        home.accounts.refresh(&fourth.access_token).await
    ));
    let logged_out = fourth.refresh_token.unwrap();
    assert!(is_unknown(home.authenticate(&logged_out).await));
    home.accounts.log_out_all(fourth.user).await.unwrap();
    assert!(is_unknown(home.accounts.refresh(&logged_out).await));
}

#[tokio::test]
async fn a_password_change_needs_the_old_one_and_logs_the_others_out() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let (a, b) = (
        home.log_in("alice", "A").await,
        home.log_in("alice", "B").await,
    );
    let change = |auth| {
        let accounts = home.accounts.clone();
        async move {
            let scope = scope(Some(alice), "POST", "/account/password");
            let (new, keep) = (Some("new".to_owned()), Some("A".to_owned()));
            accounts
                .change_password(scope, Some(&auth), new, keep, true)
                .await
        }
    };
    let identifier = json!({ "type": "m.id.user", "user": "alice" });
    let wrong = json!({ "type": "m.login.password", "identifier": identifier, "password": "x" });
    let body = challenge(change(wrong.clone()).await);
    assert_eq!(body["errcode"], "M_FORBIDDEN");
    let mut right = wrong;
    right["password"] = json!(PASSWORD);
    right["session"] = body["session"].clone();
    change(right).await.unwrap();
    home.authenticate(&a.access_token).await.unwrap();
    assert!(is_unknown(home.authenticate(&b.access_token).await));
    assert!(home.try_log_in("alice", PASSWORD).await.is_err());
    home.try_log_in("alice", "new").await.unwrap();
}

#[tokio::test]
async fn a_session_is_good_for_one_request_of_one_user() {
    let home = Home::new();
    let (alice, bob) = (home.person("alice").await, home.person("bob").await);
    let ask = |user, path: &'static str, auth| {
        let accounts = home.accounts.clone();
        async move {
            accounts
                .prove_owner(scope(Some(user), "POST", path), auth)
                .await
        }
    };
    let body = challenge(ask(alice, "/a", None).await);
    let auth = |name: &str| {
        json!({ "type": "m.login.password", "session": body["session"], "password": PASSWORD,
            "identifier": { "type": "m.id.user", "user": name } })
    };
    let (mine, bobs) = (auth("alice"), auth("bob"));
    for (user, path) in [(alice, "/b"), (bob, "/a")] {
        let refused = ask(user, path, Some(&mine)).await;
        assert!(matches!(refused, Err(AccountError::Forbidden(_))), "{path}");
    }
    let theirs = ask(alice, "/a", Some(&bobs)).await;
    assert!(matches!(theirs, Err(AccountError::Forbidden(_))));
    ask(alice, "/a", Some(&mine)).await.unwrap();
    let again = challenge(ask(alice, "/a", Some(&mine)).await);
    assert_eq!(again["errcode"], "M_UNKNOWN");
    assert_ne!(again["session"], body["session"]);
}

#[tokio::test]
async fn a_session_ends_after_half_an_hour() {
    let home = Home::open();
    let asked = home
        .register(json!({ "username": "alice", "password": PASSWORD }))
        .await;
    let body = challenge(asked);
    home.clock.advance(30 * 60_000);
    let auth = json!({ "session": body["session"], "type": "m.login.dummy" });
    assert_eq!(
        challenge(home.register(json!({ "auth": auth })).await)["errcode"],
        "M_UNKNOWN"
    );
}

#[tokio::test]
async fn a_deactivated_account_is_closed_for_good() {
    let home = Home::new();
    let alice = home.person("alice").await;
    let grant = home.log_in("alice", "A").await;
    home.authenticate(&grant.access_token).await.unwrap();
    home.accounts
        .set_profile_field(alice, "displayname", json!("Alice"), Propagate::All)
        .await
        .unwrap();
    let bell = home.accounts.jobs_bell();
    let auth = json!({ "type": "m.login.password", "password": PASSWORD });
    let scope = scope(Some(alice), "POST", "/account/deactivate");
    home.accounts
        .deactivate_own(scope, Some(&auth), true)
        .await
        .unwrap();
    assert!(bell.has_changed().unwrap());
    assert!(is_unknown(home.authenticate(&grant.access_token).await));
    let refused = home.try_log_in("alice", PASSWORD).await;
    assert!(matches!(refused, Err(AccountError::Deactivated)));
    let again = home
        .accounts
        .create_user("alice", PASSWORD.into(), None)
        .await;
    assert!(matches!(again, Err(AccountError::UserInUse)));
    let snap = home.snap();
    assert!(user::is_erased(&snap, alice).unwrap() && !user::is_active(&snap, alice).unwrap());
    assert!(
        home.accounts
            .profile("@alice:skerry.test")
            .await
            .unwrap()
            .is_empty()
    );
    let kinds: Vec<_> = skerry_account::job::pending(&snap, 10)
        .unwrap()
        .iter()
        .map(|job| job.kind)
        .collect();
    assert!(kinds.contains(&skerry_account::job::RoomJob::Leave));
}

#[tokio::test]
async fn promotion_reaches_sessions_in_memory() {
    let home = Home::new();
    home.person("root").await;
    let alice = home.person("alice").await;
    let grant = home.log_in("alice", "A").await;
    assert!(!home.authenticate(&grant.access_token).await.unwrap().admin);
    home.accounts.set_admin(alice, true).await.unwrap();
    assert!(home.authenticate(&grant.access_token).await.unwrap().admin);
    home.accounts.set_admin(alice, false).await.unwrap();
    assert!(!home.authenticate(&grant.access_token).await.unwrap().admin);
    assert_eq!(home.accounts.find_user("alice").await.unwrap(), alice);
    assert!(matches!(
        home.accounts.find_user("bob").await,
        Err(AccountError::NotFound(_))
    ));
}

#[tokio::test]
async fn sessions_beyond_the_cache_are_found_again() {
    let home = Home::with(|settings| settings.cached_sessions = 2);
    home.person("alice").await;
    let mut grants = Vec::new();
    for n in 0..6 {
        grants.push(home.log_in("alice", &format!("D{n}")).await);
    }
    for _ in 0..2 {
        for grant in &grants {
            let session = home.authenticate(&grant.access_token).await.unwrap();
            assert_eq!(*session.device, *grant.device);
        }
    }
}

#[tokio::test]
async fn sessions_of_authentication_are_bounded_and_the_oldest_go() {
    let home = Home::open();
    let ask = async || {
        let asked = home.register(json!({ "password": PASSWORD })).await;
        challenge(asked)["session"].clone()
    };
    let first = ask().await;
    home.clock.advance(1);
    let mut last = first.clone();
    for _ in 0..4_096 {
        last = ask().await;
    }
    let go_on = async |session: serde_json::Value| {
        let auth = json!({ "session": session, "type": "m.login.dummy" });
        home.register(json!({ "auth": auth })).await
    };
    assert_eq!(challenge(go_on(first).await)["errcode"], "M_UNKNOWN");
    go_on(last).await.unwrap();
}

#[tokio::test]
async fn a_session_does_not_tell_whether_anothers_password_is_right() {
    let home = Home::new();
    let alice = home.person("alice").await;
    home.person("bob").await;
    for password in [PASSWORD, "wrong"] {
        let auth = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": "bob" },
            "password": password,
        });
        let scope = scope(Some(alice), "POST", "/account/password");
        let refused = home.accounts.prove_owner(scope, Some(&auth)).await;
        assert!(
            matches!(refused, Err(AccountError::Forbidden(_))),
            "{password}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn guesses_at_one_account_run_out_whether_it_exists_or_not() {
    let home = Home::new();
    home.person("alice").await;
    for name in ["alice", "nobody"] {
        for _ in 0..20 {
            let wrong = home.try_log_in(name, "wrong").await;
            assert!(matches!(wrong, Err(AccountError::Forbidden(_))), "{name}");
        }
        let full_id = format!("@{name}:skerry.test");
        for name in [name, &full_id] {
            let refused = home.try_log_in(name, PASSWORD).await;
            assert!(
                matches!(refused, Err(AccountError::Busy { .. })),
                "{name}: {refused:?}"
            );
        }
    }
    home.clock.advance(30_000);
    home.try_log_in("alice", PASSWORD).await.unwrap();
    for _ in 0..20 {
        assert!(home.try_log_in("alice", "wrong").await.is_err());
    }
}
