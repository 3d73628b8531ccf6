//! Who may hold which unlinked file. Nothing is let go here that somebody may hold.

use cairn_types::{FsError, SessionId};

use super::{record, still};
use crate::keys::holds::{self, Denial, Hold};
use crate::keys::orphans::{self, Orphan};
use crate::keys::sessions;
use crate::namespace::check::{Finding, at, held};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::state::State;
use crate::store::{Rows, Table};

pub fn repair(state: &mut State<'_, '_>, finding: &Finding) -> Outcome<()> {
    still(state, finding)?;
    match finding {
        Finding::ForgottenOrphan { ino } => {
            let orphan: Orphan = record(at(&*state.txn, &orphans::key(*ino))?)?;
            let Some(since) = orphan.since else { return refuse(FsError::NotFound) };
            state.mark(Table::Holds, Hold::Undecided(since, *ino).key());
        }
        Finding::WrongDenial { session } => denial(state, *session)?,
        Finding::StrayHold { key } => stray(state, key)?,
        _ => return refuse(FsError::InvalidRequest),
    }
    Ok(())
}

/// A denial of no session goes; another one is put in order, with what its session is known to hold.
fn denial(state: &mut State<'_, '_>, session: SessionId) -> Outcome<()> {
    let known: Denial = record(at(&*state.txn, &holds::denial_key(session))?)?;
    if state.txn.get(Table::Sessions, &sessions::key(session))?.is_none() {
        state.delete(Table::Holds, Hold::Denied(known.upto, session).key());
        state.delete(Table::Denials, holds::denial_key(session));
        return Ok(());
    }
    let held = held(&*state.txn, session)?;
    state.put_denial(session, Some(known), Denial { held, ..known });
    Ok(())
}

/// Half of a pair is made whole, where its session and its file are there: the session may hold it.
fn stray(state: &mut State<'_, '_>, key: &[u8]) -> Outcome<()> {
    let Ok(hold) = Hold::parse(key) else { return refuse(FsError::Damaged) };
    if let Hold::Denied(upto, session) = hold
        && state.txn.get(Table::Denials, &holds::denial_key(session))?.is_none()
        && state.txn.get(Table::Sessions, &sessions::key(session))?.is_some()
    {
        let held = held(&*state.txn, session)?;
        state.put_denial(session, None, Denial { number: 0, upto, held });
        return Ok(());
    }
    if let Hold::Holder(ino, session) | Hold::Holding(session, ino) = hold {
        let orphan = at::<Orphan>(&*state.txn, &orphans::key(ino))?;
        let kept = orphan.holds_readable(|orphan| orphan.since.is_some());
        if kept && state.txn.get(Table::Denials, &holds::denial_key(session))?.is_some() {
            state.mark(Table::Holds, Hold::Holder(ino, session).key());
            state.mark(Table::Holds, Hold::Holding(session, ino).key());
            return Ok(());
        }
    }
    state.delete(Table::Holds, key.to_vec());
    Ok(())
}
