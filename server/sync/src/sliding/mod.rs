//! Sliding sync (MSC4186): the client names windows onto its rooms and what it wants of each, and
//! the server remembers what it was told.
//!
//! The changes, and every question about one room, are those of the other sync
//! ([`crate::compute`]): here is only which rooms are asked about (`lists`), from where and how
//! much of each (`room`, `state`), and what the client knows (`connections`).
//!
//! Start reading at [`Sync::slide`], then [`Slide::run`].

mod answer;
mod ask;
mod connections;
mod extensions;
mod filters;
mod lists;
mod memory;
mod required;
mod room;
mod state;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use skerry_account::PresenceState;
use skerry_core::{Pos, UserNid};
use tokio::time::Instant;

use crate::compute::Query;
use crate::compute::changes::Changes;
use crate::filter::Filter;
use crate::sync::{Inner, TIMEOUT_MAX};
use crate::{Request, Sync, SyncError, Token};
use connections::Known;
use extensions::Answered;
use lists::Window;
use memory::Own;
use required::Required;

pub use answer::{
    AccountData, E2ee, Extensions, Hero, SlidingAnswer, SlidingList, SlidingRange, SlidingRoom,
    SlidingTimeline, Sticky, ToDevice,
};
pub use ask::{BadAsk, SlidingAsk};
pub(crate) use memory::SlidingMemory;

/// A client that is further behind than this, in log positions, and has more news than fit on a
/// page, begins anew: it has its first rooms sooner that way.
const BEHIND_MAX: u64 = 50_000;
/// Rooms with news beyond which an answer is long.
const NEWS_MAX: usize = 100;

/// One request of sliding sync.
#[derive(Clone, Debug)]
pub struct SlidingRequest {
    /// Who asks.
    pub user: UserNid,
    /// The full user id.
    pub user_id: Arc<str>,
    /// The device.
    pub device: Arc<str>,
    /// `pos` of the answer that the client has; `None`: it knows nothing.
    pub pos: Option<String>,
    /// What it wants.
    pub ask: SlidingAsk,
}

/// One request against one snapshot.
pub(crate) struct Slide<'a> {
    q: Query<'a>,
    ask: &'a SlidingAsk,
    /// What the client has.
    known: Arc<Known>,
    /// Up to where, in the log.
    since: Option<Pos>,
    /// Up to where it will have all that it asks for.
    head: Pos,
    changes: Changes,
    own: Arc<Own>,
    /// Which sets of wanted state were found to have all of which others.
    covered: RefCell<HashMap<(*const Required, *const Required), bool>>,
}

/// What a request comes back with.
struct Standing {
    token: Token,
    known: Arc<Known>,
}

impl Sync {
    /// What is new on a connection, at once or as soon as there is something; when `timeout` is
    /// over the answer is empty. The first request of a connection never waits. Asking again from
    /// the same place tells the same again, and what came since.
    ///
    /// Messages to the device that the client says it has are deleted.
    ///
    /// # Errors
    /// [`SyncError::UnknownPos`] if `pos` is not, or no longer, known for this connection: the
    /// client then begins anew. The store's.
    pub async fn slide(
        &self,
        request: SlidingRequest,
        presence: PresenceState,
        timeout: Duration,
    ) -> Result<SlidingAnswer, SyncError> {
        let deadline = Instant::now() + timeout.min(TIMEOUT_MAX);
        let standing = self.inner.standing(&request)?;
        let is_first = standing.is_none();
        let (request, standing) = (Arc::new(request), Arc::new(standing));
        let board = self.inner.accounts.presence();
        let _syncing = board.syncing(request.user, &request.device, presence);
        // Subscribed before the snapshot is taken, so that no wake-up is missed.
        let mut bell = self.inner.notifier.subscribe(request.user);
        loop {
            bell.borrow_and_update();
            let over = is_first || Instant::now() >= deadline;
            let (mut answer, token, known) = self.slide_at_once(&request, &standing).await?;
            if over || !answer.is_empty() {
                answer.pos = self.inner.remember(&request, token, known);
                return Ok(answer);
            }
            // When the time is over, the newest place is the answer.
            let _ = tokio::time::timeout_at(deadline, bell.changed()).await;
        }
    }

    /// What is new on a connection on the newest published snapshot.
    async fn slide_at_once(
        &self,
        request: &Arc<SlidingRequest>,
        standing: &Arc<Option<Standing>>,
    ) -> Result<(SlidingAnswer, Token, Known), SyncError> {
        let is_long = standing.is_none();
        let (this, request, standing) = (self.clone(), Arc::clone(request), Arc::clone(standing));
        let work = move || this.inner.slide(&request, standing.as_ref().as_ref());
        let turns = &self.inner.turns;
        if is_long {
            turns.long(work).await?
        } else {
            turns.short(work).await?
        }
    }
}

impl Inner {
    /// What the client has that comes with this `pos`; `None` without one.
    fn standing(&self, request: &SlidingRequest) -> Result<Option<Standing>, SyncError> {
        let Some(pos) = request.pos.as_deref().filter(|pos| !pos.is_empty()) else {
            return Ok(None);
        };
        let (token, id) = pos.rsplit_once('~').ok_or(SyncError::UnknownPos)?;
        let token = Token::parse(token).map_err(|_| SyncError::UnknownPos)?;
        let id: u64 = id.parse().map_err(|_| SyncError::UnknownPos)?;
        let device = (request.user, Arc::clone(&request.device));
        // Numbers of answers are of one run of the server.
        let same_run = id == 0 || token.boot == self.accounts.ephemeral().boot();
        let connections = &self.sliding.connections;
        let known = connections.known(&device, request.ask.conn_id(), id);
        let known = known.filter(|_| same_run).ok_or(SyncError::UnknownPos)?;
        Ok(Some(Standing { token, known }))
    }

    /// Remembers what the client will know; gives its new `pos`.
    fn remember(&self, request: &SlidingRequest, token: Token, known: Known) -> String {
        let device = (request.user, Arc::clone(&request.device));
        let connections = &self.sliding.connections;
        let id = connections.remember(&device, request.ask.conn_id(), known);
        format!("{token}~{id}")
    }

    fn slide(
        &self,
        request: &SlidingRequest,
        standing: Option<&Standing>,
    ) -> Result<(SlidingAnswer, Token, Known), SyncError> {
        let snap = self.store.snapshot();
        let token = standing.map(|standing| standing.token);
        if token.is_some_and(|token| token.pos > snap.head()) {
            return Err(SyncError::UnknownPos);
        }
        if let Some(since) = request.ask.to_device_since()
            && since <= snap.head()
        {
            self.keys
                .acknowledge(request.user, &request.device, since)?;
        }
        let req = Request {
            user: request.user,
            user_id: Arc::clone(&request.user_id),
            device: Arc::clone(&request.device),
            since: token,
            filter: Arc::new(Filter::default()),
            full_state: false,
            state_after: true,
        };
        let q = Query::new(self, &snap, &req);
        // Positions first, what they stand for after: what comes in between is told twice.
        let next = q.next();
        let mut mine = None;
        let slide = Slide {
            changes: q.changes(&mut mine)?,
            own: self.sliding.own(&self.store, &snap, req.user)?,
            known: standing.map_or_else(Arc::default, |standing| Arc::clone(&standing.known)),
            since: token.map(|token| token.pos),
            head: snap.head(),
            ask: &request.ask,
            covered: RefCell::default(),
            q,
        };
        let (answer, known) = slide.run(mine)?;
        Ok((answer, next, known))
    }
}

impl Slide<'_> {
    /// Everything that is asked for and new, and what the client then knows.
    fn run(&self, mut mine: crate::compute::Mine) -> Result<(SlidingAnswer, Known), SyncError> {
        let rooms = self.q.mine(&mut mine)?;
        let candidates = self.candidates(&rooms)?;
        let mut window = self.window(&candidates)?;
        self.check_far_behind(&window)?;
        let mut known = Known::clone(&self.known);
        let mut told = HashMap::with_capacity(window.rooms.len());
        let mut answer = SlidingAnswer::default();
        for wanted in &window.rooms {
            let mut room = self.tell(wanted)?;
            answer.rooms.extend(room.room.take());
            known.rooms.insert(wanted.room, room.sent.clone());
            told.insert(wanted.room, room);
        }
        let mut answered = Answered {
            window: &window,
            told: &told,
            mine: &mut mine,
        };
        answer.extensions = self.extensions(&mut answered, &mut known)?;
        answer.lists = std::mem::take(&mut window.lists);
        for list in &answer.lists {
            let before = known.counts.insert(list.name.clone(), list.count);
            answer.resized |= before.unwrap_or(0) != list.count;
        }
        Ok((answer, known))
    }

    /// Whether the client has everything up to its `pos` of something told up to here.
    fn is_live(&self, told: Pos) -> bool {
        self.since == Some(told)
    }

    /// Sends a client to begin anew that has missed so much that the answer would be long.
    fn check_far_behind(&self, window: &Window) -> Result<(), SyncError> {
        let Some(since) = self.since else {
            return Ok(());
        };
        if self.head.0.saturating_sub(since.0) <= BEHIND_MAX {
            return Ok(());
        }
        let rooms = &self.q.sync.rooms;
        let news = window.rooms.iter().filter(|wanted| {
            let sent = self.known.rooms.get(&wanted.room);
            sent.is_some_and(|sent| rooms.last_pos(wanted.room) > sent.events)
        });
        if news.count() > NEWS_MAX {
            return Err(SyncError::UnknownPos);
        }
        Ok(())
    }
}
