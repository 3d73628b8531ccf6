//! `Gc`: what waits to be collected, in the state, in the under-store and on the disks; and its haste.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::FsError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Context;
use super::long_read::{Ended, Sink};
use crate::leader::Tenure;
use crate::leader::gc::Waiting;
use crate::leader::merge::Fragmented;
use crate::leader::survey::{self, Amount, Found};
use crate::leader::tenure::JobFault;
use crate::namespace::read;
use crate::node::{Consistency, ReadView};

/// How long a client may leave a message waiting.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages that wait for a slow client, at most; of how far it has come, those beyond are left out.
const MESSAGES_MAX: usize = 16;

/// The stream of a look at what is to be collected.
pub type GcStream = ReceiverStream<Result<v1::GcProgress, Status>>;

/// Begins a look. There is one at a time.
pub async fn gc(ctx: &Arc<Context>, request: v1::GcRequest) -> Result<GcStream, WireError> {
    let tenure = ctx.tenure()?;
    let permit = tenure.gc.begin().ok_or(ServiceError::Overloaded)?;
    let view = ctx.node.read(Consistency::Linearizable).await?;
    if read::load(&*view.store).map_err(super::fault)?.is_some() {
        return Err(FsError::Loading.into());
    }
    let (messages, sent) = mpsc::channel(MESSAGES_MAX);
    let sink = Sink { messages, patience: PATIENCE };
    tokio::spawn(Run { tenure, only_look: request.only_look, sink, _permit: permit }.run(view));
    Ok(ReceiverStream::new(sent))
}

struct Run {
    tenure: Arc<Tenure>,
    only_look: bool,
    sink: Sink<v1::GcProgress>,
    _permit: OwnedSemaphorePermit,
}

impl Run {
    async fn run(self, view: ReadView) {
        let work = async {
            let report = self.all(view).await.map_err(|error| {
                tracing::error!(%error, "a look at what is to be collected broke off");
                Ended::internal()
            })?;
            let message = v1::GcProgress { phase: "done".to_owned(), looked_at: 0, report: Some(report) };
            self.sink.send(message).await
        };
        let outcome = tokio::select! {
            outcome = work => outcome,
            // What was condemned stays so; nobody waits for the rest.
            () = self.sink.messages.closed() => Err(Ended::Alone),
            () = self.tenure.stop.cancelled() => {
                let moved = ServiceError::NotLeader { leader_address: String::new() };
                Err(Ended::Failed(moved.into()))
            }
        };
        self.sink.end(outcome).await;
    }

    async fn all(&self, view: ReadView) -> Result<v1::GcReport, JobFault> {
        let tell = |phase: &'static str, looked_at| {
            let message = v1::GcProgress { phase: phase.to_owned(), looked_at, report: None };
            // Who is slow hears less often.
            let _full = self.sink.messages.try_send(Ok(message));
        };
        tell("rows", 0);
        let percent = self.tenure.compacting.below_percent;
        let waiting = tokio::task::spawn_blocking(move || Waiting::read(&*view.store, percent)).await??;
        let found = survey::survey(&self.tenure, self.only_look, &tell).await?;
        if !self.only_look {
            self.tenure.gc.hasten();
            self.tenure.stir();
        }
        Ok(report(&waiting, found, percent, self.tenure.fragments.told()))
    }
}

fn amount(amount: Amount) -> Option<v1::GcAmount> {
    Some(v1::GcAmount { count: amount.count, bytes: amount.bytes })
}

fn report(waiting: &Waiting, found: Found, percent: u32, fragmented: Fragmented) -> v1::GcReport {
    v1::GcReport {
        dead_chunks: amount(waiting.dead_chunks),
        dead_replicas: waiting.dead_replicas,
        dead_in_upload: waiting.dead_in_upload,
        surplus_replicas: amount(waiting.surplus),
        dead_packs: amount(waiting.dead_packs),
        sparse_packs: amount(waiting.sparse),
        sparse_live_bytes: waiting.sparse_live_bytes,
        orphan_packs: amount(found.orphans),
        unknown_objects: amount(found.unknown),
        stray_replicas: amount(found.strays),
        abandoned_uploads: found.abandoned_uploads,
        unlinked_files: waiting.unlinked,
        cut_contents: waiting.contents,
        removed_trees: waiting.trees,
        silent_nodes: found.silent.iter().map(|node| node.0).collect(),
        bucket_unseen: found.bucket_error.is_some(),
        bucket_error: found.bucket_error.unwrap_or_default(),
        condemned: found.condemned,
        compactions: waiting.compactions,
        merges: waiting.merges,
        fragmented_files: fragmented.files,
        fragmented_extents: fragmented.extents,
        sparse_below_percent: percent,
    }
}
