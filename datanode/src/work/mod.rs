//! The work that the metadata leader gives this node: pulled as a stream, done a bounded number at
//! a time by kind, reported.

mod chunk_turns;
mod delete_object;
mod import;
mod lanes;
mod merge;
mod mounted;
mod probe_mount;
mod put_object;
pub mod sealed;
mod source;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::v1::report_work_request::Outcome;
use cairn_proto::v1::work::Work;
use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{Chain, ChunkId};
use prost::Message;
use tokio_util::sync::CancellationToken;

use self::chunk_turns::ChunkTurns;
use self::lanes::Lanes;
use self::merge::MergedChunks;
use crate::chunk::StoreError;
use crate::import::Imports;
use crate::node::Node;
use crate::objects::Buffers;
use crate::understore::Buckets;
use crate::upload::Uploader;

/// Pauses before the work is pulled again, at first and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_millis(2_000);

/// Does a node's work. Cheap to clone.
#[derive(Clone)]
pub struct Worker {
    node: Arc<Node>,
    uploader: Option<Uploader>,
    buckets: Arc<dyn Buckets>,
    imports: Imports,
    buffers: Buffers,
    lanes: Lanes,
    chunks: ChunkTurns,
}

impl Worker {
    /// A worker of `node`; without an uploader packs are not written.
    #[must_use]
    pub fn new(
        node: Arc<Node>,
        uploader: Option<Uploader>,
        buckets: Arc<dyn Buckets>,
        imports: Imports,
        buffers: Buffers,
    ) -> Self {
        let (lanes, chunks) = (Lanes::default(), ChunkTurns::default());
        Self { node, uploader, buckets, imports, buffers, lanes, chunks }
    }

    /// Pulls and does work until `stop`. A stream that ends is pulled again from the leader.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = PAUSE_FIRST;
        loop {
            match stop.run_until_cancelled(self.pull()).await {
                None => return,
                Some(Ok(())) => pause = PAUSE_FIRST,
                Some(Err(error)) => tracing::debug!(%error, "pull work"),
            }
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(PAUSE_MOST);
        }
    }

    async fn pull(&self) -> Result<(), WireError> {
        let context = &self.node.context;
        let incarnation = context.store.incarnation().0;
        let request = v1::PullWorkRequest { node: self.node.id.0, incarnation };
        let mut work = context.metadata.pull_work(request).await?;
        while let Some(piece) = work.message().await? {
            let Some(piece) = piece.work else { continue };
            let Some(place) = self.lanes.enter(&piece).await else {
                tracing::debug!(work = name(&piece), "too much of its kind waits: it is sent again");
                metrics::counter!("cairn_data_work_put_off_total", "work" => name(&piece)).increment(1);
                continue;
            };
            let worker = self.clone();
            context.tasks.spawn(async move {
                let leaving = worker.node.context.leaving.clone();
                // Work that is cut short is given out again.
                leaving.run_until_cancelled(place.take_turn(worker.carry_out(piece))).await;
            });
        }
        Ok(())
    }

    #[tracing::instrument(skip_all, fields(work = name(&piece), intent = intent(&piece)))]
    async fn carry_out(&self, piece: Work) {
        let intent = intent(&piece);
        // Until it is reported: what the leader decides on the report must still be so here.
        let _turn = match replica_of(&piece) {
            Some(chunk) => Some(self.chunks.take(chunk).await),
            None => None,
        };
        metrics::counter!("cairn_data_work_total", "work" => name(&piece)).increment(1);
        let outcome = match piece {
            Work::Upload(work) => Some(self.upload(&work).await),
            Work::DeletePack(work) => Some(self.delete_pack(&work).await),
            Work::Compact(work) => Some(self.compact(&work).await),
            Work::Merge(work) => Some(self.merge(&work).await),
            Work::PutObject(work) => Some(self.put_object(&work).await),
            Work::DeleteObject(work) => Some(self.delete_object(&work).await),
            Work::ProbeMount(work) => Some(self.probe_mount(&work).await),
            Work::Import(work) => self.import(work).await,
            Work::Sealed(notice) => self.sealed(notice).await,
            Work::Delete(work) => self.delete(ChunkId(work.chunk)).await,
            Work::Persisted(notice) => {
                self.persisted(&notice).await;
                None
            }
            Work::Copy(work) => Some(self.copy(&work).await),
        };
        if let Some(outcome) = outcome {
            self.report(intent, outcome).await;
        }
    }

    /// True when the leader has it.
    async fn report(&self, intent: u64, outcome: Outcome) -> bool {
        let report = v1::ReportWorkRequest { node: self.node.id.0, intent, outcome: Some(outcome) };
        let reported = self.node.context.metadata.report_work(report).await;
        if let Err(error) = &reported {
            // The leader offers it again, and doing it again has the same effect.
            tracing::warn!(%error, "report work");
        }
        reported.is_ok()
    }

    async fn upload(&self, work: &v1::Upload) -> Outcome {
        let Some(uploader) = &self.uploader else {
            return Outcome::Failure("no under-store is configured on this node".to_owned());
        };
        let done = uploader.upload(work).await;
        self.node.health.note(done.as_ref().err().map(|error| error as &dyn std::error::Error));
        done.map_or_else(failure, Outcome::Uploaded)
    }

    async fn compact(&self, work: &v1::Compact) -> Outcome {
        let Some(uploader) = &self.uploader else {
            return Outcome::Failure("no under-store is configured on this node".to_owned());
        };
        uploader.compact(work).await.map_or_else(failure, Outcome::Compacted)
    }

    async fn merge(&self, work: &v1::Merge) -> Outcome {
        let Some(uploader) = &self.uploader else {
            return Outcome::Failure("no under-store is configured on this node".to_owned());
        };
        let source = match MergedChunks::new(Arc::clone(&self.node), work) {
            Ok(source) => Arc::new(source),
            Err(error) => return failure(error),
        };
        let done = uploader.upload_from(source, &MergedChunks::upload(work)).await;
        if let Ok(done) = &done {
            metrics::counter!("cairn_data_merged_bytes_total").increment(done.bytes);
        }
        done.map_or_else(failure, Outcome::Merged)
    }

    async fn delete_pack(&self, work: &v1::DeletePack) -> Outcome {
        let Some(uploader) = &self.uploader else {
            return Outcome::Failure("no under-store is configured on this node".to_owned());
        };
        uploader.delete_pack(work).await.map_or_else(failure, |()| Outcome::PackDeleted(true))
    }

    async fn sealed(&self, notice: v1::SealedNotice) -> Option<Outcome> {
        let chunk = notice.chunk;
        match sealed::obey(&self.node.context, notice).await {
            Ok(()) => Some(Outcome::SealedNoticeDone(chunk)),
            Err(error) => {
                tracing::warn!(chunk, %error, "obey a seal");
                None
            }
        }
    }

    async fn delete(&self, chunk: ChunkId) -> Option<Outcome> {
        self.node.primaries.fence(chunk).await;
        match self.node.context.store.delete(chunk).await {
            Ok(()) => Some(Outcome::SealedNoticeDone(chunk.0)),
            Err(error) => {
                tracing::warn!(chunk = chunk.0, %error, "delete a replica");
                None
            }
        }
    }

    async fn persisted(&self, notice: &v1::PersistedNotice) {
        let Some(place) = &notice.place else { return };
        let place = Bytes::from(place.encode_to_vec());
        match self.node.context.store.persisted(ChunkId(notice.chunk), place).await {
            Ok(()) | Err(StoreError::UnknownChunk { .. }) => {}
            Err(error) => tracing::warn!(chunk = notice.chunk, %error, "learn that a chunk is persisted"),
        }
    }

    async fn copy(&self, work: &v1::CopyReplica) -> Outcome {
        match self.copied(work).await {
            Ok(()) => Outcome::Copied(v1::Copied { chunk: work.chunk }),
            Err(error) => failure(error),
        }
    }

    async fn copied(&self, work: &v1::CopyReplica) -> Result<(), WireError> {
        let context = &self.node.context;
        let found = context.metadata.get_chunk(ChunkId(work.chunk)).await?;
        if found.state() != v1::ChunkState::Sealed {
            return Err(ServiceError::ChunkFenced { chunk: ChunkId(work.chunk) }.into());
        }
        sealed::become_holder(context, &found, work.length, Chain(work.chain), &work.sources).await
    }
}

fn failure(error: impl std::fmt::Display) -> Outcome {
    let message = error.to_string();
    tracing::warn!(error = message, "work failed");
    Outcome::Failure(message)
}

fn name(piece: &Work) -> &'static str {
    match piece {
        Work::Upload(_) => "upload",
        Work::Import(_) => "import",
        Work::Sealed(_) => "sealed",
        Work::Delete(_) => "delete",
        Work::Persisted(_) => "persisted",
        Work::Copy(_) => "copy",
        Work::DeletePack(_) => "delete_pack",
        Work::Compact(_) => "compact",
        Work::Merge(_) => "merge",
        Work::PutObject(_) => "put_object",
        Work::DeleteObject(_) => "delete_object",
        Work::ProbeMount(_) => "probe_mount",
    }
}

/// The chunk whose replica on this node is made or dropped by the work.
fn replica_of(piece: &Work) -> Option<ChunkId> {
    match piece {
        Work::Sealed(notice) => Some(ChunkId(notice.chunk)),
        Work::Delete(work) => Some(ChunkId(work.chunk)),
        Work::Copy(work) => Some(ChunkId(work.chunk)),
        Work::Upload(_)
        | Work::Import(_)
        | Work::Persisted(_)
        | Work::DeletePack(_)
        | Work::Compact(_)
        | Work::Merge(_)
        | Work::PutObject(_)
        | Work::DeleteObject(_)
        | Work::ProbeMount(_) => None,
    }
}

fn intent(piece: &Work) -> u64 {
    match piece {
        Work::Upload(work) => work.intent,
        Work::Import(work) => work.intent,
        Work::Copy(work) => work.intent,
        Work::DeletePack(work) => work.intent,
        Work::Compact(work) => work.intent,
        Work::Merge(work) => work.intent,
        Work::PutObject(work) => work.intent,
        Work::DeleteObject(work) => work.intent,
        Work::ProbeMount(work) => work.intent,
        Work::Sealed(_) | Work::Delete(_) | Work::Persisted(_) => 0,
    }
}
