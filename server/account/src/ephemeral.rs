//! The position of what lives in memory only: presence and typing.

use std::sync::atomic::{AtomicU64, Ordering};

use skerry_core::Dice;
use tokio::sync::watch;

/// A place in the ephemeral order of one run of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EphemeralPos(pub u64);

/// One counter for all ephemeral changes of this run, and a bell for those who wait for them.
///
/// Whoever changes something takes [`next`](Ephemeral::next) while holding the lock of the map
/// that the change goes into; whoever reads takes [`current`](Ephemeral::current) first and the
/// lock after. Then nobody can see a position whose change the map does not hold yet.
pub struct Ephemeral {
    boot: u64,
    counter: AtomicU64,
    bell: watch::Sender<EphemeralPos>,
}

impl Ephemeral {
    /// A counter at 0 under a boot number of its own.
    #[must_use]
    pub fn new(dice: &mut dyn Dice) -> Ephemeral {
        let mut bits = [0u8; 8];
        dice.fill(&mut bits);
        let bell = watch::Sender::new(EphemeralPos(0));
        // 53 bits: the number also goes through JSON.
        let boot = u64::from_be_bytes(bits) >> 11;
        Ephemeral {
            boot,
            counter: AtomicU64::new(0),
            bell,
        }
    }

    /// The number of this run: positions of another run mean nothing.
    #[must_use]
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// The position of the newest change.
    #[must_use]
    pub fn current(&self) -> EphemeralPos {
        EphemeralPos(self.counter.load(Ordering::Acquire))
    }

    /// A position for a change; call it while holding the lock of the map that is changed.
    pub fn next(&self) -> EphemeralPos {
        let pos = EphemeralPos(self.counter.fetch_add(1, Ordering::AcqRel) + 1);
        self.bell.send_modify(|seen| *seen = (*seen).max(pos));
        pos
    }

    /// Told of every change's position; may skip to the newest.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<EphemeralPos> {
        self.bell.subscribe()
    }
}
