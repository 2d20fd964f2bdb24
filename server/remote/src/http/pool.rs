//! Connections kept for the next request.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::target::Target;

/// Idle connections of HTTP/1.1 that are kept to one target.
const IDLE_PER_TARGET: usize = 8;
/// Idle connections that are kept in all.
const IDLE_IN_ALL: usize = 256;
/// How long an idle connection is kept. Servers commonly close theirs after a minute or more.
const IDLE_FOR: Duration = Duration::from_secs(45);

/// What requests are written to.
pub(super) enum Line {
    /// HTTP/1.1: one request at a time.
    One(http1::SendRequest<Full<Bytes>>),
    /// HTTP/2: many at once.
    Two(http2::SendRequest<Full<Bytes>>),
}

struct Idle {
    line: Line,
    until: Instant,
}

/// Connections that are open and not in use (HTTP/1.1), or open (HTTP/2).
#[derive(Default)]
pub(super) struct Pool(Mutex<Held>);

#[derive(Default)]
struct Held {
    idle: HashMap<Target, Vec<Idle>>,
    count: usize,
    /// Somebody looks after what gets too old.
    tended: bool,
}

impl Pool {
    /// A connection to use. One of HTTP/1.1 is the caller's until it is put back.
    pub(super) fn take(&self, target: &Target) -> Option<Line> {
        let now = Instant::now();
        let mut held = self.0.lock();
        let lines = held.idle.get_mut(target)?;
        let before = lines.len();
        let mut found = None;
        while let Some(idle) = lines.pop() {
            match idle.line {
                Line::One(sender) if idle.until > now && sender.is_ready() => {
                    found = Some(Line::One(sender));
                    break;
                }
                Line::Two(sender) if idle.until > now && sender.is_ready() => {
                    found = Some(Line::Two(sender.clone()));
                    lines.push(Idle {
                        line: Line::Two(sender),
                        until: now + IDLE_FOR,
                    });
                    break;
                }
                _ => {}
            }
        }
        let gone = before - lines.len();
        if lines.is_empty() {
            held.idle.remove(target);
        }
        held.count -= gone;
        found
    }

    /// Keeps a connection for others. It is closed where enough are kept.
    pub(super) fn put(self: &Arc<Self>, target: &Target, line: Line) {
        let mut held = self.0.lock();
        if held.count >= IDLE_IN_ALL {
            return;
        }
        let lines = held.idle.entry(target.clone()).or_default();
        let two = |idle: &Idle| matches!(idle.line, Line::Two(_)) && idle.is_open();
        if lines.len() >= IDLE_PER_TARGET || lines.iter().any(two) {
            return;
        }
        lines.push(Idle {
            line,
            until: Instant::now() + IDLE_FOR,
        });
        held.count += 1;
        if !held.tended {
            held.tended = true;
            tokio::spawn(tend(Arc::downgrade(self)));
        }
    }

    /// Closes what is too old; false once nothing is left.
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let mut held = self.0.lock();
        for lines in held.idle.values_mut() {
            lines.retain(|idle| idle.until > now && idle.is_open());
        }
        held.idle.retain(|_, lines| !lines.is_empty());
        held.count = held.idle.values().map(Vec::len).sum();
        held.tended = held.count > 0;
        held.tended
    }
}

impl Idle {
    fn is_open(&self) -> bool {
        match &self.line {
            Line::One(sender) => !sender.is_closed(),
            Line::Two(sender) => !sender.is_closed(),
        }
    }
}

/// Runs only as long as connections are kept.
async fn tend(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(IDLE_FOR).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.sweep() {
            return;
        }
    }
}
