//! Looking for keys: in memory, in the store, at their server, at those that are trusted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ::http::Method;
use futures_util::StreamExt;
use skerry_core::canonical::{Object, Value};
use skerry_core::keys::verify_object;
use skerry_store::schema::remote::{KeyAnswer, KeyAnswers, OlderKeyAnswers, ServerKeys};
use skerry_store::{StoreError, blocking};

use super::Inner;
use super::answer::{self, Answer};
use super::known::{Keys, Known, Moment, Wanted, answers_of, still_of_use};
use super::revoked::Revoked;
use crate::federation::peers::Limits;

/// What asking a server for its keys may cost.
const LIMITS: Limits = Limits::new(Duration::from_secs(10), 64 << 10).even_if_resting();
/// What asking one for the keys of others may cost.
const TRUSTED_LIMITS: Limits = Limits::new(Duration::from_secs(20), 4 << 20);
/// How many servers are asked at a time.
const AT_ONCE: usize = 32;
/// How many servers one request to a trusted one asks for.
const PER_REQUEST: usize = 50;
/// From so many servers on, those that are trusted are asked first: one request instead of many.
const MANY: usize = 12;
/// How long a server that said what it has is not asked again, in ms.
const SAID_MS: u64 = 10_000;
/// How long one that did not answer is not asked again, in ms; doubled each time.
const FAILED_MS: u64 = 30_000;
/// The longest of these times, in ms.
const LONGEST_MS: u64 = 3_600_000;
/// How often in such a time it is asked all the same, for others who want to know how it stands
/// now.
const AGAIN_MAX: u32 = 5;
/// How many servers are remembered as asked.
const REMEMBERED: usize = 10_000;

/// That a server was asked for its keys.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried {
    failures: u32,
    next_ms: u64,
    /// How often it was asked although its time had not come.
    again: u32,
}

impl Inner {
    pub(super) async fn find(&self, wanted: Vec<Wanted>) -> Result<Keys, StoreError> {
        let mut keys = Keys::default();
        let servers: BTreeSet<Arc<str>> = wanted.iter().map(|w| Arc::clone(&w.server)).collect();
        self.look_up(&mut keys, servers).await?;
        let mut unmet = unmet(&keys, wanted);
        let many = !self.trusted.is_empty() && by_server(&unmet).len() > MANY;
        if many {
            unmet = self.ask_trusted(&mut keys, unmet).await?;
        }
        if unmet.is_empty() {
            return Ok(keys);
        }
        let grouped = by_server(&unmet);
        let asked: Vec<Arc<str>> = grouped.keys().cloned().collect();
        let asking = grouped.into_iter().map(|(server, wanted)| async move {
            let met = |known: &Known| wanted.iter().all(|wanted| wanted.is_met(known));
            self.ask(&server, true, met).await
        });
        let done: Vec<Result<(), StoreError>> = futures_util::stream::iter(asking)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        done.into_iter().collect::<Result<(), _>>()?;
        self.look_up(&mut keys, asked.into_iter().collect()).await?;
        let unmet = self::unmet(&keys, unmet);
        if !unmet.is_empty() && !many {
            self.ask_trusted(&mut keys, unmet).await?;
        }
        Ok(keys)
    }

    /// What memory and store have of these servers.
    pub(super) async fn look_up(
        &self,
        keys: &mut Keys,
        mut servers: BTreeSet<Arc<str>>,
    ) -> Result<(), StoreError> {
        if servers.remove(&self.own.name) {
            keys.insert(Arc::clone(&self.own.name), Arc::new(self.own.known()));
        }
        servers.retain(|server| match self.cache.lock().get(server) {
            Some(known) => {
                keys.insert(Arc::clone(server), Arc::clone(known));
                false
            }
            None => true,
        });
        if servers.is_empty() {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        let found = blocking(move || {
            let snap = store.newest();
            let mut found = Vec::new();
            for server in servers {
                if let Some(nid) = store.server_nid(&server)? {
                    found.push((server, Known::read(&snap, nid)?));
                }
            }
            Ok::<_, StoreError>(found)
        })
        .await??;
        let revoked = self.revoked();
        for (server, mut known) in found {
            // The list may have got longer since the key was learned.
            known.keys.retain(|_, key| !revoked.holds(&key.public));
            let known = Arc::new(known);
            self.remember(&server, &known);
            keys.insert(server, known);
        }
        Ok(())
    }

    /// The keys that nobody may use, as the list is now.
    fn revoked(&self) -> Arc<Revoked> {
        Arc::clone(&self.revoked.lock())
    }

    fn remember(&self, server: &Arc<str>, known: &Arc<Known>) {
        let bytes = known.bytes();
        let mut cache = self.cache.lock();
        cache.put(Arc::clone(server), Arc::clone(known), bytes);
    }

    /// What is known of one server.
    async fn known(&self, server: &Arc<str>) -> Result<Option<Arc<Known>>, StoreError> {
        let mut keys = Keys::default();
        self.look_up(&mut keys, BTreeSet::from([Arc::clone(server)]))
            .await?;
        Ok(keys.take(server))
    }

    /// Asks a server for its keys, unless what is known `suffices` by the time it is this one's
    /// turn, or it was asked just now. `keep`: in the store, for good.
    pub(super) async fn ask(
        &self,
        server: &Arc<str>,
        keep: bool,
        suffices: impl Fn(&Known) -> bool,
    ) -> Result<(), StoreError> {
        let _asking = self.asking.lock(Arc::clone(server)).await;
        let known = self.known(server).await?;
        let tried = self.tried.lock().get(server).copied().unwrap_or_default();
        if known.is_some_and(|known| suffices(&known)) || tried.next_ms > self.clock.now_ms() {
            return Ok(());
        }
        self.ask_now(server, keep, Tried { again: 0, ..tried })
            .await
    }

    /// Asks a server for others, also when it was asked just now, but not more than a few times.
    pub(super) async fn ask_again(&self, server: &Arc<str>) -> Result<(), StoreError> {
        let _asking = self.asking.lock(Arc::clone(server)).await;
        let tried = self.tried.lock().get(server).copied().unwrap_or_default();
        let again = match tried.next_ms > self.clock.now_ms() {
            true if tried.again >= AGAIN_MAX => return Ok(()),
            true => tried.again + 1,
            false => 0,
        };
        self.ask_now(server, false, Tried { again, ..tried }).await
    }

    async fn ask_now(&self, server: &Arc<str>, keep: bool, tried: Tried) -> Result<(), StoreError> {
        let path = "/_matrix/key/v2/server";
        let answer = self
            .peers
            .call_unsigned(server, Method::GET, path, None, LIMITS)
            .await;
        let now_ms = self.clock.now_ms();
        let read = answer
            .and_then(|answer| Ok(answer.object()?))
            .map_err(|error| error.to_string())
            .and_then(|object| {
                let read = answer::read(object, server, &self.revoked(), now_ms);
                read.map_err(str::to_owned)
            });
        let (failures, pause_ms) = match &read {
            Ok(_) => (0, SAID_MS),
            Err(why) => {
                tracing::debug!(%server, why, "no keys of a server");
                let doubled = FAILED_MS.checked_shl(tried.failures).unwrap_or(LONGEST_MS);
                (
                    tried.failures.saturating_add(1).min(16),
                    doubled.min(LONGEST_MS),
                )
            }
        };
        let next_ms = now_ms.saturating_add(pause_ms);
        self.note(
            server,
            Tried {
                failures,
                next_ms,
                again: tried.again,
            },
        );
        match read {
            Ok(answer) => self.learn(server, answer, true, keep).await,
            Err(_) => Ok(()),
        }
    }

    fn note(&self, server: &Arc<str>, tried: Tried) {
        let mut all = self.tried.lock();
        if all.len() >= REMEMBERED {
            let now_ms = self.clock.now_ms();
            all.retain(|_, tried| tried.next_ms > now_ms);
        }
        if all.len() >= REMEMBERED {
            // Names come from whoever speaks to us.
            all.clear();
        }
        all.insert(Arc::clone(server), tried);
    }

    /// Keeps what an answer says.
    async fn learn(
        &self,
        server: &Arc<str>,
        answer: Answer,
        first_hand: bool,
        keep: bool,
    ) -> Result<(), StoreError> {
        let (store, name) = (Arc::clone(&self.store), Arc::clone(server));
        let now_ms = self.clock.now_ms();
        let passing = self.passing.lock().get(server).cloned();
        let known = blocking(move || {
            let nid = match store.server_nid(&name)? {
                None if keep => Some(store.intern_server(&name)?),
                found => found,
            };
            let snap = store.newest();
            let mut known = nid
                .map(|nid| Known::read(&snap, nid))
                .transpose()?
                .unwrap_or_default();
            let changed = known.learn(answer.keys, first_hand);
            let row = KeyAnswer {
                json: answer.object.to_string(),
                fetched_ms: now_ms,
                valid_until_ms: answer.valid_until_ms,
            };
            let Some(nid) = nid else {
                let older = still_of_use(&answer.object, passing.unwrap_or_default());
                let mut rows = vec![row];
                rows.extend(older);
                return Ok((known, Some(rows)));
            };
            let mut w = store.write();
            for (id, key) in changed {
                w.put::<ServerKeys>(&(nid, id), &key);
            }
            let before = answers_of(&snap, nid)?;
            let newest = before.first();
            if first_hand || newest.is_none_or(|b| b.valid_until_ms < row.valid_until_ms) {
                let older = still_of_use(&answer.object, before);
                w.put::<KeyAnswers>(&nid, &row);
                w.put::<OlderKeyAnswers>(&nid, &older);
            }
            // Not waited for: what is lost is asked for again.
            let _ = store.commit(w)?;
            Ok::<_, StoreError>((known, None))
        })
        .await??;
        let (mut known, unkept) = known;
        if let Some(rows) = unkept {
            let bytes = rows.iter().map(|row| row.json.len() + 200).sum();
            self.passing.lock().put(Arc::clone(server), rows, bytes);
        }
        let revoked = self.revoked();
        known.keys.retain(|_, key| !revoked.holds(&key.public));
        self.remember(server, &Arc::new(known));
        Ok(())
    }

    /// Asks the trusted servers, one after the other, for what is still unmet; gives what is left.
    async fn ask_trusted(
        &self,
        keys: &mut Keys,
        mut unmet: Vec<Wanted>,
    ) -> Result<Vec<Wanted>, StoreError> {
        for trusted in &self.trusted {
            // Nobody vouches for itself.
            let grouped = by_server(&unmet);
            let servers: Vec<_> = grouped.iter().filter(|(s, _)| *s != trusted).collect();
            for some in servers.chunks(PER_REQUEST) {
                let mut asked = Object::new();
                for (server, wanted) in some {
                    asked.insert(server, criteria(wanted));
                }
                for (server, answer) in self.ask_one_trusted(trusted, asked).await? {
                    let _asking = self.asking.lock(Arc::clone(&server)).await;
                    self.learn(&server, answer, false, true).await?;
                }
            }
            let servers = grouped.into_keys().collect();
            self.look_up(keys, servers).await?;
            unmet = self::unmet(keys, unmet);
            if unmet.is_empty() {
                break;
            }
        }
        Ok(unmet)
    }

    /// What a trusted server says about others, where it is signed by it and by them.
    async fn ask_one_trusted(
        &self,
        trusted: &Arc<str>,
        asked: Object,
    ) -> Result<Vec<(Arc<str>, Answer)>, StoreError> {
        let now_ms = self.clock.now_ms();
        let current = Moment::Request(now_ms);
        let any = |known: &Known| known.keys.values().any(|key| current.allows(key));
        self.ask(trusted, true, any).await?;
        let Some(known) = self.known(trusted).await? else {
            return Ok(Vec::new());
        };
        let servers = asked.clone();
        let mut body = Object::new();
        body.insert("server_keys", asked);
        let path = "/_matrix/key/v2/query";
        let answer = self
            .peers
            .call_unsigned(
                trusted,
                Method::POST,
                path,
                Some(body.to_string()),
                TRUSTED_LIMITS,
            )
            .await;
        let objects = match answer {
            Ok(answer) => answer::from_notary(&answer.body).unwrap_or_default(),
            Err(error) => {
                tracing::info!(%trusted, %error, "a trusted key server did not help");
                return Ok(Vec::new());
            }
        };
        let vouched = |object: &Object| {
            let keys = known.keys.iter().filter(|(_, key)| current.allows(key));
            keys.into_iter()
                .any(|(id, key)| verify_object(object, trusted, id, &key.public))
        };
        let mut found = Vec::new();
        for object in objects {
            let server: Option<Arc<str>> = object.str("server_name").map(Arc::from);
            let server = server.filter(|server| servers.get(server).is_some());
            let Some(server) = server.filter(|_| vouched(&object)) else {
                continue;
            };
            if let Ok(answer) = answer::read(object, &server, &self.revoked(), now_ms) {
                found.push((server, answer));
            }
        }
        Ok(found)
    }
}

fn unmet(keys: &Keys, wanted: Vec<Wanted>) -> Vec<Wanted> {
    let mut wanted = wanted;
    wanted.retain(|wanted| !keys.meet(wanted));
    wanted
}

fn by_server(wanted: &[Wanted]) -> BTreeMap<Arc<str>, Vec<Wanted>> {
    let mut grouped: BTreeMap<Arc<str>, Vec<Wanted>> = BTreeMap::new();
    for one in wanted {
        let server = Arc::clone(&one.server);
        grouped.entry(server).or_default().push(one.clone());
    }
    grouped
}

/// What a trusted server is asked about one server: its keys by id, each to be good at the latest
/// moment for which it is wanted.
fn criteria(wanted: &[Wanted]) -> Object {
    let mut latest: HashMap<&str, u64> = HashMap::new();
    for one in wanted {
        let at_ms = match one.moment {
            Moment::Request(at_ms) | Moment::Signed(at_ms) => at_ms,
            Moment::Whenever(_) => 0,
        };
        for id in &one.key_ids {
            let known = latest.entry(id).or_default();
            *known = at_ms.max(*known);
        }
    }
    let criteria = latest.into_iter().map(|(id, at_ms)| {
        let mut until = Object::new();
        let at = i64::try_from(at_ms).unwrap_or(i64::MAX);
        until.insert("minimum_valid_until_ts", at);
        (id.to_owned(), Value::Object(until))
    });
    criteria.collect()
}
