//! Fetching a run of bytes: one data node after the other, until one has them.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::ServiceError;
use cairn_proto::v1::{ReadRequest, StatusRequest, read_request};
use futures::future::{Either, select};
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::hedge::ReadKind;
use crate::trace::TraceId;
use crate::wire_stream;

/// How long a node may take at first to read from its own disk.
pub(crate) const FIRST_FROM_DISK: Duration = Duration::from_millis(500);
/// How long a node may take at first when it may have to ask S3.
pub(crate) const FIRST_FROM_S3: Duration = Duration::from_secs(2);
/// By how much that grows from round to round, up to the deadline of an RPC.
const GROWTH: u32 = 4;

/// How long the third round waits, and the most that a later one does.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// The least that a node is given, at the end of the budget.
const LEAST: Duration = Duration::from_millis(1);

/// A run of bytes, in the parts in which it came: who wants it in one copies it once, when it has all.
pub(crate) type Parts = Vec<Bytes>;

/// Where a run of bytes is.
pub(crate) struct Place {
    pub(crate) source: read_request::Source,
    /// In the source.
    pub(crate) offset: u64,
    /// Whom to ask, best first.
    pub(crate) nodes: Vec<String>,
    /// How long each may take in the first round.
    pub(crate) first: Duration,
}

/// Reads `length` bytes at `place`, which are those of a file from `file_offset` on.
///
/// In the first round each node of the place is asked and given a short time; in the second those
/// that were too slow, not reached or not able just now, with more time, and every other node that
/// is alive. A node that was not reached may be starting, under another address than was known: the
/// rounds go on, with pauses, for as long as one is silent and the retry budget lasts. An object that
/// changed ends the read at once.
///
/// When the first that is asked takes longer than reads usually do, the next is asked as well, once, and the
/// first answer taken.
///
/// All that are asked are told the trace id.
pub(crate) async fn fetch(
    client: &Client,
    place: Place,
    (file_offset, length): (u64, u64),
    trace: TraceId,
) -> Result<Parts> {
    let since = Instant::now();
    let outcome = rounds(client, place, (file_offset, length), trace).await;
    client.reach().slow.read(trace, since, (file_offset, length), outcome.is_err());
    outcome
}

async fn rounds(
    client: &Client,
    place: Place,
    (file_offset, length): (u64, u64),
    trace: TraceId,
) -> Result<Parts> {
    let options = &client.reach().options;
    let until = Instant::now() + options.retry_budget;
    let Place { source, offset, mut nodes, first } = place;
    let mut limit = first.min(options.rpc_deadline);
    let mut asked = nodes.clone();
    let mut pause = None;
    let mut last = Cause::Service(ServiceError::UnderStore);
    let (source, capability, trace) = (Some(source), Bytes::new(), trace.0);
    let request = ReadRequest { source, offset, length, capability, trace };
    let kind = ReadKind { bytes: length, may_be_in_s3: first == FIRST_FROM_S3 };
    let mut may_hedge = true;
    loop {
        client.suspects().put_last(&mut nodes);
        let (mut again, mut silent) = (Vec::new(), false);
        let mut nodes_left = VecDeque::from(nodes);
        while let Some(address) = nodes_left.pop_front() {
            let limit = limit.min(until.saturating_duration_since(Instant::now())).max(LEAST);
            let next = if may_hedge { nodes_left.front().cloned() } else { None };
            let asking = Asking { client, request: &request, kind, limit };
            let Asked { outcomes, hedged } = asking.ask(address, next).await;
            if hedged {
                may_hedge = false;
                nodes_left.pop_front();
            }
            for (address, outcome) in outcomes {
                let cause = match outcome {
                    Ok(bytes) => return Ok(bytes),
                    Err(cause) => cause,
                };
                tracing::debug!(address, %cause, "read failed, asking the next node");
                if matches!(cause, Cause::Service(ServiceError::ObjectChanged)) {
                    return Err(failed(cause, file_offset, length));
                }
                if cause.is_silence() {
                    client.suspects().add(&address);
                    silent = true;
                    again.push(address);
                } else if may_pass(&cause) {
                    again.push(address);
                }
                last = cause;
            }
        }
        let asked_all = pause.is_some();
        if (asked_all && !silent) || Instant::now() >= until {
            return Err(failed(last, file_offset, length));
        }
        nodes = again;
        limit = (limit * GROWTH).min(options.rpc_deadline);
        if let Some(pause) = pause {
            tokio::time::sleep_until(until.min(Instant::now() + pause)).await;
        }
        pause = Some(pause.map_or(PAUSE_FIRST, |pause: Duration| (pause * 2).min(PAUSE_MAX)));
        match client.alive_nodes(!asked_all).await {
            Ok(alive) => {
                let new: Vec<String> = alive.into_iter().filter(|address| !asked.contains(address)).collect();
                asked.extend_from_slice(&new);
                nodes.extend(new);
            }
            Err(error) if nodes.is_empty() => return Err(error),
            Err(error) => tracing::debug!(%error, "who else is alive is unknown"),
        }
    }
}

/// What is asked of a node, and how long it may take.
struct Asking<'a> {
    client: &'a Client,
    request: &'a ReadRequest,
    kind: ReadKind,
    limit: Duration,
}

/// What came of it: of each node that was asked, or of the first that had the bytes alone.
struct Asked {
    outcomes: Vec<(String, std::result::Result<Parts, Cause>)>,
    hedged: bool,
}

impl Asking<'_> {
    /// Asks `first`, and `next` as well when that takes long.
    async fn ask(&self, first: String, next: Option<String>) -> Asked {
        let mut asking = Box::pin(self.one(&first));
        let patience = self.client.pace().patience(self.kind);
        let mut soon = None;
        if next.is_some() && patience < self.limit {
            soon = tokio::time::timeout(patience, &mut asking).await.ok();
        }
        let hedge = next.filter(|_| soon.is_none() && patience < self.limit);
        let Some(next) = hedge.filter(|_| self.client.pace().may_hedge()) else {
            let outcome = match soon {
                Some(outcome) => outcome,
                None => asking.await,
            };
            return Asked { outcomes: vec![(first.clone(), outcome)], hedged: false };
        };
        tracing::debug!(first, next, ?patience, "a read is slow, asking the next node as well");
        let outcomes = match select(asking, Box::pin(self.one(&next))).await {
            Either::Left((Ok(bytes), _)) => vec![(first.clone(), Ok(bytes))],
            Either::Right((Ok(bytes), _)) => {
                // Where S3 may have been asked, that was slow, and not the node.
                if !self.kind.may_be_in_s3 {
                    self.client.suspects().add(&first);
                }
                vec![(next.clone(), Ok(bytes))]
            }
            Either::Left((Err(cause), other)) => {
                let other = other.await;
                vec![(first.clone(), Err(cause)), (next.clone(), other)]
            }
            Either::Right((Err(cause), other)) => {
                let other = other.await;
                vec![(next.clone(), Err(cause)), (first.clone(), other)]
            }
        };
        Asked { outcomes, hedged: true }
    }

    async fn one(&self, address: &str) -> std::result::Result<Parts, Cause> {
        let since = Instant::now();
        let read = read_from(self.client, address, self.request.clone(), self.limit);
        let outcome = match tokio::time::timeout(self.limit, read).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ServiceError::Deadline.into()),
        };
        if outcome.is_ok() {
            self.client.suspects().forgive(address);
            self.client.pace().note(self.kind, since.elapsed());
        }
        outcome
    }
}

/// The error of a read that nobody answers. A node's advice to ask another one was followed.
fn failed(cause: Cause, file_offset: u64, length: u64) -> Error {
    let error = Error::new("read", format!("bytes {file_offset}+{length}"), cause);
    let kind = error.kind();
    if matches!(kind, ErrorKind::Unknown | ErrorKind::RetryElsewhere) {
        error.with_kind(ErrorKind::Unavailable)
    } else {
        error
    }
}

/// True when the node could not just now.
fn may_pass(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::Service(ServiceError::Overloaded | ServiceError::UnderStore | ServiceError::Stopping)
    )
}

async fn read_from(
    client: &Client,
    address: &str,
    request: ReadRequest,
    limit: Duration,
) -> std::result::Result<Parts, Cause> {
    let (from, length) = (request.offset, request.length);
    let mut frames = wire_stream::read(&client.reach().connections, address, request, limit).await?;
    let (mut parts, mut came) = (Parts::new(), 0);
    while let Some(frame) = frames.next().await.transpose()? {
        if crc32c::crc32c(&frame.data) != frame.crc32c {
            return Err(ServiceError::ChecksumMismatch.into());
        }
        if frame.offset != from + came {
            return Err(Cause::MalformedAnswer("frame.offset"));
        }
        came += frame.data.len() as u64;
        if came > length {
            return Err(Cause::MalformedAnswer("frame.data"));
        }
        parts.push(frame.data);
        if came == length {
            // The end, as a rule, is there as well: then nobody needs to be told that no more is wanted.
            let _ = frames.next().now_or_never();
            return Ok(parts);
        }
    }
    if came == length { Ok(parts) } else { Err(Cause::MalformedAnswer("read.length")) }
}

/// The addresses of the data nodes that are alive.
pub(crate) async fn alive_nodes(client: &Client) -> Result<Vec<String>> {
    let status = client
        .reach()
        .leader
        .call_within(
            Duration::from_secs(5),
            "find data nodes",
            "",
            StatusRequest {},
            |mut meta, request| async move { meta.status(request).await },
        )
        .await?;
    Ok(status.nodes.into_iter().filter(|n| n.alive).map(|n| n.address).collect())
}
