//! What transactions and copies mean, in the model: bytes that several files name.

use std::collections::{BTreeMap, VecDeque};

use cairn_meta::namespace::{Precondition, Wanted};
use cairn_types::{FileKind, FoundInode, FsError};

use super::model::{Model, Outcome, parts, told};

type At<'a> = (u64, &'a [u8], bool);

impl Model {
    /// Whether a precondition holds; if not, what is there.
    pub fn holds(&self, precondition: &Precondition) -> Result<Result<(), Option<FoundInode>>, FsError> {
        let at = &precondition.target;
        let there = match self.find((at.ino.0, &at.path), !at.no_follow) {
            Ok(ino) => Some(ino),
            Err(FsError::NotFound | FsError::NotDirectory | FsError::Stale) => None,
            Err(other) => return Err(other),
        };
        // A mount here has nothing in it; a way through it is found out by what it is asked for.
        if there.is_some_and(|ino| self.see(ino).mount.is_some()) || self.leads_into_mount(precondition) {
            return Err(FsError::NotSupported);
        }
        let inode = there.map(|ino| self.see(ino));
        let found = inode.map(|i| FoundInode { ino: i.ino, version: i.version, length: i.size });
        let holds = match (&precondition.wanted, inode) {
            (Wanted::Absent, inode) => inode.is_none(),
            (Wanted::Present { .. }, None) => false,
            (Wanted::Present { ino, version, length }, Some(inode)) => {
                let same = ino.is_none_or(|ino| ino == inode.ino);
                if same && (version.is_some() || length.is_some()) {
                    self.settled(inode.ino.0)?;
                }
                let as_long = length.is_none_or(|length| length == inode.size);
                same && as_long && version.is_none_or(|version| version == inode.version)
            }
        };
        Ok(if holds { Ok(()) } else { Err(found) })
    }

    /// True when a name was looked up in a mount's directory: the way up to some slash leads there.
    fn leads_into_mount(&self, precondition: &Precondition) -> bool {
        let at = &precondition.target;
        self.way((at.ino.0, &at.path), !at.no_follow).iter().any(|dir| self.see(*dir).mount.is_some())
    }

    /// The directories in which a path's names are looked up, as far as it leads.
    fn way(&self, (ino, path): (u64, &[u8]), follow: bool) -> Vec<u64> {
        let (Ok(from), Ok(parts)) = (self.start(ino), parts(path, false)) else { return Vec::new() };
        let mut way = Vec::new();
        let _ = self.go(from, &parts, follow, 40, &mut |dir| way.push(dir));
        way
    }

    fn regular(&self, ino: u64) -> Result<u64, FsError> {
        match self.see(ino).kind {
            FileKind::Directory => Err(FsError::IsDirectory),
            FileKind::File => Ok(ino),
            _ => Err(FsError::NotFile),
        }
    }

    /// A file to read, or with `write` to change, that does not grow.
    fn still(&self, (ino, path, no_follow): At<'_>, write: bool) -> Result<u64, FsError> {
        let ino = self.regular(self.find((ino, path), !no_follow)?)?;
        if write {
            self.native(ino)?;
        }
        self.settled(ino).map(|()| ino)
    }

    pub fn clone_to(&mut self, from: At<'_>, to: At<'_>, replace: bool, recursive: bool) -> Outcome {
        let source = self.find((from.0, from.1), !from.2)?;
        if !recursive {
            self.regular(source)?;
        }
        let spot = self.spot((to.0, to.1), replace && !to.2)?;
        let Some(old) = spot.node else {
            let (dir, name) = spot.at.unwrap();
            if self.see(source).mount != self.see(dir).mount {
                return Err(FsError::CrossMount);
            }
            self.native(dir)?;
            if self.see(source).is_dir() && self.under(dir, source) {
                return Err(FsError::IntoItself);
            }
            let made = self.clone_tree(source, dir, name)?;
            return told(self.see(made).clone());
        };
        match self.see(old).kind {
            _ if !replace || !self.see(source).is_file() => return Err(FsError::Exists),
            FileKind::Directory => return Err(FsError::IsDirectory),
            FileKind::Symlink => return Err(FsError::TooManySymlinks),
            FileKind::File if old == source => return Err(FsError::InvalidRequest),
            FileKind::File => {}
            _ => return Err(FsError::NotFile),
        }
        if self.see(source).mount != self.see(old).mount {
            return Err(FsError::CrossMount);
        }
        self.native(old)?;
        self.settled(source)?;
        self.settled(old)?;
        self.fill(old, source);
        self.written(old)
    }

    fn fill(&mut self, ino: u64, source: u64) {
        let (bytes, size) = (self.nodes[&source].bytes.clone(), self.see(source).size);
        self.nodes.get_mut(&ino).unwrap().bytes = bytes;
        self.inode(ino).size = size;
    }

    fn clone_one(&mut self, source: u64, dir: u64, name: Vec<u8>) -> Result<u64, FsError> {
        self.settled(source)?;
        let old = self.see(source).clone();
        let ino = self.hang(old.kind, old.mode, dir, name)?;
        self.inode(ino).target = old.target;
        self.inode(ino).policy = old.policy;
        self.fill(ino, source);
        Ok(ino)
    }

    fn clone_tree(&mut self, source: u64, dir: u64, name: Vec<u8>) -> Result<u64, FsError> {
        let top = self.clone_one(source, dir, name)?;
        let mut waiting = VecDeque::from([(source, top)]);
        let mut made: BTreeMap<u64, u64> = BTreeMap::new();
        while let Some((from, to)) = waiting.pop_front() {
            for (name, child) in self.nodes[&from].children.clone() {
                if self.see(child).mount.is_some() {
                    return Err(FsError::CrossMount);
                }
                if let Some(known) = made.get(&child).copied() {
                    self.inode(known).nlink += 1;
                    self.changed(known);
                    self.nodes.get_mut(&to).unwrap().children.insert(name, known);
                    self.names_changed(to, 0);
                    continue;
                }
                let copy = self.clone_one(child, to, name)?;
                made.insert(child, copy);
                waiting.push_back((child, copy));
            }
        }
        Ok(top)
    }

    pub fn copy_range(&mut self, from: (At<'_>, u64), to: (At<'_>, u64), length: Option<u64>) -> Outcome {
        let ino = self.still(to.0, true)?;
        let source = self.still(from.0, false)?;
        if self.see(source).mount != self.see(ino).mount {
            return Err(FsError::CrossMount);
        }
        let size = self.see(source).size;
        let length = length.unwrap_or(size.saturating_sub(from.1));
        if from.1 + length > size {
            return Err(FsError::LengthMismatch { expected: from.1 + length, actual: size });
        }
        let overlap = (from.1..from.1 + length).any(|at| (to.1..to.1 + length).contains(&at));
        if source == ino && overlap {
            return Err(FsError::InvalidRequest);
        }
        if length == 0 {
            return told(self.see(ino).clone());
        }
        for i in 0..length {
            match self.nodes[&source].bytes.get(&(from.1 + i)).copied() {
                Some(byte) => self.nodes.get_mut(&ino).unwrap().bytes.insert(to.1 + i, byte),
                None => self.nodes.get_mut(&ino).unwrap().bytes.remove(&(to.1 + i)),
            };
        }
        let size = self.see(ino).size.max(to.1 + length);
        self.inode(ino).size = size;
        self.written(ino)
    }

    pub fn concat(&mut self, to: At<'_>, from: &[At<'_>]) -> Outcome {
        if from.is_empty() {
            return Err(FsError::InvalidRequest);
        }
        let ino = self.still(to, true)?;
        for part in from {
            let source = self.still(*part, false)?;
            if self.see(source).mount != self.see(ino).mount {
                return Err(FsError::CrossMount);
            }
            if source == ino {
                return Err(FsError::InvalidRequest);
            }
            let (base, node) = (self.see(ino).size, self.nodes[&source].clone());
            let moved = node.bytes.iter().map(|(at, byte)| (base + at, *byte));
            self.nodes.get_mut(&ino).unwrap().bytes.extend(moved);
            self.inode(ino).size = base + node.inode.size;
        }
        self.written(ino)
    }

    pub fn punch_hole(&mut self, at: At<'_>, offset: u64, length: u64, keep_size: bool) -> Outcome {
        let ino = self.still(at, true)?;
        if length == 0 {
            return Err(FsError::InvalidRequest);
        }
        let node = self.nodes.get_mut(&ino).unwrap();
        node.bytes.retain(|at, _| !(offset..offset + length).contains(at));
        if !keep_size {
            node.inode.size = node.inode.size.max(offset + length);
        }
        self.written(ino)
    }

    pub fn allocate(&mut self, at: At<'_>, offset: u64, length: u64, keep_size: bool) -> Outcome {
        let ino = self.still(at, true)?;
        if length == 0 {
            return Err(FsError::InvalidRequest);
        }
        if keep_size || offset + length <= self.see(ino).size {
            return told(self.see(ino).clone());
        }
        self.inode(ino).size = offset + length;
        self.written(ino)
    }
}
