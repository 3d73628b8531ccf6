//! The log as openraft sees it: writes go to the [`LogDisk`] unsynced and in order, their
//! completions to the [`Flusher`].

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::Stream;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};

use super::flusher::{Flusher, Waiting};
use super::log_disk::{LogDisk, LogError, LogStart};
use super::record::{self, EntryRecord, LogIdRecord, VoteRecord};
use super::tail::Tail;
use super::types::{Entry, LogId, TypeConfig, Vote};

/// Bytes of entries in one message to a follower, at most (one entry may be larger).
const READ_BYTES_MAX: usize = 1 << 20;
/// Bytes of entries read at once to be applied.
const APPLY_BYTES_MAX: usize = 4 << 20;

/// The end up to which the log may be purged: what of the state is durable without the log.
#[derive(Clone, Debug, Default)]
pub struct DurableMark(Arc<AtomicU64>);

impl DurableMark {
    /// Everything up to `index` is durable in the state.
    pub fn raise(&self, index: u64) {
        self.0.fetch_max(index, Ordering::AcqRel);
    }

    /// The mark.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Reads the log; cheap to clone.
#[derive(Clone)]
pub struct LogReader {
    disk: Arc<dyn LogDisk>,
    tail: Arc<Tail>,
    // Guards nothing but itself: the last vote written.
    vote: Arc<Mutex<Option<Vote>>>,
}

/// The log store.
pub struct LogStore {
    reader: LogReader,
    flusher: Flusher,
    start: LogStart,
    durable: DurableMark,
}

impl LogStore {
    /// The log on `disk`. `durable` bounds purges.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(disk: Arc<dyn LogDisk>, flusher: Flusher, durable: DurableMark) -> Result<Self, LogError> {
        let start = disk.load()?;
        let vote = Arc::new(Mutex::new(start.vote.map(Vote::from)));
        let reader = LogReader { disk, tail: Arc::default(), vote };
        Ok(Self { reader, flusher, start, durable })
    }

    /// True when nothing was ever written to it.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.start == LogStart::default()
    }
}

fn resolve(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl LogReader {
    fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(found) = self.tail.read(&range, bytes_max) {
            return Ok(found);
        }
        let records = self.disk.read(range, bytes_max)?;
        Ok(records.into_iter().map(Entry::try_from).collect::<Result<_, _>>()?)
    }

    /// As [`LogReader::read`], for ranges whose beginning must be there unless it is past the log's
    /// end: a follower or the state machine would take what comes first for the range's beginning.
    fn read_from_start(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let (start, empty) = (range.start, range.is_empty());
        let entries = self.read(range, bytes_max)?;
        let lacking = match entries.first() {
            Some(first) => first.log_id.index != start,
            None => !empty && self.disk.load()?.last.is_some_and(|last| last.index >= start),
        };
        if lacking {
            return Err(LogError::Hole { index: start }.into());
        }
        Ok(entries)
    }

    fn last_vote(&self) -> Option<Vote> {
        *self.vote.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        // openraft looks for memberships from indexes that were never there, and checks by itself
        // where it needs the beginning.
        self.read(resolve(&range), usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.last_vote())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read_from_start(start..end, READ_BYTES_MAX)
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let state = (self.clone(), resolve(&range));
        let pieces = futures::stream::try_unfold(state, |(reader, rest)| async move {
            let piece = reader.read_from_start(rest.clone(), APPLY_BYTES_MAX)?;
            let Some(last) = piece.last() else { return Ok::<_, io::Error>(None) };
            let next = last.log_id.index + 1;
            let entries = futures::stream::iter(piece.into_iter().map(Ok));
            Ok(Some((entries, (reader, next..rest.end))))
        });
        Box::pin(futures::TryStreamExt::try_flatten(pieces))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let last_purged_log_id = self.start.purged.map(LogId::from);
        let last_log_id = self.start.last.map(LogId::from).or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.reader.disk.save_vote(&VoteRecord::from(vote))?;
        *self.reader.vote.lock().unwrap_or_else(PoisonError::into_inner) = Some(*vote);
        self.flusher.durable().await
    }

    /// Durable with the next fsync; a restart that finds an older one re-applies more.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        Ok(self.reader.disk.save_committed(committed.as_ref().map(LogIdRecord::from))?)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.reader.disk.load()?.committed.map(LogId::from))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let encoded: Vec<(u64, Bytes)> =
            entries.iter().map(|e| (e.log_id.index, record::encode(&EntryRecord::from(e)))).collect();
        metrics::histogram!("cairn_meta_raft_append_entries").record(encoded.len() as f64);
        self.reader.disk.append(&encoded)?;
        if let Some(last) = entries.last() {
            self.start.last = Some(LogIdRecord::from(&last.log_id));
        }
        self.reader.tail.push(entries);
        self.flusher.queue(Waiting::Append(callback)).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.as_ref().map_or(0, |id| id.index + 1);
        tracing::info!(from, "the Raft log's end is cut: another leader's entries follow");
        self.reader.disk.truncate(from)?;
        self.reader.tail.truncate(from);
        if self.start.last.is_some_and(|end| end.index >= from) {
            self.start.last = last.as_ref().map(LogIdRecord::from);
        }
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let durable = self.durable.get();
        if upto.index > durable {
            // The next purge covers it: until the state is durable, the log is its only copy.
            tracing::warn!(upto = upto.index, durable, "the purge waits for the state to be durable");
            return Ok(());
        }
        let record = LogIdRecord::from(&upto);
        // It waits for an fsync: let the other tasks of this thread move on.
        tokio::task::block_in_place(|| self.reader.disk.purge(record))?;
        self.reader.tail.purge(upto.index);
        self.start.purged = Some(record);
        if self.start.last.is_none_or(|last| last.index <= upto.index) {
            self.start.last = None;
        }
        Ok(())
    }
}
