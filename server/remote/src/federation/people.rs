//! People and their devices across servers: everything about users of other servers that is no
//! event, and what other servers have to know of ours.
//!
//! * `take.rs`: EDUs that other servers send.
//! * `follow.rs`: what they are to be told, found from the log: device lists, receipts.
//! * `moment.rs`: what lives for a moment: typing, presence.
//! * `lists.rs`: device lists of their users, fetched where an update is missing.
//! * `early.rs`: what is said of people before a room is shared with them.
//! * `ask.rs`: keys that clients ask for.
//!
//! It sees the network as a [`Reach`], so that two servers in one process need none.

mod ask;
mod early;
mod follow;
mod lists;
mod moment;
mod over;
mod reach;
mod receipts;
mod take;

use std::sync::Arc;

use skerry_account::Accounts;
use skerry_account::e2e::{
    ClaimRequest, Claimed, KeyQuery, Keys, KeysError, QueriedKeys, ServedList,
};
use skerry_core::{Clock, UserNid};
use skerry_room::Rooms;
use skerry_store::{Lanes, Store};
use tokio::sync::{Notify, Semaphore, watch};

pub use ask::Asked;
pub use reach::{Ask, Reach, Unanswered};

use early::Early;
use moment::Fans;
use receipts::Waiting;

/// How many device lists are fetched at a time.
const FETCHES: usize = 32;

/// People and their devices across servers. A cheap handle.
#[derive(Clone)]
pub struct People {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    accounts: Accounts,
    keys: Keys,
    rooms: Rooms,
    reach: Arc<dyn Reach>,
    clock: Arc<dyn Clock>,
    /// Whether presence is told and taken.
    presence: bool,
    /// One fetch at a time of each list.
    fetching: Lanes<UserNid>,
    fetches: Semaphore,
    /// Rung when a list is to be fetched.
    stale: Notify,
    fans: Fans,
    waiting: Waiting,
    early: Early,
}

impl People {
    /// The people of these accounts and rooms; `presence`: whether presence is told and taken.
    #[must_use]
    pub fn new(
        accounts: Accounts,
        rooms: Rooms,
        reach: Arc<dyn Reach>,
        clock: Arc<dyn Clock>,
        presence: bool,
    ) -> People {
        let store = Arc::clone(accounts.store());
        People {
            inner: Arc::new(Inner {
                store,
                keys: accounts.keys(),
                accounts,
                rooms,
                reach,
                clock,
                presence,
                fetching: Lanes::new(),
                fetches: Semaphore::new(FETCHES),
                stale: Notify::new(),
                fans: Fans::default(),
                waiting: Waiting::default(),
                early: Early::default(),
            }),
        }
    }

    /// Tells other servers what they have to know, and fetches what is missing of theirs, until
    /// `stop` becomes true. To be run once.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        tokio::join!(
            self.follow(stop.clone()),
            self.tell_moments(stop.clone()),
            self.fetch_lists(stop),
        );
    }

    /// A local user's device list, for another server.
    ///
    /// # Errors
    /// [`KeysError::NoDevice`] for a user without an account here; the store's.
    pub async fn devices(&self, user_id: &str) -> Result<ServedList, KeysError> {
        self.inner.keys.served_list(user_id).await
    }

    /// Keys of local users, for another server.
    ///
    /// # Errors
    /// The store's.
    pub async fn query_keys(&self, query: KeyQuery) -> Result<QueriedKeys, KeysError> {
        self.inner.keys.served_query(query).await
    }

    /// Claims keys of local users for another server; users of other servers are passed over.
    ///
    /// # Errors
    /// The store's.
    pub async fn claim_keys(&self, request: ClaimRequest) -> Result<Claimed, KeysError> {
        self.inner.keys.claim(request).await
    }
}

#[cfg(test)]
mod tests;
