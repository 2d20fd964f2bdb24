//! Answers made shorter on their way, where that pays: text that is not short, for clients that
//! take it so.

mod coding;
mod encoder;

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Buf, Bytes};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, ETAG, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::body::{Body as HttpBody, Frame};

use coding::Coding;
use encoder::Encoder;

/// Shorter answers fit into a packet or two as they are, in bytes.
const WORTH_IT: u64 = 1024;
/// How much is compressed at once, in bytes: about a millisecond's work.
const PIECE: usize = 64 * 1024;
/// After so many pieces others have their turn.
const TURN: u32 = 4;

/// Who asks, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    coding: Option<Coding>,
    /// `HEAD` is answered as it is.
    wants_body: bool,
}

impl Asker {
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Asker {
        Asker {
            coding: Coding::chosen(headers),
            wants_body: method != Method::HEAD,
        }
    }
}

/// Compresses an answer if it is worth it and the client takes it.
pub(crate) fn pack(asker: Asker, response: Response<Body>) -> Response<Body> {
    let size = response.body().size_hint();
    let long = size.upper().is_none_or(|most| most > WORTH_IT);
    if !asker.wants_body || !long || !is_packable(response.status(), response.headers()) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    vary(&mut head.headers);
    let exact = size.exact();
    let encoder = asker
        .coding
        .and_then(|coding| Some((coding, Encoder::new(coding, exact)?)));
    let Some((coding, encoder)) = encoder else {
        return Response::from_parts(head, body);
    };
    let headers = &mut head.headers;
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_RANGES);
    weaken(headers);
    Response::from_parts(head, Body::new(Packed::new(body, encoder)))
}

/// Text of the server's own. Files of users are left alone: they have a disposition, are often
/// packed already, and are asked for in parts. So are pages: they are short, and of what browsers
/// ask for by themselves nothing shall have a length that tells what is in it (BREACH).
fn is_packable(status: StatusCode, headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
    };
    let kind = text(CONTENT_TYPE).split(';').next().unwrap_or("").trim();
    let is_text = (kind.starts_with("text/") && kind != "text/html")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(
            kind,
            "application/json" | "application/javascript" | "application/wasm"
        );
    is_text
        // An answer in parts names the parts of what it was.
        && status != StatusCode::PARTIAL_CONTENT
        && status != StatusCode::NOT_MODIFIED
        && kind != "text/event-stream"
        && !headers.contains_key(CONTENT_ENCODING)
        && !headers.contains_key(CONTENT_DISPOSITION)
        && !text(CACHE_CONTROL).contains("no-transform")
}

/// Says to caches that the answer depends on what the client takes.
fn vary(headers: &mut HeaderMap) {
    let said = headers.get_all(VARY).iter().any(|value| {
        let value = value.as_bytes().to_ascii_lowercase();
        value == b"*" || value.windows(15).any(|part| part == b"accept-encoding")
    });
    if !said {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// The same content in other bytes has the same tag only in the weak sense.
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers
        .get(ETAG)
        .filter(|tag| tag.as_bytes().starts_with(b"\""))
    else {
        return;
    };
    let weak = [b"W/", tag.as_bytes()].concat();
    if let Ok(weak) = HeaderValue::from_bytes(&weak) {
        headers.insert(ETAG, weak);
    }
}

/// A body that is compressed as it is read.
struct Packed {
    inner: Body,
    /// None after the end.
    encoder: Option<Encoder>,
    /// What came and is not compressed yet.
    rest: Bytes,
    /// Whether the encoder keeps something back.
    held: bool,
    pieces: u32,
}

impl Packed {
    fn new(inner: Body, encoder: Encoder) -> Packed {
        Packed {
            inner,
            encoder: Some(encoder),
            rest: Bytes::new(),
            held: false,
            pieces: 0,
        }
    }

    /// What the encoder has given out, if it is anything.
    fn taken(encoder: &mut Encoder) -> Option<Frame<Bytes>> {
        let bytes = encoder.taken();
        (!bytes.is_empty()).then(|| Frame::data(bytes.into()))
    }
}

impl HttpBody for Packed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        loop {
            let Some(encoder) = &mut this.encoder else {
                return Poll::Ready(None);
            };
            if this.rest.is_empty() {
                match Pin::new(&mut this.inner).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        // Trailers are not used in answers of ours.
                        this.rest = frame.into_data().unwrap_or_default();
                    }
                    Poll::Ready(Some(Err(error))) => {
                        this.encoder = None;
                        return Poll::Ready(Some(Err(error)));
                    }
                    Poll::Ready(None) => {
                        let last = this.encoder.take().map(Encoder::finish);
                        let last = last.transpose().map_err(axum::Error::new)?;
                        let last = last.unwrap_or_default();
                        return Poll::Ready(Some(Ok(Frame::data(last.into()))));
                    }
                    Poll::Pending if this.held => {
                        // What was said so far does not wait for what comes next.
                        this.held = false;
                        encoder.flush().map_err(axum::Error::new)?;
                        match Packed::taken(encoder) {
                            Some(frame) => return Poll::Ready(Some(Ok(frame))),
                            None => return Poll::Pending,
                        }
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            if this.rest.is_empty() {
                continue;
            }
            let size = this.rest.len().min(PIECE);
            let piece = this.rest.get(..size).unwrap_or_default();
            encoder.write(piece).map_err(axum::Error::new)?;
            this.rest.advance(size);
            this.held = true;
            this.pieces += 1;
            if let Some(frame) = Packed::taken(encoder) {
                return Poll::Ready(Some(Ok(frame)));
            }
            if this.pieces.is_multiple_of(TURN) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests;
