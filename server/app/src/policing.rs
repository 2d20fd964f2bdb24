//! This server as a policy server: its key, and the files that events name.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use skerry_core::Dice;
use skerry_media::{Blobs, RemoteMedia, parse_mxc};
use skerry_remote::federation::{MediaHashes, PolicyDesk};
use skerry_store::blocking;

use crate::config::Config;
use crate::secrets::{self, SecretError};

/// The desk, where the configuration names rooms for it. Its key is made when there is one first.
///
/// # Errors
/// [`SecretError`].
pub(crate) fn desk(
    config: &Config,
    dice: &mut dyn Dice,
) -> Result<Option<Arc<PolicyDesk>>, SecretError> {
    let Some(options) = config.policy_server.clone() else {
        return Ok(None);
    };
    let key = secrets::policy_key(&config.data_dir, dice)?;
    Ok(Some(Arc::new(PolicyDesk::new(options, key))))
}

/// Files as the media store has them; those of other servers are fetched.
pub(crate) struct Files {
    blobs: Arc<Blobs>,
    remote: Option<RemoteMedia>,
}

impl Files {
    pub(crate) fn new(blobs: Arc<Blobs>, remote: Option<RemoteMedia>) -> Files {
        Files { blobs, remote }
    }

    async fn find(&self, mxc: &str, patience: Duration) -> Option<Vec<[u8; 32]>> {
        let (server, id) = parse_mxc(mxc)?;
        let server = server.to_owned();
        if server != self.blobs.server_name() {
            let fetched = self.remote.as_ref()?.fetch(&server, &id, patience);
            let fetched = tokio::time::timeout(patience, fetched).await;
            fetched.ok()?.ok()?;
        }
        let blobs = Arc::clone(&self.blobs);
        let looked = blocking(move || {
            let found = blobs.find(&server, &id).ok()?;
            let mut hasher = Sha256::new();
            let read = found.content.each(&mut |piece| hasher.update(piece));
            read.ok()?;
            Some(vec![found.media.hash, hasher.finalize().into()])
        });
        looked.await.ok()?
    }
}

impl MediaHashes for Files {
    fn hashes<'a>(
        &'a self,
        mxc: &'a str,
        patience: Duration,
    ) -> BoxFuture<'a, Option<Vec<[u8; 32]>>> {
        Box::pin(self.find(mxc, patience))
    }
}
