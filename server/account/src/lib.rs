//! People and their devices: accounts, log-in, tokens, profiles, account data, push rules,
//! presence, transaction ids; and, in [`e2e`], what end-to-end encryption keeps on a server.
//!
//! It deliberately knows no room: a room is a number here, and what a change means for the
//! rooms of a user is left to the crates above, as jobs ([`job`]). It knows no HTTP either:
//! refusals are [`AccountError`]s that the door translates.
//!
//! Start reading at [`Accounts`], then `tx.rs` (the one shape of every change), `session.rs`
//! (what happens with the token of each request) and `login.rs`.

pub mod address;
mod admin;
pub mod appservice;
mod carry;
pub mod data;
mod device;
pub mod e2e;
mod ephemeral;
mod error;
mod facade;
pub mod filter;
mod guesses;
mod guest;
pub mod hold;
pub mod ignored;
mod invite_rule;
pub mod job;
mod letters;
mod login;
mod login_token;
mod openid;
mod password;
pub mod presence;
pub mod profile;
pub mod push_rule;
pub mod pusher;
mod register;
mod registration_token;
mod secret;
mod service;
mod session;
mod settings;
mod shared_secret;
mod tag;
mod tx;
pub mod txn;
mod uia;
pub mod user;
mod username;
pub mod validation;

pub use admin::UserListing;
pub use carry::Replaced;
pub use device::DeviceView;
pub use ephemeral::{Ephemeral, EphemeralPos};
pub use error::AccountError;
pub use facade::Accounts;
pub use hold::{Hold, HoldChange};
pub use invite_rule::{InviteRule, invite_rule};
pub use login::{Grant, LoginName, LoginRequest, PasswordLogin};
pub use openid::OpenIdToken;
pub use presence::{PresenceAbroad, PresenceBoard, PresenceState, PresenceView, SyncingGuard};
pub use register::{NewDevice, Registered, Registration};
pub use registration_token::TokenLimits;
pub use secret::TokenHash;
pub use session::Session;
pub use settings::{AccountSettings, PasswordCost, RegistrationSettings, Terms};
pub use shared_secret::{SharedSecretRegistration, hmac_sha1};
pub use txn::{TxnAnswer, TxnKey};
pub use uia::{Shown, Stage, UiaPass, UiaScope};
pub use username::localpart;
