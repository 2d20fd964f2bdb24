//! What calls need from elsewhere: relays for media, a LiveKit server, events sent later.

use std::path::PathBuf;
use std::time::Duration;

use super::raw::{RawConfig, RawLiveKit, RawTurn};
use super::{ConfigError, units};

/// What calls need.
#[derive(Clone, Debug)]
pub struct Calls {
    /// The longest that an event may be delayed.
    pub max_delay: Duration,
    /// Relays, if there are any.
    pub turn: Option<Turn>,
    /// The LiveKit server, if there is one.
    pub livekit: Option<LiveKit>,
}

/// Relays for calls between two.
#[derive(Clone, Debug)]
pub struct Turn {
    /// `turn:` and `turns:` URIs.
    pub uris: Vec<String>,
    /// How clients log in there.
    pub login: TurnLogin,
    /// For how long a login is good.
    pub ttl: Duration,
    /// Whether guests get one.
    pub guests: bool,
}

/// How clients log in to a relay.
#[derive(Clone, Debug)]
pub enum TurnLogin {
    /// By a name and a password made from a secret shared with the relay, good for a while.
    Secret(PathBuf),
    /// All by the same name and password.
    Fixed {
        /// The name.
        username: String,
        /// The file with the password.
        password_file: PathBuf,
    },
}

/// A LiveKit server.
#[derive(Clone, Debug)]
pub struct LiveKit {
    /// Where clients reach it: `wss://..` or `ws://..`.
    pub url: String,
    /// The name of the key.
    pub key: String,
    /// The file with the key's secret.
    pub secret_file: PathBuf,
}

/// Reads and checks the sections about calls.
pub(super) fn check(raw: &RawConfig) -> Result<Calls, ConfigError> {
    let max_delay = duration("delayed_events.max_delay", &raw.delayed_events.max_delay)?;
    Ok(Calls {
        max_delay,
        turn: turn(&raw.turn)?,
        livekit: livekit(&raw.livekit)?,
    })
}

fn duration(key: &str, text: &str) -> Result<Duration, ConfigError> {
    units::duration(text).map_err(|e| ConfigError(format!("{key}: {e}")))
}

fn turn(raw: &RawTurn) -> Result<Option<Turn>, ConfigError> {
    if raw.uris.is_empty() {
        return Ok(None);
    }
    for uri in &raw.uris {
        if !["turn:", "turns:", "stun:", "stuns:"]
            .iter()
            .any(|scheme| uri.starts_with(scheme))
        {
            let what = format!("turn.uris: \"{uri}\" does not start with turn: or turns:");
            return Err(ConfigError(what));
        }
    }
    let secret = !raw.shared_secret_file.is_empty();
    let fixed = !raw.username.is_empty() && !raw.password_file.is_empty();
    let login = match (secret, fixed) {
        (true, _) => TurnLogin::Secret(PathBuf::from(&raw.shared_secret_file)),
        (false, true) => TurnLogin::Fixed {
            username: raw.username.clone(),
            password_file: PathBuf::from(&raw.password_file),
        },
        (false, false) => {
            let what = "turn: with uris, shared_secret_file is needed, or username and \
                        password_file";
            return Err(ConfigError(what.into()));
        }
    };
    let ttl = duration("turn.ttl", &raw.ttl)?;
    if ttl < Duration::from_secs(60) {
        return Err(ConfigError("turn.ttl: at least a minute is needed".into()));
    }
    Ok(Some(Turn {
        uris: raw.uris.clone(),
        login,
        ttl,
        guests: raw.guests,
    }))
}

fn livekit(raw: &RawLiveKit) -> Result<Option<LiveKit>, ConfigError> {
    if raw.url.is_empty() {
        return Ok(None);
    }
    let url = raw.url.trim_end_matches('/').to_owned();
    if !(url.starts_with("wss://") || url.starts_with("ws://")) {
        let what = "livekit.url: it has to start with wss:// or ws://";
        return Err(ConfigError(what.into()));
    }
    if raw.key.is_empty() || raw.secret_file.is_empty() {
        let what = "livekit: with url, key and secret_file are needed";
        return Err(ConfigError(what.into()));
    }
    Ok(Some(LiveKit {
        url,
        key: raw.key.clone(),
        secret_file: PathBuf::from(&raw.secret_file),
    }))
}
