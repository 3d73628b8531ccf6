//! `denials` ↔ `sessions` ↔ `holds` ↔ `orphans`: who may hold which unlinked file.

use cairn_types::limits::HELD_UNLINKED_MAX;
use cairn_types::{Inode, LogIndex, SessionId};

use super::look::{At, Cursor, Look, Pass};
use super::{Finding, chunks};
use crate::keys::holds::{self, Denial, Hold};
use crate::keys::orphans::{self, Orphan};
use crate::keys::sessions;
use crate::store::{StoreFault, Table};

pub(super) fn passes() -> Vec<Box<dyn Pass>> {
    vec![Box::new(Denials(Cursor::all(Table::Denials))), Box::new(Holds(Cursor::all(Table::Holds)))]
}

/// A file that may be held waits for its decision, or somebody holds it; its tail is its own.
pub(super) fn unlinked(look: &mut Look<'_>, inode: &Inode, since: LogIndex) -> Result<(), StoreFault> {
    if is_forgotten(look, inode, since)? {
        look.found(Finding::ForgottenOrphan { ino: inode.ino });
    }
    match inode.tail {
        Some(tail) => chunks::tail_of(look, inode, tail),
        None => Ok(()),
    }
}

fn is_forgotten(look: &Look<'_>, inode: &Inode, since: LogIndex) -> Result<bool, StoreFault> {
    Ok(!look.has(Table::Holds, &Hold::Undecided(since, inode.ino).key())?
        && !look.any(Table::Holds, &holds::holders(inode.ino))?)
}

struct Denials(Cursor);

impl Pass for Denials {
    fn name(&self) -> &'static str {
        "denials"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, bytes) in rows {
            let Some(session) = look.number(Table::Denials, &key, 0).map(SessionId) else { continue };
            let Some(denial) = look.read::<Denial>(&key, &bytes) else { continue };
            if is_wrong(look, session, denial)? {
                look.found(Finding::WrongDenial { session });
            }
        }
        Ok(ended)
    }
}

/// How many unlinked files the rows say that a session holds.
pub(in crate::namespace) fn held(
    rows: &dyn crate::store::Rows,
    session: SessionId,
) -> Result<u32, StoreFault> {
    let most = HELD_UNLINKED_MAX as usize + 1;
    let rows = rows.scan(Table::Holds, &holds::holding(session), most)?;
    Ok(u32::try_from(rows.len()).unwrap_or(u32::MAX))
}

/// True when a denial is of no session, not in its place in the order, or has not what it holds.
fn is_wrong(look: &Look<'_>, session: SessionId, denial: Denial) -> Result<bool, StoreFault> {
    Ok(!look.has(Table::Sessions, &sessions::key(session))?
        || !look.has(Table::Holds, &Hold::Denied(denial.upto, session).key())?
        || held(look.rows, session)? != denial.held)
}

struct Holds(Cursor);

impl Pass for Holds {
    fn name(&self) -> &'static str {
        "holders of unlinked files"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, _) in rows {
            match Hold::parse(&key) {
                Err(_) => look.unreadable(Table::Holds, &key),
                Ok(hold) if is_stray(look, hold)? => look.found(Finding::StrayHold { key }),
                Ok(_) => {}
            }
        }
        Ok(ended)
    }
}

/// True for a row that says what no other row bears out.
fn is_stray(look: &Look<'_>, hold: Hold) -> Result<bool, StoreFault> {
    let denial = |session| look.at::<Denial>(&holds::denial_key(session));
    Ok(match hold {
        Hold::Denied(upto, session) => !denial(session)?.holds_readable(|denial| denial.upto == upto),
        Hold::Undecided(since, ino) => {
            let orphan = look.at::<Orphan>(&orphans::key(ino))?;
            !orphan.holds_readable(|orphan| orphan.since == Some(since))
        }
        Hold::Holder(ino, session) => {
            let orphan = look.at::<Orphan>(&orphans::key(ino))?;
            !orphan.holds_readable(|orphan| orphan.since.is_some())
                || denial(session)?.is_absent()
                || !look.has(Table::Holds, &Hold::Holding(session, ino).key())?
        }
        Hold::Holding(session, ino) => !look.has(Table::Holds, &Hold::Holder(ino, session).key())?,
    })
}

/// Whether what was found is so still.
pub(super) fn is_so(look: &Look<'_>, finding: &Finding) -> Result<bool, StoreFault> {
    Ok(match finding {
        Finding::ForgottenOrphan { ino } => match look.at::<Orphan>(&orphans::key(*ino))? {
            At::Record(Orphan { inode, since: Some(since) }) => is_forgotten(look, &inode, since)?,
            _ => false,
        },
        Finding::WrongDenial { session } => match look.at::<Denial>(&holds::denial_key(*session))? {
            At::Record(denial) => is_wrong(look, *session, denial)?,
            _ => false,
        },
        Finding::StrayHold { key } => match Hold::parse(key) {
            Ok(hold) => look.has(Table::Holds, key)? && is_stray(look, hold)?,
            Err(_) => false,
        },
        _ => false,
    })
}
