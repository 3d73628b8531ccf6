//! Which nodes a new chunk is placed on. Pure: health and randomness come as arguments.

use cairn_types::{FsError, NodeId, Policy};

/// A data node as placement sees it; only nodes that are alive and not retired are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Bytes it can hold.
    pub capacity_bytes: u64,
    /// Bytes it has left.
    pub free_bytes: u64,
    /// True when the caller could not reach it, or someone recently blamed it for a seal.
    pub shunned: bool,
}

/// Bytes that a node must have left to be given a chunk: a whole one. A node so small that this
/// would be more than a sixteenth of it needs only that much: a chunk's bytes are granted in steps.
pub const FREE_BYTES_MIN: u64 = cairn_types::limits::CHUNK_BYTES_MAX;

impl Candidate {
    /// True when it can take a new chunk.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.free_bytes >= FREE_BYTES_MIN.min(self.capacity_bytes / 16).max(1)
    }
}

/// Chooses min(replicas, usable) nodes, the primary first.
///
/// Nodes are drawn at random in proportion to their free bytes. Shunned ones are taken only
/// when the others are fewer than `min_replicas`, and then no more of them than that needs.
/// The same `seed` gives the same choice.
///
/// # Errors
/// [`FsError::TooFewNodes`] when even with them there are fewer than `min_replicas`;
/// [`FsError::NoSpace`] when there would be enough if they had room.
pub fn choose(candidates: &[Candidate], policy: &Policy, seed: u64) -> Result<Vec<NodeId>, FsError> {
    let roomy = candidates.iter().filter(|c| c.has_room());
    let (shunned, good): (Vec<Candidate>, Vec<Candidate>) = roomy.copied().partition(|c| c.shunned);
    let min = usize::from(policy.min_replicas);
    if good.len() + shunned.len() < min {
        if candidates.len() >= min {
            return Err(FsError::NoSpace);
        }
        let available = u8::try_from(good.len() + shunned.len()).unwrap_or(u8::MAX);
        return Err(FsError::TooFewNodes { available, needed: policy.min_replicas });
    }
    let mut chosen = draw(good, usize::from(policy.replicas), seed);
    if chosen.len() < min {
        chosen.extend(draw(shunned, min - chosen.len(), seed));
    }
    Ok(chosen)
}

/// Draws up to `count` without putting back, weighted by free bytes (Efraimidis-Spirakis keys).
fn draw(candidates: Vec<Candidate>, count: usize, seed: u64) -> Vec<NodeId> {
    let mut keyed: Vec<(f64, NodeId)> = candidates
        .into_iter()
        .map(|c| {
            // 53 random bits, never 0: ln stays finite.
            let unit = ((mix(seed ^ mix(c.node.0)) >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
            (-unit.ln() / c.free_bytes as f64, c.node)
        })
        .collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    keyed.into_iter().take(count).map(|(_, node)| node).collect()
}

/// SplitMix64's finalizer: spreads every bit of `x` over the result.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn nodes(n: u64) -> Vec<Candidate> {
        (1..=n)
            .map(|i| Candidate { node: NodeId(i), capacity_bytes: 16 * GIB, free_bytes: GIB, shunned: false })
            .collect()
    }

    #[test]
    fn as_many_as_the_policy_wants_and_never_twice() {
        for seed in 0..200 {
            let mut chosen = choose(&nodes(5), &Policy::cluster(), seed).expect("five nodes are enough");
            assert_eq!(chosen.len(), 3);
            chosen.sort_unstable();
            chosen.dedup();
            assert_eq!(chosen.len(), 3);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_choice_and_seeds_spread() {
        let of = |seed| choose(&nodes(5), &Policy::cluster(), seed);
        assert_eq!(of(7), of(7));
        let mut primaries: Vec<_> = (0..100).filter_map(|s| of(s).ok()).map(|c| c[0]).collect();
        primaries.sort_unstable();
        primaries.dedup();
        assert_eq!(primaries.len(), 5, "every node is a primary some time");
    }

    #[test]
    fn never_below_min_replicas() {
        assert_eq!(choose(&nodes(2), &Policy::cluster(), 1).map(|c| c.len()), Ok(2));
        let too_few = Err(FsError::TooFewNodes { available: 1, needed: 2 });
        assert_eq!(choose(&nodes(1), &Policy::cluster(), 1), too_few);
        let none = Err(FsError::TooFewNodes { available: 0, needed: 1 });
        assert_eq!(choose(&[], &Policy::single(), 1), none);
    }

    #[test]
    fn shunned_nodes_are_left_out_while_the_others_suffice() {
        let mut three = nodes(3);
        three[0].shunned = true;
        for seed in 0..50 {
            let chosen = choose(&three, &Policy::cluster(), seed).expect("two are left");
            assert_eq!(chosen.len(), 2);
            assert!(!chosen.contains(&NodeId(1)));
        }
        three[1].shunned = true;
        let chosen = choose(&three, &Policy::cluster(), 1).expect("a shunned one fills in");
        assert_eq!(chosen.len(), 2);
        assert_eq!(chosen[0], NodeId(3), "the primary is the one that is not shunned");
    }

    #[test]
    fn a_small_node_is_used_until_a_sixteenth_is_left() {
        let mut one = nodes(1);
        one[0].capacity_bytes = 64 << 20;
        one[0].free_bytes = 4 << 20;
        assert_eq!(choose(&one, &Policy::single(), 3), Ok(vec![NodeId(1)]));
        one[0].free_bytes -= 1;
        assert_eq!(choose(&one, &Policy::single(), 3), Err(FsError::NoSpace));
    }

    #[test]
    fn full_nodes_are_not_used_and_empty_ones_are_used_more() {
        let mut two = nodes(2);
        two[0].free_bytes = FREE_BYTES_MIN - 1;
        assert_eq!(choose(&two, &Policy::single(), 3), Ok(vec![NodeId(2)]));
        two[1].free_bytes = 0;
        assert_eq!(choose(&two, &Policy::single(), 3), Err(FsError::NoSpace));
        two[1].free_bytes = GIB;
        two[0].free_bytes = 10 * GIB;
        let first = (0..1000).filter(|s| choose(&two, &Policy::single(), *s) == Ok(vec![NodeId(1)])).count();
        assert!((850..970).contains(&first), "10 of 11 expected, got {first} of 1000");
    }
}
