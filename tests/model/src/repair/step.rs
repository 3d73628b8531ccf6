//! The atomic steps and how a trace names them.

use std::fmt;

/// How a replica of the set is found at the seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A holder with just the content.
    Holder,
    /// A holder with more than the content.
    LongHolder,
    /// No holder, though it has the content: it was away when the end was decided.
    Whole,
    /// No holder, with more.
    Longer,
    /// No holder, with less.
    Shorter,
    /// No holder, as long as the content, with other bytes.
    Foreign,
    /// No holder, with nothing.
    Nothing,
}

impl Found {
    /// Every one of them; the first two are the holders.
    pub(super) const ALL: &[Self] = &[
        Self::Holder,
        Self::LongHolder,
        Self::Whole,
        Self::Longer,
        Self::Shorter,
        Self::Foreign,
        Self::Nothing,
    ];
}

/// One step of the sealed chunk's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its end is decided, and the replicas of the set are found like this.
    Begin([Found; 3]),
    /// A holder learns of the seal: it cuts and keeps, or starts its replica anew (R8).
    Learn(usize),
    /// A node learns that its replica is to go (R8).
    Doom(usize),
    /// It deletes it.
    Delete(usize),
    /// The log orders a node to make a copy (R8).
    Order(usize),
    /// An order reaches its node, late perhaps.
    Start(usize, u8),
    /// A node takes its next record from another one.
    Pull(usize, usize),
    /// What a node has is safe.
    Sync(usize),
    /// A copy is complete, checked, kept and reported, or found wrong and started anew.
    Complete(usize),
    /// The log counts a reported copy as a holder.
    AddHolder(usize),
    /// The log gives up a copy that does not come.
    GiveUp(usize),
    /// Somebody sees that one holder more than wanted is there: only a bug trusts that.
    Propose(usize),
    /// The log takes a holder off: there are more than wanted (R12).
    Remove(usize),
    /// The log strikes a holder off whose disk is gone (R7).
    Strike(usize),
    /// A holder puts the object, which the store keeps as it is or not (R12).
    Put(usize, bool),
    /// The object is given up for one under another name.
    Rename,
    /// The object was read back, and the log records it (R12).
    Persist,
    /// A node evicts a persisted replica.
    Evict(usize),
    /// The file is unlinked; a restore point retains it.
    Unlink,
    /// The restore point is given up.
    Release,
    /// A replica of a chunk that a restore point retains is collected: only a bug does.
    Collect(usize),
    /// The object of a chunk that a restore point retains is deleted: only a bug does.
    DeleteObject,
    /// A process restarts and keeps this many records.
    Crash(usize, u8),
    /// A disk loses its tail, safe bytes among it.
    Loss(usize, u8),
    /// A disk is gone with all it had.
    Wipe(usize),
    /// A record rots on a node's disk, unnoticed.
    Rot(usize, u8),
    /// A scrub, or a reader, finds the rotten record; the node lets go of it and what follows.
    FindRot(usize),
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Begin(found) => {
                let [one, two, three] = found;
                write!(out, "sealed: {one:?}, {two:?}, {three:?}")
            }
            Self::Learn(at) => write!(out, "{at} learns of the seal"),
            Self::Doom(at) => write!(out, "{at} learns that its replica goes"),
            Self::Delete(at) => write!(out, "{at} deletes its replica"),
            Self::Order(at) => write!(out, "{at} is ordered to make a copy"),
            Self::Start(at, order) => write!(out, "order {order} reaches {at}"),
            Self::Pull(at, from) => write!(out, "{at} takes a record from {from}"),
            Self::Sync(at) => write!(out, "what {at} has is safe"),
            Self::Complete(at) => write!(out, "{at} checks its copy"),
            Self::AddHolder(at) => write!(out, "log: {at} is a holder"),
            Self::GiveUp(at) => write!(out, "log: the copy at {at} is given up"),
            Self::Propose(at) => write!(out, "somebody proposes to remove {at}"),
            Self::Remove(at) => write!(out, "log: {at} is one holder too many"),
            Self::Strike(at) => write!(out, "log: the disk of {at} is gone"),
            Self::Put(at, true) => write!(out, "{at} puts the object"),
            Self::Put(at, false) => write!(out, "{at} puts it, other bytes are kept"),
            Self::Rename => write!(out, "log: the object gets another name"),
            Self::Persist => write!(out, "log: the chunk is in S3"),
            Self::Evict(at) => write!(out, "{at} evicts its replica"),
            Self::Unlink => write!(out, "log: unlinked, but retained"),
            Self::Release => write!(out, "log: the restore point goes"),
            Self::Collect(at) => write!(out, "{at} collects its replica"),
            Self::DeleteObject => write!(out, "the object is deleted"),
            Self::Crash(at, kept) => write!(out, "{at} restarts with {kept} records"),
            Self::Loss(at, kept) => write!(out, "{at} loses safe bytes, keeps {kept}"),
            Self::Wipe(at) => write!(out, "the disk of {at} is gone"),
            Self::Rot(at, record) => write!(out, "record {record} rots at {at}"),
            Self::FindRot(at) => write!(out, "{at} finds its rotten record"),
        }
    }
}
