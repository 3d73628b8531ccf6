//! What somebody knows of the names who is told events alone.

use std::collections::BTreeMap;

use cairn_meta::keys;
use cairn_meta::keys::events::{EventKind, EventRow, Site};
use cairn_meta::keys::nodes::{self, NodeRow};
use cairn_meta::store::{KeyRange, Rows, Table};
use cairn_types::{Inode, InodeId};

const ROOT: InodeId = InodeId::ROOT;

/// (directory, name) → inode.
pub type Names = BTreeMap<(InodeId, Vec<u8>), InodeId>;

/// What somebody knows who is told events alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub names: Names,
}

impl Tree {
    /// All names that a path leads to, and the inode of each.
    pub fn of(rows: &dyn Rows) -> (Self, BTreeMap<InodeId, Inode>) {
        let (mut all, mut inodes) = (Names::new(), BTreeMap::new());
        for (key, row) in keys::scan::<NodeRow>(rows, &KeyRange::default(), usize::MAX).unwrap() {
            let parent = InodeId(keys::u64_at(Table::Nodes, &key, 0).unwrap());
            let ino = match row {
                NodeRow::Inode(inode) => {
                    inodes.insert(inode.ino, inode.clone());
                    inode.ino
                }
                NodeRow::Link { ino, .. } => ino,
            };
            all.insert((parent, nodes::name(&key).to_vec()), ino);
        }
        all.retain(|(parent, _), _| *parent != InodeId(0));
        // What hangs below a removed mount is reached by no path.
        let reached = Self { names: all }.below(ROOT);
        (reached, inodes)
    }

    /// The names in a directory and in all below it.
    pub fn below(&self, top: InodeId) -> Self {
        let mut names = Names::new();
        let mut waiting = vec![top];
        while let Some(dir) = waiting.pop() {
            for ((parent, name), ino) in self.names.range((dir, Vec::new())..).take_while(|(k, _)| k.0 == dir)
            {
                names.insert((*parent, name.clone()), *ino);
                waiting.push(*ino);
            }
        }
        Self { names }
    }

    /// What lies above a directory, the nearest first.
    pub fn above(&self, dir: InodeId) -> Vec<InodeId> {
        let (mut at, mut out) = (dir, Vec::new());
        while at != ROOT && at != InodeId(0) {
            let parent = self.names.iter().find(|(_, ino)| **ino == at).map(|((parent, _), _)| *parent);
            at = parent.unwrap_or_else(|| panic!("{at:?} of {self:?}"));
            out.push(at);
        }
        out
    }

    fn forget_below(&mut self, ino: InodeId) {
        for name in self.below(ino).names.keys() {
            self.names.remove(name);
        }
    }

    fn take(&mut self, site: &Site, ino: InodeId) {
        assert_eq!(self.names.remove(&(site.parent, site.name.clone())), Some(ino), "{site:?}");
    }

    fn give(&mut self, site: &Site, ino: InodeId) {
        let before = self.names.insert((site.parent, site.name.clone()), ino);
        assert_eq!(before, None, "{site:?}");
    }

    /// Applies one event, of the whole tree.
    pub fn apply(&mut self, event: &EventRow) {
        if event.site.parent != InodeId(0) {
            assert_eq!(event.site.above, self.above(event.site.parent), "{event:?}");
        }
        if let Some(to) = event.to() {
            assert_eq!(to.above, self.above(to.parent), "{event:?}");
        }
        self.apply_names(event);
    }

    fn apply_names(&mut self, event: &EventRow) {
        let (site, ino) = (&event.site, event.ino);
        match &event.what {
            EventKind::Created => self.give(site, ino),
            // A directory that goes with all below it has one event.
            EventKind::Removed { .. } => {
                self.forget_below(ino);
                self.take(site, ino);
            }
            EventKind::Renamed { to } => {
                self.take(site, ino);
                self.give(to, ino);
            }
            EventKind::Exchanged { to, other, .. } => {
                self.take(site, ino);
                self.take(to, *other);
                self.give(to, ino);
                self.give(site, *other);
            }
            EventKind::MountRemoved { fresh, .. } => {
                self.forget_below(ino);
                self.take(site, ino);
                self.give(site, *fresh);
            }
            EventKind::Content
            | EventKind::Attributes
            | EventKind::Policy
            | EventKind::MountAdded { .. }
            | EventKind::Imported => {
                let known = self.names.get(&(site.parent, site.name.clone()));
                assert!(site.parent == InodeId(0) || known == Some(&ino), "{event:?}");
            }
        }
    }

    /// Applies one event that a watch of `top` was told, as docs/WATCH.md says; `now` is what there
    /// is after its entry, to list a directory that came in.
    pub fn follow(&mut self, top: InodeId, recursive: bool, event: &EventRow, now: &Tree) {
        let inside = |site: &Site| site.lies_in(top, recursive);
        let mut leave = Vec::new();
        let mut arrive = Vec::new();
        let mut gone = |site: &Site, ino: InodeId| {
            if inside(site) {
                self.take(site, ino);
            }
        };
        match &event.what {
            EventKind::Created => arrive.push((event.site.clone(), event.ino, false)),
            EventKind::Removed { .. } => {
                gone(&event.site, event.ino);
                leave.extend(inside(&event.site).then_some(event.ino));
            }
            EventKind::Renamed { to } => {
                gone(&event.site, event.ino);
                leave.extend((inside(&event.site) && !inside(to)).then_some(event.ino));
                arrive.push((to.clone(), event.ino, !inside(&event.site)));
            }
            EventKind::Exchanged { to, other, .. } => {
                gone(&event.site, event.ino);
                gone(to, *other);
                leave.extend((inside(&event.site) && !inside(to)).then_some(event.ino));
                leave.extend((inside(to) && !inside(&event.site)).then_some(*other));
                arrive.push((to.clone(), event.ino, !inside(&event.site)));
                arrive.push((event.site.clone(), *other, !inside(to)));
            }
            EventKind::MountRemoved { fresh, .. } => {
                gone(&event.site, event.ino);
                leave.push(event.ino);
                arrive.push((event.site.clone(), *fresh, false));
            }
            _ => {}
        }
        for ino in leave.into_iter().filter(|_| recursive) {
            self.forget_below(ino);
        }
        for (site, ino, listed) in arrive {
            if inside(&site) {
                self.give(&site, ino);
                if listed && recursive {
                    self.names.extend(now.below(ino).names);
                }
            }
        }
    }

    pub fn watched(&self, top: InodeId, recursive: bool) -> Self {
        let mut seen = self.below(top);
        if !recursive {
            seen.names.retain(|(parent, _), _| *parent == top);
        }
        seen
    }
}
