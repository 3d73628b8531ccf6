//! The frames of the key-value example: what was written is read back; of what was cut the whole frames are;
//! what was changed is found.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../examples/kv/store/record.rs"]
mod record;

use proptest::prelude::*;
use record::{Batch, Change, Frames, HEADER_BYTES, decode, encode};

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..most)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (bytes(20), bytes(200)).prop_map(|(key, value)| Change::Put { key, value }),
        bytes(20).prop_map(|key| Change::Delete { key }),
    ]
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let batch = (any::<u64>(), proptest::collection::vec(change(), 0..5));
    proptest::collection::vec(batch.prop_map(|(number, changes)| Batch { number, changes }), 0..6)
}

fn file(batches: &[Batch]) -> Vec<u8> {
    batches.iter().flat_map(encode).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_and_of_what_is_cut_the_whole_frames(
        batches in batches(),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = file(&batches);
        prop_assert_eq!(decode(&whole), Ok(Frames { batches: batches.clone(), torn: 0 }));
        let cut = cut.index(whole.len() + 1);
        let mut kept = Vec::new();
        let mut end = 0;
        for batch in batches {
            let next = end + encode(&batch).len();
            if next > cut {
                break;
            }
            end = next;
            kept.push(batch);
        }
        prop_assert_eq!(decode(&whole[..cut]), Ok(Frames { batches: kept, torn: cut - end }));
    }

    #[test]
    fn one_wrong_bit_is_found(
        batches in batches(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let mut wrong = file(&batches);
        prop_assume!(!wrong.is_empty());
        let at = at.index(wrong.len());
        wrong[at] ^= 1 << bit;
        let damage = decode(&wrong).unwrap_err();
        prop_assert!(damage.at <= at);
    }
}

#[test]
fn a_frame_is_as_it_is_described() {
    let changes = vec![
        Change::Put { key: b"k".to_vec(), value: b"vv".to_vec() },
        Change::Delete { key: b"old".to_vec() },
    ];
    assert_eq!(changes.iter().map(Change::bytes).sum::<usize>(), 16);
    let frame = encode(&Batch { number: 7, changes });
    assert_eq!(frame[..12], [16, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(frame[HEADER_BYTES..], *b"\x01\x01\0k\x02\0\0\0vv\x02\x03\0old");
}
