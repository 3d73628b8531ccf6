//! How much is not in S3 yet, and when that is too much: writers are slowed near the bound, and
//! refused at it.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_types::limits::{CHUNK_BYTES_MAX, LAG_PAUSE_MS_MAX};
use cairn_types::{ChunkId, ExtentSource, FsError, InodeId, Persist, Policy, Timestamp};

use super::first_seen::Now;
use super::nodes::View;
use super::tenure::{JobFault, Tenure};
use crate::keys::contents;
use crate::keys::extents::{self, ExtentRow};
use crate::keys::{Record, RowFault};
use crate::namespace::read;
use crate::store::{Rows, Table};

/// Unpersisted bytes that a node may be left with, replicas counted.
pub const NODE_BYTES_MAX: u64 = 8 << 30;
/// Extents of one file that are looked at, from its end back.
const EXTENTS_MAX: usize = 2048;
/// Room that is given at a time, at least: an append must fit.
const STEP_BYTES_MIN: u64 = 1 << 20;
/// How much of a bound is used, in thousandths, when writers begin to be slowed.
const SLOWED_FROM: u64 = 750;

/// A chunk that is to be opened, or given more room.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The file whose tail it is or would be.
    pub tail_of: Option<InodeId>,
    /// When it was opened, if it is open: its bytes are as old.
    pub opened: Option<Timestamp>,
    /// Bytes that were granted to it already, which count as written.
    pub granted: u64,
    /// Bytes that it shall have.
    pub wanted: u64,
}

/// Room that is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Bytes that the chunk may have, those it had included.
    pub bytes: u64,
    /// How long the writer waits before it uses them.
    pub pause: Duration,
}

/// How often writers were told of the lag in this tenure.
#[derive(Debug, Default)]
pub struct Told {
    slowed: AtomicU64,
    refused: AtomicU64,
}

impl Told {
    /// Room was given with a pause.
    pub fn slowed(&self) {
        self.slowed.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("cairn_meta_lag_slowed_total").increment(1);
    }

    /// Room was refused.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("cairn_meta_lag_refusals_total").increment(1);
    }

    /// How often each happened.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.slowed.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }
}

/// The bound of the whole cluster's lag, for chunks of so many replicas.
#[must_use]
pub fn cluster_bound(tenure: &Tenure, replicas: u8) -> u64 {
    let live = tenure.registry.all().into_iter().filter(View::is_live);
    // Disks of one process are one node.
    let live = live.map(|view| view.registered.address).collect::<BTreeSet<String>>().len() as u64;
    NODE_BYTES_MAX * live.max(1) / u64::from(replicas.max(1))
}

/// Gives room in a new chunk, or more room in an open one, under `policy`; refuses it when too much
/// waits for S3: of the cluster, where what was granted to all open chunks, and what is asked for,
/// counts too; or of the file. From three quarters of a bound on there is a pause that grows up to the
/// bound, and less room at a time. The age of the oldest byte only slows, and only while uploads fail:
/// the bytes are safe where they are. Requests that are looked at before the others are applied do not
/// see one another.
///
/// # Errors
/// `Ok(Err(LagBound))` when it is refused; [`JobFault`] when the state cannot be read.
pub fn give(tenure: &Tenure, policy: &Policy, room: Room) -> Result<Result<Given, FsError>, JobFault> {
    if policy.persist == Persist::Never {
        return Ok(Ok(Given { bytes: room.wanted, pause: Duration::ZERO }));
    }
    let view = tenure.local()?;
    let lag_bytes = read::cluster(&*view.store)?.counts.unpersisted_bytes;
    let bound_bytes = cluster_bound(tenure, policy.replicas);
    if lag_bytes >= bound_bytes {
        return Ok(Err(FsError::LagBound { lag_bytes, bound_bytes }));
    }
    let more = room.wanted.min(CHUNK_BYTES_MAX).saturating_sub(room.granted);
    let lag_bytes = lag_bytes.saturating_add(read::granted(&*view.store)?).saturating_add(more);
    if more > 0 && lag_bytes > bound_bytes {
        return Ok(Err(FsError::LagBound { lag_bytes, bound_bytes }));
    }
    let now = Now::of(&*tenure.clock);
    let fails = tenure.uploads_fail();
    let mut used = part(lag_bytes, bound_bytes);
    let Some(ino) = room.tail_of else {
        if fails {
            used = used.max(part(tenure.lag_age_ms(), policy.max_lag_ms));
        }
        return Ok(Ok(Given { bytes: room.granted + more, pause: pause(used) }));
    };
    let file = of_file(&*view.store, ino, policy.max_lag_bytes)?;
    let (lag_bytes, bound_bytes) = (file.bytes.saturating_add(room.granted), policy.max_lag_bytes);
    if lag_bytes >= bound_bytes {
        return Ok(Err(FsError::LagBound { lag_bytes, bound_bytes }));
    }
    let more = more.min(step(lag_bytes, bound_bytes));
    used = used.max(part(lag_bytes + more, bound_bytes));
    let oldest = [file.oldest, room.opened].into_iter().flatten().min();
    if let Some(oldest) = oldest.filter(|_| fails) {
        used = used.max(part(now.age_ms(oldest, Duration::ZERO), policy.max_lag_ms));
    }
    Ok(Ok(Given { bytes: room.granted + more, pause: pause(used) }))
}

/// How much of a bound is used, in thousandths.
fn part(used: u64, bound: u64) -> u64 {
    let thousandths = u128::from(used) * 1000 / u128::from(bound.max(1));
    u64::try_from(thousandths).unwrap_or(u64::MAX)
}

/// The pause at so many thousandths of a bound.
fn pause(used: u64) -> Duration {
    let over = used.min(1000).saturating_sub(SLOWED_FROM);
    Duration::from_millis(LAG_PAUSE_MS_MAX * over / (1000 - SLOWED_FROM))
}

/// The room that is given at a time at most: up to where writers begin to be slowed, from there on a
/// quarter of what is left.
fn step(lag_bytes: u64, bound_bytes: u64) -> u64 {
    let slowed_from = bound_bytes / 1000 * SLOWED_FROM + bound_bytes % 1000 * SLOWED_FROM / 1000;
    let step = match slowed_from.saturating_sub(lag_bytes) {
        0 => bound_bytes.saturating_sub(lag_bytes) / 4,
        before => before,
    };
    step.max(STEP_BYTES_MIN)
}

/// What of a file is not in S3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FileLag {
    bytes: u64,
    /// When the first of the chunks that hold them was opened.
    oldest: Option<Timestamp>,
}

/// Bytes at a file's end whose chunks are not in S3, counted up to `enough`.
fn of_file(rows: &dyn Rows, ino: InodeId, enough: u64) -> Result<FileLag, RowFault> {
    let mut lag = FileLag::default();
    let mut known: HashSet<ChunkId> = HashSet::new();
    let mut spans = contents::of(rows, ino)?.spans(0, u64::MAX);
    let Some(mut span) = spans.pop() else { return Ok(lag) };
    let mut before = extents::key(span.content, span.until);
    for _ in 0..EXTENTS_MAX {
        let first = extents::key(span.content, span.from);
        let Some((key, value)) = rows.last_before(Table::Extents, &first, &before)? else {
            let Some(earlier) = spans.pop() else { break };
            span = earlier;
            before = extents::key(span.content, span.until);
            continue;
        };
        let row = ExtentRow::from_bytes(&key, &value)?;
        let ExtentSource::Chunk { chunk, .. } = row.source else { break };
        if !known.contains(&chunk) {
            // What lies before a persisted chunk is older and went first.
            let Some(record) = read::chunk(rows, chunk)?.filter(|r| r.place.is_none()) else { break };
            let opened = record.activation.time;
            lag.oldest = Some(lag.oldest.map_or(opened, |oldest| oldest.min(opened)));
            known.insert(chunk);
        }
        lag.bytes += row.length;
        if lag.bytes >= enough {
            break;
        }
        before = key;
    }
    Ok(lag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_pause_begins_at_three_quarters_and_is_full_at_the_bound() {
        let at = |used, bound| pause(part(used, bound)).as_millis();
        assert_eq!(at(0, 100), 0);
        assert_eq!(at(75, 100), 0);
        assert_eq!(at(80, 100), 50);
        assert_eq!(at(100, 100), 250);
        assert_eq!(at(100_000, 100), 250);
        assert_eq!(at(u64::MAX, 1), 250);
        assert_eq!(at(7, 0), 250, "no bound allows nothing");
        let pauses: Vec<u128> = (0..=100).map(|used| at(used, 100)).collect();
        assert!(pauses.is_sorted(), "{pauses:?}");
    }

    #[test]
    fn room_gets_smaller_towards_the_bound_and_an_append_always_fits() {
        assert_eq!(step(0, 1024 * MIB), 768 * MIB);
        assert_eq!(step(700 * MIB, 1024 * MIB), 68 * MIB);
        assert_eq!(step(768 * MIB, 1024 * MIB), 64 * MIB);
        assert_eq!(step(1000 * MIB, 1024 * MIB), 6 * MIB);
        assert_eq!(step(1023 * MIB, 1024 * MIB), MIB);
        assert_eq!(step(0, MIB), MIB);
        assert_eq!(step(MIB - 1, MIB), MIB);
    }
}
