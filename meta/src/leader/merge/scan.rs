//! Looks through all extents for runs that are worth merging, so many rows at a time. Pure.

use std::collections::{BTreeMap, HashMap};

use cairn_types::{ChunkId, ExtentSource, InodeId, NodeId, Timestamp};

use super::runs::{self, EXTENT_BYTES_MAX, EXTENTS_MIN};
use crate::keys::chunks::ChunkRecord;
use crate::keys::contents::{self, ContentId, ContentRow};
use crate::keys::extents::{self, ExtentRow};
use crate::keys::{self, Record, RowFault};
use crate::namespace::command::ExtentRun;
use crate::namespace::{merging, read};
use crate::store::{Caching, KeyRange, Rows, Table};

/// Where a pass through all extents stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// Among those that lie under their file's own number: the first key to look at.
    Own(Vec<u8>),
    /// Among those of files that were cut: the file, and the first offset to look at there.
    Cut(InodeId, u64),
}

impl At {
    /// Where a pass begins.
    pub const FIRST: Self = Self::Own(Vec::new());
}

/// A run that is worth merging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The run.
    pub run: ExtentRun,
    /// The data nodes that have bytes of it, and how many.
    pub holders: BTreeMap<NodeId, u64>,
}

/// A part of a pass.
#[derive(Debug)]
pub struct Step {
    /// The runs in it.
    pub found: Vec<Candidate>,
    /// Where the pass goes on; `None`: it is at its end.
    pub next: Option<At>,
    /// Rows that it took.
    pub rows: usize,
}

/// Small extents of chunks that follow on one another under one content.
#[derive(Debug)]
struct Sequence {
    content: ContentId,
    extents: Vec<Small>,
}

#[derive(Clone, Copy, Debug)]
struct Small {
    offset: u64,
    length: u64,
    chunk: ChunkId,
}

impl Sequence {
    fn end(&self) -> u64 {
        self.extents.last().map_or(0, |small| small.offset + small.length)
    }
}

/// Looks at `most` rows of extents from `at` on. Chunks sealed after `before` are left for later.
///
/// # Errors
/// A fault of the store.
pub fn step(rows: &dyn Rows, at: &At, most: usize, before: Timestamp) -> Result<Step, RowFault> {
    let own = ContentId::later(0).0.to_be_bytes().to_vec();
    let (range, ino, after) = match at {
        At::Own(from) => {
            let range = KeyRange { from: from.clone(), until: Some(own) };
            (range, None, Some(At::Cut(InodeId(0), 0)))
        }
        At::Cut(ino, offset) => {
            let from = KeyRange::prefix_from(&[], &contents::key(*ino));
            let Some((key, row)) = keys::scan::<ContentRow>(rows, &from, 1)?.pop() else {
                return Ok(Step { found: Vec::new(), next: None, rows: 1 });
            };
            let found = InodeId(keys::u64_at(Table::Contents, &key, 0)?);
            let offset = if found == *ino { *offset } else { 0 };
            let later = |span: &contents::Span| span.content.number().is_some();
            let Some(span) = row.spans(offset, u64::MAX).into_iter().find(later) else {
                let next = Some(At::Cut(found.next(), 0));
                return Ok(Step { found: Vec::new(), next, rows: 1 });
            };
            let next =
                if span.until == u64::MAX { At::Cut(found.next(), 0) } else { At::Cut(found, span.until) };
            (extents::starting_in(span.content, span.from, span.until), Some(found), Some(next))
        }
    };
    let part = Part::read(rows, &range, most)?;
    let mut taken = part.rows;
    let mut found = Vec::new();
    for sequence in &part.sequences {
        // A content that no inode's number names is the one that the pass is at.
        let ino = ino.unwrap_or(InodeId(sequence.content.0));
        taken += judge(rows, ino, sequence, before, &mut found)?;
    }
    let next = match (part.go_on, ino) {
        (None, _) => after,
        (Some(key), None) => Some(At::Own(key)),
        (Some(key), Some(ino)) => Some(At::Cut(ino, keys::u64_at(Table::Extents, &key, 8)?)),
    };
    Ok(Step { found, next, rows: taken })
}

/// What was read at once.
struct Part {
    sequences: Vec<Sequence>,
    rows: usize,
    /// The first key of what was not looked at whole; `None`: that was all of the range.
    go_on: Option<Vec<u8>>,
}

impl Part {
    fn read(rows: &dyn Rows, range: &KeyRange, most: usize) -> Result<Self, RowFault> {
        let (mut read, mut fault) = (Vec::new(), None);
        rows.visit(Table::Extents, range, Caching::Bypass, &mut |key, value| {
            let row = ExtentRow::from_bytes(key, value);
            match row.and_then(|row| Ok((key.to_vec(), extents::extent(key, row)?))) {
                Ok(row) => read.push(row),
                Err(error) => fault = Some(error),
            }
            read.len() < most && fault.is_none()
        })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        let (mut sequences, mut starts): (Vec<Sequence>, Vec<usize>) = (Vec::new(), Vec::new());
        for (n, (key, extent)) in read.iter().enumerate() {
            let content = ContentId(keys::u64_at(Table::Extents, key, 0)?);
            let ExtentSource::Chunk { chunk, .. } = extent.source else { continue };
            if extent.length > EXTENT_BYTES_MAX {
                continue;
            }
            let small = Small { offset: extent.file_offset, length: extent.length, chunk };
            match sequences.last_mut() {
                Some(last) if last.content == content && last.end() == small.offset => {
                    last.extents.push(small);
                }
                _ => {
                    sequences.push(Sequence { content, extents: vec![small] });
                    starts.push(n);
                }
            }
        }
        let ended = read.len() < most;
        // What may go on behind the last row is looked at whole, next time; unless it is all there is here.
        let open = sequences
            .last()
            .zip(starts.last())
            .filter(|(last, start)| **start > 0 && **start + last.extents.len() == read.len() && !ended);
        let go_on = match (ended, open.map(|(_, start)| *start), read.last()) {
            (true, _, _) | (_, _, None) => None,
            (false, Some(start), _) => {
                sequences.pop();
                Some(read[start].0.clone())
            }
            (false, None, Some((key, last))) => {
                let content = ContentId(keys::u64_at(Table::Extents, key, 0)?);
                Some(extents::key(content, last.end()))
            }
        };
        Ok(Self { sequences, rows: read.len(), go_on })
    }
}

/// Adds the runs of a sequence that may be merged now. Answers the rows that it took.
fn judge(
    rows: &dyn Rows,
    ino: InodeId,
    sequence: &Sequence,
    before: Timestamp,
    found: &mut Vec<Candidate>,
) -> Result<usize, RowFault> {
    // Mostly it ends here: what is read below is read for what is worth it.
    if sequence.extents.len() < EXTENTS_MIN || chosen(&sequence.extents).is_empty() {
        return Ok(0);
    }
    if !merging::may_be_merged(rows, ino)? {
        return Ok(2);
    }
    let first = sequence.extents.first().map_or(0, |small| small.offset);
    let spans = contents::of(rows, ino)?.spans(first, sequence.end());
    // Of a file that was cut, what lies behind the cut is not its own any more.
    let is_own = |small: &Small| {
        let holds = |span: &contents::Span| {
            span.content == sequence.content
                && span.from <= small.offset
                && small.offset + small.length <= span.until
        };
        spans.iter().any(holds)
    };
    let mut known: HashMap<ChunkId, Option<Vec<NodeId>>> = HashMap::new();
    let mut ready: Vec<Small> = Vec::new();
    for small in &sequence.extents {
        let holders = match known.get(&small.chunk) {
            Some(holders) => holders,
            None => {
                let holders = read::chunk(rows, small.chunk)?.and_then(|record| holders(&record, before));
                known.entry(small.chunk).or_insert(holders)
            }
        };
        if holders.is_some() && is_own(small) {
            ready.push(*small);
            continue;
        }
        add(ino, &std::mem::take(&mut ready), &known, found);
    }
    add(ino, &ready, &known, found);
    Ok(known.len() + 3)
}

fn chosen(extents: &[Small]) -> Vec<std::ops::Range<usize>> {
    let lengths: Vec<u64> = extents.iter().map(|small| small.length).collect();
    runs::choose(&lengths)
}

/// The nodes that have a chunk which is in S3 and was sealed before then; `None` for another one.
fn holders(record: &ChunkRecord, before: Timestamp) -> Option<Vec<NodeId>> {
    let sealed = record.sealed.as_ref().filter(|sealed| sealed.at <= before)?;
    record.place.map(|_| sealed.holders.clone())
}

fn add(
    ino: InodeId,
    ready: &[Small],
    known: &HashMap<ChunkId, Option<Vec<NodeId>>>,
    found: &mut Vec<Candidate>,
) {
    for range in chosen(ready) {
        let (extents, part) = (u32::try_from(range.len()).unwrap_or(u32::MAX), &ready[range]);
        let Some(first) = part.first() else { continue };
        let mut holders: BTreeMap<NodeId, u64> = BTreeMap::new();
        for small in part {
            for node in known.get(&small.chunk).into_iter().flatten().flatten() {
                *holders.entry(*node).or_default() += small.length;
            }
        }
        let length = part.iter().map(|small| small.length).sum();
        let run = ExtentRun { ino, offset: first.offset, length, extents };
        found.push(Candidate { run, holders });
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
