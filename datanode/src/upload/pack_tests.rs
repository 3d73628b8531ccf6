//! The bytes of a pack are pinned.

use cairn_types::{Chain, ChunkId, ClusterId, InodeId, PackId};
use proptest::prelude::*;

use super::pack::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn frame() -> FrameHeader {
    let crc32c = crc32c::crc32c(b"hello");
    FrameHeader { chunk: ChunkId(0x1122), length: 5, chain: Chain(0xaabb_ccdd), crc32c, blocks: vec![crc32c] }
}

fn entry() -> IndexEntry {
    let FrameHeader { chunk, length, chain, crc32c, .. } = frame();
    IndexEntry { chunk, offset: 92, length, chain, crc32c, ino: InodeId(7), base: 4096 }
}

#[test]
fn the_bytes_of_version_1_are_pinned() {
    let header = Header { cluster: ClusterId([0xc1; 16]), pack: PackId(0x0102), chunks: 1 };
    assert_eq!(hex(&header.encode()), GOLDEN_HEADER);
    assert_eq!(hex(&frame().encode()), GOLDEN_FRAME);
    let index = encode_index(&[entry()]);
    assert_eq!(hex(&index), GOLDEN_INDEX);
    let trailer = Trailer { index_offset: 97, chunks: 1, index_crc32c: crc32c::crc32c(&index) };
    assert_eq!(hex(&trailer.encode()), GOLDEN_TRAILER);
}

const GOLDEN_HEADER: &str =
    "436169726e506b0a0100000001000000c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1020100000000000000000000d5ae1dff";
const GOLDEN_FRAME: &str =
    "436b46720000100022110000000000000500000000000000ddccbbaa4cbb719a010000004cbb719ad4c76b64";
const GOLDEN_INDEX: &str =
    "22110000000000005c000000000000000500000000000000ddccbbaa4cbb719a07000000000000000010000000000000";
const GOLDEN_TRAILER: &str =
    "6100000000000000010000009d9ce8420100000000000000000000007343d607436169726e506b45";

#[test]
fn parts_of_a_pack_are_as_long_as_they_say() {
    let header = Header { cluster: ClusterId([1; 16]), pack: PackId(2), chunks: 3 };
    assert_eq!(header.encode().len() as u64, HEADER_BYTES);
    assert_eq!(Header::decode(&header.encode()), Ok(header));
    assert_eq!(frame().encode().len() as u64, frame_header_bytes(5));
    assert_eq!(encode_index(&[entry()]).len() as u64, ENTRY_BYTES);
    let trailer = Trailer { index_offset: 1, chunks: 2, index_crc32c: 3 };
    assert_eq!(trailer.encode().len() as u64, TRAILER_BYTES);
    assert_eq!(Trailer::decode(&trailer.encode()), Ok(trailer));
}

#[test]
fn a_newer_version_is_named() {
    let mut bytes = Header { cluster: ClusterId([1; 16]), pack: PackId(2), chunks: 3 }.encode();
    bytes[8] = 9;
    assert_eq!(Header::decode(&bytes), Err(PackError::Version { found: 9 }));
}

#[test]
fn every_damaged_bit_is_found() {
    let header = Header { cluster: ClusterId([1; 16]), pack: PackId(2), chunks: 3 }.encode();
    let trailer = Trailer { index_offset: 1, chunks: 2, index_crc32c: 3 }.encode();
    let frame = frame().encode();
    type Reads = fn(&[u8]) -> bool;
    let decoders: [(&[u8], Reads); 3] = [
        (&header, |bytes| Header::decode(bytes).is_ok()),
        (&frame, |bytes| FrameHeader::decode(bytes).is_ok()),
        (&trailer, |bytes| Trailer::decode(bytes).is_ok()),
    ];
    for (bytes, reads) in decoders {
        assert!(reads(bytes));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!reads(&damaged), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(!reads(&bytes[..length]), "cut at {length}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_and_indexes_round_trip(
        chunk in any::<u64>(), length in 0u64..=64 << 20, chain in any::<u32>(), seed in any::<u32>(),
        offset in any::<u64>(), ino in any::<u64>(), base in any::<u64>(),
    ) {
        let blocks = (0..length.div_ceil(BLOCK_BYTES) as u32).map(|n| seed.wrapping_mul(n)).collect();
        let (chunk, chain) = (ChunkId(chunk), Chain(chain));
        let frame = FrameHeader { chunk, length, chain, crc32c: seed, blocks };
        let bytes = frame.encode();
        prop_assert_eq!(bytes.len() as u64, frame_header_bytes(length));
        prop_assert_eq!(FrameHeader::decode(&bytes), Ok(frame));
        let entry = IndexEntry { chunk, offset, length, chain, crc32c: seed, ino: InodeId(ino), base };
        let index = encode_index(&[entry, entry]);
        let trailer = Trailer { index_offset: 0, chunks: 2, index_crc32c: crc32c::crc32c(&index) };
        prop_assert_eq!(decode_index(&index, &trailer), Ok(vec![entry, entry]));
        let other = Trailer { index_crc32c: !trailer.index_crc32c, ..trailer };
        prop_assert!(decode_index(&index, &other).is_err());
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Header::decode(&bytes);
        let _ = FrameHeader::decode(&bytes);
        let _ = Trailer::decode(&bytes);
        let sealed = [b"CkFr".as_slice(), &bytes].concat();
        let sealed = [sealed.as_slice(), &crc32c::crc32c(&sealed).to_le_bytes()].concat();
        let _ = FrameHeader::decode(&sealed);
    }
}
