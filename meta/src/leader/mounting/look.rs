//! What a look at a mount's rows finds to be done. Reads only; so many rows at a time.

use std::time::Duration;

use cairn_types::{ChunkId, InodeId, MountId};

use super::Mounted;
use super::rests::Rests;
use super::ripe::{Due, QUIET_MS, Seen, due};
use crate::keys::moves::MoveRow;
use crate::keys::objects::{self, ObjectRow};
use crate::keys::pending::PendingRow;
use crate::keys::{self, RowFault};
use crate::leader::first_seen::Now;
use crate::namespace::{NamespaceError, Target, mounting, read};
use crate::store::{KeyRange, Rows};

/// Rows of one kind that are looked at in one turn, at most.
const ROWS_PER_LOOK: usize = 2048;
/// Rows read in one step.
const PAGE: usize = 256;
/// Directories whose tree follows them that are found in one look, at most.
const WALKS_MAX: usize = 64;
/// Tails that are closed in one turn, at most.
const TAILS_MAX: usize = 64;
/// How long a mount is left alone in which all was looked at and nothing was to be done.
const PAUSE: Duration = Duration::from_millis(250);

/// A mount as the job knows it between turns.
#[derive(Debug, Default)]
pub struct Desk {
    /// What of the files is remembered.
    pub seen: Seen,
    /// Files that cannot be written yet.
    pub files: Rests<InodeId>,
    /// Objects that cannot be deleted yet.
    pub objects: Rests<Vec<u8>>,
    /// Directories whose tree cannot follow them yet.
    pub walks: Rests<InodeId>,
    /// Prefixes that cannot be forgotten yet.
    pub moves: Rests<Vec<u8>>,
    /// The mount itself, which could not be probed.
    pub probes: Rests<()>,
    pending_after: Option<InodeId>,
    surplus_after: Option<Vec<u8>>,
    moves_after: Option<Vec<u8>>,
    /// When it is looked at again.
    look_at: Duration,
}

/// What is to be done in a mount.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Files and markers to be written.
    pub puts: Vec<InodeId>,
    /// Files whose tail is to be closed first.
    pub tails: Vec<(InodeId, ChunkId)>,
    /// Keys of objects to be deleted.
    pub deletions: Vec<Vec<u8>>,
    /// Directories whose tree is to follow them.
    pub walks: Vec<InodeId>,
    /// Prefixes that a directory left, and below which nothing is any more.
    pub left: Vec<Vec<u8>>,
}

impl Found {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Desk {
    /// Looks for what is to be done, `wanted` of a kind at most.
    ///
    /// # Errors
    /// [`RowFault`] when the store failed or a row is damaged.
    pub fn look(
        &mut self,
        rows: &dyn Rows,
        mounted: &Mounted,
        wanted: usize,
        now: Now,
    ) -> Result<Found, RowFault> {
        let Mounted { mount, mode, counts, .. } = mounted;
        let mut found = Found::default();
        if self.look_at > now.boot {
            return Ok(found);
        }
        let lag_ms = mode.rules.object_lag_ms;
        let around = counts.pending == 0 || self.pending(rows, *mount, lag_ms, wanted, now, &mut found)?;
        if counts.surplus > 0 {
            self.surplus(rows, *mount, wanted, now, &mut found)?;
        }
        self.moves(rows, *mount, counts.walking, now, &mut found)?;
        if found.is_empty() && wanted > 0 {
            // Further rows are looked at more slowly as well: nobody may be in a hurry.
            self.look_at = now.boot.saturating_add(if around { PAUSE } else { PAUSE / 4 });
        }
        Ok(found)
    }

    /// True when the last pending row was seen.
    fn pending(
        &mut self,
        rows: &dyn Rows,
        mount: MountId,
        lag_ms: u64,
        wanted: usize,
        now: Now,
        found: &mut Found,
    ) -> Result<bool, RowFault> {
        let mut looked = 0;
        while looked < ROWS_PER_LOOK && found.puts.len() < wanted {
            let page = mounting::pending_after(rows, mount, self.pending_after, PAGE)?;
            for (ino, row) in &page {
                self.pending_after = Some(*ino);
                looked += 1;
                self.pending_row(rows, lag_ms, (*ino, row), now, found)?;
                if found.puts.len() >= wanted {
                    return Ok(false);
                }
            }
            if page.len() < PAGE {
                self.pending_after = None;
                self.seen.passed();
                self.files.forget_old(now.boot);
                self.walks.forget_old(now.boot);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn pending_row(
        &mut self,
        rows: &dyn Rows,
        lag_ms: u64,
        (ino, row): (InodeId, &PendingRow),
        now: Now,
        found: &mut Found,
    ) -> Result<(), RowFault> {
        if row.walk.is_some() && found.walks.len() < WALKS_MAX && !self.walks.is_resting(&ino, now.boot) {
            found.walks.push(ino);
        }
        // A failed one is kept as well, until the file changes.
        if row.intent.is_some() || self.files.is_resting(&ino, now.boot) {
            return Ok(());
        }
        if row.walk.is_some() && !row.marker {
            return Ok(());
        }
        let ages = self.seen.ages(ino, row.since, row.changed, now);
        if ages.quiet_ms < QUIET_MS && ages.pending_ms < lag_ms {
            return Ok(());
        }
        let tail = match read::resolve(rows, &Target::ino(ino)) {
            Ok(inode) => inode.tail.map(|tail| tail.chunk),
            // It is gone: the entry that is proposed for it finds out what that means.
            Err(NamespaceError::Refused(_)) => None,
            Err(NamespaceError::Fault(fault)) => return Err(fault),
        };
        match due(ages, tail, self.seen.closed(ino), lag_ms) {
            Due::Now => found.puts.push(ino),
            Due::Close(tail) if found.tails.len() < TAILS_MAX => found.tails.push((ino, tail)),
            Due::Close(_) | Due::Later => {}
        }
        Ok(())
    }

    fn surplus(
        &mut self,
        rows: &dyn Rows,
        mount: MountId,
        wanted: usize,
        now: Now,
        found: &mut Found,
    ) -> Result<(), RowFault> {
        let mut looked = 0;
        while looked < ROWS_PER_LOOK && found.deletions.len() < wanted {
            let page = mounting::surplus_after(rows, mount, self.surplus_after.as_deref(), PAGE)?;
            let last = page.len() < PAGE;
            for (key, row) in page {
                self.surplus_after = Some(key.clone());
                looked += 1;
                if row.intent.is_none() && !self.objects.is_resting(&key, now.boot) {
                    found.deletions.push(key);
                }
                if found.deletions.len() >= wanted {
                    return Ok(());
                }
            }
            if last {
                self.surplus_after = None;
                self.objects.forget_old(now.boot);
                break;
            }
        }
        Ok(())
    }

    fn moves(
        &mut self,
        rows: &dyn Rows,
        mount: MountId,
        walking: u64,
        now: Now,
        found: &mut Found,
    ) -> Result<(), RowFault> {
        let page = mounting::moves_after(rows, mount, self.moves_after.as_deref(), PAGE)?;
        self.moves_after = page.last().filter(|_| page.len() == PAGE).map(|(prefix, _)| prefix.clone());
        for (prefix, MoveRow { directory }) in page {
            let walks = mounting::pending(rows, mount, directory)?.is_some_and(|row| row.walk.is_some());
            if walks && found.walks.len() < WALKS_MAX && !self.walks.is_resting(&directory, now.boot) {
                // The first of a tree: a look may not come by its row for long.
                if !found.walks.contains(&directory) {
                    found.walks.push(directory);
                }
            }
            if walking == 0 && !self.moves.is_resting(&prefix, now.boot) && is_bare(rows, mount, &prefix)? {
                found.left.push(prefix);
            }
        }
        if self.moves_after.is_none() {
            self.moves.forget_old(now.boot);
        }
        Ok(())
    }
}

/// True when no object is known below a prefix.
fn is_bare(rows: &dyn Rows, mount: MountId, prefix: &[u8]) -> Result<bool, RowFault> {
    let range = KeyRange::prefix(&objects::key(mount, prefix));
    Ok(keys::scan::<ObjectRow>(rows, &range, 1)?.is_empty())
}
