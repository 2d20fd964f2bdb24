//! What other servers may send, however broken: each target takes any bytes, and panics where
//! something is not as it has to be. Tests drive them with changed samples (`Mutator`) on any
//! toolchain; `server/testkit/fuzz` drives them with cargo-fuzz.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod mutate;
mod samples;
mod targets;

pub use mutate::Mutator;
pub use samples::samples;
pub use targets::{key_answer, pdu, send_join, transaction, well_known, x_matrix};

/// A target.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: [(&str, Target); 6] = [
    ("pdu", pdu),
    ("transaction", transaction),
    ("send_join", send_join),
    ("x_matrix", x_matrix),
    ("well_known", well_known),
    ("key_answer", key_answer),
];
