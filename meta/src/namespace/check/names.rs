//! `nodes` ↔ `places` ↔ `links` ↔ link counts; what no path reaches; `orphans`.

use cairn_types::{Inode, InodeId};

use super::look::{At, Cursor, Look, Pass, is_branch, ring_of};
use super::{Finding, chunks, holds, mounts};
use crate::keys::counters::{self, ClusterRecord};
use crate::keys::nodes::{self, NodeRow};
use crate::keys::orphans::Orphan;
use crate::keys::places::{self, Place};
use crate::keys::{Record, links};
use crate::store::{StoreFault, Table};

/// Inodes whose lost rows are remembered so that nothing else is said of them, at most.
const REMEMBERED_MAX: usize = 1 << 16;

pub(super) fn passes() -> Vec<Box<dyn Pass>> {
    vec![
        Box::new(Placed(Cursor::all(Table::Nodes))),
        Box::new(Names { cursor: Cursor::all(Table::Nodes), directory: None }),
        Box::new(Links { cursor: Cursor::all(Table::Links), of: None }),
        Box::new(Places(Cursor::all(Table::Places))),
        Box::new(Orphans(Cursor::all(Table::Orphans))),
    ]
}

/// First of all: each name is known by its inode. What is not is remembered.
struct Placed(Cursor);

impl Pass for Placed {
    fn name(&self) -> &'static str {
        "names and their inodes"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, bytes) in rows {
            let Some(parent) = look.number(Table::Nodes, &key, 0).map(InodeId) else { continue };
            let Some(row) = look.read::<NodeRow>(&key, &bytes) else { continue };
            let name = nodes::name(&key).to_vec();
            match row {
                NodeRow::Inode(inode) => placed(look, parent, name, &inode)?,
                NodeRow::Link { ino, .. } => {
                    if !look.has(Table::Links, &links::key(ino, parent, &name))?
                        && !look.known(ino)?.is_absent()
                    {
                        let full = look.tally.unlisted.len() >= REMEMBERED_MAX;
                        if !full {
                            *look.tally.unlisted.entry(ino).or_default() += 1;
                        }
                        look.found(Finding::UnlistedLink { ino, parent, name });
                    }
                }
            }
        }
        if ended {
            let cluster = look.at::<ClusterRecord>(counters::KEY)?.record().unwrap_or_default();
            let root = look.inode(InodeId::ROOT)?;
            if !cluster.cluster.is_nil() && !root.holds_readable(|(_, root)| root.is_dir()) {
                look.found(Finding::NoRoot {});
            }
        }
        Ok(ended)
    }
}

fn placed(look: &mut Look<'_>, parent: InodeId, name: Vec<u8>, inode: &Inode) -> Result<(), StoreFault> {
    let ino = inode.ino;
    look.tally.inode(ino);
    let here = Place { parent, name };
    let place = match look.at::<Place>(&places::key(ino))? {
        At::Unreadable => return Ok(()),
        At::Nothing => None,
        At::Record(place) if place == here => return Ok(()),
        At::Record(place) => Some(place),
    };
    let Place { parent, name } = here;
    // The place may know of the same inode elsewhere.
    let elsewhere = place.is_some() && !look.inode(ino)?.is_absent();
    if elsewhere {
        look.found(Finding::TwoPrimaries { ino, parent, name });
        return Ok(());
    }
    if look.tally.unplaced.len() < REMEMBERED_MAX {
        look.tally.unplaced.insert(ino);
    }
    look.found(Finding::NoPlace { ino, parent, name });
    Ok(())
}

/// Directories with their names, and what each name's inode says.
struct Names {
    cursor: Cursor,
    directory: Option<Directory>,
}

/// A directory whose names are being read.
struct Directory {
    ino: InodeId,
    subdirectories: u32,
}

impl Pass for Names {
    fn name(&self) -> &'static str {
        "directories"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.cursor.next(look)?;
        for (key, bytes) in rows {
            let (Ok(parent), Ok(row)) =
                (crate::keys::u64_at(Table::Nodes, &key, 0), NodeRow::from_bytes(&key, &bytes))
            else {
                continue;
            };
            let parent = InodeId(parent);
            if self.directory.as_ref().is_none_or(|d| d.ino != parent) {
                self.close(look)?;
                self.directory = Some(Directory { ino: parent, subdirectories: 0 });
            }
            match row {
                NodeRow::Inode(inode) => {
                    if let Some(directory) = self.directory.as_mut().filter(|_| inode.is_dir()) {
                        directory.subdirectories += 1;
                    }
                    named(look, parent, nodes::name(&key), &inode)?;
                }
                NodeRow::Link { ino, .. } if look.inode(ino)?.is_absent() => {
                    let name = nodes::name(&key).to_vec();
                    look.found(Finding::DanglingName { ino, parent, name });
                }
                NodeRow::Link { .. } => {}
            }
        }
        if ended {
            self.close(look)?;
        }
        Ok(ended)
    }
}

impl Names {
    /// All names of a directory were read.
    fn close(&mut self, look: &mut Look<'_>) -> Result<(), StoreFault> {
        let Some(Directory { ino, subdirectories }) = self.directory.take() else { return Ok(()) };
        if ino == InodeId(0) {
            // The root's own row, and nothing else.
            let root = look.has(Table::Nodes, &nodes::key(ino, b""))?;
            if !root || look.rows.scan(Table::Nodes, &nodes::all(ino), 2)?.len() > 1 {
                look.found(Finding::NoDirectory { parent: ino });
            }
            return Ok(());
        }
        if ring_of(look.rows, ino)? == Some(ino) {
            look.found(Finding::Cycle { ino });
        }
        match look.inode(ino)? {
            At::Unreadable => {}
            At::Record((_, inode)) if inode.is_dir() => {
                link_count(look, &inode, subdirectories.saturating_add(2))?;
            }
            At::Record(_) => look.found(Finding::NoDirectory { parent: ino }),
            At::Nothing => match look.orphan(ino)? {
                At::Nothing if is_branch(look.rows, ino)? => {}
                At::Nothing => look.found(Finding::LostDirectory { ino, subdirectories }),
                At::Record(orphan) if !orphan.is_dir() => look.found(Finding::NoDirectory { parent: ino }),
                _ => {}
            },
        }
        Ok(())
    }
}

/// Notes a wrong link count. In a purge the names of a subtree go without the counts of what goes
/// with it.
fn link_count(look: &mut Look<'_>, inode: &Inode, counted: u32) -> Result<(), StoreFault> {
    if inode.nlink == counted || look.is_orphaned(inode.ino)? {
        return Ok(());
    }
    let (ino, version, recorded) = (inode.ino, inode.version, inode.nlink);
    look.found(Finding::LinkCount { ino, version, recorded, counted });
    Ok(())
}

/// What an inode at a name says of itself.
fn named(look: &mut Look<'_>, parent: InodeId, name: &[u8], inode: &Inode) -> Result<(), StoreFault> {
    let alone = if inode.is_dir() { 2 } else { 1 };
    let unlisted = look.tally.unlisted.get(&inode.ino).copied().unwrap_or(0);
    if inode.nlink != alone || unlisted > 0 {
        let further = if inode.is_dir() {
            look.any(Table::Nodes, &nodes::all(inode.ino))?
        } else {
            look.any(Table::Links, &links::of(inode.ino))?
        };
        // With further ones it is counted where those are read.
        if !further {
            link_count(look, inode, alone + unlisted)?;
        }
    }
    if let Some(tail) = inode.tail {
        chunks::tail_of(look, inode, tail)?;
    }
    if let Some(mount) = inode.mount {
        mounts::named(look, parent, name, inode, mount)?;
    }
    Ok(())
}

/// Further hard links, counted for each inode.
struct Links {
    cursor: Cursor,
    of: Option<(InodeId, u32)>,
}

impl Pass for Links {
    fn name(&self) -> &'static str {
        "hard links"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.cursor.next(look)?;
        for (key, _) in rows {
            let Some(ino) = look.number(Table::Links, &key, 0).map(InodeId) else { continue };
            let Ok(Place { parent, name }) = links::place(&key) else {
                look.unreadable(Table::Links, &key);
                continue;
            };
            if self.of.is_none_or(|(of, _)| of != ino) {
                self.close(look)?;
                self.of = Some((ino, 0));
            }
            let row = look.at::<NodeRow>(&nodes::key(parent, &name))?;
            if row.holds_readable(|row| matches!(row, NodeRow::Link { ino: to, .. } if to == ino)) {
                self.of = self.of.map(|(of, count)| (of, count + 1));
            } else {
                look.found(Finding::StrayLink { ino, parent, name });
            }
        }
        if ended {
            self.close(look)?;
        }
        Ok(ended)
    }
}

impl Links {
    fn close(&mut self, look: &mut Look<'_>) -> Result<(), StoreFault> {
        let Some((ino, listed)) = self.of.take() else { return Ok(()) };
        let unlisted = look.tally.unlisted.get(&ino).copied().unwrap_or(0);
        if let Some((_, inode)) = look.inode(ino)?.record()
            && !inode.is_dir()
        {
            link_count(look, &inode, 1 + listed + unlisted)?;
        }
        Ok(())
    }
}

/// Each place is where its inode is.
struct Places(Cursor);

impl Pass for Places {
    fn name(&self) -> &'static str {
        "places"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, bytes) in rows {
            let Some(ino) = look.number(Table::Places, &key, 0).map(InodeId) else { continue };
            let Some(Place { parent, name }) = look.read::<Place>(&key, &bytes) else { continue };
            if look.inode(ino)?.is_absent() {
                look.found(Finding::DanglingPlace { ino, parent, name });
            }
        }
        Ok(ended)
    }
}

/// What waits for its removal has no name.
struct Orphans(Cursor);

impl Pass for Orphans {
    fn name(&self) -> &'static str {
        "unlinked inodes"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        let (rows, ended) = self.0.next(look)?;
        for (key, bytes) in rows {
            let Some(ino) = look.number(Table::Orphans, &key, 0).map(InodeId) else { continue };
            look.tally.id(super::Counter::Inodes, ino.0);
            let Some(orphan) = look.read::<Orphan>(&key, &bytes) else { continue };
            if orphan.inode.ino != ino {
                look.unreadable(Table::Orphans, &key);
            } else if look.inode(ino)?.record().is_some() {
                look.found(Finding::NamedOrphan { ino });
            } else if let Some(since) = orphan.since {
                holds::unlinked(look, &orphan.inode, since)?;
            }
        }
        Ok(ended)
    }
}
