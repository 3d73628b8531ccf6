//! `locks`: (ino, kind, first byte, session, owner) → [`LockRecord`], `lock_waits`: (ino, kind, wait) →
//! [`WaitRecord`], and `lockers`: session → [`LockerRecord`], with the session's locks and waits as
//! keys. While nothing is locked nobody waits: a file without rows in `locks` has none in `lock_waits`.

use bincode::{Decode, Encode};
use cairn_types::{InodeId, LockKind, LockMode, LockOwner, LogIndex, SessionId};

use super::{Record, RowFault};
use crate::store::{KeyRange, Table};

/// A lock that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LockRecord {
    /// The last byte; `u64::MAX` is no end.
    pub last: u64,
    /// How it excludes others.
    pub mode: LockMode,
    /// The entry that granted it last: its fencing number.
    pub fence: LogIndex,
}

impl Record for LockRecord {
    const TABLE: Table = Table::Locks;
}

/// A lock that is waited for. Its number is the index of the entry that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WaitRecord {
    /// Who waits.
    pub by: LockOwner,
    /// The first byte.
    pub start: u64,
    /// The last byte; `u64::MAX` is no end.
    pub last: u64,
    /// How it would exclude others.
    pub mode: LockMode,
}

impl Record for WaitRecord {
    const TABLE: Table = Table::LockWaits;
}

/// How many locks a session holds and waits for; the row goes with the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct LockerRecord {
    /// Locks held.
    pub locks: u64,
    /// Locks waited for.
    pub waits: u64,
}

impl Record for LockerRecord {
    const TABLE: Table = Table::Lockers;
}

/// What a session's row in `lockers` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Locks held: then follow kind, owner, ino, first byte.
    Held,
    /// Locks waited for: then follow kind, owner, ino, wait.
    Waiting,
}

fn kind_byte(kind: LockKind) -> u8 {
    match kind {
        LockKind::Range => 0,
        LockKind::Flock => 1,
    }
}

fn part_byte(part: Part) -> u8 {
    match part {
        Part::Held => 1,
        Part::Waiting => 2,
    }
}

/// The key of a lock.
#[must_use]
pub fn key(ino: InodeId, kind: LockKind, start: u64, by: LockOwner) -> Vec<u8> {
    let mut key = on(ino, kind);
    key.extend(start.to_be_bytes());
    key.extend(by.session.0.to_be_bytes());
    key.extend(by.owner.to_be_bytes());
    key
}

/// The key of a wait.
#[must_use]
pub fn wait_key(ino: InodeId, kind: LockKind, wait: LogIndex) -> Vec<u8> {
    let mut key = on(ino, kind);
    key.extend(wait.0.to_be_bytes());
    key
}

/// What the keys of a file's locks of one kind, and of its waits, begin with.
#[must_use]
pub fn on(ino: InodeId, kind: LockKind) -> Vec<u8> {
    let mut key = ino.0.to_be_bytes().to_vec();
    key.push(kind_byte(kind));
    key
}

/// A file's locks of both kinds.
#[must_use]
pub fn of(ino: InodeId) -> KeyRange {
    KeyRange::prefix(&ino.0.to_be_bytes())
}

/// The first byte and the owner in a key of `locks`.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is too short.
pub fn parse(key: &[u8]) -> Result<(u64, LockOwner), RowFault> {
    let at = |at| super::u64_at(Table::Locks, key, at);
    Ok((at(9)?, LockOwner { session: SessionId(at(17)?), owner: at(25)? }))
}

/// The number in a key of `lock_waits`.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is too short.
pub fn wait(key: &[u8]) -> Result<LogIndex, RowFault> {
    Ok(LogIndex(super::u64_at(Table::LockWaits, key, 9)?))
}

/// The key of a session's counts.
#[must_use]
pub fn locker_key(session: SessionId) -> Vec<u8> {
    session.0.to_be_bytes().to_vec()
}

/// The key of a session's lock (`at`: its first byte) or wait (`at`: its number).
#[must_use]
pub fn part_key(part: Part, by: LockOwner, kind: LockKind, ino: InodeId, at: u64) -> Vec<u8> {
    let mut key = part_of_owner(part, by, kind);
    key.extend(ino.0.to_be_bytes());
    key.extend(at.to_be_bytes());
    key
}

/// What the keys of a session's locks, or waits, begin with.
#[must_use]
pub fn part_of(part: Part, session: SessionId) -> Vec<u8> {
    let mut key = locker_key(session);
    key.push(part_byte(part));
    key
}

/// What the keys of one owner's locks, or waits, of one kind begin with.
#[must_use]
pub fn part_of_owner(part: Part, by: LockOwner, kind: LockKind) -> Vec<u8> {
    let mut key = part_of(part, by.session);
    key.push(kind_byte(kind));
    key.extend(by.owner.to_be_bytes());
    key
}

/// The file, the kind, and the first byte or the wait's number, in a key of a session's lock or wait.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is none.
pub fn parse_part(key: &[u8]) -> Result<(InodeId, LockKind, u64), RowFault> {
    let at = |at| super::u64_at(Table::Lockers, key, at);
    let kind = match key.get(9) {
        Some(0) => LockKind::Range,
        Some(1) => LockKind::Flock,
        _ => return Err(RowFault::Damaged { table: Table::Lockers, key: key.to_vec() }),
    };
    Ok((InodeId(at(18)?), kind, at(26)?))
}
