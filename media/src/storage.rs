//! Where blobs lie: what each such place can do. There are two: the folder (`files.rs`) and an
//! object store (`s3.rs`).

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::Range,
};

use blake3::Hash;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use skerry_http::Source;
use tokio::runtime::Handle;

use crate::{MediaError, spool::Spooled};

/// How much of a file is read at once, in bytes.
const PIECE: usize = 256 * 1024;

/// A place for blobs, which are written once and never changed. All of it blocks, on the disk or on
/// another machine, and belongs on a thread that may.
pub(crate) trait Storage: Send + Sync {
    /// Does of [`Storage::keep`] what takes long, before the blob's lock is taken. It may leave a
    /// blob that nothing names.
    ///
    /// # Errors
    /// [`MediaError`].
    fn prepare(&self, spooled: &mut Spooled) -> Result<(), MediaError>;

    /// Puts a blob into its place, where it is durable afterwards. One that is there already is
    /// kept. Under the blob's lock.
    ///
    /// # Errors
    /// [`MediaError`].
    fn keep(&self, spooled: Spooled) -> Result<(), MediaError>;

    /// A part of a blob; none if it is not there.
    ///
    /// # Errors
    /// [`MediaError`].
    fn open(&self, hash: &Hash, part: Range<u64>) -> Result<Option<Content>, MediaError>;

    /// A blob's length in bytes; none if it is not there.
    ///
    /// # Errors
    /// [`MediaError`].
    fn length(&self, hash: &Hash) -> Result<Option<u64>, MediaError>;

    /// Whether a blob that has rows is there, as far as that is known without asking another
    /// machine.
    fn seems_there(&self, hash: &Hash) -> bool;

    /// Whether it is another machine, so that a walk takes long and may fail.
    fn is_far(&self) -> bool;

    /// Deletes a blob; one that is not there is no error.
    ///
    /// # Errors
    /// [`MediaError`].
    fn remove(&self, hash: &Hash) -> Result<(), MediaError>;

    /// Moves a blob out of the way: its bytes are not those that its name says. It lies in
    /// `corrupt` then, for whoever wants to look at it.
    ///
    /// # Errors
    /// [`MediaError`].
    fn set_aside(&self, hash: &Hash) -> Result<(), MediaError>;

    /// Tells of every blob in the order of the hashes, with its length in bytes.
    ///
    /// # Errors
    /// [`MediaError`], or what `each` says.
    fn walk(&self, each: &mut Each<'_>) -> Result<(), MediaError>;
}

/// Hears of a blob and its length in bytes.
pub(crate) type Each<'a> = dyn FnMut(Hash, u64) -> Result<(), MediaError> + 'a;

/// The bytes of a blob, or of a part of it, to be read once.
pub enum Content {
    /// In a file, from where it stands, so many bytes.
    File(File, u64),
    /// Piece by piece from another machine.
    Pieces {
        /// The pieces.
        pieces: BoxStream<'static, io::Result<Bytes>>,
        /// How many bytes they are in all.
        length: u64,
        /// Where they are waited for by those who block.
        runtime: Handle,
    },
}

impl Content {
    /// A part of a file.
    pub(crate) fn of_file(mut file: File, part: &Range<u64>) -> io::Result<Self> {
        if part.start > 0 {
            file.seek(SeekFrom::Start(part.start))?;
        }
        Ok(Self::File(file, part.end.saturating_sub(part.start)))
    }

    /// The same for an answer, with the length in bytes.
    pub(crate) fn into_source(self) -> (Source, u64) {
        match self {
            Self::File(file, length) => (Source::File(file), length),
            Self::Pieces { pieces, length, .. } => (Source::Pieces(pieces), length),
        }
    }

    /// Reads it to its end, a piece at a time. Blocks.
    ///
    /// # Errors
    /// What the disk or the other machine says.
    pub fn each(self, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        match self {
            Self::File(file, length) => {
                let mut file = file.take(length);
                let size = usize::try_from(length).map_or(PIECE, |length| length.min(PIECE));
                let mut piece = vec![0; size.max(1)];
                loop {
                    let read = file.read(&mut piece)?;
                    if read == 0 {
                        return Ok(());
                    }
                    each(piece.get(..read).unwrap_or_default());
                }
            }
            Self::Pieces {
                mut pieces,
                runtime,
                ..
            } => {
                while let Some(piece) = runtime.block_on(pieces.next()) {
                    each(&piece?);
                }
                Ok(())
            }
        }
    }

    /// All of it. Blocks, and holds it in memory: for what is known to be small enough.
    pub(crate) fn all(self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        self.each(&mut |piece| all.extend_from_slice(piece))?;
        Ok(all)
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(_, length) => write!(f, "File({length})"),
            Self::Pieces { length, .. } => write!(f, "Pieces({length})"),
        }
    }
}
