//! Two and three servers with a network between them: people join, talk, leave, are kicked; a
//! server is down for a while; the network parts and heals.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Faults, Network, Person, TestServer};

use super::{escape, texts, until};

const ONE: &str = "one.example";
const TWO: &str = "two.example";
const THREE: &str = "three.example";

/// Joins a room of another server.
pub(super) async fn join(server: &TestServer, who: &Person, room: &str, via: &str) {
    let path = format!("/_matrix/client/v3/join/{}?via={via}", escape(room));
    server
        .ok(Method::POST, &path, Some(&who.token), Some(json!({})))
        .await;
}

async fn public_room(server: &TestServer, who: &Person) -> String {
    server.room(who, json!({ "preset": "public_chat" })).await
}

/// Which membership somebody has, as a member sees it.
async fn membership(server: &TestServer, who: &Person, room: &str, of: &str) -> Value {
    let path = format!(
        "/_matrix/client/v3/rooms/{}/state/m.room.member/{}",
        escape(room),
        escape(of)
    );
    let (_, answer) = server.req(Method::GET, &path, Some(&who.token), None).await;
    answer["membership"].clone()
}

async fn has(server: &TestServer, who: &Person, room: &str, text: &str) -> bool {
    texts(server, who, room).await.iter().any(|one| one == text)
}

/// The state of a room as event ids, to compare two servers.
async fn state(server: &TestServer, who: &Person, room: &str) -> Vec<String> {
    let path = format!("/_matrix/client/v3/rooms/{}/state", escape(room));
    let (_, state) = server.req(Method::GET, &path, Some(&who.token), None).await;
    let ids = state.as_array().into_iter().flatten();
    let mut ids: Vec<String> = ids.map(|event| event["event_id"].to_string()).collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_of_two_servers_talk_both_ways() {
    let network = Network::new(1);
    let (one, two) = (network.server(ONE, ""), network.server(TWO, ""));
    let (alice, bob) = (one.person("alice").await, two.person("bob").await);
    let room = public_room(&one, &alice).await;
    one.say(&alice, &room, "before").await;
    join(&two, &bob, &room, ONE).await;
    assert_eq!(membership(&one, &alice, &room, &bob.user_id).await, "join");
    one.say(&alice, &room, "hello bob").await;
    until("bob hears", async || {
        has(&two, &bob, &room, "hello bob").await
    })
    .await;
    two.say(&bob, &room, "hello alice").await;
    until("alice hears", async || {
        has(&one, &alice, &room, "hello alice").await
    })
    .await;
    assert_eq!(
        state(&one, &alice, &room).await,
        state(&two, &bob, &room).await
    );
    // What was said before bob came is fetched when he pages back to it.
    until("bob reads what was before", async || {
        has(&two, &bob, &room, "before").await
    })
    .await;
    // A restart in between changes nothing.
    let two = two.restart().await;
    one.say(&alice, &room, "again").await;
    until("bob hears again", async || {
        has(&two, &bob, &room, "again").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_or_is_kicked_is_out_on_both_sides() {
    let network = Network::new(2);
    let (one, two) = (network.server(ONE, ""), network.server(TWO, ""));
    let alice = one.person("alice").await;
    let (bob, carol) = (two.person("bob").await, two.person("carol").await);
    let room = public_room(&one, &alice).await;
    join(&two, &bob, &room, ONE).await;
    join(&two, &carol, &room, ONE).await;
    let path = format!("/_matrix/client/v3/rooms/{}/leave", escape(&room));
    two.ok(Method::POST, &path, Some(&bob.token), Some(json!({})))
        .await;
    until("bob is gone", async || {
        membership(&one, &alice, &room, &bob.user_id).await == "leave"
    })
    .await;
    let path = format!("/_matrix/client/v3/rooms/{}/kick", escape(&room));
    let body = json!({ "user_id": carol.user_id });
    one.ok(Method::POST, &path, Some(&alice.token), Some(body))
        .await;
    until("carol knows", async || {
        let sync = two.sync(&carol, None).await;
        sync["rooms"]["join"][&room].is_null()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_down_catches_up() {
    let network = Network::new(3);
    let (one, two) = (network.server(ONE, ""), network.server(TWO, ""));
    let (alice, bob) = (one.person("alice").await, two.person("bob").await);
    let room = public_room(&one, &alice).await;
    join(&two, &bob, &room, ONE).await;
    let down = two.stop().await;
    for n in 0..5 {
        one.say(&alice, &room, &format!("missed {n}")).await;
    }
    let two = down.start();
    // It speaks, and so is known to be there again.
    two.say(&bob, &room, "i am back").await;
    until("bob has read it all", async || {
        has(&two, &bob, &room, "missed 0").await && has(&two, &bob, &room, "missed 4").await
    })
    .await;
    until("alice hears", async || {
        has(&one, &alice, &room, "i am back").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_partition_all_agree() {
    let network = Network::new(4);
    let (one, two) = (network.server(ONE, ""), network.server(TWO, ""));
    let three = network.server(THREE, "");
    let (alice, bob) = (one.person("alice").await, two.person("bob").await);
    let carol = three.person("carol").await;
    let room = public_room(&one, &alice).await;
    join(&two, &bob, &room, ONE).await;
    join(&three, &carol, &room, ONE).await;
    network.part(&[&[ONE], &[TWO, THREE]]);
    let topic = format!(
        "/_matrix/client/v3/rooms/{}/state/m.room.topic",
        escape(&room)
    );
    let body = json!({ "topic": "from one" });
    one.ok(Method::PUT, &topic, Some(&alice.token), Some(body))
        .await;
    one.say(&alice, &room, "one side").await;
    two.say(&bob, &room, "other side").await;
    three.say(&carol, &room, "third side").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    network.heal();
    // Everybody speaks once more: whoever hears it finds what is missing.
    one.say(&alice, &room, "after one").await;
    two.say(&bob, &room, "after two").await;
    three.say(&carol, &room, "after three").await;
    for (server, who) in [(&one, &alice), (&two, &bob), (&three, &carol)] {
        for text in [
            "one side",
            "other side",
            "third side",
            "after one",
            "after two",
        ] {
            until(text, async || has(server, who, &room, text).await).await;
        }
    }
    until("they agree", async || {
        let first = state(&one, &alice, &room).await;
        first == state(&two, &bob, &room).await && first == state(&three, &carol, &room).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_network_loses_nothing() {
    let network = Network::new(5);
    let (one, two) = (network.server(ONE, ""), network.server(TWO, ""));
    let (alice, bob) = (one.person("alice").await, two.person("bob").await);
    let room = public_room(&one, &alice).await;
    join(&two, &bob, &room, ONE).await;
    network.set_faults(Faults {
        twice: 30,
        delay_ms: 20,
        ..Faults::default()
    });
    for n in 0..10 {
        one.say(&alice, &room, &format!("a{n}")).await;
        two.say(&bob, &room, &format!("b{n}")).await;
    }
    for n in 0..10 {
        until("bob hears", async || {
            has(&two, &bob, &room, &format!("a{n}")).await
        })
        .await;
        until("alice hears", async || {
            has(&one, &alice, &room, &format!("b{n}")).await
        })
        .await;
    }
    network.heal();
    until("they agree", async || {
        state(&one, &alice, &room).await == state(&two, &bob, &room).await
    })
    .await;
}
