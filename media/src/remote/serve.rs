//! Media given to other servers (server-server API, content repository): ours alone.

use std::sync::Arc;

use bytes::Bytes;
use skerry_http::{Answer, ApiError, Call, Route, route};

use crate::{
    Blobs, MediaId,
    blobs::Found,
    mime,
    routes::{arrived, on_disk, refuse, wanted},
    thumbs::Served,
};

/// The endpoints of this crate for other servers.
pub const FEDERATION_ROUTES: &[Route<Blobs>] = &[
    route!(GET "/_matrix/federation/v1/media/download/{mediaId}", Server, Media, download),
    route!(GET "/_matrix/federation/v1/media/thumbnail/{mediaId}", Server, Media, thumbnail),
];

/// `GET /_matrix/federation/v1/media/download/{mediaId}`
async fn download(blobs: Arc<Blobs>, call: Call) -> Result<Answer, ApiError> {
    let id = named(&call)?;
    arrived(&blobs, &call, &id).await?;
    let this = Arc::clone(&blobs);
    let found = on_disk(move || this.find(this.server_name(), &id)).await?;
    let kind = mime::served_type(&found.media.content_type).to_owned();
    let name = found.media.name.clone();
    Ok(framed(&blobs, found, &kind, name.as_deref()))
}

/// `GET /_matrix/federation/v1/media/thumbnail/{mediaId}`
async fn thumbnail(blobs: Arc<Blobs>, call: Call) -> Result<Answer, ApiError> {
    let id = named(&call)?;
    let wanted = wanted(&call)?;
    arrived(&blobs, &call, &id).await?;
    let server = blobs.server_name().to_owned();
    let served = blobs.thumbnail(server, id, wanted).await.map_err(refuse)?;
    let name = Some("thumbnail");
    Ok(match served {
        Served::Made(made) => {
            let disposition = mime::disposition(&made.content_type, name);
            let frame = Frame::new(&blobs, &made.content_type, &disposition);
            let all = [&frame.before[..], &made.bytes, &frame.after].concat();
            Answer::bytes(&frame.content_type, all)
        }
        Served::Original {
            content_type,
            found,
        } => framed(&blobs, found, &content_type, name),
    })
}

/// A file of this type and name, with what stands around it.
fn framed(blobs: &Blobs, found: Found, kind: &str, name: Option<&str>) -> Answer {
    let frame = Frame::new(blobs, kind, &mime::disposition(kind, name));
    Answer::framed(
        &frame.content_type,
        frame.before,
        found.content.into_source(),
        frame.after,
    )
}

fn named(call: &Call) -> Result<MediaId, ApiError> {
    let id = MediaId::parse(call.param("mediaId"));
    id.ok_or_else(|| ApiError::not_found("This cannot be a media id"))
}

/// What stands around a file: metadata, which is empty so far, and the file's headers.
struct Frame {
    content_type: String,
    before: Bytes,
    after: Bytes,
}

impl Frame {
    fn new(blobs: &Blobs, kind: &str, disposition: &str) -> Self {
        // Cannot be guessed, so no file holds it on purpose.
        let mark = MediaId::random(blobs.dice.dice().as_mut());
        let mark = mark.as_str();
        let before = format!(
            "\r\n--{mark}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{mark}\r\n\
             Content-Type: {kind}\r\nContent-Disposition: {disposition}\r\n\r\n"
        );
        Self {
            content_type: format!("multipart/mixed; boundary={mark}"),
            before: before.into(),
            after: format!("\r\n--{mark}--\r\n").into(),
        }
    }
}
