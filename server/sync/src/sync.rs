//! The facade: what doors hold of this crate.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skerry_account::e2e::Keys;
use skerry_account::{Accounts, PresenceState};
use skerry_core::{StateId, UserNid};
use skerry_room::Rooms;
use skerry_store::{Cache, Store, StoreError};
use tokio::time::Instant;

use crate::compute::Query;
use crate::compute::summary::Heroes;
use crate::delta::Delta;
use crate::filter::{BadFilter, Filter};
use crate::lazy::LazyMemory;
use crate::notifier::Notifier;
use crate::sliding::SlidingMemory;
use crate::tails::Tails;
use crate::token::Token;
use crate::turns::Turns;

/// The longest a sync waits for news, whatever the client asks for.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Memory for lists of heroes, in bytes.
const HEROES_BYTES: usize = 2 << 20;
/// Memory for parsed filters, in bytes of their JSON.
const FILTERS_BYTES: usize = 4 << 20;
/// Most facts of the log gone through for one answer.
const FACTS_MAX: usize = 2_048;

/// What one device asks.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks.
    pub user: UserNid,
    /// The full user id.
    pub user_id: Arc<str>,
    /// The device.
    pub device: Arc<str>,
    /// Where the client stands; `None`: it knows nothing.
    pub since: Option<Token>,
    /// What it wants.
    pub filter: Arc<Filter>,
    /// All state of all rooms is wanted, whatever `since` says.
    pub full_state: bool,
    /// State is wanted as it is at the end of each timeline, not at its start.
    pub state_after: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The token is of a time that this server has not reached.
    #[error("the token is not of this server")]
    UnknownPos,
    /// No filter of the user has this id.
    #[error("no such filter")]
    NoFilter,
    /// The filter cannot be read.
    #[error(transparent)]
    Filter(#[from] BadFilter),
    /// Accounts could not answer.
    #[error(transparent)]
    Account(#[from] skerry_account::AccountError),
    /// A room could not be read.
    #[error(transparent)]
    Room(#[from] skerry_room::RoomError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What changed, and waiting for it. Cheap to clone.
#[derive(Clone)]
pub struct Sync {
    pub(crate) inner: Arc<Inner>,
}

/// What all handles share.
pub(crate) struct Inner {
    pub(crate) store: Arc<Store>,
    pub(crate) accounts: Accounts,
    pub(crate) keys: Keys,
    pub(crate) rooms: Rooms,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) lazy: LazyMemory,
    pub(crate) heroes: HeroesCache,
    pub(crate) tails: Tails,
    pub(crate) sliding: SlidingMemory,
    filters: Mutex<Cache<(UserNid, String), Arc<Filter>>>,
    pub(crate) turns: Turns,
    /// Facts gone through at most; see [`Sync::with_log_reach`].
    pub(crate) facts_max: usize,
}

/// Lists of heroes by version of state.
pub(crate) struct HeroesCache(Mutex<Cache<StateId, Heroes>>);

impl HeroesCache {
    pub(crate) fn get(&self, state: StateId) -> Option<Heroes> {
        self.0.lock().get(&state).cloned()
    }

    pub(crate) fn put(&self, state: StateId, heroes: Heroes) {
        let bytes = 64 + heroes.len() * size_of::<UserNid>();
        self.0.lock().put(state, heroes, bytes);
    }
}

impl Sync {
    /// Sync over a store. Nobody is woken before [`Sync::run`] runs.
    #[must_use]
    pub fn new(accounts: Accounts, rooms: Rooms) -> Sync {
        Sync::with_log_reach(accounts, rooms, FACTS_MAX)
    }

    /// As [`Sync::new`]; a reader more than `facts_max` log positions behind is answered from the
    /// last positions of everything instead of from the log. The answer is the same.
    #[must_use]
    pub fn with_log_reach(accounts: Accounts, rooms: Rooms, facts_max: usize) -> Sync {
        let store = Arc::clone(rooms.store());
        let notifier = Notifier::new(Arc::clone(&store), accounts.clone(), rooms.clone());
        let inner = Inner {
            store,
            keys: accounts.keys(),
            accounts,
            rooms,
            notifier,
            lazy: LazyMemory::default(),
            heroes: HeroesCache(Mutex::new(Cache::new(HEROES_BYTES))),
            tails: Tails::default(),
            sliding: SlidingMemory::default(),
            turns: Turns::new(std::thread::available_parallelism().map_or(1, usize::from)),
            filters: Mutex::new(Cache::new(FILTERS_BYTES)),
            facts_max,
        };
        Sync {
            inner: Arc::new(inner),
        }
    }

    /// How many notes of what changed were left for users who listen, since the start.
    #[must_use]
    pub fn notes(&self) -> u64 {
        self.inner.notifier.notes()
    }

    /// Wakes those who wait, until the store closes. To be spawned once.
    pub async fn run(self) {
        Arc::clone(&self.inner.notifier).run().await;
    }

    /// The filter that a client names: by id, or the filter itself where the text begins with a
    /// brace. Parsed once per user and id.
    ///
    /// # Errors
    /// [`SyncError::NoFilter`], [`SyncError::Filter`]; the store's.
    pub async fn filter(&self, user: UserNid, text: &str) -> Result<Arc<Filter>, SyncError> {
        if text.starts_with('{') {
            return Ok(Arc::new(Filter::parse(text.as_bytes())?));
        }
        let key = (user, text.to_owned());
        if let Some(filter) = self.inner.filters.lock().get(&key) {
            return Ok(Arc::clone(filter));
        }
        let json = match self.inner.accounts.filter(user, text).await {
            Err(skerry_account::AccountError::NotFound(_)) => return Err(SyncError::NoFilter),
            other => other?,
        };
        let filter = Arc::new(Filter::parse(json.as_bytes())?);
        let bytes = 256 + 2 * json.len();
        self.inner
            .filters
            .lock()
            .put(key, Arc::clone(&filter), bytes);
        Ok(filter)
    }

    /// What is new for a device, at once or as soon as there is something; when `timeout` is over
    /// the answer is empty. An initial sync and one with full state never wait.
    ///
    /// Messages to the device that the token says it has are deleted.
    ///
    /// # Errors
    /// [`SyncError::UnknownPos`]; the store's.
    pub async fn wait(
        &self,
        request: Request,
        presence: PresenceState,
        timeout: Duration,
    ) -> Result<Delta, SyncError> {
        let deadline = Instant::now() + timeout.min(TIMEOUT_MAX);
        let request = Arc::new(request);
        let board = self.inner.accounts.presence();
        let _syncing = board.syncing(request.user, &request.device, presence);
        // Subscribed before the snapshot is taken, so that no wake-up is missed.
        let mut bell = self.inner.notifier.subscribe(request.user);
        let mut first = true;
        loop {
            bell.borrow_and_update();
            let over = Instant::now() >= deadline;
            if over || !(first && self.is_quiet(&request)) {
                let delta = self.at_once(&request, !over).await?;
                if over || request.since.is_none() || request.full_state || !delta.is_empty() {
                    return Ok(delta);
                }
            }
            first = false;
            // When the time is over, the newest token is the answer.
            let _ = tokio::time::timeout_at(deadline, bell.changed()).await;
        }
    }

    /// Whether it is known from memory alone that there is nothing new, so that a reader who has
    /// just been answered waits on at no cost.
    fn is_quiet(&self, request: &Request) -> bool {
        let inner = &*self.inner;
        let Some(token) = request.since.filter(|_| !request.full_state) else {
            return false;
        };
        let ephemeral = inner.accounts.ephemeral();
        let told = inner.notifier.presence_told();
        token.to_device == token.pos
            && token.sticky == token.pos
            && token.typing_in(ephemeral.boot()) == Some(inner.rooms.typing().pos())
            && token
                .presence_in(ephemeral.boot())
                .is_some_and(|seen| seen >= told.0)
            && inner
                .notifier
                .is_quiet(request.user, token.pos, inner.store.snapshot().head())
    }

    /// What is new for a device on the newest published snapshot.
    async fn at_once(&self, request: &Arc<Request>, waits: bool) -> Result<Delta, SyncError> {
        let is_long = request.since.is_none() || request.full_state;
        let (this, request) = (self.clone(), Arc::clone(request));
        let work = move || this.delta(&request, waits && !is_long);
        let turns = &self.inner.turns;
        if is_long {
            turns.long(work).await?
        } else {
            turns.short(work).await?
        }
    }

    fn delta(&self, request: &Request, waits: bool) -> Result<Delta, SyncError> {
        let inner = &*self.inner;
        let snap = inner.store.snapshot();
        let query = Query::new(inner, &snap, request);
        if let Some(token) = request.since
            && query.has_messages()?
        {
            let device = &request.device;
            inner
                .keys
                .acknowledge(request.user, device, token.to_device)?;
        }
        if waits {
            return query.patient().run();
        }
        query.run()
    }
}
