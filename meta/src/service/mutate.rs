//! `Mutate` and `MutateAll`: every change of the namespace, once for each (session, sequence).

use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::limits::{GRANT_BYTES_FIRST, MUTATIONS_MAX};
use cairn_types::{ChunkId, FsError, InodeId, NodeId, Policy};
use tonic::Status;

use super::Context;
use super::call::malformed;
use super::decode::{self, Mutation};
use super::unread;
use crate::keys::chunks::{ChunkOwner, ChunkState};
use crate::keys::sessions;
use crate::leader::lag::{self, Given, Room};
use crate::leader::{Tenure, placement};
use crate::namespace::{Answer, Command, Operation, Placement, read};
use crate::store::{Rows, Table};
use crate::trace::{self, About};

type Outcome = Result<v1::MutateReply, WireError>;

/// `Mutate`: one change.
pub async fn mutate(ctx: &Context, request: v1::MutateRequest, deadline: Duration) -> Outcome {
    let outcomes = all(ctx, vec![request], deadline).await?;
    outcomes.into_iter().next().unwrap_or(Err(ServiceError::Internal.into()))
}

/// `MutateAll`: several changes, each with its own outcome.
pub async fn mutate_all(
    ctx: &Context,
    request: v1::MutateAllRequest,
    deadline: Duration,
) -> Result<v1::MutateAllReply, WireError> {
    if !(1..=MUTATIONS_MAX).contains(&request.requests.len()) {
        return Err(malformed("requests"));
    }
    let outcomes = all(ctx, request.requests, deadline).await?;
    let outcomes = outcomes.into_iter().map(|outcome| {
        let outcome = match outcome {
            Ok(reply) => v1::mutate_outcome::Outcome::Reply(reply),
            Err(error) => v1::mutate_outcome::Outcome::Refusal(Status::from(error).into()),
        };
        v1::MutateOutcome { outcome: Some(outcome) }
    });
    Ok(v1::MutateAllReply { outcomes: outcomes.collect() })
}

/// Decodes, places, proposes in one append, answers.
async fn all(
    ctx: &Context,
    requests: Vec<v1::MutateRequest>,
    deadline: Duration,
) -> Result<Vec<Outcome>, WireError> {
    let tenure = ctx.tenure()?;
    if let Some(first) = requests.first() {
        let (session, sequence) = (first.session, first.sequence);
        trace::note(About { session, sequence, ..About::default() });
    }
    let mut commands = Vec::with_capacity(requests.len());
    let mut take = |(command, pause)| {
        commands.push(command);
        pause
    };
    let mut taken: Vec<Result<Duration, WireError>> = Vec::with_capacity(requests.len());
    for request in requests {
        let command = match command(&tenure, request) {
            Ok((command, pause)) => unread::check(ctx, &tenure, &command).await.map(|()| (command, pause)),
            Err(refused) => Err(refused),
        };
        taken.push(command.map(&mut take));
    }
    let proposed = match commands.is_empty() {
        true => Vec::new(),
        false => ctx.node.propose_all(commands, deadline).await?,
    };
    let mut proposed = proposed.into_iter();
    let outcomes = taken.into_iter().map(|taken| -> Outcome {
        let pause = taken?;
        let (index, reply) = proposed.next().ok_or(ServiceError::Internal)??;
        let answer = reply?;
        follow(&tenure, &answer);
        // The change is made: what is met on the way back must not read as its refusal. The reply
        // is kept.
        let reply = encode(ctx, &tenure, index, answer);
        let pause_ms = u32::try_from(pause.as_millis()).unwrap_or(u32::MAX);
        reply.map(|reply| v1::MutateReply { pause_ms, ..reply }).map_err(|error| {
            tracing::debug!(%error, index = index.0, "an answer is lost");
            ServiceError::AnswerLost.into()
        })
    });
    Ok(outcomes.collect())
}

/// The entry that a request asks for, decoded and placed, and how long who asks shall wait afterwards.
fn command(tenure: &Tenure, request: v1::MutateRequest) -> Result<(Command, Duration), WireError> {
    let mut mutation = decode::mutation(request)?;
    tenure.leases.renew(mutation.session);
    let pause = place(tenure, &mut mutation)?;
    let Mutation { session, sequence, acknowledged_below, operation, .. } = mutation;
    Ok((Command::Request { session, sequence, acknowledged_below, operation }, pause))
}

/// What the leader does at once about an answer: a chunk that is to be sealed is sealed.
fn follow(tenure: &Tenure, answer: &Answer) {
    if let Some(chunk) = answer.chunk.as_ref().filter(|c| c.state == ChunkState::Sealing) {
        tenure.seals.ask(chunk.chunk);
    }
}

/// Fills in the placement of a chunk that is to be opened, and looks whether there is room for it
/// or for a larger grant. Answers how long to wait before that room is used.
///
/// A refusal here is not the state's and is not kept: the same sequence may be sent again. So a
/// sequence that has its reply already, or a tail that is open, is never refused here.
fn place(tenure: &Tenure, mutation: &mut Mutation) -> Result<Duration, WireError> {
    let (of, tail) = match &mutation.operation {
        Operation::OpenChunk { policy_of, .. } => (*policy_of, false),
        Operation::OpenTail { ino, .. } => (*ino, true),
        Operation::RenewGrant { chunk, grant_bytes, .. } => {
            let Some(given) = room_for_grant(tenure, mutation, *chunk, *grant_bytes)? else {
                return Ok(Duration::ZERO);
            };
            if let Operation::RenewGrant { grant_bytes, .. } = &mut mutation.operation {
                *grant_bytes = given.bytes;
            }
            return Ok(given.pause);
        }
        _ => return Ok(Duration::ZERO),
    };
    let view = tenure.local()?;
    let store = &*view.store;
    if is_answered(store, mutation)? {
        return Ok(Duration::ZERO);
    }
    // What is wrong with the inode the state machine says itself.
    let Some(ground) = ground(store, of)? else { return Ok(Duration::ZERO) };
    let mut pause = Duration::ZERO;
    let chosen = if tail && ground.has_tail {
        // It may be sealed before this is applied: the placement is used then, and without one the
        // refusal would be the state's, and kept.
        choose(tenure, &ground.policy, &mutation.avoid).unwrap_or_default()
    } else {
        let tail_of = tail.then_some(of);
        let room = Room { tail_of, opened: None, granted: 0, wanted: GRANT_BYTES_FIRST };
        pause = within_lag(tenure, &ground.policy, room)?.pause;
        choose(tenure, &ground.policy, &mutation.avoid)?
    };
    if let Operation::OpenChunk { placement, .. } | Operation::OpenTail { placement, .. } =
        &mut mutation.operation
    {
        *placement = chosen;
    }
    Ok(pause)
}

/// Refuses a larger grant where a new chunk would be refused (append protocol R13). The primary
/// rolls the chunk then, and its writer hears the refusal with its numbers at the next one. `None` when
/// there is nothing to look at.
fn room_for_grant(
    tenure: &Tenure,
    mutation: &Mutation,
    chunk: ChunkId,
    wanted: u64,
) -> Result<Option<Given>, WireError> {
    let view = tenure.local()?;
    let store = &*view.store;
    if is_answered(store, mutation)? {
        return Ok(None);
    }
    // What is wrong with the chunk the state machine says itself.
    let record = read::chunk(store, chunk).map_err(super::fault)?;
    let Some(record) = record.filter(|r| r.state == ChunkState::Open) else { return Ok(None) };
    let tail_of = match record.owner {
        ChunkOwner::Tail { ino, .. } => Some(ino),
        ChunkOwner::Session(_) => None,
    };
    let (opened, granted) = (Some(record.activation.time), record.activation.grant_bytes);
    within_lag(tenure, &record.policy, Room { tail_of, opened, granted, wanted }).map(Some)
}

/// True when the request's reply is kept already.
fn is_answered(rows: &dyn Rows, mutation: &Mutation) -> Result<bool, WireError> {
    let reply = sessions::reply_key(mutation.session, mutation.sequence);
    let kept = rows.get(Table::Replies, &reply);
    Ok(kept.map_err(|error| super::fault(crate::keys::RowFault::from(error)))?.is_some())
}

fn within_lag(tenure: &Tenure, policy: &Policy, room: Room) -> Result<Given, WireError> {
    let given = lag::give(tenure, policy, room).map_err(super::fault)?;
    match &given {
        Ok(given) if !given.pause.is_zero() => tenure.lag_told.slowed(),
        Ok(_) => {}
        Err(_) => tenure.lag_told.refused(),
    }
    Ok(given?)
}

struct Ground {
    policy: Policy,
    has_tail: bool,
}

/// The policy in force at an inode; `None` when the inode is gone.
fn ground(rows: &dyn Rows, ino: InodeId) -> Result<Option<Ground>, WireError> {
    let found = read::stat(rows, &crate::namespace::Target::ino(ino));
    match found {
        Ok(stat) => Ok(Some(Ground { policy: stat.policy, has_tail: stat.inode.tail.is_some() })),
        Err(crate::namespace::NamespaceError::Refused(_)) => Ok(None),
        Err(error) => Err(super::refusal(error)),
    }
}

fn choose(tenure: &Tenure, policy: &Policy, avoid: &[NodeId]) -> Result<Option<Placement>, FsError> {
    let candidates = tenure.registry.candidates(avoid);
    let nodes = placement::choose(&candidates, &[], policy, tenure.random.next_u64())?;
    let replicas: Vec<_> = nodes.iter().filter_map(|n| tenure.registry.placed(*n)).collect();
    Ok(nodes.first().map(|primary| Placement { replicas, primary: *primary }))
}

fn encode(
    ctx: &Context,
    tenure: &Tenure,
    index: cairn_types::LogIndex,
    answer: Answer,
) -> Result<v1::MutateReply, WireError> {
    // Only chunks need the state, and a view of it costs RocksDB's lock.
    let chunk = match &answer.chunk {
        Some(chunk) => Some(ctx.wire_chunk(&*tenure.local()?.store, chunk)?),
        None => None,
    };
    Ok(v1::MutateReply {
        log_index: index.0,
        inode: answer.inode.as_ref().map(v1::Inode::from),
        chunk,
        generation: answer.generation.map(|g| g.0),
        intent: answer.intent.map(|i| i.0),
        mount: answer.mount.map(|m| m.0),
        transact: (!answer.steps.is_empty()).then(|| steps(&answer)),
        lock: answer.lock.map(super::lock::reply),
        pause_ms: 0,
    })
}

fn steps(answer: &Answer) -> v1::TransactReply {
    let inode = |step: &Option<cairn_types::Inode>| step.as_ref().map(v1::Inode::from);
    v1::TransactReply {
        steps: answer.steps.iter().map(|step| v1::StepReply { inode: inode(step) }).collect(),
    }
}
