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
    body: Incoming,
    timeout: Duration,
    max: usize,
    seen: usize,
}

impl Streamed {
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
            body,
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
            let frame = tokio::time::timeout(self.timeout, self.body.frame()).await;
            let frame = frame.map_err(|_| HttpError::Timeout(self.timeout))?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| HttpError::Broken(error.to_string()))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            self.seen += data.len();
            if self.seen > self.max {
                return Err(HttpError::TooLarge(self.max));
            }
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
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
