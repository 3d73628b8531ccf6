//! How a record that is to be there is: for scrubs and repairs, which mark nothing.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use cairn_types::ChunkId;

use super::error::ReadError;
use super::table::{LOOKUPS_MAX, Table, block_key};
use crate::segments::{Entry, RecordError, RecordHeader, RecordKind};

/// A record of a replica that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckedRecord {
    /// It is whole.
    Good { end: u64 },
    /// It does not read.
    Bad { end: u64 },
    /// There are none from here on to the replica's length.
    Missing { end: u64 },
    /// The replica ends here.
    End,
}

impl Table {
    /// Is it bytes that a reader may ask for, or a record of another kind?
    pub(crate) fn counts(&self, entry: &Entry) -> bool {
        let (header, location) = (&entry.header, entry.location);
        if let Some(key) = block_key(header) {
            let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
            return cache.get(&key).is_some_and(|kept| kept.location == location);
        }
        if !header.kind.is_data() {
            return header.kind != RecordKind::Start;
        }
        let Some(cell) = self.cell(ChunkId(header.chunk)) else { return false };
        let body = cell.read();
        let found = body.refs.binary_search_by_key(&(header.offset as u32), |r| r.offset);
        found.is_ok_and(|i| body.refs.get(i).is_some_and(|r| r.location == location))
    }

    /// Reads the record at `offset` of a replica and says how it is; marks nothing.
    pub(crate) fn check_record(&self, chunk: ChunkId, offset: u64) -> Result<CheckedRecord, ReadError> {
        let cell = self.cell(chunk).ok_or(ReadError::UnknownChunk { chunk })?;
        for _ in 0..LOOKUPS_MAX {
            let (found, segment) = {
                let body = cell.read();
                if body.gone {
                    return Err(ReadError::UnknownChunk { chunk });
                }
                if offset >= body.view.length {
                    return Ok(CheckedRecord::End);
                }
                let index = body.refs.partition_point(|r| r.end() <= offset);
                let Some(found) = body.refs.get(index).copied() else {
                    return Ok(CheckedRecord::Missing { end: body.view.length });
                };
                (found, self.reader.segment(found.location.slot))
            };
            match self.reader.record(found.location, segment, found.length) {
                Ok(record) if record.header.offset == u64::from(found.offset) => {
                    return Ok(CheckedRecord::Good { end: found.end() });
                }
                Err(RecordError::Stale) => {}
                _ => return Ok(CheckedRecord::Bad { end: found.end() }),
            }
        }
        Err(ReadError::UnknownChunk { chunk })
    }

    /// The header of the record at `offset`: as it reads, else as its segment's footer has it.
    pub(crate) fn any_header(&self, chunk: ChunkId, offset: u64) -> Option<RecordHeader> {
        let cell = self.cell(chunk)?;
        let (found, segment) = {
            let body = cell.read();
            let index = body.refs.binary_search_by_key(&u32::try_from(offset).ok()?, |r| r.offset).ok()?;
            let found = *body.refs.get(index)?;
            (found, self.reader.segment(found.location.slot))
        };
        let own = self.reader.header(found.location, segment, found.length).ok();
        own.or_else(|| self.reader.header_by_footer(found.location.slot, segment, found.location.offset))
    }

    /// True when it was not known before.
    pub(crate) fn mark_damaged(&self, chunk: ChunkId) -> bool {
        self.cell(chunk).is_some_and(|cell| !cell.damaged.swap(true, Ordering::AcqRel))
    }
}
