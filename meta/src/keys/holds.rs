//! Who may hold an unlinked file open. `denials`: session → [`Denial`], for each session that says
//! what it holds; a session without one holds nothing. `holds`, whose rows say all in their keys: a
//! part (1 byte), then
//!
//! ```text
//! 0  log index, session   the session has denied all that was unlinked up to there, but what it holds
//! 1  log index, ino       unlinked by that entry; not all have denied it, or nobody holds it any more
//! 2  ino, session         the session holds the unlinked file
//! 3  session, ino         (the same, turned round)
//! ```

use bincode::{Decode, Encode};
use cairn_types::{InodeId, LogIndex, SessionId};

use super::{Record, RowFault};
use crate::store::{KeyRange, Table};

/// What a session has said of unlinked files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Denial {
    /// The number of its last answer; 0 before the first.
    pub number: u64,
    /// It holds nothing that was unlinked up to this entry, but what it said that it does.
    pub upto: LogIndex,
    /// How many unlinked files it holds.
    pub held: u32,
}

impl Record for Denial {
    const TABLE: Table = Table::Denials;
}

/// What a row of `holds` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Up to which entry a session has denied.
    Denied(LogIndex, SessionId),
    /// A file that is to be decided on, unlinked by an entry.
    Undecided(LogIndex, InodeId),
    /// A file that a session holds.
    Holder(InodeId, SessionId),
    /// The same, turned round.
    Holding(SessionId, InodeId),
}

const DENIED: u8 = 0;
const UNDECIDED: u8 = 1;
const HOLDER: u8 = 2;
const HOLDING: u8 = 3;

/// The key in `denials`.
#[must_use]
pub fn denial_key(session: SessionId) -> Vec<u8> {
    session.0.to_be_bytes().to_vec()
}

fn joined(part: u8, first: u64, second: u64) -> Vec<u8> {
    [[part].as_slice(), &first.to_be_bytes(), &second.to_be_bytes()].concat()
}

impl Hold {
    /// The row's key.
    #[must_use]
    pub fn key(self) -> Vec<u8> {
        match self {
            Self::Denied(upto, session) => joined(DENIED, upto.0, session.0),
            Self::Undecided(since, ino) => joined(UNDECIDED, since.0, ino.0),
            Self::Holder(ino, session) => joined(HOLDER, ino.0, session.0),
            Self::Holding(session, ino) => joined(HOLDING, session.0, ino.0),
        }
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`RowFault::Damaged`] for what is none.
    pub fn parse(key: &[u8]) -> Result<Self, RowFault> {
        let (first, second) = (super::u64_at(Table::Holds, key, 1)?, super::u64_at(Table::Holds, key, 9)?);
        let damaged = || RowFault::Damaged { table: Table::Holds, key: key.to_vec() };
        match key.first() {
            _ if key.len() != 17 => Err(damaged()),
            Some(&DENIED) => Ok(Self::Denied(LogIndex(first), SessionId(second))),
            Some(&UNDECIDED) => Ok(Self::Undecided(LogIndex(first), InodeId(second))),
            Some(&HOLDER) => Ok(Self::Holder(InodeId(first), SessionId(second))),
            Some(&HOLDING) => Ok(Self::Holding(SessionId(first), InodeId(second))),
            _ => Err(damaged()),
        }
    }
}

/// Who has denied up to where, those who have denied least first.
#[must_use]
pub fn denied() -> KeyRange {
    KeyRange::prefix(&[DENIED])
}

/// What is undecided, from an entry on, in the order of the log.
#[must_use]
pub fn undecided_from(since: LogIndex) -> KeyRange {
    KeyRange::prefix_from(&[UNDECIDED], &joined(UNDECIDED, since.0, 0))
}

/// All that is held, file by file.
#[must_use]
pub fn held() -> KeyRange {
    KeyRange::prefix(&[HOLDER])
}

/// Who holds a file.
#[must_use]
pub fn holders(ino: InodeId) -> KeyRange {
    KeyRange::prefix(&joined(HOLDER, ino.0, 0)[..9])
}

/// What a session holds.
#[must_use]
pub fn holding(session: SessionId) -> KeyRange {
    KeyRange::prefix(&joined(HOLDING, session.0, 0)[..9])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_read_back_and_lies_in_its_range() {
        let (ino, session, index) = (InodeId(7), SessionId(1), LogIndex(300));
        for (hold, range) in [
            (Hold::Denied(index, session), denied()),
            (Hold::Undecided(index, ino), undecided_from(index)),
            (Hold::Holder(ino, session), holders(ino)),
            (Hold::Holder(ino, session), held()),
            (Hold::Holding(session, ino), holding(session)),
        ] {
            let key = hold.key();
            assert_eq!(Hold::parse(&key).unwrap(), hold);
            assert!(Hold::parse(&key[..16]).is_err());
            assert!(key >= range.from && range.until.is_none_or(|until| key < until), "{hold:?}");
        }
        assert!(Hold::parse(&[4; 17]).is_err());
        assert!(undecided_from(LogIndex(301)).from > Hold::Undecided(index, InodeId(u64::MAX)).key());
    }
}
