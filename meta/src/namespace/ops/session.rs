//! OpenSession, Acknowledge, the end of a session, and the kept replies.

use cairn_types::limits::{REPLIES_PER_SESSION_MAX, ROWS_PER_ENTRY_MAX};
use cairn_types::{Credentials, FsError, InodeId, Sequence, SessionId, WriterId};

use crate::keys::credentials;
use crate::keys::held;
use crate::keys::holds::Denial;
use crate::keys::sessions::{self, SessionRecord};
use crate::keys::writers;
use crate::keys::{Record, RowFault};
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::ops::{deny, lock, open};
use crate::namespace::reply::{self, Answer, Reply};
use crate::namespace::state::State;
use crate::namespace::walk;
use crate::store::{Rows, Table};

/// Bytes of a client's name that are kept.
const CLIENT_BYTES_MAX: usize = 128;
/// Acknowledged sequences that are looked up one by one: what was kept a moment ago is in memory, and
/// a get there costs far less than a scan.
const GETS_RATHER_THAN_SCAN: u64 = 64;
/// Chunks, and files, of a session that one entry lets go.
const ENDED_AT_ONCE: usize = 256;

/// As [`open`], of a client that says which unlinked files it holds: it holds none yet.
pub fn open_holder(
    state: &mut State<'_, '_>,
    client: &str,
    credentials: Option<&Credentials>,
) -> Outcome<Answer> {
    let answer = open(state, client, credentials)?;
    if let Some(session) = answer.session {
        let upto = state.index;
        state.put_denial(session, None, Denial { upto, ..Denial::default() });
    }
    Ok(answer)
}

/// Opens a session, whose requests are checked when the client says who it is.
pub fn open(state: &mut State<'_, '_>, client: &str, credentials: Option<&Credentials>) -> Outcome<Answer> {
    if credentials.is_some_and(|who| !who.is_valid()) {
        return refuse(FsError::InvalidRequest);
    }
    let session = state.cluster.next.session;
    state.cluster.next.session = session.next();
    state.cluster.counts.sessions += 1;
    let record = SessionRecord {
        session,
        client: clipped(client, CLIENT_BYTES_MAX),
        opened: state.now(),
        acknowledged_below: Sequence(1),
        replies: 0,
        closing: false,
        checked: credentials.is_some(),
    };
    if let Some(credentials) = credentials {
        state.put(credentials::key(session), credentials);
    }
    state.put(sessions::key(session), &record);
    Ok(Answer { session: Some(session), ..Answer::default() })
}

/// The first `bytes_max` bytes of a text, cut at a character.
#[must_use]
pub fn clipped(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// The living session's record.
pub fn living(state: &State<'_, '_>, session: SessionId) -> Outcome<SessionRecord> {
    let record: Option<SessionRecord> = state.get(&sessions::key(session))?;
    match record {
        Some(record) if !record.closing => Ok(record),
        _ => refuse(FsError::SessionExpired),
    }
}

/// The credentials of a session that is checked.
pub fn credentials(state: &State<'_, '_>, session: SessionId) -> Result<Credentials, RowFault> {
    let key = credentials::key(session);
    match state.get(&key)? {
        Some(credentials) => Ok(credentials),
        None => Err(RowFault::Damaged { table: Table::Credentials, key }),
    }
}

/// Drops kept replies.
pub fn acknowledge(state: &mut State<'_, '_>, session: SessionId, below: Sequence) -> Outcome<Answer> {
    let mut record = living(state, session)?;
    drop_replies(state, &mut record, below)?;
    state.put(sessions::key(session), &record);
    Ok(Answer::default())
}

/// Drops the replies below a sequence; the caller writes the record.
pub fn drop_replies(
    state: &mut State<'_, '_>,
    record: &mut SessionRecord,
    below: Sequence,
) -> Result<(), RowFault> {
    if below <= record.acknowledged_below {
        return Ok(());
    }
    for key in replies_between(state, record, below)? {
        state.delete(Table::Replies, key);
        record.replies = record.replies.saturating_sub(1);
    }
    record.acknowledged_below = below;
    Ok(())
}

/// The keys of the replies that are kept and acknowledged by `below`.
fn replies_between(
    state: &State<'_, '_>,
    record: &SessionRecord,
    below: Sequence,
) -> Result<Vec<Vec<u8>>, RowFault> {
    let first = record.acknowledged_below.0;
    if below.0 - first > GETS_RATHER_THAN_SCAN {
        let range = sessions::replies_between(record.session, record.acknowledged_below, below);
        let rows = state.txn.scan(Table::Replies, &range, REPLIES_PER_SESSION_MAX)?;
        return Ok(rows.into_iter().map(|(key, _)| key).collect());
    }
    let mut kept = Vec::new();
    for sequence in first..below.0 {
        let key = sessions::reply_key(record.session, Sequence(sequence));
        if state.txn.get(Table::Replies, &key)?.is_some() {
            kept.push(key);
        }
    }
    Ok(kept)
}

/// The kept reply, if there is one.
pub fn kept_reply(
    state: &State<'_, '_>,
    session: SessionId,
    sequence: Sequence,
) -> Result<Option<Reply>, RowFault> {
    let key = sessions::reply_key(session, sequence);
    let Some(bytes) = state.txn.get(Table::Replies, &key)? else { return Ok(None) };
    let damaged = |_| RowFault::Damaged { table: Table::Replies, key: key.clone() };
    reply::from_bytes(&bytes).map(Some).map_err(damaged)
}

/// Keeps a reply; the caller has made room.
pub fn keep_reply(
    state: &mut State<'_, '_>,
    mut record: SessionRecord,
    sequence: Sequence,
    answered: &Reply,
) {
    record.replies += 1;
    state.put(sessions::key(record.session), &record);
    let key = sessions::reply_key(record.session, sequence);
    state.txn.put(Table::Replies, key, reply::to_bytes(answered));
}

/// Ends a session: its locks are freed, it holds no unlinked file, its shared chunks and the tails that it alone wrote begin their seal, its marks
/// and replies go. Answers the session while rows are left.
pub fn end(state: &mut State<'_, '_>, session: SessionId) -> Outcome<Answer> {
    let Some(mut record) = state.get::<SessionRecord>(&sessions::key(session))? else {
        return Ok(Answer::default());
    };
    if lock::end_session(state, session)? || deny::end_session(state, session)? {
        record.closing = true;
        state.put(sessions::key(session), &record);
        return Ok(Answer { session: Some(session), ..Answer::default() });
    }
    let mut left = end_chunks(state, session)?;
    left |= end_writers(state, session)?;
    let replies = state.txn.scan(Table::Replies, &sessions::replies(session), REPLIES_PER_SESSION_MAX)?;
    for (key, _) in replies {
        state.delete(Table::Replies, key);
    }
    debug_assert!(state.txn.rows_touched() < ROWS_PER_ENTRY_MAX);
    if left {
        record.closing = true;
        record.replies = 0;
        state.put(sessions::key(session), &record);
        return Ok(Answer { session: Some(session), ..Answer::default() });
    }
    state.delete(SessionRecord::TABLE, sessions::key(session));
    if record.checked {
        state.delete(Table::Credentials, credentials::key(session));
    }
    state.cluster.counts.sessions = state.cluster.counts.sessions.saturating_sub(1);
    state.drop_denial(session)?;
    state.decide_unlinked()?;
    Ok(Answer::default())
}

/// Lets some of the session's chunks go; true when more are left.
fn end_chunks(state: &mut State<'_, '_>, session: SessionId) -> Outcome<bool> {
    let rows = state.txn.scan(Table::Held, &held::of(session), ENDED_AT_ONCE + 1)?;
    let left = rows.len() > ENDED_AT_ONCE;
    for (key, _) in rows.into_iter().take(ENDED_AT_ONCE) {
        open::let_go(state, held::chunk(&key)?)?;
    }
    Ok(left)
}

/// Forgets some of the session's writers; true when more are left.
fn end_writers(state: &mut State<'_, '_>, session: SessionId) -> Outcome<bool> {
    let rows = state.txn.scan(Table::Writing, &writers::writing_of(session), ENDED_AT_ONCE + 1)?;
    let left = rows.len() > ENDED_AT_ONCE;
    for (key, _) in rows.into_iter().take(ENDED_AT_ONCE) {
        let (writer, ino) = writers::parse_writing(&key)?;
        state.delete(Table::Writing, key);
        end_writer(state, writer, ino)?;
    }
    Ok(left)
}

fn end_writer(state: &mut State<'_, '_>, writer: WriterId, ino: InodeId) -> Outcome<()> {
    state.delete(Table::Writers, writers::key(ino, writer));
    let alone = state.txn.scan(Table::Writers, &writers::of(ino), 1)?.is_empty();
    if alone && let Some((_, inode)) = walk::inode(&*state.txn, ino)? {
        state.seal_tail(&inode)?;
    }
    Ok(())
}
