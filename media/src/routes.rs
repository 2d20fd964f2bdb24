//! The media endpoints (client-server API, content repository).

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::stream;
use http::{
    StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
        CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, RANGE,
    },
};
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::json;
use skerry_http::{Answer, ApiError, Call, Route, route};
use skerry_store::{StoreError, blocking};

use crate::{
    blobs::{Blobs, Found, MediaError, UploadInfo},
    mime,
    mxc::MediaId,
    thumbnail::{Method, Wanted},
};

/// How much is read from a file at once, in bytes.
const PIECE: usize = 64 * 1024;
const SANDBOX: &str = "sandbox; default-src 'none'; script-src 'none'; plugin-types \
    application/pdf; style-src 'unsafe-inline'; object-src 'self';";
const FOR_EVER: &str = "private, max-age=31536000, immutable";

/// The endpoints of this crate.
pub const ROUTES: &[Route<Blobs>] = &[
    route!(POST "/_matrix/media/v3/upload", Token, Media, upload).stream(),
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
];

fn refuse(error: MediaError) -> ApiError {
    match error {
        MediaError::TooLarge(max) => {
            ApiError::too_large(format!("A file may have {max} bytes at most"))
        }
        MediaError::NotFound => ApiError::not_found("No such media on this server"),
        MediaError::NoThumbnail(why) => {
            ApiError::unknown(format!("No thumbnail can be made of this file: {why}"))
        }
        MediaError::Full | MediaError::Store(StoreError::Full) => {
            ApiError::no_space("The server has no space left for media")
        }
        MediaError::File(error) => ApiError::internal(error),
        MediaError::Store(error) => ApiError::internal(error),
    }
}

/// `POST /_matrix/media/v3/upload`: the `mxc://` in the answer names the file from then on,
/// whatever happens to the server. Streamed to the disk, never whole in memory.
async fn upload(blobs: Arc<Blobs>, mut call: Call) -> Result<Answer, ApiError> {
    let who = call.requester()?;
    if who.is_guest {
        return Err(ApiError::guest_access_forbidden("Guests may not upload"));
    }
    let uploader = who.user;
    let info = UploadInfo {
        content_type: call.header(&CONTENT_TYPE).unwrap_or_default().to_owned(),
        name: call.query("filename"),
    };
    let mut stream = call.take_stream()?;
    if stream
        .length
        .is_some_and(|length| length > blobs.max_upload())
    {
        return Err(refuse(MediaError::TooLarge(blobs.max_upload())));
    }
    let mut upload = on_disk({
        let blobs = Arc::clone(&blobs);
        move || blobs.begin()
    })
    .await?;
    while let Some(piece) = stream.next().await? {
        upload = on_disk(move || upload.write(&piece).map(|()| upload)).await?;
    }
    let id = blobs.finish(upload, info, uploader).await.map_err(refuse)?;
    let uri = format!("mxc://{}/{}", blobs.server_name(), id.as_str());
    Answer::json(&json!({ "content_uri": uri }))
}

/// `GET /_matrix/client/v1/media/config`
async fn config(blobs: Arc<Blobs>, _call: Call) -> Result<Answer, ApiError> {
    Answer::json(&json!({ "m.upload.size": blobs.max_upload() }))
}

/// `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}[/{fileName}]`: the file as it was
/// uploaded, whole or the range asked for, with a type and disposition that no browser runs.
async fn download(blobs: Arc<Blobs>, call: Call) -> Result<Answer, ApiError> {
    let (server, id) = named(&call)?;
    let Found { media, mut file } = on_disk(move || blobs.find(&server, &id)).await?;
    let etag = format!("\"{}\"", blake3::Hash::from_bytes(media.hash).to_hex());
    if call
        .header(&IF_NONE_MATCH)
        .is_some_and(|known| known.split(',').any(|e| e.trim() == etag))
    {
        return Ok(guarded(Answer::bytes("", Bytes::new())).status(StatusCode::NOT_MODIFIED));
    }
    let whole = 0..media.size;
    let range = match call.header(&RANGE).map(|header| range(header, media.size)) {
        None | Some(Asked::Everything) => None,
        Some(Asked::Part(range)) => Some(range),
        Some(Asked::Nothing) => {
            return Ok(guarded(Answer::bytes("", Bytes::new()))
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .header(CONTENT_RANGE, &format!("bytes */{}", media.size)));
        }
    };
    let part = range.clone().unwrap_or(whole);
    if part.start > 0 {
        file = on_disk(move || {
            file.seek(SeekFrom::Start(part.start))
                .map_err(MediaError::File)
                .map(|_| file)
        })
        .await?;
    }
    let name = Some(call.param("fileName")).filter(|name| !name.is_empty());
    let name = name.or(media.name.as_deref());
    let length = part.end - part.start;
    let kind = mime::served_type(&media.content_type);
    let answer = guarded(Answer::stream(kind, body(file, length)))
        .header(ETAG, &etag)
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_LENGTH, &length.to_string())
        .header(CONTENT_DISPOSITION, &mime::disposition(kind, name));
    Ok(match range {
        None => answer,
        Some(part) => answer.status(StatusCode::PARTIAL_CONTENT).header(
            CONTENT_RANGE,
            &format!(
                "bytes {}-{}/{}",
                part.start,
                part.end.saturating_sub(1),
                media.size
            ),
        ),
    })
}

/// `GET /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}`: never larger than the file,
/// never smaller than asked for where the file allows it.
async fn thumbnail(blobs: Arc<Blobs>, call: Call) -> Result<Answer, ApiError> {
    let (server, id) = named(&call)?;
    let wanted = wanted(&call)?;
    let made = blobs.thumbnail(server, id, wanted).await.map_err(refuse)?;
    let disposition = mime::disposition(&made.content_type, Some("thumbnail"));
    Ok(guarded(Answer::bytes(&made.content_type, made.bytes))
        .header(CONTENT_DISPOSITION, &disposition))
}

fn wanted(call: &Call) -> Result<Wanted, ApiError> {
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
    Ok(Wanted::standard(side("width")?, side("height")?, method))
}

/// Server name and media id of the path. Media of other servers comes with federation.
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

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MediaError> + Send + 'static,
) -> Result<T, ApiError> {
    blocking(work)
        .await
        .map_err(ApiError::internal)?
        .map_err(refuse)
}

/// `length` bytes of a file from where it stands, a piece at a time.
fn body(
    file: std::fs::File,
    length: u64,
) -> http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error> {
    let pieces = stream::try_unfold((file, length), |(mut file, left)| async move {
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
        Ok(Some((
            http_body::Frame::data(Bytes::from(piece)),
            (file, left),
        )))
    });
    StreamBody::new(pieces).boxed_unsync()
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
