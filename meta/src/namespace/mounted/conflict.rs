//! Conflicts: somebody else changed an object under our hands. The mount's rule says who has the name; the other
//! side becomes a file of its own, and pending as any other.

use cairn_types::{Extent, ExtentSource, FileKind, FsError, Inode, InodeId, LogIndex, MountId, ObjectKey};

use super::Changed;
use crate::keys::conflicts::{self, ConflictRow};
use crate::keys::events::EventKind;
use crate::keys::imports::{self, ImportRecord};
use crate::keys::mount_modes::ConflictRule;
use crate::keys::objects::ObjectRow;
use crate::keys::places::{self, Place};
use crate::namespace::chunks::LiveChanges;
use crate::namespace::command::FoundObject;
use crate::namespace::error::{Outcome, refuse};
use crate::namespace::state::{Birth, State};
use crate::namespace::walk::{self, Found};

/// The directory of a mount's root where losing sides are kept.
const CONFLICTS: &[u8] = b".cairn-conflicts";
/// Bytes of a name, at most.
const NAME_BYTES_MAX: usize = 255;
/// Names that are tried for a losing side, at most.
const TRIES_MAX: u64 = 64;

/// Two versions of what one object is to be.
pub struct Contest<'c> {
    /// Our file.
    pub file: &'c Inode,
    /// The object's key.
    pub key: &'c [u8],
    /// The ETag that was known; empty: that nothing was there.
    pub expected: &'c str,
    /// What is there; `None`: nothing.
    pub found: Option<&'c FoundObject>,
}

impl State<'_, '_> {
    /// Decides a conflict. What is known of the object becomes what was found.
    pub fn decide(&mut self, mount: MountId, contest: &Contest<'_>) -> Outcome<()> {
        let mode = self.mount_mode(mount)?.unwrap_or_default();
        let rule = mode.rules.on_conflict;
        let wanted = self.wanted_key(contest.file)?;
        let was_home = self.home(contest.file)?.as_deref() == Some(contest.key);
        self.drop_object(mount, contest.key)?;
        let mut what = String::new();
        if was_home {
            self.drop_home(contest.file.ino);
            let lost = self.lose_objects(contest.file)?;
            if lost > 0 {
                what = format!("; {lost} bytes that were of its former version are zeros here");
            }
        }
        self.note_file(contest.file, Changed::Content)?;
        let number = self.next_conflict(mount)?;
        let (kept, story) = match contest.found {
            None => (None, "the object was deleted in the bucket, and is written anew"),
            Some(found) if wanted.as_deref() == Some(contest.key) => {
                let kept = match rule {
                    ConflictRule::Namespace => self.set_theirs_aside(mount, contest, found, number)?,
                    _ => self.set_ours_aside(mount, contest, found, rule, number)?,
                };
                let story = match rule {
                    ConflictRule::Namespace => "the file was changed here and in the bucket: ours has the name",
                    _ => "the file was changed here and in the bucket: the bucket's has the name",
                };
                (Some(kept), story)
            }
            Some(_) => (None, "the object was changed in the bucket after the file had left it, and stays there"),
        };
        let row = ConflictRow {
            key: contest.key.to_vec(),
            time: self.now(),
            expected_etag: contest.expected.to_owned(),
            found_etag: contest.found.map(|found| found.etag.clone()).unwrap_or_default(),
            kept,
            rule,
            what: format!("{story}{what}"),
        };
        self.put(conflicts::key(mount, number), &row);
        Ok(())
    }

    fn next_conflict(&mut self, mount: MountId) -> Outcome<u64> {
        let mut number = 0;
        self.count_mount(mount, |counts| {
            counts.conflicts += 1;
            counts.conflicts_made += 1;
            number = counts.conflicts_made;
        })?;
        Ok(number)
    }

    /// The bucket's version takes the name, and our file another one. Answers our file.
    fn set_ours_aside(
        &mut self,
        mount: MountId,
        contest: &Contest<'_>,
        found: &FoundObject,
        rule: ConflictRule,
        number: u64,
    ) -> Outcome<InodeId> {
        let place = self.place_of(contest.file.ino)?;
        let to = match rule {
            ConflictRule::KeepBoth => self.beside(&place, number)?,
            _ => self.among_conflicts(mount, &place, number)?,
        };
        self.move_file(contest.file, &place, &to)?;
        self.hang_object(mount, &place, contest, found)?;
        Ok(contest.file.ino)
    }

    /// The bucket's version becomes a file elsewhere, that is to make way for ours. Answers it.
    fn set_theirs_aside(
        &mut self,
        mount: MountId,
        contest: &Contest<'_>,
        found: &FoundObject,
        number: u64,
    ) -> Outcome<InodeId> {
        let place = self.place_of(contest.file.ino)?;
        let to = self.among_conflicts(mount, &place, number)?;
        let theirs = self.hang_object(mount, &to, contest, found)?;
        self.note_file(&theirs, Changed::Name)?;
        Ok(theirs.ino)
    }

    fn place_of(&self, ino: InodeId) -> Outcome<Place> {
        match self.get(&places::key(ino))? {
            Some(place) => Ok(place),
            None => refuse(FsError::Stale),
        }
    }

    /// A free name beside another.
    fn beside(&self, place: &Place, number: u64) -> Outcome<Place> {
        for n in 0..TRIES_MAX {
            let end = if n == 0 { format!(".conflict-{number}") } else { format!(".conflict-{number}-{n}") };
            let name = joined(&place.name, end.as_bytes());
            if walk::lookup(&*self.txn, place.parent, &name)?.is_none() {
                return Ok(Place { parent: place.parent, name });
            }
        }
        refuse(FsError::Exists)
    }

    /// A free name in the directory of conflicts, which is made if absent; beside the other where that name
    /// is a file's.
    fn among_conflicts(&mut self, mount: MountId, place: &Place, number: u64) -> Outcome<Place> {
        let Some(record) = self.mount(mount)? else { return refuse(FsError::NoSuchMount) };
        let parent = match walk::lookup(&*self.txn, record.root, CONFLICTS)? {
            Some(found) if found.inode.is_dir() => found.inode.ino,
            Some(_) => return self.beside(place, number),
            None => self.make_conflicts(record.root)?,
        };
        for n in 0..TRIES_MAX {
            let begin = if n == 0 { format!("{number}-") } else { format!("{number}-{n}-") };
            let mut name = [begin.as_bytes(), &place.name].concat();
            name.truncate(cut(&name, NAME_BYTES_MAX));
            if walk::lookup(&*self.txn, parent, &name)?.is_none() {
                return Ok(Place { parent, name });
            }
        }
        refuse(FsError::Exists)
    }

    fn make_conflicts(&mut self, root: InodeId) -> Outcome<InodeId> {
        let root = self.inode(root)?;
        let birth = Birth { kind: FileKind::Directory, mode: 0o755, uid: root.uid, gid: root.gid };
        let dir = self.new_inode(&birth, root.mount);
        self.hang(root.ino, CONFLICTS, &dir)?;
        self.note_made(&dir)?;
        Ok(dir.ino)
    }

    /// Moves a file within its mount, to a name that is free.
    pub fn move_file(&mut self, file: &Inode, from: &Place, to: &Place) -> Outcome<()> {
        let mut found = Found { inode: self.inode(file.ino)?, primary: true };
        let site = self.site(to.parent, &to.name)?;
        self.move_name((from.parent, &from.name), (to.parent, &to.name), &found)?;
        self.change_inode(&mut found.inode)?;
        self.tell(from.parent, &from.name, &found.inode, EventKind::Renamed { to: site })?;
        self.touch_directory(from.parent, 0)?;
        if from.parent != to.parent {
            self.touch_directory(to.parent, 0)?;
        }
        self.note_file(&found.inode, Changed::Name)
    }

    /// Makes the file of an object that was found, at a name that is free.
    fn hang_object(
        &mut self,
        mount: MountId,
        at: &Place,
        contest: &Contest<'_>,
        found: &FoundObject,
    ) -> Outcome<Inode> {
        let ours = contest.file;
        let birth = Birth { kind: FileKind::File, mode: 0o644, uid: ours.uid, gid: ours.gid };
        let mut inode = self.new_inode(&birth, Some(mount));
        (inode.size, inode.mtime) = (found.size, found.mtime);
        self.hang(at.parent, &at.name, &inode)?;
        self.take_version(&inode, contest.key, found)?;
        Ok(inode)
    }

    /// Gives a file, whose extents are gone, the bytes of an object's version.
    pub fn take_version(&mut self, inode: &Inode, key: &[u8], found: &FoundObject) -> Outcome<()> {
        let Some(mount) = inode.mount else { return Ok(()) };
        if found.size > 0 {
            let object = ObjectKey { mount, key: key.to_vec(), etag: found.etag.clone() };
            let source = ExtentSource::Object { object, offset: 0 };
            let extent = Extent { file_offset: 0, length: found.size, source };
            self.lay(inode.ino, &extent, &mut LiveChanges::new())?;
        }
        let row = ObjectRow { ino: inode.ino, etag: found.etag.clone(), size: found.size };
        self.put_object(mount, key, &row)?;
        self.put_home(mount, inode.ino, key);
        Ok(())
    }

    /// A file without changes of its own content takes the version that was found of its object.
    pub fn refresh_file(&mut self, inode: &Inode, key: &[u8], found: &FoundObject) -> Outcome<()> {
        let Some(mount) = inode.mount else { return Ok(()) };
        let mut inode = inode.clone();
        let mut live = LiveChanges::new();
        self.carve(inode.ino, 0, u64::MAX, &mut live)?;
        self.apply_live(live)?;
        (inode.size, inode.mtime) = (found.size, found.mtime);
        self.take_version(&inode, key, found)?;
        self.change_inode(&mut inode)?;
        self.tell_of(&inode, EventKind::Content)?;
        if let Some(mut row) = self.pending(mount, inode.ino)? {
            (row.content, row.content_at) = (false, LogIndex(0));
            self.settle_pending(&inode, row)?;
        }
        Ok(())
    }

    /// Takes a file out whose object is gone from the bucket.
    pub fn lose_file(&mut self, inode: &Inode, key: &[u8]) -> Outcome<()> {
        let Some(mount) = inode.mount else { return Ok(()) };
        self.drop_object(mount, key)?;
        let place = self.place_of(inode.ino)?;
        self.forget_file(inode)?;
        let found = Found { inode: inode.clone(), primary: true };
        self.unlink(place.parent, &place.name, &found)?;
        self.note_taken_from(place.parent)
    }

    /// True when objects below a prefix may be there that no row tells of, since the directory that left it is
    /// not all read.
    pub fn may_be_left_behind(&mut self, mount: MountId, key: &[u8]) -> Outcome<bool> {
        if self.mount_counts(mount)?.walking == 0 {
            return Ok(false);
        }
        for (at, _) in key.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let row: Option<crate::keys::moves::MoveRow> =
                self.get(&crate::keys::moves::key(mount, &key[..=at]))?;
            if row.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The directory's record of its prefix.
    pub fn import_of(&self, dir: InodeId) -> Outcome<Option<ImportRecord>> {
        Ok(self.get(&imports::key(dir))?)
    }
}

/// A name with an end of its own, cut to what a name may have.
fn joined(name: &[u8], end: &[u8]) -> Vec<u8> {
    let mut out = name.to_vec();
    out.truncate(cut(name, NAME_BYTES_MAX - end.len()));
    out.extend_from_slice(end);
    out
}

/// The most bytes of a text, `most` at most, that do not end within a character.
fn cut(text: &[u8], most: usize) -> usize {
    let mut end = text.len().min(most);
    while end < text.len() && end > 0 && text[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    end
}
