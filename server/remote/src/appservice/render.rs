//! The body of a transaction.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use skerry_account::appservice::{Appservice, sending};
use skerry_account::e2e;
use skerry_core::{Pos, UserNid};
use skerry_room::{Item, Rooms};
use skerry_store::{Snapshot, StoreError};

/// A transaction's body while it is put together.
pub(super) struct Body {
    now_ms: u64,
    /// Whether it is to have the names of before they were in the specification as well.
    early_names: bool,
    events: Vec<Vec<u8>>,
    ephemeral: Vec<String>,
    to_device: Vec<String>,
    changed: BTreeSet<String>,
    left: BTreeSet<String>,
    /// Devices whose keys are to be counted.
    keys: BTreeSet<(u64, String)>,
    bytes: usize,
}

impl Body {
    pub(super) fn new(one: &Appservice, now_ms: u64) -> Body {
        Body {
            now_ms,
            early_names: one.registration.early_names,
            events: Vec::new(),
            ephemeral: Vec::new(),
            to_device: Vec::new(),
            changed: BTreeSet::new(),
            left: BTreeSet::new(),
            keys: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// About how long it is, in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds an item; one that is not there any more is passed over.
    pub(super) fn add(
        &mut self,
        rooms: &Rooms,
        snap: &Snapshot,
        item: Item,
    ) -> Result<(), StoreError> {
        match item {
            Item::Event(id) => {
                if let Some(event) = rooms.event_for_appservices(snap, &id, self.now_ms)? {
                    self.bytes += event.len();
                    self.events.push(event);
                }
            }
            Item::Ephemeral(json) => {
                self.bytes += json.len();
                self.ephemeral.push(json);
            }
            Item::ToDevice(user, device, pos) => {
                let message = sending::message(snap, UserNid(user), &device, Pos(pos))?;
                if let Some(message) = message {
                    let user_id = rooms.store().user_id(UserNid(user))?;
                    let message = addressed(&message, &user_id, &device);
                    self.bytes += message.len();
                    self.to_device.push(message);
                    self.keys.insert((user, device));
                }
            }
            Item::DeviceList(user_id, true) => {
                self.bytes += user_id.len();
                self.left.remove(&user_id);
                self.changed.insert(user_id);
            }
            Item::DeviceList(user_id, false) => {
                self.bytes += user_id.len();
                self.changed.remove(&user_id);
                self.left.insert(user_id);
            }
            Item::Keys(user, device) => {
                self.bytes += device.len() + 8;
                self.keys.insert((user, device));
            }
        }
        Ok(())
    }

    /// The whole body. `keys` are counted as they are now.
    pub(super) fn finish(self, rooms: &Rooms, snap: &Snapshot) -> Result<Vec<u8>, StoreError> {
        let mut out = Vec::with_capacity(self.bytes + 256);
        out.extend_from_slice(b"{\"events\":");
        array(&self.events, &mut out);
        if !self.ephemeral.is_empty() {
            out.extend_from_slice(b",\"ephemeral\":");
            array(&self.ephemeral, &mut out);
            if self.early_names {
                out.extend_from_slice(b",\"de.sorunome.msc2409.ephemeral\":");
                array(&self.ephemeral, &mut out);
            }
        }
        if !self.to_device.is_empty() {
            out.extend_from_slice(b",\"de.sorunome.msc2409.to_device\":");
            array(&self.to_device, &mut out);
        }
        if !self.changed.is_empty() || !self.left.is_empty() {
            let lists = json!({ "changed": self.changed, "left": self.left });
            field("org.matrix.msc3202.device_lists", &lists, &mut out);
        }
        let (counts, fallback) = key_counts(rooms, snap, &self.keys)?;
        if !counts.is_empty() {
            let (counts, fallback) = (json!(counts), json!(fallback));
            field(
                "org.matrix.msc3202.device_one_time_keys_count",
                &counts,
                &mut out,
            );
            // Some know the name from before it was agreed upon.
            field(
                "org.matrix.msc3202.device_one_time_key_counts",
                &counts,
                &mut out,
            );
            let name = "org.matrix.msc3202.device_unused_fallback_key_types";
            field(name, &fallback, &mut out);
        }
        out.push(b'}');
        Ok(out)
    }
}

type ByDevice = BTreeMap<String, Map<String, Value>>;

/// One-time keys left, and fallback keys not used, by user and device.
fn key_counts(
    rooms: &Rooms,
    snap: &Snapshot,
    devices: &BTreeSet<(u64, String)>,
) -> Result<(ByDevice, ByDevice), StoreError> {
    let (mut counts, mut fallback) = (ByDevice::new(), ByDevice::new());
    for (user, device) in devices {
        let user = UserNid(*user);
        let user_id = rooms.store().user_id(user)?;
        let left = e2e::key_counts(snap, user, device)?;
        let put = |all: &mut ByDevice, value| {
            all.entry(user_id.to_string())
                .or_default()
                .insert(device.clone(), value);
        };
        put(&mut counts, json!(left.one_time));
        put(&mut fallback, json!(left.unused_fallback));
    }
    Ok((counts, fallback))
}

/// A message with the device that it is for.
fn addressed(message: &str, user_id: &str, device: &str) -> String {
    let rest = message.strip_prefix('{').unwrap_or(message);
    let (user_id, device) = (Value::from(user_id), Value::from(device));
    format!("{{\"to_device_id\":{device},\"to_user_id\":{user_id},{rest}")
}

fn array<T: AsRef<[u8]>>(items: &[T], out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(item.as_ref());
    }
    out.push(b']');
}

fn field(name: &str, value: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
}
