//! Transactions, and what moves no bytes.

use cairn_proto::v1::mutate_request::Operation as Wire;
use cairn_proto::{WireError, v1};
use cairn_types::limits::TRANSACTION_PARTS_MAX;
use cairn_types::{FsError, InodeId};

use super::{malformed, operation, target};
use crate::namespace::operation::Operation;
use crate::namespace::precondition::{Precondition, Wanted};

/// A whole transaction.
pub fn transact(m: v1::Transact) -> Result<Operation, WireError> {
    if m.operations.is_empty() {
        return Err(malformed("operations"));
    }
    if m.preconditions.len().max(m.operations.len()) > TRANSACTION_PARTS_MAX {
        return Err(FsError::TooLarge.into());
    }
    let preconditions = m.preconditions.into_iter().map(precondition).collect::<Result<_, _>>()?;
    let operations = m.operations.into_iter().map(step).collect::<Result<_, _>>()?;
    Ok(Operation::Transact { preconditions, operations })
}

fn precondition(m: v1::Precondition) -> Result<Precondition, WireError> {
    let target = target(m.target)?;
    if m.absent && m.ino.or(m.version).or(m.length).is_some() {
        return Err(malformed("absent"));
    }
    let wanted = match m.absent {
        true => Wanted::Absent,
        false => Wanted::Present { ino: m.ino.map(InodeId), version: m.version, length: m.length },
    };
    Ok(Precondition { target, wanted })
}

fn step(m: v1::Step) -> Result<Operation, WireError> {
    use v1::step::Operation as Step;
    let wire = match m.operation.ok_or_else(|| malformed("step.operation"))? {
        Step::Mkdir(m) => Wire::Mkdir(m),
        Step::Create(m) => Wire::Create(m),
        Step::Symlink(m) => Wire::Symlink(m),
        Step::Link(m) => Wire::Link(m),
        Step::Unlink(m) => Wire::Unlink(m),
        Step::Rmdir(m) => Wire::Rmdir(m),
        Step::Rename(m) => Wire::Rename(m),
        Step::SetAttr(m) => Wire::SetAttr(m),
        Step::Commit(m) => Wire::Commit(m),
        Step::CloneFile(m) => Wire::CloneFile(m),
        Step::Concat(m) => Wire::Concat(m),
        Step::PunchHole(m) => Wire::PunchHole(m),
        Step::Allocate(m) => Wire::Allocate(m),
    };
    // None of these is placed.
    operation(wire, &mut Vec::new())
}

/// What changes content without moving bytes.
pub fn share(wire: Wire) -> Result<Operation, WireError> {
    Ok(match wire {
        Wire::CloneFile(m) => {
            let (from, to) = (target(m.from)?, target(m.to)?);
            let Some(range) = m.range else {
                let (uid, gid, replace, recursive) = (m.uid, m.gid, m.replace, m.recursive);
                return Ok(Operation::Clone { from, to, uid, gid, replace, recursive });
            };
            let v1::CloneRange { from_offset, to_offset, length } = range;
            Operation::CopyRange { from, from_offset, to, to_offset, length }
        }
        Wire::Concat(m) => {
            if m.from.is_empty() {
                return Err(malformed("from"));
            }
            let from = m.from.into_iter().map(|t| target(Some(t))).collect::<Result<_, _>>()?;
            Operation::Concat { target: target(m.target)?, from }
        }
        Wire::PunchHole(m) => {
            let (target, offset, length) = range(m.target, m.offset, m.length)?;
            Operation::PunchHole { target, offset, length, keep_size: m.keep_size }
        }
        Wire::Allocate(m) => {
            let (target, offset, length) = range(m.target, m.offset, m.length)?;
            Operation::Allocate { target, offset, length, keep_size: m.keep_size }
        }
        _ => return Err(malformed("operation")),
    })
}

fn range(
    at: Option<v1::Target>,
    offset: u64,
    length: u64,
) -> Result<(crate::namespace::Target, u64, u64), WireError> {
    if length == 0 { Err(malformed("length")) } else { Ok((target(at)?, offset, length)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_proto::ServiceError;

    fn at(path: &'static str) -> Option<v1::Target> {
        Some(v1::Target { ino: 0, path: path.into(), no_follow: false })
    }

    fn unlink() -> v1::Step {
        v1::Step { operation: Some(v1::step::Operation::Unlink(v1::Unlink { target: at("/a") })) }
    }

    fn refused(transaction: v1::Transact) -> String {
        match transact(transaction) {
            Err(WireError::Service(ServiceError::Malformed { field })) => field,
            other => panic!("not refused as malformed: {other:?}"),
        }
    }

    #[test]
    fn a_transaction_has_1_to_256_operations_and_256_preconditions() {
        let with = |preconditions, operations| v1::Transact {
            preconditions: vec![v1::Precondition { target: at("/b"), ..Default::default() }; preconditions],
            operations: vec![unlink(); operations],
        };
        assert_eq!(refused(with(1, 0)), "operations");
        assert!(transact(with(256, 256)).is_ok());
        for (preconditions, operations) in [(257, 1), (1, 257)] {
            let over = transact(with(preconditions, operations));
            assert_eq!(over, Err(WireError::Fs(FsError::TooLarge)));
        }
    }

    #[test]
    fn what_is_missing_or_contradicts_itself_is_named() {
        let with =
            |precondition| v1::Transact { preconditions: vec![precondition], operations: vec![unlink()] };
        assert_eq!(refused(with(v1::Precondition::default())), "target");
        let both =
            v1::Precondition { target: at("/a"), absent: true, version: Some(1), ..Default::default() };
        assert_eq!(refused(with(both)), "absent");
        let empty = v1::Transact { preconditions: vec![], operations: vec![v1::Step { operation: None }] };
        assert_eq!(refused(empty), "step.operation");
        let punch = v1::PunchHole { target: at("/a"), offset: 1, length: 0, keep_size: true };
        let step = v1::Step { operation: Some(v1::step::Operation::PunchHole(punch)) };
        assert_eq!(refused(v1::Transact { preconditions: vec![], operations: vec![step] }), "length");
    }
}
