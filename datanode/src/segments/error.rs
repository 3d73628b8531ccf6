//! Why the log refused.

use cairn_types::DiskId;

use crate::disk::DiskError;

/// A write or an fsync failed: the log writes no more (append protocol R7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} failed with errno {errno}")]
pub struct WriteFailure {
    /// What failed.
    pub operation: &'static str,
    /// The errno.
    pub errno: i32,
}

/// Why the log refused. Nothing was written, but for `Failed`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// No segment is free for a record of this privilege.
    #[error("no segment is free")]
    NoSpace,
    /// The record does not fit into a segment.
    #[error("the record does not fit into a segment")]
    TooLarge,
    /// The log writes no more.
    #[error("the disk is retired for writing: {0}")]
    Failed(#[from] WriteFailure),
    /// Segment sizes or counts are out of range.
    #[error("a segment has 32 KiB to 2 GiB in multiples of 4 KiB, and a store at least 6 of them")]
    Options,
    /// A segment belongs to another disk.
    #[error("a segment belongs to {found}, not to {wanted}")]
    ForeignDisk {
        /// Written in the segment.
        found: DiskId,
        /// Asked for.
        wanted: DiskId,
    },
    /// A newer build wrote a segment.
    #[error("a segment's format {found} is newer than this build reads ({known})")]
    NewerFormat {
        /// Written in the segment.
        found: u16,
        /// What this build reads.
        known: u16,
    },
    /// The segments have another size than the one asked for.
    #[error("the segments have {found} bytes, not {wanted}")]
    SegmentSize {
        /// On the disk.
        found: u64,
        /// Asked for.
        wanted: u64,
    },
    /// A segment's file is missing.
    #[error("the file of segment slot {slot} is missing")]
    Missing {
        /// The slot.
        slot: u32,
    },
    /// The thread that writes could not be started.
    #[error("the writer's thread could not be started: errno {errno}")]
    Thread {
        /// The errno.
        errno: i32,
    },
    /// The disk failed while the log was opened.
    #[error(transparent)]
    Disk(DiskError),
}

impl From<&DiskError> for WriteFailure {
    fn from(error: &DiskError) -> Self {
        Self { operation: error.operation(), errno: error.errno() }
    }
}
