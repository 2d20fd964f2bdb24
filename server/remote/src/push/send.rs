//! Emptying the queue of one gateway or push service.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use skerry_account::Accounts;
use skerry_account::pusher::{self, PushItem, Pusher, PusherKey, PusherKind};
use skerry_core::{Clock, Pos, UserNid};
use skerry_room::Rooms;
use skerry_store::outbox::Dest;
use skerry_store::{StoreError, blocking};
use tokio::time::Instant;

use super::follow::store_error;
use super::gateway;
use super::notification::{Composer, Notification};
use super::web::{VapidKey, WebPusher};
use crate::http::Transport;
use crate::outbox::{Deliver, Next, Report, Row, TURN};

/// Pushers of one gateway that are told at a time.
const AT_ONCE: usize = 16;
/// Rows taken at once.
const BATCH: usize = 128;
/// Rows kept for a gateway that is not reached.
const MAX_ROWS: usize = 20_000;
/// Pushers of which it is known how much they were last told is unread.
const MAX_BADGES: usize = 50_000;

/// What became of one request.
#[derive(Debug)]
pub(super) enum Sent {
    Arrived,
    /// Nothing was sent: it is not worth it any more.
    Dropped,
    /// The pusher is not known there any more.
    Rejected,
    /// Not wanted, and never will be.
    Refused(String),
    /// Perhaps later.
    Failed {
        why: String,
        after: Option<Duration>,
    },
}

/// Sends notifications to push gateways and push services.
pub struct Pushes(Arc<Inner>);

struct Inner {
    accounts: Accounts,
    composer: Composer,
    transport: Arc<dyn Transport>,
    web: WebPusher,
    clock: Arc<dyn Clock>,
    /// How much each pusher was last told is unread.
    badges: Mutex<HashMap<(UserNid, PusherKey), u64>>,
}

/// What waits for one pusher.
type Mine = Vec<(Pos, PushItem)>;

/// What became of what waited for one pusher.
#[derive(Default)]
struct Outcome {
    done: Vec<Pos>,
    /// Not worth sending any more; says nothing of the gateway.
    dropped: Vec<Pos>,
    failed: Option<(String, Option<Duration>)>,
}

impl Pushes {
    /// Sends by this transport.
    #[must_use]
    pub fn new(
        accounts: Accounts,
        rooms: Rooms,
        transport: Arc<dyn Transport>,
        key: VapidKey,
        clock: Arc<dyn Clock>,
    ) -> Pushes {
        Pushes(Arc::new(Inner {
            accounts,
            composer: Composer::new(rooms),
            transport,
            web: WebPusher {
                key,
                clock: Arc::clone(&clock),
            },
            clock,
            badges: Mutex::default(),
        }))
    }
}

impl Deliver for Pushes {
    fn serves(&self, dest: &Dest) -> bool {
        matches!(dest, Dest::Push(_))
    }

    fn batch_rows(&self) -> usize {
        BATCH
    }

    fn max_rows(&self) -> usize {
        MAX_ROWS
    }

    fn deliver<'a>(&'a self, dest: &'a Dest, rows: &'a [Row]) -> BoxFuture<'a, Report> {
        Box::pin(async move {
            let Dest::Push(url) = dest else {
                return Report::give_up("not a push gateway");
            };
            self.0.deliver(url, rows).await
        })
    }
}

impl Inner {
    /// Tells several pushers at a time, each in the order of its rows.
    async fn deliver(self: &Arc<Self>, url: &str, rows: &[Row]) -> Report {
        let mut report = Report::done(&[]);
        let until = Instant::now() + TURN;
        let mut pushers: BTreeMap<(UserNid, PusherKey), Mine> = BTreeMap::new();
        for row in rows {
            match PushItem::read(&row.item).map(|item| (item.user(), item.key(), item)) {
                Some((user, Some(key), item)) => {
                    let mine = pushers.entry((user, key)).or_default();
                    mine.push((row.pos, item));
                }
                _ => report.bad.push(row.pos),
            }
        }
        let told = pushers.into_iter().map(|((user, key), mine)| {
            let (this, url) = (Arc::clone(self), url.to_owned());
            async move { this.tell(&url, (user, key), mine, until).await }
        });
        let told: Vec<Outcome> = futures_util::stream::iter(told)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut dropped = Vec::new();
        for outcome in told {
            report.done.extend(outcome.done);
            dropped.extend(outcome.dropped);
            if let Some((why, after)) = outcome.failed {
                report.next = Next::Failed { why, after };
            }
        }
        // Where nothing arrives, the pauses are to grow.
        if report.next == Next::Go || !report.done.is_empty() {
            report.done.extend(dropped);
        }
        report
    }

    /// Tells one pusher what waits for it, until something fails or its gateway's turn is over.
    async fn tell(
        self: Arc<Self>,
        url: &str,
        (user, key): (UserNid, PusherKey),
        mine: Mine,
        until: Instant,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let last = mine.last().map(|(pos, _)| *pos);
        for (pos, item) in mine {
            if Instant::now() >= until {
                break;
            }
            // What comes after it says how much is unread too.
            let overtaken = matches!(item, PushItem::Badge { .. }) && Some(pos) != last;
            let sent = if overtaken {
                Ok(Sent::Dropped)
            } else {
                self.tell_one(url, user, &key, item).await
            };
            match sent {
                Ok(Sent::Arrived | Sent::Rejected) => outcome.done.push(pos),
                Ok(Sent::Dropped) => outcome.dropped.push(pos),
                Ok(Sent::Refused(why)) => {
                    tracing::info!(app_id = key.app_id, why, "a notification was refused");
                    outcome.done.push(pos);
                }
                Ok(Sent::Failed { why, after }) => {
                    outcome.failed = Some((why, after));
                    break;
                }
                Err(error) => {
                    outcome.failed = Some((error.to_string(), None));
                    break;
                }
            }
        }
        outcome
    }

    /// Tells one pusher of one item, where it is still worth sending.
    async fn tell_one(
        self: &Arc<Self>,
        url: &str,
        user: UserNid,
        key: &PusherKey,
        item: PushItem,
    ) -> Result<Sent, StoreError> {
        let (this, key_now, url_now) = (Arc::clone(self), key.clone(), url.to_owned());
        let found = blocking(move || this.look_up(&url_now, user, &key_now, item)).await??;
        let Some((pusher, what)) = found else {
            return Ok(Sent::Dropped);
        };
        let to = (url, key, &pusher);
        let transport = &*self.transport;
        let sent = match what {
            What::Activate(token) => self.web.activate(transport, to, &token).await,
            What::Notify(notification) => {
                let unread = notification.unread;
                let sent = match pusher.kind {
                    PusherKind::Http => {
                        gateway::send(transport, url, (key, &pusher), notification).await
                    }
                    PusherKind::WebPush => self.web.send(transport, to, notification).await,
                };
                if let (Sent::Arrived, Some(unread)) = (&sent, unread) {
                    self.note_badge(user, key, unread);
                }
                sent
            }
        };
        if matches!(sent, Sent::Rejected) {
            tracing::info!(
                app_id = key.app_id,
                "a pusher is not known any more and goes"
            );
            let gone = self.accounts.reject_pusher(user, key.clone(), pusher).await;
            if let Some(error) = gone.err().and_then(store_error) {
                return Err(error);
            }
        }
        Ok(sent)
    }

    fn look_up(
        &self,
        url: &str,
        user: UserNid,
        key: &PusherKey,
        item: PushItem,
    ) -> Result<Option<(Pusher, What)>, StoreError> {
        let snap = self.accounts.store().snapshot();
        // It may be gone, switched off or elsewhere by now.
        let pusher = pusher::one(&snap, user, key)?;
        let pusher = pusher.filter(|pusher| pusher::url(pusher).as_deref() == Some(url));
        let Some(pusher) = pusher else {
            return Ok(None);
        };
        if let PushItem::Activate { token, .. } = item {
            let current = pusher.ack.as_ref() == Some(&token);
            let good = current && pusher.ack_until_ms > self.clock.now_ms();
            return Ok(good.then_some((pusher, What::Activate(token))));
        }
        if !pusher::in_use(&pusher) {
            return Ok(None);
        }
        if matches!(item, PushItem::Badge { .. }) {
            let unread = self.composer.unread(&snap, user)?;
            let known = self.badges.lock().get(&(user, key.clone())).copied();
            if known == Some(unread) {
                return Ok(None);
            }
        }
        let now_ms = self.clock.now_ms();
        let notification = self.composer.compose(&snap, &item, &pusher, now_ms)?;
        Ok(notification.map(|notification| (pusher, What::Notify(notification))))
    }

    fn note_badge(&self, user: UserNid, key: &PusherKey, unread: u64) {
        let mut badges = self.badges.lock();
        if badges.len() >= MAX_BADGES {
            badges.clear();
        }
        badges.insert((user, key.clone()), unread);
    }
}

/// What is sent.
enum What {
    Notify(Notification),
    Activate(String),
}
