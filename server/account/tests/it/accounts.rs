//! Accounts, devices and what is kept for them.

mod data;
mod devices;
mod home;
mod login;
mod presence;
mod profile;
mod push_rules;
mod register;
mod txn;
mod validation;
