//! POSIX metadata as the standard words it: things with attributes, and names that lead to them. No
//! content but its length, no symlink is followed.

use std::collections::BTreeMap;

use cairn_meta::namespace::{Operation, Target, TimeChange, XattrMode};
use cairn_types::{FileKind, FsError, Inode};

const ROOT: u64 = 1;

#[derive(Clone, Debug)]
pub struct Thing {
    pub kind: FileKind,
    pub mode: u32,
    pub owner: (u32, u32),
    pub size: u64,
    /// mtime, ctime, atime, btime
    pub times: [i64; 4],
    pub version: u64,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

type Place = (u64, Vec<u8>);
pub type Outcome = Result<Option<u64>, FsError>;

#[derive(Clone, Debug)]
pub struct Model {
    pub things: BTreeMap<u64, Thing>,
    pub names: BTreeMap<Place, u64>,
    pub now: i64,
    next: u64,
}

fn text(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
}

impl Model {
    pub fn new(now: i64) -> Self {
        let mut model = Self { things: BTreeMap::new(), names: BTreeMap::new(), now, next: 1 };
        model.thing(FileKind::Directory, 0o755, (0, 0));
        model
    }

    fn thing(&mut self, kind: FileKind, mode: u32, owner: (u32, u32)) -> u64 {
        let (ino, times) = (self.next, [self.now; 4]);
        self.next += 1;
        let thing = Thing { kind, mode, owner, size: 0, times, version: 1, xattrs: BTreeMap::new() };
        self.things.insert(ino, thing);
        ino
    }

    fn is_dir(&self, ino: u64) -> bool {
        self.things[&ino].kind == FileKind::Directory
    }

    fn is_file(&self, ino: u64) -> bool {
        self.things[&ino].kind == FileKind::File
    }

    /// Names that lead to a thing; to a directory also its own `.` and its children's `..`.
    pub fn links(&self, ino: u64) -> usize {
        if !self.is_dir(ino) {
            return self.names.values().filter(|to| **to == ino).count();
        }
        2 + self.names.iter().filter(|((dir, _), child)| *dir == ino && self.is_dir(**child)).count()
    }

    /// Compares an inode with the thing, field by field.
    pub fn same(&self, inode: &Inode) {
        let thing = &self.things[&inode.ino.0];
        let times = [inode.mtime, inode.ctime, inode.atime, inode.btime].map(|t| t.0);
        assert_eq!(times, thing.times, "mtime, ctime, atime, btime of {inode:?}");
        assert_eq!((inode.kind, inode.mode), (thing.kind, thing.mode), "{inode:?}");
        assert_eq!((inode.uid, inode.gid), thing.owner, "{inode:?}");
        assert_eq!((inode.size, inode.version), (thing.size, thing.version), "{inode:?}");
        assert_eq!(inode.nlink as usize, self.links(inode.ino.0), "links of {inode:?}");
    }

    fn place(&self, target: &Target, of_root: FsError) -> Result<Place, FsError> {
        let mut parts = text(&target.path);
        let Some(name) = parts.pop() else { return Err(of_root) };
        let mut dir = ROOT;
        for part in parts {
            let Some(next) = self.names.get(&(dir, part)) else { return Err(FsError::NotFound) };
            if self.things[next].kind == FileKind::Symlink {
                return Err(FsError::NotFound);
            }
            if !self.is_dir(*next) {
                return Err(FsError::NotDirectory);
            }
            dir = *next;
        }
        Ok((dir, name))
    }

    /// The thing at a path; symlinks lead nowhere.
    pub fn at(&self, target: &Target) -> Result<u64, FsError> {
        let place = match self.place(target, FsError::IsRoot) {
            Err(FsError::IsRoot) => return Ok(ROOT),
            place => place?,
        };
        let ino = *self.names.get(&place).ok_or(FsError::NotFound)?;
        let leads_nowhere = self.things[&ino].kind == FileKind::Symlink && !target.no_follow;
        if leads_nowhere { Err(FsError::NotFound) } else { Ok(ino) }
    }

    fn changed(&mut self, ino: u64) {
        let thing = self.things.get_mut(&ino).unwrap();
        thing.version += 1;
        thing.times[1] = self.now;
    }

    fn entries_changed(&mut self, dir: u64) {
        self.changed(dir);
        self.things.get_mut(&dir).unwrap().times[0] = self.now;
    }

    /// Owner or content of a file change: what it was trusted with goes.
    fn distrust(&mut self, ino: u64) {
        let thing = self.things.get_mut(&ino).unwrap();
        if thing.kind == FileKind::Directory {
            return;
        }
        let group_runs_it = thing.mode & 0o010 != 0;
        thing.mode -= thing.mode & 0o4000;
        if group_runs_it {
            thing.mode -= thing.mode & 0o2000;
        }
        if thing.kind == FileKind::File {
            thing.xattrs.remove(b"security.capability".as_slice());
        }
    }

    fn written(&mut self, ino: u64, size: u64) -> Outcome {
        self.distrust(ino);
        let thing = self.things.get_mut(&ino).unwrap();
        thing.size = size;
        thing.times[0] = self.now;
        self.changed(ino);
        Ok(Some(ino))
    }

    fn make(&mut self, target: &Target, kind: FileKind, mode: u32, owner: (u32, u32)) -> Outcome {
        let place = self.place(target, FsError::Exists)?;
        if self.names.contains_key(&place) {
            return Err(FsError::Exists);
        }
        let dir = &self.things[&place.0];
        let (mut mode, mut owner) = (mode, owner);
        if dir.mode & 0o2000 != 0 {
            owner.1 = dir.owner.1;
            if kind == FileKind::Directory {
                mode |= 0o2000;
            }
        }
        let ino = self.thing(kind, mode, owner);
        let dir = place.0;
        self.names.insert(place, ino);
        self.entries_changed(dir);
        Ok(Some(ino))
    }

    pub fn ask(&mut self, operation: &Operation) -> Outcome {
        match operation {
            Operation::Mkdir { target, mode, uid, gid, .. } => {
                self.make(target, FileKind::Directory, *mode, (*uid, *gid))
            }
            Operation::Mknod { target, kind, mode, uid, gid } => match kind.device() {
                _ if matches!(kind, FileKind::File | FileKind::Directory | FileKind::Symlink) => {
                    Err(FsError::InvalidRequest)
                }
                Some(device) if device.major > 4095 || device.minor > 1_048_575 => {
                    Err(FsError::InvalidRequest)
                }
                _ => self.make(target, *kind, *mode, (*uid, *gid)),
            },
            Operation::Create { target, mode, uid, gid, exclusive, truncate, .. } => {
                self.create(target, (*mode, *uid, *gid), *exclusive, *truncate)
            }
            Operation::Symlink { target, to, uid, gid } => {
                let made = self.make(target, FileKind::Symlink, 0o777, (*uid, *gid))?;
                self.things.get_mut(&made.unwrap()).unwrap().size = to.len() as u64;
                Ok(made)
            }
            Operation::Link { from, to } => self.link(from, to),
            Operation::Unlink { target } => self.unlink(target),
            Operation::Rmdir { target } => self.rmdir(target),
            Operation::Rename { from, to, no_replace, exchange } => {
                self.rename(from, to, *no_replace, *exchange)
            }
            Operation::Commit { ino, extents, .. } => self.commit(ino.0, extents[0].end()),
            Operation::SetAttr { target, mode, uid, gid, size, mtime, atime, .. } => {
                let times = [mtime.map(TimeChange::At), atime.map(TimeChange::At)];
                self.set_attr(target, *mode, (*uid, *gid), *size, times)
            }
            Operation::SetAttrNow { target, mode, uid, gid, size, mtime, atime, .. } => {
                self.set_attr(target, *mode, (*uid, *gid), *size, [*mtime, *atime])
            }
            Operation::SetXattr { target, name, value, mode } => self.set_xattr(target, name, value, *mode),
            Operation::RemoveXattr { target, name } => {
                let ino = self.xattr_of(target, name)?;
                let old = self.things.get_mut(&ino).unwrap().xattrs.remove(name);
                old.ok_or(FsError::NoSuchAttribute)?;
                self.changed(ino);
                Ok(Some(ino))
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn create(&mut self, target: &Target, made: (u32, u32, u32), new: bool, empty: bool) -> Outcome {
        let known = match self.place(target, FsError::IsDirectory) {
            Err(FsError::IsDirectory) => Some(ROOT),
            place => self.names.get(&place?).copied(),
        };
        let Some(ino) = known else {
            return self.make(target, FileKind::File, made.0, (made.1, made.2));
        };
        match self.things[&ino].kind {
            // It would make what the symlink leads to: histories do not ask for that.
            FileKind::Symlink if !new && !target.no_follow => unreachable!(),
            _ if new => Err(FsError::Exists),
            FileKind::Directory => Err(FsError::IsDirectory),
            FileKind::Symlink => Err(FsError::TooManySymlinks),
            FileKind::File if empty => self.written(ino, 0),
            FileKind::File => Ok(Some(ino)),
            _ => Err(FsError::NotFile),
        }
    }

    fn commit(&mut self, ino: u64, end: u64) -> Outcome {
        match self.things.get(&ino) {
            None => Err(FsError::Stale),
            Some(_) if self.is_dir(ino) => Err(FsError::IsDirectory),
            Some(_) if !self.is_file(ino) => Err(FsError::NotFile),
            Some(thing) => self.written(ino, thing.size.max(end)),
        }
    }

    fn link(&mut self, from: &Target, to: &Target) -> Outcome {
        let ino = self.at(from)?;
        let place = self.place(to, FsError::Exists)?;
        if self.is_dir(ino) {
            return Err(FsError::LinkDirectory);
        }
        if self.names.contains_key(&place) {
            return Err(FsError::Exists);
        }
        let dir = place.0;
        self.names.insert(place, ino);
        self.changed(ino);
        self.entries_changed(dir);
        Ok(Some(ino))
    }

    fn drop_name(&mut self, place: &Place) {
        let ino = self.names.remove(place).unwrap();
        if self.is_dir(ino) || self.links(ino) == 0 {
            self.things.remove(&ino);
        } else {
            self.changed(ino);
        }
        self.entries_changed(place.0);
    }

    fn unlink(&mut self, target: &Target) -> Outcome {
        let place = self.place(target, FsError::IsDirectory)?;
        let ino = *self.names.get(&place).ok_or(FsError::NotFound)?;
        if self.is_dir(ino) {
            return Err(FsError::IsDirectory);
        }
        self.drop_name(&place);
        Ok(None)
    }

    fn is_empty(&self, ino: u64) -> bool {
        self.names.keys().all(|(dir, _)| *dir != ino)
    }

    fn rmdir(&mut self, target: &Target) -> Outcome {
        let place = self.place(target, FsError::IsRoot)?;
        let ino = *self.names.get(&place).ok_or(FsError::NotFound)?;
        if !self.is_dir(ino) {
            return Err(FsError::NotDirectory);
        }
        if !self.is_empty(ino) {
            return Err(FsError::NotEmpty);
        }
        self.drop_name(&place);
        Ok(None)
    }

    /// True when `ino` is `above`, or lies in it at any depth.
    fn within(&self, ino: u64, above: u64) -> bool {
        let parent = self.names.iter().find(|(_, child)| **child == ino).map(|((dir, _), _)| *dir);
        ino == above || parent.is_some_and(|dir| self.within(dir, above))
    }

    fn rename(&mut self, from: &Target, to: &Target, no_replace: bool, exchange: bool) -> Outcome {
        let old = self.place(from, FsError::IsRoot)?;
        let new = self.place(to, FsError::IsRoot)?;
        let moved = *self.names.get(&old).ok_or(FsError::NotFound)?;
        let there = self.names.get(&new).copied();
        match there {
            None if exchange => return Err(FsError::NotFound),
            Some(_) if no_replace => return Err(FsError::Exists),
            Some(there) if there == moved => return Ok(Some(moved)),
            _ => {}
        }
        let swapped = there.filter(|_| exchange);
        let into_itself = self.is_dir(moved) && self.within(new.0, moved);
        if into_itself || swapped.is_some_and(|s| self.is_dir(s) && self.within(old.0, s)) {
            return Err(FsError::IntoItself);
        }
        if let Some(there) = there.filter(|_| !exchange) {
            match (self.is_dir(moved), self.is_dir(there)) {
                (true, false) => return Err(FsError::NotDirectory),
                (false, true) => return Err(FsError::IsDirectory),
                (true, true) if !self.is_empty(there) => return Err(FsError::NotEmpty),
                _ => self.drop_name(&new),
            }
        }
        self.names.remove(&old);
        if let Some(swapped) = swapped {
            self.names.insert(old.clone(), swapped);
            self.changed(swapped);
        }
        self.names.insert(new.clone(), moved);
        self.changed(moved);
        self.entries_changed(old.0);
        if new.0 != old.0 {
            self.entries_changed(new.0);
        }
        Ok(Some(moved))
    }

    fn set_attr(
        &mut self,
        target: &Target,
        mode: Option<u32>,
        owner: (Option<u32>, Option<u32>),
        size: Option<u64>,
        times: [Option<TimeChange>; 2],
    ) -> Outcome {
        let ino = self.at(target)?;
        let asked = mode.is_some() || owner != (None, None) || size.is_some() || times != [None, None];
        if !asked {
            return Ok(Some(ino));
        }
        if size.is_some() && self.is_dir(ino) {
            return Err(FsError::IsDirectory);
        }
        if size.is_some() && !self.is_file(ino) {
            return Err(FsError::NotFile);
        }
        if owner != (None, None) || size.is_some() {
            self.distrust(ino);
        }
        let now = self.now;
        let thing = self.things.get_mut(&ino).unwrap();
        if let Some(size) = size {
            (thing.size, thing.times[0]) = (size, now);
        }
        thing.mode = mode.unwrap_or(thing.mode);
        thing.owner = (owner.0.unwrap_or(thing.owner.0), owner.1.unwrap_or(thing.owner.1));
        for (at, change) in [0, 2].into_iter().zip(times) {
            match change {
                Some(TimeChange::At(time)) => thing.times[at] = time.0,
                Some(TimeChange::Now) => thing.times[at] = now,
                None => {}
            }
        }
        self.changed(ino);
        Ok(Some(ino))
    }

    /// The thing whose attribute may have that name.
    fn xattr_of(&self, target: &Target, name: &[u8]) -> Result<u64, FsError> {
        let known = ["user.", "trusted.", "security."];
        if !known.iter().any(|space| name.starts_with(space.as_bytes())) {
            return Err(FsError::NotSupported);
        }
        if known.iter().any(|space| name == space.as_bytes()) {
            return Err(FsError::InvalidName);
        }
        let ino = self.at(target)?;
        if name.starts_with(b"user.") && !self.is_dir(ino) && !self.is_file(ino) {
            return Err(FsError::NotPermitted);
        }
        Ok(ino)
    }

    fn set_xattr(&mut self, target: &Target, name: &[u8], value: &[u8], mode: XattrMode) -> Outcome {
        let ino = self.xattr_of(target, name)?;
        let mut xattrs = self.things[&ino].xattrs.clone();
        match (mode, xattrs.contains_key(name)) {
            (XattrMode::Create, true) => return Err(FsError::Exists),
            (XattrMode::Replace, false) => return Err(FsError::NoSuchAttribute),
            _ if value.len() > 65_536 => return Err(FsError::AttributeTooLarge),
            _ => {}
        }
        xattrs.insert(name.to_vec(), value.to_vec());
        if xattrs.values().map(Vec::len).sum::<usize>() > 65_536 {
            return Err(FsError::TooManyAttributes);
        }
        self.things.get_mut(&ino).unwrap().xattrs = xattrs;
        self.changed(ino);
        Ok(Some(ino))
    }
}
