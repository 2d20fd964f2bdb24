//! The media endpoints (client-server API, content repository).

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    StatusCode,
    header::{
        ACCEPT, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE,
        CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, IF_RANGE, RANGE,
        VARY,
    },
};
use serde_json::json;
use skerry_core::UserNid;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_store::{StoreError, blocking, schema::media::Media};

use crate::{
    blobs::{Blobs, MediaError, Unauthenticated, Upload, UploadInfo},
    mime,
    mxc::MediaId,
    pending::WAIT_MAX,
    remote::{FetchError, RemoteMedia},
    storage::Content,
    thumbnail::{Method, Thumbnail, Wanted},
    thumbs::Served,
};

/// How long a download waits for content unless it says otherwise, in ms.
const PATIENCE_MS: u64 = 20_000;
const SANDBOX: &str = "sandbox; default-src 'none'; script-src 'none'; plugin-types \
    application/pdf; style-src 'unsafe-inline'; object-src 'self';";
const FOR_EVER: &str = "private, max-age=31536000, immutable";

/// What the endpoints work on.
pub struct MediaDoor {
    /// What is here.
    pub blobs: Arc<Blobs>,
    /// What other servers have; none: they are not asked.
    pub remote: Option<RemoteMedia>,
}

/// The endpoints of this crate.
pub const ROUTES: &[Route<MediaDoor>] = &[
    route!(POST "/_matrix/media/v3/upload", Token, Upload, upload).stream(),
    route!(POST "/_matrix/media/v1/create", Token, Upload, create),
    route!(PUT "/_matrix/media/v3/upload/{serverName}/{mediaId}", Token, Upload, fill).stream(),
    route!(GET "/_matrix/client/v1/media/config", Token, Free, config),
    route!(GET "/_matrix/media/v3/config", Token, Free, config),
    route!(GET "/_matrix/client/v1/media/download/{serverName}/{mediaId}", Token, Media, download)
        .guests(),
    route!(
        GET "/_matrix/client/v1/media/download/{serverName}/{mediaId}/{fileName}",
        Token, Media, download
    )
    .guests(),
    route!(GET "/_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}", Token, Media, thumbnail)
        .guests(),
    route!(GET "/_matrix/media/v3/download/{serverName}/{mediaId}", None, Media, old_download),
    route!(
        GET "/_matrix/media/v3/download/{serverName}/{mediaId}/{fileName}",
        None, Media, old_download
    ),
    route!(GET "/_matrix/media/v3/thumbnail/{serverName}/{mediaId}", None, Media, old_thumbnail),
];

pub(crate) fn refuse(error: MediaError) -> ApiError {
    match error {
        MediaError::TooLarge(max) => {
            ApiError::too_large(format!("A file may have {max} bytes at most"))
        }
        MediaError::NotFound => ApiError::not_found("No such media on this server"),
        MediaError::NotYet => ApiError::not_yet_uploaded("Nothing was uploaded under this id yet"),
        MediaError::Taken => ApiError::cannot_overwrite_media("This media id has its content"),
        MediaError::NotYours => ApiError::forbidden("This media id was given out to somebody else"),
        MediaError::TooManyPending(lapse_ms) => ApiError::limit(lapse_ms),
        MediaError::NoThumbnail(why) => {
            ApiError::unknown(format!("No thumbnail can be made of this file: {why}"))
        }
        MediaError::Blocked => ApiError::forbidden("This file may not be stored here"),
        MediaError::BelowFloor {
            admin_contact: Some(contact),
        } => no_space().with("admin_contact", contact),
        MediaError::BelowFloor { .. } | MediaError::Full | MediaError::Store(StoreError::Full) => {
            no_space()
        }
        MediaError::Quota { quota, info_uri } => {
            let text = format!("Nobody may upload more than {quota} bytes in all");
            ApiError::user_limit(text).with("info_uri", info_uri)
        }
        MediaError::Away(cause) => {
            ApiError::unavailable("Files cannot be reached at the moment").caused_by(cause)
        }
        MediaError::File(error) => ApiError::internal(error),
        MediaError::Store(error) => ApiError::internal(error),
    }
}

fn no_space() -> ApiError {
    ApiError::storage_limit("The server has no space left for media")
}

/// `POST /_matrix/media/v3/upload`: the `mxc://` in the answer names the file from then on,
/// whatever happens to the server. Streamed to the disk, never whole in memory.
async fn upload(door: Arc<MediaDoor>, mut call: Call) -> Result<Answer, ApiError> {
    let blobs = &door.blobs;
    let uploader = uploader(&call)?;
    let info = info(&call);
    let upload = received(blobs, &mut call).await?;
    let id = blobs.finish(upload, info, uploader).await.map_err(refuse)?;
    let mut answer = json!({ "content_uri": uri(blobs, &id) });
    // MSC2448, under its unstable names; only a hint, so a picture without one is no error.
    let asked = call.query("xyz.amorgan.generate_blurhash").as_deref() == Some("true");
    if let Some(blurhash) = blobs.was_uploaded(&id, asked).await {
        answer["xyz.amorgan.blurhash"] = blurhash.into();
    }
    Answer::json(&answer)
}

/// `POST /_matrix/media/v1/create`: an `mxc://` whose content comes later.
async fn create(door: Arc<MediaDoor>, call: Call) -> Result<Answer, ApiError> {
    let blobs = &door.blobs;
    let (id, expires_ms) = blobs.reserve(uploader(&call)?).await.map_err(refuse)?;
    Answer::json(&json!({ "content_uri": uri(blobs, &id), "unused_expires_at": expires_ms }))
}

/// `PUT /_matrix/media/v3/upload/{serverName}/{mediaId}`: the content of such an `mxc://`.
async fn fill(door: Arc<MediaDoor>, mut call: Call) -> Result<Answer, ApiError> {
    let blobs = &door.blobs;
    let uploader = uploader(&call)?;
    let info = info(&call);
    let (server, id) = named(&call)?;
    if server != blobs.server_name() {
        return Err(ApiError::forbidden(
            "Another server's media ids are its own",
        ));
    }
    // Refused before a byte is taken in where it can be.
    on_disk({
        let (blobs, id) = (Arc::clone(blobs), id.clone());
        move || blobs.may_fill(&id, uploader)
    })
    .await?;
    let upload = received(blobs, &mut call).await?;
    let filled = blobs.fill(upload, info, uploader, id.clone()).await;
    filled.map_err(refuse)?;
    blobs.was_uploaded(&id, false).await;
    Ok(Answer::empty())
}

fn uploader(call: &Call) -> Result<UserNid, ApiError> {
    let who = call.requester()?;
    if who.is_guest {
        return Err(ApiError::guest_access_forbidden("Guests may not upload"));
    }
    Ok(who.user)
}

fn info(call: &Call) -> UploadInfo {
    UploadInfo {
        content_type: call.header(&CONTENT_TYPE).unwrap_or_default().to_owned(),
        name: call.query("filename"),
    }
}

fn uri(blobs: &Blobs, id: &MediaId) -> String {
    format!("mxc://{}/{}", blobs.server_name(), id.as_str())
}

/// The request's body, on disk.
async fn received(blobs: &Arc<Blobs>, call: &mut Call) -> Result<Upload, ApiError> {
    let mut stream = call.take_stream()?;
    let (uploader, length) = (uploader(call)?, stream.length);
    let blobs = Arc::clone(blobs);
    let mut upload = on_disk(move || blobs.begin(uploader, length)).await?;
    while let Some(piece) = stream.next().await? {
        upload = on_disk(move || upload.write(&piece).map(|()| upload)).await?;
    }
    Ok(upload)
}

/// `GET /_matrix/client/v1/media/config`
async fn config(door: Arc<MediaDoor>, _call: Call) -> Result<Answer, ApiError> {
    Answer::json(&json!({ "m.upload.size": door.blobs.max_upload() }))
}

/// `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}[/{fileName}]`: the file as it was
/// uploaded, whole or the range asked for, with a type and disposition that no browser runs.
async fn download(door: Arc<MediaDoor>, call: Call) -> Result<Answer, ApiError> {
    let (server, id) = named(&call)?;
    door.bring(&call, &server, &id)
        .await
        .map_err(refuse_fetch)?;
    let blobs = Arc::clone(&door.blobs);
    let this = Arc::clone(&blobs);
    let media = on_disk(move || {
        let media = this.media(&server, &id)?;
        this.looked_at(&server, &id);
        Ok(media)
    })
    .await?;
    let name = Some(call.param("fileName")).filter(|name| !name.is_empty());
    let name = name.map(str::to_owned).or(media.name.clone());
    let kind = mime::served_type(&media.content_type).to_owned();
    whole(&call, blobs, (media, None), &kind, name.as_deref()).await
}

/// A file, or the range of it that is asked for, under this type and name. It may be open already.
async fn whole(
    call: &Call,
    blobs: Arc<Blobs>,
    (media, content): (Media, Option<Content>),
    kind: &str,
    name: Option<&str>,
) -> Result<Answer, ApiError> {
    let etag = format!("\"{}\"", blake3::Hash::from_bytes(media.hash).to_hex());
    let range = match asked(call, &etag, media.size) {
        Ok(range) => range,
        Err(answer) => return Ok(*answer),
    };
    let size = media.size;
    let content = match (content, &range) {
        (Some(content), None) => content,
        (_, range) => {
            let part = range.clone().unwrap_or(0..size);
            on_disk(move || blobs.content(&media, part)).await?
        }
    };
    let answer = guarded(Answer::long(kind, content.into_source()))
        .header(ETAG, &etag)
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_DISPOSITION, &mime::disposition(kind, name));
    Ok(partial(answer, range, size))
}

/// The part of a file that is asked for, none for all of it; or the answer there is without it:
/// the client has the file already, or asks for what is not there.
fn asked(call: &Call, etag: &str, size: u64) -> Result<Option<Range<u64>>, Box<Answer>> {
    let bare = || guarded(Answer::bytes("", Bytes::new())).header(ETAG, etag);
    let known = call.header(&IF_NONE_MATCH).is_some_and(|known| {
        let mut tags = known.split(',').map(str::trim);
        tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    });
    if known {
        return Err(Box::new(bare().status(StatusCode::NOT_MODIFIED)));
    }
    // A part of another file is of no use (RFC 9110, 13.1.5).
    if call.header(&IF_RANGE).is_some_and(|tag| tag != etag) {
        return Ok(None);
    }
    match call.header(&RANGE).map(|header| range(header, size)) {
        None | Some(Asked::Everything) => Ok(None),
        Some(Asked::Part(range)) => Ok(Some(range)),
        Some(Asked::Nothing) => {
            let answer = bare().status(StatusCode::RANGE_NOT_SATISFIABLE);
            Err(Box::new(
                answer.header(CONTENT_RANGE, &format!("bytes */{size}")),
            ))
        }
    }
}

/// The same answer, marked as the part it is.
fn partial(answer: Answer, range: Option<Range<u64>>, size: u64) -> Answer {
    let Some(Range { start, end }) = range else {
        return answer;
    };
    let last = end.saturating_sub(1);
    answer
        .status(StatusCode::PARTIAL_CONTENT)
        .header(CONTENT_RANGE, &format!("bytes {start}-{last}/{size}"))
}

/// `GET /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}`: never larger than the file,
/// never smaller than asked for where the file allows it.
async fn thumbnail(door: Arc<MediaDoor>, call: Call) -> Result<Answer, ApiError> {
    let (server, id) = named(&call)?;
    let wanted = wanted(&call)?;
    let served = match (door.bring(&call, &server, &id).await, &door.remote) {
        (Ok(()), _) => {
            let served = door.blobs.thumbnail(server, id, wanted).await;
            served.map_err(refuse)?
        }
        // What is too large to be fetched is made smaller where it is.
        (Err(FetchError::TooLarge(_)), Some(remote)) => {
            let made = remote.thumbnail(&server, &id, wanted).await;
            Served::Made(made.map_err(refuse_fetch)?)
        }
        (Err(error), _) => return Err(refuse_fetch(error)),
    };
    // Kept for a year by whoever asks, so it says that formats differ by what is accepted.
    let answer = match served {
        Served::Made(made) => small(&call, &made)?,
        Served::Original {
            content_type,
            found,
        } => {
            let found = (found.media, Some(found.content));
            let blobs = Arc::clone(&door.blobs);
            whole(&call, blobs, found, &content_type, Some("thumbnail")).await?
        }
    };
    Ok(answer.header(VARY, "accept"))
}

/// A thumbnail, or the range of it that is asked for.
fn small(call: &Call, made: &Thumbnail) -> Result<Answer, ApiError> {
    let etag = format!("\"{}\"", blake3::hash(&made.bytes).to_hex());
    let size = made.bytes.len() as u64;
    let range = match asked(call, &etag, size) {
        Ok(range) => range,
        Err(answer) => return Ok(*answer),
    };
    let place = |at: u64| {
        usize::try_from(at)
            .unwrap_or(usize::MAX)
            .min(made.bytes.len())
    };
    let bytes = match &range {
        Some(part) => made.bytes.slice(place(part.start)..place(part.end)),
        None => made.bytes.clone(),
    };
    let disposition = mime::disposition(&made.content_type, Some("thumbnail"));
    let answer = guarded(Answer::bytes(&made.content_type, bytes))
        .header(ETAG, &etag)
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_DISPOSITION, &disposition);
    Ok(partial(answer, range, size))
}

/// `GET /_matrix/media/v3/download/{serverName}/{mediaId}[/{fileName}]`, without a token: for what
/// may be fetched so; everything else is not there.
async fn old_download(door: Arc<MediaDoor>, call: Call) -> Result<Answer, ApiError> {
    let door = without_token(door, &call).await?;
    download(door, call).await
}

/// `GET /_matrix/media/v3/thumbnail/{serverName}/{mediaId}`, without a token: as the download.
async fn old_thumbnail(door: Arc<MediaDoor>, call: Call) -> Result<Answer, ApiError> {
    let door = without_token(door, &call).await?;
    thumbnail(door, call).await
}

async fn without_token(door: Arc<MediaDoor>, call: &Call) -> Result<Arc<MediaDoor>, ApiError> {
    match door.blobs.unauthenticated() {
        Unauthenticated::Off => return Err(ApiError::unrecognized("Unknown endpoint")),
        Unauthenticated::Open => return Ok(door),
        Unauthenticated::Frozen => {}
    }
    let (server, id) = named(call)?;
    on_disk(
        move || match door.blobs.media(&server, &id)?.unauthenticated {
            true => Ok(door),
            false => Err(MediaError::NotFound),
        },
    )
    .await
}

impl MediaDoor {
    /// Sees to it that a file is here: waits for its content, or fetches it from its server, as
    /// long as the request says.
    async fn bring(&self, call: &Call, server: &str, id: &MediaId) -> Result<(), FetchError> {
        let patience = patience(call).map_err(|_| FetchError::Patience)?;
        if server == self.blobs.server_name() {
            let waited = self.blobs.wait_for(id, patience).await;
            return waited.map_err(FetchError::from);
        }
        // Of the endpoints without a token: `false` says that another server asks.
        let allowed = call.query("allow_remote").as_deref() != Some("false");
        match &self.remote {
            Some(remote) if allowed => remote.fetch(server, id, patience).await,
            _ => Ok(()),
        }
    }
}

/// How long content that is not there yet is waited for.
fn patience(call: &Call) -> Result<Duration, ApiError> {
    let patience = call.query_as("timeout_ms")?.unwrap_or(PATIENCE_MS);
    Ok(Duration::from_millis(patience).min(WAIT_MAX))
}

/// Waits for content of ours that is still to be uploaded as long as the request says.
pub(crate) async fn arrived(blobs: &Arc<Blobs>, call: &Call, id: &MediaId) -> Result<(), ApiError> {
    blobs.wait_for(id, patience(call)?).await.map_err(refuse)
}

fn refuse_fetch(error: FetchError) -> ApiError {
    match error {
        FetchError::NotFound => ApiError::not_found("No such media"),
        FetchError::NotYet => ApiError::not_yet_uploaded("Nothing was uploaded under this id yet"),
        FetchError::TooLarge(max) => {
            let text = format!("Files of other servers may have {max} bytes at most");
            ApiError::remote_too_large(text)
        }
        FetchError::TimedOut => ApiError::gateway_timeout("The file's server does not answer"),
        FetchError::Failed(why) => {
            // No fault of ours: it is for whoever wants to know.
            tracing::debug!(why, "another server's media was not fetched");
            ApiError::bad_gateway("The file's server does not give it")
        }
        FetchError::Patience => ApiError::invalid_param("timeout_ms is a number"),
        FetchError::Here(error) => refuse(error),
    }
}

pub(crate) fn wanted(call: &Call) -> Result<Wanted, ApiError> {
    let side = |name: &str| -> Result<u32, ApiError> {
        call.query_as(name)?
            .filter(|&pixels| pixels > 0)
            .ok_or_else(|| ApiError::missing_param(format!("{name} is needed, in pixels")))
    };
    let method = match call.query("method").as_deref() {
        None | Some("scale") => Method::Scale,
        Some("crop") => Method::Crop,
        Some(_) => return Err(ApiError::invalid_param("method is scale or crop")),
    };
    let animated = call.query_as("animated")?.unwrap_or(false);
    let webp = mime::accepts(call.header(&ACCEPT), "image/webp");
    let wanted = Wanted::standard(side("width")?, side("height")?, method);
    Ok(wanted.in_form(animated, webp))
}

/// Server name and media id of the path.
fn named(call: &Call) -> Result<(String, MediaId), ApiError> {
    let id = MediaId::parse(call.param("mediaId"));
    let id = id.ok_or_else(|| ApiError::not_found("This cannot be a media id"))?;
    Ok((call.param("serverName").to_owned(), id))
}

/// The headers that every answer with somebody's file carries.
fn guarded(answer: Answer) -> Answer {
    answer
        .header(CONTENT_SECURITY_POLICY, SANDBOX)
        .header(
            HeaderName::from_static("cross-origin-resource-policy"),
            "cross-origin",
        )
        .header(HeaderName::from_static("x-content-type-options"), "nosniff")
        .header(CACHE_CONTROL, FOR_EVER)
}

pub(crate) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MediaError> + Send + 'static,
) -> Result<T, ApiError> {
    blocking(work)
        .await
        .map_err(ApiError::internal)?
        .map_err(refuse)
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A header that is not understood, or several ranges: the whole file is a right answer.
    Everything,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that are not there.
    Nothing,
}

/// Reads a `Range` header (RFC 9110, section 14) for a file of `size` bytes.
pub(crate) fn range(header: &str, size: u64) -> Asked {
    let Some((first, last)) = header
        .strip_prefix("bytes=")
        .and_then(|spec| spec.split_once('-'))
    else {
        return Asked::Everything;
    };
    let number = |text: &str| text.trim().parse::<u64>();
    match (number(first), number(last)) {
        (Ok(first), _) if first >= size => Asked::Nothing,
        (Ok(first), Ok(last)) if first <= last => {
            Asked::Part(first..last.saturating_add(1).min(size))
        }
        (Ok(first), Err(_)) if last.trim().is_empty() => Asked::Part(first..size),
        (Err(_), Ok(0)) if first.trim().is_empty() => Asked::Nothing,
        (Err(_), Ok(tail)) if first.trim().is_empty() => {
            Asked::Part(size.saturating_sub(tail)..size)
        }
        _ => Asked::Everything,
    }
}
