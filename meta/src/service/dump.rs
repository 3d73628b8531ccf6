//! `Dump`: the namespace at one point in time, streamed as it is read.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{FsError, LogIndex};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Context;
use super::long_read::{Ended, LongRead, Sink};
use crate::dump::{DumpLines, Header};
use crate::keys::RowFault;
use crate::namespace::facts::Facts;
use crate::namespace::{mounting, read};
use crate::node::{Consistency, ReadView};
use crate::store::Rows;

/// How long a client may leave lines waiting: it may write them to a slow place.
const PATIENCE: Duration = Duration::from_secs(120);
/// Messages that wait for a slow client, at most.
const MESSAGES_MAX: usize = 4;
/// Rows that are read at once: of the longest, a few megabytes.
const ROWS_AT_ONCE: usize = 64;
/// Bytes in a message, unless one step brings more.
const MESSAGE_BYTES: usize = 256 << 10;

/// The stream of a dump.
pub type DumpStream = ReceiverStream<Result<v1::DumpBatch, Status>>;

/// Begins a dump. There is one, or one check, at a time on a server.
pub async fn dump(ctx: &Arc<Context>) -> Result<DumpStream, WireError> {
    let permit = ctx.checking.clone().try_acquire_owned().map_err(|_| ServiceError::Overloaded)?;
    let view = ctx.node.read(Consistency::Linearizable).await?;
    if read::load(&*view.store).map_err(super::fault)?.is_some() {
        return Err(FsError::Loading.into());
    }
    // It tells what is in buckets, and not what is yet to come there.
    let pending = mounting::all_pending(&*view.store).map_err(super::fault)?;
    if pending > 0 {
        return Err(FsError::MountPending { pending }.into());
    }
    let (messages, sent) = mpsc::channel(MESSAGES_MAX);
    let run = Run {
        applied: view.applied,
        read: LongRead::new(Work::begin(&view).map_err(super::fault)?, view, Arc::clone(&ctx.clock)),
        sink: Sink { messages, patience: PATIENCE },
        _permit: permit,
    };
    tokio::spawn(run.run());
    Ok(ReceiverStream::new(sent))
}

/// What is read, and what is written of it.
struct Work {
    facts: Facts,
    lines: Option<DumpLines>,
    written: Vec<u8>,
}

impl Work {
    fn begin(view: &ReadView) -> Result<Self, RowFault> {
        let header = Header::of(&*view.store, view.applied)?;
        let (mut lines, mut written) = (DumpLines::new(), Vec::new());
        lines.header(&header, &mut written);
        Ok(Self { facts: Facts::new(), lines: Some(lines), written })
    }

    /// Fills a message; true at the end.
    fn fill(&mut self, rows: &dyn Rows) -> Result<bool, RowFault> {
        while self.written.len() < MESSAGE_BYTES {
            if self.facts.table().is_none() {
                if let Some(lines) = self.lines.take() {
                    lines.end(&mut self.written);
                }
                return Ok(true);
            }
            let facts = self.facts.step(rows, ROWS_AT_ONCE)?;
            for fact in &facts {
                if let Some(lines) = &mut self.lines {
                    lines.fact(fact, &mut self.written);
                }
            }
        }
        Ok(false)
    }
}

/// A dump that is under way.
struct Run {
    applied: LogIndex,
    read: LongRead<Work>,
    sink: Sink<v1::DumpBatch>,
    _permit: OwnedSemaphorePermit,
}

impl Run {
    async fn run(mut self) {
        let outcome = self.all().await;
        self.sink.end(outcome).await;
    }

    async fn all(&mut self) -> Result<(), Ended> {
        loop {
            let done = self.read.step(Work::fill).await?;
            let done = done.map_err(|fault| Ended::Failed(super::fault(fault).into()))?;
            self.tell(done).await?;
            if done {
                return Ok(());
            }
            self.read.rest().await;
        }
    }

    async fn tell(&mut self, done: bool) -> Result<(), Ended> {
        let work = self.read.work().ok_or_else(Ended::internal)?;
        let message = v1::DumpBatch {
            lines: std::mem::take(&mut work.written).into(),
            rows: work.facts.rows(),
            phase: work.facts.table().map_or("done", |table| table.name()).to_owned(),
            log_index: self.applied.0,
            done,
        };
        self.sink.send(message).await
    }
}
