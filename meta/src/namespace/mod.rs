//! The namespace: a pure state machine over a [`Store`](crate::store).
//!
//! `apply(state, entry) → reply` and nothing else changes it. No clock, no randomness, no I/O but
//! the store's: two servers that apply the same entries hold the same bytes.

pub mod command;
pub mod reply;

pub use command::{Command, Entry, Operation, Placement, Target};
pub use reply::{Answer, Reply};
