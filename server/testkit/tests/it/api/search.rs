//! Searching what was said: filters, order, context, groups, pages, and who finds what.

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Person, TestServer};

fn escape(text: &str) -> String {
    text.replace('!', "%21")
        .replace('$', "%24")
        .replace(':', "%3A")
}

async fn search_next(server: &TestServer, who: &Person, criteria: Value, next: &str) -> Value {
    let path = format!("/_matrix/client/v3/search{next}");
    let body = json!({ "search_categories": { "room_events": criteria } });
    let answer = server
        .ok(Method::POST, &path, Some(&who.token), Some(body))
        .await;
    answer["search_categories"]["room_events"].clone()
}

async fn search(server: &TestServer, who: &Person, criteria: Value) -> Value {
    search_next(server, who, criteria, "").await
}

/// The texts that were found.
fn texts(found: &Value) -> Vec<&str> {
    let results = found["results"].as_array().unwrap();
    let content = results.iter().map(|one| &one["result"]["content"]);
    content
        .map(|content| {
            let text = content.get("body").or(content.get("topic"));
            text.or(content.get("name")).unwrap().as_str().unwrap()
        })
        .collect()
}

async fn send(server: &TestServer, who: &Person, room: &str, rest: &str, body: Value) -> Value {
    let path = format!("/_matrix/client/v3/rooms/{}/{rest}", escape(room));
    server
        .ok(Method::PUT, &path, Some(&who.token), Some(body))
        .await
}

async fn post(server: &TestServer, who: &Person, room: &str, rest: &str) {
    let path = format!("/_matrix/client/v3/rooms/{}/{rest}", escape(room));
    server
        .ok(Method::POST, &path, Some(&who.token), Some(json!({})))
        .await;
}

/// Sent, answered, found; told by body, name and topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_just_sent_is_found() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({ "name": "Tea house" })).await;
    for n in 0..10 {
        let text = format!("word{n} Müller");
        let id = server.say(&alice, &room, &text).await;
        let found = search(
            &server,
            &alice,
            json!({ "search_term": format!("WORD{n}") }),
        )
        .await;
        assert_eq!(found["count"], 1, "{found}");
        assert_eq!(found["results"][0]["result"]["event_id"], id);
        assert_eq!(found["results"][0]["result"]["room_id"], room);
        assert!(found["results"][0]["rank"].is_number());
        assert_eq!(found["highlights"], json!([format!("word{n}")]));
    }
    let found = search(&server, &alice, json!({ "search_term": "muller" })).await;
    assert_eq!(
        (&found["count"], &found["highlights"]),
        (&json!(10), &json!(["müller"]))
    );
    let topic = json!({ "topic": "tea and 東京都の話" });
    send(&server, &alice, &room, "state/m.room.topic", topic).await;
    server.say(&alice, &room, "green tea").await;

    let found = |criteria| search(&server, &alice, criteria);
    let all = found(json!({ "search_term": "tea", "order_by": "recent" })).await;
    assert_eq!(
        texts(&all),
        ["green tea", "tea and 東京都の話", "Tea house"]
    );
    for (key, expected) in [
        ("content.body", "green tea"),
        ("content.name", "Tea house"),
        ("content.topic", "tea and 東京都の話"),
    ] {
        let found = found(json!({ "search_term": "tea", "keys": [key] })).await;
        assert_eq!(texts(&found), [expected]);
    }
    for (term, expected) in [
        ("東京", 1),
        ("京都", 1),
        ("都", 1),
        ("京東", 0),
        ("nothing", 0),
    ] {
        let found = found(json!({ "search_term": term })).await;
        assert_eq!(found["count"], expected, "{term}");
    }
    let server = server.restart().await;
    let found = search(&server, &alice, json!({ "search_term": "green" })).await;
    assert_eq!(texts(&found), ["green tea"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_and_pages() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let tea = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let coffee = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    server.join(&bob, &tea).await;
    for n in 0..12 {
        server.say(&alice, &tea, &format!("cup {n}")).await;
    }
    server.say(&bob, &tea, "bob's cup").await;
    server.say(&alice, &coffee, "coffee cup").await;
    let with_url = json!({ "msgtype": "m.image", "body": "cup picture", "url": "mxc://a/b" });
    send(&server, &alice, &tea, "send/m.room.message/url", with_url).await;

    for (filter, count) in [
        (json!({}), 15),
        (json!({ "rooms": [coffee] }), 1),
        (json!({ "rooms": [coffee, "!unknown:x"] }), 1),
        (json!({ "rooms": [] }), 0),
        (json!({ "not_rooms": [tea] }), 1),
        (json!({ "senders": [bob.user_id] }), 1),
        (json!({ "not_senders": [alice.user_id] }), 1),
        (json!({ "types": ["m.room.topic"] }), 0),
        (json!({ "not_types": ["m.room.message"] }), 0),
        (json!({ "contains_url": true }), 1),
        (json!({ "contains_url": false }), 14),
    ] {
        let criteria = json!({ "search_term": "cup", "filter": filter });
        let found = search(&server, &alice, criteria).await;
        assert_eq!(found["count"], count, "{filter}");
    }
    for order in ["recent", "rank"] {
        let criteria = json!({
            "search_term": "cup", "order_by": order, "filter": { "limit": 4, "rooms": [tea] },
        });
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let page = search_next(&server, &alice, criteria.clone(), &next).await;
            assert_eq!(page["count"], 14, "{order}");
            seen.extend(texts(&page).into_iter().map(str::to_owned));
            // What comes meanwhile is on no page.
            server.say(&alice, &tea, "cup of later").await;
            redact_last(&server, &alice, &tea).await;
            let Some(token) = page["next_batch"].as_str() else {
                break;
            };
            next = format!("?next_batch={token}");
        }
        assert_eq!(seen.len(), 14, "{order}: {seen:?}");
        if order == "recent" {
            assert_eq!(seen[0], "cup picture");
            assert_eq!(seen[13], "cup 0");
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 14, "{order}");
    }
}

/// Redacts the newest message of a room.
async fn redact_last(server: &TestServer, who: &Person, room: &str) {
    let path = format!(
        "/_matrix/client/v3/rooms/{}/messages?dir=b&limit=1",
        escape(room)
    );
    let page = server.ok(Method::GET, &path, Some(&who.token), None).await;
    let last = page["chunk"][0]["event_id"].as_str().unwrap();
    let rest = format!("redact/{}/r{last}", escape(last));
    send(server, who, room, &rest.replace("/r$", "/r"), json!({})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn context_state_and_groups() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    server.join(&bob, &room).await;
    let other = server.room(&alice, json!({})).await;
    for text in ["one", "two"] {
        server.say(&bob, &room, text).await;
    }
    server.say(&alice, &room, "needle here").await;
    for text in ["three", "four"] {
        server.say(&bob, &room, text).await;
    }
    let criteria = json!({
        "search_term": "needle",
        "event_context": { "before_limit": 2, "after_limit": 1, "include_profile": true },
        "include_state": true,
    });
    let found = search(&server, &alice, criteria).await;
    let context = &found["results"][0]["context"];
    let bodies = |list: &Value| -> Vec<String> {
        let events = list.as_array().unwrap().iter();
        events
            .map(|event| event["content"]["body"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(bodies(&context["events_before"]), ["two", "one"]);
    assert_eq!(bodies(&context["events_after"]), ["three"]);
    let profiles = context["profile_info"].as_object().unwrap();
    assert_eq!(profiles[&alice.user_id]["displayname"], "alice");
    assert_eq!(profiles.len(), 2, "{context}");
    let start = context["start"].as_str().unwrap();
    let path = format!(
        "/_matrix/client/v3/rooms/{}/messages?dir=b&limit=1&from={start}",
        escape(&room)
    );
    let page = server
        .ok(Method::GET, &path, Some(&alice.token), None)
        .await;
    assert_eq!(page["chunk"][0]["type"], "m.room.member", "{page}");
    let state = found["state"][&room].as_array().unwrap();
    assert!(state.iter().any(|event| event["type"] == "m.room.create"));

    for n in 0..3 {
        server.say(&bob, &room, &format!("stack {n}")).await;
        server
            .say(&alice, &other, &format!("stack other {n}"))
            .await;
    }
    let criteria = json!({
        "search_term": "stack", "order_by": "recent", "filter": { "limit": 3 },
        "groupings": { "group_by": [{ "key": "room_id" }, { "key": "sender" }] },
    });
    let found = search(&server, &alice, criteria.clone()).await;
    let group = &found["groups"]["room_id"][&other];
    assert_eq!(group["results"].as_array().unwrap().len(), 2, "{found}");
    assert_eq!(group["order"], 1);
    let of_bob = &found["groups"]["sender"][&bob.user_id];
    assert_eq!(of_bob["results"].as_array().unwrap().len(), 1);
    let next = format!("?next_batch={}", of_bob["next_batch"].as_str().unwrap());
    let rest = search_next(&server, &alice, criteria, &next).await;
    assert_eq!(texts(&rest), ["stack 1", "stack 0"]);
    assert_eq!(rest["count"], 3, "of the group");
}

/// What was found, and what stands around it, is as rich as in `/messages`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_say_what_the_server_adds_to_events() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = server
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let early = server.say(&alice, &room, "needle early").await;
    server.join(&bob, &room).await;
    let body = json!({ "msgtype": "m.text", "body": "needle late" });
    let late = send(&server, &alice, &room, "send/m.room.message/t1", body).await;
    let late = late["event_id"].as_str().unwrap();
    let annotated = json!({ "m.relates_to": {
        "rel_type": "m.replace", "event_id": late,
    }, "msgtype": "m.text", "body": "* edit", "m.new_content": { "msgtype": "m.text", "body": "edit" } });
    send(&server, &alice, &room, "send/m.room.message/t2", annotated).await;
    server.clock.advance(5_000);
    let unsigned = async |who: &Person, id: &str| {
        let criteria = json!({ "search_term": "needle", "order_by": "recent",
            "event_context": { "before_limit": 20, "after_limit": 20 } });
        let found = search(&server, who, criteria).await;
        let results = found["results"].as_array().unwrap().iter();
        let mut events = Vec::new();
        for result in results {
            events.push(result["result"].clone());
            for side in ["events_before", "events_after"] {
                events.extend(result["context"][side].as_array().unwrap().iter().cloned());
            }
        }
        events.retain(|event| event["event_id"] == id);
        assert_eq!(events.len(), 2, "found, and around the other");
        assert_eq!(events[0]["unsigned"], events[1]["unsigned"]);
        events.remove(0)["unsigned"].clone()
    };
    let of_bob = unsigned(&bob, &early).await;
    assert_eq!(of_bob["membership"], "leave", "before the join");
    assert!(of_bob["age"].as_u64().unwrap() >= 5_000);
    let of_bob = unsigned(&bob, late).await;
    assert_eq!(of_bob["membership"], "join");
    assert_eq!(of_bob["transaction_id"], Value::Null);
    assert_eq!(
        of_bob["m.relations"]["m.replace"]["content"]["m.new_content"]["body"],
        "edit"
    );
    assert_eq!(unsigned(&alice, late).await["transaction_id"], "t1");
    let tablet = server.log_in("alice").await;
    assert_eq!(unsigned(&tablet, late).await["transaction_id"], Value::Null);
}

/// Who may not see it does not find it, nor learn that it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_one_may_see() {
    let server = TestServer::start();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let body = json!({
        "preset": "public_chat",
        "initial_state": [{
            "type": "m.room.history_visibility", "state_key": "",
            "content": { "history_visibility": "joined" },
        }],
    });
    let room = server.room(&alice, body).await;
    let needle = json!({ "search_term": "needle" });
    server.say(&alice, &room, "needle before").await;
    assert_eq!(search(&server, &bob, needle.clone()).await["count"], 0);
    server.join(&bob, &room).await;
    server.say(&alice, &room, "needle meanwhile").await;
    post(&server, &bob, &room, "leave").await;
    server.say(&alice, &room, "needle after").await;
    let found = search(&server, &bob, needle.clone()).await;
    assert_eq!(texts(&found), ["needle meanwhile"]);
    assert_eq!(found["count"], 1);
    let of_room = json!({ "search_term": "needle", "filter": { "rooms": [room] } });
    assert_eq!(
        texts(&search(&server, &bob, of_room).await),
        ["needle meanwhile"]
    );
    post(&server, &bob, &room, "forget").await;
    assert_eq!(search(&server, &bob, needle.clone()).await["count"], 0);
    assert_eq!(search(&server, &alice, needle.clone()).await["count"], 3);

    let ignored = json!({ "ignored_users": { (alice.user_id.as_str()): {} } });
    server.join(&bob, &room).await;
    server.say(&alice, &room, "needle again").await;
    assert_eq!(search(&server, &bob, needle.clone()).await["count"], 2);
    let path = format!(
        "/_matrix/client/v3/user/{}/account_data/m.ignored_user_list",
        bob.user_id
    );
    server
        .ok(Method::PUT, &path, Some(&bob.token), Some(ignored))
        .await;
    assert_eq!(search(&server, &bob, needle).await["count"], 0);
}

/// A search in a room goes on in the rooms that it replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgraded_rooms_are_searched_whole() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let old = server.room(&alice, json!({ "room_version": "10" })).await;
    server.say(&alice, &old, "message before").await;
    let path = format!("/_matrix/client/v3/rooms/{}/upgrade", escape(&old));
    let body = json!({ "new_version": "11" });
    let answer = server
        .ok(Method::POST, &path, Some(&alice.token), Some(body))
        .await;
    let new = answer["replacement_room"].as_str().unwrap();
    server.say(&alice, new, "message after").await;
    let criteria = |room: &str| json!({ "search_term": "message", "filter": { "rooms": [room] }, "order_by": "recent" });
    let found = search(&server, &alice, criteria(new)).await;
    assert_eq!(texts(&found), ["message after", "message before"]);
    let found = search(&server, &alice, criteria(&old)).await;
    assert_eq!(texts(&found), ["message before"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redacted_messages_are_not_found() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let room = server.room(&alice, json!({})).await;
    server.say(&alice, &room, "needle kept").await;
    server.say(&alice, &room, "needle dropped").await;
    let needle = json!({ "search_term": "needle" });
    assert_eq!(search(&server, &alice, needle.clone()).await["count"], 2);
    redact_last(&server, &alice, &room).await;
    for order in ["rank", "recent"] {
        let found = json!({ "search_term": "needle", "order_by": order });
        let found = search(&server, &alice, found).await;
        assert_eq!(
            (texts(&found), &found["count"]),
            (vec!["needle kept"], &json!(1))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused() {
    let server = TestServer::start();
    let alice = server.person("alice").await;
    let events = |criteria: Value| json!({ "search_categories": { "room_events": criteria } });
    for (body, next, errcode) in [
        (json!({}), "", "M_MISSING_PARAM"),
        (events(json!({})), "", "M_MISSING_PARAM"),
        (events(json!({ "search_term": 3 })), "", "M_BAD_JSON"),
        (
            events(json!({ "search_term": "x", "order_by": "size" })),
            "",
            "M_INVALID_PARAM",
        ),
        (
            events(json!({ "search_term": "x", "groupings": { "group_by": [{ "key": "x" }] } })),
            "",
            "M_INVALID_PARAM",
        ),
        (
            events(json!({ "search_term": "x" })),
            "?next_batch=nonsense",
            "M_INVALID_PARAM",
        ),
    ] {
        let path = format!("/_matrix/client/v3/search{next}");
        let token = Some(alice.token.as_str());
        let (status, answer) = server
            .req(Method::POST, &path, token, Some(body.clone()))
            .await;
        let got = (status, answer["errcode"].as_str().unwrap());
        assert_eq!(got, (400, errcode), "{body}");
    }
    let none = search(&server, &alice, json!({ "search_term": "" })).await;
    assert_eq!((&none["count"], &none["results"]), (&json!(0), &json!([])));
}
