//! What goes on beside requests. Each worker is a loop that ends when the server stops; none of
//! them does anything while nothing happens, but for a glance every few minutes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use skerry_account::Accounts;
use skerry_core::Clock;
use skerry_federation::{Inbox, Judge, Patience};
use skerry_media::Blobs;
use skerry_remote::livekit::Leaves;
use skerry_room::{Purge, RoomError, Rooms};
use skerry_store::{Store, StoreError, blocking};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::alarm::Alarm;
use crate::{House, allocator, media};

/// How often last-seen times are written.
const LAST_SEEN_EVERY: Duration = Duration::from_secs(5 * 60);
/// How often it is written when media was looked at.
const USES_EVERY: Duration = Duration::from_secs(10 * 60);
/// How often unread counts that took much work are saved, if there are any.
const UNREAD_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked for people who went offline without saying so.
const PRESENCE_EVERY: Duration = Duration::from_secs(15);
/// How often old entries of the log are taken out.
const TRIM_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long what was sent is gathered before it is put into the search index. A search that comes
/// meanwhile does it at once.
const INDEX_EVERY: Duration = Duration::from_secs(3);
/// How often it is looked for messages that have expired.
const PURGE_EVERY: Duration = Duration::from_secs(60 * 60);
/// How old an entry of the log may get, in ms: older sync tokens are answered more slowly.
const LOG_AGE_MS: u64 = 7 * 24 * 3_600_000;
/// How often sticky events that are sticky no more are taken away.
const STICKY_EVERY: Duration = Duration::from_secs(60);
/// How long to wait before work in damaged rooms is tried again.
const ASIDE_AFTER: Duration = Duration::from_secs(10 * 60);
/// How often old transactions are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// How often it is looked for originals of redacted events that were kept long enough.
const ORIGINALS_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long the answer to a transaction is kept.
const TXN_AGE_MS: u64 = 7 * 24 * 3_600_000;
/// How often the directory of people is brought up to date.
const PEOPLE_EVERY: Duration = Duration::from_secs(5 * 60);
/// How often it is looked whether memory can be given back.
const MEMORY_EVERY: Duration = Duration::from_secs(20);
/// As much more memory than after the last time is worth giving some back, in bytes.
const MEMORY_STEP: u64 = 16 << 20;
/// How long work that failed waits before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// How long workers get at the end.
const END_WITHIN: Duration = Duration::from_secs(10);

type Stop = watch::Receiver<bool>;

/// The workers of a house, and the word to stop.
pub struct Workers {
    running: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Workers {
    /// Starts all workers. Has to be called inside a tokio runtime.
    #[must_use]
    pub fn start(house: &House) -> Workers {
        let (sender, stop) = watch::channel(false);
        Workers {
            running: start(house, &stop),
            stop: sender,
        }
    }

    /// Becomes true when the server stops.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Tells everyone who watches [`Workers::stopping`] to stop.
    pub fn tell(&self) {
        self.stop.send_replace(true);
    }

    /// Tells the workers to stop and waits until they have.
    pub async fn stop(mut self) {
        self.tell();
        let rest = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(END_WITHIN, rest).await.is_err() {
            tracing::warn!("background work did not end in time");
        }
        self.running.shutdown().await;
    }
}

fn start(house: &House, stop: &Stop) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    let sync = house.sync.clone();
    workers.spawn(until_stop(stop.clone(), sync.run()));
    workers.spawn(until_stop(
        stop.clone(),
        typing(house.rooms.clone(), Arc::clone(&house.clock)),
    ));
    workers.spawn(until_stop(stop.clone(), presence(house.accounts.clone())));
    workers.spawn(until_stop(
        stop.clone(),
        trim(Arc::clone(&house.store), Arc::clone(&house.clock)),
    ));
    workers.spawn(until_stop(stop.clone(), house.rooms.clone().run_delayed()));
    if let Some(livekit) = house.calls.livekit.clone() {
        let leaves = Leaves::new(livekit, house.rooms.clone(), Arc::clone(&house.clock));
        workers.spawn(until_stop(stop.clone(), leaves.run()));
    }
    workers.spawn(until_stop(stop.clone(), sweep_sticky(house.rooms.clone())));
    workers.spawn(until_stop(
        stop.clone(),
        sweep_txns(house.accounts.clone(), Arc::clone(&house.clock)),
    ));
    workers.spawn(jobs(
        house.accounts.clone(),
        house.rooms.clone(),
        stop.clone(),
    ));
    workers.spawn(redactions(house.rooms.clone(), stop.clone()));
    workers.spawn(until_stop(
        stop.clone(),
        sweep_originals(house.rooms.clone()),
    ));
    workers.spawn(until_stop(
        stop.clone(),
        index(Arc::clone(&house.store), house.rooms.clone()),
    ));
    let (outbox, push) = (house.outgoing.outbox.clone(), house.outgoing.push.clone());
    workers.spawn(outbox.run(stop.clone()));
    let federation = &house.outgoing.federation;
    if federation.is_enabled() {
        workers.spawn(federation.sender().clone().run(stop.clone()));
        workers.spawn(house.outgoing.people.clone().run(stop.clone()));
    }
    workers.spawn(push.run(stop.clone()));
    workers.spawn(house.outgoing.bridges.clone().listen(stop.clone()));
    let judge = Arc::new(Judge::new(house.outgoing.federation.clone()));
    let inbox = house.inbox.clone();
    workers.spawn(inbox.run(judge, Patience::default(), stop.clone()));
    workers.spawn(until_stop(stop.clone(), sweep_inbox(house.inbox.clone())));
    workers.spawn(until_stop(stop.clone(), people(house.rooms.clone())));
    workers.spawn(until_stop(stop.clone(), purge(house.rooms.clone())));
    workers.spawn(until_stop(stop.clone(), give_back_memory()));
    if let Some(alarm) = Alarm::of(house) {
        workers.spawn(until_stop(stop.clone(), alarm.run()));
    }
    start_media(house, stop, &mut workers);
    workers.spawn(write_last_seen(house.accounts.clone(), stop.clone()));
    workers.spawn(save_unread(house.rooms.clone(), stop.clone()));
    workers
}

/// What looks after media.
fn start_media(house: &House, stop: &Stop, workers: &mut JoinSet<()>) {
    workers.spawn(write_uses(Arc::clone(&house.blobs), stop.clone()));
    if house.blobs.is_far() {
        let sweep = sweep_media(Arc::clone(&house.blobs));
        workers.spawn(until_stop(stop.clone(), sweep));
    }
    let (pruner, trash_stop) = (house.pruner.clone(), stop.clone());
    workers.spawn(async move { pruner.follow(trash_stop).await });
    if let Some(budget) = house.config.remote_cache {
        let (pruner, stop) = (house.pruner.clone(), stop.clone());
        workers.spawn(async move { pruner.keep_budget(budget, stop).await });
    }
    if let Some(schedule) = house.config.media_schedule.clone() {
        let (pruner, stop) = (house.pruner.clone(), stop.clone());
        workers.spawn(async move { pruner.keep_to(schedule, stop).await });
    }
}

/// For work that may be dropped at any point.
async fn until_stop(mut stop: Stop, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Waits for so long; true if the server stops meanwhile.
async fn stopped_within(stop: &mut Stop, time: Duration) -> bool {
    tokio::time::timeout(time, stop.wait_for(|stop| *stop))
        .await
        .is_ok()
}

/// Ends typing whose time is over.
async fn typing(rooms: Rooms, clock: Arc<dyn Clock>) {
    rooms.typing().run(&*clock).await;
}

/// Notices who went idle or offline.
async fn presence(accounts: Accounts) {
    loop {
        tokio::time::sleep(PRESENCE_EVERY).await;
        accounts.presence().sweep();
    }
}

/// Keeps the log short.
async fn trim(store: Arc<Store>, clock: Arc<dyn Clock>) {
    loop {
        tokio::time::sleep(TRIM_EVERY).await;
        let (store, now_ms) = (Arc::clone(&store), clock.now_ms());
        let trimmed = skerry_store::blocking(move || store.trim_log(now_ms, LOG_AGE_MS)).await;
        if let Ok(Err(error)) | Err(error) = trimmed {
            tracing::warn!(%error, "the log was not trimmed");
        }
    }
}

/// Puts what was sent into the search index.
async fn index(store: Arc<Store>, rooms: Rooms) {
    let mut published = store.published();
    loop {
        published.borrow_and_update();
        match rooms.index_now().await {
            // Nothing is lost: it goes on from where it stands once there is space.
            Ok(()) | Err(RoomError::Store(StoreError::Full)) => {}
            Err(RoomError::Store(StoreError::Closed)) => return,
            Err(error) => {
                tracing::warn!(%error, "the search index does not follow");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
        tokio::time::sleep(INDEX_EVERY).await;
        if published.changed().await.is_err() {
            return;
        }
    }
}

/// Keeps up the directory of people; whoever searches brings it up to date besides.
async fn people(rooms: Rooms) {
    loop {
        if let Err(error) = rooms.follow_people().await {
            tracing::warn!(%error, "the directory of people is not up to date");
        }
        tokio::time::sleep(PEOPLE_EVERY).await;
    }
}

/// Deletes messages that rooms keep no longer.
async fn purge(rooms: Rooms) {
    let mut purge = Purge::default();
    loop {
        tokio::time::sleep(PURGE_EVERY).await;
        match rooms.purge_expired(&mut purge).await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "expired messages were deleted"),
            Err(error) => tracing::warn!(%error, "expired messages were not deleted"),
        }
    }
}

/// Gives memory back to the system after a load.
async fn give_back_memory() {
    let mut before = allocator::resident_bytes();
    loop {
        tokio::time::sleep(MEMORY_EVERY).await;
        if allocator::resident_bytes() > before + MEMORY_STEP {
            let given = tokio::task::spawn_blocking(allocator::give_back).await;
            if given.is_ok() {
                before = allocator::resident_bytes();
            }
        }
    }
}

/// Forgets what was answered to transactions that no client repeats any more.
async fn sweep_txns(accounts: Accounts, clock: Arc<dyn Clock>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let before_ms = clock.now_ms().saturating_sub(TXN_AGE_MS);
        if let Err(error) = accounts.sweep_txns(before_ms).await {
            tracing::warn!(%error, "old transactions were not swept");
        }
    }
}

/// Forgets what was answered to transactions that no server repeats any more.
async fn sweep_inbox(inbox: Inbox) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        if let Err(error) = inbox.sweep().await {
            tracing::warn!(%error, "old transactions of servers were not swept");
        }
    }
}

/// Takes away what is not sticky any more.
async fn sweep_sticky(rooms: Rooms) {
    loop {
        tokio::time::sleep(STICKY_EVERY).await;
        if let Err(error) = rooms.sweep_sticky().await {
            tracing::warn!(%error, "sticky events were not swept");
        }
    }
}

/// Carries what changed in accounts into their rooms: new names, closed accounts.
async fn jobs(accounts: Accounts, rooms: Rooms, mut stop: Stop) {
    let mut bell = accounts.jobs_bell();
    loop {
        bell.borrow_and_update();
        let wait = match rooms.run_jobs().await {
            Ok(true) => None,
            Ok(false) => Some(ASIDE_AFTER),
            Err(RoomError::Store(StoreError::Closed)) => return,
            Err(error) => {
                tracing::warn!(%error, "work in rooms has to be tried again");
                if stopped_within(&mut stop, RETRY_AFTER).await {
                    return;
                }
                continue;
            }
        };
        let over = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            rung = bell.changed() => {
                if rung.is_err() {
                    return;
                }
            }
            () = over => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Carries out redactions that were too many for one write.
async fn redactions(rooms: Rooms, mut stop: Stop) {
    let mut bell = rooms.redactions_bell();
    loop {
        bell.borrow_and_update();
        match rooms.run_redactions().await {
            Ok(()) => {}
            Err(RoomError::Store(StoreError::Closed)) => return,
            Err(error) => {
                tracing::warn!(%error, "redactions have to be tried again");
                if stopped_within(&mut stop, RETRY_AFTER).await {
                    return;
                }
                continue;
            }
        }
        tokio::select! {
            rung = bell.changed() => {
                if rung.is_err() {
                    return;
                }
            }
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Forgets what redacted events said, when moderators have had their time to read it.
async fn sweep_originals(rooms: Rooms) {
    loop {
        if let Err(error) = rooms.sweep_originals().await {
            tracing::warn!(%error, "originals of redacted events were not swept");
        }
        tokio::time::sleep(ORIGINALS_EVERY).await;
    }
}

/// Writes when devices were last seen; once more at the end.
async fn write_last_seen(accounts: Accounts, mut stop: Stop) {
    loop {
        let stopping = stopped_within(&mut stop, LAST_SEEN_EVERY).await;
        if let Err(error) = accounts.write_last_seen().await {
            tracing::warn!(%error, "last-seen times were not written");
        }
        if stopping {
            return;
        }
    }
}

/// Writes when media was looked at; once more at the end.
async fn write_uses(blobs: Arc<Blobs>, mut stop: Stop) {
    loop {
        let stopping = stopped_within(&mut stop, USES_EVERY).await;
        if let Err(error) = blobs.write_uses().await {
            tracing::warn!(%error, "times of looks at media were not written");
        }
        if stopping {
            return;
        }
    }
}

/// Looks once through an object store for what a crash left there.
async fn sweep_media(blobs: Arc<Blobs>) {
    loop {
        let these = Arc::clone(&blobs);
        match blocking(move || these.sweep_storage()).await {
            Ok(Ok(swept)) => return media::say(swept),
            Ok(Err(error)) => tracing::warn!(%error, "the media store was not looked through"),
            Err(error) => tracing::warn!(%error, "the media store was not looked through"),
        }
        tokio::time::sleep(ASIDE_AFTER).await;
    }
}

/// Writes down unread counts that took much work to make; once more at the end.
async fn save_unread(rooms: Rooms, mut stop: Stop) {
    loop {
        let stopping = stopped_within(&mut stop, UNREAD_EVERY).await;
        if let Err(error) = rooms.save_unread().await {
            tracing::warn!(%error, "unread counts were not saved");
        }
        if stopping {
            return;
        }
    }
}
