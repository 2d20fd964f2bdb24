//! What calls need from elsewhere, with the secrets read from their files.

use std::sync::Arc;

use skerry_client::{Calls, Turn, TurnLogin};
use skerry_core::Clock;
use skerry_remote::http::Client;
use skerry_remote::livekit::{LiveKit, LiveKitSettings};

use crate::config;
use crate::secrets::{self, SecretError};

/// Reads the secrets, and puts together what the configuration asks for.
///
/// # Errors
/// [`SecretError`] for a secret that cannot be read or is empty.
pub(crate) fn open(
    config: &config::Calls,
    client: &Client,
    clock: &Arc<dyn Clock>,
) -> Result<Calls, SecretError> {
    let turn = config.turn.as_ref().map(turn).transpose()?;
    let livekit = match &config.livekit {
        None => None,
        Some(livekit) => {
            let settings = LiveKitSettings {
                url: livekit.url.clone(),
                key: livekit.key.clone(),
                secret: secrets::from_file(&livekit.secret_file)?,
            };
            let transport = Arc::new(client.clone());
            Some(LiveKit::new(settings, transport, Arc::clone(clock)))
        }
    };
    Ok(Calls { turn, livekit })
}

fn turn(turn: &config::Turn) -> Result<Turn, SecretError> {
    let login = match &turn.login {
        config::TurnLogin::Secret(file) => TurnLogin::Secret(secrets::from_file(file)?),
        config::TurnLogin::Fixed {
            username,
            password_file,
        } => TurnLogin::Fixed(username.clone(), secrets::from_file(password_file)?),
    };
    Ok(Turn {
        uris: turn.uris.clone(),
        login,
        ttl_s: turn.ttl.as_secs(),
        guests: turn.guests,
    })
}
