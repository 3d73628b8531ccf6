//! A hundred thousand random operations a run, each history from a seed of its own.

use cairn_meta::store::MemoryStore;
use cairn_types::{Clock, SystemClock};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::{Step, dump, replay, run, sharing};

/// Operations in an ordinary run, and in a long one.
const OPERATIONS: usize = 100_000;
const OPERATIONS_LONG: usize = 2_000_000;

/// Says which seed it was when the test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {0}; again: CAIRN_SEED={0} cargo xtask test --filter hundred_thousand", self.0);
        }
    }
}

/// The history that a seed gives: of every verb, or of transactions and shared bytes.
fn history_of(seed: u64) -> Vec<Step> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let strategy = if seed.is_multiple_of(2) { super::history().boxed() } else { sharing::history().boxed() };
    strategy.new_tree(&mut runner).unwrap().current()
}

/// The first seed: CAIRN_SEED, else one from the time.
fn first_seed() -> u64 {
    let named = std::env::var("CAIRN_SEED").ok().and_then(|text| text.parse().ok());
    named.unwrap_or_else(|| SystemClock.wall().0.unsigned_abs())
}

/// Replies, the tree, the content and the invariants are the model's; entries in batches give the same.
#[test]
fn a_hundred_thousand_random_operations_are_the_models() {
    let wanted = if std::env::var_os("CAIRN_LONG").is_some() { OPERATIONS_LONG } else { OPERATIONS };
    let (first, mut histories, mut operations) = (first_seed(), 0, 0);
    while operations < wanted {
        let seed = Seed(first.wrapping_add(histories));
        let history = history_of(seed.0);
        let store = MemoryStore::new();
        let (log, replies) = run(&store, &history);
        let batched = MemoryStore::new();
        assert_eq!(replay(&batched, &log, &[7, 1, 30]), replies);
        assert_eq!(dump(&batched), dump(&store));
        histories += 1;
        operations += history.len();
    }
    println!("{operations} operations in {histories} histories from seed {first} on");
}
