//! Feature levels: what the metadata servers of a cluster may be asked to apply while they are not all
//! of one build.
//!
//! The cluster has a level in its state. An entry that needs more is not proposed, and the leader raises
//! the level once every member has told that it applies the next one. So servers can be replaced one
//! after the other, and none meets what it cannot apply.
//!
//! Whoever adds a command, an operation, or a variant of what is inside them:
//! `meta/src/namespace/level.rs` asks which level it needs. What is in a release already has its level
//! for ever; what comes after it needs a new one, which is one more [`FEATURE_LEVEL`].

use std::fmt;

use bincode::{Decode, Encode};

/// What may be in a cluster's log: all of this level and of those below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct FeatureLevel(pub u32);

impl FeatureLevel {
    /// What was there before there were levels. A state that names no level has this one.
    pub const FIRST: Self = Self(1);
    /// Beyond the first: `Probe`; who holds unlinked files; the load of a dump.
    pub const SECOND: Self = Self(2);
    /// Beyond the second: the files of a removed tree stay for those who have them open.
    pub const THIRD: Self = Self(3);
    /// Beyond the third: what the data path asks of the metadata (docs/FORMAT.md, *Feature levels*).
    pub const FOURTH: Self = Self(4);
    /// Beyond the fourth: small adjacent extents of files are merged.
    pub const FIFTH: Self = Self(5);
    /// Beyond the fifth: mounts are written to.
    pub const SIXTH: Self = Self(6);
}

impl fmt::Display for FeatureLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The highest level that this build applies.
pub const FEATURE_LEVEL: FeatureLevel = FeatureLevel::SIXTH;
/// The lowest one: a state below it must be raised by a build in between first.
pub const FEATURE_LEVEL_LOWEST: FeatureLevel = FeatureLevel::FIRST;

/// The levels that a server applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureLevels {
    /// The lowest.
    pub lowest: FeatureLevel,
    /// The highest.
    pub highest: FeatureLevel,
}

impl FeatureLevels {
    /// Those of a server that tells none: it is older than levels are.
    pub const UNTOLD: Self = Self { lowest: FeatureLevel::FIRST, highest: FeatureLevel::FIRST };

    /// This build's, up to `highest` at most.
    #[must_use]
    pub fn up_to(highest: FeatureLevel) -> Self {
        Self { highest: highest.min(FEATURE_LEVEL), ..Self::default() }
    }

    /// True when a server with these applies a cluster's log at `level`.
    #[must_use]
    pub fn include(&self, level: FeatureLevel) -> bool {
        (self.lowest..=self.highest).contains(&level)
    }
}

impl Default for FeatureLevels {
    /// All that this build applies.
    fn default() -> Self {
        Self { lowest: FEATURE_LEVEL_LOWEST, highest: FEATURE_LEVEL }
    }
}

impl fmt::Display for FeatureLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.lowest, self.highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_applies_the_levels_of_its_build_or_fewer() {
        let own = FeatureLevels::default();
        assert!(own.include(FEATURE_LEVEL_LOWEST) && own.include(FEATURE_LEVEL));
        assert!(!own.include(FeatureLevel(FEATURE_LEVEL.0 + 1)));
        assert!(!own.include(FeatureLevel(FEATURE_LEVEL_LOWEST.0 - 1)));
        assert_eq!(FeatureLevels::up_to(FeatureLevel(99)), own);
        assert!(!FeatureLevels::up_to(FeatureLevel::FIRST).include(FeatureLevel::SECOND));
    }
}
