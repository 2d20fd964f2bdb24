//! What the other side of a connection shows of itself, and whether one would believe it; for
//! looking at one's own set-up. Nothing is sent but the greeting of TLS.

mod certificate;
mod probe;

pub use certificate::{Condition, Roots, judge, read};
pub use probe::{PATIENCE, Seen, Unseen, in_time, look};
