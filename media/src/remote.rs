//! Media of other servers: fetched once when somebody asks for it, kept as a copy under a budget,
//! and trusted in nothing.

mod multipart;
pub mod serve;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use http::{
    Method,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName},
};
use skerry_remote::federation::{Limits, PeerError, Peers};
use skerry_remote::http::{Client, HttpError, Request, Streamed};
use skerry_store::{
    Lanes, StoreError, blocking,
    schema::media::{CorruptBlob, MediaTable},
};

use crate::{
    Blobs, MediaError, MediaId, Upload, UploadInfo,
    blobs::NOBODY,
    prune::Pruner,
    thumbnail::{LARGEST, Method as Fit, Thumbnail, Wanted},
    thumbs::THUMB_KEPT_MAX,
};
use multipart::{Malformed, Reader};

/// How long another server may say nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// How much of a file's beginning is looked at for its type, in bytes.
const LOOKED_AT: usize = 512;
/// Redirects that are followed to a file.
const REDIRECTS: usize = 3;
/// How much more than the file an answer may have, in bytes.
const FRAME: usize = 256 * 1024;

/// Fetches media of other servers. Cheap to clone.
#[derive(Clone)]
pub struct RemoteMedia {
    blobs: Arc<Blobs>,
    pruner: Pruner,
    peers: Peers,
    client: Client,
    /// The largest file that is fetched, in bytes.
    max: u64,
    /// One fetch at a time of each file; who waited finds it here.
    lanes: Lanes<(String, String)>,
}

/// Why media of another server could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It has no such media, or it may not be given out here.
    #[error("that server has no such media")]
    NotFound,
    /// It is not uploaded yet.
    #[error("it was not uploaded yet")]
    NotYet,
    /// Larger than what is fetched, in bytes.
    #[error("the file is larger than {0} bytes")]
    TooLarge(u64),
    /// The server did not answer in time.
    #[error("the server did not answer in time")]
    TimedOut,
    /// The server gave nothing that can be used.
    #[error("the server gave no file: {0}")]
    Failed(String),
    /// The request does not say how long it waits.
    #[error("how long to wait is a number")]
    Patience,
    /// Something here failed.
    #[error("{0}")]
    Here(#[source] MediaError),
}

impl From<MediaError> for FetchError {
    fn from(error: MediaError) -> Self {
        match error {
            MediaError::TooLarge(max) => Self::TooLarge(max),
            MediaError::Blocked | MediaError::NotFound => Self::NotFound,
            MediaError::NotYet => Self::NotYet,
            error => Self::Here(error),
        }
    }
}

/// A file under way.
struct Arriving {
    body: Streamed,
    parts: Option<Reader>,
    content_type: String,
    disposition: String,
    /// What came of the file before anybody asked for it.
    first: Vec<u8>,
}

impl RemoteMedia {
    /// Fetches into `blobs`, from servers by `peers`, and from where they send us by `client`.
    #[must_use]
    pub fn new(
        (blobs, pruner): (Arc<Blobs>, Pruner),
        peers: Peers,
        client: Client,
        max: u64,
    ) -> Self {
        Self {
            blobs,
            pruner,
            peers,
            client,
            max,
            lanes: Lanes::new(),
        }
    }

    /// Where the media lies.
    #[must_use]
    pub fn blobs(&self) -> &Arc<Blobs> {
        &self.blobs
    }

    /// Sees to it that another server's file is here, waiting at most `patience` for content that
    /// is still to be uploaded there. Who asks at the same time waits for the same fetch.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(
        &self,
        server: &str,
        id: &MediaId,
        patience: Duration,
    ) -> Result<(), FetchError> {
        let key = (server.to_owned(), id.as_str().to_owned());
        if self.is_here(&key).await? {
            return Ok(());
        }
        let lane = self.lanes.lock(key.clone()).await;
        if self.is_here(&key).await? || self.was_in_trash(&key).await? {
            return Ok(());
        }
        // It goes on when whoever asked is gone: others may wait for it.
        let (this, id) = (self.clone(), id.clone());
        let work = tokio::spawn(async move {
            let _lane = lane;
            let arriving = this.open(&key.0, &id, patience).await?;
            this.store(&key.0, &id, arriving).await
        });
        let failed = |error: tokio::task::JoinError| FetchError::Failed(error.to_string());
        work.await.map_err(failed)?
    }

    /// Whether the file is here; not found where it may not be given out.
    async fn is_here(&self, key: &(String, String)) -> Result<bool, FetchError> {
        let (blobs, key) = (Arc::clone(&self.blobs), key.clone());
        let here = blocking(move || {
            let snap = blobs.store.snapshot();
            let media = snap.get::<MediaTable>(&key)?;
            let hash = media.as_ref().map_or([0; 32], |media| media.hash);
            let blocked = blobs.is_blocked(&snap, &key, &hash)?;
            // A file that was lost or set aside is fetched again.
            let here = match media {
                Some(media) => {
                    let hash = blake3::Hash::from_bytes(media.hash);
                    blobs.storage.seems_there(&hash) && !snap.has::<CorruptBlob>(&media.hash)?
                }
                None => false,
            };
            Ok::<_, StoreError>((here, blocked))
        });
        match here.await.and_then(|here| here) {
            Ok((_, true)) => Err(FetchError::NotFound),
            Ok((here, false)) => Ok(here),
            Err(error) => Err(FetchError::Here(MediaError::Store(error))),
        }
    }

    /// Brings it back from the trash, if it lies there.
    async fn was_in_trash(&self, key: &(String, String)) -> Result<bool, FetchError> {
        let mxc = format!("mxc://{}/{}", key.0, key.1);
        match self.pruner.restore(Some(vec![mxc])).await {
            Ok(count) => Ok(count > 0),
            Err(error) => Err(FetchError::Failed(error.to_string())),
        }
    }

    /// Asks for a file: the endpoint for servers, and where that is not known those before it.
    async fn open(
        &self,
        server: &str,
        id: &MediaId,
        patience: Duration,
    ) -> Result<Arriving, FetchError> {
        let (id, wait) = (id.as_str(), patience.as_millis());
        let path = format!("/_matrix/federation/v1/media/download/{id}?timeout_ms={wait}");
        match self.ask(server, &path, patience).await {
            Ok(answer) => return self.in_parts(answer).await,
            Err(error) if is_unknown(&error) => {}
            Err(error) => return Err(refused(error, self.max)),
        }
        let mut last = FetchError::NotFound;
        for version in ["v3", "r0"] {
            let path = format!(
                "/_matrix/media/{version}/download/{server}/{id}?allow_remote=false&timeout_ms={wait}"
            );
            match self.ask(server, &path, patience).await {
                Ok(answer) => return Ok(plain(answer)),
                Err(error) => last = refused(error, self.max),
            }
        }
        Err(last)
    }

    async fn ask(
        &self,
        server: &str,
        path: &str,
        patience: Duration,
    ) -> Result<Streamed, PeerError> {
        let max = usize::try_from(self.max).unwrap_or(usize::MAX);
        let limits = Limits::new(SILENCE.saturating_add(patience), max.saturating_add(FRAME));
        let limits = limits.even_if_resting();
        self.peers
            .open(server, Method::GET, path, None, limits)
            .await
    }

    /// Reads an answer's parts up to where the file begins, or goes where it is.
    async fn in_parts(&self, mut answer: Streamed) -> Result<Arriving, FetchError> {
        let kind = text(&answer, CONTENT_TYPE);
        let mut reader = Reader::new(&multipart::boundary(&kind).map_err(malformed)?);
        let mut first = Vec::new();
        while reader.head().is_none() {
            match answer.next().await.map_err(broken)? {
                Some(piece) => first.extend(reader.take(&piece).map_err(malformed)?),
                None => return Err(malformed(Malformed::Parts)),
            }
        }
        let head = reader.head().cloned().unwrap_or_default();
        if let Some(location) = head.location {
            return self.elsewhere(&location).await;
        }
        Ok(Arriving {
            body: answer,
            parts: Some(reader),
            content_type: head.content_type,
            disposition: head.disposition,
            first,
        })
    }

    /// The file where its server says that it is, without saying who asks.
    async fn elsewhere(&self, location: &str) -> Result<Arriving, FetchError> {
        let max = usize::try_from(self.max).unwrap_or(usize::MAX);
        let request = Request::get(location)
            .timeout(SILENCE)
            .max_response(max)
            .secure()
            .follow(REDIRECTS);
        let answer = self.client.open(request).await.map_err(broken)?;
        if !answer.status.is_success() {
            return Err(FetchError::Failed(answer.status.to_string()));
        }
        Ok(plain(answer))
    }

    /// Streams a file to the disk and names it.
    async fn store(
        &self,
        server: &str,
        id: &MediaId,
        mut arriving: Arriving,
    ) -> Result<(), FetchError> {
        let (blobs, max) = (Arc::clone(&self.blobs), self.max);
        let mut upload = on_disk(move || blobs.begin_remote(max)).await?;
        let mut head = Vec::new();
        let mut piece = std::mem::take(&mut arriving.first);
        loop {
            let room = LOOKED_AT.saturating_sub(head.len());
            head.extend(piece.iter().take(room));
            if !piece.is_empty() {
                upload = on_disk(move || upload.write(&piece).map(|()| upload)).await?;
            }
            piece = match arriving.next().await? {
                Some(more) => more,
                None => break,
            };
        }
        let info = UploadInfo {
            content_type: sniffed(&head, &arriving.content_type),
            name: file_name(&arriving.disposition),
        };
        self.keep(server, id, upload, info).await
    }

    async fn keep(
        &self,
        server: &str,
        id: &MediaId,
        upload: Upload,
        info: UploadInfo,
    ) -> Result<(), FetchError> {
        let upload = self.blobs.prepared(upload).await?;
        let lane = self.blobs.uploaders.lock(NOBODY).await;
        let (blobs, server, id) = (Arc::clone(&self.blobs), server.to_owned(), id.clone());
        let applied = on_disk(move || {
            let _lane = lane;
            let size = upload.size();
            let w = blobs.store.write();
            let applied = blobs.commit(w, upload, info, NOBODY, (&server, &id))?;
            blobs.remote_came(size);
            Ok(applied)
        })
        .await?;
        let durable = self.blobs.store.durable(&applied).await;
        durable.map_err(|error| FetchError::Here(MediaError::Store(error)))
    }

    /// A thumbnail that the other server makes, of a file that is too large to be fetched.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn thumbnail(
        &self,
        server: &str,
        id: &MediaId,
        wanted: Wanted,
    ) -> Result<Thumbnail, FetchError> {
        let fit = match wanted.method {
            Fit::Scale => "scale",
            Fit::Crop => "crop",
        };
        let path = format!(
            "/_matrix/federation/v1/media/thumbnail/{}?width={}&height={}&method={fit}&animated={}",
            id.as_str(),
            wanted.width.min(LARGEST.0),
            wanted.height.min(LARGEST.1),
            wanted.animated
        );
        let answer = self.ask(server, &path, Duration::ZERO).await;
        let answer = answer.map_err(|error| refused(error, self.max))?;
        let mut arriving = self.in_parts(answer).await?;
        let mut bytes = std::mem::take(&mut arriving.first);
        while let Some(piece) = arriving.next().await? {
            bytes.extend(piece);
            if bytes.len() > THUMB_KEPT_MAX {
                return Err(FetchError::TooLarge(THUMB_KEPT_MAX as u64));
            }
        }
        let kind = image::guess_format(&bytes)
            .map_err(|_| FetchError::Failed("its thumbnail is no picture".to_owned()))?;
        Ok(Thumbnail {
            content_type: kind.to_mime_type().to_owned(),
            bytes: bytes.into(),
        })
    }
}

impl Arriving {
    /// The next piece of the file; an answer that breaks off is no file.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, FetchError> {
        let Some(piece) = self.body.next().await.map_err(broken)? else {
            return match &self.parts {
                Some(parts) if !parts.is_over() => Err(malformed(Malformed::Parts)),
                _ => Ok(None),
            };
        };
        match &mut self.parts {
            Some(parts) => parts.take(&piece).map(Some).map_err(malformed),
            None => Ok(Some(piece.to_vec())),
        }
    }
}

fn plain(answer: Streamed) -> Arriving {
    Arriving {
        content_type: text(&answer, CONTENT_TYPE),
        disposition: text(&answer, CONTENT_DISPOSITION),
        body: answer,
        parts: None,
        first: Vec::new(),
    }
}

fn text(answer: &Streamed, name: HeaderName) -> String {
    let value = answer.headers.get(name);
    let value = value.and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// Whether the server does not know the endpoint.
fn is_unknown(error: &PeerError) -> bool {
    error.is_code("M_UNRECOGNIZED")
        || matches!(
            error,
            PeerError::Refused {
                status: 404 | 405,
                errcode: None,
                ..
            }
        )
}

fn refused(error: PeerError, max: u64) -> FetchError {
    match &error {
        PeerError::Denied | PeerError::Ourselves => FetchError::NotFound,
        _ if error.is_code("M_NOT_YET_UPLOADED") => FetchError::NotYet,
        _ if error.is_code("M_TOO_LARGE") => FetchError::TooLarge(max),
        PeerError::Refused { status: 404, .. } => FetchError::NotFound,
        PeerError::Refused { status: 504, .. } => FetchError::TimedOut,
        _ => FetchError::Failed(error.to_string()),
    }
}

fn malformed(error: Malformed) -> FetchError {
    FetchError::Failed(error.to_string())
}

fn broken(error: HttpError) -> FetchError {
    match error {
        HttpError::TooLarge(max) => FetchError::TooLarge(max as u64),
        HttpError::Timeout(_) => FetchError::TimedOut,
        error => FetchError::Failed(error.to_string()),
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MediaError> + Send + 'static,
) -> Result<T, FetchError> {
    let done = blocking(work).await.map_err(MediaError::Store)?;
    done.map_err(FetchError::from)
}

/// The type of a file: a picture is what its bytes say, and what says that it is a picture and is
/// none is nothing in particular.
fn sniffed(head: &[u8], claimed: &str) -> String {
    let essence = claimed.split(';').next().unwrap_or_default().trim();
    match image::guess_format(head) {
        Ok(format) => format.to_mime_type().to_owned(),
        Err(_) if essence.to_ascii_lowercase().starts_with("image/") => String::new(),
        Err(_) => claimed.to_owned(),
    }
}

/// The file name of a `Content-Disposition` (RFC 6266); the extended form counts more.
fn file_name(disposition: &str) -> Option<String> {
    let value = |wanted: &str| {
        disposition.split(';').skip(1).find_map(|part| {
            let (name, value) = part.split_once('=')?;
            let value = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case(wanted).then_some(value)
        })
    };
    if let Some(extended) = value("filename*") {
        let bytes = extended.rsplit('\'').next()?;
        return percent_encoding::percent_decode_str(bytes)
            .decode_utf8()
            .ok()
            .map(|name| name.into_owned());
    }
    value("filename").map(str::to_owned)
}
