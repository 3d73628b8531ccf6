//! The first 4 KiB of a segment's file: which segment it is now.

use cairn_types::DiskId;

use super::record::{u32_at, u64_at};

/// Bytes in front of a segment's first batch.
pub const SEGMENT_HEADER_BYTES: u64 = 4096;
/// Bytes of the header that mean something; one sector, so that it is never torn.
pub const SEGMENT_HEADER_USED: usize = 64;
/// The format this build writes.
pub const SEGMENT_FORMAT: u16 = 1;
const MAGIC: u32 = u32::from_le_bytes(*b"CSEG");

/// What a segment's file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The disk it belongs to.
    pub disk: DiskId,
    /// The file's number.
    pub slot: u32,
    /// The file's size.
    pub segment_bytes: u64,
    /// Which segment it is, in the order of writing; 0 when it is free.
    pub sequence: u64,
}

/// What the first bytes of a segment's file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFound {
    /// A header.
    Valid(SegmentHeader),
    /// Zeros: the file was just made.
    Blank,
    /// A newer build's header.
    Newer(u16),
    /// Neither.
    Damaged,
}

impl SegmentHeader {
    /// The bytes on the disk.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_USED] {
        let mut b = [0u8; SEGMENT_HEADER_USED];
        b[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        b[4..6].copy_from_slice(&SEGMENT_FORMAT.to_le_bytes());
        b[8..12].copy_from_slice(&self.slot.to_le_bytes());
        b[16..32].copy_from_slice(&self.disk.0);
        b[32..40].copy_from_slice(&self.segment_bytes.to_le_bytes());
        b[40..48].copy_from_slice(&self.sequence.to_le_bytes());
        let sum = crc32c::crc32c(&b[..60]);
        b[60..64].copy_from_slice(&sum.to_le_bytes());
        b
    }

    /// Reads what [`encode`](Self::encode) wrote.
    #[must_use]
    pub fn decode(b: &[u8; SEGMENT_HEADER_USED]) -> HeaderFound {
        if b.iter().all(|byte| *byte == 0) {
            return HeaderFound::Blank;
        }
        if u32_at(b, 0) != MAGIC || crc32c::crc32c(&b[..60]) != u32_at(b, 60) {
            return HeaderFound::Damaged;
        }
        let format = u32_at(b, 4) as u16;
        if format != SEGMENT_FORMAT {
            return HeaderFound::Newer(format);
        }
        let mut disk = [0; 16];
        disk.copy_from_slice(&b[16..32]);
        HeaderFound::Valid(Self {
            disk: DiskId(disk),
            slot: u32_at(b, 8),
            segment_bytes: u64_at(b, 32),
            sequence: u64_at(b, 40),
        })
    }
}

/// The name of a slot's file.
#[must_use]
pub fn file_name(slot: u32) -> String {
    format!("segments/{slot:08}.seg")
}

/// The slot that a file name in `segments/` stands for.
#[must_use]
pub fn slot_of(name: &str) -> Option<u32> {
    name.strip_suffix(".seg").filter(|digits| digits.len() == 8)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_header_is_pinned() {
        let header = SegmentHeader { disk: DiskId([7; 16]), slot: 3, segment_bytes: 1 << 20, sequence: 9 };
        let bytes = header.encode();
        let words: Vec<u32> = bytes.chunks_exact(4).map(|c| u32_at(c, 0)).collect();
        let id = 0x0707_0707;
        assert_eq!(words[..15], [0x4745_5343, 1, 3, 0, id, id, id, id, 1 << 20, 0, 9, 0, 0, 0, 0]);
        assert_eq!(words[15], GOLDEN_SEGMENT_SUM);
        assert_eq!(SegmentHeader::decode(&bytes), HeaderFound::Valid(header));
        assert_eq!(SegmentHeader::decode(&[0; 64]), HeaderFound::Blank);
        let mut bad = bytes;
        bad[40] ^= 1;
        assert_eq!(SegmentHeader::decode(&bad), HeaderFound::Damaged);
        assert_eq!((slot_of("00000012.seg"), slot_of("12.seg")), (Some(12), None));
    }

    const GOLDEN_SEGMENT_SUM: u32 = 0x3bd2_a2ac;
}
