//! The directory: rooms that this server shows to everybody who looks.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use skerry_core::RoomNid;
use skerry_core::fold::fold;
use skerry_store::schema::directory::NetworkDirectory;
use skerry_store::schema::room as t;
use skerry_store::schema::room::DirectoryRow;
use skerry_store::{Scan, Snapshot, StoreError};

use crate::{PublicRoom, RoomError, Rooms, Who};

/// Longest search term, in bytes; what is behind is not looked at.
const MAX_TERM_BYTES: usize = 1_024;

/// Which rooms of the directory are wanted.
#[derive(Clone, Debug, Default)]
pub struct DirectoryAsk {
    /// Words that have to occur in name, topic or alias.
    pub term: Option<String>,
    /// Kinds of rooms wanted; `None` in the list is a room without a kind. None: all.
    pub room_types: Option<Vec<Option<String>>>,
    /// Which lists are looked at.
    pub network: Network,
    /// Only rooms that users of other servers can be in: another server asks.
    pub federated: bool,
    /// Where to begin; none: with the first room.
    pub from: Option<DirectoryPlace>,
    /// The most rooms to give.
    pub limit: usize,
}

/// Which lists of rooms are looked at: this server's own, or those that application services keep
/// for the networks they bridge to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// This server's own.
    #[default]
    Own,
    /// All.
    All,
    /// That of one network, by its instance id.
    One(String),
}

/// A place in the directory, and the direction in which it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryPlace {
    /// Towards the beginning.
    pub backwards: bool,
    /// Members of the room beside the place.
    pub joined: u32,
    /// That room.
    pub room: RoomNid,
}

/// As a token for those who turn pages: the direction, and the room beside the place.
impl fmt::Display for DirectoryPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.backwards { 'b' } else { 'f' };
        write!(f, "{direction}{}_{}", self.joined, self.room.0)
    }
}

/// What is no token of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no place in the directory")]
pub struct NoPlace;

impl FromStr for DirectoryPlace {
    type Err = NoPlace;

    fn from_str(token: &str) -> Result<DirectoryPlace, NoPlace> {
        let (backwards, rest) = match (token.strip_prefix('f'), token.strip_prefix('b')) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(NoPlace),
        };
        let (joined, room) = rest.split_once('_').ok_or(NoPlace)?;
        Ok(DirectoryPlace {
            backwards,
            joined: joined.parse().map_err(|_| NoPlace)?,
            room: RoomNid(room.parse().map_err(|_| NoPlace)?),
        })
    }
}

/// A part of the directory.
#[derive(Clone, Debug, Default)]
pub struct DirectoryPage {
    /// The rooms, those with most members first.
    pub rooms: Vec<PublicRoom>,
    /// How many rooms there are in all.
    pub total: usize,
    /// Where the next part begins, if there is more.
    pub next: Option<DirectoryPlace>,
    /// Where the part before ends, if there is one.
    pub prev: Option<DirectoryPlace>,
}

/// Rooms with most members come first.
type Rank = (Reverse<u32>, RoomNid);

impl DirectoryPlace {
    fn rank(self) -> Rank {
        (Reverse(self.joined), self.room)
    }

    fn at(rank: Rank, backwards: bool) -> DirectoryPlace {
        DirectoryPlace {
            backwards,
            joined: rank.0.0,
            room: rank.1,
        }
    }
}

impl Rooms {
    /// Whether a room is listed.
    ///
    /// # Errors
    /// `NotFound`, or the store's.
    pub async fn is_listed(&self, room_id: &str) -> Result<bool, RoomError> {
        let room = self.known(room_id)?;
        self.query(move |this, snap| {
            if this.room_row(snap, room)?.is_none() {
                return Err(RoomError::NotFound("Unknown room".into()));
            }
            Ok(snap.has::<t::Directory>(&room)?)
        })
        .await
    }

    /// Whether a room is listed, on a snapshot.
    ///
    /// # Errors
    /// The store's.
    pub fn is_in_directory(&self, snap: &Snapshot, room: RoomNid) -> Result<bool, StoreError> {
        snap.has::<t::Directory>(&room)
    }

    /// Lists a room, or takes it out; for those who may set its canonical alias, and admins.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`, or the store's.
    pub async fn list(&self, who: Who, room_id: &str, listed: bool) -> Result<(), RoomError> {
        who.not_a_guest()?;
        let room = self.known(room_id)?;
        self.change(room, move |change| {
            let power = change.rooms.power(&change.snap, &mut change.tip)?;
            let in_it = change.rooms.is_joined(&change.snap, room, who.user)?;
            let may = in_it && power.may_send(&who.user_id, "m.room.canonical_alias", true);
            if !may && !who.admin {
                let text = "You may not change whether this room is listed";
                return Err(RoomError::Forbidden(text.into()));
            }
            if listed {
                let row = DirectoryRow {
                    by: who.user,
                    at_ms: change.now_ms,
                };
                change.w.put::<t::Directory>(&room, &row);
            } else {
                change.w.delete::<t::Directory>(&room);
            }
            Ok(())
        })
        .await
    }

    /// Lists a room in the list of a network, by its instance id, or takes it out. Only for the
    /// application service that keeps the list.
    ///
    /// # Errors
    /// `NotFound`, or the store's.
    pub async fn list_in_network(
        &self,
        instance: String,
        room_id: &str,
        listed: bool,
    ) -> Result<(), RoomError> {
        let room = self.known(room_id)?;
        self.change(room, move |change| {
            if listed {
                change.w.put::<NetworkDirectory>(&(instance, room), &());
            } else {
                change.w.delete::<NetworkDirectory>(&(instance, room));
            }
            Ok(())
        })
        .await
    }

    /// A part of the directory. A place stays good when rooms come and go.
    ///
    /// # Errors
    /// The store's.
    pub async fn public_rooms(&self, ask: DirectoryAsk) -> Result<DirectoryPage, RoomError> {
        self.query(move |this, snap| {
            let ranks = this.listed(snap, &ask)?;
            let page = part(&ranks, &ask);
            let (Some(first), Some(last)) = (page.first(), page.last()) else {
                return Ok(DirectoryPage {
                    total: ranks.len(),
                    ..DirectoryPage::default()
                });
            };
            let before = ranks.first().is_some_and(|rank| rank < first);
            let behind = ranks.last().is_some_and(|rank| rank > last);
            let mut rooms = Vec::with_capacity(page.len());
            for (_, room) in page {
                rooms.extend(this.public_room(snap, *room)?);
            }
            Ok(DirectoryPage {
                rooms,
                total: ranks.len(),
                next: behind.then(|| DirectoryPlace::at(*last, false)),
                prev: before.then(|| DirectoryPlace::at(*first, true)),
            })
        })
        .await
    }

    /// The rooms asked for, in order.
    fn listed(&self, snap: &Snapshot, ask: &DirectoryAsk) -> Result<Vec<Rank>, StoreError> {
        let term = ask.term.as_deref().unwrap_or_default();
        let term = term.get(..term.floor_char_boundary(MAX_TERM_BYTES));
        let term = fold(term.unwrap_or_default());
        let mut ranks = Vec::new();
        for room in self.in_lists(snap, &ask.network)? {
            let (Some(row), Some(head)) = (self.room_row(snap, room)?, self.head(snap, room)?)
            else {
                continue;
            };
            let kinds = ask.room_types.as_ref();
            if kinds.is_some_and(|kinds| !kinds.contains(&row.room_type)) {
                continue;
            }
            if ask.federated && !self.federates(snap, room)? {
                continue;
            }
            if term.is_empty() || self.card(snap, room, &head)?.folded.contains(&term) {
                ranks.push((Reverse(head.joined), room));
            }
        }
        ranks.sort_unstable();
        Ok(ranks)
    }
}

impl Rooms {
    /// The rooms in some of the lists, each once. What an application service has listed counts
    /// while it is registered.
    fn in_lists(
        &self,
        snap: &Snapshot,
        network: &Network,
    ) -> Result<BTreeSet<RoomNid>, StoreError> {
        let mut rooms = BTreeSet::new();
        if matches!(network, Network::Own | Network::All) {
            for row in snap.scan::<t::Directory>(Scan::all()) {
                rooms.insert(row?.0);
            }
        }
        let of_networks = match network {
            Network::Own => return Ok(rooms),
            Network::All => Scan::all(),
            Network::One(instance) => Scan::prefix(instance),
        };
        let services = self.inner.accounts.appservices();
        let counts = |instance: &str| {
            let rest = |id: &str| instance.strip_prefix(id).map(|rest| rest.starts_with('|'));
            services.all().iter().any(|one| rest(&one.id) == Some(true))
        };
        for row in snap.scan::<NetworkDirectory>(of_networks) {
            let ((instance, room), ()) = row?;
            if counts(&instance) {
                rooms.insert(room);
            }
        }
        Ok(rooms)
    }
}

/// The ranks of one part.
fn part<'a>(ranks: &'a [Rank], ask: &DirectoryAsk) -> &'a [Rank] {
    let (first, end) = match ask.from {
        None => (0, ask.limit),
        Some(place) if place.backwards => {
            let end = ranks.partition_point(|rank| *rank < place.rank());
            (end.saturating_sub(ask.limit), end)
        }
        Some(place) => {
            let first = ranks.partition_point(|rank| *rank <= place.rank());
            (first, first.saturating_add(ask.limit))
        }
    };
    ranks.get(first..end.min(ranks.len())).unwrap_or_default()
}
