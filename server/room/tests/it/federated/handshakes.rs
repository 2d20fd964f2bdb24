//! Templates for other servers, and events made from theirs.

use serde_json::json;
use skerry_core::canonical::Object;
use skerry_core::verify::{Verified, verify_event};
use skerry_core::{Membership, RoomVersion};
use skerry_room::{CreateRoom, ForeignTemplate, Move, RoomError, Template, Wanted};

use crate::house::{House, def, refusal};

fn versions(of: &[&str]) -> Vec<String> {
    of.iter().map(|&one| one.to_owned()).collect()
}

async fn template(
    house: &House,
    room: &str,
    user_id: &str,
    to: Membership,
) -> Result<Template, RoomError> {
    let all: Vec<String> = RoomVersion::all()
        .map(|version| version.to_string())
        .collect();
    house
        .rooms
        .template("b.test", room, user_id, to, &all)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_completed_by_the_other_server_alone() {
    let (a, b) = (House::of("a.test"), House::of("b.test"));
    let (ada, bob) = (a.person("ada"), b.person("bob"));
    for version in RoomVersion::all() {
        let request = CreateRoom {
            version: Some(version.to_string()),
            preset: Some(skerry_room::Preset::PublicChat),
            ..def()
        };
        let room = a.rooms.create(ada.clone(), request).await.unwrap();
        let mut given = template(&a, &room, &bob.user_id, Membership::Join)
            .await
            .unwrap();
        assert_eq!(given.version, version);
        for field in ["signatures", "hashes", "event_id", "unsigned"] {
            assert!(given.event.get(field).is_none(), "{version} {field}");
        }
        // Whatever else the other server puts in, none of it is signed.
        given.event.insert("evil", "m.room.power_levels");
        given.event.insert("origin_server_ts", 1);
        let wanted = Wanted {
            room_id: &room,
            user_id: &bob.user_id,
            to: Membership::Join,
        };
        let foreign = ForeignTemplate::read(wanted, version, &given.event).unwrap();
        let how = Move {
            reason: Some("hello".into()),
            content: Some(
                br#"{"membership":"ban","join_authorised_via_users_server":"@x:y"}"#.to_vec(),
            ),
        };
        let event = b.rooms.own_member(bob.clone(), foreign, how).await.unwrap();
        let object: Object = event.object().unwrap();
        assert!(object.get("evil").is_none());
        let content = object.object("content").unwrap();
        assert_eq!(content.str("membership"), Some("join"));
        assert_eq!(content.str("reason"), Some("hello"));
        assert_eq!(content.str("join_authorised_via_users_server"), None);
        let key = skerry_core::fixtures::signing_key("b.test").public_key();
        let genuine = verify_event(&object, version, &|server, _| {
            (server == "b.test").then_some(key)
        });
        assert_eq!(genuine, Ok(Verified::All), "{version}");
        let snap = a.snap();
        let last = a.rooms.head(&snap, a.nid(&room)).unwrap().unwrap();
        assert_eq!(event.depth(), last.depth + 1, "{version}");
        assert_eq!(event.prev_events().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_are_for_those_who_may() {
    let a = House::of("a.test");
    let ada = a.person("ada");
    let room = a.public_room(&ada).await;
    let ask = |origin: &'static str, user_id: &'static str, known: Vec<String>| {
        let (a, room) = (&a, &room);
        async move {
            let asked = a
                .rooms
                .template(origin, room, user_id, Membership::Join, &known);
            asked.await
        }
    };
    ask("b.test", "@bob:b.test", versions(&["11", "12"]))
        .await
        .unwrap();
    for (origin, user_id, known, expected) in [
        ("c.test", "@bob:b.test", "12", "Forbidden"),
        ("b.test", "bob", "12", "InvalidParam"),
        ("b.test", "@bob:b.test", "11", "IncompatibleVersion"),
    ] {
        let answer = ask(origin, user_id, versions(&[known])).await;
        assert_eq!(refusal(answer), expected, "{origin} {user_id} {known}");
    }
    let nowhere = template(&a, "!none:a.test", "@bob:b.test", Membership::Join).await;
    assert_eq!(refusal(nowhere), "NotFound");
    // Who is not in it has nothing to leave; and nobody knocks on an open door.
    for to in [Membership::Leave, Membership::Knock] {
        let answer = template(&a, &room, "@bob:b.test", to).await;
        assert_eq!(refusal(answer), "Forbidden", "{to}");
    }
    let acl = json!({ "allow": ["*"], "deny": ["*.test"] });
    a.set(&ada, &room, "m.room.server_acl", "", acl)
        .await
        .unwrap();
    let kept_out = template(&a, &room, "@bob:b.test", Membership::Join).await;
    assert_eq!(refusal(kept_out), "Forbidden");
    // Nobody is left who could let anybody in.
    let other = a.public_room(&ada).await;
    a.leave(&ada, &other).await.unwrap();
    let empty = template(&a, &other, "@bob:b.test", Membership::Join).await;
    assert_eq!(refusal(empty), "NotFound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_room_has_templates_for_knocks_and_leaves() {
    let a = House::of("a.test");
    let ada = a.person("ada");
    let room = a.rooms.create(ada.clone(), def()).await.unwrap();
    let closed = template(&a, &room, "@bob:b.test", Membership::Join).await;
    assert_eq!(refusal(closed), "Forbidden");
    let rule = json!({ "join_rule": "knock" });
    a.set(&ada, &room, "m.room.join_rules", "", rule)
        .await
        .unwrap();
    let knock = template(&a, &room, "@bob:b.test", Membership::Knock)
        .await
        .unwrap();
    assert_eq!(
        knock.event.object("content").unwrap().str("membership"),
        Some("knock")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn restricted_joins_are_vouched_for_or_sent_elsewhere() {
    let a = House::of("a.test");
    let ada = a.person("ada");
    let space = a.public_room(&ada).await;
    let room = a.rooms.create(ada.clone(), def()).await.unwrap();
    let restrict = |rooms: Vec<&str>| {
        let allow: Vec<_> = rooms
            .iter()
            .map(|id| json!({ "type": "m.room_membership", "room_id": id }))
            .collect();
        json!({ "join_rule": "restricted", "allow": allow })
    };
    let ask = || template(&a, &room, "@bob:b.test", Membership::Join);
    // Somebody else may know who is in the room that is not known here.
    let rule = restrict(vec![&space, "!elsewhere:c.test"]);
    a.set(&ada, &room, "m.room.join_rules", "", rule)
        .await
        .unwrap();
    assert_eq!(refusal(ask().await), "UnableToAuthoriseJoin");
    let rule = restrict(vec![&space]);
    a.set(&ada, &room, "m.room.join_rules", "", rule)
        .await
        .unwrap();
    assert_eq!(refusal(ask().await), "Forbidden");
}
