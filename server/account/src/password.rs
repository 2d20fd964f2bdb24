//! Hashing passwords: argon2id, on as many threads at once as there are cores and no more.

use std::sync::{Arc, OnceLock};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use skerry_core::DiceSource;
use skerry_store::blocking;
use tokio::sync::Semaphore;

use crate::guesses::Guesses;
use crate::{AccountError, PasswordCost};

/// How many may wait for a hash at once before the next is told to come back.
const MAX_WAITING: usize = 256;
/// Longest password, in bytes: longer ones only cost time.
pub(crate) const MAX_PASSWORD_BYTES: usize = 512;

/// Hashes and checks passwords.
pub(crate) struct Hasher {
    argon: Arc<Argon2<'static>>,
    cores: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    dice: Arc<dyn DiceSource>,
    /// Wrong passwords, by account.
    pub(crate) guesses: Guesses,
    /// A hash of nothing in particular, checked where there is no account, so that the time of
    /// the answer does not tell.
    decoy: Arc<OnceLock<String>>,
}

impl Hasher {
    /// A hasher of that cost.
    pub(crate) fn new(
        cost: PasswordCost,
        dice: Arc<dyn DiceSource>,
    ) -> Result<Hasher, AccountError> {
        let (memory_kib, passes) = match cost {
            PasswordCost::Default => (19 * 1024, 2),
            PasswordCost::Minimal => (Params::MIN_M_COST, Params::MIN_T_COST),
        };
        let params = Params::new(memory_kib, passes, 1, None).map_err(failed)?;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Hasher {
            argon: Arc::new(Argon2::new(Algorithm::Argon2id, Version::V0x13, params)),
            cores: Arc::new(Semaphore::new(cores)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            dice,
            guesses: Guesses::default(),
            decoy: Arc::new(OnceLock::new()),
        })
    }

    /// The PHC string for a password.
    pub(crate) async fn hash(&self, password: String) -> Result<String, AccountError> {
        if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
            return Err(AccountError::Invalid(
                "The password must be 1 to 512 bytes long",
            ));
        }
        let (argon, dice) = (self.argon.clone(), self.dice.clone());
        self.pooled(move || make(&argon, &*dice, password.as_bytes()))
            .await?
    }

    /// Whether `password` is the one that `phc` was made from; takes as long without a `phc`.
    pub(crate) async fn verify(
        &self,
        password: String,
        phc: Option<String>,
    ) -> Result<bool, AccountError> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Ok(false);
        }
        let (argon, dice, decoy) = (self.argon.clone(), self.dice.clone(), self.decoy.clone());
        self.pooled(move || {
            let known = phc.is_some();
            let phc = match (phc, decoy.get()) {
                (Some(phc), _) => phc,
                (None, Some(decoy)) => decoy.clone(),
                (None, None) => {
                    let made = make(&argon, &*dice, b"decoy")?;
                    decoy.get_or_init(|| made).clone()
                }
            };
            Ok(argon
                .verify_password(password.as_bytes(), phc.as_str())
                .is_ok()
                && known)
        })
        .await?
    }

    async fn pooled<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AccountError> {
        let busy = |_| AccountError::Busy {
            retry_after_ms: 2_000,
        };
        let waiting = self.waiting.clone().try_acquire_owned().map_err(busy)?;
        let core = self.cores.clone().acquire_owned().await.map_err(failed)?;
        let done = blocking(move || {
            let _permits = (core, waiting);
            work()
        });
        Ok(done.await?)
    }
}

fn make(
    argon: &Argon2<'_>,
    dice: &dyn DiceSource,
    password: &[u8],
) -> Result<String, AccountError> {
    let mut salt = [0u8; 16];
    dice.dice().fill(&mut salt);
    Ok(argon
        .hash_password_with_salt(password, &salt)
        .map_err(failed)?
        .to_string())
}

fn failed(error: impl std::fmt::Display) -> AccountError {
    AccountError::Hashing(error.to_string())
}
