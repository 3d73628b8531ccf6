//! Whose reads are checked, and what they may see.

use cairn_types::{Credentials, FsError, Inode, InodeId, SessionId};

use crate::keys::sessions::SessionRecord;
use crate::keys::{self, RowFault, credentials, sessions};
use crate::namespace::error::{NamespaceError, Outcome, refuse};
use crate::namespace::operation::Target;
use crate::namespace::permissions::{self, READ, SEARCH};
use crate::namespace::walk;
use crate::store::{Rows, Table};

/// Who reads in a session; `None` for session 0, and for one that did not say.
///
/// # Errors
/// [`FsError::SessionExpired`].
pub fn caller(rows: &dyn Rows, session: SessionId) -> Outcome<Option<Credentials>> {
    if session.0 == 0 {
        return Ok(None);
    }
    match keys::get::<SessionRecord>(rows, &sessions::key(session))? {
        Some(record) if record.closing => refuse(FsError::SessionExpired),
        Some(record) if !record.checked => Ok(None),
        Some(_) => {
            let key = credentials::key(session);
            match keys::get(rows, &key)? {
                Some(credentials) => Ok(Some(credentials)),
                None => Err(RowFault::Damaged { table: Table::Credentials, key }.into()),
            }
        }
        None => refuse(FsError::SessionExpired),
    }
}

/// Checks that a caller may read a file that it named by `target`.
///
/// # Errors
/// [`FsError::PermissionDenied`].
pub fn may_read(
    rows: &dyn Rows,
    caller: Option<&Credentials>,
    target: &Target,
    inode: &Inode,
) -> Outcome<()> {
    match caller {
        None => Ok(()),
        Some(who) if target.path.is_empty() => permissions::check_handle(rows, who, inode, READ),
        Some(who) => permissions::check(rows, who, inode, READ),
    }
}

/// Checks that a caller may be told what changes: of a directory what its listing would show, of anything
/// else what it holds.
///
/// # Errors
/// [`FsError::PermissionDenied`].
pub fn may_watch(rows: &dyn Rows, caller: Option<&Credentials>, watched: &Inode) -> Outcome<()> {
    let wanted = if watched.is_dir() { READ | SEARCH } else { READ };
    caller.map_or(Ok(()), |who| permissions::check(rows, who, watched, wanted))
}

/// What a caller may do in a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Look up a name in it.
    pub search: bool,
    /// List it with attributes: what takes read and search.
    pub list: bool,
}

/// What a caller may do in a directory now; nothing in one that is gone.
///
/// # Errors
/// A fault of the store.
pub fn access(rows: &dyn Rows, who: &Credentials, directory: InodeId) -> Result<Access, RowFault> {
    let Some((_, inode)) = walk::inode(rows, directory)? else { return Ok(Access::default()) };
    let may = |wanted| match permissions::check(rows, who, &inode, wanted) {
        Ok(()) => Ok(true),
        Err(NamespaceError::Refused(_)) => Ok(false),
        Err(NamespaceError::Fault(fault)) => Err(fault),
    };
    Ok(Access { search: may(SEARCH)?, list: may(READ | SEARCH)? })
}

/// Checks that a caller may list a directory. A listing has attributes, so it takes the search of
/// the directory too.
///
/// # Errors
/// [`FsError::PermissionDenied`].
pub fn may_list(rows: &dyn Rows, caller: Option<&Credentials>, directory: &Inode) -> Outcome<()> {
    caller.map_or(Ok(()), |who| permissions::check(rows, who, directory, READ | SEARCH))
}
