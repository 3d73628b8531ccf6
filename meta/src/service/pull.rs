//! `PullWork`: a data node's stream of work, from the board; and its whole standing, told anew
//! whenever a stream begins.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{ChunkId, FsError, Incarnation, NodeId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Context;
use crate::keys::RowFault;
use crate::leader::board::Next;
use crate::leader::{Tenure, notice, rows, wire};

/// Pieces of work that wait in one stream, at most; the node's own pace does the rest.
const STREAM_MAX: usize = 16;
/// How often resting work is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Chunks read in one step when a node is told all.
const PAGE: usize = 512;

/// The stream of a node's work.
pub type WorkStream = ReceiverStream<Result<v1::Work, Status>>;

/// Begins a node's stream. It ends when leadership moves, or when the node opens another.
pub fn pull(ctx: &Context, request: v1::PullWorkRequest) -> Result<WorkStream, WireError> {
    let tenure = ctx.tenure()?;
    let node = NodeId(request.node);
    let known = tenure.registry.get(node).ok_or(FsError::NotFound)?;
    if known.registered.incarnation != Incarnation(request.incarnation) {
        return Err(FsError::NotFound.into());
    }
    let (tx, rx) = mpsc::channel(STREAM_MAX);
    tokio::spawn(pump(tenure, node, tx));
    Ok(ReceiverStream::new(rx))
}

type Sink = mpsc::Sender<Result<v1::Work, Status>>;

/// Sends what the board has for `node` until its stream or the tenure ends.
async fn pump(tenure: Arc<Tenure>, node: NodeId, sink: Sink) {
    let desk = tenure.board.attach(node);
    tracing::debug!(%node, stream = desk.stream, "a node pulls work");
    loop {
        let wait = match tenure.board.next(node, desk.stream) {
            Next::Send(work) => {
                if send(&tenure, &sink, *work).await.is_err() {
                    break;
                }
                continue;
            }
            Next::Refill => {
                if tell_all(&tenure, node, &sink).await.is_err() {
                    break;
                }
                continue;
            }
            Next::Replaced => break,
            Next::Idle => desk.wake.notified(),
        };
        tokio::select! {
            _ = tokio::time::timeout(LOOK, wait) => {}
            () = sink.closed() => break,
            () = tenure.stop.cancelled() => break,
        }
    }
    if tenure.stop.is_cancelled() {
        let moved = ServiceError::NotLeader { leader_address: String::new() };
        // The node may be gone already.
        let _ = sink.try_send(Err(moved.into()));
    }
    tenure.board.detach(node, desk.stream);
}

/// The stream or the tenure has ended.
struct Ended;

async fn send(tenure: &Tenure, sink: &Sink, work: v1::Work) -> Result<(), Ended> {
    tokio::select! {
        sent = sink.send(Ok(work)) => sent.map_err(|_| Ended),
        () = tenure.stop.cancelled() => Err(Ended),
    }
}

/// Tells a node of every sealed chunk that it holds: its end, and where it is in S3.
async fn tell_all(tenure: &Arc<Tenure>, node: NodeId, sink: &Sink) -> Result<(), Ended> {
    let mut after = ChunkId(0);
    loop {
        let Ok(view) = tenure.local() else { return Err(Ended) };
        let cluster = tenure.cluster;
        let read = move || {
            let page = rows::chunks_after(&*view.store, after, PAGE)?;
            let placed = page.into_iter().map(|record| {
                let place =
                    if record.is_holder(node) { wire::place(&*view.store, cluster, &record)? } else { None };
                Ok((record, place))
            });
            placed.collect()
        };
        let page: Result<Vec<_>, RowFault> = match tokio::task::spawn_blocking(read).await {
            Ok(page) => page,
            Err(_) => return Err(Ended),
        };
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "a node cannot be told of its chunks");
                return Err(Ended);
            }
        };
        let Some(last) = page.last() else { return Ok(()) };
        after = last.0.chunk;
        for (record, place) in page.into_iter().filter(|(record, _)| record.is_holder(node)) {
            let notices = [notice::sealed(&record, node), notice::persisted(record.chunk, place)];
            for work in notices.into_iter().flatten() {
                send(tenure, sink, work).await?;
            }
        }
    }
}
