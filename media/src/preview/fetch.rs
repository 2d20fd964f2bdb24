//! Getting what a link leads to: within bounds, and never where it must not lead.

use std::time::Duration;

use http::header::{CONTENT_TYPE, LOCATION};
use skerry_remote::http::{Client, Request, Streamed};
use url::Url;

use super::PreviewError;

/// Redirects that are followed.
const REDIRECTS: usize = 5;
/// How long one answer, and each piece of it, may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What a page or file may claim to be long, in bytes; how much of it is read is decided by what
/// it is.
const CLAIMED_MAX: usize = 1 << 30;
/// The longest URL, in bytes.
const URL_MAX: usize = 4096;

/// Whose links are previewed: names, which include those below them, and addresses.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// Only these; empty: all.
    pub allowed: Vec<String>,
    /// Never these.
    pub denied: Vec<String>,
}

impl Hosts {
    /// Whether links to this host are previewed.
    #[must_use]
    pub fn allow(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        let host = host.strip_prefix('[').unwrap_or(host);
        let host = host.strip_suffix(']').unwrap_or(host);
        let named = |list: &[String]| list.iter().any(|name| covers(name, host));
        (self.allowed.is_empty() || named(&self.allowed)) && !named(&self.denied)
    }
}

fn covers(name: &str, host: &str) -> bool {
    let name = name.trim_end_matches('.');
    let Some(before) = host.len().checked_sub(name.len()) else {
        return false;
    };
    let end = host.get(before..).unwrap_or_default();
    let whole = before == 0 || host.as_bytes().get(before - 1) == Some(&b'.');
    whole && end.eq_ignore_ascii_case(name)
}

/// An answer whose body is still to be read.
pub struct Opened {
    /// Where it was found in the end.
    pub url: Url,
    /// `Content-Type`, or nothing.
    pub content_type: String,
    body: Streamed,
}

impl Opened {
    /// The type without its parameters, in small letters.
    #[must_use]
    pub fn essence(&self) -> String {
        let essence = self.content_type.split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    }

    /// The next piece of the body.
    ///
    /// # Errors
    /// [`PreviewError::Failed`].
    pub async fn next(&mut self) -> Result<Option<bytes::Bytes>, PreviewError> {
        self.body.next().await.map_err(PreviewError::failed)
    }

    /// The beginning of the body, at most so many bytes.
    ///
    /// # Errors
    /// [`PreviewError::Failed`].
    pub async fn beginning(mut self, max: usize) -> Result<Vec<u8>, PreviewError> {
        let mut all = Vec::new();
        while let Some(piece) = self.next().await? {
            let room = max - all.len();
            all.extend_from_slice(piece.get(..room).unwrap_or(&piece));
            if all.len() >= max {
                break;
            }
        }
        Ok(all)
    }
}

/// Reads what somebody asks a preview of.
///
/// # Errors
/// [`PreviewError::Url`].
pub fn parse(text: &str) -> Result<Url, PreviewError> {
    let mut url = Url::parse(text).map_err(|_| PreviewError::Url)?;
    let fits = matches!(url.scheme(), "http" | "https") && url.as_str().len() <= URL_MAX;
    if !fits || url.host_str().is_none_or(str::is_empty) || !url.username().is_empty() {
        return Err(PreviewError::Url);
    }
    url.set_fragment(None);
    Ok(url)
}

/// Asks for a URL and follows redirects; each is looked at like the first: here for hosts that are
/// denied, in the client for addresses.
///
/// # Errors
/// [`PreviewError`].
pub async fn open(client: &Client, hosts: &Hosts, url: &Url) -> Result<Opened, PreviewError> {
    let mut url = url.clone();
    for _ in 0..=REDIRECTS {
        if !url.host_str().is_some_and(|host| hosts.allow(host)) {
            return Err(PreviewError::Denied);
        }
        let request = Request::get(url.as_str())
            .header(
                "accept",
                "text/html, application/xhtml+xml, image/*;q=0.9, */*;q=0.8",
            )
            .header("accept-language", "en, *;q=0.5")
            .timeout(TIMEOUT)
            .max_response(CLAIMED_MAX);
        let body = client.open(request).await.map_err(PreviewError::failed)?;
        let text = |name| body.headers.get(name).and_then(|value| value.to_str().ok());
        if body.status.is_redirection() {
            let next = text(LOCATION).and_then(|next| url.join(next).ok());
            let next = next.ok_or_else(|| PreviewError::failed("a redirect to nowhere"))?;
            url = parse(next.as_str())?;
            continue;
        }
        if !body.status.is_success() {
            return Err(PreviewError::failed(body.status));
        }
        let content_type = text(CONTENT_TYPE).unwrap_or_default().to_owned();
        return Ok(Opened {
            url,
            content_type,
            body,
        });
    }
    Err(PreviewError::failed("too many redirects"))
}
