//! What is told of a room.

use super::*;

fn subscribed(room: &str, limit: u64, state: Value) -> Value {
    json!({"room_subscriptions": {room: {"timeline_limit": limit, "required_state": state}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn required_state_by_key_wildcard_and_for_oneself() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = named(&server, &alice, "one").await;
    server.join(&bob, &room).await;
    for key in ["a", "b"] {
        put(
            &server,
            &alice,
            &format!("rooms/{room}/state/x.state/{key}"),
            json!({}),
        )
        .await;
    }
    let (me, you) = (&*alice.user_id, &*bob.user_id);
    put(
        &server,
        &alice,
        &format!("rooms/{room}/state/x.other/{me}"),
        json!({}),
    )
    .await;
    for (wanted, found) in [
        (json!([]), pairs(&[])),
        (
            json!([["m.room.name", ""], ["m.room.topic", ""]]),
            pairs(&[("m.room.name", "")]),
        ),
        (
            json!([["x.state", "*"]]),
            pairs(&[("x.state", "a"), ("x.state", "b")]),
        ),
        (
            json!([["x.state", "a"], ["x.state", "z"]]),
            pairs(&[("x.state", "a")]),
        ),
        (
            json!([["m.room.member", "$ME"]]),
            pairs(&[("m.room.member", me)]),
        ),
        (
            json!([["m.room.member", you]]),
            pairs(&[("m.room.member", you)]),
        ),
        (
            json!([["m.room.member", "*"]]),
            pairs(&[("m.room.member", me), ("m.room.member", you)]),
        ),
        (
            json!([["*", "$ME"]]),
            pairs(&[("m.room.member", me), ("x.other", me)]),
        ),
        (json!([["*", "a"]]), pairs(&[("x.state", "a")])),
    ] {
        let answer = Conn::new(&server, &alice)
            .ask(&subscribed(&room, 1, wanted.clone()))
            .await;
        assert_eq!(
            keys(&answer["rooms"][&room]["required_state"]),
            found,
            "{wanted}"
        );
    }
    let mut conn = Conn::new(&server, &alice);
    let answer = conn.ask(&subscribed(&room, 1, json!([["*", "*"]]))).await;
    let all = keys(&answer["rooms"][&room]["required_state"]);
    assert!(
        all.len() > 9 && all.contains(&("m.room.create".to_owned(), String::new())),
        "{all:?}"
    );
    // What changes is told, also where the timeline tells it too.
    put(
        &server,
        &alice,
        &format!("rooms/{room}/state/x.state/a"),
        json!({"n": 2}),
    )
    .await;
    let answer = conn.ask(&subscribed(&room, 1, json!([["*", "*"]]))).await;
    let told = &answer["rooms"][&room];
    assert_eq!(keys(&told["required_state"]), pairs(&[("x.state", "a")]));
    assert_eq!(told["required_state"][0]["content"], json!({"n": 2}));
    assert_eq!(words(&told["timeline"]), ["x.state"]);
    assert_eq!(told["required_state"][0].get("room_id"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn required_state_may_grow_and_shrink() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = named(&server, &alice, "one").await;
    let topic = format!("rooms/{room}/state/m.room.topic/");
    put(&server, &alice, &topic, json!({"topic": "1"})).await;
    let mut conn = Conn::new(&server, &alice);
    let name = subscribed(&room, 1, json!([["m.room.name", ""]]));
    let both = subscribed(&room, 1, json!([["m.room.name", ""], ["m.room.topic", ""]]));
    let state = |answer: &Value| keys(&answer["rooms"][&room]["required_state"]);
    assert_eq!(state(&conn.ask(&name).await), pairs(&[("m.room.name", "")]));
    // Only what is new in the request, and once.
    assert_eq!(
        state(&conn.ask(&both).await),
        pairs(&[("m.room.topic", "")])
    );
    assert_eq!(told(&conn.ask(&both).await), [""; 0]);
    // Dropped and asked for again: it is told if it changed meanwhile.
    assert_eq!(told(&conn.ask(&name).await), [""; 0]);
    assert_eq!(told(&conn.ask(&both).await), [""; 0]);
    conn.ask(&name).await;
    put(&server, &alice, &topic, json!({"topic": "2"})).await;
    let answer = conn.ask(&name).await;
    assert_eq!(
        (state(&answer), words(&answer["rooms"][&room]["timeline"])),
        (vec![], vec!["m.room.topic".to_owned()])
    );
    assert_eq!(
        state(&conn.ask(&both).await),
        pairs(&[("m.room.topic", "")])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_told_as_the_timeline_needs_them() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = named(&server, &alice, "one").await;
    let mut people = Vec::new();
    for name in ["bob", "carol", "dan"] {
        let person = server.person(name).await;
        server.join(&person, &room).await;
        people.push(person);
    }
    let [bob, carol, dan] = &people[..] else {
        panic!()
    };
    server.say(bob, &room, "b").await;
    server.say(bob, &room, "c").await;
    let mut conn = Conn::new(&server, &alice);
    let lazy = json!([["m.room.member", "$LAZY"], ["m.room.member", "$ME"]]);
    let body = subscribed(&room, 2, lazy);
    let members = |answer: &Value| -> Vec<String> {
        let keys = keys(&answer["rooms"][&room]["required_state"]);
        keys.into_iter().map(|(_, user)| user).collect()
    };
    assert_eq!(
        members(&conn.ask(&body).await),
        [&*alice.user_id, &*bob.user_id]
    );
    server.say(bob, &room, "d").await;
    assert_eq!(members(&conn.ask(&body).await), [""; 0]);
    server.say(carol, &room, "e").await;
    assert_eq!(members(&conn.ask(&body).await), [&*carol.user_id]);
    // Where the timeline has no gap, whoever changes is told.
    put(
        &server,
        dan,
        &format!("profile/{}/displayname", dan.user_id),
        json!({"displayname": "Dan"}),
    )
    .await;
    wait_for_name(&server, dan, &room).await;
    assert_eq!(members(&conn.ask(&body).await), [&*dan.user_id]);
    // With a gap, only who is shown and whom the client knows.
    let erin = server.person("erin").await;
    server.join(&erin, &room).await;
    put(
        &server,
        bob,
        &format!("rooms/{room}/state/m.room.member/{}", bob.user_id),
        json!({"membership": "join", "displayname": "Bob"}),
    )
    .await;
    for text in ["f", "g"] {
        server.say(carol, &room, text).await;
    }
    let answer = conn.ask(&body).await;
    assert_eq!(answer["rooms"][&room]["limited"], true);
    assert_eq!(members(&answer), [&*bob.user_id]);
    server.say(&erin, &room, "h").await;
    assert_eq!(members(&conn.ask(&body).await), [&*erin.user_id]);
}

/// Waits until a new display name has reached a room.
async fn wait_for_name(server: &TestServer, who: &Person, room: &str) {
    let path = format!(
        "/_matrix/client/v3/rooms/{room}/state/m.room.member/{}",
        who.user_id
    );
    for _ in 0..100 {
        let (_, member) = server.req(Method::GET, &path, Some(&who.token), None).await;
        if member["displayname"] == "Dan" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the name does not arrive");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_timeline_is_told_from_further_back() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = named(&server, &alice, "one").await;
    for n in 0..6 {
        server.say(&alice, &room, &n.to_string()).await;
    }
    let mut conn = Conn::new(&server, &alice);
    let answer = conn.ask(&subscribed(&room, 2, json!([]))).await;
    let told = &answer["rooms"][&room];
    assert_eq!(words(&told["timeline"]), ["4", "5"]);
    assert_eq!(
        (&told["limited"], &told["num_live"]),
        (&json!(true), &json!(0))
    );
    // Paging back goes on from there.
    let from = told["prev_batch"].as_str().unwrap();
    let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&from={from}&limit=2");
    let (_, page) = server
        .req(Method::GET, &path, Some(&alice.token), None)
        .await;
    assert_eq!(words(&page["chunk"]), ["3", "2"]);
    server.say(&alice, &room, "6").await;
    let answer = conn.ask(&subscribed(&room, 4, json!([]))).await;
    let told = &answer["rooms"][&room];
    assert_eq!(words(&told["timeline"]), ["3", "4", "5", "6"]);
    assert_eq!(told["unstable_expanded_timeline"], true);
    assert_eq!(
        (&told["limited"], &told["num_live"]),
        (&json!(true), &json!(1))
    );
    assert!(told.get("initial").is_none());
    // Shorter and longer again without a gap: nothing is missing.
    assert!(
        conn.ask(&subscribed(&room, 1, json!([]))).await["rooms"]
            .as_object()
            .unwrap()
            .is_empty()
    );
    assert!(
        conn.ask(&subscribed(&room, 4, json!([]))).await["rooms"]
            .as_object()
            .unwrap()
            .is_empty()
    );
    // With one, there is.
    conn.ask(&subscribed(&room, 1, json!([]))).await;
    for n in 7..9 {
        server.say(&alice, &room, &n.to_string()).await;
    }
    let answer = conn.ask(&subscribed(&room, 1, json!([]))).await;
    assert_eq!(words(&answer["rooms"][&room]["timeline"]), ["8"]);
    assert_eq!(answer["rooms"][&room]["limited"], true);
    let answer = conn.ask(&subscribed(&room, 4, json!([]))).await;
    assert_eq!(
        words(&answer["rooms"][&room]["timeline"]),
        ["5", "6", "7", "8"]
    );
    // No timeline at all.
    let answer = Conn::new(&server, &alice)
        .ask(&subscribed(&room, 0, json!([])))
        .await;
    let told = &answer["rooms"][&room];
    assert!(
        told.get("timeline").is_none() && told.get("prev_batch").is_none(),
        "{told}"
    );
    // All there is.
    let answer = Conn::new(&server, &alice)
        .ask(&subscribed(&room, 100, json!([])))
        .await;
    assert_eq!(answer["rooms"][&room]["limited"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_pictures_heroes_and_counts() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let carol = server.person("carol").await;
    put(
        &server,
        &bob,
        &format!("profile/{}/displayname", bob.user_id),
        json!({"displayname": "Bob"}),
    )
    .await;
    put(
        &server,
        &bob,
        &format!("profile/{}/avatar_url", bob.user_id),
        json!({"avatar_url": "mxc://x/y"}),
    )
    .await;
    let room = server.room(&alice, json!({"preset": "public_chat"})).await;
    server.join(&bob, &room).await;
    let mut conn = Conn::new(&server, &alice);
    let body = list(json!([[0, 9]]), json!({}));
    let answer = conn.ask(&body).await;
    let told = &answer["rooms"][&room];
    let hero = json!({"user_id": &*bob.user_id, "displayname": "Bob", "avatar_url": "mxc://x/y"});
    assert_eq!(told["heroes"], json!([hero]));
    assert_eq!(
        (&told["joined_count"], &told["invited_count"]),
        (&json!(2), &json!(0))
    );
    assert!(
        told.get("name").is_none() && told.get("avatar").is_none() && told.get("is_dm").is_none()
    );
    server.invite(&alice, &room, &carol).await;
    let answer = conn.ask(&body).await;
    let told = &answer["rooms"][&room];
    assert_eq!(
        (&told["joined_count"], &told["invited_count"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(told["heroes"].as_array().unwrap().len(), 2);
    // What has not changed is not told.
    server.say(&alice, &room, "x").await;
    let answer = conn.ask(&body).await;
    let told = &answer["rooms"][&room];
    assert!(
        told.get("joined_count").is_none() && told.get("heroes").is_none(),
        "{told}"
    );
    put(
        &server,
        &alice,
        &format!("rooms/{room}/state/m.room.name/"),
        json!({"name": "N"}),
    )
    .await;
    put(
        &server,
        &alice,
        &format!("rooms/{room}/state/m.room.avatar/"),
        json!({"url": "mxc://a/b"}),
    )
    .await;
    put(
        &server,
        &alice,
        &format!("user/{}/account_data/m.direct", alice.user_id),
        json!({&*bob.user_id: [room]}),
    )
    .await;
    let answer = conn.ask(&body).await;
    let told = &answer["rooms"][&room];
    assert_eq!(
        (&told["name"], &told["avatar"]),
        (&json!("N"), &json!("mxc://a/b"))
    );
    assert!(
        told.get("heroes").is_none() && told["is_dm"] == true,
        "{told}"
    );
    put(
        &server,
        &alice,
        &format!("rooms/{room}/state/m.room.name/"),
        json!({}),
    )
    .await;
    put(
        &server,
        &alice,
        &format!("rooms/{room}/state/m.room.avatar/"),
        json!({}),
    )
    .await;
    let answer = conn.ask(&body).await;
    let told = &answer["rooms"][&room];
    assert!(
        told.get("name").is_none() && told["heroes"].as_array().unwrap().len() == 2,
        "{told}"
    );
    assert_eq!(told.get("avatar"), Some(&Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_counts_move_with_messages_and_receipts() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = named(&server, &alice, "one").await;
    server.join(&bob, &room).await;
    let mut conn = Conn::new(&server, &bob);
    let body = list(json!([[0, 9]]), json!({}));
    conn.ask(&body).await;
    server.say(&alice, &room, "x").await;
    let path = format!("rooms/{room}/send/m.room.message/t9");
    let mention =
        json!({"msgtype": "m.text", "body": "bob", "m.mentions": {"user_ids": [&*bob.user_id]}});
    let last = put(&server, &alice, &path, mention).await;
    let answer = conn.ask(&body).await;
    let told = &answer["rooms"][&room];
    assert_eq!(
        (&told["notification_count"], &told["highlight_count"]),
        (&json!(2), &json!(1))
    );
    let path = format!(
        "rooms/{room}/receipt/m.read/{}",
        last["event_id"].as_str().unwrap()
    );
    post(&server, &bob, &path, json!({})).await;
    let answer = conn.ask(&body).await;
    let told = &answer["rooms"][&room];
    assert_eq!(
        (&told["notification_count"], &told["highlight_count"]),
        (&json!(0), &json!(0))
    );
    assert!(told.get("timeline").is_none(), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invites_and_knocks_come_with_stripped_state() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = server
        .room(
            &alice,
            json!({"name": "Secret", "initial_state": [{"type": "m.room.join_rules",
            "state_key": "", "content": {"join_rule": "knock"}}]}),
        )
        .await;
    let mut conn = Conn::new(&server, &bob);
    let body = list(json!([[0, 9]]), json!({"required_state": [["*", "*"]]}));
    conn.ask(&body).await;
    post(
        &server,
        &bob,
        &format!("knock/{room}"),
        json!({"reason": "please"}),
    )
    .await;
    let own = |answer: &Value| {
        let state = answer["rooms"][&room]["invite_state"]
            .as_array()
            .unwrap()
            .clone();
        let own = state
            .into_iter()
            .find(|event| event["state_key"] == *bob.user_id);
        own.unwrap()["content"]["membership"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let answer = conn.ask(&body).await;
    let told = &answer["rooms"][&room];
    assert_eq!(
        (own(&answer), &told["membership"]),
        ("knock".to_owned(), &json!("knock"))
    );
    assert_eq!(
        (&told["name"], &told["initial"]),
        (&json!("Secret"), &json!(true))
    );
    for hidden in [
        "timeline",
        "required_state",
        "prev_batch",
        "limited",
        "joined_count",
        "heroes",
    ] {
        assert!(told.get(hidden).is_none(), "{told}");
    }
    assert_eq!(super::told(&conn.ask(&body).await), [""; 0]);
    server.invite(&alice, &room, &bob).await;
    let answer = conn.ask(&body).await;
    assert_eq!(
        (own(&answer), &answer["rooms"][&room]["membership"]),
        ("invite".to_owned(), &json!("invite"))
    );
    // Nothing of what is said meanwhile.
    server.say(&alice, &room, "x").await;
    assert_eq!(super::told(&conn.ask(&body).await), [""; 0]);
    server.join(&bob, &room).await;
    let answer = conn.ask(&body).await;
    let told = &answer["rooms"][&room];
    assert_eq!(
        (&told["initial"], &told["membership"]),
        (&json!(true), &json!("join"))
    );
    assert!(told.get("invite_state").is_none());
    // Of somebody who is ignored nothing comes.
    let carol = server.person("carol").await;
    put(
        &server,
        &bob,
        &format!("user/{}/account_data/m.ignored_user_list", bob.user_id),
        json!({"ignored_users": {&*carol.user_id: {}}}),
    )
    .await;
    server
        .room(&carol, json!({"invite": [&*bob.user_id]}))
        .await;
    let answer = conn.ask(&body).await;
    assert_eq!(
        (super::told(&answer), &answer["lists"]["all"]["count"]),
        (vec![], &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2024_53867_rooms_that_were_left_are_told_once_and_nothing_after() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let (one, two) = (
        named(&server, &alice, "one").await,
        named(&server, &alice, "two").await,
    );
    for room in [&one, &two] {
        server.join(&bob, room).await;
    }
    let mut conn = Conn::new(&server, &bob);
    // A window so small that what is left is outside of it.
    let wide = list(
        json!([[0, 9]]),
        json!({"required_state": [["m.room.topic", ""]]}),
    );
    let narrow = list(
        json!([[0, 0]]),
        json!({"required_state": [["m.room.topic", ""]]}),
    );
    conn.ask(&wide).await;
    server.say(&alice, &one, "seen").await;
    post(&server, &bob, &format!("rooms/{one}/leave"), json!({})).await;
    server.say(&alice, &one, "unseen").await;
    put(
        &server,
        &alice,
        &format!("rooms/{one}/state/m.room.topic/"),
        json!({"topic": "x"}),
    )
    .await;
    server.say(&alice, &two, "y").await;
    let answer = conn.ask(&narrow).await;
    let told = &answer["rooms"][&one];
    assert_eq!(words(&told["timeline"]), ["seen", "m.room.member"]);
    assert_eq!(
        keys(&told["required_state"]),
        pairs(&[("m.room.member", &bob.user_id)])
    );
    assert_eq!(told["required_state"][0]["content"]["membership"], "leave");
    assert_eq!(told["membership"], "leave");
    assert!(told.get("initial").is_none(), "{told}");
    for _ in 0..2 {
        let answer = conn.ask(&wide).await;
        assert_eq!(
            (super::told(&answer), &answer["lists"]["all"]["count"]),
            (vec![], &json!(1))
        );
    }
    // To a new connection it is no room of theirs, unless they name it.
    let body = subscribed(&one, 9, json!([["m.room.topic", ""]]));
    assert_eq!(
        super::told(&Conn::new(&server, &bob).ask(&wide).await),
        [&*two]
    );
    let answer = Conn::new(&server, &bob).ask(&body).await;
    let last = words(&answer["rooms"][&one]["timeline"]);
    assert!(
        last.ends_with(&["seen".to_owned(), "m.room.member".to_owned()]),
        "{last:?}"
    );
    assert_eq!(
        keys(&answer["rooms"][&one]["required_state"]),
        pairs(&[("m.room.member", &bob.user_id)])
    );
    // One who was sent away still sees the room among theirs.
    post(
        &server,
        &alice,
        &format!("rooms/{two}/kick"),
        json!({"user_id": &*bob.user_id}),
    )
    .await;
    let answer = conn.ask(&wide).await;
    assert_eq!(answer["rooms"][&two]["membership"], "leave");
    server.say(&alice, &two, "unseen").await;
    let answer = conn.ask(&wide).await;
    assert_eq!(
        (super::told(&answer), listed(&answer)),
        (vec![], vec![two.clone()])
    );
    // Back again, all is told anew.
    server.join(&bob, &one).await;
    let answer = conn.ask(&wide).await;
    assert_eq!(answer["rooms"][&one]["initial"], true);
    assert_eq!(
        keys(&answer["rooms"][&one]["required_state"]),
        pairs(&[("m.room.topic", "")])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_add_to_lists() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let (one, two) = (
        named(&server, &alice, "one").await,
        named(&server, &alice, "two").await,
    );
    let foreign = named(&server, &bob, "foreign").await;
    server.say(&alice, &two, "x").await;
    let mut conn = Conn::new(&server, &alice);
    let mut body = list(
        json!([[0, 0]]),
        json!({"timeline_limit": 1,
        "required_state": [["m.room.name", ""]]}),
    );
    let detail = json!({"timeline_limit": 3, "required_state": [["m.room.create", ""]]});
    body["room_subscriptions"] =
        json!({&one: detail, &two: detail, &foreign: detail, "!no:x": detail});
    let answer = conn.ask(&body).await;
    let mut both = vec![one.clone(), two.clone()];
    both.sort();
    assert_eq!(told(&answer), both);
    let state = |room: &str| keys(&answer["rooms"][room]["required_state"]);
    assert_eq!(state(&one), pairs(&[("m.room.create", "")]));
    assert_eq!(
        state(&two),
        pairs(&[("m.room.create", ""), ("m.room.name", "")])
    );
    assert_eq!(
        answer["rooms"][&two]["timeline"].as_array().unwrap().len(),
        3
    );
    assert_eq!(answer["rooms"][&two]["lists"], json!(["all"]));
    assert!(answer["rooms"][&one].get("lists").is_none());
}
