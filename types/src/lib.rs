//! The vocabulary of CairnFS: ids, names, attributes, limits, policies, extents,
//! and [`FsError`] with its one errno table.
//!
//! No async and no I/O here, except the two seams through which the rest of the
//! system reaches the machine: [`Clock`] and [`Random`].

pub mod attr;
pub mod chunk;
pub mod clock;
pub mod codec;
pub mod credentials;
pub mod domain;
pub mod error;
pub mod extent;
pub mod ids;
pub mod level;
pub mod limits;
pub mod lock;
pub mod name;
pub mod path;
pub mod policy;
pub mod random;

pub use attr::{DeviceNumber, FileKind, Inode, TailRef, Timestamp};
pub use chunk::{Chain, ReplicaHealth, WriterMark};
pub use clock::{Clock, SystemClock};
pub use credentials::Credentials;
pub use domain::is_domain_name;
pub use error::{FoundInode, FsError};
pub use extent::{Extent, ExtentSource, ObjectKey};
pub use ids::{
    ChunkId, ClusterId, DiskId, Epoch, Generation, GroupId, Incarnation, InodeId, IntentId, LogIndex,
    MountId, NodeId, PackId, Sequence, SessionId, WriterId,
};
pub use level::{FEATURE_LEVEL, FEATURE_LEVEL_LOWEST, FeatureLevel, FeatureLevels};
pub use lock::{LockKind, LockMode, LockOwner, LockRange};
pub use name::Name;
pub use path::FsPath;
pub use policy::{Ack, Persist, Policy};
pub use random::{Random, SystemRandom};
