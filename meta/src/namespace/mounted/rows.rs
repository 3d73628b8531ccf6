//! The one place where the rows of written mounts change, so that their counts always fit them. A mount without
//! a row of its mode is counted nothing of.

use cairn_types::{InodeId, IntentId, MountId};

use super::Known;
use crate::keys::claims::{self, ClaimRow};
use crate::keys::homes::{self, Home};
use crate::keys::imports::{self, ImportRecord};
use crate::keys::intents::{IntentRecord, Work};
use crate::keys::mount_counts::{self, MountCounts};
use crate::keys::mount_modes::{self, MountMode};
use crate::keys::mounts::{self, MountRecord};
use crate::keys::objects::{self, NOBODY, ObjectRow};
use crate::keys::pending::{self, PendingRow};
use crate::keys::pictures::{self, PictureRow, PieceSource};
use crate::keys::surplus::{self, SurplusRow};
use crate::keys::{self, RowFault};
use crate::namespace::state::State;
use crate::store::Table;

impl State<'_, '_> {
    /// The mount, if there is one.
    pub fn mount(&self, mount: MountId) -> Result<Option<MountRecord>, RowFault> {
        self.get(&mounts::key(mount))
    }

    fn known(&mut self, mount: MountId) -> Result<&mut Known, RowFault> {
        if self.mounted.known.as_ref().is_none_or(|known| known.mount != mount) {
            self.write_mounted();
            let mode: Option<MountMode> = self.get(&mount_modes::key(mount))?;
            self.mounted.known = Some(Known { mount, mode, counts: None });
        }
        let fresh = || Known { mount, mode: None, counts: None };
        Ok(self.mounted.known.get_or_insert_with(fresh))
    }

    /// How a mount is kept; `None`: it was made read-only, before there was another kind.
    pub fn mount_mode(&mut self, mount: MountId) -> Result<Option<MountMode>, RowFault> {
        Ok(self.known(mount)?.mode.clone())
    }

    /// True for a mount of which it is noted what its bucket holds, whether it is written to now or not.
    pub fn is_noted(&mut self, mount: MountId) -> Result<bool, RowFault> {
        Ok(self.known(mount)?.mode.is_some())
    }

    /// Writes how a mount is kept.
    pub fn put_mount_mode(&mut self, mount: MountId, mode: MountMode) -> Result<(), RowFault> {
        self.put(mount_modes::key(mount), &mode);
        self.known(mount)?.mode = Some(mode);
        Ok(())
    }

    /// Changes the counts of a mount.
    pub fn count_mount(
        &mut self,
        mount: MountId,
        change: impl FnOnce(&mut MountCounts),
    ) -> Result<(), RowFault> {
        if self.known(mount)?.mode.is_none() {
            return Ok(());
        }
        if self.known(mount)?.counts.is_none() {
            let counts: MountCounts = self.get(&mount_counts::key(mount))?.unwrap_or_default();
            self.known(mount)?.counts = Some(counts);
        }
        if let Some(counts) = &mut self.known(mount)?.counts {
            change(counts);
        }
        Ok(())
    }

    /// The counts of a mount.
    pub fn mount_counts(&mut self, mount: MountId) -> Result<MountCounts, RowFault> {
        let mut seen = MountCounts::default();
        self.count_mount(mount, |counts| seen = counts.clone())?;
        Ok(seen)
    }

    /// Forgets all that is known of a mount, its mode and counts included: it is gone.
    pub fn drop_mount_mode(&mut self, mount: MountId) {
        self.mounted.known = None;
        self.delete(Table::MountModes, mount_modes::key(mount));
        self.delete(Table::MountCounts, mount_counts::key(mount));
    }

    /// Writes what the entry changed and has only in memory.
    pub fn write_mounted(&mut self) {
        if let Some(Known { mount, counts: Some(counts), .. }) = self.mounted.known.take() {
            self.put(mount_counts::key(mount), &counts);
        }
        for (ino, keep) in std::mem::take(&mut self.mounted.keeps) {
            self.put(pictures::keep_key(ino), &keep);
        }
    }

    /// What is known of an object.
    pub fn object(&self, mount: MountId, key: &[u8]) -> Result<Option<ObjectRow>, RowFault> {
        self.get(&objects::key(mount, key))
    }

    /// Writes what is known of an object.
    pub fn put_object(&mut self, mount: MountId, key: &[u8], row: &ObjectRow) -> Result<(), RowFault> {
        let old = self.object(mount, key)?;
        let size = row.size;
        self.count_mount(mount, |counts| {
            counts.objects += u64::from(old.is_none());
            counts.bytes = (counts.bytes + size).saturating_sub(old.map_or(0, |old| old.size));
        })?;
        self.put(objects::key(mount, key), row);
        Ok(())
    }

    /// Forgets an object, also that it is surplus.
    pub fn drop_object(&mut self, mount: MountId, key: &[u8]) -> Result<(), RowFault> {
        let Some(old) = self.object(mount, key)? else { return Ok(()) };
        if old.ino == NOBODY {
            self.end_surplus(mount, key)?;
        }
        self.count_mount(mount, |counts| {
            counts.objects = counts.objects.saturating_sub(1);
            counts.bytes = counts.bytes.saturating_sub(old.size);
        })?;
        self.delete(Table::Keys, objects::key(mount, key));
        Ok(())
    }

    /// An object is wanted no more, whatever version of it is known.
    pub fn make_surplus(&mut self, mount: MountId, key: &[u8]) -> Result<(), RowFault> {
        let Some(row) = self.object(mount, key)? else { return Ok(()) };
        self.put_object(mount, key, &ObjectRow { ino: NOBODY, ..row })?;
        let at = surplus::key(mount, key);
        if self.get::<SurplusRow>(&at)?.is_none() {
            self.put(at, &SurplusRow { since: self.now(), intent: None });
            self.count_mount(mount, |counts| counts.surplus += 1)?;
        }
        Ok(())
    }

    /// An object is not to be deleted any more.
    pub fn end_surplus(&mut self, mount: MountId, key: &[u8]) -> Result<(), RowFault> {
        let at = surplus::key(mount, key);
        let Some(row) = self.get::<SurplusRow>(&at)? else { return Ok(()) };
        self.end_failed(row.intent)?;
        self.delete(Table::Surplus, at);
        self.count_mount(mount, |counts| counts.surplus = counts.surplus.saturating_sub(1))
    }

    /// What is pending of an inode.
    pub fn pending(&self, mount: MountId, ino: InodeId) -> Result<Option<PendingRow>, RowFault> {
        self.get(&pending::key(mount, ino))
    }

    /// Writes what is pending of an inode; `None`: nothing is any more.
    pub fn put_pending(
        &mut self,
        mount: MountId,
        ino: InodeId,
        after: Option<&PendingRow>,
    ) -> Result<(), RowFault> {
        let before = self.pending(mount, ino)?;
        let since = |row: &PendingRow| pending::since_key(mount, row.since, ino);
        let (old, new) = (before.as_ref().map(since), after.map(since));
        if old != new {
            old.into_iter().for_each(|key| self.delete(Table::PendingSince, key));
            new.into_iter().for_each(|key| self.mark(Table::PendingSince, key));
        }
        let (was, is) = (share(before.as_ref()), share(after));
        self.count_mount(mount, |counts| {
            counts.pending = (counts.pending + is.0).saturating_sub(was.0);
            counts.pending_bytes = (counts.pending_bytes + is.1).saturating_sub(was.1);
            counts.walking = (counts.walking + is.2).saturating_sub(was.2);
        })?;
        match after {
            Some(row) => self.put(pending::key(mount, ino), row),
            None => self.delete(Table::Pending, pending::key(mount, ino)),
        }
        Ok(())
    }

    /// Writes where an inode's bytes are.
    pub fn put_home(&mut self, mount: MountId, ino: InodeId, key: &[u8]) {
        self.put(homes::key(ino), &Home { mount, key: key.to_vec() });
    }

    /// The bucket holds nothing of an inode.
    pub fn drop_home(&mut self, ino: InodeId) {
        self.delete(Table::Homes, homes::key(ino));
    }

    /// Writes what is known of a directory in its bucket; `None`: the directory is gone.
    pub fn put_import(&mut self, dir: InodeId, after: Option<&ImportRecord>) -> Result<(), RowFault> {
        let before: Option<ImportRecord> = self.get(&imports::key(dir))?;
        let Some(mount) = after.or(before.as_ref()).map(|import| import.mount) else { return Ok(()) };
        let is_unread = |import: &ImportRecord| import.imported_at.is_none();
        let (was, is) = (u64::from(before.is_some()), u64::from(after.is_some()));
        let was_unread = u64::from(before.as_ref().is_some_and(is_unread));
        let is_unread = u64::from(after.is_some_and(is_unread));
        if (was, was_unread) != (is, is_unread) {
            self.count_mount(mount, |counts| {
                counts.directories = (counts.directories + is).saturating_sub(was);
                let unread = &mut counts.unread_directories;
                *unread = (*unread + is_unread).saturating_sub(was_unread);
            })?;
        }
        match after {
            Some(import) => self.put(imports::key(dir), import),
            None => self.delete(Table::Imports, imports::key(dir)),
        }
        Ok(())
    }

    /// The intent that uses a key.
    pub fn claim(&self, mount: MountId, key: &[u8]) -> Result<Option<IntentId>, RowFault> {
        let row: Option<ClaimRow> = self.get(&claims::key(mount, key))?;
        let user = self.unfinished(row.map(|row| row.intent))?;
        Ok(user.map(|record| record.intent))
    }

    /// An intent uses a key from here on.
    pub fn put_claim(&mut self, mount: MountId, key: &[u8], intent: IntentId) {
        self.put(claims::key(mount, key), &ClaimRow { intent });
    }

    /// The intent, while it is neither done nor failed for good.
    pub fn unfinished(&self, intent: Option<IntentId>) -> Result<Option<IntentRecord>, RowFault> {
        let Some(intent) = intent else { return Ok(None) };
        let record: Option<IntentRecord> = self.get(&keys::intents::key(intent))?;
        Ok(record.filter(|record| !record.failed))
    }

    /// Ends an intent that failed for good.
    pub fn end_failed(&mut self, intent: Option<IntentId>) -> Result<(), RowFault> {
        let Some(intent) = intent else { return Ok(()) };
        let record: Option<IntentRecord> = self.get(&keys::intents::key(intent))?;
        match record.filter(|record| record.failed) {
            Some(record) => self.end_object_intent(&record),
            None => Ok(()),
        }
    }

    /// Ends an intent about an object, and lets go what it used.
    pub fn end_object_intent(&mut self, record: &IntentRecord) -> Result<(), RowFault> {
        self.release_object_intent(record)?;
        if record.failures > 0
            && let Some(mount) = record.work.mount()
        {
            self.count_mount(mount, |counts| counts.failing = counts.failing.saturating_sub(1))?;
        }
        self.end_intent(record.intent);
        Ok(())
    }

    /// Lets go the keys that an intent uses, and the bytes that are kept for it.
    pub fn release_object_intent(&mut self, record: &IntentRecord) -> Result<(), RowFault> {
        let (mount, key) = match &record.work {
            Work::PutObject { mount, key, .. } | Work::DeleteObject { mount, key, .. } => (*mount, key),
            _ => return Ok(()),
        };
        let mut used = vec![key.clone()];
        if let Some(picture) = self.get::<PictureRow>(&pictures::key(record.intent))? {
            used.extend(sources(&picture));
            self.delete(Table::Pictures, pictures::key(record.intent));
        }
        for key in used {
            let row: Option<ClaimRow> = self.get(&claims::key(mount, &key))?;
            if row.is_some_and(|row| row.intent == record.intent) {
                self.delete(Table::Claims, claims::key(mount, &key));
            }
        }
        match &record.work {
            Work::PutObject { ino, .. } => self.end_keep(*ino, record.intent),
            _ => Ok(()),
        }
    }
}

/// The keys of the objects that a picture takes something from.
pub(in crate::namespace) fn sources(picture: &PictureRow) -> Vec<Vec<u8>> {
    let of_pieces = picture.pieces.iter().filter_map(|piece| match &piece.source {
        PieceSource::Object { key, .. } => Some(key),
        _ => None,
    });
    let mut found: Vec<Vec<u8>> =
        of_pieces.chain(picture.like.as_ref().map(|(key, _)| key)).cloned().collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// What a row counts for: one, its bytes, a walk.
fn share(row: Option<&PendingRow>) -> (u64, u64, u64) {
    let Some(row) = row else { return (0, 0, 0) };
    (1, if row.content { row.bytes } else { 0 }, u64::from(row.walk.is_some()))
}
