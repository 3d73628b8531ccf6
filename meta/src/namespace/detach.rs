//! Extents that no file names any more. A file that is cut where more of them lie than one entry
//! removes goes on, from the cut, under another content: that is a few rows, and every reader sees
//! the cut at once. What lay there is detached and removed in steps, and counts as live until then.

use cairn_types::InodeId;

use super::chunks::LiveChanges;
use super::content::note;
use super::error::Outcome;
use super::state::State;
use crate::keys::contents::{self, ContentId, ContentRow, DetachedRow, PARTS_MAX, Part, Span};
use crate::keys::counters::{self, ContentCounter};
use crate::keys::extents::{self, ExtentRow};
use crate::keys::{self, RowFault};
use crate::store::{Rows, Table};

impl State<'_, '_> {
    /// Detaches all of a file's extents from `size` on. False, and nothing is changed, when they
    /// are few enough to go in this entry, or the file has as many parts as it may.
    pub fn cut_off(&mut self, ino: InodeId, size: u64, live: &mut LiveChanges) -> Outcome<bool> {
        let mut row = contents::of(&*self.txn, ino)?;
        if !self.are_many(&row.spans(size, u64::MAX))? {
            return Ok(false);
        }
        let kept = row.parts.partition_point(|part| part.from < size);
        if kept >= PARTS_MAX {
            return Ok(false);
        }
        for part in row.parts.split_off(kept) {
            self.give_up(ino, part)?;
        }
        if let Some(last) = row.parts.last().copied() {
            self.trim_before(ino, last.content, size, u64::MAX, live)?;
            self.give_up(ino, Part { from: size, content: last.content })?;
        }
        let content = self.new_content()?;
        row.parts.push(Part { from: size, content });
        self.put(contents::key(ino), &row);
        Ok(true)
    }

    /// True when more extents start in the spans than one entry removes.
    fn are_many(&self, spans: &[Span]) -> Result<bool, RowFault> {
        let most = self.bounds.rows_at_once;
        let mut found = 0;
        for span in spans {
            let range = extents::starting_in(span.content, span.from, span.until);
            found += self.txn.scan(Table::Extents, &range, most + 1 - found)?.len();
            if found > most {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Detaches a part, unless it is kept for an intent that writes the file to its bucket.
    fn give_up(&mut self, ino: InodeId, part: Part) -> Result<(), RowFault> {
        if self.keep_part(ino, part)? { Ok(()) } else { self.detach(part) }
    }

    /// Another content.
    pub fn new_content(&mut self) -> Result<ContentId, RowFault> {
        let known: Option<ContentCounter> = self.get(counters::CONTENTS_KEY)?;
        let made = known.unwrap_or_default().made + 1;
        self.put(counters::CONTENTS_KEY.to_vec(), &ContentCounter { made });
        Ok(ContentId::later(made))
    }

    /// Notes that the extents of a part are no file's, up to the end of its content.
    pub fn detach(&mut self, part: Part) -> Result<(), RowFault> {
        let key = contents::detached_key(part.content);
        let known: Option<DetachedRow> = self.get(&key)?;
        let from = known.map_or(part.from, |row| row.from.min(part.from));
        self.put(key, &DetachedRow { from });
        Ok(())
    }

    /// Detaches all extents of a file that goes, if it was ever cut.
    pub fn detach_all(&mut self, ino: InodeId) -> Result<(), RowFault> {
        let row: Option<ContentRow> = self.get(&contents::key(ino))?;
        let Some(row) = row else { return Ok(()) };
        for part in row.parts {
            self.detach(part)?;
        }
        self.delete(Table::Contents, contents::key(ino));
        Ok(())
    }

    /// Removes up to `limit` of the extents of a content that start at `from` or later, none of
    /// which a file names any more; true when none are left.
    pub fn drop_extents(&mut self, content: ContentId, from: u64, limit: usize) -> Outcome<bool> {
        let range = extents::starting_at(content, from);
        let rows = keys::scan::<ExtentRow>(&*self.txn, &range, limit + 1)?;
        let done = rows.len() <= limit;
        let mut live = LiveChanges::new();
        for (key, row) in rows.into_iter().take(limit) {
            note(&mut live, &row.source, row.length, false);
            self.delete(Table::Extents, key);
        }
        self.apply_live(live)?;
        Ok(done)
    }
}
