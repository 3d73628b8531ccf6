//! Which nodes a new chunk is placed on. Pure: health and randomness come as arguments.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_types::{FsError, NodeId, Policy};

use super::domains::Domains;

/// A data node as placement sees it; only nodes that are alive, not retired and not draining are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Where it is.
    pub domains: Arc<Domains>,
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
/// No two at one address, nor at that of one that `has` a copy: one process is one failure. Zones where
/// there is none come first, then hosts; among equals nodes are drawn at random in proportion to their free
/// bytes. Shunned ones are taken only when the others are fewer than `min_replicas`, and then no more of
/// them than that needs. The same `seed` gives the same choice.
///
/// # Errors
/// [`FsError::TooFewNodes`] when even with them there are fewer than `min_replicas`;
/// [`FsError::NoSpace`] when there would be enough if they had room.
pub fn choose(
    candidates: &[Candidate],
    has: &[Arc<Domains>],
    policy: &Policy,
    seed: u64,
) -> Result<Vec<NodeId>, FsError> {
    let apart = candidates.iter().filter(|c| has.iter().all(|h| h.address != c.domains.address));
    let (roomy, full): (Vec<&Candidate>, Vec<&Candidate>) = apart.partition(|c| c.has_room());
    let min = usize::from(policy.min_replicas);
    let available = addresses(&roomy);
    if available < min {
        let all: Vec<&Candidate> = roomy.into_iter().chain(full).collect();
        if addresses(&all) >= min {
            return Err(FsError::NoSpace);
        }
        let available = u8::try_from(available).unwrap_or(u8::MAX);
        return Err(FsError::TooFewNodes { available, needed: policy.min_replicas });
    }
    let (shunned, good): (Vec<&Candidate>, Vec<&Candidate>) = roomy.into_iter().partition(|c| c.shunned);
    let mut draw = Draw { taken: has.to_vec(), chosen: Vec::new() };
    draw.take(good, usize::from(policy.replicas), seed);
    let lacking = min.saturating_sub(draw.chosen.len());
    draw.take(shunned, lacking, seed);
    Ok(draw.chosen)
}

/// How many copies of a chunk these nodes can have.
#[must_use]
pub fn addresses<'c>(candidates: impl IntoIterator<Item = &'c (impl Borrow<Candidate> + 'c)>) -> usize {
    let addresses = candidates.into_iter().map(|c| c.borrow().domains.address.as_str());
    addresses.collect::<BTreeSet<&str>>().len()
}

/// Of each of these nodes a number, the same for the disks of one process.
#[must_use]
pub fn processes(candidates: &[&Candidate]) -> Vec<u64> {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let mut numbers = Vec::new();
    for candidate in candidates {
        let next = seen.len() as u64;
        numbers.push(*seen.entry(candidate.domains.address.as_str()).or_insert(next));
    }
    numbers
}

/// A choice as far as it has come.
struct Draw {
    /// Where copies are by now.
    taken: Vec<Arc<Domains>>,
    chosen: Vec<NodeId>,
}

impl Draw {
    /// Draws up to `count` more without putting back, weighted by free bytes (Efraimidis-Spirakis keys),
    /// each from the domains that have the fewest.
    fn take(&mut self, candidates: Vec<&Candidate>, count: usize, seed: u64) {
        let mut left: Vec<(f64, &Candidate)> = candidates
            .into_iter()
            .map(|c| {
                // 53 random bits, never 0: ln stays finite.
                let unit = ((mix(seed ^ mix(c.node.0)) >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
                (-unit.ln() / c.free_bytes as f64, c)
            })
            .collect();
        left.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.node.cmp(&b.1.node)));
        for _ in 0..count {
            left.retain(|(_, c)| self.taken.iter().all(|t| t.address != c.domains.address));
            // The first of the least crowded: they stand in the order of their keys.
            let least = left.iter().enumerate().min_by_key(|(_, (_, c))| self.crowd(&c.domains));
            let Some((place, _)) = least else { return };
            let (_, next) = left.remove(place);
            self.taken.push(next.domains.clone());
            self.chosen.push(next.node);
        }
    }

    /// How crowded a node's domains are: whether its zone and its host have a copy, then how many.
    fn crowd(&self, at: &Domains) -> (bool, bool, usize, usize) {
        let zone = self.taken.iter().filter(|t| t.zone == at.zone).count();
        let host = self.taken.iter().filter(|t| t.zone == at.zone && t.host == at.host).count();
        (zone > 0, host > 0, zone, host)
    }
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
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn nodes(n: u64) -> Vec<Candidate> {
        (1..=n).map(|i| node(i, "", "", i)).collect()
    }

    fn node(node: u64, zone: &str, host: &str, address: u64) -> Candidate {
        let (zone, host) = (zone.to_owned(), host.to_owned());
        let domains = Arc::new(Domains { zone, host, address: format!("h:{address}") });
        let node = NodeId(node);
        Candidate { node, domains, capacity_bytes: 16 * GIB, free_bytes: GIB, shunned: false }
    }

    fn choose_fresh(candidates: &[Candidate], policy: &Policy, seed: u64) -> Result<Vec<NodeId>, FsError> {
        choose(candidates, &[], policy, seed)
    }

    #[test]
    fn as_many_as_the_policy_wants_and_never_twice() {
        for seed in 0..200 {
            let mut chosen =
                choose_fresh(&nodes(5), &Policy::cluster(), seed).expect("five nodes are enough");
            assert_eq!(chosen.len(), 3);
            chosen.sort_unstable();
            chosen.dedup();
            assert_eq!(chosen.len(), 3);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_choice_and_seeds_spread() {
        let of = |seed| choose_fresh(&nodes(5), &Policy::cluster(), seed);
        assert_eq!(of(7), of(7));
        let mut primaries: Vec<_> = (0..100).filter_map(|s| of(s).ok()).map(|c| c[0]).collect();
        primaries.sort_unstable();
        primaries.dedup();
        assert_eq!(primaries.len(), 5, "every node is a primary some time");
    }

    #[test]
    fn never_below_min_replicas() {
        assert_eq!(choose_fresh(&nodes(2), &Policy::cluster(), 1).map(|c| c.len()), Ok(2));
        let too_few = Err(FsError::TooFewNodes { available: 1, needed: 2 });
        assert_eq!(choose_fresh(&nodes(1), &Policy::cluster(), 1), too_few);
        let none = Err(FsError::TooFewNodes { available: 0, needed: 1 });
        assert_eq!(choose_fresh(&[], &Policy::single(), 1), none);
    }

    #[test]
    fn shunned_nodes_are_left_out_while_the_others_suffice() {
        let mut three = nodes(3);
        three[0].shunned = true;
        for seed in 0..50 {
            let chosen = choose_fresh(&three, &Policy::cluster(), seed).expect("two are left");
            assert_eq!(chosen.len(), 2);
            assert!(!chosen.contains(&NodeId(1)));
        }
        three[1].shunned = true;
        let chosen = choose_fresh(&three, &Policy::cluster(), 1).expect("a shunned one fills in");
        assert_eq!(chosen.len(), 2);
        assert_eq!(chosen[0], NodeId(3), "the primary is the one that is not shunned");
    }

    #[test]
    fn a_small_node_is_used_until_a_sixteenth_is_left() {
        let mut one = nodes(1);
        one[0].capacity_bytes = 64 << 20;
        one[0].free_bytes = 4 << 20;
        assert_eq!(choose_fresh(&one, &Policy::single(), 3), Ok(vec![NodeId(1)]));
        one[0].free_bytes -= 1;
        assert_eq!(choose_fresh(&one, &Policy::single(), 3), Err(FsError::NoSpace));
    }

    #[test]
    fn full_nodes_are_not_used_and_empty_ones_are_used_more() {
        let mut two = nodes(2);
        two[0].free_bytes = FREE_BYTES_MIN - 1;
        assert_eq!(choose_fresh(&two, &Policy::single(), 3), Ok(vec![NodeId(2)]));
        two[1].free_bytes = 0;
        assert_eq!(choose_fresh(&two, &Policy::single(), 3), Err(FsError::NoSpace));
        two[1].free_bytes = GIB;
        two[0].free_bytes = 10 * GIB;
        let first =
            (0..1000).filter(|s| choose_fresh(&two, &Policy::single(), *s) == Ok(vec![NodeId(1)])).count();
        assert!((850..970).contains(&first), "10 of 11 expected, got {first} of 1000");
    }

    #[test]
    fn two_disks_of_one_process_never_have_the_same_chunk() {
        let disks = [node(1, "", "", 1), node(2, "", "", 1), node(3, "", "", 1), node(4, "", "", 2)];
        for seed in 0..50 {
            let chosen = choose_fresh(&disks, &Policy::cluster(), seed).expect("two processes");
            assert_eq!(chosen.len(), 2);
            assert!(chosen.contains(&NodeId(4)), "{chosen:?}");
        }
        let one = Err(FsError::TooFewNodes { available: 1, needed: 2 });
        assert_eq!(choose_fresh(&disks[..3], &Policy::cluster(), 1), one);
        assert_eq!(processes(&disks.iter().collect::<Vec<_>>()), [0, 0, 0, 1]);
        let has = [disks[0].domains.clone()];
        assert_eq!(
            choose(&disks, &has, &Policy::single(), 1),
            Ok(vec![NodeId(4)]),
            "a copy is there already"
        );
    }

    #[test]
    fn a_further_copy_goes_where_none_is() {
        let all = [node(1, "a", "1", 1), node(2, "a", "2", 2), node(3, "b", "3", 3), node(4, "b", "4", 4)];
        for seed in 0..20 {
            let has = [all[0].domains.clone()];
            let chosen = choose(&all[1..], &has, &Policy::single(), seed).expect("one");
            assert!(chosen[0] != NodeId(2), "the other zone");
        }
        let one_zone = [node(1, "a", "1", 1), node(2, "a", "1", 2), node(3, "a", "2", 3)];
        for seed in 0..20 {
            let has = [one_zone[0].domains.clone()];
            assert_eq!(choose(&one_zone, &has, &Policy::single(), seed), Ok(vec![NodeId(3)]), "another host");
        }
    }

    /// A random cluster: zones, hosts in them, addresses on those, disks at those.
    fn cluster() -> impl Strategy<Value = Vec<Candidate>> {
        let disk = (0u64..4, 0u64..3, 0u64..3, 1u64..8, any::<bool>(), 0u8..6);
        proptest::collection::vec(disk, 1..14).prop_map(|disks| {
            let disks = disks.into_iter().zip(1..);
            let candidate =
                |((zone, host, port, gib, bare, shunned), id): ((_, u64, u64, u64, bool, u8), u64)| {
                    let zone: u64 = zone;
                    let address = zone * 100 + host * 10 + port;
                    let named = if bare && zone == 0 { String::new() } else { format!("z{zone}") };
                    // Without a zone of its own: another address, so that no process is in two zones.
                    let address = if named.is_empty() { address + 1000 } else { address };
                    let mut found = node(id, &named, &format!("h{zone}-{host}"), address);
                    found.free_bytes = gib * GIB;
                    found.shunned = shunned == 0;
                    found
                };
            disks.map(candidate).collect()
        })
    }

    fn distinct<'c>(of: impl Iterator<Item = &'c Candidate>, part: impl Fn(&Domains) -> String) -> usize {
        of.map(|c| part(&c.domains)).collect::<BTreeSet<String>>().len()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Of all choices this one has the most zones, and of those the most hosts, and is never at one
        /// address twice; it is as long as it can be.
        #[test]
        fn copies_are_as_far_apart_as_the_cluster_allows(
            all in cluster(), replicas in 1u8..5, min in 1u8..4, seed: u64,
        ) {
            let policy = Policy { replicas: replicas.max(min), min_replicas: min, ..Policy::cluster() };
            let places = distinct(all.iter(), |d| d.address.clone());
            let chosen = choose_fresh(&all, &policy, seed);
            if places < usize::from(min) {
                let available = u8::try_from(places).unwrap_or(u8::MAX);
                prop_assert_eq!(chosen, Err(FsError::TooFewNodes { available, needed: min }));
                return Ok(());
            }
            let chosen = chosen.expect("enough");
            let picked: Vec<&Candidate> =
                chosen.iter().filter_map(|n| all.iter().find(|c| c.node == *n)).collect();
            prop_assert_eq!(picked.len(), chosen.len());
            prop_assert_eq!(distinct(picked.iter().copied(), |d| d.address.clone()), chosen.len());
            let good = || all.iter().filter(|c| !c.shunned);
            let good_places = distinct(good(), |d| d.address.clone());
            let wanted = good_places.min(usize::from(policy.replicas));
            prop_assert!(chosen.len() == wanted.max(usize::from(min)), "{} of {}", chosen.len(), wanted);
            let by_choice = || picked.iter().copied().filter(|c| !c.shunned);
            prop_assert_eq!(by_choice().count(), wanted, "shunned ones only fill in");
            let zones = distinct(good(), |d| d.zone.clone()).min(wanted);
            prop_assert_eq!(distinct(by_choice(), |d| d.zone.clone()), zones);
            let hosts = distinct(good(), |d| format!("{} {}", d.zone, d.host)).min(wanted);
            prop_assert_eq!(distinct(by_choice(), |d| format!("{} {}", d.zone, d.host)), hosts);
        }
    }

    #[test]
    fn free_bytes_weigh_and_the_primary_rotates_within_the_zones() {
        // Three zones of two nodes, of which one has three times the room of the other.
        let mut six: Vec<Candidate> = Vec::new();
        for (zone, id) in [("a", 1), ("b", 3), ("c", 5)] {
            six.push(node(id, zone, "x", id));
            six.push(node(id + 1, zone, "y", id + 1));
        }
        six.iter_mut().filter(|c| c.node.0 % 2 == 0).for_each(|c| c.free_bytes = 3 * GIB);
        let (mut large, mut primaries) = (0, [0; 7]);
        for seed in 0..2000 {
            let chosen = choose_fresh(&six, &Policy::cluster(), seed).expect("enough");
            assert_eq!(chosen.len(), 3);
            large += chosen.iter().filter(|n| n.0 % 2 == 0).count();
            primaries[usize::try_from(chosen[0].0).expect("small")] += 1;
        }
        assert!((4300..4700).contains(&large), "three quarters of 6000 expected, got {large}");
        for (node, times) in primaries.iter().enumerate().skip(1) {
            let expected = if node % 2 == 0 { 500 } else { 167 };
            assert!((expected / 2..expected * 2).contains(times), "node {node}: {times} of 2000");
        }
    }
}
