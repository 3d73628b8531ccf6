//! Many seeds. `CAIRN_SEED` repeats one, `CAIRN_LONG` adds many.

use super::lie::Lie;
use super::run::{Found, Report, run};

/// Seeds in an ordinary run, and in a long one.
const SEEDS: u64 = 30;
const SEEDS_LONG: u64 = 2000;
/// In so many seeds each planted fault is found.
const CAUGHT_WITHIN: u64 = 40;

fn seeds(count: u64) -> std::ops::Range<u64> {
    let named = std::env::var("CAIRN_SEED").ok().and_then(|text| text.parse().ok());
    named.map_or(1..count + 1, |seed: u64| seed..seed + 1)
}

fn passed(seed: u64, outcome: Result<Report, Found>) -> Report {
    outcome.unwrap_or_else(|Found { faults, story }| {
        let path = std::env::temp_dir().join(format!("cairn-sim-{seed}.txt"));
        std::fs::write(&path, story.join("\n")).unwrap();
        let last = story[story.len().saturating_sub(20)..].join("\n");
        panic!(
            "{last}\nseed {seed}: {}\nall of it: {}\nagain: CAIRN_SEED={seed} cargo xtask test --filter raft::sim",
            faults.join("; "),
            path.display()
        )
    })
}

#[test]
fn histories_with_crashes_at_every_write_lose_nothing_and_repeat_nothing() {
    let long = std::env::var_os("CAIRN_LONG").is_some();
    let mut sums = [0; 8];
    let mut runs = 0;
    for seed in seeds(if long { SEEDS_LONG } else { SEEDS }) {
        let report = passed(seed, run(seed, None));
        let counts = report.counts;
        let these = [report.entries, report.acknowledged, report.reads, counts.lives, counts.snapshots];
        let more = [counts.elections, counts.changes, 0];
        sums.iter_mut().zip(these.into_iter().chain(more)).for_each(|(sum, one)| *sum += one);
        runs += 1;
    }
    let [entries, acknowledged, reads, lives, snapshots, votes, changes, _] = sums;
    println!(
        "{runs} seeds: {entries} entries, {acknowledged} requests acknowledged, {reads} reads, {lives} starts of \
         servers, {snapshots} snapshots installed, {votes} votes, {changes} changes of the members"
    );
    if runs > 20 {
        assert!(snapshots > runs / 4 && changes > runs / 8 && lives > 8 * runs && acknowledged > 50 * runs);
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in seeds(3) {
        let (first, again) = (passed(seed, run(seed, None)), passed(seed, run(seed, None)));
        let pairs = first.story.iter().zip(&again.story).enumerate();
        let differs =
            pairs.map(|(line, (one, other))| (line, one, other)).find(|(_, one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.trace, again.trace, "seed {seed}: the same events, in another order of the tasks");
    }
    let (one, other) = (passed(1, run(1, None)), passed(2, run(2, None)));
    assert_ne!(one.trace, other.trace);
}

fn caught(lie: Lie) {
    let found = (1..=CAUGHT_WITHIN).find_map(|seed| Some((seed, run(seed, Some(lie)).err()?.faults)));
    let (seed, faults) = found.unwrap_or_else(|| panic!("{lie:?}: not seen in {CAUGHT_WITHIN} seeds"));
    println!("{lie:?}: seed {seed}: {}", faults.join("; "));
}

#[test]
fn a_vote_that_is_acknowledged_before_it_is_durable_is_caught() {
    caught(Lie::Votes);
}

#[test]
fn an_entry_that_is_acknowledged_before_it_is_durable_is_caught() {
    caught(Lie::Entries);
}

#[test]
fn an_applied_index_that_moves_without_its_rows_is_caught() {
    caught(Lie::Applied);
}

#[test]
fn a_reply_that_is_lost_at_a_restart_is_caught() {
    caught(Lie::Replies);
}
