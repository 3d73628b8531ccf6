//! Rule R5, case by case and over every small set of answers.

use cairn_types::{Ack, Chain, NodeId, Policy, ReplicaHealth, Sequence, Timestamp, WriterId, WriterMark};

use super::decide::{Answer, Undecided, decide, holders_needed, what_is_left};

use ReplicaHealth::{Clean, Damaged, Limbo};

fn answer(node: u64, length: u64, health: ReplicaHealth, heard: u64) -> Answer {
    let mark = WriterMark { writer: WriterId(1), sequence: Sequence(length), offset: length };
    Answer {
        node: NodeId(node),
        length,
        chain: Chain(length as u32 * 7),
        marks: vec![mark],
        health,
        heard_committed: heard,
        mtime: Timestamp(length as i64),
    }
}

#[test]
fn one_clean_replica_decides() {
    for ack in [Ack::Fsync, Ack::Memory] {
        let end = decide(&[answer(2, 5, Clean, 3)], ack, 3).expect("decided");
        assert_eq!((end.length, end.chain, end.mtime), (5, Chain(35), Timestamp(5)));
        assert_eq!(end.marks[0].sequence, Sequence(5));
        assert_eq!(end.holders, [NodeId(2)]);
        assert!(end.short.is_empty());
    }
}

#[test]
fn the_longest_valid_prefix_wins_even_in_limbo() {
    let answers = [answer(3, 4, Clean, 0), answer(2, 9, Limbo, 0), answer(1, 9, Clean, 4)];
    let end = decide(&answers, Ack::Memory, 3).expect("decided");
    assert_eq!(end.length, 9);
    assert_eq!(end.holders, [NodeId(1), NodeId(2)]);
    assert_eq!(end.short, [NodeId(3)]);
}

#[test]
fn a_lone_restarted_replica_is_no_proof() {
    assert_eq!(decide(&[answer(1, 5, Limbo, 0)], Ack::Fsync, 2), Err(Undecided::NoProof));
    assert_eq!(decide(&[answer(1, 5, Limbo, 0)], Ack::Fsync, 3), Err(Undecided::NoProof));
    assert_eq!(decide(&[], Ack::Fsync, 3), Err(Undecided::NoProof));
}

#[test]
fn all_of_them_or_two_in_limbo_decide_what_was_fsynced() {
    assert_eq!(decide(&[answer(1, 5, Limbo, 0)], Ack::Fsync, 1).map(|e| e.length), Ok(5));
    let two = [answer(1, 5, Limbo, 0), answer(2, 7, Limbo, 0)];
    assert_eq!(decide(&two, Ack::Fsync, 3).map(|e| e.length), Ok(7));
}

#[test]
fn restarted_replicas_never_decide_a_memory_chunk() {
    let all: Vec<Answer> = (1..=3).map(|n| answer(n, 5, Limbo, 0)).collect();
    assert_eq!(decide(&all, Ack::Memory, 3), Err(Undecided::NoProof));
    assert_eq!(decide(&all[..1], Ack::Memory, 1), Err(Undecided::NoProof));
}

#[test]
fn a_damaged_replica_counts_for_nothing_but_what_it_heard() {
    let lone = [answer(1, 9, Damaged, 9)];
    assert_eq!(decide(&lone, Ack::Fsync, 1), Err(Undecided::NoProof));
    let with_limbo = [answer(1, 9, Damaged, 0), answer(2, 5, Limbo, 0)];
    assert_eq!(decide(&with_limbo, Ack::Fsync, 2), Err(Undecided::NoProof));
    let heard = [answer(1, 2, Damaged, 9), answer(2, 5, Clean, 0)];
    assert_eq!(decide(&heard, Ack::Fsync, 3), Err(Undecided::BelowHeard { heard: 9, longest: 5 }));
    let longer = [answer(1, 9, Damaged, 0), answer(2, 5, Clean, 0)];
    let end = decide(&longer, Ack::Fsync, 3).expect("decided");
    assert_eq!((end.length, end.holders, end.short), (5, vec![NodeId(2)], vec![]));
}

#[test]
fn different_records_at_one_length_decide_nothing() {
    let mut other = answer(2, 5, Clean, 0);
    other.chain = Chain(1);
    let answers = [answer(1, 5, Clean, 0), other, answer(3, 8, Clean, 0)];
    assert_eq!(decide(&answers, Ack::Fsync, 3), Err(Undecided::Diverged { length: 5 }));
}

/// Every set of up to three replicas, each silent or with any health, length and heard length.
#[test]
fn over_all_small_cases_the_rule_holds() {
    let mut choices: Vec<Option<(u64, ReplicaHealth, u64)>> = vec![None];
    for length in 0..3 {
        for health in [Clean, Limbo, Damaged] {
            choices.extend((0..3).map(|heard| Some((length, health, heard))));
        }
    }
    let mut decided = 0;
    for set in 1..=3usize {
        for case in 0..choices.len().pow(set as u32) {
            let answers: Vec<Answer> = (0..set)
                .filter_map(|i| {
                    let (length, health, heard) =
                        choices[case / choices.len().pow(i as u32) % choices.len()]?;
                    Some(answer(i as u64 + 1, length, health, heard))
                })
                .collect();
            for ack in [Ack::Fsync, Ack::Memory] {
                decided += usize::from(check_case(&answers, ack, set));
            }
        }
    }
    assert!(decided > 10_000, "only {decided} cases were decided");
}

#[test]
fn what_is_left_is_the_longest_valid_prefix_whoever_has_it() {
    assert_eq!(what_is_left(&[]), Err(Undecided::NoProof));
    let limbo = [answer(1, 5, Limbo, 0), answer(2, 7, Limbo, 9), answer(3, 7, Limbo, 0)];
    let end = what_is_left(&limbo).expect("something is left");
    assert_eq!((end.length, end.chain, end.marks[0].sequence), (7, Chain(49), Sequence(7)));
    assert_eq!((end.holders, end.short), (vec![NodeId(2), NodeId(3)], vec![NodeId(1)]));
    // A damaged one holds it only when nobody else does, and is never brought up.
    let damaged = [answer(1, 9, Damaged, 12), answer(2, 7, Limbo, 0), answer(3, 2, Damaged, 0)];
    let end = what_is_left(&damaged).expect("something is left");
    assert_eq!((end.length, end.holders, end.short), (9, vec![NodeId(1)], vec![NodeId(2)]));
    let both = [answer(1, 9, Damaged, 12), answer(2, 9, Limbo, 0)];
    let end = what_is_left(&both).expect("something is left");
    assert_eq!((end.length, end.holders, end.short), (9, vec![NodeId(2)], vec![]));
}

#[test]
fn nobody_accepts_one_of_two_histories() {
    let mut other = answer(2, 5, Damaged, 0);
    other.chain = Chain(1);
    let answers = [answer(1, 5, Damaged, 0), other.clone()];
    assert_eq!(what_is_left(&answers), Err(Undecided::Diverged { length: 5 }));
    let limbo = [answer(1, 5, Limbo, 0), Answer { health: Limbo, ..other.clone() }, answer(3, 8, Limbo, 0)];
    assert_eq!(what_is_left(&limbo), Err(Undecided::Diverged { length: 5 }));
    // What a damaged one says beside a sound one of the same length decides nothing.
    let beside = [answer(1, 5, Limbo, 0), other];
    assert_eq!(what_is_left(&beside).map(|end| end.holders), Ok(vec![NodeId(1)]));
}

/// Checks one case against the rule said in other words; true when it was decided.
fn check_case(answers: &[Answer], ack: Ack, set: usize) -> bool {
    let of = |health| answers.iter().filter(|a| a.health == health).count();
    let heard = answers.iter().map(|a| a.heard_committed).max().unwrap_or(0);
    let longest = answers.iter().filter(|a| a.health != Damaged).map(|a| a.length).max();
    let proof = of(Clean) > 0 || (ack == Ack::Fsync && (of(Limbo) >= 2 || of(Limbo) == set));
    let expected = longest.filter(|l| proof && *l >= heard);
    let got = decide(answers, ack, set);
    // What an operator may accept is the longest that anyone has: never below what is proved.
    let left = what_is_left(answers).map(|end| end.length);
    assert_eq!(left.ok(), answers.iter().map(|a| a.length).max(), "{answers:?}");
    assert_eq!(got.as_ref().ok().map(|e| e.length), expected, "{answers:?} {ack:?} of {set}");
    let Ok(end) = got else { return false };
    for a in answers {
        let held = end.holders.contains(&a.node);
        assert_eq!(held, a.health != Damaged && a.length == end.length);
        assert_eq!(end.short.contains(&a.node), a.health != Damaged && a.length < end.length);
    }
    assert!(!end.holders.is_empty());
    true
}

#[test]
fn two_replicas_must_hold_the_end_unless_one_is_all_there_is() {
    let cluster = Policy::cluster();
    let lenient = Policy { min_replicas: 1, ..cluster };
    assert_eq!(holders_needed(3, 3, &cluster), 2);
    assert_eq!(holders_needed(3, 1, &cluster), 2);
    assert_eq!(holders_needed(3, 2, &lenient), 2);
    assert_eq!(holders_needed(3, 1, &lenient), 1);
    assert_eq!(holders_needed(1, 5, &Policy::single()), 1);
}
