//! Joining rooms that live on other servers.

use http::Method;
use skerry_core::canonical::{Object, Value};
use skerry_core::verify::required_servers;
use skerry_core::{Membership, StoredEvent};
use skerry_room::{Entry, Move, RoomError, Who};
use skerry_store::StoreError;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::candidates::Candidates;
use super::fault::FederationError;
use super::paths::Path;
use super::stage::{OF_JOIN, Of, STAGED_MAX};
use super::{Federation, Limits};

/// How long the other server may think about a join, and then pause between two pieces of its
/// answer.
const THINKS: Duration = Duration::from_secs(180);
/// How long taking in the whole answer may take.
const WHOLE: Duration = Duration::from_secs(30 * 60);

impl Federation {
    /// Joins a room, through this server if it takes part in it, else through one of those that
    /// the client named, that invited the user, or that the room is known to be on. Goes on to its
    /// end also if nobody waits for it any more.
    ///
    /// # Errors
    /// What the room's rules or the other servers say: of several refusals the one that says most;
    /// `Nobody` where no server is known to ask.
    pub async fn join(
        &self,
        who: Who,
        room_id: &str,
        via: Vec<String>,
        how: Move,
    ) -> Result<String, FederationError> {
        let (this, room) = (self.clone(), room_id.to_owned());
        let joining = tokio::spawn(async move { this.join_now(who, room, via, how).await });
        joining
            .await
            .map_err(|error| FederationError::Stopped(error.to_string()))?
    }

    async fn join_now(
        &self,
        who: Who,
        room_id: String,
        via: Vec<String>,
        how: Move,
    ) -> Result<String, FederationError> {
        let refused = match self.join_here(&who, &room_id, &how).await? {
            Ok(()) => return Ok(room_id),
            Err(refused) => refused,
        };
        // One at a time: who comes second finds the room here.
        let _lane = self.asked.entering.lock(room_id.clone()).await;
        if let Ok(()) = self.join_here(&who, &room_id, &how).await? {
            return Ok(room_id);
        }
        let candidates = self.candidates(&who, &room_id, via).await?;
        let mut failed = refused.unwrap_or_else(|| {
            FederationError::Nobody("No server is known through which to join the room".into())
        });
        if !candidates.list().is_empty() && who.guest {
            let text = "Guests may not join rooms of other servers";
            return Err(RoomError::GuestForbidden(text.into()).into());
        }
        for server in candidates.list() {
            match self.join_through(&who, &room_id, server, &how).await {
                Ok(()) => return Ok(room_id),
                Err(error) if error.is_ours() => return Err(error),
                Err(error) => {
                    tracing::info!(%error, server, room = room_id, "no join through this server");
                    failed = failed.or(error);
                }
            }
        }
        Err(failed)
    }

    /// Joins where this server takes part. The inner error says that others have to be asked, and
    /// what to say if none can be.
    async fn join_here(
        &self,
        who: &Who,
        room_id: &str,
        how: &Move,
    ) -> Result<Result<(), Option<FederationError>>, FederationError> {
        if !self.rooms.is_here_id(room_id).await? {
            return Ok(Err(None));
        }
        match self.rooms.join(who.clone(), room_id, how.clone()).await {
            Ok(_) => Ok(Ok(())),
            Err(error @ RoomError::UnableToAuthoriseJoin(_)) => Ok(Err(Some(error.into()))),
            Err(error) => Err(error.into()),
        }
    }

    /// Whom to ask about a room: those named, whoever invited the user, those who are known to be
    /// in it, and the server in its id.
    pub(super) async fn candidates(
        &self,
        who: &Who,
        room_id: &str,
        via: Vec<String>,
    ) -> Result<Candidates, FederationError> {
        let waiting = self.waiting(who, room_id).await?;
        let candidates = Candidates::new(self.rooms.server_name()).and(via);
        let candidates = match &waiting {
            Some(waiting) => candidates.and_of(waiting.event.sender()),
            None => candidates,
        };
        let known = self.servers_of(room_id).await?;
        Ok(candidates.and(known).and_of(room_id))
    }

    async fn join_through(
        &self,
        who: &Who,
        room_id: &str,
        server: &str,
        how: &Move,
    ) -> Result<(), FederationError> {
        let event = self
            .begin(server, (who, room_id), Membership::Join, how)
            .await?;
        let of = Of {
            room_id: room_id.into(),
            version: event.version(),
        };
        let path = Path::v2("send_join")
            .part(room_id)
            .part(event.event_id())
            .query("omit_members", "false");
        let body = whole(&event)?;
        let limits = Limits::new(THINKS, STAGED_MAX).even_if_resting();
        let answer = self.open(server, (Method::PUT, &path, Some(&body)), limits);
        let answer = answer.await?;
        let staging = self.stage((server, answer), &of, OF_JOIN);
        let staged = tokio::time::timeout(WHOLE, staging).await;
        let staged = staged.map_err(|_| FederationError::answer(server, "it does not end"))??;
        if staged.omitted {
            return Err(FederationError::answer(server, "it leaves members out"));
        }
        if staged.refused > 0 {
            let refused = staged.refused;
            tracing::warn!(refused, server, room_id, "events of a room are not genuine");
        }
        let event = match staged.event {
            Some(given) => self.signed_by_others(server, &of, &event, &given).await?,
            None => event,
        };
        self.complete_state(server, &of, staged.missing).await?;
        let state = self.judged(staged.state).await?;
        let entry = Entry {
            room_id: room_id.to_owned(),
            version: of.version,
            event: event.clone(),
            state,
        };
        if self.rooms.enter(who.clone(), entry).await? {
            return Ok(());
        }
        // Somebody else of this server came in meanwhile: the join is one event more.
        let received = self.receive(server, room_id, vec![event]).await?;
        received.into_iter().next().transpose().map(|_| ())
    }

    /// Those of the events of a state that could be judged. Old rooms have a few that rest on
    /// what nobody can prove any more.
    async fn judged(&self, state: Vec<String>) -> Result<Vec<String>, FederationError> {
        let rooms = self.rooms.clone();
        let judged = skerry_store::blocking(move || {
            let snap = rooms.store().snapshot();
            let mut judged = Vec::with_capacity(state.len());
            for id in &state {
                let meta = match rooms.store().event_nid(&snap, id)? {
                    Some(nid) => rooms.meta(&snap, nid)?,
                    None => None,
                };
                if meta.is_some_and(|meta| !meta.is_unjudged()) {
                    judged.push(id.clone());
                }
            }
            // Where much is missing, it is not an old room but a bad answer.
            let enough = judged.len() * 10 >= state.len() * 9;
            Ok::<_, StoreError>(if enough { judged } else { state })
        });
        Ok(judged.await??)
    }

    /// Our event with the signatures that others added to it. Anything else about it is as we
    /// made it.
    pub(super) async fn signed_by_others(
        &self,
        server: &str,
        of: &Of,
        ours: &Arc<StoredEvent>,
        given: &[u8],
    ) -> Result<Arc<StoredEvent>, FederationError> {
        let bad = |cause: String| FederationError::answer(server, cause);
        let given = Object::parse(given, of.version.json_mode())
            .map_err(|error| bad(format!("its event: {error}")))?;
        let mut object = whole(ours)?;
        let mut signers = required_servers(&object, of.version)
            .map_err(|error| bad(format!("its event: {error}")))?;
        signers.insert(server.to_owned());
        signers.remove(self.rooms.server_name());
        add_signatures(&mut object, &given, &signers);
        let mut text = String::new();
        object.write(&mut text);
        let checked = self.check(of, vec![text.into_bytes()]).await?;
        let signed = checked.into_iter().flatten().next();
        let signed = signed.filter(|signed| signed.event_id() == ours.event_id());
        signed.ok_or_else(|| bad("its event is not signed as it has to be".to_owned()))
    }

    /// What is known of an invite to, or a knock on, a room that is not here.
    pub(super) async fn waiting(
        &self,
        who: &Who,
        room_id: &str,
    ) -> Result<Option<skerry_room::Waiting>, FederationError> {
        let (rooms, user, room_id) = (self.rooms.clone(), who.user, room_id.to_owned());
        let found = skerry_store::blocking(move || {
            rooms.waiting(&rooms.store().snapshot(), user, &room_id)
        });
        Ok(found.await??)
    }

    /// The servers that are known to be in a room, those with most members first.
    pub(super) async fn servers_of(&self, room_id: &str) -> Result<Vec<Arc<str>>, FederationError> {
        let (rooms, room_id) = (self.rooms.clone(), room_id.to_owned());
        let found = skerry_store::blocking(move || {
            let snap = rooms.store().snapshot();
            match rooms.room_nid(&snap, &room_id)? {
                Some(room) => rooms.servers_in(&snap, room),
                None => Ok(Vec::new()),
            }
        });
        Ok(found.await??)
    }
}

/// An event of ours as others get it.
pub(super) fn whole(event: &StoredEvent) -> Result<Object, FederationError> {
    event
        .object()
        .map_err(|error| FederationError::Stopped(error.to_string()))
}

/// Takes over the signatures of these servers.
fn add_signatures(event: &mut Object, given: &Object, signers: &BTreeSet<String>) {
    let mut signatures = event.object("signatures").cloned().unwrap_or_default();
    let given = given.object("signatures").into_iter();
    for (server, of_server) in given.flat_map(Object::iter) {
        if signers.contains(server) {
            signatures.insert(server, of_server.clone());
        }
    }
    event.insert("signatures", Value::Object(signatures));
}
