//! A connection's bytes under the clock: heads that do not come, answers that nobody reads.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Less than this written in the time that a connection may be idle is no answer.
const SOME_BYTES: u64 = 1024;

/// What happens on a connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    begun: AtomicU64,
    open: AtomicUsize,
    written: AtomicU64,
}

impl Activity {
    /// A request arrived; it is open until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Open {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// Returns once a request arrived, and after `time` in any case.
    pub(crate) async fn first(&self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while self.begun() == 0 && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns once nothing happened for at least `time`, and at most twice that.
    pub(crate) async fn idle_for(&self, time: Duration) {
        loop {
            let (begun, written) = (self.begun(), self.written());
            tokio::time::sleep(time).await;
            let quiet = self.written().wrapping_sub(written) < SOME_BYTES;
            if self.is_idle() && quiet && self.begun() == begun {
                return;
            }
        }
    }
}

/// A request that is being answered.
pub(crate) struct Open(Arc<Activity>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long to wait for what.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// For a request's head.
    pub(crate) head: Duration,
    /// For the client to take in something.
    pub(crate) write: Duration,
}

/// The bytes of a connection, which fail when they take too long.
pub(crate) struct Watched<S> {
    inner: S,
    activity: Arc<Activity>,
    patience: Patience,
    /// HTTP/2, where bytes without a request are nothing unusual: only the first is waited for.
    multiplexed: bool,
    seen: u64,
    head: Option<Pin<Box<Sleep>>>,
    write: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(crate) fn new(
        inner: S,
        activity: Arc<Activity>,
        patience: Patience,
        multiplexed: bool,
    ) -> Self {
        Watched {
            inner,
            activity,
            patience,
            multiplexed,
            seen: 0,
            head: Some(Box::pin(tokio::time::sleep(patience.head))),
            write: None,
        }
    }

    /// What a write came to, or that it has waited long enough.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.write = None;
            return poll;
        }
        let time = self.patience.write;
        let timer = self
            .write
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn count(&self, poll: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = poll {
            self.activity
                .written
                .fetch_add(*bytes as u64, Ordering::Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let begun = this.activity.begun();
        if begun != this.seen {
            this.seen = begun;
            this.head = None;
        }
        if let Some(timer) = &mut this.head
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        let poll = Pin::new(&mut this.inner).poll_read(cx, buf);
        let some = buf.filled().len() > before;
        if some && this.head.is_none() && !this.multiplexed && this.activity.is_idle() {
            this.head = Some(Box::pin(tokio::time::sleep(this.patience.head)));
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.count(&poll);
        this.written(cx, poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.count(&poll);
        this.written(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_flush(cx);
        this.written(cx, poll)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.written(cx, poll)
    }
}
