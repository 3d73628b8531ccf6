//! [`Precondition`]: what a transaction demands before it changes anything.

use bincode::{Decode, Encode};
use cairn_types::{FoundInode, FsError, Inode, InodeId};

use super::error::{NamespaceError, Outcome, refuse};
use super::operation::Target;
use super::state::State;
use super::walk::{self, LastLink};

/// What must be at a target.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Precondition {
    /// Where.
    pub target: Target,
    /// What.
    pub wanted: Wanted,
}

/// What a [`Precondition`] wants.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Wanted {
    /// Nothing.
    Absent,
    /// Something, of which what is named is so.
    Present {
        /// Its number.
        ino: Option<InodeId>,
        /// Its version; `TailOpen` while a tail is open.
        version: Option<u64>,
        /// Its length; `TailOpen` while a tail is open.
        length: Option<u64>,
    },
}

impl State<'_, '_> {
    /// Refuses unless the precondition holds. `index` is its number in the transaction.
    pub fn require(&self, index: u32, precondition: &Precondition) -> Outcome<()> {
        match self.holds(precondition) {
            Ok((true, _)) => Ok(()),
            Ok((false, found)) => {
                let found = found.map(|i| FoundInode { ino: i.ino, version: i.version, length: i.size });
                refuse(FsError::PreconditionFailed { index, found })
            }
            Err(NamespaceError::Refused(why)) => {
                refuse(FsError::PreconditionRefused { index, why: Box::new(why) })
            }
            Err(fault) => Err(fault),
        }
    }

    /// Whether it holds, and what is there.
    fn holds(&self, precondition: &Precondition) -> Outcome<(bool, Option<Inode>)> {
        let found = self.at(&precondition.target)?;
        let holds = match (&precondition.wanted, &found) {
            (Wanted::Absent, found) => found.is_none(),
            (Wanted::Present { .. }, None) => false,
            (Wanted::Present { ino: Some(ino), .. }, Some(inode)) if *ino != inode.ino => false,
            (Wanted::Present { version, length, .. }, Some(inode)) => {
                if version.or(*length).is_some() {
                    self.settled(inode)?;
                }
                version.is_none_or(|v| v == inode.version) && length.is_none_or(|l| l == inode.size)
            }
        };
        Ok((holds, found))
    }

    /// What is at a target, if anything. What lies in a bucket others may change at any time, and this
    /// state need not know of it: nothing can be said there.
    fn at(&self, target: &Target) -> Outcome<Option<Inode>> {
        let last = if target.no_follow { LastLink::Stop } else { LastLink::Follow };
        let mut in_mount = false;
        let caller = self.caller.as_ref();
        let walked = walk::walk(&*self.txn, target, last, caller, &mut |dir| in_mount |= dir.mount.is_some());
        let found = match walked.and_then(|walk| Ok(walk.inode()?)) {
            Ok(inode) => Some(inode),
            Err(NamespaceError::Refused(FsError::NotFound | FsError::NotDirectory | FsError::Stale)) => None,
            Err(error) => return Err(error),
        };
        if in_mount || found.as_ref().is_some_and(|inode| inode.mount.is_some()) {
            return refuse(FsError::NotSupported);
        }
        Ok(found)
    }
}
