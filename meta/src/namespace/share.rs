//! Extents that several files name: each counts in its chunk's live bytes.

use cairn_types::limits::{FILE_BYTES_MAX, ROWS_PER_ENTRY_MAX};
use cairn_types::{Extent, FsError, Inode, InodeId};

use super::chunks::LiveChanges;
use super::content::further;
use super::error::{Outcome, refuse};
use super::operation::Target;
use super::permissions::{READ, WRITE};
use super::reply::Answer;
use super::state::{State, regular};
use crate::keys::contents;
use crate::keys::extents::{self, ExtentRow};
use crate::keys::{self, Record};
use crate::store::{Rows, Table};

/// The part of an extent that lies in `[start, end)`.
fn clipped(extent: &Extent, start: u64, end: u64) -> Extent {
    let from = extent.file_offset.max(start);
    let source = further(&extent.source, from - extent.file_offset);
    Extent { file_offset: from, length: extent.end().min(end) - from, source }
}

/// The end of a range of a file, in bounds.
pub(super) fn end_of(offset: u64, length: u64) -> Result<u64, FsError> {
    offset.checked_add(length).filter(|end| *end <= FILE_BYTES_MAX).ok_or(FsError::FileTooLarge)
}

impl State<'_, '_> {
    /// A regular file whose length is known, and that the caller may read.
    pub fn settled_file(&self, target: &Target) -> Outcome<Inode> {
        let inode = self.resolve(target)?;
        regular(&inode)?;
        self.may(target, &inode, READ)?;
        self.settled(&inode)?;
        Ok(inode)
    }

    /// A regular file whose length is known, and that the caller may change.
    pub fn changeable(&mut self, target: &Target) -> Outcome<Inode> {
        let inode = self.resolve(target)?;
        regular(&inode)?;
        self.changing(&inode)?;
        self.begin_keeping(&inode)?;
        self.may(target, &inode, WRITE)?;
        self.settled(&inode)?;
        Ok(inode)
    }

    /// Writes a file whose content changed, and answers it.
    pub fn changed(&mut self, mut inode: Inode) -> Outcome<Answer> {
        self.write_changed(&mut inode)?;
        Ok(Answer { inode: Some(inode), ..Answer::default() })
    }

    /// The extents of `[start, end)` of a file, cut to it; [`FsError::TooLarge`] for more than one
    /// entry may write.
    pub fn extents_within(&self, ino: InodeId, start: u64, end: u64) -> Outcome<Vec<Extent>> {
        let mut found = Vec::new();
        for span in contents::of(&*self.txn, ino)?.spans(start, end) {
            let (first, here) = (extents::key(span.content, 0), extents::key(span.content, span.from));
            if let Some((key, bytes)) = self.txn.last_before(Table::Extents, &first, &here)? {
                let before = extents::extent(&key, ExtentRow::from_bytes(&key, &bytes)?)?;
                if before.end() > span.from {
                    found.push(clipped(&before, span.from, span.until));
                }
            }
            let range = extents::starting_in(span.content, span.from, span.until);
            for (key, row) in keys::scan::<ExtentRow>(&*self.txn, &range, ROWS_PER_ENTRY_MAX)? {
                found.push(clipped(&extents::extent(&key, row)?, span.from, span.until));
            }
            if found.len() >= ROWS_PER_ENTRY_MAX {
                return refuse(FsError::TooLarge);
            }
        }
        Ok(found)
    }

    /// Lays extents of a file over another's content, or its own, moved so that what was at `from`
    /// is at `to`. The caller checks the ends and writes the inode.
    pub fn share(
        &mut self,
        ino: InodeId,
        list: &[Extent],
        (from, to): (u64, u64),
        live: &mut LiveChanges,
    ) -> Outcome<()> {
        for extent in list {
            let file_offset = extent.file_offset - from + to;
            self.lay(ino, &Extent { file_offset, ..extent.clone() }, live)?;
            self.check_rows()?;
        }
        Ok(())
    }

    /// Gives an empty file the content of `source`; the caller writes the inode.
    pub fn share_all(&mut self, source: &Inode, inode: &mut Inode) -> Outcome<()> {
        let list = self.extents_within(source.ino, 0, source.size)?;
        let mut live = LiveChanges::new();
        self.share(inode.ino, &list, (0, 0), &mut live)?;
        inode.size = source.size;
        self.apply_live(live)
    }
}
