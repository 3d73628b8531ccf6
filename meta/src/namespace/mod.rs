//! The namespace: a pure state machine over a [`Store`](crate::store).
//!
//! `apply(state, entry) → reply` and nothing else changes it. No clock, no randomness, no I/O but
//! the store's: two servers that apply the same entries hold the same bytes.
//!
//! ```text
//! apply → ops/<verb> → tree, content, share, detach, chunks, disks, permissions, acl, set_ids, xattrs, locks, holds, events, merging, mounted → state → last_directory → walk → keys → store
//! read  → walk                                              → keys → store
//! ```

mod acl;
pub mod apply;
mod bounds;
pub mod check;
mod chunks;
pub mod command;
mod content;
mod detach;
mod disks;
pub mod error;
pub mod events;
pub mod facts;
pub mod holds;
pub mod jobs;
pub mod lag;
mod last_directory;
mod level;
pub mod locks;
mod memory;
pub mod merging;
mod mounted;
pub mod mounting;
mod names;
pub mod operation;
mod ops;
mod permissions;
pub mod precondition;
pub mod read;
pub mod reply;
mod set_ids;
mod share;
pub mod split;
mod state;
pub mod subtree;
mod tree;
mod walk;
mod xattrs;

pub use apply::{apply, apply_after, apply_within};
pub use bounds::Bounds;
pub use command::{Command, Entry};
pub use error::NamespaceError;
pub use memory::Memory;
pub use merging::MERGE_EXTENTS_MAX;
pub use operation::{Operation, Placement, Target, TimeChange, XattrMode};
pub use ops::replica::STRIKE_MAX;
pub use ops::session::clipped;
pub use precondition::{Precondition, Wanted};
pub use reply::{Answer, Reply};
pub use xattrs::{XattrSpace, space as xattr_space};
