//! Files below a mount that is written to: what the bucket holds of them, what it is to hold, and what is
//! pending between the two (docs/adr/0013). The key that an inode ought to have is never stored: [`paths`]
//! computes it from where the inode is.

mod allow;
mod bytes;
mod clean;
mod conflict;
mod note;
mod paths;
mod rows;
mod shield;

use std::collections::BTreeMap;

use cairn_types::{InodeId, MountId};

use crate::keys::mount_counts::MountCounts;
use crate::keys::mount_modes::MountMode;
use crate::keys::pictures::KeepRow;

pub(super) use conflict::Contest;
pub(super) use note::Changed;
pub(super) use paths::{KEY_BYTES_MAX, SHADOWED, TEMPORARY, is_shadow_of};
pub(super) use rows::sources;

/// Ranges of a file that lie in its object, at most, for bytes of it to be changed while that is being
/// written: each is pointed at the new object when it is there.
pub(super) const REPOINTED_MAX: usize = 1000;

/// What an entry knows of mounts.
#[derive(Default)]
pub(super) struct Mounted {
    /// The mount that was asked for last: its mode, when it has a row, and its counts.
    known: Option<Known>,
    /// What is kept of files for the intents that write them, as the entry changed it.
    keeps: BTreeMap<InodeId, KeepRow>,
}

struct Known {
    mount: MountId,
    mode: Option<MountMode>,
    counts: Option<MountCounts>,
}
