//! What a handler answers with.

use std::io::Read as _;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use ruma_common::api::{OutgoingResponse, OutgoingResponseExt};
use serde::Serialize;

use crate::ApiError;

/// How much of a file is read at once, in bytes.
const PIECE: usize = 64 * 1024;

/// A body that is sent piece by piece.
type Pieces = UnsyncBoxBody<Bytes, std::io::Error>;

/// What a long body is read from.
pub enum Source {
    /// A file, from where it stands.
    File(std::fs::File),
    /// Pieces that come from elsewhere.
    Pieces(BoxStream<'static, std::io::Result<Bytes>>),
}

/// The body of an [`Answer`].
pub enum AnswerBody {
    /// All of it.
    Bytes(Bytes),
    /// Piece by piece; an error ends the connection.
    Stream(Pieces),
}

/// A successful answer: status, headers, body.
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: AnswerBody,
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Answer {
    /// Renders a response type of ruma.
    ///
    /// # Errors
    /// 500 `M_UNKNOWN` if ruma cannot serialize it, which would be a fault of ours.
    pub fn ruma<R: OutgoingResponse>(response: R) -> Result<Answer, ApiError> {
        let rendered = response
            .try_into_http_response::<BytesMut>()
            .map_err(|e| ApiError::internal(format!("cannot render a response: {e}")))?;
        let (parts, body) = rendered.into_parts();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: AnswerBody::Bytes(body.freeze()),
        })
    }

    /// 200 with a JSON body.
    ///
    /// # Errors
    /// 500 `M_UNKNOWN` if the value cannot be serialized, which would be a fault of ours.
    pub fn json(value: &(impl Serialize + ?Sized)) -> Result<Answer, ApiError> {
        let body = serde_json::to_vec(value)
            .map_err(|e| ApiError::internal(format!("cannot render JSON: {e}")))?;
        Ok(Answer::json_bytes(body))
    }

    /// 200 with a body that is JSON already.
    #[must_use]
    pub fn json_bytes(body: impl Into<Bytes>) -> Answer {
        Answer::with_type(JSON, AnswerBody::Bytes(body.into()))
    }

    /// 200 with `{}`.
    #[must_use]
    pub fn empty() -> Answer {
        Answer::json_bytes(Bytes::from_static(b"{}"))
    }

    /// 200 with bytes of the given content type. A type that cannot stand in a header becomes
    /// `application/octet-stream`.
    #[must_use]
    pub fn bytes(content_type: &str, body: impl Into<Bytes>) -> Answer {
        Answer::with_type(type_value(content_type), AnswerBody::Bytes(body.into()))
    }

    /// 200 with a body of the given content type that is sent piece by piece.
    #[must_use]
    pub fn stream(content_type: &str, body: Pieces) -> Answer {
        Answer::with_type(type_value(content_type), AnswerBody::Stream(body))
    }

    /// 200 with `length` bytes of a file from where it stands, read a piece at a time off the I/O
    /// threads; its length is said.
    #[must_use]
    pub fn file(content_type: &str, file: std::fs::File, length: u64) -> Answer {
        Answer::long(content_type, (Source::File(file), length))
    }

    /// 200 with `length` bytes of a source, a piece at a time; its length is said. A source that
    /// has less ends the connection. Files are read off the I/O threads.
    #[must_use]
    pub fn long(content_type: &str, (source, length): (Source, u64)) -> Answer {
        Answer::framed(content_type, Bytes::new(), (source, length), Bytes::new())
    }

    /// The same with bytes before it and after it.
    #[must_use]
    pub fn framed(
        content_type: &str,
        before: Bytes,
        (source, length): (Source, u64),
        after: Bytes,
    ) -> Answer {
        let around = (before.len() + after.len()) as u64;
        let length_text = length.saturating_add(around).to_string();
        let held = |bytes: Bytes| {
            let some = Some(bytes).filter(|bytes| !bytes.is_empty());
            stream::iter(some.map(|bytes| Ok(http_body::Frame::data(bytes))))
        };
        let pieces = match source {
            Source::File(file) => pieces_of(file, length).boxed(),
            Source::Pieces(pieces) => counted(pieces, length).boxed(),
        };
        let pieces = held(before).chain(pieces).chain(held(after));
        let body = StreamBody::new(pieces).boxed_unsync();
        Answer::stream(content_type, body).header(CONTENT_LENGTH, &length_text)
    }

    /// 200 with JSON that is made piece by piece, off the I/O threads, by calling `next` until it
    /// gives nothing; what fails ends the connection. For what is too large to be held whole.
    #[must_use]
    pub fn json_pieces<F>(next: F) -> Answer
    where
        F: FnMut() -> std::io::Result<Option<Vec<u8>>> + Send + 'static,
    {
        let pieces = stream::try_unfold(next, |mut next| async move {
            let made = tokio::task::spawn_blocking(move || next().map(|piece| (piece, next)));
            let (piece, next) = made.await.map_err(std::io::Error::other)??;
            Ok(piece.map(|piece| (http_body::Frame::data(Bytes::from(piece)), next)))
        });
        Answer::with_type(
            JSON,
            AnswerBody::Stream(StreamBody::new(pieces).boxed_unsync()),
        )
    }

    /// The same answer with another status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Answer {
        self.status = status;
        self
    }

    /// The same answer with a header set. A value that cannot stand in a header is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Answer {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    fn with_type(content_type: HeaderValue, body: AnswerBody) -> Answer {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, content_type);
        Answer {
            status: StatusCode::OK,
            headers,
            body,
        }
    }

    pub(crate) fn into_response(self) -> Response<axum::body::Body> {
        let body = match self.body {
            AnswerBody::Bytes(bytes) => axum::body::Body::from(bytes),
            AnswerBody::Stream(stream) => axum::body::Body::new(stream),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// A file from where it stands, a piece at a time.
fn pieces_of(
    file: std::fs::File,
    length: u64,
) -> impl stream::Stream<Item = std::io::Result<http_body::Frame<Bytes>>> {
    stream::try_unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            let size = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let mut piece = vec![0; size];
            file.read_exact(&mut piece).map(|()| (piece, file))
        });
        let (piece, file) = read.await.map_err(std::io::Error::other)??;
        let left = left - piece.len() as u64;
        let frame = http_body::Frame::data(Bytes::from(piece));
        Ok(Some((frame, (file, left))))
    })
}

/// Pieces that are `length` bytes together; an error where they are not.
fn counted(
    pieces: BoxStream<'static, std::io::Result<Bytes>>,
    length: u64,
) -> impl stream::Stream<Item = std::io::Result<http_body::Frame<Bytes>>> {
    stream::try_unfold((pieces, length), |(mut pieces, left)| async move {
        let wrong = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        match pieces.next().await.transpose()? {
            Some(piece) => {
                let left = left.checked_sub(piece.len() as u64).ok_or_else(wrong)?;
                Ok(Some((http_body::Frame::data(piece), (pieces, left))))
            }
            None if left == 0 => Ok(None),
            None => Err(wrong()),
        }
    })
}

fn type_value(content_type: &str) -> HeaderValue {
    HeaderValue::from_str(content_type)
        .unwrap_or(HeaderValue::from_static("application/octet-stream"))
}
