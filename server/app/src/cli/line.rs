//! The line to the server: over the admin socket where it runs, and into a server put together
//! for this one command where it does not. Both speak the same admin API.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tower::ServiceExt;

use crate::config::Config;
use crate::{House, SystemClock, SystemDice};

/// The largest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// The line to the server.
pub(crate) enum Line {
    /// It runs.
    Running(UnixStream),
    /// It does not: the whole of it is here.
    Stopped(Box<House>, Router),
}

impl Line {
    /// Opens the line. Without a running server and without data it is an error, unless `fresh`
    /// allows to begin with nothing.
    pub(crate) async fn open(config: Config, fresh: bool) -> Result<Line, String> {
        if let Ok(stream) = UnixStream::connect(config.admin_socket()).await {
            return Ok(Line::Running(stream));
        }
        let dir = config.data_dir.clone();
        match std::fs::metadata(&dir) {
            Ok(metadata) if metadata.uid() != rustix::process::geteuid().as_raw() => {
                return Err(format!(
                    "{} belongs to another user; run this as the user that skerry runs as",
                    dir.display()
                ));
            }
            Ok(_) => {}
            Err(_) if fresh => {}
            Err(_) => {
                return Err(format!(
                    "there is no data in {}; is this the right directory, or is --config missing?",
                    dir.display()
                ));
            }
        }
        let config = Arc::new(config);
        let opened = tokio::task::block_in_place(|| {
            House::open(config, Arc::new(SystemClock), Arc::new(SystemDice))
        });
        let house = opened.map_err(|e| e.to_string())?;
        let router = house.admin_router();
        Ok(Line::Stopped(Box::new(house), router))
    }

    /// One request. An error is what the server says is wrong.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String> {
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "skerry")
            .body(Full::new(body))
            .map_err(|e| e.to_string())?;
        let (good, answer) = match self {
            Line::Running(stream) => {
                let (status, answer) = over_socket(stream, request).await?;
                (status.is_success(), answer)
            }
            Line::Stopped(_, router) => {
                let response = router
                    .clone()
                    .oneshot(request)
                    .await
                    .map_err(|e| e.to_string())?;
                let good = response.status().is_success();
                (good, read(response.into_body()).await?)
            }
        };
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|_| "the server gave an answer that is not JSON".to_owned())?;
        if good {
            return Ok(answer);
        }
        Err(answer["error"]
            .as_str()
            .unwrap_or("the server refused")
            .to_owned())
    }

    /// Ends the line; what was changed is on the disk.
    pub(crate) fn close(self) {
        if let Line::Stopped(house, _) = self {
            tokio::task::block_in_place(|| house.close());
        }
    }
}

/// Asks a running server whether it is well: the status and what it says, or why there is no
/// answer.
pub(crate) async fn health(stream: &mut UnixStream) -> Result<(StatusCode, String), String> {
    let request = Request::builder()
        .uri("/health")
        .header(http::header::HOST, "skerry")
        .body(Full::default())
        .map_err(|e| e.to_string())?;
    let (status, answer) = over_socket(stream, request).await?;
    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
    let said = answer["status"].as_str().unwrap_or("it does not say why");
    Ok((status, said.to_owned()))
}

async fn over_socket(
    stream: &mut UnixStream,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), String> {
    let lost = |e: hyper::Error| format!("the running server did not answer: {e}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(lost)?;
    let ask = async {
        let response = sender.send_request(request).await.map_err(lost)?;
        let status = response.status();
        Ok::<_, String>((status, read(response.into_body()).await?))
    };
    tokio::pin!(connection);
    tokio::pin!(ask);
    tokio::select! {
        answer = &mut ask => return answer,
        _ = &mut connection => {}
    }
    // The connection may be over before the answer that came by it is read.
    ask.await
}

async fn read<B>(body: B) -> Result<Bytes, String>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let limited = http_body_util::Limited::new(body, MAX_ANSWER);
    Ok(limited
        .collect()
        .await
        .map_err(|e| e.to_string())?
        .to_bytes())
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}
