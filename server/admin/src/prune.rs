//! Pruning of media, for `media-prune`: plans, runs, the trash.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use skerry_http::{Answer, ApiError, Call};
use skerry_media::MediaError;
use skerry_media::prune::{Job, Order, PruneError};
use skerry_store::{StoreError, blocking};

use crate::{Admin, admin_only};

/// Items in one answer at most.
const MAX_PAGE: usize = 10_000;

/// `POST /_skerry/admin/v1/media/prune/plans`: what would go, and why; nothing is touched.
pub(crate) async fn plan(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let order: Order = call.json()?;
    let (number, plan) = admin.pruner.plan(order).await.map_err(refuse)?;
    let answer = blocking(
        move || json!({ "plan": number, "changes": plan.changes(), "report": plan.report() }),
    );
    Answer::json(&answer.await.map_err(ApiError::internal)?)
}

/// `GET /_skerry/admin/v1/media/prune/plans/{plan}/items`: each item that goes, page by page.
pub(crate) async fn items(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let plan = admin.pruner.planned(number(&call, "plan")?);
    let plan = plan.map_err(refuse)?;
    let from = call.query_as("from")?.unwrap_or(0);
    let limit = call.query_as("limit")?.unwrap_or(1000).clamp(1, MAX_PAGE);
    let page = blocking(move || plan.page(from, limit)).await;
    let page = page.map_err(ApiError::internal)?;
    Answer::json(&page.map_err(ApiError::internal)?)
}

#[derive(Deserialize)]
struct Explain {
    order: Order,
    mxc: String,
}

/// `POST /_skerry/admin/v1/media/prune/explain`: why one `mxc://` stays or goes.
pub(crate) async fn explain(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let Explain { order, mxc } = call.json()?;
    let explained = admin.pruner.explain(order, &mxc).await;
    let (verdict, places) = explained.map_err(refuse)?;
    Answer::json(&json!({ "mxc": mxc, "verdict": verdict, "places": places }))
}

#[derive(Deserialize)]
struct Start {
    plan: u64,
}

/// `POST /_skerry/admin/v1/media/prune/runs`: carries a plan out.
pub(crate) async fn start(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let Start { plan } = call.json()?;
    started(&admin.pruner.start(plan).map_err(refuse)?)
}

/// `POST /_skerry/admin/v1/media/verify`: reads every file and compares it with its hash.
pub(crate) async fn verify(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    started(&admin.pruner.verify().map_err(refuse)?)
}

fn started(job: &Job) -> Result<Answer, ApiError> {
    Answer::json(&json!({ "run": job.number }))
}

/// `GET /_skerry/admin/v1/media/prune/runs/{run}`: how far it is.
pub(crate) async fn run(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let job = admin.pruner.job(number(&call, "run")?);
    let job = job.ok_or_else(|| ApiError::not_found("There is no such run"))?;
    let (progress, outcome) = job.state();
    let verified = job.verified();
    Answer::json(&json!({ "progress": progress, "outcome": outcome, "verified": verified }))
}

/// `GET /_skerry/admin/v1/media/trash`
pub(crate) async fn trash(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let limit = call.query_as("limit")?.unwrap_or(1000).clamp(1, MAX_PAGE);
    let listed = admin.pruner.trash(call.query("after"), limit).await;
    Answer::json(&json!({ "trash": listed.map_err(refuse)? }))
}

#[derive(Deserialize)]
struct Restore {
    mxc: Option<Vec<String>>,
    #[serde(default)]
    all: bool,
}

/// `POST /_skerry/admin/v1/media/trash/restore`: what `mxc` lists, or `all`.
pub(crate) async fn restore(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let Restore { mxc, all } = call.json()?;
    if mxc.is_some() == all {
        return Err(ApiError::missing_param("Either `mxc` or `all` is needed"));
    }
    let restored = admin.pruner.restore(mxc).await.map_err(refuse)?;
    Answer::json(&json!({ "restored": restored }))
}

/// `POST /_synapse/admin/v1/room/{roomId}/media/quarantine`: all that the readable events of a
/// room name. `num_unreadable` says of how many events that cannot be known.
pub(crate) async fn quarantine_room(admin: Arc<Admin>, call: Call) -> Result<Answer, ApiError> {
    admin_only(&call)?;
    let room = call.param("roomId").to_owned();
    let done = admin.pruner.quarantine_room(room).await;
    let (count, read) = done.map_err(refuse)?;
    Answer::json(&json!({
        "num_quarantined": count,
        "num_read": read.events,
        "num_unreadable": read.unreadable,
    }))
}

fn number(call: &Call, name: &str) -> Result<u64, ApiError> {
    let wrong = |_| ApiError::invalid_param(format!("`{name}` is a number"));
    call.param(name).parse().map_err(wrong)
}

fn refuse(error: PruneError) -> ApiError {
    let text = error.to_string();
    match error {
        PruneError::Ask(_) => ApiError::invalid_param(text),
        PruneError::NoPlan => ApiError::not_found(text),
        PruneError::Busy => ApiError::conflict(text),
        PruneError::Media(MediaError::Store(StoreError::Full)) => {
            ApiError::no_space("The disk is full; nothing was changed")
        }
        PruneError::Media(MediaError::Away(cause)) => ApiError::unavailable(text).caused_by(cause),
        PruneError::Media(error) => ApiError::internal(error),
    }
}
