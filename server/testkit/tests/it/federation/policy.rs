//! Rooms with a policy server: what is sent and received there has been signed by it.

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Faults, Network, Person, Stranger, TestServer};

use super::{escape, texts, until};

const ONE: &str = "one.example";
const TWO: &str = "two.example";
const DESK: &str = "desk.example";
const RULES: &str = "
    [policy_server]
    rooms = [\"*\"]
    deny_words = [\"spam\"]
    deny_senders = [\"@mallory:*\"]
";

/// Sets who is the policy server of a room; nobody with an empty content.
async fn set_policy(server: &TestServer, who: &Person, room: &str, content: Value) {
    let path = format!(
        "/_matrix/client/v3/rooms/{}/state/m.room.policy/",
        escape(room)
    );
    server
        .ok(Method::PUT, &path, Some(&who.token), Some(content))
        .await;
}

/// What a room says that chooses a server.
async fn choice(desk: &TestServer) -> Value {
    let path = "/.well-known/matrix/policy_server";
    let known = desk.ok(Method::GET, path, None, None).await;
    json!({ "via": desk.name(), "public_keys": known["public_keys"] })
}

async fn join(server: &TestServer, who: &Person, room: &str, via: &str) {
    let path = format!("/_matrix/client/v3/join/{}?via={via}", escape(room));
    server
        .ok(Method::POST, &path, Some(&who.token), Some(json!({})))
        .await;
}

/// Tries to say something: status and answer.
async fn try_to_say(server: &TestServer, who: &Person, room: &str, text: &str) -> (u16, Value) {
    let room = escape(room);
    let path = format!(
        "/_matrix/client/v3/rooms/{room}/send/m.room.message/{}",
        escape(text)
    );
    let body = json!({ "msgtype": "m.text", "body": text });
    server
        .req(Method::PUT, &path, Some(&who.token), Some(body))
        .await
}

/// Whether a server holds an event with the desk's signature.
fn is_signed(server: &TestServer, event_id: &str) -> bool {
    let rooms = &server.house.rooms;
    let snap = rooms.store().snapshot();
    let nid = rooms.store().event_nid(&snap, event_id).unwrap();
    let held = nid.and_then(|nid| rooms.event(&snap, nid).unwrap());
    held.is_some_and(|held| {
        let event = held.event.object().unwrap();
        let signatures = event.object("signatures").unwrap();
        let of_desk = signatures.object(DESK);
        of_desk.is_some_and(|of_desk| of_desk.str("ed25519:policy_server").is_some())
    })
}

struct Scene {
    network: Network,
    one: TestServer,
    two: TestServer,
    desk: TestServer,
    alice: Person,
    bob: Person,
    guard: Person,
    room: String,
}

/// Two servers and a third one that is the policy server of their room.
async fn scene(seed: u64) -> Scene {
    let network = Network::new(seed);
    let (one, two) = (network.server(ONE, ""), network.server(TWO, ""));
    let desk = network.server(DESK, RULES);
    let (alice, bob) = (one.person("alice").await, two.person("bob").await);
    let guard = desk.person("guard").await;
    let room = one.room(&alice, json!({ "preset": "public_chat" })).await;
    join(&two, &bob, &room, ONE).await;
    join(&desk, &guard, &room, ONE).await;
    set_policy(&one, &alice, &room, choice(&desk).await).await;
    // The others have heard of it when what is said after it is there.
    one.say(&alice, &room, "from now on").await;
    for (server, who) in [(&two, &bob), (&desk, &guard)] {
        until("all know", async || {
            texts(server, who, &room)
                .await
                .contains(&"from now on".to_owned())
        })
        .await;
    }
    Scene {
        network,
        one,
        two,
        desk,
        alice,
        bob,
        guard,
        room,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_bears_the_signature_or_is_not_sent() {
    let Scene {
        one,
        two,
        desk,
        alice,
        bob,
        guard,
        room,
        ..
    } = scene(1).await;
    let hello = one.say(&alice, &room, "hello").await;
    assert!(is_signed(&one, &hello));
    for server in [&two, &desk] {
        until("it comes with it", async || is_signed(server, &hello)).await;
    }
    let answer = two.say(&bob, &room, "hello yourself").await;
    until("alice has it", async || is_signed(&one, &answer)).await;
    // The refusal is the policy server's own.
    for (server, who) in [(&one, &alice), (&two, &bob), (&desk, &guard)] {
        let (status, refused) = try_to_say(server, who, &room, "some Spám").await;
        assert_eq!((status, &refused["errcode"]), (400, &json!("M_FORBIDDEN")));
        let why = refused["error"].as_str().unwrap();
        assert!(why.contains("policy of this room"), "{why}");
    }
    // A name of a room is state, and judged like anything else.
    let path = format!(
        "/_matrix/client/v3/rooms/{}/state/m.room.name",
        escape(&room)
    );
    let named = |name: &str| json!({ "name": name });
    let (status, _) = one
        .req(
            Method::PUT,
            &path,
            Some(&alice.token),
            Some(named("spam here")),
        )
        .await;
    assert_eq!(status, 400);
    one.ok(
        Method::PUT,
        &path,
        Some(&alice.token),
        Some(named("our room")),
    )
    .await;
    // Invites of other servers' users go through it too.
    let invite = format!("/_matrix/client/v3/rooms/{}/invite", escape(&room));
    let carol = two.person("carol").await;
    let body = json!({ "user_id": carol.user_id, "reason": "spam for you" });
    let (status, _) = one
        .req(Method::POST, &invite, Some(&alice.token), Some(body))
        .await;
    assert_eq!(status, 400);
    let body = json!({ "user_id": carol.user_id });
    one.ok(Method::POST, &invite, Some(&alice.token), Some(body))
        .await;
    // People who come through us are judged as well.
    let mallory = two.person("mallory").await;
    let path = format!("/_matrix/client/v3/join/{}?via={ONE}", escape(&room));
    let (status, _) = two
        .req(Method::POST, &path, Some(&mallory.token), Some(json!({})))
        .await;
    assert_eq!(status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_speak_at_once_while_the_policy_server_takes_its_time() {
    let scene = scene(7).await;
    let (room, two) = (&scene.room, &scene.two);
    scene.network.set_faults(Faults {
        delay_ms: 40,
        ..Faults::default()
    });
    let texts_of = |name: &str| -> Vec<String> { (0..8).map(|n| format!("{name}{n}")).collect() };
    let says = |server, who, name| {
        let texts = texts_of(name).into_iter();
        let saying = texts.map(|text| async move { try_to_say(server, who, room, &text).await });
        join_all(saying.collect::<Vec<_>>())
    };
    let (ones, twos) = tokio::join!(
        says(&scene.one, &scene.alice, "a"),
        says(two, &scene.bob, "b")
    );
    for (status, answer) in ones.into_iter().chain(twos) {
        assert_eq!(status, 200, "{answer}");
        let sent = answer["event_id"].as_str().unwrap();
        assert!(is_signed(&scene.one, sent) || is_signed(two, sent));
    }
    scene.network.heal();
    for (server, who) in [(&scene.one, &scene.alice), (two, &scene.bob)] {
        until("everything is everywhere", async || {
            let said = texts(server, who, room).await;
            let mut all = texts_of("a").into_iter().chain(texts_of("b"));
            all.all(|text| said.contains(&text))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_without_the_signature_is_asked_for_or_kept_out() {
    let scene = scene(2).await;
    let (one, alice, room) = (&scene.one, &scene.alice, &scene.room);
    let other = Stranger::new(&scene.network, "other.example");
    let eve = other.user("eve");
    // The stranger never asks; whoever receives its events does.
    let mut entered = other.join(ONE, room, &eve).await;
    let fine = other.message(&mut entered, &eve, "fine");
    let spam = other.message(&mut entered, &eve, "spam");
    let behind = other.message(&mut entered, &eve, "behind it");
    let pdus = [fine.json(), spam.json(), behind.json()];
    other.send(ONE, "1", &pdus, &[]).await;
    until("what is fine is there", async || {
        texts(one, alice, room)
            .await
            .contains(&"behind it".to_owned())
    })
    .await;
    let said = texts(one, alice, room).await;
    assert!(said.contains(&"fine".to_owned()));
    assert!(!said.contains(&"spam".to_owned()));
    assert!(is_signed(one, fine.event_id()) && is_signed(one, behind.event_id()));
    assert!(!is_signed(one, spam.event_id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_server_that_is_gone_can_be_done_without() {
    let scene = scene(3).await;
    let (one, alice, room) = (&scene.one, &scene.alice, &scene.room);
    scene.network.part(&[&[ONE, TWO], &[DESK]]);
    let (status, refused) = try_to_say(one, alice, room, "anybody there?").await;
    assert_eq!((status, &refused["errcode"]), (502, &json!("M_UNKNOWN")));
    set_policy(one, alice, room, json!({})).await;
    let event = one.say(alice, room, "without it").await;
    assert!(!is_signed(one, &event));
    let (two, bob) = (&scene.two, &scene.bob);
    until("bob hears", async || {
        texts(two, bob, room)
            .await
            .contains(&"without it".to_owned())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_server_that_left_the_room_is_none() {
    let scene = scene(4).await;
    let (one, alice, room) = (&scene.one, &scene.alice, &scene.room);
    let path = format!("/_matrix/client/v3/rooms/{}/leave", escape(room));
    let token = Some(scene.guard.token.as_str());
    scene
        .desk
        .ok(Method::POST, &path, token, Some(json!({})))
        .await;
    until("alice may say what she likes", async || {
        try_to_say(one, alice, room, "spam").await.0 == 200
    })
    .await;
    let (two, bob) = (&scene.two, &scene.bob);
    until("bob hears it", async || {
        texts(two, bob, room).await.contains(&"spam".to_owned())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_signed_unless_the_operator_says_so() {
    let network = Network::new(5);
    let one = network.server(ONE, "");
    let alice = one.person("alice").await;
    let room = one.room(&alice, json!({ "preset": "public_chat" })).await;
    let path = "/.well-known/matrix/policy_server";
    let (status, answer) = one.req(Method::GET, path, None, None).await;
    assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")));
    let other = Stranger::new(&network, "other.example");
    let eve = other.user("eve");
    let mut entered = other.join(ONE, &room, &eve).await;
    let event = other.message(&mut entered, &eve, "sign this");
    let sign = "/_matrix/policy/v1/sign";
    let asked = other.ask(ONE, Method::POST, sign, Some(event.json()));
    let (status, answer) = asked.await;
    assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")));
    // A room that names us all the same gets nothing said by anybody, as it asked for.
    let key = json!({ "ed25519": "6yhHGKhCiXTSEN2ksjV7kX+N6rBQZ3Xb+M7LlC6NS+s" });
    set_policy(
        &one,
        &alice,
        &room,
        json!({ "via": ONE, "public_keys": key }),
    )
    .await;
    let (status, answer) = try_to_say(&one, &alice, &room, "hello").await;
    assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")));
    assert!(!one.house.config.data_dir.join("policy.key").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_is_told_what_is_wrong() {
    let network = Network::new(6);
    let rules = "
        [policy_server]
        rooms = [\"!elsewhere:one.example\", \"*\"]
        deny_types = [\"m.test\"]
    ";
    let one = network.server(ONE, rules);
    let alice = one.person("alice").await;
    let room = one.room(&alice, json!({ "preset": "public_chat" })).await;
    let other = Stranger::new(&network, "other.example");
    let eve = other.user("eve");
    let mut entered = other.join(ONE, &room, &eve).await;
    let good = other.message(&mut entered, &eve, "good");
    let bad = other.event(&entered, &eve, ("m.test", None), &json!({}));
    let named = other.event(&entered, &eve, ("m.room.policy", Some("")), &json!({}));
    // What it holds is not what its hash says: signed would be something nobody has seen.
    let changed = good.json().replace("good", "evil");
    let unsigned = good.json().replace("\"other.example\":", "\"x.example\":");
    let elsewhere = good.json().replace(&room, "!elsewhere:one.example");
    let sign = "/_matrix/policy/v1/sign";
    for (body, status, code) in [
        (good.json(), 200, None),
        (bad.json(), 400, Some("M_FORBIDDEN")),
        (named.json(), 400, Some("M_FORBIDDEN")),
        (changed.as_str(), 400, Some("M_BAD_JSON")),
        (unsigned.as_str(), 400, Some("M_BAD_JSON")),
        (elsewhere.as_str(), 404, Some("M_NOT_FOUND")),
        ("{}", 400, Some("M_BAD_JSON")),
    ] {
        let answer = other.ask(ONE, Method::POST, sign, Some(body)).await;
        assert_eq!(answer.0, status, "{body}: {}", answer.1);
        match code {
            Some(code) => assert_eq!(answer.1["errcode"], code, "{body}"),
            None => assert!(answer.1[ONE]["ed25519:policy_server"].is_string()),
        }
    }
}
