//! What is made once, at the first start, and must never be in an image or a backup that others
//! read: the signing key, the pepper of access tokens, the key for push services, the first
//! registration token. Each is a file of its own in the data directory, readable by its owner
//! alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use skerry_core::Dice;
use skerry_core::keys::{SigningKey, random_name};

/// Why the secrets cannot be used, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A file cannot be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {what}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// What the files hold.
pub struct Secrets {
    /// Signs this server's events.
    pub signing_key: SigningKey,
    /// The key under which access tokens are hashed.
    pub pepper: [u8; 32],
    /// Signs for push services (VAPID).
    pub vapid: [u8; 32],
}

/// Makes the data directory if it is missing, for its owner alone.
///
/// # Errors
/// [`SecretError::File`].
pub fn make_data_dir(dir: &Path) -> Result<(), SecretError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|cause| SecretError::File {
            path: dir.to_owned(),
            cause,
        })
}

impl Secrets {
    /// Reads the secrets, and makes those that are missing.
    ///
    /// # Errors
    /// [`SecretError`]; a file that is there is never replaced.
    pub fn load(dir: &Path, dice: &mut dyn Dice) -> Result<Secrets, SecretError> {
        Ok(Secrets {
            signing_key: signing_key(&dir.join("signing.key"), dice)?,
            pepper: random(&dir.join("pepper"), dice)?,
            vapid: random(&dir.join("vapid.key"), dice)?,
        })
    }
}

/// The key under which this server recommends events as a policy server, which is never that by
/// which it signs them as its own (server-server API, "Validating Policy Server signatures").
///
/// # Errors
/// [`SecretError`].
pub fn policy_key(dir: &Path, dice: &mut dyn Dice) -> Result<SigningKey, SecretError> {
    let path = dir.join("policy.key");
    let seed = random(&path, dice)?;
    SigningKey::from_seed(&seed, "policy_server").map_err(|_| SecretError::Content {
        path,
        what: "not a usable signing key",
    })
}

/// One line: `ed25519 VERSION SEED`, the seed in base64, as other servers keep it.
fn signing_key(path: &Path, dice: &mut dyn Dice) -> Result<SigningKey, SecretError> {
    let wrong = |what| SecretError::Content {
        path: path.to_owned(),
        what,
    };
    let Some(text) = read(path)? else {
        let key = SigningKey::generate(dice).map_err(|_| wrong("cannot make a signing key"))?;
        let version = key.id().trim_start_matches("ed25519:");
        let seed = STANDARD_NO_PAD.encode(key.seed());
        write_private(path, &format!("ed25519 {version} {seed}\n"))?;
        return Ok(key);
    };
    let mut words = text.split_ascii_whitespace();
    let (Some("ed25519"), Some(version), Some(seed), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(wrong("not a signing key (ed25519 VERSION SEED)"));
    };
    let seed = seed_of(seed).ok_or_else(|| wrong("the seed is not 32 bytes in base64"))?;
    SigningKey::from_seed(&seed, version).map_err(|_| wrong("not a usable signing key"))
}

/// 32 random bytes in base64.
fn random(path: &Path, dice: &mut dyn Dice) -> Result<[u8; 32], SecretError> {
    if let Some(text) = read(path)? {
        let what = "not 32 bytes in base64";
        let wrong = || SecretError::Content {
            path: path.to_owned(),
            what,
        };
        return seed_of(text.trim()).ok_or_else(wrong);
    }
    let mut secret = [0; 32];
    dice.fill(&mut secret);
    write_private(path, &format!("{}\n", STANDARD_NO_PAD.encode(secret)))?;
    Ok(secret)
}

fn seed_of(text: &str) -> Option<[u8; 32]> {
    STANDARD_NO_PAD
        .decode(text.trim_end_matches('='))
        .ok()?
        .try_into()
        .ok()
}

/// The first registration token: read from its file, or made and written there.
///
/// # Errors
/// [`SecretError`].
pub fn first_token(path: &Path, dice: &mut dyn Dice) -> Result<String, SecretError> {
    if let Some(text) = read(path)? {
        return Ok(text.trim().to_owned());
    }
    let token = random_name(dice, 24);
    write_private(path, &format!("{token}\n"))?;
    Ok(token)
}

/// A secret that the operator wrote into a file: its text without blanks around it.
///
/// # Errors
/// [`SecretError`], also where the file is empty.
pub fn from_file(path: &Path) -> Result<String, SecretError> {
    let text = fs::read_to_string(path).map_err(|cause| SecretError::File {
        path: path.to_owned(),
        cause,
    })?;
    let what = "the file is empty";
    match text.trim() {
        "" => Err(SecretError::Content {
            path: path.to_owned(),
            what,
        }),
        text => Ok(text.to_owned()),
    }
}

fn read(path: &Path) -> Result<Option<String>, SecretError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(SecretError::File {
            path: path.to_owned(),
            cause,
        }),
    }
}

/// Writes a new file whole or not at all: beside its place, synced, then renamed.
fn write_private(path: &Path, text: &str) -> Result<(), SecretError> {
    let write = || -> io::Result<()> {
        let beside = path.with_extension("new");
        let _ = fs::remove_file(&beside);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        match path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            Some(parent) => File::open(parent)?.sync_all(),
            None => File::open(".")?.sync_all(),
        }
    };
    write().map_err(|cause| SecretError::File {
        path: path.to_owned(),
        cause,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::os::unix::fs::PermissionsExt;

    use skerry_core::DiceSource;

    use super::*;
    use crate::clock::SystemDice;

    #[test]
    fn made_once_kept_private_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        make_data_dir(&data).unwrap();
        let mut dice = SystemDice.dice();
        let first = Secrets::load(&data, &mut *dice).unwrap();
        let again = Secrets::load(&data, &mut *dice).unwrap();
        assert_eq!(first.pepper, again.pepper);
        assert_eq!(first.signing_key.id(), again.signing_key.id());
        assert_eq!(first.signing_key.seed(), again.signing_key.seed());
        let token = first_token(&data.join("registration_token"), &mut *dice).unwrap();
        assert_eq!(
            first_token(&data.join("registration_token"), &mut *dice).unwrap(),
            token
        );
        assert_eq!(
            fs::metadata(&data).unwrap().permissions().mode() & 0o777,
            0o700
        );
        for name in ["signing.key", "pepper", "vapid.key", "registration_token"] {
            let mode = fs::metadata(data.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_damaged_file_is_named_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("signing.key"), "rubbish").unwrap();
        let mut dice = SystemDice.dice();
        let error = Secrets::load(dir.path(), &mut *dice).err().unwrap();
        assert!(error.to_string().contains("signing.key"));
        assert_eq!(
            fs::read_to_string(dir.path().join("signing.key")).unwrap(),
            "rubbish"
        );
    }
}
