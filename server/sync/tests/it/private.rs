//! What concerns one user or one device: account data, messages to devices, keys, device lists,
//! presence, typing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use skerry_account::PresenceState;
use skerry_account::TxnKey;
use skerry_account::e2e::{Messages, Sender};
use skerry_sync::{Delta, Token};

use crate::house::{House, Person, joined};

async fn tell(house: &House, from: &Person, to: &Person, n: usize) {
    let path = "/sendToDevice/m.note";
    let txn = TxnKey::new(from.user, &from.device, "PUT", path, &format!("t{n}")).unwrap();
    let sender = Sender {
        user_id: from.id.clone(),
        user: from.user,
        txn,
    };
    let messages: Messages =
        serde_json::from_value(json!({"messages": {&*to.id: {&*to.device: {"n": n}}}})).unwrap();
    house
        .accounts
        .keys()
        .send_to_device(sender, "m.note", messages)
        .await
        .unwrap();
}

fn numbers(delta: &Delta) -> Vec<u64> {
    let number = |text: &String| {
        let event: Value = serde_json::from_str(text).unwrap();
        event["content"]["n"].as_u64().unwrap()
    };
    delta.to_device.iter().map(number).collect()
}

#[tokio::test]
async fn messages_to_a_device_come_in_order_and_until_acknowledged() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let start = house.sync(&bob, None, "{}").await;
    for n in 0..150 {
        tell(&house, &alice, &bob, n).await;
    }
    for _ in 0..2 {
        let some = house.sync(&bob, Some(start.next), "{}").await;
        assert_eq!(numbers(&some), (0..100).collect::<Vec<_>>());
    }
    let some = house.sync(&bob, Some(start.next), "{}").await;
    // The token says how far the device has read, though it covers everything else.
    let token = Token::parse(&some.next.to_string()).unwrap();
    assert!(token.to_device < token.pos);
    for _ in 0..2 {
        let rest = house.wait(&bob, token).await;
        assert_eq!(numbers(&rest), (100..150).collect::<Vec<_>>());
        assert!(rest.joined.is_empty());
    }
    let rest = house.sync(&bob, Some(token), "{}").await;
    let done = house.sync(&bob, Some(rest.next), "{}").await;
    assert!(done.is_empty());
    // They are gone: also a device that begins anew does not get them again, once that is
    // published.
    let mut again = house.sync(&bob, None, "{}").await.to_device;
    for _ in 0..100 {
        if again.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        again = house.sync(&bob, None, "{}").await.to_device;
    }
    assert!(again.is_empty());
}

fn data_of(delta: &Delta) -> BTreeMap<String, Value> {
    let data = delta.account_data.iter();
    data.map(|d| (d.kind.clone(), serde_json::from_str(&d.content).unwrap()))
        .collect()
}

#[tokio::test]
async fn account_data() {
    let house = House::new();
    let alice = house.person("alice").await;
    let room = house.room(&alice).await;
    let set = |room: Option<String>, kind: &'static str, content: Value| {
        let (accounts, user) = (house.accounts.clone(), alice.user);
        async move {
            accounts
                .set_account_data(user, room.as_deref(), kind, content)
                .await
                .unwrap();
        }
    };
    set(None, "x.global", json!({"a": 1})).await;
    set(Some(room.clone()), "x.room", json!({"b": 1})).await;
    let first = house.sync(&alice, None, "{}").await;
    let data = data_of(&first);
    assert!(data.contains_key("m.push_rules") && data["x.global"] == json!({"a": 1}));
    assert_eq!(joined(&first, &room).account_data[0].kind, "x.room");
    set(None, "x.global", json!({"a": 2})).await;
    let next = house.sync(&alice, Some(first.next), "{}").await;
    assert_eq!(
        data_of(&next),
        BTreeMap::from([("x.global".to_owned(), json!({"a": 2}))])
    );
    assert!(next.joined.is_empty());
    set(Some(room.clone()), "x.room", json!({"b": 2})).await;
    let last = house.sync(&alice, Some(next.next), "{}").await;
    assert!(last.account_data.is_empty());
    assert_eq!(joined(&last, &room).account_data[0].content, r#"{"b":2}"#);
    let none = r#"{"account_data":{"types":[]},"room":{"account_data":{"not_types":["x.*"]}}}"#;
    assert!(house.sync(&alice, Some(first.next), none).await.is_empty());
}

fn names(people: &[&Person]) -> Vec<std::sync::Arc<str>> {
    people.iter().map(|person| person.id.clone()).collect()
}

#[tokio::test]
async fn lists_of_devices() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let carol = house.person("carol").await;
    let room = house.room(&alice).await;
    house
        .set(
            &alice,
            &room,
            "m.room.encryption",
            "",
            json!({"algorithm": "m.megolm.v1.aes-sha2"}),
        )
        .await;
    let start = house.sync(&alice, None, "{}").await;
    assert!(
        start.device_lists.changed.is_empty(),
        "a new client asks for all anyway"
    );
    house.device("carol", "NEW").await;
    let next = house.sync(&alice, Some(start.next), "{}").await;
    assert!(next.is_empty(), "carol shares nothing");
    house.join(&bob, &room).await;
    let met = house.sync(&alice, Some(next.next), "{}").await;
    assert_eq!(met.device_lists.changed, names(&[&bob]));
    house.device("bob", "NEW").await;
    let renewed = house.sync(&alice, Some(met.next), "{}").await;
    assert_eq!(renewed.device_lists.changed, names(&[&bob]));
    assert!(renewed.joined.is_empty());
    // Whoever joins learns of all members.
    let mine = house.sync(&carol, None, "{}").await;
    house.join(&carol, &room).await;
    let entered = house.sync(&carol, Some(mine.next), "{}").await;
    assert_eq!(entered.device_lists.changed, names(&[&alice, &bob]));
    house.leave(&bob, &room).await;
    let gone = house.sync(&alice, Some(renewed.next), "{}").await;
    assert_eq!(gone.device_lists.left, names(&[&bob]));
    let left = house.sync(&carol, Some(entered.next), "{}").await;
    assert_eq!(left.device_lists.left, names(&[&bob]));
    // One's own devices count too.
    house.device("alice", "TABLET").await;
    let own = house.sync(&alice, Some(gone.next), "{}").await;
    assert_eq!(own.device_lists.changed, names(&[&alice]));
}

#[tokio::test]
async fn typing_is_told_and_forgotten_with_the_run_of_the_server() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let start = house.sync(&bob, None, "{}").await;
    let snap = house.store.snapshot();
    house
        .rooms
        .set_typing(&snap, alice.user, &room, Some(30_000))
        .unwrap();
    let next = house.sync(&bob, Some(start.next), "{}").await;
    let typing: Value = serde_json::from_slice(&joined(&next, &room).ephemeral[0]).unwrap();
    assert_eq!(
        typing,
        json!({"type": "m.typing", "content": {"user_ids": [*alice.id]}})
    );
    assert!(house.sync(&bob, Some(next.next), "{}").await.is_empty());
    drop(snap);
    let house = house.restart().await;
    assert!(house.sync(&bob, Some(next.next), "{}").await.is_empty());
    house.say(&alice, &room, "back").await;
    let back = house.sync(&bob, Some(next.next), "{}").await;
    let typing: Value = serde_json::from_slice(&joined(&back, &room).ephemeral[0]).unwrap();
    assert_eq!(typing["content"], json!({"user_ids": []}));
    let later = house.sync(&bob, Some(back.next), "{}").await;
    assert!(later.is_empty());
}

#[tokio::test]
async fn presence_of_those_one_shares_a_room_with() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let stranger = house.person("stranger").await;
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let start = house.sync(&alice, None, "{}").await;
    assert!(start.presence.is_empty());
    for person in [&bob, &stranger] {
        let request = person.request(None, "{}");
        house
            .sync
            .wait(request, PresenceState::Online, Duration::ZERO)
            .await
            .unwrap();
    }
    let next = house.wait(&alice, start.next).await;
    let seen: Vec<_> = next.presence.iter().map(|p| p.user_id.clone()).collect();
    assert_eq!(seen, names(&[&bob]));
    let content: Value = serde_json::from_str(&next.presence[0].content).unwrap();
    assert_eq!(
        (content["presence"].as_str(), &content["currently_active"]),
        (Some("online"), &json!(true))
    );
    assert!(house.sync(&alice, Some(next.next), "{}").await.is_empty());
    // Whoever is met is shown as they are.
    house.join(&stranger, &room).await;
    let met = house.sync(&alice, Some(next.next), "{}").await;
    assert_eq!(met.presence[0].user_id, stranger.id);
    let none = r#"{"presence":{"types":[]}}"#;
    assert!(house.sync(&alice, None, none).await.presence.is_empty());
}

#[tokio::test]
async fn who_left_is_not_told_who_came_later() {
    let house = House::new();
    let (alice, bob) = (house.person("alice").await, house.person("bob").await);
    let carol = house.person("carol").await;
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let start = house.sync(&bob, None, "{}").await;
    house.leave(&bob, &room).await;
    house.join(&carol, &room).await;
    let gone = house.sync(&bob, Some(start.next), "{}").await;
    let left: Vec<&str> = gone.device_lists.left.iter().map(|id| &**id).collect();
    assert_eq!(left, [&*alice.who().user_id]);
}
