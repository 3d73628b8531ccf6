use proptest::prelude::*;

use super::*;

const KIB: u64 = 1 << 10;

fn sent(length: u64) -> Stretch {
    Stretch { length, copied: None }
}

fn copied(source: usize, offset: u64, length: u64) -> Stretch {
    Stretch { length, copied: Some(CopyFrom { source, offset, whole: false }) }
}

fn sizes(plan: &Plan) -> Vec<(char, u64)> {
    let kind = |part: &PlannedPart| if matches!(part, PlannedPart::Send(_)) { 's' } else { 'c' };
    plan.parts.iter().map(|part| (kind(part), part.length())).collect()
}

#[test]
fn a_kibibyte_behind_ten_gibibytes_is_all_that_is_sent() {
    let plan = plan(&[copied(0, 0, 10 << 30), sent(KIB)]).unwrap();
    assert_eq!((plan.sent(), plan.copied()), (KIB, 10 << 30));
    assert_eq!(plan.parts.len(), 11);
    assert_eq!(plan.parts[10], PlannedPart::Send((10 << 30)..(10 << 30) + KIB));
}

#[test]
fn a_small_change_in_the_middle_takes_what_it_lacks_from_one_side() {
    let plan = plan(&[copied(0, 0, 64 * MIB), sent(KIB), copied(0, 64 * MIB + KIB, 64 * MIB)]).unwrap();
    assert_eq!(sizes(&plan), [('c', 59 * MIB + KIB), ('s', 5 * MIB), ('c', 64 * MIB)]);
}

#[test]
fn a_small_change_at_the_front_takes_what_it_lacks_from_behind() {
    let plan = plan(&[sent(KIB), copied(0, KIB, 64 * MIB)]).unwrap();
    assert_eq!(sizes(&plan), [('s', 5 * MIB), ('c', 59 * MIB + KIB)]);
    let PlannedPart::Copy { from, .. } = &plan.parts[1] else { panic!("{plan:?}") };
    assert_eq!(*from, 5 * MIB..64 * MIB + KIB);
}

#[test]
fn what_has_no_room_to_give_is_sent_and_both_sides_give_where_one_has_too_little() {
    let plan_of = |stretches: &[Stretch]| plan(stretches).unwrap();
    // 1 MiB from the left, 3 from the right.
    let both = plan_of(&[copied(0, 0, 6 * MIB), sent(MIB), copied(1, 0, 8 * MIB), copied(2, 0, 6 * MIB)]);
    assert_eq!(sizes(&both), [('c', 5 * MIB), ('s', 5 * MIB), ('c', 5 * MIB), ('c', 6 * MIB)]);
    // The smaller one goes.
    let one =
        plan_of(&[copied(0, 0, 6 * MIB), sent(MIB), copied(1, 0, 5 * MIB), sent(MIB), copied(2, 0, 9 * MIB)]);
    assert_eq!(sizes(&one), [('c', 6 * MIB), ('s', 7 * MIB), ('c', 9 * MIB)]);
}

#[test]
fn a_small_object_is_copied_whole_or_sent() {
    let whole = |length| Stretch { length, copied: Some(CopyFrom { source: 0, offset: 0, whole: true }) };
    assert_eq!(sizes(&plan(&[whole(3)]).unwrap()), [('c', 3)]);
    assert_eq!(sizes(&plan(&[sent(6 * MIB), whole(3)]).unwrap()), [('s', 6 * MIB), ('c', 3)]);
    assert_eq!(sizes(&plan(&[sent(MIB), whole(3)]).unwrap()), [('s', MIB + 3)]);
    assert_eq!(sizes(&plan(&[whole(3), sent(MIB)]).unwrap()), [('s', MIB + 3)]);
}

#[test]
fn large_runs_are_cut_evenly_and_very_large_ones_coarsely() {
    let plan_of = |stretches: &[Stretch]| plan(stretches).unwrap();
    assert_eq!(sizes(&plan_of(&[sent(33 * MIB)])), [('s', 11 * MIB); 3]);
    let large = plan_of(&[sent(300 << 30)]);
    assert!(large.parts.len() <= 10_000 && large.parts.iter().all(|part| part.length() <= 64 * MIB));
    assert!(matches!(plan(&[sent(1 << 40)]), Err(ObjectError::TooManyParts)));
    // Copies so small that there were too many parts: some of them are sent.
    let many: Vec<Stretch> = (0..12_000).map(|n| copied(n, 0, 6 * MIB)).collect();
    let plan = plan_of(&many);
    assert!(plan.parts.len() <= 10_000);
    assert_eq!(plan.sent() + plan.copied(), 12_000 * 6 * MIB);
    assert_eq!(plan_of(&[]), Plan::default());
}

/// The least that must be sent, found by trying every way to cut: for each byte, whether it is copied.
fn least(bytes: &[Option<(usize, u64)>], min: usize) -> u64 {
    // least[i]: the least that is sent of the first i bytes, which end with a part of at least `min`.
    let mut least = vec![u64::MAX; bytes.len() + 1];
    least[0] = 0;
    let mut best = if bytes.is_empty() { 0 } else { u64::MAX };
    for start in 0..bytes.len() {
        if least[start] == u64::MAX {
            continue;
        }
        let mut contiguous = true;
        for end in start + 1..=bytes.len() {
            let byte = bytes[end - 1];
            contiguous &= match byte {
                None => false,
                Some((source, at)) => {
                    end - 1 == start || bytes[end - 2] == at.checked_sub(1).map(|before| (source, before))
                }
            };
            let cost = least[start] + if contiguous { 0 } else { (end - start) as u64 };
            if end - start >= min {
                least[end] = least[end].min(cost);
            }
            if end == bytes.len() {
                best = best.min(cost);
            }
        }
    }
    best
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn all_bytes_are_there_once_no_part_is_too_small_and_no_more_is_sent_than_must(
        drawn in proptest::collection::vec((any::<bool>(), 1_u64..24), 0..9),
    ) {
        let limits = Limits { part_min: 5, copy_max: 1_000, send_max: 1_000, parts_max: 100 };
        let stretches: Vec<Stretch> = drawn
            .iter()
            .enumerate()
            .map(|(n, (is_copied, length))| if *is_copied { copied(n, 7, *length) } else { sent(*length) })
            .collect();
        let mut bytes = Vec::new();
        for stretch in &stretches {
            for n in 0..stretch.length {
                bytes.push(stretch.copied.map(|from| (from.source, from.offset + n)));
            }
        }
        let plan = plan_within(&joined(&stretches), &limits);
        let mut at = 0_u64;
        for (n, part) in plan.parts.iter().enumerate() {
            prop_assert!(part.length() >= 1 && (n + 1 == plan.parts.len() || part.length() >= 5), "{:?}", plan);
            match part {
                PlannedPart::Send(range) => prop_assert_eq!(range.start, at),
                PlannedPart::Copy { source, from } => {
                    for (n, offset) in from.clone().enumerate() {
                        prop_assert_eq!(bytes[at as usize + n], Some((*source, offset)));
                    }
                }
            }
            at += part.length();
        }
        prop_assert_eq!(at as usize, bytes.len());
        prop_assert_eq!(plan.sent(), least(&bytes, 5), "{:?}", plan);
    }

    #[test]
    fn parts_that_are_cut_are_never_too_small(length in 1_u64..100_000) {
        let limits = Limits { part_min: 500, copy_max: 4_096, send_max: 1_024, parts_max: 10_000 };
        for stretch in [sent(length), copied(0, 3, length)] {
            let plan = plan_within(&[stretch], &limits);
            prop_assert_eq!(plan.sent() + plan.copied(), length);
            let most = if stretch.copied.is_some() { 4_096 } else { 1_024 };
            prop_assert!(plan.parts.iter().all(|part| part.length() <= most));
            prop_assert!(plan.parts.len() == 1 || plan.parts.iter().all(|part| part.length() >= 500));
        }
    }
}
