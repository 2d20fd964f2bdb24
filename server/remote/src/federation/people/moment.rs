//! What lives for a moment: who of ours types, and who is present.
//!
//! Presence is cheap here: a user's servers are found once and kept until memberships change, and
//! of one user three changes are told at once, and then one every ten seconds. What lasts (still typing, still there) is said
//! again before others stop believing it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use skerry_account::{EphemeralPos, PresenceState, PresenceView};
use skerry_core::{RoomNid, UserNid};
use skerry_store::{StoreError, blocking};
use tokio::sync::watch;

use super::{Inner, People};

/// How long changes of presence are gathered.
const GATHER: Duration = Duration::from_millis(500);
/// How often it is looked whether something has to be said again.
const AGAIN_EVERY: Duration = Duration::from_secs(5);
/// One user is told of at most this often in the long run, in ms.
const PRESENCE_EVERY_MS: u64 = 10_000;
/// So many changes of one user are told as they come.
const PRESENCE_BURST: u64 = 3;
/// After so long it is said again that somebody is there, in ms.
const PRESENCE_AGAIN_MS: u64 = 25 * 60_000;
/// After so long it is said again that somebody types, in ms.
const TYPING_AGAIN_MS: u64 = 40_000;
/// Users whose servers are kept; beyond it they are found anew.
const FANS_MAX: usize = 20_000;

/// Which servers share a room with our users.
#[derive(Default)]
pub(super) struct Fans(Mutex<HashMap<UserNid, Arc<[Arc<str>]>>>);

impl Fans {
    /// Memberships of a local user changed, or with `None` those of somebody else.
    pub(super) fn forget(&self, user: Option<UserNid>) {
        let mut fans = self.0.lock();
        match user {
            Some(user) => drop(fans.remove(&user)),
            None => fans.clear(),
        }
    }
}

/// What others were told last.
#[derive(Default)]
struct Told {
    /// Up to where changes of typing were looked at.
    typing_pos: u64,
    /// Who types, and when it was said last.
    typing: HashMap<RoomNid, HashMap<UserNid, u64>>,
    presence_pos: EphemeralPos,
    presence: HashMap<UserNid, ToldPresence>,
    /// Whose presence changed and is still to be told.
    changed: Vec<UserNid>,
}

struct ToldPresence {
    seen: (PresenceState, Option<String>, bool),
    at_ms: u64,
    /// When all that was told would have been told, had it been told one by one.
    even_ms: u64,
}

impl ToldPresence {
    /// Whether the user was told of too often to be told of again now.
    fn is_ahead(&self, now_ms: u64) -> bool {
        self.even_ms > now_ms.saturating_add((PRESENCE_BURST - 1) * PRESENCE_EVERY_MS)
    }
}

/// The content of `m.presence` about one user.
pub(super) fn presence_content(user_id: &str, view: &PresenceView) -> String {
    // The spec knows no other states between servers.
    let state = match view.state {
        PresenceState::Busy => PresenceState::Online.name(),
        other => other.name(),
    };
    let mut entry = json!({
        "user_id": user_id,
        "presence": state,
        "last_active_ago": view.last_active_ago_ms.unwrap_or(0),
        "currently_active": view.currently_active,
    });
    if let (Some(words), Some(entry)) = (&view.status_msg, entry.as_object_mut()) {
        entry.insert("status_msg".to_owned(), words.as_str().into());
    }
    json!({ "push": [entry] }).to_string()
}

impl People {
    /// Tells of typing and presence until `stop` becomes true.
    pub(super) async fn tell_moments(&self, mut stop: watch::Receiver<bool>) {
        let mut typing = self.inner.rooms.typing().watch();
        let mut presence = self.inner.accounts.ephemeral().subscribe();
        let mut told = Told {
            presence_pos: self.inner.accounts.ephemeral().current(),
            ..Told::default()
        };
        let mut gather: Option<tokio::time::Instant> = None;
        while !*stop.borrow() {
            typing.borrow_and_update();
            presence.borrow_and_update();
            let due = gather.is_none_or(|at| at <= tokio::time::Instant::now());
            if due {
                gather = None;
            }
            let inner = Arc::clone(&self.inner);
            let told_now = std::mem::take(&mut told);
            let went = blocking(move || {
                let mut told = told_now;
                let went = inner.tell_typing(&mut told);
                let went = match due {
                    true => went.and_then(|()| inner.tell_presence(&mut told)),
                    false => went,
                };
                (told, went)
            });
            match went.await {
                Ok((now, Ok(()))) => told = now,
                Ok((_, Err(StoreError::Closed))) | Err(_) => return,
                Ok((now, Err(error))) => {
                    told = now;
                    tracing::warn!(%error, "typing and presence are not told");
                }
            }
            let wait = gather.map_or(AGAIN_EVERY, |at| {
                at.saturating_duration_since(tokio::time::Instant::now())
            });
            tokio::select! {
                changed = typing.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = presence.changed(), if gather.is_none() => {
                    gather = Some(tokio::time::Instant::now() + GATHER);
                }
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }
}

impl Inner {
    /// The servers that share a room with one of ours.
    fn fans_of(&self, user: UserNid) -> Result<Arc<[Arc<str>]>, StoreError> {
        if let Some(fans) = self.fans.0.lock().get(&user) {
            return Ok(Arc::clone(fans));
        }
        let servers = self.rooms.servers_of(&self.store.snapshot(), user)?;
        let found: Arc<[Arc<str>]> = self.server_names(&servers)?.into();
        let mut fans = self.fans.0.lock();
        if fans.len() >= FANS_MAX {
            fans.clear();
        }
        fans.insert(user, Arc::clone(&found));
        Ok(found)
    }

    fn tell_typing(&self, told: &mut Told) -> Result<(), StoreError> {
        let typing = self.rooms.typing();
        let now_ms = self.clock.now_ms();
        let pos = typing.pos();
        let mut rooms = typing.rooms_since(told.typing_pos);
        told.typing_pos = pos;
        let old = told.typing.iter().filter(|(_, users)| {
            let mut since = users.values();
            since.any(|at| now_ms.saturating_sub(*at) >= TYPING_AGAIN_MS)
        });
        rooms.extend(old.map(|(room, _)| *room));
        for room in rooms {
            self.tell_typing_in(told, room, now_ms)?;
        }
        Ok(())
    }

    fn tell_typing_in(
        &self,
        told: &mut Told,
        room: RoomNid,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let mut now = Vec::new();
        for user in self.rooms.typing().since(room, 0).unwrap_or_default() {
            if self.rooms.is_local(&self.store.user_id(user)?) {
                now.push(user);
            }
        }
        let before = told.typing.remove(&room).unwrap_or_default();
        let mut after = HashMap::new();
        let mut news = Vec::new();
        for user in &now {
            match before.get(user) {
                Some(at) if now_ms.saturating_sub(*at) < TYPING_AGAIN_MS => {
                    after.insert(*user, *at);
                }
                _ => {
                    after.insert(*user, now_ms);
                    news.push((*user, true));
                }
            }
        }
        let ended = before.keys().filter(|user| !now.contains(user));
        news.extend(ended.map(|user| (*user, false)));
        if !after.is_empty() {
            told.typing.insert(room, after);
        }
        if news.is_empty() {
            return Ok(());
        }
        let servers = self.rooms.servers_in(&self.store.snapshot(), room)?;
        if servers.is_empty() {
            return Ok(());
        }
        let room_id = self.store.room_id(room)?;
        for (user, typing) in news {
            let user_id = self.store.user_id(user)?;
            let content = json!({
                "room_id": &*room_id,
                "user_id": &*user_id,
                "typing": typing,
            });
            let key = format!("{room_id} {user_id}");
            self.reach
                .send_soon(&servers, "m.typing", key, content.to_string());
        }
        Ok(())
    }

    fn tell_presence(&self, told: &mut Told) -> Result<(), StoreError> {
        let upto = self.accounts.ephemeral().current();
        let since = std::mem::replace(&mut told.presence_pos, upto);
        if !self.presence {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        // Who was told to be gone is not told of again.
        let gone = |last: &ToldPresence| last.seen.0 == PresenceState::Offline;
        let kept = |last: &ToldPresence| !gone(last) || last.even_ms > now_ms;
        told.presence.retain(|_, last| kept(last));
        let board = self.accounts.presence();
        let mut users = std::mem::take(&mut told.changed);
        users.extend(board.changed_since(since).iter().map(|view| view.user));
        // Who was told to be active and is so no more, and who is still there after a long time.
        for (user, last) in &told.presence {
            let silent_ms = now_ms.saturating_sub(last.at_ms);
            let active = last.seen.2 && silent_ms >= PRESENCE_EVERY_MS;
            if silent_ms >= PRESENCE_AGAIN_MS || (active && !board.of(*user).currently_active) {
                users.push(*user);
            }
        }
        users.sort_unstable();
        users.dedup();
        for user in users {
            let user_id = self.store.user_id(user)?;
            if self.rooms.is_local(&user_id) {
                self.tell_presence_of(told, user, &user_id, now_ms)?;
            }
        }
        Ok(())
    }

    fn tell_presence_of(
        &self,
        told: &mut Told,
        user: UserNid,
        user_id: &str,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let view = self.accounts.presence().of(user);
        let seen = (view.state, view.status_msg.clone(), view.currently_active);
        let last = told.presence.get(&user);
        if let Some(last) = last {
            let silent_ms = now_ms.saturating_sub(last.at_ms);
            if last.seen == seen && silent_ms < PRESENCE_AGAIN_MS {
                return Ok(());
            }
            if last.is_ahead(now_ms) {
                told.changed.push(user);
                return Ok(());
            }
        } else if view.state == PresenceState::Offline {
            return Ok(());
        }
        let servers = self.fans_of(user)?;
        if servers.is_empty() {
            told.presence.remove(&user);
            return Ok(());
        }
        let even_ms = last.map_or(0, |last| last.even_ms).max(now_ms) + PRESENCE_EVERY_MS;
        let now = ToldPresence {
            seen,
            at_ms: now_ms,
            even_ms,
        };
        told.presence.insert(user, now);
        let content = presence_content(user_id, &view);
        self.reach
            .send_soon(&servers, "m.presence", user_id.to_owned(), content);
        Ok(())
    }
}
