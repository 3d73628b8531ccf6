//! The append protocol between data nodes: one task orders the appends of each open chunk a disk here
//! is the primary of; a stream from each primary brings its records to the secondaries.

pub mod committed;
pub mod context;
pub mod contexts;
pub mod extend;
pub mod grant;
pub mod healthy;
pub mod link;
pub mod mend;
pub mod open;
pub mod primaries;
pub mod primary;
pub mod record;
pub mod refusal;
pub mod seal;
pub mod secondary;
pub mod spare;
pub mod ticket;
pub mod writers;

mod alarm;
mod close;
mod pull;
mod slow;
mod take;

pub use context::Context;
pub use contexts::Contexts;
pub use primaries::Primaries;
