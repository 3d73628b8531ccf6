//! Lock, Unlock, CancelLock, and what the end of a session leaves free.

use cairn_types::{FsError, InodeId, LockKind, LockMode, LockOwner, LockRange, LogIndex, SessionId};

use crate::keys::RowFault;
use crate::keys::locks::{self, Part};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::locks::{Asked, FileLocks};
use crate::namespace::operation::Target;
use crate::namespace::permissions::READ;
use crate::namespace::reply::{Answer, LockAnswer};
use crate::namespace::state::State;
use crate::store::{KeyRange, Rows, Table};

/// Rows after which the end of a session goes on in another entry. One more file touches 3,328 at the
/// most, when all that wait there are granted.
const ROWS_AT_ONCE: usize = 512;

fn answer(lock: LockAnswer) -> Outcome<Answer> {
    Ok(Answer { lock: Some(lock), ..Answer::default() })
}

/// Refuses a range that is none, and one of a lock that has the whole file.
fn checked(kind: LockKind, range: LockRange) -> Outcome<()> {
    let whole = kind == LockKind::Range || range == LockRange::WHOLE;
    if whole && range.start <= range.last { Ok(()) } else { refuse(FsError::InvalidRequest) }
}

/// Locks, or queues for the lock.
pub fn lock(
    state: &mut State<'_, '_>,
    (ino, kind): (InodeId, LockKind),
    by: LockOwner,
    (range, mode): (LockRange, LockMode),
    wait: bool,
) -> Outcome<Answer> {
    checked(kind, range)?;
    let inode = state.inode(ino)?;
    if !inode.is_file() {
        return refuse(if inode.is_dir() { FsError::IsDirectory } else { FsError::NotFile });
    }
    // As flock(2) on a descriptor, which whoever may read the file can have.
    state.may(&Target::ino(ino), &inode, READ)?;
    let index = state.index;
    let asked = Asked { by, range, mode };
    let mut file = FileLocks::load(&*state.txn, ino, kind)?;
    let Some(LockOwner { session, owner }) = file.against(asked, index) else {
        file.lay(asked, index);
        // Exclusive may have become shared.
        file.grant(index);
        file.store(state)?;
        return answer(LockAnswer::Held { fence: index });
    };
    if !wait {
        return refuse(FsError::Locked { session, owner });
    }
    match kind {
        LockKind::Range if file.deadlocks(&*state.txn, asked)? => return refuse(FsError::Deadlock),
        LockKind::Range => {}
        // As flock(2): two that hold it shared and would both have it exclusive do not wait for each
        // other for ever.
        LockKind::Flock => file.clear(by, range),
    }
    file.queue(asked, index);
    file.grant(index);
    file.store(state)?;
    answer(LockAnswer::Waiting { wait: index })
}

/// Unlocks; what is not locked stays so.
pub fn unlock(
    state: &mut State<'_, '_>,
    (ino, kind): (InodeId, LockKind),
    by: LockOwner,
    range: LockRange,
) -> Outcome<Answer> {
    checked(kind, range)?;
    let mut file = FileLocks::load(&*state.txn, ino, kind)?;
    file.clear(by, range);
    file.grant(state.index);
    file.store(state)?;
    Ok(Answer::default())
}

/// Gives a wait up.
pub fn cancel(
    state: &mut State<'_, '_>,
    (ino, kind): (InodeId, LockKind),
    by: LockOwner,
    wait: LogIndex,
) -> Outcome<Answer> {
    let mut file = FileLocks::load(&*state.txn, ino, kind)?;
    if !file.cancel(by, wait) {
        return answer(LockAnswer::Gone);
    }
    file.grant(state.index);
    file.store(state)?;
    answer(LockAnswer::Cancelled)
}

/// Frees locks of a session that is over, file by file; true when it had any: the rest of its end
/// goes in another entry.
pub fn end_session(state: &mut State<'_, '_>, session: SessionId) -> Outcome<bool> {
    let mut any = false;
    while state.txn.rows_touched() < ROWS_AT_ONCE {
        let Some((key, ino, kind)) = first_file(state, session)? else { break };
        any = true;
        let mut file = FileLocks::load(&*state.txn, ino, kind)?;
        if !file.drop_session(session) {
            // Else this would be done again and again.
            return Err(RowFault::Damaged { table: Table::Lockers, key }.into());
        }
        file.grant(state.index);
        file.store(state)?;
    }
    Ok(any)
}

/// A file on which a session has a lock, or waits for one.
fn first_file(
    state: &State<'_, '_>,
    session: SessionId,
) -> Result<Option<(Vec<u8>, InodeId, LockKind)>, RowFault> {
    for part in [Part::Waiting, Part::Held] {
        let range = KeyRange::prefix(&locks::part_of(part, session));
        if let Some((key, _)) = state.txn.scan(Table::Lockers, &range, 1)?.into_iter().next() {
            let (ino, kind, _) = locks::parse_part(&key)?;
            return Ok(Some((key, ino, kind)));
        }
    }
    Ok(None)
}
