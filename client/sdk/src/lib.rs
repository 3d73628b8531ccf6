//! The CairnFS client library.
//!
//! ```no_run
//! # async fn run() -> Result<(), cairn_sdk::Error> {
//! use cairn_sdk::{Client, ConnectOptions};
//!
//! let client = Client::connect(ConnectOptions::new(["127.0.0.1:7100"])).await?;
//! client.mkdir("/logs", 0o755).await?;
//! let mut log = client.open_append("/logs/wal").await?;
//! let offset = log.append(&b"first record"[..]).await?; // on every replica's disk when it returns
//! assert_eq!(offset, 0);
//! client.close().await
//! # }
//! ```
//!
//! Every call says in its documentation when what it did is durable. A call that changes
//! something is retried inside the SDK, applied once, until [`ConnectOptions::retry_budget`]
//! is used up; [`Error::kind`] then says what the caller must do.

mod answer;
mod append;
mod attributes;
mod batches;
mod chunk_writer;
mod client;
mod connection;
mod drain;
mod dump;
mod error;
mod explain;
mod fetch;
mod file;
mod freshness;
mod fsck;
mod gather;
mod gc;
mod growth;
mod hedge;
mod lag;
mod listing;
mod load;
mod lock;
mod loss;
mod members;
mod meta;
mod mount;
mod names;
mod open;
mod open_files;
mod options;
mod policy;
mod progress;
mod put;
mod read;
mod remembered;
mod removal;
mod session;
mod settle;
mod share;
mod slow;
mod suspects;
mod tail;
mod target;
mod trace;
mod transaction;
mod tree_listing;
mod trees;
mod watch;
mod wire_stream;
mod xattrs;

pub use append::{Acknowledgement, Appender};
pub use attributes::AttrChange;
pub use client::Client;
pub use drain::Drained;
pub use dump::Dump;
pub use error::{Cause, Error, ErrorKind};
pub use explain::Explained;
pub use file::File;
pub use freshness::Aged;
pub use fsck::{Fsck, FsckOptions};
pub use gc::Gc;
pub use lag::{FileLag, LagFound, LagWalk, TailLag};
pub use listing::{Listing, ListingEntry, ListingOptions};
pub use load::{LoadId, LoadState};
pub use lock::{HeldLock, LockGuard, Locks};
pub use loss::{Loss, ReplicaAnswer, ReplicaContent};
pub use mount::{
    ConflictId, ConflictRule, FileObjects, ListedObjects, MountAccess, MountConflict, MountFigures,
    MountOptions, MountRules, MountStatus, MountSync, ObjectAt, SyncOptions,
};
pub use names::RenameMode;
pub use options::{ConnectOptions, Transport};
pub use policy::PolicyInForce;
pub use put::PutWriter;
pub use removal::Removal;
pub use tail::{Tail, TailEvent};
pub use target::At;
pub use trace::{TraceId, traced};
pub use transaction::Transaction;
pub use tree_listing::{TreeEntry, TreeListing, TreeOptions};
pub use watch::{Change, Watch, WatchEvent, WatchOptions};
pub use xattrs::XattrMode;

pub use cairn_proto::v1::{
    ChunkState, ClusterLag, DataNode, DumpBatch, EndpointAbilities, ExplainedChunk, ExplainedFile,
    ExplainedIntent, ExplainedReplica, FsckFinding, FsckOutcome, FsckProgress, GcAmount, GcReport,
    GroupMember, GroupStatusReply, LostChunk, MetaServer, NodeStatusReply, ProbeReply, RefusedDisk,
    ServerStatusReply, StatFsReply, StatusReply, TakeSnapshotReply, UndecidedChunk,
};
pub use cairn_types as types;
