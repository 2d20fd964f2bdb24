//! How long to leave alone what fails.

use skerry_core::Dice;

/// How the pauses between tries grow: doubled each time, from the first to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause, in ms.
    pub first_ms: u64,
    /// The longest pause, in ms.
    pub longest_ms: u64,
}

impl Backoff {
    /// No pause is longer, however it is set, in ms: a day.
    pub const LONGEST_MS: u64 = 24 * 3_600_000;

    /// The pause after so many failures in a row, in ms. A quarter of it is left to chance, so
    /// that those who failed together do not come back together.
    #[must_use]
    pub fn pause_ms(&self, failures: u32, dice: &mut dyn Dice) -> u64 {
        let doubled = 1u64
            .checked_shl(failures.saturating_sub(1))
            .unwrap_or(u64::MAX);
        let longest = self.longest_ms.min(Self::LONGEST_MS);
        let most = self.first_ms.saturating_mul(doubled).min(longest);
        let mut chance = [0; 2];
        dice.fill(&mut chance);
        let chance = u64::from(u16::from_be_bytes(chance));
        most - most / 4 * chance / u64::from(u16::MAX)
    }
}

impl Default for Backoff {
    /// From two seconds to an hour.
    fn default() -> Backoff {
        Backoff {
            first_ms: 2_000,
            longest_ms: 3_600_000,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    struct Fixed(u8);

    impl Dice for Fixed {
        fn fill(&mut self, buffer: &mut [u8]) {
            buffer.fill(self.0);
        }
    }

    #[test]
    fn pauses_double_and_end() {
        let backoff = Backoff::default();
        let most = |failures| backoff.pause_ms(failures, &mut Fixed(0));
        assert_eq!([most(1), most(2), most(3)], [2_000, 4_000, 8_000]);
        assert_eq!([most(12), most(70)], [3_600_000, 3_600_000]);
        assert_eq!(backoff.pause_ms(1, &mut Fixed(0xff)), 1_500);
    }
}
