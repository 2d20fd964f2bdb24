//! The shelf of installed builds: unpacked beside each other, one of them in use, switched in one
//! step and switched back.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};
use tar::{Archive, EntryType};

/// What an archive may hold at most: files, and bytes in all.
const ENTRIES_MAX: usize = 20_000;
const BYTES_MAX: u64 = 1024 * 1024 * 1024;
const CURRENT: &str = "current";
const PREVIOUS: &str = "previous";

/// Why a build could not be installed. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file cannot be read or written.
    #[error("{path}: {cause}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The archive is not what was asked for.
    #[error("the archive's SHA-256 is {found}, not {wanted}; it was not installed")]
    Hash {
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// The archive holds something that no build of a client holds.
    #[error("the archive cannot be used: {0}")]
    Archive(String),
    /// There is no `index.html` in it.
    #[error("there is no index.html in it: this is not the build of a web client")]
    NotAClient,
    /// Nothing was installed before.
    #[error("there is no build to go back to")]
    NothingBefore,
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> InstallError + '_ {
    |cause| InstallError::File {
        path: path.to_owned(),
        cause,
    }
}

/// A build that is on the shelf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its name: client and version, or whatever it was given.
    pub name: String,
    /// How many files it has.
    pub files: usize,
    /// How many bytes they have.
    pub bytes: u64,
}

/// The folder of installed builds.
#[derive(Clone, Debug)]
pub struct Shelf {
    root: PathBuf,
}

impl Shelf {
    /// The shelf in this folder, which need not exist yet.
    #[must_use]
    pub fn new(root: &Path) -> Shelf {
        Shelf {
            root: root.to_owned(),
        }
    }

    /// The folder of the build in use, if there is one.
    #[must_use]
    pub fn current(&self) -> Option<PathBuf> {
        let dir = self.root.join(CURRENT);
        dir.is_dir().then_some(dir)
    }

    /// The names of the build in use and of the one before it.
    #[must_use]
    pub fn names(&self) -> (Option<String>, Option<String>) {
        (self.pointed(CURRENT), self.pointed(PREVIOUS))
    }

    fn pointed(&self, link: &str) -> Option<String> {
        let target = fs::read_link(self.root.join(link)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Installs a build from a folder or from a `.tar.gz`, and puts it in use. What was in use
    /// stays on the shelf as the one to go back to; older ones are removed.
    ///
    /// # Errors
    /// [`InstallError`]; whatever was in use stays so.
    pub fn install(
        &self,
        from: &Path,
        name: &str,
        sha256: Option<&str>,
    ) -> Result<Installed, InstallError> {
        let name = clean(name);
        fs::create_dir_all(&self.root).map_err(file_error(&self.root))?;
        let fresh = self.root.join(format!(".new-{}", std::process::id()));
        let _ = fs::remove_dir_all(&fresh);
        let unpacked = if from.is_dir() {
            copy(from, &fresh)
        } else {
            unpack(from, &fresh, sha256)
        };
        let done = unpacked.and_then(|(files, bytes)| {
            let root = build_root(&fresh)?;
            let place = self.free_name(&name);
            fs::rename(&root, self.root.join(&place)).map_err(file_error(&root))?;
            self.switch(&place)?;
            Ok(Installed {
                name: place,
                files,
                bytes,
            })
        });
        let _ = fs::remove_dir_all(&fresh);
        done
    }

    /// Puts the build that was in use before in use again, and that one in its place.
    ///
    /// # Errors
    /// [`InstallError::NothingBefore`], [`InstallError::File`].
    pub fn roll_back(&self) -> Result<String, InstallError> {
        let before = self.pointed(PREVIOUS).ok_or(InstallError::NothingBefore)?;
        self.switch(&before)?;
        Ok(before)
    }

    /// A name that no build on the shelf has.
    fn free_name(&self, name: &str) -> String {
        let taken = |name: &str| self.root.join(name).exists();
        if !taken(name) {
            return name.to_owned();
        }
        (2..)
            .map(|n| format!("{name}-{n}"))
            .find(|name| !taken(name))
            .unwrap_or_else(|| name.to_owned())
    }

    fn switch(&self, to: &str) -> Result<(), InstallError> {
        let before = self.pointed(CURRENT);
        self.point(CURRENT, to)?;
        if let Some(before) = before.filter(|before| before != to) {
            self.point(PREVIOUS, &before)?;
        }
        self.tidy();
        Ok(())
    }

    /// Sets a link in one step: there is no moment without it.
    fn point(&self, link: &str, to: &str) -> Result<(), InstallError> {
        let beside = self.root.join(format!(".{link}"));
        let _ = fs::remove_file(&beside);
        symlink(to, &beside).map_err(file_error(&beside))?;
        let link = self.root.join(link);
        fs::rename(&beside, &link).map_err(file_error(&link))?;
        let synced = File::open(&self.root).and_then(|dir| dir.sync_all());
        synced.map_err(file_error(&self.root))
    }

    /// Removes what is neither in use nor the one to go back to.
    fn tidy(&self) {
        let (current, previous) = self.names();
        let kept = |name: &str| {
            [CURRENT, PREVIOUS].contains(&name)
                || [&current, &previous]
                    .into_iter()
                    .any(|kept| kept.as_deref() == Some(name))
        };
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| !kept(name)) && entry.path().is_dir() {
                // What stays takes space and nothing else.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// A name that can be a folder's: letters, digits and a few signs, never hidden.
fn clean(name: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = name.chars().filter(|&c| good(c)).take(80).collect();
    let name = name.trim_start_matches('.');
    match name {
        "" | CURRENT | PREVIOUS => "client".to_owned(),
        name => name.to_owned(),
    }
}

/// Where the build is: in the folder itself, or in the only folder in it.
fn build_root(dir: &Path) -> Result<PathBuf, InstallError> {
    if dir.join("index.html").is_file() {
        return Ok(dir.to_owned());
    }
    let entries: Vec<_> = fs::read_dir(dir)
        .map_err(file_error(dir))?
        .flatten()
        .collect();
    match entries.as_slice() {
        [only] if only.path().join("index.html").is_file() => Ok(only.path()),
        _ => Err(InstallError::NotAClient),
    }
}

/// Unpacks a `.tar.gz` whose hash is checked first. Only files and folders, only below `to`.
fn unpack(from: &Path, to: &Path, sha256: Option<&str>) -> Result<(usize, u64), InstallError> {
    let open = || File::open(from).map_err(file_error(from));
    if let Some(wanted) = sha256 {
        let found = hash(&mut open()?).map_err(file_error(from))?;
        if !found.eq_ignore_ascii_case(wanted) {
            let wanted = wanted.to_owned();
            return Err(InstallError::Hash { found, wanted });
        }
    }
    let broken = |error: io::Error| InstallError::Archive(error.to_string());
    let limited = GzDecoder::new(BufReader::new(open()?)).take(BYTES_MAX + (64 << 20));
    let mut archive = Archive::new(limited);
    let (mut files, mut bytes) = (0, 0_u64);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let inside = below(&path)?;
        match entry.header().entry_type() {
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            EntryType::Regular => {}
            kind => {
                let path = path.display();
                return Err(InstallError::Archive(format!("{path} is a {kind:?}")));
            }
        }
        files += 1;
        bytes = bytes.saturating_add(entry.size());
        if files > ENTRIES_MAX || bytes > BYTES_MAX {
            return Err(InstallError::Archive("it is too large".to_owned()));
        }
        write(&to.join(inside), &mut entry)?;
    }
    Ok((files, bytes))
}

fn hash(file: &mut File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        hasher.update(piece.get(..read).unwrap_or_default());
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect())
}

/// The path of an entry, if it stays below the folder that it is unpacked into.
fn below(path: &Path) -> Result<PathBuf, InstallError> {
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            _ => {
                let path = path.display();
                return Err(InstallError::Archive(format!("{path} leads out of it")));
            }
        }
    }
    Ok(inside)
}

fn write(path: &Path, from: &mut impl Read) -> Result<(), InstallError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(file_error(folder))?;
    }
    let written = File::create_new(path).and_then(|mut file| {
        io::copy(from, &mut file)?;
        file.flush()?;
        file.sync_all()
    });
    written.map_err(file_error(path))
}

/// Copies a build that somebody unpacked or built.
fn copy(from: &Path, to: &Path) -> Result<(usize, u64), InstallError> {
    let (mut files, mut bytes) = (0, 0_u64);
    let mut left = vec![PathBuf::new()];
    while let Some(folder) = left.pop() {
        let source = from.join(&folder);
        for entry in fs::read_dir(&source).map_err(file_error(&source))? {
            let entry = entry.map_err(file_error(&source))?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type().map_err(file_error(&source))?;
            if kind.is_dir() {
                left.push(path);
            } else if kind.is_file() {
                let mut file = File::open(entry.path()).map_err(file_error(&source))?;
                files += 1;
                bytes = bytes.saturating_add(file.metadata().map_or(0, |facts| facts.len()));
                if files > ENTRIES_MAX || bytes > BYTES_MAX {
                    return Err(InstallError::Archive("it is too large".to_owned()));
                }
                write(&to.join(&path), &mut file)?;
            }
        }
    }
    Ok((files, bytes))
}

#[cfg(test)]
mod tests;
