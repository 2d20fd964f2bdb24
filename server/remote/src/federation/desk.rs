//! This server as the policy server of rooms whose operator chose that: it signs what the
//! operator's rules let pass (server-server API, "Policy Servers").

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use skerry_core::StoredEvent;
use skerry_core::keys::SigningKey;
use skerry_core::policy::{Grounds, POLICY, Rules, is_exempt, recommend};
use skerry_room::{PolicyAnswer, PolicyRefusal};

/// How long a file that an event names may take to come, if it is not here.
const FILE_PATIENCE: Duration = Duration::from_secs(5);

/// Finds the bytes behind an `mxc://` address.
pub trait MediaHashes: Send + Sync {
    /// The SHA-256 and BLAKE3 of a file's bytes; nothing where it cannot be had in time.
    fn hashes<'a>(
        &'a self,
        mxc: &'a str,
        patience: Duration,
    ) -> BoxFuture<'a, Option<Vec<[u8; 32]>>>;
}

/// What the operator of a policy server chose.
#[derive(Clone, Debug)]
pub struct DeskOptions {
    /// The ids of the rooms that it serves; `*` is every room that this server is in.
    pub rooms: Vec<String>,
    /// What it does not sign.
    pub rules: Rules,
}

/// This server as a policy server.
pub struct PolicyDesk {
    rooms: Vec<String>,
    rules: Rules,
    key: SigningKey,
    media: OnceLock<Arc<dyn MediaHashes>>,
}

impl PolicyDesk {
    /// Signs with this key, whose id is that of policy servers' keys.
    #[must_use]
    pub fn new(options: DeskOptions, key: SigningKey) -> PolicyDesk {
        PolicyDesk {
            rooms: options.rooms,
            rules: options.rules,
            key,
            media: OnceLock::new(),
        }
    }

    /// From now on, files are looked at through this. Only the first one counts.
    pub fn look_at_media_by(&self, media: Arc<dyn MediaHashes>) {
        // Set twice only by a mistake of whoever puts the house together.
        let _ = self.media.set(media);
    }

    /// The public key, which rooms name in `m.room.policy`.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.key.public_key()
    }

    /// Whether it serves a room.
    #[must_use]
    pub fn serves(&self, room_id: &str) -> bool {
        self.rooms.iter().any(|room| room == "*" || room == room_id)
    }

    /// What who asks is told where nobody signs: there is no desk, or the room is not served.
    #[must_use]
    pub fn no_desk() -> PolicyRefusal {
        PolicyRefusal::Said {
            status: 404,
            errcode: "M_NOT_FOUND".to_owned(),
            error: "This server is not the policy server of the room".to_owned(),
        }
    }

    /// Signs an event, if the rules let it pass. Its content hash and the origin's signature were
    /// checked before, or it was made here.
    ///
    /// # Errors
    /// Why not.
    pub async fn sign(&self, event: &StoredEvent) -> PolicyAnswer {
        if !self.serves(event.room_id()) {
            return Err(PolicyDesk::no_desk());
        }
        if is_exempt(event) {
            return Err(forbidden(&format!("{POLICY} needs no signature")));
        }
        let refused = |grounds: Grounds| forbidden(grounds.as_str());
        if let Some(grounds) = self.rules.refuse(event) {
            return Err(refused(grounds));
        }
        self.check_files(event).await.map_err(refused)?;
        recommend(event, &self.key).map_err(|error| forbidden(&error.to_string()))
    }

    /// Looks at the files that an event names. A message with one that cannot be had is not
    /// signed; state is, for an old picture of somebody must not keep them out.
    async fn check_files(&self, event: &StoredEvent) -> Result<(), Grounds> {
        for mxc in self.rules.files_of(event)? {
            let hashes = match self.media.get() {
                Some(media) => media.hashes(&mxc, FILE_PATIENCE).await,
                None => None,
            };
            let refused = match hashes {
                Some(hashes) => self.rules.refuse_file(&hashes),
                None => Some(Grounds::Media).filter(|_| !event.is_state()),
            };
            if let Some(grounds) = refused {
                return Err(grounds);
            }
        }
        Ok(())
    }
}

fn forbidden(error: &str) -> PolicyRefusal {
    PolicyRefusal::Said {
        status: 400,
        errcode: "M_FORBIDDEN".to_owned(),
        error: error.to_owned(),
    }
}
