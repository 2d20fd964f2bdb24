//! Bodies on their way in and out.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::Limits;
use crate::wire::Open;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body, which fails when it comes too slowly. Only the time in which we wait for
/// the client counts.
pub(crate) struct Paced {
    inner: Incoming,
    rate: u64,
    grace: Duration,
    received: u64,
    waited: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    slow: Arc<AtomicBool>,
}

impl Paced {
    /// `slow` becomes true when it fails.
    pub(crate) fn new(inner: Incoming, limits: &Limits, slow: Arc<AtomicBool>) -> Paced {
        Paced {
            inner,
            rate: limits.body_rate,
            grace: limits.body_grace,
            received: 0,
            waited: Duration::ZERO,
            waiting: None,
            slow,
        }
    }

    /// How long what was received may have taken.
    fn allowed(&self) -> Duration {
        let millis = self.received.saturating_mul(1000) / self.rate.max(1);
        self.grace.saturating_add(Duration::from_millis(millis))
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            if let Some((since, _)) = this.waiting.take() {
                this.waited += since.elapsed();
            }
            if let Some(Ok(data)) = frame
                .as_ref()
                .map(|frame| frame.as_ref().map(Frame::data_ref))
            {
                this.received += data.map_or(0, |data| data.len() as u64);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if this.rate == 0 {
            return Poll::Pending;
        }
        let left = this.allowed().saturating_sub(this.waited);
        let (_, timer) = this.waiting.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(tokio::time::sleep_until(now + left)))
        });
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        this.slow.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err("the body comes too slowly".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body; its request is open as long as it lives.
pub(crate) struct Outgoing {
    pub(crate) inner: Body,
    pub(crate) _open: Open,
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
