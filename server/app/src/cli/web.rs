//! `skerry web`

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use skerry_remote::http::{Client, ClientOptions, Guard, Request, SystemResolver, Tls};
use skerry_web::{Shelf, check_signature, known, known_versions};

use super::show;
use crate::config::{Config, show_bytes};
use crate::pages;

pub(super) const EXAMPLES: &str = "Examples:
  skerry web install --from element-v1.2.3.tar.gz    a release that you have fetched
  skerry web install --from ./my-build               a folder with an index.html
  skerry web install --version 1.2.3 --sha256 HASH   fetch Element Web, keep it only if the hash is right
  skerry web install --from element-v1.2.3.tar.gz --key element-release-key.asc
                                                     and check its signature, element-v1.2.3.tar.gz.asc
  skerry web rollback                                back to the one before
  skerry web show

The hash of a release: fetch the archive and its signature from the project's release page, check the
signature (--key does), then type: sha256sum ARCHIVE";

/// How long fetching an archive may take.
const FETCH_TIME: Duration = Duration::from_secs(15 * 60);
/// The largest archive, in bytes.
const ARCHIVE_MAX: u64 = 512 << 20;
/// How many redirects are followed: release pages lead to a store of files.
const REDIRECTS: usize = 5;

/// The web client that this server serves.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Put a build of a web client in use; the one before stays on the shelf
    Install(Install),
    /// Go back to the build that was in use before
    Rollback,
    /// Say what is in use
    Show,
}

#[derive(Args)]
pub(super) struct Install {
    /// An archive (.tar.gz) or a folder instead of fetching one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "release"])]
    from: Option<PathBuf>,
    /// The version of Element Web to fetch
    #[arg(long = "version", value_name = "V")]
    release: Option<String>,
    /// Where to fetch the archive of any client from
    #[arg(
        long,
        value_name = "URL",
        requires = "sha256",
        conflicts_with = "release"
    )]
    url: Option<String>,
    /// What the archive's SHA-256 has to be
    #[arg(long, value_name = "HASH")]
    sha256: Option<String>,
    /// The OpenPGP key of whoever makes the releases: the archive has to be signed with it
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The signature, where it is not beside the archive under its name and .asc
    #[arg(long, value_name = "FILE", requires = "key")]
    signature: Option<PathBuf>,
}

/// What to fetch, and what it has to be.
struct Wanted {
    name: String,
    url: String,
    sha256: String,
}

/// Does what the command says.
pub(super) async fn run(config: Config, command: Command) -> Result<(), String> {
    let shelf = Shelf::new(&pages::shelf(&config));
    match command {
        Command::Install(install) => put(&config, &shelf, install).await?,
        Command::Rollback => {
            let name = shelf.roll_back().map_err(|e| e.to_string())?;
            show::line(&format!("{name} is in use again"));
        }
        Command::Show => match shelf.names() {
            (None, _) => show::line("No web client is installed: skerry web install"),
            (Some(current), before) => {
                show::line(&format!("in use  {current}"));
                if let Some(before) = before {
                    show::line(&format!("before  {before}"));
                }
            }
        },
    }
    if let Some(dir) = &config.web.dir {
        let dir = dir.display();
        show::line(&format!("note: web.dir is set, so {dir} is what is served"));
    }
    Ok(())
}

async fn put(config: &Config, shelf: &Shelf, install: Install) -> Result<(), String> {
    let (key, signature) = (install.key.clone(), install.signature.clone());
    let (from, name, sha256, fetched) = match install.from {
        Some(from) => {
            let name = from
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("");
            let name = name
                .trim_end_matches(".tar.gz")
                .trim_end_matches(".tgz")
                .to_owned();
            (from, name, install.sha256, None)
        }
        None => {
            let wanted = wanted(install)?;
            std::fs::create_dir_all(&config.data_dir).map_err(|e| e.to_string())?;
            let archive = Fetched::below(&config.data_dir);
            fetch(config, &wanted.url, &archive.0).await?;
            if key.is_some() && signature.is_none() {
                let url = format!("{}.asc", wanted.url);
                fetch(config, &url, &archive.signature()).await?;
            }
            (
                archive.0.clone(),
                wanted.name,
                Some(wanted.sha256),
                Some(archive),
            )
        }
    };
    if let Some(key) = key {
        check(&from, signature, &key)?;
    }
    let installed = shelf.install(&from, &name, sha256.as_deref());
    drop(fetched);
    let installed = installed.map_err(|e| e.to_string())?;
    show::line(&format!(
        "{} is in use: {} files, {}",
        installed.name,
        installed.files,
        show_bytes(installed.bytes)
    ));
    Ok(())
}

/// Whether an archive is signed with this key.
fn check(archive: &Path, signature: Option<PathBuf>, key: &Path) -> Result<(), String> {
    if archive.is_dir() {
        return Err("a folder has no signature: --key is for archives".to_owned());
    }
    let signature = signature.unwrap_or_else(|| signature_of(archive));
    let signer = check_signature(archive, &signature, key).map_err(|e| e.to_string())?;
    show::line(&format!("signed with the key {signer}"));
    Ok(())
}

/// The file with an archive's signature.
fn signature_of(archive: &Path) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(".asc");
    PathBuf::from(name)
}

/// An archive that was fetched, perhaps with its signature; gone once it is not needed.
struct Fetched(PathBuf);

impl Fetched {
    fn below(dir: &Path) -> Fetched {
        Fetched(dir.join(format!(".web-client-{}.tar.gz", std::process::id())))
    }

    fn signature(&self) -> PathBuf {
        signature_of(&self.0)
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_file(self.signature());
    }
}

fn wanted(install: Install) -> Result<Wanted, String> {
    if let (Some(url), Some(sha256)) = (install.url, install.sha256.clone()) {
        let name = url
            .rsplit('/')
            .next()
            .unwrap_or("")
            .trim_end_matches(".tar.gz");
        return Ok(Wanted {
            name: name.to_owned(),
            url,
            sha256,
        });
    }
    let version = install.release.as_deref();
    if let Some(release) = known("element", version)? {
        return Ok(Wanted {
            name: format!("element-{}", release.version),
            url: release.url,
            sha256: install.sha256.unwrap_or(release.sha256),
        });
    }
    match (version, install.sha256) {
        (Some(version), Some(sha256)) => {
            let version = version.trim_start_matches('v');
            Ok(Wanted {
                name: format!("element-{version}"),
                url: format!(
                    "https://github.com/element-hq/element-web/releases/download/\
                     v{version}/element-v{version}.tar.gz"
                ),
                sha256,
            })
        }
        _ => Err(no_release()?),
    }
}

fn no_release() -> Result<String, String> {
    let versions = known_versions("element")?;
    let known = if versions.is_empty() {
        "this version of Skerry knows the hash of no release".to_owned()
    } else {
        format!("known are {}", versions.join(", "))
    };
    Ok(format!(
        "which release? ({known})\n\
         Fetch the archive from the project's release page and type\n  \
         skerry web install --from element-vX.tar.gz\n\
         or name the version and the archive's SHA-256, which `sha256sum` prints:\n  \
         skerry web install --version X --sha256 HASH"
    ))
}

/// Fetches an archive into a file, telling how far it is.
async fn fetch(config: &Config, url: &str, to: &Path) -> Result<(), String> {
    let http = &config.http_client;
    let guard = Guard::new(http.allow_private, &http.allowed_private);
    let tls = Tls::new(http.ca_file.as_deref()).map_err(|e| e.to_string())?;
    let options = ClientOptions::new(
        guard.map_err(|e| e.to_string())?,
        Arc::new(SystemResolver::new()),
        Arc::new(tls),
    );
    let client = Client::new(options);
    let request = Request::get(url).follow(REDIRECTS).timeout(FETCH_TIME);
    let failed = |e: &dyn std::fmt::Display| format!("{url} cannot be fetched: {e}");
    let mut answer = client.open(request).await.map_err(|e| failed(&e))?;
    if !answer.status.is_success() {
        return Err(failed(&format!("the answer is {}", answer.status)));
    }
    let mut file = File::create(to).map_err(|e| format!("{}: {e}", to.display()))?;
    let (mut got, mut told) = (0_u64, 0_u64);
    while let Some(piece) = answer.next().await.map_err(|e| failed(&e))? {
        got += piece.len() as u64;
        if got > ARCHIVE_MAX {
            return Err(failed(&format!(
                "it is larger than {}",
                show_bytes(ARCHIVE_MAX)
            )));
        }
        file.write_all(&piece)
            .map_err(|e| format!("{}: {e}", to.display()))?;
        if got - told > 8 << 20 {
            told = got;
            show::line(&format!("fetched {} ...", show_bytes(got)));
        }
    }
    Ok(())
}
