//! Keys of users of other servers that clients ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::json;
use skerry_account::e2e::{
    AnsweredClaim, AnsweredKeys, ClaimRequest, Claimed, KeyQuery, KeysError, Owner, QueriedKeys,
};
use skerry_core::UserNid;
use skerry_store::{StoreError, blocking};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lists::{Fetch, server_of};
use super::{Ask, Inner, People};

/// How many servers are asked at a time.
const SERVERS_AT_ONCE: usize = 64;
/// Of so many users of one server, lists are fetched one by one; of more, their keys are asked for
/// in one request, and the lists are fetched afterwards.
const LISTS_AT_ONCE: usize = 8;
/// The longest that a client waits for other servers.
const LONGEST: Duration = Duration::from_secs(20);

/// What was found, and which servers did not answer.
#[derive(Debug, Default)]
pub struct Asked<T> {
    /// What was found, here and elsewhere.
    pub found: T,
    /// Servers that did not answer in time, or not what was asked for.
    pub failures: BTreeSet<String>,
}

/// What one server is asked about: devices by user, and which of them are to be followed.
struct ForServer {
    server: String,
    follow: Vec<(String, UserNid)>,
    asked: BTreeMap<String, Vec<String>>,
}

/// What one server answered.
struct FromServer {
    server: String,
    answered: AnsweredKeys,
    asked: BTreeMap<String, Vec<String>>,
    /// Users whose lists are stored now, or were before.
    known: Vec<String>,
    failed: bool,
}

impl People {
    /// Finds keys as `viewer` may see them, also those of users of other servers, waiting at most
    /// `within` for these. Where a server does not answer, what is known of its users is told.
    /// Spec: client-server API, `POST /keys/query`.
    ///
    /// # Errors
    /// The store's.
    pub async fn query(
        &self,
        viewer: &Owner,
        query: KeyQuery,
        within: Duration,
    ) -> Result<Asked<QueriedKeys>, KeysError> {
        let mut found = self.inner.keys.query(viewer, query).await?;
        let remote = std::mem::take(&mut found.remote);
        let mut asked = Asked {
            found,
            failures: BTreeSet::new(),
        };
        if remote.is_empty() {
            return Ok(asked);
        }
        let inner = Arc::clone(&self.inner);
        let named = remote.clone();
        let servers = blocking(move || inner.by_server(named)).await??;
        let until = Instant::now() + within.min(LONGEST);
        let questions = servers.into_iter().map(|question| {
            let inner = Arc::clone(&self.inner);
            async move { inner.ask_server(question, until).await }
        });
        let mut answers = stream::iter(questions).buffer_unordered(SERVERS_AT_ONCE);
        let mut known = BTreeMap::new();
        while let Some(answer) = answers.next().await {
            let answer = answer?;
            if answer.failed {
                asked.failures.insert(answer.server);
            }
            answer.answered.add_to(&mut asked.found, answer.asked);
            for user_id in answer.known {
                let devices = remote.get(&user_id).cloned().unwrap_or_default();
                known.insert(user_id, devices);
            }
        }
        if !known.is_empty() {
            let query = KeyQuery { device_keys: known };
            let known = self.inner.keys.query_known(viewer, query).await?;
            merge(&mut asked.found, known);
        }
        Ok(asked)
    }

    /// Claims keys, also those of users of other servers, waiting at most `within` for these.
    /// Spec: client-server API, `POST /keys/claim`.
    ///
    /// # Errors
    /// The store's.
    pub async fn claim(
        &self,
        request: ClaimRequest,
        within: Duration,
    ) -> Result<Asked<Claimed>, KeysError> {
        let mut found = self.inner.keys.claim(request).await?;
        let mut servers: BTreeMap<String, ClaimRequest> = BTreeMap::new();
        for (user_id, devices) in std::mem::take(&mut found.remote) {
            let of_server = servers.entry(server_of(&user_id).to_owned()).or_default();
            of_server.insert(user_id, devices);
        }
        let mut asked = Asked {
            found,
            failures: BTreeSet::new(),
        };
        let within = within.min(LONGEST);
        let questions = servers.into_iter().map(|(server, request)| async move {
            let body = json!({ "one_time_keys": request }).to_string();
            let ask = Ask::Post("/_matrix/federation/v1/user/keys/claim".to_owned(), body);
            let answer = self.inner.ask_json::<AnsweredClaim>(&server, ask, within);
            (answer.await, server, request)
        });
        let mut answers = stream::iter(questions).buffer_unordered(SERVERS_AT_ONCE);
        while let Some((answer, server, request)) = answers.next().await {
            match answer {
                Some(answer) => answer.add_to(&mut asked.found, request),
                None => drop(asked.failures.insert(server)),
            }
        }
        drop(answers);
        Ok(asked)
    }
}

impl Inner {
    /// Sorts users by their server.
    fn by_server(
        &self,
        remote: BTreeMap<String, Vec<String>>,
    ) -> Result<Vec<ForServer>, StoreError> {
        let snap = self.store.snapshot();
        let mut servers: BTreeMap<String, ForServer> = BTreeMap::new();
        for (user_id, devices) in remote {
            let server = server_of(&user_id).to_owned();
            let of_server = servers.entry(server.clone()).or_insert_with(|| ForServer {
                server,
                follow: Vec::new(),
                asked: BTreeMap::new(),
            });
            match self.met(&snap, &user_id)? {
                Some(user) => of_server.follow.push((user_id.clone(), user)),
                None => drop(of_server.asked.insert(user_id, devices)),
            }
        }
        Ok(servers.into_values().collect())
    }

    async fn ask_server(
        self: Arc<Self>,
        mut question: ForServer,
        until: Instant,
    ) -> Result<FromServer, StoreError> {
        let known: Vec<String> = question.follow.iter().map(|(id, _)| id.clone()).collect();
        let mut failed = false;
        if question.follow.len() > LISTS_AT_ONCE {
            for (user_id, user) in std::mem::take(&mut question.follow) {
                // The list itself is fetched when its time has come.
                self.keys.begin_fetch(user).await?;
                question.asked.insert(user_id, Vec::new());
            }
        } else {
            failed |= !self.follow_all(question.follow, until).await?;
        }
        let mut answered = None;
        if !question.asked.is_empty() {
            let body = json!({ "device_keys": question.asked }).to_string();
            let ask = Ask::Post("/_matrix/federation/v1/user/keys/query".to_owned(), body);
            let within = until.saturating_duration_since(Instant::now());
            answered = self.ask_json(&question.server, ask, within).await;
            failed |= answered.is_none();
        }
        let asked = answered.as_ref().map(|_| question.asked);
        Ok(FromServer {
            server: question.server,
            answered: answered.unwrap_or_default(),
            asked: asked.unwrap_or_default(),
            known,
            failed,
        })
    }

    /// Fetches lists; whether all are up to date in time. What comes later is stored all the same.
    async fn follow_all(
        self: &Arc<Self>,
        users: Vec<(String, UserNid)>,
        until: Instant,
    ) -> Result<bool, StoreError> {
        let mut fetches: JoinSet<_> = JoinSet::new();
        for (user_id, user) in users {
            let inner = Arc::clone(self);
            fetches.spawn(async move { inner.fetch_list(&user_id, user).await });
        }
        let mut all = true;
        loop {
            match tokio::time::timeout_at(until, fetches.join_next()).await {
                Ok(Some(Ok(Ok(())))) => {}
                Ok(Some(Ok(Err(Fetch::Store(error))))) => return Err(error),
                Ok(Some(_)) => all = false,
                Ok(None) => return Ok(all),
                Err(_) => {
                    fetches.detach_all();
                    return Ok(false);
                }
            }
        }
    }

    /// Asks a server; `None` if it does not answer, or not what was asked for.
    async fn ask_json<T: serde::de::DeserializeOwned>(
        &self,
        server: &str,
        ask: Ask,
        within: Duration,
    ) -> Option<T> {
        let answer = tokio::time::timeout(within, self.reach.ask(server, ask, within)).await;
        let body = match answer.ok()? {
            Ok(body) => body,
            Err(error) => {
                tracing::debug!(server, %error, "keys could not be asked for");
                return None;
            }
        };
        serde_json::from_slice(&body).ok()
    }
}

/// Adds what is stored of users to what was found; it is newer, or all there is.
fn merge(found: &mut QueriedKeys, known: QueriedKeys) {
    found.device_keys.extend(known.device_keys);
    found.master_keys.extend(known.master_keys);
    found.self_signing_keys.extend(known.self_signing_keys);
}
