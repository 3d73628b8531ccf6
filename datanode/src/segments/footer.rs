//! The footer of a full segment: the headers of its records, so that it need not be scanned.

use cairn_types::Timestamp;

use super::record::{HEADER_BYTES, Location, RecordHeader, u32_at, u64_at};
use super::replay::Entry;

/// Bytes at a segment's end that the trailer has to itself.
pub const TRAILER_AREA_BYTES: u64 = 4096;
/// Bytes of the trailer that mean something; one sector.
pub const TRAILER_BYTES: usize = 64;
/// Bytes of one entry.
pub const ENTRY_BYTES: usize = 12 + HEADER_BYTES;
const MAGIC: u32 = u32::from_le_bytes(*b"CFTR");

/// The end of a full segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// The segment's sequence.
    pub segment: u64,
    /// Where the last batch ends.
    pub end: u32,
    /// The last batch's number.
    pub batch: u64,
    /// The run that closed it.
    pub run: u64,
    /// Number of entries, or 0 with `entries_offset` 0 when there are none and a scan is needed.
    pub entries: u32,
    /// Where they are.
    pub entries_offset: u32,
    /// Their CRC32C.
    pub entries_crc32c: u32,
}

impl Trailer {
    /// The bytes on the disk.
    #[must_use]
    pub fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut b = [0u8; TRAILER_BYTES];
        b[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        b[4..8].copy_from_slice(&1u32.to_le_bytes());
        b[8..16].copy_from_slice(&self.segment.to_le_bytes());
        b[16..24].copy_from_slice(&self.batch.to_le_bytes());
        b[24..32].copy_from_slice(&self.run.to_le_bytes());
        b[32..36].copy_from_slice(&self.end.to_le_bytes());
        b[36..40].copy_from_slice(&self.entries.to_le_bytes());
        b[40..44].copy_from_slice(&self.entries_offset.to_le_bytes());
        b[44..48].copy_from_slice(&self.entries_crc32c.to_le_bytes());
        let sum = crc32c::crc32c(&b[..60]);
        b[60..64].copy_from_slice(&sum.to_le_bytes());
        b
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else.
    #[must_use]
    pub fn decode(b: &[u8; TRAILER_BYTES]) -> Option<Self> {
        let framed = u32_at(b, 0) == MAGIC && u32_at(b, 4) == 1;
        if !framed || crc32c::crc32c(&b[..60]) != u32_at(b, 60) {
            return None;
        }
        Some(Self {
            segment: u64_at(b, 8),
            batch: u64_at(b, 16),
            run: u64_at(b, 24),
            end: u32_at(b, 32),
            entries: u32_at(b, 36),
            entries_offset: u32_at(b, 40),
            entries_crc32c: u32_at(b, 44),
        })
    }
}

/// Appends an entry to `out`: offset, wall time, the header's fixed part.
pub(crate) fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    out.extend_from_slice(&entry.location.offset.to_le_bytes());
    out.extend_from_slice(&entry.wall.0.to_le_bytes());
    out.extend_from_slice(&entry.header.encode_fixed(entry.segment));
}

/// Reads entries; `None` when one of them is not possible.
pub(crate) fn decode_entries(bytes: &[u8], slot: u32, segment: u64) -> Option<Vec<Entry>> {
    let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return None;
    }
    let decode = |b: &[u8; ENTRY_BYTES]| {
        let header = RecordHeader::decode_fixed(b[12..].first_chunk()?, segment)?;
        let location = Location { slot, offset: u32_at(b, 0) };
        Some(Entry { header, location, segment, wall: Timestamp(u64_at(b, 4) as i64) })
    };
    entries.iter().map(decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::RecordKind;

    #[test]
    fn a_trailer_is_pinned() {
        let trailer = Trailer {
            segment: 1,
            end: 2,
            batch: 3,
            run: 4,
            entries: 5,
            entries_offset: 6,
            entries_crc32c: 7,
        };
        let bytes = trailer.encode();
        let words: Vec<u32> = bytes.chunks_exact(4).map(|c| u32_at(c, 0)).collect();
        assert_eq!(words[..15], [0x5254_4643, 1, 1, 0, 3, 0, 4, 0, 2, 5, 6, 7, 0, 0, 0]);
        assert_eq!(words[15], GOLDEN_TRAILER_SUM);
        assert_eq!(Trailer::decode(&bytes), Some(trailer));
    }

    #[test]
    fn entries_round_trip() {
        let header = RecordHeader { offset: 77, length: 5, ..RecordHeader::new(RecordKind::Append, 9) };
        let location = Location { slot: 2, offset: 4168 };
        let entry = Entry { header, location, segment: 8, wall: Timestamp(-3) };
        let mut bytes = Vec::new();
        encode_entry(&entry, &mut bytes);
        encode_entry(&entry, &mut bytes);
        assert_eq!(decode_entries(&bytes, 2, 8), Some(vec![entry, entry]));
        assert_eq!(decode_entries(&bytes[1..], 2, 8), None);
    }

    const GOLDEN_TRAILER_SUM: u32 = 0x5ce1_346f;
}
