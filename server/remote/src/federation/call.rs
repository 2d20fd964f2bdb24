//! One request to one server, with limits that fit what is asked.

use std::time::Duration;

use http::Method;
use serde::de::DeserializeOwned;
use skerry_core::canonical::Object;

use super::fault::FederationError;
use super::paths::Path;
use super::pieces::{Field, Piece, Pieces};
use super::{Federation, Limits};
use crate::http::{Response, Streamed};

/// How long an answer may take that somebody waits for.
pub(super) const QUICK: Duration = Duration::from_secs(20);
/// How long an answer may take that another server has to work for.
pub(super) const PATIENT: Duration = Duration::from_secs(60);
/// The largest answer that is one event or a little more, in bytes.
pub(super) const SMALL: usize = 1 << 20;
/// The largest answer that is a list, in bytes.
pub(super) const LARGE: usize = 16 << 20;

/// What is asked: method, path, body.
pub(super) type Ask<'a> = (Method, &'a Path, Option<&'a Object>);

impl Federation {
    /// Asks for a document.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        server: &str,
        path: &Path,
        limits: Limits,
    ) -> Result<T, FederationError> {
        let answer = self.call(server, (Method::GET, path, None), limits).await?;
        read(server, &answer)
    }

    /// Asks with a body, or gives something.
    pub(super) async fn give<T: DeserializeOwned>(
        &self,
        server: &str,
        (method, path): (Method, &Path),
        body: &Object,
        limits: Limits,
    ) -> Result<T, FederationError> {
        let answer = self
            .call(server, (method, path, Some(body)), limits)
            .await?;
        read(server, &answer)
    }

    /// Asks for lists of events or ids.
    pub(super) async fn lists(
        &self,
        server: &str,
        ask: Ask<'_>,
        fields: &'static [Field],
        limits: Limits,
    ) -> Result<Vec<Piece>, FederationError> {
        let answer = self.call(server, ask, limits).await?;
        let (mut pieces, mut reader) = (Vec::new(), Pieces::new(fields));
        let read = reader.feed(&answer.body, &mut pieces);
        read.and_then(|()| reader.end())
            .map_err(|error| FederationError::unread(server, &error))?;
        Ok(pieces)
    }

    async fn call(
        &self,
        server: &str,
        (method, path, body): Ask<'_>,
        limits: Limits,
    ) -> Result<Response, FederationError> {
        let called = self.peers.call(server, method, path.as_str(), body, limits);
        called
            .await
            .map_err(|error| FederationError::of(server, error))
    }

    /// Asks for an answer that is read while it comes.
    pub(super) async fn open(
        &self,
        server: &str,
        (method, path, body): Ask<'_>,
        limits: Limits,
    ) -> Result<Streamed, FederationError> {
        let opened = self.peers.open(server, method, path.as_str(), body, limits);
        opened
            .await
            .map_err(|error| FederationError::of(server, error))
    }
}

fn read<T: DeserializeOwned>(server: &str, answer: &Response) -> Result<T, FederationError> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| FederationError::answer(server, error.to_string()))
}
