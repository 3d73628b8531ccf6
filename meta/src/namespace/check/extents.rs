//! `extents` ↔ files, chunks, mounts: what the bytes of files are.

use cairn_types::limits::FILE_BYTES_MAX;
use cairn_types::{ChunkId, Extent, ExtentSource, InodeId, MountId};

use super::look::{At, Cursor, Look, Pass};
use super::{Counter, Finding};
use crate::keys::chunks::{self, ChunkRecord};
use crate::keys::contents::{self, ContentId, ContentRow, DetachedRow};
use crate::keys::counters::{self, ClusterRecord};
use crate::keys::extents::{self, ExtentRow};
use crate::keys::mounts;
use crate::store::{StoreFault, Table};

pub(super) fn passes() -> Vec<Box<dyn Pass>> {
    vec![Box::new(Extents::new())]
}

/// All extents in order: they do not overlap, their sources are there, and what lies under an
/// inode's own number is that inode's.
struct Extents {
    cursor: Cursor,
    content: Option<Content>,
    chunk: Option<(ChunkId, Option<ChunkRecord>)>,
    mount: Option<(MountId, bool)>,
    accepted: Option<bool>,
}

/// The content whose extents are being read.
struct Content {
    id: ContentId,
    /// The end of the last one.
    end: u64,
    /// From where on extents are no file's.
    detached: u64,
    /// The file that the content must fit, and up to where it may reach; `None` when that is
    /// looked at elsewhere, or cannot be told.
    file: Option<(InodeId, u64, u64)>,
    outside: bool,
}

impl Extents {
    fn new() -> Self {
        Self { cursor: Cursor::all(Table::Extents), content: None, chunk: None, mount: None, accepted: None }
    }
}

impl Pass for Extents {
    fn name(&self) -> &'static str {
        "extents"
    }

    fn step(&mut self, look: &mut Look<'_>) -> Result<bool, StoreFault> {
        if self.accepted.is_none() {
            let cluster = look.at::<ClusterRecord>(counters::KEY)?.record().unwrap_or_default();
            self.accepted = Some(cluster.counts.extents_beyond_seal > 0);
        }
        let (rows, ended) = self.cursor.next(look)?;
        for (key, bytes) in rows {
            let Some(id) = look.number(Table::Extents, &key, 0).map(ContentId) else { continue };
            let Some(row) = look.read::<ExtentRow>(&key, &bytes) else { continue };
            let Ok(extent) = extents::extent(&key, row) else {
                look.unreadable(Table::Extents, &key);
                continue;
            };
            if self.content.as_ref().is_none_or(|c| c.id != id) {
                self.close(look)?;
                self.content = Some(Content::open(look, id)?);
            }
            self.extent(look, id, &extent)?;
        }
        if ended {
            self.close(look)?;
        }
        Ok(ended)
    }
}

impl Content {
    fn open(look: &mut Look<'_>, id: ContentId) -> Result<Self, StoreFault> {
        look.tally.content(id);
        let detached = detached_from(look, id)?;
        let mut content = Self { id, end: 0, detached, file: None, outside: false };
        if id.number().is_some() {
            return Ok(content);
        }
        let ino = InodeId(id.0);
        look.tally.id(Counter::Inodes, ino.0);
        let until = match look.at::<ContentRow>(&contents::key(ino))? {
            At::Nothing => u64::MAX,
            At::Unreadable => return Ok(content),
            At::Record(row) => own_until(&row, ino),
        };
        content.file = Some((ino, until, 0));
        Ok(content)
    }
}

/// Up to where a cut file's bytes lie under its own number.
fn own_until(row: &ContentRow, ino: InodeId) -> u64 {
    match row.parts.first() {
        Some(part) if part.content == ContentId::from(ino) => {
            row.parts.get(1).map_or(u64::MAX, |next| next.from)
        }
        _ => 0,
    }
}

/// From where on the extents of a content are no file's.
pub(super) fn detached_from(look: &Look<'_>, id: ContentId) -> Result<u64, StoreFault> {
    Ok(match look.at::<DetachedRow>(&contents::detached_key(id))? {
        At::Nothing => u64::MAX,
        At::Unreadable => 0,
        At::Record(row) => row.from,
    })
}

impl Extents {
    fn extent(&mut self, look: &mut Look<'_>, id: ContentId, extent: &Extent) -> Result<(), StoreFault> {
        let Some(content) = self.content.as_mut() else { return Ok(()) };
        let offset = extent.file_offset;
        let end = offset.checked_add(extent.length).filter(|end| *end <= FILE_BYTES_MAX);
        let Some(end) = end.filter(|_| extent.length > 0 && offset >= content.end) else {
            look.found(Finding::BadExtent { content: id, offset });
            return Ok(());
        };
        content.end = end;
        if offset < content.detached
            && let Some((ino, until, furthest)) = content.file.as_mut()
        {
            if end > *until && !content.outside {
                content.outside = true;
                look.found(Finding::OutsidePart { ino: *ino, content: id, offset });
            }
            *furthest = end;
        }
        match &extent.source {
            ExtentSource::Chunk { chunk, offset: from } => {
                self.in_chunk(look, (id, offset), *chunk, from.saturating_add(extent.length))
            }
            ExtentSource::Object { object, .. } => self.in_mount(look, id, object.mount),
        }
    }

    fn in_chunk(
        &mut self,
        look: &mut Look<'_>,
        (content, offset): (ContentId, u64),
        chunk: ChunkId,
        end: u64,
    ) -> Result<(), StoreFault> {
        if self.chunk.as_ref().is_none_or(|(known, _)| *known != chunk) {
            let record = look.at::<ChunkRecord>(&chunks::key(chunk))?;
            if record.is_absent() {
                look.found(Finding::NoChunk { content, offset, chunk });
                return Ok(());
            }
            self.chunk = Some((chunk, record.record()));
        }
        let Some((_, Some(record))) = self.chunk.as_mut() else { return Ok(()) };
        if end > record.extent_end {
            look.found(Finding::BeyondExtentEnd { chunk, recorded: record.extent_end, end });
            record.extent_end = end;
        }
        if record.sealed_length().is_some_and(|length| end > length) {
            let known = self.accepted == Some(true);
            look.found(Finding::BeyondSeal { content, offset, chunk, known });
        }
        Ok(())
    }

    fn in_mount(
        &mut self,
        look: &mut Look<'_>,
        content: ContentId,
        mount: MountId,
    ) -> Result<(), StoreFault> {
        if self.mount.is_none_or(|(known, _)| known != mount) {
            self.mount = Some((mount, look.has(Table::Mounts, &mounts::key(mount))?));
        }
        let ino = InodeId(content.0);
        let gone = self.mount.is_some_and(|(_, there)| !there);
        // Of files of the mount itself their names say so.
        let own = look.known(ino)?.holds_readable(|inode| inode.mount.is_some());
        if gone && !own && content.number().is_none() {
            look.found(Finding::NoMount { ino, mount });
        }
        Ok(())
    }

    /// All extents of a content were read.
    fn close(&mut self, look: &mut Look<'_>) -> Result<(), StoreFault> {
        let Some(Content { file: Some((ino, _, end)), .. }) = self.content.take() else { return Ok(()) };
        if end == 0 {
            return Ok(());
        }
        fits(look, ino, end, false)
    }
}

/// A file that has extents up to `end`; those of one that was cut are looked at with its parts.
pub(super) fn fits(look: &mut Look<'_>, ino: InodeId, end: u64, cut: bool) -> Result<(), StoreFault> {
    match look.known(ino)? {
        // The file that a row of contents names is said to be lost there.
        At::Nothing if !cut && look.has(Table::Contents, &contents::key(ino))? => {}
        At::Nothing => look.found(Finding::LostFile { ino }),
        At::Record(inode) if !inode.is_file() => look.found(Finding::NoFile { ino }),
        At::Record(inode) if inode.size < end => {
            look.found(Finding::BeyondSize { ino, size: inode.size, end });
        }
        _ => {}
    }
    Ok(())
}
