//! Finding rooms: the directory, summaries, rooms shared with others.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

fn escape(text: &str) -> String {
    text.replace('!', "%21")
        .replace('#', "%23")
        .replace('@', "%40")
        .replace(':', "%3A")
}

async fn ask(
    server: &TestServer,
    who: Option<&Person>,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (u16, Value) {
    let path = format!("/_matrix/client/{path}");
    let token = who.map(|who| who.token.as_str());
    server.req(method, &path, token, body).await
}

async fn listed(server: &TestServer, who: &Person, body: Value) -> Value {
    let (status, page) = ask(
        server,
        Some(who),
        Method::POST,
        "v3/publicRooms",
        Some(body),
    )
    .await;
    assert_eq!(status, 200, "{page}");
    page
}

fn ids(page: &Value) -> Vec<&str> {
    let rooms = page["chunk"].as_array().unwrap().iter();
    rooms
        .map(|room| room["room_id"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_is_searched_as_people_type() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let open = |name: &str, topic: &str, kind: Option<&str>| {
        let mut body = json!({ "visibility": "public", "name": name, "topic": topic });
        if let Some(kind) = kind {
            body["creation_content"] = json!({ "type": kind });
        }
        body
    };
    let cafe = server
        .room(&alice, open("Café Größe", "Kaffee", None))
        .await;
    let boats = server.room(&alice, open("船の部屋", "ボート", None)).await;
    let space = server
        .room(&alice, open("Everything", "", Some("m.space")))
        .await;
    server
        .room(&alice, json!({ "name": "Café, but not listed" }))
        .await;
    for (term, found) in [
        ("cafe", vec![&cafe]),
        ("GRÖSSE", vec![&cafe]),
        ("ｋａｆｆｅｅ", vec![&cafe]),
        ("船", vec![&boats]),
        ("ぼーと", vec![&boats]),
        ("nothing like it", vec![]),
    ] {
        let filter = json!({ "filter": { "generic_search_term": term } });
        let page = listed(&server, &alice, filter).await;
        assert_eq!(ids(&page), found, "{term}");
        assert_eq!(page["total_room_count_estimate"], found.len(), "{term}");
    }
    for (kinds, found) in [
        (json!(["m.space"]), vec![&space]),
        (json!([null]), vec![&cafe, &boats]),
        (json!([null, "m.space"]), vec![&cafe, &boats, &space]),
        (json!(["org.example"]), vec![]),
    ] {
        let page = listed(
            &server,
            &alice,
            json!({ "filter": { "room_types": kinds } }),
        )
        .await;
        assert_eq!(ids(&page), found, "{kinds}");
    }
    let everything = listed(&server, &alice, json!({})).await;
    let shown = &everything["chunk"][2];
    assert_eq!(
        (&shown["room_type"], &shown["join_rule"]),
        (&json!("m.space"), &json!("public"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_go_both_ways_while_rooms_come_and_go() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let mut rooms = Vec::new();
    for n in 0..7 {
        let body = json!({ "visibility": "public", "name": format!("Room {n}") });
        rooms.push(server.room(&alice, body).await);
    }
    let first = listed(&server, &alice, json!({ "limit": 3 })).await;
    assert_eq!(ids(&first), [&rooms[0], &rooms[1], &rooms[2]]);
    assert_eq!(first["total_room_count_estimate"], 7);
    assert!(first.get("prev_batch").is_none(), "{first}");
    // A room of the first page goes: the second is the same as it would have been.
    let path = format!("v3/directory/list/room/{}", escape(&rooms[1]));
    let private = Some(json!({ "visibility": "private" }));
    assert_eq!(
        ask(&server, Some(&alice), Method::PUT, &path, private)
            .await
            .0,
        200
    );
    let since = json!({ "limit": 3, "since": first["next_batch"] });
    let second = listed(&server, &alice, since).await;
    assert_eq!(ids(&second), [&rooms[3], &rooms[4], &rooms[5]]);
    let since = json!({ "limit": 3, "since": second["next_batch"] });
    let third = listed(&server, &alice, since).await;
    assert_eq!(ids(&third), [&rooms[6]]);
    assert!(third.get("next_batch").is_none(), "{third}");
    let since = json!({ "limit": 3, "since": third["prev_batch"] });
    let back = listed(&server, &alice, since).await;
    assert_eq!(ids(&back), ids(&second));
    let since = json!({ "limit": 3, "since": back["prev_batch"] });
    let back = listed(&server, &alice, since).await;
    assert_eq!(ids(&back), [&rooms[0], &rooms[2]]);
    assert!(back.get("prev_batch").is_none(), "{back}");

    let wrong = Some(json!({ "since": "nonsense" }));
    let (status, error) = ask(&server, Some(&alice), Method::POST, "v3/publicRooms", wrong).await;
    assert_eq!(
        (status, &error["errcode"]),
        (400, &json!("M_INVALID_PARAM"))
    );
    let path = "v3/publicRooms?server=elsewhere.example";
    let (status, error) = ask(&server, Some(&alice), Method::GET, path, None).await;
    assert_eq!((status, &error["errcode"]), (502, &json!("M_UNKNOWN")));
    let path = "v3/publicRooms?server=test.example&limit=2";
    let (status, page) = ask(&server, None, Method::GET, path, None).await;
    assert_eq!((status, ids(&page).len()), (200, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_networks_are_their_own() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let own = server.room(&alice, json!({ "visibility": "public" })).await;
    let bridged = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let bridge = json!({
        "id": "irc", "url": null, "as_token": "a", "hs_token": "b",
        "sender_localpart": "irc", "namespaces": {},
    });
    let path = "/_skerry/admin/v1/appservices";
    let (status, _) = server.admin(Method::POST, path, Some(bridge)).await;
    assert_eq!(status, 200);
    let rooms = &server.house.rooms;
    let list = rooms.list_in_network("irc|libera".into(), &bridged, true);
    list.await.unwrap();
    for (body, found) in [
        (json!({}), vec![&own]),
        (
            json!({ "include_all_networks": true }),
            vec![&own, &bridged],
        ),
        (
            json!({ "third_party_instance_id": "irc|libera" }),
            vec![&bridged],
        ),
        (json!({ "third_party_instance_id": "irc" }), vec![]),
    ] {
        assert_eq!(
            ids(&listed(&server, &alice, body.clone()).await),
            found,
            "{body}"
        );
    }
    let both = json!({ "include_all_networks": true, "third_party_instance_id": "irc|libera" });
    let (status, _) = ask(
        &server,
        Some(&alice),
        Method::POST,
        "v3/publicRooms",
        Some(both),
    )
    .await;
    assert_eq!(status, 400);
    rooms
        .list_in_network("irc|libera".into(), &bridged, false)
        .await
        .unwrap();
    let none = json!({ "third_party_instance_id": "irc|libera" });
    assert!(ids(&listed(&server, &alice, none).await).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_may_lists_a_room() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let bob = server.person("bob").await;
    let room = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    server.join(&bob, &room).await;
    let path = format!("v3/directory/list/room/{}", escape(&room));
    let seen = async || ask(&server, None, Method::GET, &path, None).await.1["visibility"].clone();
    let set = async |who: &Person, to: &str| {
        let body = Some(json!({ "visibility": to }));
        ask(&server, Some(who), Method::PUT, &path, body).await
    };
    assert_eq!(seen().await, "private");
    let (status, error) = set(&bob, "public").await;
    assert_eq!((status, &error["errcode"]), (403, &json!("M_FORBIDDEN")));
    assert_eq!(set(&alice, "public").await.0, 200);
    assert_eq!(seen().await, "public");
    assert_eq!(set(&alice, "hidden").await.0, 400);
    let nowhere = "v3/directory/list/room/%21nowhere%3Atest.example";
    assert_eq!(ask(&server, None, Method::GET, nowhere, None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_summary_is_for_those_who_may_know() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let bob = server.person("bob").await;
    let body = json!({
        "preset": "public_chat", "name": "Open", "topic": "To all", "room_alias_name": "open",
        "initial_state": [{ "type": "m.room.encryption",
            "content": { "algorithm": "m.megolm.v1.aes-sha2" } }],
    });
    let open = server.room(&alice, body).await;
    let get = async |who: Option<&Person>, room: &str| {
        let path = format!("v1/room_summary/{}", escape(room));
        ask(&server, who, Method::GET, &path, None).await
    };
    let (status, summary) = get(None, "#open:test.example").await;
    assert_eq!(status, 200, "{summary}");
    let expected = json!({
        "room_id": open, "name": "Open", "topic": "To all", "num_joined_members": 1,
        "canonical_alias": "#open:test.example", "world_readable": false,
        "guest_can_join": false, "join_rule": "public", "room_version": "12",
        "encryption": "m.megolm.v1.aes-sha2",
    });
    assert_eq!(summary, expected);
    assert_eq!(get(Some(&bob), &open).await.1["membership"], "leave");
    assert_eq!(get(Some(&alice), &open).await.1["membership"], "join");
    for path in [
        format!("unstable/im.nheko.summary/summary/{}", escape(&open)),
        format!("unstable/im.nheko.summary/rooms/{}/summary", escape(&open)),
    ] {
        let (status, found) = ask(&server, None, Method::GET, &path, None).await;
        assert_eq!((status, &found["name"]), (200, &json!("Open")), "{path}");
    }

    let rule = |rule: &str, allow: &str| {
        json!({ "preset": "private_chat", "initial_state": [{ "type": "m.room.join_rules",
            "content": { "join_rule": rule,
                "allow": [{ "type": "m.room_membership", "room_id": allow }] } }] })
    };
    let closed = server
        .room(&alice, json!({ "preset": "private_chat" }))
        .await;
    let knocked = server.room(&alice, rule("knock", "")).await;
    let limited = server.room(&alice, rule("restricted", &open)).await;
    for room in [&closed, &limited, &"!nowhere:test.example".to_owned()] {
        let (status, error) = get(Some(&bob), room).await;
        assert_eq!(
            (status, &error["errcode"]),
            (404, &json!("M_NOT_FOUND")),
            "{room}"
        );
        assert_eq!(get(None, room).await.0, 404);
    }
    assert_eq!(get(None, &knocked).await.1["join_rule"], "knock");
    server.join(&bob, &open).await;
    let (status, summary) = get(Some(&bob), &limited).await;
    assert_eq!(
        (status, &summary["allowed_room_ids"]),
        (200, &json!([open]))
    );
    assert_eq!(get(None, &limited).await.0, 404);
    server.invite(&alice, &closed, &bob).await;
    assert_eq!(get(Some(&bob), &closed).await.1["membership"], "invite");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_shared_with_another_come_in_pages() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let bob = server.person("bob").await;
    let get = async |query: &str| {
        let path = format!("v1/mutual_rooms{query}");
        ask(&server, Some(&alice), Method::GET, &path, None).await
    };
    let none = json!({ "joined": [], "count": 0 });
    assert_eq!(
        get("?user_id=%40bob%3Atest.example").await,
        (200, none.clone())
    );
    assert_eq!(get("?user_id=%40nobody%3Atest.example").await, (200, none));
    for (query, errcode) in [
        ("", "M_MISSING_PARAM"),
        ("?user_id=bob", "M_INVALID_PARAM"),
        ("?user_id=%40alice%3Atest.example", "M_INVALID_PARAM"),
        ("?user_id=%40bob%3Atest.example&from=x", "M_INVALID_PARAM"),
    ] {
        let (status, error) = get(query).await;
        assert_eq!(
            (status, &error["errcode"]),
            (400, &json!(errcode)),
            "{query}"
        );
    }
    let mut shared = Vec::new();
    for n in 0..101 {
        let room = server
            .room(&alice, json!({ "preset": "public_chat" }))
            .await;
        if n != 50 {
            server.join(&bob, &room).await;
            shared.push(room);
        }
    }
    let last = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    server.join(&bob, &last).await;
    shared.push(last);
    let (_, first) = get("?user_id=%40bob%3Atest.example").await;
    assert_eq!(
        (&first["count"], &first["joined"]),
        (&json!(101), &json!(shared[..100]))
    );
    let next = first["next_batch"].as_str().unwrap();
    let (_, second) = get(&format!("?user_id=%40bob%3Atest.example&from={next}")).await;
    assert_eq!(second, json!({ "joined": [shared[100]], "count": 101 }));
    let path = "unstable/uk.half-shot.msc2666/user/mutual_rooms?user_id=%40bob%3Atest.example";
    let (_, old) = ask(&server, Some(&alice), Method::GET, path, None).await;
    assert_eq!(
        (&old["joined"], &old["next_batch_token"]),
        (&first["joined"], &json!(next))
    );
}
