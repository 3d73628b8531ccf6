//! The model's chunks, tails, seals and mounts.

use super::*;

/// Chunks, tails, writers, mounts.
impl Model {
    pub(super) fn open(
        &mut self,
        session: u64,
        tail_of: u64,
        base: u64,
        generation: u64,
        marks: Vec<WriterMark>,
    ) -> u64 {
        let id = self.next.1;
        self.next.1 += 1;
        let held = tail_of == 0;
        let chunk = Chunk { phase: Phase::Open, epoch: 1, session, tail_of, base, held, generation, marks };
        self.chunks.insert(id, chunk);
        id
    }

    pub fn open_chunk(&mut self, session: u64, policy_of: u64) -> Outcome {
        let ino = self.start(policy_of)?;
        self.native(ino)?;
        let id = self.open(session, 0, 0, 0, Vec::new());
        Ok(Told { chunk: Some(id), ..Told::default() })
    }

    pub fn open_tail(&mut self, ino: u64, session: u64, generation: u64, writer: WriterId) -> Outcome {
        if writer.session().0 != session {
            return Err(FsError::InvalidRequest);
        }
        let ino = self.file(ino)?;
        let mine = self.writers.get(&(ino, writer.0)).copied();
        let current = self.see(ino).generation;
        if generation < current.0 {
            let last_sequence = Sequence(mine.unwrap_or_default().0);
            return Err(FsError::Fenced { generation: current, last_sequence });
        }
        if generation > current.0 {
            return Err(FsError::InvalidRequest);
        }
        let id = match self.see(ino).tail {
            Some(tail) if self.chunks[&tail.chunk.0].phase != Phase::Open => {
                return Err(FsError::ChunkState { chunk: tail.chunk });
            }
            Some(tail) => tail.chunk.0,
            None => {
                let base = self.see(ino).size;
                if base > MAX_FILE - MAX_CHUNK {
                    return Err(FsError::FileTooLarge);
                }
                let marks = self.marks(ino);
                let id = self.open(0, ino, base, generation, marks);
                self.inode(ino).tail = Some(TailRef { chunk: ChunkId(id), base });
                self.inode(ino).version += 1;
                id
            }
        };
        self.writers.entry((ino, writer.0)).or_default();
        Ok(Told { inode: Some(self.see(ino).clone()), chunk: Some(id), ..Told::default() })
    }

    pub(super) fn marks(&self, ino: u64) -> Vec<WriterMark> {
        let of_file = self.writers.iter().filter(|((file, _), (sequence, _))| *file == ino && *sequence > 0);
        of_file
            .map(|((_, writer), (sequence, offset))| WriterMark {
                writer: WriterId(*writer),
                sequence: Sequence(*sequence),
                offset: *offset,
            })
            .collect()
    }

    pub fn open_exclusive(&mut self, ino: u64) -> Outcome {
        let ino = self.file(ino)?;
        let generation = self.see(ino).generation.next();
        self.inode(ino).generation = generation;
        let chunk = self.seal_tail(ino);
        self.inode(ino).version += 1;
        let inode = Some(self.see(ino).clone());
        Ok(Told { inode, chunk, generation: Some(generation.0), ..Told::default() })
    }

    pub(super) fn seal_tail(&mut self, ino: u64) -> Option<u64> {
        let tail = self.see(ino).tail?.chunk.0;
        self.begin(tail);
        Some(tail)
    }

    pub(super) fn begin(&mut self, id: u64) {
        let chunk = self.chunks.get_mut(&id).unwrap();
        if chunk.phase == Phase::Open {
            chunk.phase = Phase::Sealing;
            chunk.epoch += 1;
        }
    }

    pub fn release(&mut self, id: u64, session: u64) -> Outcome {
        let gone = FsError::ChunkGone { chunk: ChunkId(id) };
        let chunk = self.chunks.get(&id).ok_or(gone.clone())?;
        if !chunk.held || chunk.session != session {
            return Err(gone);
        }
        self.begin(id);
        self.chunks.get_mut(&id).unwrap().held = false;
        Ok(Told { chunk: Some(id), ..Told::default() })
    }

    pub fn begin_seal(&mut self, id: u64, epoch: u32) -> Outcome {
        let chunk = self.chunks.get(&id).ok_or(FsError::ChunkGone { chunk: ChunkId(id) })?;
        if chunk.phase == Phase::Open && chunk.epoch != epoch {
            return Err(FsError::ChunkState { chunk: ChunkId(id) });
        }
        self.begin(id);
        Ok(Told { chunk: Some(id), ..Told::default() })
    }

    pub fn seal(
        &mut self,
        (id, epoch, planned): (u64, u32, bool),
        length: u64,
        marks: &[WriterMark],
        mtime: Timestamp,
        lives: &dyn Fn(u64) -> bool,
    ) -> Outcome {
        let chunk = self.chunks.get(&id).ok_or(FsError::ChunkGone { chunk: ChunkId(id) })?.clone();
        let same = Told { chunk: Some(id), ..Told::default() };
        let from = if planned { Phase::Open } else { Phase::Sealing };
        match chunk.phase {
            Phase::Sealed(decided) if decided == length => return Ok(same),
            phase if phase != from || chunk.epoch != epoch => {
                return Err(FsError::ChunkState { chunk: ChunkId(id) });
            }
            _ => {}
        }
        self.chunks.get_mut(&id).unwrap().phase = Phase::Sealed(length);
        if !self.nodes.contains_key(&chunk.tail_of) {
            return Ok(same);
        }
        let ino = chunk.tail_of;
        let now = self.now;
        let node = self.nodes.get_mut(&ino).unwrap();
        node.inode.tail = None;
        for i in 0..length {
            node.bytes.insert(chunk.base + i, (id, i));
        }
        if length > 0 {
            node.inode.size = node.inode.size.max(chunk.base + length);
            node.inode.mtime = node.inode.mtime.max(mtime.min(now));
            self.unprivileged(ino);
            self.changed(ino);
        } else {
            self.inode(ino).version += 1;
        }
        for mark in marks.iter().filter(|m| lives(m.writer.session().0)) {
            let known = self.writers.entry((ino, mark.writer.0)).or_default();
            // A sequence is decided once: its first offset stays.
            if mark.sequence.0 > known.0 {
                *known = (mark.sequence.0, mark.offset);
            }
        }
        Ok(same)
    }

    pub fn end_session(&mut self, session: u64) {
        let held: Vec<u64> =
            self.chunks.iter().filter(|(_, c)| c.held && c.session == session).map(|(id, _)| *id).collect();
        for id in held {
            self.begin(id);
            self.chunks.get_mut(&id).unwrap().held = false;
        }
        let mine = |writer: u64| WriterId(writer).session().0 == session;
        let files: Vec<u64> = self.writers.keys().filter(|(_, w)| mine(*w)).map(|(ino, _)| *ino).collect();
        self.writers.retain(|(_, writer), _| !mine(*writer));
        for ino in files {
            if !self.writers.keys().any(|(file, _)| *file == ino) {
                self.seal_tail(ino);
            }
        }
        self.fall_silent(session);
    }

    pub fn mount_add(&mut self, target: (u64, &[u8])) -> Outcome {
        let spot = self.spot(target, true)?;
        let ino = match (spot.node, spot.at) {
            (None, Some((dir, name))) => self.hang(FileKind::Directory, 0o755, dir, name)?,
            (node, _) => node.unwrap(),
        };
        match () {
            () if !self.see(ino).is_dir() => return Err(FsError::NotDirectory),
            () if ino == ROOT => return Err(FsError::IsRoot),
            () if self.is_mount_root(ino) => return Err(FsError::IsMountRoot),
            () => self.native(ino)?,
        }
        if !self.is_empty(ino) {
            return Err(FsError::NotEmpty);
        }
        let mount = self.next.2;
        self.next.2 += 1;
        self.mounts.insert(mount, ino);
        self.inode(ino).mount = Some(MountId(mount));
        self.changed(ino);
        Ok(Told { inode: Some(self.see(ino).clone()), mount: Some(mount), ..Told::default() })
    }

    /// The names under a mount are gone; an empty directory takes the root's place.
    pub fn mount_remove(&mut self, target: (u64, &[u8])) -> Outcome {
        let old = self.find(target, true)?;
        let mount = *self.mounts.iter().find(|(_, root)| **root == old).ok_or(FsError::NoSuchMount)?.0;
        let parent = self.nodes[&old].parent;
        let before = self.nodes.remove(&old).unwrap().inode;
        self.mounts.remove(&mount);
        let fresh = self.make(FileKind::Directory, before.mode, parent);
        let inode = self.inode(fresh);
        (inode.mount, inode.policy, inode.btime) = (None, before.policy, before.btime);
        for child in self.nodes.get_mut(&parent).unwrap().children.values_mut().filter(|c| **c == old) {
            *child = fresh;
        }
        Ok(Told { inode: Some(self.see(fresh).clone()), mount: Some(mount), ..Told::default() })
    }

    /// Bytes of a chunk that files name.
    pub fn live(&self, id: u64) -> u64 {
        self.nodes.values().flat_map(|n| n.bytes.values()).filter(|(chunk, _)| *chunk == id).count() as u64
    }

    pub fn chain(length: u64) -> Chain {
        Chain(u32::try_from(length).unwrap().wrapping_mul(2_654_435_761))
    }
}
