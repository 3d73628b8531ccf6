//! Which chunk is explored, and how much may go wrong in it.

use crate::mutation::Mutation;

/// When a record counts as safe (R3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// After fdatasync: it survives the power.
    Fsync,
    /// After write(2): it survives the process, not the power.
    Memory,
}

/// A bounded one-chunk model. Every number is a bound on how often something happens.
#[derive(Clone, Copy, Debug)]
pub struct OneChunk {
    /// 1 to 3. Replica 0 is the primary, the others are alike.
    pub replicas: usize,
    /// What counts as safe.
    pub policy: Policy,
    /// Records that writers want to append, at most 3 (2 where the chunk can close), of which
    /// the first two are one writer's.
    pub records: u8,
    /// The last record belongs to a second writer, and may come before the first one's.
    pub two_writers: bool,
    /// Seal rounds that race each other: 1 or 2. Each may be started again without end (R5).
    pub rounds: usize,
    /// Restarts, with loss of what is not safe.
    pub crashes: u8,
    /// Crashes that lose what is safe: under `fsync` a disk that lost its tail, under `memory`
    /// a loss of power.
    pub losses: u8,
    /// Records that rot in the middle or at the end of a replica.
    pub rots: u8,
    /// Fresh nodes that can be brought up as holders, 0 to 2 (R5). They are alike, and no fault
    /// meets them.
    pub fresh: u8,
    /// A seal may leave a replica that has the content out of its holders, as when it became
    /// unreachable meanwhile.
    pub leaves_out: bool,
    /// Holders a seal needs: min(2, replicas), or 1 where `min_replicas` allows it (R5).
    pub holders_min: u32,
    /// Creates come late (R4); otherwise the chunk exists everywhere from the start.
    pub late_creates: bool,
    /// Committed lengths travel in headers and forwards (R3, R9).
    pub hears: bool,
    /// A reader reads (R9).
    pub reads: bool,
    /// The primary can close the chunk by a planned roll (R5).
    pub closes: bool,
    /// The faults exceed what the protocol promises to survive: losing acknowledged bytes is
    /// not a violation, deciding against what was heard is.
    pub beyond_promise: bool,
    /// The bug put in.
    pub mutation: Option<Mutation>,
}

impl OneChunk {
    /// The value of the close record, which no writer's record has.
    pub(super) const CLOSE: u8 = 3;
    /// The value that bytes have which rotted, where nobody verifies them.
    pub(super) const ROTTEN: u8 = 3;

    /// A chunk with one writer's two records and no faults at all.
    pub fn new(replicas: usize, policy: Policy) -> Self {
        Self {
            replicas,
            policy,
            records: 2,
            two_writers: false,
            rounds: 1,
            crashes: 0,
            losses: 0,
            rots: 0,
            fresh: 0,
            leaves_out: false,
            holders_min: replicas.min(2) as u32,
            late_creates: false,
            hears: false,
            reads: false,
            closes: false,
            beyond_promise: false,
            mutation: None,
        }
    }

    /// The same chunk with a bug put in.
    pub fn with(self, mutation: Mutation) -> Self {
        Self { mutation: Some(mutation), ..self }
    }

    pub(super) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}
