//! Every filter of lists, with what it leaves.

use super::*;

/// Checks what each filter leaves of the rooms, in whatever order.
async fn check(server: &TestServer, who: &Person, cases: &[(Value, &[&String])]) {
    for (filter, rooms) in cases {
        let body = list(
            json!([[0, 99]]),
            json!({"filters": filter, "timeline_limit": 0}),
        );
        let answer = Conn::new(server, who).ask(&body).await;
        let mut found = listed(&answer);
        let mut expected: Vec<String> = rooms.iter().map(|room| (*room).clone()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{filter}");
        assert_eq!(answer["lists"]["all"]["count"], expected.len(), "{filter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_encrypted_typed_and_invited() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let plain = named(&server, &alice, "plain").await;
    let space = server
        .room(&alice, json!({"creation_content": {"type": "m.space"}}))
        .await;
    let secret = server
        .room(
            &alice,
            json!({"initial_state": [{"type": "m.room.encryption", "state_key": "",
            "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]}),
        )
        .await;
    let direct = server.room(&alice, json!({"is_direct": true})).await;
    let path = format!("user/{}/account_data/m.direct", alice.user_id);
    put(
        &server,
        &alice,
        &path,
        json!({&*bob.user_id: [direct, "!unknown:x"]}),
    )
    .await;
    let invited = server
        .room(
            &bob,
            json!({"invite": [&*alice.user_id], "creation_content": {"type": "m.space"},
            "initial_state": [{"type": "m.room.encryption", "state_key": "",
                "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]}),
        )
        .await;
    check(
        &server,
        &alice,
        &[
            (json!({}), &[&plain, &space, &secret, &direct, &invited]),
            (json!({"is_dm": true}), &[&direct]),
            (
                json!({"is_dm": false}),
                &[&plain, &space, &secret, &invited],
            ),
            (json!({"is_encrypted": true}), &[&secret, &invited]),
            (json!({"is_encrypted": false}), &[&plain, &space, &direct]),
            (json!({"is_invite": true}), &[&invited]),
            (
                json!({"is_invite": false}),
                &[&plain, &space, &secret, &direct],
            ),
            (json!({"room_types": ["m.space"]}), &[&space, &invited]),
            (json!({"room_types": [null]}), &[&plain, &secret, &direct]),
            (json!({"room_types": []}), &[]),
            (
                json!({"not_room_types": ["m.space"]}),
                &[&plain, &secret, &direct],
            ),
            (json!({"not_room_types": [null]}), &[&space, &invited]),
            (
                json!({"room_types": ["m.space", null], "not_room_types": ["m.space"]}),
                &[&plain, &secret, &direct],
            ),
            (
                json!({"is_dm": false, "is_encrypted": true, "is_invite": false}),
                &[&secret],
            ),
        ],
    )
    .await;
    // What is changed is seen by the next request.
    put(&server, &alice, &path, json!({&*bob.user_id: [plain]})).await;
    put(
        &server,
        &alice,
        &format!("rooms/{space}/state/m.room.encryption/"),
        json!({"algorithm": "m.megolm.v1.aes-sha2"}),
    )
    .await;
    check(
        &server,
        &alice,
        &[
            (json!({"is_dm": true}), &[&plain]),
            (json!({"is_encrypted": true}), &[&secret, &space, &invited]),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_and_names() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let (one, two) = (
        named(&server, &alice, "abFOOab").await,
        named(&server, &alice, "bar").await,
    );
    let aliased = server
        .room(&alice, json!({"room_alias_name": "quux"}))
        .await;
    let nameless = server.room(&alice, json!({"preset": "public_chat"})).await;
    server.join(&bob, &nameless).await;
    put(
        &server,
        &bob,
        &format!("profile/{}/displayname", bob.user_id),
        json!({"displayname": "Robert Foot"}),
    )
    .await;
    let invited = server
        .room(
            &bob,
            json!({"invite": [&*alice.user_id], "name": "Foolery"}),
        )
        .await;
    let tag = |room: &str, tag: &str| format!("user/{}/rooms/{room}/tags/{tag}", alice.user_id);
    put(&server, &alice, &tag(&one, "m.favourite"), json!({})).await;
    put(&server, &alice, &tag(&one, "u.a"), json!({})).await;
    put(&server, &alice, &tag(&two, "u.a"), json!({})).await;
    check(
        &server,
        &alice,
        &[
            (json!({"tags": ["m.favourite"]}), &[&one]),
            (json!({"tags": ["m.favourite", "u.a"]}), &[&one, &two]),
            (
                json!({"not_tags": ["u.a"]}),
                &[&aliased, &nameless, &invited],
            ),
            (
                json!({"tags": ["u.a"], "not_tags": ["m.favourite"]}),
                &[&two],
            ),
            (
                json!({"room_name_like": "foo"}),
                &[&one, &nameless, &invited],
            ),
            (json!({"room_name_like": "QUUX"}), &[&aliased]),
            (json!({"room_name_like": "BA"}), &[&two]),
        ],
    )
    .await;
    // A room that a tag brings into a list is told; one that leaves it makes it shorter.
    let mut conn = Conn::new(&server, &alice);
    let body = list(json!([[0, 9]]), json!({"filters": {"tags": ["u.a"]}}));
    assert_eq!(told(&conn.ask(&body).await).len(), 2);
    let (answer, _) = tokio::join!(conn.wait(&body, 20_000), async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        put(&server, &alice, &tag(&aliased, "u.a"), json!({})).await
    });
    assert_eq!(told(&answer), [&*aliased]);
    let path = format!("/_matrix/client/v3/{}", tag(&one, "u.a"));
    let (answer, _) = tokio::join!(conn.wait(&body, 20_000), async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        server
            .req(Method::DELETE, &path, Some(&alice.token), None)
            .await
    });
    assert_eq!(
        (told(&answer), &answer["lists"]["all"]["count"]),
        (vec![], &json!(2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn children_of_spaces() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let space = json!({"creation_content": {"type": "m.space"}, "preset": "public_chat"});
    let (mine, theirs) = (
        server.room(&alice, space.clone()).await,
        server.room(&bob, space).await,
    );
    let (one, two) = (
        named(&server, &alice, "one").await,
        named(&server, &alice, "two").await,
    );
    let child = |space: &str, room: &str| format!("rooms/{space}/state/m.space.child/{room}");
    let via = json!({"via": ["skerry.test"]});
    put(&server, &alice, &child(&mine, &one), via.clone()).await;
    put(&server, &alice, &child(&mine, &mine), via.clone()).await;
    put(&server, &bob, &child(&theirs, &two), via.clone()).await;
    let only = |spaces: Value| json!({ "spaces": spaces });
    check(
        &server,
        &alice,
        &[
            (only(json!([mine])), &[&one, &mine]),
            // Not joined to it.
            (only(json!([theirs])), &[]),
            (only(json!(["!none:x"])), &[]),
        ],
    )
    .await;
    server.join(&alice, &theirs).await;
    put(&server, &alice, &child(&mine, &mine), json!({})).await;
    check(
        &server,
        &alice,
        &[
            (only(json!([theirs])), &[&two]),
            (only(json!([mine, theirs])), &[&one, &two]),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_that_were_left_do_not_tell_what_came_after() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = named(&server, &alice, "before").await;
    server.join(&bob, &room).await;
    post(
        &server,
        &alice,
        &format!("rooms/{room}/kick"),
        json!({"user_id": &*bob.user_id}),
    )
    .await;
    put(
        &server,
        &alice,
        &format!("rooms/{room}/state/m.room.encryption/"),
        json!({"algorithm": "m.megolm.v1.aes-sha2"}),
    )
    .await;
    put(
        &server,
        &alice,
        &format!("rooms/{room}/state/m.room.name/"),
        json!({"name": "after"}),
    )
    .await;
    check(
        &server,
        &bob,
        &[
            (json!({"is_encrypted": false}), &[&room]),
            (json!({"room_name_like": "before"}), &[&room]),
            (json!({"room_name_like": "after"}), &[]),
        ],
    )
    .await;
}
