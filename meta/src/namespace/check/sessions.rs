//! `sessions` ↔ `replies`; `writers` ↔ `writing` ↔ files and sessions.

use cairn_types::{InodeId, SessionId, WriterId};

use super::look::{At, Cursor, Look, Pass};
use super::{Counter, Finding};
use crate::keys::sessions::{self, SessionRecord};
use crate::keys::writers::{self, WriterRow};
use crate::store::{StoreFault, Table};

pub(super) fn passes() -> Vec<Box<dyn Pass>> {
    vec![
        Box::new(Sessions(Cursor::all(Table::Sessions))),
        Box::new(Replies { cursor: Cursor::all(Table::Replies), of: None }),
        Box::new(Writers(Cursor::all(Table::Writers))),
        Box::new(Writing(Cursor::all(Table::Writing))),
    ]
}

struct Sessions(Cursor);

impl Pass for Sessions {
    fn name(&self) -> &'static str {
        "sessions"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, bytes) in rows {
            let Some(record) = look.read::<SessionRecord>(&key, &bytes) else { continue };
            let session = record.session;
            if key != sessions::key(session) {
                look.unreadable(Table::Sessions, &key);
                continue;
            }
            look.tally.add(Counter::Sessions, 1);
            look.tally.id(Counter::Sessions, session.0);
            // With replies they are counted where those are read.
            if record.replies > 0 && !look.any(Table::Replies, &sessions::replies(session))? {
                look.found(Finding::ReplyCount { session, recorded: record.replies, counted: 0 });
            }
        }
        Ok(ended)
    }
}

/// Kept replies, counted for each session.
struct Replies {
    cursor: Cursor,
    of: Option<Kept>,
}

struct Kept {
    session: SessionId,
    record: At<SessionRecord>,
    count: u32,
    /// The first of them was acknowledged.
    old: bool,
}

impl Pass for Replies {
    fn name(&self) -> &'static str {
        "kept replies"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.cursor.next(look)?;
        for (key, bytes) in rows {
            let Some(session) = look.number(Table::Replies, &key, 0).map(SessionId) else { continue };
            let Some(sequence) = look.number(Table::Replies, &key, 8) else { continue };
            if crate::namespace::reply::from_bytes(&bytes).is_err() {
                look.unreadable(Table::Replies, &key);
            }
            if self.of.as_ref().is_none_or(|kept| kept.session != session) {
                self.close(look);
                let record = look.at::<SessionRecord>(&sessions::key(session))?;
                look.tally.id(Counter::Sessions, session.0);
                self.of = Some(Kept { session, record, count: 0, old: false });
            }
            if let Some(kept) = self.of.as_mut() {
                kept.count += 1;
                kept.old |= matches!(&kept.record, At::Record(r) if sequence < r.acknowledged_below.0);
            }
        }
        if ended {
            self.close(look);
        }
        Ok(ended)
    }
}

impl Replies {
    fn close(&mut self, look: &mut Look<'_>) {
        let Some(Kept { session, record, count, old }) = self.of.take() else { return };
        match record {
            At::Unreadable => {}
            At::Nothing => look.found(Finding::StrayReplies { session }),
            At::Record(record) => {
                if record.replies != count || old {
                    look.found(Finding::ReplyCount { session, recorded: record.replies, counted: count });
                }
            }
        }
    }
}

struct Writers(Cursor);

impl Pass for Writers {
    fn name(&self) -> &'static str {
        "writers of files"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, bytes) in rows {
            let Some(ino) = look.number(Table::Writers, &key, 0).map(InodeId) else { continue };
            let Some(writer) = look.number(Table::Writers, &key, 8).map(WriterId) else { continue };
            look.read::<WriterRow>(&key, &bytes);
            if is_stray(look, ino, writer)? {
                look.found(Finding::StrayWriter { ino, writer });
            } else if !look.has(Table::Writing, &writers::writing_key(writer, ino))? {
                look.found(Finding::UnlistedWriter { ino, writer });
            }
        }
        Ok(ended)
    }
}

struct Writing(Cursor);

impl Pass for Writing {
    fn name(&self) -> &'static str {
        "files of writers"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, _) in rows {
            let Ok((writer, ino)) = writers::parse_writing(&key) else {
                look.unreadable(Table::Writing, &key);
                continue;
            };
            if !look.has(Table::Writers, &writers::key(ino, writer))? {
                look.found(Finding::StrayWriting { ino, writer });
            }
        }
        Ok(ended)
    }
}

/// True when a writer's file or session is gone.
fn is_stray(look: &Look<'_>, ino: InodeId, writer: WriterId) -> Result<bool, StoreFault> {
    let session = look.has(Table::Sessions, &sessions::key(writer.session()))?;
    Ok(!session || look.known(ino)?.is_absent())
}

/// Whether what was found of replies of nobody, and of writers, is so still.
pub(super) fn is_so(look: &Look<'_>, finding: &Finding) -> Result<bool, StoreFault> {
    let writer_is = |ino: InodeId, writer: WriterId| look.has(Table::Writers, &writers::key(ino, writer));
    let listed =
        |ino: InodeId, writer: WriterId| look.has(Table::Writing, &writers::writing_key(writer, ino));
    Ok(match finding {
        Finding::StrayReplies { session } => {
            let session = *session;
            !look.has(Table::Sessions, &sessions::key(session))?
                && look.any(Table::Replies, &sessions::replies(session))?
        }
        Finding::StrayWriter { ino, writer } => writer_is(*ino, *writer)? && is_stray(look, *ino, *writer)?,
        Finding::UnlistedWriter { ino, writer } => {
            writer_is(*ino, *writer)? && !listed(*ino, *writer)? && !is_stray(look, *ino, *writer)?
        }
        Finding::StrayWriting { ino, writer } => listed(*ino, *writer)? && !writer_is(*ino, *writer)?,
        _ => false,
    })
}
