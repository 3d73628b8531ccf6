//! How a primary opens its chunk (rule R1): the committed activation is fetched, the chunk's record
//! becomes durable on every replica, and only then is anything taken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cairn_proto::{ServiceError, WireError, v1};
use cairn_types::{Chain, ChunkId, Epoch, FsError, Generation, InodeId, NodeId, WriterMark};
use futures::StreamExt;
use futures::stream::{FuturesOrdered, SelectAll};
use prost::Message;
use tokio::time::timeout;

use super::committed::Committed;
use super::context::Context;
use super::contexts::Contexts;
use super::link::{Link, Progress, Said};
use super::primary::{Closing, Member, Primary};
use super::seal::Reason;
use super::ticket::Room;
use super::writers::Writers;
use super::{record, refusal};

/// How long the replicas of a new chunk may take to make its record durable.
const CREATE: Duration = Duration::from_millis(3_000);
/// `v1::Policy::persist` of what never goes to S3.
const PERSIST_NEVER: u32 = 2;

/// Why a chunk was not opened.
#[derive(Debug)]
pub enum NotOpened {
    /// It is not this node's to open, or its state is not known.
    Refused(WireError),
    /// It is this node's, and it cannot be made on every replica: it must be sealed.
    Trouble {
        /// The epoch it is open in.
        epoch: Epoch,
        /// Why.
        reason: Reason,
        /// Whose fault it is.
        blame: Option<NodeId>,
    },
}

/// Opens `chunk` on the disk that is its primary. Others see its committed length in `committed`.
pub async fn open(
    contexts: &Contexts,
    chunk: ChunkId,
    committed: Arc<Committed>,
) -> Result<Primary, NotOpened> {
    let fenced = || NotOpened::Refused(ServiceError::ChunkFenced { chunk }.into());
    let shared = contexts.first();
    let is_spare = shared.spares.has(chunk);
    // A replica that is here without its primary was left by one that gave up, or by a process
    // before this one: nobody goes on with it (R6). A spare of this process waits for its activation.
    let left = contexts.with(chunk).filter(|_| !is_spare).and_then(|context| context.store.chunk(chunk));
    if let Some(view) = left {
        let primary = v1::Chunk::decode(view.record).map(|record| NodeId(record.primary));
        let elsewhere = primary.is_ok_and(|primary| contexts.node(primary).is_none());
        let refused =
            if elsewhere { NotOpened::Refused(ServiceError::NotPrimary { chunk }.into()) } else { fenced() };
        return Err(refused);
    }
    let found = match shared.spares.activation(chunk) {
        Some(activated) => activated,
        None => shared.metadata.get_chunk(chunk).await.map_err(|e| NotOpened::Refused(absent(chunk, e)))?,
    };
    let context = check(contexts, &found).map_err(|error| NotOpened::Refused(error.into()))?;
    let prepared = if is_spare {
        context.spares.take(chunk).ok_or_else(fenced)?
    } else {
        let mut prepared = connect(context, &found)?;
        make_everywhere(context, &found, &mut prepared).await?;
        prepared
    };
    activate(context, &found, prepared, committed)
}

/// Makes the chunk's record durable here and on every other replica.
pub(super) async fn make_everywhere(
    context: &Arc<Context>,
    found: &v1::Chunk,
    prepared: &mut Prepared,
) -> Result<(), NotOpened> {
    let (chunk, epoch) = (ChunkId(found.chunk), Epoch(found.epoch));
    let trouble = |reason, blame| NotOpened::Trouble { epoch, reason, blame };
    let spec = record::spec(found, context.store.incarnation())
        .map_err(|bad| NotOpened::Refused(ServiceError::from(bad).into()))?;
    // Both at once: nothing is taken before both are durable.
    let here = context.store.create(spec);
    let there = created_there(context, prepared, found);
    let (here, there) = tokio::join!(here, timeout(CREATE, there));
    if let Err(error) = here {
        tracing::warn!(chunk = chunk.0, %error, "create a replica");
        let refused = refusal::of_change(context.node, &error);
        return match refused {
            WireError::Service(ServiceError::ChunkFenced { .. }) => Err(NotOpened::Refused(refused)),
            refused => Err(trouble(Reason::of(&refused, Reason::Disk), Some(context.node))),
        };
    }
    match there {
        Ok(Ok(())) => Ok(()),
        Ok(Err(blame)) => Err(trouble(Reason::Broken, Some(blame))),
        Err(_) => Err(trouble(Reason::Slow, prepared.members.last().map(|member| member.node))),
    }
}

/// What a chunk that the metadata does not know, or gave up, is to whoever asks for it here.
pub fn absent(chunk: ChunkId, error: WireError) -> WireError {
    match error {
        WireError::Fs(FsError::NotFound | FsError::ChunkGone { .. } | FsError::ChunkState { .. }) => {
            ServiceError::NoSuchChunk { chunk }.into()
        }
        error => error,
    }
}

/// Checks that the activation is committed and names a disk of this process as the primary; answers that disk.
///
/// # Errors
/// [`ServiceError::NotPrimary`]; [`ServiceError::ChunkFenced`] when it is not open, or to another process.
pub fn check<'c>(contexts: &'c Contexts, found: &v1::Chunk) -> Result<&'c Arc<Context>, ServiceError> {
    let chunk = ChunkId(found.chunk);
    let context = contexts.node(NodeId(found.primary)).ok_or(ServiceError::NotPrimary { chunk })?;
    let open = found.state() == v1::ChunkState::Open && found.activation.is_some();
    let open = open && Epoch(found.epoch) == record::OPENED;
    if open && is_primary(context, found) { Ok(context) } else { Err(ServiceError::ChunkFenced { chunk }) }
}

/// True when the record names this process as the chunk's primary.
pub(super) fn is_primary(context: &Context, found: &v1::Chunk) -> bool {
    let own = found.replicas.iter().find(|replica| replica.node == context.node.0);
    let same_process = own.is_some_and(|own| own.incarnation == context.store.incarnation().0);
    found.primary == context.node.0 && same_process
}

/// A chunk's set, this node first, and the ways to the others.
pub(super) struct Prepared {
    pub(super) members: Vec<Member>,
    pub(super) links: Vec<Link>,
    pub(super) said: SelectAll<Said>,
}

/// Opens the ways to the other replicas of a chunk.
pub(super) fn connect(context: &Context, found: &v1::Chunk) -> Result<Prepared, NotOpened> {
    let mut members = vec![Member { node: context.node, durable: 0, closed: false }];
    let mut links = Vec::new();
    let mut said: SelectAll<Said> = SelectAll::new();
    for replica in found.replicas.iter().filter(|replica| replica.node != context.node.0) {
        let node = NodeId(replica.node);
        let (link, answers) =
            Link::open(&context.peers, replica, members.len(), Room::MESSAGES_MAX).map_err(|_| {
                NotOpened::Trouble { epoch: Epoch(found.epoch), reason: Reason::Broken, blame: Some(node) }
            })?;
        members.push(Member { node, durable: 0, closed: false });
        links.push(link);
        said.push(answers);
    }
    Ok(Prepared { members, links, said })
}

/// The primary of a chunk that every replica has, by its activation.
fn activate(
    context: &Arc<Context>,
    found: &v1::Chunk,
    Prepared { members, links, said }: Prepared,
    committed: Arc<Committed>,
) -> Result<Primary, NotOpened> {
    let chunk = ChunkId(found.chunk);
    let fenced = || NotOpened::Refused(ServiceError::ChunkFenced { chunk }.into());
    let activation = found.activation.as_ref().ok_or_else(fenced)?;
    let policy = found.policy.as_ref().ok_or_else(fenced)?;
    let marks: Vec<WriterMark> = found.marks.iter().map(WriterMark::from).collect();
    Ok(Primary {
        context: Arc::clone(context),
        chunk,
        epoch: Epoch(found.epoch),
        ino: InodeId(activation.ino),
        base: activation.base,
        generation: Generation(activation.generation),
        length: 0,
        chain: Chain(0),
        committed,
        members,
        links,
        said,
        stored: FuturesOrdered::new(),
        writers: Writers::carried(&marks),
        waiting: VecDeque::new(),
        repeats: Vec::new(),
        parked: VecDeque::new(),
        grant_bytes: activation.grant_bytes,
        renewal: None,
        renew_ahead: true,
        told: 0,
        closing: Closing::No,
        closers: Vec::new(),
        min_replicas: usize::try_from(policy.min_replicas).unwrap_or(usize::MAX),
        grows_old: spare_at(policy).map(|after| context.clock.boottime().saturating_add(after)),
        next_asked: false,
        taken: context.clock.boottime(),
        goes_on: false,
    })
}

/// The age at which a chunk's spare is made: a tail is closed at half of its lag.
fn spare_at(policy: &v1::Policy) -> Option<Duration> {
    (policy.persist != PERSIST_NEVER).then(|| Duration::from_millis(policy.max_lag_ms / 8 * 3))
}

/// Sends the creation to every secondary and waits until each has it durable; else whom to blame.
async fn created_there(context: &Context, prepared: &mut Prepared, found: &v1::Chunk) -> Result<(), NodeId> {
    let incarnation_of =
        |node: NodeId| found.replicas.iter().find(|r| r.node == node.0).map_or(0, |r| r.incarnation);
    for link in &prepared.links {
        let create = v1::CreateReplica {
            chunk: Some(found.clone()),
            primary_incarnation: context.store.incarnation().0,
            replica_incarnation: incarnation_of(link.node),
        };
        if !link.send(v1::replicate_request::Message::Create(create)) {
            return Err(link.node);
        }
    }
    let mut missing = prepared.links.len();
    while missing > 0 {
        match prepared.said.next().await {
            Some((_, Progress::Created)) => missing -= 1,
            Some((place, said)) => {
                let node = prepared.members.get(place).map_or(context.node, |member| member.node);
                tracing::warn!(chunk = found.chunk, node = node.0, ?said, "create a replica");
                return Err(node);
            }
            None => return Err(context.node),
        }
    }
    Ok(())
}
