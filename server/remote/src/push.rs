//! Notifications on their way to people's devices.
//!
//! [`PushFollower`] follows the log: for each new event it asks the push rules of those users
//! concerned who have pushers, and leaves a row in the outbox for each notification, in the commit
//! that moves its cursor. While a user is attentive, theirs are held back for a moment
//! ([`HeldPushes`]), and dropped if read meanwhile. [`Pushes`] sends what is due to push gateways
//! (spec, push gateway API) and to the push services of browsers and phones (MSC4174, RFC 8030,
//! 8291, 8292), with everything looked up only then.

mod crypt;
mod follow;
mod gateway;
mod held;
mod lookup;
mod notification;
mod send;
mod web;

pub use follow::PushFollower;
pub use held::HeldPushes;
pub use send::Pushes;
pub use web::{VapidKey, WebPushError};

/// How long notifications are held back while their user is active, in ms. A client on which the
/// room is open says within a moment that it was read.
pub const HOLD_MS: u64 = 2_000;
/// How long a notification is worth sending, in ms.
const WORTH_MS: u64 = 24 * 3_600_000;
