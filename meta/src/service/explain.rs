//! `Explain`: where a file's bytes are and how they come to S3, from one point in time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::limits::WRITERS_PER_FILE_MAX;
use cairn_types::{ChunkId, Extent, Inode, InodeId, IntentId, WriterMark};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::extents;
use super::long_read::{Ended, LongRead, Sink};
use super::mounts::mount;
use super::stat::{about, caller, imported};
use super::{Context, decode, lag, policy};
use crate::keys;
use crate::keys::chunks::ChunkRecord;
use crate::keys::imports::{self, ImportRecord};
use crate::keys::intents::{IntentRecord, MergeRun, Work};
use crate::keys::packs::{self, PackRecord};
use crate::keys::places::Place;
use crate::keys::writers::{self, WriterRow};
use crate::leader::Tenure;
use crate::namespace::lag::LagWalk;
use crate::namespace::{Target, jobs, mounting, read};
use crate::node::Consistency;
use crate::store::Rows;

/// How long a client may leave what is found waiting.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages that wait for a slow client, at most.
const MESSAGES_MAX: usize = 4;
/// Chunks that are remembered as told; beyond it they are told again.
const TOLD_MAX: usize = 65_536;
/// A file's end: no extent begins there.
const END: u64 = u64::MAX >> 1;

/// The stream of an answer.
pub type ExplainStream = ReceiverStream<Result<v1::ExplainPart, Status>>;

/// Begins; what is wrong with the target is answered at once.
pub async fn explain(ctx: Arc<Context>, request: v1::ExplainRequest) -> Result<ExplainStream, WireError> {
    decode::group(request.group)?;
    about(request.session, request.target.as_ref());
    let target = decode::target(request.target)?;
    let tenure = ctx.tenure()?;
    let permit = ctx.walking.clone().try_acquire_owned().map_err(|_| ServiceError::Overloaded)?;
    let view = ctx.node.read(Consistency::Linearizable).await?;
    let caller = caller(&view, request.session)?;
    imported(&ctx, &view, &target, false).await?;
    // Who may not read the file is refused here, by the way the target was named.
    let rows: &dyn Rows = &*view.store;
    let found = read::extents_as(rows, caller.as_ref(), &target, (0, 1)).map_err(super::refusal)?;
    let clock = Arc::clone(&ctx.clock);
    let work = Explanation {
        context: ctx,
        tenure,
        ino: found.stat.inode.ino,
        log_index: view.applied.0,
        stage: Stage::File,
        told: HashSet::new(),
    };
    let (messages, sent) = mpsc::channel(MESSAGES_MAX);
    let sink = Sink { messages, patience: PATIENCE };
    tokio::spawn(run(LongRead::new(work, view, clock), sink, permit));
    Ok(ReceiverStream::new(sent))
}

async fn run(work: LongRead<Explanation>, sink: Sink<v1::ExplainPart>, _permit: OwnedSemaphorePermit) {
    let outcome = tell(work, &sink).await;
    sink.end(outcome).await;
}

async fn tell(mut work: LongRead<Explanation>, sink: &Sink<v1::ExplainPart>) -> Result<(), Ended> {
    loop {
        let part = work.step(Explanation::next).await?;
        let part = part.map_err(|error| Ended::Failed(error.into()))?;
        let done = part.done;
        sink.send(part).await?;
        if done {
            return Ok(());
        }
    }
}

/// What is told next.
enum Stage {
    File,
    /// The walk that sums up what is not in S3.
    Lag(Box<(v1::ExplainedFile, LagWalk)>),
    /// Extents from there on.
    Extents(u64),
}

/// An explanation that is under way.
struct Explanation {
    context: Arc<Context>,
    tenure: Arc<Tenure>,
    ino: InodeId,
    log_index: u64,
    stage: Stage,
    told: HashSet<ChunkId>,
}

impl Explanation {
    /// Reads the next part.
    fn next(&mut self, rows: &dyn Rows) -> Result<v1::ExplainPart, WireError> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::File) {
                Stage::File => {
                    let inode = read::resolve(rows, &Target::ino(self.ino)).map_err(super::refusal)?;
                    let file = self.file(rows)?;
                    let walk = LagWalk::begin(rows, &inode, None).map_err(super::refusal)?;
                    self.stage = Stage::Lag(Box::new((file, walk)));
                }
                Stage::Lag(mut lagging) => {
                    let (file, walk) = &mut *lagging;
                    let step = walk.step(rows).map_err(super::refusal)?;
                    file.lag =
                        lag::wire(&self.context, &self.tenure, rows, step.files)?.pop().or(file.lag.take());
                    if step.done {
                        self.stage = Stage::Extents(0);
                        return Ok(v1::ExplainPart { file: Some(lagging.0), ..Default::default() });
                    }
                    self.stage = Stage::Lag(lagging);
                }
                Stage::Extents(from) => return self.extents(rows, from),
            }
        }
    }

    fn file(&self, rows: &dyn Rows) -> Result<v1::ExplainedFile, WireError> {
        let inode = read::resolve(rows, &Target::ino(self.ino)).map_err(super::refusal)?;
        let (in_force, origin) = policy::in_force(rows, &inode)?;
        let known = keys::scan::<WriterRow>(rows, &writers::of(self.ino), WRITERS_PER_FILE_MAX);
        let mut marks = Vec::new();
        for (key, row) in known.map_err(super::fault)? {
            let writer = writers::writer(&key).map_err(super::fault)?;
            let mark = WriterMark { writer, sequence: row.sequence, offset: row.offset };
            marks.push(v1::WriterMark::from(&mark));
        }
        Ok(v1::ExplainedFile {
            inode: Some(v1::Inode::from(&inode)),
            path: policy::path(rows, self.ino)?.into(),
            policy: Some(v1::Policy::from(&in_force)),
            origin: Some(origin),
            lag: None,
            writers: marks,
            log_index: self.log_index,
        })
    }

    fn extents(&mut self, rows: &dyn Rows, from: u64) -> Result<v1::ExplainPart, WireError> {
        let range = read::extents(rows, &Target::ino(self.ino), from, END - from).map_err(super::refusal)?;
        let next = range.extents.last().map(Extent::end).filter(|_| range.more);
        self.stage = Stage::Extents(next.unwrap_or(END));
        let tail = range.stat.tail.filter(|_| next.is_none());
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        let mut records: Vec<ChunkRecord> = range.chunks;
        records.extend(tail);
        records.retain(|record| self.told.insert(record.chunk));
        let mut intents = self.intents(rows, &records)?;
        if next.is_none() {
            intents.extend(self.import(rows)?);
            intents.extend(self.put(rows, &range.stat.inode)?);
        }
        Ok(v1::ExplainPart {
            file: None,
            extents: extents::wire(rows, &range.extents)?,
            chunks: self.chunks(rows, &records)?,
            mounts: range.mounts.iter().map(|m| mount(rows, m)).collect::<Result<_, _>>()?,
            intents,
            done: next.is_none(),
        })
    }

    fn chunks(&self, rows: &dyn Rows, records: &[ChunkRecord]) -> Result<Vec<v1::ExplainedChunk>, WireError> {
        let wire = self.context.wire_chunks(rows, records)?;
        records.iter().zip(wire).map(|(record, chunk)| self.chunk(rows, record, chunk)).collect()
    }

    fn chunk(
        &self,
        rows: &dyn Rows,
        record: &ChunkRecord,
        mut chunk: v1::Chunk,
    ) -> Result<v1::ExplainedChunk, WireError> {
        // The writer whose append is the last one: there may be a thousand.
        chunk.marks = chunk.marks.into_iter().max_by_key(|mark| mark.offset).into_iter().collect();
        let pack: Option<PackRecord> = match record.place {
            Some(place) => keys::get(rows, &packs::key(place.pack)).map_err(super::fault)?,
            None => None,
        };
        Ok(v1::ExplainedChunk {
            chunk: Some(chunk),
            replicas: record.replicas.iter().map(|replica| self.replica(record, replica.node)).collect(),
            held: record.held,
            live_bytes: record.live_bytes,
            extent_end: record.extent_end,
            opened_ns: record.activation.time.0,
            sealed_ns: record.sealed.as_ref().map_or(0, |sealed| sealed.at.0),
            upload: record.upload.map_or(0, |intent| intent.0),
            etag: pack.as_ref().map(|pack| pack.etag.clone()).unwrap_or_default(),
            pack_bytes: pack.map_or(0, |pack| pack.bytes),
            crc32c: record.place.map_or(0, |place| place.crc32c),
        })
    }

    fn replica(&self, record: &ChunkRecord, node: cairn_types::NodeId) -> v1::ExplainedReplica {
        let known = self.tenure.registry.get(node);
        v1::ExplainedReplica {
            node: node.0,
            address: known.as_ref().map(|view| view.registered.address.clone()).unwrap_or_default(),
            holder: record.sealed.is_none() || record.is_holder(node),
            primary: record.primary == node,
            alive: known.as_ref().is_some_and(crate::leader::nodes::View::is_live),
            retired: known.as_ref().is_some_and(crate::leader::nodes::View::is_retired),
            removed: known.is_none_or(|view| view.registered.removed),
        }
    }

    /// The intents that upload these chunks.
    fn intents(
        &self,
        rows: &dyn Rows,
        records: &[ChunkRecord],
    ) -> Result<Vec<v1::ExplainedIntent>, WireError> {
        let ids: HashSet<IntentId> = records.iter().filter_map(|record| record.upload).collect();
        let mut ids: Vec<IntentId> = ids.into_iter().collect();
        ids.sort_unstable();
        // One that deletes a pack concerns none of its chunks any more, unless they came back.
        for place in records.iter().filter_map(|record| record.place) {
            let pack = jobs::pack(rows, place.pack).map_err(super::fault)?;
            ids.extend(pack.and_then(|pack| pack.deletion).filter(|deletion| !ids.contains(deletion)));
        }
        let mut found = Vec::new();
        for id in ids {
            found.extend(read::intent(rows, id).map_err(super::fault)?.as_ref().map(intent));
        }
        Ok(found)
    }

    /// The intent that reads the directory of a file of a mount, under way or failed.
    fn import(&self, rows: &dyn Rows) -> Result<Option<v1::ExplainedIntent>, WireError> {
        let place: Option<Place> = keys::get(rows, &keys::places::key(self.ino)).map_err(super::fault)?;
        let Some(place) = place else { return Ok(None) };
        let import: Option<ImportRecord> =
            keys::get(rows, &imports::key(place.parent)).map_err(super::fault)?;
        let Some(id) = import.and_then(|import| import.intent) else { return Ok(None) };
        Ok(read::intent(rows, id).map_err(super::fault)?.as_ref().map(intent))
    }

    /// The intent that writes the object of a file of a mount, under way or failed.
    fn put(&self, rows: &dyn Rows, inode: &Inode) -> Result<Option<v1::ExplainedIntent>, WireError> {
        let Some(mount) = inode.mount else { return Ok(None) };
        let row = mounting::pending(rows, mount, self.ino).map_err(super::fault)?;
        let Some(id) = row.and_then(|row| row.intent) else { return Ok(None) };
        Ok(read::intent(rows, id).map_err(super::fault)?.as_ref().map(intent))
    }
}

fn intent(record: &IntentRecord) -> v1::ExplainedIntent {
    let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
    let (kind, key, chunks, bytes) = match &record.work {
        Work::Upload { key, chunks, .. } => {
            ("upload", key.clone(), chunks.len() as u64, chunks.iter().map(|chunk| chunk.length).sum())
        }
        Work::Compact { key, chunks, .. } => {
            ("compact", key.clone(), chunks.len() as u64, chunks.iter().map(|chunk| chunk.place.length).sum())
        }
        Work::Merge { key, runs, .. } => {
            ("merge", key.clone(), runs.len() as u64, runs.iter().map(MergeRun::length).sum())
        }
        Work::Import { prefix, .. } => ("import", text(prefix), 0, 0),
        Work::DeletePack { key, .. } => ("delete", key.clone(), 0, 0),
        Work::PutObject { key, length, .. } => ("put", text(key), 0, *length),
        Work::DeleteObject { key, .. } => ("delete-object", text(key), 0, 0),
        Work::ProbeMount { prefix, .. } => ("probe", prefix.clone(), 0, 0),
    };
    v1::ExplainedIntent {
        intent: record.intent.0,
        kind: kind.to_owned(),
        assignee: record.assignee.0,
        created_ns: record.created.0,
        assigned_ns: record.assigned.0,
        failures: record.failures,
        message: record.message.clone(),
        failed: record.failed,
        key,
        chunks,
        bytes,
    }
}
