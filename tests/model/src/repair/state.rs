//! Everything there is to know about the sealed chunk at one moment, in some sixty bytes.

use crate::log::Log;

/// How much anyone still wants of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Life {
    /// Before the first step.
    #[default]
    Unsealed,
    /// A file has it.
    Linked,
    /// No file has it, a restore point does (R12).
    Retained,
    /// Nobody has it.
    Dead,
}

/// What the store has under the name that the log gave (R12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// Nothing.
    #[default]
    Absent,
    /// The content.
    Good,
    /// Other bytes.
    Bad,
}

/// One node, and what the log says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// The records of its replica.
    pub log: Log,
    /// It has a replica, if only an empty one.
    pub present: bool,
    /// How many of its records survive a restart.
    pub safe: u8,
    /// One more than the position of the record that rotted; 0 when none did. Headers, and so the
    /// chain, are as they were.
    pub rot: u8,
    /// Its replica is known to be the content, cut and with the right chain; it is served.
    pub settled: bool,
    /// It has learned that its replica is to go.
    pub doomed: bool,
    /// A disk fault took safe bytes from its replica. A ghost, but for a disk that is gone.
    pub lossy: bool,
    /// The order by which its replica was made.
    pub order: u8,
    /// The highest order whose copy it reported complete: such a message may arrive at any time.
    pub reported: u8,
    /// In the log: it is a holder.
    pub holder: bool,
    /// In the log: the last order given to it, 0 when there was none.
    pub ordered: u8,
    /// In the log, its tombstone: replicas made by orders up to this one are to go.
    pub void: u8,
    /// Somebody proposed, when that was right, that it is a holder no longer. Only the bug that
    /// trusts the proposer has it.
    pub proposed: bool,
}

impl Node {
    /// The node without its replica.
    pub(super) fn emptied(self) -> Self {
        Self {
            log: Log::default(),
            present: false,
            safe: 0,
            rot: 0,
            settled: false,
            doomed: false,
            order: 0,
            ..self
        }
    }

    /// All of the content is in its replica, and safe.
    pub(super) fn is_whole(&self, content: Log) -> bool {
        self.present && content.begins(self.log) && self.safe >= content.len() && self.rot == 0
    }
}

/// The whole state of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// The nodes, those of the set first.
    pub nodes: [Node; 4],
    /// How much anyone still wants of the chunk.
    pub life: Life,
    /// What the store has.
    pub object: Object,
    /// In the log: it is in S3 (R12).
    pub persisted: bool,
    /// Orders given so far.
    pub orders: u8,
    /// Restarts so far.
    pub crashes: u8,
    /// Disks that lost bytes so far.
    pub losses: u8,
    /// Records that rotted so far.
    pub rots: u8,
    /// Objects kept otherwise than sent so far.
    pub bad_puts: u8,
    /// The holders it was sealed with. A ghost.
    pub sealed_with: u8,
    /// Holders struck off because their disks were gone. A ghost.
    pub struck: u8,
    /// A fault took the last whole holder: more went wrong than is promised for. A ghost.
    pub beyond_promise: bool,
}

impl State {
    /// The holders that the log counts.
    pub(super) fn holders(&self) -> usize {
        self.nodes.iter().filter(|node| node.holder).count()
    }

    /// The representative of the states that differ by the names of the nodes: once the replicas
    /// are found as they are, nothing depends on who was in the set.
    pub(super) fn canonical(&self) -> Self {
        let mut named = *self;
        named.nodes.sort_unstable();
        named
    }
}
