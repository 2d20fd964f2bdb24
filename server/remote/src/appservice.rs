//! Application services: what they are sent, and what they are asked (application service API).
//!
//! * [`Transactions`] empties their queues, as one of the outbox's deliverers: events, typing,
//!   receipts, presence, messages to devices, in order, each in one transaction that is always
//!   sent with the same number and body.
//! * [`Bridges::listen`] follows what no change queues for them: receipts, typing, presence and
//!   what encryption needs.
//! * [`Bridges`] asks them: whether a user or alias exists, what they know of other networks,
//!   whether they are there.

mod ask;
mod deliver;
mod listen;
mod network;
mod render;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skerry_account::Accounts;
use skerry_account::appservice::Appservice;
use skerry_core::Clock;
use skerry_room::Rooms;
use skerry_store::outbox::Dest;
use tokio::sync::Semaphore;

pub use ask::{Existence, PingError};
pub use deliver::Transactions;
pub use network::Entity;

use crate::http::{HttpError, Request, Response, Transport};
use crate::outbox::Outbox;

/// Questions to application services at a time.
const ASKING_MAX: usize = 64;
/// Questions that may wait for their turn; also strangers can cause some.
const WAITING_MAX: usize = 512;
/// Under which prefix the endpoints of an application service lie.
const PREFIX: &str = "/_matrix/app/v1";

/// What application services are asked. A cheap handle: clone it freely.
#[derive(Clone)]
pub struct Bridges {
    inner: Arc<Inner>,
}

struct Inner {
    accounts: Accounts,
    rooms: Rooms,
    transport: Arc<dyn Transport>,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
    asking: Semaphore,
    /// Places for those who ask and those who wait to.
    places: Semaphore,
    /// What was said not to exist a moment ago, and until when that counts, in ms since the
    /// epoch.
    absent: Mutex<HashMap<String, u64>>,
    networks: network::Cache,
}

impl Bridges {
    /// Asks by this transport; what a ping reaches is sent what waits in this outbox.
    #[must_use]
    pub fn new(
        accounts: Accounts,
        rooms: Rooms,
        transport: Arc<dyn Transport>,
        outbox: Outbox,
        clock: Arc<dyn Clock>,
    ) -> Bridges {
        Bridges {
            inner: Arc::new(Inner {
                accounts,
                rooms,
                transport,
                outbox,
                clock,
                asking: Semaphore::new(ASKING_MAX),
                places: Semaphore::new(ASKING_MAX + WAITING_MAX),
                absent: Mutex::default(),
                networks: network::Cache::default(),
            }),
        }
    }
}

impl Inner {
    /// Lets an application service be sent at once what waits for it.
    fn reached(&self, one: &Appservice) {
        let dest = Dest::Appservice(one.registration.id.clone());
        self.outbox.try_now(dest);
    }

    /// The same for all of them.
    fn reached_all(&self) {
        for one in self.accounts.appservices().all() {
            self.reached(one);
        }
    }

    /// One question, among a bounded number of them at a time. Where too many wait, it counts as
    /// one that was not answered in time.
    async fn ask(&self, request: Request) -> Result<Response, HttpError> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(HttpError::Timeout(Duration::ZERO));
        };
        let _turn = self.asking.acquire().await;
        self.transport.send(request).await
    }
}

/// The URL of an endpoint of an application service; none for one that listens nowhere.
fn endpoint(one: &Appservice, path: &str) -> Option<String> {
    let url = one.registration.url.as_deref()?;
    Some(format!("{url}{PREFIX}{path}"))
}

/// Adds what every request to an application service carries. The operator wrote the URL, so it
/// may be any address.
fn signed(one: &Appservice, request: Request) -> Request {
    request.bearer(&one.registration.hs_token).trusted()
}

/// A name as one segment of a path or one value of a query.
fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
