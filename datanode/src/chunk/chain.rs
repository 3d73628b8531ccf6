//! [`chain_next`]: the running checksum over a chunk's record headers.

use cairn_types::{Chain, ChunkId, Epoch, Generation, Sequence, WriterId};

/// The fields of a record's header that the chain covers. The committed length is not one of them:
/// it is advice, not content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainedHeader {
    /// The chunk.
    pub chunk: ChunkId,
    /// The epoch in which the record was made.
    pub epoch: Epoch,
    /// Offset in the chunk.
    pub offset: u64,
    /// Bytes of payload.
    pub length: u32,
    /// The writer generation.
    pub generation: Generation,
    /// The writer.
    pub writer: WriterId,
    /// The writer's sequence.
    pub sequence: Sequence,
    /// CRC32C of the payload.
    pub payload_crc32c: u32,
}

/// `crc32c(previous chain, chunk, epoch, offset, length, generation, writer, sequence, payload crc)`,
/// every field little-endian in its own width: 4, 8, 4, 8, 4, 8, 8, 8, 4 = 56 bytes.
///
/// A chunk starts with `Chain(0)`. Close records do not move the chain.
#[must_use]
pub fn chain_next(previous: Chain, header: &ChainedHeader) -> Chain {
    let mut bytes = [0u8; 56];
    bytes[0..4].copy_from_slice(&previous.0.to_le_bytes());
    bytes[4..12].copy_from_slice(&header.chunk.0.to_le_bytes());
    bytes[12..16].copy_from_slice(&header.epoch.0.to_le_bytes());
    bytes[16..24].copy_from_slice(&header.offset.to_le_bytes());
    bytes[24..28].copy_from_slice(&header.length.to_le_bytes());
    bytes[28..36].copy_from_slice(&header.generation.0.to_le_bytes());
    bytes[36..44].copy_from_slice(&header.writer.0.to_le_bytes());
    bytes[44..52].copy_from_slice(&header.sequence.0.to_le_bytes());
    bytes[52..56].copy_from_slice(&header.payload_crc32c.to_le_bytes());
    Chain(crc32c::crc32c(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_of_a_known_header_is_pinned() {
        let header = ChainedHeader {
            chunk: ChunkId(7),
            epoch: Epoch(1),
            offset: 4096,
            length: 512,
            generation: Generation(3),
            writer: WriterId(9),
            sequence: Sequence(11),
            payload_crc32c: 0xdead_beef,
        };
        let first = chain_next(Chain(0), &header);
        assert_eq!(first, Chain(GOLDEN_FIRST));
        assert_eq!(chain_next(first, &header), Chain(GOLDEN_SECOND));
        assert_ne!(first, chain_next(Chain(0), &ChainedHeader { sequence: Sequence(12), ..header }));
    }

    const GOLDEN_FIRST: u32 = 0x4c57_e0c0;
    const GOLDEN_SECOND: u32 = 0x0d34_381a;
}
