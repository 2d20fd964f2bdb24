//! The real time and real chance.

use std::time::{SystemTime, UNIX_EPOCH};

use skerry_core::{Clock, Dice, DiceSource};

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The kernel's random numbers.
pub struct SystemDice;

struct Kernel;

impl Dice for Kernel {
    fn fill(&mut self, buffer: &mut [u8]) {
        if let Err(error) = getrandom::fill(buffer) {
            // Without random numbers every secret could be guessed: better to end.
            tracing::error!(%error, "the kernel gives no random numbers");
            std::process::abort();
        }
    }
}

impl DiceSource for SystemDice {
    fn dice(&self) -> Box<dyn Dice> {
        Box::new(Kernel)
    }
}
