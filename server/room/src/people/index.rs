//! The words of people's names: a follower of the log that looks at profiles.
//!
//! It can be made anew at any time from the accounts: that is what happens where its cursor is
//! missing.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use skerry_account::{profile, user};
use skerry_core::fold::{fold, is_unspaced, words};
use skerry_core::{Pos, UserNid};
use skerry_store::schema::directory::{People, Person, PersonWords};
use skerry_store::{Change, Snapshot, StoreError, Write, blocking, follow};

use crate::{RoomError, Rooms};

/// The name of the follower.
const FOLLOWER: &str = "people";
/// Facts that are read at once.
const BATCH: usize = 4_000;
/// Facts after which the cursor is stored although none of them mattered.
const STRIDE: u64 = 1_000;
/// Most words of one person.
const MAX_WORDS: usize = 64;
/// Longest word, in bytes; the rest is cut off.
const MAX_WORD_BYTES: usize = 64;

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
            let (changed, upto) = news(&snap, since)?;
            let mut w = self.store().write();
            for user in &changed {
                self.index(&snap, &mut w, *user)?;
            }
            if !changed.is_empty() || upto.0.saturating_sub(cursor.0) >= STRIDE {
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

    /// Makes the directory anew.
    fn index_everybody(&self, snap: &Snapshot) -> Result<(), StoreError> {
        let mut from = None;
        loop {
            let mut w = self.store().write();
            let users = user::page(snap, from, BATCH)?;
            for user in &users {
                self.index(snap, &mut w, *user)?;
            }
            let over = users.len() < BATCH;
            if over {
                follow::set_cursor(&mut w, FOLLOWER, snap.head());
            }
            from = users.last().copied();
            let applied = self.store().commit(w)?;
            if over {
                return self.store().wait_durable(&applied);
            }
        }
    }

    /// Writes what one person is found by.
    fn index(&self, snap: &Snapshot, w: &mut Write, user: UserNid) -> Result<(), StoreError> {
        let before = snap.get::<People>(&user)?;
        let face = profile::face(snap, user)?;
        let id = self.store().user_id(user)?;
        let name = face.display_name.as_deref().unwrap_or_default();
        let found_by = found_by(skerry_account::localpart(&id), name);
        for word in before.iter().flat_map(|person| &person.words) {
            if !found_by.contains(word) {
                w.delete::<PersonWords>(&(word.clone(), user));
            }
        }
        for word in &found_by {
            w.put::<PersonWords>(&(word.clone(), user), &());
        }
        let person = Person {
            display_name: face.display_name,
            avatar_url: face.avatar_url,
            words: found_by.into_iter().collect(),
        };
        w.put::<People>(&user, &person);
        Ok(())
    }
}

/// Whose profiles changed since, and up to where the log was read.
fn news(snap: &Snapshot, since: Pos) -> Result<(BTreeSet<UserNid>, Pos), StoreError> {
    let head = snap.head();
    let Some(rows) = snap.changes(since, head)? else {
        // The log was cut above the cursor, which it never is while there is one.
        return Ok((BTreeSet::new(), head));
    };
    let mut changed = BTreeSet::new();
    let mut upto = head;
    for (n, row) in rows.enumerate() {
        let (pos, change) = row?;
        if let Change::Profile { user } = change {
            changed.insert(user);
        }
        if n + 1 >= BATCH {
            upto = pos;
            break;
        }
    }
    Ok((changed, upto))
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
