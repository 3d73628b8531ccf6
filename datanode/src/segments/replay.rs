//! [`Replay`]: who is told what the log holds when it is opened.

use cairn_types::Timestamp;

use super::record::{Location, RecordHeader};

/// A record found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its header.
    pub header: RecordHeader,
    /// Where it is.
    pub location: Location,
    /// The sequence of the segment it is in.
    pub segment: u64,
    /// Wall time of its batch.
    pub wall: Timestamp,
}

/// Is told every record of the log in the order of writing.
pub trait Replay {
    /// A record, with its payload unless it is a chunk's or the cache's bytes.
    fn record(&mut self, entry: Entry, payload: Option<&[u8]>);

    /// A record below the durable mark whose payload is bad.
    fn damaged(&mut self, entry: Entry);

    /// Records below the durable mark of which nothing is known are missing here.
    fn hole(&mut self);
}
