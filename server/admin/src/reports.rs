//! Reports by users: of events and users as Synapse's API has them, and of everything.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use skerry_http::{Answer, ApiError, Call};
use skerry_room::{ReportKind, Reported, ReportsAsk, ReportsPage};

use crate::error::refuse_room;
use crate::{Admin, admin_only};

/// Reports in one answer at most.
const MAX_PAGE: usize = 1000;

/// `GET /_synapse/admin/v1/event_reports`
pub(crate) async fn of_events(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let kind = Some(ReportKind::Event);
    page(
        &admin,
        &call,
        (kind, "event_sender_user_id"),
        ("event_reports", event),
    )
    .await
}

/// `GET /_synapse/admin/v1/user_reports`
pub(crate) async fn of_users(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let kind = Some(ReportKind::User);
    page(
        &admin,
        &call,
        (kind, "target_user_id"),
        ("user_reports", user),
    )
    .await
}

/// `GET /_skerry/admin/v1/reports`: of rooms, events and users.
pub(crate) async fn all(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    page(&admin, &call, (None, "about_user_id"), ("reports", any)).await
}

async fn page(
    admin: &Admin,
    call: &Call,
    (kind, about): (Option<ReportKind>, &'static str),
    (name, show): (&str, fn(&Reported) -> Value),
) -> Result<Answer, ApiError> {
    let (from, limit) = (call.query_as("from")?.unwrap_or(0), call.query_as("limit")?);
    let forwards = match call.query("dir").as_deref() {
        None | Some("b") => false,
        Some("f") => true,
        Some(_) => return Err(ApiError::invalid_param("`dir` is f or b")),
    };
    let ask = ReportsAsk {
        kind,
        by: call.query("user_id"),
        room: call.query("room_id"),
        about: call.query(about),
        forwards,
        from,
        limit: limit.unwrap_or(100).min(MAX_PAGE),
    };
    let ReportsPage { reports, total } = admin.rooms.reports(ask).await.map_err(refuse_room)?;
    let mut body = json!({ "total": total });
    let next = from.saturating_add(reports.len());
    body[name] = reports.iter().map(show).collect();
    if next < total && !reports.is_empty() {
        body["next_token"] = next.into();
    }
    Answer::json(&body)
}

/// `GET /_synapse/admin/v1/event_reports/{reportId}`
pub(crate) async fn of_event(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let (report, content) = one(&admin, &call, Some(ReportKind::Event)).await?;
    let mut body = event(&report);
    body["event_json"] = content;
    Answer::json(&body)
}

/// `GET /_synapse/admin/v1/user_reports/{reportId}`
pub(crate) async fn of_user(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let (report, _) = one(&admin, &call, Some(ReportKind::User)).await?;
    Answer::json(&user(&report))
}

/// `GET /_skerry/admin/v1/reports/{reportId}`
pub(crate) async fn show(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let (report, content) = one(&admin, &call, None).await?;
    let mut body = any(&report);
    if !content.is_null() {
        body["event_json"] = content;
    }
    Answer::json(&body)
}

/// `DELETE` of a report: it is dealt with.
pub(crate) async fn close(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let closed = admin.rooms.close_report(id(&call)?).await;
    closed.map_err(refuse_room)?;
    Ok(Answer::empty())
}

async fn one(
    admin: &Admin,
    call: &Call,
    kind: Option<ReportKind>,
) -> Result<(Reported, Value), ApiError> {
    let found = admin.rooms.report(id(call)?).await;
    let (report, content) = found.map_err(refuse_room)?;
    if kind.is_some_and(|kind| kind != report.kind) {
        return Err(ApiError::not_found("There is no such report"));
    }
    let content = content.and_then(|json| serde_json::from_str(&json).ok());
    Ok((report, content.unwrap_or_default()))
}

fn id(call: &Call) -> Result<u64, ApiError> {
    let wrong = |_| ApiError::invalid_param("The id of a report is a number");
    call.param("reportId").parse().map_err(wrong)
}

fn event(report: &Reported) -> Value {
    json!({
        "id": report.id,
        "received_ts": report.at_ms,
        "room_id": report.room_id,
        "name": report.room_name,
        "canonical_alias": report.canonical_alias,
        "event_id": report.event_id,
        "user_id": report.by,
        "sender": report.user,
        "reason": report.reason,
        "score": report.score,
    })
}

fn user(report: &Reported) -> Value {
    json!({
        "id": report.id,
        "received_ts": report.at_ms,
        "target_user_id": report.user,
        "user_id": report.by,
        "reason": report.reason,
    })
}

fn any(report: &Reported) -> Value {
    let kind = match report.kind {
        ReportKind::Room => "room",
        ReportKind::Event => "event",
        ReportKind::User => "user",
    };
    let fields = [
        ("room_id", &report.room_id),
        ("room_name", &report.room_name),
        ("canonical_alias", &report.canonical_alias),
        ("event_id", &report.event_id),
        ("about_user_id", &report.user),
        ("reason", &report.reason),
    ];
    let mut body = Map::new();
    for (name, text) in fields {
        if let Some(text) = text {
            body.insert(name.to_owned(), text.as_str().into());
        }
    }
    body.insert("id".to_owned(), report.id.into());
    body.insert("kind".to_owned(), kind.into());
    body.insert("received_ts".to_owned(), report.at_ms.into());
    body.insert("user_id".to_owned(), report.by.as_str().into());
    Value::Object(body)
}
