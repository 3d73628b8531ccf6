//! A batch: what one write carries. A header, then whole records.

use bytes::Bytes;
use cairn_types::Timestamp;

use super::record::{BlockSums, RecordHeader, u32_at, u64_at};

/// Bytes of a batch header.
pub const BATCH_HEADER_BYTES: usize = 72;
/// A batch begins at a multiple of this: no two batches share a sector.
pub const BATCH_ALIGN: u64 = 512;
/// Bytes of records in a batch, at most.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
const MAGIC: u32 = u32::from_le_bytes(*b"CBAT");
/// Payloads up to this size are copied next to their headers; larger ones ride in their own slice.
const COPY_BYTES_MAX: usize = 16 << 10;

/// A place in the order of all segments: everything before it is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The segment's sequence.
    pub segment: u64,
    /// Offset in it.
    pub offset: u32,
}

/// A batch's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The segment's sequence: a batch of the slot's earlier use has another.
    pub segment: u64,
    /// Number of the batch in the life of the disk.
    pub batch: u64,
    /// The process that wrote it: later ones have a higher run.
    pub run: u64,
    /// The end of the last completed fdatasync when it was written.
    pub durable: Mark,
    /// Bytes of the records.
    pub body_bytes: u32,
    /// Number of records.
    pub records: u32,
    /// Wall time of the write.
    pub wall: Timestamp,
}

impl BatchHeader {
    /// The 72 bytes on the disk.
    #[must_use]
    pub fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut b = [0u8; BATCH_HEADER_BYTES];
        b[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        b[4..8].copy_from_slice(&1u32.to_le_bytes());
        b[8..16].copy_from_slice(&self.segment.to_le_bytes());
        b[16..24].copy_from_slice(&self.batch.to_le_bytes());
        b[24..32].copy_from_slice(&self.run.to_le_bytes());
        b[32..40].copy_from_slice(&self.durable.segment.to_le_bytes());
        b[40..44].copy_from_slice(&self.durable.offset.to_le_bytes());
        b[44..48].copy_from_slice(&self.body_bytes.to_le_bytes());
        b[48..52].copy_from_slice(&self.records.to_le_bytes());
        b[56..64].copy_from_slice(&self.wall.0.to_le_bytes());
        let sum = crc32c::crc32c(&b[..64]);
        b[64..68].copy_from_slice(&sum.to_le_bytes());
        b
    }

    /// Reads and verifies a header; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let b = bytes.first_chunk::<BATCH_HEADER_BYTES>()?;
        let framed = u32_at(b, 0) == MAGIC && u32_at(b, 4) == 1;
        if !framed || crc32c::crc32c(&b[..64]) != u32_at(b, 64) {
            return None;
        }
        let header = Self {
            segment: u64_at(b, 8),
            batch: u64_at(b, 16),
            run: u64_at(b, 24),
            durable: Mark { segment: u64_at(b, 32), offset: u32_at(b, 40) },
            body_bytes: u32_at(b, 44),
            records: u32_at(b, 48),
            wall: Timestamp(u64_at(b, 56) as i64),
        };
        (header.body_bytes as usize <= BATCH_BYTES_MAX).then_some(header)
    }
}

enum Part {
    /// A range of the buffer.
    Buffer(usize, usize),
    Payload(Bytes),
}

/// The batch that is being filled.
#[derive(Default)]
pub(crate) struct BatchBuilder {
    buffer: Vec<u8>,
    parts: Vec<Part>,
    body_bytes: usize,
    pub(crate) records: u32,
}

impl BatchBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(crate) fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// Adds a record; answers its offset in the body.
    pub(crate) fn push(
        &mut self,
        segment: u64,
        header: &RecordHeader,
        sums: &BlockSums,
        payload: &Bytes,
    ) -> usize {
        let at = self.body_bytes;
        let begin = self.buffer.len();
        header.encode(segment, &sums.blocks, &mut self.buffer);
        let copied = payload.len() <= COPY_BYTES_MAX;
        if copied {
            self.buffer.extend_from_slice(payload);
        }
        let end = self.buffer.len();
        match self.parts.last_mut() {
            Some(Part::Buffer(_, last)) if *last == begin => *last = end,
            _ => self.parts.push(Part::Buffer(begin, end)),
        }
        self.body_bytes += end - begin;
        if !copied {
            self.parts.push(Part::Payload(payload.clone()));
            self.body_bytes += payload.len();
        }
        self.records += 1;
        at
    }

    /// The slices to write, without the batch header.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(|part| match part {
            Part::Buffer(begin, end) => &self.buffer[*begin..*end],
            Part::Payload(bytes) => bytes.as_ref(),
        })
    }

    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.parts.clear();
        self.body_bytes = 0;
        self.records = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_header_is_pinned() {
        let header = BatchHeader {
            segment: 1,
            batch: 2,
            run: 3,
            durable: Mark { segment: 4, offset: 5 },
            body_bytes: 6,
            records: 7,
            wall: Timestamp(8),
        };
        let bytes = header.encode();
        let words: Vec<u32> = bytes.chunks_exact(4).map(|c| u32_at(c, 0)).collect();
        assert_eq!(words[..16], [0x5441_4243, 1, 1, 0, 2, 0, 3, 0, 4, 0, 5, 6, 7, 0, 8, 0]);
        assert_eq!(words[16..], [GOLDEN_BATCH_SUM, 0]);
        assert_eq!(BatchHeader::decode(&bytes), Some(header));
        for byte in 0..68 {
            let mut bad = bytes;
            bad[byte] ^= 1;
            assert_eq!(BatchHeader::decode(&bad), None, "byte {byte}");
        }
    }

    const GOLDEN_BATCH_SUM: u32 = 0x3039_3dfd;
}
