//! Which sealed chunks go up together, and from which node. Pure.

use std::collections::BTreeMap;

use cairn_types::{ChunkId, NodeId};

/// Bytes in a pack, at most.
pub const PACK_BYTES_MAX: u64 = 64 << 20;
/// Chunks in a pack, at most: one entry records them all.
pub const PACK_CHUNKS_MAX: usize = 512;

/// A sealed chunk that is not in S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ripe {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its decided length.
    pub length: u64,
    /// Age of its oldest byte in milliseconds.
    pub age_ms: u64,
    /// The lag that its policy allows, in milliseconds.
    pub max_lag_ms: u64,
    /// True when someone waits for it (`persist=sync`, `sync`): it goes at once.
    pub urgent: bool,
    /// Nodes that hold it.
    pub holders: Vec<NodeId>,
}

impl Ripe {
    /// True when it should wait for company no longer.
    fn is_due(&self) -> bool {
        self.urgent || self.age_ms >= self.max_lag_ms / 4
    }
}

/// Chunks that one node shall upload as one pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    /// The uploader: it holds them all.
    pub node: NodeId,
    /// The chunks, oldest first.
    pub chunks: Vec<ChunkId>,
    /// Their bytes together.
    pub bytes: u64,
}

struct Bin {
    pack: Pack,
    due: bool,
}

/// Groups `ripe`, oldest first, into packs of chunks that one live node holds all of.
///
/// `slots` names the live nodes and how many more packs each may take. A pack goes when it is
/// full or one of its chunks is due; the others wait for company.
#[must_use]
pub fn group(ripe: &[Ripe], slots: &BTreeMap<NodeId, usize>) -> Vec<Pack> {
    let mut left = slots.clone();
    let mut open: Vec<Bin> = Vec::new();
    let mut full: Vec<Pack> = Vec::new();
    for chunk in ripe.iter().filter(|r| r.length > 0) {
        let fits = |b: &&mut Bin| {
            chunk.holders.contains(&b.pack.node) && b.pack.bytes + chunk.length <= PACK_BYTES_MAX
        };
        // The fullest that fits, so that packs fill up instead of many growing at once.
        let bin = match open.iter_mut().filter(fits).max_by_key(|b| b.pack.bytes) {
            Some(bin) => bin,
            None => {
                let Some(node) = roomiest(&chunk.holders, &left) else { continue };
                left.entry(node).and_modify(|n| *n -= 1);
                let pack = Pack { node, chunks: Vec::new(), bytes: 0 };
                open.push(Bin { pack, due: false });
                let Some(bin) = open.last_mut() else { continue };
                bin
            }
        };
        bin.pack.chunks.push(chunk.chunk);
        bin.pack.bytes += chunk.length;
        bin.due |= chunk.is_due();
        let is_full = |b: &mut Bin| {
            // Nearly full: what is left would seldom fit.
            b.pack.bytes >= PACK_BYTES_MAX - PACK_BYTES_MAX / 8 || b.pack.chunks.len() >= PACK_CHUNKS_MAX
        };
        full.extend(open.extract_if(.., is_full).map(|b| b.pack));
    }
    full.extend(open.into_iter().filter(|b| b.due).map(|b| b.pack));
    full
}

/// The holder with the most slots left, the smallest id among equals.
fn roomiest(holders: &[NodeId], left: &BTreeMap<NodeId, usize>) -> Option<NodeId> {
    holders
        .iter()
        .filter_map(|h| left.get(h).map(|n| (*n, std::cmp::Reverse(*h))))
        .filter(|(n, _)| *n > 0)
        .max()
        .map(|(_, node)| node.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn ripe(chunk: u64, length: u64, age_ms: u64, holders: &[u64]) -> Ripe {
        Ripe {
            chunk: ChunkId(chunk),
            length,
            age_ms,
            max_lag_ms: 30_000,
            urgent: false,
            holders: holders.iter().map(|n| NodeId(*n)).collect(),
        }
    }

    fn slots(nodes: &[u64]) -> BTreeMap<NodeId, usize> {
        nodes.iter().map(|n| (NodeId(*n), 4)).collect()
    }

    #[test]
    fn a_thousand_slow_logs_are_two_packs_not_a_thousand() {
        let logs: Vec<Ripe> = (0..1000).map(|i| ripe(i, 4096, 8_000, &[1, 2, 3])).collect();
        let packs = group(&logs, &slots(&[1, 2, 3]));
        assert_eq!(packs.iter().map(|p| p.chunks.len()).collect::<Vec<_>>(), [512, 488]);
    }

    #[test]
    fn young_small_chunks_wait_for_company_and_an_urgent_one_does_not() {
        let mut young = vec![ripe(1, MIB, 100, &[1]), ripe(2, MIB, 100, &[1])];
        assert!(group(&young, &slots(&[1])).is_empty());
        young[1].urgent = true;
        let packs = group(&young, &slots(&[1]));
        assert_eq!(packs[0].chunks, [ChunkId(1), ChunkId(2)], "the one beside it goes along");
        let old = [ripe(1, MIB, 7_500, &[1])];
        assert_eq!(group(&old, &slots(&[1])).len(), 1);
    }

    #[test]
    fn a_chunk_waits_for_company_until_a_quarter_of_its_lag_is_over() {
        assert!(group(&[ripe(1, MIB, 7_499, &[1])], &slots(&[1])).is_empty());
        let packs = group(&[ripe(1, MIB, 7_500, &[1])], &slots(&[1]));
        assert_eq!(packs[0].chunks, [ChunkId(1)]);
    }

    #[test]
    fn full_chunks_go_at_once_and_no_pack_is_too_large() {
        let chunks: Vec<Ripe> = (0..4).map(|i| ripe(i, 64 * MIB, 0, &[1, 2])).collect();
        let packs = group(&chunks, &slots(&[1, 2]));
        assert_eq!(packs.len(), 4);
        assert!(packs.iter().all(|p| p.bytes <= PACK_BYTES_MAX));
        let on_one = packs.iter().filter(|p| p.node == NodeId(1)).count();
        assert_eq!(on_one, 2, "the work is shared");
    }

    #[test]
    fn only_live_holders_upload_and_only_what_they_hold() {
        let chunks = [ripe(1, MIB, 9_000, &[1, 2]), ripe(2, MIB, 9_000, &[3]), ripe(3, MIB, 9_000, &[4])];
        let packs = group(&chunks, &slots(&[2, 3]));
        let of: Vec<_> = packs.iter().map(|p| (p.node, p.chunks.clone())).collect();
        assert_eq!(of, [(NodeId(2), vec![ChunkId(1)]), (NodeId(3), vec![ChunkId(2)])]);
    }

    #[test]
    fn a_node_gets_no_more_packs_than_it_has_slots() {
        let chunks: Vec<Ripe> = (0..9).map(|i| ripe(i, 64 * MIB, 0, &[1])).collect();
        assert_eq!(group(&chunks, &slots(&[1])).len(), 4);
        assert!(group(&chunks, &BTreeMap::from([(NodeId(1), 0)])).is_empty());
    }

    #[test]
    fn empty_chunks_are_never_packed() {
        assert!(group(&[ripe(1, 0, 99_000, &[1])], &slots(&[1])).is_empty());
    }
}
