//! How a task gives a chunk up, and how it fails.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cairn_proto::{ServiceError, v1};
use cairn_types::{ChunkId, FsError};
use tokio::time::Instant;

use super::{Barren, Task, Trouble, is_fence};
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::growth::{Hold, Placed, resolve};

impl Task {
    /// Gives the open chunk up and settles what was sent to it (append protocol R10). An error
    /// says that its end could not be had; what was sent is told so too.
    pub(super) async fn resolve(&mut self, trouble: Trouble) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let (address, primary, hold) = (open.address, open.primary, open.hold);
        drop(open.stream);
        let sealed = match trouble {
            Trouble::Planned { go_on } => {
                let chunk = (open.chunk, open.epoch);
                let closed = resolve::close(&self.reach, chunk, &address, go_on).await;
                closed.map(|closed| {
                    self.ahead = closed.next;
                    closed.sealed
                })
            }
            Trouble::Seal { reason, blame, cause } => {
                let (until, pause) = (Instant::now() + self.reach.options.retry_budget, Duration::ZERO);
                match &mut self.barren {
                    // The fence of a chunk says less than what other chunks failed for.
                    Some(_) if is_fence(&cause) => {}
                    Some(barren) => barren.cause = cause,
                    none => *none = Some(Barren { until, pause, cause }),
                }
                if blame {
                    self.avoid.push(primary);
                    self.reach.connections.forget(&address);
                }
                let blame = if blame { primary } else { 0 };
                resolve::seal(&self.reach, open.chunk, open.epoch, reason, blame).await
            }
        };
        let settled = match sealed {
            Ok(sealed) => self.settle(&sealed, open.base, hold).await,
            Err(error) => Err(error),
        };
        let Err(error) = settled else { return Ok(()) };
        self.undecided = Some(open.chunk);
        let error = if self.sent.is_empty() { error } else { error.with_kind(ErrorKind::Unknown) };
        self.fail(error.clone());
        Err(error)
    }

    /// Asks once more for the end of a chunk that was given up without it.
    async fn decide(&mut self) -> Result<()> {
        let Some(chunk) = self.undecided else { return Ok(()) };
        match resolve::seal(&self.reach, chunk, 0, "its end could not be had before", 0).await {
            // Sealed and collected already.
            Err(error) if error.fs() != Some(&FsError::NotFound) => Err(error),
            _ => {
                self.undecided = None;
                Ok(())
            }
        }
    }

    /// Answers what the sealed chunk holds; puts the rest back in front of what waits.
    async fn settle(&mut self, sealed: &v1::Chunk, base: u64, hold: Option<Hold>) -> Result<()> {
        let (last, last_offset) = resolve::decided(sealed, self.writer).unwrap_or((0, 0));
        let inside = self.sent.iter().take_while(|s| s.sequence <= last).count();
        if inside > 0 {
            self.barren = None;
        }
        let places = match (self.source, inside) {
            (_, 0) => None,
            (_, 1) => Some([(last, last_offset - base.min(last_offset))].into()),
            _ => Some(resolve::offsets(&self.reach, sealed, self.writer, self.acknowledged_end).await?),
        };
        for _ in 0..inside {
            let Some(sent) = self.sent.pop_front() else { break };
            let offset = places.as_ref().and_then(|p: &HashMap<u64, u64>| p.get(&sent.sequence));
            let placed = offset.map(|at| Placed {
                chunk: ChunkId(sealed.chunk),
                chunk_offset: *at,
                file_offset: base + at,
                hold: hold.clone(),
            });
            let missing = || {
                Error::new("resolve an append", "", Cause::MalformedAnswer("records"))
                    .with_kind(ErrorKind::Unknown)
            };
            self.answer(sent.pending, placed.ok_or_else(missing));
        }
        if let Some(first) = self.sent.front() {
            self.next = first.sequence;
        }
        while let Some(sent) = self.sent.pop_back() {
            self.waiting.push_front(sent.pending);
        }
        Ok(())
    }

    /// Ends the writer: everything under way and to come gets `error`.
    pub(super) fn fail(&mut self, error: Error) {
        self.open = None;
        let sent = std::mem::take(&mut self.sent).into_iter().map(|s| (s.pending, true));
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|p| (p, false));
        for (pending, was_sent) in sent.chain(waiting) {
            // A primary that fences a writer, or lacks what came before, has taken nothing.
            let refused = error.kind() == ErrorKind::Fenced || matches!(error.cause(), Cause::Lost { .. });
            let told = if was_sent && !refused {
                error.clone().with_kind(ErrorKind::Unknown)
            } else {
                error.clone()
            };
            self.answer(pending, Err(told));
        }
        // What the cluster could not take for now leaves the writer usable; the rest ends it.
        let transient = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Retry);
        if !transient {
            self.failed = Some(error);
            self.has_failed.store(true, Ordering::Relaxed);
        }
    }

    pub(super) async fn finish_rolls(&mut self) {
        if self.rolls.is_empty() || !self.sent.is_empty() || !self.waiting.is_empty() {
            return;
        }
        let outcome = if let Some(error) = &self.failed {
            Err(error.clone())
        } else if self.open.is_some() {
            self.resolve(Trouble::Planned { go_on: false }).await
        } else {
            self.decide().await
        };
        for reply in self.rolls.drain(..) {
            // The one who asked may be gone.
            let _ = reply.send(outcome.clone());
        }
    }
}

/// The error of a writer that found no chunk to take its appends within its budget.
pub(super) fn given_up(cause: Cause, budget: Duration) -> Error {
    let cause = match cause {
        // Its errno says that there is no space, its words where.
        full @ Cause::Service(ServiceError::DiskFull { .. }) => full,
        cause => Cause::RetriesUsedUp { seconds: budget.as_secs(), last: cause.to_string() },
    };
    Error::new("append", "", cause).with_kind(ErrorKind::Unavailable)
}

/// What a failed writer answers to appends that come later: why it failed.
pub(super) fn told_again(error: &Error) -> Error {
    match error.kind() {
        ErrorKind::Fenced | ErrorKind::Invalid => error.clone(),
        _ if matches!(error.cause(), Cause::Lost { .. }) => error.clone(),
        _ => Error::new("append", "", Cause::Poisoned(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_types::NodeId;

    #[test]
    fn a_full_disk_that_ends_a_writer_is_named_with_its_figures() {
        let full = ServiceError::DiskFull { node: NodeId(101), free_bytes: 4_096, capacity_bytes: 1 << 30 };
        let error = given_up(full.into(), Duration::from_secs(30));
        let said = error.to_string();
        for part in ["node-101", "4096 of 1073741824 bytes"] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Unavailable, FsError::NoSpace.errno()));
    }
}
