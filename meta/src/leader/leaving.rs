//! [`Leaving`]: whether a data node is to be shut down, by the state.

use crate::keys::disks::{DiskRecord, Drain};

/// Whether a node is to be shut down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaving {
    /// It stays.
    #[default]
    No,
    /// It takes nothing new, and what it has goes elsewhere.
    Draining,
    /// No chunk names it any more.
    Drained,
}

impl From<&DiskRecord> for Leaving {
    fn from(record: &DiskRecord) -> Self {
        match record.drain {
            None => Leaving::No,
            Some(Drain { done: None, .. }) => Leaving::Draining,
            Some(Drain { done: Some(_), .. }) => Leaving::Drained,
        }
    }
}
