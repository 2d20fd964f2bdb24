//! Blobs in an object store that speaks S3: `<prefix>/ab/cd/<rest of the hash>`, put there from the
//! local spool once they are whole and hashed.
//!
//! The `object_store` crate signs requests, repeats what failed and reads lists; its requests go out
//! by our own HTTP client (`wire.rs`).

#[cfg(test)]
mod tests;
mod wire;

use std::{fs::File, io::Read as _, ops::Range, time::Duration};

use blake3::Hash;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{
    BackoffConfig, Error, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt as _,
    RetryConfig, aws::AmazonS3Builder, path::Path,
};
use skerry_remote::http::Client;
use tokio::{
    runtime::Handle,
    sync::{OnceCell, Semaphore},
};

use crate::{
    MediaError, files,
    spool::Spooled,
    storage::{Content, Each, Storage},
};
use wire::Wire;

/// How much is put at once, in bytes: the least that S3 takes as a part.
const PART: u64 = 5 * 1024 * 1024;
/// How many parts S3 takes.
const PARTS_MAX: u64 = 10_000;
/// How many blobs are put at the same time; each holds one part in memory.
const PUTS: usize = 4;
/// The object that says whose the others are.
const OWNER: &str = "skerry-owner";
/// Where corrupt blobs lie.
const CORRUPT: &str = "corrupt";
/// The longest server name that is read of it, in bytes.
const OWNER_MAX: u64 = 255;

/// Where an object store is, and as whom to use it.
#[derive(Clone)]
pub struct S3Settings {
    /// The service's URL. The bucket is named in the path.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// What all names begin with; empty: nothing.
    pub prefix: String,
    /// The region, part of every signature.
    pub region: String,
    /// The access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
}

impl std::fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.endpoint, self.bucket, self.prefix)
    }
}

/// Blobs in an object store.
pub struct S3 {
    inner: Inner,
    runtime: Handle,
}

struct Inner {
    store: Box<dyn ObjectStore>,
    prefix: Path,
    /// Our server name.
    server_name: String,
    /// Set once it is known that the objects are ours.
    ours: OnceCell<()>,
    puts: Semaphore,
}

impl S3 {
    /// Blobs of this server. Nothing is asked yet. Inside a runtime.
    ///
    /// # Errors
    /// What of the settings cannot be, in words.
    pub fn new(settings: &S3Settings, server_name: &str, client: Client) -> Result<Self, String> {
        let endpoint = url::Url::parse(&settings.endpoint).map_err(|error| error.to_string())?;
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
            },
            max_retries: 3,
            retry_timeout: Duration::from_secs(20),
        };
        let store = AmazonS3Builder::new()
            .with_endpoint(endpoint.as_str().trim_end_matches('/'))
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_access_key_id(&settings.access_key)
            .with_secret_access_key(&settings.secret_key)
            .with_disable_bulk_delete(true)
            .with_retry(retry)
            .with_http_connector(Wire::new(client))
            .build()
            .map_err(|error| error.to_string())?;
        let prefix = Path::parse(&settings.prefix).map_err(|error| error.to_string())?;
        Ok(Self::over(Box::new(store), prefix, server_name))
    }

    fn over(store: Box<dyn ObjectStore>, prefix: Path, server_name: &str) -> Self {
        Self {
            inner: Inner {
                store,
                prefix,
                server_name: server_name.to_owned(),
                ours: OnceCell::new(),
                puts: Semaphore::new(PUTS),
            },
            runtime: Handle::current(),
        }
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, MediaError>>) -> Result<T, MediaError> {
        self.runtime.block_on(async {
            self.inner.ours().await?;
            work.await
        })
    }
}

/// An error of the object store, in words.
fn away(error: Error) -> MediaError {
    MediaError::Away(error.to_string())
}

/// None for what is not there.
fn there<T>(result: Result<T, Error>) -> Result<Option<T>, MediaError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(away(error)),
    }
}

impl Inner {
    fn name(&self, hash: &Hash) -> Path {
        let parts = files::parts(hash).into_iter();
        parts.fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// The hash that an object is named by; none for other objects.
    fn hash_of(&self, name: &Path) -> Option<Hash> {
        let parts: Vec<_> = name.prefix_match(&self.prefix)?.collect();
        match parts.as_slice() {
            [first, second, rest] => {
                files::hash_of([first.as_ref(), second.as_ref(), rest.as_ref()])
            }
            _ => None,
        }
    }

    /// Sees to it that the objects are of this server: of two servers with one bucket, each would
    /// delete what only the other knows.
    async fn ours(&self) -> Result<(), MediaError> {
        let look = || async {
            let path = self.prefix.clone().join(OWNER);
            let Some(found) = there(self.store.get(&path).await)? else {
                let name = Bytes::from(self.server_name.clone().into_bytes());
                self.store.put(&path, name.into()).await.map_err(away)?;
                return Ok(());
            };
            let long = found.meta.size > OWNER_MAX;
            let owner = if long {
                Bytes::new()
            } else {
                found.bytes().await.map_err(away)?
            };
            if owner == self.server_name.as_bytes() {
                return Ok(());
            }
            let owner = String::from_utf8_lossy(&owner);
            Err(MediaError::Away(format!("the objects belong to {owner}")))
        };
        self.ours.get_or_try_init(look).await.map(|_| ())
    }

    async fn length(&self, hash: &Hash) -> Result<Option<u64>, MediaError> {
        let found = there(self.store.head(&self.name(hash)).await)?;
        Ok(found.map(|meta| meta.size))
    }

    /// Puts a blob, unless it is there.
    async fn put(&self, spooled: &mut Spooled) -> Result<(), MediaError> {
        let (hash, size) = (spooled.hash(), spooled.size());
        if self.length(&hash).await? == Some(size) {
            return Ok(());
        }
        let Ok(_turn) = self.puts.acquire().await else {
            return Err(MediaError::Away("it is stopping".to_owned()));
        };
        let name = self.name(&hash);
        let file = spooled.rewound().map_err(MediaError::file)?;
        if size <= PART {
            let bytes = next_part(file, size)?;
            return self
                .store
                .put(&name, bytes.into())
                .await
                .map(|_| ())
                .map_err(away);
        }
        let mut upload = self.store.put_multipart(&name).await.map_err(away)?;
        let done = in_parts(&mut *upload, file, size).await;
        if done.is_err()
            && let Err(error) = upload.abort().await
        {
            tracing::debug!(%error, "an upload in parts was not taken back");
        }
        done
    }

    async fn open(
        &self,
        hash: &Hash,
        part: Range<u64>,
    ) -> Result<Option<stream::BoxStream<'static, std::io::Result<Bytes>>>, MediaError> {
        // There is no range of nothing.
        if part.is_empty() {
            let found = self.length(hash).await?;
            return Ok(found.map(|_| stream::empty().boxed()));
        }
        let options = GetOptions {
            range: Some(GetRange::Bounded(part)),
            ..GetOptions::default()
        };
        let found = there(self.store.get_opts(&self.name(hash), options).await)?;
        Ok(found.map(|found| found.into_stream().map_err(std::io::Error::other).boxed()))
    }
}

/// A blob's next bytes.
fn next_part(file: &mut File, length: u64) -> Result<Bytes, MediaError> {
    let mut part = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact(&mut part).map_err(MediaError::file)?;
    Ok(part.into())
}

/// Puts a blob in parts of one size, one after the other.
async fn in_parts(
    upload: &mut dyn MultipartUpload,
    file: &mut File,
    size: u64,
) -> Result<(), MediaError> {
    let part = PART.max(size.div_ceil(PARTS_MAX));
    let mut left = size;
    while left > 0 {
        let length = left.min(part);
        let bytes = next_part(file, length)?;
        upload.put_part(bytes.into()).await.map_err(away)?;
        left -= length;
    }
    upload.complete().await.map(|_| ()).map_err(away)
}

impl Storage for S3 {
    fn prepare(&self, spooled: &mut Spooled) -> Result<(), MediaError> {
        self.wait(self.inner.put(spooled))
    }

    fn keep(&self, mut spooled: Spooled) -> Result<(), MediaError> {
        self.wait(self.inner.put(&mut spooled))
    }

    fn open(&self, hash: &Hash, part: Range<u64>) -> Result<Option<Content>, MediaError> {
        let length = part.end.saturating_sub(part.start);
        let pieces = self.wait(self.inner.open(hash, part))?;
        Ok(pieces.map(|pieces| Content::Pieces {
            pieces,
            length,
            runtime: self.runtime.clone(),
        }))
    }

    fn length(&self, hash: &Hash) -> Result<Option<u64>, MediaError> {
        self.wait(self.inner.length(hash))
    }

    fn seems_there(&self, _: &Hash) -> bool {
        true
    }

    fn is_far(&self) -> bool {
        true
    }

    fn remove(&self, hash: &Hash) -> Result<(), MediaError> {
        let removed = async { there(self.inner.store.delete(&self.inner.name(hash)).await) };
        self.wait(removed).map(|_| ())
    }

    fn set_aside(&self, hash: &Hash) -> Result<(), MediaError> {
        let aside = self.inner.prefix.clone().join(CORRUPT);
        let aside = aside.join(hash.to_hex().as_str());
        let name = self.inner.name(hash);
        self.wait(async { self.inner.store.rename(&name, &aside).await.map_err(away) })
    }

    fn walk(&self, each: &mut Each<'_>) -> Result<(), MediaError> {
        let prefix = Some(&self.inner.prefix).filter(|prefix| !prefix.is_root());
        self.wait(async {
            let mut listed = self.inner.store.list(prefix);
            let mut last = None;
            while let Some(object) = listed.try_next().await.map_err(away)? {
                let Some(hash) = self.inner.hash_of(&object.location) else {
                    continue;
                };
                // Whoever compares lists relies on it.
                if last >= Some(*hash.as_bytes()) {
                    let text = "it lists names in no order; S3 does by their bytes";
                    return Err(MediaError::Away(text.to_owned()));
                }
                last = Some(*hash.as_bytes());
                each(hash, object.size)?;
            }
            Ok(())
        })
    }
}
