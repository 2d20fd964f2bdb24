//! How a CA is spoken to: one request on one connection, bounded in time and size. It happens some
//! ten times in two months.

use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(30);
/// The largest answer, in bytes.
const ANSWER_MAX: usize = 1024 * 1024;
const AGENT: &str = concat!("skerry/", env!("CARGO_PKG_VERSION"), " instant-acme");

/// Where the CA writes down when it wants to be asked again.
pub(super) type Told = Arc<Mutex<Option<Duration>>>;

/// Speaks to a CA.
pub(super) struct Web {
    tls: Arc<ClientConfig>,
    told: Told,
}

impl Web {
    pub(super) fn new(tls: Arc<ClientConfig>, told: Told) -> Web {
        Web { tls, told }
    }
}

impl HttpClient for Web {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (tls, told) = (Arc::clone(&self.tls), Arc::clone(&self.told));
        Box::pin(async move {
            let uri = request.uri().clone();
            let failed = |why: String| Error::Other(format!("{uri}: {why}").into());
            let answered = tokio::time::timeout(WITHIN, exchange(tls, request)).await;
            let answer = match answered {
                Ok(answer) => answer.map_err(&failed)?,
                Err(_) => return Err(failed("no answer in time".to_owned())),
            };
            let status = answer.status();
            if status.is_client_error() || status.is_server_error() {
                let wish = retry_after(answer.headers(), SystemTime::now());
                *told.lock().unwrap_or_else(PoisonError::into_inner) = wish;
                if !is_json(answer.headers()) {
                    return Err(failed(format!("it answers {status}")));
                }
            }
            Ok(BytesResponse::from(answer))
        })
    }
}

async fn exchange(
    tls: Arc<ClientConfig>,
    request: Request<BodyWrapper<Bytes>>,
) -> Result<Response<Full<Bytes>>, String> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().cloned();
    let authority = authority.filter(|_| head.uri.scheme_str() == Some("https"));
    let authority = authority.ok_or("it is not a URL with https://")?;
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(443);
    let tcp = TcpStream::connect((host, port))
        .await
        .map_err(|e| format!("it cannot be reached: {e}"))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
    let stream = TlsConnector::from(tls)
        .connect(name, tcp)
        .await
        .map_err(|e| format!("no TLS with it: {e}"))?;
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .map_err(|e| e.to_string())?;
    // Ends with `sender`.
    tokio::spawn(connection);
    let value = HeaderValue::from_str(authority.as_str()).map_err(|e| e.to_string())?;
    head.headers.insert(HOST, value);
    head.headers
        .insert(USER_AGENT, HeaderValue::from_static(AGENT));
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = Uri::from_str(path).map_err(|e| e.to_string())?;
    let answer = sender
        .send_request(Request::from_parts(head, body))
        .await
        .map_err(|e| format!("it broke off: {e}"))?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_MAX).collect().await;
    let body = body.map_err(|e| format!("it broke off: {e}"))?;
    Ok(Response::from_parts(head, Full::new(body.to_bytes())))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.contains("json"))
}

/// The wish to be left alone (RFC 9110, 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn wishes_to_be_left_alone() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let told = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers, now).map(|wish| wish.as_secs())
        };
        assert_eq!(told("120"), Some(120));
        assert_eq!(told("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        assert_eq!(told("Sun, 06 Nov 1994 08:40:00 GMT"), Some(0));
        assert_eq!(told("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
