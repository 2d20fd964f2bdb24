//! What survives a restart: certificates with their keys, histories, the account. One folder for
//! each CA, so that nothing of one is taken for another's.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::leaf_facts;
use super::plan::History;
use crate::tls::facts::Facts;
use crate::tls::pair;

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 256 * 1024;

/// The folder of one CA.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// In `dir`, for the CA with this directory. Nothing is made before something is written.
    pub(super) fn new(dir: &Path, directory: &str) -> Cache {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, directory.as_bytes());
        let short = digest.as_ref().iter().take(4);
        let short: String = short.map(|byte| format!("{byte:02x}")).collect();
        let host = directory.split('/').nth(2).unwrap_or("ca");
        let host: String = host
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '.' {
                    c
                } else {
                    '-'
                }
            })
            .take(100)
            .collect();
        Cache {
            dir: dir.join(format!("{host}-{short}")),
        }
    }

    /// The certificate of a name, if there is one.
    ///
    /// # Errors
    /// Why it cannot be used, in words.
    pub(super) fn load(
        &self,
        name: &str,
        provider: &CryptoProvider,
    ) -> Result<Option<(Arc<CertifiedKey>, Facts)>, String> {
        let file = self.dir.join(format!("{name}.pem"));
        let Some(bytes) = read(&file).map_err(|e| format!("{}: {e}", file.display()))? else {
            return Ok(None);
        };
        let parsed = parse(&bytes, provider).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(Some(parsed))
    }

    /// Keeps the certificate of a name: a chain and its key as PEM.
    pub(super) fn save(&self, name: &str, pem: &[u8]) -> io::Result<()> {
        self.write(&format!("{name}.pem"), pem)
    }

    /// What happened to a name; nothing where that cannot be read.
    pub(super) fn history(&self, name: &str) -> History {
        let bytes = read(&self.dir.join(format!("{name}.json"))).ok().flatten();
        let parsed = bytes.map(|bytes| serde_json::from_slice(&bytes));
        parsed.and_then(Result::ok).unwrap_or_default()
    }

    /// Keeps what happened to a name.
    pub(super) fn save_history(&self, name: &str, history: &History) -> io::Result<()> {
        let json = serde_json::to_vec(history).map_err(io::Error::other)?;
        self.write(&format!("{name}.json"), &json)
    }

    /// The account, as it was written.
    pub(super) fn account(&self) -> io::Result<Option<Vec<u8>>> {
        read(&self.dir.join("account"))
    }

    /// Keeps the account.
    pub(super) fn save_account(&self, account: &[u8]) -> io::Result<()> {
        self.write("account", account)
    }

    /// Forgets the account, which the CA does not know any more.
    pub(super) fn forget_account(&self) -> io::Result<()> {
        match fs::remove_file(self.dir.join("account")) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes a file whole or not at all, readable for nobody else.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.dir)?;
        let part = self.dir.join(format!("{name}.new"));
        // Left by somebody who was killed, perhaps with other permissions.
        match fs::remove_file(&part) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, self.dir.join(name))?;
        File::open(&self.dir)?.sync_all()
    }
}

/// A chain and its key, as PEM.
///
/// # Errors
/// Why they cannot be used, in words.
pub(super) fn parse(
    pem: &[u8],
    provider: &CryptoProvider,
) -> Result<(Arc<CertifiedKey>, Facts), String> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|e| e.to_string())?;
    let key = pair(chain, key, provider).map_err(|e| e.to_string())?;
    let facts = leaf_facts(&key).ok_or("there is no certificate in it")?;
    Ok((Arc::new(key), facts))
}

fn read(file: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(file) {
        Ok(facts) if facts.len() > FILE_MAX => Err(io::Error::other("it is too large")),
        Ok(_) => fs::read(file).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_private_whole_and_of_one_ca() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("acme");
        let cache = Cache::new(&root, "https://ca.example:14000/dir");
        let provider = crate::tls::provider();
        assert!(cache.load("a.example", &provider).unwrap().is_none());
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let pem = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
        // What a killed process left, for everybody to read.
        fs::create_dir_all(&cache.dir).unwrap();
        fs::write(cache.dir.join("a.example.pem.new"), "half").unwrap();
        cache.save("a.example", pem.as_bytes()).unwrap();
        let history = History {
            failures: 3,
            words: Some("no".to_owned()),
            ..History::default()
        };
        cache.save_history("a.example", &history).unwrap();
        cache.save_account(b"{}").unwrap();
        let files: Vec<_> = fs::read_dir(&cache.dir).unwrap().collect();
        assert_eq!(files.len(), 3);
        for file in files {
            let mode = file.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(cache.load("a.example", &provider).unwrap().is_some());
        assert_eq!(cache.history("a.example"), history);
        let other = Cache::new(&root, "https://ca.example:14000/other");
        assert!(other.load("a.example", &provider).unwrap().is_none());
        cache.forget_account().unwrap();
        cache.forget_account().unwrap();
        assert!(cache.account().unwrap().is_none());
        cache.save("a.example", &pem.as_bytes()[..100]).unwrap();
        assert!(cache.load("a.example", &provider).is_err());
        fs::write(cache.dir.join("a.example.json"), "nonsense").unwrap();
        assert_eq!(cache.history("a.example"), History::default());
    }
}
