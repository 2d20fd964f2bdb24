//! End-to-end encryption on a real store.

mod abroad;
mod backup;
mod claim;
mod cross;
mod house;
mod keys;
mod to_device;
mod trimmed;
