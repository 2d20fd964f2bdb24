//! Draining one queue.

use std::sync::Arc;

use skerry_core::Pos;
use skerry_store::outbox::{Dest, Standing};
use skerry_store::{Applied, Snapshot, StoreError, Write, blocking, outbox};
use tokio::time::Instant;

use super::deliver::{Deliver, Next, Report, Row};
use super::{Inner, TURN};

/// How many batches one task sends before others get their turn.
const BATCHES: usize = 32;
/// How long a queue waits after the store failed, in ms.
const STORE_PAUSE_MS: u64 = 30_000;

/// How a task ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The queue is empty.
    Empty,
    /// There is more, to be sent at this time, in ms since the epoch, at the earliest.
    Until(u64),
    /// There is more, and its turn is over.
    Slow,
}

/// A destination for the log. The path of a push service's URL is a secret of its subscriber.
fn shown(dest: &Dest) -> String {
    match dest {
        Dest::Push(url) => {
            let end = url
                .match_indices('/')
                .nth(2)
                .map_or(url.len(), |(at, _)| at);
            url.get(..end).unwrap_or_default().to_owned()
        }
        other => format!("{other:?}"),
    }
}

/// Sends what is in a queue until it is empty or the destination fails.
pub(super) async fn drain(inner: &Arc<Inner>, deliver: &dyn Deliver, dest: &Dest) -> Ended {
    match drained(inner, deliver, dest).await {
        Ok(ended) => ended,
        // The server stops.
        Err(StoreError::Closed) => Ended::Empty,
        Err(error) => {
            let dest = shown(dest);
            tracing::warn!(%error, dest, "a queue cannot be read or shortened");
            Ended::Until(inner.clock.now_ms().saturating_add(STORE_PAUSE_MS))
        }
    }
}

async fn drained(
    inner: &Arc<Inner>,
    deliver: &dyn Deliver,
    dest: &Dest,
) -> Result<Ended, StoreError> {
    let begun = Instant::now();
    for _ in 0..BATCHES {
        if matches!(dest, Dest::Push(_)) && begun.elapsed() >= TURN {
            return Ok(Ended::Slow);
        }
        let rows = read(inner, deliver, dest).await?;
        if rows.is_empty() {
            return Ok(Ended::Empty);
        }
        let mut report = deliver.deliver(dest, &rows).await;
        if report.done.is_empty() && report.bad.is_empty() && report.next == Next::Go {
            // Else it would go round and round.
            report.next = Report::failed("nothing was sent").next;
        }
        if let Some(ended) = settle(inner, deliver, dest, rows, report).await? {
            return Ok(ended);
        }
    }
    Ok(Ended::Until(0))
}

/// The oldest rows. Of a queue that fails and became too long, the oldest go.
async fn read(
    inner: &Arc<Inner>,
    deliver: &dyn Deliver,
    dest: &Dest,
) -> Result<Vec<Row>, StoreError> {
    let (store, dest) = (Arc::clone(&inner.store), dest.clone());
    let (batch, max) = (deliver.batch_rows(), deliver.max_rows());
    blocking(move || {
        let mut snap = store.snapshot();
        let failing = outbox::standing(&snap, &dest)?.is_some_and(|s| s.failures > 0);
        if failing
            && max < usize::MAX
            && let Some(last) = surplus(&snap, &dest, max)?
        {
            let shown = shown(&dest);
            tracing::warn!(
                dest = shown,
                "a queue became too long; its oldest rows are dropped"
            );
            let mut w = store.write();
            outbox::sent_upto(&mut w, &dest, last);
            let applied = store.commit(w)?;
            store.wait_durable(&applied)?;
            snap = store.snapshot();
        }
        let rows = outbox::pending(&snap, &dest, batch)?;
        let rows = rows.into_iter().map(|(pos, item)| Row { pos, item });
        Ok(rows.collect())
    })
    .await?
}

/// The newest row that is one too many.
fn surplus(snap: &Snapshot, dest: &Dest, max: usize) -> Result<Option<Pos>, StoreError> {
    let positions = outbox::positions(snap, dest)?;
    let surplus = positions.len().saturating_sub(max);
    Ok(surplus
        .checked_sub(1)
        .and_then(|last| positions.get(last).copied()))
}

/// Writes down what became of a batch; says how the task ends, if it does.
async fn settle(
    inner: &Arc<Inner>,
    deliver: &dyn Deliver,
    dest: &Dest,
    rows: Vec<Row>,
    report: Report,
) -> Result<Option<Ended>, StoreError> {
    let now_ms = inner.clock.now_ms();
    let after_ms = |failures| {
        let mut dice = inner.dice.dice();
        deliver.backoff().pause_ms(failures, &mut *dice)
    };
    let store = Arc::clone(&inner.store);
    let snap = store.snapshot();
    let before = outbox::standing(&snap, dest)?;
    let mut w = report.write.unwrap_or_else(|| store.write());
    for pos in &report.done {
        outbox::sent(&mut w, dest, *pos);
    }
    set_aside(&snap, &mut w, dest, &rows, &report.bad)?;
    let ended = match report.next {
        Next::Go | Next::NotBefore(_) => {
            if !report.done.is_empty() {
                succeeded(&mut w, dest, before.as_ref(), now_ms);
            }
            match report.next {
                Next::NotBefore(at_ms) => Some(Ended::Until(at_ms)),
                _ => None,
            }
        }
        Next::Failed { why, after } => {
            // Where something arrived, it fails for the first time again.
            let again = before.as_ref().filter(|_| report.done.is_empty());
            let failures = again.map_or(0, |s| s.failures).saturating_add(1);
            let asked = after.map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(0));
            let pause = after_ms(failures).max(asked.min(super::Backoff::LONGEST_MS));
            let at_ms = now_ms.saturating_add(pause);
            failed(&mut w, dest, before, (failures, at_ms), now_ms, &why);
            Some(Ended::Until(at_ms))
        }
        Next::GiveUp { why } => {
            let gone = shown(dest);
            tracing::info!(
                dest = gone,
                why,
                "a destination is gone; its queue is dropped"
            );
            outbox::clear(&mut w, dest);
            Some(Ended::Empty)
        }
    };
    if !w.is_empty() {
        let applied: Applied = {
            let store = Arc::clone(&store);
            blocking(move || store.commit(w)).await??
        };
        // What is read next has to show it.
        store.durable(&applied).await?;
    }
    Ok(ended)
}

fn succeeded(w: &mut Write, dest: &Dest, before: Option<&Standing>, now_ms: u64) {
    if let Some(before) = before.filter(|before| before.failures > 0) {
        tracing::info!(
            dest = shown(dest),
            failures = before.failures,
            "reached again"
        );
    }
    if matches!(dest, Dest::Push(_)) {
        // Users choose these, as many as they like: what goes well is not noted.
        if before.is_some() {
            outbox::forget_standing(w, dest);
        }
        return;
    }
    let standing = Standing {
        failures: 0,
        retry_at_ms: 0,
        failing_since_ms: 0,
        success_ms: Some(now_ms),
    };
    outbox::set_standing(w, dest, &standing);
}

fn failed(
    w: &mut Write,
    dest: &Dest,
    before: Option<Standing>,
    (failures, retry_at_ms): (u32, u64),
    now_ms: u64,
    why: &str,
) {
    if failures == 1 {
        tracing::info!(dest = shown(dest), why, "not reached; tried again later");
    } else {
        tracing::debug!(dest = shown(dest), failures, why, "still not reached");
    }
    let since = before.as_ref().map_or(0, |before| before.failing_since_ms);
    let standing = Standing {
        failures,
        retry_at_ms,
        failing_since_ms: if since == 0 { now_ms } else { since },
        success_ms: before.and_then(|before| before.success_ms),
    };
    outbox::set_standing(w, dest, &standing);
}

/// A row that nobody understands shall not hold up the others.
fn set_aside(
    snap: &Snapshot,
    w: &mut Write,
    dest: &Dest,
    rows: &[Row],
    bad: &[Pos],
) -> Result<(), StoreError> {
    for row in rows.iter().filter(|row| bad.contains(&row.pos)) {
        tracing::error!(
            dest = shown(dest),
            pos = row.pos.0,
            "an item of a queue is not understood; set aside"
        );
        outbox::set_aside(snap, w, dest, row.pos, &row.item)?;
    }
    Ok(())
}
