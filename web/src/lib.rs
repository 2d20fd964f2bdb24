//! What a browser finds at the server's own address: a web client's build (Element Web, Cinny,
//! Hydrogen), the configuration it starts with, and a welcome page.
//!
//! It deliberately knows no Matrix and no database: it is told names, addresses and the state of
//! registration. It trusts no archive: what is unpacked stays in its own folder, and what is
//! served never leaves it.
//!
//! Start reading at [`Site`], then `files.rs` (what is served of a build, and how long it may be
//! kept) and `install.rs` (how a build gets here, and back).

mod files;
mod install;
mod release;
mod runtime_config;
mod signature;
mod site;
mod welcome;

pub use install::{InstallError, Installed, Shelf};
pub use release::{Release, known, known_versions};
pub use signature::{SignatureError, check_signature};
pub use site::{Registration, Settings, Site, page};
