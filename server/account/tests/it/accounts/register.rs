use serde_json::{Value, json};
use skerry_account::{AccountError, NewDevice, SharedSecretRegistration, Terms, user};

use super::home::{Home, PASSWORD, challenge};

#[tokio::test]
async fn registration_is_refused_unless_enabled() {
    let home = Home::new();
    let refused = home.register_dummy("alice").await;
    assert!(matches!(refused, Err(AccountError::Forbidden(_))));
}

#[tokio::test]
async fn the_first_person_becomes_admin_and_nobody_after() {
    let home = Home::open();
    assert!(!home.accounts.has_people().await.unwrap());
    let alice = home.register_dummy("alice").await.unwrap();
    let bob = home.register_dummy("bob").await.unwrap();
    assert!(home.accounts.has_people().await.unwrap());
    let snap = home.snap();
    assert!(user::is_admin(&snap, alice.user).unwrap());
    assert!(!user::is_admin(&snap, bob.user).unwrap());
    let token = alice.grant.unwrap().access_token;
    assert!(home.authenticate(&token).await.unwrap().admin);
}

#[tokio::test]
async fn a_name_is_lowered_checked_and_given_once() {
    let home = Home::open();
    let alice = home.register_dummy("Alice").await.unwrap();
    assert_eq!(&*alice.user_id, "@alice:skerry.test");
    let again = home.register_dummy("ALICE").await;
    assert!(matches!(again, Err(AccountError::UserInUse)));
    assert!(matches!(
        home.accounts.check_available("alice").await,
        Err(AccountError::UserInUse)
    ));
    home.accounts.check_available("bob").await.unwrap();
    let long = "x".repeat(250);
    for bad in [
        "",
        "a b",
        "a:b",
        "é",
        "_bridge",
        "123",
        "@a",
        long.as_str(),
        "a\n",
    ] {
        let refused = home.register_dummy(bad).await;
        assert!(
            matches!(refused, Err(AccountError::InvalidUsername(_))),
            "{bad:?}"
        );
    }
    for good in ["a.b", "a_b", "a=b", "a-b", "a/b", "a+b", "1a"] {
        home.register_dummy(good).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_remembers_what_was_asked_and_never_makes_two_accounts() {
    let home = Home::open();
    let first = home.register(json!({ "username": "alice", "password": PASSWORD,
        "device_id": "XYZ", "initial_device_display_name": "mine" }));
    let body = challenge(first.await);
    assert_eq!(body["flows"], json!([{ "stages": ["m.login.dummy"] }]));
    let auth = json!({ "session": body["session"], "type": "m.login.dummy" });
    let made = home.register(json!({ "auth": auth })).await.unwrap();
    assert_eq!(&*made.user_id, "@alice:skerry.test");
    assert_eq!(made.grant.as_ref().unwrap().device, "XYZ");
    let device = home.accounts.device(made.user, "XYZ").await.unwrap();
    assert_eq!(device.display_name.as_deref(), Some("mine"));
    let again = home
        .register(json!({ "auth": auth, "password": PASSWORD }))
        .await
        .unwrap();
    assert_eq!(again.user, made.user);
    assert_eq!(home.accounts.list_users(None, 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_makes_one_account_also_at_the_same_time() {
    let home = Home::open();
    let asked = home.register(json!({ "password": PASSWORD })).await;
    let auth = json!({ "session": challenge(asked)["session"], "type": "m.login.dummy" });
    let tries = (0..6).map(|n| {
        let (accounts, auth) = (home.accounts.clone(), auth.clone());
        tokio::spawn(async move {
            let body = json!({ "username": format!("u{n}"), "password": PASSWORD, "auth": auth });
            let scope = super::home::scope(None, "POST", "/register");
            accounts.register(scope, body).await.unwrap().user
        })
    });
    let mut made = Vec::new();
    for attempt in tries.collect::<Vec<_>>() {
        made.push(attempt.await.unwrap());
    }
    assert!(made.iter().all(|user| *user == made[0]), "{made:?}");
}

#[tokio::test]
async fn inhibit_login_makes_no_device() {
    let home = Home::open();
    let made = home.register(json!({ "username": "alice", "password": PASSWORD,
        "inhibit_login": true, "auth": { "type": "m.login.dummy" } }));
    let made = made.await.unwrap();
    assert!(made.grant.is_none());
    assert!(home.accounts.devices(made.user).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_token_is_needed_where_registration_is_not_open_and_wears_out() {
    let home = Home::with(|settings| settings.registration.enabled = true);
    let token = home
        .accounts
        .create_registration_token(None, Some(1), None)
        .await
        .unwrap()
        .token;
    let wanted = |name: &str, token: &str| {
        let auth = json!({ "type": "m.login.registration_token", "token": token });
        json!({ "username": name, "password": PASSWORD, "auth": auth })
    };
    let body = challenge(home.register(wanted("alice", "wrong")).await);
    assert_eq!(body["errcode"], "M_FORBIDDEN");
    assert_eq!(
        body["flows"],
        json!([{ "stages": ["m.login.registration_token"] }])
    );
    let body = challenge(home.register_dummy("alice").await);
    assert_eq!(body["errcode"], "M_UNRECOGNIZED");
    home.register(wanted("alice", &token)).await.unwrap();
    assert!(!home.accounts.registration_token_good(&token).await.unwrap());
    challenge(home.register(wanted("bob", &token)).await);
}

#[tokio::test]
async fn a_token_good_for_one_makes_one_account_also_at_the_same_time() {
    let home = Home::with(|settings| settings.registration.enabled = true);
    let token = home
        .accounts
        .create_registration_token(None, Some(1), None)
        .await
        .unwrap()
        .token;
    let attempts = (0..8).map(|n| {
        let (accounts, token) = (home.accounts.clone(), token.clone());
        tokio::spawn(async move {
            let auth = json!({ "type": "m.login.registration_token", "token": token });
            let body = json!({ "username": format!("u{n}"), "password": PASSWORD, "auth": auth });
            let scope = super::home::scope(None, "POST", "/register");
            accounts.register(scope, body).await.is_ok()
        })
    });
    let mut made = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        made += usize::from(attempt.await.unwrap());
    }
    assert_eq!(made, 1);
    assert_eq!(home.accounts.list_users(None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn tokens_expire_are_listed_and_revoked() {
    let home = Home::new();
    let until = skerry_core::fixtures::FakeClock::START_MS + 1_000;
    let made = home
        .accounts
        .create_registration_token(Some("abc".into()), None, Some(until));
    made.await.unwrap();
    assert!(home.accounts.registration_token_good("abc").await.unwrap());
    home.clock.advance(1_000);
    assert!(!home.accounts.registration_token_good("abc").await.unwrap());
    let again = home
        .accounts
        .create_registration_token(Some("abc".into()), None, None)
        .await;
    assert!(matches!(again, Err(AccountError::Invalid(_))));
    assert_eq!(
        home.accounts.registration_tokens().await.unwrap()[0].token,
        "abc"
    );
    home.accounts
        .revoke_registration_token("abc")
        .await
        .unwrap();
    assert!(
        home.accounts
            .registration_tokens()
            .await
            .unwrap()
            .is_empty()
    );
    let unknown = home.accounts.revoke_registration_token("abc").await;
    assert!(matches!(unknown, Err(AccountError::NotFound(_))));
}

#[tokio::test]
async fn the_first_token_is_good_until_somebody_has_an_account() {
    let home = Home::new();
    let first = home.accounts.first_token("first".into()).await.unwrap();
    assert_eq!(first.as_deref(), Some("first"));
    assert_eq!(
        home.accounts.first_token("first".into()).await.unwrap(),
        first
    );
    home.person("alice").await;
    assert_eq!(
        home.accounts.first_token("first".into()).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn terms_have_to_be_agreed_to() {
    let home = Home::with(|settings| {
        settings.registration.enabled = true;
        settings.registration.open = true;
        let params = json!({ "policies": {} });
        settings.registration.terms = Some(Terms {
            version: "1".into(),
            params,
        });
    });
    let body = challenge(
        home.register(json!({ "username": "alice", "password": PASSWORD }))
            .await,
    );
    assert_eq!(body["flows"], json!([{ "stages": ["m.login.terms"] }]));
    assert_eq!(body["params"]["m.login.terms"], json!({ "policies": {} }));
    let auth = json!({ "type": "m.login.terms", "session": body["session"] });
    home.register(json!({ "auth": auth })).await.unwrap();
}

#[tokio::test]
async fn guests_come_in_only_where_they_may_and_are_no_first_person() {
    let refused = Home::open()
        .accounts
        .register_guest(NewDevice::default())
        .await;
    assert!(matches!(refused, Err(AccountError::GuestsDisabled)));
    let home = Home::with(|settings| settings.guests = true);
    let guest = home
        .accounts
        .register_guest(NewDevice::default())
        .await
        .unwrap();
    let session = home
        .authenticate(&guest.grant.unwrap().access_token)
        .await
        .unwrap();
    assert!(session.guest && !session.admin);
    assert!(!home.accounts.has_people().await.unwrap());
}

fn signed(nonce: &str, name: &str, mac: &str) -> SharedSecretRegistration {
    let body: Value = json!({ "nonce": nonce, "username": name, "password": PASSWORD,
        "admin": true, "mac": mac });
    serde_json::from_value(body).unwrap()
}

#[tokio::test]
async fn palpo_face54bc_the_shared_secret_needs_a_fresh_nonce_and_the_right_mac() {
    let home = Home::with(|s| s.registration.shared_secret = Some("secret".into()));
    let nonce = home.accounts.registration_nonce().unwrap();
    let wrong = home
        .accounts
        .register_by_secret(signed(&nonce, "alice", &"0".repeat(40)))
        .await;
    assert!(matches!(wrong, Err(AccountError::Forbidden(_))));
    let again = home
        .accounts
        .register_by_secret(signed(&nonce, "alice", &"0".repeat(40)))
        .await;
    assert!(matches!(again, Err(AccountError::Invalid(_))));
    let closed = Home::open().accounts.registration_nonce();
    assert!(matches!(closed, Err(AccountError::NotFound(_))));
}

#[tokio::test]
async fn what_was_registered_is_there_after_a_restart() {
    let home = Home::open();
    let alice = home.register_dummy("alice").await.unwrap();
    let home = home.restart();
    let session = home
        .authenticate(&alice.grant.unwrap().access_token)
        .await
        .unwrap();
    assert_eq!(session.user, alice.user);
    assert!(matches!(
        home.register_dummy("alice").await,
        Err(AccountError::UserInUse)
    ));
}
