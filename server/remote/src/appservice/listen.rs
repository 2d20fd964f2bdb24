//! What no change queues for application services: receipts, typing, presence, messages to
//! devices, and what encryption needs (application service API, "Pushing ephemeral data"; MSC2409,
//! MSC3202, MSC4203).
//!
//! A follower of the log queues it, with its cursor in the same batch; typing and presence are
//! only in memory, and are told as they are while it runs. It follows nothing while no
//! application service wants any of this.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skerry_account::EphemeralPos;
use skerry_account::appservice::Appservice;
use skerry_core::{Membership, Pos, RoomNid, UserNid};
use skerry_room::Item;
use skerry_store::outbox::{self, Dest};
use skerry_store::{Change, Snapshot, StoreError, blocking, follow};
use tokio::sync::watch;

use super::{Bridges, Inner};

/// The name of the follower.
const FOLLOWER: &str = "appservices";
/// Facts of the log gone through in one batch.
const FACTS: usize = 1_000;
/// So much further than its stored cursor the follower may be before it stores it anew though
/// there was nothing to queue.
const BEHIND_MAX: u64 = 10_000;

/// How long it waits after the store failed.
const PAUSE: Duration = Duration::from_secs(30);

/// How far the follower has come.
struct Place {
    log: Pos,
    /// The cursor in the store.
    stored: Pos,
    typing: u64,
    presence: EphemeralPos,
}

/// What is to be queued, by application service.
#[derive(Default)]
struct News(Vec<(Arc<Appservice>, Item)>);

impl Bridges {
    /// Follows until `stop` becomes true. To be run once.
    pub async fn listen(self, mut stop: watch::Receiver<bool>) {
        let accounts = &self.inner.accounts;
        let mut head = accounts.store().published();
        let mut typing = self.inner.rooms.typing().watch();
        let mut presence = accounts.ephemeral().subscribe();
        let mut list = accounts.appservices_bell();
        let mut place: Option<Place> = None;
        while !*stop.borrow() {
            head.borrow_and_update();
            typing.borrow_and_update();
            presence.borrow_and_update();
            list.borrow_and_update();
            let inner = self.inner.clone();
            let before = place.take();
            let moved = blocking(move || inner.advance(before)).await;
            match moved {
                Ok(Ok((now, more))) => {
                    place = now;
                    if more {
                        continue;
                    }
                }
                Ok(Err(StoreError::Closed)) | Err(StoreError::Closed) => return,
                Ok(Err(error)) | Err(error) => {
                    tracing::warn!(%error, "what application services want has to wait");
                    let stopping = stop.wait_for(|stop| *stop);
                    let _ = tokio::time::timeout(PAUSE, stopping).await;
                    continue;
                }
            }
            let wanted = place.is_some();
            tokio::select! {
                open = head.changed(), if wanted => if open.is_err() { return },
                _ = typing.changed(), if wanted => {}
                _ = presence.changed(), if wanted => {}
                open = list.changed() => match open {
                    // One that was registered anew may be elsewhere now.
                    Ok(()) => self.inner.reached_all(),
                    Err(_) => return,
                },
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }
}

impl Inner {
    /// Goes on from where it was, or begins; none while nobody wants it. Also whether there is
    /// more.
    fn advance(&self, place: Option<Place>) -> Result<(Option<Place>, bool), StoreError> {
        let store = self.accounts.store();
        let snap = store.snapshot();
        let known = self.accounts.appservices();
        let wants = |one: &Arc<Appservice>| {
            one.listens() && (one.registration.ephemeral || one.registration.crypto)
        };
        if !known.all().iter().any(wants) {
            if follow::cursor(&snap, FOLLOWER)?.is_some() {
                let mut w = store.write();
                follow::forget(&mut w, FOLLOWER);
                // Not waited for: should it be lost, it is done again.
                store.commit(w).map(drop)?;
            }
            return Ok((None, false));
        }
        let mut place = match place {
            Some(place) => place,
            None => self.begin(&snap)?,
        };
        let mut news = News::default();
        let more = self.follow_log(&snap, &mut place, &mut news)?;
        self.follow_memory(&snap, &mut place, &mut news)?;
        if !news.0.is_empty() || place.log.0 > place.stored.0 + BEHIND_MAX {
            let mut w = store.write();
            for (one, item) in &news.0 {
                let dest = Dest::Appservice(one.registration.id.clone());
                outbox::queue(&mut w, &dest, &item.encode());
            }
            follow::set_cursor(&mut w, FOLLOWER, place.log);
            store.commit(w).map(drop)?;
            place.stored = place.log;
        }
        Ok((Some(place), more))
    }

    fn begin(&self, snap: &Snapshot) -> Result<Place, StoreError> {
        let store = self.accounts.store();
        let log = match follow::cursor(snap, FOLLOWER)? {
            Some(pos) => pos,
            None => {
                let mut w = store.write();
                follow::set_cursor(&mut w, FOLLOWER, snap.head());
                store.commit(w).map(drop)?;
                snap.head()
            }
        };
        Ok(Place {
            log,
            stored: log,
            typing: self.rooms.typing().pos(),
            presence: self.accounts.ephemeral().current(),
        })
    }

    /// Goes through what the log says; whether there is more of it.
    fn follow_log(
        &self,
        snap: &Snapshot,
        place: &mut Place,
        news: &mut News,
    ) -> Result<bool, StoreError> {
        let head = snap.head();
        if place.log >= head {
            return Ok(false);
        }
        let Some(rows) = snap.changes(place.log, head)? else {
            place.log = head;
            return Ok(false);
        };
        let mut facts = 0;
        for row in rows {
            let (pos, fact) = row?;
            self.follow_fact(snap, pos, &fact, news)?;
            place.log = pos;
            facts += 1;
            if facts == FACTS {
                return Ok(true);
            }
        }
        place.log = head;
        Ok(false)
    }

    fn follow_fact(
        &self,
        snap: &Snapshot,
        pos: Pos,
        fact: &Change,
        news: &mut News,
    ) -> Result<(), StoreError> {
        match fact {
            Change::Receipt {
                room,
                user,
                private,
            } => self.receipt(snap, (*room, pos), *user, *private, news),
            Change::ToDevice { user, device } => {
                let item = Item::ToDevice(user.0, device.clone(), pos.0);
                self.own(*user, |one| one.registration.ephemeral, &item, news)
            }
            Change::Keys { user, device } => {
                let item = Item::Keys(user.0, device.clone());
                self.own(*user, |one| one.registration.crypto, &item, news)
            }
            Change::DeviceList { user } => self.device_list(snap, *user, news),
            Change::Member {
                room,
                user,
                membership,
            } => self.member(snap, *room, *user, *membership, news),
            _ => Ok(()),
        }
    }

    /// Something of a user, for the application services whose user it is.
    fn own(
        &self,
        user: UserNid,
        wants: impl Fn(&Appservice) -> bool,
        item: &Item,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let known = self.accounts.appservices();
        let listening = known.all().iter().filter(|one| one.listens() && wants(one));
        let listening: Vec<_> = listening.collect();
        if listening.is_empty() {
            return Ok(());
        }
        let user_id = self.accounts.store().user_id(user)?;
        for one in listening.into_iter().filter(|one| one.has_user(&user_id)) {
            news.0.push((one.clone(), item.clone()));
        }
        Ok(())
    }

    /// The application services that hear of a room's ephemeral things.
    fn ears(&self, snap: &Snapshot, room: RoomNid) -> Result<Vec<Arc<Appservice>>, StoreError> {
        let mut found = self.rooms.appservices_of(snap, room)?;
        found.retain(|one| one.registration.ephemeral);
        Ok(found)
    }

    /// A receipt; a private one only for whose user it is.
    fn receipt(
        &self,
        snap: &Snapshot,
        (room, pos): (RoomNid, Pos),
        user: UserNid,
        private: bool,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let ears = self.ears(snap, room)?;
        if ears.is_empty() {
            return Ok(());
        }
        let Some(json) = self.rooms.receipt_for_appservices(snap, room, pos)? else {
            return Ok(());
        };
        let user_id = self.accounts.store().user_id(user)?;
        for one in ears {
            if !private || one.has_user(&user_id) {
                news.0.push((one, Item::Ephemeral(json.clone())));
            }
        }
        Ok(())
    }

    /// Those who encrypt for a user: it is theirs, or shares a room with one of theirs.
    fn encrypting(
        &self,
        snap: &Snapshot,
        user: UserNid,
    ) -> Result<Vec<Arc<Appservice>>, StoreError> {
        let known = self.accounts.appservices();
        let wants = |one: &&Arc<Appservice>| one.listens() && one.registration.crypto;
        let mut wanting: Vec<_> = known.all().iter().filter(wants).cloned().collect();
        if wanting.is_empty() {
            return Ok(wanting);
        }
        let near = self.near(snap, user)?;
        let user_id = self.accounts.store().user_id(user)?;
        wanting.retain(|one| one.has_user(&user_id) || near.contains(&one.id));
        Ok(wanting)
    }

    /// The ids of the application services that something in any of a user's rooms concerns.
    fn near(&self, snap: &Snapshot, user: UserNid) -> Result<BTreeSet<Arc<str>>, StoreError> {
        let mut near = BTreeSet::new();
        for (room, member) in self.rooms.rooms_of(snap, user)? {
            if member.membership == Membership::Join {
                let concerned = self.rooms.appservices_of(snap, room)?;
                near.extend(concerned.into_iter().map(|one| one.id.clone()));
            }
        }
        Ok(near)
    }

    fn device_list(
        &self,
        snap: &Snapshot,
        user: UserNid,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let encrypting = self.encrypting(snap, user)?;
        if encrypting.is_empty() {
            return Ok(());
        }
        let user_id = self.accounts.store().user_id(user)?;
        for one in encrypting {
            let item = Item::DeviceList(user_id.to_string(), true);
            news.0.push((one, item));
        }
        Ok(())
    }

    /// Who joins a room with an encrypting application service has devices that it does not know
    /// yet; those of who leaves the last such room it need not follow any more.
    fn member(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        user: UserNid,
        now: Membership,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let mut here = self.rooms.appservices_of(snap, room)?;
        here.retain(|one| one.registration.crypto);
        let joined = match now {
            Membership::Join => true,
            Membership::Leave | Membership::Ban => false,
            _ => return Ok(()),
        };
        if here.is_empty() {
            return Ok(());
        }
        let user_id = self.accounts.store().user_id(user)?;
        let near = match joined {
            true => BTreeSet::new(),
            false => self.near(snap, user)?,
        };
        for one in here {
            if !one.has_user(&user_id) && !near.contains(&one.id) {
                let item = Item::DeviceList(user_id.to_string(), joined);
                news.0.push((one, item));
            }
        }
        Ok(())
    }

    /// Typing and presence: only for who can be reached, since they are of no use later.
    fn follow_memory(
        &self,
        snap: &Snapshot,
        place: &mut Place,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let typing = self.rooms.typing();
        let (pos, presence) = (typing.pos(), self.accounts.ephemeral().current());
        for room in typing.rooms_since(place.typing) {
            let ears = self.reachable(snap, self.ears(snap, room)?)?;
            if ears.is_empty() {
                continue;
            }
            let json = self.typing_event(room)?;
            news.extend(ears, Item::Ephemeral(json));
        }
        for view in self.accounts.presence().changed_since(place.presence) {
            let ears = self.presence_ears(snap, view.user)?;
            if ears.is_empty() {
                continue;
            }
            let json = self.presence_event(&view)?;
            news.extend(ears, Item::Ephemeral(json));
        }
        (place.typing, place.presence) = (pos, presence);
        Ok(())
    }

    /// Those who know a user: it is theirs, or shares a room that concerns them.
    fn presence_ears(
        &self,
        snap: &Snapshot,
        user: UserNid,
    ) -> Result<Vec<Arc<Appservice>>, StoreError> {
        let known = self.accounts.appservices();
        let wants = |one: &&Arc<Appservice>| one.listens() && one.registration.ephemeral;
        let ears = known.all().iter().filter(wants).cloned().collect();
        let mut ears = self.reachable(snap, ears)?;
        if ears.is_empty() {
            return Ok(ears);
        }
        let near = self.near(snap, user)?;
        let user_id = self.accounts.store().user_id(user)?;
        ears.retain(|one| one.has_user(&user_id) || near.contains(&one.id));
        Ok(ears)
    }

    fn reachable(
        &self,
        snap: &Snapshot,
        ears: Vec<Arc<Appservice>>,
    ) -> Result<Vec<Arc<Appservice>>, StoreError> {
        let mut found = Vec::with_capacity(ears.len());
        for one in ears {
            let dest = Dest::Appservice(one.registration.id.clone());
            let standing = outbox::standing(snap, &dest)?;
            if standing.is_none_or(|standing| standing.failures == 0) {
                found.push(one);
            }
        }
        Ok(found)
    }

    fn typing_event(&self, room: RoomNid) -> Result<String, StoreError> {
        let store = self.accounts.store();
        let mut user_ids = Vec::new();
        for user in self.rooms.typing().since(room, 0).unwrap_or_default() {
            user_ids.push(Value::from(&*store.user_id(user)?));
        }
        let event = json!({
            "type": "m.typing",
            "room_id": &*store.room_id(room)?,
            "content": { "user_ids": user_ids },
        });
        Ok(event.to_string())
    }

    fn presence_event(&self, view: &skerry_account::PresenceView) -> Result<String, StoreError> {
        let mut content = json!({
            "presence": view.state.name(),
            "currently_active": view.currently_active,
        });
        if let Some(fields) = content.as_object_mut() {
            if let Some(ago) = view.last_active_ago_ms {
                fields.insert("last_active_ago".to_owned(), ago.into());
            }
            if let Some(words) = &view.status_msg {
                fields.insert("status_msg".to_owned(), words.as_str().into());
            }
        }
        let sender = self.accounts.store().user_id(view.user)?;
        let event = json!({ "type": "m.presence", "sender": &*sender, "content": content });
        Ok(event.to_string())
    }
}

impl News {
    fn extend(&mut self, ears: Vec<Arc<Appservice>>, item: Item) {
        self.0
            .extend(ears.into_iter().map(|one| (one, item.clone())));
    }
}
