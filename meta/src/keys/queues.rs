//! `queues`: (queue, order, id) of chunks and packs that wait for something; no value. So the
//! leader's jobs find them without a look at all chunks.

use cairn_types::Timestamp;

use super::RowFault;
use crate::store::{KeyRange, Table};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Queue {
    /// Open chunks, by the time they were opened.
    Open = 1,
    /// Chunks whose seal is undecided, by the time they were opened.
    Sealing = 2,
    /// Sealed chunks that no upload has taken yet, by the time of their seal.
    Unpersisted = 3,
    /// Live chunks with fewer copies than their policy asks, not persisted.
    UnderReplicated = 4,
    /// Sealed chunks with replicas that are no holders and must go.
    Surplus = 5,
    /// Dead chunks with replicas left.
    Garbage = 6,
    /// Packs that nothing points into.
    DeadPacks = 7,
}

/// The row's key.
#[must_use]
pub fn key(queue: Queue, order: Timestamp, id: u64) -> Vec<u8> {
    key_of(queue as u8, order, id)
}

/// As [`key`], of a queue's number.
#[must_use]
pub fn key_of(queue: u8, order: Timestamp, id: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(17);
    key.push(queue);
    // The sign bit is turned, so that negative times sort before positive ones.
    key.extend_from_slice(&(order.0.cast_unsigned() ^ (1 << 63)).to_be_bytes());
    key.extend_from_slice(&id.to_be_bytes());
    key
}

/// All of a queue.
#[must_use]
pub fn all(queue: Queue) -> KeyRange {
    KeyRange::prefix(&[queue as u8])
}

/// The order and the id in a row's key.
///
/// # Errors
/// [`RowFault::Damaged`] when the key is too short.
pub fn parse(key: &[u8]) -> Result<(Timestamp, u64), RowFault> {
    let order = super::u64_at(Table::Queues, key, 1)? ^ (1 << 63);
    Ok((Timestamp(order.cast_signed()), super::u64_at(Table::Queues, key, 9)?))
}
