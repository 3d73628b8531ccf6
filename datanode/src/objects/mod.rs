//! Objects of mounted buckets: written, deleted, and what their endpoints can do, found out.
//!
//! ```text
//! Put         put.rs       one object brought to what the namespace says: a PUT, a copy by the endpoint,
//!                          or parts (parts.rs), as way.rs chooses; look.rs: is it ours that is there?
//!                          check.rs: is it what was sent?
//! plan.rs     which ranges are copied and which are sent            (pure)
//! Order       order.rs     the leader's work, checked; terms.rs: what the endpoint is relied on for
//! Content     content.rs   the bytes: of chunks, of other objects, zeros
//! delete.rs   an object goes while it is the version that is known
//! probe.rs    what an endpoint can do, tried
//! ```
//!
//! Every write is conditional on the version that the namespace knows. An object carries the intent that wrote it
//! (`docs/FORMAT.md`, "What our objects carry"), so that an answer that was lost is found again.

#[cfg(test)]
mod bench;
mod buffers;
mod check;
mod content;
mod delete;
mod error;
#[cfg(test)]
mod fault_tests;
mod look;
mod order;
mod parts;
mod plan;
mod probe;
mod put;
#[cfg(test)]
mod put_tests;
mod terms;
mod way;

pub use buffers::Buffers;
pub use content::Chunks;
pub use delete::delete;
pub use error::ObjectError;
pub use look::{Found, ObjectVersion};
pub use order::Order;
pub use probe::probe;
pub use put::{Deleted, Put, PutDone, PutKind};
pub use terms::Terms;

/// The name of user metadata under which an object carries who wrote it: a cluster and an intent.
pub const INTENT: &str = "cairn-intent";
/// Below a mount's prefix: objects that are there for a moment.
pub const TEMPORARY: &str = ".cairn-temporary/";
