//! The bytes of files while an intent writes them: what a picture names lives until the intent ends, also where
//! the file names it no more.

use cairn_types::{Extent, ExtentSource, FsError, Inode, InodeId, IntentId, ObjectKey};

use crate::keys::{self, RowFault};
use crate::keys::contents::{self, ContentId, ContentRow, Part};
use crate::keys::extents::{self, ExtentRow};
use crate::keys::pictures::{self, KeepRow};
use crate::namespace::chunks::LiveChanges;
use crate::namespace::content::note;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::state::State;
use crate::store::{Rows, Table};

impl State<'_, '_> {
    /// What is kept of a file for the intent that writes it.
    pub fn keep_of(&self, ino: InodeId) -> Result<Option<KeepRow>, RowFault> {
        match self.mounted.keeps.get(&ino) {
            Some(keep) => Ok(Some(keep.clone())),
            None => self.get(&pictures::keep_key(ino)),
        }
    }

    /// Sees to it that what is taken from a file of a mount from here on is kept, when an intent writes it.
    pub fn begin_keeping(&mut self, inode: &Inode) -> Outcome<()> {
        if inode.mount.is_none() || self.mounted.keeps.contains_key(&inode.ino) {
            return Ok(());
        }
        let Some(keep) = self.keep_of(inode.ino)? else { return Ok(()) };
        if keep.frozen {
            return refuse(FsError::Importing { intent: keep.intent });
        }
        self.mounted.keeps.insert(inode.ino, keep);
        Ok(())
    }

    /// Takes over a range that a file names no more, if it is to be kept. Answers whether it is.
    pub fn keep_range(
        &mut self,
        ino: InodeId,
        source: &ExtentSource,
        length: u64,
        live: &mut LiveChanges,
    ) -> Result<bool, RowFault> {
        if !self.mounted.keeps.contains_key(&ino) || !matches!(source, ExtentSource::Chunk { .. }) {
            return Ok(false);
        }
        let content = match self.mounted.keeps.get(&ino).and_then(|keep| keep.content) {
            Some(content) => content,
            None => {
                let content = self.new_content()?;
                self.keep_part(ino, Part { from: 0, content })?;
                content
            }
        };
        let Some(keep) = self.mounted.keeps.get_mut(&ino) else { return Ok(false) };
        let at = keep.next;
        keep.content = Some(content);
        keep.next += length;
        note(live, source, length, true);
        self.put(extents::key(content, at), &ExtentRow { length, source: source.clone() });
        Ok(true)
    }

    /// Takes over a part that no file names any more, if it is to be kept: it is detached, and not removed
    /// before the intent has ended. Answers whether it is kept.
    pub fn keep_part(&mut self, ino: InodeId, part: Part) -> Result<bool, RowFault> {
        let Some(keep) = self.mounted.keeps.get_mut(&ino) else { return Ok(false) };
        if !keep.contents.contains(&part.content) {
            keep.contents.push(part.content);
        }
        self.mark(Table::Keeps, pictures::kept_key(part.content));
        self.detach(part)?;
        Ok(true)
    }

    /// Takes over all that a file has that goes, if it is to be kept.
    pub fn keep_all(&mut self, ino: InodeId) -> Result<(), RowFault> {
        let Some(keep) = self.keep_of(ino)? else { return Ok(()) };
        self.mounted.keeps.insert(ino, keep);
        let row: Option<ContentRow> = self.get(&contents::key(ino))?;
        self.delete(Table::Contents, contents::key(ino));
        for part in row.unwrap_or_else(|| ContentRow::own(ino)).parts {
            self.keep_part(ino, part)?;
        }
        Ok(())
    }

    /// Sees to it that what an intent needs of a file that goes is left to it.
    pub fn load_keep(&mut self, inode: &Inode) -> Result<(), RowFault> {
        if inode.mount.is_some()
            && let Some(keep) = self.keep_of(inode.ino)?
        {
            self.mounted.keeps.insert(inode.ino, keep);
        }
        Ok(())
    }

    /// True when the extents under a file's own number are kept beyond its end.
    pub fn keeps_own(&self, ino: InodeId) -> bool {
        let own = ContentId::from(ino);
        self.mounted.keeps.get(&ino).is_some_and(|keep| keep.contents.contains(&own))
    }

    /// True for a detached content that an intent needs still.
    pub fn is_kept(&self, content: ContentId) -> Result<bool, RowFault> {
        Ok(self.txn.get(Table::Keeps, &pictures::kept_key(content))?.is_some())
    }

    /// Nothing is kept of a file any more for that intent: what is detached goes in steps.
    pub fn end_keep(&mut self, ino: InodeId, intent: IntentId) -> Result<(), RowFault> {
        let Some(keep) = self.keep_of(ino)?.filter(|keep| keep.intent == intent) else { return Ok(()) };
        self.mounted.keeps.remove(&ino);
        self.delete(Table::Keeps, pictures::keep_key(ino));
        for content in keep.contents {
            self.delete(Table::Keeps, pictures::kept_key(content));
        }
        Ok(())
    }

    /// Makes the object that was written what a file consists of, while the file is as it was then.
    pub fn become_object(&mut self, inode: &Inode, object: &ObjectKey) -> Outcome<()> {
        let mut live = LiveChanges::new();
        if !self.cut_off(inode.ino, 0, &mut live)? {
            self.carve(inode.ino, 0, u64::MAX, &mut live)?;
        }
        if inode.size > 0 {
            let source = ExtentSource::Object { object: object.clone(), offset: 0 };
            let extent = Extent { file_offset: 0, length: inode.size, source };
            self.lay(inode.ino, &extent, &mut live)?;
        }
        self.apply_live(live)
    }

    /// The ranges of a file that lie in objects, each with the content that it is under.
    fn in_objects(&self, ino: InodeId) -> Result<Vec<(ContentId, Extent)>, RowFault> {
        let mut found = Vec::new();
        for span in contents::of(&*self.txn, ino)?.spans(0, u64::MAX) {
            let range = extents::starting_in(span.content, span.from, span.until);
            for (key, row) in keys::scan::<ExtentRow>(&*self.txn, &range, usize::MAX)? {
                if matches!(row.source, ExtentSource::Object { .. }) {
                    found.push((span.content, extents::extent(&key, row)?));
                }
            }
        }
        Ok(found)
    }

    /// Points what a file still has of its object at the one that was written from it: bytes never move in a
    /// file, so that each is there where it is in the file.
    pub fn repoint(&mut self, inode: &Inode, to: &ObjectKey) -> Outcome<()> {
        for (content, extent) in self.in_objects(inode.ino)? {
            let source = ExtentSource::Object { object: to.clone(), offset: extent.file_offset };
            let row = ExtentRow { length: extent.length, source };
            self.put(extents::key(content, extent.file_offset), &row);
        }
        Ok(())
    }

    /// Makes zeros of what a file has of objects: their bytes are not in the bucket any more. Answers how many.
    pub fn lose_objects(&mut self, inode: &Inode) -> Outcome<u64> {
        let mut lost = 0;
        for (content, extent) in self.in_objects(inode.ino)? {
            lost += extent.length;
            self.delete(Table::Extents, extents::key(content, extent.file_offset));
        }
        Ok(lost)
    }
}
