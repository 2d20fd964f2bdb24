//! A preview's picture: streamed to the disk, looked at, and kept as media of ours.

use std::io::Cursor;
use std::sync::Arc;

use image::ImageReader;
use skerry_store::blocking;

use super::PreviewError;
use super::fetch::Opened;
use crate::{Blobs, MediaError, MediaId, UploadInfo, blobs::NOBODY};

/// The largest picture that is fetched, in bytes.
const PICTURE_MAX: usize = 10 * 1024 * 1024;
/// Where a picture's size has to stand, in bytes from its beginning.
const HEAD: usize = 256 * 1024;
/// Pixels on a side of what is still a picture.
const SIDE_MAX: u32 = 32_768;

/// A picture that was kept.
#[derive(Debug)]
pub struct Picture {
    /// Its media id.
    pub id: MediaId,
    /// Its `mxc://`.
    pub uri: String,
    /// Its type, as its bytes say.
    pub content_type: &'static str,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Bytes.
    pub size: u64,
}

/// Keeps a picture; `None` for what is none of a known format, or blocked. Where it is the same as
/// `before`, that is what names it.
///
/// # Errors
/// [`PreviewError`].
pub async fn keep(
    blobs: &Arc<Blobs>,
    mut opened: Opened,
    before: Option<MediaId>,
) -> Result<Option<Picture>, PreviewError> {
    let this = Arc::clone(blobs);
    let mut upload = on_disk(move || this.begin(NOBODY, None)).await?;
    let mut head = Vec::new();
    let mut size = 0;
    while let Some(piece) = opened.next().await? {
        size += piece.len();
        if size > PICTURE_MAX {
            return Err(PreviewError::failed("the picture is too large"));
        }
        let room = HEAD.saturating_sub(head.len());
        head.extend_from_slice(piece.get(..room).unwrap_or(&piece));
        upload = on_disk(move || upload.write(&piece).map(|()| upload)).await?;
    }
    let Some((content_type, width, height)) = looked_at(&head) else {
        return Ok(None);
    };
    let info = UploadInfo {
        content_type: content_type.to_owned(),
        name: None,
    };
    let id = match blobs.keep_own(upload, info, before).await {
        Err(MediaError::Blocked) => return Ok(None),
        kept => kept?,
    };
    Ok(Some(Picture {
        uri: format!("mxc://{}/{}", blobs.server_name(), id.as_str()),
        id,
        content_type,
        width,
        height,
        size: size as u64,
    }))
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MediaError> + Send + 'static,
) -> Result<T, MediaError> {
    blocking(work).await.map_err(MediaError::Store)?
}

/// Type and size of a picture; nothing is decoded.
fn looked_at(head: &[u8]) -> Option<(&'static str, u32, u32)> {
    let reader = ImageReader::new(Cursor::new(head));
    let reader = reader.with_guessed_format().ok()?;
    let format = reader.format()?;
    let (width, height) = reader.into_dimensions().ok()?;
    let fits = (1..=SIDE_MAX).contains(&width) && (1..=SIDE_MAX).contains(&height);
    fits.then_some((format.to_mime_type(), width, height))
}
