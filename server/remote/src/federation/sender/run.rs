//! The loop that gives out turns, and a turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::http::Method;
use skerry_core::{Pos, ServerNid};
use skerry_store::outbox::Dest;
use skerry_store::{StoreError, blocking};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::prepare::Ready;
use super::queue::Queue;
use super::{Inner, Sender, TURNED_AWAY};
use crate::federation::peers::{Limits, PeerError};

/// How many servers are sent to at a time.
const AT_ONCE: usize = 128;
/// How many of them may be such as were not reached the last time.
const FAILING_AT_ONCE: usize = 32;
/// How many transactions one turn has.
const TURN: usize = 20;
/// How long a transaction may take. One that a server does not answer holds up what comes after
/// it.
const TIME: Duration = Duration::from_secs(30);
/// How long one may take with a server that did not answer the last one: it may be slow.
const TIME_OF_FAILING: Duration = Duration::from_secs(60);
/// How many bytes the answer may have.
const ANSWER_MAX: usize = 1 << 20;
/// How often it is written down what has been sent.
const SAVE_EVERY: Duration = Duration::from_secs(2);
/// How often outgoing events that nobody needs are taken away.
const TRIM_EVERY: Duration = Duration::from_secs(60);
/// How long a sleep lasts at most: the clock may be set meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long transactions get to end when the server stops.
const END_WITHIN: Duration = Duration::from_secs(5);
/// How long to wait after the store failed, in ms.
const STORE_PAUSE_MS: u64 = 10_000;

/// How a turn ended.
enum Ended {
    /// Nothing waits, or others come first.
    Over,
    /// Nothing is sent before this time, in ms since the epoch.
    Until(u64),
    /// The server was not reached: nothing is sent for as long as it is left alone.
    LeftAlone,
    /// The server stops.
    Closed,
}

/// Who is being sent to.
#[derive(Default)]
struct Turns {
    running: JoinSet<Ended>,
    servers: HashMap<Id, (ServerNid, bool)>,
}

impl Turns {
    /// Whether a queue may have a turn now.
    fn passes(&self, failing: bool) -> bool {
        let so_far = self.servers.values().filter(|(_, failing)| *failing);
        self.servers.len() < AT_ONCE && (!failing || so_far.count() < FAILING_AT_ONCE)
    }
}

impl Sender {
    /// Sends until `stop` becomes true. What is under way then gets a few seconds to end; what
    /// does not end is sent again after the next start. To be run once.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let inner = &self.inner;
        let (mut bell, mut head) = (inner.store.queued_bell(), inner.store.published());
        let mut turns = Turns::default();
        let mut trimmed = (Pos::ZERO, Instant::now());
        let mut saved = Instant::now();
        while !self.tried(|inner| inner.begin()).await {
            let pause = Duration::from_millis(STORE_PAUSE_MS);
            if tokio::time::timeout(pause, stop.wait_for(|stop| *stop))
                .await
                .is_ok()
            {
                return;
            }
        }
        while !*stop.borrow() {
            bell.borrow_and_update();
            let published = *head.borrow_and_update();
            let more = self.look(published).await;
            self.tried(|inner| inner.wake_reached()).await;
            inner.queues.lock().wake_rested(inner.clock.now_ms());
            self.start(&mut turns);
            if saved.elapsed() >= SAVE_EVERY {
                saved = Instant::now();
                self.tried(|inner| inner.save()).await;
            }
            if trimmed.1.elapsed() >= TRIM_EVERY {
                trimmed = (self.trim(trimmed.0).await, Instant::now());
            }
            let sleep = self.sleep(saved);
            tokio::select! {
                _ = bell.changed() => {}
                changed = head.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
                Some(ended) = turns.running.join_next_with_id() => self.ended(&mut turns, ended),
                () = inner.bell.notified() => {}
                () = inner.peers.standings().bell() => {}
                () = tokio::time::sleep(sleep), if !more => {}
                () = std::future::ready(()), if more => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
        let rest = async {
            while let Some(ended) = turns.running.join_next_with_id().await {
                self.ended(&mut turns, ended);
            }
        };
        if tokio::time::timeout(END_WITHIN, rest).await.is_err() {
            tracing::info!("transactions did not end in time and are sent again later");
        }
        turns.running.shutdown().await;
        self.tried(|inner| inner.save()).await;
    }

    /// Does something with the store, beside; whether that went well.
    async fn tried(
        &self,
        work: impl FnOnce(&Inner) -> Result<(), StoreError> + Send + 'static,
    ) -> bool {
        let inner = Arc::clone(&self.inner);
        match blocking(move || work(&inner)).await.and_then(|done| done) {
            Ok(()) => true,
            // The server stops.
            Err(StoreError::Closed) => false,
            Err(error) => {
                tracing::error!(%error, "what waits for other servers cannot be read or written");
                false
            }
        }
    }

    /// Looks what is new up to a published head; says whether there is more.
    async fn look(&self, published: Pos) -> bool {
        let inner = Arc::clone(&self.inner);
        let looked = blocking(move || {
            let is_ours = |dest: &Dest| matches!(dest, Dest::Server(_));
            let (fresh, _) = inner.store.queued(published, is_ours);
            for dest in fresh {
                if let Dest::Server(server) = dest {
                    inner.rows_for(server)?;
                }
            }
            inner.distribute()
        });
        match looked.await.and_then(|looked| looked) {
            Ok(more) => more,
            Err(error) => {
                tracing::error!(%error, "what is to be sent to other servers cannot be read");
                false
            }
        }
    }

    async fn trim(&self, trimmed: Pos) -> Pos {
        let inner = Arc::clone(&self.inner);
        let done = blocking(move || inner.trim(trimmed)).await;
        done.and_then(|done| done).unwrap_or_else(|error| {
            tracing::warn!(%error, "outgoing events were not taken away");
            trimmed
        })
    }

    /// How long nothing has to be done.
    fn sleep(&self, saved: Instant) -> Duration {
        let queues = self.inner.queues.lock();
        let now_ms = self.inner.clock.now_ms();
        let unsaved = !queues.changed.is_empty() || queues.seen != queues.seen_kept;
        let rested = queues.rested_at();
        let rested = rested.map(|at| Duration::from_millis(at.saturating_sub(now_ms) + 1));
        let save = unsaved.then(|| SAVE_EVERY.saturating_sub(saved.elapsed()));
        let first = rested.into_iter().chain(save).min();
        first.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
    }

    fn start(&self, turns: &mut Turns) {
        let standings = self.inner.peers.standings();
        let fails = |name: &str| standings.of(name).is_some_and(|s| s.failures > 0);
        while turns.servers.len() < AT_ONCE {
            let next = {
                let mut queues = self.inner.queues.lock();
                let passes = |queue: &Queue| turns.passes(fails(&queue.name));
                queues.next(passes).and_then(|server| {
                    let queue = queues.get(server)?;
                    Some((server, fails(&queue.name)))
                })
            };
            let Some((server, failing)) = next else {
                return;
            };
            let inner = Arc::clone(&self.inner);
            let id = turns.running.spawn(turn(inner, server)).id();
            turns.servers.insert(id, (server, failing));
        }
    }

    fn ended(&self, turns: &mut Turns, ended: Result<(Id, Ended), JoinError>) {
        let later = self.inner.clock.now_ms().saturating_add(STORE_PAUSE_MS);
        let (id, how) = match ended {
            Ok((id, ended)) => (id, ended),
            Err(error) => {
                tracing::error!(%error, "sending to a server broke off");
                (error.id(), Ended::Until(later))
            }
        };
        let Some((server, _)) = turns.servers.remove(&id) else {
            return;
        };
        let mut queues = self.inner.queues.lock();
        let until_ms = match how {
            Ended::Over | Ended::Closed => None,
            Ended::Until(at_ms) => Some(at_ms),
            // Asked now: it may have been reached, or have spoken to us, since the turn ended.
            Ended::LeftAlone => queues.get(server).map(|queue| {
                let until_ms = self.inner.peers.standings().resting_until(&queue.name);
                until_ms.unwrap_or_else(|| self.inner.clock.now_ms())
            }),
        };
        queues.ended(server, until_ms);
    }
}

/// Sends what waits for a server, a while.
async fn turn(inner: Arc<Inner>, server: ServerNid) -> Ended {
    match transactions(&inner, server).await {
        Ok(ended) => ended,
        Err(StoreError::Closed) => Ended::Closed,
        Err(error) => {
            tracing::error!(?server, %error, "what waits for a server cannot be read or written");
            Ended::Until(inner.clock.now_ms().saturating_add(STORE_PAUSE_MS))
        }
    }
}

async fn transactions(inner: &Arc<Inner>, server: ServerNid) -> Result<Ended, StoreError> {
    for _ in 0..TURN {
        let this = Arc::clone(inner);
        let Some(ready) = blocking(move || this.prepare(server)).await?? else {
            return Ok(Ended::Over);
        };
        let Ready { name, path, body } = ready;
        let limits = inner.limits(&name);
        let sent = inner
            .peers
            .call_text(&name, Method::PUT, &path, Some(body), limits)
            .await;
        let this = Arc::clone(inner);
        match sent {
            // What it thinks of each event is its own affair.
            Ok(_) | Err(PeerError::Answer(_)) => {
                blocking(move || this.arrived(server)).await??;
            }
            Err(PeerError::Ourselves | PeerError::Denied) => {
                blocking(move || this.drop_all(server)).await??;
                return Ok(Ended::Over);
            }
            Err(error) if matches!(error.status(), Some(400 | 413 | 414 | 422)) => {
                blocking(move || this.refused(server, &error)).await??;
            }
            Err(error) => return Ok(inner.failed(server, &name, &error)),
        }
    }
    Ok(Ended::Over)
}

impl Inner {
    fn limits(&self, name: &str) -> Limits {
        let standing = self.peers.standings().of(name);
        let failing = standing.is_some_and(|standing| standing.failures > 0);
        Limits::new(if failing { TIME_OF_FAILING } else { TIME }, ANSWER_MAX)
    }

    /// A server did not take a transaction: says how long it is left alone.
    fn failed(&self, server: ServerNid, name: &str, error: &PeerError) -> Ended {
        if let Some(queue) = self.queues.lock().get_mut(server) {
            queue.missed();
        }
        let standings = self.peers.standings();
        match error {
            PeerError::Refused { status, .. } if *status < 500 && *status != 429 => {
                return self.turned_away(server, name, error);
            }
            PeerError::Resting { .. } => {}
            // Noted when it happened.
            _ if error.wants_rest().is_some() => {}
            // It is there, but not well.
            _ => {
                standings.failed(name, &error.to_string(), None);
            }
        }
        self.lag(server, name);
        Ended::LeftAlone
    }

    /// A server is there and answers others; it has something against us, or no such endpoint.
    fn turned_away(&self, server: ServerNid, name: &str, error: &PeerError) -> Ended {
        let times = {
            let mut queues = self.queues.lock();
            queues.get_mut(server).map_or(1, |queue| {
                queue.turned_away = queue.turned_away.saturating_add(1);
                queue.turned_away
            })
        };
        if times == 1 {
            tracing::info!(server = name, %error, "takes no transactions; tried again later");
        }
        let pause_ms = self.peers.standings().pause_ms(TURNED_AWAY, times);
        Ended::Until(self.clock.now_ms().saturating_add(pause_ms))
    }

    /// Gives a turn to servers that were left alone and have been reached by others.
    fn wake_reached(&self) -> Result<(), StoreError> {
        for name in self.peers.standings().reached() {
            if let Some(server) = self.store.server_nid(&name)? {
                self.queues.lock().hurry(server);
            }
        }
        Ok(())
    }
}
