//! Inviting users of other servers: their server is asked to sign the invite first, and may refuse.

use futures_util::future::join_all;
use http::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use serde_json::value::RawValue;
use skerry_core::canonical::{Mode, Object, Value};
use skerry_core::{Membership, names};
use skerry_room::{Arrival, CreateRoom, DraftedInvite, Move, RoomError, Verdict, Who};

use super::call::{PATIENT, SMALL};
use super::fault::FederationError;
use super::join::whole;
use super::paths::Path;
use super::stage::Of;
use super::{Federation, Limits};

/// How many people are invited at once.
const AT_ONCE: usize = 8;

#[derive(Deserialize)]
struct Signed {
    event: Box<RawValue>,
}

impl Federation {
    /// Invites a user, of this server or another. The invite of a remote user is in the room when
    /// their server has signed it.
    ///
    /// # Errors
    /// What the room's rules or the other server say.
    pub async fn invite(
        &self,
        who: Who,
        room_id: &str,
        user_id: &str,
        how: Move,
    ) -> Result<(), FederationError> {
        if !names::is_user_id(user_id) || self.rooms.is_local(user_id) {
            return Ok(self.rooms.invite(who, room_id, user_id, how).await?);
        }
        let (this, room, target) = (self.clone(), room_id.to_owned(), user_id.to_owned());
        let inviting = tokio::spawn(async move { this.invite_now(who, room, target, how).await });
        inviting
            .await
            .map_err(|error| FederationError::Stopped(error.to_string()))?
    }

    /// Makes a room, as `Rooms::create` does, and invites the users of other servers: the room is
    /// there whatever their servers say.
    ///
    /// # Errors
    /// As `Rooms::create`.
    pub async fn create(&self, who: Who, request: CreateRoom) -> Result<String, RoomError> {
        let others = request.invite.iter().filter(|id| !self.rooms.is_local(id));
        let others: Vec<String> = others.cloned().collect();
        let direct = json!({ "is_direct": true }).to_string().into_bytes();
        let how = Move {
            reason: request.invite_reason.clone(),
            content: request.is_direct.then_some(direct),
        };
        let room_id = self.rooms.create(who.clone(), request).await?;
        self.invite_all(who, &room_id, others, how).await;
        Ok(room_id)
    }

    /// Invites users to a room that was just made, some at once.
    async fn invite_all(&self, who: Who, room_id: &str, users: Vec<String>, how: Move) {
        for some in users.chunks(AT_ONCE) {
            let inviting = some.iter().map(|user_id| {
                let invited = self.invite(who.clone(), room_id, user_id, how.clone());
                async move {
                    if let Err(error) = invited.await {
                        tracing::info!(%error, room_id, user_id, "not invited to a new room");
                    }
                }
            });
            join_all(inviting.collect::<Vec<_>>()).await;
        }
    }

    async fn invite_now(
        &self,
        who: Who,
        room_id: String,
        user_id: String,
        how: Move,
    ) -> Result<(), FederationError> {
        let drafted = self
            .rooms
            .draft_invite(who, &room_id, &user_id, how)
            .await?;
        self.sign_elsewhere(&room_id, &user_id, drafted).await
    }

    /// An address that somebody was invited by turned out to be a user's of the server that asks:
    /// their invite takes the place of that one (server-server API, "Third-party invites").
    ///
    /// # Errors
    /// As `Rooms::draft_exchanged` and [`Federation::invite`].
    pub async fn exchange_invite(
        &self,
        origin: &str,
        room_id: &str,
        asked: &Object,
    ) -> Result<(), FederationError> {
        let drafted = self.rooms.draft_exchanged(origin, room_id, asked).await?;
        let invited = drafted.event.state_key().unwrap_or_default().to_owned();
        self.sign_elsewhere(room_id, &invited, drafted).await
    }

    /// Asks the server of who invited somebody by an address for the invite of a user of ours, who
    /// turned out to own it; `signed` is what the identity server says of them. The invite comes
    /// to this server as any other.
    ///
    /// # Errors
    /// What the other server says.
    pub async fn ask_for_invite(
        &self,
        room_id: &str,
        (sender, target): (&str, &str),
        signed: &Object,
    ) -> Result<(), FederationError> {
        let mut third = Object::new();
        third.insert("signed", signed.clone());
        let mut content = Object::new();
        content.insert("membership", Membership::Invite.as_str());
        content.insert("third_party_invite", third);
        let mut body = Object::new();
        body.insert("type", "m.room.member");
        body.insert("room_id", room_id);
        body.insert("sender", sender);
        body.insert("state_key", target);
        body.insert("content", content);
        let server = names::server_of(sender).unwrap_or_default();
        let path = Path::v1("exchange_third_party_invite").part(room_id);
        let limits = Limits::new(PATIENT, SMALL).even_if_resting();
        let _: IgnoredAny = self
            .give(server, (Method::PUT, &path), &body, limits)
            .await?;
        Ok(())
    }

    /// Has an invite signed by the server of who is invited, and gives it its place in the room.
    async fn sign_elsewhere(
        &self,
        room_id: &str,
        user_id: &str,
        drafted: DraftedInvite,
    ) -> Result<(), FederationError> {
        let server = names::server_of(user_id).unwrap_or_default();
        let of = Of {
            room_id: room_id.into(),
            version: drafted.version,
        };
        let given = self.ask_to_sign(server, room_id, &drafted).await?;
        let event = self
            .signed_by_others(server, &of, &drafted.event, given.as_bytes())
            .await?;
        if !self.checker.is_signed_by(&event, server).await? {
            return Err(FederationError::answer(
                server,
                "it has not signed the invite",
            ));
        }
        let how = Arrival {
            send_on: true,
            ..Arrival::default()
        };
        match self.rooms.receive(room_id, event, how).await? {
            Verdict::Accepted | Verdict::Known => Ok(()),
            // Meanwhile the room has changed.
            Verdict::SoftFailed(why) | Verdict::Rejected(why) => {
                Err(RoomError::Forbidden(why).into())
            }
            Verdict::Missing(_) | Verdict::NotHere => {
                let text = "The room has changed too much meanwhile; try again";
                Err(RoomError::Forbidden(text.into()).into())
            }
        }
    }

    /// Asks a server to sign an invite of its user; in the older way where it knows only that.
    async fn ask_to_sign(
        &self,
        server: &str,
        room_id: &str,
        drafted: &DraftedInvite,
    ) -> Result<String, FederationError> {
        let event = whole(&drafted.event)?;
        let shown = drafted.stripped.iter();
        let shown = shown.filter_map(|pdu| Value::parse(pdu.as_bytes(), Mode::Lenient).ok());
        let stripped: Vec<Value> = shown.collect();
        let mut body = Object::new();
        body.insert("room_version", drafted.version.as_str());
        body.insert("event", event.clone());
        body.insert("invite_room_state", stripped.clone());
        let path = |path: Path| path.part(room_id).part(drafted.event.event_id());
        let limits = Limits::new(PATIENT, SMALL).even_if_resting();
        let newer = path(Path::v2("invite"));
        let asked = self
            .give(server, (Method::PUT, &newer), &body, limits)
            .await;
        let error = match asked {
            Ok(Signed { event }) => return Ok(event.get().to_owned()),
            Err(error) => error,
        };
        if !drafted.version.references_have_hashes() || !is_unknown(&error) {
            return Err(error);
        }
        let mut unsigned = Object::new();
        unsigned.insert("invite_room_state", stripped);
        let mut body = event;
        body.insert("unsigned", unsigned);
        let older = path(Path::v1("invite"));
        let (_, Signed { event }): (u16, Signed) = self
            .give(server, (Method::PUT, &older), &body, limits)
            .await?;
        Ok(event.get().to_owned())
    }
}

/// Whether a server does not know the endpoint.
fn is_unknown(error: &FederationError) -> bool {
    matches!(
        error,
        FederationError::Refused { status: 400 | 404 | 405, errcode, .. }
            if matches!(errcode.as_str(), "" | "M_UNRECOGNIZED" | "M_UNKNOWN")
    )
}
