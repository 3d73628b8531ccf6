//! The namespace: a pure state machine over a [`Store`](crate::store).
//!
//! `apply(state, entry) → reply` and nothing else changes it. No clock, no randomness, no I/O but
//! the store's: two servers that apply the same entries hold the same bytes.
//!
//! ```text
//! apply → ops/<verb> → tree, content, detach, chunks, disks → state → keys → store
//! read  → walk                                              → keys → store
//! ```

pub mod apply;
mod bounds;
pub mod check;
mod chunks;
pub mod command;
mod content;
mod detach;
mod disks;
pub mod error;
pub mod jobs;
pub mod operation;
mod ops;
pub mod read;
pub mod reply;
mod state;
mod tree;
mod walk;

pub use apply::{apply, apply_within};
pub use bounds::Bounds;
pub use command::{Command, Entry};
pub use error::NamespaceError;
pub use operation::{Operation, Placement, Target};
pub use ops::replica::STRIKE_MAX;
pub use ops::session::clipped;
pub use reply::{Answer, Reply};
