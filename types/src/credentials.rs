//! [`Credentials`]: who asks, as POSIX has it.

use bincode::{Decode, Encode};

use crate::limits::GROUPS_MAX;

/// Who asks: a user and its groups. They are what the client says of itself: nothing proves them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Credentials {
    /// The user; 0 may do everything.
    pub uid: u32,
    /// The group that what it makes belongs to.
    pub gid: u32,
    /// Further groups, 1,024 at most.
    pub groups: Vec<u32>,
}

impl Credentials {
    /// True for the user that may do everything.
    #[must_use]
    pub fn is_superuser(&self) -> bool {
        self.uid == 0
    }

    /// True for a member of the group.
    #[must_use]
    pub fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// True when there are not too many groups.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.groups.len() <= GROUPS_MAX
    }
}
