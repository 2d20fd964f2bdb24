//! Judging what waits in the inbox: hashes and signatures of a room's PDUs together, on all
//! cores; then the rooms' rules, one after another.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use skerry_core::StoredEvent;
use skerry_remote::federation::{Federation, FederationError};
use skerry_room::{RoomError, Verdict};
use skerry_store::StoreError;

use crate::{Outcome, Pending, Receive, outside};

/// Judges by the rules of the rooms.
pub struct Judge {
    federation: Federation,
}

impl Judge {
    /// With what is fetched through this.
    #[must_use]
    pub fn new(federation: Federation) -> Judge {
        Judge { federation }
    }

    async fn judge(&self, room_id: &str, pdus: Vec<Pending>) -> Result<Vec<Outcome>, StoreError> {
        let rooms = self.federation.rooms();
        let snap = rooms.store().snapshot();
        let here = match rooms.room_nid(&snap, room_id)? {
            Some(room) => rooms.is_here(&snap, room)?,
            None => false,
        };
        let version = rooms.room_version(&snap, room_id)?.filter(|_| here);
        drop(snap);
        let Some(version) = version else {
            return self.judge_outside(pdus).await;
        };
        let texts = pdus.iter().map(|one| one.pdu.clone()).collect();
        let checked = self
            .federation
            .checker()
            .check_texts(version, texts)
            .await?;
        let mut outcomes = Vec::with_capacity(pdus.len());
        let mut run: Vec<Arc<StoredEvent>> = Vec::new();
        let mut from: Option<Arc<str>> = None;
        for (one, checked) in pdus.into_iter().zip(checked) {
            if from.as_ref().is_some_and(|from| *from != one.origin) || checked.is_err() {
                outcomes.extend(self.receive_run(room_id, from.take(), &mut run).await?);
            }
            match checked {
                Ok(event) => {
                    from = Some(one.origin);
                    run.push(event);
                }
                Err(fault) => {
                    tracing::debug!(room_id, origin = &*one.origin, %fault, "a PDU was dropped");
                    outcomes.push(Outcome::Judged);
                }
            }
        }
        outcomes.extend(self.receive_run(room_id, from, &mut run).await?);
        Ok(outcomes)
    }

    /// PDUs of a room that nobody here is in.
    async fn judge_outside(&self, pdus: Vec<Pending>) -> Result<Vec<Outcome>, StoreError> {
        let rooms = self.federation.rooms();
        let count = pdus.len();
        for one in pdus {
            let snap = rooms.store().snapshot();
            let Some(version) = outside::version_of(rooms, &snap, &one.pdu)? else {
                continue;
            };
            drop(snap);
            let checker = self.federation.checker();
            let checked = checker.check_texts(version, vec![one.pdu]).await?;
            if let Some(Ok(event)) = checked.into_iter().next() {
                outside::end(rooms, event).await?;
            }
        }
        Ok(vec![Outcome::Judged; count])
    }

    /// PDUs of one server that follow one another.
    async fn receive_run(
        &self,
        room_id: &str,
        origin: Option<Arc<str>>,
        run: &mut Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<Outcome>, StoreError> {
        let events = std::mem::take(run);
        let Some(origin) = origin.filter(|_| !events.is_empty()) else {
            return Ok(Vec::new());
        };
        let count = events.len();
        let received = self.federation.receive(&origin, room_id, events).await;
        let fates = match received {
            Ok(fates) => fates,
            Err(RoomError::Store(error)) => return Err(error),
            Err(error) => return Ok(vec![Outcome::Aside(error.to_string()); count]),
        };
        tracing::debug!(room_id, origin = &*origin, ?fates, "PDUs were judged");
        fates.into_iter().map(outcome).collect()
    }
}

/// What became of a PDU; what could not be had for it sets it aside.
fn outcome(fate: Result<Verdict, FederationError>) -> Result<Outcome, StoreError> {
    match fate {
        Ok(Verdict::Missing(_)) => Ok(Outcome::Aside("what it rests on is not here".into())),
        Ok(_) => Ok(Outcome::Judged),
        Err(FederationError::Room(RoomError::Store(error))) => Err(error),
        Err(error) => Ok(Outcome::Aside(error.to_string())),
    }
}

impl Receive for Judge {
    fn receive<'a>(
        &'a self,
        room_id: &'a str,
        pdus: Vec<Pending>,
    ) -> BoxFuture<'a, Result<Vec<Outcome>, String>> {
        Box::pin(async move {
            let count = pdus.len();
            match self.judge(room_id, pdus).await {
                Err(StoreError::Full | StoreError::Closed | StoreError::Poisoned(_)) => {
                    Ok(vec![Outcome::Again; count])
                }
                judged => judged.map_err(|error| error.to_string()),
            }
        })
    }
}
