//! The namespace as one would explain it: a map of nodes, one entry a byte of content, no rows.

#[path = "growth.rs"]
mod growth;
#[path = "holding.rs"]
mod holding;
pub use holding::Met;

use std::collections::BTreeMap;

use cairn_types::{
    Chain, ChunkId, Extent, ExtentSource, FileKind, FsError, Generation, Inode, InodeId, MountId, Policy,
    Sequence, TailRef, Timestamp, WriterId, WriterMark,
};

pub const ROOT: u64 = 1;
const MAX_FILE: u64 = i64::MAX as u64;
const MAX_CHUNK: u64 = 64 << 20;

#[derive(Clone, Debug)]
pub struct Node {
    pub inode: Inode,
    pub parent: u64,
    pub children: BTreeMap<Vec<u8>, u64>,
    /// For each byte: the chunk and the offset in it.
    pub bytes: BTreeMap<u64, (u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Open,
    Sealing,
    Sealed(u64),
}

#[derive(Clone, Debug)]
pub struct Chunk {
    pub phase: Phase,
    pub epoch: u32,
    pub session: u64,
    pub tail_of: u64,
    pub base: u64,
    pub held: bool,
    pub generation: u64,
    pub marks: Vec<WriterMark>,
}

/// What an answer is about; the test compares it with the state machine's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub inode: Option<Inode>,
    pub chunk: Option<u64>,
    pub generation: Option<u64>,
    pub mount: Option<u32>,
    pub steps: Vec<Option<Inode>>,
}

pub type Outcome = Result<Told, FsError>;

/// Where a path ends: a name in a directory, an inode, or both.
pub struct Spot {
    pub at: Option<(u64, Vec<u8>)>,
    pub node: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub nodes: BTreeMap<u64, Node>,
    pub chunks: BTreeMap<u64, Chunk>,
    pub mounts: BTreeMap<u32, u64>,
    /// (file, writer) → last sequence and its offset; 0 before the first.
    pub writers: BTreeMap<(u64, u64), (u64, u64)>,
    pub now: Timestamp,
    pub holding: holding::Holding,
    next: (u64, u64, u32),
}

pub fn told(inode: Inode) -> Outcome {
    Ok(Told { inode: Some(inode), ..Told::default() })
}

pub fn parts(path: &[u8], dots: bool) -> Result<Vec<Vec<u8>>, FsError> {
    let names = path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".");
    names
        .map(|p| match p {
            b".." if dots => Ok(p.to_vec()),
            b".." => Err(FsError::InvalidPath),
            _ if p.len() > 255 => Err(FsError::NameTooLong),
            _ => Ok(p.to_vec()),
        })
        .collect()
}

impl Model {
    pub fn new(policy: Policy, now: Timestamp) -> Self {
        let mut model = Self {
            nodes: BTreeMap::new(),
            chunks: BTreeMap::new(),
            mounts: BTreeMap::new(),
            writers: BTreeMap::new(),
            now,
            holding: holding::Holding::default(),
            next: (1, 1, 1),
        };
        model.make(FileKind::Directory, 0o755, ROOT);
        model.inode(ROOT).policy = Some(policy);
        model
    }

    pub fn inode(&mut self, ino: u64) -> &mut Inode {
        &mut self.nodes.get_mut(&ino).unwrap().inode
    }

    pub fn see(&self, ino: u64) -> &Inode {
        &self.nodes[&ino].inode
    }

    fn make(&mut self, kind: FileKind, mode: u32, parent: u64) -> u64 {
        let ino = self.next.0;
        self.next.0 += 1;
        let (now, dir) = (self.now, kind == FileKind::Directory);
        let mount = self.nodes.get(&parent).and_then(|p| p.inode.mount);
        let inode = Inode {
            ino: InodeId(ino),
            kind,
            mode: mode & 0o7777,
            uid: 0,
            gid: 0,
            nlink: if dir { 2 } else { 1 },
            size: 0,
            mtime: now,
            ctime: now,
            atime: now,
            btime: now,
            version: 1,
            generation: Generation(0),
            tail: None,
            target: None,
            policy: None,
            mount,
        };
        self.nodes.insert(ino, Node { inode, parent, children: BTreeMap::new(), bytes: BTreeMap::new() });
        ino
    }

    pub fn changed(&mut self, ino: u64) {
        self.holding.met.changed += u64::from(self.see(ino).nlink == 0);
        let now = self.now;
        let inode = self.inode(ino);
        inode.version += 1;
        inode.ctime = now;
    }

    pub fn names_changed(&mut self, dir: u64, subdirectories: i32) {
        self.changed(dir);
        let now = self.now;
        let inode = self.inode(dir);
        inode.mtime = now;
        inode.nlink = inode.nlink.saturating_add_signed(subdirectories);
    }

    pub fn start(&self, ino: u64) -> Result<u64, FsError> {
        let ino = ino.max(1);
        if self.nodes.contains_key(&ino) { Ok(ino) } else { Err(FsError::Stale) }
    }

    pub fn spot(&self, (ino, path): (u64, &[u8]), follow: bool) -> Result<Spot, FsError> {
        let parts = parts(path, false)?;
        self.go(self.start(ino)?, &parts, follow, 40, &mut |_| {})
    }

    pub fn go(
        &self,
        dir: u64,
        parts: &[Vec<u8>],
        follow: bool,
        links: u32,
        look_in: &mut dyn FnMut(u64),
    ) -> Result<Spot, FsError> {
        let Some((name, rest)) = parts.split_first() else {
            return Ok(Spot { at: None, node: Some(dir) });
        };
        let node = &self.nodes[&dir];
        if !node.inode.is_dir() {
            return Err(FsError::NotDirectory);
        }
        if name == b".." {
            return self.go(node.parent, rest, follow, links, look_in);
        }
        look_in(dir);
        let child = node.children.get(name).copied();
        let is_link = child.is_some_and(|c| self.see(c).kind == FileKind::Symlink);
        if is_link && (follow || !rest.is_empty()) {
            let to = self.see(child.unwrap()).target.clone().unwrap();
            let links = links.checked_sub(1).ok_or(FsError::TooManySymlinks)?;
            let from = if to.starts_with(b"/") { ROOT } else { dir };
            let all = [super::model::parts(&to, true)?, rest.to_vec()].concat();
            return self.go(from, &all, follow, links, look_in);
        }
        match child {
            _ if rest.is_empty() => Ok(Spot { at: Some((dir, name.clone())), node: child }),
            Some(child) => self.go(child, rest, follow, links, look_in),
            None => Err(FsError::NotFound),
        }
    }

    pub fn find(&self, target: (u64, &[u8]), follow: bool) -> Result<u64, FsError> {
        self.spot(target, follow)?.node.ok_or(FsError::NotFound)
    }

    /// A name whose last component is not followed.
    fn name(&self, target: (u64, &[u8]), of_root: FsError) -> Result<(u64, Vec<u8>, Option<u64>), FsError> {
        let spot = self.spot(target, false)?;
        match spot.at {
            Some((dir, name)) => Ok((dir, name, spot.node)),
            None if spot.node == Some(ROOT) => Err(of_root),
            None => Err(FsError::InvalidRequest),
        }
    }

    pub fn native(&self, ino: u64) -> Result<(), FsError> {
        self.see(ino).mount.map_or(Ok(()), |mount| Err(FsError::ReadOnlyMount { mount }))
    }

    pub fn hang(&mut self, kind: FileKind, mode: u32, dir: u64, name: Vec<u8>) -> Result<u64, FsError> {
        self.native(dir)?;
        // A set-group-ID directory hands the bit on to directories; every group here is 0.
        let handed_on = if kind == FileKind::Directory { self.see(dir).mode & 0o2000 } else { 0 };
        let ino = self.make(kind, mode | handed_on, dir);
        self.nodes.get_mut(&dir).unwrap().children.insert(name, ino);
        self.names_changed(dir, i32::from(kind == FileKind::Directory));
        Ok(ino)
    }

    pub fn mkdir(&mut self, target: (u64, &[u8]), mode: u32, all: bool) -> Outcome {
        if !all {
            let (dir, name, found) = self.name(target, FsError::Exists)?;
            if found.is_some() {
                return Err(FsError::Exists);
            }
            let ino = self.hang(FileKind::Directory, mode, dir, name)?;
            return told(self.see(ino).clone());
        }
        let mut at = self.start(target.0)?;
        let names = parts(target.1, false)?;
        for (i, name) in names.iter().enumerate() {
            let spot = self.spot((at, name), false)?;
            at = match spot.node {
                Some(_) => self.find((at, name), true)?,
                None => self.hang(FileKind::Directory, mode, at, name.clone())?,
            };
            if !self.see(at).is_dir() {
                let last = i + 1 == names.len();
                return Err(if last { FsError::Exists } else { FsError::NotDirectory });
            }
        }
        if self.see(at).is_dir() { told(self.see(at).clone()) } else { Err(FsError::Exists) }
    }

    pub fn create(
        &mut self,
        target: (u64, &[u8], bool),
        (mode, session): (u32, u64),
        (exclusive, truncate): (bool, bool),
        extents: &[Extent],
    ) -> Outcome {
        let spot = self.spot((target.0, target.1), !target.2 && !exclusive)?;
        let ino = match (spot.node, spot.at) {
            (None, Some((dir, name))) => {
                let ino = self.hang(FileKind::File, mode, dir, name)?;
                self.lay(ino, session, extents)?;
                return told(self.see(ino).clone());
            }
            (Some(ino), _) => ino,
            (None, None) => unreachable!(),
        };
        match self.see(ino).kind {
            _ if exclusive => return Err(FsError::Exists),
            FileKind::Directory => return Err(FsError::IsDirectory),
            FileKind::Symlink => return Err(FsError::TooManySymlinks),
            FileKind::File if !truncate && extents.is_empty() => return told(self.see(ino).clone()),
            FileKind::File if !truncate => return Err(FsError::Exists),
            FileKind::File => {}
            _ => return Err(FsError::NotFile),
        }
        self.native(ino)?;
        self.settled(ino)?;
        self.nodes.get_mut(&ino).unwrap().bytes.clear();
        self.inode(ino).size = 0;
        self.lay(ino, session, extents)?;
        self.written(ino)
    }

    pub fn written(&mut self, ino: u64) -> Outcome {
        self.inode(ino).mtime = self.now;
        self.unprivileged(ino);
        self.changed(ino);
        told(self.see(ino).clone())
    }

    /// A file whose content changed is no longer run as its owner, nor as its group if that runs it.
    fn unprivileged(&mut self, ino: u64) {
        let mode = &mut self.inode(ino).mode;
        *mode &= if *mode & 0o010 == 0 { 0o3777 } else { 0o1777 };
    }

    pub fn settled(&self, ino: u64) -> Result<(), FsError> {
        self.see(ino).tail.map_or(Ok(()), |tail| Err(FsError::TailOpen { chunk: tail.chunk }))
    }

    fn lay(&mut self, ino: u64, session: u64, extents: &[Extent]) -> Result<(), FsError> {
        for extent in extents {
            let ExtentSource::Chunk { chunk, offset } = extent.source else {
                return Err(FsError::InvalidRequest);
            };
            if extent.length == 0 {
                return Err(FsError::InvalidRequest);
            }
            if extent.end() > MAX_FILE {
                return Err(FsError::FileTooLarge);
            }
            let gone = FsError::ChunkGone { chunk };
            let known = self.chunks.get(&chunk.0).ok_or(gone.clone())?;
            if !known.held || known.session != session {
                return Err(gone);
            }
            if offset + extent.length > MAX_CHUNK {
                return Err(FsError::InvalidRequest);
            }
            if matches!(known.phase, Phase::Sealed(length) if offset + extent.length > length) {
                return Err(FsError::ChunkState { chunk });
            }
            let node = self.nodes.get_mut(&ino).unwrap();
            for i in 0..extent.length {
                node.bytes.insert(extent.file_offset + i, (chunk.0, offset + i));
            }
            node.inode.size = node.inode.size.max(extent.end());
        }
        Ok(())
    }

    pub fn commit(&mut self, ino: u64, session: u64, extents: &[Extent], expected: Option<u64>) -> Outcome {
        let ino = self.file(ino)?;
        let inode = self.see(ino);
        if inode.tail.is_some_and(|t| expected.is_some() || extents.iter().any(|e| e.end() > t.base)) {
            self.settled(ino)?;
        }
        let actual = inode.size;
        if let Some(expected) = expected.filter(|e| *e != actual) {
            return Err(FsError::LengthMismatch { expected, actual });
        }
        if extents.is_empty() {
            return told(inode.clone());
        }
        self.lay(ino, session, extents)?;
        self.written(ino)
    }

    /// A regular file outside of mounts, by its id.
    pub fn file(&self, ino: u64) -> Result<u64, FsError> {
        let ino = self.start(ino)?;
        match self.see(ino).kind {
            FileKind::Directory => Err(FsError::IsDirectory),
            FileKind::File => self.native(ino).map(|()| ino),
            _ => Err(FsError::NotFile),
        }
    }

    pub fn symlink(&mut self, target: (u64, &[u8]), to: &[u8]) -> Outcome {
        if to.is_empty() || to.len() > 4095 || to.contains(&0) {
            return Err(FsError::InvalidTarget);
        }
        let (dir, name, found) = self.name(target, FsError::Exists)?;
        if found.is_some() {
            return Err(FsError::Exists);
        }
        let ino = self.hang(FileKind::Symlink, 0o777, dir, name)?;
        self.inode(ino).size = to.len() as u64;
        self.inode(ino).target = Some(to.to_vec());
        told(self.see(ino).clone())
    }

    pub fn link(&mut self, from: (u64, &[u8], bool), to: (u64, &[u8])) -> Outcome {
        let ino = self.find((from.0, from.1), !from.2)?;
        let (dir, name, found) = self.name(to, FsError::Exists)?;
        if self.see(ino).nlink == 0 {
            return Err(FsError::NotFound);
        }
        if self.see(ino).is_dir() {
            return Err(FsError::LinkDirectory);
        }
        if found.is_some() {
            return Err(FsError::Exists);
        }
        if self.see(ino).mount != self.see(dir).mount {
            return Err(FsError::CrossMount);
        }
        self.native(ino)?;
        self.inode(ino).nlink += 1;
        self.changed(ino);
        self.nodes.get_mut(&dir).unwrap().children.insert(name, ino);
        self.names_changed(dir, 0);
        told(self.see(ino).clone())
    }

    pub fn unlink(&mut self, target: (u64, &[u8])) -> Outcome {
        let (dir, name, found) = self.name(target, FsError::IsDirectory)?;
        let ino = found.ok_or(FsError::NotFound)?;
        self.native(dir)?;
        if self.see(ino).is_dir() {
            return Err(FsError::IsDirectory);
        }
        self.take(dir, &name, true);
        Ok(Told::default())
    }

    /// Takes a name out; a file goes with its last one, unless it is `spoken_for`.
    fn take(&mut self, dir: u64, name: &[u8], spoken_for: bool) {
        let ino = self.nodes[&dir].children[name];
        let policy = self.policy(ino);
        self.nodes.get_mut(&dir).unwrap().children.remove(name);
        let is_dir = self.see(ino).is_dir();
        if is_dir || self.see(ino).nlink == 1 {
            self.nameless(ino, policy, spoken_for);
        } else {
            self.inode(ino).nlink -= 1;
            self.changed(ino);
        }
        self.names_changed(dir, -i32::from(is_dir));
    }

    fn is_mount_root(&self, ino: u64) -> bool {
        self.mounts.values().any(|root| *root == ino)
    }

    fn is_empty(&self, ino: u64) -> bool {
        self.nodes[&ino].children.is_empty()
    }

    pub fn rmdir(&mut self, target: (u64, &[u8])) -> Outcome {
        let (dir, name, found) = self.name(target, FsError::IsRoot)?;
        let ino = found.ok_or(FsError::NotFound)?;
        self.native(dir)?;
        match () {
            () if !self.see(ino).is_dir() => Err(FsError::NotDirectory),
            () if self.is_mount_root(ino) => Err(FsError::IsMountRoot),
            () if !self.is_empty(ino) => Err(FsError::NotEmpty),
            () => {
                self.take(dir, &name, false);
                Ok(Told::default())
            }
        }
    }

    pub fn remove_tree(&mut self, target: (u64, &[u8])) -> Outcome {
        let (dir, name, found) = self.name(target, FsError::IsRoot)?;
        let ino = found.ok_or(FsError::NotFound)?;
        self.native(dir)?;
        if !self.see(ino).is_dir() {
            return Err(FsError::NotDirectory);
        }
        if self.mounts.values().any(|root| self.under(*root, ino)) {
            return Err(FsError::IsMountRoot);
        }
        let before = self.see(ino).clone();
        self.empty(ino);
        self.take(dir, &name, self.holding.whole);
        told(before)
    }

    fn empty(&mut self, dir: u64) {
        for (name, ino) in self.nodes[&dir].children.clone() {
            if self.see(ino).is_dir() {
                self.empty(ino);
            }
            self.take(dir, &name, self.holding.whole);
        }
    }

    /// True when `ino` is `above` or under it.
    pub fn under(&self, ino: u64, above: u64) -> bool {
        ino == above || (ino != ROOT && self.under(self.nodes[&ino].parent, above))
    }

    pub fn rename(
        &mut self,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
        no_replace: bool,
        exchange: bool,
    ) -> Outcome {
        if no_replace && exchange {
            return Err(FsError::InvalidRequest);
        }
        let (d1, n1, moved) = self.name(from, FsError::IsRoot)?;
        let (d2, n2, other) = self.name(to, FsError::IsRoot)?;
        let moved = moved.ok_or(FsError::NotFound)?;
        if self.see(d1).mount != self.see(d2).mount {
            return Err(FsError::CrossMount);
        }
        self.native(d1)?;
        if self.is_mount_root(moved) || other.is_some_and(|o| self.is_mount_root(o)) {
            return Err(FsError::IsMountRoot);
        }
        match other {
            None if exchange => return Err(FsError::NotFound),
            Some(_) if no_replace => return Err(FsError::Exists),
            Some(o) if o == moved => return told(self.see(moved).clone()),
            _ => {}
        }
        let dir = |model: &Self, ino: u64| model.see(ino).is_dir();
        let into_itself = dir(self, moved) && self.under(d2, moved);
        if into_itself || (exchange && other.is_some_and(|o| dir(self, o) && self.under(d1, o))) {
            return Err(FsError::IntoItself);
        }
        let mut back = None;
        match other {
            Some(o) if exchange => back = Some(o),
            Some(o) if dir(self, moved) && !dir(self, o) => return Err(FsError::NotDirectory),
            Some(o) if !dir(self, moved) && dir(self, o) => return Err(FsError::IsDirectory),
            Some(o) if dir(self, o) && !self.is_empty(o) => return Err(FsError::NotEmpty),
            Some(_) => self.take(d2, &n2, true),
            None => {}
        }
        self.nodes.get_mut(&d1).unwrap().children.remove(&n1);
        self.set_child(d2, n2, moved);
        let mut shift = i32::from(dir(self, moved));
        if let Some(back) = back {
            self.set_child(d1, n1, back);
            shift -= i32::from(dir(self, back));
        }
        if d1 == d2 {
            self.names_changed(d1, 0);
        } else {
            self.names_changed(d1, -shift);
            self.names_changed(d2, shift);
        }
        told(self.see(moved).clone())
    }

    fn set_child(&mut self, dir: u64, name: Vec<u8>, ino: u64) {
        self.nodes.get_mut(&dir).unwrap().children.insert(name, ino);
        if self.see(ino).is_dir() {
            self.nodes.get_mut(&ino).unwrap().parent = dir;
        }
        self.changed(ino);
    }

    pub fn set_attr(
        &mut self,
        target: (u64, &[u8], bool),
        mode: Option<u32>,
        size: Option<u64>,
        mtime: Option<Timestamp>,
        expected: Option<u64>,
    ) -> Outcome {
        let ino = self.find((target.0, target.1), !target.2)?;
        self.native(ino)?;
        if size.is_some() || expected.is_some() {
            self.settled(ino)?;
        }
        let inode = self.see(ino).clone();
        if let Some(expected) = expected.filter(|v| *v != inode.version) {
            return Err(FsError::VersionMismatch { expected, actual: inode.version });
        }
        match (mode, size) {
            (Some(mode), _) if mode > 0o7777 => return Err(FsError::InvalidRequest),
            (None, None) if mtime.is_none() => return told(inode),
            (_, Some(_)) if inode.is_dir() => return Err(FsError::IsDirectory),
            (_, Some(_)) if !inode.is_file() => return Err(FsError::NotFile),
            (_, Some(size)) if size > MAX_FILE => return Err(FsError::FileTooLarge),
            _ => {}
        }
        let now = self.now;
        if size.is_some() {
            self.unprivileged(ino);
        }
        let node = self.nodes.get_mut(&ino).unwrap();
        if let Some(size) = size {
            node.bytes.retain(|at, _| *at < size);
            node.inode.size = size;
            node.inode.mtime = now;
        }
        node.inode.mode = mode.unwrap_or(node.inode.mode);
        node.inode.mtime = mtime.unwrap_or(node.inode.mtime);
        self.changed(ino);
        told(self.see(ino).clone())
    }

    pub fn set_policy(&mut self, target: (u64, &[u8]), policy: Option<Policy>) -> Outcome {
        let ino = self.find(target, true)?;
        if !self.see(ino).is_dir() {
            return Err(FsError::NotDirectory);
        }
        self.native(ino)?;
        if ino == ROOT && policy.is_none() {
            return Err(FsError::InvalidPolicy);
        }
        self.inode(ino).policy = policy;
        self.changed(ino);
        told(self.see(ino).clone())
    }

    pub fn policy(&self, ino: u64) -> Policy {
        let inode = self.see(ino);
        inode.policy.unwrap_or_else(|| self.policy(self.above(ino)))
    }

    /// A directory that has a name for it; for files with several names any of them would do.
    fn above(&self, ino: u64) -> u64 {
        if self.see(ino).is_dir() {
            return self.nodes[&ino].parent;
        }
        *self.nodes.iter().find(|(_, n)| n.children.values().any(|c| *c == ino)).unwrap().0
    }
}
