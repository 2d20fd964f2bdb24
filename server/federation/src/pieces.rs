//! Answers that hold many events: written in pieces, so that a room of any size is served from
//! little memory.

use std::collections::VecDeque;

use skerry_core::EventNid;
use skerry_http::Answer;
use skerry_room::Rooms;
use skerry_store::Snapshot;

/// How many events are written at once.
const PIECE: usize = 256;

/// A part of an answer.
pub(crate) enum Part {
    /// Text as it is.
    Text(String),
    /// Events as PDUs, with commas between them.
    Pdus(Vec<EventNid>),
}

/// Puts parts together as a JSON answer. The events are read while it is sent, from what is
/// published now.
pub(crate) fn answer(rooms: &Rooms, parts: Vec<Part>) -> Answer {
    let mut left: VecDeque<Part> = parts.into();
    let (rooms, snap) = (rooms.clone(), rooms.store().snapshot());
    Answer::json_pieces(move || next(&rooms, &snap, &mut left).map_err(std::io::Error::other))
}

fn next(
    rooms: &Rooms,
    snap: &Snapshot,
    left: &mut VecDeque<Part>,
) -> Result<Option<Vec<u8>>, skerry_store::StoreError> {
    let mut out = Vec::new();
    while out.is_empty() {
        match left.pop_front() {
            None => return Ok(None),
            Some(Part::Text(text)) => out = text.into_bytes(),
            Some(Part::Pdus(mut nids)) => {
                let rest = nids.split_off(nids.len().min(PIECE));
                rooms.write_pdus(snap, &nids, &mut out)?;
                if !rest.is_empty() {
                    if !out.is_empty() {
                        out.push(b',');
                    }
                    left.push_front(Part::Pdus(rest));
                }
            }
        }
    }
    Ok(Some(out))
}

/// PDUs or other JSON texts as an array.
pub(crate) fn array(texts: &[String]) -> String {
    format!("[{}]", texts.join(","))
}
