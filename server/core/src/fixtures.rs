//! For tests of this and other crates: a clock that stands still, dice that fall the same way each
//! time, and rooms written as a few lines of text. Behind the `fixtures` feature.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Tests want to know at once.

mod room;
#[cfg(test)]
mod tests;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::keys::SigningKey;
use crate::{Clock, Dice, DiceSource};

pub use room::{RoomFixture, SERVER, user};

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct FakeClock(AtomicU64);

impl FakeClock {
    /// Where the clock stands at first: some moment in 2026.
    pub const START_MS: u64 = 1_790_000_000_000;

    /// Stands at [`Self::START_MS`].
    #[must_use]
    pub fn new() -> Self {
        FakeClock(AtomicU64::new(Self::START_MS))
    }

    /// Sets it, to milliseconds since the Unix epoch.
    pub fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }

    /// Moves it forward.
    pub fn advance(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Default for FakeClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for FakeClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Dice that fall the same way for the same seed (SplitMix64: even, and in no way secret).
#[derive(Clone, Debug)]
pub struct SeededDice(u64);

impl SeededDice {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        SeededDice(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which must not be 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n
    }
}

impl Dice for SeededDice {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.draw().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

/// Hands out [`SeededDice`], each with a seed drawn from its own.
#[derive(Debug)]
pub struct SeededSource(Mutex<SeededDice>);

impl SeededSource {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        SeededSource(Mutex::new(SeededDice::new(seed)))
    }
}

impl DiceSource for SeededSource {
    fn dice(&self) -> Box<dyn Dice> {
        Box::new(SeededDice::new(self.0.lock().unwrap().draw()))
    }
}

/// The signing key of a test server: always the same for the same server name.
#[must_use]
pub fn signing_key(server: &str) -> SigningKey {
    let seed = server
        .bytes()
        .fold(7_u64, |seed, b| seed.wrapping_mul(31) + u64::from(b));
    let mut bytes = [0; 32];
    SeededDice::new(seed).fill(&mut bytes);
    SigningKey::from_seed(&bytes, "test").unwrap()
}
