//! From what happened to what is to be sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use skerry_account::pusher::{self, PushItem, PusherKey};
use skerry_account::{AccountError, Accounts};
use skerry_core::{Clock, EventNid, Pos, RoomNid, UserNid};
use skerry_room::{Placed, Rooms, Viewer};
use skerry_store::outbox::{self, Dest};
use skerry_store::{Change, Snapshot, Store, StoreError, Write, blocking, follow};
use tokio::sync::watch;

use super::lookup::{shows_badge, viewer};

/// The follower's name in the store.
const NAME: &str = "push";
/// How many facts of the log are gone through in one commit.
const STEP: usize = 256;
/// After so many positions the cursor is stored although nothing was queued.
const SAVE_EVERY: u64 = 20_000;
/// How long to wait after the store failed.
const PAUSE: Duration = Duration::from_secs(10);
/// Events that ring: holding them back would be heard.
const RINGING: [&str; 4] = [
    "m.call.invite",
    "m.call.notify",
    "m.rtc.notification",
    "org.matrix.msc4075.rtc.notification",
];

/// Turns new events and receipts into rows of the outbox, for users who have pushers.
#[derive(Clone)]
pub struct PushFollower {
    store: Arc<Store>,
    accounts: Accounts,
    rooms: Rooms,
    clock: Arc<dyn Clock>,
}

/// How far it has come; in memory.
#[derive(Default)]
struct Progress {
    at: Pos,
    saved: Pos,
    /// Who has pushers that are in use.
    owners: BTreeSet<UserNid>,
}

impl PushFollower {
    /// A follower of everything from the first call on; to be made before anybody is served.
    ///
    /// # Errors
    /// The store's.
    pub fn new(
        accounts: Accounts,
        rooms: Rooms,
        clock: Arc<dyn Clock>,
    ) -> Result<PushFollower, StoreError> {
        let store = Arc::clone(accounts.store());
        let snap = store.snapshot();
        if follow::cursor(&snap, NAME)?.is_none() {
            let mut w = store.write();
            follow::set_cursor(&mut w, NAME, snap.head());
            let applied = store.commit(w)?;
            store.wait_durable(&applied)?;
        }
        Ok(PushFollower {
            store,
            accounts,
            rooms,
            clock,
        })
    }

    /// Follows until `stop` becomes true. To be run once. It may see a fact twice after a crash;
    /// a notification may then be sent twice, which gateways and clients recognise by its event.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let this = Arc::new(self);
        let mut head = this.store.published();
        let mut progress: Option<Progress> = None;
        while !*stop.borrow() {
            let target = *head.borrow_and_update();
            let (me, before) = (Arc::clone(&this), progress.take());
            let went = blocking(move || me.catch_up(before, target)).await;
            match went.and_then(|went| went) {
                Ok(after) => progress = Some(after),
                // The server stops.
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "notifications have to wait");
                    let stopped = stop.wait_for(|stop| *stop);
                    let _ = tokio::time::timeout(PAUSE, stopped).await;
                    continue;
                }
            }
            tokio::select! {
                changed = head.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    fn begin(&self) -> Result<Progress, StoreError> {
        let snap = self.store.snapshot();
        let at = follow::cursor(&snap, NAME)?.unwrap_or(snap.head());
        Ok(Progress {
            at,
            saved: at,
            owners: pusher::owners(&snap)?.into_iter().collect(),
        })
    }

    fn catch_up(&self, before: Option<Progress>, target: Pos) -> Result<Progress, StoreError> {
        let mut progress = match before {
            Some(progress) => progress,
            None => self.begin()?,
        };
        while progress.at < target {
            self.step(&mut progress)?;
        }
        Ok(progress)
    }

    fn step(&self, progress: &mut Progress) -> Result<(), StoreError> {
        let snap = self.store.snapshot();
        let mut w = self.store.write();
        let Some(facts) = snap.changes(progress.at, snap.head())? else {
            // The log was cut although the cursor was stored: nothing can be made of that.
            progress.at = snap.head();
            return Ok(());
        };
        let (mut count, mut at) = (0, snap.head());
        for fact in facts.take(STEP) {
            let (pos, change) = fact?;
            self.note(&snap, &mut w, progress, &change)?;
            count += 1;
            if count == STEP {
                at = pos;
            }
        }
        progress.at = at;
        let far = at.0.saturating_sub(progress.saved.0) >= SAVE_EVERY;
        if !w.is_empty() || far {
            follow::set_cursor(&mut w, NAME, at);
            let applied = self.store.commit(w)?;
            self.store.wait_durable(&applied)?;
            progress.saved = at;
        }
        Ok(())
    }

    fn note(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        progress: &mut Progress,
        change: &Change,
    ) -> Result<(), StoreError> {
        match change {
            Change::Pusher { user } => {
                let all = pusher::of_user(snap, *user)?;
                if all.iter().any(|(_, pusher)| pusher::in_use(pusher)) {
                    progress.owners.insert(*user);
                } else {
                    progress.owners.remove(user);
                }
            }
            Change::Timeline { room, event, .. } if !progress.owners.is_empty() => {
                self.note_event(snap, w, &progress.owners, *room, *event)?;
            }
            Change::Receipt { user, .. } if progress.owners.contains(user) => {
                for (key, pusher) in pusher::of_user(snap, *user)? {
                    if let Some(url) = pusher::url(&pusher)
                        && pusher::in_use(&pusher)
                        && shows_badge(&pusher)
                    {
                        let item = PushItem::Badge {
                            user: user.0,
                            key: (key.app_id, key.pushkey),
                        };
                        item.queue(w, &Dest::Push(url));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn note_event(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        owners: &BTreeSet<UserNid>,
        room: RoomNid,
        event: EventNid,
    ) -> Result<(), StoreError> {
        let Some(event) = self.rooms.placed(snap, room, event)? else {
            return Ok(());
        };
        for user in self.rooms.audience(snap, &event, owners)? {
            let viewer = viewer(&self.store, user)?;
            self.note_user(snap, w, &viewer, &event)?;
        }
        Ok(())
    }

    fn note_user(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        viewer: &Viewer,
        event: &Arc<Placed>,
    ) -> Result<(), StoreError> {
        let view = self.rooms.view(snap, viewer, event.meta.room)?;
        let Some(alert) = view.alert(event)? else {
            return Ok(());
        };
        // Also what came before the user joined counts as read.
        if view.has_read(event)? {
            return Ok(());
        }
        let user = viewer.user;
        let actions = serde_json::to_string(&alert.actions).unwrap_or_default();
        let place = (event.meta.room, event.nid);
        let now_ms = self.clock.now_ms();
        let item =
            |key: Option<&PusherKey>| PushItem::event(user, key, place, actions.clone(), now_ms);
        if self.is_held(snap, user, event)? {
            item(None).queue(w, &Dest::Held(user));
            return Ok(());
        }
        for (key, pusher) in pusher::of_user(snap, user)? {
            // What came before the pusher was set is not its business.
            let later = event.meta.order.anchor > pusher.pos;
            if let Some(url) = pusher::url(&pusher).filter(|_| later && pusher::in_use(&pusher)) {
                item(Some(&key)).queue(w, &Dest::Push(url));
            }
        }
        Ok(())
    }

    /// Whether to wait a moment for the user, who is there, to read it. What comes after something
    /// that waits waits too, so that the order stays.
    fn is_held(&self, snap: &Snapshot, user: UserNid, event: &Placed) -> Result<bool, StoreError> {
        if RINGING.contains(&event.event.event_type()) {
            return Ok(false);
        }
        let attentive = self.accounts.presence().is_attentive(user);
        Ok(attentive || !outbox::pending(snap, &Dest::Held(user), 1)?.is_empty())
    }
}

/// A failure of the accounts that is one of the store.
pub(super) fn store_error(error: AccountError) -> Option<StoreError> {
    match error {
        AccountError::Store(error) => Some(error),
        _ => None,
    }
}
