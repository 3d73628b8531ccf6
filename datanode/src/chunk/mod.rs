//! Chunk replicas on one disk: the replica state machine of the append protocol over the segments.
//!
//! [`ChunkStore`] is the way in. One thread owns all state and writes; it takes requests in order
//! from a bounded queue, writes them as one batch and completes them after one fdatasync. Readers go
//! to the disk directly.

mod alarms;
mod batch;
pub mod chain;
mod change;
mod checked;
mod completion;
mod engine;
mod error;
mod evict;
mod heat;
mod inspect;
mod mend;
mod policy;
mod queue;
mod recover;
mod recycle;
mod replica;
mod request;
mod seal;
mod space;
mod spec;
mod state;
mod stats;
mod store;
mod table;
mod writer;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod flip_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod mend_tests;
#[cfg(test)]
mod recycle_tests;
#[cfg(test)]
mod replica_tests;
#[cfg(test)]
mod scaffold;
#[cfg(test)]
mod space_tests;

pub use chain::{ChainedHeader, chain_next};
pub use completion::{Callback, Completion};
pub use error::{ReadError, Retired, StoreError};
pub use inspect::{Examined, Faults, SegmentWalk};
pub use queue::QueuedBytes;
pub use recover::OpenReport;
pub use request::CacheKey;
pub use space::Fill;
pub use spec::{
    AppendRecord, ChunkSpec, ChunkView, Durable, FenceAnswer, FenceSpec, OPAQUE_BYTES_MAX, ReplicaPhase,
    SealedOutcome, SealedSpec,
};
pub use stats::StoreStats;
pub use store::{ChunkStore, StoreOptions};
