//! Rooms: the only writer of events, state and membership, and the place where they are read.
//!
//! What it does: makes rooms, sends events into them, moves people in and out of them, keeps
//! aliases and the directory, and answers what a user may see of all this. Every change is
//! planned by pure rules of `skerry-core` on one snapshot inside the room's lane, and ends in one
//! commit that holds everything it touches (`append.rs` is the list).
//!
//! What it deliberately does not know: HTTP, how other servers are reached (it never waits for
//! one, but for a room's policy server, without a lane: `policy.rs`), and what clients have already been told (that is `skerry-sync`).
//!
//! Start reading at `send.rs`: one message's way through the house. Then `change.rs` for the
//! shape of every change, `append.rs` for what a new event writes, `base.rs` for the questions
//! that reading is built from.

mod abroad;
mod alias;
mod append;
mod appservice;
mod base;
mod cache;
mod card;
mod carry;
mod change;
mod compose;
mod create;
mod delayed;
mod directory;
mod draft;
mod error;
mod federated;
mod hierarchy;
mod invited;
mod job;
mod lookup;
mod membership;
mod mentions;
mod mutual;
mod notice;
mod people;
mod policy;
pub mod read;
mod receipts;
mod redact;
mod redact_many;
mod report;
mod restricted;
mod retention;
mod search;
mod send;
mod shown;
mod state_version;
mod sticky;
mod stripped;
mod third_party;
mod thread_rule;
mod thread_subs;
mod tip;
pub mod typing;
pub mod unread;
mod upgrade;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::RwLock;
use skerry_account::Accounts;
use skerry_core::event::RuledEvent;
use skerry_core::keys::SigningKey;
use skerry_core::{Clock, DiceSource, EventNid, Pos, RoomNid, RoomVersion, StateId, UserNid};
use skerry_store::schema::room as tables;
use skerry_store::{Lanes, Scan, Store, StoreError};

pub use abroad::{PublicReceipt, TYPING_ABROAD_MS};
pub use appservice::Item;
pub use base::{Held, RoomFacts};
pub use card::PublicRoom;
pub use change::Who;
pub use create::{CreateRoom, InitialState, Preset};
pub use delayed::{
    CANCELLED_BY_STATE, DelayedAction, DelayedAsk, DelayedDraft, DelayedEvent, DelayedOrder,
    DelayedOutcome, DelayedPage, Delays, Delegated, Delegation,
};
pub use directory::{DirectoryAsk, DirectoryPage, DirectoryPlace, Network};
pub use error::RoomError;
pub use federated::{
    Arrival, Backfilled, DraftedInvite, Entered, Entry, Extremities, ForeignTemplate, Gap, Hole,
    Missing, MissingAsk, OutgoingPdu, ServedSpace, ServedState, Template, Verdict, Waiting, Wanted,
};
pub use hierarchy::{
    HIERARCHY_MAX, HierarchyAsk, HierarchyPage, HierarchyRoom, Step, Stopped, Walk,
};
pub use membership::Move;
pub use mentions::{Readable, Tell, TextAt};
pub use mutual::MutualRooms;
pub use notice::{Notice, NoticeSettings};
pub use people::{Found, FoundPeople};
pub use policy::{AskPolicy, PolicyAnswer, PolicyRefusal};
pub use read::{
    ContextAsk, Cut, EventFilter, Facts, Form, MembersAsk, MessagesAsk, PAGE_MAX, Page, PageAsk,
    Placed, Recent, Relates, RelationsAsk, Standing, ThreadsAsk, Told, View, Viewer, glob_matches,
    rel_kind,
};
pub use receipts::ReadMarks;
pub use redact::Redaction;
pub use report::{Complaint, Reported, ReportsAsk, ReportsPage};
pub use retention::{Purge, Retention};
pub use search::{ContextSizes, GroupBy, SearchAsk};
pub use send::{Message, StateEvent};
pub use skerry_core::StateMap;
pub use skerry_store::schema::directory::ReportKind;
pub use skerry_store::schema::room::{EventMeta, Member, MemberOf, RoomHead};
pub use sticky::StickyPage;
pub use third_party::{InviteCard, THIRD_PARTY_INVITE, WaitingInvite};
pub use thread_subs::{ThreadChange, ThreadChanges};
pub use typing::Typing;
pub use unread::{Alert, Count, NOTIFICATIONS_MAX, NotificationsAsk, Unread};

use appservice::Counted;
use cache::Cache;
use lookup::Lookups;
use read::Reads;
use tip::Tip;

/// What the rooms are told once, at start.
#[derive(Clone)]
pub struct RoomsConfig {
    /// The name of this server, as in the ids of its users.
    pub server_name: Arc<str>,
    /// The version of new rooms unless asked otherwise.
    pub default_version: RoomVersion,
    /// The key that signs this server's events.
    pub key: Arc<SigningKey>,
    /// How the server speaks to its users; none: not at all.
    pub notices: Option<NoticeSettings>,
    /// The user directory finds everybody of this server, not only whom one may know of.
    pub search_all_users: bool,
    /// What users may delay (MSC4140).
    pub delays: Delays,
    /// How much memory the caches of state and events may hold, in bytes.
    pub cache_bytes: usize,
    /// For how long moderators may read what redacted events said, in ms; 0: it is not kept.
    pub redacted_keep_ms: u64,
    /// How long messages are kept; none: for ever, whatever rooms say.
    pub retention: Option<Retention>,
}

/// How much memory is for knowing which rooms concern application services, in bytes.
const INTERESTS_BYTES: usize = 1 << 20;

/// All rooms of this server. Cheap to clone.
#[derive(Clone)]
pub struct Rooms {
    pub(crate) inner: Arc<Inner>,
}

/// What all handles share.
pub(crate) struct Inner {
    pub(crate) store: Arc<Store>,
    pub(crate) accounts: Accounts,
    pub(crate) config: RoomsConfig,
    /// Asks policy servers.
    pub(crate) asker: policy::Asker,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dice: Arc<dyn DiceSource>,
    /// One writer at a time per room.
    pub(crate) lanes: Lanes<RoomNid>,
    pub(crate) states: Cache<StateId, StateMap>,
    pub(crate) auth_events: Cache<EventNid, RuledEvent>,
    /// The newest ends of rooms; only inside their lanes.
    pub(crate) tips: Cache<RoomNid, Arc<Tip>>,
    pub(crate) interests: Cache<RoomNid, Counted>,
    /// What readers look at.
    pub(crate) reads: Reads,
    /// What look-ups across rooms keep.
    pub(crate) lookups: Lookups,
    pub(crate) last: LastPositions,
    pub(crate) redactions: redact_many::RedactBell,
    pub(crate) sticky_until: sticky::StickyUntil,
    /// Who fills the search index.
    pub(crate) search: search::Follower,
    /// One at a time per user schedules an event.
    pub(crate) delay_lanes: Lanes<UserNid>,
    /// Rung when an event is scheduled.
    pub(crate) delay_bell: tokio::sync::Notify,
    /// How often the store was opened anew when the caches were last known to be true.
    pub(crate) generation: AtomicU64,
}

impl Rooms {
    /// Opens the rooms of a store; reads the newest position of every room.
    ///
    /// # Errors
    /// The store's.
    pub fn open(
        store: Arc<Store>,
        accounts: Accounts,
        config: RoomsConfig,
        clock: Arc<dyn Clock>,
        dice: Arc<dyn DiceSource>,
    ) -> Result<Rooms, StoreError> {
        let last = LastPositions::read(&store)?;
        let sticky_until = sticky::StickyUntil::read(&store.newest())?;
        let generation = store.generation();
        let share = config.cache_bytes / 6;
        let rooms = Rooms {
            inner: Arc::new(Inner {
                store,
                accounts,
                clock,
                dice,
                lanes: Lanes::new(),
                states: Cache::new(2 * share),
                auth_events: Cache::new(share),
                tips: Cache::new(share),
                interests: Cache::new(INTERESTS_BYTES),
                reads: Reads::new(2 * share - share / 2),
                lookups: Lookups::new(share / 2),
                last,
                redactions: redact_many::RedactBell::default(),
                sticky_until,
                search: search::Follower::new(),
                delay_lanes: Lanes::new(),
                delay_bell: tokio::sync::Notify::new(),
                generation: AtomicU64::new(generation),
                asker: policy::Asker::default(),
                config,
            }),
        };
        rooms.sweep_outliers()?;
        Ok(rooms)
    }

    /// The store underneath, for its number and name look-ups.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.inner.store
    }

    /// The name of this server.
    #[must_use]
    pub fn server_name(&self) -> &str {
        &self.inner.config.server_name
    }

    /// The version of new rooms unless asked otherwise.
    #[must_use]
    pub fn default_version(&self) -> RoomVersion {
        self.inner.config.default_version
    }

    /// What users may delay.
    #[must_use]
    pub fn delays(&self) -> Delays {
        self.inner.config.delays
    }

    /// Whether a user id belongs to this server.
    #[must_use]
    pub fn is_local(&self, user_id: &str) -> bool {
        user_id
            .split_once(':')
            .is_some_and(|(_, server)| server == self.server_name())
    }
}

/// The log position of the newest event of every room.
pub(crate) struct LastPositions(RwLock<HashMap<RoomNid, Pos>>);

impl LastPositions {
    fn read(store: &Store) -> Result<LastPositions, StoreError> {
        let mut map = HashMap::new();
        for row in store.newest().scan::<tables::Head>(Scan::all()) {
            let (room, head) = row?;
            map.insert(room, head.last);
        }
        Ok(LastPositions(RwLock::new(map)))
    }

    pub(crate) fn get(&self, room: RoomNid) -> Pos {
        self.0.read().get(&room).copied().unwrap_or(Pos::ZERO)
    }

    /// Something is about to be committed, and may be published before [`Self::set`] is called:
    /// until then the room counts as having news. Gives what to set if the commit fails.
    pub(crate) fn begin(&self, room: RoomNid) -> Pos {
        self.0
            .write()
            .insert(room, Pos(u64::MAX))
            .unwrap_or(Pos::ZERO)
    }

    /// To be called inside the room's lane, once its write is applied.
    pub(crate) fn set(&self, room: RoomNid, pos: Pos) {
        self.0.write().insert(room, pos);
    }
}
