//! Names: how inodes are hung into directories, moved and taken out.

use cairn_types::{FileKind, FsError, Inode, InodeId};

use super::error::{Outcome, refuse};
use super::state::State;
use super::walk::{self, Found};
use crate::keys::chunks::ChunkState;
use crate::keys::events::EventKind;
use crate::keys::links;
use crate::keys::mounts::{self, MountRecord};
use crate::keys::nodes::{self, NodeRow};
use crate::keys::orphans::{self, Orphan};
use crate::keys::places::{self, Place};
use crate::keys::{self, RowFault, writers};
use crate::store::{Rows, Table};

impl State<'_, '_> {
    /// Hangs a new inode under a name that is free.
    pub fn hang(&mut self, parent: InodeId, name: &[u8], inode: &Inode) -> Outcome<()> {
        let place = Place { parent, name: name.to_vec() };
        self.put_at(&place, inode);
        self.put_new_place(inode.ino, &place);
        self.cluster.counts.inodes += 1;
        self.tell(parent, name, inode, EventKind::Created)?;
        self.touch_directory(parent, i64::from(inode.is_dir()))
    }

    /// Notes that a directory's names changed, and how many subdirectories came or went.
    pub fn touch_directory(&mut self, dir: InodeId, subdirectories: i64) -> Outcome<()> {
        let Some(place) = self.way(dir)?.map(|way| way.place.clone()) else { return refuse(FsError::Stale) };
        let mut inode = match self.last_directory.inode(dir) {
            Some(inode) => inode,
            None => walk::inode_at(&*self.txn, dir, &place)?,
        };
        inode.nlink = inode.nlink.saturating_add_signed(i32::try_from(subdirectories).unwrap_or(0));
        inode.mtime = self.now();
        inode.ctime = self.now();
        inode.version += 1;
        self.last_directory.touched(&inode);
        keys::put(self.txn, nodes::key(place.parent, &place.name), &NodeRow::Inode(inode));
        Ok(())
    }

    /// True when a directory holds no names.
    pub fn is_empty(&self, dir: InodeId) -> Result<bool, RowFault> {
        Ok(self.txn.scan(Table::Nodes, &nodes::all(dir), 1)?.is_empty())
    }

    /// The mount whose root this is.
    pub fn mount_at_root(&self, inode: &Inode) -> Result<Option<MountRecord>, RowFault> {
        let Some(mount) = inode.mount else { return Ok(None) };
        let record: Option<MountRecord> = self.get(&mounts::key(mount))?;
        Ok(record.filter(|m| m.root == inode.ino))
    }

    /// Takes a name of a file or symlink out; the inode goes with its last name, unless it is a file
    /// that a session may hold.
    pub fn unlink(&mut self, parent: InodeId, name: &[u8], found: &Found) -> Outcome<()> {
        if found.inode.mount.is_some() {
            self.forget_file(&found.inode)?;
        }
        if found.inode.nlink <= 1 && self.may_be_held(&found.inode)? {
            self.keep_unlinked(parent, name, &found.inode)?;
        } else {
            self.take_file(parent, name, found)?;
        }
        let inode = Inode { version: found.inode.version + 1, ..found.inode.clone() };
        self.tell(parent, name, &inode, EventKind::Removed { last: inode.nlink <= 1 })?;
        self.touch_directory(parent, 0)?;
        if inode.mount.is_some() {
            self.note_taken_from(parent)?;
        }
        Ok(())
    }

    /// As [`State::unlink`], the directory's own inode left to the caller; whoever holds the file.
    pub fn take_file(&mut self, parent: InodeId, name: &[u8], found: &Found) -> Outcome<()> {
        let mut inode = found.inode.clone();
        self.delete(Table::Nodes, nodes::key(parent, name));
        if inode.nlink > 1 {
            inode.nlink -= 1;
            inode.version += 1;
            inode.ctime = self.now();
            if found.primary {
                self.promote(&inode)?;
            } else {
                self.delete(Table::Links, links::key(inode.ino, parent, name));
                let Some((place, _)) = walk::inode(&*self.txn, inode.ino)? else {
                    return refuse(FsError::Stale);
                };
                self.put_at(&place, &inode);
            }
        } else {
            self.drop_file(&inode)?;
        }
        Ok(())
    }

    /// Makes another hard link the primary one.
    fn promote(&mut self, inode: &Inode) -> Outcome<()> {
        let rows = self.txn.scan(Table::Links, &links::of(inode.ino), 1)?;
        let Some((key, _)) = rows.into_iter().next() else {
            return Err(RowFault::Damaged { table: Table::Links, key: places::key(inode.ino) }.into());
        };
        let place = links::place(&key)?;
        self.delete(Table::Links, key);
        self.put_at(&place, inode);
        self.put(places::key(inode.ino), &place);
        Ok(())
    }

    /// Removes what is no directory and no name leads to. Its tail begins its seal.
    pub fn drop_file(&mut self, inode: &Inode) -> Outcome<()> {
        self.seal_tail(inode)?;
        self.delete(Table::Places, places::key(inode.ino));
        self.cluster.counts.inodes = self.cluster.counts.inodes.saturating_sub(1);
        if inode.kind != FileKind::File {
            return Ok(self.drop_xattrs(inode.ino)?);
        }
        if !self.drop_remains(inode)? {
            self.put(orphans::key(inode.ino), &Orphan { inode: inode.clone(), since: None });
        }
        Ok(())
    }

    /// Removes what is left of a file that nobody can reach, as much as one entry may; true when nothing
    /// is. Its tail begins its seal.
    pub fn drop_remains(&mut self, inode: &Inode) -> Outcome<bool> {
        if let Some(tail) = inode.tail
            && self.find_chunk(tail.chunk)?.is_some_and(|chunk| chunk.state == ChunkState::Open)
        {
            self.begin_seal(tail.chunk)?;
        }
        self.drop_xattrs(inode.ino)?;
        self.detach_all(inode.ino)?;
        self.drop_rows(inode.ino)
    }

    /// Removes an empty directory and its name.
    pub fn drop_directory(&mut self, parent: InodeId, name: &[u8], dir: &Inode) -> Outcome<()> {
        self.forget_directory(dir)?;
        self.take_directory(parent, name, dir)?;
        self.tell(parent, name, dir, EventKind::Removed { last: true })?;
        self.touch_directory(parent, -1)?;
        if dir.mount.is_some() {
            self.note_taken_from(parent)?;
        }
        Ok(())
    }

    /// As [`State::drop_directory`], the directory above left to the caller.
    pub fn take_directory(&mut self, parent: InodeId, name: &[u8], dir: &Inode) -> Result<(), RowFault> {
        self.delete(Table::Nodes, nodes::key(parent, name));
        self.delete(Table::Places, places::key(dir.ino));
        self.drop_xattrs(dir.ino)?;
        self.cluster.counts.inodes = self.cluster.counts.inodes.saturating_sub(1);
        if dir.mount.is_some() {
            self.put_import(dir.ino, None)?;
        }
        Ok(())
    }

    /// Removes some extents under a file's own number, as many writers, and as many locks; true when
    /// none are left.
    pub fn drop_rows(&mut self, ino: InodeId) -> Outcome<bool> {
        let limit = self.bounds.rows_at_once;
        let mut done = self.keeps_own(ino) || self.drop_extents(ino.into(), 0, limit)?;
        let rows = self.txn.scan(Table::Writers, &writers::of(ino), limit + 1)?;
        done &= rows.len() <= limit;
        for (key, _) in rows.into_iter().take(limit) {
            self.delete(Table::Writing, writers::writing_key(writers::writer(&key)?, ino));
            self.delete(Table::Writers, key);
        }
        Ok(self.drop_locks(ino)? && done)
    }

    /// Moves one name to another, which is free.
    pub fn move_name(&mut self, from: (InodeId, &[u8]), to: (InodeId, &[u8]), found: &Found) -> Outcome<()> {
        let ino = found.inode.ino;
        self.delete(Table::Nodes, nodes::key(from.0, from.1));
        if found.primary {
            let place = Place { parent: to.0, name: to.1.to_vec() };
            self.put_at(&place, &found.inode);
            self.put(places::key(ino), &place);
        } else {
            self.delete(Table::Links, links::key(ino, from.0, from.1));
            self.put_link(to, &found.inode);
        }
        Ok(())
    }

    /// Writes a further hard link.
    pub fn put_link(&mut self, at: (InodeId, &[u8]), inode: &Inode) {
        self.put(nodes::key(at.0, at.1), &NodeRow::Link { ino: inode.ino, kind: inode.kind });
        self.mark(Table::Links, links::key(inode.ino, at.0, at.1));
    }
}
