//! `contents`, `detached`: the parts of files that were cut, and what is no file's any more.

use cairn_types::InodeId;

use super::extents::{detached_from, fits};
use super::look::{Cursor, Look, Pass};
use super::{Counter, Finding};
use crate::keys::contents::{self, ContentId, ContentRow, DetachedRow, PARTS_MAX};
use crate::keys::extents::{self, ExtentRow};
use crate::keys::{Record, u64_at};
use crate::store::{KeyRange, StoreFault, Table};

pub(super) fn passes() -> Vec<Box<dyn Pass>> {
    vec![
        Box::new(Parts { rows: Cursor::all(Table::Contents), of: None }),
        Box::new(Later::default()),
        Box::new(Detached(Cursor::all(Table::Detached))),
    ]
}

/// Files that were cut: their parts are in order and were made, and what lies in them fits.
struct Parts {
    rows: Cursor,
    of: Option<Part>,
}

/// A part whose extents are being read.
struct Part {
    ino: InodeId,
    content: ContentId,
    from: u64,
    until: u64,
    end: u64,
    cursor: Cursor,
    outside: bool,
    /// The parts of the file after it.
    left: Vec<contents::Part>,
}

impl Pass for Parts {
    fn name(&self) -> &'static str {
        "contents of files that were cut"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let mut budget = look.bounds.rows_per_step as u64;
        while let Some(part) = self.of.as_mut() {
            let before = look.scanned;
            let ended = part.read(look)?;
            if ended {
                self.of = self.of.take().and_then(Part::next);
            }
            budget = budget.saturating_sub(look.scanned - before + 1);
            if budget == 0 {
                return Ok(false);
            }
        }
        let (rows, ended) = self.rows.next_within(look, 1)?;
        for (key, bytes) in rows {
            let Some(ino) = look.number(Table::Contents, &key, 0).map(InodeId) else { continue };
            let Some(row) = look.read::<ContentRow>(&key, &bytes) else { continue };
            look.tally.id(Counter::Inodes, ino.0);
            self.of = parts_of(look, ino, row)?;
        }
        Ok(ended && self.of.is_none())
    }
}

/// The first of a file's parts, when they are in order and it exists.
fn parts_of(look: &mut Look<'_>, ino: InodeId, row: ContentRow) -> Result<Option<Part>, StoreFault> {
    for part in &row.parts {
        look.tally.content(part.content);
    }
    let known = look.known(ino)?;
    if known.is_absent() {
        look.found(Finding::LostFile { ino });
        return Ok(None);
    }
    if known.record().is_some_and(|inode| !inode.is_file()) {
        look.found(Finding::NoFile { ino });
        return Ok(None);
    }
    let mut sound = row.parts.len() <= PARTS_MAX && row.parts.first().is_some_and(|part| part.from == 0);
    for (n, part) in row.parts.iter().enumerate() {
        let until = row.parts.get(n + 1).map_or(u64::MAX, |next| next.from);
        let own = n == 0 && part.content == ContentId::from(ino);
        let gone = detached_from(look, part.content)? < until;
        sound &= part.from < until && (own || part.content.number().is_some()) && !gone;
    }
    if !sound {
        look.found(Finding::BadParts { ino });
        return Ok(None);
    }
    let mut left = row.parts;
    left.reverse();
    Ok(Part::first(ino, left, 0))
}

impl Part {
    fn first(ino: InodeId, mut left: Vec<contents::Part>, end: u64) -> Option<Self> {
        let part = left.pop()?;
        let until = left.last().map_or(u64::MAX, |next| next.from);
        let (content, from) = (part.content, part.from);
        let cursor = Cursor::of(Table::Extents, extents::starting_in(content, 0, u64::MAX));
        Some(Self { ino, content, from, until, end, cursor, outside: false, left })
    }

    fn next(self) -> Option<Self> {
        Self::first(self.ino, self.left, self.end)
    }

    /// Reads some of its extents; true at their end.
    fn read(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let detached = detached_from(look, self.content)?;
        let (rows, mut ended) = self.cursor.next(look)?;
        for (key, bytes) in rows {
            let row: Option<ExtentRow> = Record::from_bytes(&key, &bytes).ok();
            let Some(Ok(extent)) = row.map(|row| extents::extent(&key, row)) else { continue };
            if extent.file_offset >= detached {
                ended = true;
                break;
            }
            let end = extent.file_offset.saturating_add(extent.length);
            let own = self.content == ContentId::from(self.ino);
            // What lies under its own number was looked at with all extents.
            if !own && !self.outside && (extent.file_offset < self.from || end > self.until) {
                self.outside = true;
                let (ino, content, offset) = (self.ino, self.content, extent.file_offset);
                look.found(Finding::OutsidePart { ino, content, offset });
            }
            self.end = self.end.max(end);
        }
        if ended && self.left.is_empty() && self.content != ContentId::from(self.ino) {
            fits(look, self.ino, self.end, true)?;
        }
        Ok(ended)
    }
}

/// Contents that were made for files that were cut: each is one part of one file, or detached.
/// So many of them are held at a time, with a pass over the files that were cut for each lot.
#[derive(Default)]
struct Later {
    /// Ascending, with how many parts name each.
    held: Vec<(ContentId, u32)>,
    /// Where the next content is looked for.
    next: Option<ContentId>,
    gathered: bool,
    last: bool,
    rows: Option<Cursor>,
}

impl Pass for Later {
    fn name(&self) -> &'static str {
        "contents and their files"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        if !self.gathered {
            self.gather(look)?;
            return Ok(self.gathered && self.held.is_empty());
        }
        let cursor = self.rows.get_or_insert_with(|| Cursor::all(Table::Contents));
        let (rows, ended) = cursor.next(look)?;
        for (key, bytes) in rows {
            let row: Option<ContentRow> = Record::from_bytes(&key, &bytes).ok();
            for part in row.into_iter().flat_map(|row| row.parts) {
                if let Ok(at) = self.held.binary_search_by_key(&part.content, |(id, _)| *id)
                    && let Some((_, named)) = self.held.get_mut(at)
                {
                    *named += 1;
                    if *named == 2 {
                        let ino = InodeId(u64_at(Table::Contents, &key, 0).unwrap_or_default());
                        look.found(Finding::BadParts { ino });
                    }
                }
            }
        }
        if ended {
            for (content, named) in std::mem::take(&mut self.held) {
                if named == 0 {
                    look.found(Finding::LostContent { content });
                }
            }
            (self.rows, self.gathered) = (None, false);
        }
        Ok(ended && self.last)
    }
}

impl Later {
    /// Goes from content to content, one seek each.
    fn gather(&mut self, look: &mut Look<'_>) -> Result<(), StoreFault> {
        for _ in 0..look.bounds.rows_per_step {
            let from = self.next.unwrap_or(ContentId::later(0));
            let range = KeyRange { from: extents::key(from, 0), until: None };
            let found = look.rows.scan(Table::Extents, &range, 1)?;
            look.scanned += found.len() as u64;
            let Some((key, _)) = found.first() else {
                (self.gathered, self.last) = (true, true);
                return Ok(());
            };
            let id = ContentId(u64_at(Table::Extents, key, 0).unwrap_or(u64::MAX));
            let first = u64_at(Table::Extents, key, 8).unwrap_or(0);
            if first < detached_from(look, id)? {
                self.held.push((id, 0));
            }
            match id.0.checked_add(1) {
                Some(next) => self.next = Some(ContentId(next)),
                None => (self.gathered, self.last) = (true, true),
            }
            if self.held.len() >= look.bounds.sums_at_once.max(1) {
                self.gathered = true;
            }
            if self.gathered {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Rows of contents that wait for their removal can be read.
struct Detached(Cursor);

impl Pass for Detached {
    fn name(&self) -> &'static str {
        "detached contents"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, bytes) in rows {
            if let Some(id) = look.number(Table::Detached, &key, 0).map(ContentId) {
                look.tally.content(id);
                look.read::<DetachedRow>(&key, &bytes);
            }
        }
        Ok(ended)
    }
}
