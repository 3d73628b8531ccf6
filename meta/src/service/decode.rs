//! Wire messages → commands. What comes in is checked here for its form; what it means is
//! checked by the state machine.

mod attributes;
mod mounts;

use cairn_proto::{WireError, v1};
use cairn_types::limits::CLAIMED_FILES_MAX;
use cairn_types::{
    ChunkId, Epoch, Extent, Generation, GroupId, InodeId, NodeId, Policy, Sequence, SessionId, WriterId,
};

mod transact;

use super::call::malformed;
use crate::namespace::operation::{Operation, Target};

/// Permission bits that a mode may have.
const MODE_MAX: u32 = 0o7777;
/// Nodes that a request may ask to avoid, at most.
const AVOID_MAX: usize = 64;

/// A decoded `MutateRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// The session.
    pub session: SessionId,
    /// The request's number in it.
    pub sequence: Sequence,
    /// Replies of smaller sequences may be dropped.
    pub acknowledged_below: Sequence,
    /// What to do; `OpenChunk` and `OpenTail` still lack their placement.
    pub operation: Operation,
    /// Nodes that the caller could not reach.
    pub avoid: Vec<NodeId>,
}

/// Checks that a request's group is one that this server has.
///
/// # Errors
/// `Malformed` for another group.
pub fn group(group: u32) -> Result<GroupId, WireError> {
    if group == 0 { Ok(GroupId(0)) } else { Err(malformed("group")) }
}

/// The target of a request.
///
/// # Errors
/// `Malformed` when it is missing.
pub fn target(target: Option<v1::Target>) -> Result<Target, WireError> {
    let target = target.ok_or_else(|| malformed("target"))?;
    Ok(Target { ino: InodeId(target.ino), path: target.path.to_vec(), no_follow: target.no_follow })
}

/// An inode's id, which is never 0 where no path follows.
pub fn inode(ino: u64) -> Result<InodeId, WireError> {
    if ino == 0 { Err(malformed("ino")) } else { Ok(InodeId(ino)) }
}

fn mode(mode: u32) -> Result<u32, WireError> {
    if mode > MODE_MAX { Err(malformed("mode")) } else { Ok(mode) }
}

fn extents(extents: &[v1::Extent]) -> Result<Vec<Extent>, WireError> {
    let checked = |e: &v1::Extent| {
        let extent = Extent::try_from(e).map_err(|bad| malformed(bad.0))?;
        if extent.length == 0 || extent.file_offset.checked_add(extent.length).is_none() {
            return Err(malformed("extent.length"));
        }
        Ok(extent)
    };
    extents.iter().map(checked).collect()
}

fn avoid(nodes: Vec<u64>) -> Result<Vec<NodeId>, WireError> {
    if nodes.len() > AVOID_MAX {
        return Err(malformed("avoid"));
    }
    Ok(nodes.into_iter().map(NodeId).collect())
}

/// Decodes a `MutateRequest`.
///
/// # Errors
/// `Malformed`, or the namespace error of a policy out of its range.
pub fn mutation(request: v1::MutateRequest) -> Result<Mutation, WireError> {
    group(request.group)?;
    if request.session == 0 {
        return Err(malformed("session"));
    }
    if request.sequence == 0 {
        return Err(malformed("sequence"));
    }
    if request.acknowledged_below > request.sequence {
        return Err(malformed("acknowledged_below"));
    }
    let mut shunned = Vec::new();
    let wire = request.operation.ok_or_else(|| malformed("operation"))?;
    let operation = holding(request.holding, operation(wire, &mut shunned)?)?;
    Ok(Mutation {
        session: SessionId(request.session),
        sequence: Sequence(request.sequence),
        acknowledged_below: Sequence(request.acknowledged_below),
        operation,
        avoid: shunned,
    })
}

/// The operation, with what its session says that it holds.
fn holding(wire: Option<v1::Holding>, operation: Operation) -> Result<Operation, WireError> {
    let Some(v1::Holding { number, inos }) = wire else { return Ok(operation) };
    if inos.len() > CLAIMED_FILES_MAX {
        return Err(malformed("holding.inos"));
    }
    // Of all others it says nothing, and they are looked at for what they are.
    let removes = matches!(
        operation,
        Operation::Unlink { .. }
            | Operation::Rename { .. }
            | Operation::Transact { .. }
            | Operation::RemoveTree { .. }
    );
    if !removes {
        return Err(malformed("holding"));
    }
    let inos = inos.into_iter().map(InodeId).collect();
    Ok(Operation::Holding { number, inos, operation: Box::new(operation) })
}

fn operation(wire: v1::mutate_request::Operation, shunned: &mut Vec<NodeId>) -> Result<Operation, WireError> {
    use v1::mutate_request::Operation as Wire;
    Ok(match wire {
        Wire::Mkdir(_)
        | Wire::Create(_)
        | Wire::Symlink(_)
        | Wire::Link(_)
        | Wire::Unlink(_)
        | Wire::Rmdir(_)
        | Wire::RemoveTree(_)
        | Wire::Rename(_) => naming(wire)?,
        Wire::SetAttr(m) => attributes::set_attr(m)?,
        Wire::Mknod(m) => attributes::mknod(m)?,
        Wire::SetXattr(m) => attributes::set_xattr(m)?,
        Wire::RemoveXattr(m) => attributes::remove_xattr(m)?,
        Wire::SetPolicy(m) => Operation::SetPolicy {
            target: target(m.target)?,
            policy: m.policy.as_ref().map(Policy::try_from).transpose()?,
        },
        Wire::Commit(m) => Operation::Commit {
            ino: inode(m.ino)?,
            extents: extents(&m.extents)?,
            expected_length: m.expected_length,
        },
        Wire::OpenChunk(m) => {
            *shunned = avoid(m.avoid)?;
            let policy_of = if m.policy_of == 0 { InodeId::ROOT } else { InodeId(m.policy_of) };
            Operation::OpenChunk { policy_of, placement: None }
        }
        Wire::OpenTail(m) => {
            *shunned = avoid(m.avoid)?;
            Operation::OpenTail {
                ino: inode(m.ino)?,
                generation: Generation(m.generation),
                writer: WriterId(m.writer),
                placement: None,
            }
        }
        Wire::OpenExclusive(m) => Operation::OpenExclusive { ino: inode(m.ino)? },
        Wire::ReleaseChunk(m) => Operation::ReleaseChunk { chunk: ChunkId(m.chunk) },
        Wire::MountAdd(m) => mounts::add(*m)?,
        Wire::MountSet(m) => mounts::set(*m)?,
        Wire::MountRemove(m) => mounts::remove(m)?,
        Wire::ConflictDismiss(m) => mounts::dismiss(&m)?,
        Wire::RenewGrant(m) => Operation::RenewGrant {
            chunk: ChunkId(m.chunk),
            epoch: Epoch(m.epoch),
            grant_bytes: m.grant_bytes,
        },
        Wire::Transact(m) => transact::transact(m)?,
        Wire::CloneFile(_) | Wire::Concat(_) | Wire::PunchHole(_) | Wire::Allocate(_) => {
            transact::share(wire)?
        }
        Wire::Lock(m) => super::lock::lock(m)?,
        Wire::Unlock(m) => super::lock::unlock(m)?,
        Wire::CancelLock(m) => super::lock::cancel(m)?,
    })
}

/// The verbs that make, move and remove names.
fn naming(wire: v1::mutate_request::Operation) -> Result<Operation, WireError> {
    use v1::mutate_request::Operation as Wire;
    Ok(match wire {
        Wire::Mkdir(m) => Operation::Mkdir {
            target: target(m.target)?,
            mode: mode(m.mode)?,
            uid: m.uid,
            gid: m.gid,
            parents: m.parents,
        },
        Wire::Create(m) => Operation::Create {
            target: target(m.target)?,
            mode: mode(m.mode)?,
            uid: m.uid,
            gid: m.gid,
            exclusive: m.exclusive,
            truncate: m.truncate,
            extents: extents(&m.extents)?,
        },
        Wire::Symlink(m) => {
            Operation::Symlink { target: target(m.target)?, to: m.to.to_vec(), uid: m.uid, gid: m.gid }
        }
        Wire::Link(m) => Operation::Link { from: target(m.from)?, to: target(m.to)? },
        Wire::Unlink(m) => Operation::Unlink { target: target(m.target)? },
        Wire::Rmdir(m) => Operation::Rmdir { target: target(m.target)? },
        Wire::RemoveTree(m) => Operation::RemoveTree { target: target(m.target)? },
        Wire::Rename(m) => {
            if m.no_replace && m.exchange {
                return Err(malformed("exchange"));
            }
            Operation::Rename {
                from: target(m.from)?,
                to: target(m.to)?,
                no_replace: m.no_replace,
                exchange: m.exchange,
            }
        }
        _ => return Err(malformed("operation")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_proto::ServiceError;
    use cairn_types::FsError;
    use v1::mutate_request::Operation as Wire;

    fn request(operation: Option<Wire>) -> v1::MutateRequest {
        v1::MutateRequest {
            group: 0,
            session: 1,
            sequence: 2,
            acknowledged_below: 1,
            operation,
            holding: None,
        }
    }

    fn at(path: &'static str) -> Option<v1::Target> {
        Some(v1::Target { ino: 0, path: path.into(), no_follow: false })
    }

    fn refused(request: v1::MutateRequest) -> String {
        match mutation(request) {
            Err(WireError::Service(ServiceError::Malformed { field })) => field,
            other => panic!("not refused as malformed: {other:?}"),
        }
    }

    #[test]
    fn what_is_missing_or_out_of_range_is_named() {
        let mkdir = |mode| Wire::Mkdir(v1::Mkdir { target: at("/a"), mode, ..Default::default() });
        assert!(mutation(request(Some(mkdir(0o755)))).is_ok());
        assert_eq!(refused(request(Some(mkdir(0o10000)))), "mode");
        assert_eq!(refused(request(None)), "operation");
        assert_eq!(refused(request(Some(Wire::Mkdir(v1::Mkdir::default())))), "target");
        let with = |change: fn(&mut v1::MutateRequest)| {
            let mut r = request(Some(mkdir(0)));
            change(&mut r);
            refused(r)
        };
        assert_eq!(with(|r| r.group = 1), "group");
        assert_eq!(with(|r| r.session = 0), "session");
        assert_eq!(with(|r| r.sequence = 0), "sequence");
        assert_eq!(with(|r| r.acknowledged_below = 3), "acknowledged_below");
    }

    #[test]
    fn extents_without_bytes_or_source_are_refused() {
        let commit = |extent| {
            request(Some(Wire::Commit(v1::Commit { ino: 5, extents: vec![extent], expected_length: None })))
        };
        let source = Some(v1::extent::Source::Chunk(v1::ChunkSource { chunk: 1, offset: 0 }));
        let good = v1::Extent { file_offset: 0, length: 1, source };
        assert!(mutation(commit(good.clone())).is_ok());
        assert_eq!(refused(commit(v1::Extent { length: 0, ..good.clone() })), "extent.length");
        let beyond = v1::Extent { file_offset: u64::MAX, length: 2, ..good.clone() };
        assert_eq!(refused(commit(beyond)), "extent.length");
        assert_eq!(refused(commit(v1::Extent { source: None, ..good })), "extent.source");
    }

    #[test]
    fn a_policy_out_of_range_is_a_namespace_error() {
        let policy = Some(v1::Policy::default());
        let set = Wire::SetPolicy(v1::SetPolicy { target: at("/"), policy });
        assert_eq!(mutation(request(Some(set))), Err(WireError::Fs(FsError::InvalidPolicy)));
    }
}
