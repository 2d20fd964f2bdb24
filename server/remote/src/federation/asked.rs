//! What is remembered of asking other servers, shared by all handles; all of it may be lost.

use std::sync::Arc;

use skerry_core::Clock;
use skerry_store::Lanes;

use super::ask::Profile;
use super::budget::Budgets;
use super::kept::Kept;
use super::spaces::{Known, SHOWN};

/// How many holes are remembered that nobody could fill.
const BARREN: usize = 4_096;
/// How many profiles are kept.
const PROFILES: usize = 500;

/// What is remembered of asking other servers.
pub(crate) struct Asked {
    /// One at a time goes into a room through another server.
    pub(super) entering: Lanes<String>,
    /// One at a time fetches a room's history.
    pub(super) filling: Lanes<String>,
    /// What each server may still make us fetch.
    pub(super) budgets: Budgets,
    /// Holes that nobody could fill.
    pub(super) barren: Kept<()>,
    /// Profiles of users of other servers.
    pub(super) profiles: Kept<Arc<Profile>>,
    /// Rooms as other servers show them; nothing: none does.
    pub(super) shown: Kept<Option<Known>>,
}

impl Asked {
    /// Nothing yet.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Asked {
        Asked {
            entering: Lanes::new(),
            filling: Lanes::new(),
            budgets: Budgets::new(clock),
            barren: Kept::new(BARREN),
            profiles: Kept::new(PROFILES),
            shown: Kept::new(SHOWN),
        }
    }
}
