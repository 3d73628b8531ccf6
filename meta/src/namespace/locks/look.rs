//! Reads of locks: who is in the way, and how a lock that was asked for stands.

use cairn_types::{FsError, InodeId, LockKind, LockMode, LockOwner, LockRange, LogIndex};

use super::{Asked, FileLocks, Lock};
use crate::keys;
use crate::keys::sessions::{self, SessionRecord};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::reply::LockAnswer;
use crate::namespace::walk;
use crate::store::Rows;

/// A lock that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The file.
    pub ino: InodeId,
    /// The kind of lock.
    pub kind: LockKind,
    /// For whom.
    pub by: LockOwner,
    /// Where.
    pub range: LockRange,
    /// How.
    pub mode: LockMode,
}

impl Question {
    fn asked(&self) -> Asked {
        Asked { by: self.by, range: self.range, mode: self.mode }
    }
}

/// The first lock, by its first byte, that excludes the one asked about (fcntl's F_GETLK). Who waits is
/// not told.
///
/// # Errors
/// [`FsError::Stale`] for an inode that is gone.
pub fn in_the_way(rows: &dyn Rows, question: &Question) -> Outcome<Option<Lock>> {
    walk::inode_named(rows, question.ino)?;
    let file = FileLocks::load(rows, question.ino, question.kind)?;
    Ok(file.holders_against(question.asked()).next())
}

/// How the lock that was asked for as number `wait` stands: held, waited for, or neither.
///
/// # Errors
/// [`FsError::Stale`] when the file is gone, [`FsError::SessionExpired`] when the session is.
pub fn standing(rows: &dyn Rows, question: &Question, wait: LogIndex) -> Outcome<LockAnswer> {
    let session: Option<SessionRecord> = keys::get(rows, &sessions::key(question.by.session))?;
    if session.is_none_or(|session| session.closing) {
        return refuse(FsError::SessionExpired);
    }
    walk::inode_named(rows, question.ino)?;
    let file = FileLocks::load(rows, question.ino, question.kind)?;
    if file.waits.contains_key(&wait) {
        return Ok(LockAnswer::Waiting { wait });
    }
    let held = file.granted(question.asked());
    Ok(held.map_or(LockAnswer::Gone, |lock| LockAnswer::Held { fence: lock.fence }))
}
