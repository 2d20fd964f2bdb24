//! Previews of links: what a page says of itself, fetched once for everybody and kept a while.
//!
//! Whose links are fetched is decided twice: by name, here ([`Hosts`]), and by address, in the
//! guarded client, after each name has been looked up and again for each redirect. Why a link
//! could not be fetched goes to the log alone: the answer would tell strangers what listens in
//! our network.

mod card;
mod charset;
mod fetch;
mod kept;
mod page;
mod picture;
mod routes;
mod text;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use skerry_remote::http::Client;
use skerry_store::{Lanes, blocking};
use tokio::sync::Semaphore;
use url::Url;

use crate::{Blobs, MediaError, MediaId};
use card::Card;
pub use fetch::Hosts;
use fetch::Opened;
pub(crate) use kept::GOOD_FOR_MS;
use kept::Kept;
use picture::Picture;
pub use routes::ROUTES as PREVIEW_ROUTES;

/// How much of a page is read, in bytes.
const PAGE_MAX: usize = 1024 * 1024;
/// How long an oEmbed answer may be, in bytes.
const OEMBED_MAX: usize = 64 * 1024;
/// How long one preview may take altogether.
const WHOLE: Duration = Duration::from_secs(25);
/// How many links are fetched at once.
const AT_ONCE: usize = 8;

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// Not an http or https URL that can be previewed.
    #[error("not a URL that can be previewed")]
    Url,
    /// The operator does not want links to this host previewed.
    #[error("links to this host are not previewed")]
    Denied,
    /// It could not be fetched; the reason is for the log.
    #[error("the link could not be fetched: {0}")]
    Failed(String),
    /// Our own side failed.
    #[error(transparent)]
    Media(#[from] MediaError),
}

impl PreviewError {
    fn failed(cause: impl std::fmt::Display) -> Self {
        Self::Failed(cause.to_string())
    }
}

/// Makes and keeps previews.
pub struct Previews {
    blobs: Arc<Blobs>,
    client: Client,
    hosts: Hosts,
    /// One fetch of a URL at a time; who waited finds it kept.
    urls: Lanes<[u8; 32]>,
    turns: Semaphore,
}

impl Previews {
    /// Previews of links to these hosts. Where the client may connect to is its own guard's
    /// business; pictures become media in `blobs`.
    #[must_use]
    pub fn new(blobs: Arc<Blobs>, client: Client, hosts: Hosts) -> Self {
        Self {
            blobs,
            client,
            hosts,
            urls: Lanes::new(),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// The preview of a link, as JSON: Open Graph members, the picture as an `mxc://`. Fetched
    /// once however many ask at the same time, and kept for an hour; a link that could not be
    /// fetched is tried again after a minute.
    ///
    /// # Errors
    /// [`PreviewError`].
    pub async fn preview(self: &Arc<Self>, link: &str) -> Result<Vec<u8>, PreviewError> {
        let url = fetch::parse(link)?;
        if !url.host_str().is_some_and(|host| self.hosts.allow(host)) {
            return Err(PreviewError::Denied);
        }
        let key = *blake3::hash(url.as_str().as_bytes()).as_bytes();
        let _lane = self.urls.lock(key).await;
        let before = match self.kept(key).await? {
            Kept::Fresh(json) => return Ok(json),
            Kept::Failed => return Err(PreviewError::failed("it could not be a moment ago")),
            Kept::Old(picture) => picture,
        };
        let turn = self.turns.acquire().await;
        let made = tokio::time::timeout(WHOLE, self.make(&url, before)).await;
        drop(turn);
        match made.unwrap_or_else(|_| Err(PreviewError::failed("it took too long"))) {
            Ok((json, picture)) => {
                self.keep(key, Some(json.clone()), picture).await?;
                Ok(json)
            }
            Err(PreviewError::Failed(cause)) => {
                tracing::debug!(%url, cause, "no preview");
                self.keep(key, None, None).await?;
                Err(PreviewError::Failed(cause))
            }
            Err(other) => Err(other),
        }
    }

    /// Fetches a link and makes its preview. `before` is the picture of the last time.
    async fn make(
        &self,
        url: &Url,
        before: Option<MediaId>,
    ) -> Result<(Vec<u8>, Option<MediaId>), PreviewError> {
        let opened = fetch::open(&self.client, &self.hosts, url).await?;
        let essence = opened.essence();
        if essence.starts_with("image/") {
            let name = opened
                .url
                .path_segments()
                .and_then(|mut all| all.next_back());
            let mut members = Map::new();
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                members.insert(
                    "og:title".to_owned(),
                    json!(text::cut(name, text::VALUE_MAX)),
                );
            }
            let picture = picture::keep(&self.blobs, opened, before).await?;
            return rendered(members, picture);
        }
        let page = matches!(essence.as_str(), "" | "text/html" | "application/xhtml+xml");
        if !page {
            return rendered(Map::new(), None);
        }
        let (card, base) = self.card(opened).await?;
        let picture = self.picture(&card, &base, before).await?;
        rendered(card.members, picture)
    }

    async fn card(&self, opened: Opened) -> Result<(Card, Url), PreviewError> {
        let (url, content_type) = (opened.url.clone(), opened.content_type.clone());
        let body = opened.beginning(PAGE_MAX).await?;
        let read = blocking(move || page::read(&charset::text(&content_type, &body)));
        let page = read.await.map_err(MediaError::Store)?;
        let base = page.base.as_deref().and_then(|base| url.join(base).ok());
        let base = base.unwrap_or(url);
        let mut card = Card::of_properties(&page);
        if card.is_thin()
            && let Some(found) = page.oembed.as_deref().and_then(|link| base.join(link).ok())
        {
            match self.oembed(&found).await {
                Ok(answer) => card.add_oembed(&answer),
                Err(error) => tracing::debug!(%error, url = %found, "no oEmbed"),
            }
        }
        card.add_page(&page);
        Ok((card, base))
    }

    async fn oembed(&self, url: &Url) -> Result<Value, PreviewError> {
        let url = fetch::parse(url.as_str())?;
        let opened = fetch::open(&self.client, &self.hosts, &url).await?;
        let body = opened.beginning(OEMBED_MAX).await?;
        serde_json::from_slice(&body).map_err(PreviewError::failed)
    }

    /// The picture as media. A preview without its picture is still a preview.
    async fn picture(
        &self,
        card: &Card,
        base: &Url,
        before: Option<MediaId>,
    ) -> Result<Option<Picture>, PreviewError> {
        let Some(url) = card
            .picture
            .as_deref()
            .and_then(|link| base.join(link).ok())
        else {
            return Ok(None);
        };
        let kept = async {
            let url = fetch::parse(url.as_str())?;
            let opened = fetch::open(&self.client, &self.hosts, &url).await?;
            picture::keep(&self.blobs, opened, before).await
        };
        match kept.await {
            Ok(picture) => Ok(picture),
            Err(PreviewError::Media(error)) => Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, %url, "a preview without its picture");
                Ok(None)
            }
        }
    }
}

/// The preview as it is answered, and the picture it names.
fn rendered(
    mut members: Map<String, Value>,
    picture: Option<Picture>,
) -> Result<(Vec<u8>, Option<MediaId>), PreviewError> {
    let Some(picture) = picture else {
        members.remove("og:image:alt");
        let json = serde_json::to_vec(&members).map_err(PreviewError::failed)?;
        return Ok((json, None));
    };
    members.insert("og:image".to_owned(), json!(picture.uri));
    members.insert("og:image:type".to_owned(), json!(picture.content_type));
    members.insert("og:image:width".to_owned(), json!(picture.width));
    members.insert("og:image:height".to_owned(), json!(picture.height));
    members.insert("matrix:image:size".to_owned(), json!(picture.size));
    let json = serde_json::to_vec(&members).map_err(PreviewError::failed)?;
    Ok((json, Some(picture.id)))
}

#[cfg(test)]
mod tests;
