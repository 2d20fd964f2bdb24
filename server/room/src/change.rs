//! The one shape of every change of a room: lane, newest snapshot, plan, one commit, durable.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use skerry_core::{Pos, RoomNid, UserNid};
use skerry_store::schema::room::SentBy;
use skerry_store::{Applied, Snapshot, StoreError, Write, blocking};

use crate::compose::Author;
use crate::draft::Draft;
use crate::policy::{Approvals, ROUNDS, Unapproved};
use crate::tip::Tip;
use crate::{RoomError, Rooms};

/// Who asks for something, as the token said.
#[derive(Clone, Debug)]
pub struct Who {
    /// The full user id.
    pub user_id: Arc<str>,
    /// Its number.
    pub user: UserNid,
    /// The device.
    pub device: Arc<str>,
    /// A guest account: may not do everything.
    pub guest: bool,
    /// A suspended account: reads and tidies up, does not speak.
    pub suspended: bool,
    /// A server administrator.
    pub admin: bool,
    /// The id of the application service that acts as the user, if one does.
    pub appservice: Option<Arc<str>>,
}

impl Who {
    /// Somebody in whose name the server itself acts.
    pub(crate) fn inside(user_id: Arc<str>, user: UserNid) -> Who {
        Who {
            user_id,
            user,
            device: "".into(),
            guest: false,
            suspended: false,
            admin: false,
            appservice: None,
        }
    }

    /// What only people with an account may do.
    pub(crate) fn not_a_guest(&self) -> Result<(), RoomError> {
        if self.guest {
            return Err(RoomError::GuestForbidden("Guests may not do this".into()));
        }
        Ok(())
    }

    /// What nobody may do whose account is suspended.
    pub(crate) fn not_suspended(&self) -> Result<(), RoomError> {
        if self.suspended {
            let why = "You cannot perform this action while suspended";
            return Err(RoomError::Suspended(why.into()));
        }
        Ok(())
    }
}

/// A change of one room being planned: what it sees, and what it writes.
pub(crate) struct Change<'a> {
    pub(crate) rooms: &'a Rooms,
    /// The newest applied state.
    pub(crate) snap: Snapshot,
    /// The batch.
    pub(crate) w: Write,
    /// The room's end, moving with each event.
    pub(crate) tip: Tip,
    /// The time of the change, in ms since the epoch.
    pub(crate) now_ms: u64,
    /// The time that its events bear, where that is another one.
    pub(crate) ts: Option<u64>,
    /// The call that makes its first event, where that is to be known.
    pub(crate) sent: Option<SentBy>,
    /// A room is being made: nobody hears of its events before.
    pub(crate) founding: bool,
    /// What the room's policy server said of its events.
    pub(crate) approvals: Approvals,
    /// Its events that want a signature of the room's policy server. Where there are any, the
    /// change is not done.
    pub(crate) unapproved: Vec<Unapproved>,
}

impl<'a> Change<'a> {
    /// A change that has not begun.
    pub(crate) fn new(rooms: &'a Rooms, snap: Snapshot, tip: Tip, now_ms: u64) -> Change<'a> {
        Change {
            rooms,
            snap,
            w: rooms.store().write(),
            tip,
            now_ms,
            ts: None,
            sent: None,
            founding: false,
            approvals: Approvals::default(),
            unapproved: Vec::new(),
        }
    }

    /// Makes an event at the room's end, checks it, and adds it to the batch; gives its
    /// id.
    pub(crate) fn add(
        &mut self,
        user_id: &str,
        draft: Draft,
        sent: Option<SentBy>,
    ) -> Result<String, RoomError> {
        let sent = sent.or_else(|| self.sent.take());
        if let Some(event) = self.take_approved(user_id, &draft) {
            return self.place_approved(event, sent);
        }
        let author = Author {
            user_id,
            now_ms: self.ts.unwrap_or(self.now_ms),
        };
        let rooms = self.rooms;
        let event = Arc::new(rooms.build(&self.snap, &self.tip, author, draft)?);
        rooms.check(&self.snap, &mut self.tip, &event)?;
        if let Some(server) = self.wants_approval(&event)? {
            self.lacks_approval(server, &event);
        }
        let event_id = event.event_id().to_owned();
        rooms.append(&mut self.w, &self.snap, &mut self.tip, event, sent)?;
        Ok(event_id)
    }
}

/// How far a change has come.
pub(crate) enum Done<T> {
    /// It is made.
    Made(T),
    /// It is not: these events want a signature of a policy server. With the time of the change.
    Lacks(Vec<Unapproved>, u64),
}

/// An answer, and what has to be durable before it is given.
pub(crate) type Outcome<T> = (Result<T, RoomError>, Applied);

impl Rooms {
    /// Does one change of one room, and answers when it is durable. A refusal waits too: it was
    /// decided on what may not be durable yet.
    ///
    /// The plan may be made again, when a policy server has signed what it makes.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        room: RoomNid,
        plan: impl FnOnce(&mut Change<'_>) -> Result<T, RoomError> + Clone + Send + 'static,
    ) -> Result<T, RoomError> {
        self.approving(|given| {
            let (this, plan) = (self, plan.clone());
            async move {
                let lane = this.inner.lanes.lock(room).await;
                let work = move |this: &Rooms| this.change_now(room, given, plan);
                this.write(lane, work).await
            }
        })
        .await
    }

    /// Tries a change until it wants no more signatures of a policy server, and asks for them in
    /// between, without the room's lane.
    pub(crate) async fn approving<T, F>(
        &self,
        mut attempt: impl FnMut(Approvals) -> F,
    ) -> Result<T, RoomError>
    where
        F: Future<Output = Result<Done<T>, RoomError>>,
    {
        let mut approvals = Approvals::default();
        for round in 0..ROUNDS {
            match attempt(approvals.for_round(round)).await? {
                Done::Made(made) => return Ok(made),
                Done::Lacks(lacking, now_ms) => {
                    approvals.now_ms = Some(now_ms);
                    self.approve(lacking, &mut approvals).await?;
                }
            }
        }
        let text = "The room changes too fast for its policy server; try again";
        Err(RoomError::Forbidden(text.into()))
    }

    /// Runs a change on a blocking thread, and waits until what it says may be told. `guard` is
    /// held until the change is applied.
    pub(crate) async fn write<T: Send + 'static, G: Send + 'static>(
        &self,
        guard: G,
        work: impl FnOnce(&Rooms) -> Result<Outcome<T>, StoreError> + Send + 'static,
    ) -> Result<T, RoomError> {
        let this = self.clone();
        let (answer, applied) = blocking(move || {
            let _guard = guard;
            work(&this)
        })
        .await??;
        self.store().durable(&applied).await?;
        answer
    }

    /// Reads the published state on a blocking thread.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Rooms, &Snapshot) -> Result<T, RoomError> + Send + 'static,
    ) -> Result<T, RoomError> {
        let this = self.clone();
        blocking(move || ask(&this, &this.store().snapshot())).await?
    }

    /// Inside the room's lane: plans on the newest snapshot and commits.
    fn change_now<T>(
        &self,
        room: RoomNid,
        approvals: Approvals,
        plan: impl FnOnce(&mut Change<'_>) -> Result<T, RoomError>,
    ) -> Result<Outcome<Done<T>>, StoreError> {
        let snap = self.newest();
        let Some(tip) = self.tip(&snap, room)? else {
            let unknown = RoomError::NotFound("unknown room".into());
            return Ok((Err(unknown), self.store().barrier()));
        };
        let now_ms = approvals
            .now_ms
            .unwrap_or_else(|| self.inner.clock.now_ms());
        let mut change = Change::new(self, snap, tip, now_ms);
        change.approvals = approvals;
        let answer = plan(&mut change);
        if answer.is_ok() && !change.unapproved.is_empty() {
            let lacks = Done::Lacks(change.unapproved, now_ms);
            return Ok((Ok(lacks), self.store().barrier()));
        }
        self.apply(change, answer.map(Done::Made))
    }

    /// Commits a change whose plan came out well, and notes it in memory.
    pub(crate) fn apply<T>(
        &self,
        change: Change<'_>,
        answer: Result<T, RoomError>,
    ) -> Result<Outcome<T>, StoreError> {
        let Change { w, tip, .. } = change;
        match answer {
            Err(RoomError::Store(error)) => Err(error),
            answer if answer.is_err() || w.is_empty() => Ok((answer, self.store().barrier())),
            answer => Ok((answer, self.commit(w, vec![tip])?)),
        }
    }

    /// Commits a write and notes in memory what it made of the rooms. Inside all their lanes.
    pub(crate) fn commit(&self, mut w: Write, tips: Vec<Tip>) -> Result<Applied, StoreError> {
        let (moved, kept): (Vec<Tip>, Vec<Tip>) =
            tips.into_iter().partition(|tip| tip.head.last.is_stamp());
        let moved: Vec<(Pos, Tip)> = moved
            .into_iter()
            .map(|tip| (self.inner.last.begin(tip.room), tip))
            .collect();
        for (_, tip) in &moved {
            self.finish(&mut w, tip);
        }
        match self.store().commit(w) {
            Ok(applied) => {
                for (_, tip) in moved {
                    self.settle(tip, &applied);
                }
                kept.iter().for_each(|tip| self.settle_redacted(tip));
                Ok(applied)
            }
            Err(error) => {
                for (before, tip) in &moved {
                    self.inner.last.set(tip.room, *before);
                }
                Err(error)
            }
        }
    }

    /// The newest snapshot. Where the store had to be opened anew since, what it lost may lie in
    /// our memory still: that is dropped first.
    pub(crate) fn newest(&self) -> Snapshot {
        let generation = self.store().generation();
        if self.inner.generation.swap(generation, Ordering::AcqRel) != generation {
            self.inner.tips.clear();
            self.inner.states.clear();
            self.inner.auth_events.clear();
            self.inner.reads.clear();
            self.inner.lookups.clear();
        }
        self.store().newest()
    }
}
