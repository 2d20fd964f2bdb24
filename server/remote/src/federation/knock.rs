//! Knocking on rooms that live on other servers.

use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use skerry_core::Membership;
use skerry_core::canonical::{Mode, Object};
use skerry_room::{Move, RoomError, Who};

use super::call::{LARGE, PATIENT};
use super::fault::FederationError;
use super::join::whole;
use super::paths::Path;
use super::{Federation, Limits};

/// How many events of a room are kept that say what one knocks on.
const MAX_STRIPPED: usize = 100;

impl Federation {
    /// Asks to be let into a room, through this server if it takes part in it, else through
    /// another.
    ///
    /// # Errors
    /// As [`Federation::join`].
    pub async fn knock(
        &self,
        who: Who,
        room_id: &str,
        via: Vec<String>,
        how: Move,
    ) -> Result<String, FederationError> {
        let (this, room) = (self.clone(), room_id.to_owned());
        let knocking = tokio::spawn(async move { this.knock_now(who, room, via, how).await });
        knocking
            .await
            .map_err(|error| FederationError::Stopped(error.to_string()))?
    }

    async fn knock_now(
        &self,
        who: Who,
        room_id: String,
        via: Vec<String>,
        how: Move,
    ) -> Result<String, FederationError> {
        if self.rooms.is_here_id(&room_id).await? {
            return Ok(self.rooms.knock(who, &room_id, how).await?);
        }
        let candidates = self.candidates(&who, &room_id, via).await?;
        if candidates.list().is_empty() {
            // It may be unknown, or be ours and say so itself.
            return Ok(self.rooms.knock(who, &room_id, how).await?);
        }
        if who.guest {
            let text = "Guests may not knock on rooms of other servers";
            return Err(RoomError::GuestForbidden(text.into()).into());
        }
        let mut failed = FederationError::Nobody("No server is known to knock at".into());
        for server in candidates.list() {
            match self.knock_at(&who, &room_id, server, &how).await {
                Ok(()) => return Ok(room_id),
                Err(error) if error.is_ours() => return Err(error),
                Err(error) => failed = failed.or(error),
            }
        }
        Err(failed)
    }

    async fn knock_at(
        &self,
        who: &Who,
        room_id: &str,
        server: &str,
        how: &Move,
    ) -> Result<(), FederationError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            knock_room_state: Vec<Box<RawValue>>,
        }
        let event = self
            .begin(server, (who, room_id), Membership::Knock, how)
            .await?;
        let path = Path::v1("send_knock").part(room_id).part(event.event_id());
        let limits = Limits::new(PATIENT, LARGE).even_if_resting();
        let body = whole(&event)?;
        let answer: Answer = self
            .give(server, (Method::PUT, &path), &body, limits)
            .await?;
        let stripped = stripped(&answer.knock_room_state);
        self.rooms
            .knocked(who.clone(), room_id, event, stripped)
            .await?;
        Ok(())
    }
}

/// The events among these that can be read.
fn stripped(events: &[Box<RawValue>]) -> Vec<Object> {
    let events = events.iter().take(MAX_STRIPPED);
    let parsed = events.map(|event| Object::parse(event.get().as_bytes(), Mode::Lenient));
    parsed.filter_map(Result::ok).collect()
}
