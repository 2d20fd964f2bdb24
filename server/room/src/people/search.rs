//! Finding people.

use std::collections::{BTreeSet, HashMap, HashSet};

use skerry_account::user;
use skerry_core::fold::{fold, words};
use skerry_core::{Membership, RoomNid, UserNid, names};
use skerry_store::schema::directory::{People, Person, PersonWords};
use skerry_store::schema::room::MemberTable;
use skerry_store::{Scan, Snapshot, StoreError};

use crate::{RoomError, Rooms, Who};

/// Longest term, in bytes; what is behind is not looked at.
const MAX_TERM_BYTES: usize = 512;
/// Most words of a term that are looked at.
const MAX_TERM_WORDS: usize = 8;
/// Most rows of words that one search reads.
const MAX_ROWS: usize = 20_000;
/// Most people that one search looks at more closely.
const MAX_PEOPLE: usize = 3_000;

/// Somebody who was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The full user id.
    pub user_id: String,
    /// What they call themselves.
    pub display_name: Option<String>,
    /// Their picture, an `mxc:` URI.
    pub avatar_url: Option<String>,
}

/// People who were found, the best fitting first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundPeople {
    /// They.
    pub people: Vec<Found>,
    /// There are more.
    pub limited: bool,
}

/// What is searched for.
struct Term {
    /// The user id it may be.
    id: Option<String>,
    /// Its folded words, the longest first.
    words: Vec<String>,
}

/// How well a person fits; less is better.
type Rank = (bool, usize, bool, String);

/// Whom the asking user may know of.
struct Sight<'a> {
    rooms: &'a Rooms,
    snap: &'a Snapshot,
    asker: UserNid,
    own: HashSet<RoomNid>,
    open: HashMap<RoomNid, bool>,
}

impl Rooms {
    /// People whose id or name fits a term, and whom the user may know of: who shares a room with
    /// them, or is in a room of ours that is open to all.
    ///
    /// # Errors
    /// The store's.
    pub async fn search_people(
        &self,
        who: Who,
        term: &str,
        limit: usize,
    ) -> Result<FoundPeople, RoomError> {
        self.follow_people().await?;
        let term = Term::of(term, self.server_name());
        self.query(move |this, snap| Ok(this.find_people(snap, who.user, &term, limit)?))
            .await
    }

    fn find_people(
        &self,
        snap: &Snapshot,
        asker: UserNid,
        term: &Term,
        limit: usize,
    ) -> Result<FoundPeople, StoreError> {
        let mut sight = Sight::of(self, snap, asker)?;
        let (users, all) = self.candidates(snap, term, &sight.own)?;
        let mut ranked = self.fitting(snap, term, users)?;
        ranked.sort_by(|a, b| a.0.cmp(&b.0));
        let mut found = FoundPeople {
            limited: !all,
            ..FoundPeople::default()
        };
        for ((_, _, _, user_id), user, person) in ranked {
            if !sight.shows(user, &user_id)? {
                continue;
            }
            if found.people.len() >= limit {
                found.limited = true;
                break;
            }
            found.people.push(Found {
                user_id,
                display_name: person.display_name,
                avatar_url: person.avatar_url,
            });
        }
        Ok(found)
    }

    /// Whether this is the own user of an application service.
    fn is_bot(&self, user_id: &str) -> bool {
        let services = self.inner.accounts.appservices();
        services.all().iter().any(|one| *one.sender == *user_id)
    }

    /// Who may fit a term, and whether these are all. Where a word is that of too many people,
    /// those in rooms of the asking user's own are looked at all the same.
    fn candidates(
        &self,
        snap: &Snapshot,
        term: &Term,
        own: &HashSet<RoomNid>,
    ) -> Result<(BTreeSet<UserNid>, bool), StoreError> {
        let mut users = BTreeSet::new();
        if let Some(word) = term.words.first() {
            let from = Scan::all().from(&(word.clone(), UserNid(0)));
            for row in snap.scan::<PersonWords>(from.limit(MAX_ROWS)) {
                let ((found, user), ()) = row?;
                if !found.starts_with(word.as_str()) || users.len() >= MAX_PEOPLE {
                    break;
                }
                users.insert(user);
            }
        }
        let all = users.len() < MAX_PEOPLE;
        if !all {
            let mut left = MAX_ROWS;
            for room in own {
                for row in snap.scan::<MemberTable>(Scan::prefix(room).limit(left)) {
                    let ((_, user), member) = row?;
                    left -= 1;
                    if member.membership == Membership::Join {
                        users.insert(user);
                    }
                }
            }
        }
        if let Some(id) = &term.id {
            users.extend(self.store().user_nid(id)?);
        }
        Ok((users, all))
    }

    /// Those who do fit a term, each with a rank.
    fn fitting(
        &self,
        snap: &Snapshot,
        term: &Term,
        users: BTreeSet<UserNid>,
    ) -> Result<Vec<(Rank, UserNid, Person)>, StoreError> {
        let users: Vec<UserNid> = users.into_iter().collect();
        let people = snap.get_many::<People>(&users)?;
        let mut fitting = Vec::new();
        for (user, person) in users.into_iter().zip(people) {
            let Some(person) = person else { continue };
            let fits = term.fits(&person);
            if fits.is_none() && term.id.is_none() {
                continue;
            }
            let id = self.store().user_id(user)?;
            let is_exact = term.id.as_deref() == Some(&*id);
            if let Some(inexact) = fits.or(is_exact.then_some(0)) {
                let nameless = person.display_name.is_none();
                let rank = (!is_exact, inexact, nameless, id.to_string());
                fitting.push((rank, user, person));
            }
        }
        Ok(fitting)
    }
}

impl Term {
    fn of(text: &str, server_name: &str) -> Term {
        let text = text.trim();
        let end = text.floor_char_boundary(MAX_TERM_BYTES);
        let text = text.get(..end).unwrap_or_default();
        let id = match text.contains(':') {
            true => Some(text.to_owned()),
            false => Some(format!("@{}:{server_name}", text.trim_start_matches('@'))),
        };
        // Of a user id, or the beginning of one, the local part is what people are found by.
        let named = match text.strip_prefix('@') {
            Some(rest) => rest.split_once(':').map_or(rest, |(local, _)| local),
            None => text,
        };
        let folded = fold(named);
        let mut found: Vec<String> = words(&folded)
            .take(MAX_TERM_WORDS)
            .map(str::to_owned)
            .collect();
        found.sort_by_key(|word| std::cmp::Reverse(word.len()));
        Term {
            id: id
                .filter(|id| names::is_user_id(id))
                .map(|id| id.to_lowercase()),
            words: found,
        }
    }

    /// Whether each word begins one of the person's; and how many of them are not whole words.
    fn fits(&self, person: &Person) -> Option<usize> {
        if self.words.is_empty() {
            return None;
        }
        let mut inexact = 0;
        for word in &self.words {
            let mut own = person
                .words
                .iter()
                .filter(|own| own.starts_with(word.as_str()));
            let first = own.next()?;
            // The shortest of those that begin with the word comes first in order.
            inexact += usize::from(first != word);
        }
        Some(inexact)
    }
}

impl<'a> Sight<'a> {
    fn of(rooms: &'a Rooms, snap: &'a Snapshot, asker: UserNid) -> Result<Self, StoreError> {
        let mut own = HashSet::new();
        for (room, member) in rooms.rooms_of(snap, asker)? {
            if member.membership == Membership::Join {
                own.insert(room);
            }
        }
        Ok(Sight {
            rooms,
            snap,
            asker,
            own,
            open: HashMap::new(),
        })
    }

    fn shows(&mut self, person: UserNid, user_id: &str) -> Result<bool, StoreError> {
        let rooms = self.rooms;
        // Of users of other servers it is known only where they are.
        if rooms.is_local(user_id) && !user::is_listable(self.snap, person)?
            || rooms.speaks_for_server(user_id)
            || rooms.is_bot(user_id)
        {
            return Ok(false);
        }
        if self.rooms.inner.config.search_all_users {
            return Ok(true);
        }
        for (room, member) in self.rooms.rooms_of(self.snap, person)? {
            if member.membership != Membership::Join {
                continue;
            }
            let shared = person != self.asker && self.own.contains(&room);
            if shared || self.is_open(room)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_open(&mut self, room: RoomNid) -> Result<bool, StoreError> {
        if let Some(open) = self.open.get(&room) {
            return Ok(*open);
        }
        let open = match self.rooms.head(self.snap, room)? {
            // What a room is where nobody of ours is any more is not known.
            Some(head) if head.joined > head.remote => {
                self.rooms.card(self.snap, room, &head)?.is_open()
            }
            Some(_) => false,
            None => false,
        };
        self.open.insert(room, open);
        Ok(open)
    }
}
