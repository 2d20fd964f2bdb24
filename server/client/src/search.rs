//! Searching what was said.

use serde::Deserialize;
use serde_json::json;
use skerry_core::search::Key;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_room::{ContextSizes, EventFilter, GroupBy, SearchAsk};

use crate::in_room;
use crate::reading::{Context, viewer};

/// Results given unless the client asks for another number.
const RESULTS: u64 = 10;
/// The most results in one answer.
const RESULTS_MAX: u64 = 100;
/// Events on each side of a result unless the client asks for another number.
const AROUND: u64 = 5;
/// The most events on each side of a result.
const AROUND_MAX: u64 = 50;

/// The endpoints of this file.
pub(crate) const ROUTES: &[Route<crate::Ctx>] =
    &[route!(POST "/_matrix/client/v3/search", Token, Heavy, search)];

#[derive(Deserialize)]
struct Body {
    search_categories: Categories,
}

#[derive(Deserialize)]
struct Categories {
    room_events: Option<Criteria>,
}

#[derive(Deserialize)]
struct Criteria {
    search_term: String,
    keys: Option<Vec<String>>,
    filter: Option<EventFilter>,
    order_by: Option<String>,
    event_context: Option<Around>,
    #[serde(default)]
    include_state: bool,
    #[serde(default)]
    groupings: Groupings,
}

#[derive(Deserialize)]
struct Around {
    before_limit: Option<u64>,
    after_limit: Option<u64>,
    #[serde(default)]
    include_profile: bool,
}

#[derive(Default, Deserialize)]
struct Groupings {
    #[serde(default)]
    group_by: Vec<Grouping>,
}

#[derive(Deserialize)]
struct Grouping {
    key: String,
}

/// `POST /search`: finds everything that was acknowledged before.
async fn search(ctx: Context, call: Call) -> Result<Answer, ApiError> {
    let body: Body = call.json()?;
    let Some(criteria) = body.search_categories.room_events else {
        return Answer::json(&json!({ "search_categories": {} }));
    };
    let ask = asked(criteria, call.query("next_batch"))?;
    let found = ctx.rooms.search(viewer(&call)?, ask);
    let found = found.await.map_err(in_room::refusal)?;
    let mut json = b"{\"search_categories\":{\"room_events\":".to_vec();
    json.extend_from_slice(&found);
    json.extend_from_slice(b"}}");
    Ok(Answer::json_bytes(json))
}

fn asked(criteria: Criteria, next: Option<String>) -> Result<SearchAsk, ApiError> {
    let recent = match criteria.order_by.as_deref() {
        None | Some("rank") => false,
        Some("recent") => true,
        Some(_) => return Err(ApiError::invalid_param("order_by must be rank or recent")),
    };
    let filter = criteria.filter.unwrap_or_default();
    if !filter.is_bounded() {
        return Err(ApiError::invalid_param("The filter holds too long a list"));
    }
    let all = || vec![Key::Body, Key::Name, Key::Topic];
    let named = |keys: Vec<String>| keys.iter().filter_map(|key| Key::named(key)).collect();
    let limit = filter.limit.unwrap_or(RESULTS).clamp(1, RESULTS_MAX);
    let around = |asked: Option<u64>| size(asked.unwrap_or(AROUND).min(AROUND_MAX));
    Ok(SearchAsk {
        term: criteria.search_term,
        keys: criteria.keys.map_or_else(all, named),
        limit: size(limit),
        filter,
        recent,
        include_state: criteria.include_state,
        context: criteria.event_context.map(|asked| ContextSizes {
            before: around(asked.before_limit),
            after: around(asked.after_limit),
            profiles: asked.include_profile,
        }),
        groups: groups(&criteria.groupings)?,
        next,
    })
}

fn groups(asked: &Groupings) -> Result<Vec<GroupBy>, ApiError> {
    let mut groups = Vec::new();
    for grouping in &asked.group_by {
        let by = match grouping.key.as_str() {
            "room_id" => GroupBy::Room,
            "sender" => GroupBy::Sender,
            _ => {
                return Err(ApiError::invalid_param(
                    "Results are grouped by room_id or sender",
                ));
            }
        };
        if !groups.contains(&by) {
            groups.push(by);
        }
    }
    Ok(groups)
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
