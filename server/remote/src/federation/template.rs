//! Beginning a join, a knock or a leave through another server: what it says such an event has to
//! rest on. The event itself is made here ([`skerry_room::ForeignTemplate`]).

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use skerry_core::canonical::{Mode, Object};
use skerry_core::{Membership, RoomVersion, StoredEvent};
use skerry_room::{ForeignTemplate, Move, RoomError, Wanted, Who};

use super::call::{QUICK, SMALL};
use super::fault::FederationError;
use super::paths::Path;
use super::{Federation, Limits};

/// The room version of answers that name none.
const UNNAMED: &str = "1";

#[derive(Deserialize)]
struct Answer {
    room_version: Option<String>,
    event: Box<RawValue>,
}

impl Federation {
    /// Asks a server what a member event of a user of ours would rest on, and makes the event.
    pub(super) async fn begin(
        &self,
        server: &str,
        (who, room_id): (&Who, &str),
        to: Membership,
        how: &Move,
    ) -> Result<Arc<StoredEvent>, FederationError> {
        let limits = Limits::new(QUICK, SMALL).even_if_resting();
        let path = path(room_id, &who.user_id, to);
        let answer: Answer = self.get(server, &path, limits).await?;
        let named = answer.room_version.unwrap_or_else(|| UNNAMED.to_owned());
        let version = RoomVersion::parse(&named);
        let version = version.ok_or(RoomError::UnsupportedVersion(named))?;
        let wanted = Wanted {
            room_id,
            user_id: &who.user_id,
            to,
        };
        let useless = |cause: String| FederationError::answer(server, cause);
        let event = Object::parse(answer.event.get().as_bytes(), Mode::Lenient);
        let event = event.map_err(|error| useless(error.to_string()))?;
        let template = ForeignTemplate::read(wanted, version, &event)
            .map_err(|error| useless(error.to_string()))?;
        let made = self.rooms.own_member(who.clone(), template, how.clone());
        Ok(made.await?)
    }
}

/// The path of the question. A leave is asked for without naming versions: the room is known.
fn path(room_id: &str, user_id: &str, to: Membership) -> Path {
    let endpoint = match to {
        Membership::Knock => "make_knock",
        Membership::Leave => "make_leave",
        _ => "make_join",
    };
    let mut path = Path::v1(endpoint).part(room_id).part(user_id);
    if to != Membership::Leave {
        for version in RoomVersion::all() {
            if to != Membership::Knock || version.has_knock() {
                path = path.query("ver", version.as_str());
            }
        }
    }
    path
}
