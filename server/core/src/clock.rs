//! Time and chance as arguments: the core never reads a clock or a random source by itself.

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
}

/// A source of random bytes.
pub trait Dice: Send {
    /// Fills the whole buffer with random bytes.
    fn fill(&mut self, buffer: &mut [u8]);
}

/// Hands out a source of random bytes to whoever needs one; cheap, and safe to share.
pub trait DiceSource: Send + Sync {
    /// A source for one operation.
    fn dice(&self) -> Box<dyn Dice>;
}
