//! What a network would do between servers: carrying events from one to the other.

use std::sync::Arc;

use skerry_core::{EventNid, Membership, Pos, RoomVersion, StoredEvent};
use skerry_room::{
    Arrival, Entered, Entry, ForeignTemplate, Move, RoomError, Verdict, Wanted, Who,
};

use crate::house::House;

/// All room versions, as another server names those it knows.
pub fn all_versions() -> Vec<String> {
    RoomVersion::all()
        .map(|version| version.to_string())
        .collect()
}

/// An event as it comes over the wire.
pub fn wire(event: &StoredEvent) -> Arc<StoredEvent> {
    let pdu = StoredEvent::from_pdu(event.json().as_bytes(), event.version());
    Arc::new(pdu.unwrap())
}

/// A server's member event made for a room of another one, and taken there.
pub async fn ask_in(
    from: &House,
    at: &House,
    who: &Who,
    room: &str,
    to: Membership,
) -> Result<Entered, RoomError> {
    let versions = all_versions();
    let asked = at
        .rooms
        .template(from.name(), room, &who.user_id, to, &versions);
    let given = asked.await?;
    let wanted = Wanted {
        room_id: room,
        user_id: &who.user_id,
        to,
    };
    let template = ForeignTemplate::read(wanted, given.version, &given.event)?;
    let own = from
        .rooms
        .own_member(who.clone(), template, Move::default());
    let event = wire(&*own.await?);
    at.rooms
        .take_member(from.name(), room, event, to, false)
        .await
}

/// Gives events of one server to another, as what others rest on.
pub async fn bring(from: &House, to: &House, room: &str, nids: &[EventNid]) -> Vec<String> {
    let held = from.rooms.events(&from.snap(), nids).unwrap();
    let events: Vec<_> = held
        .into_iter()
        .map(|held| wire(&held.unwrap().event))
        .collect();
    let ids = events
        .iter()
        .map(|event| event.event_id().to_owned())
        .collect();
    if let Some(version) = events.first().map(|event| event.version()) {
        to.rooms.keep_outliers(room, version, events).await.unwrap();
        let missing = to
            .rooms
            .keep_outliers(room, version, Vec::new())
            .await
            .unwrap();
        assert_eq!(missing, Vec::<String>::new());
    }
    ids
}

/// All of a join through another server, but its last step.
pub async fn prepare(from: &House, at: &House, who: &Who, room: &str) -> Result<Entry, RoomError> {
    let entered = ask_in(from, at, who, room, Membership::Join).await?;
    bring(at, from, room, &entered.auth_chain).await;
    let state = bring(at, from, room, &entered.state).await;
    Ok(Entry {
        room_id: room.to_owned(),
        version: entered.event.version(),
        event: wire(&entered.event),
        state,
    })
}

/// A whole join through another server.
pub async fn join(from: &House, at: &House, who: &Who, room: &str) -> Result<bool, RoomError> {
    let entry = prepare(from, at, who, room).await?;
    from.rooms.enter(who.clone(), entry).await
}

/// Gives another server all that one sends since a place; gives the next place and what became
/// of each event.
pub async fn carry(from: &House, to: &House, after: Pos) -> (Pos, Vec<(String, Verdict)>) {
    let sent = from.rooms.outgoing(&from.snap(), after, 100).unwrap();
    let (mut at, mut told) = (after, Vec::new());
    for (pos, pdu) in sent {
        at = pos;
        let held = from.rooms.event(&from.snap(), pdu.event).unwrap().unwrap();
        let event = wire(&held.event);
        let id = event.event_id().to_owned();
        let taken = to.rooms.receive(&pdu.room_id, event, Arrival::default());
        told.push((id, taken.await.unwrap()));
    }
    (at, told)
}

/// The current state of a room, by event ids.
pub fn state(house: &House, room: &str) -> Vec<String> {
    let state = house
        .rooms
        .state_now(&house.snap(), house.nid(room))
        .unwrap();
    let id = |nid| house.store.event_id(nid).unwrap().to_string();
    let mut ids: Vec<String> = state.into_iter().map(|(_, nid)| id(nid)).collect();
    ids.sort();
    ids
}
