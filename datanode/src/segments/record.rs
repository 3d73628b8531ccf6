//! One record: a header that checks itself and its payload, then the payload.

use std::sync::LazyLock;

use cairn_types::limits::CHECKSUM_BLOCK_BYTES;

/// Bytes of a record header without its block checksums.
pub const HEADER_BYTES: usize = 80;
/// Bytes of a record's payload, at most.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// Bytes appended to a chunk.
    Append = 1,
    /// The end of a chunk in a planned roll; no payload.
    Close = 2,
    /// Bytes of a chunk written again by recycling: a place, not an event.
    Copy = 3,
    /// A replica was made. The payload of this and the next five is the replica's whole state.
    Create = 4,
    /// A replica was fenced.
    Fence = 5,
    /// A replica learned its chunk's seal; what is beyond the length is cut.
    Seal = 6,
    /// A replica's chunk is in S3.
    Persisted = 7,
    /// A replica was found damaged.
    Damage = 8,
    /// A replica's state written again by recycling.
    Moved = 9,
    /// A replica is gone.
    Drop = 10,
    /// A block of an object, in the cache.
    CacheBlock = 11,
    /// A process began to write.
    Start = 12,
}

impl RecordKind {
    /// The kind with this number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Append,
            2 => Self::Close,
            3 => Self::Copy,
            4 => Self::Create,
            5 => Self::Fence,
            6 => Self::Seal,
            7 => Self::Persisted,
            8 => Self::Damage,
            9 => Self::Moved,
            10 => Self::Drop,
            11 => Self::CacheBlock,
            12 => Self::Start,
            _ => return None,
        })
    }

    /// True when the payload is a replica's whole state.
    #[must_use]
    pub fn is_state(self) -> bool {
        matches!(self, Self::Create | Self::Fence | Self::Seal | Self::Persisted | Self::Damage | Self::Moved)
    }

    /// True when the payload is a chunk's bytes.
    #[must_use]
    pub fn is_data(self) -> bool {
        matches!(self, Self::Append | Self::Copy)
    }
}

/// CRC32C of each 16 KiB of a payload, and of the whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockSums {
    /// One a block; the last block may be short.
    pub blocks: Vec<u32>,
    /// Of the whole payload; 0 for an empty one.
    pub whole: u32,
}

impl BlockSums {
    /// The checksums of `payload`. That of the whole is put together of those of its blocks.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        let mut sums = Self { blocks: Vec::with_capacity(block_count(payload.len())), whole: 0 };
        for block in payload.chunks(CHECKSUM_BLOCK_BYTES) {
            let sum = crc32c::crc32c(block);
            sums.whole = match block.len() {
                _ if sums.blocks.is_empty() => sum,
                CHECKSUM_BLOCK_BYTES => moved(sums.whole) ^ sum,
                _ => crc32c::crc32c_append(sums.whole, block),
            };
            sums.blocks.push(sum);
        }
        sums
    }
}

/// What the sum of some bytes adds to that of the same and a block behind them. It is linear, so that a table for
/// each byte of the sum does; the library's way to combine sums takes longer than to sum the block up.
fn moved(sum: u32) -> u32 {
    static TABLES: LazyLock<[[u32; 256]; 4]> = LazyLock::new(|| {
        let entry = |byte: u32, value: usize| {
            crc32c::crc32c_combine((value as u32) << (8 * byte), 0, CHECKSUM_BLOCK_BYTES)
        };
        [0, 1, 2, 3].map(|byte| std::array::from_fn(|value| entry(byte, value)))
    });
    TABLES.iter().zip(sum.to_le_bytes()).fold(0, |all, (table, byte)| all ^ table[usize::from(byte)])
}

fn block_count(payload: usize) -> usize {
    payload.div_ceil(CHECKSUM_BLOCK_BYTES)
}

/// Bytes of the header of a record with `payload` bytes.
#[must_use]
pub fn header_bytes(payload: usize) -> usize {
    HEADER_BYTES + 4 * block_count(payload)
}

/// Bytes of a record with `payload` bytes, header included.
#[must_use]
pub fn stored_bytes(payload: usize) -> usize {
    header_bytes(payload) + payload
}

/// Where a record begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The segment's file.
    pub slot: u32,
    /// Offset in it of the record's header.
    pub offset: u32,
}

/// A record's header. Fields that a kind does not use are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What it is.
    pub kind: RecordKind,
    /// Bytes of payload.
    pub length: u32,
    /// Epoch of the append.
    pub epoch: u32,
    /// The chunk; 0 for cache blocks.
    pub chunk: u64,
    /// Offset in the chunk.
    pub offset: u64,
    /// Writer generation; high half of a cache block's object.
    pub generation: u64,
    /// The writer; low half of a cache block's object.
    pub writer: u64,
    /// The writer's sequence; a cache block's number; a start's run.
    pub sequence: u64,
    /// The committed length known.
    pub committed: u64,
    /// CRC32C of the whole payload.
    pub payload_crc32c: u32,
    /// The chain after the record.
    pub chain: u32,
    /// The chain before it.
    pub previous_chain: u32,
}

impl RecordHeader {
    /// A header of `kind` for `chunk` with all else 0.
    #[must_use]
    pub fn new(kind: RecordKind, chunk: u64) -> Self {
        Self {
            kind,
            length: 0,
            epoch: 0,
            chunk,
            offset: 0,
            generation: 0,
            writer: 0,
            sequence: 0,
            committed: 0,
            payload_crc32c: 0,
            chain: 0,
            previous_chain: 0,
        }
    }

    /// The 80 fixed bytes, with `segment`'s low 32 bits and without the checksum.
    #[must_use]
    pub fn encode_fixed(&self, segment: u64) -> [u8; HEADER_BYTES] {
        let mut b = [0u8; HEADER_BYTES];
        b[0] = self.kind as u8;
        b[8..12].copy_from_slice(&self.length.to_le_bytes());
        b[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        b[16..24].copy_from_slice(&self.chunk.to_le_bytes());
        b[24..32].copy_from_slice(&self.offset.to_le_bytes());
        b[32..40].copy_from_slice(&self.generation.to_le_bytes());
        b[40..48].copy_from_slice(&self.writer.to_le_bytes());
        b[48..56].copy_from_slice(&self.sequence.to_le_bytes());
        b[56..64].copy_from_slice(&self.committed.to_le_bytes());
        b[64..68].copy_from_slice(&self.payload_crc32c.to_le_bytes());
        b[68..72].copy_from_slice(&self.chain.to_le_bytes());
        b[72..76].copy_from_slice(&self.previous_chain.to_le_bytes());
        b[76..80].copy_from_slice(&(segment as u32).to_le_bytes());
        b
    }

    /// Reads the 80 fixed bytes; `None` when the kind, the length or the segment is not possible.
    #[must_use]
    pub fn decode_fixed(b: &[u8; HEADER_BYTES], segment: u64) -> Option<Self> {
        let kind = RecordKind::from_u8(b[0])?;
        let length = u32_at(b, 8);
        if length as usize > PAYLOAD_BYTES_MAX || u32_at(b, 76) != segment as u32 {
            return None;
        }
        Some(Self {
            kind,
            length,
            epoch: u32_at(b, 12),
            chunk: u64_at(b, 16),
            offset: u64_at(b, 24),
            generation: u64_at(b, 32),
            writer: u64_at(b, 40),
            sequence: u64_at(b, 48),
            committed: u64_at(b, 56),
            payload_crc32c: u32_at(b, 64),
            chain: u32_at(b, 68),
            previous_chain: u32_at(b, 72),
        })
    }

    /// Appends the whole header, block checksums and own checksum included, to `out`.
    pub fn encode(&self, segment: u64, blocks: &[u32], out: &mut Vec<u8>) {
        let mut fixed = self.encode_fixed(segment);
        let mut sum = crc32c::crc32c(&fixed[..4]);
        sum = crc32c::crc32c_append(sum, &fixed[8..]);
        for block in blocks {
            sum = crc32c::crc32c_append(sum, &block.to_le_bytes());
        }
        fixed[4..8].copy_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&fixed);
        for block in blocks {
            out.extend_from_slice(&block.to_le_bytes());
        }
    }

    /// Reads and verifies a header at the beginning of `bytes`; `None` when it is no header of
    /// `segment`, or damaged.
    #[must_use]
    pub fn decode(bytes: &[u8], segment: u64) -> Option<(Self, Vec<u32>)> {
        let fixed = bytes.first_chunk::<HEADER_BYTES>()?;
        let header = Self::decode_fixed(fixed, segment)?;
        let whole = bytes.get(..header_bytes(header.length as usize))?;
        let sum = crc32c::crc32c_append(crc32c::crc32c(&whole[..4]), &whole[8..]);
        if sum != u32_at(whole, 4) {
            return None;
        }
        let blocks = whole[HEADER_BYTES..].chunks_exact(4).map(|c| u32_at(c, 0)).collect();
        Some((header, blocks))
    }

    /// Bytes of the record, header included.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        stored_bytes(self.length as usize) as u64
    }
}

/// True when every block of `payload` has its checksum.
#[must_use]
pub fn payload_matches(payload: &[u8], blocks: &[u32]) -> bool {
    payload.len().div_ceil(CHECKSUM_BLOCK_BYTES) == blocks.len()
        && payload.chunks(CHECKSUM_BLOCK_BYTES).zip(blocks).all(|(b, sum)| crc32c::crc32c(b) == *sum)
}

/// A little-endian u32 of `bytes` at `at`; the callers' slices are long enough by construction.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut b = [0; 4];
    b.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(b)
}

/// A little-endian u64 of `bytes` at `at`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut b = [0; 8];
    b.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_sums_combine_to_the_whole() {
        for length in [0usize, 1, 16 << 10, (16 << 10) + 1, 100_000, 1 << 20] {
            let payload: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            let sums = BlockSums::of(&payload);
            assert_eq!(sums.whole, crc32c::crc32c(&payload), "{length}");
            assert!(payload_matches(&payload, &sums.blocks));
        }
    }

    #[test]
    fn a_record_header_is_pinned() {
        let header = RecordHeader {
            kind: RecordKind::Append,
            length: 3,
            epoch: 1,
            chunk: 2,
            offset: 3,
            generation: 4,
            writer: 5,
            sequence: 6,
            committed: 7,
            payload_crc32c: 8,
            chain: 9,
            previous_chain: 10,
        };
        let mut bytes = Vec::new();
        header.encode(11, &[12], &mut bytes);
        let words: Vec<u32> = bytes.chunks_exact(4).map(|c| u32_at(c, 0)).collect();
        let sum = words[1];
        assert_eq!(words, [1, sum, 3, 1, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 9, 10, 11, 12]);
        assert_eq!(sum, GOLDEN_HEADER_SUM);
        assert_eq!(RecordHeader::decode(&bytes, 11), Some((header, vec![12])));
        assert_eq!(RecordHeader::decode(&bytes, 12), None, "of another segment");
        for byte in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[byte] ^= 0x10;
            assert_eq!(RecordHeader::decode(&bad, 11), None, "byte {byte}");
        }
    }

    const GOLDEN_HEADER_SUM: u32 = 0x8b55_d1ad;
}
