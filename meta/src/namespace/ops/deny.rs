//! Deny, DecideUnlinked, Holding: what sessions say of unlinked files.

use cairn_types::limits::{HELD_UNLINKED_MAX, HOLDS_PER_ANSWER_MAX};
use cairn_types::{InodeId, SessionId};

use crate::keys::holds::{self, Denial};
use crate::keys::orphans::{self, Orphan};
use crate::namespace::command::HoldAnswer;
use crate::namespace::error::{NamespaceError, Outcome};
use crate::namespace::holds::Claim;
use crate::namespace::ops::session;
use crate::namespace::reply::Answer;
use crate::namespace::state::State;
use crate::store::{Rows, Table};

/// Files that the end of a session lets go in one entry.
const ENDED_AT_ONCE: usize = 256;
/// Rows from which on the end of a session goes on in another entry.
const ROWS_AT_ONCE: usize = 128;

/// Takes sessions' answers. One that came too late, or of a session that is over, changes nothing.
pub fn deny(state: &mut State<'_, '_>, answers: &[HoldAnswer]) -> Outcome<Answer> {
    for answer in answers {
        match session::living(state, answer.session) {
            Ok(_) => take(state, answer)?,
            Err(NamespaceError::Refused(_)) => {}
            Err(fault) => return Err(fault),
        }
    }
    decide(state)
}

fn take(state: &mut State<'_, '_>, answer: &HoldAnswer) -> Outcome<()> {
    let Some(before) = state.denial(answer.session)? else { return Ok(()) };
    let most = answer.held.len().max(answer.released.len());
    if answer.number <= before.number || most > HOLDS_PER_ANSWER_MAX {
        return Ok(());
    }
    let mut held = before.held;
    for ino in &answer.released {
        held = held.saturating_sub(u32::from(state.unhold(answer.session, *ino)?));
    }
    let fits = held as usize + answer.held.len() <= HELD_UNLINKED_MAX as usize;
    // Nobody denies what is yet to come. With more than a session may hold it denies nothing: all stays.
    let upto = if fits { answer.upto.min(state.index).max(before.upto) } else { before.upto };
    for ino in answer.held.iter().filter(|_| fits) {
        // What it denied once it has not got since.
        let orphan: Option<Orphan> = state.get(&orphans::key(*ino))?;
        let asked = orphan.and_then(|o| o.since).is_some_and(|since| since > before.upto && since <= upto);
        if asked {
            held += u32::from(state.hold(answer.session, *ino)?);
        }
    }
    state.put_denial(answer.session, Some(before), Denial { number: answer.number, upto, held });
    Ok(())
}

/// Decides on unlinked files that no answer is missing of.
pub fn decide(state: &mut State<'_, '_>) -> Outcome<Answer> {
    state.decide_unlinked()?;
    Ok(Answer::default())
}

/// What a session claims to hold, if no later answer of its has taken the claim's place.
pub fn claim(
    state: &State<'_, '_>,
    session: SessionId,
    number: u64,
    inos: &[InodeId],
) -> Outcome<Option<Claim>> {
    let valid = state.denial(session)?.is_some_and(|denial| denial.number == number);
    Ok(valid.then(|| Claim { session, inos: inos.to_vec() }))
}

/// Lets go what a session that is over holds; true when that was much: the rest of its end goes in
/// another entry.
pub fn end_session(state: &mut State<'_, '_>, session: SessionId) -> Outcome<bool> {
    let rows = state.txn.scan(Table::Holds, &holds::holding(session), ENDED_AT_ONCE)?;
    let all = rows.len() < ENDED_AT_ONCE;
    for (key, _) in rows {
        if let holds::Hold::Holding(_, ino) = holds::Hold::parse(&key)?
            && !state.unhold(session, ino)?
        {
            // Only half of the pair was there: else this would be done again and again.
            state.delete(Table::Holds, key);
        }
    }
    Ok(!all || state.txn.rows_touched() >= ROWS_AT_ONCE)
}
