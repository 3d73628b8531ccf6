//! `counters` "level": [`ClusterLevel`], the feature level of the cluster. Absent while it is the first.

use bincode::{Decode, Encode};
use cairn_types::FeatureLevel;

use super::Record;
use crate::store::Table;

/// The row's key.
pub const KEY: &[u8] = b"level";

/// The feature level of the cluster: what its log may hold. It is never lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ClusterLevel {
    /// The level.
    pub level: FeatureLevel,
}

impl Default for ClusterLevel {
    fn default() -> Self {
        Self { level: FeatureLevel::FIRST }
    }
}

impl Record for ClusterLevel {
    const TABLE: Table = Table::Counters;
}
