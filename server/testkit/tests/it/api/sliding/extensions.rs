//! What sliding sync tells beside rooms.

use super::*;

fn with(extensions: Value) -> Value {
    let mut body = list(json!([[0, 9]]), json!({}));
    body["extensions"] = extensions;
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_that_was_not_asked_for() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    named(&server, &alice, "one").await;
    for extensions in [
        json!({}),
        json!({"e2ee": {}, "typing": {"enabled": false}, "x.new": {"a": 1}}),
    ] {
        let answer = Conn::new(&server, &alice).ask(&with(extensions)).await;
        assert_eq!(answer["extensions"], json!({}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_to_the_device() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let send = async |n: u64| {
        let messages = json!({"messages": {&*bob.user_id: {"*": {"n": n}}}});
        put(&server, &alice, &format!("sendToDevice/x.n/t{n}"), messages).await
    };
    for n in 0..3 {
        send(n).await;
    }
    let mut conn = Conn::new(&server, &bob);
    let body = |limit: u64, since: Option<&str>| {
        let mut ask = json!({"enabled": true, "limit": limit});
        if let Some(since) = since {
            ask["since"] = json!(since);
        }
        json!({"extensions": {"to_device": ask}})
    };
    let told = |answer: &Value| -> Vec<u64> {
        let events = answer["extensions"]["to_device"]["events"]
            .as_array()
            .unwrap();
        events
            .iter()
            .map(|event| event["content"]["n"].as_u64().unwrap())
            .collect()
    };
    let next = |answer: &Value| {
        answer["extensions"]["to_device"]["next_batch"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let answer = conn.ask(&body(2, None)).await;
    assert_eq!(told(&answer), [0, 1]);
    // Without the new token they come again; with it they do not, and are gone.
    assert_eq!(told(&conn.ask(&body(2, None)).await), [0, 1]);
    let since = next(&answer);
    let answer = conn.ask(&body(2, Some(&since))).await;
    assert_eq!(told(&answer), [2]);
    let since = next(&answer);
    assert_eq!(told(&conn.ask(&body(2, Some(&since))).await), [0; 0]);
    // That they are gone is written, but not waited for.
    for n in 0.. {
        if told(&conn.ask(&body(2, None)).await).is_empty() {
            break;
        }
        assert!(n < 100, "acknowledged messages stay");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let waiting = body(2, Some(&since));
    let (answer, _) = tokio::join!(conn.wait(&waiting, 20_000), async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        send(7).await
    });
    assert_eq!(told(&answer), [7]);
    let future = "99999999";
    let answer = conn.ask(&body(2, Some(future))).await;
    assert_eq!((told(&answer), next(&answer)), (vec![], future.to_owned()));
    // A connection without rooms outlives the server.
    let pos = conn.pos.clone();
    let server = server.restart().await;
    let mut conn = Conn {
        server: &server,
        who: &bob,
        pos,
    };
    conn.ask(&body(2, None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_lists_of_devices() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = server
        .room(
            &alice,
            json!({"preset": "public_chat", "initial_state": [{"type": "m.room.encryption",
            "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]}),
        )
        .await;
    let mut conn = Conn::new(&server, &alice);
    let body = json!({"extensions": {"e2ee": {"enabled": true}}});
    let answer = conn.ask(&body).await;
    let e2ee = &answer["extensions"]["e2ee"];
    assert_eq!(
        e2ee["device_one_time_keys_count"],
        json!({"signed_curve25519": 0})
    );
    assert_eq!(e2ee["device_unused_fallback_key_types"], json!([]));
    assert!(e2ee.get("device_lists").is_none(), "{e2ee}");
    let (answer, _) = tokio::join!(conn.wait(&body, 20_000), async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        server.join(&bob, &room).await
    });
    let lists = &answer["extensions"]["e2ee"]["device_lists"];
    assert_eq!(lists, &json!({"changed": [&*bob.user_id], "left": []}));
    post(&server, &bob, &format!("rooms/{room}/leave"), json!({})).await;
    let answer = conn.ask(&body).await;
    let lists = &answer["extensions"]["e2ee"]["device_lists"];
    assert_eq!(lists, &json!({"changed": [], "left": [&*bob.user_id]}));
    assert_eq!(
        conn.ask(&body).await["extensions"]["e2ee"]["device_lists"]["left"],
        json!([])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn account_data_of_the_user_and_of_rooms() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let (one, two) = (
        named(&server, &alice, "one").await,
        named(&server, &alice, "two").await,
    );
    let data =
        |room: &str, kind: &str| format!("user/{}/rooms/{room}/account_data/{kind}", alice.user_id);
    put(&server, &alice, &data(&one, "x.a"), json!({"n": 1})).await;
    put(
        &server,
        &alice,
        &format!("user/{}/rooms/{one}/tags/u.t", alice.user_id),
        json!({}),
    )
    .await;
    let mut conn = Conn::new(&server, &alice);
    let mut narrow = list(json!([[0, 0]]), json!({}));
    narrow["extensions"] = json!({"account_data": {"enabled": true}});
    let kinds = |events: &Value| -> Vec<String> {
        let mut kinds = words(events);
        kinds.sort();
        kinds
    };
    let answer = conn.ask(&narrow).await;
    let told = &answer["extensions"]["account_data"];
    assert!(
        words(&told["global"]).contains(&"m.push_rules".to_owned()),
        "{told}"
    );
    assert_eq!(told["rooms"], json!({}));
    put(&server, &alice, &data(&one, "x.b"), json!({"n": 2})).await;
    put(
        &server,
        &alice,
        &format!("user/{}/account_data/x.g", alice.user_id),
        json!({"g": 1}),
    )
    .await;
    let answer = conn.ask(&narrow).await;
    let told = &answer["extensions"]["account_data"];
    assert_eq!(
        told["global"],
        json!([{"type": "x.g", "content": {"g": 1}}])
    );
    // Of a room that comes into sight all is told, and later what changed.
    server.say(&alice, &one, "x").await;
    let answer = conn.ask(&narrow).await;
    let told = &answer["extensions"]["account_data"];
    assert_eq!(
        (kinds(&told["rooms"][&one]), words(&told["global"])),
        (
            vec!["m.tag".to_owned(), "x.a".to_owned(), "x.b".to_owned()],
            vec![]
        )
    );
    put(&server, &alice, &data(&one, "x.a"), json!({"n": 3})).await;
    let answer = conn.ask(&narrow).await;
    assert_eq!(
        answer["extensions"]["account_data"]["rooms"],
        json!({&one: [{"type": "x.a", "content": {"n": 3}}]})
    );
    // What changes out of sight is told later.
    server.say(&alice, &two, "x").await;
    conn.ask(&narrow).await;
    put(&server, &alice, &data(&one, "x.b"), json!({"n": 4})).await;
    assert_eq!(
        conn.ask(&narrow).await["extensions"]["account_data"]["rooms"],
        json!({})
    );
    server.say(&alice, &one, "y").await;
    let answer = conn.ask(&narrow).await;
    assert_eq!(
        kinds(&answer["extensions"]["account_data"]["rooms"][&one]),
        ["x.b"]
    );
    // Also that it was deleted.
    server.say(&alice, &two, "y").await;
    conn.ask(&narrow).await;
    put(&server, &alice, &data(&one, "x.b"), json!({})).await;
    conn.ask(&narrow).await;
    server.say(&alice, &one, "z").await;
    let answer = conn.ask(&narrow).await;
    assert_eq!(
        answer["extensions"]["account_data"]["rooms"],
        json!({&one: [{"type": "x.b", "content": {}}]})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_and_typing() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = named(&server, &alice, "one").await;
    server.join(&bob, &room).await;
    let old = server.say(&alice, &room, "old").await;
    let seen = server.say(&alice, &room, "seen").await;
    let read = |event: &str| format!("rooms/{room}/receipt/m.read/{event}");
    post(&server, &bob, &read(&old), json!({})).await;
    let carol = server.person("carol").await;
    server.join(&carol, &room).await;
    post(&server, &carol, &read(&seen), json!({})).await;
    let private = format!("rooms/{room}/receipt/m.read.private/{seen}");
    post(&server, &bob, &private, json!({})).await;
    let mut body = list(json!([[0, 9]]), json!({"timeline_limit": 2}));
    body["extensions"] = json!({"receipts": {"enabled": true}, "typing": {"enabled": true}});
    // One's own, and those at events that are shown.
    let mut conn = Conn::new(&server, &alice);
    let answer = conn.ask(&body).await;
    let receipt = &answer["extensions"]["receipts"]["rooms"][&room];
    assert_eq!(receipt["type"], "m.receipt");
    let users = |receipt: &Value, event: &str, kind: &str| -> Vec<String> {
        let users = receipt["content"][event][kind].as_object();
        users
            .map(|users| users.keys().cloned().collect())
            .unwrap_or_default()
    };
    assert_eq!(users(receipt, &seen, "m.read"), [&*carol.user_id]);
    assert_eq!(users(receipt, &seen, "m.read.private"), [""; 0]);
    assert!(receipt["content"].get(&old).is_none(), "{receipt}");
    let answer = Conn::new(&server, &bob).ask(&body).await;
    let receipt = &answer["extensions"]["receipts"]["rooms"][&room];
    assert_eq!(users(receipt, &old, "m.read"), [&*bob.user_id]);
    assert_eq!(users(receipt, &seen, "m.read.private"), [&*bob.user_id]);
    // Later those that move, whatever they move to.
    post(&server, &bob, &read(&seen), json!({})).await;
    let answer = conn.ask(&body).await;
    let receipt = &answer["extensions"]["receipts"]["rooms"][&room];
    assert_eq!(users(receipt, &seen, "m.read"), [&*bob.user_id]);
    assert_eq!(told(&answer), [""; 0]);
    let answer = conn.ask(&body).await;
    assert_eq!(
        answer["extensions"],
        json!({"receipts": {"rooms": {}}, "typing": {"rooms": {}}})
    );
    let path = format!("rooms/{room}/typing/{}", bob.user_id);
    let (answer, _) = tokio::join!(conn.wait(&body, 20_000), async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        put(
            &server,
            &bob,
            &path,
            json!({"typing": true, "timeout": 30_000}),
        )
        .await
    });
    let typing = json!({"type": "m.typing", "content": {"user_ids": [&*bob.user_id]}});
    assert_eq!(
        answer["extensions"]["typing"]["rooms"],
        json!({&room: typing})
    );
    let answer = Conn::new(&server, &alice).ask(&body).await;
    assert_eq!(
        answer["extensions"]["typing"]["rooms"],
        json!({&room: typing})
    );
    put(&server, &bob, &path, json!({"typing": false})).await;
    let answer = conn.ask(&body).await;
    let typing = json!({"type": "m.typing", "content": {"user_ids": []}});
    assert_eq!(
        answer["extensions"]["typing"]["rooms"],
        json!({&room: typing})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_may_be_about_some_lists_and_rooms() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let mut rooms = Vec::new();
    for name in ["one", "two", "three"] {
        let room = named(&server, &alice, name).await;
        put(
            &server,
            &alice,
            &format!("user/{}/rooms/{room}/account_data/x", alice.user_id),
            json!({"n": 1}),
        )
        .await;
        rooms.push(room);
    }
    let [one, two, three] = &rooms[..] else {
        panic!()
    };
    put(
        &server,
        &alice,
        &format!("user/{}/rooms/{two}/tags/u.t", alice.user_id),
        json!({}),
    )
    .await;
    let mut body = json!({
        "lists": {
            "tagged": {"ranges": [[0, 9]], "timeline_limit": 1, "filters": {"tags": ["u.t"]}},
            "top": {"ranges": [[0, 0]], "timeline_limit": 1},
        },
        "room_subscriptions": {one: {"timeline_limit": 1}},
    });
    for (lists, subscribed, expected) in [
        (json!([]), json!([]), vec![]),
        (json!(["tagged", "none"]), json!([]), vec![two]),
        (json!(["*"]), json!([]), vec![two, three]),
        (json!([]), json!([one, "!none:x"]), vec![one]),
        (json!([]), json!(["*"]), vec![one, two, three]),
        (json!(["top"]), json!([one]), vec![one, three]),
        (Value::Null, Value::Null, vec![]),
    ] {
        body["extensions"] =
            json!({"account_data": {"enabled": true, "lists": lists, "rooms": subscribed}});
        let answer = Conn::new(&server, &alice).ask(&body).await;
        let told = answer["extensions"]["account_data"]["rooms"]
            .as_object()
            .unwrap();
        let mut expected: Vec<&String> = expected.into_iter().collect();
        expected.sort();
        let mut told: Vec<&String> = told.keys().collect();
        told.sort();
        assert_eq!(told, expected, "{lists} {subscribed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_to_threads() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = named(&server, &alice, "one").await;
    let (a, b) = (
        server.say(&alice, &room, "a").await,
        server.say(&alice, &room, "b").await,
    );
    let path = |root: &str| {
        format!(
            "/_matrix/client/unstable/io.element.msc4306/rooms/{room}/thread/{root}/subscription"
        )
    };
    for root in [&a, &b] {
        server
            .ok(
                Method::PUT,
                &path(root),
                Some(&alice.token),
                Some(json!({})),
            )
            .await;
    }
    let name = "io.element.msc4308.thread_subscriptions";
    let body = |limit: u64| json!({"extensions": {name: {"enabled": true, "limit": limit}}});
    let mut conn = Conn::new(&server, &alice);
    let answer = conn.ask(&body(1)).await;
    let told = &answer["extensions"][name];
    assert_eq!(
        told["subscribed"][&room]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        [&b]
    );
    assert_eq!(told["subscribed"][&room][&b]["automatic"], false);
    // The rest is told by the companion.
    let from = told["prev_batch"].as_str().unwrap();
    let more = format!(
        "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions?dir=b&from={from}"
    );
    let (_, page) = server
        .req(Method::GET, &more, Some(&alice.token), None)
        .await;
    assert_eq!(
        page["subscribed"][&room]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        [&a]
    );
    let waiting = body(10);
    let (answer, _) = tokio::join!(conn.wait(&waiting, 20_000), async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        server
            .req(Method::DELETE, &path(&a), Some(&alice.token), None)
            .await
    });
    let told = &answer["extensions"][name];
    assert!(
        told["unsubscribed"][&room][&a]["bump_stamp"].is_u64() && told.get("subscribed").is_none()
    );
    assert_eq!(conn.ask(&body(10)).await["extensions"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn sticky_events() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = named(&server, &alice, "one").await;
    server.join(&bob, &room).await;
    let path =
        format!("rooms/{room}/send/m.room.message/s1?org.matrix.msc4354.sticky_duration_ms=300000");
    put(
        &server,
        &alice,
        &path,
        json!({"msgtype": "m.text", "body": "sticky"}),
    )
    .await;
    let name = "org.matrix.msc4354.sticky_events";
    let body = |limit: u64, since: Option<&str>| {
        let mut body = list(json!([[0, 9]]), json!({"timeline_limit": limit}));
        body["extensions"] = json!({name: {"enabled": true}});
        if let Some(since) = since {
            body["extensions"][name]["since"] = json!(since);
        }
        body
    };
    // Where the timeline shows it, it is not told twice.
    let answer = Conn::new(&server, &bob).ask(&body(1, None)).await;
    assert_eq!(words(&answer["rooms"][&room]["timeline"]), ["sticky"]);
    assert_eq!(answer["extensions"][name]["rooms"], json!({}));
    server.say(&alice, &room, "later").await;
    let mut conn = Conn::new(&server, &bob);
    let answer = conn.ask(&body(1, None)).await;
    let told = &answer["extensions"][name];
    assert_eq!(words(&told["rooms"][&room]["events"]), ["sticky"]);
    let since = told["next_batch"].as_str().unwrap();
    let answer = conn.ask(&body(1, Some(since))).await;
    assert_eq!(answer["extensions"][name]["rooms"], json!({}));
}
