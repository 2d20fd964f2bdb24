//! Messages that devices leave for each other: `PUT /sendToDevice`, and the queue that `/sync`
//! reads. Those from and to other servers are in `direct.rs`.
//!
//! A message lies under its device at its log position until that device syncs with a token past
//! it. The row `to_device_last` says when one last arrived and is gone when the queue is empty, so
//! that an idle sync reads one row and is done.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;
use skerry_core::{Pos, UserNid};
use skerry_store::schema::account::Devices;
use skerry_store::schema::e2e::{ToDeviceLast, ToDeviceRow, ToDeviceTable};
use skerry_store::{Applied, Change, Expect, Scan, Snapshot, StoreError, Write, blocking};

use super::Keys;
use crate::txn::{self, TxnAnswer, TxnKey};

/// How many messages one answer of `/sync` holds at most, as the spec recommends.
pub const MESSAGES_PER_SYNC: usize = 100;
/// Longest message content, in bytes.
const CONTENT_BYTES_MAX: usize = 65_536;
/// Longest event type, in bytes.
const KIND_BYTES_MAX: usize = 255;
/// Most messages in one request, each device counted.
const MESSAGES_MAX: usize = 20_000;
/// Most bytes that one request may store: `*` multiplies a message by its receiver's devices.
const STORED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a stored message takes beside its text, in bytes: keys, a fact in the log.
const ROW_BYTES: usize = 256;
/// How many messages one acknowledgement removes at most; the rest goes with the next one.
const REMOVED_AT_ONCE: usize = 1_000;
/// Most messages that wait for one device: of more, the oldest go. A device that has so many to
/// fetch has been away for months, and asks for the keys it lacks.
const QUEUE_MAX: usize = 10_000;
/// Most bytes that wait for one device.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Devices whose queues are counted in memory.
const GAUGES_MAX: usize = 65_536;
/// How often a send plans again because a device came or went meanwhile.
const ATTEMPTS: usize = 16;

/// What is sent: user id, device id or `*` for all devices, content.
#[derive(Debug, Default, Deserialize)]
pub struct Messages {
    /// Contents by user and device.
    pub messages: BTreeMap<String, BTreeMap<String, Box<RawValue>>>,
}

/// Who sends.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The user's Matrix id.
    pub user_id: Arc<str>,
    /// The user's number.
    pub user: UserNid,
    /// The transaction: the sending device, the endpoint with the event type, the client's id.
    pub txn: TxnKey,
}

/// Why messages were not sent.
#[derive(Debug, thiserror::Error)]
pub enum ToDeviceError {
    /// A content is no JSON object.
    #[error("a message is not a JSON object")]
    Shape,
    /// A content or the type is too long, or all of it together.
    #[error("a message or its type is too long, or there are too many")]
    TooLarge,
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// Messages waiting for a device.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Each one `{"content": .., "sender": .., "type": ..}`, oldest first.
    pub messages: Vec<String>,
    /// Where the device stands once it has these: the position of the last one if more are
    /// waiting, else the head of the snapshot. The next sync token has to carry it as a field of
    /// its own, since it may lie behind everything else the token covers.
    pub upto: Pos,
    /// Whether more are waiting: the next sync has an answer at once.
    pub more: bool,
}

/// When a message last arrived for a device, if any that it has not acknowledged is (or may be)
/// waiting: one point read. Nothing is new for a device whose last message is not after `since`.
///
/// # Errors
/// Those of the store.
pub fn last_message(
    snap: &Snapshot,
    user: UserNid,
    device: &str,
) -> Result<Option<Pos>, StoreError> {
    snap.get::<ToDeviceLast>(&(user, device.to_owned()))
}

/// Messages for a device after `since`, at most `limit`. The same `since` gives the same answer
/// as long as nothing beyond it was acknowledged.
///
/// # Errors
/// Those of the store.
pub fn waiting(
    snap: &Snapshot,
    user: UserNid,
    device: &str,
    since: Pos,
    limit: usize,
) -> Result<Waiting, StoreError> {
    let mut found = Waiting {
        upto: snap.head(),
        ..Waiting::default()
    };
    if last_message(snap, user, device)?.is_none_or(|last| last <= since) {
        return Ok(found);
    }
    let device = device.to_owned();
    let scan = Scan::prefix(&(user, device.clone())).after(&(user, device, since));
    let mut last = since;
    for row in snap.scan::<ToDeviceTable>(scan.limit(limit.saturating_add(1))) {
        let ((_, _, pos), row) = row?;
        if found.messages.len() == limit {
            found.upto = last;
            found.more = true;
            break;
        }
        last = pos;
        found.messages.push(row.json);
    }
    Ok(found)
}

/// Adds a message for one local device to a batch. `json` is the event as `/sync` shows it. The
/// commit fails with `Conflict` if the device is gone by then.
pub fn put_message(w: &mut Write, user: UserNid, device: &str, json: String) {
    let slot = (user, device.to_owned());
    w.expect::<Devices>(&slot, Expect::Present);
    let pos = w.log(Change::ToDevice {
        user,
        device: slot.1.clone(),
    });
    w.put::<ToDeviceTable>(&(slot.0, slot.1.clone(), pos), &ToDeviceRow { json });
    w.put::<ToDeviceLast>(&slot, &pos);
}

/// How much waits for devices, as far as was counted since the start: never less than there is.
#[derive(Default)]
pub(crate) struct Queues(Mutex<HashMap<(UserNid, String), Gauge>>);

/// How much waits for one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Gauge {
    count: usize,
    bytes: usize,
}

impl Gauge {
    fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes + ROW_BYTES;
    }

    fn is_full(self) -> bool {
        self.count > QUEUE_MAX || self.bytes > QUEUE_BYTES_MAX
    }

    /// Counts what is there.
    fn of(snap: &Snapshot, slot: &(UserNid, String)) -> Result<Gauge, StoreError> {
        let mut gauge = Gauge::default();
        for row in snap.scan::<ToDeviceTable>(Scan::prefix(slot)) {
            gauge.add(row?.1.json.len());
        }
        Ok(gauge)
    }
}

impl Queues {
    /// A message of so many bytes joins a queue. Where that is too long, its oldest tenth goes.
    fn join(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        slot: &(UserNid, String),
        bytes: usize,
    ) -> Result<(), StoreError> {
        let known = self.0.lock().get(slot).copied();
        let mut gauge = match known {
            Some(gauge) => gauge,
            None => Gauge::of(snap, slot)?,
        };
        gauge.add(bytes);
        if gauge.is_full() {
            gauge = Gauge::of(snap, slot)?;
            gauge.add(bytes);
            if gauge.is_full() {
                gauge = shorten(snap, w, slot, gauge)?;
            }
        }
        let mut all = self.0.lock();
        if all.len() >= GAUGES_MAX {
            all.clear();
        }
        all.insert(slot.clone(), gauge);
        Ok(())
    }

    /// So many messages of so many bytes were fetched.
    fn leave(&self, slot: &(UserNid, String), count: usize, bytes: usize) {
        let mut all = self.0.lock();
        if let Some(gauge) = all.get_mut(slot) {
            gauge.count = gauge.count.saturating_sub(count);
            gauge.bytes = gauge.bytes.saturating_sub(bytes);
            if gauge.count == 0 {
                all.remove(slot);
            }
        }
    }
}

/// Takes the oldest messages out until a tenth is free.
fn shorten(
    snap: &Snapshot,
    w: &mut Write,
    slot: &(UserNid, String),
    mut gauge: Gauge,
) -> Result<Gauge, StoreError> {
    let mut gone = 0;
    for row in snap.scan::<ToDeviceTable>(Scan::prefix(slot)) {
        if gauge.count <= QUEUE_MAX / 10 * 9 && gauge.bytes <= QUEUE_BYTES_MAX / 10 * 9 {
            break;
        }
        let (key, row) = row?;
        w.delete::<ToDeviceTable>(&key);
        gauge.count = gauge.count.saturating_sub(1);
        gauge.bytes = gauge.bytes.saturating_sub(row.json.len() + ROW_BYTES);
        gone += 1;
    }
    tracing::info!(
        device = slot.1,
        gone,
        "too many messages wait for a device: the oldest go"
    );
    Ok(gauge)
}

impl Keys {
    /// Stores messages for devices of local users and queues those for users of other servers,
    /// each once however often the same transaction is sent, and all of them or none.
    ///
    /// Unknown users and devices are passed over without a word, and so are users of other servers
    /// where this server does not talk to them.
    /// Spec: client-server API, `PUT /sendToDevice/{eventType}/{txnId}`.
    ///
    /// # Errors
    /// [`ToDeviceError::Shape`], [`ToDeviceError::TooLarge`] and those of the store.
    pub async fn send_to_device(
        &self,
        sender: Sender,
        kind: &str,
        mut messages: Messages,
    ) -> Result<(), ToDeviceError> {
        check_contents(kind, &messages)?;
        let abroad = self.abroad(&mut messages);
        let messages = check(&sender.user_id, kind, messages)?;
        let lane = self.accounts.txn_lane(&sender.txn).await;
        let (keys, kind) = (self.clone(), kind.to_owned());
        let applied = blocking(move || {
            let _lane = lane;
            keys.send_now(&sender, &messages, &kind, &abroad)
        })
        .await??;
        self.store().durable(&applied).await?;
        Ok(())
    }

    fn send_now(
        &self,
        sender: &Sender,
        messages: &[Rendered],
        kind: &str,
        abroad: &BTreeMap<String, Messages>,
    ) -> Result<Applied, ToDeviceError> {
        let answer = TxnAnswer {
            status: 200,
            answer: "{}".to_owned(),
        };
        let sent = self.attempts(|snap, w| {
            if txn::lookup(snap, &sender.txn)?.is_some() {
                return Ok(Some(()));
            }
            if !self.plan_messages(snap, w, messages)? {
                return Ok(None);
            }
            let mut queued = 0;
            for (server, messages) in abroad {
                queued += self.queue_direct(w, (&sender.user_id, kind), server, messages)?;
            }
            let now_ms = self.accounts.inner.clock.now_ms();
            txn::record(w, &sender.txn, &answer, now_ms);
            Ok((queued <= STORED_BYTES_MAX).then_some(()))
        })?;
        sent.ok_or(ToDeviceError::TooLarge)
    }

    /// Plans on the newest view and commits, again where a device came or went meanwhile. A plan
    /// that writes nothing becomes a wait for what it was decided on; one that gives `None` is
    /// dropped.
    pub(super) fn attempts(
        &self,
        plan: impl Fn(&Snapshot, &mut Write) -> Result<Option<()>, StoreError>,
    ) -> Result<Option<Applied>, StoreError> {
        let mut attempt = 0;
        loop {
            let snap = self.store().newest();
            let mut w = self.store().write();
            if plan(&snap, &mut w)?.is_none() {
                return Ok(None);
            }
            if w.is_empty() {
                return Ok(Some(self.store().barrier()));
            }
            match self.store().commit(w) {
                Err(StoreError::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
                done => return done.map(Some),
            }
        }
    }

    /// Adds messages for local users to a batch. False if they are too much.
    pub(super) fn plan_messages(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        messages: &[Rendered],
    ) -> Result<bool, StoreError> {
        let mut stored = 0;
        for message in messages {
            let copies = self.plan_message(snap, w, message)?;
            stored += copies * (message.json.len() + ROW_BYTES);
            if stored > STORED_BYTES_MAX {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn plan_message(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        message: &Rendered,
    ) -> Result<usize, StoreError> {
        let Some(user) = self.local_nid(&message.user_id)? else {
            return Ok(0);
        };
        if message.device != "*" {
            if snap
                .get::<Devices>(&(user, message.device.clone()))?
                .is_some()
            {
                self.put_bounded(snap, w, (user, message.device.clone()), &message.json)?;
                return Ok(1);
            }
            return Ok(0);
        }
        let mut copies = 0;
        for row in snap.scan::<Devices>(Scan::prefix(&user)) {
            let ((_, device), _) = row?;
            self.put_bounded(snap, w, (user, device), &message.json)?;
            copies += 1;
        }
        Ok(copies)
    }

    /// A message for a device, whose queue stays within its bounds.
    fn put_bounded(
        &self,
        snap: &Snapshot,
        w: &mut Write,
        slot: (UserNid, String),
        json: &str,
    ) -> Result<(), StoreError> {
        let queues = &self.accounts.inner.queues;
        queues.join(snap, w, &slot, json.len())?;
        put_message(w, slot.0, &slot.1, json.to_owned());
        Ok(())
    }

    /// Notes that a device has all messages up to `upto`, because it synced with a token that
    /// says so: they are deleted. Costs one point read when there are none. Not waited for:
    /// should the deletion be lost, it is done again by the next sync.
    ///
    /// # Errors
    /// Those of the store.
    pub fn acknowledge(&self, user: UserNid, device: &str, upto: Pos) -> Result<(), StoreError> {
        // What the token covers was published before the token was made.
        if last_message(&self.store().snapshot(), user, device)?.is_none() {
            return Ok(());
        }
        let snap = self.store().newest();
        let Some(last) = last_message(&snap, user, device)? else {
            return Ok(());
        };
        let slot = (user, device.to_owned());
        let mut w = self.store().write();
        let scan = Scan::prefix(&slot).limit(REMOVED_AT_ONCE);
        let mut all = true;
        let (mut removed, mut bytes) = (0, 0);
        for row in snap.scan::<ToDeviceTable>(scan) {
            let (key, row) = row?;
            if key.2 > upto {
                all = false;
                break;
            }
            w.delete::<ToDeviceTable>(&key);
            removed += 1;
            bytes += row.json.len() + ROW_BYTES;
        }
        if all && removed < REMOVED_AT_ONCE && last <= upto {
            // A message that arrives meanwhile moves this row: then it stays.
            w.expect::<ToDeviceLast>(&slot, Expect::Is(&last));
            w.delete::<ToDeviceLast>(&slot);
        }
        if w.is_empty() {
            return Ok(());
        }
        match self.store().commit(w) {
            Ok(_) => {
                self.accounts.inner.queues.leave(&slot, removed, bytes);
                Ok(())
            }
            Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A message, ready to be stored.
pub(super) struct Rendered {
    user_id: String,
    device: String,
    json: String,
}

/// What can be said of messages without the store.
fn check_contents(kind: &str, messages: &Messages) -> Result<(), ToDeviceError> {
    let count: usize = messages.messages.values().map(BTreeMap::len).sum();
    if kind.len() > KIND_BYTES_MAX || count > MESSAGES_MAX {
        return Err(ToDeviceError::TooLarge);
    }
    for content in messages.messages.values().flat_map(BTreeMap::values) {
        if content.get().len() > CONTENT_BYTES_MAX {
            return Err(ToDeviceError::TooLarge);
        }
        if !content.get().starts_with('{') {
            return Err(ToDeviceError::Shape);
        }
    }
    Ok(())
}

pub(super) fn check(
    sender: &str,
    kind: &str,
    messages: Messages,
) -> Result<Vec<Rendered>, ToDeviceError> {
    check_contents(kind, &messages)?;
    let tail = format!(
        ",\"sender\":{},\"type\":{}}}",
        serde_json::Value::from(sender),
        serde_json::Value::from(kind)
    );
    let mut rendered = Vec::new();
    for (user_id, devices) in messages.messages {
        for (device, content) in devices {
            let json = format!("{{\"content\":{content}{tail}");
            rendered.push(Rendered {
                user_id: user_id.clone(),
                device,
                json,
            });
        }
    }
    Ok(rendered)
}
