//! `ReportWork`: what became of a piece of work.

mod objects;

use std::time::Duration;

use cairn_proto::v1::report_work_request::Outcome;
use cairn_proto::{WireError, v1};
use cairn_types::limits::{NAME_BYTES_MAX, S3_KEY_BYTES_MAX};
use cairn_types::{ChunkId, FsError, InodeId, IntentId, NodeId, Timestamp};

use super::Context;
use super::call::malformed;
use crate::keys::intents::Work;
use crate::leader::Tenure;
use crate::leader::board::WorkKey;
use crate::namespace::command::{Command, ImportedEntry, PersistedChunk};
use crate::namespace::read;

/// Names in one page of a bucket's listing, at most.
const PAGE_ENTRIES_MAX: usize = 1000;
/// Entries that one page may take.
const PAGE_STEPS_MAX: usize = 64;
/// Bytes of an ETag, at most.
const ETAG_BYTES_MAX: usize = 256;
/// Failures of one piece of work that are noted in the log: the first, and each of these.
const FAILURES_NOTED: u32 = 16;

/// Takes a report. A late one, of work that another node has done meanwhile, changes nothing.
pub async fn report(
    ctx: &Context,
    request: v1::ReportWorkRequest,
    deadline: Duration,
) -> Result<v1::ReportWorkReply, WireError> {
    let tenure = ctx.tenure()?;
    let node = NodeId(request.node);
    if tenure.registry.get(node).is_none() {
        return Err(FsError::NotFound.into());
    }
    let intent = IntentId(request.intent);
    let report = Report { ctx, tenure: &tenure, node, intent, deadline };
    match request.outcome.ok_or_else(|| malformed("outcome"))? {
        Outcome::Uploaded(uploaded) => report.uploaded(uploaded, Packed::Persisted).await?,
        Outcome::Compacted(written) => report.uploaded(written, Packed::Compacted).await?,
        Outcome::Merged(written) => report.uploaded(written, Packed::Merged).await?,
        Outcome::Imported(batch) => report.imported(batch).await?,
        Outcome::Copied(copied) => report.copied(ChunkId(copied.chunk)).await?,
        Outcome::PackDeleted(true) => report.pack_deleted().await?,
        Outcome::PackDeleted(false) => return Err(malformed("pack_deleted")),
        Outcome::Failure(message) => report.failed(message).await?,
        Outcome::ImportFailed(failed) => report.failed_for_good(failed).await?,
        Outcome::SealedNoticeDone(chunk) => report.obeyed(ChunkId(chunk)).await?,
        Outcome::ObjectWritten(written) => report.object_written(written).await?,
        Outcome::ObjectGone(v1::ObjectGone {}) => report.object_gone().await?,
        Outcome::ObjectConflict(conflict) => report.object_changed(conflict).await?,
        Outcome::MountProbed(probed) => report.probed(probed).await?,
        Outcome::ObjectFailed(failed) => report.failed_for_good(failed).await?,
    }
    Ok(v1::ReportWorkReply {})
}

/// What the chunks of a new pack are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packed {
    /// They were nowhere else in S3.
    Persisted,
    /// They were in other packs.
    Compacted,
    /// They take the place of small extents.
    Merged,
}

struct Report<'a> {
    ctx: &'a Context,
    tenure: &'a Tenure,
    node: NodeId,
    intent: IntentId,
    deadline: Duration,
}

impl Report<'_> {
    async fn propose(&self, command: Command) -> Result<crate::namespace::Reply, WireError> {
        Ok(self.ctx.node.propose_internal(command, self.deadline).await?.1)
    }

    /// The work is over, whatever the state says of a repeated report.
    fn over(&self) {
        self.tenure.board.done(self.node, WorkKey::Intent(self.intent));
        self.tenure.stir();
    }

    /// A pack is there.
    async fn uploaded(&self, uploaded: v1::Uploaded, packed: Packed) -> Result<(), WireError> {
        if uploaded.etag.len() > ETAG_BYTES_MAX {
            return Err(malformed("etag"));
        }
        let places: Vec<PersistedChunk> = uploaded
            .chunks
            .iter()
            .map(|c| PersistedChunk {
                chunk: ChunkId(c.chunk),
                offset: c.offset,
                length: c.length,
                crc32c: c.crc32c,
            })
            .collect();
        let chunks: Vec<ChunkId> = places.iter().map(|p| p.chunk).collect();
        let (intent, etag, bytes) = (self.intent, uploaded.etag, uploaded.bytes);
        let command = match packed {
            Packed::Persisted => Command::Persisted { intent, etag, places, bytes },
            Packed::Compacted => Command::Compacted { intent, etag, places, bytes },
            Packed::Merged => Command::Merged { intent, etag, places, bytes },
        };
        match self.propose(command).await? {
            Ok(_) if packed == Packed::Merged => self.count_merged(&chunks)?,
            Ok(_) => {}
            // Reported before: by this node, or by the one that had it first.
            Err(FsError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        match packed {
            Packed::Persisted => {
                metrics::counter!("cairn_meta_packs_persisted_total").increment(1);
                metrics::counter!("cairn_meta_persisted_bytes").increment(bytes);
            }
            Packed::Compacted => metrics::counter!("cairn_meta_packs_compacted_total").increment(1),
            Packed::Merged => metrics::counter!("cairn_meta_packs_merged_total").increment(1),
        }
        self.tenure.note_upload("");
        for chunk in chunks {
            self.tenure.settled(chunk);
            if let Some(record) = self.tenure.chunk(chunk).map_err(super::fault)? {
                self.tenure.announce_persisted(&record);
            }
        }
        self.over();
        Ok(())
    }

    /// Counts the runs that became one extent, and those whose files had changed meanwhile.
    fn count_merged(&self, chunks: &[ChunkId]) -> Result<(), WireError> {
        for chunk in chunks {
            let taken = self.tenure.chunk(*chunk).map_err(super::fault)?.is_some();
            let name = if taken { "cairn_meta_merged_runs_total" } else { "cairn_meta_merges_in_vain_total" };
            metrics::counter!(name).increment(1);
        }
        Ok(())
    }

    async fn imported(&self, batch: v1::ImportedBatch) -> Result<(), WireError> {
        if batch.entries.len() > PAGE_ENTRIES_MAX {
            return Err(malformed("entries"));
        }
        let entries = batch.entries.into_iter().map(imported_entry).collect::<Result<Vec<_>, _>>()?;
        let last = batch.end.is_empty();
        let end = batch.end.to_vec();
        let mut start_after = batch.start_after.to_vec();
        for _ in 0..PAGE_STEPS_MAX {
            let left = entries.iter().filter(|e| e.name > start_after).cloned().collect();
            let command = Command::ImportBatch {
                intent: self.intent,
                directory: InodeId(batch.directory),
                start_after,
                end: end.clone(),
                entries: left,
            };
            match self.propose(command).await??.resume_after {
                Some(name) => start_after = name,
                None => {
                    if last {
                        self.over();
                    }
                    return Ok(());
                }
            }
        }
        // The rest of the page is asked for again with the intent.
        Err(FsError::TooLarge.into())
    }

    async fn copied(&self, chunk: ChunkId) -> Result<(), WireError> {
        let reply = self.propose(Command::AddHolder { chunk, node: self.node }).await?;
        self.tenure.board.done(self.node, WorkKey::Copy(chunk));
        self.tenure.stir();
        match reply {
            // Collected, or persisted and forgotten meanwhile: the copy is surplus.
            Ok(answer) => {
                let bytes = answer.chunk.and_then(|record| record.sealed_length()).unwrap_or(0);
                metrics::counter!("cairn_meta_copies_made_total").increment(1);
                metrics::counter!("cairn_meta_copied_bytes").increment(bytes);
                Ok(())
            }
            Err(FsError::ChunkGone { .. } | FsError::ChunkState { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn pack_deleted(&self) -> Result<(), WireError> {
        match self.propose(Command::PackDeleted { intent: self.intent }).await? {
            Ok(_) | Err(FsError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        self.over();
        Ok(())
    }

    /// A transient failure: the work rests, and goes to another node when this one keeps failing.
    async fn failed(&self, message: String) -> Result<(), WireError> {
        let failures = self.tenure.board.failed(self.node, WorkKey::Intent(self.intent));
        tracing::warn!(node = %self.node, intent = %self.intent, message, failures, "work failed");
        metrics::counter!("cairn_meta_work_failures_total").increment(1);
        let record = read::intent(&*self.tenure.local()?.store, self.intent).map_err(super::fault)?;
        let Some(record) = record else { return Ok(()) };
        if matches!(record.work, Work::Upload { .. }) {
            self.tenure.note_upload(&message);
        }
        if failures == 1 || failures.is_multiple_of(FAILURES_NOTED) {
            self.fail(false, message).await?;
        }
        Ok(())
    }

    async fn failed_for_good(&self, failed: v1::ImportFailed) -> Result<(), WireError> {
        if !failed.permanent {
            return self.failed(failed.message).await;
        }
        tracing::warn!(intent = %self.intent, message = failed.message, "work failed for good");
        self.fail(true, failed.message).await?;
        self.over();
        Ok(())
    }

    async fn fail(&self, permanent: bool, message: String) -> Result<(), WireError> {
        let command = Command::FailIntent { intent: self.intent, permanent, message };
        match self.propose(command).await? {
            Ok(_) | Err(FsError::NotFound) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A node has obeyed a notice: a replica that had to go is gone. Only what this leader asked
    /// for counts: a notice to a holder deletes nothing.
    async fn obeyed(&self, chunk: ChunkId) -> Result<(), WireError> {
        if !self.tenure.board.is_offered(self.node, WorkKey::Delete(chunk)) {
            return Ok(());
        }
        let record = self.tenure.chunk(chunk).map_err(super::fault)?;
        let gone = record.is_some_and(|r| r.is_dead() || (r.sealed.is_some() && !r.is_holder(self.node)));
        if gone {
            match self.propose(Command::DropReplica { chunk, node: self.node }).await? {
                Ok(_) | Err(FsError::ChunkGone { .. } | FsError::ChunkState { .. } | FsError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.tenure.board.done(self.node, WorkKey::Delete(chunk));
        Ok(())
    }
}

fn imported_entry(entry: v1::ImportedEntry) -> Result<ImportedEntry, WireError> {
    if entry.name.is_empty() || entry.name.len() > NAME_BYTES_MAX {
        return Err(malformed("name"));
    }
    if entry.key.len() > S3_KEY_BYTES_MAX {
        return Err(malformed("key"));
    }
    if entry.etag.len() > ETAG_BYTES_MAX {
        return Err(malformed("etag"));
    }
    Ok(ImportedEntry {
        name: entry.name.to_vec(),
        directory: entry.directory,
        size: entry.size,
        etag: entry.etag,
        mtime: Timestamp(entry.mtime_ns),
        key: entry.key.to_vec(),
    })
}
