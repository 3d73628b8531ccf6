//! Kept replies and writers.

use cairn_types::limits::REPLIES_PER_SESSION_MAX;
use cairn_types::{FsError, SessionId};

use super::{record, still};
use crate::keys::sessions::{self, SessionRecord};
use crate::keys::writers;
use crate::namespace::check::{Finding, at};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::state::State;
use crate::store::{Rows, Table};

/// Replies that one entry removes, at most.
const AT_ONCE: usize = 2 * REPLIES_PER_SESSION_MAX;

pub fn repair(state: &mut State<'_, '_>, finding: &Finding) -> Outcome<()> {
    match finding {
        Finding::ReplyCount { session, .. } => count_replies(state, *session)?,
        Finding::StrayReplies { session } => {
            still(state, finding)?;
            for (key, _) in state.txn.scan(Table::Replies, &sessions::replies(*session), AT_ONCE)? {
                state.delete(Table::Replies, key);
            }
        }
        Finding::StrayWriter { ino, writer } => {
            still(state, finding)?;
            state.delete(Table::Writers, writers::key(*ino, *writer));
            state.delete(Table::Writing, writers::writing_key(*writer, *ino));
        }
        Finding::UnlistedWriter { ino, writer } => {
            still(state, finding)?;
            state.mark(Table::Writing, writers::writing_key(*writer, *ino));
        }
        Finding::StrayWriting { ino, writer } => {
            still(state, finding)?;
            state.delete(Table::Writing, writers::writing_key(*writer, *ino));
        }
        _ => return refuse(FsError::InvalidRequest),
    }
    Ok(())
}

/// Acknowledged replies go, and the others are counted.
fn count_replies(state: &mut State<'_, '_>, session: SessionId) -> Outcome<()> {
    let mut known: SessionRecord = record(at(&*state.txn, &sessions::key(session))?)?;
    let rows = state.txn.scan(Table::Replies, &sessions::replies(session), AT_ONCE)?;
    if rows.len() == AT_ONCE {
        return refuse(FsError::TooLarge);
    }
    let (mut kept, mut dropped) = (0, false);
    for (key, _) in rows {
        let Ok(sequence) = sessions::reply_sequence(&key) else { return refuse(FsError::Damaged) };
        if sequence < known.acknowledged_below {
            state.delete(Table::Replies, key);
            dropped = true;
        } else {
            kept += 1;
        }
    }
    if known.replies == kept && !dropped {
        return refuse(FsError::NotFound);
    }
    known.replies = kept;
    state.put(sessions::key(session), &known);
    Ok(())
}
