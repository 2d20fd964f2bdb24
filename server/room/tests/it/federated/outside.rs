//! Memberships of rooms that a server does not hold: invites, declining, what comes back.

use std::sync::Arc;

use serde_json::{Value, json};
use skerry_core::canonical::{Mode, Object};
use skerry_core::{Membership, StoredEvent};
use skerry_room::{DraftedInvite, Move, RoomError, Who};
use skerry_store::Change;

use crate::house::{House, def, refusal};

struct Scene {
    a: House,
    b: House,
    ada: Who,
    bob: Who,
    room: String,
}

impl Scene {
    async fn new() -> Scene {
        let (a, b) = (House::of("a.test"), House::of("b.test"));
        let (ada, bob) = (a.person("ada"), b.resident("bob"));
        let request = skerry_room::CreateRoom {
            name: Some("Attic".into()),
            ..def()
        };
        let room = a.rooms.create(ada.clone(), request).await.unwrap();
        Scene {
            a,
            b,
            ada,
            bob,
            room,
        }
    }

    async fn draft(&self) -> DraftedInvite {
        let (ada, to) = (self.ada.clone(), &self.bob.user_id);
        let drafted = self
            .a
            .rooms
            .draft_invite(ada, &self.room, to, Move::default());
        drafted.await.unwrap()
    }

    async fn give(&self, draft: &DraftedInvite) -> Result<Arc<StoredEvent>, RoomError> {
        let shown = draft.stripped.iter().map(|pdu| object(pdu)).collect();
        let event = draft.event.clone();
        self.b.rooms.take_invite("a.test", event, shown).await
    }

    /// What bob is in the room, as bob's server sees it.
    fn is(&self) -> Option<Membership> {
        let rooms = self
            .b
            .rooms
            .rooms_of(&self.b.snap(), self.bob.user)
            .unwrap();
        rooms.first().map(|(_, of)| of.membership)
    }
}

fn object(pdu: &str) -> Object {
    Object::parse(pdu.as_bytes(), Mode::Lenient).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_to_an_unknown_room_is_signed_and_kept() {
    let scene = Scene::new().await;
    let draft = scene.draft().await;
    // Made, but without a place: nobody of the room has heard of it.
    assert_eq!(
        scene.a.membership(&scene.room, &scene.a.person("bob")),
        None
    );
    let before = scene.b.snap().head();
    let signed = scene.give(&draft).await.unwrap();
    assert_eq!(signed.event_id(), draft.event.event_id());
    let signatures = signed.object().unwrap();
    let signatures = signatures.object("signatures").unwrap();
    assert!(signatures.get("a.test").is_some() && signatures.get("b.test").is_some());

    let snap = scene.b.snap();
    assert_eq!(scene.is(), Some(Membership::Invite));
    let nid = scene.b.store.room_nid(&scene.room).unwrap().unwrap();
    assert!(scene.b.rooms.room_row(&snap, nid).unwrap().is_none());
    let shown = scene
        .b
        .rooms
        .stripped(&snap, scene.bob.user, nid)
        .unwrap()
        .unwrap();
    let shown: Vec<Value> = serde_json::from_slice(&shown).unwrap();
    let name = shown
        .iter()
        .find(|event| event["type"] == "m.room.name")
        .unwrap();
    assert_eq!(
        *name,
        json!({
            "type": "m.room.name", "state_key": "", "sender": *scene.ada.user_id,
            "content": { "name": "Attic" },
        })
    );
    assert_eq!(shown.last().unwrap()["content"]["membership"], "invite");
    let facts: Vec<Change> = snap
        .changes(before, snap.head())
        .unwrap()
        .unwrap()
        .map(|row| row.unwrap().1)
        .collect();
    assert!(facts.iter().any(|fact| matches!(fact, Change::Member { user, membership: Membership::Invite, .. } if *user == scene.bob.user)));
    let waiting = scene
        .b
        .rooms
        .waiting(&snap, scene.bob.user, &scene.room)
        .unwrap()
        .unwrap();
    assert_eq!(waiting.event.sender(), &*scene.ada.user_id);

    // The same once more is the same once more.
    let head = scene.b.snap().head();
    let again = scene.give(&draft).await.unwrap();
    assert_eq!(again.json(), signed.json());
    assert_eq!(scene.b.snap().head(), head);
    drop(snap);
    let b = scene.b.restart();
    let rooms = b.rooms.rooms_of(&b.snap(), scene.bob.user).unwrap();
    assert_eq!(rooms.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_an_invite_of_ours_by_theirs_is_signed() {
    let scene = Scene::new().await;
    let draft = scene.draft().await;
    let shown = || {
        draft
            .stripped
            .iter()
            .map(|pdu| object(pdu))
            .collect::<Vec<_>>()
    };
    let give = |origin: &'static str, event: &Arc<StoredEvent>, shown: Vec<Object>| {
        scene.b.rooms.take_invite(origin, event.clone(), shown)
    };
    assert_eq!(
        refusal(give("c.test", &draft.event, shown()).await),
        "InvalidParam"
    );
    // Without the event that the room is named after, anybody could have made it.
    assert_eq!(
        refusal(give("a.test", &draft.event, Vec::new()).await),
        "InvalidParam"
    );
    let alter = |change: &dyn Fn(&mut Object)| {
        let mut object = draft.event.object().unwrap();
        change(&mut object);
        Arc::new(StoredEvent::from_object(object, draft.version).unwrap())
    };
    let content = |membership: &str| {
        let text = format!(r#"{{"membership":"{membership}"}}"#);
        object(&text)
    };
    for (event, expected) in [
        (
            alter(&|it| {
                it.insert("type", "m.room.message");
            }),
            "InvalidParam",
        ),
        (
            alter(&|it| {
                it.insert("content", content("join"));
            }),
            "InvalidParam",
        ),
        (
            alter(&|it| {
                it.insert("state_key", "@cyd:c.test");
            }),
            "InvalidParam",
        ),
        (
            alter(&|it| {
                it.insert("state_key", "@nobody:b.test");
            }),
            "NotFound",
        ),
    ] {
        assert_eq!(refusal(give("a.test", &event, shown()).await), expected);
    }
    assert_eq!(scene.is(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_is_declined_whether_or_not_the_other_server_can_be_told() {
    let scene = Scene::new().await;
    scene.give(&scene.draft().await).await.unwrap();
    // The room does not go on here: nothing is to be written into it.
    let join = scene.b.join(&scene.bob, &scene.room).await;
    assert_eq!(refusal(join), "NotFound");
    let left =
        scene
            .b
            .rooms
            .left_elsewhere(scene.bob.clone(), &scene.room, None, Some("no time".into()));
    left.await.unwrap();
    assert_eq!(scene.is(), Some(Membership::Leave));
    let snap = scene.b.snap();
    let (nid, of) = scene
        .b
        .rooms
        .rooms_of(&snap, scene.bob.user)
        .unwrap()
        .remove(0);
    let event = scene.b.rooms.event(&snap, of.event).unwrap().unwrap().event;
    assert_eq!(
        event.content_object().unwrap().str("reason"),
        Some("no time")
    );
    assert!(
        scene
            .b
            .rooms
            .stripped(&snap, scene.bob.user, nid)
            .unwrap()
            .is_none()
    );
    // Once out, nothing changes.
    let head = scene.b.snap().head();
    let again = scene
        .b
        .rooms
        .left_elsewhere(scene.bob.clone(), &scene.room, None, None);
    again.await.unwrap();
    assert_eq!(scene.b.snap().head(), head);
    // And then it can be forgotten, and come again.
    scene
        .b
        .rooms
        .forget(scene.bob.clone(), &scene.room)
        .await
        .unwrap();
    assert_eq!(scene.is(), None);
    scene.give(&scene.draft().await).await.unwrap();
    assert_eq!(scene.is(), Some(Membership::Invite));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_is_taken_back_by_the_server_it_came_from() {
    let scene = Scene::new().await;
    let invite = scene.give(&scene.draft().await).await.unwrap();
    let leave = |sender: &str| {
        let mut object = invite.object().unwrap();
        object.insert("sender", sender);
        let mut content = Object::new();
        content.insert("membership", "leave");
        object.insert("content", content);
        Arc::new(StoredEvent::from_object(object, invite.version()).unwrap())
    };
    assert!(
        !scene
            .b
            .rooms
            .taken_back(leave("@eve:c.test"))
            .await
            .unwrap()
    );
    assert!(!scene.b.rooms.taken_back(invite.clone()).await.unwrap());
    assert_eq!(scene.is(), Some(Membership::Invite));
    assert!(
        scene
            .b
            .rooms
            .taken_back(leave("@other:a.test"))
            .await
            .unwrap()
    );
    assert_eq!(scene.is(), Some(Membership::Leave));
    assert!(
        !scene
            .b
            .rooms
            .taken_back(leave("@other:a.test"))
            .await
            .unwrap()
    );
}
