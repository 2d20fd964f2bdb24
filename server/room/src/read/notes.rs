//! What the writing side notes beside an event for those who read rooms.
//!
//! Readers see an event in one of two forms, whole or redacted, and both never change; which one
//! it is, and whether anything relates to it, they learn for a whole page from these rows.

use skerry_core::{EventNid, Pos, RoomNid};
use skerry_store::Write;
use skerry_store::schema::room::RelKind;
use skerry_store::schema::room_read::{Parents, Redacted, RedactedAt};

/// A redaction took effect on an event: to be written in the batch that stores the redacted form.
pub(crate) fn redaction(
    w: &mut Write,
    room: RoomNid,
    target: EventNid,
    redaction: EventNid,
    pos: Pos,
) {
    w.put::<Redacted>(&(room, target), &redaction);
    w.put::<RedactedAt>(&room, &pos);
}

/// An event got a child: to be written in the batch that stores the relation.
pub(crate) fn relation(w: &mut Write, room: RoomNid, kind: RelKind, parent: EventNid) {
    w.put::<Parents>(&(room, kind, parent), &());
}
