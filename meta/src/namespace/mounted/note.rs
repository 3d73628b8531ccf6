//! Notes what the bucket does not hold as it is to, since something was changed here.

use cairn_types::{Inode, InodeId, LogIndex, MountId};

use crate::keys::imports::{self, ImportRecord};
use crate::keys::moves::{self, MoveRow};
use crate::keys::objects::{NOBODY, ObjectRow};
use crate::keys::pending::PendingRow;
use crate::namespace::error::Outcome;
use crate::namespace::state::State;

/// What of a file was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Its bytes.
    Content,
    /// Its mode, owner or times.
    Attributes,
    /// Where it is.
    Name,
}

impl State<'_, '_> {
    /// Writes where a file's bytes are, before anything changes by which that could be told.
    pub fn fix_home(&mut self, inode: &Inode) -> Outcome<()> {
        let Some(mount) = inode.mount else { return Ok(()) };
        if let Some(home) = self.home(inode)? {
            self.put_home(mount, inode.ino, &home);
        }
        Ok(())
    }

    /// Notes a change of a file of a mount. Its home was fixed before.
    pub fn note_file(&mut self, inode: &Inode, what: Changed) -> Outcome<()> {
        let Some(mount) = inode.mount else { return Ok(()) };
        if !inode.is_file() || !self.is_noted(mount)? {
            return Ok(());
        }
        let mut row = self.begin_pending(mount, inode.ino)?;
        row.bytes = inode.size;
        match what {
            Changed::Content => (row.content, row.content_at) = (true, self.index),
            Changed::Attributes => row.attributes_at = self.index,
            Changed::Name => {}
        }
        Ok(self.put_pending(mount, inode.ino, Some(&row))?)
    }

    /// The row of what is pending, as of a change now. What failed is tried again.
    pub fn begin_pending(&mut self, mount: MountId, ino: InodeId) -> Outcome<PendingRow> {
        let now = self.now();
        let mut row = match self.pending(mount, ino)? {
            Some(row) => row,
            None => PendingRow { since: now, ..PendingRow::default() },
        };
        row.changed = now;
        if row.intent.is_some() && self.unfinished(row.intent)?.is_none() {
            self.end_failed(row.intent)?;
            row.intent = None;
        }
        Ok(row)
    }

    /// Notes that a directory is to have a marker, if it has no name in it and none yet. The root of a mount
    /// needs none.
    pub fn note_marker(&mut self, dir: &Inode) -> Outcome<()> {
        let Some(mount) = dir.mount else { return Ok(()) };
        if !self.is_noted(mount)? || self.mount_at_root(dir)?.is_some() || !self.is_empty(dir.ino)? {
            return Ok(());
        }
        if self.home(dir)?.is_some() && self.pending(mount, dir.ino)?.is_none() {
            return Ok(());
        }
        let mut row = self.begin_pending(mount, dir.ino)?;
        row.marker = true;
        Ok(self.put_pending(mount, dir.ino, Some(&row))?)
    }

    /// As [`State::note_marker`] of a directory that a name was taken out of.
    pub fn note_taken_from(&mut self, dir: InodeId) -> Outcome<()> {
        match crate::namespace::walk::inode(&*self.txn, dir)? {
            Some((_, dir)) => self.note_marker(&dir),
            None => Ok(()),
        }
    }

    /// A directory that was made here: it is known to be empty.
    pub fn note_made(&mut self, dir: &Inode) -> Outcome<()> {
        let Some(mount) = dir.mount else { return Ok(()) };
        let Some(prefix) = self.wanted_key(dir)? else { return Ok(()) };
        let imported_at = Some(self.now());
        self.put_import(dir.ino, Some(&ImportRecord { mount, prefix, imported_at, intent: None }))?;
        self.note_marker(dir)
    }

    /// Before a directory moves: what it leaves. Nothing below it is touched.
    pub fn note_leaving(&mut self, dir: &Inode) -> Outcome<()> {
        let Some(mount) = dir.mount else { return Ok(()) };
        if !self.is_noted(mount)? {
            return Ok(());
        }
        let left = self.wanted_key(dir)?;
        let import: Option<ImportRecord> = self.get(&imports::key(dir.ino))?;
        for prefix in left.into_iter().chain(import.map(|import| import.prefix)) {
            self.put(moves::key(mount, &prefix), &MoveRow { directory: dir.ino });
        }
        let mut row = self.begin_pending(mount, dir.ino)?;
        row.walk = Some(Vec::new());
        Ok(self.put_pending(mount, dir.ino, Some(&row))?)
    }

    /// Before a file goes: its object is surplus from here on, and what an intent needs of it is kept.
    pub fn forget_file(&mut self, inode: &Inode) -> Outcome<()> {
        let Some(mount) = inode.mount else { return Ok(()) };
        let home = self.home(inode)?;
        self.forget_row(mount, inode.ino)?;
        if let Some(home) = home
            && self.object(mount, &home)?.is_some_and(|row| row.ino == inode.ino)
        {
            self.make_surplus(mount, &home)?;
        }
        Ok(self.keep_all(inode.ino)?)
    }

    /// Before an empty directory goes: its marker is surplus. One that came from the bucket may have a marker
    /// that nobody knows.
    pub fn forget_directory(&mut self, dir: &Inode) -> Outcome<()> {
        let Some(mount) = dir.mount else { return Ok(()) };
        self.forget_marker(mount, dir)?;
        self.forget_row(mount, dir.ino)?;
        super::super::ops::import::end_import_of(self, dir.ino)?;
        Ok(self.put_import(dir.ino, None)?)
    }

    /// A directory's marker is surplus where it is, known or not.
    pub fn forget_marker(&mut self, mount: MountId, dir: &Inode) -> Outcome<()> {
        let import: Option<ImportRecord> = self.get(&imports::key(dir.ino))?;
        if let Some(home) = self.home(dir)? {
            self.drop_home(dir.ino);
            self.make_surplus(mount, &home)?;
        }
        if let Some(ImportRecord { prefix, .. }) = import
            && !prefix.is_empty()
            && self.object(mount, &prefix)?.is_none()
            && self.claim(mount, &prefix)?.is_none()
        {
            self.put_object(mount, &prefix, &ObjectRow { ino: NOBODY, etag: String::new(), size: 0 })?;
            self.make_surplus(mount, &prefix)?;
        }
        Ok(())
    }

    /// A marker that is not where its directory is now is surplus.
    pub fn leave_marker(&mut self, dir: &Inode) -> Outcome<()> {
        let Some(mount) = dir.mount else { return Ok(()) };
        if let Some(home) = self.home(dir)?
            && self.wanted_key(dir)?.as_ref() != Some(&home)
        {
            self.drop_home(dir.ino);
            self.make_surplus(mount, &home)?;
        }
        Ok(())
    }

    /// The object at a key is a directory's marker from here on, whosever it was. A directory that loses it so
    /// has left that place.
    pub fn adopt_marker(&mut self, dir: &Inode, key: &[u8], (etag, size): (&str, u64)) -> Outcome<()> {
        let Some(mount) = dir.mount else { return Ok(()) };
        let former = self.home(dir)?.filter(|former| former != key);
        let owner = self.object(mount, key)?.map(|row| row.ino).filter(|ino| *ino != dir.ino);
        self.drop_object(mount, key)?;
        if let Some(owner) = owner.filter(|owner| *owner != NOBODY) {
            self.drop_home(owner);
            self.note_taken_from(owner)?;
        }
        let row = ObjectRow { ino: dir.ino, etag: etag.to_owned(), size };
        self.put_object(mount, key, &row)?;
        self.put_home(mount, dir.ino, key);
        if let Some(former) = former {
            self.make_surplus(mount, &former)?;
        }
        if let Some(mut row) = self.pending(mount, dir.ino)? {
            row.marker &= self.wanted_key(dir)?.as_deref() != Some(key);
            self.settle_pending(dir, row)?;
        }
        Ok(())
    }

    /// Nothing is pending of an inode that goes. An intent that is at it goes on: what it writes is surplus.
    fn forget_row(&mut self, mount: MountId, ino: InodeId) -> Outcome<()> {
        if let Some(row) = self.pending(mount, ino)? {
            self.end_failed(row.intent)?;
            self.put_pending(mount, ino, None)?;
        }
        self.drop_home(ino);
        Ok(())
    }

    /// Writes what is pending of an inode, unless nothing is any more.
    pub fn settle_pending(&mut self, inode: &Inode, mut row: PendingRow) -> Outcome<()> {
        let Some(mount) = inode.mount else { return Ok(()) };
        row.bytes = inode.size;
        let moved = inode.is_file() && self.wanted_key(inode)? != self.home(inode)?;
        let rest = row.content || row.marker || row.walk.is_some() || row.attributes_at > LogIndex(0);
        let after = Some(&row).filter(|_| rest || moved || row.intent.is_some());
        Ok(self.put_pending(mount, inode.ino, after)?)
    }
}
