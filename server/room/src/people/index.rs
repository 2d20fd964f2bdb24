//! The words of people's names: a follower of the log that looks at profiles, and at what users of
//! other servers are called in the rooms they share with us.
//!
//! It can be made anew at any time from the accounts and rooms: that is what happens where its
//! cursor is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use serde::Deserialize;
use skerry_account::profile::{self, Face};
use skerry_account::user;
use skerry_core::fold::{fold, is_unspaced, words};
use skerry_core::{Membership, Pos, RoomNid, UserNid};
use skerry_store::schema::directory::{People, Person, PersonWords};
use skerry_store::schema::room as t;
use skerry_store::{Change, Scan, Snapshot, StoreError, Write, blocking, follow};

use crate::{RoomError, Rooms};

/// The name of the follower.
const FOLLOWER: &str = "directory";
/// Facts that are read at once.
const BATCH: usize = 4_000;
/// Facts after which the cursor is stored although none of them mattered.
const STRIDE: u64 = 1_000;
/// People written at once.
const CHUNK: usize = 1_000;
/// Most words of one person.
const MAX_WORDS: usize = 64;
/// Longest word, in bytes; the rest is cut off.
const MAX_WORD_BYTES: usize = 64;
/// Longest name or picture of another server's user that is shown, in bytes.
const MAX_FACE_BYTES: usize = 1_024;

/// What happened that names people.
#[derive(Default)]
struct News {
    /// Whose profiles changed.
    changed: BTreeSet<UserNid>,
    /// Members who came, or call themselves otherwise, and where.
    members: BTreeMap<UserNid, RoomNid>,
    /// Rooms that somebody of this server came into: there may be others that nobody knew.
    rooms: BTreeSet<RoomNid>,
}

impl Rooms {
    /// Brings the directory of people up to date with what is published.
    ///
    /// # Errors
    /// The store's; the rest is done the next time.
    pub async fn follow_people(&self) -> Result<(), RoomError> {
        let seen = &self.inner.lookups.people_seen;
        if seen.load(Ordering::Acquire) >= self.store().snapshot().head().0 {
            return Ok(());
        }
        let lane = self.inner.lookups.people.lock(()).await;
        let this = self.clone();
        Ok(blocking(move || {
            let _lane = lane;
            this.catch_up()
        })
        .await??)
    }

    fn catch_up(&self) -> Result<(), StoreError> {
        loop {
            let snap = self.store().snapshot();
            let Some(cursor) = follow::cursor(&snap, FOLLOWER)? else {
                self.index_everybody(&snap)?;
                continue;
            };
            let seen = &self.inner.lookups.people_seen;
            let since = Pos(seen.load(Ordering::Acquire)).max(cursor);
            let (news, upto) = self.news(&snap, since)?;
            let found = self.take_in(&snap, news)?;
            if found || upto.0.saturating_sub(cursor.0) >= STRIDE {
                let mut w = self.store().write();
                follow::set_cursor(&mut w, FOLLOWER, upto);
                let applied = self.store().commit(w)?;
                self.store().wait_durable(&applied)?;
            }
            seen.store(upto.0, Ordering::Release);
            if upto >= snap.head() {
                return Ok(());
            }
        }
    }

    /// What the log says that names people, and up to where it was read.
    fn news(&self, snap: &Snapshot, since: Pos) -> Result<(News, Pos), StoreError> {
        let head = snap.head();
        let mut news = News::default();
        let Some(rows) = snap.changes(since, head)? else {
            // The log was cut above the cursor, which it never is while there is one.
            return Ok((news, head));
        };
        let mut upto = head;
        for (n, row) in rows.enumerate() {
            let (pos, change) = row?;
            match change {
                Change::Profile { user } => drop(news.changed.insert(user)),
                Change::Member {
                    room,
                    user,
                    membership: Membership::Join,
                } => {
                    if self.is_local(&self.store().user_id(user)?) {
                        news.rooms.insert(room);
                    } else {
                        news.members.insert(user, room);
                    }
                }
                _ => {}
            }
            if n + 1 >= BATCH {
                upto = pos;
                break;
            }
        }
        Ok((news, upto))
    }

    /// Writes what the log says; whether there was anything.
    fn take_in(&self, snap: &Snapshot, news: News) -> Result<bool, StoreError> {
        let mut people: Vec<(UserNid, Option<RoomNid>)> =
            news.changed.into_iter().map(|user| (user, None)).collect();
        let members = news.members.into_iter();
        people.extend(members.map(|(user, room)| (user, Some(room))));
        for room in news.rooms {
            people.extend(self.strangers(snap, room)?);
        }
        self.write_people(snap, &people)?;
        Ok(!people.is_empty())
    }

    /// Members of a room who are users of other servers and not known yet.
    fn strangers(
        &self,
        snap: &Snapshot,
        room: RoomNid,
    ) -> Result<Vec<(UserNid, Option<RoomNid>)>, StoreError> {
        let mut strangers = Vec::new();
        if self.head(snap, room)?.is_none_or(|head| head.remote == 0) {
            return Ok(strangers);
        }
        for user in self.joined_users(snap, room)? {
            let stranger = !self.is_local(&self.store().user_id(user)?);
            if stranger && !snap.has::<People>(&user)? {
                strangers.push((user, Some(room)));
            }
        }
        Ok(strangers)
    }

    /// Makes the directory anew.
    fn index_everybody(&self, snap: &Snapshot) -> Result<(), StoreError> {
        let mut from = None;
        loop {
            let users = user::page(snap, from, CHUNK)?;
            let people: Vec<_> = users.iter().map(|user| (*user, None)).collect();
            self.write_people(snap, &people)?;
            from = users.last().copied();
            if users.len() < CHUNK {
                break;
            }
        }
        for row in snap.scan::<t::Head>(Scan::all()) {
            let (room, _) = row?;
            self.write_people(snap, &self.strangers(snap, room)?)?;
        }
        let mut w = self.store().write();
        follow::set_cursor(&mut w, FOLLOWER, snap.head());
        let applied = self.store().commit(w)?;
        self.store().wait_durable(&applied)
    }

    /// Writes what people are found by, some at a time; of users of other servers, what they are
    /// called in a room.
    fn write_people(
        &self,
        snap: &Snapshot,
        people: &[(UserNid, Option<RoomNid>)],
    ) -> Result<(), StoreError> {
        for chunk in people.chunks(CHUNK) {
            let mut w = self.store().write();
            for (user, room) in chunk {
                let face = match room {
                    Some(room) => self.face_in(snap, *room, *user)?,
                    None => Some(profile::face(snap, *user)?),
                };
                if let Some(face) = face {
                    self.index(snap, &mut w, *user, face)?;
                }
            }
            if !w.is_empty() {
                // The cursor comes after it, and waits for both.
                let _ = self.store().commit(w)?;
            }
        }
        Ok(())
    }

    /// What a member shows of themselves in a room; nothing of who is not in it.
    fn face_in(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        user: UserNid,
    ) -> Result<Option<Face>, StoreError> {
        #[derive(Deserialize, Default)]
        struct Shown {
            #[serde(default)]
            displayname: serde_json::Value,
            #[serde(default)]
            avatar_url: serde_json::Value,
        }
        let Some(member) = self.member(snap, room, user)? else {
            return Ok(None);
        };
        let event = self.placed(snap, room, member.event)?;
        let event = event.filter(|event| event.membership() == Some(Membership::Join));
        let Some(event) = event else {
            return Ok(None);
        };
        let shown: Shown = event.event.content_as().unwrap_or_default();
        let text = |value: serde_json::Value| {
            let text = value.as_str().filter(|text| text.len() <= MAX_FACE_BYTES);
            text.map(str::to_owned)
        };
        Ok(Some(Face {
            display_name: text(shown.displayname),
            avatar_url: text(shown.avatar_url).filter(|url| url.starts_with("mxc://")),
        }))
    }

    /// Writes what one person is found by.
    fn index(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        user: UserNid,
        face: Face,
    ) -> Result<(), StoreError> {
        let before = snap.get::<People>(&user)?;
        let id = self.store().user_id(user)?;
        let name = face.display_name.as_deref().unwrap_or_default();
        let found_by = found_by(skerry_account::localpart(&id), name);
        let person = Person {
            display_name: face.display_name,
            avatar_url: face.avatar_url,
            words: found_by.iter().cloned().collect(),
        };
        if before.as_ref() == Some(&person) {
            return Ok(());
        }
        for word in before.iter().flat_map(|person| &person.words) {
            if !found_by.contains(word) {
                w.delete::<PersonWords>(&(word.clone(), user));
            }
        }
        for word in found_by {
            w.put::<PersonWords>(&(word, user), &());
        }
        w.put::<People>(&user, &person);
        Ok(())
    }
}

/// The words under which a person is found.
fn found_by(localpart: &str, name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let (localpart, name) = (fold(localpart), fold(name));
    add(&mut found, &localpart);
    for word in words(&localpart).chain(words(&name)) {
        add(&mut found, word);
        // Without spaces, a word may begin anywhere.
        for (at, c) in word.char_indices().skip(1) {
            if is_unspaced(c) {
                add(&mut found, word.get(at..).unwrap_or_default());
            }
        }
    }
    found
}

fn add(found: &mut BTreeSet<String>, word: &str) {
    let end = word.floor_char_boundary(MAX_WORD_BYTES);
    let word = word.get(..end).unwrap_or_default();
    if !word.is_empty() && found.len() < MAX_WORDS {
        found.insert(word.to_owned());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::found_by;

    #[test]
    fn words_of_a_name() {
        let found: Vec<String> = found_by("jorg_m", "Jörg Müller 田中太郎")
            .into_iter()
            .collect();
        let expected = [
            "jorg",
            "jorg_m",
            "m",
            "muller",
            "中太郎",
            "太郎",
            "田中太郎",
            "郎",
        ];
        assert_eq!(found, expected);
    }
}
