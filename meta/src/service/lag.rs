//! `Lag`: what is acknowledged and not in S3, of the cluster, and of the files at or below a target.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::long_read::{Ended, LongRead, Sink};
use super::stat::{about, caller};
use super::{Context, decode};
use crate::leader::first_seen::Now;
use crate::leader::{Tenure, lag};
use crate::namespace::lag::{FileLag, LagWalk, Step};
use crate::namespace::read;
use crate::node::{Consistency, ReadView};
use crate::store::Rows;

/// How long a client may leave what is found waiting.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages that wait for a slow client, at most.
const MESSAGES_MAX: usize = 4;
/// Files in one message, at most.
const FILES_MAX: usize = 512;
/// A message is sent at least this often, so that a client sees that it goes on, and a walk whose
/// client has gone ends.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// The stream of an answer.
pub type LagStream = ReceiverStream<Result<v1::LagProgress, Status>>;

/// Begins. Few walks run at a time on a server.
pub async fn lag(ctx: Arc<Context>, request: v1::LagRequest) -> Result<LagStream, WireError> {
    decode::group(request.group)?;
    about(request.session, request.target.as_ref());
    let tenure = ctx.tenure()?;
    let view = ctx.node.read(Consistency::Linearizable).await?;
    let cluster = of_cluster(&tenure, &view)?;
    let (messages, sent) = mpsc::channel(MESSAGES_MAX);
    let first = v1::LagProgress {
        cluster: Some(cluster),
        log_index: view.applied.0,
        done: request.target.is_none(),
        ..Default::default()
    };
    // There is room for it.
    messages.try_send(Ok(first)).map_err(|_| ServiceError::Internal)?;
    if let Some(target) = request.target {
        let permit = ctx.walking.clone().try_acquire_owned().map_err(|_| ServiceError::Overloaded)?;
        let target = decode::target(Some(target))?;
        let caller = caller(&view, request.session)?;
        let rows: &dyn Rows = &*view.store;
        let top = read::resolve_as(rows, caller.as_ref(), &target).map_err(super::refusal)?;
        let walk = LagWalk::begin(rows, &top, caller).map_err(super::refusal)?;
        let log_index = view.applied.0;
        let run = Run {
            walk: LongRead::new(walk, view, Arc::clone(&ctx.clock)),
            context: ctx,
            tenure,
            log_index,
            names: (0, 0),
            sink: Sink { messages, patience: PATIENCE },
            _permit: permit,
        };
        tokio::spawn(run.run());
    }
    Ok(ReceiverStream::new(sent))
}

fn of_cluster(tenure: &Tenure, view: &ReadView) -> Result<v1::ClusterLag, WireError> {
    let rows: &dyn Rows = &*view.store;
    let counts = read::cluster(rows).map_err(super::fault)?.counts;
    let root = read::resolve(rows, &crate::namespace::Target::default()).map_err(super::refusal)?;
    let (policy, _) = read::policy_and_origin(rows, &root).map_err(super::refusal)?;
    let (slowed, refused) = tenure.lag_told.counts();
    Ok(v1::ClusterLag {
        bytes: counts.unpersisted_bytes,
        age_ms: if counts.unpersisted_bytes == 0 { 0 } else { tenure.lag_age_ms() },
        bound_bytes: lag::cluster_bound(tenure, policy.replicas),
        granted_bytes: read::granted(rows).map_err(super::fault)?,
        chunks_open: counts.chunks_open,
        slowed,
        refused,
        under_store_error: tenure.under_store_error(),
        nodes: tenure.node_status(),
    })
}

/// A file's lag as the wire has it.
pub fn wire(
    ctx: &Context,
    tenure: &Tenure,
    rows: &dyn Rows,
    files: Vec<FileLag>,
) -> Result<Vec<v1::FileLag>, WireError> {
    let now = Now::of(&*tenure.clock);
    let mut tails = ctx.wire_chunks(rows, files.iter().filter_map(|f| f.tail.as_ref()))?.into_iter();
    let wire = files.into_iter().map(|file| v1::FileLag {
        ino: file.ino.0,
        path: file.path.into(),
        bytes: file.bytes,
        age_ms: file.oldest.map_or(0, |oldest| now.age_ms(oldest, Duration::ZERO)),
        never_bytes: file.never_bytes,
        policy: Some(v1::Policy::from(&file.policy)),
        tail: file.tail.and_then(|_| tails.next()).map(|tail| v1::Chunk { marks: Vec::new(), ..tail }),
    });
    Ok(wire.collect())
}

/// A walk that is under way.
struct Run {
    context: Arc<Context>,
    tenure: Arc<Tenure>,
    log_index: u64,
    /// Looked at, and passed over.
    names: (u64, u64),
    walk: LongRead<LagWalk>,
    sink: Sink<v1::LagProgress>,
    _permit: OwnedSemaphorePermit,
}

impl Run {
    async fn run(mut self) {
        let outcome = self.all().await;
        self.sink.end(outcome).await;
    }

    async fn all(&mut self) -> Result<(), Ended> {
        let mut told = self.context.clock.boottime();
        let mut waiting: Vec<v1::FileLag> = Vec::new();
        loop {
            let (files, done) = self.step().await?;
            waiting.extend(files);
            let now = self.context.clock.boottime();
            if done {
                return self.tell(waiting, true).await;
            }
            if waiting.len() >= FILES_MAX || now.saturating_sub(told) >= SILENCE_MAX {
                self.tell(std::mem::take(&mut waiting), false).await?;
                told = now;
            }
            self.walk.rest().await;
        }
    }

    async fn step(&mut self) -> Result<(Vec<v1::FileLag>, bool), Ended> {
        let (context, tenure) = (Arc::clone(&self.context), Arc::clone(&self.tenure));
        let step = move |walk: &mut LagWalk, rows: &dyn Rows| {
            let Step { files, done } = walk.step(rows).map_err(super::refusal)?;
            let names = (walk.names(), walk.passed_over());
            Ok::<_, WireError>((wire(&context, &tenure, rows, files)?, done, names))
        };
        let stepped = self.walk.step(step).await?;
        let (files, done, names) = stepped.map_err(|error| Ended::Failed(error.into()))?;
        self.names = names;
        Ok((files, done))
    }

    async fn tell(&self, mut files: Vec<v1::FileLag>, done: bool) -> Result<(), Ended> {
        loop {
            let rest = files.split_off(files.len().min(FILES_MAX));
            let last = rest.is_empty();
            let message = v1::LagProgress {
                cluster: None,
                files,
                names: self.names.0,
                log_index: self.log_index,
                passed_over: self.names.1,
                done: done && last,
            };
            self.sink.send(message).await?;
            if last {
                return Ok(());
            }
            files = rest;
        }
    }
}
