//! The append protocol as four small models, and the checker that explores them.
//!
//! * [`one_chunk`]: one chunk on two or three replicas, under every order of append, forward,
//!   sync, acknowledgement, crash, lost tail, rot, fence, bring-up and seal (R2 to R6, R8, R9).
//! * [`mod@file`]: a file over two or three chunks, with planned and fenced rolls, activation,
//!   retries, two writers, rival `open_exclusive` and lengths (R1, R9, R10, R11).
//! * [`grant`]: chunks that share one bound on space: activation, renewal, seal (R13).
//! * [`repair`]: a sealed chunk: who cuts, keeps, deletes and copies it, and its way to S3 (R8,
//!   R12).
//!
//! [`explore`] walks every reachable state breadth first, checks every [`Invariant`] in each
//! of them, and hands back the shortest trace to the first state that breaks one. Each
//! [`Mutation`] is one deliberate bug; the tests demand that every one of them is caught.
//!
//! The crate depends on nothing, and nothing but its own tests depends on it: it says what the
//! protocol is, not how a data node does it.

mod explore;
pub mod file;
mod fingerprint;
pub mod grant;
mod invariant;
mod log;
mod mutation;
pub mod one_chunk;
pub mod repair;
mod visited;

pub use explore::{Explored, Model, Violation, explore};
pub use fingerprint::fingerprint;
pub use invariant::Invariant;
pub use log::{Log, Record};
pub use mutation::Mutation;
