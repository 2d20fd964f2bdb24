//! Subscriptions to threads (MSC4306): which threads a user wants to hear of.
//!
//! A subscription is the user's own, for all their devices. Clients subscribe by themselves to
//! threads their user takes part in; such an automatic subscription names the event that caused
//! it, so that one that the user ended since is not made again.

use std::sync::Arc;

use skerry_core::{Pos, UserNid};
use skerry_store::schema::room::RelKind;
use skerry_store::schema::room_read::{ThreadSubAt, ThreadSubRow, ThreadSubs};
use skerry_store::{Change, Scan, Snapshot, StoreError, Write};

use crate::change::Outcome;
use crate::{Placed, RoomError, Rooms, View, Viewer};

/// Threads about which one user may have said something.
const SUBSCRIPTIONS_MAX: usize = 10_000;

/// What a user last said about a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadChange {
    /// The room.
    pub room_id: Arc<str>,
    /// The event that begins the thread.
    pub root: String,
    /// Whether the subscription was made by a client on its own; `None` if there is none any
    /// more.
    pub automatic: Option<bool>,
    /// When they said so; larger than for everything that the user said before.
    pub pos: Pos,
}

/// What a user said about threads within a stretch of the log: of each thread the newest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadChanges {
    /// The newest first.
    pub changes: Vec<ThreadChange>,
    /// There is more; it lies at or before this position.
    pub rest: Option<Pos>,
}

/// One change of a subscription, being planned.
struct Plan<'a> {
    w: &'a mut Write,
    view: View,
    root: Arc<Placed>,
    before: Option<ThreadSubRow>,
}

impl Rooms {
    /// Whether a user is subscribed to a thread: `Some(true)` if a client did that on its own.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] if the user cannot see the event that begins the thread; the
    /// store's.
    pub fn thread_subscription(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        room_id: &str,
        root: &str,
    ) -> Result<Option<bool>, RoomError> {
        let (_, root) = self.thread_root(snap, viewer, room_id, root)?;
        let row = snap.get::<ThreadSubs>(&(viewer.user, root.nid))?;
        Ok(row.filter(|row| row.subscribed).map(|row| row.automatic))
    }

    /// Subscribes a user to a thread: because they say so, or automatically because of an event
    /// in the thread. A subscription that the user made themselves stays one.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] if the user cannot see one of the events,
    /// [`RoomError::NotInThread`] if the cause is not in the thread, [`RoomError::Unsubscribed`]
    /// if the user ended their subscription after the cause, [`RoomError::InvalidParam`] if they
    /// have too many; the store's.
    pub async fn subscribe_thread(
        &self,
        viewer: Viewer,
        room_id: String,
        root: String,
        cause: Option<String>,
    ) -> Result<(), RoomError> {
        let plan = move |plan: Plan<'_>| plan.subscribe(cause);
        self.change_subscription(viewer, room_id, root, plan).await
    }

    /// Ends a user's subscription to a thread, if there is one.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] if the user cannot see the event that begins the thread; the
    /// store's.
    pub async fn unsubscribe_thread(
        &self,
        viewer: Viewer,
        room_id: String,
        root: String,
    ) -> Result<(), RoomError> {
        let plan = |plan: Plan<'_>| plan.unsubscribe();
        self.change_subscription(viewer, room_id, root, plan).await
    }

    /// What a user said about threads in `(since, upto]`, at most `limit` of it, the newest
    /// first. To go on, ask with the same `since` and with `rest` for `upto`.
    ///
    /// # Errors
    /// The store's.
    pub fn thread_changes(
        &self,
        snap: &Snapshot,
        user: UserNid,
        (since, upto): (Pos, Pos),
        limit: usize,
    ) -> Result<ThreadChanges, StoreError> {
        let range = Scan::prefix(&user)
            .after(&(user, since))
            .to(&(user, Pos(upto.0.saturating_add(1))))
            .rev();
        let mut found = ThreadChanges::default();
        for row in snap.scan::<ThreadSubAt>(range) {
            let ((_, pos), root) = row?;
            if found.changes.len() == limit {
                found.rest = Some(pos);
                break;
            }
            let Some(row) = snap.get::<ThreadSubs>(&(user, root))? else {
                continue;
            };
            found.changes.push(ThreadChange {
                room_id: self.store().room_id(row.room)?,
                root: self.store().event_id(root)?.to_string(),
                automatic: row.subscribed.then_some(row.automatic),
                pos,
            });
        }
        Ok(found)
    }

    /// Whether a user is subscribed to the thread that an event is in. `None` if it is in none,
    /// or if the user never said anything about any thread: the rules about subscriptions are
    /// then not for them, and threads notify as they do for clients that know of no
    /// subscriptions.
    ///
    /// # Errors
    /// The store's.
    pub fn follows_thread(
        &self,
        snap: &Snapshot,
        user: UserNid,
        event: &Arc<Placed>,
    ) -> Result<Option<bool>, StoreError> {
        let Some(root) = self.thread_of(snap, event)? else {
            return Ok(None);
        };
        let any = Scan::prefix(&user).limit(1);
        let any = snap.scan::<ThreadSubAt>(any).next().transpose()?;
        let (Some(_), Some(root)) = (any, self.store().event_nid(snap, &root)?) else {
            return Ok(None);
        };
        let row = snap.get::<ThreadSubs>(&(user, root))?;
        Ok(Some(row.is_some_and(|row| row.subscribed)))
    }

    fn thread_root(
        &self,
        snap: &Snapshot,
        viewer: &Viewer,
        room_id: &str,
        root: &str,
    ) -> Result<(View, Arc<Placed>), RoomError> {
        let missing = || RoomError::NotFound("There is no such thread".to_owned());
        let room = self.room_nid(snap, room_id)?.ok_or_else(missing)?;
        let mut view = self.view(snap, viewer, room)?;
        let root = view.event_by_id(root)?.ok_or_else(missing)?;
        Ok((view, root))
    }

    async fn change_subscription(
        &self,
        viewer: Viewer,
        room_id: String,
        root: String,
        plan: impl FnOnce(Plan<'_>) -> Result<(), RoomError> + Send + 'static,
    ) -> Result<(), RoomError> {
        let lane = self.inner.reads.readers.lock(viewer.user).await;
        self.write(lane, move |this| {
            this.change_subscription_now(&viewer, &room_id, &root, plan)
        })
        .await
    }

    fn change_subscription_now(
        &self,
        viewer: &Viewer,
        room_id: &str,
        root: &str,
        plan: impl FnOnce(Plan<'_>) -> Result<(), RoomError>,
    ) -> Result<Outcome<()>, StoreError> {
        let snap = self.newest();
        let mut w = self.store().write();
        let planned = self
            .thread_root(&snap, viewer, room_id, root)
            .and_then(|(view, root)| {
                let before = snap.get::<ThreadSubs>(&(viewer.user, root.nid))?;
                plan(Plan {
                    w: &mut w,
                    view,
                    root,
                    before,
                })
            });
        match planned {
            Err(RoomError::Store(error)) => Err(error),
            answer if answer.is_err() || w.is_empty() => Ok((answer, self.store().barrier())),
            answer => Ok((answer, self.store().commit(w)?)),
        }
    }
}

impl Plan<'_> {
    fn subscribe(mut self, cause: Option<String>) -> Result<(), RoomError> {
        let cause = cause.map(|cause| self.cause(&cause)).transpose()?;
        match (&self.before, &cause) {
            // What is there is at least as good.
            (Some(row), _) if row.subscribed && (!row.automatic || cause.is_some()) => {
                return Ok(());
            }
            (Some(row), Some(cause)) if !row.subscribed && cause.order().anchor <= row.pos => {
                let text = "The thread was unsubscribed from after this event";
                return Err(RoomError::Unsubscribed(text.to_owned()));
            }
            (Some(_), _) => {}
            (None, _) => self.check_room_for_one()?,
        }
        self.put(true, cause.is_some());
        Ok(())
    }

    fn unsubscribe(mut self) -> Result<(), RoomError> {
        if self.before.as_ref().is_some_and(|row| row.subscribed) {
            self.put(false, false);
        }
        Ok(())
    }

    /// The event that makes a client subscribe: one of the thread.
    fn cause(&mut self, event_id: &str) -> Result<Arc<Placed>, RoomError> {
        let missing = || RoomError::NotFound("There is no such event".to_owned());
        let event = self.view.event_by_id(event_id)?.ok_or_else(missing)?;
        let root = self.root.event.event_id();
        let of_thread = event
            .relates()
            .is_some_and(|relates| relates.kind() == RelKind::Thread && relates.parent == root);
        if of_thread {
            return Ok(event);
        }
        let text = "The event that causes a subscription must be in the thread";
        Err(RoomError::NotInThread(text.to_owned()))
    }

    fn check_room_for_one(&self) -> Result<(), RoomError> {
        let all = Scan::prefix(&self.view.reader.user).limit(SUBSCRIPTIONS_MAX);
        if self.view.snap.scan::<ThreadSubAt>(all).count() < SUBSCRIPTIONS_MAX {
            return Ok(());
        }
        Err(RoomError::InvalidParam("Too many threads".to_owned()))
    }

    fn put(&mut self, subscribed: bool, automatic: bool) {
        let user = self.view.reader.user;
        if let Some(before) = &self.before {
            self.w.delete::<ThreadSubAt>(&(user, before.pos));
        }
        let pos = self.w.log(Change::ThreadSubscription { user });
        let row = ThreadSubRow {
            room: self.view.room,
            subscribed,
            automatic,
            pos,
        };
        self.w.put::<ThreadSubs>(&(user, self.root.nid), &row);
        self.w.put::<ThreadSubAt>(&(user, pos), &self.root.nid);
    }
}

/// Takes out everything that a user said about threads.
pub(crate) fn forget_user(w: &mut Write, user: UserNid) {
    w.delete_range::<ThreadSubs>(user);
    w.delete_range::<ThreadSubAt>(user);
}
