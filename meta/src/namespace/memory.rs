//! [`Memory`]: what applying remembers from one entry to the next.

use super::last_directory::Known;
use super::state::Way;
use crate::keys::counters::ClusterRecord;

/// What the entries before read and wrote that the next one mostly asks for. All of it is in the rows as
/// well: it is good for the state that it comes from, as long as only entries change that, and an
/// empty one is always right.
#[derive(Default)]
pub struct Memory {
    /// The cluster's record.
    pub(super) cluster: Option<ClusterRecord>,
    /// The way to the directory that was asked for last.
    pub(super) way: Option<Way>,
    /// The directory that a path led to last.
    pub(super) directory: Option<Known>,
}
