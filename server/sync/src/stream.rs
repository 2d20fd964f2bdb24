//! The deprecated ways to follow and to survey rooms that `/sync` took the place of; listening to
//! one room that everybody may look into has no other.

use std::sync::Arc;
use std::time::Duration;

use skerry_account::PresenceState;
use skerry_core::RoomNid;
use tokio::time::Instant;

use crate::compute::Query;
use crate::compute::overview::{Overview, RoomOverview};
use crate::compute::stream::{Happening, Part};
use crate::filter::Filter;
use crate::sync::{Sync, TIMEOUT_MAX};
use crate::{Request, SyncError, Token};

/// What happens in a room that is listened to is gathered for so long: a busy server would
/// otherwise wake every listener for each of its commits.
const GATHER: Duration = Duration::from_millis(20);
/// Whatever is told of rooms beside their events: those are told one by one.
const NO_EVENTS: &str = r#"{"room":{"timeline":{"types":[]},"state":{"types":[]}}}"#;

/// What happened between two places.
#[derive(Debug)]
pub struct Stream {
    /// Where it begins.
    pub start: Token,
    /// Where it ends.
    pub end: Token,
    /// What happened, events of rooms first, oldest first.
    pub happenings: Vec<Happening>,
}

impl Sync {
    /// What happened after a place (now, where the request names none), at once or as soon as
    /// something does; nothing, when `timeout` is over. At most `limit` events of rooms: the next
    /// call goes on. With a room, only what happened there, also for who is not in it.
    ///
    /// # Errors
    /// [`SyncError::UnknownPos`]; [`SyncError::Room`] for a room that the user may not look into;
    /// the store's.
    pub async fn stream(
        &self,
        request: Request,
        room_id: Option<&str>,
        limit: usize,
        timeout: Duration,
    ) -> Result<Stream, SyncError> {
        let deadline = Instant::now() + timeout.min(TIMEOUT_MAX);
        let room = room_id.map(|id| self.listened(id)).transpose()?;
        let board = self.inner.accounts.presence();
        // Looking into one room is not yet being there.
        let online = PresenceState::Online;
        let _syncing = room
            .is_none()
            .then(|| board.syncing(request.user, &request.device, online));
        let mut bells = Bells::new(self, &request, room);
        let request = self.quiet_request(request);
        let start = match request.since {
            Some(since) => since,
            None => self.here(&request, room).await?,
        };
        let (mut since, mut first) = (start, true);
        loop {
            bells.seen();
            let over = Instant::now() >= deadline;
            let part = self.part(&request, room, since, limit, first).await?;
            first = false;
            if let Some(part) = part {
                since = part.end;
                if !part.happenings.is_empty() || (over && !part.more) {
                    return Ok(Stream {
                        start,
                        end: part.end,
                        happenings: part.happenings,
                    });
                }
                if part.more {
                    continue;
                }
            } else if over {
                return Ok(Stream {
                    start,
                    end: since,
                    happenings: Vec::new(),
                });
            }
            bells.wait(deadline).await;
        }
    }

    /// A room that somebody wants to listen to.
    fn listened(&self, room_id: &str) -> Result<RoomNid, SyncError> {
        let snap = self.inner.store.snapshot();
        let room = self.inner.rooms.room_nid(&snap, room_id)?;
        room.ok_or_else(|| SyncError::Room(closed()))
    }

    /// The request for all but events.
    fn quiet_request(&self, mut request: Request) -> Arc<Request> {
        // cannot fail: the text is a filter
        let filter = Filter::parse(NO_EVENTS.as_bytes()).unwrap_or_default();
        request.filter = Arc::new(filter);
        request.full_state = false;
        request.state_after = false;
        Arc::new(request)
    }

    /// Now, as a place of a client that knows nothing; where the user may listen at all.
    async fn here(
        &self,
        request: &Arc<Request>,
        room: Option<RoomNid>,
    ) -> Result<Token, SyncError> {
        let (this, request) = (self.clone(), Arc::clone(request));
        let work = move || {
            let snap = this.inner.store.snapshot();
            let query = Query::new(&this.inner, &snap, &request);
            may_listen(&query, room)?;
            Ok(Token {
                to_device: skerry_core::Pos::ZERO,
                ..query.next()
            })
        };
        self.inner.turns.short(work).await?
    }

    /// What happened after a place on the newest published snapshot; `None` where it is known
    /// without a look that nothing did.
    async fn part(
        &self,
        request: &Arc<Request>,
        room: Option<RoomNid>,
        since: Token,
        limit: usize,
        first: bool,
    ) -> Result<Option<Part>, SyncError> {
        let this = self.clone();
        let mut request = Request::clone(request);
        request.since = Some(since);
        let work = move || {
            let snap = this.inner.store.snapshot();
            if since.pos > snap.head() {
                return Err(SyncError::UnknownPos);
            }
            let query = Query::new(&this.inner, &snap, &request);
            let Some(room) = room else {
                return query.stream(since, limit).map(Some);
            };
            if first {
                may_listen(&query, Some(room))?;
            } else if query.is_quiet_in(room, since)? {
                return Ok(None);
            }
            query.stream_of(room, since, limit).map(Some)
        };
        self.inner.turns.short(work).await?
    }

    /// All rooms of a user at once, with at most `limit` events of each; those left too, where
    /// `archived`.
    ///
    /// # Errors
    /// The store's.
    pub async fn overview(
        &self,
        request: Request,
        limit: usize,
        archived: bool,
    ) -> Result<Overview, SyncError> {
        let board = self.inner.accounts.presence();
        let _syncing = board.syncing(request.user, &request.device, PresenceState::Online);
        let this = self.clone();
        let work = move || {
            let snap = this.inner.store.snapshot();
            Query::new(&this.inner, &snap, &request).overview(limit, archived)
        };
        self.inner.turns.long(work).await?
    }

    /// One room at once, with at most `limit` events of it: as it is, also for who is not in it
    /// where everybody may look into it; or as it was when the user left.
    ///
    /// # Errors
    /// [`SyncError::Room`] for a room that the user may not look into; the store's.
    pub async fn room_overview(
        &self,
        request: Request,
        room_id: String,
        limit: usize,
    ) -> Result<RoomOverview, SyncError> {
        let this = self.clone();
        let work = move || {
            let room = this.listened(&room_id)?;
            let snap = this.inner.store.snapshot();
            Query::new(&this.inner, &snap, &request).one_room(room, limit)
        };
        self.inner.turns.long(work).await?
    }
}

/// Refuses who may not listen to a room.
fn may_listen(query: &Query<'_>, room: Option<RoomNid>) -> Result<(), SyncError> {
    match room {
        Some(room) if !query.may_listen(room)? => Err(SyncError::Room(closed())),
        _ => Ok(()),
    }
}

fn closed() -> skerry_room::RoomError {
    let text = "You are not in this room, and it is not open to readers";
    skerry_room::RoomError::Forbidden(text.to_owned())
}

/// What a listener waits for.
enum Bells {
    /// News for a user.
    Mine(crate::notifier::Bell),
    /// Anything at all: whoever listens to a room they are not in is on no list.
    All {
        published: tokio::sync::watch::Receiver<skerry_core::Pos>,
        typing: tokio::sync::watch::Receiver<u64>,
        presence: tokio::sync::watch::Receiver<skerry_account::EphemeralPos>,
    },
}

impl Bells {
    /// Subscribed before a snapshot is taken, so that no wake-up is missed.
    fn new(sync: &Sync, request: &Request, room: Option<RoomNid>) -> Bells {
        let inner = &sync.inner;
        match room {
            None => Bells::Mine(inner.notifier.subscribe(request.user)),
            Some(_) => Bells::All {
                published: inner.store.published(),
                typing: inner.rooms.typing().watch(),
                presence: inner.accounts.ephemeral().subscribe(),
            },
        }
    }

    /// What rang up to now is taken note of.
    fn seen(&mut self) {
        match self {
            Bells::Mine(bell) => {
                bell.borrow_and_update();
            }
            Bells::All {
                published,
                typing,
                presence,
            } => {
                published.borrow_and_update();
                typing.borrow_and_update();
                presence.borrow_and_update();
            }
        }
    }

    /// Until something rings, or the time is over.
    async fn wait(&mut self, deadline: Instant) {
        match self {
            Bells::Mine(bell) => {
                // When the time is over, there is one more look.
                let _ = tokio::time::timeout_at(deadline, bell.changed()).await;
            }
            Bells::All {
                published,
                typing,
                presence,
            } => {
                let rung = async {
                    tokio::select! {
                        _ = published.changed() => {}
                        _ = typing.changed() => {}
                        _ = presence.changed() => {}
                    }
                    tokio::time::sleep(GATHER).await;
                };
                let _ = tokio::time::timeout_at(deadline, rung).await;
            }
        }
    }
}
