//! Certificates that are got from a CA and renewed, by ACME (RFC 8555).
//!
//! Each name has a certificate, a history and a worker of its own, so that one that cannot be had
//! never keeps another back. Until a name has its certificate, and whenever none can be had, a
//! self-signed one is served.
//!
//! `plan.rs` decides when and how it is tried (pure); `keeper.rs` does it; `issuer.rs` is what it
//! asks of a CA, `instant.rs` how that is said; `cache.rs` is what survives a restart.

mod cache;
pub(crate) mod challenges;
mod hook;
mod instant;
mod issuer;
mod keeper;
mod plan;
mod web;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::tls::facts::{Facts, facts};
use crate::tls::{self, provider};
use crate::{ProxyError, Trusted};

use cache::Cache;
use challenges::Challenges;
use instant::Ca;
use issuer::Issuer;
use plan::History;

pub use plan::Kind as ChallengeKind;

/// How it is shown that a name is ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Challenge {
    /// By the program where there is one; else at port 443, or at port 80 where the name's address
    /// is a proxy's, and the other way after two failures.
    #[default]
    Auto,
    /// In this way alone.
    Only(ChallengeKind),
}

/// An account elsewhere to which the one at the CA is bound (RFC 8555, 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eab {
    /// The name of the key.
    pub key_id: String,
    /// A file with the key as the CA gave it: base64url.
    pub hmac_key_file: PathBuf,
}

/// Which certificates are wanted, and of whom.
#[derive(Clone, Debug)]
pub struct AcmeSettings {
    /// The URL of the CA's directory.
    pub directory: String,
    /// Where the CA can write to; empty: nowhere.
    pub email: String,
    /// The names, each of which gets a certificate of its own. Host names in small letters.
    pub names: Vec<String>,
    /// How it is shown that they are ours.
    pub challenge: Challenge,
    /// A program that publishes records in DNS.
    pub dns_hook: Option<PathBuf>,
    /// An account elsewhere.
    pub eab: Option<Eab>,
    /// Where certificates, keys and histories are kept.
    pub dir: PathBuf,
    /// A name with an address in these networks is reached through somebody else's proxy.
    pub elsewhere: Trusted,
    /// How long to wait after a first failure; then twice as long, and so on.
    pub first_wait: Duration,
}

impl AcmeSettings {
    /// How long to wait after a first failure, where nobody says otherwise.
    pub const FIRST_WAIT: Duration = Duration::from_secs(10);
}

/// How it stands with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The name.
    pub name: String,
    /// Until when its certificate is good, in ms since the epoch; none: there is none.
    pub until_ms: Option<u64>,
    /// What went wrong since there was one, if anything: in the CA's own words where it said any.
    pub trouble: Option<Trouble>,
}

/// What goes wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// How often in a row.
    pub failures: u32,
    /// How it was tried last.
    pub challenge: ChallengeKind,
    /// What was said.
    pub words: String,
    /// When it is tried next, in ms since the epoch.
    pub next_try_ms: u64,
}

/// How it stands with all names, as the files say; for somebody who is not the server.
#[must_use]
pub fn standings(settings: &AcmeSettings) -> Vec<Standing> {
    let cache = Cache::new(&settings.dir, &settings.directory);
    let provider = provider();
    let of = |name: &String| {
        let held = cache.load(name, &provider).ok().flatten();
        let until_ms = held.map(|(_, facts)| facts.until_ms);
        standing(name, until_ms, &cache.history(name), now_ms())
    };
    settings.names.iter().map(of).collect()
}

fn standing(name: &str, until_ms: Option<u64>, history: &History, now_ms: u64) -> Standing {
    let words = history.words.clone();
    Standing {
        name: name.to_owned(),
        until_ms,
        trouble: words.map(|words| Trouble {
            failures: history.failures,
            challenge: history.challenge.unwrap_or(ChallengeKind::TlsAlpn01),
            words,
            next_try_ms: history.next_try_ms(now_ms),
        }),
    }
}

/// The names that are looked after, with their certificates. Clones share them.
#[derive(Clone)]
pub struct Acme {
    shared: Arc<Shared>,
}

struct Shared {
    settings: AcmeSettings,
    cache: Cache,
    challenges: Challenges,
    /// Served where there is nothing else.
    fallback: Arc<CertifiedKey>,
    names: BTreeMap<String, Name>,
    issuer: Arc<dyn Issuer>,
}

/// A name, and what is held for it.
struct Name {
    held: RwLock<Option<Held>>,
    history: Mutex<History>,
}

/// A certificate in use.
#[derive(Clone)]
struct Held {
    key: Arc<CertifiedKey>,
    facts: Facts,
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.shared.names.keys().map(String::as_str).collect();
        f.debug_struct("Acme").field("names", &names).finish()
    }
}

impl Acme {
    /// Reads what is there from before. Nobody is asked for anything until [`crate::serve`]; `tls`
    /// is whom to believe then. Blocks on the disk.
    ///
    /// # Errors
    /// [`ProxyError::Tls`], where not even a self-signed certificate can be made.
    pub fn open(settings: AcmeSettings, tls: Arc<ClientConfig>) -> Result<Acme, ProxyError> {
        let cache = Cache::new(&settings.dir, &settings.directory);
        let issuer = Ca::new(settings.clone(), cache.clone(), tls);
        Acme::with(settings, cache, Arc::new(issuer))
    }

    fn with(
        settings: AcmeSettings,
        cache: Cache,
        issuer: Arc<dyn Issuer>,
    ) -> Result<Acme, ProxyError> {
        let provider = provider();
        let fallback = tls::self_signed(&settings.names, &provider)?;
        let read = |name: &String| {
            let held = cache.load(name, &provider).unwrap_or_else(|error| {
                tracing::warn!(%name, error, "the certificate from before cannot be used");
                None
            });
            let entry = Name {
                held: RwLock::new(held.map(|(key, facts)| Held { key, facts })),
                history: Mutex::new(cache.history(name)),
            };
            (name.clone(), entry)
        };
        let names = settings.names.iter().map(read).collect();
        let challenges = Challenges::default();
        let shared = Shared {
            settings,
            cache,
            challenges,
            fallback,
            names,
            issuer,
        };
        Ok(Acme {
            shared: Arc::new(shared),
        })
    }

    /// How it stands with all names.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let now_ms = now_ms();
        let of = |(name, entry): (&String, &Name)| {
            let until_ms = entry.held().map(|held| held.facts.until_ms);
            standing(name, until_ms, &entry.history(), now_ms)
        };
        self.shared.names.iter().map(of).collect()
    }

    /// Looks after all names until `stop`; each change of `asked` has what failed tried again
    /// sooner.
    pub(crate) async fn run(self, asked: watch::Receiver<()>, stop: watch::Receiver<bool>) {
        let mut workers = JoinSet::new();
        for name in self.shared.names.keys() {
            let shared = Arc::clone(&self.shared);
            workers.spawn(keeper::keep(
                shared,
                name.clone(),
                asked.clone(),
                stop.clone(),
            ));
        }
        while workers.join_next().await.is_some() {}
    }

    /// The answers to a CA that wants to know whether a name is ours.
    pub(crate) fn challenges(&self) -> &Challenges {
        &self.shared.challenges
    }

    /// What to serve for a name: its own certificate; for a stranger's, or none, the first there
    /// is.
    pub(crate) fn certificate(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        match self.held(name) {
            Some(held) => held.key,
            None => Arc::clone(&self.shared.fallback),
        }
    }

    pub(crate) fn is_promised(&self, name: Option<&str>) -> bool {
        self.held(name).is_some_and(|held| held.facts.promised)
    }

    fn held(&self, name: Option<&str>) -> Option<Held> {
        match name.and_then(|name| self.shared.names.get(name)) {
            Some(own) => own.held(),
            // As in the settings: the first is the most important.
            None => self
                .shared
                .settings
                .names
                .iter()
                .find_map(|name| self.shared.names.get(name)?.held()),
        }
    }
}

impl Name {
    fn held(&self) -> Option<Held> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }

    fn hold(&self, held: Held) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }

    fn history(&self) -> History {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.clone()
    }

    fn remember(&self, history: History) {
        *self.history.lock().unwrap_or_else(PoisonError::into_inner) = history;
    }
}

/// A chain that came from a CA, ready for use.
fn held(chain_and_key: &[u8]) -> Result<Held, String> {
    let (key, facts) = cache::parse(chain_and_key, &provider())?;
    Ok(Held { key, facts })
}

fn leaf_facts(key: &CertifiedKey) -> Option<Facts> {
    key.cert.first().and_then(facts)
}

/// Milliseconds since the epoch.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Whether a name can have a certificate of a public CA by ACME: it is no address and has a dot.
#[must_use]
pub fn can_have_certificate(name: &str) -> bool {
    let label = |label: &str| {
        let inside = label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-');
        inside && (1..64).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() < 254
        && name.contains('.')
        && name.split('.').all(label)
        && name.parse::<IpAddr>().is_err()
        && name != "localhost"
        && !name.ends_with(".localhost")
}

#[cfg(test)]
mod tests;
