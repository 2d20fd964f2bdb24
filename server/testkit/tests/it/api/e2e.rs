//! Keys, messages to devices, device lists and backups, through the router.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

const V3: &str = "/_matrix/client/v3";

async fn post(server: &TestServer, who: &Person, path: &str, body: Value) -> (u16, Value) {
    server
        .req(
            Method::POST,
            &format!("{V3}{path}"),
            Some(&who.token),
            Some(body),
        )
        .await
}

async fn put(server: &TestServer, who: &Person, path: &str, body: Value) -> (u16, Value) {
    server
        .req(
            Method::PUT,
            &format!("{V3}{path}"),
            Some(&who.token),
            Some(body),
        )
        .await
}

async fn get(server: &TestServer, who: &Person, path: &str) -> (u16, Value) {
    server
        .req(Method::GET, &format!("{V3}{path}"), Some(&who.token), None)
        .await
}

fn refused(answer: &(u16, Value), status: u16, errcode: &str) {
    assert_eq!(
        (answer.0, answer.1["errcode"].as_str()),
        (status, Some(errcode)),
        "{answer:?}"
    );
}

fn identity(who: &Person) -> Value {
    json!({
        "user_id": who.user_id,
        "device_id": who.device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": {
            format!("curve25519:{}", who.device): "3C5BFWi2Y8MaVvjM8M22DBmh24PmgR0nPvJOIArzgyI",
            format!("ed25519:{}", who.device): "lEuiRJBit0IG6nUf5pUzWTUEsRVVe/HJkoKuEww9ULI",
        },
        "signatures": {},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_uploaded_queried_and_claimed() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let body = json!({
        "device_keys": identity(&alice),
        "one_time_keys": { "signed_curve25519:a": { "key": "k" } },
        "fallback_keys": { "signed_curve25519:f": { "key": "f", "fallback": true } },
    });
    let answer = post(&server, &alice, "/keys/upload", body).await;
    assert_eq!(
        answer,
        (
            200,
            json!({ "one_time_key_counts": { "signed_curve25519": 1 } })
        )
    );
    let sync = server.sync(&alice, None).await;
    assert_eq!(sync["device_one_time_keys_count"]["signed_curve25519"], 1);
    assert_eq!(
        sync["device_unused_fallback_key_types"],
        json!(["signed_curve25519"])
    );
    let ask = json!({ "device_keys": { &alice.user_id: [], "@far:away.example": [] } });
    let (status, found) = post(&server, &bob, "/keys/query", ask).await;
    assert_eq!(status, 200);
    let mut expected = identity(&alice);
    expected["unsigned"] = json!({});
    assert_eq!(
        found["device_keys"],
        json!({ &alice.user_id: { &alice.device: expected } })
    );
    assert!(found["failures"]["away.example"].is_object());
    let claim =
        json!({ "one_time_keys": { &alice.user_id: { &alice.device: "signed_curve25519" } } });
    for (id, key) in [
        ("signed_curve25519:a", json!({ "key": "k" })),
        (
            "signed_curve25519:f",
            json!({ "key": "f", "fallback": true }),
        ),
    ] {
        let (status, got) = post(&server, &bob, "/keys/claim", claim.clone()).await;
        assert_eq!(status, 200);
        assert_eq!(
            got["one_time_keys"][&alice.user_id][&alice.device],
            json!({ id: key })
        );
    }
    let since = sync["next_batch"].as_str().unwrap();
    let sync = server.sync(&alice, Some(since)).await;
    assert_eq!(sync["device_one_time_keys_count"]["signed_curve25519"], 0);
    assert_eq!(sync["device_unused_fallback_key_types"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_keys_are_refused() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let upload = async |body: Value| post(&server, &alice, "/keys/upload", body).await;
    refused(
        &upload(json!({ "device_keys": identity(&bob) })).await,
        400,
        "M_BAD_JSON",
    );
    let half = json!({ "user_id": alice.user_id, "device_id": alice.device });
    refused(
        &upload(json!({ "device_keys": half })).await,
        400,
        "M_BAD_JSON",
    );
    refused(
        &upload(json!({ "one_time_keys": { "x": "k" } })).await,
        400,
        "M_BAD_JSON",
    );
    refused(
        &upload(json!({ "one_time_keys": [] })).await,
        400,
        "M_BAD_JSON",
    );
    assert_eq!(
        upload(json!({ "one_time_keys": { "x:1": "k" } })).await.0,
        200
    );
    assert_eq!(
        upload(json!({ "one_time_keys": { "x:1": "k" } })).await.0,
        200
    );
    refused(
        &upload(json!({ "one_time_keys": { "x:1": "l" } })).await,
        400,
        "M_INVALID_PARAM",
    );
    refused(
        &post(&server, &alice, "/keys/query", json!({})).await,
        400,
        "M_MISSING_PARAM",
    );
    let no_user = json!({ "device_keys": { "alice": [] } });
    refused(
        &post(&server, &alice, "/keys/query", no_user).await,
        400,
        "M_BAD_JSON",
    );
    refused(
        &post(&server, &alice, "/keys/claim", json!({})).await,
        400,
        "M_MISSING_PARAM",
    );
    let path = format!("{V3}/keys/upload");
    let no_auth = server.req(Method::POST, &path, None, Some(json!({}))).await;
    refused(&no_auth, 401, "M_MISSING_TOKEN");
}

fn master(who: &Person, public: &str) -> Value {
    json!({ "master_key": {
        "user_id": who.user_id,
        "usage": ["master"],
        "keys": { format!("ed25519:{public}"): public },
    }})
}

#[tokio::test(flavor = "multi_thread")]
async fn cross_signing_keys_are_replaced_only_with_the_password() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let path = "/keys/device_signing/upload";
    let one = master(&alice, "nqOvzeuGWT/sRx3h7+MHoInYj3Uk2LD/unI9kDYcHwk");
    let two = master(&alice, "EmkqvokUn8p+vQAGZitOk4PWjp7Ukp3txV2TbMPEiBQ");
    let lone = json!({ "self_signing_key": {
        "user_id": alice.user_id,
        "usage": ["self_signing"],
        "keys": { "ed25519:EmkqvokUn8p+vQAGZitOk4PWjp7Ukp3txV2TbMPEiBQ":
            "EmkqvokUn8p+vQAGZitOk4PWjp7Ukp3txV2TbMPEiBQ" },
    }});
    refused(
        &post(&server, &alice, path, lone.clone()).await,
        400,
        "M_MISSING_PARAM",
    );
    for _ in 0..2 {
        assert_eq!(post(&server, &alice, path, one.clone()).await.0, 200);
    }
    refused(
        &post(&server, &alice, path, lone).await,
        400,
        "M_INVALID_SIGNATURE",
    );
    let (status, challenge) = post(&server, &alice, path, two.clone()).await;
    assert_eq!(status, 401);
    assert!(challenge["flows"].is_array(), "{challenge}");
    let mut proven = two;
    proven["auth"] = json!({
        "type": "m.login.password",
        "session": challenge["session"],
        "identifier": { "type": "m.id.user", "user": alice.user_id },
        "password": "correct horse",
    });
    let (status, answer) = post(&server, &alice, path, proven.clone()).await;
    assert_eq!(status, 200, "{answer}");
    let ask = json!({ "device_keys": { &alice.user_id: [] } });
    let (_, found) = post(&server, &alice, "/keys/query", ask).await;
    assert_eq!(found["master_keys"][&alice.user_id], proven["master_key"]);
    let unknown = json!({ &alice.user_id: { "NOPE": {} } });
    let (status, answer) = post(&server, &alice, "/keys/signatures/upload", unknown).await;
    assert_eq!(status, 200);
    assert_eq!(
        answer["failures"][&alice.user_id]["NOPE"]["errcode"],
        "M_NOT_FOUND"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_devices_change_and_are_left() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    server.join(&bob, &room).await;
    let sync = server.sync(&alice, None).await;
    let start = sync["next_batch"].as_str().unwrap().to_owned();
    let changes = async |from: &str, to: &str| {
        get(
            &server,
            &alice,
            &format!("/keys/changes?from={from}&to={to}"),
        )
        .await
        .1
    };
    let has = |list: &Value, who: &Person| {
        list.as_array()
            .is_some_and(|list| list.contains(&json!(who.user_id)))
    };
    post(
        &server,
        &bob,
        "/keys/upload",
        json!({ "device_keys": identity(&bob) }),
    )
    .await;
    let sync = server.sync(&alice, Some(&start)).await;
    assert!(has(&sync["device_lists"]["changed"], &bob), "{sync}");
    let uploaded = sync["next_batch"].as_str().unwrap().to_owned();
    assert!(has(&changes(&start, &uploaded).await["changed"], &bob));
    let quiet = server.sync(&alice, Some(&uploaded)).await;
    assert!(!has(&quiet["device_lists"]["changed"], &bob), "{quiet}");
    let leave = format!(
        "/rooms/{}/leave",
        room.replace('!', "%21").replace(':', "%3A")
    );
    assert_eq!(post(&server, &bob, &leave, json!({})).await.0, 200);
    let sync = server.sync(&alice, Some(&uploaded)).await;
    assert!(has(&sync["device_lists"]["left"], &bob), "{sync}");
    let end = sync["next_batch"].as_str().unwrap().to_owned();
    assert!(has(&changes(&uploaded, &end).await["left"], &bob));
    let both = changes(&start, &end).await;
    assert!(
        has(&both["left"], &bob) && !has(&both["changed"], &bob),
        "{both}"
    );
    server.log_in("alice").await;
    let sync = server.sync(&alice, Some(&end)).await;
    assert!(
        has(&sync["device_lists"]["changed"], &alice),
        "one's own new device: {sync}"
    );
    refused(
        &get(&server, &alice, "/keys/changes?from=x&to=y").await,
        400,
        "M_INVALID_PARAM",
    );
    refused(
        &get(&server, &alice, "/keys/changes?from=s1").await,
        400,
        "M_MISSING_PARAM",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_to_devices_come_once_in_order_and_by_hundreds() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let start = server.sync(&bob, None).await["next_batch"]
        .as_str()
        .unwrap()
        .to_owned();
    for n in 0..120 {
        let body = json!({ "messages": { &bob.user_id: { &bob.device: { "n": n } } } });
        for _ in 0..(1 + n % 2) {
            let path = format!("/sendToDevice/m.test/t{n}");
            assert_eq!(
                put(&server, &alice, &path, body.clone()).await,
                (200, json!({}))
            );
        }
    }
    let numbers = |sync: &Value| -> Vec<u64> {
        let events = sync["to_device"]["events"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        events
            .iter()
            .map(|event| event["content"]["n"].as_u64().unwrap())
            .collect()
    };
    let first = server.sync(&bob, Some(&start)).await;
    assert_eq!(numbers(&first), (0..100).collect::<Vec<_>>());
    let event = &first["to_device"]["events"][0];
    let expected = json!({ "type": "m.test", "sender": alice.user_id, "content": { "n": 0 } });
    assert_eq!(event, &expected);
    assert_eq!(
        numbers(&server.sync(&bob, Some(&start)).await),
        (0..100).collect::<Vec<_>>()
    );
    let next = first["next_batch"].as_str().unwrap().to_owned();
    let server = server.restart().await;
    let second = server.sync(&bob, Some(&next)).await;
    assert_eq!(numbers(&second), (100..120).collect::<Vec<_>>());
    let last = second["next_batch"].as_str().unwrap();
    assert!(numbers(&server.sync(&bob, Some(last)).await).is_empty());
    // A sync does not wait until what was acknowledged is deleted on the disk; a write does.
    put(
        &server,
        &bob,
        "/sendToDevice/m.test/w",
        json!({ "messages": { &alice.user_id: { "*": {} } } }),
    )
    .await;
    assert!(
        numbers(&server.sync(&bob, None).await).is_empty(),
        "acknowledged is gone"
    );
    let bad = json!({ "messages": { &bob.user_id: { "*": 5 } } });
    refused(
        &put(&server, &alice, "/sendToDevice/m.test/x", bad).await,
        400,
        "M_BAD_JSON",
    );
    refused(
        &put(&server, &alice, "/sendToDevice/m.test/y", json!({})).await,
        400,
        "M_MISSING_PARAM",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_answer_as_the_spec_says() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    refused(
        &get(&server, &alice, "/room_keys/version").await,
        404,
        "M_NOT_FOUND",
    );
    let algorithm = "m.megolm_backup.v1.curve25519-aes-sha2";
    let new = json!({ "algorithm": algorithm, "auth_data": { "public_key": "abc" } });
    let missing = json!({ "algorithm": algorithm });
    let answer = post(&server, &alice, "/room_keys/version", missing).await;
    refused(&answer, 400, "M_MISSING_PARAM");
    let (status, made) = post(&server, &alice, "/room_keys/version", new.clone()).await;
    assert_eq!((status, &made), (200, &json!({ "version": "1" })));
    let key = json!({
        "first_message_index": 1, "forwarded_count": 0, "is_verified": true,
        "session_data": { "ciphertext": "x" },
    });
    let one = "/room_keys/keys/%21r%3Ax/sess%2Fion?version=1";
    let (status, put_one) = put(&server, &alice, one, key.clone()).await;
    assert_eq!((status, &put_one["count"]), (200, &json!(1)));
    assert_eq!(get(&server, &alice, one).await, (200, key.clone()));
    let room = get(&server, &alice, "/room_keys/keys/%21r%3Ax?version=1").await;
    assert_eq!(room, (200, json!({ "sessions": { "sess/ion": key } })));
    let all = get(&server, &alice, "/room_keys/keys?version=1").await;
    assert_eq!(all, (200, json!({ "rooms": { "!r:x": room.1 } })));
    assert_eq!(
        put(&server, &alice, "/room_keys/keys?version=1", all.1)
            .await
            .1,
        put_one
    );
    let info = get(&server, &alice, "/room_keys/version/1").await.1;
    assert_eq!(
        (&info["count"], &info["etag"]),
        (&json!(1), &put_one["etag"])
    );
    let none = get(&server, &alice, "/room_keys/keys/%21none/x?version=1").await;
    refused(&none, 404, "M_NOT_FOUND");
    let none = get(&server, &alice, "/room_keys/keys/%21none?version=1").await;
    assert_eq!(none, (200, json!({ "sessions": {} })));
    refused(
        &get(&server, &alice, "/room_keys/keys").await,
        400,
        "M_MISSING_PARAM",
    );
    refused(
        &get(&server, &alice, "/room_keys/keys?version=bogus").await,
        404,
        "M_NOT_FOUND",
    );
    let bad = json!({ "first_message_index": "1" });
    refused(&put(&server, &alice, one, bad).await, 400, "M_BAD_JSON");
    post(&server, &alice, "/room_keys/version", new.clone()).await;
    let answer = put(&server, &alice, one, key).await;
    refused(&answer, 403, "M_WRONG_ROOM_KEYS_VERSION");
    assert_eq!(answer.1["current_version"], "2");
    let mut other = new.clone();
    other["algorithm"] = json!("other");
    refused(
        &put(&server, &alice, "/room_keys/version/2", other).await,
        400,
        "M_INVALID_PARAM",
    );
    refused(
        &put(&server, &alice, "/room_keys/version/9", new.clone()).await,
        404,
        "M_NOT_FOUND",
    );
    assert_eq!(
        put(&server, &alice, "/room_keys/version/2", new).await,
        (200, json!({}))
    );
    let delete = async |path: &str| {
        let path = format!("{V3}{path}");
        server
            .req(Method::DELETE, &path, Some(&alice.token), None)
            .await
    };
    assert_eq!(delete("/room_keys/keys?version=1").await.1["count"], 0);
    for _ in 0..2 {
        assert_eq!(delete("/room_keys/version/2").await, (200, json!({})));
    }
    refused(&delete("/room_keys/version/9").await, 404, "M_NOT_FOUND");
    assert_eq!(
        get(&server, &alice, "/room_keys/version").await.1["version"],
        "1"
    );
}
