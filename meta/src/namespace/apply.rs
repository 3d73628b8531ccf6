//! [`apply`]: the state machine's one way in.

use cairn_types::limits::REPLIES_PER_SESSION_MAX;
use cairn_types::{
    FileKind, FsError, Incarnation, LockOwner, LogIndex, NodeId, Sequence, SessionId, Timestamp,
};

use super::bounds::Bounds;
use super::command::{Command, Entry};
use super::error::{NamespaceError, Outcome, refuse};
use super::memory::Memory;
use super::operation::{Operation, TimeChange};
use super::ops::{
    clone, cluster, commit, compact, concat, copy_range, create, deny, drain, follow, import, intent, level,
    link, load, lock, merge, mkdir, mknod, mount, node, object, object_changed, open, pack, probe, punch_hole,
    purge, put, remove_tree, rename, repair, replica, rmdir, seal, server, session, set_attr, set_policy, spare, symlink, transact, unlink, xattr,
};
use super::reply::{Answer, Reply};
use super::state::{Birth, State};
use crate::keys::RowFault;
use crate::keys::disks::DiskRecord;
use crate::keys::sessions::{self, SessionRecord};
use crate::store::{Rows, Table, Txn};

/// Applies one committed entry and answers what every server answers. The changes are in `txn`,
/// to be written with the raft layer's own rows in one batch.
///
/// # Errors
/// [`RowFault`] when this server's state cannot be read: it must stop, and write nothing of `txn`.
pub fn apply(txn: &mut Txn<'_>, index: LogIndex, entry: &Entry) -> Result<Reply, RowFault> {
    apply_within(txn, index, entry, Bounds::default())
}

/// As [`apply`], under other bounds: for tests, which reach a small bound sooner.
///
/// # Errors
/// As [`apply`].
pub fn apply_within(
    txn: &mut Txn<'_>,
    index: LogIndex,
    entry: &Entry,
    bounds: Bounds,
) -> Result<Reply, RowFault> {
    apply_after(txn, &mut Memory::default(), index, entry, bounds)
}

/// As [`apply_within`], with what is remembered from the entries before.
///
/// # Errors
/// As [`apply`].
pub fn apply_after(
    txn: &mut Txn<'_>,
    memory: &mut Memory,
    index: LogIndex,
    entry: &Entry,
    bounds: Bounds,
) -> Result<Reply, RowFault> {
    let mut state = State::begin(txn, memory, index, entry.time, bounds)?;
    let reply = match &entry.command {
        command if load::is_in_the_way(&state, command)? => Err(FsError::Loading),
        Command::Request { session, sequence, acknowledged_below, operation } => {
            request(&mut state, (*session, *sequence), *acknowledged_below, operation)?
        }
        command => {
            let outcome = execute(&mut state, command);
            settle(&mut state, outcome)?
        }
    };
    state.keep(memory)?;
    Ok(reply)
}

/// Turns an outcome into a reply; what was refused leaves no row.
fn settle(state: &mut State<'_, '_>, outcome: Outcome<Answer>) -> Result<Reply, RowFault> {
    let outcome = outcome.and_then(|answer| {
        state.check_rows()?;
        Ok(answer)
    });
    match outcome {
        Ok(answer) => Ok(Ok(answer)),
        Err(NamespaceError::Refused(error)) => {
            state.forget();
            Ok(Err(error))
        }
        Err(NamespaceError::Fault(fault)) => Err(fault),
    }
}

/// A client's operation, once for each sequence.
fn request(
    state: &mut State<'_, '_>,
    (id, sequence): (SessionId, Sequence),
    acknowledged_below: Sequence,
    operation: &Operation,
) -> Result<Reply, RowFault> {
    let record = match admit(state, id, sequence, acknowledged_below) {
        Err(NamespaceError::Refused(error)) => return Ok(Err(error)),
        Err(NamespaceError::Fault(fault)) => return Err(fault),
        Ok(record) => record,
    };
    if let Some(reply) = session::kept_reply(state, id, sequence)? {
        return Ok(reply);
    }
    if record.checked {
        state.caller = Some(session::credentials(state, id)?);
    }
    let outcome = operate(state, id, operation);
    let reply = settle(state, outcome)?;
    finish(state, record, sequence, acknowledged_below, reply)
}

/// Checks that the request may run, or that its reply may still be kept. Answers the session's record,
/// which no operation changes.
fn admit(
    state: &State<'_, '_>,
    id: SessionId,
    sequence: Sequence,
    acknowledged_below: Sequence,
) -> Outcome<SessionRecord> {
    let record = session::living(state, id)?;
    if sequence < record.acknowledged_below {
        return refuse(FsError::StaleSequence { sequence });
    }
    if acknowledged_below > sequence {
        return refuse(FsError::InvalidRequest);
    }
    let room = (record.replies as usize) < REPLIES_PER_SESSION_MAX;
    if room || session::kept_reply(state, id, sequence)?.is_some() {
        return Ok(record);
    }
    let freed = sessions::replies_between(id, record.acknowledged_below, acknowledged_below);
    let makes_room = !state.txn.scan(Table::Replies, &freed, 1)?.is_empty();
    if makes_room { Ok(record) } else { refuse(FsError::TooManyReplies) }
}

/// Drops acknowledged replies and keeps this one.
fn finish(
    state: &mut State<'_, '_>,
    mut record: SessionRecord,
    sequence: Sequence,
    acknowledged_below: Sequence,
    reply: Reply,
) -> Result<Reply, RowFault> {
    session::drop_replies(state, &mut record, acknowledged_below)?;
    session::keep_reply(state, record, sequence, &reply);
    Ok(reply)
}

/// What the cluster itself proposes.
fn execute(state: &mut State<'_, '_>, command: &Command) -> Outcome<Answer> {
    match command {
        Command::InitCluster { cluster, policy } => cluster::init(state, *cluster, *policy),
        Command::OpenSession { client } => session::open(state, client, None),
        Command::OpenSessionAs { client, credentials } => session::open(state, client, Some(credentials)),
        Command::CloseSession { session } | Command::ExpireSession { session } => {
            session::end(state, *session)
        }
        Command::OpenHolder { client, credentials } => {
            session::open_holder(state, client, credentials.as_ref())
        }
        Command::Deny { answers } => deny::deny(state, answers),
        Command::DecideUnlinked {} => deny::decide(state),
        Command::Acknowledge { session, below } => session::acknowledge(state, *session, *below),
        Command::Request { .. } => refuse(FsError::InvalidRequest),
        Command::RegisterNode { disk, address, incarnation, boot_id, capacity_bytes, version } => {
            let record = DiskRecord {
                disk: *disk,
                node: NodeId(0),
                address: address.clone(),
                incarnation: Incarnation(incarnation.0),
                boot_id: *boot_id,
                capacity_bytes: *capacity_bytes,
                version: version.clone(),
                retired: false,
                registered: Timestamp(0),
                zone: String::new(),
                host: String::new(),
                drain: None,
            };
            node::register(state, record)
        }
        Command::RegisterNodeIn { .. }
        | Command::DrainNode { .. }
        | Command::UndrainNode { .. }
        | Command::ReleaseReplicas { .. }
        | Command::EndDrain { .. } => execute_node(state, command),
        Command::RetireDisk { disk } => node::retire(state, *disk),
        Command::RemoveNode { node, incarnation } => node::remove(state, *node, *incarnation),
        Command::EndRemoval { node } => node::end_removal(state, *node),
        Command::AdmitServer { node, directory } => server::admit(state, *node, *directory),
        Command::RetireServer { node } => server::retire(state, *node),
        Command::RaiseLevel { to } => level::raise(state, *to),
        Command::Probe => level::probe(),
        Command::RenewGrant { chunk, epoch, grant_bytes } => {
            open::renew_grant(state, *chunk, *epoch, *grant_bytes)
        }
        Command::AddHolder { chunk, node } => replica::add_holder(state, *chunk, *node),
        Command::DropReplica { chunk, node } => replica::drop_replica(state, *chunk, *node),
        Command::StrikeReplicas { node, chunks } => replica::strike(state, *node, chunks),
        Command::Purge { ino } => purge::purge(state, *ino),
        Command::PurgeContent { content } => purge::purge_content(state, *content),
        Command::PurgeTree { top } => remove_tree::purge(state, *top),
        Command::Repair { seen, finding } => repair::repair(state, *seen, finding),
        Command::BeginSeal { .. }
        | Command::FinishSeal { .. }
        | Command::SealPlanned { .. }
        | Command::PrepareSpare { .. }
        | Command::Roll { .. }
        | Command::AcceptLoss { .. } => execute_seal(state, command),
        Command::BeginLoad { .. }
        | Command::LoadFacts { .. }
        | Command::EndLoad { .. }
        | Command::DiscardLoad => execute_load(state, command),
        _ => execute_intent(state, command),
    }
}

fn execute_node(state: &mut State<'_, '_>, command: &Command) -> Outcome<Answer> {
    match command {
        Command::RegisterNodeIn {
            disk,
            address,
            incarnation,
            boot_id,
            capacity_bytes,
            version,
            zone,
            host,
        } => {
            let record = DiskRecord {
                disk: *disk,
                node: NodeId(0),
                address: address.clone(),
                incarnation: *incarnation,
                boot_id: *boot_id,
                capacity_bytes: *capacity_bytes,
                version: version.clone(),
                retired: false,
                registered: Timestamp(0),
                zone: zone.clone(),
                host: host.clone(),
                drain: None,
            };
            node::register(state, record)
        }
        Command::DrainNode { node, needed } => drain::begin(state, *node, *needed),
        Command::UndrainNode { node } => drain::undo(state, *node),
        Command::ReleaseReplicas { node, chunks } => drain::release(state, *node, chunks),
        Command::EndDrain { node, seen } => drain::end(state, *node, *seen),
        _ => refuse(FsError::InvalidRequest),
    }
}

fn execute_load(state: &mut State<'_, '_>, command: &Command) -> Outcome<Answer> {
    match command {
        Command::BeginLoad { load, next, time } => load::begin(state, *load, next, *time),
        Command::LoadFacts { load, first, facts } => load::facts(state, *load, *first, facts),
        Command::EndLoad { load } => load::end(state, *load),
        Command::DiscardLoad => load::discard(state),
        _ => refuse(FsError::InvalidRequest),
    }
}

fn execute_seal(state: &mut State<'_, '_>, command: &Command) -> Outcome<Answer> {
    match command {
        Command::BeginSeal { chunk, epoch } => seal::begin(state, *chunk, *epoch),
        Command::FinishSeal { chunk, epoch, length, chain, holders, marks, mtime } => {
            let (chunk, epoch, length, chain) = (*chunk, *epoch, *length, *chain);
            let decision = seal::Decision { chunk, epoch, length, chain, marks, mtime: *mtime };
            seal::finish(state, &decision, holders)
        }
        // The state decides as ever: what an operator's word replaces is the proof, which is the
        // leader's to ask for.
        Command::AcceptLoss { chunk, epoch, length, chain, holders, marks, mtime, .. } => {
            let (chunk, epoch, length, chain) = (*chunk, *epoch, *length, *chain);
            let decision = seal::Decision { chunk, epoch, length, chain, marks, mtime: *mtime };
            seal::finish(state, &decision, holders)
        }
        Command::SealPlanned { chunk, epoch, length, chain, marks, mtime } => {
            let (chunk, epoch, length, chain) = (*chunk, *epoch, *length, *chain);
            let decision = seal::Decision { chunk, epoch, length, chain, marks, mtime: *mtime };
            seal::planned(state, &decision)
        }
        Command::PrepareSpare { chunk, epoch, placement } => spare::prepare(state, *chunk, *epoch, placement),
        Command::Roll { chunk, epoch, length, chain, marks, mtime, next } => {
            let (chunk, epoch, length, chain) = (*chunk, *epoch, *length, *chain);
            let decision = seal::Decision { chunk, epoch, length, chain, marks, mtime: *mtime };
            spare::roll(state, &decision, *next)
        }
        _ => refuse(FsError::InvalidRequest),
    }
}

fn execute_intent(state: &mut State<'_, '_>, command: &Command) -> Outcome<Answer> {
    match command {
        Command::CreateUpload { assignee, chunks } => pack::create_upload(state, *assignee, chunks),
        Command::Reassign { intent, node } => intent::reassign(state, *intent, *node),
        Command::Persisted { intent, etag, places, bytes } => {
            pack::persisted(state, *intent, etag, places, *bytes)
        }
        Command::FailIntent { intent, permanent, message } => {
            intent::fail(state, *intent, *permanent, message)
        }
        Command::StartImport { directory, assignee } => import::start(state, *directory, *assignee),
        Command::ImportBatch { intent, directory, start_after, end, entries } => {
            let (intent, directory) = (*intent, *directory);
            import::batch(state, &import::Page { intent, directory, start_after, end, entries })
        }
        Command::CreatePackDeletion { pack, assignee } => pack::create_deletion(state, *pack, *assignee),
        Command::PackDeleted { intent } => pack::deleted(state, *intent),
        Command::CancelUpload { intent } => intent::cancel_upload(state, *intent),
        Command::CondemnPacks { packs } => pack::condemn(state, packs),
        Command::CreateCompaction { assignee, chunks } => compact::create(state, *assignee, chunks),
        Command::Compacted { intent, etag, places, bytes } => {
            compact::finish(state, *intent, etag, places, *bytes)
        }
        Command::CreateMerge { assignee, runs } => merge::create(state, *assignee, runs),
        Command::Merged { intent, etag, places, bytes } => {
            merge::finish(state, *intent, etag, places, *bytes)
        }
        _ => execute_mounted(state, command),
    }
}

/// What brings a mount's bucket to what the namespace says.
fn execute_mounted(state: &mut State<'_, '_>, command: &Command) -> Outcome<Answer> {
    match command {
        Command::CreatePut { mount, ino, assignee } => put::create(state, *mount, *ino, *assignee),
        Command::CreateObjectDeletion { mount, key, assignee } => {
            object::create_deletion(state, *mount, key, *assignee)
        }
        Command::CreateProbe { mount, assignee } => probe::create(state, *mount, *assignee),
        Command::ObjectWritten { intent, etag, size, .. } => object::written(state, *intent, etag, *size),
        Command::ObjectGone { intent } => object::gone(state, *intent),
        Command::ObjectChanged { intent, key, found } => {
            object_changed::changed(state, *intent, key, found.as_ref())
        }
        Command::MountProbed { intent, abilities } => probe::probed(state, *intent, abilities),
        Command::FollowMove { mount, directory } => follow::follow(state, *mount, *directory),
        Command::EndMove { mount, prefix } => follow::end(state, *mount, prefix),
        _ => refuse(FsError::InvalidRequest),
    }
}

/// What a client asks for: names and attributes here, bytes in [`operate_bytes`].
fn operate(state: &mut State<'_, '_>, id: SessionId, operation: &Operation) -> Outcome<Answer> {
    match operation {
        Operation::Mkdir { target, mode, uid, gid, parents } => {
            let birth = Birth { kind: FileKind::Directory, mode: *mode, uid: *uid, gid: *gid };
            mkdir::mkdir(state, target, &birth, *parents)
        }
        Operation::Create { target, mode, uid, gid, exclusive, truncate, extents } => {
            let birth = Birth { kind: FileKind::File, mode: *mode, uid: *uid, gid: *gid };
            let content = create::Content { exclusive: *exclusive, truncate: *truncate, extents };
            create::create(state, id, target, &birth, &content)
        }
        Operation::Symlink { target, to, uid, gid } => symlink::symlink(state, target, to, *uid, *gid),
        Operation::Link { from, to } => link::link(state, from, to),
        Operation::Unlink { target } => unlink::unlink(state, target),
        Operation::Rmdir { target } => rmdir::rmdir(state, target),
        Operation::RemoveTree { target } => remove_tree::remove_tree(state, target),
        Operation::Rename { from, to, no_replace, exchange } => {
            rename::rename(state, from, to, *no_replace, *exchange)
        }
        Operation::SetAttr { target, mode, uid, gid, size, mtime, atime, expected_version } => {
            let (mode, uid, gid) = (*mode, *uid, *gid);
            let (mtime, atime) = (mtime.map(TimeChange::At), atime.map(TimeChange::At));
            let changes = set_attr::Changes { mode, uid, gid, size: *size, mtime, atime };
            set_attr::set_attr(state, target, &changes, *expected_version)
        }
        Operation::SetAttrNow { target, mode, uid, gid, size, mtime, atime, expected_version } => {
            let (mode, uid, gid) = (*mode, *uid, *gid);
            let changes = set_attr::Changes { mode, uid, gid, size: *size, mtime: *mtime, atime: *atime };
            set_attr::set_attr(state, target, &changes, *expected_version)
        }
        Operation::Mknod { target, kind, mode, uid, gid } => {
            let birth = Birth { kind: *kind, mode: *mode, uid: *uid, gid: *gid };
            mknod::mknod(state, target, &birth)
        }
        Operation::SetXattr { target, name, value, mode } => xattr::set(state, target, name, value, *mode),
        Operation::RemoveXattr { target, name } => xattr::remove(state, target, name),
        Operation::SetPolicy { target, policy } => set_policy::set_policy(state, target, *policy),
        Operation::MountAdd { target, source } => mount::add(state, target, source),
        Operation::MountRemove { target } => mount::remove(state, target, false),
        Operation::Holding { number, inos, operation } => {
            if matches!(**operation, Operation::Holding { .. }) {
                return refuse(FsError::InvalidRequest);
            }
            state.claim = deny::claim(state, id, *number, inos)?;
            operate(state, id, operation)
        }
        Operation::MountAddAs { target, source, access, rules } => {
            mount::add_as(state, target, source, access, *rules)
        }
        Operation::MountSet { target, refresh_ms, access, rules } => {
            mount::set(state, target, *refresh_ms, access, *rules)
        }
        Operation::MountRemoveWith { target, abandon } => mount::remove(state, target, *abandon),
        Operation::ConflictDismiss { mount, conflict } => mount::dismiss(state, *mount, *conflict),
        _ => operate_bytes(state, id, operation),
    }
}

fn operate_bytes(state: &mut State<'_, '_>, id: SessionId, operation: &Operation) -> Outcome<Answer> {
    match operation {
        Operation::Commit { ino, extents, expected_length } => {
            commit::commit(state, id, *ino, extents, *expected_length)
        }
        Operation::OpenChunk { policy_of, placement } => {
            open::chunk(state, id, *policy_of, placement.as_ref())
        }
        Operation::OpenTail { ino, generation, writer, placement } => {
            open::tail(state, id, *ino, (*generation, *writer), placement.as_ref())
        }
        Operation::OpenExclusive { ino } => open::exclusive(state, *ino),
        Operation::ReleaseChunk { chunk } => open::release(state, id, *chunk),
        Operation::RenewGrant { chunk, epoch, grant_bytes } => {
            open::renew_grant(state, *chunk, *epoch, *grant_bytes)
        }
        Operation::Transact { preconditions, operations } => {
            transact::transact(state, id, preconditions, operations, operate)
        }
        Operation::Lock { .. } | Operation::Unlock { .. } | Operation::CancelLock { .. } => {
            operate_locks(state, id, operation)
        }
        _ => operate_shares(state, operation),
    }
}

/// What changes content without moving bytes.
fn operate_shares(state: &mut State<'_, '_>, operation: &Operation) -> Outcome<Answer> {
    match operation {
        Operation::Clone { from, to, uid, gid, replace, recursive } => {
            let manner = clone::Manner { owner: (*uid, *gid), replace: *replace, recursive: *recursive };
            clone::clone(state, from, to, &manner)
        }
        Operation::CopyRange { from, from_offset, to, to_offset, length } => {
            copy_range::copy_range(state, (from, *from_offset), (to, *to_offset), *length)
        }
        Operation::Concat { target, from } => concat::concat(state, target, from),
        Operation::PunchHole { target, offset, length, keep_size } => {
            punch_hole::punch_hole(state, target, (*offset, *length), *keep_size)
        }
        Operation::Allocate { target, offset, length, keep_size } => {
            punch_hole::allocate(state, target, (*offset, *length), *keep_size)
        }
        _ => refuse(FsError::InvalidRequest),
    }
}

fn operate_locks(state: &mut State<'_, '_>, id: SessionId, operation: &Operation) -> Outcome<Answer> {
    let by = |owner: u64| LockOwner { session: id, owner };
    match operation {
        Operation::Lock { ino, kind, owner, range, mode, wait } => {
            lock::lock(state, (*ino, *kind), by(*owner), (*range, *mode), *wait)
        }
        Operation::Unlock { ino, kind, owner, range } => {
            lock::unlock(state, (*ino, *kind), by(*owner), *range)
        }
        Operation::CancelLock { ino, kind, owner, wait } => {
            lock::cancel(state, (*ino, *kind), by(*owner), *wait)
        }
        _ => refuse(FsError::InvalidRequest),
    }
}
