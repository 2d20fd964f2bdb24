//! Rooms that have a policy server: which events want its signature, and how they get it
//! (server-server API, "Policy Servers").
//!
//! A change is planned as ever. Where one of its events wants a signature, it is not committed:
//! the lane is let go, the policy server is asked by [`AskPolicy`], and the change is planned
//! again with what it said. An event of ours is then the one that was signed, also where the room
//! has moved on: it takes its place like one of another server. An event of another server that
//! is not recommended is soft-failed.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use skerry_core::policy::{POLICY, PolicyServer, is_exempt};
use skerry_core::{RoomVersion, StoredEvent};
use skerry_store::schema::room as t;
use skerry_store::schema::room::SentBy;
use skerry_store::{Snapshot, StoreError};

use crate::change::Change;
use crate::draft::Draft;
use crate::tip::Tip;
use crate::{Arrival, RoomError, Rooms, Verdict};

/// How often a change is planned: each time what it then wants signed is asked for.
pub(crate) const ROUNDS: usize = 3;

/// What a policy server answered: the signature in base64, or why there is none.
pub type PolicyAnswer = Result<String, PolicyRefusal>;

/// Asks policy servers. It sits where other servers are reached.
pub trait AskPolicy: Send + Sync {
    /// Asks for signatures of events of one room, in this order; answers for each, within a time
    /// that it bounds itself.
    fn ask<'a>(
        &'a self,
        events: Vec<(Arc<PolicyServer>, Arc<StoredEvent>)>,
    ) -> Pin<Box<dyn Future<Output = Vec<PolicyAnswer>> + Send + 'a>>;
}

/// Why a policy server did not recommend an event.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PolicyRefusal {
    /// It refused.
    #[error("{error}")]
    Said {
        /// The status of its answer.
        status: u16,
        /// Its code.
        errcode: String,
        /// In its words.
        error: String,
    },
    /// It gave no answer of use.
    #[error("The room's policy server {server} was not reached: {cause}")]
    Silent {
        /// Its name.
        server: String,
        /// Why.
        cause: String,
    },
}

impl PolicyRefusal {
    /// The code of its answer.
    #[must_use]
    pub fn errcode(&self) -> &str {
        match self {
            PolicyRefusal::Said { errcode, .. } => errcode,
            PolicyRefusal::Silent { .. } => "M_UNKNOWN",
        }
    }
}

/// Who asks policy servers, once that is known.
#[derive(Default)]
pub(crate) struct Asker(OnceLock<Arc<dyn AskPolicy>>);

/// An event that wants the signature of its room's policy server.
#[derive(Clone)]
pub(crate) struct Unapproved {
    server: Arc<PolicyServer>,
    event: Arc<StoredEvent>,
    /// Made here: without the signature it is not sent at all.
    own: bool,
}

/// What policy servers said so far of the events of a change.
#[derive(Clone, Default)]
pub(crate) struct Approvals {
    /// When the change was planned first: what is made again is then made equal.
    pub(crate) now_ms: Option<u64>,
    /// Events, as they are with their signature; or why they have none.
    said: Vec<(Arc<StoredEvent>, Result<(), PolicyRefusal>)>,
    /// Nobody is asked any more.
    last: bool,
}

impl Approvals {
    /// The same for the last time that the change is planned.
    pub(crate) fn for_round(&self, round: usize) -> Approvals {
        let last = round + 1 >= ROUNDS;
        Approvals {
            last,
            ..self.clone()
        }
    }

    /// The event with its signature, where it was given.
    pub(crate) fn signed(&self, event: Arc<StoredEvent>) -> Arc<StoredEvent> {
        let said = self.said_of(&event).filter(|(_, said)| said.is_ok());
        said.map_or(event, |(signed, _)| signed.clone())
    }

    fn said_of(
        &self,
        event: &StoredEvent,
    ) -> Option<&(Arc<StoredEvent>, Result<(), PolicyRefusal>)> {
        let mut said = self.said.iter().rev();
        said.find(|(one, _)| one.event_id() == event.event_id())
    }

    /// The signed event that a draft became when it was made before; each is given once.
    fn take(
        &mut self,
        user_id: &str,
        draft: &Draft,
        version: RoomVersion,
    ) -> Option<Arc<StoredEvent>> {
        let at = self
            .said
            .iter()
            .position(|(event, said)| said.is_ok() && is_of(event, user_id, draft, version))?;
        Some(self.said.remove(at).0)
    }
}

/// Whether an event is what a draft of a user becomes, wherever it stands in the graph.
fn is_of(event: &StoredEvent, user_id: &str, draft: &Draft, version: RoomVersion) -> bool {
    let mut content = draft.content.clone();
    if let Some(redacts) = draft
        .redacts
        .as_ref()
        .filter(|_| version.redacts_in_content())
    {
        content.insert("redacts", redacts.as_str());
    }
    event.sender() == user_id
        && event.event_type() == draft.kind
        && event.state_key() == draft.state_key.as_deref()
        && event.redacts() == draft.redacts.as_deref()
        && event.content() == content.to_string()
}

impl Rooms {
    /// From now on, policy servers are asked by this. Only the first one counts; without any,
    /// events in rooms that have a policy server are not sent.
    pub fn ask_policy_by(&self, asker: Arc<dyn AskPolicy>) {
        // Set twice only by a mistake of whoever puts the house together.
        let _ = self.inner.asker.0.set(asker);
    }

    /// The policy server of a room, by its state as it is now.
    pub(crate) fn policy_server(
        &self,
        snap: &Snapshot,
        tip: &mut Tip,
    ) -> Result<Option<Arc<PolicyServer>>, StoreError> {
        let named = match &tip.policy {
            Some(named) => named.clone(),
            None => {
                let event = self.tip_state(snap, tip, POLICY, "")?;
                let content = event.and_then(|event| event.event().content_object().ok());
                let named = content.as_ref().and_then(PolicyServer::of).map(Arc::new);
                tip.policy = Some(named.clone());
                named
            }
        };
        match named {
            Some(server) if self.is_joined_by(snap, tip, &server.via)? => Ok(Some(server)),
            _ => Ok(None),
        }
    }

    /// Whether a server has a joined user at the tip.
    fn is_joined_by(&self, snap: &Snapshot, tip: &Tip, server: &str) -> Result<bool, StoreError> {
        if server == self.server_name() {
            return Ok(Rooms::is_in(tip));
        }
        let Some(nid) = self.store().server_nid(server)? else {
            return Ok(false);
        };
        match tip.fresh.servers.get(&nid) {
            Some(count) => Ok(*count > 0),
            None => snap.has::<t::RoomServer>(&(tip.room, nid)),
        }
    }

    /// Asks for what a change lacks, and notes the answers.
    ///
    /// # Errors
    /// `Policy` where an event of ours is refused.
    pub(crate) async fn approve(
        &self,
        lacking: Vec<Unapproved>,
        approvals: &mut Approvals,
    ) -> Result<(), RoomError> {
        let asked = lacking.iter();
        let asked = asked.map(|one| (one.server.clone(), one.event.clone()));
        let answers = match self.inner.asker.0.get() {
            Some(asker) => asker.ask(asked.collect()).await,
            None => Vec::new(),
        };
        let mut answers = answers.into_iter();
        for Unapproved { server, event, own } in lacking {
            let silent = |cause: &str| PolicyRefusal::Silent {
                server: server.via.clone(),
                cause: cause.to_owned(),
            };
            let answer = answers.next();
            let answer = answer.unwrap_or_else(|| Err(silent("nobody asks it")));
            let signed = match answer {
                Ok(signature) => server.signed(&event, &signature),
                Err(refusal) if own => return Err(RoomError::Policy(refusal)),
                Err(refusal) => {
                    approvals.said.push((event, Err(refusal)));
                    continue;
                }
            };
            let signed = signed.map_err(crate::compose::misshapen)?;
            match signed {
                Some(signed) => approvals.said.push((Arc::new(signed), Ok(()))),
                None => {
                    let refusal = silent("its signature is not good under the room's key");
                    match own {
                        true => return Err(RoomError::Policy(refusal)),
                        false => approvals.said.push((event, Err(refusal))),
                    }
                }
            }
        }
        Ok(())
    }

    /// The event with the signature of this policy server, asked for now.
    ///
    /// # Errors
    /// `Policy` where it is refused, `TooLarge`.
    pub(crate) async fn approved(
        &self,
        server: Arc<PolicyServer>,
        event: Arc<StoredEvent>,
    ) -> Result<Arc<StoredEvent>, RoomError> {
        let mut approvals = Approvals::default();
        let lacking = vec![Unapproved {
            server,
            event: event.clone(),
            own: true,
        }];
        self.approve(lacking, &mut approvals).await?;
        Ok(approvals.signed(event))
    }
}

impl Change<'_> {
    /// The policy server that an event at the room's end wants a signature of, where it has none.
    pub(crate) fn wants_approval(
        &mut self,
        event: &StoredEvent,
    ) -> Result<Option<Arc<PolicyServer>>, StoreError> {
        // Before a room is made, nothing of it is sent to anybody.
        if self.founding || is_exempt(event) {
            return Ok(None);
        }
        let server = self.rooms.policy_server(&self.snap, &mut self.tip)?;
        Ok(server.filter(|server| !server.has_signed(event)))
    }

    /// Notes that an event made here wants a signature.
    pub(crate) fn lacks_approval(&mut self, server: Arc<PolicyServer>, event: &Arc<StoredEvent>) {
        self.unapproved.push(Unapproved {
            server,
            event: event.clone(),
            own: true,
        });
    }

    /// Why the room's policy server keeps an event of another server out, if it does. One of
    /// which it was not asked counts as let in, and the change as not done.
    pub(crate) fn kept_out(
        &mut self,
        event: &Arc<StoredEvent>,
    ) -> Result<Option<String>, StoreError> {
        let Some(server) = self.wants_approval(event)? else {
            return Ok(None);
        };
        match self.approvals.said_of(event) {
            Some((_, Err(refusal))) => Ok(Some(format!("by the policy server: {refusal}"))),
            _ if self.approvals.last => Ok(Some("it has no policy server's signature".into())),
            _ => {
                self.unapproved.push(Unapproved {
                    server,
                    event: event.clone(),
                    own: false,
                });
                Ok(None)
            }
        }
    }

    /// The event that a draft became before and that was signed since.
    pub(crate) fn take_approved(
        &mut self,
        user_id: &str,
        draft: &Draft,
    ) -> Option<Arc<StoredEvent>> {
        self.approvals.take(user_id, draft, self.tip.version)
    }

    /// Gives a signed event of ours its place, wherever the room stands by now.
    pub(crate) fn place_approved(
        &mut self,
        event: Arc<StoredEvent>,
        sent: Option<SentBy>,
    ) -> Result<String, RoomError> {
        let event_id = event.event_id().to_owned();
        let how = Arrival {
            sent,
            ..Arrival::default()
        };
        match self.take_in(event, how)? {
            Verdict::Accepted => Ok(event_id),
            Verdict::SoftFailed(why) | Verdict::Rejected(why) => Err(RoomError::Forbidden(why)),
            Verdict::Known | Verdict::Missing(_) | Verdict::NotHere => {
                let text = "The room has changed too much meanwhile; try again";
                Err(RoomError::Forbidden(text.into()))
            }
        }
    }
}
