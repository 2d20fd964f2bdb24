//! Messages from device to device across servers: `m.direct_to_device`.
//!
//! Outgoing ones go into the queue of the receiver's server in the commit that notes the client's
//! transaction. Incoming ones are remembered by their id for a month, so that one that is sent
//! again is not stored again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use skerry_store::outbox::queue_edu;
use skerry_store::schema::e2e_remote::{DirectSeenAtTable, DirectSeenTable};
use skerry_store::{Applied, Expect, Scan, Snapshot, StoreError, Write, blocking};

use super::to_device::{self, Messages, Rendered};
use super::{Keys, is_of, server_of};

/// How long the ids of messages are remembered, in ms.
const REMEMBERED_MS: u64 = 30 * 24 * 3_600_000;
/// How many old ids are forgotten with each new one at most.
const FORGOTTEN_AT_ONCE: usize = 64;
/// Longest id of a message, in bytes: the spec has 32 code points.
const ID_BYTES_MAX: usize = 255;
/// How many bytes of contents go into one EDU, unless one content is longer.
const EDU_BYTES: usize = 60_000;
/// Longest name of a server, in bytes.
const SERVER_BYTES_MAX: usize = 255;

/// Contents by user and device.
type Contents<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a RawValue>>;

/// The content of the EDU.
#[derive(Debug, Deserialize)]
struct Direct {
    sender: String,
    #[serde(rename = "type")]
    kind: String,
    message_id: String,
    messages: BTreeMap<String, BTreeMap<String, Box<RawValue>>>,
}

/// The same, as it is written.
#[derive(Serialize)]
struct Outgoing<'a> {
    sender: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    message_id: String,
    messages: &'a Contents<'a>,
}

impl Keys {
    /// Takes the messages for users of other servers out, by server. Where this server talks to
    /// no others, or a user id is none, they are passed over.
    pub(super) fn abroad(&self, messages: &mut Messages) -> BTreeMap<String, Messages> {
        let mut abroad: BTreeMap<String, Messages> = BTreeMap::new();
        let all = std::mem::take(&mut messages.messages);
        for (user_id, devices) in all {
            if self.is_local(&user_id) {
                messages.messages.insert(user_id, devices);
                continue;
            }
            let Some(server) = self.reachable_server(&user_id) else {
                continue;
            };
            let there = abroad.entry(server.to_owned()).or_default();
            there.messages.insert(user_id, devices);
        }
        abroad
    }

    /// The server of a user of another server, if this server may talk to it.
    fn reachable_server<'a>(&self, user_id: &'a str) -> Option<&'a str> {
        if !self.accounts.settings().federates {
            return None;
        }
        ruma_common::UserId::parse(user_id).ok()?;
        server_of(user_id).filter(|server| server.len() <= SERVER_BYTES_MAX)
    }

    /// Adds messages for users of another server to a batch; gives how many bytes that is.
    pub(super) fn queue_direct(
        &self,
        w: &mut Write,
        (sender, kind): (&str, &str),
        server: &str,
        messages: &Messages,
    ) -> Result<usize, StoreError> {
        let server = self.store().intern_server(server)?;
        let mut queued = 0;
        let mut queue = |w: &mut Write, messages: &Contents<'_>| {
            let content = Outgoing {
                sender,
                kind,
                message_id: self.message_id(),
                messages,
            };
            // Cannot fail: it is made of texts and of JSON.
            let content = serde_json::to_string(&content).unwrap_or_default();
            queued += content.len();
            queue_edu(w, server, "m.direct_to_device", &content);
        };
        let (mut piece, mut bytes) = (Contents::new(), 0);
        for (user_id, devices) in &messages.messages {
            for (device, content) in devices {
                let more = content.get().len() + device.len() + user_id.len();
                if bytes > 0 && bytes + more > EDU_BYTES {
                    queue(w, &std::mem::take(&mut piece));
                    bytes = 0;
                }
                bytes += more;
                piece.entry(user_id).or_default().insert(device, content);
            }
        }
        if !piece.is_empty() {
            queue(w, &piece);
        }
        Ok(queued)
    }

    /// A new id for a message.
    fn message_id(&self) -> String {
        let mut chance = [0u8; 16];
        self.accounts.inner.dice.dice().fill(&mut chance);
        chance.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Stores messages that another server sent for devices of local users, each once however
    /// often they come. Whether they were stored: what is not as the spec has it, and what is
    /// said in the name of another server's user, is passed over.
    /// Spec: server-server API, Send-to-device messaging.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn take_direct(&self, origin: &str, content: &RawValue) -> Result<bool, StoreError> {
        let Ok(direct) = serde_json::from_str::<Direct>(content.get()) else {
            return Ok(false);
        };
        let known = direct.message_id.len() <= ID_BYTES_MAX && is_of(&direct.sender, origin);
        if !known {
            return Ok(false);
        }
        let mut messages = Messages {
            messages: direct.messages,
        };
        messages
            .messages
            .retain(|user_id, _| self.is_local(user_id));
        let Ok(rendered) = to_device::check(&direct.sender, &direct.kind, messages) else {
            return Ok(false);
        };
        let id = message_key(origin, &direct.message_id);
        let keys = self.clone();
        let stored = blocking(move || keys.store_direct(id, &rendered)).await??;
        let Some(applied) = stored else {
            return Ok(false);
        };
        self.store().durable(&applied).await?;
        Ok(true)
    }

    /// `None` if they are too much; already there counts as stored.
    fn store_direct(
        &self,
        id: [u8; 32],
        messages: &[Rendered],
    ) -> Result<Option<Applied>, StoreError> {
        let now_ms = self.accounts.inner.clock.now_ms();
        self.attempts(|snap, w| {
            if snap.has::<DirectSeenTable>(&id)? {
                return Ok(Some(()));
            }
            if !self.plan_messages(snap, w, messages)? {
                return Ok(None);
            }
            w.expect::<DirectSeenTable>(&id, Expect::Absent);
            w.put::<DirectSeenTable>(&id, &now_ms);
            w.put::<DirectSeenAtTable>(&(now_ms, id), &());
            forget_old(snap, w, now_ms.saturating_sub(REMEMBERED_MS))?;
            Ok(Some(()))
        })
    }
}

/// Under what a message of another server is remembered.
fn message_key(origin: &str, message_id: &str) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    hash.update(origin.as_bytes());
    hash.update(&[0]);
    hash.update(message_id.as_bytes());
    *hash.finalize().as_bytes()
}

fn forget_old(snap: &Snapshot, w: &mut Write, before_ms: u64) -> Result<(), StoreError> {
    let scan = Scan::all()
        .to(&(before_ms, [0; 32]))
        .limit(FORGOTTEN_AT_ONCE);
    for row in snap.scan::<DirectSeenAtTable>(scan) {
        let (key, ()) = row?;
        w.delete::<DirectSeenAtTable>(&key);
        w.delete::<DirectSeenTable>(&key.1);
    }
    Ok(())
}
