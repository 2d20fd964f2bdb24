//! Children of events: aggregations, the relations endpoint, threads.

use serde_json::{Value, json as j};
use skerry_room::{Cut, EventFilter, MessagesAsk, RelationsAsk, RoomError, ThreadsAsk, Who};

use crate::readers::{House, field, json, viewer};

async fn relate(house: &House, who: &Who, room: &str, rel_type: &str, parent: &str) -> String {
    let content = j!({
        "msgtype": "m.text",
        "body": rel_type,
        "m.new_content": { "msgtype": "m.text", "body": "new" },
        "m.relates_to": { "rel_type": rel_type, "event_id": parent },
    });
    house.send(who, room, "m.room.message", &content).await
}

async fn react(house: &House, who: &Who, room: &str, parent: &str, key: &str) -> String {
    let relates = j!({ "rel_type": "m.annotation", "event_id": parent, "key": key });
    house
        .send(who, room, "m.reaction", &j!({ "m.relates_to": relates }))
        .await
}

fn event(house: &House, who: &Who, room: &str, id: &str) -> Value {
    json(
        &house
            .rooms
            .event_json(&house.snap(), &viewer(who), room, id)
            .unwrap(),
    )
}

fn latest_of(bundle: &Value) -> String {
    bundle["m.thread"]["latest_event"]["event_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn of(parent: &str) -> RelationsAsk {
    RelationsAsk {
        event_id: parent.to_owned(),
        rel_type: None,
        event_type: None,
        from: None,
        to: None,
        back: true,
        limit: 50,
        recurse: false,
    }
}

fn relations(house: &House, who: &Who, room: &str, ask: &RelationsAsk) -> Value {
    json(
        &house
            .rooms
            .relations_json(&house.snap(), &viewer(who), room, ask)
            .unwrap(),
    )
}

#[tokio::test]
async fn edits_count_only_by_the_sender_and_the_latest_wins() {
    let house = House::new();
    let [alice, bob] = ["alice", "bob"].map(|name| house.person(name));
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let root = house.say(&alice, &room, "old").await;
    assert!(
        event(&house, &bob, &room, &root)["unsigned"]
            .get("m.relations")
            .is_none()
    );
    relate(&house, &bob, &room, "m.replace", &root).await;
    assert!(
        event(&house, &bob, &room, &root)["unsigned"]
            .get("m.relations")
            .is_none()
    );
    let first = relate(&house, &alice, &room, "m.replace", &root).await;
    let second = relate(&house, &alice, &room, "m.replace", &root).await;
    let shown = event(&house, &bob, &room, &root);
    assert_eq!(shown["content"]["body"], "old");
    assert_eq!(
        shown["unsigned"]["m.relations"]["m.replace"]["event_id"],
        second
    );
    house.redact(&alice, &room, &second).await;
    let shown = event(&house, &bob, &room, &root);
    assert_eq!(
        shown["unsigned"]["m.relations"]["m.replace"]["event_id"],
        first
    );
    house.redact(&alice, &room, &root).await;
    let shown = event(&house, &bob, &room, &root);
    assert!(shown["unsigned"].get("m.relations").is_none(), "{shown}");
}

#[tokio::test]
async fn threads_are_summed_up_for_each_reader() {
    let house = House::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| house.person(name));
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    house.join(&carol, &room).await;
    let root = house.say(&alice, &room, "root").await;
    let other = house.say(&bob, &room, "other root").await;
    relate(&house, &bob, &room, "m.thread", &root).await;
    let latest = relate(&house, &bob, &room, "m.thread", &root).await;
    let edit = relate(&house, &bob, &room, "m.replace", &latest).await;
    let refers = relate(&house, &bob, &room, "m.reference", &root).await;
    let in_other = relate(&house, &carol, &room, "m.thread", &other).await;
    let bundle = |who: &Who| event(&house, who, &room, &root)["unsigned"]["m.relations"].clone();
    let shown = bundle(&carol);
    assert_eq!(shown["m.thread"]["count"], 2);
    assert_eq!(shown["m.thread"]["latest_event"]["event_id"], latest);
    let of_latest = &shown["m.thread"]["latest_event"]["unsigned"]["m.relations"];
    assert_eq!(of_latest["m.replace"]["event_id"], edit);
    assert_eq!(
        shown["m.reference"],
        j!({ "chunk": [{ "event_id": refers }] })
    );
    assert_eq!(shown["m.thread"]["current_user_participated"], false);
    assert_eq!(bundle(&bob)["m.thread"]["current_user_participated"], true);
    assert_eq!(
        bundle(&alice)["m.thread"]["current_user_participated"],
        true
    );

    let list = |who: &Who, ask: ThreadsAsk| {
        json(
            &house
                .rooms
                .threads_json(&house.snap(), &viewer(who), &room, &ask)
                .unwrap(),
        )
    };
    let all = ThreadsAsk {
        participated: false,
        from: None,
        limit: 10,
    };
    assert_eq!(
        field(&list(&carol, all)["chunk"], "/event_id"),
        [&other, &root]
    );
    let own = ThreadsAsk {
        participated: true,
        ..all
    };
    assert_eq!(field(&list(&carol, own)["chunk"], "/event_id"), [&other]);
    assert_eq!(field(&list(&alice, own)["chunk"], "/event_id"), [&root]);
    let first = list(&carol, ThreadsAsk { limit: 1, ..all });
    assert_eq!(field(&first["chunk"], "/event_id"), [&other]);
    let from = Cut::parse(first["next_batch"].as_str().unwrap());
    let second = list(&carol, ThreadsAsk { from, ..all });
    assert_eq!(field(&second["chunk"], "/event_id"), [&root]);
    assert!(second.get("next_batch").is_none());
    house.redact(&carol, &room, &in_other).await;
    assert_eq!(field(&list(&carol, all)["chunk"], "/event_id"), [&root]);

    let counted = |who: &Who| bundle(who)["m.thread"]["count"].clone();
    let by_carol = relate(&house, &carol, &room, "m.thread", &root).await;
    assert_eq!((counted(&bob), counted(&carol)), (j!(3), j!(3)));
    house.redact(&carol, &room, &latest_of(&bundle(&bob))).await;
    assert_eq!(counted(&carol), 2);
    let again = relate(&house, &carol, &room, "m.thread", &root).await;
    assert_eq!(counted(&carol), 3);
    assert_eq!(latest_of(&bundle(&carol)), again);
    assert_ne!(again, by_carol);

    let ignored = j!({ "ignored_users": { &*bob.user_id: {} } });
    let kind = "m.ignored_user_list";
    house
        .accounts
        .set_account_data(alice.user, None, kind, ignored)
        .await
        .unwrap();
    assert_eq!(counted(&alice), 1);
    house.redact(&carol, &room, &again).await;
    assert!(bundle(&alice).get("m.thread").is_none());
}

#[tokio::test]
async fn relations_by_type_in_pages_and_recursive() {
    let house = House::new();
    let [alice, bob] = ["alice", "bob"].map(|name| house.person(name));
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let root = house.say(&alice, &room, "root").await;
    let mut children = Vec::new();
    for n in 0..10 {
        children.push(if n % 2 == 0 {
            relate(&house, &bob, &room, "m.thread", &root).await
        } else {
            react(&house, &bob, &room, &root, &format!("{n}")).await
        });
    }
    let odd = relate(&house, &bob, &room, "org.example.odd", &root).await;
    let grandchild = react(&house, &alice, &room, &children[0], "x").await;
    let newest_first: Vec<&String> = [&odd].into_iter().chain(children.iter().rev()).collect();
    let found = relations(&house, &alice, &room, &of(&root));
    assert_eq!(field(&found["chunk"], "/event_id"), newest_first);
    assert!(found.get("next_batch").is_none() && found.get("prev_batch").is_none());
    let typed = RelationsAsk {
        rel_type: Some("m.thread".to_owned()),
        ..of(&root)
    };
    let found = relations(&house, &alice, &room, &typed);
    assert_eq!(found["chunk"].as_array().unwrap().len(), 5);
    let none = RelationsAsk {
        event_type: Some("m.reaction".to_owned()),
        ..typed
    };
    assert_eq!(relations(&house, &alice, &room, &none)["chunk"], j!([]));
    let typed = RelationsAsk {
        rel_type: Some("org.example.odd".to_owned()),
        ..of(&root)
    };
    let found = relations(&house, &alice, &room, &typed);
    assert_eq!(field(&found["chunk"], "/event_id"), [&odd]);
    let typed = RelationsAsk {
        rel_type: Some("org.example.other".to_owned()),
        ..of(&root)
    };
    assert_eq!(relations(&house, &alice, &room, &typed)["chunk"], j!([]));

    for back in [true, false] {
        let (mut seen, mut from) = (Vec::new(), None);
        loop {
            let page = RelationsAsk {
                from,
                back,
                limit: 3,
                ..of(&root)
            };
            let page = relations(&house, &alice, &room, &page);
            assert_eq!(page.get("prev_batch").is_some(), from.is_some());
            let ids = field(&page["chunk"], "/event_id");
            seen.extend(ids.into_iter().map(str::to_owned));
            match page["next_batch"].as_str() {
                Some(next) => from = Cut::parse(next),
                None => break,
            }
        }
        if !back {
            seen.reverse();
        }
        assert_eq!(seen.iter().collect::<Vec<_>>(), newest_first);
    }
    let deep = relations(
        &house,
        &alice,
        &room,
        &RelationsAsk {
            recurse: true,
            ..of(&root)
        },
    );
    assert_eq!(deep["recursion_depth"], 3);
    assert_eq!(deep["chunk"][0]["event_id"], grandchild);
    assert_eq!(deep["chunk"].as_array().unwrap().len(), 12);
    let missing =
        house
            .rooms
            .relations_json(&house.snap(), &viewer(&alice), &room, &of("$missing"));
    assert!(matches!(missing, Err(RoomError::NotFound(_))));
}

#[tokio::test]
async fn a_filter_by_relation() {
    let house = House::new();
    let [alice, bob] = ["alice", "bob"].map(|name| house.person(name));
    let room = house.room(&alice).await;
    house.join(&bob, &room).await;
    let threaded = house.say(&alice, &room, "threaded").await;
    let liked = house.say(&alice, &room, "liked").await;
    relate(&house, &bob, &room, "m.thread", &threaded).await;
    react(&house, &alice, &room, &liked, "x").await;
    let found = |filter: &str| {
        let filter = EventFilter::parse(filter).unwrap();
        let ask = MessagesAsk {
            from: None,
            to: None,
            back: true,
            limit: 50,
            filter,
        };
        let page = house
            .rooms
            .messages_json(&house.snap(), &viewer(&alice), &room, &ask);
        let page = json(&page.unwrap().json);
        field(&page["chunk"], "/event_id")
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        found(r#"{"related_by_rel_types":["m.thread"]}"#),
        [&*threaded]
    );
    assert_eq!(
        found(r#"{"related_by_senders":["@alice:test.example"]}"#),
        [&*liked]
    );
    assert_eq!(
        found(r#"{"related_by_rel_types":["m.thread","m.annotation"]}"#),
        [liked, threaded]
    );
    let both = r#"{"related_by_senders":["@alice:test.example"],
        "related_by_rel_types":["m.thread"]}"#;
    assert!(found(both).is_empty());
}
