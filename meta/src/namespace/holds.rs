//! Unlinked files that somebody may have open: kept until every session that was alive at the unlink
//! has denied holding them, or is over.
//!
//! A session denies by the log: all that was unlinked up to an entry, but the files that it names. So a
//! file is decided on when the session that has denied least has come to its unlink: then it goes, or
//! stays for those who are known to hold it, and goes with the last of them.

use std::collections::BTreeSet;

use cairn_types::limits::ROWS_PER_ENTRY_MAX;
use cairn_types::{Inode, InodeId, LogIndex, Policy, SessionId};

use super::error::{NamespaceError, Outcome};
use super::read;
use super::state::State;
use super::walk;
use crate::keys::holds::{self, Denial, Hold};
use crate::keys::orphans::{self, Orphan};
use crate::keys::{self, RowFault, nodes, places};
use crate::store::{Rows, Table};

/// Rows from which on no further file is let go: the most costly one touches fewer than what is left.
const ROWS_PER_STEP: usize = ROWS_PER_ENTRY_MAX / 4;

/// What a session that asks for a removal says of its open files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The session.
    pub session: SessionId,
    /// It holds these at the most.
    pub inos: Vec<InodeId>,
}

/// The session that has denied least, and up to where. `None`: no session holds anything.
///
/// # Errors
/// A fault of the store.
pub fn least_denied(rows: &dyn Rows) -> Result<Option<LogIndex>, RowFault> {
    let first = rows.scan(Table::Holds, &holds::denied(), 1)?;
    Ok(match first.first().map(|(key, _)| Hold::parse(key)).transpose()? {
        Some(Hold::Denied(upto, _)) => Some(upto),
        _ => None,
    })
}

/// The oldest file that is to be decided on and can be: all sessions have denied it, but those that
/// are known to hold it.
///
/// # Errors
/// A fault of the store.
pub fn decidable(rows: &dyn Rows) -> Result<Option<(LogIndex, InodeId)>, RowFault> {
    let first = rows.scan(Table::Holds, &holds::undecided_from(LogIndex(0)), 1)?;
    let Some((key, _)) = first.first() else { return Ok(None) };
    let Hold::Undecided(since, ino) = Hold::parse(key)? else { return Ok(None) };
    let denied = least_denied(rows)?.is_none_or(|upto| upto >= since);
    Ok(denied.then_some((since, ino)))
}

/// How many unlinked files are to be decided on; `limit` at most are counted.
///
/// # Errors
/// A fault of the store.
pub fn undecided(rows: &dyn Rows, limit: usize) -> Result<usize, RowFault> {
    Ok(rows.scan(Table::Holds, &holds::undecided_from(LogIndex(0)), limit)?.len())
}

impl State<'_, '_> {
    /// True when a session may hold a file that loses its last name. One that is alone, and says in
    /// its request what it holds, is believed.
    pub fn may_be_held(&self, inode: &Inode) -> Result<bool, RowFault> {
        if !inode.is_file() || inode.mount.is_some() {
            return Ok(false);
        }
        Ok(self.all_held()?.is_none_or(|inos| inos.contains(&inode.ino)))
    }

    /// The files that sessions hold at the most; `None`: any.
    pub fn all_held(&self) -> Result<Option<&[InodeId]>, RowFault> {
        let sessions = self.txn.scan(Table::Holds, &holds::denied(), 2)?;
        let only = match sessions.as_slice() {
            [] => return Ok(Some(&[])),
            [(key, _)] => Hold::parse(key)?,
            _ => return Ok(None),
        };
        let believed = |claim: &&Claim| matches!(only, Hold::Denied(_, session) if session == claim.session);
        Ok(self.claim.as_ref().filter(believed).map(|claim| claim.inos.as_slice()))
    }

    /// Takes the last name of a file that a session may hold: all else stays. The directory's own inode
    /// is left to the caller.
    pub fn keep_unlinked(&mut self, parent: InodeId, name: &[u8], inode: &Inode) -> Outcome<()> {
        // Nothing above it will say so any more.
        let policy = self.policy_now(inode)?;
        self.keep_with_policy(parent, name, inode, policy);
        Ok(())
    }

    /// The policy in force at an inode; the default where the way up does not tell.
    pub fn policy_now(&self, inode: &Inode) -> Outcome<Policy> {
        match walk::policy_at(&*self.txn, inode) {
            Err(NamespaceError::Refused(_)) => Ok(Policy::default()),
            answer => answer,
        }
    }

    /// As [`State::keep_unlinked`], where the policy in force is known.
    pub fn keep_with_policy(&mut self, parent: InodeId, name: &[u8], inode: &Inode, policy: Policy) {
        let since = self.index;
        let mut kept = Inode { nlink: 0, policy: Some(policy), ..inode.clone() };
        kept.version += 1;
        kept.ctime = self.now();
        self.delete(Table::Nodes, nodes::key(parent, name));
        self.delete(Table::Places, places::key(kept.ino));
        self.cluster.counts.inodes = self.cluster.counts.inodes.saturating_sub(1);
        self.mark(Table::Holds, Hold::Undecided(since, kept.ino).key());
        self.put(orphans::key(kept.ino), &Orphan { inode: kept, since: Some(since) });
    }

    /// Decides on what can be decided on, as much as one entry may. What a load brings is decided on when
    /// all of it is there.
    pub fn decide_unlinked(&mut self) -> Outcome<()> {
        if read::load(&*self.txn)?.is_some() {
            return Ok(());
        }
        for _ in 0..self.bounds.rows_at_once.max(1) {
            if self.txn.rows_touched() >= ROWS_PER_STEP {
                break;
            }
            let Some((since, ino)) = decidable(&*self.txn)? else { break };
            self.delete(Table::Holds, Hold::Undecided(since, ino).key());
            if self.txn.scan(Table::Holds, &holds::holders(ino), 1)?.is_empty() {
                self.let_go(ino)?;
            }
        }
        Ok(())
    }

    /// Removes a file that nobody holds any more.
    fn let_go(&mut self, ino: InodeId) -> Outcome<()> {
        let Some(orphan) = self.get::<Orphan>(&orphans::key(ino))? else { return Ok(()) };
        if self.drop_remains(&orphan.inode)? {
            self.delete(Table::Orphans, orphans::key(ino));
        } else {
            self.put(orphans::key(ino), &Orphan { since: None, ..orphan });
        }
        Ok(())
    }

    /// Notes that a session holds an unlinked file; false when it did before.
    pub fn hold(&mut self, session: SessionId, ino: InodeId) -> Result<bool, RowFault> {
        let key = Hold::Holder(ino, session).key();
        if self.txn.get(Table::Holds, &key)?.is_some() {
            return Ok(false);
        }
        self.mark(Table::Holds, key);
        self.mark(Table::Holds, Hold::Holding(session, ino).key());
        Ok(true)
    }

    /// Notes that a session does not hold an unlinked file any more; false when it did not before. With
    /// its last holder the file is to be decided on anew.
    pub fn unhold(&mut self, session: SessionId, ino: InodeId) -> Result<bool, RowFault> {
        let key = Hold::Holder(ino, session).key();
        if self.txn.get(Table::Holds, &key)?.is_none() {
            return Ok(false);
        }
        self.delete(Table::Holds, key);
        self.delete(Table::Holds, Hold::Holding(session, ino).key());
        let free = self.txn.scan(Table::Holds, &holds::holders(ino), 1)?.is_empty();
        if free && let Some(Orphan { since: Some(since), .. }) = self.get(&orphans::key(ino))? {
            self.mark(Table::Holds, Hold::Undecided(since, ino).key());
        }
        Ok(true)
    }

    /// What a session has said, if it is one that says what it holds.
    pub fn denial(&self, session: SessionId) -> Result<Option<Denial>, RowFault> {
        self.get(&holds::denial_key(session))
    }

    /// Writes what a session has said.
    pub fn put_denial(&mut self, session: SessionId, before: Option<Denial>, after: Denial) {
        if let Some(before) = before.filter(|before| before.upto != after.upto) {
            self.delete(Table::Holds, Hold::Denied(before.upto, session).key());
        }
        self.mark(Table::Holds, Hold::Denied(after.upto, session).key());
        self.put(holds::denial_key(session), &after);
    }

    /// A session that is over denies everything; it holds nothing any more by now.
    pub fn drop_denial(&mut self, session: SessionId) -> Result<(), RowFault> {
        if let Some(denial) = self.denial(session)? {
            self.delete(Table::Holds, Hold::Denied(denial.upto, session).key());
            self.delete(Table::Denials, holds::denial_key(session));
        }
        Ok(())
    }
}

/// An unlinked file that somebody is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlinked {
    /// The file.
    pub ino: InodeId,
    /// The entry that took its last name.
    pub since: LogIndex,
}

/// What a session is asked: which of these it holds, and to deny all else up to an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// In the order of the log.
    pub files: Vec<Unlinked>,
    /// The entry.
    pub upto: LogIndex,
}

/// What a session is to be asked in a state that has applied all up to `applied`; `None` when there is
/// nothing, or the session does not say what it holds. About `limit` files at most, but always those of
/// whole entries.
///
/// # Errors
/// A fault of the store.
pub fn question(
    rows: &dyn Rows,
    session: SessionId,
    applied: LogIndex,
    limit: usize,
) -> Result<Option<Question>, RowFault> {
    let Some(denial) = keys::get::<Denial>(rows, &holds::denial_key(session))? else { return Ok(None) };
    let from = holds::undecided_from(denial.upto.next());
    let mut files = Vec::new();
    for (key, _) in rows.scan(Table::Holds, &from, limit + ROWS_PER_ENTRY_MAX)? {
        let Hold::Undecided(since, ino) = Hold::parse(&key)? else { break };
        if files.len() >= limit && files.last().is_some_and(|last: &Unlinked| last.since != since) {
            let upto = files.last().map_or(since, |last| last.since);
            return Ok(Some(Question { files, upto }));
        }
        files.push(Unlinked { ino, since });
    }
    Ok((!files.is_empty()).then_some(Question { files, upto: applied }))
}

/// Rows about holders that a status counts, at most, and as many about what is to be decided on.
pub const COUNTED_MAX: usize = 4096;

/// How many unlinked files are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Those that sessions hold, or may.
    pub files: u64,
    /// Those of them that are known to be held.
    pub held: u64,
    /// There are more: not all were counted.
    pub more: bool,
}

/// Counts the unlinked files that are kept, by so many rows about holders at most, and as many about
/// what is to be decided on.
///
/// # Errors
/// A fault of the store.
pub fn kept(rows: &dyn Rows, limit: usize) -> Result<Kept, RowFault> {
    let undecided = rows.scan(Table::Holds, &holds::undecided_from(LogIndex(0)), limit + 1)?;
    let holders = rows.scan(Table::Holds, &holds::held(), limit + 1)?;
    let (mut held, mut files) = (BTreeSet::new(), BTreeSet::new());
    for (key, _) in undecided.iter().take(limit).chain(holders.iter().take(limit)) {
        match Hold::parse(key)? {
            Hold::Undecided(_, ino) => drop(files.insert(ino)),
            Hold::Holder(ino, _) => drop(held.insert(ino)),
            Hold::Denied(..) | Hold::Holding(..) => {}
        }
    }
    files.extend(&held);
    let more = undecided.len().max(holders.len()) > limit;
    Ok(Kept { files: files.len() as u64, held: held.len() as u64, more })
}
