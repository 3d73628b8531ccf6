//! [`Budget`]: how the memory that a node may use for buffers (`memory_mib`) is shared out.
//!
//! | what | at 512 MiB |
//! |---|---|
//! | packs on their way up, 24 MiB each | 2 |
//! | changes that wait for the store's writer | 128 MiB |
//! | appends in flight at their primaries | 64 MiB |
//! | blocks of 1 MiB being fetched from S3 | 32 |
//! | names of directories being imported | 200 MiB |
//! | objects on their way to mounts, a part of 16 MiB always | 24 MiB |
//!
//! What is left is slack, for what grows by doubling. With less memory all shrink alike, once the
//! packs have theirs. With more, more blocks are fetched at once; the others stay as they are, since
//! longer queues only make everyone wait longer.

const MIB: u64 = 1 << 20;
/// Of a pack that goes up, three parts of 8 MiB are in memory.
const UPLOAD_MIB: u64 = 24;
/// Packs at once where there is room for them, and the memory in which there is.
const UPLOADS_MAX: u64 = 2;
const UPLOADS_MAX_FROM_MIB: u64 = 256;
/// The memory for which the shares below are meant, and what the packs leave of it.
const MEANT_MIB: u64 = 512;
const SHARED_MIB: u64 = MEANT_MIB - UPLOADS_MAX * UPLOAD_MIB;
const QUEUE_MIB: u64 = 128;
const APPENDS_MIB: u64 = 64;
const BLOCKS_MIB: u64 = 32;
const NAMES_MIB: u64 = 200;
const OBJECTS_MIB: u64 = 24;
/// Blocks fetched at once, at least and at most.
const BLOCKS_LEAST: u64 = 2;
const BLOCKS_MOST: u64 = 256;
/// The most memory that can be configured.
const MEMORY_MIB_MAX: u64 = 1 << 24;

/// The bounds of a node's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Packs written at once.
    pub uploads: usize,
    /// Bytes of changes that wait for the store's writer.
    pub queue_bytes: usize,
    /// Bytes of appends in flight at this node's primaries.
    pub appends_bytes: usize,
    /// Blocks of 1 MiB fetched from S3 at once.
    pub blocks: usize,
    /// Bytes of names of directories being imported.
    pub names_bytes: usize,
    /// Bytes of objects on their way to mounts.
    pub objects_bytes: usize,
}

impl Budget {
    /// The shares of `memory_mib`.
    #[must_use]
    pub fn of(memory_mib: u64) -> Self {
        let memory_mib = memory_mib.min(MEMORY_MIB_MAX);
        let uploads = if memory_mib >= UPLOADS_MAX_FROM_MIB { UPLOADS_MAX } else { 1 };
        let rest_mib = memory_mib.saturating_sub(uploads * UPLOAD_MIB);
        let share = |meant_mib: u64| rest_mib * meant_mib * MIB / SHARED_MIB;
        let bounded = |meant_mib: u64| share(meant_mib).min(meant_mib * MIB) as usize;
        Self {
            uploads: uploads as usize,
            queue_bytes: bounded(QUEUE_MIB),
            appends_bytes: bounded(APPENDS_MIB),
            blocks: (share(BLOCKS_MIB) / MIB).clamp(BLOCKS_LEAST, BLOCKS_MOST) as usize,
            names_bytes: bounded(NAMES_MIB),
            objects_bytes: bounded(OBJECTS_MIB),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_was_measured() {
        let expected = Budget {
            uploads: 2,
            queue_bytes: 128 << 20,
            appends_bytes: 64 << 20,
            blocks: 32,
            names_bytes: 200 << 20,
            objects_bytes: 24 << 20,
        };
        assert_eq!(Budget::of(512), expected);
        let roomy = Budget::of(8192);
        assert_eq!(Budget { blocks: 32, ..roomy }, expected);
        assert_eq!(roomy.blocks, 256);
    }

    #[test]
    fn the_shares_fit_and_none_is_too_small_to_work_with() {
        for memory_mib in [64, 65, 100, 255, 256, 300, 511, 512, 600, 1_024, 1 << 24, u64::MAX] {
            let budget = Budget::of(memory_mib);
            let shared =
                budget.queue_bytes + budget.appends_bytes + budget.names_bytes + budget.objects_bytes;
            let blocks_mib = (budget.blocks + budget.uploads * UPLOAD_MIB as usize) as u64;
            assert!(shared as u64 / MIB + blocks_mib < memory_mib, "{memory_mib} MiB: {budget:?}");
            assert!(budget.appends_bytes >= 4 << 20, "{memory_mib} MiB: {budget:?}");
            assert!(budget.queue_bytes >= 2 * budget.appends_bytes, "{memory_mib} MiB: {budget:?}");
        }
    }
}
