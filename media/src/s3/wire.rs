//! How requests to the object store go out: by the HTTP client that everything goes out by, so that
//! there is one TLS and one pool of connections.

use std::{
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http::Response;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
        HttpResponseBody, HttpService,
    },
};
use skerry_remote::http::{self as outgoing, Client, Request, Streamed};

/// How long a request may take to be written and answered, and then each piece of the answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest answer that is no blob, in bytes: a page of a list, an error.
const TEXT_MAX: usize = 16 * 1024 * 1024;

/// The way to the object store.
#[derive(Clone)]
pub(super) struct Wire(Client);

impl Wire {
    pub(super) fn new(client: Client) -> Self {
        Self(client)
    }

    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        let is_text = head.uri.query().is_some();
        // The operator wrote the URL.
        let mut outgoing = Request::new(head.method, &head.uri.to_string())
            .trusted()
            .timeout(PATIENCE)
            .max_response(if is_text { TEXT_MAX } else { usize::MAX })
            .body(body.collect().await?.to_bytes());
        for (name, value) in &head.headers {
            let value = value.to_str();
            let value = value.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
            outgoing = outgoing.header(name.as_str(), value);
        }
        let streamed = self.0.open(outgoing).await.map_err(failed)?;
        let (status, headers) = (streamed.status, streamed.headers.clone());
        let mut answer = Response::new(HttpResponseBody::new(Pieces::of(streamed)));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Wire {
    // As the macro of the trait writes it.
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.answer(request))
    }
}

fn failed(error: outgoing::HttpError) -> HttpError {
    use outgoing::HttpError as Why;
    let kind = match &error {
        Why::Timeout(_) => HttpErrorKind::Timeout,
        Why::Broken(_) => HttpErrorKind::Interrupted,
        error if error.is_final() => HttpErrorKind::Unknown,
        error if error.is_unconnected() => HttpErrorKind::Connect,
        _ => HttpErrorKind::Decode,
    };
    HttpError::new(kind, error)
}

/// The body of an answer. It is shared by nobody; the lock makes that plain to the compiler.
struct Pieces(Mutex<BoxStream<'static, Result<Bytes, HttpError>>>);

impl Pieces {
    fn of(streamed: Streamed) -> Self {
        let pieces = stream::try_unfold(streamed, |mut streamed| async move {
            let piece = streamed.next().await.map_err(failed)?;
            Ok(piece.map(|piece| (piece, streamed)))
        });
        Self(Mutex::new(pieces.boxed()))
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let pieces = self.get_mut().0.get_mut();
        let pieces = pieces.unwrap_or_else(std::sync::PoisonError::into_inner);
        pieces
            .poll_next_unpin(context)
            .map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
