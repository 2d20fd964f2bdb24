//! Bodies of answers: bounded in size and in time.

use std::time::Duration;

use ::http::StatusCode;
use ::http::header::HeaderMap;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::error::HttpError;

/// An answer whose body is read piece by piece. Dropping it ends the transfer.
pub struct Streamed {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    body: Pieces,
    timeout: Duration,
    max: usize,
    seen: usize,
}

/// Where the pieces come from.
enum Pieces {
    /// A connection.
    Arriving(Incoming),
    /// Memory; nothing once it was taken.
    Here(Option<Bytes>),
}

impl Streamed {
    /// An answer that is whole already: for what stands in the place of the network.
    #[must_use]
    pub fn held(status: StatusCode, headers: HeaderMap, body: Bytes, max: usize) -> Streamed {
        Streamed {
            status,
            headers,
            body: Pieces::Here(Some(body)),
            timeout: Duration::MAX,
            max,
            seen: 0,
        }
    }

    pub(super) fn new(
        answer: ::http::Response<Incoming>,
        timeout: Duration,
        max: usize,
    ) -> Result<Streamed, HttpError> {
        let (parts, body) = answer.into_parts();
        if body.size_hint().lower() > max as u64 {
            return Err(HttpError::TooLarge(max));
        }
        Ok(Streamed {
            status: parts.status,
            headers: parts.headers,
            body: Pieces::Arriving(body),
            timeout,
            max,
            seen: 0,
        })
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// `TooLarge`, `Timeout`, `Broken`. Nothing more comes after one.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let data = match &mut self.body {
                Pieces::Here(body) => body.take(),
                Pieces::Arriving(body) => arriving(body, self.timeout).await?,
            };
            let Some(data) = data else { return Ok(None) };
            self.seen += data.len();
            if self.seen > self.max {
                return Err(HttpError::TooLarge(self.max));
            }
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }

    /// What the body begins with, of at most so many bytes more or less: for errors in words.
    ///
    /// # Errors
    /// As [`Streamed::next`].
    pub(crate) async fn start(&mut self, bytes: usize) -> Result<Bytes, HttpError> {
        let mut start = BytesMut::new();
        while start.len() < bytes {
            match self.next().await? {
                Some(piece) => start.extend_from_slice(&piece),
                None => break,
            }
        }
        Ok(start.freeze())
    }

    /// All that is left of the body.
    ///
    /// # Errors
    /// As [`Streamed::next`].
    pub async fn rest(&mut self) -> Result<Bytes, HttpError> {
        let Some(first) = self.next().await? else {
            return Ok(Bytes::new());
        };
        let Some(second) = self.next().await? else {
            return Ok(first);
        };
        let mut all = BytesMut::from(&first[..]);
        all.extend_from_slice(&second);
        while let Some(piece) = self.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

/// The next piece that arrives; empty for what is no data.
async fn arriving(body: &mut Incoming, limit: Duration) -> Result<Option<Bytes>, HttpError> {
    let frame = tokio::time::timeout(limit, body.frame()).await;
    let frame = frame.map_err(|_| HttpError::Timeout(limit))?;
    let Some(frame) = frame else { return Ok(None) };
    let frame = frame.map_err(|error| HttpError::Broken(error.to_string()))?;
    Ok(Some(frame.into_data().unwrap_or_default()))
}
