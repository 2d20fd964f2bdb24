//! What relates to an event, in short (spec: server-side aggregation of child events).

use std::collections::HashMap;
use std::sync::Arc;

use skerry_core::canonical::write_string_bytes;
use skerry_core::{EventNid, Order};
use skerry_store::schema::room::{RelKind, Relation, Relations};
use skerry_store::schema::room_read::Parents;
use skerry_store::{Scan, StoreError};

use crate::read::placed::Range;
use crate::{EventFilter, Form, Placed, View, rel_kind};

/// Edits of one event that are looked at, newest arrivals first.
const EDITS_MAX: usize = 256;
/// References to one event that are listed, oldest first.
const REFERENCES_MAX: usize = 256;
/// Children of a thread tried, newest first, to find the latest that the reader may see.
const LATEST_TRIES: usize = 64;

/// What to show under `m.relations` of events, each a JSON object.
#[derive(Debug, Default)]
pub(crate) struct Bundles(HashMap<EventNid, Vec<u8>>);

impl Bundles {
    pub(crate) fn get(&self, event: EventNid) -> Option<&[u8]> {
        self.0.get(&event).map(Vec::as_slice)
    }
}

impl View {
    /// What relates to each of these events. State events have no aggregations.
    pub(crate) fn bundles(&mut self, events: &[Arc<Placed>]) -> Result<Bundles, StoreError> {
        let nids: Vec<EventNid> = events.iter().map(|event| event.nid).collect();
        let mut bundles = Bundles::default();
        for kind in [RelKind::Reference, RelKind::Replace, RelKind::Thread] {
            let parents = self.parents_among(kind, &nids)?;
            for event in events {
                if parents.binary_search(&event.nid).is_err() || event.event.is_state() {
                    continue;
                }
                let mut json = Vec::new();
                let shown = match kind {
                    RelKind::Reference => self.write_references(event, &mut json)?,
                    RelKind::Replace => self.write_edit(event, &mut json)?,
                    _ => self.write_thread(event, &mut json)?,
                };
                if shown {
                    let bundle = bundles.0.entry(event.nid).or_insert_with(|| b"{}".to_vec());
                    bundle.pop();
                    if bundle.len() > 1 {
                        bundle.push(b',');
                    }
                    bundle.append(&mut json);
                    bundle.push(b'}');
                }
            }
        }
        Ok(bundles)
    }

    /// Which of these events have children of a kind; sorted.
    fn parents_among(&self, kind: RelKind, nids: &[EventNid]) -> Result<Vec<EventNid>, StoreError> {
        let Some(range) = Range::of(nids) else {
            return Ok(Vec::new());
        };
        if range.is_wide(nids.len()) {
            let keys: Vec<_> = nids.iter().map(|nid| (self.room, kind, *nid)).collect();
            let rows = self.snap.get_many::<Parents>(&keys)?;
            let hits = nids.iter().zip(rows).filter(|(_, row)| row.is_some());
            let mut parents: Vec<EventNid> = hits.map(|(nid, _)| *nid).collect();
            parents.sort_unstable();
            return Ok(parents);
        }
        let scan = Scan::prefix(&(self.room, kind)).from(&(self.room, kind, range.first));
        let scan = scan.to(&(self.room, kind, range.end));
        self.snap
            .scan::<Parents>(scan)
            .map(|row| row.map(|((_, _, nid), ())| nid))
            .collect()
    }

    /// Children of an event of one kind, with their places.
    pub(crate) fn children_of(
        &self,
        parent: EventNid,
        kind: RelKind,
        back: bool,
        limit: usize,
    ) -> Result<Vec<(Order, Relation)>, StoreError> {
        let scan = Scan::prefix(&(parent, kind)).limit(limit);
        let scan = if back { scan.rev() } else { scan };
        let rows = self.snap.scan::<Relations>(scan);
        rows.map(|row| row.map(|((_, _, order), relation)| (order, relation)))
            .collect()
    }

    /// `"m.reference":{"chunk":[..]}`
    fn write_references(&mut self, event: &Placed, out: &mut Vec<u8>) -> Result<bool, StoreError> {
        let rows = self.children_of(event.nid, RelKind::Reference, false, REFERENCES_MAX)?;
        let nids: Vec<EventNid> = rows.iter().map(|row| row.1.child).collect();
        let mut first = true;
        for child in self.load(&nids)? {
            if child.redacted_by.is_some() || self.admit(&child)?.is_none() {
                continue;
            }
            out.extend_from_slice(if first {
                b"\"m.reference\":{\"chunk\":["
            } else {
                b","
            });
            out.extend_from_slice(b"{\"event_id\":");
            write_string_bytes(child.event.event_id(), out);
            out.push(b'}');
            first = false;
        }
        out.extend_from_slice(if first { b"" } else { b"]}" });
        Ok(!first)
    }

    /// `"m.replace":` and the most recent valid edit.
    fn write_edit(&mut self, event: &Placed, out: &mut Vec<u8>) -> Result<bool, StoreError> {
        let Some(edit) = self.latest_edit(event)? else {
            return Ok(false);
        };
        out.extend_from_slice(b"\"m.replace\":");
        self.write_event(
            &edit,
            Form::EVENT,
            &Bundles::default(),
            &mut Vec::new(),
            out,
        )?;
        Ok(true)
    }

    /// The most recent valid edit of an event: by its timestamp, then by its id.
    fn latest_edit(&mut self, event: &Placed) -> Result<Option<Arc<Placed>>, StoreError> {
        let is_edit = event
            .relates()
            .is_some_and(|relates| relates.kind() == RelKind::Replace);
        if event.redacted_by.is_some() || is_edit {
            return Ok(None);
        }
        let rows = self.children_of(event.nid, RelKind::Replace, true, EDITS_MAX)?;
        let own = rows.iter().filter(|row| row.1.sender == event.meta.sender);
        let nids: Vec<EventNid> = own.map(|row| row.1.child).collect();
        let mut latest: Option<Arc<Placed>> = None;
        for edit in self.load(&nids)? {
            if !is_valid_edit(&edit, event) || self.admit(&edit)?.is_none() {
                continue;
            }
            let rank = |e: &Placed| (e.event.origin_server_ts(), e.event.event_id().to_owned());
            if latest.as_ref().is_none_or(|best| rank(best) < rank(&edit)) {
                latest = Some(edit);
            }
        }
        Ok(latest)
    }

    /// `"m.thread":{..}`
    fn write_thread(&mut self, root: &Placed, out: &mut Vec<u8>) -> Result<bool, StoreError> {
        let Some(latest) = self.latest_in_thread(root.nid)? else {
            return Ok(false);
        };
        let sum = self.thread_sum(root.nid)?;
        let user = self.reader.user;
        let participated = root.meta.sender == user || sum.has(user);
        out.extend_from_slice(b"\"m.thread\":{\"count\":");
        let count = sum.count_without(&self.ignored);
        out.extend_from_slice(count.to_string().as_bytes());
        out.extend_from_slice(b",\"current_user_participated\":");
        out.extend_from_slice(if participated { b"true" } else { b"false" });
        out.extend_from_slice(b",\"latest_event\":");
        let bundles = self.edit_bundle(&latest)?;
        self.write_event(&latest, Form::EVENT, &bundles, &mut Vec::new(), out)?;
        out.push(b'}');
        Ok(true)
    }

    /// The newest event of a thread that the reader may see and wants to.
    pub(crate) fn latest_in_thread(
        &mut self,
        root: EventNid,
    ) -> Result<Option<Arc<Placed>>, StoreError> {
        for (_, row) in self.children_of(root, RelKind::Thread, true, LATEST_TRIES)? {
            if self.ignored.contains(&row.sender) {
                continue;
            }
            let child = self.rooms.placed(&self.snap, self.room, row.child)?;
            let Some(child) = child.filter(|child| child.redacted_by.is_none()) else {
                continue;
            };
            if let Some(child) = self.admit(&child)? {
                return Ok(Some(child));
            }
        }
        Ok(None)
    }

    /// The edit and references of a thread's latest event; no further thread, so no loop.
    fn edit_bundle(&mut self, event: &Arc<Placed>) -> Result<Bundles, StoreError> {
        let mut json = b"{".to_vec();
        if !self.write_edit(event, &mut json)? {
            return Ok(Bundles::default());
        }
        json.push(b'}');
        Ok(Bundles(HashMap::from([(event.nid, json)])))
    }

    /// Whether an event has a child that `related_by_*` of a filter asks for.
    pub(crate) fn is_related(
        &mut self,
        event: &Placed,
        filter: &EventFilter,
    ) -> Result<bool, StoreError> {
        let scan = Scan::prefix(&event.nid).limit(EDITS_MAX);
        let rows: Result<Vec<_>, _> = self.snap.scan::<Relations>(scan).collect();
        for ((_, kind, _), row) in rows? {
            if let Some(kinds) = &filter.related_by_rel_types {
                let named = kinds.iter().filter(|rel_type| rel_kind(rel_type) == kind);
                let fits = match kind {
                    RelKind::Other => {
                        self.is_of_type(row.child, named.map(String::as_str).collect())?
                    }
                    _ => named.count() > 0,
                };
                if !fits {
                    continue;
                }
            }
            if let Some(senders) = &filter.related_by_senders {
                let sender = self.rooms.store().user_id(row.sender)?;
                if !senders.iter().any(|other| **other == *sender) {
                    continue;
                }
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether an event relates by one of the given types.
    fn is_of_type(&self, child: EventNid, types: Vec<&str>) -> Result<bool, StoreError> {
        let child = self.rooms.placed(&self.snap, self.room, child)?;
        let relates = child.as_ref().and_then(|child| child.relates());
        Ok(relates.is_some_and(|relates| types.into_iter().any(|other| other == relates.rel_type)))
    }
}

/// The rules of the spec on which edits count. What is encrypted cannot be looked into.
fn is_valid_edit(edit: &Placed, original: &Placed) -> bool {
    #[derive(serde::Deserialize)]
    struct Content<'a> {
        #[serde(borrow, rename = "m.new_content")]
        _new_content: &'a serde_json::value::RawValue,
    }
    edit.redacted_by.is_none()
        && edit.meta.sender == original.meta.sender
        && edit.event.event_type() == original.event.event_type()
        && !edit.event.is_state()
        && (edit.event.event_type() == "m.room.encrypted"
            || serde_json::from_str::<Content<'_>>(edit.event.content()).is_ok())
}
