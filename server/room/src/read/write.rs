//! Events as clients get them: stored bytes, with an `unsigned` of the reader's own.

use std::sync::Arc;

use skerry_core::StoredEvent;
use skerry_core::canonical::write_string_bytes;
use skerry_core::event::ClientOptions;
use skerry_store::StoreError;

use crate::read::bundle::Bundles;
use crate::{Placed, View, sticky};

/// What an event is written for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    /// Whether it says which room it is of.
    pub room_id: bool,
    /// Part of a state: without what would have to be looked up for each of thousands (the
    /// reader's membership, the previous content of members).
    pub brief: bool,
    /// Whether the sender is also said as `user_id`, as it was before there was `/sync`.
    pub user_id: bool,
}

impl Form {
    /// An event by itself, or in a list of messages.
    pub const EVENT: Form = Form {
        room_id: true,
        brief: false,
        user_id: false,
    };
    /// An event in a list of state.
    pub const STATE: Form = Form {
        room_id: true,
        brief: true,
        user_id: false,
    };
    /// An event of the deprecated endpoints that `/sync` took the place of.
    pub const OLD: Form = Form {
        user_id: true,
        ..Form::EVENT
    };
    /// An event in a list of state of such an endpoint.
    pub const OLD_STATE: Form = Form {
        user_id: true,
        ..Form::STATE
    };
    /// An event of a sync's timeline.
    pub const SYNC: Form = Form {
        room_id: false,
        brief: false,
        user_id: false,
    };
    /// An event of a sync's state.
    pub const SYNC_STATE: Form = Form {
        room_id: false,
        brief: true,
        user_id: false,
    };
}

impl View {
    /// Appends a JSON array of events, with what relates to them under `m.relations`.
    ///
    /// # Errors
    /// The store's.
    pub fn write_bundled(
        &mut self,
        events: &[Arc<Placed>],
        form: Form,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let bundles = self.bundles(events)?;
        self.write_array(events, form, &bundles, out)
    }

    /// Appends a JSON array of events.
    ///
    /// # Errors
    /// The store's.
    pub fn write_plain(
        &mut self,
        events: &[Arc<Placed>],
        form: Form,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        self.write_array(events, form, &Bundles::default(), out)
    }

    fn write_array(
        &mut self,
        events: &[Arc<Placed>],
        form: Form,
        bundles: &Bundles,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        out.push(b'[');
        let mut scratch = Vec::with_capacity(256);
        for (at, event) in events.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            self.write_event(event, form, bundles, &mut scratch, out)?;
        }
        out.push(b']');
        Ok(())
    }

    /// Appends one event, with what relates to it where `bundles` has something. `scratch` is
    /// room to work in.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn write_event(
        &mut self,
        event: &Placed,
        form: Form,
        bundles: &Bundles,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        scratch.clear();
        self.write_unsigned(event, form, bundles, scratch)?;
        let unsigned = Some(scratch.as_slice());
        let options = ClientOptions {
            room_id: form.room_id,
            unsigned,
            content: None,
        };
        event.event.write_client(out, options);
        if form.user_id {
            // An object with members: its brace is opened again for one more.
            out.pop();
            name(b"user_id", out);
            write_string_bytes(event.event.sender(), out);
            out.push(b'}');
        }
        Ok(())
    }

    /// Appends one event with what relates to it.
    ///
    /// # Errors
    /// The store's.
    pub fn write_one(
        &mut self,
        event: &Arc<Placed>,
        form: Form,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let bundles = self.bundles(std::slice::from_ref(event))?;
        self.write_event(event, form, &bundles, &mut Vec::with_capacity(256), out)
    }

    fn write_unsigned(
        &mut self,
        event: &Placed,
        form: Form,
        bundles: &Bundles,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        out.extend_from_slice(b"{\"age\":");
        write_age(&event.event, self.now_ms, out);
        if let Some(bundle) = bundles.get(event.nid) {
            out.extend_from_slice(b",\"m.relations\":");
            out.extend_from_slice(bundle);
        }
        if !form.brief {
            let membership = self.membership_at(event)?;
            name(b"membership", out);
            write_string_bytes(membership.as_str(), out);
        }
        self.write_sticky(&event.event, out);
        if let Some(before) = event.meta.replaces {
            // A state is mostly members.
            let content = !form.brief || event.event.event_type() != "m.room.member";
            self.write_replaced(before, content, out)?;
        }
        if let Some(redaction) = event.redacted_by {
            self.write_because(redaction, form, out)?;
        }
        if let Some(sent) = &event.sent
            && event.meta.sender == self.reader.user
        {
            if let Some(delay_id) = &sent.delay_id {
                name(b"org.matrix.msc4140.delay_id", out);
                write_string_bytes(delay_id, out);
            }
            if let Some(txn) = sent.txn.as_ref().filter(|_| *sent.device == *self.device) {
                name(b"transaction_id", out);
                write_string_bytes(txn, out);
            }
        }
        out.push(b'}');
        Ok(())
    }

    /// For how long the event is sticky still, in ms (MSC4354).
    fn write_sticky(&self, event: &StoredEvent, out: &mut Vec<u8>) {
        let left = sticky::expires_ms(event, self.now_ms);
        let left = left.map_or(0, |at_ms| at_ms.saturating_sub(self.now_ms));
        if left > 0 {
            name(b"msc4354_sticky_duration_ttl_ms", out);
            out.extend_from_slice(left.to_string().as_bytes());
        }
    }

    /// What a state event replaced; its content only where the reader may see it. One that has no
    /// place of its own is part of the state before the event, which they may see.
    fn write_replaced(
        &mut self,
        before: skerry_core::EventNid,
        content: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        if content
            && let Some(before) = self.rooms.placed(&self.snap, self.room, before)?
            && (before.meta.is_outlier() || self.may_see(&before)?)
        {
            name(b"prev_content", out);
            out.extend_from_slice(before.event.content().as_bytes());
        }
        name(b"replaces_state", out);
        write_string_bytes(&self.rooms.store().event_id(before)?, out);
        Ok(())
    }

    /// The redaction that took effect on an event.
    fn write_because(
        &mut self,
        redaction: skerry_core::EventNid,
        form: Form,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let Some(redaction) = self.rooms.placed(&self.snap, self.room, redaction)? else {
            return Ok(());
        };
        let mut unsigned = b"{\"age\":".to_vec();
        write_age(&redaction.event, self.now_ms, &mut unsigned);
        if !form.brief {
            let membership = self.membership_at(&redaction)?;
            name(b"membership", &mut unsigned);
            write_string_bytes(membership.as_str(), &mut unsigned);
        }
        unsigned.push(b'}');
        // What it was called before the specification; some clients and bots look there.
        name(b"redacted_by", out);
        write_string_bytes(redaction.event.event_id(), out);
        name(b"redacted_because", out);
        let unsigned = Some(unsigned.as_slice());
        let options = ClientOptions {
            room_id: form.room_id,
            unsigned,
            content: None,
        };
        redaction.event.write_client(out, options);
        Ok(())
    }
}

/// `,"name":`
fn name(name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name);
    out.extend_from_slice(b"\":");
}

/// How long ago an event was made, in ms; negative if its server's clock is ahead of ours.
fn write_age(event: &StoredEvent, now_ms: u64, out: &mut Vec<u8>) {
    let age = i128::from(now_ms) - i128::from(event.origin_server_ts());
    out.extend_from_slice(age.to_string().as_bytes());
}
