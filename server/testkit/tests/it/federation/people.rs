//! Devices and keys across servers, for users who share no room yet; what lives for a moment, for
//! those who do.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use skerry_testkit::{Faults, Network, Person, TestServer};

use super::pair::join;
use super::{escape, texts, until};

const V3: &str = "/_matrix/client/v3";

async fn post(server: &TestServer, who: &Person, path: &str, body: Value) -> Value {
    let path = format!("{V3}{path}");
    let token = Some(who.token.as_str());
    server.ok(Method::POST, &path, token, Some(body)).await
}

fn identity(who: &Person) -> Value {
    json!({
        "user_id": who.user_id,
        "device_id": who.device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": {
            format!("curve25519:{}", who.device): "3C5BFWi2Y8MaVvjM8M22DBmh24PmgR0nPvJOIArzgyI",
        },
        "signatures": {},
    })
}

/// Messages that have come for a device.
async fn messages(server: &TestServer, who: &Person) -> Vec<Value> {
    let answer = server.sync(who, None).await;
    let events = answer["to_device"]["events"].as_array();
    events.cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_asked_for_and_claimed_across_servers() {
    let network = Network::new(1);
    let one = network.server("one.example", "");
    let two = network.server("two.example", "");
    let (ada, grace) = (one.person("ada").await, two.person("grace").await);
    let keys = json!({
        "device_keys": identity(&grace),
        "one_time_keys": { "signed_curve25519:k1": { "key": "first" } },
    });
    post(&two, &grace, "/keys/upload", keys).await;

    let query = json!({ "device_keys": { &grace.user_id: [], "@no:gone.example": [] } });
    let found = post(&one, &ada, "/keys/query", query.clone()).await;
    let mut expected = identity(&grace);
    expected["unsigned"] = json!({});
    let seen = &found["device_keys"][&grace.user_id][&grace.device];
    assert_eq!(seen, &expected, "without the device's name");
    let failed: Vec<_> = found["failures"].as_object().unwrap().keys().collect();
    assert_eq!(failed, ["gone.example"]);

    let claim = json!({ "one_time_keys": {
        &grace.user_id: { &grace.device: "signed_curve25519" },
    } });
    let claimed = post(&one, &ada, "/keys/claim", claim.clone()).await;
    let keys = &claimed["one_time_keys"][&grace.user_id][&grace.device];
    assert_eq!(keys, &json!({ "signed_curve25519:k1": { "key": "first" } }));
    let claimed = post(&one, &ada, "/keys/claim", claim.clone()).await;
    assert_eq!(claimed["one_time_keys"], json!({}), "it is gone");

    network.part(&[&["one.example"], &["two.example"]]);
    let claimed = post(&one, &ada, "/keys/claim", claim).await;
    assert!(claimed["failures"]["two.example"].is_object(), "{claimed}");
    let found = post(&one, &ada, "/keys/query", query).await;
    assert!(found["failures"]["two.example"].is_object(), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_to_devices_arrive_once_though_the_network_repeats_itself() {
    let network = Network::new(1);
    let one = network.server("one.example", "");
    let two = network.server("two.example", "");
    let (ada, grace) = (one.person("ada").await, two.person("grace").await);
    network.set_faults(Faults {
        twice: 100,
        ..Faults::default()
    });
    let mut sent = Vec::new();
    for n in 0..5 {
        let body = json!({ "messages": { &grace.user_id: { &grace.device: { "n": n } } } });
        let path = format!("{V3}/sendToDevice/m.secret/t{n}");
        for _ in 0..2 {
            let token = Some(ada.token.as_str());
            one.ok(Method::PUT, &path, token, Some(body.clone())).await;
        }
        sent.push(json!({ "content": { "n": n }, "sender": ada.user_id, "type": "m.secret" }));
    }
    let mut come = Vec::new();
    for _ in 0..400 {
        come = messages(&two, &grace).await;
        if come.len() >= sent.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(come, sent, "each once and in order");
    // Also when both servers were started anew: what was acknowledged does not come again.
    let (one, two) = (one.restart().await, two.restart().await);
    let path = format!("{V3}/sendToDevice/m.secret/last");
    let body = json!({ "messages": { &grace.user_id: { "*": { "n": 9 } } } });
    let token = Some(ada.token.as_str());
    one.ok(Method::PUT, &path, token, Some(body)).await;
    for _ in 0..400 {
        come = messages(&two, &grace).await;
        if come.len() > sent.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(come.len(), sent.len() + 1);
    assert_eq!(come.last().unwrap()["content"], json!({ "n": 9 }));
}

async fn put(server: &TestServer, who: &Person, path: &str, body: Value) {
    let path = format!("{V3}{path}");
    let token = Some(who.token.as_str());
    server.ok(Method::PUT, &path, token, Some(body)).await;
}

/// What `who` sees of how present somebody is.
async fn presence(server: &TestServer, who: &Person, of: &Person) -> Value {
    let sync = server.sync(who, None).await;
    let events = sync["presence"]["events"].as_array();
    let mut events = events.into_iter().flatten();
    let found = events.find(|event| event["sender"] == *of.user_id);
    found.map_or(Value::Null, |event| event["content"].clone())
}

/// Also when what is quick to find out is found out quickly: nothing has happened for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shares_a_room_sees_presence_typing_and_receipts() {
    let network = Network::new(1);
    let one = network.server("one.example", "");
    let two = network.server("two.example", "");
    let (ada, grace) = (one.person("ada").await, two.person("grace").await);
    let eve = two.person("eve").await;
    let room = one.room(&ada, json!({ "preset": "public_chat" })).await;
    join(&two, &grace, &room, "one.example").await;
    for (here, teller, there, listener) in [(&one, &ada, &two, &grace), (&two, &grace, &one, &ada)]
    {
        let words = format!("at sea {}", teller.user_id);
        let path = format!("/presence/{}/status", escape(&teller.user_id));
        let body = json!({ "presence": "online", "status_msg": words });
        put(here, teller, &path, body).await;
        until("the presence arrives", async || {
            // One user is told of every ten seconds, and this one has been seen before.
            here.clock.advance(1_000);
            presence(there, listener, teller).await["status_msg"] == words
        })
        .await;
        let path = format!("{V3}{path}");
        let asked = there.req(Method::GET, &path, Some(&listener.token), None);
        let (status, answer) = asked.await;
        assert_eq!((status, &answer["status_msg"]), (200, &json!(words)));

        let typing = format!(
            "/rooms/{}/typing/{}",
            escape(&room),
            escape(&teller.user_id)
        );
        put(
            here,
            teller,
            &typing,
            json!({ "typing": true, "timeout": 30_000 }),
        )
        .await;
        let ephemeral = async || {
            let sync = there.sync(listener, None).await;
            let events = &sync["rooms"]["join"][&room]["ephemeral"]["events"];
            events.as_array().cloned().unwrap_or_default()
        };
        until("the typing arrives", async || {
            let types = |event: &Value| {
                let users = event["content"]["user_ids"].as_array();
                users.is_some_and(|users| users.contains(&json!(teller.user_id)))
            };
            ephemeral().await.iter().any(types)
        })
        .await;
        let said = there.say(listener, &room, "read this").await;
        until("the message arrives", async || {
            let all = texts(here, teller, &room).await;
            all.iter().any(|text| text == "read this")
        })
        .await;
        let path = format!("/rooms/{}/receipt/m.read/{}", escape(&room), escape(&said));
        post(here, teller, &path, json!({})).await;
        until("the receipt arrives", async || {
            let read =
                |event: &Value| event["content"][&said]["m.read"][&teller.user_id].is_object();
            ephemeral().await.iter().any(read)
        })
        .await;
    }
    // Who shares no room is told nothing.
    assert_eq!(presence(&two, &eve, &ada).await, Value::Null);
    let path = format!("{V3}/presence/{}/status", escape(&ada.user_id));
    let asked = two.req(Method::GET, &path, Some(&eve.token), None);
    assert_eq!(asked.await.0, 403);
}
