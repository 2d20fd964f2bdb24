//! What a server hears from another one that signs whatever a test wants.

use http::Method;
use serde_json::{Value, json};
use skerry_core::RoomVersion;
use skerry_core::build::{Draft, EventRef};
use skerry_core::canonical::{Mode, Object};
use skerry_testkit::{Network, Person, Stranger, TestServer};

use super::{escape, texts, until};

const ONE: &str = "one.example";

struct Scene {
    one: TestServer,
    alice: Person,
    room: String,
    other: Stranger,
}

/// A server with a public room, and a stranger.
async fn scene() -> Scene {
    let network = Network::new(1);
    let one = network.server(ONE, "[room_directory]\npublic_over_federation = true");
    let alice = one.person("alice").await;
    let body = json!({
        "preset": "public_chat",
        "name": "Open to all",
        "room_alias_name": "open",
        "visibility": "public",
    });
    let room = one.room(&alice, body).await;
    let other = Stranger::new(&network, "other.example");
    Scene {
        one,
        alice,
        room,
        other,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_through_us_talks_with_us() {
    let scene = scene().await;
    let (one, other) = (&scene.one, &scene.other);
    let bob = other.user("bob");
    let mut entered = other.join(ONE, &scene.room, &bob).await;
    assert_eq!(entered.answer["origin"], ONE);
    assert_eq!(entered.answer["members_omitted"], false);
    assert!(!entered.answer["auth_chain"].as_array().unwrap().is_empty());
    let path = format!(
        "/_matrix/client/v3/rooms/{}/joined_members",
        escape(&scene.room)
    );
    let members = one
        .ok(Method::GET, &path, Some(&scene.alice.token), None)
        .await;
    assert!(members["joined"][&bob].is_object(), "{members}");
    let first = other.message(&mut entered, &bob, "first");
    let second = other.message(&mut entered, &bob, "second");
    let pdus = [first.json(), second.json()];
    let (status, answer) = other.send(ONE, "1", &pdus, &[]).await;
    let expected = json!({ "pdus": { first.event_id(): {}, second.event_id(): {} } });
    assert_eq!((status, &answer), (200, &expected));
    until("both are there", async || {
        texts(one, &scene.alice, &scene.room)
            .await
            .starts_with(&["second".into(), "first".into()])
    })
    .await;
    // The same transaction, whatever it holds now, has the same answer.
    let (status, again) = other.send(ONE, "1", &[], &[]).await;
    assert_eq!((status, &again), (200, &expected));
    // A new one with the same events changes nothing.
    other.send(ONE, "2", &pdus, &[]).await;
    let third = other.message(&mut entered, &bob, "third");
    other.send(ONE, "3", &[third.json()], &[]).await;
    until("the third is there", async || {
        texts(one, &scene.alice, &scene.room).await[0] == "third"
    })
    .await;
    let all = texts(one, &scene.alice, &scene.room).await;
    assert_eq!(all, ["third", "second", "first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_pdu_is_said_at_once() {
    let scene = scene().await;
    let other = &scene.other;
    let bob = other.user("bob");
    let mut entered = other.join(ONE, &scene.room, &bob).await;
    let good = other.message(&mut entered, &bob, "good");
    let elsewhere = good.json().replace(&scene.room, "!nowhere:other.example");
    let shapeless = good.json().replace("\"sender\":\"@bob", "\"sender\":\"bob");
    let other_id = good.json().replace("\"depth\":", "\"depth\":1");
    let huge = format!("{{\"big\":\"{}\",{}", "x".repeat(66_000), &other_id[1..]);
    let pdus = [good.json(), &elsewhere, &shapeless, &huge, "{}", "[]"];
    let (status, answer) = other.send(ONE, "1", &pdus, &[]).await;
    assert_eq!(status, 200, "{answer}");
    let said = answer["pdus"].as_object().unwrap();
    assert_eq!(said[good.event_id()], json!({}));
    let errors: Vec<&str> = said
        .values()
        .filter_map(|one| one["error"].as_str())
        .collect();
    assert_eq!(errors.len(), 2, "{answer}");
    assert!(
        errors.iter().any(|error| error.contains("sender")),
        "{answer}"
    );
    assert!(
        errors.iter().any(|error| error.contains("65536")),
        "{answer}"
    );
    // One whose signature is not good, under a key that is known.
    let forged = other.message(&mut entered, &bob, "forged");
    let mut pdu: Value = serde_json::from_str(forged.json()).unwrap();
    let signatures = pdu["signatures"]["other.example"].as_object_mut().unwrap();
    for signature in signatures.values_mut() {
        *signature = json!("A".repeat(86));
    }
    let after = other.message(&mut entered, &bob, "after");
    let pdus = [&*pdu.to_string(), after.json()];
    let (_, answer) = other.send(ONE, "1b", &pdus, &[]).await;
    let said = &answer["pdus"][forged.event_id()]["error"];
    assert!(said.as_str().unwrap().contains("signature"), "{answer}");
    assert_eq!(answer["pdus"][after.event_id()], json!({}));
    // More than a transaction may hold.
    let many = vec!["{}"; 51];
    let (status, answer) = other.send(ONE, "2", &many, &[]).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (400, &json!("M_INVALID_PARAM"))
    );
    let (status, _) = other.send(ONE, "3", &[], &vec![json!({}); 101]).await;
    assert_eq!(status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_a_room_keeps_out_is_not_heard() {
    let scene = scene().await;
    let other = &scene.other;
    let bob = other.user("bob");
    let mut entered = other.join(ONE, &scene.room, &bob).await;
    let path = format!(
        "/_matrix/client/v3/rooms/{}/state/m.room.server_acl",
        escape(&scene.room)
    );
    let acl = json!({ "allow": ["*"], "deny": ["OTHER.example"] });
    let token = Some(&*scene.alice.token);
    scene.one.ok(Method::PUT, &path, token, Some(acl)).await;
    let event = other.message(&mut entered, &bob, "let me in");
    let (_, answer) = other.send(ONE, "1", &[event.json()], &[]).await;
    let said = &answer["pdus"][event.event_id()]["error"];
    assert!(
        said.as_str().unwrap().contains("keeps this server out"),
        "{answer}"
    );
    let (status, answer) = other
        .ask(
            ONE,
            Method::GET,
            &make_join(&scene.room, &other.user("carol")),
            None,
        )
        .await;
    assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
    assert!(
        texts(&scene.one, &scene.alice, &scene.room)
            .await
            .is_empty()
    );
}

fn make_join(room: &str, user_id: &str) -> String {
    let (room, user) = (escape(room), escape(user_id));
    format!("/_matrix/federation/v1/make_join/{room}/{user}?ver=1&ver=12")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_are_for_the_users_of_who_asks() {
    let scene = scene().await;
    let other = &scene.other;
    let bob = other.user("bob");
    for (room, user, status, code) in [
        (&*scene.room, "@eve:third.example", 403, "M_FORBIDDEN"),
        (&*scene.room, "@alice:one.example", 403, "M_FORBIDDEN"),
        ("!nowhere:one.example", &bob, 404, "M_NOT_FOUND"),
    ] {
        let answer = other
            .ask(ONE, Method::GET, &make_join(room, user), None)
            .await;
        assert_eq!(
            (answer.0, &answer.1["errcode"]),
            (status, &json!(code)),
            "{user}"
        );
    }
    let path = make_join(&scene.room, &bob);
    let old = path.split('?').next().unwrap();
    let (status, answer) = other.ask(ONE, Method::GET, old, None).await;
    let said = (status, &answer["errcode"], &answer["room_version"]);
    assert_eq!(
        said,
        (400, &json!("M_INCOMPATIBLE_ROOM_VERSION"), &json!("12"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_signed_is_not_taken() {
    let scene = scene().await;
    let other = &scene.other;
    let made = other
        .get(ONE, &make_join(&scene.room, &other.user("bob")))
        .await;
    let event = other.from_template(RoomVersion::V12, &made["event"]);
    let mut forged: Value = serde_json::from_str(event.json()).unwrap();
    forged["signatures"] = json!({ "other.example": { "ed25519:test": "A".repeat(86) } });
    let (room, id) = (escape(&scene.room), escape(event.event_id()));
    let path = format!("/_matrix/federation/v2/send_join/{room}/{id}");
    let forged = forged.to_string();
    let (status, answer) = other.ask(ONE, Method::PUT, &path, Some(&forged)).await;
    let said = (status, &answer["errcode"]);
    assert_eq!(said, (400, &json!("M_INVALID_PARAM")));
    // Nothing that is no JSON object can have been signed.
    for body in ["{\"a\":", "[]", "7"] {
        let (status, answer) = other.ask(ONE, Method::PUT, &path, Some(body)).await;
        let said = (status, &answer["errcode"]);
        assert_eq!(said, (401, &json!("M_UNAUTHORIZED")), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_kept_out_learns_nothing() {
    let scene = scene().await;
    let other = &scene.other;
    let bob = other.user("bob");
    let entered = other.join(ONE, &scene.room, &bob).await;
    let nobody = format!("@nobody:{ONE}");
    let member = ("m.room.member", Some(&*nobody));
    let invite = other.event(&entered, &bob, member, &json!({ "membership": "invite" }));
    let (room, id) = (escape(&scene.room), escape(invite.event_id()));
    let invited = format!("/_matrix/federation/v2/invite/{room}/{id}");
    let create = entered.state.iter().find(|event| event.is_create());
    let body = format!(
        "{{\"room_version\":\"{}\",\"event\":{},\"invite_room_state\":[{}]}}",
        entered.version,
        invite.json(),
        create.unwrap().json()
    );
    let missing = format!("/_matrix/federation/v1/get_missing_events/{room}");
    let invite_it = || other.ask(ONE, Method::PUT, &invited, Some(&body));
    let ask_for_nothing = || other.ask(ONE, Method::POST, &missing, Some("{}"));
    let (status, answer) = invite_it().await;
    assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")));
    assert_eq!(ask_for_nothing().await, (200, json!({ "events": [] })));
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.server_acl");
    let acl = json!({ "allow": ["*"], "deny": ["other.example"] });
    let token = Some(&*scene.alice.token);
    scene.one.ok(Method::PUT, &path, token, Some(acl)).await;
    for (status, answer) in [invite_it().await, ask_for_nothing().await] {
        assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
    }
}

/// CVE-2026-24471 and its like, from the other side: what is sent as a join is one, of the
/// sender's own, or it is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_join_is_taken_for_a_join() {
    let scene = scene().await;
    let other = &scene.other;
    let bob = other.user("bob");
    let made = other.get(ONE, &make_join(&scene.room, &bob)).await;
    let changed = |field: &str, value: Value| {
        let mut template = made["event"].clone();
        template[field] = value;
        template
    };
    for template in [
        changed("content", json!({ "membership": "leave" })),
        changed("state_key", json!("@eve:third.example")),
        changed("type", json!("m.room.topic")),
        changed("sender", json!("@alice:one.example")),
        changed("room_id", json!("!nowhere:one.example")),
    ] {
        let event = other.from_template(RoomVersion::V12, &template);
        let (room, id) = (escape(&scene.room), escape(event.event_id()));
        let path = format!("/_matrix/federation/v2/send_join/{room}/{id}");
        let (status, answer) = other.ask(ONE, Method::PUT, &path, Some(event.json())).await;
        assert!(
            [400, 403].contains(&status),
            "{template}: {status} {answer}"
        );
    }
    let members = format!(
        "/_matrix/client/v3/rooms/{}/joined_members",
        escape(&scene.room)
    );
    let token = Some(&*scene.alice.token);
    let members = scene.one.ok(Method::GET, &members, token, None).await;
    assert_eq!(members["joined"].as_object().unwrap().len(), 1, "{members}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_for_who_is_in_the_room() {
    let scene = scene().await;
    let (one, other) = (&scene.one, &scene.other);
    let said = one.say(&scene.alice, &scene.room, "hello").await;
    let bob = other.user("bob");
    other.join(ONE, &scene.room, &bob).await;
    let (room, id) = (escape(&scene.room), escape(&said));
    let f = "/_matrix/federation/v1";
    let event = other.get(ONE, &format!("{f}/event/{id}")).await;
    assert_eq!(event["pdus"][0]["content"]["body"], "hello");
    assert_eq!(event["origin"], ONE);
    let state = other
        .get(ONE, &format!("{f}/state/{room}?event_id={id}"))
        .await;
    let ids = other
        .get(ONE, &format!("{f}/state_ids/{room}?event_id={id}"))
        .await;
    let count = |list: &Value| list.as_array().unwrap().len();
    assert!(count(&state["pdus"]) > 5, "{state}");
    assert_eq!(count(&state["pdus"]), count(&ids["pdu_ids"]));
    assert_eq!(count(&state["auth_chain"]), count(&ids["auth_chain_ids"]));
    let auth = other.get(ONE, &format!("{f}/event_auth/{room}/{id}")).await;
    assert!(count(&auth["auth_chain"]) >= 2, "{auth}");
    let back = other
        .get(ONE, &format!("{f}/backfill/{room}?v={id}&limit=3"))
        .await;
    assert_eq!(count(&back["pdus"]), 3);
    assert_eq!(back["pdus"][0]["content"]["body"], "hello");
    let body = json!({ "earliest_events": [], "latest_events": [said], "limit": 2 });
    let path = format!("{f}/get_missing_events/{room}");
    let (status, missing) = other
        .ask(ONE, Method::POST, &path, Some(&body.to_string()))
        .await;
    assert_eq!((status, count(&missing["events"])), (200, 2), "{missing}");
    let closest = other
        .get(ONE, &format!("{f}/timestamp_to_event/{room}?ts=0&dir=f"))
        .await;
    assert!(closest["event_id"].is_string(), "{closest}");
    // Who has nobody in the room reads nothing.
    let third = Stranger::new(other.network(), "third.example");
    for path in [
        format!("{f}/state/{room}?event_id={id}"),
        format!("{f}/state_ids/{room}?event_id={id}"),
        format!("{f}/backfill/{room}?v={id}&limit=3"),
        format!("{f}/event_auth/{room}/{id}"),
    ] {
        let (status, answer) = third.ask(ONE, Method::GET, &path, None).await;
        assert!([403, 404].contains(&status), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aliases_and_public_rooms_are_told() {
    let scene = scene().await;
    let f = "/_matrix/federation/v1";
    let path = format!("{f}/query/directory?room_alias=%23open%3Aone.example");
    let found = scene.other.get(ONE, &path).await;
    assert_eq!(found, json!({ "room_id": scene.room, "servers": [ONE] }));
    let rooms = scene
        .other
        .get(ONE, &format!("{f}/publicRooms?limit=10"))
        .await;
    assert_eq!(rooms["chunk"][0]["room_id"], scene.room);
    let body = json!({ "filter": { "generic_search_term": "nothing like it" } });
    let path = format!("{f}/publicRooms");
    let (_, none) = scene
        .other
        .ask(ONE, Method::POST, &path, Some(&body.to_string()))
        .await;
    assert_eq!(none["chunk"], json!([]));
    let path = format!("{f}/hierarchy/{}", escape(&scene.room));
    let space = scene.other.get(ONE, &path).await;
    assert_eq!(space["room"]["room_id"], scene.room);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_from_elsewhere_is_signed_and_shown() {
    let scene = scene().await;
    let other = &scene.other;
    let bob = other.user("bob");
    let room_id = "!theirs:other.example";
    let draft = |kind: &str, key: &str, content: Value| Draft {
        room_id: Some(room_id.to_owned()),
        sender: bob.clone(),
        event_type: kind.to_owned(),
        state_key: Some(key.to_owned()),
        content: Object::from_json(&content, Mode::Strict).unwrap(),
        redacts: None,
        sticky_ms: None,
    };
    let version = RoomVersion::V11;
    let content = json!({ "room_version": "11" });
    let create = other.build(version, draft("m.room.create", "", content), &[], &[]);
    let after = [EventRef::of(&create)];
    let content = json!({ "membership": "invite" });
    let invite = draft("m.room.member", &scene.alice.user_id, content);
    let invite = other.build(version, invite, &after, &after);
    let body = format!(
        "{{\"room_version\":\"11\",\"event\":{},\"invite_room_state\":[{}]}}",
        invite.json(),
        create.json()
    );
    let (room, id) = (escape(room_id), escape(invite.event_id()));
    let path = format!("/_matrix/federation/v2/invite/{room}/{id}");
    let (status, answer) = other.ask(ONE, Method::PUT, &path, Some(&body)).await;
    assert_eq!(status, 200, "{answer}");
    let signatures = &answer["event"]["signatures"];
    assert!(signatures[ONE].is_object() && signatures["other.example"].is_object());
    let sync = scene.one.sync(&scene.alice, None).await;
    assert!(sync["rooms"]["invite"][room_id].is_object(), "{sync}");
    // Under another name, or of a version that nobody knows, it is refused.
    let elsewhere = path.replace(&id, "%24other");
    let (status, _) = other.ask(ONE, Method::PUT, &elsewhere, Some(&body)).await;
    assert_eq!(status, 400);
    let unknown = body.replacen("\"11\"", "\"99\"", 1);
    let (status, answer) = other.ask(ONE, Method::PUT, &path, Some(&unknown)).await;
    let said = (status, &answer["errcode"]);
    assert_eq!(said, (400, &json!("M_INCOMPATIBLE_ROOM_VERSION")));
}

/// What nests too deep to be an event spoils neither the signature of the request nor what comes
/// with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pdu_that_nests_too_deep_spoils_no_other() {
    let scene = scene().await;
    let other = &scene.other;
    let bob = other.user("bob");
    let mut entered = other.join(ONE, &scene.room, &bob).await;
    let bad = json!({ "msgtype": "m.text", "body": "bad" });
    let bad = other.event(&entered, &bob, ("m.room.message", None), &bad);
    let good = other.message(&mut entered, &bob, "good");
    for (txn, depth) in [("1", 98), ("2", 101), ("3", 5_000), ("4", 32_000)] {
        let nest = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let deep = bad.json().replace("\"bad\"", &nest);
        let (status, answer) = other.send(ONE, txn, &[&deep, good.json()], &[]).await;
        assert_eq!(status, 200, "{depth}: {answer}");
        assert_eq!(
            answer["pdus"][good.event_id()],
            json!({}),
            "{depth}: {answer}"
        );
    }
    until("what is good is there", async || {
        let said = texts(&scene.one, &scene.alice, &scene.room).await;
        said.contains(&"good".to_owned())
    })
    .await;
    // Deeper than any event could be: it is said so.
    let nest = format!("{}{}", "[".repeat(40_000), "]".repeat(40_000));
    let (status, answer) = other.send(ONE, "5", &[&nest], &[]).await;
    assert_eq!((status, &answer["errcode"]), (400, &json!("M_BAD_JSON")));
}
