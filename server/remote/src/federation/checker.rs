//! Is it from whom it says? Signatures of requests and of events, and the hashes of events.

mod pdus;
mod request;

use std::sync::Arc;

use skerry_core::Clock;

use super::keyring::KeyRing;
use super::policy::Policy;

pub use pdus::PduFault;
pub use request::RequestFault;

/// Checks what other servers have signed. A cheap handle: clone it freely.
#[derive(Clone)]
pub struct Checker {
    inner: Arc<Inner>,
}

struct Inner {
    own_name: Arc<str>,
    policy: Policy,
    keys: KeyRing,
    clock: Arc<dyn Clock>,
}

impl Checker {
    /// By these keys.
    #[must_use]
    pub fn new(
        own_name: Arc<str>,
        policy: Policy,
        keys: KeyRing,
        clock: Arc<dyn Clock>,
    ) -> Checker {
        Checker {
            inner: Arc::new(Inner {
                own_name,
                policy,
                keys,
                clock,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
