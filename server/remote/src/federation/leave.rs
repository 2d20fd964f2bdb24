//! Declining invites to rooms that live on other servers, and taking knocks on them back.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use skerry_core::{Membership, StoredEvent, names};
use skerry_room::{Move, Waiting, Who};
use std::sync::Arc;

use super::call::{QUICK, SMALL};
use super::candidates::Candidates;
use super::fault::FederationError;
use super::join::whole;
use super::paths::Path;
use super::{Federation, Limits};

/// How long other servers may take to let somebody go; after that they are gone for us.
const PATIENCE: Duration = Duration::from_secs(30);

impl Federation {
    /// Leaves a room, declines an invite or takes a knock back. Of a room that lives elsewhere the
    /// other servers are told if one of them can be reached; the user is out in any case.
    ///
    /// # Errors
    /// What the room's rules say, where this server takes part in it; the store's.
    pub async fn leave(&self, who: Who, room_id: &str, how: Move) -> Result<(), FederationError> {
        let (this, room) = (self.clone(), room_id.to_owned());
        let leaving = tokio::spawn(async move { this.leave_now(who, room, how).await });
        leaving
            .await
            .map_err(|error| FederationError::Stopped(error.to_string()))?
    }

    async fn leave_now(&self, who: Who, room_id: String, how: Move) -> Result<(), FederationError> {
        let waiting = match self.rooms.is_here_id(&room_id).await? {
            true => None,
            false => self.waiting(&who, &room_id).await?,
        };
        let Some(waiting) = waiting else {
            return Ok(self.rooms.leave(who, &room_id, how).await?);
        };
        let told = self.tell_elsewhere(&who, &room_id, &how, &waiting);
        let told = tokio::time::timeout(PATIENCE, told).await;
        // Whoever does not answer in time is gone, too.
        let event = told.unwrap_or_default();
        if event.is_none() {
            tracing::info!(
                room = room_id,
                "nobody could be told that an invite is declined"
            );
        }
        Ok(self
            .rooms
            .left_elsewhere(who, &room_id, event, how.reason)
            .await?)
    }

    /// Tells one of the servers that may be in the room; the event that it took.
    async fn tell_elsewhere(
        &self,
        who: &Who,
        room_id: &str,
        how: &Move,
        waiting: &Waiting,
    ) -> Option<Arc<StoredEvent>> {
        // Of a knock the sender is our own user, and the ids of newer rooms name no server: who set
        // what the room shows is in it, or was.
        let shown = self.shown_to(who, room_id).await.unwrap_or_default();
        let candidates = Candidates::new(self.rooms.server_name())
            .and_of(waiting.event.sender())
            .and_of(room_id)
            .and(shown.iter().filter_map(|sender| names::server_of(sender)));
        for server in candidates.list() {
            match self.leave_through(who, room_id, server, how).await {
                Ok(event) => return Some(event),
                Err(error) => tracing::debug!(%error, room_id, "no leave through this server"),
            }
        }
        None
    }

    /// Who set the state that a room showed with an invite or a knock.
    async fn shown_to(&self, who: &Who, room_id: &str) -> Result<Vec<String>, FederationError> {
        #[derive(Deserialize)]
        struct Stripped {
            sender: String,
        }
        let (rooms, user, room_id) = (self.rooms.clone(), who.user, room_id.to_owned());
        let shown = skerry_store::blocking(move || {
            let snap = rooms.store().snapshot();
            match rooms.room_nid(&snap, &room_id)? {
                Some(room) => rooms.stripped(&snap, user, room),
                None => Ok(None),
            }
        });
        let shown = shown.await??.unwrap_or_default();
        let events: Vec<Stripped> = serde_json::from_slice(&shown).unwrap_or_default();
        Ok(events.into_iter().map(|event| event.sender).collect())
    }

    async fn leave_through(
        &self,
        who: &Who,
        room_id: &str,
        server: &str,
        how: &Move,
    ) -> Result<Arc<StoredEvent>, FederationError> {
        let event = self
            .begin(server, (who, room_id), Membership::Leave, how)
            .await?;
        let path = Path::v2("send_leave").part(room_id).part(event.event_id());
        let limits = Limits::new(QUICK, SMALL).even_if_resting();
        let body = whole(&event)?;
        let _: Box<RawValue> = self
            .give(server, (Method::PUT, &path), &body, limits)
            .await?;
        Ok(event)
    }
}
