//! `Fsck`: a check of this server's state at one point in time, streamed as it goes, and the repair
//! of what it finds.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{FsError, LogIndex};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Context;
use super::long_read::{Ended, LongRead, Sink};
use crate::namespace::Command;
use crate::namespace::check::{Check, CheckBounds, Finding, Severity, Step};
use crate::node::Consistency;
use crate::store::StoreFault;

/// How long a client may leave what is found waiting.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages that wait for a slow client, at most.
const MESSAGES_MAX: usize = 4;
/// Findings in one message, at most.
const FINDINGS_MAX: usize = 256;
/// A message is sent at least this often, so that a client sees that it goes on, and a check whose
/// client has gone ends.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// How long the entry of one repair may take.
const REPAIR_DEADLINE: Duration = Duration::from_secs(10);

/// The stream of a check.
pub type FsckStream = ReceiverStream<Result<v1::FsckProgress, Status>>;

/// Begins a check. There is one at a time on a server.
pub async fn fsck(ctx: &Arc<Context>, request: v1::FsckRequest) -> Result<FsckStream, WireError> {
    let permit = ctx.checking.clone().try_acquire_owned().map_err(|_| ServiceError::Overloaded)?;
    let view = if request.local && !request.repair {
        ctx.node.read_local()?
    } else {
        ctx.node.read(Consistency::Linearizable).await?
    };
    let (messages, sent) = mpsc::channel(MESSAGES_MAX);
    let run = Run {
        context: Arc::clone(ctx),
        applied: view.applied,
        repair: request.repair,
        check: LongRead::new(Check::new(CheckBounds::default()), view, Arc::clone(&ctx.clock)),
        sink: Sink { messages, patience: PATIENCE },
        _permit: permit,
    };
    tokio::spawn(run.run());
    Ok(ReceiverStream::new(sent))
}

/// A check that is under way.
struct Run {
    context: Arc<Context>,
    applied: LogIndex,
    repair: bool,
    check: LongRead<Check>,
    sink: Sink<v1::FsckProgress>,
    _permit: OwnedSemaphorePermit,
}

impl Run {
    async fn run(mut self) {
        let outcome = self.all().await;
        self.sink.end(outcome).await;
    }

    async fn all(&mut self) -> Result<(), Ended> {
        let mut told = self.context.clock.boottime();
        let mut waiting: Vec<v1::FsckFinding> = Vec::new();
        loop {
            let step = self.step().await?;
            let done = step.done;
            for finding in step.findings {
                tracing::warn!(kind = finding.kind(), "a check found: {finding}");
                metrics::counter!("cairn_meta_fsck_findings_total").increment(1);
                waiting.push(self.deal_with(&finding).await?);
                if waiting.len() >= FINDINGS_MAX {
                    self.tell(&mut waiting, false).await?;
                }
            }
            let now = self.context.clock.boottime();
            if done {
                return self.tell(&mut waiting, true).await;
            }
            if !waiting.is_empty() || now.saturating_sub(told) >= SILENCE_MAX {
                self.tell(&mut waiting, false).await?;
                told = now;
            }
            self.check.rest().await;
        }
    }

    async fn step(&mut self) -> Result<Step, Ended> {
        let step = self.check.step(|check, rows| check.step(rows)).await?;
        step.map_err(|fault: StoreFault| {
            tracing::error!(error = %fault, "a check cannot read the state");
            Ended::internal()
        })
    }

    /// Mends a finding, when that is asked for and can be.
    async fn deal_with(&self, finding: &Finding) -> Result<v1::FsckFinding, Ended> {
        let mut told = wire(finding);
        if !self.repair || !told.repairable {
            return Ok(told);
        }
        let command = Command::Repair { seen: self.applied, finding: finding.clone() };
        let proposed = self.context.node.propose_internal(command, REPAIR_DEADLINE).await;
        let (_, reply) = proposed.map_err(|error| Ended::Failed(ServiceError::from(error).into()))?;
        let outcome = match reply {
            Ok(_) => {
                tracing::warn!(kind = finding.kind(), "mended: {finding}");
                metrics::counter!("cairn_meta_fsck_mended_total").increment(1);
                v1::FsckOutcome::Mended
            }
            Err(FsError::NotFound) => v1::FsckOutcome::Gone,
            Err(error) => {
                told.refusal = error.to_string();
                v1::FsckOutcome::Refused
            }
        };
        told.set_outcome(outcome);
        Ok(told)
    }

    async fn tell(&mut self, waiting: &mut Vec<v1::FsckFinding>, done: bool) -> Result<(), Ended> {
        let (phase, rows) = self.check.work().map_or(("", 0), |check| (check.phase(), check.rows()));
        let message = v1::FsckProgress {
            node: self.context.node.id().0,
            log_index: self.applied.0,
            rows,
            phase: phase.to_owned(),
            findings: std::mem::take(waiting),
            done,
        };
        self.sink.send(message).await
    }
}

fn wire(finding: &Finding) -> v1::FsckFinding {
    let field = |(name, value): (&str, String)| v1::FsckField { name: name.to_owned(), value };
    v1::FsckFinding {
        kind: finding.kind().to_owned(),
        text: finding.to_string(),
        known: finding.severity() == Severity::Known,
        repairable: finding.is_repairable(),
        fields: finding.fields().into_iter().map(field).collect(),
        ..Default::default()
    }
}
