//! What may be changed below a mount.

use cairn_types::{FsError, Inode};

use crate::namespace::error::{Outcome, refuse};
use crate::namespace::state::State;

impl State<'_, '_> {
    /// Refuses a change below a mount that is not written to. A file's home is noted before anything of it
    /// changes, and what an intent that writes it still needs is kept from here on.
    pub fn changing(&mut self, inode: &Inode) -> Outcome<()> {
        let Some(mount) = inode.mount else { return Ok(()) };
        if !self.mount_mode(mount)?.is_some_and(|mode| mode.takes_writes()) {
            return refuse(FsError::ReadOnlyMount { mount });
        }
        if inode.is_file() {
            self.fix_home(inode)?;
        }
        Ok(())
    }

    /// Refuses below a mount what no object can say.
    pub fn unmounted(&mut self, inode: &Inode) -> Outcome<()> {
        let Some(mount) = inode.mount else { return Ok(()) };
        match self.mount_mode(mount)?.is_some_and(|mode| mode.takes_writes()) {
            true => refuse(FsError::NotSupported),
            false => refuse(FsError::ReadOnlyMount { mount }),
        }
    }
}
