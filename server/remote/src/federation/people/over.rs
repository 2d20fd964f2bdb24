//! People over the real network.

use std::sync::Arc;
use std::time::Duration;

use ::http::Method;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use skerry_account::Accounts;
use skerry_store::StoreError;

use super::{Ask, People, Reach, Unanswered, follow};
use crate::federation::{Federation, Limits};

/// How large an answer may be, in bytes: the keys of a thousand devices.
const ANSWER_MAX: usize = 16 << 20;

impl People {
    /// The people of a server; `presence`: whether presence is told and taken. To be made before
    /// anybody is served: other servers are told of what happens from then on.
    ///
    /// # Errors
    /// The store's.
    pub fn over(
        federation: &Federation,
        accounts: Accounts,
        presence: bool,
    ) -> Result<People, StoreError> {
        let (rooms, clock) = (federation.rooms().clone(), Arc::clone(federation.clock()));
        if federation.is_enabled() {
            follow::begin(accounts.store())?;
        } else {
            follow::end(accounts.store())?;
        }
        let reach = Arc::new(federation.clone());
        Ok(People::new(accounts, rooms, reach, clock, presence))
    }
}

impl Reach for Federation {
    fn ask<'a>(
        &'a self,
        server: &'a str,
        ask: Ask,
        within: Duration,
    ) -> BoxFuture<'a, Result<Bytes, Unanswered>> {
        Box::pin(async move {
            let limits = Limits::new(within, ANSWER_MAX);
            let (method, path, body) = match ask {
                Ask::Get(path) => (Method::GET, path, None),
                Ask::Post(path, body) => (Method::POST, path, Some(body)),
            };
            let answer = self
                .peers()
                .call_text(server, method, &path, body, limits)
                .await;
            let answer = answer.map_err(|error| Unanswered(error.to_string()))?;
            Ok(answer.body)
        })
    }

    fn send_soon(
        &self,
        servers: &[Arc<str>],
        edu_type: &'static str,
        key: String,
        content: String,
    ) {
        let sent = self.sender().send_soon(servers, edu_type, &key, &content);
        if let Err(error) = sent {
            tracing::warn!(%error, edu_type, "something of the moment is not told");
        }
    }
}
