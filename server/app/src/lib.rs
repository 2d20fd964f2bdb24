//! The program: configuration, wiring, start and stop, workers, the command line.
//!
//! It is the one place that knows every facade, and it deliberately knows nothing else: no rule
//! of Matrix, no table, no shape of a request. Start reading at [`House`] (how everything is put
//! together), then `serve.rs` (how it starts and ends) and `cli.rs`.

mod alarm;
mod allocator;
mod authenticator;
mod calls;
mod cli;
mod clock;
pub mod config;
mod doctor;
mod health;
mod house;
mod logging;
mod media;
mod metrics;
mod outgoing;
mod pages;
mod policing;
mod references;
mod secrets;
mod serve;
mod workers;
mod yaml;

pub use authenticator::{NoTokens, TokenAuthenticator};
pub use cli::{main, media_prune};
pub use clock::{SystemClock, SystemDice};
pub use health::{Health, ROUTES};
pub use house::{House, MemoryDivision, StartError};
pub use metrics::Gauges;
pub use outgoing::Outgoing;
pub use workers::Workers;
