//! What was found, as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use skerry_core::canonical::write_string_bytes;
use skerry_core::search::{Query, text_of};
use skerry_store::StoreError;

use super::find::{ContextSizes, Found, GroupBy, SearchAsk};
use super::token::{Group, Hit, Place};
use crate::read::messages::write_token;
use crate::{Cut, Form, PageAsk, Placed, RoomError, Rooms, View};

impl Rooms {
    /// `{"count":..,"highlights":[..],"results":[..]}`, and what else was asked for.
    pub(super) fn search_json(
        &self,
        mut found: Found,
        ask: &SearchAsk,
        query: &Query,
    ) -> Result<Vec<u8>, RoomError> {
        let mut highlights = BTreeSet::new();
        for (_, event) in &found.results {
            if let Some((_, text)) = text_of(&event.event) {
                query.highlight(&text, &mut highlights);
            }
        }
        let mut out = format!("{{\"count\":{},\"highlights\":", found.count).into_bytes();
        push_json(&json!(highlights), &mut out);
        out.extend_from_slice(b",\"results\":[");
        let results = std::mem::take(&mut found.results);
        for (at, (hit, event)) in results.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            if let Some(view) = found.views.get_mut(&hit.room) {
                view.write_result(hit.rank, event, ask.context, &mut out)?;
            }
        }
        out.push(b']');
        if !ask.groups.is_empty() && !results.is_empty() {
            out.extend_from_slice(b",\"groups\":");
            push_json(
                &self.search_groups(&found, &results, &ask.groups)?,
                &mut out,
            );
        }
        if ask.include_state && !results.is_empty() {
            out.extend_from_slice(b",\"state\":");
            write_states(&mut found, &results, &mut out)?;
        }
        if let Some((last, _)) = results.last().filter(|_| found.more) {
            let group = ask.next.as_deref().and_then(Place::parse);
            let place = Place {
                upto: found.upto,
                last: *last,
                group: group.and_then(|place| place.group),
            };
            out.extend_from_slice(b",\"next_batch\":");
            write_string_bytes(&place.token(), &mut out);
        }
        out.push(b'}');
        Ok(out)
    }

    /// The results by room and by sender, as far as wanted.
    fn search_groups(
        &self,
        found: &Found,
        results: &[(Hit, Arc<Placed>)],
        wanted: &[GroupBy],
    ) -> Result<Value, StoreError> {
        let mut groups = Map::new();
        for by in wanted {
            let mut lists: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
            for (hit, event) in results {
                let (name, group) = match by {
                    GroupBy::Room => (event.event.room_id(), Group::Room(hit.room)),
                    GroupBy::Sender => (event.event.sender(), Group::Sender(event.meta.sender)),
                };
                let order = lists.len() + 1;
                let list = lists.entry(name.to_owned()).or_insert_with(|| {
                    let mut list = Map::new();
                    list.insert("order".to_owned(), json!(order));
                    list.insert("results".to_owned(), json!([]));
                    list
                });
                if let Some(Value::Array(ids)) = list.get_mut("results") {
                    ids.push(json!(event.event.event_id()));
                }
                if found.more_of.contains(&group) {
                    let place = Place {
                        upto: found.upto,
                        last: *hit,
                        group: Some(group),
                    };
                    list.insert("next_batch".to_owned(), json!(place.token()));
                }
            }
            let name = match by {
                GroupBy::Room => "room_id",
                GroupBy::Sender => "sender",
            };
            groups.insert(name.to_owned(), json!(lists));
        }
        Ok(Value::Object(groups))
    }
}

/// `{room: [state event, ..]}` for the rooms of the results.
fn write_states(
    found: &mut Found,
    results: &[(Hit, Arc<Placed>)],
    out: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let rooms: BTreeSet<_> = results.iter().map(|(hit, _)| hit.room).collect();
    out.push(b'{');
    for (at, room) in rooms.iter().enumerate() {
        let Some(view) = found.views.get_mut(room) else {
            continue;
        };
        if at > 0 {
            out.push(b',');
        }
        write_string_bytes(view.room_id(), out);
        out.push(b':');
        let state = view.readable_state()?;
        let events = state.map(|state| view.state_events(state)).transpose()?;
        view.write_plain(events.as_deref().unwrap_or_default(), Form::STATE, out)?;
    }
    out.push(b'}');
    Ok(())
}

impl View {
    fn write_result(
        &mut self,
        rank: f32,
        event: &Arc<Placed>,
        context: Option<ContextSizes>,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        out.extend_from_slice(format!("{{\"rank\":{rank},\"result\":").as_bytes());
        self.write_one(event, Form::EVENT, out)?;
        out.extend_from_slice(b",\"context\":{");
        if let Some(sizes) = context {
            self.write_around(event, sizes, out)?;
        }
        out.extend_from_slice(b"}}");
        Ok(())
    }

    /// What stands around a result, and who spoke there.
    fn write_around(
        &mut self,
        event: &Arc<Placed>,
        sizes: ContextSizes,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let (before, start) = self.beside(event, true, sizes.before)?;
        let (after, end) = self.beside(event, false, sizes.after)?;
        out.extend_from_slice(b"\"events_before\":");
        self.write_bundled(&before, Form::EVENT, out)?;
        out.extend_from_slice(b",\"events_after\":");
        self.write_bundled(&after, Form::EVENT, out)?;
        write_token("start", Some(start), out);
        write_token("end", Some(end), out);
        if sizes.profiles {
            let last = after.last().unwrap_or(event).meta.after;
            let all: Vec<Arc<Placed>> = before
                .into_iter()
                .chain([event.clone()])
                .chain(after)
                .collect();
            out.extend_from_slice(b",\"profile_info\":");
            push_json(&profiles(&self.senders_of(&all, last)?), out);
        }
        Ok(())
    }

    /// Events on one side of another, and the place where they end.
    fn beside(
        &mut self,
        event: &Placed,
        back: bool,
        limit: usize,
    ) -> Result<(Vec<Arc<Placed>>, Cut), StoreError> {
        let next = |order| {
            if back {
                Cut::before(order)
            } else {
                Cut::after(order)
            }
        };
        let from = next(event.order());
        if limit == 0 {
            return Ok((Vec::new(), from));
        }
        let page = self.page(PageAsk {
            from,
            to: None,
            back,
            limit,
            filter: None,
        })?;
        let end = page.events.last().map_or(from, |last| next(last.order()));
        Ok((page.events, end))
    }
}

/// Names and avatars of users, from their member events.
fn profiles(members: &[Arc<Placed>]) -> Value {
    let mut profiles = Map::new();
    for member in members {
        let (Some(user), Ok(content)) = (member.event.state_key(), member.event.content_object())
        else {
            continue;
        };
        let mut profile = Map::new();
        for name in ["displayname", "avatar_url"] {
            if let Some(text) = content.str(name) {
                profile.insert(name.to_owned(), json!(text));
            }
        }
        profiles.insert(user.to_owned(), Value::Object(profile));
    }
    Value::Object(profiles)
}

fn push_json(value: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(value.to_string().as_bytes());
}
