//! Whether a release is from whom it says: its OpenPGP signature, checked by Debian's `gpgv`,
//! which does nothing else and trusts no key but those it is given.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The largest key or signature, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// The program that checks.
const GPGV: &str = "gpgv";

/// Why a signature does not say that a release is good. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// There is nothing to check with.
    #[error(
        "gpgv, which checks OpenPGP signatures, is not installed (on Debian: apt install gpgv); \
         nothing was installed"
    )]
    NoGpgv,
    /// A file cannot be read or written.
    #[error("{path}: {cause}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file holds no key.
    #[error("{0} holds no OpenPGP key")]
    NoKey(PathBuf),
    /// The signature is missing, by another key, of other bytes, or its time is over.
    #[error("the release's signature is not good; it was not installed. gpgv says:\n{0}")]
    Bad(String),
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> SignatureError + '_ {
    |cause| SignatureError::File {
        path: path.to_owned(),
        cause,
    }
}

/// Checks that `signature` is one of `archive` by a key in the file `key`; both may be ASCII
/// armored. Gives the fingerprint of the key that signed. Starts a program and waits for it.
///
/// # Errors
/// [`SignatureError`].
pub fn check_signature(
    archive: &Path,
    signature: &Path,
    key: &Path,
) -> Result<String, SignatureError> {
    check_with(GPGV, archive, signature, key)
}

fn check_with(
    program: &str,
    archive: &Path,
    signature: &Path,
    key: &Path,
) -> Result<String, SignatureError> {
    // It takes keys only as they are inside the armor, and from a folder of its own.
    let keys = unarmored(&read(key)?).ok_or_else(|| SignatureError::NoKey(key.to_owned()))?;
    read(signature)?;
    let home = Home::make()?;
    let ring = home.0.join("keys.gpg");
    fs::write(&ring, keys).map_err(file_error(&ring))?;
    let output = Command::new(program)
        .arg("--homedir")
        .arg(&home.0)
        .arg("--keyring")
        .arg(&ring)
        .args(["--status-fd", "1", "--"])
        .args([signature, archive])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => verdict(&output),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SignatureError::NoGpgv),
        Err(error) => Err(file_error(Path::new(program))(error)),
    }
}

/// What the program found: it has to end well, and to call the signature good and valid; a key or
/// signature whose time is over it calls something else.
fn verdict(output: &Output) -> Result<String, SignatureError> {
    let said = String::from_utf8_lossy(&output.stdout);
    let status = |word: &str| {
        let mut lines = said
            .lines()
            .filter_map(|line| line.strip_prefix("[GNUPG:] "));
        lines.find_map(|line| {
            line.strip_prefix(word)?
                .strip_prefix(' ')
                .map(str::to_owned)
        })
    };
    let fingerprint = status("VALIDSIG").and_then(|line| {
        let first = line.split(' ').next()?;
        Some(first.to_owned())
    });
    match (output.status.success(), status("GOODSIG"), fingerprint) {
        (true, Some(_), Some(fingerprint)) => Ok(fingerprint),
        _ => {
            let words = String::from_utf8_lossy(&output.stderr);
            Err(SignatureError::Bad(words.trim().to_owned()))
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SignatureError> {
    let facts = fs::metadata(path).map_err(file_error(path))?;
    if facts.len() > FILE_MAX {
        return Err(file_error(path)(io::Error::other("it is too large")));
    }
    fs::read(path).map_err(file_error(path))
}

/// The packets of a file of keys: what is inside its armor (RFC 9580, 6.2), or the file as it is.
/// None where it begins like neither.
fn unarmored(bytes: &[u8]) -> Option<Vec<u8>> {
    let Some(text) = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| text.contains("-----BEGIN PGP"))
    else {
        // Each packet begins with a byte whose highest bit is set.
        return bytes
            .first()
            .is_some_and(|byte| byte & 0x80 != 0)
            .then(|| bytes.to_vec());
    };
    let mut packets = Vec::new();
    for block in text.split("-----BEGIN PGP PUBLIC KEY BLOCK-----").skip(1) {
        let (block, _) = block.split_once("-----END")?;
        // Headers end at an empty line, data at the checksum; the first line is the rest of the
        // one that begins the block.
        let lines = block.lines().skip(1).map(str::trim);
        let data: String = lines
            .skip_while(|line| !line.is_empty())
            .take_while(|line| !line.starts_with('='))
            .collect();
        packets.extend(STANDARD.decode(data).ok()?);
    }
    (!packets.is_empty()).then_some(packets)
}

/// A folder for one check; gone afterwards.
struct Home(PathBuf);

impl Home {
    fn make() -> Result<Home, SignatureError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let parent = std::env::temp_dir();
        for n in 0..100 {
            let path = parent.join(format!("skerry-gpgv-{}-{n}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Home(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(file_error(&path)(error)),
            }
        }
        let taken = io::Error::from(io::ErrorKind::AlreadyExists);
        Err(file_error(&parent)(taken))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests;
