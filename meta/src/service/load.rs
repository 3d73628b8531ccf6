//! `Load`: a dump becomes the namespace, step by step, each in bounded entries of the log.

use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{ClusterId, LogIndex};

use super::Context;
use super::call::malformed;
use crate::dump::{self, DumpReader};
use crate::keys::loads::LoadId;
use crate::namespace::facts::{Disks, FACTS_PER_ENTRY_MAX, Fact, Fate, holds_nothing};
use crate::namespace::{Command, jobs, read};
use crate::node::Consistency;

/// Takes one step, and answers how the load stands after it.
pub async fn load(
    ctx: &Context,
    request: v1::LoadRequest,
    deadline: Duration,
) -> Result<v1::LoadReply, WireError> {
    use v1::load_request::Step;
    let mut look = false;
    match request.step.ok_or_else(|| malformed("step"))? {
        Step::Look(_) => look = true,
        Step::Begin(begin) => {
            let load = load_id(begin.load)?;
            let header = DumpReader::open(&begin.header[..]).map_err(|_| malformed("header"))?;
            let (next, time) = (header.header().next, header.header().time_ns);
            tracing::warn!(?load, "the load of a dump begins: clients change nothing until it has ended");
            propose(ctx, Command::BeginLoad { load, next, time }, deadline).await?;
        }
        Step::Lines(lines) => load_lines(ctx, lines, deadline).await?,
        Step::End(end) => {
            let load = load_id(end.load)?;
            propose(ctx, Command::EndLoad { load }, deadline).await?;
            tracing::warn!(?load, "a dump is loaded");
            ctx.tenure()?.stir();
        }
        Step::Discard(_) => propose(ctx, Command::DiscardLoad, deadline).await?,
    }
    let view = ctx.node.read(Consistency::Linearizable).await?;
    let record = read::load(&*view.store).map_err(super::fault)?;
    let empty = look && holds_nothing(&*view.store).map_err(super::fault)?;
    Ok(v1::LoadReply {
        load: record.as_ref().map(|record| wire(record.load)),
        loaded: record.as_ref().map_or(0, |record| record.loaded),
        discarding: record.is_some_and(|record| record.discarding),
        empty,
    })
}

async fn propose(ctx: &Context, command: Command, deadline: Duration) -> Result<(), WireError> {
    let (_, reply) = ctx.node.propose_internal(command, deadline).await?;
    Ok(reply.map(drop)?)
}

async fn load_lines(ctx: &Context, lines: v1::LoadLines, deadline: Duration) -> Result<(), WireError> {
    let load = load_id(lines.load)?;
    let disks = {
        let view = ctx.node.read(Consistency::Linearizable).await?;
        let nodes = jobs::nodes(&*view.store).map_err(super::fault)?;
        nodes.into_iter().map(|node| (node.disk, node.node)).collect::<Disks>()
    };
    let lines_of = lines.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let facts = lines_of.map(|line| {
        let fact = dump::fact(line).map_err(|_| malformed("lines"))?;
        settled(fact, &disks, lines.accept_loss)
    });
    let facts = facts.collect::<Result<Vec<Option<Fact>>, WireError>>()?;
    let mut first = lines.first;
    for facts in facts.chunks(FACTS_PER_ENTRY_MAX) {
        propose(ctx, Command::LoadFacts { load, first, facts: facts.to_vec() }, deadline).await?;
        first += facts.len() as u64;
    }
    Ok(())
}

/// A fact as it is in this cluster; `None` for a chunk that nobody needs.
fn settled(mut fact: Fact, disks: &Disks, accept_loss: bool) -> Result<Option<Fact>, WireError> {
    if let Fact::Chunk(chunk) = &mut fact {
        let id = chunk.chunk;
        match chunk.settle(disks) {
            Fate::Kept => {}
            Fate::Unneeded => return Ok(None),
            Fate::Lost if !accept_loss => return Err(ServiceError::NothingLeft { chunk: id }.into()),
            Fate::Lost => {
                tracing::warn!(chunk = %id, "an operator accepted the loss of a chunk with the load of a dump");
                metrics::counter!("cairn_meta_losses_accepted_total").increment(1);
                if !chunk.end() {
                    return Ok(None);
                }
            }
        }
    }
    Ok(Some(fact))
}

fn load_id(id: Option<v1::LoadId>) -> Result<LoadId, WireError> {
    let id = id.ok_or_else(|| malformed("load"))?;
    let cluster = ClusterId::from_bytes(&id.cluster_id).ok_or_else(|| malformed("load.cluster_id"))?;
    Ok(LoadId { cluster, log_index: LogIndex(id.log_index), facts: id.facts, crc32c: id.crc32c })
}

fn wire(id: LoadId) -> v1::LoadId {
    v1::LoadId {
        cluster_id: id.cluster.0.to_vec().into(),
        log_index: id.log_index.0,
        facts: id.facts,
        crc32c: id.crc32c,
    }
}
