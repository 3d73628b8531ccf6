//! Pure reads of mounts that are written to, for the leader's jobs and for the services.

use std::collections::BTreeMap;

use cairn_types::{InodeId, IntentId, MountId, Timestamp};

use crate::keys::conflicts::{self, ConflictRow};
use crate::keys::imports::{self, ImportRecord};
use crate::keys::intents::{IntentRecord, Work};
use crate::keys::mount_counts::{self, MountCounts};
use crate::keys::mount_modes::{self, MountMode};
use crate::keys::moves::{self, MoveRow};
use crate::keys::pending::{self, PendingRow};
pub use crate::keys::pictures::{Piece, PieceSource};
use crate::keys::pictures::{self, PictureRow};
use crate::keys::surplus::{self, SurplusRow};
use crate::keys::{self, RowFault};
use crate::store::{KeyRange, Rows, Table};

/// Bytes of a mount's number at the beginning of a key.
const MOUNT_BYTES: usize = 4;

/// What a PutObject is to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// The object's key.
    pub key: Vec<u8>,
    /// The ETag of what it replaces; empty: nothing may be there.
    pub replaces: String,
    /// Its length.
    pub length: u64,
    /// All bytes, in order.
    pub pieces: Vec<Piece>,
    /// User metadata to be set.
    pub metadata: BTreeMap<String, String>,
    /// The object whose user metadata, content type and tags are taken over: its key and ETag.
    pub like: Option<(Vec<u8>, String)>,
}

/// How much there is of a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// As they are counted.
    pub counts: MountCounts,
    /// The state's time since when the oldest pending file or directory is so.
    pub oldest_pending: Option<Timestamp>,
}

/// How a mount is kept; a mount that has no row is read-only.
///
/// # Errors
/// A fault of the store.
pub fn mode(rows: &dyn Rows, mount: MountId) -> Result<MountMode, RowFault> {
    Ok(keys::get(rows, &mount_modes::key(mount))?.unwrap_or_default())
}

/// Pending files and directories of a mount after `after`, `limit` at most.
///
/// # Errors
/// A fault of the store.
pub fn pending_after(
    rows: &dyn Rows,
    mount: MountId,
    after: Option<InodeId>,
    limit: usize,
) -> Result<Vec<(InodeId, PendingRow)>, RowFault> {
    let found = keys::scan::<PendingRow>(rows, &pending::after(mount, after), limit)?;
    found.into_iter().map(|(key, row)| Ok((pending::ino(&key)?, row))).collect()
}

/// What is pending of an inode.
///
/// # Errors
/// A fault of the store.
pub fn pending(rows: &dyn Rows, mount: MountId, ino: InodeId) -> Result<Option<PendingRow>, RowFault> {
    keys::get(rows, &pending::key(mount, ino))
}

/// Objects of a mount to be deleted, by key, after `after`, `limit` at most.
///
/// # Errors
/// A fault of the store.
pub fn surplus_after(
    rows: &dyn Rows,
    mount: MountId,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(Vec<u8>, SurplusRow)>, RowFault> {
    let found = keys::scan::<SurplusRow>(rows, &surplus::after(mount, after), limit)?;
    Ok(found.into_iter().map(|(key, row)| (object_of(&key), row)).collect())
}

/// Prefixes that directories of a mount left, after `after`, `limit` at most.
///
/// # Errors
/// A fault of the store.
pub fn moves_after(
    rows: &dyn Rows,
    mount: MountId,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(Vec<u8>, MoveRow)>, RowFault> {
    let all = mount.0.to_be_bytes();
    let range = match after {
        Some(prefix) => KeyRange::prefix_after(&all, &moves::key(mount, prefix)),
        None => KeyRange::prefix(&all),
    };
    let found = keys::scan::<MoveRow>(rows, &range, limit)?;
    Ok(found.into_iter().map(|(key, row)| (object_of(&key), row)).collect())
}

/// Conflicts of a mount with numbers after `after`, `limit` at most.
///
/// # Errors
/// A fault of the store.
pub fn conflicts_after(
    rows: &dyn Rows,
    mount: MountId,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, ConflictRow)>, RowFault> {
    let found = keys::scan::<ConflictRow>(rows, &conflicts::after(mount, after), limit)?;
    found.into_iter().map(|(key, row)| Ok((conflicts::number(&key)?, row))).collect()
}

/// How much there is of a mount.
///
/// # Errors
/// A fault of the store.
pub fn figures(rows: &dyn Rows, mount: MountId) -> Result<Figures, RowFault> {
    let counts: MountCounts = keys::get(rows, &mount_counts::key(mount))?.unwrap_or_default();
    let first = rows.scan(Table::PendingSince, &KeyRange::prefix(&mount.0.to_be_bytes()), 1)?;
    let oldest_pending = first.first().map(|(key, _)| pending::since(key)).transpose()?;
    Ok(Figures { counts, oldest_pending })
}

/// What an intent is to write: the same however often it is asked, as long as the intent is not ended. `None`
/// of another intent.
///
/// # Errors
/// A fault of the store.
pub fn picture(rows: &dyn Rows, record: &IntentRecord) -> Result<Option<Picture>, RowFault> {
    let Work::PutObject { key, replaces, length, .. } = &record.work else { return Ok(None) };
    let row: Option<PictureRow> = keys::get(rows, &pictures::key(record.intent))?;
    Ok(row.map(|row| Picture {
        key: key.clone(),
        replaces: replaces.clone(),
        length: *length,
        pieces: row.pieces,
        metadata: row.metadata,
        like: row.like,
    }))
}

/// A directory of a mount that must be read before what lies in it can follow it, and the intent that reads
/// it; `None` when it was read.
///
/// # Errors
/// A fault of the store.
pub fn unread(rows: &dyn Rows, directory: InodeId) -> Result<Option<Option<IntentId>>, RowFault> {
    let import: Option<ImportRecord> = keys::get(rows, &imports::key(directory))?;
    Ok(import.filter(|import| import.imported_at.is_none()).map(|import| import.intent))
}

fn object_of(key: &[u8]) -> Vec<u8> {
    key.get(MOUNT_BYTES..).unwrap_or_default().to_vec()
}

/// How much of all mounts is pending: files and directories, and objects to be deleted.
///
/// # Errors
/// A fault of the store.
pub fn all_pending(rows: &dyn Rows) -> Result<u64, RowFault> {
    let all = keys::scan::<MountCounts>(rows, &KeyRange::default(), usize::MAX)?;
    Ok(all.into_iter().map(|(_, counts)| counts.pending.saturating_add(counts.surplus)).sum())
}
