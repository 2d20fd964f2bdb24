//! Dehydrated devices (MSC3814), queues of messages, lists of devices over long gaps.

use http::Method;
use serde_json::{Value, json};
use skerry_store::schema::store::Cursor;
use skerry_store::{Scan, follow};
use skerry_testkit::{Person, TestServer};

const PATH: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";

fn device(who: &Person, id: &str) -> Value {
    json!({
        "device_id": id,
        "initial_device_display_name": "asleep",
        "device_data": { "algorithm": "org.example", "account": "secret" },
        "device_keys": {
            "user_id": who.user_id,
            "device_id": id,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": { format!("curve25519:{id}"): "a", format!("ed25519:{id}"): "b" },
            "signatures": {},
            "dehydrated": true,
        },
        "one_time_keys": { "signed_curve25519:one": { "key": "k" } },
        "fallback_keys": { "signed_curve25519:f": { "key": "f", "fallback": true } },
    })
}

async fn ask(
    server: &TestServer,
    who: &Person,
    method: Method,
    path: &str,
    body: Value,
) -> (u16, Value) {
    let body = (method != Method::GET).then_some(body);
    server.req(method, path, Some(&who.token), body).await
}

async fn send(server: &TestServer, from: &Person, to: &Person, device: &str, n: usize) {
    let path = format!("/_matrix/client/v3/sendToDevice/org.example/t{device}{n}");
    let body = json!({ "messages": { &to.user_id: { device: { "n": n } } } });
    assert_eq!(ask(server, from, Method::PUT, &path, body).await.0, 200);
}

fn numbers(answer: &Value) -> Vec<u64> {
    let events = answer["events"].as_array().unwrap().iter();
    events
        .map(|event| event["content"]["n"].as_u64().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_without_a_login_takes_messages() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let get = async || ask(&server, &alice, Method::GET, PATH, json!({})).await;
    let (status, answer) = get().await;
    assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")));
    let put = async |body: Value| ask(&server, &alice, Method::PUT, PATH, body).await;
    assert_eq!(
        put(device(&alice, "SLEEP")).await,
        (200, json!({ "device_id": "SLEEP" }))
    );
    let (_, answer) = get().await;
    assert_eq!(answer["device_id"], "SLEEP");
    assert_eq!(answer["device_data"]["account"], "secret");
    // Others see it, claim its keys and write to it.
    let path = "/_matrix/client/v3/keys/query";
    let body = json!({ "device_keys": { &alice.user_id: [] } });
    let (_, keys) = ask(&server, &bob, Method::POST, path, body).await;
    let keys = &keys["device_keys"][&alice.user_id]["SLEEP"];
    assert_eq!(keys["dehydrated"], true);
    assert_eq!(keys["unsigned"]["device_display_name"], "asleep");
    let path = "/_matrix/client/v3/keys/claim";
    let body = json!({ "one_time_keys": { &alice.user_id: { "SLEEP": "signed_curve25519" } } });
    for key in ["signed_curve25519:one", "signed_curve25519:f"] {
        let (_, claimed) = ask(&server, &bob, Method::POST, path, body.clone()).await;
        assert!(
            claimed["one_time_keys"][&alice.user_id]["SLEEP"][key].is_object(),
            "{claimed}"
        );
    }
    for n in 0..5 {
        send(&server, &bob, &alice, "SLEEP", n).await;
    }
    let events = format!("{PATH}/SLEEP/events");
    let read = async |limit: usize, next: Option<&str>| {
        let path = format!("{events}?limit={limit}");
        let body = next.map_or(json!({}), |next| json!({ "next_batch": next }));
        ask(&server, &alice, Method::POST, &path, body).await.1
    };
    let first = read(3, None).await;
    assert_eq!(numbers(&first), [0, 1, 2]);
    let next = first["next_batch"].as_str().unwrap();
    let second = read(3, Some(next)).await;
    assert_eq!(numbers(&second), [3, 4]);
    let next = second["next_batch"].as_str().unwrap();
    assert_eq!(numbers(&read(3, Some(next)).await), [0; 0]);
    let path = format!("{events}?limit=4");
    let (_, page) = ask(&server, &alice, Method::GET, &path, json!({})).await;
    let path = format!("{events}?from={}", page["next_batch"].as_str().unwrap());
    let (_, page) = ask(&server, &alice, Method::GET, &path, json!({})).await;
    assert_eq!(
        (numbers(&page), &page["next_batch"]),
        (vec![4], &Value::Null)
    );
    for (who, path, status) in [
        (&bob, events.clone(), 403),
        (&alice, format!("{PATH}/{}/events", alice.device), 403),
        (&alice, format!("{events}?from=x"), 400),
    ] {
        assert_eq!(
            ask(&server, who, Method::GET, &path, json!({})).await.0,
            status
        );
    }
    // Nobody is online because of it.
    let path = format!("/_matrix/client/v3/presence/{}/status", alice.user_id);
    let (_, presence) = ask(&server, &alice, Method::GET, &path, json!({})).await;
    assert_eq!(presence["presence"], "offline");
    // Another takes its place; the same again begins anew.
    for id in ["OTHER", "OTHER"] {
        assert_eq!(put(device(&alice, id)).await.0, 200);
        send(&server, &bob, &alice, id, 9).await;
    }
    let path = "/_matrix/client/v3/devices";
    let (_, devices) = ask(&server, &alice, Method::GET, path, json!({})).await;
    let ids: Vec<_> = devices["devices"].as_array().unwrap().iter().collect();
    assert_eq!(ids.len(), 2, "{devices}");
    assert_eq!(
        ask(&server, &alice, Method::GET, &events, json!({}))
            .await
            .0,
        403
    );
    let (status, answer) = ask(&server, &alice, Method::DELETE, PATH, json!({})).await;
    assert_eq!((status, answer), (200, json!({ "device_id": "OTHER" })));
    assert_eq!(
        ask(&server, &alice, Method::DELETE, PATH, json!({}))
            .await
            .0,
        404
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_a_device_is_not_taken() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let good = device(&alice, "SLEEP");
    let mut bad = vec![
        device(&bob, "SLEEP"),
        device(&alice, &alice.device),
        json!({}),
    ];
    for (name, value) in [
        ("device_data", json!({})),
        ("device_data", json!("x")),
        ("device_keys", Value::Null),
        ("device_id", json!("OTHER")),
        ("device_id", json!("")),
    ] {
        let mut body = good.clone();
        body[name] = value;
        bad.push(body);
    }
    // A signature that is not one, and a key of another device.
    let key = "lEuiRJBit0IG6nUf5pUzWTUEsRVVe/HJkoKuEww9ULI";
    let mut body = good.clone();
    body["device_keys"]["keys"]["ed25519:SLEEP"] = key.into();
    body["device_keys"]["signatures"][&alice.user_id]["ed25519:SLEEP"] = "A".repeat(86).into();
    bad.push(body);
    let mut body = good.clone();
    body["device_keys"]["keys"]["ed25519:OTHER"] = key.into();
    bad.push(body);
    for body in bad {
        let (status, answer) = ask(&server, &alice, Method::PUT, PATH, body.clone()).await;
        assert_eq!(status, 400, "{body}: {answer}");
    }
    assert_eq!(
        ask(&server, &alice, Method::GET, PATH, json!({})).await.0,
        404
    );
}

/// However long ago a client was here, it is told whose devices changed and who is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_keys_are_found_when_the_log_is_gone() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let (carol, dave) = (server.person("carol").await, server.person("dave").await);
    let room = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    for person in [&bob, &carol] {
        server.join(person, &room).await;
    }
    let before = server.sync(&alice, None).await;
    let before = before["next_batch"].as_str().unwrap().to_owned();
    server.log_in("bob").await;
    server.join(&dave, &room).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/leave");
    assert_eq!(
        ask(&server, &carol, Method::POST, &path, json!({})).await.0,
        200
    );
    let told = key_changes(&server, &alice, &before).await;
    assert_eq!(told["changed"], json!([bob.user_id, dave.user_id]));
    assert_eq!(told["left"], json!([carol.user_id]));
    let known = skerry_core::Pos(before[1..].split('_').next().unwrap().parse().unwrap());
    let mut now_ms = skerry_core::Clock::now_ms(&*server.clock);
    let store = &server.house.store;
    for _ in 0..50 {
        // Nobody needs the log any more.
        let mut w = store.write();
        for row in store.newest().scan::<Cursor>(Scan::all()) {
            follow::forget(&mut w, &row.unwrap().0);
        }
        let applied = store.commit(w).unwrap();
        store.wait_durable(&applied).unwrap();
        now_ms += 10_000;
        if store.trim_log(now_ms, 0).unwrap() > known {
            break;
        }
    }
    let snap = store.newest();
    assert!(snap.changes(known, snap.head()).unwrap().is_none());
    drop(snap);
    // What is in memory is gone too.
    let server = server.restart().await;
    assert_eq!(key_changes(&server, &alice, &before).await, told);
}

/// What `/keys/changes` says of the time since a token.
async fn key_changes(server: &TestServer, who: &Person, since: &str) -> Value {
    let now = server.sync(who, None).await;
    let now = now["next_batch"].as_str().unwrap();
    let path = format!("/_matrix/client/v3/keys/changes?from={since}&to={now}");
    let (status, mut answer) = ask(server, who, Method::GET, &path, json!({})).await;
    assert_eq!(status, 200, "{answer}");
    for name in ["changed", "left"] {
        answer[name]
            .as_array_mut()
            .unwrap()
            .sort_by_key(Value::to_string);
    }
    answer
}

/// A device that is never there again does not fill the disk: of too many messages the oldest go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_of_messages_are_bounded() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let text = "x".repeat(65_000);
    // 64 MiB are full after a thousand of these.
    for n in 0..1_100 {
        let path = format!("/_matrix/client/v3/sendToDevice/org.example/t{n}");
        let content = json!({ "n": n, "text": text });
        let body = json!({ "messages": { &alice.user_id: { "*": content } } });
        assert_eq!(ask(&server, &bob, Method::PUT, &path, body).await.0, 200);
    }
    let mut since: Option<String> = None;
    let mut numbers = Vec::new();
    loop {
        let answer = server.sync(&alice, since.as_deref()).await;
        let events = answer["to_device"]["events"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if events.is_empty() {
            break;
        }
        numbers.extend(
            events
                .iter()
                .map(|event| event["content"]["n"].as_u64().unwrap()),
        );
        since = Some(answer["next_batch"].as_str().unwrap().to_owned());
    }
    assert_eq!(numbers.last(), Some(&1_099));
    assert!(numbers.is_sorted());
    assert!((900..1_040).contains(&numbers.len()), "{}", numbers.len());
    assert!(numbers[0] > 50, "the oldest went: {}", numbers[0]);
}
