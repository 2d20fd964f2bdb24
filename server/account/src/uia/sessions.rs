//! The sessions of user-interactive authentication, in memory.

use std::collections::HashMap;

use parking_lot::Mutex;
use serde_json::Value;
use skerry_core::UserNid;

use super::{Flow, Stage, UiaScope};
use crate::validation::Proof;

/// How long a session is good for, in ms. Longer than a mail takes to arrive.
const SESSION_MS: u64 = 30 * 60_000;
/// How many sessions are kept; beyond it the oldest go.
const MAX_SESSIONS: usize = 4_096;

/// A session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// The scope's hash: paths can be long.
    pub(super) scope: [u8; 32],
    until_ms: u64,
    /// Every stage that is part of any flow.
    pub(super) stages: Vec<Stage>,
    pub(super) completed: Vec<Stage>,
    pub(super) registration_token: Option<String>,
    pub(super) email: Option<Proof>,
    remembered: Option<Value>,
    registered: Option<UserNid>,
}

impl Session {
    pub(super) fn new(
        scope: &UiaScope,
        flows: &[Flow],
        remembered: Option<Value>,
        now_ms: u64,
    ) -> Session {
        let mut stages: Vec<Stage> = Vec::new();
        for stage in flows.iter().flatten() {
            if !stages.contains(stage) {
                stages.push(*stage);
            }
        }
        Session {
            scope: scope.hash(),
            until_ms: now_ms + SESSION_MS,
            stages,
            completed: Vec::new(),
            registration_token: None,
            email: None,
            remembered,
            registered: None,
        }
    }
}

/// Sessions by id.
#[derive(Default)]
pub(crate) struct UiaSessions(Mutex<HashMap<String, Session>>);

impl UiaSessions {
    /// Opens a session; throws the expired ones out, and the oldest if there are too many.
    pub(super) fn open(&self, id: String, session: Session, now_ms: u64) {
        let mut map = self.0.lock();
        if map.len() >= MAX_SESSIONS {
            map.retain(|_, session| session.until_ms > now_ms);
        }
        if map.len() >= MAX_SESSIONS {
            let oldest = map
                .iter()
                .min_by_key(|(_, s)| s.until_ms)
                .map(|(id, _)| id.clone());
            oldest.map(|id| map.remove(&id));
        }
        map.insert(id, session);
    }

    pub(super) fn find(&self, id: &str, now_ms: u64) -> Option<Session> {
        self.0
            .lock()
            .get(id)
            .filter(|session| session.until_ms > now_ms)
            .cloned()
    }

    pub(super) fn update(&self, id: &str, change: impl FnOnce(&mut Session)) {
        if let Some(session) = self.0.lock().get_mut(id) {
            change(session);
        }
    }

    pub(crate) fn close(&self, id: &str) {
        self.0.lock().remove(id);
    }

    /// What the first request of a registration session asked for.
    pub(crate) fn remembered(&self, id: &str, now_ms: u64) -> Option<Value> {
        self.find(id, now_ms)?.remembered
    }

    /// Which account a registration session made.
    pub(crate) fn registered(&self, id: &str, now_ms: u64) -> Option<UserNid> {
        self.find(id, now_ms)?.registered
    }

    pub(crate) fn note_registered(&self, id: &str, user: UserNid) {
        self.update(id, |session| {
            session.registered = Some(user);
            session.remembered = None;
        });
    }
}
