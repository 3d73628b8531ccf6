//! The bytes of Raft's records, pinned, and what is not a record.

use bytes::Bytes;
use openraft::EntryPayload;
use proptest::prelude::*;

use super::record::{
    AppliedRecord, EntryRecord, LogIdRecord, MembershipRecord, PayloadRecord, RecordError, VoteRecord,
    decode, encode,
};
use super::types::{Entry, Members, Proposal, Vote};

fn log_id() -> impl Strategy<Value = LogIdRecord> {
    any::<(u64, u64)>().prop_map(|(term, index)| LogIdRecord { term, index })
}

fn membership() -> impl Strategy<Value = MembershipRecord> {
    prop::collection::btree_map(1u64..50, "[a-z]{1,8}:[0-9]{1,4}", 1..5).prop_map(|members| {
        let voters = vec![members.keys().copied().collect()];
        MembershipRecord { voters, members: members.into_iter().collect() }
    })
}

fn payload() -> impl Strategy<Value = PayloadRecord> {
    prop_oneof![
        Just(PayloadRecord::Blank),
        prop::collection::vec(any::<u8>(), 0..64).prop_map(PayloadRecord::Command),
        membership().prop_map(PayloadRecord::Membership),
    ]
}

proptest! {
    #[test]
    fn entries_survive_the_disk_and_openraft(id in log_id(), payload in payload()) {
        let record = EntryRecord { id, payload };
        let entry = Entry::try_from(decode::<EntryRecord>(&encode(&record)).unwrap()).unwrap();
        prop_assert_eq!(EntryRecord::from(&entry), record);
    }

    #[test]
    fn what_was_applied_survives(applied in prop::option::of(log_id()), at in log_id(), m in membership()) {
        let record = AppliedRecord { applied, membership_id: Some(at), membership: m };
        let (id, members) = decode::<AppliedRecord>(&encode(&record)).unwrap().open().unwrap();
        prop_assert_eq!(AppliedRecord::new(id.as_ref(), &members), record);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode::<EntryRecord>(&bytes).map(Entry::try_from);
        let _ = decode::<AppliedRecord>(&bytes).map(AppliedRecord::open);
    }
}

#[test]
fn golden_bytes() {
    let id = LogIdRecord { term: 3, index: 300 };
    let command = EntryRecord { id, payload: PayloadRecord::Command(vec![9, 8]) };
    assert_eq!(encode(&command), Bytes::from_static(&[1, 3, 251, 44, 1, 1, 2, 9, 8]));
    let blank = EntryRecord { id, payload: PayloadRecord::Blank };
    assert_eq!(encode(&blank), Bytes::from_static(&[1, 3, 251, 44, 1, 0]));
    let membership = MembershipRecord { voters: vec![vec![1]], members: vec![(1, "h:1".into())] };
    let change = EntryRecord { id, payload: PayloadRecord::Membership(membership.clone()) };
    let bytes = [1, 3, 251, 44, 1, 2, 1, 1, 1, 1, 1, 3, b'h', b':', b'1'];
    assert_eq!(encode(&change), Bytes::copy_from_slice(&bytes));
    let vote = VoteRecord { term: 2, node: 1, committed: true };
    assert_eq!(encode(&vote), Bytes::from_static(&[1, 2, 1, 1]));
    let applied = AppliedRecord { applied: Some(id), membership_id: None, membership };
    let bytes = [1, 1, 3, 251, 44, 1, 0, 1, 1, 1, 1, 1, 3, b'h', b':', b'1'];
    assert_eq!(encode(&applied), Bytes::copy_from_slice(&bytes));
}

#[test]
fn a_voter_without_an_address_is_refused() {
    let membership = MembershipRecord { voters: vec![vec![1, 2]], members: vec![(1, "h:1".into())] };
    let entry =
        EntryRecord { id: LogIdRecord { term: 1, index: 1 }, payload: PayloadRecord::Membership(membership) };
    assert_eq!(Entry::try_from(entry).err(), Some(RecordError::Membership));
}

#[test]
fn votes_and_empty_memberships_survive() {
    let vote = VoteRecord { term: 7, node: 3, committed: false };
    assert_eq!(VoteRecord::from(&Vote::from(vote)), vote);
    let empty = AppliedRecord::new(None, &Members::default());
    assert_eq!(empty.clone().open().unwrap(), (None, Members::default()));
    let entry = Entry {
        log_id: LogIdRecord { term: 1, index: 2 }.into(),
        payload: EntryPayload::Normal(Proposal(Bytes::from_static(b"x"))),
    };
    assert_eq!(EntryRecord::from(&entry).payload, PayloadRecord::Command(b"x".to_vec()));
}
